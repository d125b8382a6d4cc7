"""Applying a transform: a frame's pixels resampled onto the reference, its mask, coverage and noise with it.

Between frames of a night a transform is nearly a shift whose fraction of a pixel changes slowly. Each output
row is therefore cut into runs over which the *whole* part of the shift is constant: within a run the same few
input rows and columns are needed everywhere, so that a separable kernel with its own exact weights at each pixel
vectorises. Half turns and mirror images are turned first. What rotates by more than a few degrees or has another
scale, and the pixels at a frame's edge, are taken one by one, each by its own footprint: the same weights.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from difflapse.align._resample import (
    MOST_LOST,
    SPACING,
    mark,
    multiply,
    resample,
    slopes_of,
    squares,
)
from difflapse.align.kernels import Kernel, kernel_of
from difflapse.model import ProductGrid, Transform, bits
from difflapse.mosaic import Site, native_order, split

_TILT = 0.125
"""Samples by which the phase may run away from a run's own over half a kernel."""
_SQUARE = 0.004
"""Tilt and change of scale up to which overlapping areas are those of upright unit squares, to half of this."""
_SHRINKING = 1.1
"""Samples to an output pixel beyond which kernels are stretched, so that nothing is left out."""
_WIDE = bits.SATURATED | bits.BLANK
"""Bits of regions rather than single pixels: they mask all that takes from them."""
_FILLED = 0.25
"""What a pixel may take, along either axis, from a single bad pixel that was filled from its neighbours."""
_BINS = 256
_FEW = 256
"""Nodes of the inverse map up to which all of them are exact."""
_LARGEST = 64
"""Samples across the largest footprint; a frame of which more go to one output pixel is not of use."""


@dataclass(frozen=True, eq=False)
class Warped:
    """A frame on the product grid."""

    data: np.ndarray
    """(c, ny, nx) float32; 0 where there is nothing."""
    mask: np.ndarray
    """(ny, nx) uint8, the bits of `difflapse.model.bits`; 0 = good."""
    coverage: np.ndarray
    """(ny, nx) float32, 0..1: share of the pixel that comes from good pixels inside the frame."""
    variance_factor: np.ndarray
    """(c, my, mx) float32: sum of squared weights, on a coarse mesh over the product grid (edge to edge). The
    variance of an output pixel is this times the variance of a native pixel of its colour."""
    correlation: np.ndarray
    """(c,) float64: the standard deviation of the sum of many output pixels is this times what it would be were
    they independent (NOISECOR), the mean of the field."""
    area: np.ndarray
    """(my, mx) float32: input samples (native pixels, or cells of a mosaic) to an output pixel, on the same mesh."""
    keeps_flux: bool = False
    """What was kept: the sum of the light (each pixel holds `area` times the brightness), or the brightness."""

    @property
    def level(self) -> float:
        """What a flat image of ones became, the mean of the field."""
        return float(np.mean(self.area)) if self.keeps_flux else 1.0


@dataclass(frozen=True, eq=False)
class BadPixels:
    """A list of bad native pixels of one frame and the mask bit of each."""

    x: np.ndarray
    y: np.ndarray
    bit: np.ndarray


@dataclass(frozen=True, eq=False)
class Unsplit:
    """A frame whose planes are sampled where they lie among its pixels, unless the map asks for more than that."""

    data: np.ndarray
    """(ny, nx): native pixels, bad ones already filled; uint16, int16 or float32."""
    pattern: str
    """The mosaic in array order; empty for monochrome."""
    bias: float = 0.0
    """Level to subtract."""
    room: np.ndarray | None = None
    """Buffer for the planes, where they are needed; see `difflapse.mosaic.split`."""


def warp(
    planes: np.ndarray | Unsplit,
    sites: Sequence[Site],
    transform: Transform,
    grid: ProductGrid,
    bad: BadPixels | None = None,
    kernel: str = "cubic",
    out: np.ndarray | None = None,
) -> Warped:
    """Resample a frame's planes onto a product grid.

    Not for finding the transform, nor for numbers: fluxes are measured on unresampled pixels.

    Parameters
    ----------
    planes : ndarray, shape (s, my, mx), float32, or Unsplit
        The planes of the mosaic's sites as `difflapse.mosaic.split` gives them, bad pixels already filled, or the
        frame that they are of: the same values at less cost. Sampled each at its own sites' phase.
    sites : sequence of Site
        Place and channel of each plane.
    transform : Transform
        Native pixels of the frame to native pixels of the reference.
    grid : ProductGrid
        Where the output pixels lie on the reference.
    bad : BadPixels, optional
        Pixels of the frame and their bits. An output pixel gets the bit of one from which it takes, along both
        axes, more than 7.5 % of the kernel's peak, if that is of a region (saturated, blank), or more than 25 %,
        if it is a single defect, filled from its neighbours.
    kernel : str
        One of `difflapse.align.kernels.KERNELS`. All but ``area`` keep the brightness: a flat image stays as it
        is, and a star's sum grows with the number of output pixels to an input pixel. ``area`` keeps the flux:
        each output pixel takes the input pixels by the area that it shares with them, so that a star's sum stays
        and a flat image changes by `Warped.area`.
    out : ndarray, shape (c, ny, nx), float32, optional
        Buffer to write into.

    Returns
    -------
    Warped

    Raises
    ------
    ValueError
        An unknown kernel.

    Notes
    -----
    Where an output pixel spans more than 1.1 input samples anywhere (a frame of finer scale than the reference),
    interpolating kernels are stretched to the output pixel, along each axis of the frame: each sample counts, as
    with ``area``, none is left out and nothing aliases. Where it spans fewer they interpolate as ever; ``area``
    then shows the input's pixels as tiles. On nearly pure shifts (to 0.004 in rotation and scale) ``area`` takes
    upright unit squares for the output pixels, times their area, so that weights are wrong by 0.002 at most;
    otherwise quadrilaterals that tile the frame exactly, at many times the cost.

    A pixel is outside where its centre lies beyond the outermost samples, or where more than 7.5 % of its weight
    along an axis lies there; what it lacks of less is made up for by the rest. A value that is not finite leaves a
    hole of the kernel's support, masked as blank.

    References
    ----------
    Keys 1981, IEEE Trans. ASSP 29, 1153, doi:10.1109/TASSP.1981.1163711 (cubic); for the others see
    `difflapse.align.kernels.kernel_of`.
    """
    chosen, field, data, mask, coverage = _resampled(planes, sites, transform, grid, bad, kernel, out)
    step = 2 if len(sites) == 4 else 1
    offsets, channel, share, _ = _of_sites(sites)
    gi, gj = _mesh(grid.shape[1]), _mesh(grid.shape[0])
    factor = np.empty((len(data), len(gj), len(gi)), np.float32)
    where = (field.px, field.py, field.width, chosen.even, chosen.odd)
    squares(
        offsets,
        channel,
        share,
        step,
        *where,
        field.quads,
        field.size,
        gi,
        gj,
        field.around(gi),
        grid.shape,
        factor,
    )
    area = field.area_at(gi, gj)
    if chosen.keeps_flux and not field.quads:
        factor *= area**2
    known = np.isfinite(factor)
    if not known.all():
        factor[~known] = factor[known].mean() if known.any() else 1.0
    # Each input sample gives all its light, or its part of the brightness, to the sum of many output pixels.
    spread = area if chosen.keeps_flux else 1 / np.maximum(area, 1e-3)
    correlation = np.sqrt(np.bincount(channel, share**2) * spread.mean() / factor.mean(axis=(1, 2)))
    return Warped(data, mask, coverage, factor, correlation, area, chosen.keeps_flux)


def warp_light(
    planes: np.ndarray | Unsplit,
    sites: Sequence[Site],
    transform: Transform,
    grid: ProductGrid,
    bad: BadPixels | None = None,
    kernel: str = "cubic",
) -> tuple[np.ndarray, np.ndarray, float]:
    """The data and mask of `warp`, and its level, without what tells their noise: for windows that are but looked at.

    Parameters and errors are those of `warp`.

    Returns
    -------
    data : (c, ny, nx) float32
    mask : (ny, nx) uint8
    level : float
        What a flat image of ones became.
    """
    chosen, field, data, mask, _ = _resampled(planes, sites, transform, grid, bad, kernel, None)
    if not chosen.keeps_flux:
        return data, mask, 1.0
    return data, mask, float(np.mean(field.area_at(_mesh(grid.shape[1]), _mesh(grid.shape[0]))))


def _of_sites(sites: Sequence[Site]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each site its place (x, y), its channel, its share of that, and whether it is the first of it."""
    channels = [site.channel for site in sites]
    return (
        np.array([(site.x, site.y) for site in sites], float),
        np.array(channels),
        np.array([site.weight for site in sites]),
        np.array([channels.index(c) == k for k, c in enumerate(channels)]),
    )


def _resampled(
    planes: np.ndarray | Unsplit,
    sites: Sequence[Site],
    transform: Transform,
    grid: ProductGrid,
    bad: BadPixels | None,
    kernel: str,
    out: np.ndarray | None,
) -> tuple[Kernel, _Field, np.ndarray, np.ndarray, np.ndarray]:
    """The kernel, the inverse map, and the data, mask and coverage that `warp` describes."""
    chosen = kernel_of(kernel)
    step = 2 if len(sites) == 4 else 1
    offsets, channel, share, first = _of_sites(sites)
    data = np.empty((int(channel.max()) + 1, *grid.shape), np.float32) if out is None else out
    coverage, outside = np.empty(grid.shape, np.float32), np.zeros(grid.shape, bool)

    inverse = _InverseMap(transform, grid)
    signs = inverse.signs(step, _SQUARE if chosen.keeps_flux else _TILT / chosen.half)
    field = _Field.of(inverse, step, chosen, signs is not None)
    px, py = field.px, field.py
    turned = offsets.copy()
    views, native, bias = _views(planes, step, signs)
    if signs is not None:
        # native' = last - native; each plane keeps its own phase in the turned coordinates.
        my, mx = views[0].shape
        if signs[0] < 0:
            turned[:, 0], px = step - 1 - offsets[:, 0], step * mx - 1 - px
        if signs[1] < 0:
            turned[:, 1], py = step - 1 - offsets[:, 1], step * my - 1 - py
    where = (px, py, field.width, chosen.even, chosen.odd)
    broken = resample(
        views, native, signs or (1.0, 1.0), bias, turned, channel, share.astype(np.float32), first, step, *where,
        signs is not None, field.quads, field.size, data, coverage, outside,
    )  # fmt: skip
    if chosen.keeps_flux and not field.quads:
        multiply(data, field.area)
    mask = outside.view(np.uint8)
    mask *= np.uint8(bits.OUTSIDE)
    if broken:
        mask[coverage < 0] = bits.BLANK
        np.maximum(coverage, 0, out=coverage)
    if bad is not None and len(bad.x):
        i, j = grid.from_native(*transform(bad.x, bad.y))
        strength = _strength(chosen.name)
        single = (bad.bit & np.uint8(_WIDE)) == 0
        mark(
            np.ascontiguousarray(i),
            np.ascontiguousarray(j),
            bad.bit,
            single,
            field.slopes,
            field.mark_width,
            field.radius(len(strength) / _BINS),
            strength,
            _BINS,
            np.float32(1 / len(sites)),
            mask,
            coverage,
        )
    return chosen, field, data, mask, coverage


def _views(
    planes: np.ndarray | Unsplit, step: int, signs: tuple[float, float] | None
) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.float32]:
    """The planes, the pixels that they are views of where the map is nearly a shift, and what is to be taken off."""
    if signs is None:
        if isinstance(planes, Unsplit):
            planes = split(planes.data, planes.pattern, planes.bias, planes.room)
        return tuple(planes), planes[0], np.float32(0)
    if isinstance(planes, Unsplit):
        native, bias = native_order(planes.data), np.float32(planes.bias)
    else:
        native, bias = planes[0], np.float32(0)
        if step == 2:
            native = np.empty((2 * planes.shape[1], 2 * planes.shape[2]), np.float32)
            for s, plane in enumerate(planes):
                native[s // 2 :: 2, s % 2 :: 2] = plane
    my, mx = (n // step for n in native.shape)
    turn = np.s_[:: int(signs[1]), :: int(signs[0])]
    views = tuple(native[y::step, x::step][:my, :mx][turn] for y in range(step) for x in range(step))
    return views, native, bias


class _InverseMap:
    """The inverse transform at the nodes of a grid of product pixels: from a coarse spline of exact ones, but for
    windows, which have few.
    """

    def __init__(self, transform: Transform, grid: ProductGrid) -> None:
        self.transform, self.grid = transform, grid
        ny, nx = grid.shape
        self.nodes = [np.arange(0, n + SPACING, SPACING, dtype=float) for n in (nx, ny)]
        self.few = len(self.nodes[0]) * len(self.nodes[1]) <= _FEW
        if self.few:
            self.i, self.j = self.nodes
        else:
            self.i = np.linspace(-8, nx + 24, int(np.clip(nx * grid.step / 200, 8, 40)))
            self.j = np.linspace(-8, ny + 24, int(np.clip(ny * grid.step / 200, 8, 40)))
        self.x, self.y = self._exact(self.i, self.j)
        self.smooth = bool(np.isfinite(self.x).all() and np.isfinite(self.y).all())
        if self.smooth and not self.few:
            from scipy.interpolate import RectBivariateSpline  # slow to load, and only workers resample

            self.splines = (
                RectBivariateSpline(self.j, self.i, self.x),
                RectBivariateSpline(self.j, self.i, self.y),
            )

    def at_nodes(self) -> tuple[np.ndarray, np.ndarray]:
        """Native (x, y) of the frame at every 16th product pixel; shape (my, mx)."""
        i, j = self.nodes
        if self.few:
            return self.x, self.y
        if not self.smooth:
            return self._exact(i, j)
        return self.splines[0](j, i), self.splines[1](j, i)

    def _exact(self, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gi, gj = np.meshgrid(i, j)
        return self.transform.inverse(*self.grid.to_native(gi, gj))

    def signs(self, step: int, most: float) -> tuple[float, float] | None:
        """Signs of the axes where the map is a shift, a half turn or a mirror image, up to tilts and changes of
        scale of `most`; None elsewhere.
        """
        if not self.smooth or self.grid.step != step:
            return None
        di, dj = np.diff(self.i) * step, np.diff(self.j) * step
        xi, yi = np.diff(self.x, axis=1) / di, np.diff(self.y, axis=1) / di
        xj, yj = np.diff(self.x, axis=0) / dj[:, None], np.diff(self.y, axis=0) / dj[:, None]
        sx, sy = float(np.sign(xi.mean())), float(np.sign(yj.mean()))
        along = max(np.abs(xi - sx).max(), np.abs(yi).max())
        across = max(np.abs(yj - sy).max(), np.abs(xj).max())
        return (sx, sy) if sx and sy and max(along, across) < most else None


@dataclass(frozen=True, eq=False)
class _Field:
    """The inverse map at its nodes, and what its slopes ask of the kernel there."""

    px: np.ndarray
    """(my, mx) float64: native x of the frame at every 16th product pixel; rounded, so that shifts by whole pixels
    are exact copies whatever the spline's last digits."""
    py: np.ndarray
    slopes: np.ndarray
    """(4, my, mx) float64: samples to a product pixel, x along i, x along j, y along i, y along j."""
    width: np.ndarray
    """(2, my, mx) float64: to how many samples the kernel is stretched along x and y; 1 where it is not."""
    mark_width: np.ndarray
    """The same for what is marked about a bad pixel."""
    quads: bool
    """Whether footprints are quadrilaterals."""
    size: int
    """Samples across the largest footprint."""

    @classmethod
    def of(cls, inverse: _InverseMap, step: int, kernel: Kernel, runs: bool) -> _Field:
        px, py = (np.round(p, 7) for p in inverse.at_nodes())
        slopes = slopes_of(px, py, float(SPACING * step))
        width = np.ones((2, *px.shape))
        if runs:
            return cls(px, py, slopes, width, width, False, 2 * kernel.half)
        spans = np.hypot(slopes[0::2], slopes[1::2])
        if kernel.keeps_flux:
            most = (np.abs(slopes[0::2]) + np.abs(slopes[1::2])).max()
            # The triangle that is as high where a pixel shares a quarter of what it can.
            marked = np.minimum(
                (0.5 * (1 + spans) - _FILLED * np.minimum(spans, 1)) / (1 - _FILLED), _LARGEST
            )
            return cls(px, py, slopes, width, marked, True, int(min(most, _LARGEST)) + 4)
        if spans.max() > _SHRINKING:
            width = np.clip(spans, 1.0, _LARGEST / (2 * kernel.half))
        return cls(px, py, slopes, width, width, False, int(2 * kernel.half * width.max()) + 2)

    @property
    def area(self) -> np.ndarray:
        """(my, mx) float32: samples to a product pixel."""
        return np.abs(self.slopes[0] * self.slopes[3] - self.slopes[1] * self.slopes[2]).astype(np.float32)

    def area_at(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """The same at all columns `i` of all rows `j`."""
        area = self.area
        a = np.minimum((j / SPACING).astype(int), len(area) - 2)
        k = np.minimum((i / SPACING).astype(int), area.shape[1] - 2)
        f, t = (j / SPACING - a)[:, None], i / SPACING - k
        low, high = (area[r][:, k] * (1 - t) + area[r][:, k + 1] * t for r in (a, a + 1))
        return np.asarray(low * (1 - f) + high * f, np.float32)

    def radius(self, reach: float) -> np.ndarray:
        """(my, mx): product pixels within which anything lies less than `reach` kernel widths away on both axes."""
        xi, xj, yi, yj = np.abs(self.slopes)
        most = reach * self.mark_width.max(axis=0) * np.maximum(yj + xj, yi + xi)
        return np.asarray(np.minimum(most / np.maximum(self.area, 1e-6), _LARGEST))

    def around(self, i: np.ndarray) -> np.ndarray:
        """Product pixels about the nodes of a mesh over which the phase has to be averaged."""
        turn = float(np.abs(self.slopes - np.round(self.slopes)).max() * np.diff(i).max())
        if turn < 0.2:
            return np.zeros(1)
        # Side by side where phases may repeat after a few pixels.
        return np.array([-12.0, -4, 4, 12]) if turn < 4 else np.arange(-4.0, 4.0)


def _mesh(n: int) -> np.ndarray:
    """Nodes of the mesh of variances; whole product pixels, for the phases in between do not occur."""
    return np.asarray(np.round(np.linspace(0, n - 1, max(2, n // 32 + 1))))


@functools.cache
def _strength(name: str) -> np.ndarray:
    """How much a kernel takes, by distance along one axis in bins: 2 from a filled pixel, 1 from a region, 0."""
    kernel = kernel_of(name)
    peak = np.abs(kernel.profile((np.arange(kernel.half * _BINS) + 0.5) / _BINS))
    strength = (peak > _FILLED).astype(np.uint8) + (peak > MOST_LOST).astype(np.uint8)
    return strength[: max(_BINS, int(np.flatnonzero(strength)[-1]) + 1)]

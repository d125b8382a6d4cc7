"""Applying a transform: a frame's pixels resampled onto the reference, its mask and coverage with it.

Between frames of a night a transform is nearly a shift whose fraction of a pixel changes slowly. Each output
row is therefore cut into runs over which the *whole* part of the shift is constant: within a run the same few
input rows and columns are needed everywhere, so that a separable cubic with its own exact weights at each pixel
vectorises. Half turns and mirror images are turned first; what rotates by more than a few degrees, or has
another scale, takes the general way, pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from scipy.interpolate import RectBivariateSpline

from difflapse.model import ProductGrid, Transform, bits
from difflapse.mosaic import Site

_TAPS = {"linear": 2, "cubic": 4}
KERNELS = tuple(_TAPS)
_SPACING = 16
"""Product pixels between the nodes of the inverse map; in between it is taken for linear, good to 1e-4 px."""
_SHORTEST_RUN = 8
_EDGE = 1e-5
"""Samples by which a position may lie outside for want of digits."""
_WIDE = bits.SATURATED | bits.BLANK
"""Bits of regions rather than single pixels: they mask all that takes from them."""


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


@dataclass(frozen=True, eq=False)
class BadPixels:
    """A list of bad native pixels of one frame and the mask bit of each."""

    x: np.ndarray
    y: np.ndarray
    bit: np.ndarray


def warp(
    planes: np.ndarray,
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
    planes : ndarray, shape (s, my, mx), float32
        The planes of the mosaic's sites as `difflapse.mosaic.split` gives them, bad pixels already filled.
        Sampled each at its own sites' phase.
    sites : sequence of Site
        Place and channel of each plane.
    transform : Transform
        Native pixels of the frame to native pixels of the reference.
    grid : ProductGrid
        Where the output pixels lie on the reference.
    bad : BadPixels, optional
        Pixels of the frame and their bits. An output pixel gets the bit of one that lies within 1 sample of it
        on both axes, if that is of a region (saturated, blank), or within 0.75 samples, if it is a single
        defect, filled from its neighbours; a sample is an output pixel, or more where the transform enlarges.
        The wider tails of the cubic are not counted.
    kernel : str
        One of `KERNELS`: ``linear`` or ``cubic`` (Keys 1981, a = -0.5); weights sum to 1.
    out : ndarray, shape (c, ny, nx), float32, optional
        Buffer to write into.

    Returns
    -------
    Warped

    Raises
    ------
    ValueError
        An unknown kernel.

    References
    ----------
    Keys 1981, IEEE Trans. ASSP 29, 1153, doi:10.1109/TASSP.1981.1163711.
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel is {kernel!r}; it must be {' or '.join(KERNELS)}")
    step = 2 if len(sites) == 4 else 1
    n_channels = max(site.channel for site in sites) + 1
    ny, nx = grid.shape
    data = np.empty((n_channels, ny, nx), np.float32) if out is None else out
    coverage = np.empty((ny, nx), np.float32)
    offsets = np.array([(site.x, site.y) for site in sites], float)
    channel = np.array([site.channel for site in sites])
    share = np.array([site.weight for site in sites], np.float32)
    taps = _TAPS[kernel]
    first = np.array([k == list(channel).index(channel[k]) for k in range(len(sites))])

    inverse = _InverseMap(transform, grid)
    signs = inverse.signs(step)
    native = np.array([planes.shape[2] * step, planes.shape[1] * step], float)
    # Rounded, so that shifts by whole pixels are exact copies whatever the spline's last digits.
    px, py = (np.round(p, 7) for p in inverse(_nodes(nx), _nodes(ny)))
    if signs is not None:
        # native' = last - native; each plane keeps its own phase in the turned coordinates.
        if signs[0] < 0:
            offsets[:, 0] = native[0] - 1 - (step * (planes.shape[2] - 1) + offsets[:, 0])
            px = native[0] - 1 - px
        if signs[1] < 0:
            offsets[:, 1] = native[1] - 1 - (step * (planes.shape[1] - 1) + offsets[:, 1])
            py = native[1] - 1 - py
        if min(signs) < 0:
            planes = np.ascontiguousarray(planes[:, :: int(signs[1]), :: int(signs[0])])
    if signs is not None and taps == 4:
        _warp_runs(planes, offsets, channel, share, first, step, px, py, data, coverage)
    else:
        _warp_general(
            planes, offsets, channel, share, first, step, px, py, taps, data, coverage, 0, ny, 0, nx
        )
    mask = np.where(coverage < 0.999, np.uint8(bits.OUTSIDE), np.uint8(0))
    if bad is not None and len(bad.x):
        bx, by = transform(bad.x, bad.y)
        reach = max(1.0, transform.local_scale(native[0] / 2, native[1] / 2))
        i, j = grid.from_native(bx, by)
        _mark(
            np.ascontiguousarray(i),
            np.ascontiguousarray(j),
            bad.bit,
            reach,
            np.float32(1 / len(sites)),
            mask,
            coverage,
        )
    return Warped(data, mask, coverage, _variance_factor(inverse, grid, sites, step, taps, signs, n_channels))


def weights(fraction: np.ndarray, taps: int) -> np.ndarray:
    """Weights of the kernel with `taps` taps at fractional positions; shape (..., taps), sums of 1."""
    fraction = np.asarray(fraction, float)
    w = np.empty((*fraction.shape, taps))
    flat, f = w.reshape(-1, taps), fraction.ravel()
    for k in range(len(f)):
        _weights(f[k], taps, flat[k])
    return w


class _InverseMap:
    """The inverse transform on any separable grid of product pixels: a coarse spline of exact nodes."""

    def __init__(self, transform: Transform, grid: ProductGrid) -> None:
        self.transform, self.grid = transform, grid
        ny, nx = grid.shape
        self.i = np.linspace(-8, nx + 24, int(np.clip(nx * grid.step / 200, 8, 40)))
        self.j = np.linspace(-8, ny + 24, int(np.clip(ny * grid.step / 200, 8, 40)))
        self.x, self.y = self._exact(self.i, self.j)
        self.smooth = bool(np.all(np.isfinite(self.x)) and np.all(np.isfinite(self.y)))
        if self.smooth:
            self.splines = (
                RectBivariateSpline(self.j, self.i, self.x),
                RectBivariateSpline(self.j, self.i, self.y),
            )

    def __call__(self, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Native (x, y) of the frame at all columns `i` of all rows `j`; shape (len(j), len(i))."""
        if not self.smooth:
            return self._exact(i, j)
        return self.splines[0](j, i), self.splines[1](j, i)

    def _exact(self, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gi, gj = np.meshgrid(i, j)
        return self.transform.inverse(*self.grid.to_native(gi, gj))

    def signs(self, step: int) -> tuple[float, float] | None:
        """Signs of the axes where the map is nearly a shift, a half turn or a mirror image; None elsewhere."""
        if not self.smooth or self.grid.step != step:
            return None
        di, dj = np.diff(self.i) * step, np.diff(self.j) * step
        xi, yi = np.diff(self.x, axis=1) / di, np.diff(self.y, axis=1) / di
        xj, yj = np.diff(self.x, axis=0) / dj[:, None], np.diff(self.y, axis=0) / dj[:, None]
        sx, sy = float(np.sign(xi.mean())), float(np.sign(yj.mean()))
        along = max(np.abs(xi - sx).max(), np.abs(yi).max())
        across = max(np.abs(yj - sy).max(), np.abs(xj).max())
        return (sx, sy) if sx and sy and max(along, across) < 0.5 / _SHORTEST_RUN else None


def _nodes(n: int) -> np.ndarray:
    return np.arange(0, n + _SPACING, _SPACING, dtype=float)


def _variance_factor(
    inverse: _InverseMap,
    grid: ProductGrid,
    sites: Sequence[Site],
    step: int,
    taps: int,
    signs: tuple[float, float] | None,
    n_channels: int,
) -> np.ndarray:
    """Sum of squared weights per channel on a mesh; its mean over all phases where these turn too fast."""
    ny, nx = grid.shape
    # Only whole product pixels are sampled: the phase in between does not occur.
    gi = np.round(np.linspace(0, nx - 1, max(2, nx // 32 + 1)))
    gj = np.round(np.linspace(0, ny - 1, max(2, ny // 32 + 1)))
    table = (weights(np.arange(256) / 256, taps) ** 2).sum(-1)
    factor = np.zeros((n_channels, len(gj), len(gi)), np.float32)
    if signs is None:
        for site in sites:
            factor[site.channel] += np.float32(site.weight**2 * table.mean() ** 2)
        return factor
    px, py = (np.round(p, 7) for p in inverse(gi, gj))
    turn_x = np.abs(np.diff(px, axis=1) / step - np.sign(np.diff(px, axis=1)) * np.diff(gi)).max()
    turn_y = np.abs(np.diff(py, axis=0) / step - np.sign(np.diff(py, axis=0)) * np.diff(gj)[:, None]).max()
    crossed = max(np.abs(np.diff(px, axis=0)).max(), np.abs(np.diff(py, axis=1)).max()) / step
    several = 1
    if max(turn_x, turn_y, crossed) > 0.2:
        # The phase turns between the nodes: each has the mean of some pixels about it.
        around = np.array([-12.0, -4.0, 4.0, 12.0])
        several = len(around)
        px, py = inverse(
            np.clip((gi[:, None] + around).ravel(), 0, nx - 1),
            np.clip((gj[:, None] + around).ravel(), 0, ny - 1),
        )
    for site in sites:
        fx = np.mod((px - site.x) / step, 1.0)
        fy = np.mod((py - site.y) / step, 1.0)
        squared = table[(fx * 256).astype(int) % 256] * table[(fy * 256).astype(int) % 256]
        squared = squared.reshape(len(gj), several, len(gi), several).mean(axis=(1, 3))
        factor[site.channel] += np.float32(site.weight**2) * squared.astype(np.float32)
    return factor


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _weights(f: float, taps: int, w: np.ndarray) -> None:
    if taps == 2:
        w[0] = 1 - f
        w[1] = f
        return
    w[0] = ((-0.5 * f + 1.0) * f - 0.5) * f
    w[1] = (1.5 * f - 2.5) * f * f + 1.0
    w[2] = ((-1.5 * f + 2.0) * f + 0.5) * f
    w[3] = (0.5 * f - 0.5) * f * f


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _warp_runs(
    planes: np.ndarray,
    offsets: np.ndarray,
    channel: np.ndarray,
    share: np.ndarray,
    first: np.ndarray,
    step: int,
    px: np.ndarray,
    py: np.ndarray,
    out: np.ndarray,
    coverage: np.ndarray,
) -> None:
    n_sites, my, mx = planes.shape
    _, ny, nx = out.shape
    nodes = px.shape[1]
    fx = np.empty(nx + 8, np.float32)
    fy = np.empty(nx + 8, np.float32)
    tmp = np.empty(nx + 8, np.float32)
    node_x = np.empty(nodes)
    node_y = np.empty(nodes)
    for j in range(ny):
        a = j // _SPACING
        f = j / _SPACING - a
        for k in range(nodes):
            node_x[k] = ((1 - f) * px[a, k] + f * px[a + 1, k]) / step - k * _SPACING
            node_y[k] = ((1 - f) * py[a, k] + f * py[a + 1, k]) / step - j
        for i in range(nx):
            coverage[j, i] = 1
        for s in range(n_sites):
            ox, oy = offsets[s, 0] / step, offsets[s, 1] / step
            plane = planes[s]
            row = out[channel[s], j]
            i = 0
            while i < nx:
                # The longest run from i whose whole shifts are constant.
                k = i // _SPACING
                t = i / _SPACING - k
                dx = node_x[k] + t * (node_x[k + 1] - node_x[k]) - ox
                dy = node_y[k] + t * (node_y[k + 1] - node_y[k]) - oy
                bx, by = int(np.floor(dx)), int(np.floor(dy))
                stop = i
                while stop < nx:
                    k = stop // _SPACING
                    end = min(nx, (k + 1) * _SPACING)
                    if k > i // _SPACING or stop == i:
                        last = (end - 1) / _SPACING - k
                        ex = node_x[k] + last * (node_x[k + 1] - node_x[k]) - ox
                        ey = node_y[k] + last * (node_y[k + 1] - node_y[k]) - oy
                        if int(np.floor(ex)) == bx and int(np.floor(ey)) == by:
                            stop = end
                            continue
                    while stop < end:
                        t = stop / _SPACING - k
                        ex = node_x[k] + t * (node_x[k + 1] - node_x[k]) - ox
                        ey = node_y[k] + t * (node_y[k + 1] - node_y[k]) - oy
                        if int(np.floor(ex)) != bx or int(np.floor(ey)) != by:
                            break
                        stop += 1
                    break
                stop = max(stop, i + 1)
                top = j + by - 1
                lo, hi = max(i, 1 - bx), min(stop, mx - 2 - bx)
                if hi - lo < 1 or top < 0 or top + 3 >= my:
                    lo = hi = i
                for side in range(2):
                    c, d = (i, lo) if side == 0 else (hi, stop)
                    if c < d:
                        _one_site(
                            plane, ox, oy, share[s], first[s], node_x, node_y, j, c, d, row, coverage[j]
                        )
                if lo < hi:
                    n = hi - lo
                    # Fractions along the run, and one more on the left, two on the right for the columns' own.
                    for q in range((lo - 1) // _SPACING if lo > 0 else 0, (hi + 1) // _SPACING + 1):
                        qq = min(q, nodes - 2)
                        sx = np.float32((node_x[qq + 1] - node_x[qq]) / _SPACING)
                        sy = np.float32((node_y[qq + 1] - node_y[qq]) / _SPACING)
                        zx = np.float32(node_x[qq] - ox - bx)
                        # Columns lie a fraction to the left of their pixel: where the field turns, so does y.
                        zy = np.float32(node_y[qq] - oy - by) - sy * zx
                        sy -= sy * sx
                        g0 = max(lo - 1, q * _SPACING)
                        g1 = min(hi + 2, (q + 1) * _SPACING)
                        for g in range(g0, g1):
                            z = np.float32(g - qq * _SPACING)
                            fx[g - lo + 1] = zx + sx * z
                            fy[g - lo + 1] = zy + sy * z
                    if lo == 0:
                        fy[0] = 2 * fy[1] - fy[2]
                    for g in range(nx - lo + 1, n + 3):
                        fy[g] = 2 * fy[g - 1] - fy[g - 2]
                    c0 = lo + bx - 1
                    _down(
                        plane[top, c0 : c0 + n + 3],
                        plane[top + 1, c0 : c0 + n + 3],
                        plane[top + 2, c0 : c0 + n + 3],
                        plane[top + 3, c0 : c0 + n + 3],
                        fy[: n + 3],
                        tmp[: n + 3],
                    )
                    _along(tmp[: n + 3], fx[1 : n + 1], share[s], first[s], row[lo:hi])
                i = stop
        for i in range(nx):
            if coverage[j, i] == 0:  # some sites may reach where others do not
                for c in range(len(out)):
                    out[c, j, i] = 0


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _down(
    r0: np.ndarray, r1: np.ndarray, r2: np.ndarray, r3: np.ndarray, fraction: np.ndarray, out: np.ndarray
) -> None:
    """Cubic interpolation between four rows, each column at its own fraction."""
    half, one, two = np.float32(0.5), np.float32(1), np.float32(2)
    for i in range(len(out)):
        f = fraction[i]
        # Keys' cubic (a = -0.5) in Horner's form.
        a = r1[i]
        b = half * (r2[i] - r0[i])
        c = r0[i] - (two + half) * r1[i] + two * r2[i] - half * r3[i]
        d = half * (r3[i] - r0[i]) + (one + half) * (r1[i] - r2[i])
        out[i] = ((d * f + c) * f + b) * f + a


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _along(values: np.ndarray, fraction: np.ndarray, share: np.float32, first: bool, out: np.ndarray) -> None:
    """Cubic interpolation along a row, each pixel at its own fraction; set or added to `out`, times `share`."""
    half, one, two = np.float32(0.5), np.float32(1), np.float32(2)
    r1, r2, r3 = values[1:], values[2:], values[3:]
    keep = np.float32(0 if first else 1)
    for i in range(len(out)):
        f = fraction[i]
        a = r1[i]
        b = half * (r2[i] - values[i])
        c = values[i] - (two + half) * r1[i] + two * r2[i] - half * r3[i]
        d = half * (r3[i] - values[i]) + (one + half) * (r1[i] - r2[i])
        old = np.float32(0) if first else out[i]
        out[i] = keep * old + share * (((d * f + c) * f + b) * f + a)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _one_site(
    plane: np.ndarray,
    ox: float,
    oy: float,
    share: np.float32,
    first: bool,
    node_x: np.ndarray,
    node_y: np.ndarray,
    j: int,
    i0: int,
    i1: int,
    row: np.ndarray,
    coverage: np.ndarray,
) -> None:
    """One site's part of a few pixels at the frame's edge; outside, coverage is set to 0."""
    my, mx = plane.shape
    wx = np.empty(4)
    wy = np.empty(4)
    for i in range(i0, i1):
        k = i // _SPACING
        t = i / _SPACING - k
        u = node_x[k] + t * (node_x[k + 1] - node_x[k]) - ox + i
        v = node_y[k] + t * (node_y[k + 1] - node_y[k]) - oy + j
        if not (u >= -_EDGE and v >= -_EDGE and u <= mx - 1 + _EDGE and v <= my - 1 + _EDGE):
            coverage[i] = 0
            if first:
                row[i] = 0
            continue
        iu, iv = int(np.floor(u)), int(np.floor(v))
        _weights(u - iu, 4, wx)
        _weights(v - iv, 4, wy)
        total = 0.0
        for q in range(4):
            r = min(max(iv + q - 1, 0), my - 1)
            part = 0.0
            for m in range(4):
                part += wx[m] * plane[r, min(max(iu + m - 1, 0), mx - 1)]
            total += wy[q] * part
        value = np.float32(total) * share
        if first:
            row[i] = value
        else:
            row[i] += value


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _warp_general(
    planes: np.ndarray,
    offsets: np.ndarray,
    channel: np.ndarray,
    share: np.ndarray,
    first: np.ndarray,
    step: int,
    qx: np.ndarray,
    qy: np.ndarray,
    taps: int,
    out: np.ndarray,
    coverage: np.ndarray,
    j0: int,
    j1: int,
    i0: int,
    i1: int,
) -> None:
    n_sites, my, mx = planes.shape
    half = taps // 2
    wx = np.empty(taps)
    wy = np.empty(taps)
    inv = 1.0 / _SPACING
    for j in range(j0, j1):
        nj = j // _SPACING
        fj = j * inv - nj
        for i in range(i0, i1):
            ni = i // _SPACING
            fi = i * inv - ni
            a, b, c, d = (1 - fj) * (1 - fi), (1 - fj) * fi, fj * (1 - fi), fj * fi
            x = a * qx[nj, ni] + b * qx[nj, ni + 1] + c * qx[nj + 1, ni] + d * qx[nj + 1, ni + 1]
            y = a * qy[nj, ni] + b * qy[nj, ni + 1] + c * qy[nj + 1, ni] + d * qy[nj + 1, ni + 1]
            good = x == x and y == y and x > -1e6 and y > -1e6 and x < 1e7 and y < 1e7
            if good:
                # Inside where the nearest good samples of every site surround the point.
                for s in range(n_sites):
                    u = (x - offsets[s, 0]) / step
                    v = (y - offsets[s, 1]) / step
                    if u < -_EDGE or v < -_EDGE or u > mx - 1 + _EDGE or v > my - 1 + _EDGE:
                        good = False
            if not good:
                coverage[j, i] = 0
                for s in range(n_sites):
                    out[channel[s], j, i] = 0
                continue
            coverage[j, i] = 1
            for s in range(n_sites):
                u = (x - offsets[s, 0]) / step
                v = (y - offsets[s, 1]) / step
                iu, iv = int(np.floor(u)), int(np.floor(v))
                _weights(u - iu, taps, wx)
                _weights(v - iv, taps, wy)
                total = 0.0
                for k in range(taps):
                    r = min(max(iv + k - half + 1, 0), my - 1)
                    part = 0.0
                    for m in range(taps):
                        part += wx[m] * planes[s, r, min(max(iu + m - half + 1, 0), mx - 1)]
                    total += wy[k] * part
                value = np.float32(total) * share[s]
                if first[s]:
                    out[channel[s], j, i] = value
                else:
                    out[channel[s], j, i] += value


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _mark(
    i: np.ndarray,
    j: np.ndarray,
    bit: np.ndarray,
    reach: float,
    share: np.float32,
    mask: np.ndarray,
    coverage: np.ndarray,
) -> None:
    """Give output pixels within reach of a bad input pixel its bit, and take its share of coverage."""
    ny, nx = mask.shape
    for k in range(len(i)):
        if not (i[k] > -2 and j[k] > -2 and i[k] < nx + 1 and j[k] < ny + 1):
            continue
        for v in range(max(0, int(np.ceil(j[k] - reach))), min(ny - 1, int(np.floor(j[k] + reach))) + 1):
            for u in range(max(0, int(np.ceil(i[k] - reach))), min(nx - 1, int(np.floor(i[k] + reach))) + 1):
                near = max(abs(u - i[k]), abs(v - j[k]))
                # A single pixel, filled from its neighbours, harms only where it would weigh most.
                if near <= 0.75 * reach or bit[k] & np.uint8(_WIDE):
                    mask[v, u] |= bit[k]
                part = np.float32((1 - abs(u - i[k]) / reach) * (1 - abs(v - j[k]) / reach))
                coverage[v, u] = max(np.float32(0), coverage[v, u] - share * part)

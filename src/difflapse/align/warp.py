"""Applying a transform: a frame's pixels resampled onto the reference, its mask and coverage with it.

Between neighbouring frames of a night a transform is locally almost a pure shift. The output is therefore cut
into tiles small enough that the shift is constant to a few thousandths of a pixel, and each tile is one
separable filter with constant weights: exact positions (no table of 1/32 px steps) at the speed of a filter.
Half turns are turned first; anything else (rotation, other scale) takes the general way, pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from scipy.interpolate import RectBivariateSpline

from difflapse.model import ProductGrid, Transform, bits
from difflapse.mosaic import Site

KERNELS = ("linear", "cubic", "lanczos3", "lanczos4")
_TAPS = {"linear": 2, "cubic": 4, "lanczos3": 6, "lanczos4": 8}
_TOLERANCE = 0.01
"""Native pixels by which the shift within a tile may be wrong, at most and per axis."""

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
        Pixels of the frame that must not count; an output pixel that would take from one gets its bit.
    kernel : str
        ``linear``, ``cubic`` (Keys 1981), ``lanczos3`` or ``lanczos4``; weights sum to 1.
    out : ndarray, shape (c, ny, nx), float32, optional
        Buffer to write into.

    Returns
    -------
    Warped

    References
    ----------
    Keys 1981, IEEE Trans. ASSP 29, 1153, doi:10.1109/TASSP.1981.1163711.
    """
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
    signs, (size_x, size_y) = inverse.tiles(step)
    native = np.array([planes.shape[2] * step, planes.shape[1] * step], float)
    if signs is None:
        spacing = 16
        gy, gx = _nodes(ny, spacing), _nodes(nx, spacing)
        px, py = inverse(gx, gy)
        _warp_general(
            planes, offsets, channel, share, first, step, px, py, spacing, taps, data, coverage, 0, ny, 0, nx
        )
    else:
        flip_x, flip_y = signs[0] < 0, signs[1] < 0
        if flip_x or flip_y:
            # native' = last - native; each plane keeps its own phase in the turned coordinates.
            planes = np.ascontiguousarray(planes[:, :: -1 if flip_y else 1, :: -1 if flip_x else 1])
            if flip_x:
                offsets[:, 0] = (native[0] - 1) - (
                    step * (planes.shape[2] - 1) + np.array([s.x for s in sites])
                )
            if flip_y:
                offsets[:, 1] = (native[1] - 1) - (
                    step * (planes.shape[1] - 1) + np.array([s.y for s in sites])
                )
        tiles_x, tiles_y = _tile_edges(nx, size_x), _tile_edges(ny, size_y)
        cx, cy = 0.5 * (tiles_x[:-1] + tiles_x[1:] - 1), 0.5 * (tiles_y[:-1] + tiles_y[1:] - 1)
        px, py = inverse(cx, cy)
        spacing = 16
        gx, gy = _nodes(nx, spacing), _nodes(ny, spacing)
        qx, qy = inverse(gx, gy)
        if flip_x:
            px, qx = native[0] - 1 - px, native[0] - 1 - qx
        if flip_y:
            py, qy = native[1] - 1 - py, native[1] - 1 - qy
        _warp_tiles(
            planes,
            offsets,
            channel,
            share,
            first,
            step,
            tiles_x,
            tiles_y,
            px,
            py,
            qx,
            qy,
            spacing,
            taps,
            data,
            coverage,
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

    def tiles(self, step: int) -> tuple[tuple[float, float] | None, tuple[int, int]]:
        """Signs of the axes, and the tile size (product pixels) for which a shift is exact; or None."""
        if not self.smooth or self.grid.step != step:
            return None, (0, 0)
        di, dj = np.diff(self.i) * step, np.diff(self.j) * step
        xi, yi = np.diff(self.x, axis=1) / di, np.diff(self.y, axis=1) / di
        xj, yj = np.diff(self.x, axis=0) / dj[:, None], np.diff(self.y, axis=0) / dj[:, None]
        sx, sy = float(np.sign(xi.mean())), float(np.sign(yj.mean()))
        if sx == 0 or sy == 0:
            return None, (0, 0)
        gi = max(np.abs(xi - sx).max(), np.abs(yi).max(), 1e-7)
        gj = max(np.abs(yj - sy).max(), np.abs(xj).max(), 1e-7)
        size = int(min(256, 2 * _TOLERANCE / gi / step)), int(min(64, 2 * _TOLERANCE / gj / step))
        if size[0] < 8 or size[1] < 2:
            return None, (0, 0)
        return (sx, sy), size


def _nodes(n: int, spacing: int) -> np.ndarray:
    return np.arange(0, n + spacing, spacing, dtype=float)


def _tile_edges(n: int, size: int) -> np.ndarray:
    count = max(1, -(-n // size))
    return np.round(np.linspace(0, n, count + 1)).astype(np.int64)


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
    gi, gj = np.linspace(0, nx - 1, max(2, nx // 32 + 1)), np.linspace(0, ny - 1, max(2, ny // 32 + 1))
    table = (weights(np.arange(256) / 256, taps) ** 2).sum(-1)
    factor = np.zeros((n_channels, len(gj), len(gi)), np.float32)
    if signs is None:
        for site in sites:
            factor[site.channel] += np.float32(site.weight**2 * table.mean() ** 2)
        return factor
    px, py = inverse(gi, gj)
    px, py = np.nan_to_num(px), np.nan_to_num(py)
    for site in sites:
        fx = np.mod((px - site.x) / step, 1.0)
        fy = np.mod((py - site.y) / step, 1.0)
        squared = table[(fx * 256).astype(int) % 256] * table[(fy * 256).astype(int) % 256]
        factor[site.channel] += np.float32(site.weight**2) * squared.astype(np.float32)
    return factor


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _weights(f: float, taps: int, w: np.ndarray) -> None:
    if taps == 2:
        w[0] = 1 - f
        w[1] = f
        return
    if taps == 4:
        w[0] = ((-0.5 * f + 1.0) * f - 0.5) * f
        w[1] = (1.5 * f - 2.5) * f * f + 1.0
        w[2] = ((-1.5 * f + 2.0) * f + 0.5) * f
        w[3] = (0.5 * f - 0.5) * f * f
        return
    half = taps // 2
    total = 0.0
    for k in range(taps):
        t = f - (k - half + 1)
        if abs(t) < 1e-12:
            w[k] = 1.0
        elif abs(t) >= half:
            w[k] = 0.0
        else:
            a = np.pi * t
            w[k] = half * np.sin(a) * np.sin(a / half) / (a * a)
        total += w[k]
    for k in range(taps):
        w[k] /= total


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _warp_tiles(
    planes: np.ndarray,
    offsets: np.ndarray,
    channel: np.ndarray,
    share: np.ndarray,
    first: np.ndarray,
    step: int,
    edges_x: np.ndarray,
    edges_y: np.ndarray,
    px: np.ndarray,
    py: np.ndarray,
    qx: np.ndarray,
    qy: np.ndarray,
    spacing: int,
    taps: int,
    out: np.ndarray,
    coverage: np.ndarray,
) -> None:
    n_sites, my, mx = planes.shape
    half = taps // 2
    wx = np.empty(taps)
    wy = np.empty(taps)
    tmp = np.empty(4096 + 16, np.float32)
    bx = np.empty(n_sites, np.int64)
    by = np.empty(n_sites, np.int64)
    for tj in range(len(edges_y) - 1):
        j0, j1 = edges_y[tj], edges_y[tj + 1]
        for ti in range(len(edges_x) - 1):
            i0, i1 = edges_x[ti], edges_x[ti + 1]
            n = i1 - i0
            dx = px[tj, ti] / step - 0.5 * (i0 + i1 - 1) + i0
            dy = py[tj, ti] / step - 0.5 * (j0 + j1 - 1) + j0
            ia, ib, ja, jb = i0, i1, j0, j1
            if dx == dx and dy == dy and n <= 4096 and abs(dx) < 1e7 and abs(dy) < 1e7:
                # The part of the tile for which every site has all its taps inside the frame.
                for s in range(n_sites):
                    bx[s] = int(np.floor(dx - offsets[s, 0] / step)) - half + 1 - i0
                    by[s] = int(np.floor(dy - offsets[s, 1] / step)) - half + 1 - j0
                    ia, ib = max(ia, -bx[s]), min(ib, mx - taps + 1 - bx[s])
                    ja, jb = max(ja, -by[s]), min(jb, my - taps + 1 - by[s])
                if ia >= ib or ja >= jb:
                    ia, ib, ja, jb = i0, i0, j0, j0
            else:
                ib, jb = i0, j0
            for strip in range(4):
                a, b, c, d = j0, ja, i0, i1
                if strip == 1:
                    a, b = jb, j1
                elif strip == 2:
                    a, b, d = ja, jb, ia
                elif strip == 3:
                    a, b, c = ja, jb, ib
                if a < b and c < d:
                    _warp_general(
                        planes,
                        offsets,
                        channel,
                        share,
                        first,
                        step,
                        qx,
                        qy,
                        spacing,
                        taps,
                        out,
                        coverage,
                        a,
                        b,
                        c,
                        d,
                    )
            if ia >= ib:
                continue
            n = ib - ia
            for j in range(ja, jb):
                coverage[j, ia:ib] = 1
            for s in range(n_sites):
                ux = dx - offsets[s, 0] / step
                uy = dy - offsets[s, 1] / step
                _weights(ux - np.floor(ux), taps, wx)
                _weights(uy - np.floor(uy), taps, wy)
                for j in range(ja, jb):
                    _filter_row(
                        planes[s, by[s] + j : by[s] + j + taps, bx[s] + ia : bx[s] + ib + taps - 1],
                        wx,
                        wy,
                        share[s],
                        first[s],
                        tmp,
                        out[channel[s], j, ia:ib],
                    )


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _filter_row(
    rows: np.ndarray,
    wx: np.ndarray,
    wy: np.ndarray,
    share: np.float32,
    first: bool,
    tmp: np.ndarray,
    out: np.ndarray,
) -> None:
    """One output row: down the columns into `tmp`, then along it. Four taps written out vectorise."""
    taps = len(wx)
    n = len(out)
    if taps == 4:
        r0, r1, r2, r3 = rows[0], rows[1], rows[2], rows[3]
        y0, y1, y2, y3 = np.float32(wy[0]), np.float32(wy[1]), np.float32(wy[2]), np.float32(wy[3])
        for i in range(n + 3):
            tmp[i] = y0 * r0[i] + y1 * r1[i] + y2 * r2[i] + y3 * r3[i]
        x0, x1 = np.float32(wx[0]) * share, np.float32(wx[1]) * share
        x2, x3 = np.float32(wx[2]) * share, np.float32(wx[3]) * share
        t1, t2, t3 = tmp[1:], tmp[2:], tmp[3:]
        if first:
            for i in range(n):
                out[i] = x0 * tmp[i] + x1 * t1[i] + x2 * t2[i] + x3 * t3[i]
        else:
            for i in range(n):
                out[i] += x0 * tmp[i] + x1 * t1[i] + x2 * t2[i] + x3 * t3[i]
        return
    tmp[: n + taps - 1] = 0
    for k in range(taps):
        w, row = np.float32(wy[k]), rows[k]
        for i in range(n + taps - 1):
            tmp[i] += w * row[i]
    if first:
        out[:] = 0
    for k in range(taps):
        w, part = np.float32(wx[k]) * share, tmp[k:]
        for i in range(n):
            out[i] += w * part[i]


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
    spacing: int,
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
    inv = 1.0 / spacing
    for j in range(j0, j1):
        nj = j // spacing
        fj = j * inv - nj
        for i in range(i0, i1):
            ni = i // spacing
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
                    if u < 0 or v < 0 or u > mx - 1 or v > my - 1:
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

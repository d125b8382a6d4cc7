"""The model error: by how much residuals exceed photon noise at pixels like this one, learned from a night.

Alignment, interpolation and the point-spread function are never quite those of the template. What that leaves
grows with how steep the scene is. The night itself tells how much: pixels are sorted by what they are *like*, and
each sort's scatter is measured over all pixels of the sort and all frames. A pixel has no error of its own: a
star that varies is outvoted by the others of its sort, and cannot hide itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numba
import numpy as np

from difflapse.difference.noise import Noise
from difflapse.measure.mesh import ROWS_PER_LINE, line
from difflapse.model import ProductGrid

ZONES = 3
"""The field is parted into so many by so many zones: optics and alignment differ over it."""
_STEPS = 16
_RATIO = 1.5
"""Steepness is told in this many steps, each this many times the last."""
_FORMS = (0.35, 0.8)
"""Brightness over steepness: below the first a star's skirts, above the last its summit or a bright plain."""
_SORTS = 1 + _STEPS * (len(_FORMS) + 1)
_STEEP = 2.0
_NOISY = 6.0
"""Steepness (sigma of a frame from the lowest to the highest neighbour) at which a pixel is no longer sky: of a
template, and of a single frame."""
_BINS = 96
_SKY = 200_000
"""Pixels of a field that tell how empty sky scatters."""
_ENOUGH = 12.0
"""Stars in a sort of a zone from which on they outweigh those of the other zones."""


@dataclass(frozen=True, eq=False)
class Scatter:
    """How widely one frame's residuals scatter, for each sort of pixel; arrays have one entry per sort."""

    count: np.ndarray
    """int32: pixels looked at."""
    pixel: np.ndarray
    """float32: robust sigma of single pixels, in photon sigma; NaN where too few."""
    point: np.ndarray
    """float32: of what a filter as wide as a star makes of them, over the same on sky."""


@dataclass(frozen=True, eq=False)
class Learned:
    """Model error over a product grid, in units of the photon sigma: ``total = photon * sqrt(1 + extra**2)``."""

    grid: ProductGrid
    sorts: np.ndarray
    """(ny, nx) uint16: the sort of each pixel."""
    pixel: np.ndarray
    """(n,) float32: error of a single pixel of each sort, in a typical frame."""
    point: np.ndarray
    """(n,) float32: of what a filter as wide as a star finds there."""
    strength: Mapping[int, float]
    """Frame -> how much larger its errors are than those of a typical one: seeing and wind come and go."""
    floor: Mapping[int, float]
    """Frame -> what its empty sky has beyond photon noise: the glow of clouds."""

    def factor(
        self, x: np.ndarray | float, y: np.ndarray | float, frame: int | None = None, point: bool = True
    ) -> np.ndarray:
        """Model error at native pixels (x, y) of the reference, in units of the photon sigma.

        Parameters
        ----------
        x, y : array_like
            Beyond the grid the error is that of its edge.
        frame : int, optional
            For this frame; a typical one by default.
        point : bool
            For what is found with a filter as wide as a star, or for a single pixel.

        Returns
        -------
        ndarray, float32
            0 where residuals are as photon noise foretells.
        """
        i, j = self.grid.from_native(np.asarray(x, float), np.asarray(y, float))
        ny, nx = self.grid.shape
        i = np.clip(np.nan_to_num(np.round(i)), 0, nx - 1).astype(int)
        j = np.clip(np.nan_to_num(np.round(j)), 0, ny - 1).astype(int)
        table = self.point if point else self.pixel
        by = 1.0 if frame is None else self.strength.get(frame, 1.0)
        least = 0.0 if frame is None else self.floor.get(frame, 0.0)
        return np.hypot(by * table[self.sorts[j, i]], least).astype(np.float32)

    def image(self) -> np.ndarray:
        """The whole map for single pixels of a typical frame, (ny, nx) float32."""
        return self.pixel[self.sorts]


def sort_pixels(
    data: np.ndarray, sky: np.ndarray, noise: Noise, bad: np.ndarray, frames: int, fwhm: float
) -> np.ndarray:
    """Sort the pixels of a scene by how steep and bright it is there, in sigma of a frame, and by place.

    Parameters
    ----------
    data : ndarray, shape (c, ny, nx)
        The template, or a frame.
    sky : ndarray, shape (c, my, mx)
        Mesh of its sky.
    noise : Noise
        Of a typical single frame.
    bad : ndarray of bool, shape (ny, nx)
        True = bad; they count as sky.
    frames : int
        Frames that `data` is the mean of: the fewer, the more of its steepness is noise.
    fwhm : float
        Of stars, product pixels: steepness is looked for as far as half of that away, 1 to 4 pixels.

    Returns
    -------
    ndarray, shape (ny, nx), uint16
        Below ``ZONES**2 * n``; sort 0 of each zone is empty sky.
    """
    c, ny, nx = data.shape
    total = np.zeros((ny, nx), np.float32)
    weight = np.zeros((ny, nx), np.float32)
    for k in range(c):
        meshes = (np.ascontiguousarray(m[k], np.float32) for m in (sky, noise.sky, noise.photon, noise.flat))
        _add_light(np.asarray(data[k]), *meshes, total, weight)
    light = total / np.maximum(weight, 1e-30)
    light[bad] = 0
    size = 2 * int(np.clip(round(0.7 * fwhm), 1, 4)) + 1
    kernel = np.ones((size, size), np.uint8)
    steep = cv2.dilate(light, kernel) - cv2.erode(light, kernel)
    out = np.zeros((ny, nx), np.uint16)
    least = np.float32(max(_STEEP, _NOISY / np.sqrt(frames)))
    _sort(light, steep, weight, bad, least, out)
    return out


def measure_scatter(significance: np.ndarray, sorts: np.ndarray, fwhm: float) -> Scatter:
    """Measure how one frame's residuals scatter in each sort of pixel.

    Parameters
    ----------
    significance : ndarray, shape (ny, nx), float32
        The difference in photon sigma; NaN where masked.
    sorts : ndarray, shape (ny, nx), uint16
        From `sort_pixels`.
    fwhm : float
        Of stars, product pixels.

    Returns
    -------
    Scatter
        From the median of absolute values: what is wrong in less than half of a sort's pixels does not count.
    """
    n = ZONES**2 * _SORTS
    counts = np.zeros((2, n, _BINS), np.int32)
    sigma = float(np.clip(fwhm, 0.8, 12) / 2.355)
    # As wide as a blur of whole images would be.
    kernel = cv2.getGaussianKernel(round(8 * sigma + 1) | 1, sigma, cv2.CV_32F)[:, 0]
    _count(significance, kernel, np.asarray(sorts), counts)
    pixel, point = _half_way(counts[0]), _half_way(counts[1])
    sky = np.arange(0, n, _SORTS)
    weights = counts[1][sky].sum(axis=0, keepdims=True)
    base = float(_half_way(weights)[0])
    return Scatter(counts[0].sum(axis=1), pixel, point / np.float32(base if base > 0 else np.nan))


def learn(
    frames: Sequence[int], measured: Sequence[Scatter], sorts: np.ndarray, grid: ProductGrid
) -> Learned:
    """Learn the model error from the scatter of a night's residuals.

    Parameters
    ----------
    frames : sequence of int
        Their numbers.
    measured : sequence of Scatter
        One for each; one at least.
    sorts : ndarray, shape (ny, nx), uint16
        From `sort_pixels`.
    grid : ProductGrid
        Of `sorts`.

    Returns
    -------
    Learned

    Notes
    -----
    The square of the error is that of the scatter less the photon noise's 1 (for points: less the sky's), taken as
    one table for the night times one strength for each frame; both are medians, in turn. A zone's sort with few
    stars leans on the same sort of the whole field, and that on the next less steep one: errors of alignment
    grow as the steepness does.
    """
    count = np.stack([m.count for m in measured]).astype(float)
    pixel = np.square(np.stack([m.pixel for m in measured]).astype(float))
    point = np.square(np.stack([m.point for m in measured]).astype(float))
    sky = np.arange(ZONES**2) * _SORTS
    enough = count[:, sky] >= 100
    level = np.nan_to_num(_median(np.where(enough, pixel[:, sky], np.nan), axis=1), nan=1.0)
    floor = np.sqrt(np.maximum(level - 1, 0))
    excess = np.where(count >= 8, np.maximum(pixel - level[:, None], 0), np.nan)
    table, strength = _separate(excess, count)
    points, _ = _separate(
        np.where(count >= 8, np.maximum(point - 1, 0), np.nan) * level[:, None], count, strength
    )
    return Learned(
        grid,
        sorts,
        np.sqrt(table).astype(np.float32),
        np.sqrt(points).astype(np.float32),
        {k: float(s) for k, s in zip(frames, np.sqrt(strength), strict=True)},
        {k: float(f) for k, f in zip(frames, floor, strict=True)},
    )


def sorts_of_a_zone() -> int:
    """Sorts in each zone of the field; the first is empty sky."""
    return _SORTS


def steepness_of_sorts(n: int) -> np.ndarray:
    """How steep the pixels of each of `n` sorts are, sigma of a frame; 0 for empty sky."""
    sort = np.arange(n) % _SORTS
    return np.where(sort == 0, 0.0, _STEEP * _RATIO ** ((sort - 1) // (len(_FORMS) + 1) + 0.5))


def _separate(
    excess: np.ndarray, count: np.ndarray, strength: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Squares of errors (frames, sorts) as a table (sorts,) times strengths (frames,); both squared."""
    own = np.ones(len(excess)) if strength is None else strength
    for _ in range(1 if strength is not None else 4):
        table = _median(excess / own[:, None], axis=0)
        if strength is not None:
            break
        telling = np.nan_to_num(table) > 0.25
        if telling.any():
            ratio = np.where(telling, excess / np.where(telling, table, 1), np.nan)
            own = np.array([_weighted(r, n) for r, n in zip(ratio, count, strict=True)])
            own = np.clip(own / np.median(own), 0.02, 100)
    return _lean(np.nan_to_num(table), np.median(count, axis=0) * np.isfinite(table)), own


def _lean(table: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Let sorts with few stars lean on their like."""
    forms = len(_FORMS) + 1
    own = table.reshape(ZONES**2, _SORTS).copy()
    stars = count.reshape(ZONES**2, _SORTS) / 9.0  # so many pixels of a sort are one star's
    own[:, 0] = 0
    stars_all = stars.sum(axis=0)
    field = (own * stars).sum(axis=0) / np.maximum(stars_all, 1e-9)
    for s in range(1, _SORTS):
        below = field[s - forms] * _RATIO**2 if s > forms else field[s]
        field[s] = (field[s] * stars_all[s] + below * _ENOUGH) / (stars_all[s] + _ENOUGH)
        field[s] = np.clip(field[s], 0, max(4 * below, 0.25))  # the few brightest stars may all be odd
    out = (own * stars + field * _ENOUGH) / (stars + _ENOUGH)
    out = np.clip(out, 0.25 * field, np.maximum(4 * field, 0.25))
    out[:, 0] = 0
    return out.ravel()


def _median(values: np.ndarray, axis: int) -> np.ndarray:
    """Median of what is finite; NaN where nothing is."""
    some = np.isfinite(values).any(axis=axis)
    filled = np.where(np.expand_dims(some, axis), values, 0.0)
    return np.where(some, np.nanmedian(filled, axis=axis), np.nan)


def _weighted(values: np.ndarray, weights: np.ndarray) -> float:
    """Weighted median of what is finite; 1 where nothing is."""
    ok = np.isfinite(values) & (weights > 0)
    if not ok.any():
        return 1.0
    order = np.argsort(values[ok])
    sums = np.cumsum(weights[ok][order])
    return float(values[ok][order][np.searchsorted(sums, 0.5 * sums[-1])])


def _half_way(counts: np.ndarray) -> np.ndarray:
    """Robust sigma from histograms (n, bins) of absolute values; NaN where nothing was counted."""
    edges = np.concatenate([np.arange(32) / 8, 4 * 2.0 ** (np.arange(_BINS - 32 + 1) / 8)])
    sums = np.cumsum(counts, axis=1)
    half = 0.5 * sums[:, -1]
    b = (sums < half[:, None]).sum(axis=1)
    rows = np.arange(len(counts))
    inside = np.maximum(counts[rows, b], 1)
    part = (half - (sums[rows, b] - counts[rows, b])) / inside
    sigma = 1.4826 * (edges[b] + part * (edges[b + 1] - edges[b]))
    return np.where(half > 0, sigma, np.nan).astype(np.float32)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _add_light(
    data: np.ndarray,
    level: np.ndarray,
    sky: np.ndarray,
    photon: np.ndarray,
    flat: np.ndarray,
    total: np.ndarray,
    weight: np.ndarray,
) -> None:
    """Add one colour's light above the sky, weighted with the inverse variance of a frame; all but the data are meshes.

    A few rows share their meshes' lines.
    """
    ny, nx = data.shape
    lines = np.empty((4, nx), np.float32)
    for j in range(ny):
        if j % ROWS_PER_LINE == 0:
            middle = min(j + 0.5 * (ROWS_PER_LINE - 1), ny - 1.0)
            line(level, middle, ny, lines[0])
            line(sky, middle, ny, lines[1])
            line(photon, middle, ny, lines[2])
            line(flat, middle, ny, lines[3])
        for i in range(nx):
            s = data[j, i] - lines[0, i]
            up = max(s, np.float32(0))
            w = np.float32(1) / (lines[1, i] + (lines[2, i] + lines[3, i] * up) * up)
            total[j, i] += w * s
            weight[j, i] += w


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _sort(
    light: np.ndarray,
    steep: np.ndarray,
    weight: np.ndarray,
    bad: np.ndarray,
    least: np.float32,
    out: np.ndarray,
) -> None:
    ny, nx = light.shape
    forms = len(_FORMS) + 1
    for j in range(ny):
        for i in range(nx):
            zone = ((j * ZONES) // ny) * ZONES + (i * ZONES) // nx
            sort = 0
            rise = steep[j, i]
            per = np.sqrt(weight[j, i])
            r = rise * per
            if r >= least and not bad[j, i]:
                step = min(int(np.log(r / least) / np.log(_RATIO)), _STEPS - 1)
                ratio = light[j, i] / rise
                form = 0 if ratio < _FORMS[0] else (1 if ratio < _FORMS[1] else 2)
                sort = 1 + step * forms + form
            out[j, i] = zone * _SORTS + sort


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _count(significance: np.ndarray, kernel: np.ndarray, sorts: np.ndarray, counts: np.ndarray) -> None:
    """Count absolute values in each sort's bins; of empty sky only as many pixels as tell its scatter."""
    ny, nx = sorts.shape
    skip = max(1, ny * nx // _SKY)
    r = len(kernel) // 2
    ring, down, smooth = (
        np.zeros((len(kernel), nx), np.float32),
        np.zeros(nx + 2 * r, np.float32),
        np.empty(nx, np.float32),
    )
    for j in range(ny + r):
        if j < ny:
            _known(significance[j], ring[j % len(kernel)])
        if j < r:
            continue
        _smooth_row(ring, kernel, j - r, ny, down, smooth)
        sort_of, value_of = sorts[j - r], significance[j - r]
        turn = 7 * (j - r) % skip
        for i in range(nx):
            sort = sort_of[i]
            sky = turn == 0
            turn = 0 if turn + 1 == skip else turn + 1
            if sort % _SORTS == 0 and not sky:
                continue
            value = value_of[i]
            if np.isfinite(value):
                counts[0, sort, _bin(abs(value))] += 1
                counts[1, sort, _bin(abs(smooth[i]))] += 1


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _known(row: np.ndarray, out: np.ndarray) -> None:
    """A row with 0 where it is not finite."""
    infinite, nothing = np.float32(np.inf), np.float32(0)
    for i in range(len(row)):
        x = row[i]
        out[i] = x if abs(x) < infinite else nothing


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _smooth_row(
    ring: np.ndarray, kernel: np.ndarray, j: int, ny: int, down: np.ndarray, out: np.ndarray
) -> None:
    """Row `j` of an image smoothed both ways, mirrored at its edges; its rows lie in turn in a ring of as many."""
    n, nx = len(kernel), len(out)
    r = n // 2
    own = down[r : r + nx]
    own[:] = 0
    for q in range(n):
        row = _mirrored(j + q - r, ny)
        k, line = kernel[q], ring[row % n]
        for i in range(nx):
            own[i] += k * line[i]
    for p in range(r):
        down[p] = own[_mirrored(p - r, nx)]
        down[r + nx + p] = own[_mirrored(nx + p, nx)]
    out[:] = 0
    for p in range(n):
        k, line = kernel[p], down[p : p + nx]
        for i in range(nx):
            out[i] += k * line[i]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _mirrored(i: int, n: int) -> int:
    """The pixel within an image that is shown for one beyond its edge: the edge itself once."""
    if n == 1:
        return 0
    i = abs(i) % (2 * n - 2)
    return min(i, 2 * n - 2 - i)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _bin(value: np.float32) -> int:
    if value < 4:
        return int(value * 8)
    return min(32 + int(8 * np.log2(value / 4)), _BINS - 1)

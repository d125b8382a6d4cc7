"""Hot and dead pixels of the sensor: single pixels that stay at their place while the sky moves."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np

from difflapse.mosaic import native_order

_BAND = 32
_LEAST_SIGMA = 4.0
"""A defect smaller than this many sigma of a single frame's pixel harms nothing."""


@dataclass(frozen=True, eq=False)
class Defects:
    """What is wrong with a sensor: defective pixels, native coordinates, and where it cuts the others."""

    x: np.ndarray
    """(n,) int64."""
    y: np.ndarray
    """(n,) int64."""
    cut_adu: float | None = None
    """The level at which the night's frames show that pixels are cut; None where they do not."""
    header_holds: bool = True
    """Whether the frames leave it possible that pixels saturate where their headers say."""

    def __len__(self) -> int:
        return len(self.x)

    def inner(self, shape: tuple[int, int]) -> tuple[int, int, int, int]:
        """First and last column, first and last row, of what whole columns and rows at the edges leave of (ny, nx)."""
        ny, nx = shape
        columns = np.bincount(self.x, minlength=nx) >= ny
        rows = np.bincount(self.y, minlength=ny) >= nx
        if columns.all() or rows.all():
            return 0, nx - 1, 0, ny - 1
        x, y = np.flatnonzero(~columns), np.flatnonzero(~rows)
        return int(x[0]), int(x[-1]), int(y[0]), int(y[-1])

    @classmethod
    def none(cls) -> Defects:
        """A perfect sensor."""
        empty = np.zeros(0, np.int64)
        return cls(empty, empty)


def find_defects(
    frames: Sequence[np.ndarray], pattern: str, threshold: float = 6.0, threads: int = 1
) -> Defects:
    """Find hot and dead pixels, and dead borders, from several frames of a night, before anything is moved.

    Parameters
    ----------
    frames : sequence of ndarray, shape (ny, nx)
        Two or more frames of one sensor, best spread over the night.
    pattern : str
        Mosaic in array order; empty for monochrome.
    threshold : float
        Excess over the neighbours of the same colour, in units of its robust width, that a defect must have
        in all but one frame.
    threads : int
        Threads to work in; the result is the same.

    Returns
    -------
    Defects

    Notes
    -----
    The second lowest value of each pixel over the frames (the lowest of two or three) keeps what persists; a
    star that drifts by more than its width vanishes from it. What is left must stand above its eight
    neighbours of the same colour, and above their own scatter; and in each single frame (but one, of four or
    more) the four pixels that touch it must be cold (but one, where the sky has moved away under the stars: defects
    come in pairs): a star spreads its light over them, whatever its
    colour, a defect does not. Dead pixels are the same upside down. Rows and columns at the edges whose level
    departs from the sensor's by more than the noise of a pixel are left out whole.
    """
    if len(frames) < 2:
        return Defects.none()
    step = 2 if pattern else 1
    native = [native_order(frame) for frame in frames]
    rank = 1 if len(frames) >= 4 else 0
    least = 0.5 if native[0].dtype.kind in "iu" else 0.0
    grain = np.float32(_LEAST_SIGMA * _grain(native[0], step))
    with ThreadPoolExecutor(threads) as pool:
        low, high = _persistent(native, rank, pool)
        ny, nx = low.shape
        touching = 1 if rank and _sky_moves(native, low) else 0

        def beyond(image: np.ndarray, sign: np.float32) -> np.ndarray:
            width = _width_map(image, step, sign, least)
            candidates = _candidates(image, step, sign, width, np.float32(threshold), grain)
            votes = np.zeros(len(candidates), np.int64)
            noise = width[1][
                (candidates // nx) * width.shape[1] // ny, (candidates % nx) * width.shape[2] // nx
            ]
            for frame in native:
                votes += _stands_alone(frame, candidates, noise, step, sign, touching)
            return candidates[votes >= len(frames) - rank]

        found = [*pool.map(beyond, (low, high), (np.float32(1), np.float32(-1))), _border(low, step)]
    keep = np.unique(np.concatenate(found))
    return Defects(keep % nx, keep // nx)


def _persistent(
    frames: Sequence[np.ndarray], rank: int, pool: ThreadPoolExecutor
) -> tuple[np.ndarray, np.ndarray]:
    """Second (or first) lowest and highest value of each pixel, after taking each frame's own level off."""
    levels = np.array(
        [[[np.nanmedian(frame[r::16, c::16]) for c in (0, 1)] for r in (0, 1)] for frame in frames],
        np.float32,
    )
    low = np.empty(frames[0].shape, np.float32)
    high = np.empty(frames[0].shape, np.float32)

    def one(j: int) -> None:
        _rank_band(np.stack([frame[j : j + _BAND] for frame in frames]), levels, rank, low, high, j)

    list(pool.map(one, range(0, len(low), _BAND)))
    return low, high


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _rank_band(
    stack: np.ndarray, levels: np.ndarray, rank: int, low: np.ndarray, high: np.ndarray, j0: int
) -> None:
    n, h, nx = stack.shape
    for j in range(h):
        a0 = np.full(nx, np.inf, np.float32)
        a1 = np.full(nx, np.inf, np.float32)
        b0 = np.full(nx, -np.inf, np.float32)
        b1 = np.full(nx, -np.inf, np.float32)
        r = (j0 + j) & 1
        for k in range(n):
            even, odd = levels[k, r, 0], levels[k, r, 1]
            row = stack[k, j]
            for i in range(nx):
                v = np.float32(row[i]) - (odd if i & 1 else even)
                a1[i] = min(a1[i], max(a0[i], v))
                a0[i] = min(a0[i], v)
                b1[i] = max(b1[i], min(b0[i], v))
                b0[i] = max(b0[i], v)
        for i in range(nx):
            low[j0 + j, i] = a1[i] if rank else a0[i]
            high[j0 + j, i] = b1[i] if rank else b0[i]


def _sky_moves(frames: Sequence[np.ndarray], low: np.ndarray) -> bool:
    """Whether the brightest pixels of a frame are dark in what persists."""
    first = frames[0].astype(np.float32)
    first -= np.median(first[::7, ::5])
    bright = np.flatnonzero(first > np.percentile(first[::3, ::3], 99.9))
    ratio = low.reshape(-1)[bright] / np.maximum(first.reshape(-1)[bright], 1e-6)
    return bool(len(bright) >= 20 and np.median(ratio) < 0.1)


def _grain(frame: np.ndarray, step: int) -> float:
    """Noise of a single frame's pixel, from neighbours of the same colour."""
    steps = frame[::5, step::3].astype(np.float32) - frame[::5, :-step:3].astype(np.float32)
    return float(1.4826 * np.nanmedian(np.abs(steps - np.nanmedian(steps))) / np.sqrt(2))


def _border(low: np.ndarray, step: int, depth: int = 16) -> np.ndarray:
    """Flat indices of the rows and columns at the edges that are darker or brighter than the sensor."""
    ny, nx = low.shape
    bad = np.zeros(low.shape, bool)
    if ny < 6 * depth or nx < 6 * depth:
        return np.zeros(0, np.int64)
    noise = 1.4826 * np.median(np.abs(low[::5, step::7] - low[::5, :-step:7])) / np.sqrt(2)
    for axis in (0, 1):
        image = low if axis == 0 else low.T
        target = bad if axis == 0 else bad.T
        for end in (1, -1):
            lines = image[::end][: 3 * depth]
            level = np.median(lines[:, :: max(1, lines.shape[1] // 1000)], axis=1)
            inner = np.arange(depth, 3 * depth)
            wrong = []
            for line in range(depth):
                # A straight line through the same colour's inner rows: vignetting is no defect.
                same = inner[inner % step == line % step]
                slope, base = np.polyfit(same, level[same], 1)
                if np.abs(level[same] - (base + slope * same)).max() > noise:
                    return np.zeros(0, np.int64)  # the scene itself reaches the edge: nothing can be said
                wrong.append(abs(level[line] - (base + slope * line)) > 1.5 * noise + 1e-6)
            count = next((n for n in range(depth) if not any(wrong[n : n + step])), 0)
            if count:
                target[::end][:count] = True
    return np.flatnonzero(bad)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _excess(image: np.ndarray, j: int, i: int, step: int, sign: np.float32) -> tuple[np.float32, np.float32]:
    """A pixel (times sign) minus the third highest of its eight neighbours of the same colour; their spread."""
    ny, nx = image.shape
    a = np.float32(-np.inf)
    b = a
    c = a
    p = np.float32(np.inf)
    q = p
    r = p
    for dj in range(-step, step + 1, step):
        v = j + dj
        if v < 0 or v >= ny:
            v = j - dj
        for di in range(-step, step + 1, step):
            if di == 0 and dj == 0:
                continue
            u = i + di
            if u < 0 or u >= nx:
                u = i - di
            w = sign * image[v, u]
            x = min(a, w)
            a = max(a, w)
            y = min(b, x)
            b = max(b, x)
            c = max(c, y)
            x = max(p, w)
            p = min(p, w)
            y = max(q, x)
            q = min(q, x)
            r = min(r, y)
    return sign * image[j, i] - c, c - r


def _width_map(image: np.ndarray, step: int, sign: np.float32, least: float) -> np.ndarray:
    """Median and robust width, at least `least`, of the excess on coarse cells: (2, cy, cx)."""
    ny, nx = image.shape
    cy, cx = max(1, min(16, ny // 64)), max(1, min(16, nx // 64))
    out = np.empty((2, cy, cx), np.float32)
    for j in range(cy):
        for i in range(cx):
            rows = (j * ny // cy, (j + 1) * ny // cy)
            columns = (i * nx // cx, (i + 1) * nx // cx)
            stride = max(1, int(np.sqrt((rows[1] - rows[0]) * (columns[1] - columns[0]) / 3000)) | 1)
            cell = _sample_excess(image, *rows, *columns, stride, step, sign)
            cell = cell[np.isfinite(cell)]
            if cell.size < 8:
                out[:, j, i] = (0, np.inf)
                continue
            low, mid, high = np.percentile(cell, [15.87, 50, 84.13])
            out[:, j, i] = (mid, max(float(mid - low), float(high - low) / 2, least))
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sample_excess(
    image: np.ndarray, j0: int, j1: int, i0: int, i1: int, stride: int, step: int, sign: np.float32
) -> np.ndarray:
    out = []
    for j in range(j0, j1, stride):
        for i in range(i0, i1, stride):
            out.append(_excess(image, j, i, step, sign)[0])
    return np.array(out, np.float32)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _candidates(
    image: np.ndarray,
    step: int,
    sign: np.float32,
    width: np.ndarray,
    threshold: np.float32,
    least: np.float32,
) -> np.ndarray:
    """Flat indices of pixels that stand above their neighbours of the same colour, and above those's scatter."""
    ny, nx = image.shape
    _, cy, cx = width.shape
    out = []
    for j in range(ny):
        a = j * cy // ny
        above = image[j - step if j >= step else j + step]
        below = image[j + step if j + step < ny else j - step]
        row = image[j]
        for i in range(nx):
            # Two of eight neighbours may be as bright: three of these four end it, nearly always.
            limit = sign * row[i] - least
            left = row[i - step if i >= step else i + step]
            right = row[i + step if i + step < nx else i - step]
            close = int(sign * left > limit) + int(sign * right > limit) + int(sign * above[i] > limit)
            if close + int(sign * below[i] > limit) >= 3:
                continue
            b = i * cx // nx
            excess, spread = _excess(image, j, i, step, sign)
            needed = max(max(threshold * width[1, a, b], np.float32(3) * spread), least)
            if excess - width[0, a, b] > needed:
                out.append(j * nx + i)
    return np.array(out, np.int64)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _stands_alone(
    frame: np.ndarray, candidates: np.ndarray, noise: np.ndarray, step: int, sign: np.float32, touching: int
) -> np.ndarray:
    """For each candidate, whether at most `touching` of the four pixels around it share a tenth of its excess."""
    ny, nx = frame.shape
    votes = np.zeros(len(candidates), np.int64)
    around = np.empty(8, np.float32)
    touch_j = (0, -1, 1, 0, 0)
    touch_i = (0, 0, 0, -1, 1)
    for k in range(len(candidates)):
        j0, i0 = candidates[k] // nx, candidates[k] % nx
        peak = np.float32(0)
        cold = 0
        for t in range(5):
            j, i = j0 + touch_j[t], i0 + touch_i[t]
            if j < 0 or j >= ny or i < 0 or i >= nx:
                cold += 1
                continue
            n = 0
            for dj in range(-step, step + 1, step):
                for di in range(-step, step + 1, step):
                    v, u = j + dj, i + di
                    if (dj == 0 and di == 0) or v < 0 or v >= ny or u < 0 or u >= nx or (v == j0 and u == i0):
                        continue
                    around[n] = np.float32(frame[v, u])
                    n += 1
            value = sign * (np.float32(frame[j, i]) - np.median(around[:n]))
            if t == 0:
                peak = value
            elif value < np.float32(0.1) * peak + np.float32(2) * noise[k]:
                cold += 1
        if peak > np.float32(2) * noise[k] and cold >= 4 - touching:
            votes[k] = 1
    return votes

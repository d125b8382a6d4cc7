"""Hot and dead pixels of the sensor: single pixels that stay at their place while the sky moves."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np

from difflapse.mosaic import native_order

_BAND = 64
"""Rows that are looked at together."""
_SIGNS = (np.float32(1), np.float32(-1))
"""Too bright, too dark."""
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
    native = tuple(native_order(frame) for frame in frames)
    rank = 1 if len(frames) >= 4 else 0
    least = 0.5 if native[0].dtype.kind in "iu" else 0.0
    grain = np.float32(_LEAST_SIGMA * _grain(native[0], step))
    sky = _Persistent.of(native, rank)
    ny, nx = native[0].shape
    with ThreadPoolExecutor(threads) as pool:
        widths = _width_maps(sky, step, least, pool)
        touching = 1 if rank and _sky_moves(sky) else 0
        bands = list(pool.map(lambda j: _beyond(sky, j, step, widths, threshold, grain), range(0, ny, _BAND)))
        found = [_border(sky, step)]
        for width, sign, parts in zip(widths, _SIGNS, zip(*bands, strict=True), strict=True):
            candidates = np.concatenate(parts)
            noise = width[1][
                (candidates // nx) * width.shape[1] // ny, (candidates % nx) * width.shape[2] // nx
            ]
            votes = np.zeros(len(candidates), np.int64)
            for frame in native:
                votes += _stands_alone(frame, candidates, noise, step, sign, touching)
            found.append(candidates[votes >= len(frames) - rank])
    keep = np.unique(np.concatenate(found))
    return Defects(keep % nx, keep // nx)


@dataclass(frozen=True, eq=False)
class _Persistent:
    """Second (or first) lowest and highest value of each pixel over the frames, each frame's own level taken off.

    Made of some rows at a time: of all of them they would take more memory than the frames.
    """

    frames: tuple[np.ndarray, ...]
    levels: np.ndarray
    """(n, 2, 2) float32: of even and odd rows and columns."""
    rank: int

    @classmethod
    def of(cls, frames: tuple[np.ndarray, ...], rank: int) -> _Persistent:
        """From frames of one sensor."""
        levels = [[[np.nanmedian(f[r::16, c::16]) for c in (0, 1)] for r in (0, 1)] for f in frames]
        return cls(frames, np.array(levels, np.float32), rank)

    @property
    def shape(self) -> tuple[int, int]:
        """Of a frame."""
        ny, nx = self.frames[0].shape
        return ny, nx

    def rows(self, rows: np.ndarray | slice, columns: slice = slice(None)) -> np.ndarray:
        """(2, h, w) float32: what persists in these rows and columns, from below and from above."""
        stack = np.stack([frame[rows, columns] for frame in self.frames])
        out = np.empty((2, *stack.shape[1:]), np.float32)
        ny, nx = self.shape
        _rank_rows(stack, self.levels, self.rank, np.arange(ny)[rows] & 1, columns.indices(nx)[0] & 1, out)
        return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _rank_rows(
    stack: np.ndarray, levels: np.ndarray, rank: int, odd_rows: np.ndarray, odd_first: int, out: np.ndarray
) -> None:
    n, h, nx = stack.shape
    for j in range(h):
        a0 = np.full(nx, np.inf, np.float32)
        a1 = np.full(nx, np.inf, np.float32)
        b0 = np.full(nx, -np.inf, np.float32)
        b1 = np.full(nx, -np.inf, np.float32)
        r = odd_rows[j]
        for k in range(n):
            even, odd = levels[k, r, odd_first], levels[k, r, 1 - odd_first]
            row = stack[k, j]
            for i in range(nx):
                v = np.float32(row[i]) - (odd if i & 1 else even)
                a1[i] = min(a1[i], max(a0[i], v))
                a0[i] = min(a0[i], v)
                b1[i] = max(b1[i], min(b0[i], v))
                b0[i] = max(b0[i], v)
        for i in range(nx):
            out[0, j, i] = a1[i] if rank else a0[i]
            out[1, j, i] = b1[i] if rank else b0[i]


def _beyond(
    sky: _Persistent, first: int, step: int, widths: np.ndarray, threshold: float, grain: np.float32
) -> list[np.ndarray]:
    """Candidates of a band of rows, flat indices: those that are too bright, and those that are too dark."""
    ny, _ = sky.shape
    top, end = max(0, first - step), min(ny, first + _BAND + step)
    persists = sky.rows(slice(top, end))
    return [
        _candidates(
            image, top, (first, min(ny, first + _BAND)), ny, step, sign, width, np.float32(threshold), grain
        )
        for image, width, sign in zip(persists, widths, _SIGNS, strict=True)
    ]


def _sky_moves(sky: _Persistent) -> bool:
    """Whether the brightest pixels of a frame are dark in what persists."""
    first = sky.frames[0]
    bright = np.flatnonzero(first > np.percentile(first[::3, ::3], 99.9))
    if len(bright) < 20:
        return False
    y, x = np.divmod(bright, first.shape[1])
    values = [
        f[y, x].astype(np.float32) - own[y & 1, x & 1] for f, own in zip(sky.frames, sky.levels, strict=True)
    ]
    low = np.partition(np.stack(values), sky.rank, axis=0)[sky.rank]
    return bool(np.median(low / np.maximum(values[0], 1e-6)) < 0.1)


def _grain(frame: np.ndarray, step: int) -> float:
    """Noise of a single frame's pixel, from neighbours of the same colour."""
    steps = frame[::5, step::3].astype(np.float32) - frame[::5, :-step:3].astype(np.float32)
    return float(1.4826 * np.nanmedian(np.abs(steps - np.nanmedian(steps))) / np.sqrt(2))


def _border(sky: _Persistent, step: int, depth: int = 16) -> np.ndarray:
    """Flat indices of the rows and columns at the edges that are darker or brighter than the sensor."""
    ny, nx = sky.shape
    bad = np.zeros(sky.shape, bool)
    if ny < 6 * depth or nx < 6 * depth:
        return np.zeros(0, np.int64)
    some = sky.rows(slice(None, None, max(ny // 150, 1)))[0]
    noise = 1.4826 * np.median(np.abs(some[:, step::7] - some[:, :-step:7])) / np.sqrt(2)
    near, far = slice(0, 3 * depth), slice(-3 * depth, None)
    columns = [sky.rows(slice(None, None, max(1, ny // 1000)), part)[0].T for part in (near, far)]
    ends = [(bad, sky.rows(part)[0], part is far) for part in (near, far)]
    for target, edge, flipped in [*ends, (bad.T, columns[0], False), (bad.T, columns[1], True)]:
        lines = edge[::-1] if flipped else edge
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
            (target[::-1] if flipped else target)[:count] = True
    return np.flatnonzero(bad)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _excess(
    above: np.ndarray, row: np.ndarray, below: np.ndarray, i: int, step: int, sign: np.float32
) -> tuple[np.float32, np.float32]:
    """A pixel (times sign) minus the third highest of its eight neighbours of the same colour; their spread."""
    nx = len(row)
    a = np.float32(-np.inf)
    b = a
    c = a
    p = np.float32(np.inf)
    q = p
    r = p
    for way in range(3):
        line = above if way == 0 else row if way == 1 else below
        for di in range(-step, step + 1, step):
            if di == 0 and way == 1:
                continue
            u = i + di
            if u < 0 or u >= nx:
                u = i - di
            w = sign * line[u]
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
    return sign * row[i] - c, c - r


def _width_maps(sky: _Persistent, step: int, least: float, pool: ThreadPoolExecutor) -> np.ndarray:
    """Median and robust width, at least `least`, of the excess on coarse cells, for both signs: (2, 2, cy, cx)."""
    ny, nx = sky.shape
    cy, cx = max(1, min(16, ny // 64)), max(1, min(16, nx // 64))
    out = np.empty((2, 2, cy, cx), np.float32)
    stride = max(1, int(np.sqrt((ny // cy) * (nx // cx) / 3000)) | 1)

    def one(j: int) -> None:
        rows = np.arange(j * ny // cy, (j + 1) * ny // cy, stride)
        above, below = np.where(rows >= step, rows - step, rows + step), rows + step
        below[below >= ny] -= 2 * step
        lines = sky.rows(np.concatenate([above, rows, below])).reshape(2, 3, len(rows), nx)
        for sign, way, maps in zip(_SIGNS, lines, out, strict=True):
            excess = _sample_excess(way, step, sign, stride)
            for i in range(cx):
                first, end = -(-(i * nx // cx) // stride), -(-((i + 1) * nx // cx) // stride)
                cell = excess[:, first:end]
                cell = cell[np.isfinite(cell)]
                if cell.size < 8:
                    maps[:, j, i] = (0, np.inf)
                    continue
                low, mid, high = np.percentile(cell, [15.87, 50, 84.13])
                maps[:, j, i] = (mid, max(float(mid - low), float(high - low) / 2, least))

    list(pool.map(one, range(cy)))
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sample_excess(lines: np.ndarray, step: int, sign: np.float32, stride: int) -> np.ndarray:
    """The excess of every `stride`-th pixel of some rows, from (3, h, nx): those above, themselves, those below."""
    _, h, nx = lines.shape
    out = np.empty((h, (nx + stride - 1) // stride), np.float32)
    for j in range(h):
        for i in range(out.shape[1]):
            out[j, i] = _excess(lines[0, j], lines[1, j], lines[2, j], i * stride, step, sign)[0]
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _candidates(
    image: np.ndarray,
    top: int,
    rows: tuple[int, int],
    ny: int,
    step: int,
    sign: np.float32,
    width: np.ndarray,
    threshold: np.float32,
    least: np.float32,
) -> np.ndarray:
    """Flat indices of pixels that stand above their neighbours of the same colour, and above those's scatter.

    They are looked for in `rows` (first, end) of `ny`; the first of `image` is row `top`.
    """
    nx = image.shape[1]
    _, cy, cx = width.shape
    out = []
    for j in range(rows[0], rows[1]):
        a = j * cy // ny
        above = image[(j - step if j >= step else j + step) - top]
        below = image[(j + step if j + step < ny else j - step) - top]
        row = image[j - top]
        for i in range(nx):
            # Two of eight neighbours may be as bright: three of these four end it, nearly always.
            limit = sign * row[i] - least
            left = row[i - step if i >= step else i + step]
            right = row[i + step if i + step < nx else i - step]
            close = int(sign * left > limit) + int(sign * right > limit) + int(sign * above[i] > limit)
            if close + int(sign * below[i] > limit) >= 3:
                continue
            b = i * cx // nx
            excess, spread = _excess(above, row, below, i, step, sign)
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

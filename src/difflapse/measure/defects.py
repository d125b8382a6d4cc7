"""Hot and dead pixels of the sensor: single pixels that stay at their place while the sky moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np

_LEAST_SIGMA = 4.0
"""A defect smaller than this many sigma of a single frame's pixel harms nothing."""


@dataclass(frozen=True, eq=False)
class Defects:
    """Defective pixels of a sensor, native coordinates."""

    x: np.ndarray
    """(n,) int64."""
    y: np.ndarray
    """(n,) int64."""

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def none(cls) -> Defects:
        """A perfect sensor."""
        empty = np.zeros(0, np.int64)
        return cls(empty, empty)


def find_defects(frames: Sequence[np.ndarray], pattern: str, threshold: float = 6.0) -> Defects:
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

    Returns
    -------
    Defects

    Notes
    -----
    The second lowest value of each pixel over the frames (the lowest of two or three) keeps what persists; a
    star that drifts by more than its width vanishes from it. What is left must stand above its eight
    neighbours of the same colour, and above their own scatter; and in each single frame (but one, of four or
    more) most of the four pixels that touch it must be cold: a star spreads its light over them, whatever its
    colour, a defect does not. Dead pixels are the same upside down. Rows and columns at the edges whose level
    departs from the sensor's by more than the noise of a pixel are left out whole.
    """
    if len(frames) < 2:
        return Defects.none()
    step = 2 if pattern else 1
    native = [f if f.dtype.isnative else f.astype(f.dtype.newbyteorder("=")) for f in frames]
    rank = 1 if len(frames) >= 4 else 0
    low, high = _persistent(native, rank)
    grain = np.float32(_LEAST_SIGMA * _grain(native[0], step))
    ny, nx = low.shape
    found = [_border(low, step)]
    for image, sign in ((low, 1.0), (high, -1.0)):
        excess, scatter = _excess(image, step, np.float32(sign))
        width = _width_map(excess, 0.5 if native[0].dtype.kind in "iu" else 0.0)
        candidates = _candidates(excess, scatter, width, np.float32(threshold), grain)
        votes = np.zeros(len(candidates), np.int64)
        noise = width[1][(candidates // nx) * width.shape[1] // ny, (candidates % nx) * width.shape[2] // nx]
        for frame in native:
            votes += _stands_alone(frame, candidates, noise, step, np.float32(sign))
        found.append(candidates[votes >= len(frames) - rank])
    keep = np.unique(np.concatenate(found))
    return Defects(keep % nx, keep // nx)


def _persistent(frames: Sequence[np.ndarray], rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Second (or first) lowest and highest value of each pixel, after taking each frame's own level off."""
    shape = frames[0].shape
    low = [np.full(shape, np.inf, np.float32) for _ in range(rank + 1)]
    high = [np.full(shape, -np.inf, np.float32) for _ in range(rank + 1)]
    for frame in frames:
        level = np.array([[np.nanmedian(frame[r::16, c::16]) for c in (0, 1)] for r in (0, 1)], np.float32)
        _insert(frame, level, low[0], low[-1], high[0], high[-1], rank)
    return low[-1], high[-1]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _insert(
    frame: np.ndarray,
    level: np.ndarray,
    low0: np.ndarray,
    low1: np.ndarray,
    high0: np.ndarray,
    high1: np.ndarray,
    rank: int,
) -> None:
    ny, nx = frame.shape
    for j in range(ny):
        even, odd = level[j & 1, 0], level[j & 1, 1]
        for i in range(nx):
            v = np.float32(frame[j, i]) - (odd if i & 1 else even)
            if rank == 0:
                low0[j, i] = min(low0[j, i], v)
                high0[j, i] = max(high0[j, i], v)
            else:
                a = low0[j, i]
                low1[j, i] = min(low1[j, i], max(a, v))
                low0[j, i] = min(a, v)
                b = high0[j, i]
                high1[j, i] = max(high1[j, i], min(b, v))
                high0[j, i] = max(b, v)


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
def _excess(image: np.ndarray, step: int, sign: np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel (times sign) minus the third highest of its 8 neighbours of the same colour; and spread."""
    ny, nx = image.shape
    out = np.empty((ny, nx), np.float32)
    spread = np.empty((ny, nx), np.float32)
    for j in range(ny):
        for i in range(nx):
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
            out[j, i] = sign * image[j, i] - c
            spread[j, i] = c - r
    return out, spread


def _width_map(excess: np.ndarray, least: float) -> np.ndarray:
    """Median and robust width (`least` or more) of the excess on coarse cells: (2, cy, cx)."""
    ny, nx = excess.shape
    cy, cx = max(1, min(16, ny // 64)), max(1, min(16, nx // 64))
    out = np.empty((2, cy, cx), np.float32)
    for j in range(cy):
        for i in range(cx):
            cell = excess[j * ny // cy : (j + 1) * ny // cy : 3, i * nx // cx : (i + 1) * nx // cx]
            cell = cell[np.isfinite(cell)]
            if cell.size < 8:
                out[:, j, i] = (0, np.inf)
                continue
            low, mid, high = np.percentile(cell[:: max(1, cell.size // 8000)], [15.87, 50, 84.13])
            out[:, j, i] = (mid, max(float(mid - low), float(high - low) / 2, least))
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _candidates(
    excess: np.ndarray, spread: np.ndarray, width: np.ndarray, threshold: np.float32, least: np.float32
) -> np.ndarray:
    """Flat indices of pixels above their neighbours of the same colour by more than these scatter."""
    ny, nx = excess.shape
    _, cy, cx = width.shape
    out = []
    for j in range(ny):
        a = j * cy // ny
        for i in range(nx):
            b = i * cx // nx
            limit = max(max(threshold * width[1, a, b], np.float32(3) * spread[j, i]), least)
            if excess[j, i] - width[0, a, b] > limit:
                out.append(j * nx + i)
    return np.array(out, np.int64)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _stands_alone(
    frame: np.ndarray, candidates: np.ndarray, noise: np.ndarray, step: int, sign: np.float32
) -> np.ndarray:
    """Whether three of the four pixels that touch a candidate share less than a tenth of its excess."""
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
        if peak > np.float32(2) * noise[k] and cold >= 3:
            votes[k] = 1
    return votes

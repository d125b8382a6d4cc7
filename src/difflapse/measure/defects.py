"""Hot and dead pixels of the sensor: what stays at its place while the sky moves, and is a single pixel wide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np


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
    """Find hot and dead pixels from several frames of a night, before anything is moved.

    Parameters
    ----------
    frames : sequence of ndarray, shape (ny, nx)
        Two or more frames of one sensor, best spread over the night.
    pattern : str
        Mosaic in array order; empty for monochrome.
    threshold : float
        Excess over the neighbours of the same colour, in units of its robust width, that a defect must have in all
        but one frame.

    Returns
    -------
    Defects

    Notes
    -----
    The second lowest value of each pixel over the frames (the lowest of two or three) keeps what persists; a star that
    drifts by more than its width vanishes from it. What is left must stand above the median of its eight neighbours of the same
    colour *and* leave most of the four pixels that touch it cold: a star that does not move spreads its light over
    them, whatever its colour, a defect does not. Dead pixels are the same upside down.
    """
    if len(frames) < 2:
        return Defects.none()
    step = 2 if pattern else 1
    rank = 1 if len(frames) >= 4 else 0
    low, high = _persistent(frames, rank)
    xs, ys = [], []
    for image, sign in ((low, 1.0), (high, -1.0)):
        excess = _excess(image, step, np.float32(sign))
        width = _width_map(excess, step)
        y, x = _candidates(excess, width, np.float32(threshold), step)
        xs.append(x)
        ys.append(y)
    x, y = np.concatenate(xs), np.concatenate(ys)
    keep = np.unique(y * low.shape[1] + x)
    return Defects(keep % low.shape[1], keep // low.shape[1])


def _persistent(frames: Sequence[np.ndarray], rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Second (or first) lowest and highest value of each pixel, after taking each frame's own level off."""
    shape = frames[0].shape
    low = [np.full(shape, np.inf, np.float32) for _ in range(rank + 1)]
    high = [np.full(shape, -np.inf, np.float32) for _ in range(rank + 1)]
    for frame in frames:
        native = frame if frame.dtype.isnative else frame.astype(frame.dtype.newbyteorder("="))
        level = np.array([[np.nanmedian(native[r::16, c::16]) for c in (0, 1)] for r in (0, 1)], np.float32)
        _insert(native, level, low[0], low[-1], high[0], high[-1], rank)
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
        for i in range(nx):
            v = np.float32(frame[j, i]) - level[j & 1, i & 1]
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


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _excess(image: np.ndarray, step: int, sign: np.float32) -> np.ndarray:
    """Each pixel (times sign) minus the third highest of its eight neighbours of the same colour."""
    ny, nx = image.shape
    out = np.empty((ny, nx), np.float32)
    for j in range(ny):
        for i in range(nx):
            a = np.float32(-np.inf)
            b = a
            c = a
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
                    if w > a:
                        c = b
                        b = a
                        a = w
                    elif w > b:
                        c = b
                        b = w
                    elif w > c:
                        c = w
            out[j, i] = sign * image[j, i] - c
    return out


def _width_map(excess: np.ndarray, step: int) -> np.ndarray:
    """Median and robust width of the excess on coarse cells: (2, cy, cx)."""
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
            out[:, j, i] = (mid, max(float(mid - low), float(high - low) / 2, 0.5))
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _is_single(excess: np.ndarray, j: int, i: int, limit: np.float32, noise: np.float32) -> bool:
    """Whether two or more of the four touching pixels are cold."""
    ny, nx = excess.shape
    cold = 0
    for dj, di in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        v, u = j + dj, i + di
        if v < 0 or v >= ny or u < 0 or u >= nx or excess[v, u] < limit + noise:
            cold += 1
    return cold >= 3


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _candidates(excess: np.ndarray, width: np.ndarray, threshold: np.float32, step: int) -> tuple[np.ndarray, np.ndarray]:
    ny, nx = excess.shape
    _, cy, cx = width.shape
    xs = []
    ys = []
    for j in range(ny):
        for i in range(nx):
            a, b = j * cy // ny, i * cx // nx
            w = width[1, a, b]
            e = excess[j, i] - width[0, a, b]
            if e > threshold * w and _is_single(excess, j, i, width[0, a, b] + np.float32(0.08) * e, np.float32(2) * w):
                xs.append(i)
                ys.append(j)
    return np.array(ys, np.int64), np.array(xs, np.int64)

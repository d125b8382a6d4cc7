"""Filling bad pixels, so that no filter spreads them; they stay marked as bad."""

from __future__ import annotations

import numba
import numpy as np

_BLOCK = 1024


def find_saturated(data: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Native pixels (x, y) at and above the saturation level, as int64 arrays."""
    index = at_least(np.ascontiguousarray(data).reshape(-1), level)
    return index % data.shape[1], index // data.shape[1]


def repair(data: np.ndarray, x: np.ndarray, y: np.ndarray, step: int) -> np.ndarray:
    """Replace pixels by the mean of their good neighbours of the same colour, in place.

    Parameters
    ----------
    data : ndarray, shape (ny, nx)
        Native pixels; changed.
    x, y : ndarray of int, shape (n,)
        The bad pixels.
    step : int
        Distance to the next pixel of the same colour: 2 for a mosaic, 1 for monochrome.

    Returns
    -------
    ndarray
        `data` itself. A pixel without a good neighbour takes the median of its rows' good pixels, or 0.
    """
    if len(x) == 0:
        return data
    ny, nx = data.shape
    bad = np.zeros((ny + 2 * step, nx + 2 * step), bool)
    bad[:step] = bad[-step:] = True
    bad[:, :step] = bad[:, -step:] = True
    bad[y + step, x + step] = True
    total = np.zeros(len(x))
    count = np.zeros(len(x))
    for dy in (-step, 0, step):
        for dx in (-step, 0, step):
            if dx == 0 and dy == 0:
                continue
            u, v = x + dx, y + dy
            good = ~bad[v + step, u + step]
            total[good] += data[v[good], u[good]]
            count[good] += 1
    lonely = count == 0
    if lonely.any():
        inner = ~bad[step:-step, step:-step]
        sample = data[::7, ::5][inner[::7, ::5]]
        total[lonely] = float(np.median(sample)) if sample.size else 0.0
        count[lonely] = 1
    value = total / count
    data[y, x] = np.round(value) if data.dtype.kind in "iu" else value
    return data


def at_least(values: np.ndarray, level: float) -> np.ndarray:
    """Flat indices, ascending, of the values at and above a level."""
    n = len(values) // _BLOCK
    blocks = np.arange(-(-len(values) // _BLOCK))
    if values.dtype.kind in "iu":
        # Blocks without such a pixel, nearly all, are passed over at the speed of memory.
        tops = values[: n * _BLOCK].reshape(n, _BLOCK).max(axis=1)
        blocks = np.append(np.flatnonzero(tops >= level), blocks[n:])
    return _at_least_in(values, level, blocks)  # type: ignore[no-any-return]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _at_least_in(values: np.ndarray, level: float, blocks: np.ndarray) -> np.ndarray:
    """Flat indices, ascending, of the values of some blocks."""
    out = []
    for b in blocks:
        for k in range(b * _BLOCK, min((b + 1) * _BLOCK, len(values))):
            if values[k] >= level:
                out.append(k)
    return np.array(out, np.int64)

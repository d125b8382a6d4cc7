"""Medians over a stack of images, all pixels of a row at once."""

from __future__ import annotations

import numba
import numpy as np

from difflapse.mosaic.network import sort_rows, sorting_network


def stack_medians(stack: np.ndarray) -> np.ndarray:
    """Median of each pixel over a stack (n, ny, nx) float32, (ny, nx) float32; NaN does not count, unless it is all."""
    out = np.empty(stack.shape[1:], np.float32)
    _stack_medians(np.ascontiguousarray(stack, np.float32), sorting_network(len(stack)), out)
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _stack_medians(stack: np.ndarray, pairs: np.ndarray, out: np.ndarray) -> None:
    n, ny, nx = stack.shape
    values, good = np.empty((n, nx), np.float32), np.empty(nx, np.int32)
    for j in range(ny):
        good[:] = 0
        for k in range(n):
            row, to = stack[k, j], values[k]
            for i in range(nx):
                seen = row[i] == row[i]
                to[i] = row[i] if seen else np.float32(np.inf)
                good[i] += seen
        sort_rows(values, pairs)
        for i in range(nx):
            m = good[i]
            out[j, i] = (
                np.float32(0.5) * (values[(m - 1) // 2, i] + values[m // 2, i]) if m else np.float32(np.nan)
            )

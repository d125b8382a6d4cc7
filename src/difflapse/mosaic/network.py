"""Sorting networks: rows of values are sorted side by side, for nothing is asked of the values that go before."""

from __future__ import annotations

import functools

import numba
import numpy as np


@functools.lru_cache(maxsize=8)
def sorting_network(n: int) -> np.ndarray:
    """Pairs (m, 2) of places, the first below the second, that sort `n` values where each is put in order in turn.

    References
    ----------
    Batcher's odd-even merging, for any n: Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M.
    """
    pairs = []
    top = 1 << max(n - 1, 1).bit_length() - 1
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(n - d) if i & p == r]
            if q == p:
                break
            q, r, d = q // 2, p, q - p
        p //= 2
    return np.array(pairs, np.int64).reshape(-1, 2)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def sort_rows(values: np.ndarray, pairs: np.ndarray) -> None:
    """Sort values (n, m) over the first axis, in place, by the network of n."""
    for p in range(len(pairs)):
        low, high = values[pairs[p, 0]], values[pairs[p, 1]]
        for i in range(len(low)):
            x, y = low[i], high[i]
            low[i] = y if y < x else x
            high[i] = x if y < x else y

"""Medians of many small sets of pixels at once: of cells of an image, or of the images of a stack."""

from __future__ import annotations

import functools

import numba
import numpy as np


def bin_medians(image: np.ndarray, bad: np.ndarray, factor: int) -> np.ndarray:
    """Median of cells of factor x factor pixels, so that stars in them hardly count.

    Parameters
    ----------
    image : ndarray, shape (ny, nx), float32
        Any image.
    bad : ndarray of bool, shape (ny, nx)
        Pixels that do not count.
    factor : int
        Side of a cell; rows and columns that fill none are dropped.

    Returns
    -------
    ndarray, shape (ny // factor, nx // factor), float32
        NaN where more than half of a cell is bad.
    """
    out = np.empty((image.shape[0] // factor, image.shape[1] // factor), np.float32)
    _median_cells(image, bad, factor, _comparisons(factor * factor), out)
    return out


def stack_medians(stack: np.ndarray) -> np.ndarray:
    """Median of each pixel of a stack (n, ny, nx) float32, (ny, nx) float32; NaN does not count, unless it is all."""
    out = np.empty(stack.shape[1:], np.float32)
    _stack_medians(np.ascontiguousarray(stack, np.float32), _comparisons(len(stack)), out)
    return out


@functools.lru_cache(maxsize=8)
def _comparisons(n: int) -> np.ndarray:
    """What to compare and swap, (m, 2), so that the middle of n values comes to its place: Batcher's sorting network
    without what the middle does not need.
    """
    pairs = []
    p = 1
    while p < n:
        k = p
        while k >= 1:
            for j in range(k % p, n - k, 2 * k):
                for i in range(j, j + min(k, n - j - k)):
                    if i // (2 * p) == (i + k) // (2 * p):
                        pairs.append((i, i + k))
            k //= 2
        p *= 2
    needed, kept = {(n - 1) // 2, n // 2}, []
    for pair in reversed(pairs):
        if needed.intersection(pair):
            needed.update(pair)
            kept.append(pair)
    return np.array(kept[::-1], np.int64).reshape(-1, 2)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _median_cells(
    image: np.ndarray, bad: np.ndarray, factor: int, comparisons: np.ndarray, out: np.ndarray
) -> None:
    """A row of cells is sorted at once, pixel against pixel; cells with bad pixels are then done one by one."""
    n, mx = factor * factor, out.shape[1]
    values = np.empty((n, mx), np.float32)
    hidden = np.empty(mx, np.uint8)
    few = np.empty(n, np.float32)
    for j in range(out.shape[0]):
        hidden[:] = 0
        for b in range(factor):
            row, flags = image[factor * j + b], bad[factor * j + b]
            for a in range(factor):
                to = values[factor * b + a]
                for i in range(mx):
                    to[i] = row[factor * i + a]
                for i in range(mx):
                    hidden[i] |= flags[factor * i + a]
        _sort_middle(values, comparisons)
        one, two = values[(n - 1) // 2], values[n // 2]
        for i in range(mx):
            out[j, i] = np.float32(0.5) * (one[i] + two[i])
        for i in range(mx):
            if hidden[i]:
                out[j, i] = _median_of_good(image, bad, factor, j, i, few)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _median_of_good(
    image: np.ndarray, bad: np.ndarray, factor: int, j: int, i: int, values: np.ndarray
) -> np.float32:
    """Median of the good pixels of one cell, NaN if they are less than half of it; `values` is room for sorting."""
    n = 0
    for b in range(factor * j, factor * (j + 1)):
        for a in range(factor * i, factor * (i + 1)):
            if not bad[b, a]:
                n = _insert(values, n, image[b, a])
    if 2 * n < factor * factor:
        return np.float32(np.nan)
    return np.float32(0.5) * (values[(n - 1) // 2] + values[n // 2])


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _stack_medians(stack: np.ndarray, comparisons: np.ndarray, out: np.ndarray) -> None:
    n, ny, nx = stack.shape
    values = np.empty((n, nx), np.float32)
    hidden = np.empty(nx, np.uint8)
    few = np.empty(n, np.float32)
    for j in range(ny):
        hidden[:] = 0
        for k in range(n):
            row, to = stack[k, j], values[k]
            for i in range(nx):
                to[i] = row[i]
                hidden[i] |= np.uint8(row[i] != row[i])
        _sort_middle(values, comparisons)
        one, two = values[(n - 1) // 2], values[n // 2]
        for i in range(nx):
            out[j, i] = np.float32(0.5) * (one[i] + two[i])
        for i in range(nx):
            if hidden[i]:
                m = 0
                for k in range(n):
                    if stack[k, j, i] == stack[k, j, i]:
                        m = _insert(few, m, stack[k, j, i])
                out[j, i] = np.float32(0.5) * (few[(m - 1) // 2] + few[m // 2]) if m else np.float32(np.nan)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _sort_middle(values: np.ndarray, comparisons: np.ndarray) -> None:
    """Bring the middle of the values (n, m) over the first axis to its place."""
    for k in range(len(comparisons)):
        one, two = values[comparisons[k, 0]], values[comparisons[k, 1]]
        for i in range(len(one)):
            low, high = min(one[i], two[i]), max(one[i], two[i])
            one[i] = low
            two[i] = high


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _insert(values: np.ndarray, n: int, value: np.float32) -> int:
    """Put a value among n sorted ones; how many they are then."""
    p = n
    while p > 0 and values[p - 1] > value:
        values[p] = values[p - 1]
        p -= 1
    values[p] = value
    return n + 1

"""Superpixels and binning: smaller images that add what they cover."""

from __future__ import annotations

import functools

import numba
import numpy as np

from difflapse.mosaic.planes import native_order


def superpixels(data: np.ndarray, pattern: str, offset: float = 0.0) -> np.ndarray:
    """Sum each 2x2 cell of a mosaic into one grey superpixel; a monochrome image is only converted.

    Parameters
    ----------
    data : ndarray, shape (ny, nx)
        Native pixels.
    pattern : str
        The mosaic in array order; empty for monochrome.
    offset : float
        Level to subtract from each native pixel.

    Returns
    -------
    ndarray, float32
        Shape (ny // 2, nx // 2); superpixel i has its centre at native 2i + 0.5. Shape (ny, nx) for
        monochrome.
    """
    if not pattern:
        return np.subtract(native_order(data), np.float32(offset), dtype=np.float32, casting="unsafe")
    out = np.empty((data.shape[0] // 2, data.shape[1] // 2), np.float32)
    _sum_cells(native_order(data), np.float32(4 * offset), out)
    return out


def bin_image(image: np.ndarray, factor: int) -> np.ndarray:
    """Mean of each `factor` x `factor` cell of a float32 image; odd last rows and columns are dropped.

    Binned pixel i has its centre at ``factor * i + (factor - 1) / 2`` of the input.
    """
    if factor == 1:
        return image
    out = np.empty((image.shape[0] // factor, image.shape[1] // factor), np.float32)
    _mean_cells(image, factor, out)
    return out


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
        for m in range(len(comparisons)):
            one, two = values[comparisons[m, 0]], values[comparisons[m, 1]]
            for i in range(mx):
                low, high = min(one[i], two[i]), max(one[i], two[i])
                one[i] = low
                two[i] = high
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
                p = n
                while p > 0 and values[p - 1] > image[b, a]:
                    values[p] = values[p - 1]
                    p -= 1
                values[p] = image[b, a]
                n += 1
    if 2 * n < factor * factor:
        return np.float32(np.nan)
    return np.float32(0.5) * (values[(n - 1) // 2] + values[n // 2])


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _sum_cells(data: np.ndarray, offset: np.float32, out: np.ndarray) -> None:
    my, mx = out.shape
    for j in range(my):
        a = data[2 * j]
        b = data[2 * j + 1]
        row = out[j]
        for i in range(mx):
            row[i] = (
                np.float32(a[2 * i])
                + np.float32(a[2 * i + 1])
                + np.float32(b[2 * i])
                + np.float32(b[2 * i + 1])
            ) - offset


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _mean_cells(image: np.ndarray, factor: int, out: np.ndarray) -> None:
    my, mx = out.shape
    norm = np.float32(1.0 / (factor * factor))
    for j in range(my):
        row = out[j]
        row[:] = 0
        for r in range(factor):
            source = image[factor * j + r]
            for i in range(mx):
                total = np.float32(0)
                for c in range(factor):
                    total += source[factor * i + c]
                row[i] += total
        for i in range(mx):
            row[i] *= norm

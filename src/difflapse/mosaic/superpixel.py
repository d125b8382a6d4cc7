"""Superpixels and binning: smaller images that add what they cover."""

from __future__ import annotations

import numba
import numpy as np

from difflapse.mosaic.network import sort_rows, sorting_network
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


def bin_medians(image: np.ndarray, bad: np.ndarray | None, factor: int) -> np.ndarray:
    """Median of cells of factor x factor pixels, so that stars in them hardly count.

    Parameters
    ----------
    image : ndarray, shape (ny, nx), float32
        Any image.
    bad : ndarray of bool, shape (ny, nx), or None
        Pixels that do not count; None: those that are not finite.
    factor : int
        Side of a cell; rows and columns that fill none are dropped.

    Returns
    -------
    ndarray, shape (ny // factor, nx // factor), float32
        NaN where more than half of a cell is bad.

    Notes
    -----
    The cells of a row are sorted side by side, by a network that asks nothing of their values: 4.5 Mpx in cells of 4
    pixels take some 5 ms.
    """
    out = np.empty((image.shape[0] // factor, image.shape[1] // factor), np.float32)
    hidden = np.zeros((0, 0), np.bool_) if bad is None else bad
    _median_cells(image, hidden, sorting_network(factor * factor), factor, out)
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _median_cells(
    image: np.ndarray, bad: np.ndarray, pairs: np.ndarray, factor: int, out: np.ndarray
) -> None:
    my, mx = out.shape
    n = factor * factor
    values = np.empty((n, mx), np.float32)
    nothing, half = np.float32(np.inf), np.float32(0.5)
    for j in range(my):
        if factor == 4 and bad.size == 0:
            for r in range(4):
                _spread(
                    image[4 * j + r], values[4 * r], values[4 * r + 1], values[4 * r + 2], values[4 * r + 3]
                )
        else:
            for k in range(n):
                b, a = factor * j + k // factor, k % factor
                source, to = image[b], values[k]
                if bad.size == 0:
                    for i in range(mx):
                        v = source[factor * i + a]
                        to[i] = v if abs(v) < nothing else nothing
                else:
                    hidden = bad[b]
                    for i in range(mx):
                        to[i] = nothing if hidden[factor * i + a] else source[factor * i + a]
        sort_rows(values, pairs)
        # Of cells whose pixels are all good, first; what is not comes last in the others.
        row, low, high, last = out[j], values[(n - 1) // 2], values[n // 2], values[n - 1]
        for i in range(mx):
            row[i] = half * (low[i] + high[i])
        for i in range(mx):
            if last[i] < nothing:
                continue
            m = n
            while m > 0 and not values[m - 1, i] < nothing:
                m -= 1
            row[i] = np.float32(np.nan) if 2 * m < n else half * (values[(m - 1) // 2, i] + values[m // 2, i])


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _spread(row: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> None:
    """Every fourth pixel of a row to each of four, infinite where it is not finite: a step that the compiler knows."""
    nothing = np.float32(np.inf)
    for i in range(len(a)):
        v, w, x, y = row[4 * i], row[4 * i + 1], row[4 * i + 2], row[4 * i + 3]
        a[i] = v if abs(v) < nothing else nothing
        b[i] = w if abs(w) < nothing else nothing
        c[i] = x if abs(x) < nothing else nothing
        d[i] = y if abs(y) < nothing else nothing


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

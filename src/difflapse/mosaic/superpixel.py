"""Superpixels and binning: smaller images that add what they cover."""

from __future__ import annotations

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

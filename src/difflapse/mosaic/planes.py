"""The planes of a mosaic: one image per site of the 2x2 cell."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

CHANNELS = ("R", "G", "B")


@dataclass(frozen=True)
class Site:
    """One site of the mosaic's cell: its place, its colour's channel, and that channel's share of it."""

    x: int
    y: int
    channel: int
    weight: float
    """1 / number of sites of the same colour: G takes the mean of its two."""


def channels(pattern: str) -> tuple[str, ...]:
    """Names of the channels of a mosaic (R, G, B), or ``("L",)`` for a monochrome camera."""
    return CHANNELS if pattern else ("L",)


def sites(pattern: str) -> tuple[Site, ...]:
    """The sites of a mosaic in array order; the single site of a monochrome camera for an empty pattern."""
    if not pattern:
        return (Site(0, 0, 0, 1.0),)
    return tuple(
        Site(i % 2, i // 2, CHANNELS.index(colour), 1.0 / pattern.count(colour))
        for i, colour in enumerate(pattern)
    )


def split(data: np.ndarray, pattern: str, offset: float = 0.0, out: np.ndarray | None = None) -> np.ndarray:
    """Split a mosaic image into the planes of its sites, as float32 minus a constant.

    Parameters
    ----------
    data : ndarray, shape (ny, nx)
        Native pixels, any real type.
    pattern : str
        The mosaic in array order; empty for monochrome.
    offset : float
        Level to subtract (the bias), in the data's units.
    out : ndarray, shape (s, ny // 2, nx // 2), float32, optional
        Buffer to write into.

    Returns
    -------
    ndarray, shape (s, ny // 2, nx // 2), float32
        s = 4 planes in array order; s = 1 plane of shape (ny, nx) for monochrome. An odd last row or column
        is dropped.
    """
    ny, nx = data.shape
    shape = (4, ny // 2, nx // 2) if pattern else (1, ny, nx)
    if out is None:
        out = np.empty(shape, np.float32)
    data = native_order(data)
    if pattern:
        _split_four(data, np.float32(offset), out)
    else:
        np.subtract(data, np.float32(offset), out=out[0], casting="unsafe")
    return out


def native_order(data: np.ndarray) -> np.ndarray:
    """The same pixels in the machine's byte order, copied only if need be: FITS is big-endian, and compiled code
    takes native order only.
    """
    return data if data.dtype.isnative else data.astype(data.dtype.newbyteorder("="))


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _split_four(data: np.ndarray, offset: np.float32, out: np.ndarray) -> None:
    _, my, mx = out.shape
    for j in range(my):
        for r in range(2):
            row = data[2 * j + r]
            left = out[2 * r, j]
            right = out[2 * r + 1, j]
            for i in range(mx):
                left[i] = np.float32(row[2 * i]) - offset
                right[i] = np.float32(row[2 * i + 1]) - offset

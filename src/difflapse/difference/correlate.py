"""Correlating an image with a kernel that changes from block to block, a row at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

_ONE, _TWO, _THREE, _FOUR = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)


@dataclass(frozen=True, eq=False)
class Convolution:
    """What an image is still to be convolved with, and what that does to its noise."""

    kernels: np.ndarray
    """(c, by, bx, n, n) float32: of each block of the image; rows from the bottom."""
    factor: np.ndarray
    """(c, by, bx) float32: variance after over before."""
    block: int
    """Pixels along a block."""
    apart: bool
    """Whether rows of blocks are windows of their own: one does not look into the next."""


def correlate(image: np.ndarray, kernels: np.ndarray, block: int, apart: bool, out: np.ndarray) -> None:
    """Correlate each block of an image with its kernel; beyond the edges it stays as at them.

    Parameters
    ----------
    image : ndarray, shape (ny, nx), float32
        May be mapped from a file.
    kernels : ndarray, shape (by, bx, n, n), float32
        n is odd.
    block : int
        Pixels along a block.
    apart : bool
        Rows of blocks are windows of their own: one does not look into the next.
    out : ndarray, shape (ny, nx), float32
        Written.

    Notes
    -----
    4.5 Mpx and 5x5 taps take some 6 ms.
    """
    _correlate(image, kernels, block, apart, out)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _correlate(image: np.ndarray, kernels: np.ndarray, block: int, apart: bool, out: np.ndarray) -> None:
    n = kernels.shape[3]
    ring, held = np.empty((n, image.shape[1] + n - 1), np.float32), np.full(n, -1)
    for j in range(len(image)):
        correlate_row(image, kernels, j, block, apart, ring, held, out[j])


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def correlate_row(
    image: np.ndarray,
    kernels: np.ndarray,
    j: int,
    block: int,
    apart: bool,
    ring: np.ndarray,
    held: np.ndarray,
    out: np.ndarray,
) -> None:
    """Row `j` of it, into `out` (nx,); see `correlate`.

    `ring` (n, nx + n - 1) keeps rows of the image with their margins from one call to the next, and `held` (n,), -1 at
    first, says which.
    """
    ny, nx = image.shape
    n = len(ring)
    r = n // 2
    first = j // block * block if apart else 0
    last = min(first + block, ny) - 1 if apart else ny - 1
    for q in range(n):
        row = min(max(j + q - r, first), last)
        if held[row % n] != row:
            to, source = ring[row % n], image[row]
            to[:r] = source[0]
            to[r : r + nx] = source
            to[r + nx :] = source[nx - 1]
            held[row % n] = row
    if n == 5:
        q0, q1, q2, q3, q4 = (
            ring[min(max(j - 2, first), last) % 5],
            ring[min(max(j - 1, first), last) % 5],
            ring[j % 5],
            ring[min(max(j + 1, first), last) % 5],
            ring[min(max(j + 2, first), last) % 5],
        )
        _five_by_five(kernels[j // block], block, q0, q1, q2, q3, q4, out)
        return
    for b in range(kernels.shape[1]):
        i0 = b * block
        m = min(i0 + block, nx) - i0
        part = out[i0 : i0 + m]
        part[:] = 0
        for q in range(n):
            taps, line = kernels[j // block, b, q], ring[min(max(j + q - r, first), last) % n]
            for p in range(0, n - 4, 5):
                k0, k1, k2, k3, k4 = taps[p], taps[p + 1], taps[p + 2], taps[p + 3], taps[p + 4]
                s = line[i0 + p : i0 + p + m + 4]
                for i in range(m):
                    part[i] += k0 * s[i] + k1 * s[i + 1] + k2 * s[i + 2] + k3 * s[i + 3] + k4 * s[i + 4]
    if n % 5:
        _add_rest(kernels[j // block], j, block, first, last, ring, out)


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _add_rest(
    kernels: np.ndarray, j: int, block: int, first: int, last: int, ring: np.ndarray, out: np.ndarray
) -> None:
    """Add the taps that are left of each row of a kernel when they are taken by fives."""
    n = len(ring)
    for b in range(len(kernels)):
        i0 = b * block
        m = min(i0 + block, len(out)) - i0
        part = out[i0 : i0 + m]
        for q in range(n):
            taps, line = kernels[b, q], ring[min(max(j + q - n // 2, first), last) % n]
            p = n - n % 5
            while p + 1 < n:
                k0, k1, s = taps[p], taps[p + 1], line[i0 + p : i0 + p + m + 1]
                for i in range(m):
                    part[i] += k0 * s[i] + k1 * s[i + 1]
                p += 2
            if p < n:
                k0, s = taps[p], line[i0 + p : i0 + p + m]
                for i in range(m):
                    part[i] += k0 * s[i]


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _five_by_five(
    kernels: np.ndarray,
    block: int,
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    d: np.ndarray,
    e: np.ndarray,
    out: np.ndarray,
) -> None:
    """A row under the commonest kernels (bx, 5, 5), from five rows with their margins: all taps stay in registers.

    Blocks are short: to go through each of them row by row, or to cut arrays for it, takes longer than the arithmetic.
    Unsigned places need no check for negative ones.
    """
    for k in range(len(kernels)):
        t = kernels[k]
        a0, a1, a2, a3, a4 = t[0, 0], t[0, 1], t[0, 2], t[0, 3], t[0, 4]
        b0, b1, b2, b3, b4 = t[1, 0], t[1, 1], t[1, 2], t[1, 3], t[1, 4]
        c0, c1, c2, c3, c4 = t[2, 0], t[2, 1], t[2, 2], t[2, 3], t[2, 4]
        d0, d1, d2, d3, d4 = t[3, 0], t[3, 1], t[3, 2], t[3, 3], t[3, 4]
        e0, e1, e2, e3, e4 = t[4, 0], t[4, 1], t[4, 2], t[4, 3], t[4, 4]
        for i in range(np.uint64(k * block), np.uint64(min((k + 1) * block, len(out)))):
            p, q, r, s = i + _ONE, i + _TWO, i + _THREE, i + _FOUR
            out[i] = (
                (a0 * a[i] + a1 * a[p] + a2 * a[q] + a3 * a[r] + a4 * a[s])
                + (b0 * b[i] + b1 * b[p] + b2 * b[q] + b3 * b[r] + b4 * b[s])
                + (c0 * c[i] + c1 * c[p] + c2 * c[q] + c3 * c[r] + c4 * c[s])
                + (d0 * d[i] + d1 * d[p] + d2 * d[q] + d3 * d[r] + d4 * d[s])
                + (e0 * e[i] + e1 * e[p] + e2 * e[q] + e3 * e[r] + e4 * e[s])
            )

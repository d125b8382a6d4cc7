"""Shrinking by area, one movie row at a time, to be fused with colouring; and enlarging by repetition."""

from __future__ import annotations

import functools

import numpy as np
from numba import njit

FAR = np.float32(3e38)
"""No pixel is this bright; larger ones (and NaN, infinity) count as masked."""

PAPER = (57, 52, 61)
INK = (74, 68, 79)
"""The two tones of the hatch that stands for `nothing was measured here`: no tone of either picture."""
PALE_PAPER = (106, 102, 110)
PALE_INK = (119, 115, 123)
"""The same for specks in the differential panel, near its mid-grey: a masked star's core must not pass for one that
faded."""


@functools.lru_cache(maxsize=32)
def plan_axis(n_in: int, n_out: int, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Which input pixels each output pixel covers along one axis.

    Parameters
    ----------
    n_in, n_out : int
        Pixels before and after.
    factor : float
        Input pixels per output pixel, 1 or more.

    Returns
    -------
    where : (4, n_out) int64
        First input pixel and one past the last that are touched; first and one past the last whose *centre*
        lies in the output pixel.
    weight : (3, n_out) float32
        Weights of the first and the last input pixel touched (all between weigh 1), and one over the sum of
        all.
    """
    start = np.minimum(np.arange(n_out) * factor, n_in - 1e-6)
    stop = np.minimum(np.arange(1, n_out + 1) * factor, n_in)
    stop[-1] = n_in  # less than half an output pixel more or less than its share
    first = np.floor(start + 1e-7)
    past = np.maximum(np.ceil(stop - 1e-7), first + 1)
    alone = past - first == 1
    head = np.where(alone, stop - start, first + 1 - start)
    tail = np.where(alone, 0.0, stop - (past - 1))
    inner = np.clip(np.ceil(start - 0.5 - 1e-7), first, past - 1)
    outer = np.clip(np.ceil(stop - 0.5 - 1e-7), inner + 1, past)
    where = np.stack([first, past, inner, outer]).astype(np.int64)
    weight = np.stack([head, tail, 1 / (head + tail + np.maximum(past - first - 2, 0))]).astype(np.float32)
    where.setflags(write=False)
    weight.setflags(write=False)
    return where, weight


@njit(cache=True, nogil=True, error_model="numpy")
def add_rows(image, bad, masked, where, weight, row, good, total, share):  # type: ignore[no-untyped-def]
    """Sum the input rows under one output row: values into `total`, good weight into `share` (1: all is
    good).

    `image` is (c, ny, nx) float32; `bad` (ny, nx) uint8 is read only if `masked`. `total` is (c, nx), `share`
    and the scratch `good` are (nx,). A pixel is good or bad in all channels alike. Returns whether all were
    good.
    """
    zero, one = np.float32(0), np.float32(1)
    nx = share.shape[0]
    first, past = where[0, row], where[1, row]
    for i in range(nx):
        share[i] = zero
    for c in range(image.shape[0]):
        for i in range(nx):
            total[c, i] = zero
    for j in range(first, past):
        w = one
        if j == first:
            w = weight[0, row]
        elif j == past - 1:
            w = weight[1, row]
        w *= weight[2, row]
        for i in range(nx):
            good[i] = w
        if masked:
            hide = bad[j]
            for i in range(nx):
                good[i] = w if hide[i] == 0 else zero
        for c in range(image.shape[0]):
            line = image[c, j]
            for i in range(nx):
                good[i] = good[i] if abs(line[i]) < FAR else zero
        for i in range(nx):
            share[i] += good[i]
        for c in range(image.shape[0]):
            line, into = image[c, j], total[c]
            for i in range(nx):
                into[i] += good[i] * (line[i] if abs(line[i]) < FAR else zero)
    least = one
    for i in range(nx):
        least = share[i] if share[i] < least else least
    return least > np.float32(0.9999)


@njit(cache=True, nogil=True, error_model="numpy")
def add_columns(total, share, clean, where, weight, mean, cover):  # type: ignore[no-untyped-def]
    """Sum columns of `add_rows`: `mean` (c, n_out) of what is good, `cover` (n_out) its part of the area."""
    zero, one = np.float32(0), np.float32(1)
    for c in range(total.shape[0]):
        _fold(total[c], where, weight, mean[c])
    if clean:
        for k in range(cover.shape[0]):
            cover[k] = one
        return
    _fold(share, where, weight, cover)
    for c in range(total.shape[0]):
        for k in range(cover.shape[0]):
            mean[c, k] = mean[c, k] / cover[k] if cover[k] > zero else zero


@njit(cache=True, nogil=True, error_model="numpy")
def _fold(line, where, weight, out):  # type: ignore[no-untyped-def]
    """Weighted sums of stretches of a line."""
    for k in range(out.shape[0]):
        a, b = where[0, k], where[1, k]
        s = weight[0, k] * line[a] + weight[1, k] * line[b - 1]
        for i in range(a + 1, b - 1):
            s += line[i]
        out[k] = s * weight[2, k]


@njit(cache=True, nogil=True)
def enlarge(small, bad, factor, paper, ink, period, out):  # type: ignore[no-untyped-def]
    """Repeat (h, w, 3) pixels `factor` times into `out`, of their type; hatch where `bad` (h, w) is 1, 2: palely."""
    for y in range(out.shape[0]):
        j = y // factor
        for x in range(out.shape[1]):
            i = x // factor
            if bad[j, i]:
                line = (x + y) % period < period // 4
                for c in range(3):
                    out[y, x, c] = ink[bad[j, i] - 1, c] if line else paper[bad[j, i] - 1, c]
            else:
                for c in range(3):
                    out[y, x, c] = small[j, i, c]


def as_flags(mask: np.ndarray | None) -> tuple[np.ndarray, bool]:
    """A mask (ny, nx) or (c, ny, nx), True = bad, as (ny, nx) uint8 for the kernels; whether there is one."""
    if mask is None:
        return np.zeros((1, 1), np.uint8), False
    mask = np.ascontiguousarray(mask, bool)
    if mask.ndim == 3:
        mask = mask[0] if len(mask) == 1 else np.logical_or.reduce(mask, axis=0)
    return mask.view(np.uint8), True


def hatch_colours() -> tuple[np.ndarray, np.ndarray]:
    """The hatch's ground and line colours as (2, 3) uint8 each: of areas, and of specks in the differential panel."""
    return np.array((PAPER, PALE_PAPER), np.uint8), np.array((INK, PALE_INK), np.uint8)

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


@njit(cache=True, nogil=True)
def enlarge(small, bad, factor, paper, ink, period, out):  # type: ignore[no-untyped-def]
    """Repeat (h, w, 3) pixels `factor` times into `out`, of their type; hatch where `bad` (h, w) is 1, 2: palely."""
    tall, wide = out.shape[0], out.shape[1]
    lines = out.reshape(tall, 3 * wide)
    for j in range(small.shape[0]):
        # The first of the rows is made, the others are copies of it, but for the hatch.
        top, bottom = j * factor, min((j + 1) * factor, tall)
        first, hatched = out[top], False
        for i in range(small.shape[1]):
            r, g, b = small[j, i, 0], small[j, i, 1], small[j, i, 2]
            for x in range(i * factor, min((i + 1) * factor, wide)):
                first[x, 0], first[x, 1], first[x, 2] = r, g, b
            hatched |= bad[j, i] != 0
        for y in range(top + 1, bottom):
            for x in range(3 * wide):  # a plain loop is copied many at a time
                lines[y, x] = lines[top, x]
        if not hatched:
            continue
        for y in range(top, bottom):
            for x in range(wide):
                kind = bad[j, x // factor]
                if kind:
                    line = (x + y) % period < period // 4
                    for c in range(3):
                        out[y, x, c] = ink[kind - 1, c] if line else paper[kind - 1, c]


@njit(cache=True, nogil=True)
def hatch(picture, bad, paper, ink, period):  # type: ignore[no-untyped-def]
    """The same without enlarging: hatch (h, w, 3) uint8 in place where `bad` (h, w) uint8 is not 0."""
    for y in range(picture.shape[0]):
        for x in range(picture.shape[1]):
            if bad[y, x]:
                line = (x + y) % period < period // 4
                for c in range(3):
                    picture[y, x, c] = ink[bad[y, x] - 1, c] if line else paper[bad[y, x] - 1, c]


@njit(cache=True, nogil=True, error_model="numpy")
def row_weight(where, weight, row, j):  # type: ignore[no-untyped-def]
    """Weight of input row `j` in output row `row`; those of one output row sum up to 1."""
    one = np.float32(1)
    w = weight[0, row] if j == where[0, row] else weight[1, row] if j == where[1, row] - 1 else one
    return w * weight[2, row]


def as_flags(mask: np.ndarray | None, nx: int) -> tuple[np.ndarray, bool]:
    """A mask (ny, nx) or (c, ny, nx), not 0 = bad, as (ny, nx) uint8 for the kernels; whether there is one.

    Without a mask it is one row of zeros, (1, nx).
    """
    if mask is None:
        return np.zeros((1, nx), np.uint8), False
    if mask.dtype == np.uint8 and mask.ndim == 2:
        return np.ascontiguousarray(mask), True
    mask = np.ascontiguousarray(mask, bool)
    if mask.ndim == 3:
        mask = mask[0] if len(mask) == 1 else np.logical_or.reduce(mask, axis=0)
    return mask.view(np.uint8), True


def hatch_colours() -> tuple[np.ndarray, np.ndarray]:
    """The hatch's ground and line colours as (2, 3) uint8 each: of areas, and of specks in the differential panel."""
    return np.array((PAPER, PALE_PAPER), np.uint8), np.array((INK, PALE_INK), np.uint8)

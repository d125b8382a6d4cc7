"""A difference made ready for lines: stars count less, smoothed, rows and columns levelled, in whole numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numba
import numpy as np

from difflapse.changes._filter import across_row, down_rows
from difflapse.measure.order import median

CLIP = np.float32(3.0)
"""No cell counts for more, so that one star is no line; noise is hardly touched."""
_STRIPE = 400
"""Cells to both sides of one that tell the offset of its row, ..."""
_STRIPED = 1.12
"""... where sums along rows scatter by so much more than short ones do, ..."""
_EVERY = 8
"""... in every so many rows."""
_NOISY = 2.0
"""Where stars leave residuals of more than so many sigma nothing is looked for."""
_LEAST = 40
"""Pixels that tell the error where the template is so bright; where fewer do nothing is looked for."""


@dataclass(frozen=True, eq=False)
class Cells:
    """A picture in which lines are looked for."""

    picture: np.ndarray
    """(ny, nx) float32, sigma; 0 where nothing is known."""
    upright: np.ndarray
    """(ny, nx) int8: whole numbers of it, clipped, odd; 0 where nothing is known."""
    turned: np.ndarray
    """(nx, ny) int8: the same with rows and columns exchanged."""
    step: float
    """Of the whole numbers, sigma."""


def cells_of(flat: np.ndarray, light: np.ndarray | None, fwhm: float, size: int) -> Cells | None:
    """A difference smoothed across lines, in units of its scatter, every `size` pixels.

    Parameters
    ----------
    flat : ndarray, shape (ny, nx), float32
        In sigma, NaN where masked.
    light : ndarray of uint8, shape (ny, nx), optional
        How bright the template is there.
    fwhm : float
        Of a line, pixels.
    size : int
        Pixels along a cell.

    Returns
    -------
    Cells or None
        None where nothing is known.
    """
    weights = np.ones(256, np.float32) if light is None else _weights(flat, light)
    first = size // 2
    picture = np.empty([-(-(n - first) // size) for n in flat.shape], np.float32)
    some = np.empty(picture[::5, ::3].size + 1, np.float32)
    width = max(fwhm, 1.5 * size) / 2.3548
    kernel = cv2.getGaussianKernel(round(8 * width + 1) | 1, width, cv2.CV_32F).reshape(-1)
    seen = np.zeros((1, 1), np.uint8) if light is None else light
    known = _smooth(flat, seen, weights, kernel, size, picture, some)
    if not known:
        return None
    scatter = float(median(some[:known], np.empty(known, np.float32)))
    gain = np.float32(1 / max(1.4826 * scatter, 1e-6))
    mean, some_known = _mean(picture, gain)
    if not some_known:
        return None
    _level(picture, gain, mean)
    # So fine that the longest sum still is a 16-bit number.
    parts = min(8, int(32_000 / float(CLIP) / max(picture.shape)))
    upright = np.empty(picture.shape, np.int8)
    _numbered(picture, np.float32(parts), upright)
    return Cells(picture, upright, np.ascontiguousarray(cv2.transpose(upright)), 1 / parts)


def _weights(flat: np.ndarray, light: np.ndarray) -> np.ndarray:
    """What a pixel counts for where the template is so bright, (256,) float32: 1 on empty sky."""
    counts = np.zeros((256, 200), np.int64)
    _count(flat, light, 3, counts)
    total = counts.sum(axis=1)
    # The scatter that 98 % of the pixels tell: residuals have wings.
    most = np.argmax(np.cumsum(counts, axis=1) >= 0.98 * total[:, None], axis=1) + 1
    usual = float(most[0]) if total[0] else float(np.median(most[total > 0])) if total.any() else 1.0
    out = np.zeros(256, np.float32)
    some = (total >= _LEAST) & (most < _NOISY * usual)
    out[some] = np.minimum(usual / most[some], 1.0) ** 2
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _count(flat: np.ndarray, light: np.ndarray, step: int, counts: np.ndarray) -> None:
    """How often each brightness of the template goes with each deviation, in twentieths of a sigma."""
    last = counts.shape[1] - 1
    for j in range(1, flat.shape[0], step):
        for i in range(j % step, flat.shape[1], step):
            v = abs(flat[j, i])
            if v == v:
                counts[light[j, i], int(min(v * 20, np.float32(last)))] += 1


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _smooth(
    flat: np.ndarray,
    light: np.ndarray,
    weights: np.ndarray,
    kernel: np.ndarray,
    size: int,
    out: np.ndarray,
    some: np.ndarray,
) -> int:
    """Weigh a difference by its light (of one pixel: all sky), and filter it with a kernel both ways.

    `out` has each `size`-th pixel of it, NaN where the difference is not known there; `some` the amounts of a fifteenth
    of those that are. Returns how many these are. What is not known is 0 for its neighbours; the difference is mirrored
    at its edges.
    """
    ny, nx = flat.shape
    n = len(kernel)
    r = n // 2
    rows = np.zeros((n, nx), np.float32)
    down, across = np.empty(nx + 2 * r, np.float32), np.empty(nx, np.float32)
    weight = np.empty(nx, np.float32)
    nothing, unknown = np.float32(0), np.float32(np.nan)
    all_sky = light.size == 1
    told = 0
    for j in range(ny + r):
        row = rows[j % n]
        if j >= ny:
            row[:] = rows[(2 * (ny - 1) - j) % n]
        else:
            source = flat[j]
            if all_sky:
                for i in range(nx):
                    v = source[i]
                    row[i] = v if v == v else nothing
            else:
                # Looked up one by one, then multiplied side by side.
                own_light = light[j]
                for i in range(nx):
                    weight[i] = weights[np.uint64(own_light[i])]
                for i in range(nx):
                    v = source[i]
                    row[i] = v * weight[i] if v == v else nothing
        if j == r:
            for k in range(1, r + 1):
                rows[-k % n] = rows[k]
        at = j - r - size // 2
        if at < 0 or at % size:
            continue
        down_rows(rows, kernel, j - r, 0, down[r : r + nx])
        for k in range(1, r + 1):
            down[r - k] = down[r + k]
            down[r + nx - 1 + k] = down[r + nx - 1 - k]
        across_row(down, kernel, across)
        own, to = rows[(j - r) % n], out[at // size]
        if size == 1:
            for i in range(nx):
                to[i] = across[i] if own[i] != 0 else unknown
        else:
            for i in range(len(to)):
                k = i * size + size // 2
                to[i] = across[k] if own[k] != 0 else unknown
        if at // size % 5 == 0:
            for i in range(0, len(to), 3):
                v = abs(to[i])
                some[told] = v
                told += v == v
    return told


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _mean(picture: np.ndarray, gain: np.float32) -> tuple[np.float32, int]:
    """The mean of a picture times a number, of what is not bright; and how much of it is known."""
    nothing, one = np.float32(0), np.float32(1)
    total, n = 0.0, 0.0
    for j in range(picture.shape[0]):
        part, known = nothing, nothing
        row = picture[j]
        for i in range(len(row)):
            v = row[i] * gain
            part += min(max(v, -CLIP), CLIP) if v == v else nothing
            known += one if v == v else nothing
        total += float(part)
        n += float(known)
    return np.float32(total / max(n, 1.0)), int(n)


def _level(picture: np.ndarray, gain: np.float32, mean: np.float32) -> None:
    """Scale a picture in place, take off its mean, and the offsets of rows and of columns where they are striped.

    What was NaN is 0 then.
    """
    ny, nx = picture.shape
    length, short = _lengths(nx)
    striped = False
    if length:
        near, far = _room(ny, nx, short), _room(ny, nx, length)
        _row_sums(picture, gain, mean, short, length, near, far)
        striped = _stripes(near, far, short, length) > _STRIPED
    _scale(picture, gain, mean, length if striped else 0)
    length, short = _lengths(ny)
    if length:
        near, far = _room(nx, ny, short), _room(nx, ny, length)
        _column_sums(picture, short, length, near, far)
        if _stripes(near, far, short, length) > _STRIPED:
            _level_columns(picture, length)


def _lengths(n: int) -> tuple[int, int]:
    """Cells along a row of n cells whose sum tells its offset, and those whose sum does not; 0 in a small picture."""
    length = min(_STRIPE, n // 2)
    return (length, max(length // 16, 8)) if length >= _STRIPE // 4 else (0, 0)


def _room(rows: int, n: int, length: int) -> np.ndarray:
    """For the sums of so many cells along some of the rows of n cells."""
    return np.zeros((n // length, len(range(1, rows, _EVERY))), np.float32)


def _stripes(near: np.ndarray, far: np.ndarray, short: int, length: int) -> float:
    """How much more sums along so much of a row scatter than those of a sixteenth of it would let expect."""
    scatter = []
    for sums, n in ((near, short), (far, length)):
        one = sums / np.float32(math.sqrt(n))
        scatter.append(float(np.median(np.abs(one - np.median(one)))))
    return scatter[1] / max(scatter[0], 1e-6)


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _row_sums(
    picture: np.ndarray,
    gain: np.float32,
    mean: np.float32,
    short: int,
    length: int,
    near: np.ndarray,
    far: np.ndarray,
) -> None:
    """Sums of so many neighbours in every eighth row of what `_scale` will make of a picture."""
    for k in range(near.shape[1]):
        row = picture[1 + _EVERY * k]
        for out, n in ((near, short), (far, length)):
            for m in range(len(out)):
                total = np.float32(0)
                for i in range(m * n, (m + 1) * n):
                    v = row[i] * gain - mean
                    total += min(max(v, -CLIP), CLIP) if v == v else np.float32(0)
                out[m, k] = total


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _column_sums(picture: np.ndarray, short: int, length: int, near: np.ndarray, far: np.ndarray) -> None:
    """Sums of so many neighbours in every eighth column of a picture."""
    for j in range(picture.shape[0]):
        row = picture[j]
        # What is left over after the last whole block does not count.
        for out, n in ((near, short), (far, length)):
            if j // n < len(out):
                to = out[j // n]
                for k in range(len(to)):
                    to[k] += min(max(row[1 + _EVERY * k], -CLIP), CLIP)


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _scale(picture: np.ndarray, gain: np.float32, mean: np.float32, length: int) -> None:
    """Multiply a picture by a number, take off another; and, unless `length` is 0, take from each cell the mean of what
    is not bright within a length to both sides in its row, by blocks of it. NaN becomes 0.
    """
    nx = picture.shape[1]
    nothing, one = np.float32(0), np.float32(1)
    block = max(length // 8, 1)
    n = (nx + block - 1) // block if length else 0
    sums, seen = np.zeros(n, np.float32), np.zeros(n, np.float32)
    for j in range(picture.shape[0]):
        row = picture[j]
        for i in range(nx):
            v = row[i] * gain - mean
            row[i] = v if v == v else nothing
        for k in range(n):
            total, known = nothing, nothing
            part = row[k * block : min(nx, (k + 1) * block)]
            for i in range(len(part)):
                v = part[i]
                total += min(max(v, -CLIP), CLIP)
                known += one if v != 0 else nothing
            sums[k], seen[k] = total, known
        for k in range(n):
            a, b = max(0, k - 8), min(n, k + 9)
            known = seen[a:b].sum()
            if known < 50:
                continue
            offset = sums[a:b].sum() / known
            part = row[k * block : min(nx, (k + 1) * block)]
            for i in range(len(part)):
                v = part[i]
                part[i] = v - offset if v != 0 else nothing


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _level_columns(picture: np.ndarray, length: int) -> None:
    """Take from each cell the mean of what is not bright within a length to both sides in its column, as in a row."""
    ny, nx = picture.shape
    nothing, one = np.float32(0), np.float32(1)
    block = max(length // 8, 1)
    n = (ny + block - 1) // block
    sums, seen = np.zeros((n, nx), np.float32), np.zeros((n, nx), np.float32)
    for j in range(ny):
        row, total, known = picture[j], sums[j // block], seen[j // block]
        for i in range(nx):
            v = row[i]
            total[i] += min(max(v, -CLIP), CLIP)
            known[i] += one if v != 0 else nothing
    offset, known = np.empty(nx, np.float32), np.empty(nx, np.float32)
    for k in range(n):
        offset[:] = nothing
        known[:] = nothing
        for m in range(max(0, k - 8), min(n, k + 9)):
            total, here = sums[m], seen[m]
            for i in range(nx):
                offset[i] += total[i]
                known[i] += here[i]
        for i in range(nx):
            offset[i] = offset[i] / known[i] if known[i] >= 50 else nothing
        for j in range(k * block, min(ny, (k + 1) * block)):
            row = picture[j]
            for i in range(nx):
                v = row[i]
                row[i] = v - offset[i] if v != 0 else nothing


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _numbered(picture: np.ndarray, parts: np.float32, out: np.ndarray) -> None:
    """Whole numbers of a picture, clipped: odd, so that only what is not known is 0."""
    top = CLIP * parts
    for j in range(picture.shape[0]):
        row, to = picture[j], out[j]
        for i in range(len(row)):
            v = row[i]
            q = min(max(v * parts, -top), top - np.float32(0.1))
            to[i] = np.int8(0) if v == 0 else np.int8(2 * np.int32(np.floor(np.float32(0.5) * q)) + 1)


def halves_of(upright: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of 2x2 cells (ny, nx) int8, over 2, odd unless nothing is known; and rows and columns exchanged."""
    ny, nx = upright.shape
    out = np.empty((ny // 2, nx // 2), np.int8)
    # Whole sums of columns and rows are 16-bit numbers.
    most = min(32767 // max(out.shape), 127)
    _halved(upright, np.int32(most - 1 + most % 2), out)
    return out, np.ascontiguousarray(cv2.transpose(out))


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _halved(cells: np.ndarray, most: np.int32, out: np.ndarray) -> None:
    """Sums of 2x2 whole numbers over 2, odd, so that only what is not known at all is 0; clipped at an odd one."""
    for j in range(out.shape[0]):
        upper, lower, to = cells[2 * j], cells[2 * j + 1], out[j]
        for i in range(out.shape[1]):
            a, b, c, d = upper[2 * i], upper[2 * i + 1], lower[2 * i], lower[2 * i + 1]
            known = (a | b | c | d) != 0
            total = np.int32(a) + np.int32(b) + np.int32(c) + np.int32(d)
            half = total >> 1
            # Even ones go up and down as if by chance, for no line to gain by it.
            up = ((i * 0x9E37 + j * 0x79B9) >> 7) & 1
            half = half if half & 1 else half + 2 * up - 1
            to[i] = min(max(half, -most), most) if known else 0

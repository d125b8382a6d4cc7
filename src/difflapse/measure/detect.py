"""Where stars may be: peaks of a binned picture, and which of them to measure."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numba
import numpy as np
import sep

from difflapse.mosaic import bin_image, superpixels

_PIXELS = 1_400_000
"""The picture that stars are found on has at most about this many pixels."""
_MESH = 64
_LARGE = 500_000
"""Pixels of the picture from which the background is measured on every second of every second row."""
_GROUPS = 24
_FALL = 0.6
"""A star's surroundings are fainter than this share of its peak, somewhere within `_AROUND` pixels."""
_AROUND = (3, 8)


@dataclass(frozen=True, eq=False)
class Found:
    """Rough places of stars, brightest first; arrays have length n."""

    x: np.ndarray
    y: np.ndarray
    """Native pixels."""
    sky: np.ndarray
    """Level under each of a superpixel, the bias off."""
    seen: int
    """Stars above the threshold asked for; more than n where there are more than were wanted."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A frame made small, all colours together, for finding stars on it."""

    data: np.ndarray
    """(ny, nx) float32: mean of the superpixels (pixels of a monochrome frame) under each of its pixels."""
    mask: np.ndarray | None
    """bool, True = bad; None: all good."""
    factor: int
    """Superpixels along one side of its pixels."""
    step: int
    """Native pixels along one side of a superpixel."""


def shrink(data: np.ndarray, pattern: str, bias: float, mask: np.ndarray | None) -> Picture:
    """Make the picture that stars are found on; of bad pixels it knows, and fills them with its median.

    Parameters
    ----------
    data : ndarray, shape (ny, nx)
        Native pixels, in the machine's byte order.
    pattern : str
        Mosaic in array order; empty for monochrome.
    bias : float
        Level of no light of a native pixel.
    mask : ndarray of bool, shape (ny, nx), optional
        True = bad.
    """
    step = 2 if pattern else 1
    ny, nx = data.shape[0] // step, data.shape[1] // step
    factor = max(1, int(np.ceil(np.sqrt(nx * ny / _PIXELS))))
    whole = data.dtype.kind in "iu"
    if whole and mask is None and step * factor > 1:
        small = np.empty((ny // factor, nx // factor), np.float32)
        _sum_blocks(data, step * factor, np.float32(1.0 / factor**2), np.float32(step**2 * bias), small)
        return Picture(small, None, factor, step)
    grey = superpixels(data, pattern, bias)
    bad = np.zeros(grey.shape, bool) if whole else ~np.isfinite(grey)
    if mask is not None:
        bad |= _of_cells(mask, grey.shape, step)
    if not bad.any():
        return Picture(np.ascontiguousarray(bin_image(grey, factor)), None, factor, step)
    grey[bad] = np.median(grey[~bad]) if not bad.all() else 0.0
    small = np.ascontiguousarray(bin_image(grey, factor))
    ny, nx = small.shape
    cells = bad[: ny * factor, : nx * factor].reshape(ny, factor, nx, factor)
    return Picture(small, np.asarray(cells.any(axis=(1, 3))), factor, step)


def _of_cells(mask: np.ndarray, shape: tuple[int, ...], step: int) -> np.ndarray:
    """Superpixels that hold a bad pixel."""
    if step == 1:
        return mask
    m: np.ndarray = mask[: shape[0] * 2, : shape[1] * 2]
    return np.asarray(m[::2, ::2] | m[1::2, ::2] | m[::2, 1::2] | m[1::2, 1::2])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sum_blocks(data: np.ndarray, size: int, scale: np.float32, offset: np.float32, out: np.ndarray) -> None:
    """Sum of each block of size x size whole numbers, scaled and less an offset; rows first, as memory lies."""
    my, mx = out.shape
    rows = np.empty(mx * size, np.int32)
    for j in range(my):
        first = data[size * j, : mx * size]
        for i in range(mx * size):
            rows[i] = first[i]
        for r in range(1, size):
            more = data[size * j + r, : mx * size]
            for i in range(mx * size):
                rows[i] += more[i]
        line = out[j]
        if size == 4:
            for i in range(mx):
                line[i] = np.float32(rows[4 * i] + rows[4 * i + 1] + rows[4 * i + 2] + rows[4 * i + 3])
        else:
            for i in range(mx):
                total = 0
                for c in range(size):
                    total += rows[size * i + c]
                line[i] = np.float32(total)
        for i in range(mx):
            line[i] = line[i] * scale - offset


def detect(picture: Picture, threshold: float, enough: int) -> Found:
    """Find where stars are; not how bright: that is measured on native pixels.

    Parameters
    ----------
    picture : Picture
        See `shrink`; its pixels are used up.
    threshold : float
        Detection limit, units of the picture's noise.
    enough : int
        How many are wanted. Where more peaks stand out, as in the Milky Way, these are taken by their height;
        otherwise sources are told apart by their outlines (Source Extractor's way, which costs ten times as much).

    Returns
    -------
    Found
        Empty where there is nothing, or nothing but structures larger than stars.
    """
    small, small_mask, factor = picture.data, picture.mask, picture.factor
    cell = int(np.clip(min(small.shape) // 6, 8, _MESH))
    none = Found(np.zeros(0), np.zeros(0), np.zeros(0), 0)
    try:
        level, rms = _background(small, small_mask, cell)
        if not np.isfinite(rms) or rms <= 0:
            return none
        cv2.subtract(small, level, dst=small)
        if small_mask is not None:
            small[small_mask] = 0.0
        i, j, height = _peaks(small, np.float32(threshold * rms))
        seen = len(i)
        if seen > enough:
            order = np.argsort(-height, kind="stable")[:enough]
            x, y = i[order].astype(float), j[order].astype(float)
        else:
            x, y = _outlined(small, small_mask, rms, threshold, 3 if factor == 1 else 1)
            seen = len(x)
    except Exception as error:
        if "overflow" not in str(error) and "pixel buffer" not in str(error) and "limit" not in str(error):
            raise
        return none
    sky = level[np.round(y).astype(int), np.round(x).astype(int)].astype(np.float64)
    side = factor * picture.step
    return Found(x * side + (side - 1) / 2, y * side + (side - 1) / 2, sky, seen)


def _background(small: np.ndarray, mask: np.ndarray | None, cell: int) -> tuple[np.ndarray, float]:
    """Level under a picture, (ny, nx), and its noise, by Source Extractor's mesh; of a large one a quarter tells."""
    every = 2 if small.size > _LARGE else 1
    some = None if mask is None else np.ascontiguousarray(mask[::every, ::every])
    part = np.ascontiguousarray(small[::every, ::every])
    background = sep.Background(part, mask=some, bw=cell // every, bh=cell // every, fw=3, fh=3)
    level = background.back()
    if every > 1:
        level = cv2.resize(level, (small.shape[1], small.shape[0]), interpolation=cv2.INTER_LINEAR)
    return level, background.globalrms


def _outlined(
    small: np.ndarray, mask: np.ndarray | None, rms: float, threshold: float, pixels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of sources of at least so many pixels on a picture without its background, brightest first."""
    kernel = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32)
    sep.set_extract_pixstack(1_000_000)
    found = sep.extract(
        small,
        threshold,
        err=rms,
        mask=mask,
        minarea=pixels,
        filter_kernel=kernel,
        filter_type="conv",
        deblend_nthresh=8,
        deblend_cont=0.01,
        clean=False,
    )
    # What is much larger than a star (the Sun's disk, a cloud's edge) is not one.
    size = np.hypot(found["a"], found["b"])
    keep = (found["npix"] < 0.002 * small.size) & (size < 0.05 * min(small.shape)) & np.isfinite(found["x"])
    keep &= (found["flag"] & sep.OBJ_TRUNC) == 0
    found = found[keep]
    order = np.argsort(-found["flux"], kind="stable")
    return found["x"][order], found["y"][order]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _peaks(image: np.ndarray, limit: np.float32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column, row and height of peaks above a limit that stand above their surroundings as a star does."""
    ny, nx = image.shape
    xs, ys, heights = [], [], []
    for j in range(1, ny - 1):
        for i in range(1, nx - 1):
            v = image[j, i]
            if v <= limit:
                continue
            # Of equal neighbours (a saturated star) the last one counts.
            if not (
                v >= image[j - 1, i - 1] and v >= image[j - 1, i] and v >= image[j - 1, i + 1] and v >= image[j, i - 1]
                and v > image[j, i + 1] and v > image[j + 1, i - 1] and v > image[j + 1, i] and v > image[j + 1, i + 1]
            ):  # fmt: skip
                continue
            for d in _AROUND:
                around, n = 0.0, 0
                for dj in range(-1, 2):
                    for di in range(-1, 2):
                        q, p = j + d * dj, i + d * di
                        if (dj != 0 or di != 0) and q >= 0 and p >= 0 and q < ny and p < nx:
                            around += image[q, p]
                            n += 1
                if around < _FALL * v * n:
                    xs.append(i)
                    ys.append(j)
                    heights.append(v)
                    break
    return np.array(xs, np.int64), np.array(ys, np.int64), np.array(heights, np.float32)


def spread(x: np.ndarray, y: np.ndarray, shape: tuple[int, ...], limit: int) -> np.ndarray:
    """Indices of at most `limit` of the stars, which come brightest first: of each cell of the field in turn."""
    n = len(x)
    if n <= limit:
        return np.arange(n)
    ny, nx = shape
    cells_y = max(1, round(np.sqrt(_GROUPS * 24 * ny / nx)))
    cells_x = max(1, _GROUPS * 24 // cells_y)
    cell = (np.clip(y * cells_y / ny, 0, cells_y - 1).astype(int)) * cells_x + np.clip(
        x * cells_x / nx, 0, cells_x - 1
    ).astype(int)
    by_cell = np.argsort(cell, kind="stable")
    sorted_cell = cell[by_cell]
    start = np.searchsorted(sorted_cell, sorted_cell)
    rank = np.empty(n, int)
    rank[by_cell] = np.arange(n) - start
    kept = np.lexsort((np.arange(n), rank))[:limit]
    return np.sort(kept)

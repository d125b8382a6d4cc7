"""The template: a robust weighted mean of the night's best frames, with its variance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np

from difflapse.difference.correlate import Convolution
from difflapse.measure.mesh import ROWS_PER_LINE, constant, part_of_line
from difflapse.mosaic import sort_rows, sorting_network

MOST_FRAMES = 255
"""The frames behind a pixel are counted in 8 bits."""
_PATCH = 16
"""Columns in a row that share one value of the noise's meshes."""
_MARGIN = np.float32(0.6)
"""Sigma by which the mean of many values hardly ever misses their median: what lies by so much within the clip's limit
of the mean needs no median."""


@dataclass(frozen=True, eq=False)
class Template:
    """What is subtracted."""

    data: np.ndarray
    """(c, ny, nx) float32, ADU of the reference frame, its sky included, bias taken off."""
    variance: np.ndarray
    """(c, ny, nx) float32, ADU^2."""
    count: np.ndarray
    """(ny, nx) uint8: frames behind each pixel; 0 = no template."""
    sky: np.ndarray
    """(c, my, mx) mesh of the sky level within `data`."""
    correlation: np.ndarray | float = 1.0
    """(c,): NOISECOR, see `difflapse.difference.Noise`."""
    convolution: Convolution | None = None
    """What `data` and `variance` are still to be convolved with; the rest is as after it."""


def combine(
    frames: np.ndarray,
    masks: np.ndarray,
    sky_variance: Sequence[np.ndarray],
    photon: Sequence[np.ndarray],
    level: np.ndarray,
    ny: int,
    row0: int = 0,
    *,
    rows: tuple[int, int] | None = None,
    columns: tuple[int, int] | None = None,
    factor: Sequence[np.ndarray] | None = None,
    offset: Sequence[np.ndarray] | None = None,
    flat: Sequence[np.ndarray] | None = None,
    weights: Sequence[float] | None = None,
    ignore: int = 0,
    clip: float = 3.5,
    statistic: str = "mean",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Combine several frames, or a band of their rows, into a clipped mean.

    Parameters
    ----------
    frames : ndarray, shape (n, c, h, nx), float32, C-contiguous
        255 at most. May be mapped from a file: rows are read once, and no copy is made.
    masks : ndarray, shape (n, h, nx), uint8
        0 = good.
    sky_variance, photon : sequences of ndarray, shape (c, my, mx)
        Each frame's noise model on its mesh over the whole image.
    level : ndarray, shape (c, my, mx)
        Sky level of the reference.
    ny : int
        Rows of the whole image.
    row0 : int
        Row of the image that the first row of `frames` is.
    rows : (first, end), optional
        The rows of `frames` to combine; all of them by default.
    columns : (first, nx), optional
        Where `frames` are a window of the image: the column of the image that their first is, a multiple of 16, and
        the columns of the whole image. Every pixel is then what it would be in the whole.
    factor, offset : sequences of ndarray, shape (c, my, mx), optional
        Meshes over the whole image that take each frame to the reference's scale and background,
        ``value * factor - offset``; without them it is there already.
    flat : sequence of ndarray, shape (c, my, mx), optional
        Third coefficient of each frame's noise, see `difflapse.difference.Noise`.
    weights : sequence of float, optional
        How much each frame counts in a mean, above 0; equal by default. A median heeds none.
    ignore : int
        Mask bits that do not keep a pixel out.
    clip : float
        Values further than this many sigma from the median are left out; sigma is the larger of the noise
        model and 1.4826 times the median absolute deviation.
    statistic : str
        ``mean`` (clipped) or ``median``.

    Returns
    -------
    data, variance : ndarray, shape (c, rows, nx), float32
    count : ndarray, shape (rows, nx), uint8
        The smallest number of frames behind any channel.

    Raises
    ------
    ValueError
        More than 255 frames, or a window that begins between two patches of 16 columns.

    Notes
    -----
    With fewer than 4 frames behind a pixel the median is taken for the value (of two, the mean). The mean is
    ``sum(w x) / sum(w)``, its variance ``sum(w**2 var) / sum(w)**2``: exact for any weights, over those frames that
    were not left out. A median's is that of its density at the middle, ``(pi / 2) / sum(1 / sigma)**2``, and a little
    less for few frames.
    """
    meshes = lay_meshes(sky_variance, photon, level, factor, offset, flat, weights)
    return combine_laid(
        frames,
        masks,
        meshes,
        ny,
        row0,
        rows=rows,
        columns=columns,
        ignore=ignore,
        clip=clip,
        statistic=statistic,
    )


@dataclass(frozen=True, eq=False)
class Laid:
    """What takes frames to the reference and says how noisy they are, as compiled code reads it."""

    channels: tuple[tuple[np.ndarray, ...], ...]
    """For each channel: factors and their shapes, offsets and theirs, three coefficients of noise, the level."""
    weights: np.ndarray
    """(n,) float32, of mean 1."""


def lay_meshes(
    sky_variance: Sequence[np.ndarray],
    photon: Sequence[np.ndarray],
    level: np.ndarray,
    factor: Sequence[np.ndarray] | None = None,
    offset: Sequence[np.ndarray] | None = None,
    flat: Sequence[np.ndarray] | None = None,
    weights: Sequence[float] | None = None,
) -> Laid:
    """Make the meshes of `combine` ready, once for many pieces of an image."""
    n, c = len(sky_variance), len(level)
    one, zero = constant([1.0] * c), constant([0.0] * c)
    by, less = [one] * n if factor is None else factor, [zero] * n if offset is None else offset
    flats = [zero] * n if flat is None else flat
    return Laid(
        tuple(
            (
                *_stacked(by, k),
                *_stacked(less, k),
                *(
                    np.stack([np.asarray(mesh[k], np.float32) for mesh in meshes])
                    for meshes in (sky_variance, photon, flats)
                ),
                np.ascontiguousarray(level[k], np.float32),
            )
            for k in range(c)
        ),
        np.ones(n, np.float32) if weights is None else np.asarray(weights, np.float32) * n / sum(weights),
    )


def combine_laid(
    frames: np.ndarray,
    masks: np.ndarray,
    laid: Laid,
    ny: int,
    row0: int = 0,
    *,
    rows: tuple[int, int] | None = None,
    columns: tuple[int, int] | None = None,
    ignore: int = 0,
    clip: float = 3.5,
    statistic: str = "mean",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `combine`, with meshes that are ready."""
    n, c, h, nx = frames.shape
    if n > MOST_FRAMES:
        raise ValueError(f"{n} frames to combine; {MOST_FRAMES} at most can be counted")
    first, end = rows or (0, h)
    column0, whole = columns or (0, nx)
    if column0 % _PATCH:
        raise ValueError(f"the window begins in column {column0}; it must be a multiple of {_PATCH}")
    data = np.empty((c, end - first, nx), np.float32)
    variance = np.empty_like(data)
    count = np.full((end - first, nx), MOST_FRAMES, np.uint8)
    # Flat, so that the rows of a large stack are contiguous to the compiler.
    stack, stack_masks = frames.reshape(-1), masks.reshape(-1)
    work = _combine if statistic == "mean" else _median
    pairs = sorting_network(n)
    for k, meshes in enumerate(laid.channels):
        work(
            stack,
            stack_masks,
            np.array([n, c, k, h, nx, first, row0, ny, column0, whole]),
            np.uint8(~ignore & 0xFF),
            *meshes[:-1],
            laid.weights,
            meshes[-1],
            np.float32(clip),
            pairs,
            data[k],
            variance[k],
            count,
        )
    return data, variance, count


def _stacked(meshes: Sequence[np.ndarray], channel: int) -> tuple[np.ndarray, np.ndarray]:
    """One channel of each frame's mesh in one array, (n, my, mx) float32, and how much of it each takes."""
    shapes = np.array([mesh.shape[1:] for mesh in meshes])
    out = np.zeros((len(meshes), *shapes.max(axis=0)), np.float32)
    for mesh, (my, mx), target in zip(meshes, shapes, out, strict=True):
        target[:my, :mx] = mesh[channel]
    return out, shapes


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _load_row(
    stack: np.ndarray,
    masks: np.ndarray,
    layout: np.ndarray,
    heeded: np.uint8,
    factor: np.ndarray,
    factor_shape: np.ndarray,
    offset: np.ndarray,
    offset_shape: np.ndarray,
    j: int,
    lines: np.ndarray,
    values: np.ndarray,
    bad: np.ndarray,
) -> None:
    """Row `j` of the output of all frames, on the reference's scale and background, with its mask."""
    n, c, channel, h, nx, first, row0, ny, column0, whole = layout
    row = first + j
    over = (row0 + row) % ROWS_PER_LINE
    if j == 0 or over == 0:
        middle = min(row0 + row - over + 0.5 * (ROWS_PER_LINE - 1), ny - 1.0)
        for k in range(n):
            mesh = factor[k, : factor_shape[k, 0], : factor_shape[k, 1]]
            part_of_line(mesh, middle, ny, whole, column0, lines[k, 0])
            mesh = offset[k, : offset_shape[k, 0], : offset_shape[k, 1]]
            part_of_line(mesh, middle, ny, whole, column0, lines[k, 1])
    for k in range(n):
        start = ((k * c + channel) * h + row) * nx
        source = stack[start : start + nx]
        start = (k * h + row) * nx
        mask = masks[start : start + nx]
        by, less = lines[k, 0], lines[k, 1]
        to, flags = values[k], bad[k]
        for i in range(nx):
            to[i] = source[i] * by[i] - less[i]
        for i in range(nx):
            flags[i] = mask[i] & heeded


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _node(place: int, size: int, nodes: int) -> int:
    """The node of a mesh that is nearest to a row or column of an image: a variance needs no more."""
    return (place * (nodes - 1) + size // 2) // max(size - 1, 1)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _patch_nodes(mesh: np.ndarray, column0: int, whole: int, out: np.ndarray) -> None:
    """The node of each patch of a row."""
    for p in range(len(out)):
        out[p] = _node(column0 + p * _PATCH, whole, mesh.shape[-1])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _median_factor(n: int) -> np.float32:
    """Variance of a median of n over that of their mean, to 1 % (normal noise); pi / 2 for many."""
    if n <= 2:
        return np.float32(1)
    return np.float32(1.5707963 * n / (n + (0.5 if n % 2 else 1.3)))


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _combine(
    stack: np.ndarray,
    masks: np.ndarray,
    layout: np.ndarray,
    heeded: np.uint8,
    factor: np.ndarray,
    factor_shape: np.ndarray,
    offset: np.ndarray,
    offset_shape: np.ndarray,
    sky: np.ndarray,
    photon: np.ndarray,
    flat: np.ndarray,
    weight: np.ndarray,
    level: np.ndarray,
    clip: np.float32,
    pairs: np.ndarray,
    data: np.ndarray,
    variance: np.ndarray,
    count: np.ndarray,
) -> None:
    """Clipped mean of each pixel: the plain one where no value is near the limit, nearly everywhere."""
    n, nx, first, row0, ny = layout[0], layout[4], layout[5], layout[6], layout[7]
    column0, whole = layout[8], layout[9]
    values = np.empty((n, nx), np.float32)
    flags = np.empty((n, nx), np.uint8)
    lines = np.empty((n, 2, nx), np.float32)
    mean = np.empty(nx, np.float32)
    low = np.empty(nx, np.float32)
    bad = np.empty(nx, np.uint8)
    excess = np.empty(nx, np.float32)
    patches = (nx + _PATCH - 1) // _PATCH
    at_sky, at_photon = np.empty(patches, np.int64), np.empty(patches, np.int64)
    at_flat, at_level = np.empty(patches, np.int64), np.empty(patches, np.int64)
    _patch_nodes(sky, column0, whole, at_sky)
    _patch_nodes(photon, column0, whole, at_photon)
    _patch_nodes(flat, column0, whole, at_flat)
    _patch_nodes(level, column0, whole, at_level)
    # Each patch's noise on each frame; the limits of the frames, and the noise of the plain mean.
    noise = np.empty((3, n, patches), np.float32)
    limit = np.empty((2, n, nx), np.float32)
    plain = np.empty((3, nx), np.float32)
    here = np.empty(nx, np.float32)
    in_sky = in_photon = in_flat = in_level = -1
    some, room = np.empty((n, nx), np.float32), np.empty((n, nx), np.float32)
    place = np.empty(nx, np.int64)
    sorting = np.empty(n, np.float32)
    for j in range(len(data)):
        _load_row(
            stack, masks, layout, heeded, factor, factor_shape, offset, offset_shape, j, lines, values, flags
        )
        row = row0 + first + j
        a, b = _node(row, ny, sky.shape[1]), _node(row, ny, photon.shape[1])
        c, d = _node(row, ny, flat.shape[1]), _node(row, ny, level.shape[0])
        if a != in_sky or b != in_photon or c != in_flat or d != in_level:
            in_sky, in_photon, in_flat, in_level = a, b, c, d
            plain[:] = 0
            for k in range(n):
                square = weight[k] * weight[k] / np.float32(n * n)
                for p in range(patches):
                    noise[0, k, p] = sky[k, a, at_sky[p]]
                    noise[1, k, p] = photon[k, b, at_photon[p]]
                    noise[2, k, p] = flat[k, c, at_flat[p]]
                for i in range(nx):
                    p = i // _PATCH
                    for q in range(3):
                        plain[q, i] += square * noise[q, k, p]
                    for q in range(2):
                        limit[q, k, i] = (clip - _MARGIN) ** 2 * noise[q, k, p]
            for i in range(nx):
                here[i] = level[d, at_level[i // _PATCH]]
        _summarise_row(values, flags, weight, mean, low, bad)
        _judge_row(values, mean, low, here, limit, excess)
        to, to_variance, to_count = data[j], variance[j], count[j]
        for i in range(nx):
            to[i] = mean[i]
            signal = max(mean[i] - here[i], np.float32(0))
            to_variance[i] = plain[0, i] + (plain[1, i] + plain[2, i] * signal) * signal
        m = 0
        for i in range(nx):
            if bad[i] != 0 or n < 4:
                to[i], to_variance[i], good = _clipped_mean(
                    values[:, i], flags[:, i], noise[:, :, i // _PATCH], weight, here[i], clip, sorting
                )
                to_count[i] = min(to_count[i], good)
                continue
            to_count[i] = min(to_count[i], n)
            if excess[i] > 0:
                place[m] = i
                m += 1
        if m:
            for k in range(n):
                for q in range(m):
                    some[k, q] = values[k, place[q]]
            _clipped_means(
                some[:, :m], place[:m], noise, weight, pairs, here, clip, room[:, :m], to, to_variance
            )


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _judge_row(
    values: np.ndarray,
    mean: np.ndarray,
    low: np.ndarray,
    here: np.ndarray,
    limit: np.ndarray,
    excess: np.ndarray,
) -> None:
    """How far each pixel's worst value exceeds the square of its limit, with the light that is there at least."""
    excess[:] = -np.float32(np.inf)
    for k in range(len(values)):
        row, sky, photon = values[k], limit[0, k], limit[1, k]
        for i in range(len(mean)):
            away = row[i] - mean[i]
            over = away * away - (sky[i] + photon[i] * max(low[i] - here[i], np.float32(0)))
            excess[i] = max(excess[i], over)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _clipped_means(
    values: np.ndarray,
    place: np.ndarray,
    noise: np.ndarray,
    weight: np.ndarray,
    pairs: np.ndarray,
    here: np.ndarray,
    clip: np.float32,
    room: np.ndarray,
    out: np.ndarray,
    out_variance: np.ndarray,
) -> None:
    """As `_clipped_mean`, for pixels (n, m) at `place` of a row that are good on all frames, all at once."""
    n, size = values.shape
    middle, signal = np.empty(size, np.float32), np.empty(size, np.float32)
    spread, weights = np.empty(size, np.float32), np.zeros(size, np.float32)
    total, total_variance = np.zeros(size, np.float32), np.zeros(size, np.float32)
    room[:] = values
    sort_rows(room, pairs)
    for i in range(size):
        middle[i] = np.float32(0.5) * (room[(n - 1) // 2, i] + room[n // 2, i])
        signal[i] = max(middle[i] - here[place[i]], np.float32(0))
    for k in range(n):
        for i in range(size):
            room[k, i] = abs(values[k, i] - middle[i])
    sort_rows(room, pairs)
    for i in range(size):
        deviation = np.float32(0.5) * (room[(n - 1) // 2, i] + room[n // 2, i])
        spread[i] = clip * np.float32(1.4826) * deviation
    for k in range(n):
        for i in range(size):
            p = place[i] // _PATCH
            variance = noise[0, k, p] + (noise[1, k, p] + noise[2, k, p] * signal[i]) * signal[i]
            value = values[k, i] - middle[i]
            kept = abs(value) <= spread[i] or value * value <= clip * clip * variance
            w = weight[k] if kept else np.float32(0)
            total[i] += w * value
            total_variance[i] += w * w * variance
            weights[i] += w
    for i in range(size):
        if weights[i] == 0:
            out[place[i]], out_variance[place[i]] = middle[i], np.float32(1e12)
        else:
            out[place[i]] = middle[i] + total[i] / weights[i]
            out_variance[place[i]] = total_variance[i] / (weights[i] * weights[i])


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _summarise_row(
    values: np.ndarray,
    masks: np.ndarray,
    weight: np.ndarray,
    mean: np.ndarray,
    low: np.ndarray,
    bad: np.ndarray,
) -> None:
    """Weighted mean and least value of each pixel of a row over the frames, and all their mask bits; frame by frame."""
    for k in range(len(values)):
        row, mask, w = values[k], masks[k], weight[k]
        if k == 0:
            for i in range(len(mean)):
                mean[i] = w * row[i]
                low[i] = row[i]
                bad[i] = mask[i]
            continue
        for i in range(len(mean)):
            x = row[i]
            mean[i] += w * x
            low[i] = min(low[i], x)
            bad[i] |= mask[i]
    for i in range(len(mean)):
        mean[i] /= np.float32(len(values))


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _clipped_mean(
    values: np.ndarray,
    masks: np.ndarray,
    noise: np.ndarray,
    weight: np.ndarray,
    level: np.float32,
    clip: np.float32,
    v: np.ndarray,
) -> tuple[np.float32, np.float32, int]:
    """One pixel's clipped mean, its variance, and the number of good frames; `v` is room for sorting."""
    nothing = np.float32(1e12)
    m = 0
    for k in range(len(values)):
        if masks[k] == 0:
            p = m
            while p > 0 and v[p - 1] > values[k]:
                v[p] = v[p - 1]
                p -= 1
            v[p] = values[k]
            m += 1
    if m == 0:
        return np.float32(0), nothing, 0
    mid = np.float32(0.5) * (v[(m - 1) // 2] + v[m // 2])
    signal = max(mid - level, np.float32(0))
    if m < 4:
        plain_var, inverse = np.float32(0), np.float32(0)
        for k in range(len(values)):
            if masks[k] == 0:
                variance = noise[0, k] + (noise[1, k] + noise[2, k] * signal) * signal
                plain_var += variance
                inverse += np.float32(1) / np.sqrt(variance)
        if m < 3:
            return mid, plain_var / np.float32(m * m), m
        return mid, _median_factor(m) * m / (inverse * inverse), m
    spread = clip * np.float32(1.4826) * _median_deviation(v, m, mid)
    total, total_var, weights = np.float32(0), np.float32(0), np.float32(0)
    for k in range(len(values)):
        if masks[k] == 0:
            variance = noise[0, k] + (noise[1, k] + noise[2, k] * signal) * signal
            away = abs(values[k] - mid)
            if away <= spread or away * away <= clip * clip * variance:
                total += weight[k] * (values[k] - mid)
                total_var += weight[k] * weight[k] * variance
                weights += weight[k]
    if weights == 0:
        return mid, nothing, m
    return mid + total / weights, total_var / (weights * weights), m


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _median_deviation(v: np.ndarray, m: int, mid: np.float32) -> np.float32:
    """Median of the deviations of `m` sorted values from their median: from the middle outwards, nearest first."""
    left, right = (m - 1) // 2, (m - 1) // 2 + 1
    before = now = np.float32(0)
    for _ in range(m // 2 + 1):
        before = now
        if right >= m or (left >= 0 and mid - v[left] <= v[right] - mid):
            now = mid - v[left]
            left -= 1
        else:
            now = v[right] - mid
            right += 1
    return now if m % 2 else np.float32(0.5) * (before + now)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _median(
    stack: np.ndarray,
    masks: np.ndarray,
    layout: np.ndarray,
    heeded: np.uint8,
    factor: np.ndarray,
    factor_shape: np.ndarray,
    offset: np.ndarray,
    offset_shape: np.ndarray,
    sky: np.ndarray,
    photon: np.ndarray,
    flat: np.ndarray,
    weight: np.ndarray,
    level: np.ndarray,
    clip: np.float32,
    pairs: np.ndarray,
    data: np.ndarray,
    variance: np.ndarray,
    count: np.ndarray,
) -> None:
    """Median of each pixel: rows are sorted against each other, many at once."""
    n, nx, first, row0, ny = layout[0], layout[4], layout[5], layout[6], layout[7]
    column0, whole = layout[8], layout[9]
    rows = np.empty((n, nx), np.float32)
    flags = np.empty((n, nx), np.uint8)
    lines = np.empty((n, 2, nx), np.float32)
    good = np.empty(nx, np.uint8)
    patches = (nx + _PATCH - 1) // _PATCH
    at_sky, at_photon = np.empty(patches, np.int64), np.empty(patches, np.int64)
    at_flat, at_level = np.empty(patches, np.int64), np.empty(patches, np.int64)
    _patch_nodes(sky, column0, whole, at_sky)
    _patch_nodes(photon, column0, whole, at_photon)
    _patch_nodes(flat, column0, whole, at_flat)
    _patch_nodes(level, column0, whole, at_level)
    sums = np.zeros((patches, 3), np.float32)
    in_sky = in_photon = in_flat = -1
    for j in range(len(data)):
        _load_row(
            stack, masks, layout, heeded, factor, factor_shape, offset, offset_shape, j, lines, rows, flags
        )
        row = row0 + first + j
        good[:] = 0
        for k in range(n):
            for i in range(nx):
                bad = flags[k, i] != 0
                rows[k, i] = np.float32(np.inf) if bad else rows[k, i]
                good[i] += 0 if bad else 1
        sort_rows(rows, pairs)
        a, b = _node(row, ny, sky.shape[1]), _node(row, ny, photon.shape[1])
        c = _node(row, ny, flat.shape[1])
        if a != in_sky or b != in_photon or c != in_flat:
            in_sky, in_photon, in_flat = a, b, c
            for p in range(patches):
                # A noisy frame (clouds, scaled up) hardly moves a median: frames count with the inverse of their sigma.
                counts, mean_photon, mean_flat = np.float32(0), np.float32(0), np.float32(0)
                for k in range(n):
                    w = np.float32(1) / np.sqrt(sky[k, a, at_sky[p]])
                    counts += w
                    mean_photon += w * photon[k, b, at_photon[p]]
                    mean_flat += w * flat[k, c, at_flat[p]]
                sums[p, 0], sums[p, 1], sums[p, 2] = (
                    (n / counts) ** 2,
                    mean_photon / counts,
                    mean_flat / counts,
                )
        levels = level[_node(row, ny, level.shape[0])]
        for p in range(patches):
            here = levels[at_level[p]]
            mean_sky, mean_photon, mean_flat = sums[p, 0], sums[p, 1], sums[p, 2]
            i0 = p * _PATCH
            for i in range(i0, min(nx, i0 + _PATCH)):
                m = good[i]
                count[j, i] = min(count[j, i], m)
                if m == 0:
                    data[j, i] = 0
                    variance[j, i] = np.float32(1e12)
                    continue
                mid = np.float32(0.5) * (rows[(m - 1) // 2, i] + rows[m // 2, i])
                data[j, i] = mid
                signal = max(mid - here, np.float32(0))
                variance[j, i] = (
                    _median_factor(m) * (mean_sky + (mean_photon + mean_flat * signal) * signal) / m
                )

"""The template: a robust mean of the night's best frames, with its variance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np

MOST_FRAMES = 255
"""The frames behind a pixel are counted in 8 bits."""


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


def combine(
    frames: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    sky_variance: Sequence[np.ndarray],
    photon: Sequence[np.ndarray],
    level: np.ndarray,
    ny: int,
    row0: int,
    clip: float = 3.5,
    statistic: str = "mean",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Combine a band of rows of several matched frames into a clipped mean.

    Parameters
    ----------
    frames : sequence of ndarray, shape (c, h, nx), float32
        255 at most: the band of each frame, already on the reference's scale and background.
    masks : sequence of ndarray, shape (h, nx), uint8
        0 = good.
    sky_variance, photon : sequences of ndarray, shape (c, my, mx)
        Each frame's noise model on its mesh over the whole image.
    level : ndarray, shape (c, my, mx)
        Sky level of the reference.
    ny : int
        Rows of the whole image; the band begins at `row0`.
    row0 : int
        First row of the band.
    clip : float
        Values further than this many sigma from the median are left out; sigma is the larger of the noise
        model and 1.4826 times the median absolute deviation.
    statistic : str
        ``mean`` (clipped) or ``median``.

    Returns
    -------
    data, variance : ndarray, shape (c, h, nx), float32
    count : ndarray, shape (h, nx), uint8
        The smallest number of frames behind any channel.

    Raises
    ------
    ValueError
        More than 255 frames.

    Notes
    -----
    With fewer than 4 frames behind a pixel the median is taken for the value (of two, the mean).
    """
    if len(frames) > MOST_FRAMES:
        raise ValueError(f"{len(frames)} frames to combine; {MOST_FRAMES} at most can be counted")
    c, h, nx = frames[0].shape
    data = np.empty((c, h, nx), np.float32)
    variance = np.empty((c, h, nx), np.float32)
    count = np.full((h, nx), 255, np.uint8)
    stack = np.stack([np.ascontiguousarray(m) for m in masks])
    sky = np.stack([np.asarray(m, np.float32) for m in sky_variance])
    per_adu = np.stack([np.asarray(m, np.float32) for m in photon])
    for k in range(c):
        values = np.stack([f[k] for f in frames])
        noise = (sky[:, k], per_adu[:, k], np.asarray(level[k], np.float32), ny, row0)
        target = (data[k], variance[k], count)
        if statistic == "median":
            _median(values, stack, *noise, *target)
        else:
            _combine(values, stack, *noise, np.float32(clip), *target)
    return data, variance, count


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _at(mesh: np.ndarray, j: int, i: int, ny: int, nx: int) -> np.float32:
    """Nearest node: a variance needs no more."""
    my, mx = mesh.shape
    return mesh[(j * (my - 1) + ny // 2) // max(ny - 1, 1), (i * (mx - 1) + nx // 2) // max(nx - 1, 1)]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _median_factor(n: int) -> np.float32:
    """Variance of a median of n over that of their mean, to 1 % (normal noise); pi / 2 for many."""
    if n <= 2:
        return np.float32(1)
    return np.float32(1.5707963 * n / (n + (0.5 if n % 2 else 1.3)))


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _combine(
    values: np.ndarray,
    masks: np.ndarray,
    sky: np.ndarray,
    photon: np.ndarray,
    level: np.ndarray,
    ny: int,
    row0: int,
    clip: np.float32,
    data: np.ndarray,
    variance: np.ndarray,
    count: np.ndarray,
) -> None:
    """Clipped mean of each pixel: the plain one where no value is near the limit, nearly everywhere."""
    n, h, nx = values.shape
    total = np.empty(nx, np.float32)
    low = np.empty(nx, np.float32)
    high = np.empty(nx, np.float32)
    bad = np.empty(nx, np.uint8)
    var_sky = np.empty(n, np.float32)
    var_photon = np.empty(n, np.float32)
    for j in range(h):
        _summarise_row(values, masks, j, total, low, high, bad)
        for i0 in range(0, nx, 16):
            all_sky, all_photon, smallest = np.float32(0), np.float32(0), np.float32(np.inf)
            for k in range(n):
                var_sky[k] = _at(sky[k], row0 + j, i0, ny, nx)
                var_photon[k] = _at(photon[k], row0 + j, i0, ny, nx)
                all_sky += var_sky[k]
                all_photon += var_photon[k]
                smallest = min(smallest, var_sky[k])
            here = _at(level, row0 + j, i0, ny, nx)
            # Half a sigma within the limit: the median lies no further from the mean.
            reach = (clip - np.float32(0.5)) ** 2 * smallest
            for i in range(i0, min(nx, i0 + 16)):
                mean = total[i] / n
                if (
                    n >= 4
                    and bad[i] == 0
                    and (high[i] - mean) ** 2 <= reach
                    and (mean - low[i]) ** 2 <= reach
                ):
                    data[j, i] = mean
                    signal = max(mean - here, np.float32(0))
                    variance[j, i] = (all_sky + all_photon * signal) / (n * n)
                    count[j, i] = min(count[j, i], n)
                else:
                    data[j, i], variance[j, i], m = _clipped_mean(
                        values[:, j, i], masks[:, j, i], var_sky, var_photon, here, clip
                    )
                    count[j, i] = min(count[j, i], m)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _summarise_row(
    values: np.ndarray,
    masks: np.ndarray,
    j: int,
    total: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    bad: np.ndarray,
) -> None:
    """Sum and extremes of each pixel of a row over the frames, and all their mask bits; frame by frame."""
    for k in range(len(values)):
        row, mask = values[k, j], masks[k, j]
        if k == 0:
            for i in range(len(total)):
                total[i] = low[i] = high[i] = row[i]
                bad[i] = mask[i]
            continue
        for i in range(len(total)):
            x = row[i]
            total[i] += x
            low[i] = min(low[i], x)
            high[i] = max(high[i], x)
            bad[i] |= mask[i]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _clipped_mean(
    values: np.ndarray,
    masks: np.ndarray,
    var_sky: np.ndarray,
    var_photon: np.ndarray,
    level: np.float32,
    clip: np.float32,
) -> tuple[np.float32, np.float32, int]:
    """One pixel's clipped mean, its variance, and the number of good frames."""
    nothing = np.float32(1e12)
    v = np.empty(len(values), np.float32)
    who = np.empty(len(values), np.int64)
    m = 0
    for k in range(len(values)):
        if masks[k] == 0:
            p = m
            while p > 0 and v[p - 1] > values[k]:
                v[p] = v[p - 1]
                who[p] = who[p - 1]
                p -= 1
            v[p] = values[k]
            who[p] = k
            m += 1
    if m == 0:
        return np.float32(0), nothing, 0
    mid = np.float32(0.5) * (v[(m - 1) // 2] + v[m // 2])
    signal = max(mid - level, np.float32(0))
    spread = np.float32(np.inf)
    if m >= 4:
        spread = np.float32(1.4826) * np.median(np.abs(v[:m] - mid))
    total, total_var, used = np.float32(0), np.float32(0), 0
    for p in range(m):
        w = var_sky[who[p]] + var_photon[who[p]] * signal
        if abs(v[p] - mid) <= clip * max(np.sqrt(w), spread):
            total += v[p] - mid
            total_var += w
            used += 1
    if m < 4:
        return mid, total_var / np.float32(m * m) * _median_factor(m), m
    if used == 0:
        return mid, nothing, m
    return mid + total / np.float32(used), total_var / np.float32(used * used), m


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _median(
    values: np.ndarray,
    masks: np.ndarray,
    sky: np.ndarray,
    photon: np.ndarray,
    level: np.ndarray,
    ny: int,
    row0: int,
    data: np.ndarray,
    variance: np.ndarray,
    count: np.ndarray,
) -> None:
    """Median of each pixel: rows are sorted against each other (odd-even transposition), many at once."""
    n, h, nx = values.shape
    rows = np.empty((n, nx), np.float32)
    good = np.empty(nx, np.uint8)
    for j in range(h):
        good[:] = 0
        for k in range(n):
            for i in range(nx):
                bad = masks[k, j, i] != 0
                rows[k, i] = np.float32(np.inf) if bad else values[k, j, i]
                good[i] += 0 if bad else 1
        for turn in range(n):
            for k in range(turn & 1, n - 1, 2):
                a = rows[k]
                b = rows[k + 1]
                for i in range(nx):
                    low, high = min(a[i], b[i]), max(a[i], b[i])
                    a[i] = low
                    b[i] = high
        for i0 in range(0, nx, 16):
            mean_sky = np.float32(0)
            mean_photon = np.float32(0)
            for k in range(n):
                mean_sky += _at(sky[k], row0 + j, i0, ny, nx) / n
                mean_photon += _at(photon[k], row0 + j, i0, ny, nx) / n
            here = _at(level, row0 + j, i0, ny, nx)
            for i in range(i0, min(nx, i0 + 16)):
                m = good[i]
                count[j, i] = min(count[j, i], m)
                if m == 0:
                    data[j, i] = 0
                    variance[j, i] = np.float32(1e12)
                    continue
                mid = np.float32(0.5) * (rows[(m - 1) // 2, i] + rows[m // 2, i])
                data[j, i] = mid
                variance[j, i] = (
                    _median_factor(m) * (mean_sky + mean_photon * max(mid - here, np.float32(0))) / m
                )

"""Sky level and pixel-to-pixel noise of each colour of a frame."""

from __future__ import annotations

import numba
import numpy as np

from difflapse.measure.order import quantile
from difflapse.mosaic import channels, sites

_MAX_SAMPLES = 40_000
_RUN = 64
"""Neighbours in a row among which the darker half is taken for sky."""
_LARGEST = np.int32(0x7F7FFFFF)
"""The bits of the largest finite float."""


def channel_levels(
    data: np.ndarray, pattern: str, bias: float = 0.0, mask: np.ndarray | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measure the median level and the robust noise of each colour; not for small structures.

    Parameters
    ----------
    data : ndarray, shape (ny, nx)
        Native pixels.
    pattern : str
        Mosaic in array order; empty for monochrome.
    bias : float
        Level of no light, subtracted from the medians.
    mask : ndarray of bool, shape (ny, nx), optional
        True = bad.

    Returns
    -------
    levels, noises : tuples of float, one per channel
        In the data's units, per native pixel. The noise comes from differences between neighbours of the same
        colour where their sum is low, so that neither gradients nor crowds of stars count.
    """
    levels: list[list[float]] = [[] for _ in channels(pattern)]
    noises: list[list[float]] = [[] for _ in channels(pattern)]
    step = 2 if pattern else 1
    for site in sites(pattern):
        plane = data[site.y :: step, site.x :: step]
        plane = plane[: data.shape[0] // step, : data.shape[1] // step]
        rows = max(1, plane.size // _MAX_SAMPLES)
        sample = plane[rows // 2 :: rows].astype(np.float32)
        good = np.ones(sample.shape, bool)
        if mask is not None:
            bad = mask[site.y :: step, site.x :: step][: data.shape[0] // step, : data.shape[1] // step]
            good = ~bad[rows // 2 :: rows]
        good &= np.isfinite(sample)
        if not good.any():
            levels[site.channel].append(float("nan"))
            noises[site.channel].append(float("nan"))
            continue
        levels[site.channel].append(float(np.median(sample[good])) - bias)
        noises[site.channel].append(noise_between_stars(sample, good))
    return (
        tuple(float(np.mean(values)) for values in levels),
        tuple(float(np.sqrt(np.mean(np.square(values)))) for values in noises),
    )


def noise_between_stars(sample: np.ndarray, good: np.ndarray) -> float:
    """Noise of a pixel from the darker half of neighbouring pairs: sum and difference are independent."""
    run = min(_RUN, sample.shape[1] - 1)
    if run < 1 or sample.shape[0] == 0:
        return float("nan")
    return _robust_width(_quiet_steps(sample, good, run)) / float(np.sqrt(2))


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _quiet_steps(sample: np.ndarray, good: np.ndarray, run: int) -> np.ndarray:
    """Differences of neighbours in a row, of those pairs of each `run` whose sum is not above their median."""
    ny = sample.shape[0]
    runs = (sample.shape[1] - 1) // run
    out = np.empty(ny * runs * run + 1, np.float32)
    total = np.empty(run, np.float32)
    order = total.view(np.int32)
    n = 0
    for j in range(ny):
        row, fine = sample[j], good[j]
        for r in range(runs):
            first = r * run
            some = False
            for k in range(run):
                both = fine[first + k] & fine[first + k + 1]
                total[k] = row[first + k] + row[first + k + 1] if both else np.float32(np.inf)
                some |= both
            if not some:
                continue
            # Floats are ordered as whole numbers are, the negative ones the other way round.
            for k in range(run):
                order[k] ^= (order[k] >> 31) & 0x7FFFFFFF
            limit = min(_smallest(order, run // 2), _LARGEST)
            # Written always, counted where it is quiet: nothing to guess.
            for k in range(run):
                out[n] = row[first + k + 1] - row[first + k]
                n += order[k] <= limit
    return out[:n]


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _smallest(values: np.ndarray, k: int) -> np.int32:
    """The k-th smallest, from 0 on, of a few whole numbers (n,) int32: halved is where it can be."""
    low, high = np.int64(values.min()), np.int64(values.max())
    while low < high:
        middle = (low + high) >> 1
        at, count = np.int32(middle), np.int32(0)
        for i in range(len(values)):
            count += np.int32(values[i] <= at)
        if count > k:
            high = middle
        else:
            low = middle + 1
    return np.int32(low)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _robust_width(values: np.ndarray) -> float:
    """Standard deviation of the core of a distribution, not quantised where the values (n,) float32 are whole numbers,
    which are then no longer so.
    """
    n = len(values)
    if n < 2:
        return np.nan
    whole = True
    for k in range(n):
        if values[k] != np.floor(values[k]):
            whole = False
            break
    if whole:
        # Spread each count over its unit interval, then take that interval's variance off again.
        for k in range(n):
            values[k] += np.float32((k * 0.61803399) % 1.0 - 0.5)
    room = np.empty(n, np.float32)
    low, high = quantile(values, 0.158655, room), quantile(values, 0.841345, room)
    width = 0.5 * (high - low)
    return np.sqrt(max(width * width - 1 / 12, 0.0)) if whole else width

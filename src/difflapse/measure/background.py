"""Sky level and pixel-to-pixel noise of each colour of a frame."""

from __future__ import annotations

import numba
import numpy as np

from difflapse.measure.order import neighbours, quantile
from difflapse.mosaic import channels, sites

_MAX_SAMPLES = 40_000
_RUN = 64
"""Neighbours in a row among which the darker half is taken for sky."""


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


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _quiet_steps(sample: np.ndarray, good: np.ndarray, run: int) -> np.ndarray:
    """Differences of neighbours in a row, of those pairs of each `run` whose sum is not above their median."""
    ny = sample.shape[0]
    runs = (sample.shape[1] - 1) // run
    out = np.empty(ny * runs * run, np.float32)
    total, room = np.empty(run, np.float32), np.empty(run, np.float32)
    n = 0
    for j in range(ny):
        for r in range(runs):
            m = 0
            for k in range(run):
                i = r * run + k
                total[k] = np.inf
                if good[j, i] and good[j, i + 1]:
                    total[k] = sample[j, i] + sample[j, i + 1]
                    m += 1
            if m == 0:
                continue
            limit = neighbours(total, run // 2, room)[0]
            for k in range(run):
                if total[k] <= limit and total[k] < np.inf:
                    i = r * run + k
                    out[n] = sample[j, i + 1] - sample[j, i]
                    n += 1
    return out[:n]


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

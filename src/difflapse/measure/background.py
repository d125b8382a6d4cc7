"""Sky level and pixel-to-pixel noise of each colour of a frame."""

from __future__ import annotations

import numpy as np

from difflapse.mosaic import channels, sites

_MAX_SAMPLES = 80_000
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
    total = sample[:, 1:] + sample[:, :-1]
    total[~(good[:, 1:] & good[:, :-1])] = np.inf
    run = min(_RUN, total.shape[1])
    length = total.shape[1] // run * run if run else 0
    if length == 0:
        return float("nan")
    total = total[:, :length].reshape(-1, run)
    step = (sample[:, 1:] - sample[:, :-1])[:, :length].reshape(-1, run)
    limit = np.partition(total, run // 2, axis=1)[:, run // 2 : run // 2 + 1]
    return _robust_width(step[(total <= limit) & np.isfinite(total)]) / float(np.sqrt(2))


def _robust_width(values: np.ndarray) -> float:
    """Standard deviation of the core of a distribution, not quantised where the values are whole numbers."""
    if values.size < 2:
        return float("nan")
    if np.any(values != np.round(values)):
        low, high = np.percentile(values, [15.8655, 84.1345])
        return float(high - low) / 2
    # Whole numbers: spread each count over its unit interval, then take that interval's variance off again.
    dithered = values + (
        np.arange(values.size, dtype=np.float32) * np.float32(0.61803399) % 1 - np.float32(0.5)
    )
    low, high = np.percentile(dithered, [15.8655, 84.1345])
    return float(np.sqrt(max(((high - low) / 2) ** 2 - 1 / 12, 0.0)))

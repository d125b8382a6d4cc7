"""Sky level and pixel-to-pixel noise of each colour of a frame."""

from __future__ import annotations

import numpy as np

from difflapse.mosaic import channels, sites

_MAX_SAMPLES = 80_000


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
        colour (robustly, divided by sqrt 2), so that gradients and stars hardly count.
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
        pair = good[:, 1:] & good[:, :-1]
        steps = (sample[:, 1:] - sample[:, :-1])[pair]
        noises[site.channel].append(_robust_width(steps) / np.sqrt(2) if steps.size else float("nan"))
    return (
        tuple(float(np.mean(values)) for values in levels),
        tuple(float(np.sqrt(np.mean(np.square(values)))) for values in noises),
    )


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

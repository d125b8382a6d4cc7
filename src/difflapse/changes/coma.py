"""Whether something that moves has a coma: light about its track that does not come from a point."""

from __future__ import annotations

import warnings

import numpy as np

_RING = (0.9, 3.2)
"""Radii, in cells, of the ring in which a coma shines and a point does not."""
_ELSEWHERE = 48
"""Places that the same track is laid to see what a ring shows by chance."""


def coma_strength(pictures: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """How many sigma the ring about a track is brighter than the same ring elsewhere; for tracks, not for stars.

    Parameters
    ----------
    pictures : ndarray, shape (n, ny, nx), float32
        Small pictures of differences on one grid, each cell a median so that points hardly count; NaN where unknown.
    x, y : ndarray, shape (n,)
        Where it is on each of them, cells.

    Returns
    -------
    float
        0 where too little is known.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # cells that no picture knows
        rest = pictures - np.nanmedian(pictures, axis=0)
    ny, nx = rest.shape[1:]
    reach = int(np.ceil(_RING[1]))
    v, u = np.indices((2 * reach + 1, 2 * reach + 1)) - reach

    def light(dx: float, dy: float) -> float:
        values = []
        for k in range(len(rest)):
            i, j = round(float(x[k] + dx)), round(float(y[k] + dy))
            if reach <= i < nx - reach and reach <= j < ny - reach:
                r = np.hypot(u + i - x[k] - dx, v + j - y[k] - dy)
                cut = rest[k, j - reach : j + reach + 1, i - reach : i + reach + 1]
                values.append(np.nanmean(cut[(r > _RING[0]) & (r < _RING[1])]))
        return float(np.nanmedian(values)) if len(values) >= 3 else np.nan

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        own = light(0.0, 0.0)
        angles = 2 * np.pi * np.arange(_ELSEWHERE) / _ELSEWHERE * 5
        far = 9.0 + 8.0 * np.arange(_ELSEWHERE) / _ELSEWHERE
        others = np.array(
            [light(float(f * np.cos(a)), float(f * np.sin(a))) for f, a in zip(far, angles, strict=True)]
        )
    others = others[np.isfinite(others)]
    if not np.isfinite(own) or len(others) < 8:
        return 0.0
    middle = float(np.median(others))
    return float((own - middle) / max(1.4826 * np.median(np.abs(others - middle)), 1e-6))

"""The light of something that moves past stars, told from theirs by what the same circles hold in other frames."""

from __future__ import annotations

import numpy as np

_FAR = 4
"""Radii of the circle from which on what moves gives no light to where it was, or will be."""
_LEAST = 2
"""Radii that it must move at least, for stars to be told from it."""
_ROUNDS = 4
_CLIP = 4.0


def less_stars(
    flux: np.ndarray, error: np.ndarray, x: np.ndarray, y: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Take the light of stars off that of a thing which moves past them.

    Parameters
    ----------
    flux, error : ndarray, shape (n, n)
        The light in circles on unresampled pixels: in frame j (rows), where the thing is in frame p (columns). NaN
        where it is not known.
    x, y : ndarray, shape (n,)
        Where it is in each frame, any one system of pixels.
    radius : float
        Of the circles, in its pixels.

    Returns
    -------
    flux, error, doubt : ndarray, shape (n,)
        The thing's own light in each frame, its error, and the part of that error which the stars there leave; NaN
        where it is not known. None where it moves too little for stars to be told from it.

    Notes
    -----
    What a circle holds in other frames is the light of the stars there, and of as much of the thing as reaches so far
    from it: the same at the same distance, ahead and behind each, in steps of the radius, and none from 4 radii on
    (or from the largest distance on, where it moves less). Both are fitted together, outliers left out. A star's light
    differs from frame to frame by more than photons, with its place on the pixels and the seeing: its scatter is in the
    error.
    """
    n = len(x)
    apart = np.hypot(x[:, None] - x, y[:, None] - y) / radius
    steps = np.minimum(np.floor(apart).astype(int), _FAR)
    last = int(steps.max(initial=0))
    if last < _LEAST:
        return None
    j, p = np.nonzero(np.isfinite(flux + error) & ~np.eye(n, dtype=bool))
    own_step = steps[j, p]
    # Columns: a star's light for each place; the thing's for each step ahead and behind, but the last.
    columns = n + own_step + np.where(j > p, last, 0)
    design = np.zeros((len(j), n + 2 * last))
    rows = np.arange(len(j))
    design[rows, p] = 1
    near = own_step < last
    design[rows[near], columns[near]] = 1
    value = flux[j, p]
    weight = 1 / error[j, p] ** 2
    keep = np.ones(len(j), bool)
    rest = value
    for _ in range(_ROUNDS):
        weighted = design * np.where(keep, weight, 0.0)[:, None]
        found = np.linalg.lstsq(weighted.T @ design, weighted.T @ value, rcond=1e-9)[0]
        rest = value - design @ found
        spread = np.array([_spread(rest[p == q]) for q in range(n)])
        keep = np.abs(rest) <= _CLIP * np.maximum(spread[p], error[j, p])
    far = keep & (own_step >= _LEAST)
    told = np.array([int((far & (p == q)).sum()) for q in range(n)])
    photons = np.array([np.median(error[j, p][p == q]) if (p == q).any() else np.nan for q in range(n)])
    more = np.maximum(spread**2 - photons**2, 0.0)
    doubt = np.sqrt(more + np.maximum(spread, photons) ** 2 * 1.57 / np.maximum(told, 1))
    light = flux.diagonal() - found[:n]
    # Where no frame shows the place without the thing, nothing tells what lies there.
    light = np.where(told > 0, light, np.nan)
    return light, np.hypot(error.diagonal(), doubt), doubt


def _spread(values: np.ndarray) -> float:
    """Robust standard deviation about zero; 0 of nothing."""
    return 1.4826 * float(np.median(np.abs(values))) if len(values) else 0.0

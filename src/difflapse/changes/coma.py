"""Whether something that moves has a coma: light about its track that does not come from a point."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numba
import numpy as np

from difflapse.measure.order import median

_RING = (0.9, 3.2)
"""Radii, in cells, of the ring in which a coma shines and a point does not."""
_FEWEST = 3
"""Pictures that must know a place."""
_ELSEWHERE = 48
"""Places that the same track is laid to see what a ring shows by chance, ..."""
_FARTHEST = 17.0
"""... up to so many cells away."""


def coma_strength(pictures: Sequence[np.ndarray] | np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """How many sigma the ring about a track is brighter than the same ring elsewhere; for tracks, not for stars.

    Parameters
    ----------
    pictures : sequence of n ndarrays, shape (ny, nx), float32
        Small pictures of differences on one grid, each cell a median so that points hardly count; NaN where unknown.
        They may be mapped from a file: only what lies about the track is read.
    x, y : ndarray, shape (n,)
        Where it is on each of them, cells.

    Returns
    -------
    float
        0 where too little is known.
    """
    turns = np.arange(_ELSEWHERE) / _ELSEWHERE
    angles, far = 10 * np.pi * turns, 9.0 + (_FARTHEST - 9.0) * turns
    dx, dy = np.append(0.0, far * np.cos(angles)), np.append(0.0, far * np.sin(angles))
    # What lies off the track is never looked at.
    edge = math.ceil(_FARTHEST + _RING[1]) + 1
    (i0, i1), (j0, j1) = (
        (max(0, math.floor(at.min()) - edge), min(size, math.ceil(at.max()) + edge + 1))
        for at, size in ((x, pictures[0].shape[1]), (y, pictures[0].shape[0]))
    )
    if i1 <= i0 or j1 <= j0:
        return 0.0
    near = np.stack([np.asarray(picture[j0:j1, i0:i1], np.float32) for picture in pictures])
    values = np.full((len(dx), len(near)), np.nan)
    _rings(near, _middles(near), np.asarray(x - i0, float), np.asarray(y - j0, float), dx, dy, values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # places of which no picture knows anything
        light = np.nanmedian(values, axis=1)
    light[np.isfinite(values).sum(axis=1) < _FEWEST] = np.nan
    own, others = light[0], light[1:][np.isfinite(light[1:])]
    if not np.isfinite(own) or len(others) < 8:
        return 0.0
    middle = float(np.median(others))
    return float((own - middle) / max(1.4826 * np.median(np.abs(others - middle)), 1e-6))


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _middles(pictures: np.ndarray) -> np.ndarray:
    """The median of n pictures in each cell; NaN where none knows."""
    n, ny, nx = pictures.shape
    out = np.empty((ny, nx), np.float32)
    own, room = np.empty(n, np.float32), np.empty(n, np.float32)
    for j in range(ny):
        for i in range(nx):
            m = 0
            for k in range(n):
                v = pictures[k, j, i]
                if v == v:
                    own[m] = v
                    m += 1
            out[j, i] = median(own[:m], room) if m else np.float32(np.nan)
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _rings(
    pictures: np.ndarray,
    middles: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    dx: np.ndarray,
    dy: np.ndarray,
    out: np.ndarray,
) -> None:
    """The mean in a ring about each of n places, moved by each (dx, dy), of what exceeds the median; NaN at edges."""
    n, ny, nx = pictures.shape
    reach = int(np.ceil(_RING[1]))
    for p in range(len(dx)):
        for k in range(n):
            px, py = x[k] + dx[p], y[k] + dy[p]
            i0, j0 = int(np.rint(px)), int(np.rint(py))
            if i0 < reach or j0 < reach or i0 >= nx - reach or j0 >= ny - reach:
                continue
            total, m = 0.0, 0
            for j in range(j0 - reach, j0 + reach + 1):
                for i in range(i0 - reach, i0 + reach + 1):
                    r = np.hypot(i - px, j - py)
                    v = pictures[k, j, i] - middles[j, i]
                    if _RING[0] < r < _RING[1] and v == v:
                        total += v
                        m += 1
            if m:
                out[p, k] = total / m

"""Whether a light that moves is more than its surroundings show by chance, in the night and in each half of it."""

from __future__ import annotations

import numba
import numpy as np

_NEAREST, _FARTHEST, _PLACES, _TURNS = 9.0, 17.0, 48, 5
"""The same track is laid on so many places, between so many cells away, along a spiral of so many turns."""
_FEWEST = 8
"""Places that tell a scatter."""
_KNOWN = 1.5
"""A place whose error is larger than that of the light's own place by more than this knows too little."""


def significance(
    data: np.ndarray, weight: np.ndarray, light: np.ndarray, corner: tuple[int, int]
) -> np.ndarray:
    """How many sigma a moving light has in the whole night, and in each half of it taken by itself.

    Parameters
    ----------
    data, weight : ndarray, shape (n, ny, nx), float32
        Pictures in the order of time, with slow gradients taken off, and their inverse variances; 0 where unknown.
    light : ndarray, shape (n, wy, wx)
        The light that was fitted, on each picture, within a window; 0 beyond it.
    corner : tuple of int
        Row and column of the pictures where the window begins.

    Returns
    -------
    ndarray, shape (3,)
        Of the night, its first half and its second; negative where the pictures show less light than none.

    Notes
    -----
    What a part of the night shows all along is no sign of motion: it is taken off part by part, from the pictures and
    from the light. So a half tells of nothing that the other half alone has.

    The error is the pictures' noise, or how much of the same light is found along the same track laid elsewhere
    (from 9 to 17 cells away, the light itself taken off), whichever is more: edges that drift through the field,
    stray light and flicker leave ridges and ribbons that are not noise, and fit a moving light as well elsewhere.
    """
    turns = np.arange(_PLACES) / _PLACES
    angles, far = 2 * np.pi * _TURNS * turns, _NEAREST + (_FARTHEST - _NEAREST) * turns
    rows, columns = (np.rint(far * v(angles)).astype(np.int64) for v in (np.sin, np.cos))
    light = np.ascontiguousarray(light, np.float32)
    nothing = np.zeros(1, np.int64)
    own, error = _shares(data, weight, light, corner[0] + nothing, corner[1] + nothing)
    j, i = corner
    rest = data.copy()
    rest[:, j : j + light.shape[1], i : i + light.shape[2]] -= light
    others, errors = _shares(rest, weight, light, corner[0] + rows, corner[1] + columns)
    out = np.zeros(3)
    for part in range(3):
        known = others[errors[:, part] < _KNOWN * error[0, part], part]
        scatter = error[0, part]
        if len(known) >= _FEWEST:
            scatter = max(scatter, 1.4826 * float(np.median(np.abs(known - np.median(known)))))
        if np.isfinite(scatter):
            out[part] = own[0, part] / scatter
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _shares(
    data: np.ndarray, weight: np.ndarray, light: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How much of a light (n, wy, wx) there is when its window begins at each of p places, and the error: (p, 3) for
    all pictures, the first half of them and the second. Infinite errors where nothing is known.
    """
    n, ny, nx = data.shape
    middle = n // 2
    shares, errors = np.zeros((len(rows), 3)), np.full((len(rows), 3), np.inf)
    sums = np.empty((3, 5))
    found, room = np.empty(3), np.empty(3)
    for p in range(len(rows)):
        found[:] = 0
        room[:] = 0
        for j in range(light.shape[1]):
            y = rows[p] + j
            if y < 0 or y >= ny:
                continue
            for i in range(light.shape[2]):
                x = columns[p] + i
                if x < 0 or x >= nx:
                    continue
                sums[:] = 0
                for k in range(n):
                    w, v, d = float(weight[k, y, x]), float(light[k, j, i]), float(data[k, y, x])
                    half = 1 if k < middle else 2
                    sums[half, 0] += w
                    sums[half, 1] += w * v
                    sums[half, 2] += w * d
                    sums[half, 3] += w * v * v
                    sums[half, 4] += w * v * d
                sums[0] = sums[1] + sums[2]
                for part in range(3):
                    total, seen, shown, square, product = sums[part]
                    if total > 0:
                        found[part] += product - seen * shown / total
                        room[part] += square - seen * seen / total
        for part in range(3):
            if room[part] > 0:
                shares[p, part] = found[part] / room[part]
                errors[p, part] = 1 / np.sqrt(room[part])
    return shares, errors

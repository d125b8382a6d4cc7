"""Which star of the night each star of each frame is."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np

from difflapse.align.joint import FOLDS, Seen
from difflapse.align.match import position_variance
from difflapse.model import Stars


def make_tracks(positions: list[np.ndarray], reach: list[float], home: int) -> tuple[list[np.ndarray], int]:
    """Which star of the night each star of each frame is, -1 for none, and how many there are.

    The list of stars begins as the reference's, and grows by what other frames see beside it.
    """
    sky = positions[home]
    tracks = [np.full(len(p), -1) for p in positions]
    tracks[home] = np.arange(len(sky))
    order = sorted((n for n in range(len(positions)) if n != home), key=lambda n: abs(n - home))
    for n in order:
        at = positions[n]
        if len(at) == 0 or len(sky) == 0:
            continue
        by_y = np.argsort(sky[:, 1], kind="stable")
        distance, j = _nearest(sky[by_y], by_y, at, 3.0 * reach[n])
        near = np.flatnonzero(distance <= reach[n])
        near = near[np.argsort(distance[near], kind="stable")]
        near = near[np.unique(j[near], return_index=True)[1]]
        tracks[n][near] = j[near]
        new = np.flatnonzero(~np.isfinite(distance) & np.all(np.isfinite(at), axis=1))
        tracks[n][new] = len(sky) + np.arange(len(new))
        sky = np.vstack([sky, at[new]])
    return tracks, len(sky)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _nearest(
    sky: np.ndarray, number: np.ndarray, at: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """Distance to each place's nearest star within reach, infinite where there is none, and its number.

    Stars come sorted by y: few lie within reach along y, too few for a tree to be worth its making.
    """
    distance, which = np.full(len(at), np.inf), np.full(len(at), len(sky))
    y = sky[:, 1].copy()
    for s in range(len(at)):
        best = reach * reach
        first = np.searchsorted(y, at[s, 1] - reach)
        for k in range(first, len(sky)):
            dy = y[k] - at[s, 1]
            if not dy <= reach:
                break
            away = (sky[k, 0] - at[s, 0]) ** 2 + dy * dy
            if away < best:
                best = away
                distance[s], which[s] = np.sqrt(away), number[k]
    return distance, which


def sort_tracks(
    stars: Sequence[Stars], tracks: list[np.ndarray], count: int, chosen: np.ndarray, most: int
) -> tuple[list[Seen], np.ndarray, list[np.ndarray]]:
    """Number the stars that enough frames see by folds, and list each frame's; also star by star of each frame.

    Of more than `most` stars those that most frames see are kept.
    """
    seen_by = np.zeros(count, int)
    for n in chosen:
        seen_by[tracks[n][tracks[n] >= 0]] += 1
    least = 3 if len(chosen) > 3 else 2
    kept = np.flatnonzero(seen_by >= least)
    if len(kept) > most:
        kept = np.sort(kept[np.argsort(-seen_by[kept], kind="stable")[:most]])
    fold = np.arange(len(kept)) % FOLDS
    number = np.full(count + 1, -1)
    number[kept[np.argsort(fold, kind="stable")]] = np.arange(len(kept))
    ends = np.cumsum(np.bincount(fold, minlength=FOLDS))
    seen, which = [], []
    for one, own in zip(stars, tracks, strict=True):
        new = number[own]
        order = np.flatnonzero(new >= 0)
        order = order[np.argsort(new[order], kind="stable")]
        some = one.take(order)
        seen.append(Seen(new[order], some.x, some.y, 1.0 / position_variance(some)))
        which.append(order)
    return seen, ends, which

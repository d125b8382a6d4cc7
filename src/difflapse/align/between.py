"""Where a frame must lie that nothing aligns, between its neighbours in time: the last step of `auto`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import bdtrc

from difflapse.align.fit import fit_transform, grid_points
from difflapse.align.pixels import judge_on_pixels
from difflapse.align.view import View
from difflapse.errors import AlignError
from difflapse.model import Alignment, Transform
from difflapse.model.transform import MODELS

MOST_CADENCES = 3.0
"""A neighbour further away than this says nothing about the frame."""
LIMIT_PIX = 3.0
"""Neighbours that their own neighbours foretell worse than this moved too unevenly for a guess."""
_FEW_STARS = 3
"""Fewer stars than these neither confirm nor refute a guess."""
_CHANCE = 1e-3

Neighbour = tuple[float, Transform]
"""Time in cadences, counted from the frame in question, and the transform."""


def interpolate(
    before: Sequence[Neighbour], after: Sequence[Neighbour], shape: tuple[int, int]
) -> tuple[Transform, float]:
    """Interpolate a frame's transform linearly in time between its two neighbours; not a measurement.

    Parameters
    ----------
    before, after : sequence of (float, Transform)
        Aligned frames before and after it, in time order, each with its time in cadences from the frame in
        question. The nearest one on each side is used, the next ones tell how smoothly the camera moved.
    shape : (int, int)
        (ny, nx) of the frames.

    Returns
    -------
    transform : Transform
        Frame to reference, native px.
    uncertainty : float, px
        The largest rms, over the frame, by which a neighbour is missed when it is interpolated likewise
        between its own neighbours, which lie further apart.

    Raises
    ------
    AlignError
        No neighbour within 3 cadences on each side, fewer than three in all (`found`, `needed`), or a motion
        too uneven (`found` and `needed` px).
    """
    if not before or not after:
        side = "after" if before else "before"
        raise AlignError(
            f"no aligned frame {side} it", "", {"found": 0, "needed": 1, "method": "interpolated"}
        )
    away = max(-before[-1][0], after[0][0])
    if away > MOST_CADENCES:
        raise AlignError(
            f"its aligned neighbours are {-before[-1][0]:.1f} cadences before and {after[0][0]:.1f} after it; "
            f"at most {MOST_CADENCES:g} are allowed",
            "",
            {"found": away, "needed": MOST_CADENCES, "method": "interpolated"},
        )
    chain = [*before[-2:], *after[:2]]
    if len(chain) < 3:
        raise AlignError(
            f"{len(chain)} aligned neighbours; 3 are needed to tell how smoothly the camera moved",
            "",
            {"found": len(chain), "needed": 3, "method": "interpolated"},
        )
    points = grid_points((0.0, 0.0, shape[1] - 1.0, shape[0] - 1.0), 13)
    placed = [(t, np.stack(transform(points[:, 0], points[:, 1]))) for t, transform in chain]
    errors = [
        float(np.sqrt(np.mean(np.sum((_line(left, right, t) - where) ** 2, axis=0))))
        for left, (t, where), right in zip(placed, placed[1:], placed[2:], strict=False)
    ]
    uncertainty = max(errors)
    if not uncertainty <= LIMIT_PIX:
        raise AlignError(
            f"its neighbours are foretold by their own neighbours to {uncertainty:.1f} px; "
            f"at most {LIMIT_PIX:g} px is allowed",
            "",
            {"found": uncertainty, "needed": LIMIT_PIX, "method": "interpolated"},
        )
    n = min(len(before), 2)
    X, Y = _line(placed[n - 1], placed[n], 0.0)
    nearest = (before[-1][1], after[0][1])
    model = max((t.model for t in nearest), key=MODELS.index)
    domain = (0.0, 0.0, shape[1] - 1.0, shape[0] - 1.0)
    degree = max(t.degree for t in nearest)
    return fit_transform(points[:, 0], points[:, 1], X, Y, None, model, degree, domain), uncertainty


def confirm(frame: View, reference: View, guess: Transform, uncertainty: float) -> Alignment:
    """Hold an interpolated transform against what can be seen of the sky; nothing is fitted.

    Parameters
    ----------
    frame, reference : View
        The frame, and the one whose pixel grid is kept.
    guess : Transform
        Frame to reference, native px.
    uncertainty : float, px
        How far off it may be.

    Returns
    -------
    Alignment
        Of method ``interpolated``; `n_matched` is 0 and the note says so where there was nothing to see.
        `rms_pix` is NaN: the guess was made from other frames.

    Raises
    ------
    AlignError
        Three stars or more, of which no more lie on stars of the reference than chance would have it; or a
        scene without stars whose pixels do not agree (`found` and `needed`).
    """
    n, m, radius, chance = _stars_in_place(frame, reference, guess, uncertainty)
    if n >= _FEW_STARS:
        if chance > _CHANCE:
            raise AlignError(
                f"{m} of its {n} stars lie within {radius:.1f} px of one of the reference, which chance "
                f"explains (p = {chance:.2g}; {_CHANCE:g} is the limit)",
                "",
                {"found": m, "needed": n, "method": "interpolated"},
            )
        return _guessed(guess, m, f"confirmed by {m} of {n} stars")
    try:
        tiles = judge_on_pixels(frame, reference, guess, "interpolated")
    except AlignError:
        if len(reference.stars) < _FEW_STARS:
            raise
        return _guessed(guess, 0, "a guess: there is nothing on the frame to check it on")
    return _guessed(guess, tiles.n_matched, tiles.note)


def _line(a: tuple[float, np.ndarray], b: tuple[float, np.ndarray], t: float) -> np.ndarray:
    """Positions at time t on the straight way from those of one time to those of another."""
    weight = (t - a[0]) / (b[0] - a[0])
    out: np.ndarray = (1 - weight) * a[1] + weight * b[1]
    return out


def _stars_in_place(
    frame: View, reference: View, guess: Transform, uncertainty: float
) -> tuple[int, int, float, float]:
    """Stars of the frame that fall on the reference, how many of them meet one there, within what radius,
    and the probability that chance does as much.
    """
    ny, nx = reference.facts.shape
    radius = max(2.0, 2.0 * uncertainty)
    x, y = guess(frame.stars.x, frame.stars.y)
    inside = (x >= 0) & (y >= 0) & (x <= nx - 1) & (y <= ny - 1)
    n = int(inside.sum())
    if not n or not len(reference.stars):
        return 0, 0, radius, 1.0
    distance, _ = cKDTree(reference.stars.xy).query(np.column_stack([x[inside], y[inside]]))
    m = int((distance <= radius).sum())
    covered = min(1.0, len(reference.stars) * np.pi * radius**2 / (nx * ny))
    return n, m, radius, float(bdtrc(m - 1, n, covered))


def _guessed(guess: Transform, n: int, note: str) -> Alignment:
    return Alignment(guess, "interpolated", n, float("nan"), note=note)

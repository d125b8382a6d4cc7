"""Align by asterisms: triangles of neighbouring stars, recognised whatever the shift, rotation, mirror and
scale.

Find only: nothing is known of pixels here. The search trusts no triangle: each coincidence of shapes must be
borne out by the stars around it, then grow over the whole frame, then beat chance, then predict stars held
out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from difflapse.align.check import LEAST_STARS as _LEAST
from difflapse.align.check import rests
from difflapse.align.fit import fit_robust
from difflapse.align.match import log10_chance, match_stars, position_variance
from difflapse.align.refine import settle
from difflapse.align.triangles import bright_neighbours, compare, make_grid, make_triangles
from difflapse.align.view import AlignOptions, View
from difflapse.errors import AlignError
from difflapse.model import Alignment, Stars, Transform

_SEARCHED = 2000
_SCALES = (0.4, 2.5)
_EVIDENCE = 6.0
_BUDGET = 60_000
_STILL = 0.1
"""px: no mount holds a star so well for long."""


@dataclass(frozen=True)
class _Pass:
    """One attempt: how many anchors and neighbours of each list, how precise the positions, how bent the
    field.
    """

    anchors: tuple[int, int]
    neighbours: tuple[int, int]
    noise: float
    bend: float
    slack: float = 1.25


# Cheapest first. Later ones allow for distortion and trails, then for a list of which most stars are
# missing (so that its nearest neighbours are distant ones of the other), then for brightness that means
# nothing.
_PASSES = (
    _Pass((60, 60), (8, 8), 1.0, 0.002),
    _Pass((200, 200), (8, 8), 1.0, 0.003),
    _Pass((700, 700), (6, 6), 1.0, 0.003),
    _Pass((100, 600), (5, 22), 1.0, 0.003),
    _Pass((600, 100), (22, 5), 1.0, 0.003),
    _Pass((150, 150), (8, 8), 4.0, 0.02),
    _Pass((250, 2000), (5, 6), 1.0, 0.004, slack=1e9),
    _Pass((500, 1500), (5, 32), 1.0, 0.002),
    _Pass((1500, 500), (32, 5), 1.0, 0.002),
)
_SMALL = _Pass((40, 40), (40, 40), 1.0, 0.002, slack=1e9)
"""Every triangle there is, brightness ignored: for lists so short that each star counts."""


def find(frame: View, reference: View, options: AlignOptions) -> Alignment:
    """Align by triangles of stars; not for fields without stars (see `features`, `phase`).

    Parameters
    ----------
    frame, reference : View
        Only their stars and shapes are used.
    options : AlignOptions
        `transform` is the model of the final fit.

    Returns
    -------
    Alignment
        Fitted to all stars that match, mirror images included.

    Raises
    ------
    AlignError
        `found` and `needed` stars, and what came closest.

    Notes
    -----
    Triangles of a star and two of its nearest brighter neighbours (an idea that keeps them local, so that a
    lens's distortion, a gradient of haze and a partial overlap hardly matter) are compared by a complex
    ratio, and their surroundings vote. Where what agrees does not move (by a pixel if it is less than half of
    the stars, by a tenth if it is more), it may be the sensor's hot pixels: then the rest is searched as well,
    and if it agrees on a motion, the motion wins, for nothing on the sky leaves a second pattern.

    References
    ----------
    Groth 1986, doi:10.1086/114099; Valdes et al. 1995, doi:10.1086/133667; Pal & Bakos 2006,
    doi:10.1086/508573; Tabur 2007, doi:10.1071/AS07028; Beroiz et al. 2020, doi:10.1016/j.ascom.2020.100384.
    """
    fewest = min(len(frame.stars), len(reference.stars))
    if fewest < _LEAST:
        raise AlignError(
            f"{len(frame.stars)} stars on the frame and {len(reference.stars)} on the reference; "
            f"{_LEAST} in common are needed",
            "--align features or phase do without stars",
            {"found": fewest, "needed": _LEAST, "method": "asterism"},
        )
    best = _search(frame, reference, options)
    few = rests(best.transform, frame.facts.shape) and best.n_matched < 0.5 * fewest
    if few or rests(best.transform, frame.facts.shape, _STILL):
        moving = _search_without(best, frame, reference, options)
        if moving is not None:
            return moving
    return best


def _search(frame: View, reference: View, options: AlignOptions, quick: bool = False) -> Alignment:
    """The first hypothesis that survives every test; AlignError with the nearest miss if there is none.

    `quick`: only by the cheap passes.
    """
    a, b = _brightest(frame.stars), _brightest(reference.stars)
    noise = float(np.sqrt(np.median(position_variance(a)[:200]) + np.median(position_variance(b)[:200])))
    noise = float(np.clip(noise, 0.1, 0.5))
    trials = 0.0
    refusal: AlignError | None = None
    seen: list[np.ndarray] = []
    ny, nx = frame.facts.shape
    ny_b, nx_b = reference.facts.shape
    # Never so wide that chance pairs spoil the fit to the few true ones of a small overlap.
    coarse = float(np.clip(np.sqrt(0.0125 * ny_b * nx_b / (np.pi * len(reference.stars))), 0.8, 3.0))
    marks = np.array([[0.0, nx - 1, 0.0], [0.0, 0.0, ny - 1]])
    for one in _passes(len(a), len(b))[: 4 if quick else None]:
        hypotheses, tried = _hypotheses(a, b, one, noise, frame.facts.shape, reference.facts.shape)
        trials += tried
        for transform, radius, centre in hypotheses[:25]:
            grown = _grow(a, b, transform, centre, radius, noise * one.noise, trials, reference.facts.shape)
            if grown is None:
                continue
            # Many triangles lead to the same place: judge it once.
            ends = np.array(grown(marks[0], marks[1]))
            if any(np.abs(ends - other).max() < 3.0 for other in seen):
                continue
            seen.append(ends)
            matches = match_stars(
                frame.stars, reference.stars, grown, frame.facts.shape, reference.facts.shape, coarse=coarse
            )
            try:
                return settle(frame, reference, matches, options, "asterism", trials)
            except AlignError as error:
                if refusal is None or _found(error) > _found(refusal):
                    refusal = error
    if refusal is not None:
        raise refusal
    raise AlignError(
        f"no pattern of the {len(frame.stars)} stars on the frame is found among the reference's "
        f"{len(reference.stars)}; {_LEAST} in common are needed",
        "another --reference, or --align features",
        {"found": 0, "needed": _LEAST, "method": "asterism", "tried": trials},
    )


def _passes(n_a: int, n_b: int) -> tuple[_Pass, ...]:
    if min(n_a, n_b) <= 25:
        return (_SMALL, *_PASSES)
    return (*_PASSES[:3], _SMALL, *_PASSES[3:]) if min(n_a, n_b) <= 60 else _PASSES


def _brightest(stars: Stars) -> Stars:
    """The stars worth searching, brightest first whatever the order they came in."""
    good = np.flatnonzero(np.isfinite(stars.x) & np.isfinite(stars.y))
    flux = np.where(np.isfinite(stars.flux[good]), stars.flux[good], -np.inf)
    return stars.take(good[np.argsort(-flux, kind="stable")[:_SEARCHED]])


def _hypotheses(
    a: Stars, b: Stars, one: _Pass, noise: float, shape_a: tuple[int, int], shape_b: tuple[int, int]
) -> tuple[list[tuple[Transform, float, tuple[float, float]]], float]:
    """Similarities that triangles and their surroundings suggest, the most evident first, and how many were
    tried.
    """
    error = noise * one.noise
    lists = []
    for stars, n, k, both in (
        (a, one.anchors[0], one.neighbours[0], 0.02),
        (b, one.anchors[1], one.neighbours[1], 0.0),
    ):
        n = min(n, len(stars))
        k = min(k, len(stars) - 1)
        around = bright_neighbours(stars.x, stars.y, n, min(max(k, 14), len(stars) - 1), one.slack)
        anchors = np.arange(n)
        lists.append((make_triangles(stars.x, stars.y, anchors, around, k, both, 4.0), around))
    (corners_a, form_a, parity_a), around_a = lists[0]
    (corners_b, form_b, parity_b), around_b = lists[1]
    found, evidence, tried = compare(
        a.x, a.y, corners_a, form_a, parity_a, around_a,
        b.x, b.y, corners_b, form_b, parity_b, around_b,
        _grid(a, shape_a), _grid(b, shape_b), error, one.bend, *_SCALES, _EVIDENCE, 200, _BUDGET,
    )  # fmt: skip
    out = []
    for row in found[np.argsort(-evidence, kind="stable")]:
        _, ia, _, ox, oy, re, im, sign, side = row
        x, y = a.x[int(ia)], a.y[int(ia)]
        matrix = np.array([[re, -sign * im], [im, sign * re]])
        shift = np.array([ox, oy]) - matrix @ np.array([x, y])
        transform = Transform.from_matrix(np.column_stack([matrix, shift]), "similarity")
        out.append((transform, 1.5 * side, (x, y)))
    return out, float(tried)


def _grid(
    stars: Stars, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, int, int, float]:
    """Stars sorted into cells of about two each, for the kernels."""
    box = np.array([-0.5, -0.5, shape[1] - 0.5, shape[0] - 0.5])
    cell = max(float(np.sqrt(2.0 * shape[0] * shape[1] / len(stars))), 4.0)
    nx, ny = int(shape[1] / cell) + 1, int(shape[0] / cell) + 1
    start, order = make_grid(stars.x, stars.y, box[0], box[1], cell, nx, ny)
    return start, order, box, cell, nx, ny, len(stars) / (shape[0] * shape[1])


def _grow(
    a: Stars,
    b: Stars,
    guess: Transform,
    centre: tuple[float, float],
    radius: float,
    noise: float,
    trials: float,
    shape_b: tuple[int, int],
) -> Transform | None:
    """Carry a local similarity outwards, ring by ring, refitting; None where the stars do not bear it out."""
    tree = cKDTree(np.column_stack([b.x, b.y]))
    density = len(b) / (shape_b[0] * shape_b[1])
    distance = np.hypot(a.x - centre[0], a.y - centre[1])
    order = np.argsort(distance, kind="stable")
    x, y, distance = a.x[order], a.y[order], distance[order]
    crowded = float(np.sqrt(0.05 / (np.pi * density)))
    scale = guess.local_scale(*centre)
    tolerance = min(crowded, max(5.0 * noise * max(1.0, scale), 1.0))
    transform = guess
    previous = 0
    last = np.zeros(0)
    tested = 0
    while True:
        n = int(np.searchsorted(distance, radius))
        px, py = transform(x[:n], y[:n])
        inside = (px > -1) & (py > -1) & (px < shape_b[1]) & (py < shape_b[0])
        tested = int(inside.sum())
        d, j = tree.query(np.column_stack([px, py]), k=1, distance_upper_bound=tolerance)
        i = _unique(np.flatnonzero(np.isfinite(d)), j, d)
        if len(i) < 4:
            if n == len(x):
                return None
        else:
            j = j[i]
            model, degree = (
                ("similarity", 1) if len(i) < 12 else ("affine", 1) if len(i) < 50 else ("polynomial", 2)
            )
            transform, keep = fit_robust(
                x[i], y[i], b.x[j], b.y[j], None, model, degree, clip=4.0, iterations=2
            )
            px, py = transform(x[i[keep]], y[i[keep]])
            last = np.hypot(px - b.x[j[keep]], py - b.y[j[keep]])
            # A hypothesis that gains nothing as it grows over many stars is a coincidence.
            if tested > 60 and log10_chance(last, tested, density, 6) > -1.0:
                return None
        if n == len(x) and previous == n:
            break
        previous = n
        radius *= 1.6
    if len(last) < _LEAST:
        return None
    spent = 3 if len(last) < 50 else 6
    return transform if log10_chance(last, tested, density, spent, trials) < -4.0 else None


def _unique(i: np.ndarray, j: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Of frame stars i that want the same reference star j the nearest."""
    i = i[np.argsort(d[i], kind="stable")]
    return np.sort(i[np.unique(j[i], return_index=True)[1]])


def _search_without(
    resting: Alignment, frame: View, reference: View, options: AlignOptions
) -> Alignment | None:
    """Search again among the stars that do not rest; None if they agree on nothing else."""
    shape = frame.facts.shape
    matches = match_stars(
        frame.stars, reference.stars, resting.transform, shape, reference.facts.shape, coarse=1.5
    )
    lists = (frame.stars, reference.stars)
    views = []
    for view, taken in ((frame, matches.frame), (reference, matches.reference)):
        rest = np.ones(len(view.stars), bool)
        rest[taken] = False
        views.append(View(view.facts, view.stars.take(rest), view.picture))
    if min(len(v.stars) for v in views) < _LEAST:
        return None
    try:
        moving = _search(views[0], views[1], options, quick=resting.n_matched > 0.5 * min(map(len, lists)))
    except AlignError:
        return None
    if rests(moving.transform, frame.facts.shape):
        return None
    refused = f"asterism: {resting.n_matched} stars that do not move at all: taken for hot pixels"
    return replace(moving, refused=(refused,))


def _found(error: AlignError) -> int:
    value = error.facts.get("found", 0)
    return value if isinstance(value, int) else 0

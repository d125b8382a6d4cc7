"""Which star of a frame is which star of the reference, once it is roughly known how the frame lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from difflapse.align.fit import fit_robust, fit_transform
from difflapse.model import Stars, Transform

SATURATED_WEIGHT = 0.01
"""Factor on the weight of saturated stars: their centres are pulled about by bleeding and clipping."""


_MOST = 8000
_ASKED = 2500


@dataclass(frozen=True, eq=False)
class Matches:
    """Pairs of stars that agree with a transform, and how many would by chance."""

    frame: np.ndarray
    """(n,) int: index into the frame's stars."""
    reference: np.ndarray
    """(n,) int: index into the reference's stars."""
    transform: Transform
    """The transform of the last step; a working one, to be replaced by a chosen model."""
    tolerance: float
    """Radius within which a pair counts, px of the reference."""
    chance: float
    """Pairs expected within that radius if the two lists had nothing to do with each other."""
    n_frame: int
    """Stars of the frame that should lie on the reference's area."""
    n_reference: int
    """Stars of the reference that should lie on the frame's area."""
    density: float
    """Stars of the reference per px**2 of the area that both share."""
    common: np.ndarray
    """(m, 2) points of the frame, on a grid, that should lie on the reference: there it is needed."""

    def __len__(self) -> int:
        return len(self.frame)


def match_stars(
    frame: Stars,
    reference: Stars,
    guess: Transform,
    frame_shape: tuple[int, int],
    reference_shape: tuple[int, int],
    coarse: float = 4.0,
    fine: float = 0.8,
    highest: int = 3,
) -> Matches:
    """Match two star lists under a guess, from a coarse radius to a fine one while the model grows richer.

    Parameters
    ----------
    frame, reference : Stars
        All stars there are, brightest first; thousands are welcome.
    guess : Transform
        Frame to reference, good to about `coarse` over a good part of the frame.
    frame_shape, reference_shape : (ny, nx)
        Sizes of the two images, px.
    coarse, fine : float, px
        First radius, and the smallest to which the last may shrink; it stays at 5 standard deviations of the
        residuals or more.
    highest : int
        Degree of the richest polynomial to match with.

    Returns
    -------
    Matches
        Mutual nearest neighbours within the last radius; possibly none.

    Notes
    -----
    3000 stars cost 10 to 15 ms; of more than 8000 the brightest are used. The last radius never exceeds the
    one at which a twentieth of the stars would find a partner by chance, which is what limits crowded fields.
    """
    frame, reference = (
        frame.take(np.arange(min(len(frame), _MOST))),
        reference.take(np.arange(min(len(reference), _MOST))),
    )  # brightest first
    transform = guess
    rx, ry, fx, fy = reference.x, reference.y, frame.x, frame.y
    variance_f, variance_r = position_variance(frame), position_variance(reference)
    domain = (0.0, 0.0, frame_shape[1] - 1.0, frame_shape[0] - 1.0)
    area = _extent_area(rx, ry, reference_shape)
    density = len(reference) / area
    crowded = max(float(np.sqrt(0.05 / (np.pi * density))), 0.3) if density > 0 else coarse
    tolerance = coarse
    whole = tree = cKDTree(np.column_stack([rx, ry])) if len(reference) else None
    size = 0
    for _ in range(10):
        # Where a wide radius would pair stars by chance, only the brightest are asked.
        m = int(np.clip(0.05 / (np.pi * tolerance**2) * area, 100, _ASKED))
        if m != size:
            tree = whole if m >= len(reference) else cKDTree(np.column_stack([rx[:m], ry[:m]]))
            size = m
        px, py = transform(fx[:m], fy[:m])
        i, j = _mutual(px, py, tree, tolerance, reference_shape)
        if len(i) < 3:
            break
        covered = _extent_area(fx[i], fy[i], frame_shape) / (frame_shape[0] * frame_shape[1])
        model, degree = _model_for(len(i), highest if covered > 0.3 else 1)
        weights = 1.0 / (variance_f[i] + variance_r[j])
        transform, keep = fit_robust(fx[i], fy[i], rx[j], ry[j], weights, model, degree, domain, 4.0, 3)
        px, py = transform(fx[i[keep]], fy[i[keep]])
        spread = float(np.median(np.hypot(px - rx[j[keep]], py - ry[j[keep]]))) / 1.1774
        new = min(max(5.0 * spread, fine), coarse)
        if abs(new - tolerance) < 0.02 * tolerance:
            break
        tolerance = new
    tolerance = min(tolerance, crowded)
    tree = whole
    px, py = transform(fx, fy)
    i, j = _mutual(px, py, tree, tolerance, reference_shape)
    # The overlap is judged by a stiff model: a polynomial means nothing far from its stars.
    stiff = fit_robust(fx[i], fy[i], rx[j], ry[j], model="affine")[0] if len(i) >= 6 else guess
    n_f, n_r = overlap_counts(stiff, fx, fy, rx, ry, frame_shape, reference_shape)
    area = max(_overlap_area(stiff, frame_shape, reference_shape), 1.0)
    # Stars seen through a gap in the clouds are denser than the overlap as a whole.
    local = max(n_r / area, 0.5 * density)
    chance = chance_matches(n_f, local, tolerance)
    common = overlap_points(stiff, frame_shape, reference_shape)
    return Matches(i, j, transform, tolerance, chance, n_f, n_r, local, common)


def match_stars_as_is(
    frame: Stars,
    reference: Stars,
    transform: Transform,
    frame_shape: tuple[int, int],
    reference_shape: tuple[int, int],
    radius: float,
) -> tuple[int, float, float]:
    """How well stars lie under a transform that is not to be fitted: (n, radial rms, 95th percentile), px.

    Pairs are made with the help of a fit, which then is thrown away; (0, NaN, NaN) where fewer than 6 agree.
    """
    found = match_stars(frame, reference, transform, frame_shape, reference_shape, coarse=radius)
    if len(found) < 6 or len(found) < 3 * found.chance:
        return 0, float("nan"), float("nan")
    x, y = transform(frame.x[found.frame], frame.y[found.frame])
    radial = np.hypot(x - reference.x[found.reference], y - reference.y[found.reference])
    return len(found), float(np.sqrt(np.mean(radial**2))), float(np.percentile(radial, 95))


def chance_matches(n_frame: int, density: float, tolerance: float) -> float:
    """Stars of `n_frame` that would lie within `tolerance` px of one of an unrelated list of `density` per
    px**2.
    """
    return float(n_frame * -np.expm1(-density * np.pi * tolerance**2))


def log10_chance(
    residuals: np.ndarray, n_frame: int, density: float, spent: int, trials: float = 1.0
) -> float:
    """Decimal logarithm of the probability that chance alone gives matches this many and this close.

    Parameters
    ----------
    residuals : ndarray, shape (n,), px
        Radial residuals of the matched pairs.
    n_frame : int
        Stars of the frame that could have found a partner.
    density : float, px**-2
        Stars of the reference per area.
    spent : int
        Pairs that the search and the fit used up and that prove nothing.
    trials : float
        Hypotheses that were looked at before this one was picked.

    Returns
    -------
    float
        0 or less. The most telling radius is taken, and paid for by counting each radius as a trial.
    """
    r = np.sort(np.maximum(residuals, 0.05))
    surplus = np.arange(1, len(r) + 1) - spent
    if len(r) == 0 or surplus[-1] <= 0:
        return 0.0
    r, surplus = r[surplus > 0], surplus[surplus > 0]
    expected = np.maximum(n_frame * -np.expm1(-density * np.pi * r**2), 1e-30)
    # Chernoff's bound on the Poisson tail: at most this, and never out of a float's range.
    log = np.where(surplus > expected, surplus * (np.log(expected / surplus) + 1.0) - expected, 0.0)
    value = log.min() / np.log(10.0) + np.log10(len(r) * max(trials, 1.0))
    return float(min(value, 0.0))


def position_variance(stars: Stars) -> np.ndarray:
    """Relative variance of star positions, px**2, from S/N and width; saturated stars 100 times worse.

    A Gaussian star of width FWHM has sigma_x about 0.6 FWHM / SNR (King 1983); a floor of 0.03 px stands for
    what does not average out.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        sigma = 0.6 * stars.fwhm / stars.snr
    usual = np.where(np.isfinite(sigma) & (sigma > 0), sigma, 0.1)
    known = np.isfinite(stars.error)
    usual, floor = np.where(known, stars.error, usual), np.where(known, 0.003, 0.03)
    return (np.clip(usual, 0.0, 1.0) ** 2 + floor**2) / np.where(stars.saturated, SATURATED_WEIGHT, 1.0)


def overlap_counts(
    transform: Transform,
    fx: np.ndarray,
    fy: np.ndarray,
    rx: np.ndarray,
    ry: np.ndarray,
    frame_shape: tuple[int, int],
    reference_shape: tuple[int, int],
) -> tuple[int, int]:
    """How many stars of the frame should lie on the reference, and the other way round."""
    px, py = transform(fx, fy)
    with np.errstate(invalid="ignore"):
        n_f = int(np.sum(_inside(px, py, reference_shape)))
        if len(rx) == 0:
            return n_f, 0
        linear = _linear_inverse(transform, frame_shape)
        bx = linear[0, 0] * rx + linear[0, 1] * ry + linear[0, 2]
        by = linear[1, 0] * rx + linear[1, 1] * ry + linear[1, 2]
        return n_f, int(np.sum(_inside(bx, by, frame_shape)))


def overlap_points(
    transform: Transform, frame_shape: tuple[int, int], reference_shape: tuple[int, int], n: int = 13
) -> np.ndarray:
    """Points of a grid over the frame that land on the reference; shape (m, 2), px of the frame."""
    gx, gy = np.meshgrid(np.linspace(0, frame_shape[1] - 1, n), np.linspace(0, frame_shape[0] - 1, n))
    px, py = transform(gx.ravel(), gy.ravel())
    with np.errstate(invalid="ignore"):
        inside = _inside(px, py, reference_shape)
    return np.column_stack([gx.ravel()[inside], gy.ravel()[inside]])


def _mutual(
    px: np.ndarray, py: np.ndarray, tree: cKDTree | None, tolerance: float, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (i, j) that are each other's nearest within `tolerance`, j by ascending i."""
    none = np.zeros(0, int)
    if tree is None or len(px) == 0:
        return none, none
    with np.errstate(invalid="ignore"):
        near = np.flatnonzero(_inside(px, py, shape, margin=tolerance))
    if len(near) == 0:
        return none, none
    distance, j = tree.query(np.column_stack([px[near], py[near]]), k=1, distance_upper_bound=tolerance)
    found = np.isfinite(distance)
    i, j, distance = near[found], j[found], distance[found]
    # Of several that want the same star the nearest gets it.
    order = np.argsort(distance, kind="stable")
    _, first = np.unique(j[order], return_index=True)
    chosen = np.sort(order[first])
    return i[chosen], j[chosen]


def _model_for(n: int, highest: int) -> tuple[str, int]:
    """The working model that `n` pairs can carry."""
    if n < 10:
        return "similarity", 1
    if n < 40 or highest < 2:
        return "affine", 1
    if n < 150 or highest < 3:
        return "polynomial", 2
    return "polynomial", min(3, highest)


def _inside(x: np.ndarray, y: np.ndarray, shape: tuple[int, int], margin: float = 0.0) -> np.ndarray:
    return (
        (x > -0.5 - margin)
        & (y > -0.5 - margin)
        & (x < shape[1] - 0.5 + margin)
        & (y < shape[0] - 0.5 + margin)
    )


def _linear_inverse(transform: Transform, shape: tuple[int, int]) -> np.ndarray:
    """(2, 3) affine approximation of the inverse over the frame: enough to count stars."""
    grid = np.array([[0, 0], [shape[1] - 1, 0], [0, shape[0] - 1], [shape[1] - 1, shape[0] - 1.0]])
    gx, gy = transform(grid[:, 0], grid[:, 1])
    linear = fit_transform(grid[:, 0], grid[:, 1], gx, gy, model="affine").matrix
    return np.linalg.pinv(linear)[:2]


def _overlap_area(
    transform: Transform, frame_shape: tuple[int, int], reference_shape: tuple[int, int]
) -> float:
    """Area that the frame covers on the reference, px**2 of the reference."""
    points = overlap_points(transform, frame_shape, reference_shape, n=25)
    scale = transform.local_scale(0.5 * (frame_shape[1] - 1), 0.5 * (frame_shape[0] - 1))
    return len(points) / 625.0 * frame_shape[0] * frame_shape[1] * scale**2


def _extent_area(x: np.ndarray, y: np.ndarray, shape: tuple[int, int]) -> float:
    """Area over which stars lie: the image, or less where they fill only a part of it."""
    if len(x) < 8:
        return float(shape[0] * shape[1])
    width = np.subtract(*np.percentile(x, [95, 5])) / 0.9
    height = np.subtract(*np.percentile(y, [95, 5])) / 0.9
    return float(np.clip(width * height, 0.01 * shape[0] * shape[1], shape[0] * shape[1]))

"""Least-squares fits of transforms to matched points, and the choice between models by points held out.

Nothing here finds matches: that is `match`. All positions are native pixels, 0-based, pixel centres.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numba
import numpy as np

from difflapse.errors import AlignError
from difflapse.model.transform import MODELS, Transform, powers

NEEDED = {"shift": 1, "euclidean": 2, "similarity": 2, "affine": 3, "homography": 4, "polynomial": 6}
"""Fewest points that determine each model (polynomial: of degree 2)."""

_MAX_DEGREE = 5
_MANY = 5
"""Folds of many points."""
_WIN_SIGMA = 2.5
_HINT_SIGMA = 1.0
_FAR = 30.0
_FAR_AFFINE = 12.0
# Stars wanted before a model may be chosen: about twice its terms, so that held-out residuals mean something.
_WANTED = {
    "shift": 1,
    "euclidean": 3,
    "similarity": 4,
    "affine": 8,
    "homography": 12,
    "polynomial2": 18,
    "polynomial3": 40,
    "polynomial4": 90,
    "polynomial5": 180,
}


@dataclass(frozen=True, eq=False)
class Choice:
    """A fitted transform and how well it does on points it was not fitted to."""

    transform: Transform
    rms: float
    """Radial rms of the held-out residuals, pixels of the reference."""
    p95: float
    """95th percentile of the same residuals."""
    n: int
    """Points that were kept."""
    keep: np.ndarray
    """(n_points,) bool: the points that were kept."""
    residuals: np.ndarray
    """(n, 2): x and y of the held-out residuals of the points kept, transformed minus measured."""


def fit_transform(
    x: np.ndarray,
    y: np.ndarray,
    X: np.ndarray,
    Y: np.ndarray,
    weights: np.ndarray | None = None,
    model: str = "similarity",
    degree: int = 2,
    domain: tuple[float, float, float, float] | None = None,
) -> Transform:
    """Fit a transform to matched points by weighted least squares; all points count, there is no clipping.

    Parameters
    ----------
    x, y : ndarray, shape (n,), float, px
        Positions on the frame.
    X, Y : ndarray, shape (n,), float, px
        The same points on the reference.
    weights : ndarray, shape (n,), optional
        Inverse variances up to a factor; None: all equal.
    model : str
        One of `difflapse.model.transform.MODELS`. ``euclidean`` and ``similarity`` may be mirrored: the
        better wins.
    degree : int
        Of ``polynomial``, 2 to 5.
    domain : (x0, y0, x1, y1), optional, px
        The frame's area on which the result is meant to hold; None: the bounding box of the points.

    Returns
    -------
    Transform
        Frame to reference.

    Raises
    ------
    AlignError
        Too few points (`found`, `needed`), or points that do not determine the model.
    """
    if model not in MODELS:
        raise ValueError(f"model is {model!r}; it must be one of {', '.join(MODELS)}")
    x, y, X, Y = (np.asarray(a, float).ravel() for a in (x, y, X, Y))
    w = np.ones(len(x)) if weights is None else np.asarray(weights, float).ravel()
    needed = len(powers(degree)) if model == "polynomial" else NEEDED[model]
    if len(x) < needed:
        raise AlignError(
            f"{len(x)} matched points; a transform of model {model} needs {needed}",
            "ask for a simpler model with --transform",
            {"found": len(x), "needed": needed, "model": model},
        )
    if domain is None:
        domain = (float(x.min()), float(y.min()), float(x.max()), float(y.max()))
    if model in ("shift", "euclidean", "similarity"):
        matrix = _fit_rigid(x, y, X, Y, w, model)
        return Transform(model, matrix, domain=domain)
    origin, scale = _normalisation(domain)
    u, v = (x - origin[0]) / scale, (y - origin[1]) / scale
    if model == "homography":
        return Transform(model, _fit_homography(x, y, X, Y, w), domain=domain)
    degree = 1 if model == "affine" else degree
    solution = _determined(design(u, v, degree), np.column_stack([X, Y]), w, model)
    return _from_terms(solution, degree, origin, scale, domain)


def fit_robust(
    x: np.ndarray,
    y: np.ndarray,
    X: np.ndarray,
    Y: np.ndarray,
    weights: np.ndarray | None = None,
    model: str = "similarity",
    degree: int = 2,
    domain: tuple[float, float, float, float] | None = None,
    clip: float = 4.0,
    iterations: int = 6,
) -> tuple[Transform, np.ndarray]:
    """Fit a transform and leave out, step by step, the points that lie `clip` standard deviations or more
    away.

    Parameters are those of `fit_transform`. The standard deviation is a robust one, of the weighted residuals
    per coordinate (the median of the radial ones / 1.1774), so that up to about a third of the points may be
    wrong.

    Returns
    -------
    transform : Transform
    keep : ndarray, shape (n,), bool
        The points it was fitted to.
    """
    x, y, X, Y = (np.asarray(a, float).ravel() for a in (x, y, X, Y))
    w = np.ones(len(x)) if weights is None else np.asarray(weights, float).ravel()
    needed = len(powers(degree)) if model == "polynomial" else NEEDED[model]
    if model == "polynomial" and domain is not None and len(x) >= needed:
        return _robust_terms(_Terms.of(x, y, X, Y, w, domain, degree), needed, degree, clip, iterations)
    keep = np.ones(len(x), bool)
    transform = fit_transform(x, y, X, Y, w, model, degree, domain)
    for _ in range(iterations):
        fx, fy = transform(x, y)
        new = _close(np.hypot(fx - X, fy - Y) * np.sqrt(w), keep, w, X, Y, clip)
        if new.sum() < needed or np.array_equal(new, keep):
            break
        keep = new
        transform = fit_transform(x[keep], y[keep], X[keep], Y[keep], w[keep], model, degree, domain)
    return transform, keep


def _robust_terms(
    terms: _Terms, needed: int, degree: int, clip: float, iterations: int
) -> tuple[Transform, np.ndarray]:
    """`fit_robust` for a polynomial: the points' terms are made once."""
    basis, target, w = terms.basis, terms.target, terms.weights
    keep = np.ones(len(basis), bool)
    solution = _determined(basis, target, w, "polynomial")
    for _ in range(iterations):
        residual = np.hypot(*(basis @ solution - target).T) * np.sqrt(w)
        new = _close(residual, keep, w, target[:, 0], target[:, 1], clip)
        if new.sum() < needed or np.array_equal(new, keep):
            break
        keep = new
        solution = _determined(basis[keep], target[keep], w[keep], "polynomial")
    return _from_terms(solution, degree, terms.origin, terms.scale, terms.domain), keep


def _close(
    residual: np.ndarray, keep: np.ndarray, w: np.ndarray, X: np.ndarray, Y: np.ndarray, clip: float
) -> np.ndarray:
    """Points whose weighted residual is small beside the scatter of those kept before."""
    sigma = np.median(residual[keep]) / 1.1774
    # Exact data have residuals of rounding only, of which none is an outlier.
    sigma = max(sigma, 1e-9 * np.sqrt(np.median(w)) * (1.0 + float(np.ptp(X) + np.ptp(Y))))
    # Residuals of a fit to few points are smaller than the points' errors, and their median is uncertain.
    return np.asarray(residual < clip * (1.0 + 8.0 / keep.sum()) * sigma)


@dataclass(frozen=True, eq=False)
class _Terms:
    """Matched points with the terms of a polynomial; those of one of a lower degree come first among them."""

    basis: np.ndarray
    """(n, terms)."""
    target: np.ndarray
    """(n, 2) px."""
    weights: np.ndarray
    origin: tuple[float, float]
    scale: float
    domain: tuple[float, float, float, float]

    @classmethod
    def of(
        cls,
        x: np.ndarray,
        y: np.ndarray,
        X: np.ndarray,
        Y: np.ndarray,
        w: np.ndarray,
        domain: tuple[float, float, float, float],
        degree: int,
    ) -> _Terms:
        """Terms up to a degree, of coordinates normalised over a rectangle."""
        origin, scale = _normalisation(domain)
        basis = design((x - origin[0]) / scale, (y - origin[1]) / scale, degree)
        return cls(basis, np.column_stack([X, Y]), w, origin, scale, domain)


def choose_model(
    x: np.ndarray,
    y: np.ndarray,
    X: np.ndarray,
    Y: np.ndarray,
    weights: np.ndarray | None = None,
    wanted: str = "auto",
    domain: tuple[float, float, float, float] | None = None,
    area: np.ndarray | None = None,
) -> Choice:
    """Choose the transform model by the residuals of points held out, and fit it to all of them.

    A richer model wins only if (1) there are points enough for it, (2) its held-out residuals are smaller,
    star by star, by 2.5 times the standard error of that difference (once where 60 stars or more for each of
    its terms make it cheap), and (3) its own uncertainty anywhere it will be used (`area`) is smaller than
    the residuals of the simpler model: a polynomial must not be trusted where it extrapolates from stars that
    cover only a part of the frame.

    Parameters
    ----------
    x, y, X, Y, weights, domain
        As of `fit_transform`. Points that are wrong are clipped first.
    wanted : str
        ``auto``, or a model to use: then only the degree of ``polynomial`` is chosen.
    area : ndarray, shape (m, 2), optional, px
        Points of the frame where the transform will be used; None: a grid over `domain`.

    Returns
    -------
    Choice

    Notes
    -----
    Deterministic: every fifth point is held out in turn. 3000 points cost about 15 ms.
    """
    x, y, X, Y = (np.asarray(a, float).ravel() for a in (x, y, X, Y))
    w = np.ones(len(x)) if weights is None else np.asarray(weights, float).ravel()
    n = len(x)
    if domain is None:
        domain = (float(x.min()), float(y.min()), float(x.max()), float(y.max()))
    if area is None:
        area = grid_points(domain)
    ladder = _ladder(wanted, n)
    keep = _clip_before_choice(x, y, X, Y, w, ladder[-1], domain)
    for _ in range(4):
        residuals, transform = _climb(x[keep], y[keep], X[keep], Y[keep], w[keep], ladder, domain, area)
        # A wrong pair at the edge bends the fit towards itself; held out it cannot.
        residual = np.hypot(*residuals.T)
        reduced = residual * np.sqrt(w[keep])
        sigma = np.median(reduced) / 1.1774
        wrong = reduced > 5.0 * (1.0 + 8.0 / len(reduced)) * sigma + 1e-9 * np.sqrt(np.median(w))
        if len(residual) < 8 or not np.any(wrong) or wrong.sum() > 0.3 * len(wrong):
            break
        keep[np.flatnonzero(keep)[wrong]] = False
    rms, p95 = _statistics(residual)
    return Choice(transform, rms, p95, int(keep.sum()), keep, residuals)


def _held_out_rigid(points: _Terms, x: np.ndarray, y: np.ndarray, model: str) -> np.ndarray:
    """Residuals of each point under a model fitted to the other folds' points, px; shape (n, 2)."""
    n = len(x)
    (X, Y), w = points.target.T, points.weights
    folds = _folds(n)
    residual = np.full((n, 2), np.nan)
    if n - np.bincount(folds).max() < NEEDED[model]:
        return residual
    for f in range(folds.max() + 1):
        out = folds == f
        fit = fit_transform(x[~out], y[~out], X[~out], Y[~out], w[~out], model, 1, points.domain)
        fx, fy = fit(x[out], y[out])
        residual[out] = np.column_stack([fx - X[out], fy - Y[out]])
    return residual


class _Folds:
    """The folds' normal equations of the richest polynomial: those of simpler ones are parts of them."""

    def __init__(self, points: _Terms) -> None:
        self.points = points
        self.folds = _folds(len(points.basis))
        self.centre = points.target.mean(0)
        self.normal, self.right = _fold_sums(
            points.basis, points.target - self.centre, points.weights, self.folds
        )

    def held_out(self, degree: int) -> np.ndarray:
        """Residuals of each point under a polynomial fitted to the other folds' points, px; shape (n, 2)."""
        m = len(powers(degree))
        basis, target = self.points.basis[:, :m], self.points.target - self.centre
        residual = np.full(target.shape, np.nan)
        if len(basis) - np.bincount(self.folds).max() < m:
            return residual
        normal, right = self.normal[:, :m, :m], self.right[:, :m]
        whole, rest = normal.sum(0), right.sum(0)
        solutions = np.array([_solve(whole - a, rest - b) for a, b in zip(normal, right, strict=True)])
        if len(solutions) == _MANY:
            # Point k is in fold k modulo their number.
            for f, solution in enumerate(solutions):
                residual[f::_MANY] = basis[f::_MANY] @ solution - target[f::_MANY]
            return residual
        for f, solution in enumerate(solutions):
            out = self.folds == f
            residual[out] = basis[out] @ solution - target[out]
        return residual


def design(u: np.ndarray, v: np.ndarray, degree: int) -> np.ndarray:
    """Terms u**i v**j as columns, in the order of `difflapse.model.transform.powers`; shape (n, terms)."""
    out = np.empty((len(u), (degree + 1) * (degree + 2) // 2))
    _lay_terms(np.asarray(u, float), np.asarray(v, float), degree, out)
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _lay_terms(u: np.ndarray, v: np.ndarray, degree: int, out: np.ndarray) -> None:
    """The arithmetic of `design`."""
    pu, pv = np.ones(degree + 1), np.ones(degree + 1)
    for s in range(len(u)):
        for p in range(degree):
            pu[p + 1] = pu[p] * u[s]
            pv[p + 1] = pv[p] * v[s]
        row, k = out[s], 0
        for p in range(degree + 1):
            for j in range(p + 1):
                row[k] = pu[p - j] * pv[j]
                k += 1


def fit_on_grid(
    target: np.ndarray,
    n: int,
    held: np.ndarray,
    m: int,
    degree: int,
    domain: tuple[float, float, float, float],
) -> tuple[Transform, float]:
    """Fit a polynomial to exact values on a grid over a rectangle; all frames of a size share the grid's inverse.

    Parameters
    ----------
    target : ndarray, shape (n * n, 2), px
        Where the points of ``grid_points(domain, n)`` go.
    n, m : int
        Points along the sides of the grid, and of another one.
    held : ndarray, shape (m * m, 2), px
        Where those of ``grid_points(domain, m)`` go, which are not fitted to.
    degree : int
        2 to 5.
    domain : (x0, y0, x1, y1), px
        The rectangle.

    Returns
    -------
    transform : Transform
    worst : float, px
        By how much it misses the worst point held out.
    """
    inverse, there = _grid_inverse(domain, n, m, degree)
    centre = target.mean(0)
    solution = inverse @ (target - centre)
    solution[0] += centre
    away = there @ solution - held
    origin, scale = _normalisation(domain)
    worst = float(np.hypot(away[:, 0], away[:, 1]).max())
    return _from_terms(solution, degree, origin, scale, domain), worst


@functools.lru_cache(maxsize=16)
def _grid_inverse(
    domain: tuple[float, float, float, float], n: int, m: int, degree: int
) -> tuple[np.ndarray, np.ndarray]:
    """What takes values on one grid to a polynomial's terms, and these to values on another grid."""
    (x0, y0), scale = _normalisation(domain)
    here, there = (
        design((points[:, 0] - x0) / scale, (points[:, 1] - y0) / scale, degree)
        for points in (grid_points(domain, n), grid_points(domain, m))
    )
    return np.linalg.pinv(here), there


def grid_points(domain: tuple[float, float, float, float], n: int = 9) -> np.ndarray:
    """A grid of n x n points over a rectangle, its edges included; shape (n * n, 2)."""
    gx, gy = np.meshgrid(np.linspace(domain[0], domain[2], n), np.linspace(domain[1], domain[3], n))
    return np.column_stack([gx.ravel(), gy.ravel()])


def _ladder(wanted: str, n: int) -> list[tuple[str, int]]:
    """Models to try, simplest first, of those that `n` points can carry; never empty."""
    if wanted == "auto":
        steps = [("shift", 1), ("euclidean", 1), ("similarity", 1), ("affine", 1)]
        steps += [("polynomial", d) for d in range(2, _MAX_DEGREE + 1)]
    elif wanted == "polynomial":
        steps = [("polynomial", d) for d in range(2, _MAX_DEGREE + 1)]
    else:
        steps = [(wanted, 1)]
    possible = [s for s in steps if n >= _WANTED[s[0] if s[0] != "polynomial" else f"polynomial{s[1]}"]]
    return possible or steps[:1]


def _climb(
    x: np.ndarray,
    y: np.ndarray,
    X: np.ndarray,
    Y: np.ndarray,
    w: np.ndarray,
    ladder: list[tuple[str, int]],
    domain: tuple[float, float, float, float],
    area: np.ndarray,
) -> tuple[np.ndarray, Transform]:
    """The ladder's best rung by held-out residuals: those, shape (n, 2), and its fit to all points."""
    best = ladder[0]
    points = _Terms.of(x, y, X, Y, w, domain, max(degree for _, degree in ladder))
    folds = _Folds(points)
    origin, scale = points.origin, points.scale
    there = design((area[:, 0] - origin[0]) / scale, (area[:, 1] - origin[1]) / scale, ladder[-1][1])

    def held(rung: tuple[str, int]) -> np.ndarray:
        if rung[0] in ("affine", "polynomial"):
            return folds.held_out(rung[1])
        return _held_out_rigid(points, x, y, rung[0])

    residuals = held(best)
    residual = np.hypot(*residuals.T)
    for rung in ladder[1:]:
        wanted = held(rung)
        new = np.hypot(*wanted.T)
        if not np.all(np.isfinite(new)):
            continue
        gain = w * (residual**2 - new**2)
        error = np.std(gain) / np.sqrt(len(gain))
        # Few stars that differ much cannot win by the standard error; halving the residuals is as clear.
        halved = np.sum(w * new**2) < 0.25 * np.sum(w * residual**2)
        # With thousands of stars a richer model costs next to nothing, and a faint hint is enough.
        clear = _WIN_SIGMA if len(gain) < 60 * len(powers(rung[1])) else _HINT_SIGMA
        if not (halved or np.mean(gain) > clear * error):
            continue
        # Where even the simpler model is exact to rounding there is nothing to win.
        if np.sqrt(np.mean(residual**2)) < 1e-6:
            continue
        if _worst_uncertainty(points, there, new, rung) > np.sqrt(np.mean(residual**2)):
            continue
        best, residual, residuals = rung, new, wanted
    return residuals, fit_transform(x, y, X, Y, w, best[0], best[1], domain)


def _worst_uncertainty(
    points: _Terms, there: np.ndarray, residual: np.ndarray, rung: tuple[str, int]
) -> float:
    """Largest standard error (radial, px) of a fitted model at places given by their terms; 0 for rigid models.

    Infinite where a polynomial would have to reach far beyond its stars: it multiplies what no error bar
    knows of.
    """
    if rung[0] not in ("affine", "polynomial") or len(there) == 0:
        return 0.0
    m = len(powers(rung[1]))
    basis, there, w = points.basis[:, :m], there[:, :m], points.weights
    unit = w / w.mean()
    solution = _solve((basis * unit[:, None]).T @ basis, there.T)
    leverage = np.einsum("ij,ji->i", there, solution)
    # Evenly spread stars leave the corners at about ten times the mean leverage, terms / n.
    far = _FAR if rung[0] == "polynomial" else _FAR_AFFINE
    if leverage.max() > far * basis.shape[1] / len(basis):
        return float("inf")
    variance = np.sum(unit * residual**2) / len(residual)
    return float(np.sqrt(max(leverage.max(), 0.0) * variance))


def _clip_before_choice(
    x: np.ndarray,
    y: np.ndarray,
    X: np.ndarray,
    Y: np.ndarray,
    w: np.ndarray,
    rung: tuple[str, int],
    domain: tuple[float, float, float, float],
) -> np.ndarray:
    """Points that agree with the richest model allowed; clipping under a poor one would throw away
    corners.
    """
    if len(x) < 4:
        return np.ones(len(x), bool)
    return fit_robust(x, y, X, Y, w, rung[0], rung[1], domain, clip=5.0)[1]


def _statistics(residual: np.ndarray) -> tuple[float, float]:
    good = residual[np.isfinite(residual)]
    if len(good) == 0:
        return float("nan"), float("nan")
    return float(np.sqrt(np.mean(good**2))), float(np.percentile(good, 95))


def _folds(n: int) -> np.ndarray:
    """Which fold each point is held out in: 5 folds of many points, each point by itself where they are
    few.
    """
    k = n if n < 20 else 10 if n < 60 else _MANY
    return np.arange(n) % k


def _fold_sums(
    basis: np.ndarray, target: np.ndarray, w: np.ndarray, folds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Normal equations of each fold: (k, terms, terms) and (k, terms, 2)."""
    k, terms = int(folds.max()) + 1, basis.shape[1]
    normal, right = np.empty((k, terms, terms)), np.empty((k, terms, 2))
    for f in range(k):
        part = basis[folds == f]
        weighted = part * w[folds == f, None]
        normal[f] = weighted.T @ part
        right[f] = weighted.T @ target[folds == f]
    return normal, right


def _solve(normal: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solution of normal equations; of smallest norm where they are singular."""
    try:
        return np.linalg.solve(normal, right)
    except np.linalg.LinAlgError:
        return np.linalg.lstsq(normal, right, rcond=None)[0]


def _determined(basis: np.ndarray, target: np.ndarray, w: np.ndarray, model: str) -> np.ndarray:
    """Weighted least squares, (terms, 2), of points that must determine all terms."""
    solution, rank = _least_squares(basis, target, w)
    if rank < basis.shape[1]:
        raise AlignError(
            f"{len(basis)} matched points lie too regularly to determine a transform of model {model}",
            "ask for a simpler model with --transform",
            {"found": int(rank), "needed": basis.shape[1], "model": model},
        )
    return solution


def _least_squares(basis: np.ndarray, target: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, int]:
    """Weighted least squares, (terms, 2), and the rank of the problem.

    Many points go through the normal equations, with one step of refinement that wins back the digits that
    squaring the condition number costs: ten times quicker than the singular values that few points can
    afford.
    """
    if len(basis) > 300:
        weighted = basis * w[:, None]
        normal = weighted.T @ basis
        eigen = np.linalg.eigvalsh(normal)
        if eigen[0] > 1e-11 * eigen[-1]:
            solution = np.linalg.solve(normal, weighted.T @ target)
            solution = solution + np.linalg.solve(normal, weighted.T @ (target - basis @ solution))
            return solution, basis.shape[1]
    root = np.sqrt(w)[:, None]
    solution, _, rank, _ = np.linalg.lstsq(basis * root, target * root, rcond=None)
    return solution, int(rank)


def _normalisation(domain: tuple[float, float, float, float]) -> tuple[tuple[float, float], float]:
    """Centre and half diagonal of a rectangle: within it normalised coordinates stay inside the unit
    circle.
    """
    x0, y0, x1, y1 = domain
    return (0.5 * (x0 + x1), 0.5 * (y0 + y1)), max(0.5 * float(np.hypot(x1 - x0, y1 - y0)), 1e-3)


def _from_terms(
    solution: np.ndarray,
    degree: int,
    origin: tuple[float, float],
    scale: float,
    domain: tuple[float, float, float, float],
) -> Transform:
    """A transform from fitted terms (terms, 2): constant and linear ones go into the matrix."""
    linear = solution[1:3].T / scale
    shift = solution[0] - linear @ np.asarray(origin)
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = linear, shift
    if degree == 1:
        return Transform("affine", matrix, domain=domain)
    coefficients = solution.T.copy()
    coefficients[:, :3] = 0.0
    return Transform("polynomial", matrix, coefficients, origin, scale, domain)


def _fit_rigid(
    x: np.ndarray, y: np.ndarray, X: np.ndarray, Y: np.ndarray, w: np.ndarray, model: str
) -> np.ndarray:
    """3x3 matrix of the best shift, rotation + shift, or similarity, mirrored if that fits better."""
    total = w.sum()
    a = np.array([w @ x, w @ y]) / total
    b = np.array([w @ X, w @ Y]) / total
    matrix = np.eye(3)
    if model == "shift":
        matrix[:2, 2] = b - a
        return matrix
    # As complex numbers: Z = alpha z, or alpha conj(z) where mirrored.
    z = (x - a[0]) + 1j * (y - a[1])
    Z = (X - b[0]) + 1j * (Y - b[1])
    spread = float(w @ np.abs(z) ** 2)
    if spread <= 0.0:
        raise AlignError(
            f"{len(x)} matched points lie on one spot; a transform of model {model} needs 2 apart",
            "",
            {"found": 1, "needed": 2, "model": model},
        )
    plain, mirror = np.sum(w * Z * np.conj(z)) / spread, np.sum(w * Z * z) / spread
    flipped = abs(mirror) > abs(plain) * (1 + 1e-12)
    alpha = mirror if flipped else plain
    if model == "euclidean":
        alpha = alpha / abs(alpha) if abs(alpha) > 0 else 1.0
    sign = -1.0 if flipped else 1.0
    matrix[:2, :2] = [[alpha.real, -sign * alpha.imag], [alpha.imag, sign * alpha.real]]
    matrix[:2, 2] = b - matrix[:2, :2] @ a
    return matrix


def _fit_homography(x: np.ndarray, y: np.ndarray, X: np.ndarray, Y: np.ndarray, w: np.ndarray) -> np.ndarray:
    """3x3 matrix by the normalised direct linear transform, then Gauss-Newton on the residuals in pixels.

    Hartley & Zisserman, Multiple View Geometry, 2nd ed., 4.4 (normalisation) and 4.5 (refinement).
    """
    t, T = _similarity_to_unit(x, y), _similarity_to_unit(X, Y)
    u, v = t[0, 0] * x + t[0, 2], t[1, 1] * y + t[1, 2]
    U, V = T[0, 0] * X + T[0, 2], T[1, 1] * Y + T[1, 2]
    one, zero, root = np.ones_like(u), np.zeros_like(u), np.sqrt(w)
    rows = np.vstack(
        [
            np.column_stack([u, v, one, zero, zero, zero, -U * u, -U * v, -U]) * root[:, None],
            np.column_stack([zero, zero, zero, u, v, one, -V * u, -V * v, -V]) * root[:, None],
        ]
    )
    _, singular, vt = np.linalg.svd(rows.T @ rows)
    h = vt[-1]
    if abs(h[8]) < 1e-9 * np.abs(h).max() or singular[-2] < 1e-12 * singular[0]:
        raise AlignError(
            f"{len(x)} matched points lie too regularly to determine a homography",
            "ask for a simpler model with --transform",
            {"found": len(x), "needed": 4, "model": "homography"},
        )
    h = h / h[8]
    for _ in range(8):
        d = h[6] * u + h[7] * v + 1.0
        fu, fv = (h[0] * u + h[1] * v + h[2]) / d, (h[3] * u + h[4] * v + h[5]) / d
        jacobian = np.vstack(
            [
                np.column_stack([u / d, v / d, 1 / d, zero, zero, zero, -fu * u / d, -fu * v / d])
                * root[:, None],
                np.column_stack([zero, zero, zero, u / d, v / d, 1 / d, -fv * u / d, -fv * v / d])
                * root[:, None],
            ]
        )
        step = np.linalg.lstsq(jacobian, np.concatenate([(U - fu) * root, (V - fv) * root]), rcond=None)[0]
        h[:8] += step
        if np.abs(step).max() < 1e-14:
            break
    matrix = np.linalg.inv(T) @ h.reshape(3, 3) @ t
    return matrix / matrix[2, 2]


def _similarity_to_unit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """3x3 matrix that moves points to mean 0 and rms distance sqrt(2)."""
    spread = np.sqrt(0.5 * (np.var(x) + np.var(y))) or 1.0
    return np.array([[1 / spread, 0, -x.mean() / spread], [0, 1 / spread, -y.mean() / spread], [0, 0, 1.0]])

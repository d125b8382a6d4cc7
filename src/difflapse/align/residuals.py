"""What residuals on held-out stars say: how good the corners are, and whether the rest is noise or a pattern.

Arrays in, numbers out; all positions and residuals are native pixels of the reference unless it says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincc

from difflapse.model import HeldOut

CORNER = 0.2
"""A corner is this part of a frame's width by this part of its height."""
CORNER_STARS = 5
"""Held-out stars in all four corners together below which their rms means nothing."""
CELL_STARS = 20
"""Stars wanted in a cell of the residual field, on average."""
_MOST_CELLS = (12, 9)
_LEAST_IN_CELL = 6
_SIGNIFICANT = 1e-3


@dataclass(frozen=True, eq=False)
class Field:
    """Mean residuals on a grid of cells, and what of them chance explains. NaN where a cell has too few stars."""

    x: np.ndarray
    """(ny, nx) centres of the cells."""
    y: np.ndarray
    """(ny, nx)."""
    dx: np.ndarray
    """(ny, nx) mean residual, transformed minus measured."""
    dy: np.ndarray
    """(ny, nx)."""
    dx_error: np.ndarray
    """(ny, nx) standard error of it, from the scatter of the cell's stars."""
    dy_error: np.ndarray
    """(ny, nx)."""
    n: np.ndarray
    """(ny, nx) stars behind it."""

    @property
    def significance(self) -> np.ndarray:
        """(ny, nx): length of each mean vector in units of its error, corrected for an error from few stars."""
        few = np.maximum(self.n - 3, 0) / np.maximum(self.n - 1, 1)  # E[t^2] = (n - 1) / (n - 3)
        with np.errstate(invalid="ignore", divide="ignore"):  # without any scatter nothing can be said
            return np.sqrt(((self.dx / self.dx_error) ** 2 + (self.dy / self.dy_error) ** 2) * few / 2)

    @property
    def chi2_dof(self) -> float:
        """Mean of the squared significances: about 1 where all is noise; NaN without a cell."""
        squares = self.significance[np.isfinite(self.significance)] ** 2
        return float(squares.mean()) if squares.size else float("nan")

    @property
    def probability(self) -> float:
        """Chance that noise alone gives such a `chi2_dof`."""
        n = 2 * int(np.isfinite(self.significance).sum())
        return float(gammaincc(n / 2, self.chi2_dof * n / 2)) if n else float("nan")

    @property
    def is_systematic(self) -> bool:
        """Whether chance does not explain the vectors (one night in a thousand)."""
        return self.probability < _SIGNIFICANT

    @property
    def rms(self) -> float:
        """Radial rms over the field of what is not noise, px: that of the means less their errors; 0 where less."""
        return float(np.sqrt(max(self._excess()[0], 0.0)))

    @property
    def limit(self) -> float:
        """What `rms` stays below with 97.5 % confidence, px."""
        excess, error = self._excess()
        return float(np.sqrt(max(excess, 0.0) + 2 * error))

    def _excess(self) -> tuple[float, float]:
        """Mean square of the vectors less that of their errors, and its own error."""
        good = np.isfinite(self.significance)
        if not good.any():
            return float("nan"), float("nan")
        noise = self.dx_error[good] ** 2, self.dy_error[good] ** 2
        square = self.dx[good] ** 2 + self.dy[good] ** 2 - noise[0] - noise[1]
        return float(square.mean()), float(np.sqrt(2 * np.sum(noise[0] ** 2 + noise[1] ** 2)) / good.sum())


@dataclass(frozen=True)
class NoiseLaw:
    """Scatter of residuals on one axis: sigma^2 = floor^2 + (slope / snr)^2."""

    floor: float
    """px: what the brightest stars are left with."""
    slope: float
    """px: scatter at a signal to noise of 1."""

    def __call__(self, snr: np.ndarray) -> np.ndarray:
        """Sigma on one axis at a signal to noise, px."""
        return np.hypot(self.floor, self.slope / snr)


def corner_rms(held_out: HeldOut | None, shape: tuple[int, int]) -> float:
    """Radial rms of the held-out stars in a frame's four corners, px of the reference; NaN if they are few.

    Parameters
    ----------
    held_out : HeldOut or None
        Residuals with positions on the frame.
    shape : (ny, nx)
        Of the frame, native pixels. A corner is `CORNER` of its width by `CORNER` of its height.

    Returns
    -------
    float
        NaN where fewer than `CORNER_STARS` lie there.
    """
    if held_out is None:
        return float("nan")
    corner = in_corners(held_out.x, held_out.y, shape)
    if corner.sum() < CORNER_STARS:
        return float("nan")
    return float(np.sqrt(np.mean(held_out.dx[corner] ** 2 + held_out.dy[corner] ** 2, dtype=float)))


def in_corners(x: np.ndarray, y: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Which positions lie in the four corners of an image of this shape, (n,) bool."""
    u, v = (x + 0.5) / shape[1], (y + 0.5) / shape[0]
    return (np.minimum(u, 1 - u) < CORNER) & (np.minimum(v, 1 - v) < CORNER)


def spread(x: np.ndarray, y: np.ndarray, shape: tuple[int, int], most: int, seed: int) -> np.ndarray:
    """Choose at most `most` points, as evenly over an image as they allow and whatever their brightness.

    Parameters
    ----------
    x, y : (n,) array
        Positions.
    shape : (ny, nx)
        Of the image.
    most : int
        Points wanted at most.
    seed : int
        The same seed, the same choice.

    Returns
    -------
    (m,) int array
        Ascending indices; all of them where there are no more than `most`.
    """
    n = len(x)
    if n <= most:
        return np.arange(n)
    cells = _cells(x, y, shape, (9, 6))
    shuffled = np.random.default_rng(seed).permutation(n)
    order = shuffled[np.argsort(cells[shuffled], kind="stable")]
    # Each cell gives its first, then each its second, until there are enough.
    turn = np.arange(n) - np.searchsorted(cells[order], cells[order])
    return np.sort(order[np.argsort(turn, kind="stable")[:most]])


def noise_law(dx: np.ndarray, dy: np.ndarray, snr: np.ndarray) -> NoiseLaw:
    """How the scatter of residuals falls with signal to noise, from the residuals themselves.

    Parameters
    ----------
    dx, dy : (n,) array, px
        Residuals.
    snr : (n,) array
        Signal to noise of each.

    Returns
    -------
    NoiseLaw
        A non-negative fit to groups of equal size in `snr`; a residual beyond 5 sigma of its group counts as 5.
    """
    from scipy.optimize import nnls

    groups = np.array_split(np.argsort(snr), int(np.clip(len(snr) // 20, 1, 24)))
    sigma2 = np.array([max(_variance(dx[g] ** 2 + dy[g] ** 2), 1e-12) for g in groups])
    inverse = np.array([np.median(1 / np.asarray(snr[g], float) ** 2) for g in groups])
    if len(groups) < 3:
        return NoiseLaw(float(np.sqrt(np.median(sigma2))), 0.0)
    design = np.column_stack([np.ones_like(inverse), inverse]) / sigma2[:, None]
    (floor2, slope2), _ = nnls(design, np.ones(len(groups)))
    return NoiseLaw(float(np.sqrt(floor2)), float(np.sqrt(slope2)))


def residual_field(
    x: np.ndarray,
    y: np.ndarray,
    dx: np.ndarray,
    dy: np.ndarray,
    sigma: np.ndarray,
    shape: tuple[int, int],
    cells: tuple[int, int] | None = None,
) -> Field:
    """Average residuals in cells of an image, with errors from their own scatter.

    Parameters
    ----------
    x, y, dx, dy : (n,) array, px
        Positions and residuals, one a star: a star's centroid error on the reference is the same in all frames,
        so that averages over frames must come before averages over stars (`per_star`).
    sigma : (n,) array, px
        Expected scatter of each, for the weights.
    shape : (ny, nx)
        Of the image.
    cells : (nx, ny), optional
        Number of cells; by default as many as give each `CELL_STARS`.

    Returns
    -------
    Field
        On ``(ny, nx)`` cells.
    """
    nx, ny = cells or cell_numbers(len(x), shape)
    cell = _cells(x, y, shape, (nx, ny))
    w = 1.0 / np.maximum(np.asarray(sigma, float), 1e-6) ** 2

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(cell, values, nx * ny).reshape(ny, nx)

    n = total(np.ones(len(x)))
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = total(w)
        means = [total(w * d) / weight for d in (dx, dy)]
        # The weights are believed beside each other; how large the scatter is, the cell says itself.
        chi2 = [total(w * (d - mean.ravel()[cell]) ** 2) for d, mean in zip((dx, dy), means, strict=True)]
        errors = [np.sqrt(c / (n - 1) / weight) for c in chi2]
    for array in (*means, *errors):
        array[n < _LEAST_IN_CELL] = np.nan
    cx, cy = np.meshgrid(
        (np.arange(nx) + 0.5) * shape[1] / nx - 0.5, (np.arange(ny) + 0.5) * shape[0] / ny - 0.5
    )
    return Field(cx, cy, means[0], means[1], errors[0], errors[1], n)


def per_star(
    star: np.ndarray, sigma: np.ndarray, *values: np.ndarray
) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray]:
    """Weighted means over the frames in which each star was seen.

    Parameters
    ----------
    star : (n,) int array
        Number of the star in each row.
    sigma : (n,) array
        Expected scatter of each row, for the weights.
    *values : (n,) array
        What is averaged.

    Returns
    -------
    means : tuple of (m,) array
        A value a star.
    which : (n,) int array
        Place of each row's star in the means.
    share : (n,) array
        The part of its star's mean that each row makes up, 0 to 1.
    """
    which = np.unique(star, return_inverse=True)[1]
    w = 1.0 / np.maximum(np.asarray(sigma, float), 1e-6) ** 2
    weight = np.bincount(which, w)
    return tuple(np.bincount(which, w * v) / weight for v in values), which, w / weight[which]


def cell_numbers(n: int, shape: tuple[int, int]) -> tuple[int, int]:
    """Cells along x and y, about square, such that `n` stars give each `CELL_STARS`."""
    wanted = max(n / CELL_STARS, 1.0)
    aspect = shape[1] / shape[0]
    nx = int(np.clip(np.sqrt(wanted * aspect), 1, _MOST_CELLS[0]))
    return nx, int(np.clip(min(wanted / nx, nx / aspect + 0.5), 1, _MOST_CELLS[1]))


def _variance(square: np.ndarray) -> float:
    """Variance on one axis from squared radii; the few far out are drawn in."""
    # The median of the squared radius of a round Gaussian is 2 ln 2 sigma^2.
    return float(np.mean(np.minimum(square, 25 * np.median(square) / np.log(2))) / 2)


def _cells(x: np.ndarray, y: np.ndarray, shape: tuple[int, int], cells: tuple[int, int]) -> np.ndarray:
    """Number of the cell, row by row, in which each position lies; those outside count to the nearest."""
    nx, ny = cells
    i = np.clip(((x + 0.5) / shape[1] * nx).astype(int), 0, nx - 1)
    j = np.clip(((y + 0.5) / shape[0] * ny).astype(int), 0, ny - 1)
    return j * nx + i

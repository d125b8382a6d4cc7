"""Photometric scale: how bright a frame is beside another, per colour, from stars or from pixels."""

from __future__ import annotations

import numba
import numpy as np
from scipy.spatial import cKDTree

from difflapse.measure.mesh import nodes
from difflapse.measure.order import chosen
from difflapse.model import ProductGrid, Stars, Transform

_MIN_STARS = 5
SPACING = 64
"""Product pixels between the nodes of a scale's mesh."""


def scale_from_stars(
    stars: Stars, reference: Stars, transform: Transform, grid: ProductGrid, radius: float = 1.5
) -> tuple[np.ndarray, int] | None:
    """Fit the ratio of star fluxes, frame over reference, as a smooth surface per channel.

    Parameters
    ----------
    stars, reference : Stars
        Stars of the frame and of the reference, each in its own native pixels.
    transform : Transform
        Frame to reference.
    grid : ProductGrid
        The product grid that the mesh spans.
    radius : float
        Matching radius, native pixels of the reference.

    Returns
    -------
    (mesh, n) or None
        Mesh (c, my, mx) of the ratio, and the number of stars behind it; None with fewer than 5 stars. The
        surface of log ratio is a constant for few stars, a plane or a quadratic (thin clouds, extinction over
        wide fields) where that many stars call for it.
    """
    x, y = transform(stars.x, stars.y)
    if len(stars) == 0 or len(reference) == 0:
        return None
    distance, index = cKDTree(reference.xy).query(
        np.column_stack([np.nan_to_num(x, nan=-1e9), np.nan_to_num(y, nan=-1e9)]), distance_upper_bound=radius
    )
    ok = np.isfinite(distance)
    ok[ok] &= ~stars.saturated[ok] & ~reference.saturated[index[ok]]
    if ok.sum() < _MIN_STARS:
        return None
    there = index[ok]
    channels = stars.colour_flux.shape[0]
    gi, gj = nodes(grid.shape, SPACING)
    mesh = np.ones((channels, len(gj), len(gi)), np.float32)
    # Positions in units of the field, so that the terms have like sizes.
    half = max(grid.shape) * grid.step / 2
    cx = grid.origin[0] + grid.shape[1] * grid.step / 2
    cy = grid.origin[1] + grid.shape[0] * grid.step / 2
    u, v = (reference.x[there] - cx) / half, (reference.y[there] - cy) / half
    nx, ny = grid.to_native(gi, gj)
    gu, gv = np.meshgrid((nx - cx) / half, (ny - cy) / half)
    count = 0
    for c in range(channels):
        a, b = stars.colour_flux[c, ok], reference.colour_flux[c, there]
        good = (a > 0) & (b > 0)
        if good.sum() < _MIN_STARS:
            return None
        weight = np.minimum(np.minimum(stars.snr[ok][good], reference.snr[there][good]), 50.0) ** 2
        surface, n = _fit_surface(u[good], v[good], np.log(a[good] / b[good]), weight)
        # Beyond the stars a polynomial runs away: hold it within the range seen at them.
        mesh[c] = np.exp(np.clip(_evaluate(surface, gu, gv), *_range(surface, u[good], v[good])))
        count = max(count, n)
    return mesh, count


def scale_from_sums(
    image: np.ndarray, target: np.ndarray, bad: np.ndarray, i: np.ndarray, j: np.ndarray, radius: float
) -> tuple[np.ndarray, int] | None:
    """Fit the ratio of star fluxes, image over target, from sums about stars on one grid; whatever their widths.

    Parameters
    ----------
    image, target : ndarray, shape (c, ny, nx)
        Of another camera or night, and of this one.
    bad : ndarray of bool, shape (ny, nx)
        True = bad in either; stars near one do not count.
    i, j : ndarray, shape (n,)
        Where stars are, product pixels.
    radius : float
        Of the sums, product pixels: both images' stars should fit in. The sky is the median of a ring around.

    Returns
    -------
    (mesh, n) or None
        As `scale_from_stars`; the target's noise weighs, for faint stars are many.
    """
    c, ny, nx = image.shape
    reach = int(np.ceil(2.5 * radius))
    ci, cj = np.round(i).astype(int), np.round(j).astype(int)
    inside = (ci >= reach) & (cj >= reach) & (ci < nx - reach) & (cj < ny - reach)
    gy, gx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    distance = np.hypot(gx, gy)
    disc, ring = distance <= radius, (distance > 1.5 * radius) & (distance <= 2.5 * radius)
    sums: list[np.ndarray] = []
    places = []
    for a, b in zip(ci[inside], cj[inside], strict=True):
        box = (slice(b - reach, b + reach + 1), slice(a - reach, a + reach + 1))
        if bad[box].any():
            continue
        cut = np.stack([image[:, box[0], box[1]], target[:, box[0], box[1]]])
        sky = cut[:, :, ring]
        level = np.median(sky, axis=-1)
        noise = 1.4826 * np.median(np.abs(sky - level[..., None]), axis=-1) * np.sqrt(disc.sum())
        sums.append(np.stack([cut[:, :, disc].sum(axis=-1) - disc.sum() * level, noise]))
        places.append((a, b))
    if len(sums) < _MIN_STARS:
        return None
    (flux, noise), place = np.stack(sums, axis=1), np.array(places, float)
    half = max(ny, nx) / 2
    u, v = (place[:, 0] - nx / 2) / half, (place[:, 1] - ny / 2) / half
    gi, gj = nodes((ny, nx), SPACING)
    gu, gv = np.meshgrid((gi - nx / 2) / half, (gj - ny / 2) / half)
    mesh = np.ones((c, len(gj), len(gi)), np.float32)
    for k in range(c):
        snr = np.min(flux[:, :, k] / np.maximum(noise[:, :, k], 1e-9), axis=1)
        good = snr > 10
        if good.sum() < _MIN_STARS:
            return None
        ratio = np.log(flux[good, 0, k] / flux[good, 1, k])
        surface, _ = _fit_surface(u[good], v[good], ratio, np.minimum(snr[good], 50.0) ** 2)
        mesh[k] = np.exp(np.clip(_evaluate(surface, gu, gv), *_range(surface, u[good], v[good])))
    return mesh, len(sums)


def scale_from_pixels(
    science: np.ndarray, template: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Fit ``science = scale * template + offset`` on the pixels themselves, robustly, per channel.

    For fields without stars: the Sun, the Moon, clouds. Both images are (c, ny, nx), mask (ny, nx) bool, True
    = bad.

    Returns
    -------
    (scale, offset) or None
        One value per channel each; None where the template has no structure to tell a scale by.
    """
    good = ~mask & np.isfinite(template).all(axis=0) & np.isfinite(science).all(axis=0)
    index = np.flatnonzero(good)
    if len(index) < 100:
        return None
    index = index[:: max(1, len(index) // 100_000)]
    scales, offsets = [], []
    for s, t in zip(science, template, strict=True):
        a, b = s.ravel()[index].astype(float), t.ravel()[index].astype(float)
        spread = b.std()
        noise = 1.4826 * np.median(np.abs(np.diff(b))) + 1e-9
        if not spread > 2 * noise / np.sqrt(2):
            return None
        w = np.ones(len(a))
        slope, level = 1.0, 0.0
        for _ in range(30):
            mb, ma = np.average(b, weights=w), np.average(a, weights=w)
            new = np.sum(w * (b - mb) * (a - ma)) / np.sum(w * (b - mb) ** 2)
            level = ma - new * mb
            residual = a - new * b - level
            width = 1.4826 * np.median(np.abs(residual)) + 1e-9
            w = 1 / np.maximum(1, np.abs(residual) / (1.5 * width))
            if abs(new - slope) < 1e-6 * abs(new):
                slope = new
                break
            slope = new
        if not slope > 0:
            return None
        scales.append(slope)
        offsets.append(level)
    return np.array(scales), np.array(offsets)


def _terms(u: np.ndarray, v: np.ndarray, degree: int) -> np.ndarray:
    columns = [np.ones_like(u)]
    if degree >= 1:
        columns += [u, v]
    if degree >= 2:
        columns += [u * u, u * v, v * v]
    return np.stack(columns, axis=-1)


def _evaluate(surface: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _terms(u, v, {1: 0, 3: 1, 6: 2}[len(surface)]) @ surface


def _range(surface: np.ndarray, u: np.ndarray, v: np.ndarray) -> tuple[float, float]:
    values = _evaluate(surface, u, v)
    return float(values.min()), float(values.max())


def _fit_surface(u: np.ndarray, v: np.ndarray, z: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, int]:
    """Robust weighted surface of the degree that the stars call for."""
    best = np.array([_weighted_median(z, weight)])
    n = len(z)
    spread = _width(z - best[0])
    for degree, needed in ((1, 60), (2, 150)):
        if n < needed:
            break
        design = _terms(u, v, degree)
        keep = np.abs(z - _evaluate(best, u, v)) < 4 * max(spread, 1e-6)
        coefficients = np.zeros(design.shape[1])
        for _ in range(4):
            coefficients = _solved(design[keep], z[keep], weight[keep])
            residual = z - design @ coefficients
            keep = np.abs(residual) < 3.5 * max(_width(residual), 1e-6)
        new = _width(z - design @ coefficients)
        # A richer surface must explain scatter, not only have more terms.
        if new < spread * (1 - 3.0 / n) and _significant(
            design[keep], residual[keep], coefficients, len(best)
        ):
            best, spread = coefficients, new
    return best, n


def _solved(design: np.ndarray, z: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted least squares; of smallest norm where the stars lie in a line or on a spot."""
    weighted = design * weight[:, None]
    normal = weighted.T @ design
    # Of terms that lie within +-1: few digits are lost by squaring them.
    if np.linalg.cond(normal) < 1e8:
        return np.asarray(np.linalg.solve(normal, weighted.T @ z))
    root = np.sqrt(weight)
    return np.asarray(np.linalg.lstsq(design * root[:, None], z * root, rcond=None)[0])


def _significant(design: np.ndarray, residual: np.ndarray, coefficients: np.ndarray, old: int) -> bool:
    """Whether any of the new terms is larger than five of its errors."""
    sigma = residual.std()
    error = sigma * np.sqrt(np.diag(np.linalg.pinv(design.T @ design)))
    return bool(np.any(np.abs(coefficients[old:]) > 5 * error[old:]))


def _weighted_median(values: np.ndarray, weight: np.ndarray) -> float:
    order = np.argsort(values)
    total = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(total, 0.5 * total[-1])])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _width(values: np.ndarray) -> float:
    """Robust standard deviation; NaN of nothing."""
    n = len(values)
    if n == 0:
        return np.nan
    room = values.copy()
    middle = 0.0
    for _ in range(2):
        low, high = chosen(room, (n - 1) // 2, n > 1)
        middle = 0.5 * (low + high) if n % 2 == 0 else low
        room[:] = np.abs(values - middle)
    return 1.4826 * middle

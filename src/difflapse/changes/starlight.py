"""The light of the stars that are always there: where they are, and how well each frame's difference knows them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numba
import numpy as np

from difflapse.changes.find import FindOptions, find_peaks, flatten
from difflapse.measure.mesh import ROWS_PER_LINE, line
from difflapse.measure.order import median, quantile
from difflapse.model import ProductGrid

_FAINTEST = 3.0
"""S/N of a star on one frame from which it is followed: what shines for a half of the night is half as bright here."""
_MOST = 30_000
"""Stars that are followed, the strongest."""
_LIT = 5.0
"""S/N of the template from which it is no empty sky."""
_PER_BIN = 2.0
"""Each bin of brightness spans this factor."""
_LAST_BIN = 14
_LEAST = 40
"""Pixels, or stars, that tell the scatter of a bin; with fewer it is carried on from fainter ones."""


@dataclass(frozen=True, eq=False)
class Starlight:
    """The stars of the template, in units of one frame's noise on empty sky."""

    x: np.ndarray
    y: np.ndarray
    """(n,) float64, native pixels of the reference; brightest first."""
    snr: np.ndarray
    """(n,) float64: S/N on one frame, photon noise of the sky only."""
    gain: np.ndarray
    """(n,) float64: what a filtered difference would show at the star, were its light doubled."""
    bins: np.ndarray
    """(ny, nx) uint8: how bright the template is within two pixels; 0 for empty sky, one more for each factor 2."""

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: np.ndarray) -> Starlight:
        """Some of the stars; the map stays."""
        return Starlight(self.x[index], self.y[index], self.snr[index], self.gain[index], self.bins)


def find_starlight(
    template: np.ndarray,
    sky: np.ndarray,
    variance: np.ndarray,
    photon: np.ndarray,
    bad: np.ndarray,
    grid: ProductGrid,
    fwhm: float,
) -> Starlight:
    """Find the stars of a template and map its brightness.

    Parameters
    ----------
    template : ndarray, shape (c, ny, nx), float32
        ADU.
    sky : ndarray, shape (c, my, mx)
        Its level without stars, ADU, on a mesh over the image.
    variance : ndarray, shape (c,)
        Of an empty pixel of one frame, ADU^2.
    photon : ndarray, shape (c,)
        What each ADU of light adds to it, ADU.
    bad : ndarray of bool, shape (ny, nx)
        Pixels of which nothing is known.
    grid : ProductGrid
        Where its pixels lie on the reference.
    fwhm : float
        Of a star, product pixels.

    Returns
    -------
    Starlight
    """
    light = _combined(template, sky, variance, np.zeros_like(photon), bad)
    # Not in units of its own scatter, which is the template's, but of one frame's.
    gain = np.float32(filter_gain(fwhm))
    smooth = _smooth(light, fwhm) * gain
    near = cv2.dilate(smooth, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    bins = np.empty(near.shape, np.uint8)
    _bin(near, _LIT * _PER_BIN ** np.arange(_LAST_BIN, dtype=np.float32), bins)
    # In units of one frame's noise: the template's own scatter is that of its faint stars where there are many.
    own = _smooth(flatten(light), fwhm) * gain
    own[bad] = 0
    found = find_peaks(own, grid, FindOptions(fwhm, _FAINTEST, _MOST, streaks=False))
    found = found.take(found.snr > 0)
    i, j = (np.rint(v).astype(int) for v in grid.from_native(found.x, found.y))
    snr = smooth[j, i].astype(float)
    order = np.argsort(-snr, kind="stable")
    order = order[snr[order] > _FAINTEST]
    own = _smooth(flatten(_combined(template, sky, variance, photon, np.zeros((1, 1), bool))), fwhm) * gain
    return Starlight(found.x[order], found.y[order], snr[order], own[j, i][order].astype(float), bins)


def _combined(
    template: np.ndarray, sky: np.ndarray, variance: np.ndarray, photon: np.ndarray, bad: np.ndarray
) -> np.ndarray:
    """All colours in one map of significance, as the difference is; NaN where it is bad."""
    out = np.empty(template.shape[1:], np.float32)
    sky = np.ascontiguousarray(sky, np.float32)
    _combine(template, sky, variance.astype(np.float32), photon.astype(np.float32), bad, out)
    return out


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _combine(
    template: np.ndarray,
    sky: np.ndarray,
    variance: np.ndarray,
    photon: np.ndarray,
    bad: np.ndarray,
    out: np.ndarray,
) -> None:
    """The map of what is bad may be one value. A few rows share the lines of the sky's mesh."""
    c, ny, nx = template.shape
    one, nothing = np.float32(1), np.float32(0)
    judged = bad.size > 1
    total, weights = np.empty(nx, np.float32), np.empty(nx, np.float32)
    level = np.empty((c, nx), np.float32)
    for j in range(ny):
        if j % ROWS_PER_LINE == 0:
            for k in range(c):
                line(sky[k], min(j + 0.5 * (ROWS_PER_LINE - 1), ny - 1.0), ny, level[k])
        total[:] = nothing
        weights[:] = nothing
        for k in range(c):
            row, behind = template[k, j], level[k]
            for i in range(nx):
                s = row[i] - behind[i]
                w = one / (variance[k] + photon[k] * max(s, nothing))
                total[i] += s * w
                weights[i] += w
        for i in range(nx):
            out[j, i] = total[i] / np.sqrt(weights[i])
        if judged:
            for i in range(nx):
                if bad[j, i]:
                    out[j, i] = np.float32(np.nan)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _bin(light: np.ndarray, edges: np.ndarray, out: np.ndarray) -> None:
    """How many of the edges, in rising order, lie below each pixel: below most there is none."""
    for j in range(light.shape[0]):
        for i in range(light.shape[1]):
            v, n = light[j, i], 0
            while n < len(edges) and edges[n] < v:
                n += 1
            out[j, i] = n


def _smooth(light: np.ndarray, fwhm: float) -> np.ndarray:
    """A Gaussian mean, dark where nothing is known."""
    seen = np.empty(light.shape, np.float32)
    _known(light, seen)
    return np.asarray(cv2.GaussianBlur(seen, (0, 0), max(fwhm, 0.8) / 2.3548))


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _known(light: np.ndarray, out: np.ndarray) -> None:
    """An image with 0 where it is not finite."""
    infinite = np.float32(np.inf)
    for j in range(light.shape[0]):
        for i in range(light.shape[1]):
            v = light[j, i]
            out[j, i] = v if abs(v) < infinite else np.float32(0)


def filter_gain(fwhm: float) -> float:
    """What a Gaussian mean must be multiplied with to be in units of its noise, were neighbours independent."""
    sigma = max(fwhm, 0.8) / 2.3548
    return float(2 * np.sqrt(np.pi) * sigma)


def scatter_by_light(snr: np.ndarray, bins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median and robust scatter of a filtered difference where the template is so bright; scatter never below 1.

    Parameters
    ----------
    snr : ndarray, shape (n,) or (ny, nx)
        Filtered difference, 0 where unknown.
    bins : ndarray of uint8, the same shape
        How bright the template is there.

    Returns
    -------
    middle, scatter : ndarray, shape (n_bins,)
        Scatter is the larger of what half and what 98 % of the values tell: residuals have wings.
    """
    middle, scatter = np.zeros(_LAST_BIN + 1), np.ones(_LAST_BIN + 1)
    if snr.ndim == 1:
        snr, bins = snr[None], bins[None]
    _scatter(np.asarray(snr, np.float32), bins, middle, scatter)
    return middle, scatter


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _scatter(snr: np.ndarray, bins: np.ndarray, middle: np.ndarray, scatter: np.ndarray) -> None:
    """Values are put together by their bin, in their order; then each bin is looked at."""
    ny, nx = snr.shape
    # Most are of empty sky: they are told apart first, for to count each by its bin waits for the one before it. One
    # more place than there are values, for those that do not belong there.
    empty, lit, where = (
        np.empty(ny * nx + 1, np.float32),
        np.empty(ny * nx, np.float32),
        np.empty(ny * nx, np.uint8),
    )
    row_lit, row_where = np.empty(nx + 1, np.float32), np.empty(nx + 1, np.uint8)
    ends = np.zeros(len(middle) + 1, np.int64)
    n, m = 0, 0
    for j in range(ny):
        row, light = snr[j], bins[j]
        here = 0
        for i in range(nx):
            # Numbers without a sign are places from the front: nothing to ask.
            v, b = row[np.uint64(i)], light[np.uint64(i)]
            empty[np.uint64(n)] = v
            row_lit[np.uint64(here)] = v
            row_where[np.uint64(here)] = b
            n += (v != 0) & (b == 0)
            here += (v != 0) & (b != 0)
        lit[m : m + here] = row_lit[:here]
        where[m : m + here] = row_where[:here]
        m += here
    for k in range(m):
        ends[where[k] + 1] += 1
    for b in range(len(middle)):
        ends[b + 1] += ends[b]
    values, room = np.empty(m, np.float32), np.empty(max(n, m), np.float32)
    at = ends[:-1].copy()
    for k in range(m):
        b = where[k]
        values[at[b]] = lit[k]
        at[b] += 1
    for b in range(len(middle)):
        own = values[ends[b] : ends[b + 1]] if b else empty[:n]
        if len(own) < _LEAST:
            # Brighter ones are worse in proportion, at most.
            if b:
                scatter[b] = np.hypot(1.0, _PER_BIN * np.sqrt(max(scatter[b - 1] ** 2 - 1, 0.0)))
            continue
        if b:
            middle[b] = median(own, room)
        level = np.float32(middle[b])
        for i in range(len(own)):
            own[i] = abs(own[i] - level)
        scatter[b] = max(1.0, quantile(own, 0.5, room) / 0.6745)
        if b:
            scatter[b] = max(scatter[b], quantile(own, 0.98, room) / 2.326)


def field_of(share: np.ndarray, x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """How stars' relative residuals vary over the field: a quadratic surface at (x, y), fitted robustly.

    Parameters
    ----------
    share : ndarray, shape (n,)
        Residual of each star over its light; NaN where unknown.
    x, y : ndarray, shape (n,)
        Native pixels.
    weight : ndarray, shape (n,)
        Inverse variance of `share`.

    Returns
    -------
    ndarray, shape (n,)
        0 where too few stars tell.
    """
    known = np.isfinite(share) & (weight > 0)
    if known.sum() < 30:
        return np.zeros(len(x))
    u, v = (x - x.mean()) / max(np.ptp(x), 1.0), (y - y.mean()) / max(np.ptp(y), 1.0)
    design = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=1)
    share, weight = np.where(known, share, 0.0), np.where(known, weight, 0.0)
    fit, room = np.zeros(len(x)), np.empty(len(x), np.float32)
    for _ in range(4):
        away = np.abs(share - fit)
        limit = 3 * 1.4826 * float(median(away[known].astype(np.float32), room))
        left, right = _normal(design, share, weight, away, limit)
        # Six unknowns: where the stars lie in a line, the smallest of the solutions.
        fit = design @ np.linalg.lstsq(left, right, rcond=1e-12)[0]
    return np.asarray(fit)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _normal(
    design: np.ndarray, share: np.ndarray, weight: np.ndarray, away: np.ndarray, limit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Normal equations of what lies within a limit. Summed here: a library wakes threads for them."""
    n, k = design.shape
    left, right = np.zeros((k, k)), np.zeros(k)
    for i in range(n):
        w = weight[i]
        if w == 0 or away[i] > limit:
            continue
        for q in range(k):
            f = w * design[i, q]
            right[q] += f * share[i]
            for r in range(q + 1):
                left[q, r] += f * design[i, r]
    for q in range(k):
        for r in range(q):
            left[r, q] = left[q, r]
    return left, right

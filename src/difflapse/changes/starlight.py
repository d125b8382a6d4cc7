"""The light of the stars that are always there: where they are, and how well each frame's difference knows them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from difflapse.changes.find import FindOptions, find_peaks, flatten
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
    sky : ndarray, shape (c, ny, nx) or (c, 1, 1), float32
        Its level without stars, ADU.
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
    signal = [template[c] - np.asarray(sky[c], np.float32) for c in range(len(template))]
    light = _combined(signal, variance, np.zeros_like(photon))
    light[bad] = np.nan
    # Not in units of its own scatter, which is the template's, but of one frame's.
    gain = np.float32(filter_gain(fwhm))
    smooth = _smooth(light, fwhm) * gain
    near = cv2.dilate(smooth, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    with np.errstate(divide="ignore", invalid="ignore"):
        bins = np.ceil(np.log(near / _LIT) / np.log(_PER_BIN))
    bins = np.clip(np.nan_to_num(bins, nan=0.0, neginf=0.0, posinf=float(_LAST_BIN)), 0, _LAST_BIN)
    # In units of one frame's noise: the template's own scatter is that of its faint stars where there are many.
    own = _smooth(flatten(light), fwhm) * gain
    own[bad] = 0
    found = find_peaks(own, grid, FindOptions(fwhm, _FAINTEST, _MOST, streaks=False))
    found = found.take(found.snr > 0)
    i, j = (np.rint(v).astype(int) for v in grid.from_native(found.x, found.y))
    snr = smooth[j, i].astype(float)
    order = np.argsort(-snr, kind="stable")
    order = order[snr[order] > _FAINTEST]
    own = _smooth(flatten(_combined(signal, variance, photon)), fwhm) * gain
    return Starlight(
        found.x[order], found.y[order], snr[order], own[j, i][order].astype(float), bins.astype(np.uint8)
    )


def _combined(signal: list[np.ndarray], variance: np.ndarray, photon: np.ndarray) -> np.ndarray:
    """All colours in one map of significance, as the difference is."""
    total = np.zeros(signal[0].shape, np.float32)
    weights = np.zeros(signal[0].shape, np.float32)
    for c, s in enumerate(signal):
        weight = 1 / (np.float32(variance[c]) + np.float32(photon[c]) * np.maximum(s, np.float32(0)))
        total += s * weight
        weights += weight
    return np.asarray(total / np.sqrt(weights))


def _smooth(light: np.ndarray, fwhm: float) -> np.ndarray:
    """A Gaussian mean, dark where nothing is known."""
    seen = np.where(np.isfinite(light), light, np.float32(0))
    return np.asarray(cv2.GaussianBlur(seen, (0, 0), max(fwhm, 0.8) / 2.3548))


def filter_gain(fwhm: float) -> float:
    """What a Gaussian mean must be multiplied with to be in units of its noise, were neighbours independent."""
    sigma = max(fwhm, 0.8) / 2.3548
    return float(2 * np.sqrt(np.pi) * sigma)


def scatter_by_light(snr: np.ndarray, bins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median and robust scatter of a filtered difference where the template is so bright; scatter never below 1.

    Parameters
    ----------
    snr : ndarray, any shape
        Filtered difference, 0 where unknown.
    bins : ndarray of uint8, the same shape
        How bright the template is there.

    Returns
    -------
    middle, scatter : ndarray, shape (n_bins,)
        Scatter is the larger of what half and what 98 % of the values tell: residuals have wings.
    """
    middle, scatter = np.zeros(_LAST_BIN + 1), np.ones(_LAST_BIN + 1)
    known = snr != 0
    snr, bins = snr[known], bins[known]
    order = np.argsort(bins, kind="stable")
    edges = np.searchsorted(bins[order], np.arange(_LAST_BIN + 2))
    for b in range(_LAST_BIN + 1):
        values = snr[order[edges[b] : edges[b + 1]]]
        if len(values) < _LEAST:
            # Brighter ones are worse in proportion, at most.
            if b:
                scatter[b] = np.hypot(1.0, _PER_BIN * np.sqrt(max(scatter[b - 1] ** 2 - 1, 0)))
            continue
        middle[b] = float(np.median(values)) if b else 0.0
        away = np.abs(values - middle[b])
        half, most = np.percentile(away, [50, 98])
        scatter[b] = max(1.0, half / 0.6745, most / 2.326 if b else 1.0)
    return middle, scatter


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
    fit = np.zeros(len(x))
    for _ in range(4):
        away = np.abs(share - fit)
        limit = 3 * 1.4826 * np.median(away[known])
        root = np.sqrt(np.where(known, weight, 0)) * (away <= limit)
        a, b = (design * root[:, None])[known], (share * root)[known]
        fit = design @ np.linalg.lstsq(a, b, rcond=None)[0]
    return np.asarray(fit)

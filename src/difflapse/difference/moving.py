"""What moves through a template's frames: where it is, so that it can be kept out, and how much of it stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numba
import numpy as np

from difflapse.difference.model_error import ZONES, sorts_of_a_zone, steepness_of_sorts

_SEEN = 5.0
"""Sigma of the filtered residual at which something is taken for there."""
_ERROR = 0.1
"""Model error that steepness may bring: residuals at stars' flanks are no movers."""
_SIZES = (1.0, 3.0)
"""Widths of the filters over that of stars."""
_REACH = 1.8
"""Filter widths around each filtered pixel that are kept out: there a star of 50 sigma has faded."""
_MOST = 0.03
"""Share of a frame beyond which what is seen is no mover but the sky's own unrest."""


Window = tuple[int, int, int, int]
"""Rows and columns of an image: the first and the end of each."""


@dataclass(frozen=True, eq=False)
class Coma:
    """A wide light that moves with the frames: a radial profile on a track, on the product grid."""

    x: np.ndarray
    y: np.ndarray
    """(n,) product pixels on each frame of the template."""
    radii: np.ndarray
    """(m,) product pixels."""
    light: np.ndarray
    """(c, m) ADU of the reference: linear in between, 0 at the last."""


def find_moving(significance: np.ndarray, sorts: np.ndarray, fwhm: float) -> np.ndarray:
    """Find what a frame shows and the template of the others does not, at several sizes; light only, no shadows.

    Parameters
    ----------
    significance : ndarray, shape (ny, nx), float32
        The frame less the template, in photon sigma; NaN where masked. It is overwritten.
    sorts : ndarray, shape (ny, nx), uint16
        From `difflapse.difference.model_error.sort_pixels`: at steep places more is needed.
    fwhm : float
        Of stars, product pixels.

    Returns
    -------
    ndarray of bool, shape (ny, nx)
        True = keep this out of the template. Nothing where so much of a size is seen that it must be cloud.
    """
    out = np.zeros(significance.shape, bool)
    allowed = _SEEN * np.hypot(1.0, _ERROR * steepness_of_sorts(ZONES**2 * sorts_of_a_zone())).astype(
        np.float32
    )
    _fill(significance)
    smooth = np.empty_like(significance)
    for size in _SIZES:
        width = size * max(fwhm, 1.0)
        cv2.GaussianBlur(significance, (0, 0), width / 2.355, dst=smooth)
        sample = smooth[::7, ::5][(sorts[::7, ::5] % sorts_of_a_zone()) == 0]
        spread = 1.4826 * float(np.median(np.abs(sample))) if sample.size else 0.0
        if not spread > 0:
            continue
        seen = _above(smooth, sorts, allowed * np.float32(spread))
        if not cv2.countNonZero(seen):
            continue
        r = max(1, round(_REACH * width))
        grown = cv2.dilate(seen, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * r + 1, 2 * r + 1)))
        if cv2.countNonZero(grown) <= _MOST * grown.size:
            out |= grown.view(bool)
    return out


def coma_window(coma: Coma, frame: int, within: Window) -> Window:
    """The part of a window of one frame that a coma shines on; empty where it shines on none."""
    top, bottom, left, right = within
    x, y, far = float(coma.x[frame]), float(coma.y[frame]), float(coma.radii[-1])
    if not np.isfinite(x + y):
        return top, top, left, left
    j0, i0 = max(top, int(y - far)), max(left, int(x - far))
    return j0, max(j0, min(bottom, int(y + far) + 2)), i0, max(i0, min(right, int(x + far) + 2))


def coma_in(coma: Coma, frame: int, channel: int, window: Window) -> np.ndarray:
    """The light of a coma on a window of one frame, float64."""
    j0, j1, i0, i1 = window
    j, i = np.mgrid[j0:j1, i0:i1]
    away = np.hypot(i - float(coma.x[frame]), j - float(coma.y[frame]))
    return np.interp(away, coma.radii, coma.light[channel])


def self_subtracted(
    distance: Sequence[float] | np.ndarray, weights: Sequence[float] | np.ndarray, fwhm: float
) -> float:
    """Share of a moving thing's light that a mean of frames takes off itself.

    Parameters
    ----------
    distance : sequence of float, or ndarray
        How far it is from its present place on each of the frames, in any unit.
    weights : sequence of float, or ndarray
        Of the frames in the mean.
    fwhm : float
        Of the thing as it is seen, same unit; taken for a Gaussian.

    Returns
    -------
    float
        Between 0 and 1: of what a filter of its own form measures. 0: it is elsewhere on all of them.
    """
    d, w = np.asarray(distance, float), np.asarray(weights, float)
    sigma = fwhm / 2.355
    # Two Gaussians of one width, so far apart, have this in common.
    return float(np.sum(w * np.exp(-(d**2) / (4 * sigma**2))) / np.sum(w))


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _fill(image: np.ndarray) -> None:
    """Make 0 what is not finite."""
    for j in range(image.shape[0]):
        row = image[j]
        for i in range(image.shape[1]):
            row[i] = row[i] if abs(row[i]) < np.float32(np.inf) else np.float32(0)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _above(smooth: np.ndarray, sorts: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    ny, nx = smooth.shape
    out = np.zeros((ny, nx), np.uint8)
    for j in range(ny):
        for i in range(nx):
            if smooth[j, i] > allowed[sorts[j, i]]:
                out[j, i] = 1
    return out

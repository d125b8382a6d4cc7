"""How noisy a frame is on the product grid: sky and photon terms, after resampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Noise:
    """Variance of a resampled frame: ``sky + photon * signal``, signal in ADU above the sky."""

    sky: np.ndarray
    """(c, my, mx) float32, ADU^2: everything that an empty pixel shows."""
    photon: np.ndarray
    """(c, my, mx) float32, ADU: what each ADU of signal adds."""
    correlation: np.ndarray | float = 1.0
    """(c,): the noise of a sum over many pixels is this times what it would be were they independent (NOISECOR)."""
    level: float = 1.0
    """What resampling made of a flat image of ones: other than 1 where it keeps the flux, not the brightness."""

    def scaled(self, factor: np.ndarray) -> Noise:
        """The noise of the frame after multiplying its pixels by `factor` (one per channel)."""
        f = np.asarray(factor, np.float32)[:, None, None]
        return replace(self, sky=self.sky * f * f, photon=self.photon * f)


def noise_of(
    variance_factor: np.ndarray,
    noise_adu: tuple[float, ...],
    gain: float | None,
    correlation: np.ndarray | float = 1.0,
    level: float = 1.0,
    shape: np.ndarray | None = None,
) -> Noise:
    """Noise of a warped frame from what was measured on its native pixels.

    Parameters
    ----------
    variance_factor : ndarray, shape (c, my, mx)
        Sum of squared resampling weights (`Warped.variance_factor`).
    noise_adu : tuple of float
        Robust noise of an empty native pixel, per channel, the mean of the field.
    gain : float, optional
        Electrons per ADU; without it there is no photon term.
    correlation : ndarray, shape (c,), or float
        `Warped.correlation`.
    level : float
        `Warped.level`.
    shape : ndarray, shape (my, mx), optional
        How the variance of an empty pixel varies over the field, 1 in the mean; None: not at all.

    Returns
    -------
    Noise
    """
    native = np.square(np.asarray(noise_adu, np.float32))[:, None, None]
    sky = variance_factor * native
    if shape is not None:
        sky = sky * shape
    photon = variance_factor / np.float32(gain * level) if gain else np.zeros_like(variance_factor)
    sky = np.maximum(sky, 1e-12).astype(np.float32)
    return Noise(sky, photon.astype(np.float32), correlation, level)


def joint_correlation(
    variances: Sequence[np.ndarray], correlations: Sequence[np.ndarray | float]
) -> np.ndarray:
    """NOISECOR of a sum or difference of images: the variances of large sums add as those of pixels do.

    Parameters
    ----------
    variances : sequence of ndarray, shape (c,)
        Variance of an empty pixel that each image brings.
    correlations : sequence of ndarray, shape (c,), or float
        Its own NOISECOR.

    Returns
    -------
    ndarray, shape (c,)
    """
    large = sum(v * np.square(f) for v, f in zip(variances, correlations, strict=True))
    return np.asarray(np.sqrt(large / sum(variances)))

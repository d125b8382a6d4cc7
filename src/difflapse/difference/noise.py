"""How noisy a frame is on the product grid: sky and photon terms, after resampling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from difflapse.difference.mesh import mean


@dataclass(frozen=True, eq=False)
class Noise:
    """Variance of a resampled frame: ``sky + photon * signal``, signal in ADU above the sky."""

    sky: np.ndarray
    """(c, my, mx) float32, ADU^2: everything that an empty pixel shows."""
    photon: np.ndarray
    """(c, my, mx) float32, ADU: what each ADU of signal adds."""

    def scaled(self, factor: np.ndarray) -> Noise:
        """The noise of the frame after multiplying its pixels by `factor` (one per channel)."""
        f = np.asarray(factor, np.float32)[:, None, None]
        return Noise(self.sky * f * f, self.photon * f)


def noise_of(
    variance_factor: np.ndarray,
    noise_adu: tuple[float, ...],
    gain: float | None,
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
    photon = variance_factor / np.float32(gain) if gain else np.zeros_like(variance_factor)
    return Noise(np.maximum(sky, 1e-12).astype(np.float32), photon.astype(np.float32))


def correlation_factor(variance_factor: np.ndarray) -> float:
    """NOISECOR: what the noise of a sum over many pixels is more than independent pixels would give.

    Resampling with weights w spreads one native pixel's noise over neighbours: each pixel's variance falls by
    sum w^2, while that of a large sum stays, so that the sum's standard deviation is 1 / sqrt(sum w^2) of the
    naive one.
    """
    return float(1.0 / np.sqrt(mean(variance_factor).mean()))

"""How noisy a frame is on the product grid: sky and photon terms, after resampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from difflapse.measure.mesh import at_nodes


@dataclass(frozen=True, eq=False)
class Noise:
    """Variance of a resampled frame: ``sky + photon * signal + flat * signal**2``, signal in ADU above the sky.

    Each coefficient is that of a native pixel times the resampling's sum of squared weights.
    """

    sky: np.ndarray
    """(c, my, mx) float32, ADU^2: everything that an empty pixel shows."""
    photon: np.ndarray
    """(c, my, mx) float32, ADU: what each ADU of signal adds: its photons, and what it shares with the sky in
    ``(flat * (sky + signal))**2``."""
    correlation: np.ndarray | float = 1.0
    """(c,): the noise of a sum over many pixels is this times what it would be were they independent (NOISECOR)."""
    level: float = 1.0
    """What resampling made of a flat image of ones: other than 1 where it keeps the flux, not the brightness."""
    response: np.ndarray | None = None
    """(c, my, mx) float32: `flat`, the variance of the pixels' relative sensitivity; None: nothing of it."""

    @property
    def flat(self) -> np.ndarray:
        """(c, my, mx) float32: the variance that a signal of 1 ADU has by the pixels' unlike sensitivity."""
        return np.zeros_like(self.photon) if self.response is None else self.response

    def scaled(self, factor: np.ndarray) -> Noise:
        """The noise of the frame after multiplying its pixels by `factor`: (c,), or a mesh (c, my, mx) of any spacing.

        Clouds are thicker here than there: what is scaled up more is noisier.
        """
        f = np.asarray(factor, np.float32)
        if f.ndim == 1:
            f = f[:, None, None]
        else:
            my, mx = self.sky.shape[1:]
            f = at_nodes(f, my, mx)
        return replace(self, sky=self.sky * f * f, photon=self.photon * f)  # `flat` is relative


def noise_of(
    variance_factor: np.ndarray,
    noise_adu: tuple[float, ...],
    gain: float | None,
    correlation: np.ndarray | float = 1.0,
    level: float = 1.0,
    shape: np.ndarray | None = None,
    response: float = 0.0,
    background_adu: Sequence[float] = (),
) -> Noise:
    """Noise of a warped frame from what was measured on its native pixels.

    Parameters
    ----------
    variance_factor : ndarray, shape (c, my, mx)
        Sum of squared resampling weights (`Warped.variance_factor`).
    noise_adu : tuple of float
        Robust noise of an empty native pixel, per channel, the mean of the field: its read noise, the photons of
        its sky and dark current, quantisation, and what its response adds to the sky, as they were measured.
    gain : float, optional
        Electrons per ADU; without it there is no photon term.
    correlation : ndarray, shape (c,), or float
        `Warped.correlation`.
    level : float
        `Warped.level`.
    shape : ndarray, shape (my, mx), optional
        How the variance of an empty pixel varies over the field, 1 in the mean; None: not at all.
    response : float
        Relative scatter of the pixels' sensitivity that no flat field has taken out; 0 where light falls on the
        same pixels in all frames, for it is then the same in all.
    background_adu : sequence of float
        Sky of the native frame, per channel: the response acts on sky and signal together.

    Returns
    -------
    Noise
    """
    native = np.square(np.asarray(noise_adu, np.float32))[:, None, None]
    sky = variance_factor * native
    if shape is not None:
        sky = sky * shape
    photon = variance_factor / np.float32(gain * level) if gain else np.zeros_like(variance_factor)
    flat = variance_factor * np.float32((response / level) ** 2)
    if len(background_adu):
        back = np.maximum(np.nan_to_num(np.asarray(background_adu, np.float32)), 0)[:, None, None]
        photon = photon + 2 * flat * back * np.float32(level)
    sky = np.maximum(sky, 1e-12).astype(np.float32)
    return Noise(
        sky, photon.astype(np.float32), correlation, level, flat.astype(np.float32) if response else None
    )


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

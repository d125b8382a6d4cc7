"""A transform with its proof."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from difflapse.model.transform import Transform


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What a transform gets wrong on stars it was not fitted to: each star, while the fit did without it."""

    x: np.ndarray
    """(n,) float32: position on the frame, native pixels."""
    y: np.ndarray
    """(n,) float32."""
    dx: np.ndarray
    """(n,) float32: transformed position minus the one measured on the reference, its native pixels; where one lens
    serves the night, minus the mean of what the other frames measured."""
    dy: np.ndarray
    """(n,) float32."""
    snr: np.ndarray
    """(n,) float32: the fainter of its two measurements."""

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, eq=False)
class Alignment:
    """How a frame lies on the reference, how that was found, and how good it is."""

    transform: Transform
    """Native pixels of the frame to native pixels of the reference."""
    method: str
    """The named method that found it: ``wcs``, ``asterism``, ``features``, ``phase``, ``none``; ``interpolated``
    between its neighbours in time where nothing else found it."""
    n_matched: int
    """Stars, or tiles of pixels, that agree with it."""
    rms_pix: float
    """Radial rms on stars (or pixels) it was not fitted to, native pixels of the reference; NaN if none."""
    p95_pix: float = float("nan")
    """95th percentile of the same residuals."""
    refused: tuple[str, ...] = ()
    """What was tried before and refused, one line each, with the numbers."""
    note: str = ""
    held_out: HeldOut | None = None
    """The residuals behind `rms_pix`; None where it was not aligned on stars."""
    beside: HeldOut | None = None
    """The same against the reference's own measurements, where `held_out` is against those of the other frames; there
    what all frames have in common against the reference shows, its centroid errors with it. None: `held_out` is."""

    on_pixels: bool = False
    """Whether tiles of pixels were counted and measured, for want of stars."""

    @property
    def judged_on(self) -> str:
        """What `rms_pix` was measured on: ``stars``, ``pixels``, or empty where nothing was."""
        if not np.isfinite(self.rms_pix) or self.method == "reference":
            return ""
        return "pixels" if self.on_pixels else "stars"

    @property
    def against_reference(self) -> HeldOut | None:
        """Residuals against what was measured on the reference."""
        return self.held_out if self.beside is None else self.beside

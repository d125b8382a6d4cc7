"""The stars of a night, by number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLENDED = 64
"""Flag of a star: another one's light falls into its circle."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Stars that are measured on every frame, brightest first; a star's number is its place here."""

    x: np.ndarray
    """(n,) float64, native pixels of the reference, 0-based."""
    y: np.ndarray
    ra_deg: np.ndarray
    """(n,) float64, ICRS; NaN where the sky is not known."""
    dec_deg: np.ndarray
    flags: np.ndarray
    """(n,) uint8: `BLENDED`."""
    radius: float
    """Of the circles their light is summed in, native pixels of a frame; the same all night."""
    seen: int
    """Stars that were found; more than n where there are more than are measured."""

    def __len__(self) -> int:
        return len(self.x)

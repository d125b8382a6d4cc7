"""Stars found on a frame, and how good the frame is."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class Stars:
    """Stars of one frame, brightest first; all arrays have length n.

    Positions are native pixels of the frame, 0-based, pixel centres. Saturated stars are kept but flagged:
    their positions are worse than their brightness suggests.
    """

    x: np.ndarray
    """(n,) float64, native pixels."""
    y: np.ndarray
    """(n,) float64, native pixels."""
    flux: np.ndarray
    """(n,) float64, ADU above the background, all colours together."""
    snr: np.ndarray
    """(n,) float64, signal to noise of `flux`."""
    fwhm: np.ndarray
    """(n,) float64, native pixels."""
    colour_flux: np.ndarray
    """(c, n) float64, ADU in each channel (R, G, B of a mosaic, or one)."""
    saturated: np.ndarray
    """(n,) bool."""
    error: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """(n,) float64, native pixels: standard error of a coordinate; NaN where only `snr` and `fwhm` tell it. More than
    the noise's where the star is not like the others: blended, or touched by something."""

    blended: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    """(n,) bool: not like a star alone: something else shines into it. Kept out of fits, like saturated ones."""

    def __post_init__(self) -> None:
        # What was not measured is unknown, not missing: all arrays have one length.
        if len(self.error) != len(self.x):
            object.__setattr__(self, "error", np.full(len(self.x), np.nan))
        if len(self.blended) != len(self.x):
            object.__setattr__(self, "blended", np.zeros(len(self.x), bool))

    def __len__(self) -> int:
        return len(self.x)

    @property
    def xy(self) -> np.ndarray:
        """Positions as (n, 2) float64."""
        return np.column_stack([self.x, self.y])

    def take(self, index: np.ndarray) -> Stars:
        """The stars at `index` (integers or a mask), as a new record."""
        return Stars(
            self.x[index],
            self.y[index],
            self.flux[index],
            self.snr[index],
            self.fwhm[index],
            self.colour_flux[:, index],
            self.saturated[index],
            self.error[index],
            self.blended[index],
        )

    @classmethod
    def empty(cls, channels: int = 1) -> Stars:
        """No stars at all."""
        none = np.zeros(0)
        return cls(none, none, none, none, none, np.zeros((channels, 0)), np.zeros(0, bool))


@dataclass(frozen=True, eq=False)
class StarProfile:
    """What pixels see of a star, learnt from a frame; drawn by `difflapse.measure.draw_stars`."""

    knots: np.ndarray
    """(m, m) float64: coefficients of a bicubic spline, rows along y; its light within 4 widths is 1."""
    spacing: float
    """Between the knots, px of the typical star."""
    form: np.ndarray
    """(xx, yy, xy) of the inverse of the typical star's moments, px**-2: 1 at one width from the middle."""
    map: np.ndarray
    """(3, t): polynomial of the stars' moments xx, yy, xy over the field, see `difflapse.measure.psf`."""
    middle: np.ndarray
    """(3,): the typical star's moments, px**2."""
    size: tuple[int, int]
    """(ny, nx) of the frame."""


@dataclass(frozen=True)
class Quality:
    """How good a frame is, measured on its own pixels."""

    n_stars: int
    fwhm_pix: float
    """Median of the stars, native pixels; NaN without stars."""
    background_adu: tuple[float, ...]
    """Median sky of each channel, bias removed where known."""
    noise_adu: tuple[float, ...]
    """Robust pixel-to-pixel noise of each channel, per native pixel."""
    elongation: float = float("nan")
    """Median ratio of the stars' major to minor axis; NaN without stars."""
    noise_shape: np.ndarray | None = None
    """(6,): how the variance of an empty pixel varies over the frame, see `difflapse.measure.noise_shape`; None:
    not at all."""
    profile: StarProfile | None = None
    """What pixels see of a star; None where too few bright stars stand alone."""

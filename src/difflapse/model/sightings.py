"""What was sighted in differences, and what it turned out to be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields

import numpy as np

HOT = 1
COSMIC = 2
DUST = 4
DIPOLE = 8
BLEED = 16
MOSAIC = 32
EDGE = 64
REFLECTION = 128
CLOUD = 256
STAR = 512
NEGATIVE = 1024
CUT = 2048
ROWS = 4096

REASONS: dict[int, str] = {
    HOT: "a hot or dead pixel of the sensor: it stays in its place on the sensor, not on the sky",
    COSMIC: "sharper than any star: a cosmic ray, or a pixel that flickered",
    DUST: "wide and fixed on the sensor: a shadow of dust",
    DIPOLE: "light and dark side by side at a star: not aligned to a fraction of a pixel",
    BLEED: "beside saturated pixels, or on a bright star's spike or trail",
    MOSAIC: "in one colour of the mosaic only",
    EDGE: "at the edge of what the frame or the template sees",
    REFLECTION: "wide, and too close to a very bright star: a reflection or a halo",
    CLOUD: "the frame, or this part of it, was clouded",
    STAR: "within the error that the night shows here, or at stars as bright as the one here",
    NEGATIVE: "the other side of something: where a moving thing was in the template, or in the frame subtracted",
    ROWS: "faint, and along the sensor's rows or columns: their readout's offsets",
    CUT: "what the frame showed more of than can be kept was left out, this is among the strongest of it",
}
"""What each bit of `Sightings.flags` says; a sighting with any of `REFUSED` takes no part in changes."""

REFUSED = HOT | COSMIC | DUST | DIPOLE | BLEED | MOSAIC | EDGE | REFLECTION | CLOUD | STAR | NEGATIVE | ROWS

KINDS = ("variable", "transient", "mover", "streak", "comet", "unknown")


@dataclass(frozen=True, eq=False)
class Sightings:
    """Places where a difference stands out from its noise, all arrays of length n.

    Positions are 0-based native pixels. What was not measured is NaN.
    """

    frame: np.ndarray
    """(n,) int: the frame."""
    x: np.ndarray
    y: np.ndarray
    """(n,) float64, native pixels of the reference; a streak's first end."""
    snr: np.ndarray
    """(n,) float64, signed: positive where the frame is brighter than what was subtracted from it."""
    width: np.ndarray
    """(n,) float64: FWHM of the filter that it stands out in most, native pixels."""
    flags: np.ndarray
    """(n,) int32: bits of `REASONS`."""
    x_end: np.ndarray = field(default_factory=lambda: np.zeros(0))
    y_end: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """(n,) float64: a streak's other end, native pixels of the reference; NaN for what is no streak."""
    error: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """(n,) float64: standard error of a coordinate, native pixels."""
    x_frame: np.ndarray = field(default_factory=lambda: np.zeros(0))
    y_frame: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """(n,) float64: native pixels of the frame."""
    flux: np.ndarray = field(default_factory=lambda: np.zeros(0))
    flux_err: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """(n,) float64, ADU of the green or only channel, measured on native pixels: the frame's less what the
    template has there."""
    sharpness: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """(n,) float64: share of the light in the brightest native pixel of the 3x3 about it, 0.2 to 0.4 for stars; for a
    streak how steadily it shines: 1 less the relative amplitude of its flashes, or the share of its length that is at
    least half as bright as most of it, whichever is less; NaN where it is too faint to tell."""

    def __post_init__(self) -> None:
        n = len(self.x)
        for item in fields(self):
            if len(getattr(self, item.name)) != n:
                object.__setattr__(self, item.name, np.full(n, np.nan))

    def __len__(self) -> int:
        return len(self.x)

    @property
    def is_streak(self) -> np.ndarray:
        """(n,) bool: lines with two ends."""
        return np.isfinite(self.x_end)

    @property
    def believed(self) -> np.ndarray:
        """(n,) bool: those that nothing speaks against."""
        return (self.flags & REFUSED) == 0

    def take(self, index: np.ndarray) -> Sightings:
        """The sightings at `index` (integers or a mask), as a new record."""
        return Sightings(*(getattr(self, item.name)[index] for item in fields(self)))

    @classmethod
    def empty(cls) -> Sightings:
        """No sightings at all."""
        none, whole = np.zeros(0), np.zeros(0, np.int32)
        return cls(whole, none, none, none, none, whole)

    @classmethod
    def joined(cls, parts: Iterable[Sightings]) -> Sightings:
        """The sightings of several records, one after another."""
        held = [part for part in parts if len(part)]
        if not held:
            return cls.empty()
        return cls(*(np.concatenate([getattr(p, item.name) for p in held]) for item in fields(cls)))


@dataclass(frozen=True, eq=False)
class Change:
    """One thing that changed in the night."""

    kind: str
    """One of `KINDS`."""
    x: float
    y: float
    """Native pixels of the reference: where it was first seen."""
    first_frame: int
    last_frame: int
    snr: float
    """Of its best sighting, unsigned."""
    snr_all: float
    """Of all its sightings together."""
    members: np.ndarray
    """(m,) int: rows of the night's `Sightings`."""
    rate_x: float = float("nan")
    rate_y: float = float("nan")
    """Native pixels of the reference per hour (per frame where times are unknown); NaN for what stands still."""
    rate_err: float = float("nan")
    """Standard error of a component of it."""
    amplitude_mag: float = float("nan")
    """Peak to peak of a variable's light, magnitudes; NaN where it is unknown or there is nothing in the template."""
    x_end: float = float("nan")
    y_end: float = float("nan")
    """A streak's other end; a mover's or comet's last place."""
    width: float = float("nan")
    """FWHM, native pixels, of what is wider than a point."""
    star: int = -1
    """Row of the star in `stars.ecsv`; -1 for what is no star in it."""
    note: str = ""
    """What speaks for its kind."""

"""The sky: stars of all colours, and the few things in it that change or move.

Magnitudes are of the green channel: magnitude m is ``zero_point_e * 10**(-0.4 m)`` green electrons in one
exposure, above the atmosphere and as if every pixel were green.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from difflapse.errors import OptionError
from difflapse.synth.geometry import Geometry

ABSENT = 99.0
"""Magnitude of what is not there."""


@dataclass(frozen=True)
class Population:
    """The stars that stand still: how many, how bright, of what colour."""

    per_18mpx: int = 40000
    """Stars per 18.1 million pixels (5208 x 3476); the density is the same for every shape."""
    faintest_mag: float = 13.5
    brightest_mag: float = 3.5
    slope: float = 0.42
    """log10 of the number grows by this per magnitude."""
    zero_point_e: float = 9.2e8
    """Green electrons per exposure of magnitude 0: an 85 mm f/1.4 lens, 120 s."""


@dataclass(frozen=True)
class Response:
    """Flux in red and blue relative to green at colour index c: ``scale * 10**(0.4 * slope * c)``."""

    red: tuple[float, float] = (0.42, 0.45)
    blue: tuple[float, float] = (1.05, -0.75)

    def __call__(self, colour: np.ndarray | float) -> np.ndarray:
        """(..., 3) factors of R, G, B."""
        c = np.asarray(colour, float)
        red = self.red[0] * 10 ** (0.4 * self.red[1] * c)
        blue = self.blue[0] * 10 ** (0.4 * self.blue[1] * c)
        return np.stack([red, np.ones_like(c), blue], axis=-1)


@dataclass(frozen=True)
class Variable:
    """A star that varies; `at` is its place (x, y) on the middle frame, in fractions of width and height."""

    at: tuple[float, float]
    mag: float = 10.5
    amplitude_mag: float = 0.5
    """Peak to peak."""
    period_h: float = 1.0
    phase: float = 0.0
    shape: str = "sine"
    """``sine``, or ``eclipse``: constant but for dips that last a sixth of the period."""
    colour: float = 0.6

    def __post_init__(self) -> None:
        if self.shape not in ("sine", "eclipse"):
            raise OptionError(f"a variable's shape is {self.shape!r}", "one of: sine, eclipse")

    def magnitude(self, hours: float) -> float:
        """Green magnitude at a time in hours since the first frame."""
        turn = hours / self.period_h + self.phase
        if self.shape == "eclipse":
            away = abs((turn + 0.5) % 1.0 - 0.5)
            return self.mag + self.amplitude_mag * float(np.exp(-((away / 0.07) ** 4)))
        return self.mag + 0.5 * self.amplitude_mag * float(np.sin(2 * np.pi * turn))


@dataclass(frozen=True)
class Nova:
    """A star that was not there: absent before `start_h`, up to `mag` within `rise_h`, then fading slowly."""

    at: tuple[float, float]
    mag: float = 9.8
    start_h: float = 0.5
    rise_h: float = 0.4
    colour: float = 0.3

    def magnitude(self, hours: float) -> float:
        """Green magnitude at a time in hours since the first frame."""
        since = hours - self.start_h
        if since < 0:
            return ABSENT
        if since < self.rise_h:
            return self.mag + 4.0 * (1.0 - since / self.rise_h)
        return self.mag + 0.02 * (since - self.rise_h)


@dataclass(frozen=True)
class Mover:
    """A point that moves among the stars, such as a minor planet close by."""

    at: tuple[float, float]
    """Place (x, y) at mid-night on the middle frame, in fractions of its width and height."""
    rate: tuple[float, float] = (4.0, -2.5)
    """Native pixels per cadence relative to the stars, (x, y) of the middle frame."""
    mag: float = 11.0
    colour: float = 0.7


@dataclass(frozen=True)
class Comet:
    """A moving coma with a central condensation."""

    at: tuple[float, float]
    """Place (x, y) at mid-night on the middle frame, in fractions of its width and height."""
    rate: tuple[float, float] = (-2.3, 1.4)
    """Native pixels per cadence relative to the stars, (x, y) of the middle frame."""
    mag: float = 9.0
    """Of the whole."""
    fwhm_pix: float = 28.0
    condensation: float = 0.02
    """Share of the light that is a point."""
    channels: tuple[float, float, float] = (0.35, 1.0, 0.85)
    """R, G, B relative to green: a comet shines in the bands of C2."""


@dataclass(frozen=True)
class Streak:
    """A satellite's line on one frame, from `start` to `end` (x, y in fractions of the frame, or outside)."""

    frame: int
    start: tuple[float, float]
    end: tuple[float, float]
    adu_per_pix: float = 250.0
    """Green light per pixel of its length, summed across."""
    tumble_pix: float = 0.0
    """Length of one cycle of brightness along the line; 0: steady."""
    colour: float = 0.65


SkyObject = Variable | Nova | Mover | Comet | Streak


@dataclass(frozen=True, eq=False)
class Scene:
    """Stars on the sky, all arrays (n,); the variables and novae are among them, last."""

    ra_deg: np.ndarray
    dec_deg: np.ndarray
    mag: np.ndarray
    colour: np.ndarray
    changing: tuple[Variable | Nova, ...]

    def magnitudes(self, hours: float) -> np.ndarray:
        """Green magnitudes (n,) at a time in hours since the first frame."""
        mag = self.mag.copy()
        steady = len(mag) - len(self.changing)
        for i, star in enumerate(self.changing):
            mag[steady + i] = star.magnitude(hours)
        return mag

    @property
    def kind(self) -> np.ndarray:
        """``star``, ``variable`` or ``nova`` for each."""
        kinds = np.full(len(self.mag), "star", dtype="U8")
        steady = len(self.mag) - len(self.changing)
        for i, star in enumerate(self.changing):
            kinds[steady + i] = "nova" if isinstance(star, Nova) else "variable"
        return kinds


def make_scene(
    population: Population,
    objects: Sequence[SkyObject],
    frames: Sequence[Geometry],
    middle: Geometry,
    rng: np.random.Generator,
) -> Scene:
    """Scatter stars over all the sky that `frames` see, at even density on the `middle` frame's pixels."""
    x0, y0, x1, y1 = _reach(frames, middle)
    n = round(population.per_18mpx * (x1 - x0) * (y1 - y0) / (5208 * 3476))
    x, y = rng.uniform(x0, x1, n), rng.uniform(y0, y1, n)
    changing = tuple(o for o in objects if isinstance(o, (Variable, Nova)))
    ny, nx = middle.shape
    x = np.concatenate([x, [o.at[0] * nx - 0.5 for o in changing]])
    y = np.concatenate([y, [o.at[1] * ny - 0.5 for o in changing]])
    ra, dec = middle.pixel_to_sky(x, y)
    # A bright limit caps the cumulative law N(<m) ~ 10**(slope m), drawn by its inverse.
    lowest = 10 ** (population.slope * (population.brightest_mag - population.faintest_mag))
    mag = population.faintest_mag + np.log10(rng.uniform(lowest, 1.0, n)) / population.slope
    blue = rng.random(n) < 0.6  # dwarfs of type F and G, and redder giants
    colour = np.where(blue, rng.normal(0.55, 0.2, n), rng.normal(1.1, 0.22, n)).clip(-0.3, 2.0)
    mag = np.concatenate([mag, [o.mag for o in changing]])
    colour = np.concatenate([colour, [o.colour for o in changing]])
    # Rounded to what truth.json holds (1e-8 deg is 4e-6 px), so that the truth is the sky, not a copy of it.
    return Scene(ra.round(8), dec.round(8), mag.round(4), colour.round(3), changing)


def path(thing: Mover | Comet, middle: Geometry, cadences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RA and Dec (degrees) of a moving thing at times counted in cadences from mid-night."""
    ny, nx = middle.shape
    return middle.pixel_to_sky(
        thing.at[0] * nx - 0.5 + thing.rate[0] * cadences, thing.at[1] * ny - 0.5 + thing.rate[1] * cadences
    )


def _reach(frames: Sequence[Geometry], middle: Geometry) -> tuple[float, float, float, float]:
    """The box on the middle frame that holds every frame's sky, and 60 px more for the wings of others."""
    ny, nx = middle.shape
    edge = np.linspace(0.0, 1.0, 9)
    ex = np.concatenate([edge, edge, 0 * edge, 0 * edge + 1]) * (nx - 1)
    ey = np.concatenate([0 * edge, 0 * edge + 1, edge, edge]) * (ny - 1)
    corners = [middle.sky_to_pixel(*g.pixel_to_sky(ex, ey)) for g in frames]
    x = np.concatenate([c[0] for c in corners])
    y = np.concatenate([c[1] for c in corners])
    return float(x.min()) - 60, float(y.min()) - 60, float(x.max()) + 60, float(y.max()) + 60

"""What a change is, and what speaks for it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from difflapse.changes.comet import Comet
from difflapse.changes.vary import Variation
from difflapse.model.sightings import Change, Sightings

_NO_CURVE = "the template has it, but not stars.ecsv, so that no light curve bears it out"
_EDGE = 25.0
"""Native pixels from the edge within which a streak is taken to leave the frame."""
_STEADY = 0.85
"""How steadily a streak must shine to be called steady."""
_WIDE = 2.2
"""A streak is wide if it is so many times as wide as a star."""


def of_stars(
    variation: Variation, x: np.ndarray, y: np.ndarray, members: list[np.ndarray], used: np.ndarray
) -> list[Change]:
    """Changes of stars that vary, or come or go.

    Parameters
    ----------
    variation : Variation
        m stars.
    x, y : ndarray, shape (n,)
        All stars, native pixels of the reference.
    members : list of m ndarrays
        The sightings at each of the m.
    used : ndarray of int
        Frames on which stars were judged.

    Returns
    -------
    list of Change
    """
    out = []
    for i, s in enumerate(variation.star):
        gone = bool(variation.gone[i])
        note = "its light curve departs from those of stars like it"
        if gone:
            note = "it " + ("appeared" if variation.appears[i] else "vanished") + " in the night"
        change = Change(
            "transient" if gone else "variable",
            float(x[s]),
            float(y[s]),
            int(used.min()),
            int(used.max()),
            float(variation.snr[i]),
            float(math.sqrt(max(variation.together[i], 0) * len(used))),
            members[i],
            amplitude_mag=float(variation.amplitude_mag[i]),
            note=note,
        )
        out.append(change)
    return out


def with_curves(
    changes: list[Change], star: np.ndarray, x: np.ndarray, y: np.ndarray, amplitude: np.ndarray, reach: float
) -> list[Change]:
    """Changes with the numbers of their stars, and a variable's amplitude from its light curve on native pixels.

    Parameters
    ----------
    changes : list of Change
        Of one place each.
    star, x, y, amplitude : ndarray, shape (n,)
        Numbers, places (native pixels of the reference) and amplitudes (magnitudes) of the stars with light curves.
    reach : float
        Native pixels within which a change is a star's.

    Returns
    -------
    list of Change
        A variable that is none of those stars (at the edge of the reference, beside another) says so in its note.
    """
    out = []
    for c in changes:
        if c.kind in ("variable", "transient"):
            away = np.hypot(x - c.x, y - c.y)
            n = int(np.argmin(away)) if len(away) else -1
            if n >= 0 and away[n] < reach:
                c = replace(c, star=int(star[n]))
                if c.kind == "variable" and np.isfinite(amplitude[n]):
                    c = replace(c, amplitude_mag=float(amplitude[n]))
            elif c.kind == "variable":
                c = replace(c, note=f"{c.note}; {_NO_CURVE}")
        out.append(c)
    return out


def of_comet(
    comet: Comet, cell: float, first_cell: tuple[float, float], times: np.ndarray, used: np.ndarray
) -> Change:
    """The change that a comet is, found on cells of `cell` native pixels; `first_cell` is the centre of one."""
    x0, y0 = first_cell
    x, y = comet.at(times[used])
    x, y = x0 + cell * x, y0 + cell * y
    return Change(
        "comet", float(x[0]), float(y[0]), int(used[0]), int(used[-1]), comet.snr / math.sqrt(max(len(used), 1)),
        comet.snr, np.zeros(0, int), cell * comet.rate_x, cell * comet.rate_y,
        cell * comet.uncertainty / max(float(np.ptp(times[used])), 1e-9),
        x_end=float(x[-1]), y_end=float(y[-1]), width=cell * comet.width,
        note=f"a coma {cell * comet.width:.0f} px wide that moves steadily",
    )  # fmt: skip


def of_streak(
    change: Change, sightings: Sightings, shape: tuple[int, int], minutes: float | None, fwhm: float
) -> Change:
    """A streak with what speaks for a satellite, a plane or a meteor.

    Parameters
    ----------
    change : Change
        A streak.
    sightings : Sightings
        Those that it was made of.
    shape : tuple of int
        (ny, nx) of the reference, native pixels.
    minutes : float, optional
        The exposure.
    fwhm : float
        Of a star, native pixels, as the products show it.

    Returns
    -------
    Change
        With a note: evidence, no proof.
    """
    outside = _outside(change, sightings, shape)
    lit = float(sightings.sharpness[change.members[0]])
    flashes = lit < _STEADY
    wide = change.width > _WIDE * fwhm
    length = math.hypot(change.x_end - change.x, change.y_end - change.y)
    said = ["both ends inside the frame", "one end inside the frame", "it crosses the frame"][outside]
    said += f", {length:.0f} px long"
    if outside == 0 and minutes:
        said += f" in {60 * minutes:.3g} s"
    if math.isfinite(lit):
        said += ", it flashes or tumbles" if flashes else ", steady"
    else:
        said += ", too faint to tell whether it flashes"
    if wide:
        said += f", {change.width / fwhm:.1f} times as wide as a star"
    frames = change.last_frame - change.first_frame + 1
    if frames > 1:
        said += f", goes on over {frames} frames"
        guess = "satellite"
    elif wide:
        # What is near is out of focus, or large; a train of a meteor spreads.
        guess = "a plane" if flashes or outside else "a plane, or a meteor with its train"
    elif flashes:
        guess = "tumbling satellite, or a plane's lights"
    elif outside == 0 and minutes is not None and minutes <= 1.0:
        guess = "satellite, or a meteor"
    elif outside == 0:
        # In a long exposure a satellite leaves the field, or enters the Earth's shadow within it, or is a high one.
        guess = "meteor, or a satellite that is high, flared or entered the shadow"
    else:
        guess = "satellite"
    return replace(change, note=f"{guess}: {said}")


def _outside(change: Change, sightings: Sightings, shape: tuple[int, int]) -> int:
    """How many of a streak's ends lie at the edge of its own frame, or of what is seen of the reference."""
    ny, nx = shape
    n = change.members[0]
    dx, dy = (
        float(v) if math.isfinite(v) else 0.0
        for v in (sightings.x_frame[n] - sightings.x[n], sightings.y_frame[n] - sightings.y[n])
    )
    # Turned by half a circle, as after a meridian flip, a frame has the same edges.
    turned = abs(dx) > 0.25 * nx or abs(dy) > 0.25 * ny
    out = 0
    for x, y in ((change.x, change.y), (change.x_end, change.y_end)):
        places = [(x, y)]
        if turned:
            way_x, way_y = x - sightings.x[n], y - sightings.y[n]
            places.append((sightings.x_frame[n] - way_x, sightings.y_frame[n] - way_y))
        else:
            places.append((x + dx, y + dy))
        out += any(min(u, v, nx - 1 - u, ny - 1 - v) < _EDGE for u, v in places)
    return out

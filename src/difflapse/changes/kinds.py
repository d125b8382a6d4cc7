"""What a change is, and what speaks for it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from difflapse.changes.comet import Comet
from difflapse.changes.vary import Variation
from difflapse.model.sightings import Change, Sightings

_EDGE = 25.0
"""Native pixels from the edge within which a streak is taken to leave the frame."""
_STEADY = 0.85
"""Share of a streak's length that must be half as bright as most of it for it to be steady."""


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
    """
    out = []
    for c in changes:
        if c.kind in ("variable", "transient") and len(x):
            away = np.hypot(x - c.x, y - c.y)
            n = int(np.argmin(away))
            if away[n] < reach:
                c = replace(c, star=int(star[n]))
                if c.kind == "variable" and np.isfinite(amplitude[n]):
                    c = replace(c, amplitude_mag=float(amplitude[n]))
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


def of_streak(change: Change, sightings: Sightings, shape: tuple[int, int], minutes: float | None) -> Change:
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

    Returns
    -------
    Change
        With a note: evidence, no proof.
    """
    ny, nx = shape
    ends = [(change.x, change.y), (change.x_end, change.y_end)]
    outside = sum(min(x, y, nx - 1 - x, ny - 1 - y) < _EDGE for x, y in ends)
    lit = float(sightings.sharpness[change.members[0]])
    said = [
        "both ends inside the frame",
        "one end inside the frame",
        "it crosses the frame",
    ][outside]
    steady = lit >= _STEADY
    said += ", steady" if steady else ", it flashes or tumbles"
    frames = change.last_frame - change.first_frame + 1
    if frames > 1:
        said += f", goes on over {frames} frames"
        guess = "satellite"
    elif not steady:
        guess = "tumbling satellite, or a plane's lights"
    elif outside == 0 and minutes is not None and minutes <= 1.0:
        guess = "satellite, or a meteor"
    elif outside == 0:
        # In a long exposure a satellite leaves the field, or enters the Earth's shadow within it.
        guess = "meteor, or a satellite that flared or entered the shadow"
    else:
        guess = "satellite"
    return replace(change, note=f"{guess}: {said}")

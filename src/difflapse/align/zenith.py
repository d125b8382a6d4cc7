"""Where the camera looked and where the zenith was, as far as a header, a site and a time tell."""

from __future__ import annotations

import numpy as np

from difflapse.align.joint import Air
from difflapse.align.wcs import celestial
from difflapse.errors import AlignError
from difflapse.model import FrameFacts

TURN = 2 * np.pi * 1.00273790935
"""Radians that the sky turns in a day."""


def axes_of(facts: FrameFacts) -> tuple[np.ndarray, float] | None:
    """Directions (ICRS) of a frame's +x, +y and middle as rows, and the focal length in px; None without a WCS."""
    if not facts.wcs_header:
        return None
    try:
        solution = celestial(facts.wcs_header)
    except AlignError:
        return None
    ny, nx = facts.shape
    cx, cy = 0.5 * (nx - 1), 0.5 * (ny - 1)
    middle, right, up = _icrs(solution, np.array([cx, cx + 1, cx]), np.array([cy, cy, cy + 1]))
    step = np.array([right - middle, up - middle])
    step -= np.outer(step @ middle, middle)
    if not np.all(np.isfinite(step)):
        return None
    focal = 1.0 / np.sqrt(np.linalg.norm(np.cross(step[0], step[1])))
    # The nearest pair of directions at a right angle: a fitted header's pixels need not be quite square.
    u, _, vt = np.linalg.svd(step, full_matrices=False)
    return np.vstack([u @ vt, middle]), float(focal)


def air_of(reference: FrameFacts, mjd: np.ndarray, axes: np.ndarray) -> Air | None:
    """Zenith and pole in a frame's axes, and how far the sky has turned at times `mjd`; None without site or time."""
    when, site = reference.mid_mjd, (reference.latitude_deg, reference.longitude_deg)
    if when is None or site[0] is None or site[1] is None or not np.all(np.isfinite(mjd)):
        return None
    from astropy.coordinates import FK5, SkyCoord
    from astropy.time import Time

    # Mean sidereal time (Meeus, Astronomical Algorithms, 2nd ed., chapter 12), UT1 taken as UTC.
    sidereal = 280.46061837 + 360.98564736629 * (when - 51544.5) + site[1]
    of_date = FK5(equinox=Time(when, format="mjd", scale="utc"))
    sky = SkyCoord([sidereal % 360.0, 0.0], [site[0], 90.0], unit="deg", frame=of_date).icrs
    zenith, pole = sky.cartesian.xyz.value.T @ axes.T
    # Seen in a mirrored frame the sky turns the other way.
    return Air(zenith, np.sign(np.linalg.det(axes)) * pole, TURN * (mjd - when))


def strength_of(facts: FrameFacts) -> tuple[float, float]:
    """Expected refraction, 1 at 1010 hPa and 10 C, and its relative error: a mean atmosphere at the site's height."""
    height = facts.elevation_m
    known = height is not None and -500 < height < 9000
    h = height if known and height is not None else 500.0
    pressure, temperature = 1013.25 * np.exp(-h / 8434.0), 288.15 - 0.0065 * h
    return float(pressure / 1010.0 * 283.15 / temperature), 0.06 if known else 0.12


def _icrs(solution: object, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Unit vectors (n, 3), ICRS, of pixels."""
    from astropy.coordinates import SkyCoord
    from astropy.wcs.utils import wcs_to_celestial_frame

    lon, lat = solution.all_pix2world(x, y, 0)  # type: ignore[attr-defined]
    sky = SkyCoord(lon, lat, unit="deg", frame=wcs_to_celestial_frame(solution)).icrs
    return np.asarray(sky.cartesian.xyz.value.T)

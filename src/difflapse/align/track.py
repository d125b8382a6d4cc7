"""Where something that moves over the sky is at the time of each frame, on the sky and on the reference."""

from __future__ import annotations

import numpy as np

from difflapse.align.wcs import celestial, world_to_pixel
from difflapse.errors import AlignError
from difflapse.model import SkyPath

_FAR = 0.5
"""An ephemeris is not carried on beyond its ends by more than this part of its last step."""


def on_the_sky(path: SkyPath, mjd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate a path over the sky.

    Parameters
    ----------
    path : SkyPath
        Two places: a great circle at a steady rate. More: the quadratic that fits them best, or a cubic spline
        through them where they are computed and more than three.
    mjd : ndarray, shape (n,)
        MJD (UTC).

    Returns
    -------
    ra_deg, dec_deg : ndarray, shape (n,)
        ICRS; NaN beyond the ends of what is computed. Readings are carried on beyond their times.

    Notes
    -----
    Done in the plane of the zenithal equidistant projection about the mean place, in which a straight line
    through that place is a great circle and steps along it are true.
    """
    mjd = np.asarray(mjd, float)
    a, d = np.radians(path.ra_deg), np.radians(path.dec_deg)
    vectors = np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=1)
    pole = vectors.sum(axis=0)
    pole = pole / np.linalg.norm(pole)
    east = np.cross([0.0, 0.0, 1.0] if abs(pole[2]) < 0.9 else [1.0, 0.0, 0.0], pole)
    east = east / np.linalg.norm(east)
    north = np.cross(pole, east)
    across = vectors - np.outer(vectors @ pole, pole)
    sine = np.linalg.norm(across, axis=1)
    angle = np.arctan2(sine, vectors @ pole)
    plane = np.stack([across @ east, across @ north], axis=1) * (angle / np.maximum(sine, 1e-15))[:, None]
    since, when = path.mjd - path.mjd.mean(), mjd - path.mjd.mean()
    if path.computed and len(since) > 3:
        from scipy.interpolate import CubicSpline

        u, v = CubicSpline(since, plane)(when).T
    else:
        u, v = (np.polyval(np.polyfit(since, part, min(2, len(since) - 1)), when) for part in plane.T)
    if path.computed:
        first, last = _FAR * (since[1] - since[0]), _FAR * (since[-1] - since[-2])
        outside = (when < since[0] - first) | (when > since[-1] + last)
        u, v = np.where(outside, np.nan, u), np.where(outside, np.nan, v)
    r = np.hypot(u, v)
    ratio = np.sinc(r / np.pi)
    at = np.cos(r)[:, None] * pole + (u * ratio)[:, None] * east + (v * ratio)[:, None] * north
    return np.degrees(np.arctan2(at[:, 1], at[:, 0])) % 360, np.degrees(np.arcsin(np.clip(at[:, 2], -1, 1)))


def on_the_reference(path: SkyPath, mjd: np.ndarray, wcs_header: str) -> tuple[np.ndarray, np.ndarray]:
    """Native pixels of the reference at which the target is; NaN where the sky cannot be mapped there.

    Parameters
    ----------
    path : SkyPath
        The target.
    mjd : ndarray, shape (n,)
        MJD (UTC).
    wcs_header : str
        Of the reference, as `FrameFacts.wcs_header`.

    Returns
    -------
    x, y : ndarray, shape (n,)
        0-based, pixel centres.

    Raises
    ------
    AlignError
        The reference has no celestial WCS, or one that cannot be read.
    """
    if not wcs_header:
        raise AlignError("the reference has no celestial WCS", "", {"found": 0, "needed": 1, "method": "wcs"})
    from astropy.coordinates import SkyCoord
    from astropy.wcs.utils import wcs_to_celestial_frame

    wcs = celestial(wcs_header)
    ra, dec = on_the_sky(path, mjd)
    known = np.isfinite(ra)
    x, y = np.full(len(ra), np.nan), np.full(len(ra), np.nan)
    if known.any():
        sky = SkyCoord(ra[known], dec[known], unit="deg", frame="icrs").transform_to(
            wcs_to_celestial_frame(wcs)
        )
        x[known], y[known] = world_to_pixel(wcs, sky.spherical.lon.deg, sky.spherical.lat.deg)
    return x, y

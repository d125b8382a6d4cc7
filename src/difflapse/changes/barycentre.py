"""Times as seen from the solar system's barycentre, and how much air a star is seen through; never asks the network."""

from __future__ import annotations

import numpy as np

_LIGHT_DAY_KM = 299792.458 * 86400.0


def barycentric(
    mjd: np.ndarray,
    ra_deg: np.ndarray,
    dec_deg: np.ndarray,
    site: tuple[float, float, float] | None,
) -> np.ndarray:
    """BJD (TDB) of UTC times, for stars in given directions.

    Parameters
    ----------
    mjd : ndarray, shape (f,)
        MJD (UTC); NaN where unknown.
    ra_deg, dec_deg : ndarray, shape (n,)
        ICRS degrees; NaN where unknown.
    site : (latitude, longitude, metres), optional
        Degrees north and east; None: the Earth's centre, which is at most 0.022 s off.

    Returns
    -------
    ndarray, shape (f, n), days
        NaN where a time or a direction is unknown.

    Notes
    -----
    The Earth's place is astropy's built-in one (ERFA's epv00, good to some 10 km: 0.05 ms).

    References
    ----------
    Eastman, Siverd & Gaudi 2010, doi:10.1086/655938.
    """
    from astropy.coordinates import get_body_barycentric
    from astropy.time import Time
    from astropy.utils import iers

    known = np.isfinite(mjd)
    out = np.full((len(mjd), len(ra_deg)), np.nan)
    if not known.any() or not len(ra_deg):
        return out
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("iers_degraded_accuracy", "ignore"):
        time = Time(mjd[known], format="mjd", scale="utc")
        tdb = time.tdb
        earth = get_body_barycentric("earth", time, ephemeris="builtin").xyz.to_value("km")
    if site is not None:
        earth = earth + _from_centre(mjd[known], *site)
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    toward = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    out[known] = (tdb.jd1 + tdb.jd2)[:, None] + earth.T @ toward / _LIGHT_DAY_KM
    return out


def airmass(
    mjd: np.ndarray, ra_deg: np.ndarray, dec_deg: np.ndarray, site: tuple[float, float, float] | None
) -> np.ndarray:
    """Airmass, (f, n) float32; NaN where time, direction or site are unknown, or the star is below the horizon.

    References
    ----------
    Pickering 2002, DIO 12, 1, 20, note 39.
    """
    out = np.full((len(mjd), len(ra_deg)), np.nan, np.float32)
    if site is None:
        return out
    latitude, longitude, _ = site
    # Precession moves the pole by 0.0056 degrees a year: a rotation of the sky good to an arcminute is enough.
    ra, dec = (
        _of_date(ra_deg, dec_deg, float(np.nanmedian(mjd))) if np.isfinite(mjd).any() else (ra_deg, dec_deg)
    )
    hour = np.radians(_sidereal_deg(mjd)[:, None] + longitude - ra)
    lat, dec = np.radians(latitude), np.radians(dec)
    with np.errstate(invalid="ignore"):
        high = np.degrees(np.arcsin(np.clip(
            np.sin(lat) * np.sin(dec) + np.cos(lat) * np.cos(dec) * np.cos(hour), -1, 1
        )))  # fmt: skip
        up = high > 0
        out[up] = 1 / np.sin(np.radians(high[up] + 244 / (165 + 47 * high[up] ** 1.1)))
    return out


def _sidereal_deg(mjd: np.ndarray) -> np.ndarray:
    """Greenwich mean sidereal time, degrees; UT1 taken for UTC, which is at most 15 arcsec."""
    return np.asarray((280.46061837 + 360.98564736629 * (mjd - 51544.5)) % 360.0)


def _of_date(ra_deg: np.ndarray, dec_deg: np.ndarray, mjd: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the equator of date, by the leading terms of precession."""
    years = (mjd - 51544.5) / 365.25
    ra, dec = np.radians(ra_deg), np.radians(np.clip(dec_deg, -89.9, 89.9))
    m, n = 0.0128123 * years, 0.0055675 * years
    return ra_deg + m + n * np.sin(ra) * np.tan(dec), dec_deg + n * np.cos(ra)


def _from_centre(mjd: np.ndarray, latitude: float, longitude: float, metres: float) -> np.ndarray:
    """Where a site is from the Earth's centre, (3, f) km in the equator's axes; precession ignored (0.1 ms)."""
    lat = np.radians(latitude)
    turn = np.radians(_sidereal_deg(mjd) + longitude)
    flat = 1 / 298.257223563
    curve = 6378.137 / np.sqrt(1 - flat * (2 - flat) * np.sin(lat) ** 2)
    away = (curve + metres / 1000) * np.cos(lat)
    up = (curve * (1 - flat) ** 2 + metres / 1000) * np.sin(lat)
    return np.stack([away * np.cos(turn), away * np.sin(turn), np.full_like(turn, up)])

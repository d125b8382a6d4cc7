"""Barycentric times and airmass, against astropy's own slow way."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.time import Time
from astropy.utils import iers

from difflapse.changes.barycentre import airmass, barycentric

SITE = (31.68, -110.88, 1200.0)
RA, DEC = np.array([31.043, 200.3, 8.0]), np.array([46.688, -12.5, 70.1])
MJD = np.array([58107.07, 58107.2, np.nan, 58300.31])


def test_bjd_is_that_of_astropy():
    got = barycentric(MJD, RA, DEC, SITE)
    place = EarthLocation.from_geodetic(SITE[1], SITE[0], SITE[2])
    with iers.conf.set_temp("auto_download", False):
        time = Time(MJD[[0, 1, 3]], format="mjd", scale="utc", location=place)
        for n, star in enumerate(SkyCoord(RA * u.deg, DEC * u.deg)):
            want = time.tdb + time.light_travel_time(star, ephemeris="builtin")
            off = (got[[0, 1, 3], n] - want.jd) * 86400
            assert np.abs(off).max() < 0.001  # s; a double holds a Julian date to 0.00004
    assert np.isnan(got[2]).all()


def test_without_a_site_it_is_that_of_the_earths_centre():
    off = (barycentric(MJD, RA, DEC, None) - barycentric(MJD, RA, DEC, SITE)) * 86400
    assert 0.001 < np.nanmax(np.abs(off)) < 0.022


def test_airmass_is_that_of_the_height_above_the_horizon():
    got = airmass(MJD, RA, DEC, SITE)
    place = EarthLocation.from_geodetic(SITE[1], SITE[0], SITE[2])
    with iers.conf.set_temp("auto_download", False):
        for k in (0, 1):
            frame = AltAz(obstime=Time(MJD[k], format="mjd"), location=place)
            high = SkyCoord(RA * u.deg, DEC * u.deg).transform_to(frame).alt.deg
            for n in range(3):
                if high[n] < 0:
                    assert np.isnan(got[k, n])
                elif high[n] > 20:
                    assert abs(got[k, n] * np.sin(np.radians(high[n])) - 1) < 0.01
    assert np.isnan(airmass(MJD, RA, DEC, None)).all()

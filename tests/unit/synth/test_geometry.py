"""The map between sky and sensor: exact both ways, and as crooked as a real one."""

from dataclasses import replace

import numpy as np
import pytest

from difflapse.synth import Geometry, Site, preset, truth_of
from difflapse.synth.geometry import precession, rotation, unit_vectors, zenith_and_pole


@pytest.fixture(scope="module")
def night():
    return truth_of(replace(preset("panoptes", frames=37, shape=(3476, 5208), seed=3), objects=()))


def grid(shape, n=15):
    ny, nx = shape
    return np.meshgrid(np.linspace(-0.5, nx - 0.5, n), np.linspace(-0.5, ny - 0.5, n - 2))


def test_there_and_back_is_the_same_pixel_far_better_than_promised(night):
    x, y = grid(night.shape)
    for k in (0, 20, 36):
        u, v = night.to_reference(k, k, x, y)
        assert np.abs(u - x).max() < 1e-6
        assert np.abs(v - y).max() < 1e-6
    u, v = night.to_reference(0, 36, *night.to_reference(36, 0, x, y))
    assert np.hypot(u - x, v - y).max() < 1e-6


def test_the_projection_agrees_with_astropy_when_lens_and_air_are_taken_away():
    from astropy.wcs import WCS

    lens = replace(preset().lens, cubic=0.0, quadratic_x=(0.0, 0.0, 0.0), quadratic_y=(0.0, 0.0, 0.0))
    spec = replace(preset("panoptes", frames=1, shape=(500, 730)), lens=lens, site=Site(refraction=False))
    g = truth_of(spec).frames[0].geometry
    cx, cy = g.centre_pix
    ra, dec = g.pixel_to_sky(cx, cy)
    w = WCS(naxis=2)
    w.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    w.wcs.crpix = [cx + 1, cy + 1]
    w.wcs.crval = [float(ra), float(dec)]
    roll = np.radians(spec.mount.roll_deg)
    # +y lies at position angle `roll` (north through east), +x a quarter turn clockwise of it.
    w.wcs.cd = (
        np.array([[-np.cos(roll), np.sin(roll)], [np.sin(roll), np.cos(roll)]]) * lens.scale_arcsec / 3600
    )
    x, y = grid(spec.shape)
    u, v = w.all_world2pix(*g.pixel_to_sky(x, y), 0)
    assert (
        np.hypot(u - x, v - y).max() < 0.05
    )  # the jitter of the pointing turns the roll by no more than this
    assert np.hypot(u - x, v - y).min() < 1e-3


def test_refraction_lifts_by_the_almanacs_amount():
    """At 1010 hPa and 10 C a star at 45 degrees is lifted by 58 arcsec, one at the zenith not at all."""
    zenith = np.array([0.0, 0.0, 1.0])
    g = Geometry((100, 100), preset().lens, np.eye(3), zenith, 1.0)
    for altitude, arcsec in ((45.0, 58.2), (30.0, 100.5), (20.0, 158.6), (89.999, 0.0)):
        v = unit_vectors(123.0, altitude)
        up = np.degrees(np.arcsin(g._lift(v)[2])) - altitude
        assert up * 3600 == pytest.approx(arcsec, abs=0.6)
        assert np.allclose(g._lower(g._lift(v)), v, atol=1e-13)


def test_zenith_agrees_with_astropy():
    import astropy.units as u
    from astropy.coordinates import AltAz, EarthLocation, SkyCoord
    from astropy.time import Time
    from astropy.utils import iers

    site = Site()
    with iers.conf.set_temp("auto_download", False):
        where = EarthLocation(site.longitude_deg * u.deg, site.latitude_deg * u.deg, site.elevation_m * u.m)
        top = SkyCoord(
            0 * u.deg, 90 * u.deg, frame=AltAz(obstime=Time(58354.2, format="mjd"), location=where)
        )
        expected = top.icrs.cartesian.xyz.value
    zenith, pole = zenith_and_pole(58354.2, site)
    # Nutation, aberration and UT1 are left out: 0.02 degrees at most.
    assert np.degrees(np.arccos(zenith @ expected / np.linalg.norm(expected))) < 0.02
    assert pole @ zenith == pytest.approx(np.sin(np.radians(site.latitude_deg)), abs=1e-12)


def test_precession_turns_and_nothing_else():
    p = precession(58354.0)
    assert np.allclose(p @ p.T, np.eye(3), atol=1e-14)
    assert np.degrees(np.arccos(p[2, 2])) * 3600 == pytest.approx(2004.3 * 0.1864, abs=1.0)
    assert np.allclose(rotation(np.array([0, 0, 1.0]), np.pi / 2) @ [1, 0, 0], [0, 1, 0])


def test_behind_the_camera_is_nan(night):
    f = night.frames[0].geometry
    ra, dec = f.pixel_to_sky(2000.0, 1000.0)
    x, y = f.sky_to_pixel((ra + 180) % 360, -dec)
    assert np.isnan(x) and np.isnan(y)


def test_drift_is_about_three_pixels_a_frame_and_bends(night):
    """Mean drift as on real nights; the path departs from a line by more than half a pixel."""
    path = np.array([night.to_reference(k, 0, 2600.3, 1700.7) for k in range(37)])
    assert 3.0 < np.hypot(*np.diff(path, axis=0).T).mean() < 3.7
    t = np.arange(37.0)
    bend = [path[:, i] - np.polyval(np.polyfit(t, path[:, i], 1), t) for i in (0, 1)]
    assert 0.5 < np.hypot(*bend).max() < 6.0


def test_the_field_turns_slowly(night):
    (x0, y0), (x1, y1) = night.to_reference(36, 0, 600.0, 1700.0), night.to_reference(36, 0, 4600.0, 1700.0)
    turn = abs(np.degrees(np.arctan2(y1 - y0, x1 - x0)))
    assert 0.02 < turn < 0.6


def test_a_similarity_between_distant_frames_is_not_enough(night):
    """The lens, TAN and refraction together leave a similarity 0.1 px and more behind after 36 frames."""
    x, y = (g.ravel() for g in grid(night.shape))
    u, v = night.to_reference(36, 0, x, y)
    z, w = (x + 1j * y), (u + 1j * v)
    fit = np.linalg.lstsq(np.column_stack([z, np.ones_like(z)]), w, rcond=None)[0]
    left = np.abs(w - fit[0] * z - fit[1])
    assert 0.1 < np.sqrt(np.mean(left**2)) < 3.0

"""Paths over the sky, and where they lead on the reference."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from difflapse.align.track import on_the_reference, on_the_sky
from difflapse.errors import AlignError
from difflapse.model import SkyPath

DAY = 58354.0


def path(mjd: object, ra: object, dec: object, computed: bool = False) -> SkyPath:
    return SkyPath("x", *(np.asarray(v, float) for v in (mjd, ra, dec)), computed)


@pytest.mark.parametrize(("a", "b"), [((359.2, 88.9), (121.0, 88.5)), ((10.0, -20.0), (14.0, -16.0))])
def test_two_places_are_joined_by_a_great_circle_at_a_steady_rate(
    a: tuple[float, float], b: tuple[float, float]
) -> None:
    """Over the pole and across RA 0 as well; carried on beyond both ends."""
    t = DAY + np.array([0.0, 0.05, 0.1, 0.2, 0.3])
    ra, dec = on_the_sky(path([DAY, DAY + 0.2], *zip(a, b, strict=True)), t)
    one, two = SkyCoord(*a, unit="deg"), SkyCoord(*b, unit="deg")
    length, angle = one.separation(two), one.position_angle(two)
    for k, f in enumerate((t - DAY) / 0.2):
        there = one.directional_offset_by(angle, f * length)
        assert there.separation(SkyCoord(ra[k], dec[k], unit="deg")).arcsec < 1e-4


def test_three_readings_bend_and_more_are_fitted() -> None:
    """Seven readings, each off by 2 arcsec: their quadratic is off by 2 sqrt(3/7) at the ends, less between."""
    t = DAY + np.linspace(0, 0.2, 7)
    ra, dec = 240 + 3 * (t - DAY) + 8 * (t - DAY) ** 2, 30 + 2 * (t - DAY)
    ra3, dec3 = on_the_sky(path(t[::3], ra[::3], dec[::3]), t)
    assert np.hypot((ra3 - ra) * np.cos(np.radians(30)), dec3 - dec).max() * 3600 < 0.5
    rng = np.random.default_rng(3)
    noisy = path(t, ra + rng.normal(0, 2 / 3600, 7), dec + rng.normal(0, 2 / 3600, 7))
    ra7, dec7 = on_the_sky(noisy, t)
    away = np.hypot((ra7 - ra) * np.cos(np.radians(30)), dec7 - dec) * 3600
    assert 0.1 < np.sqrt(np.mean(away**2)) < 3.0
    assert np.abs(ra7 - noisy.ra_deg).max() * 3600 > 0.3


def test_an_ephemeris_is_gone_through_and_not_left() -> None:
    t = DAY + np.linspace(0, 0.4, 9)
    ra, dec = (359.9 + 30 * (t - DAY) ** 2) % 360, 10 + np.sin(5 * (t - DAY))
    given = path(t, ra, dec, computed=True)
    ra0, dec0 = on_the_sky(given, t)
    assert np.allclose((ra0 - ra + 180) % 360 - 180, 0, atol=1e-9)
    assert np.allclose(dec0, dec, atol=1e-9)
    between = DAY + np.array([0.11, 0.33])
    _, dec1 = on_the_sky(given, between)
    assert np.allclose(dec1, 10 + np.sin(5 * (between - DAY)), atol=2e-4)
    ra2, _ = on_the_sky(given, DAY + np.array([-0.02, -0.03, 0.42, 0.43]))
    assert np.isfinite(ra2).tolist() == [True, False, True, False]


def header(**more: object) -> str:
    cards = {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 243.0, "CRVAL2": 33.0, "CRPIX1": 300.5,
        "CRPIX2": 180.5, "CD1_1": -0.00286, "CD1_2": 1e-4, "CD2_1": 1e-4, "CD2_2": 0.00286,
    }  # fmt: skip
    return str(fits.Header({**cards, **more}).tostring())


@pytest.mark.parametrize("frame", ["icrs", "galactic"])
def test_pixels_are_those_of_the_references_wcs(frame: str) -> None:
    more: dict[str, object] = {}
    if frame == "galactic":
        centre = SkyCoord(243, 33, unit="deg").galactic
        more = {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN", "CRVAL1": centre.l.deg, "CRVAL2": centre.b.deg}
    text = header(**more)
    t = DAY + np.array([0.0, 0.1, 0.2])
    given = path([DAY, DAY + 0.2], [242.9, 243.3], [32.9, 33.2])
    x, y = on_the_reference(given, t, text)
    back = WCS(fits.Header.fromstring(text)).pixel_to_world(x, y).icrs
    ra, dec = on_the_sky(given, t)
    assert back.separation(SkyCoord(ra, dec, unit="deg")).arcsec.max() < 1e-3


def test_without_a_wcs_it_is_refused() -> None:
    with pytest.raises(AlignError, match="no celestial WCS"):
        on_the_reference(path([DAY, DAY + 1], [1, 2], [3, 4]), np.array([DAY]), "")

"""The WCS of real headers: repaired, refused, and carried to binned pixels."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from difflapse.io.celestial import binned_wcs_header, native_wcs_header, read_sky
from difflapse.model import ProductGrid

SHAPE = (200, 300)
SIP = {
    "A_ORDER": 2,
    "A_0_2": 1.5e-5,
    "A_1_1": -5.5e-6,
    "A_2_0": -1.3e-5,
    "B_ORDER": 2,
    "B_0_2": -9.3e-6,
    "B_1_1": 6.9e-6,
    "B_2_0": -9.0e-6,
}


def head(**changes):
    cards = {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": 303.2,
        "CRVAL2": 46.0,
        "CRPIX1": 140.5,
        "CRPIX2": 90.5,
        "CD1_1": -2.5e-5,
        "CD1_2": 0.00286,
        "CD2_1": 0.00287,
        "CD2_2": 1.4e-5,
    }
    cards.update({key: value for key, value in changes.items() if value is not None})
    return fits.Header([(k, v) for k, v in cards.items() if changes.get(k, v) is not None])


def world(header_text, x, y, **keys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wcs = WCS(
            fits.Header.fromstring(header_text) if isinstance(header_text, str) else header_text, **keys
        )
        return np.array(wcs.all_pix2world(x, y, 0))


X, Y = np.array([0.0, 50.3, 299.0]), np.array([3.0, 77.7, 199.0])


def test_a_plain_header_keeps_only_its_wcs():
    text = read_sky([fits.Header({**head(), "EXPTIME": 5.0, "_TYPE1": "x"})], SHAPE).header
    assert "CD1_2" in text
    assert "EXPTIME" not in text
    assert "_TYPE1" not in text


def test_centre_and_size():
    sky = read_sky([head(CRPIX1=150.5, CRPIX2=100.5)], SHAPE)
    assert sky.centre == pytest.approx((303.2, 46.0), abs=1e-6)
    assert sky.width_deg == pytest.approx(200 * 0.00287, rel=0.01)


@pytest.mark.parametrize("equinox", ["", "J2000", "2000.0"])
def test_equinox_as_text_is_repaired(equinox):
    sky = read_sky([head(EQUINOX=equinox)], SHAPE)
    assert fits.Header.fromstring(sky.header)["EQUINOX"] == 2000.0


@pytest.mark.parametrize(
    "cards",
    [
        {"CTYPE1": None, "CTYPE2": None},
        {"CTYPE1": "Solar-X", "CTYPE2": "Solar-Y"},
        {"CTYPE1": "SOLAR_X", "CTYPE2": "SOLAR_Y"},
        {"CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN"},
        {"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"},
        {"CD1_1": 0.0, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.0},
        {"CTYPE1": "RA---XYZ", "CTYPE2": "DEC--XYZ"},
    ],
)
def test_what_is_not_on_the_sky_is_refused(cards):
    assert read_sky([head(**cards)], SHAPE).header == ""


def test_sip_terms_without_the_suffix_are_used():
    sky = read_sky([head(**SIP)], SHAPE)
    with_suffix = read_sky([head(**SIP, CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP")], SHAPE)
    assert "SIP" in sky.note
    np.testing.assert_allclose(world(sky.header, X, Y), world(with_suffix.header, X, Y))
    assert np.abs(world(sky.header, X, Y) - world(read_sky([head()], SHAPE).header, X, Y)).max() > 1e-4


def test_the_suffix_without_terms_is_dropped():
    sky = read_sky([head(CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP")], SHAPE)
    np.testing.assert_allclose(world(sky.header, X, Y), world(read_sky([head()], SHAPE).header, X, Y))


def test_pv_with_tan_is_tpv():
    terms = {"PV1_0": 0.0, "PV1_1": 1.0, "PV1_4": 0.01, "PV2_0": 0.0, "PV2_1": 1.0, "PV2_4": 0.02}
    scamp = read_sky([head(**terms)], SHAPE)
    named = read_sky([head(**terms, CTYPE1="RA---TPV", CTYPE2="DEC--TPV")], SHAPE)
    np.testing.assert_allclose(world(scamp.header, X, Y), world(named.header, X, Y), atol=1e-12)
    assert np.abs(world(named.header, X, Y) - world(read_sky([head()], SHAPE).header, X, Y)).max() > 1e-4


def test_crpix_far_outside_and_the_pole():
    sky = read_sky([head(CRPIX1=2604.5, CRPIX2=1738.5, CRVAL2=89.07)], SHAPE)
    assert sky.centre is not None
    assert 75 < sky.centre[1] < 90


def test_galactic_headers_are_celestial():
    assert read_sky([head(CTYPE1="GLON-TAN", CTYPE2="GLAT-TAN")], SHAPE).header


def test_two_headers_are_not_mixed():
    image, primary = fits.Header({"CRPIX1": 5.0, "CTYPE1": ""}), head()
    sky = read_sky([image, primary], SHAPE)
    assert fits.Header.fromstring(sky.header)["CRPIX1"] == 140.5


@pytest.mark.parametrize("terms", [{}, {**SIP, "CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"}])
@pytest.mark.parametrize(("factor", "origin"), [(2, (0, 0)), (2, (10, 6)), (1, (7, 3)), (3, (4, 2))])
def test_binned_pixels_lie_where_their_native_ones_do(terms, factor, origin):
    native = read_sky([head(**terms)], SHAPE).header
    binned = binned_wcs_header(native, factor, origin, (90, 140))
    at = [
        factor * axis + (factor - 1) / 2 + first for axis, first in zip((X / 3, Y / 3), origin, strict=True)
    ]
    np.testing.assert_allclose(world(binned, X / 3, Y / 3), world(native, *at), atol=1e-10)


def test_cdelt_headers_are_binned_too():
    cards = {"CD1_1": None, "CD1_2": None, "CD2_1": None, "CD2_2": None, "CDELT1": -0.003, "CDELT2": 0.003}
    native = read_sky([head(**cards, CROTA2=30.0)], SHAPE).header
    binned = binned_wcs_header(native, 2, (0, 0), (100, 150))
    np.testing.assert_allclose(world(binned, X / 2, Y / 2), world(native, X + 0.5, Y + 0.5), atol=1e-10)


def test_planes_of_a_plain_projection_are_exact():
    native = read_sky([head()], SHAPE).header
    header = binned_wcs_header(native, 2, (0, 0), (100, 150), planes=3)
    assert "CTYPE1A" not in header
    wcs = WCS(header)
    ra, dec, plane = wcs.all_pix2world(X / 2, Y / 2, 0 * X, 0)
    np.testing.assert_allclose([ra, dec], world(native, X + 0.5, Y + 0.5), atol=1e-10)
    np.testing.assert_allclose(plane, 1.0)


@pytest.mark.parametrize("kind", ["SIP", "TPV"])
def test_planes_with_distortion_are_exact_and_survive_what_astropy_does_with_them(kind):
    if kind == "SIP":
        more = {"A_ORDER": 4, "B_ORDER": 4, "A_4_0": 3e-10, "B_1_3": -2e-10, "A_2_1": 4e-8, "B_0_3": 5e-8}
        cards = head(**(SIP | more), CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP")
    else:
        cards = head(
            PV1_1=1.001, PV1_4=0.05, PV2_1=0.999, PV2_4=-0.03, PV2_8=0.2, CTYPE1="RA---TPV", CTYPE2="DEC--TPV"
        )
    native = read_sky([cards], SHAPE).header
    header = binned_wcs_header(native, 2, (10, 6), (90, 140), planes=3)
    x, y, z = X / 3, Y / 3, 0 * X
    expected = world(native, 2 * x + 10.5, 2 * y + 6.5)
    wcs = WCS(header)
    for one in (wcs, copy.deepcopy(wcs), pickle.loads(pickle.dumps(wcs))):
        np.testing.assert_allclose(one.all_pix2world(x, y, z, 0)[:2], expected, atol=1e-10)
    np.testing.assert_allclose(wcs.all_world2pix(*expected, 1 + z, 0), [x, y, z], atol=1e-6)
    np.testing.assert_allclose(wcs.celestial.all_pix2world(x, y, 0), expected, atol=1e-10)
    np.testing.assert_allclose(wcs[:, 3:, 4:].all_pix2world(x - 4, y - 3, z, 0)[:2], expected, atol=1e-10)
    np.testing.assert_allclose(world(header, x, y, key="A", naxis=2), expected, atol=1e-10)


def test_who_knows_no_distortion_sees_the_nearest_projection():
    native = read_sky([head(**SIP, CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP")], SHAPE).header
    header = binned_wcs_header(native, 2, (10, 6), (90, 140), planes=3)
    expected = world(native, 2 * (X / 3) + 10.5, 2 * (Y / 3) + 6.5)
    plain = fits.Header([card for card in header.cards if not card.keyword.startswith(("DQ", "CQDIS"))])
    off = np.hypot(*(np.array(WCS(plain).celestial.all_world2pix(*expected, 0)) - [X / 3, Y / 3]))
    assert 0.005 < off.max() < 0.2


def test_no_wcs_gives_an_empty_header():
    assert len(binned_wcs_header("", 2, (0, 0), (10, 20), planes=3)) == 0


@pytest.mark.parametrize("terms", [{}, SIP])
@pytest.mark.parametrize(("step", "planes", "origin"), [(2, 3, (40, 26)), (2, 3, (0, 0)), (1, 0, (17, 9))])
def test_the_wcs_of_native_pixels_comes_back_from_a_product(terms, step, planes, origin):
    """Through SIP, TPV and planes, to 1e-5 arcsec."""
    kinds = {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"} if terms else {}
    text = read_sky([head(**kinds, **terms)], SHAPE).header
    grid = ProductGrid((60, 90), step, origin)
    product = binned_wcs_header(text, step, origin, grid.shape, planes)
    back = native_wcs_header(product, grid)
    ra, dec = world(back, X, Y) - world(text, X, Y)
    assert np.hypot(ra * np.cos(np.radians(46)), dec).max() * 3600 < 1e-5


def test_a_product_without_wcs_has_none():
    assert native_wcs_header(fits.Header({"LTM1_1": 0.5}), ProductGrid((60, 90), 2)) == ""

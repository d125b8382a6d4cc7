"""The header's WCS: exact through a polynomial, inverted safely, refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from difflapse.align.wcs import map_by_headers
from difflapse.errors import AlignError
from difflapse.model import FrameFacts

SHAPE = (3476, 5208)


def cards(dx: float = 0.0, dy: float = 0.0, kind: str = "TAN-SIP", turn: float = 0.0) -> fits.Header:
    c, s, scale = np.cos(np.radians(turn)), np.sin(np.radians(turn)), 10.3 / 3600
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = f"RA---{kind}", f"DEC--{kind}"
    header["CRVAL1"], header["CRVAL2"] = 303.2, 46.0
    header["CRPIX1"], header["CRPIX2"] = 2604.0 + dx, 1738.0 + dy
    header["CD1_1"], header["CD1_2"], header["CD2_1"], header["CD2_2"] = (
        -scale * c,
        scale * s,
        scale * s,
        scale * c,
    )
    header["CUNIT1"] = header["CUNIT2"] = "deg"
    header["RADESYS"] = "ICRS"
    if kind == "TAN-SIP":
        header["A_ORDER"] = header["B_ORDER"] = 3
        header["A_2_0"], header["A_0_2"], header["B_1_1"] = 1e-6, -4e-7, 7e-7
        header["A_3_0"], header["A_1_2"], header["B_0_3"], header["B_2_1"] = 1e-9, 1e-9, 1e-9, 1e-9
    return header


def facts(header: fits.Header | None, shape: tuple[int, int] = SHAPE) -> FrameFacts:
    return FrameFacts("", "f", 0, shape, wcs_header=header.tostring() if header is not None else "")


@pytest.mark.parametrize("kind", ["TAN", "TAN-SIP", "ZEA", "STG", "CAR"])
@pytest.mark.parametrize("turn", [0.0, 37.0, 180.0])
def test_the_transform_follows_the_headers_to_a_thousandth(kind: str, turn: float) -> None:
    here, there = cards(41.3, -17.8, kind, turn), cards(kind=kind)
    transform = map_by_headers(facts(here), facts(there))
    rng = np.random.default_rng(1)
    # From the reference to the frame: astropy's forward direction of one, the solved one of the other.
    x, y = rng.uniform(0, 5207, 200), rng.uniform(0, 3475, 200)
    fx, fy = transform(x, y)
    lon, lat = WCS(here).all_pix2world(x, y, 0)
    lon2, lat2 = WCS(there).all_pix2world(fx, fy, 0)
    away = np.hypot((lon2 - lon) * np.cos(np.radians(lat)), lat2 - lat) * 3600 / 10.3
    assert away.max() < 2e-3


def test_sip_is_not_ignored() -> None:
    """The distortion stays with the lens while the sky drifts by half a degree."""
    transforms = []
    for kind in ("TAN-SIP", "TAN"):
        drifted = cards(kind=kind)
        drifted["CRVAL2"] += 0.5
        transforms.append(map_by_headers(facts(drifted), facts(cards(kind=kind))))
    transform, plain = transforms
    assert transform.model == "polynomial"
    assert np.hypot(*np.subtract(transform(100.0, 100.0), plain(100.0, 100.0))) > 0.5


def test_two_coordinate_systems_meet_on_the_sky() -> None:
    galactic = cards(kind="TAN")
    lon_lat = WCS(galactic).wcs
    assert lon_lat.lng == 0
    from astropy.coordinates import SkyCoord

    centre = SkyCoord(303.2, 46.0, unit="deg").galactic
    galactic["CTYPE1"], galactic["CTYPE2"] = "GLON-TAN", "GLAT-TAN"
    galactic["CRVAL1"], galactic["CRVAL2"] = centre.l.deg, centre.b.deg
    transform = map_by_headers(facts(galactic), facts(cards(kind="TAN")))
    assert np.allclose(transform(2603.0, 1737.0), (2603.0, 1737.0), atol=1e-3)
    assert abs(transform.rotation_deg(2603.0, 1737.0)) > 5


@pytest.mark.parametrize("which", ["frame", "reference"])
def test_a_missing_wcs_is_named(which: str) -> None:
    have = facts(cards())
    pair = (facts(None), have) if which == "frame" else (have, facts(None))
    with pytest.raises(AlignError, match=which):
        map_by_headers(*pair)


def test_a_wcs_without_sky_is_refused() -> None:
    header = fits.Header({"CTYPE1": "Solar-X", "CTYPE2": "Solar-Y", "CRPIX1": 5.0, "CRPIX2": 6.0})
    with pytest.raises(AlignError, match="celestial"):
        map_by_headers(facts(header), facts(cards()))


def test_frames_on_opposite_sides_of_the_sky_are_refused() -> None:
    other = cards(kind="TAN")
    other["CRVAL1"], other["CRVAL2"] = 123.2, -46.0
    with pytest.raises(AlignError) as caught:
        map_by_headers(facts(other), facts(cards(kind="TAN")))
    assert caught.value.facts["found"] < caught.value.facts["needed"]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("wanted", "model"), [("auto", "affine"), ("polynomial", "affine"), ("shift", "shift")]
)
def test_linear_coordinates_give_the_transform_asked_for(wanted: str, model: str) -> None:
    """In the Sun's or a detector's coordinates: 3 px per 1.5 units, whatever the model."""
    planes = (("sun", (0.5, 0.0, 1.5, 0.0, 0.5, -2.0)), ("sun", (0.5, 0.0, 0.0, 0.0, 0.5, 0.0)))
    here, there = (FrameFacts("", "f", 0, SHAPE, plane=plane) for plane in planes)
    transform = map_by_headers(here, there, wanted)
    assert transform.model == model
    assert np.allclose(transform(100.0, 50.0), [103.0, 46.0], atol=1e-6)

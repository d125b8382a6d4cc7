"""What the sky says on the pictures: north, east, scale and grid from a WCS, insets, the clock's zone."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from difflapse.errors import OptionError
from difflapse.model import ProductGrid
from difflapse.movie import make_layout
from difflapse.pipeline.config import RunOptions, zone_of
from difflapse.pipeline.drawing import lapse_text
from difflapse.pipeline.signs import _compass, _grid, _insets

GRID = ProductGrid((300, 450), 2, (10, 6))


def header(turn: float = 20.0, hand: int = 1, dec: float = 33.0, scale: float = 10.3) -> WCS:
    """A tangent projection of `scale` arcsec a native pixel: north `turn` degrees left of up, y counted upwards."""
    a = np.radians(turn)
    step = scale / 3600
    cards = fits.Header()
    cards["CTYPE1"], cards["CTYPE2"] = "RA---TAN", "DEC--TAN"
    cards["CRVAL1"], cards["CRVAL2"] = 1.5, dec
    cards["CRPIX1"], cards["CRPIX2"] = 451.0, 301.0
    cards["CD1_1"], cards["CD1_2"] = -hand * step * np.cos(a), -step * np.sin(a)
    cards["CD2_1"], cards["CD2_2"] = -hand * step * np.sin(a), step * np.cos(a)
    return WCS(cards)


@pytest.mark.parametrize("turn", [0.0, 20.0, 95.0, -130.0])
@pytest.mark.parametrize("hand", [1, -1])
@pytest.mark.parametrize("dec", [33.0, -71.0])
def test_the_arrows_lead_to_north_and_east(turn, hand, dec):
    """A step along each arrow, in movie pixels, is a step to the north or east on the sky, of the length said."""
    wcs = header(turn, hand, dec)
    layout = make_layout(("aligned",), GRID.shape, GRID.step, GRID.origin, width=300, labels="none")
    compass = _compass(wcs, GRID, layout)
    assert compass is not None
    x, y = (float(v) for v in GRID.to_native(224.5, 149.5))
    matrix = layout.native_to_movie("aligned")
    inverse = np.linalg.inv(matrix[:, :2])
    ra0, dec0 = wcs.all_pix2world(x, y, 0)
    for way, wanted in ((compass.north, (0.0, 1.0)), (compass.east, (1.0, 0.0))):
        assert np.hypot(*way) == pytest.approx(1)
        dx, dy = inverse @ np.array(way) * 5
        ra, de = wcs.all_pix2world(x + dx, y + dy, 0)
        moved = (np.mod(ra - ra0 + 180, 360) - 180) * np.cos(np.radians(dec0)), de - dec0
        assert np.array(moved) * 3600 == pytest.approx(
            np.array(wanted) * 5 * compass.arcsec, abs=0.03 * compass.arcsec
        )
    assert compass.arcsec == pytest.approx(10.3 * GRID.step / layout.scale, rel=1e-3)


@pytest.mark.parametrize(("dec", "scale"), [(33.0, 10.3), (88.5, 10.3), (-20.0, 0.4), (0.2, 3.0)])
def test_the_grids_lines_lie_where_they_say(dec, scale):
    """Each point of a line has the right ascension or declination of its label; also over 0h and about a pole."""
    wcs = header(dec=dec, scale=scale)
    lines = _grid(wcs, GRID)
    assert 5 <= len(lines) <= 60
    for line in lines:
        xy = np.array(line.points)
        ra, de = wcs.all_pix2world(xy[:, 0], xy[:, 1], 0)
        spread = np.ptp(de) if "°" in line.label else np.ptp(np.mod(ra - np.median(ra) + 180, 360))
        assert spread < 1e-4 * scale / np.cos(np.radians(min(abs(dec) + 1, 89.9)))
    labels = [line.label for line in lines]
    assert any("h" in label for label in labels)
    assert any("°" in label for label in labels)
    assert len(set(labels)) == len(labels)


def test_insets_are_found_by_sky_and_by_pixel():
    wcs = header()
    ra, dec = wcs.all_pix2world(300.0, 200.0, 0)
    options = RunOptions(inset=(f"{ra:.7f},{dec:.7f}", "best", "333.5,120px"))
    found = _insets(options, wcs, GRID)
    assert [label for label, _, _ in found] == ["1", "2"]
    assert found[0][1:] == pytest.approx((300.0, 200.0), abs=0.01)
    assert found[1][1:] == (333.5, 120.0)
    with pytest.raises(OptionError, match="no WCS"):
        _insets(options, None, GRID)
    with pytest.raises(OptionError, match="outside"):
        _insets(RunOptions(inset=("5000,20px",)), wcs, GRID)
    with pytest.raises(OptionError, match="4 corners"):
        _insets(RunOptions(inset=tuple(f"{n},60px" for n in (50, 60, 70, 80, 90))), wcs, GRID)
    with pytest.raises(OptionError, match="RA,DEC"):
        RunOptions(inset=("there",))


@pytest.mark.parametrize(
    ("text", "minutes"), [("-10:00", -600), ("+05:45", 345), ("UTC+2", 120), ("Pacific/Honolulu", -600)]
)
def test_zones_are_names_or_offsets(text, minutes):
    from datetime import datetime

    zone = zone_of(text)
    assert zone is not None
    assert zone.utcoffset(datetime(2018, 8, 24)).total_seconds() == 60 * minutes


def test_zones_that_are_none_and_widths_that_are_full():
    assert zone_of("") is None
    assert zone_of("local") is not None
    for text in ("Mars/Olympus", "+25:00", "noon"):
        with pytest.raises(OptionError, match="timezone"):
            RunOptions(timezone=text)
    assert RunOptions.from_mapping({"width": "full"}).width == 0
    with pytest.raises(OptionError, match="width is 10"):
        RunOptions(width=10)


def test_lapses_are_told_in_the_unit_that_fits():
    assert [lapse_text(s) for s in (48, 180, 5400, 9000, 400000)] == [
        "48 s",
        "3 min",
        "1.5 h",
        "2.5 h",
        "4.6 d",
    ]

"""Crops: native pixels and the sky give the same box; what lies outside is said."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from difflapse.errors import OptionError
from difflapse.model import ProductGrid
from difflapse.pipeline.config import RunOptions
from difflapse.pipeline.crop import centred_grid, cut_note, product_grid, size_pixels, typical_frame

from .conftest import SHAPE, facts

SCALE = 10.3 / 3600


def header(sip: bool = False) -> str:
    cards = {
        "CTYPE1": "RA---TAN-SIP" if sip else "RA---TAN",
        "CTYPE2": "DEC--TAN-SIP" if sip else "DEC--TAN",
        "CRVAL1": 303.2,
        "CRVAL2": 46.0,
        "CRPIX1": 195.5,
        "CRPIX2": 130.5,
        "CD1_1": -SCALE,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": SCALE,
        "CUNIT1": "deg",
        "CUNIT2": "deg",
    }
    if sip:
        cards |= {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 2e-5, "B_0_2": 2e-5}
    return str(fits.Header(cards).tostring())


def grid(mosaic: str, shape: tuple[int, int] = SHAPE, **options: str) -> ProductGrid:
    return product_grid(
        facts(mosaic=mosaic, shape=shape, wcs_header=header()), RunOptions.from_mapping(options)
    )


def test_without_a_crop_it_is_the_whole_frame() -> None:
    assert grid("GBRG", (261, 391)) == ProductGrid((130, 195), 2)
    assert grid("", (261, 391)) == ProductGrid((261, 391), 1)


@pytest.mark.parametrize(
    "roi, shape, origin",
    [
        ("40,20,100,60", (60, 100), (40, 20)),
        ("41,21,99,61", (61, 99), (41, 21)),
        ("-10,-10,100,100", (90, 90), (0, 0)),
        ("300,200,500,500", (60, 90), (300, 200)),
    ],
)
def test_a_roi_of_a_monochrome_frame_is_cut_at_its_edges(
    roi: str, shape: tuple[int, int], origin: tuple[int, int]
) -> None:
    assert grid("", roi=roi) == ProductGrid(shape, 1, origin)


@pytest.mark.parametrize(
    "roi, shape, origin",
    [
        ("40,20,100,60", (30, 50), (40, 20)),
        ("41,21,99,61", (31, 50), (40, 20)),
        ("41,21,100,60", (30, 50), (40, 20)),
        ("300,200,500,500", (30, 45), (300, 200)),
    ],
)
def test_a_roi_of_a_mosaic_begins_on_a_whole_cell(
    roi: str, shape: tuple[int, int], origin: tuple[int, int]
) -> None:
    """Outwards, so that all that was asked for is in it (but for a last odd column)."""
    assert grid("RGGB", roi=roi) == ProductGrid(shape, 2, origin)


@pytest.mark.parametrize(
    "roi, kept",
    [
        ("0,0,390,260", ""),
        ("380,250,10,10", ""),
        (
            "300,200,500,50",
            "x 300 to 799, y 200 to 249 reaches beyond the reference's 390x260 pixels: x 300 to 389, y 200 to 249",
        ),
        (
            "-5,20,40,241",
            "x -5 to 34, y 20 to 260 reaches beyond the reference's 390x260 pixels: x 0 to 34, y 20 to 259",
        ),
    ],
)
def test_what_a_crop_loses_beyond_the_frame_is_told(roi: str, kept: str) -> None:
    note = cut_note(facts(mosaic=""), RunOptions(roi=roi))
    assert note == (f"the crop of {kept} is kept" if kept else "")
    assert cut_note(facts(mosaic=""), RunOptions()) == ""


@pytest.mark.parametrize("roi", ["390,0,100,100", "0,-100,50,100", "385,20,100,100", "-500,-500,100,100"])
def test_a_roi_outside_of_the_frame_is_refused_with_both_sizes(roi: str) -> None:
    with pytest.raises(OptionError, match="390x260"):
        grid("", roi=roi)


@pytest.mark.parametrize("center", ["303.2,46.0", "20h12m48s,+46d00m00s", "20:12:48,46:00:00"])
def test_a_box_on_the_sky_lies_about_its_centre(center: str) -> None:
    found = grid("", center=center, size="10arcmin")
    x, y = found.to_native((found.shape[1] - 1) / 2, (found.shape[0] - 1) / 2)
    assert (float(x), float(y)) == pytest.approx((194.5, 129.5), abs=0.6)
    assert found.shape == (58, 58)  # 600 arcsec at 10.3 a pixel


def test_width_and_height_may_differ() -> None:
    found = grid("GBRG", center="303.2,46.0", size="20arcmin,0.2deg")
    assert found.shape == (35, 58)


def test_a_centre_off_the_middle_is_found_by_the_wcs() -> None:
    wcs = WCS(fits.Header.fromstring(header()))
    sky = wcs.pixel_to_world(100.3, 60.7)
    found = grid("", center=f"{sky.ra.deg},{sky.dec.deg}", size="8arcmin")
    x, y = found.to_native((found.shape[1] - 1) / 2, (found.shape[0] - 1) / 2)
    assert (float(x), float(y)) == pytest.approx((100.3, 60.7), abs=0.6)


def test_without_a_wcs_a_centre_is_refused() -> None:
    with pytest.raises(OptionError, match="no WCS") as caught:
        product_grid(facts(), RunOptions(center="303.2,46.0", size="10arcmin"))
    assert "--roi" in caught.value.hint


@pytest.mark.parametrize(
    "center, size",
    [
        ("303.2", "10arcmin"),
        ("here,there", "10arcmin"),
        ("303.2,46.0", "10 bananas"),
        ("1,2,3", "1deg"),
        ("10,99", "1deg"),
    ],
)
def test_nonsense_is_refused_by_name(center: str, size: str) -> None:
    with pytest.raises(OptionError, match=r"center|size"):
        grid("", center=center, size=size)


@pytest.mark.parametrize("sip", [False, True])
@pytest.mark.parametrize("center", ["123.2,-46.0", "303.2,40.0", "313.2,46.0", "150,46"])
def test_a_place_elsewhere_on_the_sky_is_refused(center: str, sip: bool) -> None:
    """Also where the inverse of a distorted WCS does not converge."""
    with pytest.raises(OptionError):
        product_grid(facts(wcs_header=header(sip)), RunOptions(center=center, size="10arcmin"))


@pytest.mark.parametrize("size", ["-10arcmin", "0deg"])
def test_a_box_without_an_inside_is_refused(size: str) -> None:
    with pytest.raises(OptionError):
        grid("", center="303.2,46.0", size=size)


def test_a_run_is_foreseen_by_a_frame_with_a_wcs_where_it_matters() -> None:
    frames = [facts(k, wcs_header=header() if k in (0, 3) else "") for k in range(5)]
    assert typical_frame(frames, RunOptions()).file == frames[2].file
    crop = RunOptions(center="303.2,46.0", size="10arcmin")
    assert typical_frame(frames, crop).file == frames[3].file
    assert typical_frame([facts(k) for k in range(5)], crop).file == frames[2].file


def test_product_pixels_of_a_crop_are_those_of_the_whole() -> None:
    whole, crop = grid("GBRG"), grid("GBRG", roi="40,20,100,60")
    i, j = np.arange(5), np.arange(5)
    x, y = crop.to_native(i, j)
    assert np.array_equal(whole.from_native(x, y), [i + 20, j + 10])


@pytest.mark.parametrize(("mosaic", "step"), [("GBRG", 2), ("", 1)])
def test_a_cut_about_a_target_has_it_in_its_middle(mosaic: str, step: int) -> None:
    cut = centred_grid((31, 50), step, 203.7, 88.25)
    x, y = cut.to_native(24.5, 15.0)
    assert (float(x), float(y)) == pytest.approx((203.7, 88.25), abs=1e-12)
    foreseen = grid(mosaic, follow="comet", size="101px,62px")
    assert foreseen.shape == (62 // step, 101 // step)


def test_a_size_in_pixels_needs_no_wcs() -> None:
    options = RunOptions.from_mapping({"follow": "comet", "size": "300px,200 px"})
    assert size_pixels(facts(), options) == (300, 200)
    with pytest.raises(OptionError, match="has no WCS"):
        size_pixels(facts(), RunOptions.from_mapping({"follow": "comet", "size": "1deg"}))
    with pytest.raises(OptionError, match="an angle or pixels"):
        size_pixels(facts(), RunOptions.from_mapping({"follow": "comet", "size": "large"}))

"""What cameras call things: units in text, sexagesimal, gain that is a setting, and the mosaic's phase."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from difflapse.io import dialects
from difflapse.io.dialects import PLAIN, dialect_of, kind_of, levels, mosaic, number, sexagesimal

PANOPTES = {
    "ORIGIN": "Project PANOPTES",
    "CREATOR": "POCSv0.1.1",
    "FILTER": "RGGB",
    "OBSERVER": "PAN012",
    "INSTRUME": "358d0f",
    "FIELD": "Wasp 33",
    "SEQID": "PAN012_358d0f_20180824T035917",
    "CAMTEMP": "17 C",
    "EXPTIME": "120.0 s",
}


def header(**cards):
    return fits.Header([(key.replace("_", "-"), value) for key, value in cards.items()])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("17 C", 17.0),
        ("0.019 mm", 0.019),
        (5, 5.0),
        ("1.5D3", 1500.0),
        ("-.5", -0.5),
        ("", None),
        (True, None),
    ],
)
def test_numbers_with_units(value, expected):
    assert number(value) == expected


@pytest.mark.parametrize(
    ("value", "degrees"),
    [
        ("28 45 37", 28.760278),
        ("-17 52 45", -17.879167),
        ("-00:30:00", -0.5),
        ("17 52 45 W", -17.879167),
        ("28d45m37s", 28.760278),
        ("S 33 15", -33.25),
        (19.54, 19.54),
        ("19.54", 19.54),
        ("north", None),
    ],
)
def test_sexagesimal(value, degrees):
    assert sexagesimal(value) == (pytest.approx(degrees, abs=1e-6) if degrees is not None else None)


def test_right_ascension_is_in_hours_only_when_sexagesimal():
    assert dialects.hour_angle("02 05 15") == pytest.approx(31.3125)
    assert dialects.hour_angle(31.3) == 31.3
    assert dialects.hour_angle("31.3") == 31.3


def test_panoptes_levels_and_names():
    head = fits.Header(PANOPTES)
    dialect = dialect_of(head)
    found = levels(head, dialect, np.dtype("uint16"))
    assert dialect.name == "PANOPTES"
    assert (found.bias_adu, found.gain_e_adu) == (2048.0, 1.5)
    # Real frames clip at 13583: the level lies below that, and well above any sky.
    assert 13000 < found.saturation_adu < 13583
    assert dialects.camera_of(head, dialect) == "PAN012 358d0f"
    assert dialects.find_text(head, "object") == "Wasp 33"
    assert dialects.find_number(head, "exposure") == 120.0


def test_the_header_goes_before_the_dialect():
    head = fits.Header({**PANOPTES, "EGAIN": 2.1, "SATURATE": 12000})
    found = levels(head, dialect_of(head), np.dtype("uint16"))
    assert (found.gain_e_adu, found.saturation_adu) == (2.1, 12000.0)


def test_microobservatory_saturates_at_12_bits_and_counts_west():
    head = header(CREATOR="MicroObservatory2014-05-23", LONGITUD=110.88, LATITUDE=31.68)
    dialect = dialect_of(head)
    assert levels(head, dialect, np.dtype("int16")).saturation_adu == 4095.0
    assert dialects.longitude_of(head, dialect) == pytest.approx(-110.88)


@pytest.mark.parametrize(
    ("dtype", "level"), [("uint16", 65535.0), ("int16", 32767.0), ("uint8", 255.0), ("float32", None)]
)
def test_saturation_from_the_type_of_integers_only(dtype, level):
    assert levels(fits.Header(), PLAIN, np.dtype(dtype)).saturation_adu == level


@pytest.mark.parametrize(
    ("datamax", "level"), [(16383, 16383.0), (60000, 60000.0), (31847, 65535.0), (0, 65535.0)]
)
def test_datamax_counts_only_where_it_looks_like_a_limit(datamax, level):
    assert levels(header(DATAMAX=datamax), PLAIN, np.dtype("uint16")).saturation_adu == level


def test_gain_as_a_setting_is_not_electrons():
    head = header(GAIN=10, INSTRUME="ZWO ASI1600MM")
    assert levels(head, PLAIN, np.dtype("uint16")).gain_e_adu is None
    assert levels(header(GAIN="1.22", INSTRUME="FLI"), PLAIN, np.dtype("uint16")).gain_e_adu == 1.22
    assert levels(header(GAIN=139, EGAIN=0.9, INSTRUME="ZWO"), PLAIN, np.dtype("uint16")).gain_e_adu == 0.9


def test_panoptes_filter_is_gbrg_in_array_order():
    pattern, reason = mosaic(fits.Header(PANOPTES), dialect_of(fits.Header(PANOPTES)), 3476)
    assert pattern == "GBRG"
    assert "bottom left" in reason


@pytest.mark.parametrize(
    ("cards", "ny", "expected"),
    [
        ({"BAYERPAT": "RGGB"}, 20, "RGGB"),
        ({"BAYERPAT": "rggb"}, 20, "RGGB"),
        ({"BAYERPAT": "RGGB", "ROWORDER": "TOP-DOWN"}, 20, "RGGB"),
        ({"BAYERPAT": "RGGB", "ROWORDER": "BOTTOM-UP"}, 20, "GBRG"),
        ({"BAYERPAT": "RGGB", "ROWORDER": "BOTTOM-UP"}, 21, "RGGB"),
        ({"BAYERPAT": "RGGB", "XBAYROFF": 1}, 20, "GRBG"),
        ({"BAYERPAT": "RGGB", "YBAYROFF": 1}, 20, "GBRG"),
        ({"BAYERPAT": "RGGB", "XBAYROFF": 1, "YBAYROFF": 1}, 20, "BGGR"),
        ({"BAYERPAT": "GBRG", "FILTER": "RGGB"}, 20, "GBRG"),
        ({"FILTER": "V"}, 20, ""),
        ({"BAYERPAT": "XXXX"}, 20, ""),
    ],
)
def test_mosaics(cards, ny, expected):
    pattern, reason = mosaic(fits.Header(cards), PLAIN, ny)
    assert pattern == expected
    assert reason


@pytest.mark.parametrize(
    ("cards", "folder", "file", "kind"),
    [
        ({"IMAGETYP": "Dark Frame"}, "n", "a.fits", "dark"),
        ({"IMAGETYP": "zero"}, "n", "a.fits", "bias"),
        ({"IMAGETYP": "FLAT"}, "n", "a.fits", "flat"),
        ({"IMAGETYP": "LIGHT"}, "darks", "dark1.fits", "light"),
        ({}, "n", "dark_001.fits", "dark"),
        ({}, "n", "MasterFlat.fits", "flat"),
        ({}, "biases", "001.fits", "bias"),
        ({"OBJECT": "dark"}, "n", "001.fits", "dark"),
        ({"OBJECT": "Dark Horse nebula"}, "n", "001.fits", "light"),
        ({}, "n", "darkness.fits", "light"),
        ({}, "n", "pointing00.fits", "pointing"),
        ({}, "n", "a.fits", "light"),
    ],
)
def test_kinds(cards, folder, file, kind):
    assert kind_of(fits.Header(cards), folder, file, PLAIN) == kind


@pytest.mark.parametrize(
    ("file", "filename", "kind"),
    [
        ("20180824T040118.fits.fz", "", "light"),
        ("solved.fits.fz", "20160909T081522.cr2", "light"),
        ("pole.fits", "pole_cam00.cr2", "pointing"),
        ("20180824T040118.fits", "pointing00.cr2", "pointing"),
    ],
)
def test_panoptes_pointing_frames(file, filename, kind):
    head = fits.Header({**PANOPTES, "FILENAME": filename})
    assert kind_of(head, "20180824T035917", file, dialect_of(head)) == kind


def test_an_unreadable_card_is_no_card():
    head = fits.Header.fromstring("EXPTIME = 'half".ljust(80) + "GAIN    = 1.5".ljust(80) + "END".ljust(80))
    assert dialects.find_number(head, "exposure") is None
    assert dialects.find_number(head, "gain") == 1.5

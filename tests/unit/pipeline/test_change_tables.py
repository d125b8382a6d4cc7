"""The tables of what changed: the contract's columns, names that stay, rates on the sky and without one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.wcs import WCS

from difflapse.model.sightings import Change, Sightings
from difflapse.pipeline.change_tables import changes_table, detections_table

TIME = [f"2018-08-24T04:{2 * k:02d}:18.000" for k in range(12)]
VARIABLE = Change("variable", 700.4, 350.1, 0, 11, 12.0, 30.0, np.array([0]), amplitude_mag=0.42)
MOVER = Change(
    "mover", 100.0, 200.0, 2, 10, 9.0, 25.0, np.array([1, 2]), 30.0, 40.0, 0.5, x_end=108.0, y_end=210.7
)
DETECTIONS = (
    "change", "frame", "time_utc", "x_pix", "y_pix", "x_frame_pix", "y_frame_pix", "ra_deg", "dec_deg",
    "flux_adu", "flux_err_adu", "snr", "flags",
)  # fmt: skip
CHANGES = (
    "change", "kind", "x_pix", "y_pix", "ra_deg", "dec_deg", "first_frame", "last_frame", "n_detections",
    "snr", "amplitude_mag", "rate_arcsec_per_hour", "rate_pix_per_hour", "position_angle_deg", "x_end_pix",
    "y_end_pix",
)  # fmt: skip


def sky() -> WCS:
    """10 arcsec a pixel; north is +x, east is +y."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crpix = [401, 301]
    wcs.wcs.crval = [243.7, 33.0]
    wcs.wcs.cd = np.array([[0, 10 / 3600], [10 / 3600, 0]])
    return wcs


def test_the_contracts_columns_are_there_whatever_is_in_them() -> None:
    empty = detections_table(Sightings.empty(), np.zeros(0, int), TIME, None, {})
    assert set(DETECTIONS) <= set(empty.colnames) and len(empty) == 0
    none = changes_table([], np.zeros(0, int), TIME, None, True, {"note": "why"})
    assert set(CHANGES) <= set(none.colnames) and len(none) == 0
    assert none.meta["note"] == "why"


def test_rates_on_the_sky_and_on_pixels_are_one_motion() -> None:
    """(30, 40) px/h is 50 px/h and 500 arcsec/h; its angle from north (+x) through east (+y) atan2(40, 30)."""
    table = changes_table([MOVER], np.array([0, 0, -1]), TIME, sky(), True, {})
    row = table[0]
    assert row["rate_pix_per_hour"] == pytest.approx(50)
    assert row["rate_arcsec_per_hour"] == pytest.approx(500, rel=2e-3)
    # Its end is rounded to a tenth of a pixel of 13; the field is 1 degree off the tangent point.
    assert row["position_angle_deg"] == pytest.approx(np.degrees(np.arctan2(10.7, 8.0)), abs=0.7)
    assert row["position_angle_err_deg"] == pytest.approx(np.degrees(0.01), rel=0.01)
    assert row["n_detections"] == 2
    bare = changes_table([MOVER], np.array([0, 0]), TIME, None, True, {})[0]
    assert np.ma.is_masked(bare["rate_arcsec_per_hour"]) and np.ma.is_masked(bare["ra_deg"])
    assert bare["position_angle_deg"] == pytest.approx(np.degrees(np.arctan2(-30, 40)) % 360)
    timeless = changes_table([MOVER], np.array([0, 0]), [None] * 12, sky(), False, {})[0]
    assert np.ma.is_masked(timeless["rate_pix_per_hour"])


def test_names_do_not_depend_on_order_or_on_a_tenth_of_a_pixel() -> None:
    wcs = sky()
    beside = replace(VARIABLE, x=702.0, snr_all=90.0)
    first = changes_table([VARIABLE, MOVER], np.zeros(0, int), TIME, wcs, True, {})
    second = changes_table([MOVER, replace(VARIABLE, x=700.5)], np.zeros(0, int), TIME, wcs, True, {})
    assert sorted(first["name"]) == sorted(second["name"])
    assert len(set(first["name"])) == 2
    names = [
        dict(zip(t["x_pix"], t["name"], strict=True))
        for t in (
            changes_table(order, np.zeros(0, int), TIME, wcs, True, {})
            for order in ([VARIABLE, beside], [beside, VARIABLE])
        )
    ]
    assert names[0] == names[1] and len(set(names[0].values())) == 2
    assert "2018-08-24T04:04" in first["name"][1] and "2018" not in first["name"][0]


def test_detections_are_in_the_order_of_frames_with_what_is_unknown_masked() -> None:
    s = Sightings(
        np.array([5, 1], np.int32), np.array([10.0, 20.0]), np.array([30.0, 40.0]), np.array([-6.0, 8.0]),
        np.array([2.1, 2.1]), np.array([0, 512], np.int32), flux=np.array([-120.0, np.nan]),
    )  # fmt: skip
    table = detections_table(s, np.array([0, -1]), TIME, None, {})
    assert list(table["frame"]) == [1, 5]
    assert list(table["change"]) == [-1, 0]
    assert np.ma.is_masked(table["flux_adu"][0]) and table["flux_adu"][1] == -120
    assert table["snr"][1] == -6 and table["time_utc"][1] == TIME[5]
    assert table["x_pix"].unit == "pix" and table["flux_adu"].unit == "adu"

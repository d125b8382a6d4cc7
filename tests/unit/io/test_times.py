"""Which clock a sequence is believed by, and what each odd way of writing a time means."""

from __future__ import annotations

import pytest

from difflapse.io.dialects import DIALECTS, PLAIN
from difflapse.io.times import (
    DAY,
    decide_clock,
    name_moment,
    natural_key,
    parse_clock,
    parse_moment,
    read_stamps,
    utc_text,
)

PANOPTES = DIALECTS[0]


def stamp(header, file="a.fits", exposure=30.0, dialect=PLAIN):
    return {s.source: s for s in read_stamps(header, file, exposure, dialect)}


def clock_of(headers, files=None, exposure=30.0, dialect=PLAIN):
    files = files or [f"f{i}.fits" for i in range(len(headers))]
    stamps = [read_stamps(h, f, exposure, dialect) for h, f in zip(headers, files, strict=True)]
    return decide_clock(stamps, [exposure] * len(headers), files, dialect.computer_clock)


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2017-12-19T18:33:43.317-0700", "2017-12-20T01:33:43.317"),
        ("2017-12-19T18:33:43.317-07:00", "2017-12-20T01:33:43.317"),
        ("2004-03-01T00:00:10.515Z", "2004-03-01T00:00:10.515"),
        ("2004-03-01 00:00:10", "2004-03-01T00:00:10.000"),
        ("2004/03/01 00:00:10 UTC", "2004-03-01T00:00:10.000"),
        ("29/11/51", "1951-11-29T00:00:00.000"),
        ("29/11/2023", "2023-11-29T00:00:00.000"),
    ],
)
def test_written_times_are_understood(text, utc):
    moment = parse_moment(text)
    assert moment is not None
    assert utc_text(moment[0]) == utc


@pytest.mark.parametrize(
    "text", ["", "soon", "2024-13-01", "2024-02-30T00:00:00", "2024-01-01T25:00:00", "17"]
)
def test_nonsense_is_not_a_time(text):
    assert parse_moment(text) is None


def test_a_date_alone_has_a_step_of_a_day():
    moment = parse_moment("2024-03-01")
    assert moment is not None
    assert moment[1] == DAY


def test_clock_steps_follow_the_decimals():
    assert parse_clock("12:34:56.78") == (pytest.approx(45296.78), pytest.approx(0.01))
    assert parse_clock("12:34") == (45240.0, 60.0)
    assert parse_clock("noon") is None


@pytest.mark.parametrize(
    ("name", "utc"),
    [
        ("20160909T081522.fits.fz", "2016-09-09T08:15:22.000"),
        ("PAN012_358d0f_20180824T040118", "2018-08-24T04:01:18.000"),
        ("efz20040301.000010_s.fits", "2004-03-01T00:00:10.000"),
        ("HATP-32171220013343.FITS", "2017-12-20T01:33:43.000"),
        ("Light_M42_2023-01-15_21-03-44_0001.fits", "2023-01-15T21:03:44.000"),
    ],
)
def test_times_in_names(name, utc):
    mjd = name_moment(name)
    assert mjd is not None
    assert utc_text(mjd) == utc


@pytest.mark.parametrize(
    "name", ["frame0001.fits", "J17490840-001.fit", "IMG_123456789.fits", "99999999T999999"]
)
def test_numbers_in_names_are_not_times(name):
    assert name_moment(name) is None


def test_date_and_clock_in_two_cards():
    found = stamp({"DATE-OBS": "29/11/51", "TIME-OBS": "03:04:05"})
    assert utc_text(found["DATE-OBS + TIME-OBS"].start_mjd) == "1951-11-29T03:04:05.000"
    assert "DATE-OBS" not in found


def test_time_obs_is_not_added_twice():
    found = stamp({"DATE-OBS": "2004-03-01T00:00:10.515", "TIME-OBS": "00:00:10"})
    assert list(found) == ["DATE-OBS"]


def test_ut_obs_goes_before_local_time():
    header = {"DATE-OBS": "2017-12-19T18:33:43.317-0700", "UT-OBS": "2017-12-20T01:33:43.317-0000"}
    found = stamp(header)
    assert next(iter(found)) == "UT-OBS"
    assert found["DATE-OBS"].start_mjd == pytest.approx(found["UT-OBS"].start_mjd, abs=1e-9)
    assert "local time" in found["DATE-OBS"].note


def test_middle_and_end_go_back_to_the_start():
    found = stamp(
        {"DATE-AVG": "2024-03-01T22:00:20", "DATE-END": "2024-03-01T22:00:40", "MJD-AVG": 60370.9},
        exposure=40,
    )
    assert utc_text(found["DATE-AVG less half the exposure"].start_mjd) == "2024-03-01T22:00:00.000"
    assert utc_text(found["DATE-END less the exposure"].start_mjd) == "2024-03-01T22:00:00.000"
    assert found["MJD-AVG less half the exposure"].start_mjd == pytest.approx(60370.9 - 20 / DAY, abs=1e-9)


def test_julian_dates():
    assert stamp({"JD": 2456866.3789699073})["JD"].start_mjd == pytest.approx(56865.8789699073, abs=1e-8)
    assert stamp({"MJD-OBS": 58107.065})["MJD-OBS"].step_s == pytest.approx(86.4)
    assert stamp({"MJD-OBS": 12.0}) == {}


def test_tai_becomes_utc():
    found = stamp({"DATE-OBS": "2020-01-01T00:00:37", "TIMESYS": "TAI"})
    assert utc_text(found["DATE-OBS"].start_mjd) == "2020-01-01T00:00:00.000"
    assert "TAI" in found["DATE-OBS"].note


def test_identical_date_obs_gives_way_to_mjd():
    headers = [{"DATE-OBS": "2024-03-01T22:00:00", "MJD-OBS": 60370.916 + i * 60 / DAY} for i in range(4)]
    clock = clock_of(headers)
    assert clock.source == "MJD-OBS"
    assert "DATE-OBS is the same in all frames" in clock.reason


def test_all_times_identical_fall_back_to_the_files_names():
    headers = [{"DATE-OBS": "2024-03-01T22:00:00"}] * 3
    files = [f"20240301T22{minute:02}00.fits" for minute in (7, 9, 11)]
    clock = clock_of(headers, files)
    assert clock.source == "file name"
    assert utc_text(clock.starts_mjd[1] or 0) == "2024-03-01T22:09:00.000"
    assert "the same in all frames" in clock.reason


def test_all_times_identical_and_no_time_in_names_leaves_the_order_of_names():
    clock = clock_of([{"DATE-OBS": "2024-03-01T22:00:00"}] * 3)
    assert clock.source == ""
    assert clock.starts_mjd == (None, None, None)
    assert "order of the files' names" in clock.reason


def test_no_time_at_all():
    clock = clock_of([{}, {}])
    assert clock.starts_mjd == (None, None)
    assert "no time" in clock.reason


def test_rounded_mjd_loses_against_a_fine_clock():
    headers = [
        {"MJD-OBS": round(60370.9 + i * 60 / DAY, 3), "JD": 2460371.4 + i * 60 / DAY} for i in range(6)
    ]
    assert clock_of(headers).source == "JD"


def test_a_clock_that_leaves_no_room_for_the_exposure_is_not_believed():
    headers = [{"DATE-OBS": f"2024-03-01T22:00:0{i}", "MJD-OBS": 60370.9 + i * 60 / DAY} for i in range(4)]
    clock = clock_of(headers)
    assert clock.source == "MJD-OBS"
    assert "no room for the exposures" in clock.reason


def test_a_clock_against_the_files_order_is_not_believed():
    headers = [
        {"DATE-OBS": f"2024-03-01T22:{50 - 10 * i}:00", "MJD-OBS": 60370.9 + i * 600 / DAY} for i in range(5)
    ]
    assert clock_of(headers).source == "MJD-OBS"


def test_panoptes_trusts_the_computer_and_writes_the_offset():
    headers = [
        {
            "DATE-OBS": f"2016-09-09T08:{12 + 3 * i}:26",
            "FILENAME": f"20160909T08{13 + 3 * i}14.cr2",
            "IMAGEID": "PAN001_XXXXXX_20160909T081152",
            "SEQID": "PAN001_XXXXXX_20160909T081152",
        }
        for i in range(3)
    ]
    clock = clock_of(headers, ["a.fits", "b.fits", "c.fits"], 120.0, PANOPTES)
    assert clock.source == "FILENAME"
    assert "DATE-OBS is 48 s before FILENAME" in clock.notes
    assert utc_text(clock.starts_mjd[0] or 0) == "2016-09-09T08:13:14.000"


def test_panoptes_image_id_counts_when_it_is_not_the_sequence():
    header = {"IMAGEID": "PAN012_358d0f_20180824T040118", "SEQID": "PAN012_358d0f_20180824T035917"}
    assert "IMAGEID" in stamp(header, dialect=PANOPTES)
    assert next(iter(stamp(header, "20180824T040118.fits.fz", dialect=PANOPTES))) == "file name"


def test_other_cameras_trust_date_obs_and_name_the_offset():
    headers = [{"DATE-OBS": f"2024-03-01T22:{i:02}:00"} for i in range(3)]
    clock = clock_of(headers, [f"2024-03-02_00-{i:02}-00.fits" for i in range(3)])
    assert clock.source == "DATE-OBS"
    assert "file name is 2:00:00 after DATE-OBS" in clock.notes


def test_a_frame_without_the_chosen_source_takes_another_moved_by_the_usual_offset():
    headers = [
        {"DATE-OBS": f"2024-03-01T22:{i:02}:00", "JD": 2460371.4166666665 + (i * 60 + 10) / DAY}
        for i in range(6)
    ]
    del headers[2]["DATE-OBS"], headers[5]["JD"]
    clock = clock_of(headers)
    assert all(start is not None for start in clock.starts_mjd)
    assert abs((clock.starts_mjd[2] - clock.starts_mjd[1]) * DAY - 60) < 0.01


def test_names_sort_as_people_count():
    assert sorted(["f10.fits", "f2.fits", "F1.fits"], key=natural_key) == ["F1.fits", "f2.fits", "f10.fits"]


def test_utc_text_rounds_up_across_the_second():
    assert utc_text(60000.0 + 0.9999 / DAY) == "2023-02-25T00:00:01.000"
    assert utc_text(float("nan")) == ""

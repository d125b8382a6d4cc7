"""Ephemerides as people have them."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table
from astropy.time import Time

from difflapse.errors import InputError
from difflapse.io.ephemeris import read_ephemeris

MJD = 58354.16 + np.array([0.0, 0.1, 0.2, 0.3])
RA, DEC = 243.1 + 0.3 * np.arange(4), -5.5 - 0.1 * np.arange(4)


def write(tmp_path, **columns):
    path = tmp_path / "46P.ecsv"
    Table(columns).write(path, format="ascii.ecsv")
    return path


def horizons(mjd):
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    return [
        f"{t.year}-{months[t.month - 1]}-{t.day:02d} {t.strftime('%H:%M:%S.%f')[:-3]}"
        for t in Time(mjd, format="mjd").datetime
    ]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("time", Time(MJD, format="mjd")),
        ("time", Time(MJD, format="mjd", scale="utc").tdb),
        ("time_utc", Time(MJD, format="mjd").isot),
        ("obstime", [t + "Z" for t in Time(MJD, format="mjd").isot]),
        ("datetime_jd", MJD + 2_400_000.5),
        ("MJD", MJD),
        ("datetime_str", horizons(MJD)),
        ("Date__(UT)__HR:MN", horizons(MJD)),
    ],
)
def test_times_are_read_in_the_ways_they_are_written(tmp_path, name, values):
    path = read_ephemeris(write(tmp_path, **{name: values}, RA=RA * u.deg, DEC=DEC * u.deg))
    assert np.abs(path.mjd - MJD).max() * 86400 < 1e-3
    assert np.allclose(path.ra_deg, RA)
    assert path.computed
    assert path.name == "46P"


@pytest.mark.parametrize(
    ("ra", "dec"),
    [
        (RA, DEC),
        (RA * u.deg, DEC * u.deg),
        (RA / 15 * u.hourangle, np.radians(DEC) * u.rad),
        (RA * 3600 * u.arcsec, DEC * 60 * u.arcmin),
        (
            ["16 12 24.0", "16 13 36", "16 14 48", "16 16 00"],
            ["-05 30 00", "-05 36 00", "-05 42 00", "-05 48 00"],
        ),
        (["16h12m24s", "16h13m36s", "16h14m48s", "16h16m00s"], ["-5d30m", "-5d36m", "-5d42m", "-5d48m"]),
        (["243.1", "243.4", "243.7", "244.0"], ["-5.5", "-5.6", "-5.7", "-5.8"]),
    ],
)
def test_places_are_read_in_their_units(tmp_path, ra, dec):
    path = read_ephemeris(write(tmp_path, time=Time(MJD, format="mjd"), RA=ra, Dec=dec))
    assert np.allclose(path.ra_deg, RA, atol=1e-8)
    assert np.allclose(path.dec_deg, DEC, atol=1e-8)


def test_rows_are_put_in_order_and_the_targets_name_is_taken(tmp_path):
    path = write(
        tmp_path, targetname=["46P/Wirtanen"] * 4, datetime_jd=MJD[::-1] + 2_400_000.5, RA=RA[::-1], DEC=DEC[::-1],
        delta=[1.0] * 4,
    )  # fmt: skip
    found = read_ephemeris(path)
    assert found.name == "46P/Wirtanen"
    assert np.allclose(found.mjd, MJD, atol=1e-8)
    assert np.allclose(found.dec_deg, DEC)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"RA": RA, "DEC": DEC}, "no column for time; it has RA, DEC"),
        ({"time": MJD, "DEC": DEC}, "no column for RA"),
        ({"time": MJD, "RA": RA}, "no column for Dec"),
        ({"time": ["yesterday"] * 4, "RA": RA, "DEC": DEC}, "cannot be read"),
        ({"time": [2018.0] * 4, "RA": RA, "DEC": DEC}, "1 usable rows"),
        ({"time": -MJD, "RA": RA, "DEC": DEC}, "neither JD nor MJD"),
        ({"time": MJD[:1], "RA": RA[:1], "DEC": DEC[:1]}, "1 usable rows; 2"),
        ({"time": MJD, "RA": RA, "DEC": DEC * 50}, "0 usable rows"),
        ({"time": MJD, "RA": RA * u.m, "DEC": DEC}, "cannot be read"),
    ],
)
def test_what_is_no_ephemeris_is_refused_in_words(tmp_path, columns, words):
    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        read_ephemeris(write(tmp_path, **columns))


def test_a_file_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "e.ecsv").write_text("not a table at all")
    with pytest.raises(InputError, match="cannot be read"):
        read_ephemeris(tmp_path / "e.ecsv")

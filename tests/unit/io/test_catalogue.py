"""Catalogues: columns found by UCD or name, ephemerides as moving things, services asked through what is handed in."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.table import MaskedColumn, QTable, Table

from difflapse.errors import InputError
from difflapse.io.catalogue import fetch_skybot, fetch_vsx, format_of, read_catalogue


def test_an_ecsv_by_the_usual_names(tmp_path):
    path = tmp_path / "mine.ecsv"
    Table({"Name": ["A", "B"], "RA": [10.5, 359.9], "Dec": [-3.25, 4.0], "Type": ["EA", "RR"]}).write(
        path, format="ascii.ecsv"
    )
    known = read_catalogue(path)
    assert known.catalogue == "mine.ecsv"
    assert known.name.tolist() == ["A", "B"] and known.kind.tolist() == ["EA", "RR"]
    assert known.ra_deg == pytest.approx([10.5, 359.9]) and known.dec_deg == pytest.approx([-3.25, 4.0])
    assert np.isnan(known.mjd).all()


def test_a_votable_by_ucd_where_names_mislead(tmp_path):
    table = Table({"ra": [1.0, 2.0], "alpha": [150.25, 151.0], "delta": [20.5, 21.0], "label": ["x1", "x2"]})
    for name, ucd in (
        ("alpha", "pos.eq.ra;meta.main"),
        ("delta", "pos.eq.dec;meta.main"),
        ("label", "meta.id"),
    ):
        table[name].meta["ucd"] = ucd
    path = tmp_path / "cat.vot"
    from astropy.io.votable import from_table

    vot = from_table(table)
    for field in vot.get_first_table().fields:
        if "ucd" in table[field.name].meta:
            field.ucd = table[field.name].meta["ucd"]
    vot.to_xml(str(path))
    known = read_catalogue(path)
    assert known.ra_deg == pytest.approx([150.25, 151.0])
    assert known.dec_deg == pytest.approx([20.5, 21.0])
    assert known.name.tolist() == ["x1", "x2"]


def test_sexagesimal_text_in_fits_and_rows_without_a_place(tmp_path):
    path = tmp_path / "cat.fits"
    Table({"RAJ2000": ["10:00:00", "11:30:00"], "DEJ2000": ["-05:30:00", "+89:00:00"]}).write(path)
    known = read_catalogue(path)
    assert known.ra_deg == pytest.approx([150.0, 172.5]) and known.dec_deg == pytest.approx([-5.5, 89.0])
    assert known.name.tolist() == ["row 0", "row 1"]
    masked = tmp_path / "masked.ecsv"
    Table({"ra": MaskedColumn([1.0, 2.0], mask=[True, False]), "dec": [3.0, 4.0]}).write(masked)
    assert read_catalogue(masked).ra_deg == pytest.approx([2.0])


def test_rows_of_one_name_at_several_times_move(tmp_path):
    path = tmp_path / "ephemeris.ecsv"
    Table(
        {
            "name": ["m"] * 3 + ["n"],
            "ra": [359.8, 0.0, 0.2, 77.0],
            "dec": [10.0, 10.1, 10.2, -8.0],
            "mjd": [58354.1, 58354.2, 58354.3, 58354.2],
        }
    ).write(path)
    known = read_catalogue(path)
    now = known.at(58354.15)
    at = now.name.tolist().index("m")
    assert (now.ra_deg[at] + 180) % 360 - 180 == pytest.approx(-0.1, abs=1e-6)
    assert now.dec_deg[at] == pytest.approx(10.05, abs=1e-6)
    assert "m" not in known.at(58360.0).name.tolist()
    assert len(known.at(None)) == 0


def test_what_is_no_catalogue_is_an_input_error(tmp_path):
    path = tmp_path / "odd.ecsv"
    Table({"u": [1.0], "v": [2.0]}).write(path)
    with pytest.raises(InputError, match="no column for ra"):
        read_catalogue(path)
    broken = tmp_path / "broken.vot"
    broken.write_text("not xml")
    with pytest.raises(InputError, match="cannot be read"):
        read_catalogue(broken)
    with pytest.raises(InputError, match="by its name"):
        format_of("stars.txt")


def test_vsx_answers_in_its_own_columns():
    asked = []

    def ask(ra, dec, radius):
        asked.append((ra, dec, radius))
        return Table({"Name": ["RW Her"], "Type": ["M"], "RAJ2000": [243.7], "DEJ2000": [33.1]})

    known = fetch_vsx(243.0, 33.0, 2.5, ask)
    assert asked == [(243.0, 33.0, 2.5)]
    assert known.name.tolist() == ["RW Her"] and known.kind.tolist() == ["M"] and known.catalogue == "VSX"
    assert len(fetch_vsx(0.0, 0.0, 1.0, lambda *a: None)) == 0


def test_skybot_s_motion_carries_a_place_to_another_time():
    def ask(ra, dec, radius, mjd):
        return QTable(
            {
                "Name": ["Vesta"],
                "Type": ["MB>Inner"],
                "RA": [120.0] * u.deg,
                "DEC": [60.0] * u.deg,
                "RA_rate": [36.0] * u.arcsec / u.hour,
                "DEC_rate": [-18.0] * u.arcsec / u.hour,
            }
        )

    known = fetch_skybot(120.0, 60.0, 3.0, 58354.0, ask)
    later = known.at(58354.0 + 2 / 24)
    # 72 arcsec on the sky are twice that in RA at 60 degrees.
    assert later.ra_deg[0] == pytest.approx(120.0 + 144 / 3600, abs=1e-6)
    assert later.dec_deg[0] == pytest.approx(60.0 - 36 / 3600, abs=1e-6)


def test_a_silent_service_is_an_input_error():
    def ask(*where):
        raise OSError("Name or service not known")

    with pytest.raises(InputError, match="VSX does not answer: Name or service"):
        fetch_vsx(1.0, 2.0, 3.0, ask)
    with pytest.raises(InputError, match="SkyBoT does not answer"):
        fetch_skybot(1.0, 2.0, 3.0, 58354.0, ask)

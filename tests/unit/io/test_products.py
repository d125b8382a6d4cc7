"""Products: whole or not at all, and readable as they are."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, VarianceUncertainty
from astropy.table import MaskedColumn, Table

from difflapse.errors import OutputError
from difflapse.io.celestial import binned_wcs_header, read_sky
from difflapse.io.products import (
    atomic,
    product_names,
    read_numbers,
    sha256,
    write_image,
    write_json,
    write_rows,
    write_table,
    write_text,
    write_toml,
)


def test_products_are_named_after_their_frames_and_twins_are_told_apart():
    files = ["n/a.fits.fz", "n/b.fit.gz", "m/a.fits", "c.FTS", "d.e.fits"]
    assert product_names(files) == ["a_0000.fits", "b.fits", "a_0002.fits", "c.fits", "d.e.fits"]


def test_a_finished_file_bears_its_name_and_nothing_else_stays(tmp_path):
    path = tmp_path / "a.txt"
    with atomic(path) as temporary:
        temporary.write_text("done")
        assert not path.exists()
        assert temporary.suffix == ".txt"
    assert path.read_text() == "done"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="no space left") as caught, atomic(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.exit_code == 6
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="no such file or directory"):
        write_text(tmp_path / "nowhere" / "a.txt", "x")


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "a").write_text("x")
    with pytest.raises(OutputError):
        write_text(tmp_path / "a" / "b.txt", "x")


def test_a_colour_image_reads_as_ccddata(tmp_path, solved):
    rng = np.random.default_rng(1)
    data = rng.normal(100, 3, (3, 10, 15))
    mask = np.zeros(data.shape, np.uint8)
    mask[1, 2, 3] = 2
    wcs = binned_wcs_header(read_sky([fits.Header(solved())], (20, 30)).header, 2, (0, 0), (10, 15), planes=3)
    path = tmp_path / "template.fits"
    cards = [("LTM1_1", 0.5, "product = LTM * native + LTV"), ("DIFFMODE", "template", "")]
    write_image(path, data, variance=data / 2, mask=mask, bits={"NODATA": 1, "HOT": 2}, cards=cards, wcs=wcs)
    read = CCDData.read(path)
    assert read.unit == "adu"
    np.testing.assert_allclose(read.data, data.astype(np.float32))
    assert isinstance(read.uncertainty, VarianceUncertainty)
    np.testing.assert_allclose(read.uncertainty.array, (data / 2).astype(np.float32))
    assert np.argwhere(read.mask).tolist() == [[1, 2, 3]]
    assert read.header["LTM1_1"] == 0.5
    sky = read.wcs.celestial.pixel_to_world(7.0, 4.5)
    # The frame's centre: native (14.5, 9.5).
    assert (sky.ra.deg, sky.dec.deg) == (pytest.approx(150.0, abs=1e-9), pytest.approx(20.0, abs=1e-9))
    with fits.open(path) as hdus:
        assert hdus[0].data.dtype == np.dtype(">f4")
        assert hdus[0].header["CREATOR"].startswith("difflapse")
        assert hdus["MASK"].data.dtype == np.uint8
        header = hdus["MASK"].header
        assert {header["BITNAM0"]: header["BITVAL0"], header["BITNAM1"]: header["BITVAL1"]} == {
            "NODATA": 1,
            "HOT": 2,
        }
        assert hdus["UNCERT"].header["UTYPE"] == "VarianceUncertainty"


def test_a_plain_image_reads_as_ccddata(tmp_path):
    data = np.arange(12.0).reshape(3, 4)
    write_image(tmp_path / "a.fits", data, mask=data > 9, unit="electron/s")
    read = CCDData.read(tmp_path / "a.fits")
    assert str(read.unit) == "electron / s"
    assert read.mask.sum() == 2
    assert read.uncertainty is None


def test_shapes_must_agree(tmp_path):
    with pytest.raises(ValueError, match="variance"):
        write_image(tmp_path / "a.fits", np.zeros((3, 4)), variance=np.zeros((4, 3)))
    assert os.listdir(tmp_path) == []


def test_tables(tmp_path):
    table = Table({"frame": [0, 1], "time_utc": ["2024-03-01T22:00:00", "x"]}, masked=True)
    table["time_utc"].mask = [False, True]
    write_table(tmp_path / "frames.ecsv", table)
    write_table(tmp_path / "curves.fits", table)
    for name in ("frames.ecsv", "curves.fits"):
        read = Table.read(tmp_path / name)
        assert read["frame"].tolist() == [0, 1]
        assert read["time_utc"].mask.tolist() == [False, True]


def test_toml_and_json(tmp_path):
    values = {"fps": np.float64(12.0), "n": np.int32(3), "nothing": None, "list": (1, 2), "deep": {"a": "é"}}
    write_toml(tmp_path / "run.toml", values)
    assert tomllib.loads((tmp_path / "run.toml").read_text("utf-8")) == {
        "fps": 12.0,
        "n": 3,
        "list": [1, 2],
        "deep": {"a": "é"},
    }
    write_json(tmp_path / "a.json", {**values, "bad": float("nan"), "array": np.array([1.0, np.inf])})
    read = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert read["bad"] is None
    assert read["array"] == [1.0, None]
    assert read["n"] == 3


def test_sha256(tmp_path):
    content = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(content)
    assert sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_tables_are_written_as_astropy_writes_them(tmp_path: Path) -> None:
    """Cell by cell: numbers of each kind, masked ones, text with all that must be quoted."""
    from astropy.table import MaskedColumn, Table

    table = Table(meta={"note": "a b"})
    table["number"] = MaskedColumn([1, 2, 3, 4], mask=[False, True, False, False])
    table["value"] = MaskedColumn([1.5, np.nan, 1e-17, -0.1], unit="pix", mask=[False, False, True, False])
    table["small"] = np.array([0.1, 2.5, -3e9, np.inf], np.float32)
    table["good"] = [True, False, True, False]
    table["text"] = ["plain", "", 'two "words" here', "# no comment"]
    write_table(tmp_path / "ours.ecsv", table)
    table.write(tmp_path / "theirs.ecsv", format="ascii.ecsv")
    assert (tmp_path / "ours.ecsv").read_text() == (tmp_path / "theirs.ecsv").read_text()
    again = Table.read(tmp_path / "ours.ecsv", format="ascii.ecsv")
    assert again["value"].unit == "pix" and list(again["number"].mask) == [False, True, False, False]
    assert list(again["text"].filled("")) == list(table["text"])


def test_names_that_are_no_ascii_are_kept_readable_in_headers_and_tables(tmp_path: Path) -> None:
    write_image(tmp_path / "a.fits", np.zeros((3, 5)), cards=[("REFFILE", "été/β1.fits", "a name")])
    assert fits.getheader(tmp_path / "a.fits")["REFFILE"] == r"\xe9t\xe9/\u03b21.fits"
    table = Table({"file": ["Nächte\n.fits", "b.fits"], "n": [1, 2]}, meta={"OBJECT": "Ü"})
    write_table(tmp_path / "t.fits", table)
    back = Table.read(tmp_path / "t.fits")
    assert [str(v) for v in back["file"]] == [r"N\xe4chte\n.fits", "b.fits"]
    assert back.meta["OBJECT"] == r"\xdc"
    assert table["file"][0] == "Nächte\n.fits"
    hidden = Table({"file": MaskedColumn(["ö", "p"], mask=[False, True])})
    write_table(tmp_path / "m.fits", hidden)
    assert Table.read(tmp_path / "m.fits")["file"].tolist() == [r"\xf6", ""]


def test_rows_with_letters_are_read_back_as_astropy_would_have_written_them(tmp_path):
    """Cards, letters of one and of several, numbers, and both checksums; the file ends on a block."""
    kind = [("star", ">i4"), ("channel", "S1"), ("time", ">f8"), ("name", "S5"), ("flags", "u1")]
    rows = np.zeros(3001, kind)
    rows["star"], rows["time"] = np.arange(3001), np.linspace(58000, 58001, 3001)
    rows["channel"] = np.array([b"R", b"G", b"B"])[np.arange(3001) % 3]
    rows["name"] = [b"M%d" % (n % 111) for n in range(3001)]
    header = fits.Header([("TUNIT3", "d"), ("SITE", "Hawaii", "where")])
    path = tmp_path / "rows.fits"
    write_rows(path, rows, header, "CURVES")
    same = fits.BinTableHDU(rows, name="CURVES")
    assert path.stat().st_size % 2880 == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(path, checksum=True) as hdus:
            hdus.verify("exception")
            found = hdus["CURVES"]
            assert found.columns["time"].unit == "d"
            assert (found.header["SITE"], found.header.comments["SITE"]) == ("Hawaii", "where")
            assert [c.format for c in found.columns] == [c.format for c in same.columns]
            assert "TDIM4" not in found.header
            for name in rows.dtype.names:
                assert (found.data[name] == same.data[name]).all()
            assert found.data["name"][112] == "M1"


def test_numbers_of_a_table_are_those_that_astropy_reads(tmp_path: Path) -> None:
    """Of the rows that have an owner, in any place of the table, whatever stands in the text beside them."""
    rng = np.random.default_rng(4)
    owner = np.ma.masked_array(rng.integers(-1, 4, 40), rng.random(40) < 0.2)
    words = [f'a "{n}" #, b' if n % 3 else "" for n in range(40)]
    x = np.ma.masked_array(rng.normal(1000, 300, 40), rng.random(40) < 0.3)
    table = Table({"note": words, "change": owner, "x_pix": x, "frame": np.arange(40)})
    table.meta["comment"] = "a head of # some lines"
    write_table(tmp_path / "t.ecsv", table)
    found = read_numbers(tmp_path / "t.ecsv", ("change", "frame", "x_pix"))
    theirs = Table.read(tmp_path / "t.ecsv", format="ascii.ecsv")
    own = theirs[np.ma.filled(theirs["change"], -1) >= 0]
    assert 5 < len(own) < 40
    assert list(found) == ["change", "frame", "x_pix"]
    for name, values in found.items():
        assert values.dtype == float
        np.testing.assert_array_equal(values, np.ma.filled(np.ma.asarray(own[name]).astype(float), np.nan))
    nothing = table[np.ma.filled(owner, -1) < 0]
    write_table(tmp_path / "none.ecsv", nothing)
    assert all(len(v) == 0 for v in read_numbers(tmp_path / "none.ecsv", ("change", "x_pix")).values())
    with pytest.raises(ValueError, match="y_pix"):
        read_numbers(tmp_path / "t.ecsv", ("change", "y_pix"))

"""What plate solvers read and write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from difflapse.errors import OptionError, ReadError
from difflapse.io.solver import list_index_files, read_solution, write_xylist
from difflapse.model import Stars

CARDS = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 243.0,
    "CRVAL2": 33.0,
    "CRPIX1": 150.5,
    "CRPIX2": 100.5,
    "CD1_1": -0.003,
    "CD1_2": 0.0,
    "CD2_1": 0.0,
    "CD2_2": 0.003,
}


def index(path: Path) -> Path:
    fits.PrimaryHDU(header=fits.Header({"AN_FILE": "QUAD", "NQUADS": 3, "INDEXID": 4107})).writeto(path)
    return path


def test_a_star_list_counts_pixels_from_one(tmp_path: Path) -> None:
    one = np.ones(2)
    stars = Stars(np.array([0.0, 20.25]), np.array([3.5, 0.0]), 7 * one, one, one, one[None], one < 0)
    write_xylist(tmp_path / "field.xyls", stars)
    table = fits.getdata(tmp_path / "field.xyls", 1)
    np.testing.assert_array_equal(table["X"], [1.0, 21.25])
    np.testing.assert_array_equal(table["Y"], [4.5, 1.0])
    np.testing.assert_array_equal(table["FLUX"], [7.0, 7.0])


def test_index_files_are_known_by_what_they_hold(tmp_path: Path) -> None:
    folder = tmp_path / "indexes"
    folder.mkdir()
    first, second = index(folder / "index-4107.fits"), index(folder / "b.fits")
    fits.PrimaryHDU(np.zeros((3, 4))).writeto(folder / "image.fits")
    (folder / "broken.fits").write_text("no FITS")
    (folder / "note.txt").write_text("no FITS")
    assert list_index_files((str(folder), str(first))) == (second.resolve(), first.resolve())
    assert list_index_files((str(first),)) == (first.resolve(),)


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="is not there"):
        list_index_files((str(tmp_path / "none"),))
    fits.PrimaryHDU(np.zeros((3, 4))).writeto(tmp_path / "image.fits")
    with pytest.raises(OptionError, match="none of the 1 files"):
        list_index_files((str(tmp_path),))


def test_a_solution_is_read_from_files_and_from_values(tmp_path: Path) -> None:
    fits.PrimaryHDU(header=fits.Header(CARDS)).writeto(tmp_path / "s.wcs")
    columns = [
        fits.Column(n, "D", array=np.array(v)) for n, v in (("RA", [243.1, 242.9]), ("DEC", [33.0, 32.5]))
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "s.rdls")
    by_file = read_solution(tmp_path / "s.wcs", tmp_path / "s.rdls", (200, 300))
    by_value = read_solution(CARDS, np.array([[243.1, 33.0], [242.9, 32.5]]), (200, 300))
    assert by_file[0] == by_value[0]
    for one in (by_file, by_value):
        np.testing.assert_array_equal(one[1], [243.1, 242.9])
        np.testing.assert_array_equal(one[2], [33.0, 32.5])


def test_a_damaged_solution_is_an_error_of_its_frame(tmp_path: Path) -> None:
    stars = np.zeros((2, 2))
    with pytest.raises(ReadError, match="cannot be read"):
        read_solution(tmp_path / "none.wcs", stars, (200, 300))
    with pytest.raises(ReadError, match="cannot be used"):
        read_solution({**CARDS, "CD1_1": 0.0, "CD2_2": 0.0}, stars, (200, 300))
    with pytest.raises(ReadError, match="cannot be read"):
        read_solution(CARDS, np.zeros(3), (200, 300))

"""The folders of real frames: each is sorted as an astronomer would sort it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from difflapse.io import discover, read_frame
from difflapse.io.info import describe
from difflapse.io.times import utc_text

ROOT = os.environ.get("DIFFLAPSE_REAL_DATA", "")


def folder(name: str) -> str:
    path = Path(ROOT, name)
    if not ROOT or not path.is_dir():
        pytest.skip(f"real data {name!r} not found: DIFFLAPSE_REAL_DATA is {ROOT!r}")
    return str(path)


def test_panoptes_is_sorted_and_explained():
    inventory = discover([folder("panoptes")])
    assert [[f.file for f in s.frames] for s in inventory.sequences] == [["unsolved.fits", "solved.fits.fz"]]
    first, second = inventory.sequences[0].frames
    assert first.mosaic == second.mosaic == "GBRG"
    assert (first.wcs_header == "", second.wcs_header == "") == (True, False)
    assert first.time_source == "FILENAME"
    assert utc_text(first.start_mjd or 0, 0) == "2016-09-09T08:13:14"
    assert any("DATE-OBS is 48 s before FILENAME" in note for note in first.notes)
    assert (first.bias_adu, first.latitude_deg, first.exposure_s) == (2048.0, 19.54, 120.4)
    reasons = {item.file: item.reason for item in inventory.left_out}
    assert set(reasons) == {"noheader.fits", "pole.fits", "rotation.fits", "tiny.fits"}
    assert "200x200" in reasons["tiny.fits"]
    assert "pointing" in reasons["pole.fits"]


def test_panoptes_pixels_are_exact_and_saturation_lies_below_the_clip():
    for facts in discover([folder("panoptes")]).sequences[0].frames:
        frame = read_frame(facts)
        np.testing.assert_array_equal(frame.data, fits.getdata(facts.path))
        assert np.count_nonzero(frame.data >= facts.saturation_adu) > 3


def test_hatp32_is_one_sequence_in_time_order_and_quick():
    begun = time.perf_counter()
    inventory = discover([folder("hatp32-microobs")])
    assert time.perf_counter() - begun < 10.0
    (sequence,) = inventory.sequences
    assert (len(sequence.frames), inventory.left_out) == (142, ())
    starts = np.array([f.start_mjd for f in sequence.frames])
    gaps = np.diff(starts) * 86400
    assert gaps[0] == pytest.approx(149, abs=1)
    assert np.all((gaps[1:] > 170) & (gaps[1:] < 190))
    assert utc_text(starts[0]) == "2017-12-20T01:33:43.317"
    first = sequence.frames[0]
    assert (first.saturation_adu, first.longitude_deg, first.dtype) == (4095.0, -110.88, "int16")


def test_hatp32_solved_is_one_sequence_with_wcs():
    inventory = discover([folder("hatp32-wcs-derived")])
    (sequence,) = inventory.sequences
    assert len(sequence.frames) == 48
    assert describe(inventory)["sequences"][0]["wcs"] == "TAN in 48 of 48 frames"
    facts = sequence.frames[7]
    np.testing.assert_array_equal(read_frame(facts).data, fits.getdata(facts.path))


def test_the_sun_is_one_sequence_without_a_celestial_wcs():
    inventory = discover([folder("soho-eit")])
    (sequence,) = inventory.sequences
    assert len(sequence.frames) == 13
    assert {f.wcs_header for f in sequence.frames} == {""}
    assert {f.mosaic for f in sequence.frames} == {""}
    assert any("7.596 to 13 s" in note for note in sequence.notes)
    masked = [0 if (mask := read_frame(f).mask) is None else int(mask.sum()) for f in sequence.frames]
    assert masked[:3] == [16, 16, 0]


def test_donuts():
    (sequence,) = discover([folder("donuts-j1749")]).sequences
    assert [f.file for f in sequence.frames] == [f"J17490840-00{i}.fit" for i in (1, 2, 3)]
    first = sequence.frames[0]
    assert (first.gain_e_adu, first.read_noise_e, first.saturation_adu) == (1.22, 14.0, 65535.0)
    assert first.longitude_deg == pytest.approx(-17.879, abs=1e-3)
    assert read_frame(first).data.dtype == np.uint16


def test_all_folders_together_stay_apart():
    names = ("donuts-j1749", "hatp32-microobs", "panoptes", "soho-eit")
    inventory = discover([folder(name) for name in names])
    assert [len(s.frames) for s in inventory.sequences] == [13, 3, 2, 142]
    assert len({s.name for s in inventory.sequences}) == 4

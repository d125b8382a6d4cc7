"""Whole runs on real frames: complete products, and reasons for what is left out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from astropy.nddata import CCDData

import difflapse
from difflapse.pipeline.results import Run


def assert_complete(run: Run) -> None:
    """Every product is there, reads, and agrees with the others."""
    for night in run.sequences:
        used = [f for f in night.frames if f.used]
        assert len(used) >= 2
        names = set(night.summary()["products"])
        assert {"frames.ecsv", "transforms.json", "timelapse.mp4", "timelapse.json"} <= names
        assert all((night.folder / name).is_file() for name in names)
        record = json.loads((night.folder / "timelapse.json").read_text())
        with av.open(str(night.movie)) as container:
            pictures = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
        assert len(pictures) == len(record["frames"]) == len(used)
        assert [f["file"] for f in record["frames"]] == [f.file for f in used]
        assert pictures[0].shape == (record["height"], record["width"])
        assert all(p.std() > 3 for p in pictures)
        for frame in night.frames:
            assert frame.used or frame.reason
        times = [f.time_utc for f in used]
        assert all(times)
        assert times == sorted(times)
        for path in night.folder.rglob("*.fits"):
            if path.name in ("model_error.fits", "lightcurves.fits"):
                continue
            if path.name == "residuals.fits":
                assert set(night.residuals["frame"]) <= {f.number for f in used}
                continue
            image = CCDData.read(path)
            assert image.unit == "adu"
            good = ~image.mask.astype(bool)
            assert good.mean() > 0.2
            assert np.isfinite(image.data[good]).all()
            assert (image.uncertainty.array[good] > 0).all()


def widths(run: Run) -> list[float]:
    """Robust width of each saved difference, in sigma."""
    found = []
    for path in sorted((run.out / "differences").iterdir()):
        image = CCDData.read(path)
        data, variance = np.atleast_3d(image.data.T).T, np.atleast_3d(image.uncertainty.array.T).T
        combined = (data / variance).sum(0) / np.sqrt((1 / variance).sum(0))
        mask = image.mask if image.mask.ndim == 2 else image.mask[0]
        good = combined[mask == 0]
        found.append(float(1.4826 * np.median(np.abs(good - np.median(good)))))
    return found


def test_a_folder_of_a_panoptes_unit(real_data: Path, tmp_path: Path) -> None:
    """Two crops of frames that follow each other, among others: used; every other file has its reason."""
    run = difflapse.run(real_data / "panoptes", tmp_path / "out", save="differences")
    assert_complete(run)
    used = [f.file for night in run.sequences for f in night.frames if f.used]
    assert len(used) == 2
    left = run.summary()["left_out"]
    assert {item["file"] for item in left} == {"noheader.fits", "pole.fits", "rotation.fits", "tiny.fits"}
    assert all(item["reason"] for item in left)
    assert 0.9 < widths(run)[0] < 1.15
    (other,) = [f for f in run.frames if f is not run.reference]
    assert float(run.table[other.number]["rms_pix"]) < 0.3
    x, y = other.to_reference(349.5, 349.5)
    sign = 1 if other.number == 1 else -1
    assert (sign * (x - 349.5), sign * (y - 349.5)) == pytest.approx((-0.53, -1.76), abs=0.1)


def test_the_sun_as_a_running_difference(real_data: Path, tmp_path: Path) -> None:
    run = difflapse.run(real_data / "soho-eit", tmp_path / "out", diff="running", save="differences")
    assert_complete(run)
    for night in run.sequences:
        used = [f for f in night.frames if f.used]
        assert night.table.meta["diff"] == "running"
        assert night.timelapse["frames"][0]["template"] is None
        assert [f["template"] for f in night.timelapse["frames"][1:]] == [f.file for f in used[:-1]]
        assert night.judged_on == {"pixels": len(used) - 1}, "the Sun has no stars"


def test_three_frames_of_a_small_telescope(real_data: Path, tmp_path: Path) -> None:
    run = difflapse.run(real_data / "donuts-j1749", tmp_path / "out", save="aligned,differences")
    assert_complete(run)
    assert all(f.used for f in run.frames)
    assert np.all(run.table["rms_pix"][run.table["method"] != "reference"] < 1.0)


def test_a_transit_every_twelfth_frame(real_data: Path, tmp_path: Path) -> None:
    """A monochrome camera without a WCS, over four hours: stars alone align it, to a tenth of a pixel."""
    folder = tmp_path / "night"
    folder.mkdir()
    for path in sorted((real_data / "hatp32-microobs").glob("*.FITS"))[::12]:
        shutil.copy(path, folder)
    run = difflapse.run(folder, tmp_path / "out", save="differences")
    assert_complete(run)
    assert all(f.used for f in run.frames)
    assert run.table.meta["diff"] == "template"
    rms = run.table["rms_pix"][run.table["method"] != "reference"]
    assert np.median(rms) < 0.5
    assert np.median(widths(run)) == pytest.approx(1.0, abs=0.15)


def test_the_certificate_of_a_wide_lens(real_data: Path, tmp_path: Path) -> None:
    """Six frames over a night: residuals hold no pattern of a hundredth of a pixel beyond their noise."""
    folder = tmp_path / "night"
    folder.mkdir()
    for path in sorted((real_data / "hatp32-wcs-derived").glob("*.fits.fz"))[::9]:
        shutil.copy(path, folder)
    run = difflapse.run(folder, tmp_path / "out")
    assert_complete(run)
    told = run.certificate().to_mapping()
    assert told["frames"]["used"] == 6
    assert told["frames"]["without_rms"] == 0
    assert 0.05 < told["rms"]["median_pix"] < told["rms"]["worst_pix"] < 0.25
    assert told["p95"]["median_pix"] == pytest.approx(2 * told["rms"]["median_pix"], rel=0.25)
    assert told["corner"]["median_pix"] == pytest.approx(told["rms"]["median_pix"], rel=0.5)
    assert told["rms"]["median_arcsec"] == pytest.approx(5.21 * told["rms"]["median_pix"], rel=0.01)
    assert told["systematic"]["fixed"]["rms_pix"] < 0.03
    assert told["noise"]["photon_limit_pix"] < told["noise"]["rms_pix"]

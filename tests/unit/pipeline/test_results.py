"""What a finished run tells: frames and their transforms, masked times, several sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

import difflapse
from difflapse.errors import DifflapseError, InputError
from difflapse.io.products import write_json, write_table, write_text
from difflapse.model import Alignment, LeftOut, ProductGrid, Transform
from difflapse.pipeline import tables

from .conftest import facts
from .test_crop import header

MOVED = Transform.from_matrix(np.array([[0.0, -1.0, 300.0], [1.0, 0.0, 4.5]]), "euclidean")


def finished(folder: Path, wcs: str = "", left: tuple[LeftOut, ...] = (), name: str = "field") -> Path:
    """The folder of a run on four frames: one skipped, one without a time."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = [facts(0, wcs_header=wcs), facts(1), facts(2), facts(3, start_mjd=None)]
    alignments: list[Alignment | None] = [
        Alignment(Transform.identity(), "reference", 50, 0.0),
        Alignment(MOVED, "asterism", 40, 0.1),
        None,
        Alignment(MOVED, "wcs", 30, 0.3),
    ]
    rows: list[dict[str, Any]] = [
        tables.frame_row(k, f, f.file, "" if a else "clouds", alignment=a)
        for k, (f, a) in enumerate(zip(frames, alignments, strict=True))
    ]
    rows += [tables.left_out_row(item) for item in left]
    meta = {"sequence": name, "reference_frame": 0, "diff": "running"}
    write_table(folder / "frames.ecsv", tables.frames_table(rows, meta))
    items = [(k, f, a) for k, (f, a) in enumerate(zip(frames, alignments, strict=True)) if a is not None]
    grid = ProductGrid((120, 180), 2, (10, 4))
    write_json(folder / "transforms.json", tables.transforms_record(frames[0], 0, items, grid))
    write_json(folder / "timelapse.json", {"frames": []})
    write_text(folder / "run.toml", tomli_w.dumps({"provenance": {"products": ["frames.ecsv"]}}))
    return folder


def test_frames_map_to_the_reference_and_back(tmp_path: Path) -> None:
    run = difflapse.open_run(finished(tmp_path / "out"))
    frame = run.frames[1]
    assert (frame.number, frame.used, frame.file) == (1, True, "night/f01.fits.fz")
    x, y = frame.to_reference(np.array([0.0, 10.0]), np.array([20.0, 0.0]))
    assert np.allclose([x, y], [[280.0, 300.0], [4.5, 14.5]])
    u, v = frame.from_reference(x, y)
    assert np.allclose([u, v], [[0.0, 10.0], [20.0, 0.0]])
    assert run.reference.number == 0


def test_a_skipped_frame_raises_and_says_why(tmp_path: Path) -> None:
    frame = difflapse.open_run(finished(tmp_path / "out")).frames[2]
    assert not frame.used
    assert frame.reason == "clouds"
    for way in (frame.to_reference, frame.from_reference):
        with pytest.raises(InputError, match=r"frame 2 .* clouds"):
            way(1.0, 2.0)


def test_used_frames_have_no_reason(tmp_path: Path) -> None:
    run = difflapse.open_run(finished(tmp_path / "out"))
    assert [f.reason for f in run.frames] == ["", "", "clouds", ""]


def test_times_are_astropys_or_none(tmp_path: Path) -> None:
    frames = difflapse.open_run(finished(tmp_path / "out")).frames
    assert frames[3].time is None
    assert frames[3].time_utc == ""
    assert frames[1].time.mjd == pytest.approx(facts(1).mid_mjd, abs=1e-8)
    assert frames[1].time.scale == "utc"


def test_a_run_without_a_template_says_so(tmp_path: Path) -> None:
    run = difflapse.open_run(finished(tmp_path / "out"))
    with pytest.raises(InputError, match="running"):
        _ = run.template
    assert run.movie is None


def test_the_wcs_is_that_of_the_products_pixels(tmp_path: Path) -> None:
    """With the SIP polynomial of the reference; the products begin at native (10, 4), two pixels a step."""
    from astropy.io import fits
    from astropy.wcs import WCS

    run = difflapse.open_run(finished(tmp_path / "out", header(sip=True)))
    native = WCS(fits.Header.fromstring(header(sip=True)))
    i, j = np.array([0.0, 44.25, 160.0]), np.array([3.0, 100.5, 7.0])
    sky, truth = run.wcs.pixel_to_world(i, j), native.pixel_to_world(2 * i + 10.5, 2 * j + 4.5)
    assert sky.separation(truth).arcsec.max() < 1e-4
    assert difflapse.open_run(finished(tmp_path / "without")).wcs is None


def test_a_summary_is_plain_values(tmp_path: Path) -> None:
    import json

    run = difflapse.open_run(finished(tmp_path / "out", left=(LeftOut("dark.fits", "a dark"),)))
    summary = run.summary()
    json.dumps(summary)
    (night,) = summary["sequences"]
    assert (night["n_frames"], night["n_used"], night["n_skipped"]) == (4, 3, 1)
    assert night["median_rms_pix"] == pytest.approx(0.2)
    assert (night["worst_rms_pix"], night["worst_rms_file"]) == (0.3, "night/f03.fits.fz")
    assert night["skipped"] == [{"file": "night/f02.fits.fz", "reason": "clouds"}]
    assert night["methods"] == {"reference": 1, "asterism": 1, "wcs": 1}
    assert summary["left_out"] == [{"file": "dark.fits", "reason": "a dark"}]


def several(out: Path) -> Path:
    left = LeftOut("dark.fits", "a dark")
    for name in ("one", "two"):
        finished(out / name, name=name)
    rows = [
        {**tables.frame_row(0, facts(0), "f", ""), "sequence": "one"},
        {**tables.left_out_row(left), "sequence": ""},
    ]
    write_table(out / "frames.ecsv", tables.frames_table(rows, {}))
    write_json(out / "run.json", {"sequences": ["one", "two"]})
    return out


def test_several_sequences_are_asked_one_by_one(tmp_path: Path) -> None:
    run = difflapse.open_run(several(tmp_path))
    assert [night.name for night in run.sequences] == ["one", "two"]
    assert run.sequences[1].frames[1].used
    with pytest.raises(DifflapseError, match="2 sequences") as caught:
        _ = run.frames
    assert caught.value.hint == "run.sequences[0].frames"
    assert run.summary()["left_out"] == [{"file": "dark.fits", "reason": "a dark"}]
    assert "one (4 frames), two (4 frames)" in repr(run)


def test_what_a_run_has_not_is_an_attribute_error(tmp_path: Path) -> None:
    run = difflapse.open_run(finished(tmp_path / "out"))
    with pytest.raises(AttributeError):
        _ = run.no_such_thing


@pytest.mark.parametrize("make", [False, True])
def test_a_folder_without_a_run_is_an_input_error(tmp_path: Path, make: bool) -> None:
    if make:
        (tmp_path / "out").mkdir()
    with pytest.raises(InputError) as caught:
        difflapse.open_run(tmp_path / "out")
    assert str(tmp_path / "out") in str(caught.value)

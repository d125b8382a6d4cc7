"""Nights that are odd in ways nobody should notice: names in any script, a frame that was never exposed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from difflapse.errors import InputError
from difflapse.model import bits
from difflapse.pipeline.results import open_run


def test_names_in_any_script_and_an_empty_frame(call, small_night: Path, tmp_path: Path) -> None:
    night = tmp_path / "Nächte" / "星 1"
    night.mkdir(parents=True)
    files = sorted(small_night.glob("*.fits.fz"))
    for k, file in enumerate(files):
        shutil.copy(file, night / (file.name.replace(".", "_λ.", 1) if k < 2 else file.name))
    with fits.open(files[2]) as hdus:
        hdus[1].data[:] = 2048
        hdus.writeto(night / files[2].name, overwrite=True)
    out = tmp_path / "été"
    words = ["--workers", 1, "--no-reel", "--no-injection", "--save", "aligned,cube,stamps"]
    result = call("run", tmp_path / "Nächte", "-o", out, *words)
    assert result.code == 0, result.err
    frames = Table.read(out / "frames.ecsv", format="ascii.ecsv")
    skipped = frames["status"] == "skipped"
    assert list(frames["file"][skipped]) == [f"星 1/{files[2].name}"]
    assert "all of its pixels are the same, 2048 ADU" in frames["reason"][skipped][0]
    assert sum("_λ" in name for name in frames["file"]) == 2
    assert fits.getheader(out / "template.fits")["REFFILE"].isascii()
    listed = [row["file"] for row in fits.getdata(out / "cube.fits", "FRAMES")]
    assert sum(name.startswith(r"\u661f 1/2") and r"_\u03bb" in name for name in listed) == 2
    assert len(list((out / "aligned").glob("*_λ.fits"))) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="workers are copies of the program on Linux alone")
def test_copies_of_the_program_do_what_new_processes_do(small_night: Path, tmp_path: Path) -> None:
    """The program's own workers, and those of a server that is used where a library may have threads."""
    made = []
    for threads in ("1", "2"):
        out = tmp_path / threads
        done = subprocess.run(
            [sys.executable, "-m", "difflapse", "run", small_night, "-o", out, "--workers", "2", "--quiet"],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads},
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        names = (
            "detections.ecsv",
            "changes.ecsv",
            "frames.ecsv",
            "stars.ecsv",
            "transforms.json",
            "timelapse.mp4",
        )
        made.append({name: (out / name).read_bytes() for name in names})
    assert [name for name in made[0] if made[0][name] != made[1][name]] == []


@pytest.mark.skipif(sys.platform != "linux", reason="a copy looks at the first sensor on Linux alone")
def test_each_sequence_has_the_defects_of_its_own_sensor(small_night: Path, tmp_path: Path) -> None:
    """The first one's are looked for in a copy of the program, while it is still being loaded."""
    from difflapse import synth

    both = tmp_path / "both"
    shutil.copytree(small_night, both / "one", ignore=shutil.ignore_patterns("truth.json"))
    other = synth.preset("panoptes", frames=4, shape=(240, 360), seed=8)
    synth.simulate(str(both / "two"), other, workers=1)
    counts = []
    for workers in ("1", "2"):
        out = tmp_path / workers
        done = subprocess.run(
            [sys.executable, "-m", "difflapse", "run", both, "-o", out, "--workers", workers, "--no-changes", "-q"],
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        tables = [Table.read(path, format="ascii.ecsv") for path in sorted(out.glob("*/frames.ecsv"))]
        counts.append([table.meta["sensor_defects"] for table in tables])
    assert counts[0] == counts[1]
    assert len(set(counts[0])) == 2
    assert min(counts[0]) > 0


def test_movies_alone(call, small_night: Path, tmp_path: Path) -> None:
    """Nothing is looked for, planted or measured, no empty file is written, and who asks is told why."""
    out = tmp_path / "out"
    result = call("run", small_night, "-o", out, "--workers", 1, "--no-changes")
    assert result.code == 0, result.err
    made = {path.name for path in out.iterdir()}
    assert made == {
        "frames.ecsv", "report.html", "report_files", "residuals.fits", "run.toml", "state.npz", "template.fits",
        "template.png", "timelapse.json", "timelapse.mp4", "trails.png", "transforms.json",
    }  # fmt: skip
    assert "not looked for: only the movie was asked for" in result.out
    assert "only the movie was asked for" in (out / "report_files" / "night.js").read_text()
    night = open_run(out).sequences[0]
    with pytest.raises(InputError, match="only the movie was asked for"):
        _ = night.changes
    with pytest.raises(InputError):
        _ = night.varying
    again = call("verify", out, "--frames", "3")
    assert again.code == 0, again.err
    plan = call("run", small_night, "-o", tmp_path / "other", "--no-changes", "--plan")
    assert "nothing that changed is looked for" in plan.out
    asked = (["--save", "stamps"], ["--crossmatch", "vsx"], ["--inset", "best"], ["--false-alarms", "1"])
    for words in asked:
        refused = call("run", small_night, "-o", tmp_path / "other", "--no-changes", *words)
        assert refused.code == 2
        assert (
            f"{words[0]} {words[1]}".removesuffix(" vsx").removesuffix(" 1") in refused.err
            and "--no-changes" in refused.err
        )


def test_what_was_asked_and_what_was_done_are_told_apart(call, small_night: Path, tmp_path: Path) -> None:
    """Few frames make no template; a crop that reaches beyond them is cut; nothing is planted: each is explained."""
    out = tmp_path / "out"
    files = sorted(small_night.glob("*.fits.fz"))[:3]
    told = call("info", *files).out
    assert (
        "header's FILTER RGGB (see mosaic)" in told and "GBRG is used: FILTER=RGGB without BAYERPAT" in told
    )
    with fits.open(files[0]) as hdus:
        ny, nx = hdus[1].shape
    result = call("run", *files, "-o", out, "--roi", f"10,10,{nx},{ny}", "--workers", 1, "--no-reel")
    assert result.code == 0, result.err
    assert (
        f"beyond the reference's {nx}x{ny} pixels: x 10 to {nx - 1}, y 10 to {ny - 1} is kept" in result.err
    )
    few = "frames are too few for a template difference; it needs 4"
    assert re.search(rf"difference running: [23] {few}\n", result.out)
    assert re.search(r"depth      not measured: [23] frames can be compared; [34] are needed\n", result.out)
    with (out / "run.toml").open("rb") as file:
        record = tomllib.load(file)
    assert record["diff"] == "template"
    assert record["provenance"]["diff"] == "running"
    assert record["provenance"]["diff_note"].endswith(few)


@pytest.mark.parametrize("said", [0, 65535])
def test_twelve_bits_that_a_header_knows_nothing_of(
    call, small_night: Path, tmp_path: Path, said: int
) -> None:
    """Cut at 4095 in uint16: found in the pixels once, told, kept for what is made of the run later."""
    night, out = tmp_path / "night", tmp_path / "out"
    night.mkdir()
    for file in sorted(small_night.glob("*.fits.fz")):
        with fits.open(file) as hdus:
            data, whole = np.minimum(hdus[1].data, 4095), hdus[1].header
        header = fits.Header({key: whole[key] for key in ("DATE-OBS", "EXPTIME")} | {"BAYERPAT": "GBRG"})
        if said:
            header["SATURATE"] = said
        fits.writeto(night / file.name.removesuffix(".fz"), data, header)
    told = call("info", night).out
    assert ("saturates at 65535 ADU" if said else "saturation unknown, 65535 ADU at most") in told
    result = call("run", night, "-o", out, "--workers", 1, "--no-reel", "--no-injection")
    assert result.code == 0, result.err
    noted = (
        "the header says that pixels saturate at 65535 ADU"
        if said
        else "no header says where pixels saturate"
    )
    assert noted in result.err and "4095 is used" in result.err
    with (out / "run.toml").open("rb") as file:
        camera = tomllib.load(file)["provenance"]["camera"]
    assert (camera["saturation_adu"], camera["saturation_source"]) == (4095.0, "pixels")
    stars = Table.read(out / "stars.ecsv", format="ascii.ecsv")
    assert np.count_nonzero(stars["flags"] & bits.SATURATED) >= 3
    assert call("verify", out).code == 0

"""``difflapse certificate`` and ``--require-rms``: both sides of a limit, and figures."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

import difflapse
from difflapse.cli.app import main

try:
    import matplotlib
except ImportError:
    matplotlib = None  # type: ignore[assignment]

needs_figures = pytest.mark.skipif(matplotlib is None, reason="matplotlib is not installed")


@pytest.fixture(scope="module")
def kept(small_night: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the small night beside its inputs; copy it, never write to it."""
    out = tmp_path_factory.mktemp("kept") / "out"
    assert main(["run", str(small_night), "-o", str(out), "--workers", "1", "-q"]) == 0
    return out


@pytest.fixture
def out(kept: Path) -> Path:
    """A copy of that run beside it, so that its inputs are found."""
    copy = kept.parent / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(kept, copy)
    return copy


def worst(out: Path) -> float:
    return float(difflapse.open_run(out).summary()["sequences"][0]["worst_rms_pix"])


@pytest.mark.parametrize("factor, code", [(0.999, 5), (1.001, 0)])
def test_a_run_fails_just_where_its_worst_frame_does(
    call, small_night: Path, kept: Path, tmp_path: Path, factor: float, code: int
) -> None:
    limit = f"{factor * worst(kept):.6f}"
    target = tmp_path / "out"
    result = call("run", small_night, "-o", target, "--workers", 1, "-q", "--require-rms", limit)
    if code:
        result.assert_failed(5, "px rms when held out", limit.rstrip("0"), "1 of 3 frames", "--require-rms")
    assert result.code == code
    assert tomllib.loads((target / "run.toml").read_text())["require_rms"] == float(limit)
    for product in ("timelapse.mp4", "frames.ecsv", "residuals.fits", "transforms.json"):
        assert (target / product).stat().st_size > 0


def test_frames_without_an_rms_do_not_pass(call, small_night: Path, tmp_path: Path) -> None:
    words = ["run", small_night, "-o", tmp_path / "out", "--workers", 1, "-q", "--align", "none"]
    call(*words, "--require-rms", 5).assert_failed(5, "has no rms", "(and 3 more)")
    assert not (tmp_path / "out" / "residuals.fits").exists()


@pytest.mark.parametrize("limit", ["-0.1", "nan", "inf", "small"])
def test_a_limit_must_be_pixels(call, limit: str) -> None:
    call("run", "x", "--require-rms", limit).assert_failed(2, "--require-rms is")


def test_a_finished_run_tells_how_well_it_is_aligned(call, out: Path) -> None:
    result = call("certificate", out, "--no-figures")
    assert (result.code, result.err) == (0, "")
    for word in (
        "5 frames used",
        "interpolated 1",
        "median frame",
        "95th percentile",
        "corners",
        "photons alone",
        "pattern",
    ):
        assert word in result.out
    assert f"{worst(out):.4f} px" in result.out
    assert not (out / "certificate").exists()


def test_a_finished_run_is_judged_by_another_limit(call, out: Path) -> None:
    limit = worst(out)
    assert call("certificate", out, "--no-figures", "-q", "--require-rms", 1.001 * limit).code == 0
    call("certificate", out, "--no-figures", "-q", "--require-rms", 0.999 * limit).assert_failed(5, "px rms")
    told = json.loads(call("certificate", out, "--no-figures", "--json", "--require-rms", 0.999 * limit).out)
    assert told["sequences"][0]["reached"] is False
    assert told["sequences"][0]["rms"]["worst_pix"] == pytest.approx(limit)


@needs_figures
def test_figures_are_drawn_from_the_inputs_and_go_with_the_run(call, out: Path, small_night: Path) -> None:
    result = call("certificate", out, "--pair", 3, "--theme", "dark")
    assert (result.code, result.err) == (0, "")
    names = {"night.png", "residuals.png", "pair.png"}
    if (out / "completeness.ecsv").exists():
        names.add("completeness.png")
    assert {path.name for path in (out / "certificate").iterdir()} == names
    assert all(str(Path("certificate") / name) in result.out for name in names)
    (out / "certificate" / "mine.txt").write_text("mine")
    assert call("run", small_night, "-o", out, "--workers", 1, "-q", "--overwrite").code == 0
    assert [path.name for path in (out / "certificate").iterdir()] == ["mine.txt"]


@needs_figures
def test_inputs_that_moved_are_found_where_they_are_said_to_be(
    call, kept: Path, small_night: Path, tmp_path: Path
) -> None:
    shutil.copytree(kept, tmp_path / "far" / "out")
    for folder in (tmp_path / "far" / "out", tmp_path / "elsewhere"):
        folder.mkdir(exist_ok=True, parents=True)
    proof = difflapse.open_run(tmp_path / "far" / "out").certificate()
    with pytest.warns(UserWarning, match="no pictures but stars are shown"):
        assert not proof.draw_pair(3).axes[0].get_images()
    assert proof.draw_pair(3, small_night).axes[0].get_images()
    words = ["certificate", tmp_path / "far" / "out", "--inputs"]
    call(*words, tmp_path / "elsewhere").assert_failed(3, "is not in", "--inputs")
    for path in small_night.glob("*.fits.fz"):
        (tmp_path / "elsewhere" / path.name).write_bytes(b"another night")
    call(*words, tmp_path / "elsewhere").assert_failed(3, "checksum")


def test_without_matplotlib_numbers_are_told_and_figures_say_what_to_install(
    call, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "difflapse.pipeline.figures", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    call("certificate", out, "--figures").assert_failed(4, "matplotlib", "pip install 'difflapse[plots]'")
    plain = call("certificate", out)
    assert plain.code == 0
    assert "rms" in plain.out
    assert "no figures" in plain.err
    assert "difflapse[plots]" in plain.err
    assert not (out / "certificate").exists()
    assert call("certificate", out, "--no-figures").code == 0


def test_a_folder_without_a_run(call, tmp_path: Path) -> None:
    call("certificate", tmp_path).assert_failed(3, "frames.ecsv")
    call("certificate", tmp_path / "nowhere").assert_failed(3, "nowhere")
    call("certificate", tmp_path, "--pair", "x").assert_failed(2, "x")


@needs_figures
def test_each_of_several_sequences_has_its_own(call, small_night: Path, tmp_path: Path) -> None:
    from difflapse import synth

    synth.simulate(
        str(tmp_path / "in" / "b"), synth.preset("panoptes", frames=4, shape=(240, 330), seed=8), workers=1
    )
    shutil.copytree(small_night, tmp_path / "in" / "a")
    target = tmp_path / "out"
    run = ["run", tmp_path / "in", "-o", target, "--workers", 1]
    result = call(*run, "--require-rms", 0.001)
    assert result.code == 5
    assert result.err.count("at most 0.001 is required") == 2  # one as a note, one as the error
    result = call("certificate", target, "--json")
    assert result.code == 0, result.err
    told = json.loads(result.out)["sequences"]
    assert len(told) == 2
    assert [item["reached"] for item in told] == [False, False]
    assert all(Path(path).is_file() for item in told for path in item["figures"])
    call("certificate", target, "--pair", 0).assert_failed(2, "one sequence", told[0]["folder"])
    assert call("certificate", told[0]["folder"], "--pair", 0, "-q").code == 0
    listed = tomllib.loads((target / "run.toml").read_text())["provenance"]["products"]
    assert sum(name.endswith("certificate/pair.png") for name in listed) == 2
    assert call(*run, "-q", "--overwrite").code == 0
    assert not list(target.glob("*/certificate"))

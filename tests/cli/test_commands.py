"""What the commands do when nothing is wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from difflapse import __version__


def test_version(call) -> None:
    result = call("--version")
    assert (result.code, result.out, result.err) == (0, f"difflapse {__version__}\n", "")


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_lists_the_commands(call, words: list[str]) -> None:
    result = call(*words)
    assert (result.code, result.err) == (0, "")
    for name in ("run", "demo", "simulate", "info", "certificate", "methods"):
        assert re.search(rf"^  {name} ", result.out, re.MULTILINE)


def test_methods_are_one_line_each(call) -> None:
    from difflapse.methods import all_methods

    result = call("methods")
    assert result.code == 0
    assert len(result.out.splitlines()) == 1 + len(all_methods())
    for method in all_methods():
        assert re.search(rf"^--{method.kind} +{method.name} +\S", result.out, re.MULTILINE)


def test_methods_as_json(call) -> None:
    table = json.loads(call("methods", "--json").out)
    assert {"kind": "align", "name": "wcs"}.items() <= next(m for m in table if m["name"] == "wcs").items()


def test_simulate_writes_frames_and_their_truth(call, tmp_path: Path) -> None:
    words = ["--frames", 3, "--size", "330x222", "--seed", 7, "--workers", 1]
    result = call("simulate", tmp_path / "night", *words)
    assert result.code == 0, result.err
    from astropy.io import fits

    frames = sorted((tmp_path / "night").rglob("*.fits*"))
    assert len(frames) == 3
    assert fits.getdata(frames[0], 1).shape == (222, 330)
    assert list((tmp_path / "night").rglob("truth.json"))
    assert str(tmp_path / "night") in result.out


def test_simulate_is_the_same_for_the_same_seed(call, tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        words = ["--frames", 2, "--size", "160x120", "--seed", seed, "--workers", 1, "-q"]
        assert call("simulate", tmp_path / name, *words).code == 0
    first = {file.name: file.read_bytes() for file in (tmp_path / "a").rglob("*.fits*")}
    again = {file.name: file.read_bytes() for file in (tmp_path / "b").rglob("*.fits*")}
    other = {file.name: file.read_bytes() for file in (tmp_path / "c").rglob("*.fits*")}
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    "words", [["--size", "big"], ["--preset", "lunar"], ["--frames", "0"], ["--frames", "x"]]
)
def test_simulate_refuses_what_makes_no_night(call, tmp_path: Path, words: list[str]) -> None:
    call("simulate", tmp_path / "night", *words).assert_failed(2)


def test_simulate_leaves_other_peoples_files_alone(call, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = call("simulate", tmp_path, "--frames", 2, "--size", "160x120", "-q")
    assert result.code == 6
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_info_tells_what_is_there(call, small_night: Path) -> None:
    result = call("info", small_night)
    assert result.code == 0, result.err
    assert "5 frames" in result.out
    assert "390x260" in result.out
    assert "GBRG" in result.out


def test_info_as_json(call, small_night: Path) -> None:
    result = call("info", small_night, "--json")
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert len(told["sequences"]) == 1


def test_info_obeys_the_mosaic_given(call, small_night: Path) -> None:
    assert "BGGR" in call("info", small_night, "--mosaic", "BGGR").out
    call("info", small_night, "--mosaic", "BGRG").assert_failed(2, "mosaic is 'BGRG'")


def test_info_of_nothing(call, tmp_path: Path) -> None:
    call("info", tmp_path / "nowhere").assert_failed(3, "nowhere")
    call("info").assert_failed(2, "INPUT")


def test_plan_reads_no_pixels_and_writes_nothing(call, small_night: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = call("run", small_night, "-o", out, "--plan")
    assert result.code == 0, result.err
    for word in ("5 frames", "390x260", "memory", "scratch", str(out)):
        assert word in result.out
    assert not out.exists()


def test_plan_as_json(call, small_night: Path, tmp_path: Path) -> None:
    result = call("run", small_night, "-o", tmp_path / "out", "--plan", "--json")
    plan = json.loads(result.out)
    assert plan["memory_bytes"] > 0
    assert plan["output_bytes"] > 0
    assert [sequence["frames"] for sequence in plan["sequences"]] == [5]


def test_run_makes_its_products_and_a_summary(call, small_night: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = call("run", small_night, "-o", out, "--workers", 1)
    assert result.code == 0, result.err
    for product in (
        "timelapse.mp4",
        "timelapse.json",
        "template.fits",
        "transforms.json",
        "frames.ecsv",
        "run.toml",
    ):
        assert (out / product).stat().st_size > 0
    assert re.search(r"\d of 5 frames used", result.out)
    assert "px" in result.out
    assert "frames/s" in result.out
    assert "timelapse.mp4" in result.out
    assert "frames/s" in result.err  # progress, as plain lines


def test_run_as_json_has_nothing_else_on_stdout(call, small_night: Path, tmp_path: Path) -> None:
    result = call("run", small_night, "-o", tmp_path / "out", "--json", "--quiet", "--workers", 1)
    summary = json.loads(result.out)
    assert summary["sequences"][0]["n_frames"] == 5
    assert result.err == ""


def test_run_quiet_is_silent(call, small_night: Path, tmp_path: Path) -> None:
    result = call("run", small_night, "-o", tmp_path / "out", "-q", "--workers", 1)
    assert (result.code, result.out, result.err) == (0, "", "")


def test_the_command_line_wins_over_the_file(call, small_night: Path, tmp_path: Path) -> None:
    import tomllib

    (tmp_path / "my.toml").write_text('[options]\ndiff = "running"\nfps = 5\n[provenance]\nversion = "0"\n')
    out = tmp_path / "out"
    words = ["--config", tmp_path / "my.toml", "--diff", "base", "--workers", 1, "-q"]
    assert call("run", small_night, "-o", out, *words).code == 0
    text = (out / "run.toml").read_text(encoding="utf-8")
    written = tomllib.loads(text)
    options = written.get("options", written)
    assert (options["diff"], options["fps"]) == ("template", 5.0)


def test_a_runs_own_toml_does_it_again(call, small_night: Path, tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    assert call("run", small_night, "-o", first, "--width", 320, "--workers", 1, "-q").code == 0
    result = call("run", small_night, "-o", again, "--config", first / "run.toml", "-q")
    assert result.code == 0, result.err
    assert (first / "timelapse.json").read_text() == (again / "timelapse.json").read_text()


def test_overwrite_replaces_only_an_earlier_runs_products(call, small_night: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["run", small_night, "-o", out, "--workers", 1, "-q"]
    assert call(*words).code == 0
    call(*words).assert_failed(6, "--overwrite")
    (out / "notes.txt").write_text("mine")
    assert call(*words, "--overwrite").code == 0
    assert (out / "notes.txt").read_text() == "mine"


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_under_a_final_name(
    small_night: Path, tmp_path: Path, number: int
) -> None:
    out = tmp_path / "out"
    words = [sys.executable, "-m", "difflapse", "run", str(small_night), "-o", str(out), "--workers", "1"]
    # What started the tests may ignore Ctrl-C (a shell's background job does), and its children with it.
    running = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert running.stderr is not None
    running.stderr.readline()  # the first line of progress: it is at work
    time.sleep(0.05)
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert err.strip().splitlines()[-1] == "difflapse: interrupted; nothing half-written is left"
    assert "Traceback" not in err
    assert not out.exists() or not list(out.rglob("*.mp4"))


def test_demo_can_be_called_again(call, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    words = ["demo", "-o", out, "--frames", 4, "--size", "390x260", "--workers", 1]
    first = call(*words)
    assert first.code == 0, first.err
    assert str(out / "result" / "timelapse.mp4") in first.out
    stamp = sorted((file.name, file.stat().st_mtime_ns) for file in (out / "night").rglob("*"))
    assert call(*words).code == 0
    assert stamp == sorted((file.name, file.stat().st_mtime_ns) for file in (out / "night").rglob("*"))
    assert call(*words, "--seed", 2, "-q").code == 0
    assert stamp != sorted((file.name, file.stat().st_mtime_ns) for file in (out / "night").rglob("*"))
    assert sorted(file.name for file in out.iterdir()) == ["night", "result"]


def test_demo_replaces_only_what_it_made(call, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    words = ["demo", "-o", out, "--frames", 3, "--size", "390x260", "--workers", 1, "-q"]
    (out / "night").mkdir(parents=True)
    (out / "night" / "mine.fits").write_text("mine")
    call(*words).assert_failed(6, "did not make")
    (out / "night" / "mine.fits").unlink()
    assert call(*words).code == 0
    (out / "night" / "mine.fits").write_text("mine")
    call(*words, "--seed", 2).assert_failed(6, "mine.fits")
    assert (out / "night" / "mine.fits").read_text() == "mine"

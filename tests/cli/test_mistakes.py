"""Every mistake at the terminal is one line that says what was found, what was needed and what to try."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from difflapse.cli import app
from difflapse.cli.failures import explain
from difflapse.errors import InputError


def test_a_mistyped_command_gets_the_nearest_one_suggested(call) -> None:
    call("rnu", "x").assert_failed(2, "'rnu'", "Did you mean 'run'?")


def test_a_command_unlike_any_other_gets_them_listed(call) -> None:
    call("qqqq").assert_failed(2, "'qqqq'", "run", "demo", "methods")


def test_a_folder_in_place_of_a_command_gets_run_suggested(call, tmp_path: Path) -> None:
    call(tmp_path).assert_failed(2, f"Try: difflapse run {tmp_path}")


def test_a_mistyped_option_gets_the_nearest_one_suggested(call) -> None:
    call("run", "x", "--alingn", "wcs").assert_failed(2, "--alingn", "Did you mean --align?")


def test_a_command_that_does_not_exist_yet_is_not_known(call) -> None:
    call("watch", "x").assert_failed(2, "'watch'")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--align", "wsc"], ["--align is 'wsc'", "Did you mean 'wcs'?"]),
        (["--diff", "runing"], ["diff is 'runing'", "Did you mean 'running'?"]),
        (["--panels", "aligned,diference"], ["panels is 'diference'", "Did you mean 'difference'?"]),
        (["--save", "all"], ["save is 'all'", "aligned"]),
        (["--window", "1"], ["window is 1", "3 to 255 frames"]),
        (["--window", "few"], ["window is 'few'"]),
        (["--workers", "-2"], ["workers is -2"]),
        (["--workers", "2.5"], ["workers is '2.5'"]),
        (["--fps", "0"], ["fps is 0"]),
        (["--fps", "nan"], ["fps is nan"]),
        (["--width", "12"], ["width is 12"]),
        (["--max-failed", "7"], ["--max-failed is 7", "0 to 1"]),
        (["--lag", "soon"], ["--lag is 'soon'", "10min"]),
        (["--memory", "lots"], ["memory is 'lots'", "2GB"]),
        (["--roi", "1,2,3"], ["roi is '1,2,3'", "X,Y,W,H"]),
        (["--roi", "0,0,20,20", "--center", "1,2", "--size", "1deg"], ["roi", "centre"]),
        (["--center", "303.2,46.0"], ["--center and --size"]),
        (["--follow", "243.7,33.0@2018-08-24T04:02"], ["follow is given for 1 time", "again"]),
        (["--follow", "comet", "--follow", "moon"], ["follow is 'comet'", "RA,DEC@TIME"]),
        (
            ["--diff", "running", "--panels", "aligned,template"],
            ["panel template", "--diff running", "--diff template"],
        ),
        (["--diff", "rolling", "--panels", "blink"], ["panel blink", "--diff rolling", "--panels aligned"]),
        (
            ["--diff", "none", "--panels", "aligned,difference,red"],
            ["panel difference", "--diff none", "aligned"],
        ),
    ],
)
def test_a_wrong_value_is_told_with_what_would_be_right(call, tmp_path: Path, words, told) -> None:
    call("run", tmp_path, *words).assert_failed(2, *told)


def test_a_reference_that_is_no_frame_is_refused_before_pixels_are_read(
    call, small_night: Path, tmp_path: Path
) -> None:
    call("run", small_night, "-o", tmp_path / "out", "--reference", "nicest").assert_failed(
        2, "'nicest'", "best"
    )
    call("run", small_night, "--plan", "--reference", "99").assert_failed(2, "frame 99", "0 to 4")


def test_an_option_without_its_value(call) -> None:
    call("run", "x", "--align").assert_failed(2, "--align")


def test_run_without_input(call) -> None:
    call("run").assert_failed(2, "INPUT", "Try:")


def test_no_such_folder(call, tmp_path: Path) -> None:
    call("run", tmp_path / "nowhere", "-o", tmp_path / "out").assert_failed(3, "nowhere")
    assert not (tmp_path / "out").exists()


def test_an_empty_folder(call, tmp_path: Path) -> None:
    (tmp_path / "night").mkdir()
    call("run", tmp_path / "night", "-o", tmp_path / "out").assert_failed(3)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_darks(call, tmp_path: Path, write_frame) -> None:
    for k in range(3):
        write_frame(tmp_path / "night" / f"d{k}.fits", IMAGETYP="Dark Frame", EXPTIME=30.0)
    call("run", tmp_path / "night", "-o", tmp_path / "out").assert_failed(3, "dark")


def test_a_text_called_fits(call, tmp_path: Path) -> None:
    (tmp_path / "night").mkdir()
    for k in range(2):
        (tmp_path / "night" / f"n{k}.fits").write_text("these are not pixels\n" * 300)
    call("run", tmp_path / "night", "-o", tmp_path / "out").assert_failed(3)


def test_a_lone_frame(call, tmp_path: Path, write_frame) -> None:
    write_frame(tmp_path / "night" / "one.fits")
    call("run", tmp_path / "night", "-o", tmp_path / "out").assert_failed(3)


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(
    call, small_night: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    for words in ([], ["--overwrite"]):
        call("run", small_night, "-o", out, "-q", *words).assert_failed(6, "out")
        assert [file.name for file in out.iterdir()] == ["thesis.tex"]
        assert (out / "thesis.tex").read_text() == "years of work"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a person without all rights")
def test_a_folder_without_permission(call, small_night: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    call("run", small_night, "-o", tmp_path / "out", "-q").assert_failed(6)


def test_out_below_a_file_cannot_be_written(call, small_night: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    call("run", small_night, "-o", tmp_path / "file" / "out", "-q").assert_failed(6)


# Configuration files


def test_a_config_that_is_not_there(call, tmp_path: Path) -> None:
    call("run", "x", "--config", tmp_path / "no.toml").assert_failed(2, "no.toml", "No such file")


def test_a_config_that_is_not_toml(call, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("align = = wcs\n")
    call("run", "x", "--config", tmp_path / "run.toml").assert_failed(2, "not TOML", "line 1")


@pytest.mark.parametrize("text", ['alignn = "wcs"\n', '[options]\nalignn = "wcs"\n'])
def test_a_config_with_an_unknown_key_gets_a_suggestion(call, tmp_path: Path, text: str) -> None:
    (tmp_path / "run.toml").write_text(text)
    call("run", "x", "--config", tmp_path / "run.toml").assert_failed(2, "'alignn'", "Did you mean 'align'?")


def test_a_config_with_a_value_of_the_wrong_kind(call, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("split = 3\n")
    call("run", "x", "--config", tmp_path / "run.toml").assert_failed(2, "split is 3")


# What is not the person's mistake


def test_a_fault_of_ours_is_one_line_and_the_traceback_a_file(call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a secret of the house")

    monkeypatch.setattr(app, "_invoke", broken)
    result = call("methods")
    result.assert_failed(1, "ZeroDivisionError", "report")
    (kept,) = [word.rstrip(".;") for word in result.err.split() if "difflapse-fault-" in word]
    kept = kept if kept.endswith(".txt") else kept + ".txt"
    text = Path(kept).read_text(encoding="utf-8")
    Path(kept).unlink()
    assert "Traceback" in text
    assert "in broken" in text


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (KeyboardInterrupt(), 130, "interrupted; nothing half-written is left"),
        (
            OSError(28, "No space left on device", "timelapse.mp4"),
            6,
            "No space left on device (timelapse.mp4)",
        ),
        (
            InputError("found 1 frame, needed 2", "more frames"),
            3,
            "found 1 frame, needed 2. Try: more frames",
        ),
        (InputError("two\nlines"), 3, "two lines"),
        (ModuleNotFoundError("No module named 'sep'", name="sep"), 4, "pip install sep"),
        (MemoryError(), 1, "--memory"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_ends_a_run_has_its_line_and_code(
    call, monkeypatch: pytest.MonkeyPatch, error, code, told
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(app, "_invoke", broken)
    call("methods").assert_failed(code, told)


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_a_reader_that_leaves_is_no_fault() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "difflapse", "methods", "--json"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert done.returncode == 141
    assert done.stderr == ""


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC])
def test_what_cannot_be_written_is_the_folders_fault(number: int) -> None:
    text, code = explain(OSError(number, os.strerror(number), "out/night.fits"))
    assert code == 6
    assert text.startswith("cannot write: ")
    assert "out/night.fits" in text


def test_what_is_asked_for_and_not_there_is_told_before_anything_is_read(
    call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from difflapse.movie import encode

    monkeypatch.setattr(encode, "_has", lambda encoder: encoder == "libx264")
    call("run", tmp_path / "none", "--codec", "hevc").assert_failed(4, "libx265", "use one of", "h264")
    call("run", tmp_path / "none", "--crossmatch", tmp_path / "x.xml").assert_failed(3, "no catalogue")


def test_a_plate_solver_that_is_missing_is_told_before_anything_is_read(
    call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for more in ((), ("--plan",)):
        result = call(
            "run", tmp_path / "none", "-o", tmp_path / "out", "--solve", "--solver", "solve-field", *more
        )
        result.assert_failed(4, "solve-field is not installed", "astrometry.net")
    call("run", tmp_path / "none", "--index-files", tmp_path).assert_failed(2, "not asked for", "--solve")

"""``difflapse lightcurve``: one star, told in several ways."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from difflapse import open_run
from difflapse.cli.app import main


@pytest.fixture(scope="module")
def out(small_night: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the small night; read it, never write to it."""
    folder = tmp_path_factory.mktemp("curves") / "out"
    assert main(["run", str(small_night), "-o", str(folder), "--workers", "1", "-q"]) == 0
    return folder


def measured(out: Path) -> int:
    """Frames whose place is measured: a guessed one tells no brightness."""
    table = open_run(out).table
    return sum(
        status == "used" and method != "interpolated"
        for status, method in zip(table["status"], table["method"], strict=True)
    )


def test_a_star_is_printed_and_drawn_with_characters(call, out: Path) -> None:
    row = open_run(out).stars[3]
    found = call("lightcurve", out, "--pixel", f"{row['x_pix'] + 1},{row['y_pix']}")
    assert found.code == 0
    assert "star 3 at pixel" in found.out and found.out.count("2018-08-24T") == measured(out) >= 4
    assert " o" in found.out or "|o" in found.out
    assert call("lightcurve", out, "--at", f"{row['ra_deg']},{row['dec_deg']}").out == found.out
    assert call("lightcurve", out, "--star", 3).out == found.out


def test_csv_and_aavso_are_for_machines(call, out: Path) -> None:
    lines = call("lightcurve", out, "--star", 3, "--format", "csv", "--channel", "R").out.splitlines()
    assert lines[0].startswith("time_utc,frame,bjd_tdb,airmass,flux_adu") and len(lines) == 1 + measured(out)
    assert all(len(line.split(",")) == 9 and float(line.split(",")[2]) > 2458354 for line in lines[1:])
    call("lightcurve", out, "--star", 3, "--format", "aavso").assert_failed(2, "observer", "--observer CODE")


@pytest.mark.parametrize(
    "words, code, said",
    [
        (["--star", "3", "--pixel", "1,2"], 2, "--pixel and --star"),
        ([], 2, "no star"),
        (["--pixel", "3"], 2, "two numbers"),
        (["--at", "nonsense"], 2, "RA,DEC"),
        (["--pixel", "-400,-300"], 3, "the nearest is star"),
        (["--star", "999999"], 3, "no star 999999"),
        (["--star", "3", "--channel", "L"], 3, "R, G, B"),
        (["--star", "3", "--plot", "x.doc"], 2, ".png, .svg or .pdf"),
    ],
)
def test_mistakes_are_told(call, out: Path, words: list[str], code: int, said: str) -> None:
    call("lightcurve", out, *words).assert_failed(code, said)


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")
@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_curve_is_drawn_into_a_file(call, out: Path, tmp_path: Path, ending: str) -> None:
    target = tmp_path / f"star.{ending}"
    assert call("lightcurve", out, "--star", 3, "--plot", target).code == 0
    begin = {"png": b"\x89PNG", "svg": b"<?xml"}[ending]
    assert target.read_bytes().startswith(begin)

"""``difflapse report``: the page again, in a folder or in one file, and what is said of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import difflapse
from difflapse.cli.app import main


@pytest.fixture(scope="module")
def finished(small_night: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    difflapse.run(small_night, out, workers=1, width=480)
    return out


def test_it_says_where_the_page_is(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (finished / "report.html").unlink()
    shutil.rmtree(finished / "report_files")
    assert main(["report", str(finished)]) == 0
    assert capsys.readouterr().out == f"page       {finished / 'report.html'}\n"
    assert (finished / "report.html").exists()
    assert (finished / "report_files" / "night.js").exists()
    assert main(["report", str(finished), "-q"]) == 0
    assert capsys.readouterr().out == ""


def test_one_file_says_its_size(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(finished), "--single-file", "--json"]) == 0
    (page,) = json.loads(capsys.readouterr().out)["pages"]
    path = Path(page["path"])
    assert path.name == "report-single.html"
    assert page["bytes"] == path.stat().st_size > (finished / "timelapse.mp4").stat().st_size
    assert main(["report", str(finished), "--single-file"]) == 0
    assert capsys.readouterr().out.rstrip().endswith(("kB", "MB"))


def test_a_run_replaced_takes_its_page_along(finished: Path, small_night: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    assert main(["report", str(folder), "--single-file", "-q"]) == 0
    words = [
        "run",
        str(small_night),
        "-o",
        str(folder),
        "--overwrite",
        "--workers",
        "1",
        "--diff",
        "none",
        "-q",
    ]
    assert main(words) == 0
    assert not (folder / "report-single.html").exists()
    assert (folder / "report.html").exists()


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "none")]) == 3
    assert "there is no folder" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 3
    assert "frames.ecsv" in capsys.readouterr().err

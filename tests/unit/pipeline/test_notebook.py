"""What a notebook shows of a night, without a notebook; and figures on the sky."""

from __future__ import annotations

import base64
import html.parser
import re
import shutil
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

import difflapse
from difflapse.errors import InputError, MissingDependencyError, OptionError
from difflapse.pipeline import notebook
from difflapse.pipeline.results import Run


@pytest.fixture(scope="module")
def made(small_night: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("notebook") / "out"
    difflapse.run(small_night, out, workers=1, width=500, save="differences", reel=False, injection=False)
    Table(
        {
            "change": [0, 1],
            "kind": ["mover", "variable"],
            "name": ["<script>alert(1)</script>", "variable J1"],
            "x_pix": [100.5, 200.25],
            "y_pix": [80.0, 120.75],
            "first_frame": [0, 3],
            "last_frame": [1, 4],
            "snr": [31.25, 8.5],
        }
    ).write(out / "changes.ecsv", format="ascii.ecsv", overwrite=True)
    return out


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Run:
    shutil.copytree(made, tmp_path / "out")
    return difflapse.open_run(tmp_path / "out")


def test_a_run_shows_its_movie_and_what_changed(run: Run) -> None:
    shown = run._repr_html_()
    assert shown == run.sequences[0]._repr_html_()
    found = re.search(r"src='data:video/mp4;base64,([^']+)'", shown)
    assert found
    assert run.movie is not None
    assert base64.b64decode(found[1]) == run.movie.read_bytes()
    assert "5 of 5 frames used" in shown
    assert "2 changes" in shown
    assert "variable J1" in shown


def test_names_are_text_whatever_they_contain(run: Run) -> None:
    seen: list[str] = []

    class Tags(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            seen.append(tag)

    Tags().feed(run._repr_html_())
    assert "script" not in seen
    assert "video" in seen


def test_a_large_movie_is_linked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "MOST_EMBEDDED", 1000)
    monkeypatch.chdir(run.out.parent)
    shown = run._repr_html_()
    assert "base64" not in shown
    assert "src='out/timelapse.mp4'" in shown


def test_axes_know_the_sky_and_mark_what_changed(run: Run) -> None:
    pytest.importorskip("matplotlib")
    night = run.sequences[0]
    axes = night.plot()
    centre = axes.wcs.pixel_to_world(97, 64.5)
    assert centre.separation(night.wcs.pixel_to_world(97, 64.5)).arcsec < 1e-3
    assert axes.images[0].get_array().shape == night.template.shape[1:]
    marks = np.array([line.get_xydata()[0] for line in axes.lines])
    # Native 100.5 is product (100.5 - 0.5) / 2.
    assert marks == pytest.approx(np.array([[50.0, 39.75], [99.875, 60.125]]))
    axes.figure.savefig(run.out / "figure.png")
    assert (run.out / "figure.png").stat().st_size > 10_000


def test_without_matplotlib_the_traceback_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match="figures need matplotlib") as caught:
        run.sequences[0].plot()
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.endswith("pip install 'difflapse[plots]'\n")


def test_a_frames_difference_is_drawn_into_axes_of_ones_own(run: Run) -> None:
    figures = pytest.importorskip("matplotlib.figure")
    night = run.sequences[0]
    own = figures.Figure().add_subplot()
    assert night.plot("difference", frame=3, ax=own) is own
    assert len(own.lines) == 1  # the mover was seen in other frames
    low, high = own.images[0].get_clim()
    assert low == -high < 0
    with pytest.raises(InputError, match="there is no aligned/"):
        night.plot("aligned", frame=3)
    with pytest.raises(OptionError, match="frame is 9"):
        night.plot("difference", frame=9)
    with pytest.raises(OptionError, match="kind is 'sigma'"):
        night.plot("sigma")

"""The page in the distribution's Firefox: what another engine might do otherwise, and what it must do alike."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from difflapse.pipeline.report import remake
from difflapse.pipeline.written import read_json

from .conftest import MID, SHAPE, grey
from .marionette import Firefox

pytestmark = pytest.mark.firefox

CLOSE = 6
"""Grey levels that encoding, chroma and a browser's colours may change."""
END = "\ue010"
LEFT = "\ue012"
ENTER = "\ue007"


@pytest.fixture(scope="module")
def browser(firefox_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    """Firefox, headless; skips, saying so, where it cannot play H.264."""
    firefox = Firefox(firefox_program, tmp_path_factory.mktemp("profile"))
    try:
        plays = "document.createElement('video').canPlayType('video/mp4; codecs=\"avc1.640028\"')"
        if not firefox.evaluate(plays):
            pytest.skip(f"{firefox_program} says that it cannot play avc1: it has no libavcodec")
        yield firefox
    finally:
        firefox.close()


@pytest.fixture
def page(browser: Firefox) -> Iterator[Firefox]:
    """When the test ends, nothing may have been complained of."""
    yield browser
    assert browser.complaints() == []


@pytest.fixture(scope="module")
def run(make_run: Callable[..., Path]) -> Path:
    folder = make_run(10, skipped=(4,), title="</script><script>alert(1)</script> Žižkov")
    remake(folder)
    return folder


def wait_for_grey(page: Firefox, wanted: float, across: float) -> None:
    """The picture follows its frame within a second or two; fails with what is there instead."""
    for _ in range(40):
        found = page.grey(across)
        if abs(found - wanted) <= CLOSE:
            return
        time.sleep(0.05)
    raise AssertionError(f"grey {found}, not {wanted}")


def number(page: Firefox) -> int:
    return int(page.evaluate("difflapse.view.number"))


def press_button(page: Firefox, name: str) -> None:
    left, top, wide, high = page.box(f"button[aria-label='{name}']")
    page.click(left + wide / 2, top + high / 2)


def test_steps_scrubs_and_plays_and_the_pictures_follow(run: Path, page: Firefox) -> None:
    page.open(run / "report.html")
    press_button(page, "Marks of changes")  # rings would lie where greys are asked
    wait_for_grey(page, grey(0), 0.25)
    wait_for_grey(page, MID, 0.75)
    press_button(page, "One frame on")
    assert number(page) == 1
    wait_for_grey(page, grey(1), 0.25)
    for _ in range(3):
        page.press(".")
    assert number(page) == 5, "frame 4 was skipped"
    wait_for_grey(page, grey(5), 0.25)
    page.press(",")
    assert number(page) == 3
    page.evaluate("difflapse.view.scrub.focus()")
    page.press(END)
    assert number(page) == 9
    wait_for_grey(page, grey(9), 0.25)
    page.evaluate("difflapse.view.player.setSpeed(4)")
    page.evaluate("difflapse.seen = []")
    page.evaluate("difflapse.view.player.moved.listen((k) => difflapse.seen.push(k))")
    press_button(page, "Play")
    page.wait_for("difflapse.seen.includes(7) && difflapse.seen.lastIndexOf(0) > difflapse.seen.indexOf(7)")
    press_button(page, "Pause")
    assert page.evaluate("difflapse.view.player.video.paused")
    wait_for_grey(page, grey(number(page)), 0.25)
    press_button(page, "Play backwards")
    page.evaluate("difflapse.view.show(6)")
    press_button(page, "Play")
    page.wait_for("difflapse.view.number === 2")
    press_button(page, "Pause")


def test_splits_blinks_and_zooms(run: Path, page: Firefox) -> None:
    page.open(run / "report.html")
    press_button(page, "Marks of changes")
    page.evaluate("difflapse.view.show(7)")
    page.evaluate("difflapse.view.setMode('split')")
    wait_for_grey(page, grey(7), 0.3)
    wait_for_grey(page, MID, 0.7)
    page.evaluate("difflapse.view.divider.focus()")
    for _ in range(15):
        page.press(LEFT)
    assert page.evaluate("difflapse.view.divider.getAttribute('aria-valuenow')") == "20"
    wait_for_grey(page, MID, 0.3)
    page.press("b")
    for wanted in (MID, grey(7), MID):
        wait_for_grey(page, wanted, 0.5)
    page.press("b")
    before = page.evaluate("difflapse.view.zoom")
    press_button(page, "Zoom in")
    assert page.evaluate("difflapse.view.zoom") > before


def test_a_place_is_told_to_the_pixel_and_a_star_opens_its_curve(run: Path, page: Firefox) -> None:
    page.open(run / "report.html")
    page.evaluate("difflapse.view.show(8)")
    page.evaluate("difflapse.view.setMode('one:0')")
    left, top, wide, high = page.box(".stage canvas")
    scale = high / SHAPE[0]
    page.click(left + (wide - SHAPE[1] * scale) / 2 + 60.75 * scale, top + high - 51.0 * scale)
    told = page.evaluate("({ ...difflapse.view.readout.dataset })")
    x, y = float(told["x"]), float(told["y"])
    # A click falls on a whole pixel of the screen.
    assert (x, y) == pytest.approx((60.25, 50.5), abs=0.75 / scale)
    assert (float(told["frameX"]), float(told["frameY"])) == pytest.approx((x - 2, y + 1), abs=1e-6)
    header = fits.Header.fromstring(read_json(run / "transforms.json")["reference"]["wcs_header"])
    there = np.array(WCS(header).all_pix2world(x, y, 0))
    assert np.hypot(*(there - (float(told["ra"]), float(told["dec"])))) < 1e-7
    page.wait_for("document.querySelector('#selection .plot .points') !== null")
    assert page.evaluate("document.querySelector('#selection h2').textContent") == "Star 5"
    value = page.evaluate("document.querySelector('#selection .plot-value').textContent")
    assert f"{1 + 0.1 * np.sin(8 + 5):.4f} ± 0.0040" in value


def test_strings_of_headers_are_text(run: Path, page: Firefox) -> None:
    page.open(run / "report.html")
    title = "</script><script>alert(1)</script> Žižkov"
    assert page.evaluate("document.querySelector('h1').textContent") == title


def test_nothing_is_wider_than_a_phone(run: Path, page: Firefox) -> None:
    page.open(run / "report.html", (390, 844))
    page.evaluate("document.querySelector('table.changes button.name').click()")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390  # beside the scroll bar


def test_one_file_to_mail_plays_alone(run: Path, page: Firefox, tmp_path: Path) -> None:
    (made,) = remake(run, single_file=True)
    alone = Path(shutil.copy(made, tmp_path / "mailed.html"))
    page.open(alone)
    press_button(page, "Marks of changes")
    page.evaluate("difflapse.view.show(6)")
    wait_for_grey(page, grey(6), 0.25)


def test_a_night_without_a_movie_is_told(make_run: Callable[..., Path], page: Firefox) -> None:
    folder = make_run(4)
    (folder / "timelapse.mp4").write_bytes(b"not a movie at all")
    remake(folder)
    page.open(folder / "report.html")
    words: Any = page.evaluate("document.body.innerText")
    assert "This browser cannot play mp4" in words
    page.within("Services.console.reset()")  # it says too that the movie is none

"""The page in a browser: opened from disk, it shows the run, and asks nobody for anything."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from PIL import Image

from difflapse.pipeline.report import remake
from difflapse.pipeline.written import read_json

pytestmark = pytest.mark.browser

GREY = {k: 30 + 25 * (k % 8) for k in range(2000)}
MID = 128
CLOSE = 5
"""Grey levels that encoding, chroma and a browser's colours may change."""


@pytest.fixture(scope="module")
def run(make_run: Callable[..., Path]) -> Path:
    folder = make_run(10, skipped=(4,))
    remake(folder)
    return folder


def level(page: Any, across: float, down: float = 0.75) -> float:
    """Grey of the picture at a place of the stage, as a person sees it."""
    box = page.locator(".stage").bounding_box()
    place = {
        "x": box["x"] + across * box["width"],
        "y": box["y"] + down * box["height"],
        "width": 4,
        "height": 4,
    }
    return float(np.asarray(Image.open(io.BytesIO(page.screenshot(clip=place))).convert("L")).mean())


def wait_for_level(page: Any, wanted: float, across: float) -> None:
    """The picture follows its frame within a second or two; fails with what is there instead."""
    for _ in range(40):
        found = level(page, across)
        if abs(found - wanted) <= CLOSE:
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"grey {found}, not {wanted}")


def frame(page: Any) -> int:
    return int(page.evaluate("difflapse.view.number"))


def test_steps_reverses_and_scrubs_and_the_pictures_follow(run: Path, open_page: Callable[..., Any]) -> None:
    page = open_page(run / "report.html")
    page.get_by_role("button", name="Marks").click()  # rings would lie where greys are asked
    wait_for_level(page, GREY[0], 0.25)
    wait_for_level(page, MID, 0.75)
    page.get_by_role("button", name="One frame on").click()
    assert frame(page) == 1
    wait_for_level(page, GREY[1], 0.25)
    for _ in range(3):
        page.keyboard.press(".")
    assert frame(page) == 5, "frame 4 was skipped"
    wait_for_level(page, GREY[5], 0.25)
    page.keyboard.press(",")
    assert frame(page) == 3
    scrub = page.get_by_role("slider", name="Time")
    scrub.focus()
    page.keyboard.press("End")
    assert frame(page) == 9
    assert "04:28:18 UTC, frame 9" in scrub.get_attribute("aria-valuetext")
    wait_for_level(page, GREY[9], 0.25)
    box = scrub.bounding_box()
    page.mouse.click(box["x"] + 9 + (box["width"] - 18) * 6.2 / 9, box["y"] + box["height"] / 2)
    assert frame(page) == 6
    page.get_by_role("button", name="Play backwards").click()
    page.get_by_role("button", name="Play", exact=True).click()
    page.wait_for_function("difflapse.view.number === 2")


def test_plays_to_the_end_and_begins_again(run: Path, open_page: Callable[..., Any]) -> None:
    page = open_page(run / "report.html")
    page.get_by_label("Speed").select_option("4")
    page.evaluate("difflapse.seen = []; difflapse.view.player.moved.listen((k) => difflapse.seen.push(k))")
    page.get_by_role("button", name="Play", exact=True).click()
    page.wait_for_function(
        "difflapse.seen.includes(8) && difflapse.seen.lastIndexOf(0) > difflapse.seen.indexOf(8)"
    )
    page.get_by_role("button", name="Pause").click()
    assert page.evaluate("difflapse.view.player.video.paused")
    wait_for_level(page, GREY[frame(page)], 0.25)


def test_blinks_in_one_place(run: Path, open_page: Callable[..., Any]) -> None:
    page = open_page(run / "report.html")
    page.evaluate("difflapse.view.show(7)")
    page.get_by_label("View").select_option("blink")
    for wanted in (MID, GREY[7], MID):
        wait_for_level(page, wanted, 0.5)


def test_the_divider_moves_by_hand_and_by_key(run: Path, open_page: Callable[..., Any]) -> None:
    page = open_page(run / "report.html")
    page.get_by_label("View").select_option("split")
    page.get_by_role("button", name="Marks").click()
    page.evaluate("difflapse.view.show(1)")
    wait_for_level(page, GREY[1], 0.3)
    wait_for_level(page, MID, 0.7)
    divider = page.get_by_role("separator")
    box, stage = divider.bounding_box(), page.locator(".stage").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(stage["x"] + 0.8 * stage["width"], box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    assert divider.get_attribute("aria-valuenow") == "80"
    wait_for_level(page, GREY[1], 0.7)
    divider.focus()
    page.keyboard.press("ArrowLeft")
    assert divider.get_attribute("aria-valuenow") == "78"


def test_coordinates_are_right_to_a_pixel_at_every_zoom(run: Path, open_page: Callable[..., Any]) -> None:
    page = open_page(run / "report.html")
    wcs = WCS(fits.Header.fromstring(read_json(run / "transforms.json")["reference"]["wcs_header"]))
    panel = read_json(run / "timelapse.json")["panels"]["difference"]
    page.evaluate("difflapse.view.show(8)")
    page.get_by_label("View").select_option("one:1")
    stage = page.locator(".stage").bounding_box()
    told = page.locator(".readout")
    for across, down in ((0.02, 0.03), (0.5, 0.5), (0.31, 0.83), (0.97, 0.9)):
        page.mouse.move(stage["x"] + across * stage["width"], stage["y"] + down * stage["height"])
        x, y = (float(told.get_attribute(f"data-{name}")) for name in "xy")
        # Where the point is in the movie, by the record: the panel fills the stage's height and is centred.
        scale = stage["height"] / panel["height"]
        left = (stage["width"] - panel["width"] * scale) / 2
        moved = [
            panel["x"] + (across * stage["width"] - left) / scale - 0.5,
            panel["y"] + down * stage["height"] / scale - 0.5,
        ]
        shown = np.array(panel["native_to_movie"]) @ [x, y, 1]
        assert shown == pytest.approx(moved, abs=1.0 * panel["native_to_movie"][0][0])
        ra, dec = (float(told.get_attribute(f"data-{name}")) for name in ("ra", "dec"))
        assert wcs.all_world2pix(ra, dec, 0, tolerance=1e-6) == pytest.approx([x, y], abs=0.01)
        own = [float(told.get_attribute(f"data-frame-{name}")) for name in "xy"]
        assert own == pytest.approx([x - 2, y + 1], abs=0.01)
    assert "16h" in told.inner_text()
    # The point under the hand stays where it is when the wheel turns.
    hand = round(stage["x"] + 0.4 * stage["width"]), round(stage["y"] + 0.3 * stage["height"])
    page.mouse.move(*hand)
    before = [float(told.get_attribute(f"data-{name}")) for name in "xy"]
    page.mouse.wheel(0, -900)
    page.wait_for_function("difflapse.view.zoom > 2")
    page.mouse.move(hand[0] + 1, hand[1])
    page.mouse.move(*hand)
    after = [float(told.get_attribute(f"data-{name}")) for name in "xy"]
    assert after == pytest.approx(before, abs=0.1)


def test_keys_pan_and_zoom_and_pick(run: Path, open_page: Callable[..., Any]) -> None:
    page = open_page(run / "report.html")
    page.evaluate("difflapse.view.look(200.5, 130.25, 12)")
    page.locator(".stage canvas").focus()
    page.keyboard.press("ArrowRight")
    assert float(page.locator(".readout").get_attribute("data-x")) > 201
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    assert page.locator("#selection h2").inner_text() == "variable 0"
    page.keyboard.press("0")
    assert page.evaluate("difflapse.view.zoom") == 1


def test_a_click_on_a_star_opens_its_light_curve_and_the_playhead_follows(
    run: Path, open_page: Callable[..., Any]
) -> None:
    page = open_page(run / "report.html")
    page.get_by_label("View").select_option("one:0")
    stage = page.locator(".stage").bounding_box()
    scale = stage["height"] / 260
    left = (stage["width"] - 390 * scale) / 2
    page.mouse.click(stage["x"] + left + 61.25 * scale, stage["y"] + stage["height"] - 51.5 * scale)
    page.wait_for_selector("#selection .plot .points")
    assert page.locator("#selection h2").inner_text() == "Star 5"
    told = page.locator("#selection .plot-value")
    assert "04:01:18" in told.inner_text()
    assert f"{1 + 0.1 * np.sin(0 + 5):.3f}" in told.inner_text()
    head = page.locator("#selection .plot .head")
    before = float(head.get_attribute("x1"))
    page.keyboard.press(".")
    assert f"{1 + 0.1 * np.sin(1 + 5):.3f}" in told.inner_text()
    assert float(head.get_attribute("x1")) > before
    # And a click on the curve goes there.
    plot = page.locator("#selection svg.plot")
    plot.click(position={"x": plot.bounding_box()["width"] - 20, "y": 40})
    assert frame(page) == 9


def test_changes_sort_filter_and_open(run: Path, open_page: Callable[..., Any]) -> None:
    page = open_page(run / "report.html")
    names = page.locator("table.changes tbody th")
    assert names.all_inner_texts() == ["mover 1", "variable 0", "transient 2"], "by S/N"
    page.locator("table.changes").get_by_role("button", name="Name").click()
    assert names.all_inner_texts() == ["mover 1", "transient 2", "variable 0"]
    page.locator("table.changes").get_by_role("button", name="Name").click()
    assert names.all_inner_texts() == ["variable 0", "transient 2", "mover 1"]
    page.get_by_role("checkbox", name="mover").uncheck()
    assert names.all_inner_texts() == ["variable 0", "transient 2"]
    page.get_by_role("button", name="transient 2").click()
    assert frame(page) == 1, "its only frame is shown"
    assert page.locator("#selection").get_by_text("too seldom").is_visible()
    page.get_by_role("button", name="variable 0").click()
    page.wait_for_selector("#selection .plot .points")
    assert "star 6" in page.locator("#selection").inner_text()
    page.get_by_role("button", name="Zoom to it").click()
    assert page.evaluate("[difflapse.view.cx, difflapse.view.cy]") == [200.5, 130.25]


def test_rings_that_the_movie_has_are_not_drawn_once_more(
    make_run: Callable[..., Path], open_page: Callable[..., Any]
) -> None:
    folder = make_run(4)
    record = read_json(folder / "timelapse.json")
    del record["marks"]  # a movie with all its labels has them
    (folder / "timelapse.json").write_text(json.dumps(record))
    remake(folder)
    page = open_page(folder / "report.html")
    marks = page.get_by_role("button", name="Marks")
    assert marks.get_attribute("aria-pressed") == "false"
    page.evaluate("difflapse.view.setMode('one:0'); difflapse.view.look(200.5, 130.25, 8)")
    box = page.locator(".stage").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert page.locator("#selection h2").inner_text() == "variable 0", "they are picked all the same"
    marks.click()
    assert marks.get_attribute("aria-pressed") == "true"


def test_differences_say_what_they_compare(
    make_run: Callable[..., Path], open_page: Callable[..., Any]
) -> None:
    folder = make_run(4)
    record = read_json(folder / "timelapse.json")
    for frame_, subtracted in zip(
        record["frames"], (None, "frame0000.fits", "template", "rolling median"), strict=True
    ):
        frame_["template"] = subtracted
    record |= {"units": "mag", "vmax": 2.0}
    (folder / "timelapse.json").write_text(json.dumps(record))
    remake(folder)
    page = open_page(folder / "report.html")
    said = ("no difference", "minus 04:01:18 UTC", "minus template", "minus rolling median")
    for k, words in enumerate(said):
        page.evaluate(f"difflapse.view.show({k})")
        assert page.locator(".panel-name").nth(1).inner_text().removeprefix("difference: ") == words
    # Magnitudes: what is brighter is less.
    scale = page.locator(".scale span").all_inner_texts()
    assert scale == ["+2", "+0.5", "0", "\u22120.5", "\u22122"]


def test_a_running_difference_opens_where_there_is_one(
    make_run: Callable[..., Path], open_page: Callable[..., Any]
) -> None:
    folder = make_run(10, lag=3, skipped=(1,))
    remake(folder)
    page = open_page(folder / "report.html")
    page.get_by_role("button", name="Marks").click()
    assert frame(page) == 4, "frames 0, 2 and 3 have no difference, frame 1 was skipped"
    assert page.locator(".panel-name").nth(1).inner_text() == "difference: minus 04:01:18 UTC"
    wait_for_level(page, GREY[4], 0.25)
    assert "frame 4" in page.get_by_role("slider", name="Time").get_attribute("aria-valuetext")
    assert "04:13:18" in page.locator("#quality .plot-value").first.inner_text(), "the playhead is there too"
    page.keyboard.press(",")
    assert frame(page) == 3
    wait_for_level(page, GREY[3], 0.25)
    page.keyboard.press(",")
    page.keyboard.press(",")
    assert frame(page) == 0
    wait_for_level(page, GREY[0], 0.25)


def test_a_spot_without_a_ring_says_why_it_was_refused(
    make_run: Callable[..., Path], open_page: Callable[..., Any]
) -> None:
    folder = make_run(6, refused=True)
    remake(folder)
    page = open_page(folder / "report.html", (1440, 1500))
    spots = page.locator("#spots")
    spots.locator("summary").click()
    page.wait_for_function("difflapse.view.spots.told")
    assert "2 refused in this frame" in spots.inner_text()
    page.evaluate("difflapse.view.show(2)")
    assert "3 refused in this frame" in spots.inner_text()
    assert spots.locator("li").all_inner_texts() == [
        "1 within a star's error",
        "1 a hot pixel: it stays",
        "1 a <b>cosmic</b> ray",
        "1 nothing speaks against it, but it was seen too seldom, or is too weak, to be believed: "
        "what a single frame shows may be anything",
        "These are more than there are spots: a spot may have several reasons against it.",
    ]
    page.get_by_label("View").select_option("one:1")
    told = page.locator(".readout")

    def at(x: float, y: float) -> tuple[float, float]:
        stage = page.locator(".stage").bounding_box()
        scale = stage["height"] / 260
        left = (stage["width"] - 390 * scale) / 2
        return stage["x"] + left + (x + 0.5) * scale, stage["y"] + stage["height"] - (y + 0.5) * scale

    page.mouse.move(*at(200, 40))
    assert "refused" not in told.inner_text()
    page.mouse.move(*at(30.5, 200))
    assert "refused, S/N \u22128.3" in told.inner_text()
    assert "a hot pixel; a <b>cosmic</b> ray" in told.inner_text()
    page.mouse.click(*at(30.5, 200))
    card = page.locator("#selection")
    assert card.locator("h2").inner_text() == "Refused sighting"
    assert card.locator("li").all_inner_texts() == ["a hot pixel: it stays", "a <b>cosmic</b> ray"]
    assert card.locator(".plot").count() == 0
    page.mouse.click(*at(321.5, 222.25))
    page.wait_for_selector("#selection .plot .points")
    assert "within a star's error" in card.inner_text()
    assert "star 7" in card.inner_text()
    # In the aligned panel a star is a star, unless what was refused is marked there.
    page.get_by_label("View").select_option("one:0")
    page.mouse.click(*at(321.5, 222.25))
    assert card.locator("h2").inner_text() == "Star 7"
    page.mouse.move(*at(30.5, 200))
    assert "refused" not in told.inner_text()
    page.get_by_role("checkbox", name="Mark what was refused").check()
    page.mouse.move(*at(31, 200))
    assert "refused" in told.inner_text()
    below = page.locator(".legend").bounding_box()
    page.mouse.move(*at(200, 40))
    assert page.locator(".legend").bounding_box() == below, "what is told moves nothing"


def test_a_movie_without_differences_speaks_of_none(
    make_run: Callable[..., Path], open_page: Callable[..., Any]
) -> None:
    folder = make_run(4, refused=True)
    record = read_json(folder / "timelapse.json")
    del record["panels"]["difference"]
    (folder / "timelapse.json").write_text(json.dumps(record))
    remake(folder)
    page = open_page(folder / "report.html")
    page.wait_for_function("difflapse.view.spots.told")
    assert page.locator("#spots").count() == 0
    page.keyboard.press(".")
    assert frame(page) == 1
    wait_for_level(page, GREY[1], 0.1)


def test_plots_are_worked_by_keys_and_say_their_values(run: Path, open_page: Callable[..., Any]) -> None:
    page = open_page(run / "report.html")
    plot = page.get_by_role("slider", name="FWHM")
    plot.focus()
    page.keyboard.press("ArrowRight")
    assert frame(page) == 1
    assert plot.get_attribute("aria-valuetext").split() == ["04:04:18", f"{2.3 + 0.1 * np.cos(1):.2f}"]
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert frame(page) == 5, "frame 4 was skipped"
    page.keyboard.press("ArrowLeft")
    assert frame(page) == 3
    page.keyboard.press("End")
    assert frame(page) == 9
    assert "04:28:18" in page.get_by_role("slider", name="Transparency").get_attribute("aria-valuetext")
    page.keyboard.press("Home")
    assert frame(page) == 0
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Sky")


def test_where_there_are_no_stars_none_are_spoken_of(
    make_run: Callable[..., Path], open_page: Callable[..., Any]
) -> None:
    folder = make_run(5, measured=False, found=False, sky=False, judged_on="pixels")
    remake(folder)
    page = open_page(folder / "report.html")
    for place in ("#quality", "#certificate", "#viewer"):
        assert "star" not in page.locator(place).inner_text().replace("start", ""), place
    assert "on tiles of pixels" in page.locator("#quality").inner_text()
    assert "95 % of tiles" in page.locator("#certificate").inner_text()
    assert page.get_by_role("slider", name="FWHM").count() == 0, "a few specks have no width"
    assert page.get_by_role("slider", name="Alignment rms").count() == 1
    hint = page.locator(".readout").get_attribute("data-hint")
    assert hint == "Point at the picture, or tap it, for the place on the sensor."


def test_on_a_phone_the_names_stand_below_the_picture(run: Path, open_page: Callable[..., Any]) -> None:
    page = open_page(run / "report.html", (390, 844), has_touch=True)
    here = page.get_by_role("group", name="Changes in this frame").get_by_role("button")
    assert here.all_inner_texts() == ["variable 0", "mover 1"]
    page.evaluate("difflapse.view.show(1)")
    assert here.all_inner_texts() == ["variable 0", "mover 1", "transient 2"]
    here.nth(1).tap()
    assert page.locator("#selection h2").inner_text() == "mover 1"
    assert here.nth(1).get_attribute("aria-pressed") == "true"
    assert frame(page) == 1


@pytest.mark.parametrize("size", [(390, 844), (1440, 900)])
def test_stars_that_vary_by_their_curves_are_a_list_of_their_own_marked_and_picked(
    make_run: Callable[..., Path], open_page: Callable[..., Any], size: tuple[int, int]
) -> None:
    folder = make_run(6, varying=True)
    remake(folder)
    page = open_page(folder / "report.html", size, has_touch=size[0] < 500)
    part = page.locator("#changes")
    assert part.get_by_role("heading", name="What changed 3").count() == 1
    assert part.get_by_role("heading", name="Stars that vary by their light curves 1").count() == 1
    assert "Of 700 stars noise would list 0.1 on average" in part.inner_text()
    row = part.get_by_role("region", name="Stars that vary by their light curves").locator("tbody tr")
    name = row.get_by_role("button")
    assert name.inner_text().startswith("star J1614.8+3300")
    assert "0.22 mag" in row.inner_text() and "2e−7" in row.inner_text()
    name.click()
    assert row.get_attribute("class") == "selected"
    assert page.locator("#selection h2").inner_text() == name.inner_text()
    page.wait_for_selector("#selection .plot .points")
    facts = page.locator("#selection .facts").inner_text()
    assert "0.217 mag" in facts and "correlation 0.83" in facts
    # Another change takes its place; its ring, or its name below the picture, brings it back.
    part.get_by_role("button", name="mover 1").click()
    assert row.get_attribute("class") != "selected"
    marks = page.evaluate("difflapse.view.marks(difflapse.view.number).map(m => [m.change.kind, m.x, m.y])")
    assert ["star", 60.25, 50.5] in marks
    if size[0] < 500:
        chip = page.get_by_role("group", name="Changes in this frame").get_by_role("button", name="star J")
        chip.tap()
        assert chip.get_attribute("aria-pressed") == "true"
    else:
        page.evaluate("difflapse.view.look(60.25, 50.5, 8)")
        page.locator(".stage canvas").focus()
        page.keyboard.press("Enter")
    assert page.locator("#selection h2").inner_text() == name.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]


def test_where_no_star_varies_by_its_curve_that_is_said(
    run: Path, make_run: Callable[..., Path], open_page: Callable[..., Any]
) -> None:
    page = open_page(run / "report.html")
    assert "none of 700 stars does" in page.locator("#changes").inner_text()
    folder = make_run(4, found=False)
    remake(folder)
    assert "light curves" not in open_page(folder / "report.html").locator("#changes").inner_text()


def test_skipped_frames_are_marked_and_say_why(run: Path, open_page: Callable[..., Any]) -> None:
    page = open_page(run / "report.html")
    assert page.locator(".dots .skipped").get_attribute("title").startswith("frame0004.fits skipped: 7 stars")
    assert page.locator("#quality .missing").count() == page.locator("#quality svg.plot").count() >= 5
    row = page.locator("#quality table tbody tr").inner_text()
    assert "frame0004.fits" in row
    assert "12 are needed </script>" in row


def test_two_thousand_frames_and_hostile_text(
    make_run: Callable[..., Path], open_page: Callable[..., Any]
) -> None:
    title = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)> Žižkov \u2603"
    folder = make_run(2000, title=title)
    remake(folder)
    page = open_page(folder / "report.html")
    assert page.locator("h1").inner_text() == title
    assert page.title().startswith(title)
    page.evaluate("difflapse.view.show(1985)")
    page.get_by_role("button", name="Marks").click()
    wait_for_level(page, GREY[1985], 0.25)
    page.evaluate("difflapse.view.look(60.25, 50.5, 8)")
    page.locator(".stage canvas").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#selection .plot .points")
    # Four days: times of day alone would tell too little.
    assert "2018-08-24, 04:01 to 2018-08-28, 07:58 UTC" in page.locator("#subtitle").inner_text()
    assert page.locator("table.changes td").first.inner_text() == "08-24 04:01–08-28 07:58"
    dates = page.locator("#quality svg.plot").first.locator("text").all_text_contents()
    assert {"08-25", "08-26", "08-27"} & set(dates)
    assert dates.count("00:00") == 0
    began = page.evaluate("performance.now()")
    for _ in range(10):
        page.keyboard.press(",")
    page.evaluate("new Promise(requestAnimationFrame)")
    assert page.evaluate("performance.now()") - began < 3000, "steps stay quick"
    assert frame(page) == 1975
    assert page.locator("img").count() == 0


def test_a_night_of_which_nothing_came_says_why(
    make_run: Callable[..., Path], open_page: Callable[..., Any]
) -> None:
    folder = make_run(4)
    for name in ("transforms.json", "timelapse.json", "timelapse.mp4", "changes.ecsv", "detections.ecsv"):
        (folder / name).unlink()
    table = Table.read(folder / "frames.ecsv", format="ascii.ecsv")
    table["status"], table["reason"] = ["skipped"] * 4, ["thick clouds"] * 4
    table.write(folder / "frames.ecsv", format="ascii.ecsv", overwrite=True)
    remake(folder)
    page = open_page(folder / "report.html")
    assert "This run has no movie" in page.locator("#viewer").inner_text()
    assert "The run ended before frames were aligned" in page.locator("#certificate").inner_text()
    assert page.locator("#quality tbody tr").count() == 4
    assert "thick clouds" in page.locator("#quality").inner_text()


@pytest.mark.parametrize("missing", ["changes", "stars", "sky", "movie", "two frames", "unplayable"])
def test_what_is_missing_is_said_and_the_rest_works(
    make_run: Callable[..., Path], open_page: Callable[..., Any], missing: str
) -> None:
    n = 2 if missing == "two frames" else 4
    folder = make_run(n, found=missing != "changes", measured=missing != "stars", sky=missing != "sky")
    if missing == "movie":
        (folder / "timelapse.mp4").unlink()
    if missing == "unplayable":
        (folder / "timelapse.mp4").write_bytes(b"not a movie at all")
    remake(folder)
    page = open_page(folder / "report.html")
    text = page.locator("body").inner_text()
    said = {
        "changes": "No list of changes was made",
        "stars": "Click a change in the list",
        "movie": "This run has no movie",
        "unplayable": "This browser cannot play mp4",
    }
    assert said.get(missing, "Quality of the frames") in text
    assert page.locator("#quality svg.plot").count() >= 5
    assert page.locator("#how").get_by_text("difflapse run ../night").count() == 1
    if missing == "sky":
        page.locator(".stage canvas").hover(position={"x": 90, "y": 60})
        assert "reference px" in page.locator(".readout").inner_text()
        assert "RA" not in page.locator(".readout").inner_text()
    if missing == "two frames":
        page.keyboard.press(".")
        assert frame(page) == 1


def test_one_file_to_mail_works_alone(run: Path, open_page: Callable[..., Any], tmp_path: Path) -> None:
    (made,) = remake(run, single_file=True)
    alone = shutil.copy(made, tmp_path / "mailed.html")
    page = open_page(Path(alone))
    page.get_by_role("button", name="Marks").click()
    page.evaluate("difflapse.view.show(6)")
    wait_for_level(page, GREY[6], 0.25)
    page.evaluate("difflapse.view.look(60.25, 50.5, 8)")
    page.locator(".stage canvas").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#selection .plot .points")
    assert "This one file holds the movie too" in page.locator("footer").inner_text()


@pytest.mark.parametrize("size", [(390, 844), (1440, 900)])
def test_nothing_is_wider_than_the_screen(
    run: Path, open_page: Callable[..., Any], size: tuple[int, int]
) -> None:
    page = open_page(run / "report.html", size, has_touch=size[0] < 500)
    page.locator("table.changes").get_by_role("button", name="mover 1").click()
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
    if size[0] < 500:
        small = page.evaluate(
            "[...document.querySelectorAll('.bar button, .bar select, .chip, nav a, .products a, summary, th button')]"
            ".filter(b => b.offsetHeight > 0 && b.offsetHeight < 40).map(b => b.outerHTML)"
        )
        assert small == [], "fingers need room"
    # All that can be worked has a name for those who do not see it.
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, select, input, [role=img]')].filter(e => !(e.getAttribute('aria-label')"
        " || e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML)"
    )
    assert nameless == []

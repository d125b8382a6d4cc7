"""The page's files: what is linked is there, and no text is code."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from difflapse.io.products import atomic
from difflapse.report import IndexEntry, index_page, write_page, write_single_page
from difflapse.report.page import SCRIPTS

HOSTILE = "{{style}}</title><script>alert('1')</script>"
DATA = {"night": {"title": HOSTILE}, "stars": {}, "transforms": {}, "curves-000": "AAAA"}


def test_all_that_is_linked_is_written(tmp_path: Path) -> None:
    written: dict[str, str] = {}
    made = write_page(written.__setitem__, HOSTILE, DATA)
    assert sorted(made) == sorted(written)
    page = written["report.html"]
    linked = re.findall(r'(?:src|href)="(report_files/[^"]+)"', page)
    assert set(linked) < set(written)
    assert "report_files/curves-000.js" in written, "loaded when asked for"
    assert "report_files/curves-000.js" not in linked
    assert (
        linked.index("report_files/base.js")
        < linked.index("report_files/night.js")
        < linked.index("report_files/main.js")
    )
    assert "<script>alert" not in page
    assert "<title>{{style}}&lt;/title&gt;" in page
    assert not re.search(r'(?:src|href)=["\']?(?:https?:)?//', page)


def test_every_script_that_exists_is_loaded_and_asks_no_network() -> None:
    assets = files("difflapse.report").joinpath("assets")
    names = {item.name for item in assets.iterdir()}
    assert names == {*SCRIPTS, "page.html", "page.css"}
    for name in names:
        text = assets.joinpath(name).read_text(encoding="utf-8").replace("http://www.w3.org/", "")
        assert not re.search(r"https?://|fetch\(|XMLHttpRequest|@import|innerHTML|eval\(", text), name


@pytest.mark.parametrize("text", [HOSTILE, "</script>"])
def test_one_file_holds_all(tmp_path: Path, text: str) -> None:
    movie = tmp_path / "timelapse.mp4"
    movie.write_bytes(b"\x00\x01movie")
    path = tmp_path / "single.html"
    write_single_page(path, text, DATA | {"x": text}, {"timelapse.mp4": movie}, atomic)
    page = path.read_text(encoding="utf-8")
    assert "AAFtb3ZpZQ==" in page
    assert "report_files/page.css" not in page
    assert page.count("</script>") == len(re.findall(r"<script[ >]", page)), "no text ends a script"
    assert "alert" not in re.sub(r'"[^"]*"|<title>[^<]*</title>', "", page)


def test_the_index_leads_to_each_page_and_its_texts_are_text() -> None:
    page = index_page(
        [
            IndexEntry("a&b <i>", 5, 4, "", "timelapse.mp4", "report.html"),
            IndexEntry("other", 3, 0, "no <stars>", "", ""),
            IndexEntry("third", 3, 3, "", "timelapse.gif", ""),
        ],
        [("dark<.fits", "a dark")],
    )
    assert "href='a%26b%20%3Ci%3E/report.html'" in page
    assert "src='a%26b%20%3Ci%3E/timelapse.mp4'" in page
    assert "4 of 5 frames used" in page
    assert "Not run: no &lt;stars&gt;" in page
    assert "<img src='third/timelapse.gif'" in page
    assert "dark&lt;.fits" in page
    assert "<i>" not in page

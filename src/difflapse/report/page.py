"""The page as files: beside its data, or all in one file to mail."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Callable, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from difflapse.report.script import as_script

SCRIPTS = (
    "base.js",
    "sky.js",
    "plot.js",
    "player.js",
    "curves.js",
    "spots.js",
    "viewer.js",
    "changes.js",
    "sections.js",
    "main.js",
)
"""In the order in which they are loaded; data come behind the first."""
FIRST = ("night", "stars")
"""Data without which the page does not begin; others are loaded when they are asked for."""
FOLDER = "report_files"

Write = Callable[[str, str], None]
"""Takes the name below the run's folder, and the text."""


def write_page(write: Write, title: str, data: Mapping[str, Any]) -> list[str]:
    """Write ``report.html`` and the folder of data beside it.

    Parameters
    ----------
    write : callable
        Writes one file: its name below the run's folder (`/` between parts) and its text.
    title : str
        Of the page; any text.
    data : mapping of str to Any
        Plain values under the names that the page's scripts ask for; `FIRST` must be among them.

    Returns
    -------
    list of str
        Names of what was written, ``report.html`` last.
    """
    texts = {f"{name}.js": as_script(name, value) for name, value in data.items()}
    texts |= {name: _asset(name) for name in ("page.css", *SCRIPTS)}
    for name, text in texts.items():
        write(f"{FOLDER}/{name}", text)
    order = (SCRIPTS[0], *(f"{name}.js" for name in FIRST), *SCRIPTS[1:])
    links = "\n".join(f'<script src="{FOLDER}/{name}"></script>' for name in order)
    style = f'<link rel="stylesheet" href="{FOLDER}/page.css">'
    write("report.html", _filled(title, style, links))
    return [*(f"{FOLDER}/{name}" for name in texts), "report.html"]


def write_single_page(
    path: Path, title: str, data: Mapping[str, Any], embedded: Mapping[str, Path], writing: Callable[..., Any]
) -> None:
    """Write the page with all that it shows in one file.

    Parameters
    ----------
    path : Path
        The file.
    title, data
        As `write_page` takes them.
    embedded : mapping of str to Path
        Files to carry along, by the names that the page calls them: the movie and the clips.
    writing : callable
        Takes `path` and gives a context with the name to write to, such as `difflapse.io.products.atomic`.
    """
    movies = "\n".join(
        f'<script type="text/plain" class="embedded" data-name="{escape(name)}" '
        f'data-type="{mimetypes.guess_type(name)[0] or "video/mp4"}">'
        f"{base64.b64encode(file.read_bytes()).decode('ascii')}</script>"
        for name, file in embedded.items()
    )
    parts = [_asset(SCRIPTS[0]), *(as_script(name, value) for name, value in data.items())]
    parts += [_asset(name) for name in SCRIPTS[1:]]
    scripts = movies + "\n" + "\n".join(f"<script>\n{part}</script>" for part in parts)
    with writing(path) as temporary:
        text = _filled(title, f"<style>\n{_asset('page.css')}</style>", scripts)
        temporary.write_text(text, encoding="utf-8")


def _filled(title: str, style: str, scripts: str) -> str:
    """The page's HTML; each place is filled once, so that no text is taken for a place."""
    before, _, rest = _asset("page.html").partition("{{title}}")
    middle, _, rest = rest.partition("{{style}}")
    body, _, end = rest.partition("{{scripts}}")
    return f"{before}{escape(title)}{middle}{style}{body}{scripts}{end}"


def _asset(name: str) -> str:
    return files("difflapse.report").joinpath("assets", name).read_text(encoding="utf-8")

"""The page above several sequences: a line and a movie for each, and what was not run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

from difflapse.report.page import _asset


@dataclass(frozen=True)
class IndexEntry:
    """One sequence, as the index tells of it."""

    name: str
    """Also its folder's."""
    n_frames: int
    n_used: int
    reason: str
    """Why it was not run; empty where it was."""
    movie: str
    """Name of its movie below its folder; empty without one."""
    report: str
    """Likewise of its page."""


def index_page(entries: Sequence[IndexEntry], left_out: Sequence[tuple[str, str]]) -> str:
    """The page that leads to each sequence's own.

    Parameters
    ----------
    entries : sequence of IndexEntry
        In the order in which they are told.
    left_out : sequence of (str, str)
        Files that are in no sequence, and why.

    Returns
    -------
    str
        HTML that needs no other file; all texts escaped.
    """
    parts = [_section(entry) for entry in entries]
    if left_out:
        rows = "".join(f"<li><b>{escape(file)}</b> {escape(why)}</li>" for file, why in left_out)
        parts.append(f"<section><h2>Left out</h2><ul class='plain'>{rows}</ul></section>")
    head = (
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n<title>difflapse</title>\n"
        f"<style>\n{_asset('page.css')}</style>\n</head>\n"
    )
    title = f"<header class='page'><h1>{len(entries)} sequences</h1></header>"
    return f"{head}<body>\n{title}\n<main class='index'>{''.join(parts)}</main>\n</body>\n</html>\n"


def _section(entry: IndexEntry) -> str:
    name, place = escape(entry.name), quote(entry.name)
    if entry.reason:
        return f"<section><h2>{name}</h2><p>Not run: {escape(entry.reason)}</p></section>"
    movie, report = quote(entry.movie), quote(entry.report)
    title = f"<a href='{place}/{report}'>{name}</a>" if entry.report else name
    shown = ""
    if entry.movie.endswith(".gif"):
        shown = f"<img src='{place}/{movie}' alt='Movie of {name}'>"
    elif entry.movie:
        shown = f"<video controls loop muted playsinline src='{place}/{movie}' aria-label='Movie of {name}'></video>"
    elif entry.movie:
        shown = f"<p><a href='{place}/{movie}'>{escape(entry.movie)}</a></p>"
    return (
        f"<section><h2>{title}</h2><p>{entry.n_used} of {entry.n_frames} frames used. "
        f"<a href='{place}/frames.ecsv'>frames.ecsv</a></p>{shown}</section>"
    )

"""Rings, tails and names of what changed, drawn onto a finished movie frame just before it is encoded."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from difflapse.movie.layout import Layout, Panel
from difflapse.movie.text import draw_in_eight_bits, paste_seamed, text_mask

INK = (140, 245, 205)
"""No tone of the colour scale, nor of a star."""
_SEAM = (46, 52, 54)
_SHOWN = 24
"""Changes of a frame that are ringed at most, those of the highest S/N first: more would hide the sky."""
_NAMED = ("difference", "split", "blink", "aligned")
"""Panels where changes are named, the first that is there; elsewhere they are only ringed."""
_RINGED = ("aligned", "difference", "split", "blink", "red", "green", "blue")
_AXES = ("x_pix", "y_pix")


@dataclass(frozen=True)
class _Seen:
    """One change in one frame, native pixels of the reference."""

    kind: str
    name: str
    x: float
    y: float
    end: tuple[float, float] | None
    """The other end of a streak."""
    tail: np.ndarray
    """(n, 2) where it was in earlier frames, in their order."""
    now: bool
    """Whether it was sighted in this very frame; a streak always."""


def mark(
    picture: np.ndarray,
    layout: Layout,
    changes: Mapping[str, Any],
    detections: Mapping[str, Any] | None,
    frame: int,
    shift: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Ring and name what changed in one movie frame, in place. With labels other than ``full`` does nothing.

    Parameters
    ----------
    picture : (layout.height, layout.width, 3) uint8 or uint16
        The movie frame, as `compose` returned it. Marks are drawn in 8 bits.
    layout : Layout
        Of the movie.
    changes : table or mapping of arrays
        Columns of `changes.ecsv`: ``change``, ``kind``, ``x_pix``, ``y_pix``, ``first_frame``, ``last_frame``,
        ``snr``, and where they are there ``amplitude_mag``, ``x_end_pix``, ``y_end_pix``, ``name``.
    detections : table or mapping of arrays, optional
        Columns ``change``, ``frame``, ``x_pix``, ``y_pix`` of `detections.ecsv`: where each change was seen. Without
        them it is ringed where it was first seen.
    frame : int
        Number of the frame, as in the tables.
    shift : (float, float)
        Native pixels (x, y) by which the panels look elsewhere than the layout says, where they follow a target.

    Notes
    -----
    Rings are open, wider than a star and thinner than a letter, so that what they show stays free; movers and comets
    draw a tail of dots through where they were seen before, which ends at the ring; streaks lie between two lines.
    Between two sightings a mover's ring is where a straight track has it; a comet's keeps to its track throughout. A
    name takes the first of eight places about its ring where it covers neither another ring or streak nor another
    name; where there is none, the ring stays unnamed. Where a thing was not sighted in the frame itself, its ring is
    dimmer. 20 changes: about 3 ms a frame.
    """
    if layout.labels != "full":
        return
    seen = list(_seen(changes, detections, frame, shift))[:_SHOWN]
    if not seen:
        return
    named = next((name for name in _NAMED if name in layout.names), None)
    for panel in layout.panels:
        if panel.name in _RINGED:
            view = picture[panel.y : panel.y + panel.height, panel.x : panel.x + panel.width]
            named_here = panel.name == named
            draw_in_eight_bits(view, functools.partial(_mark_panel, layout, panel, seen, named_here))


def best_places(
    changes: Mapping[str, Any], detections: Mapping[str, Any] | None, frame: int, most: int
) -> list[tuple[str, tuple[float, float], tuple[float, float]]]:
    """Name, place when first seen, and place now of the changes of the highest S/N but streaks, native pixels.

    Tables and frame as for `mark`; before and after they were seen, changes stay where they were seen next.
    """
    kinds = np.array([str(kind) for kind in changes["kind"]])
    order = np.argsort(-np.nan_to_num(_column(changes, "snr")), kind="stable")
    found = []
    for n in [n for n in order if kinds[n] != "streak"][: max(most, 0)]:
        number = int(_column(changes, "change")[n])
        home = float(_column(changes, "x_pix")[n]), float(_column(changes, "y_pix")[n])
        now = home
        if detections is not None:
            own = np.flatnonzero(_column(detections, "change") == number)
            when = _column(detections, "frame")[own]
            own, when = own[np.argsort(when)], np.sort(when)
            if len(own):
                x, y = _column(detections, "x_pix")[own], _column(detections, "y_pix")[own]
                now = float(np.interp(frame, when, x)), float(np.interp(frame, when, y))
        if np.isfinite([*home, *now]).all():
            found.append((_name(changes, int(n), kinds[n], number), home, now))
    return found


def _seen(
    changes: Mapping[str, Any], detections: Mapping[str, Any] | None, frame: int, shift: tuple[float, float]
) -> Iterator[_Seen]:
    """What is there in a frame, the most significant first."""
    first, last = _column(changes, "first_frame"), _column(changes, "last_frame")
    there = np.flatnonzero((first <= frame) & (frame <= last))
    there = there[np.argsort(-np.nan_to_num(_column(changes, "snr")[there]), kind="stable")]
    if detections is not None:
        owner, when = _column(detections, "change"), _column(detections, "frame")
        x, y = _column(detections, "x_pix"), _column(detections, "y_pix")
    for n in there:
        number, kind = int(_column(changes, "change")[n]), str(changes["kind"][n])
        at = np.array([_column(changes, "x_pix")[n], _column(changes, "y_pix")[n]])
        tail, now = np.empty((0, 2)), True
        if detections is not None:
            own = np.flatnonzero((owner == number) & np.isfinite(x) & np.isfinite(y))
            own = own[np.argsort(when[own], kind="stable")]
            now = kind == "streak" or bool((when[own] == frame).any())
            if kind == "comet" and "x_end_pix" in _names(changes):
                # Of a coma single frames say little: the ring keeps to the track that all of them have.
                ends = np.array([first[n], last[n]])
                track = [
                    [_column(changes, a)[n], _column(changes, a.replace("_pix", "_end_pix"))[n]]
                    for a in _AXES
                ]
                at = np.array([np.interp(frame, ends, v) for v in track])
                earlier = when[own][when[own] < frame]
                tail = np.column_stack([np.interp(earlier, ends, v) for v in track])
            elif len(own) and kind in ("mover", "comet"):
                at = np.array([np.interp(frame, when[own], v[own]) for v in (x, y)])
                tail = np.column_stack([x[own], y[own]])[when[own] < frame]
            elif len(own) and (when[own] == frame).any():
                k = own[when[own] == frame][0]
                at = np.array([x[k], y[k]])
        end = None
        if kind == "streak" and "x_end_pix" in _names(changes):
            other = (float(_column(changes, "x_end_pix")[n]), float(_column(changes, "y_end_pix")[n]))
            end = (other[0] - shift[0], other[1] - shift[1]) if np.isfinite(other).all() else None
            at = np.array([_column(changes, "x_pix")[n], _column(changes, "y_pix")[n]])
        if np.isfinite(at).all():
            name = _name(changes, int(n), kind, number)
            yield _Seen(kind, name, at[0] - shift[0], at[1] - shift[1], end, tail - shift, now)


def _names(table: Mapping[str, Any]) -> list[str]:
    return list(getattr(table, "colnames", None) or table.keys())


def _column(table: Mapping[str, Any], name: str) -> np.ndarray:
    """A column as float, NaN where it is masked."""
    found = table[name]
    if type(found) is np.ndarray and found.dtype == float:
        return found
    return np.ma.filled(np.ma.asarray(table[name]).astype(float), np.nan)


def _name(changes: Mapping[str, Any], n: int, kind: str, number: int) -> str:
    if "name" in _names(changes) and str(changes["name"][n]) not in ("", "--"):
        # The kind and the place; the time that tells movers apart is too long for a picture.
        return " ".join(str(changes["name"][n]).split()[:2])
    if kind == "variable" and "amplitude_mag" in _names(changes):
        size = _column(changes, "amplitude_mag")[n]
        if np.isfinite(size):
            return f"variable {number}, {size:.2g} mag"
    return f"{kind} {number}" if kind != "unknown" else f"change {number}"


def _mark_panel(layout: Layout, panel: Panel, seen: list[_Seen], named: bool, view: np.ndarray) -> None:
    matrix = layout.native_to_movie(panel.name)
    base = max(8.0, 0.5 * layout.text)
    thick = max(1, round(layout.text / 18))
    bright = 1.0 if named else 0.8

    def place(x: Any, y: Any) -> np.ndarray:
        return np.stack([x, y], -1) @ matrix[:, :2].T + matrix[:, 2] - (panel.x, panel.y)

    rings: list[tuple[np.ndarray, float]] = []
    lines: list[tuple[_Seen, list[tuple[float, ...]]]] = []
    for one in seen:
        at = place(one.x, one.y)
        radius = base * (1.9 if one.kind == "comet" else 1.0)
        ink = tuple(int(c * bright * (1.0 if one.now else 0.7)) for c in INK)
        if one.end is not None:
            _capsule(view, at, place(*one.end), 0.6 * base, ink, thick)
            lines.append((one, _beads(at, place(*one.end), 0.6 * base)))
            at = (at + place(*one.end)) / 2
        else:
            _tail(view, place(*one.tail.T), at, radius, ink, thick)
            _ring(view, at, radius, ink, thick)
        rings.append((at, radius))
    if not named:
        return
    size = max(9, round(0.85 * layout.text))
    taken = [(x - r, y - r, x + r, y + r) for (x, y), r in rings]
    for one, ((x, y), radius) in zip(seen, rings, strict=True):
        if not (0 <= x < panel.width and 0 <= y < panel.height):
            continue
        word = text_mask(one.name, size)
        tall, wide = word.shape
        own = taken.index((x - radius, y - radius, x + radius, y + radius))
        beads = [bead for other, along in lines if other is not one for bead in along]
        for left, top in _places(x, y, radius + 0.2 * size, wide, tall):
            box = (left - 2, top, left + wide + 2, top + tall)
            inside = box[0] >= 2 and box[1] >= 2 and box[2] <= panel.width - 2 and box[3] <= panel.height - 2
            free = not any(_meet(box, other) for n, other in enumerate(taken) if n != own)
            free = free and not any(_meet(box, bead) for bead in beads)
            if inside and free:
                paste_seamed(view, word, round(left), round(top), INK)
                taken.append(box)
                break


def _places(x: float, y: float, r: float, wide: int, tall: int) -> Iterator[tuple[float, float]]:
    """Upper left corners of a word's places about a ring: beside it, then above and below, then askew."""
    yield x + r, y - tall / 2
    yield x - r - wide, y - tall / 2
    yield x - wide / 2, y - r - tall
    yield x - wide / 2, y + r
    d = 0.75 * r
    yield x + d, y - d - tall
    yield x + d, y + d
    yield x - d - wide, y - d - tall
    yield x - d - wide, y + d


def _beads(a: np.ndarray, b: np.ndarray, half: float) -> list[tuple[float, ...]]:
    """Squares that together cover a streak between its lines, for names to keep clear of."""
    n = max(2, int(np.hypot(*(b - a)) / half) + 1) if np.isfinite([*a, *b]).all() else 0
    points = [a + (b - a) * part for part in np.linspace(0, 1, min(n, 2000))]
    return [(x - half, y - half, x + half, y + half) for x, y in points]


def _meet(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _fixed(points: np.ndarray) -> np.ndarray:
    """Points for OpenCV, in sixteenths of a pixel, far ones drawn in."""
    return np.rint(np.clip(points, -20000, 20000) * 16).astype(np.int32)


def _ring(view: np.ndarray, at: np.ndarray, radius: float, ink: tuple[int, ...], thick: int) -> None:
    """A ring of four arcs on a dark seam, so that it reads on any ground."""
    x, y = (int(v) for v in _fixed(at))
    axes = (round(16 * radius), round(16 * radius))
    for colour, width in ((_SEAM, thick + (2 if thick > 1 else 1)), (ink, thick)):
        for start in (12, 102, 192, 282):
            cv2.ellipse(view, (x, y), axes, 0, start, start + 66, colour, width, cv2.LINE_AA, 4)


def _tail(
    view: np.ndarray, points: np.ndarray, at: np.ndarray, radius: float, ink: tuple[int, ...], thick: int
) -> None:
    """Dots where a mover was, fading with age, none in its ring."""
    n = len(points)
    apart = np.hypot(points[:, 0] - at[0], points[:, 1] - at[1])
    shown = np.flatnonzero(np.isfinite(apart) & ~(apart < 1.3 * radius))
    for k, (x, y) in zip(shown.tolist(), _fixed(points[shown]).tolist(), strict=True):
        age = (n - k) / max(n, 1)
        colour = tuple(int(c * (1 - 0.55 * age)) for c in ink)
        cv2.circle(view, (x, y), round(16 * (0.5 * thick + 0.5)), colour, -1, cv2.LINE_AA, 4)


def _capsule(
    view: np.ndarray, a: np.ndarray, b: np.ndarray, gap: float, ink: tuple[int, ...], thick: int
) -> None:
    """Two lines along a streak, one on each side, which leave it free."""
    along = (b - a) / max(float(np.hypot(*(b - a))), 1e-6)
    aside = gap * np.array([-along[1], along[0]])
    for colour, width in ((_SEAM, thick + (2 if thick > 1 else 1)), (ink, thick)):
        for side in (aside, -aside):
            start, end = (tuple(int(v) for v in _fixed(p + side)) for p in (a, b))
            cv2.line(view, start, end, colour, width, cv2.LINE_AA, 4)

"""The picture of a clip: what changed, magnified, beside what it was before, and its light as it came in."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from difflapse.movie.text import BRIGHT, DIM, GROUND, WARN, eight_bits, paste, text_mask

WIDTH, HEIGHT = 1280, 720
SIDE = 400
"""Of each panel."""
_TOP, _PAD = 84, 20
_CURVE = (546, 692)
"""Rows between which the light curve is drawn."""
_LEFT, _RIGHT = 108, WIDTH - 28
_TRACK = (52, 53, 58)
_BESIDE = 15
"""Pixels from a streak to the lines beside it."""

Point = tuple[float, float]
Place = Point | tuple[Point, Point] | None
"""A point, the two ends of what is long, or nothing."""


@dataclass(frozen=True, eq=False)
class Curve:
    """How bright it was in each frame of the clip."""

    time: np.ndarray
    """(n,) float, in any unit: the places of points along the axis."""
    flux: np.ndarray
    """(n,) float, NaN where it was not measured."""
    error: np.ndarray
    label: str
    """What is drawn, with its unit."""
    ends: tuple[str, str]
    """Words for the first and the last time."""
    missing: str = ""
    """Why frames without a measure have none."""


def clip_picture(
    title: str,
    subtitle: str,
    clock: str,
    panels: Mapping[str, np.ndarray],
    places: Sequence[Place],
    curve: Curve,
    now: int,
    lit: bool = True,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Draw one picture of a clip.

    Parameters
    ----------
    title, subtitle, clock : str
        What it is; more about it; when it is.
    panels : mapping of str to (height, width, 3) uint8
        Three pictures by what is written under them, each at most `SIDE` wide and high.
    places : sequence of Place
        Where it is in each panel, pixels from the upper left corner: a point has the corners of a frame around it,
        what has two ends a thin line on either side.
    curve : Curve
        Its light.
    now : int
        Points of the curve up to this one are drawn.
    lit : bool
        Whether the frame around it is bright (it is seen now) or dim.
    out : (720, 1280, 3) uint8, optional
        Picture to draw into, such as the last one: memory that is at hand costs less than new.

    Returns
    -------
    picture : (720, 1280, 3) uint8
    """
    time = text_mask(clock, 24)
    picture = np.empty((HEIGHT, WIDTH, 3), np.uint8) if out is None else out
    picture[:] = _words(title, subtitle, WIDTH - 3 * _PAD - time.shape[1], curve)
    paste(picture, time, WIDTH - _PAD - time.shape[1], 16, BRIGHT)
    gap = (WIDTH - 2 * _PAD - 3 * SIDE) // 2
    for n, ((name, drawn), place) in enumerate(zip(panels.items(), places, strict=True)):
        x = _PAD + n * (SIDE + gap)
        high, wide = drawn.shape[:2]
        left, top = x + (SIDE - wide) // 2, _TOP + (SIDE - high) // 2
        picture[top : top + high, left : left + wide] = drawn
        if place is not None:
            view = picture[top : top + high, left : left + wide]
            _mark(view, place, WARN if lit else DIM)
        paste(picture, text_mask(name, 20, SIDE), left, top + high + 6, DIM)
    _draw_points(picture, curve, now)
    return picture


@functools.lru_cache(maxsize=1)
def _words(title: str, subtitle: str, room: int, curve: Curve) -> np.ndarray:
    """What stays in all pictures of a clip: its name, what is said of it, and the axes of its light."""
    picture = _ground().copy()
    paste(picture, text_mask(title, 32, room), _PAD, 10, BRIGHT)
    paste(picture, text_mask(subtitle, 20, WIDTH - 2 * _PAD), _PAD, 48, DIM)
    top, bottom = _CURVE
    paste(picture, text_mask(curve.label, 18, WIDTH - 2 * _PAD), _PAD, top - 28, DIM)
    cv2.rectangle(picture, (_LEFT, top), (_RIGHT, bottom), _TRACK, 1)
    for n, word in enumerate(curve.ends):
        mask = text_mask(word, 17)
        paste(picture, mask, _LEFT if n == 0 else _RIGHT - mask.shape[1], bottom + 5, DIM)
    axes = _plot(curve).axes
    if axes is None:
        return picture
    for value, y in ((axes.high - axes.room, top + 2), (axes.low + axes.room, bottom - 20)):
        mask = text_mask(f"{value:,.0f}" if abs(value) >= 10 else f"{value:.2g}", 17, _LEFT - 12)
        paste(picture, mask, _LEFT - 8 - mask.shape[1], y, DIM)
    if axes.low < 0 < axes.high:
        cv2.line(picture, (_LEFT, axes.y(0)), (_RIGHT, axes.y(0)), _TRACK, 1)
    return picture


def title_card(lines: Sequence[str]) -> np.ndarray:
    """A picture of words: the first line large, the others below it. (720, 1280, 3) uint8."""
    picture = _ground().copy()
    y = HEIGHT // 2 - 40 - 24 * len(lines)
    for n, line in enumerate(lines):
        size = 60 if n == 0 else 30
        mask = text_mask(line, size, WIDTH - 120)
        paste(picture, mask, (WIDTH - mask.shape[1]) // 2, y, BRIGHT if n == 0 else DIM)
        y += 100 if n == 0 else 50
    return picture


def fitted(picture: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """A movie frame of either depth as (720, 1280, 3) uint8, shrunk, dark where it has another shape; drawn into `out`
    where that is given.
    """
    high, wide = picture.shape[:2]
    scale = min(WIDTH / wide, HEIGHT / high)
    size = (max(1, round(wide * scale)), max(1, round(high * scale)))
    whole = np.empty((HEIGHT, WIDTH, 3), np.uint8) if out is None else out
    whole[:] = _ground()
    x, y = (WIDTH - size[0]) // 2, (HEIGHT - size[1]) // 2
    whole[y : y + size[1], x : x + size[0]] = cv2.resize(
        eight_bits(picture), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    )
    return whole


@functools.lru_cache(maxsize=1)
def _ground() -> np.ndarray:
    ground = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    ground[:] = GROUND
    return ground


def _mark(view: np.ndarray, place: Point | tuple[Point, Point], colour: tuple[int, int, int]) -> None:
    """Mark a place so that nothing of what is in it is hidden."""
    if isinstance(place[0], tuple):
        _rails(view, np.array(place, float), colour)
    else:
        _corners(view, place, colour)


def _rails(view: np.ndarray, ends: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Thin lines along either side of a way from end to end, each turned in beyond the ends."""
    along = ends[1] - ends[0]
    along /= max(float(np.hypot(*along)), 1e-9)
    across = np.array([-along[1], along[0]])
    corner = [
        end + _BESIDE * (way * along + side * across)
        for side in (-1, 1)
        for end, way in zip(ends, (-1, 1), strict=True)
    ]
    inward = np.array([across, across, -across, -across]) * 0.6 * _BESIDE
    for a, b in ((corner[0], corner[1]), (corner[2], corner[3]), *zip(corner, corner + inward, strict=True)):
        # In sixteenths of a pixel, and no farther than OpenCV can count.
        a, b = (tuple(np.clip(np.round(16 * p), -(2**20), 2**20).astype(int).tolist()) for p in (a, b))
        cv2.line(view, a, b, colour, 1, cv2.LINE_AA, shift=4)


def _corners(view: np.ndarray, place: Point, colour: tuple[int, int, int]) -> None:
    """The four corners of a square about a place."""
    half, arm = 34, 10
    for sx in (-1, 1):
        for sy in (-1, 1):
            x, y = round(place[0] + sx * half), round(place[1] + sy * half)
            cv2.line(view, (x, y), (x - sx * arm, y), colour, 2, cv2.LINE_AA)
            cv2.line(view, (x, y), (x, y - sy * arm), colour, 2, cv2.LINE_AA)


@dataclass(frozen=True)
class _Axes:
    """What light the frame of the curve spans."""

    low: float
    high: float
    room: float
    """Left free above and below."""

    @classmethod
    def of(cls, curve: Curve) -> _Axes | None:
        """None where nothing was measured."""
        good = np.isfinite(curve.flux) & np.isfinite(curve.error)
        if not good.any():
            return None
        usual = np.minimum(curve.error[good], 3 * np.median(curve.error[good]))
        low, high = float((curve.flux[good] - usual).min()), float((curve.flux[good] + usual).max())
        room = 0.08 * (high - low) or max(abs(high), 1.0) * 0.1
        return cls(low - room, high + room, room)

    def y(self, flux: float) -> int:
        """Row of a flux, not beyond the frame."""
        top, bottom = _CURVE
        return round(
            min(max(bottom - (flux - self.low) / (self.high - self.low) * (bottom - top), top), bottom)
        )


@dataclass(frozen=True, eq=False)
class _Plot:
    """A curve on the picture."""

    axes: _Axes | None
    good: np.ndarray
    """(n,) bool: it was measured."""
    x: list[int]
    """Column of each point."""
    y: list[tuple[int, int, int]]
    """Rows of each point and of the ends of its error; 0 where it was not measured."""


@functools.lru_cache(maxsize=1)
def _plot(curve: Curve) -> _Plot:
    """Where all of a curve's points are drawn: found once for all pictures of a clip."""
    first, last = float(curve.time.min()), float(curve.time.max())
    part = (curve.time - first) / max(last - first, 1e-12)
    x = [round(v) for v in (_LEFT + 10 + part * (_RIGHT - _LEFT - 20)).tolist()]
    good = np.isfinite(curve.flux) & np.isfinite(curve.error)
    axes = _Axes.of(curve)
    y = [(0, 0, 0)] * len(x)
    if axes is not None:
        for n in np.flatnonzero(good):
            flux, error = float(curve.flux[n]), float(curve.error[n])
            y[n] = axes.y(flux), axes.y(flux - error), axes.y(flux + error)
    return _Plot(axes, good, x, y)


def _draw_points(picture: np.ndarray, curve: Curve, now: int) -> None:
    """The points that are known by now, and crosses where there are none."""
    top, bottom = _CURVE
    plot = _plot(curve)
    if curve.missing and not plot.good.all():
        _mark_missing(picture, [plot.x[n] for n in range(now + 1) if not plot.good[n]], curve.missing)
    if plot.axes is None:
        return
    cv2.line(picture, (plot.x[now], top), (plot.x[now], bottom), _TRACK, 1)
    for n in np.flatnonzero(plot.good[: now + 1]).tolist():
        x, (y, low, high) = plot.x[n], plot.y[n]
        cv2.line(picture, (x, low), (x, high), DIM, 1)
        cv2.circle(picture, (x, y), 6 if n == now else 4, WARN if n == now else BRIGHT, -1, cv2.LINE_AA)


def _mark_missing(picture: np.ndarray, places: Sequence[int], why: str) -> None:
    """A cross on the axis for each frame that has no measure, and below it what crosses mean."""
    bottom = _CURVE[1]
    for x in places:
        for slope in (-1, 1):
            cv2.line(
                picture,
                (x - 5, bottom - 10 + 5 * slope),
                (x + 5, bottom - 10 - 5 * slope),
                DIM,
                2,
                cv2.LINE_AA,
            )
    mask = text_mask(f"× not measured: {why}", 17, _RIGHT - _LEFT - 240)
    paste(picture, mask, (_LEFT + _RIGHT - mask.shape[1]) // 2, bottom + 5, DIM)

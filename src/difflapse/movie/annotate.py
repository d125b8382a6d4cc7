"""The words on the movie: titles above, time and colour scale below; never on the pictures themselves."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from difflapse.movie.compass import Compass, draw_compass
from difflapse.movie.diverging import VMAX, compress, diverging_table
from difflapse.movie.layout import Layout
from difflapse.movie.text import BRIGHT, DIM, GROUND, WARN, levels, paste, text_mask
from difflapse.movie.timebar import TimeBar, draw_bar


@dataclass(frozen=True)
class Caption:
    """What is written on one movie frame. Any text will do, headers' too: it is made fit to be shown."""

    time_utc: str
    """Middle of the exposure, ISO text without zone; empty if unknown."""
    frame: int
    """Number of this frame as in the column ``frame`` of the tables, 0-based."""
    n_frames: int
    """How many there are."""
    name: str = ""
    """Field or sequence."""
    exposure: str = ""
    """For example ``120 s``."""
    titles: tuple[str, ...] = ()
    """One per panel; bright up to the first ``": "``, as in ``difference: minus template of 12 frames``."""
    method: str = ""
    """How it was aligned and how well, for example ``asterism, rms 0.08 px``."""
    note: str = ""
    """What the viewer must know about this frame, for example ``cloud``."""
    units: str = "sigma"
    """Units of the colour scale: ``sigma``, ``adu``, ``percent`` or ``mag``."""
    vmax: float = VMAX
    """Difference at the ends of the colour scale, in `units`."""
    time_local: str = ""
    """The same time in another zone, with its name: ``2018-08-23 18:02:18 HST``; empty where it is not wanted."""
    new_date: bool = False
    """Whether the frame before was of another date: the time is then drawn in the colour of warnings."""
    compass: Compass | None = None
    """Where north and east are, and how large the picture is on the sky."""
    bar: TimeBar | None = None
    """The night's times."""


def annotate(picture: np.ndarray, layout: Layout, caption: Caption) -> None:
    """Write the caption into the strips of a movie frame, in place.

    Parameters
    ----------
    picture : (height, width, 3) uint8
        The movie frame; only the layout's strips are touched.
    layout : Layout
        Says where the strips are.
    caption : Caption
        With ``labels="time"`` only its time is used, with ``labels="none"`` nothing.

    Notes
    -----
    What does not change from frame to frame is drawn once and kept. About 1 ms a frame.
    """
    if layout.top:
        strip = layout.top
        titles = caption.titles or layout.names
        band = _titles(layout, titles, caption.name, caption.exposure, caption.method)
        picture[strip.y : strip.y + strip.height] = levels(band, picture.dtype)
    if layout.bottom:
        strip = layout.bottom
        band = _scale(layout, caption.units, caption.vmax, caption.compass).copy()
        _clock(band, layout, caption)
        picture[strip.y : strip.y + strip.height] = levels(band, picture.dtype)
    if layout.bar:
        strip = layout.bar
        band = _ground(strip.height, layout.width)
        if caption.bar is not None:
            draw_bar(band, caption.bar, caption.frame, layout.text)
        picture[strip.y : strip.y + strip.height] = levels(band, picture.dtype)


def _clock(band: np.ndarray, layout: Layout, caption: Caption) -> None:
    """Time and frame number on the left of the lower strip, what else fits beside them."""
    size, pad, line = layout.text, _pad(layout), _line(layout)
    left, wide = layout.columns[0]
    x, room = left + pad, wide - 2 * pad
    stamp = caption.time_utc.strip().replace("T", " ")
    time = text_mask(f"{stamp} UTC" if stamp else "time unknown", size, room)
    y = (line - time.shape[0]) // 2
    paste(band, time, x, y, WARN if caption.new_date and stamp else BRIGHT)
    used = time.shape[1] + 2 * pad
    if caption.time_local and room - used > 6 * size:
        local = text_mask(caption.time_local, size, room - used)
        paste(band, local, x + used - pad, y, DIM)
        used += local.shape[1] + pad
    if layout.labels != "full":
        return
    room = _room(layout, room)
    digits = len(str(caption.n_frames))
    # A slot as wide as the most digits keeps the number in its place from 9 to 10.
    word = text_mask("frame", size)
    number = text_mask(f"{caption.frame}", size)
    slot = text_mask("0" * digits, size).shape[1]
    total = text_mask(f"of {caption.n_frames}", size)
    gap = round(0.3 * size)
    if used + word.shape[1] + slot + total.shape[1] + 2 * gap <= room:
        paste(band, word, x + used, y, BRIGHT)
        used += word.shape[1] + gap + slot
        paste(band, number, x + used - number.shape[1], y, BRIGHT)
        paste(band, total, x + used + gap, y, DIM)
        used += gap + total.shape[1] + 2 * pad
    if not caption.note:
        return
    if _lines(layout) == 2:
        note = text_mask(caption.note, size, max(1, _scale_start(layout) - x - pad))
        paste(band, note, x, line + y - round(0.15 * size), WARN)
    elif room - used > 2 * size:
        note = text_mask(caption.note, size, room - used)
        paste(band, note, x + room - note.shape[1], y, WARN)


@functools.lru_cache(maxsize=8)
def _titles(layout: Layout, titles: tuple[str, ...], name: str, exposure: str, method: str) -> np.ndarray:
    """The upper strip as (height, width, 3) uint8: titles, and the field over the first panel."""
    assert layout.top
    band = _ground(layout.top.height, layout.width)
    size, pad = layout.text, _pad(layout)
    for n, (title, (left, wide)) in enumerate(zip(titles, layout.columns, strict=False)):
        head, _, tail = title.partition(": ")
        if n == 0 and method:
            tail = f"{tail}, {method}" if tail else method
        x, room = left + pad, wide - 2 * pad
        mask = text_mask(head, size, room)
        y = (layout.top.height - mask.shape[0]) // 2
        paste(band, mask, x, y, BRIGHT)
        used = mask.shape[1] + round(0.7 * size)
        if n == 0 and (name or exposure):
            field = " · ".join(part for part in (name, exposure) if part)
            label = text_mask(field, size, max(1, min(room - used, round(0.5 * room))))
            paste(band, label, left + wide - pad - label.shape[1], y, DIM)
            room -= label.shape[1] + pad
        if tail and room - used > 2 * size:
            _tail(band, tail, size, x + used, y, room - used)
    band.setflags(write=False)
    return band


def _tail(band: np.ndarray, tail: str, size: int, x: int, y: int, room: int) -> None:
    """What stands behind a title; where all of it has no room its end, which is the unit, is kept."""
    first, comma, unit = tail.rpartition(", ")
    end = text_mask(f"{comma}{unit}", size)
    if comma and text_mask(tail, size).shape[1] > room > end.shape[1] + 2 * size:
        begin = text_mask(first, size, room - end.shape[1])
        paste(band, begin, x, y, DIM)
        paste(band, end, x + begin.shape[1], y, DIM)
    else:
        paste(band, text_mask(tail, size, room), x, y, DIM)


@functools.lru_cache(maxsize=8)
def _scale(layout: Layout, units: str, vmax: float, compass: Compass | None) -> np.ndarray:
    """The lower strip as (height, width, 3) uint8: empty but for the compass and the colour scale."""
    assert layout.bottom
    band = _ground(layout.bottom.height, layout.width)
    if layout.labels == "full" and _scale_column(layout) is not None:
        start, stop = _scale_start(layout), _scale_stop(layout)
        if stop - start > 6 * layout.text:
            _draw_scale(band, layout, units, vmax, start, stop)
    if layout.labels == "full" and compass is not None:
        x, wide = _compass_place(layout)
        draw_compass(band[: _line(layout)], compass, layout.text, x, wide)
    band.setflags(write=False)
    return band


def _draw_scale(band: np.ndarray, layout: Layout, units: str, vmax: float, start: int, stop: int) -> None:
    small = max(9, round(0.72 * layout.text))
    line = _line(layout)
    high = max(4, round(0.42 * layout.text))
    y = (_lines(layout) - 1) * (line - round(0.15 * layout.text)) + (line - high - round(1.2 * small)) // 2
    place = np.linspace(-1, 1, stop - start)
    band[y : y + high, start:stop] = diverging_table()[np.rint(127 + 127 * place).astype(int)]
    unit = {"sigma": "σ", "percent": "%", "mag": " mag"}.get(units, f" {units.upper()}")
    fainter, brighter = ("+", "−") if units == "mag" else ("−", "+")
    taken: list[tuple[int, int]] = []
    for part in (-1.0, 1.0, 0.0, -0.5, 0.5, -0.25, 0.25):
        value = part * vmax
        x = start + round((stop - 1 - start) * (compress(value, vmax).item() + 1) / 2)
        sign = fainter if value < 0 else brighter if value > 0 else ""
        end = abs(part) == 1
        word = text_mask(f"{sign}{abs(value):.3g}{unit if end else ''}", small)
        at = x - word.shape[1] // 2
        at = min(max(at, start), stop - word.shape[1]) if end else at
        if any(at < b + small // 3 and a - small // 3 < at + word.shape[1] for a, b in taken):
            continue
        taken.append((at, at + word.shape[1]))
        paste(band, word, at, y + high + round(0.12 * small), DIM)
        if not end:
            band[y + high : y + high + max(2, small // 7), x : x + max(1, small // 12)] = DIM


def _ground(high: int, wide: int) -> np.ndarray:
    band = np.empty((high, wide, 3), np.uint8)
    band[:] = GROUND
    return band


def _pad(layout: Layout) -> int:
    """Distance of the words from the edges."""
    return round(0.6 * layout.text)


def _lines(layout: Layout) -> int:
    assert layout.bottom
    return 2 if layout.labels == "full" and layout.bottom.height > 3 * layout.text else 1


def _line(layout: Layout) -> int:
    """Height of one line of the lower strip."""
    assert layout.bottom
    return layout.bottom.height // _lines(layout)


def _compass_place(layout: Layout) -> tuple[int, int]:
    """Left end and width of what compass and scale of the sky may take of the first line: always the same place."""
    pad = _pad(layout)
    if _lines(layout) == 2:
        wide = min(9 * layout.text, layout.width // 3)
        return layout.width - pad - wide, wide
    column = _scale_column(layout)
    if not column:  # at the right of the first column, or left of the colour scale there
        left, wide = layout.columns[-1 if column is None else 0]
        stop = left + wide - pad if column is None else _scale_start(layout) - 2 * pad
        return stop - min(9 * layout.text, wide // 4), min(9 * layout.text, wide // 4)
    left = layout.columns[column][0] + pad
    return left, min(12 * layout.text, _scale_start(layout) - 2 * pad - left)


def _room(layout: Layout, room: int) -> int:
    """Width of the clock's part of the first line: what compass and colour scale leave of `room`."""
    left = layout.columns[0][0]
    ends = [_compass_place(layout)[0] - left]
    if _lines(layout) == 1 and _scale_column(layout) == 0:
        ends.append(_scale_start(layout) - left)
    return min(room, *(end - 2 * _pad(layout) for end in ends if end > 0)) if min(ends) > 0 else room


def _scale_column(layout: Layout) -> int | None:
    """The column under whose panel the colour scale stands; None without a differential panel."""
    for name in ("difference", "split"):
        if name in layout.names:
            return layout.names.index(name)
    return None


def _scale_stop(layout: Layout) -> int:
    if _lines(layout) == 2:
        return layout.width - _pad(layout)
    left, wide = layout.columns[_scale_column(layout) or 0]
    return left + wide - _pad(layout)


def _scale_start(layout: Layout) -> int:
    """Left end of the colour scale: it takes a part of its column, all that is left in a narrow movie."""
    stop = _scale_stop(layout)
    if _lines(layout) == 2:
        return stop - min(round(0.6 * layout.width), 20 * layout.text)
    n = _scale_column(layout) or 0
    wide = layout.columns[n][1]
    return (
        stop - min(wide - 2 * _pad(layout), 20 * layout.text)
        if n
        else stop - min(wide // 3, 20 * layout.text)
    )

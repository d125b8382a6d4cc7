"""The bar of the night: when frames were taken, where there are gaps, and which one is seen."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from difflapse.movie.text import BRIGHT, DIM, GROUND, WARN, paste, text_mask

_TRACK = (44, 44, 48)
_FRAME = (112, 116, 126)
_STEPS = (1 / 60, 2 / 60, 5 / 60, 10 / 60, 0.25, 0.5, 1, 2, 3, 6, 12, 24, 48, 96, 240, 480, 2400)
"""Hours from one labelled time to the next."""


@dataclass(frozen=True)
class TimeBar:
    """The night's times; hashable, for its picture is drawn once."""

    start: tuple[float, ...]
    """Start of each frame's exposure, MJD (UTC); frame numbers where any time is unknown."""
    end: tuple[float, ...]
    """Its end."""
    known: bool = True
    """Whether those are times."""

    def x(self, when: float, wide: int) -> float:
        """Place of a time on a bar `wide` pixels wide."""
        first, last = min(self.start), max(self.end)
        return (when - first) / max(last - first, 1e-9) * wide


def draw_bar(band: np.ndarray, bar: TimeBar, frame: int, size: int) -> None:
    """Draw the bar into a strip (height, width, 3) uint8, in place, with frame `frame` lit; none where it is negative.

    Exposures are light on a dark track, so that what was not observed stays dark: gaps are seen as long as
    they are. Whole hours (or what fits) are written below, and the date where it changes.
    """
    band[:] = _bar(bar, size, band.shape[0], band.shape[1])
    if frame < 0:
        return
    pad, high = round(0.6 * size), max(3, round(0.26 * size))
    wide = band.shape[1] - 2 * pad
    x0, x1 = (pad + bar.x(t, wide) for t in (bar.start[frame], bar.end[frame]))
    least = max(3, size // 6)
    x0 = min(x0, (x0 + x1 - least) / 2)
    left = min(max(pad, round(x0)), pad + wide - least)
    band[0 : high + max(2, high // 3), left : max(left + least, round(x1))] = WARN


@functools.lru_cache(maxsize=4)
def _bar(bar: TimeBar, size: int, tall: int, total: int) -> np.ndarray:
    """All of it but the frame that is seen."""
    band = np.empty((tall, total, 3), np.uint8)
    band[:] = GROUND
    pad, high = round(0.6 * size), max(3, round(0.26 * size))
    wide = total - 2 * pad
    band[:high, pad : pad + wide] = _TRACK
    for start, end in zip(bar.start, bar.end, strict=True):
        a, b = pad + bar.x(start, wide), pad + bar.x(end, wide)
        # At least a stroke, and a line's breadth of the track between two that follow at once.
        right = max(round(a) + max(2, size // 14), round(b) - (1 if b - a > 4 else 0))
        band[:high, round(a) : min(right, pad + wide)] = _FRAME
    small = max(9, round(0.66 * size))
    y = tall - text_mask("0", small).shape[0] - max(0, size // 16)
    used = pad
    for x, word, bold in _labels(bar, wide, small):
        mask = text_mask(word, small)
        at = min(max(pad, round(pad + x - mask.shape[1] / 2)), pad + wide - mask.shape[1])
        if at < used or mask.shape[1] > wide:
            continue
        band[high : high + max(2, size // 10), round(min(pad + x, pad + wide - 1))] = DIM
        paste(band, mask, at, y, BRIGHT if bold else DIM)
        used = at + mask.shape[1] + small
    band.setflags(write=False)
    return band


def _labels(bar: TimeBar, wide: int, small: int) -> list[tuple[float, str, bool]]:
    """Place, words, and whether they stand out, of each time that is written."""
    from datetime import datetime, timedelta

    first, last = min(bar.start), max(bar.end)
    if not bar.known:
        step = next(
            s
            for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**5)
            if wide / (last - first) * s > 5 * small
        )
        return [(bar.x(n + 0.5, wide), str(n), False) for n in range(0, len(bar.start), step)]
    hours = (last - first) * 24
    pace = next((s for s in _STEPS if wide / max(hours, 1e-6) * s > 7 * small), _STEPS[-1])
    found: list[tuple[float, str, bool]] = []
    t = math.ceil(first * 24 / pace - 1e-6)
    before = None
    while t * pace <= last * 24 + 1e-6 and len(found) < 200:
        when = datetime(1858, 11, 17) + timedelta(seconds=round(t * pace * 3600))
        new = before is not None and when.date() != before
        date = f"{when:%b} {when.day}"
        word = date if pace >= 24 else f"{date}, {when:%H:%M}" if new or before is None else f"{when:%H:%M}"
        found.append((bar.x(t * pace / 24, wide), word, new and pace < 24))
        before = when.date()
        t += 1
    return found

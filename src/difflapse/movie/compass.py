"""Where north and east are in the pictures, and how large they are on the sky."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from difflapse.movie.text import BRIGHT, DIM, paste, text_mask

_LENGTHS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 18000, 36000, 72000, 108000)
"""Lengths that the scale bar may have, arcsec."""


@dataclass(frozen=True)
class Compass:
    """The sky's directions and size in the middle of a panel."""

    north: tuple[float, float]
    """Unit vector (x to the right, y *down*) in the movie."""
    east: tuple[float, float]
    """Likewise; left of north on the sky, but for mirrored images."""
    arcsec: float
    """Of one movie pixel."""


def angle_text(arcsec: float) -> str:
    """A whole angle in its own unit: ``2°``, ``30'`` or ``10"``."""
    for size, sign in ((3600, "°"), (60, "'")):
        if arcsec >= size:
            return f"{arcsec / size:g}{sign}"
    return f'{arcsec:g}"'


def draw_compass(band: np.ndarray, compass: Compass, size: int, x: int, wide: int) -> None:
    """Draw the arrows of north and east and a bar of round length, in place.

    Parameters
    ----------
    band : (height, width, 3) uint8
        A line of a strip.
    compass : Compass
        What is drawn.
    size : int
        Em of ordinary letters, pixels.
    x, wide : int
        Left end and width of the room; what does not fit is left out.
    """
    small = max(9, round(0.72 * size))
    high = band.shape[0]
    reach = 0.32 * high
    whole = reach + 1.1 * small  # with the letter
    box = round(2 * whole)
    if wide < box:
        return
    # The corner of the two arrows lies so that both, and their letters, are in the middle of the box.
    (n_x, n_y), (e_x, e_y) = compass.north, compass.east
    middle_x = (min(0, n_x, e_x) + max(0, n_x, e_x)) / 2
    middle_y = (min(0, n_y, e_y) + max(0, n_y, e_y)) / 2
    centre = (x + box / 2 - whole * middle_x, high / 2 - whole * middle_y)
    for letter, (dx, dy) in (("N", compass.north), ("E", compass.east)):
        tip = (centre[0] + reach * dx, centre[1] + reach * dy)
        _arrow(band, centre, tip, max(1, size // 14))
        mark = text_mask(letter, small)
        at = (tip[0] + 0.6 * small * dx, tip[1] + 0.6 * small * dy)
        y = min(max(0, round(at[1] - mark.shape[0] / 2)), high - mark.shape[0])
        paste(band, mark, round(at[0] - mark.shape[1] / 2), y, BRIGHT)
    left = x + box + size // 2
    most = min(wide - (left - x), 7 * size) * compass.arcsec
    fits = [length for length in _LENGTHS if length <= most]
    if not fits or fits[-1] / compass.arcsec < 1.5 * size:
        return
    long = round(fits[-1] / compass.arcsec)
    thick, tick = max(2, size // 12), max(3, size // 5)
    y = round(0.34 * high)
    band[y : y + thick, left : left + long] = BRIGHT
    for end in (left, left + long - thick):
        band[y - tick : y + thick + tick, end : end + thick] = BRIGHT
    word = text_mask(angle_text(fits[-1]), small)
    paste(band, word, left + (long - word.shape[1]) // 2, y + thick + tick, DIM)


def _arrow(band: np.ndarray, start: tuple[float, float], tip: tuple[float, float], thick: int) -> None:
    points = [tuple(round(16 * v) for v in p) for p in (start, tip)]
    cv2.line(band, points[0], points[1], BRIGHT, thick, cv2.LINE_AA, 4)
    angle = math.atan2(tip[1] - start[1], tip[0] - start[0])
    head = 0.3 * math.dist(start, tip)
    for side in (-0.5, 0.5):
        end = (tip[0] - head * math.cos(angle + side), tip[1] - head * math.sin(angle + side))
        cv2.line(band, points[1], (round(16 * end[0]), round(16 * end[1])), BRIGHT, thick, cv2.LINE_AA, 4)

"""Zooms of chosen places, in the corners of a panel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from difflapse.movie.layout import Layout
from difflapse.movie.text import BRIGHT, levels, paste_seamed, text_mask

MOST = 4
"""Insets of a panel at most: one for each corner."""
_SHARE = 0.26
"""Side of an inset in sides of the panel (its shorter one)."""
_EDGE = (206, 206, 210)


def zoom_pixels(layout: Layout, zoom: int = 4) -> int:
    """Side of what an inset shows, in pixels of the panel before it is magnified, whole and odd."""
    return max(5, round(_SHARE * min(layout.panel_shape) / zoom) // 2 * 2 + 1)


def corners(layout: Layout, places: Sequence[tuple[float, float]]) -> list[int]:
    """A corner for each place (x, y, movie pixels from the panel's own corner): far from what is shown.

    Corners count 0 upper left, 1 upper right, 2 lower left, 3 lower right. The first place chooses first; a corner
    that lies over any of the places is taken last.
    """
    high, wide = layout.panel_shape
    side = _SHARE * min(high, wide)
    middles = [(x, y) for y in (side / 2, high - side / 2) for x in (side / 2, wide - side / 2)]
    crowd = [min((max(abs(x - a), abs(y - b)) for x, y in places), default=1e9) < side for a, b in middles]
    free = list(range(4))
    found = []
    for x, y in places[:MOST]:
        best = min(free, key=lambda n: (crowd[n], np.hypot(middles[n][0] - x, middles[n][1] - y)))
        free.remove(best)
        found.append(best)
    return found


def paste_inset(
    panel: np.ndarray,
    tile: np.ndarray,
    corner: int,
    label: str,
    layout: Layout,
    box: tuple[int, int, int, int],
) -> None:
    """Put a magnified tile into a corner of a panel, frame it, number it, and frame what it shows, in place.

    Parameters
    ----------
    panel : (height, width, 3) uint8 or uint16
        A drawn panel.
    tile : (h, w, 3) of the same type
        What is shown, before it is magnified by whole factors.
    corner : int
        As `corners` counts them.
    label : str
        Its name; empty for none.
    layout : Layout
        Whose panel it is.
    box : (int, int, int, int)
        Left, top, right and bottom of what the tile shows, pixels of the panel.
    """
    high, wide = panel.shape[:2]
    factor = max(1, round(_SHARE * min(high, wide) / max(tile.shape[:2])))
    big = np.repeat(np.repeat(tile, factor, 0), factor, 1)
    tall, long = big.shape[:2]
    if tall + 4 > high or long + 4 > wide:
        return
    _frame(panel, box)
    y, x = (2 if corner < 2 else high - tall - 2), (2 if corner % 2 == 0 else wide - long - 2)
    panel[y - 2 : y + tall + 2, x - 2 : x + long + 2] = levels(_EDGE, panel.dtype)
    panel[y : y + tall, x : x + long] = big
    if label and layout.labels == "full":
        size, room = max(9, round(0.7 * layout.text)), long - 8
        while size > 9 and text_mask(label, size).shape[1] > room:
            size -= 1
        word = text_mask(label, size, room)
        paste_seamed(panel, word, x + 6, y + 3, BRIGHT)


def _frame(panel: np.ndarray, box: tuple[int, int, int, int]) -> None:
    """A thin frame about a box, cut at the panel's edges."""
    left, top, right, bottom = box
    high, wide = panel.shape[:2]
    a, b = max(0, left), min(wide, right)
    c, d = max(0, top), min(high, bottom)
    if a >= b or c >= d:
        return
    for y in (top, bottom - 1):
        if 0 <= y < high:
            panel[y, a:b] = levels(_EDGE, panel.dtype)
    for x in (left, right - 1):
        if 0 <= x < wide:
            panel[c:d, x] = levels(_EDGE, panel.dtype)

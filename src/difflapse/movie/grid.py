"""Lines of equal right ascension and declination over the pictures."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from difflapse.movie.layout import Layout
from difflapse.movie.text import blend, paste, text_mask

_INK = (126, 166, 178)
_SHADE = (20, 24, 26)


@dataclass(frozen=True)
class SkyLine:
    """One line of the grid; hashable, for its picture is drawn once."""

    label: str
    points: tuple[tuple[float, float], ...]
    """(x, y) along it, native pixels of the reference, 0-based centres."""


def draw_grid(
    panel: np.ndarray, layout: Layout, lines: tuple[SkyLine, ...], shift: tuple[float, float] = (0.0, 0.0)
) -> None:
    """Draw lines and their labels onto a panel (height, width, 3), in place, so thin that stars stay seen.

    Parameters
    ----------
    panel : (height, width, 3) uint8 or uint16
        A drawn panel; row 0 of the image at the bottom.
    layout : Layout
        Whose panel it is.
    lines : tuple of SkyLine
        What is drawn. The label stands where a line enters the picture.
    shift : (float, float)
        Native pixels (x, y) by which the panel looks elsewhere than the layout says.
    """
    mask, labels = _grid(layout, lines, shift)
    on = mask > 0
    under = panel[on]
    blend(under, (mask[on].astype(np.uint16) * 3 // 8).astype(np.uint8), _INK)
    panel[on] = under
    for word, x, y in labels:
        ink = text_mask(word, _size(layout))
        for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            paste(panel, ink, x + dx, y + dy, _SHADE)
        paste(panel, ink, x, y, _INK)


def _size(layout: Layout) -> int:
    return max(9, round(0.66 * layout.text))


@functools.lru_cache(maxsize=2)
def _grid(
    layout: Layout, lines: tuple[SkyLine, ...], shift: tuple[float, float]
) -> tuple[np.ndarray, list[tuple[str, int, int]]]:
    """Ink of the lines (height, width) uint8; labels with the places of their upper left corners."""
    high, wide = layout.panel_shape
    mask = np.zeros((high, wide), np.uint8)
    matrix = layout.native_to_movie(layout.names[0])
    panel = layout.panels[0]
    labels: list[tuple[str, int, int]] = []
    taken: list[tuple[int, int, int, int]] = []
    for line in lines:
        xy = np.array(line.points, float) - shift
        at = xy @ matrix[:, :2].T + matrix[:, 2] - (panel.x, panel.y)
        cv2.polylines(
            mask, [np.rint(at * 16).astype(np.int32)], False, 255, max(1, layout.text // 24), cv2.LINE_AA, 4
        )
        inside = np.flatnonzero((at[:, 0] >= 0) & (at[:, 0] < wide) & (at[:, 1] >= 0) & (at[:, 1] < high))
        if not len(inside):
            continue
        word = text_mask(line.label, _size(layout))
        tall, long = word.shape
        for n in inside:
            x = int(min(max(at[n, 0] + 4, 4), wide - long - 4))
            y = int(min(max(at[n, 1] - tall, 2), high - tall - 2))
            box = (x - 6, y - 2, x + long + 6, y + tall + 2)
            if not any(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken):
                labels.append((line.label, x, y))
                taken.append(box)
                break
    mask.setflags(write=False)
    return mask, labels

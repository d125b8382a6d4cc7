"""Two pictures in one panel, with a divider between them that moves."""

from __future__ import annotations

import math

import numpy as np

from difflapse.errors import OptionError
from difflapse.movie.layout import Layout
from difflapse.movie.text import BRIGHT, levels


def divider(turn: float) -> float:
    """Place of the divider, 0.08 to 0.92 of the width, after `turn` ways there and back; it starts in the middle."""
    return 0.5 + 0.42 * math.sin(2 * math.pi * turn)


def split_panel(left: np.ndarray, right: np.ndarray, place: float, layout: Layout) -> np.ndarray:
    """Draw `left` left of the divider and `right` right of it.

    Parameters
    ----------
    left, right : (height, width, 3) uint8 or uint16
        Drawn panels of the same size.
    place : float
        Of the divider, 0 (all is `right`) to 1 (all is `left`).
    layout : Layout
        Whose panels they are: says how wide the line is.

    Returns
    -------
    panel : (height, width, 3) of the same type
        A picture of its own.
    """
    if left.shape != right.shape:
        raise OptionError(f"a split panel of {left.shape} and {right.shape}; both must be of one shape")
    wide = left.shape[1]
    out = right.copy()
    at = min(max(0, round(place * wide)), wide)
    out[:, :at] = left[:, :at]
    half = max(1, layout.text // 16)
    out[:, max(0, at - half) : min(wide, at + half)] = levels(BRIGHT, out.dtype)
    return out

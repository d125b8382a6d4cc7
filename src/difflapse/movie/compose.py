"""One movie frame: panels in their places, words around them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from difflapse.errors import OptionError
from difflapse.movie.annotate import Caption, annotate
from difflapse.movie.layout import Layout
from difflapse.movie.text import GROUND, levels


def compose(layout: Layout, panels: Mapping[str, np.ndarray], caption: Caption) -> np.ndarray:
    """Put drawn panels and the caption together into a movie frame.

    Parameters
    ----------
    layout : Layout
        Says where they go.
    panels : mapping of str to (height, width, 3) of that type
        A picture for each of the layout's panels, of the panels' size.
    caption : Caption
        What is written around them.

    Returns
    -------
    picture : (layout.height, layout.width, 3) uint8 or, of a layout 16 bits deep, uint16

    Raises
    ------
    OptionError
        A panel is missing or of another size.
    """
    picture = np.empty((layout.height, layout.width, 3), layout.dtype)
    ground = levels(GROUND, layout.dtype)
    top = min(panel.y for panel in layout.panels)
    picture[:top] = ground
    picture[top + layout.panels[0].height :] = ground
    right = 0
    for panel in layout.panels:
        drawn = panels.get(panel.name)
        needed = (panel.height, panel.width, 3)
        if drawn is None or drawn.shape != needed or drawn.dtype != layout.dtype:
            kind = np.dtype(layout.dtype)
            found = "none" if drawn is None else f"{drawn.shape}, {drawn.dtype}"
            raise OptionError(
                f"panel {panel.name!r} is {found}; it must be an image of shape {needed}, {kind}"
            )
        rows = picture[panel.y : panel.y + panel.height]
        rows[:, right : panel.x] = ground
        rows[:, panel.x : panel.x + panel.width] = drawn
        right = panel.x + panel.width
    picture[top : top + layout.panels[0].height, right:] = ground
    annotate(picture, layout, caption)
    return picture

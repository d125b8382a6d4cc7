"""Where everything lies in the movie: panels, strips for text, and the way from native to movie pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from difflapse.errors import OptionError

MAX_WIDTH, MAX_HEIGHT = 4096, 2304
"""Beyond these, hardware decoders of H.264 give up."""
MAX_BLOCKS, MAX_BLOCKS_PER_SECOND = 36864, 983040
"""Macroblocks (16x16) of a frame and of a second at H.264 level 5.1."""
FULL_BLOCKS, FULL_BLOCKS_PER_SECOND = 139264, 16711680
"""The same at level 6.2, the highest: what `full resolution` may use."""
MAX_SIDE = 16384
"""Pixels along a side that encoders of H.264 take."""
GAP = 4
"""Pixels between two panels."""


@dataclass(frozen=True)
class Panel:
    """The rectangle of one panel in the movie, pixels from the upper left corner."""

    name: str
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Strip:
    """A rectangle for text, pixels from the upper left corner."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Layout:
    """Where everything lies in a movie; made by `make_layout`, the same for every frame."""

    width: int
    """Width of the movie, pixels, even."""
    height: int
    """Height of the movie, pixels, even."""
    panels: tuple[Panel, ...]
    """Left to right; all of one size."""
    columns: tuple[tuple[int, int], ...]
    """(x, width) of the room each panel's text may take: wider than the panel where the picture is narrow."""
    top: Strip | None
    """Where the panels' titles are written; None without."""
    bottom: Strip | None
    """Where the time, the compass and the colour scale are written; None without."""
    bar: Strip | None
    """Where the bar of the night's time is drawn, below that; None without."""
    text: int
    """Height of the ordinary letters' em, pixels."""
    shape: tuple[int, int]
    """(ny, nx) of the product images."""
    scale: float
    """Movie pixels per product pixel: below 1 the images are shrunk, else enlarged by this whole number."""
    step: int
    """Native pixels per product pixel along one axis: 2 for the superpixels of a mosaic, 1 else."""
    origin: tuple[float, float]
    """(x, y) of the crop's first native pixel."""
    labels: str
    """``full``, ``time`` or ``none``."""
    depth: int = 8
    """Bits of a pixel's colours: 8, or 16 for a lossless archive."""

    @property
    def dtype(self) -> type[np.unsignedinteger[Any]]:
        """Of the pictures: uint8, or uint16."""
        return np.uint16 if self.depth == 16 else np.uint8

    @property
    def names(self) -> tuple[str, ...]:
        """The panels' names, left to right."""
        return tuple(panel.name for panel in self.panels)

    @property
    def panel_shape(self) -> tuple[int, int]:
        """(height, width) of every panel, movie pixels."""
        return self.panels[0].height, self.panels[0].width

    @property
    def enlargement(self) -> int:
        """Whole factor by which product pixels are repeated; 1 when they are shrunk."""
        return max(1, round(self.scale))

    def panel(self, name: str) -> Panel:
        """The panel called `name`; raises OptionError where there is none."""
        for panel in self.panels:
            if panel.name == name:
                return panel
        raise OptionError(f"the movie has no panel {name!r}", f"it has {', '.join(self.names)}")

    def native_to_movie(self, name: str) -> np.ndarray:
        """The (2, 3) matrix that takes (x, y, 1), native pixels of the reference, to movie pixels in panel
        `name`.

        Both sides count from 0 at pixel centres. Row 0 of the images is at the bottom of the panel, as
        astronomers display them, so that the y scale is negative.
        """
        panel = self.panel(name)
        per_native = self.scale / self.step
        # product = (native - origin - (step - 1) / 2) / step; edges, not centres, coincide: hence the halves
        edge_x = self.origin[0] - 0.5
        edge_y = self.origin[1] - 0.5
        return np.array(
            [
                [per_native, 0.0, panel.x - 0.5 - per_native * edge_x],
                [0.0, -per_native, panel.y + panel.height - 0.5 + per_native * edge_y],
            ]
        )


def make_layout(
    panels: Sequence[str],
    shape: tuple[int, int],
    step: int = 1,
    origin: tuple[float, float] = (0, 0),
    width: int = 2560,
    labels: str = "full",
    fps: float = 12.0,
    depth: int = 8,
) -> Layout:
    """Arrange the panels of a movie side by side, as large as the limits allow, with room for the text.

    Parameters
    ----------
    panels : sequence of str
        Names of the panels, left to right.
    shape : (int, int)
        (ny, nx) of the product images (superpixels of a mosaic).
    step : int
        Native pixels per product pixel along an axis: 2 for a mosaic, 1 else.
    origin : (float, float)
        (x, y) of the first native pixel of the crop.
    width : int
        Width of the movie at most, pixels; also never more than 4096. 0: as many as the images have, within
        H.264's highest level.
    labels : str
        ``full``: titles above; time, compass, colour scale and a bar of the night below. ``time``: the time
        below. ``none``: no strips.
    fps : float
        Frames per second, which with the size must stay within H.264 level 5.1 (6.2 at full resolution).
    depth : int
        Bits of a pixel's colours, 8 or 16.

    Returns
    -------
    Layout
        Even in both directions, at most `width` wide and 2304 high, but for full resolution.

    Raises
    ------
    OptionError
        No panels, a name twice, unknown labels, an empty image, a width in which the panels do not fit, or
        a full resolution that no level of H.264 allows.

    Notes
    -----
    Images with room to spare are enlarged by whole factors, so that every pixel stays a square of equal size;
    larger ones are shrunk by whatever factor fills the room. Enlarging stops at a height of 1440.
    """
    ny, nx = (int(n) for n in shape)
    names = tuple(panels)
    if not names or len(set(names)) < len(names):
        raise OptionError(f"panels are {', '.join(names) or 'none'}; at least one is needed, and none twice")
    if labels not in ("full", "time", "none"):
        raise OptionError(f"labels is {labels!r}; it must be one of full, time, none")
    if ny < 1 or nx < 1:
        raise OptionError(f"the image is {nx}x{ny}; a movie needs at least one pixel")
    if width == 0:
        whole = _full_size((names, (ny, nx), step, (origin[0], origin[1]), MAX_SIDE, labels), fps)
        return replace(whole, depth=depth)
    room = min(width, MAX_WIDTH) // 2 * 2
    frame = (names, (ny, nx), step, (origin[0], origin[1]), room, labels)

    for factor in range(min(room // (nx * len(names)), 1440 // ny), 0, -1):
        layout = _arrange(*frame, float(factor))
        if _fits(layout, room, 1440 if factor > 1 else MAX_HEIGHT, fps):
            return replace(layout, depth=depth)

    low, high, best = 1, max(nx, ny), None
    while low <= high:  # the largest long side that fits; whole, so that the picture ends on a pixel's edge
        middle = (low + high) // 2
        layout = _arrange(*frame, middle / max(nx, ny))
        if _fits(layout, room, MAX_HEIGHT, fps):
            best, low = layout, middle + 1
        else:
            high = middle - 1
    if best is None:
        raise OptionError(
            f"{len(names)} panels do not fit into a movie {width} wide at {fps:g} frames per second"
        )
    return replace(best, depth=depth)


def _full_size(
    frame: tuple[tuple[str, ...], tuple[int, int], int, tuple[float, float], int, str], fps: float
) -> Layout:
    """The layout with a movie pixel for each product pixel; raises OptionError where no decoder could play it."""
    layout = _arrange(*frame, 1.0)
    blocks = -(-layout.width // 16) * -(-layout.height // 16)
    what = f"at full resolution the movie is {layout.width}x{layout.height}"
    if max(layout.width, layout.height) > MAX_SIDE or blocks > FULL_BLOCKS:
        raise OptionError(
            f"{what}, {blocks * 256 / 1e6:.0f} megapixels; H.264 ends at {FULL_BLOCKS * 256 / 1e6:.0f}",
            "use --panels with fewer panels, a crop (--roi), or a --width",
        )
    if blocks * fps > FULL_BLOCKS_PER_SECOND:
        most = FULL_BLOCKS_PER_SECOND / blocks
        raise OptionError(
            f"{what}; H.264 ends at {most:.0f} such pictures per second, fps is {fps:g}",
            "use a smaller --fps",
        )
    return layout


def _arrange(
    names: tuple[str, ...],
    shape: tuple[int, int],
    step: int,
    origin: tuple[float, float],
    room: int,
    labels: str,
    scale: float,
) -> Layout:
    """The layout at one scale, whether or not it fits."""
    wide = max(1, round(shape[1] * scale))
    high = max(1, round(shape[0] * scale))
    n = len(names)
    # A narrow picture gets a wider column, so that there is room to write.
    least = min(340, (room - (n - 1) * (GAP + 1)) // n) if labels != "none" else 1
    column = max(wide, least)
    columns = []
    x = 0
    for _ in names:
        columns.append((x, column))
        x = _even(x + column + GAP)
    total = _even(columns[-1][0] + column)
    text = min(44, max(13, round(min(total / 76, column / 27))))
    top = Strip(0, 0, total, _even(1.9 * text)) if labels == "full" else None
    above = top.height if top else 0
    # In narrow movies the lower strip has two lines.
    lines = {"full": 2.15 if column >= 26 * text and n > 1 else 3.9, "time": 1.9, "none": 0.0}[labels]
    bottom = Strip(0, _even(above + high), total, _even(lines * text)) if labels != "none" else None
    below = bottom.y + bottom.height if bottom else above + high
    bar = Strip(0, below, total, _even(1.35 * text)) if labels == "full" else None
    below += bar.height if bar else 0
    boxes = tuple(
        Panel(name, (start + (column - wide) // 2) // 2 * 2, above, wide, high)
        for name, (start, _) in zip(names, columns, strict=True)
    )
    return Layout(
        total, _even(below), boxes, tuple(columns), top, bottom, bar, text, shape, scale, step, origin, labels
    )


def _fits(layout: Layout, room: int, height: int, fps: float) -> bool:
    blocks = -(-layout.width // 16) * -(-layout.height // 16)
    return (
        layout.width <= room
        and layout.height <= height
        and blocks <= MAX_BLOCKS
        and blocks * fps <= MAX_BLOCKS_PER_SECOND
    )


def _even(value: float) -> int:
    """The smallest even whole number not below `value`."""
    return int(-(-value // 2)) * 2

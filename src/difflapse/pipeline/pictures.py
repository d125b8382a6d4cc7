"""Where the drawn pictures lie until they are encoded: all of the night's, or a ring of the latest."""

from __future__ import annotations

import math

import numpy as np

from difflapse.model import ProductGrid
from difflapse.movie.encode import CODECS, GIF_WIDTH
from difflapse.movie.layout import Layout, make_layout
from difflapse.pipeline.config import RunOptions
from difflapse.pipeline.context import Night

MOST_BYTES = 6_000_000_000
"""Of pictures on scratch: beyond it they are encoded as they arrive."""


def movie_layout(grid: ProductGrid, options: RunOptions) -> Layout:
    """Where everything lies in the movie of these products."""
    width = min(options.width or GIF_WIDTH, GIF_WIDTH) if options.codec == "gif" else options.width
    depth = CODECS[options.codec].depth
    return make_layout(
        options.shown_panels, grid.shape, grid.step, grid.origin, width, options.labels, options.fps, depth
    )


def slots(frames: int, layout: Layout, latest: int) -> int:
    """Pictures that are kept: one for each frame, or at least the `latest` where those would take too much."""
    return frames if frames * _bytes(layout) <= MOST_BYTES else min(frames, latest)


def kept_bytes(frames: int, layout: Layout, latest: int) -> int:
    """What they take on scratch."""
    return slots(frames, layout, latest) * _bytes(layout)


def lay_out(night: Night, layout: Layout, alive: list[int], latest: int) -> None:
    """Make room for the pictures of the frames in `alive`; `latest` of them may be under way at a time."""
    n = slots(len(night.frames), layout, latest)
    whole = n == len(night.frames)
    # Counted among those alive: a row of failed frames does not bring two pictures to one place.
    night.share("slots", {k: k if whole else place % n for place, k in enumerate(alive)})
    night.make_array("pictures", (n, layout.height, layout.width, 3), layout.dtype)


def all_kept(night: Night) -> bool:
    """Whether each frame's picture has a place of its own."""
    return len(night.array("pictures")) == len(night.frames)


def keep(night: Night, k: int, picture: np.ndarray) -> None:
    """Keep the picture of frame `k` until it is encoded."""
    night.write("pictures", (night.shared("slots")[k], 0, 0, 0), picture)


def kept(night: Night, k: int) -> np.ndarray:
    """The picture of frame `k`, (height, width, 3), a copy: read, for a map may not see what came later."""
    whole = night.array("pictures")
    with night.array_path("pictures").open("rb") as file:
        size = math.prod(whole.shape[1:])
        file.seek(whole.offset + night.shared("slots")[k] * size * whole.itemsize)
        return np.fromfile(file, whole.dtype, size).reshape(whole.shape[1:])


def _bytes(layout: Layout) -> int:
    return 3 * layout.width * layout.height * layout.depth // 8

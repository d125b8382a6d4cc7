"""Where drawn pictures lie until they are encoded, all or a ring of the latest; differences, until clips are made."""

from __future__ import annotations

import functools
import math

import numpy as np
from numba import njit

from difflapse.difference import Difference
from difflapse.model import ProductGrid
from difflapse.movie.diverging import compress
from difflapse.movie.encode import CODECS, GIF_WIDTH
from difflapse.movie.layout import Layout, make_layout
from difflapse.pipeline.config import RunOptions
from difflapse.pipeline.context import Night

MOST_BYTES = 6_000_000_000
"""Of pictures on scratch: beyond it they are encoded as they arrive."""
MOST_DIFFERENCES = 3_000_000_000
"""Bytes of differences on scratch: beyond it those that clips show are made again."""
_HIDDEN = -128
_STEPS = 4095


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
    if difference_bytes(len(night.frames), layout.shape, night.options):
        night.make_array("differences", (len(night.frames), *layout.shape), np.int8)
        night.make_array("difference_noise", (len(night.frames),), np.float32)


def all_kept(night: Night) -> bool:
    """Whether each frame's picture has a place of its own."""
    return len(night.array("pictures")) == len(night.frames)


def keep(night: Night, k: int, picture: np.ndarray) -> None:
    """Keep the picture of frame `k` until it is encoded."""
    night.write("pictures", (night.shared("slots")[k], 0, 0, 0), picture)


def kept(night: Night, k: int) -> np.ndarray:
    """The picture of frame `k`, (height, width, 3), a copy."""
    whole = night.array("pictures")
    size = math.prod(whole.shape[1:])
    return _read(night, "pictures", night.shared("slots")[k] * size, size).reshape(whole.shape[1:])


def difference_bytes(frames: int, shape: tuple[int, int], options: RunOptions) -> int:
    """What the differences take on scratch: one byte a pixel; 0 where no clips are made, or it would be too much."""
    size = frames * shape[0] * shape[1]
    clips = options.changes and options.reel and options.diff != "none"
    return size if clips and size <= MOST_DIFFERENCES else 0


def keep_difference(night: Night, k: int, result: Difference | None, vmax: float) -> None:
    """Keep a frame's difference for the clips, to the 255 steps of the colours that show it; `vmax` is their end."""
    # Only in a run that looks for changes there are clips.
    if not (night.has("watch") and night.has_array("differences")):
        return
    noise = np.float32(np.nan)
    if result is not None:
        steps = np.empty(result.combined.shape, np.int8)
        _encode(result.combined, result.mask, np.float32(1 / vmax), _codes(), steps)
        night.write("differences", (k, 0, 0), steps)
        noise = np.float32(result.noise)
    night.write("difference_noise", (k,), np.array([noise]))


def kept_difference(
    night: Night, k: int, corner: tuple[int, int], shape: tuple[int, int], vmax: float
) -> tuple[np.ndarray, float] | None:
    """A window of a frame's difference (h, w), NaN where masked, and its noise; None where it was not kept.

    All is NaN where the frame has no difference.
    """
    if not night.has_array("differences"):
        return None
    (i, j), (high, wide) = corner, shape
    noise = float(_read(night, "difference_noise", k, 1)[0])
    if noise == 0:
        return None
    nx = night.array("differences").shape[2]
    rows = _read(night, "differences", k * night.array("differences").shape[1] * nx + j * nx, high * nx)
    window = _values()[rows.reshape(high, nx)[:, i : i + wide].view(np.uint8)] * np.float32(vmax)
    return (np.full_like(window, np.nan) if np.isnan(noise) else window), noise


def _read(night: Night, name: str, first: int, n: int) -> np.ndarray:
    """Items of a night's array, counted as if it had one axis: read, for a map may not see what came later."""
    whole = night.array(name)
    with night.array_path(name).open("rb") as file:
        file.seek(whole.offset + first * whole.itemsize)
        return np.fromfile(file, whole.dtype, n)


@functools.cache
def _codes() -> np.ndarray:
    """The step, -127 to 127, of each difference from -1 to 1 in units of the scale's end; last, of what is hidden."""
    steps = np.rint(127 * compress(np.linspace(-1, 1, _STEPS), 1.0))
    return np.append(steps, _HIDDEN).astype(np.int8)


@functools.cache
def _values() -> np.ndarray:
    """The difference of each step, by its bits taken as an unsigned number; NaN for what is hidden."""
    steps = np.arange(256, dtype=np.uint8).view(np.int8).astype(float)
    values = np.sinh(np.arcsinh(3.0) * steps / 127) / 3
    return np.where(steps == _HIDDEN, np.nan, values).astype(np.float32)


@njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _encode(values, mask, per_vmax, codes, out):  # type: ignore[no-untyped-def]
    """The step of each value; what is masked or NaN is hidden, as the last of the codes is."""
    one, nothing, reach = np.float32(1), np.float32(0), np.float32(_STEPS // 2)
    place = np.empty(values.shape[1], np.int32)
    for j in range(out.shape[0]):
        # Two loops: the first knows no table, and is done many at a time.
        for i in range(out.shape[1]):
            v = values[j, i] * per_vmax
            known = (mask[j, i] == 0) & (v == v)
            v = min(max(v, -one), one) if known else nothing
            step = np.int32(reach + v * reach + np.float32(0.5))
            place[i] = step if known else np.int32(_STEPS)
        for i in range(out.shape[1]):
            out[j, i] = codes[place[i]]


def _bytes(layout: Layout) -> int:
    return 3 * layout.width * layout.height * layout.depth // 8

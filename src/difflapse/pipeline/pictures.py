"""Where drawn pictures lie until they are encoded, all or a ring of the latest; differences, until clips are made."""

from __future__ import annotations

import functools
from collections.abc import Sequence

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


def kept(night: Night, k: int, out: np.ndarray | None = None) -> np.ndarray:
    """The picture of frame `k`, (height, width, 3), a copy: read into `out`, such as the last one, if it is given."""
    whole = night.array("pictures")
    picture = np.empty(whole.shape[1:], whole.dtype) if out is None else out
    with night.array_path("pictures").open("rb") as file:
        file.seek(whole.offset + night.shared("slots")[k] * picture.nbytes)
        file.readinto(picture.data)
    return picture


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


def kept_differences(
    night: Night, k: int, windows: Sequence[tuple[tuple[int, int], tuple[int, int]]], vmax: float
) -> list[tuple[np.ndarray, float]] | None:
    """Windows, each (i, j) of its corner and (h, w), of a frame's difference, NaN where masked, and its noise; None
    where it was not kept.

    All is NaN where the frame has no difference.
    """
    if not night.has_array("differences"):
        return None
    whole = night.array("difference_noise")
    with night.array_path("difference_noise").open("rb", buffering=0) as file:
        file.seek(whole.offset + k * whole.itemsize)
        noise = float(np.fromfile(file, whole.dtype, 1)[0])
    if noise == 0:
        return None
    if np.isnan(noise):
        return [(np.full(shape, np.nan, np.float32), noise) for _, shape in windows]
    whole = night.array("differences")
    ny, nx = whole.shape[1:]
    values = _values() * np.float32(vmax)
    found = []
    # Read, for a map may not see what came later.
    with night.array_path("differences").open("rb", buffering=0) as file:
        for (i, j), (high, wide) in windows:
            file.seek(whole.offset + (k * ny + j) * nx)
            rows = np.fromfile(file, np.uint8, high * nx).reshape(high, nx)
            found.append((values[rows[:, i : i + wide]], noise))
    return found


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

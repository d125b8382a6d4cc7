"""Windows about the night's changes, cut from its frames: each frame is read once for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from difflapse.align.warp import Unsplit, warp
from difflapse.io.fits import read_bands
from difflapse.measure import Defects
from difflapse.measure.mesh import window
from difflapse.measure.photometry import aperture_sums, bad_map
from difflapse.model import Alignment, Frame, FrameFacts, ProductGrid, Quality, Transform, bits
from difflapse.mosaic import sites
from difflapse.pipeline import pictures, tasks
from difflapse.pipeline.context import Night
from difflapse.pipeline.records import Pixels, Reference
from difflapse.pipeline.sensor import gain_of
from difflapse.pipeline.subjects import Subject

_MARGIN = 24
"""Native pixels that are read beyond a window, for kernels and the ring of the photometry."""
_CLEAR = 0.3
"""Transparency below which a frame tells no brightness."""


@dataclass(frozen=True)
class Spot:
    """What is to be cut from a frame for one subject."""

    array: str
    """Name of the night's array of its windows, see `lay_out`."""
    slot: int
    """Place of the frame there."""
    x: tuple[float, ...]
    y: tuple[float, ...]
    """Where light is measured, native pixels of the reference: where the subject is; of what moves, in every frame."""
    corner: tuple[int, int]
    shape: tuple[int, int]


@dataclass(frozen=True)
class Cut:
    """What one frame shows of a subject, beside its window."""

    flux: np.ndarray
    """(n,) the light at each of the spot's places, ADU at the reference's brightness, green or only channel; NaN where
    it is not known."""
    error: np.ndarray
    radius: float
    """Of the circles, native pixels of the frame."""
    noise: float
    """Typical noise of the difference, in its units; NaN where the frame has no difference."""


def lay_out(night: Night, subject: Subject, n_channels: int) -> None:
    """Make room for the windows of a subject: light of each channel, NaN where it is hidden, and difference."""
    night.make_array(subject.array, (len(subject.frames), n_channels + 1, *subject.shape), np.float32)


def spots_in(subjects: Sequence[Subject], k: int) -> list[Spot]:
    """What frame `k` is to be cut for; one for each subject that shows it, in their order."""
    found = []
    for s in subjects:
        if k in s.frames:
            slot = s.frames.index(k)
            where = slice(None) if s.moves else slice(slot, slot + 1)
            found.append(Spot(s.array, slot, s.x[where], s.y[where], s.corner, s.shape))
    return found


def cut_frame(
    night: Night,
    k: int,
    spots: Sequence[Spot],
    alignment: Alignment,
    quality: Quality,
    scale: np.ndarray | None,
) -> list[Cut]:
    """Read the rows of a frame that its windows need, cut them, and measure the subjects' light on native pixels.

    The windows go to the night's arrays (`lay_out`).
    """
    facts = night.frames[k]
    whole: ProductGrid = night.shared("canvas").of(k)
    parts = [_part(whole, spot) for spot in spots]
    windows, places = _seen(alignment.transform, parts, spots)
    boxes = [
        _box(np.concatenate([w, at], axis=1), facts.shape) for w, at in zip(windows, places, strict=True)
    ]
    differences = _differences(night, k, spots, {"alignment": alignment, "quality": quality, "scale": scale})
    bands = _merged([(box[1], box[3], box[2]) for box in boxes])
    read = read_bands(facts, bands)
    cuts = []
    for spot, part, box, at, (difference, noise) in zip(
        spots, parts, boxes, places, differences, strict=True
    ):
        n = next(n for n, band in enumerate(bands) if band[0] <= box[1] and box[3] <= band[1])
        pixels = _block(facts, *read[n], bands[n][0], night.shared("defects"), box)
        transform = _moved(alignment.transform, box[0], box[1])
        light = _light(night, k, pixels, transform, part, quality)
        night.write(spot.array, (spot.slot, 0, 0, 0), np.concatenate([light, difference[None]]))
        local = None if scale is None else window(np.asarray(scale), whole, part)
        brighten = 1.0 if local is None else 1 / float(np.mean(local[_green(local)]))
        cuts.append(_measured(night, k, pixels, at - np.array(box[:2])[:, None], quality, brighten, noise))
    return cuts


def _merged(bands: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Bands of rows, each up to a column; those that overlap or touch as one."""
    merged: list[tuple[int, int, int]] = []
    for first, past, wide in sorted(bands):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(past, merged[-1][1]), max(wide, merged[-1][2]))
        else:
            merged.append((first, past, wide))
    return merged


def _green(channels: Sequence[Any] | np.ndarray) -> int:
    """Number of the channel whose light is told."""
    return 1 if len(channels) == 3 else 0


def _part(whole: ProductGrid, spot: Spot) -> ProductGrid:
    i, j = spot.corner
    origin = (whole.origin[0] + whole.step * i, whole.origin[1] + whole.step * j)
    return ProductGrid(spot.shape, whole.step, origin)


def _seen(
    transform: Transform, parts: Sequence[ProductGrid], spots: Sequence[Spot]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Where the frame has points about each window, and each spot's places: (2, n) native pixels, all found at once."""
    points = []
    for part, spot in zip(parts, spots, strict=True):
        i, j = (np.linspace(-0.5, n - 0.5, 5) for n in reversed(part.shape))
        about = np.stack(part.to_native(*np.meshgrid(i, j))).reshape(2, -1)
        points += [about, np.array([spot.x, spot.y])]
    found = np.stack(transform.inverse(*np.concatenate(points, axis=1)))
    cut = np.split(found, np.cumsum([p.shape[1] for p in points])[:-1], axis=1)
    return cut[0::2], cut[1::2]


def _box(seen: np.ndarray, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) of the frame's pixels that a window and the subject in it need: cut at whole mosaic cells."""
    ends = []
    for v, n in zip(seen, reversed(shape), strict=True):
        known = v[np.isfinite(v)]
        low, high = (float(known.min()), float(known.max())) if known.size else (0.0, float(n))
        # A window beyond the frame's edge still takes a few of its pixels.
        first = 2 * int(np.clip(low - _MARGIN, 0, n - 8) // 2)
        past = int(np.clip(high + _MARGIN + 2, first + 8, n))
        ends.append((first, past - past % 2 if past < n else past))
    (x0, x1), (y0, y1) = ends
    return x0, y0, x1, y1


def _block(
    facts: FrameFacts,
    data: np.ndarray,
    mask: np.ndarray | None,
    row: int,
    defects: Defects,
    box: tuple[int, int, int, int],
) -> Pixels:
    """A part of a frame, cut from a band that begins at `row`, as `tasks.read_pixels` gives the whole."""
    x0, y0, x1, y1 = box
    cut = np.s_[y0 - row : y1 - row, x0:x1]
    inside = (defects.x >= x0) & (defects.x < x1) & (defects.y >= y0) & (defects.y < y1)
    own = replace(defects, x=defects.x[inside] - x0, y=defects.y[inside] - y0)
    return tasks.listed(Frame(facts, data[cut].copy(), None if mask is None else mask[cut].copy()), own)


def _moved(transform: Transform, x0: int, y0: int) -> Transform:
    """The transform of a part of the frame whose first pixel is (x0, y0)."""
    shift = np.array([[1.0, 0, x0], [0, 1, y0], [0, 0, 1]])
    origin = (transform.origin[0] - x0, transform.origin[1] - y0)
    domain = transform.domain
    if domain is not None:
        domain = (domain[0] - x0, domain[1] - y0, domain[2] - x0, domain[3] - y0)
    return replace(transform, matrix=transform.matrix @ shift, origin=origin, domain=domain)


def _light(
    night: Night, k: int, pixels: Pixels, transform: Transform, part: ProductGrid, quality: Quality
) -> np.ndarray:
    """The window (c, h, w) as the aligned panel shows it; NaN where nothing was measured."""
    facts = night.frames[k]
    reference: Reference = night.shared("reference")
    frame = Unsplit(pixels.data, facts.mosaic, facts.bias_adu or 0.0)
    warped = warp(frame, sites(facts.mosaic), transform, part, pixels.bad, night.options.resample)
    shift = np.asarray(reference.background_adu) - warped.level * np.asarray(quality.background_adu)
    light = warped.data + shift.astype(np.float32)[:, None, None]
    light[:, (warped.mask & (bits.OUTSIDE | bits.BLANK)) != 0] = np.nan
    return np.asarray(light)


def _measured(
    night: Night,
    k: int,
    pixels: Pixels,
    places: np.ndarray,
    quality: Quality,
    brighten: float,
    noise: float,
) -> Cut:
    """The light in circles about the places (2, n) of a part of the frame, on its own pixels."""
    facts = night.frames[k]
    radius = float(np.clip(1.5 * quality.fwhm_pix, 3, 9)) if np.isfinite(quality.fwhm_pix) else 4.0
    sums = aperture_sums(
        pixels.data, places[0], places[1], radius, facts.mosaic, quality.noise_adu, gain_of(night, facts),
        bad_map(pixels.data.shape, pixels.bad.x, pixels.bad.y, pixels.bad.bit),
    )  # fmt: skip
    c = _green(sums.flux)
    bad = (sums.flags & (bits.OUTSIDE | bits.BLANK | bits.SATURATED)) != 0
    if brighten > 1 / _CLEAR:
        bad[:] = True
    flux, error = (np.where(bad, np.nan, v[c].astype(float) * brighten) for v in (sums.flux, sums.error))
    return Cut(flux, error, radius, noise)


def _differences(
    night: Night, k: int, spots: Sequence[Spot], known: Mapping[str, Any]
) -> list[tuple[np.ndarray, float]]:
    """The windows of the difference that the movie shows, NaN where masked, and its noise (NaN: there is none).

    Where the drawing did not keep it, for the night is long, it is made again by the stages that made it.
    """
    kept = [
        pictures.kept_difference(night, k, spot.corner, spot.shape, night.shared("scene").vmax)
        for spot in spots
    ]
    if all(one is not None for one in kept):
        return [one for one in kept if one is not None]
    values = dict(known)
    for stage in (tasks.read, tasks.warp, tasks.subtract):
        values.update(stage(night, k, values))
    result = values["difference"].result
    if result is None:
        return [(np.full(spot.shape, np.nan, np.float32), float("nan")) for spot in spots]
    whole = np.where(result.mask != 0, np.float32(np.nan), result.combined)
    return [
        (whole[j : j + high, i : i + wide], result.noise)
        for (i, j), (high, wide) in ((spot.corner, spot.shape) for spot in spots)
    ]

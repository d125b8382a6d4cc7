"""Windows about the night's changes, cut from its frames: each frame is read once for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from difflapse.align.warp import BadPixels, Unsplit, warp_light
from difflapse.io.fits import read_bands
from difflapse.measure.mesh import window
from difflapse.measure.photometry import aperture_sums, bad_map
from difflapse.model import Alignment, Frame, ProductGrid, Quality, Transform, bits
from difflapse.mosaic import sites
from difflapse.pipeline import pictures, tasks
from difflapse.pipeline.context import Night
from difflapse.pipeline.records import Pixels, Reference
from difflapse.pipeline.sensor import gain_of
from difflapse.pipeline.subjects import Subject

_RIM = 12
"""Native pixels that are read beyond a window, for kernels; more where the frame's are smaller than the reference's."""
_RING = 26
"""The same about a place where light is measured, for the ring that tells its sky."""
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
        _box(seen, at, facts.shape, max(part.shape) * whole.step)
        for seen, at, part in zip(windows, places, parts, strict=True)
    ]
    known = {"alignment": alignment, "quality": quality, "scale": scale}
    differences = _differences(night, k, spots, known)
    bands = _read(night, k, boxes)
    held = [next(n for n, band in enumerate(bands) if band.holds(box)) for box in boxes]
    radius = float(np.clip(1.5 * quality.fwhm_pix, 3, 9)) if np.isfinite(quality.fwhm_pix) else 4.0
    cuts: dict[int, Cut] = {}
    for n, band in enumerate(bands):
        own = [m for m, here in enumerate(held) if here == n]
        measured = _measured(night, k, band, [places[m] for m in own], radius, quality)
        for m, (flux, error) in zip(own, measured, strict=True):
            spot, part, (difference, noise) = spots[m], parts[m], differences[m]
            light = _light(night, k, band, boxes[m], alignment.transform, part, quality)
            night.write(spot.array, (spot.slot, 0, 0, 0), np.concatenate([light, difference[None]]))
            c = _green(light)
            local = None if scale is None else window(np.asarray(scale)[c : c + 1], whole, part)
            brighten = 1.0 if local is None else 1 / float(np.mean(local))
            if brighten > 1 / _CLEAR:
                flux, error = np.full_like(flux, np.nan), np.full_like(error, np.nan)
            cuts[m] = Cut(flux * brighten, error * brighten, radius, noise)
    return [cuts[m] for m in range(len(spots))]


@dataclass(frozen=True, eq=False)
class _Band:
    """Some rows of a frame, from its left edge, as `tasks.read_pixels` gives the whole."""

    first: int
    pixels: Pixels
    bits: np.ndarray
    """(rows, columns) uint8: the bits of bad pixels."""

    def holds(self, box: tuple[int, int, int, int]) -> bool:
        """Whether it has all rows of (x0, y0, x1, y1)."""
        return self.first <= box[1] and box[3] <= self.first + len(self.pixels.data)

    def part(self, box: tuple[int, int, int, int]) -> tuple[np.ndarray, BadPixels]:
        """Pixels in (x0, y0, x1, y1), and the bad ones, counted from its corner."""
        x0, y0, x1, y1 = box[0], box[1] - self.first, box[2], box[3] - self.first
        bad = self.pixels.bad
        inside = (bad.x >= x0) & (bad.x < x1) & (bad.y >= y0) & (bad.y < y1)
        listed = BadPixels(bad.x[inside] - x0, bad.y[inside] - y0, bad.bit[inside])
        return np.ascontiguousarray(self.pixels.data[y0:y1, x0:x1]), listed


def _read(night: Night, k: int, boxes: Sequence[tuple[int, int, int, int]]) -> list[_Band]:
    """Read the bands of rows that hold the boxes; their bad pixels are filled and listed."""
    facts, defects = night.frames[k], night.shared("defects")
    bands = _merged([(box[1], box[3], box[2]) for box in boxes])
    made = []
    for (first, past, wide), (data, mask) in zip(bands, read_bands(facts, bands), strict=True):
        inside = (defects.x < wide) & (defects.y >= first) & (defects.y < past)
        own = replace(defects, x=defects.x[inside], y=defects.y[inside] - first)
        pixels = tasks.listed(Frame(facts, data, mask), own)
        bad = pixels.bad
        made.append(_Band(first, pixels, bad_map(data.shape, bad.x, bad.y, bad.bit)))
    return made


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


def _box(
    window: np.ndarray, places: np.ndarray, shape: tuple[int, int], side: int
) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) of the frame's pixels that a window and the places in it need: cut at whole mosaic cells.

    `side` is the window's longer side in native pixels of the reference.
    """
    ends = []
    spans = [np.ptp(v[np.isfinite(v)]) if np.isfinite(v).any() else 0.0 for v in window]
    rim = _RIM * max(1.0, max(spans) / side)
    for seen, at, n in zip(window, places, reversed(shape), strict=True):
        low = np.concatenate([seen - rim, at - _RING])
        high = np.concatenate([seen + rim, at + _RING])
        known = np.isfinite(low)
        start, stop = (low[known].min(), high[known].max()) if known.any() else (0.0, float(n))
        # A window beyond the frame's edge still takes a few of its pixels.
        first = 2 * int(np.clip(start, 0, n - 8) // 2)
        past = int(np.clip(stop + 2, first + 8, n))
        ends.append((first, past - past % 2 if past < n else past))
    (x0, x1), (y0, y1) = ends
    return x0, y0, x1, y1


def _moved(transform: Transform, x0: int, y0: int) -> Transform:
    """The transform of a part of the frame whose first pixel is (x0, y0)."""
    shift = np.array([[1.0, 0, x0], [0, 1, y0], [0, 0, 1]])
    origin = (transform.origin[0] - x0, transform.origin[1] - y0)
    domain = transform.domain
    if domain is not None:
        domain = (domain[0] - x0, domain[1] - y0, domain[2] - x0, domain[3] - y0)
    return replace(transform, matrix=transform.matrix @ shift, origin=origin, domain=domain)


def _light(
    night: Night,
    k: int,
    band: _Band,
    box: tuple[int, int, int, int],
    transform: Transform,
    part: ProductGrid,
    quality: Quality,
) -> np.ndarray:
    """The window (c, h, w) as the aligned panel shows it; NaN where nothing was measured."""
    facts = night.frames[k]
    reference: Reference = night.shared("reference")
    data, bad = band.part(box)
    frame = Unsplit(data, facts.mosaic, facts.bias_adu or 0.0)
    own = _moved(transform, box[0], box[1])
    light, mask, level = warp_light(frame, sites(facts.mosaic), own, part, bad, night.options.resample)
    shift = np.asarray(reference.background_adu) - level * np.asarray(quality.background_adu)
    light += shift.astype(np.float32)[:, None, None]
    light[:, (mask & (bits.OUTSIDE | bits.BLANK)) != 0] = np.nan
    return light


def _measured(
    night: Night, k: int, band: _Band, places: Sequence[np.ndarray], radius: float, quality: Quality
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Light and error in circles about places, (2, n) for each of some spots, on a band's own pixels, NaN where they
    are not known.
    """
    facts = night.frames[k]
    x, y = np.concatenate([*places, np.empty((2, 0))], axis=1)
    data = band.pixels.data
    sums = aperture_sums(
        data, x, y - band.first, radius, facts.mosaic, quality.noise_adu, gain_of(night, facts), band.bits
    )
    c = _green(sums.flux)
    bad = (sums.flags & (bits.OUTSIDE | bits.BLANK | bits.SATURATED)) != 0
    flux, error = (np.where(bad, np.nan, v[c].astype(float)) for v in (sums.flux, sums.error))
    ends = np.cumsum([at.shape[1] for at in places])[:-1]
    return list(zip(np.split(flux, ends), np.split(error, ends), strict=True))


def _differences(
    night: Night, k: int, spots: Sequence[Spot], known: Mapping[str, Any]
) -> list[tuple[np.ndarray, float]]:
    """The windows of the difference that the movie shows, NaN where masked, and its noise (NaN: there is none).

    Where the drawing did not keep it, for the night is long, it is made again by the stages that made it.
    """
    vmax = night.shared("scene").vmax
    kept = pictures.kept_differences(night, k, [(spot.corner, spot.shape) for spot in spots], vmax)
    if kept is not None:
        return kept
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

"""What is done to one frame, stage by stage; run in worker processes."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from difflapse.align.view import AlignOptions, Reduced, View
from difflapse.align.warp import BadPixels, Unsplit
from difflapse.align.warp import warp as apply_transform
from difflapse.difference import (
    Noise,
    Science,
    Template,
    combine,
    combine_laid,
    fit_offset,
    lay_meshes,
    noise_of,
    scale_from_pixels,
    scale_from_stars,
)
from difflapse.difference.moving import Coma, Window, coma_in, coma_window
from difflapse.difference.noise import joint_correlation
from difflapse.difference.scale import SPACING
from difflapse.difference.template import Laid
from difflapse.errors import AlignError, FrameError
from difflapse.io.fits import compact, read_frame
from difflapse.io.products import sha256
from difflapse.measure import (
    find_saturated,
    find_stars,
    noise_shape,
    relative_variance,
    repair,
    saturation_of,
)
from difflapse.measure.mesh import apply, constant, image, mean, resample
from difflapse.methods import find_method
from difflapse.model import Alignment, Frame, FrameFacts, ProductGrid, Quality, Stars, Transform, bits
from difflapse.model.times import iso_utc
from difflapse.mosaic import bin_image, bin_medians, channels, sites, superpixels
from difflapse.pipeline import cube, pictures
from difflapse.pipeline import save as saving
from difflapse.pipeline.config import RunOptions, parse_lag
from difflapse.pipeline.context import Night
from difflapse.pipeline.crop import rows_needed
from difflapse.pipeline.drawing import draw_frame, forget_panels
from difflapse.pipeline.match import take_matched
from difflapse.pipeline.records import Canvas, Member, Pair, Pixels, Reference, Scene, Shown, Subtracted, Told
from difflapse.pipeline.sensor import gain_of, in_force, response_of

_PICTURE_PIXELS = 1_000_000
CHUNK = 8
"""Frames that a worker takes in a row where each needs its neighbours."""
_DIMMED = 1.1
"""Beyond this, the light that a frame has lost may be glow elsewhere: its background is looked at more finely."""
_BAND = 64
"""Rows of several frames that are combined at a time, so that their copies stay small."""
_LONGEST_KEPT = 8
"""Lag in frames up to which a worker keeps the frames in between, rather than make the earlier one again."""


def read(night: Night, k: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """Read a frame, fill its bad pixels, list them with their reasons."""
    # In the second pass a crop needs some of the frame only; in the first all stars are looked for.
    rows = rows_needed(night, k, values["alignment"]) if "alignment" in values else None
    return {"pixels": read_pixels(night, k, night.shared("defects"), rows)}


def read_pixels(night: Night, k: int, defects: Any, rows: tuple[int, int] | None = None) -> Pixels:
    """The pixels of frame `k`, or at least of some rows (see `read_frame`); `defects` are those of its sensor."""
    return listed(read_frame(night.frames[k], rows), defects)


def listed(frame: Frame, defects: Any) -> Pixels:
    """A frame's pixels with the bad ones filled and listed; `defects` are those of its sensor."""
    facts = frame.facts
    data, mask = compact(frame.data), frame.mask
    if not data.flags.writeable:
        data = data.copy()
    xs, ys, why = [defects.x], [defects.y], [np.full(len(defects), bits.DEFECT, np.uint8)]
    if mask is not None and mask.any():
        y, x = np.nonzero(mask)
        xs, ys, why = [*xs, x], [*ys, y], [*why, np.full(len(x), bits.BLANK, np.uint8)]
    else:
        mask = None
    repair(data, np.concatenate(xs), np.concatenate(ys), 2 if facts.mosaic else 1)
    # After the repair: a hot pixel is not saturated. Saturated cores stay, for filling them would dig holes.
    saturation = saturation_of(facts, defects.cut_adu, defects.header_holds)
    if saturation is not None:
        x, y = find_saturated(data, saturation)
        xs, ys, why = [*xs, x], [*ys, y], [*why, np.full(len(x), bits.SATURATED, np.uint8)]
    bx, by, bit = np.concatenate(xs), np.concatenate(ys), np.concatenate(why)
    return Pixels(data, mask, BadPixels(bx.astype(float), by.astype(float), bit))


def measure(night: Night, k: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """Find the frame's stars, judge its quality, and take the fingerprint of its file."""
    pixels: Pixels = values["pixels"]
    facts = night.frames[k]
    # A few pixels tell most frames from an empty one, which costs a look at all of them.
    if np.ptp(pixels.data[::37, ::41]) == 0 and np.ptp(pixels.data) == 0:
        raise FrameError(
            f"all of its pixels are the same, {pixels.data[0, 0]:g} ADU", "", {"found": 1, "needed": 2}
        )
    stars, quality = find_stars(Frame(in_force(night, facts), pixels.data, pixels.mask))
    if not all(np.isfinite(quality.noise_adu)):
        raise FrameError("all of its pixels are blank", "", {"found": 0, "needed": 1})
    shape = noise_shape(pixels.data, facts.mosaic, pixels.mask)
    return {
        "stars": stars,
        "quality": replace(quality, noise_shape=shape),
        "digest": sha256(facts.path) if Path(facts.path).exists() else "",
    }


def align(night: Night, k: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """Find how the frame lies on the reference, and how bright it is beside it."""
    reference: Reference = night.shared("reference")
    stars: Stars = values["stars"]
    if k == reference.frame and reference.external is None:
        alignment = Alignment(Transform.identity(), "reference", len(stars), 0.0)
    else:
        alignment = locate(night, k, stars, reference)
    return {"alignment": alignment, "scale": brightness(night, stars, values["quality"], alignment)}


def locate(night: Night, k: int, stars: Stars, reference: Reference) -> Alignment:
    """Find how a frame lies on the reference."""
    if night.options.align == "none":
        return Alignment(Transform.identity(), "none", 0, float("nan"))
    # One lens for the night comes when all frames are aligned by themselves: `night_stages.fit_lens`.
    model = "auto" if night.options.transform == "lens" else night.options.transform
    options = AlignOptions(night.options.align, model, night.options.detector)
    frame = View(night.frames[k], stars, functools.cache(lambda: reduced_picture(night, k)))
    alignment = find_method("align", options.method)(frame, reference_view(night, reference), options)
    check_overlap(alignment.transform, night.frames[k].shape, reference.facts.shape)
    return alignment


def reference_view(night: Night, reference: Reference) -> View:
    """What alignment sees of the reference."""
    k = None if reference.external else reference.frame
    return View(reference.facts, reference.stars, lambda: _reference_picture(night, k))


def brightness(night: Night, stars: Stars, quality: Quality, alignment: Alignment) -> np.ndarray | None:
    """How bright a frame is beside the reference, as a mesh; None where too few stars tell, or none are asked."""
    if night.options.match == "none":
        return None
    reference: Reference = night.shared("reference")
    radius = 1.5
    if np.isfinite(quality.fwhm_pix):
        radius = float(np.clip(0.7 * quality.fwhm_pix, 1.5, 6.0))
    if reference.external is not None:
        ny, nx = night.frames[reference.frame].shape
        radius *= alignment.transform.local_scale(0.5 * nx, 0.5 * ny)
    fitted = scale_from_stars(stars, reference.light, alignment.transform, reference.grid, radius)
    return fitted[0] if fitted else None


def warp(night: Night, k: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """Resample the frame onto the product grid and match its brightness; the template's frames lie there already."""
    members = night.shared("members")
    if k in members:
        return {"warped": kept_member(night, members[k])}
    # Neighbours that are kept for later differences need memory of their own.
    reuse = night.shared("scene").mode in ("template", "none")
    return {
        "warped": warp_frame(
            night, k, values["pixels"], values["alignment"], values["quality"], values["scale"], reuse
        )
    }


def warp_frame(
    night: Night,
    k: int,
    pixels: Pixels,
    alignment: Alignment,
    quality: Quality,
    scale: np.ndarray | None,
    reuse: bool = False,
    grid: ProductGrid | None = None,
) -> Science:
    """A frame on its product grid (or another), its background not yet matched.

    With `reuse` its pixels lie in a buffer that the next frame overwrites: fresh memory costs more than
    what is done in it.
    """
    facts = night.frames[k]
    reference: Reference = night.shared("reference")
    if grid is None:
        canvas: Canvas = night.shared("canvas")
        grid = canvas.of(k)
    pattern = facts.mosaic
    n_channels = len(channels(pattern))
    room, out = _buffers(facts.shape, pattern, grid.shape)
    warped = apply_transform(
        Unsplit(pixels.data, pattern, facts.bias_adu or 0.0, room),
        sites(pattern),
        alignment.transform,
        grid,
        pixels.bad,
        night.options.resample,
        out if reuse else None,
    )
    inverse = constant([1.0] * n_channels)
    if scale is not None:
        # Scales are those of stars' light; where brightness is kept, that goes with the pixels that show it.
        area = resample(warped.area[None], grid.shape, SPACING)
        inverse = ((1.0 if warped.keeps_flux else area / reference.light_area) / scale).astype(np.float32)
    noise = noise_of(
        warped.variance_factor,
        quality.noise_adu,
        gain_of(night, facts),
        warped.correlation,
        warped.level,
        _noise_shape(facts, quality, alignment.transform, grid, warped.variance_factor.shape),
        response_of(night),
        quality.background_adu,
    ).scaled(inverse)
    return Science(warped.data, warped.mask, inverse, constant([0.0] * n_channels), noise)


def _noise_shape(
    facts: FrameFacts, quality: Quality, transform: Transform, grid: ProductGrid, shape: tuple[int, ...]
) -> np.ndarray | None:
    """The frame's relative variance at the nodes of a mesh of `shape` (c, my, mx) over the product grid."""
    if quality.noise_shape is None:
        return None
    i, j = np.linspace(0, grid.shape[1] - 1, shape[2]), np.linspace(0, grid.shape[0] - 1, shape[1])
    x, y = transform.inverse(*grid.to_native(*np.meshgrid(i, j)))
    return relative_variance(quality.noise_shape, x, y, facts.shape)


@functools.lru_cache(maxsize=1)
def _buffers(
    shape: tuple[int, int], pattern: str, grid_shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Room for the planes of a frame, and for the frame on the product grid; kept by the process."""
    ny, nx = shape
    planes = np.empty((4, ny // 2, nx // 2) if pattern else (1, ny, nx), np.float32)
    return planes, np.empty((len(channels(pattern)), *grid_shape), np.float32)


def match_to(
    science: Science, target: np.ndarray, target_mask: np.ndarray, night: Night, smooth: bool, stars: bool
) -> Science:
    """Match a frame's background (and, without stars, its brightness) to an image on the same grid."""
    if night.options.match == "none":
        return science
    bad = (science.mask != 0) | target_mask
    inverse = science.inverse_scale
    noise = science.noise
    if not stars:
        fitted = scale_from_pixels(science.data, target, bad)
        if fitted is not None:
            inverse = constant(1.0 / fitted[0])
            noise = noise.scaled(1.0 / fitted[0])
        elif night.options.match == "scale":
            raise FrameError(
                "neither 5 stars nor the structure of its pixels tell how bright it is beside the template",
                "--match auto takes it as it is",
                {"found": 0, "needed": 5},
            )
    # Clouds that dim the stars also glow.
    clouds = float(np.mean(inverse)) > _DIMMED
    offset = fit_offset(science.data, inverse, target, bad, smooth, clouds)
    return Science(science.data, science.mask, inverse, offset, noise)


def subtract(night: Night, k: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """Take the difference that the night's mode asks for."""
    scene: Scene = night.shared("scene")
    science: Science = values["warped"]
    stars = values["scale"] is not None
    if values["alignment"].method == "interpolated":
        # Good enough to look at; at each star the difference would show where it was guessed wrong.
        shown = Shown(None, None)
        return {
            "science": science,
            "difference": Subtracted(None, shown, "no difference: position interpolated", Told("")),
        }
    matched, template, own, shown, title = _template_for(night, k, scene, science, stars)
    result, told, kernel, pair = None, Told(""), None, None
    if template is not None:
        result, told, kernel = take_matched(night, k, matched, template, own, values["quality"])
        pair = Pair(matched, template, own)
    return {"science": science, "difference": Subtracted(result, shown, title, told, pair, kernel)}


def save(night: Night, k: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """Write the images that were asked for."""
    made = []
    if "aligned" in night.options.save:
        made.append(saving.save_aligned(night, k, values["science"], values["alignment"], values["quality"]))
    if "differences" in night.options.save and values["difference"].result is not None:
        made.append(saving.save_difference(night, k, values["difference"]))
    if "cube" in night.options.save:
        cube.fill(night, k, values["science"], values["difference"].result)
    return {"saved": tuple(made)}


def draw(night: Night, k: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """Draw the frame's movie picture into the night's array of them."""
    pictures.keep(night, k, draw_frame(night, k, values))
    pictures.keep_difference(night, k, values["difference"].result, night.shared("scene").vmax)
    return {"shown": values["difference"].shown, "told": values["difference"].told}


def template_member(
    night: Night,
    slot: int,
    k: int,
    alignment: Alignment,
    quality: Quality,
    scale: np.ndarray | None,
    cell: int,
) -> Member:
    """Resample one frame of the template and keep it on scratch; with `cell`, the medians of such cells beside it."""
    rows = rows_needed(night, k, alignment)
    pixels = read_pixels(night, k, night.shared("defects"), rows)
    science = warp_frame(night, k, pixels, alignment, quality, scale, reuse=True)
    night.write("members", (slot, 0, 0, 0), science.data)
    night.write("member_masks", (slot, 0, 0), science.mask)
    if cell:
        bad = (science.mask & (bits.OUTSIDE | bits.BLANK | bits.DEFECT)) != 0
        cells = np.stack([bin_medians(plane, bad, cell) for plane in science.data])
        night.write("member_cells", (slot, 0, 0, 0), cells)
    return Member(slot, science.inverse_scale, science.offset, science.noise)


def kept_member(night: Night, member: Member) -> Science:
    """A frame of the template as `warp_frame` made it; its background not yet matched."""
    data = np.asarray(night.array("members")[member.slot])
    mask = np.asarray(night.array("member_masks")[member.slot])
    return Science(data, mask, member.inverse_scale, member.offset, member.noise)


def match_member(night: Night, member: Member, base: Member, smooth: bool, stars: bool) -> Member:
    """A frame of the template with what takes it to the reference's brightness and background."""
    science, target = kept_member(night, member), kept_member(night, base)
    matched = match_to(science, target.data, target.mask != 0, night, smooth, stars)
    return replace(member, inverse_scale=matched.inverse_scale, offset=matched.offset, noise=matched.noise)


def template_band(night: Night, level: np.ndarray, rows: tuple[int, int]) -> None:
    """Combine a band of rows of the template's frames into the template's arrays, as they lie on scratch."""
    matched = tuple(night.shared("matched").values())
    whole, all_masks = np.asarray(night.array("members")), np.asarray(night.array("member_masks"))
    slots = [member.slot for member in matched]
    ny = whole.shape[2]
    copied = slots != list(range(len(whole)))
    step = _BAND if copied else rows[1] - rows[0]
    for first in range(*rows, step):
        end = min(first + step, rows[1])
        if copied:
            made = combine_members(
                night, matched, whole[slots, :, first:end], all_masks[slots, first:end], level, ny, first
            )
        else:
            made = combine_members(night, matched, whole, all_masks, level, ny, rows=(first, end))
        data, variance, count = made
        for c in range(len(data)):
            night.write("template", (c, first, 0), data[c])
            night.write("template_variance", (c, first, 0), variance[c])
        night.write("template_count", (first, 0), count)


def template_windows(night: Night, level: np.ndarray, windows: Sequence[Window]) -> None:
    """Combine windows of the template's frames anew, without what moves. They begin in columns that 16 divides."""
    matched = tuple(night.shared("matched").values())
    whole, all_masks = np.asarray(night.array("members")), np.asarray(night.array("member_masks"))
    slots = [member.slot for member in matched]
    ny, nx = whole.shape[2:]
    laid = _laid(matched, level)
    for window in windows:
        j0, j1, i0, i1 = window
        frames, masks = whole[slots, :, j0:j1, i0:i1], all_masks[slots, j0:j1, i0:i1]
        masks = without_moving(night, matched, frames, masks, window)
        data, variance, count = combine_laid(
            frames,
            masks,
            laid,
            ny,
            j0,
            columns=(i0, nx),
            ignore=bits.SATURATED,
            statistic=_statistic(night),
        )
        night.write_window("template", (0, j0, i0), data)
        night.write_window("template_variance", (0, j0, i0), variance)
        night.write_window("template_count", (j0, i0), count)


def combine_members(
    night: Night,
    matched: tuple[Member, ...],
    frames: np.ndarray,
    masks: np.ndarray,
    level: np.ndarray,
    ny: int,
    row0: int = 0,
    rows: tuple[int, int] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Combine the template's frames (n, c, h, nx), matched to the reference as `matched` says; see `combine`."""
    laid = _laid(matched, level)
    return combine_laid(
        frames, masks, laid, ny, row0, rows=rows, ignore=bits.SATURATED, statistic=_statistic(night)
    )


def _laid(matched: tuple[Member, ...], level: np.ndarray) -> Laid:
    return lay_meshes(
        [m.noise.sky for m in matched],
        [m.noise.photon for m in matched],
        level,
        factor=[m.inverse_scale for m in matched],
        offset=[m.offset for m in matched],
        flat=[m.noise.flat for m in matched],
        weights=[m.weight for m in matched],
    )


def _statistic(night: Night) -> str:
    # Stars that pass behind a target: a mean would keep the trails of those too faint to be clipped.
    return "median" if night.options.follow else "mean"


def without_moving(
    night: Night, matched: tuple[Member, ...], frames: np.ndarray, masks: np.ndarray, window: Window
) -> np.ndarray:
    """Take a comet's light off a window of the template's frames, in place; returns their masks with what moves."""
    j0, j1, i0, i1 = window
    coma: Coma | None = night.shared("coma")[0] if night.has("coma") else None
    if coma is not None:
        for data, member in zip(frames, matched, strict=True):
            take_off_coma(coma, member, data, window)
    if night.has("moving"):
        moving = night.array("moving")[[m.slot for m in matched], j0:j1, i0:i1] != 0
        # What is kept out nearly everywhere does not move.
        moving &= np.sum((masks == 0) & ~moving, axis=0) >= max(2, len(matched) // 3)
        masks = np.where(moving, masks | np.uint8(bits.BLANK), masks)
    return masks


def take_off_coma(coma: Coma, member: Member, data: np.ndarray, window: Window) -> None:
    """Take a comet's light off a window (c, rows, columns) of a template's frame, in its own ADU, in place."""
    j0, j1, i0, i1 = coma_window(coma, member.slot, window)
    if j1 > j0 and i1 > i0:
        part = data[:, j0 - window[0] : j1 - window[0], i0 - window[2] : i1 - window[2]]
        for c, factor in enumerate(mean(member.inverse_scale)):
            part[c] -= coma_in(coma, member.slot, c, (j0, j1, i0, i1)) / factor


def levelled(science: Science, copy: bool = True) -> np.ndarray:
    """The frame's pixels on the template's brightness and background; in place where no copy is wanted."""
    data = science.data.copy() if copy else science.data
    apply(data, science.inverse_scale, science.offset)
    return data


def _template_for(
    night: Night, k: int, scene: Scene, science: Science, stars: bool
) -> tuple[Science, Template | None, float, Shown, str]:
    """What is subtracted from frame `k`, the frame matched to it, and how that is told."""
    # Without a gain nothing is known of the light's own photons.
    sigma = "in sigma" if gain_of(night, night.frames[k]) else "in sigma of the sky"
    units = {"adu": "in ADU", "mag": "in asinh magnitudes", "sigma": sigma}.get(
        night.options.units, f"in {night.options.units}"
    )
    if scene.mode == "template":
        arrays = {name: night.array(name) for name in ("template", "template_variance", "template_count")}
        template = Template(
            arrays["template"],
            arrays["template_variance"],
            arrays["template_count"],
            scene.sky,
            scene.template_correlation,
        )
        science = match_to(science, template.data, template.count == 0, night, scene.smooth, stars)
        own = scene.own_weight.get(k, 0.0)
        title = f"difference: minus {scene.template_title}, {units}"
        return science, template, own, Shown("template", scene.template_mjd), title
    if scene.mode == "none":
        return science, None, 0.0, Shown(None, None), "no difference"
    others = neighbours(night, k, scene)
    if not others:
        return science, None, 0.0, Shown(None, None), "no earlier frame to subtract"
    data, noise = _flat(night, scene, science, stars)
    recent = _recent(night.scratch, neighbours_kept(scene.mode, night.options))
    recent.keep(k, (data, science.mask, noise))
    members = levelled_neighbours(night, scene, others)
    n = len(data)
    science = Science(data, science.mask, constant([1.0] * n), constant([0.0] * n), noise)
    times = night.times(others)
    when = float(np.mean(times)) if times else None
    if scene.mode == "running":
        data, mask, noise = members[0]
        sky = resample(noise.sky, data.shape[1:], 16)
        variance = np.stack([image(sky[c], data.shape[1:]) for c in range(len(data))])
        for c in range(len(data)):
            signal = np.maximum(data[c] - image(scene.sky[c], data.shape[1:]), 0)
            photon, flat = (image(part[c], data.shape[1:]) for part in (noise.photon, noise.flat))
            variance[c] += (photon + flat * signal) * signal
        template = Template(
            data, variance, np.where(mask == 0, 1, 0).astype(np.uint8), scene.sky, noise.correlation
        )
        lag = _lag_text(night, k, others[0])
        title = f"running difference, {lag}: minus {_clock(night, others[0])}, {units}"
        shown = Shown(night.frames[others[0]].file, when)
    else:
        data, variance, count = median_of(members, scene.sky)
        noises = [m[2] for m in members]
        correlation = joint_correlation([mean(n.sky) for n in noises], [n.correlation for n in noises])
        template = Template(data, variance, count, scene.sky, correlation)
        title = f"difference: minus median of {len(others)} neighbours, {units}"
        shown = Shown("rolling median", when)
    science = match_to(science, template.data, template.count == 0, night, scene.smooth, stars)
    return science, template, 0.0, shown, title


def levelled_neighbours(night: Night, scene: Scene, others: list[int]) -> list[Levelled]:
    """Frames `others` on the reference's brightness and sky: those at hand, else made again."""
    recent = _recent(night.scratch, neighbours_kept(scene.mode, night.options))
    return [recent.get(j) or recent.keep(j, _levelled_again(night, scene, j)) for j in others]


def median_of(members: list[Levelled], sky: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median of levelled frames, their noise carried, by bands of rows: see `combine`."""
    c, ny, nx = members[0][0].shape
    data, variance = np.empty((c, ny, nx), np.float32), np.empty((c, ny, nx), np.float32)
    count = np.empty((ny, nx), np.uint8)
    for row in range(0, ny, _BAND):
        band = slice(row, min(ny, row + _BAND))
        data[:, band], variance[:, band], count[band] = combine(
            np.stack([m[0][:, band] for m in members]),
            np.stack([m[1][band] for m in members]),
            [m[2].sky for m in members],
            [m[2].photon for m in members],
            sky,
            ny,
            row,
            flat=[m[2].flat for m in members],
            statistic="median",
        )
    return data, variance, count


def neighbours(night: Night, k: int, scene: Scene) -> list[int]:
    """Frames that are subtracted from frame `k` in running and rolling mode."""
    used = list(scene.used)
    place = used.index(k)
    if scene.mode == "rolling":
        half = night.options.window // 2
        # At the ends of the night the window is as wide, but not centred.
        first = max(0, min(place - half, len(used) - night.options.window))
        return [j for j in used[first : first + night.options.window] if j != k]
    frames, seconds = parse_lag(night.options.lag)
    if frames:
        return [used[place - frames]] if place >= frames else []
    now = night.frames[k].mid_mjd
    if now is None:
        return []
    best: tuple[float, int] | None = None
    for j in used:
        then = night.frames[j].mid_mjd
        if then is None or then >= now:
            continue
        miss = abs((now - then) * 86400 - seconds)
        if best is None or miss < best[0]:
            best = (miss, j)
    tolerance = 0.5 * scene.cadence_s if scene.cadence_s else 0.5 * seconds
    return [best[1]] if best and best[0] <= tolerance + 1e-3 else []


def _flat(night: Night, scene: Scene, science: Science, stars: bool) -> tuple[np.ndarray, Noise]:
    """A frame on the reference's brightness with its own smooth background replaced by the scene's sky."""
    c, ny, nx = science.data.shape
    level = scene.sky
    target = np.stack([image(level[i], (ny, nx)) for i in range(c)])
    matched = (
        match_to(science, target, science.mask != 0, night, scene.smooth, True)
        if stars or scene.smooth
        else science
    )
    return levelled(matched), matched.noise


Levelled = tuple[np.ndarray, np.ndarray, Noise]
"""A frame's pixels on the reference's brightness and sky, its mask, its noise."""


def neighbours_kept(mode: str, options: RunOptions) -> int:
    """Levelled frames that a worker keeps, so that it need not make each anew for the next difference."""
    if mode == "rolling":
        return options.window
    if mode == "running":
        frames, _ = parse_lag(options.lag)
        return frames + 1 if 0 < frames <= _LONGEST_KEPT else 2
    return 0


class _Recent:
    """The last few levelled frames of a night, by number."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.frames: dict[int, Levelled] = {}

    def get(self, j: int) -> Levelled | None:
        return self.frames.get(j)

    def keep(self, j: int, value: Levelled) -> Levelled:
        self.frames[j] = value
        while len(self.frames) > self.size:
            self.frames.pop(min(self.frames))
        return value


@functools.lru_cache(maxsize=1)
def _recent(scratch: str, size: int) -> _Recent:
    """What this process keeps of the night whose scratch folder is named."""
    return _Recent(size)


def _levelled_again(night: Night, scene: Scene, j: int) -> Levelled:
    """A neighbour that this worker has not at hand: made from its file."""
    carried = night.shared("carried")[j]
    rows = rows_needed(night, j, carried["alignment"])
    pixels = read_pixels(night, j, night.shared("defects"), rows)
    science = warp_frame(night, j, pixels, carried["alignment"], carried["quality"], carried["scale"])
    data, noise = _flat(night, scene, science, carried["scale"] is not None)
    return data, science.mask, noise


def forget_pictures() -> None:
    """Let go of what this process keeps of a night; run where the night ends."""
    forget_panels()
    for kept in (_recent, _reference_picture):
        kept.cache_clear()


def _lag_text(night: Night, k: int, j: int) -> str:
    now, then = night.frames[k].mid_mjd, night.frames[j].mid_mjd
    if now is None or then is None:
        return f"{k - j} frames"
    seconds = (now - then) * 86400
    return f"{seconds:.0f} s" if abs(seconds) < 90 else f"{seconds / 60:.0f} min"


def _clock(night: Night, j: int) -> str:
    when = night.frames[j].mid_mjd
    return iso_utc(when, 0)[11:] + " UTC" if when is not None else f"frame {j}"


def check_overlap(transform: Transform, shape: tuple[int, int], reference: tuple[int, int]) -> None:
    """Refuse frames that share less than a quarter of the reference's sky, or of their own if that is smaller."""
    ny, nx = reference
    gx, gy = np.meshgrid(np.linspace(0, nx - 1, 21), np.linspace(0, ny - 1, 21))
    x, y = transform.inverse(gx, gy)
    with np.errstate(invalid="ignore"):
        share = float(np.mean((x >= 0) & (x <= shape[1] - 1) & (y >= 0) & (y <= shape[0] - 1)))
    gx, gy = np.meshgrid(np.linspace(0, shape[1] - 1, 21), np.linspace(0, shape[0] - 1, 21))
    x, y = transform(gx, gy)
    share = max(share, float(np.mean((x >= 0) & (x <= nx - 1) & (y >= 0) & (y <= ny - 1))))
    if share < 0.25:
        raise AlignError(
            f"it shares {100 * share:.0f} % of the reference's field; 25 % is needed",
            "run it by itself, or choose another --reference",
            {"found": share, "needed": 0.25},
        )


def reduced_picture(night: Night, k: int) -> Reduced:
    """The small picture of a frame that feature and phase methods look at."""
    return reduce(read_pixels(night, k, night.shared("defects")), night.frames[k])


def reduce(pixels: Pixels, facts: FrameFacts, native: int = 1) -> Reduced:
    """A small picture of a frame whose pixels are `native` native ones wide."""
    pattern = facts.mosaic
    grey = superpixels(pixels.data, pattern, facts.bias_adu or 0.0)
    step = 2 if pattern else 1
    factor = max(1, int(np.ceil(np.sqrt(grey.size / _PICTURE_PIXELS))))
    small = np.ascontiguousarray(bin_image(grey, factor))
    ny, nx = small.shape[:2]
    bad = np.zeros((ny, nx), bool)
    if pixels.mask is not None:
        y, x = np.nonzero(pixels.mask)
        bad[
            np.minimum(y // (step * factor), ny - 1),
            np.minimum(x // (step * factor), nx - 1),
        ] = True
    total = step * factor * native
    return Reduced(
        small - np.float32(np.median(small)), bad | ~np.isfinite(small), float(total), (total - 1) / 2
    )


@functools.lru_cache(maxsize=1)
def _reference_picture(night: Night, k: int | None) -> Reduced:
    """The reference's: frame `k`, or one from outside the night."""
    return night.shared("picture") if k is None else reduced_picture(night, k)

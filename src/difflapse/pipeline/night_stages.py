"""What is decided or made once for a whole night, between the stages of single frames."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np

from difflapse.difference import Noise, fit_offset
from difflapse.difference.mesh import constant
from difflapse.errors import FrameError, InputError, OptionError
from difflapse.io.fits import read_frame
from difflapse.measure import Defects
from difflapse.measure import find_defects as measure_defects
from difflapse.model import Frame, Inventory, Quality
from difflapse.model.times import iso_utc
from difflapse.movie.diverging import VMAX
from difflapse.movie.layout import make_layout
from difflapse.movie.stretch import measure_stretch
from difflapse.pipeline import tasks
from difflapse.pipeline.config import RunOptions
from difflapse.pipeline.context import Night
from difflapse.pipeline.crop import product_grid, without_crop
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.external import external_of, frame_named, lay_on_external
from difflapse.pipeline.records import Reference, Scene

TEMPLATE_FRAMES = 12
"""Frames in a template at most: more add cost, and hardly any depth to a difference."""
DEFECT_FRAMES = 6
FEWEST_FOR_TEMPLATE = 4


def find_defects(desk: Desk) -> None:
    """Find hot and dead pixels from a few frames spread over the night."""
    night = desk.night
    desk.progress.start("sensor", 1)
    result = next(iter(desk.pool.run(_defects_task, [(night,)])))[1]
    if isinstance(result, FrameError):
        desk.progress.note(f"hot and dead pixels were not looked for: {result.message}")
    defects = Defects.none() if isinstance(result, FrameError) else result
    night.share("defects", defects)
    desk.progress.advance("sensor")
    desk.progress.finish("sensor")


def choose_reference(desk: Desk) -> None:
    """Choose the frame whose grid is kept, and lay the product grid on it."""
    night = desk.night
    alive = desk.alive()
    if len(alive) < 2:
        reasons = "; ".join(sorted(set(desk.failed.values()))[:2])
        raise InputError(
            f"{len(alive)} of {len(night.frames)} frames can be used; 2 are needed",
            f"the first reasons were: {reasons}" if reasons else "",
            {"found": len(alive), "needed": 2},
        )
    external = external_of(night.frames, night.options)
    if external is not None:
        night.share("reference", lay_on_external(desk, external, _ranked(desk, alive)))
        return
    wanted = night.options.reference
    named = int(wanted) if wanted.isdecimal() else frame_named(night.frames, wanted)
    if named is not None:
        k = named
        if k in desk.failed:
            raise InputError(
                f"reference frame {k} cannot be used: {desk.failed[k]}", "choose another, or best"
            )
    elif wanted == "first":
        k = alive[0]
    elif wanted == "middle":
        k = alive[len(alive) // 2]
    else:
        # A crop or a target on the sky needs a reference that knows where it looks.
        on_sky = night.options.center or (night.options.follow and night.options.follow != ("comet",))
        solved = [k for k in alive if night.frames[k].wcs_header] if on_sky else []
        k = _ranked(desk, solved or alive)[0]
    quality: Quality = desk.value("quality", k)
    facts, stars = night.frames[k], desk.value("stars", k)
    grid = product_grid(facts, without_crop(night.options))
    defects = night.shared("defects")
    night.share("reference", Reference(k, facts, stars, grid, quality.background_adu, defects, stars))


def make_template(desk: Desk) -> None:
    """Choose the frames and the mode of the difference, make the template, and measure the night's stretch."""
    night = desk.night
    reference: Reference = night.shared("reference")
    if reference.frame in desk.failed:
        raise InputError(
            f"the reference frame failed: {desk.failed[reference.frame]}", "choose another --reference"
        )
    # A frame whose place was guessed is shown, but nothing is subtracted from it, nor it from others.
    used = [k for k in desk.alive() if desk.value("alignment", k).method != "interpolated"]
    mode = _mode(desk, used)
    # A hazy frame without stars of its own must not cost the others their smooth background.
    with_stars = sum(desk.value("scale", k) is not None for k in used)
    smooth = 2 * with_stars >= len(used) and len(reference.stars) >= 5
    chosen = _choose(desk, used) if mode == "template" else (reference.frame,)
    steps = len(chosen)
    desk.progress.start("template", steps)
    arguments = {
        k: (night, k, desk.value("alignment", k), desk.value("quality", k), desk.value("scale", k), smooth)
        for k in chosen
    }
    noises: dict[int, Any] = {}
    first = next(iter(desk.pool.run(tasks.template_member, [arguments[reference.frame]])))[1]
    if isinstance(first, FrameError):
        raise InputError(f"the reference frame cannot be read again: {first.message}")
    noises[reference.frame] = first
    desk.progress.advance("template")
    others = [k for k in chosen if k != reference.frame]
    for n, result in desk.pool.run(tasks.template_member, [arguments[k] for k in others]):
        if isinstance(result, FrameError):
            desk.progress.note(f"{night.frames[others[n]].file} is not in the template: {result.message}")
        else:
            noises[others[n]] = result
        desk.progress.advance("template")
    chosen = tuple(k for k in chosen if k in noises)
    base = night.array(f"member{reference.frame}")
    base_mask = night.array(f"mask{reference.frame}")
    c, ny, nx = base.shape
    one, zero = constant([1.0] * c), np.broadcast_to(np.float32(0), base.shape)
    sky = fit_offset(np.asarray(base), one, zero, base_mask != 0, smooth)
    picture, hidden = base, base_mask != 0
    if mode == "template":
        _combine(desk, chosen, tuple(noises[k] for k in chosen), sky, (c, ny, nx))
        # A target's template has no stars: it sets the tones of a cut about the target, not of a whole field.
        if not night.options.follow or night.options.size:
            picture, hidden = night.array("template"), night.array("template_count") == 0
    else:
        chosen = ()
    desk.progress.finish("template")
    stretch = measure_stretch(
        np.asarray(picture), hidden, night.options.stretch, desk.value("quality", reference.frame).noise_adu
    )
    options = night.options
    grid = night.shared("canvas").grid
    layout = make_layout(
        options.shown_panels,
        grid.shape,
        grid.step,
        grid.origin,
        options.width,
        options.labels,
        options.fps,
    )
    times = night.times(chosen)
    scene = Scene(
        mode,
        tuple(used),
        chosen,
        float(np.mean(times)) if times else None,
        sky,
        smooth,
        _cadence(night),
        layout,
        stretch,
        _vmax(night, noises[reference.frame], sky),
        4 * _combined_sigma(noises[reference.frame]),
    )
    night.share("scene", scene)
    if mode in ("running", "rolling"):
        night.share(
            "carried",
            {k: {name: desk.value(name, k) for name in ("alignment", "quality", "scale")} for k in used},
        )


def _defects_task(night: Night) -> Defects:
    """Read a few frames and compare them; frames that cannot be read do not count."""
    n = len(night.frames)
    frames = []
    for k in np.unique(np.linspace(0, n - 1, min(n, DEFECT_FRAMES)).round().astype(int)):
        try:
            frame = read_frame(night.frames[k])
        except FrameError:
            continue
        if frame.mask is None or frame.mask.mean() < 0.1:
            frames.append(
                frame.data if frame.mask is None else np.where(frame.mask, np.median(frame.data), frame.data)
            )
    return measure_defects(frames, night.frames[0].mosaic)


def _filled(frame: Frame) -> np.ndarray:
    """A frame's pixels in their own small type, bad ones at the median."""
    if frame.mask is None:
        return frame.data
    return np.where(frame.mask, np.median(frame.data), frame.data).astype(frame.data.dtype)


def _ranked(desk: Desk, alive: list[int]) -> list[int]:
    """Frames by how sharp, deep and near the middle of the night they are, best first."""
    quality = [desk.value("quality", k) for k in alive]
    stars = np.array([q.n_stars for q in quality], float)
    width = np.array(
        [q.fwhm_pix * max(1.0, q.elongation if math.isfinite(q.elongation) else 1.0) for q in quality]
    )
    noise = np.array([float(np.mean(q.noise_adu)) for q in quality])
    width = np.where(np.isfinite(width), width, np.nanmedian(width) if np.isfinite(width).any() else 1.0)
    score = -np.log(np.maximum(width, 0.1)) - 0.5 * np.log(np.maximum(noise, 1e-6))
    if np.median(stars) >= 5:
        score += 0.7 * np.log(np.maximum(stars, 1))
    # Products take their sky positions from the reference: one with a WCS is worth some sharpness.
    score += 0.5 * np.array([bool(desk.night.frames[k].wcs_header) for k in alive])
    middle = np.abs(np.linspace(-1, 1, len(alive)))
    return [alive[n] for n in np.argsort(-(score - 0.4 * middle), kind="stable")]


def check_reference(inventory: Inventory, options: RunOptions) -> None:
    """Refuse, before anything is read, a reference frame that a sequence does not have; raises OptionError."""
    wanted = options.reference
    if wanted in ("best", "first", "middle"):
        return
    if wanted.isdecimal():
        for sequence in inventory.sequences:
            n = len(sequence.frames)
            if int(wanted) >= n:
                raise OptionError(
                    f"reference is frame {wanted}; {sequence.name} has frames 0 to {n - 1}",
                    "or --reference best",
                )
    elif all(
        frame_named(s.frames, wanted) is None and external_of(s.frames, options) is None
        for s in inventory.sequences
    ):
        raise OptionError(
            f"reference is {wanted!r}; it must be best, first, middle, a frame number or a file",
            "frames.ecsv of an earlier run names its frames",
        )


def mode_for(options: RunOptions, frames: int) -> str:
    """The mode of the difference in force for a number of frames: too few make no template and no window."""
    if options.diff in ("template", "rolling") and frames < FEWEST_FOR_TEMPLATE:
        return "running"
    return options.diff


def _mode(desk: Desk, used: list[int]) -> str:
    """The mode of the difference; a note where it is not the one asked for."""
    wanted, mode = desk.night.options.diff, mode_for(desk.night.options, len(used))
    if mode != wanted:
        desk.progress.note(
            f"{len(used)} frames are too few for a {wanted} difference; "
            f"it needs {FEWEST_FOR_TEMPLATE}: {mode} instead"
        )
    return mode


def _choose(desk: Desk, used: list[int]) -> tuple[int, ...]:
    """The best frame of each of `TEMPLATE_FRAMES` stretches of the night, the reference among them."""
    reference: Reference = desk.night.shared("reference")
    quality = {k: desk.value("quality", k) for k in used}
    brightness = {}
    for k in used:
        scale = desk.value("scale", k)
        brightness[k] = float(np.mean(scale)) if scale is not None else 1.0
    typical_noise = float(np.median([np.mean(q.noise_adu) for q in quality.values()]))
    widths = [q.fwhm_pix for q in quality.values() if math.isfinite(q.fwhm_pix)]
    typical_width = float(np.median(widths)) if widths else 1.0

    def badness(k: int) -> float:
        width = quality[k].fwhm_pix if math.isfinite(quality[k].fwhm_pix) else typical_width
        stretch = quality[k].elongation if math.isfinite(quality[k].elongation) else 1.0
        noise = float(np.mean(quality[k].noise_adu)) / typical_noise
        return width / typical_width * max(1.0, stretch) * noise / max(brightness[k], 0.02)

    limit = 1.6 * float(np.median([badness(k) for k in used]))
    good = [k for k in used if badness(k) <= limit or k == reference.frame]
    parts = np.array_split(np.array(good), min(TEMPLATE_FRAMES, len(good)))
    chosen = {reference.frame if reference.frame in part else min(part, key=badness) for part in parts}
    return tuple(sorted(int(k) for k in chosen))


def _combine(
    desk: Desk, chosen: tuple[int, ...], noises: tuple[Any, ...], sky: np.ndarray, shape: tuple[int, int, int]
) -> None:
    """Make the template by bands of rows, so that memory stays bounded however many frames there are."""
    night = desk.night
    c, ny, nx = shape
    # Written in full, not as holes: a full disk is found here, where it can be told, and not by a mapped write.
    for name in ("template", "template_variance"):
        night.save_array(name, np.zeros(shape, np.float32))
    night.save_array("template_count", np.zeros((ny, nx), np.uint8))
    rows = max(16, min(ny, int(150e6 / (4 * c * nx * max(1, len(chosen))))))
    edges = list(range(0, ny, rows)) + [ny]
    jobs = [(night, chosen, noises, sky, a, b) for a, b in pairwise(edges)]
    for _, result in desk.pool.run(tasks.template_band, jobs):
        if isinstance(result, FrameError):
            raise InputError(f"the template cannot be made: {result.message}", result.hint)
    for k in chosen:
        if k != night.shared("reference").frame:
            night.array_path(f"member{k}").unlink(missing_ok=True)
            night.array_path(f"mask{k}").unlink(missing_ok=True)


def _cadence(night: Night) -> float | None:
    times = night.times()
    if len(times) < 2:
        return None
    return float(np.median(np.diff(sorted(times))) * 86400)


def _vmax(night: Night, noise: Noise, sky: np.ndarray) -> float:
    """Ends of the differential panel's scale: as for sigma, or the same in ADU or percent, as a round number."""
    if night.options.units == "sigma":
        return VMAX
    sigma = _combined_sigma(noise)
    if night.options.units == "percent":
        sigma = 100 * sigma / max(float(np.mean(sky)), 1e-6)
    raw = VMAX * sigma
    power = 10 ** math.floor(math.log10(raw)) if raw > 0 else 1.0
    return next(power * step for step in (1, 2, 5, 10) if power * step >= raw)


def _combined_sigma(noise: Noise) -> float:
    """Noise of an empty pixel of the reference, all channels combined, ADU."""
    return 1 / math.sqrt(sum(1 / max(float(np.mean(s)), 1e-12) for s in noise.sky))


def time_range(night: Night) -> str:
    """First and last time of the night as text; empty where unknown."""
    times = night.times()
    return f"{iso_utc(min(times), 0)} to {iso_utc(max(times), 0)} UTC" if times else ""

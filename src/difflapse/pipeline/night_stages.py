"""What is decided or made once for a whole night, between the stages of single frames."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from difflapse.align.lens import one_lens
from difflapse.difference import Noise, fit_offset
from difflapse.difference.noise import joint_correlation
from difflapse.errors import FrameError, InputError, OptionError
from difflapse.measure import Defects
from difflapse.measure.mesh import constant, mean
from difflapse.measure.transfer import Transfer
from difflapse.model import Inventory, Quality
from difflapse.mosaic import channels
from difflapse.movie.diverging import ENDS, VMAX
from difflapse.pipeline import cube, encode, moving, pictures, sensor, tasks
from difflapse.pipeline import foreign as foreign_template
from difflapse.pipeline.config import OF_TEMPLATE, RunOptions
from difflapse.pipeline.context import Night
from difflapse.pipeline.crop import cut_note, product_grid, without_crop
from difflapse.pipeline.defects import search_sensor
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.drawing import night_stretch, sky_level
from difflapse.pipeline.external import external_of, frame_named, lay_on_external
from difflapse.pipeline.pool import guarded
from difflapse.pipeline.records import Canvas, Member, Reference, Scene, SkyPlace
from difflapse.pipeline.signs import read_signs
from difflapse.pipeline.sky import solve_alone
from difflapse.pipeline.tasks import CHUNK

TEMPLATE_FRAMES = (8, 12)
"""Frames in the template of a short night and of a long one: more cost time, and add hardly any depth."""
_TO_A_MEMBER = 6
"""Frames of a night to each of its template's, in between."""
FEWEST_FOR_TEMPLATE = 4
_FEW_STARS = 10
"""Stars on the frame that has most, below which a night has none."""
_STARLESS = 5.0
"""How many times more the middle of the night counts for a reference without stars."""


def find_defects(desk: Desk) -> None:
    """Find hot and dead pixels from a few frames spread over the night, unless that was begun already.

    Otherwise in threads of this process: it has nothing else to do, and workers may still be busy with their imports.
    """
    night = desk.night
    desk.progress.start("sensor", 1)
    result = desk.take("sensor") or guarded(search_sensor, night.frames, desk.pool.workers)
    if isinstance(result, FrameError):
        desk.progress.note(f"hot and dead pixels were not looked for: {result.message}")
        result = Defects.none(), Transfer(reason=result.message)
    night.share("defects", result[0])
    night.share("transfer", result[1])
    sensor.tell_camera(desk)
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
    place = SkyPlace()
    if night.options.center and night.options.solve and not night.frames[k].wcs_header:
        others = [j for j in _ranked(desk, alive) if j != k][:1] if wanted == "best" else []
        k, place = solve_alone(
            desk, [(night.frames[j], desk.value("stars", j), j) for j in (k, *others)]
        ) or (k, place)
    quality: Quality = desk.value("quality", k)
    facts, stars = night.frames[k], desk.value("stars", k)
    placed = replace(facts, wcs_header=facts.wcs_header or place.wcs_header)
    options = without_crop(night.options)
    grid = product_grid(placed, options)
    if note := cut_note(placed, options):
        desk.progress.note(note)
    defects = night.shared("defects")
    night.share(
        "reference",
        Reference(k, facts, stars, grid, quality.background_adu, defects, stars, place=place),
    )


def fit_lens(desk: Desk) -> None:
    """Fit one lens to all frames that are aligned on stars, and take its transforms where they are the better ones."""
    night = desk.night
    wanted = night.options.transform
    reference: Reference = night.shared("reference")
    used = desk.alive()
    if wanted not in ("auto", "lens") or night.options.align == "none" or reference.frame not in used:
        return
    if reference.external is not None:
        if wanted == "lens":
            desk.progress.note(
                "one lens: the reference is another camera's; frames keep their own transforms"
            )
        return
    desk.progress.start("lens", 1)
    lens = one_lens(
        {k: night.frames[k] for k in used},
        {k: desk.value("stars", k) for k in used},
        {k: desk.value("alignment", k) for k in used},
        reference.frame,
        wanted,
    )
    desk.values["alignment"].update(lens.alignments)
    desk.progress.advance("lens")
    desk.progress.finish("lens")
    if wanted == "lens" and lens.used < len(used) - 1:
        desk.progress.note(
            f"one lens: {lens.line}; {len(used) - 1 - lens.used} frames keep their own transforms, "
            "frames.ecsv says why"
        )
    night.share("lens", lens.line)


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
    sensor.share_response(desk, used)
    # A hazy frame without stars of its own must not cost the others their smooth background.
    with_stars = sum(desk.value("scale", k) is not None for k in used)
    smooth = 2 * with_stars >= len(used) and len(reference.stars) >= 5
    own = mode == "template" and not night.options.template
    chosen = _choose(desk, used) if own else (reference.frame,)
    desk.progress.start("template", len(chosen))
    members = _members(desk, chosen, own and not night.options.follow)
    chosen = tuple(members)
    night.share("members", members)
    base = members[reference.frame]
    image = tasks.kept_member(night, base)
    one = constant([1.0] * len(image.data))
    sky = fit_offset(
        image.data, one, np.broadcast_to(np.float32(0), image.data.shape), image.mask != 0, smooth
    )
    picture, hidden = image.data, image.mask != 0
    foreign = foreign_template.lay_template(desk, base, smooth) if mode == "template" and not own else None
    if own:
        matched = _weigh(desk, _match(desk, members, base, smooth))
        night.share("matched", matched)
        combined = _combine(desk, sky)
        coma = moving.find_coma(desk, matched) if not night.options.follow else (None, "", 0.0)
        for band in combined:
            if isinstance(result := band(), FrameError):
                raise InputError(f"the template cannot be made: {result.message}", result.hint)
        if coma[0] is not None:
            night.share("coma", coma)
            moving.keep_out_coma(desk, matched, sky, coma[0])
        chosen = tuple(matched)
        noises = [member.noise for member in matched.values()]
        share = np.array([member.weight for member in matched.values()])
        share /= share.sum()
        correlation = joint_correlation(
            [w * w * mean(n.sky) for w, n in zip(share, noises, strict=True)], [n.correlation for n in noises]
        )
        own_weight = dict(zip(chosen, share.tolist(), strict=True))
        if not night.options.follow:
            # Of a followed target it has no stars, which the frames do have: the reference sets the tones then.
            picture, hidden = np.asarray(night.array("template")), night.array("template_count") == 0
            moving.begin_keep_out(desk, matched, sky, correlation)
    else:
        chosen, own_weight = (), {}
        correlation = np.ones(len(sky)) if foreign is None else foreign.correlation
    level = sky_level(sky, smooth)
    noise = desk.value("quality", reference.frame).noise_adu
    stretch, note = night_stretch(night, picture, hidden, noise, level)
    if note:
        desk.progress.note(note)
    if own and not night.options.follow:
        night.share("selfsubtraction", moving.keep_out(desk, matched, sky))
    desk.progress.finish("template")
    options = night.options
    grid = night.shared("canvas").grid
    layout = pictures.movie_layout(grid, options)
    times = night.times(chosen)
    scene = Scene(
        mode,
        tuple(used),
        chosen,
        (float(np.mean(times)) if times else None) if foreign is None else foreign.mjd,
        sky,
        smooth,
        night.cadence_s(),
        layout,
        stretch,
        _vmax(night, base.noise, sky),
        4 * _combined_sigma(base.noise),
        correlation,
        own_weight,
        template_file=foreign.file if foreign else "",
        level=level,
        signs=read_signs(night, layout),
    )
    night.share("scene", scene)
    latest = desk.pool.most_waiting(desk.pool.workers) * (CHUNK if scene.windowed else 1)
    # Of a few pictures all are kept: a file with holes in it takes no room for the others.
    pictures.lay_out(night, layout, desk.alive(), len(night.frames) if desk.few else latest)
    encode.begin_early(desk)
    if "cube" in options.save:
        cube.lay_out(desk)
    if scene.windowed:
        night.share(
            "carried",
            {k: {name: desk.value(name, k) for name in ("alignment", "quality", "scale")} for k in used},
        )


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
    if stars.max() < _FEW_STARS:
        # Where there are no stars the scene itself may turn and change: what lies in the middle is like most.
        middle *= _STARLESS
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
                    f"--reference is frame {wanted}; {sequence.name} has frames 0 to {n - 1}",
                    "or --reference best",
                )
    elif all(
        frame_named(s.frames, wanted) is None and external_of(s.frames, options) is None
        for s in inventory.sequences
    ):
        raise OptionError(
            f"--reference is {wanted!r}; it must be best, first, middle, a frame number or a file",
            "frames.ecsv of an earlier run names its frames",
        )


def template_size(frames: int, options: RunOptions) -> int:
    """How many of a number of frames the template is made of at most; of a target that is followed it is the picture,
    and as deep as it can be.
    """
    least, most = TEMPLATE_FRAMES
    return min(frames, most if options.follow else max(least, min(most, frames // _TO_A_MEMBER)))


def mode_for(options: RunOptions, frames: int) -> str:
    """The mode of the difference in force for a number of frames: too few make no template and no window."""
    if options.diff in ("template", "rolling") and frames < FEWEST_FOR_TEMPLATE and not options.template:
        return "running"
    return options.diff


def _mode(desk: Desk, used: list[int]) -> str:
    """The mode of the difference; a note where it is not the one asked for."""
    wanted, mode = desk.night.options.diff, mode_for(desk.night.options, len(used))
    if mode != wanted:
        empty = [name for name in desk.night.options.shown_panels if name in OF_TEMPLATE]
        more = f"; the panel {empty[0]} stays empty" if empty else ""
        why = f"{len(used)} frames are too few for a {wanted} difference; it needs {FEWEST_FOR_TEMPLATE}"
        desk.night.share("diff_note", why)
        desk.progress.note(f"{why}: {mode} instead{more}")
    return mode


def _choose(desk: Desk, used: list[int]) -> tuple[int, ...]:
    """The best frame of each of `template_size` stretches of the night, the reference among them."""
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
    parts = np.array_split(np.array(good), template_size(len(good), desk.night.options))
    chosen = {reference.frame if reference.frame in part else min(part, key=badness) for part in parts}
    return tuple(sorted(int(k) for k in chosen))


def _members(desk: Desk, chosen: tuple[int, ...], pictures: bool) -> dict[int, Member]:
    """Resample the template's frames, all on scratch, with small pictures of them where a comet is looked for; those
    that cannot be read again are left out.
    """
    night = desk.night
    reference: Reference = night.shared("reference")
    canvas: Canvas = night.shared("canvas")
    shape = (len(channels(night.frames[reference.frame].mosaic)), *canvas.grid.shape)
    night.make_array("members", (len(chosen), *shape), np.float32)
    night.make_array("member_masks", (len(chosen), *shape[1:]), np.uint8)
    cell = moving.cell_size(night) if pictures else 0
    if cell:
        night.make_array(
            "member_cells", (len(chosen), shape[0], shape[1] // cell, shape[2] // cell), np.float32
        )
    jobs = [
        (night, slot, k, *(desk.value(name, k) for name in ("alignment", "quality", "scale")), cell)
        for slot, k in enumerate(chosen)
    ]
    found = {}
    for n, result in desk.pool.run(tasks.template_member, jobs):
        k = chosen[n]
        if not isinstance(result, FrameError):
            found[k] = result
        elif k == reference.frame:
            raise InputError(f"the reference frame cannot be read again: {result.message}")
        else:
            desk.progress.note(f"{night.frames[k].file} is not in the template: {result.message}")
        desk.progress.advance("template")
    return dict(sorted(found.items()))


def _match(desk: Desk, members: dict[int, Member], base: Member, smooth: bool) -> dict[int, Member]:
    """Match the template's frames to the reference, which stays as it is."""
    night = desk.night
    found = {}
    others = [k for k in members if members[k] is not base]
    jobs = [(night, members[k], base, smooth, desk.value("scale", k) is not None) for k in others]
    for n, result in desk.pool.run(tasks.match_member, jobs):
        if isinstance(result, FrameError):
            desk.progress.note(f"{night.frames[others[n]].file} is not in the template: {result.message}")
        else:
            found[others[n]] = result
    itself = next(k for k in members if members[k] is base)
    found[itself] = replace(base, inverse_scale=constant([1.0] * len(base.inverse_scale)))
    return dict(sorted(found.items()))


def _weigh(desk: Desk, members: dict[int, Member]) -> dict[int, Member]:
    """The template's frames with weights: inverse variance times sharpness, at most four times the usual."""
    if desk.night.options.follow:
        return members  # their template is a median
    depth = {k: sum(1 / max(float(v), 1e-12) for v in mean(m.noise.sky)) for k, m in members.items()}
    widths = {k: desk.value("quality", k).fwhm_pix for k in members}
    known = [w for w in widths.values() if math.isfinite(w)]
    usual = float(np.median(known)) if known else 1.0
    raw = {k: d * usual / (widths[k] if math.isfinite(widths[k]) else usual) for k, d in depth.items()}
    middle = float(np.median(list(raw.values())))
    return {k: replace(m, weight=float(np.clip(raw[k] / middle, 0.25, 4))) for k, m in members.items()}


def _combine(desk: Desk, sky: np.ndarray) -> list[Callable[[], FrameError | None]]:
    """Begin to make the template by bands of rows, so that memory stays bounded however many frames there are; what
    is returned waits for each.
    """
    night = desk.night
    _, c, ny, nx = night.array("members").shape
    for name in ("template", "template_variance"):
        night.make_array(name, (c, ny, nx), np.float32)
    night.make_array("template_count", (ny, nx), np.uint8)
    edges = np.linspace(0, ny, min(ny, 4 * desk.pool.workers) + 1).astype(int)
    return [desk.pool.start(tasks.template_band, night, sky, (int(a), int(b))) for a, b in pairwise(edges)]


def _vmax(night: Night, noise: Noise, sky: np.ndarray) -> float:
    """Ends of the differential panel's scale: as for sigma, or the same in ADU or percent, as a round number."""
    if night.options.units in ENDS:
        return ENDS[night.options.units]
    sigma = _combined_sigma(noise)
    if night.options.units == "percent":
        sigma = 100 * sigma / max(float(np.mean(sky)), 1e-6)
    raw = VMAX * sigma
    power = 10 ** math.floor(math.log10(raw)) if raw > 0 else 1.0
    return next(power * step for step in (1, 2, 5, 10) if power * step >= raw)


def _combined_sigma(noise: Noise) -> float:
    """Noise of an empty pixel of the reference, all channels combined, ADU."""
    return 1 / math.sqrt(sum(1 / max(float(np.mean(s)), 1e-12) for s in noise.sky))

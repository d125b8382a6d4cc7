"""Keeping what moves out of the template: a comet's coma by its light, anything smaller by its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from difflapse.changes.comet import Comet, coma_light, stands_out
from difflapse.difference import Template
from difflapse.difference import subtract as take_difference
from difflapse.difference.mesh import mean
from difflapse.difference.moving import Coma, find_moving, self_subtracted
from difflapse.errors import FrameError, InputError
from difflapse.model import bits
from difflapse.mosaic import bin_image, bin_medians
from difflapse.pipeline import follow, learn, tasks
from difflapse.pipeline.context import Night
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.records import Member

_LARGE = 2_000_000
"""Product pixels of a frame up to which a comet is looked for at once; beyond, only where a glance shows something."""
_FEWEST = 4
"""Frames in a template below which nothing tells what moves."""


@dataclass(frozen=True, eq=False)
class Moving:
    """What was kept out of the template."""

    kept_out: Mapping[int, int]
    """Frame -> pixels of it that were kept out."""
    coma: Coma | None = None
    note: str = ""
    """The comet in words; empty without one."""
    share: float = 0.0
    """Of the comet's light, at mid-night, that the template would have taken off it."""


def find_coma(desk: Desk, matched: Mapping[int, Member]) -> tuple[Coma | None, str, float]:
    """Find a comet on the template's frames, and its light; None (and why) where none stands out."""
    night = desk.night
    frames = [k for k in matched if follow.is_clear(desk, k)]
    if len(frames) < _FEWEST:
        return None, "", 0.0
    jobs = [(night, matched[k]) for k in frames]
    ny, nx = night.shared("canvas").grid.shape
    if ny * nx > _LARGE:
        glances = dict(desk.pool.run(glance, jobs))
        if any(isinstance(g, FrameError) for g in glances.values()):
            return None, "", 0.0
        if not stands_out(np.stack([glances[n] for n in range(len(frames))])):
            return None, "", 0.0
    results = dict(desk.pool.run(member_picture, jobs))
    pictures = np.stack([results[n] for n in range(len(frames)) if not isinstance(results[n], FrameError)])
    if len(pictures) != len(frames):
        return None, "", 0.0
    weights = 1 / mean(matched[frames[0]].noise.sky)
    grey = np.tensordot((weights / weights.sum()).astype(np.float32), pictures, axes=(0, 1))
    clock = night.clock()
    try:
        comet, coarser = follow.find_on(grey, clock[frames])
    except InputError:
        return None, "", 0.0
    wide = np.stack([np.stack([bin_image(p, coarser) for p in planes]) for planes in pictures])
    radii, light = coma_light(wide, clock[frames], comet)
    cell = coarser * _cell(night)
    place = np.full((2, len(night.array("members"))), np.nan)
    for k, member in matched.items():
        place[:, member.slot] = np.array(comet.at(clock[k])) * cell + (cell - 1) / 2
    coma = Coma(place[0], place[1], radii * cell, light)
    moved = float(np.hypot(comet.rate_x, comet.rate_y) * np.ptp(clock))
    share = _share(comet, clock[frames], np.array([matched[k].weight for k in frames]))
    step = night.shared("canvas").grid.step
    note = (
        f"a comet {step * cell * comet.width:.0f} px wide moves by {step * cell * moved:.0f} px, "
        f"{moved / max(comet.width, 1e-9):.1f} of its widths; its light is kept out of the template, "
        f"which would have taken off {100 * share:.0f} % of it at mid-night"
    )
    return coma, note, share


def keep_out(desk: Desk, matched: Mapping[int, Member], sky: np.ndarray, correlation: np.ndarray) -> Moving:
    """Find what moves on the template's frames beside the template made of them, and make it again without."""
    night = desk.night
    weights = np.array([m.weight for m in matched.values()])
    coma, note, share = night.shared("coma") if night.has("coma") else (None, "", 0.0)
    if len(matched) < _FEWEST:
        return Moving({}, coma, note, share)
    ny, nx = night.array("template_count").shape
    base = matched[night.shared("reference").frame]
    learn.sort_scene(desk, base, sky, len(matched))
    night.make_array("moving", (len(night.array("members")), ny, nx), np.uint8)
    own = weights / weights.sum()
    jobs = [
        (night, member, sky, correlation, float(w)) for member, w in zip(matched.values(), own, strict=True)
    ]
    kept: dict[int, int] = {}
    rows = np.zeros(ny, bool)
    for n, result in desk.pool.run(find_in_member, jobs):
        if not isinstance(result, FrameError):
            found, touched = result
            rows |= touched
            if found:
                kept[list(matched)[n]] = found
    if rows.any():
        night.share("moving", True)
        edges = np.linspace(0, ny, min(ny, 4 * desk.pool.workers) + 1).astype(int)
        again = [
            (night, tuple(matched.values()), sky, (int(a), int(b)))
            for a, b in pairwise(edges)
            if rows[a:b].any()
        ]
        for _, result in desk.pool.run(tasks.template_band, again):
            if isinstance(result, FrameError):
                raise InputError(f"the template cannot be made: {result.message}", result.hint)
    return Moving(kept, coma, note, share)


def glance(night: Night, member: Member) -> np.ndarray:
    """A picture of one colour from every second pixel of every second row: enough to see a coma by."""
    science = tasks.kept_member(night, member)
    c = int(np.argmin(mean(member.noise.sky)))
    plane = science.data[c, ::2, ::2] * np.float32(mean(member.inverse_scale)[c])
    bad = (science.mask[::2, ::2] & (bits.OUTSIDE | bits.BLANK | bits.DEFECT)) != 0
    return bin_medians(np.ascontiguousarray(plane), bad, max(1, _cell(night) // 2))


def member_picture(night: Night, member: Member) -> np.ndarray:
    """A small picture of a template's frame for each colour, (c, ny, nx): the median in each cell."""
    science = tasks.kept_member(night, member)
    data = tasks.levelled(science)
    bad = (science.mask & (bits.OUTSIDE | bits.BLANK | bits.DEFECT)) != 0
    return np.stack([bin_medians(plane, bad, _cell(night)) for plane in data])


def find_in_member(
    night: Night, member: Member, sky: np.ndarray, correlation: np.ndarray, own: float
) -> tuple[int, np.ndarray]:
    """Find what moves on one frame of the template; how many pixels of it, and in which rows."""
    science = tasks.kept_member(night, member)
    if night.has("coma"):
        science = replace(science, data=tasks.without_coma(night.shared("coma")[0], member, science.data))
    arrays = [np.asarray(night.array(name)) for name in ("template", "template_variance", "template_count")]
    template = Template(arrays[0], arrays[1], arrays[2], sky, correlation)
    result = take_difference(science, template, own)
    found = find_moving(result.significance, np.asarray(night.array("sorts")), night.shared("star_width"))
    if found.any():
        night.write("moving", (member.slot, 0, 0), found.astype(np.uint8))
    return int(found.sum()), np.asarray(found.any(axis=1))


def moving_record(night: Night) -> dict[str, object]:
    """What was kept out of the template, as plain values; empty where nothing was looked for."""
    if not night.has("selfsubtraction"):
        return {}
    moving: Moving = night.shared("selfsubtraction")
    record: dict[str, object] = {"kept_out_pixels": {str(k): n for k, n in moving.kept_out.items()}}
    if moving.note:
        record |= {"comet": moving.note, "self_subtracted": round(moving.share, 3)}
    return record


def _cell(night: Night) -> int:
    return max(1, follow.CELL // night.shared("canvas").grid.step)


def _share(comet: Comet, times: np.ndarray, weights: np.ndarray) -> float:
    x, y = comet.at(times)
    middle = np.argsort(times)[len(times) // 2]
    return self_subtracted(np.hypot(x - x[middle], y - y[middle]), weights, comet.width)

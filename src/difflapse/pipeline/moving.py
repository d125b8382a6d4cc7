"""Keeping what moves out of the template: a comet's coma by its light, anything smaller by its pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from difflapse.changes.comet import Comet, coma_light, stands_out
from difflapse.difference import Template
from difflapse.difference import subtract as take_difference
from difflapse.difference.moving import Coma, coma_window, find_moving, self_subtracted
from difflapse.errors import FrameError, InputError
from difflapse.measure.mesh import apply, at_pixels, mean
from difflapse.mosaic import bin_image
from difflapse.pipeline import follow, learn, tasks
from difflapse.pipeline.context import Night
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.records import Member

_LARGE = 2_000_000
"""Product pixels of a frame up to which a comet is looked for at once; beyond, only where a glance shows something."""
_BLOCK = 32
"""Pixels along the blocks in which the template is made again."""
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
    """Find a comet on the template's frames, and its light; None (and why) where none stands out.

    What was found is shared as ``comet``, with how many cells of the pictures those it was found on are wide.
    """
    night = desk.night
    frames = [k for k in matched if follow.is_clear(desk, k)]
    if len(frames) < _FEWEST:
        return None, "", 0.0
    pictures = _pictures(night, [matched[k] for k in frames])
    weights = 1 / mean(matched[frames[0]].noise.sky)
    grey = np.tensordot((weights / weights.sum()).astype(np.float32), pictures, axes=(0, 1))
    ny, nx = night.shared("canvas").grid.shape
    if ny * nx > _LARGE and not stands_out(grey):
        return None, "", 0.0
    clock = night.clock()
    try:
        comet, coarser = follow.find_on(grey, clock[frames])
    except InputError:
        return None, "", 0.0
    night.share("comet", (comet, coarser))
    wide = np.stack([np.stack([bin_image(p, coarser) for p in planes]) for planes in pictures])
    radii, light = coma_light(wide, clock[frames], comet)
    cell = coarser * cell_size(night)
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


def keep_out_coma(desk: Desk, matched: Mapping[int, Member], sky: np.ndarray, coma: Coma) -> None:
    """Make the template again where a comet passes, without its light."""
    ny, nx = desk.night.array("template_count").shape
    touched = np.zeros((-(-ny // _BLOCK), -(-nx // _BLOCK)), bool)
    for member in matched.values():
        j0, j1, i0, i1 = coma_window(coma, member.slot, (0, ny, 0, nx))
        touched[j0 // _BLOCK : -(-j1 // _BLOCK), i0 // _BLOCK : -(-i1 // _BLOCK)] |= j1 > j0 and i1 > i0
    _make_again(desk, sky, touched)


def begin_keep_out(
    desk: Desk, matched: Mapping[int, Member], sky: np.ndarray, correlation: np.ndarray
) -> None:
    """Begin to look for what moves on the template's frames, beside the template made of them; see `keep_out`."""
    night = desk.night
    if len(matched) < _FEWEST:
        return
    base = matched[night.shared("reference").frame]
    learn.sort_scene(desk, base, sky, len(matched))
    ny, nx = night.array("template_count").shape
    night.make_array("moving", (len(night.array("members")), ny, nx), np.uint8)
    weights = np.array([m.weight for m in matched.values()])
    own = weights / weights.sum()
    for (k, member), w in zip(matched.items(), own, strict=True):
        desk.begin(f"moving {k}", find_in_member, night, member, sky, correlation, float(w))


def keep_out(desk: Desk, matched: Mapping[int, Member], sky: np.ndarray) -> Moving:
    """Make the template again without what was found to move on its frames."""
    night = desk.night
    coma, note, share = night.shared("coma") if night.has("coma") else (None, "", 0.0)
    kept: dict[int, int] = {}
    ny, nx = night.array("template_count").shape
    touched = np.zeros((-(-ny // _BLOCK), -(-nx // _BLOCK)), bool)
    for k in matched:
        result = desk.take(f"moving {k}")
        if result is not None and not isinstance(result, FrameError):
            found, blocks = result
            if found:
                touched |= blocks
                kept[k] = found
    if touched.any():
        night.share("moving", True)
        _make_again(desk, sky, touched)
    return Moving(kept, coma, note, share)


def find_in_member(
    night: Night, member: Member, sky: np.ndarray, correlation: np.ndarray, own: float
) -> tuple[int, np.ndarray]:
    """Find what moves on one frame of the template; how many pixels of it, and in which blocks."""
    science = tasks.kept_member(night, member)
    if night.has("coma"):
        data = night.own_array("members")[member.slot]
        tasks.take_off_coma(night.shared("coma")[0], member, data, (0, data.shape[1], 0, data.shape[2]))
        science = replace(science, data=np.asarray(data))
    arrays = [np.asarray(night.array(name)) for name in ("template", "template_variance", "template_count")]
    template = Template(arrays[0], arrays[1], arrays[2], sky, correlation)
    result = take_difference(science, template, own)
    found = find_moving(result.significance, np.asarray(night.array("sorts")), night.shared("star_width"))
    n = int(np.count_nonzero(found))
    if not n:
        return 0, np.zeros((0, 0), bool)
    night.write("moving", (member.slot, 0, 0), found.view(np.uint8))
    edges = [np.arange(0, size, _BLOCK) for size in found.shape]
    return n, np.logical_or.reduceat(np.logical_or.reduceat(found, edges[0], axis=0), edges[1], axis=1)


def cell_size(night: Night) -> int:
    """Product pixels along a cell of the pictures on which a comet is looked for."""
    return max(1, follow.CELL // night.shared("canvas").grid.step)


def moving_record(night: Night) -> dict[str, object]:
    """What was kept out of the template, as plain values; empty where nothing was looked for."""
    if not night.has("selfsubtraction"):
        return {}
    moving: Moving = night.shared("selfsubtraction")
    record: dict[str, object] = {"kept_out_pixels": {str(k): n for k, n in moving.kept_out.items()}}
    if moving.note:
        record |= {"comet": moving.note, "self_subtracted": round(moving.share, 3)}
    return record


def _pictures(night: Night, members: Sequence[Member]) -> np.ndarray:
    """Small pictures of the template's frames, (n, c, cy, cx), on its brightness and background: the median in each
    cell, taken before the frame was matched, for within a cell that changes hardly.
    """
    shape, cell = night.shared("canvas").grid.shape, cell_size(night)
    cells = night.array("member_cells")
    out = np.array(cells[[member.slot for member in members]])
    for picture, member in zip(out, members, strict=True):
        laid = []
        for mesh in (member.inverse_scale, member.offset):
            # The same mesh, its nodes on the outermost cells.
            at = [
                cell * np.linspace(0, n - 1, m) + (cell - 1) / 2
                for n, m in zip(picture.shape[1:], mesh.shape[1:], strict=True)
            ]
            laid.append(at_pixels(mesh, shape, *at))
        apply(picture, *laid)
    return out


def _make_again(desk: Desk, sky: np.ndarray, touched: np.ndarray) -> None:
    """Make some blocks of the template again, without what moves in them."""
    ny, nx = desk.night.array("template_count").shape
    windows = []
    for a, row in enumerate(touched):
        ends = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(np.int8)))
        windows += [
            (a * _BLOCK, min(ny, (a + 1) * _BLOCK), int(b) * _BLOCK, min(nx, int(e) * _BLOCK))
            for b, e in ends.reshape(-1, 2)
        ]
    shares = [windows[n :: 2 * desk.pool.workers] for n in range(2 * desk.pool.workers)]
    jobs = [(desk.night, sky, share) for share in shares if share]
    for _, result in desk.pool.run(tasks.template_windows, jobs):
        if isinstance(result, FrameError):
            raise InputError(f"the template cannot be made: {result.message}", result.hint)


def _share(comet: Comet, times: np.ndarray, weights: np.ndarray) -> float:
    x, y = comet.at(times)
    middle = np.argsort(times)[len(times) // 2]
    return self_subtracted(np.hypot(x - x[middle], y - y[middle]), weights, comet.width)

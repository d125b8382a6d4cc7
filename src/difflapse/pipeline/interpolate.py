"""The last step of `--align auto`: frames that nothing aligns are laid between their neighbours in time."""

from __future__ import annotations

import functools
from dataclasses import replace

from difflapse.align.between import confirm, interpolate
from difflapse.align.view import View
from difflapse.errors import AlignError, FrameError
from difflapse.model import Alignment, Stars, Transform
from difflapse.pipeline.context import Night
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.records import Reference
from difflapse.pipeline.tasks import brightness, check_overlap, reduced_picture, reference_view


def interpolate_frames(desk: Desk) -> None:
    """Take back the frames that all methods of `auto` refused, if their neighbours tell where they lie."""
    night = desk.night
    if night.options.align != "auto":
        return
    aligned = desk.alive()
    # Refused by the whole chain; a frame that cannot be read, or shares too little sky, stays out.
    refused = {k: e for k, e in desk.errors.items() if isinstance(e, AlignError) and "refused" in e.facts}
    jobs = {}
    for k, error in sorted(refused.items()):
        try:
            jobs[k] = _guess(desk, k, aligned)
        except AlignError as further:
            desk.failed[k] = f"{error.message}; interpolated: {further.message}"
    order = list(jobs)
    for n, result in desk.pool.run(
        _confirm, [(night, k, desk.value("stars", k), *jobs[k][:2]) for k in order], ordered=True
    ):
        k = order[n]
        if isinstance(result, FrameError):
            desk.failed[k] = f"{refused[k].message}; interpolated: {result.message}"
            continue
        tried = refused[k].facts["refused"]
        note = f"{jobs[k][2]}, uncertain by {jobs[k][1]:.2f} px; {result.note}"
        alignment = replace(result, refused=tuple(tried) if isinstance(tried, tuple) else (), note=note)
        desk.values["alignment"][k] = alignment
        desk.values["scale"][k] = brightness(
            night, desk.value("stars", k), desk.value("quality", k), alignment
        )
        del desk.failed[k]
        desk.progress.note(f"{night.frames[k].file} is shown, not subtracted: {note}")


def _guess(desk: Desk, k: int, aligned: list[int]) -> tuple[Transform, float, str]:
    """The transform between frame k's neighbours, its uncertainty, and what to say of it."""
    frames = desk.night.frames
    known = desk.night.times()
    cadence = (desk.night.cadence_s() or 0.0) / 86400
    if len(known) < len(frames) or cadence <= 0:
        raise AlignError(
            "the times of the frames are not known", "", {"found": len(known), "needed": len(frames)}
        )
    now = known[k]
    before = [((known[j] - now) / cadence, desk.value("alignment", j).transform) for j in aligned if j < k]
    after = [((known[j] - now) / cadence, desk.value("alignment", j).transform) for j in aligned if j > k]
    transform, uncertainty = interpolate(before, after, frames[k].shape)
    a, b = max(j for j in aligned if j < k), min(j for j in aligned if j > k)
    gap = (known[b] - known[a]) * 1440
    return transform, uncertainty, f"between {frames[a].file} and {frames[b].file}, {gap:.1f} min apart"


def _confirm(night: Night, k: int, stars: Stars, guess: Transform, uncertainty: float) -> Alignment:
    """Check a guess on what the frame shows; run in a worker, for it may read the frame."""
    reference: Reference = night.shared("reference")
    frame = View(night.frames[k], stars, functools.cache(lambda: reduced_picture(night, k)))
    check_overlap(guess, night.frames[k].shape, reference.facts.shape)
    return confirm(frame, reference_view(night, reference), guess, uncertainty)

"""What a run would do, and what it would need, foreseen from headers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difflapse.io.discover import discover
from difflapse.model import LeftOut
from difflapse.model import Sequence as FrameSequence
from difflapse.mosaic import channels
from difflapse.movie.encode import check_codec
from difflapse.pipeline import folder, stamps
from difflapse.pipeline.config import RunOptions
from difflapse.pipeline.crop import typical_frame
from difflapse.pipeline.crossmatch import check_crossmatch
from difflapse.pipeline.defects import DEFECT_FRAMES
from difflapse.pipeline.drawing import check_panels
from difflapse.pipeline.external import foreseen_grid
from difflapse.pipeline.follow import check_follow
from difflapse.pipeline.foreign import check_template
from difflapse.pipeline.memory import choose_workers, foresee
from difflapse.pipeline.night_stages import check_reference, mode_for, template_size
from difflapse.pipeline.pictures import movie_layout
from difflapse.pipeline.solving import check_solver
from difflapse.pipeline.starlight import MOST_STARS, MOST_SUMS

_MOVIE_BYTES_PER_PIXEL = 0.07
"""Of H.264 at the default quality on noisy frames; measured, and no promise."""
_PICTURE_BYTES = 0.5
"""Of a picture as PNG, for each pixel and colour; likewise."""
_REEL_BYTES = 7_000_000
"""Of the clips and the highlights; likewise."""
_SUM_BYTES = 46
"""Of a row of the light curves."""
_STAR_BYTES = 500
"""Of a star in the tables and on the page, its curve there included."""


@dataclass(frozen=True)
class SequencePlan:
    """What would be done with one sequence."""

    name: str
    frames: int
    shape: tuple[int, int]
    mosaic: str
    align: str
    diff: str
    template_frames: int
    steps: tuple[str, ...]
    memory_bytes: int
    scratch_bytes: int
    output_bytes: int


@dataclass(frozen=True)
class Plan:
    """What a run would do; nothing has been done."""

    out: str
    workers: int
    sequences: tuple[SequencePlan, ...]
    left_out: tuple[LeftOut, ...]

    def to_mapping(self) -> dict[str, Any]:
        """The plan as plain values, ready for JSON."""
        return {
            "out": self.out,
            "workers": self.workers,
            "memory_bytes": max((s.memory_bytes for s in self.sequences), default=0),
            "scratch_bytes": max((s.scratch_bytes for s in self.sequences), default=0),
            "output_bytes": sum(s.output_bytes for s in self.sequences),
            "sequences": [
                {
                    "name": s.name,
                    "frames": s.frames,
                    "shape": list(s.shape),
                    "mosaic": s.mosaic,
                    "align": s.align,
                    "diff": s.diff,
                    "template_frames": s.template_frames,
                    "steps": list(s.steps),
                }
                for s in self.sequences
            ],
            "left_out": [{"file": item.file, "reason": item.reason} for item in self.left_out],
        }


def plan(inputs: str | Path | Sequence[str | Path], out: str | Path | None, options: RunOptions) -> Plan:
    """Foresee a run: what would be done with which frames, with how much memory and disk. Reads headers only.

    Parameters
    ----------
    inputs : str, Path or sequence of them
        As for `run`.
    out : str, Path or None
        As for `run`; nothing is written.
    options : RunOptions
        All options of the run.

    Returns
    -------
    Plan

    Raises
    ------
    InputError, OptionError, OutputError
        What the run itself would raise before it reads pixels.
    """
    many = [str(inputs)] if isinstance(inputs, str | Path) else [str(item) for item in inputs]
    target = Path(out) if out is not None else folder.default_out(many)
    folder.check_free(target, options.overwrite)
    check_solver(options)
    check_codec(options.codec)
    check_crossmatch(options)
    inventory = discover(many, mosaic=options.mosaic, split=options.split)
    check_reference(inventory, options)
    check_follow(inventory, options)
    check_template(inventory, options)
    check_panels(inventory, options)
    workers = choose_workers(inventory, options)
    return Plan(
        str(target),
        workers,
        tuple(_plan_sequence(sequence, options, workers) for sequence in inventory.sequences),
        inventory.left_out,
    )


def _plan_sequence(sequence: FrameSequence, options: RunOptions, workers: int) -> SequencePlan:
    n = len(sequence.frames)
    facts = typical_frame(sequence.frames, options)
    diff = mode_for(options, n)
    members = template_size(n, options) if diff == "template" and not options.template else 0
    grid = foreseen_grid(sequence.frames, options)
    layout = movie_layout(grid, options)
    n_channels = len(channels(facts.mosaic))
    need = foresee(sequence, options, workers)
    image = 4 * n_channels * grid.shape[0] * grid.shape[1]
    saved = len(set(options.save) & {"aligned", "differences"}) * n * (2 * image + image // 4)
    if "stamps" in options.save:
        saved += stamps.MOST_BYTES
    if "cube" in options.save:
        saved += n * (image + (0 if diff == "none" else 4 * grid.shape[0] * grid.shape[1]))
    movie = int(layout.width * layout.height * n * _MOVIE_BYTES_PER_PIXEL)
    ny, nx = grid.shape
    template = (
        2 * image + image // 4 + int(_PICTURE_BYTES * n_channels * ny * nx) if diff == "template" else 0
    )
    # The map of the model error and its mask; the night's trails.
    judged = 5 * ny * nx if options.changes and diff != "none" else 0
    judged += int(_PICTURE_BYTES * 3 * layout.width * layout.height / len(layout.names))
    stars = min(MOST_STARS, MOST_SUMS // n, ny * nx // 100)
    tables = stars * (n * n_channels * _SUM_BYTES + _STAR_BYTES) * options.changes
    reel = _REEL_BYTES if options.changes and options.reel and diff != "none" else 0
    steps = (
        f"find hot and dead pixels of the sensor from {min(n, DEFECT_FRAMES)} frames",
        f"measure stars, sky and noise of {n} frames",
        f"align by {options.align}, transform {options.transform}, reference {options.reference}",
        *([f"find the field on the sky with {check_solver(options)}"] if options.solve else []),
        *([f"follow {'; '.join(options.follow)}"] if options.follow else []),
        f"template of {members} frames"
        if members
        else f"template {options.template}, aligned as the frames are"
        if options.template
        else f"{diff} difference, no template",
        f"movie of {layout.width}x{layout.height} pixels at {options.fps:g} frames/s, "
        f"panels {', '.join(layout.names)} of {nx}x{ny} product pixels",
        *(
            []
            if options.changes
            else ["nothing that changed is looked for, no star is followed, no clip is made"]
        ),
        *([f"save {', '.join(options.save)}"] if options.save else []),
    )
    return SequencePlan(
        sequence.name,
        n,
        facts.shape,
        facts.mosaic,
        options.align,
        diff,
        members,
        steps,
        need.memory_bytes,
        need.scratch_bytes,
        movie + template + judged + tables + reel + saved,
    )

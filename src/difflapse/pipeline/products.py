"""What is written once all frames have been subtracted: the images begun beside them, and the transforms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from difflapse.errors import FrameError, OutputError
from difflapse.io.products import write_json
from difflapse.pipeline import tables
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.drawing import save_still
from difflapse.pipeline.records import Canvas, Reference
from difflapse.pipeline.save import save_template
from difflapse.pipeline.sky import place_of


def begin_stills(desk: Desk) -> None:
    """Begin to write the template's image and its picture, beside the second pass."""
    if desk.night.shared("scene").mode == "template":
        for task in (save_template, save_still):
            desk.begin_file("", task, desk.night)


def wait_for_files(desk: Desk) -> None:
    """Wait for what is written beside other work, and list it; raises OutputError where it could not be."""
    begun, desk.begun = desk.begun, []
    for optional, wait_for in begun:
        result = wait_for()
        if not isinstance(result, FrameError):
            desk.products += [result] if isinstance(result, str) else result
        elif optional:
            desk.progress.note(f"{optional}: left out, {result.message}")
        else:
            raise OutputError(f"a product cannot be written: {result.message}", result.hint)


def write_products(desk: Desk) -> None:
    """Wait for what is written beside the second pass, list the frames' own images, and write `transforms.json`."""
    night = desk.night
    wait_for_files(desk)
    for k in desk.alive():
        desk.products += desk.value("saved", k)
    reference: Reference = night.shared("reference")
    canvas: Canvas = night.shared("canvas")
    record = tables.transforms_record(
        replace(reference.facts, wcs_header=place_of(night).wcs_header),
        None if reference.external else reference.frame,
        [(k, night.frames[k], desk.value("alignment", k)) for k in desk.alive()],
        canvas.grid,
        canvas.track,
    )
    write_json(Path(night.out) / "transforms.json", record)
    desk.products.append("transforms.json")

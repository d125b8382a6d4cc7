"""Learning from the night how far residuals exceed photon noise: the model error, and the map of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from difflapse.difference.model_error import Scatter, learn, measure_scatter, sort_pixels
from difflapse.model import bits
from difflapse.pipeline import save, tasks
from difflapse.pipeline.context import Night
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.records import Canvas, Member, Reference, Scene, Subtracted


def prepare_sorts(desk: Desk) -> None:
    """Sort the pixels of the scene by what they are like, for the residuals to be measured by."""
    night = desk.night
    scene: Scene = night.shared("scene")
    if scene.mode == "none":
        return
    if night.has("star_width"):
        return
    reference: Reference = night.shared("reference")
    base: Member = night.shared("members")[reference.frame]
    sort_scene(desk, base, scene.sky, len(scene.template_frames) if scene.mode == "template" else 0)


def sort_scene(desk: Desk, base: Member, sky: np.ndarray, frames: int) -> None:
    """Sort the pixels of the template of so many frames, or of the reference alone (0)."""
    night = desk.night
    if frames:
        data, bad = np.asarray(night.array("template")), np.asarray(night.array("template_count")) == 0
    else:
        image = tasks.kept_member(night, base)
        data, bad = image.data, (image.mask & ~np.uint8(bits.SATURATED)) != 0
    width = _width(desk)
    sorts = sort_pixels(data, sky, base.noise, bad, max(1, frames), width)
    night.make_array("sorts", sorts.shape, np.uint16)
    night.write("sorts", (0, 0), sorts)
    night.share("star_width", width)


def residuals(night: Night, k: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """How one frame's residuals scatter in each sort of pixel; None without a difference."""
    difference: Subtracted = values["difference"]
    if difference.result is None:
        return {"scatter": None}
    sorts = np.asarray(night.array("sorts"))
    return {"scatter": measure_scatter(difference.result.significance, sorts, night.shared("star_width"))}


def learn_model_error(desk: Desk) -> None:
    """Put the frames' scatter together, and write `model_error.fits`."""
    night = desk.night
    given: dict[int, Scatter | None] = desk.values.get("scatter", {})
    measured = {k: s for k, s in sorted(given.items()) if s is not None and k not in desk.failed}
    if not measured:
        return
    canvas: Canvas = night.shared("canvas")
    sorts = np.array(night.array("sorts"))
    learned = learn(list(measured), list(measured.values()), sorts, canvas.grid)
    desk.products.append(save.save_model_error(night, learned))


def _width(desk: Desk) -> float:
    """FWHM of stars in the night's typical frame, product pixels."""
    step = desk.night.shared("canvas").grid.step
    widths = np.array([desk.value("quality", k).fwhm_pix for k in desk.alive()], float)
    return float(np.nanmedian(widths)) / step if np.isfinite(widths).any() else 2.0

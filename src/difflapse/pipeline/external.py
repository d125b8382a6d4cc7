"""A reference from outside the night: which file, what it shows, and the frame that stands for it in brightness."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from difflapse.errors import FrameError, InputError, MeasureError
from difflapse.io.external import External, read_external, read_external_pixels
from difflapse.measure import Defects, find_stars
from difflapse.model import FrameFacts, ProductGrid, Quality, Stars
from difflapse.pipeline.config import RunOptions
from difflapse.pipeline.context import Night
from difflapse.pipeline.crop import product_grid, typical_frame, without_crop
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.records import Reference, SkyPlace
from difflapse.pipeline.sensor import alone
from difflapse.pipeline.sky import solve_alone
from difflapse.pipeline.tasks import listed, locate, reduce

_TRIED = 8
"""Frames that are tried against the reference before it is refused."""


def external_of(frames: Sequence[FrameFacts], options: RunOptions) -> External | None:
    """The reference that `--reference` names outside the frames; None where it is one of them, or chosen.

    Raises
    ------
    InputError
        The file cannot be read, or is no image of the sky.
    """
    wanted = options.reference
    if wanted in ("best", "first", "middle") or wanted.isdecimal() or frame_named(frames, wanted) is not None:
        return None
    path = Path(wanted).expanduser()
    if not path.is_file():
        return None
    # The mosaic that was asked for is that of the night's camera.
    external = read_external(str(path))
    same = external.grid is None and external.facts.shape == frames[0].shape
    return read_external(str(path), options.mosaic) if same else external


def frame_named(frames: Sequence[FrameFacts], wanted: str) -> int | None:
    """Number of the frame whose file is meant; None if it is not among them."""
    name = wanted.replace("\\", "/")
    path = Path(wanted).expanduser()
    there = path.resolve() if "/" in name and path.is_file() else None
    for k, facts in enumerate(frames):
        if name in (facts.file, facts.path) or (there is not None and Path(facts.path).resolve() == there):
            return k
    if there is not None:
        return None  # a file of the same name elsewhere is another frame
    last = name.rsplit("/", 1)[-1]
    return next((k for k, facts in enumerate(frames) if facts.file.rsplit("/", 1)[-1] == last), None)


def foreseen_grid(frames: Sequence[FrameFacts], options: RunOptions) -> ProductGrid:
    """The product grid of a run, foreseen from headers."""
    facts = typical_frame(frames, options)
    external = external_of(frames, options)
    if options.center and options.solve and not (external.facts if external else facts).wcs_header:
        # Where the crop lies is known once the field is solved; the whole frame is the most it can be.
        options = replace(options, center="", size="")
    if external is None:
        return product_grid(facts, options)
    return product_grid(external.facts, options, bool(facts.mosaic), external.grid)


def lay_on_external(desk: Desk, external: External, ranked: Iterable[int]) -> Reference:
    """Look at the reference, and find the best frame that lies on it.

    Parameters
    ----------
    desk : Desk
        Its frames' stars and quality are known.
    external : External
        The reference.
    ranked : iterable of int
        Frames, best first.

    Returns
    -------
    Reference
        Its `frame` is the first of `ranked` that could be aligned.

    Raises
    ------
    InputError
        None of the first frames shares the reference's sky, or nothing can be measured on it.
    """
    night = desk.night
    result = next(iter(desk.pool.run(_look, [(night, external)])))[1]
    if isinstance(result, FrameError):
        raise InputError(f"the reference {external.path} cannot be used: {result.message}", result.hint)
    stars: Stars = result
    mosaic = bool(night.frames[0].mosaic)
    facts, place = external.facts, SkyPlace()
    if night.options.center and night.options.solve and not facts.wcs_header:
        place = (solve_alone(desk, [(facts, stars, 0)]) or (0, place))[1]
        facts = replace(facts, wcs_header=place.wcs_header)
    grid = product_grid(facts, without_crop(night.options), mosaic, external.grid)
    reasons: list[str] = []
    for k in list(ranked)[:_TRIED]:
        quality: Quality = desk.value("quality", k)
        own: Stars = desk.value("stars", k)
        defects = night.shared("defects")
        reference = Reference(
            k, external.facts, stars, grid, quality.background_adu, defects, own, external, place=place
        )
        found = next(iter(desk.pool.run(locate, [(night, k, own, reference)])))[1]
        if isinstance(found, FrameError):
            reasons.append(f"{night.frames[k].file}: {found.message}")
            continue
        x, y = found.transform(own.x, own.y)
        ny, nx = night.frames[k].shape
        pixel = grid.step / found.transform.local_scale(0.5 * nx, 0.5 * ny) / (2 if mosaic else 1)
        light = replace(own, x=x, y=y).take(np.isfinite(x) & np.isfinite(y))
        return replace(reference, light=light, light_area=pixel**2)
    raise InputError(
        f"none of the {len(reasons)} best frames lies on the reference {external.path}; the best: {reasons[0]}",
        "does it show the same sky? --align asterism bears scales of 0.4 to 2.5",
        {"found": 0, "needed": 1, "tried": len(reasons)},
    )


def _look(night: Night, external: External) -> Stars:
    """The reference's stars, native px; its small picture is shared with all workers."""
    frame = alone(read_external_pixels(external))
    pixels = listed(frame, Defects.none())
    stars, quality = find_stars(replace(frame, data=pixels.data, mask=pixels.mask))
    if not all(np.isfinite(quality.noise_adu)):
        raise MeasureError("all of its pixels are blank", "", {"found": 0, "needed": 1})
    night.share("picture", reduce(pixels, frame.facts, external.step))
    if external.step == 1:
        return stars
    half = (external.step - 1) / 2
    x, y = stars.x * external.step + half, stars.y * external.step + half
    return replace(stars, x=x, y=y, fwhm=stars.fwhm * external.step)

"""``--save cube``: the whole night in one FITS file, aligned frames and differences as planes along time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Table

from difflapse.difference import Difference, Science
from difflapse.io.cube import create_cube, plane_offsets, write_plane
from difflapse.io.products import Card
from difflapse.model import bits
from difflapse.model.times import iso_utc
from difflapse.mosaic import channels
from difflapse.pipeline.context import Night
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.records import Canvas, Reference, Scene
from difflapse.pipeline.save import grid_cards, product_wcs

NAME = "cube.fits"
_UNITS = {"sigma": "", "adu": "adu", "percent": "%", "mag": "mag"}


def lay_out(desk: Desk) -> None:
    """Lay out `cube.fits` for the frames that are alive; those that fail later stay NaN."""
    night = desk.night
    scene: Scene = night.shared("scene")
    reference: Reference = night.shared("reference")
    canvas: Canvas = night.shared("canvas")
    grid = canvas.grid
    colours = channels(night.frames[reference.frame].mosaic)
    planes = len(colours) if len(colours) > 1 else 0
    frames = desk.alive()
    facts = [night.frames[k] for k in frames]
    table = Table(
        {
            "frame": np.array(frames, np.int32),
            "file": [f.file for f in facts],
            "time_utc": ["" if f.mid_mjd is None else iso_utc(f.mid_mjd) for f in facts],
            "mjd": [np.nan if f.mid_mjd is None else f.mid_mjd for f in facts],
            "shift_x_pix": [canvas.shift(k)[0] for k in frames],
            "shift_y_pix": [canvas.shift(k)[1] for k in frames],
        }
    )
    shape = (len(frames), *((planes,) if planes else ()), *grid.shape)
    aligned: list[Card] = [("BUNIT", "adu", "each frame's own brightness, bias taken off")]
    if planes:
        aligned.append(("PLANES", ",".join(colours), "colours of the third axis"))
    images = {"ALIGNED": (shape, product_wcs(night, grid, planes), aligned)}
    if scene.mode != "none":
        difference: list[Card] = [
            ("BUNIT", _UNITS[night.options.units], "all colours in one; none: sigma"),
            ("DIFFMODE", scene.mode, "what was subtracted"),
        ]
        images["DIFFERENCE"] = ((len(frames), *grid.shape), product_wcs(night, grid, 0), difference)
    path = Path(night.out) / NAME
    create_cube(path, images, grid_cards(night, grid), table)
    night.share("cube", ({k: n for n, k in enumerate(frames)}, plane_offsets(path)))
    desk.products.append(NAME)


def fill(night: Night, k: int, science: Science, difference: Difference | None) -> None:
    """Write frame `k` into the cube; masked pixels are NaN, saturated ones are kept."""
    place, offsets = night.shared("cube")
    path = Path(night.out) / NAME
    hidden = (science.mask & (bits.OUTSIDE | bits.BLANK | bits.DEFECT)) != 0
    data = np.where(hidden, np.float32(np.nan), science.data)
    write_plane(path, offsets["ALIGNED"], place[k], data if len(offsets["ALIGNED"][1]) == 4 else data[0])
    if difference is not None and "DIFFERENCE" in offsets:
        # Science less template, in magnitudes too: there what brightens is negative.
        sign = np.float32(-1 if difference.units == "mag" else 1)
        shown = np.where(difference.mask != 0, np.float32(np.nan), sign * difference.combined)
        write_plane(path, offsets["DIFFERENCE"], place[k], shown)

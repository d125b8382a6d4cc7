"""Postage stamps: whole superpixels about a star, as the camera gave them, for photometry of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

from difflapse.io.fits import compact
from difflapse.io.products import CREATOR, atomic
from difflapse.model.catalogue import Catalogue
from difflapse.pipeline.context import Night

MOST_BYTES = 128_000_000
"""Of all stamps of a night: the brightest stars that fit."""
MOST_STARS = 1000


def stamp_side(radius: float) -> int:
    """Native pixels along a stamp's side: even, and wide enough for the circle wherever the star lies in it."""
    return 2 * int(np.ceil(radius + 2))


def lay_out(night: Night, catalogue: Catalogue) -> None:
    """Make room for the stamps of all frames."""
    side = stamp_side(catalogue.radius)
    kind = compact(np.empty(0, np.dtype(night.frames[0].dtype).newbyteorder("="))).dtype
    most = MOST_BYTES // max(1, len(night.frames) * side * side * kind.itemsize)
    night.make_array(
        "stamps", (len(night.frames), min(MOST_STARS, most, len(catalogue)), side, side), kind.type
    )
    night.make_array("corners", (len(night.frames), min(MOST_STARS, most, len(catalogue)), 2), np.int32)


def cut(night: Night, k: int, data: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Cut a frame's stamps; their first pixel is always that of the mosaic's cell. Stars too near an edge get none."""
    _, n, side, _ = night.array("stamps").shape
    if n == 0:
        return
    x, y = np.nan_to_num(x[:n], nan=-1e6), np.nan_to_num(y[:n], nan=-1e6)
    i = 2 * np.round((x - 0.5 * (side - 1)) / 2).astype(int)
    j = 2 * np.round((y - 0.5 * (side - 1)) / 2).astype(int)
    inside = (i >= 0) & (j >= 0) & (i + side <= data.shape[1]) & (j + side <= data.shape[0])
    out = np.zeros((n, side, side), night.array("stamps").dtype)
    step = np.arange(side)
    out[inside] = data[j[inside, None, None] + step[:, None], i[inside, None, None] + step]
    night.write("stamps", (k, 0, 0, 0), out)
    night.write("corners", (k, 0, 0), np.where(inside[:, None], np.column_stack([i, j]), -1))


def write_stamps(night: Night, frames: list[int]) -> list[str]:
    """Write `stamps/stamps.fits`: a row per star and frame. Returns its name below OUT."""
    catalogue: Catalogue = night.shared("catalogue")
    stamps, corners = night.array("stamps"), night.array("corners")
    _, n, side, _ = stamps.shape
    kind = stamps.dtype
    # FITS holds unsigned numbers as signed ones with an offset.
    zero = 1 << (8 * kind.itemsize - 1) if kind.kind == "u" and kind.itemsize > 1 else 0
    rows = np.zeros((n, len(frames)), dtype=[
        ("star", ">i4"), ("frame", ">i4"), ("time_mjd", ">f8"), ("x_corner", ">i4"), ("y_corner", ">i4"),
        ("x_frame_pix", ">f4"), ("y_frame_pix", ">f4"), ("stamp", kind, (side, side)),
    ])  # fmt: skip
    light = night.array("light")
    rows["star"] = np.arange(n)[:, None]
    rows["frame"] = frames
    rows["time_mjd"] = [night.frames[k].mid_mjd or np.nan for k in frames]
    for m, k in enumerate(frames):
        rows["x_corner"][:, m], rows["y_corner"][:, m] = corners[k].T
        rows["x_frame_pix"][:, m], rows["y_frame_pix"][:, m] = light[k, -3, :n], light[k, -2, :n]
        rows["stamp"][:, m] = stamps[k]
    cut_out = rows[rows["x_corner"] >= 0]
    columns = [
        fits.Column(
            name,
            _form(cut_out[name], side),
            array=cut_out[name],
            dim=f"({side},{side})" if name == "stamp" else None,
            bzero=zero if name == "stamp" and zero else None,
            unit={"time_mjd": "d", "stamp": "adu"}.get(name),
        )
        for name in cut_out.dtype.names or ()
    ]
    hdu = fits.BinTableHDU.from_columns(columns, name="STAMPS")
    for keyword, value, comment in [
        ("TIMESYS", "UTC", "of time_mjd, mid-exposure, MJD"),
        ("PATTERN", night.frames[frames[0]].mosaic or "mono", "colours of a stamp's first 2x2, row by row"),
        ("NSTARS", n, "brightest stars of stars.ecsv"),
        ("NSTARALL", len(catalogue), "stars measured"),
        ("LIMITMB", MOST_BYTES / 1e6, f"size at most; {MOST_STARS} stars at most"),
        ("CREATOR", CREATOR, "program that wrote this file"),
    ]:
        hdu.header[keyword] = (value, comment)
    hdu.header["COMMENT"] = "stamps are as read: bad pixels filled, not resampled, bias not taken off"
    folder = Path(night.out) / "stamps"
    folder.mkdir(exist_ok=True)
    with atomic(folder / "stamps.fits") as path:
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True, checksum=True)
    return ["stamps/stamps.fits"]


def _form(values: np.ndarray, side: int) -> str:
    code = {"i2": "I", "u2": "I", "i4": "J", "f4": "E", "f8": "D", "u1": "B"}[values.dtype.str[1:]]
    return f"{side * side}{code}" if values.ndim == 3 else code

"""A frame and the reference side by side: their matched stars, and pictures of both from wherever there are any."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from difflapse.errors import InputError, ReadError
from difflapse.io.external import read_external, read_external_pixels
from difflapse.io.fits import read_facts, read_frame
from difflapse.io.products import product_names, sha256
from difflapse.io.source import is_url
from difflapse.model import Frame, bits
from difflapse.mosaic import bin_image, superpixels
from difflapse.pipeline.results import Night, RunFrame
from difflapse.pipeline.written import read_json, read_record

if TYPE_CHECKING:
    from difflapse.pipeline.certificate import Certificate

_PICTURE_PIXELS = 1_000_000


@dataclass(frozen=True, eq=False)
class Picture:
    """A small picture, and where it lies."""

    data: np.ndarray
    """(ny, nx) float32, NaN where there is nothing."""
    box: tuple[float, float, float, float]
    """Left, right, bottom and top edges in native pixels, 0-based centres."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Two frames and the stars they share."""

    frame: RunFrame
    reference: RunFrame
    row: Any
    """The frame's row of `frames.ecsv`."""
    xy: np.ndarray
    """(n, 2) stars on the left picture, native pixels."""
    reference_xy: np.ndarray
    """(n, 2) the same stars as measured on the reference."""
    snr: np.ndarray
    boxes: tuple[tuple[float, float, float, float], tuple[float, float, float, float]]
    """Areas of the left and the right panel: left, right, bottom, top, native pixels."""
    pictures: tuple[Picture, Picture] | None
    note: str
    """What is shown where the inputs are not, and why; empty where they are."""


def make_pair(certificate: Certificate, k: int, inputs: str | Path | None) -> Pair:
    """Gather what `Certificate.draw_pair` draws; see there."""
    night = certificate.night
    if not 0 <= k < len(night.frames):
        raise InputError(f"there is no frame {k}: the night has frames 0 to {len(night.frames) - 1}")
    frame, reference = night.frames[k], night.reference
    residuals = night.residuals
    rows = residuals[residuals["frame"] == k]
    if not len(rows):
        why = (
            "is the reference"
            if k == reference.number
            else f"was skipped: {frame.reason}"
            if not frame.used
            else "was not aligned on stars"
        )
        raise InputError(f"frame {k} ({frame.file}) {why}", f"another, such as {certificate.farthest()}")
    carried = np.column_stack([rows["x_pix"], rows["y_pix"]]).astype(float)
    measured = carried - np.column_stack([rows["dx_pix"], rows["dy_pix"]])
    xy = np.column_stack(frame.from_reference(*carried.T))
    note = ""
    pictures: tuple[Picture, Picture] | None = None
    try:
        left = _from_input(night, frame, inputs)
        right = _from_outside(night) if reference.number < 0 else _from_input(night, reference, inputs)
        pictures = left, right
    except (InputError, ReadError) as error:
        if inputs is not None:
            raise InputError(
                error.message, "--inputs with the folder that holds the run's input files"
            ) from None
        note = error.message
        aligned = [_from_aligned(night, f) for f in (frame, reference)]
        if aligned[0] is not None and aligned[1] is not None:
            pictures, xy = (aligned[0], aligned[1]), carried
        note = f"{'aligned frames are' if pictures else 'no pictures but stars are'} shown: {note}"
    shape = next(f["shape"] for f in read_json(night.folder / "transforms.json")["frames"] if f["frame"] == k)
    boxes = (pictures[0].box, pictures[1].box) if pictures else (_box(shape), _box(certificate.shape))
    row = certificate.frames[[int(n) == k for n in certificate.frames["frame"]]][0]
    return Pair(frame, reference, row, xy, measured, np.asarray(rows["snr"], float), boxes, pictures, note)


def _from_input(night: Night, frame: RunFrame, inputs: str | Path | None) -> Picture:
    """The picture of an input file; an InputError where it is not there any more or not the same."""
    record = read_record(night.folder)
    provenance = record.get("provenance", {})
    root = provenance.get("root") if inputs is None else str(inputs)
    if root is None or is_url(root):
        raise InputError(
            "the run's inputs were not on this machine" if root else "the run's inputs are not known"
        )
    folder = night.folder.resolve() / root if inputs is None else Path(root)
    path = folder / frame.file
    if not path.is_file() and inputs is not None:
        path = folder / Path(frame.file).name
    if not path.is_file():
        raise InputError(f"{frame.file} is not in {root}")
    if provenance.get("inputs", {}).get(frame.file, "") not in ("", sha256(path)):
        raise InputError(f"{frame.file} in {root} is not the file that the run read: its checksum differs")
    facts = read_facts(path)
    mosaic = record.get("mosaic", "auto")
    if mosaic != "auto":
        facts = dataclasses.replace(facts, mosaic="" if mosaic == "none" else mosaic)
    return _seen(read_frame(facts), 1)


def _from_outside(night: Night) -> Picture:
    """The picture of a reference that is no frame of the night; an InputError where it is not there any more."""
    record = read_record(night.folder)
    path = Path(str(record.get("reference", ""))).expanduser()
    if not path.is_file() or sha256(path) != record.get("provenance", {}).get("reference"):
        raise InputError(f"the reference {path} is not there as the run read it")
    external = read_external(str(path), record.get("mosaic", "auto"))
    return _seen(read_external_pixels(external), external.step)


def _seen(frame: Frame, step: int) -> Picture:
    """A grey picture of a frame whose pixels are `step` native ones wide."""
    data = frame.data.astype(np.float32)
    if frame.mask is not None:
        data[frame.mask] = np.nan
    mosaic = frame.facts.mosaic
    return _small(superpixels(data, mosaic), 2 * step if mosaic else step, (0, 0))


def _from_aligned(night: Night, frame: RunFrame) -> Picture | None:
    """The picture of a saved aligned frame, on the reference's grid; None without."""
    from astropy.nddata import CCDData

    if frame.number < 0:
        return None
    path = night.folder / "aligned" / product_names([f.file for f in night.frames])[frame.number]
    if not path.is_file():
        return None
    image = CCDData.read(path)
    empty = np.asarray(image.mask) & (bits.OUTSIDE | bits.BLANK) != 0  # saturated stars are shown
    data = np.where(empty, np.float32(np.nan), image.data)
    grid = read_json(night.folder / "transforms.json")["products"]
    plane = data if data.ndim == 2 else data[len(data) // 2]  # green is the sharpest
    return _small(plane.astype(np.float32), grid["step"], tuple(grid["origin"]))


def _small(data: np.ndarray, step: int, origin: tuple[int, int]) -> Picture:
    """Bin an image to about a million pixels."""
    factor = max(1, int(np.ceil(np.sqrt(data.size / _PICTURE_PIXELS))))
    small = np.asarray(bin_image(np.ascontiguousarray(data), factor), np.float32)
    ny, nx = small.shape
    x0, y0, size = origin[0] - 0.5, origin[1] - 0.5, step * factor
    return Picture(small, (x0, x0 + nx * size, y0, y0 + ny * size))


def _box(shape: tuple[int, int]) -> tuple[float, float, float, float]:
    return -0.5, shape[1] - 0.5, -0.5, shape[0] - 0.5

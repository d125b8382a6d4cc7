"""A reference from outside the night: another camera's frame, a survey image, or a product of an earlier run."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.io import fits

from difflapse.errors import InputError, ReadError
from difflapse.io.celestial import native_wcs_header
from difflapse.io.dialects import PATTERNS
from difflapse.io.fits import read_facts, read_frame
from difflapse.model import Frame, FrameFacts, ProductGrid


@dataclass(frozen=True)
class External:
    """What a reference that is no frame of the night says about itself."""

    facts: FrameFacts
    """Its native pixels, WCS and time. Those of a product are its REFFILE's, and so is its `file`."""
    path: str
    """The file that was named."""
    grid: ProductGrid | None = None
    """Of a product: where its pixels lie on the native ones; None for a frame."""

    @property
    def step(self) -> int:
        """Native pixels per pixel of what `read_external_pixels` returns."""
        return self.grid.step if self.grid else 1


@functools.lru_cache(maxsize=4)
def read_external(path: str, mosaic: str = "auto") -> External:
    """Read the headers of a reference that is no frame of the night.

    Parameters
    ----------
    path : str
        A FITS file: any frame `read_facts` understands, or `template.fits` or an aligned frame of a run.
    mosaic : str
        Overrides what its header says of a mosaic, unless ``auto``.

    Returns
    -------
    External

    Raises
    ------
    InputError
        It cannot be read, or is a product that stands for no place on the sky (a difference, a followed
        target's frame).
    """
    location = str(Path(path).expanduser().absolute())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = fits.getheader(location, 0)
            if str(header.get("CREATOR", "")).lower().startswith("difflapse"):
                return _product(location, header)
            facts = read_facts(location)
    except (OSError, ReadError) as error:
        raise InputError(
            f"the reference {path} cannot be read: {' '.join(str(error).split())}",
            "name a FITS image, or a frame of the night",
        ) from None
    if mosaic != "auto":
        facts = replace(facts, mosaic=mosaic if mosaic in PATTERNS else "")
    return External(facts, location)


def read_external_pixels(external: External) -> Frame:
    """Its pixels; those of a product as one plane on its own grid, begun at native pixel 0, outside masked.

    Raises
    ------
    InputError
        The pixels cannot be read.
    """
    try:
        if external.grid is None:
            return read_frame(external.facts)
        with fits.open(external.path, memmap=False) as hdus:
            data = np.asarray(hdus[0].data, np.float32)
            mask = np.asarray(hdus["MASK"].data) != 0
    except (OSError, KeyError, ReadError) as error:
        raise InputError(f"the reference {external.path} cannot be read: {error}") from None
    if data.ndim == 3:
        data, mask = data.mean(axis=0), mask.any(axis=0)
    grid = external.grid
    x, y = (round(v / grid.step) for v in grid.origin)
    whole = np.full((y + data.shape[0], x + data.shape[1]), np.median(data[~mask]), np.float32)
    bad = np.ones(whole.shape, bool)
    whole[y:, x:] = np.where(mask, whole[0, 0], data)
    bad[y:, x:] = mask
    facts = replace(external.facts, shape=whole.shape, dtype="float32", mosaic="")
    return Frame(facts, whole, bad)


def read_external_planes(external: External) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, float]:
    """The planes of an image that is no mosaic frame, their variance and mask, and the variance's NOISECOR.

    Returns
    -------
    data : ndarray, shape (c, ny, nx), float32
        Bad pixels at the median of their plane.
    variance : ndarray, shape (c, ny, nx), float32, or None
        Of the extension UNCERT (variance, standard deviation or inverse variance); NaN where it has none.
    mask : ndarray of bool, shape (ny, nx)
        True = bad: the extension MASK, and what is not finite.
    correlation : float
        Its header's; 1 without.

    Raises
    ------
    InputError
        The pixels cannot be read, or are no image of one or more planes.
    """
    try:
        with fits.open(external.path, memmap=False) as hdus:
            image = hdus[0 if external.grid is not None else external.facts.hdu]
            data, header = np.array(image.data, np.float32), image.header
            names = {hdu.name: hdu for hdu in hdus}
            mask = np.asarray(names["MASK"].data) != 0 if "MASK" in names else np.zeros(data.shape, bool)
            variance, kind = None, ""
            if "UNCERT" in names:
                variance = np.array(names["UNCERT"].data, np.float32)
                kind = str(names["UNCERT"].header.get("UTYPE", "StdDevUncertainty"))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{external.path} cannot be read: {' '.join(str(error).split())}") from None
    data = data[None] if data.ndim == 2 else data
    if data.ndim != 3 or mask.shape[-2:] != data.shape[-2:]:
        raise InputError(
            f"{external.path} holds {data.shape} pixels; an image of one or more planes is needed"
        )
    bad = np.asarray(~np.isfinite(data).all(axis=0) | mask.reshape(-1, *mask.shape[-2:]).any(axis=0))
    for plane in data:
        plane[bad] = np.median(plane[~bad]) if not bad.all() else 0.0
    if variance is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            if "Std" in kind:
                variance = np.square(variance)
            elif "Inverse" in kind:
                variance = np.float32(1) / variance
        variance = np.broadcast_to(variance, data.shape)
    return data, variance, bad, float(header.get("NOISECOR", 1.0))


def _product(path: str, header: fits.Header) -> External:
    """A product of a run: native pixels are those of the frame whose grid it lies on."""
    name = Path(path).name
    if "DIFFMODE" in header or "FOLLOW" in header:
        what = "a difference" if "DIFFMODE" in header else "a frame that follows a moving target"
        raise InputError(
            f"the reference {name} is {what} of an earlier run", "its template.fits, or an aligned frame"
        )
    if "LTM1_1" not in header or int(header.get("NAXIS", 0)) not in (2, 3):
        raise InputError(f"the reference {name} is a product of difflapse, but no image on a frame's grid")
    step = round(1 / float(header["LTM1_1"]))
    ny, nx = int(header["NAXIS2"]), int(header["NAXIS1"])
    # LTV = 1 - (1 + (step - 1) / 2 + origin) / step, see `ProductGrid.ltv`.
    x, y = (round((1 - float(header[key])) * step - 1 - (step - 1) / 2) for key in ("LTV1", "LTV2"))
    grid = ProductGrid((ny, nx), step, (x, y))
    facts = FrameFacts(
        path=path,
        file=str(header.get("REFFILE", name)),
        hdu=0,
        shape=(y + ny * step, x + nx * step),
        dtype="float32",
        start_mjd=header.get("MJD-AVG"),
        bias_adu=0.0,
        wcs_header=native_wcs_header(header, grid),
        notes=(f"native pixels of {header.get('REFFILE', name)}, as {name} has them",),
    )
    return External(facts, path, grid)

"""The product grid of a run: the whole reference frame, or the crop that was asked for."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from difflapse.align.wcs import celestial
from difflapse.errors import OptionError
from difflapse.model import Alignment, FrameFacts, ProductGrid
from difflapse.pipeline.config import RunOptions, parse_roi
from difflapse.pipeline.context import Night
from difflapse.pipeline.field import pixel_arcsec

MARGIN = 128
"""Rows about a crop that are read too."""
_MOST = 0.8
"""Part of a frame's rows from which on all are read."""


def product_grid(
    reference: FrameFacts,
    options: RunOptions,
    mosaic: bool | None = None,
    whole: ProductGrid | None = None,
) -> ProductGrid:
    """Lay the product grid on the reference frame.

    Parameters
    ----------
    reference : FrameFacts
        The frame whose native pixels the grid lies on.
    options : RunOptions
        Its crop.
    mosaic : bool, optional
        Whether the night's frames have a mosaic, whatever the reference has: two by two native pixels of the
        reference make a product pixel then. By default as the reference.
    whole : ProductGrid, optional
        The grid without a crop, where it is not that of the whole frame.

    Raises
    ------
    OptionError
        The crop lies outside the frame, or is asked for on the sky while the frame has no WCS.
    """
    ny, nx = reference.shape
    step = 2 if (reference.mosaic if mosaic is None else mosaic) else 1
    box = _asked_box(reference, options)
    if box is not None:
        x, y, w, h = box
    elif options.follow and options.size:
        w, h = size_pixels(reference, options)  # about the frame's middle, until the target's place is known
        shape = (max(h // step, 1), max(w // step, 1))
        if min(shape) < 8:
            raise OptionError(f"--size is {options.size}, which is {w}x{h} pixels; 16x16 are needed")
        return centred_grid(shape, step, (nx - 1) / 2, (ny - 1) / 2)
    elif whole is not None and whole.step == step:
        return whole
    else:
        return ProductGrid((ny // step, nx // step), step)
    x1, y1 = min(x + w, nx), min(y + h, ny)
    x0, y0 = max(0, x), max(0, y)
    x0, y0 = x0 - x0 % step, y0 - y0 % step
    shape = ((y1 - y0) // step, (x1 - x0) // step)
    if shape[0] < 8 or shape[1] < 8:
        raise OptionError(
            f"the crop covers x {x} to {x + w}, y {y} to {y + h}; the reference frame has {nx}x{ny} pixels",
            "give a crop that lies within the frame",
        )
    return ProductGrid(shape, step, (x0, y0))


def cut_note(reference: FrameFacts, options: RunOptions) -> str:
    """What a crop loses that reaches beyond the reference frame; empty where it loses nothing."""
    box = _asked_box(reference, options)
    if box is None:
        return ""
    (x, y, w, h), (ny, nx) = box, reference.shape
    if x >= 0 and y >= 0 and x + w <= nx and y + h <= ny:
        return ""
    left, right, bottom, top = max(0, x), min(x + w, nx) - 1, max(0, y), min(y + h, ny) - 1
    return (
        f"the crop of x {x} to {x + w - 1}, y {y} to {y + h - 1} reaches beyond the reference's {nx}x{ny} pixels: "
        f"x {left} to {right}, y {bottom} to {top} is kept"
    )


def rows_needed(night: Night, k: int, alignment: Alignment) -> tuple[int, int] | None:
    """First row of frame `k` that its products need, and one past the last; None where that is most of them.

    With `MARGIN` rows to spare, for kernels and for the surroundings of stars.
    """
    grid: ProductGrid = night.shared("canvas").of(k)
    ny = night.frames[k].shape[0]
    i, j = (np.linspace(-0.5, n - 0.5, 9) for n in reversed(grid.shape))
    _, y = alignment.transform.inverse(*grid.to_native(*np.meshgrid(i, j)))
    y = np.asarray(y)
    if not np.isfinite(y).all():
        return None
    first, past = max(0, int(y.min()) - MARGIN), min(ny, int(y.max()) + 1 + MARGIN)
    first, past = min(first, ny - 8), max(past, first + 8)  # a target may be followed out of the frame
    return (first, past) if past - first < _MOST * ny else None


def without_crop(options: RunOptions) -> RunOptions:
    """The options of the grid that frames are first compared on: whole where the crop follows a target."""
    return replace(options, follow=(), roi="", center="", size="") if options.follow else options


def centred_grid(shape: tuple[int, int], step: int, x: float, y: float) -> ProductGrid:
    """A grid whose middle lies at (x, y), native pixels of the reference; it may reach beyond the frame."""
    return ProductGrid(shape, step, (x - (step * shape[1] - 1) / 2, y - (step * shape[0] - 1) / 2))


def typical_frame(frames: Sequence[FrameFacts], options: RunOptions) -> FrameFacts:
    """The frame that a run is foreseen by: the middle one, or the nearest with a WCS where a crop needs it."""
    middle = len(frames) // 2
    if options.center and not frames[middle].wcs_header:
        solved = [k for k, facts in enumerate(frames) if facts.wcs_header]
        if solved:
            middle = min(solved, key=lambda k: abs(k - middle))
    return frames[middle]


def _asked_box(reference: FrameFacts, options: RunOptions) -> tuple[int, int, int, int] | None:
    """The crop as it was asked for: x, y, width and height, native pixels; None without one."""
    if options.roi:
        return parse_roi(options.roi)
    return _sky_box(reference, options) if options.center else None


def _sky_box(reference: FrameFacts, options: RunOptions) -> tuple[int, int, int, int]:
    """A box of native pixels around a position on the sky."""
    if not reference.wcs_header:
        raise OptionError(
            f"--center is given, but the reference frame {reference.file} has no WCS",
            "use --roi X,Y,W,H in pixels, or --solve to find the field on the sky",
        )
    from astropy.coordinates import SkyCoord

    ra, _, dec = options.center.partition(",")
    position = SkyCoord(*parse_position(ra, dec, "center"), unit="deg")
    wcs = celestial(reference.wcs_header)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an inverse that does not converge gives NaN, or a place far outside
        x, y = (float(v) for v in wcs.world_to_pixel(position))
    if not (np.isfinite(x) and np.isfinite(y)):
        raise OptionError(f"--center {options.center} is not on the reference frame's sky")
    width, height = size_pixels(reference, options)
    return round(x - (width - 1) / 2), round(y - (height - 1) / 2), width, height


def parse_position(ra: str, dec: str, option: str) -> tuple[float, float]:
    """Right ascension and declination, degrees, from text in degrees or sexagesimal; raises OptionError."""
    import astropy.units as u
    from astropy.coordinates import SkyCoord

    try:
        degrees = all(_is_number(part) for part in (ra, dec))
        position = SkyCoord(ra, dec, unit=(u.deg if degrees else u.hourangle, u.deg))
    except (ValueError, u.UnitsError):
        raise OptionError(
            f"{option} is {f'{ra},{dec}'!r}; it must be RA,DEC",
            "for example 303.2,46.0 or 20h12m48s,+46d02m",
        ) from None
    return float(position.ra.deg), float(position.dec.deg)


def size_pixels(reference: FrameFacts, options: RunOptions) -> tuple[int, int]:
    """Width and height of the crop, native pixels of the reference.

    Raises
    ------
    OptionError
        No size, or an angle while the reference has no WCS.
    """
    parts = [part.strip() for part in options.size.split(",")]
    hint = "for example 30arcmin, 2deg,1deg or 300px"
    if all(re.fullmatch(r"\d+(\.\d+)?\s*(px|pix)", part) for part in parts):
        sizes = [float(part.rstrip("pix ")) for part in parts]
        return round(sizes[0]), round(sizes[-1])
    import astropy.units as u
    from astropy.coordinates import Angle

    try:
        angles = [float(Angle(_with_unit(part)).deg) for part in parts]
    except (ValueError, u.UnitsError):
        raise OptionError(f"--size is {options.size!r}; it must be an angle or pixels", hint) from None
    if not reference.wcs_header:
        raise OptionError(
            f"--size is {options.size}, but the reference frame {reference.file} has no WCS",
            "give it as 300px",
        )
    scale = pixel_arcsec(reference.wcs_header, reference.shape) / 3600
    return max(1, round(angles[0] / scale)), max(1, round(angles[-1] / scale))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _with_unit(text: str) -> str:
    return f"{text}deg" if _is_number(text) else text

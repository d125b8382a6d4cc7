"""The product grid of a run: the whole reference frame, or the crop that was asked for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from difflapse.errors import OptionError
from difflapse.model import FrameFacts, ProductGrid
from difflapse.pipeline.config import RunOptions, parse_roi


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
    if options.roi:
        x, y, w, h = parse_roi(options.roi)
    elif options.center:
        x, y, w, h = _sky_box(reference, options)
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


def typical_frame(frames: Sequence[FrameFacts], options: RunOptions) -> FrameFacts:
    """The frame that a run is foreseen by: the middle one, or the nearest with a WCS where a crop needs it."""
    middle = len(frames) // 2
    if options.center and not frames[middle].wcs_header:
        solved = [k for k, facts in enumerate(frames) if facts.wcs_header]
        if solved:
            middle = min(solved, key=lambda k: abs(k - middle))
    return frames[middle]


def _sky_box(reference: FrameFacts, options: RunOptions) -> tuple[int, int, int, int]:
    """A box of native pixels around a position on the sky."""
    if not reference.wcs_header:
        raise OptionError(
            f"center is given, but the reference frame {reference.file} has no WCS",
            "use --roi X,Y,W,H in pixels, or --solve to find the field on the sky",
        )
    import astropy.units as u
    from astropy.coordinates import Angle, SkyCoord
    from astropy.io import fits
    from astropy.wcs import WCS
    from astropy.wcs.utils import proj_plane_pixel_scales

    try:
        ra, dec = options.center.split(",")
        degrees = all(_is_number(part) for part in (ra, dec))
        position = SkyCoord(ra, dec, unit=(u.deg if degrees else u.hourangle, u.deg))
    except (ValueError, u.UnitsError):
        raise OptionError(
            f"center is {options.center!r}; it must be RA,DEC", "for example 303.2,46.0 or 20h12m48s,+46d02m"
        ) from None
    try:
        sizes = [Angle(_with_unit(part)).deg for part in options.size.split(",")]
    except (ValueError, u.UnitsError):
        raise OptionError(
            f"size is {options.size!r}; it must be an angle", "for example 30arcmin or 2deg,1deg"
        ) from None
    wcs = WCS(fits.Header.fromstring(reference.wcs_header))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an inverse that does not converge gives NaN, or a place far outside
        x, y = (float(v) for v in wcs.world_to_pixel(position))
    if not (np.isfinite(x) and np.isfinite(y)):
        raise OptionError(f"center {options.center} is not on the reference frame's sky")
    scale = float(np.mean(proj_plane_pixel_scales(wcs)))
    width, height = (max(1, round(s / scale)) for s in (sizes[0], sizes[-1]))
    return round(x - (width - 1) / 2), round(y - (height - 1) / 2), width, height


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _with_unit(text: str) -> str:
    return f"{text}deg" if _is_number(text) else text

"""Matching a frame and what is subtracted from it by their stars: when it is tried, when taken, what is told of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from difflapse.difference import Difference, Science, Template, subtract
from difflapse.difference.convolve import Windows, convolve_science, convolve_template, shared_part
from difflapse.difference.proper import proper
from difflapse.difference.psf import (
    FEWEST,
    Kernel,
    good_stars,
    kernel_reach,
    residual_at_stars,
    solve_kernel,
    stamp_radius,
)
from difflapse.errors import FrameError
from difflapse.model import Quality
from difflapse.pipeline.context import Night
from difflapse.pipeline.records import Canvas, Reference, Told

_LEAST_SNR = 30.0
_NOTHING_TO_GAIN = 1.1
"""Residual at a few bright stars, in sigma, up to which `auto` looks no further: the scale alone does."""
_LOOK = 64
"""Stars of that first look."""


def take_matched(
    night: Night, k: int, science: Science, template: Template, own: float, quality: Quality
) -> tuple[Difference, Told, Kernel | None]:
    """Subtract, after matching point-spread functions where that is asked for or, with `auto`, pays."""
    wanted, units = night.options.match, night.options.units
    keep = "differences" in night.options.save
    kernel, told = _kernel_for(night, k, science, template, own, quality)
    result = difference_with(kernel, science, template, own, wanted == "zogy", units, keep)
    return result, told, kernel


def difference_with(
    kernel: Kernel | None,
    science: Science,
    template: Template,
    own: float,
    whiten: bool,
    units: str = "sigma",
    keep: bool = False,
    windows: Windows | None = None,
) -> Difference:
    """Subtract with a kernel, or with the scale alone (None); of whole images, or of windows of them."""
    if kernel is None:
        return subtract(science, template, own, units, keep)
    if kernel.science:
        matched, against = convolve_science(science, kernel, windows), template
    else:
        matched, against = science, convolve_template(template, kernel, windows)
    own *= shared_part(kernel, science.noise.correlation)
    result = subtract(matched, against, own, units, keep)
    return proper(result, science, template, kernel, windows) if whiten else result


def _kernel_for(
    night: Night, k: int, science: Science, template: Template, own: float, quality: Quality
) -> tuple[Kernel | None, Told]:
    """The kernel to match with; None where the scale has to do."""
    wanted = night.options.match
    plain = Told("none" if wanted == "none" else "scale")
    if wanted not in ("auto", "psf", "zogy"):
        return None, plain
    try:
        x, y, fwhm = _stars_for(night, k, science, template, quality)
        if wanted == "auto":
            few = slice(None, None, max(1, len(x) // _LOOK))
            before = residual_at_stars(science, template, x[few], y[few], fwhm, own)
            if before < _NOTHING_TO_GAIN:
                return None, replace(plain, before=before)
        kernel = solve_kernel(science, template, x, y, fwhm, own)
    except FrameError as error:
        note = "" if wanted == "auto" else f"match {wanted} failed, scaled instead: {error.message}"
        return None, replace(plain, note=note)
    told = Told(wanted if wanted == "zogy" else "psf", kernel.before, kernel.after, kernel.line)
    if kernel.pays:
        return kernel, told
    if wanted == "auto":
        return None, replace(plain, before=kernel.before)
    if kernel.after > kernel.before and wanted == "zogy":
        # Stars are alike: nothing is convolved, and the noise is whitened all the same.
        return kernel.identity(), replace(told, after=kernel.before, kernel="")
    if kernel.after > kernel.before:
        note = f"match {wanted} failed, scaled instead: held-out stars are worse, {kernel.line}"
        return None, replace(plain, before=kernel.before, note=note)
    return kernel, told


def _stars_for(
    night: Night, k: int, science: Science, template: Template, quality: Quality
) -> tuple[np.ndarray, np.ndarray, float]:
    """Good stars of the reference on the frame's product grid, and the FWHM of the wider ones along their long axis."""
    canvas: Canvas = night.shared("canvas")
    if canvas.track is not None:
        raise FrameError("the products follow a target: stars trail in what is subtracted", "")
    reference: Reference = night.shared("reference")
    stars, grid = reference.light, canvas.of(k)
    x, y = grid.from_native(stars.x, stars.y)
    bright = np.isfinite(stars.fwhm) & (stars.snr > _LEAST_SNR) & ~stars.saturated & ~stars.blended
    _enough(int(bright.sum()))
    width = float(np.median(stars.fwhm[bright]))
    stretch = quality.elongation if np.isfinite(quality.elongation) else 1.0
    if np.isfinite(quality.fwhm_pix):
        width = max(width, quality.fwhm_pix * max(1.0, stretch) ** 0.5)
    width /= grid.step
    bad = (science.mask != 0) | (template.count == 0)
    reach = stamp_radius(width) + kernel_reach(width)
    good = good_stars(x, y, stars.flux, bright, bad, reach)
    _enough(len(x[good]))
    return x[good], y[good], width


def _enough(found: int) -> None:
    """Refuse with too few stars to match point-spread functions by."""
    if found < FEWEST:
        raise FrameError(
            f"{found} lone stars of S/N {_LEAST_SNR:.0f} are too few to match point-spread functions; "
            f"{FEWEST} are needed",
            "--match scale needs 5 stars",
            {"found": found, "needed": FEWEST},
        )

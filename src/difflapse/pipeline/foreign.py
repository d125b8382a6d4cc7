"""A template from outside the night: another night's `template.fits`, or any image of the same sky."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from difflapse.align.view import AlignOptions, View
from difflapse.align.warp import BadPixels, Unsplit
from difflapse.align.warp import warp as apply_transform
from difflapse.difference import fit_offset, noise_of, scale_from_pixels
from difflapse.difference.scale import scale_from_sums
from difflapse.errors import FrameError, InputError, OptionError
from difflapse.io.external import External, read_external, read_external_pixels, read_external_planes
from difflapse.measure import Defects, channel_levels, find_stars
from difflapse.measure.mesh import apply, constant, image
from difflapse.methods import find_method
from difflapse.model import Inventory, ProductGrid, Stars, Transform, bits
from difflapse.mosaic import channels, sites
from difflapse.pipeline import tasks
from difflapse.pipeline.config import RunOptions
from difflapse.pipeline.context import Night
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.records import Member, Reference
from difflapse.pipeline.sensor import alone

_MOST_STARS = 600


@dataclass(frozen=True, eq=False)
class Foreign:
    """How an external template was laid on the night."""

    file: str
    mjd: float | None
    correlation: np.ndarray
    """(c,): NOISECOR."""
    method: str
    rms_pix: float
    n_stars: int
    """Stars behind its brightness; 0: matched on pixels."""


def check_template(inventory: Inventory, options: RunOptions) -> None:
    """Refuse, before anything is read, a template that cannot be used; raises OptionError or InputError."""
    if not options.template:
        return
    if options.diff != "template":
        raise OptionError(
            f"--template names a file, but --diff is {options.diff}", "--diff template subtracts it"
        )
    if options.follow:
        raise OptionError(
            "--template names a file, but a moving target is followed", "its template is made along with it"
        )
    for sequence in inventory.sequences:
        _external(options, sequence.frames[0].mosaic)


def lay_template(desk: Desk, base: Member, smooth: bool) -> Foreign:
    """Lay the external template on the product grid, at the reference's brightness, into the template's arrays.

    Raises
    ------
    InputError
        It does not show the reference's sky, or nothing tells how bright it is beside it.
    """
    night = desk.night
    shape = tasks.kept_member(night, base).data.shape
    for name in ("template", "template_variance"):
        night.make_array(name, shape, np.float32)
    night.make_array("template_count", shape[1:], np.uint8)
    result = next(iter(desk.pool.run(_lay, [(night, base, smooth)])))[1]
    if isinstance(result, FrameError):
        raise InputError(
            f"the template {night.options.template} cannot be used: {result.message}", result.hint
        )
    found: Foreign = result
    desk.progress.note(
        f"template: {found.file}, {found.method}, rms {found.rms_pix:.2f} px, its brightness matched on "
        + (f"{found.n_stars} stars" if found.n_stars else "pixels")
    )
    return found


def _external(options: RunOptions, mosaic: str) -> External:
    path = Path(options.template).expanduser()
    if not path.is_file():
        raise OptionError(
            f"--template is {options.template!r}; there is no such file",
            "a FITS image, or a run's template.fits",
        )
    try:
        external = read_external(str(path))
    except InputError as error:
        raise InputError(error.message.replace("the reference", "the template"), error.hint) from None
    if external.grid is None and external.facts.mosaic and not mosaic:
        raise InputError(
            f"the template {path.name} is a colour mosaic's frame, the night's camera has none",
            "a run of its own makes a template.fits of its night",
        )
    return external


def _lay(night: Night, base: Member, smooth: bool) -> Foreign:
    """Align, resample and match the template."""
    reference: Reference = night.shared("reference")
    external = _external(night.options, night.frames[reference.frame].mosaic)
    grid = night.shared("canvas").grid
    stars = _stars(external)
    model = "auto" if night.options.transform == "lens" else night.options.transform
    options = AlignOptions(night.options.align, model, night.options.detector)
    if options.method == "none":
        transform, method, rms = Transform.identity(), "none", float("nan")
    else:
        frame = alone(read_external_pixels(external))
        small = functools.cache(
            lambda: tasks.reduce(tasks.listed(frame, Defects.none()), frame.facts, external.step)
        )
        alignment = find_method("align", options.method)(
            View(external.facts, stars, small), tasks.reference_view(night, reference), options
        )
        transform, method, rms = alignment.transform, alignment.method, alignment.rms_pix
    tasks.check_overlap(transform, external.facts.shape, reference.facts.shape)
    target = tasks.kept_member(night, base)
    data, variance, mask, correlation = _resampled(night, external, transform, grid, len(target.data))
    bad = (mask != 0) | (target.mask != 0)
    width = max(
        float(np.median(stars.fwhm)) if len(stars) else 2.0,
        reference.stars.fwhm.mean() if len(reference.stars) else 2.0,
    )
    i, j = grid.from_native(reference.stars.x[:_MOST_STARS], reference.stars.y[:_MOST_STARS])
    fitted = scale_from_sums(data, target.data, bad, i, j, max(2.0, 1.5 * width / grid.step))
    if fitted is not None:
        inverse, n = (1 / fitted[0]).astype(np.float32), fitted[1]
    else:
        scales = scale_from_pixels(data, target.data, bad)
        if scales is None:
            raise FrameError(
                "neither 5 stars nor the structure of its pixels tell how bright it is",
                "",
                {"found": 0, "needed": 5},
            )
        inverse, n = constant(1 / scales[0]), 0
    offset = fit_offset(data, inverse, target.data, bad, smooth)
    apply(data, inverse, offset)
    for c in range(len(data)):
        variance[c] *= np.square(image(inverse[c], grid.shape))
    night.write("template", (0, 0, 0), data)
    night.write("template_variance", (0, 0, 0), variance)
    count = np.where((mask & ~np.uint8(bits.SATURATED)) == 0, np.uint8(1), np.uint8(0))
    night.write("template_count", (0, 0), count)
    return Foreign(Path(external.path).name, external.facts.mid_mjd, correlation, method, rms, n)


def _stars(external: External) -> Stars:
    """Its stars, native px of the frame whose grid it lies on."""
    frame = alone(read_external_pixels(external))
    pixels = tasks.listed(frame, Defects.none())
    stars, _ = find_stars(replace(frame, data=pixels.data, mask=pixels.mask))
    if external.step == 1:
        return stars
    half = (external.step - 1) / 2
    return replace(
        stars,
        x=stars.x * external.step + half,
        y=stars.y * external.step + half,
        fwhm=stars.fwhm * external.step,
    )


def _resampled(
    night: Night, external: External, transform: Transform, grid: ProductGrid, planes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Data, variance, mask and NOISECOR on the product grid, in its own ADU."""
    kernel = night.options.resample
    facts = external.facts
    if external.grid is None and facts.mosaic:
        frame = alone(read_external_pixels(external))
        pixels = tasks.listed(frame, Defects.none())
        _, quality = find_stars(replace(frame, data=pixels.data, mask=pixels.mask))
        warped = apply_transform(
            Unsplit(pixels.data, facts.mosaic, facts.bias_adu or 0.0),
            sites(facts.mosaic),
            transform,
            grid,
            pixels.bad,
            kernel,
        )
        noise = noise_of(
            warped.variance_factor, quality.noise_adu, facts.gain_e_adu, warped.correlation, warped.level
        )
        variance = np.empty_like(warped.data)
        for c in range(len(variance)):
            signal = np.maximum(warped.data[c] - np.float32(quality.background_adu[c] * warped.level), 0)
            variance[c] = image(noise.sky[c], grid.shape) + image(noise.photon[c], grid.shape) * signal
        return warped.data, variance, warped.mask, np.broadcast_to(warped.correlation, (planes,))
    data, own, bad, correlation = read_external_planes(external)
    if planes == 1 and len(data) > 1:
        data = data.mean(axis=0, keepdims=True)
        own = None if own is None else own.sum(axis=0, keepdims=True) / len(own) ** 2
    if len(data) not in (1, planes):
        raise InputError(
            f"the template has {len(data)} planes, the night's camera {planes} channels",
            f"{planes} planes ({', '.join(channels(night.frames[0].mosaic))}) or one are needed",
        )
    step, origin = external.step, (external.grid.origin if external.grid else (0.0, 0.0))
    own_pixels = _from_cells(transform, step, origin)
    y, x = np.nonzero(bad)
    blank = BadPixels(x.astype(float), y.astype(float), np.full(len(x), bits.BLANK, np.uint8))
    out, variances, masks, factors = [], [], [], []
    for n, plane in enumerate(data):
        warped = apply_transform(plane[None], sites(""), own_pixels, grid, blank, kernel)
        out.append(warped.data[0])
        masks.append(warped.mask)
        factors.append(np.mean(warped.correlation))
        if own is None:
            _, scatter = channel_levels(plane, "", 0.0, bad)
            one = noise_of(warped.variance_factor, scatter, facts.gain_e_adu, 1.0, warped.level)
            level = np.float32(np.median(plane[~bad]) * warped.level)
            signal = np.maximum(warped.data[0] - level, 0)
            variances.append(image(one.sky[0], grid.shape) + image(one.photon[0], grid.shape) * signal)
        else:
            # Its noise is correlated already: it is taken not to be smoothed any further.
            known = np.where(np.isfinite(own[n]), own[n], np.nanmedian(own[n])).astype(np.float32)
            moved = apply_transform(known[None], sites(""), own_pixels, grid, None, "linear")
            variances.append(np.maximum(moved.data[0], 1e-12) * np.float32(warped.level**2))
    if len(out) < planes:
        out, variances, factors = out * planes, variances * planes, factors * planes
    factor = np.array(factors) if own is None else np.full(planes, correlation)
    return np.stack(out), np.stack(variances), np.bitwise_or.reduce(masks), factor


def _from_cells(transform: Transform, step: int, origin: Sequence[float]) -> Transform:
    """The same transform from the pixels of a product, cells of `step` native pixels."""
    if step == 1 and not any(origin):
        return transform
    x0, y0 = (o + (step - 1) / 2 for o in origin)
    cells = np.array([[step, 0, x0], [0, step, y0], [0, 0, 1.0]])
    model = "affine" if transform.model in ("shift", "euclidean", "similarity") else transform.model
    return replace(
        transform,
        model=model,
        matrix=transform.matrix @ cells,
        origin=((transform.origin[0] - x0) / step, (transform.origin[1] - y0) / step),
        scale=transform.scale / step,
        domain=None,
    )

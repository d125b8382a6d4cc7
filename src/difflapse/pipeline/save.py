"""Product images: aligned frames, differences and the template, as FITS that astropy reads as it is."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from astropy.io.fits import Header

from difflapse.difference import Science
from difflapse.difference.model_error import Learned
from difflapse.io.celestial import binned_wcs_header
from difflapse.io.products import Card, product_names, write_image
from difflapse.measure.mesh import image
from difflapse.model import Alignment, ProductGrid, Quality, bits
from difflapse.model.times import iso_utc
from difflapse.mosaic import channels
from difflapse.pipeline.context import Night
from difflapse.pipeline.records import Canvas, Reference, Scene, SkyPlace, Subtracted

BITS = {text: bit for bit, text in bits.NAMES.items()}


@functools.lru_cache(maxsize=1)
def _names(night: Night) -> list[str]:
    return product_names([facts.file for facts in night.frames])


def save_aligned(night: Night, k: int, science: Science, alignment: Alignment, quality: Quality) -> str:
    """Write one frame on the reference's grid: its own brightness (or flux), bias taken off. Returns its name."""
    shape = science.data.shape
    variance = np.empty(shape, np.float32)
    for c in range(shape[0]):
        back = np.maximum(image(science.inverse_scale[c], shape[1:]), 1e-12)
        sky = image(science.noise.sky[c], shape[1:]) / back**2
        photon = image(science.noise.photon[c], shape[1:]) / back
        level = np.float32(quality.background_adu[c] * science.noise.level)
        signal = np.maximum(science.data[c] - level, 0)
        variance[c] = sky + (photon + image(science.noise.flat[c], shape[1:]) * signal) * signal
    cards: list[Card] = [
        ("ALIGNMTH", alignment.method, "how it was aligned"),
        ("ALIGNRMS", _finite(alignment.rms_pix), "[px] radial, held out; -1: unknown"),
    ]
    return _write(
        night,
        k,
        "aligned",
        science.data,
        variance,
        science.mask,
        np.asarray(science.noise.correlation),
        cards,
    )


def save_difference(night: Night, k: int, difference: Subtracted) -> str:
    """Write one difference, science - template, in the template's ADU. Returns the name below OUT."""
    result = difference.result
    assert result is not None and result.data is not None
    assert result.variance is not None and result.correlation is not None
    scene: Scene = night.shared("scene")
    cards: list[Card] = [("DIFFMODE", scene.mode, "what was subtracted")]
    when = difference.shown.template_mjd
    if when is not None:
        cards.append(("TMPLTIME", iso_utc(when), "UTC, mean time of what was subtracted"))
        now = night.frames[k].mid_mjd
        if now is not None:
            cards.append(("LAG", round((now - when) * 86400, 3), "[s] this frame's time - TMPLTIME"))
    told = difference.told
    cards.append(("MATCH", told.method, "what was matched before subtracting"))
    if told.kernel:
        cards.append(("MATCHRES", round(told.after, 3), "[sigma] residual at held-out stars"))
        cards.append(("MATCHRS0", round(told.before, 3), "[sigma] the same without the kernel"))
    if scene.mode == "running":
        cards.append(("TMPLFILE", str(difference.shown.template), "what was subtracted"))
    return _write(
        night, k, "differences", result.data, result.variance, result.mask, result.correlation, cards
    )


def save_template(night: Night) -> str:
    """Write `template.fits` from the night's arrays. Returns its name below OUT."""
    scene: Scene = night.shared("scene")
    count = np.asarray(night.array("template_count"))
    mask = np.where(count == 0, np.uint8(bits.NO_TEMPLATE), np.uint8(0))
    cards: list[Card] = [("NCOMBINE", len(scene.template_frames) or 1, "frames in the template")]
    if scene.template_file:
        cards.append(("TMPLFILE", scene.template_file, "the file it was made from"))
    if scene.template_mjd is not None:
        cards.append(("TMPLTIME", iso_utc(scene.template_mjd), "UTC, mean time of its frames"))
    variance = np.asarray(night.array("template_variance"))
    variance = np.where(mask[None] != 0, np.float32(np.nan), variance)
    return _write(
        night,
        None,
        "",
        np.asarray(night.array("template")),
        variance,
        mask,
        np.asarray(scene.template_correlation),
        cards,
    )


def save_model_error(night: Night, learned: Learned) -> str:
    """Write `model_error.fits`: the model error of a typical frame over its photon noise. Returns its name."""
    count = np.asarray(night.array("template_count")) if night.shared("scene").mode == "template" else None
    mask = np.zeros(learned.sorts.shape, np.uint8)
    if count is not None:
        mask[count == 0] = bits.NO_TEMPLATE
    strengths = np.array(list(learned.strength.values()))
    cards: list[Card] = [
        ("ERRTYPE", "MODEL", "total sigma = photon sigma * sqrt(1 + this**2)"),
        ("NFRAMES", len(strengths), "differences that it was learned from"),
        ("ERRMIN", round(float(strengths.min()), 4), "of the calmest frame, over this"),
        ("ERRMAX", round(float(strengths.max()), 4), "of the worst frame, over this"),
    ]
    return _write(night, None, "", learned.image()[None], None, mask, None, cards, "model_error.fits")


def _write(
    night: Night,
    k: int | None,
    folder: str,
    data: np.ndarray,
    variance: np.ndarray | None,
    mask: np.ndarray,
    correlation: np.ndarray | None,
    cards: list[Card],
    name: str = "template.fits",
) -> str:
    """Write an image of the product grid; one plane without a variance has no unit: it is relative."""
    reference: Reference = night.shared("reference")
    pattern = night.frames[reference.frame].mosaic
    canvas: Canvas = night.shared("canvas")
    grid = canvas.grid if k is None else canvas.of(k)
    planes = len(data) if pattern and variance is not None else 0
    common = [
        *grid_cards(night, grid),
        *([] if correlation is None else _noise_cards(correlation, planes)),
    ]
    if canvas.track is not None:
        at = reference.frame if k is None else k
        common += [
            ("FOLLOW", canvas.track.name, "stands still in these images; stars do not"),
            ("TARGETX", round(float(canvas.track.x[at]), 3), "[px] its place, native pixels of REFFILE"),
            ("TARGETY", round(float(canvas.track.y[at]), 3), "from 0; WCS and LTV are of its time"),
        ]
    if planes:
        common.append(("PLANES", ",".join(channels(pattern)), "colours of the third axis"))
    if k is not None:
        own = night.frames[k]
        if own.mid_mjd is not None:
            common.append(("DATE-AVG", iso_utc(own.mid_mjd), "UTC, middle of the exposure"))
            common.append(("MJD-AVG", round(own.mid_mjd, 9), "the same"))
        if own.exposure_s is not None:
            common.append(("EXPTIME", own.exposure_s, "[s]"))
        common.append(("ORIGFILE", own.file, "input frame"))
    if not planes:
        data, variance = data[0], None if variance is None else variance[0]
    place: SkyPlace = night.shared("sky")
    wcs = sky = None
    if place:
        wcs = product_wcs(night, grid, planes)
        if planes:
            sky = product_wcs(night, grid)
        common.append(("WCSFROM", place.source, "what the WCS was fitted to"))
        common.append(("WCSRMS", _finite(place.rms_pix), "[px] native, radial; -1: unknown"))
    full_mask = np.broadcast_to(mask, data.shape).copy() if data.ndim == 3 else mask
    name = name if k is None else f"{folder}/{_names(night)[k]}"
    path = Path(night.out) / name
    path.parent.mkdir(exist_ok=True)
    write_image(
        path,
        data,
        variance=variance,
        mask=full_mask,
        bits=BITS,
        cards=common + cards,
        wcs=wcs,
        sky=sky,
        unit="" if variance is None else "adu",
    )
    return name


def grid_cards(night: Night, grid: ProductGrid) -> list[Card]:
    """Where the pixels of a product lie on the reference."""
    reference: Reference = night.shared("reference")
    ltm, ltv1, ltv2 = grid.ltv()
    return [
        ("LTM1_1", ltm, "1-based image pixel = LTM * native + LTV"),
        ("LTM2_2", ltm, "native pixels are those of REFFILE"),
        ("LTV1", ltv1, ""),
        ("LTV2", ltv2, ""),
        ("REFFILE", reference.facts.file, "frame whose grid this is"),
        ("RESAMPLE", night.options.resample, "how frames were resampled"),
    ]


def product_wcs(night: Night, grid: ProductGrid, planes: int = 0) -> Header | None:
    """The WCS of a product's pixels, with a third axis of so many planes; None where there is none."""
    place: SkyPlace = night.shared("sky")
    if not place:
        return None
    return binned_wcs_header(place.wcs_header, grid.step, grid.origin, grid.shape, planes)


def _noise_cards(correlation: np.ndarray, planes: int) -> list[Card]:
    """NOISECOR, and each plane's own: the phases of colours differ."""
    factor = np.broadcast_to(correlation, (planes or 1,))
    typical = float(np.sqrt(np.mean(np.square(factor))))
    cards: list[Card] = [("NOISECOR", round(typical, 4), "noise of large sums / of independent pixels")]
    for n in range(planes):
        cards.append((f"NOISCOR{n + 1}", round(float(factor[n]), 4), f"the same of plane {n + 1}"))
    return cards


def _finite(value: float) -> float:
    return round(value, 5) if np.isfinite(value) else -1.0

"""Which stars are followed through the night, and what each frame's own pixels say of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from difflapse.align.wcs import celestial
from difflapse.errors import DifflapseError, FrameError
from difflapse.measure import find_stars, relative_variance
from difflapse.measure.photometry import aperture_sums
from difflapse.model import Alignment, Frame, FrameFacts, Quality, Stars
from difflapse.model.catalogue import BLENDED, Catalogue
from difflapse.mosaic import channels
from difflapse.pipeline import stamps, tasks
from difflapse.pipeline.context import Night
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.records import Canvas, Pixels, Reference, Scene
from difflapse.pipeline.sensor import facts_with_gain
from difflapse.pipeline.sky import place_of

MOST_STARS = 10_000
"""Stars that are followed at most: the brightest, well spread over the field."""
MOST_SUMS = 4_000_000
"""Stars times frames at most, so that the whole night's fluxes of a colour stay below 16 MB."""
RADIUS = 1.75
"""Of the circles, in FWHM of the night: measured, see docs/lightcurves.md."""
_SMALLEST = 3.0
"""px: a smaller circle has too few pixels of a mosaic's colour."""
_SAME = 1.0
"""px within which a star of the template is one of the reference's."""


def begin_catalogue(desk: Desk) -> None:
    """Begin to look for the stars that are followed, beside what else is learnt from the template."""
    most = int(np.clip(MOST_SUMS // len(desk.night.frames), 1, MOST_STARS))
    desk.begin("stars", stars_of_template, desk.night, most)


def find_catalogue(desk: Desk) -> None:
    """Number the stars of the template (or of the reference's image), and lay out room for their light."""
    night = desk.night
    scene: Scene = night.shared("scene")
    reference: Reference = night.shared("reference")
    n_frames = len(night.frames)
    found = desk.take("stars")
    if isinstance(found, FrameError):
        raise DifflapseError(f"the stars of the template cannot be found: {found.message}", found.hint)
    stars, seen = found
    radius = night_radius([desk.value("quality", k) for k in scene.used])
    keep = np.isfinite(stars.x) & np.isfinite(stars.y)
    stars = stars.take(keep)
    ra, dec = sky_positions(place_of(night).wcs_header, stars.x, stars.y)
    scale = 1.0 if reference.external is None else reference.light_area**-0.5
    flags = np.where(blended(stars, 2 * radius * scale), BLENDED, 0).astype(np.uint8)
    night.share("catalogue", Catalogue(stars.x, stars.y, ra, dec, flags, radius, max(seen, len(stars))))
    rows = 2 * len(channels(night.frames[reference.frame].mosaic)) + 3
    # The fluxes, their errors, the place on the frame, the flags: see `measure_light`.
    night.make_array("light", (n_frames, rows, len(stars)), np.float32)
    if "stamps" in night.options.save:
        stamps.lay_out(night, night.shared("catalogue"))


def measure_light(night: Night, k: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """Sum every star's light on the frame's own pixels, where the transform says that it lies."""
    catalogue: Catalogue = night.shared("catalogue")
    alignment: Alignment = values["alignment"]
    if not len(catalogue) or alignment.method == "interpolated":
        # A guessed place tells no brightness.
        return {"measured": False}
    facts = facts_with_gain(night, k)
    pixels: Pixels = values["pixels"]
    quality: Quality = values["quality"]
    x, y = alignment.transform.inverse(catalogue.x, catalogue.y)
    noise = np.broadcast_to(np.asarray(quality.noise_adu)[:, None], (len(quality.noise_adu), len(x)))
    if quality.noise_shape is not None:
        noise = noise * np.sqrt(relative_variance(quality.noise_shape, x, y, facts.shape))
    sums = aperture_sums(
        pixels.data,
        x,
        y,
        catalogue.radius,
        facts.mosaic,
        noise,
        facts.gain_e_adu,
        pixels.bad_bits,
    )
    light = np.concatenate([sums.flux, sums.error, x[None], y[None], sums.flags[None]], dtype=np.float32)
    night.write("light", (k, 0, 0), light)
    if "stamps" in night.options.save:
        stamps.cut(night, k, pixels.data, x, y)
    return {"measured": True}


def night_radius(quality: list[Quality]) -> float:
    """Radius of the circles for a whole night, native pixels: wide enough for its worse frames."""
    widths = [q.fwhm_pix * max(1.0, q.elongation) ** 0.5 for q in quality if np.isfinite(q.fwhm_pix)]
    return float(np.clip(RADIUS * np.percentile(widths, 75), _SMALLEST, 30.0)) if widths else 2 * _SMALLEST


def blended(stars: Stars, reach: float, share: float = 0.02) -> np.ndarray:
    """Whether another star of more than a `share` of the flux lies within `reach`, (n,) bool."""
    found = np.zeros(len(stars), bool)
    pairs = (
        cKDTree(stars.xy).query_pairs(reach, output_type="ndarray")
        if len(stars) > 1
        else np.zeros((0, 2), int)
    )
    for one, other in (pairs.T, pairs.T[::-1]):
        found[one[stars.flux[other] > share * stars.flux[one]]] = True
    return found


def sky_positions(wcs_header: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ICRS degrees of native pixels of the reference; NaN without a WCS."""
    if not wcs_header or not len(x):
        return np.full(len(x), np.nan), np.full(len(x), np.nan)
    place = celestial(wcs_header).pixel_to_world(x, y).icrs
    return np.asarray(place.ra.deg), np.asarray(place.dec.deg)


def stars_of_template(night: Night, most: int) -> tuple[Stars, int]:
    """Stars to follow, brightest first, in native pixels of the reference, and how many there are."""
    scene: Scene = night.shared("scene")
    reference: Reference = night.shared("reference")
    canvas: Canvas = night.shared("canvas")
    if canvas.track is not None:
        # What follows a comet has no stars in its template.
        known = reference.stars
        return known.take(np.argsort(-known.flux, kind="stable")[:most]), len(known)
    if scene.mode == "template":
        image, hidden = np.asarray(night.array("template")), night.array("template_count") == 0
    else:
        own = tasks.kept_member(night, night.shared("members")[reference.frame])
        image, hidden = own.data, own.mask != 0
    weights = np.array([1, 2, 1], np.float32) if len(image) == 3 else np.ones(1, np.float32)
    grey = np.tensordot(weights, image, axes=1)
    facts = FrameFacts("", "", 0, grey.shape, "float32")
    found, quality = find_stars(Frame(facts, grey, np.asarray(hidden) | ~np.isfinite(grey)), limit=most)
    x, y = canvas.grid.to_native(found.x, found.y)
    if len(found) and len(reference.stars) and reference.external is None:
        # Measured on native pixels they lie better than on those of a template twice as wide.
        away, which = cKDTree(reference.stars.xy).query(np.column_stack([x, y]))
        same = (away < _SAME) & ~reference.stars.saturated[which] & ~reference.stars.blended[which]
        x, y = np.where(same, reference.stars.x[which], x), np.where(same, reference.stars.y[which], y)
    moved = Stars(x, y, found.flux, found.snr, found.fwhm, found.colour_flux, found.saturated)
    return moved, quality.n_stars

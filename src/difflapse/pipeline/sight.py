"""Sighting: what stands out in one frame's difference, its light measured on the frame's own pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from difflapse.changes import beside, refuse
from difflapse.changes.find import FindOptions, search
from difflapse.changes.lanes import BRIGHT, Lanes, find_lanes, off_frame
from difflapse.changes.link import LinkOptions
from difflapse.changes.starlight import Starlight, field_of, find_starlight, scatter_by_light
from difflapse.changes.streaks import least_snr
from difflapse.measure.mesh import mean
from difflapse.measure.photometry import aperture_sums, default_annulus
from difflapse.model import FrameFacts, ProductGrid, bits
from difflapse.model.sightings import BLEED, CLOUD, STAR, Sightings
from difflapse.mosaic import bin_medians
from difflapse.pipeline import tasks
from difflapse.pipeline.context import Night
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.follow import CELL, COMET_FRAMES
from difflapse.pipeline.records import Canvas, Member, Pixels, Reference, Scene, Subtracted
from difflapse.pipeline.sensor import facts_with_gain

BELIEVED = 4.5
"""S/N over a place's own error below which nothing is believed."""
_CLEAR = 0.4
"""Transparency below which a difference tells of the cloud."""
_UNEVEN = 0.6
"""S/N of a line that is asked beyond what even noise makes: stars and clouds leave more, 14 in 24 simulated nights."""
_AT_STARS = 300
"""Sightings within the error of a bright star that are kept of one frame."""
PLACE_FRAMES = 48
"""Frames whose filtered difference is kept, to tell how restless a place is, ..."""
_FINE = 4
"""... in so many steps to a sigma."""
_RADIUS = 1.1
"""Of the aperture, over a star's FWHM."""


@dataclass(frozen=True, eq=False)
class Watch:
    """What sighting needs to know of the night."""

    starlight: Starlight
    fwhm: float
    """Of a star on the typical frame, native pixels, as the camera sees it."""
    width: float
    """The same on the products' grid, product pixels: resampling has widened it."""
    comet_frames: tuple[int, ...]
    """Frames whose small pictures are kept, by their place in the array ``cells``."""
    cell: int
    """Product pixels along one of their cells."""
    frames: int
    """Differences in which lines are looked for."""
    place_frames: tuple[int, ...]
    """Frames whose filtered difference is kept, by their place in the array ``places``; none without a template."""
    lanes: Lanes
    """Rows and columns that bright stars' light goes on along; none without a template."""
    inner: tuple[int, int, int, int]
    """First and last live column, first and last live row of the sensor."""


@dataclass(frozen=True, eq=False)
class Sighted:
    """What was sighted on one frame."""

    sightings: Sightings
    clear: bool
    """Whether its stars are believed."""
    scatter: np.ndarray
    """(n_bins,): of its filtered difference, where the template is so bright."""
    dark: np.ndarray
    """(m,) bool: lanes of the template that this frame lacks, for it does not hold their stars."""
    beside: np.ndarray
    """How much more it errs in rings about saturated pixels (`difflapse.changes.beside.errors`)."""


def prepare_watch(desk: Desk) -> None:
    """Find the stars that are always there, and lay out what each frame says of them; or say why not."""
    night = desk.night
    scene: Scene = night.shared("scene")
    if scene.mode == "none":
        return
    reason = _unfit(desk, scene)
    if reason:
        night.share("no_watch", reason)
        return
    reference: Reference = night.shared("reference")
    base: Member = night.shared("members")[reference.frame]
    canvas: Canvas = night.shared("canvas")
    if scene.mode == "template":
        data, bad = np.asarray(night.array("template")), np.asarray(night.array("template_count")) == 0
        frames = 1 + 1 / max(len(scene.template_frames), 1)
    else:
        still = tasks.kept_member(night, base)
        data, bad = still.data, (still.mask & ~np.uint8(bits.SATURATED)) != 0
        frames = 2.0 if scene.mode == "running" else 1.2
    widths = np.array([desk.value("quality", k).fwhm_pix for k in desk.alive()], float)
    fwhm = float(np.nanmedian(widths)) if np.isfinite(widths).any() else 2.0
    step = canvas.grid.step
    # A product pixel's own width, and the kernel's.
    width = float(np.hypot(fwhm / step, 0.75))
    starlight = find_starlight(
        data, scene.sky, frames * mean(base.noise.sky), mean(base.noise.photon), bad, canvas.grid, width
    )
    used = scene.used
    cell = max(1, CELL // step)
    # Where neighbours in time are subtracted, what moves makes the places on its way restless.
    kept = _of(used, PLACE_FRAMES) if scene.mode == "template" else ()
    lanes = Lanes.none()
    if scene.mode == "template":
        lanes = find_lanes(starlight, canvas.grid, _bright_beyond(desk, starlight, fwhm), 3 * fwhm)
    inner = reference.defects.inner(night.frames[reference.frame].shape)
    watch = Watch(starlight, fwhm, width, _of(used, COMET_FRAMES), cell, len(used), kept, lanes, inner)
    night.share("watch", watch)
    ny, nx = canvas.grid.shape
    night.make_array("cells", (len(watch.comet_frames), ny // cell, nx // cell), np.float32)
    if kept:
        night.make_array("places", (len(kept), ny, nx), np.int8)
    night.make_array("star_residuals", (len(night.frames), 2, max(len(starlight), 1)), np.float32)


def _bright_beyond(desk: Desk, starlight: Starlight, fwhm: float) -> np.ndarray:
    """Native pixels (b, 2) of the reference where stars lie that the template's frames hold beyond the products, of
    those as bright as stars that leave more than their wings.
    """
    night = desk.night
    grid: ProductGrid = night.shared("canvas").grid
    frames = night.shared("scene").template_frames
    places, flux, bright = [], [], []
    for k in frames:
        stars = desk.value("stars", k)
        x, y = (np.asarray(v) for v in desk.value("alignment", k).transform(stars.x, stars.y))
        i, j = grid.from_native(x, y)
        ny, nx = grid.shape
        on = (i >= 0) & (j >= 0) & (i <= nx - 1) & (j <= ny - 1)
        there = starlight.bins[np.rint(j[on]).astype(int), np.rint(i[on]).astype(int)]
        bright.append(stars.flux[on][there >= BRIGHT])
        off = np.isfinite(x + y) & ~on
        places.append(np.column_stack([x[off], y[off]]))
        flux.append(stars.flux[off])
    known = np.concatenate([*bright, np.zeros(0)])
    if not known.size:
        return np.zeros((0, 2))
    # The faintest of those that are as bright may lie beside one.
    found = np.concatenate(places)[np.concatenate(flux) >= np.percentile(known, 20)]
    return found[np.unique(np.round(found / fwhm), axis=0, return_index=True)[1]]


def link_options(night: Night, watch: Watch) -> LinkOptions:
    """How much is believed of tracks and places in this night."""
    scene: Scene = night.shared("scene")
    facts = night.frames[scene.used[0]]
    # Pixels of a mosaic differ in their colours: how sharp a point is, one of them does not tell.
    timed = len(night.times()) == len(night.frames) and not facts.mosaic
    exposure = (facts.exposure_s or 0.0) / 3600 if timed else 0.0
    area = night.shared("canvas").grid.native_area
    strengths = night.shared("strengths") if night.has("strengths") else None
    return LinkOptions(night.options.false_alarms, watch.fwhm, area, exposure, strengths)


def _of(used: Sequence[int], most: int) -> tuple[int, ...]:
    """At most so many of the frames, evenly over the night."""
    chosen = np.unique(np.linspace(0, len(used) - 1, min(len(used), most)).round().astype(int))
    return tuple(used[n] for n in chosen)


def places_of(night: Night, given: Mapping[int, Sighted], sightings: Sightings) -> np.ndarray:
    """What the clear frames show at the places of n sightings, (f, n), over what they show at like starlight.

    NaN where unknown.
    """
    watch: Watch = night.shared("watch")
    grid: ProductGrid = night.shared("canvas").grid
    i, j = grid.nearest(sightings.x, sightings.y)
    light = watch.starlight.bins[j, i]
    out = [
        np.asarray(night.array("places")[slot][j, i], float) / (_FINE * given[k].scatter[light])
        for slot, k in enumerate(watch.place_frames)
        if k in given and given[k].clear
    ]
    series = np.array(out).reshape(len(out), len(sightings))
    return np.where(series != 0, series, np.nan)


def _unfit(desk: Desk, scene: Scene) -> str:
    """Why nothing can be said to have changed in this night; empty if it can."""
    night = desk.night
    if night.shared("canvas").track is not None:
        return "the products follow a target, among which all stars move"
    if not scene.smooth:
        return "this is no field of stars: all of it may change"
    if len(scene.used) < 3:
        return f"{len(scene.used)} frames can be compared; 3 are needed"
    return ""


def sight(night: Night, k: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """Find and judge what stands out in the frame's difference, and write what its stars show."""
    difference: Subtracted = values["difference"]
    if difference.result is None or not night.has("watch"):
        return {"sighted": None}
    watch: Watch = night.shared("watch")
    canvas: Canvas = night.shared("canvas")
    grid = canvas.grid
    pixels: Pixels = values["pixels"]
    sigma, mask = difference.result.significance, difference.result.mask
    if k in watch.comet_frames:
        cells = bin_medians(sigma, None, watch.cell)
        night.write("cells", (watch.comet_frames.index(k), 0, 0), cells)
    floor = _UNEVEN + least_snr(sigma.size, watch.width, watch.frames, night.options.false_alarms)
    found, snr = search(sigma, grid, FindOptions(watch.width, streak_floor=floor), k, watch.starlight.bins)
    if k in watch.place_frames:
        kept = cv2.addWeighted(snr, _FINE, snr, 0, 0, dtype=cv2.CV_8S)
        night.write("places", (watch.place_frames.index(k), 0, 0), kept)
    transparency = 1.0 if values["scale"] is None else float(np.mean(values["scale"]))
    # Where no star tells how bright a frame is, it is clouded, unless that was not to be measured.
    clear = transparency >= _CLEAR if values["scale"] is not None else night.options.match == "none"
    back, facts = values["alignment"].transform.inverse, facts_with_gain(night, k)
    star_x, star_y = back(watch.lanes.x, watch.lanes.y)
    dark = off_frame(star_x, star_y, watch.inner, watch.fwhm)
    scatter = refuse.scatter_of(snr, watch.starlight)
    ring = beside.rings(mask, watch.width)
    error = beside.errors(snr, ring, watch.starlight.bins, scatter)
    if len(watch.starlight):
        residual, judged = star_residuals(snr, watch.starlight, grid)
        own = error[beside.at(watch.starlight.x, watch.starlight.y, ring, grid)]
        judged /= np.where(np.isfinite(own), own, np.nan)
        if not clear:
            judged[:] = np.nan
        judged[watch.lanes.cover(dark, watch.starlight.x, watch.starlight.y)] = np.nan
        night.write("star_residuals", (k, 0, 0), residual)
        night.write("star_residuals", (k, 1, 0), judged)
    found = refuse.by_starlight(found, snr, watch.starlight, grid, scatter=scatter)
    found = refuse.by_dipole(found, watch.fwhm, watch.starlight, grid)
    found = refuse.by_mask(found, mask, grid, watch.width)
    found = refuse.by_spike(found, snr, mask, watch.starlight.bins, grid, watch.width)
    found = beside.by_ring(found, ring, error, grid, BELIEVED)
    found = by_lanes(found, found.x, found.y, watch, dark)
    found = _kept(found)
    (x, y), (x_end, y_end) = back(found.x, found.y), back(found.x_end, found.y_end)
    found = refuse.by_rows(found, np.stack([x, x_end]), np.stack([y, y_end]), grid.step, watch.width)
    found = measured(
        found,
        x,
        y,
        facts,
        pixels.data,
        pixels.bad_bits,
        watch,
        grid,
        difference.template,
        1.0 / transparency,
    )
    found = refuse.by_border(found, watch.inner, watch.width * grid.step)
    if not clear:
        found = replace(found, flags=found.flags | CLOUD)
    return {"sighted": Sighted(found, clear, scatter, dark, error)}


def by_lanes(found: Sightings, x: np.ndarray, y: np.ndarray, watch: Watch, dark: np.ndarray) -> Sightings:
    """Flag points, at (x, y) of the reference, on lanes that the template has and the frame lacks: `BLEED`."""
    on = watch.lanes.cover(dark, x, y) & ~found.is_streak
    return replace(found, flags=np.where(on, found.flags | BLEED, found.flags))


def star_residuals(snr: np.ndarray, starlight: Starlight, grid: ProductGrid) -> tuple[np.ndarray, np.ndarray]:
    """What a filtered difference shows at the stars: relative to their light, and in units of its scatter there.

    Parameters
    ----------
    snr : ndarray, shape (ny, nx), float32
        Filtered difference, 0 where unknown.
    starlight : Starlight
        The stars, n.
    grid : ProductGrid
        Of the difference.

    Returns
    -------
    share, judged : ndarray, shape (n,)
        The star's light over the template's, less 1; and the same over the scatter that the frame shows at stars
        of like brightness. What all stars share (a little haze, a wider PSF, both varying over the field) is taken
        off. NaN where the star is masked.
    """
    i, j = (np.rint(v).astype(int) for v in grid.from_native(starlight.x, starlight.y))
    value = snr[j, i].astype(float)
    known = value != 0
    gain = np.maximum(starlight.gain, 1e-3)
    error = np.hypot(1.0, 0.02 * gain) / gain
    share = np.where(known, value / gain, np.nan)
    share = share - field_of(share, starlight.x, starlight.y, 1 / error**2)
    rest = np.where(known, share * gain, 0.0)
    bins = starlight.bins[j, i]
    middle, scatter = scatter_by_light(rest, bins)
    judged = np.where(known, (rest - middle[bins]) / scatter[bins], np.nan)
    return np.where(known, (rest - middle[bins]) / gain, np.nan), judged


def measured(
    found: Sightings,
    x: np.ndarray,
    y: np.ndarray,
    facts: FrameFacts,
    data: np.ndarray,
    bad: np.ndarray,
    watch: Watch,
    grid: ProductGrid,
    template: np.ndarray | None,
    brighten: float,
) -> Sightings:
    """Measure sightings on native pixels, at (x, y) of the frame, with the bits of its bad ones: their light, their
    shape.
    """
    if not len(found):
        return found
    radius = np.maximum(_RADIUS * watch.fwhm * np.maximum(found.width / (watch.width * grid.step), 1.0), 2.0)
    points = ~found.is_streak
    at_x, at_y = np.where(points, x, np.nan), np.where(points, y, np.nan)
    sums = aperture_sums(
        data,
        at_x,
        at_y,
        radius,
        facts.mosaic,
        None,
        facts.gain_e_adu,
        bad,
        default_annulus(2.5 * watch.fwhm),
    )
    flux, error = sums.flux * brighten, sums.error * brighten
    if template is not None:
        i, j = grid.from_native(found.x, found.y)
        inner, outer = default_annulus(2.5 * watch.fwhm)
        for c in range(len(template)):
            there = aperture_sums(
                template[c], np.where(points, i, np.nan), j, radius / grid.step,
                annulus=(inner / grid.step, outer / grid.step),
            )  # fmt: skip
            flux[c] -= there.flux[0] / np.maximum(there.area[0], 1e-3) * sums.area[c]
    share, contrast = refuse.spikes(data, at_x, at_y, facts.mosaic)
    found = refuse.by_native(found, share, contrast, flux, error, sums.area)
    green = 1 if len(flux) == 3 else 0
    return replace(
        found, x_frame=x, y_frame=y, flux=flux[green].astype(float), flux_err=error[green].astype(float)
    )


def _kept(found: Sightings) -> Sightings:
    """All but the weakest of the many that lie within a star's error."""
    at_star = np.flatnonzero((found.flags & STAR) != 0)
    keep = np.ones(len(found), bool)
    if len(at_star) > _AT_STARS:
        order = np.argsort(-np.abs(found.snr[at_star]), kind="stable")
        keep[at_star[order[_AT_STARS:]]] = False
    return found.take(keep)

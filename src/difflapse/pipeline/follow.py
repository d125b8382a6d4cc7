"""Following what moves: its track over the night, and the products' grid that goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from difflapse.align.track import on_the_reference
from difflapse.changes.comet import Comet, find_comet
from difflapse.errors import FrameError, InputError, OptionError
from difflapse.io.ephemeris import read_ephemeris
from difflapse.measure.mesh import window
from difflapse.model import Alignment, FrameFacts, Inventory, Quality, SkyPath, Track, bits
from difflapse.model.times import iso_utc
from difflapse.mosaic import bin_image, bin_medians
from difflapse.pipeline.config import RunOptions, parse_follow
from difflapse.pipeline.context import Night
from difflapse.pipeline.crop import centred_grid, parse_position, product_grid, size_pixels
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.external import external_of
from difflapse.pipeline.records import Canvas, Reference, SkyPlace
from difflapse.pipeline.tasks import levelled, read_pixels, warp_frame

CELL = 8
"""Native pixels along a cell of the pictures on which a comet is looked for."""
COMET_FRAMES = 40
"""Frames that are looked at for a comet, at most."""
SMALLEST = 24
"""Cells across a picture on which a comet is still looked for."""
_COARSER = (1, 2, 4)
"""Comas too wide for the cells are looked for on larger ones."""
_CLEAR = 0.5
"""Transparency below which a frame does not help to find a comet."""


def check_follow(inventory: Inventory, options: RunOptions) -> None:
    """Refuse, before anything is read, a target whose track cannot be told; raises OptionError or InputError."""
    path = _sky_path(options)
    if path is None:
        return
    for sequence in inventory.sequences:
        external = external_of(sequence.frames, options)
        if not options.solve and not any(
            f.wcs_header for f in ([external.facts] if external else sequence.frames)
        ):
            raise OptionError(
                f"--follow is a place on the sky, but no frame of {sequence.name} has a WCS",
                "--solve finds one with a plate solver; --follow comet needs none",
            )
        _check_times(path, sequence.frames)


def follow_target(desk: Desk) -> None:
    """Find where the target is on each frame, and lay the products' grid about it."""
    night = desk.night
    reference: Reference = night.shared("reference")
    options = night.options
    if not options.follow:
        night.share("canvas", Canvas(reference.grid))
        return
    path = _sky_path(options)
    track = _comet_track(desk) if path is None else _sky_track(night, path)
    desk.progress.note(f"following {track.name}: {track.note}")
    for k in desk.alive():
        if not np.isfinite(track.x[k] + track.y[k]):
            desk.fail(k, f"the place of {track.name} at its time is not known")
    if reference.frame in desk.failed:
        raise InputError(
            f"the place of {track.name} on the reference frame is not known: {desk.failed[reference.frame]}",
            "choose another --reference",
        )
    start = float(track.x[reference.frame]), float(track.y[reference.frame])
    mosaic = bool(night.frames[reference.frame].mosaic)
    if options.size and not options.center:
        w, h = size_pixels(_on_the_sky(night), options)
        step = reference.grid.step
        grid = centred_grid((h // step, w // step), step, *start)
    elif options.roi or options.center:
        grid = product_grid(_on_the_sky(night), options, mosaic)
    else:
        grid = reference.grid
    canvas = Canvas(grid, track, start)
    night.share("canvas", canvas)
    scales = desk.values["scale"]
    for k in desk.alive():
        if scales[k] is not None:
            scales[k] = window(scales[k], reference.grid, canvas.of(k))


def _sky_path(options: RunOptions) -> SkyPath | None:
    """The target's path over the sky; None where nothing or the comet is followed."""
    if not options.follow:
        return None
    wanted = parse_follow(options.follow)
    if wanted == "comet":
        return None
    if isinstance(wanted, str):
        if not Path(wanted).expanduser().is_file():
            raise OptionError(
                f"--follow is {wanted!r}; it must be comet, the file of an ephemeris, or RA,DEC@TIME twice or more",
                "there is no such file",
            )
        return read_ephemeris(Path(wanted).expanduser())
    places = sorted((_mjd(when), parse_position(ra, dec, "follow")) for ra, dec, when in wanted)
    mjd = np.array([when for when, _ in places])
    if np.any(np.diff(mjd) <= 0):
        raise OptionError("--follow gives two places for one time", "one place for each time")
    return SkyPath("target", mjd, *np.array([place for _, place in places]).T)


def _mjd(text: str) -> float:
    """MJD (UTC) of ISO text; without a zone it is UTC."""
    when = datetime.fromisoformat(text)
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
    return (when - datetime(1858, 11, 17, tzinfo=UTC)).total_seconds() / 86400


def _check_times(path: SkyPath, frames: Sequence[FrameFacts]) -> None:
    times = [f.mid_mjd for f in frames if f.mid_mjd is not None]
    if not times:
        raise OptionError("--follow is given for times, but the times of the frames are not known")
    first, last = float(path.mjd[0]), float(path.mjd[-1])
    span = f"{iso_utc(first, 0)} to {iso_utc(last, 0)}"
    night = f"{iso_utc(min(times), 0)} to {iso_utc(max(times), 0)}"
    # Readings are carried on: for as long again as they span, and for a night at most.
    reach = 0.0 if path.computed else min(last - first, 1.0)
    if max(times) < first - reach or min(times) > last + reach:
        raise OptionError(f"--follow is given for {span}; the night is {night} UTC", "is it another night's?")


def _sky_track(night: Night, path: SkyPath) -> Track:
    """The track of a known path, by the reference's WCS."""
    reference: Reference = night.shared("reference")
    times = np.array([np.nan if f.mid_mjd is None else f.mid_mjd for f in night.frames])
    try:
        x, y = on_the_reference(path, times, _on_the_sky(night).wcs_header)
    except FrameError as error:
        raise OptionError(
            f"--follow is a place on the sky: {error.message}", "--follow comet needs no WCS"
        ) from None
    ny, nx = reference.facts.shape
    with np.errstate(invalid="ignore"):
        seen = (x > -0.5) & (y > -0.5) & (x < nx - 0.5) & (y < ny - 0.5)
    if not seen.any():
        raise OptionError(
            f"{path.name} is on the reference's {nx}x{ny} pixels at none of the {len(times)} frames' times",
            "check the place, the times, and the order RA,DEC",
            {"found": 0, "needed": 1},
        )
    return Track(path.name, x, y, f"on the reference at the time of {int(seen.sum())} of {len(times)} frames")


def _on_the_sky(night: Night) -> FrameFacts:
    """The reference with the WCS that the night has found for it."""
    reference: Reference = night.shared("reference")
    sky: SkyPlace = night.shared("sky")
    return replace(reference.facts, wcs_header=sky.wcs_header)


def _comet_track(desk: Desk) -> Track:
    """Find the comet of the night, by its own light."""
    night = desk.night
    reference: Reference = night.shared("reference")
    clear = [k for k in desk.alive() if is_clear(desk, k)]
    spread = np.linspace(0, len(clear) - 1, min(len(clear), COMET_FRAMES)).round().astype(int)
    chosen = [clear[n] for n in np.unique(spread)]
    desk.progress.start("comet", len(chosen))
    pictures: dict[int, np.ndarray] = {}
    jobs = [(night, k, *(desk.value(name, k) for name in ("alignment", "quality", "scale"))) for k in chosen]
    for n, result in desk.pool.run(comet_picture, jobs):
        if isinstance(result, FrameError):
            desk.progress.note(
                f"{night.frames[chosen[n]].file} does not help to find the comet: {result.message}"
            )
        else:
            pictures[chosen[n]] = result
        desk.progress.advance("comet")
    desk.progress.finish("comet")
    known = all(f.mid_mjd is not None for f in night.frames)
    when = night.clock()
    frames = sorted(pictures)
    stack = np.stack([pictures[k] for k in frames]) if frames else np.zeros((0, 8, 8), np.float32)
    comet, coarser = find_on(stack, when[frames])
    cells = coarser * CELL // reference.grid.step
    u, v = comet.at(when)
    x, y = reference.grid.to_native(cells * u + (cells - 1) / 2, cells * v + (cells - 1) / 2)
    size = coarser * CELL
    rate = np.hypot(comet.rate_x, comet.rate_y) * size / (24 if known else 1)
    note = (
        f"found on {len(frames)} frames with {comet.snr:.0f} sigma, {size * comet.width:.0f} px wide, moving by "
        f"{rate:.1f} px per {'hour' if known else 'frame'}, its place good to {size * comet.uncertainty:.1f} px"
    )
    return Track("comet", x, y, note)


def is_clear(desk: Desk, k: int) -> bool:
    """Whether a frame has light enough to help find a comet."""
    scale = desk.value("scale", k)
    guessed = desk.value("alignment", k).method == "interpolated"
    return not guessed and (scale is None or float(np.mean(scale)) >= _CLEAR)


def find_on(stack: np.ndarray, times: np.ndarray) -> tuple[Comet, int]:
    """The comet on the finest cells that it fits on, and how many of the pictures' cells those are wide."""
    first: InputError | None = None
    for coarser in _COARSER:
        pictures = np.stack([bin_image(p, coarser) for p in stack]) if len(stack) else stack
        if min(pictures.shape[1:]) < SMALLEST and coarser > 1:
            break
        try:
            return find_comet(pictures, times), coarser
        except InputError as error:
            first = first or error
    assert first is not None
    raise first


def comet_picture(
    night: Night, k: int, alignment: Alignment, quality: Quality, scale: np.ndarray | None
) -> np.ndarray:
    """A small picture of a frame on the whole reference, all colours: the median in each cell, NaN outside."""
    reference: Reference = night.shared("reference")
    pixels = read_pixels(night, k, night.shared("defects"))
    science = warp_frame(night, k, pixels, alignment, quality, scale, reuse=True, grid=reference.grid)
    data = levelled(science, copy=False)
    weights = 1 / np.square(np.maximum(quality.noise_adu, 1e-6))
    grey = np.tensordot((weights / weights.sum()).astype(np.float32), data, axes=1)
    bad = (science.mask & (bits.OUTSIDE | bits.BLANK | bits.DEFECT)) != 0
    return bin_medians(grey, bad, max(1, CELL // reference.grid.step))

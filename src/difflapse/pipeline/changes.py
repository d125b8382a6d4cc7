"""What changed in the night: sightings linked and judged, `detections.ecsv` and `changes.ecsv`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from difflapse.align.wcs import celestial
from difflapse.changes import kinds, refuse
from difflapse.changes.coma import coma_strength
from difflapse.changes.comet import Comet, find_again
from difflapse.changes.find import distance_to_line
from difflapse.changes.link import link
from difflapse.changes.starlight import Starlight
from difflapse.changes.variability import Seen
from difflapse.changes.vary import find_variation
from difflapse.errors import FrameError, InputError
from difflapse.io.products import write_table
from difflapse.model.catalogue import Catalogue
from difflapse.model.sightings import (
    BLEED,
    COSMIC,
    DUST,
    EDGE,
    HOT,
    NEGATIVE,
    REFLECTION,
    STAR,
    Change,
    Sightings,
)
from difflapse.model.times import iso_utc
from difflapse.mosaic import bin_image
from difflapse.pipeline.change_tables import changes_table, detections_table
from difflapse.pipeline.context import Night
from difflapse.pipeline.curves import finish_curves
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.follow import SMALLEST, find_on
from difflapse.pipeline.records import Scene
from difflapse.pipeline.sight import BELIEVED, Sighted, Watch, link_options, places_of
from difflapse.pipeline.sky import place_of

_SPOILT = BLEED | DUST | EDGE | HOT | REFLECTION
"""What spoils a star's light curve on a frame."""
_COMA = 8.0
"""sigma of the light about a moving point from which on it is a comet."""
_COMA_LINE = 12.0
"""Widths of a coma up to which a line through it is its own."""
_LEAST_MAG = 0.005
"""Amplitude below which nothing is a variable: flat field and air do as much to the brightest stars of a field."""
_BORNE_OUT = 0.01
"""Chance that noise makes what a star's light curve and the differences show together, below which the star varies
though no frame shows it by itself."""
_COMA_IN_CURVES = 1.5
"""Widths of a comet within which its light falls into a star's circle, or into the ring that tells its sky."""
_IN_CIRCLE = 1.3
"""Radii of a star's circle within which light falls into it."""
_BRIGHT = 8.0
"""S/N of sightings that tell where a change is, ..."""
_BESIDE = 0.45
"""... and their distance from a star, in stars' widths, from which on the change is not the star's."""


def find_changes(desk: Desk) -> None:
    """Link what the frames showed, say what it is, and write `detections.ecsv` and `changes.ecsv`."""
    night = desk.night
    scene: Scene = night.shared("scene")
    if scene.mode == "none":
        return
    if night.has("no_watch"):
        reason = night.shared("no_watch")
        desk.progress.note(f"what changed was not looked for: {reason}")
        _write(desk, Sightings.empty(), np.zeros(0, int), [], reason)
        return
    given: dict[int, Sighted] = {
        k: v
        for k, v in sorted(desk.values.get("sighted", {}).items())
        if v is not None and k not in desk.failed
    }
    watch: Watch = night.shared("watch")
    sightings = Sightings.joined(v.sightings for v in given.values())
    area = night.shared("canvas").grid.native_area
    sightings = refuse.by_sensor(sightings, watch.fwhm, area, night.options.false_alarms)
    sightings = refuse.by_echo(sightings, watch.fwhm)
    sightings = refuse.by_pattern(sightings, watch.fwhm, len(given))
    series = places_of(night, given, sightings)
    # Stars are judged by their light curves, restless or not.
    at_star, _ = _nearest(sightings, watch.starlight.x, watch.starlight.y, 0.8 * watch.fwhm)
    series[:, at_star] = np.nan
    sightings = refuse.by_place(sightings, BELIEVED, series)
    sightings, owner, changes = judge_night(desk, watch, sightings, given)
    _write(desk, sightings, owner, changes, "")


def judge_night(
    desk: Desk, watch: Watch, sightings: Sightings, given: dict[int, Sighted]
) -> tuple[Sightings, np.ndarray, list[Change]]:
    """All changes of a night, and the change that each sighting belongs to (-1: none)."""
    night = desk.night
    scene: Scene = night.shared("scene")
    times = night.hours()
    bright = sightings.believed & ~sightings.is_streak & (sightings.snr > 0)
    night.share("strengths", np.sort(sightings.snr[bright]))
    reach = link_options(night, watch)
    comets = _comets(desk, watch, times)
    taken = np.zeros(len(sightings), bool)
    for comet in comets:
        near, _ = _near_path(sightings, comet, times, 1.0 * comet.width)
        taken |= near | _within(sightings, comet, times)
    # Movers first: a star that one passes does not vary.
    stars = watch.starlight
    x, y = stars.x, stars.y
    at_star, nearest = _nearest(sightings, x, y, 0.8 * watch.fwhm)
    linked = link(sightings, times, reach, taken | (at_star & _recurs(sightings, nearest, at_star)))
    moving = [c for c in linked if c.kind in ("mover", "streak")]
    resting = [c for c in moving if c.kind == "mover" and refuse.stays_on_sensor(sightings, c.members)]
    for c in resting:
        sightings = _flagged(sightings, c.members, HOT)
        moving.remove(c)
    moving = [_with_coma(desk, watch, c, times) if c.kind == "mover" else c for c in moving]
    share, judged = _light_curves(night, given, len(stars))
    for k, row in enumerate(sorted(given)):
        judged[k, _passed(x, y, row, [*moving, *comets], sightings, times, watch.fwhm)] = np.nan
        # Nor does a frame on which a spike, an edge or the sensor shows at the star.
        spoilt = at_star & (sightings.frame == row) & ((sightings.flags & _SPOILT) != 0)
        judged[k, nearest[spoilt]] = np.nan
    changes = [*comets, *moving]
    used = np.array([k for k in sorted(given) if given[k].clear], int)
    claimed = taken.copy()
    for c in moving:
        claimed[c.members] = True
    catalogue: Catalogue = night.shared("catalogue")
    passed = _disturbed(catalogue, len(night.frames), sightings)
    for k in given:
        passed[k] |= _passed(
            catalogue.x, catalogue.y, k, [*moving, *comets], sightings, times, watch.fwhm, _COMA_IN_CURVES
        )
    shown = judged if scene.mode == "template" else np.full_like(judged, np.nan)
    finish_curves(desk, _seen_of(catalogue, stars, sorted(given), shown, passed, 0.8 * watch.fwhm))
    if len(stars) and len(used):
        variation = find_variation(share, judged, _suspects(night, x, y, 0.8 * watch.fwhm))
        variation = variation.take(_are_there(variation.star, x, y, sightings, ~claimed, watch.fwhm))
        alone = _strongest_alone(variation.star, x, y, 3.0 * watch.fwhm)
        variation = variation.take(alone)
        members = [
            np.flatnonzero(at_star & (nearest == s) & ~claimed & sightings.believed) for s in variation.star
        ]
        if night.has("variability"):
            # What no frame shows by itself must show in the light on native pixels too, or it is the subtraction's.
            told = np.array([len(own) > 0 for own in members], bool)
            told |= _loud(night, x, y, 0.8 * watch.fwhm, _BORNE_OUT)[variation.star]
            variation, members = variation.take(told), [m for m, ok in zip(members, told, strict=True) if ok]
        changes += kinds.of_stars(variation, x, y, members, used)
        varying = np.zeros(len(stars), bool)
        varying[variation.star] = True
        # Beside a star that varies, its own wings do; at one that does not, the template errs.
        beside, _ = _nearest(sightings, x[varying], y[varying], 4.0 * watch.fwhm)
        flags = sightings.flags.copy()
        steady = at_star & ~varying[np.minimum(nearest, len(stars) - 1)] & ~claimed
        flags[steady & (scene.mode == "template")] |= STAR
        sightings = replace(sightings, flags=flags)
        claimed |= beside
    for c in [*comets, *moving]:
        if c.kind == "streak":
            continue
        near, now = _near_path(sightings, c, times, 1.5 * watch.fwhm)
        ghost = near & ~now & (sightings.snr < 0) & ~claimed
        sightings = replace(sightings, flags=np.where(ghost, sightings.flags | NEGATIVE, sightings.flags))
        claimed |= near
    for c in link(sightings, times, reach, claimed, moving=False):
        if c.kind == "transient" and refuse.rests_on_sensor(sightings, c.members):
            sightings = _flagged(sightings, c.members, HOT)
        elif c.kind == "transient" and refuse.lacks_light(sightings, c.members):
            sightings = _flagged(sightings, c.members, STAR)
        else:
            changes.append(c)
    single = [c for c in changes if c.kind == "unknown"]
    sightings = refuse.by_crowd(sightings, np.array([n for c in single for n in c.members], int))
    changes = [c for c in changes if c.kind != "unknown" or sightings.believed[c.members].all()]
    shape = night.shared("reference").facts.shape
    exposure = night.frames[scene.used[0]].exposure_s
    minutes = exposure / 60 if exposure else None
    out = []
    for c in changes:
        if c.kind == "streak":
            c = kinds.of_streak(c, sightings, shape, minutes, watch.width * night.shared("canvas").grid.step)
        out.append(c)
    if night.has("variability"):
        v = night.shared("variability")
        out = kinds.with_curves(out, v.star, v.x, v.y, v.amplitude_mag, 0.8 * watch.fwhm)
        out, sightings = _without_calm(out, sightings)
    out.sort(key=lambda c: -c.snr_all)
    owner = np.full(len(sightings), -1)
    for n, c in enumerate(out):
        owner[c.members] = n
        if c.kind == "comet":
            owner[_near_path(sightings, c, times, 0.6 * c.width)[1] & (owner < 0) & sightings.believed] = n
    return sightings, owner, out


def _flagged(sightings: Sightings, members: np.ndarray, flag: int) -> Sightings:
    """The sightings, some of them with one more flag."""
    flags = sightings.flags.copy()
    flags[members] |= flag
    return replace(sightings, flags=flags)


def _without_calm(changes: list[Change], sightings: Sightings) -> tuple[list[Change], Sightings]:
    """Changes but for variables whose amplitude is nothing, and their sightings as the star's error."""
    flags, kept = sightings.flags.copy(), []
    for c in changes:
        if c.kind == "variable" and c.amplitude_mag < _LEAST_MAG:
            flags[c.members] |= STAR
        else:
            kept.append(c)
    return kept, replace(sightings, flags=flags)


def _light_curves(night: Night, given: dict[int, Sighted], n: int) -> tuple[np.ndarray, np.ndarray]:
    """What frames show at the n stars: relative to their light, and judged; clouded frames are NaN."""
    frames = sorted(given)
    held = np.asarray(night.array("star_residuals"))[frames][:, :, :n]
    clear = np.array([given[k].clear for k in frames], bool)
    judged = np.where(clear[:, None], held[:, 1], np.nan)
    return np.where(np.isfinite(judged), held[:, 0], np.nan), judged


def begin_comet(desk: Desk) -> None:
    """Begin to look for the night's comet on all clear frames, beside what else is done with their results."""
    night = desk.night
    if night.shared("scene").mode == "none" or night.has("no_watch"):
        return
    watch: Watch = night.shared("watch")
    clear = _clear_slots(desk, watch)
    desk.begin("comet", look_for_comet, night, watch.cell, *clear)


def look_for_comet(night: Night, cell: int, slots: list[int], frames: list[int]) -> tuple[Comet, int] | None:
    """The comet on the small pictures of the differences (in the night's hours), and how many of their cells those it
    was found on are wide; None where there is none.

    One that the template's frames showed is followed; only without one is the whole picture searched.
    """
    stack = np.asarray(night.array("cells"))[slots]
    if len(frames) < 4 or min(stack.shape[1:]) < SMALLEST:
        return None
    if night.has("comet"):
        known, coarser = night.shared("comet")
        pictures = np.stack([bin_image(p, coarser) for p in stack])
        found = find_again(pictures, night.clock()[frames], known)
        if found is not None:
            return _in_hours(night, found), coarser
    try:
        return find_on(stack, night.hours()[frames])
    except InputError:
        return None


def _in_hours(night: Night, comet: Comet) -> Comet:
    """A comet whose time is the night's clock, by its hours."""
    if len(night.times()) < len(night.frames):
        return comet  # both count frames
    time = (comet.time - float(night.clock().min())) * 24
    return replace(comet, time=time, rate_x=comet.rate_x / 24, rate_y=comet.rate_y / 24)


def _comets(desk: Desk, watch: Watch, times: np.ndarray) -> list[Change]:
    """The comet of the night, if there is one."""
    found = desk.take("comet")
    if found is None or isinstance(found, FrameError):
        return []
    comet, coarser = found
    grid = desk.night.shared("canvas").grid
    side = coarser * watch.cell
    x0, y0 = grid.to_native((side - 1) / 2, (side - 1) / 2)
    given = desk.values.get("sighted", {})
    used = np.array([k for k in sorted(given) if given[k] is not None], int)
    return [kinds.of_comet(comet, side * grid.step, (float(x0), float(y0)), times, used)]


def _with_coma(desk: Desk, watch: Watch, change: Change, times: np.ndarray) -> Change:
    """A mover, or the comet that it is: too faint a coma to be found alone is seen about the point in it."""
    slots, frames = (np.array(numbers, int) for numbers in _clear_slots(desk, watch))
    inside = (frames >= change.first_frame) & (frames <= change.last_frame)
    if inside.sum() < 4:
        return change
    grid, side = desk.night.shared("canvas").grid, watch.cell
    x, y = (v[frames[inside]] for v in _position(change, times))
    i, j = grid.from_native(x, y)
    cells = desk.night.array("cells")
    pictures = [cells[slot] for slot in slots[inside]]
    strength = coma_strength(pictures, (i - (side - 1) / 2) / side, (j - (side - 1) / 2) / side)
    if strength < _COMA:
        return change
    width = 3 * side * grid.step
    note = f"a moving point with a coma of {strength:.0f} sigma about it"
    return replace(change, kind="comet", width=float(width), note=note)


def _clear_slots(desk: Desk, watch: Watch) -> tuple[list[int], list[int]]:
    """Where small pictures of clear frames were kept, and of which frames."""
    given = desk.values.get("sighted", {})
    kept = [
        (slot, k)
        for slot, k in enumerate(watch.comet_frames)
        if given.get(k) is not None and given[k].clear and k not in desk.failed
    ]
    return [slot for slot, _ in kept], [k for _, k in kept]


def _suspects(night: Night, x: np.ndarray, y: np.ndarray, reach: float) -> np.ndarray:
    """Which of the stars at (x, y) vary by their light curves, by fewer false alarms than are asked for."""
    if not night.has("variability"):
        return np.zeros(len(x), bool)
    tested = max(night.shared("variability").tested, 1)
    return _loud(night, x, y, reach, night.options.false_alarms / tested)


def _loud(night: Night, x: np.ndarray, y: np.ndarray, reach: float, chance: float) -> np.ndarray:
    """Which of the stars at (x, y) have a light curve within `reach` that noise makes with less than that chance."""
    out = np.zeros(len(x), bool)
    v = night.shared("variability")
    with np.errstate(invalid="ignore"):
        loud = np.flatnonzero(v.false_alarm < chance)
    if len(loud) and len(x):
        from scipy.spatial import cKDTree

        near = cKDTree(np.column_stack([v.x[loud], v.y[loud]])).query(
            np.column_stack([x, y]), distance_upper_bound=reach
        )[0]
        out |= np.isfinite(near)
    return out


def _nearest(
    sightings: Sightings, x: np.ndarray, y: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each point lies at one of the stars, and which (the number of stars where at none)."""
    from scipy.spatial import cKDTree

    if not len(x) or not len(sightings):
        return np.zeros(len(sightings), bool), np.full(len(sightings), len(x))
    distance, index = cKDTree(np.column_stack([x, y])).query(
        np.column_stack([sightings.x, sightings.y]), distance_upper_bound=radius
    )
    return np.isfinite(distance) & ~sightings.is_streak, index


def _recurs(sightings: Sightings, nearest: np.ndarray, at_star: np.ndarray) -> np.ndarray:
    """Whether sightings at a star are among three or more there."""
    n = int(nearest.max(initial=0)) + 1
    counts = np.bincount(nearest[at_star & sightings.believed], minlength=n)
    return np.asarray(counts[nearest] >= 3)


def _near_path(
    sightings: Sightings, change: Change, times: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Which points lie within a radius of a moving thing's whole path, and of where it is on their frame."""
    x, y = _position(change, times)
    now = np.hypot(sightings.x - x[sightings.frame], sightings.y - y[sightings.frame]) < radius
    dx, dy = change.x_end - change.x, change.y_end - change.y
    t = ((sightings.x - change.x) * dx + (sightings.y - change.y) * dy) / max(dx * dx + dy * dy, 1e-9)
    t = np.clip(t, 0, 1)
    away = np.hypot(sightings.x - change.x - t * dx, sightings.y - change.y - t * dy)
    points = ~sightings.is_streak
    return ((away < radius) | now) & points, now & points


def _within(sightings: Sightings, comet: Change, times: np.ndarray) -> np.ndarray:
    """Which streaks are no more than the line along which a coma is brightest: they cross it, and end near it."""
    x, y = (v[sightings.frame] for v in _position(comet, times))
    dx, dy = sightings.x_end - sightings.x, sightings.y_end - sightings.y
    length = np.hypot(dx, dy)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.clip(((x - sightings.x) * dx + (y - sightings.y) * dy) / length**2, 0, 1)
        away = np.hypot(sightings.x + t * dx - x, sightings.y + t * dy - y)
        return np.asarray(sightings.is_streak & (away < comet.width) & (length < _COMA_LINE * comet.width))


def _position(change: Change, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a moving thing is on each frame."""
    since = times - times[change.first_frame]
    return change.x + change.rate_x * since, change.y + change.rate_y * since


def _passed(
    x: np.ndarray,
    y: np.ndarray,
    frame: int,
    moving: list[Change],
    sightings: Sightings,
    times: np.ndarray,
    fwhm: float,
    coma: float = 0.6,
) -> np.ndarray:
    """Which stars something passes on this frame, so that it says nothing of their light; a comet within so many of its
    widths.
    """
    stars = Sightings(np.full(len(x), frame), x, y, np.zeros(len(x)), np.zeros(len(x)), np.zeros(len(x), int))
    out = np.zeros(len(x), bool)
    for c in moving:
        if c.kind == "streak":
            for n in c.members[sightings.frame[c.members] == frame]:
                out |= distance_to_line(stars, sightings, int(n)) < 4 * fwhm
            continue
        px, py = _position(c, times)
        radius = coma * c.width if c.kind == "comet" else 3.0 * fwhm
        dx, dy = x - px[frame], y - py[frame]
        out |= dx * dx + dy * dy < radius * radius
    return out


def _disturbed(catalogue: Catalogue, n_frames: int, sightings: Sightings) -> np.ndarray:
    """(n_frames, n) bool: into the circle of which stars falls what the sensor or a bright star made."""
    from scipy.spatial import cKDTree

    out = np.zeros((n_frames, len(catalogue)), bool)
    rows = np.flatnonzero(((sightings.flags & (_SPOILT | COSMIC)) != 0) & ~sightings.is_streak)
    if len(rows) and len(catalogue):
        tree = cKDTree(np.column_stack([catalogue.x, catalogue.y]))
        xy = np.column_stack([sightings.x[rows], sightings.y[rows]])
        near = tree.query_ball_point(xy, _IN_CIRCLE * catalogue.radius)
        for frame, stars in zip(sightings.frame[rows], near, strict=True):
            out[frame, stars] = True
    return out


def _seen_of(
    catalogue: Catalogue,
    stars: Starlight,
    frames: list[int],
    light: np.ndarray,
    passed: np.ndarray,
    reach: float,
) -> Seen:
    """What the differences show of the stars whose light curves are made.

    `light` is what they show of their own stars on some of the night's frames.
    """
    n = len(catalogue)
    nothing, none = np.zeros(n), np.zeros(n, int)
    there = Sightings(none, catalogue.x, catalogue.y, nothing, nothing, none)
    at_star, nearest = _nearest(there, stars.x, stars.y, reach)
    own = np.flatnonzero(at_star)
    judged = np.full(passed.shape, np.nan, np.float32)
    judged[np.ix_(np.array(frames, int), own)] = light[:, nearest[own]]
    return Seen(judged, passed)


def _are_there(
    stars: np.ndarray, x: np.ndarray, y: np.ndarray, sightings: Sightings, free: np.ndarray, fwhm: float
) -> np.ndarray:
    """Which of the varying stars the difference shows where they are: the others have a changing thing beside them."""
    rows = np.flatnonzero(
        sightings.believed & free & ~sightings.is_streak & (np.abs(sightings.snr) > _BRIGHT)
    )
    keep = []
    for i, s in enumerate(stars):
        away = np.hypot(sightings.x[rows] - x[s], sightings.y[rows] - y[s])
        near = rows[away < 2.0 * fwhm]
        if len(near) >= 2:
            # Not their mean: one strong particle beside a star would be a changing thing there.
            mx, my = float(np.median(sightings.x[near])), float(np.median(sightings.y[near]))
            if np.hypot(mx - x[s], my - y[s]) > _BESIDE * fwhm:
                continue
        keep.append(i)
    return np.array(keep, int)


def _strongest_alone(stars: np.ndarray, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Which of the varying stars, most certain first, have no more certain one within a radius: the wings of one."""
    keep: list[int] = []
    for i, s in enumerate(stars):
        if all(np.hypot(x[s] - x[stars[j]], y[s] - y[stars[j]]) > radius for j in keep):
            keep.append(i)
    return np.array(keep, int)


def _write(desk: Desk, sightings: Sightings, owner: np.ndarray, changes: list[Change], reason: str) -> None:
    """Write both tables."""
    night = desk.night
    place = place_of(night)
    wcs: Any = celestial(place.wcs_header) if place else None
    known = all(f.mid_mjd is not None for f in night.frames)
    mjd = [f.mid_mjd for f in night.frames]
    time = [iso_utc(t) if t is not None else None for t in mjd]
    meta = {"diff": night.shared("scene").mode, "false_alarms": night.options.false_alarms}
    if reason:
        meta["note"] = reason
    folder = Path(night.out)
    write_table(folder / "detections.ecsv", detections_table(sightings, owner, time, wcs, meta))
    write_table(folder / "changes.ecsv", changes_table(changes, owner, time, wcs, known, meta))
    desk.products += ["detections.ecsv", "changes.ecsv"]

"""The reel: a clip of every change, magnified, and the best of them in one movie to show. Made after the movie."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from difflapse.difference import Science, Template
from difflapse.difference import subtract as take_difference
from difflapse.difference.mesh import constant, mean, window
from difflapse.errors import FrameError
from difflapse.measure.photometry import aperture_sums, bad_map
from difflapse.model import Alignment, ProductGrid, Quality, bits
from difflapse.model.times import iso_utc
from difflapse.movie import clip
from difflapse.movie.clip import SIDE, Curve, clip_picture, fitted, title_card
from difflapse.movie.diverging import difference_panel
from difflapse.movie.encode import Encoder
from difflapse.movie.join import join
from difflapse.movie.layout import Layout, make_layout
from difflapse.movie.stretch import aligned_panel
from difflapse.pipeline import pictures
from difflapse.pipeline.context import Night
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.drawing import marked
from difflapse.pipeline.metadata import movie_metadata
from difflapse.pipeline.records import Canvas, Reference, Scene
from difflapse.pipeline.sensor import gain_of
from difflapse.pipeline.tasks import levelled, read_pixels, warp_frame

FOLDER, BEST = "clips", "highlights.mp4"
MOST_CLIPS = 12
MOST_FRAMES = 60
"""Of the night in a clip: more are passed over evenly."""
IN_BEST = 6
COST = 0.45
"""Part of the night's pixels that is read again for all clips, at most (but the best six are made in any case)."""
_FPS = 12
_CLIP_S, _LAST_S, _TITLE_S, _NIGHT_S, _LEAST_S = 5.0, 1.0, 2.5, 8.0, 10.0
_HALF, _MOST_HALF = 24, 100
"""Product pixels from the middle of a window to its edge: about a point, and at most."""
_MARGIN = 24
"""Native rows that are read beyond a window, for kernels and the ring of the photometry."""
_CLEAR = 0.3
"""Transparency below which a frame tells no brightness."""
_ORDER = ("comet", "transient", "mover", "variable", "streak", "unknown")


@dataclass(frozen=True)
class Subject:
    """One change, as a clip shows it."""

    number: int
    kind: str
    stem: str
    """Name of the clip, without ending."""
    title: str
    subtitle: str
    frames: tuple[int, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    """Where it is in each of them, native pixels of the reference."""
    corner: tuple[int, int]
    """(i, j) of the window on the product grid."""
    shape: tuple[int, int]
    """(ny, nx) of the window."""
    first: int
    last: int
    """Frames in which it was sighted first and last."""


def make_reel(desk: Desk) -> None:
    """Make the clips, and of the best of them `highlights.mp4`; nothing where nothing changed."""
    night = desk.night
    if not night.options.reel:
        return
    table = _table(Path(night.out) / "changes.ecsv")
    if table is None or not len(table):
        return
    subjects = _choose(desk, table)
    place = Path(night.out) / FOLDER
    place.mkdir(exist_ok=True)
    desk.progress.start("reel", len(subjects))
    jobs = [
        (night, s, {k: tuple(desk.value(n, k) for n in ("alignment", "quality", "scale")) for k in s.frames})
        for s in subjects
    ]
    made: list[Subject] = []
    for n, result in desk.pool.run(make_clip, jobs):
        if isinstance(result, FrameError):
            desk.progress.note(f"no clip of {subjects[n].title}: {result.message}")
        else:
            made.append(subjects[n])
            desk.products.append(f"{FOLDER}/{subjects[n].stem}.mp4")
        desk.progress.advance("reel")
    if made:
        _highlights(desk, [s for s in subjects if s in made], len(table))
    desk.progress.finish("reel")


def make_clip(night: Night, subject: Subject, known: Mapping[int, Any]) -> None:
    """Cut a change out of its frames, draw it, and encode the clip."""
    scene: Scene = night.shared("scene")
    cuts = [_cut(night, subject, n, *known[k]) for n, k in enumerate(subject.frames)]
    template = _template(night, scene, subject, [c.science for c in cuts])
    canvas: Canvas = night.shared("canvas")
    part = _part(canvas.grid, subject)
    side = min(SIDE, SIDE * subject.shape[1] // subject.shape[0])  # the longer side fills the panel
    small = make_layout(("aligned",), part.shape, part.step, part.origin, side, "none", _FPS)
    to_panel = small.native_to_movie("aligned")
    times = [night.frames[k].mid_mjd for k in subject.frames]
    curve = _curve(subject, cuts, times)
    before = _panel(scene, template.data, template.count == 0, small, subject)
    words = {"title": subject.title, "comment": subject.subtitle}
    stays = clip_stays(len(cuts))
    path = Path(night.out) / FOLDER / f"{subject.stem}.mp4"
    with Encoder(path, (clip.WIDTH, clip.HEIGHT), _FPS, words, threads=1, variable=True) as encoder:
        for n, (k, cut) in enumerate(zip(subject.frames, cuts, strict=True)):
            science = _panel(scene, cut.light, cut.hidden, small, subject)
            result = _difference(cut.science, template, scene.own_weight.get(k, 0.0))
            vmax = scene.vmax if night.options.units == "sigma" else 10.0
            residual = difference_panel(result.combined, result.mask != 0, small, vmax, "sigma", 1.0)
            dx, dy = canvas.shift(k)
            u, v = to_panel @ (subject.x[n] - dx, subject.y[n] - dy, 1.0)
            # What fills the panel needs no frame around it.
            at = None if subject.kind in ("streak", "comet") else (float(u), float(v))
            when = times[n]
            picture = clip_picture(
                subject.title,
                subject.subtitle,
                f"{iso_utc(when, 0).replace('T', ' ')} UTC" if when is not None else f"frame {k}",
                {"this frame": science, "template": before, "difference, in sigma": residual},
                (at, at, at),
                curve,
                n,
                subject.first <= k <= subject.last,
            )
            encoder.write(picture, stays[n])


def clip_stays(frames: int) -> list[float]:
    """Seconds that each picture of a clip stays."""
    stays = [min(_CLIP_S / frames, 0.5)] * frames
    stays[-1] += _LAST_S
    return stays


def night_stay(pictures: int, clips: Sequence[float]) -> float:
    """Seconds that each of the night's pictures stays in the highlights, beside clips of so many seconds.

    At most eight in all; longer where the whole would otherwise be over in less than ten.
    """
    left = _LEAST_S - _TITLE_S - sum(clips)
    return max(min(_NIGHT_S / pictures, 0.25), min(left / pictures, 2.0))


@dataclass(frozen=True, eq=False)
class _Cut:
    """A change in one frame."""

    science: Science
    light: np.ndarray
    """(c, h, w): as the aligned panel shows it."""
    hidden: np.ndarray
    flux: float
    error: float


def _cut(
    night: Night, subject: Subject, n: int, alignment: Alignment, quality: Quality, scale: np.ndarray | None
) -> _Cut:
    """The window of one frame, from the rows of its file that it needs; and its light, on native pixels."""
    k = subject.frames[n]
    facts = night.frames[k]
    canvas: Canvas = night.shared("canvas")
    reference: Reference = night.shared("reference")
    whole = canvas.of(k)
    part = _part(whole, subject)
    pixels = read_pixels(night, k, night.shared("defects"), _rows(alignment, part, facts.shape[0]))
    local = None if scale is None else window(np.asarray(scale), whole, part)
    science = warp_frame(night, k, pixels, alignment, quality, local, grid=part)
    shift = np.asarray(reference.background_adu) - science.noise.level * np.asarray(quality.background_adu)
    hidden = (science.mask & (bits.OUTSIDE | bits.BLANK)) != 0
    radius = float(np.clip(1.5 * quality.fwhm_pix, 3, 9)) if np.isfinite(quality.fwhm_pix) else 4.0
    x, y = (
        np.atleast_1d(v)
        for v in alignment.transform.inverse(np.array([subject.x[n]]), np.array([subject.y[n]]))
    )
    sums = aperture_sums(
        pixels.data, x, y, radius, facts.mosaic, np.asarray(quality.noise_adu)[:, None], gain_of(night, facts),
        bad_map(facts.shape, pixels.bad.x, pixels.bad.y, pixels.bad.bit),
    )  # fmt: skip
    c = 1 if len(sums.flux) == 3 else 0
    factor = 1.0 if local is None else 1 / float(np.mean(local[c]))
    bad = bool(sums.flags[0] & (bits.OUTSIDE | bits.BLANK | bits.SATURATED)) or factor > 1 / _CLEAR
    flux, error = (float("nan") if bad else float(v[c, 0]) * factor for v in (sums.flux, sums.error))
    light = science.data + shift.astype(np.float32)[:, None, None]
    return _Cut(science, light, hidden, flux, error)


def _part(whole: ProductGrid, subject: Subject) -> ProductGrid:
    i, j = subject.corner
    origin = (whole.origin[0] + whole.step * i, whole.origin[1] + whole.step * j)
    return ProductGrid(subject.shape, whole.step, origin)


def _rows(alignment: Alignment, part: ProductGrid, ny: int) -> tuple[int, int]:
    """Rows of a frame that a window needs."""
    i, j = (np.linspace(-0.5, n - 0.5, 5) for n in reversed(part.shape))
    _, y = alignment.transform.inverse(*part.to_native(*np.meshgrid(i, j)))
    seen = np.asarray(y)[np.isfinite(y)]
    low, high = (int(seen.min()), int(seen.max()) + 1) if seen.size else (0, ny)
    first = min(max(0, low - _MARGIN), ny - 8)
    return first, max(first + 8, min(ny, high + _MARGIN))


def _template(night: Night, scene: Scene, subject: Subject, sciences: list[Science]) -> Template:
    """What is subtracted in the window: the night's template, or the median of its frames where it has none."""
    (i, j), (high, wide) = subject.corner, subject.shape
    rows, cols = slice(j, j + high), slice(i, i + wide)
    grid = night.shared("canvas").grid
    sky = window(np.asarray(scene.sky), grid, _part(grid, subject))
    if scene.mode == "template":
        data, variance, count = (
            np.array(night.array(name)[..., rows, cols])
            for name in ("template", "template_variance", "template_count")
        )
        return Template(data, variance, count, sky, scene.template_correlation)
    stack = []
    for science in sciences:
        data = levelled(science)
        data -= np.median(data, axis=(1, 2), keepdims=True)
        data[:, science.mask != 0] = np.nan
        stack.append(data)
    seen = np.isfinite(stack).all(1).sum(0)
    with np.errstate(all="ignore"):
        middle = np.where(seen > 0, np.nan_to_num(np.nanmedian(np.where(seen > 0, stack, 0), axis=0)), 0)
    level = np.mean(sky, axis=(1, 2))[:, None, None]
    noise = np.mean([mean(s.noise.sky) for s in sciences], axis=0)[:, None, None]
    variance = np.broadcast_to(1.57 * noise / np.maximum(seen, 1), middle.shape).astype(np.float32)
    return Template(
        (middle + level).astype(np.float32), variance, np.minimum(seen, 255).astype(np.uint8), sky
    )


def _difference(science: Science, template: Template, own: float) -> Any:
    """The window's difference in sigma; its background is matched by its median, for it is small."""
    data = levelled(science)
    good = (science.mask == 0) & (template.count > 0)
    offset = [float(np.median(d[good])) if good.any() else 0.0 for d in data - template.data]
    return take_difference(replace(science, offset=constant(offset)), template, own, "sigma")


def _panel(
    scene: Scene, light: np.ndarray, hidden: np.ndarray, small: Layout, subject: Subject
) -> np.ndarray:
    """A picture of the window in the night's stretch."""
    level = None
    if scene.level is not None:
        (i, j), (ny, nx) = subject.corner, scene.layout.shape
        a = round(min(j / max(1, ny - 1), 1) * (scene.level.shape[1] - 1))
        b = round(min(i / max(1, nx - 1), 1) * (scene.level.shape[2] - 1))
        level = constant([float(v) for v in scene.level[:, a, b]])
    return aligned_panel(light, hidden, scene.stretch, small, level)


def _curve(subject: Subject, cuts: list[_Cut], times: list[float | None]) -> Curve:
    """The change's light in each frame of the clip, in the reference's ADU."""
    known = [t for t in times if t is not None]
    whole = len(known) == len(times)
    clock = np.array(known if whole else range(len(times)), float)
    ends = tuple(
        f"{iso_utc(clock[n], 0)[11:16]} UTC" if whole else f"frame {subject.frames[n]}" for n in (0, -1)
    )
    what = "at its middle" if subject.kind in ("streak", "comet") else "where it is"
    label = f"light {what}, ADU above the sky around it, on the camera's own pixels"
    flux, error = (np.array([getattr(c, name) for c in cuts]) for name in ("flux", "error"))
    return Curve(clock, flux, error, label, (ends[0], ends[1]))


def _choose(desk: Desk, table: Any) -> list[Subject]:
    """The changes that get a clip, the best first: kinds take turns, so that no kind crowds out the others."""
    night = desk.night
    frames = [k for k in desk.alive() if desk.value("alignment", k).method != "interpolated"]
    queues = {
        kind: sorted(
            (row for row in table if str(row["kind"]) == kind), key=lambda row: -abs(_number(row, "snr"))
        )
        for kind in dict.fromkeys([*_ORDER, *(str(kind) for kind in table["kind"])])
    }
    ranked = []
    while any(queues.values()):
        ranked += [queue.pop(0) for queue in queues.values() if queue]
    chosen: list[Subject] = []
    cost = 0.0
    ny = night.frames[0].shape[0]
    for row in ranked:
        subject = _subject(night, row, frames)
        if subject is None:
            continue
        step = night.shared("canvas").grid.step
        share = min(1.0, (subject.shape[0] * step + 2 * _MARGIN) / ny)
        share *= len(subject.frames) / max(1, len(frames))
        if len(chosen) >= IN_BEST and cost + share > COST:
            continue
        cost += share
        chosen.append(subject)
        if len(chosen) == MOST_CLIPS:
            break
    return chosen


def _subject(night: Night, row: Any, frames: list[int]) -> Subject | None:
    """What a row of `changes.ecsv` says, for a clip; None where it lies outside of the products."""
    canvas: Canvas = night.shared("canvas")
    grid = canvas.grid
    kind, number = str(row["kind"]), int(row["change"])
    first, last = (int(_number(row, name, frames[n])) for name, n in (("first_frame", 0), ("last_frame", -1)))
    x0, y0 = _number(row, "x_pix"), _number(row, "y_pix")
    x1, y1 = _number(row, "x_end_pix", x0), _number(row, "y_end_pix", y0)
    if not np.isfinite([x0, y0, x1, y1]).all():
        return None
    if kind == "streak":  # it is there once: a few frames before and after say so
        near = [n for n, k in enumerate(frames) if first <= k <= last] or [0]
        frames = frames[max(0, near[0] - 6) : near[-1] + 7]
    spread = np.linspace(0, len(frames) - 1, min(MOST_FRAMES, len(frames))).round().astype(int)
    shown = sorted({frames[n] for n in spread} | {k for k in (first, last) if k in frames})
    moves = kind in ("mover", "comet") and last > first
    part = np.full(len(shown), 0.5 if kind == "streak" else 0.0)
    if moves:
        times = [night.frames[k].mid_mjd for k in (*shown, first, last)]
        clock = np.array(times if None not in times else (*shown, first, last), float)
        part = (clock[:-2] - clock[-2]) / (clock[-1] - clock[-2])
    x, y = x0 + part * (x1 - x0), y0 + part * (y1 - y0)
    ends_x, ends_y = ([x0, x1], [y0, y1]) if kind == "streak" else (x, y)
    i, j = grid.from_native(
        np.array([np.min(ends_x), np.max(ends_x)]), np.array([np.min(ends_y), np.max(ends_y)])
    )
    width = _number(row, "width_pix", 0.0) / grid.step
    half = max(_HALF, 0.5 * float(max(np.ptp(i), np.ptp(j))) + max(12, 1.5 * width), 2.5 * width)
    size = 2 * round(min(half, _MOST_HALF))
    high, wide = min(size, grid.shape[0]), min(size, grid.shape[1])
    corner = tuple(
        min(max(0, round(float(np.mean(v)) - n / 2)), most - n)
        for v, n, most in ((i, wide, grid.shape[1]), (j, high, grid.shape[0]))
    )
    if not (-size < np.mean(i) < grid.shape[1] + size and -size < np.mean(j) < grid.shape[0] + size):
        return None
    name = str(row["name"]) if "name" in row.colnames else ""
    stem = re.sub(r"[^\w.+-]+", "-", name) or f"change-{number:03d}"
    return Subject(
        number, kind, stem, name or f"{kind} {number}", _about(night, row, kind, first, last), tuple(shown),
        tuple(x.tolist()), tuple(y.tolist()), (corner[0], corner[1]), (high, wide), first, last,
    )  # fmt: skip


def _about(night: Night, row: Any, kind: str, first: int, last: int) -> str:
    """The figures of a change, in a line."""
    said = [f"best S/N {abs(_number(row, 'snr')):.0f}"]
    if np.isfinite(amplitude := _number(row, "amplitude_mag")):
        said.append(f"changes by {amplitude:.2f} mag")
    if np.isfinite(rate := _number(row, "rate_arcsec_per_hour")):
        said.append(f"moves by {rate:.0f} arcsec an hour")
    elif np.isfinite(rate := _number(row, "rate_pix_per_hour")):
        said.append(f"moves by {rate:.1f} px an hour")
    ra, dec = _number(row, "ra_deg"), _number(row, "dec_deg")
    if np.isfinite(ra + dec):
        said.append(f"RA {ra:.4f} Dec {dec:+.4f}")
    times = [night.frames[k].mid_mjd for k in (first, last) if 0 <= k < len(night.frames)]
    if kind in ("streak", "transient") and times and times[0] is not None:
        said.append(f"first seen {iso_utc(times[0], 0)[11:]} UTC")
    return ", ".join(said)


def _highlights(desk: Desk, subjects: list[Subject], n_changes: int) -> None:
    """The title, the night in a few seconds, and the best clips, one after another."""
    night = desk.night
    scratch, place = Path(night.scratch), Path(night.out)
    size = (clip.WIDTH, clip.HEIGHT)
    frames = desk.alive()
    words = movie_metadata(night, frames, {})
    times = night.times(frames)
    title = night.frames[0].object or night.name
    lines = [title]
    if times:
        hours = 24 * (max(times) - min(times))
        lines.append(f"{iso_utc(min(times), 0)[:10]}, {len(frames)} frames in {hours:.1f} hours")
    lines += [f"{n_changes} things changed" if n_changes > 1 else "one thing changed"]
    parts = [scratch / "title.mp4"]
    with Encoder(parts[0], size, _FPS, threads=1, variable=True) as encoder:
        encoder.write(title_card(lines), _TITLE_S)
    if pictures.all_kept(night):
        parts.append(scratch / "night.mp4")
        most = round(_NIGHT_S * _FPS / 2)
        shown = [
            frames[n]
            for n in np.unique(np.linspace(0, len(frames) - 1, min(most, len(frames))).round().astype(int))
        ]
        stay = night_stay(len(shown), [sum(clip_stays(len(s.frames))) for s in subjects[:IN_BEST]])
        with Encoder(parts[1], size, _FPS, threads=1, variable=True) as encoder:
            for k in shown:
                small = fitted(marked(night, k, pictures.kept(night, k)))
                encoder.write(small, stay)
    parts += [place / FOLDER / f"{s.stem}.mp4" for s in subjects[:IN_BEST]]
    told = {**words, "comment": f"difflapse; the best of {n_changes} changes; {words['description']}"}
    join(parts, place / BEST, {**told, "title": f"{title}: what changed"})
    desk.products.append(BEST)


def _table(path: Path) -> Any:
    """A table of products; None where there is none."""
    if not path.is_file():
        return None
    from astropy.table import Table

    return Table.read(path, format="ascii.ecsv")


def _number(row: Any, name: str, unknown: float = float("nan")) -> float:
    """A figure of a row; `unknown` where it is masked or NaN, or there is no such column."""
    if name not in row.colnames or np.ma.is_masked(row[name]) or not np.isfinite(row[name]):
        return unknown
    return float(row[name])

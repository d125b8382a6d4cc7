"""One clip: a change's windows drawn frame by frame, its light below them, and encoded."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from difflapse.errors import FrameError
from difflapse.measure.mesh import constant
from difflapse.measure.passing import less_stars
from difflapse.model.times import iso_utc
from difflapse.movie import clip
from difflapse.movie.clip import SIDE, Curve, Place, clip_picture
from difflapse.movie.diverging import difference_panel, hatched_panel
from difflapse.movie.encode import Encoder
from difflapse.movie.layout import Layout, make_layout
from difflapse.movie.stretch import aligned_panel
from difflapse.pipeline.context import Night
from difflapse.pipeline.cuts import Cut
from difflapse.pipeline.records import Canvas, Scene, Shown
from difflapse.pipeline.subjects import Subject

FOLDER = "clips"
FPS = 12
_CLIP_S, _LAST_S = 5.0, 1.0
_DOUBT = 0.3
"""Of a subject's usual light, from which on the error of the stars behind it, if it is the larger, spoils a frame."""


def make_clip(night: Night, subject: Subject, cuts: Mapping[int, Cut], shown: Mapping[int, Shown]) -> None:
    """Draw a subject's windows, which `cuts.cut_frame` laid down, and encode the clip.

    Parameters
    ----------
    night : Night
        Whose changes are known.
    subject : Subject
        Its windows lie in the order of its frames.
    cuts : mapping of int to Cut
        By frame; frames that could not be read are not there.
    shown : mapping of int to Shown
        What was subtracted from each frame.

    Raises
    ------
    FrameError
        None of its frames could be read.
    """
    if not cuts:
        raise FrameError("none of its frames could be read again")
    scene: Scene = night.shared("scene")
    canvas: Canvas = night.shared("canvas")
    windows = {k: night.array(subject.array)[n] for n, k in enumerate(subject.frames) if k in cuts}
    behind, name = _behind(night, scene, subject, [w[:-1] for w in windows.values()])
    (i, j), step = subject.corner, canvas.grid.step
    origin = canvas.grid.origin[0] + step * i, canvas.grid.origin[1] + step * j
    side = min(SIDE, SIDE * subject.shape[1] // subject.shape[0])  # the longer side fills the panel
    small = make_layout(("aligned",), subject.shape, step, origin, side, "none", FPS)
    to_panel = small.native_to_movie("aligned")
    curve = _curve(night, subject, cuts)
    before = _panel(scene, behind, small, subject)
    words = {"title": subject.title, "comment": subject.subtitle}
    stays = clip_stays(len(cuts))
    picture = None
    path = Path(night.out) / FOLDER / f"{subject.stem}.mp4"
    with Encoder(
        path, (clip.WIDTH, clip.HEIGHT), FPS, words, threads=1, variable=True, still=True
    ) as encoder:
        for n, (k, window) in enumerate(windows.items()):
            dx, dy = canvas.shift(k)
            place = subject.frames.index(k)
            u, v = to_panel @ (subject.x[place] - dx, subject.y[place] - dy, 1.0)
            # What fills the panel needs no frame around it; a streak has a line on either side.
            at: Place = None if subject.fills else (float(u), float(v))
            if subject.ends is not None:
                (xa, ya), (xb, yb) = ((to_panel @ (x - dx, y - dy, 1.0)).tolist() for x, y in subject.ends)
                at = (xa, ya), (xb, yb)
            when = night.frames[k].mid_mjd
            if np.isfinite(noise := cuts[k].noise):
                residual = difference_panel(window[-1], None, small, scene.vmax, night.options.units, noise)
            else:
                residual = hatched_panel(small)
            picture = clip_picture(
                subject.title,
                subject.subtitle,
                f"{iso_utc(when, 0).replace('T', ' ')} UTC" if when is not None else f"frame {k}",
                {
                    "this frame": _panel(scene, window[:-1], small, subject),
                    name: before,
                    _difference_title(night, scene, shown.get(k)): residual,
                },
                (at, at, at),
                curve,
                n,
                subject.first <= k <= subject.last,
                picture,
            )
            encoder.write(picture, stays[n])


def clip_stays(frames: int) -> list[float]:
    """Seconds that each picture of a clip stays."""
    stays = [min(_CLIP_S / frames, 0.5)] * frames
    stays[-1] += _LAST_S
    return stays


def _behind(
    night: Night, scene: Scene, subject: Subject, lights: Sequence[np.ndarray]
) -> tuple[np.ndarray, str]:
    """What is there all night in the window (c, h, w), NaN where that is not known, and its name.

    The night's template; where it has none, the median of the clip's frames.
    """
    if scene.mode == "template":
        (i, j), (high, wide) = subject.corner, subject.shape
        rows, cols = slice(j, j + high), slice(i, i + wide)
        data = np.array(night.array("template")[..., rows, cols])
        data[:, night.array("template_count")[rows, cols] == 0] = np.nan
        return data, "template"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a pixel that no frame shows stays NaN
        return np.nanmedian(lights, axis=0).astype(np.float32), f"median of {len(lights)} frames"


def _difference_title(night: Night, scene: Scene, shown: Shown | None) -> str:
    """What the difference's panel is, in the room below it."""
    unit = {"adu": "ADU"}.get(night.options.units, night.options.units)
    if shown is None or shown.template is None:
        return "no difference"
    if scene.mode == "running":
        then = shown.template_mjd
        return (
            f"minus {iso_utc(then, 0)[11:]} UTC, in {unit}"
            if then is not None
            else f"minus a frame before, in {unit}"
        )
    return f"minus its neighbours, in {unit}" if scene.mode == "rolling" else f"difference, in {unit}"


def _panel(scene: Scene, light: np.ndarray, small: Layout, subject: Subject) -> np.ndarray:
    """A picture of the window in the night's stretch."""
    level = None
    if scene.level is not None:
        (i, j), (ny, nx) = subject.corner, scene.layout.shape
        a = round(min(j / max(1, ny - 1), 1) * (scene.level.shape[1] - 1))
        b = round(min(i / max(1, nx - 1), 1) * (scene.level.shape[2] - 1))
        level = constant([float(v) for v in scene.level[:, a, b]])
    return aligned_panel(light, None, scene.stretch, small, level)


def _curve(night: Night, subject: Subject, cuts: Mapping[int, Cut]) -> Curve:
    """The subject's light in each frame of the clip, in the reference's ADU; what moves less the stars behind it."""
    frames = list(cuts)
    times = [night.frames[k].mid_mjd for k in frames]
    known = [t for t in times if t is not None]
    whole = len(known) == len(times)
    clock = np.array(known if whole else range(len(times)), float)
    ends = tuple(f"{iso_utc(clock[n], 0)[11:16]} UTC" if whole else f"frame {frames[n]}" for n in (0, -1))
    label = "light at its middle" if subject.fills else "light where it is"
    missing = "thick cloud, saturated pixels or the frame's edge"
    if subject.moves:
        place = [subject.frames.index(k) for k in frames]
        flux, error = (
            np.array([getattr(cut, name)[place] for cut in cuts.values()]) for name in ("flux", "error")
        )
        x, y = (np.array(v)[place] for v in (subject.x, subject.y))
        light = less_stars(flux, error, x, y, max(cut.radius for cut in cuts.values()))
        if light is None:
            flux, error = flux.diagonal(), error.diagonal()
            label += " with any star behind it"
        else:
            photons = error.diagonal()
            flux, error, doubt = light
            usual = np.nanmedian(np.abs(flux)) if np.isfinite(flux).any() else np.nan
            with np.errstate(invalid="ignore"):
                flux = np.where(doubt > np.maximum(_DOUBT * usual, photons), np.nan, flux)
            label += " less the stars behind it"
            missing = f"a star too bright to take off, {missing}"
    else:
        flux, error = (
            np.array([getattr(cut, name)[0] for cut in cuts.values()]) for name in ("flux", "error")
        )
    label += ", ADU above the sky around it, on the camera's own pixels"
    return Curve(clock, flux, error, label, (ends[0], ends[1]), missing)

"""The reel: a clip of every change, magnified, and the best of them in one movie. The night's is made meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from difflapse.errors import FrameError
from difflapse.model.times import iso_utc
from difflapse.mosaic import channels
from difflapse.movie import clip
from difflapse.movie.clip import fitted, title_card
from difflapse.movie.encode import Encoder
from difflapse.movie.join import join
from difflapse.pipeline import cuts, pictures
from difflapse.pipeline.clips import FOLDER, FPS, clip_stays, make_clip
from difflapse.pipeline.context import Night
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.drawing import lapse_text, mark_changes
from difflapse.pipeline.metadata import movie_metadata
from difflapse.pipeline.subjects import IN_BEST, Subject, choose

BEST = "highlights.mp4"
_TITLE_S, _NIGHT_S, _LEAST_S = 2.5, 8.0, 10.0


def make_reel(desk: Desk) -> None:
    """Make the clips, and of the best of them `highlights.mp4`; nothing where nothing changed."""
    night = desk.night
    if not night.options.reel:
        return
    table = _table(Path(night.out) / "changes.ecsv")
    if table is None or not len(table):
        return
    subjects = choose(desk, table)
    if not subjects:
        return
    (Path(night.out) / FOLDER).mkdir(exist_ok=True)
    frames = sorted({k for s in subjects for k in s.frames})
    desk.progress.start("reel", len(frames) + len(subjects))
    opening = desk.pool.start(
        _opening, night, desk.alive(), len(table), [s.frames for s in subjects[:IN_BEST]]
    )
    found = _cut(desk, subjects, frames)
    told = desk.values.get("shown", {})
    jobs = [(night, s, found[n], {k: told[k] for k in s.frames if k in told}) for n, s in enumerate(subjects)]
    made: list[Subject] = []
    for n, result in desk.pool.run(make_clip, jobs):
        if isinstance(result, FrameError):
            desk.progress.note(f"no clip of {subjects[n].title}: {result.message}")
        else:
            made.append(subjects[n])
            desk.products.append(f"{FOLDER}/{subjects[n].stem}.mp4")
        desk.progress.advance("reel")
    parts = opening()
    if made:
        if isinstance(parts, FrameError):
            raise parts
        _highlights(desk, parts, [s for s in subjects if s in made], len(table))
    desk.progress.finish("reel")


def night_stay(pictures: int, clips: Sequence[float]) -> float:
    """Seconds that each of the night's pictures stays in the highlights, beside clips of so many seconds.

    At most eight in all; longer where the whole would otherwise be over in less than ten.
    """
    left = _LEAST_S - _TITLE_S - sum(clips)
    return max(min(_NIGHT_S / pictures, 0.25), min(left / pictures, 2.0))


def _cut(desk: Desk, subjects: list[Subject], frames: list[int]) -> list[dict[int, cuts.Cut]]:
    """Read each frame once and cut all subjects' windows from it; for each subject its light, by frame."""
    night = desk.night
    n_channels = len(channels(night.frames[frames[0]].mosaic))
    for subject in subjects:
        cuts.lay_out(night, subject, n_channels)
    jobs = [
        (
            night,
            k,
            cuts.spots_in(subjects, k),
            *(desk.value(n, k) for n in ("alignment", "quality", "scale")),
        )
        for k in frames
    ]
    found: list[dict[int, cuts.Cut]] = [{} for _ in subjects]
    for n, result in desk.pool.run(cuts.cut_frame, jobs, ordered=True):
        k = frames[n]
        if isinstance(result, FrameError):
            desk.progress.note(f"{night.frames[k].file} is in no clip: {result.message}")
        else:
            showing = [own for s, own in zip(subjects, found, strict=True) if k in s.frames]
            for own, one in zip(showing, result, strict=True):
                own[k] = one
        desk.progress.advance("reel")
    return found


def _opening(night: Night, frames: list[int], n_changes: int, clips: list[tuple[int, ...]]) -> list[Path]:
    """What the highlights begin with: their title, and the night in a few seconds, where its pictures are kept."""
    scratch, size = Path(night.scratch), (clip.WIDTH, clip.HEIGHT)
    times = night.times(frames)
    lines = [_title(night)]
    if times:
        lapse = lapse_text(86400 * (max(times) - min(times)))
        lines.append(f"{iso_utc(min(times), 0)[:10]}, {len(frames)} frames in {lapse}")
    lines += [f"{n_changes} things changed" if n_changes > 1 else "one thing changed"]
    parts = [scratch / "title.mp4"]
    with Encoder(parts[0], size, FPS, threads=1, variable=True, still=True) as encoder:
        encoder.write(title_card(lines), _TITLE_S)
    if pictures.all_kept(night):
        parts.append(scratch / "night.mp4")
        most = round(_NIGHT_S * FPS / 2)
        shown = [
            frames[n]
            for n in np.unique(np.linspace(0, len(frames) - 1, min(most, len(frames))).round().astype(int))
        ]
        stay = night_stay(len(shown), [sum(clip_stays(len(own))) for own in clips])
        with Encoder(parts[1], size, FPS, threads=1, variable=True, still=True) as encoder:
            picture = small = None
            for k in shown:
                picture = pictures.kept(night, k, picture)
                mark_changes(night, k, picture)
                small = fitted(picture, small)
                encoder.write(small, stay)
    return parts


def _highlights(desk: Desk, opening: list[Path], subjects: list[Subject], n_changes: int) -> None:
    """The opening and the best clips, one after another."""
    night, place = desk.night, Path(desk.night.out)
    words = movie_metadata(night, desk.alive(), {})
    parts = opening + [place / FOLDER / f"{s.stem}.mp4" for s in subjects[:IN_BEST]]
    told = {**words, "comment": f"difflapse; the best of {n_changes} changes; {words['description']}"}
    join(parts, place / BEST, {**told, "title": f"{_title(night)}: what changed"})
    desk.products.append(BEST)


def _title(night: Night) -> str:
    return night.frames[0].object or night.name


def _table(path: Path) -> Any:
    """A table of products; None where there is none."""
    if not path.is_file():
        return None
    from astropy.table import Table

    return Table.read(path, format="ascii.ecsv")

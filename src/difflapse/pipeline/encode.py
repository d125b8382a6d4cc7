"""The movie, made of the pictures that the workers drew, when all that is to be said in them is known."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from difflapse.io.products import write_json
from difflapse.model.times import iso_utc
from difflapse.movie.annotate import Caption
from difflapse.movie.compose import compose
from difflapse.movie.diverging import hatched_panel
from difflapse.movie.encode import Encoder, movie_name
from difflapse.movie.frames import PngFrames
from difflapse.movie.pace import stay
from difflapse.movie.sidecar import MovieFrame, timelapse_record
from difflapse.movie.still import Trails, write_png
from difflapse.pipeline import pictures
from difflapse.pipeline.desk import FIRST, Desk
from difflapse.pipeline.drawing import lapse_text, mark_changes, still_words
from difflapse.pipeline.metadata import movie_metadata
from difflapse.pipeline.records import Scene, Shown

_SAMPLE = 8
"""Pictures from which a GIF takes its colours."""


class Film:
    """Takes pictures in the order of time, and writes the movie, its gaps and what each picture shows.

    Parameters
    ----------
    desk : Desk
        The night.
    sample : list of int
        Frames whose pictures give a GIF its colours.
    """

    def __init__(self, desk: Desk, sample: list[int] | None = None) -> None:
        night, stem = desk.night, desk.stem
        self.desk, self.night, self.stem = desk, night, stem
        self.scene: Scene = night.shared("scene")
        self.name = movie_name(night.options.codec, stem)
        self.told: list[MovieFrame] = []
        self._last: tuple[int, np.ndarray, Shown] | None = None
        self._marked = False
        layout = self.scene.layout
        wanted = stem == FIRST and "aligned" in layout.names
        self._trails = Trails(layout.panel("aligned")) if wanted else None
        self._stack = ExitStack()
        options = night.options
        size = (self.scene.layout.width, self.scene.layout.height)
        words = movie_metadata(night, desk.alive(), input_digests(desk))
        path = Path(night.out) / self.name
        if options.codec == "png":
            self._file: Encoder | PngFrames = PngFrames(path, size, options.fps, words)
        else:
            shown = [pictures.kept(night, k) for k in sample or []] if options.codec == "gif" else []
            for k, picture in zip(sample or [], shown, strict=False):
                mark_changes(night, k, picture)
            self._file = Encoder(
                path,
                size,
                options.fps,
                words,
                codec=options.codec,
                variable=options.pace == "true",
                sample=shown,
                full=options.width == 0,
            )

    def __enter__(self) -> Film:
        self._stack.enter_context(self._file)
        return self

    def __exit__(self, *failure: Any) -> None:
        self._stack.__exit__(*failure)

    def add(self, k: int, picture: np.ndarray, shown: Shown) -> None:
        """The next picture, of frame `k`, to be marked in place. It is written when the one after it is known."""
        self._write(k)
        if self._trails is not None:
            self._trails.add(picture)
        self._marked |= mark_changes(self.night, k, picture)
        self._last = (k, picture, shown)

    def end(self) -> None:
        """Write the last picture, and `timelapse.json`; what was made is listed among the products."""
        self._write(None)
        night, scene = self.night, self.scene
        name = self.name if night.options.codec != "png" else f"{self.name}/%05d.png"
        record = timelapse_record(
            scene.layout, self.told, night.options.fps, night.options.units, scene.vmax, name
        )
        # A night too long to keep its pictures is encoded before it is known what changed.
        record["marks"] = self._marked
        write_json(Path(night.out) / f"{self.stem}.json", record)
        movie = (
            [f"{self.name}/{n:05d}.png" for n in range(self._file.n_written)]
            if night.options.codec == "png"
            else [self.name]
        )
        self.desk.products += [*movie, f"{self.stem}.json"]
        if self._trails is not None:
            words = still_words(night, "the brightest that each place was in the night, frames aligned")
            write_png(Path(night.out) / "trails.png", self._trails.picture, words)
            self.desk.products.append("trails.png")

    def _write(self, following: int | None) -> None:
        """Write the last picture, and the gap between it and the next."""
        if self._last is None:
            return
        k, picture, shown = self._last
        night, scene = self.night, self.scene
        facts = night.frames[k]
        when = iso_utc(facts.mid_mjd) if facts.mid_mjd is not None else None
        told = MovieFrame(facts.file, when, shown.template, night.shared("canvas").shift(k))
        if night.options.pace == "even":
            self._append(picture, told, None)
            return
        then = night.frames[following].mid_mjd if following is not None else None
        time = stay(facts.mid_mjd, then, scene.cadence_s, night.options.fps)
        self._append(picture, told, time.picture)
        if time.gap and facts.mid_mjd is not None and then is not None:
            text = f"no frames for {lapse_text((then - facts.mid_mjd) * 86400)}"
            if time.capped:
                text += f", shown for {lapse_text(time.gap)}"
            middle = iso_utc((facts.mid_mjd + then) / 2)
            span = f"{iso_utc(facts.mid_mjd, 0)} to {iso_utc(then, 0)[11:]}"
            self._append(gap_picture(scene, k, span, text), MovieFrame(None, middle, None), time.gap)

    def _append(self, picture: np.ndarray, told: MovieFrame, seconds: float | None) -> None:
        start = self._file.seconds
        self._file.write(picture, seconds)
        self.told.append(replace(told, start_s=start, duration_s=self._file.seconds - start))


def encode_movie(desk: Desk) -> None:
    """Encode the drawn pictures in the order of time, and write what each of them shows beside the movie.

    That is done while this process waits for workers that make what comes later, see `Pool.do_beside`.
    """
    if desk.film is None:
        desk.pool.do_beside(_encoded(desk, dict(desk.values.get("shown", {}))))
        return
    desk.progress.start("movie", len(desk.alive()))  # encoded as they arrived
    desk.film.end()
    desk.close_film()
    desk.progress.finish("movie")


def _encoded(desk: Desk, shown: Mapping[int, Shown]) -> Generator[None]:
    """Encode the movie, a picture at each step; the desk lets go of what is `shown` before the last."""
    night = desk.night
    frames = desk.alive()
    desk.progress.start("movie", len(frames))
    spread = np.unique(np.linspace(0, len(frames) - 1, min(_SAMPLE, len(frames))).round().astype(int))
    with Film(desk, sample=[frames[n] for n in spread]) as film:
        # The film holds one picture while the next is read: two take turns.
        rooms: list[np.ndarray | None] = [None, None]
        for n, k in enumerate(frames):
            picture = rooms[n % 2] = pictures.kept(night, k, rooms[n % 2])
            film.add(k, picture, shown[k])
            desk.progress.advance("movie")
            yield
        film.end()
    desk.progress.finish("movie")


def begin_early(desk: Desk) -> None:
    """Encode pictures as they arrive, where not all of them can be kept."""
    if pictures.all_kept(desk.night):
        return
    desk.progress.note(
        f"{len(desk.night.frames)} pictures would take more than {pictures.MOST_BYTES / 1e9:.0f} GB: they are "
        "encoded as they are drawn, before it is known what changed"
    )
    desk.open_film(Film(desk))


def input_digests(desk: Desk) -> Mapping[str, str]:
    """SHA-256 of the input files, by name; of those that are files."""
    return {desk.night.frames[k].file: digest for k, digest in sorted(desk.values.get("digest", {}).items())}


def gap_picture(scene: Scene, k: int, span: str, text: str) -> np.ndarray:
    """What is shown while nothing was taken after frame `k`: hatched panels that say for how long."""
    layout = scene.layout
    panel = hatched_panel(layout, text)
    caption = Caption(span, k, 1, titles=layout.names, bar=scene.signs.bar)
    plain = replace(layout, labels="time") if layout.labels == "full" else layout
    return compose(plain, dict.fromkeys(layout.names, panel), caption)

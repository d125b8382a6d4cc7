"""The movie, made of the pictures that the workers drew, when all that is to be said in them is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from difflapse.io.products import write_json
from difflapse.model.times import iso_utc
from difflapse.movie.encode import Encoder
from difflapse.movie.sidecar import MovieFrame, timelapse_record
from difflapse.movie.still import Trails, write_png
from difflapse.pipeline.context import Night
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.drawing import marked, still_words
from difflapse.pipeline.night_stages import time_range
from difflapse.pipeline.records import Scene, Shown


def encode_movie(desk: Desk) -> None:
    """Encode the drawn pictures in the order of time, and write what each of them shows beside the movie."""
    night = desk.night
    scene: Scene = night.shared("scene")
    place = Path(night.out)
    frames = desk.alive()
    desk.progress.start("movie", len(frames))
    metadata = {
        "title": night.frames[0].object or night.name,
        "comment": f"difflapse; {time_range(night)}; difference: {scene.mode}",
    }
    trails = Trails(scene.layout.panel("aligned")) if "aligned" in scene.layout.names else None
    told = []
    size = (scene.layout.width, scene.layout.height)
    with Encoder(place / "timelapse.mp4", size, night.options.fps, metadata) as encoder:
        for k in frames:
            picture = np.asarray(night.array("pictures")[k])
            if trails is not None:
                trails.add(picture)
            encoder.write(marked(night, k, picture))
            told.append(_told(night, k, desk.value("shown", k)))
            desk.progress.advance("movie")
    record = timelapse_record(scene.layout, told, night.options.fps, night.options.units, scene.vmax)
    write_json(place / "timelapse.json", record)
    desk.products += ["timelapse.mp4", "timelapse.json"]
    if trails is not None:
        words = still_words(night, "the brightest of each place in the night, frames aligned")
        write_png(place / "trails.png", trails.picture, words)
        desk.products.append("trails.png")
    desk.progress.finish("movie")


def _told(night: Night, k: int, shown: Shown) -> MovieFrame:
    """What one picture shows."""
    facts = night.frames[k]
    when = iso_utc(facts.mid_mjd) if facts.mid_mjd is not None else None
    return MovieFrame(facts.file, when, shown.template, night.shared("canvas").shift(k))

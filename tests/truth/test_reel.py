"""The reel of a night with a planted mover and variable, told by a table of changes written by hand."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from astropy.table import Table

from difflapse.movie.clip import SIDE
from difflapse.movie.text import WARN
from difflapse.pipeline.again import read_options, reopened
from difflapse.pipeline.progress import Silence
from difflapse.pipeline.reel import make_reel

from .conftest import Done, Make, spec_of


@pytest.fixture(scope="module")
def reel(done: Make, tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path, list[str], np.ndarray]:
    """A run's reel: its folder, what was made, and where the mover truly is (frames x 2, reference pixels)."""
    night = done(
        spec_of(frames=6, clouds=1, movers=1),
        save="aligned,differences",
        width=900,
        injection=False,
        reel=False,
    )
    frames = list(range(6))
    (mover,) = [thing for thing in night.truth.objects if thing.kind == "mover"]
    native = np.stack([mover.x, mover.y], 1)
    to_reference = [night.run.frames[k].to_reference(*native[k]) for k in frames]
    track = np.array([[float(x), float(y)] for x, y in to_reference])
    row = {
        "change": [0, 1], "kind": ["mover", "unknown"], "name": ["mover <1>", "unknown 2"],
        "x_pix": [track[0, 0], 40.0], "y_pix": [track[0, 1], 30.0],
        "first_frame": [0, 0], "last_frame": [5, 5], "snr": [30.0, -8.0],
        "x_end_pix": [track[-1, 0], np.nan], "y_end_pix": [track[-1, 1], np.nan],
    }  # fmt: skip
    place = tmp_path_factory.mktemp("reel")
    options = replace(read_options(night.out), save=(), workers=1, reel=True)
    with reopened(night.out, options, night.folder, place, Silence()) as again:
        Table(row).write(place / "changes.ecsv", format="ascii.ecsv")
        again.run(("template", "read", "warp", "subtract", "draw", "movie"))
        make_reel(again.desk)
        products = list(again.desk.products)
    return night, place, products, track


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").astype(float) for frame in container.decode(video=0)]


def test_each_change_has_its_clip_and_the_best_are_joined(reel) -> None:
    _, place, products, _ = reel
    assert {"clips/mover-1-.mp4", "clips/unknown-2.mp4", "highlights.mp4"} <= set(products)
    lengths = {}
    for name in products:
        if name.endswith(".mp4"):
            with av.open(str(place / name)) as container:
                stream = container.streams.video[0]
                assert stream.codec_context.name == "h264"
                lengths[name] = container.duration / 1e6
                assert container.metadata["title"]
    clips = lengths["clips/mover-1-.mp4"] + lengths["clips/unknown-2.mp4"]
    assert 10 <= lengths["highlights.mp4"] <= 60
    assert clips < lengths["highlights.mp4"] < clips + 11


def test_the_mover_is_in_its_frame_all_night(reel) -> None:
    """In clear frames its frame stands where the truth says, to a fraction of a pixel, and it shines there."""
    night, place, _, track = reel
    decoded_ones = decoded(place / "clips/mover-1-.mp4")
    pictures = dict(zip(night.used, decoded_ones, strict=True))  # none of a frame whose place was guessed
    clear = [k for k in night.used if night.run.table["transparency"][k] > 0.5]
    assert len(clear) >= 4
    x0, places = 1280 - 20 - SIDE, []
    for k in clear:
        panel = pictures[k][84 : 84 + SIDE, x0 : x0 + SIDE]
        y, x = np.nonzero(np.abs(panel - WARN).max(2) < 40)
        corners = np.array([[x.min(), y.min()], [x.max(), y.max()]])
        assert (np.ptp(corners, axis=0) < 80).all()
        places.append(corners.mean(0))
        u, v = np.rint(places[-1]).astype(int)
        luma = panel @ (0.3, 0.6, 0.1)
        assert luma[v - 8 : v + 9, u - 8 : u + 9].mean() > np.median(luma) + 25, k
    moved = (np.array(places) - places[0]) * (1, -1)
    true = (
        8 * (track[clear] - track[clear[0]]) / 2
    )  # a product pixel is two native ones, and eight of the clip
    assert np.abs(moved - true).max() < 3


def test_no_changes_no_reel(reel, tmp_path: Path) -> None:
    night, *_ = reel
    options = replace(read_options(night.out), save=(), workers=1, reel=True)
    with reopened(night.out, options, night.folder, tmp_path, Silence()) as again:
        make_reel(again.desk)  # there is no table
        assert again.desk.products == []
        shutil.copyfile(night.out / "frames.ecsv", tmp_path / "frames.ecsv")
        Table(names=("change", "kind"), dtype=(int, str)).write(
            tmp_path / "changes.ecsv", format="ascii.ecsv"
        )
        make_reel(again.desk)
        assert again.desk.products == []

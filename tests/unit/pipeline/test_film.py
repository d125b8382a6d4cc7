"""The movie of a run: its pace and gaps, what it says of itself, and pictures that are encoded as they arrive."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table

import difflapse
from difflapse.pipeline import pictures
from difflapse.pipeline.context import Night, forget
from difflapse.pipeline.pool import Pool
from difflapse.pipeline.progress import Silence
from difflapse.pipeline.results import Run


@pytest.fixture(scope="module")
def gappy(small_night: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small night without its third frame."""
    folder = tmp_path_factory.mktemp("gappy") / "night"
    folder.mkdir()
    for n, file in enumerate(sorted(small_night.glob("*.fits.fz"))):
        if n != 2:
            shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="module")
def run(gappy: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("film") / "out"
    return difflapse.run(
        gappy, out, workers=1, injection=False, pace="true", fps=2, width=900, save="aligned,differences,cube"
    )


def test_a_gap_is_seen_as_one(run: Run) -> None:
    """Frame 1 stays for a cadence, the gap for another; the file's times are those of timelapse.json."""
    told = run.timelapse["frames"]
    assert [f["file"] is None for f in told] == [False, False, True, False, False]
    assert told[2]["template"] is None
    times = [frame.time.mjd for frame in run.frames]
    cadence = float(np.median(np.diff(times)))
    expected = [
        *(np.diff(times)[:1] / cadence / 2),
        0.5,
        (times[2] - times[1]) / cadence / 2 - 0.5,
        *(np.diff(times)[2:] / cadence / 2),
        0.5,
    ]
    assert [f["duration_s"] for f in told] == pytest.approx(expected, abs=1e-4)
    with av.open(str(run.movie)) as container:
        shown = [(f.time, f.to_ndarray(format="gray")) for f in container.decode(video=0)]
        assert container.duration / 1e6 == pytest.approx(sum(expected), abs=1e-3)
    assert [time for time, _ in shown] == pytest.approx([f["start_s"] for f in told], abs=1e-3)
    # Hatched: the same pattern again and again, unlike a picture of the sky.
    panel = run.timelapse["panels"]["aligned"]
    box = [
        p[panel["y"] + 20 : panel["y"] + 60, panel["x"] : panel["x"] + panel["width"]].astype(float)
        for _, p in shown
    ]
    assert np.abs(box[2] - box[1]).mean() > 10
    assert np.abs(box[1] - box[0]).mean() < 10


def test_the_file_says_what_it_shows_and_was_made_of(run: Run, gappy: Path) -> None:
    with av.open(str(run.movie)) as container:
        told = container.metadata
    inputs = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(gappy.glob("*.fz"))}
    record = json.loads(told["synopsis"])
    assert record["inputs"] == inputs
    lines = "".join(f"{digest}  {name}\n" for name, digest in inputs.items())
    whole = hashlib.sha256(lines.encode()).hexdigest()
    assert record["inputs_sha256"] == whole
    assert f"sha256:{whole}" in told["comment"]
    assert f"difflapse {difflapse.__version__}" in told["comment"]
    assert told["title"]
    assert told["date"] == run.frames[0].time_utc[:10]
    assert run.frames[0].time_utc[:19] in told["comment"]
    assert run.frames[-1].time_utc[:19] in told["comment"]
    wcs = run.wcs
    ny, nx = 130, 195
    centre = wcs.pixel_to_world((nx - 1) / 2, (ny - 1) / 2)
    edge = [wcs.pixel_to_world(x, (ny - 1) / 2) for x in (-0.5, nx - 0.5)]
    field = record["field"]
    assert field["ra_deg"] == pytest.approx(centre.ra.deg, abs=0.002)
    assert field["dec_deg"] == pytest.approx(centre.dec.deg, abs=0.002)
    assert field["width_deg"] == pytest.approx(edge[0].separation(edge[1]).deg, rel=0.01)


def test_a_cube_holds_the_night(run: Run) -> None:
    """Plane by plane what the frames' own files hold, and a table that says which plane is which."""
    with fits.open(run.out / "cube.fits") as hdus:
        hdus.verify("exception")
        frames = Table(hdus["FRAMES"].data)
        aligned, difference = hdus["ALIGNED"], hdus["DIFFERENCE"]
        assert aligned.data.shape == (4, 3, 130, 195)
        assert difference.data.shape == (4, 130, 195)
        assert aligned.header["LTM1_1"] == 0.5
        assert [str(f).strip() for f in frames["file"]] == [frame.file for frame in run.frames]
        assert list(frames["mjd"]) == pytest.approx([frame.time.mjd for frame in run.frames], abs=1e-8)
        for n, frame in enumerate(run.frames):
            single = CCDData.read(run.out / "aligned" / frame.file.replace(".fz", ""))
            plane = aligned.data[n]
            seen = np.isfinite(plane)
            assert 0.9 < seen.mean() <= 1
            assert (plane[seen] == single.data[seen]).all()
            parts = CCDData.read(run.out / "differences" / frame.file.replace(".fz", ""))
            variance = parts.uncertainty.array
            sigma = (parts.data / variance).sum(0) / np.sqrt((1 / variance).sum(0))
            good = ~parts.mask[0]
            assert (np.isfinite(difference.data[n]) == good).all()
            assert difference.data[n][good] == pytest.approx(sigma[good], abs=2e-3)


@pytest.mark.parametrize("codec", ["gif", "png", "vp9"])
def test_other_codecs_are_products_too(gappy: Path, tmp_path: Path, codec: str) -> None:
    out = tmp_path / "out"
    run = difflapse.run(gappy, out, workers=1, injection=False, codec=codec, width=500, diff="none")
    names = {"gif": "timelapse.gif", "png": "timelapse", "vp9": "timelapse.webm"}
    assert run.movie == out / names[codec]
    assert not (out / "timelapse.mp4").exists()
    products = set(run.summary()["sequences"][0]["products"])
    assert ("timelapse/00003.png" if codec == "png" else names[codec]) in products
    again = difflapse.run(gappy, out, workers=1, injection=False, diff="none", width=500, overwrite=True)
    assert again.movie == out / "timelapse.mp4"
    assert not (out / names[codec]).exists()


def test_a_long_night_is_encoded_as_it_arrives(
    gappy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same movie to the last bit, with room for two pictures; only the marks of changes are not in it."""
    said: list[str] = []

    class Notes(Silence):
        def note(self, text: str) -> None:
            said.append(text)

    whole = difflapse.run(
        gappy,
        tmp_path / "whole",
        workers=1,
        injection=False,
        width=700,
        pace="true",
        labels="time",
        reel=False,
    )
    monkeypatch.setattr(pictures, "MOST_BYTES", 1_000_000)
    monkeypatch.setattr(Pool, "most_waiting", staticmethod(lambda workers: 2))
    stream = difflapse.run(
        gappy,
        tmp_path / "stream",
        workers=1,
        width=700,
        pace="true",
        labels="time",
        reel=False,
        progress=Notes(),
    )
    assert any("encoded as they are drawn" in text for text in said)
    assert whole.movie is not None
    assert stream.movie is not None
    assert whole.movie.read_bytes() == stream.movie.read_bytes()
    assert whole.timelapse == stream.timelapse


def test_a_ring_keeps_the_latest_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted among the frames alive: frames 1 and 4 fall on different places though a ring has three."""
    from difflapse.model import ProductGrid
    from difflapse.pipeline.config import RunOptions

    from .conftest import facts

    options = RunOptions(panels="aligned", labels="none")
    night = Night("n", tuple(facts(k) for k in range(9)), options, str(tmp_path), str(tmp_path))
    layout = pictures.movie_layout(ProductGrid((48, 64), 1), options)
    monkeypatch.setattr(pictures, "MOST_BYTES", 5 * 3 * layout.width * layout.height)
    pictures.lay_out(night, layout, [0, 1, 4, 7, 8], 3)
    assert not pictures.all_kept(night)
    drawn = {k: np.full((layout.height, layout.width, 3), 10 * k, np.uint8) for k in (0, 1, 4, 7, 8)}
    for k in (0, 1, 4):
        pictures.keep(night, k, drawn[k])
    assert all((pictures.kept(night, k) == drawn[k]).all() for k in (0, 1, 4))
    pictures.keep(night, 7, drawn[7])
    assert (pictures.kept(night, 7) == drawn[7]).all()
    assert (pictures.kept(night, 4) == drawn[4]).all()
    forget()

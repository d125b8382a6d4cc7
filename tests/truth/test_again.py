"""A finished run taken up again: the same movie to the last bit, other movies of it, and the proof of its products."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from astropy.io import fits

import difflapse
from difflapse.errors import InputError, OptionError, OutputError, VerifyError
from difflapse.movie.read import read_pictures
from difflapse.pipeline import night_stages, tasks
from difflapse.pipeline.again import make_movie
from difflapse.pipeline.verify import judge, verify

from .conftest import Done, Make, spec_of


@pytest.fixture(scope="module")
def spec():
    return spec_of(frames=6, clouds=1, movers=1)


@pytest.fixture
def finished(done: Make, spec, tmp_path: Path) -> Done:
    """A run in a folder of its own, which a test may change."""
    made = done(spec, save="aligned,differences", width=900, injection=False, reel=False)
    shutil.copytree(made.folder, tmp_path / "night")
    shutil.copytree(made.out, tmp_path / "out")
    with (tmp_path / "out" / "run.toml").open() as file:
        text = file.read()
    root = next(line for line in text.splitlines() if line.startswith("root = "))
    (tmp_path / "out" / "run.toml").write_text(text.replace(root, 'root = "../night"'))
    return Done(tmp_path / "night", made.truth, tmp_path / "out", difflapse.open_run(tmp_path / "out"))


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_the_same_movie_comes_out_again_and_nothing_is_found(
    finished: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("this finds something")

    for module, name in [
        (tasks, "find_stars"), (tasks, "locate"), (tasks, "scale_from_stars"),
        (night_stages, "search_sensor"), (night_stages, "one_lens"),
    ]:  # fmt: skip
        monkeypatch.setattr(module, name, never)
    path = make_movie(finished.out, {"workers": 1})
    assert path == finished.out / "timelapse-2.mp4"
    assert path.read_bytes() == (finished.out / "timelapse.mp4").read_bytes()
    first, second = (json.loads((finished.out / f"timelapse{n}.json").read_text()) for n in ("", "-2"))
    assert {**second, "video": "timelapse.mp4"} == first
    assert "timelapse-2.mp4" in finished.run.summary()["sequences"][0]["products"]
    assert make_movie(finished.out, {"workers": 1, "width": 500}).name == "timelapse-3.mp4"
    assert finished.run.movie == finished.out / "timelapse.mp4"


def test_another_difference_is_that_of_a_run_with_it(finished: Done, done: Make, spec) -> None:
    """But for the marks: what changed is what the first run found."""
    path = make_movie(finished.out, {"workers": 1, "diff": "running", "labels": "time"})
    fresh = done(spec, diff="running", width=900, labels="time", injection=False, reel=False)
    for one, two in zip(pictures(path), pictures(fresh.out / "timelapse.mp4"), strict=True):
        assert np.abs(one.astype(int) - two).max() <= 12
        assert np.abs(one.astype(float) - two).mean() < 0.05


def test_a_cut_shows_a_part_of_the_whole_at_its_place(finished: Done) -> None:
    """Stars of the cut lie where the whole movie's transform says that they do."""
    path = make_movie(finished.out, {"workers": 1, "roi": "90,40,160,120", "panels": "aligned"})
    told = json.loads(path.with_suffix(".json").read_text())
    whole = finished.run.timelapse
    assert told["origin"] == [90, 40]
    a, b = (np.array(t["panels"]["aligned"]["native_to_movie"]) for t in (whole, told))
    at, part = pictures(finished.out / "timelapse.mp4")[0].mean(2), pictures(path)[0].mean(2)
    x, y = np.meshgrid(np.arange(100.5, 240, 2.0), np.arange(50.5, 150, 2.0))
    native = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    seen = []
    for matrix, picture in ((a, at), (b, part)):
        u, v = np.rint(matrix @ native).astype(int)
        seen.append(picture[v, u])
    assert np.corrcoef(*seen)[0, 1] > 0.9
    shifted = part[np.rint(b @ native).astype(int)[1], np.rint(b @ native).astype(int)[0] - 20]
    assert np.corrcoef(seen[0], shifted)[0, 1] < 0.7


def test_what_cannot_be_is_refused_before_anything_is_written(finished: Done, tmp_path: Path) -> None:
    before = sorted(p.name for p in finished.out.iterdir())
    for changes, file, kind, words in [
        ({"align": "wcs"}, None, OptionError, "align cannot be changed"),
        ({"roi": "1000,1000,50,50"}, None, OptionError, "crop covers"),
        ({"codec": "gif"}, "x.mp4", OptionError, "does not go with"),
        ({}, "x.avi", OptionError, "no kind of movie"),
        ({}, finished.out / "timelapse.mp4", OutputError, "already"),
        ({}, tmp_path / "none" / "x.mp4", OutputError, "no folder"),
    ]:
        with pytest.raises(kind, match=words):
            make_movie(finished.out, {"workers": 1, **changes}, file)
    assert sorted(p.name for p in finished.out.iterdir()) == before


def test_inputs_that_moved_are_found_and_changed_ones_refused(finished: Done, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    finished.folder.rename(moved)
    with pytest.raises(InputError, match="6 of 6 input files are not in"):
        make_movie(finished.out, {"workers": 1})
    target = tmp_path / "small.gif"
    assert make_movie(finished.out, {"workers": 1, "width": 400}, target, inputs=moved) == target
    assert (tmp_path / "small.json").exists()
    file = sorted(moved.glob("*.fz"))[2]
    file.write_bytes(file.read_bytes() + b"\0" * 2880)
    with pytest.raises(InputError, match=f"{file.name} is not the file that the run read"):
        make_movie(finished.out, {"workers": 1}, inputs=moved)
    checks = verify(finished.out, inputs=moved)
    assert [check.same for check in checks] == [False]
    error = judge("night", checks)
    assert isinstance(error, VerifyError)
    assert error.exit_code == 7


def test_run_inputs_and_what_they_were_laid_on_may_move_together(finished: Done, tmp_path: Path) -> None:
    """A template and a reference from outside are found beside the run, and must be the files that it read."""
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    frames = sorted(finished.folder.glob("*.fz"))
    shutil.copy(finished.out / "template.fits", there / "earlier.fits")
    shutil.copy(frames[finished.used[-1]], there / "other.fits.fz")
    (there / "night").mkdir()
    for file in frames[:4]:
        shutil.copy(file, there / "night")
    difflapse.run(
        there / "night", there / "out", template=there / "earlier.fits", reference=str(there / "other.fits.fz"),
        workers=1, width=500, injection=False, reel=False,
    )  # fmt: skip
    with np.load(there / "out" / "state.npz") as state:
        assert str(tmp_path) not in state["record"].tobytes().decode()
    there.rename(here)
    movie = make_movie(here / "out", {"workers": 1})
    assert movie.read_bytes() == (here / "out" / "timelapse.mp4").read_bytes()
    assert all(check.same for check in verify(here / "out", [1]))
    for kind, name in (("reference", "other.fits.fz"), ("template", "earlier.fits")):
        file, words = here / name, f"the {kind} {name}"
        whole = file.read_bytes()
        file.write_bytes(whole + b"\0" * 2880)
        with pytest.raises(InputError, match=f"{words} is not the file that the run read"):
            make_movie(here / "out", {"workers": 1})
        (check,) = verify(here / "out", [1])
        assert not check.same
        assert words in check.text
        file.write_bytes(whole)
    (here / "earlier.fits").rename(tmp_path / "earlier.fits")
    with pytest.raises(InputError, match=r"the template \S+ is not where it was"):
        make_movie(here / "out", {"workers": 1})


def test_a_run_stands_the_proof(finished: Done) -> None:
    checks = verify(finished.out, [1, 4])
    names = [check.what for check in checks]
    assert all(check.same for check in checks), [check.text for check in checks]
    assert names[:2] == ["inputs", "template.fits"]
    assert [n.split("/")[0] for n in names[2:6]] == ["aligned"] * 2 + ["differences"] * 2
    assert all(check.worst == 0 for check in checks[1:6])
    assert [n.split(" (")[1] for n in names[6:]] == ["frame 1)", "frame 4)"]
    assert judge("night", checks) is None
    with pytest.raises(OptionError, match="no frame 6"):
        verify(finished.out, [6])


def test_an_archive_has_sixteen_bits_and_loses_none(finished: Done, done: Make, spec) -> None:
    """FFV1 of a run and of another movie of it: more than 256 levels, each as drawn; in 8 bits it is the PNG's."""
    deep = make_movie(finished.out, {"workers": 1, "codec": "ffv1"})
    assert deep.name == "timelapse-2.mkv"
    flat = make_movie(finished.out, {"workers": 1, "codec": "png"}, finished.out / "flat")
    record = json.loads(deep.with_suffix(".json").read_text())
    found, shallow = (read_pictures(path, [0, 3]) for path in (deep, f"{flat}/%05d.png"))
    for n in (0, 3):
        assert found[n].dtype == np.uint16
        for box in record["panels"].values():
            panel = found[n][box["y"] : box["y"] + box["height"], box["x"] : box["x"] + box["width"]]
            assert len(np.unique(panel)) > 5000
        off = np.abs(found[n] / 257 - shallow[n])
        assert off.max() < 3.01
        assert off.mean() < 0.5
    archive = done(spec, width=900, codec="ffv1", injection=False, reel=False)
    checks = [check for check in verify(archive.out, [0, 3]) if "timelapse" in check.what]
    assert len(checks) == 2
    assert all(check.same and check.worst == 0 for check in checks), [check.text for check in checks]
    again = read_pictures(archive.out / "timelapse.mkv", [0, 3])
    assert all((again[n] == found[n]).all() for n in again), "another movie of the run is the run's own"


def test_what_was_changed_is_found(finished: Done) -> None:
    """A hundredth of sigma in one pixel, one mask bit in a corner's patch, a movie with two pictures swapped."""
    names = {k: finished.run.frames[k].file.replace(".fz", "") for k in (1, 4)}
    with fits.open(finished.out / "aligned" / names[1], mode="update") as hdus:
        hdus[0].data[1, 40, 71] += 0.01 * np.sqrt(hdus["UNCERT"].data[1, 40, 71])
    with fits.open(finished.out / "differences" / names[4], mode="update") as hdus:
        hdus["MASK"].data[:, 60:64, 90:94] = 4
    with fits.open(finished.out / "template.fits", mode="update") as hdus:
        hdus["UNCERT"].data[0, 5, 9] *= 1.01
    told = json.loads((finished.out / "timelapse.json").read_text())
    told["frames"][1]["file"], told["frames"][2]["file"] = (
        told["frames"][2]["file"], told["frames"][1]["file"],
    )  # fmt: skip
    (finished.out / "timelapse.json").write_text(json.dumps(told))
    checks = {check.what: check for check in verify(finished.out, [1, 4])}
    wrong = {what: check.text for what, check in checks.items() if not check.same}
    assert set(wrong) == {
        "template.fits",
        f"aligned/{names[1]}",
        f"differences/{names[4]}",
        "timelapse.mp4, picture 2 (frame 1)",
    }
    assert "plane 1, x=71, y=40" in wrong[f"aligned/{names[1]}"]
    assert "48 pixels are masked otherwise" in wrong[f"differences/{names[4]}"]
    assert checks[f"aligned/{names[1]}"].worst == pytest.approx(0.01, rel=0.05)
    (finished.out / "aligned" / names[4]).unlink()
    missing = {check.what: check for check in verify(finished.out, [4])}[f"aligned/{names[4]}"]
    assert (missing.same, missing.text) == (False, f"aligned/{names[4]} is missing")

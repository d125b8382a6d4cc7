"""What clips show and measure: the movie's difference, light less the stars behind it, changes at edges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

import difflapse
from difflapse.movie import clip
from difflapse.pipeline import clips, pictures
from difflapse.pipeline.again import read_options, reopened
from difflapse.pipeline.progress import Silence
from difflapse.pipeline.reel import make_reel
from difflapse.pipeline.subjects import choose

from .conftest import Done, Make, spec_of

STAGES = ("template", "read", "warp", "subtract", "draw", "movie")


@contextmanager
def reeled(night: Done, place: Path, rows: list[dict[str, object]], keep: bool) -> Iterator:
    """A run's night taken up again, its reel made of changes that are given; `keep`: as a run keeps its differences."""
    options = replace(read_options(night.out), save=(), workers=1, reel=True)
    with reopened(night.out, options, night.folder, place, Silence()) as again:
        if keep:
            again.desk.night.share("watch", "changes are looked for")
        table = Table(rows)
        table.write(place / "changes.ecsv", format="ascii.ecsv")
        again.run(STAGES)
        make_reel(again.desk)
        yield again.desk, choose(again.desk, table)


def change(number: int, kind: str, x: float, y: float, last: int, **more: float) -> dict[str, object]:
    ends = {"x_end_pix": np.nan, "y_end_pix": np.nan, **more}
    return {
        "change": number, "kind": kind, "name": f"{kind} {number}", "x_pix": x, "y_pix": y,
        "first_frame": 0, "last_frame": last, "snr": 30.0, **ends,
    }  # fmt: skip


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "made-again"])
@pytest.mark.parametrize("mode", ["template", "running", "rolling"])
def test_a_clip_shows_the_difference_that_the_movie_shows(
    done: Make, tmp_path: Path, mode: str, keep: bool
) -> None:
    """Each window is that of the difference as the run saved it, to the step of a colour, and masked alike."""
    night = done(
        spec_of(frames=6, movers=1), diff=mode, window=3, save="aligned,differences", width=900,
        injection=False, reel=False,
    )  # fmt: skip
    rows = [change(0, "unknown", 150.0, 120.0, 5), change(1, "variable", 384.0, 6.0, 5)]
    with reeled(night, tmp_path, rows, keep) as (desk, subjects):
        vmax = desk.night.shared("scene").vmax
        assert not keep or pictures.kept_differences(desk.night, 4, [((0, 0), (8, 8))], vmax) is not None
        compared = 0
        for subject in subjects:
            (i, j), (high, wide) = subject.corner, subject.shape
            for n, k in enumerate(subject.frames):
                shown = np.asarray(desk.night.array(subject.array)[n, -1])
                if mode == "running" and k == 0:
                    assert np.isnan(shown).all()  # there is none before it
                    continue
                true = night.product("differences", k).significance[j : j + high, i : i + wide]
                assert (np.isnan(shown) == np.isnan(true)).all()
                some = np.isfinite(true) & (np.abs(true) < vmax)
                # 255 steps of the asinh scale, looked up in 4095 even ones.
                step = 0.5 * 0.01432 * np.hypot(vmax / 3, true[some]) + vmax / 4094 if keep else 0.0
                assert (np.abs(shown[some] - true[some]) <= step + 2e-3).all()
                assert np.abs(shown[some]).max() > 2
                compared += 1
        assert compared == 2 * (5 if mode == "running" else 6)
        assert len(desk.products) > 2


def test_both_ways_make_the_same_clip(done: Make, tmp_path: Path) -> None:
    """Whether differences were kept or are made again is not seen, nor in the frames' own pixels."""
    night = done(
        spec_of(frames=6, movers=1), diff="running", window=3, save="aligned,differences", width=900,
        injection=False, reel=False,
    )  # fmt: skip
    panels = []
    for keep in (True, False):
        place = tmp_path / str(keep)
        place.mkdir()
        with reeled(night, place, [change(0, "unknown", 150.0, 120.0, 5)], keep) as (desk, (subject,)):
            windows = np.array(desk.night.array(subject.array))
        panels.append(windows)
    assert np.array_equal(panels[0][:, :-1], panels[1][:, :-1], equal_nan=True)
    assert np.nanmax(np.abs(panels[0][:, -1] - panels[1][:, -1])) < 0.3


def drawn_curves(monkeypatch: pytest.MonkeyPatch) -> list[clip.Curve]:
    """The curves of all clips that are drawn from now on, in their order."""
    seen: list[clip.Curve] = []
    draw = clips.clip_picture

    def watched(*args):  # type: ignore[no-untyped-def]
        if not seen or seen[-1] is not args[5]:
            seen.append(args[5])
        return draw(*args)

    monkeypatch.setattr(clips, "clip_picture", watched)
    return seen


@pytest.mark.parametrize("mode", ["template", "running"])
def test_stars_behind_a_mover_are_not_its_own_light(
    done: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """What is said to move over an empty sky past a bright star stays dark, within errors, or tells nothing.

    Its circle goes over the star: as it is, its light would be the star's.
    """
    night = done(spec_of(frames=12), diff=mode, save="aligned", width=900, injection=False, reel=False)
    stars = Table.read(night.out / "stars.ecsv")
    ny, nx = night.truth.shape
    inside = (np.abs(stars["x_pix"] - nx / 2) < nx / 4) & (np.abs(stars["y_pix"] - ny / 2) < ny / 4)
    row = stars[inside][8]
    x, y = float(row["x_pix"]), float(row["y_pix"])
    ends = {"x_end_pix": x + 44.0, "y_end_pix": y + 22.0}
    seen = drawn_curves(monkeypatch)
    with reeled(night, tmp_path, [change(0, "mover", x - 44.0, y - 22.0, 11, **ends)], True) as (_, found):
        (subject,) = found
        cuts_at = np.hypot(np.array(subject.x) - x, np.array(subject.y) - y)
    (curve,) = seen
    light = 10 ** (-0.4 * float(row["mag"])) * 120  # adu in the run's own, wider or narrower, circle
    assert light > 2000
    known = np.isfinite(curve.flux)
    assert known.sum() >= 6  # half of the frames: in the others it is too near this star or another
    pull = curve.flux[known] / curve.error[known]
    assert np.abs(curve.flux[known]).max() < 0.25 * light
    assert np.abs(pull).max() < 5
    assert cuts_at.min() < 5
    assert curve.missing.startswith("a star too bright")


def test_a_true_mover_keeps_its_light(done: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted mover of constant light is as bright, within errors, as the camera saw it."""
    night = done(
        spec_of(frames=12, movers=1), save="aligned,differences", width=900, injection=False, reel=False
    )
    (mover,) = [thing for thing in night.truth.objects if thing.kind == "mover"]
    places = [
        night.run.frames[k].to_reference(x, y) for k, (x, y) in enumerate(zip(mover.x, mover.y, strict=True))
    ]
    track = np.array([[float(x), float(y)] for x, y in places])
    ends = {"x_end_pix": track[-1, 0], "y_end_pix": track[-1, 1]}
    seen = drawn_curves(monkeypatch)
    with reeled(night, tmp_path, [change(0, "mover", *track[0], 11, **ends)], True):
        pass
    (curve,) = seen
    known = np.isfinite(curve.flux)
    assert known.sum() >= 8
    # Vignetting and air as the camera saw them, at the reference's brightness.
    true = mover.flux_adu / np.array(night.run.table["transparency"], float)
    ratio = curve.flux / true
    share = np.median(ratio[known])
    assert 0.3 < share < 0.55  # the green half of the pixels, less what lies outside of the circle
    pull = (ratio / share - 1)[known] * (curve.flux / curve.error)[known]
    assert 0.5 < np.sqrt(np.mean(pull**2)) < 2.0
    assert np.median(curve.error[known] / curve.flux[known]) < 0.02


def test_changes_at_the_edge_have_clips_too(done: Make, tmp_path: Path) -> None:
    """At a corner, at an edge, beyond it, and all over the product: windows lie within; what none sees has none."""
    night = done(spec_of(frames=4), save="aligned", width=900, injection=False, reel=False)
    ny, nx = night.truth.shape
    rows = [
        change(0, "unknown", 0.0, 0.0, 3), change(1, "variable", nx - 1.0, 0.4 * ny, 3),
        change(2, "transient", 0.5 * nx, ny + 6.0, 3), change(3, "unknown", -4000.0, 50.0, 3),
        change(4, "streak", 3.0, 2.0, 0, x_end_pix=nx - 2.0, y_end_pix=ny - 2.0),
    ]  # fmt: skip
    with reeled(night, tmp_path, rows, True) as (desk, subjects):
        grid = desk.night.shared("canvas").grid
        assert sorted(s.number for s in subjects) == [0, 1, 2, 4]
        for s in subjects:
            assert s.corner[0] >= 0 and s.corner[1] >= 0
            assert s.corner[0] + s.shape[1] <= grid.shape[1]
            assert s.corner[1] + s.shape[0] <= grid.shape[0]
            windows = np.array(desk.night.array(s.array))
            assert np.isfinite(windows[:, :-1]).mean() > 0.7, s.title
        made = [name for name in desk.products if name.startswith("clips/")]
        assert len(made) == 4
        assert "highlights.mp4" in desk.products


def test_a_crop_has_its_reel(simulated, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A run on a crop with a bright mover: the clip is of the product's pixels; without a reel there is none."""
    spec = spec_of(frames=8, novae=1)
    folder, truth = simulated(spec)
    (nova,) = [thing for thing in truth.objects if thing.kind == "nova"]
    x, y = int(np.median(nova.x)), int(np.median(nova.y))
    ny, nx = truth.shape
    x0, y0 = int(np.clip(x - 70, 0, nx - 140)) // 2 * 2, int(np.clip(y - 60, 0, ny - 120)) // 2 * 2
    common = {"roi": f"{x0},{y0},140,120", "workers": 1, "width": 600, "injection": False, "reference": 0}
    out = difflapse.run(folder, tmp_path / "with", **common)
    changes = Table.read(out.out / "changes.ecsv")
    assert "transient" in list(changes["kind"])
    assert len(list((out.out / "clips").glob("*.mp4"))) >= 1
    assert (out.out / "highlights.mp4").exists()
    difflapse.run(folder, tmp_path / "without", **common, reel=False)
    assert not (tmp_path / "without" / "clips").exists()
    assert not (tmp_path / "without" / "highlights.mp4").exists()

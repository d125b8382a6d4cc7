"""Following what moves: it stands still in the products, and the WCS of each is right for its own time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import astropy.units as u
import av
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from astropy.wcs import WCS

import difflapse
from difflapse import synth
from difflapse.errors import InputError, OptionError
from difflapse.model.times import iso_utc
from difflapse.pipeline.results import Run
from difflapse.synth import NightSpec, Truth
from difflapse.synth.truth import TrueObject

from .conftest import read_product, spec_of

Simulated = Callable[[NightSpec], tuple[Path, Truth]]
SHAPE = (520, 780)
SCALE = 10.3


def thing(truth: Truth, kind: str) -> TrueObject:
    return next(o for o in truth.objects if o.kind == kind)


def misses(run: Run, truth: Truth, kind: str) -> np.ndarray:
    """Distance, native px, between where the target is said to be on the reference, and where it is."""
    what = thing(truth, kind)
    x, y = truth.sky_to_pixel(run.reference.number, what.ra_deg, what.dec_deg)
    return np.hypot(run.table["target_x_pix"] - x, run.table["target_y_pix"] - y)


def peak(image: np.ndarray, reach: int = 3) -> tuple[float, float]:
    """Centroid about the middle of an image, 0-based pixels."""
    ny, nx = image.shape
    a, b = (nx - 1) // 2, (ny - 1) // 2
    part = image[b - reach : b + reach + 2, a - reach : a + reach + 2].astype(float)
    part = np.clip(part - np.median(image), 0, None)
    v, w = np.indices(part.shape)
    return a - reach + float((w * part).sum() / part.sum()), b - reach + float((v * part).sum() / part.sum())


def panels(out: Path, name: str) -> list[np.ndarray]:
    """The decoded luma of a panel, frame by frame."""
    box = json.loads((out / "timelapse.json").read_text())["panels"][name]
    rows, cols = slice(box["y"], box["y"] + box["height"]), slice(box["x"], box["x"] + box["width"])
    with av.open(str(out / "timelapse.mp4")) as container:
        return [frame.to_ndarray(format="gray")[rows, cols] for frame in container.decode(video=0)]


def readings(truth: Truth, kind: str, frames: tuple[int, ...]) -> list[str]:
    what = thing(truth, kind)
    return [f"{what.ra_deg[k]:.6f},{what.dec_deg[k]:.6f}@{iso_utc(truth.frames[k].mid_mjd)}" for k in frames]


# The comet


@pytest.mark.parametrize("wcs", [True, False])
def test_the_comet_of_a_night_is_found_and_stands_still(
    simulated: Simulated, tmp_path: Path, wcs: bool
) -> None:
    spec = synth.preset("panoptes", frames=18, shape=SHAPE, seed=21, wcs=wcs, clouds=1, streaks=1, novae=0)
    folder, truth = simulated(spec)
    run = difflapse.run(folder, tmp_path / "out", follow="comet", size="200px", save="aligned", workers=1)
    away = misses(run, truth, "comet")
    assert np.sqrt(np.mean(away**2)) < 1.5
    assert away.max() < 2.5
    template = run.template
    assert template.shape == (3, 100, 100)
    assert template.header["FOLLOW"] == "comet"
    # In the template the stars are gone and the coma is not.
    green = np.asarray(template.data[1])
    x, y = peak(green, 4)
    assert np.hypot(x - 49.5, y - 49.5) < 1.5
    sky = np.median(green)
    sigma = 1.4826 * np.median(np.abs(green - sky))
    assert np.median(green[45:55, 45:55]) > sky + 2.5 * sigma
    aligned = read_product(
        tmp_path / "out" / "aligned" / truth.frames[2].file.replace(".fits.fz", ".fits")
    ).data[1]
    outside = np.hypot(*(np.indices(green.shape) - 49.5)) > 25
    assert green[outside].max() - sky < 0.35 * (aligned[outside].max() - np.median(aligned))
    burnt = [float(np.mean(panel > 230)) for panel in panels(tmp_path / "out", "aligned")]
    assert 0 < np.median(burnt) < 0.01, "stars keep their tones, though the template has none"
    told = json.loads((tmp_path / "out" / "transforms.json").read_text())["follow"]
    assert told["name"] == "comet"
    assert "sigma" in told["note"]


@pytest.mark.parametrize("seed", range(31, 33))
def test_a_night_without_a_comet_is_refused_with_numbers(
    simulated: Simulated, tmp_path: Path, seed: int
) -> None:
    """An asteroid, variable stars and a satellite are in it."""
    spec = synth.preset("demo", frames=12, shape=(434, 651), seed=seed, comets=0, clouds=0)
    folder, _ = simulated(spec)
    with pytest.raises(InputError, match="no comet stands out in") as caught:
        difflapse.run(folder, tmp_path / "out", follow="comet", workers=1)
    assert caught.value.exit_code == 3
    assert caught.value.facts["needed"] > 5
    assert not (tmp_path / "out").exists()


# A place on the sky


@pytest.fixture(scope="module")
def moving() -> NightSpec:
    """Eight frames with an asteroid that moves by 5 px a frame; headers whose WCS is exact."""
    spec = spec_of(SHAPE, frames=8, movers=1, seed=5)
    assert spec.plate is not None
    return replace(spec, plate=replace(spec.plate, noise_pix=0.02, stars=400))


@pytest.mark.parametrize("how", ["readings", "ephemeris"])
@pytest.mark.parametrize("mosaic", ["RGGB", ""])
def test_a_target_whose_places_are_known_stands_still(
    simulated: Simulated, tmp_path: Path, moving: NightSpec, how: str, mosaic: str
) -> None:
    """As well as the header's WCS of order 2 is: half a pixel, of which nearly all is the same in all frames."""
    spec = replace(moving, sensor=replace(moving.sensor, mosaic=mosaic))
    folder, truth = simulated(spec)
    what = thing(truth, "mover")
    if how == "readings":
        follow: str | list[str] = readings(truth, "mover", (0, 7))
    else:
        table = Table(
            {
                "datetime_jd": Time([f.mid_mjd for f in truth.frames], format="mjd").jd,
                "RA": what.ra_deg * u.deg,
                "DEC": what.dec_deg * u.deg,
            }
        )
        table.write(tmp_path / "433.ecsv")
        follow = str(tmp_path / "433.ecsv")
    run = difflapse.run(
        folder, tmp_path / "out", follow=follow, size="120px,90px", save="aligned,differences", workers=1
    )
    assert misses(run, truth, "mover").max() < 1.5
    step = 2 if mosaic else 1
    places, off = [], []
    for k, frame in enumerate(truth.frames):
        name = frame.file.replace(".fits.fz", ".fits")
        product = read_product(tmp_path / "out" / "aligned" / name)
        assert product.data.shape[1:] == (90 // step, 120 // step)
        assert product.header["FOLLOW"] == ("target" if how == "readings" else "433")
        x, y = peak(product.data[-2 if mosaic else 0], 3 if mosaic else 4)
        places.append((x, y))
        # LTM and LTV are those of this frame's grid: native pixels of REFFILE.
        h = product.header
        X, Y = truth.sky_to_pixel(run.reference.number, what.ra_deg[k], what.dec_deg[k])
        i, j = h["LTM1_1"] * (X + 1) + h["LTV1"] - 1, h["LTM2_2"] * (Y + 1) + h["LTV2"] - 1
        off.append(np.hypot(x - i, y - j))
        assert (h["TARGETX"], h["TARGETY"]) == pytest.approx(
            (run.table["target_x_pix"][k], run.table["target_y_pix"][k]), abs=1e-3
        )
        # So is its WCS: the asteroid's own place on the sky lies where its light is.
        with fits.open(tmp_path / "out" / "aligned" / name) as hdus:
            wcs = WCS(hdus[0].header, key="A" if mosaic else " ", naxis=2)
        a, b = wcs.all_world2pix(what.ra_deg[k], what.dec_deg[k], 0)
        assert np.hypot(float(a) - x, float(b) - y) < 1.5 / step + 0.5
    # A star that it passes draws the centroid.
    scatter = np.array(places) - np.median(places, axis=0)
    assert np.median(np.abs(scatter)) < 0.15
    assert np.abs(scatter).max() < 0.8
    assert np.median(off) < 0.2
    moved = np.hypot(
        np.ptp(run.table["target_x_pix"].astype(float)), np.ptp(run.table["target_y_pix"].astype(float))
    )
    assert moved > 20


def test_the_whole_frame_follows_where_no_size_is_given(
    simulated: Simulated, tmp_path: Path, moving: NightSpec
) -> None:
    """The alignment stays that of the sky; products and movie move, and say by how much."""
    folder, truth = simulated(moving)
    plain = difflapse.run(folder, tmp_path / "plain", reference=3, workers=1)
    run = difflapse.run(
        folder, tmp_path / "out", reference=3, follow=readings(truth, "mover", (0, 3, 7)), save="aligned",
        workers=1,
    )  # fmt: skip
    what = thing(truth, "mover")
    for k in range(8):
        a, b = plain.frames[k].to_reference(100.5, 200.25), run.frames[k].to_reference(100.5, 200.25)
        assert np.allclose(a, b, atol=1e-9)
    X, Y = truth.sky_to_pixel(3, what.ra_deg, what.dec_deg)
    shift = np.array([frame["shift"] for frame in run.timelapse["frames"]])
    assert np.abs(shift - np.stack([X - X[3], Y - Y[3]], axis=1)).max() < 0.3
    assert np.array_equal(shift[3], [0, 0])
    matrix = np.array(run.timelapse["panels"]["aligned"]["native_to_movie"])
    assert np.array_equal(matrix, plain.timelapse["panels"]["aligned"]["native_to_movie"])
    assert {tuple(f["shift"]) for f in plain.timelapse["frames"]} == {(0.0, 0.0)}
    first = read_product(tmp_path / "out" / "aligned" / truth.frames[0].file.replace(".fits.fz", ".fits"))
    assert first.data.shape == (3, SHAPE[0] // 2, SHAPE[1] // 2)
    assert "target_x_pix" not in plain.table.colnames


@pytest.mark.parametrize("diff", ["running", "rolling"])
def test_differences_of_other_kinds_follow_too(
    simulated: Simulated, tmp_path: Path, moving: NightSpec, diff: str
) -> None:
    """Between two frames the asteroid is gone, and the stars are seen twice."""
    folder, truth = simulated(moving)
    run = difflapse.run(
        folder, tmp_path / "out", follow=readings(truth, "mover", (0, 7)), size="120px", diff=diff, window=5,
        save="aligned,differences", workers=1,
    )  # fmt: skip
    name = truth.frames[5].file.replace(".fits.fz", ".fits")
    part = read_product(tmp_path / "out" / "differences" / name)
    light = read_product(tmp_path / "out" / "aligned" / name)
    here = np.s_[1, 27:33, 27:33]
    star = np.nansum(light.data[here] - np.median(light.data[1]))
    assert abs(np.nansum(part.data[here])) < 0.1 * star
    assert np.nanmax(part.significance) > 20
    assert run.table.meta["diff"] == diff


def test_a_target_over_a_night_without_wcs_is_refused(simulated: Simulated, tmp_path: Path) -> None:
    folder, truth = simulated(spec_of(frames=4, wcs=False, movers=1))
    with pytest.raises(OptionError, match=r"no frame of .* has a WCS") as caught:
        difflapse.run(folder, tmp_path / "out", follow=readings(truth, "mover", (0, 3)), workers=1)
    assert "comet needs none" in caught.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("follow", "words"),
    [
        (["10.0,-70.0@2018-08-24T04:02:18", "10.1,-70.0@2018-08-24T04:12:18"], "at none of the 4"),
        (["243.7,33.0@2017-01-24T04:02:18", "243.8,33.0@2017-01-24T05:02:18"], "the night is 2018-08-24"),
        (["243.7,33.0@2018-08-24T04:02:18", "243.8,33.0@2018-08-24T04:02:18"], "two places for one time"),
        (["here,there@2018-08-24T04:02:18", "243.8,33.0@2018-08-24T05:02:18"], "it must be RA,DEC"),
        (["433.ecsv"], "it must be comet"),
    ],
)
def test_a_target_that_makes_no_sense_is_refused(
    simulated: Simulated, tmp_path: Path, follow: list[str], words: str
) -> None:
    folder, _ = simulated(spec_of(frames=4))
    with pytest.raises(OptionError, match=words):
        difflapse.run(folder, tmp_path / "out", follow=follow, workers=1)
    assert not (tmp_path / "out").exists()


def test_workers_change_nothing(simulated: Simulated, tmp_path: Path) -> None:
    spec = synth.preset("demo", frames=12, shape=(434, 651), seed=8, clouds=0)
    folder, _ = simulated(spec)
    for workers in (1, 2):
        difflapse.run(folder, tmp_path / str(workers), follow="comet", size="100px", workers=workers)
    one, two = tmp_path / "1", tmp_path / "2"
    assert (one / "timelapse.mp4").read_bytes() == (two / "timelapse.mp4").read_bytes()
    assert (one / "transforms.json").read_text() == (two / "transforms.json").read_text()

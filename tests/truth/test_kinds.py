"""Other nights and other ways to run them: flips, few frames, clouds, crops, damaged files, workers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import difflapse
from difflapse.errors import InputError, OptionError, OutputError, TooManyFailedError
from difflapse.synth import NightSpec, Truth

from .conftest import SMALL, Done, Make, in_clouds, read_product, spec_of

Simulated = Callable[[NightSpec], tuple[Path, Truth]]
NY, NX = SMALL


def robust(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def assert_aligned(night: Done, rms: float = 0.045) -> None:
    """On the part of each frame that the reference sees; small frames have 90 stars of 0.07 px each."""
    ny, nx = night.truth.shape
    gx, gy = np.meshgrid(np.linspace(0, nx - 1, 21), np.linspace(0, ny - 1, 15))
    for k in night.used:
        x, y = night.run.frames[k].to_reference(gx, gy)
        tx, ty = night.truth.to_reference(k, night.reference, gx, gy)
        seen = (tx >= 0) & (ty >= 0) & (tx < nx) & (ty < ny)
        assert np.sqrt(np.mean(np.hypot(x - tx, y - ty)[seen] ** 2)) < rms


def products(out: Path) -> dict[str, np.ndarray]:
    """All images of a run, by name."""
    found = {}
    for path in sorted(
        set(out.rglob("*.fits"))
        - {out / name for name in ("residuals.fits", "model_error.fits", "lightcurves.fits")}
    ):
        product = read_product(path)
        name = path.relative_to(out).as_posix()
        found[name] = np.concatenate([product.data, product.variance, product.mask[None].astype(float)])
    return found


def assert_same(one: Path, two: Path) -> None:
    a, b = products(one), products(two)
    assert a.keys() == b.keys() != set()
    for name in a:
        assert np.array_equal(a[name], b[name], equal_nan=True), name
    assert (one / "residuals.fits").read_bytes() == (two / "residuals.fits").read_bytes()
    assert (one / "timelapse.mp4").read_bytes() == (two / "timelapse.mp4").read_bytes()
    assert (one / "transforms.json").read_text() == (two / "transforms.json").read_text()


# Nights


@pytest.mark.parametrize("wcs", [True, False])
def test_a_meridian_flip_is_followed(done: Make, wcs: bool) -> None:
    """Half a turn and 35 px, in the middle of the night; nothing of it is left in the differences."""
    night = done(spec_of((520, 780), frames=5, flip_at=3, wcs=wcs), save="aligned,differences")
    assert night.used == [0, 1, 2, 3, 4]
    assert_aligned(night, 0.02)
    turned = [abs(float(night.run.table[k]["rotation_deg"])) > 179 for k in night.used]
    assert turned in ([False] * 3 + [True] * 2, [True] * 3 + [False] * 2)
    for k in night.used:
        part = night.product("differences", k).significance
        assert robust(part) == pytest.approx(1.0, abs=0.06)
        assert np.isfinite(part).mean() > 0.8
    assert set(night.run.table["method"]) <= {"reference", "wcs" if wcs else "asterism"}


def test_a_flip_that_misses_by_a_third_of_the_field_is_followed(done: Make) -> None:
    """As a night pointed at anew: a third of the width and a sixth of the height are lost on either side.

    The pixels' own sensitivity (1 % of 420 ADU beside 17 ADU of noise) does not move with the sky: 5 % more.
    """
    spec = spec_of((520, 780), frames=5, flip_at=2, wcs=False)
    spec = replace(spec, mount=replace(spec.mount, flip_offset_arcsec=(260 * 10.3, -80 * 10.3)))
    night = done(spec, save="aligned,differences")
    assert night.used == [0, 1, 2, 3, 4]
    assert_aligned(night, 0.03)
    assert np.ptp(night.run.table["dx_pix"]) > 220
    common = np.all([night.product("aligned", k).mask == 0 for k in night.used], axis=0)
    assert 0.4 < common.mean() < 0.7
    for k in night.used:
        part = night.product("differences", k).significance[common]
        assert 0.94 < robust(part) < 1.1


@pytest.mark.parametrize("wcs", [True, False])
def test_two_nights_of_two_fields_are_run_each_by_itself(
    simulated: Simulated, tmp_path: Path, wcs: bool
) -> None:
    one = spec_of(frames=3, wcs=wcs)
    mount = replace(one.mount, ra_deg=one.mount.ra_deg + 6, dec_deg=one.mount.dec_deg + 4, roll_deg=40.0)
    later = replace(one.clock, start="2018-08-25T04:11:18")
    two = replace(one, frames=4, mount=mount, clock=later, field_name="Another field")
    for n, spec in enumerate([one, two]):
        folder, _ = simulated(spec)
        shutil.copytree(folder, tmp_path / "both" / str(n))
    run = difflapse.run(tmp_path / "both", tmp_path / "out", workers=1)
    assert [len(night.frames) for night in run.sequences] == [3, 4]
    for night in run.sequences:
        assert all(f.used for f in night.frames)
        assert np.max(night.table["rms_pix"]) < 0.2


def test_the_side_of_a_flip_on_which_a_lost_frame_lies_is_not_guessed(done: Make) -> None:
    """Between a frame and one turned by half a circle lies no straight way."""
    night = done(in_clouds(spec_of((520, 780), frames=7, flip_at=4), 3))
    assert night.shown == [0, 1, 2, 4, 5, 6]
    reason = night.run.frames[3].reason
    assert "foretold" in reason
    assert "no method aligns" in reason


def test_only_auto_lays_frames_between_their_neighbours(done: Make) -> None:
    spec = in_clouds(spec_of(frames=6), 2)
    assert done(spec).guessed == [2]
    assert done(spec, align="asterism").shown == [0, 1, 3, 4, 5]


def test_flipped_frames_are_kept_apart_where_asked(simulated: Simulated, tmp_path: Path) -> None:
    folder, _ = simulated(spec_of((520, 780), frames=5, flip_at=3))
    run = difflapse.run(folder, tmp_path / "out", split=True, workers=1)
    assert [len(night.frames) for night in run.sequences] == [3, 2]
    assert (tmp_path / "out" / "index.html").exists()


def test_a_monochrome_camera_is_resampled_on_its_own_grid(done: Make) -> None:
    spec = spec_of(SMALL, frames=4)
    night = done(replace(spec, sensor=replace(spec.sensor, mosaic="")), save="aligned,differences")
    assert len(night.used) == 4
    assert_aligned(night)
    for k in night.used:
        product = night.product("differences", k)
        assert product.data.shape == (1, NY, NX)
        assert robust(product.significance) == pytest.approx(1.0, abs=0.05)
        h = product.header
        assert (h["LTM1_1"], h["LTV1"], h["NAXIS"]) == (1.0, 0.0, 2)
        assert "PLANES" not in h


@pytest.mark.parametrize("n", [2, 3])
def test_few_frames_are_subtracted_from_each_other(done: Make, n: int) -> None:
    night = done(spec_of(frames=n), save="aligned,differences")
    assert night.run.table.meta["diff"] == "running"
    assert len(night.used) == n
    assert len(list((night.out / "differences").iterdir())) == n - 1
    for k in night.used[1:]:
        assert robust(night.product("differences", k).significance) == pytest.approx(1.0, abs=0.06)
    with pytest.raises(InputError):
        _ = night.run.template


def test_a_night_in_clouds_fails_and_says_why_frame_by_frame(simulated: Simulated, tmp_path: Path) -> None:
    folder, _ = simulated(in_clouds(spec_of(frames=5), 0, 1, 2, 3, 4))
    with pytest.raises((TooManyFailedError, InputError)) as caught:
        difflapse.run(folder, tmp_path / "out", workers=1)
    assert caught.value.exit_code in (3, 5)
    if isinstance(caught.value, TooManyFailedError):
        assert caught.value.facts["found"] in (3, 4, 5)
        run = difflapse.open_run(tmp_path / "out")
        skipped = [f for f in run.frames if not f.used]
        assert len(skipped) >= 3
        assert all(f.reason for f in skipped)
        assert run.movie is None
    else:
        assert not (tmp_path / "out").exists()


def test_most_of_a_night_in_clouds_is_run_where_allowed(done: Make) -> None:
    spec = in_clouds(spec_of(frames=5), 1, 2, 4)
    with pytest.raises(TooManyFailedError, match="3 of 5"):
        done(spec)
    night = done(spec, max_failed=0.6)
    assert night.used == [0, 3]
    assert_aligned(night)
    assert len(night.run.timelapse["frames"]) == 2


def test_thin_clouds_are_scaled_away(done: Make) -> None:
    """65 and 40 % of the light: the scale takes it back, and the difference's noise grows with it."""
    spec = spec_of((520, 780), frames=6)
    night = done(replace(spec, air=replace(spec.air, clouds=((1, 0.4), (2, 0.8)))), save="differences")
    assert len(night.used) == 6
    clear = night.truth.frames[night.reference].transparency
    for k in night.used:
        truth = night.truth.frames[k].transparency / clear
        assert night.run.table[k]["transparency"] == pytest.approx(truth, rel=0.02)
        # Clouds have a glow of their own, smaller than the cells of the background.
        part = night.product("differences", k).significance
        assert 0.95 < robust(part) < (1.3 if truth < 0.9 else 1.06)
    assert not night.run.table[1]["in_template"] or not night.run.table[2]["in_template"]


def test_frames_of_two_sizes_are_two_sequences(simulated: Simulated, tmp_path: Path) -> None:
    folder = tmp_path / "both"
    folder.mkdir()
    for n, spec in enumerate([spec_of(frames=3), spec_of((240, 320), frames=2, seed=12)]):
        source, truth = simulated(spec)
        for frame in truth.frames:
            shutil.copy(source / frame.file, folder / f"{n}-{frame.file}")
    shutil.copy(source / truth.frames[0].file, folder / "broken.fits.fz")
    with (folder / "broken.fits.fz").open("r+b") as file:
        file.truncate(2000)
    run = difflapse.run(folder, tmp_path / "out", workers=1)
    assert sorted(len(night.frames) for night in run.sequences) == [2, 3]
    for night in run.sequences:
        assert night.folder.parent == tmp_path / "out"
        assert night.movie is not None
    left = run.summary()["left_out"]
    assert [item["file"] for item in left] == ["broken.fits.fz"]
    assert (tmp_path / "out" / "index.html").read_text().count("<video") == 2
    again = difflapse.open_run(tmp_path / "out")
    assert [night.name for night in again.sequences] == [night.name for night in run.sequences]


def test_a_file_that_is_cut_short_is_skipped_with_its_reason(simulated: Simulated, tmp_path: Path) -> None:
    source, truth = simulated(spec_of(frames=4))
    folder = tmp_path / "night"
    shutil.copytree(source, folder)
    victim = folder / truth.frames[2].file
    with victim.open("r+b") as file:
        file.truncate(victim.stat().st_size * 2 // 3)
    run = difflapse.run(folder, tmp_path / "out", workers=1)
    (name,) = [f.file for f in run.frames if not f.used] or [run.summary()["left_out"][0]["file"]]
    assert name == truth.frames[2].file
    assert len([f for f in run.frames if f.used]) == 3


# Crops


@pytest.mark.parametrize("roi", ["120,60,161,121", "101,51,150,120"])
def test_a_crop_is_the_cut_of_the_whole_night(done: Make, roi: str) -> None:
    spec = spec_of(frames=4)
    whole = done(spec, save="aligned,differences", reference=1)
    crop = done(spec, save="aligned,differences", reference=1, roi=roi)
    x, y, w, h = (int(part) for part in roi.split(","))
    cut = np.s_[y // 2 : (y + h) // 2, x // 2 : (x + w) // 2]
    for k in whole.used:
        a, b = whole.product("aligned", k), crop.product("aligned", k)
        assert b.data.shape[1:] == a.mask[cut].shape
        good = (a.mask[cut] == 0) & (b.mask == 0)
        assert good.mean() > 0.9
        assert np.abs(a.data[(slice(None), *cut)] - b.data)[:, good].max() < 0.5
        ltv = (b.header["LTV1"], b.header["LTV2"])
        assert ltv == (0.25 - x // 2, 0.25 - y // 2)
        assert robust(crop.product("differences", k).significance) == pytest.approx(1.0, abs=0.1)


def test_a_crop_on_the_sky_lies_about_the_star_it_names(done: Make) -> None:
    spec = in_clouds(spec_of(frames=5), 2)  # the middle frame has no WCS
    truth = done(spec).truth
    x, y, on = truth.star_pixels(0)
    mid = on & (np.abs(x - 200) < 60) & (np.abs(y - 130) < 40)
    star = np.flatnonzero(mid)[np.argmin(truth.star_mags(0)[mid])]
    centre = f"{truth.star_ra_deg[star]:.6f},{truth.star_dec_deg[star]:.6f}"
    night = done(spec, save="aligned", center=centre, size="16arcmin")
    shape = night.product("aligned", night.reference).data.shape
    assert shape in ((3, 46, 46), (3, 46, 47), (3, 47, 46), (3, 47, 47))  # 93 native pixels
    X, Y, _ = truth.star_pixels(night.reference)
    i, j = night.product_xy(X[star], Y[star])
    # The plate solution is half a pixel off, rounding to cells of the mosaic another.
    assert np.hypot(i - (shape[2] - 1) / 2, j - (shape[1] - 1) / 2) < 2.0


def test_a_crop_outside_is_refused_before_anything_is_written(simulated: Simulated, tmp_path: Path) -> None:
    folder, _ = simulated(spec_of(frames=4))
    with pytest.raises(OptionError, match="390x260"):
        difflapse.run(folder, tmp_path / "out", roi="1000,1000,100,100", workers=1)
    assert not (tmp_path / "out").exists()


# Again


def test_a_folder_in_use_is_refused_and_overwritten_where_asked(simulated: Simulated, tmp_path: Path) -> None:
    folder, _ = simulated(spec_of(frames=4))
    difflapse.run(folder, tmp_path / "out", workers=1, save="aligned")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        difflapse.run(folder, tmp_path / "out", workers=1)
    assert len(list((tmp_path / "out" / "aligned").iterdir())) == 4
    run = difflapse.run(folder, tmp_path / "out", workers=1, diff="running", overwrite=True)
    assert run.table.meta["diff"] == "running"
    assert not (tmp_path / "out" / "aligned").exists()
    assert not (tmp_path / "out" / "template.fits").exists()
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_an_earlier_run_inside_the_folder_is_no_input(simulated: Simulated, tmp_path: Path) -> None:
    source, _ = simulated(spec_of(frames=4))
    folder = tmp_path / "night"
    shutil.copytree(source, folder)
    first = difflapse.run(folder, folder / "result", workers=1, save="aligned,differences")
    second = difflapse.run(folder, tmp_path / "again", workers=1, save="aligned,differences")
    assert len(first.frames) == len(second.frames) == 4
    assert_same(folder / "result", tmp_path / "again")


@pytest.mark.parametrize("diff", ["template", "running", "rolling"])
def test_workers_change_nothing(simulated: Simulated, done: Make, tmp_path: Path, diff: str) -> None:
    spec = spec_of(frames=6)
    one = done(spec, diff=diff, window=3, save="aligned,differences")
    folder, _ = simulated(spec)
    two = tmp_path / "two"
    difflapse.run(folder, two, diff=diff, window=3, save="aligned,differences", workers=2)
    assert_same(one.out, two)


def test_the_reference_may_be_chosen(done: Make) -> None:
    spec = spec_of(frames=4)
    for wanted, number in (("first", 0), ("middle", 2), (1, 1)):
        night = (
            done(spec, reference=wanted, save="aligned,differences")
            if wanted == 1
            else done(spec, reference=wanted)
        )
        assert night.reference == number
        assert_aligned(night)


def test_a_reference_that_is_not_there_is_refused(simulated: Simulated, tmp_path: Path) -> None:
    folder, _ = simulated(spec_of(frames=4))
    with pytest.raises(OptionError, match="frames 0 to 3"):
        difflapse.run(folder, tmp_path / "out", reference=4, workers=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("units", ["adu", "percent", "mag"])
def test_units_change_the_movie_not_the_products(done: Make, units: str) -> None:
    spec = spec_of(frames=4)
    one, two = (
        done(spec, reference=1, save="aligned,differences", **more) for more in ({}, {"units": units})
    )
    a, b = products(one.out), products(two.out)
    for name in a:
        assert np.array_equal(a[name], b[name], equal_nan=True), name
    assert two.run.timelapse["units"] == units
    assert (one.out / "timelapse.mp4").read_bytes() != (two.out / "timelapse.mp4").read_bytes()


def test_without_matching_frames_are_subtracted_as_they_are(done: Make) -> None:
    night = done(spec_of(frames=4), reference=1, match="none", save="aligned,differences")
    template = np.asarray(night.run.template.data)
    for k in night.used:
        difference, aligned = night.product("differences", k), night.product("aligned", k)
        good = difference.mask == 0
        assert np.abs(difference.data - (aligned.data - template))[:, good].max() < 1e-2


def test_without_a_difference_there_is_none(done: Make) -> None:
    night = done(spec_of(frames=4), diff="none", save="aligned,differences")
    assert not (night.out / "differences").exists()
    assert not (night.out / "template.fits").exists()
    assert list(night.run.timelapse["panels"]) == ["aligned"]
    assert {f["template"] for f in night.run.timelapse["frames"]} == {None}

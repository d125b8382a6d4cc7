"""Nights on disk: names, headers, weather, objects, and the same pixels whoever makes them."""

import hashlib
import warnings
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from difflapse.errors import InputError, OptionError, OutputError
from difflapse.synth import Sensor, Truth, Variable, ideal, preset, render, simulate, truth_of

SHAPE = (210, 330)


@pytest.fixture(scope="module")
def spec():
    small = preset("panoptes", frames=6, shape=SHAPE, seed=4, clouds=1, flip_at=4)
    return replace(small, air=replace(small.air, clouds=((2, 5.0),)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, spec):
    out = tmp_path_factory.mktemp("night") / "OUT"
    simulate(out, spec)
    return out


def headers(folder, truth):
    return [fits.getheader(folder / f.file, 1) for f in truth.frames]


def test_files_are_those_of_the_truth_and_nothing_else(folder):
    truth = Truth.read(folder)
    assert sorted(p.name for p in folder.iterdir()) == sorted([*(f.file for f in truth.frames), "truth.json"])
    assert truth.frames[0].file == "20180824T040118.fits.fz"
    with fits.open(folder / truth.frames[0].file) as hdus:
        assert hdus[0].data is None
        assert isinstance(hdus[1], fits.CompImageHDU)
        assert hdus[1].data.shape == SHAPE and hdus[1].data.dtype == np.uint16
    with fits.open(folder / truth.frames[0].file, disable_image_compression=True) as hdus:
        assert hdus[1].header["ZCMPTYPE"] == "RICE_1"
        assert hdus[1].header["ZBITPIX"] == 16 and hdus[1].header["BZERO"] == 32768


def test_headers_speak_panoptes(folder):
    truth = Truth.read(folder)
    h = headers(folder, truth)[0]
    assert h["IMAGEID"] == "PAN012_358d0f_20180824T040118"
    assert h["SEQID"] == "PAN012_358d0f_20180824T035917"
    assert h["FILTER"] == "RGGB" and "BAYERPAT" not in h
    assert h["CAMTEMP"].endswith(" C") and h["CIRCCONF"] == "0.019 mm"
    assert h["ORIGIN"] == "difflapse.synth" and "CREATOR" not in h
    assert h["LAT-OBS"] == pytest.approx(34.22) and h["EXPTIME"] == 120.0


def test_the_cameras_clock_is_off_by_the_skew_and_the_computers_is_right(folder, spec):
    truth = Truth.read(folder)
    for frame, h in zip(truth.frames, headers(folder, truth), strict=True):
        stamp = datetime.strptime(h["IMAGEID"][-15:], "%Y%m%dT%H%M%S")
        assert (datetime.fromisoformat(h["DATE-OBS"]) - stamp).total_seconds() == -352
        assert (stamp - datetime(1858, 11, 17)).total_seconds() / 86400 == pytest.approx(
            frame.start_mjd, abs=1e-8
        )
        assert h["FILENAME"][:15] == frame.file[:15]
    gaps = np.diff([f.start_mjd for f in truth.frames]) * 86400
    assert gaps.min() > 171.9 and gaps.max() < 184.1


def test_a_flip_turns_the_camera_and_begins_a_sequence(folder):
    truth = Truth.read(folder)
    ids = [h["SEQID"] for h in headers(folder, truth)]
    assert len(set(ids[:4])) == 1 and len(set(ids[4:])) == 1 and ids[3] != ids[4]
    x, y = np.array([100.0, 140.0]), np.array([90.0, 90.0])
    u, v = truth.to_reference(5, 0, x, y)
    assert u[1] - u[0] == pytest.approx(-40.0, abs=0.3)
    # 180 degrees about the optical axis and 35 px of pointing offset
    cx, cy = truth.frames[0].geometry.centre_pix
    assert 20 < np.hypot(u[0] + x[0] - 2 * cx, v[0] + y[0] - 2 * cy) < 60


def test_truth_survives_its_file(folder, spec):
    truth, again = truth_of(spec), Truth.read(folder / "truth.json")
    assert [f.file for f in again.frames] == [f.file for f in truth.frames]
    x, y = truth.to_reference(3, 0, 17.25, 180.5)
    assert again.to_reference(3, 0, 17.25, 180.5) == (x, y)
    assert len(again.stars) == len(truth.star_mag)
    assert set(again.stars["kind"]) == {"star", "variable", "nova"}
    assert again.parameters["clock"]["skew_s"] == -352.0


def test_the_same_spec_gives_the_same_pixels_whatever_the_workers(tmp_path, folder, spec, monkeypatch):
    monkeypatch.setattr("difflapse.synth.night.SMALL_NIGHT_PIX", 0)  # processes even for six small frames
    counts = []
    simulate(tmp_path / "two", spec, workers=2, progress=lambda done, total: counts.append((done, total)))
    digest = lambda p: hashlib.sha256(p.read_bytes()).hexdigest()  # noqa: E731
    for p in sorted(folder.iterdir()):
        assert digest(p) == digest(tmp_path / "two" / p.name), p.name
    assert counts[-1] == (6, 6)
    assert np.array_equal(render(spec, 3), fits.getdata(folder / Truth.read(folder).frames[3].file, 1))
    assert not np.array_equal(render(replace(spec, seed=5), 3), render(spec, 3))


def test_clouds_take_light_and_brighten_the_sky(spec):
    truth = truth_of(spec)
    assert [f.cloudy for f in truth.frames] == [False, False, True, False, False, False]
    assert truth.frames[2].transparency < 0.3 < 0.7 < truth.frames[1].transparency < 1.0
    clear, cloudy = ideal(spec, 1).astype(float), ideal(spec, 2).astype(float)
    assert np.median(cloudy) > 1.2 * np.median(clear)
    bright = np.argsort(truth.star_mag)[:60]
    fluxes = []
    for k, image in ((1, clear), (2, cloudy)):
        x, y, there = truth.star_pixels(k)
        x, y = x[bright], y[bright]
        ok = there[bright] & (x > 6) & (y > 6) & (x < SHAPE[1] - 7) & (y < SHAPE[0] - 7)
        boxes = [
            image[int(b) - 3 : int(b) + 5, int(a) - 3 : int(a) + 5] for a, b in zip(x[ok], y[ok], strict=True)
        ]
        fluxes.append(np.median([box.max() - np.median(box) for box in boxes]))
    assert fluxes[1] < 0.4 * fluxes[0]


def test_the_comet_moves_as_the_truth_says():
    spec = preset(
        "panoptes", frames=9, shape=(300, 420), seed=2, clouds=0, movers=0, variables=0, novae=0, streaks=0
    )
    spec = replace(spec, population=replace(spec.population, per_18mpx=0))
    with_it, without = spec, replace(spec, objects=())
    comet = truth_of(spec).objects[0]
    yy, xx = np.indices(spec.shape)
    for k in (0, 8):
        left = ideal(with_it, k).astype(float) - ideal(without, k)
        near = (np.hypot(xx - comet.x[k], yy - comet.y[k]) < 12) & ((xx + yy) % 2 == 0)  # green sites
        found = [(left * near * g).sum() / (left * near).sum() for g in (xx, yy)]
        assert found == pytest.approx([comet.x[k], comet.y[k]], abs=0.4)
    truth = truth_of(spec)
    start = truth.to_reference(0, 8, comet.x[0], comet.y[0])
    moved = np.hypot(comet.x[8] - start[0], comet.y[8] - start[1])
    assert moved / 8 == pytest.approx(np.hypot(*spec.objects[0].rate), rel=0.03)
    assert 2.0 < moved / 8 < 4.0


def test_variables_and_the_nova_do_what_they_are_for():
    truth = truth_of(preset("panoptes", frames=20, shape=SHAPE, seed=8))
    swings = [np.ptp(o.mag) for o in truth.objects if o.kind == "variable"]
    assert len(swings) == 6 and max(swings) < 0.81 and np.median(swings) > 0.2
    (nova,) = [o for o in truth.objects if o.kind == "nova"]
    assert nova.mag[0] == 99.0 and nova.mag[-1] < 10 and not nova.inside[0]
    assert truth.star_mags(0)[nova.star] == 99.0 and truth.stars["kind"][nova.star] == "nova"
    movers = [o for o in truth.objects if o.kind == "mover"]
    assert len(movers) == 3 and all(o.star == -1 for o in movers)


def test_a_streak_lies_on_its_line_on_its_frame_only():
    spec = preset("panoptes", frames=4, shape=(300, 420), seed=2, clouds=0, streaks=1)
    (streak,) = [o for o in truth_of(spec).objects if o.kind == "streak"]
    bare = replace(spec, objects=tuple(o for o in spec.objects if type(o).__name__ != "Streak"))
    k = int(streak.frame[0])
    left = ideal(spec, k).astype(float) - ideal(bare, k)
    y, x = np.nonzero(left > 20)
    dx, dy = streak.x_end[0] - streak.x[0], streak.y_end[0] - streak.y[0]
    away = ((x - streak.x[0]) * dy - (y - streak.y[0]) * dx) / np.hypot(dx, dy)
    assert len(x) > 200 and np.abs(away).max() < 4 and abs(away.mean()) < 0.2
    other = (k + 1) % 4
    assert np.array_equal(ideal(spec, other), ideal(bare, other))


def test_header_wcs_is_a_plate_solution_off_by_half_a_pixel(tmp_path):
    """Order 2 cannot hold the lens: 0.3 to 0.7 px rms, 1 to 3.5 px at a full-size frame's worst corner."""
    from difflapse.synth import PlateSolution
    from difflapse.synth.header import plate_solution

    truth = truth_of(replace(preset("panoptes", frames=5), objects=()))
    x, y = np.meshgrid(np.linspace(0, 5207, 30), np.linspace(0, 3475, 20))
    rms, worst = [], []
    for k, f in enumerate(truth.frames):
        cards = plate_solution(f.geometry, PlateSolution(), np.random.default_rng(k))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            u, v = WCS(fits.Header(cards)).all_world2pix(*f.geometry.pixel_to_sky(x, y), 0, quiet=True)
        off = np.hypot(u - x, v - y)
        rms.append(np.sqrt(np.mean(off**2)))
        worst.append(off.max())
    assert 0.3 < np.mean(rms) < 0.7
    assert 1.0 < np.mean(worst) < 3.5


def test_frames_in_thick_cloud_have_no_wcs_and_wcs_false_leaves_it_out(folder, tmp_path, spec):
    truth = Truth.read(folder)
    assert ["CRVAL1" in h for h in headers(folder, truth)] == [f.wcs for f in truth.frames]
    assert [f.wcs for f in truth.frames] == [True, True, False, True, True, True]
    bare = preset("panoptes", frames=2, shape=(100, 140), wcs=False)
    truth = simulate(tmp_path / "bare", bare)
    assert not any("CRVAL1" in h or "CTYPE1" in h for h in headers(tmp_path / "bare", truth))


@pytest.mark.parametrize(("mosaic", "cards"), [("", ("V", None)), ("BGGR", ("RGGB", "BGGR"))])
def test_other_cameras_say_what_their_mosaic_is(tmp_path, mosaic, cards):
    spec = preset("panoptes", frames=1, shape=(90, 140))
    truth = simulate(tmp_path / "other", replace(spec, sensor=Sensor(mosaic=mosaic)))
    (h,) = headers(tmp_path / "other", truth)
    assert (h["FILTER"], h.get("BAYERPAT")) == cards


def test_a_long_night_stays_well_above_the_horizon():
    truth = truth_of(replace(preset("panoptes", frames=110, shape=(90, 140)), objects=()))
    assert max(f.zenith_distance_deg for f in truth.frames) < 65
    steps = [
        np.hypot(*np.subtract(truth.to_reference(k, k - 1, 70.0, 45.0), (70.0, 45.0))) for k in range(1, 110)
    ]
    assert min(steps) > 1.5 and max(steps) < 5.5


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty") as caught:
        simulate(tmp_path, preset("panoptes", frames=2, shape=(100, 140)))
    assert caught.value.hint
    assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def test_wrong_questions_get_plain_answers(tmp_path):
    with pytest.raises(OptionError, match="no preset 'panoptess'"):
        preset("panoptess")
    with pytest.raises(OptionError, match="GBRX"):
        Sensor(mosaic="GBRX")
    with pytest.raises(OptionError, match="sawtooth"):
        Variable((0.5, 0.5), shape="sawtooth")
    with pytest.raises(OptionError, match="0 frames"):
        preset("panoptes", frames=0)
    with pytest.raises(InputError, match=r"no truth\.json"):
        Truth.read(tmp_path)
    (tmp_path / "truth.json").write_text("{}")
    with pytest.raises(InputError, match="not the truth"):
        Truth.read(tmp_path)


def test_trails_smear_stars_and_keep_their_light():
    spec = preset("panoptes", frames=1, shape=(120, 170), clouds=0)
    dark = replace(spec.air, sky_adu=(0.0, 0.0, 0.0))
    spec = replace(spec, air=dark, sensor=replace(spec.sensor, mosaic=""))
    sharp, smeared = ideal(spec, 0).astype(float), ideal(replace(spec, trail_pix=5.0), 0).astype(float)
    assert smeared.sum() == pytest.approx(sharp.sum(), rel=0.03)
    assert smeared.max() < 0.6 * sharp.max()


def test_star_density_is_the_presets_at_any_shape():
    for shape in ((210, 330), (500, 310)):
        truth = truth_of(preset("panoptes", frames=3, shape=shape, seed=6))
        expected = 40000 * shape[0] * shape[1] / (5208 * 3476)
        assert truth.star_pixels(1)[2].sum() == pytest.approx(expected, abs=5 * np.sqrt(expected))

"""A night through the whole of it: positions, brightness, noise and products against the simulator's truth."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import av
import numpy as np
import pytest
from astropy.nddata import CCDData

from difflapse.model import bits

from .conftest import SHAPE, Done, Make, NightSpec, Product

NY, NX = SHAPE


def robust(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def bright_stars(
    night: Done, low: float, high: float, edge: float = 25.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Native x, y on the reference and row of the stars between two magnitudes that have no bright neighbour."""
    x, y, on = night.truth.star_pixels(night.reference)
    mag = night.truth.star_mags(night.reference)
    chosen = []
    for k in np.flatnonzero(on & (mag > low) & (mag < high) & (night.truth.star_kind == "star")):
        if not (edge < x[k] < NX - edge and edge < y[k] < NY - edge):
            continue
        near = on & (np.hypot(x - x[k], y - y[k]) < 10) & (mag < mag[k] + 2)
        if near.sum() == 1:
            chosen.append(k)
    rows = np.array(chosen)
    return x[rows], y[rows], rows


def centroid(image: np.ndarray, i: float, j: float, reach: int = 4) -> tuple[float, float]:
    a, b = round(float(i)), round(float(j))
    part = image[b - reach : b + reach + 1, a - reach : a + reach + 1].astype(float)
    v, u = np.indices(part.shape)
    part = part - np.median(part)
    w = part * np.exp(-0.5 * ((u + a - reach - i) ** 2 + (v + b - reach - j) ** 2) / 1.5**2)
    return a - reach + float((w * u).sum() / w.sum()), b - reach + float((w * v).sum() / w.sum())


# Alignment


def test_frames_lie_on_the_reference_to_a_fiftieth_of_a_pixel(night: Done) -> None:
    """400 stars of 0.05 px each fix a few parameters to 0.005 px; at the corners a few times that."""
    gx, gy = np.meshgrid(np.linspace(0, NX - 1, 27), np.linspace(0, NY - 1, 19))
    assert len(night.used) == 7
    for k in night.used:
        x, y = night.run.frames[k].to_reference(gx, gy)
        tx, ty = night.truth.to_reference(k, night.reference, gx, gy)
        away = np.hypot(x - tx, y - ty)
        assert np.sqrt(np.mean(away**2)) < 0.02
        assert away.max() < 0.08
        u, v = night.run.frames[k].from_reference(x, y)
        assert np.hypot(u - gx, v - gy).max() < 1e-6


def test_the_rms_in_the_table_is_that_of_held_out_stars(night: Done) -> None:
    """Of both frames' centroids, radial; the transform itself is several times better."""
    others = night.run.table[[k for k in night.used if k != night.reference]]
    assert np.all((others["rms_pix"] > 0.03) & (others["rms_pix"] < 0.15))
    assert np.allclose(others["rms_arcsec"] / others["rms_pix"], 10.3, rtol=0.02)
    assert np.all(others["n_matched"] > 250)


def test_shift_and_rotation_in_the_table_are_the_truths(night: Done) -> None:
    cx, cy = (NX - 1) / 2, (NY - 1) / 2
    for k in night.used:
        row = night.run.table[k]
        x, y = night.truth.to_reference(k, night.reference, cx, cy)
        assert (row["dx_pix"], row["dy_pix"]) == pytest.approx((float(x) - cx, float(y) - cy), abs=0.02)
        a, b = (np.array(night.truth.to_reference(k, night.reference, cx + d, cy)) for d in (-100.0, 100.0))
        angle = np.degrees(np.arctan2(b[1] - a[1], b[0] - a[0]))
        assert row["rotation_deg"] == pytest.approx(angle, abs=0.01)


def test_a_frame_in_clouds_is_laid_between_its_neighbours_and_marked(night: Done) -> None:
    """One star is left of 400: the mount's jitter (0.1 px) and worm gear (0.4 px) are what is not foreseen."""
    (k,) = [k for k, f in enumerate(night.truth.frames) if f.cloudy]
    assert night.guessed == [k]
    row = night.run.table[k]
    assert row["status"] == "used"
    assert np.ma.is_masked(row["rms_pix"])
    assert not row["in_template"]
    assert "stars" in row["refused"]
    assert "needed" in row["refused"]
    assert night.run.frames[k - 1].file in row["note"]
    assert night.run.frames[k + 1].file in row["note"]
    stated = float(row["note"].split("uncertain by ")[1].split(" px")[0])
    gx, gy = np.meshgrid(np.linspace(0, NX - 1, 9), np.linspace(0, NY - 1, 7))
    x, y = night.run.frames[k].to_reference(gx, gy)
    tx, ty = night.truth.to_reference(k, night.reference, gx, gy)
    away = float(np.sqrt(np.mean(np.hypot(x - tx, y - ty) ** 2)))
    assert 0.1 < stated < 2.0
    assert away < 2.5 * stated
    assert not (night.out / "differences" / night.truth.frames[k].file.replace(".fits.fz", ".fits")).exists()


# Brightness


def test_transparency_is_the_truths_to_half_a_percent(night: Done) -> None:
    reference = night.truth.frames[night.reference].transparency
    ratio = [
        night.run.table[k]["transparency"] * reference / night.truth.frames[k].transparency
        for k in night.used
    ]
    assert np.abs(np.array(ratio) - 1).max() < 0.01
    assert np.sqrt(np.mean((np.array(ratio) - 1) ** 2)) < 0.006


def test_background_and_noise_are_the_skys(night: Done) -> None:
    """Green, median of the vignetted field, per native pixel; a crowd of faint stars adds to the level."""
    for k in night.used:
        row, frame = night.run.table[k], night.truth.frames[k]
        level = float(row["background_adu"])
        assert 0.80 * frame.sky_adu[1] < level < 1.0 * frame.sky_adu[1]
        noise = np.sqrt(level / 1.5 + (8 / 1.5) ** 2 + 0.6**2 + (0.01 * level) ** 2)
        assert row["noise_adu"] == pytest.approx(noise, rel=0.04)
        assert row["fwhm_pix"] == pytest.approx(1.06 * frame.fwhm_pix, rel=0.1)


# Differences


@pytest.mark.parametrize("mode", ["template", "running", "rolling"])
def test_the_sky_of_a_difference_is_of_unit_width_and_no_mean(
    done: Make, night_spec: NightSpec, mode: str
) -> None:
    """The promise of the movie's scale: sigma is 1.00 +- 0.05 wherever nothing happens."""
    result = done(night_spec, diff=mode, window=5, save="aligned,differences")
    widths = []
    for k in result.used[1:] if mode == "running" else result.used:
        part = result.product("differences", k).significance
        widths.append(robust(part))
        assert widths[-1] == pytest.approx(1.0, abs=0.05)
        assert abs(np.nanmedian(part)) < 0.05
        # Stars are not gone: their own scintillation and the mosaic's phase are left.
        assert np.mean(np.abs(part[np.isfinite(part)]) > 5) < 2e-3
    assert np.mean(widths) == pytest.approx(1.0, abs=0.03)


def test_each_channel_is_of_unit_width_too(night: Done) -> None:
    for k in night.used:
        difference = night.product("differences", k)
        for d, v in zip(difference.data, difference.variance, strict=True):
            assert robust((d / np.sqrt(v))[difference.mask == 0]) == pytest.approx(1.0, abs=0.06)


def test_the_templates_variance_is_that_of_its_frames_mean(night: Done) -> None:
    frames = [k for k in night.used if night.run.table[k]["in_template"]]
    template = night.run.template
    assert template.header["NCOMBINE"] == len(frames) == 7
    single = np.mean([np.median(night.product("aligned", k).variance, axis=(1, 2)) for k in frames], axis=0)
    assert np.allclose(
        np.nanmedian(template.uncertainty.array, axis=(1, 2)) * len(frames) / single, 1.0, atol=0.06
    )


def boxes(night: Done, kind: str, reach: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Summed significance of a true object in each used frame (unit variance in empty sky), peak, magnitude."""
    thing = next(o for o in night.truth.objects if o.kind == kind)
    sums, peaks = [], []
    for k in night.used:
        x, y = night.truth.to_reference(k, night.reference, thing.x[k], thing.y[k])
        i, j = (round(float(v)) for v in night.product_xy(x, y))
        part = night.product("differences", k).significance[
            j - reach : j + reach + 1, i - reach : i + reach + 1
        ]
        sums.append(np.nansum(part) / (2 * reach + 1))
        peaks.append(np.nanmax(part))
    return np.array(sums), np.array(peaks), thing.mag[night.used]


def test_the_comet_stands_out_where_it_is(night: Done) -> None:
    """Its coma moves 3 px a frame and is 28 px wide: much of it is in the template, its condensation is not."""
    sums, peaks, _ = boxes(night, "comet", 6)
    assert sums.min() > 3
    assert sums.mean() > 7
    assert peaks.min() > 8


def test_the_mover_stands_out_by_what_it_brings(night: Done) -> None:
    """Magnitude 10.6: 26,000 ADU, some 100 sigma in nine product pixels."""
    sums, _, _ = boxes(night, "mover", 1)
    assert np.all((sums > 60) & (sums < 250))
    assert sums.std() / sums.mean() < 0.25


def test_the_variable_goes_up_and_down_with_its_magnitude(night: Done) -> None:
    sums, _, mag = boxes(night, "variable", 2)
    flux = 10 ** (-0.4 * mag)
    assert np.corrcoef(sums, flux)[0, 1] > 0.98
    # Its zero is the template's, which leaves out what departs most from the others.
    assert sums.max() > 20
    assert sums.min() < 0
    assert sums.max() - sums.min() > 30


def test_the_difference_is_frame_minus_template_in_the_templates_adu(night: Done) -> None:
    k = night.used[-1]
    difference, aligned = night.product("differences", k), night.product("aligned", k)
    template = np.asarray(night.run.template.data)
    scale = 1 / float(night.run.table[k]["transparency"])
    good = difference.mask == 0
    left = (difference.data[1] + template[1] - scale * aligned.data[1])[good]
    # What is left is the smooth background between them.
    assert robust(left - np.median(left)) < 3.0
    assert np.percentile(np.abs(left - np.median(left)), 99) < 12


# Products


def test_products_read_as_they_are(night: Done) -> None:
    for path in [night.out / "template.fits", *sorted((night.out / "aligned").iterdir())[:2]]:
        image = CCDData.read(path)
        assert image.unit == "adu"
        assert image.shape == (3, NY // 2, NX // 2)
        assert image.uncertainty.uncertainty_type == "var"
        assert image.uncertainty.array.shape == image.shape == image.mask.shape
        assert image.wcs.celestial.naxis == 2


def test_stars_lie_on_the_sky_where_the_wcs_says(night: Done) -> None:
    """The header's plate solution is 0.47 px off (rms), and its undistorted part a little more."""
    x, y, rows = bright_stars(night, 8.0, 11.0)
    i, j = night.product_xy(x, y)
    assert len(rows) > 35
    for wcs in (night.run.wcs, night.run.template.wcs.celestial):
        sky = wcs.pixel_to_world(i, j)
        truth = night.truth
        dra = (sky.ra.deg - truth.star_ra_deg[rows]) * np.cos(np.radians(truth.star_dec_deg[rows])) * 3600
        ddec = (sky.dec.deg - truth.star_dec_deg[rows]) * 3600
        assert np.sqrt(np.mean(dra**2 + ddec**2)) < 1.2 * 10.3


def test_stars_lie_in_products_where_ltm_and_ltv_say(night: Done) -> None:
    """Every plane on the common centre: red, green and blue pixels of the mosaic are not shifted."""
    x, y, _ = bright_stars(night, 9.8, 11.0)
    i, j = night.product_xy(x, y)
    assert len(x) > 20
    template = np.asarray(night.run.template.data)
    last = night.product("aligned", night.used[-1])
    for images in (template, last.data):
        for plane in images:
            found = np.array([centroid(plane, a, b) for a, b in zip(i, j, strict=True)])
            # Product pixels; a star is 1.1 of them wide, and undersampled in red and blue.
            assert np.abs(np.median(found - np.column_stack([i, j]), axis=0)).max() < 0.04


def test_a_products_mask_tells_the_reasons(night: Done) -> None:
    k = night.used[-1]
    product = night.product("aligned", k)
    with_names = {v: k for k, v in bits.NAMES.items()}
    assert with_names["saturated"] == bits.SATURATED
    # Saturated stars, outside of the frame, hot pixels: each at its true place.
    truth = night.truth
    x, y, on = truth.star_pixels(k)
    X, Y = truth.to_reference(k, night.reference, x, y)
    i, j = (np.round(v).astype(int) for v in night.product_xy(X, Y))
    shape = product.mask.shape
    inside = (i > 2) & (j > 2) & (i < shape[1] - 3) & (j < shape[0] - 3)
    very = on & inside & (truth.star_mags(k) < 8.0)
    assert very.sum() >= 3
    assert all(product.mask[b, a] & bits.SATURATED for a, b in zip(i[very], j[very], strict=True))
    faint = on & inside & (truth.star_mags(k) > 10.3)
    assert (
        np.mean([product.mask[b, a] & bits.SATURATED for a, b in zip(i[faint], j[faint], strict=True)]) < 0.05
    )
    gj, gi = np.indices(shape)
    u, v = truth.to_reference(night.reference, k, 2 * gi + 0.5, 2 * gj + 0.5)
    # A colour's first pixel may be the second of the frame: beyond its centre that colour is not known.
    outside = (u < 1) | (v < 1) | (u > NX - 2) | (v > NY - 2)
    marked = (product.mask & bits.OUTSIDE) != 0
    assert np.mean(marked != outside) < 3e-4
    hot = truth.hot_pixels[truth.hot_pixels[:, 2] > 400]
    hx, hy = night.run.frames[k].to_reference(hot[:, 0], hot[:, 1])
    a, b = (np.round(v).astype(int) for v in night.product_xy(hx, hy))
    seen = (a > 1) & (b > 1) & (a < shape[1] - 2) & (b < shape[0] - 2)
    assert (
        np.mean([bool(product.mask[q, p] & bits.DEFECT) for p, q in zip(a[seen], b[seen], strict=True)]) > 0.7
    )


def test_headers_say_what_was_subtracted_and_when(night: Done) -> None:
    template = night.run.template.header
    times = [night.truth.frames[k].mid_mjd for k in night.used]
    for k in night.used:
        h = night.product("differences", k).header
        assert h["DIFFMODE"] == "template"
        assert h["TMPLTIME"] == template["TMPLTIME"]
        assert h["LAG"] == pytest.approx((night.truth.frames[k].mid_mjd - np.mean(times)) * 86400, abs=0.01)
        assert h["REFFILE"] == night.truth.frames[night.reference].file
        assert h["ORIGFILE"] == night.truth.frames[k].file
        assert h["PLANES"] == "R,G,B"
        assert 1.1 < h["NOISECOR"] < 1.35
        assert (h["LTM1_1"], h["LTV1"], h["LTM2_2"], h["LTV2"]) == (0.5, 0.25, 0.5, 0.25)


def test_times_are_the_truths_not_the_cameras(night: Done) -> None:
    for k, frame in enumerate(night.truth.frames):
        assert night.run.frames[k].time.mjd == pytest.approx(frame.mid_mjd, abs=0.002 / 86400)


# The movie


def decode(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def test_the_movie_shows_stars_where_its_sidecar_says(night: Done) -> None:
    """In every frame: the aligned panel stands still, although the camera drifted by 20 px."""
    pictures = decode(night.out / "timelapse.mp4")
    record = json.loads((night.out / "timelapse.json").read_text())
    assert len(pictures) == len(record["frames"]) == len(night.shown)
    assert pictures[0].shape == (record["height"], record["width"])
    panel = record["panels"]["aligned"]
    matrix = np.array(panel["native_to_movie"])
    x, y, _ = bright_stars(night, 8.5, 9.6)
    assert len(x) >= 8
    u, v = matrix @ np.array([x, y, np.ones_like(x)])
    assert np.all((u > panel["x"]) & (u < panel["x"] + panel["width"]))
    assert np.all((v > panel["y"]) & (v < panel["y"] + panel["height"]))
    for picture in (pictures[0], pictures[3], pictures[-1]):
        found = np.array([centroid(picture, a, b, 5) for a, b in zip(u, v, strict=True)])
        assert np.abs(np.median(found - np.column_stack([u, v]), axis=0)).max() < 0.35
    assert [f["file"] for f in record["frames"]] == [night.truth.frames[k].file for k in night.shown]
    for k, frame in zip(night.shown, record["frames"], strict=True):
        assert frame["template"] == (None if k in night.guessed else "template")


def test_the_movies_difference_shows_the_comet_and_no_stars(night: Done) -> None:
    pictures = decode(night.out / "timelapse.mp4")
    record = json.loads((night.out / "timelapse.json").read_text())
    matrix = np.array(record["panels"]["difference"]["native_to_movie"])
    comet = next(o for o in night.truth.objects if o.kind == "mover")
    last = night.used[-1]
    x, y = night.truth.to_reference(last, night.reference, comet.x[last], comet.y[last])
    u, v = (round(float(c)) for c in matrix @ np.array([float(x), float(y), 1.0]))
    picture = pictures[-1].astype(float)
    panel = record["panels"]["difference"]
    sky = picture[panel["y"] : panel["y"] + panel["height"], panel["x"] : panel["x"] + panel["width"]]
    level, width = np.median(sky), robust(sky)
    assert np.abs(picture[v - 2 : v + 3, u - 2 : u + 3] - level).max() > 10 * width
    x, y, _ = bright_stars(night, 9.9, 10.8)
    at = np.round(matrix @ np.array([x, y, np.ones_like(x)])).astype(int)
    stars = np.array([np.abs(picture[b - 1 : b + 2, a - 1 : a + 2] - level).mean() for a, b in at.T])
    assert np.median(stars) < 3 * width


# Modes


def test_running_differences_subtract_the_frame_before(done: Make, night_spec: NightSpec) -> None:
    result = done(night_spec, diff="running", window=5, save="aligned,differences")
    frames = result.run.timelapse["frames"]
    assert frames[0]["template"] is None
    for before, k in zip(result.used[:-1], result.used[1:], strict=True):
        n = result.shown.index(k)
        h = result.product("differences", k).header
        lag = (result.truth.frames[k].start_mjd - result.truth.frames[before].start_mjd) * 86400
        assert h["DIFFMODE"] == "running"
        assert h["LAG"] == pytest.approx(lag, abs=0.01)
        assert h["TMPLFILE"] == frames[n]["template"] == result.truth.frames[before].file
    assert not (result.out / "template.fits").exists()
    assert len(list((result.out / "differences").iterdir())) == len(result.used) - 1


def test_a_lag_in_minutes_finds_the_frame_nearest_in_time(done: Make, night_spec: NightSpec) -> None:
    result = done(night_spec, diff="running", lag="6min", roi="200,100,200,160", save="differences")
    lags = {}
    for k in result.used:
        path = result.out / "differences" / result.truth.frames[k].file.replace(".fits.fz", ".fits")
        if path.exists():
            lags[k] = result.product("differences", k).header["LAG"]
    start = [f.start_mjd * 86400 for f in result.truth.frames]
    cadence = np.median(np.diff(start))
    for k in result.used:
        best = min((abs(start[k] - start[j] - 360) for j in result.used if j != k), default=1e9)
        assert (k in lags) == (best <= 0.5 * cadence)
        if k in lags:
            assert abs(lags[k] - 360) == pytest.approx(best, abs=0.01)


def test_aligned_frames_do_not_depend_on_what_is_subtracted(done: Make, night_spec: NightSpec) -> None:
    template, running, rolling = (
        done(night_spec, diff=mode, window=5, save="aligned,differences")
        for mode in ("template", "running", "rolling")
    )
    for k in template.used:
        one: Product = template.product("aligned", k)
        for other in (running, rolling):
            two = other.product("aligned", k)
            assert np.array_equal(one.data, two.data)
            assert np.array_equal(one.mask, two.mask)
            assert np.allclose(one.variance, two.variance, rtol=0.02)


# What a run leaves


def test_the_inputs_are_as_they_were(night: Done) -> None:
    """Their digests in run.toml are those of the files now."""
    import tomllib

    record = tomllib.loads((night.out / "run.toml").read_text())["provenance"]
    for k in range(len(night.truth.frames)):
        name = night.truth.frames[k].file
        assert record["inputs"][name] == hashlib.sha256((night.folder / name).read_bytes()).hexdigest()
    assert {p.name for p in night.folder.iterdir()} == {f.file for f in night.truth.frames} | {"truth.json"}


def test_products_are_all_there_and_listed(night: Done) -> None:
    import tomllib

    found = {p.relative_to(night.out).as_posix() for p in night.out.rglob("*") if p.is_file()}
    record = tomllib.loads((night.out / "run.toml").read_text())["provenance"]
    assert found == {*record["products"], "run.toml"}
    assert {"timelapse.mp4", "timelapse.json", "template.fits", "transforms.json", "frames.ecsv"} <= found
    assert len([p for p in found if p.startswith("aligned/")]) == len(night.shown) == 8
    assert len([p for p in found if p.startswith("differences/")]) == len(night.used) == 7
    assert not [p for p in night.out.rglob("*") if p.name.startswith(".")]

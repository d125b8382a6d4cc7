"""Stars: where they are, how bright in each colour, how wide, against the simulator's truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from difflapse import synth
from difflapse.measure import find_stars
from difflapse.model import Quality, Stars
from difflapse.synth.camera import psf_shape

from .conftest import BIAS, GAIN, SATURATION, Night, frame_of, lone_stars, night_of

SHAPE = (521, 783)


def mad(values: np.ndarray) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def matched(stars: Stars, x: np.ndarray, y: np.ndarray, radius: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Index of the true star nearest to each found one, and whether there is one."""
    distance, index = cKDTree(np.column_stack([x, y])).query(stars.xy, distance_upper_bound=radius)
    good = np.isfinite(distance)
    return np.where(good, index, 0), good


@pytest.fixture(scope="module")
def offsets(plain: Callable[[str], Night]) -> dict[str, np.ndarray]:
    """For unsaturated stars of four frames: dx, dy, S/N (3, n); by mosaic."""
    found = {}
    for mosaic in ("GBRG", ""):
        night = plain(mosaic)
        parts = []
        for k in range(len(night.frames)):
            x, y, on = night.truth.star_pixels(k)
            x, y = x[on], y[on]
            stars, _ = find_stars(night.frame(k))
            index, good = matched(stars, x, y)
            good &= ~stars.saturated
            parts.append([(stars.x - x[index])[good], (stars.y - y[index])[good], stars.snr[good]])
        found[mosaic] = np.concatenate(parts, axis=1)
    return found


@pytest.mark.parametrize("mosaic", ["GBRG", ""])
def test_bright_stars_lie_where_they_are(offsets: dict[str, np.ndarray], mosaic: str) -> None:
    """At S/N > 100 to a fiftieth of a pixel, without a common shift."""
    dx, dy, snr = offsets[mosaic]
    bright = snr > 100
    assert bright.sum() > 150
    for d in (dx[bright], dy[bright]):
        assert mad(d) < (0.03 if mosaic else 0.02)
        # The median of n stars is known to 1.25 sigma / sqrt(n), here about 0.002 px.
        assert abs(np.median(d)) < 0.005


@pytest.mark.parametrize("low, high", [(10, 20), (20, 40), (40, 80), (80, 160)])
@pytest.mark.parametrize("mosaic", ["GBRG", ""])
def test_positions_are_as_good_as_the_noise_allows(
    offsets: dict[str, np.ndarray], mosaic: str, low: float, high: float
) -> None:
    """An ideal centroid errs by 0.9 px (sigma of the PSF) / S/N; crowding and the mosaic add their share."""
    dx, dy, snr = offsets[mosaic]
    some = (snr >= low) & (snr < high)
    assert some.sum() > 60
    ideal = 0.9 / np.median(snr[some])
    for d in (dx[some], dy[some]):
        assert 0.7 * ideal < mad(d) < 2.0 * ideal + 0.012
        assert abs(np.median(d)) < 5 * 1.25 * mad(d) / np.sqrt(some.sum())


@pytest.mark.parametrize("mosaic", ["GBRG", ""])
def test_nearly_all_that_is_found_is_there_and_the_bright_ones_are_found(
    plain: Callable[[str], Night], mosaic: str
) -> None:
    night = plain(mosaic)
    stars, quality = find_stars(night.frame(1))
    x, y, on = night.truth.star_pixels(1)
    inside = on & (x > 8) & (y > 8) & (x < SHAPE[1] - 9) & (y < SHAPE[0] - 9)
    _, good = matched(stars, x[on], y[on], 2.0)
    assert good.mean() > 0.97
    bright = inside & (night.truth.star_mags(1) < 11.5)
    near = cKDTree(stars.xy).query(np.column_stack([x[bright], y[bright]]))[0] < 2.0
    assert near.mean() > 0.95  # the others are blends
    assert len(stars) <= quality.n_stars < 1.2 * len(stars)
    assert np.all(np.diff(stars.flux) <= 0)


@pytest.fixture(scope="module", params=[("GBRG", 2.0), ("", 2.0), ("RGGB", 3.6), ("", 9.0), ("GRBG", 9.0)])
def lone(request: pytest.FixtureRequest) -> tuple[Night, Stars, Quality, np.ndarray]:
    """Stars far from each other: a night, what was found on its frame 1, and the object behind each star."""
    mosaic, fwhm = request.param
    brightest = 10.0 if fwhm < 3 else (9.2 if fwhm < 5 else 7.6)
    night = night_of(lone_stars(mosaic, fwhm, (brightest, brightest + 2.3), SHAPE, seed=9))
    stars, quality = find_stars(night.frame(1))
    x, y = (np.array([getattr(o, c)[1] for o in night.truth.objects]) for c in ("x", "y"))
    index, good = matched(stars, x, y)
    assert good.all(), "something was found where there is nothing"
    inside = (
        (x > 3 * fwhm + 4)
        & (y > 3 * fwhm + 4)
        & (x < SHAPE[1] - 3 * fwhm - 5)
        & (y < SHAPE[0] - 3 * fwhm - 5)
    )
    assert len(np.unique(index)) >= inside.sum()
    return night, stars, quality, index


def test_each_colours_flux_is_that_of_its_own_pixels(lone: tuple[Night, Stars, Quality, np.ndarray]) -> None:
    """Proportional to the truth in every colour, with the share of pixels that the colour has."""
    night, stars, _, index = lone
    spec = night.spec
    mosaic = spec.sensor.mosaic
    true_green = np.array([night.truth.objects[k].flux_adu[1] for k in index])
    colour = spec.response(np.array([spec.objects[k].colour for k in index]))
    # Reddening by the air, relative to green.
    extinction = np.array(spec.air.extinction_mag)
    air = 10 ** (-0.4 * (extinction - extinction[1]) * 1.1)
    for c, share in enumerate((0.25, 0.5, 0.25) if mosaic else (1.0,)):
        truth = true_green * (colour[:, c] * air[c] * share if mosaic else 1.0)
        ratio = stars.colour_flux[c] / truth
        bright = stars.snr > 100
        assert bright.sum() > 15
        # A circle of 1.3 to 1.6 FWHM holds 83 to 88 % of a Moffat's light; its wings are in the ring too.
        assert 0.74 < np.median(ratio[bright]) < 0.95
        # Undersampled red and blue: the phase of the mosaic moves their flux by several percent.
        phase = 0.06 if mosaic and share < 0.5 and spec.air.fwhm_pix[0] < 3 else 0.025
        assert mad(ratio[bright]) < phase


def test_the_flux_is_all_colours_together(lone: tuple[Night, Stars, Quality, np.ndarray]) -> None:
    _, stars, _, _ = lone
    assert np.allclose(stars.flux, stars.colour_flux.sum(axis=0), rtol=1e-12)


def test_widths_are_those_of_the_psf(lone: tuple[Night, Stars, Quality, np.ndarray]) -> None:
    """To a tenth: a mosaic's 2x2 sums widen a star, and by how much depends on its profile."""
    night, stars, quality, index = lone
    frame = night.truth.frames[1]
    x, y = (np.array([getattr(night.truth.objects[k], c)[1] for k in index]) for c in ("x", "y"))
    long, short, _ = psf_shape(x, y, frame.geometry, night.spec.blur, frame.fwhm_pix)
    truth = np.sqrt(long * short)
    sharp = (stars.snr > 50) & np.isfinite(stars.fwhm)
    ratio = stars.fwhm[sharp] / truth[sharp]
    assert 0.92 < np.median(ratio) < 1.10
    assert mad(ratio) < 0.08
    assert quality.fwhm_pix == pytest.approx(np.median(truth[sharp]), rel=0.1)


def test_round_stars_are_told_from_long_ones(lone: tuple[Night, Stars, Quality, np.ndarray]) -> None:
    """The preset's stars are longer than wide by up to 1.3 in the corners, 1.07 in the mean of the field."""
    _, _, quality, _ = lone
    assert 1.0 < quality.elongation < 1.15


def test_trailed_stars_are_long() -> None:
    spec = replace(lone_stars("", 2.2, (10.0, 12.0), SHAPE, seed=9), trail_pix=5.0)
    _, quality = find_stars(frame_of(synth.render(spec, 1), ""))
    assert quality.elongation > 1.4


def test_signal_to_noise_is_what_repeated_frames_scatter_by() -> None:
    """The same stars under 12 draws of noise: the flux scatters by flux / snr."""
    spec = lone_stars("GBRG", 2.2, (10.3, 12.8), (321, 483), seed=4)
    clean = synth.ideal(spec, 1).astype(float)
    rng = np.random.default_rng(7)
    fluxes, snrs = [], []
    base = None
    for _ in range(12):
        noisy = clean + rng.normal(0, np.sqrt(clean / GAIN + (8.0 / GAIN) ** 2)) + BIAS
        stars, _ = find_stars(frame_of(np.round(noisy).astype(np.uint16), "GBRG"))
        if base is None:
            base = stars.xy
        distance, index = cKDTree(stars.xy).query(base)
        assert np.median(distance) < 0.3
        fluxes.append(np.where(distance < 1.5, stars.flux[index], np.nan))
        snrs.append(stars.snr[index])
    flux, snr = np.array(fluxes), np.array(snrs)
    everywhere = np.isfinite(flux).all(axis=0)
    assert everywhere.sum() > 25
    scatter = flux[:, everywhere].std(axis=0, ddof=1) / flux[:, everywhere].mean(axis=0)
    ratio = scatter * snr[:, everywhere].mean(axis=0)
    # 25 stars or more with 11 degrees of freedom each: 5 %; centring and the sky's ring add a little.
    assert 0.85 < np.sqrt(np.mean(ratio**2)) < 1.25


def test_saturated_stars_are_flagged_and_no_others(plain: Callable[[str], Night]) -> None:
    night = plain("GBRG")
    data = night.frames[0]
    stars, _ = find_stars(night.frame(0))
    assert 5 <= stars.saturated.sum() <= 40
    for x, y, flagged in zip(stars.x, stars.y, stars.saturated, strict=True):
        i, j = round(x), round(y)
        around = data[max(0, j - 3) : j + 4, max(0, i - 3) : i + 4]
        if flagged:
            assert around.max() >= SATURATION
        else:
            assert data[max(0, j - 1) : j + 2, max(0, i - 1) : i + 2].max() < SATURATION


@pytest.mark.parametrize("mosaic", ["GBRG", ""])
def test_masked_regions_and_nan_give_no_stars_and_take_none_away(
    plain: Callable[[str], Night], mosaic: str
) -> None:
    night = plain(mosaic)
    data = night.frames[0].astype(np.float32)
    mask = np.zeros(SHAPE, bool)
    mask[100:180, 300:420] = True
    mask[30, :] = True
    data[mask] = np.nan
    mask_only = np.isfinite(data) & mask
    assert not mask_only.any()
    whole, _ = find_stars(night.frame(0))
    stars, quality = find_stars(frame_of(data, mosaic, mask))
    assert all(np.isfinite(getattr(stars, c)).all() for c in ("x", "y", "flux", "snr"))
    hidden = (stars.x > 301) & (stars.x < 418) & (stars.y > 101) & (stars.y < 178)
    assert not hidden.any()
    far = (whole.x < 280) & (whole.y > 60)
    near = cKDTree(stars.xy).query(whole.xy[far])[0] < 0.1
    assert near.mean() > 0.97
    assert np.isfinite(quality.noise_adu).all()


@pytest.mark.parametrize("mosaic", ["GBRG", ""])
def test_a_star_with_a_masked_pixel_in_its_aperture_is_left_out(
    plain: Callable[[str], Night], mosaic: str
) -> None:
    """Its light would be that of the sky there; stars a few widths away stay, with the same flux."""
    frame = plain(mosaic).frame(0)
    whole, _ = find_stars(frame)
    victims = whole.take(np.arange(20))
    mask = np.zeros(SHAPE, bool)
    mask[np.round(victims.y).astype(int), np.round(victims.x + 2).astype(int)] = True
    stars, _ = find_stars(replace(frame, mask=mask))
    my, mx = np.nonzero(mask)
    assert cKDTree(np.column_stack([mx, my])).query(stars.xy)[0].min() > 2.0
    clear = cKDTree(np.column_stack([mx, my])).query(whole.xy)[0] > 20
    away, at = cKDTree(stars.xy).query(whole.xy[clear])
    assert (away < 0.1).mean() > 0.97
    same = away < 0.1
    # A few faint ones settle elsewhere, for the background's mesh knows of the mask too.
    assert np.mean(np.abs(stars.flux[at[same]] / whole.flux[clear][same] - 1) < 0.02) > 0.97


def test_nan_without_a_mask_is_no_crash(plain: Callable[[str], Night]) -> None:
    data = plain("").frames[0].astype(np.float32)
    data[200:210, 100:160] = np.nan
    stars, _ = find_stars(frame_of(data, ""))
    assert len(stars) > 300
    assert np.isfinite(stars.xy).all()


def noise(seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(2400, 18, SHAPE)


@pytest.mark.parametrize("mosaic", ["RGGB", ""])
def test_an_empty_sky_has_no_stars(mosaic: str) -> None:
    stars, quality = find_stars(frame_of(np.round(noise()).astype(np.uint16), mosaic))
    assert len(stars) <= 2  # 5 sigma of the filtered picture, among 4e5 pixels
    assert quality.noise_adu[0] == pytest.approx(18, rel=0.03)
    assert quality.background_adu[0] == pytest.approx(2400 - BIAS, abs=0.6)
    assert stars.colour_flux.shape[0] == (3 if mosaic else 1)


@pytest.mark.parametrize("value", [0, 300, 65535])
@pytest.mark.parametrize("mosaic", ["RGGB", ""])
def test_a_constant_image_has_no_stars(mosaic: str, value: int) -> None:
    stars, quality = find_stars(frame_of(np.full(SHAPE, value, np.uint16), mosaic))
    assert len(stars) == 0
    assert quality.n_stars == 0
    assert quality.background_adu[0] == value - BIAS


def test_an_image_without_a_good_pixel_is_no_crash() -> None:
    stars, quality = find_stars(frame_of(noise().astype(np.float32), "", np.ones(SHAPE, bool)))
    assert len(stars) == 0
    assert np.isnan(quality.noise_adu).all()


@pytest.mark.parametrize("mosaic", ["GBRG", ""])
def test_a_disk_that_fills_half_the_field_is_no_star(mosaic: str) -> None:
    y, x = np.indices(SHAPE)
    disk = np.hypot(x - 391.3, y - 260.8) < 190.4
    texture = 200 * np.sin(x / 23.0) * np.cos(y / 17.0)
    data = noise() + disk * (6000 + texture)
    stars, quality = find_stars(frame_of(np.round(data).astype(np.uint16), mosaic))
    on_disk = np.hypot(stars.x - 391.3, stars.y - 260.8) < 180
    assert on_disk.sum() < 10
    assert len(stars) < 60
    assert np.isfinite(quality.noise_adu).all()


def test_hot_pixels_are_not_stars() -> None:
    rng = np.random.default_rng(6)
    data = noise()
    x, y = rng.integers(5, SHAPE[1] - 5, 200), rng.integers(5, SHAPE[0] - 5, 200)
    data[y, x] += rng.uniform(300, 8000, 200)
    stars, _ = find_stars(frame_of(np.round(data).astype(np.uint16), ""))
    assert len(stars) < 10


@pytest.mark.parametrize("shape", [(520, 782), (521, 783), (97, 240)])
@pytest.mark.parametrize("mosaic", ["GBRG", ""])
def test_small_and_odd_frames_are_taken(
    plain: Callable[[str], Night], mosaic: str, shape: tuple[int, int]
) -> None:
    night = plain(mosaic)
    ny, nx = shape
    stars, _ = find_stars(frame_of(night.frames[0][:ny, :nx], mosaic))
    assert len(stars) > 400 * ny * nx / (SHAPE[0] * SHAPE[1]) - 15
    assert np.all((stars.x > 0) & (stars.y > 0) & (stars.x < nx) & (stars.y < ny))


@pytest.mark.parametrize("dtype", [">u2", "int32", "float32", ">f4", "float64"])
def test_the_type_of_the_pixels_changes_nothing(plain: Callable[[str], Night], dtype: str) -> None:
    data = plain("GBRG").frames[0]
    before = data.copy()
    one, _ = find_stars(frame_of(data, "GBRG"))
    two, _ = find_stars(frame_of(data.astype(dtype), "GBRG"))
    assert np.array_equal(data, before)
    assert len(one) == len(two)
    assert np.allclose(one.xy, two.xy, atol=1e-5)
    assert np.allclose(one.flux, two.flux, rtol=1e-5)


def test_frames_scaled_to_one_show_the_same_stars(plain: Callable[[str], Night]) -> None:
    frame = plain("GBRG").frame(0)
    facts = replace(
        frame.facts, bias_adu=BIAS / 65535, saturation_adu=SATURATION / 65535, gain_e_adu=GAIN * 65535
    )
    small = type(frame)(facts, (frame.data / 65535).astype(np.float32))
    (one, q1), (two, q2) = find_stars(frame), find_stars(small)
    near = cKDTree(two.xy).query(one.xy)[0] < 0.02
    assert near.mean() > 0.97
    assert q2.fwhm_pix == pytest.approx(q1.fwhm_pix, rel=0.02)
    assert q2.noise_adu[1] * 65535 == pytest.approx(q1.noise_adu[1], rel=0.02)


def test_a_limit_keeps_stars_from_all_of_the_field(plain: Callable[[str], Night]) -> None:
    night = plain("GBRG")
    some, quality = find_stars(night.frame(0), limit=90)
    every, _ = find_stars(night.frame(0))
    assert 40 <= len(some) <= 90 < len(every) <= quality.n_stars
    assert np.all(np.diff(some.flux) <= 0)
    counts, *_ = np.histogram2d(some.y, some.x, bins=(2, 3), range=((0, SHAPE[0]), (0, SHAPE[1])))
    assert counts.min() >= 3
    assert np.allclose(some.xy[0], every.xy[0], atol=0.02)


def test_the_gain_matters_to_the_noise_of_bright_stars_only(plain: Callable[[str], Night]) -> None:
    frame = plain("").frame(0)
    coarse, _ = find_stars(replace(frame, facts=replace(frame.facts, gain_e_adu=0.2)))
    fine, _ = find_stars(replace(frame, facts=replace(frame.facts, gain_e_adu=50.0)))
    assert np.array_equal(coarse.flux[:50], fine.flux[:50])
    assert np.all(coarse.snr[:50] < 0.5 * fine.snr[:50])

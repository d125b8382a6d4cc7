"""The subtraction: zero mean and unit width for equal frames, signs, units, masks, covariance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from difflapse.difference import Difference, Noise, Science, Template, subtract
from difflapse.measure.mesh import constant
from difflapse.model import bits

from .conftest import GAIN, SHAPE, SIGMA, SKY, draw, noise_of_frame, science, template

N = SHAPE[0] * SHAPE[1]


def robust(values: np.ndarray) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def pair(seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return draw(rng), draw(rng)


@pytest.mark.parametrize("channels", [1, 3])
def test_equal_frames_leave_noise_of_one_sigma_and_no_mean(channels: int) -> None:
    a, b = (x[:channels] for x in pair())
    noise = noise_of_frame(SIGMA[:channels])
    result = subtract(science(a, noise), template(b, SIGMA[:channels]), keep=True)
    # n independent pixels: the mean to 1 / sqrt(n), the width to 1 / sqrt(2 n).
    assert abs(result.combined.mean()) < 5 / np.sqrt(N)
    assert result.combined.std() == pytest.approx(1.0, abs=5 / np.sqrt(2 * N))
    assert (result.units, result.noise) == ("sigma", 1.0)
    assert result.data is not None and result.variance is not None
    for d, v, sigma in zip(result.data, result.variance, SIGMA, strict=False):
        assert abs(d.mean()) < 5 * np.sqrt(2) * sigma / np.sqrt(N)
        assert d.std() == pytest.approx(np.sqrt(2) * sigma, rel=5 / np.sqrt(2 * N))
        assert v.mean() == pytest.approx(2 * sigma**2, rel=0.01)


def test_the_difference_is_science_minus_template() -> None:
    a, b = pair()
    b[:, 100:110, 200:220] += 500
    a[:, 20:30, 40:50] += 500
    result = subtract(science(a), template(b), keep=True)
    assert result.data is not None
    assert np.allclose(result.data, a - b, atol=1e-3)
    assert result.combined[20:30, 40:50].mean() > 20
    assert result.combined[100:110, 200:220].mean() < -20


def test_swapping_science_and_template_flips_the_sign() -> None:
    a, b = pair()
    one, two = subtract(science(a), template(b)), subtract(science(b), template(a))
    assert np.allclose(one.combined, -two.combined, atol=1e-5)


def test_colours_are_weighted_by_their_noise() -> None:
    """A signal in all colours stands as high as their best combination: sqrt(sum (signal / sigma)^2)."""
    a, b = pair(3)
    bright = a + 3.0
    gain = (
        subtract(science(bright), template(b)).combined - subtract(science(a), template(b)).combined
    ).mean()
    assert gain == pytest.approx(3.0 * np.sqrt(np.sum(1 / (2 * SIGMA**2))), rel=0.01)
    adu = subtract(science(bright), template(b), units="adu").combined.mean()
    assert adu == pytest.approx(3.0, abs=5 * np.sqrt(2 / np.sum(1 / SIGMA**2) / N))


def test_photon_noise_grows_with_the_light_of_either_frame() -> None:
    """Stars of 4000 ADU: their own noise is 51 ADU; the difference there is still of unit width."""
    rng = np.random.default_rng(4)
    level = np.zeros(SHAPE)
    level[:, 100:] = 4000.0
    frames = []
    for _ in range(2):
        sigma = np.sqrt(SIGMA[:, None, None] ** 2 + level / GAIN)
        frames.append(
            (SKY[:, None, None] + level + sigma * rng.standard_normal((3, *SHAPE))).astype(np.float32)
        )
    made = template(frames[1])
    variance = SIGMA[:, None, None] ** 2 + np.broadcast_to(level, (3, *SHAPE)) / GAIN
    made = replace(made, variance=variance.astype(np.float32))
    noise = noise_of_frame(gain=GAIN)
    result = subtract(science(frames[0], noise), made).combined
    for part in (result[:, :100], result[:, 100:]):
        assert part.std() == pytest.approx(1.0, abs=5 / np.sqrt(2 * part.size) + 0.01)


def test_a_brightening_is_judged_with_its_own_photons() -> None:
    """50 sigma of sky, but only 16 with the noise of the light itself."""
    rng = np.random.default_rng(5)
    noise = noise_of_frame(gain=GAIN)
    a, b = draw(rng), draw(rng)
    before = subtract(science(a, noise), template(b)).combined[50, 60]
    a[:, 50, 60] += 600
    after = subtract(science(a, noise), template(b)).combined[50, 60] - before
    expected = 600 * np.sqrt(np.sum(1 / (2 * SIGMA**2 + 600 / GAIN)))
    assert after == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("n", [2, 4, 12])
def test_a_template_that_holds_the_frame_itself_is_allowed_for(n: int) -> None:
    """The covariance, by simulation: with it the width is one, without it too small by 1 / n."""
    rng = np.random.default_rng(6)
    frames = [draw(rng) for _ in range(n)]
    mean = np.mean(frames, axis=0).astype(np.float32)
    made = template(mean, SIGMA / np.sqrt(n))
    own = subtract(science(frames[0]), made, own_weight=1 / n).combined
    blind = subtract(science(frames[0]), made).combined
    assert own.std() == pytest.approx(1.0, abs=5 / np.sqrt(2 * N))
    assert blind.std() == pytest.approx(np.sqrt((1 - 1 / n) / (1 + 1 / n)), abs=5 / np.sqrt(2 * N))
    other = subtract(science(draw(rng)), made).combined
    assert other.std() == pytest.approx(1.0, abs=5 / np.sqrt(2 * N))


def test_scale_and_offset_are_applied() -> None:
    """A frame twice as bright, on a sky of its own, is the template after scale and offset."""
    a, b = pair(7)
    dimmed = (2 * a + 30).astype(np.float32)
    ramp = np.broadcast_to(np.linspace(0, 8, 5, dtype=np.float32), (3, 4, 5))
    row = np.linspace(0, 8, SHAPE[1])
    tilted = (dimmed + 2 * row).astype(np.float32)
    frame = Science(tilted, np.zeros(SHAPE, np.uint8), constant([0.5] * 3), ramp + 15, noise_of_frame())
    result = subtract(frame, template(b), keep=True)
    assert result.data is not None
    assert np.abs(result.data - (a - b)).max() < 0.01
    assert result.combined.std() == pytest.approx(1.0, abs=5 / np.sqrt(2 * N))


def test_units_say_the_same_in_other_words() -> None:
    a, b = pair(8)
    in_sigma = subtract(science(a), template(b))
    in_adu = subtract(science(a), template(b), units="adu")
    in_percent = subtract(science(a), template(b), units="percent")
    sigma = np.sqrt(1 / np.sum(1 / (2 * SIGMA**2)))
    assert (in_adu.units, in_percent.units) == ("adu", "percent")
    # Measured on every 25th pixel: to 2 %.
    assert in_adu.noise == pytest.approx(sigma, rel=0.07)
    assert np.allclose(in_adu.combined / sigma, in_sigma.combined, atol=0.01)
    weight = 1 / SIGMA**2
    base = float(np.sum(weight * SKY) / np.sum(weight))
    # The template's own noise moves the denominator by 2 %.
    assert np.median(np.abs(in_percent.combined / (100 * in_adu.combined / base) - 1)) < 0.03
    assert in_percent.noise == pytest.approx(100 * sigma / base, rel=0.07)


def test_magnitudes_are_pogsons_on_stars_and_noise_on_the_sky() -> None:
    """A star of 400 sigma dims by 0.3 mag; the sky's noise is 1.0857 / 10 of a magnitude whatever its level."""
    quiet = np.zeros((3, *SHAPE), np.float32)
    b = (SKY[:, None, None] + quiet).astype(np.float32)
    light = 400 * SIGMA * np.array([1.0, 0.7, 0.5])
    b[:, 40:44, 50:55] += light[:, None, None]
    a = (b - SKY[:, None, None]) * 10 ** (-0.4 * 0.3) + SKY[:, None, None]
    shown = subtract(science(a.astype(np.float32)), template(b), units="mag")
    assert shown.units == "mag"
    assert shown.combined[40:44, 50:55] == pytest.approx(-0.3, abs=0.001)
    assert np.abs(shown.combined[:40]).max() < 1e-4
    noisy, flat = pair(8)
    sky = subtract(science(noisy), template(flat), units="mag")
    # Frame and template have the same noise; five sigma are those of the frame alone.
    assert sky.noise == pytest.approx(2**0.5 * 1.0857 / 10, rel=0.07)
    in_sigma = subtract(science(noisy), template(flat)).combined
    assert np.corrcoef(sky.combined.ravel(), in_sigma.ravel())[0, 1] > 0.99
    # Ten sigma that appear on empty sky, and the same that go: as many magnitudes, of either sign.
    there = b.copy()
    combined = 1 / np.sqrt(np.sum(1 / SIGMA**2))
    there[:, 80, 90] += 10 * combined
    came = subtract(science(there), template(b), units="mag").combined[80, 90]
    went = subtract(science(b), template(there), units="mag").combined[80, 90]
    assert came == pytest.approx(2.5 / np.log(10) * np.arcsinh(1.0), rel=0.02)
    assert went == pytest.approx(-came, rel=1e-4)


@pytest.mark.parametrize("units", ["sigma", "adu", "percent", "mag"])
def test_masked_pixels_are_nan_and_keep_their_bits(units: str) -> None:
    a, b = pair(9)
    mask = np.zeros(SHAPE, np.uint8)
    mask[10:20, 30:50] = bits.SATURATED
    mask[15:25, 40:60] |= bits.DEFECT
    count = np.full(SHAPE, 5, np.uint8)
    count[100:110, :] = 0
    result = subtract(science(a, mask=mask), template(b, count=count), units=units)
    assert np.array_equal(np.isnan(result.combined), (mask != 0) | (count == 0))
    assert (result.mask[100:110] & bits.NO_TEMPLATE).all()
    assert result.mask[16, 45] == bits.SATURATED | bits.DEFECT
    assert (result.mask[200:] == 0).all()
    assert np.isfinite(result.noise)


def test_bad_values_under_a_mask_do_not_spread() -> None:
    a, b = pair(10)
    mask = np.zeros(SHAPE, np.uint8)
    mask[10, 30] = bits.BLANK
    whole = subtract(science(a, mask=mask), template(b)).combined
    a[:, 10, 30] = np.nan
    result = subtract(science(a, mask=mask), template(b)).combined
    assert np.array_equal(np.isnan(result), mask != 0)
    assert np.array_equal(result[mask == 0], whole[mask == 0])


def test_whole_numbers_do_not_wrap_around() -> None:
    """Frames that are darker than their template, as unsigned integers."""
    dark, light = np.full((3, *SHAPE), 100, np.uint16), np.full((3, *SHAPE), 300, np.uint16)
    one = subtract(science(dark.astype(np.float32)), template(light.astype(np.float32)), keep=True)
    assert one.data is not None
    assert np.all(one.data == -200)
    raw = subtract(science(dark), template(light), keep=True)
    assert raw.data is not None
    assert np.array_equal(raw.data, one.data)


def test_nothing_given_is_changed() -> None:
    a, b = pair(11)
    frame, made = science(a.copy()), template(b.copy())
    kept = (made.variance.copy(), made.count.copy(), frame.mask.copy())
    subtract(frame, made, 0.1, "adu", keep=True)
    assert np.array_equal(frame.data, a)
    assert np.array_equal(made.data, b)
    for before, after in zip(kept, (made.variance, made.count, frame.mask), strict=True):
        assert np.array_equal(before, after)


def test_planes_are_kept_only_where_asked_for() -> None:
    a, b = pair(12)
    short, long = subtract(science(a), template(b)), subtract(science(a), template(b), keep=True)
    assert short.data is None
    assert short.variance is None
    assert np.array_equal(short.combined, long.combined)


def test_noise_that_varies_over_the_field_is_followed() -> None:
    rng = np.random.default_rng(13)
    sky = np.linspace(4.0, 20.0, 9, dtype=np.float32)[None, None, :] ** 2
    mesh = np.broadcast_to(sky, (1, 4, 9))
    sigma = np.sqrt(np.interp(np.arange(SHAPE[1]), np.linspace(0, SHAPE[1] - 1, 9), sky[0, 0]))
    frames = [(sigma * rng.standard_normal((1, *SHAPE))).astype(np.float32) for _ in range(2)]
    variance = np.broadcast_to(sigma**2, (1, *SHAPE)).astype(np.float32)
    made = Template(frames[1], variance, np.ones(SHAPE, np.uint8), constant([0.0]))
    frame = Science(
        frames[0], np.zeros(SHAPE, np.uint8), constant([1.0]), constant([0.0]), Noise(mesh, 0 * mesh)
    )
    result: Difference = subtract(frame, made)
    for part in np.array_split(result.combined, 6, axis=1):
        assert part.std() == pytest.approx(1.0, abs=5 / np.sqrt(2 * part.size))


@pytest.mark.parametrize("units", ["adu", "percent", "mag"])
def test_significance_is_the_same_in_all_units(units: str) -> None:
    rng = np.random.default_rng(8)
    frame, other = draw(rng), draw(rng)
    sigma = subtract(science(frame), template(other))
    same = subtract(science(frame), template(other), units=units)
    assert np.array_equal(sigma.significance, sigma.combined)
    assert np.array_equal(sigma.significance, same.significance)
    assert not np.allclose(same.combined, same.significance)


def test_unlike_pixels_widen_bright_stars_only() -> None:
    rng = np.random.default_rng(9)
    scene = SKY[:, None, None] + np.zeros((3, *SHAPE))
    scene[:, :, 100:140] += 5000
    response = 0.01
    noise = Noise(constant(np.square(SIGMA)), constant([0.0] * 3), 1.0, 1.0, constant([response**2] * 3))
    light = (scene - SKY[:, None, None]) * (1 + response * rng.standard_normal(scene.shape))
    frame = draw(rng) + light
    got = subtract(
        science(frame.astype(np.float32), noise), template(scene.astype(np.float32), 1e-3 * SIGMA)
    ).significance
    assert np.std(got[:, 100:140]) == pytest.approx(1.0, abs=0.04)
    assert np.std(got[:, :90]) == pytest.approx(1.0, abs=0.05)

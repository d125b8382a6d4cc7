"""Levels and noise: what was put in comes out, for whole numbers too, through gradients, stars and masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from difflapse import synth
from difflapse.measure import channel_levels
from difflapse.mosaic import sites

from .conftest import Night

SHAPE = (420, 610)
LEVELS, NOISES = (260.0, 425.5, 290.25), (9.0, 14.0, 6.5)


def sky(pattern: str, seed: int = 1) -> np.ndarray:
    """Gaussian noise about a level, both of them each colour's own."""
    rng = np.random.default_rng(seed)
    image = np.empty(SHAPE)
    step = 2 if pattern else 1
    for site in sites(pattern):
        plane = image[site.y :: step, site.x :: step]
        c = site.channel if pattern else 1
        plane[:] = rng.normal(LEVELS[c], NOISES[c], plane.shape)
    return image


def expected(pattern: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Levels, noises, and the pixels behind each."""
    if not pattern:
        return np.array(LEVELS[1:2]), np.array(NOISES[1:2]), np.array([SHAPE[0] * SHAPE[1]])
    n = SHAPE[0] * SHAPE[1] / 4
    return np.array(LEVELS), np.array(NOISES), n * np.array([pattern.count(c) for c in "RGB"])


def assert_known(
    pattern: str, levels: tuple[float, ...], noises: tuple[float, ...], slack: float = 1.0
) -> None:
    level, noise, n = expected(pattern)
    # A median's error is 1.25 sigma / sqrt(n); a width from quantiles of neighbours' differences has about
    # twice the error of a standard deviation, 1 / sqrt(2 n).
    assert np.abs(np.array(levels) - level).max() < slack * (5 * 1.25 * noise / np.sqrt(n)).max()
    assert np.abs(np.array(noises) / noise - 1).max() < slack * 5 * 2 / np.sqrt(2 * n.min())


@pytest.mark.parametrize("pattern", ["", "GBRG", "RGGB"])
def test_levels_and_noises_are_each_colours_own(pattern: str) -> None:
    assert_known(pattern, *channel_levels(sky(pattern), pattern))


@pytest.mark.parametrize("pattern", ["", "GBRG"])
def test_whole_numbers_do_not_quantise_the_noise(pattern: str) -> None:
    data = np.round(sky(pattern)).astype(np.uint16)
    levels, noises = channel_levels(data, pattern)
    level, noise, n = expected(pattern)
    # Levels are whole or half numbers; rounding adds 1/12 to the variance of a pixel.
    assert np.abs(np.array(levels) - level).max() <= 0.55
    rounded = np.sqrt(noise**2 + 1 / 12)
    assert np.abs(np.array(noises) / rounded - 1).max() < 5 * 2 / np.sqrt(2 * n.min())


def test_a_noise_of_half_a_count_is_not_lost() -> None:
    data = np.round(np.random.default_rng(2).normal(100, 0.5, SHAPE)).astype(np.uint16)
    _, (noise,) = channel_levels(data, "")
    assert 0.35 < noise < 0.7  # 0.5 and a count's rounding: 0.577


def test_the_bias_is_taken_off_the_levels_only() -> None:
    data = sky("GBRG") + 2048
    levels, noises = channel_levels(data, "GBRG", 2048.0)
    assert_known("GBRG", levels, noises)


def test_gradients_and_stars_hardly_count() -> None:
    rng = np.random.default_rng(3)
    data = sky("GBRG") + np.linspace(-60, 60, SHAPE[1])
    for x, y in zip(rng.uniform(5, SHAPE[1] - 6, 250), rng.uniform(5, SHAPE[0] - 6, 250), strict=True):
        i, j = int(x), int(y)
        data[j - 2 : j + 3, i - 2 : i + 3] += rng.uniform(50, 5000)
    _, noises = channel_levels(data, "GBRG")
    # 2.4 % of the pixels are stars': they widen the core of the distribution by about as much.
    assert np.all(np.array(noises) / NOISES < 1.05)
    assert np.all(np.array(noises) / NOISES > 0.97)


def test_a_crowd_of_stars_is_no_noise(plain: Callable[[str], Night]) -> None:
    """The Milky Way in every second pixel: what changes from frame to frame is the sky's noise alone."""
    night = plain("GBRG")
    _, noises = channel_levels(night.frames[1], "GBRG", 2048.0)
    empty = replace(night.spec, population=replace(night.spec.population, per_18mpx=0), objects=())
    sky = synth.ideal(empty, 1)
    for site in sites("GBRG"):
        level = float(np.median(sky[site.y :: 2, site.x :: 2]))
        # Photons, reading, rows' offsets, and the flat field's scatter of 1 %.
        truth = np.sqrt(level / 1.5 + (8 / 1.5) ** 2 + 0.6**2 + (0.01 * level) ** 2)
        assert noises[site.channel] == pytest.approx(truth, rel=0.03)


@pytest.mark.parametrize("pattern", ["", "GBRG"])
def test_masked_pixels_and_nan_do_not_count(pattern: str) -> None:
    data = sky(pattern)
    mask = np.zeros(SHAPE, bool)
    mask[:, 100:400] = True
    data[mask] = 9e4
    data[50:60, 420:520] = np.nan
    assert_known(pattern, *channel_levels(data, pattern, 0.0, mask), slack=2.0)


def test_nothing_left_is_nan_and_not_an_error() -> None:
    levels, noises = channel_levels(sky("GBRG"), "GBRG", 0.0, np.ones(SHAPE, bool))
    assert np.isnan(levels).all()
    assert np.isnan(noises).all()


def test_a_constant_image_has_no_noise() -> None:
    levels, noises = channel_levels(np.full(SHAPE, 321, np.uint16), "RGGB")
    assert levels == (321.0, 321.0, 321.0)
    assert max(noises) < 0.15  # a fraction of a count, the step between whole numbers


@pytest.mark.parametrize("scale", [1 / 65535, 1e-7, 300.0])
def test_floats_of_any_size_keep_their_noise(scale: float) -> None:
    """Some programs write images from 0 to 1: a count is no natural unit there."""
    levels, noises = channel_levels((sky("GBRG") * scale).astype(np.float32), "GBRG")
    assert_known("GBRG", tuple(np.array(levels) / scale), tuple(np.array(noises) / scale))


@pytest.mark.parametrize("shape", [(421, 610), (420, 611), (421, 611)])
def test_odd_edges_change_nothing(shape: tuple[int, int]) -> None:
    whole = np.full(shape, 1e6)
    whole[: SHAPE[0], : SHAPE[1]] = sky("GRBG")
    assert channel_levels(whole, "GRBG") == channel_levels(sky("GRBG"), "GRBG")


def test_large_images_are_sampled_over_all_of_their_height() -> None:
    """Not only the first rows: a step in the middle is seen in the median."""
    data = np.zeros((3000, 800), np.float32)
    data[1000:] = 100
    data += np.random.default_rng(5).normal(0, 3, data.shape).astype(np.float32)
    (level,), (noise,) = channel_levels(data, "")
    assert level == pytest.approx(100, abs=4)
    assert noise == pytest.approx(3, rel=0.03)

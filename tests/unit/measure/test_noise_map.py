"""The noise of an empty pixel over a frame: as it was made, stars and blemishes or not."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.measure import noise_shape, relative_variance

SHAPE = (900, 1304)


def surface(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Variance that a vignetted sky with a gradient has."""
    u, v = 2 * x / (SHAPE[1] - 1) - 1, 2 * y / (SHAPE[0] - 1) - 1
    return 100 * (1 - 0.25 * (u * u + v * v) + 0.15 * u - 0.1 * v)


def frame(seed: int = 1, step: float = 0.0) -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    variance = surface(x, y)
    data = 500 + variance + np.random.default_rng(seed).normal(0, np.sqrt(variance))
    return np.round(data / step) * step if step else data


CORNERS = np.array([0.0, 651.3, 1303.0, 0.0, 700.7]), np.array([0.0, 449.2, 899.0, 899.0, 120.5])


def expected() -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0] : 10, : SHAPE[1] : 10].astype(float)
    return surface(*CORNERS) / surface(x, y).mean()


@pytest.mark.parametrize("pattern", ["", "RGGB", "GBRG"])
def test_it_is_the_variance_that_was_put_in(pattern: str) -> None:
    found = relative_variance(noise_shape(frame(), pattern), *CORNERS, SHAPE)
    # Of 5000 pixels a cell's variance is known to 5 %, a corner of the surface through 48 of them to 4 % of the mean.
    assert np.all(np.abs(found - expected()) < 0.1)
    assert abs(found[1] / expected()[1] - 1) < 0.04


def test_stars_and_blemishes_do_not_count() -> None:
    rng = np.random.default_rng(3)
    data = frame().astype(np.float32)
    mask = np.zeros(SHAPE, bool)
    for x, y in zip(rng.integers(5, 1290, 800), rng.integers(5, 890, 800), strict=True):
        data[y : y + 3, x : x + 3] += rng.uniform(50, 20000)
    mask[300:340, 200:420] = True
    data[mask] = np.nan
    data[500:640, 900:1100] += 400 * rng.random((140, 200)).astype(np.float32)  # a nebula
    found = relative_variance(noise_shape(data, "RGGB", mask), *CORNERS, SHAPE)
    assert np.all(np.abs(found - expected()) < 0.14)


def test_an_even_frame_is_even_and_an_empty_one_too() -> None:
    even = np.random.default_rng(5).normal(300, 9, SHAPE).astype(np.float32)
    assert np.all(np.abs(relative_variance(noise_shape(even, ""), *CORNERS, SHAPE) - 1) < 0.13)
    for nothing in (np.zeros(SHAPE), np.full(SHAPE, np.nan), np.zeros((30, 40))):
        assert np.all(relative_variance(noise_shape(nothing, ""), *CORNERS, SHAPE) == 1)


def test_beyond_the_edge_it_is_as_at_the_edge() -> None:
    found = noise_shape(frame(), "")
    at = relative_variance(found, np.array([0.0]), np.array([899.0]), SHAPE)
    beyond = relative_variance(found, np.array([-500.0]), np.array([2000.0]), SHAPE)
    assert np.array_equal(at, beyond)
    assert np.all(np.isfinite(relative_variance(found, np.array([np.nan]), np.array([1.0]), SHAPE)))

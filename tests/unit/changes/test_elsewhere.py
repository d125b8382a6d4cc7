"""A moving light beside its surroundings: noise tells its error, and what its surroundings show where that is more."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.changes.elsewhere import significance

SHAPE = (50, 71)
N = 14
CORNER = (14, 20)


def blob(x: np.ndarray, y: np.ndarray, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """A light of 3 at its peak and 1.5 cells of sigma, at (x[k], y[k]) on picture k."""
    gy, gx = np.indices(shape)
    return 3 * np.exp(-((gx - x[:, None, None]) ** 2 + (gy - y[:, None, None]) ** 2) / 4.5)


def track() -> tuple[np.ndarray, np.ndarray]:
    return np.linspace(28.3, 37.1, N), np.linspace(27.4, 24.2, N)


def window() -> np.ndarray:
    """The light as fitted, within a window of 23 x 28 cells."""
    x, y = track()
    return blob(x - CORNER[1], y - CORNER[0], (23, 28))


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2.0, (N, *SHAPE))


def judged(pictures: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    weight = np.full(pictures.shape, 0.25, np.float32) if weight is None else weight
    return significance(pictures.astype(np.float32), weight, window(), CORNER)


def expected(part: slice) -> float:
    """Of noise alone: the light less its own mean."""
    light = blob(*track())[part]
    return float(np.sqrt(((light - light.mean(axis=0)) ** 2).sum()) / 2.0)


def test_a_light_in_noise_has_what_the_noise_tells() -> None:
    """Its surroundings scatter by chance, too: their error is 15 %, and never counts where it is the smaller one."""
    tries = np.array([judged(noise(s) + blob(*track())) for s in range(12)])
    for part, own in enumerate((slice(None), slice(0, N // 2), slice(N // 2, None))):
        assert 0.80 * expected(own) < tries[:, part].mean() < 1.03 * expected(own)
    assert expected(slice(0, 7)) < 0.65 * expected(slice(None))


def test_where_nothing_is_nothing_is_told() -> None:
    tries = np.array([judged(noise(s)) for s in range(100, 130)])
    assert np.abs(tries.mean(axis=0)).max() < 3 / np.sqrt(30)
    assert np.abs(tries).max() < 4.5


def test_what_stands_still_is_nothing_in_the_night_or_in_half_of_it() -> None:
    """A light that is there from the middle of the night on does not move in either half."""
    x, y = track()
    still = blob(np.full(N, x[10]), np.full(N, y[10])) * 10
    assert np.abs(judged(noise(1) + still)).max() < 4.5
    still[: N // 2] = 0
    whole, first, second = judged(noise(1) + still)
    assert whole > 8
    assert abs(first) < 3
    assert abs(second) < 3


def test_a_half_that_lacks_it_says_so() -> None:
    light = blob(*track())
    light[N // 2 :] = 0
    _, first, second = judged(noise(2) + light)
    assert first > 0.7 * expected(slice(0, N // 2))
    assert abs(second) < 3


def test_the_same_light_all_about_counts_against_it() -> None:
    """Twenty others that move as it does, at random places, leave it no more than three sigma."""
    rng = np.random.default_rng(3)
    x, y = track()
    pictures = noise(3) + blob(x, y)
    for dx, dy in rng.uniform((-28, -24), (34, 24), (60, 2)):
        pictures += rng.choice([-1, 1]) * blob(x + dx, y + dy)
    assert judged(pictures)[0] < 0.4 * judged(noise(3) + blob(x, y))[0]


def test_light_beyond_the_pictures_and_unknown_cells_are_left_out() -> None:
    """A window that reaches over the edge, and an unknown half of the pictures: noise tells the error alone."""
    weight = np.full((N, *SHAPE), 0.25, np.float32)
    weight[:, :, :20] = 0
    weight[:, :12] = 0
    seen = judged(noise(4) + blob(*track()), weight)
    assert seen == pytest.approx(judged(noise(4) + blob(*track())), rel=0.35)
    assert seen[0] > 8
    assert (judged(noise(4), np.zeros((N, *SHAPE), np.float32)) == 0).all()

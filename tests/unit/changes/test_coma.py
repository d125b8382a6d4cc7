"""A coma is light about a track that is not at the track itself, and not about other tracks."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.changes.coma import coma_strength

_N, _NY, _NX = 12, 60, 83
_X, _Y = 15.3 + 4.1 * np.arange(_N), 41.7 - 1.9 * np.arange(_N)


def _night(width: float, peak: float, seed: int = 3) -> np.ndarray:
    """Pictures of noise with a round glow of some FWHM that moves."""
    pictures = np.random.default_rng(seed).normal(size=(_N, _NY, _NX)).astype(np.float32)
    v, u = np.indices((_NY, _NX))
    for picture, x, y in zip(pictures, _X, _Y, strict=True):
        picture += peak * np.exp(-4 * np.log(2) * ((u - x) ** 2 + (v - y) ** 2) / width**2)
    return pictures


def _expected(width: float, peak: float) -> float:
    """The glow's mean in the ring over the noise of the median of so many rings' means."""
    r = np.hypot(*np.meshgrid(np.arange(-4, 5) + 0.3, np.arange(-4, 5) - 0.3))
    ring = r[(r > 0.9) & (r < 3.2)]
    mean = peak * np.exp(-4 * np.log(2) * ring**2 / width**2).mean()
    return float(mean * np.sqrt(len(ring)) / np.sqrt(np.pi / 2 / _N))


@pytest.mark.parametrize("peak", [0.5, 1.0])
def test_a_coma_is_as_strong_as_its_light_tells(peak: float) -> None:
    strengths = [coma_strength(_night(4.0, peak, seed), _X, _Y) for seed in range(24)]
    # The noise is known from 48 places: its own error is 17 % each, and each strength's own is 1.
    error = np.hypot(1.0, 0.17 * _expected(4.0, peak)) / np.sqrt(24)
    assert np.mean(strengths) == pytest.approx(
        _expected(4.0, peak), abs=4 * error + 0.1 * _expected(4.0, peak)
    )


def test_a_point_and_noise_have_none() -> None:
    points = [coma_strength(_night(0.8, 9.0, seed), _X, _Y) for seed in range(24)]
    nothing = [coma_strength(_night(4.0, 0.0, seed), _X, _Y) for seed in range(24)]
    assert abs(np.mean(points)) < 4 / np.sqrt(24) + 0.6  # a tenth of its light falls on the ring's inner edge
    assert abs(np.mean(nothing)) < 4 / np.sqrt(24)


def test_what_is_unknown_does_not_count() -> None:
    pictures = _night(4.0, 1.0)
    known = coma_strength(pictures, _X, _Y)
    pictures[3] = np.nan
    pictures[:, 0, :] = np.nan
    assert 0.6 * known < coma_strength(pictures, _X, _Y) < 1.3 * known
    assert coma_strength(np.full_like(pictures, np.nan), _X, _Y) == 0
    # Off the pictures, and on too few of them.
    assert coma_strength(pictures, _X + 500, _Y) == 0
    assert coma_strength(pictures[:2], _X[:2], _Y[:2]) == 0


def test_pictures_are_left_as_they_are() -> None:
    pictures = _night(4.0, 1.0)
    before = pictures.copy()
    coma_strength(pictures, _X, _Y)
    np.testing.assert_array_equal(pictures, before)

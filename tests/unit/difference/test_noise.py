"""The noise model: what a warped frame of known noise shows."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.align.warp import warp
from difflapse.difference import Noise, noise_of
from difflapse.difference.mesh import constant, image
from difflapse.difference.noise import correlation_factor
from difflapse.model import ProductGrid, Transform
from difflapse.mosaic import sites, split

SHAPE = (420, 611)


@pytest.mark.parametrize("pattern", ["", "RGGB"])
@pytest.mark.parametrize("shift", [(0.31, -4.64), (7.0, 3.5)])
def test_a_warped_frame_is_as_noisy_as_the_model_says(pattern: str, shift: tuple[float, float]) -> None:
    rng = np.random.default_rng(1)
    sigma = (8.0, 12.0, 5.0) if pattern else (8.0,)
    data = np.empty(SHAPE)
    step = 2 if pattern else 1
    for s in sites(pattern):
        plane = data[s.y :: step, s.x :: step]
        plane[:] = rng.normal(100, sigma[s.channel], plane.shape)
    transform = Transform.from_matrix(np.array([[1, 0, shift[0]], [0, 1, shift[1]]]))
    warped = warp(split(data, pattern), sites(pattern), transform, ProductGrid.whole(SHAPE, pattern))
    noise = noise_of(warped.variance_factor, sigma, None)
    good = warped.mask == 0
    for plane, sky in zip(warped.data, noise.sky, strict=True):
        expected = float(image(sky, plane.shape)[good].mean())
        assert plane[good].var() == pytest.approx(expected, rel=5 * np.sqrt(2 * 3 / good.sum()) + 0.005)
    assert np.all(noise.photon == 0)


def test_the_photon_term_is_one_over_the_gain_after_resampling() -> None:
    factor = constant([0.5, 0.25])
    noise = noise_of(factor, (10.0, 20.0), 2.0)
    assert np.allclose(noise.photon, factor / 2)
    assert np.allclose(noise.sky[:, 0, 0], [50.0, 100.0])


def test_scaling_a_frame_scales_its_noise() -> None:
    """Twice the pixels: four times the sky's variance; each ADU of the new signal brings twice."""
    noise = Noise(constant([4.0, 9.0]), constant([0.5, 0.25])).scaled(np.array([2.0, 3.0]))
    assert np.allclose(noise.sky[:, 0, 0], [16.0, 81.0])
    assert np.allclose(noise.photon[:, 0, 0], [1.0, 0.75])


@pytest.mark.parametrize("shift", [0.5, 0.2])
def test_the_correlation_factor_is_that_of_large_sums(shift: float) -> None:
    rng = np.random.default_rng(3)
    transform = Transform.from_matrix(np.array([[1.0, 0, shift], [0, 1, shift]]))
    sums, pixels, factor = [], [], 1.0
    for _ in range(3):
        data = rng.normal(0, 1, (401, 601)).astype(np.float32)
        warped = warp(data[None], sites(""), transform, ProductGrid((401, 601)))
        inner = warped.data[0, 4:-4, 4:-4][: 20 * 19, : 20 * 29]
        cells = inner.reshape(19, 20, 29, 20).sum(axis=(1, 3))
        sums.append(cells.std())
        pixels.append(inner.std())
        factor = correlation_factor(warped.variance_factor)
    assert np.mean(sums) / (20 * np.mean(pixels)) == pytest.approx(factor, rel=0.06)
    assert factor > 1.1

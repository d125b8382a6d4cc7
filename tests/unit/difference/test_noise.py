"""The noise model: what a warped frame of known noise shows."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.align.warp import warp
from difflapse.difference import Noise, noise_of
from difflapse.difference.noise import joint_correlation
from difflapse.measure.mesh import constant, image, mean
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


def test_where_flux_is_kept_the_photon_term_is_that_of_the_light_behind_a_pixel() -> None:
    """4 pixels summed into one: 4 times the signal and 4 times the variance, so a gain as before."""
    noise = noise_of(constant([4.0]), (10.0,), 2.0, level=4.0)
    assert np.allclose(noise.sky, 400.0)
    assert np.allclose(noise.photon, 0.5)


def test_scaling_keeps_what_is_relative() -> None:
    noise = noise_of(constant([0.5]), (10.0,), 2.0, np.array([1.3]), 0.7).scaled(np.array([3.0]))
    assert np.allclose(noise.sky, 450.0)
    assert noise.correlation == np.array([1.3])
    assert noise.level == 0.7


def test_the_correlation_of_a_sum_is_that_of_its_noise() -> None:
    """Independent noise of variance 3 and noise of variance 1 that is all in large sums 4 times as loud."""
    joint = joint_correlation([np.array([3.0, 1.0]), np.array([1.0, 0.0])], [1.0, np.array([2.0, 9.0])])
    assert np.allclose(joint, [np.sqrt((3 + 4) / 4), 1.0])


@pytest.mark.parametrize("shifts", [((0.5, 0.2), (0.1, 0.9)), ((0.3, 0.3),)])
def test_a_difference_of_warped_frames_has_the_correlation_of_both(
    shifts: tuple[tuple[float, float], ...],
) -> None:
    """One frame minus the mean of others, in the noise of sums over 20 x 20 pixels, less 3 % at their edges."""
    rng = np.random.default_rng(3)
    sums, pixels = [], []
    for _ in range(8):
        parts = []
        for shift in ((0.45, 0.6), *shifts):
            data = rng.normal(0, 1, (401, 601)).astype(np.float32)
            transform = Transform.from_matrix(np.array([[1.0, 0, shift[0]], [0, 1, shift[1]]]))
            parts.append(warp(data[None], sites(""), transform, ProductGrid((401, 601)), kernel="linear"))
        difference = parts[0].data[0] - np.mean([p.data[0] for p in parts[1:]], axis=0)
        inner = difference[4:-4, 4:-4][: 20 * 19, : 20 * 29]
        sums.append(inner.reshape(19, 20, 29, 20).sum(axis=(1, 3)))
        pixels.append(inner)
    n = len(shifts)
    sky = [mean(p.variance_factor) for p in parts]
    template = joint_correlation(sky[1:], [p.correlation for p in parts[1:]])
    factor = joint_correlation([sky[0], sum(sky[1:]) / n**2], [parts[0].correlation, template])
    found = np.std(sums) / (20 * np.std(pixels))
    # 4408 sums tell a width to 1.1 %, here at 4 sigma.
    assert 0.97 - 0.045 < found / factor[0] < 1 + 0.045
    assert factor[0] > 1.4


def test_what_clouds_dim_more_is_noisier_once_scaled_up() -> None:
    noise = Noise(np.full((1, 5, 9), 4.0, np.float32), np.full((1, 5, 9), 0.5, np.float32))
    mesh = np.broadcast_to(np.linspace(1, 3, 3, dtype=np.float32), (1, 2, 3))
    found = noise.scaled(mesh)
    factor = np.linspace(1, 3, 9)
    assert np.allclose(found.sky[0], 4 * factor**2)
    assert np.allclose(found.photon[0], 0.5 * factor)

"""Photon transfer on frames whose gain, read noise and response are known."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.measure.transfer import Transfer, photon_transfer

SHAPE = (300, 420)
BIAS = 512.0


def frames(
    gain: float,
    read_e: float,
    response: float = 0.0,
    levels: tuple[float, ...] = (500, 600, 450, 700),
    seed: int = 2,
    even: bool = False,
) -> list[np.ndarray]:
    """Sky that falls off to the corners and comes and goes, with stars that drift."""
    rng = np.random.default_rng(seed)
    j, i = np.indices(SHAPE)
    fall = np.ones(SHAPE) if even else 1 - 0.5 * ((i - 200) ** 2 + (j - 150) ** 2) / (200**2 + 150**2)
    flat = 1 + response * rng.standard_normal(SHAPE)
    x, y, flux = rng.uniform(5, 400, 120), rng.uniform(5, 290, 120), 10 ** rng.uniform(3, 4.5, 120)
    out = []
    for k, level in enumerate(levels):
        light = level * fall
        for a, b, f in zip(x + 3.3 * k, y + 1.7 * k, flux, strict=True):
            p, q = slice(int(b) - 4, int(b) + 5), slice(int(a) - 4, int(a) + 5)
            light[p, q] += f / 12 * np.exp(-((i[p, q] - a) ** 2 + (j[p, q] - b) ** 2) / 4)
        electrons = rng.poisson(np.maximum(light * flat, 0) * gain) + read_e * rng.standard_normal(SHAPE)
        out.append(np.round(BIAS + electrons / gain).clip(0, 65535).astype(np.uint16))
    return out


@pytest.mark.parametrize("pattern", ["", "GBRG"])
@pytest.mark.parametrize(("gain", "read_e"), [(1.5, 8.0), (0.6, 5.0)])
def test_gain_and_read_noise(pattern: str, gain: float, read_e: float) -> None:
    found = photon_transfer(frames(gain, read_e), pattern, BIAS)
    assert found.known
    assert found.gain_error < 0.1 * gain
    assert found.gain_e_adu == pytest.approx(gain, abs=4 * found.gain_error + 0.02 * gain)
    assert found.read_noise_e == pytest.approx(read_e, abs=4 * found.read_noise_error + 0.05 * read_e)
    assert found.read_noise_error < read_e


def test_the_pixels_response() -> None:
    levels = (3000, 3600, 2700, 3300)
    found = photon_transfer(frames(1.5, 8.0, 0.01, levels), "", BIAS)
    assert found.response == pytest.approx(0.01, abs=4 * found.response_error + 0.0005)
    none = photon_transfer(frames(1.5, 8.0, 0.0, levels), "", BIAS)
    assert none.response < 0.002


def test_without_a_bias_level_there_is_no_read_noise() -> None:
    found = photon_transfer(frames(1.5, 8.0), "", None)
    assert found.gain_e_adu == pytest.approx(1.5, abs=5 * found.gain_error + 0.03)
    assert np.isnan(found.read_noise_e)
    assert found.response == 0


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (frames(1.5, 8.0, levels=(500,)), "1 frames were compared"),
        ([], "0 frames"),
        (frames(1.5, 8.0, levels=(500, 505), even=True), "too even"),
        ([np.full(SHAPE, 700, np.uint16)] * 4, "too even"),
        ([np.full((90, 100), 700, np.uint16)] * 4, "cells of sky"),
    ],
)
def test_it_says_why_it_cannot(images: list[np.ndarray], reason: str) -> None:
    found = photon_transfer(images, "", BIAS)
    assert not found.known
    assert reason in found.reason


def test_saturated_cells_are_left_out() -> None:
    found = photon_transfer(frames(1.5, 8.0), "", BIAS, saturation_adu=700.0)
    assert isinstance(found, Transfer)
    assert found.n < photon_transfer(frames(1.5, 8.0), "", BIAS).n


@pytest.mark.parametrize("seed", range(5))
def test_even_sky_tells_no_gain_where_no_light_is_an_unknown_level(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = frames(1.0, 5.0, levels=(200, 200, 200, 200, 200, 200), seed=seed, even=True)
    turned = [image if k < 3 else image[::-1, ::-1] for k, image in enumerate(images)]
    for night in (images, turned, [rng.normal(900, 15, SHAPE) for _ in range(6)]):
        found = photon_transfer(night, "", None)
        assert not found.known
        assert found.reason

"""What moves on a template's frames: found, and how much of it a template would take off."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.difference.moving import Coma, coma_in, coma_window, find_moving, self_subtracted

SHAPE = (160, 230)
FWHM = 1.6


def noise(seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)


def blob(x: float, y: float, fwhm: float, snr: float) -> np.ndarray:
    """What a matched filter sees with this signal to noise."""
    j, i = np.indices(SHAPE)
    form = np.exp(-4 * np.log(2) * ((i - x) ** 2 + (j - y) ** 2) / fwhm**2)
    return (snr * form / np.sqrt(np.sum(form**2))).astype(np.float32)


@pytest.mark.parametrize(("fwhm", "snr"), [(FWHM, 15.0), (3 * FWHM, 20.0)])
def test_a_thing_is_kept_out_and_little_else(fwhm: float, snr: float) -> None:
    thing = blob(60.3, 99.6, fwhm, snr)
    found = find_moving(noise() + thing, np.zeros(SHAPE, np.uint16), FWHM)
    assert found[100, 60]
    assert thing[~found].max() < 1.0
    assert found.sum() < 700


def test_noise_and_shadows_are_no_things() -> None:
    sorts = np.zeros(SHAPE, np.uint16)
    assert find_moving(noise(), sorts, FWHM).sum() == 0
    assert find_moving(noise() - blob(60, 99, FWHM, 30), sorts, FWHM).sum() == 0


def test_at_steep_places_more_is_needed() -> None:
    data = noise() + blob(60.3, 99.6, FWHM, 15)
    assert find_moving(data, np.full(SHAPE, 40, np.uint16), FWHM).sum() == 0


def test_clouds_are_left_in() -> None:
    data = noise()
    data[:, :120] += 3
    assert not find_moving(data, np.zeros(SHAPE, np.uint16), FWHM).all(axis=1).any()


def test_masked_pixels_do_not_matter() -> None:
    data = noise() + blob(60.3, 99.6, FWHM, 25)
    data[20:40, 30:50] = np.nan
    assert find_moving(data, np.zeros(SHAPE, np.uint16), FWHM)[100, 60]


def test_a_window_of_a_coma_is_that_of_its_whole() -> None:
    light = np.array([[8.0, 4.0, 0.0], [2.0, 1.0, 0.0]])
    coma = Coma(np.array([np.nan, 100.4]), np.array([np.nan, 60.7]), np.array([0.0, 10.0, 30.0]), light)
    everything = (0, SHAPE[0], 0, SHAPE[1])
    whole = coma_in(coma, 1, 1, everything)
    assert whole.shape == SHAPE
    assert whole[61, 100] == pytest.approx(2 - 0.1 * np.hypot(0.4, 0.3), abs=1e-5)
    assert whole[61, 120] == pytest.approx(1 - (np.hypot(19.6, 0.3) - 10) / 20, abs=1e-5)
    assert whole[61, 131] == 0
    assert np.array_equal(coma_in(coma, 1, 1, (40, 70, 90, 117)), whole[40:70, 90:117])
    j0, j1, i0, i1 = coma_window(coma, 1, everything)
    assert np.array_equal([j0, j1, i0, i1], [30, 92, 70, 132])
    assert coma_in(coma, 1, 1, (j0, j1, i0, i1)).sum() == pytest.approx(whole.sum())
    assert coma_window(coma, 1, (40, 70, 90, 117)) == (40, 70, 90, 117)
    for frame, window in ((0, everything), (1, (100, 140, 0, 230)), (1, (0, 160, 140, 200))):
        j0, j1, i0, i1 = coma_window(coma, frame, window)
        assert (j1 - j0) * (i1 - i0) == 0


def test_the_self_subtracted_share() -> None:
    assert self_subtracted([0, 0, 0], [1, 1, 1], 5) == 1
    assert self_subtracted([0, 50, 99], [1, 1, 2], 5) == pytest.approx(0.25)
    # As wide as it is away: the overlap of two such Gaussians, by their product.
    grid = np.linspace(-40, 40, 4001)
    form = np.exp(-4 * np.log(2) * grid**2 / 36)
    other = np.exp(-4 * np.log(2) * (grid - 6) ** 2 / 36)
    assert self_subtracted([6], [1], 6) == pytest.approx(np.sum(form * other) / np.sum(form**2), abs=1e-3)

"""The smooth difference of background: found under stars, masks and holes; small things are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.difference import fit_offset
from difflapse.measure.mesh import constant, image

SHAPE = (410, 620)
SIGMA = 8.0


def flat(seed: int = 1, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(200, SIGMA, (channels, *SHAPE)).astype(np.float32)


def tilt() -> np.ndarray:
    """A plane and a bowl of 40 ADU."""
    y, x = np.indices(SHAPE)
    u, v = x / SHAPE[1] - 0.5, y / SHAPE[0] - 0.5
    return 15 + 20 * u - 12 * v + 40 * u * v


def fitted(
    science: np.ndarray, template: np.ndarray, mask: np.ndarray | None = None, **more: bool
) -> np.ndarray:
    mask = np.zeros(SHAPE, bool) if mask is None else mask
    mesh = fit_offset(science, constant([1.0] * len(science)), template, mask, **more)
    return np.stack([image(m, SHAPE) for m in mesh])


# The median of the 1500 pixels of a cell errs by 1.25 sigma sqrt(2) / sqrt(1500) = 0.37 ADU.
CELL = 1.25 * SIGMA * np.sqrt(2 / 1500)


def test_a_smooth_background_is_found() -> None:
    science = flat(1) + tilt().astype(np.float32)
    error = fitted(science, flat(2))[0] - tilt()
    # From the outermost cells' centres to the edge it is carried on, which doubles its error in the corners.
    assert np.abs(error).max() < 10 * CELL
    assert np.sqrt(np.mean(error**2)) < 2 * CELL
    assert abs(error.mean()) < CELL


def test_equal_frames_have_no_offset() -> None:
    error = fitted(flat(3, 3), flat(4, 3))
    assert np.abs(error).max() < 8 * CELL
    assert np.abs(error.mean(axis=(1, 2))).max() < CELL


def test_each_channel_has_its_own() -> None:
    science = flat(5, 3) + np.array([3.0, -20.0, 55.0], np.float32)[:, None, None]
    assert np.allclose(fitted(science, flat(6, 3)).mean(axis=(1, 2)), [3.0, -20.0, 55.0], atol=CELL)


def test_the_scale_is_applied_first() -> None:
    science = 2 * flat(7) + 24
    mesh = fit_offset(science, constant([0.5]), flat(8), np.zeros(SHAPE, bool))
    assert image(mesh[0], SHAPE).mean() == pytest.approx(12.0, abs=CELL)


def test_stars_and_a_comet_are_left_in() -> None:
    """What is smaller than a cell is no background: half of the comet's light must not be taken off."""
    y, x = np.indices(SHAPE)
    coma = 120 * np.exp(-np.hypot(x - 301.4, y - 188.7) / 15)
    rng = np.random.default_rng(9)
    stars = np.zeros(SHAPE)
    stars[rng.integers(0, SHAPE[0], 400), rng.integers(0, SHAPE[1], 400)] = 3000
    offset = fitted((flat(9) + coma + stars).astype(np.float32), flat(10))[0]
    assert np.abs(offset).max() < 6.0
    assert offset[188, 301] < 0.05 * 120


def test_masked_regions_do_not_count() -> None:
    science = flat(11) + 10
    mask = np.zeros(SHAPE, bool)
    mask[:, 330:] = True
    science[:, mask] = 5e4
    offset = fitted(science, flat(12), mask)[0]
    assert offset.mean() == pytest.approx(10, abs=2 * CELL)
    assert np.abs(offset - 10).max() < 9 * CELL


def test_nan_does_not_count() -> None:
    science = flat(13) + 10
    science[:, 100:200, 100:300] = np.nan
    offset = fitted(science, flat(14))[0]
    assert np.isfinite(offset).all()
    assert offset.mean() == pytest.approx(10, abs=2 * CELL)


@pytest.mark.parametrize("smooth", [True, False])
def test_all_masked_is_no_offset(smooth: bool) -> None:
    offset = fitted(flat(15) + 10, flat(16), np.ones(SHAPE, bool), smooth=smooth)
    assert np.all(offset == 0)


def test_not_smooth_is_one_constant() -> None:
    science = flat(17, 2) + tilt().astype(np.float32)
    mesh = fit_offset(science, constant([1.0, 1.0]), flat(18, 2), np.zeros(SHAPE, bool), smooth=False)
    assert mesh.shape == (2, 2, 2)
    assert np.all(np.ptp(mesh, axis=(1, 2)) == 0)
    # Noise is as wide as the scene: its median lies between the scene's own, 17, and the mean, 15.
    assert np.all((mesh[:, 0, 0] > 14.5) & (mesh[:, 0, 0] < 17.2))


@pytest.mark.parametrize("shape", [(30, 50), (70, 900), (900, 70), (8, 8), (200, 130)])
def test_any_shape_of_image_is_taken(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(19)
    a, b = (rng.normal(200, 2, (1, *shape)).astype(np.float32) for _ in range(2))
    mesh = fit_offset(a + 7, constant([1.0]), b, np.zeros(shape, bool))
    whole = image(mesh[0], shape)
    assert np.isfinite(whole).all()
    assert whole.mean() == pytest.approx(7, abs=1.0)


def test_small_cells_follow_clouds_and_only_clouds() -> None:
    rng = np.random.default_rng(4)
    ny, nx = 400, 620
    j, i = np.indices((ny, nx))
    sky = rng.normal(500, 10, (1, ny, nx)).astype(np.float32)
    template = np.full((1, ny, nx), 500, np.float32)
    good = np.zeros((ny, nx), bool)
    one = constant([1.0])
    glow = (8 * np.sin(2 * np.pi * i / 110) * np.sin(2 * np.pi * j / 97)).astype(np.float32)
    plain = image(fit_offset(sky + glow, one, template, good)[0], (ny, nx))
    fine = image(fit_offset(sky + glow, one, template, good, clouds=True)[0], (ny, nx))
    assert np.std(plain - glow) > 2.5
    assert np.std(fine - glow) < 1.7
    calm = fit_offset(sky, one, template, good)
    assert np.array_equal(calm, fit_offset(sky, one, template, good, clouds=True))
    # A coma is no cloud: it stays in the difference.
    coma = (30 * np.exp(-((i - 310) ** 2 + (j - 200) ** 2) / (2 * 15**2))).astype(np.float32)
    left = image(fit_offset(sky + coma, one, template, good, clouds=True)[0], (ny, nx))
    assert left[200, 310] < 6

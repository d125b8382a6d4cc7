"""Photometric scale: constants, slopes and bowls of transparency, from stars and from pixels."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.difference import scale_from_pixels, scale_from_stars
from difflapse.measure.mesh import image
from difflapse.model import ProductGrid, Stars, Transform

NATIVE = (700, 1100)
GRID = ProductGrid.whole(NATIVE, "GBRG")
MOVED = Transform.from_matrix(np.array([[0.999, -0.02, 24.3], [0.02, 0.999, -11.8]]))
ERROR = 0.02
"""Relative error of each star's flux."""


def sky(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions on the reference, and fluxes (3, n)."""
    rng = np.random.default_rng(seed)
    flux = 2000 * rng.uniform(0.03, 1, n) ** -1.0
    return rng.uniform(5, NATIVE[1] - 6, n), rng.uniform(5, NATIVE[0] - 6, n), np.outer([0.3, 1.0, 0.4], flux)


def stars(x: np.ndarray, y: np.ndarray, flux: np.ndarray, seed: int) -> Stars:
    rng = np.random.default_rng(seed)
    noisy = flux * (1 + ERROR * rng.standard_normal(flux.shape))
    n = len(x)
    x, y = x + rng.normal(0, 0.05, n), y + rng.normal(0, 0.05, n)
    return Stars(x, y, noisy.sum(axis=0), np.full(n, 50.0), np.full(n, 2.2), noisy, np.zeros(n, bool))


def fitted(n: int, ratio: np.ndarray, seed: int = 1) -> tuple[np.ndarray, int]:
    """Fit frames whose stars are `ratio` (3, n) times as bright as the reference's."""
    x, y, flux = sky(n, seed)
    frame = stars(*MOVED.inverse(x, y), flux * ratio, seed + 100)
    found = scale_from_stars(frame, stars(x, y, flux, seed + 200), MOVED, GRID)
    assert found is not None
    return found


@pytest.mark.parametrize("n", [6, 40, 400])
def test_a_constant_per_colour_is_found(n: int) -> None:
    truth = np.array([0.42, 0.61, 0.55])
    mesh, used = fitted(n, truth[:, None] * np.ones(n))
    # A weighted median of n ratios, each of error 2 % sqrt(2).
    tolerance = 5 * 1.25 * ERROR * np.sqrt(2 / n)
    assert np.abs(mesh / truth[:, None, None] - 1).max() < tolerance
    assert used == n


@pytest.mark.parametrize("n", [400, 1500])
def test_a_slope_is_followed_over_the_field(n: int) -> None:
    """Extinction over a wide field: 20 % from one side to the other."""
    x, y, _ = sky(n)
    slope = lambda u, v: np.exp(0.2 * (u / NATIVE[1] - 0.5) - 0.08 * (v / NATIVE[0] - 0.5))  # noqa: E731
    mesh, _ = fitted(n, 0.8 * np.stack([slope(x, y)] * 3))
    j, i = np.indices(GRID.shape)
    truth = 0.8 * slope(*GRID.to_native(i, j))
    for m in mesh:
        assert np.abs(image(m, GRID.shape) / truth - 1).max() < 18 * ERROR * np.sqrt(2 / n)


def test_thin_clouds_are_followed_by_a_bowl() -> None:
    x, y, _ = sky(1500)

    def bowl(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        p, q = u / NATIVE[1] - 0.4, v / NATIVE[0] - 0.6
        return np.exp(-0.5 * p * p - 0.3 * p * q + 0.4 * q * q)

    mesh, _ = fitted(1500, np.stack([bowl(x, y)] * 3))
    j, i = np.indices(GRID.shape)
    truth = bowl(*GRID.to_native(i, j))
    assert np.abs(image(mesh[1], GRID.shape) / truth - 1).max() < 18 * ERROR * np.sqrt(2 / 1500)


def test_noise_alone_calls_for_no_slope() -> None:
    bent = sum(np.ptp(fitted(300, np.ones((3, 300)), seed)[0][1]) > 0 for seed in range(12))
    assert bent <= 2


def test_variables_and_wrong_stars_do_not_count() -> None:
    x, y, flux = sky(200)
    frame = stars(*MOVED.inverse(x, y), 0.7 * flux, 2)
    frame.colour_flux[:, :40] *= np.random.default_rng(3).uniform(0.1, 5, 40)
    found = scale_from_stars(frame, stars(x, y, flux, 4), MOVED, GRID)
    assert found is not None
    assert np.abs(found[0] / 0.7 - 1).max() < 0.02


def test_saturated_stars_do_not_count() -> None:
    x, y, flux = sky(60)
    frame, reference = stars(*MOVED.inverse(x, y), 0.7 * flux, 2), stars(x, y, flux, 3)
    frame.colour_flux[:, :30] *= 3
    frame.saturated[:15] = True
    reference.saturated[15:30] = True
    found = scale_from_stars(frame, reference, MOVED, GRID)
    assert found is not None
    assert found[1] == 30
    assert np.abs(found[0] / 0.7 - 1).max() < 0.05


def test_fewer_than_five_stars_are_no_scale() -> None:
    x, y, flux = sky(4)
    assert scale_from_stars(stars(*MOVED.inverse(x, y), flux, 1), stars(x, y, flux, 2), MOVED, GRID) is None
    assert scale_from_stars(Stars.empty(3), stars(x, y, flux, 2), MOVED, GRID) is None
    assert scale_from_stars(stars(x, y, flux, 2), Stars.empty(3), MOVED, GRID) is None


def test_stars_that_do_not_match_are_no_scale() -> None:
    x, y, flux = sky(100)
    assert scale_from_stars(stars(x, y, flux, 1), stars(x, y, flux, 2), MOVED, GRID) is None


def test_beyond_the_stars_the_surface_is_held() -> None:
    """Stars on a quarter of the field: the rest keeps within the range seen at them."""
    x, y, flux = sky(1500)
    some = (x < 400) & (y < 300)
    x, y, flux = x[some], y[some], flux[:, some]
    ratio = np.exp(0.3 * (x / 400 - 0.5))
    frame = stars(*MOVED.inverse(x, y), flux * ratio, 1)
    found = scale_from_stars(frame, stars(x, y, flux, 2), MOVED, GRID)
    assert found is not None
    assert found[0].min() > np.exp(-0.15) * 0.97
    assert found[0].max() < np.exp(0.15) * 1.03


# From pixels


def sun(seed: int = 1, shape: tuple[int, int] = (240, 330)) -> tuple[np.ndarray, np.ndarray]:
    """A disk with texture, clean, and its noise."""
    y, x = np.indices(shape)
    disk = np.hypot(x - 160.4, y - 121.3) < 95.5
    clean = 100 + disk * (900 + 150 * np.sin(x / 9.0) * np.cos(y / 7.0))
    return clean, np.random.default_rng(seed).normal(0, 10, shape)


@pytest.mark.parametrize("scale, offset", [(0.55, 35.0), (1.8, -60.0), (1.0, 0.0)])
def test_scale_and_offset_of_pixels_are_found(scale: float, offset: float) -> None:
    clean, _ = sun()
    template = np.stack([clean + sun(k)[1] for k in (1, 2)]).astype(np.float32)
    science = np.stack([scale * clean + offset + sun(k)[1] for k in (3, 4)]).astype(np.float32)
    found = scale_from_pixels(science, template, np.zeros(clean.shape, bool))
    assert found is not None
    # Noise in the template takes 100 / 420^2 off a slope: less than a thousandth.
    assert np.abs(found[0] / scale - 1).max() < 0.003
    assert np.abs(found[1] - offset).max() < 2.0


def test_flares_and_masked_pixels_do_not_bend_it() -> None:
    clean, noise = sun()
    template = (clean + noise)[None].astype(np.float32)
    science = (0.8 * clean + sun(2)[1])[None].astype(np.float32)
    science[0, 100:130, 150:190] += 5000
    science[0, 0:30] = np.nan
    mask = np.zeros(clean.shape, bool)
    mask[180:] = True
    science[0, 180:] *= 7
    found = scale_from_pixels(science, template, mask)
    assert found is not None
    assert found[0][0] == pytest.approx(0.8, rel=0.01)


def test_an_empty_sky_has_no_scale() -> None:
    rng = np.random.default_rng(5)
    a, b = (rng.normal(300, 10, (1, 240, 330)).astype(np.float32) for _ in range(2))
    assert scale_from_pixels(a, b, np.zeros((240, 330), bool)) is None
    assert scale_from_pixels(a, b, np.ones((240, 330), bool)) is None


def test_an_inverted_scene_has_no_scale() -> None:
    clean, noise = sun()
    assert (
        scale_from_pixels((-clean + noise)[None], (clean + noise)[None], np.zeros(clean.shape, bool)) is None
    )

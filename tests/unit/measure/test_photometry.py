"""Sums in circles, on pixels of each colour."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.measure import photometry
from difflapse.measure.photometry import POOR_SKY, aperture_sums, bad_map, default_annulus
from difflapse.model import bits


def field(shape, xs, ys, fluxes, sigma=1.0, sky=100.0):
    """Stars of given total flux on a flat sky, without noise."""
    y, x = np.indices(shape)
    image = np.full(shape, sky)
    for px, py, flux in zip(xs, ys, fluxes, strict=True):
        image += flux / (2 * np.pi * sigma**2) * np.exp(-0.5 * ((x - px) ** 2 + (y - py) ** 2) / sigma**2)
    return image


def test_a_star_between_pixels_is_summed_above_its_sky():
    xs, ys = np.array([30.3, 61.72]), np.array([22.6, 25.1])
    image = field((48, 90), xs, ys, [5000.0, 800.0])
    sums = aperture_sums(image, xs, ys, 5.0)
    # 5 sigma of a Gaussian: all of its light but 4e-6; float32 sums.
    assert np.abs(sums.flux[0] / [5000, 800] - 1).max() < 1e-4
    assert np.allclose(sums.sky, 100, atol=0.01)
    assert not sums.flags.any()
    assert sums.area[0, 0] == pytest.approx(np.pi * 25, rel=0.02)


def test_colours_of_a_mosaic_have_their_own_pixels_and_sky():
    """Each site holds a known level: a circle must not mix them."""
    image = np.zeros((60, 80))
    for (j, i), level in {(0, 0): 20.0, (0, 1): 300.0, (1, 0): 7.0, (1, 1): 20.0}.items():
        image[j::2, i::2] = level
    star = field((60, 80), [40.4], [31.2], [9000.0], sigma=2.0, sky=0.0)
    sums = aperture_sums(image + star, np.array([40.4]), np.array([31.2]), 9.0, "GBRG")
    assert np.allclose(sums.sky[:, 0], [7, 20, 300], atol=0.1)
    assert np.allclose(sums.flux[:, 0], [2250, 4500, 2250], rtol=0.003)
    # R, G, B hold a quarter, a half and a quarter of the circle.
    assert np.allclose(sums.area[:, 0] / (np.pi * 81), [0.25, 0.5, 0.25], rtol=0.05)


@pytest.mark.parametrize("mosaic", ["", "RGGB"])
def test_errors_are_those_of_the_fluxes(mosaic):
    """400 stars of equal light: the scatter of (flux - mean) / error is one."""
    rng = np.random.default_rng(4)
    gy, gx = np.mgrid[20:620:30, 20:620:30]
    # The same place in the mosaic's cell for all: its phase is not noise.
    xs, ys = gx.ravel() + 0.4, gy.ravel() + 0.7
    clean = field((640, 650), [20.4], [20.7], [6000.0], sigma=1.3, sky=0.0)[:40, :40]
    image = np.full((640, 650), 200.0)
    for x, y in zip(gx.ravel(), gy.ravel(), strict=True):
        image[y - 18 : y + 18, x - 18 : x + 18] += clean[2:38, 2:38]
    gain, read = 1.5, 6.0
    noisy = rng.poisson(image * gain) / gain + rng.normal(0, read, image.shape)
    empty = np.hypot(np.sqrt(200 / gain), read)
    sums = aperture_sums(noisy, xs, ys, 4.0, mosaic, noise=np.full(3 if mosaic else 1, empty), gain=gain)
    for flux, error in zip(sums.flux, sums.error, strict=True):
        ratio = np.std(flux) / np.mean(error)
        # A standard deviation of 400 draws is known to 3.5 %.
        assert 0.88 < ratio < 1.12


def test_neighbours_in_the_ring_hardly_move_the_sky():
    xs, ys = np.array([40.0]), np.array([35.0])
    crowd = field((70, 80), [40, 46, 33.5], [35, 41, 30], [4000.0, 3000, 2000])
    rng = np.random.default_rng(2)
    sums = aperture_sums(crowd + rng.normal(0, 3, crowd.shape), xs, ys, 4.0)
    # 170 pixels of sigma 3 tell the mean to 0.25.
    assert abs(sums.sky[0, 0] - 100) < 1.5


def test_bad_pixels_edges_and_unknown_places_are_flagged():
    image = field((40, 60), [30.0], [20.0], [1000.0])
    bad = bad_map(image.shape, [31.0, 5, 200], [20.0, 5, 3], np.array([bits.SATURATED, bits.DEFECT, 1]))
    assert bad.sum() == bits.SATURATED + bits.DEFECT
    xs, ys = np.array([30.0, 1.0, np.nan, 45.0]), np.array([20.0, 20.0, 3.0, 20.0])
    sums = aperture_sums(image, xs, ys, 3.0, bad=bad)
    assert list(sums.flags) == [bits.SATURATED, bits.OUTSIDE, bits.OUTSIDE, 0]
    assert np.isnan(sums.flux[0, 1:3]).all() and np.isfinite(sums.flux[0, [0, 3]]).all()


def test_a_ring_without_pixels_says_so():
    image = np.full((9, 11), 5.0)
    sums = aperture_sums(image, np.array([5.0]), np.array([4.0]), 3.0, annulus=(20.0, 22.0))
    assert sums.flags[0] == POOR_SKY and np.isnan(sums.flux[0, 0])


def test_no_stars_are_no_error():
    assert len(aperture_sums(np.zeros((8, 9)), np.zeros(0), np.zeros(0), 2.0)) == 0
    assert default_annulus(4.0)[1] > default_annulus(4.0)[0] > 4.0


@pytest.mark.parametrize("mosaic", ["GBRG", ""])
def test_a_star_is_measured_alone_as_among_others(mosaic):
    """Several are measured together; none knows of the others. One of them lies outside."""
    rng = np.random.default_rng(8)
    xs, ys, radii = rng.uniform(12, 140, 53), rng.uniform(12, 90, 53), rng.uniform(2.0, 6.0, 53)
    xs[17] = -40.0
    image = field((104, 154), xs, ys, rng.uniform(100, 5000, 53)) + rng.normal(0, 3, (104, 154))
    bad = bad_map((104, 154), xs + 3, ys - 1, np.full(53, bits.DEFECT, np.uint8))
    annulus = (8.0, 13.5)
    together = aperture_sums(image, xs, ys, radii, mosaic, None, 1.5, bad, annulus)
    assert np.isfinite(together.flux[0]).sum() == 52
    for n in range(53):
        alone = aperture_sums(
            image, xs[n : n + 1], ys[n : n + 1], radii[n : n + 1], mosaic, None, 1.5, bad, annulus
        )
        for name in ("flux", "error", "sky", "area"):
            assert np.array_equal(getattr(alone, name)[:, 0], getattr(together, name)[:, n], equal_nan=True)
        assert alone.flags[0] == together.flags[n]


def test_rooms_for_more_places_than_there_are_hold_nothing(monkeypatch):
    """One place, where several are sorted side by side: memory that was not written is not looked at."""

    class Dirty:
        """numpy, whose fresh memory holds numbers that are no counts."""

        def __getattr__(self, name):
            return getattr(np, name)

        def empty(self, shape, dtype=float):
            return np.full(shape, 2**40 if np.dtype(dtype).kind == "i" else 1, dtype)

    data = np.random.default_rng(2).normal(1000, 10, (60, 60)).astype(np.float32)
    whole = aperture_sums(data, np.full(40, 30.2), np.full(40, 29.7), 3.0)
    monkeypatch.setattr(photometry, "_some_of", photometry._some_of.py_func)
    monkeypatch.setattr(photometry, "_sums", photometry._sums.py_func)
    monkeypatch.setattr(photometry, "np", Dirty())
    one = aperture_sums(data, np.array([30.2]), np.array([29.7]), 3.0)
    assert one.flux[0, 0] == pytest.approx(whole.flux[0, 0], rel=1e-6)
    assert np.isnan(aperture_sums(data, np.array([-50.0]), np.array([29.7]), 3.0).flux).all()

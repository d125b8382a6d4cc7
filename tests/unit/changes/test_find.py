"""Finding: unit sigma, the right number of chance peaks, points of both signs, lines with their ends."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.stats import norm

from difflapse.changes.find import FindOptions, filtered, find, flatten
from difflapse.model import ProductGrid
from difflapse.model.sightings import CUT

SHAPE = (420, 610)
GRID = ProductGrid(SHAPE, 2, (40, 16))
FWHM = 1.4


def noise(seed: int, blur: float = 0.55) -> np.ndarray:
    """Noise of unit sigma whose neighbours are alike, as resampling leaves it."""
    values = np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)
    values = cv2.GaussianBlur(values, (0, 0), blur)
    return (values / values.std()).astype(np.float32)


def star(i: float, j: float, fwhm: float = FWHM) -> np.ndarray:
    """A Gaussian of unit light."""
    v, u = np.indices(SHAPE)
    sigma = fwhm / 2.3548
    shape = np.exp(-0.5 * ((u - i) ** 2 + (v - j) ** 2) / sigma**2)
    return (shape / (2 * np.pi * sigma**2)).astype(np.float32)


def line(i0: float, j0: float, i1: float, j1: float, dashes: float = 0.0) -> np.ndarray:
    """A line of unit light per pixel of its length."""
    out = np.zeros(SHAPE, np.float32)
    n = int(4 * np.hypot(i1 - i0, j1 - j0))
    t = (np.arange(n) + 0.5) / n
    on = np.ones(n) if not dashes else (np.sin(2 * np.pi * t * n / 4 / dashes) > 0).astype(float)
    x, y = i0 + t * (i1 - i0), j0 + t * (j1 - j0)
    inside = (x > 1) & (y > 1) & (x < SHAPE[1] - 2) & (y < SHAPE[0] - 2)
    np.add.at(out, (np.rint(y[inside]).astype(int), np.rint(x[inside]).astype(int)), 0.25 * on[inside])
    return cv2.GaussianBlur(out, (0, 0), FWHM / 2.3548)


@pytest.mark.parametrize("fwhm", [1.2, 3.1])
def test_a_filtered_map_of_correlated_noise_has_unit_sigma(fwhm: float) -> None:
    """The robust scatter of some 1e4 independent values is good to 2 %."""
    snr = filtered(flatten(noise(1)), fwhm).snr
    assert 1.4826 * np.median(np.abs(snr)) == pytest.approx(1, abs=0.03)
    assert snr.std() == pytest.approx(1, abs=0.05)


def test_noise_alone_gives_as_many_weak_peaks_as_chance_does() -> None:
    """Some 1e5 independent values of two maps: 1e5 * 2 * 3.2e-5 peaks beyond 4 sigma, and none beyond 6."""
    counts = []
    for seed in range(6):
        found = find(noise(seed), GRID, FindOptions(FWHM, floor=4.0))
        assert not found.is_streak.any()
        assert np.abs(found.snr).max(initial=0) < 6
        counts.append(len(found))
    assert 1 < np.mean(counts) < 40


def test_a_point_is_found_where_it_is_as_strong_as_it_is() -> None:
    """A star of 12 sigma at a fractional place: S/N within 3 sigma of the filter's, place within 4 errors."""
    kernel_sigma = 2 * np.sqrt(np.pi) * FWHM / 2.3548
    plain = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)
    sigma = (
        plain
        + np.float32(12 * kernel_sigma) * star(301.3, 190.7)
        - np.float32(9 * kernel_sigma) * star(100.6, 77.2)
    )
    found = find(sigma, GRID, FindOptions(FWHM, floor=6.5))
    assert len(found) == 2
    x, y = GRID.to_native(np.array([301.3, 100.6]), np.array([190.7, 77.2]))
    assert found.snr == pytest.approx([12, -9], abs=3)
    error = np.hypot(found.x - x, found.y - y)
    assert np.all(error < 4 * found.error)
    assert np.all(found.error < 0.5)


def test_turning_the_sign_of_a_difference_turns_the_sign_of_what_is_found() -> None:
    sigma = noise(4) + 40 * star(201.4, 99.8)
    bright = find(sigma, GRID, FindOptions(FWHM, floor=4.0, streaks=False))
    dark = find(-sigma, GRID, FindOptions(FWHM, floor=4.0, streaks=False))
    assert np.allclose(bright.snr, -dark.snr, atol=1e-3)
    assert np.allclose(bright.x, dark.x)


@pytest.mark.parametrize("dashes", [0.0, 17.0])
def test_a_streak_has_both_its_ends_and_is_not_a_row_of_points(dashes: float) -> None:
    """Of 3 sigma a pixel: ends within half a dash, or a few pixels, of the truth."""
    sigma = noise(5) + np.float32(6.0 if dashes else 4.0) * line(60.3, 40.8, 433.1, 371.4, dashes)
    found = find(sigma, GRID, FindOptions(FWHM, floor=5.0))
    assert found.is_streak.sum() == 1
    n = int(np.flatnonzero(found.is_streak)[0])
    ends = sorted([(found.x[n], found.y[n]), (found.x_end[n], found.y_end[n])])
    truth = [tuple(float(v) for v in GRID.to_native(*p)) for p in ((60.3, 40.8), (433.1, 371.4))]
    for (x, y), (tx, ty) in zip(ends, truth, strict=True):
        assert np.hypot(x - tx, y - ty) < 2 * (8 + dashes)
        # Across the line they are better.
        assert abs((x - tx) * 330.6 - (y - ty) * 372.8) / np.hypot(330.6, 372.8) < 2.5
    assert len(found) < 6


def test_a_faint_streak_is_found_by_its_length() -> None:
    """0.9 sigma a pixel is nowhere a point, but 300 pixels of it are 10 sigma and more."""
    sigma = noise(6, 0.3) + np.float32(1.3) * line(500.2, 380.1, 260.4, 30.9)
    found = find(sigma, GRID, FindOptions(FWHM, floor=6.0))
    assert found.is_streak.sum() == 1
    assert found.snr[found.is_streak][0] > 8


def test_a_cloud_is_neither_points_nor_lines() -> None:
    v, u = np.indices(SHAPE)
    cloud = 30 * np.exp(-0.5 * ((u - 300) / 60) ** 2) * (1 + 0.5 * np.sin(v / 50))
    found = find(noise(7) + cloud.astype(np.float32), GRID, FindOptions(FWHM, floor=6.0))
    assert len(found) == 0


def test_masked_pixels_are_left_out() -> None:
    sigma = noise(8) + 60 * star(300, 200)
    sigma[190:211, 290:311] = np.nan
    assert len(find(sigma, GRID, FindOptions(FWHM, floor=6.0))) == 0
    assert len(find(np.full(SHAPE, np.nan, np.float32), GRID, FindOptions(FWHM))) == 0


def test_more_than_can_be_kept_is_cut_and_says_so() -> None:
    sigma = noise(9)
    found = find(sigma, GRID, FindOptions(FWHM, floor=2.0, most=25, streaks=False))
    assert len(found) == 25
    assert np.all(found.flags & CUT)
    rest = find(sigma, GRID, FindOptions(FWHM, floor=2.0, most=100_000, streaks=False))
    assert not np.any(rest.flags & CUT)
    assert np.abs(found.snr).min() > np.median(np.abs(rest.snr))


def test_a_frame_too_small_for_lines_is_searched_for_points() -> None:
    sigma = np.random.default_rng(2).normal(size=(24, 31)).astype(np.float32)
    sigma[11:14, 15:18] += 15
    found = find(sigma, ProductGrid((24, 31), 1, (0, 0)), FindOptions(1.6, floor=7.0))
    assert len(found) == 1
    assert found.x[0] == pytest.approx(16, abs=0.5)


def test_a_filtered_map_is_what_whole_images_make_of_it() -> None:
    """Background, filter and weights by OpenCV, with a third of the pixels hidden: to the rounding of float32."""
    rng = np.random.default_rng(11)
    sigma = noise(11) + 20 * star(300.4, 200.2)
    sigma[rng.random(SHAPE) < 0.33] = np.nan
    seen = np.isfinite(sigma)
    cells = sigma[::4, ::4][: SHAPE[0] // 32 * 8, : SHAPE[1] // 32 * 8]
    medians = np.nanmedian(cells.reshape(SHAPE[0] // 32, 8, SHAPE[1] // 32, 8), axis=(1, 3)).astype(
        np.float32
    )
    wide = cv2.resize(medians, None, fx=32, fy=32, interpolation=cv2.INTER_LINEAR)
    wide = np.pad(wide, [(0, n - m) for n, m in zip(SHAPE, wide.shape, strict=True)], "edge")
    flat = sigma - wide
    clipped = np.clip(np.where(seen, flat, 0), -4, 4)
    box = [cv2.blur(v.astype(np.float32), (15, 15), borderType=cv2.BORDER_CONSTANT) for v in (clipped, seen)]
    flat -= box[0] / box[1]
    found = flatten(sigma)
    assert np.array_equal(np.isfinite(found), seen)
    assert np.nanmax(np.abs(found - flat)) < 1e-4
    for fwhm in (1.4, 4.9):
        width = fwhm / 2.3548
        reach = int(np.ceil(3 * width))
        edges = np.arange(-reach, reach + 2) - 0.5
        kernel = np.diff(norm.cdf(edges / width)).astype(np.float32)
        snr = cv2.sepFilter2D(
            np.where(seen, flat, 0), cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_CONSTANT
        )
        square = kernel**2
        weight = cv2.sepFilter2D(
            seen.astype(np.float32), cv2.CV_32F, square, square, borderType=cv2.BORDER_CONSTANT
        )
        snr /= np.sqrt(np.maximum(weight, 1e-6))
        snr[weight < 0.6 * square.sum() ** 2] = 0
        ratio = filtered(found, fwhm).snr[snr != 0] / snr[snr != 0]
        # In units of its own scatter, which varies smoothly.
        assert np.all((filtered(found, fwhm).snr == 0) == (snr == 0))
        assert np.percentile(ratio, 1) > 0.9 * np.percentile(ratio, 99)
        assert 1.4826 * np.median(np.abs(filtered(found, fwhm).snr[snr != 0])) == pytest.approx(1, abs=0.03)

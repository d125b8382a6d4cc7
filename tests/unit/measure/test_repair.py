"""Filled pixels: from good neighbours of the same colour, whole numbers for whole numbers, no others."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.measure import clip_level, find_saturated, repair

SHAPE = (24, 34)


def ramp(step: int) -> np.ndarray:
    """A plane that is linear within each colour, and another for each colour."""
    y, x = np.indices(SHAPE)
    colour = 1000.0 * ((y % step) * step + x % step)
    return 3.0 * x + 7.0 * y + colour


@pytest.mark.parametrize("step", [1, 2])
def test_a_lone_bad_pixel_takes_the_mean_of_its_own_colour(step: int) -> None:
    truth = ramp(step)
    data = truth.copy()
    x, y = np.array([9, 20, 13]), np.array([7, 12, 18])
    data[y, x] = 6e4
    assert repair(data, x, y, step) is data
    assert np.allclose(data, truth, atol=1e-9)


@pytest.mark.parametrize("step", [1, 2])
def test_neighbours_that_are_bad_themselves_give_nothing(step: int) -> None:
    data = np.full(SHAPE, 50.0)
    x, y = np.array([10, 10 + step, 10]), np.array([8, 8, 8 + step])
    data[y, x] = [1e6, -1e6, np.nan]
    repair(data, x, y, step)
    assert np.all(data == 50.0)


@pytest.mark.parametrize("step", [1, 2])
def test_corners_and_edges_take_what_is_inside(step: int) -> None:
    ny, nx = SHAPE
    x = np.array([0, nx - 1, 0, nx - 1, 15, 0])
    y = np.array([0, 0, ny - 1, ny - 1, 0, 11])
    data = np.full(SHAPE, 7.0)
    data[y, x] = 999
    repair(data, x, y, step)
    assert np.all(data == 7.0)


def test_whole_numbers_stay_whole_and_are_rounded() -> None:
    data = np.zeros(SHAPE, np.uint16)
    data[5, 5], data[5, 7] = 10, 3
    before = data.copy()
    repair(data, np.array([6]), np.array([5]), 1)
    assert data.dtype == np.uint16
    assert data[5, 6] == 2  # (10 + 3) / 8 = 1.6
    before[5, 6] = 2
    assert np.array_equal(data, before)


def test_sums_of_bright_neighbours_do_not_wrap_around() -> None:
    data = np.full(SHAPE, 65535, np.uint16)
    data[9, 9] = 0
    repair(data, np.array([9]), np.array([9]), 1)
    assert data[9, 9] == 65535


def test_a_pixel_without_good_neighbours_takes_the_images_level() -> None:
    data = np.full(SHAPE, 40.0)
    y, x = (g.ravel() for g in np.mgrid[4:11, 6:15])
    data[y, x] = np.nan
    repair(data, x, y, 1)
    assert np.all(data == 40.0)


def test_nothing_bad_is_nothing_done() -> None:
    data = ramp(1)
    none = np.zeros(0, int)
    assert np.array_equal(repair(data.copy(), none, none, 2), data)


def test_all_bad_is_zero_and_no_error() -> None:
    data = np.full((8, 12), 9.0)
    y, x = (g.ravel() for g in np.indices(data.shape))
    assert np.all(repair(data, x, y, 2) == 0)


def stars(cut: float) -> np.ndarray:
    """A field whose brightest pixels fall off as stars' do, cut at a level."""
    rng = np.random.default_rng(4)
    data = rng.normal(300, 9, (400, 610))
    n = 2500
    data[rng.integers(0, 400, n), rng.integers(0, 610, n)] += 60 * rng.pareto(1.0, n)
    return np.minimum(data, cut).astype(np.uint16)


@pytest.mark.parametrize("cut", [2500, 4095])
def test_where_a_camera_cuts_is_seen_by_the_pixels_that_have_just_that_value(cut: float) -> None:
    data = stars(cut)
    assert clip_level(data) == cut
    x, _ = find_saturated(data, cut)
    assert len(x) == (data == cut).sum() > 12


def test_where_nothing_is_cut_there_is_no_level() -> None:
    data = stars(1e9).astype(np.int64)
    assert clip_level(np.where(data > 60_000, 300, data)) is None
    assert clip_level(np.full((30, 41), 7, np.uint16)) is None
    few = np.where(data > 60_000, 300, data)
    few[100:103, 200:203] = 65_535  # nine pixels
    assert clip_level(few) is None
    few[100:104, 200:204] = 65_535
    assert clip_level(few) == 65_535

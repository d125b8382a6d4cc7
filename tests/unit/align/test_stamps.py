"""Small windows are resampled with the weights of the whole frame."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.align.stamps import native_side, warp_stamps
from difflapse.align.warp import warp
from difflapse.measure import draw_stars, gaussian_profile
from difflapse.model import ProductGrid, Transform
from difflapse.mosaic import sites, split

SHAPE = (180, 260)


def turned(degrees: float) -> Transform:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.array([[c, -s], [s, c]])
    middle = np.array([130.0, 90.0])
    return Transform.from_matrix(np.column_stack([matrix, middle - matrix @ middle + (3.3, -2.7)]))


@pytest.mark.parametrize("mosaic", ["GBRG", ""])
@pytest.mark.parametrize("kernel", ["cubic", "lanczos4"])
@pytest.mark.parametrize("degrees", [0.05, 179.9, 17.0])
def test_as_the_whole_frame(mosaic, kernel, degrees):
    rng = np.random.default_rng(5)
    place, transform, grid = sites(mosaic), turned(degrees), ProductGrid.whole(SHAPE, mosaic)
    step, side = grid.step, 17
    x, y = rng.uniform(90, 170, 4), rng.uniform(70, 110, 4)
    h = native_side(side, step)
    corner = step * np.round((np.column_stack([x, y]) - h / 2) / step).astype(int)
    channel = np.array([s.channel for s in place])
    flux = rng.uniform(500, 900, (channel.max() + 1, 4))
    stamps = draw_stars(gaussian_profile(2.1, SHAPE), x, y, flux, corner, h, channel)
    i, j = grid.from_native(*transform(x, y))
    first = np.column_stack([i, j]).round().astype(int) - side // 2
    small = warp_stamps(stamps, corner, place, transform, grid, first, side, kernel)
    for n in range(4):
        frame = np.zeros((SHAPE[0] + 200, SHAPE[1] + 200), np.float32)
        x0, y0 = corner[n] + 100
        frame[y0 : y0 + h, x0 : x0 + h] = stamps[n]
        frame = np.ascontiguousarray(frame[100:-100, 100:-100])
        whole = warp(split(frame, mosaic), place, transform, grid, None, kernel).data
        a, b = first[n]
        there = whole[:, b : b + side, a : a + side]
        # The whole frame's map is a spline between nodes: its phases are good to 1e-4 px.
        assert np.abs(small[n] - there).max() < 2e-3 * there.max()
        assert there.max() > 20


def test_no_windows_is_no_windows():
    grid = ProductGrid.whole(SHAPE, "GBRG")
    none = np.zeros((0, 2), int)
    out = warp_stamps(np.zeros((0, 54, 54), np.float32), none, sites("GBRG"), turned(0), grid, none, 15)
    assert out.shape == (0, 3, 15, 15)

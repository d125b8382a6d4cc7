"""Lanes: a bright star's light along its row and column, gone from frames that do not hold the star."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.changes.lanes import Lanes, find_lanes, off_frame
from difflapse.changes.starlight import Starlight
from difflapse.model import ProductGrid

SHAPE = (180, 310)
NONE = np.zeros((0, 2))


def starlight(trail: int = 40, gap: int = 0) -> Starlight:
    """A star 7 px wide at column 60, row 90, with a trail to the right, and a faint star at its end."""
    bins = np.zeros(SHAPE, np.uint8)
    bins[87:94, 57:64] = 11
    bins[88:93, 64 : 64 + trail] = 3
    bins[88:93, 64 + trail + gap : 64 + trail + gap + 5] = 4
    none = np.zeros(0)
    return Starlight(none, none, none, none, bins)


@pytest.mark.parametrize("step", [1, 2])
def test_a_lane_goes_as_far_as_the_light_without_a_gap(step: int) -> None:
    grid = ProductGrid(SHAPE, step, (10, 20))
    whole = find_lanes(starlight(), grid, NONE, 6.0)
    cut = find_lanes(starlight(gap=2), grid, NONE, 6.0)
    assert len(whole) == len(cut) == 1
    x, y = grid.to_native(60.0, 90.0)
    assert (whole.x[0], whole.y[0]) == pytest.approx((float(x), float(y)))
    for lanes, last in ((whole, 108), (cut, 103)):
        ends = [*grid.to_native(57.0, 87.0), *grid.to_native(float(last), 93.0)]
        assert lanes.row[0] == pytest.approx([ends[0], ends[2], ends[1], ends[3]])
    # Nothing goes on along the column.
    assert np.ptp(whole.column[0, 2:]) == pytest.approx(6 * step)


def test_what_lies_on_the_lane_of_a_star_that_is_off_is_told_and_nothing_beside_it() -> None:
    lanes = find_lanes(starlight(), ProductGrid(SHAPE), NONE, 6.0)
    x, y = np.array([90.0, 90.0, 130.0, 40.0, 60.0]), np.array([91.5, 97.0, 90.0, 90.0, 92.0])
    assert lanes.cover(np.array([True]), x, y).tolist() == [True, False, False, False, True]
    assert not lanes.cover(np.array([False]), x, y).any()
    assert not Lanes.none().cover(np.zeros(0, bool), x, y).any()


def test_a_star_beyond_the_products_has_its_lane_from_their_edge_on() -> None:
    """A trail enters at the left, of a star 6 px outside; on other rows that star has nothing."""
    bins = np.zeros(SHAPE, np.uint8)
    bins[70:75, :22] = 2
    none = np.zeros(0)
    night = Starlight(none, none, none, none, bins)
    lanes = find_lanes(night, ProductGrid(SHAPE), np.array([[-6.2, 72.3], [-6.2, 30.0]]), 6.0)
    assert lanes.row[0] == pytest.approx([-9.2, 21.0, 69.3, 75.3])
    assert lanes.row[1, 1] < 0
    on = lanes.cover(np.array([True, True]), np.array([12.0, 30.0, 2.0]), np.array([72.0, 72.0, 30.0]))
    assert on.tolist() == [True, False, False]


def test_a_frame_holds_a_star_that_is_well_inside_its_live_pixels() -> None:
    x = np.array([150.0, 12.9, 13.2, -3.0, np.nan, 305.9])
    y = np.array([90.0, 90.0, 90.0, 90.0, 90.0, 90.0])
    assert off_frame(x, y, (9, 309, 0, 179), 2.0).tolist() == [False, True, False, True, True, True]
    assert off_frame(np.array([150.0]), np.array([176.0]), (9, 309, 0, 179), 2.0).tolist() == [True]

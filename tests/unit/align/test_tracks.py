"""Stars of many frames, brought together."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from difflapse.align.tracks import _nearest, make_tracks


def test_the_nearest_star_within_reach_is_that_of_a_tree():
    rng = np.random.default_rng(3)
    sky, at = rng.uniform(0, 90, (400, 2)), rng.uniform(-5, 95, (300, 2))
    at[5] = np.nan
    by_y = np.argsort(sky[:, 1], kind="stable")
    distance, which = _nearest(sky[by_y], by_y, at, 3.0)
    good = np.isfinite(at).all(axis=1)
    wanted, number = cKDTree(sky).query(at[good], distance_upper_bound=3.0)
    assert 0.1 < np.isfinite(wanted).mean() < 0.9
    assert np.array_equal(which[good], number)
    assert np.allclose(distance[good], wanted)
    assert np.isinf(distance[5])


def test_what_another_frame_sees_beside_the_references_stars_is_a_star_of_its_own():
    home = np.array([[10.0, 10.0], [30.0, 12.0], [50.0, 40.0]])
    other = np.array([[30.2, 12.1], [70.0, 5.0], [10.9, 10.0]])
    tracks, count = make_tracks([home, other], [0.5, 0.5], 0)
    # The last lies too far from a star to be it, and too near to be another.
    assert count == 4
    assert [t.tolist() for t in tracks] == [[0, 1, 2], [1, 3, -1]]

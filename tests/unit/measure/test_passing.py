"""The light of what moves past stars, told from theirs."""

import numpy as np
import pytest

from difflapse.measure.passing import less_stars

RADIUS = 4.0


def night(n=30, pace=2.5, flux=1000.0, coma=0.0, stars=(), noise=20.0, grain=0.04, seed=1):
    """Circles of all frames at all places of a thing on a slanted track, and where it is.

    `stars` are (frame, flux): what the circle holds where the thing is in that frame. A star's light differs by
    `grain` from frame to frame. `coma` falls off with distance, to an e-th over 6 pixels.
    """
    rng = np.random.default_rng(seed)
    x, y = 0.8 * pace * np.arange(n), 0.6 * pace * np.arange(n)
    apart = np.hypot(x[:, None] - x, y[:, None] - y)
    own = np.where(apart < 2 * RADIUS, flux * np.clip(1 - apart / (2 * RADIUS), 0, 1) ** 3, 0)
    behind = np.zeros(n)
    for place, light in stars:
        behind[place] = light
    light = own + coma * np.exp(-apart / 6) + behind * (1 + grain * rng.normal(size=(n, n)))
    light += noise * rng.normal(size=(n, n))
    return light, np.full((n, n), noise), x, y, behind


def test_a_mover_is_as_bright_before_stars_as_beside_them():
    """Each point lies within its error of the truth, and the errors grow where stars are, as much as is needed."""
    stars = ((4, 3000.0), (5, 1200.0), (11, 800.0), (12, 8000.0), (20, 400.0))
    miss = []
    for seed in range(20):
        light, error, x, y, _ = night(stars=stars, seed=seed)
        flux, sigma, doubt = less_stars(light, error, x, y, RADIUS)
        assert np.isfinite(flux).all()
        miss.append((flux - 1000) / sigma)
        assert doubt[12] > 4 * doubt[0]
    miss = np.array(miss)
    # 20 nights of 30 points: the mean is known to 0.04 and the scatter to 0.03 of what it is.
    assert abs(miss.mean()) < 0.2
    assert 0.75 < miss.std() < 1.15
    at_stars = miss[:, [4, 12]]
    assert 0.6 < at_stars.std() < 1.4


def test_without_taking_stars_off_they_would_be_its_own():
    light, error, x, y, _ = night(stars=((12, 8000.0),))
    assert light[12, 12] > 8000
    flux, sigma, _ = less_stars(light, error, x, y, RADIUS)
    assert abs(flux[12] - 1000) < 4 * sigma[12] < 3000


def test_a_coma_that_reaches_over_its_track_stays_its_own():
    """A comet's light in the circles of other frames is no star's: its curve is flat, and star and coma are parted."""
    light, error, x, y, _ = night(n=24, pace=1.2, flux=600.0, coma=900.0, stars=((8, 2500.0),), noise=15.0)
    flux, sigma, _ = less_stars(light, error, x, y, RADIUS)
    far = np.exp(-4 * RADIUS / 6) * 900  # what the coma still gives at the last step is taken for sky
    assert np.median(flux) == pytest.approx(1500, abs=far + 30)
    assert np.ptp(np.delete(flux, 8)) < 160
    assert abs(flux[8] - np.median(flux)) < 4 * sigma[8]


def test_what_hardly_moves_is_left_as_it_is():
    light, error, x, y, _ = night(n=10, pace=0.5)
    assert less_stars(light, error, x, y, RADIUS) is None


def test_frames_that_tell_nothing_cost_only_themselves():
    """A clouded frame (all NaN) has no light; a place beyond the edge of all frames has none; the rest has."""
    light, error, x, y, _ = night(stars=((12, 8000.0),))
    light[7] = np.nan
    light[:, 29] = np.nan
    flux, *_ = less_stars(light, error, x, y, RADIUS)
    assert np.flatnonzero(~np.isfinite(flux)).tolist() == [7, 29]
    assert abs(np.delete(flux, [7, 12, 29]) - 1000).max() < 120

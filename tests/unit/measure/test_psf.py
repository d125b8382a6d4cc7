"""Positions by the stars' own profile, against the bound that noise sets."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def centroids() -> ModuleType:
    path = Path(__file__).parents[3] / "benchmarks" / "centroids.py"
    spec = importlib.util.spec_from_file_location("centroids", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", [{}, {"fwhm": (1.48, 1.52)}, {"trail": 5.0}, {"mosaic": ""}])
def test_lone_stars_lie_where_their_light_allows(centroids: ModuleType, case: dict[str, object]) -> None:
    """Mosaicked, undersampled, trailed: errors over the Cramer-Rao bound, and over those foretold, are about 1."""
    e = centroids.errors(centroids.night(**case, shape=(695, 1041), frames=1, seed=3), most=500)
    dx, dy = e.dx - np.median(e.dx), e.dy - np.median(e.dy)
    lone = (e.apart > 10) & (e.snr > 15) & (e.snr < 160)
    n = int(lone.sum())
    assert n > 120
    # The width of n values is known to about 1 / sqrt(n); no unbiased position is better than the bound.
    slack = 4 / np.sqrt(2 * n)
    ratio = centroids.width(np.concatenate([(dx / e.bound_x)[lone], (dy / e.bound_y)[lone]]))
    assert 1 - slack < ratio < 1.15 + slack
    told = centroids.width(np.concatenate([(dx / e.told)[lone], (dy / e.told)[lone]]))
    assert 0.85 - slack < told < 1.15 + slack


def test_no_place_in_the_cell_pulls_a_star(centroids: ModuleType) -> None:
    e = centroids.errors(centroids.night(shape=(695, 1041), frames=2, seed=4), most=1000)
    some = (e.apart > 6) & (e.snr > 40)
    dx, dy = e.dx - np.median(e.dx), e.dy - np.median(e.dy)
    bias, noise = centroids.phase_bias(dx[some], dy[some], e.x[some], e.y[some], e.bound_x[some], 2, bins=3)
    assert bias < 0.3 * np.median(e.bound_x[some]) + 2 * noise


def test_blended_stars_are_flagged(centroids: ModuleType) -> None:
    """A star with a neighbour of half its light two pixels off is told apart from a lone one."""
    from difflapse.measure import find_stars
    from difflapse.model import Frame, FrameFacts
    from difflapse.synth.camera import Points, put_points
    from difflapse.synth.night import plan

    shape = (400, 600)
    spec = centroids.night(shape=shape, mosaic="", frames=1)
    rng = np.random.default_rng(2)
    gx, gy = (
        g.ravel() + rng.uniform(-3, 3, g.size)
        for g in np.meshgrid(np.arange(30, 580, 30.0), np.arange(30, 380, 30.0))
    )
    double = np.arange(len(gx)) % 6 == 0
    x, y = np.concatenate([gx, gx[double] + 2.2]), np.concatenate([gy, gy[double] - 1.1])
    light = rng.uniform(1e4, 4e4, len(gx))
    flux = np.concatenate([light, 0.5 * light[double]])
    image = rng.normal(900.0, 30.0, shape).astype(np.float32)
    put_points(
        image,
        spec.sensor,
        plan(spec).moments[0].geometry,
        spec.blur,
        2.0,
        Points(x, y, flux[:, None].repeat(3, 1)),
    )
    facts = FrameFacts("", "f", 0, shape, bias_adu=0.0, gain_e_adu=1.0, saturation_adu=60000.0)
    stars, _ = find_stars(Frame(facts, image, None))
    away = np.hypot(stars.x[:, None] - gx, stars.y[:, None] - gy)
    index = away.argmin(1)
    near = away.min(1) < 2.5
    assert stars.blended[near & double[index]].mean() > 0.9
    assert stars.blended[near & ~double[index]].mean() < 0.1


def test_what_all_stars_show_is_the_profile_and_what_one_shows_is_not() -> None:
    """Far from the profile believed so far is no fault where all stars agree: a trail's bright end is no neighbour."""
    from difflapse.measure.psf import _like_others

    rng = np.random.default_rng(7)
    m, sigma = 9, 0.01
    # 12 stars show 0.3 too much between knots (5, 3) and (6, 4), one of them 0.5 more; 3 others 0.4 beside.
    n = 16
    samples = np.empty((n, 5))
    samples[:13, 0], samples[:13, 1] = rng.uniform(5.05, 5.95, 13), rng.uniform(3.05, 3.95, 13)
    samples[13:, 0], samples[13:, 1] = rng.uniform(6.05, 6.95, 3), rng.uniform(3.05, 3.95, 3)
    samples[:, 3] = np.where(np.arange(n) < 13, 0.3, 0.4) + rng.uniform(-3, 3, n) * sigma
    samples[4, 3] += 0.5
    samples[:, 2], samples[:, 4] = 1.0 + samples[:, 3], sigma**2
    like = _like_others(samples, np.full(n, 0.1), m)
    assert like[:13].tolist() == [k != 4 for k in range(13)]
    # Where few stars tell, the profile is believed to a part of the peak.
    assert not like[13:].any()
    assert _like_others(samples, np.full(n, 0.5), m)[13:].all()

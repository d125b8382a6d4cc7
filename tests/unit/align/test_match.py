"""Matching under a guess, and what chance would do."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.align.match import chance_matches, log10_chance, match_stars, match_stars_as_is
from difflapse.model import Stars, Transform

SHAPE = (1000, 1500)


def stars(x: np.ndarray, y: np.ndarray) -> Stars:
    n = len(x)
    flux = np.linspace(1000, 100, n)
    return Stars(x, y, flux, np.full(n, 50.0), np.full(n, 2.5), flux[None], np.zeros(n, bool))


def sky(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, SHAPE[1] - 1, n), rng.uniform(0, SHAPE[0] - 1, n)


def test_a_rough_guess_becomes_a_fine_match() -> None:
    rng = np.random.default_rng(3)
    x, y = sky(800, 1)
    bend = 3e-6 * (x - 750) ** 2
    found = match_stars(
        stars(x, y),
        stars(x + 12.3 + bend + rng.normal(0, 0.05, 800), y - 4.5 + rng.normal(0, 0.05, 800)),
        Transform.from_matrix(np.array([[1, 0, 10.5], [0, 1, -4.5]]), "shift"),
        SHAPE,
        SHAPE,
    )
    assert len(found) >= 0.97 * found.n_frame
    assert np.array_equal(found.frame, found.reference)
    assert found.tolerance <= 0.8
    assert found.chance < 2


def test_each_star_is_matched_once() -> None:
    x, y = sky(300, 2)
    doubled = stars(np.concatenate([x, x + 0.3]), np.concatenate([y, y]))
    found = match_stars(doubled, stars(x, y), Transform.identity(), SHAPE, SHAPE)
    assert len(np.unique(found.reference)) == len(found.reference) == 300
    assert len(np.unique(found.frame)) == 300


def test_empty_lists_match_nothing() -> None:
    x, y = sky(30, 2)
    for a, b in ((Stars.empty(), stars(x, y)), (stars(x, y), Stars.empty()), (Stars.empty(), Stars.empty())):
        assert len(match_stars(a, b, Transform.identity(), SHAPE, SHAPE)) == 0


def test_chance_is_what_unrelated_lists_do() -> None:
    """Counted over 20 pairs of skies, against the formula; Poisson errors of the sum."""
    counts, expected = 0, 0.0
    for seed in range(20):
        ax, ay = sky(400, 100 + seed)
        bx, by = sky(400, 200 + seed)
        d = np.hypot(ax[:, None] - bx, ay[:, None] - by).min(axis=1)
        counts += int((d < 5.0).sum())
        expected += chance_matches(400, 400 / (SHAPE[0] * SHAPE[1]), 5.0)
    assert counts == pytest.approx(expected, abs=4 * np.sqrt(expected))


def test_evidence_grows_with_matches_and_shrinks_with_trials() -> None:
    few, many = np.full(6, 0.2), np.full(40, 0.2)
    args = (100, 1e-4, 3)
    assert log10_chance(many, *args) < log10_chance(few, *args) < -5
    assert log10_chance(few, *args, trials=1e6) > log10_chance(few, *args)
    assert log10_chance(few[:3], *args) == 0.0
    assert log10_chance(np.full(6, 40.0), *args) == 0.0


def test_a_header_is_judged_without_being_fitted() -> None:
    x, y = sky(200, 5)
    n, rms, p95 = match_stars_as_is(
        stars(x, y), stars(x + 1.5, y), Transform.identity(), SHAPE, SHAPE, radius=8.0
    )
    assert n >= 195
    assert rms == pytest.approx(1.5, abs=1e-6)
    assert p95 == pytest.approx(1.5, abs=1e-6)
    n, rms, _ = match_stars_as_is(stars(x, y), stars(*sky(200, 6)), Transform.identity(), SHAPE, SHAPE, 8.0)
    assert n == 0
    assert np.isnan(rms)

"""Residuals of held-out stars: planted corners, noise laws and fields come back; noise is not called a pattern."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.align.residuals import (
    CORNER,
    CORNER_STARS,
    corner_rms,
    in_corners,
    noise_law,
    per_star,
    residual_field,
    spread,
)
from difflapse.model import HeldOut

SHAPE = (868, 1302)
NY, NX = SHAPE


def places(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, NX - 0.5, n), rng.uniform(-0.5, NY - 0.5, n)


def held_out(x: np.ndarray, y: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> HeldOut:
    return HeldOut(*(np.asarray(c, np.float32) for c in (x, y, dx, dy, np.full(len(x), 50))))


def test_a_corner_ends_where_it_is_said_to_end() -> None:
    x = np.array([CORNER * NX - 1, CORNER * NX, (1 - CORNER) * NX - 1, (1 - CORNER) * NX, 3, 3])
    y = np.array([5, 5, NY - 4, NY - 4, CORNER * NY - 1, CORNER * NY])
    assert in_corners(x, y, SHAPE).tolist() == [True, False, False, True, True, False]


def test_the_rms_of_the_corners_is_that_of_their_stars_alone() -> None:
    x, y = places(400)
    corner = in_corners(x, y, SHAPE)
    assert corner.mean() == pytest.approx(4 * CORNER**2, abs=4 * np.sqrt(0.16 * 0.84 / 400))
    dx, dy = np.where(corner, 0.3, 0.05), np.where(corner, -0.4, 0.02)
    assert corner_rms(held_out(x, y, dx, dy), SHAPE) == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("n, known", [(CORNER_STARS - 1, False), (CORNER_STARS, True)])
def test_few_stars_in_the_corners_give_no_rms(n: int, known: bool) -> None:
    x, y = np.r_[np.full(n, 12.5), np.full(40, NX / 2)], np.r_[np.full(n, NY - 9.5), np.full(40, NY / 3)]
    assert np.isfinite(corner_rms(held_out(x, y, 0 * x + 0.1, 0 * x), SHAPE)) == known
    assert np.isnan(corner_rms(None, SHAPE))


def test_a_selection_is_even_however_the_stars_crowd() -> None:
    """3000 stars of a cluster in one corner and 300 elsewhere: a third of the field must not give nine tenths."""
    rng = np.random.default_rng(3)
    x = np.r_[rng.uniform(0, NX / 9, 3000), rng.uniform(0, NX, 300)]
    y = np.r_[rng.uniform(0, NY / 6, 3000), rng.uniform(0, NY, 300)]
    chosen = spread(x, y, SHAPE, 250, seed=7)
    assert len(chosen) == len(set(chosen)) == 250
    assert np.all(np.diff(chosen) > 0)
    assert (chosen < 3000).mean() < 0.1
    assert np.array_equal(chosen, spread(x, y, SHAPE, 250, seed=7))
    assert not np.array_equal(chosen, spread(x, y, SHAPE, 250, seed=8))


def test_a_selection_does_not_look_at_the_order_of_brightness() -> None:
    x, y = places(4000)
    chosen = spread(x, y, SHAPE, 400, seed=2)
    assert chosen.mean() == pytest.approx(2000, abs=4 * 4000 / np.sqrt(12 * 400))
    assert np.array_equal(spread(x[:30], y[:30], SHAPE, 30, seed=2), np.arange(30))


def test_floor_and_slope_of_the_noise_come_back() -> None:
    rng = np.random.default_rng(5)
    snr = 10 + 10 * rng.pareto(1.2, 6000)
    sigma = np.hypot(0.02, 1.5 / snr)
    dx, dy = rng.normal(size=(2, 6000)) * sigma
    dx[:20] += 3.0  # blends
    law = noise_law(dx, dy, snr)
    assert law.floor == pytest.approx(0.02, rel=0.08)
    assert law.slope == pytest.approx(1.5, rel=0.08)
    assert law(np.array([75.0]))[0] == pytest.approx(np.hypot(0.02, 0.02), rel=0.06)


def field_of(seed: int, n: int = 1200, size: float = 0.0, tails: bool = False):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    x, y = places(n, seed)
    sigma = np.hypot(0.02, 1.5 / (10 + 10 * rng.pareto(1.2, n)))
    noise = rng.standard_t(4, (2, n)) / np.sqrt(2) if tails else rng.normal(size=(2, n))
    u, v = (x - NX / 2) / (NX / 2), (y - NY / 2) / (NX / 2)
    r2 = u**2 + v**2
    return residual_field(
        x, y, noise[0] * sigma + size * u * r2, noise[1] * sigma + size * v * r2, sigma, SHAPE
    )


@pytest.mark.parametrize("tails", [False, True])
def test_noise_alone_is_not_called_a_pattern(tails: bool) -> None:
    fields = [field_of(seed, tails=tails) for seed in range(60)]
    chi2 = np.array([f.chi2_dof for f in fields])
    cells = int(np.isfinite(fields[0].significance).sum())
    assert cells >= 40
    # Each chi2/dof scatters by 1 / sqrt(cells); tails and errors from few stars widen that a little.
    assert chi2.mean() == pytest.approx(1.0, abs=5 / np.sqrt(cells * 60))
    assert sum(f.is_systematic for f in fields) <= 1
    assert np.mean([f.limit > f.rms for f in fields]) == 1
    assert np.median([f.limit for f in fields]) < 0.015


def test_a_planted_field_is_found_and_measured() -> None:
    """A cubic lens left over: 0.06 px at the edges of x, below the noise of any single star."""
    found = field_of(11, size=0.06)
    assert found.is_systematic
    u, v = (found.x - NX / 2) / (NX / 2), (found.y - NY / 2) / (NX / 2)
    true = 0.06 * np.stack([u, v]) * (u**2 + v**2)
    good = np.isfinite(found.dx)
    assert good.mean() > 0.9
    error = np.stack([found.dx_error, found.dy_error])[:, good]
    pull = (np.stack([found.dx, found.dy])[:, good] - true[:, good]) / error
    assert np.abs(pull.mean()) < 4 / np.sqrt(pull.size)
    assert pull.std() == pytest.approx(1.0, abs=0.25)
    truth = np.sqrt(np.mean(np.sum(true[:, good] ** 2, axis=0)))
    assert found.rms == pytest.approx(truth, abs=3 * np.sqrt(np.mean(error**2) / good.sum()) + 0.1 * truth)
    assert found.limit > truth
    corner = found.dx[-1, -1], found.dy[-1, -1]
    assert corner[0] > 2 * found.dx_error[-1, -1]
    assert corner[1] > 0


def test_errors_of_the_reference_are_no_pattern_of_the_lens() -> None:
    """A star's centroid on the reference errs alike in all frames: thirty frames are not thirty measurements."""
    rng = np.random.default_rng(9)
    n, frames = 600, 30
    x, y = places(n, 9)
    common = rng.normal(0, 0.05, (2, n))
    star = np.tile(np.arange(n), frames)
    dx, dy = np.tile(common, frames) + rng.normal(0, 0.03, (2, n * frames))
    sigma = np.full(n * frames, 0.06)
    means, which, share = per_star(star, sigma, np.tile(x, frames), np.tile(y, frames), dx, dy, sigma)
    assert np.array_equal(which, star)
    assert np.allclose(share, 1 / frames)
    assert means[2].std() == pytest.approx(np.hypot(0.05, 0.03 / np.sqrt(frames)), rel=0.1)
    assert not residual_field(*means, SHAPE).is_systematic
    naive = residual_field(np.tile(x, frames), np.tile(y, frames), dx, dy, sigma, SHAPE, (8, 5))
    assert naive.is_systematic


def test_a_cell_with_few_stars_says_nothing() -> None:
    x = np.r_[np.full(5, 20.0), np.full(40, NX - 20.0)]
    rng = np.random.default_rng(0)
    dx, dy = rng.normal(0, 0.1, (2, 45))
    found = residual_field(x, 0 * x + 100, dx, dy, 0 * x + 0.1, SHAPE, (2, 1))
    assert np.isnan(found.dx[0, 0])
    assert found.dx[0, 1] == pytest.approx(dx[5:].mean())
    assert found.dx_error[0, 1] == pytest.approx(dx[5:].std(ddof=1) / np.sqrt(40))
    assert found.n.tolist() == [[5, 40]]

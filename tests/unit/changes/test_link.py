"""Linking: tracks with honest errors, nothing out of chance, streaks over two frames, what stands still."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from difflapse.changes.link import LinkOptions, _centre, fit_track, link
from difflapse.model.sightings import COSMIC, Sightings

OPTIONS = LinkOptions(0.1, 2.1, 2600.0 * 1700.0)
TIMES = np.cumsum(np.random.default_rng(0).uniform(0.045, 0.055, 20))


def sightings(
    frame: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    snr: np.ndarray,
    flags: int = 0,
    error: float = 0.2,
) -> Sightings:
    n = len(frame)
    return Sightings(
        np.asarray(frame, np.int32),
        np.asarray(x, float),
        np.asarray(y, float),
        np.asarray(snr, float),
        np.full(n, 2.1),
        np.full(n, flags, np.int32),
        error=np.full(n, error),
        sharpness=np.full(n, 0.3),
    )


def mover(
    rng: np.random.Generator, frames: np.ndarray, snr: float = 7.0, rate: tuple[float, float] = (61.3, -34.7)
) -> Sightings:
    since = TIMES[frames] - TIMES[0]
    return sightings(
        frames,
        812.4 + rate[0] * since + rng.normal(0, 0.2, len(frames)),
        1033.8 + rate[1] * since + rng.normal(0, 0.2, len(frames)),
        rng.normal(snr, 1, len(frames)),
    )


def chance(rng: np.random.Generator, per_frame: int) -> Sightings:
    frame = np.repeat(np.arange(len(TIMES)), per_frame)
    n = len(frame)
    return sightings(
        frame,
        rng.uniform(0, 2600, n),
        rng.uniform(0, 1700, n),
        rng.choice([-1, 1], n) * (4.5 + rng.exponential(0.25, n)),
    )


def test_a_mover_among_chance_sightings_is_one_track_with_its_rate() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        frames = np.sort(rng.choice(20, 12, replace=False))
        own = mover(rng, frames)
        changes = link(Sightings.joined([chance(rng, 30), own]), TIMES, OPTIONS)
        assert [c.kind for c in changes] == ["mover"]
        found = changes[0]
        assert len(found.members) >= 11
        assert abs(found.rate_x - 61.3) < 4 * found.rate_err
        assert abs(found.rate_y + 34.7) < 4 * found.rate_err
        assert found.rate_err < 0.6
        assert (found.first_frame, found.last_frame) == (frames[0], frames[-1])


def test_chance_sightings_alone_make_no_change() -> None:
    for seed in range(5):
        assert link(chance(np.random.default_rng(seed), 40), TIMES, OPTIONS) == []


def test_errors_of_a_track_hold() -> None:
    """Over 300 tracks the rate's deviations, in their errors, have unit scatter within 4 sigma of it, 0.16."""
    rng = np.random.default_rng(5)
    pulls = []
    for _ in range(300):
        own = mover(rng, np.arange(8))
        track = fit_track(own, TIMES, np.arange(8), 2.1)
        pulls.append((track.rate_x - 61.3) / track.rate_err)
    assert np.std(pulls) == pytest.approx(0.95, abs=0.16)
    assert abs(np.mean(pulls)) < 4 / np.sqrt(300)


def test_two_strong_sightings_are_enough_two_weak_ones_are_not() -> None:
    rng = np.random.default_rng(1)
    assert [c.kind for c in link(mover(rng, np.array([6, 7]), 14.0), TIMES, OPTIONS)] == ["mover"]
    weak = Sightings.joined([chance(rng, 20), mover(rng, np.array([6, 7]), 5.0)])
    assert link(weak, TIMES, OPTIONS) == []


def test_a_place_that_stands_out_again_and_again_is_a_transient() -> None:
    rng = np.random.default_rng(2)
    frames = np.arange(9, 16)
    own = sightings(frames, rng.normal(400.2, 0.2, 7), rng.normal(300.7, 0.2, 7), np.full(7, 7.0))
    changes = link(Sightings.joined([own, chance(rng, 20)]), TIMES, OPTIONS)
    assert [c.kind for c in changes] == ["transient"]
    assert (changes[0].x, changes[0].y) == pytest.approx((400.2, 300.7), abs=0.4)
    assert changes[0].snr_all == pytest.approx(7 * np.sqrt(7), rel=0.01)


def test_a_place_that_flickers_on_a_few_of_many_frames_is_none() -> None:
    """Five sightings of one place: a transient on 5 frames of 8, noise of the place's own on 5 of 17."""
    rng = np.random.default_rng(6)
    for frames, kinds in (([4, 5, 7, 9, 11], ["transient"]), ([1, 4, 8, 13, 17], [])):
        k = np.array(frames)
        own = sightings(k, rng.normal(400.2, 0.2, 5), rng.normal(300.7, 0.2, 5), np.full(5, 9.0))
        changes = link(Sightings.joined([own, chance(rng, 20)]), TIMES, OPTIONS)
        assert [c.kind for c in changes] == kinds


def test_what_is_refused_is_no_part_of_a_change() -> None:
    rng = np.random.default_rng(3)
    own = mover(rng, np.arange(10))
    refused = sightings(own.frame, own.x, own.y, own.snr, flags=COSMIC)
    assert link(refused, TIMES, OPTIONS) == []
    assert link(own, TIMES, OPTIONS, np.ones(10, bool)) == []


def test_the_order_of_sightings_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    all_of = Sightings.joined(
        [chance(rng, 15), mover(rng, np.arange(10)), mover(rng, np.arange(5, 15), rate=(-20, 51))]
    )
    first = link(all_of, TIMES, OPTIONS)
    second = link(all_of.take(rng.permutation(len(all_of))), TIMES, OPTIONS)
    assert len(first) == 2
    for a, b in zip(first, second, strict=True):
        assert (a.kind, a.x, a.y, a.rate_x, a.snr_all) == pytest.approx(
            (b.kind, b.x, b.y, b.rate_x, b.snr_all)
        )


def streak(frame: int, x: float, y: float, x_end: float, y_end: float) -> Sightings:
    return Sightings(
        np.array([frame], np.int32),
        np.array([x]),
        np.array([y]),
        np.array([30.0]),
        np.array([2.1]),
        np.zeros(1, np.int32),
        np.array([x_end]),
        np.array([y_end]),
        sharpness=np.array([1.0]),
    )


def test_a_streak_that_goes_on_in_the_next_frame_is_one() -> None:
    first, second = streak(4, 100, 100, 700, 420.0), streak(5, 900, 526.7, 1500, 846.7)
    aside = streak(5, 900, 200, 1500, 620)
    changes = link(Sightings.joined([first, second, aside]), TIMES, OPTIONS)
    assert sorted((c.first_frame, c.last_frame, len(c.members)) for c in changes) == [(4, 5, 2), (5, 5, 1)]
    assert {c.kind for c in changes} == {"streak"}


@pytest.mark.parametrize(
    "share, exposure, snr, kept",
    [
        (0.36, 0.0, 40.0, True),  # nobody knows the exposure
        (0.36, 0.02, 40.0, False),  # 5.7 px in an exposure, and as sharp as a star
        (0.17, 0.02, 40.0, True),  # drawn out as it must be
        (0.36, 0.02, 8.0, True),  # too faint to tell
        (0.36, 0.005, 40.0, True),  # it hardly moves while it is exposed
    ],
)
def test_two_points_sharper_than_their_motion_allows_are_no_mover(
    share: float, exposure: float, snr: float, kept: bool
) -> None:
    """284 px an hour, seen twice: particles are sharp, things are drawn out to what they move in an exposure."""
    options = replace(OPTIONS, exposure=exposure)
    times = TIMES[:2]
    two = sightings(
        np.arange(2), 400.3 + 250.0 * times, 310.8 - 135.0 * times, np.array([snr, 0.9 * snr]), error=0.1
    )
    two = replace(two, sharpness=np.full(2, share))
    kinds = [c.kind for c in link(two, times, options)]
    assert ("mover" in kinds) == kept


def test_how_sharp_a_trail_can_be_is_what_its_pixels_show() -> None:
    """Against a Gaussian, drawn out and summed over pixels by hand, of which the middle one is on the centre."""
    sigma, length = 0.8, 4.6
    u = (np.arange(3001) - 1500) / 1000
    along = np.array(
        [np.exp(-0.5 * ((u - s * length) / sigma) ** 2) for s in np.linspace(-0.5, 0.5, 401)]
    ).sum(axis=0)
    middle = along[np.abs(u) < 0.5].sum() / along.sum()
    assert _centre(sigma, length) == pytest.approx(middle, rel=0.01)
    assert _centre(sigma, 0.0) > 1.3 * _centre(sigma, length)


@pytest.mark.parametrize(
    "snr, gap, others, told",
    [
        ((5.4, 7.1), 1, 40, True),
        ((5.4, 7.1), 1, 60_000, False),  # chance makes such in a crowded night
        ((6.3, 7.1), 1, 60_000, True),  # strong ones are believed whatever the night is like
        ((5.4, 22.0), 1, 40, False),  # a particle on a weak peak
        ((-5.4, -7.1), 1, 40, False),  # no light can be missed where the template has none
        ((-6.3, -7.1), 1, 40, True),
        ((4.8, 8.9), 1, 40, False),
    ],
)
def test_two_bright_points_at_one_place_are_a_thing_where_chance_hardly_makes_such(
    snr: tuple[float, float], gap: int, others: int, told: bool
) -> None:
    rng = np.random.default_rng(21)
    two = sightings(np.array([7, 7 + gap]), np.array([700.3, 700.8]), np.array([410.6, 410.1]), np.array(snr))
    rest = sightings(
        rng.integers(0, 20, 20),
        2600 * np.linspace(0.01, 0.99, 20),
        np.full(20, 900.0),
        rng.uniform(4.6, 4.9, 20),
    )
    seen = Sightings.joined([two, rest])
    options = replace(OPTIONS, strengths=np.sort(np.append(rng.uniform(4.5, 8, others), np.abs(snr))))
    changes = [c for c in link(seen, TIMES, options, moving=False) if c.kind == "transient"]
    assert [c.members.tolist() for c in changes] == ([[0, 1]] if told else [])

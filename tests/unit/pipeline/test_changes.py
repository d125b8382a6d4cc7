"""Judging a night: whose a change is, where stars and things lie side by side."""

from __future__ import annotations

import numpy as np

from difflapse.model.sightings import COSMIC, STAR, Change, Sightings
from difflapse.pipeline.changes import _are_there, _strongest_alone, _within, _without_calm

FWHM = 2.1


def sightings(dx: float, dy: float, snr: float, flags: int = 0) -> Sightings:
    """Six sightings beside a star at (300.4, 200.7)."""
    rng = np.random.default_rng(1)
    return Sightings(
        np.arange(6, dtype=np.int32),
        300.4 + dx + rng.normal(0, 0.1, 6),
        200.7 + dy + rng.normal(0, 0.1, 6),
        np.full(6, snr),
        np.full(6, FWHM),
        np.full(6, flags, np.int32),
    )


def kept(seen: Sightings) -> list[int]:
    x, y = np.array([100.0, 300.4]), np.array([90.0, 200.7])
    return _are_there(np.array([1]), x, y, seen, np.ones(6, bool), FWHM).tolist()


def test_a_star_varies_where_its_change_is_seen_and_not_beside_it() -> None:
    """A nova 2.4 px from a faint star lights the star's place too."""
    assert kept(sightings(0.2, -0.1, 40.0)) == [0]
    assert kept(sightings(1.9, -1.5, 40.0)) == []


def test_one_particle_beside_a_star_does_not_make_it_another_things_light() -> None:
    """It outshines all sightings of the star together."""
    seen = sightings(0.1, 0.1, 9.0)
    seen.x[2], seen.snr[2] = 302.9, 60.0
    assert kept(seen) == [0]


def test_weak_or_refused_sightings_do_not_tell_whose_a_change_is() -> None:
    assert kept(sightings(1.9, -1.5, 6.0)) == [0]
    assert kept(sightings(1.9, -1.5, 40.0, COSMIC)) == [0]
    assert kept(sightings(7.0, 1.5, 40.0)) == [0]


def test_of_stars_side_by_side_the_most_certain_is_the_one_that_varies() -> None:
    x, y = np.array([10.0, 13.0, 40.0]), np.array([20.0, 22.0, 20.0])
    assert _strongest_alone(np.array([1, 0, 2]), x, y, 6.3).tolist() == [0, 2]


def test_an_amplitude_of_nothing_is_no_variable() -> None:
    """What is no variable has no amplitude, and stays; so does a variable whose amplitude is not known."""
    seen = sightings(0.1, 0.2, 9.0)
    changes = [
        Change("variable", 300.4, 200.7, 0, 1, 9.0, 9.0, np.array([0, 1]), amplitude_mag=0.0005),
        Change("variable", 300.4, 200.7, 2, 2, 9.0, 9.0, np.array([2]), amplitude_mag=0.021),
        Change("variable", 300.4, 200.7, 3, 3, 9.0, 9.0, np.array([3])),
        Change("mover", 300.4, 200.7, 4, 5, 9.0, 9.0, np.array([4, 5])),
    ]
    kept, judged = _without_calm(changes, seen)
    assert kept == changes[1:]
    assert judged.flags.tolist() == [STAR, STAR, 0, 0, 0, 0]
    assert seen.flags.tolist() == [0] * 6


def test_a_line_through_a_coma_is_the_comas_and_a_satellites_is_not() -> None:
    """A coma 19 px wide at (300, 200) on the second frame: a line of 8 widths through it, one beside it, a long one."""
    comet = Change(
        "comet", 290.0, 195.0, 0, 2, 20.0, 60.0, np.zeros(0, int), rate_x=10.0, rate_y=5.0, width=19.0
    )
    ones = np.ones(3)
    lines = Sightings(
        np.ones(3, np.int32), np.array([295.0, 240.0, 10.0]), np.array([190.0, 90.0, 60.0]), 11 * ones, 2 * ones,
        np.zeros(3, np.int32), np.array([430.0, 330.0, 760.0]), np.array([280.0, 170.0, 420.0]),
    )  # fmt: skip
    assert _within(lines, comet, np.array([0.0, 1.0, 2.0])).tolist() == [True, False, False]

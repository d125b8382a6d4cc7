"""Stars that vary, among those that do not and those that something passes."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.changes.vary import find_variation

FRAMES, STARS = 24, 400
PER_SIGMA = 0.01


def night(seed: int) -> np.ndarray:
    """Residuals of quiet stars in sigma, with the wings that real ones have."""
    return np.random.default_rng(seed).standard_t(6, (FRAMES, STARS)) / np.sqrt(1.5)


def test_a_slow_variable_is_found_with_its_amplitude() -> None:
    judged = night(1)
    wave = 8 * np.sin(2 * np.pi * np.arange(FRAMES) / 15)
    judged[:, 17] += wave
    found = find_variation(PER_SIGMA * judged, judged)
    assert list(found.star) == [17]
    assert not found.gone[0]
    # A running median of three flattens the tops by a few per cent; noise of 0.01 a frame adds to them.
    expected = 2.5 * np.log10((1 + 0.08) / (1 - 0.08))
    assert found.amplitude_mag[0] == pytest.approx(expected, abs=0.04)


def test_an_eclipse_of_a_few_frames_is_found() -> None:
    judged = night(2)
    judged[9:12, 5] -= 13
    judged[14, 6] -= 40
    assert list(find_variation(PER_SIGMA * judged, judged).star) == [5]


def test_what_passes_by_makes_no_variable() -> None:
    judged = night(3)
    judged[7:10, 50] += [17, 86, 6]
    judged[3, 51] -= 60
    assert len(find_variation(PER_SIGMA * judged, judged).star) == 0


def test_quiet_stars_and_constant_offsets_do_not_vary() -> None:
    judged = night(4)
    judged[:, 3] -= 4
    judged[:, 4] = np.nan
    judged[4:, 5] = np.nan
    assert len(find_variation(PER_SIGMA * judged, judged).star) == 0


@pytest.mark.parametrize("appears", [True, False])
def test_a_star_that_was_not_there_is_told(appears: bool) -> None:
    """In the template it has two thirds of its later light."""
    judged, share = night(5), np.zeros((FRAMES, STARS))
    light = np.where(np.arange(FRAMES) < 8, 0.0, 1.5)
    share[:, 9] = (light if appears else light[::-1]) - 1
    judged[:, 9] = 50 * share[:, 9]
    found = find_variation(share, judged)
    assert list(found.star) == [9]
    assert found.gone[0]
    assert found.appears[0] == appears
    assert np.isnan(found.amplitude_mag[0])


def test_less_is_asked_of_a_star_that_another_test_suspects() -> None:
    judged = night(6)
    judged[:, 8] += 2.6 * np.sin(2 * np.pi * np.arange(FRAMES) / 12)
    suspect = np.zeros(STARS, bool)
    assert len(find_variation(PER_SIGMA * judged, judged, suspect).star) == 0
    suspect[[8, 90]] = True
    assert list(find_variation(PER_SIGMA * judged, judged, suspect).star) == [8]


def lasting(judged: np.ndarray, first: int, sigma: float, low: float) -> tuple[np.ndarray, np.ndarray]:
    """Star 9 is in the template and, before frame `first`, fainter by `sigma`: its light is then `low`."""
    share = PER_SIGMA * judged
    judged[:first, 9] -= sigma
    share[:, 9] = (judged[:, 9] + 0.0) / sigma * (1 - low)
    return share, judged


def test_what_came_early_in_the_night_is_told_though_no_frame_without_it_stands_out() -> None:
    """4.4 sigma less on 6 of 24 frames: 9.3 in all. A star that stays, and half of it, are none."""
    share, judged = lasting(np.round(night(7) * 0.5, 3), 6, 4.4, 0.0)
    found = find_variation(share, judged)
    assert list(found.star) == [9]
    assert found.gone[0]
    assert found.appears[0]
    assert len(find_variation(*lasting(np.round(night(7) * 0.5, 3), 6, 4.4, 0.6)).star) == 0
    assert len(find_variation(*lasting(np.round(night(7) * 0.5, 3), 6, 2.4, 0.0)).star) == 0


@pytest.mark.parametrize("at", [0, -1])
@pytest.mark.parametrize("frames, told", [(1, False), (4, True)])
def test_a_particle_on_the_first_or_last_frame_is_no_star_that_came(at: int, frames: int, told: bool) -> None:
    """It outshines a faint star by 30; a star that shines so on four frames of the end is told."""
    judged = night(9)
    share = judged / 7
    lit = slice(0, frames) if at == 0 else slice(FRAMES - frames, FRAMES)
    judged[lit, 12], share[lit, 12] = 87.0, 30.0
    found = find_variation(share, judged)
    assert (12 in found.star) == told

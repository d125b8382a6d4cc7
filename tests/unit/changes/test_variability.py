"""False alarms are what they say, and what varies is found."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.changes.curves import Curves
from difflapse.changes.variability import Seen, judge


def quiet(n=3000, f=30, seed=5, error=0.02, channels=3):
    rng = np.random.default_rng(seed)
    usual = np.sort(10 ** rng.uniform(3, 5, n))[::-1]
    out = []
    for _ in range(channels):
        rel = 1 + error * rng.standard_normal((f, n))
        err = np.full((f, n), error)
        out.append(Curves(rel, err, err, usual, n, np.zeros(f), np.zeros(f, bool)))
    return out


def told(curves, seen=None):
    f, n = curves[0].rel.shape
    return judge(curves, np.zeros((f, n), bool), np.zeros(n, bool), np.zeros(n), np.zeros(n), seen)


def differences(curves, seed=7, share=0.4):
    """What differences show of quiet stars: some of the same photons' noise, and as much of their own."""
    rng = np.random.default_rng(seed)
    f, n = curves[0].rel.shape
    noise = np.mean([one.rel - 1 for one in curves], axis=0)
    judged = share * noise / noise.std() + np.sqrt(1 - share**2) * rng.standard_normal((f, n))
    return Seen(judged, np.zeros((f, n), bool))


def test_quiet_stars_fall_below_a_probability_as_often_as_it_says():
    chance = told(quiet()).false_alarm
    assert np.isfinite(chance).all()
    # 3000 stars: 30 expected below 1 %; the smaller of two statistics counts twice, which is a little too strict.
    assert 10 <= np.sum(chance < 0.01) <= 50
    assert np.sum(chance < 1 / 30000) <= 2


@pytest.mark.parametrize("shape", ["sine", "eclipse"])
def test_what_varies_is_found_with_its_amplitude_and_its_frames(shape):
    curves = quiet()
    k = np.arange(30)
    model = 0.05 * np.sin(k / 4.0) if shape == "sine" else np.where((k > 11) & (k < 16), -0.12, 0.0)
    for one in curves:
        one.rel[:, 40] += model
    found = told(curves)
    assert found.false_alarm[40] < 1e-5
    true = np.ptp(-2.5 * np.log10(1 + model))
    assert found.amplitude_mag[40] == pytest.approx(true, abs=0.05)
    if shape == "eclipse":
        assert (found.first_frame[40], found.last_frame[40]) == (12, 15)
        # Three colours of 2 % error each.
        assert 6 < found.snr[40] <= 8


def test_a_single_bright_frame_is_no_variable_but_a_single_dip_may_be():
    up, down = quiet(), quiet()
    for one in up:
        one.rel[9, 40] += 2.0
    for one in down:
        one.rel[9, 40] -= 0.4
    assert told(up).false_alarm[40] > 1e-3
    assert told(down).false_alarm[40] < 1e-3


def test_too_few_stars_or_frames_are_not_tested():
    few = told(quiet(n=20))
    assert few.tested == 0 and np.isnan(few.false_alarm).all() and np.isfinite(few.amplitude_mag).all()
    assert told(quiet(f=3)).tested == 0


def test_with_differences_too_quiet_stars_fall_below_a_probability_as_often_as_it_says():
    curves = quiet()
    found = told(curves, differences(curves))
    assert 5 <= np.sum(found.false_alarm < 0.01) <= 50
    assert np.sum(found.false_alarm < 1 / 30000) <= 2
    # As much as they have in common: 0.4 of the noise.
    assert np.median(found.borne_out) == pytest.approx(0.4, abs=0.05)


def test_a_disturbed_curve_that_no_difference_bears_out_is_no_variable():
    curves = quiet()
    seen = differences(curves)
    slow = 0.04 * np.sin(np.arange(30) / 4.0)
    for one in curves:
        one.rel[:, 40:60:10] += slow[:, None]
    seen.judged[:, 50] += slow / 0.01
    assert (told(curves).false_alarm[[40, 50]] < 1e-5).all()
    found = told(curves, seen)
    assert found.false_alarm[40] > 1e-3 and found.borne_out[40] < 0.4
    assert found.false_alarm[50] < 1e-9 and found.borne_out[50] > 0.9


def test_what_is_too_weak_for_the_curve_alone_is_found_by_both_together():
    curves = quiet(f=60)
    seen = differences(curves)
    slow = 0.009 * np.sin(np.arange(60) / 6.0)
    for one in curves:
        one.rel[:, 40] += slow
    seen.judged[:, 40] += slow / 0.006
    assert told(curves).false_alarm[40] > 1e-5
    assert told(curves, seen).false_alarm[40] < 1e-5


def test_frames_on_which_something_passes_say_nothing_in_curve_nor_difference():
    curves = quiet()
    seen = differences(curves)
    for one in curves:
        one.rel[10:14, 40] += 0.3
    seen.judged[10:14, 40] += 30
    assert told(curves, seen).false_alarm[40] < 1e-9
    seen.passed[10:14, 40] = True
    found = told(curves, seen)
    assert found.false_alarm[40] > 1e-3
    assert found.amplitude_mag[40] < 0.1


def test_where_differences_know_nothing_of_a_star_its_curve_counts_as_without_them():
    curves = quiet()
    nothing = np.full((30, 3000), np.nan)
    found = told(curves, Seen(nothing, np.zeros((30, 3000), bool)))
    assert np.isnan(found.borne_out).all()
    assert np.array_equal(found.false_alarm, told(curves).false_alarm)


def test_a_disturbed_curve_does_not_count_where_the_differences_know_few_of_its_kind():
    """Of 60 blended stars they know 25: a curve that they do not bear out counts for nothing all the same."""
    curves = quiet()
    seen = differences(curves)
    blended = np.zeros(3000, bool)
    blended[1000:1060] = True
    seen.judged[:, 1025:1060] = np.nan
    slow = 0.04 * np.sin(np.arange(30) / 4.0)
    for one in curves:
        one.rel[:, [1010, 1040]] += slow[:, None]
    f, n = seen.judged.shape
    found = judge(curves, np.zeros((f, n), bool), blended, np.zeros(n), np.zeros(n), seen)
    assert found.borne_out[1010] < 0.4 and found.false_alarm[1010] == 1.0
    # Of this one they know nothing.
    assert np.isnan(found.borne_out[1040]) and found.false_alarm[1040] < 0.05

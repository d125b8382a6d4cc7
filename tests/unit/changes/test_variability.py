"""False alarms are what they say, and what varies is found."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.changes.curves import Curves
from difflapse.changes.variability import judge


def quiet(n=3000, f=30, seed=5, error=0.02, channels=3):
    rng = np.random.default_rng(seed)
    usual = np.sort(10 ** rng.uniform(3, 5, n))[::-1]
    out = []
    for _ in range(channels):
        rel = 1 + error * rng.standard_normal((f, n))
        err = np.full((f, n), error)
        out.append(Curves(rel, err, err, usual, n, np.zeros(f), np.zeros(f, bool)))
    return out


def told(curves):
    f, n = curves[0].rel.shape
    return judge(curves, np.zeros((f, n), bool), np.zeros(n, bool), np.zeros(n), np.zeros(n))


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

"""The S/N of planted streaks is that of the best filter for their light on the sensor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from difflapse.synth import Sensor, ideal, preset, truth_of
from difflapse.synth.scene import Streak
from difflapse.synth.score import line_width, point_area, snr_of

SHAPE = (400, 600)


@pytest.mark.parametrize(
    ("start", "end"),
    [((0.2, 0.3), (0.8, 0.6)), ((-1.3, 0.1), (2.3, 0.8)), ((0.5, 0.5), (1.9, 2.2))],
    ids=["inside", "across", "out"],
)
def test_a_streaks_snr_is_that_of_its_pixels(start: tuple[float, float], end: tuple[float, float]) -> None:
    """Sum of squares of its light over the noise of each native pixel; vignetting is left out, to 5 %."""
    spec = preset("panoptes", frames=1, shape=SHAPE, seed=3)
    spec = replace(spec, objects=(), sensor=replace(spec.sensor, vignetting=(0.0, 0.0), flat_noise=0.0))
    streak = Streak(0, start, end, adu_per_pix=8.0)
    with_it = replace(spec, objects=(streak,))
    light = np.asarray(ideal(with_it, 0), float) - np.asarray(ideal(spec, 0), float)
    truth = truth_of(with_it)
    gain, read = spec.sensor.gain_e_adu, spec.sensor.read_noise_e
    channels = np.array([s for row in Sensor(mosaic=truth.mosaic).sites for s in row]).reshape(2, 2)
    variance = (np.array(truth.frames[0].sky_adu) / gain + (read / gain) ** 2)[channels]
    squares = light**2 / np.tile(variance, (SHAPE[0] // 2, SHAPE[1] // 2))
    assert snr_of(truth, truth.objects[0], streak.colour)[0] == pytest.approx(
        np.sqrt(squares.sum()), rel=0.05
    )


def test_a_line_is_as_wide_as_its_profile_says() -> None:
    """Far wider than pixels, a Moffat's line (the integral along it) has 1 / sum(p^2) of its own; a star its area."""
    fwhm = 9.0
    x = np.arange(-90, 90, 0.05)
    alpha = 0.5 * fwhm / np.sqrt(2 ** (1 / 2.5) - 1)
    line = (1 + (x / alpha) ** 2) ** (0.5 - 2.5)
    line /= line.sum() * 0.05
    assert 1 / (line**2).sum() / 0.05 == pytest.approx(line_width(fwhm), rel=0.08)
    assert line_width(3.0) < line_width(fwhm) < point_area(fwhm)

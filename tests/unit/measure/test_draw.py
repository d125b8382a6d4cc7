"""Artificial stars look like the frame's own, and hold the light they are given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from difflapse.io.discover import discover
from difflapse.io.fits import read_frame
from difflapse.measure import draw_stars, find_stars, gaussian_profile, reach_pix
from difflapse.synth import preset, simulate


def test_a_gaussian_holds_its_light_in_each_colour():
    rng = np.random.default_rng(3)
    x, y = rng.uniform(40, 60, 20), rng.uniform(40, 60, 20)
    corner = np.column_stack([x.round(), y.round()]).astype(int) - 16
    flux = np.stack([np.full(20, 100.0), np.full(20, 300.0), np.full(20, 50.0)])
    channel = np.array([1, 2, 0, 1])
    stamps = draw_stars(gaussian_profile(3.2, (100, 140)), x, y, flux, corner, 32, channel)
    row, column = (corner[:, 1, None] + np.arange(32)) % 2, (corner[:, 0, None] + np.arange(32)) % 2
    which = channel[row[:, :, None] * 2 + column[:, None, :]]
    share = {0: 0.25, 1: 0.5, 2: 0.25}
    for c in range(3):
        total = np.where(which == c, stamps, 0).sum(axis=(1, 2))
        # A Gaussian of 3.2 px FWHM sampled at every second pixel: aliasing of 2 exp(-2 (pi sigma / 2)^2) at most.
        assert total == pytest.approx(share[c] * flux[c], rel=0.02)


def test_the_frame_s_own_stars_are_drawn_as_they_are(tmp_path):
    spec = preset("panoptes", frames=1, shape=(700, 1000), seed=4, clouds=0)
    simulate(tmp_path / "night", replace(spec, sensor=replace(spec.sensor, hot_per_18mpx=0)))
    # One frame is no sequence: its facts are read from a copy of the night with two.
    simulate(tmp_path / "two", replace(spec, frames=2))
    facts = discover([str(tmp_path / "two")], mosaic="auto", split=False).sequences[0].frames[0]
    frame = read_frame(facts)
    stars, quality = find_stars(frame)
    profile = quality.profile
    assert profile is not None
    assert 3 < reach_pix(profile) < 12
    keep = (stars.snr > 150) & ~stars.saturated & ~stars.blended
    x, y = stars.x[keep][:60], stars.y[keep][:60]
    inside = (x > 20) & (y > 20) & (x < 980) & (y < 680)
    x, y = x[inside], y[inside]
    share = np.array([0.25, 0.5, 0.25])
    flux = stars.colour_flux[:, keep][:, :60][:, inside] / share[:, None]
    corner = 2 * (np.column_stack([x, y]) // 2).astype(int) - 6
    channel = np.array(["RGB".index(c) for c in "GBRG"])
    drawn = draw_stars(profile, x, y, flux, corner, 14, channel)
    seen = np.stack([frame.data[b : b + 14, a : a + 14].astype(float) for a, b in corner])
    sky = np.array([quality.background_adu[c] for c in channel]).reshape(2, 2) + (facts.bias_adu or 0)
    seen -= np.tile(sky, (7, 7))
    # Scaled to fit: the aperture of 2.6 widths that tells `colour_flux` holds 84 % of a Moffat of beta 2.5, and the 4
    # widths within which a star is drawn with all its light hold 94 %.
    ratio = np.sum(seen * drawn, axis=(1, 2)) / np.sum(drawn * drawn, axis=(1, 2))
    assert np.median(ratio) == pytest.approx(0.94 / 0.84, abs=0.06)
    rest = np.sqrt(
        np.sum(
            (seen - ratio[:, None, None] * drawn) ** 2 * (drawn > 0.02 * drawn.max((1, 2))[:, None, None]),
            axis=(1, 2),
        )
    )
    assert np.median(rest / np.sqrt(np.sum(seen**2, axis=(1, 2)))) < 0.06

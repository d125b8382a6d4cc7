"""Light curves: what is common goes, what is a star's own stays, errors hold."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.changes.curves import Light, Setting, correct

SHAPE = (600, 900)
ERROR = 0.01


def night(n=500, f=24, seed=1, cell=2, clouds=(), error=ERROR, wave=0.03):
    """Light of stars under extinction, haze that grows over the field, reddening air and a mosaic's phase."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(20, 880, n), rng.uniform(20, 580, n)
    colour = rng.normal(0.6, 0.3, n)
    flux = 10 ** rng.uniform(3.5, 4.5, n)
    fx = x + 1.37 * np.arange(f)[:, None]
    fy = y + 0.61 * np.arange(f)[:, None]
    fwhm = 2.0 + 0.1 * np.sin(np.arange(f))
    mag = (
        0.3 * np.linspace(0, 1, f)[:, None] * (1 + 0.1 * (x - 450) / 450)
        + 0.03 * np.linspace(0, 1, f)[:, None] * colour
    )
    mag = mag + wave * np.cos(2 * np.pi * fx / cell) * (2.0 / fwhm[:, None])
    for k, depth in clouds:
        mag[k] += depth
    clean = flux * 10 ** (-0.4 * mag)
    noise = error * flux * np.ones((f, 1))
    measured = clean + rng.normal(0, 1, clean.shape) * noise
    light = Light(*(a.astype(np.float32) for a in (measured, noise, fx, fy)), np.zeros((f, n), bool))
    return light, Setting(x, y, colour, np.zeros(n, bool), fwhm, SHAPE, cell)


def robust(values, axis=None):
    return 1.4826 * np.nanmedian(np.abs(values), axis=axis)


def test_what_all_stars_share_is_taken_off_down_to_the_noise():
    light, setting = night()
    raw = light.flux / np.median(light.flux, axis=0) - 1
    assert robust(raw) > 5 * ERROR
    curves = correct(light, setting)
    # Of 500 x 24 values the terms of frames, stars and sensor take up a tenth: a frame's 20 of 500, a star's own
    # median of 24, half of which falls below the median distance.
    assert 0.86 < robust((curves.rel - 1) / curves.photon_err) < 1.1
    assert curves.teachers == 500
    assert np.allclose(np.nanmedian(curves.rel, axis=0), 1, atol=0.01)


def test_the_mosaics_phase_is_what_the_sensors_terms_take_off():
    with_wave = correct(*night(wave=0.05))
    without = correct(*night(wave=0.0))
    assert robust(with_wave.rel - 1) < 1.08 * robust(without.rel - 1)


def test_a_star_that_varies_keeps_its_amplitude():
    light, setting = night()
    true = 1 + 0.05 * np.sin(np.arange(24) / 3.0)
    flux = light.flux.copy()
    flux[:, 7] *= true.astype(np.float32)
    curves = correct(Light(flux, light.error, light.x, light.y, light.bad), setting)
    rel, error = curves.rel[:, 7], curves.rel_err[:, 7]
    scale = (rel * true / error**2).sum() / (true**2 / error**2).sum()
    chi2 = float((((rel - scale * true) / error) ** 2).sum()) / 23
    assert 0.3 < chi2 < 2.0  # of 23 degrees of freedom: sigma is 0.3
    slope = np.polyfit(true - 1, rel / scale - 1, 1)[0]
    assert abs(slope - 1) < 0.2  # 3 sigma: 0.012 / (0.035 sqrt 24)


@pytest.mark.parametrize("extra", [0.0, 0.02])
def test_errors_hold_with_a_floor_that_is_measured(extra):
    light, setting = night(n=1500)
    rng = np.random.default_rng(9)
    flux = (
        light.flux * (1 + rng.normal(0, extra, light.flux.shape)).astype(np.float32) if extra else light.flux
    )
    curves = correct(Light(flux, light.error, light.x, light.y, light.bad), setting)
    z = (curves.rel - 1) / curves.rel_err
    # 1500 medians and 430 fitted terms take 5 % off the variance of 36,000 numbers.
    assert 0.90 < robust(z) < 1.04
    assert 0.89 < np.mean(np.clip(z, -5, 5) ** 2) < 1.08
    # The noise model alone would be off by a factor of two.
    if extra:
        assert robust((curves.rel - 1) / curves.photon_err) > 1.7


def test_a_clouded_frame_is_said_to_be_dim_and_spoils_no_other():
    clear = correct(*night())
    clouded = correct(*night(clouds=[(11, 3.0)]))
    assert list(np.flatnonzero(clouded.dim)) == [11] and not clear.dim.any()
    rest = np.arange(24) != 11
    assert robust(clouded.rel[rest] - 1) < 1.1 * robust(clear.rel[rest] - 1)


def test_bad_numbers_teach_nothing():
    light, setting = night()
    flux, bad = light.flux.copy(), light.bad.copy()
    flux[5, ::7] *= 20
    bad[5, ::7] = True
    flux[:, 3] = np.nan
    curves = correct(Light(flux, light.error, light.x, light.y, bad), setting)
    assert np.isnan(curves.rel[:, 3]).all()
    good = ~bad & np.isfinite(curves.rel)
    assert robust(((curves.rel - 1) / curves.photon_err)[good]) < 1.1


@pytest.mark.parametrize("n", [1, 4, 8, 40])
def test_few_stars_are_no_error(n):
    light, setting = night(n=n, wave=0.0)
    curves = correct(light, setting)
    assert np.isfinite(curves.rel).all() and np.isfinite(curves.rel_err).all()
    if n >= 8:
        assert robust(curves.rel - 1) < 4 * ERROR
    else:
        assert curves.teachers == 0

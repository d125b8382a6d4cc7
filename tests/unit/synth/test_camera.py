"""Light on the sensor: positions, fluxes, widths, colours and noise are those that were asked for."""

from dataclasses import replace

import numpy as np
import pytest

from difflapse.synth import Population, Sensor, Variable, ideal, preset, render, truth_of
from difflapse.synth.camera import coma_scales, expose, make_defects, psf_shape

SHAPE = (260, 390)
PLACES = [(0.113, 0.207), (0.331, 0.722), (0.5237, 0.4511), (0.741, 0.168), (0.9017, 0.8433)]


def steady(at, mag=9.0, colour=0.6):
    return Variable(at, mag=mag, amplitude_mag=0.0, period_h=1.0, colour=colour)


def bare(mosaic="", places=PLACES, **sensor):
    """A night of a few lone stars and nothing else: no sky, no clouds, no defects."""
    spec = preset("panoptes", frames=3, shape=SHAPE, seed=7, clouds=0)
    return replace(
        spec,
        population=replace(Population(), per_18mpx=0),
        objects=tuple(steady(p) for p in places),
        sensor=replace(
            Sensor(mosaic=mosaic, vignetting=(0.0, 0.0), flat_noise=0.0, hot_per_18mpx=0, dead_per_18mpx=0),
            **sensor,
        ),
        air=replace(spec.air, sky_adu=(0.0, 0.0, 0.0)),
    )


def centroid(image, x, y, sigma=1.3):
    """Centroid under a Gaussian window that follows the star: unbiased for a symmetric profile."""
    yy, xx = np.indices(image.shape)
    u, v = x + 0.3, y - 0.2  # start off the truth, so that it must be found
    for _ in range(60):
        w = np.exp(-0.5 * ((xx - u) ** 2 + (yy - v) ** 2) / sigma**2) * image
        u, v = u + 2 * ((w * xx).sum() / w.sum() - u), v + 2 * ((w * yy).sum() / w.sum() - v)
    return u, v


@pytest.fixture(scope="module")
def lone():
    spec = bare()
    return spec, truth_of(spec), ideal(spec, 2).astype(float)


def test_stars_lie_where_the_truth_says(lone):
    _, truth, image = lone
    found = np.array([centroid(image, o.x[2], o.y[2]) for o in truth.objects])
    off = found - [[o.x[2], o.y[2]] for o in truth.objects]
    assert np.abs(off).max() < 0.01
    assert np.abs(off.mean(axis=0)).max() < 0.004


def test_the_truths_positions_are_exact_functions_of_the_sky(lone):
    _, truth, _ = lone
    for o in truth.objects:
        for i, k in enumerate(o.frame):
            x, y = truth.sky_to_pixel(int(k), o.ra_deg[i], o.dec_deg[i])
            assert np.hypot(x - o.x[i], y - o.y[i]) < 1e-4


def test_a_stars_light_adds_up(lone):
    _, truth, image = lone
    yy, xx = np.indices(image.shape)
    for o in truth.objects:
        got = image[np.hypot(xx - o.x[2], yy - o.y[2]) < 25].sum()
        assert got == pytest.approx(o.flux_adu[2], rel=2e-3)


def test_pixels_hold_the_integral_of_the_profile(lone):
    """Each of the 11 x 11 pixels about a star equals a Moffat summed at 2,500 points a pixel."""
    spec, truth, image = lone
    fine = (np.arange(50) + 0.5) / 50 - 0.5
    for o in truth.objects:
        x, y = o.x[2], o.y[2]
        long, short, angle = psf_shape(x, y, truth.frames[2].geometry, spec.blur, truth.frames[2].fwhm_pix)
        cols, rows = np.arange(round(x) - 5, round(x) + 6), np.arange(round(y) - 5, round(y) + 6)
        dx = (cols[:, None] + fine).ravel()[None, :] - x
        dy = (rows[:, None] + fine).ravel()[:, None] - y
        along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        a, b = (0.5 * w / np.sqrt(2 ** (1 / 2.5) - 1) for w in (long, short))
        density = 1.5 / (np.pi * a * b) * (1 + (along / a) ** 2 + (across / b) ** 2) ** -2.5
        expected = density.reshape(11, 50, 11, 50).mean(axis=(1, 3))
        got = image[np.ix_(rows, cols)] / o.flux_adu[2]
        assert np.abs(got - expected).max() < 3e-5


def test_width_at_the_centre_is_the_frames_fwhm(lone):
    spec, truth, _ = lone
    o, f = truth.objects[2], truth.frames[2]
    long, short, _ = psf_shape(o.x[2], o.y[2], f.geometry, spec.blur, f.fwhm_pix)
    assert 1.8 <= f.fwhm_pix <= 2.2
    assert np.sqrt(long * short) == pytest.approx(f.fwhm_pix, rel=0.01)


def test_corners_are_wider_and_longer_towards_the_centre():
    spec = preset("panoptes", frames=1, shape=SHAPE)
    g = truth_of(spec).frames[0].geometry
    cx, cy = g.centre_pix
    long, short, angle = psf_shape(np.array([cx, 0.0]), np.array([cy, 0.0]), g, spec.blur, 2.0)
    assert long[0] == pytest.approx(2.0) and short[0] == pytest.approx(2.0)
    assert 1.15 < long[1] / short[1] < 1.45
    assert 2.2 < np.sqrt(long[1] * short[1]) < 2.7
    assert np.tan(angle[1]) == pytest.approx(cy / cx, rel=1e-6)


@pytest.mark.parametrize(("mosaic", "sites"), [("GBRG", [[1, 2], [0, 1]]), ("RGGB", [[0, 1], [1, 2]])])
def test_each_mosaic_site_sees_its_own_colour(mosaic, sites):
    spec = bare(mosaic)
    sky = (30.0, 70.0, 50.0)
    spec = replace(spec, objects=(), air=replace(spec.air, sky_adu=sky, gradient=0.0))
    image = ideal(spec, 0)
    scale = truth_of(spec).frames[0].sky_adu[1] / sky[1]
    for i in (0, 1):
        for j in (0, 1):
            assert image[i::2, j::2].mean() == pytest.approx(sky[sites[i][j]] * scale, rel=1e-4)


def test_red_stars_are_red():
    """Red over blue light of two stars differs by their colours times the difference of the slopes."""
    spec = bare("GBRG", places=[])
    spec = replace(spec, objects=(steady((0.3, 0.4), colour=0.1), steady((0.7, 0.6), colour=1.4)))
    image, truth = ideal(spec, 0).astype(float), truth_of(spec)
    yy, xx = np.indices(image.shape)
    ratio = []
    for o in truth.objects:
        near = np.hypot(xx - o.x[0], yy - o.y[0]) < 20
        red, blue = near & (yy % 2 == 1) & (xx % 2 == 0), near & (yy % 2 == 0) & (xx % 2 == 1)
        ratio.append(image[red].sum() / image[blue].sum())
    # The mosaic undersamples a star of 2 px: red and blue sums depend on its phase by several per cent.
    assert ratio[1] / ratio[0] == pytest.approx(10 ** (0.4 * 1.3 * (0.45 + 0.75)), rel=0.15)


def test_gain_and_read_noise_follow_from_photon_transfer():
    sensor = Sensor(row_noise_adu=0.0, hot_per_18mpx=0, dead_per_18mpx=0)
    rng = np.random.default_rng(5)
    defects = make_defects(sensor, (210, 300), rng)
    means, variances = [], []
    for electrons in (150.0, 900.0, 4000.0):
        flat = np.full((210, 300), electrons, np.float32)
        a, b = (expose(flat.copy(), sensor, defects, rng).astype(float) - sensor.bias_adu for _ in "ab")
        means.append((a + b).mean() / 2)
        variances.append((a - b).var() / 2 - 1 / 12)
    slope, zero = np.polyfit(means, variances, 1, w=1 / np.array(variances))
    # Each variance of 63,000 differences is good to 0.56 %; the slope rests on three of them.
    assert 1 / slope == pytest.approx(sensor.gain_e_adu, rel=0.03)
    assert np.sqrt(zero) * sensor.gain_e_adu == pytest.approx(sensor.read_noise_e, rel=0.06)
    assert means == pytest.approx([100.0, 600.0, 2666.67], rel=0.002)


def test_faint_light_is_poisson():
    """Two electrons a pixel have the variance and the skew of Poisson's law, not a Gaussian's."""
    sensor = Sensor(gain_e_adu=0.1, read_noise_e=0.0, row_noise_adu=0.0, hot_per_18mpx=0, dead_per_18mpx=0)
    rng = np.random.default_rng(6)
    defects = make_defects(sensor, (200, 310), rng)
    got = (expose(np.full((200, 310), 2.0, np.float32), sensor, defects, rng) - sensor.bias_adu) * 0.1
    assert got.mean() == pytest.approx(2.0, abs=0.03)
    assert got.var() == pytest.approx(2.0, abs=0.06)
    assert ((got - got.mean()) ** 3).mean() == pytest.approx(2.0, abs=0.3)


def test_hot_pixels_are_where_the_truth_says_and_the_same_in_all_frames():
    spec = preset("panoptes", frames=3, shape=(400, 610), seed=11, clouds=0, streaks=0)
    spec = replace(spec, population=replace(spec.population, per_18mpx=0), objects=())
    truth = truth_of(spec)
    hot = truth.hot_pixels[truth.hot_pixels[:, 2] > 400]
    assert len(truth.hot_pixels) == pytest.approx(900 * 400 * 610 / 18.1e6, abs=2)
    lit = [render(spec, k)[hot[:, 1].astype(int), hot[:, 0].astype(int)] for k in range(3)]
    # A hot pixel above 400 ADU stands out of 480 + 2048 by 10 sigma and more; one in twenty flickers.
    assert np.mean(np.median(lit, axis=0) > 2048 + 150 + hot[:, 2] * 0.7) > 0.7


def test_saturation_is_flat_and_nothing_exceeds_it():
    spec = replace(bare("GBRG"), objects=(steady((0.5, 0.5), mag=5.0),))
    frame = render(spec, 0)
    assert frame.dtype == np.uint16
    assert frame.max() == 13800
    assert np.count_nonzero(frame == 13800) > 10


@pytest.mark.parametrize("fwhm", [20.0, 33.0])
def test_the_comas_width_is_as_asked(fwhm):
    core, reach = coma_scales(fwhm)
    rho = np.array([0.0, fwhm / 2])
    density = np.exp(-rho / reach) / np.hypot(rho, core)
    assert density[1] / density[0] == pytest.approx(0.5, abs=1e-9)

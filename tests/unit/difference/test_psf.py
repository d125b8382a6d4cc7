"""Matching point-spread functions: what the kernel mends, which image it convolves, and what becomes of the noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import maximum_filter

from difflapse.difference import Noise, Science, Template, subtract
from difflapse.difference.convolve import (
    Windows,
    convolve_science,
    convolve_template,
    grown,
    neighbours,
    shared_part,
)
from difflapse.difference.correlate import correlate
from difflapse.difference.proper import proper
from difflapse.difference.psf import Kernel, good_stars, residual_at_stars, solve_kernel
from difflapse.errors import FrameError
from difflapse.measure.mesh import constant, mean
from difflapse.model import bits

from .conftest import SHAPE, SIGMA, SKY, draw, noise_of_frame, science, template

N = SHAPE[0] * SHAPE[1]
DEEP = SIGMA / np.sqrt(12)


def field(n: int = 90, seed: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stars on a jittered grid of 10 by 9, at fractions of a pixel: x, y, flux in ADU."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(20, SHAPE[1] - 21, 10), np.linspace(18, SHAPE[0] - 19, 9))
    x, y = (a.ravel()[:n] + rng.uniform(-3, 3, n) for a in (x, y))
    return x, y, 10 ** rng.uniform(3.6, 4.4, n)


def stars(
    x: np.ndarray, y: np.ndarray, flux: np.ndarray, sx: float, sy: float | None = None, growth: float = 0.0
) -> np.ndarray:
    """Gaussian stars whose width grows towards the right edge, each colour fainter than the one before."""
    image = np.zeros(SHAPE)
    gy, gx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for a, b, f in zip(x, y, flux, strict=True):
        s = sx * (1 + growth * a / SHAPE[1])
        t = (sy or sx) * (1 + growth * a / SHAPE[1])
        box = np.s_[max(0, int(b) - 16) : int(b) + 17, max(0, int(a) - 16) : int(a) + 17]
        u, v = (gx[box] - a) / s, (gy[box] - b) / t
        image[box] += f / (2 * np.pi * s * t) * np.exp(-0.5 * (u * u + v * v))
    return image * np.array([1.0, 0.8, 0.6])[:, None, None]


def noisy(light: np.ndarray, sigma: np.ndarray, seed: int) -> np.ndarray:
    return draw(np.random.default_rng(seed), sigma) + light.astype(np.float32)


def convolved(image: Science | Template) -> np.ndarray:
    """What the subtraction makes of an image row by row, as a whole."""
    assert image.convolution is not None
    out = np.empty_like(image.data)
    for plane, kernels, to in zip(image.data, image.convolution.kernels, out, strict=True):
        correlate(plane, kernels, image.convolution.block, image.convolution.apart, to)
    return out


def robust(values: np.ndarray) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def near(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    gy, gx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    out = np.zeros(SHAPE, bool)
    for a, b in zip(x, y, strict=True):
        out |= (gx - a) ** 2 + (gy - b) ** 2 < radius**2
    return out


@pytest.mark.parametrize(("sx", "sy", "growth"), [(1.6, 1.6, 0.0), (1.2, 1.9, 0.0), (1.5, 1.5, 0.12)])
def test_a_blurrier_or_trailed_frame_is_matched_to_the_noise(sx: float, sy: float, growth: float) -> None:
    """The template (sigma 1.2 px) is convolved; at stars that are not known to the fit 1 sigma is left."""
    x, y, flux = field()
    frame = science(noisy(stars(x, y, flux, sx, sy, growth), SIGMA, 1))
    deep = template(noisy(stars(x, y, flux, 1.2), DEEP, 2), DEEP)
    kernel = solve_kernel(frame, deep, x, y, 3.5)
    assert not kernel.science and kernel.pays
    assert kernel.before > 3
    # The median star's figure: 1 but for the template's noise in the kernel (some percent) and the grain.
    assert 0.9 < kernel.after < 1.12
    before = subtract(frame, deep).combined
    after = subtract(frame, convolve_template(deep, kernel)).combined
    at = near(x, y, 4)
    assert np.std(before[at]) > 3
    assert np.std(after[at]) == pytest.approx(1.0, abs=0.12)
    away = ~near(x, y, 14)
    assert robust(after[away]) == pytest.approx(1.0, abs=5 / np.sqrt(N))


def test_a_kernel_that_varies_is_found_where_stars_call_for_it() -> None:
    x, y, flux = field()
    frame = science(noisy(stars(x, y, flux, 1.3, growth=0.4), SIGMA, 1))
    deep = template(noisy(stars(x, y, flux, 1.2), DEEP, 2), DEEP)
    kernel = solve_kernel(frame, deep, x, y, 3.5)
    assert kernel.taps.shape[1] > 1
    middle = kernel.size // 2
    left, right = kernel.at(20, 100)[0], kernel.at(310, 100)[0]
    assert left[middle, middle] > right[middle, middle] + 0.2
    assert np.allclose(kernel.taps[:, 0].sum(-1), 1) and np.allclose(kernel.taps[:, 1:].sum(-1), 0)


def test_the_sharper_frame_is_the_one_convolved_and_carries_its_noise() -> None:
    x, y, flux = field()
    frame = science(noisy(stars(x, y, flux, 1.2), SIGMA, 1))
    blurred = template(noisy(stars(x, y, flux, 1.8), DEEP, 2), DEEP)
    kernel = solve_kernel(frame, blurred, x, y, 3.5)
    assert kernel.science and kernel.pays
    matched = convolve_science(frame, kernel)
    result = subtract(matched, blurred).combined
    away = ~near(x, y, 14)
    # Neighbours share noise after convolution: fewer independent pixels, hence the wider limit.
    assert robust(result[away]) == pytest.approx(1.0, abs=0.03)
    assert np.std(result[near(x, y, 4)]) == pytest.approx(1.0, abs=0.15)
    # Pixels are quieter; sums over many are not.
    assert np.all(mean(matched.noise.sky) < 0.6 * mean(frame.noise.sky))
    large = np.asarray(matched.noise.correlation) * np.sqrt(mean(matched.noise.sky))
    assert large == pytest.approx(np.sqrt(mean(frame.noise.sky)), rel=0.03)


def test_equal_images_have_nothing_to_match() -> None:
    x, y, flux = field()
    light = stars(x, y, flux, 1.4)
    frame, deep = science(noisy(light, SIGMA, 1)), template(noisy(light, DEEP, 2), DEEP)
    assert residual_at_stars(frame, deep, x, y, 3.3) == pytest.approx(1.0, abs=0.05)
    kernel = solve_kernel(frame, deep, x, y, 3.3)
    assert not kernel.pays
    assert kernel.after == pytest.approx(1.0, abs=0.08)


def test_a_variable_star_and_a_blend_do_not_pull_the_kernel() -> None:
    x, y, flux = field()
    other = flux.copy()
    other[[7, 31, 60]] *= [3.0, 0.2, 2.0]
    frame = science(noisy(stars(x, y, other, 1.6), SIGMA, 1))
    deep = template(noisy(stars(x, y, flux, 1.2), DEEP, 2), DEEP)
    kernel = solve_kernel(frame, deep, x, y, 3.5)
    assert kernel.n_stars <= len(x) - 3
    result = subtract(frame, convolve_template(deep, kernel)).combined
    quiet = np.setdiff1d(np.arange(len(x)), [7, 31, 60])
    assert np.std(result[near(x[quiet], y[quiet], 4)]) == pytest.approx(1.0, abs=0.1)
    # What changed is still there, at its height: the kernel's sum is one.
    assert result[near(x[7:8], y[7:8], 1.5)].min() > 10
    assert result[near(x[31:32], y[31:32], 1.5)].max() < -5


def test_too_few_stars_are_told_in_numbers() -> None:
    x, y, flux = field(8)
    frame = science(noisy(stars(x, y, flux, 1.6), SIGMA, 1))
    with pytest.raises(FrameError) as caught:
        solve_kernel(frame, template(noisy(stars(x, y, flux, 1.2), DEEP, 2), DEEP), x, y, 3.5)
    assert caught.value.facts == {"found": 8, "needed": 12}


def test_good_stars_are_alone_bright_whole_and_spread() -> None:
    x, y, flux = field()
    x, y = np.append(x, x[4] + 5), np.append(y, y[4])
    flux = np.append(flux, 0.5 * flux[4])
    usable = np.ones(len(x), bool)
    usable[9] = False
    bad = np.zeros(SHAPE, bool)
    bad[int(y[20]) + 3, int(x[20]) - 2] = True
    chosen = good_stars(x, y, flux, usable, bad, 9)
    assert {4, 9, 20, 90}.isdisjoint(chosen)
    assert len(chosen) >= 80
    x[0] = 6.0  # too near the edge
    assert 0 not in good_stars(x, y, flux, usable, bad, 9)


def blur(width: float, in_science: bool) -> Kernel:
    """A Gaussian kernel of 5 by 5 taps for three colours, the same everywhere."""
    u = np.arange(-2, 3)
    line = np.exp(-0.5 * np.square(u / width))
    taps = np.outer(line, line).ravel() / line.sum() ** 2
    return Kernel(np.tile(taps, (3, 1, 1)), in_science, SHAPE, 2.0, 1.0, 0.1, 50, 0.01, np.ones(3))


def test_the_variance_of_correlated_noise_is_carried_through_a_kernel() -> None:
    """Noise resampled at half a pixel along both axes, then convolved: as wide as foretold, to 5 standard errors."""
    rng = np.random.default_rng(3)
    white = draw(rng, level=np.zeros(3))
    half = np.array([-0.0625, 0.5625, 0.5625, -0.0625])
    for axis in (1, 2):
        white = sum(w * np.roll(white, n, axis) for n, w in enumerate(half)).astype(np.float32)
    factor = np.square(half).sum() ** 2
    noise = Noise(constant(factor * SIGMA**2), constant([0.0] * 3), np.full(3, 1 / np.sqrt(factor)))
    assert neighbours(1.0) == pytest.approx([1, 0, 0, 0])
    assert neighbours(1.2)[1] < neighbours(1 / np.sqrt(factor))[1]
    frame = science(white, replace(noise, correlation=np.full(3, 1 / np.sqrt(factor))))
    assert frame.data.std(axis=(1, 2)) == pytest.approx(np.sqrt(mean(noise.sky)), rel=0.02)
    matched = convolve_science(frame, blur(1.0, True))
    assert convolved(matched).std(axis=(1, 2)) == pytest.approx(np.sqrt(mean(matched.noise.sky)), rel=0.05)


def test_a_frame_in_its_own_template_still_leaves_unit_width() -> None:
    """Eight frames, the first subtracted from their convolved mean, likewise convolved: the covariance is carried."""
    rng = np.random.default_rng(8)
    frames = [draw(rng) for _ in range(8)]
    deep = template(np.mean(frames, axis=0, dtype=np.float32), SIGMA / np.sqrt(8))
    for in_science in (False, True):
        kernel = blur(0.7, in_science)
        frame = science(frames[0])
        own = shared_part(kernel, 1.0) / 8
        a, b = (
            (convolve_science(frame, kernel), deep)
            if in_science
            else (frame, convolve_template(deep, kernel))
        )
        inner = subtract(a, b, own).combined[4:-4, 4:-4]
        assert inner.std() == pytest.approx(1.0, abs=0.015)


def test_masks_grow_by_the_kernel_and_defects_by_one() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[50, 60], mask[90, 200] = bits.SATURATED, bits.DEFECT
    out = grown(mask, 2)
    assert (out == bits.SATURATED).sum() == 25 and out[52, 58] == bits.SATURATED
    assert (out == bits.DEFECT).sum() == 9
    assert np.all(out[mask != 0] == mask[mask != 0])
    count = np.ones(SHAPE, np.uint8)
    count[100, 100] = 0
    rng = np.random.default_rng(0)
    holed = convolve_template(template(draw(rng), count=count), blur(1.0, False))
    assert (holed.count == 0).sum() == 25


def test_all_bits_of_a_mask_grow_together_and_stop_at_its_edges() -> None:
    rng = np.random.default_rng(3)
    mask = np.where(rng.random((53, 117)) < 0.03, rng.integers(0, 32, (53, 117)), 0).astype(np.uint8)
    mask[:, :4], mask[20:24, 90:] = bits.OUTSIDE, bits.SATURATED
    out = grown(mask, 3)
    for bit in (bits.OUTSIDE, bits.SATURATED, bits.DEFECT, bits.BLANK, bits.NO_TEMPLATE):
        side = 3 if bit == bits.DEFECT else 7
        assert np.array_equal((out & bit) != 0, maximum_filter((mask & bit) != 0, side, mode="constant"))


def test_a_proper_difference_is_white_and_of_unit_width() -> None:
    """Correlated by a wide kernel before, uncorrelated after; holes stay holes and make no waves about them."""
    rng = np.random.default_rng(4)
    mask = np.zeros(SHAPE, np.uint8)
    mask[80:100, 120:150] = bits.SATURATED
    data = draw(rng)
    data[:, 80:100, 120:150] += 30000
    frame, deep = science(data, mask=mask), template(draw(rng))
    kernel = blur(0.8, False)
    plain = subtract(frame, convolve_template(deep, kernel))
    result = proper(plain, frame, deep, kernel)
    assert np.array_equal(np.isnan(result.combined), mask != 0)
    assert np.array_equal(np.isnan(result.combined), np.isnan(plain.combined))
    calm = result.combined[4:-4, 160:-4]

    def lag(image: np.ndarray) -> float:
        return float(np.mean(image[:, 1:] * image[:, :-1]) / np.mean(np.square(image)))

    n = calm.size
    assert calm.std() == pytest.approx(1.0, abs=0.02)
    assert lag(plain.combined[4:-4, 160:-4]) > 10 / np.sqrt(n)
    assert abs(lag(calm)) < 4 / np.sqrt(n)
    rim = result.combined[70:110, 110:160]
    assert np.nanmax(np.abs(rim)) < 5.5
    in_adu = subtract(frame, convolve_template(deep, kernel), units="adu")
    both = proper(in_adu, frame, deep, kernel)
    assert np.array_equal(both.significance, result.significance, equal_nan=True)
    assert np.array_equal(both.combined, in_adu.combined, equal_nan=True)


def test_a_proper_difference_keeps_the_light_of_what_changed() -> None:
    """S/N of a star filtered with its profile: at least that of the matched difference, whose noise is not white."""
    x, y = np.array([101.3]), np.array([70.6])
    rng = np.random.default_rng(6)
    frame, deep = (
        science(draw(rng) + stars(x, y, np.array([900.0]), 1.5).astype(np.float32)),
        template(draw(rng)),
    )
    kernel = blur(0.9, False)
    plain = subtract(frame, convolve_template(deep, kernel))
    result = proper(plain, frame, deep, kernel)
    profile = stars(x, y, np.array([1.0]), 1.5)[0]

    def snr(image: np.ndarray) -> float:
        from scipy.signal import fftconvolve

        scored = fftconvolve(image, profile[60:82, 90:113][::-1, ::-1], mode="same")
        peak = scored[62:80, 92:112].max()
        return float(peak / robust(scored[110:, 120:]))

    assert snr(result.combined) > 0.95 * snr(plain.combined) > 5


def test_sky_levels_do_not_matter() -> None:
    """Each stamp has its own background: a slope over the field is none of the kernel's business."""
    x, y, flux = field()
    slope = np.linspace(0, 80, SHAPE[1])
    frame = science(noisy(stars(x, y, flux, 1.6) + slope, SIGMA, 1))
    deep = template(noisy(stars(x, y, flux, 1.2), DEEP, 2), DEEP)
    with_slope = solve_kernel(frame, deep, x, y, 3.5)
    without = solve_kernel(replace(frame, data=frame.data - slope.astype(np.float32)), deep, x, y, 3.5)
    assert with_slope.after == pytest.approx(without.after, abs=0.05)
    assert isinstance(frame, Science) and isinstance(deep, Template) and SKY[0] > 0


@pytest.mark.parametrize("in_science", [False, True])
def test_windows_are_convolved_as_the_whole_is(in_science: bool) -> None:
    """Inside a kernel's reach of their edges, each with the kernel of its own place."""
    rng = np.random.default_rng(9)
    data = draw(rng)
    kernel = blur(0.8, in_science)
    slope = np.zeros_like(kernel.taps)
    slope[:, :, 12], slope[:, :, 11] = 0.2, -0.2
    kernel = replace(kernel, taps=np.concatenate([kernel.taps, slope], axis=1))
    side = 20
    x, y = np.array([31.5, 287.5, 160.5]), np.array([60.5, 33.5, 160.5])
    cuts = [
        np.s_[:, int(b - 9.5) : int(b + 10.5), int(a - 9.5) : int(a + 10.5)]
        for a, b in zip(x, y, strict=True)
    ]
    sheet = np.concatenate([data[c] for c in cuts], axis=1)
    windows = Windows(x, y, side)
    noise = noise_of_frame()
    if in_science:
        small = Science(
            sheet, np.zeros(sheet.shape[1:], np.uint8), constant([1.0] * 3), constant([0.0] * 3), noise
        )
        whole, part = (
            convolved(convolve_science(science(data), kernel)),
            convolved(convolve_science(small, kernel, windows)),
        )
    else:
        whole = convolved(convolve_template(template(data), kernel))
        part = convolved(
            convolve_template(replace(template(data), data=sheet, **shared(sheet)), kernel, windows)
        )
    for n, cut in enumerate(cuts):
        # The whole image changes its kernel every 64 pixels, a window at its own middle.
        away = part[:, n * side + 2 : (n + 1) * side - 2, 2:-2] - whole[cut][:, 2:-2, 2:-2]
        assert np.abs(away).max() < 0.25 * SIGMA.max()
        assert np.std(away) < 0.03 * SIGMA.max()


def shared(sheet: np.ndarray) -> dict[str, np.ndarray]:
    return {"variance": np.ones_like(sheet), "count": np.ones(sheet.shape[1:], np.uint8)}


@pytest.mark.parametrize("size", [5, 7, 9, 11])
def test_an_image_is_correlated_as_scipy_does_it(size: int) -> None:
    """Every block with its own kernel, and beyond the edges the edge itself."""
    from scipy.ndimage import correlate as by_scipy

    rng = np.random.default_rng(size)
    image = rng.normal(size=(75, 101)).astype(np.float32)
    kernels = rng.normal(size=(3, 4, size, size)).astype(np.float32)
    out = np.full_like(image, np.nan)
    correlate(image, kernels, 30, False, out)
    for b in range(3):
        for a in range(4):
            block = np.s_[30 * b : 30 * b + 30, 30 * a : 30 * a + 30]
            wanted = by_scipy(image.astype(float), kernels[b, a].astype(float), mode="nearest")[block]
            assert np.allclose(out[block], wanted, atol=2e-5)


@pytest.mark.parametrize("in_science", [False, True])
@pytest.mark.parametrize("units", ["sigma", "percent"])
def test_what_is_convolved_row_by_row_is_subtracted_as_a_whole_would_be(in_science: bool, units: str) -> None:
    """Images, variance and NOISECOR of a kernel with a slope, in blocks: to the rounding of float32."""
    rng = np.random.default_rng(12)
    frame, deep = science(draw(rng)), template(draw(rng), DEEP)
    kernel = blur(0.8, in_science)
    slope = np.zeros_like(kernel.taps)
    slope[:, :, 12], slope[:, :, 11] = 0.2, -0.2
    kernel = replace(kernel, taps=np.concatenate([kernel.taps, slope], axis=1))
    if in_science:
        a, b = convolve_science(frame, kernel), deep
        whole_a, whole_b = replace(a, data=convolved(a), convolution=None), deep
    else:
        a, b = frame, convolve_template(deep, kernel)
        assert b.convolution is not None
        each = b.convolution.factor.repeat(64, axis=1).repeat(64, axis=2)[:, : SHAPE[0], : SHAPE[1]]
        assert np.ptp(each) > 0.1
        whole_a, whole_b = frame, replace(b, data=convolved(b), variance=b.variance * each, convolution=None)
    rows, whole = subtract(a, b, 0.05, units, keep=True), subtract(whole_a, whole_b, 0.05, units, keep=True)
    assert rows.data is not None and whole.data is not None
    assert np.allclose(rows.significance, whole.significance, atol=1e-4)
    assert np.allclose(rows.combined, whole.combined, atol=1e-4)
    assert np.allclose(rows.data, whole.data, atol=1e-3)
    assert np.allclose(rows.variance, whole.variance, rtol=1e-5)
    assert np.allclose(rows.correlation, whole.correlation, rtol=1e-4)
    assert np.array_equal(rows.mask, whole.mask)


def test_only_one_image_is_convolved() -> None:
    rng = np.random.default_rng(13)
    frame = convolve_science(science(draw(rng)), blur(0.8, True))
    deep = convolve_template(template(draw(rng)), blur(0.8, False))
    with pytest.raises(ValueError, match="not both"):
        subtract(frame, deep)

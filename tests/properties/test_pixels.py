"""What must hold of warping, combining and subtracting, whatever the pixels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from difflapse.align.warp import BadPixels, Warped, warp
from difflapse.difference import Difference, Noise, Science, Template, combine, fit_offset, subtract
from difflapse.measure import repair
from difflapse.measure.mesh import constant
from difflapse.model import ProductGrid, Transform, bits
from difflapse.mosaic import sites, split, superpixels

SHAPE = (62, 91)
NY, NX = SHAPE

seeds = st.integers(0, 2**32 - 1)
patterns = st.sampled_from(["", "RGGB", "GBRG", "GRBG"])
angles = st.floats(-180, 180)
shifts = st.tuples(st.floats(-40, 40), st.floats(-30, 30))


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 60000, SHAPE).astype(np.uint16)


def moved(angle: float, shift: tuple[float, float], mirrored: bool = False) -> Transform:
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    m = np.array([[c, -s], [s, c]]) @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    centre = np.array([(NX - 1) / 2, (NY - 1) / 2])
    return Transform.from_matrix(np.column_stack([m, centre - m @ centre + shift]))


def warped(data: np.ndarray, pattern: str, transform: Transform, bad: BadPixels | None = None) -> Warped:
    return warp(split(data, pattern), sites(pattern), transform, ProductGrid.whole(data.shape, pattern), bad)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(-40, 40), st.integers(-25, 25))
def test_a_whole_shift_of_a_monochrome_frame_is_an_exact_copy(seed: int, dx: int, dy: int) -> None:
    data = image(seed)
    result = warped(data, "", Transform.from_matrix(np.array([[1.0, 0, dx], [0, 1, dy]])))
    to = np.s_[max(0, dy) : NY + min(0, dy), max(0, dx) : NX + min(0, dx)]
    fro = np.s_[max(0, -dy) : NY - max(0, dy), max(0, -dx) : NX - max(0, dx)]
    assert np.array_equal(result.data[0][to], data[fro].astype(np.float32))
    assert (result.mask[to] == 0).all()
    assert (result.mask == 0).sum() == result.mask[to].size


@settings(max_examples=40, deadline=None)
@given(seeds, patterns, st.integers(-15, 15), st.integers(-10, 10))
def test_an_even_shift_moves_product_pixels_whole(seed: int, pattern: str, i: int, j: int) -> None:
    """A mosaic's planes are resampled to the common centre; an even shift then moves them unchanged."""
    step = 2 if pattern else 1
    data = image(seed)
    still = warped(data, pattern, Transform.identity())
    result = warped(data, pattern, Transform.from_matrix(np.array([[1.0, 0, step * i], [0, 1, step * j]])))
    ny, nx = still.mask.shape
    to = np.s_[..., max(0, j) : ny + min(0, j), max(0, i) : nx + min(0, i)]
    fro = np.s_[..., max(0, -j) : ny - max(0, j), max(0, -i) : nx - max(0, i)]
    assert np.array_equal(result.mask[to[1:]], still.mask[fro[1:]])
    assert np.array_equal(result.data[to], still.data[fro])


@settings(max_examples=60, deadline=None)
@given(seeds, patterns, angles, shifts, st.booleans())
def test_a_mask_never_shrinks(
    seed: int, pattern: str, angle: float, shift: tuple[float, float], mirrored: bool
) -> None:
    """Every bad pixel that falls on the grid marks at least one pixel there with its bit; more of them mark more."""
    rng = np.random.default_rng(seed)
    transform = moved(angle, shift, mirrored)
    x, y = rng.integers(2, NX - 2, 12).astype(float), rng.integers(2, NY - 2, 12).astype(float)
    bit = rng.choice([bits.DEFECT, bits.BLANK, bits.SATURATED], 12).astype(np.uint8)
    some = warped(image(seed), pattern, transform, BadPixels(x[:6], y[:6], bit[:6]))
    all_of_them = warped(image(seed), pattern, transform, BadPixels(x, y, bit))
    none = warped(image(seed), pattern, transform)
    assert ((some.mask & none.mask) == none.mask).all()
    assert ((all_of_them.mask & some.mask) == some.mask).all()
    assert (all_of_them.coverage <= some.coverage).all()
    assert (all_of_them.coverage >= 0).all()
    grid = ProductGrid.whole(SHAPE, pattern)
    i, j = grid.from_native(*transform(x, y))
    for a, b, one in zip(i, j, bit, strict=True):
        if 0 <= a <= grid.shape[1] - 1 and 0 <= b <= grid.shape[0] - 1:
            near = all_of_them.mask[int(b) : int(np.ceil(b)) + 1, int(a) : int(np.ceil(a)) + 1]
            assert (near & one).any()


@settings(max_examples=40, deadline=None)
@given(seeds, patterns, angles, shifts)
def test_a_constant_stays_constant(seed: int, pattern: str, angle: float, shift: tuple[float, float]) -> None:
    level = float(np.random.default_rng(seed).uniform(1, 60000))
    result = warped(np.full(SHAPE, level, np.float32), pattern, moved(angle, shift))
    inside = result.mask == 0
    assert np.allclose(result.data[:, inside], level, rtol=1e-5)
    assert (result.data[:, ~inside] == 0).all()


def made(seed: int, channels: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two images and a mask."""
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(300, 20, (channels, *SHAPE)).astype(np.float32) for _ in range(2))
    return a, b, (rng.random(SHAPE) < 0.05).astype(np.uint8) * np.uint8(bits.DEFECT)


def minus(a: np.ndarray, b: np.ndarray, mask: np.ndarray, sigma: float, units: str = "sigma") -> Difference:
    one = [1.0] * len(a)
    noise = Noise(constant([sigma**2] * len(a)), constant([0.0] * len(a)))
    science = Science(a, mask, constant(one), constant([0.0] * len(a)), noise)
    template = Template(b, np.full_like(b, sigma**2), np.ones(SHAPE, np.uint8), constant([300.0] * len(a)))
    return subtract(science, template, 0.0, units, keep=True)


@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(0.5, 100), st.sampled_from(["sigma", "adu"]))
def test_a_minus_b_is_minus_b_minus_a(seed: int, sigma: float, units: str) -> None:
    a, b, mask = made(seed)
    one, two = minus(a, b, mask, sigma, units), minus(b, a, mask, sigma, units)
    assert np.array_equal(one.combined, -two.combined, equal_nan=True)
    assert one.data is not None
    assert two.data is not None
    assert np.array_equal(one.data, -two.data)
    assert np.array_equal(np.isnan(one.combined), mask != 0)


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(0.5, 100))
def test_a_minus_a_is_nothing(seed: int, sigma: float) -> None:
    a, _, mask = made(seed)
    result = minus(a, a.copy(), mask, sigma)
    assert np.all(result.combined[mask == 0] == 0)


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(-500, 500))
def test_a_level_added_to_a_frame_is_fitted_and_gone(seed: int, level: float) -> None:
    a, b, mask = made(seed, 1)
    one = fit_offset(a, constant([1.0]), b, mask != 0)
    two = fit_offset(a + np.float32(level), constant([1.0]), b, mask != 0)
    assert np.allclose(two - one, level, atol=0.01)


@settings(max_examples=30, deadline=None)
@given(
    seeds,
    st.integers(1, 9),
    st.lists(st.integers(1, NY - 1), max_size=5, unique=True),
    st.sampled_from(["mean", "median"]),
)
def test_bands_of_rows_are_irrelevant(seed: int, n: int, cuts: list[int], statistic: str) -> None:
    rng = np.random.default_rng(seed)
    frames = [rng.normal(300, 9, (2, *SHAPE)).astype(np.float32) for _ in range(n)]
    frames[0][:, ::7, ::5] += 500
    masks = [(rng.random(SHAPE) < 0.2).astype(np.uint8) for _ in range(n)]
    sky = [rng.uniform(60, 100, (2, 4, 5)).astype(np.float32) for _ in range(n)]
    photon = [np.full((2, 4, 5), 0.6, np.float32)] * n
    level = rng.uniform(250, 300, (2, 4, 5)).astype(np.float32)
    whole = combine(np.stack(frames), np.stack(masks), sky, photon, level, NY, 0, statistic=statistic)
    for a, b in pairwise(sorted({0, *cuts, NY})):
        part = combine(
            np.stack([f[:, a:b] for f in frames]),
            np.stack([m[a:b] for m in masks]),
            sky,
            photon,
            level,
            NY,
            a,
            statistic=statistic,
        )
        assert np.array_equal(part[0], whole[0][:, a:b])
        assert np.array_equal(part[1], whole[1][:, a:b])
        assert np.array_equal(part[2], whole[2][a:b])


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(1, 7), st.sampled_from(["mean", "median"]))
def test_a_combination_lies_within_its_frames(seed: int, n: int, statistic: str) -> None:
    rng = np.random.default_rng(seed)
    frames = [rng.uniform(0, 1000, (1, *SHAPE)).astype(np.float32) for _ in range(n)]
    masks = [(rng.random(SHAPE) < 0.3).astype(np.uint8) for _ in range(n)]
    noise = [constant([100.0])] * n
    data, variance, count = combine(
        np.stack(frames),
        np.stack(masks),
        noise,
        [constant([0.5])] * n,
        constant([0.0]),
        NY,
        0,
        statistic=statistic,
    )
    good = np.array(masks) == 0
    assert np.array_equal(count, good.sum(axis=0))
    low = np.where(good, np.array(frames)[:, 0], np.inf).min(axis=0)
    high = np.where(good, np.array(frames)[:, 0], -np.inf).max(axis=0)
    some = count > 0
    assert np.all((data[0] >= low - 1e-3)[some] & (data[0] <= high + 1e-3)[some])
    assert np.all(variance[0][some] > 0)
    assert np.all(data[0][~some] == 0)


@settings(max_examples=30, deadline=None)
@given(seeds, st.sampled_from([1, 2]), st.sampled_from(["uint16", "float32"]))
def test_repair_changes_the_listed_pixels_only_and_by_their_neighbours(
    seed: int, step: int, dtype: str
) -> None:
    rng = np.random.default_rng(seed)
    data = rng.integers(100, 900, SHAPE).astype(dtype)
    x, y = rng.integers(0, NX, 40), rng.integers(0, NY, 40)
    fixed = repair(data.copy(), x, y, step)
    touched = np.zeros(SHAPE, bool)
    touched[y, x] = True
    assert np.array_equal(fixed[~touched], data[~touched])
    assert fixed[touched].min() >= data[~touched].min()
    assert fixed[touched].max() <= data[~touched].max()


@settings(max_examples=30, deadline=None)
@given(seeds, st.sampled_from(["RGGB", "GBRG"]), st.floats(0, 4000))
def test_superpixels_are_the_sum_of_the_planes(seed: int, pattern: str, offset: float) -> None:
    data = image(seed)
    assert np.allclose(
        superpixels(data, pattern, offset), split(data, pattern, offset).sum(axis=0), atol=0.05
    )

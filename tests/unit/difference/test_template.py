"""The template: a clipped mean against a plain one in numpy, its variance against simulation."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from difflapse.difference import combine
from difflapse.measure.mesh import constant

SHAPE = (40, 77)
SIGMA = np.array([9.0, 7.0])
LEVEL = np.array([200.0, 340.0])


def draw(n: int, seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((n, 2, *SHAPE))
    return list((LEVEL[:, None, None] + SIGMA[:, None, None] * white).astype(np.float32))


def clean(n: int) -> list[np.ndarray]:
    return [np.zeros(SHAPE, np.uint8) for _ in range(n)]


def combined(
    frames: list[np.ndarray],
    masks: list[np.ndarray] | None = None,
    scale: np.ndarray | None = None,
    gain: float | None = None,
    **more: object,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = len(frames)
    factors = np.ones(n) if scale is None else scale
    return combine(
        np.stack(frames),
        np.stack(clean(n) if masks is None else masks),
        [constant(SIGMA**2) * f for f in factors],
        [constant([1 / gain if gain else 0.0] * 2)] * n,
        constant(LEVEL),
        SHAPE[0],
        0,
        **more,  # type: ignore[arg-type]
    )


def reference_mean(values: np.ndarray, sigma: np.ndarray, clip: float) -> tuple[np.ndarray, np.ndarray]:
    """The same in numpy: values within clip times the larger of noise and MAD from the median."""
    mid = np.median(values, axis=0)
    mad = 1.4826 * np.median(np.abs(values - mid), axis=0)
    good = np.abs(values - mid) <= clip * np.maximum(sigma, mad)
    return np.where(good, values, 0).sum(axis=0) / good.sum(axis=0), good.sum(axis=0)


@pytest.mark.parametrize("n", [4, 5, 8, 12])
@pytest.mark.parametrize("clip", [2.0, 3.5])
def test_it_is_the_clipped_mean(n: int, clip: float) -> None:
    frames = draw(n)
    frames[1][:, 3, 5] += 900
    frames[2][:, 20:24, 30:50] -= 70
    data, variance, count = combined(frames, clip=clip)
    expected, used = reference_mean(np.array(frames), SIGMA[:, None, None], clip)
    # Where no value is within half a sigma of the limit about the *mean*, no median is looked for.
    close = np.isclose(data, expected, rtol=0, atol=2e-3)
    assert close.mean() > (0.99 if clip < 3 else 0.997)
    assert np.allclose(variance[close], (SIGMA[:, None, None] ** 2 / used)[close], rtol=1e-4)
    assert (count == n).all()


def test_outliers_leave_no_trace() -> None:
    frames = draw(9)
    without = combined([f for k, f in enumerate(frames) if k != 4])[0]
    frames[4][:, 10, 10:60] += 4000  # a satellite
    frames[6][0, 30, 40] = -5000
    data, variance, _ = combined(frames)
    assert np.abs(data - without)[:, 10, 10:60].max() < 3e-3
    assert abs(data[0, 30, 40] - LEVEL[0]) < 5 * SIGMA[0] / np.sqrt(8)
    assert variance[0, 30, 40] == pytest.approx(SIGMA[0] ** 2 / 8, rel=1e-4)


def test_masked_values_do_not_count_and_nan_under_a_mask_does_no_harm() -> None:
    frames, masks = draw(7), clean(7)
    masks[2][5:9, 8:30] = 4
    frames[2][:, 5:9, 8:30] = np.nan
    masks[5][5:7, 8:30] = 1
    data, variance, count = combined(frames, masks)
    assert np.isfinite(data).all()
    assert (count[7:9, 8:30] == 6).all()
    assert (count[5:7, 8:30] == 5).all()
    assert (count[20:] == 7).all()
    others = [frames[k] for k in (0, 1, 3, 4, 6)]
    assert np.mean(np.abs(data - combined(others)[0])[:, 5:7, 8:30] < 2e-3) > 0.97
    assert np.allclose(np.median(variance[:, 5:7, 8:30], axis=(1, 2)), SIGMA**2 / 5, rtol=1e-4)


def test_where_no_frame_is_good_there_is_no_template() -> None:
    masks = clean(5)
    for mask in masks:
        mask[12, 13] = 1
    data, variance, count = combined(draw(5), masks)
    assert count[12, 13] == 0
    assert np.all(data[:, 12, 13] == 0)
    assert np.all(variance[:, 12, 13] > 1e9)
    assert (count != 0).sum() == count.size - 1


@pytest.mark.parametrize("n, grow", [(1, 1.0), (2, 1.0), (3, 1.346)])
def test_few_frames_give_their_median(n: int, grow: float) -> None:
    frames = draw(n)
    data, variance, count = combined(frames)
    assert np.allclose(data, np.median(frames, axis=0), atol=1e-3)
    assert np.allclose(variance, grow * (SIGMA**2)[:, None, None] / n, rtol=1e-3)
    assert (count == n).all()


@pytest.mark.parametrize("statistic", ["mean", "median"])
@pytest.mark.parametrize("n", [2, 3, 4, 9, 12])
def test_the_variance_is_what_many_draws_show(statistic: str, n: int) -> None:
    frames = draw(n, seed=20 + n)
    data, variance, _ = combined(frames, statistic=statistic)
    for c in range(2):
        found = np.mean((data[c] - LEVEL[c]) ** 2)
        # 3080 pixels: to 2.5 % (1 sigma).
        assert 0.89 < found / variance[c].mean() < 1.12


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_photon_noise_is_that_of_the_light(statistic: str) -> None:
    rng = np.random.default_rng(9)
    frames = draw(8)
    light = np.zeros(SHAPE)
    light[:, 40:] = 3000.0
    for frame in frames:
        frame += light + np.sqrt(light / 1.5) * rng.standard_normal((2, *SHAPE))
    data, variance, _ = combined(frames, gain=1.5, statistic=statistic)
    for part in (np.s_[:, :, :39], np.s_[:, :, 48:]):
        error = (data - LEVEL[:, None, None] - light)[part]
        assert 0.8 < np.mean(error**2 / variance[part]) < 1.15


@pytest.mark.parametrize("statistic", ["mean", "median"])
@pytest.mark.parametrize("edges", [(0, 1, 40), (0, 13, 26, 40), (0, 39, 40)])
def test_bands_of_rows_change_nothing(statistic: str, edges: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    frames, masks = draw(6), [rng.choice([0, 0, 0, 4], SHAPE).astype(np.uint8) for _ in range(6)]
    sky = [(rng.uniform(40, 90, (2, 5, 7))).astype(np.float32) for _ in range(6)]
    photon = [np.full((2, 5, 7), 0.6, np.float32)] * 6
    level = rng.uniform(150, 300, (2, 5, 7)).astype(np.float32)
    whole = combine(np.stack(frames), np.stack(masks), sky, photon, level, SHAPE[0], 0, statistic=statistic)
    for a, b in pairwise(edges):
        band = combine(
            np.stack([f[:, a:b] for f in frames]),
            np.stack([m[a:b] for m in masks]),
            sky,
            photon,
            level,
            SHAPE[0],
            a,
            statistic=statistic,
        )
        assert np.array_equal(band[0], whole[0][:, a:b])
        assert np.array_equal(band[1], whole[1][:, a:b])
        assert np.array_equal(band[2], whole[2][a:b])


@pytest.mark.parametrize("n", [2, 3, 5, 8, 9])
def test_the_median_is_numpys(n: int) -> None:
    rng = np.random.default_rng(n)
    frames, masks = draw(n, seed=n), [rng.choice([0, 0, 2], SHAPE).astype(np.uint8) for _ in range(n)]
    data, _, count = combined(frames, masks, statistic="median")
    hidden = np.where(np.array(masks)[:, None] != 0, np.nan, np.array(frames))
    good = (np.array(masks) == 0).sum(axis=0)
    assert np.array_equal(count, good)
    expected = np.nanmedian(hidden[..., good > 0].reshape(n, 2, -1), axis=0)
    assert np.allclose(data[:, good > 0], expected, atol=1e-3)


def test_the_order_of_frames_does_not_matter() -> None:
    frames, scale = draw(7), np.linspace(0.5, 2, 7)
    order = [3, 0, 6, 5, 1, 2, 4]
    one = combined(frames, scale=scale)
    two = combined([frames[k] for k in order], scale=scale[order])
    assert np.allclose(one[0], two[0], atol=2e-3)
    assert np.allclose(one[1], two[1], rtol=1e-4)


def test_nothing_given_is_changed() -> None:
    frames, masks = draw(5), clean(5)
    before = [f.copy() for f in frames]
    combined(frames, masks)
    combined(frames, masks, statistic="median")
    assert all(np.array_equal(a, b) for a, b in zip(frames, before, strict=True))
    assert all((m == 0).all() for m in masks)


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_more_frames_than_can_be_counted_are_refused(statistic: str) -> None:
    one = draw(1)[0]
    assert combined([one] * 255, statistic=statistic)[2].min() == 255
    with pytest.raises(ValueError, match="256 frames"):
        combined([one] * 256, statistic=statistic)


@pytest.mark.parametrize("n", [4, 7, 12])
def test_weights_give_the_weighted_mean_and_its_variance(n: int) -> None:
    weights = np.linspace(0.5, 2.0, n)
    frames = draw(n)
    data, variance, count = combined(frames, weights=weights, clip=9.0)
    wanted = np.tensordot(weights, np.stack(frames), axes=1) / weights.sum()
    assert np.allclose(data, wanted, atol=1e-3)
    share = np.sum(weights**2) / weights.sum() ** 2
    assert np.allclose(variance, (SIGMA**2)[:, None, None] * share, rtol=1e-4)
    assert (count == n).all()


def test_a_weighted_frame_that_is_masked_leaves_the_rest() -> None:
    weights = [1.0, 3.0, 1.0, 2.0, 1.0]
    frames, masks = draw(5), clean(5)
    masks[1][3:9, 5:20] = 1
    data, variance, _ = combined(frames, masks, weights=weights, clip=9.0)
    rest = (frames[0] + frames[2] + 2 * frames[3] + frames[4]) / 5
    assert np.allclose(data[:, 3:9, 5:20], rest[:, 3:9, 5:20], atol=1e-3)
    assert np.allclose(variance[:, 3:9, 5:20], (SIGMA**2)[:, None, None] * 7 / 25, rtol=1e-4)


@pytest.mark.parametrize("n", [3, 6, 9])
def test_a_noisy_frame_hardly_moves_a_median(n: int) -> None:
    rng = np.random.default_rng(n)
    scale = np.ones(n)
    scale[1] = 20.0**2  # in thick clouds, brought to the reference's brightness
    white = rng.standard_normal((n, 2, *SHAPE)) * np.sqrt(scale)[:, None, None, None]
    frames = list((LEVEL[:, None, None] + SIGMA[:, None, None] * white).astype(np.float32))
    data, variance, _ = combined(frames, scale=scale, statistic="median")
    got = np.mean((data - LEVEL[:, None, None]) ** 2 / variance)
    assert got == pytest.approx(1.0, abs=0.12)


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_unlike_pixels_add_with_the_square_of_the_light(statistic: str) -> None:
    frames = [f + np.float32(1000) for f in draw(6)]
    plain = combined(frames, statistic=statistic, clip=50.0)[1]
    flat = [constant([1e-4] * 2)] * 6
    data, variance, _ = combined(frames, statistic=statistic, flat=flat, clip=50.0)
    each = 1e-4 * np.square(data - LEVEL[:, None, None])
    assert np.allclose((variance - plain) / each, plain / (SIGMA**2)[:, None, None], rtol=2e-3)


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_a_window_is_that_of_the_whole(statistic: str) -> None:
    """Bit by bit, with meshes that vary: a template is made again in windows alone."""
    rng = np.random.default_rng(4)
    n, shape = 7, (45, 117)
    frames = rng.normal(300, 8, (n, 2, *shape)).astype(np.float32)
    frames[rng.random(frames.shape) < 0.02] += 400
    masks = (rng.random((n, *shape)) < 0.03).astype(np.uint8)

    def meshes(low: float, high: float, size: tuple[int, int]) -> list[np.ndarray]:
        return [rng.uniform(low, high, (2, *size)).astype(np.float32) for _ in range(n)]

    known = (meshes(50, 80, (5, 8)), meshes(0.4, 0.6, (3, 4)), meshes(290, 310, (4, 3))[0], shape[0])
    more = {
        "factor": meshes(0.98, 1.02, (6, 7)),
        "offset": meshes(-2, 2, (4, 9)),
        "flat": meshes(0, 1e-5, (3, 5)),
        "weights": rng.uniform(0.5, 2, n),
        "statistic": statistic,
    }
    whole = combine(frames, masks, *known, **more)  # type: ignore[arg-type]
    rows, columns = slice(11, 38), slice(32, 101)
    part = combine(
        np.ascontiguousarray(frames[:, :, rows, columns]),
        np.ascontiguousarray(masks[:, rows, columns]),
        *known,
        11,
        columns=(32, shape[1]),
        **more,  # type: ignore[arg-type]
    )
    # Meshes are read anew for every four rows of the image: the first rows of a window may lie between.
    for one, other in zip(whole, part, strict=True):
        assert np.array_equal(one[..., rows, columns][..., 1:, :], other[..., 1:, :])
    with pytest.raises(ValueError, match="multiple of 16"):
        combine(frames, masks, *known, 11, columns=(40, 200))


def test_a_star_is_as_noisy_as_its_light() -> None:
    """Values within the clip of a bright pixel's own noise all count, though far beyond that of the sky."""
    rng = np.random.default_rng(8)
    n, light, gain = 9, 4000.0, 0.5
    sigma = np.sqrt(SIGMA**2 + light / gain)
    values = LEVEL + light + sigma * rng.uniform(-2, 2, (n, 2))
    frames = [np.broadcast_to(v[:, None, None], (2, *SHAPE)).astype(np.float32) for v in values]
    data, _, count = combined(frames, gain=gain)
    assert np.allclose(data, values.mean(axis=0)[:, None, None], rtol=1e-5)
    assert (count == n).all()

"""Finding a comet on small pictures: found where it is, and nothing found where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.changes.comet import Comet, coma_light, find_again, find_comet, stands_out
from difflapse.errors import InputError

SHAPE = (61, 94)
N = 18


def sky(seed: int, n: int = N) -> np.ndarray:
    """Noise of 3 ADU, a static crowd, bright things that flicker by 2 %, and slow gradients that change."""
    rng = np.random.default_rng(seed)
    static = rng.gamma(0.3, 20.0, SHAPE)
    y, x = np.indices(SHAPE) / 50.0
    slopes = rng.normal(0, 4.0, (n, 3))
    gradient = slopes[:, 0, None, None] * x + slopes[:, 1, None, None] * y + slopes[:, 2, None, None]
    flicker = 1 + rng.normal(0, 0.02, (n, 1, 1))
    return (400 + static * flicker + gradient + rng.normal(0, 3.0, (n, *SHAPE))).astype(np.float32)


def times(seed: int, n: int = N) -> np.ndarray:
    """Uneven steps of about one."""
    return np.cumsum(np.random.default_rng(seed + 1000).uniform(0.9, 1.1, n))


def coma(x: np.ndarray, y: np.ndarray, peak: float = 12.0, width: float = 3.4) -> np.ndarray:
    """A coma of a full width of `width` cells at (x[k], y[k]) on picture k."""
    gy, gx = np.indices(SHAPE)
    r2 = (gx - x[:, None, None]) ** 2 + (gy - y[:, None, None]) ** 2
    return peak / (1 + r2 / (width / 2) ** 2) * np.exp(-np.sqrt(r2) / (2.5 * width))


def moving(seed: int, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed + 2000)
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.28, 0.42)
    x = rng.uniform(30, 64) + speed * np.cos(angle) * (t - t.mean())
    y = rng.uniform(22, 39) + speed * np.sin(angle) * (t - t.mean())
    return x, y


@pytest.mark.parametrize("seed", range(8))
def test_a_comet_is_found_where_it_is(seed: int) -> None:
    """A third of a cell in each of 18 pictures: less than two of its widths in the whole night."""
    t = times(seed)
    x, y = moving(seed, t)
    found = find_comet(sky(seed) + coma(x, y), t)
    fx, fy = found.at(t)
    away = np.hypot(fx - x, fy - y)
    assert 0.12 < found.uncertainty < 0.3  # at the worst end of the night
    assert away.max() < 3.5 * found.uncertainty
    assert away.mean() < 0.3
    assert 2.0 < found.width < 4.6
    assert found.snr > 15


@pytest.mark.parametrize("seed", range(100, 112))
def test_where_there_is_none_it_says_so_with_numbers(seed: int) -> None:
    with pytest.raises(InputError, match="no comet stands out in 18 frames") as caught:
        find_comet(sky(seed), times(seed))
    assert caught.value.facts["found"] < 9
    assert caught.value.exit_code == 3


def test_a_comet_that_stands_still_is_none() -> None:
    t = times(1)
    still = np.full(N, 40.3)
    with pytest.raises(InputError):
        find_comet(sky(1) + coma(still, still - 10), t)


def test_a_point_that_moves_is_none() -> None:
    """What is left of an asteroid in medians of cells: one cell, now and then a part of the next."""
    t = times(2)
    x, y = moving(2, t)
    pictures = sky(2)
    for k in range(N):
        pictures[k, round(float(y[k])), round(float(x[k]))] += 60
    with pytest.raises(InputError, match="wide"):
        find_comet(pictures, t)


def test_a_light_of_half_the_night_is_none() -> None:
    t = times(3)
    x, y = moving(3, t)
    light = coma(x, y, peak=30.0)
    light[: N // 2] = 0
    with pytest.raises(InputError):
        find_comet(sky(3) + light, t)


@pytest.mark.parametrize("seed", range(3))
def test_a_ridge_that_moves_is_none(seed: int) -> None:
    """It is no brighter than its surroundings along the same track: an edge, or stray light."""
    t = times(seed)
    gy, gx = np.indices(SHAPE)
    x = 47 + 6 * (t - t.mean()) / np.ptp(t)
    ridge = 5 * np.exp(-0.5 * ((gx - x[:, None, None]) / 1.3) ** 2 - 0.5 * ((gy - 30) / 14) ** 2)
    with pytest.raises(InputError, match="beside what its surroundings show"):
        find_comet((sky(seed) + ridge).astype(np.float32), t)


@pytest.mark.parametrize("seed", range(3))
def test_a_light_that_grows_beside_a_shade_is_none(seed: int) -> None:
    """From the middle of the night on: the first half by itself shows nothing that moves."""
    t = times(seed)
    grown = np.clip((t - t[10]) / (t[-1] - t[10]), 0, 1)[:, None, None]
    still = np.full(N, 30.0)
    pictures = sky(seed) + grown * (coma(still + 19, still, peak=30.0) - coma(still + 15, still, peak=30.0))
    with pytest.raises(InputError, match="in one half of the night by itself"):
        find_comet(pictures.astype(np.float32), t)


@pytest.mark.parametrize("seed", [0, 3, 7])
def test_a_slow_one_is_found_less_than_its_width_from_where_it_began(seed: int) -> None:
    t = times(seed)
    x, y = moving(seed, t)
    x, y = (v.mean() + 0.3 * (v - v.mean()) for v in (x, y))
    found = find_comet(sky(seed) + coma(x, y, peak=30.0), t)
    assert np.hypot(*(np.array(found.at(t)) - (x, y))).max() < 3.5 * found.uncertainty
    assert np.hypot(found.rate_x, found.rate_y) * np.ptp(t) < 3.4


@pytest.mark.parametrize("peak", [12.0, 30.0])
def test_a_wide_one_does_not_hide_itself_from_its_surroundings(peak: float) -> None:
    t = times(0)
    x, y = moving(0, t)
    found = find_comet(sky(0) + coma(x, y, peak=peak, width=12.0), t)
    assert found.width > 5
    assert np.hypot(*(np.array(found.at(t)) - (x, y))).max() < 4.5 * found.uncertainty


def test_a_satellite_does_not_hide_it() -> None:
    t = times(4)
    x, y = moving(4, t)
    pictures = sky(4) + coma(x, y)
    pictures[7] += 300 * (np.abs(np.subtract(*np.indices(SHAPE)) - 5) < 2)
    found = find_comet(pictures, t)
    assert np.hypot(found.at(t)[0] - x, found.at(t)[1] - y).max() < 3.5 * found.uncertainty


def test_pictures_that_lack_a_side_are_used() -> None:
    """Drift: what is NaN in one picture is there in others."""
    t = times(5)
    x, y = moving(5, t)
    pictures = (sky(5) + coma(x, y)).astype(np.float32)
    for k in range(N):
        pictures[k, :, : k // 2] = np.nan
        pictures[k, SHAPE[0] - k // 3 :] = np.nan
    found = find_comet(pictures, t)
    assert np.hypot(found.at(t)[0] - x, found.at(t)[1] - y).max() < 3.5 * found.uncertainty


def test_the_same_pictures_give_the_same_comet_and_are_left_alone() -> None:
    t = times(6)
    pictures = (sky(6) + coma(*moving(6, t))).astype(np.float32)
    before = pictures.copy()
    assert find_comet(pictures, t) == find_comet(pictures, t)
    assert np.array_equal(pictures, before)


def test_few_pictures_are_refused() -> None:
    with pytest.raises(InputError, match="3 frames") as caught:
        find_comet(sky(1, 3), times(1, 3))
    assert caught.value.facts == {"found": 3, "needed": 4}


def test_the_light_of_a_comet_is_that_of_its_profile() -> None:
    rng = np.random.default_rng(12)
    n, ny, nx = 10, 60, 80
    times = np.linspace(0.0, 1.0, n)
    comet = Comet(0.5, 38.3, 27.6, 9.0, -5.0, 0.05, 100.0, 3.5)
    x, y = comet.at(times)
    gy, gx = np.mgrid[:ny, :nx]
    static = rng.normal(300, 20, (2, ny, nx))
    r = np.hypot(gx - x[:, None, None], gy - y[:, None, None])
    form = np.where(r < 12, np.exp(-r / 2.5), 0)
    peaks = np.array([20.0, 7.0])
    pictures = static + peaks[:, None, None] * form[:, None] + rng.normal(0, 0.3, (n, 2, ny, nx))
    pictures[3, :, 5:9, 5:9] = np.nan
    radii, light = coma_light(pictures.astype(np.float32), times, comet)
    assert np.allclose(light[:, 1:5], peaks[:, None] * np.exp(-radii[1:5] / 2.5), atol=0.08 * peaks.max())
    assert (light >= 0).all()
    assert (light[:, -1] == 0).all()


def test_only_pictures_with_something_wide_are_searched() -> None:
    rng = np.random.default_rng(13)
    calm = rng.normal(300, 1, (8, 60, 80)).astype(np.float32)
    assert not stands_out(calm)
    gy, gx = np.mgrid[:60, :80]
    for k in range(8):
        calm[k] += 4 * np.exp(-((gx - 30 - 3 * k) ** 2 + (gy - 25) ** 2) / 8)
    assert stands_out(calm)


@pytest.mark.parametrize("seed", [0, 3, 5])
def test_a_known_comet_is_found_again_on_other_pictures(seed: int) -> None:
    """Known from six pictures, two thirds of a cell beside its place, it is fitted to eighteen."""
    t = times(seed)
    x, y = moving(seed, t)
    span = float(np.ptp(t))
    known = Comet(
        float(t.mean()), float(x.mean()) + 0.5, float(y.mean()) - 0.4, (x[-1] - x[0]) / span + 0.02,
        (y[-1] - y[0]) / span - 0.03, 0.5, 20.0, 3.4,
    )  # fmt: skip
    pictures = sky(seed) + coma(x, y)
    again = find_again(pictures, t, known)
    searched = find_comet(pictures, t)
    assert again is not None
    assert np.hypot(again.at(t)[0] - x, again.at(t)[1] - y).max() < 3.5 * again.uncertainty
    assert np.hypot(*(np.array(again.at(t)) - searched.at(t))).max() < 0.2
    assert again.snr == pytest.approx(searched.snr, rel=0.02)


def test_what_other_pictures_do_not_show_is_not_found_again() -> None:
    t = times(0)
    x, y = moving(0, t)
    known = find_comet(sky(0) + coma(x, y), t)
    assert find_again(sky(50), t, known) is None
    assert find_again((sky(0) + coma(x, y))[:3], t[:3], known) is None

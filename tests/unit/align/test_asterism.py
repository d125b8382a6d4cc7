"""Star lists: alike ones are aligned whatever was done to them, unlike ones are not."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from difflapse.align.asterism import find
from difflapse.align.view import AlignOptions, Reduced, View
from difflapse.errors import AlignError
from difflapse.model import FrameFacts, Stars

SHAPE = (900, 1400)


@pytest.fixture(scope="module")
def pairs() -> ModuleType:
    path = Path(__file__).parents[3] / "benchmarks" / "asterism_pairs.py"
    spec = importlib.util.spec_from_file_location("asterism_pairs", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def no_picture() -> Reduced:
    raise AssertionError("asterisms need no picture")


def view(x: np.ndarray, y: np.ndarray, flux: np.ndarray, fwhm: np.ndarray | None = None) -> View:
    order = np.argsort(-flux)
    n = len(x)
    width = np.full(n, 2.4) if fwhm is None else fwhm
    stars = Stars(
        x[order],
        y[order],
        flux[order],
        np.full(n, 50.0),
        width[order],
        flux[order][None],
        np.zeros(n, bool),
    )
    return View(FrameFacts("", "f", 0, SHAPE), stars, no_picture)


def test_forty_alike_pairs_are_all_aligned(pairs: ModuleType) -> None:
    for seed in range(70_000, 70_040):
        pair = pairs.random_pair(seed)
        result = find(pair.frame, pair.reference, AlignOptions())
        assert pairs.error_of(pair, result.transform) < 1.0, pair.what


def test_forty_unlike_pairs_are_all_refused(pairs: ModuleType) -> None:
    for seed in range(80_000, 80_040):
        pair = pairs.random_pair(seed, alike=False)
        with pytest.raises(AlignError):
            find(pair.frame, pair.reference, AlignOptions())


def test_same_lists_same_result(pairs: ModuleType) -> None:
    pair = pairs.random_pair(70_007)
    one, two = (find(pair.frame, pair.reference, AlignOptions()) for _ in range(2))
    assert np.array_equal(one.transform.matrix, two.transform.matrix)
    assert one.rms_pix == two.rms_pix


@pytest.mark.parametrize("hot", [40, 150])
def test_hot_pixels_do_not_hold_the_frame_at_rest(hot: int) -> None:
    """The sensor's fixed pattern is exact, and brighter than the stars; the stars move by (17.6, -9.3)."""
    rng = np.random.default_rng(4)
    n = 200
    x, y, flux = rng.uniform(30, 1370, n), rng.uniform(30, 870, n), rng.uniform(100, 1000, n)
    hx, hy = rng.integers(0, 1400, hot).astype(float), rng.integers(0, 900, hot).astype(float)
    hf = rng.uniform(800, 5000, hot)
    views = []
    for dx, dy in ((0.0, 0.0), (-17.6, 9.3)):
        sx, sy = x + dx + rng.normal(0, 0.08, n), y + dy + rng.normal(0, 0.08, n)
        views.append(view(np.concatenate([sx, hx]), np.concatenate([sy, hy]), np.concatenate([flux, hf])))
    result = find(views[1], views[0], AlignOptions())
    cx, cy = result.transform(700.0, 450.0)
    assert float(cx) == pytest.approx(717.6, abs=0.05)
    assert float(cy) == pytest.approx(440.7, abs=0.05)


def test_a_mount_that_tracks_well_is_not_taken_for_hot_pixels() -> None:
    rng = np.random.default_rng(5)
    x, y, flux = rng.uniform(0, 1399, 150), rng.uniform(0, 899, 150), rng.uniform(100, 1000, 150)
    still = view(x, y, flux)
    result = find(view(x + 0.2, y, flux), still, AlignOptions())
    assert result.n_matched == 150
    assert float(result.transform(700.0, 450.0)[0]) == pytest.approx(699.8, abs=1e-3)


def test_too_few_stars_are_named() -> None:
    few = np.arange(5.0) * 37.3
    with pytest.raises(AlignError) as caught:
        find(view(few, few**1.1, few + 1), view(few, few**1.1, few + 1), AlignOptions())
    assert caught.value.facts["found"] == 5
    assert caught.value.facts["needed"] == 6


def test_flux_that_means_nothing_still_aligns_a_short_list() -> None:
    rng = np.random.default_rng(6)
    x, y = rng.uniform(0, 1399, 25), rng.uniform(0, 899, 25)
    a = view(x, y, rng.uniform(1, 2, 25))
    b = view(1399 - x, 899 - y, rng.uniform(1, 2, 25))
    result = find(a, b, AlignOptions())
    assert result.n_matched == 25
    assert abs(result.transform.rotation_deg(700, 450)) == pytest.approx(180, abs=0.01)


def test_saturated_stars_help_to_find_but_do_not_pull_the_fit() -> None:
    rng = np.random.default_rng(7)
    n = 80
    x, y, flux = rng.uniform(0, 1399, n), rng.uniform(0, 899, n), np.linspace(1000, 100, n)
    moved = x + 6.25
    moved[:10] += 0.8  # bleeding
    saturated = np.arange(n) < 10
    lists = [
        Stars(px, y, flux, np.full(n, 50.0), np.full(n, 2.4), flux[None], saturated) for px in (x, moved)
    ]
    a, b = (View(FrameFacts("", "f", 0, SHAPE), s, no_picture) for s in lists)
    assert float(find(a, b, AlignOptions()).transform(0.0, 0.0)[0]) == pytest.approx(6.25, abs=1e-3)


@pytest.mark.parametrize("scale", [0.42, 0.5, 1.0, 2.0, 2.4])
def test_scales_from_0_4_to_2_5_are_found(scale: float) -> None:
    """The larger picture sees a part of the field only: the densest stars of both lists are in common."""
    rng = np.random.default_rng(4)
    ny, nx = SHAPE
    x, y = rng.uniform(0, nx, 400), rng.uniform(0, ny, 400)
    flux = rng.exponential(1000, 400) + 100
    u, v = (x - nx / 2) * scale + nx / 2, (y - ny / 2) * scale + ny / 2
    inside = (u >= 0) & (v >= 0) & (u < nx) & (v < ny)
    result = find(view(x, y, flux), view(u[inside], v[inside], flux[inside]), AlignOptions())
    fx, fy = result.transform(x[inside], y[inside])
    assert np.hypot(fx - u[inside], fy - v[inside]).max() < 0.1


@pytest.mark.parametrize("seed", [101, 102, 103, 104])
def test_pairs_through_pixels(pairs: ModuleType, seed: int) -> None:
    """Rendered, found and aligned, hot pixels and clouds included; and another sky is refused."""
    pair = pairs.pixel_pair(seed)
    result = find(pair.frame, pair.reference, AlignOptions())
    assert pairs.error_of(pair, result.transform) < 1.0, pair.what
    other = pairs.pixel_pair(seed, alike=False)
    with pytest.raises(AlignError):
        find(other.frame, other.reference, AlignOptions())


def test_a_small_overlap_in_a_crowd_is_not_spoilt_by_chance_pairs(pairs: ModuleType) -> None:
    """19 stars in common of 574 and 1240: a wide first radius would pair as many by chance."""
    pair = pairs.random_pair(200_015)
    assert pair.decidable
    assert pairs.error_of(pair, find(pair.frame, pair.reference, AlignOptions()).transform) < 1.0

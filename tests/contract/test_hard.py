"""Hard nights as star lists, asked of every method that lives on stars: each is aligned, or says why not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from astropy.io import fits

from difflapse.align.view import AlignOptions, Reduced, View
from difflapse.errors import AlignError
from difflapse.methods import find_method
from difflapse.model import Alignment, FrameFacts, Stars

SHAPE = (868, 1302)
METHODS = ("asterism", "auto")
SIGMA = 0.06
"""Error of each coordinate, px."""
SCALE = 10.3 / 3600
"""Degrees per pixel."""


@dataclass(frozen=True)
class Sky:
    """Stars in pixels of the reference, brightest first."""

    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray


def sky(n: int, seed: int = 1) -> Sky:
    rng = np.random.default_rng(seed)
    flux = np.sort(300 * rng.uniform(1e-3, 1, n) ** -1.25)[::-1]
    return Sky(rng.uniform(-400, SHAPE[1] + 400, n), rng.uniform(-400, SHAPE[0] + 400, n), flux)


def blank() -> Reduced:
    shape = (SHAPE[0] // 2, SHAPE[1] // 2)
    return Reduced(np.zeros(shape, np.float32), np.zeros(shape, bool), 2.0, 0.5)


def view(x: np.ndarray, y: np.ndarray, flux: np.ndarray, wcs: str = "") -> View:
    on = (x > 0) & (y > 0) & (x < SHAPE[1] - 1) & (y < SHAPE[0] - 1)
    order = np.flatnonzero(on)[np.argsort(-flux[on], kind="stable")]
    n = len(order)
    f = flux[order]
    stars = Stars(
        x[order], y[order], f, np.clip(np.sqrt(f), 8, 500), np.full(n, 2.4), f[None], np.zeros(n, bool)
    )
    return View(FrameFacts("", "f", 0, SHAPE, wcs_header=wcs), stars, blank)


def seen(s: Sky, matrix: np.ndarray, seed: int, keep: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """Positions and fluxes on a frame that `matrix` (2, 3) takes to the reference."""
    rng = np.random.default_rng(seed)
    inverse = np.linalg.inv(matrix[:, :2])
    x, y = inverse @ (np.stack([s.x, s.y]) - matrix[:, 2:])
    flux = s.flux * np.exp(rng.normal(0, 0.03, len(s.x)))
    columns = (x + rng.normal(0, SIGMA, len(x)), y + rng.normal(0, SIGMA, len(x)), flux)
    return columns if keep is None else tuple(c[keep] for c in columns)


def turned(angle: float, shift: tuple[float, float], about: tuple[float, float] | None = None) -> np.ndarray:
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    centre = np.array(about or (SHAPE[1] / 2, SHAPE[0] / 2))
    linear = np.array([[c, -s], [s, c]])
    return np.column_stack([linear, centre - linear @ centre + np.array(shift)])


def wrong_by(result: Alignment, matrix: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """Rms error over places of the frame, px."""
    tx, ty = matrix[:, :2] @ np.stack([x, y]) + matrix[:, 2:]
    fx, fy = result.transform(x, y)
    return float(np.sqrt(np.mean((fx - tx) ** 2 + (fy - ty) ** 2)))


def limit(n: int) -> float:
    """Four standard errors (radial) of a fit of up to six terms to n stars, each measured twice."""
    return 4 * 2 * SIGMA * float(np.sqrt(min(1.0, 6 / n))) + 0.005


@pytest.fixture(params=METHODS)
def align(request: pytest.FixtureRequest) -> Callable[[View, View], Alignment]:
    method = find_method("align", request.param)
    return lambda frame, reference: method(frame, reference, AlignOptions())


def solve(
    align: Callable[[View, View], Alignment], frame: View, reference: View, matrix: np.ndarray, n: int
) -> None:
    result = align(frame, reference)
    assert result.method == "asterism"
    x, y = frame.stars.x, frame.stars.y
    tx, ty = matrix[:, :2] @ np.stack([x, y]) + matrix[:, 2:]
    common = (tx > 0) & (ty > 0) & (tx < SHAPE[1]) & (ty < SHAPE[0])
    assert wrong_by(result, matrix, x[common], y[common]) < limit(n)


def test_eight_stars(align: Callable[[View, View], Alignment]) -> None:
    rng = np.random.default_rng(8)
    s = Sky(rng.uniform(200, 1100, 8), rng.uniform(200, 660, 8), 1000 * np.arange(8.0, 0, -1))
    m = turned(3.4, (41.7, -28.3))
    solve(align, view(*seen(s, m, 2)), view(*seen(s, np.eye(2, 3), 3)), m, 8)


def test_half_of_the_field_is_clouded(align: Callable[[View, View], Alignment]) -> None:
    s, m = sky(600), turned(0.2, (23.4, 7.9))
    x, y, flux = seen(s, m, 2)
    clear = x > SHAPE[1] / 2
    frame = view(x[clear], y[clear], flux[clear] * 0.6)
    solve(align, frame, view(*seen(s, np.eye(2, 3), 3)), m, len(frame.stars))


def test_a_satellite_across_the_bright_stars(align: Callable[[View, View], Alignment]) -> None:
    """Sixty detections on a line, brighter than all stars, and what they cover is lost."""
    s, m = sky(500), turned(0.1, (12.3, -33.8))
    x, y, flux = seen(s, m, 2)
    t = np.linspace(0, 1, 60)
    lx, ly = 10 + 1280 * t, 60 + 700 * t
    clear = np.min(np.hypot(x[:, None] - lx, y[:, None] - ly), axis=1) > 12
    frame = view(
        np.concatenate([x[clear], lx]), np.concatenate([y[clear], ly]), np.concatenate([flux[clear], t + 1e6])
    )
    solve(align, frame, view(*seen(s, np.eye(2, 3), 3)), m, 100)


def test_the_milky_way(align: Callable[[View, View], Alignment]) -> None:
    """Lists of 20,000 and 15,000 stars, of which each misses a tenth of the other's."""
    s, m = sky(60_000, 4), turned(178.6, (151.2, 88.7))
    rng = np.random.default_rng(5)
    keep = rng.random((2, len(s.x))) < 0.9
    frame, reference = view(*seen(s, m, 2, keep[0])), view(*seen(s, np.eye(2, 3), 3, keep[1]))
    assert min(len(frame.stars), len(reference.stars)) > 15_000
    solve(align, frame, reference, m, 1000)


def test_the_celestial_pole(align: Callable[[View, View], Alignment]) -> None:
    """The field turns by 37 degrees around a pole within it, and the pole stands."""
    pole = (500.3, 610.8)
    s, m = sky(500), turned(37.2, (0.0, 0.0), pole)
    frame, reference = view(*seen(s, m, 2)), view(*seen(s, np.eye(2, 3), 3))
    solve(align, frame, reference, m, 100)
    fx, fy = align(frame, reference).transform(*pole)
    assert np.hypot(fx - pole[0], fy - pole[1]) < limit(100)


def test_the_moon(align: Callable[[View, View], Alignment]) -> None:
    """Its glow drowns faint stars around a corner and leaves a crowd of false ones there, in both frames."""
    s, m = sky(700), turned(0.0, (17.6, 25.2))
    rng = np.random.default_rng(6)
    views = []
    for n, matrix in ((2, m), (3, np.eye(2, 3))):
        x, y, flux = seen(s, matrix, n)
        drowned = flux < 20_000 * np.exp(-np.hypot(x, y) / 250)
        gx, gy = np.abs(rng.normal(0, 150, (2, 80)))
        views.append(
            view(
                np.concatenate([x[~drowned], gx]),
                np.concatenate([y[~drowned], gy]),
                np.concatenate([flux[~drowned], rng.uniform(1e4, 1e5, 80)]),
            )
        )
    solve(align, *views, m, 100)


def test_the_sensor_s_own_pattern_does_not_hold_a_frame(align: Callable[[View, View], Alignment]) -> None:
    """As many hot pixels as stars, brighter than they are, and exactly where they were."""
    s, m = sky(300), turned(0.05, (9.4, -14.7))
    rng = np.random.default_rng(7)
    hx, hy, hf = (
        rng.integers(0, 1300, 110).astype(float),
        rng.integers(0, 860, 110).astype(float),
        np.full(110, 1e6),
    )
    views = []
    for n, matrix in ((2, m), (3, np.eye(2, 3))):
        x, y, flux = seen(s, matrix, n)
        views.append(view(np.concatenate([x, hx]), np.concatenate([y, hy]), np.concatenate([flux, hf])))
    solve(align, *views, m, 80)


@pytest.mark.parametrize("n", [5, 8])
def test_too_few_in_common_are_refused_with_the_numbers(
    align: Callable[[View, View], Alignment], n: int
) -> None:
    one, other = sky(400, 11), sky(400, 12)
    few = Sky(
        *(np.concatenate([v[:0], w]) for v, w in zip(vars(one).values(), vars(other).values(), strict=True))
    )
    with pytest.raises(AlignError) as caught:
        align(view(*seen(few, np.eye(2, 3), 2, np.arange(400) < 3 * n)), view(*seen(one, np.eye(2, 3), 3)))
    assert isinstance(caught.value.facts["found"], int)
    assert caught.value.facts["needed"] == 6


def header(roll: float = 0.0, off: tuple[float, float] = (0.0, 0.0), scale: float = 1.0) -> str:
    c, s = SCALE * scale * np.cos(np.radians(roll)), SCALE * scale * np.sin(np.radians(roll))
    cards = {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 243.7, "CRVAL2": 33.0, "CUNIT1": "deg",
        "CRPIX1": SHAPE[1] / 2 + 1 + off[0], "CRPIX2": SHAPE[0] / 2 + 1 + off[1],
        "CD1_1": -c, "CD1_2": -s, "CD2_1": -s, "CD2_2": c,
    }  # fmt: skip
    return str(fits.Header(cards).tostring())


@pytest.mark.parametrize(
    "wrong",
    [
        {"off": (41.0, -23.0)},
        {"roll": 3.0},
        {"scale": 1.05, "off": (60.0, 40.0)},
        {"off": (300.0, 200.0), "roll": 180.0},
    ],
)
def test_a_wrong_but_confident_header_is_caught(wrong: dict[str, float]) -> None:
    """Off by seven arc minutes, turned, of another scale: the stars win, and the refusal is told with numbers."""
    s, m = sky(500), turned(0.0, (5.3, 8.1))
    frame = view(*seen(s, m, 2), wcs=header(**wrong))  # type: ignore[arg-type]
    reference = view(*seen(s, np.eye(2, 3), 3), wcs=header())
    result = find_method("align", "auto")(frame, reference, AlignOptions())
    assert result.method == "asterism"
    (line,) = result.refused
    assert line.startswith("wcs: ")
    assert any(c.isdigit() for c in line)
    assert wrong_by(result, m, frame.stars.x, frame.stars.y) < limit(100)


def test_blended_stars_help_to_find_but_do_not_pull_the_fit() -> None:
    s, m = sky(400), turned(0.0, (5.3, 8.1))
    x, y, flux = seen(s, m, 2)
    pulled = np.arange(len(x)) % 4 == 0
    frame = view(x + 0.4 * pulled, y, flux)
    near = np.isin(frame.stars.x, (x + 0.4 * pulled)[pulled])
    flagged = View(frame.facts, replace(frame.stars, blended=near), blank)
    result = find_method("align", "asterism")(flagged, view(*seen(s, np.eye(2, 3), 3)), AlignOptions())
    assert result.held_out is not None
    assert result.n_matched < 0.8 * len(frame.stars)
    assert abs(np.mean(result.transform(x[~pulled], y[~pulled])[0] - x[~pulled]) - 5.3) < limit(100)

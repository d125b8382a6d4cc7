"""Frames that nothing aligns: what their neighbours say, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.align.between import Neighbour, confirm, interpolate
from difflapse.align.view import Reduced, View
from difflapse.errors import AlignError
from difflapse.model import FrameFacts, Stars, Transform

SHAPE = (300, 470)


def place(t: float, curve: float = 0.0) -> Transform:
    """A camera that drifts by (3.1, -1.7) px and turns by 0.01 deg in a cadence."""
    a = np.radians(0.01 * t)
    x, y = 3.1 * t + curve * t * t, -1.7 * t
    return Transform(
        "euclidean", np.array([[np.cos(a), -np.sin(a), x], [np.sin(a), np.cos(a), y], [0, 0, 1]])
    )


def around(*times: float, curve: float = 0.0) -> tuple[list[Neighbour], list[Neighbour]]:
    both = [(t, place(t, curve)) for t in times]
    return [n for n in both if n[0] < 0], [n for n in both if n[0] > 0]


def test_a_steady_motion_is_followed_exactly() -> None:
    """Turning by 0.02 deg between them, two euclidean transforms differ from a straight way by 1e-6 px."""
    guess, uncertainty = interpolate(*around(-2.2, -1.1, 0.7, 2.0), SHAPE)
    x, y = guess(np.array([0.0, 469, 200.3]), np.array([0.0, 299, 17.7]))
    X, Y = place(0)(np.array([0.0, 469, 200.3]), np.array([0.0, 299, 17.7]))
    assert np.hypot(x - X, y - Y).max() < 1e-4
    assert 0 < uncertainty < 1e-3
    assert guess.model == "euclidean"


@pytest.mark.parametrize("model", ["affine", "polynomial"])
def test_the_richer_model_of_the_two_is_kept(model: str) -> None:
    coefficients = np.zeros((2, 6)) if model == "polynomial" else None
    if coefficients is not None:
        coefficients[0, 3] = 0.4
    rich = Transform(model, place(1.0).matrix, coefficients, (234.5, 149.5), 235.0)
    before, after = around(-2.0, -1.0, 1.0, 2.0)
    guess, _ = interpolate(before, [(1.0, rich), after[1]], SHAPE)
    assert guess.model == model
    x, y = guess(420.0, 30.0)
    X = np.mean([place(-1.0)(420.0, 30.0), rich(420.0, 30.0)], axis=0)
    assert (float(x), float(y)) == pytest.approx(tuple(X), abs=1e-9)


def test_the_stated_uncertainty_is_what_a_bend_costs() -> None:
    """x = c t^2 is missed by c at the middle of two cadences: at the neighbours by c * 1 * 2."""
    guess, uncertainty = interpolate(*around(-2, -1, 1, 2, curve=0.5), SHAPE)
    assert uncertainty == pytest.approx(1.0, rel=0.01)
    assert float(guess(100.0, 50.0)[0]) - 100 == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("times", "words", "found"),
    [
        ((1, 2, 3), "no aligned frame before", 0),
        ((-3, -2, -1), "no aligned frame after", 0),
        ((-4, -3.5, 1, 2), "3.5 cadences before", 3.5),
        ((-1, 1), "2 aligned neighbours", 2),
    ],
)
def test_what_has_too_few_neighbours_is_refused(times: tuple[float, ...], words: str, found: float) -> None:
    with pytest.raises(AlignError, match=words) as caught:
        interpolate(*around(*times), SHAPE)
    assert caught.value.facts["found"] == pytest.approx(found)
    assert caught.value.facts["method"] == "interpolated"


def test_a_jump_of_the_mount_is_refused() -> None:
    before, after = around(-2, -1, 1, 2)
    moved = [(t, Transform("shift", np.array([[1, 0, 40.0], [0, 1, 0], [0, 0, 1]]))) for t, _ in after]
    with pytest.raises(AlignError, match="foretold") as caught:
        interpolate(before, moved, SHAPE)
    assert caught.value.facts["found"] > 3


# What the frame itself says


def stars(n: int, seed: int) -> Stars:
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, 469, n), rng.uniform(0, 299, n)
    flux = np.sort(rng.uniform(1e3, 1e5, n))[::-1]
    return Stars(x, y, flux, np.full(n, 50.0), np.full(n, 2.2), flux[None], np.zeros(n, bool))


def view(of: Stars, pixels: np.ndarray | None = None) -> View:
    """A frame; its picture is bare noise unless given."""
    data = np.random.default_rng(len(of)).normal(size=SHAPE) if pixels is None else pixels
    facts = FrameFacts("/a", "a", 0, SHAPE)
    return View(facts, of, lambda: Reduced(data.astype(np.float32), np.zeros(SHAPE, bool), 1.0, 0.0))


GUESS = Transform("shift", np.array([[1, 0, 4.3], [0, 1, -2.6], [0, 0, 1]]))


def seen(reference: Stars, keep: np.ndarray, off: float = 0.0) -> Stars:
    """Some of the reference's stars where the guess has them on the frame, or `off` px beside it."""
    some = reference.take(keep)
    return Stars(
        some.x - 4.3 + off, some.y + 2.6, some.flux, some.snr, some.fwhm, some.colour_flux, some.saturated
    )


def test_three_stars_in_their_places_confirm() -> None:
    reference = stars(80, 1)
    result = confirm(view(seen(reference, np.array([10, 30, 50]))), view(reference), GUESS, 0.4)
    assert (result.method, result.n_matched) == ("interpolated", 3)
    assert np.isnan(result.rms_pix)
    assert result.transform is GUESS
    assert "confirmed by 3 of 3 stars" in result.note


def test_stars_that_disagree_refute() -> None:
    reference = stars(80, 1)
    with pytest.raises(AlignError, match="chance") as caught:
        confirm(view(seen(reference, np.arange(20, 32), off=9.0)), view(reference), GUESS, 0.4)
    assert caught.value.facts["needed"] > 8
    assert caught.value.facts["found"] <= 2


def test_another_field_is_refused() -> None:
    with pytest.raises(AlignError):
        confirm(view(stars(60, 2)), view(stars(80, 1)), GUESS, 0.4)


@pytest.mark.parametrize("n", [0, 2])
def test_without_stars_it_is_a_guess_and_says_so(n: int) -> None:
    reference = stars(80, 1)
    result = confirm(view(seen(reference, np.arange(n))), view(reference), GUESS, 0.4)
    assert result.n_matched == 0
    assert "a guess" in result.note


def test_a_scene_without_stars_is_judged_on_its_pixels() -> None:
    """Bright texture, the same for both but for the motion: the Moon through a gap; or another scene."""
    from scipy.ndimage import gaussian_filter, shift

    rng = np.random.default_rng(5)
    scene = gaussian_filter(rng.normal(size=SHAPE), 2.0) * 1000
    frame = shift(scene, (2.6, -4.3), order=3)
    none = Stars.empty()
    result = confirm(view(none, frame), view(none, scene), GUESS, 0.4)
    assert result.n_matched >= 5
    assert "tiles" in result.note
    with pytest.raises(AlignError):
        other = gaussian_filter(rng.normal(size=SHAPE), 2.0) * 1000
        confirm(view(none, other), view(none, scene), GUESS, 0.4)

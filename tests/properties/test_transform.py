"""What must hold of every transform and of every fit, whatever the numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difflapse.align.fit import choose_model, fit_robust, fit_transform
from difflapse.model import Transform
from difflapse.model.transform import powers

NY, NX = 700, 1100
DOMAIN = (0.0, 0.0, NX - 1.0, NY - 1.0)

angles = st.floats(-180, 180)
scales = st.floats(0.5, 2.0)
shifts = st.tuples(st.floats(-600, 600), st.floats(-400, 400))
seeds = st.integers(0, 2**32 - 1)


def rigid(angle: float, scale: float, shift: tuple[float, float], mirrored: bool) -> np.ndarray:
    c, s = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    sign = -1.0 if mirrored else 1.0
    return np.array([[c, -sign * s, shift[0]], [s, sign * c, shift[1]], [0, 0, 1]])


def bent(seed: int, degree: int, size: float = 5.0) -> Transform:
    """A gentle polynomial transform: at most a few pixels of distortion, so that it is one to one."""
    rng = np.random.default_rng(seed)
    matrix = rigid(rng.uniform(-180, 180), rng.uniform(0.6, 1.6), (30.5, -12.25), bool(rng.integers(2)))
    coefficients = rng.uniform(-1, 1, (2, len(powers(degree)))) * size
    coefficients[:, :3] = 0.0
    return Transform("polynomial", matrix, coefficients, (0.5 * NX, 0.5 * NY), 0.5 * np.hypot(NX, NY), DOMAIN)


def points(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, NX - 1, n), rng.uniform(0, NY - 1, n)


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(2, 5))
def test_inverse_undoes_a_polynomial(seed: int, degree: int) -> None:
    transform = bent(seed, degree)
    x, y = points(seed)
    u, v = transform.inverse(*transform(x, y))
    assert np.hypot(u - x, v - y).max() < 1e-6


@settings(max_examples=40, deadline=None)
@given(angles, scales, shifts, st.booleans())
def test_inverse_undoes_a_similarity_and_says_whether_it_mirrors(
    angle: float, scale: float, shift: tuple[float, float], mirrored: bool
) -> None:
    transform = Transform.from_matrix(rigid(angle, scale, shift, mirrored), "similarity")
    x, y = points(1)
    u, v = transform.inverse(*transform(x, y))
    assert np.hypot(u - x, v - y).max() < 1e-8
    assert transform.mirrored == mirrored
    assert transform.local_scale(3.0, 5.0) == pytest.approx(scale)


@settings(max_examples=40, deadline=None)
@given(angles, scales, shifts, st.booleans(), angles, scales, shifts)
def test_fit_of_a_chain_is_the_product(
    a1: float,
    s1: float,
    t1: tuple[float, float],
    mirrored: bool,
    a2: float,
    s2: float,
    t2: tuple[float, float],
) -> None:
    first, second = rigid(a1, s1, t1, mirrored), rigid(a2, s2, t2, False)
    x, y = points(2)
    X, Y = Transform.from_matrix(second)(*Transform.from_matrix(first)(x, y))
    fit = fit_transform(x, y, X, Y, model="similarity")
    assert np.allclose(fit.matrix, second @ first, atol=1e-7)


@settings(max_examples=25, deadline=None)
@given(seeds, angles, shifts, scales, st.booleans())
def test_each_model_recovers_itself_exactly(
    seed: int, angle: float, shift: tuple[float, float], scale: float, mirrored: bool
) -> None:
    x, y = points(seed, 60)
    homography = rigid(angle, scale, shift, mirrored)
    homography[2, :2] = [3e-5, -2e-5]
    truths = {
        "shift": Transform.from_matrix(rigid(0.0, 1.0, shift, False)),
        "euclidean": Transform.from_matrix(rigid(angle, 1.0, shift, mirrored)),
        "similarity": Transform.from_matrix(rigid(angle, scale, shift, mirrored)),
        "affine": Transform.from_matrix(
            rigid(angle, scale, shift, mirrored) @ np.array([[1, 0.1, 0], [0, 0.9, 0], [0, 0, 1]])
        ),
        "homography": Transform.from_matrix(homography, "homography"),
    }
    for model, truth in truths.items():
        fit = fit_transform(x, y, *truth(x, y), model=model, domain=DOMAIN)
        assert fit.model == model
        assert np.hypot(*np.subtract(fit(x, y), truth(x, y))).max() < 1e-6, model


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(2, 5), st.sampled_from([80, 900]))
def test_polynomials_recover_themselves_exactly(seed: int, degree: int, n: int) -> None:
    truth = bent(seed, degree)
    x, y = points(seed, n)
    fit = fit_transform(x, y, *truth(x, y), model="polynomial", degree=degree, domain=DOMAIN)
    assert fit.degree == degree
    assert np.hypot(*np.subtract(fit(x, y), truth(x, y))).max() < 1e-6


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_wrong_pairs_do_not_bend_a_robust_fit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = Transform.from_matrix(rigid(20.0, 1.1, (40.5, -8.25), False))
    x, y = points(seed)
    X, Y = truth(x, y)
    X, Y = X + rng.normal(0, 0.1, len(x)), Y + rng.normal(0, 0.1, len(x))
    X[:40] += rng.uniform(5, 50, 40)
    fit, keep = fit_robust(x, y, X, Y, model="similarity")
    assert not keep[:40].any()
    assert keep[40:].mean() > 0.98
    # Four parameters from 160 stars of 0.1 px: about 0.02 px, here five times that.
    assert np.hypot(*np.subtract(fit(x, y), truth(x, y))).max() < 0.1


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_the_order_of_points_does_not_matter_to_an_exact_choice(seed: int) -> None:
    truth = bent(seed, 2)
    x, y = points(seed, 300)
    X, Y = truth(x, y)
    mixed = np.random.default_rng(seed).permutation(300)
    one = choose_model(x, y, X, Y, domain=DOMAIN).transform
    two = choose_model(x[mixed], y[mixed], X[mixed], Y[mixed], domain=DOMAIN).transform
    assert np.hypot(*np.subtract(one(x, y), two(x, y))).max() < 1e-6

"""The arithmetic of light curves, held against what libraries make of the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from difflapse.changes import _curve_kernels as kernels


@pytest.mark.parametrize(("n", "t", "k"), [(70, 40, 7), (5, 61, 61), (300, 190, 1)])
def test_nearest_points_are_those_of_a_tree(n, t, k):
    rng = np.random.default_rng(n)
    place, among = rng.normal(0, 1, (n, 4)), rng.normal(0, 1, (t, 4))
    place[0] = 40.0  # far from all, and then near again
    _, wanted = cKDTree(among).query(place, k)
    found = kernels.nearest(place, np.ascontiguousarray(among.T), k)
    assert np.array_equal(found, np.sort(np.reshape(wanted, (n, k)), axis=1))


def test_of_equally_near_points_so_many_are_taken_as_are_asked_for():
    among = np.array([[0.0, 1.0, -1.0, 0.0, 0.0, 5.0], [0.0, 0.0, 0.0, 1.0, -1.0, 0.0]])
    found = kernels.nearest(np.zeros((2, 2)), among, 3)
    assert found.tolist() == [[0, 1, 2], [0, 1, 2]]


def test_a_star_is_left_out_of_the_mean_of_its_neighbours():
    near = np.array([[0, 1, 2], [1, 2, 3]])
    values = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [9.0, 90.0]])
    weight = np.array([[1.0, 1.0], [1.0, 3.0], [1.0, 1.0], [2.0, 0.0]])
    mean = kernels.mean_of(near, np.array([1, -1]), values, weight)
    assert np.allclose(mean, [[2.0, 20.0], [(2 + 3 + 18) / 4, (60 + 30) / 4]])


def test_a_fit_is_that_of_least_squares_but_for_what_lies_far_off():
    rng = np.random.default_rng(4)
    terms = np.vstack([np.ones(400), rng.uniform(-1, 1, (5, 400))])
    true = np.array([-3.0, 0.2, 0.5, -0.1, 0.0, 0.7])
    weight = rng.uniform(0.5, 2.0, 400) / 0.01**2
    values = true @ terms + rng.normal(0, 1, 400) / np.sqrt(weight)
    values[::40] += 3.0
    weight[7] = 0.0
    model = np.empty(400)
    found = kernels.fit_frame(terms, values, weight, model)
    # 390 values of 0.01 and terms of rms 0.58: 0.0009 a term.
    assert np.all(np.abs(found - true) < 0.004)
    assert np.allclose(model, found @ terms, rtol=0, atol=1e-12)
    good = np.arange(400) % 40 > 0
    assert np.std((values - model)[good] * np.sqrt(weight)[good]) == pytest.approx(1, abs=0.15)


def test_too_few_values_tell_no_more_than_their_median():
    terms = np.vstack([np.ones(9), np.linspace(-1, 1, 9), np.linspace(-1, 1, 9) ** 2])
    weight = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    values = np.array([0.5, 0.25, 1.0, 0.75, 2.0, 9.0, 9.0, 9.0, 9.0])
    model = np.empty(9)
    assert kernels.fit_frame(terms, values, weight, model).tolist() == [0.75, 0.0, 0.0]
    assert np.all(model == 0.75)


def test_the_sensors_terms_add_up_to_what_is_made_of_them_without_laying_them_out():
    rng = np.random.default_rng(6)
    n, degree = 300, 4
    phase = rng.uniform(0, 2 * np.pi, (2, n))
    trig = np.stack([np.cos(phase[0]), np.sin(phase[0]), np.cos(phase[1]), np.sin(phase[1])])
    trig = trig.astype(np.float32)
    u, v = rng.uniform(-1, 1, (2, n)).astype(np.float32)
    terms = np.empty((14 + 84, n), np.float32)
    kernels.lay_terms(trig, u, v, np.float32(0.3), degree, terms)
    assert np.allclose(terms[0], v) and np.allclose(terms[13], u**4)
    assert np.allclose(terms[14 + 4 * 7], np.cos(phase.sum(axis=0)), atol=1e-6)
    coefficients = rng.normal(0, 0.01, len(terms))
    out = np.full(n, 0.5)
    kernels.add_sensor(trig, u, v, 0.3, degree, coefficients, out)
    assert np.allclose(out, 0.5 + coefficients @ terms.astype(float), rtol=0, atol=1e-7)
    assert np.allclose(kernels.combine(coefficients, terms), coefficients @ terms.astype(float), atol=1e-12)

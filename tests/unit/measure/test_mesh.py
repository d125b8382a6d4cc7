"""Meshes: what varies slowly is the same on nodes and on pixels."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.measure.mesh import (
    at_pixels,
    at_places,
    constant,
    image,
    line,
    mean,
    nodes,
    part_of_line,
    resample,
    window,
)
from difflapse.model import ProductGrid

SHAPE = (131, 203)


def sloped(shape: tuple[int, int], spacing: int) -> np.ndarray:
    """2 + 0.5 i - 0.25 j on the nodes of a mesh."""
    gi, gj = nodes(shape, spacing)
    return (2 + 0.5 * gi[None, :] - 0.25 * gj[:, None])[None].astype(np.float32)


@pytest.mark.parametrize("spacing", [16, 64, 500])
@pytest.mark.parametrize("shape", [SHAPE, (40, 41), (9, 300)])
def test_a_slope_is_the_same_at_every_pixel(shape: tuple[int, int], spacing: int) -> None:
    j, i = np.indices(shape)
    assert np.abs(image(sloped(shape, spacing)[0], shape) - (2 + 0.5 * i - 0.25 * j)).max() < 1e-4


def test_nodes_reach_from_edge_to_edge() -> None:
    gi, gj = nodes(SHAPE, 32)
    assert (gi[0], gi[-1], gj[0], gj[-1]) == (0, SHAPE[1] - 1, 0, SHAPE[0] - 1)
    assert (len(gi), len(gj)) == (SHAPE[1] // 32 + 1, SHAPE[0] // 32 + 1)


def test_a_row_is_a_row_of_the_image() -> None:
    mesh = np.random.default_rng(1).normal(0, 1, (5, 7)).astype(np.float32)
    whole = image(mesh, SHAPE)
    row = np.empty(SHAPE[1], np.float32)
    for j in (0, 17, 60, SHAPE[0] - 1):
        line(mesh, float(j), SHAPE[0], row)
        assert np.array_equal(row, whole[j])
    corners = whole[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert np.allclose(corners, mesh[[0, 0, -1, -1], [0, -1, 0, -1]], atol=1e-5)


@pytest.mark.parametrize("spacing", [8, 16, 90])
def test_another_spacing_is_the_same_quantity(spacing: int) -> None:
    fine = resample(sloped(SHAPE, 40), SHAPE, spacing)
    assert np.abs(image(fine[0], SHAPE) - image(sloped(SHAPE, 40)[0], SHAPE)).max() < 1e-3


def test_a_place_between_pixels_has_a_value_and_one_beyond_the_edge_that_of_the_edge() -> None:
    x, y = np.array([0.0, 17.3, 201.9, -5.0, 230.0]), np.array([130.0, 64.25, 0.4, 7.5, 140.0])
    inside = np.clip(x, 0, SHAPE[1] - 1), np.clip(y, 0, SHAPE[0] - 1)
    found = at_places(sloped(SHAPE, 40), SHAPE, x, y)
    assert found.shape == (1, 5)
    assert np.abs(found[0] - (2 + 0.5 * inside[0] - 0.25 * inside[1])).max() < 1e-4


def test_a_constant_is_constant_and_its_own_mean() -> None:
    mesh = constant([1.5, 2.5, -3.0])
    assert mesh.shape == (3, 2, 2)
    assert np.allclose(mean(mesh), [1.5, 2.5, -3.0])
    assert np.all(image(mesh[1], (7, 9)) == 2.5)


@pytest.mark.parametrize("step", [1, 2])
def test_a_window_of_a_mesh_is_the_same_quantity(step: int) -> None:
    """A plane, at a fractional place; beyond the whole it stays as at the edge."""
    whole = ProductGrid((200, 330), step)
    part = ProductGrid((80, 120), step, (step * 100.25, step * 40.6))
    gi, gj = nodes(whole.shape, 64)
    mesh = np.stack([1 + 0.01 * gi + 0.02 * gj[:, None], 3 - 0.005 * gi + 0 * gj[:, None]]).astype(np.float32)
    cut = window(mesh, whole, part)
    j, i = np.indices(part.shape)
    got = np.stack([image(m, part.shape) for m in cut])
    assert np.abs(got[0] - (1 + 0.01 * (i + 100.25) + 0.02 * (j + 40.6))).max() < 1e-4
    assert np.abs(got[1] - (3 - 0.005 * (i + 100.25))).max() < 1e-4
    outside = window(mesh, whole, ProductGrid((80, 120), step, (-step * 300.0, step * 20.0)))
    assert np.allclose(outside[1], 3.0, atol=1e-6)


def test_a_part_of_a_line_is_that_of_the_line() -> None:
    mesh = np.random.default_rng(3).normal(5, 2, (4, 7)).astype(np.float32)
    whole, part = np.empty(SHAPE[1], np.float32), np.empty(60, np.float32)
    line(mesh, 47.5, SHAPE[0], whole)
    part_of_line(mesh, 47.5, SHAPE[0], SHAPE[1], 88, part)
    assert np.array_equal(part, whole[88:148])


def test_a_mesh_is_read_at_any_pixels() -> None:
    j, i = np.array([0.0, 3.5, 130.0]), np.array([1.5, 77.0])
    found = at_pixels(sloped(SHAPE, 32), SHAPE, j, i)
    assert found.shape == (1, 3, 2)
    assert np.allclose(found[0], 2 + 0.5 * i - 0.25 * j[:, None], atol=1e-4)

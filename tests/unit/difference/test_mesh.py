"""Meshes: the same quantity over another window."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.difference.mesh import image, nodes, window
from difflapse.model import ProductGrid


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

"""Beside saturated pixels: each ring errs as the frame shows, and what is too near or unknown is not believed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from difflapse.changes import beside
from difflapse.changes.beside import RINGS
from difflapse.model import ProductGrid, bits
from difflapse.model.sightings import BLEED, STAR, Sightings

SHAPE = (240, 330)
GRID = ProductGrid(SHAPE, 2, (6, 4))


def saturated(every: int = 30) -> np.ndarray:
    """Cores of 5 x 4 pixels, and other bits that are no cores."""
    mask = np.zeros(SHAPE, np.uint8)
    for j in range(10, SHAPE[0] - 8, every):
        for i in range(12, SHAPE[1] - 8, every):
            mask[j : j + 4, i : i + 5] = bits.SATURATED
    mask[::7, ::11] |= bits.DEFECT
    return mask


def points(i: list[float], j: list[float], snr: float) -> Sightings:
    x, y = GRID.to_native(np.array(i), np.array(j))
    n = len(i)
    return Sightings(np.zeros(n, np.int32), x, y, np.full(n, snr), np.full(n, 2.8), np.zeros(n, np.int32))


@pytest.mark.parametrize("fwhm", [1.4, 2.3])
def test_rings_are_those_of_distances_from_saturated_pixels(fwhm: float) -> None:
    mask = saturated()
    away = cv2.distanceTransform(
        ((mask & bits.SATURATED) == 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )
    wanted = np.minimum((away / (0.5 * fwhm) + 1e-4).astype(int), RINGS)
    ring = beside.rings(mask, fwhm)
    # A pixel on a ring's very edge may fall to either side.
    assert np.mean(ring != wanted) < 1e-3
    assert set(np.unique(ring)) == set(range(RINGS + 1))
    assert (beside.rings(np.zeros(SHAPE, np.uint8), fwhm) == RINGS).all()


def errors(noise: np.ndarray, mask: np.ndarray, fwhm: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Errors of a frame of unit noise, `noise` times as much in each ring; light that is twice as bright errs twice."""
    ring = beside.rings(mask, fwhm)
    light = np.zeros(SHAPE, np.uint8)
    light[:, 170:] = 1
    scatter = np.array([1.0, 2.0])
    snr = np.random.default_rng(5).normal(size=SHAPE) * np.append(noise, 1.0)[ring] * scatter[light]
    return ring, beside.errors(snr.astype(np.float32), ring, light, scatter)


def test_a_ring_errs_as_the_frame_shows_beyond_what_light_as_bright_does() -> None:
    noise = np.array([9.0, 9.0, 6.0, 4.0, 2.5, 1.0])
    _, own = errors(noise, saturated())
    assert np.isinf(own[:2]).all()
    assert own[2:RINGS] == pytest.approx(noise[2:], rel=0.12)
    assert own[RINGS] == 1


def test_where_few_pixels_tell_nothing_is_believed() -> None:
    """One core of a single pixel: 20 pixels or fewer to a ring."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[100, 120] = bits.SATURATED
    _, own = errors(np.ones(RINGS), mask, 1.4)
    assert np.isinf(own[:RINGS]).all()


def test_sightings_count_by_the_error_of_their_ring() -> None:
    """S/N 10 beside a core whose rings err by 4 and 1.6, on its rim, and far from it."""
    mask = saturated(60)
    ring = beside.rings(mask, 2.0)
    error = np.array([np.inf, np.inf, 4.0, 4.0, 1.6, 1.6, 1.0])
    judged = beside.by_ring(points([79.6, 81.3, 77.5, 100.0], [72.0] * 4, 10.0), ring, error, GRID, 4.5)
    assert ring[72, [80, 81, 78, 100]].tolist() == [4, 5, 2, RINGS]
    assert judged.snr == pytest.approx([6.25, 6.25, 2.5, 10.0])
    assert judged.flags.tolist() == [0, 0, STAR, 0]
    inner = beside.by_ring(points([77.0], [72.0], 10.0), ring, error, GRID, 4.5)
    assert inner.flags.tolist() == [BLEED]
    assert inner.snr == pytest.approx([10.0])

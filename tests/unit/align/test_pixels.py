"""Features and correlation on pictures whose shift is known to a fraction of a pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from difflapse.align import features, phase
from difflapse.align.features import stretch
from difflapse.align.pixels import measure_tiles
from difflapse.align.view import AlignOptions, Reduced, View
from difflapse.errors import AlignError
from difflapse.model import FrameFacts, Stars, Transform

STEP, OFFSET = 4.0, 1.5
SIZE = (330, 470)


def terrain(dx: float, dy: float, noise: float = 0.02, seed: int = 1, disc: float = 0.0) -> Reduced:
    """A landscape seen (dx, dy) reduced pixels further left and up, with its own noise and bad block."""
    rng = np.random.default_rng(0)
    ny, nx = SIZE
    gy, gx = np.mgrid[0:ny, 0:nx].astype(float)
    data = np.zeros(SIZE)
    for _ in range(160):
        kx, ky = rng.normal(0, 0.25, 2)
        data += np.sin(kx * (gx + dx) + ky * (gy + dy) + rng.uniform(0, 6.28)) / np.sqrt(160)
    if disc:
        inside = np.hypot(gx + dx - 235, gy + dy - 165) < disc
        data = np.where(inside, 8 + data, 0)
    data += np.random.default_rng(seed + int(100 * abs(dx))).normal(0, noise, SIZE)
    mask = np.zeros(SIZE, bool)
    mask[100:104, 200:204] = True
    data[mask] = 0
    return Reduced(data.astype(np.float32), mask, STEP, OFFSET)


def view(picture: Reduced) -> View:
    return View(FrameFacts("", "f", 0, (SIZE[0] * 4, SIZE[1] * 4)), Stars.empty(), lambda: picture)


@pytest.mark.parametrize("method", [features.find, phase.find])
@pytest.mark.parametrize("shift", [(3.3, -7.7), (0.4, 0.25), (61.5, 40.25)])
def test_fractions_of_a_reduced_pixel(method: object, shift: tuple[float, float]) -> None:
    result = method(view(terrain(*shift)), view(terrain(0.0, 0.0)), AlignOptions())  # type: ignore[operator]
    # Seen (dx, dy) further left: frame (x, y) is reference (x, y) + (dx, dy).
    cx, cy = result.transform(900.0, 650.0)
    # A tenth of a reduced pixel, 0.4 native, is what a parabola through a peak is good for.
    assert float(cx) - 900 == pytest.approx(shift[0] * STEP, abs=0.4)
    assert float(cy) - 650 == pytest.approx(shift[1] * STEP, abs=0.4)
    assert result.rms_pix < STEP


@pytest.mark.parametrize("method", [features.find, phase.find])
def test_a_planet_on_black_sky(method: object) -> None:
    shift = (-12.4, 9.6)
    result = method(  # type: ignore[operator]
        view(terrain(*shift, disc=110.0)), view(terrain(0.0, 0.0, disc=110.0)), AlignOptions()
    )
    cx, cy = result.transform(900.0, 650.0)
    assert float(cx) - 900 == pytest.approx(shift[0] * STEP, abs=0.8)
    assert float(cy) - 650 == pytest.approx(shift[1] * STEP, abs=0.8)


@pytest.mark.parametrize("method", [features.find, phase.find])
def test_noise_is_refused(method: object) -> None:
    rng = np.random.default_rng(3)
    pictures = [
        Reduced(rng.normal(0, 1, SIZE).astype(np.float32), np.zeros(SIZE, bool), STEP, OFFSET)
        for _ in range(2)
    ]
    with pytest.raises(AlignError) as caught:
        method(view(pictures[0]), view(pictures[1]), AlignOptions())  # type: ignore[operator]
    assert caught.value.facts["found"] < caught.value.facts["needed"]  # type: ignore[operator]


def test_a_landscape_turned_over_is_recognised() -> None:
    picture = terrain(0.0, 0.0)
    over = Reduced(
        np.ascontiguousarray(picture.data[:, ::-1]), np.ascontiguousarray(picture.mask[:, ::-1]), STEP, OFFSET
    )
    result = features.find(view(over), view(picture), AlignOptions())
    assert result.transform.mirrored
    cx, _ = result.transform(100.0, 650.0)
    assert float(cx) == pytest.approx((SIZE[1] - 1) * STEP + 2 * OFFSET - 100, abs=0.6)


def test_tiles_tell_the_sign_of_what_is_left_over() -> None:
    tiles = measure_tiles(terrain(1.5, -0.75), terrain(0.0, 0.0), Transform.identity())
    left = np.median(tiles.reference - tiles.frame, axis=0)
    assert left == pytest.approx([1.5 * STEP, -0.75 * STEP], abs=0.3)
    assert tiles.looked_at >= 15


def test_pictures_of_unlike_scale_are_not_correlated() -> None:
    a = terrain(0.0, 0.0)
    small = Reduced(cv2.resize(a.data, None, fx=0.5, fy=0.5), a.mask[::2, ::2], 8.0, 3.5)
    with pytest.raises(AlignError, match="8"):
        phase.find(view(small), view(a), AlignOptions())


def test_stretch_is_8_bit_and_masks_bad_pixels() -> None:
    image, usable = stretch(terrain(0.0, 0.0))
    assert image.dtype == np.uint8
    assert image.std() > 10
    assert not usable[100:104, 200:204].any()
    assert (usable > 0).mean() > 0.99


def test_an_unknown_detector_is_named() -> None:
    with pytest.raises(ValueError, match="surf"):
        features.find(view(terrain(0, 0)), view(terrain(0, 0)), AlignOptions(detector="surf"))

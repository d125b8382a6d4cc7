"""Sensor defects: hot and dead pixels are found, stars are not, wherever the sky moves or stands still."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from difflapse import synth
from difflapse.measure import Defects, channel_levels, find_defects
from difflapse.synth import NightSpec, truth_of
from difflapse.synth.night import Mount, _defects

SHAPE = (520, 780)
STILL = Mount(rate_arcsec_s=0.0, polar_deg=0.0, periodic_arcsec=0.0, jitter_arcsec=0.0)
CREEPING = replace(STILL, rate_arcsec_s=0.117)
"""A drift of 1.7 px from frame to frame: less than a star's width."""


def night(mosaic: str, frames: int, mount: Mount | None, hot: int) -> NightSpec:
    spec = synth.preset("panoptes", frames=frames, shape=SHAPE, seed=5, clouds=0, streaks=0)
    return replace(
        spec,
        mount=mount or spec.mount,
        sensor=replace(spec.sensor, mosaic=mosaic, hot_per_18mpx=hot, dead_per_18mpx=hot // 20),
    )


def pixels(spec: NightSpec) -> list[np.ndarray]:
    return [synth.render(spec, k) for k in range(spec.frames)]


def as_map(found: Defects, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    out = np.zeros(shape, bool)
    out[found.y, found.x] = True
    return out


@pytest.mark.parametrize("frames, share", [(6, 0.9), (3, 0.65), (2, 0.65)])
@pytest.mark.parametrize("mosaic", ["GBRG", ""])
def test_hot_pixels_above_five_sigma_are_found(mosaic: str, frames: int, share: float) -> None:
    """Those that are always on; in few frames stars may not have moved, and pairs of defects are spared."""
    spec = night(mosaic, frames, None, hot=20000)
    images = pixels(spec)
    found = as_map(find_defects(images, mosaic))
    sensor = _defects(spec)
    noise = max(channel_levels(images[0], mosaic, 2048.0)[1])
    steady = (sensor.hot_adu > 5 * noise) & ~sensor.hot_flickers
    assert steady.sum() > 250
    assert found[sensor.hot_y, sensor.hot_x][steady].mean() >= share
    dead = sensor.flat < 0.7
    assert found[dead].mean() > 0.85
    # Besides them, hardly anything: in 400,000 pixels, 900 of them in stars.
    known = dead | (sensor.flat < 0.9)
    known[sensor.hot_y, sensor.hot_x] = True
    assert (found & ~known).sum() <= 2


@pytest.mark.parametrize(
    "mount, frames",
    [
        pytest.param(None, 6, id="drift"),
        pytest.param(STILL, 6, id="no drift"),
        pytest.param(CREEPING, 2, id="1.7 px in two frames"),
        pytest.param(STILL, 2, id="no drift in two frames"),
    ],
)
@pytest.mark.parametrize("fwhm", [(1.3, 1.4), (2.0, 2.2)])
@pytest.mark.parametrize("mosaic", ["GBRG", ""])
def test_stars_are_no_defects(
    mosaic: str, fwhm: tuple[float, float], mount: Mount | None, frames: int
) -> None:
    """Of the 900 in the field, undersampled or not, whether or not they move."""
    spec = night(mosaic, frames, mount, hot=0)
    spec = replace(spec, air=replace(spec.air, fwhm_pix=fwhm))
    assert len(find_defects(pixels(spec), mosaic)) <= 1


def test_the_creeping_mount_creeps_by_1_7_px() -> None:
    spec = night("", 2, CREEPING, hot=0)
    x, y = truth_of(spec).to_reference(1, 0, 390.0, 260.0)
    assert 1.4 < np.hypot(x - 390, y - 260) < 2.0


def flat_frames(n: int = 4, dtype: str = "uint16") -> list[np.ndarray]:
    rng = np.random.default_rng(12)
    return [np.round(rng.normal(2400, 15, (300, 420))).astype(dtype) for _ in range(n)]


@pytest.mark.parametrize("mosaic", ["GBRG", ""])
@pytest.mark.parametrize("dtype", ["uint16", ">i2", "float32"])
def test_a_planted_defect_is_found_at_its_place(mosaic: str, dtype: str) -> None:
    frames = flat_frames(dtype=dtype)
    hot, dead = [(7, 290), (200, 133), (419, 0), (3, 2)], [(211, 57), (0, 299)]
    for frame in frames:
        for x, y in hot:
            frame[y, x] += 400
        for x, y in dead:
            frame[y, x] = 2048
    before = [f.copy() for f in frames]
    found = find_defects(frames, mosaic)
    assert set(hot + dead) <= set(zip(found.x.tolist(), found.y.tolist(), strict=True))
    assert len(found) <= len(hot + dead) + 3
    assert all(np.array_equal(a, b) for a, b in zip(frames, before, strict=True))


def test_frames_scaled_to_one_have_the_same_defects() -> None:
    frames = flat_frames()
    for frame in frames:
        frame[133, 200] += 400
    small = [(f / 65535).astype(np.float32) for f in frames]
    found = find_defects(small, "GBRG")
    assert (200, 133) in set(zip(found.x.tolist(), found.y.tolist(), strict=True))
    assert len(found) < 5


def test_what_is_there_in_one_frame_only_is_no_defect() -> None:
    frames = flat_frames()
    frames[2][133, 200] += 5000  # a cosmic ray
    assert len(find_defects(frames, "GBRG")) <= 2


def test_levels_that_change_from_frame_to_frame_do_not_matter() -> None:
    frames = flat_frames()
    for k, frame in enumerate(frames):
        frame[133, 200] += 400
        frame += np.uint16(300 * k)
    found = find_defects(frames, "")
    assert (200, 133) in set(zip(found.x.tolist(), found.y.tolist(), strict=True))
    assert len(found) < 5


@pytest.mark.parametrize("rows, columns", [(slice(0, 3), None), (None, slice(-5, None))])
def test_dead_borders_are_left_out_whole(rows: slice | None, columns: slice | None) -> None:
    """Cameras' masked edges; what remains is untouched."""
    border = np.zeros((300, 420), bool)
    if rows is not None:
        border[rows] = True
    if columns is not None:
        border[:, columns] = True
    frames = flat_frames()
    for frame in frames:
        frame[border] -= 350
    found = as_map(find_defects(frames, ""), (300, 420))
    assert found[border].all()
    assert found[~border].sum() <= 2
    inner = find_defects(frames, "").inner((300, 420))
    assert inner == ((0, 419, 3, 299) if rows is not None else (0, 414, 0, 299))


@pytest.mark.parametrize("depth", [0.3, 0.5])
def test_vignetting_is_no_dead_border(depth: float) -> None:
    y, x = np.indices((300, 420))
    r2 = ((x - 209.5) ** 2 + (y - 149.5) ** 2) / (209.5**2 + 149.5**2)
    frames = [np.round(f - 400.0 * depth * r2).astype(np.uint16) for f in flat_frames()]
    assert len(find_defects(frames, "")) <= 3


@pytest.mark.parametrize("mosaic", ["GBRG", ""])
def test_one_frame_or_none_tells_nothing(mosaic: str) -> None:
    assert len(find_defects([], mosaic)) == 0
    assert len(find_defects(flat_frames(1), mosaic)) == 0


@pytest.mark.parametrize("mosaic", ["GBRG", ""])
@pytest.mark.parametrize("value", [0, 512])
def test_constant_frames_have_no_defects(mosaic: str, value: int) -> None:
    assert len(find_defects([np.full((120, 150), value, np.uint16)] * 3, mosaic)) == 0

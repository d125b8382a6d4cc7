"""Where a camera cuts: seen by frames whose pixels pile up, and not by a brightest star, a disc or a stuck column."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from difflapse.measure import clip_level, common_clip_level, is_plausible, saturation_of
from difflapse.model import FrameFacts

SHAPE = (400, 610)


def stars(seed: int, cut: float, brightest: float = 60_000.0, sky: float = 300.0) -> np.ndarray:
    """A field of Gaussian stars of many magnitudes that drifts with the seed; nothing above `cut`."""
    rng = np.random.default_rng(9)
    data = np.random.default_rng(seed).normal(sky, 9, SHAPE)
    n = 300
    x, y = rng.uniform(8, SHAPE[1] - 8, n) + 0.37 * seed, rng.uniform(8, SHAPE[0] - 8, n) + 0.11 * seed
    peak = np.minimum(60 * (1 + rng.pareto(0.6, n)), brightest)
    for a, b, p in zip(x, y, peak, strict=True):
        i, j = int(a), int(b)
        v, u = np.mgrid[max(j - 7, 0) : j + 8, max(i - 7, 0) : i + 8]
        inside = (v < SHAPE[0]) & (u < SHAPE[1])
        v, u = v[inside], u[inside]
        data[v, u] += p * np.exp(-((u - a) ** 2 + (v - b) ** 2) / (2 * 1.1**2))
    return np.minimum(np.maximum(data, 0), cut)


def night(cut: float, kind: str = "uint16", **more: float) -> list[np.ndarray]:
    return [stars(k, cut, **more).astype(kind) for k in range(6)]


@pytest.mark.parametrize(
    "cut, kind", [(4095, "uint16"), (16383, "int32"), (13583.25, "float32"), (255, "uint8")]
)
def test_what_all_frames_are_cut_at_is_where_the_camera_cuts(cut: float, kind: str) -> None:
    sky = 40.0 if kind == "uint8" else 300.0
    assert common_clip_level(night(cut, kind, sky=sky)) == cut


def test_a_brightest_star_is_no_level_however_bright() -> None:
    """Nothing is cut: values of stars' tops differ, and so do frames."""
    for seed in range(3):
        frames = [stars(10 * seed + k, 1e9, 45_000).astype(np.uint16) for k in range(6)]
        assert common_clip_level(frames) is None


def test_what_one_frame_shows_alone_is_not_the_cameras() -> None:
    """A burnt-in label, or a block that was filled."""
    frames = night(1e9, brightest=45_000)
    frames[2][100:106, 200:230] = 65_535
    assert common_clip_level(frames) is None
    assert clip_level(frames[2]) == 65_535


def test_each_frame_may_have_its_own_zero() -> None:
    """An overscan of some ADU was taken off each: the level lies below the lowest, so that none escapes."""
    zeros = [301.5, 303.0, 299.75, 302.25, 300.0, 304.5]
    frames = [f.astype(np.float32) - np.float32(z) for f, z in zip(night(16383), zeros, strict=True)]
    level = common_clip_level(frames)
    assert level is not None
    lowest = 16383 - max(zeros)
    assert lowest - 6 < level <= lowest


def test_a_few_pixels_above_do_not_hide_where_most_are_cut() -> None:
    """As on a real PANOPTES frame: 306 pixels have 13583, and one each 13639, 13650 and 13863."""
    frames = night(13583)
    for k, frame in enumerate(frames):
        frame[17, 30 + 9 * k], frame[200, 311], frame[5, 5] = 13639, 13650, 13863
    assert common_clip_level(frames) == 13583


def test_a_stuck_column_that_the_sensor_is_known_for_is_no_level() -> None:
    frames = night(1e9, brightest=20_000)
    for frame in frames:
        frame[:, 333] = 30_000
    assert common_clip_level(frames) == 30_000
    stuck = np.arange(SHAPE[0]) * SHAPE[1] + 333
    assert common_clip_level(frames, stuck) is None


def test_a_disc_of_one_brightness_is_no_level() -> None:
    """Jupiter, noise of 4 ADU: its brightest pixels lie on both sides of the commonest."""
    y, x = np.indices(SHAPE)
    disc = np.where((x - 300) ** 2 + (y - 200) ** 2 < 40**2, 9000.0, 300.0)
    frames = [np.random.default_rng(k).normal(disc, 4).astype(np.uint16) for k in range(4)]
    assert common_clip_level(frames) is None


def test_blank_frames_and_none_tell_nothing() -> None:
    assert common_clip_level([]) is None
    assert common_clip_level([np.full(SHAPE, 7, np.uint16)] * 3) is None
    assert (
        common_clip_level(
            [np.random.default_rng(k).normal(300, 1.2, SHAPE).astype(np.uint8) for k in range(3)]
        )
        is None
    )


FACTS = FrameFacts("", "f", 0, SHAPE, dtype="uint16", saturation_adu=65535.0, saturation_source="type")


@pytest.mark.parametrize(
    "known, cut, level",
    [
        (65535.0, 4095.0, 4095.0),
        (13500.0, 13583.0, 13500.0),
        (4095.0, None, 4095.0),
        (None, 812.5, 812.5),
        (None, None, None),
    ],
)
def test_the_lower_of_header_and_frames_is_in_force(
    known: float | None, cut: float | None, level: float | None
) -> None:
    assert saturation_of(replace(FACTS, saturation_adu=known), cut) == level


def test_a_header_below_the_sky_cannot_be_true() -> None:
    """12 bits, stored times 16: the header counts in units of its own."""
    frames = [16 * f for f in night(4095)]
    assert float(np.median(frames[0])) > 4095
    header = replace(FACTS, saturation_adu=4095.0, saturation_source="header")
    assert not is_plausible(header, frames)
    assert saturation_of(header, common_clip_level(frames), header_holds=False) == 65520
    assert saturation_of(header, None, header_holds=False) == 65535
    # A day frame that is cut all over is no argument, nor is the level of a camera that is cut a little higher.
    assert is_plausible(header, [np.full(SHAPE, 4095, np.uint16)])
    assert is_plausible(replace(header, saturation_adu=13500.0), night(13583))

"""Refusing: each reason speaks where its cause is, and leaves what is on the sky alone."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from difflapse.changes import refuse
from difflapse.changes.starlight import Starlight, find_starlight, scatter_by_light
from difflapse.measure.mesh import image
from difflapse.model import ProductGrid, bits
from difflapse.model.sightings import (
    BLEED,
    COSMIC,
    DIPOLE,
    EDGE,
    HOT,
    MOSAIC,
    NEGATIVE,
    REFLECTION,
    REFUSED,
    ROWS,
    STAR,
    Sightings,
)

SHAPE = (300, 440)
GRID = ProductGrid(SHAPE, 2, (0, 0))
FWHM = 1.4


def points(*rows: tuple[float, float, float], frame: int = 0, width: float = 2.8) -> Sightings:
    """Points at product pixels (i, j) with S/N."""
    i, j, snr = np.array(rows, float).T
    x, y = GRID.to_native(i, j)
    n = len(rows)
    return Sightings(np.full(n, frame, np.int32), x, y, snr, np.full(n, width), np.zeros(n, np.int32))


def test_residuals_at_stars_count_against_what_the_frame_shows_at_stars() -> None:
    """At bright stars the filtered map scatters by 5: 10 there is 2, and 10 on empty sky remains 10."""
    rng = np.random.default_rng(1)
    snr = rng.normal(size=SHAPE).astype(np.float32)
    light = np.zeros(SHAPE, np.uint8)
    light[:, 220:] = 6
    snr[:, 220:] *= 5
    none = np.zeros(0)
    starlight = Starlight(none, none, none, none, light)
    judged = refuse.by_starlight(points((100, 50, 10.0), (300, 50, 10.0)), snr, starlight, GRID)
    assert judged.snr == pytest.approx([10, 2], rel=0.08)
    assert list(judged.flags & STAR) == [0, STAR]


def test_scatter_is_each_sort_of_lights_own() -> None:
    rng = np.random.default_rng(2)
    bins = rng.integers(0, 4, 40_000).astype(np.uint8)
    width = np.array([1.0, 1.0, 2.0, 4.0])
    middle = np.array([0.0, 0.5, -1.0, 3.0])
    found = scatter_by_light(middle[bins] + width[bins] * rng.normal(size=len(bins)), bins)
    assert found[1][:4] == pytest.approx(width, rel=0.04)
    assert found[0][:4] == pytest.approx(middle, abs=0.15)


def test_edges_are_flagged_and_the_open_sky_is_not() -> None:
    """Nor a blank pixel; what is wide is no point beside saturated ones."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, :20] = bits.OUTSIDE
    mask[150:156, 300:304] = bits.SATURATED
    mask[80, 200] = bits.BLANK
    some = points((22, 100, 9), (296, 152, 9), (330, 152, 9), (202, 82, 9))
    assert list(refuse.by_mask(some, mask, GRID, FWHM).flags) == [EDGE, 0, 0, 0]
    wide = replace(some, width=np.full(4, 6.2))
    assert list(refuse.by_mask(wide, mask, GRID, FWHM).flags) == [EDGE, REFLECTION, 0, 0]


@pytest.mark.parametrize("saturated", [True, False])
def test_a_line_of_light_near_a_bright_star_is_a_spike_and_a_point_there_is_none(saturated: bool) -> None:
    mask, light = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    if saturated:
        mask[150:156, 300:304] = bits.SATURATED
    else:
        light[150:156, 300:304], light[:, 80:120] = 9, 5
    x, y = np.arange(SHAPE[1]), np.arange(SHAPE[0])[:, None]
    width = FWHM / 2.3548 * np.sqrt(2)
    snr = np.zeros(SHAPE, np.float32)
    for i, j in ((316, 152), (316, 160), (100, 152)):
        snr += 20 * np.exp(-((x - i) ** 2 + (y - j) ** 2) / (2 * width**2))
    # Two lines, one of them far from anything saturated.
    for first in (306, 90):
        snr += np.where((x > first) & (x < first + 20), -14 * np.exp(-((y - 140) ** 2) / (2 * width**2)), 0)
    rows = ((316, 152, 20), (316, 160, 20), (100, 152, 20), (316, 140, -14), (100, 140, -14))
    flagged = refuse.by_spike(points(*rows), snr.astype(np.float32), mask, light, GRID, FWHM)
    assert list(flagged.flags) == [0, 0, 0, BLEED, 0]


def on_sensor(x: np.ndarray, y: np.ndarray) -> Sightings:
    """Sightings that the sky carries over 40 pixels, at (x, y) of the sensor."""
    n = len(x)
    found = points(*((100 + 3 * k, 50 + 2 * k, 6.0) for k in range(n)))
    return replace(found, frame=np.arange(n, dtype=np.int32), x_frame=x, y_frame=y)


def test_what_rests_on_the_sensor_is_told_from_what_moves_with_the_sky_nearly() -> None:
    rng = np.random.default_rng(8)
    x, y = 345.2 + rng.normal(0, 0.2, 8), 40.8 + rng.normal(0, 0.2, 8)
    every = np.arange(8)
    assert refuse.stays_on_sensor(on_sensor(x, y), every)
    x[6], y[7] = 338.8, 31.4
    assert refuse.stays_on_sensor(on_sensor(x, y), every)
    # It drifts by a pixel a frame: no pixel of the sensor does.
    assert not refuse.stays_on_sensor(on_sensor(345.2 + every, np.full(8, 40.8)), every)


def test_a_restless_place_counts_against_its_sightings_and_what_comes_or_passes_does_not() -> None:
    """Noise of 6 sigma from frame to frame makes 12 of 2; a new star of half a night and a mover keep theirs."""
    rng = np.random.default_rng(9)
    series = rng.normal(size=(90, 5))
    series[:, 0] *= 6
    series[45:, 1] += 12
    series[7:9, 2] += 12
    series[:84, 3] = np.nan
    series[:, 3] *= 6
    series[:, 4] *= 3
    judged = refuse.by_place(points(*((50 * n, 50, 12.0) for n in range(1, 6))), 4.5, series)
    assert judged.snr[1:4] == pytest.approx([12, 12, 12])
    assert judged.snr[0] == pytest.approx(2, rel=0.3)
    assert judged.snr[4] == pytest.approx(4, rel=0.3)
    assert list(judged.flags[:4]) == [STAR, 0, 0, 0]


def test_light_and_dark_side_by_side_are_a_dipole_but_one_side_alone_is_not() -> None:
    found = points((100, 100, 9), (101.4, 100, -8), (200, 200, 30), (201.5, 200, -6), (300, 90, 9))
    light = np.ones(SHAPE, np.uint8)
    none = np.zeros(0)
    flagged = refuse.by_dipole(found, 2.1, Starlight(none, none, none, none, light), GRID)
    assert list(flagged.flags & DIPOLE) == [DIPOLE, DIPOLE, 0, DIPOLE, 0]
    # Where no star is, two sides are one thing that moves, seen twice in a running difference.
    flagged = refuse.by_dipole(found, 2.1, Starlight(none, none, none, none, 0 * light), GRID)
    assert not flagged.flags.any()


def native(seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(400, 15, (200, 260)).astype(np.float32)


def add_star(data: np.ndarray, x: float, y: float, light: float, fwhm: float) -> None:
    v, u = np.indices(data.shape)
    sigma = fwhm / 2.3548
    data += light / (2 * np.pi * sigma**2) * np.exp(-0.5 * ((u - x) ** 2 + (v - y) ** 2) / sigma**2)


@pytest.mark.parametrize("phase", [0.0, 0.3, 0.5])
def test_a_hot_pixel_is_a_spike_and_a_sharp_star_is_none(phase: float) -> None:
    data = native()
    add_star(data, 60 + phase, 70 + phase, 3000, 1.8)
    data[120, 180] += 700
    share, contrast = refuse.spikes(
        data, np.array([60 + phase, 180.4]), np.array([70 + phase, 119.7]), "GBRG"
    )
    assert share[0] < 0.5
    assert share[1] > 0.75
    assert np.all(contrast > 6)
    n = np.ones((3, 2))
    judged = refuse.by_native(points((30, 35, 20.0), (90, 60, 20.0)), share, contrast, 900 * n, 50 * n, 5 * n)
    assert list(judged.flags & COSMIC) == [0, COSMIC]


def test_light_in_one_colour_alone_is_not_of_the_sky() -> None:
    flux = np.array([[300.0, 800.0], [900.0, 10.0], [250.0, -5.0]])
    error, area = np.full((3, 2), 20.0), np.array([[5.0, 5.0], [10.0, 10.0], [5.0, 5.0]])
    share = np.full(2, 0.3)
    judged = refuse.by_native(points((30, 35, 20.0), (90, 60, 20.0)), share, 10 * share, flux, error, area)
    assert list(judged.flags & MOSAIC) == [0, MOSAIC]


def test_what_stays_on_the_sensor_while_the_sky_moves_is_hot() -> None:
    rng = np.random.default_rng(4)
    parts = []
    for k in range(5):
        drift = 3.7 * k
        sensor_x, sensor_y = np.array([101.0, 50.0 + drift]), np.array([77.0, 60.0])
        part = Sightings(
            np.full(2, k, np.int32),
            sensor_x - drift,
            sensor_y,
            np.full(2, 9.0),
            np.full(2, 2.1),
            np.zeros(2, np.int32),
            x_frame=sensor_x + rng.normal(0, 0.1, 2),
            y_frame=sensor_y + rng.normal(0, 0.1, 2),
            sharpness=np.array([0.6, 0.3]),
        )
        parts.append(part)
    judged = refuse.by_sensor(Sightings.joined(parts), 2.1)
    assert list(judged.flags) == [HOT, 0] * 5


def at_pixel(x: np.ndarray, y: np.ndarray, snr: float, seed: int, step: float = 3.7) -> Sightings:
    """A point on each of some frames at (x, y) of the sensor, star-like in shape, while the sky moves by `step`."""
    rng = np.random.default_rng(seed)
    n = len(x)
    frame = np.arange(n, dtype=np.int32)
    return Sightings(
        frame, x - step * frame, y + 0.3 * frame, np.full(n, snr), np.full(n, 2.1), np.zeros(n, np.int32),
        x_frame=x + rng.normal(0, 0.2, n), y_frame=y + rng.normal(0, 0.2, n), sharpness=np.full(n, 0.33),
    )  # fmt: skip


@pytest.mark.parametrize("snr, told", [(5.5, True), (30.0, False)])
def test_a_faint_pixel_that_is_met_at_more_places_than_chance_would_is_warm(snr: float, told: bool) -> None:
    """A strong point of a star's shape stays: its shape is known. So do faint ones that are spread at random."""
    rng = np.random.default_rng(11)
    area = 640.0 * 480.0
    warm = at_pixel(np.full(8, 201.3), np.full(8, 77.6), snr, 1)
    spread = at_pixel(rng.uniform(0, 640, 600), rng.uniform(0, 480, 600), 5.5, 2)
    judged = refuse.by_sensor(Sightings.joined([warm, spread]), 2.1, area)
    assert ((judged.flags[:8] & HOT) != 0).sum() == (8 if told else 0)
    assert not judged.flags[8:].any()


@pytest.mark.parametrize("drift, sensor", [((1.3, -0.6), True), ((-0.05, 0.05), False)])
def test_two_sightings_that_fit_one_pixel_and_no_place_of_the_sky_are_the_sensors(
    drift: tuple[float, float], sensor: bool
) -> None:
    """A pixel that was warm for two frames, S/N 10, while the sky moved by a pixel; and where it did not move nothing
    can be told. What is fixed on the sky is not the sensor's, whatever the sensor does.
    """
    rng = np.random.default_rng(7)
    at = np.arange(2)
    error = 0.12
    warm = Sightings(
        at.astype(np.int32),
        311.4 - drift[0] * at + rng.normal(0, error, 2),
        90.7 - drift[1] * at + rng.normal(0, error, 2),
        np.array([10.3, 9.8]), np.full(2, 2.1), np.zeros(2, np.int32),
        error=np.full(2, error),
        x_frame=302.2 + rng.normal(0, error, 2), y_frame=99.1 + rng.normal(0, error, 2),
    )  # fmt: skip
    assert refuse.rests_on_sensor(warm, at) == sensor
    assert refuse.stays_on_sensor(warm, at) == sensor
    star = replace(warm, x=warm.x_frame, y=warm.y_frame, x_frame=warm.x, y_frame=warm.y)
    assert not refuse.rests_on_sensor(star, at)


@pytest.mark.parametrize(
    "snr, flux, lacks",
    [
        ((5.8, 6.3), (5.0, -243.0), True),  # a bright star's wing
        ((5.8, 6.3), (610.0, -80.0), False),  # one of two spoilt, by a star in its ring
        ((-5.8, -6.3), (31.0, 480.0), True),  # darker, and brighter in its own pixels
        ((-5.8, -6.3), (-500.0, -480.0), False),
        ((5.8, -6.3), (5.0, -243.0), False),  # it shines and fades: no sign is its own
        ((5.8, 6.3), (np.nan, np.nan), False),
        ((5.8, 6.3), (np.nan, -243.0), True),
    ],
)
def test_what_its_own_pixels_contradict_lacks_light(
    snr: tuple[float, float], flux: tuple[float, float], lacks: bool
) -> None:
    """Among others, that are not asked."""
    place = points((20, 30, 5.0), (200, 30, snr[0]), (200, 30, snr[1]), (90, 90, -7.0))
    told = replace(place, flux=np.array([700.0, *flux, 900.0]), flux_err=np.array([90.0, 88.7, 91.5, 85.0]))
    assert refuse.lacks_light(told, np.array([1, 2])) == lacks


def test_how_sharp_a_point_is_its_own_pixels_tell_and_not_a_star_beside_it() -> None:
    """A pixel 4 px from a star ten times as bright."""
    data = native()
    add_star(data, 104.2, 120.3, 9000, 1.8)
    data[121, 100] += 250
    share, contrast = refuse.spikes(data, np.array([100.3]), np.array([120.8]), "")
    assert share[0] > 0.62
    assert contrast[0] > 6


@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_dark_and_rests_on_the_sensor_needs_no_shape(sign: int) -> None:
    """Neighbours of a hot pixel, filled too low, on three frames; a light as strong there has a star's shape."""
    three = at_pixel(np.full(3, 201.3), np.full(3, 77.6), sign * 15.0, 3, step=5.1)
    assert list(refuse.by_sensor(three, 2.1, 640.0 * 480.0).flags) == [0 if sign > 0 else HOT] * 3


def test_two_stars_that_pass_one_pixel_are_no_warm_pixel() -> None:
    """Eight faint sightings of two stars while the sky hardly moves: many frames, two places of the sky."""
    first = at_pixel(np.full(4, 201.3), np.full(4, 77.6), 5.5, 1, step=0.2)
    second = replace(first, frame=first.frame + 40, x=first.x - 60.0)
    both = Sightings.joined([first, second])
    assert np.ptp(both.x_frame) < 1
    assert not refuse.by_sensor(both, 2.1, 640.0 * 480.0).flags.any()


def test_the_more_points_a_night_has_the_more_must_meet_on_one_pixel() -> None:
    """Three of a hundred do not come together by chance, of twenty thousand they do all the time."""
    three = at_pixel(np.full(3, 201.3), np.full(3, 77.6), 5.5, 3, step=5.1)
    many = at_pixel(*np.random.default_rng(4).uniform(0, 480, (2, 20_000)), 5.5, 5)
    few = many.take(np.arange(100))
    area = 480.0 * 480.0
    assert (refuse.by_sensor(Sightings.joined([three, few]), 2.1, area).flags[:3] == HOT).all()
    judged = refuse.by_sensor(Sightings.joined([three, many]), 2.1, area)
    assert not judged.flags[:3].any()
    assert (judged.flags != 0).sum() < 30


def test_a_dead_border_is_an_edge_and_the_live_pixels_beside_it_are_none() -> None:
    """Columns 0 to 8 are dead; two widths of 2.5 px from there nothing is believed."""
    x, y = np.array([12.0, 15.5, 300.0, 638.0, 300.0]), np.array([100.0, 100.0, 3.0, 100.0, 240.0])
    five = Sightings(
        np.zeros(5, np.int32),
        x,
        y,
        np.full(5, 9.0),
        np.full(5, 2.5),
        np.zeros(5, np.int32),
        x_frame=x,
        y_frame=y,
    )
    assert list(refuse.by_border(five, (9, 639, 0, 479), 2.5).flags) == [EDGE, 0, EDGE, EDGE, 0]
    assert list(refuse.by_border(five, (0, 639, 0, 479), 2.5).flags) == [0, 0, EDGE, EDGE, 0]


def test_a_faint_line_along_the_rows_is_their_offset_a_bright_or_a_tilted_one_is_not() -> None:
    zero = np.zeros(3)
    lines = Sightings(
        np.zeros(3, np.int32), zero, zero, np.array([11.0, 60.0, 11.0]), zero + 2.8, np.zeros(3, np.int32),
        zero + 800, zero,
    )  # fmt: skip
    x = np.array([[3.0, 3.0, 3.0], [803.0, 803.0, 803.0]])
    y = np.array([[50.0, 50.0, 50.0], [53.0, 53.0, 120.0]])
    judged = refuse.by_rows(lines, x, y, 2, FWHM)
    assert list(judged.flags) == [ROWS, 0, 0]


def test_a_long_line_on_just_one_row_is_the_readouts_however_bright() -> None:
    """A satellite's leaves its row; a short one's ends are not known so well."""
    zero = np.zeros(3)
    lines = Sightings(
        np.zeros(3, np.int32), zero, zero, zero + 400.0, zero + 2.8, np.zeros(3, np.int32), zero + 800, zero
    )
    x = np.array([[21.0, 21.0, 21.0], [1053.0, 1053.0, 321.0]])
    y = np.array([[3.0, 3.0, 3.0], [3.8, 8.2, 3.1]])
    assert list(refuse.by_rows(lines, x, y, 2, FWHM).flags) == [ROWS, 0, 0]


def test_what_a_bright_streak_leaves_on_another_frame_is_its_echo() -> None:
    """Beside it on the next frame and far weaker: an echo; across it, or as bright, or further on: its own."""
    x, y = np.array([100.0, 140.0, 300.0, 100.0, 900.0]), np.array([100.0, 112.0, 0.0, 100.0, 500.0])
    x_end, y_end = (
        np.array([800.0, 700.0, 300.0, 800.0, 1400.0]),
        np.array([450.0, 398.0, 400.0, 450.0, 750.0]),
    )
    snr = np.array([100.0, 15.0, 15.0, 60.0, 15.0])
    frame = np.array([4, 5, 5, 6, 5], np.int32)
    streaks = Sightings(frame, x, y, snr, np.full(5, 2.1), np.zeros(5, np.int32), x_end, y_end)
    judged = refuse.by_echo(streaks, 2.1)
    assert list(judged.flags) == [0, NEGATIVE, 0, 0, 0]


def test_a_streak_keeps_how_steadily_it_shines() -> None:
    """Single native pixels are looked at for points only."""
    n = np.ones(2)
    both = Sightings(
        np.zeros(2, np.int32), n, n, 20 * n, 2 * n, np.zeros(2, np.int32),
        np.array([np.nan, 90.0]), np.array([np.nan, 40.0]), sharpness=np.array([np.nan, 0.9]),
    )  # fmt: skip
    share, nothing = np.array([0.3, np.nan]), np.full((1, 2), np.nan)
    judged = refuse.by_native(both, share, share, nothing, nothing, nothing)
    assert judged.sharpness == pytest.approx([0.3, 0.9])


def test_every_reason_is_refused_and_told() -> None:
    from difflapse.model.sightings import CUT, REASONS

    assert sum(REASONS) - CUT == REFUSED
    assert all(text and not text.endswith(".") for text in REASONS.values())


def test_the_stars_of_a_template_are_found_and_its_light_mapped() -> None:
    """Three colours; a star of S/N 60 on one frame is found to 0.15 product pixels with that S/N, to 10 %."""
    rng = np.random.default_rng(5)
    variance = np.array([140.0, 100.0, 150.0])
    template = rng.normal(0, np.sqrt(variance / 12)[:, None, None], (3, *SHAPE)).astype(np.float32)
    v, u = np.indices(SHAPE)
    sigma = FWHM / 2.3548
    shape = np.exp(-0.5 * ((u - 211.3) ** 2 + (v - 140.8) ** 2) / sigma**2) / (2 * np.pi * sigma**2)
    light = np.array([500.0, 1200.0, 700.0])
    template += (light[:, None, None] * shape).astype(np.float32)
    expected = (light / variance).sum() / np.sqrt((1 / variance).sum()) / (2 * np.sqrt(np.pi) * sigma)
    # Steeper than its noise: one value for the whole sky would not do.
    sky = np.array([[[90, 400], [700, 200]]], np.float32) * np.array([1, 1.5, 0.8], np.float32)[:, None, None]
    template += np.stack([image(s, SHAPE) for s in sky])
    found = find_starlight(template, sky, variance, np.full(3, 0.3), np.zeros(SHAPE, bool), GRID, FWHM)
    assert len(found) == 1
    x, y = GRID.to_native(211.3, 140.8)
    assert np.hypot(found.x[0] - x, found.y[0] - y) < 2 * 0.15
    assert found.snr[0] == pytest.approx(expected, rel=0.12)
    assert 0.2 * expected < found.gain[0] < found.snr[0]
    assert found.bins[141, 211] == np.ceil(np.log2(found.snr[0] / 5))
    assert found.bins[20, 20] == 0


def lines(frames: list[int], angles: list[float], snr: float = 9.0) -> Sightings:
    """A line of 300 px on each frame, at an angle in degrees."""
    way = np.radians(angles)
    n = len(frames)
    base = points(*((100.0 + 7.3 * k, 200.0 - 3.1 * k, snr) for k in range(n)))
    return replace(
        base,
        frame=np.array(frames),
        x_end=base.x + 300 * np.cos(way),
        y_end=base.y + 300 * np.sin(way),
    )


def test_faint_lines_of_one_direction_on_many_frames_are_a_readouts_pattern() -> None:
    tilted = [1.1, 0.3, 179.2, 1.9, 0.8]
    assert np.all(refuse.by_pattern(lines([3, 5, 6, 9, 12], tilted), 2.0, 24).flags & ROWS)
    assert not np.any(
        refuse.by_pattern(lines([3, 5, 6, 9, 12], [0.0, 40.0, 80.0, 120.0, 150.0]), 2.0, 24).flags
    )
    assert not np.any(refuse.by_pattern(lines([3, 3, 3, 3, 4], tilted), 2.0, 24).flags)
    assert not np.any(refuse.by_pattern(lines([3, 5, 6, 9, 12], tilted, snr=80.0), 2.0, 24).flags)


def test_what_moves_with_the_sky_over_a_resting_pixel_is_of_the_sensor() -> None:
    moving = points(*((100.0 + 4.0 * k, 50.0, 8.0) for k in range(5)))
    members = np.arange(5)
    resting = replace(moving, x_frame=np.full(5, 77.3), y_frame=np.full(5, 12.8))
    assert refuse.stays_on_sensor(resting, members)
    assert not refuse.stays_on_sensor(replace(moving, x_frame=moving.x - 3.3, y_frame=moving.y), members)


def test_points_that_nothing_else_speaks_for_are_told_while_they_are_few() -> None:
    some = points(*((30.0 * k + 5.5, 20.5, 12.0) for k in range(6)))
    assert not np.any(refuse.by_crowd(some, np.arange(3)).flags)
    many = refuse.by_crowd(some, np.arange(4)).flags
    assert np.all(many[:4] & COSMIC) and not np.any(many[4:])


@pytest.mark.parametrize("fwhm", [1.2, 1.9, 3.3])
def test_flags_of_the_mask_are_those_of_distances_over_the_whole_of_it(fwhm: float) -> None:
    """Against OpenCV's transforms, on a mask with bits everywhere, clumps of them, and a bare edge."""
    rng = np.random.default_rng(6)
    mask = np.zeros(SHAPE, np.uint8)
    some = rng.random(SHAPE) < 0.004
    mask[some] = rng.choice([bits.OUTSIDE, bits.SATURATED, bits.DEFECT, bits.BLANK], some.sum())
    mask[100:140, 200:240] |= bits.NO_TEMPLATE
    mask[:, :3] |= bits.OUTSIDE
    mask[40:43, 90:93] |= bits.BLANK
    n = 4000
    found = points(
        *np.column_stack([rng.uniform(0, SHAPE[1] - 1, n), rng.uniform(0, SHAPE[0] - 1, n), np.full(n, 9.0)])
    )
    found = replace(found, width=rng.choice([fwhm * 2, fwhm * 4.4], n))
    nowhere = ((mask & (bits.OUTSIDE | bits.NO_TEMPLATE | bits.BLANK)) != 0).astype(np.uint8)
    nowhere = cv2.morphologyEx(nowhere, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    edge = cv2.distanceTransform(np.pad(1 - nowhere, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    full = cv2.distanceTransform(((mask & bits.SATURATED) == 0).astype(np.uint8), cv2.DIST_L2, 3)
    i, j = (np.rint(v).astype(int) for v in GRID.from_native(found.x, found.y))
    wide = found.width > 1.5 * fwhm * GRID.step
    wanted = EDGE * (edge[j, i] < 2 * fwhm + 1) | REFLECTION * (wide & (full[j, i] < 12 * fwhm))
    flags = refuse.by_mask(found, mask, GRID, fwhm).flags
    assert np.array_equal(flags, wanted)
    for bit in (EDGE, REFLECTION):
        assert 0 < np.count_nonzero(flags & bit) < n

"""Mosaics: which pixel is which colour, whatever the pattern, the size and the byte order."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.mosaic import (
    CHANNELS,
    bin_image,
    bin_medians,
    channels,
    native_order,
    sites,
    split,
    stack_medians,
    superpixels,
)
from difflapse.mosaic.network import sorting_network

PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")
SHAPES = [(10, 14), (11, 14), (10, 15), (11, 15)]


def coloured(pattern: str, shape: tuple[int, int], dtype: str = "uint16") -> np.ndarray:
    """An image whose values say what and where a pixel is: 1000 times its colour's number, plus its place."""
    y, x = np.indices(shape)
    colour = np.array([CHANNELS.index(c) for c in pattern]).reshape(2, 2)[y % 2, x % 2]
    return (1000 * (colour + 1) + 20 * y + x).astype(dtype)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_sites_are_in_array_order_and_share_their_colour(pattern: str) -> None:
    found = sites(pattern)
    assert [(s.x, s.y) for s in found] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert "".join(CHANNELS[s.channel] for s in found) == pattern
    for c in range(3):
        assert sum(s.weight for s in found if s.channel == c) == 1.0


def test_a_monochrome_camera_has_one_site_and_one_channel() -> None:
    assert [(s.x, s.y, s.channel, s.weight) for s in sites("")] == [(0, 0, 0, 1.0)]
    assert channels("") == ("L",)
    assert channels("GRBG") == ("R", "G", "B")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_planes_hold_their_own_sites_pixels(pattern: str, shape: tuple[int, int]) -> None:
    data = coloured(pattern, shape)
    planes = split(data, pattern, offset=7.5)
    assert planes.shape == (4, shape[0] // 2, shape[1] // 2)
    assert planes.dtype == np.float32
    for plane, site in zip(planes, sites(pattern), strict=True):
        v, u = np.indices(plane.shape)
        place = 20 * (2 * v + site.y) + 2 * u + site.x
        assert np.array_equal(plane, 1000 * (site.channel + 1) + place - 7.5)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", ">i2", "int16", ">i4", ">f4", "float32", ">f8"])
@pytest.mark.parametrize("pattern", ["", "GBRG"])
def test_every_type_and_byte_order_is_taken(pattern: str, dtype: str) -> None:
    data = np.arange(7 * 9).reshape(7, 9)
    given = data.astype(dtype)
    expected = split(data.astype(np.float32), pattern, 3.0)
    assert np.array_equal(split(given, pattern, 3.0), expected)
    assert np.array_equal(given, data)
    assert np.array_equal(
        superpixels(given, pattern, 3.0), superpixels(data.astype(np.float32), pattern, 3.0)
    )


def test_an_offset_above_the_level_does_not_wrap_around() -> None:
    dark = np.full((6, 8), 5, np.uint16)
    assert np.all(split(dark, "RGGB", 2048.0) == 5 - 2048)
    assert np.all(split(dark, "", 2048.0) == 5 - 2048)
    assert np.all(superpixels(dark, "RGGB", 2048.0) == 4 * (5 - 2048))


def test_bright_sums_do_not_overflow() -> None:
    white = np.full((6, 8), 65535, np.uint16)
    assert np.all(superpixels(white, "RGGB") == 4 * 65535)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_superpixel_is_the_sum_of_its_cell(pattern: str, shape: tuple[int, int]) -> None:
    data = coloured(pattern, shape)
    grey = superpixels(data, pattern, offset=10.25)
    assert np.allclose(grey, split(data, pattern, 10.25).sum(axis=0), rtol=0, atol=0.01)


def test_a_monochrome_image_is_one_plane_of_all_its_pixels() -> None:
    data = coloured("RGGB", (7, 9))
    assert split(data, "", 2.0).shape == (1, 7, 9)
    assert np.array_equal(split(data, "", 2.0)[0], data.astype(np.float32) - 2)
    assert np.array_equal(superpixels(data, "", 2.0), data.astype(np.float32) - 2)


def test_planes_are_written_into_the_buffer_given() -> None:
    data = coloured("GRBG", (8, 12))
    out = np.full((4, 4, 6), np.nan, np.float32)
    assert split(data, "GRBG", 1.0, out) is out
    assert np.array_equal(out, split(data, "GRBG", 1.0))


@pytest.mark.parametrize("factor", [1, 2, 3, 5])
def test_binning_takes_means_and_drops_odd_edges(factor: int) -> None:
    image = np.random.default_rng(4).normal(100, 5, (31, 43)).astype(np.float32)
    small = bin_image(image, factor)
    ny, nx = 31 // factor, 43 // factor
    cells = image[: ny * factor, : nx * factor].reshape(ny, factor, nx, factor).mean(axis=(1, 3))
    assert small.shape == (ny, nx)
    assert np.allclose(small, cells, rtol=2e-6)


def test_binned_pixels_lie_where_they_say() -> None:
    """The value of a ramp tells the place: binned pixel i at factor i + (factor - 1) / 2."""
    ramp = np.broadcast_to(np.arange(48, dtype=np.float32), (40, 48)).copy()
    small = bin_image(ramp, 3)
    assert np.allclose(small[2], 3 * np.arange(16) + 1.0, atol=1e-5)
    grey = superpixels(ramp, "RGGB") / 4
    assert np.allclose(grey[5], 2 * np.arange(24) + 0.5, atol=1e-5)


@pytest.mark.parametrize("order", ["<", ">"])
def test_native_order_keeps_values_and_copies_only_if_need_be(order: str) -> None:
    data = coloured("RGGB", (4, 6)).astype(f"{order}u2")
    found = native_order(data)
    assert found.dtype.isnative
    assert np.array_equal(found, data)
    assert native_order(found) is found


def test_cells_of_medians_leave_points_and_bad_pixels_out() -> None:
    rng = np.random.default_rng(2)
    image = rng.normal(100, 1, (43, 62)).astype(np.float32)
    image[9:11, 22:24] += 500.0
    bad = np.zeros(image.shape, bool)
    bad[:, :2] = True
    bad[16:20, 40:43] = True
    cells = bin_medians(image, bad, 4)
    assert cells.shape == (10, 15)
    for j, i in ((2, 5), (0, 0), (9, 14)):
        block = np.s_[4 * j : 4 * j + 4, 4 * i : 4 * i + 4]
        assert cells[j, i] == pytest.approx(np.median(image[block][~bad[block]]), abs=1e-4)
    assert abs(cells[2, 5] - 100) < 2
    assert np.isnan(cells[4, 10])
    assert np.isfinite(cells).sum() == cells.size - 1


@pytest.mark.parametrize("n", [1, 2, 9, 16, 25, 40])
def test_a_network_sorts_whatever_it_is_given(n):
    values = np.random.default_rng(n).integers(0, 7, (n, 50))
    for a, b in sorting_network(n):
        assert a < b
        values[[a, b]] = np.minimum(values[a], values[b]), np.maximum(values[a], values[b])
    assert np.all(np.diff(values, axis=0) >= 0)


@pytest.mark.parametrize("factor", [1, 3, 4, 8])
def test_medians_of_cells_are_those_of_their_good_pixels(factor):
    """Two in five are bad: some cells have too few good ones. What is not finite is bad where no mask is given."""
    rng = np.random.default_rng(factor)
    image, bad = rng.normal(size=(67, 101)).astype(np.float32), rng.random((67, 101)) < 0.4
    my, mx = 67 // factor, 101 // factor
    cells = np.where(bad, np.nan, image)[: my * factor, : mx * factor]
    cells = cells.reshape(my, factor, mx, factor).transpose(0, 2, 1, 3).reshape(my, mx, -1)
    few = 2 * np.isfinite(cells).sum(axis=2) < factor**2
    wanted = np.where(few, np.nan, np.nanmedian(np.where(few[..., None], 0, cells), axis=2)).astype(
        np.float32
    )
    assert np.array_equal(bin_medians(image, bad, factor), wanted, equal_nan=True)
    image[bad] = np.where(rng.random(bad.sum()) < 0.5, np.nan, np.inf)
    assert np.array_equal(bin_medians(image, None, factor), wanted, equal_nan=True)


@pytest.mark.parametrize("n", [1, 2, 5, 12, 19])
def test_medians_over_a_stack_leave_out_what_is_not_known(n: int) -> None:
    rng = np.random.default_rng(n)
    stack = rng.normal(100, 5, (n, 13, 29)).astype(np.float32)
    stack[rng.random(stack.shape) < 0.1] = np.nan
    stack[:, 4, 7] = np.nan
    before = stack.copy()
    found = stack_medians(stack)
    known = np.isfinite(stack).any(axis=0)
    assert np.isnan(found[4, 7])
    assert np.allclose(found[known], np.nanmedian(stack[:, known], axis=0), rtol=1e-6)
    assert np.array_equal(stack, before, equal_nan=True)

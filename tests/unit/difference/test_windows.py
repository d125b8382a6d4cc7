"""A sheet of windows gives what the whole image gives there."""

from __future__ import annotations

import numpy as np

from difflapse.difference import Noise, Science, Template, subtract
from difflapse.difference.windows import add_stamps, cut, cut_mask, cut_mesh, cut_noise
from difflapse.model import bits

PLACE = np.array([[3, 5], [40, 11], [-6, 30], [70, 50], [22, 60]])
SIDE = 20
SHAPE = (72, 83)


def test_windows_are_the_image_and_beyond_it_the_fill():
    image = np.arange(2 * 72 * 83, dtype=np.float32).reshape(2, 72, 83)
    sheet = cut(image, PLACE, SIDE, -1).reshape(2, 5, SIDE, SIDE)
    assert np.array_equal(sheet[:, 1], image[:, 11:31, 40:60])
    assert np.array_equal(sheet[:, 2, :, 6:], image[:, 30:50, 0:14])
    assert (
        (sheet[:, 2, :, :6] == -1).all()
        and (sheet[:, 3, :, 13:] == -1).all()
        and (sheet[:, 4, 12:] == -1).all()
    )


def test_masks_have_borders_and_keep_their_bits():
    mask = np.zeros(SHAPE, np.uint8)
    mask[20, 50] = bits.SATURATED
    sheet = cut_mask(mask, PLACE, SIDE, border=2).reshape(5, SIDE, SIDE)
    assert sheet[1, 9, 10] == bits.SATURATED
    assert (sheet[:, :2] & bits.OUTSIDE).all() and (sheet[:, :, -2:] & bits.OUTSIDE).all()
    assert not sheet[0, 2:-2, 2:-2].any()
    assert np.array_equal(cut_mask(mask, PLACE[:1], SIDE, border=0), mask[5:25, 3:23])


def test_a_difference_of_windows_is_the_windows_of_the_difference():
    rng = np.random.default_rng(8)

    def mesh(low: float, high: float, *nodes: int) -> np.ndarray:
        return np.linspace(low, high, 3 * nodes[0] * nodes[1]).reshape(3, *nodes).astype(np.float32)

    science = Science(
        rng.normal(500, 20, (3, *SHAPE)).astype(np.float32),
        np.zeros(SHAPE, np.uint8),
        mesh(0.9, 1.2, 4, 5),
        mesh(-5, 9, 6, 3),
        Noise(mesh(300, 500, 4, 4), mesh(0.3, 0.6, 3, 5)),
    )
    template = Template(
        rng.normal(500, 8, (3, *SHAPE)).astype(np.float32),
        rng.uniform(20, 60, (3, *SHAPE)).astype(np.float32),
        np.full(SHAPE, 9, np.uint8),
        mesh(480, 520, 5, 4),
    )
    whole = cut(subtract(science, template, 0.05).significance, PLACE, SIDE, np.nan).reshape(5, SIDE, SIDE)
    small = subtract(
        Science(
            cut(science.data, PLACE, SIDE),
            cut_mask(science.mask, PLACE, SIDE, border=4),
            cut_mesh(science.inverse_scale, SHAPE, PLACE, SIDE),
            cut_mesh(science.offset, SHAPE, PLACE, SIDE),
            cut_noise(science.noise, SHAPE, PLACE, SIDE),
        ),
        Template(
            cut(template.data, PLACE, SIDE),
            cut(template.variance, PLACE, SIDE, 1e12),
            cut(template.count, PLACE, SIDE),
            cut_mesh(template.sky, SHAPE, PLACE, SIDE),
        ),
        0.05,
    ).significance.reshape(5, SIDE, SIDE)
    good = np.isfinite(small)
    assert good[0].sum() == 12 * 12
    # Meshes are read every few rows: 0.9 to 1.2 over 72 rows of 500 ADU, in units of some 20 ADU.
    assert np.abs(small - whole)[good].max() < 0.35
    assert np.corrcoef(small[good], whole[good])[0, 1] > 0.998


def test_stamps_are_added_where_they_lie_and_cut_at_the_window():
    sheet = np.zeros((2, 3 * 10, 10), np.float32)
    stamps = np.ones((3, 2, 4, 4), np.float32) * np.array([1, 2, 3], np.float32)[:, None, None, None]
    add_stamps(sheet, stamps, np.array([[3, 2], [8, -2], [20, 0]]))
    windows = sheet.reshape(2, 3, 10, 10)
    assert windows[0, 0].sum() == 16 and windows[0, 0, 2:6, 3:7].min() == 1
    assert windows[1, 1].sum() == 2 * 4 and windows[1, 1, :2, 8:].min() == 2
    assert windows[:, 2].sum() == 0

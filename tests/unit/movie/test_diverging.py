"""The differential panel: luma tells the sign, small changes survive, noise is calm, masks show."""

import numpy as np
import pytest

from difflapse.movie import difference_panel, diverging_table, hatched_panel, make_layout, sigma_panel

LUMA = np.array([0.2126, 0.7152, 0.0722])
RNG = np.random.default_rng(7)


def luma(picture):
    return picture.astype(float) @ LUMA


@pytest.fixture
def shrunk():
    """A layout that shrinks 260x407 by 2.03."""
    layout = make_layout(("difference",), (260, 407), width=200, labels="none")
    assert 1 / layout.scale == pytest.approx(2.03, abs=0.01)
    return layout


def test_the_map_is_grey_in_the_middle_and_its_luma_rises_strictly():
    """The sign of a change must be readable without colour."""
    table = diverging_table()
    assert len(table) % 2 == 1
    middle = table[len(table) // 2]
    assert 119 <= middle[0] <= 128
    assert (middle == middle[0]).all()
    assert np.diff(luma(table)).min() > 0
    assert luma(table)[0] < 30
    assert luma(table)[-1] > 235
    dark, light = table[60].astype(int), table[194].astype(int)
    assert dark[2] > dark[0]  # fainter leans to blue
    assert light[0] > light[2]  # brighter to amber


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("at", [(100, 200), (101, 201), (63, 99)])
def test_a_change_of_two_pixels_survives_shrinking(shrunk, sign, at):
    """8 sigma in two pixels is as far from grey as 8 sigma everywhere, wherever the pixels fall."""
    values = np.zeros((260, 407), np.float32)
    values[at[0], at[1] : at[1] + 2] = sign * 8
    wide = make_layout(("difference",), (10, 10), width=10, labels="none")
    full = luma(difference_panel(np.full((10, 10), sign * 8, np.float32), None, wide))[5, 5]
    panel = luma(difference_panel(values, None, shrunk))
    most = panel.max() if sign > 0 else panel.min()
    assert sign * (most - 124) >= sign * (full - 124) - 1
    assert abs(np.median(panel) - 124) < 0.5


def test_a_wide_faint_change_gains_by_shrinking(shrunk):
    """1 sigma per pixel over a wide area shows as about 2 sigma, the noise as about 1."""
    one = np.ones((260, 407), np.float32)
    unshrunk = make_layout(("difference",), (260, 407), width=407, labels="none")
    steps = [luma(difference_panel(one, None, where)).mean() - 124 for where in (unshrunk, shrunk)]
    assert 1.8 < steps[1] / steps[0] < 2.6


def test_noise_is_mid_grey_and_calm(shrunk):
    """Pure noise: mean mid-grey, a few grey levels of scatter, no colour."""
    panel = difference_panel(RNG.normal(size=(260, 407)).astype(np.float32), None, shrunk)
    assert abs(luma(panel).mean() - 124) < 1
    assert luma(panel).std() < 12
    assert np.ptp(panel.astype(int), axis=2).mean() < 1


def test_adu_take_the_plain_mean_and_the_noise_given(shrunk):
    """In other units nothing gains by shrinking; significance is judged by the noise."""
    values = np.full((260, 407), 50, np.float32)
    flat = luma(difference_panel(values, None, shrunk, vmax=200, units="adu", noise=30))
    unshrunk = make_layout(("difference",), (260, 407), width=407, labels="none")
    same = luma(difference_panel(values, None, unshrunk, vmax=200, units="adu", noise=30))
    assert abs(flat.mean() - same.mean()) < 1
    values[:] = 0
    values[90, 100] = 100
    lone = [luma(difference_panel(values, None, shrunk, 200, "adu", noise)).max() for noise in (10, 100)]
    assert lone[0] > lone[1] + 30


def test_masked_pixels_are_hatched_alike_for_mask_and_nan(shrunk):
    """What was not measured looks like neither noise nor change, and the mask's sign is right."""
    values = RNG.normal(size=(260, 407)).astype(np.float32)
    mask = np.zeros((260, 407), bool)
    mask[:100] = True
    by_mask = difference_panel(values, mask, shrunk)
    holed = np.where(mask, np.nan, values).astype(np.float32)
    np.testing.assert_array_equal(by_mask, difference_panel(holed, None, shrunk))
    np.testing.assert_array_equal(by_mask[-45:], hatched_panel(shrunk, "")[-45:])
    assert abs(luma(by_mask[:70]).mean() - 124) < 1
    assert luma(by_mask[-45:]).max() < 85


def test_a_masked_pixel_does_not_leak(shrunk):
    """A lone masked pixel, however bright, leaves its movie pixel to its good neighbours."""
    values = np.zeros((260, 407), np.float32)
    values[50, 60], values[80, 33] = 1e6, -np.inf
    mask = values > 0
    assert (difference_panel(values, mask, shrunk) == 124).all()


def test_masked_pixels_show_when_enlarged():
    layout = make_layout(("difference",), (9, 14), width=140, labels="none")
    assert layout.scale == 10
    mask = np.zeros((9, 14), bool)
    mask[2, 3] = True
    panel = difference_panel(np.zeros((9, 14), np.float32), mask, layout)
    hidden = (panel != 124).any(2)
    assert hidden.sum() == 100
    assert hidden[60:70, 30:40].all()


def test_hatched_panel_is_calm_and_full(shrunk):
    panel = hatched_panel(shrunk)
    assert panel.shape == (*shrunk.panel_shape, 3)
    assert luma(panel).max() < 85
    assert luma(panel).std() > 1


def test_sigma_panel_is_grey_and_rises():
    layout = make_layout(("sigma",), (20, 30), width=30, labels="none")
    ramp = np.tile(np.linspace(5, 15, 30, dtype=np.float32), (20, 1))
    panel = sigma_panel(ramp, None, layout, 6, 14)
    assert (panel[..., 0] == panel[..., 2]).all()
    assert (np.diff(panel[0, :, 0].astype(int)) >= 0).all()
    assert panel[0, -1, 0] > panel[0, 0, 0] + 200


def hue(panel):
    """How far each pixel is from grey."""
    return np.ptp(panel.astype(int), axis=2)


def test_a_single_hot_pixel_colours_nothing_but_itself():
    """In noise of one sigma, a pixel of 200 sigma: what is around it stays grey, itself is not."""
    values = np.random.default_rng(4).normal(0, 1, (60, 90)).astype(np.float32)
    values[30, 41] = 200
    layout = make_layout(("difference",), (60, 90), width=90, labels="none")
    colour = hue(difference_panel(values, None, layout))
    row = 60 - 1 - 30
    assert colour[row, 41] > 25
    around = colour[row - 4 : row + 5, 37:46].copy()
    around[4, 4] = 0
    assert around.max() < 8


@pytest.mark.parametrize("sign", [1, -1])
def test_noise_within_a_faint_coma_is_not_of_the_other_colour(sign):
    """A wide faint thing is coloured as a whole; where noise takes a pixel below zero it is grey, not blue in amber."""
    y, x = np.mgrid[:60, :90]
    coma = 2.5 * np.exp(-((x - 45) ** 2 + (y - 30) ** 2) / 200)
    values = (sign * coma + np.random.default_rng(5).normal(0, 1, coma.shape)).astype(np.float32)
    layout = make_layout(("difference",), (60, 90), width=90, labels="none")
    panel = difference_panel(values, None, layout).astype(int)
    warm = sign * (panel[..., 0] - panel[..., 2])  # amber for brighter, blue for fainter
    inner = warm[25:35, 40:50]
    assert np.median(inner) > 20
    assert (inner < -4).sum() == 0 and (np.abs(inner) <= 4).sum() >= 1

"""Where things lie: sizes players accept, square pixels, and a matrix that really leads to the pixel."""

import numpy as np
import pytest

from difflapse.errors import OptionError
from difflapse.movie import aligned_panel, difference_panel, make_layout, measure_stretch

SHAPES = [(1738, 2604), (35, 128), (128, 35), (301, 477), (1, 3), (3000, 90), (90, 5000), (4000, 4000)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("panels", [("aligned",), ("aligned", "difference"), ("a", "b", "c", "d")])
@pytest.mark.parametrize(("width", "labels"), [(2560, "full"), (641, "time"), (8000, "none"), (100, "full")])
def test_sizes_are_ones_that_play_everywhere(shape, panels, width, labels):
    """Even, within the width asked for and 4096x2304, all panels inside and apart, pixels square."""
    layout = make_layout(panels, shape, width=width, labels=labels)
    assert layout.width % 2 == layout.height % 2 == 0
    assert layout.width <= min(width, 4096)
    assert layout.height <= 2304
    right = 0
    for panel in layout.panels:
        assert panel.x >= right
        assert panel.x % 2 == panel.y % 2 == 0
        right = panel.x + panel.width
        assert right <= layout.width
        assert panel.y + panel.height <= layout.height
        assert abs(panel.width - max(1, shape[1] * layout.scale)) <= 0.5 + 1e-9
        assert abs(panel.height - max(1, shape[0] * layout.scale)) <= 0.5 + 1e-9
    assert layout.scale < 1 or layout.scale == int(layout.scale)


def test_a_wide_night_fills_the_width():
    """A large mosaic frame is shrunk to fill 2560 pixels; a small one grows by the largest whole factor."""
    assert make_layout(("a", "b"), (1738, 2604), 2).width == 2560
    assert make_layout(("a", "b"), (128, 128)).scale == 9.0
    assert make_layout(("a", "b"), (128, 128), width=1280).scale == 4.0


def test_fast_movies_stay_within_the_level():
    """At 120 frames a second the macroblocks per second limit the size."""
    layout = make_layout(("a", "b"), (1738, 2604), fps=120)
    assert -(-layout.width // 16) * -(-layout.height // 16) * 120 <= 983040
    assert layout.width > 1800


@pytest.mark.parametrize(
    ("shape", "width", "step", "origin"),
    [
        ((301, 477), 620, 2, (0, 0)),
        ((301, 477), 700, 1, (31, 57)),
        ((40, 63), 900, 2, (10, 206)),
        ((700, 500), 333, 2, (3, 8)),
    ],
)
def test_native_to_movie_finds_a_single_bright_pixel(shape, width, step, origin):
    """A lone bright pixel is drawn where the matrix says, shrunk or enlarged, with a crop's origin."""
    layout = make_layout(("aligned", "difference"), shape, step, origin, width)
    for i, j in [(0, 0), (shape[1] - 1, shape[0] - 1), (shape[1] // 3, shape[0] // 5), (7, shape[0] - 4)]:
        values = np.zeros(shape, np.float32)
        values[j, i] = 20
        panel = layout.panel("difference")
        drawn = difference_panel(values, None, layout).astype(float)[..., 1]
        y, x = (found.mean() for found in np.nonzero(drawn > 200))
        native = np.array([origin[0] + step * i + (step - 1) / 2, origin[1] + step * j + (step - 1) / 2, 1])
        expected = layout.native_to_movie("difference") @ native
        assert abs(panel.x + x - expected[0]) <= 1.01
        assert abs(panel.y + y - expected[1]) <= 1.01
        image = np.zeros((3, *shape), np.float32) + 100
        image[:, j, i] = 5000
        stretch = measure_stretch(image)
        shown = aligned_panel(image, None, stretch, layout).astype(int).sum(2)
        y, x = (found.mean() for found in np.nonzero(shown == shown.max()))
        expected = layout.native_to_movie("aligned") @ native
        assert abs(layout.panel("aligned").x + x - expected[0]) <= 1.01
        assert abs(layout.panel("aligned").y + y - expected[1]) <= 1.01


def test_row_zero_is_at_the_bottom():
    """North-up frames have their first row below: the y scale is negative."""
    layout = make_layout(("difference",), (30, 50), labels="none", width=100)
    values = np.zeros((30, 50), np.float32)
    values[0] = 20
    drawn = difference_panel(values, None, layout)
    assert drawn[-1].mean() > 200 > drawn[0].mean()
    assert layout.native_to_movie("difference")[1, 1] < 0


@pytest.mark.parametrize("bad", [(), ("a", "a")])
def test_impossible_panels_are_option_errors(bad):
    with pytest.raises(OptionError):
        make_layout(bad, (10, 20))
    with pytest.raises(OptionError):
        make_layout(("a",), (0, 20))
    with pytest.raises(OptionError):
        make_layout(("a",), (10, 20), labels="some")
    with pytest.raises(OptionError, match="no panel 'z'"):
        make_layout(("a",), (10, 20)).panel("z")

"""Pictures of 16 bits: the same as those of 8, with the levels between them, whatever is drawn on them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from difflapse.errors import OptionError
from difflapse.movie import (
    Caption,
    aligned_panel,
    compose,
    difference_panel,
    hatched_panel,
    make_layout,
    measure_stretch,
    sigma_panel,
)
from difflapse.movie.diverging import _fine_table, _greys
from difflapse.movie.grid import SkyLine, draw_grid
from difflapse.movie.insets import paste_inset
from difflapse.movie.layout import Layout
from difflapse.movie.marks import mark
from difflapse.movie.split import split_panel
from difflapse.movie.text import eight_bits, levels

SHAPE = (260, 407)
RNG = np.random.default_rng(3)


def sky() -> np.ndarray:
    image = RNG.normal(400, 9, (3, *SHAPE)).astype(np.float32)
    for x, y in RNG.uniform(8, 250, (40, 2)):
        image[:, int(y) : int(y) + 3, int(x) : int(x) + 2] += 40 * RNG.exponential(20)
    image[:, 100:140, 300:340] = np.nan
    return image


def panels(layout: Layout, image: np.ndarray) -> dict[str, np.ndarray]:
    stretch = measure_stretch(image)
    difference = (image[1] - 400) / 9
    return {
        "colour": aligned_panel(image, None, stretch, layout),
        "grey": aligned_panel(image[:1], None, stretch.plane(0), layout),
        "difference": difference_panel(difference, None, layout),
        "sigma": sigma_panel(np.abs(image[0] - 300), None, layout, 20, 260),
        "hatched": hatched_panel(layout),
    }


@pytest.mark.parametrize("width", [330, 1700])
def test_panels_have_the_levels_between_those_of_eight_bits(width: int) -> None:
    """Shrunk and enlarged: each level of 16 bits is the one of 8 that is nearest, or its neighbour."""
    image = sky()
    layout = make_layout(("aligned", "difference"), SHAPE, width=width)
    shallow = panels(layout, image)
    deep = panels(dataclasses.replace(layout, depth=16), image)
    for name, picture in deep.items():
        assert picture.dtype == np.uint16
        # The 255 colours of the map of differences are up to three levels (of blue) apart.
        assert np.abs(picture / 257 - shallow[name]).max() < (3.01 if name == "difference" else 1.01), name
        n = len(np.unique(picture))
        assert n < 800 if name == "hatched" else n > 3000, name
    # What is white is white, and not a level less.
    assert deep["colour"].max() == 65535


def test_the_deep_map_rises_throughout() -> None:
    table, luma = _fine_table(16), _greys(16)
    assert table.dtype == np.uint16
    assert (table[len(table) // 2] == table[len(table) // 2, 0]).all()
    assert np.diff(luma).min() >= -1  # rounding of three colours to whole levels, of 65536
    assert np.diff(luma[::16]).min() >= 0
    assert len(np.unique(luma)) > 50_000
    assert np.abs(luma[[0, -1]] / 257 - _greys(8)[[0, -1]]).max() < 1


def test_words_rings_lines_and_insets_are_those_of_eight_bits() -> None:
    """All that is drawn over a picture is the same in both; what it leaves free keeps its 16 bits."""
    layout = make_layout(("aligned", "difference"), SHAPE, width=1700)
    changes = {
        "change": np.array([0]), "kind": np.array(["mover"]), "x_pix": np.array([120.25]), "y_pix": np.array([90.0]),
        "first_frame": np.array([0]), "last_frame": np.array([9]), "snr": np.array([9.0]),
    }  # fmt: skip
    base = RNG.integers(0, 65536, (*layout.panel_shape, 3)).astype(np.uint16)
    made, plain = [], []
    for depth in (8, 16):
        where = dataclasses.replace(layout, depth=depth)
        panel = base.copy() if depth == 16 else eight_bits(base)
        plain.append(compose(where, {"aligned": panel, "difference": panel}, Caption("", 0, 9)))
        view = split_panel(panel, panel, 0.3, where)
        draw_grid(view, where, (SkyLine("16h", ((30.0, 5.0), (30.0, 200.0))),))
        paste_inset(view, view[20:60, 20:60].copy(), 3, "1", where, (20, 20, 60, 60))
        picture = compose(where, {"aligned": view, "difference": panel}, Caption("2018-08-24T04:01:18", 2, 9))
        mark(picture, where, changes, None, 2)
        made.append(picture)
    shallow, deep = made
    assert deep.dtype == np.uint16
    assert np.abs(deep.astype(int) / 257 - shallow).max() < 1.51  # each way of rounding adds a half
    drawn = (shallow != plain[0]).any(2)
    assert 1000 < drawn.sum() < 0.4 * drawn.size
    free = ~drawn & (eight_bits(deep) == shallow).all(2)
    assert (deep[free] == plain[1][free]).mean() > 0.9999
    assert len(np.unique(deep)) > 50_000


def test_levels_of_both_depths_are_each_others() -> None:
    eight = np.arange(256, dtype=np.uint8)
    assert (eight_bits(levels(eight, np.uint16)) == eight).all()
    assert levels(eight, np.uint8) is eight
    every = np.arange(65536).astype(np.uint16)
    assert (np.abs(eight_bits(every) * 257.0 - every) <= 128).all()


def test_a_panel_of_another_depth_is_refused() -> None:
    layout = make_layout(("aligned",), SHAPE, width=407, labels="none", depth=16)
    shallow = np.zeros((*layout.panel_shape, 3), np.uint8)
    with pytest.raises(OptionError, match="uint8; it must be"):
        compose(layout, {"aligned": shallow}, Caption("", 0, 1))

"""Compass, bar of the night, grid, insets, divider, stills: each says what is so."""

import numpy as np
import pytest
from PIL import Image

from difflapse.errors import OptionError, OutputError
from difflapse.movie import Caption, compose, hatched_panel, make_layout
from difflapse.movie.compass import Compass, angle_text, draw_compass
from difflapse.movie.grid import SkyLine, draw_grid
from difflapse.movie.insets import corners, paste_inset
from difflapse.movie.layout import FULL_BLOCKS
from difflapse.movie.shrink import INK, PAPER
from difflapse.movie.split import divider, split_panel
from difflapse.movie.still import Trails, write_png
from difflapse.movie.text import BRIGHT, WARN, text_mask
from difflapse.movie.timebar import TimeBar, draw_bar


@pytest.mark.parametrize("turn", np.arange(0, 360, 45))
@pytest.mark.parametrize("hand", [1, -1])
@pytest.mark.parametrize(("size", "high"), [(13, 28), (33, 70)])
def test_the_compass_stays_in_its_strip_wherever_north_is(turn, hand, size, high):
    """Nothing touches the edges, and the arrow of north leads to where it is."""
    a = np.radians(turn)
    north, east = (np.sin(a), -np.cos(a)), (-hand * np.cos(a), -hand * np.sin(a))
    band = np.zeros((high, 500, 3), np.uint8)
    draw_compass(band, Compass(north, east, 2.7), size, 40, 420)
    ink = band.max(2)
    assert ink.any()
    assert not ink[:, :38].any()
    assert not ink[:, 461:].any()
    assert not ink[0].any()
    assert not ink[-1].any()


def test_the_bar_of_the_sky_is_as_long_as_it_says():
    band = np.zeros((70, 900, 3), np.uint8)
    draw_compass(band, Compass((0, -1), (-1, 0), 7.3), 33, 0, 800)
    bar = (band == BRIGHT).all(2)
    longest = max(np.flatnonzero(row).size for row in bar[:40, 110:])
    assert any(longest * 7.3 == pytest.approx(length, abs=2 * 7.3) for length in (300, 600, 1200, 1800))
    assert [angle_text(a) for a in (20, 60, 1800, 3600, 7200)] == ['20"', "1'", "30'", "1°", "2°"]


def test_gaps_of_the_night_are_gaps_in_the_bar():
    """Frames of 2 minutes, then two hours without: as long in the bar; the frame that is seen is lit in its place."""
    start = [58000 + k * 3 / 1440 for k in range(10)] + [58000.1 + k * 3 / 1440 for k in range(10)]
    bar = TimeBar(tuple(start), tuple(s + 2 / 1440 for s in start))
    band = np.zeros((40, 1000, 3), np.uint8)
    draw_bar(band, bar, 10, 30)
    row = band[3].astype(int).max(1)
    lit = (band[0] == WARN).all(1)
    first = np.flatnonzero(lit).mean()
    assert first == pytest.approx(18 + bar.x((start[10] + bar.end[10]) / 2, 964), abs=4)
    gap = row[round(18 + bar.x(start[9] + 4 / 1440, 964)) : round(18 + bar.x(start[10] - 2 / 1440, 964))]
    assert len(gap) > 500
    assert gap.max() < 60
    numbers = TimeBar((0.0, 1.0, 2.0), (0.9, 1.9, 2.9), known=False)
    draw_bar(band, numbers, 2, 30)
    assert (band[0] == WARN).all(1)[660:].any()


def test_a_new_date_is_written_in_the_bar_and_the_clock():
    """Midnight (UTC) falls into the night: the label after it has its date, and the clock another colour."""
    from difflapse.movie.timebar import _labels

    start = tuple(58000.9 + k / 48 for k in range(12))
    words = [w for _, w, _ in _labels(TimeBar(start, tuple(s + 0.01 for s in start)), 1200, 20)]
    assert sum("Sep" in w for w in words) == 2
    layout = make_layout(("aligned", "difference"), (60, 97), width=1000)
    panels = dict.fromkeys(layout.names, hatched_panel(layout))
    plain = compose(layout, panels, Caption("2018-08-24T00:01:18", 3, 9))
    new = compose(layout, panels, Caption("2018-08-24T00:01:18", 3, 9, new_date=True))
    changed = (plain != new).any(2)
    assert changed[layout.bottom.y : layout.bar.y, : layout.width // 2].any()
    assert changed.sum() == changed[layout.bottom.y : layout.bar.y, : layout.width // 2].sum()


@pytest.mark.parametrize("panels", [("aligned",), ("aligned", "difference"), ("split",), ("a", "b", "c")])
@pytest.mark.parametrize("width", [640, 1280, 2560])
def test_clock_compass_and_scale_have_places_of_their_own(panels, width):
    """What one of them draws does not change where another does."""
    layout = make_layout(panels, (1000, 1500), width=width)
    drawn = dict.fromkeys(layout.names, hatched_panel(layout, ""))
    compass = Compass((0, -1), (-1, 0), 10.0)
    empty = compose(layout, drawn, Caption("", 0, 9))
    only_sky = compose(layout, drawn, Caption("", 0, 9, compass=compass)) != empty
    clock = Caption("2018-08-24T04:01:18", 8, 9, time_local="2018-08-23 18:01:18 HST", note="clouds? 5 %")
    only_clock = compose(layout, drawn, clock) != empty
    assert only_clock.any()
    if width >= 1280:
        assert only_sky.any()
    assert not (only_sky & only_clock).any()


def test_the_grid_goes_through_its_points_and_labels_stand_apart():
    layout = make_layout(("aligned",), (300, 457), step=2, width=914)
    lines = tuple(
        SkyLine(f"{n}h", tuple((x, 100.0 * n + 0.1 * x) for x in np.linspace(-20, 940, 60)))
        for n in (1, 2, 3)
    )
    panel = np.zeros((*layout.panel_shape, 3), np.uint8)
    draw_grid(panel, layout, lines)
    matrix = layout.native_to_movie("aligned")
    for x in (300.0, 600.0):
        u, v = matrix @ [x, 200 + 0.1 * x, 1.0] - (layout.panels[0].x, layout.panels[0].y)
        assert panel[round(v) - 1 : round(v) + 2, round(u)].max() > 25
    moved = np.zeros_like(panel)
    draw_grid(moved, layout, lines, (0.0, 40.0))
    np.testing.assert_array_equal(moved[80:200, 300:600], panel[40:160, 300:600])


def test_insets_lie_in_corners_away_from_what_they_show():
    layout = make_layout(("aligned",), (600, 900), width=900, labels="full")
    assert corners(layout, [(40.0, 40.0)]) != [0]
    found = corners(layout, [(450.0, 300.0), (460.0, 310.0), (440.0, 290.0), (430.0, 280.0)])
    assert sorted(found) == [0, 1, 2, 3]
    panel = np.zeros((*layout.panel_shape, 3), np.uint8)
    tile = np.full((39, 39, 3), 90, np.uint8)
    tile[19, 19] = 250
    paste_inset(panel, tile, 3, "", layout, (400, 300, 440, 340))
    factor = round(0.26 * min(layout.panel_shape) / 39)
    assert (panel == 250).all(2).sum() == factor**2
    assert (panel[300, 400:440] > 0).all()
    assert (panel[302:338, 402:438] == 0).all()


def test_a_name_too_wide_for_its_inset_is_written_smaller_not_cut():
    layout = make_layout(("aligned", "difference"), (300, 1200), width=2560, labels="full")
    tile = np.full((19, 19, 3), 20, np.uint8)
    usual = round(0.7 * layout.text)
    side = 19 * round(0.26 * min(layout.panel_shape) / 19)
    assert text_mask("J1617.9+3409", usual).shape[1] > side
    panels = [np.zeros((*layout.panel_shape, 3), np.uint8) for _ in range(3)]
    for panel, name in zip(panels, ("J1617.9+3409", "J1617.9+340", "1"), strict=True):
        paste_inset(panel, tile, 0, name, layout, (0, 0, 0, 0))
    inside = slice(4, side - 2)
    inked = [(panel[inside, inside] > 120).all(2) for panel in panels]
    # The last letter is there: without it the word is another at its end, and not by an ellipsis at the same place.
    assert inked[0].any(0).nonzero()[0].max() < side - 6
    assert (inked[0] != inked[1]).any()
    # A short name keeps its size.
    assert np.ptp(inked[2].any(1).nonzero()[0]) > np.ptp(inked[0].any(1).nonzero()[0])


def test_the_divider_sweeps_and_leaves_each_side_its_own():
    left, right = np.full((50, 90, 3), 10, np.uint8), np.full((50, 90, 3), 200, np.uint8)
    layout = make_layout(("split",), (50, 90), width=90, labels="none")
    places = [divider(t) for t in np.linspace(0, 1, 50)]
    assert places[0] == pytest.approx(0.5)
    assert min(places) == pytest.approx(0.08, abs=0.01)
    assert max(places) == pytest.approx(0.92, abs=0.01)
    panel = split_panel(left, right, 0.3, layout)
    assert (panel[:, :25] == 10).all()
    assert (panel[:, 30:] == 200).all()
    assert (left == 10).all()
    with pytest.raises(OptionError, match="one shape"):
        split_panel(left, right[:40], 0.3, layout)


def test_trails_keep_the_brightest_and_forget_what_was_not_covered(tmp_path):
    layout = make_layout(("aligned",), (50, 90), width=90, labels="none")
    trails = Trails(layout.panels[0])
    for k in range(5):
        frame = np.full((50, 90, 3), 20, np.uint8)
        frame[20, 10 + k] = 220
        frame[40:], frame[45:] = PAPER, INK
        trails.add(frame)
    assert (trails.picture[20, 10:15] == 220).all()
    assert (trails.picture[:20] == 20).all()
    assert (trails.picture[40:] == 0).all()
    write_png(tmp_path / "t.png", trails.picture, {"Title": "M 31 — β", "Software": "x"})
    with Image.open(tmp_path / "t.png") as image:
        assert image.text == {"Title": "M 31 — β", "Software": "x"}
        np.testing.assert_array_equal(np.asarray(image), trails.picture)
    with pytest.raises(OutputError):
        write_png(tmp_path / "no" / "t.png", trails.picture, {})


def test_full_resolution_is_a_pixel_for_each_and_says_where_codecs_end():
    layout = make_layout(("aligned", "difference"), (1738, 2604), 2, width=0, labels="none")
    assert layout.scale == 1
    assert layout.panel_shape == (1738, 2604)
    assert layout.width > 4096
    with pytest.raises(OptionError, match=r"full resolution.* megapixels"):
        make_layout(("a", "b"), (8000, 8000), width=0)
    blocks = -(-layout.width // 16) * -(-layout.height // 16)
    assert blocks <= FULL_BLOCKS
    with pytest.raises(OptionError, match="fps is 4000"):
        make_layout(("aligned",), (1738, 2604), width=0, fps=4000)


def test_full_resolution_is_encoded_and_refused_where_it_is_not_asked_for(tmp_path):
    """A movie of 5212x1978 pixels: no movie that plays everywhere, but one where all pixels are asked for."""
    import av

    from difflapse.movie.encode import Encoder

    with pytest.raises(OptionError, match="players stop"):
        Encoder(tmp_path / "a.mp4", (5212, 1978), 12)
    with Encoder(tmp_path / "a.mp4", (5212, 1978), 12, full=True) as encoder:
        encoder.write(np.full((1978, 5212, 3), 90, np.uint8))
    with av.open(str(tmp_path / "a.mp4")) as container:
        (frame,) = container.decode(video=0)
        assert (frame.width, frame.height) == (5212, 1978)

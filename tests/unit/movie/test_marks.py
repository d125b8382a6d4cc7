"""Rings and names: where things are, beside them and not on them, never two in one place."""

import numpy as np
import pytest

from difflapse.movie import Caption, compose, hatched_panel, make_layout, marks
from difflapse.movie.marks import INK, best_places, mark

SHAPE = (400, 611)


@pytest.fixture
def layout():
    return make_layout(("aligned", "difference"), SHAPE, step=2, width=1600)


@pytest.fixture
def picture(layout):
    grey = np.full((*layout.panel_shape, 3), 124, np.uint8)
    return compose(layout, {"aligned": grey, "difference": grey}, Caption("", 0, 9))


def tables(**kinds):
    """One change for each kind: (x, y) in each of the frames 2 to 6, moving by its rate."""
    names = list(kinds)
    at = np.array([kinds[name][:2] for name in names], float)
    rate = np.array([kinds[name][2:] or (0, 0) for name in names], float)
    changes = {
        "change": np.arange(len(names)) + 3,
        "kind": np.array([name.rstrip("_") for name in names]),
        "x_pix": at[:, 0],
        "y_pix": at[:, 1],
        "first_frame": np.full(len(names), 2),
        "last_frame": np.full(len(names), 6),
        "snr": np.linspace(30, 8, len(names)),
        "x_end_pix": np.full(len(names), np.nan),
        "y_end_pix": np.full(len(names), np.nan),
    }
    frames = np.array([2, 3, 4, 6])  # not seen in frame 5
    seen = {
        "change": np.repeat(changes["change"], 4),
        "frame": np.tile(frames, len(names)),
        "x_pix": (at[:, :1] + rate[:, :1] * (frames - 2)).ravel(),
        "y_pix": (at[:, 1:] + rate[:, 1:] * (frames - 2)).ravel(),
    }
    return changes, seen


def inked(before, after, layout, panel):
    """What was drawn on a panel, as a mask of the whole movie frame."""
    p = layout.panel(panel)
    changed = np.zeros(before.shape[:2], bool)
    rows, cols = slice(p.y, p.y + p.height), slice(p.x, p.x + p.width)
    changed[rows, cols] = (before[rows, cols] != after[rows, cols]).any(2)
    return changed


@pytest.mark.parametrize("frame", [2, 4, 5, 6])
def test_a_ring_is_about_its_thing_and_leaves_it_free(layout, picture, frame):
    """Also between two sightings of a mover, where a straight track has it; the middle stays as it was."""
    changes, seen = tables(mover=(301.5, 202.25, 24.0, 9.0))
    before = picture.copy()
    mark(picture, layout, changes, seen, frame)
    x, y = 301.5 + 24.0 * (frame - 2), 202.25 + 9.0 * (frame - 2)
    for name in layout.names:
        u, v = layout.native_to_movie(name) @ [x, y, 1.0]
        drawn = inked(before, picture, layout, name)
        a, b = round(u), round(v)
        assert not drawn[b - 3 : b + 4, a - 3 : a + 4].any()
        j, i = np.nonzero(drawn[b - 16 : b + 17, a - 16 : a + 17])
        assert len(j) > 40
        assert abs(np.mean(i) - 16 - (u - a)) < 2.5
        assert abs(np.mean(j) - 16 - (v - b)) < 2.5


def test_nothing_is_drawn_before_and_after_nor_without_labels(layout, picture):
    changes, seen = tables(mover=(301.5, 202.25, 4.0, 3.0), variable=(700.0, 500.0))
    before = picture.copy()
    for frame in (0, 1, 7):
        mark(picture, layout, changes, seen, frame)
    np.testing.assert_array_equal(picture, before)
    bare = make_layout(("aligned", "difference"), SHAPE, step=2, width=1600, labels="time")
    other = np.zeros((bare.height, bare.width, 3), np.uint8)
    mark(other, bare, changes, seen, 3)
    assert not other.any()


def test_the_strips_stay_as_they_are_and_a_shift_moves_rings(layout, picture):
    """Rings at the very edge are cut there; with a followed target they are where it is drawn."""
    changes, seen = tables(variable=(1.0, 1.0), transient=(1220.0, 798.0))
    before = picture.copy()
    mark(picture, layout, changes, seen, 3)
    first = min(p.y for p in layout.panels)
    np.testing.assert_array_equal(picture[:first], before[:first])
    np.testing.assert_array_equal(picture[layout.bottom.y :], before[layout.bottom.y :])
    one, two = before.copy(), before.copy()
    changes, seen = tables(transient=(640.0, 400.0))
    mark(one, layout, changes, seen, 3, (40.0, -20.0))
    changes, seen = tables(transient=(600.0, 420.0))
    mark(two, layout, changes, seen, 3)
    np.testing.assert_array_equal(one, two)


def test_names_neither_cover_rings_nor_each_other(layout, picture, monkeypatch):
    """A crowd of things that touch: every name has a place of its own, or none."""
    from difflapse.movie import marks

    rng = np.random.default_rng(4)
    crowd = {f"variable{'_' * n}": tuple(rng.uniform((420, 300), (620, 420))) for n in range(14)}
    changes, seen = tables(**crowd)
    boxes = []
    paste = marks.paste_seamed

    def noted(view, mask, x, y, colour):
        if colour == INK:
            boxes.append((x, y, x + mask.shape[1], y + mask.shape[0]))
        paste(view, mask, x, y, colour)

    monkeypatch.setattr(marks, "paste_seamed", noted)
    mark(picture, layout, changes, seen, 3)
    assert 3 <= len(boxes) < 14
    for n, a in enumerate(boxes):
        for b in boxes[n + 1 :]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_a_streak_lies_between_two_lines(layout, picture):
    changes, _ = tables(streak=(200.0, 100.0))
    changes["x_end_pix"][:], changes["y_end_pix"][:] = 900.0, 600.0
    before = picture.copy()
    mark(picture, layout, changes, None, 4)
    drawn = inked(before, picture, layout, "difference")
    matrix = layout.native_to_movie("difference")
    for part in np.linspace(0.1, 0.9, 9):
        u, v = matrix @ [200 + 700 * part, 100 + 500 * part, 1.0]
        a, b = round(u), round(v)
        assert not drawn[b - 1 : b + 2, a - 1 : a + 2].any()
        assert drawn[b - 12 : b + 13, a].any()


def test_the_best_come_first_and_stay_where_they_were_last(layout):
    changes, seen = tables(variable=(50.0, 60.0), mover=(300.0, 200.0, 4.0, -3.0), transient=(9.0, 8.0))
    found = best_places(changes, seen, 9, 2)
    assert [name for name, _, _ in found] == ["variable 3", "mover 4"]
    assert found[1][1] == (300.0, 200.0)
    assert found[1][2] == pytest.approx((316.0, 188.0))


def test_masked_cells_are_not_drawn(layout, picture):
    """Tables read from ECSV are masked where nothing is known."""
    changes, _ = tables(variable=(300.0, 200.0))
    changes["x_pix"] = np.ma.masked_all(1)
    before = picture.copy()
    mark(picture, layout, changes, None, 3)
    np.testing.assert_array_equal(picture, before)
    assert hatched_panel(layout).shape == (*layout.panel_shape, 3)


def test_a_name_keeps_off_the_streaks_of_others(layout, picture, monkeypatch):
    """A streak runs where the name would be first: it goes to the other side, and the streak stays readable."""
    from difflapse.movie import marks

    pasted = []
    monkeypatch.setattr(
        marks, "paste_seamed", lambda view, mask, x, y, colour: pasted.append((mask.shape, x, y, colour))
    )
    changes, seen = tables(variable=(500, 400), streak=(560, 100))

    def places(end):
        pasted.clear()
        changes["x_end_pix"][1], changes["y_end_pix"][1] = end
        mark(picture.copy(), layout, changes, seen, 4)
        return [(x, x + shape[1]) for shape, x, _, colour in pasted if colour == INK]

    far, near = places((700, 101))[0], places((560, 700))[0]
    matrix = layout.native_to_movie("difference")
    at, line = (float(matrix[0] @ (x, 0, 1)) - layout.panel("difference").x for x in (500, 560))
    assert far[0] > at and near[1] < at  # right of its ring; then left of it
    assert far[0] < line < far[1]


def test_a_comets_ring_keeps_to_its_track_whatever_single_frames_show():
    """Its sightings scatter by ten pixels; a mover's ring goes from one to the next."""
    changes = {
        "change": [0, 1], "kind": ["comet", "mover"], "first_frame": [0, 0], "last_frame": [20, 20], "snr": [9.0, 8.0],
        "x_pix": [100.0, 300.0], "y_pix": [50.0, 60.0], "x_end_pix": [140.0, 340.0], "y_end_pix": [60.0, 80.0],
    }  # fmt: skip
    seen = {
        "change": [0, 0, 1, 1], "frame": [5, 15, 5, 15], "x_pix": [122.0, 121.0, 309.0, 331.0],
        "y_pix": [44.0, 66.0, 65.0, 76.0],
    }  # fmt: skip
    comet, mover = marks._seen(changes, seen, 10, (2.0, -1.0))
    assert (comet.x, comet.y) == pytest.approx((118.0, 56.0))
    assert comet.tail == pytest.approx(np.array([[108.0, 53.5]]))
    assert (mover.x, mover.y) == pytest.approx((318.0, 71.5))

"""Pictures of clips, and movies put one after another."""

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from difflapse.errors import OutputError
from difflapse.movie.clip import HEIGHT, SIDE, WIDTH, Curve, clip_picture, fitted, title_card
from difflapse.movie.encode import Encoder
from difflapse.movie.join import join
from difflapse.movie.text import GROUND, WARN

COLOURS = {"this frame": (30, 60, 90), "template": (60, 30, 20), "difference, in sigma": (124, 124, 124)}


def curve(n=6):
    flux = np.linspace(100.0, 300.0, n)
    flux[2] = np.nan
    return Curve(np.arange(n, dtype=float), flux, np.full(n, 12.0), "light", ("04:00 UTC", "05:00 UTC"))


def picture(now, high=200, wide=390):
    panels = {name: np.full((high, wide, 3), colour, np.uint8) for name, colour in COLOURS.items()}
    return clip_picture(
        "mover 3", "S/N 20", "04:02 UTC", panels, [(100, 60), None, (200.5, 80.25)], curve(), now
    )


def test_each_panel_is_in_its_place():
    drawn = picture(5)
    assert drawn.shape == (HEIGHT, WIDTH, 3)
    for n, (name, colour) in enumerate(COLOURS.items()):
        found = (drawn == colour).all(2)
        x = np.flatnonzero(found[84 : 84 + SIDE].sum(0) > 150)
        assert len(x) == pytest.approx(390, abs=2), name
        assert x.mean() == pytest.approx((220, 640, 1060)[n], abs=1)
    assert tuple(drawn[HEIGHT - 1, 2]) == GROUND


def test_the_frame_leaves_what_it_is_about_free():
    """Nothing is drawn within 20 pixels of the place, and nothing at all where there is none."""
    drawn = picture(5)
    y, x = 84 + (SIDE - 200) // 2 + 60, 20 + 5 + 100
    assert (drawn[y - 20 : y + 20, x - 20 : x + 20] == COLOURS["this frame"]).all()
    assert (drawn[y - 40 : y + 40, x - 40 : x + 40] == WARN).all(2).sum() > 40
    middle = drawn[184:384, 450:830]
    assert (middle == COLOURS["template"]).all()


def test_the_light_curve_grows():
    """More points with each frame, none ahead of its time, and none where nothing was measured."""

    def points(now):
        box = drawn = picture(now)[546:692, 110:1250].astype(int)
        bright = (box.min(2) > 200) | (np.abs(drawn - WARN).max(2) < 30)
        return np.flatnonzero(bright.any(0))

    ends = [points(now).max() if points(now).size else 0 for now in range(6)]
    assert ends[0] < 30
    assert ends[5] > 1100
    assert ends[1] == pytest.approx(ends[2], abs=4)  # the third was not measured
    assert all(a <= b + 4 for a, b in pairwise(ends))


def test_cards_and_movie_frames_are_of_the_clips_size():
    card = title_card(["A night", "24 frames"])
    assert card.shape == (HEIGHT, WIDTH, 3)
    assert (card != GROUND).any()
    wide = fitted(np.full((500, 2560, 3), 90, np.uint8))
    assert wide.shape == (HEIGHT, WIDTH, 3)
    assert (wide[235:485] == 90).all()
    assert tuple(wide[200, 100]) == GROUND
    tall = fitted(np.full((360, 200, 3), 90, np.uint8))
    assert (tall[:, 441:839] == 90).all()


def part(path, stays, grey):
    with Encoder(path, (128, 96), 12, variable=True, threads=1) as encoder:
        for n, stay in enumerate(stays):
            encoder.write(np.full((96, 128, 3), grey + 10 * n, np.uint8), stay)


def test_parts_follow_each_other(tmp_path):
    part(tmp_path / "a.mp4", [0.5, 2.5], 40)
    part(tmp_path / "b.mp4", [0.25, 0.25, 1.0], 150)
    length = join([tmp_path / "a.mp4", tmp_path / "b.mp4"], tmp_path / "all.mp4", {"title": "both"})
    assert length == pytest.approx(4.5, abs=0.01)
    with av.open(str(tmp_path / "all.mp4")) as container:
        assert container.metadata["title"] == "both"
        assert container.duration / 1e6 == pytest.approx(4.5, abs=0.01)
        shown = [
            (float(Fraction(f.time).limit_denominator(1000)), f.to_ndarray(format="rgb24").mean())
            for f in container.decode(video=0)
        ]
    assert [t for t, _ in shown] == pytest.approx([0, 0.5, 3.0, 3.25, 3.5], abs=0.01)
    assert [g for _, g in shown] == pytest.approx([40, 50, 150, 160, 170], abs=3)


def test_a_folder_that_is_not_there(tmp_path):
    part(tmp_path / "a.mp4", [0.5], 40)
    with pytest.raises(OutputError):
        join([tmp_path / "a.mp4"], tmp_path / "none" / "all.mp4", {})


def test_frames_without_a_measure_are_crossed_and_it_is_said_why():
    """A cross on the axis from the frame's turn on; its reason below the axis, between the ends' times."""
    known = curve()
    told = Curve(known.time, known.flux, known.error, known.label, known.ends, "thick cloud")
    plain = {name: np.full((200, 390, 3), colour, np.uint8) for name, colour in COLOURS.items()}

    def drawn(which, now):
        return clip_picture("a", "b", "c", plain, [None] * 3, which, now).astype(int)

    before, after = (np.abs(drawn(told, n) - drawn(known, n)).max(2) > 30 for n in (1, 2))
    x = round(118 + 2 / 5 * 1124)  # of the third of six
    assert not before[546:693].any() and after[676:690, x - 7 : x + 8].sum() > 20
    assert not after[546:693, : x - 8].any() and not after[546:693, x + 9 :].any()
    below = np.flatnonzero(after[694:720].any(0))
    assert below.min() > 250 and below.max() < 1110
    whole = Curve(known.time, np.nan_to_num(known.flux), known.error, known.label, known.ends, "thick cloud")
    assert np.array_equal(drawn(whole, 5)[694:], drawn(known, 5)[694:])


@pytest.mark.parametrize("lit", [True, False])
def test_a_streak_has_thin_lines_beside_it_that_hide_nothing(lit):
    """Along its whole way, on both sides, also where it ends outside of the panel."""
    panels = {name: np.full((200, 390, 3), colour, np.uint8) for name, colour in COLOURS.items()}
    ends = (60.0, 40.5), (470.0, 155.0)
    drawn = clip_picture("streak 1", "", "04:02 UTC", panels, [ends, None, ends], curve(), 3, lit)
    view = drawn[84 + (SIDE - 200) // 2 :][:200, 25:415].astype(int)
    changed = np.abs(view - COLOURS["this frame"]).max(2) > 40
    along = np.subtract(*ends[::-1]) / np.hypot(*np.subtract(*ends))
    y, x = np.nonzero(changed)
    off = (x - ends[0][0]) * -along[1] + (y - ends[0][1]) * along[0]
    way = (x - ends[0][0]) * along[0] + (y - ends[0][1]) * along[1]
    inside = way > -10
    assert np.abs(off[inside]).min() > 12
    assert np.abs(off).max() < 18
    for side in (-1, 1):
        own = way[inside & (side * off > 0)]
        assert own.min() < 5
        assert len(np.unique(own.astype(int))) > 0.9 * (own.max() - own.min())
    assert (way < -10).sum() > 10
    assert changed.mean() < 0.02
    assert np.abs(view[changed] - WARN).max(1).min() < (30 if lit else 255)

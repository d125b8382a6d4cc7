"""Words and panels: all text is accepted, numbers stand still, the same input gives the same picture."""

import dataclasses

import numpy as np
import pytest

from difflapse.errors import OptionError
from difflapse.movie import (
    Caption,
    MovieFrame,
    annotate,
    compose,
    hatched_panel,
    make_layout,
    text,
    timelapse_record,
)
from difflapse.movie.annotate import _tail
from difflapse.movie.text import sanitise, text_mask

CAPTION = Caption(
    "2018-08-24T04:01:18", 9, 60, "Wasp 35", "120 s", ("aligned", "difference: in sigma"), "wcs", "cloud"
)


@pytest.fixture
def layout():
    return make_layout(("aligned", "difference"), (60, 97), width=1000)


def frame(layout, caption):
    return compose(layout, dict.fromkeys(layout.names, hatched_panel(layout)), caption)


def test_caption_changes_only_the_strips_and_only_its_part(layout):
    """From frame 9 to frame 10 nothing moves but the number and the time."""
    first = frame(layout, CAPTION)
    then = frame(layout, dataclasses.replace(CAPTION, frame=10, time_utc="2018-08-24T04:11:11"))
    changed = (first != then).any(2)
    assert changed.any()
    assert not changed[: layout.bottom.y].any()
    assert not changed[:, layout.width // 2 :].any()
    shape = [text_mask(f"{k:02d}:11:{k:02d} UTC", 30).shape for k in range(60)]
    assert len(set(shape)) == 1


def test_the_number_is_that_of_the_tables(layout, monkeypatch):
    """Frame 12 of the column `frame` is called 12, and its digits end where those of frame 9 end."""
    ends = {}
    for number in (9, 12):
        drawn = []

        def paste(band, mask, x, y, colour, drawn=drawn):
            drawn.append((mask, x + mask.shape[1], colour))

        monkeypatch.setattr(annotate, "paste", paste)
        frame(layout, dataclasses.replace(CAPTION, frame=number, n_frames=36))
        for word, colour in (("frame", text.BRIGHT), (str(number), text.BRIGHT), ("of 36", text.DIM)):
            wanted = text_mask(word, layout.text)
            found = [end for mask, end, c in drawn if np.array_equal(mask, wanted) and c == colour]
            assert found, word
            ends.setdefault(word if not word.isdigit() else "number", set()).add(found[-1])
    assert all(len(places) == 1 for places in ends.values())


def test_the_same_input_gives_the_same_output(layout):
    np.testing.assert_array_equal(frame(layout, CAPTION), frame(layout, CAPTION))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("M 31", "M 31"),
        ("a\x00b\n\tc\x1b[31m", "ab c[31m"),
        ("Übersee", "Ubersee"),
        ("α Cygni", "alpha Cygni"),
        ("日本", "??"),
        ("\u202egnp\ufeff", "gnp"),
        ("−3 ± 2σ — ok", "−3 ± 2σ – ok"),
        ("", ""),
    ],
)
def test_text_is_made_fit_to_be_shown(text, shown):
    assert sanitise(text) == shown


def test_long_and_strange_names_are_elided(layout):
    """A header may hold anything: the picture keeps its size."""
    for name in ("x" * 5000, "\U0001f30c" * 300, "\x00" * 50, "e\u0301" * 99, "\ud800"):
        picture = frame(
            layout, dataclasses.replace(CAPTION, name=name, note=name, titles=(name, name), method=name)
        )
        assert picture.shape == (layout.height, layout.width, 3)
    assert text_mask("a long name", 20, 60).shape[1] <= 60
    assert text_mask("a long name", 20, 1).shape[1] <= 1


def test_no_labels_no_strips():
    layout = make_layout(("aligned",), (60, 97), width=98, labels="none")
    assert (layout.width, layout.height) == (98, 60)
    picture = compose(layout, {"aligned": np.full((60, 97, 3), 200, np.uint8)}, CAPTION)
    assert (picture[:, :97] == 200).all()
    timed = make_layout(("aligned",), (60, 197), width=197, labels="time")
    assert timed.top is None
    assert timed.bottom.height < 40


def test_unknown_time_is_said(layout):
    assert (frame(layout, CAPTION) != frame(layout, dataclasses.replace(CAPTION, time_utc=""))).any()


def test_a_panel_of_another_size_is_refused(layout):
    with pytest.raises(OptionError, match="'difference' is none"):
        compose(layout, {"aligned": hatched_panel(layout)}, CAPTION)
    with pytest.raises(OptionError, match="'aligned' is"):
        compose(
            layout, {"aligned": np.zeros((3, 4, 3), np.uint8), "difference": hatched_panel(layout)}, CAPTION
        )


def test_the_record_describes_the_movie(layout):
    first = MovieFrame("a.fits", "2018-08-24T04:01:18", "template", (3.5, -1.25))
    frames = [first, MovieFrame(None, None, None)]
    record = timelapse_record(layout, frames, 12)
    assert set(record["panels"]) == {"aligned", "difference"}
    panel = record["panels"]["difference"]
    assert panel["width"] == layout.panels[1].width
    assert np.shape(panel["native_to_movie"]) == (2, 3)
    assert record["frames"][0]["shift"] == [3.5, -1.25]
    assert record["frames"][1] == {
        "file": None,
        "time_utc": None,
        "template": None,
        "shift": [0.0, 0.0],
        "start_s": None,
        "duration_s": None,
    }


@pytest.mark.parametrize("room", [150, 180])
def test_a_title_without_room_keeps_its_unit(room: int) -> None:
    tail, size = "minus template of 12 frames, in sigma", 14
    end = text_mask(", in sigma", size)
    assert text_mask(tail, size).shape[1] > room
    band = np.zeros((24, 400, 3), np.uint8)
    _tail(band, tail, size, 10, 2, room)
    inked = np.flatnonzero(band.any(axis=(0, 2)))
    assert inked[0] >= 10
    assert inked[-1] < 10 + room
    last = np.flatnonzero(end.any(axis=0))[-1]
    at = inked[-1] - last
    drawn = band[2 : 2 + len(end), at : at + end.shape[1]].max(axis=2) > 0
    np.testing.assert_array_equal(drawn, end > 0)
    # And something of what was subtracted.
    assert inked[0] < at - 2 * size

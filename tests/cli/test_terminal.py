"""Progress on a terminal and elsewhere, and numbers as a person reads them."""

from __future__ import annotations

import io
import json
import re
import time

import pytest

from difflapse.cli import terminal


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(terminal.time, "monotonic", made)
    return made


def test_lines_tell_speed_and_time_left_now_and_then(clock: Clock) -> None:
    out = io.StringIO()
    lines = terminal.Lines(out)
    lines.start("align", 50)
    for _ in range(20):
        clock.now += 1.0
        lines.advance("align", 2)
    lines.advance("align", 10)
    lines.finish("align")
    assert out.getvalue().splitlines() == [
        "align: 20/50 frames, 2.0 frames/s, 15.0 s left",
        "align: 40/50 frames, 2.0 frames/s, 5.0 s left",
        "align: 50/50 frames in 20.0 s, 2.5 frames/s",
    ]


def test_no_time_left_is_told_while_the_first_frames_compile(clock: Clock) -> None:
    """The first two come after half a minute; what is left is told by the others' pace, not by theirs."""
    out = io.StringIO()
    lines = terminal.Lines(out)
    lines.start("read", 12)
    clock.now += 31.0
    lines.advance("read")
    clock.now += 0.1
    lines.advance("read")
    for _ in range(8):
        clock.now += 4.5
        lines.advance("read")
    assert out.getvalue().splitlines() == [
        "read: 1/12 frames",
        "read: 5/12 frames, 0.2 frames/s, 31.5 s left",
        "read: 8/12 frames, 0.2 frames/s, 18.0 s left",
    ]


def test_lines_bear_stages_that_overlap_and_that_nobody_began(clock: Clock) -> None:
    out = io.StringIO()
    lines = terminal.Lines(out)
    lines.start("read", 3)
    lines.start("warp", 2)
    clock.now += 2.0
    lines.advance("warp", 2)
    lines.advance("other")
    lines.finish("other")
    lines.finish("warp")
    lines.note("n3.fits skipped: no stars")
    lines.finish("read")
    assert out.getvalue().splitlines() == [
        "warp: 2/2 frames in 2.0 s, 1.0 frames/s",
        "note: n3.fits skipped: no stars",
        "read: 0/3 frames in 2.0 s, 0.0 frames/s",
    ]


def test_a_single_piece_of_work_has_no_speed(clock: Clock) -> None:
    out = io.StringIO()
    lines = terminal.Lines(out)
    lines.start("sensor", 1)
    clock.now += 2.0
    lines.advance("sensor")
    lines.finish("sensor")
    assert out.getvalue() == "sensor: 2.0 s\n"


def test_an_interrupt_that_was_swallowed_ends_the_run_at_the_next_progress() -> None:
    from difflapse.cli.interrupt import Obedient, Request

    out = io.StringIO()
    request = Request()
    listener = Obedient(terminal.Lines(out), request)
    listener.start("align", 2)
    listener.advance("align")
    request.made = True
    for told in (
        lambda: listener.note("n1.fits skipped: unexpected SystemError"),
        lambda: listener.advance("align"),
        lambda: listener.finish("align"),
        lambda: listener.start("movie", 2),
    ):
        with pytest.raises(KeyboardInterrupt):
            told()
    assert out.getvalue() == ""


def test_bars_show_each_stage_and_its_pace(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "110")
    bars = terminal.Bars(redraw_s=0.0)
    bars.start("align", 9)
    bars.start("encode", 0)
    bars.advance("align", 2)
    for _ in range(3):
        time.sleep(0.002)  # clocks may be coarse
        bars.advance("align")
    bars.note("n3.fits [skipped]: no stars")
    bars.finish("align")
    bars.finish("encode")
    bars.finish("never begun")
    bars.close()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert "n3.fits [skipped]: no stars" in shown
    assert re.search(r"align +\S+ 5/9 +[\d.]+ frames/s, [\d.]+ s left", shown)
    assert not re.search(r"align +\S+ [0-4]/9 +[\d.]+ frames/s", shown), "the first frames compile"
    assert re.search(r"align +\S+ 5/5 +[\d.]+ frames/s, took", shown)


def test_bars_start_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setenv("FORCE_COLOR", "1")
    before = threading.active_count()
    bars = terminal.Bars()
    bars.start("align", 4)
    assert threading.active_count() == before
    bars.close()


def test_quiet_is_silence_and_no_terminal_means_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    from difflapse.pipeline.progress import Silence

    with terminal.progress(quiet=True) as listener:
        assert isinstance(listener.listener, Silence)
    monkeypatch.setattr(terminal.sys, "stderr", io.StringIO())
    with terminal.progress(quiet=False) as listener:
        assert isinstance(listener.listener, terminal.Lines)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1536, "1.5 kB"),
        (300 * 1024**2, "300 MB"),
        (1.25 * 1024**3, "1.2 GB"),
    ],
)
def test_sizes(n_bytes: float, text: str) -> None:
    assert terminal.human_size(n_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (59.99, "1 min 00 s"), (125, "2 min 05 s"), (4205, "1 h 10 min")],
)
def test_times(seconds: float, text: str) -> None:
    assert terminal.human_time(seconds) == text


def test_numbers_that_are_none_are_unknown() -> None:
    assert terminal.human_number(float("nan")) == "unknown"
    assert terminal.human_number(None) == "unknown"
    assert terminal.human_number(0.123456) == "0.123"


def test_json_has_null_for_what_is_not_a_number(capsys) -> None:
    import numpy as np

    terminal.print_json({"rms": float("nan"), "list": (np.float32(1.5), np.int16(3)), "name": "Görlitz"})
    text = capsys.readouterr().out
    assert json.loads(text) == {"rms": None, "list": [1.5, 3], "name": "Görlitz"}
    assert "Görlitz" in text

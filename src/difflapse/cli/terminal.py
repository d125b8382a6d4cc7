"""What a person sees: results on stdout, progress and notes on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

import click

from difflapse.cli.interrupt import Obedient
from difflapse.pipeline.progress import Progress, Silence

if TYPE_CHECKING:
    from rich.progress import Task, TaskID

_FEW = 3
"""Frames after the first ones from which on it is told how long the others will take."""


@contextmanager
def progress(quiet: bool) -> Iterator[Progress]:
    """A listener for a run: bars on a terminal, occasional lines elsewhere, silence if asked for.

    It also ends the run when that was asked for and the request was lost on its way.
    """
    if quiet:
        yield Obedient(Silence())
    elif sys.stderr.isatty():
        bars = Bars()
        try:
            yield Obedient(bars)
        finally:
            bars.close()
    else:
        yield Obedient(Lines(sys.stderr))


def print_json(value: Any) -> None:
    """Print a result as JSON; what is not a number (NaN, infinity) becomes null, as JSON has none."""
    click.echo(json.dumps(_finite(value), indent=2, ensure_ascii=False))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout: as wide as the terminal, or unbroken where it is read by a program."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in head[:-1]:
        table.add_column(name, overflow="fold", no_wrap=not sys.stdout.isatty())
    table.add_column(head[-1], overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    width = None if sys.stdout.isatty() else 10_000
    console = Console(file=sys.stdout, highlight=False, width=width)
    with console.capture() as shown:
        console.print(table)
    for line in shown.get().splitlines():
        click.echo(line.rstrip())


def human_size(n_bytes: float) -> str:
    """A number of bytes as a person reads it: ``1.2 GB`` (of 1024 MB)."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(n_bytes) < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "bytes" or n_bytes >= 100 else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} TB"


def human_time(seconds: float) -> str:
    """A duration as a person reads it: ``3.2 s``, ``2 min 05 s``, ``1 h 10 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def human_number(value: Any, digits: int = 3) -> str:
    """A measured number, or ``unknown`` where there is none."""
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return "unknown"
    return f"{value:.{digits}g}"


def human_chance(value: float) -> str:
    """A probability; what lies far beyond the night's own stars is no more than ``below 1e-9``."""
    return "below 1e-9" if value < 1e-9 else f"{value:.0e}".replace("e-0", "e-")


def count(n: int, noun: str) -> str:
    """``1 frame``, ``2 frames``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


@dataclass
class _Stage:
    """How far one stage has come."""

    total: int
    began: float
    done: int = 0
    told: float = 0.0
    settled: tuple[float, int] | None = None
    """When the first frames were done, and how many there were: they bear what happens once, such as compiling."""

    def add(self, count: int, now: float) -> None:
        """So many more frames are done."""
        self.done += count
        first = max(
            2, min(os.cpu_count() or 1, self.total // 5)
        )  # one for each worker, which all begin alike
        if self.settled is None and self.done >= first:
            self.settled = (now, self.done)

    def speed(self, now: float) -> float:
        """Frames per second since the stage began."""
        return self.done / max(now - self.began, 1e-9)

    def going(self, now: float) -> str:
        """Speed and time left, by what came after the first frames; empty before a few have come."""
        if self.settled is None or self.done - self.settled[1] < _FEW or now <= self.settled[0]:
            return ""
        speed = (self.done - self.settled[1]) / (now - self.settled[0])
        return f"{speed:.1f} frames/s, {human_time((self.total - self.done) / speed)} left"


@dataclass
class Lines:
    """Progress as plain lines, for logs and pipes: one every few seconds, and one when a stage is done."""

    out: IO[str]
    every_s: float = 10.0
    stages: dict[str, _Stage] = field(default_factory=dict)

    def start(self, stage: str, total: int) -> None:
        """Begin to count."""
        now = time.monotonic()
        self.stages[stage] = _Stage(total, now, told=now)

    def advance(self, stage: str, count: int = 1) -> None:
        """Count, and say so now and then."""
        state = self.stages.get(stage)
        if state is None:
            return
        now = time.monotonic()
        state.add(count, now)
        if now - state.told >= self.every_s and state.done < state.total:
            state.told = now
            going = state.going(now)
            self._say(f"{stage}: {state.done}/{state.total} frames" + (f", {going}" if going else ""))

    def finish(self, stage: str) -> None:
        """Say how long the stage took."""
        state = self.stages.pop(stage, None)
        if state is None:
            return
        now = time.monotonic()
        took = human_time(now - state.began)
        if state.total == 1:  # one piece of work, not frames
            self._say(f"{stage}: {took}")
            return
        self._say(f"{stage}: {state.done}/{state.total} frames in {took}, {state.speed(now):.1f} frames/s")

    def note(self, text: str) -> None:
        """Pass a note on."""
        self._say(f"note: {text}")

    def _say(self, text: str) -> None:
        print(text, file=self.out, flush=True)


class Bars:
    """Progress as one bar per stage, with frames per second and time left, on a terminal.

    Drawn only when told of progress, never from a thread of its own: it takes no time from a run that stands
    still, and worker processes are started safely on every platform.
    """

    def __init__(self, redraw_s: float = 0.1) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn
        from rich.progress import Progress as RichProgress
        from rich.text import Text

        stages: dict[int, _Stage] = {}

        class Pace(ProgressColumn):
            """Frames per second, and time left or time taken."""

            def render(self, task: Task) -> Text:
                if task.total == 1:  # one piece of work, not frames
                    return Text(f"took {human_time(task.finished_time or 0.0)}" if task.finished else "")
                if task.finished:
                    speed = task.completed / task.elapsed if task.elapsed else 0.0
                    return Text(f"{speed:.1f} frames/s, took {human_time(task.finished_time or 0.0)}")
                return Text(stages[task.id].going(time.monotonic()) if task.id in stages else "")

        self._bars = RichProgress(
            TextColumn("{task.description:<12}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            Pace(),
            console=Console(stderr=True, highlight=False, markup=False, emoji=False),
            auto_refresh=False,
        )
        self._stages = stages
        self._tasks: dict[str, TaskID] = {}
        self._redraw_s = redraw_s
        self._drawn = 0.0
        self._bars.start()

    def start(self, stage: str, total: int) -> None:
        """Add a bar."""
        task = self._tasks[stage] = self._bars.add_task(stage, total=total or None)
        self._stages[task] = _Stage(total, time.monotonic())
        self._draw()

    def advance(self, stage: str, count: int = 1) -> None:
        """Lengthen the bar."""
        if stage in self._tasks:
            self._bars.advance(self._tasks[stage], count)
            self._stages[self._tasks[stage]].add(count, time.monotonic())
            self._draw(lazily=True)

    def finish(self, stage: str) -> None:
        """Leave the bar as it stands; frames that never came (skipped ones) are no longer waited for."""
        task_id = self._tasks.pop(stage, None)
        if task_id is not None:
            task = next(task for task in self._bars.tasks if task.id == task_id)
            self._bars.update(task_id, total=task.completed)
            self._bars.stop_task(task_id)
            self._draw()

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(f"note: {text}", markup=False, highlight=False)
        self._draw()

    def close(self) -> None:
        """Draw for the last time."""
        self._bars.stop()

    def _draw(self, lazily: bool = False) -> None:
        now = time.monotonic()
        if not lazily or now - self._drawn >= self._redraw_s:
            self._drawn = now
            self._bars.refresh()


def _finite(value: Any) -> Any:
    """The same value with NaN and infinities as None, at any depth."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    if hasattr(value, "tolist") and not isinstance(value, str):  # a numpy scalar or array
        return _finite(value.tolist())
    return value

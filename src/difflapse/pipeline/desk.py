"""Where the main process keeps what it knows of a night while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from difflapse.errors import FrameError
from difflapse.pipeline.context import Night
from difflapse.pipeline.pool import Pool
from difflapse.pipeline.progress import Progress

if TYPE_CHECKING:
    from difflapse.pipeline.encode import Film

FIRST = "timelapse"
"""Name of a run's own movie, without ending."""


@dataclass
class Desk:
    """The night, its workers, the small values of each frame, and why frames were skipped."""

    night: Night
    pool: Pool
    progress: Progress
    values: dict[str, dict[int, Any]] = field(default_factory=dict)
    """Value's name -> frame -> value; only small values come here."""
    failed: dict[int, str] = field(default_factory=dict)
    """Frame -> reason."""
    errors: dict[int, FrameError] = field(default_factory=dict)
    """Frame -> the error behind the reason, with its numbers."""
    products: list[str] = field(default_factory=list)
    """Files that were written, by their names below the night's folder."""
    begun: list[tuple[str, Callable[[], Any]]] = field(default_factory=list)
    """Files that are written beside other work, see `begin_file`: the night can do without those that have a name here;
    what waits for the names of what was written.
    """
    awaited: dict[str, Callable[[], Any]] = field(default_factory=dict)
    """Tasks begun beside others whose result a later stage takes, see `begin`."""
    film: Film | None = None
    """The movie, where its pictures are encoded as they arrive."""
    stem: str = FIRST
    """Name of the movie, without ending."""
    few: bool = False
    """Only some of the frames are taken through the second pass."""

    def alive(self) -> list[int]:
        """Frames that have not failed, in time order."""
        return [k for k in range(len(self.night.frames)) if k not in self.failed]

    def fail(self, frame: int, reason: str) -> None:
        """Skip a frame and say why."""
        self.failed[frame] = reason
        self.progress.note(f"{self.night.frames[frame].file} skipped: {reason}")

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *failure: Any) -> None:
        self.close_film(*failure)
        if failure[0] is not None:
            self.pool.drop()

    def open_film(self, film: Film) -> None:
        """Begin a movie that takes pictures as they arrive."""
        self.film = film.__enter__()

    def close_film(self, *failure: Any) -> None:
        """End it; with a failure, nothing of it stays."""
        film, self.film = self.film, None
        if film is not None:
            film.__exit__(*(failure or (None, None, None)))

    def begin_file(self, optional: str, task: Callable[..., Any], *job: Any) -> None:
        """Begin to write products beside other work; `products.wait_for_files` waits. Of what is `optional` (a name for
        notes; empty for what is not) a failure costs those files alone.
        """
        self.begun.append((optional, self.pool.start(task, *job)))

    def begin(self, name: str, task: Callable[..., Any], *job: Any) -> None:
        """Begin a task of the night beside others; `take` has its result."""
        self.awaited[name] = self.pool.start(task, *job)

    def take(self, name: str) -> Any:
        """Wait for what `begin` began: its result, or the `FrameError` that it raised; None where it was not begun."""
        wait_for = self.awaited.pop(name, None)
        return wait_for() if wait_for is not None else None

    def value(self, name: str, frame: int) -> Any:
        """One frame's value."""
        return self.values[name][frame]

"""What is begun while the rest of the program is still being loaded: a task, in a copy of this process."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from difflapse.errors import DifflapseError
from difflapse.pipeline.pool import can_fork, guarded, prepare_copy


@contextlib.contextmanager
def in_copy(task: Callable[..., Any], *job: Any) -> Iterator[Callable[[], Any] | None]:
    """Have a copy of this process do one task while this one goes on; the copy is ended in the end, done or not.

    Yields
    ------
    callable or None
        Waits for the result, which is as in `Pool.run`; None where the copy was ended from outside. None instead of it
        where this process cannot be copied, see `can_fork`.
    """
    context = get_context("fork") if can_fork() else None
    if context is None:
        yield None
        return
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_do, args=(theirs, task, job), daemon=True)
    try:
        process.start()
    except OSError:  # for want of memory, or of processes
        yield None
        return
    finally:
        theirs.close()

    def wait_for() -> Any:
        try:
            result = ours.recv()
        except (EOFError, OSError):
            return None
        if isinstance(result, _Raised):
            raise result.error
        return result

    try:
        yield wait_for
    finally:
        ours.close()
        process.kill()
        process.join()


class _Raised:
    """An error that ends the run."""

    def __init__(self, error: DifflapseError) -> None:
        self.error = error


def _do(answer: Connection, task: Callable[..., Any], job: tuple[Any, ...]) -> None:
    gc.disable()  # to look through what was copied would copy it indeed
    prepare_copy()
    try:
        result = guarded(task, *job)
    except DifflapseError as error:
        result = _Raised(error)
    answer.send(result)

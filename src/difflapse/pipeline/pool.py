"""Worker processes: a bounded number of frames in flight, results in order or not, failures kept apart."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import importlib
import os
import platform
import re
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import current_process, get_context, parent_process
from types import TracebackType
from typing import Any

from difflapse.errors import DISK_FULL, DifflapseError, FrameError, OutputError

_HAS_FORK_SERVER = sys.platform != "win32"
_PRELOAD, _FREEZE = "difflapse.pipeline.preload", "difflapse.pipeline.freeze"
_KERNELS = "difflapse.pipeline.kernels"
KEPT = 600_000_000
"""Bytes at the end of its heap that a worker does not hand back."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Their numbers in `malloc.h`."""
_OLD_LIBRARY = (2, 35)
"""Before this version the C library heeds no larger threshold than 32 MiB."""


def _threshold() -> int:
    """Bytes from which on an array is not taken from the heap."""
    version = re.match(r"(\d+)\.(\d+)", platform.libc_ver()[1])
    known = (int(version[1]), int(version[2])) if version else (0, 0)
    return 1_000_000_000 if known >= _OLD_LIBRARY else 32 << 20


_SETTINGS = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1")
"""What the workers' libraries are told, where the user tells them nothing else. Matrices here are small: a library's
own threads would only wait for each other, beside the other workers."""


def cores() -> int:
    """Processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prestart() -> None:
    """Start the fork server, which imports the tasks while this process goes on with its own imports.

    Each worker is then forked from it in no time. A second call does nothing, nor does one where there is no such
    server (Windows), or none is needed, see `can_fork`.
    """
    if not _HAS_FORK_SERVER or can_fork():
        return
    from multiprocessing import forkserver

    get_context("forkserver").set_forkserver_preload([_PRELOAD, _FREEZE])
    # Ctrl-C reaches the whole group: the server must not die of it before it has set its own handling.
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main else None
    try:
        with _hidden_main(), _told():
            forkserver.ensure_running()
    finally:
        if in_main:
            signal.signal(signal.SIGINT, before)


def can_fork() -> bool:
    """Whether workers can be copies of this process: on Linux, where it has no thread but this one, nor has a library
    that may start some.

    The program has none. They then need no imports of their own: 1.5 s of a processor, at the start of each run.
    """
    if sys.platform != "linux" or threading.active_count() > 1 or current_process().daemon:
        return False
    if any(os.environ.get(name) != value for name, value in _SETTINGS.items()):
        return False
    with contextlib.suppress(OSError):
        # A thread that has ended may take a moment to go.
        for _ in range(20):
            if len(os.listdir("/proc/self/task")) == 1:
                return True
            time.sleep(0.001)
    return False


def import_beside(names: Iterable[str]) -> None:
    """Import modules in a thread, while this process waits for its workers: they are at hand when they are needed."""

    def load() -> None:
        for name in names:
            # Whatever is wrong with it is told where it is used.
            with contextlib.suppress(Exception):
                importlib.import_module(name)

    threading.Thread(target=load, name="imports", daemon=True).start()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Processes that are started meanwhile find `_SETTINGS`."""
    added = {name: value for name, value in _SETTINGS.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _hidden_main() -> Iterator[None]:
    """Keep a new worker from running the user's script again: none of our tasks lives in it.

    Without this a script would have to guard its main part by ``if __name__ == "__main__"``.
    """
    main = sys.modules["__main__"]
    kept: dict[str, Any] = {
        name: main.__dict__.pop(name) for name in ("__file__", "__spec__") if name in main.__dict__
    }
    try:
        main.__dict__["__spec__"] = None
        yield
    finally:
        main.__dict__.pop("__spec__", None)
        main.__dict__.update(kept)


def _copies(workers: int) -> ProcessPoolExecutor | None:
    """Workers that are copies of this process, made at once; None where what they need has brought threads with it."""
    importlib.import_module(_PRELOAD)
    importlib.import_module(_KERNELS).load()
    if not can_fork():
        return None
    executor = ProcessPoolExecutor(workers, mp_context=get_context("fork"), initializer=_prepare_worker)
    # What is loaded stays: the collector need not look through it in the workers, whose own copy it would become.
    gc.freeze()
    try:
        executor.submit(os.getpid)
    finally:
        gc.unfreeze()
    return executor


class Pool:
    """Runs tasks in worker processes, or in this process where one worker is enough.

    Parameters
    ----------
    workers : int
        Number of processes; 1 runs everything here.
    in_flight : int
        Tasks under way or waiting for their turn, at most; bounds the memory of results that wait for an
        earlier one.
    """

    def __init__(self, workers: int, in_flight: int | None = None) -> None:
        self.workers = workers
        self.in_flight = in_flight or 2 * workers + 1
        self._executor: ProcessPoolExecutor | None = None
        self._beside: Generator[None] | None = None
        self._failure: Exception | None = None
        self.copied = False
        """Whether workers are copies of this process."""
        if workers > 1:
            self._executor = _copies(workers) if can_fork() else None
            self.copied = self._executor is not None
            if self._executor is None:
                prestart()
                method = "forkserver" if _HAS_FORK_SERVER else "spawn"
                self._executor = ProcessPoolExecutor(
                    workers, mp_context=get_context(method), initializer=_prepare_worker
                )

    @staticmethod
    def most_waiting(workers: int) -> int:
        """Jobs that may be under way or done before the first of them is yielded, when they are run in order."""
        return 2 * workers + 3

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop()
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def do_beside(self, steps: Generator[None]) -> None:
        """Take small steps of work of this process while `run` waits for a worker; `finish` takes those that are left.

        Without workers all steps are taken at once. What goes wrong in one is raised by `finish`, not by a `run` that
        has nothing to do with it.
        """
        self._beside = steps
        if self._executor is None:
            self.finish()

    def finish(self) -> None:
        """Take the steps that are left of what is done beside; raise what went wrong in one."""
        while self._step():
            pass
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def drop(self) -> None:
        """Let go of what is done beside: its generator is closed, and cleans up."""
        beside, self._beside, self._failure = self._beside, None, None
        if beside is not None:
            beside.close()

    def _step(self) -> bool:
        """Take one step of what is done beside; whether there may be another."""
        if self._beside is None:
            return False
        try:
            next(self._beside)
        except StopIteration:
            self._beside = None
        except Exception as error:
            self._beside = None
            _raise_interrupt(error)
            self._failure = error
        return self._beside is not None

    def run(
        self,
        task: Callable[..., Any],
        jobs: Iterable[tuple[Any, ...]],
        ordered: bool = False,
        in_flight: int | None = None,
    ) -> Iterator[tuple[int, Any]]:
        """Run ``task(*job)`` for each job.

        Yields
        ------
        (n, result)
            The job's number and its result, or the `FrameError` that it raised. In the jobs' order if
            `ordered`, else as they are done.
        """
        if self._executor is None:
            for n, job in enumerate(jobs):
                yield n, guarded(task, *job)
            return
        with _whole():
            yield from self._run(task, jobs, ordered, in_flight or self.in_flight)

    def start(self, task: Callable[..., Any], *job: Any) -> Callable[[], Any]:
        """Begin one task beside others. What is returned waits for its result, which is as in `run`."""
        if self._executor is None:
            result = guarded(task, *job)
            return lambda: result
        with _whole():
            future = self._submit(task, job)

        def wait_for() -> Any:
            with _whole():
                return future.result()

        return wait_for

    def _submit(self, task: Callable[..., Any], job: tuple[Any, ...]) -> Future[Any]:
        assert self._executor is not None
        with _hidden_main(), _told():  # a process may be started here
            return self._executor.submit(_taken, task, *job)

    def _run(
        self, task: Callable[..., Any], jobs: Iterable[tuple[Any, ...]], ordered: bool, in_flight: int
    ) -> Iterator[tuple[int, Any]]:
        source = enumerate(jobs)
        pending: deque[tuple[int, Future[Any]]] = deque()
        while True:
            while len(pending) < in_flight:
                following = next(source, None)
                if following is None:
                    break
                n, job = following
                pending.append((n, self._submit(task, job)))
            if not pending:
                return
            awaited = [pending[0][1]] if ordered else [future for _, future in pending]
            while not any(future.done() for future in awaited) and self._step():
                pass
            if ordered:
                n, future = pending.popleft()
                yield n, future.result()
                continue
            wait([future for _, future in pending], return_when=FIRST_COMPLETED)
            for n, future in [item for item in pending if item[1].done()]:
                pending.remove((n, future))
                yield n, future.result()


@contextlib.contextmanager
def _whole() -> Iterator[None]:
    """Say in a user's words that a worker was lost."""
    try:
        yield
    except BrokenProcessPool:
        raise DifflapseError(
            "a worker process was ended from outside, most likely for lack of memory",
            "try fewer --workers, or a smaller --memory",
        ) from None


def guarded(task: Callable[..., Any], *job: Any) -> Any:
    """Run a task; a frame's failure is its result, so that the night goes on."""
    try:
        return task(*job)
    except FrameError as error:
        return error
    except DifflapseError:
        raise
    except MemoryError:
        return FrameError("not enough memory for this frame", "try fewer --workers")
    except OSError as error:
        if error.errno in DISK_FULL:
            raise OutputError("the disk is full", "free some space, or -o OUT on another disk") from None
        return FrameError(f"{type(error).__name__}: {error.strerror or error}")
    except Exception as error:  # whatever is wrong with one frame must not end the night
        _raise_interrupt(error)
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f"{os.path.basename(place.tb_frame.f_code.co_filename)}:{place.tb_lineno}" if place else "?"
        return FrameError(f"unexpected {type(error).__name__} at {where}: {error}", "please report it")


def _raise_interrupt(error: Exception) -> None:
    """Compiled code turns an interrupt into a SystemError of its own."""
    if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
        raise KeyboardInterrupt from error


def _taken(task: Callable[..., Any], *job: Any) -> Any:
    """`guarded`, in a worker: what it kept for tasks of another kind is handed back first."""
    _turn_to(getattr(task, "__qualname__", ""))
    return guarded(task, *job)


@functools.lru_cache(maxsize=1)
def _turn_to(task: str) -> None:
    """Runs where the task is not the one that this process had before."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # other C libraries hand memory back by themselves
            ctypes.CDLL(None).malloc_trim(0)


def prepare_copy() -> None:
    """Make this process one that works for another."""
    # Ctrl-C reaches the whole group; the main process decides what to do, workers finish their frame.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    _keep_memory()


def _prepare_worker() -> None:
    prepare_copy()
    if os.environ.get("PYTHONWARNINGS") == "ignore":  # a copy has what the program told itself, not this
        warnings.simplefilter("ignore")
    import cv2

    cv2.setNumThreads(1)


def _end_with_parent() -> None:
    """Wait until the main process is gone, however it ended, and go too: nobody else would ever end this one."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _keep_memory() -> None:
    """Have the C library of Linux keep the memory of arrays for the next frame's: to hand 50 MB back and take them
    again costs 10 to 40 ms, several times a frame. Where the user told it what to do, that holds.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    with contextlib.suppress(OSError, AttributeError):  # other C libraries do as they please
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, _threshold())
        library.mallopt(_TRIM_THRESHOLD, KEPT)

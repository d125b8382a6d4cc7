"""A request to end, by Ctrl-C or by SIGTERM, that is not lost.

Python raises KeyboardInterrupt wherever the program happens to be, and compiled code may turn it into an
error of its own, which then looks like one bad frame. So the request is also remembered, and checked when
progress is told. While the compiler is at work nothing is raised at all: it calls back into Python, and an
exception there is lost and can crash it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType

from difflapse.pipeline.progress import Progress

_COMPILER = ("llvmlite", "numba")


class Request:
    """Whether somebody asked this process to end."""

    def __init__(self) -> None:
        self.made = False

    def listen(self) -> None:
        """Take Ctrl-C and SIGTERM; what our parent ignores (as nohup does) stays ignored."""
        process = os.getpid()

        def take(signum: int, frame: FrameType | None) -> None:
            if os.getpid() != process:  # a forked worker inherits this handler: let it end as usual
                signal.signal(signum, signal.SIG_DFL)
                os.kill(os.getpid(), signum)
                return
            self.made = True
            if not _compiling(frame):
                raise KeyboardInterrupt

        for signum in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(
                ValueError
            ):  # not in the main thread: whoever called us looks after signals
                if signal.getsignal(signum) is not signal.SIG_IGN:
                    signal.signal(signum, take)

    def obey(self) -> None:
        """Raise KeyboardInterrupt if the request was made."""
        if self.made:
            raise KeyboardInterrupt


def _compiling(frame: FrameType | None) -> bool:
    """Whether the compiler, or its loading of what it compiled before, is anywhere above this frame."""
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in _COMPILER:
            return True
        frame = frame.f_back
    return False


REQUEST = Request()
"""This process' own."""


class Obedient:
    """A listener that ends the run when asked to, and else passes everything on to another."""

    def __init__(self, listener: Progress, request: Request = REQUEST) -> None:
        self.listener = listener
        self.request = request

    def start(self, stage: str, total: int) -> None:
        """Pass it on, or end."""
        self.request.obey()
        self.listener.start(stage, total)

    def advance(self, stage: str, count: int = 1) -> None:
        """Pass it on, or end."""
        self.request.obey()
        self.listener.advance(stage, count)

    def finish(self, stage: str) -> None:
        """Pass it on, or end."""
        self.request.obey()
        self.listener.finish(stage)

    def note(self, text: str) -> None:
        """Pass it on, or end: a frame that was skipped because of the request is not worth a note."""
        self.request.obey()
        self.listener.note(text)

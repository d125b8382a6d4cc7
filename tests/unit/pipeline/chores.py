"""Tasks for worker processes, in a module that they can import (tests themselves are not)."""

from __future__ import annotations

import errno
import os
import time

import numpy as np

from difflapse.errors import AlignError, OptionError


def square(n: int) -> int:
    return n * n


def slow_first(n: int) -> int:
    if n == 0:
        time.sleep(0.3)
    return n


def fail(n: int) -> int:
    if n == 1:
        raise AlignError("found=4, needed=6", "hint", {"found": 4, "needed": 6})
    if n == 2:
        raise ZeroDivisionError("oops")
    if n == 3:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")
    if n == 4:
        raise MemoryError
    return n


def refuse(n: int) -> int:
    raise OptionError("not a frame's fault")


def full(n: int) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def who(n: int) -> int:
    return os.getpid()


def die(n: int) -> int:
    os._exit(9)


def environment(name: str) -> str | None:
    return os.environ.get(name)


def new_pages() -> int:
    """Pages that an array of 160 MB takes, after another has been let go of."""
    import resource

    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.empty(20_000_000).fill(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

"""Everything that can go wrong, drawn once.

::

    DifflapseError              exit 1   our fault unless a child says otherwise
    ├── OptionError             exit 2   an option that does not exist or does not fit
    ├── InputError              exit 3   no usable input: empty, only darks, nothing in common
    ├── MissingDependencyError  exit 4   an optional package is needed
    ├── TooManyFailedError      exit 5   more frames failed than allowed
    ├── PrecisionError          exit 5   the night is aligned less well than required
    ├── OutputError             exit 6   cannot write: disk full, no permission, folder in use
    ├── VerifyError             exit 7   products are not what the inputs make
    └── FrameError              exit 3   one frame failed; a run records it and goes on
        ├── ReadError                    the file cannot be read or holds no image
        ├── MeasureError                 the pixels cannot be measured
        ├── AlignError                   no transform that deserves belief
        └── SolveError                   no place on the sky that a solver would swear to

An error says in one line what was found and what was needed (`message`), what to try (`hint`), and carries its numbers
in `facts`, so that a table can hold them. All survive pickling, so that a worker process can send them home.

Both name options as the command line does (``--max-failed``); what Python shows of them names them as its keywords.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping

DISK_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
"""Error numbers that mean that nothing more can be written there (Windows knows no quota)."""


FLAGS = ("solve", "split", "grid", "changes", "reel", "injection", "overwrite")
"""Options that take no value on the command line."""
_WORDS = (
    "is",
    "are",
    "and",
    "or",
    "with",
    "where",
    "names",
    "needs",
    "may",
    "the",
    "for",
    "go",
    "gives",
    "says",
)
"""What follows an option in a message without being its value."""


def in_python(text: str) -> str:
    """A message or hint with its options spelled as keywords: ``--max-failed 1`` is ``max_failed=1``."""
    return re.sub(
        r"(?<![^\s(\"'`])--(no-)?([a-z][a-z-]*)(?: ([^\s;()]*[^\s,.;:()]))?",
        _keyword,
        text.replace("-o OUT", "out=OUT"),
    )


def _keyword(found: re.Match[str]) -> str:
    name, value = found[2].replace("-", "_"), found[3]
    if found[1] and name not in FLAGS:
        return found[0]
    if name in FLAGS:
        return f"{name}={not found[1]}" + (f" {value}" if value else "")
    if value is None or value in _WORDS:
        return name + (f" {value}" if value else "")
    bare = re.fullmatch(r"[A-Z]+|\d+(\.\d+)?", value)
    return f"{name}={value if bare else repr(value)}"


class DifflapseError(Exception):
    """Base of all errors raised on purpose.

    Parameters
    ----------
    message : str
        What was found and what was needed, in one line.
    hint : str
        What the user may try; empty where there is nothing to say.
    facts : mapping of str to plain value
        The numbers, e.g. ``{"found": 4, "needed": 6}``.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "", facts: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.facts: dict[str, object] = dict(facts or {})
        if hint:
            self.add_note(in_python(hint))  # Python and notebooks show it below the message

    def __reduce__(self) -> tuple[type[DifflapseError], tuple[str, str, dict[str, object]]]:
        return type(self), (self.message, self.hint, self.facts)

    def __str__(self) -> str:
        return in_python(self.message)


class OptionError(DifflapseError):
    """An option that does not exist, or a value that does not fit."""

    exit_code = 2


class InputError(DifflapseError):
    """No usable input: nothing found, only darks, nothing in common."""

    exit_code = 3


class MissingDependencyError(DifflapseError):
    """An optional package is needed; the hint says how to install it."""

    exit_code = 4


class TooManyFailedError(DifflapseError):
    """More frames failed than `max_failed` allows."""

    exit_code = 5


class PrecisionError(DifflapseError):
    """The night is aligned, but not as well as `require_rms` asks."""

    exit_code = 5


class OutputError(DifflapseError):
    """Products cannot be written: disk full, no permission, folder in use."""

    exit_code = 6


class VerifyError(DifflapseError):
    """Products differ from what is made again from the inputs; `facts` say which, and by how much."""

    exit_code = 7


class FrameError(DifflapseError):
    """One frame failed; a run records it in `frames.ecsv` and goes on."""

    exit_code = 3


class ReadError(FrameError):
    """The file cannot be read, or holds no image."""


class MeasureError(FrameError):
    """The pixels cannot be measured: all masked, all equal, not finite."""


class AlignError(FrameError):
    """No transform between two frames that deserves belief."""


class SolveError(FrameError):
    """A plate solver found no place on the sky, took too long or failed."""

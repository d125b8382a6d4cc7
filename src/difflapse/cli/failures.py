"""Every failure as one line on stderr and an exit code; never a traceback on the screen."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
import traceback

import click

from difflapse._version import __version__
from difflapse.errors import DISK_FULL, DifflapseError

INTERRUPTED = 130
READER_LEFT = 141
CANNOT_WRITE = 6
MISSING = 4
WRONG_OPTION = 2
OUR_FAULT = 1

_CANNOT_WRITE = (*DISK_FULL, errno.EROFS, errno.EACCES, errno.EPERM)


def report(error: BaseException) -> int:
    """Tell the person what went wrong, in one line on stderr, and return the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, BrokenPipeError):
        _forget_output()
        return READER_LEFT
    text, code = explain(error)
    try:
        print(f"difflapse: {text}", file=sys.stderr, flush=True)
    except OSError:
        _forget_output()
    return code


def explain(error: BaseException) -> tuple[str, int]:
    """The line (without its prefix) and the exit code of an error."""
    if isinstance(error, DifflapseError):
        return sentence(error.message, error.hint), error.exit_code
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return "interrupted; nothing half-written is left", INTERRUPTED
    if isinstance(error, click.NoSuchOption):
        near = f"did you mean {error.possibilities[0]}?" if error.possibilities else _see_help(error.ctx)
        return sentence(f"there is no option {error.option_name}", near), WRONG_OPTION
    if isinstance(error, click.ClickException):
        ctx = error.ctx if isinstance(error, click.UsageError) else None
        message = error.format_message()
        return sentence(message[:1].lower() + message[1:], _see_help(ctx)), WRONG_OPTION
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        where = f" ({error.filename})" if error.filename else ""
        return sentence(
            f"cannot write: {error.strerror}{where}", "-o with a folder that has room"
        ), CANNOT_WRITE
    if isinstance(error, ModuleNotFoundError) and not (error.name or "difflapse").startswith("difflapse"):
        return sentence(f"the package {error.name} is not installed", f"pip install {error.name}"), MISSING
    if isinstance(error, MemoryError):
        return sentence("this machine's memory is full", "--memory 1GB, or --workers 1"), OUR_FAULT
    what = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    kept = _keep_traceback(error)
    where = f"the traceback is in {kept}" if kept else "its traceback could not be written"
    return (
        f"a fault of ours, not yours: {what}; {where}. Please report it to the developers with that file.",
        OUR_FAULT,
    )


def sentence(message: str, hint: str = "") -> str:
    """Message and hint in one line: ``message. Try: hint``, or ``message. Did you mean ...?``."""
    text = " ".join(message.split())
    hint = " ".join(hint.split())
    if not hint:
        return text
    lead = hint[:1].upper() + hint[1:] if hint.startswith(("did you mean", "known are")) else f"Try: {hint}"
    return f"{text.rstrip('.')}. {lead}"


def _see_help(ctx: click.Context | None) -> str:
    return f"{ctx.command_path if ctx else 'difflapse'} --help"


def _keep_traceback(error: BaseException) -> str:
    """Write the traceback into a temporary file and return its path; empty if even that fails."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="difflapse-fault-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(f"difflapse {__version__}, Python {sys.version.split()[0]}, {sys.platform}\n")
            file.write("".join(traceback.format_exception(error)))
            return file.name
    except OSError:
        return ""


def _forget_output() -> None:
    """Nobody reads us any more: keep the interpreter from complaining when it flushes at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())

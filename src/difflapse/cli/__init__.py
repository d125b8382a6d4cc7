"""The command line: one program, its sub-commands loaded when called."""

from __future__ import annotations

import gc
from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> None:
    """Run the program `difflapse` and leave the interpreter with its exit code."""
    from difflapse.cli import app

    app.prepare_process()
    code = app.main(args)
    gc.freeze()  # it ends: to look through all of it for what may be let go of takes a third of a second
    raise SystemExit(code)

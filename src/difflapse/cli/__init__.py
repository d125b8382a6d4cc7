"""The command line: one program, its sub-commands loaded when called."""

from __future__ import annotations

from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> None:
    """Run the program `difflapse` and leave the interpreter with its exit code."""
    from difflapse.cli import app

    app.prepare_process()
    raise SystemExit(app.main(args))

"""The command line: one program, its sub-commands loaded when called."""

from __future__ import annotations

from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> None:
    """Run the program `difflapse` and leave the interpreter with its exit code."""
    from difflapse.cli.app import main as run_app

    raise SystemExit(run_app(args))

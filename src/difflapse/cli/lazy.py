"""A group of commands that imports a command only when it is called."""

from __future__ import annotations

import difflib
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from difflapse.errors import OptionError


class LazyGroup(click.Group):
    """A click group made from a table of ``name: (module:attribute, one line)``.

    ``--help`` needs the lines only, so it imports no command and none of the libraries commands need.
    """

    def __init__(self, *args: Any, table: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the table's order, which is the order in which a person needs them."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None if there is none of that name."""
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{attribute} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.table.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a name that is none gets the nearest one suggested."""
        word = args[0]
        if word not in self.table and not word.startswith("-"):
            raise OptionError(f"there is no command {word!r}", self._hint(word))
        return super().resolve_command(ctx, args)

    def _hint(self, word: str) -> str:
        near = difflib.get_close_matches(word, self.table, n=1)
        if near:
            return f"did you mean {near[0]!r}?"
        if Path(word).exists():
            return f"difflapse run {word}"
        return f"one of {', '.join(self.table)}"

"""``difflapse methods``: every named method, one line each."""

from __future__ import annotations

import click

from difflapse.cli import terminal


@click.command()
@click.option("--json", "as_json", is_flag=True, help="print JSON instead of a table")
def methods(as_json: bool) -> None:
    """Every named method, one line each; installed plug-ins too."""
    from difflapse.methods import all_methods

    table = all_methods()
    if as_json:
        terminal.print_json([{"kind": m.kind, "name": m.name, "line": m.line} for m in table])
        return
    rows = [(f"--{m.kind}", m.name, m.line) for m in table]
    terminal.print_table(("option", "method", "what it does"), rows)

"""``difflapse run``: the main job."""

from __future__ import annotations

from typing import Any

import click

from difflapse.cli import terminal
from difflapse.cli.options import collect, run_options
from difflapse.cli.summary import print_plan, print_summary
from difflapse.errors import OptionError


@click.command()
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@click.option(
    "-o", "--out", metavar="OUT", help="folder for the products  [default: INPUT's name + -difflapse]"
)
@run_options()
@click.option(
    "--config",
    metavar="FILE",
    help="TOML file of options, such as an earlier run.toml; the command line wins",
)
@click.option(
    "--plan", "only_plan", is_flag=True, help="say what would be done, with memory and disk; reads no pixels"
)
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON on stdout")
@click.option("-q", "--quiet", is_flag=True, help="no progress and no summary; errors are still told")
def run(
    inputs: tuple[str, ...],
    out: str | None,
    config: str | None,
    only_plan: bool,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Turn a night of frames into an aligned movie, a differential movie and tables.

    INPUT may be files, folders (searched downwards), globs, @list.txt or URLs. Products go to OUT.
    """
    if not inputs:
        raise OptionError("no INPUT is given; a folder or files are needed", "difflapse run NIGHT/")
    options = collect(given, config)
    if only_plan:
        from difflapse.pipeline.plan import plan

        foreseen = plan(list(inputs), out, options).to_mapping()
        if as_json:
            terminal.print_json(foreseen)
        elif not quiet:
            print_plan(foreseen)
        return

    from difflapse.pipeline.pool import cores, prestart

    if options.workers != 1 and cores() > 1:
        prestart()  # where workers need imports of their own, they go on beside ours
    from difflapse.pipeline.run import run_night

    with terminal.progress(quiet) as listener:
        night = run_night(list(inputs), out, options, listener)
    if as_json:
        terminal.print_json(night.summary())
    elif not quiet:
        print_summary(night.summary())

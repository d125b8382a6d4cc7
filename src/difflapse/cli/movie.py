"""``difflapse movie``: another movie of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from difflapse.cli import terminal
from difflapse.cli.options import run_options
from difflapse.errors import OptionError
from difflapse.pipeline.config import MOVIE_OPTIONS


@click.command()
@click.argument("run", metavar="OUT")
@click.option(
    "-o",
    "--out",
    metavar="FILE",
    help="the movie; its ending may choose the codec  [default: timelapse-2.mp4 in OUT]",
)
@click.option(
    "--inputs", metavar="FOLDER", help="where the run's input files lie now  [default: where they were]"
)
@run_options(MOVIE_OPTIONS)
@click.option("--overwrite", is_flag=True, help="replace FILE where it is there already")
@click.option("--json", "as_json", is_flag=True, help="say as JSON where the movie is")
@click.option(
    "-q", "--quiet", is_flag=True, help="no progress, and not where the movie is; errors are still told"
)
def movie(
    run: str,
    out: str | None,
    inputs: str | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Another movie of a finished run, from its transforms and its inputs: nothing is found again.

    OUT is the folder of the run. Options that are not given are those of the run.
    """
    from difflapse.pipeline.again import make_movie
    from difflapse.pipeline.results import open_run

    changes = {name: value for name, value in given.items() if value is not None and value != ()}
    nights = open_run(run).sequences
    if out is not None and len(nights) > 1:
        raise OptionError(
            f"-o {out} is one movie; {run} holds {len(nights)} sequences",
            f"difflapse movie {nights[0].folder} -o {out}",
        )
    made: list[Path] = []
    with terminal.progress(quiet) as listener:
        for night in nights:
            made.append(make_movie(night.folder, changes, out, inputs, overwrite, listener))
    if as_json:
        terminal.print_json({"out": str(Path(run)), "movies": [str(path) for path in made]})
    elif not quiet:
        for path in made:
            click.echo(f"movie        {path}")

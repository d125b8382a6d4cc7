"""``difflapse report``: the page of a finished run, made again or in one file."""

from __future__ import annotations

from pathlib import Path

import click

from difflapse.cli import terminal


@click.command()
@click.argument("out", metavar="OUT")
@click.option(
    "--single-file",
    is_flag=True,
    help="one file with everything in it, movie and clips too, to mail: report-single.html",
)
@click.option("--json", "as_json", is_flag=True, help="say where the pages are as JSON on stdout")
@click.option("-q", "--quiet", is_flag=True, help="print nothing; errors are still told")
def report(out: str, single_file: bool, as_json: bool, quiet: bool) -> None:
    """Make the page of a finished run again, from its products alone."""
    from difflapse.pipeline.report import remake

    pages = remake(out, single_file)
    if as_json:
        told = [{"path": str(page), "bytes": page.stat().st_size} for page in pages]
        terminal.print_json({"out": str(Path(out)), "pages": told})
    elif not quiet:
        for page in pages:
            size = f", {terminal.human_size(page.stat().st_size)}" if single_file else ""
            click.echo(f"page       {page}{size}")

"""``difflapse verify``: chosen frames made again, and compared with what the run wrote."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from difflapse.cli import terminal
from difflapse.errors import OptionError


@click.command()
@click.argument("run", metavar="OUT")
@click.option(
    "--frames", metavar="N,...", help="frames to make again  [default: four that are spread over the night]"
)
@click.option(
    "--inputs", metavar="FOLDER", help="where the run's input files lie now  [default: where they were]"
)
@click.option("--json", "as_json", is_flag=True, help="print JSON instead of lines")
@click.option("-q", "--quiet", is_flag=True, help="print nothing; what differs is still told")
def verify(run: str, frames: str | None, inputs: str | None, as_json: bool, quiet: bool) -> None:
    """Make chosen frames of a finished run again from its inputs, and compare them with its products.

    OUT is the folder of the run; nothing is written there. The exit code is 7 where anything differs.
    """
    chosen = _numbers(frames)

    from difflapse.pipeline.results import open_run
    from difflapse.pipeline.verify import judge
    from difflapse.pipeline.verify import verify as compare

    nights = open_run(run).sequences
    if chosen is not None and len(nights) > 1:
        raise OptionError(
            f"--frames {frames} are those of one sequence; {run} holds {len(nights)}",
            f"difflapse verify {nights[0].folder} --frames {frames}",
        )
    told = []
    with terminal.progress(quiet) as listener:
        for night in nights:
            told.append((night.name, compare(night.folder, chosen, inputs, listener)))
    faults = [judge(name, checks) for name, checks in told]
    if as_json:
        sequences = [{"name": name, "checks": [asdict(check) for check in checks]} for name, checks in told]
        terminal.print_json({"out": str(Path(run)), "same": not any(faults), "sequences": sequences})
    elif not quiet:
        for name, checks in told:
            click.echo(f"{name}:")
            for check in checks:
                click.echo(f"  {'same   ' if check.same else 'DIFFERS'}  {check.text}")
    for fault in faults:
        if fault is not None:
            raise fault


def _numbers(frames: str | None) -> list[int] | None:
    if frames is None:
        return None
    try:
        return [int(part) for part in frames.split(",")]
    except ValueError:
        raise OptionError(
            f"frames is {frames!r}; it must be numbers as in frames.ecsv, with commas", "for example 0,5,12"
        ) from None

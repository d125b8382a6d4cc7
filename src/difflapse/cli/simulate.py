"""``difflapse simulate``: a night whose truth is known."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from difflapse.cli import terminal
from difflapse.errors import OptionError
from difflapse.pipeline.progress import Progress

PRESETS = ("panoptes", "changes", "demo")
COUNT = click.IntRange(min=0)


@click.command()
@click.argument("out", metavar="OUT")
@click.option("--preset", default="panoptes", metavar=f"[{'|'.join(PRESETS)}]", help="kind of night")
@click.option("--frames", type=click.IntRange(min=1), metavar="N", help="number of frames")
@click.option("--size", metavar="WxH", help="pixels of a frame, width x height")
@click.option(
    "--seed", type=COUNT, default=1, metavar="N", show_default=True, help="the same seed, the same night"
)
@click.option("--wcs/--no-wcs", default=True, show_default=True, help="whether headers hold a plate solution")
@click.option("--flip-at", type=click.IntRange(min=1), metavar="N", help="first frame after a meridian flip")
@click.option("--clouds", type=COUNT, metavar="N", help="frames in thick clouds")
@click.option("--comets", type=COUNT, metavar="N", help="how many comets")
@click.option("--movers", type=COUNT, metavar="N", help="how many asteroid-like movers")
@click.option("--variables", type=COUNT, metavar="N", help="how many variable stars")
@click.option("--novae", type=COUNT, metavar="N", help="how many new stars")
@click.option("--streaks", type=COUNT, metavar="N", help="how many satellites")
@click.option("--workers", type=COUNT, default=0, metavar="N", help="worker processes; 0: one per core")
@click.option("--json", "as_json", is_flag=True, help="print what was made as JSON on stdout")
@click.option("-q", "--quiet", is_flag=True, help="no progress and no summary; errors are still told")
def simulate(
    out: str, preset: str, size: str | None, workers: int, as_json: bool, quiet: bool, **wanted: Any
) -> None:
    """Write a simulated night into OUT: FITS frames, and truth.json with what is in them and where.

    What is not given is the preset's own: 36 frames of 5208x3476 (panoptes), 24 of
    2604x1738 (changes) or 24 of 1302x868 (demo).
    """
    shape = parse_size(size)

    from difflapse import synth
    from difflapse.pipeline.pool import cores

    spec = synth.preset(preset, shape=shape, **wanted)
    with terminal.progress(quiet) as listener, counted(listener, spec.frames) as count:
        truth = synth.simulate(out, spec, workers=workers or cores(), progress=count)
    made = {"out": out, "frames": [f.file for f in truth.frames], "truth": os.path.join(out, "truth.json")}
    if as_json:
        terminal.print_json(made | {"shape": truth.shape, "objects": [o.name for o in truth.objects]})
    elif not quiet:
        objects = ", ".join(o.name for o in truth.objects) or "nothing that changes"
        click.echo(f"{terminal.count(len(truth.frames), 'frame')} in {out}, with {objects}")
        click.echo(f"what is in them and where: {made['truth']}")


def parse_size(text: str | None) -> tuple[int, int] | None:
    """A size such as 1302x868 (width x height) as a shape (ny, nx); None stays None."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+)\s*[xX,]\s*(\d+)\s*", text)
    if not match:
        raise OptionError(
            f"size is {text!r}; it must be width x height in pixels", "for example --size 1302x868"
        )
    return int(match.group(2)), int(match.group(1))


@contextmanager
def counted(listener: Progress, total: int) -> Iterator[Callable[[int, int], None]]:
    """The simulator's way of telling progress, (done, total), as a stage of a listener."""
    before = 0

    def tell(done: int, total: int) -> None:
        nonlocal before
        listener.advance("simulate", done - before)
        before = done

    listener.start("simulate", total)
    yield tell
    listener.finish("simulate")

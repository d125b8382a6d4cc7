"""``difflapse simulate``: a night whose truth is known."""

from __future__ import annotations

import re

import click

from difflapse.cli import terminal
from difflapse.errors import OptionError

PRESETS = ("panoptes", "demo")


@click.command()
@click.argument("out", metavar="OUT")
@click.option(
    "--preset",
    metavar=f"[{'|'.join(PRESETS)}]",
    default="panoptes",
    show_default=True,
    help="what kind of night",
)
@click.option("--frames", type=int, metavar="N", help="number of frames  [default: the preset's]")
@click.option("--size", metavar="WxH", help="pixels of a frame, width x height  [default: the preset's]")
@click.option(
    "--seed", type=int, metavar="N", default=1, show_default=True, help="the same seed, the same night"
)
@click.option("--wcs/--no-wcs", default=True, help="write a celestial WCS into the headers  [default: wcs]")
@click.option(
    "--workers", type=int, metavar="N", default=0, help="worker processes; 0: one per core  [default: 0]"
)
@click.option("--json", "as_json", is_flag=True, help="print what was made as JSON on stdout")
@click.option("-q", "--quiet", is_flag=True, help="no progress and no summary; errors are still told")
def simulate(
    out: str,
    preset: str,
    frames: int | None,
    size: str | None,
    seed: int,
    wcs: bool,
    workers: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write a simulated night into OUT: FITS frames, and truth.json with what is in them and where."""
    from difflapse import synth

    spec = synth.preset(preset, frames=frames, shape=parse_size(size), seed=seed, wcs=wcs)
    with terminal.progress(quiet) as listener:
        synth.simulate(out, spec, workers=workers, progress=listener)


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

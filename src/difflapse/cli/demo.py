"""``difflapse demo``: a small night simulated and run."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click

from difflapse._version import __version__
from difflapse.cli import terminal
from difflapse.cli.simulate import COUNT, counted, parse_size
from difflapse.cli.summary import print_summary
from difflapse.errors import OutputError
from difflapse.pipeline.config import RunOptions
from difflapse.pipeline.progress import Progress

MARK = "demo.json"
"""File in the night's folder that says what of it the demo made, and from what."""


@click.command()
@click.option(
    "-o", "--out", metavar="OUT", default="difflapse-demo", show_default=True, help="where to put it all"
)
@click.option(
    "--frames",
    type=click.IntRange(min=2),
    default=24,
    metavar="N",
    show_default=True,
    help="number of frames",
)
@click.option(
    "--size", default="1302x868", metavar="WxH", show_default=True, help="pixels of a frame, width x height"
)
@click.option(
    "--seed", type=COUNT, default=1, metavar="N", show_default=True, help="the same seed, the same night"
)
@click.option("--workers", type=COUNT, default=0, metavar="N", help="worker processes; 0: one per core")
@click.option(
    "--json", "as_json", is_flag=True, help="print where things are, and the summary, as JSON on stdout"
)
@click.option("-q", "--quiet", is_flag=True, help="no progress and no summary; errors are still told")
def demo(out: str, frames: int, size: str, seed: int, workers: int, as_json: bool, quiet: bool) -> None:
    """Simulate a small night with a comet, a variable and a satellite in it, run it, say where the movie is.

    Called again it replaces only what it made.
    """
    recipe = {"difflapse": __version__, "frames": frames, "size": size, "seed": seed}
    night, result = Path(out) / "night", Path(out) / "result"
    made_before = _read_mark(night)
    if made_before is None and _holds_something(night):
        raise OutputError(f"{night} holds files that the demo did not make", "-o with another folder")
    options = RunOptions(workers=workers, overwrite=made_before is not None)
    with terminal.progress(quiet) as listener:
        if made_before is None or made_before["recipe"] != recipe or not _is_whole(night, made_before):
            _remove(night, made_before)
            _simulate(night, recipe, workers, listener)

        from difflapse.pipeline.run import run_night

        summary = run_night([str(night)], str(result), options, listener).summary()
    if as_json:
        terminal.print_json({"night": str(night), "result": str(result), "summary": summary})
    elif not quiet:
        click.echo(
            f"simulated {terminal.count(frames, 'frame')} in {night}; what is in them is in truth.json there"
        )
        print_summary(summary)


def _simulate(night: Path, recipe: dict[str, Any], workers: int, listener: Progress) -> None:
    """Make the night beside its place and move it there when it is whole."""
    from difflapse import synth
    from difflapse.pipeline.pool import cores

    shape = parse_size(recipe["size"])
    spec = synth.preset("demo", frames=recipe["frames"], shape=shape, seed=recipe["seed"])
    try:
        night.parent.mkdir(parents=True, exist_ok=True)
        apart = Path(tempfile.mkdtemp(prefix=".night-", dir=night.parent))
    except OSError as error:
        raise OutputError(
            f"{night.parent} cannot be written: {error.strerror}", "-o with another folder"
        ) from error
    part = apart / "night"
    try:
        with counted(listener, spec.frames) as count:
            synth.simulate(part, spec, workers=workers or cores(), progress=count)
        sizes = {file.relative_to(part).as_posix(): file.stat().st_size for file in _files(part)}
        (part / MARK).write_text(
            json.dumps({"recipe": recipe, "files": sizes}, indent=1) + "\n", encoding="utf-8"
        )
        if night.is_dir():
            night.rmdir()  # empty, as checked before
        part.rename(night)
    except OSError as error:
        raise OutputError(
            f"{night} cannot be written: {error.strerror or error}", "-o with another folder"
        ) from error
    finally:
        shutil.rmtree(apart, ignore_errors=True)


def _remove(night: Path, mark: dict[str, Any] | None) -> None:
    """Remove an earlier demo's night; refuses if anything else has been put there."""
    if mark is None:
        return
    made = {MARK, *mark["files"]}
    others = [file.relative_to(night).as_posix() for file in _files(night)]
    others = [name for name in others if name not in made]
    if others:
        raise OutputError(
            f"{night} holds {others[0]}, which the demo did not make",
            "move it away, or -o with another folder",
        )
    for name in made:
        (night / name).unlink(missing_ok=True)
    for folder in sorted((f for f in night.rglob("*") if f.is_dir()), reverse=True):
        folder.rmdir()


def _is_whole(night: Path, mark: dict[str, Any]) -> bool:
    """Whether every file is there as it was made, and nothing else is."""
    there = {file.relative_to(night).as_posix(): file.stat().st_size for file in _files(night)}
    there.pop(MARK, None)
    return bool(there == mark["files"])


def _read_mark(night: Path) -> dict[str, Any] | None:
    """What an earlier demo made in this folder; None if there was none."""
    try:
        mark = json.loads((night / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return mark if isinstance(mark, dict) and {"recipe", "files"} <= mark.keys() else None


def _holds_something(folder: Path) -> bool:
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


def _files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.rglob("*")) if file.is_file()]

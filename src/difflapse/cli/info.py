"""``difflapse info``: what is there, and what was decided about it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from difflapse.cli import terminal
from difflapse.cli.options import collect, run_options
from difflapse.errors import OptionError

_NAMED = 3
"""Inputs that are named again."""
_LISTED = 8
"""Files left out for the same reason that are told one by one."""


@click.command()
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@run_options(("mosaic", "split"))
@click.option("--json", "as_json", is_flag=True, help="print JSON instead of text")
def info(inputs: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """What is there, what was decided about it and why; reads headers, no pixels."""
    if not inputs:
        raise OptionError("no INPUT is given; a folder or files are needed", "difflapse info NIGHT/")
    options = collect(given)

    from difflapse.io.discover import discover
    from difflapse.io.info import describe

    told = describe(discover(list(inputs), mosaic=options.mosaic, split=options.split))
    if as_json:
        terminal.print_json(told)
    else:
        _print(told, inputs)


def _print(told: Mapping[str, Any], inputs: Sequence[str]) -> None:
    """The same in words: a paragraph for each sequence, then every file that is in none."""
    for night in told["sequences"]:
        ny, nx = night["shape"]
        click.echo(f"{night['name']}: {terminal.count(night['n_frames'], 'frame')} of {nx}x{ny} pixels")
        for label, text in _paragraph(night):
            if text:
                click.echo(f"  {label:<10} {text}")
        click.echo()
    for line in _left_out(told["left_out"]):
        click.echo(line)
    named = shlex.join(inputs[:_NAMED]) + (" ..." if len(inputs) > _NAMED else "")
    click.echo(f"what a run would do with it: difflapse run {named} --plan")


def _left_out(items: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Every file that is in no sequence, with its reason; the first few of those that share one."""
    together: dict[str, list[str]] = {}
    for item in items:
        together.setdefault(item["reason"], []).append(item["file"])
    for reason, files in together.items():
        for file in files[:_LISTED]:
            yield f"left out     {file}: {reason}"
        if len(files) > _LISTED:
            yield f"left out     {len(files) - _LISTED} more files: {reason} (--json lists them)"


def _paragraph(night: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is known of a sequence and what was decided, label by label; empty where nothing is."""
    yield "object", night["object"]
    other = bool(night["mosaic"]) and night["filter"] != night["mosaic"] and _is_pattern(night["filter"])
    named = f"header's FILTER {night['filter']} (see mosaic)" if other else night["filter"]
    yield "camera", ", ".join(text for text in (night["camera"], named, night["dtype"]) if text)
    used = f"{night['mosaic']} is used" if other else night["mosaic"] or "none"
    yield "mosaic", _why(used, night["mosaic_reason"])
    if night["first_utc"] is None:
        yield "time", _why("unknown", night["time_reason"])
    else:
        yield "time", f"{night['first_utc']} to {night['last_utc']} UTC, mid-exposure"
        yield "clock", _why(night["time_source"], night["time_reason"])
    yield "exposure", _exposure(night)
    yield "WCS", night["wcs"] + (": run --solve finds the field on the sky" if night["wcs"] == "none" else "")
    yield "detector", ", ".join(_detector(night))
    if night["site"]:
        latitude, longitude = night["site"]["latitude_deg"], night["site"]["longitude_deg"]
        yield "site", f"latitude {latitude:.4f}, longitude {longitude:.4f} degrees, east positive"
    for note in night["notes"]:
        yield "note", note


def _is_pattern(text: str) -> bool:
    """Whether a filter's name is a colour mosaic's, such as RGGB."""
    return len(text) == 4 and sorted(text.upper()) == sorted("RGGB")


def _why(decision: str, reason: str) -> str:
    if reason.startswith(decision):
        return reason
    return f"{decision}: {reason}" if reason else decision


def _exposure(night: Mapping[str, Any]) -> str:
    """Such as ``120 s, one frame each 180 s``."""
    parts = []
    if night["exposure_s"] is not None:
        shortest, longest = night["exposure_range_s"]
        spread = "" if shortest == longest else f" ({shortest:g} to {longest:g})"
        parts.append(f"{night['exposure_s']:g} s{spread}")
    if night["cadence_s"] is not None:
        parts.append(f"one frame each {night['cadence_s']:g} s")
    return ", ".join(parts)


def _detector(night: Mapping[str, Any]) -> Iterator[str]:
    """What is known of the sensor's numbers."""
    for key, text in (
        ("gain_e_adu", "gain {:g} e-/ADU"),
        ("read_noise_e", "read noise {:g} e-"),
        ("bias_adu", "bias {:g} ADU"),
    ):
        if night[key] is not None:
            yield text.format(night[key])
    level = night["saturation_adu"]
    if level is not None and night["saturation_source"] != "type":
        yield f"saturates at {level:g} ADU"
    else:
        # What a run finds in the pixels, no header tells.
        most = "" if level is None else f", {level:g} ADU at most"
        yield f"saturation unknown{most}: a run looks where pixels pile up"

"""The end of a run, and the plan of one, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from difflapse.cli.terminal import count, human_chance, human_number, human_size, human_time

MANY = 8
"""Skipped or left-out files named in full; the rest are counted (the tables name them all)."""

MANY_CHANGES = 3
"""Changes of a kind that are told; changes.ecsv has them all."""

MANY_STARS = 4
"""Stars that vary by their light curves that are told; stars.ecsv and the page have them all."""

_SOURCES = {"photon transfer": "measured on the frames", "camera": "known of this camera"}
"""Words for where a number of the camera comes from."""

LONG = 120
"""Letters of a reason that are shown; the tables hold it whole."""


def print_summary(summary: Mapping[str, Any]) -> None:
    """Say what a run did: frames used and skipped, alignment, speed, and where to look."""
    from difflapse.pipeline.tables import tell_judged_on

    for night in summary["sequences"]:
        used = f"{night['n_used']} of {count(night['n_frames'], 'frame')} used"
        skipped = f", {night['n_skipped']} skipped" if night["n_skipped"] else ""
        click.echo(f"{night['name']}: {used}{skipped}")
        if night.get("reference") is not None:
            click.echo(f"  reference  {night['reference']}")
        methods = ", ".join(f"{name} {n}" for name, n in night.get("methods", {}).items())
        rms = night.get("median_rms_pix")
        told = "rms unknown" if human_number(rms) == "unknown" else f"median rms {human_number(rms)} px"
        if "pixels" in night.get("judged_on", {}):
            told += f" on {tell_judged_on(night['judged_on'])}"
        worst = night.get("worst_rms_pix")
        most = f", worst {human_number(worst)} px: {night['worst_rms_file']}" if worst is not None else ""
        click.echo(f"  aligned    {told}{f' ({methods})' if methods else ''}{most}")
        if night.get("wcs"):
            click.echo(f"  sky        {night['wcs']}")
        if night.get("camera"):
            click.echo(f"  noise      {_camera(night['camera'])}")
        _print_files("skipped", night.get("skipped", ()))
        if night.get("diff"):
            why = f": {night['diff_note']}" if night.get("diff_note") else ""
            click.echo(f"  difference {night['diff']}{why}")
        _print_changes(night.get("changes"))
        _print_varying(night.get("varying"))
        if night.get("depth"):
            click.echo(f"  depth      {night['depth']['text']}")
        elif night.get("depth_note"):
            click.echo(f"  depth      not measured: {night['depth_note']}")
        if night.get("movie"):
            click.echo(f"  movie      {Path(night['folder']) / night['movie']}")
        if "report.html" in night.get("products", ()):
            click.echo(f"  page       {Path(night['folder']) / 'report.html'}")
        click.echo(f"  tables     {night['folder']}")
    _print_files("left out", summary.get("left_out", ()), indent="")
    click.echo(f"{human_time(summary['seconds'])}, {human_number(summary['frames_per_second'])} frames/s")


def _camera(camera: Mapping[str, Any]) -> str:
    """The camera's noise in one line: what is used, and what the frames themselves say."""
    parts = []
    if camera.get("gain_e_adu"):
        source = _SOURCES.get(camera["gain_source"], camera["gain_source"])
        parts.append(f"gain {camera['gain_e_adu']:.3g} e/ADU ({source})")
    else:
        parts.append("gain unknown: sigma counts the noise of the dark sky, not the light's own photons")
    if camera.get("measured_gain_e_adu") and camera["gain_source"] == "header":
        parts.append(f"measured {camera['measured_gain_e_adu']:.3g} +- {camera['measured_gain_error']:.2g}")
    if camera.get("measured_read_noise_e"):
        parts.append(
            f"read noise {camera['measured_read_noise_e']:.3g} +- {camera['measured_read_noise_error']:.2g} e"
        )
    elif camera.get("read_noise_e"):
        parts.append(f"read noise {camera['read_noise_e']:.3g} e (header)")
    if camera.get("response"):
        parts.append(f"pixels' response {100 * camera['response']:.2g} %")
    if camera.get("saturation_adu") and camera["saturation_source"] != "type":
        source = _SOURCES.get(camera["saturation_source"], camera["saturation_source"])
        parts.append(f"saturates at {camera['saturation_adu']:g} ADU ({source})")
    if camera.get("not_measured"):
        parts.append(f"not measured: {camera['not_measured']}")
    return ", ".join(parts)


def _print_changes(told: Mapping[str, Any] | None) -> None:
    """Say what changed, one line per kind with its best first."""
    if told is None:
        return
    if told["note"]:
        click.echo(f"  changed    not looked for: {told['note']}")
        return
    if not told["changes"]:
        click.echo("  changed    nothing")
    for kind, n in told["kinds"].items():
        own = [c for c in told["changes"] if c["kind"] == kind]
        best = [_told_change(c) for c in own[:MANY_CHANGES]]
        more = f" and {n - len(best)} more" if n > len(best) else ""
        click.echo(f"  changed    {count(n, kind)}: {'; '.join(best)}{more}")


def _print_varying(told: Mapping[str, Any] | None) -> None:
    """Say which stars vary by their light curves alone, the strongest first."""
    if told is None or not told["tested"]:
        return
    stars = told["stars"]
    if not stars:
        click.echo(f"  varies     none of {count(told['tested'], 'star')} by its light curve alone")
        return
    best = [_told_star(star) for star in stars[:MANY_STARS]]
    more = f" and {len(stars) - len(best)} more, on the page" if len(stars) > len(best) else ""
    click.echo(f"  varies     {count(len(stars), 'star')} by the light curve alone: {'; '.join(best)}{more}")


def _told_star(star: Mapping[str, Any]) -> str:
    """A star that varies in a few words: which, where, by how much, how sure."""
    place = str(star["name"]).removeprefix("star ")
    where = f"at {place}" if star["ra_deg"] is not None else f"at ({star['x_pix']:.0f}, {star['y_pix']:.0f})"
    chance = human_chance(star["false_alarm"])
    return f"star {star['star']} {where} by {star['amplitude_mag']:.2f} mag, false alarm {chance}"


def _told_change(change: Mapping[str, Any]) -> str:
    """One change in a few words: its place, and what it does."""
    where = f"({change['x_pix']:.0f}, {change['y_pix']:.0f})"
    if change["amplitude_mag"] is not None:
        return f"{where} by {change['amplitude_mag']:.2f} mag"
    if change["rate_arcsec_per_hour"] is not None:
        return f"{where} {change['rate_arcsec_per_hour']:.0f} arcsec/h"
    if change["rate_pix_per_hour"] is not None:
        return f"{where} {change['rate_pix_per_hour']:.0f} px/h"
    if change["kind"] == "streak":
        return f"frame {change['first_frame']}, {str(change['note']).split(':')[0]}"
    return f"{where} S/N {change['snr']:.0f}"


def print_plan(plan: Mapping[str, Any]) -> None:
    """Say what a run would do, and what it would need."""
    for night in plan["sequences"]:
        ny, nx = night["shape"]
        mosaic = night["mosaic"] or "no mosaic"
        click.echo(f"{night['name']}: {count(night['frames'], 'frame')} of {nx}x{ny} pixels, {mosaic}")
        template = f" of {count(night['template_frames'], 'frame')}" if night.get("template_frames") else ""
        click.echo(f"  align      {night['align']}")
        click.echo(f"  diff       {night['diff']}{template}")
        for step in night.get("steps", ()):
            click.echo(f"  step       {step}")
    _print_files("left out", plan.get("left_out", ()), indent="")
    click.echo(f"products   {plan['out']}, about {human_size(plan['output_bytes'])}")
    click.echo(f"memory     {human_size(plan['memory_bytes'])} with {count(plan['workers'], 'worker')}")
    click.echo(f"scratch    {human_size(plan['scratch_bytes'])} on disk while it runs")


def _print_files(label: str, files: Sequence[Mapping[str, str]], indent: str = "  ") -> None:
    """Name the first files with their reasons (long ones cut), and count the rest."""
    for item in files[:MANY]:
        reason = item["reason"]
        if len(reason) > LONG:
            reason = reason[: LONG - 4].rsplit(" ", 1)[0] + " ..."
        click.echo(f"{indent}{label:<10} {item['file']}: {reason}")
    if len(files) > MANY:
        click.echo(f"{indent}{label:<10} and {len(files) - MANY} more, all with their reasons in frames.ecsv")

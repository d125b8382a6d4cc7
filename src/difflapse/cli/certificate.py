"""``difflapse certificate``: how well a finished run is aligned, in numbers and figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from difflapse.cli import terminal
from difflapse.cli.options import collect, run_options
from difflapse.cli.terminal import human_number
from difflapse.errors import MissingDependencyError, OptionError


@click.command()
@click.argument("out", metavar="OUT")
@click.option(
    "--pair",
    type=click.IntRange(min=0),
    metavar="FRAME",
    help="frame that is drawn beside the reference  [default: the farthest]",
)
@click.option(
    "--inputs", metavar="FOLDER", help="where the run's input files lie now  [default: where they were]"
)
@click.option(
    "--theme",
    type=click.Choice(["light", "dark"]),
    default="light",
    show_default=True,
    help="colours of the figures",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["png", "svg"]),
    default="png",
    show_default=True,
    help="format of the figures",
)
@click.option(
    "--figures/--no-figures",
    default=None,
    help="draw figures, or print numbers alone  [default: figures where matplotlib is installed]",
)
@run_options(("require_rms",))
@click.option("--json", "as_json", is_flag=True, help="print JSON instead of tables")
@click.option("-q", "--quiet", is_flag=True, help="print nothing; errors are still told")
def certificate(
    out: str,
    pair: int | None,
    inputs: str | None,
    theme: str,
    form: str,
    figures: bool | None,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """How well a finished run is aligned: numbers on stdout, figures in OUT/certificate."""
    limit = collect(given).require_rms

    from difflapse.pipeline.results import open_run

    nights = open_run(out).sequences
    if pair is not None and len(nights) > 1:
        raise OptionError(
            f"--pair {pair} is a frame of one sequence; {out} holds {len(nights)}",
            f"difflapse certificate {nights[0].folder} --pair {pair}",
        )
    told, faults = [], []
    missing: MissingDependencyError | None = None
    for night in nights:
        proof = night.certificate()
        files: list[str] = []
        try:
            if figures is not False:
                files = [str(path) for path in proof.save(pair, inputs, theme, form)]
        except MissingDependencyError as error:
            if figures:
                raise
            missing = error
        told.append({**proof.to_mapping(limit or None), "figures": files})
        faults.append(proof.judge(limit))
    if as_json:
        terminal.print_json({"out": str(Path(out)), "sequences": told})
    elif not quiet:
        for item in told:
            _print(item)
        if missing is not None:
            click.echo(f"no figures: {missing.message}; {missing.hint}", err=True)
    for fault in faults:
        if fault is not None:
            raise fault


def _print(told: Mapping[str, Any]) -> None:
    """One night's certificate in words."""
    from difflapse.pipeline.tables import tell_judged_on

    frames = told["frames"]
    methods = ", ".join(f"{name} {n}" for name, n in frames["methods"].items())
    skipped = f", {frames['skipped']} skipped" if frames["skipped"] else ""
    click.echo(f"{told['name']}: {terminal.count(frames['used'], 'frame')} used ({methods}){skipped}")
    rows: list[tuple[str, ...]] = []
    for name, label in (("rms", "rms"), ("p95", "95th percentile"), ("corner", "rms in the corners")):
        figures = told[name]
        if figures is None:
            rows.append((label, "unknown", "unknown", ""))
            continue
        cells = [_both(figures[f"{which}_pix"], figures[f"{which}_arcsec"]) for which in ("median", "worst")]
        rows.append((label, *cells, f"{figures['worst_frame']}: {figures['worst_file']}"))
    measured = tell_judged_on(told["judged_on"])
    terminal.print_table((measured.partition(",")[0], "median frame", "worst frame", "which"), rows)
    if "," in measured:
        click.echo(f"measured     {measured}")
    if frames["without_rms"]:
        click.echo(
            f"no rms       {terminal.count(frames['without_rms'], 'used frame')}: nothing was held out to measure it"
        )
    if told["noise"]:
        noise = told["noise"]
        click.echo(
            f"noise        {noise['rms_pix']:.4f} px rms of {noise['stars']:,} residuals; photons alone "
            f"would leave {human_number(noise['photon_limit_pix'])} px, the brightest stars are left with "
            f"{noise['bright_star_floor_pix']:.4f} px"
        )
        _print_patterns(**told["systematic"])
    if told["required_rms_pix"]:
        reached = "reached" if told["reached"] else "not reached"
        click.echo(f"required     {told['required_rms_pix']:g} px rms in every used frame: {reached}")
    for path in told["figures"]:
        click.echo(f"figure       {path}")


def _print_patterns(fixed: Mapping[str, Any], changing: Mapping[str, Any] | None) -> None:
    """Whether residuals point somewhere: alike in all frames, or in each in its own way."""
    if fixed["verdict"] == "unknown":
        click.echo("pattern      too few stars to tell a pattern from noise")
        return
    verdict = "more than noise" if fixed["verdict"] == "systematic" else "noise explains it"
    click.echo(
        f"pattern      alike in all frames: {fixed['rms_pix']:.4f} px, below {fixed['below_pix']:.4f} px "
        f"(chi2/dof {fixed['chi2_dof']:.2f}: {verdict})"
    )
    if changing is not None:
        beyond = changing["beyond_noise"]
        which = f" ({', '.join(map(str, beyond[:8]))}{', ...' if len(beyond) > 8 else ''})" if beyond else ""
        click.echo(
            f"             frame by frame: median {changing['median_rms_pix']:.4f} px, worst "
            f"{changing['worst_rms_pix']:.4f} px in frame {changing['worst_frame']}; "
            f"more than noise in {len(beyond)} of {changing['frames']}{which}"
        )


def _both(pix: float, arcsec: float | None) -> str:
    text = f"{pix:.4f} px"
    return text if arcsec is None else f"{text}, {arcsec:.3g} arcsec"

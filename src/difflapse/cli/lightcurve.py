"""``difflapse lightcurve``: one star's curve from a finished run."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from difflapse.errors import OptionError


@click.command()
@click.argument("out", metavar="OUT")
@click.option("--at", metavar="RA,DEC", help="the star at a place on the sky, degrees or sexagesimal")
@click.option("--pixel", metavar="X,Y", help="the star at a native pixel of the reference frame")
@click.option("--star", type=click.IntRange(min=0), metavar="N", help="the star's number in stars.ecsv")
@click.option(
    "--channel", type=click.Choice(["R", "G", "B", "L"]), help="one colour  [default: green, or the only one]"
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "aavso"]),
    default="table",
    show_default=True,
    help="how the numbers are printed; aavso: AAVSO extended format",
)
@click.option(
    "--plot", metavar="FILE", help="draw all colours into a .png, .svg or .pdf file (needs matplotlib)"
)
@click.option("--observer", metavar="CODE", help="the AAVSO observer's code; --format aavso needs it")
@click.option("--name", default="", metavar="NAME", help="the star's name in AAVSO's index")
@click.option(
    "--zero-point",
    type=float,
    metavar="MAG",
    help="magnitude of 1 adu/s; without it --format aavso gives differences from the ensemble",
)
def lightcurve(
    out: str,
    at: str | None,
    pixel: str | None,
    star: int | None,
    channel: str | None,
    form: str,
    plot: str | None,
    observer: str | None,
    name: str,
    zero_point: float | None,
) -> None:
    """One star's light curve: numbers on stdout, a picture in the terminal or in a file."""
    given = [
        flag for flag, value in (("--at", at), ("--pixel", pixel), ("--star", star)) if value is not None
    ]
    if len(given) != 1:
        raise OptionError(
            f"{' and '.join(given) or 'no star'} given; one star is told by one of --at, --pixel and --star",
            "for example --pixel 368,328, a place on the reference frame",
        )
    if form == "aavso" and not observer:
        raise OptionError("AAVSO's files need an observer's code", "--observer CODE, given by the AAVSO")
    target = Path(plot) if plot else None
    if target is not None and target.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise OptionError(f"--plot is {plot!r}; it must end in .png, .svg or .pdf")

    from difflapse.pipeline import lightcurve as curves
    from difflapse.pipeline.results import open_run

    nights = open_run(out).sequences
    if len(nights) > 1:
        raise OptionError(
            f"{out} holds {len(nights)} sequences", f"name one: difflapse lightcurve {nights[0].folder}"
        )
    night = nights[0]
    if at is not None:
        number = night.star_at(sky=_direction(at))
    elif pixel is not None:
        number = night.star_at(pixel=_pair(pixel))
    else:
        assert star is not None
        number = star
    curve = night.light_curve(number, channel or "")
    row = night.stars[number]
    where = f"star {number} at pixel {row['x_pix']:.1f},{row['y_pix']:.1f}"
    if target is not None:
        names = (
            ["R", "G", "B"] if curve.meta["channel"] in "RGB" and channel is None else [curve.meta["channel"]]
        )
        curves.save_plot([night.light_curve(number, c) for c in names], target, f"{night.name}: {where}")
        click.echo(f"drawn: {target}", err=True)
    if form == "aavso":
        click.echo(
            curves.aavso_text(night.folder, number, observer or "", channel or "", name, zero_point), nl=False
        )
        return
    columns = ["frame", "bjd_tdb", "airmass", "flux_adu", "flux_err_adu", "rel_flux", "rel_flux_err", "flags"]
    if form == "csv":
        click.echo(",".join(["time_utc", *columns]))
        for line, time in zip(curve, curve.time, strict=True):
            click.echo(",".join([time.isot, *(_plain(line[name]) for name in columns)]))
        return
    if target is None:
        click.echo(curves.text_plot(curve, min(shutil.get_terminal_size((80, 24)).columns, 120)), nl=False)
    click.echo(
        f"{where}, channel {curve.meta['channel']}: scatter {_mmag(row['scatter_mag'])} a frame, photon and read noise "
        f"alone {_mmag(row['expected_scatter_mag'])}; false alarm {row['false_alarm']}; flags {row['flags']}"
    )
    click.echo(f"{'time_utc':23} {'frame':>5} {'airmass':>7} {'rel_flux':>9} {'error':>8} {'flags':>5}")
    for line, time in zip(curve, curve.time, strict=True):
        click.echo(
            f"{time.isot} {line['frame']:5d} {line['airmass']:7.3f} {line['rel_flux']:9.5f} "
            f"{line['rel_flux_err']:8.5f} {line['flags']:5d}"
        )
    sys.stdout.flush()


def _plain(value: object) -> str:
    """A number without its unit."""
    return repr(getattr(getattr(value, "value", value), "item", lambda: value)())


def _mmag(value: object) -> str:
    import numpy as np

    return "unknown" if np.ma.is_masked(value) else f"{1000 * float(value):.1f} mmag"  # type: ignore[arg-type]


def _pair(text: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"--pixel is {text!r}; it must be two numbers X,Y") from None
    return x, y


def _direction(text: str) -> tuple[float, float]:
    """RA,DEC as degrees: plain numbers, or hours and degrees with colons or letters."""
    from astropy.coordinates import Angle

    parts = [part.strip() for part in text.split(",")]
    try:
        ra, dec = parts
        try:
            return float(ra), float(dec)
        except ValueError:
            return float(Angle(ra, unit="hourangle").deg), float(Angle(dec, unit="deg").deg)
    except Exception:
        raise OptionError(
            f"--at is {text!r}; it must be RA,DEC",
            "for example --at 31.043,46.688 or --at 02:04:10.3,+46:41:16",
        ) from None

"""One star's light curve, read back from a finished run's folder: as a table, in AAVSO's form, as a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from difflapse.errors import InputError, MissingDependencyError, OptionError
from difflapse.io.products import CREATOR
from difflapse.pipeline.written import why_not_asked

if TYPE_CHECKING:
    from astropy.table import Table
    from astropy.timeseries import TimeSeries

NEAR_PIX = 5.0
"""A place asked for is a star's if it lies within so many native pixels of it."""
FILTERS = {"R": "TR", "G": "TG", "B": "TB", "L": "CV"}
"""AAVSO's names: colours of a mosaic camera; clear, on a V scale."""
_ENSEMBLE = 10
_WHY = 255 - 64
"""Flags that make a number untrusted; a blend alone is a property of the star."""


def read_stars(folder: Path) -> Table:
    """`stars.ecsv`: a row per star; raises `InputError` where the run made none."""
    from astropy.table import Table

    path = folder / "stars.ecsv"
    if not path.exists():
        if reason := why_not_asked(folder):
            raise InputError(f"{folder} has no stars.ecsv: {reason}", "run with changes")
        raise InputError(
            f"{folder} has no stars.ecsv: no star was measured, or an older version ran",
            "frames.ecsv says how many stars each frame has",
        )
    return Table.read(path, format="ascii.ecsv")


def read_curve(folder: Path, star: int, channel: str = "") -> TimeSeries:
    """One star's rows of `lightcurves.fits` in one channel, in time order.

    Parameters
    ----------
    folder : Path
        Of a finished run.
    star : int
        Its number in `stars.ecsv`.
    channel : str
        ``R``, ``G``, ``B`` or ``L``; empty: green, or the only one.

    Returns
    -------
    TimeSeries
        ``time`` (UTC, mid-exposure) and the columns of `lightcurves.fits` but `star`, `channel` and `time_mjd`; its
        meta tells `star` and `channel`. Without times an `InputError` is raised.

    Raises
    ------
    InputError
        There is no such star or channel, or the frames' times are not known.
    """
    from astropy import units
    from astropy.io import fits
    from astropy.time import Time
    from astropy.timeseries import TimeSeries

    path = folder / "lightcurves.fits"
    if not path.exists():
        raise InputError(f"{folder} has no lightcurves.fits: no star was measured", "frames.ecsv says why")
    with fits.open(path, memmap=True) as file:
        data = file["LIGHTCURVES"].data
        numbers = data["star"]  # sorted: a star's rows lie together
        first, last = np.searchsorted(numbers, [star, star + 1])
        if first == last:
            known = len(np.unique(numbers))
            raise InputError(
                f"lightcurves.fits has no star {star}; it holds {known} stars",
                "stars.ecsv says with in_lightcurves which",
            )
        rows = np.array(data[first:last])
    names = [str(name) for name in dict.fromkeys(rows["channel"].astype(str))]
    wanted = channel.upper() or ("G" if "G" in names else names[0])
    if wanted not in names:
        raise InputError(f"there is no channel {channel!r}", f"this night has {', '.join(names)}")
    rows = rows[rows["channel"].astype(str) == wanted]
    if not np.isfinite(rows["time_mjd"]).all():
        raise InputError("the times of these frames are not known", "frames.ecsv says why, in its notes")
    curve = TimeSeries(time=Time(rows["time_mjd"].astype(float), format="mjd", scale="utc"))
    told = {"bjd_tdb": units.day, "flux_adu": units.adu, "flux_err_adu": units.adu}
    for name in (
        "frame",
        "bjd_tdb",
        "airmass",
        "flux_adu",
        "flux_err_adu",
        "rel_flux",
        "rel_flux_err",
        "flags",
    ):
        values = np.ascontiguousarray(rows[name].astype(rows[name].dtype.newbyteorder("=")))
        curve[name] = values * told[name] if name in told else values
    curve.meta = {"star": star, "channel": wanted}
    return curve


def star_at(
    stars: Table,
    *,
    pixel: tuple[float, float] | None = None,
    sky: tuple[float, float] | None = None,
    within_pix: float = NEAR_PIX,
) -> int:
    """Number of the star at a place; raises `InputError` where none is near, and names the nearest.

    Parameters
    ----------
    stars : Table
        `stars.ecsv`.
    pixel : (x, y), optional
        0-based native pixels of the reference.
    sky : (ra, dec), optional
        ICRS degrees.
    within_pix : float
        How near it must be, native pixels; of several the brightest within a third of that, else the nearest.
    """
    x, y = (np.asarray(stars[name], float) for name in ("x_pix", "y_pix"))
    if sky is not None:
        if "ra_deg" not in stars.colnames or np.ma.getmaskarray(stars["ra_deg"]).all():
            raise InputError("the field's place on the sky is not known", "--pixel X,Y, or run with --solve")
        ra, dec = (np.radians(np.ma.filled(stars[name], np.nan)) for name in ("ra_deg", "dec_deg"))
        away = _separation(ra, dec, np.radians(sky[0]), np.radians(sky[1]))
        scale = _radians_per_pixel(x, y, ra, dec)
        distance, place = away / scale, f"RA {sky[0]:.5f}, Dec {sky[1]:.5f}"
    elif pixel is not None:
        distance, place = np.hypot(x - pixel[0], y - pixel[1]), f"pixel {pixel[0]:g},{pixel[1]:g}"
    else:
        raise OptionError("a star is told by its pixel or its place on the sky")
    distance = np.where(np.isfinite(distance), distance, np.inf)
    if not len(distance) or not np.isfinite(distance).any():
        raise InputError("no star was measured")
    close = np.flatnonzero(distance < within_pix / 3)
    best = int(close[0]) if len(close) else int(np.argmin(distance))  # brightest first
    if distance[best] > within_pix:
        raise InputError(
            f"there is no star at {place}; the nearest is star {best}, {distance[best]:.1f} px away",
            f"--star {best}, or --pixel {x[best]:.1f},{y[best]:.1f}",
            {"star": best, "distance_pix": float(distance[best])},
        )
    return best


def _separation(ra: np.ndarray, dec: np.ndarray, ra0: float, dec0: float) -> np.ndarray:
    """Angle between directions, radians (haversine)."""
    h = np.sin((dec - dec0) / 2) ** 2 + np.cos(dec) * np.cos(dec0) * np.sin((ra - ra0) / 2) ** 2
    return np.asarray(2 * np.arcsin(np.sqrt(np.clip(h, 0, 1))))


def _radians_per_pixel(x: np.ndarray, y: np.ndarray, ra: np.ndarray, dec: np.ndarray) -> float:
    """Scale of the field, from pairs of its stars."""
    some = np.flatnonzero(np.isfinite(ra))
    one, other = some, np.roll(some, len(some) // 2)
    pixels = np.hypot(x[one] - x[other], y[one] - y[other])
    angle = 2 * np.arcsin(np.sqrt(np.clip(
        np.sin((dec[one] - dec[other]) / 2) ** 2
        + np.cos(dec[one]) * np.cos(dec[other]) * np.sin((ra[one] - ra[other]) / 2) ** 2, 0, 1,
    )))  # fmt: skip
    far = pixels > 1
    return float(np.median(angle[far] / pixels[far])) if far.any() else math.radians(10 / 3600)


def aavso_text(
    folder: Path, star: int, observer: str, channel: str = "", name: str = "", zero_point: float | None = None
) -> str:
    """One star's curve in AAVSO's extended format.

    Parameters
    ----------
    folder : Path
        Of a finished run.
    star, channel : int, str
        As `read_curve`.
    observer : str
        OBSCODE, which AAVSO gives to each observer.
    name : str
        The star's name in the VSX; empty: ``difflapse-N``, to be replaced before it is sent.
    zero_point : float, optional
        Magnitude of 1 adu/s: then magnitudes are standardised ones (MTYPE STD), otherwise differences from the mean of
        the ensemble (DIF).

    References
    ----------
    AAVSO extended file format, https://www.aavso.org/aavso-extended-file-format
    """
    if not observer.strip() or "," in observer:
        raise OptionError(
            f"observer is {observer!r}; AAVSO's files need an observer's code",
            "--observer CODE, given by the AAVSO",
        )
    stars = read_stars(folder)
    curve = read_curve(folder, star, channel)
    channel = curve.meta["channel"]
    exposure = float(stars.meta.get("exposure_s") or 1.0)
    peers = _peers(stars, star)
    if not len(peers):
        raise InputError("no quiet star is near enough in brightness to be an ensemble or a check star")
    check = read_curve(folder, int(peers[0]), channel)
    ensemble = [_level(read_curve(folder, int(n), channel), exposure) for n in peers[1:] if n >= 0] or [0.0]
    base = float(np.nanmean(ensemble))
    offset = zero_point if zero_point is not None else -base
    level, check_level = _level(curve, exposure), _level(check, exposure)
    kind = "DSLR" if channel in "RGB" else "CCD"
    lines = [
        "#TYPE=EXTENDED",
        f"#OBSCODE={observer.strip()}",
        f"#SOFTWARE={CREATOR}",
        "#DELIM=,",
        "#DATE=JD",
        f"#OBSTYPE={kind}",
        f"#star {star} of stars.ecsv; ensemble of {len(ensemble)} quiet stars alike in place and brightness:"
        f" {' '.join(str(int(n)) for n in peers[1:])}; check star {int(peers[0])}",
        "#NAME,DATE,MAG,MERR,FILT,TRANS,MTYPE,CNAME,CMAG,KNAME,KMAG,AMASS,GROUP,CHART,NOTES",
    ]
    check_mag = {int(row["frame"]): _mag(row["rel_flux"]) + check_level for row in check}
    for row, time in zip(curve, curve.time, strict=True):
        if row["flags"] & _WHY or not row["rel_flux"] > 0:
            continue
        error = 1.0857 * float(row["rel_flux_err"] / row["rel_flux"])
        k = check_mag.get(int(row["frame"]), math.nan)
        fields = [
            name.replace(",", " ") or f"difflapse-{star}",
            f"{time.jd:.5f}",
            f"{_mag(row['rel_flux']) + level + offset:.3f}",
            f"{error:.3f}",
            FILTERS[channel],
            "NO",
            "STD" if zero_point is not None else "DIF",
            "ENSEMBLE",
            "na",
            f"difflapse-{int(peers[0])}",
            f"{k + offset:.3f}" if math.isfinite(k) else "na",
            f"{row['airmass']:.3f}" if math.isfinite(row["airmass"]) else "na",
            "na",
            "na",
            "blended" if row["flags"] & 64 else "na",
        ]
        lines.append(",".join(fields))
    return "\n".join(lines) + "\n"


def _peers(stars: Table, star: int) -> np.ndarray:
    """Numbers of quiet unflagged stars that are most like one in place, brightness and colour; a check star first."""
    mag, colour = (_filled(stars[name], np.nan) for name in ("mag", "colour_mag"))
    chance = _filled(stars["false_alarm"], 0.0)
    quiet = (chance > 0.1) & (np.asarray(stars["flags"]) == 0) & np.asarray(stars["in_lightcurves"])
    quiet[star] = False
    size = 0.25 * max(np.ptp(stars["x_pix"]), np.ptp(stars["y_pix"]), 1.0)
    away = np.hypot(stars["x_pix"] - stars["x_pix"][star], stars["y_pix"] - stars["y_pix"][star]) / size
    unlike = np.asarray(away) ** 2 + (mag - mag[star]) ** 2 + np.nan_to_num(colour - colour[star]) ** 2
    some = np.flatnonzero(quiet & np.isfinite(unlike))
    return some[np.argsort(unlike[some], kind="stable")][: _ENSEMBLE + 1]


def _filled(column: Any, value: float) -> np.ndarray:
    return np.asarray(np.ma.filled(np.ma.asarray(column, float), value))


def _level(curve: TimeSeries, exposure_s: float) -> float:
    """Magnitude of a star's median flux, -2.5 log10 of adu/s."""
    flux = np.asarray(curve["flux_adu"].value, float)
    middle = float(np.nanmedian(flux[np.asarray(curve["flags"]) & _WHY == 0])) if len(flux) else math.nan
    return -2.5 * math.log10(middle / exposure_s) if middle > 0 else math.nan


def _mag(rel: float) -> float:
    return -2.5 * math.log10(rel) if rel > 0 else math.nan


def text_plot(curve: TimeSeries, width: int = 78, height: int = 15) -> str:
    """The curve drawn with characters: ``o`` where it can be trusted, ``x`` where a flag says otherwise."""
    rel = np.asarray(curve["rel_flux"], float)
    error = np.asarray(curve["rel_flux_err"], float)
    hours = (curve.time.mjd - curve.time.mjd[0]) * 24
    good = (np.asarray(curve["flags"]) & _WHY == 0) & np.isfinite(rel)
    shown = good if good.any() else np.isfinite(rel)
    if not shown.any():
        return "no measurement of this star can be drawn\n"
    low = float(np.min((rel - error)[shown]))
    high = float(np.max((rel + error)[shown]))
    span = max(high - low, 1e-6)
    columns = max(20, width - 10)
    canvas = [[" "] * columns for _ in range(height)]
    place = np.round(hours / max(hours[-1], 1e-9) * (columns - 1)).astype(int)
    row_of = lambda v: int(np.clip(round((high - v) / span * (height - 1)), 0, height - 1))  # noqa: E731
    for mark, which in (("x", np.isfinite(rel) & ~shown), ("o", shown)):
        for n in np.flatnonzero(which):
            if mark == "x" and not low <= rel[n] <= high:
                continue
            for j in range(row_of(rel[n] + error[n]), row_of(rel[n] - error[n]) + 1):
                if mark == "o" and canvas[j][place[n]] != "o":
                    canvas[j][place[n]] = "|"
            canvas[row_of(rel[n])][place[n]] = mark
    lines = [
        f"{high - span * j / (height - 1):8.4f} {''.join(line)}".rstrip() for j, line in enumerate(canvas)
    ]
    first, last = curve.time[0].iso[11:16], curve.time[-1].iso[11:16]
    lines.append(" " * 9 + f"{first} UTC".ljust(columns - 9) + f"{last} UTC")
    return "\n".join(lines) + "\n"


def save_plot(curves: list[TimeSeries], path: Path, title: str) -> None:
    """Draw the curves of one star, a panel per channel; raises `MissingDependencyError` without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as missing:
        raise MissingDependencyError(
            f"--plot needs matplotlib, which cannot be imported ({missing})",
            "pip install 'difflapse[plots]'; without --plot the curve is drawn with characters",
        ) from None
    from difflapse.io.products import atomic

    figure = Figure(figsize=(8, 1.2 + 2.2 * len(curves)), layout="constrained")
    axes: Any = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    colours = {"R": "#c44e52", "G": "#2a7f4f", "B": "#3b6fb6", "L": "#444444"}
    for ax, curve in zip(axes, curves, strict=True):
        good = np.asarray(curve["flags"]) & _WHY == 0
        rel, error = np.asarray(curve["rel_flux"], float), np.asarray(curve["rel_flux_err"], float)
        colour = colours[curve.meta["channel"]]
        when = curve.time.datetime64
        ax.errorbar(when[good], rel[good], error[good], fmt="o", ms=3, lw=0.8, color=colour)
        if good.any():
            low, high = np.nanmin((rel - error)[good]), np.nanmax((rel + error)[good])
            ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        ax.plot(when[~good], rel[~good], "x", ms=4, color="#999999")
        ax.set_ylabel(f"relative flux, {curve.meta['channel']}")
        ax.grid(alpha=0.3)
    axes[0].set_title(title, loc="left", fontsize=10)
    axes[-1].set_xlabel("UTC, mid-exposure; crosses: flagged")
    ending = path.suffix.lower().lstrip(".")
    with atomic(path) as temporary:
        figure.savefig(temporary, format=ending, dpi=150)

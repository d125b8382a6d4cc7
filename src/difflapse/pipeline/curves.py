"""The night's light curves: corrected, judged, and written as `stars.ecsv`, `lightcurves.fits` and stamps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from difflapse.changes.barycentre import airmass, barycentric
from difflapse.changes.curves import Curves, Light, Setting, correct
from difflapse.changes.variability import Seen, Variability, judge
from difflapse.errors import FrameError
from difflapse.io.products import CREATOR, write_rows, write_table
from difflapse.model import bits
from difflapse.model.catalogue import BLENDED, Catalogue
from difflapse.mosaic import channels
from difflapse.pipeline.context import Night
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.pool import guarded
from difflapse.pipeline.stamps import write_stamps

MOST_ROWS = 500_000
"""Rows of `lightcurves.fits` (46 bytes each): the brightest stars', and beyond them those that look variable."""
DIM = 128
"""Flag of a measurement: clouds left less than a fifth of the usual light."""
_LOOKS_VARIABLE = 0.01
"""False-alarm probability below which a star's curve is written whatever its brightness."""
_UNTRUSTED = bits.OUTSIDE | bits.SATURATED | bits.DEFECT | bits.BLANK


def begin_curves(desk: Desk) -> None:
    """Begin to correct every star's light, a colour in each worker, beside what is linked meanwhile."""
    night = desk.night
    catalogue: Catalogue = night.shared("catalogue")
    frames = _measured(desk)
    if not frames or not len(catalogue):
        return
    widths = np.array([desk.value("quality", k).fwhm_pix for k in frames])
    setting = _setting(night, catalogue, frames, widths)
    for name in _colours(night):
        desk.begin(f"curves {name}", _correct_channel, night, name, frames, setting)


def finish_curves(desk: Desk, seen: Seen | None = None) -> None:
    """Judge which of the corrected stars vary, and begin to write the tables; does nothing where that is done.

    `seen` is of all frames of the night and all stars of its catalogue. What goes wrong is told, and costs the curves
    alone.
    """
    names = [name for name in _colours(desk.night) if f"curves {name}" in desk.awaited]
    if not names:
        return
    desk.progress.start("curves", len(names))
    results = []
    for name in names:
        results.append(desk.take(f"curves {name}"))
        desk.progress.advance("curves")
    failed = [result for result in results if isinstance(result, FrameError)]
    error = failed[0] if failed else guarded(_judge, desk, results, seen)
    if isinstance(error, FrameError):
        desk.progress.note(f"curves: left out, {error.message}")
    desk.progress.finish("curves")


def _judge(desk: Desk, curves: list[Curves], seen: Seen | None) -> None:
    night = desk.night
    catalogue: Catalogue = night.shared("catalogue")
    frames = _measured(desk)
    flags = np.asarray(night.array("light")[frames, -1]).astype(np.uint8)
    for one in curves:
        flags[one.dim] |= DIM
    bad = (flags & (_UNTRUSTED | DIM)) != 0
    judged = judge(
        curves,
        bad,
        (catalogue.flags & BLENDED) != 0,
        catalogue.x,
        catalogue.y,
        None if seen is None else seen.on(frames),
    )
    judged = _by_frame_number(judged, frames)
    kept = kept_stars(judged, len(frames) * len(curves))
    if "stamps" in night.options.save:
        desk.products += write_stamps(night, frames)
    night.share("variability", judged)
    desk.begin_file("curves", _write, night, curves, frames, flags, bad, judged, kept)


def _measured(desk: Desk) -> list[int]:
    """Frames whose stars were measured."""
    return [k for k in desk.alive() if desk.values.get("measured", {}).get(k)]


def _colours(night: Night) -> tuple[str, ...]:
    return channels(night.frames[night.shared("reference").frame].mosaic)


def _write(
    night: Night,
    curves: list[Curves],
    frames: list[int],
    flags: np.ndarray,
    bad: np.ndarray,
    judged: Variability,
    kept: np.ndarray,
) -> list[str]:
    """Write both tables; their names."""
    catalogue: Catalogue = night.shared("catalogue")
    names = _colours(night)
    _write_stars(night, catalogue, curves, bad, flags, judged, kept)
    _write_curves(night, catalogue, curves, names, frames, flags, kept)
    return ["stars.ecsv", "lightcurves.fits"]


def kept_stars(judged: Variability, rows_each: int, most: int = MOST_ROWS) -> np.ndarray:
    """Numbers of the stars whose curves are written: the brightest that fit, and all that look variable."""
    n = len(judged.star)
    with np.errstate(invalid="ignore"):
        loud = judged.false_alarm < _LOOKS_VARIABLE
    some = np.arange(n) < most // max(rows_each, 1)
    return np.flatnonzero(some | loud)


def _setting(night: Night, catalogue: Catalogue, frames: list[int], widths: np.ndarray) -> Setting:
    facts = night.frames[frames[0]]
    colour = np.full(len(catalogue), np.nan)
    if facts.mosaic:
        light = night.array("light")
        some = np.array(frames)[np.linspace(0, len(frames) - 1, min(len(frames), 15)).astype(int)]
        red, blue = (_middle(np.asarray(light[some, c])) for c in (0, 2))
        with np.errstate(invalid="ignore", divide="ignore"):
            colour = np.where((red > 0) & (blue > 0), -2.5 * np.log10(blue / red), np.nan)
    return Setting(
        catalogue.x,
        catalogue.y,
        colour,
        (catalogue.flags & BLENDED) != 0,
        widths,
        facts.shape,
        2 if facts.mosaic else 1,
    )


def _correct_channel(night: Night, name: str, frames: list[int], setting: Setting) -> Curves:
    """One channel's curves; run by a worker."""
    light, c = night.array("light"), _colours(night).index(name)
    n_channels = (light.shape[1] - 3) // 2
    flags = np.asarray(light[frames, -1]).astype(np.uint8)
    return correct(
        Light(
            np.asarray(light[frames, c]),
            np.asarray(light[frames, n_channels + c]),
            np.asarray(light[frames, 2 * n_channels]),
            np.asarray(light[frames, 2 * n_channels + 1]),
            (flags & _UNTRUSTED) != 0,
        ),
        setting,
    )


def _by_frame_number(judged: Variability, frames: list[int]) -> Variability:
    """First and last frame as numbers of the night's frames, not of those that were measured."""
    from dataclasses import replace

    numbers = np.array([*frames, -1])  # -1 stays -1
    return replace(judged, first_frame=numbers[judged.first_frame], last_frame=numbers[judged.last_frame])


def _write_stars(
    night: Night,
    catalogue: Catalogue,
    curves: list[Curves],
    bad: np.ndarray,
    flags: np.ndarray,
    judged: Variability,
    kept: np.ndarray,
) -> None:
    """`stars.ecsv`: a row per star."""
    green = curves[len(curves) // 2]
    facts = night.frames[night.shared("reference").frame]
    good = ~bad & np.isfinite(green.rel)
    deviation = np.where(good, np.abs(green.rel - 1), np.nan)
    photon = np.where(good, green.photon_err, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        mag = -2.5 * np.log10(np.where(green.usual > 0, green.usual, np.nan) / (facts.exposure_s or 1.0))
        colour = np.full(len(catalogue), np.nan)
        if len(curves) == 3:
            colour = -2.5 * np.log10(curves[2].usual / curves[0].usual)
    # A reason that holds in half of the frames or more is the star's own.
    often = np.zeros(len(catalogue), np.uint8)
    for bit in (bits.OUTSIDE, bits.SATURATED, bits.DEFECT, bits.BLANK):
        often |= np.where(((flags & bit) != 0).mean(axis=0) >= 0.5, bit, 0).astype(np.uint8)
    tested = np.isfinite(judged.false_alarm)
    columns: dict[str, tuple[np.ndarray, str, str]] = {
        "star": (np.arange(len(catalogue)), "", "number; 0 is the brightest"),
        "x_pix": (np.round(catalogue.x, 3), "pix", "0-based native pixels of the reference"),
        "y_pix": (np.round(catalogue.y, 3), "pix", ""),
        "ra_deg": (np.round(catalogue.ra_deg, 6), "deg", "ICRS"),
        "dec_deg": (np.round(catalogue.dec_deg, 6), "deg", ""),
        "mag": (np.round(mag, 4), "mag", "-2.5 log10 of adu/s, green or only channel"),
        "colour_mag": (np.round(colour, 3), "mag", "blue minus red, on the camera's own scale"),
        "scatter_mag": (np.round(1.0857 * 1.4826 * _middle(deviation), 5), "mag", "robust, of a frame"),
        "expected_scatter_mag": (
            np.round(1.0857 * np.sqrt(_middle(photon**2)), 5), "mag", "photon and read noise alone",
        ),
        "n_frames": (good.sum(axis=0), "", "with an unflagged measurement"),
        "false_alarm": (_digits(judged.false_alarm), "", "that a quiet star looks as variable"),
        "borne_out": (
            np.round(judged.borne_out, 2), "", "correlation of the curve with the differences",
        ),
        "amplitude_mag": (np.round(judged.amplitude_mag, 4), "mag", "peak to peak of the smoothed curve"),
        "in_lightcurves": (np.isin(np.arange(len(catalogue)), kept), "", "whether lightcurves.fits has it"),
        "flags": (catalogue.flags | often, "", "see meta"),
    }  # fmt: skip
    table = Table()
    for name, (values, unit, text) in columns.items():
        table[name] = np.ma.masked_invalid(values) if values.dtype.kind == "f" else values
        table[name].unit = unit or None
        table[name].description = text
    table.meta = {
        "aperture_radius_pix": round(catalogue.radius, 3),
        "exposure_s": facts.exposure_s,
        "stars_found": catalogue.seen,
        "stars_tested": int(tested.sum()),
        "false_alarm_note": f"of {int(tested.sum())} quiet stars false_alarm times that many fall below a value",
        "corrected_on": {
            name: one.teachers for name, one in zip(channels(facts.mosaic), curves, strict=True)
        },
        "limit": _limit_text(len(catalogue), catalogue.seen, len(kept)),
        "flag_bits": {**{name: bit for bit, name in bits.NAMES.items() if bit <= 8}, "blended": BLENDED},
    }
    write_table(Path(night.out) / "stars.ecsv", table)


def _write_curves(
    night: Night,
    catalogue: Catalogue,
    curves: list[Curves],
    names: tuple[str, ...],
    frames: list[int],
    flags: np.ndarray,
    kept: np.ndarray,
) -> None:
    """`lightcurves.fits`: a row per star, channel and frame, in this order."""
    light = night.array("light")
    f, c, n = len(frames), len(names), len(kept)
    shape = (n, c, f)
    mjd = np.array([night.frames[k].mid_mjd or np.nan for k in frames])
    ra, dec, origin = _directions(night, catalogue)
    ra, dec = ra[kept], dec[kept]
    site = _site(night, frames)
    rows = np.zeros(shape, dtype=[
        ("star", ">i4"), ("frame", ">i4"), ("time_mjd", ">f8"), ("bjd_tdb", ">f8"), ("airmass", ">f4"),
        ("channel", "S1"), ("flux_adu", ">f4"), ("flux_err_adu", ">f4"), ("rel_flux", ">f4"), ("rel_flux_err", ">f4"),
        ("flags", "u1"),
    ])  # fmt: skip
    rows["star"] = kept[:, None, None]
    rows["frame"] = np.array(frames)
    rows["time_mjd"] = mjd
    rows["bjd_tdb"] = barycentric(mjd, ra, dec, site).T[:, None, :]
    rows["airmass"] = airmass(mjd, ra, dec, site).T[:, None, :]
    rows["flags"] = (flags[:, kept].T | (catalogue.flags[kept] & BLENDED)[:, None])[:, None, :]
    for i, (name, one) in enumerate(zip(names, curves, strict=True)):
        rows["channel"][:, i] = name.encode()
        rows["flux_adu"][:, i] = np.asarray(light[frames, i])[:, kept].T
        rows["flux_err_adu"][:, i] = np.asarray(light[frames, c + i])[:, kept].T
        rows["rel_flux"][:, i] = one.rel[:, kept].T
        rows["rel_flux_err"][:, i] = one.rel_err[:, kept].T
    header = fits.Header()
    for k, unit in enumerate(("", "", "d", "d", "", "", "adu", "adu", "", "", ""), 1):
        if unit:
            header[f"TUNIT{k}"] = unit
    cards = [
        ("TIMESYS", "UTC", "of time_mjd; bjd_tdb is TDB"),
        ("MJDREF", 0.0, "time_mjd is MJD"),
        ("TIMEUNIT", "d", ""),
        ("TREFPOS", "TOPOCENTER", "of time_mjd; bjd_tdb: the barycentre"),
        ("TIMEEPH", "ERFA", "epv00, astropy's built-in"),
        ("BJDFROM", origin, "directions that bjd_tdb and airmass are for"),
        ("SITELAT", site[0] if site else "unknown", "[deg] north"),
        ("SITELONG", site[1] if site else "unknown", "[deg] east"),
        ("SITEELEV", site[2] if site else "unknown", "[m]"),
        ("APRADIUS", round(catalogue.radius, 3), "[px] native, of the circles"),
        ("NSTARS", len(kept), "stars in this table"),
        ("NSTARALL", len(catalogue), "stars measured, see stars.ecsv"),
        ("NSTARSEE", catalogue.seen, "stars found"),
        ("ROWLIMIT", MOST_ROWS, "rows but for stars that look variable"),
        ("CREATOR", CREATOR, "program that wrote this file"),
    ]
    for keyword, value, comment in cards:
        header[keyword] = (value, comment)
    for bit, name in [
        *list(bits.NAMES.items())[:4],
        (32, "sky poorly known"),
        (BLENDED, "blended"),
        (DIM, "clouds"),
    ]:
        header[f"FLAG{bit}"] = (name, "meaning of this bit of flags")
    header["COMMENT"] = _limit_text(len(catalogue), catalogue.seen, len(kept))
    write_rows(Path(night.out) / "lightcurves.fits", rows.ravel(), header, "LIGHTCURVES")


def _directions(night: Night, catalogue: Catalogue) -> tuple[np.ndarray, np.ndarray, str]:
    """Where each star is, degrees; without a WCS where the mount said that it points, for all of them."""
    if np.isfinite(catalogue.ra_deg).any():
        return catalogue.ra_deg, catalogue.dec_deg, "stars"
    pointing = next((f.pointing for f in night.frames if f.pointing is not None), None)
    if pointing is None:
        return catalogue.ra_deg, catalogue.dec_deg, "unknown"
    return np.full(len(catalogue), pointing[0]), np.full(len(catalogue), pointing[1]), "pointing"


def _site(night: Night, frames: list[int]) -> tuple[float, float, float] | None:
    facts = night.frames[frames[0]]
    if facts.latitude_deg is None or facts.longitude_deg is None:
        return None
    return facts.latitude_deg, facts.longitude_deg, facts.elevation_m or 0.0


def _limit_text(measured: int, seen: int, kept: int) -> str:
    parts = [f"{kept} of {measured} measured stars have their curves here"]
    if kept < measured:
        parts[0] += f": the brightest within {MOST_ROWS} rows, and those that look variable"
    if seen > measured:
        parts.append(f"{seen} stars were found, of which the brightest, spread over the field, were measured")
    return "; ".join(parts)


def _digits(values: np.ndarray) -> np.ndarray:
    """Three significant digits."""
    return np.array([float(f"{v:.3g}") for v in values])


def _middle(values: np.ndarray) -> np.ndarray:
    """Median over frames that passes over NaN; NaN where there is nothing else."""
    out = np.full(values.shape[1], np.nan)
    some = np.isfinite(values).any(axis=0)
    out[some] = np.nanmedian(values[:, some], axis=0)
    return out

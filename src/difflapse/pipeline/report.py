"""The page of a night, made from its products alone: so it can be made again long after the run."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from difflapse._version import __version__
from difflapse.errors import DifflapseError, InputError
from difflapse.io.products import atomic, write_text
from difflapse.pipeline.config import RunOptions, flag
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.folder import add_products
from difflapse.pipeline.pool import guarded
from difflapse.pipeline.results import Night, Run, open_run
from difflapse.pipeline.written import read_json, read_record

if TYPE_CHECKING:
    from astropy.table import Table

SINGLE = "report-single.html"
MOST_STARS = 40_000
MOST_SIGHTINGS = 60_000
MOST_REFUSED = 40_000
CLIPS, HIGHLIGHTS = "clips", "highlights.mp4"
_TABLES = ("stars", "changes", "detections", "completeness")
_NOT_ASKED_AGAIN = ("overwrite", "workers", "memory")
"""Options that say how a machine ran, not what was made."""
ABOUT = {
    "timelapse": "the movie: frames, aligned, beside their differences",
    "timelapse.json": "what each frame and panel of the movie is",
    "report.html": "this page",
    SINGLE: "this page in one file, to mail",
    HIGHLIGHTS: "the best clips in one movie",
    "trails.png": "the brightest of the night at each place",
    "template.png": "what was subtracted, as a picture",
    "cube.fits": "all of the night in one file",
    "template.fits": "what was subtracted, with uncertainty, mask and WCS",
    "model_error.fits": "where differences err by more than photons explain",
    "frames.ecsv": "a row for every input frame: used, or skipped and why",
    "stars.ecsv": "a row for every star of the template",
    "lightcurves.fits": "brightness of every star in every frame, measured on unresampled pixels",
    "detections.ecsv": "every sighting in a difference, with what speaks against it",
    "changes.ecsv": "a row for everything that changed",
    "completeness.ecsv": "how much of what was planted was found again",
    "transforms.json": "how each frame lies on the reference",
    "residuals.fits": "how far held-out stars lie off",
    "state.npz": "what was found out, for another movie of the night",
    "run.toml": "all options in force, versions, checksums of the inputs",
    "aligned/": "aligned frames",
    "differences/": "differences of frames",
    "stamps/": "postage stamps of stars",
    "certificate/": "figures of the alignment",
    "clips/": "a movie of each change",
    "report_files/": "what this page shows",
}


def begin_tables(desk: Desk) -> None:
    """Begin to read the tables that the page shows, beside the making of movie and clips."""
    desk.begin("page", _read_tables, desk.night.out)


def report_beside(desk: Desk) -> list[str]:
    """Make the page of a night that has just been run; what goes wrong costs the page, never the night.

    Returns
    -------
    list of str
        Names of the files below the night's folder, to be listed in its `run.toml`; empty where there is no page.
    """
    progress = desk.progress
    progress.start("report", 1)
    night, tables = Night(desk.night.out), desk.take("page")
    if isinstance(tables, dict):
        vars(night).update(tables)
    made = guarded(make_report, night)
    if isinstance(made, DifflapseError):
        progress.note(f"the page was not made: {made.message}")
        made = []
    progress.advance("report")
    progress.finish("report")
    return made


def remake(out: str | Path, single_file: bool = False) -> list[Path]:
    """Make the pages of a finished run again.

    Parameters
    ----------
    out : str or Path
        The run's folder.
    single_file : bool
        Make `report-single.html`, with everything in it, instead of `report.html` and its folder.

    Returns
    -------
    list of Path
        The pages: that of each sequence, and the index where there are several.

    Raises
    ------
    InputError
        The folder holds no finished run.
    OutputError
        It cannot be written to.
    """
    run = open_run(out)
    pages = []
    for night in run.sequences:
        if single_file:
            pages.append(make_single(night))
            continue
        stale = {name for name in _products(night) if name.startswith("report_files/")}
        made = make_report(night)
        for name in stale - set(made):
            (night.folder / name).unlink(missing_ok=True)
        pages.append(night.folder / "report.html")
    if len(run.sequences) > 1 or (run.out / "run.json").exists():
        write_index(run)
        pages.append(run.out / "index.html")
    return pages


def make_report(night: Night) -> list[str]:
    """Write `report.html` and `report_files/` beside a night's products, and list them in its `run.toml`."""
    from difflapse.report import write_page

    def write(name: str, text: str) -> None:
        path = night.folder / name
        path.parent.mkdir(exist_ok=True)
        write_text(path, text)

    made = write_page(write, _title(night), page_data(night))
    add_products(night.folder, made)
    return made


def make_single(night: Night) -> Path:
    """Write `report-single.html`, which needs no other file, and list it in `run.toml`."""
    from difflapse.report import write_single_page

    path = night.folder / SINGLE
    data = page_data(night)
    names = [data["night"]["movie"]["video"]] if data["night"]["movie"] else []
    names += [change["clip"] for change in data["night"]["changes"] if change["clip"]]
    names += filter(None, [data["night"]["highlights"]])
    embedded = {name: night.folder / name for name in names if (night.folder / name).exists()}
    data["night"]["embedded"] = sum(file.stat().st_size for file in embedded.values())
    write_single_page(path, _title(night), data, embedded, atomic)
    add_products(night.folder, [SINGLE])
    return path


def write_index(run: Run) -> None:
    """Write `index.html` above the nights of a run, from their tables alone."""
    from astropy.table import Table

    from difflapse.report import IndexEntry, index_page

    table = Table.read(run.out / "frames.ecsv", format="ascii.ecsv")
    rows: dict[str, list[Any]] = {night.name: [] for night in run.sequences}
    left_out = []
    for row in table:
        name = _text(row["sequence"])
        if name:
            rows.setdefault(name, []).append(row)
        else:
            left_out.append((_text(row["file"]), _text(row["reason"])))
    folders = {night.name: night.folder for night in run.sequences}
    entries = []
    for name, own in rows.items():
        used = sum(row["status"] == "used" for row in own)
        folder = folders.get(name)
        reason = "" if folder else _text(own[0]["reason"])
        report = "report.html" if folder and (folder / "report.html").exists() else ""
        movie = folder and _movie_name(folder)
        entries.append(IndexEntry(name, len(own), used, reason, movie or "", report))
    write_text(run.out / "index.html", index_page(entries, left_out))


def page_data(night: Night) -> dict[str, Any]:
    """All that the page shows, under the names by which its scripts ask for it; plain values and arrays."""
    frames = _frames(night)
    record = _json_or_none(night.folder / "transforms.json")
    stars, changes, sightings = (_table(night, name) for name in ("stars", "changes", "detections"))
    told_changes = _changes(night.folder, changes, sightings)
    told_varying = _varying(night)
    curves, chunks = _curves(night.folder, stars, [*told_changes, *told_varying["stars"]])
    data: dict[str, Any] = {
        "night": {
            "title": _title(night),
            "name": night.name,
            "object": str(night.table.meta.get("object", "")),
            "made": f"difflapse {__version__}",
            "meta": {
                key: night.table.meta.get(key) for key in ("diff", "diff_note", "wcs", "lens", "pixel_arcsec")
            },
            "reference": _reference(night, record),
            "sky": _sky(record),
            "movie": _movie(night.folder),
            "palette": _palette(),
            "frames": frames,
            "changes": told_changes,
            "varying": told_varying,
            "highlights": HIGHLIGHTS if (night.folder / HIGHLIGHTS).exists() else "",
            "sightings": _sightings(sightings),
            "curves": curves,
            "hasStars": stars is not None,
            "hasChanges": changes is not None,
            "changesNote": str(changes.meta.get("note", "")) if changes is not None else night.not_asked,
            "completeness": _completeness(_table(night, "completeness")),
            "completenessNote": str(night.table.meta.get("not_planted", "")),
            "certificate": _certificate(night),
            "starField": night.certificate().has_stars,
            "run": _how(night),
            "embedded": 0,
        },
        "stars": _stars(stars),
        "refused": _refused(sightings),
        "transforms": _transforms(record),
    }
    return data | {f"curves-{n:03d}": chunk for n, chunk in enumerate(chunks)}


def _title(night: Night) -> str:
    what = str(night.table.meta.get("object", "")).strip() or night.name
    first = next((frame.time_utc for frame in night.frames if frame.time_utc), "")
    return f"{what} · {first[:10]}" if first else what


_FRAME_NUMBERS = {
    "rms_pix": 4, "p95_pix": 4, "corner_pix": 4, "dx_pix": 3, "dy_pix": 3, "rotation_deg": 5, "scale": 7,
    "fwhm_pix": 3, "background_adu": 2, "noise_adu": 3, "transparency": 4, "n_stars": 0, "n_matched": 0,
    "exposure_s": 3,
}  # fmt: skip
_FRAME_TEXTS = ("file", "status", "reason", "method", "note", "model")


def _frames(night: Night) -> dict[str, Any]:
    """Columns of `frames.ecsv`, frames of the night alone; times as ISO text and as MJD."""
    table = night.table[[not np.ma.is_masked(number) for number in night.table["frame"]]]
    times = [_text(value) for value in table["time_utc"]]
    told: dict[str, Any] = {
        "number": np.asarray(table["frame"], int),
        "time": times,
        "mjd": [_mjd(time) for time in times],
        "template": [bool(value) for value in table["in_template"]]
        if "in_template" in table.colnames
        else [],
    }
    for name in _FRAME_TEXTS:
        if name in table.colnames:
            told[name] = [_text(value) for value in table[name]]
    for name, digits in _FRAME_NUMBERS.items():
        if name in table.colnames:
            told[name] = _numbers(table[name], digits)
    return told


def _reference(night: Night, record: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if record is None:
        return None
    ny, nx = record["reference"]["shape"]
    return {"file": record["reference"]["file"], "frame": record["reference"]["frame"], "nx": nx, "ny": ny}


def _sky(record: Mapping[str, Any] | None) -> dict[str, Any] | None:
    from difflapse.report import sky_record

    if record is None:
        return None
    ny, nx = record["reference"]["shape"]
    return sky_record(record["reference"]["wcs_header"] or "", (ny, nx))


def _movie(folder: Path) -> dict[str, Any] | None:
    """`timelapse.json`, where it and the movie are there."""
    record = _json_or_none(folder / "timelapse.json")
    if record is None:
        return None
    video = Path(record["video"])
    # Rings are part of a picture with all its labels: the page does not draw them once more unless asked.
    record.setdefault("marks", read_record(folder).get("labels") == "full")
    return dict(record) if (folder / (video.parent if "%" in video.name else video)).exists() else None


def _movie_name(folder: Path) -> str:
    """What the index leads to: the movie, or the folder of its pictures."""
    record = _movie(folder)
    video = str(record["video"]) if record else ""
    return f"{video.rpartition('/')[0]}/" if "%" in video else video


def _palette() -> dict[str, Any]:
    """The colours of the differential panel, and where on its scale values lie: fractions of the end."""
    from difflapse.movie.diverging import compress, diverging_table

    table = diverging_table(65)
    at = np.array([-1, -0.25, 0, 0.25, 1])
    return {
        "colours": ["#" + "".join(f"{int(c):02x}" for c in colour) for colour in table],
        "ticks": [[float(v), round(float(compress(np.array([v]), 1.0)[0]), 4)] for v in at],
    }


def _changes(folder: Path, table: Table | None, sightings: Table | None) -> list[dict[str, Any]]:
    """Rows of `changes.ecsv`, each with the name of its clip where there is one, and the frames on which it was sighted
    first and last: what varies all night is in the table for all of it.
    """
    if table is None:
        return []
    owner, frame = (
        np.asarray([] if sightings is None else sightings[name], int) for name in ("change", "frame")
    )
    told = []
    for row in table:
        item = {name: _value(row[name]) for name in table.colnames}
        number, kind = int(item["change"]), str(item.get("kind") or "unknown")
        name = str(item.get("name") or f"{kind} {number}")
        own = frame[owner == number]
        seen = [int(own.min()), int(own.max())] if len(own) else [item["first_frame"], item["last_frame"]]
        item.update(change=number, kind=kind, name=name, clip=_clip(folder, number, name), seen=seen)
        told.append(item)
    return told


def _varying(night: Night) -> dict[str, Any]:
    """Stars that vary by their light curves alone, as changes of a kind of their own that are there all night."""
    known = night.told_varying() or {"tested": 0, "false_alarms": 0, "stars": []}
    whole = {"kind": "star", "first_frame": 0, "last_frame": len(night.frames) - 1, "clip": ""}
    told = [{**row, "change": f"star {row['star']}", **whole} for row in known["stars"]]
    return {"tested": known["tested"], "falseAlarms": known["false_alarms"], "stars": told}


def _clip(folder: Path, number: int, name: str) -> str:
    """Name of a change's movie below the folder; empty without one."""
    for stem in (name, re.sub(r"[^\w.+-]+", "-", name), f"change-{number:03d}"):
        if (folder / CLIPS / f"{stem}.mp4").exists():
            return f"{CLIPS}/{stem}.mp4"
    return ""


def _sightings(table: Table | None) -> dict[str, Any]:
    """Sightings that belong to a change, by column; the others are in `detections.ecsv`."""
    digits = {"change": 0, "frame": 0, "x_pix": 2, "y_pix": 2, "flux_adu": 1, "flux_err_adu": 1, "snr": 2}
    if table is None:
        return {name: [] for name in digits}
    digits |= {name: 2 for name in ("x_end_pix", "y_end_pix") if name in table.colnames}
    own = table[np.asarray(table["change"]) >= 0]
    if len(own) > MOST_SIGHTINGS:
        own = own[np.argsort(-np.abs(np.asarray(own["snr"])))[:MOST_SIGHTINGS]]
    return {name: _numbers(own[name], n) for name, n in digits.items()}


def _refused(table: Table | None) -> dict[str, Any]:
    """Sightings that belong to no change, by column, with what speaks against them in words by bit; the strongest."""
    digits = {"frame": 0, "x_pix": 1, "y_pix": 1, "snr": 1, "flags": 0}
    if table is None:
        return {name: [] for name in digits} | {"why": {}, "left": 0}
    own = table[np.asarray(table["change"]) < 0]
    left = max(0, len(own) - MOST_REFUSED)
    if left:
        own = own[np.sort(np.argsort(-np.abs(np.asarray(own["snr"])), kind="stable")[:MOST_REFUSED])]
    told = {
        name: _numbers(own[name], n) if name in own.colnames else [0] * len(own) for name, n in digits.items()
    }
    return told | {
        "why": {str(bit): str(why) for bit, why in dict(table.meta.get("flags", {})).items()},
        "left": left,
    }


def _stars(table: Table | None) -> dict[str, Any]:
    """Columns of `stars.ecsv`: all that are flagged and the brightest."""
    digits = {
        "star": 0, "x_pix": 2, "y_pix": 2, "ra_deg": 6, "dec_deg": 6, "mag": 3, "scatter_mag": 4,
        "expected_scatter_mag": 4, "n_frames": 0, "amplitude_mag": 3, "false_alarm": 6, "flags": 0,
    }  # fmt: skip
    if table is None:
        return {name: [] for name in digits} | {"note": "", "flagNames": {}}
    names = {str(bit): str(name) for name, bit in dict(table.meta.get("flag_bits", {})).items()}
    note = ""
    if len(table) > MOST_STARS:
        kept = _by_worth(table)[:MOST_STARS]
        note = f"{MOST_STARS} of {len(table)} stars are here: flagged ones, then the brightest; stars.ecsv has all."
        table = table[np.sort(kept)]
    return {name: _numbers(table[name], n) for name, n in digits.items() if name in table.colnames} | {
        "note": note,
        "flagNames": names,
    }


def _by_worth(stars: Table) -> np.ndarray:
    """Rows of `stars.ecsv`: flagged ones, then by brightness."""
    mag: np.ndarray = np.ma.filled(np.ma.asarray(stars["mag"], float), np.inf)
    flagged = (
        np.ma.filled(np.ma.asarray(stars["flags"]), 0) != 0 if "flags" in stars.colnames else mag > np.inf
    )
    return np.lexsort((mag, ~flagged))


def _curves(
    folder: Path, stars: Table | None, changes: Iterable[Mapping[str, Any]]
) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """What the page must know of the light curves, and their chunks; None without any."""
    from difflapse.report import pack_curves

    rows = _fits_columns(
        folder / "lightcurves.fits",
        ("star", "frame", "channel", "rel_flux", "rel_flux_err", "flags"),
    )
    if rows is None or stars is None or not len(rows[0]):
        return None, ()
    star, frame, channel, flux, error, flags = rows
    order = np.asarray(stars["star"], int)[_by_worth(stars)]
    first = [int(c["star"]) for c in changes if c.get("star") is not None and int(c["star"]) >= 0]
    order = np.concatenate([np.array(first, int), order[~np.isin(order, first)]])
    letters = channel.astype("U1")
    # What holds in all of a star's points is told with the star; here only what makes a point worse than others.
    always = np.full(int(star.max()) + 1, -1, np.int64)
    np.bitwise_and.at(always, star.astype(int), flags.astype(int))
    flags = flags.astype(int) & ~always[star]
    curves = pack_curves(
        np.asarray(star, int), np.asarray(frame, int), letters, np.asarray(flux, float), np.asarray(error, float),
        np.asarray(flags), order,
    )  # fmt: skip
    return curves.to_mapping(), curves.chunks


def _completeness(table: Table | None) -> dict[str, Any] | None:
    """Columns of `completeness.ecsv`, and what its header says beside them."""
    if table is None:
        return None
    columns = {name: [_value(value) for value in table[name]] for name in table.colnames}
    meta = {str(k): v for k, v in table.meta.items() if isinstance(v, str | int | float | dict)}
    return {"columns": columns, "meta": meta}


def _certificate(night: Night) -> dict[str, Any] | None:
    """The night's certificate, and the residuals that all frames have in common, cell by cell."""
    if not (night.folder / "transforms.json").exists():
        return None
    proof = night.certificate()
    told = proof.to_mapping()
    del told["folder"]
    if proof.has_residuals:
        field = proof.field
        columns = {"x": (field.x, 1), "y": (field.y, 1), "dx": (field.dx, 5), "dy": (field.dy, 5)}
        told["map"] = {name: np.round(value.ravel(), n) for name, (value, n) in columns.items()}
        told["map"]["significance"] = np.round(field.significance.ravel(), 2)
    return told


def _how(night: Night) -> dict[str, Any]:
    """How the run was made, to do it again: command, options, versions, inputs, products."""
    record = read_record(night.folder)
    origin = record.get("provenance", {})
    known = {item.name: item for item in fields(RunOptions)}
    options = {name: value for name, value in record.items() if name in known}
    words = ["difflapse", "run", *([origin["root"]] if origin.get("root") else ["INPUT"]), "-o", "../again"]
    changed = {
        name
        for name, value in options.items()
        if value != _plain_default(known[name].default) and name not in _NOT_ASKED_AGAIN
    }
    for name in options:
        if name in changed:
            words += _spelled(name, options[name])
    return {
        "command": shlex.join(words),
        "options": {
            name: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            for name, value in options.items()
        },
        "changed": [name for name, value in options.items() if name in changed],
        "versions": origin.get("versions", {}),
        "inputs": origin.get("inputs", {}),
        "root": origin.get("root") or "",
        "seconds": origin.get("seconds"),
        "products": _products_told(night),
    }


def _plain_default(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _spelled(name: str, value: Any) -> list[str]:
    """An option as it is given on the command line."""
    option = flag(name)
    if isinstance(value, bool):
        return [option if value else f"--no-{option[2:]}"]
    if isinstance(value, list):
        return [word for one in value for word in (option, str(one))]
    return [option, str(value)]


def _products(night: Night) -> list[str]:
    return list(read_record(night.folder).get("provenance", {}).get("products", []))


def _products_told(night: Night) -> list[dict[str, Any]]:
    """Products that are there: files by themselves, those of a folder together."""
    told: dict[str, dict[str, Any]] = {}
    for name in sorted({*_products(night), "run.toml"}):
        file = night.folder / name
        if name.startswith(("report_files/", "report")) or not file.exists():
            continue
        key = f"{name.split('/')[0]}/" if "/" in name else name
        about = ABOUT.get(key) or (ABOUT["timelapse"] if key.startswith("timelapse") else "")
        item = told.setdefault(key, {"name": key, "about": about, "files": 0, "bytes": 0})
        item["files"] += 1
        item["bytes"] += file.stat().st_size
    return list(told.values())


def _transforms(record: Mapping[str, Any] | None) -> dict[str, Any]:
    """Each used frame's way from the reference, by its number: the inverse that `transforms.json` holds."""
    if record is None:
        return {}
    return {
        str(item["frame"]): {
            key: _rounded(item["inverse"][key])
            for key in ("matrix", "origin", "scale", "powers", "coefficients")
            if item["inverse"].get(key) is not None
        }
        for item in record["frames"]
    }


def _rounded(value: Any) -> Any:
    """Numbers to ten digits: a millionth of a pixel over any sensor."""
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.10g}") if isinstance(value, float) else value


def _json_or_none(path: Path) -> Any:
    return read_json(path) if path.exists() else None


def _read_tables(folder: str) -> dict[str, Table]:
    """The tables that a night has, as `Night` keeps them under their names once they are read."""
    from astropy.table import Table

    paths = {name: Path(folder) / f"{name}.ecsv" for name in _TABLES}
    return {name: Table.read(path, format="ascii.ecsv") for name, path in paths.items() if path.exists()}


def _table(night: Night, name: str) -> Table | None:
    """An ECSV product; None where it is missing."""
    path = night.folder / f"{name}.ecsv"
    if not path.exists():
        return None
    try:
        table: Table = getattr(night, name)
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}", "is it the product of a finished run?") from None
    return table


def _fits_columns(path: Path, names: Iterable[str]) -> list[np.ndarray] | None:
    """Columns of a FITS table's first extension; None where it is missing."""
    from astropy.io import fits

    if not path.exists():
        return None
    with fits.open(path, memmap=True) as hdus:
        data = hdus[1].data
        raw = data.view(np.ndarray)  # astropy decodes letters one by one
        return [np.array((raw if raw[name].dtype.kind == "S" else data)[name]) for name in names]


def _numbers(column: Any, digits: int) -> list[float | int | None]:
    """A column as numbers of so many digits behind the point; None where masked or not finite."""
    values = np.ma.filled(np.ma.asarray(column).astype(float), np.nan)
    if digits == 0:
        return [int(v) if math.isfinite(v) else None for v in values.tolist()]
    return [v if math.isfinite(v) else None for v in np.round(values, digits).tolist()]


def _value(value: Any) -> Any:
    """One cell of a table as a plain value; None where it is masked."""
    if np.ma.is_masked(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _text(value: Any) -> str:
    return "" if value is None or np.ma.is_masked(value) else str(value)


def _mjd(time: str) -> float | None:
    from datetime import UTC, datetime

    if not time:
        return None
    seconds = datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp()
    return round(seconds / 86400 + 40587, 7)

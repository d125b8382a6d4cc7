"""A run in a notebook: a player and tables where it is shown, and axes on the sky for papers."""

from __future__ import annotations

import base64
import os
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from difflapse.errors import InputError, MissingDependencyError, OptionError
from difflapse.io.products import product_names
from difflapse.pipeline.tables import tell_judged_on

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from difflapse.pipeline.results import Night, Run

MOST_EMBEDDED = 20_000_000
"""Bytes of a movie that is put into the notebook itself; a larger one is linked."""
_ROWS = 12
_MIME = {".mp4": "video/mp4", ".webm": "video/webm"}
_COLUMNS = (
    "kind",
    "name",
    "first_frame",
    "last_frame",
    "snr",
    "amplitude_mag",
    "rate_arcsec_per_hour",
    "ra_deg",
    "dec_deg",
)
KINDS = ("template", "aligned", "difference")


def run_html(run: Run) -> str:
    """What a notebook shows of a run: each of its sequences."""
    return "".join(night_html(night) for night in run.sequences)


def night_html(night: Night) -> str:
    """What a notebook shows of a night: what became of it, the movie, and what changed. All names are text."""
    told = night.summary()
    rms = told["median_rms_pix"]
    said = [f"{told['n_used']} of {told['n_frames']} frames used"]
    if rms is not None:
        said.append(f"aligned to {rms:.3f} px (median, {tell_judged_on(told['judged_on'])})")
    if told["diff"]:
        said.append(f"difference: {told['diff']}")
    parts = [f"<h3>{escape(night.name)}</h3>", f"<p>{escape('; '.join(said))}</p>", _player(night.movie)]
    changes = _changes(night)
    if changes is not None:
        parts.append(_rows(changes, f"{len(changes)} changes"))
    if told["skipped"]:
        items = "".join(
            f"<li>{escape(item['file'])}: {escape(item['reason'])}</li>" for item in told["skipped"][:_ROWS]
        )
        parts.append(f"<details><summary>{told['n_skipped']} skipped</summary><ul>{items}</ul></details>")
    return f"<div class='difflapse'>{''.join(parts)}</div>"


def plot(night: Night, kind: str = "template", frame: int | None = None, ax: Axes | None = None) -> Axes:
    """Draw a product image on the sky, with what changed; see `Night.plot`."""
    try:
        from astropy.visualization import AsinhStretch, ImageNormalize, astropy_mpl_style
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            f"figures need matplotlib, which cannot be imported ({error})", "pip install 'difflapse[plots]'"
        ) from None
    image, title = _image(night, kind, frame)
    wcs = night.wcs
    own = {key: value for key, value in astropy_mpl_style.items() if not key.startswith("backend")}
    with rc_context(own):
        if ax is None:
            ax = Figure(figsize=(8, 6), layout="constrained").add_subplot(projection=wcs)
        finite = image[np.isfinite(image)]
        if not finite.size:
            raise InputError(f"{title} has no good pixels", "another frame")
        if kind == "difference":
            top = 6 * 1.4826 * float(np.median(np.abs(finite - np.median(finite))))
            ax.imshow(image, origin="lower", cmap="RdBu_r", vmin=-top, vmax=top, interpolation="nearest")
        else:
            low, high = np.percentile(finite, (5, 99.7))
            norm = ImageNormalize(vmin=low, vmax=high, stretch=AsinhStretch(0.1))
            ax.imshow(image, origin="lower", cmap="gray", norm=norm, interpolation="nearest")
        ax.grid(False)
        if wcs is not None and hasattr(ax, "coords"):
            ax.coords.grid(color="white", alpha=0.25, linestyle=":")
            # On a turned camera declination may run along x: each label goes where its ticks are.
            ax.coords[0].set_axislabel("RA")
            ax.coords[1].set_axislabel("Dec")
        else:
            ax.set_xlabel("x, product pixels")
            ax.set_ylabel("y, product pixels")
        ax.set_title(title)
        _mark(ax, night, frame)
    return ax


def _image(night: Night, kind: str, frame: int | None) -> tuple[np.ndarray, str]:
    """The green or only plane of a product, NaN where it is bad, and its title."""
    from astropy.nddata import CCDData

    if kind not in KINDS:
        raise OptionError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}")
    if kind == "template":
        found, title = night.template, "template"
    else:
        if frame is None or not 0 <= frame < len(night.frames):
            raise OptionError(f"frame is {frame}; the night has frames 0 to {len(night.frames) - 1}")
        folder = {"aligned": "aligned", "difference": "differences"}[kind]
        path = night.folder / folder / product_names([f.file for f in night.frames])[frame]
        if not path.exists():
            raise InputError(f"there is no {folder}/{path.name}", f"run with save='{folder}'")
        found = CCDData.read(path)
        time = night.frames[frame].time_utc[:19].replace("T", " ")
        title = f"{kind}, {time} UTC" if time else f"{kind}, frame {frame}"
    data = np.where(np.asarray(found.mask), np.nan, found.data) if found.mask is not None else found.data
    return (data if data.ndim == 2 else data[1 if len(data) == 3 else 0]), title


def _mark(ax: Any, night: Night, frame: int | None) -> None:
    """Rings about changes, where they were first seen, with their kind and number."""
    from difflapse.pipeline.written import read_json

    changes = _changes(night)
    if changes is None:
        return
    grid = read_json(night.folder / "transforms.json")["products"]
    half, step = (grid["step"] - 1) / 2, grid["step"]
    for row in changes:
        if frame is not None and not int(row["first_frame"]) <= frame <= int(row["last_frame"]):
            continue
        x, y = (
            (float(row[name]) - half - origin) / step
            for name, origin in zip(("x_pix", "y_pix"), grid["origin"], strict=True)
        )
        ax.plot([x], [y], "o", ms=14, mfc="none", mec="tab:orange", mew=1.2)
        ax.annotate(
            f"{row['kind']} {row['change']}", (x, y), (8, 8), textcoords="offset points",
            color="tab:orange", fontsize=8, clip_on=True,
        )  # fmt: skip


def _player(movie: Path | None) -> str:
    """The movie: in the page itself where it is small, else a link."""
    if movie is None:
        return "<p>no movie</p>"
    try:
        link = escape(Path(os.path.relpath(movie)).as_posix(), quote=True)
    except ValueError:  # another drive
        link = escape(movie.resolve().as_uri(), quote=True)
    small = movie.is_file() and movie.stat().st_size <= MOST_EMBEDDED
    kind = _MIME.get(movie.suffix)
    if small and (kind or movie.suffix == ".gif"):
        data = base64.b64encode(movie.read_bytes()).decode()
        if kind is None:
            return f"<img style='max-width:100%' alt='the night' src='data:image/gif;base64,{data}'>"
        return (
            "<video controls loop muted playsinline style='max-width:100%' "
            f"src='data:{kind};base64,{data}'></video>"
        )
    if kind:
        return f"<video controls loop muted playsinline style='max-width:100%' src='{link}'></video>"
    return f"<p><a href='{link}'>{link}</a></p>"


def _changes(night: Night) -> Any:
    """`changes.ecsv`; None where there is none, or nothing changed."""
    from astropy.table import Table

    path = night.folder / "changes.ecsv"
    if not path.is_file():
        return None
    table = Table.read(path, format="ascii.ecsv")
    return table if len(table) else None


def _rows(table: Any, caption: str) -> str:
    """A table as HTML, its first rows."""
    names = [name for name in _COLUMNS if name in table.colnames]
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = ""
    for row in table[:_ROWS]:
        cells = ["" if np.ma.is_masked(row[n]) else row[n] for n in names]
        body += "<tr>" + "".join(f"<td>{escape(_cell(c))}</td>" for c in cells) + "</tr>"
    more = f" (the first {_ROWS})" if len(table) > _ROWS else ""
    return (
        f"<table><caption>{escape(caption)}{more}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)

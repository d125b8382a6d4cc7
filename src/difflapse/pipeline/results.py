"""What a run made, as Python objects: read back from its folder, as `open_run` does."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from difflapse.errors import DifflapseError, InputError
from difflapse.model import Transform
from difflapse.pipeline.config import RunOptions
from difflapse.pipeline.tables import read_transform, tell_depth
from difflapse.pipeline.written import read_json, read_products, read_record, why_not_asked

if TYPE_CHECKING:
    from astropy.nddata import CCDData
    from astropy.table import Table
    from astropy.time import Time
    from astropy.timeseries import TimeSeries
    from astropy.wcs import WCS
    from matplotlib.axes import Axes

    from difflapse.pipeline.certificate import Certificate
    from difflapse.pipeline.verify import Check


@dataclass(frozen=True, eq=False)
class RunFrame:
    """One input frame of a run, used or not."""

    number: int
    """0-based, in time order, as the column ``frame``; -1 for a reference from outside the night."""
    file: str
    used: bool
    reason: str
    """Why it was skipped; empty for a used frame."""
    transform: Transform | None
    time_utc: str

    @property
    def time(self) -> Time | None:
        """Middle of the exposure; None if unknown."""
        from astropy.time import Time

        return Time(self.time_utc, format="isot", scale="utc") if self.time_utc else None

    def to_reference(self, x: np.ndarray | float, y: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Native pixels of this frame (0-based) to native pixels of the reference; arrays welcome.

        Raises
        ------
        InputError
            The frame was skipped.
        """
        return self._known()(x, y)

    def from_reference(self, x: np.ndarray | float, y: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Native pixels of the reference to native pixels of this frame; NaN where there is no way back."""
        return self._known().inverse(x, y)

    def _known(self) -> Transform:
        if self.transform is None:
            raise InputError(
                f"frame {self.number} ({self.file}) was skipped: {self.reason}", "choose a used frame"
            )
        return self.transform


class Night:
    """The products of one sequence; everything is read from its folder when it is first asked for."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / "frames.ecsv").exists():
            raise InputError(f"{self.folder} holds no frames.ecsv", "is this the folder of a finished run?")

    @property
    def name(self) -> str:
        """The sequence's name."""
        return str(self.table.meta.get("sequence", self.folder.name))

    def __repr__(self) -> str:
        return f"<Night {self.name}: {len(self.frames)} frames in {self.folder}>"

    @functools.cached_property
    def table(self) -> Table:
        """`frames.ecsv`: a row per input frame."""
        return _frames_table(self.folder)

    @functools.cached_property
    def frames(self) -> tuple[RunFrame, ...]:
        """All frames of the sequence in time order; ``frames[i].number == i``."""
        transforms: dict[int, Transform] = {}
        if (self.folder / "transforms.json").exists():
            record = read_json(self.folder / "transforms.json")
            transforms = {item["frame"]: read_transform(item) for item in record["frames"]}
        frames = []
        for row in self.table:
            if np.ma.is_masked(row["frame"]):
                continue
            k = int(row["frame"])
            time = "" if np.ma.is_masked(row["time_utc"]) else str(row["time_utc"])
            used = row["status"] == "used"
            frames.append(
                RunFrame(k, str(row["file"]), used, str(row["reason"] or ""), transforms.get(k), time)
            )
        return tuple(frames)

    @property
    def reference(self) -> RunFrame:
        """The frame whose pixel grid is kept; its number is -1 where it is none of the night's frames."""
        meta = self.table.meta
        if "reference_file" in meta:
            told = read_json(self.folder / "transforms.json")["reference"]
            reason = "it is the reference, and no frame of the night"
            time = told["time_utc"] or ""
            return RunFrame(-1, meta["reference_file"], False, reason, Transform.identity(), time)
        if "reference_frame" not in meta:
            raise InputError(
                "the run ended before it had a reference", "frames.ecsv says why its frames were skipped"
            )
        return self.frames[int(meta["reference_frame"])]

    @functools.cached_property
    def reference_shape(self) -> tuple[int, int]:
        """(ny, nx) of the reference frame, native pixels."""
        ny, nx = read_json(self.folder / "transforms.json")["reference"]["shape"]
        return int(ny), int(nx)

    @functools.cached_property
    def residuals(self) -> Table:
        """`residuals.fits`: where held-out stars fall beside where they were measured, a row per frame and star.

        Raises
        ------
        InputError
            No frame was aligned on stars.
        """
        from astropy.table import Table

        path = self.folder / "residuals.fits"
        if not path.exists():
            raise InputError(
                f"{self.folder} has no residuals.fits: no frame was aligned on stars, or an older version ran",
                "frames.ecsv says how each frame was aligned",
            )
        return Table.read(path, format="fits")

    @functools.cached_property
    def completeness(self) -> Table:
        """`completeness.ecsv`: of artificial stars and movers how many were found, a row per kind and half a magnitude;
        the magnitudes to which half and 90 % are found in ``meta["limits"]``.

        Raises
        ------
        InputError
            Nothing was planted.
        """
        from astropy.table import Table

        path = self.folder / "completeness.ecsv"
        if not path.exists():
            raise InputError(
                f"{self.folder} has no completeness.ecsv: nothing was planted, or an older version ran",
                "the run's notes say why; --injection asks for it",
            )
        return Table.read(path, format="ascii.ecsv")

    def certificate(self) -> Certificate:
        """How well the night is aligned: ``to_mapping()`` for numbers, ``draw_residuals()``, ``draw_night()``
        and ``draw_pair()`` for matplotlib figures, ``save()`` for files.
        """
        from difflapse.pipeline.certificate import Certificate

        return Certificate(self)

    @functools.cached_property
    def template(self) -> CCDData:
        """What was subtracted, with its uncertainty, mask and, where there is one, its celestial WCS.

        Raises
        ------
        InputError
            The run subtracted no template (running, rolling or no differences).
        """
        from astropy.nddata import CCDData

        path = self.folder / "template.fits"
        if not path.exists():
            mode = self.table.meta.get("diff", "none")
            raise InputError(f"there is no template: the difference is {mode!r}", "run with diff='template'")
        return CCDData.read(path)

    @functools.cached_property
    def stars(self) -> Table:
        """`stars.ecsv`: a row per star that was followed through the night.

        Raises
        ------
        InputError
            No star was measured.
        """
        from difflapse.pipeline.lightcurve import read_stars

        return read_stars(self.folder)

    @functools.cached_property
    def varying(self) -> Table:
        """Stars that vary by their light curves alone, strongest first.

        Those of `stars` whose ``false_alarm`` times the number of stars tested is below the run's ``false_alarms``, but
        for what is in `changes`.

        Raises
        ------
        InputError
            No star was measured, or no difference looked at: it tells what else came into a star's circle.
        """
        from difflapse.pipeline.varying import varying_stars

        reason = str(self.changes.meta.get("note", ""))
        if reason:
            raise InputError(
                f"the differences of {self.folder} were not looked at: {reason}", "night.stars has all stars"
            )
        asked = read_record(self.folder).get("false_alarms", RunOptions.false_alarms)
        return varying_stars(self.stars, self.changes, float(asked))

    @functools.cached_property
    def changes(self) -> Table:
        """`changes.ecsv`: a row per thing that changed, most certain first.

        Raises
        ------
        InputError
            Nothing was subtracted from the frames.
        """
        return self._change_table("changes.ecsv")

    @functools.cached_property
    def detections(self) -> Table:
        """`detections.ecsv`: a row per sighting, with the reasons (`flags`) against those that were refused.

        Raises
        ------
        InputError
            Nothing was subtracted from the frames.
        """
        return self._change_table("detections.ecsv")

    @functools.cached_property
    def not_asked(self) -> str:
        """Why nothing that changed was looked for, where the run was not asked to; empty where it was."""
        return why_not_asked(self.folder)

    def _change_table(self, name: str) -> Table:
        from astropy.table import Table

        if not (self.folder / name).exists():
            if self.not_asked:
                raise InputError(f"{self.folder} has no {name}: {self.not_asked}", "run with changes")
            mode = self.table.meta.get("diff", "none")
            raise InputError(
                f"{self.folder} has no {name}: the difference is {mode!r}", "run with a difference"
            )
        return Table.read(self.folder / name, format="ascii.ecsv")

    def light_curve(self, star: int, channel: str = "") -> TimeSeries:
        """One star's light curve from `lightcurves.fits`.

        Parameters
        ----------
        star : int
            Its number in `stars`.
        channel : str
            ``R``, ``G``, ``B`` or ``L``; empty: green, or the only one.

        Returns
        -------
        TimeSeries
            ``time`` (UTC, mid-exposure), ``frame``, ``bjd_tdb``, ``airmass``, ``flux_adu``, ``flux_err_adu``,
            ``rel_flux``, ``rel_flux_err``, ``flags``.

        Raises
        ------
        InputError
            There is no such star or channel, or its curve was not kept (see ``in_lightcurves`` of `stars`).
        """
        from difflapse.pipeline.lightcurve import read_curve

        return read_curve(self.folder, star, channel)

    def star_at(
        self, *, pixel: tuple[float, float] | None = None, sky: tuple[float, float] | None = None
    ) -> int:
        """Number of the star at a native pixel (x, y) of the reference, or at ICRS degrees (ra, dec).

        Raises
        ------
        InputError
            None lies within 5 px; the message names the nearest.
        """
        from difflapse.pipeline.lightcurve import star_at

        return star_at(self.stars, pixel=pixel, sky=sky)

    @property
    def wcs(self) -> WCS | None:
        """Celestial WCS of the product images' pixels, with its distortion; None where the reference has none."""
        from astropy.wcs import WCS

        from difflapse.io.celestial import binned_wcs_header

        record = read_json(self.folder / "transforms.json")
        header, grid = record["reference"]["wcs_header"], record["products"]
        if not header:
            return None
        return WCS(binned_wcs_header(header, grid["step"], tuple(grid["origin"]), tuple(grid["shape"])))

    @property
    def movie(self) -> Path | None:
        """The movie's file; the folder of its pictures where it was made of PNG; None without."""
        if not (self.folder / "timelapse.json").exists():
            return None
        video = str(self.timelapse.get("video", "timelapse.mp4"))  # older runs had no other
        path = self.folder / (Path(video).parent if "%" in video else video)
        return path if path.exists() else None

    def _repr_html_(self) -> str:
        """What a notebook shows: player and tables."""
        from difflapse.pipeline.notebook import night_html

        return night_html(self)

    def plot(self, kind: str = "template", frame: int | None = None, ax: Axes | None = None) -> Axes:
        """Draw a product image on the sky, in astropy's style, with what changed marked; for notebooks and papers.

        Parameters
        ----------
        kind : str
            ``template``; ``aligned`` or ``difference`` of a frame that the run saved.
        frame : int, optional
            The frame, as in the column ``frame``; with it only changes that were seen then are marked.
        ax : matplotlib Axes, optional
            Where to draw; by default new axes, on the products' WCS where there is one.

        Returns
        -------
        Axes
            ``ax.figure`` is the figure. The green plane of a mosaic camera is shown.

        Raises
        ------
        OptionError
            No such kind or frame.
        InputError
            The run did not make or save that image.
        MissingDependencyError
            matplotlib is not installed.
        """
        from difflapse.pipeline.notebook import plot

        return plot(self, kind, frame, ax)

    def make_movie(
        self,
        changes: Mapping[str, Any] | None = None,
        file: str | Path | None = None,
        inputs: str | Path | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Make another movie of the night; nothing is found again. See `difflapse.pipeline.again.make_movie`."""
        from difflapse.pipeline.again import make_movie

        return make_movie(self.folder, changes, file, inputs, overwrite)

    def verify(
        self, frames: Sequence[int] | None = None, inputs: str | Path | None = None
    ) -> tuple[Check, ...]:
        """Make chosen frames again and compare them with the products. See `difflapse.pipeline.verify.verify`."""
        from difflapse.pipeline.verify import verify

        return verify(self.folder, frames, inputs)

    @functools.cached_property
    def timelapse(self) -> dict[str, Any]:
        """`timelapse.json`: where the panels are, and what each movie frame shows."""
        return dict(read_json(self.folder / "timelapse.json"))

    def summary(self) -> dict[str, Any]:
        """What became of the sequence, as plain values."""
        table = self.table
        own = table[[not np.ma.is_masked(n) for n in table["frame"]]]
        used = own[own["status"] == "used"]
        rms = {
            str(row["file"]): float(row["rms_pix"])
            for row in used
            if not np.ma.is_masked(row["rms_pix"]) and row["method"] != "reference"
        }
        methods = [str(m) for m in used["method"]]
        products = read_products(self.folder)
        return {
            "name": self.name,
            "folder": str(self.folder),
            "n_frames": len(own),
            "n_used": len(used),
            "n_skipped": len(own) - len(used),
            "median_rms_pix": float(np.median(list(rms.values()))) if rms else None,
            "worst_rms_pix": max(rms.values(), default=None),
            "worst_rms_file": max(rms, key=lambda file: rms[file], default=None),
            "judged_on": self.judged_on,
            "movie": self.movie.name if self.movie else None,
            "products": products,
            "skipped": [
                {"file": str(row["file"]), "reason": str(row["reason"])}
                for row in own[own["status"] != "used"]
            ],
            "reference": self.reference.file if used else None,
            "diff": table.meta.get("diff"),
            "diff_note": table.meta.get("diff_note", ""),
            "depth": self._depth(),
            "depth_note": table.meta.get("not_planted", ""),
            "wcs": table.meta.get("wcs"),
            "changes": self._told_changes(),
            "varying": self.told_varying(),
            "camera": dict(table.meta.get("camera", {})),
            "methods": {name: methods.count(name) for name in dict.fromkeys(methods)},
        }

    @property
    def judged_on(self) -> dict[str, int]:
        """How many used frames' rms was measured on ``stars``, and how many on ``pixels``."""
        if "judged_on" not in self.table.colnames:  # an older run, which kept residuals of stars alone
            kind = "stars" if (self.folder / "residuals.fits").exists() else "pixels"
            rms: np.ndarray = np.ma.filled(np.ma.asarray(self.table["rms_pix"], float), np.nan)
            found = [
                kind if np.isfinite(value) and method != "reference" else ""
                for value, method in zip(rms, self.table["method"], strict=True)
            ]
        else:
            found = ["" if np.ma.is_masked(value) else str(value) for value in self.table["judged_on"]]
        used = [kind for kind, status in zip(found, self.table["status"], strict=True) if status == "used"]
        return {kind: used.count(kind) for kind in ("stars", "pixels") if kind in used}

    def _told_changes(self) -> dict[str, Any] | None:
        """What changed, kind by kind, as plain values; None where that was not looked for."""
        if not (self.folder / "changes.ecsv").exists():
            nothing: dict[str, Any] = {"false_alarms": None, "kinds": {}, "changes": []}
            return {"note": self.not_asked, **nothing} if self.not_asked else None
        table = self.changes
        kinds = [str(kind) for kind in table["kind"]]
        return {
            "note": str(table.meta.get("note", "")),
            "false_alarms": table.meta.get("false_alarms"),
            "kinds": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
            "changes": plain_rows(table),
        }

    def told_varying(self) -> dict[str, Any] | None:
        """Which stars vary by their light curves alone, as plain values; None where that is not known."""
        try:
            table = self.varying
        except InputError:
            return None
        return {
            "tested": table.meta["stars_tested"],
            "false_alarms": table.meta["false_alarms"],
            "stars": plain_rows(table),
        }

    def _depth(self) -> dict[str, Any] | None:
        """How deep the night was, in a line and as plain values; None where it is not known."""
        if not (self.folder / "completeness.ecsv").exists():
            return None
        meta = self.completeness.meta
        return {
            "text": tell_depth(self.completeness),
            "limits": {kind: dict(limits) for kind, limits in meta["limits"].items()},
            "n_planted": meta["n_planted"],
            "false_alarms": dict(meta["false_alarms"]),
        }


class Run:
    """A finished run: one night or more. Where there is one, its attributes work directly (`run.frames`)."""

    def __init__(self, out: str | Path, extra: dict[str, Any] | None = None) -> None:
        self.out = Path(out)
        self._extra = dict(extra or {})
        folders = [self.out]
        if (self.out / "run.json").exists():
            folders = [self.out / name for name in read_json(self.out / "run.json")["sequences"]]
        self.sequences: tuple[Night, ...] = tuple(Night(folder) for folder in folders)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(Night, name):
            raise AttributeError(f"a run has no {name!r}")
        if len(self.sequences) != 1:
            raise DifflapseError(
                f"the run has {len(self.sequences)} sequences; {name!r} belongs to one",
                f"run.sequences[0].{name}",
            )
        return getattr(self.sequences[0], name)

    def _repr_html_(self) -> str:
        """What a notebook shows: player and tables of each sequence."""
        from difflapse.pipeline.notebook import run_html

        return run_html(self)

    def __repr__(self) -> str:
        nights = ", ".join(f"{night.name} ({len(night.frames)} frames)" for night in self.sequences)
        return f"<Run {self.out}: {nights}>"

    def summary(self) -> dict[str, Any]:
        """What became of all the input, as plain values ready for JSON."""
        nights = [night.summary() for night in self.sequences]
        left = [
            {"file": str(row["file"]), "reason": str(row["reason"])}
            for row in _frames_table(self.out)
            if np.ma.is_masked(row["frame"])
        ]
        return {
            "out": str(self.out),
            "seconds": None,
            "frames_per_second": None,
            "sequences": nights,
            "left_out": left,
            **self._extra,
        }


def plain_rows(table: Table) -> list[dict[str, Any]]:
    """A table's rows as plain values, None where they are masked."""
    return [
        {name: (None if np.ma.is_masked(row[name]) else row[name].item()) for name in table.colnames}
        for row in table
    ]


def _frames_table(folder: Path) -> Table:
    from astropy.table import Table

    return Table.read(folder / "frames.ecsv", format="ascii.ecsv")


def open_run(out: str | Path) -> Run:
    """Open the folder of a finished run; the inputs need not be there any more.

    Parameters
    ----------
    out : str or Path
        The run's output folder.

    Returns
    -------
    Run

    Raises
    ------
    InputError
        The folder holds no finished run.
    """
    if not Path(out).is_dir():
        raise InputError(f"there is no folder {out}", "give the output folder of a run")
    return Run(out)

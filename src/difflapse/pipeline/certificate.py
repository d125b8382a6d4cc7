"""The proof that a night is aligned: its residuals kept with the run, and what they say in numbers and figures."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from difflapse.align.residuals import (
    CORNER,
    CORNER_STARS,
    Field,
    NoiseLaw,
    cell_numbers,
    noise_law,
    per_star,
    residual_field,
    spread,
)
from difflapse.errors import OutputError, PrecisionError
from difflapse.io.products import atomic
from difflapse.model import Alignment, FrameFacts, Stars
from difflapse.pipeline.folder import add_products
from difflapse.pipeline.written import read_record

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.figure import Figure

    from difflapse.pipeline.results import Night

MOST_ROWS = 100_000
"""Rows of `residuals.fits` at most: 3 MB."""
MOST_PER_FRAME = 2_000
"""Rows of one frame at most."""
_FEW, _MOST_SHARE = 3, 0.45
"""A star's mean is taken off its residual only where it has so many, and this one makes up no more of the mean."""
_FEW_STARS = 10
"""On the frame that has most, below which a night has none."""
_SIGMA_OF_FWHM = 2 * np.sqrt(2 * np.log(2))


def residuals_table(
    alignments: Mapping[int, Alignment], frames: Sequence[FrameFacts], reference: Stars
) -> Table | None:
    """The table `residuals.fits`: residuals of held-out stars, evenly chosen over each frame and the night.

    Parameters
    ----------
    alignments : mapping of int to Alignment
        By frame number; those not made on stars are passed over.
    frames : sequence of FrameFacts
        All frames of the night.
    reference : Stars
        Of the reference, to tell which star is which.

    Returns
    -------
    Table or None
        None where no frame was aligned on stars.
    """
    from scipy.spatial import KDTree

    with_stars = {
        k: (a.transform, stars)
        for k, a in sorted(alignments.items())
        if (stars := a.against_reference) is not None and len(stars)
    }
    if not with_stars:
        return None
    most = min(MOST_PER_FRAME, max(1, MOST_ROWS // len(with_stars)))
    tree = KDTree(reference.xy)
    parts: list[tuple[np.ndarray, ...]] = []
    for k, (transform, stars) in with_stars.items():
        chosen = spread(stars.x, stars.y, frames[k].shape, most, k)
        dx, dy = stars.dx[chosen], stars.dy[chosen]
        x, y = transform(stars.x[chosen].astype(float), stars.y[chosen].astype(float))
        star = tree.query(np.column_stack([x - dx, y - dy]))[1]
        parts.append((np.full(len(chosen), k), star, x, y, dx, dy, stars.snr[chosen]))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    names = ("frame", "star", "x_pix", "y_pix", "dx_pix", "dy_pix", "snr")
    types = (np.int32, np.int32, *[np.float32] * 5)
    from astropy.table import Table

    table = Table([c.astype(t) for c, t in zip(columns, types, strict=True)], names=names)
    for name in names[2:6]:
        table[name].unit = "pix"
    table.meta["comments"] = [
        "Residuals of held-out stars: each star while the frame's fit did without it.",
        "x_pix, y_pix: the star carried to the reference; dx_pix, dy_pix: that minus where it was measured there;",
        "0-based native pixels of the reference. star: the same number is the same star in all frames.",
        "snr: the lower of the two signal to noise ratios.",
        f"At most {most} stars a frame, spread evenly whatever their brightness; at most {MOST_ROWS} in all.",
    ]
    return table


def judge_precision(name: str, frames: Iterable[tuple[str, float]], limit: float) -> PrecisionError | None:
    """The error to raise when a night is not aligned as well as was required; None if it is.

    Parameters
    ----------
    name : str
        Of the night.
    frames : iterable of (str, float)
        Each used frame but the reference: how it is told of, and its held-out rms in px, NaN if it has none.
    limit : float
        What no frame's rms may exceed, px; 0: nothing is required.
    """
    if not limit:
        return None
    frames = list(frames)
    known = sorted((rms, who) for who, rms in frames if np.isfinite(rms))
    unknown = [who for who, rms in frames if not np.isfinite(rms)]
    worse = sum(rms > limit for rms, _ in known)
    if frames and not worse and not unknown:
        return None
    parts, hint = [], ""
    if worse:
        rms, who = known[-1]
        parts.append(f"{who} is aligned to {rms:.3g} px rms when held out; at most {limit:g} is required")
        median = float(np.median([r for r, _ in known]))
        parts.append(f"{worse} of {len(frames)} frames exceed it, the median is {median:.3g} px")
        hint = f", or --require-rms {np.ceil(rms * 100) / 100:g}"
    if unknown:
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        parts.append(
            f"{unknown[0]}{more} has no rms, since nothing was held out to measure it; {limit:g} px is required"
        )
    if not frames:
        parts.append(f"no frame but the reference is used, so that nothing shows the {limit:g} px required")
    return PrecisionError(
        f"{name}: {'; '.join(parts)}",
        "`difflapse certificate` on the output draws where and when; then another --reference or --transform, "
        f"without the frames that spoil it{hint}",
        {
            "found": known[-1][0] if known else None,
            "needed": limit,
            "worse": worse,
            "unknown": len(unknown),
        },
    )


class Certificate:
    """How well a night is aligned, from the products of its run: numbers, and figures of them."""

    def __init__(self, night: Night) -> None:
        self.night = night
        table = night.table
        self.frames = table[[not np.ma.is_masked(n) for n in table["frame"]]]
        """`frames.ecsv` without the files that are in no sequence."""

    @property
    def has_residuals(self) -> bool:
        """Whether any frame was aligned on stars; without, there are only the figures of `frames.ecsv`."""
        return (self.night.folder / "residuals.fits").exists()

    @property
    def has_stars(self) -> bool:
        """Whether any frame has so many stars that their width means something; specks of the Sun pass for some."""
        if "n_stars" not in self.used.colnames:
            return True
        return any(not np.ma.is_masked(n) and int(n) >= _FEW_STARS for n in self.used["n_stars"])

    def column(self, name: str) -> np.ndarray:
        """A column of `residuals.fits` as float64; raises InputError where no frame was aligned on stars."""
        return np.asarray(self.night.residuals[name], dtype=np.float64)

    @functools.cached_property
    def noise(self) -> NoiseLaw:
        """How the scatter of residuals falls with signal to noise."""
        return noise_law(self.column("dx_pix"), self.column("dy_pix"), self.column("snr"))

    @functools.cached_property
    def sigma(self) -> np.ndarray:
        """Expected scatter of each residual on one axis, px: by signal to noise, and by how good its frame is."""
        expected = self.noise(self.column("snr"))
        square = (self.column("dx_pix") ** 2 + self.column("dy_pix") ** 2) / (
            2 * np.maximum(expected, 1e-6) ** 2
        )
        which = np.unique(self.column("frame"), return_inverse=True)[1]
        return expected * np.sqrt(np.bincount(which, square) / np.bincount(which))[which]

    @functools.cached_property
    def field(self) -> Field:
        """What the residuals of all frames have in common, by place on the reference."""
        x, y, dx, dy, sigma = self._stars()[0]
        return residual_field(x, y, dx, dy, sigma, self.shape)

    @functools.cached_property
    def changing(self) -> dict[int, Field]:
        """What each frame adds to that, by its number; empty with too few frames to tell.

        A star's mean over the frames is taken off first, since its centroid on the reference errs alike in all.
        """
        frame = self.column("frame")
        means, which, share = self._stars()
        often = (share < _MOST_SHARE) & (np.bincount(which)[which] >= _FEW)
        # A mean that holds the residual itself takes a part of it away.
        whole = 1 / np.sqrt(1 - np.minimum(share, _MOST_SHARE))
        dx = (self.column("dx_pix") - means[2][which]) * whole
        dy = (self.column("dy_pix") - means[3][which]) * whole
        columns = (self.column("x_pix"), self.column("y_pix"), dx, dy, self.sigma)
        numbers = np.unique(frame[often])
        cells = cell_numbers(int(often.sum() / max(len(numbers), 1)), self.shape)
        fields = {}
        for k in numbers:
            own = often & (frame == k)
            x, y, ex, ey, sigma = (column[own] for column in columns)
            fields[int(k)] = residual_field(x, y, ex, ey, sigma, self.shape, cells)
        return {k: field for k, field in fields.items() if np.isfinite(field.chi2_dof)}

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx) of the reference, native pixels."""
        return self.night.reference_shape

    @property
    def photon_limit(self) -> float:
        """Radial rms that photons alone would leave, px: sigma / snr on each axis and in both frames.

        References
        ----------
        Mendez, Silva & Lobos 2013, arXiv:1304.6361 (the bound without a background, which can only add to it)
        """
        return float(np.sqrt(np.mean(2 * self.photon_sigma(self.column("snr")) ** 2)))

    def photon_sigma(self, snr: np.ndarray) -> np.ndarray:
        """The same on one axis, for stars of a signal to noise, px."""
        fwhm = np.ma.median(self.used["fwhm_pix"])
        width = np.nan if np.ma.is_masked(fwhm) else float(fwhm) / _SIGMA_OF_FWHM
        return np.sqrt(2) * width / snr

    @property
    def used(self) -> Table:
        """Rows of the used frames."""
        return self.frames[self.frames["status"] == "used"]

    @property
    def others(self) -> Table:
        """Rows of the used frames but the reference: what the certificate is about."""
        return self.used[self.used["method"] != "reference"]

    @property
    def limit(self) -> float:
        """What the run required of the rms, px; 0: nothing."""
        return float(read_record(self.night.folder).get("require_rms", 0.0))

    def judge(self, limit: float) -> PrecisionError | None:
        """The error where the night does not reach a limit, see `judge_precision`; None where it does."""
        return judge_precision(self.night.name, told_frames(self.others), limit)

    def to_mapping(self, require_rms: float | None = None) -> dict[str, Any]:
        """All of it as plain values, ready for JSON; None where something is unknown.

        Parameters
        ----------
        require_rms : float, optional
            The limit to judge the night by, px; by default what the run required.
        """
        told: dict[str, Any] = {
            "name": self.night.name,
            "folder": str(self.night.folder),
            "frames": {
                "used": len(self.used),
                "skipped": len(self.frames) - len(self.used),
                "without_rms": sum(not np.isfinite(rms) for _, rms in told_frames(self.others)),
                "methods": self.night.summary()["methods"],
            },
            "judged_on": self.night.judged_on,
            "pixel_arcsec": self.night.table.meta.get("pixel_arcsec"),
            "corners": f"{CORNER:g} of width and height, {CORNER_STARS} stars or more in all four",
        }
        for name in ("rms", "p95", "corner"):
            told[name] = self._figures(name)
        limit = self.limit if require_rms is None else require_rms
        told["required_rms_pix"] = limit or None
        told["reached"] = self.judge(limit) is None if limit else None
        told["systematic"] = told["noise"] = None
        if self.has_residuals:
            told["systematic"] = {
                "fixed": _told(self.field),
                "changing": _told_of_frames(self.changing),
            }
            told["noise"] = {
                "stars": len(self.night.residuals),
                "rms_pix": float(np.sqrt(np.mean(self.column("dx_pix") ** 2 + self.column("dy_pix") ** 2))),
                "photon_limit_pix": _or_none(self.photon_limit),
                "bright_star_floor_pix": float(np.sqrt(2) * self.noise.floor),
            }
        return told

    def draw_residuals(self, theme: str = "light") -> Figure:
        """Draw where on the field residuals point, and how they compare with noise; a matplotlib Figure.

        Raises
        ------
        InputError
            No frame was aligned on stars.
        MissingDependencyError
            matplotlib is not installed.
        """
        from difflapse.pipeline.figures import draw_residuals

        return draw_residuals(self, theme)

    def draw_night(self, theme: str = "light") -> Figure:
        """Draw drift, rotation, scale, focus and residuals against time; a matplotlib Figure.

        Raises
        ------
        MissingDependencyError
            matplotlib is not installed.
        """
        from difflapse.pipeline.figures import draw_night

        return draw_night(self, theme)

    def draw_pair(
        self, frame: int | None = None, inputs: str | Path | None = None, theme: str = "light"
    ) -> Figure:
        """Draw a frame beside the reference, with lines between the stars matched; a matplotlib Figure.

        Parameters
        ----------
        frame : int, optional
            Number of the frame; by default that which lies farthest off.
        inputs : str or Path, optional
            The folder that holds the run's inputs now; by default where they were. Where they are not, the
            pictures are those of ``aligned/``, or without them the stars alone, with a warning.
        theme : str
            ``light`` or ``dark``.

        Raises
        ------
        InputError
            The frame has no matched stars, or is not in the folder given.
        MissingDependencyError
            matplotlib is not installed.
        """
        from difflapse.pipeline.figures import draw_pair
        from difflapse.pipeline.pair import make_pair

        pair = make_pair(self, self.farthest() if frame is None else frame, inputs)
        if pair.note:
            warnings.warn(f"{pair.note}; --inputs FOLDER says where the inputs are", stacklevel=2)
        return draw_pair(pair, theme)

    def draw_completeness(self, theme: str = "light") -> Figure:
        """Draw how many artificial stars and movers were found, against their magnitude.

        Raises
        ------
        InputError
            Nothing was planted.
        MissingDependencyError
            matplotlib is not installed.
        """
        from difflapse.pipeline.figures import draw_completeness

        return draw_completeness(self.night.completeness, self.night.name, theme)

    def save(
        self,
        pair: int | None = None,
        inputs: str | Path | None = None,
        theme: str = "light",
        form: str = "png",
    ) -> list[Path]:
        """Draw all figures into the folder ``certificate`` beside the run's products, and list them in `run.toml`.

        Returns
        -------
        list of Path
            The files: ``night``, where there are stars ``residuals`` and ``pair``, and ``completeness`` where
            artificial stars were planted.

        Raises
        ------
        OutputError
            They cannot be written, or a file that is not ours bears such a name.
        """
        from difflapse.pipeline.figures import write_figure

        folder = self.night.folder / "certificate"
        figures = {"night": self.draw_night(theme)}
        if self.has_residuals:
            figures["residuals"] = self.draw_residuals(theme)
            figures["pair"] = self.draw_pair(pair, inputs, theme)
        if (self.night.folder / "completeness.ecsv").exists():
            figures["completeness"] = self.draw_completeness(theme)
        paths = [folder / f"{name}.{form}" for name in figures]
        listed = set(self.night.summary()["products"])
        names = [path.relative_to(self.night.folder).as_posix() for path in paths]
        foreign = [name for name in names if name not in listed and (self.night.folder / name).exists()]
        if foreign:
            raise OutputError(
                f"{self.night.folder / foreign[0]} is in the way: it is no product of the run in that folder",
                "move it away",
            )
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot write to {folder}: {error.strerror}", "check the permissions there"
            ) from None
        add_products(self.night.folder, names)  # first: an interrupt then leaves nothing that no one knows of
        for path, figure in zip(paths, figures.values(), strict=True):
            with atomic(path) as temporary:
                write_figure(figure, temporary, form)
        return paths

    def farthest(self) -> int:
        """Number of the frame with matched stars that lies farthest off the reference."""
        known = set(np.unique(self.column("frame")).tolist())
        rows = [row for row in self.others if int(row["frame"]) in known]
        return int(max(rows, key=lambda row: np.hypot(row["dx_pix"], row["dy_pix"]))["frame"])

    def _stars(self) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray]:
        """See `per_star`: means of position, residual and sigma."""
        values = (self.column(name) for name in ("x_pix", "y_pix", "dx_pix", "dy_pix"))
        return per_star(self.column("star"), self.sigma, *values, self.sigma)

    def _figures(self, name: str) -> dict[str, Any] | None:
        """Median and worst frame of a column of `frames.ecsv`, in pixels and arcsec."""
        others = self.others
        if f"{name}_pix" not in others.colnames:
            return None
        known = others[np.isfinite(np.ma.filled(others[f"{name}_pix"].astype(float), np.nan))]
        if not len(known):
            return None
        values = np.asarray(known[f"{name}_pix"], float)
        worst = int(np.argmax(values))
        arcsec = self.night.table.meta.get("pixel_arcsec") or np.nan
        return {
            "median_pix": float(np.median(values)),
            "worst_pix": float(values[worst]),
            "median_arcsec": _or_none(float(np.median(values)) * arcsec),
            "worst_arcsec": _or_none(float(values[worst]) * arcsec),
            "worst_frame": int(known["frame"][worst]),
            "worst_file": str(known["file"][worst]),
        }


def told_frames(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """Name and rms of rows of `frames.ecsv`, as `judge_precision` takes them: nothing is measured on interpolated ones,
    and nothing is required of them.
    """
    return [
        (
            f"frame {row['frame']} ({row['file']})",
            float("nan")
            if row["rms_pix"] is None or np.ma.is_masked(row["rms_pix"])
            else float(row["rms_pix"]),
        )
        for row in rows
        if row["method"] != "interpolated"
    ]


def _told(field: Field) -> dict[str, Any]:
    return {
        "rms_pix": _or_none(field.rms),
        "below_pix": _or_none(field.limit),
        "chi2_dof": _or_none(field.chi2_dof),
        "probability": _or_none(field.probability),
        "cells": int(np.isfinite(field.significance).sum()),
        "verdict": "unknown"
        if not np.isfinite(field.chi2_dof)
        else "systematic"
        if field.is_systematic
        else "noise",
    }


def _told_of_frames(fields: Mapping[int, Field]) -> dict[str, Any] | None:
    if not fields:
        return None
    worst = max(fields, key=lambda k: fields[k].rms)
    return {
        "frames": len(fields),
        "beyond_noise": sorted(k for k, field in fields.items() if field.is_systematic),
        "median_rms_pix": float(np.median([field.rms for field in fields.values()])),
        "worst_rms_pix": fields[worst].rms,
        "worst_frame": worst,
    }


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

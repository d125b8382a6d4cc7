"""The tables of a run: `frames.ecsv`, `transforms.json` and the provenance in `run.toml`."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from difflapse._version import __version__
from difflapse.align.residuals import corner_rms
from difflapse.model import Alignment, FrameFacts, LeftOut, ProductGrid, Quality, Track, Transform
from difflapse.model.times import iso_utc

if TYPE_CHECKING:
    from astropy.table import Table

UNITS = {
    "rms_pix": "pix",
    "rms_arcsec": "arcsec",
    "p95_pix": "pix",
    "p95_arcsec": "arcsec",
    "corner_pix": "pix",
    "corner_arcsec": "arcsec",
    "dx_pix": "pix",
    "dy_pix": "pix",
    "rotation_deg": "deg",
    "fwhm_pix": "pix",
    "background_adu": "adu",
    "noise_adu": "adu",
    "exposure_s": "s",
    "target_x_pix": "pix",
    "target_y_pix": "pix",
}
_INTEGER = ("frame", "n_stars", "n_matched")
_TEXT = (
    "file",
    "time_utc",
    "time_source",
    "status",
    "reason",
    "method",
    "note",
    "refused",
    "model",
    "sequence",
    "match",
    "match_kernel",
    "judged_on",
)


def frame_row(
    number: int | None,
    facts: FrameFacts | None,
    file: str,
    reason: str,
    quality: Quality | None = None,
    alignment: Alignment | None = None,
    scale: np.ndarray | None = None,
    in_template: bool = False,
    pixel_arcsec: float | None = None,
) -> dict[str, Any]:
    """One row of `frames.ecsv`; None where a value is unknown. `reason` empty means the frame was used."""
    row: dict[str, Any] = dict.fromkeys(
        (
            "frame", "file", "time_utc", "time_source", "exposure_s", "status", "reason", "method", "model",
            "n_stars", "n_matched", "judged_on", "rms_pix", "p95_pix", "corner_pix", "rms_arcsec", "p95_arcsec",
            "corner_arcsec", "dx_pix", "dy_pix", "rotation_deg", "scale", "fwhm_pix", "background_adu", "noise_adu",
            "transparency", "in_template", "match", "match_before_sigma", "match_after_sigma", "match_kernel",
            "refused", "note",
        )
    )  # fmt: skip
    row.update(
        frame=number,
        file=file,
        status="skipped" if reason else "used",
        reason=reason,
        in_template=in_template,
    )
    row.update(
        method="", model="", judged_on="", match="", match_kernel="", refused="", note="", time_source=""
    )
    if facts is not None:
        row["time_utc"] = iso_utc(facts.mid_mjd) if facts.mid_mjd is not None else None
        row["time_source"] = facts.time_source
        row["exposure_s"] = facts.exposure_s
        row["note"] = "; ".join(facts.notes)
    if quality is not None:
        green = 1 if len(quality.background_adu) == 3 else 0
        row.update(
            n_stars=quality.n_stars,
            fwhm_pix=quality.fwhm_pix,
            background_adu=quality.background_adu[green],
            noise_adu=quality.noise_adu[green],
        )
    if alignment is not None and facts is not None:
        t = alignment.transform
        cx, cy = 0.5 * (facts.shape[1] - 1), 0.5 * (facts.shape[0] - 1)
        x, y = t(cx, cy)
        row.update(
            method=alignment.method,
            model=t.model,
            n_matched=alignment.n_matched,
            judged_on=alignment.judged_on,
            rms_pix=alignment.rms_pix,
            p95_pix=alignment.p95_pix,
            corner_pix=corner_rms(alignment.held_out, facts.shape),
            dx_pix=float(x) - cx,
            dy_pix=float(y) - cy,
            rotation_deg=t.rotation_deg(cx, cy),
            scale=t.local_scale(cx, cy),
            refused="; ".join(alignment.refused),
            note="; ".join(filter(None, (row["note"], alignment.note))),
        )
        if pixel_arcsec is not None:
            for name in ("rms", "p95", "corner"):
                row[f"{name}_arcsec"] = row[f"{name}_pix"] * pixel_arcsec
    if scale is not None:
        row["transparency"] = float(np.mean(scale[1 if len(scale) == 3 else 0]))
    return row


def left_out_row(item: LeftOut) -> dict[str, Any]:
    """The row of a file that is in no sequence."""
    return frame_row(None, item.facts, item.file, item.reason)


def frames_table(rows: Iterable[Mapping[str, Any]], meta: Mapping[str, Any]) -> Table:
    """The table `frames.ecsv` from its rows; unknown values are masked."""
    from astropy.table import MaskedColumn, Table

    rows = list(rows)
    table = Table(meta=dict(meta))
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        unknown = [v is None or (isinstance(v, float) and not math.isfinite(v)) for v in values]
        if name in _TEXT:
            column = MaskedColumn(
                [v or "" for v in values], name=name, dtype=str, mask=[v is None for v in values]
            )
        elif name == "in_template":
            column = MaskedColumn([bool(v) for v in values], name=name)
        elif name in _INTEGER:
            column = MaskedColumn(
                [0 if u or v is None else int(v) for v, u in zip(values, unknown, strict=True)],
                name=name,
                mask=unknown,
            )
        else:
            filled = [np.nan if u or v is None else float(v) for v, u in zip(values, unknown, strict=True)]
            column = MaskedColumn(filled, name=name, mask=unknown)
        if name in UNITS:
            column.unit = UNITS[name]
        table.add_column(column)
    return table


def transforms_record(
    reference: FrameFacts,
    number: int | None,
    items: Iterable[tuple[int, FrameFacts, Alignment]],
    grid: ProductGrid,
    track: Track | None = None,
) -> dict[str, Any]:
    """What `transforms.json` holds: each used frame's way to the reference and back, and the products' grid.

    The reference has no `number` where it is no frame of the night. The products' grid is that of the template;
    with a `track` each frame's has moved by as much as its target.
    """
    return {
        "convention": (
            "0-based native pixels (x right, y up, pixel centres), frame to reference: (X, Y) = "
            "homography(matrix, x, y) + sum_k coefficients[.][k] u^i v^j, with u = (x - origin[0]) / scale, "
            "v = (y - origin[1]) / scale and the exponents (i, j) in the order of powers; inverse: the same "
            "form, reference to frame, a fit whose largest error over the frame is max_error_pix "
            "(difflapse.open_run inverts exactly)"
        ),
        "reference": {
            "frame": number,
            "file": reference.file,
            "source": PurePosixPath(reference.path.replace("\\", "/")).name,
            "time_utc": iso_utc(reference.mid_mjd) if reference.mid_mjd is not None else None,
            "shape": list(reference.shape),
            "wcs_header": reference.wcs_header,
        },
        "products": {"shape": list(grid.shape), "step": grid.step, "origin": list(grid.origin)},
        "follow": None
        if track is None
        else {
            "name": track.name,
            "note": track.note,
            "x_pix": track.x.tolist(),
            "y_pix": track.y.tolist(),
        },
        "frames": [
            {
                "frame": k,
                "file": facts.file,
                "shape": list(facts.shape),
                "method": alignment.method,
                "n_matched": alignment.n_matched,
                "rms_pix": alignment.rms_pix,
                **transform_record(alignment.transform),
                "inverse": _inverse_record(alignment.transform, facts.shape),
            }
            for k, facts, alignment in items
        ],
    }


def transform_record(transform: Transform) -> dict[str, Any]:
    """A transform as plain values."""
    from difflapse.model.transform import powers

    record: dict[str, Any] = {
        "model": transform.model,
        "matrix": transform.matrix.tolist(),
        "domain": list(transform.domain) if transform.domain else None,
    }
    if transform.coefficients is not None:
        record.update(
            origin=list(transform.origin),
            scale=transform.scale,
            degree=transform.degree,
            powers=[list(p) for p in powers(transform.degree)],
            coefficients=transform.coefficients.tolist(),
        )
    return record


def read_transform(record: Mapping[str, Any]) -> Transform:
    """The transform of a record that `transform_record` made."""
    coefficients = record.get("coefficients")
    domain = record.get("domain")
    return Transform(
        record["model"],
        np.array(record["matrix"], float),
        None if coefficients is None else np.array(coefficients, float),
        tuple(record.get("origin", (0.0, 0.0))),
        float(record.get("scale", 1.0)),
        tuple(domain) if domain else None,
    )


def provenance(
    digests: Mapping[str, str],
    products: Iterable[str],
    seconds: float,
    root: str | None = None,
    sky: Mapping[str, Any] | None = None,
    camera: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Versions, inputs and products of a run, and what its WCS was fitted to and its noise taken from, for `run.toml`.

    `root` is where the inputs lie, see `results`.
    """
    versions = {"difflapse": __version__, "python": platform.python_version()}
    for package in ("numpy", "scipy", "astropy", "opencv-python-headless", "sep", "numba", "av"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "created_by": f"difflapse {__version__}",
        "seconds": round(seconds, 2),
        "versions": versions,
        "wcs": dict(sky) if sky else None,
        "camera": dict(camera) if camera else None,
        "products": sorted(products),
        "root": root,
        "inputs": dict(digests),
    }


def _inverse_record(transform: Transform, shape: tuple[int, int]) -> dict[str, Any]:
    """The inverse in the same form: exact for linear models, a fitted polynomial otherwise."""
    inverse = np.linalg.inv(transform.matrix)
    inverse /= inverse[2, 2]
    if transform.coefficients is None:
        return {**transform_record(Transform(transform.model, inverse)), "max_error_pix": 0.0}
    from difflapse.model.transform import powers

    ny, nx = shape
    gx, gy = (g.ravel() for g in np.meshgrid(np.linspace(0, nx - 1, 25), np.linspace(0, ny - 1, 19)))
    X, Y = transform(gx, gy)
    linear = Transform("homography", inverse)
    lx, ly = linear(X, Y)
    origin, scale = (float(X.mean()), float(Y.mean())), float(max(np.ptp(X), np.ptp(Y)) / 2) or 1.0
    u, v = (X - origin[0]) / scale, (Y - origin[1]) / scale
    degree = min(7, transform.degree + 2)
    design = np.stack([u**i * v**j for i, j in powers(degree)], axis=1)
    coefficients = np.linalg.lstsq(design, np.stack([gx - lx, gy - ly], axis=1), rcond=None)[0].T
    fitted = Transform("polynomial", inverse, coefficients, origin, scale)
    bx, by = fitted(X, Y)
    return {**transform_record(fitted), "max_error_pix": float(np.hypot(bx - gx, by - gy).max())}


def tell_judged_on(counts: Mapping[str, int]) -> str:
    """What a night's rms was measured on, in words, from the count of frames for each `Alignment.judged_on`."""
    if not counts.get("pixels"):
        return "held-out stars"
    if not counts.get("stars"):
        return "tiles of pixels"
    return f"held-out stars, in {counts['pixels']} of {sum(counts.values())} frames on tiles of pixels"


def tell_depth(table: Table) -> str:
    """How deep a night was, in one line, from its `completeness.ecsv`."""
    said = []
    for kind, name in (("transient", "new stars"), ("mover", "movers")):
        limits = table.meta.get("limits", {}).get(kind)
        if limits is None:
            continue
        if limits["mag_50"] is not None:
            error = f" +- {limits['mag_50_err']:.2f}" if limits["mag_50_err"] is not None else ""
            line = f"half of {name} of magnitude {limits['mag_50']:.2f}{error} are found"
            if limits["mag_90"] is not None:
                line += f", 90 % at {limits['mag_90']:.2f}"
        else:
            own = [row for row in table if row["kind"] == kind]
            n, hits = sum(r["n_planted"] for r in own), sum(r["n_found"] for r in own)
            line = f"{hits} of {n} {name} are found"
        said.append(line)
    scale = " (magnitudes on the scale of stars.ecsv)" if any("magnitude" in line for line in said) else ""
    return "; ".join(said) + scale

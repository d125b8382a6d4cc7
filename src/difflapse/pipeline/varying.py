"""Which stars vary by their light curves alone: found in `stars.ecsv`, and no change that a difference shows."""

from __future__ import annotations

import numpy as np
from astropy.table import MaskedColumn, Table

from difflapse.model.catalogue import BLENDED
from difflapse.pipeline.change_tables import place_name

COLUMNS = (
    "star",
    "x_pix",
    "y_pix",
    "ra_deg",
    "dec_deg",
    "mag",
    "scatter_mag",
    "amplitude_mag",
    "false_alarm",
    "borne_out",
    "n_frames",
    "flags",
)
_RESTING = ("variable", "transient", "unknown")
"""Kinds of change that stay where they are, so that their light falls into the circles of stars beside them."""


def varying_stars(stars: Table, changes: Table, false_alarms: float) -> Table:
    """Stars whose light curves noise would make less than `false_alarms` times in such a night, changes left out.

    Parameters
    ----------
    stars : Table
        `stars.ecsv`.
    changes : Table
        `changes.ecsv`; what it has is not listed once more.
    false_alarms : float
        So many of the stars listed are quiet, on average over nights.

    Returns
    -------
    Table
        Rows and columns of `stars` with a `name`, strongest first. Of stars whose circles overlap only the strongest is
        listed, as its light is in the circles of the others; for the same reason a star flagged as blended is only
        listed where the differences tell of it too, which `false_alarm` then counts.
    """
    chance, agreed = (_floats(stars, name) for name in ("false_alarm", "borne_out"))
    blended = (np.ma.filled(np.ma.asarray(stars["flags"]), 0).astype(int) & BLENDED) != 0
    tested = int(stars.meta.get("stars_tested", np.isfinite(chance).sum()))
    with np.errstate(invalid="ignore"):
        loud = (chance * tested < false_alarms) & (np.isfinite(agreed) | ~blended)
    x, y = _floats(stars, "x_pix"), _floats(stars, "y_pix")
    apart = 2 * float(stars.meta.get("aperture_radius_pix", 0.0))
    taken = [(float(c["x_pix"]), float(c["y_pix"])) for c in changes if str(c["kind"]) in _RESTING]
    chosen: list[int] = []
    for k in np.flatnonzero(loud)[np.argsort(chance[loud], kind="stable")]:
        others = [*taken, *((x[i], y[i]) for i in chosen)]
        if all(np.hypot(x[k] - u, y[k] - v) >= max(apart, 0.5) for u, v in others):
            chosen.append(int(k))
    table = stars[[name for name in COLUMNS if name in stars.colnames]][chosen]
    table.meta = {"stars_tested": tested, "false_alarms": false_alarms}
    ra, dec = _floats(table, "ra_deg"), _floats(table, "dec_deg")
    names = [f"star {place_name(*at)}" for at in zip(x[chosen], y[chosen], ra, dec, strict=True)]
    table.add_column(MaskedColumn(names, dtype="U40"), name="name", index=1)
    return table


def _floats(table: Table, name: str) -> np.ndarray:
    """A column of numbers, NaN where it is masked or missing."""
    if name not in table.colnames:
        return np.full(len(table), np.nan)
    return np.asarray(np.ma.filled(np.ma.asarray(table[name], float), np.nan), float)

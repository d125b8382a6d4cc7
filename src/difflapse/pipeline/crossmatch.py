"""Known things: what changed, and the night's stars, beside catalogues."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from difflapse.errors import InputError
from difflapse.io import catalogue
from difflapse.io.catalogue import ONLINE, Known
from difflapse.io.products import write_table
from difflapse.pipeline.config import RunOptions
from difflapse.pipeline.context import Night
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.field import field_of, reference_pixel_arcsec, separation_arcsec
from difflapse.pipeline.products import wait_for_files
from difflapse.pipeline.sky import place_of

_NEAR_PIX = 2.5
"""Native pixels within which a known thing is taken for the one that is seen."""
_NEAR_ARCSEC = 2.0
"""But not less than this: catalogues and WCS have errors of their own."""


def check_crossmatch(options: RunOptions) -> None:
    """Refuse, before anything is read, catalogues that are not there or cannot be asked.

    Raises
    ------
    InputError
        A file that is not there, or is no catalogue.
    MissingDependencyError
        VSX or SkyBoT without astroquery.
    """
    for name in options.crossmatch:
        if name.lower() in ONLINE:
            catalogue.check_online()
        elif not Path(name).exists():
            raise InputError(
                f"there is no catalogue {name}",
                f"give a VOTable, FITS or ECSV file, or {' or '.join(ONLINE)}",
            )
        else:
            catalogue.read_catalogue(name)  # what is wrong with it is told before the night is read


def crossmatch(desk: Desk) -> None:
    """Say in `changes.ecsv` and `stars.ecsv` what is known where things were seen."""
    night = desk.night
    if not night.options.crossmatch:
        return
    if not place_of(night):
        desk.progress.note("no catalogue is compared: the night has no WCS (--solve finds one)")
        return
    wait_for_files(desk)  # stars.ecsv, which is written beside other work
    held = [known for name in night.options.crossmatch if (known := _catalogue(desk, name)) is not None]
    near = max(_NEAR_ARCSEC, _NEAR_PIX * (reference_pixel_arcsec(night) or 0.0))
    for product, moving in (("changes.ecsv", True), ("stars.ecsv", False)):
        path = Path(night.out) / product
        if path.exists():
            _name_rows(night, path, held, near, moving)


def _catalogue(desk: Desk, name: str) -> Known | None:
    """One catalogue; None, and a note, where a service cannot be asked."""
    night = desk.night
    if name.lower() not in ONLINE:
        return catalogue.read_catalogue(name)
    field = field_of(night)
    assert field is not None  # without a place on the sky it is not come so far
    where = (field.ra_deg, field.dec_deg, field.radius_deg)
    try:
        if name.lower() == "vsx":
            return catalogue.fetch_vsx(*where)
        times = night.times()
        if not times:
            desk.progress.note("SkyBoT is not asked: no frame has a time")
            return None
        return catalogue.fetch_skybot(*where, float(np.mean(times)))
    except InputError as error:
        desk.progress.note(f"{error.message}; the run goes on without it")
        return None


def nearest(
    ra: np.ndarray, dec: np.ndarray, known: Known, near_arcsec: float
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest known thing of each place (-1: none near enough), and how far it is, arcseconds."""
    from scipy.spatial import cKDTree

    index, apart = np.full(len(ra), -1), np.full(len(ra), np.nan)
    good = np.isfinite(ra) & np.isfinite(dec)
    if not good.any() or len(known) == 0:
        return index, apart
    _, i = cKDTree(_vectors(known.ra_deg, known.dec_deg)).query(_vectors(ra[good], dec[good]))
    s = separation_arcsec(ra[good], dec[good], known.ra_deg[i], known.dec_deg[i])
    index[good], apart[good] = np.where(s <= near_arcsec, i, -1), np.where(s <= near_arcsec, s, np.nan)
    return index, apart


def _name_rows(night: Night, path: Path, held: list[Known], near: float, moving: bool) -> None:
    """Add the columns `known`, `known_type`, `known_separation_arcsec` and `known_catalogue` to a table's file."""
    from astropy.table import MaskedColumn, Table

    table = Table.read(path, format="ascii.ecsv")
    n = len(table)
    ra, dec = (np.ma.filled(np.ma.asarray(table[c]).astype(float), np.nan) for c in ("ra_deg", "dec_deg"))
    name, kind, source = (np.full(n, "", dtype=object) for _ in range(3))
    apart = np.full(n, np.inf)
    frames = np.asarray(table["first_frame"], int) if moving and n else np.full(n, -1)
    for known in held:
        for frame in np.unique(frames):
            rows = np.flatnonzero(frames == frame)
            now = known.at(night.frames[frame].mid_mjd if frame >= 0 else None)
            index, s = nearest(ra[rows], dec[rows], now, near)
            better = (index >= 0) & (s < apart[rows])
            rows, index = rows[better], index[better]
            apart[rows] = s[better]
            name[rows], kind[rows], source[rows] = now.name[index], now.kind[index], known.catalogue
    unknown = ~np.isfinite(apart)
    table["known"] = [str(v) for v in name] if n else np.zeros(0, "U1")
    table["known_type"] = [str(v) for v in kind] if n else np.zeros(0, "U1")
    table["known_separation_arcsec"] = MaskedColumn(
        np.where(unknown, 0.0, np.round(apart, 2)), mask=unknown, unit="arcsec"
    )
    table["known_catalogue"] = [str(v) for v in source] if n else np.zeros(0, "U1")
    write_table(path, table)


def _vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Unit vectors (n, 3)."""
    a, d = np.radians(ra), np.radians(dec)
    return np.column_stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])

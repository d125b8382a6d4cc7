"""Ephemerides as tables: where a target will be, as Horizons and the like write it."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from difflapse.errors import InputError
from difflapse.model import SkyPath

_TIME = re.compile(
    r"(obs)?_?(time|date|datetime|epoch|t|jd|mjd)(_?(utc?|str|jd|mjd|obs|iso|isot))*", re.IGNORECASE
)
_RA = re.compile(r"(ra|r\.a\.|right_?ascension|alpha)(_?(icrs|j2000|deg|astrometric|astr))*", re.IGNORECASE)
_DEC = re.compile(r"(dec?|dec\.|declination|delta)(_?(icrs|j2000|deg|astrometric|astr))*", re.IGNORECASE)
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def read_ephemeris(path: str | Path) -> SkyPath:
    """Read a table of times and places on the sky.

    Parameters
    ----------
    path : str or Path
        ECSV. A column of times (astropy times, ISO or Horizons text, JD or MJD in UTC; ``time``,
        ``datetime_jd``, ``datetime_str``, ``Date__(UT)__HR:MN``, ...) and columns ``RA`` and ``Dec`` (numbers in
        the column's unit, degrees without one, or sexagesimal text), astrometric, ICRS.

    Returns
    -------
    SkyPath
        In order of time; named after the column ``targetname``, or the file.

    Raises
    ------
    InputError
        Not such a table: what was found and what is needed.
    """
    from astropy.table import Table

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = Table.read(path, format="ascii.ecsv")
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"the ephemeris {path} cannot be read: {' '.join(str(error).split())[:120]}",
            "an ECSV table with columns time, RA and Dec, as astropy's Table.write makes it",
        ) from None
    time, ra, dec = (
        _column(table, pattern, what, path) for pattern, what in ((_TIME, "time"), (_RA, "RA"), (_DEC, "Dec"))
    )
    try:
        mjd = _mjd(table[time], time)
        ra_deg, dec_deg = _degrees(table[ra], True), _degrees(table[dec], False)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"the ephemeris {path} has values that cannot be read: {' '.join(str(error).split())[:120]}",
            "times as ISO text, JD or MJD; RA and Dec with their units",
        ) from None
    good = np.isfinite(mjd) & np.isfinite(ra_deg) & np.isfinite(dec_deg) & (np.abs(dec_deg) <= 90)
    mjd, first = np.unique(mjd[good], return_index=True)
    if len(mjd) < 2:
        raise InputError(
            f"the ephemeris {path} has {len(mjd)} usable rows; 2 are needed",
            "",
            {"found": len(mjd), "needed": 2},
        )
    name = str(table["targetname"][0]) if "targetname" in table.colnames else Path(path).stem
    return SkyPath(name, mjd, ra_deg[good][first], dec_deg[good][first], computed=True)


def _column(table: Any, pattern: re.Pattern[str], what: str, path: str | Path) -> str:
    """The column that is meant; names of Horizons' text tables are cut at their double underscores."""
    for name in table.colnames:
        if pattern.fullmatch(re.split(r"__|[ (\[]", name.strip())[0]):
            return str(name)
    raise InputError(
        f"the ephemeris {path} has no column for {what}; it has {', '.join(table.colnames)}",
        "name its columns time, RA and Dec",
    )


def _mjd(column: Any, name: str) -> np.ndarray:
    """Times as MJD (UTC)."""
    from astropy.time import Time

    if isinstance(column, Time):
        return np.asarray(column.utc.mjd, float)
    if column.dtype.kind in "US":
        return np.asarray(Time([_iso(str(text)) for text in column], scale="utc").mjd, float)
    days = np.asarray(np.ma.filled(column.astype(float), np.nan))
    if not np.all(
        (np.abs(days[np.isfinite(days)] - 50_000) < 50_000) | (days[np.isfinite(days)] > 2_400_000)
    ):
        raise ValueError(f"numbers in {name} are neither JD nor MJD")
    return np.where(days > 2_400_000, days - 2_400_000.5, days)


def _iso(text: str) -> str:
    """ISO text of a date; Horizons writes 2018-Aug-24 04:01."""
    clean = re.sub(r"^(A\.D\.|b)\s*|\s*(UTC?|Z)$", "", text.strip())
    for number, month in enumerate(_MONTHS, 1):
        clean = re.sub(f"-{month}-", f"-{number:02d}-", clean, flags=re.IGNORECASE)
    return clean.replace("T", " ")


def _degrees(column: Any, hours: bool) -> np.ndarray:
    """Angles in degrees."""
    import astropy.units as u
    from astropy.coordinates import Angle

    unit = getattr(column, "unit", None)
    if column.dtype.kind in "US":
        sexagesimal = any(re.search(r"\d[\s:hd]+\d", str(text)) for text in column)
        told = (u.hourangle if hours else u.deg) if sexagesimal else (unit or u.deg)
        return np.asarray(Angle([str(text) for text in column], told).deg, float)
    values = np.asarray(np.ma.filled(np.ma.asarray(getattr(column, "value", column)).astype(float), np.nan))
    if unit is None:
        return values
    return np.asarray(
        (values * u.Unit("hourangle" if str(unit) in ("h", "hour") else unit)).to_value(u.deg), float
    )

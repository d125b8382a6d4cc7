"""Catalogues of what is known in the sky: a file of the user's, VSX, or SkyBoT's minor planets and comets."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from difflapse.errors import InputError, MissingDependencyError
from difflapse.io.ephemeris import _degrees, _mjd

ONLINE = ("vsx", "skybot")
"""Catalogues that are asked by network, and only when they are named."""
_FORMATS = {
    ".ecsv": "ascii.ecsv",
    ".xml": "votable",
    ".vot": "votable",
    ".votable": "votable",
    ".fits": "fits",
    ".fit": "fits",
    ".fits.gz": "fits",
}
_NAMES = {
    "ra": r"(ra|raj2000|ra_?icrs|_ra|_raj2000|right_?ascension|ra_?(deg|j2000))",
    "dec": r"(dec?|dej2000|decj2000|de_?icrs|_de|_dej2000|declination|dec_?(deg|j2000))",
    "name": r"(name|main_?id|id|designation|targetname|object|source_?id|oid)",
    "type": r"(type|otype|class|var_?type|kind)",
    "time": r"(time|date|datetime|epoch|jd|mjd|datetime_(jd|str)|time_(utc|mjd|jd))",
}
_UCDS = {"ra": "pos.eq.ra", "dec": "pos.eq.dec", "name": "meta.id", "type": "src.class", "time": "time.epoch"}


@dataclass(frozen=True, eq=False)
class Known:
    """Known things; rows of one name at several times are one thing that moves."""

    catalogue: str
    """The file's name, ``VSX`` or ``SkyBoT``."""
    name: np.ndarray
    """(n,) str."""
    kind: np.ndarray
    """(n,) str, as the catalogue has it; may be empty."""
    ra_deg: np.ndarray
    dec_deg: np.ndarray
    """(n,) float64, ICRS."""
    mjd: np.ndarray
    """(n,) float64, UTC: when the place is right; NaN for what stands still."""
    rate_ra: np.ndarray
    rate_dec: np.ndarray
    """(n,) float64, degrees a day on the sky (RA times cos Dec); 0 where unknown."""

    def __len__(self) -> int:
        return len(self.name)

    def at(self, mjd: float | None) -> Known:
        """Each thing once, where it is at a time; what moves is left out where the time is not known or covered."""
        still = ~np.isfinite(self.mjd)
        rows = [self._take(np.flatnonzero(still))]
        if mjd is None or still.all():
            return rows[0]
        for name in dict.fromkeys(self.name[~still].tolist()):
            mine = np.flatnonzero((self.name == name) & ~still)
            mine = mine[np.argsort(self.mjd[mine], kind="stable")]
            t = self.mjd[mine]
            one = self._take(mine[[int(np.argmin(np.abs(t - mjd)))]])
            if len(mine) == 1:
                days = mjd - t[0]
                ra = one.ra_deg + one.rate_ra * days / np.cos(np.radians(one.dec_deg))
                dec = one.dec_deg + one.rate_dec * days
            else:
                step = float(np.median(np.diff(t)))
                if not t[0] - step <= mjd <= t[-1] + step:
                    continue
                a = int(np.clip(np.searchsorted(t, mjd) - 1, 0, len(t) - 2))
                f = (mjd - t[a]) / max(t[a + 1] - t[a], 1e-9)
                p, q = mine[a], mine[a + 1]
                apart = (self.ra_deg[q] - self.ra_deg[p] + 180) % 360 - 180
                ra = np.array([self.ra_deg[p] + f * apart])
                dec = np.array([self.dec_deg[p] + f * (self.dec_deg[q] - self.dec_deg[p])])
            rows.append(
                Known(
                    self.catalogue,
                    one.name,
                    one.kind,
                    ra % 360,
                    dec,
                    np.array([mjd]),
                    one.rate_ra,
                    one.rate_dec,
                )
            )
        return Known(
            self.catalogue,
            *(
                np.concatenate([getattr(r, item) for r in rows])
                for item in ("name", "kind", "ra_deg", "dec_deg", "mjd", "rate_ra", "rate_dec")
            ),
        )

    def _take(self, index: np.ndarray) -> Known:
        return Known(
            self.catalogue,
            self.name[index],
            self.kind[index],
            self.ra_deg[index],
            self.dec_deg[index],
            self.mjd[index],
            self.rate_ra[index],
            self.rate_dec[index],
        )


def read_catalogue(path: str | Path) -> Known:
    """Read a catalogue of the user's own.

    Parameters
    ----------
    path : str or Path
        VOTable (``.xml``, ``.vot``, ``.votable``), FITS table or ECSV. Columns are found by their UCD
        (``pos.eq.ra``, ``pos.eq.dec``, ``meta.id``, ``src.class``, ``time.epoch``), else by the usual names (``ra``,
        ``RAJ2000``, ``dec``, ``name``, ``type``, ``time``, ...). Angles are degrees unless the column says otherwise;
        text is sexagesimal. With a column of times (ISO, JD or MJD, UTC) the rows of one name are an ephemeris.

    Returns
    -------
    Known

    Raises
    ------
    InputError
        It cannot be read, or has no places on the sky.
    """
    from astropy.table import Table

    name = Path(path).name
    form = format_of(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = Table.read(path, format=form)
    except Exception as error:  # readers raise whatever their parser met
        raise InputError(
            f"the catalogue {path} cannot be read: {' '.join(str(error).split())[:120]}",
            "a VOTable, a FITS table or an ECSV with columns for RA and Dec",
        ) from None
    found = {what: _column(table, what) for what in _NAMES}
    for what in ("ra", "dec"):
        if found[what] is None:
            raise InputError(
                f"the catalogue {path} has no column for {what}; it has {', '.join(table.colnames)}",
                "give its columns the names ra and dec, or their UCDs",
            )
    try:
        ra = _degrees(table[found["ra"]], hours=True)
        dec = _degrees(table[found["dec"]], hours=False)
        mjd = _mjd(table[found["time"]], "time") if found["time"] else np.full(len(table), np.nan)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"the catalogue {path} has values that cannot be read: {' '.join(str(error).split())[:120]}",
            "times as ISO text, JD or MJD; RA and Dec with their units",
        ) from None
    good = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90)
    names = (
        _text(table, found["name"]) if found["name"] else np.array([f"row {n}" for n in range(len(table))])
    )
    kinds = _text(table, found["type"]) if found["type"] else np.full(len(table), "")
    zero = np.zeros(int(good.sum()))
    return Known(name, names[good], kinds[good], ra[good] % 360, dec[good], mjd[good], zero, zero)


def format_of(path: str | Path) -> str:
    """The format that a catalogue's name tells; raises `InputError`."""
    suffixes = "".join(Path(path).suffixes[-2:]).lower()
    for end, form in _FORMATS.items():
        if suffixes.endswith(end):
            return form
    raise InputError(
        f"the catalogue {path} is no VOTable, FITS table or ECSV by its name",
        f"names end in {', '.join(_FORMATS)}; or one of {', '.join(ONLINE)}",
    )


def check_online() -> None:
    """Refuse, before anything is run, to ask the network without the package for it; raises
    `MissingDependencyError`.
    """
    try:
        import astroquery  # noqa: F401
    except ImportError:
        raise MissingDependencyError(
            "VSX and SkyBoT are asked through astroquery, which is not installed",
            "pip install 'difflapse[catalogues]', or --crossmatch with a file of your own",
        ) from None


def fetch_vsx(
    ra_deg: float, dec_deg: float, radius_deg: float, ask: Callable[..., Any] | None = None
) -> Known:
    """The variables of the AAVSO's VSX about a place, through VizieR (B/vsx).

    Parameters
    ----------
    ra_deg, dec_deg, radius_deg : float
        A circle on the sky.
    ask : callable, optional
        ``ask(ra_deg, dec_deg, radius_deg)`` returns a table with VizieR's columns; astroquery's by default.

    Raises
    ------
    InputError
        No answer.

    References
    ----------
    Watson, Henden & Price 2006, Society for Astronomical Sciences Annual Symposium 25, 47.
    """
    table = _asked("VSX", ask or _ask_vizier, ra_deg, dec_deg, radius_deg)
    if table is None or len(table) == 0:
        return _nothing("VSX")
    zero = np.zeros(len(table))
    return Known(
        "VSX",
        _text(table, "Name"),
        _text(table, "Type") if "Type" in table.colnames else np.full(len(table), ""),
        _degrees(table["RAJ2000"], hours=True),
        _degrees(table["DEJ2000"], hours=False),
        np.full(len(table), np.nan),
        zero,
        zero,
    )


def fetch_skybot(
    ra_deg: float, dec_deg: float, radius_deg: float, mjd: float, ask: Callable[..., Any] | None = None
) -> Known:
    """Minor planets and comets about a place at a time, from IMCCE's SkyBoT, with their motion.

    Parameters
    ----------
    ra_deg, dec_deg, radius_deg : float
        A circle on the sky, of 10 degrees at most.
    mjd : float
        UTC.
    ask : callable, optional
        ``ask(ra_deg, dec_deg, radius_deg, mjd)`` returns a table as `astroquery.imcce.Skybot.cone_search` does;
        that is the default.

    Raises
    ------
    InputError
        No answer.

    References
    ----------
    Berthier et al. 2006, ASP Conference Series 351, 367.
    """
    table = _asked("SkyBoT", ask or _ask_skybot, ra_deg, dec_deg, min(radius_deg, 10.0), mjd)
    if table is None or len(table) == 0:
        return _nothing("SkyBoT")
    rates = [_rate(table, name) for name in ("RA_rate", "DEC_rate")]
    return Known(
        "SkyBoT",
        _text(table, "Name"),
        _text(table, "Type") if "Type" in table.colnames else np.full(len(table), ""),
        _degrees(table["RA"], hours=True) % 360,
        _degrees(table["DEC"], hours=False),
        np.full(len(table), float(mjd)),
        *rates,
    )


def _asked(name: str, ask: Callable[..., Any], *where: float) -> Any:
    """A service's answer, or one error for all that may go wrong on the way."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ask(*where)
    except MissingDependencyError:
        raise
    except Exception as error:  # sockets, time limits, parsers: each layer has its own
        said = " ".join(str(error).split())[:120] or type(error).__name__
        if "no solar system object" in said.lower():
            return None
        raise InputError(f"{name} does not answer: {said}", "is this machine online?") from None


def _ask_vizier(ra_deg: float, dec_deg: float, radius_deg: float) -> Any:
    check_online()
    import astropy.units as u
    from astropy.coordinates import SkyCoord
    from astroquery.vizier import Vizier

    service = Vizier(columns=["Name", "Type", "RAJ2000", "DEJ2000"], row_limit=-1, timeout=60)
    found = service.query_region(
        SkyCoord(ra_deg, dec_deg, unit="deg"), radius=radius_deg * u.deg, catalog="B/vsx/vsx"
    )
    return found[0] if len(found) else None


def _ask_skybot(ra_deg: float, dec_deg: float, radius_deg: float, mjd: float) -> Any:
    check_online()
    import astropy.units as u
    from astropy.coordinates import SkyCoord
    from astropy.time import Time
    from astroquery.imcce import Skybot

    return Skybot.cone_search(
        SkyCoord(ra_deg, dec_deg, unit="deg"), radius_deg * u.deg, Time(mjd, format="mjd", scale="utc")
    )


def _nothing(name: str) -> Known:
    none, text = np.zeros(0), np.zeros(0, "U1")
    return Known(name, text, text, none, none, none, none, none)


def _rate(table: Any, name: str) -> np.ndarray:
    """A column of motion in degrees a day; plain numbers are arcseconds an hour, as SkyBoT's are."""
    import astropy.units as u

    if name not in table.colnames:
        return np.zeros(len(table))
    column = table[name]
    unit = u.Unit(column.unit) if column.unit is not None else u.arcsec / u.hour
    values = np.asarray(np.ma.filled(np.ma.asarray(getattr(column, "value", column)).astype(float), 0.0))
    return np.asarray((values * unit).to_value(u.deg / u.day), float)


def _column(table: Any, what: str) -> str | None:
    """The column that is meant: by its UCD (the main one first), else by name."""
    told: list[tuple[int, str]] = []
    for name in table.colnames:
        ucd = str(table[name].info.meta.get("ucd", "") if table[name].info.meta else "").lower()
        words = [word.strip() for word in ucd.split(";")]
        if _UCDS[what] in words:
            told.append((0 if "meta.main" in words else 1, name))
    if told:
        return min(told, key=lambda item: item[0])[1]
    for name in table.colnames:
        if re.fullmatch(_NAMES[what], name.strip(), re.IGNORECASE):
            return str(name)
    return None


def _text(table: Any, name: str) -> np.ndarray:
    return np.array(["" if np.ma.is_masked(v) else str(v).strip() for v in table[name]], dtype=str)

"""The clock: every time a file offers, and which of them a sequence can be believed by.

No single keyword can be trusted: clocks of cameras are off, headers repeat the time of the sequence's start,
and some write local time. So all are read, and a sequence as a whole decides: the first source, in the
camera's order of preference, that every frame has, that differs between frames, that increases in their order
and that leaves room for their exposures.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from difflapse.io.dialects import Dialect, card, find_text, number

DAY = 86400.0
FILE_NAME = "file name"

SAME_S = 1.5
"""Sources closer than this agree: many are cut to whole seconds."""


@dataclass(frozen=True)
class Stamp:
    """The start of an exposure as one source tells it."""

    source: str
    start_mjd: float
    """MJD, UTC."""
    step_s: float = 0.001
    """The step to which it is rounded, seconds."""
    note: str = ""


@dataclass(frozen=True)
class Clock:
    """What a sequence decided about its times."""

    source: str
    """The chosen source; empty where no time can be believed."""
    reason: str
    starts_mjd: tuple[float | None, ...]
    """Start of each frame's exposure, in the order the frames were given in."""
    notes: tuple[str, ...] = ()
    """How the other sources differ, one line each; true of all frames."""


def read_stamps(
    header: Mapping[str, object], file: str, exposure_s: float | None, dialect: Dialect
) -> tuple[Stamp, ...]:
    """Every start time that a frame offers, in its camera's order of preference.

    Parameters
    ----------
    header : mapping
        Primary and image header, merged.
    file : str
        The file's own name, without folders.
    exposure_s : float or None
        Exposure time, to go back from times of its middle or end.
    dialect : Dialect
        The camera's; decides whether computer or camera goes first.

    Returns
    -------
    tuple of Stamp
        One per source; empty where there is no time at all.
    """
    half = 0.5 * (exposure_s or 0.0) / DAY
    camera = [
        _local_or(header, _written(header, "DATE-BEG", ())),
        *_observed(header),
        _shifted(_written(header, "DATE-AVG", ()), -half, "DATE-AVG less half the exposure"),
        *(_day_number(header, key, 0.0, 0.0) for key in ("MJD-OBS", "MJD-BEG", "MJD")),
        _day_number(header, "MJD-AVG", 0.0, -half),
        *(_day_number(header, key, 2400000.5, 0.0) for key in ("JD", "JD-OBS", "JD_UTC", "JD-UTC")),
        _from_end(header, exposure_s),
    ]
    computer = [_from_name("FILENAME", str(card(header, "FILENAME") or ""))]
    image_id = str(card(header, "IMAGEID") or "")
    if image_id and image_id != find_text(header, "sequence"):
        computer.append(_from_name("IMAGEID", image_id))
    named = _from_name(FILE_NAME, file)
    ordered = [named, *computer, *camera] if dialect.computer_clock else [*camera, *computer, named]
    found: dict[str, Stamp] = {}
    for stamp in ordered:
        if stamp is not None and stamp.source not in found:
            found[stamp.source] = _in_utc(stamp, header)
    return tuple(found.values())


def decide_clock(
    stamps: Sequence[tuple[Stamp, ...]],
    exposures_s: Sequence[float | None],
    names: Sequence[str],
    computer_clock: bool = False,
) -> Clock:
    """Decide which source gives the times of a sequence.

    Parameters
    ----------
    stamps : sequence of tuple of Stamp
        What `read_stamps` found for each frame, in any order.
    exposures_s : sequence of float or None
        Exposure of each frame; None where unknown.
    names : sequence of str
        Files, for the order that their names imply.
    computer_clock : bool
        Whether the computer's stamps go before the camera's, which is said in the notes.

    Returns
    -------
    Clock
        With None as times where no source can be believed.
    """
    n = len(stamps)
    table: dict[str, list[Stamp | None]] = {}
    for i, offered in enumerate(stamps):
        for stamp in offered:
            table.setdefault(stamp.source, [None] * n)[i] = stamp
    table = {source: _same_step(row) for source, row in table.items()}
    if not table:
        return Clock("", "no time in headers or names: in the order of the files' names", (None,) * n)
    ranks = np.argsort(
        np.argsort(np.array([natural_key(name) for name in names], dtype=object), kind="stable")
    )
    follows = {source: _follows(row, ranks) for source, row in table.items()}
    # Names that no clock follows carry no order.
    verdicts = {
        s: _judge(row, exposures_s, follows[s] or not any(follows.values())) for s, row in table.items()
    }
    usable = [source for source, verdict in verdicts.items() if verdict.score > 0]
    if not usable:
        why = "; ".join(f"{source} {verdict.fault}" for source, verdict in verdicts.items())
        return Clock("", f"no time can be believed ({why}): in the order of the files' names", (None,) * n)
    # max keeps the first of equals, and the table is in the camera's order of preference.
    chosen = max(usable, key=lambda source: verdicts[source].score)
    row = table[chosen]
    starts: list[float | None] = [stamp.start_mjd if stamp else None for stamp in row]
    notes = _differences(table, chosen)
    if None in starts:
        starts, filled = _fill(table, chosen, starts, verdicts)
        notes += (
            [f"{filled} of {n} frames lack {chosen}: their time is from another source"] if filled else []
        )
    refused = [
        f"{s} {verdicts[s].fault}" for s in list(table)[: list(table).index(chosen)] if verdicts[s].fault
    ]
    reason = _reason(chosen, n, computer_clock, refused, verdicts[chosen])
    notes += sorted({stamp.note for stamp in row if stamp and stamp.note})
    return Clock(chosen, reason, tuple(starts), tuple(notes))


def natural_key(name: str) -> str:
    """A key that sorts ``frame2`` before ``frame10``."""
    return re.sub(r"\d+", lambda m: m.group().zfill(20), name.lower())


def parse_moment(value: str) -> tuple[float, float, float | None] | None:
    """MJD, step in seconds and UTC offset in hours (None if not written) of a date, or a date and a time.

    Understands ISO dates and times, ``29/11/51`` (day, month, year of the 20th century), ``29/11/1951``, a
    trailing ``Z`` or ``UTC``, and offsets such as ``-0700``. The MJD is in UTC where an offset is written,
    else as it stands. A date alone has a step of one day.
    """
    match = _MOMENT.fullmatch(value.strip())
    if not match:
        return None
    g = match.groupdict()
    if g["y"]:
        year, month, day = int(g["y"]), int(g["m"]), int(g["d"])
    else:
        year, month, day = int(g["oy"]), int(g["om"]), int(g["od"])
        year += 1900 if year < 100 else 0
    mjd = _mjd(year, month, day)
    if mjd is None:
        return None
    if not g["clock"]:
        return mjd, DAY, None
    clock = parse_clock(g["clock"])
    if clock is None:
        return None
    offset = None
    if g["sign"]:
        offset = (int(g["oh"]) + int(g["omin"] or 0) / 60.0) * (-1.0 if g["sign"] == "-" else 1.0)
    elif g["zulu"]:
        offset = 0.0
    return mjd + clock[0] / DAY - (offset or 0.0) / 24.0, clock[1], offset


def parse_clock(value: str) -> tuple[float, float] | None:
    """Seconds of the day and the step of ``12:34:56.789``, ``12:34`` or ``123456``."""
    match = re.fullmatch(
        r"\s*(\d{1,2}):(\d{1,2})(?::(\d{1,2})(\.\d*)?)?\s*(?:Z|UTC?)?\s*", value
    ) or re.fullmatch(r"\s*(\d{2})(\d{2})(\d{2})(\.\d*)?\s*", value)
    if not match:
        return None
    hours, minutes, seconds, fraction = match.groups()
    h, m, s = int(hours), int(minutes), int(seconds or 0)
    if h > 24 or m > 59 or s > 60:
        return None
    if seconds is None:
        step = 60.0
    else:
        step = 10.0 ** -(len(fraction) - 1) if fraction else 1.0
    return h * 3600.0 + m * 60.0 + s + float(fraction if fraction and fraction != "." else 0.0), max(
        step, 1e-6
    )


def name_moment(name: str) -> float | None:
    """The MJD written in a file's name, taken as UTC; None where there is none."""
    for pattern in _NAMES:
        for match in pattern.finditer(name):
            year, month, day, h, m, s = (int(part) for part in match.groups()[:6])
            year += 2000 if year < 100 else 0
            date = _mjd(year, month, day)
            if date is not None and 1900 <= year < 2100 and h < 24 and m < 60 and s < 60:
                fraction = match.groupdict().get("fraction")
                return date + (h * 3600 + m * 60 + s + float(fraction or 0)) / DAY
    return None


@dataclass(frozen=True)
class _Verdict:
    score: int
    fault: str = ""


_MOMENT = re.compile(
    r"'?(?:(?P<y>\d{4})[-/](?P<m>\d{1,2})[-/](?P<d>\d{1,2})|(?P<od>\d{1,2})[/.](?P<om>\d{1,2})[/.](?P<oy>\d{4}|\d{2}))"
    r"(?:[T\s_]\s*(?P<clock>\d{1,2}:\d{1,2}(?::\d{1,2}(?:\.\d*)?)?)\s*(?:(?P<zulu>Z|UTC?)|(?P<sign>[-+])(?P<oh>\d{2}):?(?P<omin>\d{2})?)?)?'?",
    re.IGNORECASE,
)

_NAMES = (
    re.compile(r"(?<!\d)(\d{4})-?(\d\d)-?(\d\d)T(\d\d)[:_-]?(\d\d)[:_-]?(\d\d)(?P<fraction>\.\d+)?"),
    re.compile(r"(?<!\d)(\d{4})[-_.]?(\d\d)[-_.]?(\d\d)[-_. ]+(\d\d)[:_.-]?(\d\d)[:_.-]?(\d\d)(?!\d)"),
    re.compile(r"(?<!\d)(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(?!\d)"),
    # A star's number may run into the date: HATP-32171220013343 is 2017-12-20 01:33:43.
    re.compile(r"(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(?!\d)"),
)


def _mjd(year: int, month: int, day: int) -> float | None:
    try:
        return float(datetime(year, month, day).toordinal() - 678576)
    except ValueError:
        return None


def _from_name(source: str, name: str) -> Stamp | None:
    mjd = name_moment(name)
    return None if mjd is None else Stamp(source, mjd, 1.0)


def _written(header: Mapping[str, object], keyword: str, clocks: tuple[str, ...]) -> Stamp | None:
    """A date and time in one card, or a date whose time of day is in one of `clocks`."""
    moment = parse_moment(str(card(header, keyword) or ""))
    if moment is None:
        return None
    mjd, step, offset = moment
    if step < DAY:
        note = f"{keyword} is local time (UTC{offset:+g} h)" if offset else ""
        return Stamp(keyword, mjd, step, note)
    for key in clocks:
        value = card(header, key)
        clock = parse_clock(str(value or "")) or _seconds(value, key)
        if clock is not None:
            return Stamp(f"{keyword} + {key}", mjd + clock[0] / DAY, clock[1])
    return None


def _seconds(value: object, key: str) -> tuple[float, float] | None:
    """Seconds of the day where the clock's card is a number: of hours, or of seconds where it is too large
    for hours.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < DAY:
        return None
    return (value * 3600.0, 1.0) if value < 24 and key.startswith("UT") else (float(value), 1.0)


def _observed(header: Mapping[str, object]) -> list[Stamp | None]:
    clocks = (
        "TIME-OBS",
        "UT-OBS",
        "UTC-OBS",
        "UTSTART",
        "UT-START",
        "TIME-BEG",
        "UTC",
        "UT",
        "UTIME",
        "TIME",
        "TM-START",
    )
    found = [
        _written(header, key, clocks) for key in ("DATE-OBS", "DATE_OBS", "DATEOBS", "UTC-OBS", "DATE-LOC")
    ]
    universal = _written(header, "UT-OBS", ())
    first = found[0]
    if universal is not None:
        # A local DATE-OBS with the offset glued on says the same, but UT needs no conversion.
        found.insert(0 if first is None or first.note else 1, universal)
    else:
        found[0] = _local_or(header, first)
    return found


def _local_or(header: Mapping[str, object], stamp: Stamp | None) -> Stamp | None:
    if stamp is not None and str(card(header, "TIMESYS") or "").upper() == "LOCAL":
        return Stamp(stamp.source, stamp.start_mjd, stamp.step_s, f"{stamp.source} is local time (TIMESYS)")
    return stamp


def _shifted(stamp: Stamp | None, days: float, source: str) -> Stamp | None:
    return stamp and Stamp(source, stamp.start_mjd + days, stamp.step_s, stamp.note)


def _from_end(header: Mapping[str, object], exposure_s: float | None) -> Stamp | None:
    stamp = _written(header, "DATE-END", ())
    if stamp is None or exposure_s is None:
        return None
    # Shutters and readout add seconds of their own.
    return Stamp(
        "DATE-END less the exposure", stamp.start_mjd - exposure_s / DAY, max(stamp.step_s, 5.0), stamp.note
    )


def _day_number(header: Mapping[str, object], keyword: str, zero: float, shift: float) -> Stamp | None:
    raw = card(header, keyword)
    value = number(raw)
    if value is None or not 15000 < value - zero < 90000:
        return None
    # The fewest decimals that give the number back say how it was rounded: 58107.065 is good to 86 s.
    decimals = next((d for d in range(12) if round(value, d) == value), 12)
    source = keyword if not shift else f"{keyword} less half the exposure"
    return Stamp(source, value - zero + shift, max(DAY * 10.0**-decimals, 1e-3) if decimals < 12 else 1e-3)


def _in_utc(stamp: Stamp, header: Mapping[str, object]) -> Stamp:
    scale = str(card(header, "TIMESYS") or "UTC").lower()
    if scale not in ("tai", "tt", "tdb", "tcg", "gps") or stamp.source in (FILE_NAME, "FILENAME", "IMAGEID"):
        return stamp
    from astropy.time import Time

    scale = "tai" if scale == "gps" else scale
    extra = 19.0 / DAY if str(card(header, "TIMESYS")).lower() == "gps" else 0.0
    mjd = float(Time(stamp.start_mjd + extra, format="mjd", scale=scale).utc.mjd)
    return Stamp(stamp.source, mjd, stamp.step_s, f"{stamp.source} converted from {scale.upper()} to UTC")


def _same_step(row: Sequence[Stamp | None]) -> list[Stamp | None]:
    """The row with the finest of its steps: a round value among fine ones is chance."""
    step = min(stamp.step_s for stamp in row if stamp is not None)
    return [stamp and replace(stamp, step_s=step) for stamp in row]


def _follows(row: Sequence[Stamp | None], ranks: np.ndarray) -> bool:
    """Whether the times increase in the order of the files' names, but for a tenth of them."""
    have = [i for i, stamp in enumerate(row) if stamp is not None]
    stamps = [stamp for stamp in row if stamp is not None]
    if len(stamps) < 2:
        return True
    times = np.array([stamp.start_mjd for stamp in stamps]) * DAY
    step = max(stamp.step_s for stamp in stamps)
    return float(np.mean(np.diff(times[np.argsort(ranks[have], kind="stable")]) >= -step)) >= 0.9


def _judge(row: Sequence[Stamp | None], exposures_s: Sequence[float | None], ordered: bool) -> _Verdict:
    """How far a source can be believed; 0 is not at all."""
    have = [i for i, stamp in enumerate(row) if stamp is not None]
    n = len(row)
    if n == 1:
        return _Verdict(4)
    if len(have) < max(2, 0.5 * n):
        return _Verdict(0, f"is in {len(have)} of {n} frames only")
    stamps = [stamp for stamp in row if stamp is not None]
    times = np.array([stamp.start_mjd for stamp in stamps]) * DAY
    step = max(stamp.step_s for stamp in stamps)
    distinct = len(np.unique(np.round(times, 3)))
    if distinct == 1:
        return _Verdict(0, "is the same in all frames")
    if distinct < 0.5 * len(have):
        return _Verdict(0, f"has {distinct} values for {len(have)} frames")
    order = np.argsort(times, kind="stable")
    gaps = np.diff(times[order])
    exposure = np.array([exposures_s[have[i]] or 0.0 for i in order])[:-1]
    slack = step + 1.0 + 0.02 * exposure
    fits_exposure = float(np.mean(gaps >= exposure - slack)) >= 0.9
    tied = distinct < len(have)
    coarse = tied or step > 30.0
    score = 1 + 4 * fits_exposure + 2 * ordered + 4 * (not coarse) + 8 * (len(have) == n)
    faults = [
        "is missing in some frames" if len(have) < n else "",
        "leaves no room for the exposures" if not fits_exposure else "",
        "does not follow the files' order" if not ordered else "",
        f"is rounded to {step:.0f} s" if step > 30.0 else "is the same in some frames" if tied else "",
    ]
    return _Verdict(score, ", ".join(filter(None, faults)))


def _differences(table: Mapping[str, Sequence[Stamp | None]], chosen: str) -> list[str]:
    notes = []
    for source, row in table.items():
        pairs = [(a, b) for a, b in zip(table[chosen], row, strict=True) if a is not None and b is not None]
        if source == chosen or not pairs:
            continue
        offsets = np.array([(b.start_mjd - a.start_mjd) * DAY for a, b in pairs])
        step = max(max(a.step_s, b.step_s) for a, b in pairs)
        middle = float(np.median(offsets))
        spread = float(np.ptp(offsets))
        if np.all(np.abs(offsets) <= SAME_S + step):
            continue
        if spread <= 2 * SAME_S + 2 * step:
            side = "after" if middle > 0 else "before"
            notes.append(f"{source} is {_span(abs(middle))} {side} {chosen}")
        else:
            low, high = float(offsets.min()), float(offsets.max())
            notes.append(f"{source} disagrees with {chosen} by {_signed(low)} to {_signed(high)}")
    return notes


def _fill(
    table: Mapping[str, Sequence[Stamp | None]],
    chosen: str,
    starts: Sequence[float | None],
    verdicts: Mapping[str, _Verdict],
) -> tuple[list[float | None], int]:
    """Times of frames that lack the chosen source, from the next best one, moved by the sources' usual
    offset.
    """
    filled = list(starts)
    for source in sorted(table, key=lambda s: -verdicts[s].score):
        row = table[source]
        both = [b.start_mjd - a for a, b in zip(starts, row, strict=True) if a is not None and b is not None]
        if source == chosen or not both or verdicts[source].score == 0:
            continue
        offset = float(np.median(both))
        for i, stamp in enumerate(row):
            if filled[i] is None and stamp is not None:
                filled[i] = stamp.start_mjd - offset
    return filled, sum(a is None and b is not None for a, b in zip(starts, filled, strict=True))


def _reason(chosen: str, n: int, computer_clock: bool, refused: list[str], verdict: _Verdict) -> str:
    if n == 1:
        return f"{chosen}, the first time found"
    if verdict.fault:
        text = f"{chosen} is the best there is, though it {verdict.fault}"
    else:
        text = f"{chosen} differs between the frames, follows their order and leaves room for the exposures"
    if computer_clock and chosen in (FILE_NAME, "FILENAME", "IMAGEID"):
        text += " (the computer's stamp, not the camera's clock)"
    return text + (f"; {'; '.join(refused)}" if refused else "")


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return str(timedelta(seconds=round(seconds))) if seconds < 10 * DAY else f"{seconds / DAY:.1f} d"


def _signed(seconds: float) -> str:
    return ("-" if seconds < 0 else "+") + _span(abs(seconds))


def utc_text(mjd: float, decimals: int = 3) -> str:
    """ISO text of an MJD, such as ``2016-09-09T08:14:34.000``."""
    if not math.isfinite(mjd):
        return ""
    tick = 10**decimals
    ticks = round(mjd * DAY * tick)
    whole, part = divmod(ticks, tick)
    moment = datetime(1858, 11, 17) + timedelta(seconds=whole)
    return moment.isoformat() + (f".{part:0{decimals}d}" if decimals else "")

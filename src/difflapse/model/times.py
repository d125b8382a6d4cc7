"""Times as text: MJD (UTC) to ISO, without loading a time library."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)


def iso_utc(mjd: float, digits: int = 3) -> str:
    """ISO text ``2016-09-09T08:12:26.000`` of an MJD (UTC), rounded to 0, 3 or 6 `digits` of a second.

    Leap seconds cannot be written this way: 23:59:60 is told as the second after.
    """
    unit = {0: 1_000_000, 3: 1000, 6: 1}[digits]
    days, rest = divmod(mjd, 1.0)
    micro = round(rest * 86400e6 / unit) * unit
    text = (_EPOCH + timedelta(days=int(days), microseconds=micro)).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return text[: 19 if digits == 0 else 20 + digits]

"""The tables of what changed: `detections.ecsv`, a row per sighting, and `changes.ecsv`, a row per change."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from astropy.table import MaskedColumn, Table

from difflapse.model.sightings import REASONS, Change, Sightings

UNITS = {
    "x_pix": "pix",
    "y_pix": "pix",
    "x_frame_pix": "pix",
    "y_frame_pix": "pix",
    "x_end_pix": "pix",
    "y_end_pix": "pix",
    "width_pix": "pix",
    "ra_deg": "deg",
    "dec_deg": "deg",
    "flux_adu": "adu",
    "flux_err_adu": "adu",
    "amplitude_mag": "mag",
    "rate_arcsec_per_hour": "arcsec / h",
    "rate_err_arcsec_per_hour": "arcsec / h",
    "rate_pix_per_hour": "pix / h",
    "rate_err_pix_per_hour": "pix / h",
    "position_angle_deg": "deg",
    "position_angle_err_deg": "deg",
}
_DIGITS = {"pix": 3, "deg": 7, "adu": 2, "mag": 4, "pix / h": 4, "arcsec / h": 3}


def detections_table(
    sightings: Sightings, owner: np.ndarray, time: Sequence[str | None], wcs: Any, meta: Mapping[str, Any]
) -> Table:
    """A row per sighting, in the order of frames; `owner` is each one's change, -1 for none."""
    order = np.lexsort((-np.abs(sightings.snr), sightings.frame))
    s, owner = sightings.take(order), owner[order]
    ra, dec = _sky(wcs, s.x, s.y)
    table = Table(meta={**meta, "flags": {str(bit): text for bit, text in REASONS.items()}})
    table["change"] = owner.astype(np.int64)
    table["frame"] = s.frame.astype(np.int64)
    when = [time[k] or "" for k in s.frame]
    table["time_utc"] = MaskedColumn(when, dtype="U24", mask=[not w for w in when])
    columns = {
        "x_pix": s.x, "y_pix": s.y, "x_frame_pix": s.x_frame, "y_frame_pix": s.y_frame, "ra_deg": ra,
        "dec_deg": dec, "flux_adu": s.flux, "flux_err_adu": s.flux_err, "snr": s.snr,
    }  # fmt: skip
    for name, values in columns.items():
        table[name] = _column(name, values)
    table["flags"] = s.flags.astype(np.int64)
    for name, values in {"x_end_pix": s.x_end, "y_end_pix": s.y_end, "width_pix": s.width}.items():
        table[name] = _column(name, values)
    return table


def changes_table(
    changes: Sequence[Change],
    owner: np.ndarray,
    time: Sequence[str | None],
    wcs: Any,
    timed: bool,
    meta: Mapping[str, Any],
) -> Table:
    """A row per change, most certain first."""
    n = len(changes)
    x, y = (np.array([getattr(c, a) for c in changes], float) for a in ("x", "y"))
    ra, dec = _sky(wcs, x, y)
    motion = np.array([_motion(c, wcs, timed) for c in changes], float).reshape(n, 6)
    table = Table(meta=dict(meta))
    table["change"] = np.arange(n, dtype=np.int64)
    table["kind"] = MaskedColumn([c.kind for c in changes], dtype="U9")
    names = _names(changes, time, x, y, ra, dec)
    table["name"] = MaskedColumn(names, dtype="U48")
    columns: dict[str, np.ndarray] = {"x_pix": x, "y_pix": y, "ra_deg": ra, "dec_deg": dec}
    for name, values in columns.items():
        table[name] = _column(name, values)
    table["first_frame"] = np.array([c.first_frame for c in changes], np.int64)
    table["last_frame"] = np.array([c.last_frame for c in changes], np.int64)
    table["n_detections"] = np.array([int(np.sum(owner == i)) for i in range(n)], np.int64)
    rest: dict[str, Any] = {
        "snr": [c.snr for c in changes],
        "snr_all": [c.snr_all for c in changes],
        "amplitude_mag": [c.amplitude_mag for c in changes],
        "rate_arcsec_per_hour": motion[:, 0],
        "rate_err_arcsec_per_hour": motion[:, 1],
        "rate_pix_per_hour": motion[:, 2],
        "rate_err_pix_per_hour": motion[:, 3],
        "position_angle_deg": motion[:, 4],
        "position_angle_err_deg": motion[:, 5],
        "x_end_pix": [c.x_end for c in changes],
        "y_end_pix": [c.y_end for c in changes],
        "width_pix": [c.width for c in changes],
    }
    for name, values in rest.items():
        table[name] = _column(name, np.asarray(values, float))
    star = np.array([c.star for c in changes], np.int64)
    table["star"] = MaskedColumn(star, mask=star < 0)
    table["note"] = MaskedColumn([c.note for c in changes], dtype="U200")
    return table


def place_name(x: float, y: float, ra_deg: float, dec_deg: float) -> str:
    """A place as part of a name: on the sky where that is known (not NaN), else the reference's native pixel."""
    if not np.isfinite(ra_deg):
        return f"X{x:.0f}Y{y:.0f}"
    hours, degrees = ra_deg / 15, abs(dec_deg)
    sign = "-" if dec_deg < 0 else "+"
    return f"J{int(hours):02d}{(hours % 1) * 60:04.1f}{sign}{int(degrees):02d}{int((degrees % 1) * 60):02d}"


def _column(name: str, values: np.ndarray) -> MaskedColumn:
    """A column of floats; unknown values are masked."""
    values = np.asarray(values, float)
    unit = UNITS.get(name)
    unknown = ~np.isfinite(values)
    shown = np.round(np.where(unknown, 0.0, values), _DIGITS.get(unit or "", 3))
    return MaskedColumn(shown, mask=unknown, unit=unit)


def _sky(wcs: Any, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ICRS degrees of native pixels of the reference; NaN without a WCS."""
    if wcs is None or not len(x):
        return np.full(len(x), np.nan), np.full(len(x), np.nan)
    ra, dec = wcs.all_pix2world(x, y, 0)
    return np.asarray(ra, float) % 360, np.asarray(dec, float)


def _motion(change: Change, wcs: Any, timed: bool) -> tuple[float, float, float, float, float, float]:
    """Rate and its error in arcsec and in pixels per hour, position angle and its error in degrees.

    On the sky in the tangent plane, from north through east. Without a WCS the angle is on the reference's pixels,
    from +y through -x. Without times there are no rates.
    """
    unknown = float("nan")
    dx, dy = change.rate_x, change.rate_y
    if not (np.isfinite(dx) and np.isfinite(dy)) or (dx == 0 and dy == 0):
        return (unknown,) * 6
    rate = math.hypot(dx, dy)
    angle = math.degrees(math.atan2(-dx, dy)) % 360
    error = math.degrees(change.rate_err / rate)
    pixels = (rate, change.rate_err) if timed else (unknown, unknown)
    if wcs is None:
        return unknown, unknown, *pixels, angle, error
    ra, dec = _sky(wcs, np.array([change.x, change.x_end]), np.array([change.y, change.y_end]))
    a, d = np.radians(ra), np.radians(dec)
    east = math.cos(d[1]) * math.sin(a[1] - a[0])
    north = math.cos(d[0]) * math.sin(d[1]) - math.sin(d[0]) * math.cos(d[1]) * math.cos(a[1] - a[0])
    cosine = math.sin(d[0]) * math.sin(d[1]) + math.cos(d[0]) * math.cos(d[1]) * math.cos(a[1] - a[0])
    arcsec = math.degrees(math.hypot(east, north) / cosine) * 3600
    moved = math.hypot(change.x_end - change.x, change.y_end - change.y)
    scale = arcsec / moved if moved > 0 else unknown
    angle = math.degrees(math.atan2(east, north)) % 360
    sky = (rate * scale, change.rate_err * scale) if timed else (unknown, unknown)
    return *sky, *pixels, angle, error


def _names(
    changes: Sequence[Change],
    time: Sequence[str | None],
    x: np.ndarray,
    y: np.ndarray,
    ra: np.ndarray,
    dec: np.ndarray,
) -> list[str]:
    """Names by kind, place and, for what does not stay, time: the same in every run of the same night."""
    named = []
    for n, c in enumerate(changes):
        place = place_name(x[n], y[n], ra[n], dec[n])
        when = (time[c.first_frame] or "")[:16] if c.kind != "variable" else ""
        named.append(f"{c.kind} {place} {when}".rstrip())
    taken: dict[str, int] = {}
    out = [""] * len(named)
    # Of several at one place the order is that of their places, not of their strength.
    for n in sorted(range(len(named)), key=lambda i: (named[i], x[i], y[i])):
        count = taken.get(named[n], 0)
        taken[named[n]] = count + 1
        out[n] = named[n] if not count else f"{named[n]} {chr(ord('a') + min(count, 25))}"
    return out

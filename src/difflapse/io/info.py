"""What `difflapse info` tells: an inventory as plain values, with every decision and its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from astropy.io import fits

from difflapse.io.times import DAY, utc_text
from difflapse.model import FrameFacts, Inventory, Sequence


def describe(inventory: Inventory) -> dict[str, Any]:
    """An inventory as plain values, ready for JSON.

    Parameters
    ----------
    inventory : Inventory
        As `discover` returned it.

    Returns
    -------
    dict
        ``root``; ``sequences``, a list of dicts: ``name``, ``n_frames``, ``shape`` (ny, nx), ``dtype``,
        ``hdu``, ``object``, ``camera``, ``filter``, ``mosaic`` (empty: monochrome), ``mosaic_reason``,
        ``first_utc`` and ``last_utc`` (ISO, middle of the exposures; None if unknown), ``cadence_s``
        (median), ``exposure_s`` (median), ``exposure_range_s``, ``time_source``, ``time_reason``, ``wcs``,
        ``gain_e_adu``, ``read_noise_e``, ``bias_adu``, ``saturation_adu``, ``saturation_source``, ``site``,
        ``notes`` and ``files``, in time order; ``left_out``, a list of dicts: ``file``, ``reason``.
    """
    return {
        "root": inventory.root,
        "sequences": [_sequence(sequence) for sequence in inventory.sequences],
        "left_out": [{"file": item.file, "reason": item.reason} for item in inventory.left_out],
    }


def _sequence(sequence: Sequence) -> dict[str, Any]:
    frames = sequence.frames
    first = frames[0]
    middles = [f.mid_mjd for f in frames if f.mid_mjd is not None]
    starts = [f.start_mjd for f in frames if f.start_mjd is not None]
    exposures = [f.exposure_s for f in frames if f.exposure_s is not None]
    clock = _noted(sequence, "clock: ")
    mosaic = _noted(sequence, "mosaic: ")
    return {
        "name": sequence.name,
        "n_frames": len(frames),
        "shape": list(first.shape),
        "dtype": _usual(f.dtype for f in frames),
        "hdu": _usual(f.hdu for f in frames),
        "object": next((f.object for f in frames if f.object), ""),
        "camera": first.camera,
        "filter": first.filter,
        "mosaic": first.mosaic,
        "mosaic_reason": "; ".join(mosaic),
        "first_utc": utc_text(min(middles)) if middles else None,
        "last_utc": utc_text(max(middles)) if middles else None,
        "cadence_s": round(float(np.median(np.diff(starts))) * DAY, 3) if len(starts) > 1 else None,
        "exposure_s": float(np.median(exposures)) if exposures else None,
        "exposure_range_s": [min(exposures), max(exposures)] if exposures else None,
        "time_source": first.time_source,
        "time_reason": clock[0] if clock else "",
        "wcs": _wcs(frames),
        "gain_e_adu": first.gain_e_adu,
        "read_noise_e": first.read_noise_e,
        "bias_adu": first.bias_adu,
        "saturation_adu": first.saturation_adu,
        "saturation_source": first.saturation_source,
        "site": _site(first),
        "notes": clock[1:] + [n for n in sequence.notes if not n.startswith(("clock: ", "mosaic: "))],
        "files": [f.file for f in frames],
    }


def _noted(sequence: Sequence, mark: str) -> list[str]:
    """The sequence's notes of one kind, without their mark."""
    return [note.removeprefix(mark) for note in sequence.notes if note.startswith(mark)]


def _usual(values: Iterable[Any]) -> Any:
    return Counter(values).most_common(1)[0][0]


def _wcs(frames: tuple[FrameFacts, ...]) -> str:
    """Such as ``TAN-SIP in 47 of 48 frames``; ``none`` without."""
    solved = [f.wcs_header for f in frames if f.wcs_header]
    planes = [f.plane[0] for f in frames if f.plane]
    if planes and not solved:
        return (
            f"not on the sky: linear {planes[0].replace(',', ', ')} in {len(planes)} of {len(frames)} frames"
        )
    if not solved:
        return "none"
    kinds = Counter(str(fits.Header.fromstring(text)["CTYPE1"])[5:].strip("-") or "linear" for text in solved)
    return f"{', '.join(kinds)} in {len(solved)} of {len(frames)} frames"


def _site(facts: FrameFacts) -> dict[str, float | None] | None:
    if facts.latitude_deg is None or facts.longitude_deg is None:
        return None
    return {
        "latitude_deg": facts.latitude_deg,
        "longitude_deg": facts.longitude_deg,
        "elevation_m": facts.elevation_m,
    }

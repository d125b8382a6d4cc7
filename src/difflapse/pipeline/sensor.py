"""What the night knows of its camera's noise: gain, read noise, response; from headers, and from the frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from difflapse.measure.transfer import Transfer
from difflapse.model import FrameFacts
from difflapse.pipeline.context import Night
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.records import Reference

_APART = 0.15
"""Share by which a header's gain and the measured one may differ, ..."""
_ERRORS = 4.0
"""... or standard errors, before it is told."""
_MOVED = 1.5
"""Native pixels that frames must have moved, typically, for a star to meet other pixels in each."""


def gain_of(night: Night, facts: FrameFacts) -> float | None:
    """Gain of a frame, electrons per ADU: its header's, or else the measured one; None where neither is known."""
    if facts.gain_e_adu:
        return facts.gain_e_adu
    transfer = _transfer(night)
    return transfer.gain_e_adu if transfer.known else None


def facts_with_gain(night: Night, k: int) -> FrameFacts:
    """What frame `k` says about itself, with the measured gain where its header has none."""
    facts = night.frames[k]
    return replace(facts, gain_e_adu=gain_of(night, facts))


def response_of(night: Night) -> float:
    """Relative scatter of the pixels' sensitivity, where it adds noise; 0 before the frames are aligned."""
    return float(night.shared("response")) if night.has("response") else 0.0


def share_response(desk: Desk, used: Iterable[int]) -> None:
    """Share the response, 0 where the stars rest on the same pixels all night: it is then in the template too."""
    night = desk.night
    reference: Reference = night.shared("reference")
    x, y = 0.5 * (reference.facts.shape[1] - 1), 0.5 * (reference.facts.shape[0] - 1)
    there = np.array(
        [desk.value("alignment", k).transform(x, y) for k in used if k != reference.frame], float
    )
    away = np.hypot(there[:, 0] - x, there[:, 1] - y) if len(there) else np.zeros(1)
    moved = float(np.nanmedian(away)) >= _MOVED
    night.share("response", _transfer(night).response if moved else 0.0)


def tell_camera(desk: Desk) -> None:
    """Note where the header and the frames disagree on the gain."""
    facts, transfer = desk.night.frames[0], _transfer(desk.night)
    header = facts.gain_e_adu
    if not header or not transfer.known:
        return
    apart = abs(transfer.gain_e_adu - header)
    if apart > _APART * header and apart > _ERRORS * transfer.gain_error:
        desk.progress.note(
            f"the header's gain is {header:g} e/ADU, the frames show {transfer.gain_e_adu:.2f} +- "
            f"{transfer.gain_error:.2f}: the header's is used, and photon noise may be wrong by "
            f"{100 * abs((transfer.gain_e_adu / header) ** 0.5 - 1):.0f} %"
        )


def camera_record(night: Night) -> dict[str, Any]:
    """Gain, read noise and response with their sources and errors, as plain values; what is unknown is left out."""
    if not night.has("transfer"):
        return {}
    facts, transfer = night.frames[0], _transfer(night)
    source = "header" if facts.gain_e_adu else "photon transfer" if transfer.known else "unknown"
    values: dict[str, Any] = {
        "gain_e_adu": gain_of(night, facts),
        "gain_source": source,
        "read_noise_e": facts.read_noise_e,
        "measured_gain_e_adu": _finite(transfer.gain_e_adu, 4),
        "measured_gain_error": _finite(transfer.gain_error, 4),
        "measured_read_noise_e": _finite(transfer.read_noise_e, 3),
        "measured_read_noise_error": _finite(transfer.read_noise_error, 3),
        "response": _finite(transfer.response, 5),
        "response_error": _finite(transfer.response_error, 5),
        "not_measured": transfer.reason or None,
    }
    return {key: value for key, value in values.items() if value is not None}


def _transfer(night: Night) -> Transfer:
    found: Transfer = night.shared("transfer") if night.has("transfer") else Transfer(reason="not looked for")
    return found


def _finite(value: float, digits: int) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None

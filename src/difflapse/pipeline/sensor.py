"""What the night knows of its camera: gain, read noise, response, saturation; from headers, and from the frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from difflapse.measure import Defects, clip_level, is_plausible, saturation_of
from difflapse.measure.transfer import Transfer
from difflapse.model import Frame, FrameFacts
from difflapse.pipeline.context import Night
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.records import Reference

_APART = 0.15
"""Share by which a header's gain and the measured one may differ, ..."""
_ERRORS = 4.0
"""... or standard errors, before it is told."""
_REACHED = 0.98
"""Share of the header's saturation that pixels reach where they bear it out."""
_SAYS = {"header": "the header says", "camera": "of this camera it is known"}
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


def in_force(night: Night, facts: FrameFacts) -> FrameFacts:
    """What a frame of the night says about itself, with the level at which the night's frames show that it is cut."""
    defects: Defects = night.shared("defects")
    return replace(facts, saturation_adu=saturation_of(facts, defects.cut_adu, defects.header_holds))


def alone(frame: Frame) -> Frame:
    """A frame from outside the night, with the level at which its own pixels show that it is cut."""
    level = saturation_of(frame.facts, clip_level(frame.data), is_plausible(frame.facts, [frame.data]))
    return replace(frame, facts=replace(frame.facts, saturation_adu=level))


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
    """Note where the header and the frames disagree on the gain, or on where pixels saturate."""
    _tell_saturation(desk)
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


def _tell_saturation(desk: Desk) -> None:
    night = desk.night
    facts, (level, source) = night.frames[0], saturation_told(night)
    known, said = facts.saturation_adu, _SAYS.get(facts.saturation_source)
    used = "none is taken for saturated" if level is None else f"{level:g} is used"
    if said and not night.shared("defects").header_holds:
        desk.progress.note(
            f"{said} that pixels saturate at {known:g} ADU, but most pixels of the frames lie above: {used}"
        )
    elif source == "pixels" and said is None and level != known:
        desk.progress.note(
            f"no header says where pixels saturate; those of the frames pile up at {level:g} ADU: {used}"
        )
    elif source == "pixels" and known and level is not None and level < _REACHED * known:
        desk.progress.note(
            f"{said} that pixels saturate at {known:g} ADU, but those of the frames pile up at {level:g}: {used}"
        )


def saturation_told(night: Night) -> tuple[float | None, str]:
    """The level at which the night's pixels count as saturated, and who says so: ``header``, ``camera``, ``pixels``,
    ``type``; None and an empty text where nobody does.
    """
    facts, defects = night.frames[0], night.shared("defects")
    level = in_force(night, facts).saturation_adu
    if level is None:
        return None, ""
    if level == defects.cut_adu and (level != facts.saturation_adu or facts.saturation_source == "type"):
        return level, "pixels"
    return level, facts.saturation_source if defects.header_holds else "type"


def camera_record(night: Night) -> dict[str, Any]:
    """Gain, read noise and response with their sources and errors, as plain values; what is unknown is left out."""
    if not night.has("transfer"):
        return {}
    facts, transfer = night.frames[0], _transfer(night)
    level, told = saturation_told(night)
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
        "saturation_adu": level,
        "saturation_source": told or None,
    }
    return {key: value for key, value in values.items() if value is not None}


def _transfer(night: Night) -> Transfer:
    found: Transfer = night.shared("transfer") if night.has("transfer") else Transfer(reason="not looked for")
    return found


def _finite(value: float, digits: int) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None

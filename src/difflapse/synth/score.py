"""What a run found beside what was there: each planted thing recovered or not, and what is no planted thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from difflapse.synth.camera import MOFFAT_BETA, coma_scales
from difflapse.synth.scene import Response
from difflapse.synth.truth import TrueObject, Truth

KINDS = {"variable": "variable", "nova": "transient", "mover": "mover", "streak": "streak", "comet": "comet"}
"""What a run should call each planted kind."""
_NEAR_PIX = 4.0
_TEMPLATE = 1 / 12
"""Variance that a template of 12 frames adds to a frame's own."""


@dataclass(frozen=True)
class Outcome:
    """What became of one planted thing."""

    kind: str
    """What a run should call it."""
    name: str
    snr: float
    """Of one sighting; NaN for what was never to be seen."""
    recovered: bool
    """As a change of the right kind."""
    called: str
    """What the change nearest to it was called; empty where there is none."""


@dataclass(frozen=True, eq=False)
class Score:
    """A night's outcome."""

    outcomes: tuple[Outcome, ...]
    false: tuple[int, ...]
    """Rows of the changes that are no planted thing."""


def score(
    truth: Truth,
    reference: int,
    changes: Any,
    floor: Callable[[float], float] | None = None,
) -> Score:
    """Compare the changes of a run with what was planted.

    Parameters
    ----------
    truth : Truth
        Of the night.
    reference : int
        Frame whose native pixels the changes' positions are.
    changes : Table
        `changes.ecsv`: columns kind, x_pix, y_pix, first_frame, last_frame, x_end_pix, y_end_pix.
    floor : callable, optional
        Relative error (magnitudes) that a star of a green flux (ADU) has beyond photons and sky, as measured.

    Returns
    -------
    Score
        A thing counts as recovered by a change of the right kind within 4 px of its place in the change's first frame
        (a comet: within 0.6 of its width; a streak: on its line, in its frame). S/N of one sighting: the median over
        the frames that show it; of a variable, three quarters of the frames depart less from its median light. It
        counts the photons of sky and source, read noise, a template of 12 frames, and `floor`.
    """
    rows = [_Row.of(changes, n) for n in range(len(changes))]
    owner = np.full(len(rows), -1)
    outcomes = []
    for number, thing in enumerate(truth.objects):
        near = [n for n, row in enumerate(rows) if _matches(truth, reference, thing, row)]
        right = [n for n in near if rows[n].kind == KINDS[thing.kind]]
        owner[near] = number
        best = (right or near)[0] if near else None
        outcomes.append(
            Outcome(
                KINDS[thing.kind],
                thing.name,
                sighting_snr(truth, thing, floor),
                bool(right),
                rows[best].kind if best is not None else "",
            )
        )
    return Score(tuple(outcomes), tuple(int(n) for n in np.flatnonzero(owner < 0)))


def sighting_snr(truth: Truth, thing: TrueObject, floor: Callable[[float], float] | None = None) -> float:
    """S/N of one typical sighting of a planted thing; NaN where it is never seen. See `score`."""
    cloudy = np.array([truth.frames[k].cloudy for k in thing.frame])
    good = thing.inside & ~cloudy & (thing.flux_adu > 0)
    if thing.kind == "streak":
        good = thing.inside
    if not good.any():
        return float("nan")
    spec = truth.parameters
    sensor = spec["sensor"]
    gain = float(sensor["gain_e_adu"])
    own = _spec_of(truth, thing)
    ratio = np.array(own["channels"]) if thing.kind == "comet" else Response()(own["colour"])
    weight = np.array([0.25, 0.5, 0.25]) if truth.mosaic else np.array([0.0, 1.0, 0.0])
    values = []
    light = []
    for n in np.flatnonzero(good):
        frame = truth.frames[int(thing.frame[n])]
        sky = np.array(frame.sky_adu)
        noise = (1 + _TEMPLATE) * (sky / gain + (float(sensor["read_noise_e"]) / gain) ** 2)
        flux = float(thing.flux_adu[n])
        spread, fwhm = 1.0, frame.fwhm_pix * (1 + 0.5 * spec["blur"]["growth"])
        if thing.kind == "comet":
            spread = _coma_area(own["fwhm_pix"])
        elif thing.kind == "streak":
            length = max(float(np.hypot(thing.x_end[n] - thing.x[n], thing.y_end[n] - thing.y[n])), 1.0)
            spread = length * np.sqrt(point_area(fwhm))
        else:
            spread = point_area(fwhm)
        own_noise = 1 / np.sqrt(np.sum(weight * (flux * ratio) ** 2 / noise) / spread)
        photons = 1 / np.sqrt(np.sum(weight * flux * ratio) * gain)
        values.append((own_noise, photons))
        light.append(flux)
    errors = np.array(values)
    if thing.kind != "variable":
        return float(np.median(1 / np.hypot(errors[:, 0], errors[:, 1])))
    mag = thing.mag[good]
    away = np.abs(10 ** (-0.4 * (mag - np.median(mag))) - 1)
    extra = np.array([floor(f) / 1.0857 for f in light]) if floor is not None else np.zeros(len(light))
    return float(np.percentile(away / np.sqrt(errors[:, 0] ** 2 + errors[:, 1] ** 2 + extra**2), 75))


def point_area(fwhm_pix: float) -> float:
    """Noise-equivalent area of a star seen by square pixels, px**2: 1 / sum(p**2), the mean of all phases."""
    fine = 7
    half = int(np.ceil(5 * fwhm_pix)) * fine
    u = np.arange(-half, half + 1) / fine
    alpha = 0.5 * fwhm_pix / np.sqrt(2 ** (1 / MOFFAT_BETA) - 1)
    density = (1 + (u[:, None] ** 2 + u[None, :] ** 2) / alpha**2) ** -MOFFAT_BETA
    total = np.cumsum(np.cumsum(np.pad(density, ((1, 0), (1, 0))), axis=0), axis=1)
    seen = total[fine:, fine:] - total[:-fine, fine:] - total[fine:, :-fine] + total[:-fine, :-fine]
    seen /= density.sum()
    return float(fine**2 / np.sum(seen**2))


def _coma_area(fwhm_pix: float) -> float:
    """The same of a coma."""
    core, reach = coma_scales(fwhm_pix)
    rho = np.linspace(0, 9 * reach, 4001)
    density = np.exp(-rho / reach) / np.hypot(rho, core)
    return float(np.trapezoid(2 * np.pi * rho * density, rho) ** 2 / np.trapezoid(2 * np.pi * rho * density**2, rho))


def _spec_of(truth: Truth, thing: TrueObject) -> dict[str, Any]:
    """What was asked for of a thing: the n-th of its kind."""
    keys = {"variable": "amplitude_mag", "nova": "start_h", "comet": "condensation", "streak": "adu_per_pix"}
    of_kind = [
        o
        for o in truth.parameters["objects"]
        if (keys[thing.kind] in o if thing.kind in keys else not any(k in o for k in keys.values()))
    ]
    return dict(of_kind[int(thing.name.rsplit(" ", 1)[1]) - 1])


@dataclass(frozen=True)
class _Row:
    """A change, as plain values."""

    kind: str
    x: float
    y: float
    first: int
    x_end: float
    y_end: float

    @classmethod
    def of(cls, table: Any, n: int) -> _Row:
        def number(name: str) -> float:
            value = table[name][n] if name in table.colnames else np.nan
            return float("nan") if np.ma.is_masked(value) else float(value)

        return cls(
            str(table["kind"][n]),
            number("x_pix"),
            number("y_pix"),
            int(table["first_frame"][n]),
            number("x_end_pix"),
            number("y_end_pix"),
        )


def _matches(truth: Truth, reference: int, thing: TrueObject, row: _Row) -> bool:
    """Whether a change lies where a planted thing was."""
    if thing.kind == "streak":
        return row.first == int(thing.frame[0]) and _on_line(truth, reference, thing, row)
    at = np.flatnonzero(thing.frame == row.first)
    if len(at) == 0:
        return False
    x, y = truth.sky_to_pixel(reference, thing.ra_deg[at[0]], thing.dec_deg[at[0]])
    near = 0.6 * _spec_of(truth, thing)["fwhm_pix"] if thing.kind == "comet" else _NEAR_PIX
    return bool(np.hypot(float(x) - row.x, float(y) - row.y) < near)


def _on_line(truth: Truth, reference: int, thing: TrueObject, row: _Row) -> bool:
    """Whether both ends of what was found lie on a streak; of a point, that itself."""
    k = int(thing.frame[0])
    x, y = truth.to_reference(
        k, reference, np.array([thing.x[0], thing.x_end[0]]), np.array([thing.y[0], thing.y_end[0]])
    )
    dx, dy = x[1] - x[0], y[1] - y[0]
    length = max(float(np.hypot(dx, dy)), 1e-6)

    def away(px: float, py: float) -> float:
        t = np.clip(((px - x[0]) * dx + (py - y[0]) * dy) / length**2, 0, 1)
        return float(np.hypot(px - x[0] - t * dx, py - y[0] - t * dy))

    ends = [(row.x, row.y)] + ([(row.x_end, row.y_end)] if np.isfinite(row.x_end) else [])
    return all(away(*end) < 3 * _NEAR_PIX for end in ends)


def completeness(
    outcomes: Sequence[Outcome], edges: Sequence[float]
) -> list[tuple[str, float, float, int, int]]:
    """Rows (kind, low, high, planted, recovered) by S/N of one sighting; kind ``all`` last."""
    rows = []
    for kind in [*dict.fromkeys(o.kind for o in outcomes), "all"]:
        own = [o for o in outcomes if kind in (o.kind, "all") and np.isfinite(o.snr)]
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            here = [o for o in own if low <= o.snr < high]
            rows.append((kind, float(low), float(high), len(here), sum(o.recovered for o in here)))
    return rows

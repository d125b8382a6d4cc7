"""How well a run's changes agree with what was planted in a simulated night."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from difflapse.synth.camera import MOFFAT_BETA, Sensor
from difflapse.synth.night import STREAK_MARGIN
from difflapse.synth.scene import Response
from difflapse.synth.truth import TrueObject, Truth

KIND = {
    "variable": "variable",
    "nova": "transient",
    "mover": "mover",
    "comet": "comet",
    "streak": "streak",
}
"""The kind of change that each kind of planted object is."""
FLOOR = 0.012
"""Error of a difference at a star, over the star's light: what the preset's nights show where nothing changes."""
_REACH = {"variable": 3.0, "transient": 3.0, "mover": 4.0, "comet": 14.0, "streak": 6.0}
"""Native pixels within which a change is the planted one."""


@dataclass(frozen=True)
class Planted:
    """One planted object and what became of it."""

    kind: str
    """The kind of change that it should be."""
    name: str
    snr: float
    """Per sighting, from the truth: see `snr_of`."""
    n_sightings: int
    """Frames on which it could be seen: there, on the sensor, with S/N 3 or more."""
    change: int
    """Row of the change that is it; -1 where there is none."""
    found_as: str
    """Kind that was found; empty if none."""

    @property
    def recovered(self) -> bool:
        """Whether it was found with the right kind."""
        return self.found_as == self.kind


@dataclass(frozen=True)
class Score:
    """The planted objects, and the changes that are none of them."""

    planted: tuple[Planted, ...]
    false: tuple[int, ...]
    """Rows of changes that are no planted object, or one that an earlier row is already."""

    def completeness(self, low: float, high: float = math.inf, kinds: Iterable[str] = ()) -> tuple[int, int]:
        """(recovered, planted) among objects of some S/N per sighting; movers count with two sightings or more."""
        wanted = set(kinds) or set(KIND.values())
        own = [
            p
            for p in self.planted
            if low <= p.snr < high
            and p.kind in wanted
            and p.n_sightings >= (2 if p.kind in ("mover", "variable", "transient", "comet") else 1)
        ]
        return sum(p.recovered for p in own), len(own)


def score(truth: Truth, changes: Iterable[Mapping[str, Any]], reference: int, floor: float = FLOOR) -> Score:
    """Compare the rows of `changes.ecsv` with the truth.

    Parameters
    ----------
    truth : Truth
        Of the night.
    changes : iterable of rows
        With the columns ``kind``, ``x_pix``, ``y_pix``, ``x_end_pix``, ``y_end_pix``, ``first_frame`` and
        ``last_frame``; frames are numbered as in the truth.
    reference : int
        The frame whose native pixels positions are given in.
    floor : float
        See `snr_of`.

    Returns
    -------
    Score

    Notes
    -----
    A change is the planted object that lies where it says: for what moves, both at its first and at its last frame;
    for a streak, along its line on its frame. Where several changes lie on one object the first of the right kind is
    it, and the others are false.
    """
    rows = [dict(row) for row in changes]
    used: set[int] = set()
    planted = []
    for thing in truth.objects:
        kind = KIND[thing.kind]
        seen = snr_of(truth, thing, _colour(truth, thing), floor)
        near = [
            i for i, row in enumerate(rows) if i not in used and _is_it(truth, thing, kind, row, reference)
        ]
        near.sort(key=lambda i: (str(rows[i]["kind"]) != kind, i))
        found = near[0] if near else -1
        if found >= 0:
            used.add(found)
        strong = seen[np.isfinite(seen) & (seen > 3)]
        found_as = str(rows[found]["kind"]) if found >= 0 else ""
        planted.append(Planted(kind, thing.name, _typical(kind, seen), len(strong), found, found_as))
    return Score(tuple(planted), tuple(i for i in range(len(rows)) if i not in used))


def snr_of(truth: Truth, thing: TrueObject, colour: float, floor: float = FLOOR) -> np.ndarray:
    """S/N of an object on each of its frames, from the true light and the true noise.

    Parameters
    ----------
    truth : Truth
        Of the night.
    thing : TrueObject
        What is asked for.
    colour : float
        Its colour index.
    floor : float
        What limits the difference at a star, over the star's light: a variable's change counts against it.

    Returns
    -------
    ndarray, shape (n,)
        Of the best linear filter for its known shape on all native pixels of all colours: photon noise of sky and
        object, read noise, and a template of 12 frames. For a variable, of its departure from its median light. 0 where
        it is not on the sensor.

    Notes
    -----
    ``S/N^2 = sum_c f_c F_c^2 / (V_c A)``, f_c the share of pixels of colour c, F_c its light in ADU as if all pixels
    were of that colour, V_c the variance of a pixel and A the effective area, ``1 / sum(p^2)`` of what pixels see of a
    star (`point_area`; 4 pi sigma^2 of a Gaussian is half of it, for a Moffat has wings). A streak of length L on
    the sensor has ``A = L w``, w the effective width of what pixels see of a line (`line_width`), and F is its light.
    """
    values = truth.parameters
    gain, read = values["sensor"]["gain_e_adu"], values["sensor"]["read_noise_e"]
    channels = np.array([s for row in Sensor(mosaic=truth.mosaic).sites for s in row])
    share = np.array([np.mean(channels == c) for c in range(3)])
    held = values["response"]
    factor = Response(tuple(held["red"]), tuple(held["blue"]))(colour)
    if thing.kind == "comet":
        factor = np.array(_spec(truth, thing)["channels"])
    out = np.zeros(len(thing.frame))
    for i, k in enumerate(thing.frame):
        frame = truth.frames[k]
        if not thing.inside[i]:
            continue
        width = _spec(truth, thing)["fwhm_pix"] / 2.3548 if thing.kind == "comet" else 0.0
        sky = np.array(frame.sky_adu) / gain + (read / gain) ** 2
        light = thing.flux_adu[i] * factor
        if thing.kind == "streak":
            # The light in the truth is that of all points that can shine onto the sensor.
            bright = light / max(_length_inside(truth, thing, i, STREAK_MARGIN), 1e-9)
            line = line_width(round(frame.fwhm_pix, 2))
            squared = share * bright**2 / ((sky + bright / line / gain) * line)
            out[i] = math.sqrt(float(squared.sum()) * _length_inside(truth, thing, i))
            continue
        area = 4 * math.pi * width**2 if thing.kind == "comet" else point_area(round(frame.fwhm_pix, 2))
        variance = (sky * (1 + 1 / 12) + light / area / gain) * area
        if thing.kind == "variable":
            # Its clouds are known from its neighbours: only its own change counts.
            clear = 10 ** (-0.4 * (thing.mag[i] - np.median(thing.mag)))
            signal = light * (1 - 1 / clear)
            known = share > 0
            # Colours share the floor's cause: the best of them is the limit.
            photons = (
                1 / (share[known] * signal[known] ** 2 / variance[known]).sum()
                if np.any(signal)
                else math.inf
            )
            limit = (floor * light[1] / signal[1]) ** 2 if signal[1] else math.inf
            out[i] = 1 / math.sqrt(photons + limit) if math.isfinite(photons) else 0.0
        else:
            known = share > 0
            out[i] = math.sqrt(float((share[known] * light[known] ** 2 / variance[known]).sum()))
    return out


@functools.cache
def point_area(fwhm_pix: float) -> float:
    """Effective area of a star seen by square pixels, px**2: 1 / sum(p**2), the mean of all phases."""
    density, fine = _moffat(fwhm_pix)
    total = np.cumsum(np.cumsum(np.pad(density, ((1, 0), (1, 0))), axis=0), axis=1)
    seen = total[fine:, fine:] - total[:-fine, fine:] - total[fine:, :-fine] + total[:-fine, :-fine]
    return float(fine**2 / np.sum((seen / density.sum()) ** 2))


@functools.cache
def line_width(fwhm_pix: float) -> float:
    """Effective width of a line seen by square pixels, px: 1 / sum(p**2) across it, the mean of all phases."""
    density, fine = _moffat(fwhm_pix)
    total = np.cumsum(np.pad(density.sum(axis=0), (1, 0)))
    seen = total[fine:] - total[:-fine]
    return float(fine / np.sum((seen / density.sum()) ** 2))


def _moffat(fwhm_pix: float) -> tuple[np.ndarray, int]:
    """A star's profile on a fine grid, and its points along a pixel."""
    fine = 7
    half = math.ceil(5 * fwhm_pix) * fine
    u = np.arange(-half, half + 1) / fine
    alpha = 0.5 * fwhm_pix / np.sqrt(2 ** (1 / MOFFAT_BETA) - 1)
    return (1 + (u[:, None] ** 2 + u[None, :] ** 2) / alpha**2) ** -MOFFAT_BETA, fine


def _typical(kind: str, seen: np.ndarray) -> float:
    """One S/N per sighting: the median of frames that show it; of a variable's the rms over the night."""
    there = seen[seen > 0]
    if not len(there):
        return 0.0
    if kind == "variable":
        return float(np.sqrt(np.mean(seen**2)))
    return float(np.median(there))


def _length_inside(truth: Truth, thing: TrueObject, i: int, margin: float = 0.0) -> float:
    """How much of a streak falls on the sensor and a margin about it, pixels."""
    ny, nx = truth.shape
    t = np.linspace(0, 1, 2000)
    x = thing.x[i] + t * (thing.x_end[i] - thing.x[i])
    y = thing.y[i] + t * (thing.y_end[i] - thing.y[i])
    low, right, top = -0.5 - margin, nx - 0.5 + margin, ny - 0.5 + margin
    inside = (x > low) & (y > low) & (x < right) & (y < top)
    return float(inside.mean() * np.hypot(thing.x_end[i] - thing.x[i], thing.y_end[i] - thing.y[i]))


def _spec(truth: Truth, thing: TrueObject) -> dict[str, Any]:
    """The options that an object was planted with."""
    return dict(truth.parameters["objects"][_place(truth, thing)])


def _place(truth: Truth, thing: TrueObject) -> int:
    """Which of the planted objects it is: those of later frames than the night has are not in the truth."""
    own = next(n for n, o in enumerate(truth.objects) if o is thing)
    kept = [
        n
        for n, o in enumerate(truth.parameters["objects"])
        if not ("adu_per_pix" in o and o["frame"] >= len(truth.frames))
    ]
    return kept[own]


def _colour(truth: Truth, thing: TrueObject) -> float:
    """An object's colour index."""
    return float(_spec(truth, thing).get("colour", 0.6))


def _is_it(truth: Truth, thing: TrueObject, kind: str, row: Mapping[str, Any], reference: int) -> bool:
    """Whether a change lies where a planted object is."""
    x, y = float(row["x_pix"]), float(row["y_pix"])
    reach = _REACH[kind]
    if kind == "streak":
        if str(row["kind"]) != "streak" or int(row["first_frame"]) not in thing.frame:
            return False
        a, b = (
            truth.to_reference(int(thing.frame[0]), reference, u[0], v[0])
            for u, v in ((thing.x, thing.y), (thing.x_end, thing.y_end))
        )
        dx, dy = float(b[0] - a[0]), float(b[1] - a[1])
        length = math.hypot(dx, dy)
        away = [
            abs((u - float(a[0])) * dy - (v - float(a[1])) * dx) / length
            for u, v in ((x, y), (float(row["x_end_pix"]), float(row["y_end_pix"])))
        ]
        return max(away) < reach
    tx, ty = truth.sky_to_pixel(reference, thing.ra_deg, thing.dec_deg)
    if kind in ("variable", "transient"):
        return math.hypot(x - tx[0], y - ty[0]) < reach
    ends = [(int(row["first_frame"]), x, y)]
    x_end, y_end = row["x_end_pix"], row["y_end_pix"]
    if not np.ma.is_masked(x_end) and np.isfinite(x_end):
        ends.append((int(row["last_frame"]), float(x_end), float(y_end)))
    return all(math.hypot(u - tx[k], v - ty[k]) < reach for k, u, v in ends)

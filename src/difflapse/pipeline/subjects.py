"""Which changes get a clip, what is said of each, and which window of each frame shows it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from difflapse.model.times import iso_utc
from difflapse.pipeline.context import Night
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.records import Canvas

MOST_CLIPS = 12
MOST_FRAMES = 60
"""Of the night in a clip: more are passed over evenly."""
IN_BEST = 6
_PICTURES = 8
"""Of all clips for each frame of the night, at most (but the best six clips are made in any case)."""
_HALF, _MOST_HALF = 24, 100
"""Product pixels from the middle of a window to its edge: about a point, and at most."""
_ORDER = ("comet", "transient", "mover", "variable", "streak", "unknown")


@dataclass(frozen=True)
class Subject:
    """One change, as a clip shows it."""

    number: int
    kind: str
    stem: str
    """Name of the clip, without ending."""
    title: str
    subtitle: str
    frames: tuple[int, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    """Where it is in each of them, native pixels of the reference."""
    corner: tuple[int, int]
    """(i, j) of the window on the product grid."""
    shape: tuple[int, int]
    """(ny, nx) of the window."""
    first: int
    last: int
    """Frames in which it was sighted first and last."""
    ends: tuple[tuple[float, float], tuple[float, float]] | None = None
    """Of a streak, native pixels of the reference."""

    @property
    def moves(self) -> bool:
        """Whether other stars lie behind it in each frame."""
        return self.kind in ("mover", "comet")

    @property
    def fills(self) -> bool:
        """Whether it is itself about as large as the window: no frame is drawn around it."""
        return self.kind in ("streak", "comet")

    @property
    def array(self) -> str:
        """Name of the night's array in which its windows lie."""
        return f"clip-{self.number}"


def choose(desk: Desk, table: Any) -> list[Subject]:
    """The changes that get a clip, the best first: kinds take turns, so that no kind crowds out the others.

    Parameters
    ----------
    desk : Desk
        The night.
    table : Table
        Its `changes.ecsv`.
    """
    night = desk.night
    frames = [k for k in desk.alive() if desk.value("alignment", k).method != "interpolated"]
    queues = {
        kind: sorted(
            (row for row in table if str(row["kind"]) == kind), key=lambda row: -abs(_number(row, "snr"))
        )
        for kind in dict.fromkeys([*_ORDER, *(str(kind) for kind in table["kind"])])
    }
    ranked = []
    while any(queues.values()):
        ranked += [queue.pop(0) for queue in queues.values() if queue]
    chosen: list[Subject] = []
    pictures = 0
    for row in ranked:
        if len(chosen) == MOST_CLIPS:
            break
        subject = _subject(night, row, frames)
        if subject is None:
            continue
        pictures += len(subject.frames)
        if len(chosen) >= IN_BEST and pictures > _PICTURES * len(frames):
            break
        chosen.append(subject)
    return chosen


def _subject(night: Night, row: Any, frames: list[int]) -> Subject | None:
    """What a row of `changes.ecsv` says, for a clip; None where it lies outside of the products."""
    canvas: Canvas = night.shared("canvas")
    grid = canvas.grid
    kind, number = str(row["kind"]), int(row["change"])
    first, last = (int(_number(row, name, frames[n])) for name, n in (("first_frame", 0), ("last_frame", -1)))
    x0, y0 = _number(row, "x_pix"), _number(row, "y_pix")
    x1, y1 = _number(row, "x_end_pix", x0), _number(row, "y_end_pix", y0)
    if not np.isfinite([x0, y0, x1, y1]).all():
        return None
    if kind == "streak":  # it is there once: a few frames before and after say so
        near = [n for n, k in enumerate(frames) if first <= k <= last] or [0]
        frames = frames[max(0, near[0] - 6) : near[-1] + 7]
    spread = np.linspace(0, len(frames) - 1, min(MOST_FRAMES, len(frames))).round().astype(int)
    shown = sorted({frames[n] for n in spread} | {k for k in (first, last) if k in frames})
    moves = kind in ("mover", "comet") and last > first
    part = np.full(len(shown), 0.5 if kind == "streak" else 0.0)
    if moves:
        times = [night.frames[k].mid_mjd for k in (*shown, first, last)]
        clock = np.array(times if None not in times else (*shown, first, last), float)
        part = (clock[:-2] - clock[-2]) / (clock[-1] - clock[-2])
    x, y = x0 + part * (x1 - x0), y0 + part * (y1 - y0)
    ends_x, ends_y = ([x0, x1], [y0, y1]) if kind == "streak" else (x, y)
    i, j = grid.from_native(
        np.array([np.min(ends_x), np.max(ends_x)]), np.array([np.min(ends_y), np.max(ends_y)])
    )
    width = _number(row, "width_pix", 0.0) / grid.step
    half = max(_HALF, 0.5 * float(max(np.ptp(i), np.ptp(j))) + max(12, 1.5 * width), 2.5 * width)
    size = 2 * round(min(half, _MOST_HALF))
    high, wide = min(size, grid.shape[0]), min(size, grid.shape[1])
    corner = tuple(
        min(max(0, round(float(np.mean(v)) - n / 2)), most - n)
        for v, n, most in ((i, wide, grid.shape[1]), (j, high, grid.shape[0]))
    )
    if not (-size < np.mean(i) < grid.shape[1] + size and -size < np.mean(j) < grid.shape[0] + size):
        return None
    name = str(row["name"]) if "name" in row.colnames else ""
    stem = re.sub(r"[^\w.+-]+", "-", name) or f"change-{number:03d}"
    return Subject(
        number, kind, stem, name or f"{kind} {number}", _about(night, row, kind, first, last), tuple(shown),
        tuple(x.tolist()), tuple(y.tolist()), (corner[0], corner[1]), (high, wide), first, last,
        ((x0, y0), (x1, y1)) if kind == "streak" and (x0, y0) != (x1, y1) else None,
    )  # fmt: skip


def _about(night: Night, row: Any, kind: str, first: int, last: int) -> str:
    """The figures of a change, in a line."""
    said = [f"best S/N {abs(_number(row, 'snr')):.0f}"]
    if np.isfinite(amplitude := _number(row, "amplitude_mag")):
        said.append(f"changes by {amplitude:.2f} mag")
    if np.isfinite(rate := _number(row, "rate_arcsec_per_hour")):
        said.append(f"moves by {rate:.0f} arcsec an hour")
    elif np.isfinite(rate := _number(row, "rate_pix_per_hour")):
        said.append(f"moves by {rate:.1f} px an hour")
    ra, dec = _number(row, "ra_deg"), _number(row, "dec_deg")
    if np.isfinite(ra + dec):
        said.append(f"RA {ra:.4f} Dec {dec:+.4f}")
    times = [night.frames[k].mid_mjd for k in (first, last) if 0 <= k < len(night.frames)]
    if kind in ("streak", "transient") and times and times[0] is not None:
        said.append(f"first seen {iso_utc(times[0], 0)[11:]} UTC")
    return ", ".join(said)


def _number(row: Any, name: str, unknown: float = float("nan")) -> float:
    """A figure of a row; `unknown` where it is masked or NaN, or there is no such column."""
    if name not in row.colnames or np.ma.is_masked(row[name]) or not np.isfinite(row[name]):
        return unknown
    return float(row[name])

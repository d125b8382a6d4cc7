"""Light curves made small enough for a page: a star's points as bytes, stars by the hundred in a file."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np

POINT_BYTES = 4
"""Of one point: value 2, error 1, flag 1."""
MISSING = 65535
CHUNK_BYTES = 500_000
"""Of the points in one file, about: what a click waits for."""
MOST_BYTES = 32_000_000
"""Of all files, as text; the rest of the page's 40 MB is for everything else."""
_AS_TEXT = 4 / 3
"""base64."""


@dataclass(frozen=True, eq=False)
class Curves:
    """Quantised light curves, by chunk."""

    stars: np.ndarray
    """(n,) numbers of the stars that have a curve, in the order of the chunks."""
    channels: tuple[str, ...]
    frames: np.ndarray
    """(k,) numbers of the frames, the same for all stars."""
    per_chunk: int
    """Stars in each chunk but the last."""
    chunks: tuple[str, ...]
    """base64 of each chunk, see `pack_curves`."""
    note: str
    """What was left out, and why; empty where nothing was."""

    def to_mapping(self) -> dict[str, object]:
        """What the page must know to ask for a star's chunk."""
        return {
            "stars": self.stars,
            "channels": list(self.channels),
            "frames": self.frames,
            "perChunk": self.per_chunk,
            "chunks": len(self.chunks),
            "note": self.note,
        }


def pack_curves(
    star: np.ndarray,
    frame: np.ndarray,
    channel: np.ndarray,
    flux: np.ndarray,
    error: np.ndarray,
    flags: np.ndarray,
    order: np.ndarray,
    most_bytes: int = MOST_BYTES,
) -> Curves:
    """Quantise light curves to four bytes a point; not for measuring, that is what `lightcurves.fits` is for.

    Parameters
    ----------
    star, frame : (rows,) int array
        Which star and frame each row is of.
    channel : (rows,) str array
        ``R``, ``G``, ``B`` or ``L``.
    flux, error : (rows,) float array
        Relative flux (1 = the star's median) and its standard error; NaN where unknown.
    flags : (rows,) int array
        Not 0: doubtful. Kept as one bit.
    order : (n,) int array
        Stars in the order in which they are kept: the first as far as there is room.
    most_bytes : int
        Size of all chunks as text, at most.

    Returns
    -------
    Curves
        A chunk is, for each of its stars and channels: float32 lowest value, float32 step, float32 step of the
        errors; then for each frame uint16 value (65535: none), uint8 error, uint8 flag; little-endian,
        arrays of all stars' parts one behind the other (three floats, values, errors, flags).

    Notes
    -----
    The step of values is 1/65534 of the star's range, that of errors 1/255 of the largest: both far below the
    noise. Where not all fits, first the channels beside G (or the only one) go, then the last stars.
    """
    names = sorted(set(np.unique(channel).tolist()), key="LGRB".index)
    frames = np.unique(frame)
    have = np.unique(star)
    ordered = order[np.isin(order, have)]
    wanted = np.concatenate([ordered, have[~np.isin(have, ordered)]])
    note = ""
    per_star = _AS_TEXT * (POINT_BYTES * len(frames) + 12)
    if per_star * len(names) * len(wanted) > most_bytes and len(names) > 1:
        note = f"Too many points for a page: colours other than {names[0]} are in lightcurves.fits only."
        names = names[:1]
    room = max(1, int(most_bytes / per_star / max(len(names), 1)))
    if room < len(wanted):
        note += (
            f" Curves of {room} of {len(wanted)} stars are here, flagged and changing ones before the brightest; "
            "lightcurves.fits has all."
        )
        wanted = wanted[:room]
    per_chunk = max(1, int(CHUNK_BYTES / (max(len(names), 1) * (POINT_BYTES * max(len(frames), 1) + 12))))
    place = np.full(int(have.max(initial=-1)) + 1, -1, np.int64)
    place[wanted] = np.arange(len(wanted))
    letter = np.full(len(channel), -1, np.int64)
    for n, name in enumerate(names):
        letter[channel == name] = n
    kept = (place[star] >= 0) & (letter >= 0)
    shape = (len(wanted), len(names), len(frames))
    at = (place[star[kept]], letter[kept], np.searchsorted(frames, frame[kept]))
    values, errors, doubtful = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, np.uint8)
    values[at], errors[at], doubtful[at] = flux[kept], error[kept], flags[kept] != 0
    chunks = [
        _chunk(*(part[n : n + per_chunk] for part in (values, errors, doubtful)))
        for n in range(0, len(wanted), per_chunk)
    ]
    return Curves(wanted, tuple(names), frames, per_chunk, tuple(chunks), note.strip())


def _chunk(values: np.ndarray, errors: np.ndarray, doubtful: np.ndarray) -> str:
    """Some stars' points as base64."""
    known = np.isfinite(values)
    low = np.where(known, values, np.inf).min(axis=2)
    high = np.where(known, values, -np.inf).max(axis=2)
    low, high = np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 0.0)
    step = np.maximum((high - low) / (MISSING - 1), np.finfo(np.float32).tiny)
    errors = np.where(np.isfinite(errors) & known, errors, 0.0)
    error_step = np.maximum(errors.max(axis=2) / 255, np.finfo(np.float32).tiny)
    scaled = np.rint((np.where(known, values, low[..., None]) - low[..., None]) / step[..., None])
    packed = np.where(known, np.clip(scaled, 0, MISSING - 1), MISSING).astype("<u2")
    parts = (
        np.stack([low, step, error_step], axis=2).astype("<f4"),
        packed,
        np.rint(errors / error_step[..., None]).astype(np.uint8),
        doubtful,
    )
    return base64.b64encode(b"".join(part.tobytes() for part in parts)).decode("ascii")

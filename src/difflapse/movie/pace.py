"""How long each picture stays: all alike, or as in the night, with its gaps."""

from __future__ import annotations

from dataclasses import dataclass

GAP = 1.5
"""Cadences from one frame to the next beyond which there is a gap between them."""
LONGEST_GAP_S = 2.0
"""For which a gap is shown at most: nobody watches the day between two nights."""
_SHORTEST = 0.5
"""Part of the usual time that a picture stays at least: players drop what comes faster."""


@dataclass(frozen=True)
class Stay:
    """How long a picture stays, and the gap after it; seconds of the movie."""

    picture: float
    gap: float = 0.0
    """0: no gap."""
    capped: bool = False
    """The gap is shown for less than its share of the night."""


def stay(now: float | None, following: float | None, cadence_s: float | None, fps: float) -> Stay:
    """How long a picture stays at its true pace.

    Parameters
    ----------
    now, following : float, optional
        Times of the picture and of the next one, MJD; None if unknown, or if there is none.
    cadence_s : float, optional
        Typical time between two frames of the night: it takes ``1 / fps`` seconds of the movie.
    fps : float
        Pictures per second at that cadence.

    Returns
    -------
    Stay
        In proportion to the time that passes until the next picture. Where that is more than 1.5 cadences, the
        picture stays for one, and a gap follows for the rest, 2 s at most.
    """
    usual = 1 / fps
    if now is None or following is None or not cadence_s:
        return Stay(usual)
    passed = (following - now) * 86400 / cadence_s
    if passed <= GAP + 1e-6:  # times are known to some microseconds
        return Stay(usual * max(passed, _SHORTEST))
    rest = usual * (passed - 1)
    longest = max(LONGEST_GAP_S, usual)
    return Stay(usual, min(rest, longest), rest > longest)

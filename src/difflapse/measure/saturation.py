"""Where a camera cuts its pixels, as its frames show it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from difflapse.measure.repair import at_least
from difflapse.model import FrameFacts

_FEWEST = 12
"""Pixels of one value, in all, that show where a camera cuts, ..."""
_FEWEST_EACH = 3
"""... and in each of several frames."""
_MOST = 0.05
"""Share of the pixels that are so bright at most: more are a scene of its own, not stars."""
_UPPER = 0.7
"""Part of a frame's range that is searched, its upper one."""
_WILD = 4
"""Pixels that may lie anywhere above: what no camera wrote."""
_ALIKE = 0.1
"""Share of the commonest value's pixels that the next lower one must have to be cut as well."""
_BELOW, _UNITS = 0.05, 2.5
"""Part of the range below that must be emptier, of whole numbers at least so many units."""
_AGREE = 0.02
"""Part of the range within which frames cut at one level: each may have its own zero."""


def clip_level(data: np.ndarray, hidden: np.ndarray | None = None) -> float | None:
    """The value that so many of a frame's brightest pixels have in common that the camera cuts there.

    Parameters
    ----------
    data : ndarray, shape (ny, nx)
        Native pixels.
    hidden : ndarray of int, optional
        Flat indices of pixels that do not count: a sensor's defects.

    Returns
    -------
    float or None
        None where the brightest pixels differ, as stars' do. Cut are 12 pixels or more, at least twice as many as have
        the 5 % of the range below, and four times as many as lie above; a twentieth of all pixels is no star.
    """
    found = _pile(data, hidden)
    return found[0] if found is not None and found[1] >= _FEWEST else None


def common_clip_level(frames: Sequence[np.ndarray], hidden: np.ndarray | None = None) -> float | None:
    """The level at which a camera cuts, from several frames of a night.

    Parameters
    ----------
    frames : sequence of ndarray, shape (ny, nx)
        Native pixels, in time order or not.
    hidden : ndarray of int, optional
        As for `clip_level`.

    Returns
    -------
    float or None
        A level that two frames or more show, with 3 pixels each and 12 in all: a lone frame may show a lone thing.
        Where their levels differ, by 2 % of the range at most, for each has its own zero, one that lies as far below
        the lowest of them as that is below the highest. Of one frame alone, what `clip_level` says of it.
    """
    if len(frames) < 2:
        return clip_level(frames[0], hidden) if len(frames) else None
    piles = [pile for frame in frames if (pile := _pile(frame, hidden)) is not None]
    if not piles:
        return None
    middle = float(np.median([level for level, _, _ in piles]))
    own = [pile for pile in piles if abs(pile[0] - middle) <= _AGREE * pile[2]]
    if len(own) < 2 or sum(n for _, n, _ in own) < _FEWEST:
        return None
    low, high = min(level for level, _, _ in own), max(level for level, _, _ in own)
    return low - (high - low)


def saturation_of(facts: FrameFacts, cut: float | None, header_holds: bool = True) -> float | None:
    """The level at and above which a frame's pixels count as saturated, ADU; None where nothing tells.

    Parameters
    ----------
    facts : FrameFacts
        What the header, or what is known of the camera, says; else the most that the type holds.
    cut : float, optional
        Where the night's frames show that the camera cuts. A level above it is never reached.
    header_holds : bool
        Whether the header's level can be true (`is_plausible`).
    """
    known = facts.saturation_adu
    if not header_holds:
        known = _most(facts)
    return known if cut is None else cut if known is None else min(known, cut)


def is_plausible(facts: FrameFacts, frames: Sequence[np.ndarray]) -> bool:
    """Whether a header's saturation can be true: not where most pixels of most frames lie above it, some far above."""
    level = facts.saturation_adu
    if level is None or not len(frames):
        return True
    beyond = [float(np.median(f[::7, ::5])) > level and float(f.max()) > 1.2 * level for f in frames]
    return 2 * sum(beyond) <= len(frames)


def _most(facts: FrameFacts) -> float | None:
    kind = np.dtype(facts.dtype)
    return float(np.iinfo(kind).max) if kind.kind in "iu" else None


def _pile(data: np.ndarray, hidden: np.ndarray | None) -> tuple[float, int, float] | None:
    """Lowest value and number of the pixels that pile up in the upper part of a frame's range, and that range."""
    if not data.size:
        return None
    values = np.ascontiguousarray(data).reshape(-1)
    rows = np.sort(data.max(axis=1))
    # A few wild pixels do not stretch the range: each row has a greatest value, and few rows have a wild one.
    top = float(rows[-1 - _WILD] if len(rows) > 4 * _WILD else rows[-1])
    low = float(np.median(data[::7, ::5]))
    span = top - low
    if not np.isfinite(span) or span <= 0:
        return None
    index = at_least(values, top - _UPPER * span)
    if hidden is not None and len(hidden):
        index = np.setdiff1d(index, hidden, assume_unique=True)
    if not 0 < len(index) <= _MOST * data.size:
        return None
    value, count = np.unique(values[index], return_counts=True)
    value = value.astype(float)
    most = len(count) - 1 - int(np.argmax(count[::-1]))
    n, band = int(count[most]), _BELOW * span if data.dtype.kind == "f" else max(_BELOW * span, _UNITS)
    below = int(count[(value >= value[most] - band) & (value < value[most])].sum())
    above = int(count[most + 1 :].sum())
    # What lies below must have been looked at, all of it.
    if value[most] - band < top - _UPPER * span or n < _FEWEST_EACH or 2 * below > n or 4 * above > n:
        return None
    # Some cameras cut at one value or the next.
    first = most
    while first and value[first] - value[first - 1] <= 1 and count[first - 1] >= _ALIKE * n:
        first -= 1
    return float(value[first]), int(count[first : most + 1].sum()), span

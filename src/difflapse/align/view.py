"""What a finding method sees of a frame, and how it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from difflapse.model import FrameFacts, Stars


@dataclass(frozen=True, eq=False)
class Reduced:
    """A small picture of a frame, for the methods that look at pixels rather than at stars."""

    data: np.ndarray
    """(ny, nx) float32, the background roughly removed, about 1 Mpx or less."""
    mask: np.ndarray
    """(ny, nx) bool, True where a pixel is bad."""
    step: float
    """Native pixels per reduced pixel."""
    offset: float
    """``native = step * reduced + offset`` on both axes; binning by 4 has step 4 and offset 1.5."""


@dataclass(frozen=True, eq=False)
class View:
    """What alignment sees of a frame: its facts, its stars, and a small picture made only when asked for."""

    facts: FrameFacts
    stars: Stars
    """Brightest first, native pixels."""
    picture: Callable[[], Reduced]
    """Makes the small picture; may be called more than once. Its result is never written to."""


@dataclass(frozen=True)
class AlignOptions:
    """How alignment is asked for; the names and values are those of the command line."""

    method: str = "auto"
    """``auto``, ``wcs``, ``asterism``, ``features``, ``phase`` or ``none``."""
    transform: str = "auto"
    """``auto``, or one of `difflapse.model.transform.MODELS`."""
    detector: str = "orb"
    """Keypoints of `features`: ``orb``, ``akaze`` or ``sift``."""

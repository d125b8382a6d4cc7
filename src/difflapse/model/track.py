"""Something that moves over the sky, and where it is on the reference, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class SkyPath:
    """Times and places on the sky between which a target moves smoothly."""

    name: str
    mjd: np.ndarray
    """(n,) MJD (UTC), increasing."""
    ra_deg: np.ndarray
    """(n,) right ascension, degrees, ICRS."""
    dec_deg: np.ndarray
    """(n,) declination, degrees, ICRS."""
    computed: bool = False
    """Whether the places are an ephemeris', to be gone through exactly and not to be left at the ends; else
    they are somebody's readings, each a little off."""


@dataclass(frozen=True, eq=False)
class Track:
    """Where a followed target is on the reference."""

    name: str
    """What is followed: ``comet``, or what the ephemeris calls it."""
    x: np.ndarray
    """(n,) native pixels of the reference for each frame of the night; NaN where it is not known."""
    y: np.ndarray
    """(n,) likewise."""
    note: str = ""
    """How it was found, and how well."""

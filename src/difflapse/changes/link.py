"""Linking: the sightings of one thing become one change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from difflapse.model.sightings import Change, Sightings


@dataclass(frozen=True)
class LinkOptions:
    """How much is believed."""

    false_alarms: float = 0.1
    """False changes in a night by noise alone, of each kind."""
    fwhm: float = 2.0
    """Of a star, native pixels."""
    n_cells: float = 1e6
    """Independent places on one frame."""


def link(sightings: Sightings, times: np.ndarray, options: LinkOptions) -> list[Change]:
    """Link what is not refused: moving things along straight tracks, then what stands still, then what is left.

    Parameters
    ----------
    sightings : Sightings
        Of the whole night.
    times : ndarray, shape (n_frames,)
        Mid-exposure times, hours from any start; frame numbers where they are not known.
    options : LinkOptions
        How much is believed.

    Returns
    -------
    list of Change
        Strongest first; a sighting is in one of them at most.
    """
    raise NotImplementedError

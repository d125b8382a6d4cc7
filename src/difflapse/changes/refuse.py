"""Refusing what a difference shows but the sky does not, each with its reason."""

from __future__ import annotations

import numpy as np

from difflapse.model import ProductGrid
from difflapse.model.sightings import Sightings


def refuse(
    sightings: Sightings, sigma: np.ndarray, mask: np.ndarray, colours: np.ndarray | None, grid: ProductGrid
) -> Sightings:
    """Flag the sightings of one frame that its own pixels speak against: see `REASONS`.

    Parameters
    ----------
    sightings : Sightings
        As `find` gives them.
    sigma : ndarray, shape (ny, nx), float32
        What they were found on.
    mask : ndarray, shape (ny, nx), uint8
        Bits of `difflapse.model.bits`.
    colours : ndarray, shape (c, n), optional
        S/N of each sighting in each colour by itself.
    grid : ProductGrid
        Where those pixels lie on the reference.

    Returns
    -------
    Sightings
        The same, with flags.
    """
    raise NotImplementedError

"""Finding what stands out in one difference: points of several widths, and streaks; nothing is refused here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from difflapse.model import ProductGrid
from difflapse.model.sightings import Sightings


@dataclass(frozen=True)
class FindOptions:
    """What is looked for."""

    fwhm: float
    """Of a star, product pixels."""
    floor: float = 4.5
    """Least S/N of a point that is kept: weak sightings count where several lie on one track."""
    most: int = 3000
    """Sightings kept of one frame, the strongest."""
    streaks: bool = True


def find(sigma: np.ndarray, grid: ProductGrid, options: FindOptions, frame: int = 0) -> Sightings:
    """Find what stands out in one difference, brighter or fainter; it is not judged here.

    Parameters
    ----------
    sigma : ndarray, shape (ny, nx), float32
        The difference of all colours in units of its expected noise, NaN where masked.
    grid : ProductGrid
        Where its pixels lie on the reference.
    options : FindOptions
        What is looked for.
    frame : int
        The number that its sightings bear.

    Returns
    -------
    Sightings
        Strongest first; positions on the reference, and no flags but `CUT`.
    """
    raise NotImplementedError

"""How large things are on the sky: a pixel of the reference, and the field of the products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from difflapse.align.wcs import celestial
from difflapse.pipeline.context import Night
from difflapse.pipeline.records import Canvas, Reference
from difflapse.pipeline.sky import place_of


@dataclass(frozen=True)
class Field:
    """What the products cover."""

    ra_deg: float
    dec_deg: float
    """Of the middle."""
    width_deg: float
    height_deg: float
    """Through the middle, from edge to edge."""
    radius_deg: float
    """From the middle to the farthest corner."""


def field_of(night: Night) -> Field | None:
    """The field of a night's products; None where the reference has no WCS."""
    place = place_of(night)
    if not place:
        return None
    canvas: Canvas = night.shared("canvas")
    ny, nx = canvas.grid.shape
    # The middle, the middles of the edges, the corners; edges lie half a pixel beyond the outer centres.
    i = np.array([0.5, 0, 1, 0.5, 0.5, 0, 1, 0, 1]) * nx - 0.5
    j = np.array([0.5, 0.5, 0.5, 0, 1, 0, 0, 1, 1]) * ny - 0.5
    x, y = canvas.grid.to_native(i, j)
    ra, dec = (np.asarray(v) for v in celestial(place.wcs_header).all_pix2world(x, y, 0))
    reach = separation_arcsec(ra[0], dec[0], ra[1:], dec[1:]) / 3600
    return Field(
        float(ra[0]),
        float(dec[0]),
        float(reach[0] + reach[1]),
        float(reach[2] + reach[3]),
        float(reach[4:].max()),
    )


def reference_pixel_arcsec(night: Night) -> float | None:
    """Size of a native pixel of the reference; None without WCS."""
    place = place_of(night)
    reference: Reference = night.shared("reference")
    return pixel_arcsec(place.wcs_header, reference.facts.shape) if place else None


def pixel_arcsec(wcs_header: str, shape: tuple[int, int]) -> float:
    """Size of a native pixel in the middle of a frame of `shape` (ny, nx), arcseconds, the mean of its two sides."""
    x, y = 0.5 * (shape[1] - 1), 0.5 * (shape[0] - 1)
    at = np.array([(x - 0.5, y), (x + 0.5, y), (x, y - 0.5), (x, y + 0.5)])
    ra, dec = (np.asarray(v) for v in celestial(wcs_header).all_pix2world(*at.T, 0))
    return float(separation_arcsec(ra[::2], dec[::2], ra[1::2], dec[1::2]).mean())


def separation_arcsec(
    ra: np.ndarray | float, dec: np.ndarray | float, ra2: np.ndarray | float, dec2: np.ndarray | float
) -> np.ndarray:
    """Angle between places on the sky (degrees), arcseconds, good for small and large ones."""
    a, d, a2, d2 = (np.radians(v) for v in (ra, dec, ra2, dec2))
    h = np.sin(0.5 * (d2 - d)) ** 2 + np.cos(d) * np.cos(d2) * np.sin(0.5 * (a2 - a)) ** 2
    return np.asarray(np.degrees(2 * np.arcsin(np.sqrt(np.clip(h, 0, 1)))) * 3600)

"""Beside saturated pixels: how much more a frame errs there than at light as bright elsewhere, ring by ring."""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np

from difflapse.changes.starlight import scatter_by_light
from difflapse.model import ProductGrid, bits
from difflapse.model.sightings import BLEED, STAR, Sightings

RINGS = 6
"""Rings about saturated pixels, each half a star's width wide; one number more stands for all that is further."""
_LEAST = 40
"""Pixels that tell how much a ring errs; in one with fewer nothing is believed."""
_CHUNK = 64
"""Pixels of a row that are passed over together where nothing is saturated, or near what is."""
_SPOILT = 2
"""Rings within which nothing is believed: charge has spilled there, and what is filled in is a guess."""


def rings(mask: np.ndarray, fwhm: float) -> np.ndarray:
    """In which ring about the saturated pixels each pixel lies.

    Parameters
    ----------
    mask : ndarray, shape (ny, nx), uint8
        Bits of `difflapse.model.bits`.
    fwhm : float
        Of a star, product pixels.

    Returns
    -------
    ndarray, shape (ny, nx), uint8
        0 to `RINGS` - 1, `RINGS` for what is further.
    """
    out = np.empty(mask.shape, np.uint8)
    width = 0.5 * fwhm
    reach = int(np.ceil(RINGS * width))
    away = np.arange(-reach, reach + 1)
    ring = np.minimum(np.hypot(away, away[:, None]) / width, RINGS).astype(np.uint8)
    _rings(mask, np.uint8(bits.SATURATED), ring, out)
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _rings(mask: np.ndarray, bit: np.uint8, ring: np.ndarray, out: np.ndarray) -> None:
    """`ring` (2 r + 1, 2 r + 1) tells the ring about the pixel in its middle."""
    ny, nx = mask.shape
    reach = len(ring) // 2
    out[:] = RINGS
    for j in range(ny):
        for first in range(0, nx, _CHUNK):
            part = mask[j, first : first + _CHUNK]
            held = np.uint8(0)
            for i in range(len(part)):
                held |= part[i]
            if held & bit == 0:
                continue
            for i in range(first, first + len(part)):
                if mask[j, i] & bit == 0:
                    continue
                inner = i > 0 and i < nx - 1 and j > 0 and j < ny - 1
                if inner and mask[j, i - 1] & mask[j, i + 1] & mask[j - 1, i] & mask[j + 1, i] & bit:
                    out[j, i] = 0
                    continue
                left, right = max(i - reach, 0), min(i + reach + 1, nx)
                for y in range(max(j - reach, 0), min(j + reach + 1, ny)):
                    own = ring[y - j + reach, left - i + reach : right - i + reach]
                    to = out[y, left:right]
                    for x in range(len(to)):
                        to[x] = min(to[x], own[x])


def errors(snr: np.ndarray, ring: np.ndarray, light: np.ndarray, scatter: np.ndarray) -> np.ndarray:
    """How a filtered difference scatters in each ring, over what it does where the template is as bright.

    Parameters
    ----------
    snr : ndarray, shape (ny, nx), float32
        The filtered difference of a whole frame, 0 where unknown.
    ring : ndarray, shape (ny, nx), uint8
        As `rings` gives it.
    light : ndarray, shape (ny, nx), uint8
        How bright the template is there (`Starlight.bins`).
    scatter : ndarray, shape (n_bins,)
        Of the frame where the template is so bright.

    Returns
    -------
    ndarray, shape (`RINGS` + 1,)
        1 or more; infinite in rings in which nothing is believed, 1 for all that is further.
    """
    judged, own = _gather_near(snr, ring, light, np.asarray(scatter, float))
    known = np.bincount(own[judged != 0], minlength=RINGS)[:RINGS]
    out = np.ones(RINGS + 1)
    out[:RINGS] = np.where(known >= _LEAST, scatter_by_light(judged, own)[1][:RINGS], np.inf)
    out[:_SPOILT] = np.inf
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _gather_near(
    snr: np.ndarray, ring: np.ndarray, light: np.ndarray, scatter: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What is shown in the rings over the scatter, and the ring, pixel after pixel."""
    # Memory that is not written costs nothing.
    judged, own = np.empty(ring.size, np.float32), np.empty(ring.size, np.uint8)
    ny, nx = ring.shape
    n = 0
    for j in range(ny):
        for first in range(0, nx, _CHUNK):
            part = ring[j, first : first + _CHUNK]
            nearest = np.uint8(RINGS)
            for i in range(len(part)):
                nearest = min(nearest, part[i])
            if nearest == RINGS:
                continue
            for i in range(len(part)):
                if part[i] < RINGS:
                    judged[n] = snr[j, first + i] / scatter[light[j, first + i]]
                    own[n] = part[i]
                    n += 1
    return judged[:n], own[:n]


def by_ring(
    sightings: Sightings, ring: np.ndarray, error: np.ndarray, grid: ProductGrid, believed: float
) -> Sightings:
    """Count the error beside saturated pixels: S/N over it, and nothing believed nearest to them.

    Parameters
    ----------
    sightings : Sightings
        Of one frame.
    ring : ndarray, shape (ny, nx), uint8
        As `rings` gives it.
    error : ndarray, shape (`RINGS` + 1,)
        As `errors` gives it.
    grid : ProductGrid
        Of both.
    believed : float
        S/N, after that, below which a sighting is flagged `STAR`.

    Returns
    -------
    Sightings
        With flags `BLEED` and `STAR`; streaks cross what they like.
    """
    own = error[at(sightings.x, sightings.y, ring, grid)]
    own = np.where(sightings.is_streak, 1.0, own)
    known = np.where(np.isfinite(own), own, 1.0)
    snr = sightings.snr / known
    flags = sightings.flags | np.where(np.isfinite(own), 0, BLEED)
    flags = flags | np.where((known > 1) & (np.abs(snr) < believed), STAR, 0)
    return replace(sightings, snr=snr, flags=flags.astype(sightings.flags.dtype))


def at(x: np.ndarray, y: np.ndarray, ring: np.ndarray, grid: ProductGrid) -> np.ndarray:
    """The ring that places lie in, native pixels of the reference."""
    i, j = grid.nearest(x, y)
    return np.asarray(ring[j, i])

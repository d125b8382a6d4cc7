"""Lanes: what a bright star leaves along the sensor's rows and columns, and the frames that lack it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numba
import numpy as np

from difflapse.changes.starlight import Starlight
from difflapse.model import ProductGrid

BRIGHT = 8
"""Step of the template's brightness from which on a star leaves more than its wings."""
_OFF = 2.0
"""Widths of a star from the edge of a frame's live pixels up to which it does not hold all of the star."""


@dataclass(frozen=True, eq=False)
class Lanes:
    """Two bars of light crossed at each of m bright stars of the template, native pixels of the reference."""

    x: np.ndarray
    y: np.ndarray
    """(m,) float64: the star."""
    row: np.ndarray
    column: np.ndarray
    """(m, 4) float64: x0, x1, y0, y1 of the bar along its row, and of the one along its column."""

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def none(cls) -> Lanes:
        """No bright stars."""
        return cls(np.zeros(0), np.zeros(0), np.zeros((0, 4)), np.zeros((0, 4)))

    def cover(self, which: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Which of the points (x, y) lie on a bar of `which` of the stars, (n,) bool."""
        out = np.zeros(len(x), bool)
        bars = np.concatenate([self.row[which], self.column[which]])
        _cover(bars, np.asarray(x, float), np.asarray(y, float), out)
        return out


def find_lanes(starlight: Starlight, grid: ProductGrid, beyond: np.ndarray, width: float) -> Lanes:
    """Follow the light of bright stars along rows and columns, as far as it goes on in the template.

    Parameters
    ----------
    starlight : Starlight
        Its map says how bright the template is. Saturated stars, which are not in its list, are on the map.
    grid : ProductGrid
        Of the map.
    beyond : ndarray, shape (b, 2)
        Native pixels (x, y) of the reference where bright stars lie off the map, which its frames hold as they drift.
    width : float
        Of the bars of those, native pixels.

    Returns
    -------
    Lanes

    Notes
    -----
    Charge that is left behind, or that spills, makes the light of a star go on along its row or column. It comes
    from the star's own pixels: a frame that does not hold them does not have it, but the template does. A bar is as
    wide as the star's bright part, and as long as light is seen, 5 sigma of one frame, without a gap.
    """
    bins = starlight.bins
    bright = (bins >= BRIGHT).astype(np.uint8)
    n, _, boxes, centres = cv2.connectedComponentsWithStats(bright, connectivity=8)
    # Of each the centre, and the box of its bright part: left, right, top, bottom.
    first, past = boxes[1:n, :2], boxes[1:n, :2] + boxes[1:n, 2:4] - 1
    own = np.column_stack([centres[1:n], first[:, 0], past[:, 0], first[:, 1], past[:, 1]]).astype(float)
    i, j = grid.from_native(*beyond.reshape(-1, 2).T)
    half = 0.5 * width / grid.step
    far = np.column_stack([i, j, i - half, i + half, j - half, j + half])
    stars = np.concatenate([own, far])
    row, column = stars[:, 2:].copy(), stars[:, 2:].copy()
    _follow(bins, stars, row, column)
    x, y = grid.to_native(stars[:, 0], stars[:, 1])
    bars = [np.hstack(grid.to_native(b[:, :2], b[:, 2:])) for b in (row, column)]
    return Lanes(x, y, *bars)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _follow(bins: np.ndarray, stars: np.ndarray, row: np.ndarray, column: np.ndarray) -> None:
    """Widen the stars' boxes to where the light on their rows and columns ends that goes on without a gap."""
    ny, nx = bins.shape
    for m in range(len(stars)):
        i, j = int(round(stars[m, 0])), int(round(stars[m, 1]))
        if 0 <= j < ny:
            _goes_on(bins[j], row[m, 0:2])
        if 0 <= i < nx:
            _goes_on(bins[:, i], column[m, 2:4])


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _goes_on(light: np.ndarray, ends: np.ndarray) -> None:
    """Move both ends of a part of a line, on the map or off it, to where the light beyond them ends."""
    n = len(light)
    left = min(max(int(np.floor(ends[0])), 0), n)
    right = min(max(int(np.ceil(ends[1])), -1), n - 1)
    while left > 0 and light[left - 1] != 0:
        left -= 1
    while right < n - 1 and light[right + 1] != 0:
        right += 1
    ends[0], ends[1] = min(ends[0], float(left)), max(ends[1], float(right))


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _cover(bars: np.ndarray, x: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    for n in range(len(x)):
        for m in range(len(bars)):
            if bars[m, 0] <= x[n] <= bars[m, 1] and bars[m, 2] <= y[n] <= bars[m, 3]:
                out[n] = True
                break


def off_frame(x: np.ndarray, y: np.ndarray, inner: tuple[int, int, int, int], fwhm: float) -> np.ndarray:
    """Which of the stars at (x, y) of a frame it does not hold whole, (m,) bool: near the edge of its live pixels.

    Parameters
    ----------
    x, y : ndarray, shape (m,)
        Native pixels of the frame; NaN is off.
    inner : tuple of int
        First and last live column, first and last live row.
    fwhm : float
        Of a star, native pixels.
    """
    with np.errstate(invalid="ignore"):
        away = np.minimum.reduce([x - inner[0], inner[1] - x, y - inner[2], inner[3] - y])
        return np.asarray(~(away > _OFF * fwhm))

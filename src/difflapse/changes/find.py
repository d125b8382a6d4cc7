"""Finding what stands out in one difference: points, and things some times wider; nothing is refused here."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from difflapse.changes._filter import block_scatter, flatten_rows, peaks, smooth_rows
from difflapse.changes.streaks import find_streaks
from difflapse.model import ProductGrid
from difflapse.model.sightings import CUT, Sightings
from difflapse.mosaic import bin_medians

WIDER = 2.2
"""The second filter's width over a star's: short trails, and what is a little out of focus."""
_HALF_BOX = 7
"""The local background is the mean of a box this far about each pixel, ..."""
_CLIP = np.float32(4.0)
"""... in which nothing counts for more than so many sigma."""
_CELL = 32
"""Product pixels along a cell whose median is taken off before."""
_LEAST_SEEN = 0.6
"""Share of a filter's weight that must fall on pixels that are not masked."""
_MOST_PEAKS = 200_000
"""Of one map, that are looked at."""
_BLOCK = 160
"""Product pixels along a block in which the filtered noise is measured."""


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
    """Whether lines are looked for too."""
    streak_floor: float = 7.0
    """Least S/N of a line: some 1e8 of them are tried."""


@dataclass(frozen=True, eq=False)
class Filtered:
    """A difference filtered for points of one width."""

    snr: np.ndarray
    """(ny, nx) float32, of unit sigma on empty sky; 0 where too little is seen."""
    fwhm: float
    """Of the filter, product pixels."""
    peaks: tuple[np.ndarray, ...]
    """Rows, columns, S/N of its extrema beyond a floor, and how far from there they are highest."""


def find(
    sigma: np.ndarray,
    grid: ProductGrid,
    options: FindOptions,
    frame: int = 0,
    light: np.ndarray | None = None,
) -> Sightings:
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
    light : ndarray of uint8, shape (ny, nx), optional
        How bright the template is there (`starlight`); lines are looked for between the stars.

    Returns
    -------
    Sightings
        Strongest first; positions on the reference, and no flags but `CUT`.

    Notes
    -----
    What is wider than a few stars (a coma, a cloud's edge) is taken off by a clipped mean of the surroundings; the rest
    is filtered with Gaussians of a star's width and of 2.2 times it. Resampling has made neighbours' noise alike, so
    that a filtered map is not of unit sigma by itself: its own robust scatter, by blocks, makes it so. Some 50 ms
    for 4.5 Mpx, and what streaks take.
    """
    return search(sigma, grid, options, frame, light)[0]


def search(
    sigma: np.ndarray,
    grid: ProductGrid,
    options: FindOptions,
    frame: int = 0,
    light: np.ndarray | None = None,
) -> tuple[Sightings, np.ndarray]:
    """As `find`, and the difference filtered for stars, (ny, nx), on which sightings are judged."""
    flat = flatten(sigma)
    maps = [filtered(flat, width, options.floor) for width in (options.fwhm, WIDER * options.fwhm)]
    points = _points(maps, grid, options, frame)
    if not options.streaks:
        return points, maps[0].snr
    lines = find_streaks(flat, grid, options.fwhm, options.streak_floor, frame, light)
    # A line's own peaks are no things of their own.
    reach = 2.5 * options.fwhm * grid.step
    alone = np.ones(len(points), bool)
    for n in range(len(lines)):
        alone &= distance_to_line(points, lines, n) > reach
    return Sightings.joined([lines, points.take(alone)]), maps[0].snr


def distance_to_line(points: Sightings, lines: Sightings, n: int) -> np.ndarray:
    """How far points are from the n-th line, native pixels."""
    dx, dy = lines.x_end[n] - lines.x[n], lines.y_end[n] - lines.y[n]
    t = ((points.x - lines.x[n]) * dx + (points.y - lines.y[n]) * dy) / max(dx * dx + dy * dy, 1e-9)
    t = np.clip(t, 0, 1)
    return np.hypot(points.x - lines.x[n] - t * dx, points.y - lines.y[n] - t * dy)


def flatten(sigma: np.ndarray) -> np.ndarray:
    """A difference less the mean of its surroundings, float32; NaN where it was."""
    out = np.empty(sigma.shape, np.float32)
    flatten_rows(np.asarray(sigma, np.float32), _wide(sigma), _CELL, _HALF_BOX, _CLIP, out)
    return out


def _wide(sigma: np.ndarray) -> np.ndarray:
    """What is wider than some 30 pixels: medians of cells, joined along the rows. Clouds exceed any clip."""
    nx = sigma.shape[1]
    some = np.ascontiguousarray(sigma[::4, ::4], np.float32)
    if min(some.shape) < _CELL // 4:
        return np.zeros((1, nx), np.float32)
    medians = np.nan_to_num(bin_medians(some, None, _CELL // 4))
    my, mx = medians.shape
    wide = cv2.resize(medians, (mx * _CELL, my), interpolation=cv2.INTER_LINEAR)
    more = max(nx - mx * _CELL, 0)
    return np.ascontiguousarray(cv2.copyMakeBorder(wide, 0, 0, 0, more, cv2.BORDER_REPLICATE)[:, :nx])


def filtered(flat: np.ndarray, fwhm: float, floor: float = math.inf) -> Filtered:
    """A flattened difference filtered with a Gaussian, in units of its own robust scatter, and its peaks."""
    kernel = _kernel(fwhm)
    snr = np.empty(flat.shape, np.float32)
    least = np.float32(max(_LEAST_SEEN * float((kernel * kernel).sum()) ** 2, 1e-6))
    smooth_rows(flat, kernel, least, snr)
    return Filtered(snr, fwhm, peaks(snr, _scatter_of(snr), np.float32(floor), _MOST_PEAKS))


def _kernel(fwhm: float) -> np.ndarray:
    """A Gaussian, integrated over pixels."""
    sigma = max(fwhm, 0.8) / 2.3548
    reach = max(1, math.ceil(3 * sigma))
    edges = np.arange(-reach, reach + 2) - 0.5
    cumulative = np.array([0.5 * math.erf(e / sigma / math.sqrt(2)) for e in edges])
    return np.diff(cumulative).astype(np.float32)


def _scatter_of(snr: np.ndarray) -> np.ndarray:
    """Scatter of a filtered map, which is measured in blocks and varies smoothly between them, for `peaks`."""
    ny, nx = snr.shape
    my, mx = max(1, round(ny / _BLOCK)), max(1, round(nx / _BLOCK))
    edges_y, edges_x = np.linspace(0, ny, my + 1).astype(int), np.linspace(0, nx, mx + 1).astype(int)
    scatter = np.empty((my, mx), np.float32)
    block_scatter(snr, edges_y, edges_x, 3, scatter)
    known = scatter[np.isfinite(scatter)]
    if not known.size:
        return np.zeros((0, nx), np.float32)
    usual = max(float(np.median(known)), 1e-3)
    scatter = np.clip(np.where(np.isfinite(scatter), scatter, usual), 0.5 * usual, 4 * usual)
    return np.asarray(cv2.resize(scatter, (nx, my), interpolation=cv2.INTER_LINEAR))


def find_peaks(snr: np.ndarray, grid: ProductGrid, options: FindOptions, frame: int = 0) -> Sightings:
    """The peaks of one filtered map (ny, nx) as it is, for stars of `options.fwhm`; see `find`."""
    found = peaks(snr, np.zeros((0, snr.shape[1]), np.float32), np.float32(options.floor), _MOST_PEAKS)
    return _points([Filtered(snr, options.fwhm, found)], grid, options, frame)


def _points(maps: list[Filtered], grid: ProductGrid, options: FindOptions, frame: int) -> Sightings:
    """The peaks of several filtered maps, each thing once: in the map that shows it best."""
    found = []
    for n, m in enumerate(maps):
        j, i, value, dy, dx = m.peaks
        # Wide filters answer to points too; they are asked for more before they are believed.
        found.append(np.stack([i + dx, j + dy, value, np.full(len(i), float(n))]))
    table = np.concatenate(found, axis=1)
    strength = np.abs(table[2]) * np.where(table[3] > 0, 0.9, 1.0)
    table = table[:, np.argsort(-strength, kind="stable")]
    keep = _once(table[0], table[1], np.sign(table[2]), 1.2 * options.fwhm + 1.0)
    table = table[:, keep]
    cut = table.shape[1] > options.most
    table = table[:, : options.most]
    x, y = grid.to_native(table[0], table[1])
    n = table.shape[1]
    width = np.array([m.fwhm for m in maps])[table[3].astype(int)] * grid.step
    return Sightings(
        np.full(n, frame, np.int32),
        x,
        y,
        table[2],
        width,
        np.full(n, CUT if cut else 0, np.int32),
        error=np.maximum(0.6 * width / np.maximum(np.abs(table[2]), 1.0), 0.08 * grid.step),
    )


def _once(x: np.ndarray, y: np.ndarray, sign: np.ndarray, radius: float) -> np.ndarray:
    """Which of the things at (x, y), strongest first, have no stronger one of their sign within a radius."""
    from scipy.spatial import cKDTree

    keep = np.ones(len(x), bool)
    if len(x) < 2:
        return keep
    # Opposite signs are put far apart, so that they never meet.
    for a, b in sorted(cKDTree(np.column_stack([x, y, 1e6 * sign])).query_pairs(radius)):
        if keep[a]:
            keep[b] = False
    return keep

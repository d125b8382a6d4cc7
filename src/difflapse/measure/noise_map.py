"""How the noise of an empty pixel varies over a frame: vignetting and moonlight change it by tens of percent."""

from __future__ import annotations

import numpy as np

from difflapse.measure.background import noise_between_stars
from difflapse.mosaic import sites

_CELLS = (6, 8)
_PIXELS = 5000
"""Pixels of each cell that are looked at, all colours together: its noise is then known to 2.5 %."""
_BOUNDS = (0.2, 5.0)


def noise_shape(data: np.ndarray, pattern: str, mask: np.ndarray | None = None) -> np.ndarray:
    """Measure the variance of an empty pixel over a frame, relative to its mean over the frame, all colours together.

    Parameters
    ----------
    data : ndarray, shape (ny, nx)
        Native pixels.
    pattern : str
        Mosaic in array order; empty for monochrome.
    mask : ndarray of bool, shape (ny, nx), optional
        True = bad.

    Returns
    -------
    ndarray, shape (6,), float64
        Coefficients for `relative_variance`: a smooth surface through the cells' robust noise, cells that
        stand out left out. All but the first are 0 where too few cells can be measured.
    """
    step = 2 if pattern else 1
    ny, nx = data.shape[0] // step, data.shape[1] // step
    used = sites(pattern)
    edges_y = np.linspace(0, ny, _CELLS[0] + 1).astype(int)
    edges_x = np.linspace(0, nx, _CELLS[1] + 1).astype(int)
    variance = np.zeros(_CELLS)
    rows_wanted = max(1, _PIXELS * _CELLS[1] // max(nx * len(used), 1))
    for site in used:
        plane = data[site.y :: step, site.x :: step]
        bad = None if mask is None else mask[site.y :: step, site.x :: step]
        for a in range(_CELLS[0]):
            skip = max(1, (edges_y[a + 1] - edges_y[a]) // rows_wanted)
            rows = slice(edges_y[a] + skip // 2, edges_y[a + 1], skip)
            strip = plane[rows, :nx].astype(np.float32)
            good = np.isfinite(strip)
            if bad is not None:
                good &= ~bad[rows, :nx]
            for b in range(_CELLS[1]):
                cell = slice(edges_x[b], edges_x[b + 1])
                noise = noise_between_stars(strip[:, cell], good[:, cell])
                variance[a, b] += noise**2
    u = (edges_x[:-1] + edges_x[1:] - 1.0) / max(nx - 1, 1) - 1.0
    v = (edges_y[:-1] + edges_y[1:] - 1.0) / max(ny - 1, 1) - 1.0
    basis = _terms(*(g.ravel() for g in np.meshgrid(u, v)))
    return _surface(basis, variance.ravel())


def relative_variance(
    coefficients: np.ndarray, x: np.ndarray, y: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Variance of an empty pixel relative to the frame's mean, at native positions (x, y) of a frame of `shape`.

    Returns
    -------
    ndarray, shape of x, float32
        Between 0.2 and 5; beyond the frame's edge as at the edge.
    """
    u = np.clip(np.nan_to_num(2 * np.asarray(x, float) / max(shape[1] - 1, 1) - 1), -1, 1)
    v = np.clip(np.nan_to_num(2 * np.asarray(y, float) / max(shape[0] - 1, 1) - 1), -1, 1)
    return np.clip(_terms(u, v) @ coefficients, *_BOUNDS).astype(np.float32)


def _terms(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=-1)


def _surface(basis: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Coefficients of the surface through the cells that agree with it, its mean over them 1."""
    flat = np.eye(basis.shape[1])[0]
    keep = np.isfinite(cells) & (cells > 0)
    if keep.sum() < 3 * basis.shape[1]:
        return flat
    for _ in range(4):
        solution = np.linalg.lstsq(basis[keep], cells[keep], rcond=None)[0]
        away = np.abs(cells - basis @ solution)
        new = np.isfinite(cells) & (cells > 0) & (away <= 4 * 1.4826 * np.median(away[keep]) + 1e-12)
        if new.sum() < 3 * basis.shape[1]:
            return flat
        if np.array_equal(new, keep):
            break
        keep = new
    level = float(np.mean(basis @ solution))
    return solution / level if level > 0 else flat

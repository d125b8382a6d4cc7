"""Artificial stars: what a frame's native pixels would show of a star that is not there."""

from __future__ import annotations

import functools

import numba
import numpy as np

from difflapse.measure.psf import _LEARNT, _first_guess, _grid, _shapes, _weights
from difflapse.model import StarProfile


def draw_stars(
    profile: StarProfile,
    x: np.ndarray,
    y: np.ndarray,
    flux: np.ndarray,
    corner: np.ndarray,
    side: int,
    channel: np.ndarray,
) -> np.ndarray:
    """Draw stars on small native windows of their own; adds no noise.

    Parameters
    ----------
    profile : StarProfile
        What pixels of this frame see of a star.
    x, y : ndarray, shape (n,), native px
        Where the stars are on the frame; outside of it they are drawn as if it went on.
    flux : ndarray, shape (c, n), ADU
        Of each colour, as if all pixels were of it.
    corner : ndarray of int, shape (n, 2)
        x, y of each window's first pixel on the frame.
    side : int
        Pixels along each side of a window.
    channel : ndarray of int, shape (4,) or (1,)
        The channel of each site of the mosaic's cell, row by row.

    Returns
    -------
    ndarray, shape (n, side, side), float32
        Expected ADU. What lies beyond 4 widths of a star is dark: the profile is not known there.

    References
    ----------
    Anderson & King 2000, doi:10.1086/316632 (the effective profile: pixels sample it).
    """
    shape = _shapes(profile.map, profile.middle, x, y, profile.size)
    out = np.zeros((len(x), side, side), np.float32)
    reach = reach_pix(profile) * 1.1 + 1
    step = 2 if len(channel) == 4 else 1
    _draw(
        np.ascontiguousarray(profile.knots), profile.spacing, profile.form, _LEARNT, x, y, flux, shape,
        np.ascontiguousarray(corner, np.int64), step, channel, reach, out,
    )  # fmt: skip
    return out


def gaussian_profile(fwhm_pix: float, size: tuple[int, int]) -> StarProfile:
    """The profile of a frame (ny, nx) whose stars are too few to teach it: a round Gaussian of their width."""
    variance = (fwhm_pix / 2.3548) ** 2
    middle = np.array([variance, variance, 0.0])
    grid = _grid(middle)
    knots = _first_guess(grid)
    return StarProfile(
        knots / (knots.sum() * grid.spacing**2), grid.spacing, grid.form, middle[:, None].copy(), middle, size
    )


@functools.lru_cache(maxsize=4)
def reach_pix(profile: StarProfile) -> float:
    """How far from its middle a star is drawn at most, anywhere on the frame, native px."""
    ny, nx = profile.size
    gx, gy = (v.ravel() for v in np.meshgrid(np.linspace(0, nx - 1, 5), np.linspace(0, ny - 1, 5)))
    shape = _shapes(profile.map, profile.middle, gx, gy, profile.size).reshape(-1, 2, 2)
    stretch = 1 / np.linalg.svd(shape, compute_uv=False).min()
    xx, yy, xy = profile.form
    widest = 1 / np.sqrt(0.5 * (xx + yy) - np.hypot(0.5 * (xx - yy), xy))
    return float(_LEARNT * widest * stretch)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _draw(
    knots: np.ndarray,
    spacing: float,
    form: np.ndarray,
    radius: float,
    x: np.ndarray,
    y: np.ndarray,
    flux: np.ndarray,
    shape: np.ndarray,
    corner: np.ndarray,
    step: int,
    channel: np.ndarray,
    reach: float,
    out: np.ndarray,
) -> None:
    """The spline at each pixel's offset, times its colour's flux."""
    n, ny, nx = out.shape
    m = len(knots)
    middle = 0.5 * (m - 1)
    for k in range(n):
        # The spline lives on the typical star; areas shrink or grow with the stretch.
        scale = abs(shape[k, 0] * shape[k, 3] - shape[k, 1] * shape[k, 2])
        j0, i0 = int(np.ceil(y[k] - reach)) - corner[k, 1], int(np.ceil(x[k] - reach)) - corner[k, 0]
        j1, i1 = int(y[k] + reach) - corner[k, 1] + 1, int(x[k] + reach) - corner[k, 0] + 1
        for j in range(max(0, j0), min(ny, j1)):
            for i in range(max(0, i0), min(nx, i1)):
                dx, dy = corner[k, 0] + i - x[k], corner[k, 1] + j - y[k]
                u = shape[k, 0] * dx + shape[k, 1] * dy
                v = shape[k, 2] * dx + shape[k, 3] * dy
                if form[0] * u * u + form[1] * v * v + 2 * form[2] * u * v > radius * radius:
                    continue
                u, v = u / spacing + middle, v / spacing + middle
                iu, iv = int(u), int(v)
                if iu < 1 or iv < 1 or iu + 2 >= m or iv + 2 >= m:
                    continue
                wu, wv = _weights(u - iu), _weights(v - iv)
                p = 0.0
                for q in range(4):
                    for r in range(4):
                        p += wv[q] * wu[r] * knots[iv - 1 + q, iu - 1 + r]
                row, column = (corner[k, 1] + j) % step, (corner[k, 0] + i) % step
                out[k, j, i] = max(p, 0.0) * scale * flux[channel[row * step + column], k]

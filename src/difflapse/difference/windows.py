"""Small windows of images on the product grid, one above the other in one sheet.

All that is done to whole images here (combining, subtracting) is done to a sheet as it is, at the cost of its
pixels alone. Meshes over the image become meshes over the sheet; they are right but for a row or two where one
window ends and the next begins, so windows are cut with some margin.
"""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np

from difflapse.difference.noise import Noise
from difflapse.model import bits

_ROWS = 4
"""Rows of a sheet to a row of its meshes."""


def cut(image: np.ndarray, place: np.ndarray, side: int, fill: float = 0) -> np.ndarray:
    """Cut square windows from an image and lay them one above the other.

    Parameters
    ----------
    image : ndarray, shape (ny, nx) or (c, ny, nx)
        May be mapped from a file.
    place : ndarray of int, shape (n, 2)
        i, j of each window's first pixel; may lie outside.
    side : int
        Pixels along each side.
    fill : float
        What lies outside of the image.

    Returns
    -------
    ndarray, shape (n * side, side) or (c, n * side, side)
    """
    planes = np.asarray(image if image.ndim == 3 else image[None])
    c = len(planes)
    out = np.empty((c, len(place), side, side), image.dtype)
    _cut(planes, np.asarray(place, np.int64), image.dtype.type(fill), out)
    sheet = out.reshape(c, len(place) * side, side)
    return sheet if image.ndim == 3 else sheet[0]


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _cut(planes: np.ndarray, place: np.ndarray, fill: float, out: np.ndarray) -> None:
    c, ny, nx = planes.shape
    side = out.shape[3]
    for q in range(c):
        for k in range(len(place)):
            i, j = place[k, 0], place[k, 1]
            i0, i1 = min(max(-i, 0), side), max(min(nx - i, side), 0)
            for r in range(side):
                to = out[q, k, r]
                if j + r < 0 or j + r >= ny or i1 <= i0:
                    to[:] = fill
                    continue
                # Parts of rows, for what is read at a place that might be negative is read one by one.
                source, inner = planes[q, j + r, i + i0 : i + i1], to[i0:i1]
                for p in range(len(inner)):
                    inner[p] = source[p]
                to[:i0] = fill
                to[i1:] = fill


def cut_mask(mask: np.ndarray, place: np.ndarray, side: int, border: int = 1) -> np.ndarray:
    """The same of a mask of bits, (n * side, side); what lies outside, and `border` pixels along all edges, are so."""
    out = cut(mask, place, side, bits.OUTSIDE).reshape(len(place), side, side)
    inner = out[:, border : side - border, border : side - border].copy()
    out |= bits.OUTSIDE
    out[:, border : side - border, border : side - border] = inner
    return out.reshape(-1, side)


def cut_mesh(mesh: np.ndarray, shape: tuple[int, ...], place: np.ndarray, side: int) -> np.ndarray:
    """A mesh (c, my, mx) over an image of `shape` (ny, nx) as a mesh (c, q, 2) over the sheet of windows."""
    my, mx = mesh.shape[1:]
    rows = np.linspace(0, len(place) * side - 1, max(2, len(place) * side // _ROWS))
    which = np.minimum((rows + 0.5).astype(int) // side, len(place) - 1)
    j = place[which, 1] + rows - which * side
    v = np.clip(j * (my - 1) / max(shape[0] - 1, 1), 0, my - 1)
    a = np.minimum(v.astype(int), my - 2)
    f = v - a
    out = np.empty((len(mesh), len(rows), 2), np.float32)
    for column, i in enumerate((place[which, 0], place[which, 0] + side - 1)):
        u = np.clip(i * (mx - 1) / max(shape[1] - 1, 1), 0, mx - 1)
        b = np.minimum(u.astype(int), mx - 2)
        g = u - b
        _sample(np.asarray(mesh), a, b, f, g, out[:, :, column])
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _sample(
    mesh: np.ndarray, a: np.ndarray, b: np.ndarray, f: np.ndarray, g: np.ndarray, out: np.ndarray
) -> None:
    """Meshes (c, my, mx) between their nodes, into (c, q): rows `a` and the next, columns `b` and the next."""
    for q in range(len(mesh)):
        for s in range(len(a)):
            top, bottom = mesh[q, a[s]], mesh[q, a[s] + 1]
            low = top[b[s]] * (1 - g[s]) + top[b[s] + 1] * g[s]
            high = bottom[b[s]] * (1 - g[s]) + bottom[b[s] + 1] * g[s]
            out[q, s] = low * (1 - f[s]) + high * f[s]


def cut_noise(noise: Noise, shape: tuple[int, ...], place: np.ndarray, side: int) -> Noise:
    """The noise of an image as that of the sheet."""
    return replace(
        noise,
        sky=cut_mesh(noise.sky, shape, place, side),
        photon=cut_mesh(noise.photon, shape, place, side),
        response=None if noise.response is None else cut_mesh(noise.response, shape, place, side),
    )


def add_stamps(sheet: np.ndarray, stamps: np.ndarray, at: np.ndarray) -> None:
    """Add small stamps (n, c, s, s) to the windows of a sheet (c, n * side, side) in place.

    `at` (n, 2) is i, j of each stamp's first pixel within its window; what lies outside of the window is left out.
    """
    c, _, side = sheet.shape
    _add(np.asarray(stamps), np.asarray(at, np.int64), sheet.reshape(c, len(stamps), side, side))


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _add(stamps: np.ndarray, at: np.ndarray, windows: np.ndarray) -> None:
    n, c, size = stamps.shape[0], stamps.shape[1], stamps.shape[3]
    side = windows.shape[3]
    for k in range(n):
        i, j = at[k, 0], at[k, 1]
        i0, i1, j0, j1 = max(i, 0), min(i + size, side), max(j, 0), min(j + size, side)
        for q in range(c):
            for r in range(j0, j1):
                to, light = windows[q, k, r], stamps[k, q, r - j]
                for p in range(i0, i1):
                    to[p] += light[p - i]

"""Meshes: slowly varying quantities on a few nodes, edge to edge over an image."""

from __future__ import annotations

import numba
import numpy as np

from difflapse.model import ProductGrid

ROWS_PER_LINE = 4
"""Meshes vary slowly: where speed counts, their rows are interpolated anew for every few rows of the image."""


def constant(values: np.ndarray | list[float]) -> np.ndarray:
    """A mesh (c, 2, 2) with one value per channel."""
    return np.broadcast_to(np.asarray(values, np.float32)[:, None, None], (len(values), 2, 2)).copy()


def nodes(shape: tuple[int, int], spacing: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions (i, j) of the nodes of a mesh over an image of `shape`, about `spacing` pixels apart."""
    ny, nx = shape
    return np.linspace(0, nx - 1, max(2, nx // spacing + 1)), np.linspace(
        0, ny - 1, max(2, ny // spacing + 1)
    )


def mean(mesh: np.ndarray) -> np.ndarray:
    """Mean of a mesh over the image, per channel."""
    return mesh.reshape(len(mesh), -1).mean(axis=1)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def line(mesh: np.ndarray, j: float, ny: int, out: np.ndarray) -> None:
    """One row of an image from a mesh (my, mx), by linear interpolation into `out` (nx,)."""
    part_of_line(mesh, j, ny, len(out), 0, out)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def part_of_line(mesh: np.ndarray, j: float, ny: int, nx: int, first: int, out: np.ndarray) -> None:
    """From column `first` on, as many pixels as `out` has of one row of an image of (ny, nx): bit by bit as `line`."""
    my, mx = mesh.shape
    v = j * (my - 1) / max(ny - 1, 1)
    a = min(int(v), my - 2)
    f = np.float32(v - a)
    row = np.empty(mx, np.float32)
    for k in range(mx):
        row[k] = mesh[a, k] + f * (mesh[a + 1, k] - mesh[a, k])
    spread(row, nx, first, out)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def spread(row: np.ndarray, nx: int, first: int, out: np.ndarray) -> None:
    """From column `first` on, as many pixels as `out` has of a row of `nx` pixels with nodes (mx,) at both its ends."""
    mx, past = len(row), first + len(out)
    step = (nx - 1) / (mx - 1) if nx > 1 else 1.0
    i1 = 0
    for k in range(mx - 1):
        i0, i1 = i1, nx if k == mx - 2 else int(np.ceil((k + 1) * step))
        slope = np.float32((row[k + 1] - row[k]) / step)
        start = np.float32(row[k] - slope * (k * step))
        for i in range(max(i0, first), min(i1, past)):
            out[i - first] = start + slope * np.float32(i)


def image(mesh: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A whole image (ny, nx) float32 from one channel's mesh (my, mx)."""
    out = np.empty(shape, np.float32)
    _image(np.ascontiguousarray(mesh, np.float32), out)
    return out


def resample(mesh: np.ndarray, shape: tuple[int, ...], spacing: int) -> np.ndarray:
    """The same quantity on a mesh of another spacing."""
    gi, gj = nodes((shape[0], shape[1]), spacing)
    return at_pixels(mesh, shape, gj, gi)


def at_pixels(mesh: np.ndarray, shape: tuple[int, ...], j: np.ndarray, i: np.ndarray) -> np.ndarray:
    """The same quantity at rows `j` and columns `i` of its image of `shape`, (c, len(j), len(i))."""
    my, mx = mesh.shape[1:]
    return _sampled(mesh, j * (my - 1) / max(shape[0] - 1, 1), i * (mx - 1) / max(shape[1] - 1, 1))


def at_places(mesh: np.ndarray, shape: tuple[int, ...], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The same quantity at places (x, y), (n,) each, of its image of `shape`; (c, n). Beyond it, as at its edge."""
    my, mx = mesh.shape[1:]
    v = np.clip(y * (my - 1) / max(shape[0] - 1, 1), 0, my - 1)
    u = np.clip(x * (mx - 1) / max(shape[1] - 1, 1), 0, mx - 1)
    a, b = np.minimum(v.astype(int), my - 2), np.minimum(u.astype(int), mx - 2)
    f, g = v - a, u - b
    low, high = (mesh[:, r, b] * (1 - g) + mesh[:, r, b + 1] * g for r in (a, a + 1))
    return np.asarray(low * (1 - f) + high * f)


def at_nodes(mesh: np.ndarray, my: int, mx: int) -> np.ndarray:
    """The same quantity on so many nodes (my, mx), edge to edge over the same image."""
    return _sampled(mesh, np.linspace(0, mesh.shape[1] - 1, my), np.linspace(0, mesh.shape[2] - 1, mx))


def window(mesh: np.ndarray, whole: ProductGrid, part: ProductGrid, spacing: int = 64) -> np.ndarray:
    """The same quantity on a mesh over another grid of the same reference; beyond the whole it stays as at its edge."""
    gi, gj = nodes(part.shape, spacing)
    i, j = whole.from_native(*part.to_native(gi, gj))
    my, mx = mesh.shape[1:]
    v = np.clip(j * (my - 1) / max(whole.shape[0] - 1, 1), 0, my - 1)
    u = np.clip(i * (mx - 1) / max(whole.shape[1] - 1, 1), 0, mx - 1)
    return _sampled(mesh, v, u)


def _sampled(mesh: np.ndarray, v: np.ndarray, u: np.ndarray) -> np.ndarray:
    """A mesh at rows `v` and columns `u`, in units of its nodes, by linear interpolation."""
    my, mx = mesh.shape[1:]
    a, b = np.minimum(v.astype(int), my - 2), np.minimum(u.astype(int), mx - 2)
    f, g = (v - a)[:, None], (u - b)[None, :]
    rows = mesh[:, a] * (1 - f) + mesh[:, a + 1] * f
    return np.asarray(rows[:, :, b] * (1 - g) + rows[:, :, b + 1] * g, np.float32)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _image(mesh: np.ndarray, out: np.ndarray) -> None:
    for j in range(len(out)):
        line(mesh, float(j), len(out), out[j])


def apply(data: np.ndarray, factor: np.ndarray, offset: np.ndarray) -> None:
    """``data * factor - offset`` in place, for an image (c, ny, nx) float32 and two meshes."""
    _apply(data, np.ascontiguousarray(factor, np.float32), np.ascontiguousarray(offset, np.float32))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _apply(data: np.ndarray, factor: np.ndarray, offset: np.ndarray) -> None:
    c, ny, nx = data.shape
    by = np.empty(nx, np.float32)
    less = np.empty(nx, np.float32)
    for k in range(c):
        for j in range(ny):
            line(factor[k], float(j), ny, by)
            line(offset[k], float(j), ny, less)
            row = data[k, j]
            for i in range(nx):
                row[i] = row[i] * by[i] - less[i]

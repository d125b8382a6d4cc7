"""The smooth difference of background between a frame and a template."""

from __future__ import annotations

import numba
import numpy as np

from difflapse.measure.mesh import image, line, nodes
from difflapse.measure.order import median

_SAMPLES = 1500
_FINER = 3
"""Cells are so many times smaller where a sky is in unrest."""
_UNREST = 0.15
"""Scatter of the small cells about the large ones' surface, in sigma of a pixel, from which it is; their own error
is 0.06."""


def fit_offset(
    science: np.ndarray,
    inverse_scale: np.ndarray,
    template: np.ndarray,
    mask: np.ndarray,
    smooth: bool = True,
    clouds: bool = False,
) -> np.ndarray:
    """Fit what remains of the background in ``science * inverse_scale - template``.

    Parameters
    ----------
    science, template : ndarray, shape (c, ny, nx)
        On the product grid.
    inverse_scale : ndarray, shape (c, my, mx)
        Mesh that takes the science frame to the template's brightness.
    mask : ndarray of bool, shape (ny, nx)
        True = bad.
    smooth : bool
        True: medians of cells of 64 to 160 pixels, joined by a spline; whatever is larger than two cells is
        taken for background. False: one constant per channel, for scenes that fill the field.
    clouds: bool
        The frame may show clouds: where the sky is in unrest all over, cells a third as large follow it.

    Returns
    -------
    ndarray, shape (c, ky, kx), float32
        Mesh of the offset, in the template's ADU.
    """
    _, ny, nx = science.shape
    cell = float(np.clip(min(ny, nx) / 8, 64, 160)) if smooth else np.inf
    coarse = _surfaces(science, inverse_scale, template, mask, cell)
    if not (smooth and clouds):
        return coarse
    fine = _surfaces(science, inverse_scale, template, mask, min(cell, 100) / _FINER)
    return fine if _in_unrest(science, inverse_scale, template, mask, coarse, fine) else coarse


def _in_unrest(
    science: np.ndarray,
    inverse_scale: np.ndarray,
    template: np.ndarray,
    mask: np.ndarray,
    coarse: np.ndarray,
    fine: np.ndarray,
) -> bool:
    """Whether the finer surface differs from the coarse one all over, in the channel that shows it most."""
    rows, columns = slice(4, None, 16), slice(2, None, 5)
    for k in range(len(science)):
        rest = science[k, rows, columns] * np.mean(inverse_scale[k]) - template[k, rows, columns]
        good = ~mask[rows, columns] & np.isfinite(rest)
        level = image(coarse[k], mask.shape)[rows, columns]
        away = np.abs(image(fine[k], mask.shape)[rows, columns] - level)[good]
        if away.size and np.median(away) > _UNREST * np.median(np.abs(rest - level)[good]):
            return True
    return False


def _surfaces(
    science: np.ndarray, inverse_scale: np.ndarray, template: np.ndarray, mask: np.ndarray, cell: float
) -> np.ndarray:
    """Meshes of the background through medians of cells of about so many pixels."""
    # Not needed where frames are not resampled; loading them costs the main process a third of a second.
    from scipy.interpolate import RectBivariateSpline
    from scipy.ndimage import median_filter

    c, ny, nx = science.shape
    cells_y, cells_x = max(1, round(ny / cell)), max(1, round(nx / cell))
    edges_y = np.linspace(0, ny, cells_y + 1).astype(int)
    edges_x = np.linspace(0, nx, cells_x + 1).astype(int)
    medians = np.full((c, cells_y, cells_x), np.nan)
    budget = _SAMPLES if np.isfinite(cell) else 100_000
    stride = max(1, int(np.sqrt((ny / cells_y) * (nx / cells_x) / budget)))
    for k in range(c):
        _cell_medians(
            science[k],
            np.ascontiguousarray(inverse_scale[k]),
            template[k],
            mask,
            edges_y,
            edges_x,
            stride,
            medians[k],
        )
        medians[k] = _fill(medians[k])
        if min(cells_y, cells_x) >= 3:
            # A cell that a bright thing fills is judged by its neighbours.
            calm = median_filter(_carried_on(medians[k]), 3)[1:-1, 1:-1]
            deviation = medians[k] - calm
            limit = 4 * 1.4826 * np.median(np.abs(deviation)) + 1e-6
            medians[k] = np.where(np.abs(deviation) > limit, calm, medians[k])
    if cells_y == 1 and cells_x == 1:
        return np.broadcast_to(medians, (c, 2, 2)).astype(np.float32)
    gi, gj = nodes((ny, nx), 16)
    centre_x = _carried_on(0.5 * (edges_x[:-1] + edges_x[1:] - 1))
    centre_y = _carried_on(0.5 * (edges_y[:-1] + edges_y[1:] - 1))
    out = np.empty((c, len(gj), len(gi)), np.float32)
    for k in range(c):
        values = _carried_on(medians[k])
        if cells_y == 1:
            out[k] = np.interp(gi, centre_x, values[1])[None, :]
        elif cells_x == 1:
            out[k] = np.interp(gj, centre_y, values[:, 1])[:, None]
        else:
            out[k] = RectBivariateSpline(centre_y, centre_x, values)(gj, gi)
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _cell_medians(
    science: np.ndarray,
    inverse_scale: np.ndarray,
    template: np.ndarray,
    mask: np.ndarray,
    edges_y: np.ndarray,
    edges_x: np.ndarray,
    stride: int,
    out: np.ndarray,
) -> None:
    """Median of each cell's residual on every `stride`-th pixel; NaN where too few are good."""
    ny, nx = science.shape
    row = np.empty(nx, np.float32)
    cells = len(edges_x) - 1
    for a in range(len(edges_y) - 1):
        height = (edges_y[a + 1] - edges_y[a]) // stride + 1
        width = 0
        for b in range(cells):
            width = max(width, (edges_x[b + 1] - edges_x[b]) // stride + 1)
        size = height * width
        values, room = np.empty(cells * size, np.float32), np.empty(size, np.float32)
        count = np.zeros(cells, np.int64)
        tried = np.zeros(cells, np.int64)
        for n, j in enumerate(range(edges_y[a], edges_y[a + 1], stride)):
            if n % 4 == 0:
                line(inverse_scale, float(j), ny, row)
            for b in range(cells):
                tried[b] += (edges_x[b + 1] - edges_x[b] + stride - 1) // stride
                first = b * size
                m = first + count[b]
                for i in range(edges_x[b], edges_x[b + 1], stride):
                    x = science[j, i] * row[i] - template[j, i]
                    # Written always, counted where it is good: nothing to guess.
                    values[m] = x
                    m += (not mask[j, i]) & (x - x == 0)
                count[b] = m - first
        for b in range(cells):
            if count[b] >= 20 and count[b] >= 0.2 * tried[b]:
                out[a, b] = median(values[b * size : b * size + count[b]], room)


def _carried_on(values: np.ndarray) -> np.ndarray:
    """Values with one more at either end of each axis, where the slope there leads."""
    for axis in range(values.ndim):
        width = [(1, 1) if k == axis else (0, 0) for k in range(values.ndim)]
        if values.shape[axis] > 1:
            values = np.pad(values, width, "reflect", reflect_type="odd")
        else:
            values = np.pad(values, width, "edge")
    return values


def _fill(cells: np.ndarray) -> np.ndarray:
    """Give empty cells the value of their nearest neighbours; zero where there are none at all."""
    empty = ~np.isfinite(cells)
    if empty.all():
        return np.zeros_like(cells)
    while empty.any():
        padded = np.pad(cells, 1, constant_values=np.nan)
        stack = np.stack(
            [
                padded[1 + a : padded.shape[0] - 1 + a, 1 + b : padded.shape[1] - 1 + b]
                for a in (-1, 0, 1)
                for b in (-1, 0, 1)
            ]
        )
        finite = np.isfinite(stack)
        with np.errstate(invalid="ignore", divide="ignore"):
            around = np.where(finite, stack, 0).sum(0) / finite.sum(0)
        cells = np.where(empty, around, cells)
        empty = ~np.isfinite(cells)
    return cells

"""Small native windows, each about a place of its own, resampled as the whole frame is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from difflapse.align._resample import SPACING, resample
from difflapse.align.kernels import kernel_of
from difflapse.align.warp import _LARGEST, _SHRINKING
from difflapse.model import ProductGrid, Transform
from difflapse.mosaic import Site

_MARGIN = 12
"""Native pixels, beyond what a window of the product grid spans, that a native window must hold."""


def native_side(side: int, step: int, scale: float = 1.0) -> int:
    """Native pixels (even) along each side of a window that holds `side` product pixels; `scale`: frame pixels to
    one of the reference.
    """
    return 2 * int(np.ceil(0.5 * side * step * max(scale, 1.0))) + 2 * _MARGIN


def warp_stamps(
    stamps: np.ndarray,
    corner: np.ndarray,
    sites: Sequence[Site],
    transform: Transform,
    grid: ProductGrid,
    place: np.ndarray,
    side: int,
    kernel: str = "cubic",
) -> np.ndarray:
    """Resample many small windows of a frame onto small windows of the product grid.

    The weights are those of `difflapse.align.warp.warp` for the same pixels: it is the same compiled code, over
    one sheet on which the windows lie one above the other.

    Parameters
    ----------
    stamps : ndarray, shape (n, h, h), float32
        Native pixels, bias off; `native_side` says how many are needed.
    corner : ndarray of int, shape (n, 2)
        x, y of each window's first native pixel; even where the camera has a mosaic.
    sites : sequence of Site
        Of the mosaic.
    transform : Transform
        Native pixels of the frame to native pixels of the reference.
    grid : ProductGrid
        Of the products.
    place : ndarray of int, shape (n, 2)
        i, j of the first product pixel of each window; may lie outside the grid.
    side : int
        Product pixels along each side.
    kernel : str
        As of `warp`. With ``area`` on frames that are turned or of another scale, the weights are those of upright
        squares, times the area.

    Returns
    -------
    ndarray, shape (n, c, side, side), float32
        0 where there is nothing.
    """
    chosen = kernel_of(kernel)
    n, h = stamps.shape[:2]
    step = 2 if len(sites) == 4 else 1
    channel = np.array([site.channel for site in sites])
    n_channels = int(channel.max()) + 1
    if n == 0:
        return np.zeros((0, n_channels, side, side), np.float32)
    first = np.array([k == list(channel).index(channel[k]) for k in range(len(sites))])
    share = np.array([site.weight for site in sites], np.float32)
    offsets = np.array([(site.x, site.y) for site in sites], float)

    # The map at the windows' own nodes; between one window's last row and the next one's first it means nothing.
    across = (side - 2) // SPACING + 2
    nodes = np.arange(across) * SPACING
    i = np.broadcast_to(place[:, 0, None, None] + nodes, (n, across, across)).astype(float)
    j = np.broadcast_to(place[:, 1, None, None] + nodes[:, None], (n, across, across)).astype(float)
    x, y = transform.inverse(*grid.to_native(i.ravel(), j.ravel()))
    x, y = np.asarray(x).reshape(i.shape), np.asarray(y).reshape(i.shape)
    xi, yi = (np.diff(v[:, 0], axis=1)[:, :1] / SPACING / step for v in (x, y))
    xj, yj = (np.diff(v[:, :, 0], axis=1)[:, :1] / SPACING / step for v in (x, y))
    px = x - corner[:, 0, None, None]
    py = y - corner[:, 1, None, None] + h * np.arange(n)[:, None, None]
    px, py = np.round(px, 7).reshape(n * across, across), np.round(py, 7).reshape(n * across, across)
    # Where a transform has no way back there is nothing.
    lost = ~(np.isfinite(px) & np.isfinite(py))
    px[lost] = py[lost] = -1e6
    # Columns and rows of nodes beyond the last, for the last pixels' sake.
    px, py = (np.pad(v, ((0, 1), (0, 1)), mode="edge") for v in (px, py))

    width = np.ones((2, *px.shape))
    spans = np.nan_to_num(np.stack([np.hypot(xi, xj), np.hypot(yi, yj)]), nan=1.0)[..., 0]
    size = 2 * chosen.half
    if spans.max() > _SHRINKING and not chosen.keeps_flux:
        wide = np.clip(spans, 1.0, _LARGEST / (2 * chosen.half))
        width[:, :-1] = np.repeat(wide, across, axis=1)[:, :, None]
        size = int(2 * chosen.half * wide.max()) + 2
    sheet = stamps.reshape(n * h, h)
    planes = np.stack([sheet[site.y :: step, site.x :: step] for site in sites]).astype(np.float32)
    pitch = across * SPACING
    data = np.empty((n_channels, n * pitch, side), np.float32)
    coverage = np.empty(data.shape[1:], np.float32)
    resample(
        tuple(planes), planes[0], (1.0, 1.0), np.float32(0), offsets, channel, share, first, step, px, py, width,
        chosen.even, chosen.odd, False, False, size, data, coverage, np.zeros(coverage.shape, bool),
    )  # fmt: skip
    out = data.reshape(n_channels, n, pitch, side)[:, :, :side].transpose(1, 0, 2, 3)
    out = np.ascontiguousarray(out)
    if chosen.keeps_flux:
        out *= np.abs(xi * yj - xj * yi)[:, :, None, None].reshape(n, 1, 1, 1).astype(np.float32)
    return out

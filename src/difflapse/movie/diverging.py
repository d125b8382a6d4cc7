"""The differential panel: grey where nothing changed, darker where fainter, lighter where brighter."""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numba import njit

from difflapse.movie.layout import Layout
from difflapse.movie.shrink import FAR, as_flags, enlarge, hatch_colours, plan_axis, row_weight
from difflapse.movie.stretch import finish, hatch_period
from difflapse.movie.text import DIM, levels, paste, text_mask

VMAX = 20.0
"""Difference at the ends of the map, sigma."""
ENDS = {"sigma": VMAX, "mag": 2.0}
"""The same in the units in which it does not depend on the night."""

_STEPS, _DEEP_STEPS = 4095, (1 << 18) - 1
_REACH = 3
_MOST_IN_BOX = 4.0
"""Sigma that one pixel brings into the sum over those around it, at most."""
_MID, _DARK, _LIGHT = 124.0, 18.0, 243.0
# Red and blue of the map less its luma, by position -1..1.
_AT = (-1.0, -0.8, -0.6, -0.4, -0.2, -0.08, 0.0, 0.08, 0.2, 0.4, 0.6, 0.8, 1.0)
_RED = (-12.0, -30.0, -42.0, -44.0, -32.0, -15.0, 0.0, 18.0, 38.0, 50.0, 48.0, 32.0, 9.0)
_BLUE = (48.0, 60.0, 62.0, 54.0, 36.0, 16.0, 0.0, -18.0, -44.0, -72.0, -84.0, -76.0, -36.0)
_LUMA = (0.2126, 0.7152, 0.0722)


@functools.cache
def diverging_table(n: int = 255) -> np.ndarray:
    """The diverging map: `n` (odd) colours from much fainter to much brighter.

    Returns
    -------
    table : (n, 3) uint8, read-only
        The middle entry is exactly mid-grey. BT.709 luma rises strictly from entry to entry (n up to 255), so
        that the sign of a change reads without colour too: for the colour-blind, in print, and through 4:2:0
        video. Fainter leans to blue, brighter to amber.
    """
    u = np.linspace(-1, 1, n)
    luma = _MID + np.where(u < 0, _MID - _DARK, _LIGHT - _MID) * u
    red, blue = np.interp(u, _AT, _RED), np.interp(u, _AT, _BLUE)
    green = -(_LUMA[0] * red + _LUMA[2] * blue) / _LUMA[1]
    ideal = np.clip(luma[:, None] + np.stack([red, green, blue], 1), 0, 255)
    # Of the whole numbers around each colour take those whose luma is nearest: rounding must not break the
    # order.
    nudges = np.array([(r, g, b) for r in (-1, 0, 1) for g in (-1, 0, 1) for b in (-2, -1, 0, 1, 2)])
    tries = np.clip(np.rint(ideal)[:, None] + nudges, 0, 255)
    miss = np.abs(tries @ _LUMA - luma[:, None]) + 0.01 * np.abs(tries - ideal[:, None]).sum(2)
    table = np.take_along_axis(tries, miss.argmin(1)[:, None, None], 1)[:, 0].astype(np.uint8)
    table[n // 2] = round(_MID)
    table.setflags(write=False)
    return table


def compress(values: np.ndarray | float, vmax: float) -> np.ndarray:
    """Position -1..1 on the map of differences in any unit: linear within a third of vmax, then flatter."""
    return np.clip(np.arcsinh(3.0 * np.asarray(values, float) / vmax) / np.arcsinh(3.0), -1, 1)


def difference_panel(
    values: np.ndarray,
    mask: np.ndarray | None,
    layout: Layout,
    vmax: float = VMAX,
    units: str = "sigma",
    noise: float | None = None,
) -> np.ndarray:
    """Draw a difference on the diverging map, at the size of a panel.

    Parameters
    ----------
    values : (ny, nx) float32
        Difference (science - template), all channels combined, in `units`. NaN counts as masked.
    mask : (ny, nx) bool or uint8, optional
        True, or not 0, = bad. Places where over half of the area is masked are hatched, specks palely.
    layout : Layout
        Says how large the panel is, and how deep.
    vmax : float
        Difference at the ends of the map, in `units`.
    units : str
        ``sigma``: when shrinking, the mean is multiplied by the root of the number of pixels, so that noise
        keeps its unit and faint wide things gain what the eye would gain. ``adu``, ``percent``, ``mag``: the
        plain mean.
    noise : float, optional
        Noise of a pixel in `units`; 1 for sigma, else measured on this map when it is not given.

    Returns
    -------
    panel : (height, width, 3) uint8 or, in a layout 16 bits deep, uint16
        Row 0 of the image at the bottom.

    Notes
    -----
    When shrinking, a movie pixel whose largest positive or negative pixel is significant (4.5 sigma and more,
    fully from 6) shows that extreme instead of the mean if it is the larger: a change of two pixels is not
    averaged away. The value alone decides the luma; the map's hue is added as far as the pixel by itself exceeds
    what chance reaches, or the 7x7 pixels around it do together and it has their sign (none counting for more
    than 4 sigma, so that a single hot pixel colours nothing but itself): noise is grey, and a faint coma is not.
    1738x2604 to 1278 wide: about 18 ms on one core.
    """
    values = np.ascontiguousarray(values, np.float32)
    if noise is None:
        noise = 1.0 if units == "sigma" else _robust_noise(values, mask)
    root = _root_pixels(max(1.0, 1 / layout.scale))
    small, hidden = _shrink(values, mask, layout, root if units == "sigma" else 1.0, 1 / max(noise, 1e-30))
    table, greys = _fine_table(layout.depth), _greys(layout.depth)
    out = np.empty((*small.shape, 3), layout.dtype)
    per_pixel = (1.0 if units == "sigma" else root) / max(noise, 1e-30)
    _colour(small, hidden, np.float32(1 / vmax), np.float32(per_pixel), greys, table, out)
    return finish(out, _specks_pale(hidden, layout), layout)


def sigma_panel(
    noise: np.ndarray, mask: np.ndarray | None, layout: Layout, low: float, high: float
) -> np.ndarray:
    """Draw the expected noise (ny, nx) in grey, black at `low` and white at `high`, at the size of a panel.

    Returns
    -------
    panel : (height, width, 3) uint8 or uint16
        Row 0 at the bottom; what is masked or NaN is hatched.
    """
    small, hidden = _shrink(np.ascontiguousarray(noise, np.float32), mask, layout, 1.0, 0.0)
    grey = np.clip((small - low) * (216 / max(high - low, 1e-30)) + 24, 24, 240)
    grey = (grey * (np.iinfo(layout.dtype).max // 255)).astype(layout.dtype)
    return finish(np.repeat(grey[..., None], 3, axis=2), hidden, layout)


def hatched_panel(layout: Layout, text: str = "no difference") -> np.ndarray:
    """Draw the panel of a frame that has no picture: hatched all over, with a word in the middle.

    Returns
    -------
    panel : (height, width, 3) uint8 or uint16
    """
    high, wide = layout.panel_shape
    out = np.empty((high, wide, 3), layout.dtype)
    paper, ink = (levels(colour, layout.dtype) for colour in hatch_colours())
    blank = np.zeros((1, 1, 3), layout.dtype)
    enlarge(blank, np.ones((1, 1), np.uint8), max(high, wide), paper, ink, hatch_period(layout), out)
    if layout.labels != "none" and text:
        letters = text_mask(text, layout.text, wide - 2 * layout.text)
        y, x = (high - letters.shape[0]) // 2, (wide - letters.shape[1]) // 2
        pad = layout.text // 2
        paper = paper[0]
        if letters.size and y >= 0 and x >= pad:
            out[max(0, y - pad) : y + letters.shape[0] + pad, x - pad : x + letters.shape[1] + pad] = paper
            paste(out, letters, x, y, DIM)
    return out


def _shrink(
    values: np.ndarray, mask: np.ndarray | None, layout: Layout, root: float, per_noise: float
) -> tuple[np.ndarray, np.ndarray]:
    """Values of a panel before any enlargement, (h, w) float32, flipped, and where they are hidden, uint8."""
    tall, wide = layout.panel_shape if layout.scale <= 1 else layout.shape
    factor = max(1.0, 1 / layout.scale)
    small, hidden = np.empty((tall, wide), np.float32), np.empty((tall, wide), np.uint8)
    rows, cols = plan_axis(layout.shape[0], tall, factor), plan_axis(layout.shape[1], wide, factor)
    _reduce(
        values,
        *as_flags(mask, values.shape[1]),
        *rows,
        *cols,
        np.float32(root),
        np.float32(per_noise),
        small,
        hidden,
    )
    return small, hidden


def _specks_pale(hidden: np.ndarray, layout: Layout) -> np.ndarray:
    """What is hidden (uint8) with 2 where it is a speck, such as a saturated core: narrower than 15 movie pixels, or
    than 12 product pixels where those are enlarged.
    """
    if hidden.any():
        side = 15 if layout.enlargement == 1 else 12
        areas = cv2.morphologyEx(hidden, cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
        hidden[(hidden == 1) & (areas == 0)] = 2
    return hidden


def _root_pixels(factor: float) -> float:
    """Root of the effective number of pixels under a movie pixel: by how much its mean is less noisy."""
    if factor <= 1:
        return 1.0
    (first, past, _, _), (head, tail, _) = plan_axis(round(64 * factor) + 8, 65, factor)
    weight = (head**2 + tail**2 + np.maximum(past - first - 2, 0))[:-1]
    return float(factor**2 / weight.mean())


def _robust_noise(values: np.ndarray, mask: np.ndarray | None) -> float:
    """1.4826 times the median absolute value of the good pixels (of at most about a million)."""
    skip = max(1, int(np.sqrt(values.size / 1e6)))
    part = values[::skip, ::skip]
    good = np.isfinite(part)
    if mask is not None:
        good &= ~np.asarray(mask, bool)[::skip, ::skip]
    return float(1.4826 * np.median(np.abs(part[good]))) if good.any() else 0.0


@functools.cache
def _fine_table(depth: int = 8) -> np.ndarray:
    """Colour over the difference in units of vmax, -1..1, compressed: (4095, 3) uint8, or (262143, 3) uint16.

    Between the map's 255 colours those of 16 bits lie on straight lines, so that luma rises throughout.
    """
    coarse = diverging_table(255)
    place = 127 + 127 * compress(np.linspace(-1, 1, _DEEP_STEPS if depth == 16 else _STEPS), 1.0)
    if depth == 16:
        deep = [np.interp(place, np.arange(255), 257.0 * coarse[:, c]) for c in range(3)]
        return np.rint(np.stack(deep, axis=1)).astype(np.uint16)
    return coarse[np.rint(place).astype(int)]


@functools.cache
def _greys(depth: int = 8) -> np.ndarray:
    """The luma of each entry of the fine table, int32."""
    return np.rint(_fine_table(depth) @ np.array(_LUMA)).astype(np.int32)


@njit(cache=True, nogil=True, error_model="numpy")
def _reduce(values, bad, masked, rows, row_weights, cols, col_weights, root, per_noise, small, hidden):  # type: ignore[no-untyped-def]
    """Shrink, and choose between mean and extreme, in one pass. With `per_noise` 0 only the mean counts."""
    nx = values.shape[1]
    tall, wide = hidden.shape
    total, share, far = np.empty(nx, np.float32), np.empty(nx, np.float32), np.empty(nx, np.float32)
    cover, most = np.empty(wide, np.float32), np.empty(wide, np.float32)
    zero, half, one = np.float32(0), np.float32(0.5), np.float32(1)
    shrinks = rows.shape[1] < values.shape[0]
    for r in range(tall):
        row = tall - 1 - r
        total[:], share[:], far[:] = zero, zero, zero
        for j in range(rows[0, row], rows[1, row]):
            w, counts = row_weight(rows, row_weights, row, j), rows[2, row] <= j < rows[3, row]
            _add_row(values[j], bad[j if masked else 0], w, one if counts else zero, total, share, far)
        mean = small[r]
        _add_columns(total, share, far, cols, col_weights, mean, cover, most)
        for k in range(wide):
            mean[k] *= root
            hidden[r, k] = cover[k] < half
        if shrinks:
            for k in range(wide):
                v = most[k]
                t = min(max((abs(v) * per_noise - np.float32(4.5)) / np.float32(1.5), zero), one)
                t = t * t * (np.float32(3) - np.float32(2) * t)
                mean[k] += (t if abs(v) > abs(mean[k]) else zero) * (v - mean[k])


@njit(cache=True, nogil=True, error_model="numpy")
def _colour(small, hidden, per_vmax, per_pixel, grey, table, out):  # type: ignore[no-untyped-def]
    """Look up each value's grey; colour it as far as the 7x7 pixels around it, together, are significant."""
    tall, wide = small.shape
    upright, place = np.zeros(wide + 2 * _REACH, np.float32), np.empty(wide, np.int32)
    tint = np.empty(wide, np.int32)
    zero, half, one = np.float32(0), np.float32(0.5), np.float32(1)
    middle = table.shape[0] // 2
    reach = np.float32(middle)
    per_box = per_pixel / np.float32(2 * _REACH + 1)
    most = np.float32(_MOST_IN_BOX) / per_pixel
    for r in range(tall):
        for k in range(upright.shape[0]):
            upright[k] = zero
        for j in range(max(0, r - _REACH), min(tall, r + _REACH + 1)):
            for k in range(wide):
                upright[k + _REACH] += min(max(small[j, k], -most), most)
        for k in range(wide):
            v = min(max(small[r, k] * per_vmax, -one), one) * reach
            place[k] = middle + np.int32(np.floor(v + half))
            box = upright[k]
            for i in range(1, 2 * _REACH + 1):
                box += upright[k + i]
            # No colour at what chance reaches, all of it at twice that.
            along = box if small[r, k] > zero else -box
            wide_sign = (along * per_box - np.float32(3.5)) / np.float32(4.5)
            own_sign = (abs(small[r, k]) * per_pixel - np.float32(5)) / np.float32(4)
            t = min(max(max(wide_sign, own_sign), zero), one)
            tint[k] = np.int32(t * np.float32(256))
        for k in range(wide):
            i, t = place[k], tint[k]
            for c in range(3):
                out[r, k, c] = grey[i] + ((t * (np.int32(table[i, c]) - grey[i]) + 128) >> 8)


@njit(cache=True, nogil=True, error_model="numpy")
def _add_row(line, hide, w, counts, total, share, far):  # type: ignore[no-untyped-def]
    """Add one input row: its good pixels times `w`, their weight, and (where `counts` is 1) those farthest from 0."""
    zero = np.float32(0)
    for i in range(share.shape[0]):
        v = line[i]
        good = (hide[i] == 0) & (abs(v) < FAR)
        v = v if good else zero
        total[i] += w * v
        share[i] += w if good else zero
        v *= counts
        far[i] = v if abs(v) > abs(far[i]) else far[i]


@njit(cache=True, nogil=True, error_model="numpy")
def _add_columns(total, share, far, where, weight, mean, cover, most):  # type: ignore[no-untyped-def]
    """Shrink summed rows: the `mean` of what is good, `cover` its part of the area, `most` its farthest from 0."""
    zero = np.float32(0)
    # Without a sign, for numba asks of each signed index whether it counts from the end.
    step = np.uint64(1)
    for k in range(cover.shape[0]):
        a, b = np.uint64(where[0, k]), np.uint64(where[1, k]) - step
        s = weight[0, k] * share[a] + weight[1, k] * share[b]
        m = weight[0, k] * total[a] + weight[1, k] * total[b]
        i = a + step
        if i < b:  # most often there is one: a loop would cost half as much again
            s += share[i]
            m += total[i]
            i += step
        while i < b:
            s += share[i]
            m += total[i]
            i += step
        mean[k] = m / s if s > zero else zero
        cover[k] = s * weight[2, k]
        i, b = np.uint64(where[2, k]), np.uint64(where[3, k]) - step
        v = far[i]
        i += step
        while i < b:
            v = far[i] if abs(far[i]) > abs(v) else v
            i += step
        v = far[b] if abs(far[b]) > abs(v) else v
        most[k] = v

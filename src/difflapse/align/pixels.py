"""From a rough transform to a proven one, on pixels: for frames without stars enough.

The frame is brought onto the reference's grid, cut into tiles, and each tile says by how much it still lies
beside. Tiles then are treated as stars are: a model is fitted to them and judged by tiles held out.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from difflapse.align.fit import choose_model
from difflapse.align.match import overlap_points
from difflapse.align.view import AlignOptions, Reduced, View
from difflapse.errors import AlignError
from difflapse.model import Alignment, Transform

LEAST_TILES = 5
"""Fewest tiles that must agree."""
_REACH = 4
_AGREE = 0.6
_NCC = 0.3
_STRUCTURE = 0.2


@dataclass(frozen=True, eq=False)
class Tiles:
    """Where the tiles of a frame lie, where their like lies on the reference, and how much they resemble
    it.
    """

    frame: np.ndarray
    """(n, 2) px of the frame."""
    reference: np.ndarray
    """(n, 2) px of the reference."""
    likeness: np.ndarray
    """(n,) normalised cross-correlation at the peak."""
    looked_at: int
    """Tiles with structure enough to tell."""


def settle_on_pixels(
    frame: View,
    reference: View,
    guess: Transform,
    options: AlignOptions,
    method: str,
    wanted: str = "",
) -> Alignment:
    """Refine a transform on the pixels of the small pictures, and accept it only if tiles held out agree.

    Parameters
    ----------
    frame : View
        The frame to be aligned.
    reference : View
        The frame whose pixel grid is kept.
    guess : Transform
        Frame to reference, native px, good to about 3 reduced pixels.
    options : AlignOptions
        `transform` is the model wanted.
    method : str
        The name that the result bears.
    wanted : str
        Model to fit; empty: that of the options.

    Returns
    -------
    Alignment
        `n_matched` counts tiles, `rms_pix` is theirs when held out.

    Raises
    ------
    AlignError
        `found` and `needed` tiles.
    """
    here, there = frame.picture(), reference.picture()
    transform = guess
    for _ in range(2):
        tiles = measure_tiles(here, there, transform)
        n = len(tiles.likeness)
        fx, fy = transform(tiles.frame[:, 0], tiles.frame[:, 1])
        rest = np.column_stack([fx, fy]) - tiles.reference
        rest = np.hypot(*(rest - np.median(rest, axis=0)).T) if n else np.zeros(0)
        # Tiles that know nothing point anywhere within reach; those that know agree to a reduced pixel.
        agree = rest < 1.0 * there.step
        if agree.sum() < LEAST_TILES or agree.sum() < _AGREE * tiles.looked_at:
            raise AlignError(
                f"{int(agree.sum())} of {tiles.looked_at} tiles with structure agree; {LEAST_TILES} and "
                f"{_AGREE:.0%} are needed",
                "",
                {
                    "found": int(agree.sum()),
                    "needed": max(LEAST_TILES, int(_AGREE * tiles.looked_at)),
                    "method": method,
                },
            )
        a, b = tiles.frame[agree], tiles.reference[agree]
        shape = frame.facts.shape
        domain = (0.0, 0.0, shape[1] - 1.0, shape[0] - 1.0)
        area = overlap_points(transform, shape, reference.facts.shape)
        choice = choose_model(
            a[:, 0],
            a[:, 1],
            b[:, 0],
            b[:, 1],
            tiles.likeness[agree] ** 2,
            wanted or options.transform,
            domain,
            area,
        )
        transform = choice.transform
    limit = max(1.0, there.step)
    if not choice.rms <= limit:
        raise AlignError(
            f"{choice.n} tiles agree to {choice.rms:.2f} px rms when held out; {limit:.2f} px is allowed",
            "",
            {
                "found": choice.n,
                "needed": LEAST_TILES,
                "rms_pix": choice.rms,
                "limit_pix": limit,
                "method": method,
            },
        )
    note = f"{transform.model} on {choice.n} of {tiles.looked_at} tiles of pixels"
    return Alignment(transform, method, choice.n, choice.rms, choice.p95, (), note, on_pixels=True)


def judge_on_pixels(
    frame: View, reference: View, transform: Transform, method: str, tolerance: float = 1.0
) -> Alignment:
    """Accept a transform as it is if tiles of pixels agree with it; nothing is fitted to them.

    Parameters
    ----------
    frame : View
        The frame to be aligned.
    reference : View
        The frame whose pixel grid is kept.
    transform : Transform
        Frame to reference, native px.
    method : str
        The name that the result bears.
    tolerance : float
        Radial rms allowed, in reduced pixels (at least so many native ones): more where the scene itself moves.

    Raises
    ------
    AlignError
        `found` and `needed` tiles.
    """
    here, there = frame.picture(), reference.picture()
    tiles = measure_tiles(here, there, transform)
    fx, fy = transform(tiles.frame[:, 0], tiles.frame[:, 1])
    away = np.hypot(fx - tiles.reference[:, 0], fy - tiles.reference[:, 1])
    limit = tolerance * max(1.0, there.step)
    close = away < 2.0 * limit
    rms = float(np.sqrt(np.mean(away[close] ** 2))) if close.any() else float("nan")
    enough = max(LEAST_TILES, int(np.ceil(_AGREE * tiles.looked_at)))
    if close.sum() < enough or not rms <= limit:
        raise AlignError(
            f"{int(close.sum())} of {tiles.looked_at} tiles of pixels agree, to {rms:.2f} px rms; "
            f"{enough} and {limit:.2f} px are needed",
            "",
            {"found": int(close.sum()), "needed": enough, "rms_pix": rms, "limit_pix": limit},
        )
    note = f"confirmed by {int(close.sum())} of {tiles.looked_at} tiles of pixels, none fitted"
    p95 = float(np.percentile(away[close], 95))
    return Alignment(transform, method, int(close.sum()), rms, p95, (), note, on_pixels=True)


def measure_tiles(here: Reduced, there: Reduced, transform: Transform) -> Tiles:
    """Measure by how much each tile of the reference still differs in place from the frame under a
    transform.
    """
    ny, nx = there.data.shape
    gx, gy = np.meshgrid(np.arange(nx), np.arange(ny))
    mx, my = _inverse_map(transform, here, there, gx, gy)
    moved = cv2.remap(_clean(here), mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    bad = cv2.remap(
        here.mask.astype(np.float32), mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=1
    )
    valid = (bad < 0.01) & ~there.mask
    a, b = high_pass(moved, valid), high_pass(_clean(there), valid)
    size = int(np.clip(min(ny, nx) / 5, 24, 128))
    centres, shifts, likeness = [], [], []
    looked_at = 0
    for y0 in range(_REACH, ny - size - _REACH + 1, size):
        for x0 in range(_REACH, nx - size - _REACH + 1, size):
            inner = (slice(y0, y0 + size), slice(x0, x0 + size))
            outer = (slice(y0 - _REACH, y0 + size + _REACH), slice(x0 - _REACH, x0 + size + _REACH))
            if valid[outer].mean() < 0.8:
                continue
            if min(_structure(a[inner]), _structure(b[inner])) < _STRUCTURE:
                continue
            looked_at += 1
            surface = cv2.matchTemplate(a[outer], b[inner], cv2.TM_CCOEFF_NORMED)
            peak = _peak(surface)
            if peak is None or peak[2] < _NCC:
                continue
            centres.append((x0 + 0.5 * (size - 1), y0 + 0.5 * (size - 1)))
            shifts.append((peak[0] - _REACH, peak[1] - _REACH))
            likeness.append(peak[2])
    if not centres:
        none = np.zeros((0, 2))
        return Tiles(none, none, np.zeros(0), looked_at)
    centre, shift = np.array(centres), np.array(shifts)
    # What lies at centre + shift of the moved frame is what the reference has at centre.
    at = (centre + shift) * there.step + there.offset
    ux, uy = transform.inverse(at[:, 0], at[:, 1])
    good = np.isfinite(ux) & np.isfinite(uy)
    native = centre * there.step + there.offset
    return Tiles(np.column_stack([ux, uy])[good], native[good], np.array(likeness)[good], looked_at)


def high_pass(data: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """A picture without its slow gradients, compressed so that no single star or limb rules, 0 where
    invalid.
    """
    weight = valid.astype(np.float32)
    filled = np.where(valid, data, 0).astype(np.float32)
    sigma = 8.0
    below = cv2.GaussianBlur(weight, (0, 0), sigma)
    slow = cv2.GaussianBlur(filled, (0, 0), sigma) / np.maximum(below, 1e-3)
    fast = np.where(valid, cv2.GaussianBlur(filled, (0, 0), 0.7) - slow, 0).astype(np.float32)
    scale = 3.0 * _noise(fast, valid)
    if scale <= 0:
        return fast
    out: np.ndarray = np.arcsinh(fast / scale).astype(np.float32)
    return out


def _inverse_map(
    transform: Transform, here: Reduced, there: Reduced, gx: np.ndarray, gy: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Reduced pixels of the frame for each reduced pixel of the reference; solved on a coarse grid, then
    spread.
    """
    ny, nx = gx.shape
    if transform.coefficients is None:
        x, y = transform.inverse(gx * there.step + there.offset, gy * there.step + there.offset)
    else:
        cx, cy = np.meshgrid(np.linspace(0, nx - 1, 33), np.linspace(0, ny - 1, 25))
        x, y = transform.inverse(cx * there.step + there.offset, cy * there.step + there.offset)
        fx = (gx / max(nx - 1, 1) * 32).astype(np.float32)
        fy = (gy / max(ny - 1, 1) * 24).astype(np.float32)
        x, y = (cv2.remap(v.astype(np.float32), fx, fy, cv2.INTER_LINEAR) for v in (x, y))
    x, y = (x - here.offset) / here.step, (y - here.offset) / here.step
    far = ~(np.isfinite(x) & np.isfinite(y))
    return np.where(far, -1e4, x).astype(np.float32), np.where(far, -1e4, y).astype(np.float32)


def _clean(picture: Reduced) -> np.ndarray:
    good = ~picture.mask & np.isfinite(picture.data)
    out: np.ndarray = np.where(good, picture.data, 0).astype(np.float32)
    return out


def _noise(data: np.ndarray, valid: np.ndarray) -> float:
    """Robust noise of a high-passed picture: from its median absolute value."""
    values = data[valid]
    return float(np.median(np.abs(values)) * 1.4826) if values.size else 0.0


def _structure(tile: np.ndarray) -> float:
    """Correlation of a tile with itself two pixels on: 0.1 for smoothed noise, more for a scene."""
    power = float(np.mean(tile**2))
    if power <= 0.0:
        return 0.0
    across, down = np.mean(tile[:, 2:] * tile[:, :-2]), np.mean(tile[2:] * tile[:-2])
    return float(0.5 * (across + down) / power)


def _peak(surface: np.ndarray) -> tuple[float, float, float] | None:
    """Sub-pixel peak (x, y, height) of a small surface by a parabola; None on the rim, where it only passes
    by.
    """
    if not np.all(np.isfinite(surface)):
        return None
    y, x = np.unravel_index(int(np.argmax(surface)), surface.shape)
    if not (0 < x < surface.shape[1] - 1 and 0 < y < surface.shape[0] - 1):
        return None
    top = float(surface[y, x])
    return (
        float(x) + _vertex(surface[y, x - 1], top, surface[y, x + 1]),
        float(y) + _vertex(surface[y - 1, x], top, surface[y + 1, x]),
        top,
    )


def _vertex(left: float, top: float, right: float) -> float:
    bend = left - 2 * top + right
    return float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5)) if bend < 0 else 0.0

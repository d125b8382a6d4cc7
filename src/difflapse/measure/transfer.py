"""Photon transfer: gain, read noise and the pixels' unlike response, from a few frames of a night."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from difflapse.measure.background import _robust_width
from difflapse.mosaic import sites

_CELLS = (6, 8)
_PIXELS = 2500
"""Pixels looked at in each cell of each site of each pair."""
_DARK = 25
"""Percent of pixels, the faintest, that are looked at: stars are the less among them."""
_RANGE = 1.25
"""Brightest over faintest sky below which a slope cannot be told from an offset."""
_GROWTH = 0.3
"""Where the level of no light is not known: share by which the noise's variance must grow over the sky's range.
Levels are read off the faintest quarter with the help of their own scatter, so that even sky has a slope of its own."""
_KNOWN = 0.25
"""A gain whose standard error is larger than this share of it is not told."""
_RESPONSE = 0.05
"""Of a sensor that is worth using; what shows more than that is structure of the sky."""


@dataclass(frozen=True)
class Transfer:
    """What frames say of their camera. NaN where they do not allow it; `reason` says why."""

    gain_e_adu: float = float("nan")
    gain_error: float = float("nan")
    """One standard error."""
    read_noise_e: float = float("nan")
    """With all that does not depend on light: rows' own offsets, quantisation (1/12 ADU^2)."""
    read_noise_error: float = float("nan")
    response: float = 0.0
    """Relative scatter of the pixels' sensitivity; 0 where it was not seen."""
    response_error: float = float("nan")
    n: int = 0
    """Cells behind the fit."""
    reason: str = ""

    @property
    def known(self) -> bool:
        """Whether gain and read noise were told."""
        return bool(np.isfinite(self.gain_e_adu))


def photon_transfer(
    frames: Sequence[np.ndarray], pattern: str, bias_adu: float | None, saturation_adu: float | None = None
) -> Transfer:
    """Measure gain, read noise and response from pairs of frames of one sensor.

    Parameters
    ----------
    frames : sequence of ndarray, shape (ny, nx)
        In time order, of equal exposure: two or more. Each is compared with the next but never used twice.
    pattern : str
        Mosaic in array order; empty for monochrome.
    bias_adu : float, optional
        Level of no light. Without it the gain can be told, the read noise cannot.
    saturation_adu : float, optional
        Cells near it are left out.

    Returns
    -------
    Transfer

    Notes
    -----
    The difference of two frames at one pixel is free of what is fixed on the sensor. In cells of the field, for
    each colour, its variance from pixel to pixel is taken where the *sum* of the two is in the lowest quarter: sum
    and difference are independent, so that stars are left out and nothing else is chosen. It is
    ``read**2 + signal / gain``, fitted robustly over cells, colours and pairs: vignetting, colours and moonlight
    give the range of signal. What the mean of both has beyond that from pixel to pixel is
    ``(response * signal)**2``. Janesick, *Photon Transfer* (SPIE, 2007), doi:10.1117/3.725073.
    """
    pairs = list(zip(frames[::2], frames[1::2], strict=False))
    if not pairs:
        return Transfer(reason=f"{len(frames)} frames were compared; 2 are needed")
    level, variance, fixed, count = (
        np.concatenate(v) for v in zip(*(_cells(a, b, pattern) for a, b in pairs), strict=True)
    )
    signal = level - (bias_adu or 0.0)
    good = np.isfinite(variance) & (variance > 0)
    if bias_adu is not None:
        good &= signal > 0
    if saturation_adu is not None:
        good &= level < 0.8 * saturation_adu
    if good.sum() < 24:
        return Transfer(reason=f"{int(good.sum())} cells of sky could be measured; 24 are needed")
    signal, variance, fixed, count = signal[good], variance[good], fixed[good], count[good]
    low, high = np.percentile(signal, [5, 95])
    if bias_adu is not None and high < _RANGE * max(low, 1e-9):
        return Transfer(
            n=len(signal), reason=f"the sky is {low:.0f} to {high:.0f} ADU bright: too even to tell a slope"
        )
    solution, errors, kept = _line(signal, variance, count)
    slope, offset = solution
    even = bias_adu is None and slope * (high - low) < _GROWTH * float(np.median(variance[kept]))
    if not slope > 0 or errors[0] > _KNOWN * slope or even:
        return Transfer(n=int(kept.sum()), reason="noise does not grow with the sky as photons' does")
    gain = 1 / slope
    gain_error = errors[0] / slope**2
    read = read_error = float("nan")
    if bias_adu is not None and offset > 0:
        read = gain * np.sqrt(offset)
        # Slope and offset are one fit: of both errors the offset's own counts here.
        read_error = float(np.hypot(0.5 * gain * errors[1] / np.sqrt(offset), read * errors[0] / slope))
    response, response_error = (
        _response(signal, fixed, count, kept) if bias_adu is not None else (0.0, float("nan"))
    )
    return Transfer(
        float(gain), float(gain_error), float(read), read_error, response, response_error, int(kept.sum())
    )


def _cells(a: np.ndarray, b: np.ndarray, pattern: str) -> np.ndarray:
    """Level, temporal variance of one frame, variance fixed on the sensor, and pixels, of each cell and site."""
    step = 2 if pattern else 1
    ny, nx = a.shape[0] // step, a.shape[1] // step
    edges_y = np.linspace(0, ny, _CELLS[0] + 1).astype(int)
    edges_x = np.linspace(0, nx, _CELLS[1] + 1).astype(int)
    out = []
    for site in sites(pattern):
        for y0, y1 in pairwise(edges_y):
            skip = max(1, (y1 - y0) * (nx // _CELLS[1]) // _PIXELS)
            rows = slice(y0 * step + site.y, y1 * step, skip * step)
            one, two = (f[rows, site.x : nx * step : step].astype(np.float32) for f in (a, b))
            for x0, x1 in pairwise(edges_x):
                out.append(_cell(one[:, x0:x1], two[:, x0:x1]))
    return np.array(out).T


def _cell(one: np.ndarray, two: np.ndarray) -> tuple[float, float, float, int]:
    nan = float("nan")
    total, change = one + two, one - two
    ok = np.isfinite(total)
    if ok.sum() < 400:
        return nan, nan, nan, 0
    # Neighbours within a row: of the difference and of the mean, free of the sky's gradients and their changes.
    both = total[:, 1:] + total[:, :-1]
    fine = ok[:, 1:] & ok[:, :-1]
    limit = np.percentile(both[fine], _DARK)
    fine &= both <= limit
    temporal = _robust_width((change[:, 1:] - change[:, :-1])[fine]) ** 2 / 4
    spatial = _robust_width((total[:, 1:] - total[:, :-1])[fine]) ** 2 / 8
    fixed = spatial - temporal / 2
    # A quarter of pure sky lies this far below its middle; from above, stars would push it.
    width = np.sqrt(max(4 * temporal + 8 * max(fixed, 0.0), 0.0))
    return float(limit + 0.6745 * width) / 4, temporal, fixed, int(fine.sum())


def _line(x: np.ndarray, y: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Robust straight line (slope, offset), its standard errors by the points' own scatter, and what was kept."""
    design = np.stack([x, np.ones_like(x)], axis=1)
    keep = np.ones(len(x), bool)
    model = np.full(len(x), np.median(y))
    for _ in range(8):
        # A variance from n pixels is known to sqrt(2 / n) of itself, a robust one to 1.6 times that.
        weight = count / model**2
        a = design[keep] * weight[keep, None]
        covariance = np.linalg.pinv(a.T @ design[keep])
        solution = covariance @ (a.T @ y[keep])
        model = np.maximum(design @ solution, 0.05 * np.median(y))
        away = (y - design @ solution) * np.sqrt(weight)
        width = 1.4826 * np.median(np.abs(away[keep]))
        keep = np.abs(away) < 3.5 * width
    return solution, np.sqrt(np.diag(covariance)) * max(width, 1e-12), keep


def _response(
    signal: np.ndarray, fixed: np.ndarray, count: np.ndarray, keep: np.ndarray
) -> tuple[float, float]:
    """Relative scatter of sensitivity from the fixed variance; 0 where it does not stand out by three errors."""
    relative = fixed[keep] / signal[keep] ** 2
    square = float(np.median(relative))
    error = 1.2533 * 1.4826 * float(np.median(np.abs(relative - square))) / np.sqrt(keep.sum())
    if square < 3 * error or square > _RESPONSE**2:
        return 0.0, float(np.sqrt(max(square, 0.0) + 3 * error))
    response = float(np.sqrt(square))
    return response, float(error / (2 * response))

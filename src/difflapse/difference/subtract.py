"""The subtraction: science minus template, with its variance, and one map of significance of all colours."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from difflapse.difference.mesh import ROWS_PER_LINE, line, mean
from difflapse.difference.noise import Noise, joint_correlation
from difflapse.difference.template import Template
from difflapse.model import bits

UNITS = ("sigma", "adu", "percent", "mag")
"""What the combined map may be in."""
SOFTENING = 5.0
"""Of magnitudes: noise of the sky in a pixel, sigma, at twice which they leave their linear part."""
_POGSON = np.float32(2.5 / np.log(10))


@dataclass(frozen=True, eq=False)
class Science:
    """A frame on the product grid, with what takes it to the template's brightness and background."""

    data: np.ndarray
    """(c, ny, nx) float32, ADU, bias taken off."""
    mask: np.ndarray
    """(ny, nx) uint8 bits."""
    inverse_scale: np.ndarray
    """(c, my, mx) mesh: times this ..."""
    offset: np.ndarray
    """(c, ky, kx) mesh: ... minus this is on the template's scale."""
    noise: Noise
    """Noise of `data` times the mean of `inverse_scale`, in the template's ADU."""


@dataclass(frozen=True, eq=False)
class Difference:
    """Science minus template."""

    combined: np.ndarray
    """(ny, nx) float32: all colours in one map, in `units`; NaN where masked."""
    units: str
    """One of `UNITS`."""
    noise: float
    """Typical (median) one-sigma noise of `combined`, in its units: 1 for sigma."""
    mask: np.ndarray
    """(ny, nx) uint8 bits: science and template together."""
    significance: np.ndarray
    """(ny, nx) float32: all colours in one map in units of the photon sigma, whatever `units` are; NaN where masked."""
    data: np.ndarray | None = None
    """(c, ny, nx) float32, ADU of the template's scale; only where asked for."""
    variance: np.ndarray | None = None
    """(c, ny, nx) float32, ADU^2; only where asked for."""
    correlation: np.ndarray | None = None
    """(c,): NOISECOR of `data`, see `difflapse.difference.Noise`; only where asked for."""


def subtract(
    science: Science, template: Template, own_weight: float = 0.0, units: str = "sigma", keep: bool = False
) -> Difference:
    """Subtract a template from a science frame; finds nothing.

    Parameters
    ----------
    science : Science
        The frame, with what takes it to the template's brightness and background.
    template : Template
        What is subtracted.
    own_weight : float
        Weight (1/n) with which the science frame itself is in the template: the two are then correlated, and
        the variance of their difference is smaller by twice that part of the science frame's.
    units : str
        Units of the combined map, one of `UNITS`: ``percent`` of what is subtracted, sky included; ``mag``:
        brightening of the light above the sky.
    keep : bool
        Also return the difference and its variance for each channel.

    Returns
    -------
    Difference
        Positive where the science frame is brighter.

    Notes
    -----
    Channels are combined with inverse variances: with D_c and V_c, significance is ``sum(D/V) /
    sqrt(sum(1/V))``, of unit variance where the noise model holds. Float arithmetic throughout.

    A ratio of brightnesses means nothing where there is but sky. Magnitudes are therefore those of Lupton, Gunn &
    Szalay (1999), ``-2.5 / ln 10 * asinh(f / 2b)`` with f the light above the sky of the template and b five times
    the sky's noise in a pixel. Where stars are well above 2b = 10 sigma the map is the change of magnitude (its sign
    turned, so that brighter is positive here too); over empty sky one sigma is 0.11 mag, everywhere.
    """
    c, ny, nx = science.data.shape
    significance = np.empty((ny, nx), np.float32)
    combined = significance if units == "sigma" else np.empty((ny, nx), np.float32)
    mask = science.mask | np.where(template.count == 0, np.uint8(bits.NO_TEMPLATE), np.uint8(0))
    data = np.empty((c, ny, nx), np.float32) if keep else np.empty((c, 1, nx), np.float32)
    variance = np.empty((c, ny, nx), np.float32) if keep else np.empty((c, 1, nx), np.float32)
    _subtract(
        science.data,
        mask,
        np.ascontiguousarray(science.inverse_scale, np.float32),
        np.ascontiguousarray(science.offset, np.float32),
        science.noise.sky,
        science.noise.photon,
        np.ascontiguousarray(science.noise.flat, np.float32),
        template.data,
        template.variance,
        np.ascontiguousarray(template.sky, np.float32),
        np.float32(1 - 2 * own_weight),
        UNITS.index(units),
        significance,
        combined,
        data,
        variance,
        keep,
    )
    noise = 1.0
    if units != "sigma":
        sample = combined[::5, ::5]
        sample = sample[np.isfinite(sample)]
        noise = float(1.4826 * np.median(np.abs(sample - np.median(sample)))) if sample.size else 1.0
        noise = noise or 1.0
    if not keep:
        return Difference(combined, units, noise, mask, significance)
    correlation = _correlation(science, template, own_weight)
    return Difference(combined, units, noise, mask, significance, data, variance, correlation)


def _correlation(science: Science, template: Template, own_weight: float) -> np.ndarray:
    """NOISECOR of the difference, on empty sky."""
    own = mean(science.noise.sky) * (1 - 2 * own_weight)
    good = template.count[::16, ::16] > 0
    theirs = np.array([np.median(v[::16, ::16][good]) if good.any() else 0.0 for v in template.variance])
    return joint_correlation([own, theirs], [science.noise.correlation, template.correlation])


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _channel_row(
    s: np.ndarray,
    t: np.ndarray,
    vt: np.ndarray,
    scale: np.ndarray,
    offset: np.ndarray,
    sky: np.ndarray,
    photon: np.ndarray,
    flat: np.ndarray,
    level: np.ndarray,
    margin: np.ndarray,
    own: np.float32,
    d: np.ndarray,
    v: np.ndarray,
) -> None:
    for i in range(len(d)):
        value = s[i] * scale[i] - offset[i]
        # A brightening adds its own photons; three sigma off, so that noise does not feed on itself.
        signal = max(max(t[i], value - margin[i]) - level[i], np.float32(0))
        d[i] = value - t[i]
        v[i] = (sky[i] + (photon[i] + flat[i] * signal) * signal) * own + vt[i]


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _add_row(
    d: np.ndarray,
    v: np.ndarray,
    t: np.ndarray,
    ground: np.ndarray,
    num: np.ndarray,
    den: np.ndarray,
    base: np.ndarray,
) -> None:
    for i in range(len(d)):
        w = np.float32(1) / v[i]
        num[i] += d[i] * w
        den[i] += w
        base[i] += (t[i] - ground[i]) * w


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _brightening(
    num: np.ndarray, den: np.ndarray, base: np.ndarray, quiet: np.ndarray, row: np.ndarray
) -> None:
    """Magnitudes from sums: `base` and `num` over `den` are light and its change, 1 / `quiet` the sky's variance."""
    for i in range(len(row)):
        soft = np.float32(0.5 / SOFTENING) * np.sqrt(quiet[i])
        light, change = base[i] / den[i], num[i] / den[i]
        row[i] = _POGSON * (np.arcsinh((light + change) * soft) - np.arcsinh(light * soft))


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _subtract(
    data: np.ndarray,
    mask: np.ndarray,
    inverse_scale: np.ndarray,
    offset: np.ndarray,
    sky: np.ndarray,
    photon: np.ndarray,
    flat: np.ndarray,
    template: np.ndarray,
    variance: np.ndarray,
    level: np.ndarray,
    own: np.float32,
    units: int,
    significance: np.ndarray,
    combined: np.ndarray,
    d_out: np.ndarray,
    v_out: np.ndarray,
    keep: bool,
) -> None:
    c, ny, nx = data.shape
    lines = np.empty((c, 7, nx), np.float32)
    num = np.empty(nx, np.float32)
    den = np.empty(nx, np.float32)
    base = np.empty(nx, np.float32)
    quiet = np.empty(nx, np.float32)
    nothing = np.zeros(nx, np.float32)
    for j in range(ny):
        if j % ROWS_PER_LINE == 0:
            middle = min(j + 0.5 * (ROWS_PER_LINE - 1), ny - 1.0)
            for k in range(c):
                line(inverse_scale[k], middle, ny, lines[k, 0])
                line(offset[k], middle, ny, lines[k, 1])
                line(sky[k], middle, ny, lines[k, 2])
                line(photon[k], middle, ny, lines[k, 3])
                line(level[k], middle, ny, lines[k, 4])
                line(flat[k], middle, ny, lines[k, 6])
                for i in range(nx):
                    lines[k, 5, i] = np.float32(3) * np.sqrt(lines[k, 2, i])
        num[:] = 0
        den[:] = 0
        base[:] = 0
        quiet[:] = 0
        for k in range(c):
            r = j if keep else 0
            _channel_row(
                data[k, j],
                template[k, j],
                variance[k, j],
                lines[k, 0],
                lines[k, 1],
                lines[k, 2],
                lines[k, 3],
                lines[k, 6],
                lines[k, 4],
                lines[k, 5],
                own,
                d_out[k, r],
                v_out[k, r],
            )
            ground = lines[k, 4] if units == 3 else nothing
            _add_row(d_out[k, r], v_out[k, r], template[k, j], ground, num, den, base)
            if units == 3:
                for i in range(nx):
                    quiet[i] += np.float32(1) / max(lines[k, 2, i], np.float32(1e-12))
        row = combined[j]
        bad = mask[j]
        nan = np.float32(np.nan)
        sigmas = significance[j]
        for i in range(nx):
            sigmas[i] = num[i] / np.sqrt(den[i])
        if units == 1:
            for i in range(nx):
                row[i] = num[i] / den[i]
        elif units == 2:
            for i in range(nx):
                row[i] = np.float32(100) * num[i] / base[i] if base[i] > 0 else nan
        elif units == 3:
            _brightening(num, den, base, quiet, row)
        for i in range(nx):
            if bad[i] != 0:
                row[i] = sigmas[i] = nan

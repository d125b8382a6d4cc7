"""The subtraction: science minus template, with its variance, and one map of significance of all colours."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from difflapse.difference.correlate import Convolution, correlate_row
from difflapse.difference.noise import Noise, joint_correlation
from difflapse.difference.template import Template
from difflapse.measure.mesh import ROWS_PER_LINE, mean, spread
from difflapse.model import bits

UNITS = ("sigma", "adu", "percent", "mag")
"""What the combined map may be in."""
SOFTENING = 5.0
"""Of magnitudes: noise of the sky in a pixel, sigma, at twice which they leave their linear part."""
_POGSON = np.float32(2.5 / np.log(10))
_TILE = 256
"""Pixels of a row that are subtracted together."""
_GIVEN, _SUMS = 8, 7
"""Lines of a tile's length that its subtraction needs, and makes."""
_NOTHING = Convolution(np.zeros((0, 0, 0, 1, 1), np.float32), np.zeros((0, 0, 0), np.float32), 1, False)


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
    convolution: Convolution | None = None
    """What `data` is still to be convolved with; the rest is as after it."""


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
    sqrt(sum(1/V))``, of unit variance where the noise model holds. Float arithmetic throughout. What is still to be
    convolved is so row by row: a convolved image is never written.

    A ratio of brightnesses means nothing where there is but sky. Magnitudes are therefore those of Lupton, Gunn &
    Szalay (1999), ``-2.5 / ln 10 * asinh(f / 2b)`` with f the light above the sky of the template and b five times
    the sky's noise in a pixel. Where stars are well above 2b = 10 sigma the map is the change of magnitude (its sign
    turned, so that brighter is positive here too); over empty sky one sigma is 0.11 mag, everywhere.

    Raises
    ------
    ValueError
        Both images are still to be convolved.
    """
    c, ny, nx = science.data.shape
    if science.convolution is not None and template.convolution is not None:
        raise ValueError("one image is convolved to the other, not both")
    convolution = science.convolution or template.convolution or _NOTHING
    significance = np.empty((ny, nx), np.float32)
    combined = significance if units == "sigma" else np.empty((ny, nx), np.float32)
    mask = (template.count == 0).view(np.uint8)
    mask *= np.uint8(bits.NO_TEMPLATE)
    mask |= science.mask
    data, variance = np.empty((2, c, ny, nx) if keep else (2, c, 0, nx), np.float32)
    _subtract(
        np.asarray(science.data, np.float32),
        mask,
        np.ascontiguousarray(science.inverse_scale, np.float32),
        np.ascontiguousarray(science.offset, np.float32),
        science.noise.sky,
        science.noise.photon,
        np.ascontiguousarray(science.noise.flat, np.float32),
        np.asarray(template.data, np.float32),
        np.asarray(template.variance),
        np.ascontiguousarray(template.sky, np.float32),
        np.float32(1 - 2 * own_weight),
        UNITS.index(units),
        significance,
        combined,
        data,
        variance,
        keep,
        convolution.kernels,
        convolution.factor,
        convolution.block,
        convolution.apart,
        0 if convolution is _NOTHING else 1 if science.convolution is not None else 2,
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
    some = np.asarray(template.variance[:, ::16, ::16])
    if template.convolution is not None:
        j, i = (np.arange(0, n, 16) // template.convolution.block for n in template.count.shape)
        some = some * template.convolution.factor[:, j[:, None], i]
    theirs = np.array([np.median(v[good]) if good.any() else 0.0 for v in some])
    return joint_correlation([own, theirs], [science.noise.correlation, template.correlation])


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
    kernels: np.ndarray,
    factor: np.ndarray,
    block: int,
    apart: bool,
    which: int,
) -> None:
    """`which` image is convolved: none (0), the science frame (1) or the template (2).

    A few rows share their meshes' lines, and are gone through in tiles that stay at hand.
    """
    c, ny, nx = data.shape
    size = kernels.shape[3]
    ring, held = np.empty((c, size, nx + size - 1), np.float32), np.full((c, size), -1)
    blurred = np.empty((ROWS_PER_LINE, nx), np.float32)
    tiles = (nx + _TILE - 1) // _TILE
    given = np.zeros(_GIVEN * _TILE, np.float32)
    sums = np.zeros((ROWS_PER_LINE, tiles, _SUMS * _TILE), np.float32)
    # Rows of the meshes, spread over the image's width: the one before these rows and the one after.
    known, ends = np.full((c, 6), -1), np.empty((c, 6, 2, nx), np.float32)
    part = np.empty((c, 6), np.float32)
    for first in range(0, ny, ROWS_PER_LINE):
        last = min(first + ROWS_PER_LINE, ny)
        middle = min(first + 0.5 * (ROWS_PER_LINE - 1), ny - 1.0)
        for k in range(c):
            _between(inverse_scale[k], middle, ny, known[k, 0:1], ends[k, 0], part[k, 0:1])
            _between(offset[k], middle, ny, known[k, 1:2], ends[k, 1], part[k, 1:2])
            _between(sky[k], middle, ny, known[k, 2:3], ends[k, 2], part[k, 2:3])
            _between(photon[k], middle, ny, known[k, 3:4], ends[k, 3], part[k, 3:4])
            _between(level[k], middle, ny, known[k, 4:5], ends[k, 4], part[k, 4:5])
            _between(flat[k], middle, ny, known[k, 5:6], ends[k, 5], part[k, 5:6])
            if which:
                image = data[k] if which == 1 else template[k]
                for j in range(first, last):
                    correlate_row(image, kernels[k], j, block, apart, ring[k], held[k], blurred[j - first])
            for tile in range(tiles):
                i0, i1 = tile * _TILE, min(tile * _TILE + _TILE, nx)
                for q in range(6):
                    f, upper, lower = part[k, q], ends[k, q, 0, i0:i1], ends[k, q, 1, i0:i1]
                    to = given[q * _TILE : q * _TILE + i1 - i0]
                    for i in range(i1 - i0):
                        to[i] = upper[i] + f * (lower[i] - upper[i])
                for i in range(_TILE):
                    given[6 * _TILE + i] = np.float32(3) * np.sqrt(given[2 * _TILE + i])
                given[7 * _TILE :] = 1
                for j in range(first, last):
                    own_sums = sums[j - first, tile]
                    if k == 0:
                        own_sums[: 3 * _TILE] = 0
                        own_sums[5 * _TILE :] = 0
                    if which == 2:
                        for b in range(i0 // block, (i1 - 1) // block + 1):
                            start, end = max(b * block - i0, 0), min((b + 1) * block, i1) - i0
                            given[7 * _TILE + start : 7 * _TILE + end] = factor[k, j // block, b]
                    ours = blurred[j - first] if which == 1 else data[k, j]
                    theirs = blurred[j - first] if which == 2 else template[k, j]
                    _add_channel(ours[i0:i1], theirs[i0:i1], variance[k, j, i0:i1], given, own, own_sums)
                    if units == 3:
                        _add_ground(given, own_sums)
                    if keep:
                        d_out[k, j, i0:i1] = own_sums[3 * _TILE : 3 * _TILE + i1 - i0]
                        v_out[k, j, i0:i1] = own_sums[4 * _TILE : 4 * _TILE + i1 - i0]
        for j in range(first, last):
            for tile in range(tiles):
                i0, i1 = tile * _TILE, min(tile * _TILE + _TILE, nx)
                own_sums, bad = sums[j - first, tile], mask[j, i0:i1]
                _finish(own_sums, bad, 0, significance[j, i0:i1])
                if units:
                    _finish(own_sums, bad, units, combined[j, i0:i1])


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _between(
    mesh: np.ndarray, j: float, ny: int, known: np.ndarray, ends: np.ndarray, part: np.ndarray
) -> None:
    """The mesh's rows before and after row `j` of the image into `ends` (2, nx), and how far `j` is between them.

    `known` (1,) is the row of the mesh that `ends` begins with already; -1 at first.
    """
    my = len(mesh)
    v = j * (my - 1) / max(ny - 1, 1)
    a = min(int(v), my - 2)
    part[0] = v - a
    if known[0] == a:
        return
    if known[0] == a - 1 and a > 0:
        ends[0] = ends[1]
    else:
        spread(mesh[a], ends.shape[1], 0, ends[0])
    spread(mesh[a + 1], ends.shape[1], 0, ends[1])
    known[0] = a


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _add_channel(
    s: np.ndarray, t: np.ndarray, vt: np.ndarray, given: np.ndarray, own: np.float32, sums: np.ndarray
) -> None:
    """Add one colour of a tile's row to its sums.

    `given` has lines of a tile's length, one after the other: scale, offset, sky, photon, level, flat, three sigma of
    the sky, and the factor of the template's variance. `sums` has those of D / V, 1 / V and T / V, and this colour's D
    and V; two more are `_add_ground`'s. All in one array each: of many, the compiler would have to know that none
    overlaps another.
    """
    for i in range(len(s)):
        value = s[i] * given[i] - given[_TILE + i]
        # A brightening adds its own photons; three sigma off, so that noise does not feed on itself.
        signal = max(max(t[i], value - given[6 * _TILE + i]) - given[4 * _TILE + i], np.float32(0))
        d = value - t[i]
        own_v = given[2 * _TILE + i] + (given[3 * _TILE + i] + given[5 * _TILE + i] * signal) * signal
        v = own_v * own + vt[i] * given[7 * _TILE + i]
        w = np.float32(1) / v
        sums[i] += d * w
        sums[_TILE + i] += w
        sums[2 * _TILE + i] += t[i] * w
        sums[3 * _TILE + i] = d
        sums[4 * _TILE + i] = v


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _add_ground(given: np.ndarray, sums: np.ndarray) -> None:
    """Add this colour's sky, as the template's light is weighted, and what its variance alone would weigh."""
    for i in range(_TILE):
        sums[5 * _TILE + i] += given[4 * _TILE + i] / sums[4 * _TILE + i]
        sums[6 * _TILE + i] += np.float32(1) / max(given[2 * _TILE + i], np.float32(1e-12))


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _finish(sums: np.ndarray, bad: np.ndarray, units: int, out: np.ndarray) -> None:
    """A tile's row in sigma (0), ADU (1), percent (2) or magnitudes (3); NaN where it is bad."""
    nan = np.float32(np.nan)
    if units == 0:
        for i in range(len(out)):
            out[i] = nan if bad[i] != 0 else sums[i] / np.sqrt(sums[_TILE + i])
    elif units == 1:
        for i in range(len(out)):
            out[i] = nan if bad[i] != 0 else sums[i] / sums[_TILE + i]
    elif units == 2:
        for i in range(len(out)):
            base = sums[2 * _TILE + i]
            out[i] = nan if bad[i] != 0 or not base > 0 else np.float32(100) * sums[i] / base
    else:
        for i in range(len(out)):
            soft = np.float32(0.5 / SOFTENING) * np.sqrt(sums[6 * _TILE + i])
            light = (sums[2 * _TILE + i] - sums[5 * _TILE + i]) / sums[_TILE + i]
            change = sums[i] / sums[_TILE + i]
            brighter = _POGSON * (np.arcsinh((light + change) * soft) - np.arcsinh(light * soft))
            out[i] = nan if bad[i] != 0 else brighter

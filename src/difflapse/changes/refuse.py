"""Refusing what a difference shows but the sky does not, each with its reason."""

from __future__ import annotations

import numba
import numpy as np

from difflapse.changes.starlight import Starlight, scatter_by_light
from difflapse.model import ProductGrid, bits
from difflapse.model.sightings import (
    BLEED,
    COSMIC,
    DIPOLE,
    DUST,
    EDGE,
    HOT,
    MOSAIC,
    NEGATIVE,
    REFLECTION,
    REFUSED,
    ROWS,
    STAR,
    Sightings,
)
from difflapse.mosaic import native_order, sort_rows, sorting_network

_SPIKE = 0.62
"""Share of a point's light in its brightest native pixel from which on it is no star: one of 1.5 px FWHM has 0.4."""
_SPIKE_HALF = 8
"""Native pixels to each side that tell the sky about a point."""
_OWN = 2.0
"""Native pixels to each side, half of one more on a mosaic, among which the point's brightest one is."""
_TOGETHER = 8
"""Places that are looked at together."""
_ONE_COLOUR = 0.9
"""Share of the light in one colour of the mosaic from which on it is no light of the sky."""
_OPPOSITE = 0.35
"""A dipole's darker side has this much of the brighter one."""
_HALO = 12.0
"""Widths of a star about saturated pixels in which nothing wide is believed."""
_WAYS, _ALONG = 8, 2.0
"""Directions, and widths of a star, in which a line of light is looked for, ..."""
_GOES_ON = 0.35
"""... and the share of the brightest place that it has on both sides."""
_SPIKED = 8
"""Step of the template's brightness from which on a star has spikes, saturated or not."""
_EDGE = 2.0
"""Widths of a star along the edge."""
_ECHO = 0.3
"""S/N of a streak over that of one it lies on, on another frame, up to which it is that one's."""
_TILT = 0.03
"""Sine of the angle to a row or column up to which a line lies along it, ..."""
_FAINT = 0.9
"""... and S/N of a star's width of it up to which it is faint."""
_EXACT, _LONG = 0.002, 400.0
"""Sine up to which a line lies along a row however bright it is, and native pixels that it must have for that."""
_HERE = 0.7
"""Native pixels within which a sensor's pixel is the same."""
_SHAPED = 10.0
"""S/N from which nine pixels tell a star from a single pixel: each of them has a third of that, or less."""
_SAME_WAY = 2.0
"""Degrees within which lines of several frames have one direction."""
_AGAIN = 4
"""Frames, and a sixth of the night, that show faint lines of one direction where a readout draws them."""
_FEWEST_STEPS = 8
"""Steps from a frame to the next that tell a place's noise, ..."""
_RESTLESS = 2.0
"""... which counts from so many sigma on: chance makes 1.8 of 1, seldom more."""
_FIXED, _AWAY = 1.5, 4.0
"""Native pixels within which something stays on the sensor, while the sky moves by more than the second."""
_RESTS = 0.7
"""Share of a track's sightings that are within the first where it is the sensor's."""
_ALIGNED = 0.1
"""Native pixels to which a frame's place on the sky is known, at least, ..."""
_RATHER, _ALIKE_PLACES = 12.0, 4.0
"""... chi square by which places on the sensor must fit better than those on the sky (of 400 things of the sky one does
so by chance), and that of each sighting up to which they fit at all."""
_FEW_ALONE = 3
"""Points on one frame each that a night may tell of; more are what particles leave."""


def by_starlight(
    sightings: Sightings,
    snr: np.ndarray,
    starlight: Starlight,
    grid: ProductGrid,
    believed: float = 4.5,
    scatter: np.ndarray | None = None,
) -> Sightings:
    """Count the model's error: S/N over the scatter that this frame shows where the template is as bright.

    Parameters
    ----------
    sightings : Sightings
        Of one frame.
    snr : ndarray, shape (ny, nx), float32
        The filtered difference that they were found on (`find.filtered`), 0 where unknown.
    starlight : Starlight
        What the template has.
    grid : ProductGrid
        Of both.
    believed : float
        S/N, after that, below which a sighting is flagged `STAR`.
    scatter : ndarray, shape (n_bins,), optional
        What the whole frame shows (`scatter_of`), where `snr` is a part of it.

    Returns
    -------
    Sightings
        With smaller `snr` near stars.

    Notes
    -----
    The error of alignment, PSF and flat field goes with the light that is subtracted. It is read off the frame itself
    at all pixels of like brightness, thousands of them, so that no changing object hides itself.
    """
    if scatter is None:
        scatter = scatter_of(snr, starlight)
    i, j = grid.nearest(sightings.x, sightings.y)
    own = np.where(sightings.is_streak, 1.0, scatter[starlight.bins[j, i]])
    flags = sightings.flags.copy()
    flags[np.abs(sightings.snr) / own < believed] |= STAR
    return _with(sightings, flags, sightings.snr / own)


def scatter_of(snr: np.ndarray, starlight: Starlight) -> np.ndarray:
    """How a filtered difference (ny, nx) scatters where the template is so bright, (n_bins,)."""
    return scatter_by_light(snr[::2, ::2], starlight.bins[::2, ::2])[1]


def by_mask(sightings: Sightings, mask: np.ndarray, grid: ProductGrid, fwhm: float) -> Sightings:
    """Flag what lies at an edge, and what is wide near saturated pixels.

    Parameters
    ----------
    sightings : Sightings
        Of one frame.
    mask : ndarray, shape (ny, nx), uint8
        Bits of `difflapse.model.bits`.
    grid : ProductGrid
        Where its pixels lie on the reference.
    fwhm : float
        Of a star, product pixels.

    Returns
    -------
    Sightings
        With flags `EDGE` and `REFLECTION`; streaks cross what they like.
    """
    i, j = grid.nearest(sightings.x, sightings.y)
    flags = sightings.flags.copy()
    points = ~sightings.is_streak
    nowhere = np.uint8(bits.OUTSIDE | bits.NO_TEMPLATE | bits.BLANK)
    # Single pixels that are blank are no edge.
    flags[points & _near_bits(mask, i, j, nowhere, _EDGE * fwhm + 1, whole=True, beyond=True)] |= EDGE
    full = np.uint8(bits.SATURATED)
    wide = points & (sightings.width > 1.5 * fwhm * grid.step)
    flags[np.flatnonzero(wide)[_near_bits(mask, i[wide], j[wide], full, _HALO * fwhm)]] |= REFLECTION
    return _with(sightings, flags)


def by_border(sightings: Sightings, inner: tuple[int, int, int, int], fwhm_native: float) -> Sightings:
    """Flag what lies at the edge of the sensor's live pixels: a dead border is masked, but no outside.

    Parameters
    ----------
    sightings : Sightings
        Of one frame, with `x_frame` and `y_frame`.
    inner : tuple of int
        First and last live column, first and last live row.
    fwhm_native : float
        Of a star as the products show it, native pixels: nothing is believed within two of it.

    Returns
    -------
    Sightings
        With flags `EDGE`; streaks cross what they like.
    """
    x, y = sightings.x_frame, sightings.y_frame
    away = np.minimum.reduce([x - inner[0], inner[1] - x, y - inner[2], inner[3] - y])
    with np.errstate(invalid="ignore"):
        edge = ~sightings.is_streak & (away < _EDGE * fwhm_native)
    return _with(sightings, np.where(edge, sightings.flags | EDGE, sightings.flags))


def _near_bits(
    mask: np.ndarray,
    i: np.ndarray,
    j: np.ndarray,
    bit: np.uint8,
    reach: float,
    whole: bool = False,
    beyond: bool = False,
) -> np.ndarray:
    """Whether pixels with some bits lie nearer than `reach` to given ones.

    Parameters
    ----------
    mask : ndarray, shape (ny, nx), uint8
        Bits of `difflapse.model.bits`.
    i, j : ndarray of int, shape (n,)
        Pixels within the mask: column and row.
    bit : uint8
        The bits that count.
    reach : float
        Pixels; a step along an axis counts for 0.955, one across for 1.3693 (Borgefors' distance, good to 5 %).
    whole : bool
        Only what fills 3x3 pixels, or what of them lies in the image, counts.
    beyond : bool
        What lies beyond the edges counts too.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    out = np.zeros(len(i), bool)
    _near(mask, i.astype(np.int64), j.astype(np.int64), bit, float(reach), whole, beyond, out)
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _near(
    mask: np.ndarray,
    i: np.ndarray,
    j: np.ndarray,
    bit: np.uint8,
    reach: float,
    whole: bool,
    beyond: bool,
    out: np.ndarray,
) -> None:
    ny, nx = mask.shape
    r = int(reach / 0.955) + 1
    for n in range(len(i)):
        for y in range(j[n] - r, j[n] + r + 1):
            dy = abs(y - j[n])
            for x in range(i[n] - r, i[n] + r + 1):
                dx = abs(x - i[n])
                if 0.955 * max(dx, dy) + 0.4143 * min(dx, dy) >= reach:
                    continue
                if 0 <= y < ny and 0 <= x < nx:
                    here = mask[y, x] & bit != 0 and (not whole or _filled(mask, x, y, bit))
                else:
                    here = beyond
                if here:
                    out[n] = True
                    break
            if out[n]:
                break


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _filled(mask: np.ndarray, i: int, j: int, bit: np.uint8) -> bool:
    """Whether a pixel is one of 3x3 that all have the bits, as far as they lie in the image."""
    ny, nx = mask.shape
    for q in range(max(j - 1, 0), min(j + 2, ny)):
        for p in range(max(i - 1, 0), min(i + 2, nx)):
            full = True
            for y in range(max(q - 1, 0), min(q + 2, ny)):
                for x in range(max(p - 1, 0), min(p + 2, nx)):
                    if mask[y, x] & bit == 0:
                        full = False
            if full:
                return True
    return False


def by_spike(
    sightings: Sightings, snr: np.ndarray, mask: np.ndarray, light: np.ndarray, grid: ProductGrid, fwhm: float
) -> Sightings:
    """Flag what is a part of a line of light near a bright star: a spike of the optics, or a readout's trail.

    Parameters
    ----------
    sightings : Sightings
        Of one frame.
    snr : ndarray, shape (ny, nx), float32
        The filtered difference that they were found on, 0 where unknown.
    mask : ndarray, shape (ny, nx), uint8
        Bits of `difflapse.model.bits`.
    light : ndarray, shape (ny, nx), uint8
        How bright the template is there (`Starlight.bins`).
    grid : ProductGrid
        Of all.
    fwhm : float
        Of a star, product pixels.

    Returns
    -------
    Sightings
        With flags `BLEED`. A star's light has faded to nothing two widths away; a line's goes on, to both sides.
    """
    i, j = grid.nearest(sightings.x, sightings.y)
    ny, nx = snr.shape
    goes_on = np.zeros(len(sightings))
    for angle in np.arange(_WAYS) * np.pi / _WAYS:
        di, dj = round(_ALONG * fwhm * np.cos(angle)), round(_ALONG * fwhm * np.sin(angle))
        both = [
            snr[np.clip(j + s * dj, 0, ny - 1), np.clip(i + s * di, 0, nx - 1)] * np.sign(snr[j, i])
            for s in (-1, 1)
        ]
        goes_on = np.maximum(goes_on, np.minimum(*both))
    flags = sightings.flags.copy()
    reach = int(np.ceil(_HALO * fwhm))
    for n in np.flatnonzero(~sightings.is_streak & (goes_on > _GOES_ON * np.abs(snr[j, i]))):
        near = np.s_[max(j[n] - reach, 0) : j[n] + reach + 1, max(i[n] - reach, 0) : i[n] + reach + 1]
        if (light[near] >= _SPIKED).any() or ((mask[near] & bits.SATURATED) != 0).any():
            flags[n] |= BLEED
    return _with(sightings, flags)


def by_dipole(sightings: Sightings, fwhm_native: float, starlight: Starlight, grid: ProductGrid) -> Sightings:
    """Flag light and dark side by side at stars, unless one side is by far the stronger.

    Parameters
    ----------
    sightings : Sightings
        Of one frame.
    fwhm_native : float
        Of a star, native pixels.
    starlight : Starlight
        What the template has: a dipole is a star that is not quite where it was. On empty sky, two sides are two
        things, or one that moves in a running difference.
    grid : ProductGrid
        Of the starlight's map.

    Returns
    -------
    Sightings
        With flags `DIPOLE`.
    """
    from scipy.spatial import cKDTree

    i, j = grid.nearest(sightings.x, sightings.y)
    points = np.flatnonzero(~sightings.is_streak & (starlight.bins[j, i] > 0))
    flags = sightings.flags.copy()
    if len(points) < 2:
        return sightings
    xy = np.column_stack([sightings.x[points], sightings.y[points]])
    snr = sightings.snr[points]
    for a, b in cKDTree(xy).query_pairs(2.2 * fwhm_native + 1):
        if snr[a] * snr[b] >= 0:
            continue
        weak, strong = sorted((a, b), key=lambda n: abs(snr[n]))
        flags[points[weak]] |= DIPOLE
        if abs(snr[weak]) > _OPPOSITE * abs(snr[strong]):
            flags[points[strong]] |= DIPOLE
    return _with(sightings, flags)


def spikes(data: np.ndarray, x: np.ndarray, y: np.ndarray, mosaic: str = "") -> tuple[np.ndarray, np.ndarray]:
    """How much of the light at given places of a frame lies in one native pixel.

    Parameters
    ----------
    data : ndarray, shape (ny, nx)
        Native pixels.
    x, y : ndarray, shape (n,)
        Places, native pixels of this frame.
    mosaic : str
        Not empty where neighbours are of another colour: the sky is then told by pixels of the same one.

    Returns
    -------
    share, contrast : ndarray, shape (n,)
        Brightest pixel over the sum of the 3x3 about it, and how many times the sky's scatter it is; NaN at the edge.
    """
    share, contrast = np.full(len(x), np.nan), np.full(len(x), np.nan)
    step = 2 if mosaic else 1
    network = sorting_network((2 * _SPIKE_HALF // step) ** 2)
    _spikes(native_order(data), np.asarray(x, float), np.asarray(y, float), step, network, share, contrast)
    return share, contrast


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _spikes(
    data: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    step: int,
    network: np.ndarray,
    share: np.ndarray,
    contrast: np.ndarray,
) -> None:
    """Some places at a time: the pixels about them are sorted side by side, each colour's by themselves."""
    ny, nx = data.shape
    r, sites = _SPIKE_HALF, step * step
    values = np.zeros((4 * r * r // sites, _TOGETHER * sites), np.float32)
    level, noise = np.empty(_TOGETHER * sites, np.float32), np.empty(_TOGETHER * sites, np.float32)
    room = np.empty_like(values)
    for first in range(0, len(x), _TOGETHER):
        last = min(first + _TOGETHER, len(x))
        for n in range(first, last):
            if _inside(x[n], y[n], ny, nx):
                i0, j0 = int(np.rint(x[n])), int(np.rint(y[n]))
                _about(data, i0 - i0 % step - r, j0 - j0 % step - r, step, values, (n - first) * sites)
        _middles(values, network, room, level)
        for m in range(len(values)):
            for k in range(len(level)):
                values[m, k] -= level[k]
        _middles(np.abs(values), network, room, noise)
        for n in range(first, last):
            if _inside(x[n], y[n], ny, nx):
                _spike(x[n], y[n], step, values, noise, n - first, share[n : n + 1], contrast[n : n + 1])


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _inside(x: float, y: float, ny: int, nx: int) -> bool:
    """Whether all about a place is in the image."""
    if not (np.isfinite(x) and np.isfinite(y)):
        return False
    i, j, away = int(np.rint(x)), int(np.rint(y)), _SPIKE_HALF + 2
    return i >= away and j >= away and i < nx - away and j < ny - away


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _about(data: np.ndarray, i: int, j: int, step: int, values: np.ndarray, column: int) -> None:
    """Lay the pixels of a square, the first at (i, j), in columns, one for each colour."""
    for a in range(step):
        for b in range(step):
            m = 0
            for v in range(a, 2 * _SPIKE_HALF, step):
                for u in range(b, 2 * _SPIKE_HALF, step):
                    values[m, column + a * step + b] = np.float32(data[j + v, i + u])
                    m += 1


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _middles(values: np.ndarray, network: np.ndarray, room: np.ndarray, out: np.ndarray) -> None:
    """The median of each column of an even number of values."""
    room[:] = values
    sort_rows(room, network)
    half = len(room) // 2
    for k in range(len(out)):
        out[k] = np.float32(0.5) * (room[half - 1, k] + room[half, k])


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _spike(
    x: float,
    y: float,
    step: int,
    values: np.ndarray,
    noises: np.ndarray,
    place: int,
    share: np.ndarray,
    contrast: np.ndarray,
) -> None:
    """Of one place, from its columns of `values`, above their sky."""
    r, sites = _SPIKE_HALF, step * step
    cut = np.empty((2 * r, 2 * r), np.float32)
    noise = 1e-3
    for a in range(step):
        for b in range(step):
            column, m = place * sites + a * step + b, 0
            noise = max(noise, 1.4826 * float(noises[column]))
            for v in range(a, 2 * r, step):
                for u in range(b, 2 * r, step):
                    cut[v, u] = values[m, column]
                    m += 1
    i0, j0 = int(np.rint(x)), int(np.rint(y))
    i0, j0 = i0 - i0 % step, j0 - j0 % step
    # The brightest at the place itself: a star beside it is another's.
    px, py, reach = x - (i0 - r), y - (j0 - r), _OWN + 0.5 * (step - 1)
    b, a = int(np.rint(py)), int(np.rint(px))
    for v in range(int(np.ceil(py - reach)), int(np.floor(py + reach)) + 1):
        for u in range(int(np.ceil(px - reach)), int(np.floor(px + reach)) + 1):
            if cut[v, u] > cut[b, a]:
                b, a = v, u
    # Noise alone makes each of the nine differ; only what rises above it counts against a spike.
    total = np.float32(0)
    for v in range(b - 1, b + 2):
        for u in range(a - 1, a + 2):
            total += max(cut[v, u], np.float32(0))
    share[0] = cut[b, a] / max(float(total), 1e-3)
    contrast[0] = cut[b, a] / noise


def by_native(
    sightings: Sightings,
    share: np.ndarray,
    contrast: np.ndarray,
    flux: np.ndarray,
    error: np.ndarray,
    area: np.ndarray,
) -> Sightings:
    """Flag what single native pixels, or one colour alone, show.

    Parameters
    ----------
    sightings : Sightings
        Of one frame.
    share, contrast : ndarray, shape (n,)
        As `spikes` gives them.
    flux, error, area : ndarray, shape (c, n)
        Light above what the template has in each colour's own pixels, its error, and how many pixels those are.

    Returns
    -------
    Sightings
        With flags `COSMIC` and `MOSAIC`; whether a spike is a hot pixel, only the night tells (`by_sensor`).
    """
    flags = sightings.flags.copy()
    points = ~sightings.is_streak & (sightings.snr > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        flags[points & (share > _SPIKE) & (contrast > 6)] |= COSMIC
        if len(flux) == 3:
            bright = np.maximum(flux, 0) / area
            total = bright.sum(axis=0)
            top = np.argmax(np.nan_to_num(bright), axis=0)
            n = np.arange(len(sightings))
            alone = bright[top, n] > _ONE_COLOUR * total
            sure = flux[top, n] > 5 * error[top, n]
            # The others must be known well enough to be missed.
            others = sum((error[c] / area[c] < 0.15 * total) | (c == top) for c in range(3)) == 3
            flags[points & alone & sure & others] |= MOSAIC
    # A streak's tells how steadily it shines.
    return _with(sightings, flags, sharpness=np.where(sightings.is_streak, sightings.sharpness, share))


def by_rows(sightings: Sightings, x: np.ndarray, y: np.ndarray, step: int, fwhm: float) -> Sightings:
    """Flag faint streaks along the sensor's rows or columns, and long ones along just one: a readout makes them.

    Parameters
    ----------
    sightings : Sightings
        Of one frame.
    x, y : ndarray, shape (2, n)
        Both ends of streaks, native pixels of the frame.
    step : int
        Native pixels to a product pixel.
    fwhm : float
        Of a star, product pixels.

    Returns
    -------
    Sightings
        With flags `ROWS`.
    """
    dx, dy = np.abs(x[1] - x[0]), np.abs(y[1] - y[0])
    length = np.hypot(dx, dy) / (step * fwhm)
    with np.errstate(invalid="ignore", divide="ignore"):
        along = np.minimum(dx, dy) < _TILT * np.maximum(dx, dy)
        faint = sightings.snr < _FAINT * np.sqrt(length)
        one = (np.maximum(dx, dy) > _LONG) & (np.minimum(dx, dy) < _EXACT * np.maximum(dx, dy))
    readout = sightings.is_streak & ((along & faint) | one)
    return _with(sightings, np.where(readout, sightings.flags | ROWS, sightings.flags))


def by_place(sightings: Sightings, believed: float, series: np.ndarray) -> Sightings:
    """Count what the night shows at each place: S/N over the noise from frame to frame there, where that is large.

    Parameters
    ----------
    sightings : Sightings
        n of the whole night.
    believed : float
        S/N, after that, below which a sighting is flagged `STAR`.
    series : ndarray, shape (f, n)
        What frames one after another show at the place of each sighting, in units of what they show at like starlight;
        NaN where unknown.

    Returns
    -------
    Sightings
        With smaller `snr` where the wing or spike of a star is restless. What shines for some frames, or moves past,
        leaves most steps from a frame to the next alone.
    """
    steps = np.abs(np.diff(series, axis=0))
    counted = np.isfinite(steps).sum(axis=0)
    noise = np.ones(len(sightings))
    enough = (counted >= _FEWEST_STEPS) & ~sightings.is_streak
    noise[enough] = 1.4826 / np.sqrt(2) * np.nanmedian(steps[:, enough], axis=0)
    noise = np.where(noise > _RESTLESS, noise, 1.0)
    flags = sightings.flags.copy()
    flags[(np.abs(sightings.snr) / noise < believed) & (noise > 1)] |= STAR
    return _with(sightings, flags, sightings.snr / noise)


def by_pattern(sightings: Sightings, fwhm_native: float, frames: int) -> Sightings:
    """Flag faint streaks of one direction on frame after frame: a readout's pattern, tilted by the alignment.

    Parameters
    ----------
    sightings : Sightings
        Of the whole night.
    fwhm_native : float
        Of a star, native pixels.
    frames : int
        Frames of the night.

    Returns
    -------
    Sightings
        With flags `ROWS`.
    """
    dx, dy = sightings.x_end - sightings.x, sightings.y_end - sightings.y
    with np.errstate(invalid="ignore"):
        faint = np.abs(sightings.snr) < 2 * _FAINT * np.sqrt(np.hypot(dx, dy) / fwhm_native)
    rows = np.flatnonzero(sightings.is_streak & faint)
    way = np.degrees(np.arctan2(dy[rows], dx[rows])) % 180
    apart = np.abs(way[:, None] - way[None, :])
    alike = np.minimum(apart, 180 - apart) < _SAME_WAY
    again = np.array([len(np.unique(sightings.frame[rows[near]])) for near in alike], int)
    flags = sightings.flags.copy()
    flags[rows[again >= max(_AGAIN, frames / 6)]] |= ROWS
    return _with(sightings, flags)


def stays_on_sensor(sightings: Sightings, members: np.ndarray) -> bool:
    """Whether what moves over the sky rests on the sensor: warm pixels do, which the sky drags along.

    A stray sighting or two that lie on the same track do not hide one; all together may have moved by little more than
    their errors.
    """
    if rests_on_sensor(sightings, members):
        return True
    x, y = sightings.x_frame[members], sightings.y_frame[members]
    moved = np.hypot(np.ptp(sightings.x[members]), np.ptp(sightings.y[members]))
    if not np.isfinite(x + y).any():
        return False
    with np.errstate(invalid="ignore"):
        rests = np.hypot(x - np.nanmedian(x), y - np.nanmedian(y)) < _FIXED
        return bool(moved > _AWAY and rests.mean() >= _RESTS)


def rests_on_sensor(sightings: Sightings, members: np.ndarray) -> bool:
    """Whether sightings of one thing fit one place of the sensor, and one place of the sky by far not so well."""
    error = np.hypot(sightings.error[members], _ALIGNED)
    if not np.isfinite(sightings.x_frame[members] + sightings.y_frame[members]).all():
        return False

    def chi(x: np.ndarray, y: np.ndarray) -> float:
        w = 1 / error**2
        return float(sum((w * (v - (w * v).sum() / w.sum()) ** 2).sum() for v in (x[members], y[members])))

    sensor = chi(sightings.x_frame, sightings.y_frame)
    rather = chi(sightings.x, sightings.y) - sensor > _RATHER
    return bool(rather and sensor < _ALIKE_PLACES * 2 * (len(members) - 1))


def lacks_light(sightings: Sightings, members: np.ndarray) -> bool:
    """Whether native pixels show the opposite of what all sightings of one place say: brighter, or darker.

    They are measured another way than the difference is filtered, and not resampled. What is there shows in both: 138
    new stars of simulated nights had 0.4 or more of their significance in native pixels. A template that errs in the
    wings of a bright star shows in the difference alone.
    """
    signs = np.sign(sightings.snr[members])
    flux, error = sightings.flux[members], sightings.flux_err[members]
    known = np.isfinite(flux) & (error > 0)
    if not known.any() or not (signs == signs[0]).all():
        return False
    return bool(signs[0] * (flux[known] / error[known] ** 2).sum() < 0)


def by_crowd(sightings: Sightings, alone: np.ndarray) -> Sightings:
    """Flag points of one frame each where the night has many: particles leave those, the sky seldom does.

    Parameters
    ----------
    sightings : Sightings
        Of the whole night.
    alone : ndarray of int
        Those that nothing but themselves speaks for.

    Returns
    -------
    Sightings
        With flags `COSMIC`, where more than 3 are alone.
    """
    flags = sightings.flags.copy()
    if len(alone) > _FEW_ALONE:
        flags[alone] |= COSMIC
    return _with(sightings, flags)


def by_echo(sightings: Sightings, fwhm_native: float) -> Sightings:
    """Flag streaks that lie on a far brighter one of another frame: its dark side, or what is left of it in a template.

    Parameters
    ----------
    sightings : Sightings
        Of the whole night.
    fwhm_native : float
        Of a star, native pixels.

    Returns
    -------
    Sightings
        With flags `NEGATIVE`.
    """
    flags = sightings.flags.copy()
    rows = np.flatnonzero(sightings.is_streak)
    for n in rows:
        for m in rows:
            if sightings.frame[m] == sightings.frame[n] or sightings.snr[n] > _ECHO * sightings.snr[m]:
                continue
            dx = sightings.x_end[m] - sightings.x[m]
            dy = sightings.y_end[m] - sightings.y[m]
            length = np.hypot(dx, dy)
            x = np.array([sightings.x[n], sightings.x_end[n]]) - sightings.x[m]
            y = np.array([sightings.y[n], sightings.y_end[n]]) - sightings.y[m]
            along, across = (x * dx + y * dy) / length, (x * dy - y * dx) / length
            overlap = min(along.max(), length) - max(along.min(), 0.0)
            if np.abs(across).max() < 12 * fwhm_native and overlap > 0.3 * np.ptp(along):
                flags[n] |= NEGATIVE
    return _with(sightings, flags)


def by_sensor(
    sightings: Sightings, fwhm_native: float, area: float = np.inf, false_alarms: float = 0.1
) -> Sightings:
    """Flag what keeps its place on the sensor while the sky moves across it: hot pixels, and dust where it is wide.

    Parameters
    ----------
    sightings : Sightings
        Of the whole night, with `x_frame` and `y_frame`.
    fwhm_native : float
        Of a star, native pixels.
    area : float
        Native pixels on which things can be seen.
    false_alarms : float
        Places of the sensor in a night that may be flagged by chance.

    Returns
    -------
    Sightings
        With flags `HOT` and `DUST`.

    Notes
    -----
    Seen within 0.7 px of one place of the sensor on three frames or more, at places of the sky more than two stars'
    widths apart. What is spread like a star is spared: a thing that stands still over the ground is fixed on the
    sensor of a camera that does not follow the sky. But faint points, whose shape is mostly noise's, are counted: a
    pixel that is warm now and then is met at more places of the sky than chance would put on one place of the sensor.
    """
    from scipy.spatial import cKDTree

    flags = sightings.flags.copy()
    open_sky = (flags & REFUSED & ~(HOT | COSMIC)) == 0
    for wide, bit, radius in ((False, HOT, _HERE), (True, DUST, 0.5 * fwhm_native)):
        is_wide = sightings.width > 1.5 * fwhm_native * 1.2
        known = np.isfinite(sightings.x_frame + sightings.y_frame) & ~sightings.is_streak
        rows = np.flatnonzero(known & (is_wide == wide))
        if len(rows) < 3:
            continue
        tree = cKDTree(np.column_stack([sightings.x_frame[rows], sightings.y_frame[rows]]))
        many = _beyond_chance(int(open_sky[rows].sum()), np.pi * radius**2 / area, false_alarms)
        for near in tree.query_ball_point(tree.data, radius):
            if len(near) < 3:
                continue
            own = rows[near]
            if len(np.unique(sightings.frame[own])) < 3:
                continue
            apart = np.hypot(np.ptp(sightings.x[own]), np.ptp(sightings.y[own]))
            if apart <= 2 * fwhm_native:
                continue
            # Of what is dark the brightest pixel tells nothing, and nothing dark stands still over the ground.
            shaped = own[(sightings.snr[own] > 0) & np.isfinite(sightings.sharpness[own])]
            sharp = np.median(sightings.sharpness[shaped]) if 2 * len(shaped) > len(own) else 1.0
            if wide or sharp > 0.45:
                flags[own] |= bit
                continue
            own = own[open_sky[own]]
            faint = len(own) >= many and float(np.median(np.abs(sightings.snr[own]))) < _SHAPED
            if faint and _sky_places(sightings.x[own], sightings.y[own], 2 * fwhm_native) >= many:
                flags[own] |= bit
    return _with(sightings, flags)


def _beyond_chance(n: int, share: float, false_alarms: float) -> int:
    """So many of `n` points, three at least, chance would not put on one place: `share` of the area is one's reach.

    Each point has Poisson's chance of that many neighbours less itself; all of them together stay below `false_alarms`.
    """
    # Poisson's chance of more than so many; `scipy.stats` has it too, and takes half a second to load.
    from scipy.special import pdtrc

    many = 3
    while many < n and n * pdtrc(many - 2, n * share) >= false_alarms:
        many += 1
    return many


def _sky_places(x: np.ndarray, y: np.ndarray, apart: float) -> int:
    """How many of some points, each further than `apart` from those taken before it, there are."""
    taken: list[int] = []
    for n in range(len(x)):
        if all(np.hypot(x[n] - x[m], y[n] - y[m]) > apart for m in taken):
            taken.append(n)
    return len(taken)


def _with(
    s: Sightings, flags: np.ndarray, snr: np.ndarray | None = None, sharpness: np.ndarray | None = None
) -> Sightings:
    """The same sightings with other flags (and S/N, and sharpness)."""
    from dataclasses import replace

    return replace(
        s,
        flags=flags,
        snr=s.snr if snr is None else snr,
        sharpness=s.sharpness if sharpness is None else sharpness,
    )

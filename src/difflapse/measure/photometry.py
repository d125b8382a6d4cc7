"""Fluxes at given places of one frame: sums of each colour's own native pixels in a circle, above a local sky."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from difflapse.measure._fetch import fetch
from difflapse.model import bits
from difflapse.mosaic import channels, native_order, sites, sorting_network

POOR_SKY = 32
"""Flag: fewer than `_LEAST` pixels of a colour told the sky."""
_LEAST = 8
_CLIP = 2.5
_SOME = 40
"""Pixels that give a first guess of the sky, at most."""
_TOGETHER = 16
"""Stars that are measured together."""


@dataclass(frozen=True, eq=False)
class ApertureSums:
    """Fluxes of n stars in c channels (R, G, B of a mosaic, or one)."""

    flux: np.ndarray
    """(c, n) float32, ADU above the sky, over that colour's own pixels; NaN where the circle leaves the frame."""
    error: np.ndarray
    """(c, n) float32, ADU: photons, empty pixel's noise, and how well the sky is known."""
    sky: np.ndarray
    """(c, n) float32, ADU per pixel, as in the data (with its bias)."""
    area: np.ndarray
    """(c, n) float32: pixels of that colour in the circle, those at its edge in part."""
    flags: np.ndarray
    """(n,) uint8: bits of `difflapse.model.bits` for pixels in the circle (SATURATED, DEFECT, BLANK; OUTSIDE where
    it leaves the frame), and `POOR_SKY`."""

    def __len__(self) -> int:
        return len(self.flags)


def bad_map(
    shape: tuple[int, int], x: np.ndarray, y: np.ndarray, bit: np.ndarray, out: np.ndarray | None = None
) -> np.ndarray:
    """A list of bad pixels as a (ny, nx) uint8 image of their bits, 0 for good ones.

    Fresh memory of zeros costs only where it is written: cheap for the few per mille that are bad.
    """
    image = np.zeros(shape, np.uint8) if out is None else out
    i, j = np.asarray(x).astype(np.intp), np.asarray(y).astype(np.intp)
    inside = (i >= 0) & (j >= 0) & (i < shape[1]) & (j < shape[0])
    np.bitwise_or.at(image, (j[inside], i[inside]), np.asarray(bit, np.uint8)[inside])
    return image


def default_annulus(radius: float) -> tuple[float, float]:
    """Radii of the ring that tells the sky of a circle, native pixels: far enough out for a star's own wings."""
    return radius + 2.0, float(np.hypot(radius + 2.0, max(2.4 * radius, 9.0)))


def aperture_sums(
    data: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    radius: float | np.ndarray,
    mosaic: str = "",
    noise: np.ndarray | tuple[float, ...] | None = None,
    gain: float | None = None,
    bad: np.ndarray | None = None,
    annulus: tuple[float, float] | None = None,
) -> ApertureSums:
    """Sum the light of each colour in circles about given places, on pixels as the camera gave them.

    Parameters
    ----------
    data : ndarray, shape (ny, nx)
        Native pixels of any real type, bad ones filled.
    x, y : ndarray, shape (n,)
        Centres, native pixels of this frame, 0-based, fractional; NaN gives NaN.
    radius : float or ndarray, shape (n,)
        Of the circles, native pixels. A pixel on the edge counts in part: by how far its centre lies inside.
    mosaic : str
        Colours of the 2x2 cell in array order; empty for monochrome.
    noise : (c,) or (c, n), optional
        Noise of an empty pixel (read noise, sky), ADU; None: each ring's own robust scatter.
    gain : float, optional
        Electrons per ADU; None: no photon noise of the star in the errors.
    bad : ndarray of uint8, shape (ny, nx), optional
        Bits of bad pixels (`bad_map`): flagged where they lie in a circle, left out of the sky.
    annulus : (float, float), optional
        Inner and outer radius of the sky's ring, native pixels; None: `default_annulus` of the largest circle.

    Returns
    -------
    ApertureSums

    Notes
    -----
    The sky is the mean of the ring's pixels of that colour within 2.5 sigma of their median; sigma is first the
    distance from the median down to the 16th percentile, which faint stars in the ring hardly move. 1000
    stars of radius 4 cost about 2.5 ms.
    """
    x, y = np.ascontiguousarray(x, float), np.ascontiguousarray(y, float)
    radii = np.ascontiguousarray(np.broadcast_to(np.asarray(radius, float), x.shape))
    n, c = len(x), len(channels(mosaic))
    inner, outer = annulus or default_annulus(float(radii.max()) if n else 1.0)
    step = 2 if mosaic else 1
    channel = np.zeros(step * step, np.int64)
    for site in sites(mosaic):
        channel[site.y * step + site.x] = site.channel
    empty = np.full((c, n), np.nan)
    if noise is not None:
        given = np.asarray(noise, float)
        empty[:] = given if given.ndim == 2 else given.reshape(-1, 1)
    flux, error, sky, area = (np.full((c, n), np.nan, np.float32) for _ in range(4))
    flags = np.zeros(n, np.uint8)
    order = np.argsort(y, kind="stable")  # neighbours share rows, which the processor then has at hand
    nothing = np.zeros((0, 0), np.uint8)
    _sums(
        native_order(data), nothing if bad is None else bad, order, x, y, radii, inner, outer, step, channel, empty,
        1.0 / gain if gain else 0.0, sorting_network(_SOME), flux, error, sky, area, flags,
    )  # fmt: skip
    return ApertureSums(flux, error, sky, area, flags)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _sums(
    data: np.ndarray,
    bad: np.ndarray,
    order: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    radii: np.ndarray,
    inner: float,
    outer: float,
    step: int,
    channel: np.ndarray,
    empty: np.ndarray,
    per_adu: float,
    network: np.ndarray,
    flux: np.ndarray,
    error: np.ndarray,
    sky: np.ndarray,
    area: np.ndarray,
    flags: np.ndarray,
) -> None:
    """Some stars at a time: the first guesses of their skies are sorted side by side."""
    ny, nx = data.shape
    n_channels = len(flux)
    reach = int(np.ceil(outer))
    ring = np.empty((_TOGETHER, n_channels, (2 * reach + 1) ** 2 + 1), np.float32)
    count, inside = np.zeros((_TOGETHER, n_channels), np.int64), np.zeros(_TOGETHER, np.bool_)
    # Sums of light, of weights, of their squares, and of light times those, in each circle.
    sums = np.empty((_TOGETHER, n_channels, 4))
    some = np.empty((_SOME, _TOGETHER * n_channels), np.float32)
    seen = np.zeros(1)
    for first in range(0, len(order), _TOGETHER):
        stars = order[first : first + _TOGETHER]
        fetch(data, x[stars], y[stars], reach, seen)
        if bad.size:
            fetch(bad, x[stars], y[stars], reach, seen)
        for s in range(len(stars)):
            k = stars[s]
            px, py, r = x[k], y[k], radii[k]
            count[s] = 0
            inside[s] = px - r >= -0.5 and py - r >= -0.5 and px + r <= nx - 0.5 and py + r <= ny - 0.5
            if inside[s]:
                flags[k] |= _gather(
                    data, bad, px, py, r, inner, outer, step, channel, ring[s], count[s], sums[s]
                )
            else:
                flags[k] |= bits.OUTSIDE
        _some_of(ring, count[: len(stars)], network, some)
        for s in range(len(stars)):
            k = stars[s]
            if not inside[s]:
                continue
            for c in range(n_channels):
                m = count[s, c]
                total, weight, squares, shot = sums[s, c]
                if m < _LEAST or weight == 0.0:
                    flags[k] |= POOR_SKY
                    if m < 2 or weight == 0.0:
                        continue
                # A first guess from some of the pixels; then the mean of all that are near it, twice.
                q, lane = _chosen(m)[1], s * n_channels + c
                level = float(some[q // 2, lane])
                sigma = max(level - float(some[int(0.16 * q), lane]), 1e-3)
                q, level, sigma = _clipped(ring[s, c, :m], level, sigma)
                q, level, sigma = _clipped(ring[s, c, :m], level, sigma)
                own = empty[c, k] if np.isfinite(empty[c, k]) else sigma
                sky[c, k] = level
                area[c, k] = weight
                flux[c, k] = total - level * weight
                photons = max(shot - level * squares, 0.0) * per_adu
                # Faint stars in the ring make its mean less certain than its pixels' noise says.
                spread = max(sigma, own)
                error[c, k] = np.sqrt(own * own * squares + photons + (spread * weight) ** 2 / q)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _gather(
    data: np.ndarray,
    bad: np.ndarray,
    px: float,
    py: float,
    r: float,
    inner: float,
    outer: float,
    step: int,
    channel: np.ndarray,
    ring: np.ndarray,
    count: np.ndarray,
    sums: np.ndarray,
) -> np.uint8:
    """Sum one star's circle and lay out its ring, each colour by itself; returns the bits of the circle's pixels."""
    ny, nx = data.shape
    reach = int(np.ceil(outer))
    near2, far2, edge2 = inner * inner, outer * outer, (r + 0.5) ** 2
    j0 = int(round(py))
    sums[:] = 0.0
    flags = np.uint8(0)
    for j in range(max(0, j0 - reach), min(ny, j0 + reach + 1)):
        dy2 = (j - py) ** 2
        if dy2 > far2:
            continue
        half = np.sqrt(far2 - dy2)
        row = (j % step) * step
        first = max(0, int(np.ceil(px - half)))
        end = min(nx - 1, int(np.floor(px + half))) + 1
        # The circle parts the row of the ring.
        left, right = _within(px, dy2, edge2, first, end)
        for i in range(left, right):
            w = min(1.0, r + 0.5 - np.sqrt(dy2 + (i - px) ** 2))
            own = sums[channel[row + (i & (step - 1))]]
            v = float(data[j, i])
            own[0] += w * v
            own[1] += w
            own[2] += w * w
            own[3] += w * w * v
            if bad.size:
                flags |= bad[j, i]
        near_left, near_right = _within(px, dy2, near2, first, end)
        if left < right:
            near_left, near_right = min(left, near_left), max(right, near_right)
        for i0, i1 in ((first, near_left), (near_right, end)):
            for site in range(step):
                # Pixels of one colour: every second one.
                i = i0 + ((site - i0) & (step - 1))
                c = channel[row + site]
                m, to = count[c], ring[c]
                if bad.size:
                    while i < i1:
                        # Written always, counted where it is good: nothing to guess.
                        to[m] = data[j, i]
                        m += bad[j, i] == 0
                        i += step
                else:
                    while i < i1:
                        to[m] = data[j, i]
                        m += 1
                        i += step
                count[c] = m
    return flags


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _chosen(m: int) -> tuple[int, int]:
    """Every how many of `m` pixels tell a first guess, and how many those are: `_SOME` at most."""
    stride = m // _SOME + 1
    return stride, (m + stride - 1) // stride


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _some_of(ring: np.ndarray, count: np.ndarray, network: np.ndarray, some: np.ndarray) -> None:
    """Some of each ring's pixels (stars, c, :), sorted: one column (`_SOME`,) each, the missing ones last."""
    n, c = count.shape
    some[:] = np.float32(np.inf)
    for s in range(n):
        for k in range(c):
            stride, q = _chosen(count[s, k])
            for u in range(q):
                some[u, s * c + k] = ring[s, k, u * stride]
    for p in range(len(network)):
        low, high = some[network[p, 0]], some[network[p, 1]]
        for i in range(n * c):
            a, b = low[i], high[i]
            low[i] = b if b < a else a
            high[i] = a if b < a else b


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _within(px: float, dy2: float, limit2: float, first: int, end: int) -> tuple[int, int]:
    """First pixel of a row, and the one after the last, whose squared distance is below a limit."""
    if dy2 >= limit2:
        middle = min(max(int(np.ceil(px)), first), end)
        return middle, middle
    half = np.sqrt(limit2 - dy2)
    left, right = int(np.ceil(px - half)), int(np.floor(px + half)) + 1
    # On the circle itself, the root is not exact.
    while left < right and dy2 + (left - px) ** 2 >= limit2:
        left += 1
    while right > left and dy2 + (right - 1 - px) ** 2 >= limit2:
        right -= 1
    return max(left, first), min(right, end)


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _clipped(values: np.ndarray, level: float, sigma: float) -> tuple[int, float, float]:
    """How many values lie within `_CLIP` sigma of a level, their mean and the sigma they tell."""
    middle, reach = np.float32(level), np.float32(_CLIP * sigma)
    # Counted in the values' own type: what is of one width goes side by side.
    total, squares, n = np.float32(0), np.float32(0), np.float32(0)
    for i in range(len(values)):
        d = values[i] - middle
        near = np.float32(1) if abs(d) <= reach else np.float32(0)
        total += d * near
        squares += d * d * near
        n += near
    if n == 0:
        return 1, level, sigma
    counted = np.float64(n)
    mean = total / counted
    # A Gaussian cut at 2.5 sigma keeps a standard deviation of 0.953.
    return int(n), float(level + mean), max(np.sqrt(max(squares / counted - mean * mean, 0.0)) / 0.953, 1e-3)

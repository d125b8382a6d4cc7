"""Stars of one frame: found on a binned picture, measured on superpixels and native pixels.

Centroids of a mosaic frame are taken on the sums of 2x2 pixels around *every* native corner: each sum holds
one red, two green and one blue pixel, so that the colours cancel as in superpixels, yet the picture is sampled
twice as finely and a star two pixels wide is not undersampled. Fluxes are sums of each colour's own pixels.
"""

from __future__ import annotations

from itertools import pairwise

import numba
import numpy as np

from difflapse.measure._fetch import fetch
from difflapse.measure.background import channel_levels
from difflapse.measure.detect import detect, shrink, spread
from difflapse.measure.order import median
from difflapse.measure.psf import Light, fit_profile
from difflapse.model import Frame, Quality, Stars
from difflapse.mosaic import channels, native_order, sites

_WIDER = 1.6
"""Width of the centroids' window over that of the stars where these are trailed: lopsided stars have their peak and
their middle at different places, and a narrow window follows the peak. For round stars the best is 1."""
_ROUND, _TRAILED = 1.08, 1.2
"""Median elongation up to which stars count as round, and from which as trailed."""
_NARROWEST = 1.0
"""Native pixels: a Gaussian window narrower than this locks centroids to pixels."""
_TELLING = 25.0
"""S/N from which a star says something about the profile of all."""
_LIKE = 0.25
"""Such a star's width lies within this share of the typical one."""

_TOGETHER = 16
"""Stars whose pixels are fetched together."""
_LOOSE = {"contract", "reassoc"}
"""Sums may be taken in any order; infinities and NaN stay what they are."""


def find_stars(frame: Frame, threshold: float = 5.0, limit: int = 1500) -> tuple[Stars, Quality]:
    """Find and measure the stars of a frame, bad pixels already filled.

    Parameters
    ----------
    frame : Frame
        Native pixels. A star is left out if its aperture (of 1.3 to 1.6 FWHM radius) touches a pixel where
        `frame.mask` is True; elsewhere such pixels count as the frame's median. `facts.gain_e_adu`, where
        known, gives `Stars.snr` its photon noise.
    threshold : float
        Detection limit in units of the binned picture's noise.
    limit : int
        At most this many stars are kept: the brightest, well spread over the field.

    Returns
    -------
    Stars, Quality
        Positions in native pixels, brightest first. No stars is an empty record, not an error.

    References
    ----------
    Windowed centroids: Bertin, SExtractor manual, XWIN_IMAGE. Adaptive width: Bernstein & Jarvis 2002,
    doi:10.1086/338085.
    """
    facts = frame.facts
    pattern, bias = facts.mosaic, facts.bias_adu or 0.0
    levels, noises = channel_levels(frame.data, pattern, bias, frame.mask)
    empty = Stars.empty(len(channels(pattern)))
    if not np.all(np.isfinite(noises)):
        return empty, Quality(0, float("nan"), levels, noises)
    step = 2 if pattern else 1
    native = native_order(frame.data)
    found = detect(shrink(native, pattern, bias, frame.mask), threshold, 2 * limit)
    if len(found.x) == 0:
        return empty, Quality(0, float("nan"), levels, noises)
    some = spread(found.x, found.y, native.shape, limit + limit // 4)
    x, y = found.x[some], found.y[some]
    if frame.mask is not None:
        native = np.where(frame.mask, np.median(native[~frame.mask]).astype(native.dtype), native)
    sky = found.sky[some] + step**2 * bias
    width, lopsided = _typical_width(native, step, x, y, sky)
    trailed = float(np.clip((lopsided - _ROUND) / (_TRAILED - _ROUND), 0, 1))
    width = max((1 + (_WIDER - 1) * trailed) * width, _NARROWEST)
    cx, cy, ok = _centroids(native, step, x, y, sky, width)
    # Several detections may end on one star, the brightest around.
    single = np.flatnonzero(ok)
    single = _unique(cx, cy, single, max(1.0, width))
    single = single[spread(cx[single], cy[single], frame.data.shape, limit + limit // 10)]
    share = len(single) / min(len(some), limit + limit // 10)
    x, y, sky = cx[single], cy[single], sky[single]
    if len(x) == 0:
        return empty, Quality(0, float("nan"), levels, noises)
    sigma, elongation, moments = _widths(native, step, x, y, sky, width)
    typical = _typical_fwhm(native, step, x, y, sky, sigma)
    # Moments see a star's wings: only their ratio to the typical star's is used.
    middle = float(np.nanmedian(sigma)) if np.isfinite(sigma).any() else 1.0
    native_fwhm = typical * sigma / middle
    # 1.3 to 1.6 FWHM, by the moments: hundreds of stars know them to 0.2 %, and fluxes of frames are compared.
    radius = float(np.clip(2.6 * middle, 2.5 if pattern else 2.0, 40.0))
    channel = np.array(
        [
            next(s.channel for s in sites(pattern) if (s.x, s.y) == (i, j))
            for j in range(step)
            for i in range(step)
        ]
    )
    saturation = facts.saturation_adu if facts.saturation_adu is not None else np.inf
    flux, count, skies, saturated, spiky = _apertures(
        native, x, y, radius, step, channel, len(levels), float(saturation)
    )
    total = np.zeros(len(x))
    variance = np.zeros(len(x))
    for c in range(len(levels)):
        total += flux[c]
        variance += count[c] * noises[c] ** 2
    if facts.gain_e_adu:
        variance += np.maximum(total, 0) / facts.gain_e_adu
    snr = total / np.sqrt(np.maximum(variance, 1e-12))
    good = (snr > 3) & np.isfinite(total) & ~spiky
    if frame.mask is not None:
        good &= ~_touches(frame.mask, x, y, radius)
    order = np.flatnonzero(good)
    order = order[np.argsort(-total[order], kind="stable")]
    order = _unique(x, y, order, max(1.0, 0.7 * typical))
    kept = order[spread(x[order], y[order], frame.data.shape, limit)]
    light = Light(
        native,
        channel,
        np.array(noises),
        1 / facts.gain_e_adu if facts.gain_e_adu else 0.0,
        float(saturation),
    )
    # Sums of 2x2 are wider than pixels by the variance of their boxes, 4/12 - 1/12.
    moments[:2] -= 0.25 * (step == 2)
    teachers = (snr > _TELLING) & ~saturated & (np.abs(sigma / middle - 1) < _LIKE)
    fitted = fit_profile(light, x[kept], y[kept], skies[:, kept], moments[:, kept], teachers[kept])
    error, blended = np.full(len(kept), np.nan), np.zeros(len(kept), bool)
    if fitted is not None:
        x[kept] = np.where(fitted.ok, fitted.x, x[kept])
        y[kept] = np.where(fitted.ok, fitted.y, y[kept])
        error = np.where(fitted.ok, fitted.error, np.nan)
        blended = fitted.blended & ~saturated[kept]
    stars = Stars(
        x[kept],
        y[kept],
        total[kept],
        snr[kept],
        native_fwhm[kept],
        flux[:, kept],
        saturated[kept],
        error,
        blended,
    )
    bright = stars.take((~stars.saturated) & np.isfinite(stars.fwhm) & (stars.snr > 10))
    elong = elongation[kept][(~stars.saturated) & np.isfinite(stars.fwhm) & (stars.snr > 10)]
    quality = Quality(
        n_stars=max(len(order), round(found.seen * share) if found.seen > len(found.x) else 0),
        fwhm_pix=float(np.median(bright.fwhm)) if len(bright) else typical,
        background_adu=levels,
        noise_adu=noises,
        elongation=float(np.median(elong)) if len(elong) else float("nan"),
        profile=None if fitted is None else fitted.profile,
    )
    return stars, quality


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _touches(mask: np.ndarray, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Whether a True pixel of the mask lies within a circle around each position."""
    ny, nx = mask.shape
    found = np.zeros(len(x), np.bool_)
    for k in range(len(x)):
        for j in range(max(0, int(np.ceil(y[k] - radius))), min(ny - 1, int(np.floor(y[k] + radius))) + 1):
            for i in range(
                max(0, int(np.ceil(x[k] - radius))), min(nx - 1, int(np.floor(x[k] + radius))) + 1
            ):
                if mask[j, i] and np.hypot(i - x[k], j - y[k]) <= radius:
                    found[k] = True
    return found


def _typical_width(
    native: np.ndarray, step: int, x: np.ndarray, y: np.ndarray, sky: np.ndarray
) -> tuple[float, float]:
    """Gaussian width (sigma, native pixels) and elongation of a typical star: medians of adaptive moments."""
    sel = _usual(np.arange(len(x)), 150)
    width, lopsided = float(step), 1.0
    for _ in range(3):
        cx, cy, ok = _centroids(native, step, x[sel], y[sel], sky[sel], max(width, _NARROWEST))
        if not ok.any():
            return width, lopsided
        sigma, ratio, _ = _widths(native, step, cx[ok], cy[ok], sky[sel][ok], max(width, _NARROWEST))
        sigma = sigma[np.isfinite(sigma)]
        if len(sigma) == 0:
            width *= 1.5
            continue
        width = float(np.clip(np.median(sigma), 0.4, 30.0))
        lopsided = float(np.nanmedian(ratio)) if np.isfinite(ratio).any() else 1.0
    return width, lopsided


def _usual(order: np.ndarray, most: int) -> np.ndarray:
    """Of stars, brightest first, some that stand for all: the brightest may be saturated."""
    skip = min(len(order) // 4, 700)
    return order[skip : skip + most]


def _typical_fwhm(
    native: np.ndarray, step: int, x: np.ndarray, y: np.ndarray, sky: np.ndarray, sigma: np.ndarray
) -> float:
    """Full width at half maximum, native pixels: where the common profile of many stars falls to half its middle."""
    some = _usual(np.flatnonzero(np.isfinite(sigma)), 200)
    if len(some) == 0:
        return 2.0
    width = float(np.median(sigma[some]))
    radius, value = _profiles(native, step, x[some], y[some], sky[some], width)
    good = np.isfinite(value)
    radius, value = radius[good], value[good]
    edges = np.arange(0, 3.5 * width + 0.3, max(0.15, 0.1 * width))
    order = np.argsort(radius)
    radius, value = radius[order], value[order]
    ends = np.searchsorted(radius, edges)
    levels, centres = [], []
    for first, end in pairwise(ends):
        if end - first >= 5:
            levels.append(float(np.median(value[first:end])))
            centres.append(float(np.median(radius[first:end])))
    if len(levels) < 4:
        return 2.3548 * width
    top = levels[0] + (levels[0] - levels[1]) * centres[0] ** 2 / max(centres[1] ** 2 - centres[0] ** 2, 1e-6)
    below = [n for n in range(1, len(levels)) if levels[n] < 0.5 * top <= levels[n - 1]]
    if not below:
        return 2.3548 * width
    n = below[0]
    cut = (levels[n - 1] - 0.5 * top) / (levels[n - 1] - levels[n])
    full = 2 * (centres[n - 1] + cut * (centres[n] - centres[n - 1]))
    # A box (the pixel, the 2x2 sum) of width s takes F to sqrt(F^2 + k s^2): k is 0.5 to 0.6 for a Gaussian two to
    # three pixels wide, 0.8 to 0.9 for a Moffat of beta 2.5; real lenses lie between.
    return float(np.sqrt(max(full**2 - 0.75 * step**2, 0.5)))


def _unique(x: np.ndarray, y: np.ndarray, order: np.ndarray, radius: float) -> np.ndarray:
    """Drop the fainter of two that ended on the same star."""
    from scipy.spatial import cKDTree

    if len(order) < 2:
        return order
    pairs = cKDTree(np.column_stack([x[order], y[order]])).query_pairs(radius, output_type="ndarray")
    if len(pairs) == 0:
        return order
    return np.delete(order, np.unique(pairs.max(axis=1)))


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_LOOSE)
def _stamp(data: np.ndarray, step: int, i0: int, j0: int, reach: int, sky: float, out: np.ndarray) -> bool:
    """Copy the surroundings of a pixel, sky taken off; sums of 2x2 for a mosaic. False where they leave the frame.

    Element [v, u] belongs to native (i0 + u - reach + half, j0 + v - reach + half), half = 0.5 for sums of 2x2.
    """
    ny, nx = data.shape
    if i0 - reach < 0 or j0 - reach < 0 or i0 + reach + step > nx or j0 + reach + step > ny:
        return False
    for v in range(2 * reach + 1):
        j = j0 - reach + v
        for u in range(2 * reach + 1):
            i = i0 - reach + u
            total = float(data[j, i])
            if step == 2:
                total += float(data[j, i + 1]) + float(data[j + 1, i]) + float(data[j + 1, i + 1])
            out[v, u] = total - sky
    return True


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_LOOSE)
def _centroids(
    data: np.ndarray, step: int, x: np.ndarray, y: np.ndarray, sky: np.ndarray, width: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windowed centroids: the fixed point of a Gaussian-weighted mean, and where it was found."""
    ny, nx = data.shape
    n = len(x)
    cx, cy = x.astype(np.float64).copy(), y.astype(np.float64).copy()
    ok = np.zeros(n, np.bool_)
    half = 0.5 * (step - 1)
    reach = max(3, int(np.ceil(3.5 * width)))
    near = max(2 * step, int(np.ceil(2 * width)))
    big = reach + 2
    stamp = np.empty((2 * big + 1, 2 * big + 1))
    ex = np.empty(2 * reach + 1)
    norm = -0.5 / (width * width)
    seen = np.zeros(1)
    for k in range(n):
        if k % _TOGETHER == 0:
            fetch(data, x[k : k + _TOGETHER], y[k : k + _TOGETHER], big + near, seen)
        # Begin at the brightest sum nearby: positions from a binned picture are rough.
        i0, j0 = int(round(cx[k] - half)), int(round(cy[k] - half))
        best = -1e300
        bi, bj = i0, j0
        for j in range(max(0, j0 - near), min(ny - step, j0 + near) + 1):
            for i in range(max(0, i0 - near), min(nx - step, i0 + near) + 1):
                total = float(data[j, i])
                if step == 2:
                    total += float(data[j, i + 1]) + float(data[j + 1, i]) + float(data[j + 1, i + 1])
                if total > best:
                    best = total
                    bi, bj = i, j
        if not _stamp(data, step, bi, bj, big, sky[k], stamp):
            continue
        px, py = 0.0, 0.0  # from the stamp's middle
        for _ in range(40):
            iu, iv = int(round(px)), int(round(py))
            if abs(iu) > 2 or abs(iv) > 2:
                break
            for u in range(-reach, reach + 1):
                ex[u + reach] = np.exp(norm * (iu + u - px) ** 2)
            sw = sx = sy = 0.0
            for v in range(-reach, reach + 1):
                dy = iv + v - py
                s0 = s1 = 0.0
                for u in range(-reach, reach + 1):
                    w = ex[u + reach] * stamp[iv + v + big, iu + u + big]
                    s0 += w
                    s1 += w * (iu + u - px)
                ey = np.exp(norm * dy * dy)
                sw += ey * s0
                sx += ey * s1
                sy += ey * s0 * dy
            if sw <= 0:
                break
            dx, dy = 2 * sx / sw, 2 * sy / sw
            px += dx
            py += dy
            if dx * dx + dy * dy < 1e-6:
                ok[k] = True
                cx[k], cy[k] = bi + half + px, bj + half + py
                break
    return cx, cy, ok


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _profiles(
    data: np.ndarray, step: int, x: np.ndarray, y: np.ndarray, sky: np.ndarray, width: float
) -> tuple[np.ndarray, np.ndarray]:
    """Distance from the centre and brightness over the star's Gaussian-weighted flux, for all pixels near stars."""
    half = 0.5 * (step - 1)
    reach = min(60, max(3, int(np.ceil(3.5 * width))))
    size = 2 * reach + 1
    stamp = np.empty((size, size))
    radius = np.full((len(x), size * size), np.nan)
    value = np.full((len(x), size * size), np.nan)
    for k in range(len(x)):
        i0, j0 = int(round(x[k] - half)), int(round(y[k] - half))
        if not _stamp(data, step, i0, j0, reach, sky[k], stamp):
            continue
        fx, fy = x[k] - half - i0, y[k] - half - j0
        total = 0.0
        for v in range(size):
            for u in range(size):
                r2 = (u - reach - fx) ** 2 + (v - reach - fy) ** 2
                total += np.exp(-0.5 * r2 / (width * width)) * stamp[v, u]
        if total <= 0:
            continue
        for v in range(size):
            for u in range(size):
                radius[k, v * size + u] = np.hypot(u - reach - fx, v - reach - fy)
                value[k, v * size + u] = stamp[v, u] / total
    return radius.ravel(), value.ravel()


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_LOOSE)
def _widths(
    data: np.ndarray, step: int, x: np.ndarray, y: np.ndarray, sky: np.ndarray, width: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gaussian width, elongation and second moments (3, n), the weight's own width taken out."""
    n = len(x)
    half = 0.5 * (step - 1)
    sigma, elongation = np.full(n, np.nan), np.full(n, np.nan)
    moments = np.full((3, n), np.nan)
    stamp = np.empty((181, 181))
    fall_x, fall_y = np.empty(181), np.empty(181)
    for k in range(n):
        w2 = width * width
        i0, j0 = int(round(x[k] - half)), int(round(y[k] - half))
        fx, fy = x[k] - half - i0, y[k] - half - j0
        for _ in range(6):
            reach = min(90, max(3, int(np.ceil(3.0 * np.sqrt(w2)))))
            if not _stamp(data, step, i0, j0, reach, sky[k], stamp):
                break
            for u in range(2 * reach + 1):
                fall_x[u] = np.exp(-0.5 * (u - reach - fx) ** 2 / w2)
                fall_y[u] = np.exp(-0.5 * (u - reach - fy) ** 2 / w2)
            sw = sxx = syy = sxy = 0.0
            for v in range(2 * reach + 1):
                dy = v - reach - fy
                s0 = s1 = s2 = 0.0
                for u in range(2 * reach + 1):
                    dx = u - reach - fx
                    w = fall_x[u] * stamp[v, u]
                    s0 += w
                    s1 += w * dx
                    s2 += w * dx * dx
                sw += fall_y[v] * s0
                sxx += fall_y[v] * s2
                syy += fall_y[v] * s0 * dy * dy
                sxy += fall_y[v] * s1 * dy
            if sw <= 0:
                break
            sxx, syy, sxy = sxx / sw, syy / sw, sxy / sw
            m = 0.5 * (sxx + syy)
            if not (0 < m < w2):
                break
            s2 = 1.0 / (1.0 / m - 1.0 / w2)
            # major and minor axis, each with the weight taken out
            d = np.sqrt(0.25 * (sxx - syy) ** 2 + sxy * sxy)
            if m + d < w2 and m - d > 0:
                elongation[k] = np.sqrt(
                    (1.0 / (1.0 / (m + d) - 1.0 / w2)) / (1.0 / (1.0 / (m - d) - 1.0 / w2))
                )
                # (M**-1 - W**-1)**-1, both 2x2
                det = sxx * syy - sxy * sxy
                axx, ayy, axy = syy / det - 1.0 / w2, sxx / det - 1.0 / w2, -sxy / det
                det = axx * ayy - axy * axy
                moments[0, k], moments[1, k], moments[2, k] = ayy / det, axx / det, -axy / det
            sigma[k] = np.sqrt(s2)
            if abs(s2 - w2) < 0.01 * w2:
                break
            w2 = min(max(s2, 0.3), 900.0)
    return sigma, elongation, moments


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_LOOSE)
def _apertures(
    data: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    radius: float,
    step: int,
    channel: np.ndarray,
    n_channels: int,
    saturation: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sums of each colour's native pixels in a circle, minus the median of a ring of the same colour: the sky."""
    ny, nx = data.shape
    n = len(x)
    flux, skies = np.full((n_channels, n), np.nan), np.full((n_channels, n), np.nan)
    count = np.zeros((n_channels, n))
    saturated = np.zeros(n, np.bool_)
    spiky = np.zeros(n, np.bool_)
    inner, outer = radius + 1.5, radius + 5.5
    reach = int(np.ceil(outer))
    ring = np.empty((n_channels, (2 * reach + 1) ** 2), np.float32)
    room = np.empty(ring.shape[1], np.float32)
    m = np.empty(n_channels, np.int64)
    total = np.empty(n_channels)
    odd_site = step - 1
    seen = np.zeros(1)
    for k in range(n):
        if k % _TOGETHER == 0:
            fetch(data, x[k : k + _TOGETHER], y[k : k + _TOGETHER], reach, seen)
        j0 = int(round(y[k]))
        m[:] = 0
        total[:] = 0
        top = 0.0
        for j in range(max(0, j0 - reach), min(ny, j0 + reach + 1)):
            down = (j - y[k]) ** 2
            chord = np.sqrt(max(outer * outer - down, 0.0))
            for i in range(max(0, int(np.ceil(x[k] - chord))), min(nx - 1, int(np.floor(x[k] + chord))) + 1):
                r = (i - x[k]) ** 2 + down
                c = channel[(j & odd_site) * step + (i & odd_site)]
                v = float(data[j, i])
                if r <= radius * radius:
                    total[c] += v
                    count[c, k] += 1
                    top = max(top, v)
                elif r >= inner * inner:
                    ring[c, m[c]] = v
                    m[c] += 1
        whole = 0.0
        level = 0.0
        for c in range(n_channels):
            if m[c] < 4 or count[c, k] == 0:
                continue
            sky = float(median(ring[c, : m[c]], room))
            skies[c, k] = sky
            flux[c, k] = total[c] - sky * count[c, k]
            whole += flux[c, k]
            level = max(level, sky)
        saturated[k] = top >= saturation
        # A lone hot pixel holds nearly all of the light; no star does.
        spiky[k] = whole > 0 and (top - level) > 0.8 * whole
    return flux, count, skies, saturated, spiky

"""Stars of one frame: found on a binned picture, measured on superpixels and native pixels.

Centroids of a mosaic frame are taken on the sums of 2x2 pixels around *every* native corner: each sum holds
one red, two green and one blue pixel, so that the colours cancel as in superpixels, yet the picture is sampled
twice as finely and a star two pixels wide is not undersampled. Fluxes are sums of each colour's own pixels.
"""

from __future__ import annotations

import numba
import numpy as np
import sep

from difflapse.measure.background import channel_levels
from difflapse.model import Frame, Quality, Stars
from difflapse.mosaic import bin_image, channels, native_order, sites, superpixels

_DETECTION_PIXELS = 1_400_000
"""The picture that stars are found on has at most about this many pixels."""
_MESH = 64
_WIDER = 1.6
"""Width of the centroids' window over that of the stars where these are trailed: lopsided stars have their peak and
their middle at different places, and a narrow window follows the peak. For round stars the best is 1."""
_ROUND, _TRAILED = 1.08, 1.2
"""Median elongation up to which stars count as round, and from which as trailed."""
_NARROWEST = 1.0
"""Native pixels: a Gaussian window narrower than this locks centroids to pixels."""
_GROUPS = 24


def find_stars(frame: Frame, threshold: float = 5.0, limit: int = 2000) -> tuple[Stars, Quality]:
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
    grey = superpixels(frame.data, pattern, bias)
    grey_mask = _grey_mask(frame.mask, grey.shape, step)
    if not np.isfinite(grey[:: max(1, grey.shape[0] // 64)]).all() or frame.mask is not None:
        bad = ~np.isfinite(grey) if grey_mask is None else grey_mask | ~np.isfinite(grey)
        grey[bad] = np.median(grey[~bad]) if (~bad).any() else 0.0
        grey_mask = bad
    x, y, mesh, n_found = _detect(grey, grey_mask, threshold, 2 * limit)
    if len(x) == 0:
        return empty, Quality(0, float("nan"), levels, noises)
    some = _spread(x, y, np.arange(len(x)), grey.shape, limit + limit // 2)
    x, y = x[some], y[some]
    sky = _MeshSampler(mesh, grey.shape)(x, y)
    half = (step - 1) / 2
    x, y = x * step + half, y * step + half
    native = native_order(frame.data)
    if frame.mask is not None:
        native = np.where(frame.mask, np.median(native[~frame.mask]).astype(native.dtype), native)
    sky = sky + step**2 * bias
    width, lopsided = _typical_width(native, step, x, y, sky, limit=200)
    trailed = float(np.clip((lopsided - _ROUND) / (_TRAILED - _ROUND), 0, 1))
    width = max((1 + (_WIDER - 1) * trailed) * width, _NARROWEST)
    cx, cy, ok = _centroids(native, step, x, y, sky, width)
    x, y, sky = cx[ok], cy[ok], sky[ok]
    if len(x) == 0:
        return empty, Quality(0, float("nan"), levels, noises)
    sigma, elongation = _widths(native, step, x, y, sky, width)
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
    flux, count, saturated, spiky = _apertures(
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
    kept = _spread(x, y, order, frame.data.shape, limit)
    stars = Stars(x[kept], y[kept], total[kept], snr[kept], native_fwhm[kept], flux[:, kept], saturated[kept])
    bright = stars.take((~stars.saturated) & np.isfinite(stars.fwhm) & (stars.snr > 10))
    elong = elongation[kept][(~stars.saturated) & np.isfinite(stars.fwhm) & (stars.snr > 10)]
    quality = Quality(
        n_stars=max(len(order), n_found),
        fwhm_pix=float(np.median(bright.fwhm)) if len(bright) else typical,
        background_adu=levels,
        noise_adu=noises,
        elongation=float(np.median(elong)) if len(elong) else float("nan"),
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


def _grey_mask(mask: np.ndarray | None, shape: tuple[int, ...], step: int) -> np.ndarray | None:
    if mask is None or step == 1:
        return mask
    m = mask[: shape[0] * 2, : shape[1] * 2]
    return m[::2, ::2] | m[1::2, ::2] | m[::2, 1::2] | m[1::2, 1::2]  # type: ignore[no-any-return]


def _detect(
    grey: np.ndarray, mask: np.ndarray | None, threshold: float, enough: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Rough positions on the grey picture, brightest first, its background on a mesh, and how many stars there are.

    Where more than `enough` peaks stand above the threshold it is raised, for finding more costs time and helps nobody;
    the count is that at the threshold asked for.
    """
    factor = max(1, int(np.ceil(np.sqrt(grey.size / _DETECTION_PIXELS))))
    small = np.ascontiguousarray(bin_image(grey, factor))
    small_mask = None
    if mask is not None and mask.any():
        ny, nx = small.shape
        small_mask = mask[: ny * factor, : nx * factor].reshape(ny, factor, nx, factor).any(axis=(1, 3))
    cell = int(np.clip(min(small.shape) // 6, 8, _MESH))
    nothing = np.zeros(0)
    none = (nothing, nothing, np.zeros((1, 1), np.float32), 0)
    try:
        background = sep.Background(small, mask=small_mask, bw=cell, bh=cell, fw=3, fh=3)
        level = background.back()
        rms = background.globalrms
        if not np.isfinite(rms) or rms <= 0:
            return none
        small = small - level
        peaks = _peaks(small, np.float32(threshold * rms))
        n_peaks = len(peaks)
        if n_peaks > enough:
            threshold = float(np.partition(peaks, n_peaks - enough)[n_peaks - enough]) / rms
        kernel = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32)
        sep.set_extract_pixstack(1_000_000)
        found = sep.extract(
            small,
            threshold,
            err=rms,
            mask=small_mask,
            minarea=3 if factor == 1 else 1,
            filter_kernel=kernel,
            filter_type="conv",
            deblend_nthresh=8,
            deblend_cont=0.01,
            clean=False,
        )
    except Exception as error:
        if "overflow" not in str(error) and "pixel buffer" not in str(error) and "limit" not in str(error):
            raise
        return none
    # What is much larger than a star (the Sun's disk, a cloud's edge) is not one.
    size = np.hypot(found["a"], found["b"])
    keep = (found["npix"] < 0.002 * small.size) & (size < 0.05 * min(small.shape)) & np.isfinite(found["x"])
    keep &= (found["flag"] & sep.OBJ_TRUNC) == 0
    found = found[keep]
    order = np.argsort(-found["flux"], kind="stable")
    half = (factor - 1) / 2
    return (
        found["x"][order] * factor + half,
        found["y"][order] * factor + half,
        np.asarray(level, np.float32),
        n_peaks if n_peaks > enough else len(order),
    )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _peaks(image: np.ndarray, limit: np.float32) -> np.ndarray:
    """Values of the pixels above a limit that none of their neighbours exceeds."""
    ny, nx = image.shape
    out = []
    for j in range(1, ny - 1):
        for i in range(1, nx - 1):
            v = image[j, i]
            if v > limit:
                top = True
                for dj in range(-1, 2):
                    for di in range(-1, 2):
                        if image[j + dj, i + di] > v:
                            top = False
                if top:
                    out.append(v)
    return np.array(out, np.float32)


class _MeshSampler:
    """The detection picture's smooth background, sampled at positions of the grey picture."""

    def __init__(self, level: np.ndarray, shape: tuple[int, ...]) -> None:
        self.level = level
        self.factor = max(1, round(shape[1] / level.shape[1]))

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        half = (self.factor - 1) / 2
        j = np.clip(np.round((y - half) / self.factor).astype(int), 0, self.level.shape[0] - 1)
        i = np.clip(np.round((x - half) / self.factor).astype(int), 0, self.level.shape[1] - 1)
        return self.level[j, i].astype(np.float64)


def _typical_width(
    native: np.ndarray, step: int, x: np.ndarray, y: np.ndarray, sky: np.ndarray, limit: int
) -> tuple[float, float]:
    """Gaussian width (sigma, native pixels) and elongation of a typical star: medians of adaptive moments."""
    n = len(x)
    skip = min(n // 4, 700)  # the brightest may be saturated
    sel = slice(skip, skip + limit)
    width, lopsided = float(step), 1.0
    for _ in range(3):
        cx, cy, ok = _centroids(native, step, x[sel], y[sel], sky[sel], max(width, _NARROWEST))
        if not ok.any():
            return width, lopsided
        sigma, ratio = _widths(native, step, cx[ok], cy[ok], sky[sel][ok], max(width, _NARROWEST))
        sigma = sigma[np.isfinite(sigma)]
        if len(sigma) == 0:
            width *= 1.5
            continue
        width = float(np.clip(np.median(sigma), 0.4, 30.0))
        lopsided = float(np.nanmedian(ratio)) if np.isfinite(ratio).any() else 1.0
    return width, lopsided


def _typical_fwhm(
    native: np.ndarray, step: int, x: np.ndarray, y: np.ndarray, sky: np.ndarray, sigma: np.ndarray
) -> float:
    """Full width at half maximum, native pixels: where the common profile of many stars falls to half its middle."""
    some = np.flatnonzero(np.isfinite(sigma))
    some = some[min(len(some) // 4, 700) :][:300]
    if len(some) == 0:
        return 2.0
    width = float(np.median(sigma[some]))
    radius, value = _profiles(native, step, x[some], y[some], sky[some], width)
    good = np.isfinite(value)
    radius, value = radius[good], value[good]
    edges = np.arange(0, 3.5 * width + 0.3, max(0.15, 0.1 * width))
    place = np.digitize(radius, edges) - 1
    levels, centres = [], []
    for n in range(len(edges) - 1):
        here = value[place == n]
        if len(here) >= 5:
            levels.append(float(np.median(here)))
            centres.append(float(np.median(radius[place == n])))
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


def _spread(
    x: np.ndarray, y: np.ndarray, order: np.ndarray, shape: tuple[int, ...], limit: int
) -> np.ndarray:
    """At most `limit` stars, brightest of each cell of the field in turn; brightest first."""
    if len(order) <= limit:
        return order
    ny, nx = shape
    cells_y = max(1, round(np.sqrt(_GROUPS * 24 * ny / nx)))
    cells_x = max(1, _GROUPS * 24 // cells_y)
    cell = (np.clip(y[order] * cells_y / ny, 0, cells_y - 1).astype(int)) * cells_x + np.clip(
        x[order] * cells_x / nx, 0, cells_x - 1
    ).astype(int)
    by_cell = np.argsort(cell, kind="stable")
    sorted_cell = cell[by_cell]
    start = np.searchsorted(sorted_cell, sorted_cell)
    rank = np.empty(len(order), int)
    rank[by_cell] = np.arange(len(order)) - start
    kept = np.lexsort((np.arange(len(order)), rank))[:limit]
    return order[np.sort(kept)]


@numba.njit(cache=True, nogil=True, error_model="numpy")
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


@numba.njit(cache=True, nogil=True, error_model="numpy")
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
    for k in range(n):
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
                ey = np.exp(norm * dy * dy)
                for u in range(-reach, reach + 1):
                    w = ey * ex[u + reach] * stamp[iv + v + big, iu + u + big]
                    sw += w
                    sx += w * (iu + u - px)
                    sy += w * dy
            if sw <= 0:
                break
            dx, dy = 2 * sx / sw, 2 * sy / sw
            px += dx
            py += dy
            if dx * dx + dy * dy < 1e-8:
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


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _widths(
    data: np.ndarray, step: int, x: np.ndarray, y: np.ndarray, sky: np.ndarray, width: float
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian width and elongation from weighted second moments, the weight's own width taken out."""
    n = len(x)
    half = 0.5 * (step - 1)
    sigma, elongation = np.full(n, np.nan), np.full(n, np.nan)
    stamp = np.empty((181, 181))
    for k in range(n):
        w2 = width * width
        i0, j0 = int(round(x[k] - half)), int(round(y[k] - half))
        fx, fy = x[k] - half - i0, y[k] - half - j0
        for _ in range(6):
            reach = min(90, max(3, int(np.ceil(3.0 * np.sqrt(w2)))))
            if not _stamp(data, step, i0, j0, reach, sky[k], stamp):
                break
            sw = sxx = syy = sxy = 0.0
            for v in range(2 * reach + 1):
                dy = v - reach - fy
                for u in range(2 * reach + 1):
                    dx = u - reach - fx
                    w = np.exp(-0.5 * (dx * dx + dy * dy) / w2) * stamp[v, u]
                    sw += w
                    sxx += w * dx * dx
                    syy += w * dy * dy
                    sxy += w * dx * dy
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
            sigma[k] = np.sqrt(s2)
            if abs(s2 - w2) < 0.01 * w2:
                break
            w2 = min(max(s2, 0.3), 900.0)
    return sigma, elongation


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _apertures(
    data: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    radius: float,
    step: int,
    channel: np.ndarray,
    n_channels: int,
    saturation: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sums of each colour's native pixels in a circle, minus the median of a ring of the same colour."""
    ny, nx = data.shape
    n = len(x)
    flux = np.full((n_channels, n), np.nan)
    count = np.zeros((n_channels, n))
    saturated = np.zeros(n, np.bool_)
    spiky = np.zeros(n, np.bool_)
    inner, outer = radius + 1.5, radius + 5.5
    reach = int(np.ceil(outer))
    ring = np.empty((n_channels, (2 * reach + 1) ** 2))
    m = np.empty(n_channels, np.int64)
    total = np.empty(n_channels)
    for k in range(n):
        i0, j0 = int(round(x[k])), int(round(y[k]))
        m[:] = 0
        total[:] = 0
        top = 0.0
        for j in range(max(0, j0 - reach), min(ny, j0 + reach + 1)):
            for i in range(max(0, i0 - reach), min(nx, i0 + reach + 1)):
                r = np.hypot(i - x[k], j - y[k])
                c = channel[(j % step) * step + i % step]
                v = float(data[j, i])
                if r <= radius:
                    total[c] += v
                    count[c, k] += 1
                    top = max(top, v)
                elif inner <= r <= outer:
                    ring[c, m[c]] = v
                    m[c] += 1
        whole = 0.0
        level = 0.0
        for c in range(n_channels):
            if m[c] < 4 or count[c, k] == 0:
                continue
            sky = np.median(ring[c, : m[c]])
            flux[c, k] = total[c] - sky * count[c, k]
            whole += flux[c, k]
            level = max(level, sky)
        saturated[k] = top >= saturation
        # A lone hot pixel holds nearly all of the light; no star does.
        spiky[k] = whole > 0 and (top - level) > 0.8 * whole
    return flux, count, saturated, spiky

"""Stars of one frame: found on a binned picture, measured on superpixels and native pixels.

Centroids are taken on grey superpixels (the sum of the four sites of a mosaic's cell): they beat those on raw or
demosaicked pixels, for the colours of the mosaic cancel. Fluxes are sums of each colour's own native pixels.
"""

from __future__ import annotations

import numba
import numpy as np
import sep

from difflapse.measure.background import channel_levels
from difflapse.model import Frame, Quality, Stars
from difflapse.mosaic import bin_image, channels, sites, superpixels

_DETECTION_PIXELS = 1_400_000
"""The picture that stars are found on has at most about this many pixels."""
_MESH = 64
_GROUPS = 24


def find_stars(
    frame: Frame, threshold: float = 5.0, limit: int = 3000, gain: float | None = None
) -> tuple[Stars, Quality]:
    """Find and measure the stars of a frame, bad pixels already filled.

    Parameters
    ----------
    frame : Frame
        Native pixels; `frame.mask` True pixels are not used.
    threshold : float
        Detection limit in units of the binned picture's noise.
    limit : int
        At most this many stars are kept: the brightest, well spread over the field.
    gain : float, optional
        Electrons per ADU, for the photon noise of `Stars.snr`; the frame's own where not given.

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
    gain = gain or facts.gain_e_adu
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
    x, y, mesh = _detect(grey, grey_mask, threshold)
    if len(x) == 0:
        return empty, Quality(0, float("nan"), levels, noises)
    background = _MeshSampler(mesh, grey.shape)
    sky = background(x, y)
    width = _typical_width(grey, x, y, sky, limit=200)
    cx, cy, peak, ok = _centroids(grey, x, y, sky, max(width, 0.55))
    x, y, sky = cx[ok], cy[ok], sky[ok]
    if len(x) == 0:
        return empty, Quality(0, float("nan"), levels, noises)
    fwhm, elongation = _widths(grey, x, y, sky, max(width, 0.55))
    # The superpixel itself widens the image by the variance of a box.
    box = (step**2 - 1) / 12.0
    native_fwhm = 2.3548 * np.sqrt(np.maximum((fwhm * step) ** 2 - box, 0.05))
    typical = float(np.median(native_fwhm[np.isfinite(native_fwhm)])) if np.isfinite(native_fwhm).any() else 2.0
    half = (step - 1) / 2
    nx_, ny_ = x * step + half, y * step + half
    radius = float(np.clip(1.5 * typical, 2.5 if pattern else 2.0, 40.0))
    channel = np.array([[s.channel for s in sites(pattern) if (s.x, s.y) == (i % step, j % step)][0] for j in range(step) for i in range(step)])
    saturation = facts.saturation_adu if facts.saturation_adu is not None else np.inf
    native = frame.data if frame.data.dtype.isnative else frame.data.astype(frame.data.dtype.newbyteorder("="))
    flux, count, saturated, spiky = _apertures(native, nx_, ny_, radius, step, channel, len(levels), float(saturation))
    total = np.zeros(len(x))
    variance = np.zeros(len(x))
    for c in range(len(levels)):
        total += flux[c]
        variance += count[c] * noises[c] ** 2
    if gain:
        variance += np.maximum(total, 0) / gain
    snr = total / np.sqrt(np.maximum(variance, 1e-12))
    good = (snr > 3) & np.isfinite(total) & ~spiky
    order = np.flatnonzero(good)
    order = order[np.argsort(-total[order], kind="stable")]
    order = _unique(nx_, ny_, order, max(1.0, 0.7 * typical))
    kept = _spread(nx_, ny_, order, frame.data.shape, limit)
    stars = Stars(nx_[kept], ny_[kept], total[kept], snr[kept], native_fwhm[kept], flux[:, kept], saturated[kept])
    bright = stars.take((~stars.saturated) & np.isfinite(stars.fwhm) & (stars.snr > 10))
    elong = elongation[kept][(~stars.saturated) & np.isfinite(stars.fwhm) & (stars.snr > 10)]
    quality = Quality(
        n_stars=len(order),
        fwhm_pix=float(np.median(bright.fwhm)) if len(bright) else typical,
        background_adu=levels,
        noise_adu=noises,
        elongation=float(np.median(elong)) if len(elong) else float("nan"),
    )
    return stars, quality


def _grey_mask(mask: np.ndarray | None, shape: tuple[int, ...], step: int) -> np.ndarray | None:
    if mask is None or step == 1:
        return mask
    m = mask[: shape[0] * 2, : shape[1] * 2]
    return m[::2, ::2] | m[1::2, ::2] | m[::2, 1::2] | m[1::2, 1::2]  # type: ignore[no-any-return]


def _detect(grey: np.ndarray, mask: np.ndarray | None, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rough positions on the grey picture, and the background mesh in its units."""
    factor = max(1, int(np.ceil(np.sqrt(grey.size / _DETECTION_PIXELS))))
    small = np.ascontiguousarray(bin_image(grey, factor))
    small_mask = None
    if mask is not None and mask.any():
        ny, nx = small.shape
        small_mask = mask[: ny * factor, : nx * factor].reshape(ny, factor, nx, factor).any(axis=(1, 3))
    cell = int(np.clip(min(small.shape) // 6, 8, _MESH))
    nothing = np.zeros(0)
    try:
        background = sep.Background(small, mask=small_mask, bw=cell, bh=cell, fw=3, fh=3)
        level = background.back()
        rms = background.globalrms
        if not np.isfinite(rms) or rms <= 0:
            return nothing, nothing, np.zeros((1, 1), np.float32)
        small = small - level
        kernel = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32)
        sep.set_extract_pixstack(1_000_000)
        found = sep.extract(
            small, threshold, err=rms, mask=small_mask, minarea=3 if factor == 1 else 1, filter_kernel=kernel,
            filter_type="conv", deblend_nthresh=16, deblend_cont=0.01, clean=False,
        )
    except Exception as error:  # noqa: BLE001 - sep raises bare Exception for its own overflows
        if "overflow" not in str(error) and "pixel buffer" not in str(error) and "limit" not in str(error):
            raise
        return nothing, nothing, np.zeros((1, 1), np.float32)
    # What is much larger than a star (the Sun's disk, a cloud's edge) is not one.
    size = np.hypot(found["a"], found["b"])
    keep = (found["npix"] < 0.002 * small.size) & (size < 0.05 * min(small.shape)) & np.isfinite(found["x"])
    keep &= (found["flag"] & sep.OBJ_TRUNC) == 0
    found = found[keep]
    order = np.argsort(-found["flux"], kind="stable")[:20_000]
    half = (factor - 1) / 2
    return (
        found["x"][order] * factor + half,
        found["y"][order] * factor + half,
        np.ascontiguousarray(bin_image(np.ascontiguousarray(level), 1)).astype(np.float32),
    )


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


def _typical_width(grey: np.ndarray, x: np.ndarray, y: np.ndarray, sky: np.ndarray, limit: int) -> float:
    """Gaussian width (sigma, grey pixels) of a typical star: the median of adaptive moments, from a first guess."""
    n = min(len(x), limit + 50)
    skip = min(n // 5, 50)  # the brightest may be saturated
    sel = slice(skip, n)
    width = 1.0
    for _ in range(3):
        cx, cy, _, ok = _centroids(grey, x[sel], y[sel], sky[sel], width)
        if not ok.any():
            return width
        sigma, _ = _widths(grey, cx[ok], cy[ok], sky[sel][ok], width)
        sigma = sigma[np.isfinite(sigma)]
        if len(sigma) == 0:
            return width * 1.5
        width = float(np.clip(np.median(sigma), 0.4, 15.0))
    return width


def _unique(x: np.ndarray, y: np.ndarray, order: np.ndarray, radius: float) -> np.ndarray:
    """Drop the fainter of two that ended on the same star."""
    from scipy.spatial import cKDTree

    if len(order) < 2:
        return order
    pairs = cKDTree(np.column_stack([x[order], y[order]])).query_pairs(radius, output_type="ndarray")
    if len(pairs) == 0:
        return order
    return np.delete(order, np.unique(pairs.max(axis=1)))


def _spread(x: np.ndarray, y: np.ndarray, order: np.ndarray, shape: tuple[int, ...], limit: int) -> np.ndarray:
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
def _centroids(
    grey: np.ndarray, x: np.ndarray, y: np.ndarray, sky: np.ndarray, width: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Windowed centroids: the fixed point of a Gaussian-weighted mean."""
    ny, nx = grey.shape
    n = len(x)
    cx, cy, peak = x.astype(np.float64).copy(), y.astype(np.float64).copy(), np.zeros(n)
    ok = np.zeros(n, np.bool_)
    reach = max(2, int(np.ceil(3.0 * width)))
    start_reach = max(3, 2 * int(np.ceil(2 * width)))
    ex = np.empty(2 * max(reach, start_reach) + 3)
    for k in range(n):
        # Begin at the brightest pixel nearby: positions from a binned picture are rough.
        i0, j0 = int(round(cx[k])), int(round(cy[k]))
        best = -1e30
        bi, bj = i0, j0
        for j in range(max(0, j0 - start_reach // 2), min(ny, j0 + start_reach // 2 + 1)):
            for i in range(max(0, i0 - start_reach // 2), min(nx, i0 + start_reach // 2 + 1)):
                if grey[j, i] > best:
                    best = grey[j, i]
                    bi, bj = i, j
        px, py = float(bi), float(bj)
        peak[k] = best
        good = False
        for step in range(25):
            i0, j0 = int(round(px)), int(round(py))
            if i0 - reach < 0 or j0 - reach < 0 or i0 + reach >= nx or j0 + reach >= ny:
                break
            sw = sx = sy = 0.0
            norm = -0.5 / (width * width)
            for i in range(i0 - reach, i0 + reach + 1):
                ex[i - i0 + reach] = np.exp(norm * (i - px) ** 2)
            for j in range(j0 - reach, j0 + reach + 1):
                ey = np.exp(norm * (j - py) ** 2)
                for i in range(i0 - reach, i0 + reach + 1):
                    w = ey * ex[i - i0 + reach] * (grey[j, i] - sky[k])
                    sw += w
                    sx += w * (i - px)
                    sy += w * (j - py)
            if sw <= 0:
                break
            dx, dy = 2 * sx / sw, 2 * sy / sw
            px += dx
            py += dy
            if abs(px - bi) > start_reach or abs(py - bj) > start_reach:
                break
            if dx * dx + dy * dy < 1e-8:
                good = True
                break
        if good:
            cx[k], cy[k] = px, py
            ok[k] = True
    return cx, cy, peak, ok


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _widths(
    grey: np.ndarray, x: np.ndarray, y: np.ndarray, sky: np.ndarray, width: float
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian width and elongation from weighted second moments, the weight's own width taken out."""
    ny, nx = grey.shape
    n = len(x)
    sigma, elongation = np.full(n, np.nan), np.full(n, np.nan)
    for k in range(n):
        w2 = width * width
        for _ in range(6):
            reach = min(40, max(2, int(np.ceil(3.0 * np.sqrt(w2)))))
            i0, j0 = int(round(x[k])), int(round(y[k]))
            if i0 - reach < 0 or j0 - reach < 0 or i0 + reach >= nx or j0 + reach >= ny:
                break
            sw = sxx = syy = sxy = 0.0
            for j in range(j0 - reach, j0 + reach + 1):
                for i in range(i0 - reach, i0 + reach + 1):
                    dx, dy = i - x[k], j - y[k]
                    w = np.exp(-0.5 * (dx * dx + dy * dy) / w2) * (grey[j, i] - sky[k])
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
                elongation[k] = np.sqrt((1.0 / (1.0 / (m + d) - 1.0 / w2)) / (1.0 / (1.0 / (m - d) - 1.0 / w2)))
            sigma[k] = np.sqrt(s2)
            if abs(s2 - w2) < 0.01 * w2:
                break
            w2 = min(max(s2, 0.3), 150.0)
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

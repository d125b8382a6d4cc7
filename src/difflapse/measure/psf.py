"""Positions by the stars' own profile: learnt from the frame, stretched over the field, fitted on native pixels.

A profile here is the *effective* one, what a pixel sees of a star (Anderson & King 2000): pixels, however wide
beside the star, are sampled and never integrated. Each colour of a mosaic has a flux of its own under one common
profile, so that neither the colours nor a star's place in the 2x2 cell move it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numba
import numpy as np

from difflapse.measure.order import median
from difflapse.model import StarProfile

_LEAST = 25
"""Fewest bright lone stars from which a profile is learnt; below, windowed centroids are as good."""
_TEACHERS = 200
_GRAIN = 0.02
"""Relative error of a pixel's sensitivity and of the profile: what the brightest stars are trusted to."""
_SPACING = 0.6
"""Between knots of the profile, in Gaussian widths of its short axis."""
_MOST_KNOTS = 31
"""Along each axis; long trails get coarser ones."""
_ODD = 9.0
"""Squared deviation, in variances, from which a pixel counts less."""
_OTHERS = 8
"""Pixels of the stars that the profile is learnt from, between the same four knots, that tell what is usual there."""
_UNLIKE_PIXEL = 25.0
"""Squared deviation from that, in variances, from which a pixel is left out."""
_UNLIKE = 1.7
"""Chi square over the usual one from which a star counts as blended."""
_WINDOW = 1.5
"""Moments of the window, over those of the profile, in which the profile's centroid is its origin."""
_LEARNT, _FITTED = 4.0, 3.0
"""Widths (of each axis its own) out to which the profile is learnt, and stars are fitted."""
_STEP = np.uint64(1)
_LOOSE = {"contract", "reassoc"}
"""Sums may be taken in any order; infinities and NaN stay what they are."""


@dataclass(frozen=True, eq=False)
class Light:
    """The pixels of a frame and what is known of their noise."""

    data: np.ndarray
    """(ny, nx), native pixels."""
    channel: np.ndarray
    """(step * step,) int: the channel of each site of the cell, row by row."""
    noise: np.ndarray
    """(c,) float64: noise of an empty pixel of each channel, ADU."""
    per_adu: float
    """Variance that each ADU of starlight adds, ADU: 1 / gain, 0 where unknown."""
    saturation: float
    """Level from which a pixel tells nothing, ADU."""

    @property
    def step(self) -> int:
        """2 for a mosaic, 1 for monochrome."""
        return 2 if len(self.channel) == 4 else 1


@dataclass(frozen=True, eq=False)
class _Grid:
    """Where the profile has its knots."""

    knots: int
    """Along each axis; odd."""
    spacing: float
    """px"""
    form: np.ndarray
    """(xx, yy, xy) of the inverse of the typical star's moments: 1 at one width from the middle."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """Stars fitted with the frame's profile; all arrays have length n."""

    x: np.ndarray
    y: np.ndarray
    error: np.ndarray
    """Standard error of a coordinate, px, from the noise, more where the star is not like the profile."""
    chi2: np.ndarray
    """Reduced chi square of the pixels."""
    ok: np.ndarray
    """bool: the fit came to rest near where it began."""
    blended: np.ndarray
    """bool: a chi square far above that of stars as bright."""
    profile: StarProfile
    """What was fitted."""


def fit_profile(
    light: Light,
    x: np.ndarray,
    y: np.ndarray,
    sky: np.ndarray,
    moments: np.ndarray,
    teachers: np.ndarray,
) -> Fitted | None:
    """Measure positions by fitting the frame's own stellar profile; not for frames of few stars.

    Parameters
    ----------
    light : Light
        Pixels and noise.
    x, y : ndarray, shape (n,), native px
        Windowed centroids.
    sky : ndarray, shape (c, n), ADU
        Sky under each star in each channel, the bias included.
    moments : ndarray, shape (3, n), px**2
        Second moments xx, yy, xy of each star; NaN where unknown.
    teachers : ndarray of bool, shape (n,)
        Bright lone stars, not saturated.

    Returns
    -------
    Fitted or None
        None where there are fewer than 25 teachers.

    Notes
    -----
    The profile is a bicubic spline with knots every 0.6 widths of a star, found by linear least squares from the
    teachers' pixels, positions and fluxes; both are improved in turn, twice. Over the field it is stretched as
    a quadratic map of the stars' second moments says. 1500 stars of FWHM 2 px cost about 12 ms.

    References
    ----------
    Anderson & King 2000, doi:10.1086/316632 (effective profile); King 1983, doi:10.1086/131139 (errors).
    """
    bright = np.flatnonzero(teachers & np.isfinite(moments).all(axis=0))
    if len(bright) < _LEAST:
        return None
    map_, middle = _stretch(x, y, moments, bright, light.data.shape)
    shape = _shapes(map_, middle, x, y, light.data.shape)
    bright = bright[:: max(1, len(bright) // _TEACHERS)][:_TEACHERS]
    grid = _grid(middle)
    spacing, form = grid.spacing, grid.form
    profile = _first_guess(grid)
    px, py = x[bright], y[bright]
    some_sky, some_shape = np.ascontiguousarray(sky[:, bright]), shape[bright]
    for round_ in range(2):
        # Where the fit is noisier than the profile's wrong shape, only fluxes are learnt first.
        fx, fy, flux, _, _, ok = _fit(
            light.data, light.step, light.channel, light.noise, light.per_adu, light.saturation, px, py,
            some_sky, some_shape, profile, spacing, form, _FITTED, 0.1 if round_ == 0 else _GRAIN, 2 * round_,
        )  # fmt: skip
        samples, fault = _samples(
            light.data, light.step, light.channel, light.noise, light.per_adu, light.saturation, fx, fy,
            some_sky, some_shape, flux, ok, profile, spacing, form, _LEARNT, 0.3 if round_ == 0 else 0.05,
        )  # fmt: skip
        profile = _solve(*_normal(samples, _like_others(samples, fault, grid.knots), grid.knots))
        profile = _recentred(profile, grid)
        px, py = np.where(ok, fx, px), np.where(ok, fy, py)
    fx, fy, flux, error, chi2, ok = _fit(
        light.data, light.step, light.channel, light.noise, light.per_adu, light.saturation, x, y, sky, shape,
        profile, spacing, form, _FITTED, _GRAIN, 4,
    )  # fmt: skip
    learnt = StarProfile(profile, spacing, form, map_, middle, (light.data.shape[0], light.data.shape[1]))
    error = error * np.sqrt(np.maximum(chi2, 1.0))
    return Fitted(fx, fy, error, chi2, ok, _unlike(chi2, flux.sum(0), ok), learnt)


def _unlike(chi2: np.ndarray, flux: np.ndarray, ok: np.ndarray) -> np.ndarray:
    """Stars that the profile describes much worse than others of their brightness."""
    good = np.flatnonzero(ok)
    out = ~ok
    if len(good) == 0:
        return out
    from scipy.ndimage import median_filter  # slow to load, and only workers measure

    order = good[np.argsort(-flux[good], kind="stable")]
    usual = median_filter(chi2[order], min(101, len(order)), mode="reflect")
    out[order] = chi2[order] > _UNLIKE * np.maximum(usual, 1.0)
    return out


def _stretch(
    x: np.ndarray, y: np.ndarray, moments: np.ndarray, bright: np.ndarray, size: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """The stars' moments over the field, coefficients (3, t) of a polynomial, and those of the typical star."""
    degree = 2 if len(bright) >= 80 else 1 if len(bright) >= 40 else 0
    basis = _terms(x[bright], y[bright], degree, size)
    values = moments[:, bright]
    middle = np.median(values, axis=1)
    keep = np.ones(len(bright), bool)
    coefficients = np.zeros((3, len(basis)))
    for _ in range(4):
        some = basis[:, keep]
        coefficients = np.linalg.solve(some @ some.T + 1e-9 * np.eye(len(some)), some @ values[:, keep].T).T
        away = values - coefficients @ basis
        spread = 1.4826 * np.median(np.abs(away[:, keep]), axis=1)
        keep = (np.abs(away) < 3.5 * spread[:, None] + 1e-9).all(axis=0)
        if keep.sum() < 2 * len(basis):
            coefficients = np.zeros_like(coefficients)
            coefficients[:, 0] = middle
            break
    return coefficients, np.median(coefficients @ basis, axis=1)


def _terms(x: np.ndarray, y: np.ndarray, degree: int, size: tuple[int, ...]) -> np.ndarray:
    """Terms of a polynomial over the field, (t, n)."""
    half = 0.5 * max(size)
    u, v = (x - 0.5 * size[1]) / half, (y - 0.5 * size[0]) / half
    return np.stack([u**i * v**j for i in range(degree + 1) for j in range(degree + 1 - i)])


def _shapes(
    coefficients: np.ndarray, middle: np.ndarray, x: np.ndarray, y: np.ndarray, size: tuple[int, ...]
) -> np.ndarray:
    """What takes offsets at each place to those of the typical star, (n, 4) matrices."""
    degree = {1: 0, 3: 1, 6: 2}[coefficients.shape[1]]
    map_ = coefficients @ _terms(x, y, degree, size)
    # The map must stay a stretch, wherever a polynomial may lead.
    low, high = 0.5, 2.0
    for c in (0, 1):
        map_[c] = np.clip(map_[c], low * middle[c], high * middle[c])
    limit = 0.95 * np.sqrt(map_[0] * map_[1])
    map_[2] = np.clip(map_[2], -limit, limit)
    root0, root = np.array(_root(*middle)).reshape(2, 2), _root(*map_)
    det = root[0] * root[3] - root[1] ** 2
    inverse = np.array([[root[3], -root[1]], [-root[1], root[0]]]) / det
    return np.einsum("ij,jkn->nik", root0, inverse).reshape(-1, 4)


def _root(xx: np.ndarray, yy: np.ndarray, xy: np.ndarray) -> tuple[np.ndarray, ...]:
    """Square root of symmetric 2x2 matrices, as its four elements."""
    s = np.sqrt(np.maximum(xx * yy - xy * xy, 1e-12))
    t = np.sqrt(xx + yy + 2 * s)
    return (xx + s) / t, xy / t, xy / t, (yy + s) / t


def _grid(middle: np.ndarray) -> _Grid:
    """Knots fine enough for the short axis, and enough of them for the long one."""
    xx, yy, xy = middle
    mean, apart = 0.5 * (xx + yy), float(np.hypot(0.5 * (xx - yy), xy))
    short, long = (float(np.sqrt(max(v, 0.3))) for v in (mean - apart, mean + apart))
    spacing = max(_SPACING * short, 2 * (_LEARNT + 0.1) * long / (_MOST_KNOTS - 3))
    half = int(np.ceil((_LEARNT + 0.1) * long / spacing)) + 1
    det = max(xx * yy - xy * xy, 0.09)
    return _Grid(2 * half + 1, spacing, np.array([yy, xx, -xy]) / det)


def _first_guess(grid: _Grid) -> np.ndarray:
    """Knots of a Gaussian with the typical star's moments."""
    u = (np.arange(grid.knots) - grid.knots // 2) * grid.spacing
    a, b, c = grid.form
    return np.exp(-0.5 * (a * u[None, :] ** 2 + b * u[:, None] ** 2 + 2 * c * u[None, :] * u[:, None]))


def _solve(band: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Knots from normal equations (see `_normal`), smooth where no pixel speaks."""
    n = round(len(right) ** 0.5)
    smooth = _roughness(n)
    weight = 1e-4 * band[:, -1].sum() / smooth[:, -1].sum()
    # Knots that no pixel reaches (the grid is square, trails are not) are dark, not what a straight line makes them.
    said = band[:, -1]
    dark = np.where(said < 1e-3 * np.median(said[said > 0]), 1e3, 1e-3)
    whole = band + weight * smooth
    whole[:, -1] += weight * dark
    return _solve_banded(whole, right).reshape(n, n)


@functools.lru_cache(maxsize=4)
def _roughness(n: int) -> np.ndarray:
    """Squared second differences along both axes of n x n knots, as a lower band like that of `_normal`."""
    difference = np.diff(np.eye(n), 2, axis=0)
    along = difference.T @ difference
    width = 3 * n + 4
    band = np.zeros((n * n, width))
    for d in range(3):
        diagonal = np.diag(along, -d)
        # Between knots of one row, and between rows.
        for row in range(n):
            band[row * n + d : (row + 1) * n, width - 1 - d] += diagonal
        band[d * n :, width - 1 - d * n] += np.repeat(diagonal, n)
    return band


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_LOOSE)
def _solve_banded(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cholesky's solution for a symmetric matrix given by its lower band, the diagonal last; `a` is used up.

    A library's would be as quick on one core, but wakes threads that then wait, at the cost of all others.
    """
    n, width = a.shape
    last = width - 1
    x = b.copy()
    for j in range(n):
        first = max(0, j - last)
        for i in range(first, j):
            # Column k of row j lies at k - j + last.
            total = 0.0
            for k in range(first, i):
                total += a[j, k - j + last] * a[i, k - i + last]
            a[j, i - j + last] = (a[j, i - j + last] - total) / a[i, last]
        total = 0.0
        for k in range(first, j):
            total += a[j, k - j + last] ** 2
        a[j, last] = np.sqrt(max(a[j, last] - total, 1e-300))
        total = 0.0
        for k in range(first, j):
            total += a[j, k - j + last] * x[k]
        x[j] = (x[j] - total) / a[j, last]
    for j in range(n - 1, -1, -1):
        for k in range(j + 1, min(n, j + last + 1)):
            x[j] -= a[k, j - k + last] * x[k]
        x[j] /= a[j, last]
    return x


def _recentred(profile: np.ndarray, grid: _Grid) -> np.ndarray:
    """The profile moved so that its centroid in a Gaussian window of its own form is its origin, its light 1."""
    spacing, (a, b, c) = grid.spacing, grid.form / _WINDOW
    u = (np.arange(len(profile)) - len(profile) // 2) * spacing
    value = _values(profile)
    px = py = 0.0
    for _ in range(30):
        du, dv = u[None, :] - px, u[:, None] - py
        seen = value * np.exp(-0.5 * (a * du * du + b * dv * dv + 2 * c * du * dv))
        if seen.sum() <= 0:
            return profile
        dx, dy = 2 * (seen.sum(0) @ u / seen.sum() - px), 2 * (seen.sum(1) @ u / seen.sum() - py)
        px, py = px + dx, py + dy
        if abs(dx) + abs(dy) < 1e-6:
            break
    if not np.hypot(px, py) < spacing * 3:
        return profile
    from scipy.ndimage import shift

    moved = shift(profile, (-py / spacing, -px / spacing), order=3, mode="constant", prefilter=True)
    # Knots further out hang on few pixels, or on none: what they say is no light.
    a, b, c = grid.form
    known = a * u[None, :] ** 2 + b * u[:, None] ** 2 + 2 * c * u[None, :] * u[:, None] <= _LEARNT**2
    total = float(_values(moved)[known].sum()) * spacing**2
    return moved / total if total > 0 else profile


def _values(profile: np.ndarray) -> np.ndarray:
    """The spline's values at its knots: averages of its coefficients with weights 1, 4, 1."""
    value = np.pad(profile, 1)
    value = (value[:, :-2] + 4 * value[:, 1:-1] + value[:, 2:]) / 6
    return np.asarray((value[:-2] + 4 * value[1:-1] + value[2:]) / 6)


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _weights(t: float) -> tuple[float, float, float, float]:
    """The four cubic B-splines that a point at `t` (0..1) between knots sees."""
    s = 1.0 - t
    return (
        s * s * s / 6,
        (4 - 6 * t * t + 3 * t * t * t) / 6,
        (4 - 6 * s * s + 3 * s * s * s) / 6,
        t * t * t / 6,
    )


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _slopes(t: float) -> tuple[float, float, float, float]:
    """Their derivatives."""
    s = 1.0 - t
    return -s * s / 2, (-12 * t + 9 * t * t) / 6, (12 * s - 9 * s * s) / 6, t * t / 2


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _extent(shape: np.ndarray, form: np.ndarray, radius: float) -> tuple[float, float]:
    """How far along x and y a star of this shape reaches, px, out to `radius` widths."""
    l0, l1, l2, l3 = shape[0], shape[1], shape[2], shape[3]
    xx = form[0] * l0 * l0 + form[1] * l2 * l2 + 2 * form[2] * l0 * l2
    yy = form[0] * l1 * l1 + form[1] * l3 * l3 + 2 * form[2] * l1 * l3
    xy = form[0] * l0 * l1 + form[1] * l2 * l3 + form[2] * (l0 * l3 + l1 * l2)
    det = max(xx * yy - xy * xy, 1e-12)
    return radius * np.sqrt(yy / det), radius * np.sqrt(xx / det)


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _across(
    knots: np.ndarray,
    at: np.uint64,
    w0: float,
    w1: float,
    w2: float,
    w3: float,
    s0: float,
    s1: float,
    s2: float,
    s3: float,
) -> tuple[float, float]:
    """One row of four knots, weighed for the value and for its slope; unsigned places need no check."""
    a, b, c, d = knots[at], knots[at + _STEP], knots[at + _STEP + _STEP], knots[at + _STEP + _STEP + _STEP]
    return w0 * a + w1 * b + w2 * c + w3 * d, s0 * a + s1 * b + s2 * c + s3 * d


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_LOOSE)
def _fit(
    data: np.ndarray,
    step: int,
    channel: np.ndarray,
    noise: np.ndarray,
    per_adu: float,
    saturation: float,
    x: np.ndarray,
    y: np.ndarray,
    sky: np.ndarray,
    shape: np.ndarray,
    profile: np.ndarray,
    spacing: float,
    form: np.ndarray,
    radius: float,
    grain: float,
    rounds: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Gauss-Newton on position and the flux of each channel; with no rounds on the fluxes only.

    Returns x, y, flux (c, n), standard error, reduced chi square, ok.
    """
    ny, nx = data.shape
    n, nc = len(x), len(noise)
    m = profile.shape[0]
    middle = 0.5 * (m - 1)
    out_x, out_y = x.copy(), y.copy()
    flux = np.zeros((nc, n))
    error, chi2 = np.full(n, np.nan), np.full(n, np.nan)
    ok = np.zeros(n, np.bool_)
    det = form[0] * form[1] - form[2] ** 2
    far = radius * np.sqrt(max(form[0], form[1]) / det)
    most = 1024
    at_x, at_y = np.empty(most), np.empty(most)
    value, gx, gy = np.empty(most), np.empty(most), np.empty(most)
    seen, weight = np.empty(most), np.empty(most)
    which = np.empty(most, np.int64)
    a0c, a1c, acc, bc = np.empty(nc), np.empty(nc), np.empty(nc), np.empty(nc)
    f = np.empty(nc)
    limit = (radius / spacing) ** 2
    knots, line = profile.reshape(-1), np.uint64(m)
    odd_site = step - 1
    for k in range(n):
        px, py = x[k], y[k]
        l0, l1, l2, l3 = (
            shape[k, 0] / spacing,
            shape[k, 1] / spacing,
            shape[k, 2] / spacing,
            shape[k, 3] / spacing,
        )
        reach_x, reach_y = _extent(shape[k], form, radius)
        if (2 * reach_x + 2) * (2 * reach_y + 2) > most:
            most = int((2 * reach_x + 2) * (2 * reach_y + 2)) + 1
            at_x, at_y = np.empty(most), np.empty(most)
            value, gx, gy = np.empty(most), np.empty(most), np.empty(most)
            seen, weight = np.empty(most), np.empty(most)
            which = np.empty(most, np.int64)
        f[:] = 0.0
        good = True
        count = 0
        from_x, from_y = np.inf, np.inf
        for turn in range(rounds + 1):
            if abs(px - from_x) > 0.1 or abs(py - from_y) > 0.1:
                # The pixels that count: within the radius around where the star now is.
                from_x, from_y = px, py
                count = 0
                i0, i1 = int(np.ceil(px - reach_x)), int(np.floor(px + reach_x))
                j0, j1 = int(np.ceil(py - reach_y)), int(np.floor(py + reach_y))
                if i0 < 0 or j0 < 0 or i1 >= nx or j1 >= ny:
                    good = False
                    break
                for j in range(j0, j1 + 1):
                    for i in range(i0, i1 + 1):
                        dx, dy = i - px, j - py
                        u, v = l0 * dx + l1 * dy, l2 * dx + l3 * dy
                        if form[0] * u * u + form[1] * v * v + 2 * form[2] * u * v > limit:
                            continue
                        level = float(data[j, i])
                        if level >= saturation:
                            continue
                        c = channel[(j & odd_site) * step + (i & odd_site)]
                        at_x[count], at_y[count] = i, j
                        seen[count] = level - sky[c, k]
                        which[count] = c
                        count += 1
                if count < nc + 6:
                    good = False
                    break
            for s in range(count):
                dx, dy = at_x[s] - px, at_y[s] - py
                u, v = l0 * dx + l1 * dy + middle, l2 * dx + l3 * dy + middle
                iu, iv = int(u), int(v)
                w0, w1, w2, w3 = _weights(u - iu)
                s0, s1, s2, s3 = _slopes(u - iu)
                v0, v1, v2, v3 = _weights(v - iv)
                t0, t1, t2, t3 = _slopes(v - iv)
                corner = np.uint64((iv - 1) * m + iu - 1)
                row0, along0 = _across(knots, corner, w0, w1, w2, w3, s0, s1, s2, s3)
                corner += line
                row1, along1 = _across(knots, corner, w0, w1, w2, w3, s0, s1, s2, s3)
                corner += line
                row2, along2 = _across(knots, corner, w0, w1, w2, w3, s0, s1, s2, s3)
                corner += line
                row3, along3 = _across(knots, corner, w0, w1, w2, w3, s0, s1, s2, s3)
                p = v0 * row0 + v1 * row1 + v2 * row2 + v3 * row3
                pv = t0 * row0 + t1 * row1 + t2 * row2 + t3 * row3
                pu = v0 * along0 + v1 * along1 + v2 * along2 + v3 * along3
                value[s] = p
                # d/d(position) is minus d/d(offset)
                gx[s], gy[s] = -(pu * l0 + pv * l2), -(pu * l1 + pv * l3)
            if turn == 0:
                # A first flux, each channel by itself.
                bc[:], acc[:] = 0.0, 0.0
                for s in range(count):
                    bc[which[s]] += value[s] * seen[s]
                    acc[which[s]] += value[s] * value[s]
                for c in range(nc):
                    f[c] = bc[c] / acc[c] if acc[c] > 0 else 0.0
            a00 = a01 = a11 = b0 = b1 = 0.0
            a0c[:], a1c[:], acc[:], bc[:] = 0.0, 0.0, 0.0, 0.0
            for s in range(count):
                c = which[s]
                model = max(f[c] * value[s], 0.0)
                w = 1.0 / (noise[c] ** 2 + per_adu * model + (grain * model) ** 2)
                weight[s] = w
                rest = seen[s] - f[c] * value[s]
                # What a neighbour adds must not pull: past 3 sigma a pixel counts ever less.
                odd = w * rest * rest
                if turn > 1 and odd > _ODD:
                    w *= _ODD / odd
                tx, ty, p = f[c] * gx[s], f[c] * gy[s], value[s]
                a00 += w * tx * tx
                a01 += w * tx * ty
                a11 += w * ty * ty
                b0 += w * tx * rest
                b1 += w * ty * rest
                a0c[c] += w * tx * p
                a1c[c] += w * ty * p
                acc[c] += w * p * p
                bc[c] += w * rest * p
            # Fluxes are eliminated one by one: between themselves they have no cross terms.
            for c in range(nc):
                if acc[c] > 0:
                    a00 -= a0c[c] ** 2 / acc[c]
                    a01 -= a0c[c] * a1c[c] / acc[c]
                    a11 -= a1c[c] ** 2 / acc[c]
                    b0 -= a0c[c] * bc[c] / acc[c]
                    b1 -= a1c[c] * bc[c] / acc[c]
            det = a00 * a11 - a01 * a01
            if rounds == 0:
                for c in range(nc):
                    if acc[c] > 0:
                        f[c] += bc[c] / acc[c]
                break
            if not (det > 0 and a00 > 0):
                good = False
                break
            mx, my = (a11 * b0 - a01 * b1) / det, (a00 * b1 - a01 * b0) / det
            if turn == rounds or (turn > 1 and mx * mx + my * my < 1e-6):
                # The last round only judges.
                total = 0.0
                for s in range(count):
                    total += weight[s] * (seen[s] - f[which[s]] * value[s]) ** 2
                chi2[k] = total / max(count - nc - 2, 1)
                error[k] = np.sqrt(0.5 * (a00 + a11) / det)
                break
            size = np.sqrt(mx * mx + my * my)
            cut = min(1.0, 0.7 / size) if size > 0 else 1.0
            px += cut * mx
            py += cut * my
            for c in range(nc):
                if acc[c] > 0:
                    f[c] += (bc[c] - cut * (a0c[c] * mx + a1c[c] * my)) / acc[c]
            if (px - x[k]) ** 2 + (py - y[k]) ** 2 > (0.5 * far) ** 2:
                good = False
                break
        if good:
            out_x[k], out_y[k] = px, py
            flux[:, k] = f
            ok[k] = True
    return out_x, out_y, flux, error, chi2, ok


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _samples(
    data: np.ndarray,
    step: int,
    channel: np.ndarray,
    noise: np.ndarray,
    per_adu: float,
    saturation: float,
    x: np.ndarray,
    y: np.ndarray,
    sky: np.ndarray,
    shape: np.ndarray,
    flux: np.ndarray,
    use: np.ndarray,
    profile: np.ndarray,
    spacing: float,
    form: np.ndarray,
    radius: float,
    slack: float,
) -> tuple[np.ndarray, np.ndarray]:
    """What pixels say of the profile, from stars of known place and flux.

    Returns (n, 5) samples: places u and v in knots, light for a flux of 1, by how much that is more than the profile so
    far, its variance; and (n,) how much more of each may be the profile's fault, where no other star tells: `slack` of
    the star's peak.
    """
    ny, nx = data.shape
    m = profile.shape[0]
    middle = 0.5 * (m - 1)
    odd_site = step - 1
    limit = (radius / spacing) ** 2
    top = slack * profile.max()
    n = 0
    for k in range(len(x)):
        if use[k]:
            reach_x, reach_y = _extent(shape[k], form, radius)
            n += int(2 * reach_x + 1) * int(2 * reach_y + 1)
    samples, fault = np.empty((n, 5)), np.empty(n)
    n = 0
    for k in range(len(x)):
        if not use[k]:
            continue
        l0, l1, l2, l3 = (
            shape[k, 0] / spacing,
            shape[k, 1] / spacing,
            shape[k, 2] / spacing,
            shape[k, 3] / spacing,
        )
        reach_x, reach_y = _extent(shape[k], form, radius)
        most = flux[:, k].max()
        for j in range(max(0, int(np.ceil(y[k] - reach_y))), min(ny - 1, int(np.floor(y[k] + reach_y))) + 1):
            for i in range(
                max(0, int(np.ceil(x[k] - reach_x))), min(nx - 1, int(np.floor(x[k] + reach_x))) + 1
            ):
                dx, dy = i - x[k], j - y[k]
                u, v = l0 * dx + l1 * dy, l2 * dx + l3 * dy
                if (
                    form[0] * u * u + form[1] * v * v + 2 * form[2] * u * v > limit
                    or data[j, i] >= saturation
                ):
                    continue
                c = channel[(j & odd_site) * step + (i & odd_site)]
                f = flux[c, k]
                if f <= 0:
                    continue
                u, v = u + middle, v + middle
                iu, iv = int(u), int(v)
                wu, wv = _weights(u - iu), _weights(v - iv)
                p = 0.0
                for q in range(4):
                    for r in range(4):
                        p += wv[q] * wu[r] * profile[iv - 1 + q, iu - 1 + r]
                light = (float(data[j, i]) - sky[c, k]) / f
                model = max(f * p, 0.0)
                variance = noise[c] ** 2 + per_adu * model + (_GRAIN * model) ** 2
                samples[n, 0], samples[n, 1] = u, v
                samples[n, 2], samples[n, 3], samples[n, 4] = light, light - p, variance / (f * f)
                fault[n] = top * most / f
                n += 1
    return samples[:n], fault[:n]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _like_others(samples: np.ndarray, fault: np.ndarray, m: int) -> np.ndarray:
    """(n,) bool: which samples are like those of the other stars at the same place, between the same four knots.

    What one star shows there is a neighbour or a cosmic ray; what most show is the profile, however far it is from
    what was believed before (the bright end of a trail from a Gaussian).
    """
    n = len(samples)
    cell = np.empty(n, np.int64)
    start = np.zeros(m * m + 1, np.int64)
    for s in range(n):
        cell[s] = int(samples[s, 1]) * m + int(samples[s, 0])
        start[cell[s] + 1] += 1
    for c in range(m * m):
        start[c + 1] += start[c]
    away, room = np.empty(n, np.float32), np.empty(n, np.float32)
    at = start[:-1].copy()
    for s in range(n):
        away[at[cell[s]]] = samples[s, 3]
        at[cell[s]] += 1
    like = np.empty(n, np.bool_)
    usual = np.zeros(m * m)
    for c in range(m * m):
        if start[c + 1] - start[c] >= _OTHERS:
            usual[c] = median(away[start[c] : start[c + 1]], room)
    for s in range(n):
        c = cell[s]
        slack = fault[s] if start[c + 1] - start[c] < _OTHERS else 0.0
        like[s] = (samples[s, 3] - usual[c]) ** 2 <= _UNLIKE_PIXEL * samples[s, 4] + slack * slack
    return like


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _normal(samples: np.ndarray, like: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Normal equations of the profile's m x m knots.

    Returns the matrix's lower band, (m * m, 3 * m + 4) with the diagonal last, and the right side.
    """
    width = 3 * m + 4
    band = np.zeros(m * m * width)
    right = np.zeros(m * m)
    wu, wv = np.empty(4), np.empty(4)
    for s in range(len(samples)):
        if not like[s]:
            continue
        iu, iv = int(samples[s, 0]), int(samples[s, 1])
        wu[0], wu[1], wu[2], wu[3] = _weights(samples[s, 0] - iu)
        wv[0], wv[1], wv[2], wv[3] = _weights(samples[s, 1] - iv)
        corner = (iv - 1) * m + iu - 1
        w, light = 1.0 / samples[s, 4], samples[s, 2]
        for q in range(4):
            for r in range(4):
                row = corner + q * m + r
                weighted = w * wv[q] * wu[r]
                right[row] += weighted * light
                # Columns up to the diagonal: whole rows of knots before this one, then those of its own.
                at = np.uint64(row * width + width - 1 - r - q * m)
                for b in range(q):
                    share = weighted * wv[b]
                    band[at] += share * wu[0]
                    band[at + _STEP] += share * wu[1]
                    band[at + _STEP + _STEP] += share * wu[2]
                    band[at + _STEP + _STEP + _STEP] += share * wu[3]
                    at += np.uint64(m)
                share = weighted * wv[q]
                for b in range(r + 1):
                    band[at] += share * wu[b]
                    at += _STEP
    return band.reshape(m * m, width), right

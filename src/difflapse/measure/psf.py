"""Positions by the stars' own profile: learnt from the frame, stretched over the field, fitted on native pixels.

A profile here is the *effective* one, what a pixel sees of a star (Anderson & King 2000): pixels, however wide
beside the star, are sampled and never integrated. Each colour of a mosaic has a flux of its own under one common
profile, so that neither the colours nor a star's place in the 2x2 cell move it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

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
_UNLIKE = 1.7
"""Chi square over the usual one from which a star counts as blended."""
_WINDOW = 1.5
"""Moments of the window, over those of the profile, in which the profile's centroid is its origin."""
_LEARNT, _FITTED = 4.0, 3.0
"""Widths (of each axis its own) out to which the profile is learnt, and stars are fitted."""


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
    a quadratic map of the stars' second moments says. 2000 stars of FWHM 2 px cost about 25 ms.

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
        normal, right = _samples(
            light.data, light.step, light.channel, light.noise, light.per_adu, light.saturation, fx, fy,
            some_sky, some_shape, flux, ok, profile, spacing, form, _LEARNT, 0.3 if round_ == 0 else 0.05,
        )  # fmt: skip
        profile = _solve(normal, right)
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


def _solve(normal: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Knots from normal equations, smooth where no pixel speaks; sum 1 over the plane."""
    n = round(len(right) ** 0.5)
    # Second differences along both axes, weak beside what pixels say.
    difference = np.diff(np.eye(n), 2, axis=0)
    rough = difference.T @ difference
    smooth = np.kron(np.eye(n), rough) + np.kron(rough, np.eye(n))
    weight = 1e-4 * np.trace(normal) / np.trace(smooth)
    # Knots that no pixel reaches (the grid is square, trails are not) are dark, not what a straight line makes them.
    said = np.diag(normal)
    dark = np.where(said < 1e-3 * np.median(said[said > 0]), 1e3, 1e-3)
    return _solve_banded(normal + weight * (smooth + np.diag(dark)), right, 3 * n + 3).reshape(n, n)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _solve_banded(a: np.ndarray, b: np.ndarray, band: int) -> np.ndarray:
    """Cholesky's solution where nothing lies farther than `band` from the diagonal; `a` is used up.

    A library's would be as quick on one core, but wakes threads that then wait, at the cost of all others.
    """
    n = len(b)
    x = b.copy()
    for j in range(n):
        first = max(0, j - band)
        for i in range(first, j):
            total = a[j, i]
            for k in range(max(first, i - band), i):
                total -= a[j, k] * a[i, k]
            a[j, i] = total / a[i, i]
        total = a[j, j]
        for k in range(first, j):
            total -= a[j, k] * a[j, k]
        a[j, j] = np.sqrt(max(total, 1e-300))
        for k in range(first, j):
            x[j] -= a[j, k] * x[k]
        x[j] /= a[j, j]
    for j in range(n - 1, -1, -1):
        for k in range(j + 1, min(n, j + band + 1)):
            x[j] -= a[k, j] * x[k]
        x[j] /= a[j, j]
    return x


def _recentred(profile: np.ndarray, grid: _Grid) -> np.ndarray:
    """The profile moved so that its centroid in a Gaussian window of its own form is its origin, scaled to sum 1."""
    spacing, (a, b, c) = grid.spacing, grid.form / _WINDOW
    u = (np.arange(len(profile)) - len(profile) // 2) * spacing
    # Knots are the spline's coefficients: at the knots its values are their average with weights 1, 4, 1.
    value = np.pad(profile, 1)
    value = (value[:, :-2] + 4 * value[:, 1:-1] + value[:, 2:]) / 6
    value = (value[:-2] + 4 * value[1:-1] + value[2:]) / 6
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
    total = float(profile.sum()) * spacing**2
    if not (np.hypot(px, py) < spacing * 3 and total > 0):
        return profile
    from scipy.ndimage import shift

    moved = shift(profile, (-py / spacing, -px / spacing), order=3, mode="constant", prefilter=True)
    return moved / total


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


@numba.njit(cache=True, nogil=True, error_model="numpy")
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
    reach = int(np.ceil(1.5 * far)) + 1
    most = (2 * reach + 2) ** 2
    value, gx, gy = np.empty(most), np.empty(most), np.empty(most)
    seen, weight = np.empty(most), np.empty(most)
    which = np.empty(most, np.int64)
    a = np.empty((nc + 2, nc + 2))
    b = np.empty(nc + 2)
    f = np.empty(nc)
    for k in range(n):
        px, py = x[k], y[k]
        l0, l1, l2, l3 = (
            shape[k, 0] / spacing,
            shape[k, 1] / spacing,
            shape[k, 2] / spacing,
            shape[k, 3] / spacing,
        )
        limit = (radius / spacing) ** 2
        f[:] = 0.0
        good = True
        for turn in range(rounds + 1):
            count = 0
            i0, j0 = int(round(px)), int(round(py))
            if i0 - reach < 0 or j0 - reach < 0 or i0 + reach >= nx or j0 + reach >= ny:
                good = False
                break
            for j in range(j0 - reach, j0 + reach + 1):
                for i in range(i0 - reach, i0 + reach + 1):
                    dx, dy = i - px, j - py
                    u, v = l0 * dx + l1 * dy, l2 * dx + l3 * dy
                    if form[0] * u * u + form[1] * v * v + 2 * form[2] * u * v > limit:
                        continue
                    level = float(data[j, i])
                    if level >= saturation:
                        continue
                    u, v = u + middle, v + middle
                    iu, iv = int(u), int(v)
                    wu, wv = _weights(u - iu), _weights(v - iv)
                    su, sv = _slopes(u - iu), _slopes(v - iv)
                    p = pu = pv = 0.0
                    for q in range(4):
                        row = iv - 1 + q
                        r0, r1, r2, r3 = (
                            profile[row, iu - 1],
                            profile[row, iu],
                            profile[row, iu + 1],
                            profile[row, iu + 2],
                        )
                        along = wu[0] * r0 + wu[1] * r1 + wu[2] * r2 + wu[3] * r3
                        p += wv[q] * along
                        pv += sv[q] * along
                        pu += wv[q] * (su[0] * r0 + su[1] * r1 + su[2] * r2 + su[3] * r3)
                    c = channel[(j % step) * step + i % step]
                    value[count] = p
                    # d/d(position) is minus d/d(offset)
                    gx[count], gy[count] = -(pu * l0 + pv * l2), -(pu * l1 + pv * l3)
                    seen[count] = level - sky[c, k]
                    which[count] = c
                    count += 1
            if count < nc + 6:
                good = False
                break
            if turn == 0:
                # A first flux, each channel by itself.
                a[0, :], b[:] = 0.0, 0.0
                for s in range(count):
                    b[which[s]] += value[s] * seen[s]
                    a[0, which[s]] += value[s] * value[s]
                for c in range(nc):
                    f[c] = b[c] / a[0, c] if a[0, c] > 0 else 0.0
            a[:], b[:] = 0.0, 0.0
            for s in range(count):
                c = which[s]
                model = max(f[c] * value[s], 0.0)
                w = 1.0 / (noise[c] ** 2 + per_adu * model + (grain * model) ** 2)
                weight[s] = w
                # What a neighbour adds must not pull: past 3 sigma a pixel counts ever less.
                odd = w * (seen[s] - f[c] * value[s]) ** 2
                if turn > 1 and odd > _ODD:
                    w *= _ODD / odd
                tx, ty = f[c] * gx[s], f[c] * gy[s]
                rest = seen[s] - f[c] * value[s]
                a[0, 0] += w * tx * tx
                a[0, 1] += w * tx * ty
                a[1, 1] += w * ty * ty
                b[0] += w * tx * rest
                b[1] += w * ty * rest
                a[0, 2 + c] += w * tx * value[s]
                a[1, 2 + c] += w * ty * value[s]
                a[2 + c, 2 + c] += w * value[s] * value[s]
                b[2 + c] += w * rest * value[s]
            # Fluxes are eliminated one by one: between themselves they have no cross terms.
            a00, a01, a11, b0, b1 = a[0, 0], a[0, 1], a[1, 1], b[0], b[1]
            for c in range(nc):
                d = a[2 + c, 2 + c]
                if d <= 0:
                    continue
                a00 -= a[0, 2 + c] ** 2 / d
                a01 -= a[0, 2 + c] * a[1, 2 + c] / d
                a11 -= a[1, 2 + c] ** 2 / d
                b0 -= a[0, 2 + c] * b[2 + c] / d
                b1 -= a[1, 2 + c] * b[2 + c] / d
            det = a00 * a11 - a01 * a01
            if rounds == 0:
                for c in range(nc):
                    if a[2 + c, 2 + c] > 0:
                        f[c] += b[2 + c] / a[2 + c, 2 + c]
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
                d = a[2 + c, 2 + c]
                if d > 0:
                    f[c] += (b[2 + c] - cut * (a[0, 2 + c] * mx + a[1, 2 + c] * my)) / d
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
    """Normal equations of the profile's knots from stars of known place and flux; pixels unlike it left out."""
    ny, nx = data.shape
    m = profile.shape[0]
    middle = 0.5 * (m - 1)
    normal = np.zeros((m * m, m * m))
    right = np.zeros(m * m)
    basis = np.empty(16)
    place = np.empty(16, np.int64)
    limit = (radius / spacing) ** 2
    det = form[0] * form[1] - form[2] ** 2
    box = int(np.ceil(1.5 * radius * np.sqrt(max(form[0], form[1]) / det))) + 1
    for k in range(len(x)):
        if not use[k]:
            continue
        i0, j0 = int(round(x[k])), int(round(y[k]))
        l0, l1, l2, l3 = (
            shape[k, 0] / spacing,
            shape[k, 1] / spacing,
            shape[k, 2] / spacing,
            shape[k, 3] / spacing,
        )
        top = 0.0
        for c in range(flux.shape[0]):
            top = max(top, flux[c, k] * profile[m // 2, m // 2])
        for j in range(max(0, j0 - box), min(ny, j0 + box + 1)):
            for i in range(max(0, i0 - box), min(nx, i0 + box + 1)):
                dx, dy = i - x[k], j - y[k]
                u, v = l0 * dx + l1 * dy, l2 * dx + l3 * dy
                if (
                    form[0] * u * u + form[1] * v * v + 2 * form[2] * u * v > limit
                    or data[j, i] >= saturation
                ):
                    continue
                u, v = u + middle, v + middle
                iu, iv = int(u), int(v)
                wu, wv = _weights(u - iu), _weights(v - iv)
                c = channel[(j % step) * step + i % step]
                p = 0.0
                for q in range(4):
                    for r in range(4):
                        basis[4 * q + r] = wv[q] * wu[r]
                        place[4 * q + r] = (iv - 1 + q) * m + iu - 1 + r
                        p += basis[4 * q + r] * profile[iv - 1 + q, iu - 1 + r]
                f = flux[c, k]
                if f <= 0:
                    continue
                seen = float(data[j, i]) - sky[c, k]
                model = max(f * p, 0.0)
                variance = noise[c] ** 2 + per_adu * model + (0.02 * model) ** 2
                # A neighbour, a cosmic ray: the profile is that of a star alone.
                if (seen - f * p) ** 2 > 25.0 * variance + (slack * top) ** 2:
                    continue
                w = f * f / variance
                # Places ascend with q and r: this is the upper half.
                for q in range(16):
                    right[place[q]] += w * basis[q] * seen / f
                    for r in range(q, 16):
                        normal[place[q], place[r]] += w * basis[q] * basis[r]
    for q in range(m * m):
        for r in range(q):
            normal[q, r] = normal[r, q]
    return normal, right

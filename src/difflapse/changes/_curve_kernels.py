"""The arithmetic of light curves, compiled: robust fits to a frame's stars, and the terms of the sensor.

Compiled by itself rather than left to a library of linear algebra, which makes a copy in double precision of all that
it is given, and wakes threads.
"""

from __future__ import annotations

import numba
import numpy as np

from difflapse.measure.order import chosen, median

_SUMS = {"contract", "reassoc", "nsz"}
_TURNS = 4
"""Fits, each with the weights that the last one's residuals leave."""
_WAVES = 12
"""The coarsest over the cell: along x, along y, along both diagonals, and the second harmonics."""
_TOGETHER, _PIECE = 256, 192
"""Stars that are taken together, so that what is made for them stays at hand."""


_FURTHER = 1.5
"""Times its neighbour's, squared, that the distance of a point's k-th neighbour most often is not."""


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def fade(z: float) -> float:
    """Weight of a deviation of z sigma: 1 in the middle, 0 beyond 4 (Tukey's biweight, c = 4)."""
    left = 1.0 - (z / 4) * (z / 4)
    return left * left if abs(z) < 4 else 0.0


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def faded(weight: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Weights times `fade` of deviations, (f, n)."""
    out = np.empty(z.shape)
    for i in range(len(z)):
        for s in range(z.shape[1]):
            out[i, s] = weight[i, s] * fade(z[i, s])
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def fit_frame(terms: np.ndarray, values: np.ndarray, weight: np.ndarray, model: np.ndarray) -> np.ndarray:
    """Weighted least squares of values (n,) on terms (p, n), outliers losing their weight; `model` (n,) is the fit.

    Where too few values tell, their median is taken for the first term, and 0 for the others.
    """
    p, n = terms.shape
    w = weight.copy()
    found, right = np.zeros(p), np.empty(p)
    normal = np.empty((p, p))
    scaled = np.empty(n)
    some, room = np.empty(n, np.float32), np.empty(n, np.float32)
    for _ in range(_TURNS):
        heeded = 0
        for s in range(n):
            heeded += w[s] > 0
        if heeded < 2 * p:
            m = 0
            for s in range(n):
                some[m] = values[s]
                m += weight[s] > 0
            found[:] = 0.0
            found[0] = median(some[:m], room) if m else 0.0
            break
        _normal(terms, values, w, scaled, normal, right)
        _solve(normal, right, found)
        _combine(found, terms, model)
        m = 0
        for s in range(n):
            scaled[s] = (values[s] - model[s]) * np.sqrt(weight[s])
            some[m] = abs(scaled[s])
            m += weight[s] > 0
        spread = max(1.4826 * float(median(some[:m], room)), 1.0)
        for s in range(n):
            w[s] = weight[s] * fade(scaled[s] / spread)
    _combine(found, terms, model)
    return found


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath=_SUMS)
def _normal(
    terms: np.ndarray,
    values: np.ndarray,
    w: np.ndarray,
    scaled: np.ndarray,
    normal: np.ndarray,
    right: np.ndarray,
) -> None:
    """Normal equations, the lower half of their matrix."""
    p, n = terms.shape
    normal[:] = 0.0
    right[:] = 0.0
    for first in range(0, n, _PIECE):
        m = min(_PIECE, n - first)
        weights, told, by = w[first : first + m], values[first : first + m], scaled[:m]
        for a in range(p):
            own = terms[a, first : first + m]
            total = 0.0
            for s in range(m):
                by[s] = own[s] * weights[s]
                total += by[s] * told[s]
            right[a] += total
            for b in range(a + 1):
                other = terms[b, first : first + m]
                total = 0.0
                for s in range(m):
                    total += by[s] * other[s]
                normal[a, b] += total


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _solve(normal: np.ndarray, right: np.ndarray, x: np.ndarray) -> None:
    """Cholesky's solution, with a trace of a ridge; the lower half of the matrix is used up."""
    p = len(right)
    trace = 0.0
    for a in range(p):
        normal[a, a] *= 1 + 1e-8
        trace += normal[a, a]
    for a in range(p):
        normal[a, a] += 1e-12 * trace
        for b in range(a + 1):
            total = normal[a, b]
            for c in range(b):
                total -= normal[a, c] * normal[b, c]
            normal[a, b] = np.sqrt(max(total, 1e-14 * trace)) if a == b else total / normal[b, b]
    for a in range(p):
        total = right[a]
        for c in range(a):
            total -= normal[a, c] * x[c]
        x[a] = total / normal[a, a]
    for a in range(p - 1, -1, -1):
        x[a] /= normal[a, a]
        for c in range(a):
            x[c] -= normal[a, c] * x[a]


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _combine(coefficients: np.ndarray, terms: np.ndarray, out: np.ndarray) -> None:
    out[:] = 0.0
    for a in range(len(terms)):
        by, own = coefficients[a], terms[a]
        for s in range(len(out)):
            out[s] += by * own[s]


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def combine(coefficients: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """Sum of terms (p, n) float32 times coefficients (p,), in double precision, (n,)."""
    out = np.empty(terms.shape[1])
    _combine(coefficients, terms, out)
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath=_SUMS)
def add_weighted(
    terms: np.ndarray, w: np.ndarray, values: np.ndarray, mean: np.ndarray, right: np.ndarray
) -> None:
    """Add a frame's terms (p, n) float32 times weights (n,) to `mean` (p, n), and those times its values to `right`."""
    for a in range(len(terms)):
        own, to = terms[a], mean[a]
        total = 0.0
        for s in range(len(w)):
            scaled = w[s] * own[s]
            to[s] += scaled
            total += scaled * values[s]
        right[a] += total


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def lay_terms(
    trig: np.ndarray, u: np.ndarray, v: np.ndarray, width: np.float32, degree: int, out: np.ndarray
) -> None:
    """Lay out the sensor's terms (p, n) float32: monomials u**i v**j of i + j from 1 to a degree; then each wave over
    the cell itself, times u, v, u*u, u*v, v*v, and times the frame's width.

    `trig` (4, n): cosine and sine of the phase along x, then along y.
    """
    n = len(u)
    row = 0
    for i in range(degree + 1):
        for j in range(degree + 1 - i):
            if i + j == 0:
                continue
            to = out[row]
            for s in range(n):
                pu = pv = np.float32(1)
                for _ in range(i):
                    pu *= u[s]
                for _ in range(j):
                    pv *= v[s]
                to[s] = pu * pv
            row += 1
    waves = out[row::7]
    for s in range(n):
        a, b, c, d = trig[0, s], trig[1, s], trig[2, s], trig[3, s]
        waves[0, s], waves[1, s], waves[2, s], waves[3, s] = a, b, c, d
        waves[4, s], waves[5, s] = a * c - b * d, b * c + a * d
        waves[6, s], waves[7, s] = a * c + b * d, b * c - a * d
        waves[8, s], waves[9, s] = a * a - b * b, (a + a) * b
        waves[10, s], waves[11, s] = c * c - d * d, (c + c) * d
    for k in range(_WAVES):
        own, to = waves[k], out[row + 7 * k + 1 : row + 7 * k + 7]
        for s in range(n):
            w = own[s]
            to[0, s] = w * u[s]
            to[1, s] = w * v[s]
            to[2, s] = w * (u[s] * u[s])
            to[3, s] = w * (u[s] * v[s])
            to[4, s] = w * (v[s] * v[s])
            to[5, s] = w * width


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath=_SUMS)
def add_sensor(
    trig: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    width: float,
    degree: int,
    coefficients: np.ndarray,
    out: np.ndarray,
) -> None:
    """Add the sum of the terms of `lay_terms` times their coefficients to `out` (n,) float64; none is laid out."""
    n = len(u)
    row = 0
    for i in range(degree + 1):
        for j in range(degree + 1 - i):
            if i + j == 0:
                continue
            by = coefficients[row]
            for s in range(n):
                term = by
                for _ in range(i):
                    term *= u[s]
                for _ in range(j):
                    term *= v[s]
                out[s] += term
            row += 1
    # Of each wave over the field: 1, u, v, u*u, u*v, v*v; the width is the frame's.
    f = coefficients[row:].copy().reshape(_WAVES, 7)
    f[:, 0] += f[:, 6] * width
    wave = np.empty((_WAVES, _TOGETHER))
    for first in range(0, n, _TOGETHER):
        m = min(_TOGETHER, n - first)
        for s in range(m):
            a, b = float(trig[0, first + s]), float(trig[1, first + s])
            c, d = float(trig[2, first + s]), float(trig[3, first + s])
            wave[0, s], wave[1, s], wave[2, s], wave[3, s] = a, b, c, d
            wave[4, s], wave[5, s] = a * c - b * d, b * c + a * d
            wave[6, s], wave[7, s] = a * c + b * d, b * c - a * d
            wave[8, s], wave[9, s] = a * a - b * b, 2 * a * b
            wave[10, s], wave[11, s] = c * c - d * d, 2 * c * d
        for k in range(_WAVES):
            own, f0, f1, f2, f3, f4, f5 = wave[k], f[k, 0], f[k, 1], f[k, 2], f[k, 3], f[k, 4], f[k, 5]
            for s in range(m):
                x, y = float(u[first + s]), float(v[first + s])
                out[first + s] += own[s] * (f0 + x * (f1 + f3 * x + f4 * y) + y * (f2 + f5 * y))


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def nearest(place: np.ndarray, among: np.ndarray, k: int) -> np.ndarray:
    """Numbers (n, k), ascending, of the k points of `among` (d, t) that are nearest to each of `place` (n, d).

    Notes
    -----
    How far the k-th is of one point tells where to look for that of the next: few of the others need to be put in
    order. A tree takes twice as long for as many dimensions and neighbours.
    """
    n, d = place.shape
    t = among.shape[1]
    out = np.empty((n, k), np.int64)
    away, some, room = np.empty(t), np.empty(t + 1), np.empty(t)
    which = np.empty(t + 1, np.int64)
    limit = 1.0
    for s in range(n):
        away[:] = 0.0
        for c in range(d):
            here, there = place[s, c], among[c]
            for q in range(t):
                away[q] += (there[q] - here) * (there[q] - here)
        m, reach = 0, _FURTHER * limit
        while m < k:
            m = 0
            for q in range(t):
                # Written always, counted where it is near: nothing to guess.
                some[m], which[m] = away[q], q
                m += not away[q] > reach
            reach *= 2 * _FURTHER
        room[:m] = some[:m]
        limit = chosen(room[:m], k - 1, False)[0]
        left = k
        for q in range(m):
            left -= some[q] < limit
        # `left` of those that are as far as the last one.
        taken = 0
        for q in range(m):
            if some[q] < limit or (some[q] == limit and left > 0):
                left -= some[q] == limit
                out[s, taken] = which[q]
                taken += 1
        limit = max(limit, 1e-12)
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def mean_of(near: np.ndarray, itself: np.ndarray, values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted mean (n, f) of the rows of `values` (t, f) that each row of `near` (n, k) names, but for `itself`."""
    n, f = len(near), values.shape[1]
    out = np.empty((n, f))
    weights = np.empty(f)
    for s in range(n):
        total = out[s]
        total[:] = 0.0
        weights[:] = 0.0
        for q in near[s]:
            if q == itself[s]:
                continue
            v, w = values[q], weight[q]
            for i in range(f):
                total[i] += w[i] * v[i]
                weights[i] += w[i]
        for i in range(f):
            total[i] /= max(weights[i], 1e-30)
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def excess(rel: np.ndarray, photon: np.ndarray, frame: np.ndarray, stars: np.ndarray, dof: float) -> float:
    """The variance to add to that of the photons for the median deviation of some stars to be that of a Gaussian.

    `rel` and `photon` are (f, n); the deviations are times `dof`, both variances times the square of `frame` (f,).
    """
    most = len(frame) * len(stars)
    square, variance, times = np.empty(most), np.empty(most), np.empty(most)
    some, room = np.empty(most, np.float32), np.empty(most, np.float32)
    m = 0
    for i in range(len(frame)):
        for s in stars:
            away, noise = dof * (rel[i, s] - 1), frame[i] * photon[i, s]
            square[m], variance[m], times[m] = away * away, noise * noise, frame[i] * frame[i]
            some[m] = square[m]
            m += np.isfinite(away) and np.isfinite(noise)
    if m == 0:
        return 0.0
    high = 10.0 * float(median(some[:m], room)) + 1e-12
    low, middle = 0.0, 0.0
    ratio = some[:m]
    for step in range(19):
        for i in range(m):
            ratio[i] = square[i] / (variance[i] + middle * times[i])
        more = median(ratio, room) > 0.6745**2
        if step == 0 and not more:
            return 0.0
        if more:
            low = middle
        else:
            high = middle
        middle = 0.5 * (low + high)
    return high


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def scatter(
    rel: np.ndarray, photon: np.ndarray, level: np.ndarray, stars: np.ndarray, dof: float
) -> np.ndarray:
    """Median deviation of some stars on each frame, over the noise of their photons and a floor (n,); NaN for none."""
    out = np.full(len(rel), np.nan)
    some, room = np.empty(len(stars), np.float32), np.empty(len(stars), np.float32)
    for i in range(len(rel)):
        m = 0
        for s in stars:
            some[m] = abs(dof * (rel[i, s] - 1)) / np.sqrt(photon[i, s] * photon[i, s] + level[s])
            m += np.isfinite(some[m])
        if m:
            out[i] = median(some[:m], room)
    return out

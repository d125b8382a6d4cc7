"""The arithmetic of a joint fit: derivatives, sums over stars and frames, and the solution of what is left.

Compiled by itself rather than left to a library of linear algebra: its threads would wait for each other at the cost
of whoever else works on the machine.
"""

from __future__ import annotations

import numba
import numpy as np

from difflapse.align.camera import look_along

_SUMS = {"contract", "reassoc"}


@numba.njit(cache=True, nogil=True, error_model="numpy")
def derive(
    basis: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    views: np.ndarray,
    steps: np.ndarray,
    out: np.ndarray,
) -> None:
    """Derivatives of positions on the sky's plane, into `out` (n, 2, columns).

    `views` (m, 10) are the arguments of `look_along`: how the frame looks, then with one parameter after the other
    moved by its step (curvature, air, and the middle's x and y as the last two).
    """
    n, terms, m = len(u), basis.shape[1] - 3, len(views)
    X, Y = np.empty((m + 2, n)), np.empty((m + 2, n))
    beside = u + 1.0
    for k in range(m):
        a = views[k]
        look_along(u, v, a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7:10], X[k], Y[k])
    a = views[0]
    look_along(beside, v, a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7:10], X[m], Y[m])
    beside = v + 1.0
    look_along(u, beside, a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7:10], X[m + 1], Y[m + 1])
    for i in range(n):
        for c in range(2):
            at = X if c == 0 else Y
            here = at[0, i]
            du, dv = at[m, i] - here, at[m + 1, i] - here
            row = out[i, c]
            for t in range(terms):
                row[t] = du * basis[i, 3 + t]
                row[terms + t] = dv * basis[i, 3 + t]
            p, q = basis[i, 1], basis[i, 2]
            row[2 * terms] = du * p - dv * q
            row[2 * terms + 1] = du * q + dv * p
            for k in range(1, m):
                row[2 * terms + 1 + k] = (at[k, i] - here) / steps[k]
            row[2 * terms + 1 + m] = dv * u[i] - du * v[i]
            row[2 * terms + 2 + m] = du * u[i] + dv * v[i]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def mean_places(
    at: np.ndarray, weight: np.ndarray, track: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean place of each star, (count, 2), NaN where nothing is left, and its weight."""
    star, total = np.zeros((count, 2)), np.zeros(count)
    for i in range(len(track)):
        t = track[i]
        total[t] += weight[i]
        star[t, 0] += weight[i] * at[i, 0]
        star[t, 1] += weight[i] * at[i, 1]
    for t in range(count):
        star[t] /= total[t]
    return star, total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def by_fold(jacobian: np.ndarray, weight: np.ndarray, fold: np.ndarray, folds: int) -> np.ndarray:
    """What each fold's stars say of p parameters, (folds, p, p), by their derivatives (n, 2, p)."""
    n, _, p = jacobian.shape
    out = np.zeros((folds, p, p))
    for i in range(n):
        to = out[fold[i]]
        for c in range(2):
            one = jacobian[i, c]
            for a in range(p):
                by = weight[i] * one[a]
                for b in range(p):
                    to[a, b] += by * one[b]
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def misfit(at: np.ndarray, star: np.ndarray, weight: np.ndarray, track: np.ndarray) -> float:
    """Weighted sum of squared distances from the stars' places."""
    total = 0.0
    for i in range(len(track)):
        if weight[i] > 0:
            t = track[i]
            total += weight[i] * ((at[i, 0] - star[t, 0]) ** 2 + (at[i, 1] - star[t, 1]) ** 2)
    return total


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_SUMS)
def gather(
    basis: np.ndarray,
    jacobian: np.ndarray,
    residual: np.ndarray,
    weight: np.ndarray,
    track: np.ndarray,
    common: int,
    own: int,
    block: np.ndarray,
    gradient: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Add one frame's stars to its block of the normal equations (upper half), and to the stars' own sums.

    `basis` (n, 3 + terms) is that of the lens. `jacobian` (n, 2, common + 4) is as `derive` makes it: first twice the
    lens' terms, each a derivative along u or v times a term of the basis. The pose stands at `own` among all
    parameters; `block` (p, p) and `gradient` (p,) end before it where it is not fitted. `sums` is (n_tracks, 2, size).
    """
    p, terms = block.shape[0], basis.shape[1] - 3
    rest = 2 * terms
    along, across, both = np.zeros((terms, terms)), np.zeros((terms, terms)), np.zeros((terms, terms))
    for i in range(len(track)):
        w = weight[i]
        if w <= 0:
            continue
        one, other, term = jacobian[i, 0], jacobian[i, 1], basis[i, 3:]
        s, t = sums[track[i], 0], sums[track[i], 1]
        rx, ry = w * residual[i, 0], w * residual[i, 1]
        for a in range(p):
            x, y = w * one[a], w * other[a]
            gradient[a] += rx * one[a] + ry * other[a]
            to = a if a < common else own + a - common
            s[to] += x
            t[to] += y
        if terms > 0:
            # All that the lens' terms have in common is said once, by the derivatives along u and v themselves.
            most = 0
            for a in range(1, terms):
                if abs(term[a]) > abs(term[most]):
                    most = a
            big = term[most]
            if big != 0.0:
                ux, uy = one[most] / big, other[most] / big
                vx, vy = one[terms + most] / big, other[terms + most] / big
                uu, uv, vv = w * (ux * ux + uy * uy), w * (ux * vx + uy * vy), w * (vx * vx + vy * vy)
                for a in range(terms):
                    q, r, e = uu * term[a], uv * term[a], vv * term[a]
                    for b in range(a, terms):
                        along[a, b] += q * term[b]
                        both[a, b] += r * term[b]
                        across[a, b] += e * term[b]
        for a in range(rest, p):
            x, y = w * one[a], w * other[a]
            row = block[a]
            # The lower half at first, since there a row is long.
            for b in range(a + 1):
                row[b] += x * one[b] + y * other[b]
    for a in range(terms):
        for b in range(a, terms):
            block[a, b] += along[a, b]
            block[terms + a, terms + b] += across[a, b]
            block[a, terms + b] += both[a, b]
            if a != b:
                block[b, terms + a] += both[a, b]
    for a in range(rest, p):
        for b in range(a):
            block[b, a] = block[a, b]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_SUMS)
def eliminate(sums: np.ndarray, total: np.ndarray, normal: np.ndarray) -> None:
    """Take the stars' free places out of normal equations (upper half): ``normal -= sum of s s^T / total``."""
    size = normal.shape[0]
    pair = np.empty((4, size))
    held = 0
    for k in range(len(total) + 1):
        if k < len(total):
            if total[k] <= 0:
                continue
            root = 1.0 / np.sqrt(total[k])
            for c in range(2):
                for a in range(size):
                    pair[2 * held + c, a] = sums[k, c, a] * root
            held += 1
        elif held == 1:
            pair[2:] = 0.0
            held = 2
        if held < 2:
            continue
        # Two stars at a time: the matrix is passed over half as often.
        held = 0
        for a in range(size):
            p, q, r, s = pair[0, a], pair[1, a], pair[2, a], pair[3, a]
            if p == 0.0 and q == 0.0 and r == 0.0 and s == 0.0:
                continue
            row = normal[a]
            for b in range(a, size):
                row[b] -= p * pair[0, b] + q * pair[1, b] + r * pair[2, b] + s * pair[3, b]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_SUMS)
def solve_symmetric(matrix: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, bool]:
    """Solution for a positive definite matrix given by its upper half (Cholesky); False where it is not one."""
    n = len(right)
    scale = np.empty(n)
    low = np.zeros((n, n))
    x = np.empty(n)
    for i in range(n):
        if not matrix[i, i] > 0:
            return x, False
        scale[i] = 1.0 / np.sqrt(matrix[i, i])
    for i in range(n):
        for j in range(i + 1):
            total = 0.0
            for k in range(j):
                total += low[i, k] * low[j, k]
            value = matrix[j, i] * scale[i] * scale[j] - total
            if i == j:
                if not value > 1e-15:
                    return x, False
                low[i, i] = np.sqrt(value)
            else:
                low[i, j] = value / low[j, j]
    for i in range(n):
        total = 0.0
        for k in range(i):
            total += low[i, k] * x[k]
        x[i] = (right[i] * scale[i] - total) / low[i, i]
    for i in range(n - 1, -1, -1):
        x[i] /= low[i, i]
        for k in range(i):
            x[k] -= low[i, k] * x[i]
    for i in range(n):
        x[i] *= scale[i]
    return x, True

"""The arithmetic of a transform's polynomial, compiled: a night asks for millions of places."""

from __future__ import annotations

import numba
import numpy as np

_TOGETHER = 256
"""Points that are taken together, so that what is made for them stays at hand."""


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def add_polynomial(
    coefficients: np.ndarray,
    exponents: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    scale: float,
    out: np.ndarray,
) -> None:
    """Add a polynomial in (u, v) to positions, and its slopes to theirs.

    `coefficients` is (2, t), `exponents` (t, 2). `out` (2, n) holds x and y; (6, n) also the derivatives of x along
    both axes, then those of y, per `scale` units of u and v.
    """
    n, terms = len(u), len(exponents)
    degree = 0
    for k in range(terms):
        degree = max(degree, exponents[k, 0] + exponents[k, 1])
    pu, pv = np.ones((degree + 1, _TOGETHER)), np.ones((degree + 1, _TOGETHER))
    for first in range(0, n, _TOGETHER):
        m = min(_TOGETHER, n - first)
        some = out[:, first : first + m]
        for p in range(degree):
            for s in range(m):
                pu[p + 1, s] = pu[p, s] * u[first + s]
                pv[p + 1, s] = pv[p, s] * v[first + s]
        for k in range(terms):
            cx, cy = coefficients[0, k], coefficients[1, k]
            if cx == 0.0 and cy == 0.0:
                continue
            i, j = exponents[k, 0], exponents[k, 1]
            a, b = pu[i], pv[j]
            for s in range(m):
                term = a[s] * b[s]
                some[0, s] += cx * term
                some[1, s] += cy * term
            if len(out) == 2:
                continue
            if i:
                lower = pu[i - 1]
                for s in range(m):
                    slope = i * lower[s] * b[s] / scale
                    some[2, s] += cx * slope
                    some[4, s] += cy * slope
            if j:
                lower = pv[j - 1]
                for s in range(m):
                    slope = j * a[s] * lower[s] / scale
                    some[3, s] += cx * slope
                    some[5, s] += cy * slope

"""Resampling kernels: what each input sample weighs in a pixel that lies a fraction of a sample beside it.

A kernel of `half` pairs of taps is a table of polynomials of the phase. With f in 0..1 the fraction by which the
place lies right of its left neighbour and g = f - 1/2, the tap p samples further right and its mirror image on the
left weigh ``E_p(g^2) + g O_p(g^2)`` and ``E_p(g^2) - g O_p(g^2)``, E and O of degree 4: linear and cubic are that
exactly, Lanczos to 1e-8.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numba
import numpy as np
from numpy.polynomial import Polynomial

_TERMS = 5


@dataclass(frozen=True, eq=False)
class Kernel:
    """One way of resampling; the weights of the interpolating ones sum to 1 and are 1 and 0 at whole shifts."""

    name: str
    even: np.ndarray
    """(half, 5) float64: coefficients of E_p, innermost pair first."""
    odd: np.ndarray
    """(half, 5) float64: coefficients of O_p."""
    keeps_flux: bool = False
    """Weights are areas of overlap with the output pixel: what is kept is the sum of the light, not its brightness.
    The table is that of a whole pixel moved by the phase."""

    @property
    def half(self) -> int:
        """Samples that it takes from either side."""
        return len(self.even)

    def weights(self, fraction: np.ndarray | float) -> np.ndarray:
        """Weights at fractions 0..1 of a sample, from left to right; shape (..., 2 half)."""
        g = np.asarray(fraction, float)[..., None] - 0.5
        powers = (g * g)[..., None] ** np.arange(_TERMS)
        even, odd = (powers * self.even).sum(-1), g * (powers * self.odd).sum(-1)
        return np.concatenate([(even - odd)[..., ::-1], even + odd], axis=-1)

    def profile(self, distance: np.ndarray) -> np.ndarray:
        """Weight of a sample at a distance, in samples."""
        t = np.abs(np.asarray(distance, float))
        pair = np.minimum(t.astype(int), self.half - 1)
        right = self.weights(np.clip(pair + 1 - t, 0, 1))[..., self.half :]
        return np.where(t < self.half, np.take_along_axis(right, pair[..., None], -1)[..., 0], 0.0)


KERNELS = ("cubic", "linear", "lanczos3", "lanczos4", "area")


@functools.cache
def kernel_of(name: str) -> Kernel:
    """The kernel of this name.

    Parameters
    ----------
    name : str
        One of `KERNELS`. ``linear``: the triangle. ``cubic``: Keys' with a = -1/2, exact for parabolas.
        ``lanczos3`` and ``lanczos4``: Lanczos' window on the sinc, changed by as little as makes it exact for
        cubic polynomials: the plain one dims and moves what it resamples by up to 0.6 % and 0.02 px, in step with
        the phase. ``area``: the overlap of pixels.

    Returns
    -------
    Kernel

    Raises
    ------
    ValueError
        There is no such kernel.

    References
    ----------
    Keys 1981, IEEE Trans. ASSP 29, 1153, doi:10.1109/TASSP.1981.1163711. Duchon 1979, J. Appl. Meteor. 18, 1016,
    doi:10.1175/1520-0450(1979)018<1016:LFIOAT>2.0.CO;2. On Lanczos' defects: Bernstein & Gruen 2014, PASP 126,
    287, arXiv:1401.2636.
    """
    t = Polynomial([0.5, -1.0])  # distance of the right tap of the innermost pair, in terms of g
    if name in ("linear", "area"):
        return _made(name, [1 - t], keeps_flux=name == "area")
    if name == "cubic":
        outer = t + 1
        return _made(name, [1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * outer**3 + 2.5 * outer**2 - 4 * outer + 2])
    if name in ("lanczos3", "lanczos4"):
        g = -0.5 * np.cos(np.pi * np.arange(2 * _TERMS) / (2 * _TERMS - 1))
        right = _lanczos(int(name[-1]), g + 0.5)[:, int(name[-1]) :]
        return _made(name, [Polynomial(np.linalg.solve(np.vander(g, increasing=True), w)) for w in right.T])
    raise ValueError(f"kernel is {name!r}; it must be one of {', '.join(KERNELS)}")


def _made(name: str, right: list[Polynomial], keeps_flux: bool = False) -> Kernel:
    table = np.zeros((len(right), 2 * _TERMS))
    for row, polynomial in zip(table, right, strict=True):
        row[: len(polynomial.coef)] = polynomial.coef
    return Kernel(
        name, np.ascontiguousarray(table[:, 0::2]), np.ascontiguousarray(table[:, 1::2]), keeps_flux
    )


def _lanczos(a: int, f: np.ndarray) -> np.ndarray:
    """Lanczos' weights at fractions `f`, with the least change (in squares) that keeps cubic polynomials."""
    d = np.arange(1 - a, a + 1) - f[:, None]
    w = np.sinc(d) * np.sinc(d / a)
    powers = np.stack([(d / a) ** q for q in range(4)], axis=1)
    missing = np.array([1.0, 0, 0, 0]) - np.einsum("nqt,nt->nq", powers, w)
    gram = powers @ powers.transpose(0, 2, 1)
    return np.asarray(w + np.einsum("nq,nqt->nt", np.linalg.solve(gram, missing[..., None])[..., 0], powers))


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def axis_weights(u: float, width: float, even: np.ndarray, odd: np.ndarray, w: np.ndarray) -> tuple[int, int]:
    """Fill `w` with the weights along one axis at place `u`; returns the first sample's index and the number.

    The kernel is stretched to `width` samples (1: as it is), its weights made to keep planes again.
    """
    half = len(even)
    if width == 1.0:
        left = int(np.floor(u))
        g = u - left - 0.5
        h = g * g
        short = half <= 2  # their polynomials have two terms
        for p in range(half):
            e, o = even[p], odd[p]
            a, b = e[1] * h + e[0], g * (o[1] * h + o[0])
            if not short:
                h2 = h * h
                a += ((e[4] * h + e[3]) * h + e[2]) * h2
                b += g * (((o[4] * h + o[3]) * h + o[2]) * h2)
            w[half - 1 - p] = a - b
            w[half + p] = a + b
        return left - half + 1, 2 * half
    first = int(np.ceil(u - half * width))
    n = int(np.floor(u + half * width)) - first + 1
    total = moment = 0.0
    for k in range(n):
        t = abs(first + k - u) / width
        p = int(t)
        w[k] = 0.0
        if p < half:
            g = p + 0.5 - t
            h = g * g
            e, o = even[p], odd[p]
            w[k] = (((e[4] * h + e[3]) * h + e[2]) * h + e[1]) * h + e[0]
            w[k] += g * ((((o[4] * h + o[3]) * h + o[2]) * h + o[1]) * h + o[0])
        total += w[k]
        moment += w[k] * (first + k - u)
    # Sampling the stretched kernel moves it a little: an even slope over its taps undoes that.
    tilt = moment / total / (n * (n * n - 1.0) / 12.0)
    for k in range(n):
        w[k] = w[k] / total - tilt * (k - 0.5 * (n - 1))
    return first, n

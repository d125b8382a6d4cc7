"""Matching of point-spread functions: a kernel that varies over the field takes the sharper image to the other's.

The kernel is free in every tap (Bramich 2008; Becker et al. 2012), each a polynomial of the position (Alard &
Lupton 1998), found by linear least squares on stamps of good stars and held towards no change at all where stars
do not tell. Applying it is `difflapse.difference.convolve`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numba
import numpy as np
from scipy.spatial import cKDTree

from difflapse.difference.subtract import Science
from difflapse.difference.template import Template
from difflapse.errors import FrameError
from difflapse.measure.mesh import at_places
from difflapse.measure.order import chosen

FEWEST = 12
"""Good stars from which a kernel is solved."""
_MOST = 256
_CELLS = 8
_GRAIN = 0.01
"""Relative error of a pixel at a bright star that no kernel mends: sensitivity, sampling."""
_CLIP = 4.0
_STRENGTHS = (3e-4, 3e-3, 3e-2, 0.3)
"""How hard taps are held to their starting value, beside what the stars say; the best at held-out stars is taken."""
_UNDERSAMPLED = 1.3
"""FWHM in product pixels below which a single frame's stars look other at each phase of the pixel grid."""
_SHARPER = (1.25, 1.02)
"""Sum of squares of a frame's stars over the template's from which convolving the frame is tried as well: where stars
are undersampled and where not. Up to there the template is always the one: it holds little noise, and of an
undersampled star the mean of many phases."""
_PAYS = 3.0
"""Standard errors by which held-out residuals must shrink before a kernel is worth its noise."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """What takes one image to the other's point-spread function."""

    taps: np.ndarray
    """(c, t, n * n) float64: each tap's polynomial of the position, see `terms`; rows from the bottom."""
    science: bool
    """Whether the science frame is convolved; else the template."""
    shape: tuple[int, int]
    """(ny, nx) of the images."""
    before: float
    """Residual at held-out stars with the scale alone, in photon sigma of all colours together, median star."""
    after: float
    """The same with the kernel."""
    error: float
    """Standard error of the median star's ``log(before / after)``."""
    n_stars: int
    strength: float
    """Regularisation that was taken."""
    condition: np.ndarray
    """(c,): condition number of the normal equations, from below (from their Cholesky factor)."""

    @property
    def size(self) -> int:
        """Taps along a side."""
        return round(self.taps.shape[2] ** 0.5)

    @property
    def pays(self) -> bool:
        """Whether held-out stars are better by more than the noise of that figure."""
        return bool(np.log(self.before / self.after) > max(_PAYS * self.error, 0.02))

    def at(self, x: float, y: float) -> np.ndarray:
        """The kernel (c, n, n) at a product pixel."""
        basis = terms(np.array([x]), np.array([y]), self.shape, self.taps.shape[1])[0]
        return np.asarray(np.einsum("t,ctk->ck", basis, self.taps).reshape(-1, self.size, self.size))

    def identity(self) -> Kernel:
        """A kernel of this size that changes nothing."""
        taps = np.zeros((len(self.taps), 1, self.taps.shape[2]))
        taps[:, :, self.taps.shape[2] // 2] = 1
        return replace(self, taps=taps, science=False, after=self.before)

    @property
    def line(self) -> str:
        """One line for people."""
        which = "frame" if self.science else "template"
        return (
            f"psf: {which} convolved, {self.size}x{self.size} taps, {self.n_stars} stars, "
            f"held-out {self.before:.2f} -> {self.after:.2f} sigma, "
            f"condition {self.condition.max():.0e}"
        )


def terms(i: np.ndarray, j: np.ndarray, shape: tuple[int, int], count: int) -> np.ndarray:
    """Polynomials of the position, (n, count): 1; 3 with a slope; 6 with curvature. Ends of the field are +-1."""
    u, v = (
        2 * np.asarray(i, float) / max(shape[1] - 1, 1) - 1,
        2 * np.asarray(j, float) / max(shape[0] - 1, 1) - 1,
    )
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v][:count], axis=-1)


def good_stars(
    x: np.ndarray, y: np.ndarray, flux: np.ndarray, usable: np.ndarray, bad: np.ndarray, reach: float
) -> np.ndarray:
    """Choose stars to match on: bright, alone, on good pixels, spread over the field.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        All known stars, product pixels, 0-based centres.
    flux : ndarray, shape (n,)
        Any measure of their brightness.
    usable : ndarray of bool, shape (n,)
        Neither saturated nor blended, and bright enough to tell something.
    bad : ndarray of bool, shape (ny, nx)
        True = bad.
    reach : float
        Radius of what is looked at, pixels: no other star of a tenth of the light may lie within 1.5 times that.

    Returns
    -------
    ndarray of int
        Their indices, brightest first in each of 8 by 8 cells of the field.
    """
    ny, nx = bad.shape
    edge = reach + 2
    ok = usable & (x > edge) & (y > edge) & (x < nx - 1 - edge) & (y < ny - 1 - edge)
    index = np.flatnonzero(ok)
    index = index[np.argsort(-flux[index], kind="stable")]
    i, j = (
        np.clip((x[index] * _CELLS / nx).astype(int), 0, _CELLS - 1),
        np.clip((y[index] * _CELLS / ny).astype(int), 0, _CELLS - 1),
    )
    lone = _alone(x, y, flux, 1.5 * reach)[index]
    index, i, j = index[lone], i[lone], j[lone]
    whole = _whole(bad, np.rint(x[index]).astype(int), np.rint(y[index]).astype(int), int(reach))
    index, cell = index[whole], (j * _CELLS + i)[whole]
    return index[_rank(cell) < _MOST / _CELLS**2]


def _alone(x: np.ndarray, y: np.ndarray, flux: np.ndarray, radius: float) -> np.ndarray:
    """Whether no other star of a tenth of the light lies within `radius` of each."""
    pairs = cKDTree(np.column_stack([x, y])).query_pairs(radius, output_type="ndarray")
    brightest = np.full(len(x), -np.inf)
    for one, other in (pairs.T, pairs.T[::-1]):
        np.maximum.at(brightest, one, flux[other])
    return ~(brightest > 0.1 * flux)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _whole(bad: np.ndarray, i: np.ndarray, j: np.ndarray, r: int) -> np.ndarray:
    """Whether no pixel within `r` columns and rows of each place, which lies further in, is bad."""
    good = np.ones(len(i), np.bool_)
    for k in range(len(i)):
        for row in range(j[k] - r, j[k] + r + 1):
            for column in range(i[k] - r, i[k] + r + 1):
                if bad[row, column]:
                    good[k] = False
    return good


def _rank(cell: np.ndarray) -> np.ndarray:
    """How many before each are in the same cell."""
    order = np.argsort(cell, kind="stable")
    rank = np.empty(len(cell), int)
    rank[order] = np.arange(len(cell)) - np.searchsorted(cell[order], cell[order])
    return rank


def solve_kernel(
    science: Science,
    template: Template,
    x: np.ndarray,
    y: np.ndarray,
    fwhm: float,
    own_weight: float = 0.0,
) -> Kernel:
    """Find the kernel that takes the sharper of two images to the other; convolves nothing.

    Parameters
    ----------
    science : Science
        Already on the template's brightness and background.
    template : Template
        What is subtracted.
    x, y : ndarray, shape (n,)
        Good stars (`good_stars`), product pixels.
    fwhm : float
        Of a typical star, product pixels: sets the size of kernel and stamps.
    own_weight : float
        Weight with which the science frame is in the template.

    Returns
    -------
    Kernel
        Positive taps add light of the sharper image; the residual at held-out stars says whether it pays.

    Raises
    ------
    FrameError
        Too few good stars (``found``, ``needed``), or no kernel describes them.

    Notes
    -----
    Stamps hold each their own background. Stars that fit badly are left out. Each half of the stars is judged by the
    kernel of the other half, so that `Kernel.after` is no fit's own residual; the kernel itself is that of all.

    References
    ----------
    Alard & Lupton 1998, doi:10.1086/305984; Bramich 2008, doi:10.1111/j.1745-3933.2008.00464.x; Becker et al. 2012,
    doi:10.1111/j.1365-2966.2012.21542.x.
    """
    if len(x) < FEWEST:
        raise FrameError(
            f"{len(x)} good stars are too few to match point-spread functions; {FEWEST} are needed",
            "--match scale needs 5",
            {"found": len(x), "needed": FEWEST},
        )
    reach = kernel_reach(fwhm)
    stamps = _Stamps.cut(science, template, x, y, stamp_radius(fwhm), reach, own_weight)
    kernel = _solve(stamps, False)
    if stamps.sharpness > _SHARPER[int(fwhm >= _UNDERSAMPLED)]:
        other = _solve(stamps, True)
        kernel = other if other.after < kernel.after else kernel
    return kernel


def residual_at_stars(
    science: Science, template: Template, x: np.ndarray, y: np.ndarray, fwhm: float, own_weight: float = 0.0
) -> float:
    """How well the scale alone does at good stars, in photon sigma: 1 leaves nothing to match; see `solve_kernel`."""
    return float(_Stamps.cut(science, template, x, y, stamp_radius(fwhm), 1, own_weight).plain()[0])


def kernel_reach(fwhm: float) -> int:
    """Pixels from a kernel's middle to its edge, for stars of this FWHM."""
    return int(np.clip(np.ceil(fwhm), 2, 5))


def stamp_radius(fwhm: float) -> int:
    """Pixels about a star that are compared."""
    return int(np.clip(np.ceil(1.8 * fwhm), 3, 12))


@dataclass(frozen=True, eq=False)
class _Stamps:
    """The two images about each good star; all (c, n, m, m)."""

    science: np.ndarray
    template: np.ndarray
    variance: np.ndarray
    """Of their difference."""
    reach: int
    """Rim that only a kernel looks at."""
    x: np.ndarray
    y: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def cut(
        cls,
        science: Science,
        template: Template,
        x: np.ndarray,
        y: np.ndarray,
        radius: int,
        reach: int,
        own: float,
    ) -> _Stamps:
        """Both images on one brightness and background."""
        shape = template.data.shape[1:]
        noise = science.noise
        meshes = (science.inverse_scale, science.offset, template.sky, noise.sky, noise.photon, noise.flat)
        here = np.stack([at_places(mesh, shape, x, y) for mesh in meshes])
        side = 2 * (radius + reach) + 1
        stamps = np.empty((3, len(template.data), len(x), side, side))
        _cut(
            np.asarray(science.data),
            np.asarray(template.data),
            np.asarray(template.variance),
            np.rint(x).astype(int),
            np.rint(y).astype(int),
            here,
            1 - 2 * own,
            stamps,
        )
        return cls(stamps[0], stamps[1], stamps[2], reach, x, y, (shape[0], shape[1]))

    def inner(self, stamps: np.ndarray) -> np.ndarray:
        """Stamps without the rim."""
        return stamps[..., self.reach : -self.reach, self.reach : -self.reach]

    @property
    def sharpness(self) -> float:
        """How much more of its light the science frame has in few pixels: 1 where both are alike."""
        share = [
            np.square(self.inner(a - _level(a, 0)[..., None, None])).sum(axis=(0, 2, 3))
            for a in (self.science, self.template)
        ]
        return float(np.median(share[0] / np.maximum(share[1], 1e-9)))

    def sigma(self, rest: np.ndarray, modelled: np.ndarray | None = None) -> np.ndarray:
        """Root of the reduced chi square of each star's residual (c, n, p), less what is modelled of it, all colours
        in one as in a difference.
        """
        return _sigma(
            rest, rest if modelled is None else modelled, modelled is not None, self.variance, self.reach
        )

    def plain(self) -> tuple[float, np.ndarray]:
        """Median residual with the scale alone, and each star's."""
        rest = self.inner(self.science - self.template)
        each = self.sigma(rest.reshape(*rest.shape[:2], -1))
        return float(np.median(each)), each


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _cut(
    science: np.ndarray,
    template: np.ndarray,
    variance: np.ndarray,
    i: np.ndarray,
    j: np.ndarray,
    here: np.ndarray,
    own: float,
    stamps: np.ndarray,
) -> None:
    """Fill stamps (3, c, n, m, m) about pixels (i, j) of images (c, ny, nx); `here` (6, c, n) is scale, offset, level,
    and the noise's sky, photon and flat at each.
    """
    c, ny, nx = template.shape
    side = stamps.shape[3]
    for a in range(c):
        for k in range(len(i)):
            scale, offset, level = here[0, a, k], here[1, a, k], here[2, a, k]
            empty, photon, flat = here[3, a, k], here[4, a, k], here[5, a, k]
            for v in range(side):
                row = min(max(j[k] + v - side // 2, 0), ny - 1)
                for u in range(side):
                    column = min(max(i[k] + u - side // 2, 0), nx - 1)
                    t = float(template[a, row, column])
                    signal = max(t - level, 0.0)
                    stamps[0, a, k, v, u] = science[a, row, column] * scale - offset
                    stamps[1, a, k, v, u] = t
                    stamps[2, a, k, v, u] = (
                        variance[a, row, column] + (empty + (photon + flat * signal) * signal) * own
                    )


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _level(stamps: np.ndarray, reach: int) -> np.ndarray:
    """Sky of each stamp (c, n, m, m) without its outermost `reach` pixels: the median of the rim, (c, n)."""
    c, n, side, _ = stamps.shape
    out = np.empty((c, n))
    first, last = reach, side - 1 - reach
    m = last - first
    rim = np.empty(4 * m)
    for a in range(c):
        for k in range(n):
            stamp = stamps[a, k]
            for q in range(m):
                rim[q], rim[m + q] = stamp[first, first + q], stamp[last, first + 1 + q]
                rim[2 * m + q], rim[3 * m + q] = stamp[first + 1 + q, first], stamp[first + q, last]
            low, high = chosen(rim, 2 * m - 1, True)
            out[a, k] = 0.5 * (low + high)
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _sigma(
    rest: np.ndarray, modelled: np.ndarray, less: bool, variance: np.ndarray, reach: int
) -> np.ndarray:
    """`_Stamps.sigma`: residuals (c, n, p), variances (c, n, m, m) with a rim; with `less`, of `rest` - `modelled`."""
    c, n, p = rest.shape
    side = variance.shape[2] - 2 * reach
    out, value, weight = np.empty(n), np.empty(p), np.empty(p)
    for k in range(n):
        value[:], weight[:] = 0, 0
        for a in range(c):
            for v in range(side):
                for u in range(side):
                    q = v * side + u
                    w = 1 / variance[a, k, v + reach, u + reach]
                    d = rest[a, k, q] - modelled[a, k, q] if less else rest[a, k, q]
                    value[q] += d * w
                    weight[q] += w
        value /= np.sqrt(weight)
        mean, total = value.mean(), 0.0
        for q in range(p):
            total += (value[q] - mean) ** 2
        out[k] = np.sqrt(total / (p - 1))
    return out


def _solve(stamps: _Stamps, convolve_science: bool) -> Kernel:
    """The kernel for one of the two directions, its strength and degree chosen at held-out stars."""
    sharp, blunt = stamps.science, stamps.template
    if not convolve_science:
        sharp, blunt = blunt, sharp
    start, target, variance = (stamps.inner(a) for a in (sharp, blunt, stamps.variance))
    c, n = sharp.shape[:2]
    size = 2 * stamps.reach + 1
    middle = size * size // 2
    weight = 1 / (
        variance + np.square(_GRAIN * np.maximum(target - _level(blunt, stamps.reach)[..., None, None], 0))
    )
    rest = _centred(target - start, weight).reshape(c, n, -1)
    weight = weight.reshape(c, n, -1)
    # What a tap takes the middle one gives: the photometric scale stays that of the stars' whole light.
    design = _design(sharp, weight, stamps.reach)
    normal, right = _normal_equations(design, weight, rest)
    halves = np.arange(n) % 2

    def sums(basis: np.ndarray, keep: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        return [_summed(normal, right, basis, keep & (halves == half)) for half in (0, 1)]

    def held_out(
        basis: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray]], strength: float
    ) -> np.ndarray:
        modelled = np.empty_like(rest)
        for half in (0, 1):
            taps, _ = _solved(*parts[1 - half], basis.shape[1], strength)
            _modelled(design, np.einsum("st,ctk->csk", basis, taps), half, modelled)
        return stamps.sigma(rest, modelled)

    before, plain = stamps.plain()
    keep = np.ones(n, bool)
    sigma, strength = plain, _STRENGTHS[-1]
    constant = terms(stamps.x, stamps.y, stamps.shape, 1)
    parts = sums(constant, keep)
    count, best, taken = 1, np.inf, parts
    tries = [(1, s) for s in _STRENGTHS] + [(t, 0.0) for t, needed in ((3, 30), (6, 60)) if n >= needed]
    for t, tried in tries:
        basis = constant if t == 1 else terms(stamps.x, stamps.y, stamps.shape, t)
        if t > 1:
            parts = sums(basis, keep)
        now = held_out(basis, parts, tried or strength)
        if t == 1 and keep.all():
            keep = now < _CLIP * np.median(now)
            parts = taken = parts if keep.all() else sums(basis, keep)
        score = float(np.sqrt(np.mean(np.square(now[keep])))) if keep.any() else np.inf
        if score < 0.998 * best:
            best, sigma, strength, count, taken = score, now, tried or strength, t, parts
    if keep.sum() < FEWEST or not np.isfinite(best):
        raise FrameError(
            f"{keep.sum()} stars agree on a kernel; {FEWEST} are needed",
            "",
            {"found": int(keep.sum()), "needed": FEWEST},
        )
    (left, x), (more, y) = taken
    taps, condition = _solved(left + more, x + y, count, strength)
    taps = np.insert(taps, middle, -taps.sum(axis=2), axis=2)
    taps[:, 0, middle] += 1
    gain = np.log(plain[keep] / sigma[keep])
    error = 1.2533 * 1.4826 * float(np.median(np.abs(gain - np.median(gain)))) / np.sqrt(keep.sum())
    after = float(np.median(sigma))
    return Kernel(
        taps, convolve_science, stamps.shape, before, after, error, int(keep.sum()), strength, condition
    )


def _centred(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Stamps less their weighted mean: each has a background of its own."""
    return np.asarray(
        values
        - (values * weight).sum(axis=(-2, -1), keepdims=True) / weight.sum(axis=(-2, -1), keepdims=True)
    )


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _design(sharp: np.ndarray, weight: np.ndarray, reach: int) -> np.ndarray:
    """What each tap but the middle one adds to each star's stamp, (c, n, k, p), less its mean by weights (c, n, p): the
    sharper stamp (c, n, m, m) moved, less the one where it is.
    """
    c, n, m, _ = sharp.shape
    size, side = 2 * reach + 1, m - 2 * reach
    p = side * side
    out = np.empty((c, n, size * size - 1, p))
    for a in range(c):
        for b in range(n):
            stamp, w = sharp[a, b], weight[a, b]
            whole = w.sum()
            k = 0
            for tap in range(size * size):
                if tap == size * size // 2:
                    continue
                to, total = out[a, b, k], 0.0
                dy, dx = tap // size, tap % size
                for v in range(side):
                    for u in range(side):
                        d = stamp[v + dy, u + dx] - stamp[v + reach, u + reach]
                        to[v * side + u] = d
                        total += d * w[v * side + u]
                total /= whole
                for q in range(p):
                    to[q] -= total
                k += 1
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def _normal_equations(
    design: np.ndarray, weight: np.ndarray, rest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Each star's own (c, n, k, k) and (c, n, k) from (c, n, k, p), (c, n, p), (c, n, p)."""
    c, n, k, p = design.shape
    normal, right = np.empty((c, n, k, k)), np.empty((c, n, k))
    weighted = np.empty(p)
    for a in range(c):
        for b in range(n):
            for q in range(k):
                for i in range(p):
                    weighted[i] = design[a, b, q, i] * weight[a, b, i]
                right[a, b, q] = (weighted * rest[a, b]).sum()
                for r in range(q + 1):
                    other = design[a, b, r]
                    total = 0.0
                    for i in range(p):
                        total += weighted[i] * other[i]
                    normal[a, b, q, r] = normal[a, b, r, q] = total
    return normal, right


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def _modelled(design: np.ndarray, local: np.ndarray, half: int, out: np.ndarray) -> None:
    """What taps (c, n, k) of its own make of every other star's design (c, n, k, p), into (c, n, p)."""
    c, n, k, p = design.shape
    for a in range(c):
        for b in range(half, n, 2):
            to = out[a, b]
            to[:] = 0
            for q in range(k):
                f = local[a, b, q]
                row = design[a, b, q]
                for i in range(p):
                    to[i] += f * row[i]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def _summed(
    normal: np.ndarray, right: np.ndarray, basis: np.ndarray, keep: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Normal equations (c, t * k, t * k), their lower triangle, and (c, t * k) of all that are kept of stars whose own
    are (c, n, k, k) and (c, n, k).
    """
    c, n, k, _ = normal.shape
    t = basis.shape[1]
    m = t * k
    left, x = np.zeros((c, m, m)), np.zeros((c, m))
    for a in range(c):
        for b in range(n):
            if not keep[b]:
                continue
            for u in range(t):
                for q in range(k):
                    x[a, u * k + q] += basis[b, u] * right[a, b, q]
                for v in range(u + 1):
                    f = basis[b, u] * basis[b, v]
                    for q in range(k):
                        for r in range(k):
                            left[a, u * k + q, v * k + r] += f * normal[a, b, q, r]
    return left, x


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def _solved(normal: np.ndarray, right: np.ndarray, t: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Taps (c, t, k) and condition numbers from normal equations as `_summed` gives them.

    By Cholesky's way, here: a library wakes threads that then wait for each other, at the cost of the other workers.
    """
    c, m, _ = normal.shape
    taps, condition = np.zeros((c, t, m // t)), np.ones(c)
    for a in range(c):
        left, x = normal[a].copy(), right[a].copy()
        held = strength * np.trace(left) / m
        for i in range(m):
            left[i, i] += held
            for j in range(i + 1):
                total = left[i, j]
                for q in range(j):
                    total -= left[i, q] * left[j, q]
                left[i, j] = total / left[j, j] if j < i else np.sqrt(max(total, 1e-300))
            for q in range(i):
                x[i] -= left[i, q] * x[q]
            x[i] /= left[i, i]
        for i in range(m - 1, -1, -1):
            x[i] /= left[i, i]
            for q in range(i):
                x[q] -= left[i, q] * x[i]
        diagonal = np.diag(left)
        condition[a] = (diagonal.max() / diagonal.min()) ** 2
        taps[a] = x.reshape(t, m // t)
    return taps, condition

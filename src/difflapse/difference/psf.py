"""Matching of point-spread functions: a kernel that varies over the field takes the sharper image to the other's.

The kernel is free in every tap (Bramich 2008; Becker et al. 2012), each a polynomial of the position (Alard &
Lupton 1998), found by linear least squares on stamps of good stars and held towards no change at all where stars
do not tell. Applying it is `difflapse.difference.convolve`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from difflapse.difference.subtract import Science
from difflapse.difference.template import Template
from difflapse.errors import FrameError

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
    tree = cKDTree(np.column_stack([x, y]))
    taken = np.zeros((_CELLS, _CELLS), int)
    chosen = []
    for k, a, b in zip(index, i, j, strict=True):
        if taken[b, a] >= _MOST / _CELLS**2:
            continue
        near = [n for n in tree.query_ball_point((x[k], y[k]), 1.5 * reach) if n != k]
        if near and flux[near].max() > 0.1 * flux[k]:
            continue
        r = int(reach)
        p, q = int(round(x[k])), int(round(y[k]))
        if bad[q - r : q + r + 1, p - r : p + r + 1].any():
            continue
        taken[b, a] += 1
        chosen.append(k)
    return np.array(chosen, int)


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
        ny, nx = template.data.shape[1:]
        i, j = np.rint(x).astype(int), np.rint(y).astype(int)
        step = np.arange(-radius - reach, radius + reach + 1)
        rows = np.clip(j[:, None, None] + step[None, :, None], 0, ny - 1)
        columns = np.clip(i[:, None, None] + step[None, None, :], 0, nx - 1)
        s, t, v = (
            np.asarray(a[:, rows, columns], float) for a in (science.data, template.data, template.variance)
        )

        def here(mesh: np.ndarray) -> np.ndarray:
            my, mx = mesh.shape[1:]
            at = (y * (my - 1) / max(ny - 1, 1), x * (mx - 1) / max(nx - 1, 1))
            return np.stack([map_coordinates(m, at, order=1, mode="nearest") for m in mesh])[:, :, None, None]

        s = s * here(science.inverse_scale) - here(science.offset)
        signal = np.maximum(t - here(template.sky), 0)
        noise = science.noise
        own_variance = here(noise.sky) + here(noise.photon) * signal
        if noise.response is not None:
            own_variance += here(noise.response) * signal**2
        v += own_variance * (1 - 2 * own)
        return cls(s, t, v, reach, x, y, (ny, nx))

    def inner(self, stamps: np.ndarray) -> np.ndarray:
        """Stamps without the rim."""
        return stamps[..., self.reach : -self.reach, self.reach : -self.reach]

    @property
    def sharpness(self) -> float:
        """How much more of its light the science frame has in few pixels: 1 where both are alike."""
        share = [
            np.square(self.inner(a - _level(a))).sum(axis=(0, 2, 3)) for a in (self.science, self.template)
        ]
        return float(np.median(share[0] / np.maximum(share[1], 1e-9)))

    def sigma(self, rest: np.ndarray) -> np.ndarray:
        """Root of the reduced chi square of each star's residual, all colours in one as in a difference."""
        v = self.inner(self.variance)
        together = (rest / v).sum(0) / np.sqrt((1 / v).sum(0))
        together -= together.mean(axis=(-2, -1), keepdims=True)
        return np.asarray(np.sqrt(np.square(together).sum(axis=(-2, -1)) / (together[0].size - 1)))

    def plain(self) -> tuple[float, np.ndarray]:
        """Median residual with the scale alone, and each star's."""
        each = self.sigma(self.inner(self.science - self.template))
        return float(np.median(each)), each


def _solve(stamps: _Stamps, convolve_science: bool) -> Kernel:
    """The kernel for one of the two directions, its strength and degree chosen at held-out stars."""
    sharp, blunt = stamps.science, stamps.template
    if not convolve_science:
        sharp, blunt = blunt, sharp
    start, target, variance = (stamps.inner(a) for a in (sharp, blunt, stamps.variance))
    c, n = sharp.shape[:2]
    size = 2 * stamps.reach + 1
    middle = size * size // 2
    weight = 1 / (variance + np.square(_GRAIN * np.maximum(target - _level(target), 0)))
    rest = _centred(target - start, weight).reshape(c, n, -1)
    w = weight.reshape(c, n, 1, -1)
    # What a tap takes the middle one gives: the photometric scale stays that of the stars' whole light.
    design = sliding_window_view(sharp, start.shape[2:], axis=(2, 3)) - start[:, :, None, None]
    design = np.delete(design.reshape(c, n, size * size, -1), middle, axis=2)
    design -= np.einsum("cnkp,cnp->cnk", design, w[:, :, 0])[..., None] / w.sum(-1, keepdims=True)
    normal, right = _normal_equations(design, w[:, :, 0], rest)
    halves = np.arange(n) % 2

    def held_out(basis: np.ndarray, strength: float, keep: np.ndarray) -> np.ndarray:
        off = np.empty_like(rest)
        for half in (0, 1):
            taps, _ = _solved(normal, right, basis, keep & (halves != half), strength)
            _modelled(design, np.einsum("st,ctk->csk", basis, taps), half, off)
        off -= rest
        off = -off if convolve_science else off
        return stamps.sigma(off.reshape(c, n, *start.shape[2:]))

    before, plain = stamps.plain()
    keep = np.ones(n, bool)
    sigma, strength, count = plain, _STRENGTHS[-1], 1
    best = np.inf
    tries = [(1, s) for s in _STRENGTHS] + [(t, 0.0) for t, needed in ((3, 30), (6, 60)) if n >= needed]
    for t, tried in tries:
        basis = terms(stamps.x, stamps.y, stamps.shape, t)
        now = held_out(basis, tried or strength, keep)
        if t == 1 and keep.all():
            keep = now < _CLIP * np.median(now)
        score = float(np.sqrt(np.mean(np.square(now[keep])))) if keep.any() else np.inf
        if score < 0.998 * best:
            best, sigma, strength, count = score, now, tried or strength, t
    if keep.sum() < FEWEST or not np.isfinite(best):
        raise FrameError(
            f"{keep.sum()} stars agree on a kernel; {FEWEST} are needed",
            "",
            {"found": int(keep.sum()), "needed": FEWEST},
        )
    taps, condition = _solved(normal, right, terms(stamps.x, stamps.y, stamps.shape, count), keep, strength)
    taps = np.insert(taps, middle, -taps.sum(axis=2), axis=2)
    taps[:, 0, middle] += 1
    gain = np.log(plain[keep] / sigma[keep])
    error = 1.2533 * 1.4826 * float(np.median(np.abs(gain - np.median(gain)))) / np.sqrt(keep.sum())
    after = float(np.median(sigma))
    return Kernel(
        taps, convolve_science, stamps.shape, before, after, error, int(keep.sum()), strength, condition
    )


def _level(stamps: np.ndarray) -> np.ndarray:
    """Sky of each stamp: the median of its rim."""
    n = stamps.shape[-1]
    rim = np.ones((n, n), bool)
    rim[1:-1, 1:-1] = False
    return np.asarray(np.median(stamps[..., rim], axis=-1))[..., None, None]


def _centred(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Stamps less their weighted mean: each has a background of its own."""
    return np.asarray(
        values
        - (values * weight).sum(axis=(-2, -1), keepdims=True) / weight.sum(axis=(-2, -1), keepdims=True)
    )


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
def _solved(
    normal: np.ndarray, right: np.ndarray, basis: np.ndarray, keep: np.ndarray, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Taps (c, t, k) and condition numbers from stars' own normal equations (c, n, k, k) and (c, n, k).

    By Cholesky's way, here: a library wakes threads that then wait for each other, at the cost of the other workers.
    """
    c, n, k, _ = normal.shape
    t = basis.shape[1]
    m = t * k
    taps, condition = np.zeros((c, t, k)), np.ones(c)
    for a in range(c):
        left, x = np.zeros((m, m)), np.zeros(m)
        for b in range(n):
            if keep[b]:
                for u in range(t):
                    for q in range(k):
                        x[u * k + q] += basis[b, u] * right[a, b, q]
                    for v in range(u + 1):
                        f = basis[b, u] * basis[b, v]
                        for q in range(k):
                            row, own = left[u * k + q, v * k : (v + 1) * k], normal[a, b, q]
                            for r in range(k):
                                row[r] += f * own[r]
        held = strength * np.trace(left) / m
        for i in range(m):
            left[i, i] += held
            row = left[i]
            for j in range(i + 1):
                other = left[j]
                total = row[j]
                for q in range(j):
                    total -= row[q] * other[q]
                row[j] = total / other[j] if j < i else np.sqrt(max(total, 1e-300))
            for q in range(i):
                x[i] -= row[q] * x[q]
            x[i] /= row[i]
        for i in range(m - 1, -1, -1):
            x[i] /= left[i, i]
            for q in range(i):
                x[q] -= left[i, q] * x[i]
        diagonal = np.diag(left)
        condition[a] = (diagonal.max() / diagonal.min()) ** 2
        taps[a] = x.reshape(t, k)
    return taps, condition

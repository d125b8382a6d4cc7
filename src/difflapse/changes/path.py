"""Lines followed on a picture: the path of most significance near a first guess, and where its light ends."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

_LEAST = 16.0
"""Cells that a line must be seen on."""
_TWICE_ALIKE = np.float32(2 * 0.65)
"""Twice the correlation of neighbouring cells: between two of them the noise is smaller than on one."""
_LONG = 150
"""Rows of a line that may be bent."""
_HOPE = 0.8
"""So much less S/N than is asked is worth a second look."""
_BENT = 0.4
"""S/N that a bend must win over a straight line."""

Path = tuple[float, float, float, float, float, float, float]
"""First and last row, columns there, how far the middle lies aside, sum along it, cells seen."""


@dataclass(frozen=True, eq=False)
class Probes:
    """Straight lines across a picture of which the noise is read."""

    lines: np.ndarray
    """(9 m, 4): columns and rows x0, y0, x1, y1, m lines for each of 9 slopes dx / dy from -1 to 1."""
    order: np.ndarray
    """(9 m,) int: from above to below, for neighbours read the same part of the picture."""


def probes_of(shape: tuple[int, int], rows: int, rng: np.random.Generator, lines: int = 600) -> Probes:
    """Draw lines of a length.

    Parameters
    ----------
    shape : (int, int)
        (ny, nx) of the picture.
    rows : int
        Length of the lines.
    rng : Generator
        Says which.
    lines : int
        So many for each slope.

    Returns
    -------
    Probes
    """
    ny, nx = shape
    slopes = np.linspace(-1, 1, 9)
    every = np.empty((9, lines, 4))
    for own, slope in zip(every, slopes, strict=True):
        move = slope * (rows - 1)
        left, right = max(0.0, -move), nx - 1.001 - max(move, 0.0)
        y = rng.integers(0, max(ny - rows, 1), lines)
        x = rng.uniform(left, max(right, left + 0.001), lines)
        own[:, 0], own[:, 1], own[:, 2], own[:, 3] = x, y, x + move, y + rows - 1
    flat = every.reshape(-1, 4)
    return Probes(flat, np.argsort(flat[:, 1], kind="stable"))


def noise_of(cells: np.ndarray, probes: Probes) -> np.ndarray:
    """Standard deviation of a sum along a line over its root of cells, for 9 slopes dx / dy from -1 to 1.

    Parameters
    ----------
    cells : ndarray of int8 or int16, shape (ny, nx)
        0 where nothing is known.
    probes : Probes
        The lines that tell.

    Returns
    -------
    ndarray, shape (9,)
        A parabola of the slope; all 0 where nothing is known.
    """
    sums = np.empty(len(probes.lines))
    _measure(cells, probes.lines, probes.order, sums)
    out = np.zeros(9)
    for n, own in enumerate(sums.reshape(9, -1)):
        known = np.abs(own[own != 0])
        out[n] = 1.2533 * known.mean() if len(known) > 20 else np.nan
    good = np.isfinite(out)
    if good.sum() < 5:
        return np.zeros(9)
    # Errors of 600 lines are 3 %; a parabola, even in the slope, has 1 %.
    design = np.stack([np.ones(9), np.linspace(-1, 1, 9) ** 2], axis=1)
    return np.asarray(design @ np.linalg.lstsq(design[good], out[good], rcond=None)[0])


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _measure(cells: np.ndarray, lines: np.ndarray, order: np.ndarray, out: np.ndarray) -> None:
    """The significance of straight lines, rows (x0, y0, x1, y1)."""
    for n in order:
        y0, y1 = int(lines[n, 1]), int(lines[n, 3])
        out[n] = significance(cells, y0, y1, lines[n, 0], lines[n, 2], 0.0)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def significance(cells: np.ndarray, y0: int, y1: int, xa: float, xb: float, bend: float) -> float:
    """Sum along a path over its root of cells seen."""
    total, seen = _summed(cells, y0, y1, xa, xb, bend)
    return total / np.sqrt(seen) if seen >= _LEAST else 0.0


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _summed(cells: np.ndarray, y0: int, y1: int, xa: float, xb: float, bend: float) -> tuple[float, float]:
    """Sum along a path, row by row, between two columns each; and its variance, in that of a cell."""
    total, seen = np.float32(0), np.float32(0)
    edge = np.float32(cells.shape[1] - 1)
    n = y1 - y0
    # x = left + k (slope + k curve), k rows below the first.
    curve = np.float32(-4 * bend / max(n, 1) ** 2)
    slope = np.float32((xb - xa + 4 * bend) / max(n, 1))
    left = np.float32(xa)
    last = left + np.float32(n) * slope
    if bend == 0 and min(left, last) >= 0 and max(left, last) < edge:
        return _inside(cells, y0, n, left, slope)
    for k in range(n + 1):
        row = np.float32(k)
        x = left + row * (slope + row * curve)
        if x < 0 or x >= edge:
            continue
        i = int(x)
        f = x - np.float32(i)
        a, b = cells[y0 + k, i], cells[y0 + k, i + 1]
        e = np.float32(1) - f
        total += np.float32(a) * e + np.float32(b) * f
        seen += _own(a, e) + _own(b, f) + (_TWICE_ALIKE * e * f if a != 0 and b != 0 else np.float32(0))
    return float(total), float(seen)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _own(cell: int, share: np.float32) -> np.float32:
    """The variance of a share of a cell; of one of which nothing is known, 0."""
    return share * share if cell != 0 else np.float32(0)


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _inside(cells: np.ndarray, y0: int, n: int, left: np.float32, slope: np.float32) -> tuple[float, float]:
    """As `_summed`, along a straight line that stays in the picture."""
    nothing, one = np.float32(0), np.float32(1)
    total, seen = nothing, nothing
    for k in range(n + 1):
        x = left + np.float32(k) * slope
        i = int(x)
        f = x - np.float32(i)
        a, b = np.float32(cells[y0 + k, i]), np.float32(cells[y0 + k, i + 1])
        e = one - f
        total += a * e + b * f
        # Of cells of which nothing is known the share is 0.
        e = e if a != 0 else nothing
        f = f if b != 0 else nothing
        seen += e * e + f * f + _TWICE_ALIKE * e * f
    return float(total), float(seen)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def refined(
    cells: np.ndarray, y0: int, y1: int, xa: float, xb: float, bend: float, step: float, hope: float
) -> tuple[float, float, float]:
    """The shift and turn of a path that make it most significant: columns at its ends, and significance.

    Nine of them are tried, `step` cells apart at both ends, then nine half as far apart, down to a fifth of a cell; no
    more if the first nine bring less than `hope`.
    """
    best = significance(cells, y0, y1, xa, xb, bend)
    while step > 0.15:
        a0, b0 = xa, xb
        for p in range(-1, 2):
            for q in range(-1, 2):
                if p == 0 and q == 0:
                    continue
                v = significance(cells, y0, y1, a0 + p * step, b0 + q * step, bend)
                if v > best:
                    best, xa, xb = v, a0 + p * step, b0 + q * step
        if best < hope:
            break
        step *= 0.5
    return xa, xb, best


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def refine_all(cells: np.ndarray, lines: np.ndarray, hope: float, step: float = 1.0) -> None:
    """Refine straight lines, rows (significance, x0, y0, x1, y1), in place; without hope of so much, only roughly."""
    for n in range(len(lines)):
        y0, y1 = int(lines[n, 2]), int(lines[n, 4])
        lines[n, 1], lines[n, 3], lines[n, 0] = refined(
            cells, y0, y1, lines[n, 1], lines[n, 3], 0.0, step, hope
        )


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def carried_on(cells: np.ndarray, path: Path, up: bool, down: bool, unit: float, floor: float) -> Path:
    """A path carried on to the picture's edge at its upper end, its lower end, or both, and refined."""
    ny, nx = cells.shape
    y0, y1, xa, xb, bend = int(path[0]), int(path[1]), path[2], path[3], path[4]
    slope = (xb - xa) / max(y1 - y0, 1)
    first, last = y0, y1
    if up:
        x = xa
        while first > 0 and 0 <= x - slope < nx - 1:
            first -= 1
            x -= slope
    if down:
        x = xb
        while last < ny - 1 and 0 <= x + slope < nx - 1:
            last += 1
            x += slope
    xa, xb, bend = _between(y0, y1, xa, xb, bend, first, last)
    hope = (floor - _HOPE) * unit
    xa, xb, best = refined(cells, first, last, xa, xb, bend, 1.6, hope)
    if last - first >= _LONG and best > hope:
        xa, xb, bend = _bent(cells, first, last, xa, xb, bend, best, unit)
    total, seen = _summed(cells, first, last, xa, xb, bend)
    return float(first), float(last), xa, xb, bend, total, seen


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def trimmed(cells: np.ndarray, path: Path) -> Path:
    """A path without what is not seen at its ends."""
    y0, y1, xa, xb, bend, total, seen = path
    first, last = int(y0), int(y1)
    while first < last and _unseen(cells, path, first):
        first += 1
    while last > first + 1 and _unseen(cells, path, last):
        last -= 1
    xa, xb, bend = _between(int(y0), int(y1), xa, xb, bend, first, last)
    return float(first), float(last), xa, xb, bend, total, seen


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _unseen(cells: np.ndarray, path: Path, y: int) -> bool:
    """Whether a path sees nothing on a row."""
    y0, y1, xa, xb, bend = path[0], path[1], path[2], path[3], path[4]
    u = (y - y0) / max(y1 - y0, 1.0)
    x = xa + (xb - xa) * u + 4 * bend * u * (1 - u)
    if x < 0 or x >= cells.shape[1] - 1:
        return True
    i = int(x)
    return bool(cells[y, i] == 0 and cells[y, i + 1] == 0)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _between(
    y0: int, y1: int, xa: float, xb: float, bend: float, first: int, last: int
) -> tuple[float, float, float]:
    """Columns at two other rows of a path, and its bend between them."""
    n = max(y1 - y0, 1)
    ua, ub = (first - y0) / n, (last - y0) / n
    na = xa + (xb - xa) * ua + 4 * bend * ua * (1 - ua)
    nb = xa + (xb - xa) * ub + 4 * bend * ub * (1 - ub)
    return na, nb, bend * (ub - ua) ** 2


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def follow(cells: np.ndarray, y0: int, y1: int, xa: float, xb: float, unit: float, floor: float) -> Path:
    """Follow a line both ways until its light ends: path and ends of most significance, a small bend allowed.

    Parameters
    ----------
    cells : ndarray of int8 or int16, shape (ny, nx)
        0 where nothing is known.
    y0, y1 : int
        First and last row of a first guess.
    xa, xb : float
        Its columns there.
    unit : float
        Standard deviation of a sum over its root of cells.
    floor : float
        S/N of interest.

    Returns
    -------
    Path
    """
    ny = cells.shape[0]
    bend = 0.0
    for _ in range(8):
        xa, xb, best = refined(cells, y0, y1, xa, xb, bend, 0.8, 0.0)
        if y1 - y0 >= _LONG and best > (floor - 2 * _HOPE) * unit:
            xa, xb, best = refined(cells, y0, y1, xa, xb, bend, 3.2, 0.0)
            xa, xb, bend = _bent(cells, y0, y1, xa, xb, bend, best, unit)
        n = y1 - y0 + 1
        lo, hi = max(0, y0 - n), min(ny - 1, y1 + n)
        first, last = _ends(cells, lo, hi, y0, y1, xa, xb, bend)
        still = abs(first - y0) + abs(last - y1) <= 1 + n // 50
        xa, xb, bend = _between(y0, y1, xa, xb, bend, first, last)
        y0, y1 = first, last
        if still:
            if best < (floor - 2 * _HOPE) * unit:
                break
            # Further on it may have turned away from where it points to.
            y0, y1, xa, xb, bend, more = _stretched(cells, y0, y1, xa, xb, bend, unit)
            if not more:
                break
    xa, xb, _ = refined(cells, y0, y1, xa, xb, bend, 0.4, 0.0)
    total, seen = _summed(cells, y0, y1, xa, xb, bend)
    return float(y0), float(y1), xa, xb, bend, total, seen


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _stretched(
    cells: np.ndarray, y0: int, y1: int, xa: float, xb: float, bend: float, unit: float
) -> tuple[int, int, float, float, float, bool]:
    """A path half as long again at one end, if that is more significant; and whether it is."""
    held = significance(cells, y0, y1, xa, xb, bend)
    n = (y1 - y0 + 1) // 2
    for first, last in ((max(0, y0 - n), y1), (y0, min(cells.shape[0] - 1, y1 + n))):
        if last - first == y1 - y0 or last - first < _LONG:
            continue
        na, nb, nbend = _between(y0, y1, xa, xb, bend, first, last)
        na, nb, best = refined(cells, first, last, na, nb, nbend, 3.2, 0.0)
        na, nb, nbend = _bent(cells, first, last, na, nb, nbend, best, unit)
        if significance(cells, first, last, na, nb, nbend) > held:
            return first, last, na, nb, nbend, True
    return y0, y1, xa, xb, bend, False


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _bent(
    cells: np.ndarray, y0: int, y1: int, xa: float, xb: float, bend: float, best: float, unit: float
) -> tuple[float, float, float]:
    """Another bend, if it wins enough; the ends go the other way, so that the path keeps its middle."""
    top, other = best, bend
    for k in range(-5, 6):
        c = 0.8 * k
        aside = 2.0 / 3.0 * (c - bend)
        v = significance(cells, y0, y1, xa - aside, xb - aside, c)
        if v > top:
            top, other = v, c
    if other == bend:
        return xa, xb, bend
    aside = 2.0 / 3.0 * (other - bend)
    na, nb, top = refined(cells, y0, y1, xa - aside, xb - aside, other, 0.4, 0.0)
    if top > best + (0.0 if bend != 0 else _BENT * unit):
        return na, nb, other
    return xa, xb, bend


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _ends(
    cells: np.ndarray, lo: int, hi: int, y0: int, y1: int, xa: float, xb: float, bend: float
) -> tuple[int, int]:
    """First and last row, between two limits, between which a path is most significant."""
    nx = cells.shape[1]
    n = hi - lo + 1
    sums, seen = np.zeros(n + 1, np.float32), np.zeros(n + 1, np.float32)
    step = 1 / max(y1 - y0, 1)
    for k in range(n):
        u = (lo + k - y0) * step
        x = xa + (xb - xa) * u + 4 * bend * u * (1 - u)
        sums[k + 1], seen[k + 1] = sums[k], seen[k]
        if x < 0 or x >= nx - 1:
            continue
        i = int(x)
        f = np.float32(x - i)
        e = np.float32(1) - f
        a, b = cells[lo + k, i], cells[lo + k, i + 1]
        sums[k + 1] += a * e + b * f
        if a != 0:
            seen[k + 1] += e * e
            if b != 0:
                seen[k + 1] += _TWICE_ALIKE * e * f
        if b != 0:
            seen[k + 1] += f * f
    first, last = y0 - lo, y1 - lo + 1
    for _ in range(4):
        before = first + last
        best = np.float32(-1e9)
        for k in range(first + 1, n + 1):
            w = seen[k] - seen[first]
            v = (sums[k] - sums[first]) / np.sqrt(max(w, np.float32(_LEAST)))
            if v > best:
                best, last = v, k
        best = np.float32(-1e9)
        for k in range(last):
            w = seen[last] - seen[k]
            v = (sums[last] - sums[k]) / np.sqrt(max(w, np.float32(_LEAST)))
            if v > best:
                best, first = v, k
        if first + last == before:
            break
    # Two rows at least, and none beyond the limits.
    end = min(max(lo + last - 1, lo + first + 1), hi)
    return min(lo + first, end - 1), end

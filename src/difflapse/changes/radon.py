"""Sums along all lines of a picture at once: a fast Radon transform that keeps the strongest of each part."""

from __future__ import annotations

import numba
import numpy as np

_KEPT = 4
"""Lines of one strip of one height that are kept, unlike each other."""


def strongest(cells: np.ndarray, shortest: int, noise: np.ndarray, least: float) -> np.ndarray:
    """The strongest lines, steeper than 45 degrees, of strips of `shortest`, 2 `shortest`, 4 `shortest` ... rows.

    Parameters
    ----------
    cells : ndarray of int8 or int16, shape (ny, nx)
        Whole sums of columns must not exceed 32767.
    shortest : int
        Rows of the lowest strips that are looked at, a power of 2.
    noise : ndarray, shape (n_slopes,)
        Standard deviation of a sum over its root of rows, for slopes dx / dy evenly from -1 to 1.
    least : float
        S/N of what is kept.

    Returns
    -------
    ndarray, shape (n, 5)
        S/N, x and y at the upper end, x and y at the lower end; strongest first.

    Notes
    -----
    Level by level the sum along a line through a strip is made of those through its two halves (Brady 1998; Nir,
    Zackay & Ofek 2018, AJ 156, 229): n log n additions for all lines. Sums through two strips that lie side by
    side but have no common parent are looked at too, so that a streak that ends anywhere keeps 0.8 of its S/N or more.
    """
    ny, nx = cells.shape
    now, height = cells[:, None, :], 1
    spare = [np.empty(size, np.int16) for size in _sizes(ny, nx)]
    found = []
    while len(now) > 1:
        n = (len(now) + 1) // 2
        height *= 2
        moves = 2 * height - 1
        looked_at = height >= shortest
        kept = n > 1
        spare.reverse()
        new = spare[0][: n * moves * nx].reshape(n, moves, nx) if kept else cells[None, :1]
        if looked_at:
            slopes = np.arange(-height + 1, height) / max(height - 1, 1)
            unit = np.interp(slopes, np.linspace(-1, 1, len(noise)), noise)
            tops = np.zeros((len(now), _KEPT, 3), np.float32)
            _doubled(now, new, kept, (1 / unit).astype(np.float32), np.float32(least), ny, tops)
            found.append(_ends(tops, height, ny))
        else:
            _doubled(
                now,
                new,
                kept,
                np.zeros(0, np.float32),
                np.float32(0),
                ny,
                np.zeros((0, _KEPT, 3), np.float32),
            )
        now = new
    lines = np.concatenate(found) if found else np.zeros((0, 5))
    return np.asarray(lines[np.argsort(-lines[:, 0], kind="stable")])


def _sizes(ny: int, nx: int) -> tuple[int, int]:
    """Elements that the sums of every other level need, at most, the first level's second; the last are not kept."""
    sizes, level, height, n = [0, 0], 0, 1, ny
    while n > 2:
        n, height, level = (n + 1) // 2, 2 * height, level + 1
        sizes[level % 2] = max(sizes[level % 2], n * (2 * height - 1) * nx)
    return sizes[0], sizes[1]


def _ends(tops: np.ndarray, height: int, ny: int) -> np.ndarray:
    """Lines as (score, x0, y0, x1, y1), from what was kept of pairs of strips of half the height."""
    pair, slot = np.nonzero(tops[:, :, 0] > 0)
    score, x, move = (tops[pair, slot, n].astype(float) for n in range(3))
    top = pair * (height // 2)
    bottom = np.minimum(top + height, ny) - 1
    tilt = move * (bottom - top) / (height - 1)
    return np.column_stack([score, x, top, x + tilt, bottom])


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _doubled(
    now: np.ndarray,
    new: np.ndarray,
    kept: bool,
    gain: np.ndarray,
    least: np.float32,
    ny: int,
    tops: np.ndarray,
) -> None:
    """Sums through strips of twice the height, and the best of them, also through those between two of the new strips.

    ``now[s, m + height - 1, x]`` is the sum along a line that enters strip s at column x and has moved by m columns
    where it leaves it.
    """
    n = now.shape[0]
    height = (now.shape[1] + 1) // 2
    wide = 2 * height - 1
    for s in range(n):
        between = s % 2 == 1
        lone = s + 1 >= n
        if between and (lone or len(gain) == 0):
            continue
        rows = min(2 * height, ny - s * height)
        root = np.float32(1 / np.sqrt(np.float32(max(rows, 1))))
        for m in range(-wide, wide + 1):
            # Half of the move in each strip, and one column between them where it is odd.
            part = m // 2 if m >= 0 else -((-m) // 2)
            low = now[s, part + height - 1]
            if lone:
                if kept:
                    new[s // 2, m + wide] = low
                continue
            high = now[s + 1, part + height - 1]
            shift = m - part
            if between or not kept:
                best = _highest(low, high, shift)
            else:
                best = _added(low, high, shift, new[s // 2, m + wide])
            if len(gain) and best * gain[m + wide] * root > max(least, tops[s, -1, 0]):
                x = _where(low, high, shift, best)
                _keep(tops[s], best * gain[m + wide] * root, x, m, height)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _added(low: np.ndarray, high: np.ndarray, shift: int, out: np.ndarray) -> int:
    """Put the sums of two rows, one of them shifted, in a third; the largest."""
    n = len(low) - abs(shift)
    best = np.int16(0)
    if n <= 0:
        out[:] = low
        return 0
    if shift >= 0:
        a, b, c, rest, beyond = low[:n], high[shift:], out[:n], low[n:], out[n:]
    else:
        a, b, c, rest, beyond = low[-shift:], high[:n], out[-shift:], low[:-shift], out[:-shift]
    for x in range(len(rest)):
        beyond[x] = rest[x]
    for x in range(n):
        v = np.int16(a[x] + b[x])
        c[x] = v
        best = max(best, v)
    return int(best)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _highest(low: np.ndarray, high: np.ndarray, shift: int) -> int:
    """The largest sum of two rows, one of them shifted."""
    n = len(low) - abs(shift)
    best = np.int16(0)
    if n <= 0:
        return 0
    if shift >= 0:
        a, b = low[:n], high[shift:]
    else:
        a, b = low[-shift:], high[:n]
    for x in range(n):
        best = max(best, np.int16(a[x] + b[x]))
    return int(best)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _where(low: np.ndarray, high: np.ndarray, shift: int, best: int) -> int:
    """The column of the largest sum."""
    for x in range(max(0, -shift), min(len(low), len(low) - shift)):
        if low[x] + high[x + shift] == best:
            return x
    return 0


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _keep(top: np.ndarray, score: float, x: int, move: int, height: int) -> None:
    """Put a line among the best of its strip, in order, in place of one that is like it or of the weakest."""
    place = len(top) - 1
    for k in range(len(top)):
        middle = top[k, 1] + 0.5 * top[k, 2]
        if top[k, 0] > 0 and abs(middle - x - 0.5 * move) < 8 and abs(top[k, 2] - move) < 8 + height // 4:
            if top[k, 0] >= score:
                return
            place = k
            break
    while place > 0 and top[place - 1, 0] < score:
        top[place] = top[place - 1]
        place -= 1
    top[place, 0], top[place, 1], top[place, 2] = score, x, move

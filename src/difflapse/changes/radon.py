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
    The sum along a line through a strip is made of those through its two halves, and those of theirs (Brady 1998; Nir,
    Zackay & Ofek 2018, AJ 156, 229): n log n additions for all lines. Sums through two strips that lie side by side
    but have no common parent are looked at too, so that a streak that ends anywhere keeps 0.8 of its S/N or more.
    From the first row on, a strip is made as soon as both its halves are there: small ones never leave the
    processor's own memory.
    """
    ny, nx = cells.shape
    counts = _counts(ny)
    if not counts:
        return np.zeros((0, 5))
    heights = [2 << level for level in range(len(counts))]
    gains, pairs = [], []
    for height, n in zip(heights, counts, strict=True):
        looked_at = height >= shortest
        slopes = np.arange(-height + 1, height) / max(height - 1, 1) if looked_at else np.zeros(0)
        gains.append((1 / np.interp(slopes, np.linspace(-1, 1, len(noise)), noise)).astype(np.float32))
        pairs.append(n if looked_at else 0)
    tops = np.zeros((sum(pairs), _KEPT, 3), np.float32)
    room = np.empty(2 * nx * sum(height - 1 for height in heights), np.int16)
    top_at, gain_at = _starts(pairs), _starts([len(gain) for gain in gains])
    _summed(
        cells, np.array(counts, np.int64), np.concatenate([np.zeros(0, np.float32), *gains]), gain_at,
        np.float32(least), tops, top_at, room,
    )  # fmt: skip
    found = [_ends(tops[a : a + n], h, ny) for a, n, h in zip(top_at, pairs, heights, strict=False) if n]
    lines = np.concatenate(found) if found else np.zeros((0, 5))
    return np.asarray(lines[np.argsort(-lines[:, 0], kind="stable")])


def _counts(ny: int) -> list[int]:
    """Strips of 1, 2, 4 ... rows in a picture, as long as there are two of them."""
    counts = []
    while ny > 1:
        counts.append(ny)
        ny = (ny + 1) // 2
    return counts


def _starts(lengths: list[int]) -> np.ndarray:
    """Where each of several parts begins that lie one after another, and where the last ends."""
    return np.concatenate([[0], np.cumsum(np.array(lengths, np.int64))]).astype(np.int64)


def _ends(tops: np.ndarray, height: int, ny: int) -> np.ndarray:
    """Lines as (score, x0, y0, x1, y1), from what was kept of pairs of strips of half the height."""
    pair, slot = np.nonzero(tops[:, :, 0] > 0)
    score, x, move = (tops[pair, slot, n].astype(float) for n in range(3))
    top = pair * (height // 2)
    bottom = np.minimum(top + height, ny) - 1
    tilt = move * (bottom - top) / (height - 1)
    return np.column_stack([score, x, top, x + tilt, bottom])


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _summed(
    cells: np.ndarray,
    counts: np.ndarray,
    gains: np.ndarray,
    gain_at: np.ndarray,
    least: np.float32,
    tops: np.ndarray,
    top_at: np.ndarray,
    room: np.ndarray,
) -> None:
    """Sums through all strips, and the best of them, also through those between two strips of the next height.

    `room` holds the last two strips of each level: ``[m + height - 1, x]`` of one is the sum along a line that enters
    it at column x and has moved by m columns where it leaves it.
    """
    ny, nx = cells.shape
    # Where the strips of each level begin, those of even number first.
    at = np.zeros(len(counts) + 1, np.int64)
    for level in range(len(counts)):
        at[level + 1] = at[level] + 2 * ((2 << level) - 1) * nx
    for row in range(ny):
        level, s = 0, row
        to = room[at[0] + (row % 2) * nx : at[0] + (row % 2 + 1) * nx]
        for x in range(nx):
            to[x] = cells[row, x]
        while level < len(counts):
            size = ((2 << level) - 1) * nx
            even, odd = at[level], at[level] + size
            gain = gains[gain_at[level] : gain_at[level + 1]]
            top = tops[top_at[level] : top_at[level + 1]]
            up = level + 1 < len(counts)
            new = at[level + 1] + (s // 2 % 2) * ((4 << level) - 1) * nx if up else -1
            if s % 2 == 1:
                _paired(room, even, odd, new, nx, level, s - 1, ny, gain, least, top)
            else:
                if s > 0 and len(gain):
                    _paired(room, odd, even, -1, nx, level, s - 1, ny, gain, least, top)
                if s + 1 < counts[level]:
                    break
                if up:
                    _alone(room, even, new, nx, level)
            level += 1
            s //= 2


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _paired(
    room: np.ndarray,
    first: int,
    second: int,
    new: int,
    nx: int,
    level: int,
    s: int,
    ny: int,
    gain: np.ndarray,
    least: np.float32,
    top: np.ndarray,
) -> None:
    """Sums through strip s and the next, which begin at `first` and `second`: to `new` on, unless that is below 0."""
    height = 1 << level
    wide = 2 * height - 1
    rows = min(2 * height, ny - s * height)
    root = np.float32(1 / np.sqrt(np.float32(max(rows, 1))))
    for m in range(-wide, wide + 1):
        # Half of the move in each strip, and one column between them where it is odd.
        part = m // 2 if m >= 0 else -((-m) // 2)
        low, high = first + (part + height - 1) * nx, second + (part + height - 1) * nx
        shift = m - part
        if new < 0:
            best = _highest(room, low, high, nx, shift)
        else:
            best = _added(room, low, high, nx, shift, new + (m + wide) * nx)
        if len(gain) and best * gain[m + wide] * root > max(least, top[s, -1, 0]):
            x = _where(room, low, high, nx, shift, best)
            _keep(top[s], best * gain[m + wide] * root, x, m, height)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _alone(room: np.ndarray, first: int, new: int, nx: int, level: int) -> None:
    """A last strip that has no second: its sums are those of the strip of twice its height."""
    height = 1 << level
    wide = 2 * height - 1
    for m in range(-wide, wide + 1):
        part = m // 2 if m >= 0 else -((-m) // 2)
        low, to = first + (part + height - 1) * nx, new + (m + wide) * nx
        room[to : to + nx] = room[low : low + nx]


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _added(room: np.ndarray, low: int, high: int, nx: int, shift: int, out: int) -> int:
    """Put the sums of two rows, one of them shifted, in a third; the largest."""
    n = nx - abs(shift)
    if n <= 0:
        room[out : out + nx] = room[low : low + nx]
        return 0
    # Numbers without a sign are places from the front: nothing to ask.
    skip, beyond = (0, n) if shift >= 0 else (-shift, 0)
    a, b, c = np.uint64(low + skip), np.uint64(high + skip + shift), np.uint64(out + skip)
    best = np.int16(0)
    for x in range(np.uint64(n)):
        v = np.int16(room[a + x] + room[b + x])
        room[c + x] = v
        best = max(best, v)
    a, c = np.uint64(low + beyond), np.uint64(out + beyond)
    for x in range(np.uint64(abs(shift))):
        room[c + x] = room[a + x]
    return int(best)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _highest(room: np.ndarray, low: int, high: int, nx: int, shift: int) -> int:
    """The largest sum of two rows, one of them shifted."""
    n = nx - abs(shift)
    best = np.int16(0)
    if n <= 0:
        return 0
    skip = max(-shift, 0)
    a, b = np.uint64(low + skip), np.uint64(high + skip + shift)
    for x in range(np.uint64(n)):
        best = max(best, np.int16(room[a + x] + room[b + x]))
    return int(best)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _where(room: np.ndarray, low: int, high: int, nx: int, shift: int, best: int) -> int:
    """The column of the largest sum."""
    for x in range(max(0, -shift), min(nx, nx - shift)):
        if room[low + x] + room[high + x + shift] == best:
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

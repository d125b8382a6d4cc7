"""The kernels of finding: each reads a map row by row and writes one, with a few rows at hand and no map in between."""

from __future__ import annotations

import numba
import numpy as np

from difflapse.measure.order import median

_CHUNK = 64
"""Pixels of a row that are passed over together: where none of them is a peak, or all are seen; more than a kernel's
reach."""


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def flatten_rows(
    sigma: np.ndarray, wide: np.ndarray, cell: int, half: int, clip: np.float32, out: np.ndarray
) -> None:
    """Take off a coarse map, then the clipped mean of the box about each pixel.

    Parameters
    ----------
    sigma : ndarray, shape (ny, nx), float32
        May have pixels that are not finite: they do not count, and stay so.
    wide : ndarray, shape (n, nx), float32
        Rows of the coarse map, one at the middle of each `cell` rows; it goes on beyond the last as there.
    cell : int
        Rows.
    half : int
        The box is 7 pixels to each side: 7, for its sums are unrolled.
    clip : float32
        Nothing counts for more.
    out : ndarray, shape (ny, nx), float32
        Written.
    """
    ny, nx = sigma.shape
    n = 2 * half + 1
    rows, seen = np.zeros((n, nx), np.float32), np.zeros((n, nx), np.float32)
    # Sums of columns, then of 2, 4 and 8 of them; beyond the edges is nothing.
    total, count = np.zeros(nx + 4 * half, np.float32), np.zeros(nx + 4 * half, np.float32)
    pair, four, eight = np.zeros_like(total), np.zeros_like(total), np.zeros_like(total)
    mean, weight = np.empty(nx, np.float32), np.empty(nx, np.float32)
    own_total, own_count = total[half : half + nx], count[half : half + nx]
    infinite, nothing = np.float32(np.inf), np.float32(0)
    least = np.float32(1e-3) * np.float32(n * n)
    for j in range(ny + half):
        row, here = rows[j % n], seen[j % n]
        for i in range(nx):
            own_total[i] -= row[i]
            own_count[i] -= here[i]
        if j < ny:
            v = min(max((j + 0.5) / cell - 0.5, 0.0), len(wide) - 1.0)
            a = min(int(v), max(len(wide) - 2, 0))
            f = np.float32(v - a)
            upper, lower = wide[a], wide[min(a + 1, len(wide) - 1)]
            source, to = sigma[j], out[j]
            for i in range(nx):
                x = source[i] - (upper[i] + f * (lower[i] - upper[i]))
                to[i] = x
                good = abs(x) < infinite
                y = min(max(x, -clip), clip) if good else nothing
                w = np.float32(1) if good else nothing
                row[i] = y
                here[i] = w
                own_total[i] += y
                own_count[i] += w
        else:
            row[:] = nothing
            here[:] = nothing
        if j >= half:
            _box(total, pair, four, eight, mean)
            _box(count, pair, four, eight, weight)
            to = out[j - half]
            for i in range(nx):
                to[i] -= mean[i] / max(weight[i], least)


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _box(a: np.ndarray, pair: np.ndarray, four: np.ndarray, eight: np.ndarray, out: np.ndarray) -> None:
    """Sums of 15 neighbours of a line, from sums of 2, 4 and 8 of them."""
    m = len(out) + 14
    for i in range(m - 1):
        pair[i] = a[i] + a[i + 1]
    for i in range(m - 3):
        four[i] = pair[i] + pair[i + 2]
    for i in range(m - 7):
        eight[i] = four[i] + four[i + 4]
    for i in range(len(out)):
        out[i] = (eight[i] + four[i + 8]) + (pair[i + 12] + a[i + 14])


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def smooth_rows(flat: np.ndarray, kernel: np.ndarray, least: np.float32, out: np.ndarray) -> None:
    """Filter a map with a kernel along both axes, over the root of the squared weights of what is seen of it.

    Parameters
    ----------
    flat : ndarray, shape (ny, nx), float32
        What is not finite is not seen; nor is what lies beyond the edges.
    kernel : ndarray, shape (2 r + 1,), float32
        The same both ways.
    least : float32
        Sum of squared weights below which the result is 0.
    out : ndarray, shape (ny, nx), float32
        Written.
    """
    ny, nx = flat.shape
    n = len(kernel)
    r = n // 2
    square = kernel * kernel
    rows, seen = np.zeros((n, nx), np.float32), np.zeros((n, nx), np.float32)
    # With their margins, where nothing is seen.
    down, weight = np.zeros(nx + 2 * r, np.float32), np.zeros(nx + 2 * r, np.float32)
    across = np.empty(nx, np.float32)
    infinite, nothing, one = np.float32(np.inf), np.float32(0), np.float32(1)
    whole = _of_all_seen(square, least)
    # Rows in the ring that do not see all of a part of a row, ...
    parts = (nx + _CHUNK - 1) // _CHUNK
    # (never, for a kernel that reaches further than to the next part)
    short = parts if r <= _CHUNK else 0
    holes, hidden = np.ones((n, parts), np.int32), np.full(parts, n, np.int32)
    for j in range(ny + r):
        row, here, hole = rows[j % n], seen[j % n], holes[j % n]
        for p in range(parts):
            first, last = p * _CHUNK, min((p + 1) * _CHUNK, nx)
            good = 0
            if j < ny:
                source, to, to_here = flat[j, first:last], row[first:last], here[first:last]
                for i in range(len(source)):
                    x = source[i]
                    known = abs(x) < infinite
                    to[i] = x if known else nothing
                    to_here[i] = one if known else nothing
                    good += known
            else:
                row[first:last] = nothing
                here[first:last] = nothing
            hidden[p] -= hole[p]
            hole[p] = good < last - first
            hidden[p] += hole[p]
        if j < r:
            continue
        to = out[j - r]
        down_rows(rows, kernel, j - r, 0, down[r : r + nx])
        across_row(down, kernel, to)
        # ... for only there what is seen of the kernel must be counted; and at both ends.
        p = 0
        while p < parts:
            a = p * _CHUNK
            counted = _is_hidden(hidden, p, short)
            while p < parts and _is_hidden(hidden, p, short) == counted:
                p += 1
            b = min(p * _CHUNK, nx)
            if not counted:
                part = to[a:b]
                for i in range(len(part)):
                    part[i] *= whole
                continue
            first, last = max(a - r, 0), min(b + r, nx)
            down_rows(seen, square, j - r, first, weight[r + first : r + last])
            part, share = to[a:b], across[a:b]
            across_row(weight[a : b + 2 * r], square, share)
            for i in range(len(part)):
                w = share[i]
                scale = one / np.sqrt(max(w, least))
                part[i] *= scale if w >= least else nothing


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _is_hidden(hidden: np.ndarray, p: int, parts: int) -> bool:
    """Whether something in a part of a row, or as far beside it as kernels reach, is not seen, or beyond an end."""
    # The last part may be narrower than a kernel reaches.
    return p == 0 or p >= parts - 2 or hidden[p - 1] + hidden[p] + hidden[p + 1] > 0


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _of_all_seen(square: np.ndarray, least: np.float32) -> np.float32:
    """What `smooth_rows` multiplies with where all of a kernel is seen: from the same sums, to the last digit."""
    n, nx = len(square), 64
    down, across = np.empty(nx + n - 1, np.float32), np.empty(nx, np.float32)
    down_rows(np.ones((n, len(down)), np.float32), square, n // 2, 0, down)
    across_row(down, square, across)
    w = across[nx // 2]
    return np.float32(1) / np.sqrt(max(w, least)) if w >= least else np.float32(0)


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def down_rows(rows: np.ndarray, kernel: np.ndarray, middle: int, first: int, out: np.ndarray) -> None:
    """Sum of rows, which lie in turn in a ring of as many as a kernel has, about a middle one, from a column on."""
    n, last = len(kernel), first + len(out)
    r = n // 2
    k0, k1 = kernel[r], kernel[r + 1]
    row = rows[middle % n, first:last]
    up, low = rows[(middle - 1) % n, first:last], rows[(middle + 1) % n, first:last]
    for i in range(len(out)):
        out[i] = k0 * row[i] + k1 * (up[i] + low[i])
    t = 2
    while t < r:
        k0, k1 = kernel[r + t], kernel[r + t + 1]
        up, low = rows[(middle - t) % n, first:last], rows[(middle + t) % n, first:last]
        upper, lower = rows[(middle - t - 1) % n, first:last], rows[(middle + t + 1) % n, first:last]
        for i in range(len(out)):
            out[i] += k0 * (up[i] + low[i]) + k1 * (upper[i] + lower[i])
        t += 2
    if t == r:
        k0, up, low = kernel[r + t], rows[(middle - t) % n, first:last], rows[(middle + t) % n, first:last]
        for i in range(len(out)):
            out[i] += k0 * (up[i] + low[i])


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def across_row(line: np.ndarray, kernel: np.ndarray, out: np.ndarray) -> None:
    """Sum of neighbours along a line that has a margin of a kernel's reach at both ends."""
    r, n = len(kernel) // 2, len(out)
    k0, k1 = kernel[r], kernel[r + 1]
    middle, left, right = line[r : r + n], line[r - 1 : r - 1 + n], line[r + 1 : r + 1 + n]
    for i in range(n):
        out[i] = k0 * middle[i] + k1 * (left[i] + right[i])
    t = 2
    while t < r:
        k0, k1 = kernel[r + t], kernel[r + t + 1]
        left, right = line[r - t : r - t + n], line[r + t : r + t + n]
        far_left, far_right = line[r - t - 1 : r - t - 1 + n], line[r + t + 1 : r + t + 1 + n]
        for i in range(n):
            out[i] += k0 * (left[i] + right[i]) + k1 * (far_left[i] + far_right[i])
        t += 2
    if t == r:
        k0, left, right = kernel[r + t], line[r - t : r - t + n], line[r + t : r + t + n]
        for i in range(n):
            out[i] += k0 * (left[i] + right[i])


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def block_scatter(snr: np.ndarray, rows: np.ndarray, columns: np.ndarray, step: int, out: np.ndarray) -> None:
    """Robust scatter about 0 of each block of a map, from every `step`-th pixel both ways; what is 0 does not count.

    `rows` and `columns` are the blocks' edges; `out` is NaN where 50 pixels or fewer tell.
    """
    most = 0
    for b in range(len(columns) - 1):
        most = max(most, (columns[b + 1] - columns[b]) // step + 1)
    tall = 0
    for a in range(len(rows) - 1):
        tall = max(tall, (rows[a + 1] - rows[a]) // step + 1)
    values, room = np.empty(most * tall + 1, np.float32), np.empty(most * tall + 1, np.float32)
    for a in range(len(rows) - 1):
        for b in range(len(columns) - 1):
            n = 0
            for j in range(rows[a], rows[a + 1], step):
                for i in range(columns[b], columns[b + 1], step):
                    x = abs(snr[j, i])
                    values[n] = x
                    n += x != 0
            out[a, b] = np.float32(1.4826) * median(values[:n], room) if n > 50 else np.float32(np.nan)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def peaks(
    snr: np.ndarray, scatter: np.ndarray, floor: np.float32, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Local extrema beyond a floor: row, column, value, and the parabolas' offsets.

    Before, the map (ny, nx) is divided in place by a coarse one, (n, nx): its rows lie at the middles of n equal bands;
    without rows it says nothing.
    """
    ny = len(snr)
    rows, columns = np.empty(most, np.float64), np.empty(most, np.float64)
    values, up, right = np.empty(most), np.empty(most), np.empty(most)
    n = 0
    for j in range(ny):
        if len(scatter):
            _divide_row(snr, scatter, j)
        # The row before, whose neighbours are ready.
        if j >= 2:
            n = _peaks_of_row(snr, j - 1, floor, rows, columns, values, up, right, n)
    return rows[:n], columns[:n], values[:n], up[:n], right[:n]


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _divide_row(snr: np.ndarray, scatter: np.ndarray, j: int) -> None:
    n, ny = len(scatter), len(snr)
    v = min(max((j + 0.5) * n / ny - 0.5, 0.0), n - 1.0)
    a = min(int(v), max(n - 2, 0))
    f = np.float32(v - a)
    upper, lower, row = scatter[a], scatter[min(a + 1, n - 1)], snr[j]
    for i in range(len(row)):
        row[i] /= upper[i] + f * (lower[i] - upper[i])


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _peaks_of_row(
    snr: np.ndarray,
    j: int,
    floor: np.float32,
    rows: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    up: np.ndarray,
    right: np.ndarray,
    n: int,
) -> int:
    """Put the extrema of a row after the `n` that are there; how many there are then."""
    nx = snr.shape[1]
    for first in range(1, nx - 1, _CHUNK):
        last = min(first + _CHUNK, nx - 1)
        part = snr[j, first:last]
        # Not how many: to count takes twice as long.
        beyond = False
        for i in range(len(part)):
            beyond |= abs(part[i]) >= floor
        if not beyond:
            continue
        for i in range(first, last):
            v = snr[j, i]
            a = abs(v)
            if a < floor:
                continue
            s = np.float32(1) if v > 0 else np.float32(-1)
            top = True
            for dj in range(-1, 2):
                for di in range(-1, 2):
                    w = s * snr[j + dj, i + di]
                    if w > a or (w == a and (dj < 0 or (dj == 0 and di < 0))):
                        top = False
            if not top or n >= len(rows):
                continue
            right[n] = _vertex(s * snr[j, i - 1], a, s * snr[j, i + 1])
            up[n] = _vertex(s * snr[j - 1, i], a, s * snr[j + 1, i])
            rows[n], columns[n], values[n] = j, i, v
            n += 1
    return n


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _vertex(before: np.float32, top: np.float32, after: np.float32) -> float:
    """Where the parabola through three neighbours is highest, from the middle one, at most half a pixel away."""
    bend = 2 * top - (before + after)
    place = float(0.5 * (after - before) / bend)
    return min(0.5, max(-0.5, place)) if bend > 0 else 0.0

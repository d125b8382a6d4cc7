"""The compiled loops of `difflapse.align.warp`: rows cut into runs, single pixels by their footprints, marks."""

from __future__ import annotations

import numba
import numpy as np

from difflapse.align.kernels import axis_weights

SPACING = 16
"""Product pixels between the nodes of the inverse map; in between it is taken for linear, good to 1e-4 px."""
MOST_LOST = 0.075
"""What a pixel may take, of its weight along either axis, from outside or from bad regions."""
_BLOCK = 64
_EDGE = 1e-5
"""Samples by which a position may lie outside for want of digits."""


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def resample(
    planes: tuple[np.ndarray, ...],
    native: np.ndarray,
    signs: tuple[float, float],
    bias: np.float32,
    offsets: np.ndarray,
    channel: np.ndarray,
    share: np.ndarray,
    first: np.ndarray,
    step: int,
    px: np.ndarray,
    py: np.ndarray,
    width: np.ndarray,
    even: np.ndarray,
    odd: np.ndarray,
    runs: bool,
    quads: bool,
    size: int,
    out: np.ndarray,
    coverage: np.ndarray,
    outside: np.ndarray,
) -> bool:
    """Fill `out` and `coverage` (0 or 1; -1 where a value is not finite); returns whether any is not finite.

    Where coverage is 0, `outside`, False at first, is set to True.

    `planes` are the images (my, mx) of the sites, of any real type, `bias` to be taken off. `px`, `py` are native
    positions at the nodes, `width` (2, nodes) by how much the kernel is stretched, `size` the largest footprint. With
    `runs` the map is nearly a shift, and `planes` are views of the frame's own pixels, `native`, gone through
    backwards where one of the `signs` (x, y) is -1; with `quads` weights are areas, else the kernel's.
    """
    n_sites, (my, mx) = len(planes), planes[0].shape
    n_channels, ny, nx = out.shape
    nodes = px.shape[1]
    node_x, node_y = np.empty(nodes), np.empty(nodes)
    slope_x, slope_y = np.empty(nodes, np.float32), np.empty(nodes, np.float32)
    edge = np.empty((nx + _BLOCK - 1) // _BLOCK, np.bool_)
    corners = np.empty((2, 2, nx + 1 if quads else 0))
    room = np.empty((size, size))
    half = len(even)
    even32, odd32 = even.astype(np.float32), odd.astype(np.float32)
    # A row for each node, and one before the first for the columns there.
    fx, fy = np.empty((nodes + 2, SPACING), np.float32), np.empty((nodes + 2, SPACING), np.float32)
    steps = np.arange(SPACING).astype(np.float32)
    flat_x, flat_y = fx.reshape(-1), fy.reshape(-1)
    tmp = np.empty(nx + 2 * half + 4, np.float32)
    # A few rows of each plane, as they come: what is written for all of a frame would have to be fetched again.
    ring = np.empty((n_sites, 2 * half + 4, mx if runs else 0), np.float32)
    held = np.full(ring.shape[:2], -1)
    out_bits = out.view(np.int32)
    broken = False
    for j in range(ny):
        _line(px, j, step, node_x)
        _line(py, j, step, node_y)
        for k in range(nodes):
            node_x[k] -= k * SPACING
            node_y[k] -= j
        for k in range(nodes - 1):
            slope_x[k] = (node_x[k + 1] - node_x[k]) / SPACING
            slope_y[k] = (node_y[k + 1] - node_y[k]) / SPACING
        if quads:
            _corner_line(px, py, j, step, corners[0])
            _corner_line(px, py, j + 1, step, corners[1])
        coverage[j] = 1
        edge[:] = False
        a = j // SPACING
        for s in range(n_sites):
            ox, oy = offsets[s, 0] / step, offsets[s, 1] / step
            plane = planes[s]
            row = out[channel[s], j]
            i = 0
            while i < nx:
                stop, bx, by = nx, 0, 0
                lo = hi = i
                if runs:
                    stop, bx, by = _run(node_x, node_y, ox, oy, i, nx)
                    if j + by - half + 1 >= 0 and j + by + half < my:
                        lo, hi = max(i, half - 1 - bx), min(stop, mx - half - bx)
                        if hi <= lo:
                            lo = hi = i
                for side in range(2):
                    c, d = (i, lo) if side == 0 else (hi, stop)
                    if c < d:
                        edge[c // _BLOCK : (d - 1) // _BLOCK + 1] = True
                        _one_by_one(
                            plane, bias, ox, oy, share[s], first[s], node_x, node_y, j, c, d, width[:, a],
                            even, odd, corners, room, row, coverage[j],
                        )  # fmt: skip
                if lo < hi:
                    n = hi - lo
                    wide = n + 2 * half - 1
                    _fractions(
                        steps, node_x, node_y, slope_x, slope_y, ox + bx, oy + by, lo, hi, half, fx, fy
                    )
                    c0, top = lo + bx - half + 1, j + by - half + 1
                    for r in range(top, top + 2 * half):
                        if held[s, r % len(held[s])] != r:
                            _lay_row(native, step, s, r, my, signs, bias, ring, held)
                    column = SPACING + lo - half + 1
                    _down(ring[s], top, c0, flat_y[column : column + wide], even32, odd32, tmp[:wide])
                    _along(
                        tmp[:wide], flat_x[SPACING + lo : SPACING + hi], even32, odd32, share[s], first[s],
                        row[lo:hi],
                    )  # fmt: skip
                i = stop
        for b in range(len(edge)):
            if edge[b]:  # some sites may reach where others do not
                for i in range(b * _BLOCK, min(nx, (b + 1) * _BLOCK)):
                    if coverage[j, i] == 0:
                        outside[j, i] = True
                        for c in range(n_channels):
                            out[c, j, i] = 0
        for c in range(n_channels):
            if not _all_finite(out_bits[c, j]):
                broken |= _clear(out[:, j], coverage[j])
    return broken


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _lay_row(
    native: np.ndarray,
    step: int,
    s: int,
    row: int,
    my: int,
    signs: tuple[float, float],
    bias: np.float32,
    ring: np.ndarray,
    held: np.ndarray,
) -> None:
    """Lay row `row` of plane `s` into its `ring`, and that of the other site which lies in the same native row."""
    at = row % ring.shape[1]
    y = row if signs[1] > 0 else my - 1 - row
    mx = ring.shape[2]
    if step == 1:
        line, to = native[y], ring[s, at]
        if signs[0] > 0:
            for i in range(mx):
                to[i] = np.float32(line[i]) - bias
        else:
            for i in range(mx):
                to[mx - 1 - i] = np.float32(line[i]) - bias
        held[s, at] = row
        return
    line = native[2 * y + s // 2]
    left, right = ring[s // 2 * 2, at], ring[s // 2 * 2 + 1, at]
    if signs[0] > 0:
        for i in range(mx):
            left[i] = np.float32(line[2 * i]) - bias
            right[i] = np.float32(line[2 * i + 1]) - bias
    else:
        for i in range(mx):
            left[mx - 1 - i] = np.float32(line[2 * i]) - bias
            right[mx - 1 - i] = np.float32(line[2 * i + 1]) - bias
    held[s // 2 * 2, at] = held[s // 2 * 2 + 1, at] = row


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _line(p: np.ndarray, j: float, step: int, out: np.ndarray) -> None:
    """The map along row `j`, at the nodes, in samples."""
    a = min(max(int(j) // SPACING, 0), len(p) - 2)
    f = j / SPACING - a
    for k in range(len(out)):
        out[k] = ((1 - f) * p[a, k] + f * p[a + 1, k]) / step


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _corner_line(px: np.ndarray, py: np.ndarray, j: int, step: int, out: np.ndarray) -> None:
    """Where the lower corners of the pixels of row `j` lie, (2, nx + 1) samples; neighbours share them exactly."""
    nodes = px.shape[1]
    x, y = np.empty(nodes), np.empty(nodes)
    _line(px, j - 0.5, step, x)
    _line(py, j - 0.5, step, y)
    for i in range(out.shape[1]):
        k = max(i - 1, 0) // SPACING
        t = (i - 0.5) / SPACING - k
        out[0, i] = x[k] + t * (x[k + 1] - x[k])
        out[1, i] = y[k] + t * (y[k + 1] - y[k])


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _run(
    node_x: np.ndarray, node_y: np.ndarray, ox: float, oy: float, i: int, nx: int
) -> tuple[int, int, int]:
    """The longest run from `i` whose whole shifts are constant: its end, and these."""
    k = i // SPACING
    t = i / SPACING - k
    bx = int(np.floor(node_x[k] + t * (node_x[k + 1] - node_x[k]) - ox))
    by = int(np.floor(node_y[k] + t * (node_y[k + 1] - node_y[k]) - oy))
    stop = i
    while stop < nx:
        k = stop // SPACING
        end = min(nx, (k + 1) * SPACING)
        last = (end - 1) / SPACING - k
        ex = node_x[k] + last * (node_x[k + 1] - node_x[k]) - ox
        ey = node_y[k] + last * (node_y[k + 1] - node_y[k]) - oy
        if bx <= ex and ex < bx + 1 and by <= ey and ey < by + 1:
            stop = end
            continue
        while stop < end:
            t = stop / SPACING - k
            ex = node_x[k] + t * (node_x[k + 1] - node_x[k]) - ox
            ey = node_y[k] + t * (node_y[k + 1] - node_y[k]) - oy
            if int(np.floor(ex)) != bx or int(np.floor(ey)) != by:
                break
            stop += 1
        break
    return max(stop, i + 1), bx, by


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _fractions(
    steps: np.ndarray,
    node_x: np.ndarray,
    node_y: np.ndarray,
    slope_x: np.ndarray,
    slope_y: np.ndarray,
    x0: float,
    y0: float,
    lo: int,
    hi: int,
    half: int,
    fx: np.ndarray,
    fy: np.ndarray,
) -> None:
    """Phases along a run, `half` - 1 more on its left and `half` on its right for the columns' own, and those beside
    them up to the next nodes. Row k + 1 of `fx` and `fy` belongs to node k and the `steps` from it to the next.
    """
    for q in range((lo - half + 1) // SPACING, (hi + half - 1) // SPACING + 1):
        k = min(max(q, 0), len(node_x) - 2)
        sx, sy = slope_x[k], slope_y[k]
        zx = np.float32(node_x[k] - x0)
        # Columns lie a fraction to the left of their pixel: where the field turns, so does y.
        zy = np.float32(node_y[k] - y0) - sy * zx
        sy -= sy * sx
        first = np.float32((q - k) * SPACING)
        # Of steps that it could count beforehand the compiler would take one after the other.
        for g in range(len(steps)):
            fx[q + 1, g] = zx + sx * (first + steps[g])
        for g in range(len(steps)):
            fy[q + 1, g] = zy + sy * (first + steps[g])


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _down(
    ring: np.ndarray,
    top: int,
    c0: int,
    fraction: np.ndarray,
    even: np.ndarray,
    odd: np.ndarray,
    out: np.ndarray,
) -> None:
    """Interpolation between rows from `top` on, from column `c0` on, each column at its own fraction."""
    half, c1, n = len(even), c0 + len(out), len(ring)
    if half != 2:
        for p in range(half):
            left, right = ring[(top + half - 1 - p) % n, c0:c1], ring[(top + half + p) % n, c0:c1]
            _pair(left, right, fraction, even[p], odd[p], np.float32(1), p > 0, out)
        return
    # The one kernel of four taps is Keys' cubic (a = -1/2): in Horner's form it takes half the time.
    r0, r1 = ring[top % n, c0:c1], ring[(top + 1) % n, c0:c1]
    r2, r3 = ring[(top + 2) % n, c0:c1], ring[(top + 3) % n, c0:c1]
    h, one, two = np.float32(0.5), np.float32(1), np.float32(2)
    for i in range(len(out)):
        f = fraction[i]
        a = r1[i]
        b = h * (r2[i] - r0[i])
        c = r0[i] - (two + h) * r1[i] + two * r2[i] - h * r3[i]
        d = h * (r3[i] - r0[i]) + (one + h) * (r1[i] - r2[i])
        out[i] = ((d * f + c) * f + b) * f + a


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _along(
    values: np.ndarray,
    fraction: np.ndarray,
    even: np.ndarray,
    odd: np.ndarray,
    share: np.float32,
    first: bool,
    out: np.ndarray,
) -> None:
    """Interpolation along a row, each pixel at its own fraction; set or added to `out`, times `share`."""
    half, n = len(even), len(out)
    if half != 2:
        for p in range(half):
            left, right = values[half - 1 - p :], values[half + p :]
            _pair(left, right, fraction, even[p], odd[p], share, p > 0 or not first, out)
        return
    h, one, two = np.float32(0.5), np.float32(1), np.float32(2)
    r1, r2, r3 = values[1:], values[2:], values[3:]
    keep = np.float32(0 if first else 1)
    for i in range(n):
        f = fraction[i]
        a = r1[i]
        b = h * (r2[i] - values[i])
        c = values[i] - (two + h) * r1[i] + two * r2[i] - h * r3[i]
        d = h * (r3[i] - values[i]) + (one + h) * (r1[i] - r2[i])
        old = np.float32(0) if first else out[i]
        out[i] = keep * old + share * (((d * f + c) * f + b) * f + a)


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _pair(
    left: np.ndarray,
    right: np.ndarray,
    fraction: np.ndarray,
    even: np.ndarray,
    odd: np.ndarray,
    share: np.float32,
    add: bool,
    out: np.ndarray,
) -> None:
    """What one pair of taps brings; set or added to `out`, times `share`."""
    e0, e1, e2, e3, e4 = share * even[0], share * even[1], share * even[2], share * even[3], share * even[4]
    o0, o1, o2, o3, o4 = share * odd[0], share * odd[1], share * odd[2], share * odd[3], share * odd[4]
    middle = np.float32(0.5)
    if add:
        for i in range(len(out)):
            g = fraction[i] - middle
            h = g * g
            a = (((e4 * h + e3) * h + e2) * h + e1) * h + e0
            b = ((((o4 * h + o3) * h + o2) * h + o1) * h + o0) * g
            out[i] += a * (right[i] + left[i]) + b * (right[i] - left[i])
    else:
        for i in range(len(out)):
            g = fraction[i] - middle
            h = g * g
            a = (((e4 * h + e3) * h + e2) * h + e1) * h + e0
            b = ((((o4 * h + o3) * h + o2) * h + o1) * h + o0) * g
            out[i] = a * (right[i] + left[i]) + b * (right[i] - left[i])


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _all_finite(bits: np.ndarray) -> bool:
    """Whether floats, given as int32, are all finite: their exponents say so, and whole numbers are compared faster."""
    most = np.int32(0)
    for i in range(len(bits)):
        most = max(most, bits[i] & np.int32(0x7FFFFFFF))
    return bool(most < 0x7F800000)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _clear(row: np.ndarray, coverage: np.ndarray) -> bool:
    """Take out of a row (c, nx) what is not finite; returns whether there was any."""
    found = False
    for i in range(row.shape[1]):
        for c in range(len(row)):
            if not np.isfinite(row[c, i]):
                row[:, i] = 0
                coverage[i] = -1
                found = True
    return found


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _one_by_one(
    plane: np.ndarray,
    bias: np.float32,
    ox: float,
    oy: float,
    share: np.float32,
    first: bool,
    node_x: np.ndarray,
    node_y: np.ndarray,
    j: int,
    i0: int,
    i1: int,
    width: np.ndarray,
    even: np.ndarray,
    odd: np.ndarray,
    corners: np.ndarray,
    room: np.ndarray,
    row: np.ndarray,
    coverage: np.ndarray,
) -> None:
    """One site's part of some pixels of a row, each by its own footprint; outside, coverage is set to 0."""
    my, mx = plane.shape
    wx, wy = np.empty(len(room)), np.empty(len(room))
    for i in range(i0, i1):
        k = i // SPACING
        t = i / SPACING - k
        u = node_x[k] + t * (node_x[k + 1] - node_x[k]) - ox + i
        v = node_y[k] + t * (node_y[k + 1] - node_y[k]) - oy + j
        inside = u >= -_EDGE and v >= -_EDGE and u <= mx - 1 + _EDGE and v <= my - 1 + _EDGE
        value = 0.0
        if inside:
            quads = corners.shape[2] > 0
            if quads:
                r0, c0, h, w = overlaps(
                    corners[0, 0, i] - ox, corners[0, 1, i] - oy, corners[0, 0, i + 1] - ox,
                    corners[0, 1, i + 1] - oy, corners[1, 0, i + 1] - ox, corners[1, 1, i + 1] - oy,
                    corners[1, 0, i] - ox, corners[1, 1, i] - oy, room,
                )  # fmt: skip
                inside = h > 0
            else:
                c0, w = axis_weights(u, width[0, k], even, odd, wx)
                r0, h = axis_weights(v, width[1, k], even, odd, wy)
            if r0 < 0 or c0 < 0 or r0 + h > my or c0 + w > mx:
                if not quads:
                    for q in range(h):
                        for m in range(w):
                            room[q, m] = wy[q] * wx[m]
                value, inside = _at_edge(plane, bias, r0, c0, h, w, room)
            elif quads:
                for q in range(h):
                    for m in range(w):
                        value += room[q, m] * (np.float32(plane[r0 + q, c0 + m]) - bias)
            else:
                for q in range(h):
                    part = 0.0
                    for m in range(w):
                        part += wx[m] * (np.float32(plane[r0 + q, c0 + m]) - bias)
                    value += wy[q] * part
        if not inside:
            coverage[i] = 0
            value = 0.0
        if first:
            row[i] = np.float32(value) * share
        else:
            row[i] += np.float32(value) * share


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _at_edge(
    plane: np.ndarray, bias: np.float32, r0: int, c0: int, h: int, w: int, weight: np.ndarray
) -> tuple[float, bool]:
    """A pixel whose footprint reaches out of the frame: what lies inside stands for all, if it is most."""
    my, mx = plane.shape
    value = total = kept = kept_x = kept_y = 0.0
    for q in range(h):
        for m in range(w):
            x_in = 0 <= c0 + m < mx
            y_in = 0 <= r0 + q < my
            total += weight[q, m]
            kept_x += weight[q, m] * x_in
            kept_y += weight[q, m] * y_in
            if x_in and y_in:
                kept += weight[q, m]
                value += weight[q, m] * (np.float32(plane[r0 + q, c0 + m]) - bias)
    lost = max(abs(total - kept_x), abs(total - kept_y))
    if kept == 0 or not lost <= MOST_LOST * total:
        return 0.0, False
    return value * total / kept, True


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def overlaps(
    x0: float,
    y0: float,
    x1: float,
    y1: float,
    x2: float,
    y2: float,
    x3: float,
    y3: float,
    area: np.ndarray,
) -> tuple[int, int, int, int]:
    """Fill `area` with what a quadrilateral covers of each sample around it (sample k reaches from k - 1/2 to k +
    1/2); returns first row, first column, rows, columns.

    Green's theorem: each edge takes from the sample that it crosses what lies to its right, and from those
    further right all of its height.
    """
    x = (x0 + 0.5, x1 + 0.5, x2 + 0.5, x3 + 0.5)
    y = (y0 + 0.5, y1 + 0.5, y2 + 0.5, y3 + 0.5)
    if not max(max(x) - min(x), max(y) - min(y)) < len(area) - 2:
        return 0, 0, 0, 0  # torn, or too large to be of use
    c0, r0 = int(np.floor(min(x))), int(np.floor(min(y)))
    w, h = int(np.floor(max(x))) - c0 + 1, int(np.floor(max(y))) - r0 + 1
    area[:h, : w + 1] = 0
    total = 0.0
    for e in range(4):
        xa, ya, xb, yb = x[e] - c0, y[e] - r0, x[(e + 1) % 4] - c0, y[(e + 1) % 4] - r0
        total += 0.5 * (xa + xb) * (yb - ya)
        if ya == yb:
            continue
        sign = 1.0 if yb > ya else -1.0
        low, high = min(ya, yb), max(ya, yb)
        slope = (xb - xa) / (yb - ya)
        for r in range(int(low), min(int(high) + 1, h)):
            bottom, top = max(low, float(r)), min(high, r + 1.0)
            if top <= bottom:
                continue
            xs, xe = xa + slope * (bottom - ya), xa + slope * (top - ya)
            left, right = min(max(min(xs, xe), 0.0), float(w)), min(max(max(xs, xe), 0.0), float(w))
            rise = sign * (top - bottom)
            for c in range(int(left), min(int(right) + 1, w)):
                a, b = max(left, float(c)), min(right, c + 1.0)
                part = rise * (b - a) / (right - left) if right > left else rise
                # Heights are summed along the row below: this sample's share now, the rest at the next.
                here = part * (c + 1 - 0.5 * (a + b))
                area[r, c] += here
                area[r, c + 1] += part - here
    sign = -1.0 if total >= 0 else 1.0
    for r in range(h):
        cover = 0.0
        for c in range(w):
            cover += area[r, c]
            area[r, c] = sign * cover
    return r0, c0, h, w


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def multiply(out: np.ndarray, factor: np.ndarray) -> None:
    """Multiply an image (c, ny, nx), in place, by what is given at the nodes."""
    line = np.empty(factor.shape[1])
    for j in range(out.shape[1]):
        _line(factor, j, 1, line)
        for c in range(len(out)):
            row = out[c, j]
            for i in range(len(row)):
                k = i // SPACING
                row[i] *= np.float32(line[k] + (i / SPACING - k) * (line[k + 1] - line[k]))


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def squares(
    offsets: np.ndarray,
    channel: np.ndarray,
    weight: np.ndarray,
    step: int,
    px: np.ndarray,
    py: np.ndarray,
    width: np.ndarray,
    even: np.ndarray,
    odd: np.ndarray,
    quads: bool,
    size: int,
    gi: np.ndarray,
    gj: np.ndarray,
    around: np.ndarray,
    shape: tuple[int, int],
    out: np.ndarray,
) -> None:
    """Sums of squared weights per channel about the nodes (gi, gj) of a mesh, the mean over the pixels `around`."""
    ny, nx = shape
    wx, wy = np.empty(size), np.empty(size)
    room = np.empty((size, size))
    corners = np.empty((2, 2, 4))
    for b in range(len(gj)):
        for a in range(len(gi)):
            count = 0
            out[:, b, a] = 0
            for dj in around:
                for di in around:
                    i = min(max(gi[a] + di, 0.0), nx - 1.0)
                    j = min(max(gj[b] + dj, 0.0), ny - 1.0)
                    x, y = _place(px, i, j) / step, _place(py, i, j) / step
                    if not (abs(x) < 1e7 and abs(y) < 1e7):
                        continue
                    count += 1
                    for s in range(len(offsets)):
                        ox, oy = offsets[s, 0] / step, offsets[s, 1] / step
                        total = 0.0
                        if quads:
                            for n in range(4):
                                ci, cj = i - 0.5 + (n == 1 or n == 2), j - 0.5 + (n > 1)
                                corners[0, 0, n] = _place(px, ci, cj) / step - ox
                                corners[0, 1, n] = _place(py, ci, cj) / step - oy
                            x4, y4 = corners[0, 0], corners[0, 1]
                            _, _, h, w = overlaps(
                                x4[0], y4[0], x4[1], y4[1], x4[2], y4[2], x4[3], y4[3], room
                            )
                            for q in range(h):
                                for m in range(w):
                                    total += room[q, m] ** 2
                        else:
                            k, r = int(i) // SPACING, int(j) // SPACING
                            _, w = axis_weights(x - ox, width[0, r, k], even, odd, wx)
                            _, h = axis_weights(y - oy, width[1, r, k], even, odd, wy)
                            for q in range(h):
                                total += wy[q] ** 2
                            across = 0.0
                            for m in range(w):
                                across += wx[m] ** 2
                            total *= across
                        out[channel[s], b, a] += weight[s] ** 2 * total
            for c in range(len(out)):
                out[c, b, a] = out[c, b, a] / count if count else np.nan


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _place(p: np.ndarray, i: float, j: float) -> float:
    """The map at one place."""
    a, k = min(max(int(j), 0) // SPACING, len(p) - 2), min(max(int(i), 0) // SPACING, p.shape[1] - 2)
    f, t = j / SPACING - a, i / SPACING - k
    low = p[a, k] + t * (p[a, k + 1] - p[a, k])
    high = p[a + 1, k] + t * (p[a + 1, k + 1] - p[a + 1, k])
    return float(low + f * (high - low))


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def slopes_of(px: np.ndarray, py: np.ndarray, spacing: float) -> np.ndarray:
    """Slopes of a map given at nodes (my, mx), `spacing` apart: x along i and along j, y along i and along j,
    (4, my, mx); 1 where they are not known.
    """
    my, mx = px.shape
    slopes = np.empty((4, my, mx))
    for a in range(my):
        above, below = min(a + 1, my - 1), max(a - 1, 0)
        for k in range(mx):
            right, left = min(k + 1, mx - 1), max(k - 1, 0)
            across, along = (above - below) * spacing, (right - left) * spacing
            slopes[0, a, k] = (px[a, right] - px[a, left]) / along
            slopes[1, a, k] = (px[above, k] - px[below, k]) / across
            slopes[2, a, k] = (py[a, right] - py[a, left]) / along
            slopes[3, a, k] = (py[above, k] - py[below, k]) / across
            for n in range(4):
                if not np.isfinite(slopes[n, a, k]):
                    slopes[n, a, k] = 1.0
    return slopes


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def mark(
    i: np.ndarray,
    j: np.ndarray,
    bit: np.ndarray,
    single: np.ndarray,
    slopes: np.ndarray,
    width: np.ndarray,
    radius: np.ndarray,
    strength: np.ndarray,
    bins: int,
    share: np.float32,
    mask: np.ndarray,
    coverage: np.ndarray,
) -> None:
    """Give output pixels that take from a bad native pixel, which lands at (i, j), its bit, and take its share of
    coverage.

    `strength` says, by distance in bins of a sample, how much the kernel takes along one axis: 2 enough for a
    `single` pixel, 1 enough for one of a region. `radius` is how far that can be, in output pixels.
    """
    ny, nx = mask.shape
    far = len(strength) / bins
    for n in range(len(i)):
        i0, j0 = i[n], j[n]
        if not (i0 > -1e6 and j0 > -1e6 and i0 < 1e6 and j0 < 1e6):
            continue
        a = min(max(int(j0) // SPACING, 0), len(radius) - 1)
        k = min(max(int(i0) // SPACING, 0), radius.shape[1] - 1)
        reach = radius[a, k]
        wx, wy = width[0, a, k], width[1, a, k]
        xi, xj, yi, yj = (
            slopes[0, a, k] / wx,
            slopes[1, a, k] / wx,
            slopes[2, a, k] / wy,
            slopes[3, a, k] / wy,
        )
        needed = 2 if single[n] else 1
        for v in range(max(0, int(np.ceil(j0 - reach))), min(ny - 1, int(np.floor(j0 + reach))) + 1):
            for u in range(max(0, int(np.ceil(i0 - reach))), min(nx - 1, int(np.floor(i0 + reach))) + 1):
                dx, dy = abs(xi * (u - i0) + xj * (v - j0)), abs(yi * (u - i0) + yj * (v - j0))
                if dx >= far or dy >= far:
                    continue
                if strength[int(dx * bins)] >= needed and strength[int(dy * bins)] >= needed:
                    mask[v, u] |= bit[n]
                if dx < 1 and dy < 1:
                    part = share * np.float32((1 - dx) * (1 - dy) / (wx * wy))
                    coverage[v, u] = max(np.float32(0), coverage[v, u] - part)

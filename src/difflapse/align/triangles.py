"""Compiled kernels of star matching: neighbours, triangles, their comparison and a quick local proof.

A triangle here is a star (the anchor) and two of its neighbours. With complex positions its shape is
``z = (near - anchor) / (far - anchor)``, |z| <= 1, which no shift, rotation or scale changes; a mirror turns
z into its conjugate, so |Im z| is compared and its sign kept as parity.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_HOPELESS = -3.4
"""Log likelihood ratio below which no more neighbours are asked (Wald's sequential test): the first five miss."""


@njit(cache=True, nogil=True)
def bright_neighbours(x: np.ndarray, y: np.ndarray, n_anchor: int, k: int, slack: float) -> np.ndarray:
    """The k nearest stars, of those brighter or hardly fainter, to each of the brightest `n_anchor` stars.

    Stars are sorted by brightness; a star of rank r looks at ranks below ``slack * r + 3``. The choice
    depends on the local order of brightness only: neither depth, nor scale, nor haze over a part of the frame
    changes it much. Returns (n_anchor, k) int32, nearest first, -1 where there are fewer.
    """
    n = len(x)
    out = np.full((n_anchor, k), -1, np.int32)
    best = np.empty(k)
    for r in range(n_anchor):
        limit = min(n, int(slack * r) + 3)
        count = 0
        for s in range(limit):
            if s == r:
                continue
            d = (x[s] - x[r]) ** 2 + (y[s] - y[r]) ** 2
            if count == k and d >= best[k - 1]:
                continue
            p = count if count < k else k - 1
            while p > 0 and best[p - 1] > d:
                best[p] = best[p - 1]
                out[r, p] = out[r, p - 1]
                p -= 1
            best[p] = d
            out[r, p] = s
            if count < k:
                count += 1
    return out


@njit(cache=True, nogil=True)
def make_triangles(
    x: np.ndarray,
    y: np.ndarray,
    anchors: np.ndarray,
    neighbours: np.ndarray,
    k: int,
    both: float,
    shortest: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Triangles of each anchor with pairs of its first k neighbours.

    Where |z| > 1 - `both` the two sides are about equal and the triangle is listed both ways round. Sides
    shorter than `shortest` px are left out: their shapes are noise. Returns corners (m, 3) int32 as (anchor,
    near, far), shapes (m, 2) as (Re z, |Im z|), and parity (m,) int8, 1 where Im z < 0.
    """
    total = 0
    for sweep in range(2):
        if sweep == 1:
            corners = np.empty((total, 3), np.int32)
            shape = np.empty((total, 2))
            parity = np.empty(total, np.int8)
        m = 0
        for t in range(len(anchors)):
            a = anchors[t]
            for p in range(k):
                u = neighbours[a, p]
                if u < 0:
                    break
                ux, uy = x[u] - x[a], y[u] - y[a]
                du = ux * ux + uy * uy
                if du < shortest * shortest:
                    continue
                for q in range(p + 1, k):
                    v = neighbours[a, q]
                    if v < 0:
                        break
                    vx, vy = x[v] - x[a], y[v] - y[a]
                    dv = vx * vx + vy * vy
                    # Neighbours come nearest first, so |u| <= |v|.
                    ways = 2 if both > 0.0 and np.sqrt(du / dv) > 1.0 - both else 1
                    for w in range(ways):
                        if sweep == 1:
                            if w == 0:
                                re, im = (ux * vx + uy * vy) / dv, (uy * vx - ux * vy) / dv
                                corners[m, 1], corners[m, 2] = u, v
                            else:
                                re, im = (ux * vx + uy * vy) / du, (vy * ux - vx * uy) / du
                                corners[m, 1], corners[m, 2] = v, u
                            corners[m, 0] = a
                            parity[m] = 1 if im < 0.0 else 0
                            shape[m, 0], shape[m, 1] = re, abs(im)
                        m += 1
        total = m
    return corners, shape, parity


@njit(cache=True, nogil=True)
def make_grid(
    x: np.ndarray, y: np.ndarray, x0: float, y0: float, cell: float, nx: int, ny: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sort points into square cells: (start of each cell, (nx * ny + 1,)) and the order of the points."""
    n = len(x)
    start = np.zeros(nx * ny + 1, np.int32)
    where = np.empty(n, np.int32)
    for i in range(n):
        cx = min(nx - 1, max(0, int((x[i] - x0) / cell)))
        cy = min(ny - 1, max(0, int((y[i] - y0) / cell)))
        where[i] = cy * nx + cx
        start[where[i] + 1] += 1
    for c in range(nx * ny):
        start[c + 1] += start[c]
    order = np.empty(n, np.int32)
    fill = start[:-1].copy()
    for i in range(n):
        order[fill[where[i]]] = i
        fill[where[i]] += 1
    return start, order


@njit(cache=True, nogil=True)
def hit(
    px: float,
    py: float,
    tolerance: float,
    x: np.ndarray,
    y: np.ndarray,
    start: np.ndarray,
    order: np.ndarray,
    x0: float,
    y0: float,
    cell: float,
    nx: int,
    ny: int,
) -> bool:
    """Whether a star lies within `tolerance` of a point."""
    lo_x, hi_x = int(np.floor((px - tolerance - x0) / cell)), int(np.floor((px + tolerance - x0) / cell))
    lo_y, hi_y = int(np.floor((py - tolerance - y0) / cell)), int(np.floor((py + tolerance - y0) / cell))
    for cy in range(max(0, lo_y), min(ny - 1, hi_y) + 1):
        for cx in range(max(0, lo_x), min(nx - 1, hi_x) + 1):
            for q in range(start[cy * nx + cx], start[cy * nx + cx + 1]):
                s = order[q]
                if (x[s] - px) ** 2 + (y[s] - py) ** 2 <= tolerance * tolerance:
                    return True
    return False


@njit(cache=True, nogil=True)
def _local_evidence(
    ax: np.ndarray,
    ay: np.ndarray,
    corner_a: np.ndarray,
    neighbours_a: np.ndarray,
    cx: float,
    cy: float,
    alpha_re: float,
    alpha_im: float,
    sign: float,
    bx: np.ndarray,
    by: np.ndarray,
    start: np.ndarray,
    order: np.ndarray,
    box: np.ndarray,
    cell: float,
    nx: int,
    ny: int,
    density: float,
    base: float,
    stretch: float,
) -> float:
    """Log likelihood ratio that an anchor's other neighbours have counterparts where a similarity puts
    them.
    """
    a = corner_a[0]
    evidence = 0.0
    for p in range(neighbours_a.shape[1]):
        s = neighbours_a[a, p]
        if s < 0:
            break
        if s == corner_a[1] or s == corner_a[2]:
            continue
        dx, dy = ax[s] - ax[a], sign * (ay[s] - ay[a])
        qx = cx + alpha_re * dx - alpha_im * dy
        qy = cy + alpha_im * dx + alpha_re * dy
        if qx < box[0] or qy < box[1] or qx > box[2] or qy > box[3]:
            continue
        length = np.sqrt((alpha_re * alpha_re + alpha_im * alpha_im) * (dx * dx + dy * dy))
        tolerance = base + stretch * length
        chance = 1.0 - np.exp(-density * np.pi * tolerance * tolerance)
        if chance > 0.3:
            continue
        if hit(qx, qy, tolerance, bx, by, start, order, box[0], box[1], cell, nx, ny):
            evidence += np.log(0.5 / chance)
        else:
            evidence += np.log(0.5 / (1.0 - chance))
            if evidence < _HOPELESS:
                break
    return evidence


@njit(cache=True, nogil=True)
def compare(
    ax: np.ndarray,
    ay: np.ndarray,
    corners_a: np.ndarray,
    shape_a: np.ndarray,
    parity_a: np.ndarray,
    neighbours_a: np.ndarray,
    bx: np.ndarray,
    by: np.ndarray,
    corners_b: np.ndarray,
    shape_b: np.ndarray,
    parity_b: np.ndarray,
    neighbours_b: np.ndarray,
    grid_a: tuple[np.ndarray, np.ndarray, np.ndarray, float, int, int, float],
    grid_b: tuple[np.ndarray, np.ndarray, np.ndarray, float, int, int, float],
    noise: float,
    bend: float,
    scale_min: float,
    scale_max: float,
    threshold: float,
    most: int,
    budget: int,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Compare all triangles of two lists; keep pairs whose surroundings agree as well.

    `noise` is the error of a position in px, `bend` the relative distortion allowed within a triangle. A grid
    is (start, order, box, cell, nx, ny, density). Returns found (m, 9): evidence, anchor a, anchor b, centre
    b (x, y), alpha (re, im), sign, longest side; their count; and the number of pairs looked at, which is
    what a chance must be multiplied by.
    """
    start_a, order_a, box_a, cell_a, nx_a, ny_a, density_a = grid_a
    start_b, order_b, box_b, cell_b, nx_b, ny_b, density_b = grid_b
    # Shapes of the second list in a grid whose cells are as wide as the widest tolerance.
    width = 0.0
    for i in range(len(shape_a)):
        f = corners_a[i, 2]
        a = corners_a[i, 0]
        width = max(width, noise / np.sqrt((ax[f] - ax[a]) ** 2 + (ay[f] - ay[a]) ** 2))
    width = min(max(4.0 * width + bend, 0.004), 0.04)
    side = int(2.2 / width) + 1
    start, order = make_grid(shape_b[:, 0], shape_b[:, 1], -1.1, 0.0, width, side, side)
    found = np.empty((most, 9))
    evidence_of = np.empty(most)
    count = 0
    tried = 0
    weakest = 0
    for i in range(len(shape_a)):
        if tried > budget:  # crowded lists agree by chance everywhere; brightest anchors came first
            break
        a, u, f = corners_a[i, 0], corners_a[i, 1], corners_a[i, 2]
        fx, fy = ax[f] - ax[a], ay[f] - ay[a]
        long_a = np.sqrt(fx * fx + fy * fy)
        gx, gy = ax[u] - ax[a], ay[u] - ay[a]
        cx0, cy0 = int((shape_a[i, 0] + 1.1) / width), int(shape_a[i, 1] / width)
        for cy in range(max(0, cy0 - 1), min(side - 1, cy0 + 1) + 1):
            for cx in range(max(0, cx0 - 1), min(side - 1, cx0 + 1) + 1):
                for q in range(start[cy * side + cx], start[cy * side + cx + 1]):
                    j = order[q]
                    b, v, g = corners_b[j, 0], corners_b[j, 1], corners_b[j, 2]
                    hx, hy = bx[g] - bx[b], by[g] - by[b]
                    long_b = np.sqrt(hx * hx + hy * hy)
                    scale = long_b / long_a
                    if scale < scale_min or scale > scale_max:
                        continue
                    allowed = min(width, 2.0 * noise * (1.0 / long_a + 1.0 / long_b) + bend)
                    if (shape_a[i, 0] - shape_b[j, 0]) ** 2 + (
                        shape_a[i, 1] - shape_b[j, 1]
                    ) ** 2 > allowed**2:
                        continue
                    tried += 1
                    sign = 1.0 if parity_a[i] == parity_b[j] else -1.0
                    kx, ky = bx[v] - bx[b], by[v] - by[b]
                    # alpha = (B conj(A)) / |A|^2 over both sides, A conjugated first where mirrored.
                    total = fx * fx + fy * fy + gx * gx + gy * gy
                    re = (hx * fx + hy * sign * fy + kx * gx + ky * sign * gy) / total
                    im = (hy * fx - hx * sign * fy + ky * gx - kx * sign * gy) / total
                    norm = re * re + im * im
                    # The centre of the three corners is steadier than the anchor alone.
                    mean_x, mean_y = (fx + gx) / 3.0, sign * (fy + gy) / 3.0
                    ox = bx[b] + (hx + kx) / 3.0 - (re * mean_x - im * mean_y)
                    oy = by[b] + (hy + ky) / 3.0 - (im * mean_x + re * mean_y)
                    unit = np.sqrt(norm)
                    slope = 3.0 * noise / long_b + bend
                    evidence = _local_evidence(
                        ax, ay, corners_a[i], neighbours_a, ox, oy, re, im, sign,
                        bx, by, start_b, order_b, box_b, cell_b, nx_b, ny_b, density_b,
                        3.0 * noise * max(1.0, unit), slope,
                    )  # fmt: skip
                    if evidence < threshold:
                        # The same seen from the other list, whose stars may all be among those of this one.
                        ire, iim = re / norm, (-im if sign > 0 else im) / norm
                        back_x = ax[a] + ire * (bx[b] - ox) - iim * sign * (by[b] - oy)
                        back_y = ay[a] + iim * (bx[b] - ox) + ire * sign * (by[b] - oy)
                        evidence = _local_evidence(
                            bx, by, corners_b[j], neighbours_b, back_x, back_y, ire, iim, sign,
                            ax, ay, start_a, order_a, box_a, cell_a, nx_a, ny_a, density_a,
                            3.0 * noise * max(1.0, 1.0 / unit), slope,
                        )  # fmt: skip
                    if evidence < threshold:
                        continue
                    if count < most:
                        slot = count
                        count += 1
                    else:
                        if evidence <= evidence_of[weakest]:
                            continue
                        slot = weakest
                    evidence_of[slot] = evidence
                    found[slot, 0], found[slot, 1], found[slot, 2] = evidence, a, b
                    found[slot, 3], found[slot, 4] = ox, oy
                    found[slot, 5], found[slot, 6], found[slot, 7] = re, im, sign
                    found[slot, 8] = long_a
                    if count == most:
                        weakest = int(np.argmin(evidence_of))
    return found[:count], evidence_of[:count], tried

"""A comet among the stars: a wide, faint light that moves steadily while all else stands still."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numba
import numpy as np

from difflapse.changes.elsewhere import significance
from difflapse.errors import InputError
from difflapse.measure.order import median
from difflapse.mosaic import bin_image, stack_medians

_GROUPS = 8
"""Frames are added up in so many stretches of the night before trial motions are looked at."""
_REACH = 28
"""Largest motion over the night that is tried, cells of the search."""
_SEARCH_CELLS = 60_000
"""Larger pictures are searched at half their scale."""
_BLOCK = 22.0
"""Side of the blocks whose medians are the background, cells."""
_SEEN = 0.8
"""Cells that fewer of the frames see are left out of the search."""
_LEAST_SCORE = 9.0
"""Of the search, in units of the scatter of the same sum elsewhere; half of nights without a comet reach 8.5, by
their asteroids and edges."""
_LEAST_SNR = 18.0
"""Of all frames together: one of 25 simulated nights had 15.1 without a comet; the faintest found had 22.8."""
_WIDTHS = (1.5, 12.0)
"""Full width at half maximum, cells: what is narrower is a point, what is wider a cloud."""
_STRAYS = 5.0
"""A fit that ends up further from where the search saw light, in cells, is one of something else."""
_PART = (0.4, 2.0)
"""Its light in each third of the night, over the mean: a comet is there all the time."""
_LEAST_ALONE = (10.0, 3.0)
"""Of all frames, and of each half of the night by itself, beside what its surroundings show along the same track: the
edge of a sensor that drifted through a field had 3.7 and 1.1, ridges have up to 9.7; of 25 simulated comets, as faint
as are found, the least had 15 and 5.7."""
_CANDIDATES = 8
_BAND = 24
"""Rows of the sum along a motion that are made for all motions, then the next."""
_REFINED = 6
"""Of the motions that are tried first, the best whose neighbours are tried, too."""
_RADII = np.array([0.0, 1.0, 2.0, 3.0, 4.5, 6.5, 9.0, 12.0])
"""Nodes of the radial profile, cells; it is linear between them, and 0 at the last."""


@dataclass(frozen=True)
class Comet:
    """A steady motion with light on it. Positions are cells of the pictures it was found on, 0-based."""

    time: float
    """When it is at (x, y)."""
    x: float
    y: float
    rate_x: float
    """Cells per unit of time."""
    rate_y: float
    uncertainty: float
    """One sigma of its place at the worst end of the night, cells; noise only."""
    snr: float
    """Of all its light on all pictures."""
    width: float
    """Full width at half maximum, cells."""

    def at(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where it is at some times."""
        since = np.asarray(times, float) - self.time
        return self.x + self.rate_x * since, self.y + self.rate_y * since


def find_comet(pictures: np.ndarray, times: np.ndarray) -> Comet:
    """Find the brightest comet on small pictures of a night that lie on one grid; not for points such as asteroids.

    Parameters
    ----------
    pictures : ndarray, shape (n, ny, nx), float32
        Frames of one brightness, aligned on the stars, each cell the median of the pixels in it, so that stars
        and other points hardly count; NaN where there is nothing. A coma should be 2 to 10 cells wide.
    times : ndarray, shape (n,)
        Their times, increasing, in any unit.

    Returns
    -------
    Comet

    Raises
    ------
    InputError
        Too few pictures, or none that stands out, also from its surroundings, is extended, moves, and is there all
        night, in each half of it by itself: `found` and `needed` of the best candidate.

    Notes
    -----
    What is the same in all pictures is taken off by the mean over time, which takes some of the comet too; the
    same is done to the model, so that nothing is lost but signal to noise. Trial motions are added up over the
    whole picture (synthetic tracking); the best are fitted by least squares: a radial profile that moves
    linearly, 4 parameters for the motion and 7 for the profile. A coma that moves less than its width in the
    whole night can still be found, for it need not clear itself.
    """
    n = len(pictures)
    if n < 4:
        raise InputError(
            f"{n} frames are good enough to look for a comet; 4 are needed", "", {"found": n, "needed": 4}
        )
    data, weight = _residuals(np.asarray(pictures, np.float32))
    times = np.asarray(times, float)
    refused: list[tuple[float, str]] = []
    inner = _inner(weight)
    hidden = weight * inner
    for _ in range(_CANDIDATES):
        score, guess = _search(data, hidden, times)
        if score < _LEAST_SCORE:
            refused.append(
                (
                    score,
                    f"nothing wide moves steadily with more than {score:.1f} sigma; {_LEAST_SCORE:g} are needed",
                )
            )
            break
        found, fault = _fit(data, weight, times, guess, inner)
        if found is not None and not fault:
            return found
        refused.append((score, fault))
        place = guess if found is None else found
        _hide(hidden, place, times)
    score, reason = refused[0]
    raise InputError(
        f"no comet stands out in {n} frames: {reason}",
        "--follow RA,DEC@TIME (twice or more) or an ephemeris says where the target is",
        {"found": round(float(score), 2), "needed": _LEAST_SCORE, "candidates": len(refused)},
    )


def find_again(pictures: np.ndarray, times: np.ndarray, known: Comet) -> Comet | None:
    """Fit a comet that is known already to other pictures of the same sky, as `find_comet` would; not searched for.

    Parameters
    ----------
    pictures, times : ndarray
        As for `find_comet`.
    known : Comet
        Where it was found, in cells of these pictures and the unit of these times.

    Returns
    -------
    Comet or None
        None where these pictures do not bear it out.
    """
    if len(pictures) < 4:
        return None
    data, weight = _residuals(np.asarray(pictures, np.float32))
    found, fault = _fit(data, weight, np.asarray(times, float), known, _inner(weight))
    return None if fault else found


def stands_out(pictures: np.ndarray) -> bool:
    """Whether something wide comes and goes on most pictures (n, ny, nx), so that a search may find a comet.

    An eighth of the search's cost. Clouds pass, too; a comet below 6 sigma on each picture does not.
    """
    data, weight = _residuals(np.stack([bin_image(np.asarray(p, np.float32), 2) for p in pictures]))
    seen = 0
    for rest, w in zip(data, weight, strict=True):
        smooth = cv2.GaussianBlur(rest * np.sqrt(w), (0, 0), 0.8)
        spread = 1.4826 * float(np.median(np.abs(smooth[::2, ::2])))
        seen += bool(smooth.max() > 6 * max(spread, 1e-12))
    return 2 * seen >= len(data)


def coma_light(pictures: np.ndarray, times: np.ndarray, comet: Comet) -> tuple[np.ndarray, np.ndarray]:
    """Fit the light of a comet that was found, colour by colour, on pictures that it was found on.

    Parameters
    ----------
    pictures : ndarray, shape (n, c, ny, nx), float32
        As for `find_comet`, one plane for each colour; all of one background.
    times : ndarray, shape (n,)
        As for `find_comet`.
    comet : Comet
        What was found.

    Returns
    -------
    radii, light : ndarray, shape (m,) and (c, m)
        Cells; surface brightness there in the pictures' unit, linear in between, 0 at the last, nowhere below 0.

    Notes
    -----
    The model and the pictures both lose their mean over time, so that a comet that never clears itself is told
    as brightly as one that does, if less certainly. Weights fall where residuals exceed 3 sigma.
    """
    _, c, ny, nx = pictures.shape
    x, y = comet.at(np.asarray(times, float))
    margin = int(_RADII[-1]) + 6
    x0, x1 = max(0, int(x.min()) - margin), min(nx, int(x.max()) + margin + 1)
    y0, y1 = max(0, int(y.min()) - margin), min(ny, int(y.max()) + margin + 1)
    gy, gx = np.mgrid[y0:y1, x0:x1].astype(float)
    r = np.hypot(gx - x[:, None, None], gy - y[:, None, None])
    m = len(_RADII) - 1
    nodes = [np.interp(r, _RADII, np.eye(m + 1)[i]) for i in range(m)]
    out = np.zeros((c, m + 1))
    for k in range(c):
        data = np.asarray(pictures[:, k, y0:y1, x0:x1], float)
        good = np.isfinite(data)
        width = 1.4826 / np.sqrt(2) * np.nanmedian(np.abs(np.diff(data, axis=0)), axis=0)
        typical = float(np.nanmedian(width))
        w = good / np.maximum(np.nan_to_num(width, nan=typical), 0.7 * typical + 1e-9) ** 2
        data = _without_static(np.where(good, data, 0), w)
        own = w.copy()
        profile = np.zeros(m)
        for _ in range(6):
            a = np.stack([_without_static(b, own).ravel() for b in nodes], axis=1)
            d = _without_static(data, own).ravel()
            normal = (a * own.ravel()[:, None]).T @ a
            normal[np.diag_indices(m)] += 1e-4 * np.trace(normal) / m
            profile = np.linalg.solve(normal, (a * own.ravel()[:, None]).T @ d)
            residual = (d - a @ profile).reshape(data.shape)
            own = w * np.minimum(1.0, 3.0 / np.maximum(np.abs(residual) * np.sqrt(w), 1e-9))
        out[k, :m] = np.maximum(profile, 0)
    return _RADII.copy(), out


def _inner(weight: np.ndarray) -> np.ndarray:
    """Where most pictures know something, (ny, nx) uint8. The search keeps clear of the rest: where frames come and go
    the static part is not the same for all.
    """
    seen = ((weight > 0).mean(axis=0) >= _SEEN).astype(np.uint8)
    return cv2.erode(seen, np.ones((5, 5), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)


def _residuals(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is left of each picture without its static part and its slow gradients, and inverse variances."""
    rest, weight = np.empty_like(pictures), np.empty_like(pictures)
    _less(pictures, stack_medians(pictures), rest)
    for picture, own in zip(pictures, rest, strict=True):
        _take_off_background(picture, own)
    # From one picture to the next: what moves slowly must not pass for noise on its way.
    steps = np.empty((len(rest) - 1, *rest.shape[1:]), np.float32)
    _steps(rest, steps)
    width = np.float32(1.4826 / np.sqrt(2)) * stack_medians(steps)
    everywhere = np.isfinite(pictures).all(axis=0)
    told = width[everywhere] if everywhere.any() else width.reshape(-1)
    usual_width = float(median(told, np.empty_like(told)))
    width = np.maximum(width, np.float32(0.7 * max(usual_width, 1e-6)))
    _weigh(pictures, width, rest, weight)
    return rest, weight


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _less(pictures: np.ndarray, middle: np.ndarray, out: np.ndarray) -> None:
    """Pictures (n, ny, nx) less one; 0 where they are not finite."""
    infinite = np.float32(np.inf)
    for k in range(len(pictures)):
        for j in range(len(middle)):
            row, still, to = pictures[k, j], middle[j], out[k, j]
            for i in range(len(row)):
                to[i] = row[i] - still[i] if abs(row[i]) < infinite else np.float32(0)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _steps(rest: np.ndarray, out: np.ndarray) -> None:
    """Amounts by which each of n pictures differs from the one before, (n - 1, ny, nx)."""
    for k in range(len(out)):
        for j in range(rest.shape[1]):
            before, after, to = rest[k, j], rest[k + 1, j], out[k, j]
            for i in range(len(to)):
                to[i] = abs(after[i] - before[i])


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _weigh(pictures: np.ndarray, width: np.ndarray, rest: np.ndarray, weight: np.ndarray) -> None:
    """Inverse variances, 0 where a picture is not finite; what is left is clipped."""
    infinite, one, twelve = np.float32(np.inf), np.float32(1), np.float32(12)
    for k in range(len(pictures)):
        for j in range(len(width)):
            row, scatter, to, own = pictures[k, j], width[j], weight[k, j], rest[k, j]
            for i in range(len(row)):
                to[i] = one / (scatter[i] * scatter[i]) if abs(row[i]) < infinite else np.float32(0)
                # A satellite or a cosmic ray in one picture.
                limit = twelve * scatter[i]
                own[i] = min(max(own[i], -limit), limit)


def _take_off_background(picture: np.ndarray, rest: np.ndarray) -> None:
    """Take off, in place, what is wider than any coma in what is left of a picture: a spline through medians of large
    blocks.
    """
    ny, nx = picture.shape
    edges = [np.linspace(0, n, max(2, round(n / _BLOCK)) + 1).astype(int) for n in (ny, nx)]
    medians = _block_medians(picture, rest, edges[0], edges[1])
    known = np.isfinite(medians)
    medians = np.where(known, medians, np.median(medians[known]) if known.any() else 0.0)
    centres = []
    for axis in (0, 1):
        centre = 0.5 * (edges[axis][:-1] + edges[axis][1:] - 1)
        centres.append(np.pad(centre, 1, "reflect", reflect_type="odd"))
        pad = [(1, 1) if k == axis else (0, 0) for k in (0, 1)]
        medians = np.pad(medians, pad, "reflect", reflect_type="odd")
    from scipy.interpolate import RectBivariateSpline  # slow to load, and seldom needed

    knots_y, knots_x, factors = RectBivariateSpline(*centres, medians, kx=2, ky=2).tck
    (from_y, down), (from_x, across) = _pieces(ny, knots_y), _pieces(nx, knots_x)
    _take_off(picture, factors.reshape(len(knots_y) - 3, -1), from_y, down, from_x, across, rest)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _pieces(n: int, knots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The quadratic B-splines that are not 0 at 0 to n - 1: the first of three, (n,), and their values, (n, 3)."""
    first, values = np.empty(n, np.int64), np.empty((n, 3))
    k = 2
    for i in range(n):
        while k < len(knots) - 4 and i >= knots[k + 1]:
            k += 1
        # De Boor's recursion, written out.
        a, b, c, d = knots[k - 1], knots[k], knots[k + 1], knots[k + 2]
        low = (c - i) / (c - b)
        left, right = (c - i) / (c - a), (i - b) / (d - b)
        first[i] = k - 2
        values[i, 0] = low * left
        values[i, 1] = low * (1 - left) + (1 - low) * (1 - right)
        values[i, 2] = (1 - low) * right
    return first, values


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _take_off(
    picture: np.ndarray,
    factors: np.ndarray,
    from_y: np.ndarray,
    down: np.ndarray,
    from_x: np.ndarray,
    across: np.ndarray,
    rest: np.ndarray,
) -> None:
    """Take a spline off what is left of a picture, in place, where the picture is finite."""
    infinite = np.float32(np.inf)
    line = np.empty(factors.shape[1])
    for j in range(len(picture)):
        upper, middle, lower = factors[from_y[j]], factors[from_y[j] + 1], factors[from_y[j] + 2]
        for c in range(len(line)):
            line[c] = down[j, 0] * upper[c] + down[j, 1] * middle[c] + down[j, 2] * lower[c]
        row, to = picture[j], rest[j]
        for i in range(len(row)):
            c = from_x[i]
            wide = across[i, 0] * line[c] + across[i, 1] * line[c + 1] + across[i, 2] * line[c + 2]
            to[i] = to[i] - np.float32(wide) if abs(row[i]) < infinite else np.float32(0)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _block_medians(
    picture: np.ndarray, rest: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Median, of each block, of what is left where a picture is finite; NaN where that is less than a fifth of it."""
    out = np.full((len(rows) - 1, len(columns) - 1), np.nan)
    largest = np.diff(rows).max() * np.diff(columns).max()
    values, room = np.empty(largest + 1, np.float32), np.empty(largest + 1, np.float32)
    infinite = np.float32(np.inf)
    for a in range(len(rows) - 1):
        for b in range(len(columns) - 1):
            size = (rows[a + 1] - rows[a]) * (columns[b + 1] - columns[b])
            n = 0
            for j in range(rows[a], rows[a + 1]):
                for i in range(columns[b], columns[b + 1]):
                    values[n] = rest[j, i]
                    n += abs(picture[j, i]) < infinite
            if n and 5 * n >= size:
                out[a, b] = median(values[:n], room)
    return out


def _search(data: np.ndarray, weight: np.ndarray, times: np.ndarray) -> tuple[float, Comet]:
    """The steady motion with the most significant light, and how significant it is.

    Every second motion is tried each way, none by more than half a cell from a tried one at the night's ends; then the
    neighbours of the best few.
    """
    half = data[0].size > _SEARCH_CELLS
    s, w, middle = _stretches(data, weight, times, half)
    fraction = (middle - middle.mean()) / (middle[-1] - middle[0])
    reach = min(_REACH, min(s.shape[1:]) // 2)
    floor = np.float32(0.7 * np.median(w.sum(axis=0)))
    # No motion goes further from the middle of the night than that.
    margin = math.ceil(reach * float(np.abs(fraction).max())) + 1
    padded = [np.pad(v, [(0, 0), (margin, margin), (margin, margin)]) for v in (s, w)]
    tried: dict[tuple[int, int], tuple[float, int]] = {}

    def look(motions: list[tuple[int, int]], every: int) -> None:
        if not motions:
            return
        shifts = np.round(fraction * np.array(motions)[:, :, None]).astype(np.int64)
        top, peak, spread = _add_shifted(padded[0], padded[1], margin, shifts, floor, every)
        for n in np.flatnonzero(spread >= 0):
            tried[motions[n]] = float(top[n]) / max(1.4826 * float(spread[n]), 1e-12), int(peak[n])

    inside = [
        (mx, my)
        for my in range(-reach, reach + 1)
        for mx in range(-reach, reach + 1)
        if 0 < mx * mx + my * my <= reach * reach
    ]
    look(
        [(mx, my) for mx, my in inside if mx % 2 == my % 2 == 0 or max(abs(mx), abs(my)) == 1],
        4 if half else 2,
    )
    best: list[tuple[int, int]] = []
    for motion in sorted(tried, key=lambda motion: -tried[motion][0]):
        if all(max(abs(motion[0] - x), abs(motion[1] - y)) > 2 for x, y in best):
            best.append(motion)
        if len(best) == _REFINED:
            break
    near = [m for m in inside if any(max(abs(m[0] - x), abs(m[1] - y)) <= 1 for x, y in best)]
    tried.clear()
    look(near, 2)
    (mx, my), (score, peak) = max(tried.items(), key=lambda item: item[1][0], default=((0, 0), (-np.inf, 0)))
    y, x = (float(v) for v in np.unravel_index(peak, s.shape[1:]))
    cell, edge = (2.0, 0.5) if half else (1.0, 0.0)
    span = middle[-1] - middle[0]
    guess = Comet(
        float(middle.mean()),
        x * cell + edge,
        y * cell + edge,
        mx * cell / span,
        my * cell / span,
        np.nan,
        np.nan,
        np.nan,
    )
    return score, guess


def _stretches(
    data: np.ndarray, weight: np.ndarray, times: np.ndarray, half: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted light and weight of a few stretches of the night, smoothed to a coma's width, and their times."""
    groups = np.array_split(np.arange(len(data)), min(_GROUPS, len(data)))
    ny, nx = (n // (1 + half) for n in data.shape[1:])
    s, w = np.empty((2, len(groups), ny, nx), np.float32)
    sums = np.empty((2, *data.shape[1:]), np.float32)
    for k, own in enumerate(groups):
        _add_up(data, weight, own[0], own[-1] + 1, sums[0], sums[1])
        for total, out in zip(sums, (s[k], w[k]), strict=True):
            if half:
                cv2.resize(total, (nx, ny), out, interpolation=cv2.INTER_AREA)
            else:
                out[:] = total
    s = s - s.sum(axis=0) / np.maximum(w.sum(axis=0), 1e-12) * w
    sigma = 0.8 if half else 1.6
    s, w = (np.stack([cv2.GaussianBlur(p, (0, 0), sigma) for p in v]).astype(np.float32) for v in (s, w))
    return s, w, np.array([times[g].mean() for g in groups])


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _add_up(data: np.ndarray, weight: np.ndarray, first: int, end: int, s: np.ndarray, w: np.ndarray) -> None:
    """Sums of the weighted light and of the weight of some pictures that follow each other."""
    for j in range(len(s)):
        light, known = s[j], w[j]
        light[:] = 0
        known[:] = 0
        for k in range(first, end):
            row, own = data[k, j], weight[k, j]
            for i in range(len(light)):
                light[i] += row[i] * own[i]
                known[i] += own[i]


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _add_shifted(
    s: np.ndarray, w: np.ndarray, margin: int, shifts: np.ndarray, floor: np.float32, every: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Significance of light that is at (x + dx, y + dy) in each group, for each motion; 0 where too little is known.

    `s` and `w` have a margin of 0; `shifts` (motions, 2, groups) has dx and dy. Returns its highest value for each
    motion, the first cell that has it, and the median amount of what is not 0 in every `every`-th row and column; -1
    where that is less than 50 cells. Rows are added up band by band, so that all motions find them in the
    processor's cache.
    """
    n, ny, nx = len(s), s.shape[1] - 2 * margin, s.shape[2] - 2 * margin
    motions = len(shifts)
    top, peak = np.full(motions, -np.inf, np.float32), np.zeros(motions, np.int64)
    used = np.zeros(motions, np.int64)
    values = np.empty((motions, ((ny - 1) // every + 1) * ((nx - 1) // every + 1) + 1), np.float32)
    row, weight = np.empty(nx, np.float32), np.empty(nx, np.float32)
    for band in range(0, ny, _BAND):
        for m in range(motions):
            dx, dy = shifts[m]
            for y in range(band, min(band + _BAND, ny)):
                row[:] = 0
                weight[:] = 0
                g = 0
                while g + 3 < n:
                    _four(s, g, y + margin, margin, dx, dy, row)
                    _four(w, g, y + margin, margin, dx, dy, weight)
                    g += 4
                while g < n:
                    j, i = y + margin + dy[g], margin + dx[g]
                    light, known = s[g, j, i : i + nx], w[g, j, i : i + nx]
                    for x in range(nx):
                        row[x] += light[x]
                        weight[x] += known[x]
                    g += 1
                sampled = y % every == 0
                if not sampled and not _exceeds(row, weight, floor, top[m]):
                    continue
                highest = np.float32(-np.inf)
                for x in range(nx):
                    v = row[x] / np.sqrt(max(weight[x], floor)) if weight[x] > floor else np.float32(0)
                    row[x] = v
                for x in range(nx):
                    highest = max(highest, row[x])
                if highest > top[m]:
                    top[m] = highest
                    for x in range(nx):
                        if row[x] == highest:
                            peak[m] = y * nx + x
                            break
                if sampled:
                    for x in range(0, nx, every):
                        values[m, used[m]] = abs(row[x])
                        used[m] += row[x] != 0
    spread, room = np.full(motions, -1, np.float32), np.empty(values.shape[1], np.float32)
    for m in range(motions):
        if used[m] >= 50:
            spread[m] = median(values[m, : used[m]], room)
    return top, peak, spread


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _four(s: np.ndarray, g: int, y: int, x: int, dx: np.ndarray, dy: np.ndarray, out: np.ndarray) -> None:
    """Add to a row those of four groups, shifted."""
    n = len(out)
    a = s[g, y + dy[g], x + dx[g] : x + dx[g] + n]
    b = s[g + 1, y + dy[g + 1], x + dx[g + 1] : x + dx[g + 1] + n]
    c = s[g + 2, y + dy[g + 2], x + dx[g + 2] : x + dx[g + 2] + n]
    d = s[g + 3, y + dy[g + 3], x + dx[g + 3] : x + dx[g + 3] + n]
    for i in range(n):
        out[i] = out[i] + a[i] + b[i] + c[i] + d[i]


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _exceeds(row: np.ndarray, weight: np.ndarray, floor: np.float32, top: np.float32) -> bool:
    """Whether some light in a row may be more significant than `top`: without roots, and rather yes than no."""
    if not top > 0:
        return True
    limit = np.float32(0.9999) * top * top
    some = 0
    for x in range(len(row)):
        some += (weight[x] > floor) & (row[x] * abs(row[x]) >= limit * weight[x])
    return some > 0


def _fit(
    data: np.ndarray, weight: np.ndarray, times: np.ndarray, guess: Comet, inner: np.ndarray
) -> tuple[Comet | None, str]:
    """Fit a moving radial profile to the surroundings of a guess; what is wrong with it, empty if nothing."""
    x, y = guess.at(times)
    ny, nx = data.shape[1:]
    margin = int(_RADII[-1])
    x0, x1 = max(0, int(x.min()) - margin), min(nx, int(x.max()) + margin + 1)
    y0, y1 = max(0, int(y.min()) - margin), min(ny, int(y.max()) + margin + 1)
    if x1 - x0 < 5 or y1 - y0 < 5:
        return None, "it leaves the field"
    d = data[:, y0:y1, x0:x1].astype(float)
    w = weight[:, y0:y1, x0:x1].astype(float)
    gy, gx = np.indices(d.shape[1:], dtype=float)
    gx, gy = gx + x0, gy + y0
    d = _without_static(d, w)
    since = times - guess.time
    p = np.array([guess.x, guess.y, guess.rate_x, guess.rate_y])
    m = len(_RADII) - 1
    profile = np.zeros(m)
    own, residual = w.copy(), d.copy()
    error = np.full(4, np.nan)
    for turn in range(25):
        dx = gx - (p[0] + p[2] * since)[:, None, None]
        dy = gy - (p[1] + p[3] * since)[:, None, None]
        r = np.hypot(dx, dy)
        columns = np.empty((m + 4 if turn else m, *r.shape))
        _hats(r.reshape(-1), _RADII, columns[:m].reshape(m, -1))
        if turn:
            slope = np.interp(r + 0.25, _RADII, [*profile, 0]) - np.interp(r - 0.25, _RADII, [*profile, 0])
            slope = np.where(r < 0.25, 0, slope / 0.5) / np.maximum(r, 0.25)
            along_x, along_y = -slope * dx, -slope * dy
            t = since[:, None, None]
            columns[m:] = along_x, along_y, along_x * t, along_y * t
        _less_mean(columns.reshape(*columns.shape[:2], -1), w.reshape(len(w), -1))
        a = columns.reshape(len(columns), -1)
        normal, right = _normal(a, own.reshape(-1), d.reshape(-1))
        # A little stiffness keeps rings that nothing tells about at rest.
        normal[np.diag_indices(m)] += 1e-3 * np.trace(normal[:m, :m]) / m
        try:
            inverse = np.linalg.inv(normal)
        except np.linalg.LinAlgError:
            return None, "its light does not tell how it moves"
        solution = inverse @ right
        profile = solution[:m]
        _left(a[:m], profile, d.reshape(-1), w.reshape(-1), residual.reshape(-1), own.reshape(-1))
        if turn:
            step = np.clip(solution[m:], -1.0, 1.0)
            span = max(np.ptp(since), 1e-12)
            step[2:] = np.clip(solution[m + 2 :], -1.0 / span, 1.0 / span)
            p = p + step
            error = np.sqrt(np.abs(np.diag(inverse)[m:]))
            if np.abs(step[:2]).max() < 1e-3 and np.abs(step[2:]).max() * span < 1e-3:
                break
    gained = float((own * (d**2 - residual**2)).sum())
    snr = float(np.sqrt(max(gained, 0.0)))
    ends = np.abs(since).max()
    px, py, rate_x, rate_y = (float(v) for v in p)
    found = Comet(
        guess.time,
        px,
        py,
        rate_x,
        rate_y,
        float(np.hypot(*np.hypot(error[:2], error[2:] * ends))),
        snr,
        _width(profile),
    )
    light = np.interp(r, _RADII, [*profile, 0])
    fault = _fault(found, guess, d, light, own, times, inner)
    if not fault:
        fault = _alone(significance(data, weight, light, (y0, x0)))
    return found, fault


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _hats(r: np.ndarray, radii: np.ndarray, out: np.ndarray) -> None:
    """For each of m + 1 radii but the last, what is 1 there and falls to 0 at its neighbours, at r (p,): (m, p)."""
    m = len(radii) - 1
    out[:] = 0
    for p in range(len(r)):
        v = r[p]
        if v >= radii[m]:
            continue
        k = 0
        while v >= radii[k + 1]:
            k += 1
        share = (v - radii[k]) / (radii[k + 1] - radii[k])
        out[k, p] = 1 - share
        if k + 1 < m:
            out[k + 1, p] = share


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _less_mean(values: np.ndarray, weight: np.ndarray) -> None:
    """`_without_static` for several of them, (c, n, p), in place, with weights (n, p)."""
    c, n, cells = values.shape
    seen, total = np.zeros(cells), np.empty(cells)
    for k in range(n):
        for p in range(cells):
            seen[p] += weight[k, p]
    for m in range(c):
        total[:] = 0
        for k in range(n):
            row, own = values[m, k], weight[k]
            for p in range(cells):
                total[p] += row[p] * own[p]
        for p in range(cells):
            total[p] /= max(seen[p], 1e-12)
        for k in range(n):
            row = values[m, k]
            for p in range(cells):
                row[p] -= total[p]


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def _normal(a: np.ndarray, weight: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normal equations of columns a (c, p). Summed here: a library wakes threads for them."""
    c = len(a)
    left, right, heavy = np.empty((c, c)), np.empty(c), np.empty(len(d))
    for q in range(c):
        own = a[q]
        total = 0.0
        for p in range(len(d)):
            heavy[p] = own[p] * weight[p]
            total += heavy[p] * d[p]
        right[q] = total
        for r in range(q + 1):
            other = a[r]
            total = 0.0
            for p in range(len(d)):
                total += heavy[p] * other[p]
            left[q, r] = total
            left[r, q] = total
    return left, right


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _left(
    a: np.ndarray, profile: np.ndarray, d: np.ndarray, w: np.ndarray, residual: np.ndarray, own: np.ndarray
) -> None:
    """What a model of columns a (m, p) leaves of d, and weights that fall where that exceeds 4 sigma."""
    residual[:] = d
    for k in range(len(a)):
        share, row = profile[k], a[k]
        for p in range(len(d)):
            residual[p] -= share * row[p]
    for p in range(len(d)):
        own[p] = w[p] * min(1.0, 4.0 / max(abs(residual[p]) * np.sqrt(w[p]), 1e-9))


def _width(profile: np.ndarray) -> float:
    """Full width at half maximum of a radial profile, cells."""
    fine = np.linspace(0, _RADII[-1], 1000)
    values = np.interp(fine, _RADII, [*profile, 0])
    top = values[fine <= 1.0].max()
    below = np.flatnonzero(values < 0.5 * top)
    return float(2 * fine[below[0]]) if top > 0 and len(below) else 0.0


def _fault(
    found: Comet,
    guess: Comet,
    d: np.ndarray,
    light: np.ndarray,
    weight: np.ndarray,
    times: np.ndarray,
    inner: np.ndarray,
) -> str:
    """Why a candidate is no comet; empty if it may be one."""
    x, y = found.at(times)
    ny, nx = inner.shape
    i, j = (np.clip(np.round(v), 0, n - 1).astype(int) for v, n in ((x, nx), (y, ny)))
    inside = (x >= 0) & (y >= 0) & (x <= nx - 1) & (y <= ny - 1) & (inner[j, i] > 0)
    if inside.mean() < 0.8:
        return "the best candidate leaves the common field"
    fx, fy = guess.at(times)
    away = float(np.hypot(x - fx, y - fy).max())
    if away > _STRAYS:
        return f"the best candidate has no place of its own: its fit strays by {away:.0f} cells"
    if not found.snr >= _LEAST_SNR:
        return f"the best candidate has {found.snr:.1f} sigma in all; {_LEAST_SNR:g} are needed"
    if not _WIDTHS[0] <= found.width <= _WIDTHS[1]:
        return (
            f"the best candidate is {found.width:.1f} cells wide; {_WIDTHS[0]:g} to {_WIDTHS[1]:g} are needed"
        )
    moved = float(np.hypot(found.rate_x, found.rate_y) * np.ptp(times))
    if not moved > max(1.0, 5 * found.uncertainty):
        return f"the best candidate moves by {moved:.1f} +- {found.uncertainty:.1f} cells in all"
    thirds = np.array_split(np.arange(len(times)), 3)
    for share in _shares(d, light, weight, thirds):
        if not _PART[0] <= share <= _PART[1]:
            return (
                f"the best candidate has {share:.1f} of its mean light in a third of the night; "
                f"{_PART[0]:g} to {_PART[1]:g} are needed"
            )
    return ""


def _alone(sigmas: np.ndarray) -> str:
    """Why a candidate does not stand out from its surroundings; empty if it does."""
    whole, *halves = (float(v) for v in sigmas)
    if not whole >= _LEAST_ALONE[0]:
        return (
            f"the best candidate has {whole:.1f} sigma beside what its surroundings show along its track; "
            f"{_LEAST_ALONE[0]:g} are needed"
        )
    if not min(halves) >= _LEAST_ALONE[1]:
        return (
            f"the best candidate has {min(halves):.1f} sigma in one half of the night by itself; "
            f"{_LEAST_ALONE[1]:g} are needed"
        )
    return ""


def _shares(d: np.ndarray, light: np.ndarray, weight: np.ndarray, parts: list[np.ndarray]) -> np.ndarray:
    """How bright it is in each part of the night, fitted together, beside the fit to all."""
    columns = []
    for part in parts:
        own = np.zeros_like(light)
        own[part] = light[part]
        columns.append(_without_static(own, weight).ravel())
    a, w = np.stack(columns, axis=1), weight.ravel()
    normal = (a * w[:, None]).T @ a
    return np.asarray(np.linalg.lstsq(normal, (a * w[:, None]).T @ d.ravel(), rcond=None)[0])


def _without_static(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """What is left when the weighted mean over time is taken off."""
    out: np.ndarray = values - (values * weight).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-12)
    return out


def _hide(weight: np.ndarray, place: Comet, times: np.ndarray) -> None:
    """Take what moves along a track out of the search."""
    x, y = place.at(times)
    gy, gx = np.indices(weight.shape[1:])
    for k in range(len(times)):
        weight[k][np.hypot(gx - x[k], gy - y[k]) < 5] = 0

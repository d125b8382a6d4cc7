"""A comet among the stars: a wide, faint light that moves steadily while all else stands still."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numba
import numpy as np

from difflapse.errors import InputError
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
_CANDIDATES = 8
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
        Too few pictures, or none that stands out, is extended, moves, and is there all night: `found` and
        `needed` of the best candidate.

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

    A tenth of the search's cost. Clouds pass, too; a comet below 6 sigma on each picture does not.
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
    good = np.isfinite(pictures)
    rest = np.where(good, pictures - stack_medians(pictures), np.float32(0))
    for k in range(len(rest)):
        rest[k] = np.where(good[k], rest[k] - _background(rest[k], good[k]), 0)
    # From one picture to the next: what moves slowly must not pass for noise on its way.
    width = np.float32(1.4826 / np.sqrt(2)) * stack_medians(np.abs(np.diff(rest, axis=0)))
    everywhere = good.all(axis=0)
    usual_width = float(np.median(width[everywhere])) if everywhere.any() else float(np.median(width))
    width = np.maximum(width, np.float32(0.7 * max(usual_width, 1e-6)))
    weight = np.where(good, 1 / width**2, np.float32(0))
    # A satellite or a cosmic ray in one picture.
    limit = 12 * width
    return np.clip(rest, -limit, limit), weight


def _background(picture: np.ndarray, good: np.ndarray) -> np.ndarray:
    """What is wider than any coma: a spline through medians of large blocks."""
    ny, nx = picture.shape
    edges = [np.linspace(0, n, max(2, round(n / _BLOCK)) + 1).astype(int) for n in (ny, nx)]
    medians = _block_medians(picture, good, edges[0], edges[1])
    known = np.isfinite(medians)
    medians = np.where(known, medians, np.median(medians[known]) if known.any() else 0.0)
    centres = []
    for axis in (0, 1):
        centre = 0.5 * (edges[axis][:-1] + edges[axis][1:] - 1)
        centres.append(np.pad(centre, 1, "reflect", reflect_type="odd"))
        pad = [(1, 1) if k == axis else (0, 0) for k in (0, 1)]
        medians = np.pad(medians, pad, "reflect", reflect_type="odd")
    from scipy.interpolate import RectBivariateSpline  # slow to load, and seldom needed

    spline = RectBivariateSpline(*centres, medians, kx=2, ky=2)
    return np.asarray(spline(np.arange(ny), np.arange(nx)), np.float32)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _block_medians(
    picture: np.ndarray, good: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Median of the good cells of each block; NaN where they are less than a fifth of it."""
    out = np.full((len(rows) - 1, len(columns) - 1), np.nan)
    for a in range(len(rows) - 1):
        for b in range(len(columns) - 1):
            size = (rows[a + 1] - rows[a]) * (columns[b + 1] - columns[b])
            values = np.empty(size, np.float32)
            n = 0
            for j in range(rows[a], rows[a + 1]):
                for i in range(columns[b], columns[b + 1]):
                    if good[j, i]:
                        values[n] = picture[j, i]
                        n += 1
            if n and 5 * n >= size:
                out[a, b] = np.median(values[:n])
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
    out = np.empty(s.shape[1:], np.float32)
    tried: dict[tuple[int, int], tuple[float, int]] = {}

    def look(motions: list[tuple[int, int]], every: int) -> None:
        for mx, my in motions:
            sx, sy = (np.round(fraction * m).astype(np.int64) for m in (mx, my))
            _add_shifted(s, w, sx, sy, floor, out)
            used = out[::every, ::every]
            used = used[used != 0]
            if len(used) >= 50:
                peak = int(np.argmax(out))
                spread = 1.4826 * float(np.median(np.abs(used)))
                tried[mx, my] = float(out.flat[peak]) / max(spread, 1e-12), peak

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
    y, x = (float(v) for v in np.unravel_index(peak, out.shape))
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
    s = np.stack([(data[g] * weight[g]).sum(axis=0) for g in groups])
    w = np.stack([weight[g].sum(axis=0) for g in groups])
    if half:
        size = (s.shape[2] // 2, s.shape[1] // 2)
        s, w = (np.stack([cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in v]) for v in (s, w))
    s = s - s.sum(axis=0) / np.maximum(w.sum(axis=0), 1e-12) * w
    sigma = 0.8 if half else 1.6
    s, w = (np.stack([cv2.GaussianBlur(p, (0, 0), sigma) for p in v]).astype(np.float32) for v in (s, w))
    return s, w, np.array([times[g].mean() for g in groups])


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _add_shifted(
    s: np.ndarray, w: np.ndarray, sx: np.ndarray, sy: np.ndarray, floor: np.float32, out: np.ndarray
) -> None:
    """Significance of light that is at (x + sx[g], y + sy[g]) in group g; 0 where too little is known."""
    n, ny, nx = s.shape
    weight = np.empty(nx, np.float32)
    for y in range(ny):
        row = out[y]
        row[:] = 0
        weight[:] = 0
        for g in range(n):
            yy = y + sy[g]
            if yy < 0 or yy >= ny:
                continue
            a, b = max(0, -sx[g]), min(nx, nx - sx[g])
            to, light = row[a:b], s[g, yy, a + sx[g] : b + sx[g]]
            to_weight, known = weight[a:b], w[g, yy, a + sx[g] : b + sx[g]]
            for x in range(b - a):
                to[x] += light[x]
            for x in range(b - a):
                to_weight[x] += known[x]
        for x in range(nx):
            row[x] = row[x] / np.sqrt(weight[x]) if weight[x] > floor else np.float32(0)


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
    own = w.copy()
    error = np.full(4, np.nan)
    for turn in range(25):
        dx = gx - (p[0] + p[2] * since)[:, None, None]
        dy = gy - (p[1] + p[3] * since)[:, None, None]
        r = np.hypot(dx, dy)
        basis = [_without_static(np.interp(r, _RADII, np.eye(m + 1)[i]), w) for i in range(m)]
        columns = list(basis)
        if turn:
            slope = np.interp(r + 0.25, _RADII, [*profile, 0]) - np.interp(r - 0.25, _RADII, [*profile, 0])
            slope = np.where(r < 0.25, 0, slope / 0.5) / np.maximum(r, 0.25)
            along_x, along_y = -slope * dx, -slope * dy
            t = since[:, None, None]
            columns += [_without_static(c, w) for c in (along_x, along_y, along_x * t, along_y * t)]
        a = np.stack([c.ravel() for c in columns], axis=1)
        normal = (a * own.ravel()[:, None]).T @ a
        # A little stiffness keeps rings that nothing tells about at rest.
        normal[np.diag_indices(m)] += 1e-3 * np.trace(normal[:m, :m]) / m
        right = (a * own.ravel()[:, None]).T @ d.ravel()
        try:
            inverse = np.linalg.inv(normal)
        except np.linalg.LinAlgError:
            return None, "its light does not tell how it moves"
        solution = inverse @ right
        profile = solution[:m]
        model = np.tensordot(profile, np.stack(basis), axes=1)
        residual = d - model
        own = w * np.minimum(1.0, 4.0 / np.maximum(np.abs(residual) * np.sqrt(w), 1e-9))
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
    return found, _fault(found, guess, d, light, own, times, inner)


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

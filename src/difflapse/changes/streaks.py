"""Streaks: lines of any length and direction in one difference, by a fast Radon transform of parts of it."""

from __future__ import annotations

import cv2
import numba
import numpy as np

from difflapse.model import ProductGrid
from difflapse.model.sightings import Sightings

_MOST_CELLS = 600_000
"""Larger differences are smoothed, and looked at every few pixels."""
_BRIGHTEST, _DARKEST = np.float32(6.0), np.float32(-3.0)
"""No cell counts for more, so that one star is no line."""
_SHORTEST = 16
"""Cells along the shortest line."""
_MOST = 10
"""Lines of one frame."""
_REFUSED = 3
"""So many in a row that are none end the search."""
_FIRST = 0.8
"""A line's part within one strip may have this part of the S/N asked of the whole."""
_STARS = 4
"""Bin of starlight from which on a difference is left out."""
_NARROW = 2.0
"""A line is brighter by this than what lies three cells beside it."""
_LIT = 0.3
"""Of a line's parts so many must shine by themselves: a few stars in a row do not; dashes may."""


Line = tuple[float, float, float, float, float, float]
"""x, y of one end, x, y of the other (cells), S/N, share of it that is at least half as bright as its middle part."""


def find_streaks(
    flat: np.ndarray,
    grid: ProductGrid,
    fwhm: float,
    floor: float,
    frame: int = 0,
    light: np.ndarray | None = None,
) -> Sightings:
    """Find bright lines; points are not looked for.

    Parameters
    ----------
    flat : ndarray, shape (ny, nx), float32
        A difference in sigma with no wide structure left, NaN where masked.
    grid : ProductGrid
        Where its pixels lie on the reference.
    fwhm : float
        Of a star, product pixels: a line's width.
    floor : float
        Least S/N of a line as a whole.
    frame : int
        The number that its sightings bear.
    light : ndarray of uint8, shape (ny, nx), optional
        How bright the template is there: stars, on which a difference is not believed, are left out.

    Returns
    -------
    Sightings
        Strongest first, with both ends.

    Notes
    -----
    Sums along all lines that cross strips of 2, 4, 8, ... rows come from those of half the height (a fast Radon
    transform), so that short streaks are found as well as long ones (Nir, Zackay & Ofek 2018, AJ 156, 229). The best
    line is followed to both ends, taken out, and the search is repeated.
    """
    data = np.where(np.isfinite(flat), flat, np.float32(0))
    if light is not None:
        data[light > _STARS] = 0
    size = max(1, int(np.ceil(np.sqrt(data.size / _MOST_CELLS))))
    # Filtered across a line, samples so far apart are nearly independent, and none of its light is lost.
    sigma = max(fwhm, 0.75 * size) / 2.3548
    first = size // 2
    cells = np.ascontiguousarray(cv2.GaussianBlur(data, (0, 0), sigma)[first::size, first::size])
    ny, nx = cells.shape
    scatter = 1.4826 * float(np.median(np.abs(cells[cells != 0]))) if np.any(cells) else 0.0
    if scatter <= 0 or min(ny, nx) < 2 * _SHORTEST:
        return Sightings.empty()
    cells = np.clip(cells / np.float32(scatter), _DARKEST, _BRIGHTEST)
    lines: list[Line] = []
    refused = 0
    for _ in range(_MOST):
        found = _best_line(cells, floor)
        if found is None or refused >= _REFUSED:
            break
        line, believed = found
        if believed:
            lines.append(line)
        refused = 0 if believed else refused + 1
        _erase(cells, line, fwhm / size)
    if not lines:
        return Sightings.empty()
    ends = np.array(_joined(lines))
    x, y = grid.to_native(size * ends[:, 0] + first, size * ends[:, 1] + first)
    x_end, y_end = grid.to_native(size * ends[:, 2] + first, size * ends[:, 3] + first)
    n = len(ends)
    return Sightings(
        np.full(n, frame, np.int32),
        x,
        y,
        ends[:, 4],
        np.full(n, fwhm * grid.step),
        np.zeros(n, np.int32),
        x_end,
        y_end,
        error=np.full(n, 0.5 * size * grid.step),
        sharpness=ends[:, 5],
    )


def _best_line(cells: np.ndarray, floor: float) -> tuple[Line, bool] | None:
    """The line of most significance, followed to its ends, and whether it is one; None where none is left."""
    best: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)
    for turned in (False, True):
        image = np.ascontiguousarray(cells.T) if turned else cells
        score, x0, y0, x1, y1 = _radon(image)
        if score > best[0]:
            best = (score, y0, x0, y1, x1) if turned else (score, x0, y0, x1, y1)
    if best[0] < _FIRST * floor:
        return None
    score, x0, y0, x1, y1 = best
    return _follow(cells, x0, y0, x1, y1, floor)


def _follow(cells: np.ndarray, x0: float, y0: float, x1: float, y1: float, floor: float) -> tuple[Line, bool]:
    """Fit a line through the light along a first guess and follow it both ways until the light ends."""
    ny, nx = cells.shape
    length = float(np.hypot(x1 - x0, y1 - y0))
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    cx, cy = 0.5 * (x0 + x1), 0.5 * (y0 + y1)
    reach = float(np.hypot(nx, ny))
    t = np.arange(-reach, reach + 1)
    half = 0.5 * length
    first, last, profile = -half, half, np.zeros(len(t))
    across = np.arange(-3, 4)
    for _ in range(4):
        px, py = cx + t[:, None] * ux - across * uy, cy + t[:, None] * uy + across * ux
        band = cv2.remap(
            cells,
            px.astype(np.float32),
            py.astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
        )
        on = (t >= first) & (t <= last)
        # Where the line lies across, in two halves of it: its offset and its turn.
        weight = np.maximum(band[on] - 0.5, 0)
        s, total = t[on], weight.sum(axis=1)
        if total.sum() > 0:
            place = (weight * across).sum(axis=1) / np.maximum(total, 1e-6)
            good = total > 0
            a = np.stack([np.ones(good.sum()), s[good]], axis=1) * np.sqrt(total[good])[:, None]
            offset, turn = np.linalg.lstsq(a, place[good] * np.sqrt(total[good]), rcond=None)[0]
            turn = float(np.clip(turn, -0.1, 0.1))
            cx, cy = cx - offset * uy, cy + offset * ux
            ux, uy = ux - turn * uy, uy + turn * ux
            norm = float(np.hypot(ux, uy))
            ux, uy = ux / norm, uy / norm
        profile = band[:, 3]
        first, last = _extent(profile, t, first, last)
    on = (t >= first) & (t <= last)
    own = profile[on]
    # Between the cells noise is smoothed a little: what lies beside the line tells by how much.
    quiet = band[on][:, [0, 1, 5, 6]]
    unit = float(np.clip(1.4826 * np.median(np.abs(quiet - np.median(quiet))), 0.6, 1.5)) if len(own) else 1.0
    score = float(own.sum() / np.sqrt(max(len(own), 1)) / unit)
    inside = (cx + t * ux > -0.5) & (cx + t * ux < nx - 0.5) & (cy + t * uy > -0.5) & (cy + t * uy < ny - 0.5)
    # What stars hide (it is exactly 0) is neither bright nor dark.
    shown = own[own != 0] if np.any(own) else own
    parts = np.array_split(shown, max(4, min(16, len(shown) // 8)))
    lit = np.mean([p.sum() / np.sqrt(max(len(p), 1)) > 1.5 for p in parts])
    span = t[on & inside]
    lo, hi = (float(span[0]), float(span[-1])) if len(span) else (first, last)
    means = np.array([p.mean() for p in np.array_split(shown, max(4, min(40, len(shown) // 8)))])
    steady = float(np.mean(means > 0.5 * np.median(means)))
    line = (cx + lo * ux, cy + lo * uy, cx + hi * ux, cy + hi * uy, score, steady)
    # A cloud's edge is as bright beside the line as on it.
    beside = float(band[on][:, [0, 6]].mean(axis=0).max())
    narrow = float(band[on][:, 2:5].mean()) > _NARROW * beside
    return line, bool(score >= floor and lit >= _LIT and narrow and hi - lo >= _SHORTEST)


def _extent(profile: np.ndarray, t: np.ndarray, first: float, last: float) -> tuple[float, float]:
    """Where the light along a line begins and ends: the stretch whose sum above half its mean is largest."""
    on = (t >= first) & (t <= last)
    level = 0.35 * max(float(np.mean(profile[on])), 0.3)
    gain = profile - level
    # Kadane's largest sum of a stretch.
    best, here, start, ends = -np.inf, 0.0, 0, (int(np.argmax(on)), int(np.argmax(on)))
    for n, value in enumerate(gain):
        if here <= 0:
            here, start = 0.0, n
        here += value
        if here > best:
            best, ends = here, (start, n)
    return float(t[ends[0]]), float(t[ends[1]])


def _erase(cells: np.ndarray, line: Line, fwhm: float) -> None:
    """Take a line out, and its wings."""
    width = max(5, int(np.ceil(6 * fwhm)))
    hide = np.zeros(cells.shape, np.uint8)
    a, b = (round(line[0]), round(line[1])), (round(line[2]), round(line[3]))
    cv2.line(hide, a, b, 1, width)
    cells[hide > 0] = 0


def _joined(
    lines: list[Line],
) -> list[Line]:
    """Parts of one line (dashes, or a line that a star cut) put together."""
    out: list[Line] = []
    for line in sorted(lines, key=lambda v: -v[4]):
        x0, y0, x1, y1, score, lit = line
        for n, (a0, b0, a1, b1, other, shine) in enumerate(out):
            length = np.hypot(a1 - a0, b1 - b0)
            ux, uy = (a1 - a0) / length, (b1 - b0) / length
            away = [abs(-(x - a0) * uy + (y - b0) * ux) for x, y in ((x0, y0), (x1, y1))]
            turn = abs((x1 - x0) * uy - (y1 - y0) * ux) / np.hypot(x1 - x0, y1 - y0)
            if max(away) < 8 and turn < 0.15:
                along = [(x - a0) * ux + (y - b0) * uy for x, y in ((a0, b0), (a1, b1), (x0, y0), (x1, y1))]
                lo, hi = min(along), max(along)
                out[n] = (
                    a0 + lo * ux,
                    b0 + lo * uy,
                    a0 + hi * ux,
                    b0 + hi * uy,
                    float(np.hypot(score, other)),
                    min(lit, shine),
                )
                break
        else:
            out.append(line)
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _radon(image: np.ndarray) -> tuple[float, float, float, float, float]:
    """The most significant line that crosses a strip of 16 rows or more, steeper than 45 degrees: score and ends.

    Level by level: ``now[strip, m + height - 1, x]`` is the sum along a line that enters the strip at column x and
    has moved by m columns where it leaves it.
    """
    ny, nx = image.shape
    height = 1
    now = np.zeros((ny, 1, nx), np.float32)
    for j in range(ny):
        now[j, 0] = image[j]
    best, b_strip, b_move, b_x, b_height = np.float32(0), 0, 0, 0, 1
    while len(now) > 1:
        n, reach = len(now), height - 1
        wide = 2 * height - 1  # largest move of the doubled strip
        new = np.zeros(((n + 1) // 2, 2 * wide + 1, nx), np.float32)
        for s in range(len(new)):
            lone = 2 * s + 1 >= n
            for m in range(-wide, wide + 1):
                # Half of the move in each strip, and one column between them where it is odd.
                part = m // 2 if m >= 0 else -((-m) // 2)
                step = m - 2 * part
                out = new[s, m + wide]
                low = now[2 * s, part + reach]
                if lone:
                    out[:] = low
                    continue
                high = now[2 * s + 1, part + reach]
                shift = part + step
                for x in range(nx):
                    v = low[x]
                    if 0 <= x + shift < nx:
                        v += high[x + shift]
                    out[x] = v
        now = new
        height *= 2
        if height < 16:
            continue
        for s in range(len(now)):
            rows = min(height, ny - s * height)
            if rows < 16:
                continue
            for m in range(now.shape[1]):
                move = m - (height - 1)
                # The line's own noise: a sum of as many cells as it has rows.
                for x in range(nx):
                    score = now[s, m, x] / np.sqrt(np.float32(rows))
                    if score > best and 0 <= x + move < nx:
                        best, b_strip, b_move, b_x, b_height = score, s, move, x, height
    top = min((b_strip + 1) * b_height, ny) - 1
    rows = top - b_strip * b_height
    tilt = b_move * rows / max(b_height - 1, 1)
    return float(best), float(b_x), float(b_strip * b_height), float(b_x + tilt), float(top)

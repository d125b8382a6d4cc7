"""Streaks: lines of any length and direction in one difference, by a fast Radon transform of all of it."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from difflapse.changes import radon
from difflapse.changes.cells import CLIP, Cells, cells_of, halves_of
from difflapse.changes.path import Path, Probes, carried_on, follow, noise_of, probes_of, refine_all, trimmed
from difflapse.model import ProductGrid
from difflapse.model.sightings import Sightings

_MOST_CELLS = 6_000_000
"""Larger differences are looked at every few pixels."""
_LONGEST = 10_000
"""So are those with more pixels along a side: whole sums along it are 16-bit numbers."""
_SHORTEST = 32
"""Cells along the shortest line."""
_FINE = 1_500_000
"""Cells of a picture in which lines are first looked for as it is; in larger ones on 2x2 cells together."""
_AROUND = 15
"""Pixels along the box whose mean a flattened difference lacks."""
_BETWEEN_CELLS = 8 * math.log(2) / 6
"""What sampling between cells adds to the square of a FWHM."""
_PLAIN = 20.0
"""S/N from which on a line's width is measured."""
_WIDTHS = 28.0
"""Length of the shortest line over its width: particles leave shorter ones in a sensor."""
_MOST = 10
"""Lines of one frame."""
_COARSE, _FITTED = 0.62, 0.7
"""Of the S/N asked of the whole, a sum along a broken line through a strip has this part or more, and so has that along
the line which fits best there."""
_LEAVES = (0.0, 0.4, 0.8)
"""How much less is asked of a line that leaves the picture at one end, or at both: chance makes fewer of them."""
_SURE, _AS_GOOD = 4.0, 0.4
"""Sigma above what is asked with which other ends are not tried, and that an end at the edge may cost."""
_CHANCE = 10.0
"""Natural logarithm of how many lines of S/N z chance would make of 1e6 cells, plus z^2 / 2, less 4 log z: measured."""
_LIT = 0.3
"""Of a line's parts so many must shine by themselves: a few stars in a row do not; dashes may."""
_BESIDE = 0.5
"""What lies beside a line has less than this part of its light: a cloud's edge has more."""
_EVEN = 0.6
"""Without its brightest part it must have this part of the S/N asked of it."""
_BETWEEN = 0.5
"""Between the stars a line has this part of the S/N that it should have there."""
_ROUGH = 1.4
"""Scatter of the lines beside one, sigma, from which on it tells the noise: it is known to 12 % or so."""
_MOAT = 12
"""Cells beside a line from which on they tell it: nearer ones hold its wings, and what the mean about them took off."""
_PART = 5.0
"""S/N of the parts that tell whether a line is steady."""
_FASTEST = 14
"""Cells of the shortest period of flashes that is looked for."""
_DEEP, _SHALLOW = 0.6, 0.3
"""Relative amplitude of flashes that must be excluded before a line is called steady, and up to which it still is."""


@dataclass(frozen=True)
class Line:
    """A line on cells: a parabola of small sagitta."""

    x0: float
    y0: float
    x1: float
    y1: float
    """Both ends."""
    snr: float
    steady: float
    """1 less the relative amplitude of its strongest flashes, or the share of its parts that are at least half as
    bright as most, whichever is less; NaN where it is too faint to tell."""
    width: float
    """FWHM, cells."""


def least_snr(pixels: int, fwhm: float, frames: int, false_alarms: float) -> float:
    """S/N of a line that chance does not make: the `floor` of `find_streaks`.

    Parameters
    ----------
    pixels : int
        Of a difference.
    fwhm : float
        Of a star, pixels.
    frames : int
        Differences of a night.
    false_alarms : float
        Lines that chance may make in the night.

    Returns
    -------
    float

    Notes
    -----
    Four numbers make a line (its place, its direction, two ends), so that noise makes ``C n z^4 exp(-z^2 / 2)`` lines
    beyond z sigma in n cells of a star's width. C was measured with the search itself: 1e4 on pictures of white noise,
    and on true differences, whose noise is less even, some 2e4, which is used. Lines that leave the picture at one
    end or both have three numbers, or two, and are asked for less. Each of the three has a third of the false alarms.
    """
    cells = max(pixels, 1) / max(fwhm / 1.4, 1.0) ** 2
    logarithm = _CHANCE + math.log(cells / 1e6 * max(frames, 1) * 3 / max(false_alarms, 1e-9))
    z = 7.0
    for _ in range(20):
        z = math.sqrt(max(2 * (logarithm + 4 * math.log(z)), 16.0))
    return z


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
        Least S/N of a line as a whole (`least_snr`).
    frame : int
        The number that its sightings bear.
    light : ndarray of uint8, shape (ny, nx), optional
        How bright the template is there: stars count by the error that the difference shows at them.

    Returns
    -------
    Sightings
        Strongest first, with both ends.

    Notes
    -----
    Sums along all lines that cross strips of 32, 64, 128, ... rows, up to the whole picture, come from those of half
    the height (a fast Radon transform), so that short streaks are found as well as long ones (Nir, Zackay & Ofek 2018,
    AJ 156, 229). Its lines are broken by half a cell or so, and its ends are the strips'; so its strongest are
    followed to both ends along a smooth path, which wins back what that costs. What is believed is taken out, and the
    search is repeated.
    """
    size = max(
        math.ceil(math.sqrt(flat.size / _MOST_CELLS)),
        math.ceil(max(flat.shape) / _LONGEST),
        round(fwhm / 1.6),
        1,
    )
    first = size // 2
    if -(-(min(flat.shape) - first) // size) < 2 * _SHORTEST:
        return Sightings.empty()
    cells = cells_of(flat, light, fwhm, size)
    if cells is None:
        return Sightings.empty()
    sky = _Sky.of(cells, None if light is None else light[first::size, first::size], fwhm / size, size)
    lines: list[Line] = []
    while len(lines) < _MOST:
        more = _some_lines(sky, floor, _MOST - len(lines))
        lines += more
        if not more:
            break
    if not lines:
        return Sightings.empty()
    ends = np.array([(v.x0, v.y0, v.x1, v.y1, v.snr, v.steady, v.width) for v in _joined(lines)])
    x, y = grid.to_native(size * ends[:, 0] + first, size * ends[:, 1] + first)
    x_end, y_end = grid.to_native(size * ends[:, 2] + first, size * ends[:, 3] + first)
    n = len(ends)
    return Sightings(
        np.full(n, frame, np.int32),
        x,
        y,
        ends[:, 4],
        ends[:, 6] * size * grid.step,
        np.zeros(n, np.int32),
        x_end,
        y_end,
        error=np.full(n, 0.5 * size * grid.step),
        sharpness=ends[:, 5],
    )


@dataclass(frozen=True, eq=False)
class _Sky:
    """A picture that is searched, and what its noise is."""

    picture: np.ndarray
    """(ny, nx) float32, sigma of its cells; 0 where nothing is known."""
    cells: tuple[np.ndarray, np.ndarray]
    """Whole numbers of it, clipped, int8, and the same with rows and columns exchanged; 0 where a line was found."""
    noise: tuple[np.ndarray, np.ndarray]
    """Standard deviation of a sum of these over its root of cells, for slopes from -1 to 1."""
    light: np.ndarray | None
    """(ny, nx) uint8: how bright the template is there; None where nobody knows."""
    fwhm: float
    """Of a line, cells."""
    size: int
    """Pixels along a cell."""
    step: float
    """Of the whole numbers, sigma."""

    @classmethod
    def of(cls, cells: Cells, light: np.ndarray | None, fwhm: float, size: int) -> _Sky:
        """From a picture, how bright the template is there, the width of a line, and the pixels along a cell."""
        both = (cells.upright, cells.turned)
        upright, turned = _probes((cells.picture.shape[0], cells.picture.shape[1]))
        noise = (noise_of(cells.upright, upright), noise_of(cells.turned, turned))
        return cls(cells.picture, both, noise, light, fwhm, size, cells.step)

    def halves(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Its 2x2 cells together, and the same with rows and columns exchanged; None for a small picture."""
        return halves_of(self.cells[0]) if self.picture.size > _FINE else None

    def unit(self, turned: int, lines: np.ndarray) -> np.ndarray:
        """The noise of a sum over its root of cells along lines, rows (any, x0, y0, x1, y1)."""
        slope = (lines[:, 3] - lines[:, 1]) / np.maximum(lines[:, 4] - lines[:, 2], 1.0)
        noise = self.noise[turned]
        return np.interp(slope, np.linspace(-1, 1, len(noise)), noise)


@functools.lru_cache(maxsize=1)
def _probes(shape: tuple[int, int]) -> tuple[Probes, Probes]:
    """Lines that tell the noise of pictures of a shape, and of such turned over: the same for all frames."""
    rng = np.random.default_rng(1)
    return probes_of(shape, 2 * _SHORTEST, rng), probes_of(shape[::-1], 2 * _SHORTEST, rng)


@functools.lru_cache(maxsize=2)
def _probes_of_halves(shape: tuple[int, int]) -> Probes:
    """The same for 2x2 cells together, one way."""
    return probes_of(shape, _SHORTEST, np.random.default_rng(2), 200)


def _of_halves(halves: np.ndarray, floor: float) -> np.ndarray:
    """The strongest lines of a picture, found on 2x2 of its cells together, as `radon.strongest` has them."""
    noise = noise_of(halves, _probes_of_halves((halves.shape[0], halves.shape[1])))
    if not noise.all():
        return np.zeros((0, 5))
    found = radon.strongest(halves, _SHORTEST // 2, noise, _COARSE * floor)
    # The lines go from the first of two rows to the second.
    found[:, 1] = 2 * found[:, 1] + 0.5
    found[:, 3] = 2 * found[:, 3] + 0.5
    found[:, 2] = 2 * found[:, 2]
    found[:, 4] = 2 * found[:, 4] + 1
    return found


def _some_lines(sky: _Sky, floor: float, most: int) -> list[Line]:
    """The strongest lines of a picture, which are erased from its cells."""
    guesses = []
    halves = sky.halves()
    for turned, (cells, noise) in enumerate(zip(sky.cells, sky.noise, strict=True)):
        if not noise.all():
            return []
        hope = 0.93 * _FITTED * floor * float(noise.min())
        if halves:
            found = _of_halves(halves[turned], floor)
            refine_all(cells, found, hope, 2.0)
        else:
            found = radon.strongest(cells, _SHORTEST, noise, _COARSE * floor)
            refine_all(cells, found, hope)
        found[:, 0] /= sky.unit(turned, found)
        guesses.append(np.column_stack([found, np.full(len(found), turned)])[found[:, 0] > _FITTED * floor])
    table = np.concatenate(guesses)
    lines: list[Line] = []
    tried: list[tuple[int, Path]] = []
    for guess in table[np.argsort(-table[:, 0], kind="stable")]:
        turned, cells = int(guess[5]), sky.cells[int(guess[5])]
        if _was_tried(guess, tried):
            continue
        if lines:
            # What was found since is no longer there.
            refine_all(cells, guess[None, :5], 0.0)
            guess[0] /= sky.unit(turned, guess[None])[0]
            if guess[0] < _FITTED * floor:
                continue
        path, asked = _whole(sky, turned, guess, floor)
        tried.append((turned, path))
        if path[5] < asked * _noise(sky, turned, path):
            continue
        path = trimmed(cells, path)
        line, reach = _judged(sky, turned, path, asked)
        if line is not None:
            lines.append(line)
            _erase(sky, turned, path, reach)
            if len(lines) >= most:
                break
    return lines


def _whole(sky: _Sky, turned: int, guess: np.ndarray, floor: float) -> tuple[Path, float]:
    """The path along a guess that exceeds what is asked of it most, and what that is: it ends inside, or leaves."""
    cells = sky.cells[turned]
    unit = float(sky.unit(turned, guess[None])[0])
    inner = follow(cells, int(guess[2]), int(guess[4]), float(guess[1]), float(guess[3]), unit, floor)
    snr = inner[5] / _noise(sky, turned, inner)
    best, asked, margin = inner, floor, snr - floor
    if margin < -_LEAVES[2] - 0.3 or margin > _SURE:
        return best, asked
    for up, down in ((True, True), (True, False), (False, True)):
        wanted = floor - _LEAVES[up + down]
        path = carried_on(cells, inner, up, down, unit, wanted)
        longer = path[5] / _noise(sky, turned, path)
        if longer > snr - _AS_GOOD:
            return path, wanted
        if margin < 0 and longer - wanted > margin:
            best, asked, margin = path, wanted, longer - wanted
    return best, asked


def _noise(sky: _Sky, turned: int, path: Path) -> float:
    """The noise of the sum along a path."""
    y0, y1, xa, xb, _, _, seen = path
    return float(sky.unit(turned, np.array([[0, xa, y0, xb, y1]]))[0]) * math.sqrt(max(seen, 1.0))


def _was_tried(guess: np.ndarray, tried: list[tuple[int, Path]]) -> bool:
    """Whether a guess lies along a line that was followed already: within two cells of it, and not longer."""
    _, xa, y0, xb, y1, turned = guess
    for other, (a, b, left, right, _, _, _) in tried:
        if other != turned or y0 < a - 4 or y1 > b + 4:
            continue
        slope = (right - left) / max(b - a, 1.0)
        if max(abs(left + slope * (y0 - a) - xa), abs(left + slope * (y1 - a) - xb)) < 2:
            return True
    return False


def _judged(sky: _Sky, turned: int, path: Path, floor: float) -> tuple[Line | None, float]:
    """The line along a path, if it is one; and how far to each side it shines, cells."""
    y0, y1, xa, xb = path[:4]
    if math.hypot(y1 - y0, xb - xa) < max(_SHORTEST, _WIDTHS * sky.fwhm):
        return None, 0.0
    far = 80
    band = _band(sky, turned, path, far)
    clipped = np.clip(band, -CLIP, CLIP)
    unit = float(sky.unit(turned, np.array([[0, xa, y0, xb, y1]]))[0]) * sky.step
    own, known = clipped[:, far], band[:, far] != 0
    seen = max(int(known.sum()), 1)
    if seen < _SHORTEST // 2:
        return None, 0.0
    # The noise is what pieces of lines beside it show, sampled alike.
    beside = np.r_[0 : far - _MOAT, far + _MOAT + 1 : 2 * far + 1]
    unit = _local_noise(clipped[:, beside], band[:, beside] != 0) or unit
    across = clipped.sum(axis=0) / (unit * np.sqrt(np.maximum((band != 0).sum(axis=0), 1)))
    # A pattern of the readout, or a cloud, makes all lines of this direction and length uncertain.
    side = across[beside]
    limit = 3 * 1.4826 * float(np.median(np.abs(side - np.median(side))))
    spread = float(np.std(np.clip(side - np.median(side), -limit, limit)))
    trust = spread if spread > _ROUGH else 1.0
    snr = min(path[5] / _noise(sky, turned, path), float(across[far])) / trust
    edges = np.linspace(0, seen, max(4, min(16, seen // 8)) + 1).astype(int)
    shown = own[known]
    parts = np.array([shown[a:b].sum() / (unit * math.sqrt(b - a)) for a, b in pairwise(edges)])
    rest = (parts.sum() - parts.max()) / math.sqrt(len(parts) - 1)
    away = max(5, round(4.5 * sky.fwhm))
    near = max(across[far - away], across[far + away])
    # A dark line has bright ones beside it, for its light is missing in the mean about it.
    dark = float(-across[far - _MOAT : far + _MOAT + 1].min())
    near = max(near, dark - (1 - _BESIDE) * across[far])
    if snr < floor or near > _BESIDE * across[far] or rest < _EVEN * floor or np.mean(parts > 1.5) < _LIT:
        return None, 0.0
    # What stars leave lies on stars only: between them a line is as bright as on them.
    empty = known if sky.light is None else known & (_along(sky, turned, path, sky.light) == 0)
    n = max(int(empty.sum()), 1)
    expected = across[far] * math.sqrt(n / seen)
    if n < _SHORTEST // 4 or own[empty].sum() / (unit * math.sqrt(n)) < _BETWEEN * expected:
        return None, 0.0
    plain = np.array([v[v != 0].mean() if np.any(v) else 0.0 for v in band.T])
    full = plain / unit * np.sqrt(np.maximum((band != 0).sum(axis=0), 1))
    steady = _steadiness(band[:, far], full[far])
    wide = sky.fwhm
    if full[far] > _PLAIN:
        wide = _width(plain, far, sky.fwhm, (xb - xa) / max(y1 - y0, 1.0), _AROUND / sky.size)
    ends = ((xa, y0, xb, y1), (y0, xa, y1, xb))[turned]
    return Line(*ends, max(snr, float(full[far]) / trust), steady, wide), _reach(full, far, sky.fwhm)


def _band(sky: _Sky, turned: int, path: Path, far: int) -> np.ndarray:
    """The picture along a path and beside it, (n, 2 far + 1), 0 outside."""
    y0, y1, xa, xb, bend, _, _ = path
    y = np.arange(y0, y1 + 1)
    u = (y - y0) / max(y1 - y0, 1)
    x = (xa + (xb - xa) * u + 4 * bend * u * (1 - u))[:, None] + np.arange(-far, far + 1)
    maps = x.astype(np.float32), np.broadcast_to(y[:, None], x.shape).astype(np.float32)
    # Erased lines are 0 in the cells only.
    if turned:
        maps = (maps[1], maps[0])
    band = cv2.remap(sky.picture, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    hidden = cv2.remap(sky.cells[0].view(np.uint8), *maps, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    return np.where(hidden == 0, np.float32(0), band)


def _local_noise(values: np.ndarray, known: np.ndarray) -> float:
    """Standard deviation of a sum over its root of cells, from pieces of all columns."""
    starts = np.arange(0, len(values), _SHORTEST)[: max(len(values) // _SHORTEST, 1)]
    sums, cells = (np.add.reduceat(v, starts, axis=0) for v in (values, known.astype(np.float32)))
    sums = (sums / np.sqrt(np.maximum(cells, 1)))[cells > 0.3 * _SHORTEST]
    if len(sums) < 60:
        return 0.0
    return 1.4826 * float(np.median(np.abs(sums - np.median(sums))))


def _along(sky: _Sky, turned: int, path: Path, values: np.ndarray) -> np.ndarray:
    """Values of cells along a path, (n,)."""
    y0, y1, xa, xb, bend, _, _ = path
    y = np.arange(y0, y1 + 1)
    u = (y - y0) / max(y1 - y0, 1)
    x = np.clip(
        np.rint(xa + (xb - xa) * u + 4 * bend * u * (1 - u)), 0, sky.cells[turned].shape[1] - 1
    ).astype(int)
    return np.asarray(values[x, y.astype(int)] if turned else values[y.astype(int), x])


def _steadiness(own: np.ndarray, snr: float) -> float:
    """How steadily a line shines, 0 to 1; NaN where noise would hide flashes."""
    known = own != 0
    shown = own[known]
    middle = float(np.median(shown))
    limit = 4 * 1.4826 * float(np.median(np.abs(shown - middle)))
    flat = np.clip(own, middle - limit, middle + limit)
    mean = float(flat[known].mean())
    # Of noise alone, the power at each period is distributed as exp(-power).
    power = np.abs(np.fft.rfft(np.where(known, flat - mean, 0.0))) ** 2
    power *= (snr / max(mean * len(shown), 1e-6)) ** 2
    own_periods = power[3 : len(own) // _FASTEST + 1]
    limit = math.log(max(len(own_periods), 1) / 3e-3)
    steady = 1.0 if 2 * math.sqrt(limit) < _DEEP * snr and len(own_periods) else math.nan
    if len(own_periods) and own_periods.max() > limit:
        depth = 2 * math.sqrt(own_periods.max()) / snr
        steady = max(0.0, 1 - depth) if depth > _SHALLOW else 1.0
    n = min(int((snr / _PART) ** 2), len(shown) // 8, 60)
    if n < 8:
        return steady
    means = np.array([np.mean(part) for part in np.array_split(shown, n)])
    return float(np.fmin(steady, np.mean(means > 0.5 * np.median(means))))


def _width(across: np.ndarray, far: int, fwhm: float, slope: float, box: float) -> float:
    """FWHM of a line from its profile along a row, by the Gaussian that fits best.

    Its smoothing, the sampling between cells, and the mean of a box that was taken off before are in what is fitted.
    """
    offset = np.arange(-far, far + 1)
    cosine = 1 / math.hypot(1.0, slope)
    best, wide = np.inf, fwhm
    for width in fwhm * np.geomspace(0.6, 8, 60):
        seen = width**2 + max(fwhm, 1.5) ** 2 + _BETWEEN_CELLS * cosine**2
        shape = np.exp(-4 * math.log(2) * (offset * cosine) ** 2 / seen)
        mean = shape
        for length in (box, box * abs(slope)):
            n = max(round(length), 1)
            mean = np.convolve(mean, np.full(n, 1 / n), mode="same")
        shape = shape - mean
        rest = across - shape * (shape @ across) / (shape @ shape)
        if rest @ rest < best:
            best, wide = float(rest @ rest), float(width)
    return wide


def _reach(across: np.ndarray, far: int, fwhm: float) -> float:
    """How far a line shines to its sides: to where it falls below 2.5 sigma of its own, and a width more."""
    sides = np.maximum(across[far::-1], across[far:])
    dark = np.flatnonzero(sides < 2.5)
    return float(dark[0] if len(dark) else far) + max(3.0, 2 * fwhm)


def _erase(sky: _Sky, turned: int, path: Path, reach: float) -> None:
    """Take a line out, and its wings."""
    y0, y1, xa, xb, bend, _, _ = path
    u = np.linspace(-0.01, 1.01, 30)
    x, y = xa + (xb - xa) * u + 4 * bend * u * (1 - u), y0 + (y1 - y0) * u
    hide = np.zeros(sky.picture.shape, np.uint8)
    points = np.stack([y, x] if turned else [x, y], axis=1)
    cv2.polylines(hide, [np.rint(points).astype(np.int32)], False, 1, 2 * math.ceil(reach) + 1)
    sky.cells[0][hide > 0] = 0
    sky.cells[1][cv2.transpose(hide) > 0] = 0


def _joined(lines: list[Line]) -> list[Line]:
    """Parts of one line (dashes, or a line that a star cut) put together."""
    out: list[Line] = []
    for line in sorted(lines, key=lambda v: -v.snr):
        for n, held in enumerate(out):
            length = math.hypot(held.x1 - held.x0, held.y1 - held.y0)
            ux, uy = (held.x1 - held.x0) / length, (held.y1 - held.y0) / length
            ends = [(line.x0 - held.x0, line.y0 - held.y0), (line.x1 - held.x0, line.y1 - held.y0)]
            away = [abs(-x * uy + y * ux) for x, y in ends]
            turn = abs((line.x1 - line.x0) * uy - (line.y1 - line.y0) * ux)
            turn /= math.hypot(line.x1 - line.x0, line.y1 - line.y0)
            if max(away) < 8 and turn < 0.15:
                along = [0.0, length, *(x * ux + y * uy for x, y in ends)]
                lo, hi = min(along), max(along)
                out[n] = Line(
                    held.x0 + lo * ux,
                    held.y0 + lo * uy,
                    held.x0 + hi * ux,
                    held.y0 + hi * uy,
                    math.hypot(line.snr, held.snr),
                    float(np.fmin(line.steady, held.steady)),
                    held.width,
                )
                break
        else:
            out.append(line)
    return out

"""What is written on a night's pictures about its sky and its times: read once from the WCS and the frames."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from difflapse.align.wcs import celestial
from difflapse.errors import AlignError, OptionError
from difflapse.model import ProductGrid
from difflapse.movie.compass import Compass
from difflapse.movie.grid import SkyLine
from difflapse.movie.insets import MOST
from difflapse.movie.layout import Layout
from difflapse.movie.timebar import TimeBar
from difflapse.pipeline.config import RunOptions
from difflapse.pipeline.context import Night
from difflapse.pipeline.crop import parse_position
from difflapse.pipeline.records import Canvas, Reference, Signs, SkyPlace

if TYPE_CHECKING:
    from astropy.wcs import WCS

BEST = "best"
"""The inset that shows the best changes, which are known only when the movie is encoded."""
_DEC_STEPS = (30, 20, 10, 5, 2, 1, 0.5, 1 / 3, 1 / 6, 1 / 12, 1 / 30, 1 / 60, 1 / 120, 1 / 360, 1 / 720)
"""Degrees between lines of declination."""
_RA_STEPS = (10800, 7200, 3600, 1800, 1200, 600, 300, 120, 60, 30, 20, 10, 5, 2, 1)
"""Seconds of time between lines of right ascension."""


def read_signs(night: Night, layout: Layout) -> Signs:
    """Compass, grid, bar and insets of a night.

    Raises
    ------
    OptionError
        A grid or an inset is asked for on the sky, and the reference has no WCS; or an inset lies outside.
    """
    options = night.options
    canvas: Canvas = night.shared("canvas")
    place: SkyPlace = night.shared("sky")
    reference: Reference = night.shared("reference")
    wcs = _wcs(place.wcs_header)
    if options.grid and wcs is None:
        raise OptionError(
            f"a grid is asked for, but the reference frame {reference.facts.file} has no WCS",
            "--solve finds the field on the sky",
        )
    signs = Signs(bar=time_bar(night), insets=_insets(options, wcs, canvas.grid))
    if wcs is None or layout.labels != "full":
        return signs
    return replace(
        signs,
        compass=_compass(wcs, canvas.grid, layout),
        grid=_grid(wcs, canvas.grid) if options.grid else (),
    )


def time_bar(night: Night) -> TimeBar:
    """The night's times, or its frames' numbers where one of them has none."""
    starts = [facts.start_mjd for facts in night.frames if facts.start_mjd is not None]
    if len(starts) < len(night.frames):
        numbers = range(len(night.frames))
        return TimeBar(tuple(float(n) for n in numbers), tuple(n + 0.9 for n in numbers), False)
    ends = [
        start + (facts.exposure_s or 0.0) / 86400 for start, facts in zip(starts, night.frames, strict=True)
    ]
    return TimeBar(tuple(starts), tuple(ends))


def _wcs(header: str) -> WCS | None:
    try:
        return celestial(header) if header else None
    except AlignError:
        return None


def _sky(wcs: WCS, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """RA and Dec, degrees, of native pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ra, dec = wcs.all_pix2world(np.asarray(x, float), np.asarray(y, float), 0)
    return np.asarray(ra), np.asarray(dec)


def _pixels(wcs: WCS, ra: Any, dec: Any) -> np.ndarray:
    """(n, 2) native pixels of places on the sky; NaN where the inverse finds none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x, y = wcs.all_world2pix(np.asarray(ra, float), np.asarray(dec, float), 0, quiet=True)
    return np.column_stack([x, y])


def _middle(grid: ProductGrid) -> tuple[float, float]:
    x, y = grid.to_native((grid.shape[1] - 1) / 2, (grid.shape[0] - 1) / 2)
    return float(x), float(y)


def _compass(wcs: WCS, grid: ProductGrid, layout: Layout) -> Compass | None:
    """Directions and scale in the middle of the picture, from half a pixel's steps: no pole can come between."""
    x, y = _middle(grid)
    ra, dec = _sky(wcs, [x, x + 1, x], [y, y, y + 1])
    east = (np.mod(ra - ra[0] + 180, 360) - 180) * math.cos(math.radians(float(dec[0])))
    north = dec - dec[0]
    jacobian = np.array([[east[1], east[2]], [north[1], north[2]]])  # degrees per native pixel
    if not np.isfinite(jacobian).all() or abs(np.linalg.det(jacobian)) < 1e-18:
        return None
    inverse = np.linalg.inv(jacobian)
    ways = [inverse[:, 1], inverse[:, 0]]
    flipped = [np.array([w[0], -w[1]]) / np.hypot(*w) for w in ways]
    arcsec = 3600 * math.sqrt(abs(float(np.linalg.det(jacobian)))) * layout.step / layout.scale
    n, e = flipped
    return Compass((float(n[0]), float(n[1])), (float(e[0]), float(e[1])), arcsec)


def _grid(wcs: WCS, grid: ProductGrid) -> tuple[SkyLine, ...]:
    """Lines of round right ascension and declination through the picture, some four to eight of each."""
    ny, nx = grid.shape
    i, j = np.meshgrid(np.linspace(-0.5, nx - 0.5, 41), np.linspace(-0.5, ny - 0.5, 41))
    ra, dec = _sky(wcs, *(v.ravel() for v in grid.to_native(i, j)))
    good = np.isfinite(ra) & np.isfinite(dec)
    if good.sum() < 4:
        return ()
    centre, _ = _sky(wcs, *([v] for v in _middle(grid)))
    away = np.mod(ra[good] - float(centre[0]) + 180, 360) - 180
    low, high = float(dec[good].min()), float(dec[good].max())
    left, right = float(away.min()) + float(centre[0]), float(away.max()) + float(centre[0])
    by_ra = next((s for s in _RA_STEPS if (right - left) * 240 / s >= 3.5), _RA_STEPS[-1]) / 240
    by_dec = next((s for s in _DEC_STEPS if (high - low) / s >= 3.0), _DEC_STEPS[-1])
    lines = []
    for n in range(math.ceil(low / by_dec), math.floor(high / by_dec) + 1):
        if abs(n * by_dec) < 90:
            t = np.linspace(left, right, 81)
            lines += _line(wcs, t, np.full(81, n * by_dec), _dec_text(n * by_dec))
    for n in range(math.ceil(left / by_ra), math.floor(right / by_ra) + 1):
        t = np.linspace(low, high, 81)
        lines += _line(wcs, np.full(81, n * by_ra), t, _ra_text(n * by_ra))
    return tuple(lines)


def _line(wcs: WCS, ra: np.ndarray, dec: np.ndarray, label: str) -> list[SkyLine]:
    xy = _pixels(wcs, np.mod(ra, 360), dec)
    xy = xy[np.isfinite(xy).all(axis=1)]
    return (
        [SkyLine(label, tuple((round(float(x), 2), round(float(y), 2)) for x, y in xy))]
        if len(xy) > 1
        else []
    )


def _dec_text(dec: float) -> str:
    sign = "−" if dec < -1e-9 else "+"
    total = round(abs(dec) * 3600)
    d, m, s = total // 3600, total // 60 % 60, total % 60
    return f"{sign}{d}°" + (f"{m:02d}'" if m or s else "") + (f'{s:02d}"' if s else "")


def _ra_text(ra: float) -> str:
    total = round(ra % 360 * 240) % 86400
    h, m, s = total // 3600, total // 60 % 60, total % 60
    return f"{h}h" + (f"{m:02d}m" if m or s else "") + (f"{s:02d}s" if s else "")


def _insets(options: RunOptions, wcs: WCS | None, grid: ProductGrid) -> tuple[tuple[str, float, float], ...]:
    """Label and native pixel of each inset whose place is given."""
    found = []
    for n, text in enumerate(one for one in options.inset if one != BEST):
        a, _, b = text.partition(",")
        try:
            x, y = (float(p.strip().removesuffix("px")) for p in (a, b))
            pixels = b.strip().endswith("px")
        except ValueError:
            pixels = False
        if not pixels:
            if wcs is None:
                raise OptionError(
                    f"--inset is {text!r}, but the reference has no WCS", "give native pixels: 1520,830px"
                )
            ra, dec = parse_position(a, b, "inset")
            x, y = (float(v) for v in _pixels(wcs, [ra], [dec])[0])
        i, j = grid.from_native(x, y)
        ny, nx = grid.shape
        if not (0 <= i < nx and 0 <= j < ny):
            raise OptionError(f"inset {text!r} lies outside the pictures")
        found.append((str(n + 1), x, y))
    if len(found) > MOST:
        raise OptionError(f"{len(found)} insets are asked for; a panel has {MOST} corners")
    return tuple(found)

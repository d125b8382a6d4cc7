"""Align by the celestial WCS of both headers: a grid of positions through the sky, then one cheap
transform.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from difflapse.align.fit import fit_transform
from difflapse.align.match import match_stars_as_is
from difflapse.align.view import AlignOptions, View
from difflapse.errors import AlignError
from difflapse.model import Alignment, FrameFacts, Transform

COARSE = 8.0
"""How far, in px, stars are looked for around a WCS: solutions of order 2 are wrong by 1 to 3 px in the
corners."""

_EXACT = 1e-3
_ROUND_TRIP = 1e-3
_GRID = (21, 15)


def find(frame: View, reference: View, options: AlignOptions) -> Alignment:
    """Align by the headers alone; stars only tell how good that is. See `chain.auto` for a WCS refined on
    stars.

    Parameters
    ----------
    frame, reference : View
        Both need `facts.wcs_header`.
    options : AlignOptions
        `transform` other than ``auto`` or ``polynomial`` asks for the nearest transform of that model.

    Returns
    -------
    Alignment
        `rms_pix` is that of the stars that lie within 8 px of where the headers put them: none was fitted to.

    Raises
    ------
    AlignError
        No celestial WCS, none in common, or one that a polynomial of degree 5 does not follow to 0.001 px.
    """
    transform = map_by_headers(frame.facts, reference.facts, options.transform)
    n, rms, p95 = match_stars_as_is(
        frame.stars, reference.stars, transform, frame.facts.shape, reference.facts.shape, COARSE
    )
    degree = f" of degree {transform.degree}" if transform.model == "polynomial" else ""
    return Alignment(
        transform, "wcs", n, rms, p95, (), f"headers only, {transform.model}{degree}, no star fitted"
    )


def map_by_headers(frame: FrameFacts, reference: FrameFacts, wanted: str = "auto") -> Transform:
    """Native pixels of the frame to those of the reference by their WCS; see `find` for what it raises."""
    if frame.plane and reference.plane and frame.plane[0] == reference.plane[0]:
        return _through_the_plane(frame.plane[1], reference.plane[1], frame.shape, wanted)
    for facts, role in ((frame, "frame"), (reference, "reference")):
        if not facts.wcs_header:
            raise AlignError(
                f"the {role} has no celestial WCS in its header",
                "--align asterism needs none",
                {"found": 0, "needed": 2, "method": "wcs"},
            )
    here, there = celestial(frame.wcs_header), celestial(reference.wcs_header)
    ny, nx = frame.shape
    margin = 0.02
    domain = (-margin * nx, -margin * ny, (1 + margin) * nx - 1, (1 + margin) * ny - 1)
    x, y = _grid_over(domain, *_GRID)
    X, Y = _through_the_sky(here, there, x, y)
    # Between the nodes of the first grid: what a fit there says of the whole.
    inner = (0.0, 0.0, nx - 1.0, ny - 1.0)
    tx, ty = _grid_over(inner, _GRID[0] - 3, _GRID[1] - 2)
    TX, TY = _through_the_sky(here, there, tx, ty)
    good, test = np.isfinite(X) & np.isfinite(Y), np.isfinite(TX) & np.isfinite(TY)
    if good.mean() < 0.9 or test.mean() < 0.9:
        raise AlignError(
            f"{good.mean():.0%} of the frame can be mapped to the reference through the sky; 90% are needed",
            "--align asterism does without WCS",
            {"found": float(good.mean()), "needed": 0.9, "method": "wcs"},
        )
    degrees = [("affine", 1), *(("polynomial", d) for d in range(2, 6))]
    if wanted not in ("auto", "polynomial"):
        degrees = [(wanted, 1)]
    worst = np.inf
    for model, degree in degrees:
        transform = fit_transform(x[good], y[good], X[good], Y[good], None, model, degree, inner)
        fx, fy = transform(tx[test], ty[test])
        worst = float(np.hypot(fx - TX[test], fy - TY[test]).max())
        if worst <= _EXACT or wanted not in ("auto", "polynomial"):
            return replace(transform, domain=inner)
    raise AlignError(
        f"the headers' mapping differs from polynomials by {worst:.3g} px; {_EXACT} px are allowed",
        "--align asterism does without WCS",
        {"found": worst, "needed": _EXACT, "method": "wcs"},
    )


def _through_the_plane(
    here: tuple[float, ...], there: tuple[float, ...], shape: tuple[int, int], wanted: str
) -> Transform:
    """Pixels to pixels by two linear systems of the same axes, such as the Sun's own coordinates: an affine
    transform, or the one of the model wanted that comes nearest.
    """
    a, b = np.eye(3), np.eye(3)
    a[:2], b[:2] = np.reshape(here, (2, 3)), np.reshape(there, (2, 3))
    whole = Transform("affine", np.linalg.inv(b) @ a)
    if wanted in ("auto", "affine", "polynomial"):
        return whole
    domain = (0.0, 0.0, shape[1] - 1.0, shape[0] - 1.0)
    x, y = _grid_over(domain, *_GRID)
    X, Y = whole(x, y)
    return replace(fit_transform(x, y, X, Y, None, wanted, 1, domain), domain=domain)


@lru_cache(maxsize=16)
def celestial(text: str) -> Any:
    """The celestial WCS of a header string; parsing costs milliseconds and the reference's is asked for each
    frame.
    """
    import warnings

    from astropy.io import fits
    from astropy.wcs import WCS, FITSFixedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        try:
            solution = WCS(fits.Header.fromstring(text))
            if solution.naxis > 2 or solution.wcs.lng > solution.wcs.lat:
                solution = solution.celestial  # parsed once more
        except Exception as error:
            raise AlignError(
                f"the header's WCS cannot be read: {error}",
                "--align asterism does without WCS",
                {"found": 0, "needed": 2, "method": "wcs"},
            ) from error
    if not solution.has_celestial:
        raise AlignError(
            "the header's WCS has no celestial axes",
            "--align asterism does without WCS",
            {"found": 0, "needed": 2, "method": "wcs"},
        )
    return solution


def _grid_over(domain: tuple[float, float, float, float], nx: int, ny: int) -> tuple[np.ndarray, np.ndarray]:
    gx, gy = np.meshgrid(np.linspace(domain[0], domain[2], nx), np.linspace(domain[1], domain[3], ny))
    return gx.ravel(), gy.ravel()


def _through_the_sky(here: Any, there: Any, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of one WCS to pixels of another; NaN where the sky or the round trip fails."""
    lon, lat = here.all_pix2world(x, y, 0)
    lon, lat = _same_system(here, there, lon, lat)
    return world_to_pixel(there, lon, lat)


def world_to_pixel(there: Any, lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Invert a WCS, distortions included, and check by the round trip; NaN where it does not come back.

    astropy's own all_world2pix may diverge or settle pixels away (astropy#4761, #11446). Here the distortion
    is inverted by Newton steps whose derivative is measured, on positions brought back to pixels by the
    undistorted core.
    """
    with np.errstate(all="ignore"):
        tx, ty = there.wcs_world2pix(lon, lat, 0)
        px, py = tx.copy(), ty.copy()
        away = np.full(px.shape, np.inf)
        h = 0.5
        for _ in range(12):
            ex, ey = _core(there, px, py)
            dx, dy = tx - ex, ty - ey
            away = np.hypot(dx, dy)
            if not np.any(away > 1e-7):
                break
            ax, ay = _core(there, px + h, py)
            bx, by = _core(there, px, py + h)
            a, b, c, d = (ax - ex) / h, (bx - ex) / h, (ay - ey) / h, (by - ey) / h
            det = a * d - b * c
            px = px + (d * dx - b * dy) / det
            py = py + (a * dy - c * dx) / det
        lost = ~(away < _ROUND_TRIP)
    return np.where(lost, np.nan, px), np.where(lost, np.nan, py)


def _core(there: Any, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixel to sky with distortions, and back without."""
    lon, lat = there.all_pix2world(x, y, 0)
    ux, uy = there.wcs_world2pix(lon, lat, 0)
    return ux, uy


def _same_system(here: Any, there: Any, lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sky positions of one WCS in the coordinates of another; nothing to do where both speak of the same."""
    names = [[str(c)[:4] for c in w.wcs.ctype] + [w.wcs.radesys, w.wcs.equinox] for w in (here, there)]
    if all(str(a) == str(b) for a, b in zip(*names, strict=True)):
        return lon, lat
    from astropy.coordinates import SkyCoord
    from astropy.wcs.utils import wcs_to_celestial_frame

    try:
        sky = SkyCoord(lon, lat, unit="deg", frame=wcs_to_celestial_frame(here)).transform_to(
            wcs_to_celestial_frame(there)
        )
    except Exception as error:
        raise AlignError(
            f"the headers' sky coordinates ({names[0][0]}, {names[1][0]}) have nothing in common: {error}",
            "--align asterism does without WCS",
            {"found": 1, "needed": 2, "method": "wcs"},
        ) from error
    return sky.spherical.lon.deg, sky.spherical.lat.deg

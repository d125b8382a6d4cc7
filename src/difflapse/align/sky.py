"""Where the reference lies on the sky: a TAN-SIP fitted to catalogue stars, or to what many headers say.

Both fits are made on a plane that touches the sky, in steps of about the frame's pixels: there the sky is an image
like any other, and what finds and judges transforms between frames finds and judges this one too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from difflapse.align.fit import fit_transform, grid_points
from difflapse.align.match import match_stars
from difflapse.align.refine import settle
from difflapse.align.view import AlignOptions, View
from difflapse.align.wcs import COARSE, celestial
from difflapse.errors import AlignError
from difflapse.model import Stars, TanSip, Transform
from difflapse.model.transform import powers

Way = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From pixels to pixels, such as a `Transform` or its inverse."""

_MARGIN = 0.02
_EXACT = 0.005
_MAX_INVERSE = 9
_OUTLIER = 4.0
_SLACK = 1.0
"""Px by which headers may differ from their median whatever the others do."""


@dataclass(frozen=True, eq=False)
class SkyFit:
    """A frame's place on the sky, and how well it is known."""

    wcs: TanSip
    n: int
    """Catalogue stars that agree, or headers."""
    rms_pix: float
    """Radial rms of stars held out of the fit, native pixels; of headers about their mean."""
    p95_pix: float
    """95th percentile of the same."""
    refused: tuple[int, ...] = ()
    """Positions, in the list given, of headers that contradict the others."""


@dataclass(frozen=True)
class _Plane:
    """The plane that touches the sky at `centre`, in steps of `scale` degrees; (0, 0) is its lower left corner."""

    centre: tuple[float, float]
    scale: float
    middle: tuple[float, float]
    """Where the centre lies on it."""

    def from_sky(self, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        xi, eta = to_tangent(ra, dec, self.centre)
        # East is to the left of north: so the plane looks like the sky, and the usual frame like it.
        return self.middle[0] - xi / self.scale, self.middle[1] + eta / self.scale


def refine_on_catalogue(
    frame: View, way: Way | None, wcs_header: str, ra_deg: np.ndarray, dec_deg: np.ndarray
) -> SkyFit:
    """Fit a TAN-SIP of the order it needs to the stars of a catalogue; not for finding where a frame looks.

    Parameters
    ----------
    frame : View
        Its stars and its shape are used.
    way : callable or None
        Of arrays x, y: from the pixels of the frame to those that `wcs_header` speaks of; None where they are the same.
    wcs_header : str
        A WCS that is right to about 8 px.
    ra_deg, dec_deg : ndarray, shape (n,), degrees ICRS
        Catalogue stars in and around the field, brighter ones first where that is known.

    Returns
    -------
    SkyFit
        The order, 1 to 5, is the lowest that no higher one beats clearly on stars held out (`fit.choose_model`).

    Raises
    ------
    AlignError
        Too few stars agree, or not well enough; `facts` has `found` and `needed`.
    """
    ny, nx = frame.facts.shape
    domain = (0.0, 0.0, nx - 1.0, ny - 1.0)
    grid = grid_points((-_MARGIN * nx, -_MARGIN * ny, (1 + _MARGIN) * nx, (1 + _MARGIN) * ny), 21)
    x, y = grid.T
    gx, gy = (x, y) if way is None else way(x, y)
    sky = _sky_of(wcs_header, gx, gy)
    plane, shape = _plane_for(sky, float(nx * ny) * (1 + 2 * _MARGIN) ** 2)
    X, Y = plane.from_sky(*sky)
    guess = fit_transform(x, y, X, Y, None, "polynomial", 5, domain)
    X, Y = plane.from_sky(np.asarray(ra_deg, float), np.asarray(dec_deg, float))
    inside = np.isfinite(X) & (X > -0.5) & (Y > -0.5) & (shape[1] - 0.5 > X) & (shape[0] - 0.5 > Y)
    other = View(replace(frame.facts, shape=shape), _as_stars(X[inside], Y[inside]), frame.picture)
    matches = match_stars(frame.stars, other.stars, guess, (ny, nx), shape, coarse=COARSE)
    if len(matches) >= 6:
        # Between frames a stiff model is right unless proven wrong; a lens bends, and towards its corners most. So a
        # richer model has to be sure of itself where there are stars, not in the last corner behind them.
        reach = np.percentile(frame.stars.xy[matches.frame], (5, 95), axis=0)
        matches = replace(matches, common=grid_points((*reach[0], *reach[1])))
    found = settle(frame, other, matches, AlignOptions("wcs"), "wcs", 1.0)
    return SkyFit(_tan_sip(found.transform, plane, (ny, nx)), found.n_matched, found.rms_pix, found.p95_pix)


def combine_headers(headers: Sequence[tuple[str, Transform]], shape: tuple[int, int]) -> SkyFit:
    """Make one TAN-SIP of what the headers of several aligned frames say, leaving out those that contradict.

    Each header is fitted to other stars than the next; their errors average out where they are independent. What
    all share, such as a term that their order lacks, remains.

    Parameters
    ----------
    headers : sequence of (str, Transform)
        A frame's WCS, and its way to the reference.
    shape : (int, int)
        (ny, nx) of the reference.

    Returns
    -------
    SkyFit

    Raises
    ------
    AlignError
        Fewer than 3 headers cover the reference, or not even half of them agree.
    """
    ny, nx = shape
    grid = grid_points((0.0, 0.0, nx - 1.0, ny - 1.0), 15)
    places = {k: _sky_through(text, transform, grid) for k, (text, transform) in enumerate(headers)}
    seen = {k: _unit(*sky) for k, sky in places.items() if sky is not None}
    whole = list(seen)
    if len(whole) < 3:
        raise _disagree(len(whole), 3, "headers cover the whole reference frame")
    units = np.array(list(seen.values()))
    # The plane is laid by the median: one header that is far off must not tilt it.
    middle = np.median(units, 0)
    plane, _ = _plane_for(_angles(middle), float(nx - 1) * (ny - 1))
    flat = np.array([plane.from_sky(*_angles(unit)) for unit in units])
    away = np.sqrt(np.mean(np.sum((flat - np.median(flat, 0)) ** 2, axis=1), axis=1))
    away = np.where(np.isfinite(away), away, np.inf)
    agree = away <= max(_OUTLIER * float(np.median(away)), _SLACK)
    # A median of many that all differ is nobody's.
    if not np.median(away) < COARSE:
        raise _disagree(
            int(np.sum(away < COARSE)), len(whole) // 2 + 1, f"headers agree within {COARSE:g} px"
        )
    mean = flat[agree].mean(0)
    transform = _lowest(grid, mean, (0.0, 0.0, nx - 1.0, ny - 1.0))
    off = np.hypot(*np.moveaxis(flat[agree] - mean, 1, 0))
    return SkyFit(
        _tan_sip(transform, plane, shape),
        int(agree.sum()),
        float(np.sqrt(np.mean(off**2))),
        float(np.percentile(off, 95)),
        tuple(k for k, good in zip(whole, agree, strict=True) if not good),
    )


def to_tangent(
    ra_deg: np.ndarray, dec_deg: np.ndarray, centre: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Gnomonic (xi, eta), degrees east and north of `centre`; NaN on the other half of the sky."""
    a, d, d0 = np.radians(ra_deg - centre[0]), np.radians(dec_deg), np.radians(centre[1])
    cos = np.sin(d0) * np.sin(d) + np.cos(d0) * np.cos(d) * np.cos(a)
    cos = np.where(cos > 1e-3, cos, np.nan)
    xi = np.cos(d) * np.sin(a) / cos
    eta = (np.cos(d0) * np.sin(d) - np.sin(d0) * np.cos(d) * np.cos(a)) / cos
    return np.degrees(xi), np.degrees(eta)


def _sky_of(text: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ICRS degrees of pixels by any celestial WCS."""
    from astropy.coordinates import ICRS, SkyCoord
    from astropy.wcs.utils import wcs_to_celestial_frame

    wcs = celestial(text)
    lon, lat = wcs.all_pix2world(x, y, 0)
    frame = wcs_to_celestial_frame(wcs)
    if isinstance(frame, ICRS):
        return lon, lat
    sky = SkyCoord(lon, lat, unit="deg", frame=frame).icrs
    return sky.ra.deg, sky.dec.deg


def _sky_through(text: str, transform: Transform, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Sky of reference pixels by another frame's header; None where that frame does not cover them."""
    x, y = transform.inverse(*grid.T)
    if not np.all(np.isfinite(x)):
        return None
    domain = transform.domain
    if domain is not None:
        # A header means little outside its frame; a tenth beyond its edge it still bends as it should.
        w, h = 0.1 * (domain[2] - domain[0]), 0.1 * (domain[3] - domain[1])
        inside = (x > domain[0] - w) & (x < domain[2] + w) & (y > domain[1] - h) & (y < domain[3] + h)
        if not np.all(inside):
            return None
    try:
        sky = _sky_of(text, x, y)
    except (AlignError, ValueError):
        return None
    return sky if np.all(np.isfinite(sky)) else None


def _plane_for(sky: tuple[np.ndarray, np.ndarray], area: float) -> tuple[_Plane, tuple[int, int]]:
    """The plane at the middle of a square grid of sky positions that covers `area` pixels, and its (ny, nx)."""
    ra, dec = _angles(np.mean(_unit(*sky), axis=1))
    centre = (float(ra), float(dec))
    side = round(np.sqrt(len(sky[0])))
    xi, eta = (v.reshape(side, side) for v in to_tangent(*sky, centre))
    (xi_y, xi_x), (eta_y, eta_x) = np.gradient(xi), np.gradient(eta)
    cell = float(np.mean(np.abs(xi_x * eta_y - xi_y * eta_x)))
    if not np.isfinite(cell) or cell <= 0:
        raise AlignError("the WCS does not map the frame to a part of the sky", "", {"found": 0, "needed": 1})
    scale = float(np.sqrt(cell * (side - 1) ** 2 / area))
    half = int(np.ceil(1.02 * float(np.max(np.abs([xi, eta]))) / scale))
    return _Plane(centre, scale, (half, half)), (2 * half + 1, 2 * half + 1)


def _lowest(grid: np.ndarray, there: np.ndarray, domain: tuple[float, float, float, float]) -> Transform:
    """The polynomial of the lowest degree that follows smooth positions."""
    x, y = grid.T
    X, Y = there
    for degree in range(1, 6):
        model = "affine" if degree == 1 else "polynomial"
        transform = fit_transform(x, y, X, Y, None, model, degree, domain)
        fx, fy = transform(x, y)
        if np.hypot(fx - X, fy - Y).max() < _EXACT:
            return transform
    raise _disagree(0, 1, "polynomials of degree 5 or less follow the headers")


def _tan_sip(transform: Transform, plane: _Plane, shape: tuple[int, int]) -> TanSip:
    """A transform from pixels to a plane on the sky, as TAN-SIP: the same polynomial, about another origin."""
    ny, nx = shape
    x0, y0 = (float(v) for v in transform.inverse(*plane.middle))
    if not np.isfinite(x0 + y0):
        raise AlignError("the fitted WCS cannot be inverted", "", {"found": 0, "needed": 1})
    degree, size = transform.degree, 0.5 * max(nx, ny)
    grid = grid_points((0.0, 0.0, nx - 1.0, ny - 1.0), 25)
    u, v = grid[:, 0] - x0, grid[:, 1] - y0
    X, Y = transform(*grid.T)
    xi_eta = np.column_stack([plane.middle[0] - X, Y - plane.middle[1]]) * plane.scale
    terms = _fit_powers(u / size, v / size, xi_eta, degree, 1)
    linear = [powers(degree).index(one) for one in ((1, 0), (0, 1))]
    cd = terms[linear].T / size
    bent = np.linalg.solve(cd, terms.T)
    a, b = (_square(row, degree, size, 2) for row in bent)
    U, V = u + _value(a, u, v), v + _value(b, u, v)
    ap, bp = np.zeros((1, 1)), np.zeros((1, 1))
    for order in range(degree, _MAX_INVERSE + 1) if degree > 1 else ():
        back = _fit_powers(U / size, V / size, np.column_stack([u - U, v - V]), order, 0)
        ap, bp = (_square(row, order, size, 0) for row in back.T)
        if np.hypot(U + _value(ap, U, V) - u, V + _value(bp, U, V) - v).max() < _EXACT:
            break
    return TanSip(plane.centre, (x0, y0), cd, a, b, ap, bp)


def _fit_powers(u: np.ndarray, v: np.ndarray, values: np.ndarray, degree: int, lowest: int) -> np.ndarray:
    """Coefficients (terms, columns), in the order of `powers`, of polynomials through values; 0 below `lowest`."""
    columns = powers(degree)
    design = np.column_stack([u**p * v**q for p, q in columns])
    used = [k for k, (p, q) in enumerate(columns) if p + q >= lowest]
    out = np.zeros((len(columns), values.shape[1]))
    out[used] = np.linalg.lstsq(design[:, used], values, rcond=None)[0]
    return out


def _square(row: np.ndarray, degree: int, size: float, lowest: int) -> np.ndarray:
    """Coefficients of scaled powers as a square array of plain ones, terms below `lowest` left out."""
    if degree < lowest:
        return np.zeros((1, 1))
    out = np.zeros((degree + 1, degree + 1))
    for (p, q), value in zip(powers(degree), row, strict=True):
        if p + q >= lowest:
            out[p, q] = value / size ** (p + q)
    return out


def _value(square: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.polynomial.polynomial.polyval2d(u, v, square)


def _as_stars(x: np.ndarray, y: np.ndarray) -> Stars:
    """Catalogue stars as a list like a frame's: sharp and without noise, the brighter ones first."""
    one = np.ones(len(x))
    flux = np.arange(len(x), 0.0, -1.0)
    return Stars(x, y, flux, 1e6 * one, one, flux[None], np.zeros(len(x), bool))


def _unit(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """(3, n) directions."""
    a, d = np.radians(ra), np.radians(dec)
    return np.array([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])


def _angles(unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Degrees of (3, ...) directions of any length."""
    ra = np.degrees(np.arctan2(unit[1], unit[0])) % 360.0
    return ra, np.degrees(np.arctan2(unit[2], np.hypot(unit[0], unit[1])))


def _disagree(found: int, needed: int, what: str) -> AlignError:
    return AlignError(
        f"{found} {what}; {needed} are needed", "--solve asks the stars", {"found": found, "needed": needed}
    )

"""Where the camera looked and where the zenith was, as far as a header, a site and a time tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from difflapse.align.camera import SQUEEZE, Camera
from difflapse.align.joint import Air, Joint, Seen, derivatives
from difflapse.align.wcs import celestial
from difflapse.errors import AlignError
from difflapse.model import FrameFacts

_LOOKED_AT = 30
"""Frames by which zenith and pole are guessed."""
TURN = 2 * np.pi * 1.00273790935
"""Radians that the sky turns in a day."""


def axes_of(facts: FrameFacts) -> tuple[np.ndarray, float] | None:
    """Directions (ICRS) of a frame's +x, +y and middle as rows, and the focal length in px; None without a WCS."""
    if not facts.wcs_header:
        return None
    try:
        solution = celestial(facts.wcs_header)
    except AlignError:
        return None
    ny, nx = facts.shape
    cx, cy = 0.5 * (nx - 1), 0.5 * (ny - 1)
    middle, right, up = _icrs(solution, np.array([cx, cx + 1, cx]), np.array([cy, cy, cy + 1]))
    step = np.array([right - middle, up - middle])
    step -= np.outer(step @ middle, middle)
    if not np.all(np.isfinite(step)):
        return None
    focal = 1.0 / np.sqrt(np.linalg.norm(np.cross(step[0], step[1])))
    # The nearest pair of directions at a right angle: a fitted header's pixels need not be quite square.
    u, _, vt = np.linalg.svd(step, full_matrices=False)
    return np.vstack([u @ vt, middle]), float(focal)


def header_lens(facts: FrameFacts, axes: tuple[np.ndarray, float], degree: int) -> Camera | None:
    """The lens that a frame's WCS describes, as a polynomial of `degree`; None where it cannot be followed."""
    solution = celestial(facts.wcs_header)
    ny, nx = facts.shape
    gx, gy = (g.ravel() for g in np.meshgrid(np.linspace(0, nx - 1, 15), np.linspace(0, ny - 1, 11)))
    seen = _icrs(solution, gx, gy) @ axes[0].T
    camera = Camera.perfect(facts.shape, degree, axes[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        flat = axes[1] * seen[:, :2] / seen[:, 2:]
    if not np.all(np.isfinite(flat)) or np.any(seen[:, 2] < 0.05):
        return None
    basis = camera.basis(gx, gy)
    terms = np.linalg.lstsq(basis, flat, rcond=None)[0]
    # Shift and turn are the frame's own, and so is what the air made of the pixels' shape.
    return replace(camera, coefficients=terms[3:].T)


def air_of(reference: FrameFacts, mjd: np.ndarray, axes: np.ndarray) -> Air | None:
    """Zenith and pole in a frame's axes, and how far the sky has turned at times `mjd`; None without site or time."""
    when, site = reference.mid_mjd, (reference.latitude_deg, reference.longitude_deg)
    if when is None or site[0] is None or site[1] is None or not np.all(np.isfinite(mjd)):
        return None
    from astropy.coordinates import FK5, SkyCoord
    from astropy.time import Time

    # Mean sidereal time (Meeus, Astronomical Algorithms, 2nd ed., chapter 12), UT1 taken as UTC.
    sidereal = 280.46061837 + 360.98564736629 * (when - 51544.5) + site[1]
    of_date = FK5(equinox=Time(when, format="mjd", scale="utc"))
    sky = SkyCoord([sidereal % 360.0, 0.0], [site[0], 90.0], unit="deg", frame=of_date).icrs
    zenith, pole = sky.cartesian.xyz.value.T @ axes.T
    # Seen in a mirrored frame the sky turns the other way.
    return Air(zenith, np.sign(np.linalg.det(axes)) * pole, TURN * (mjd - when))


def strength_of(facts: FrameFacts) -> tuple[float, float]:
    """Expected refraction, 1 at 1010 hPa and 10 C, and its relative error: a mean atmosphere at the site's height."""
    height = facts.elevation_m
    known = height is not None and -500 < height < 9000
    h = height if known and height is not None else 500.0
    pressure, temperature = 1013.25 * np.exp(-h / 8434.0), 288.15 - 0.0065 * h
    return float(pressure / 1010.0 * 283.15 / temperature), 0.06 if known else 0.12


def guess_air(seen: list[Seen], fitted: Joint, home: int, turned: np.ndarray, strength: float) -> list[Air]:
    """Zeniths and poles that would squeeze the frames as a fit without refraction finds them squeezed.

    Refraction at a zenith distance z squeezes a field towards the zenith by 58 arcsec tan**2 z per radian more than
    across; as the sky turns, so do amount and direction, and the whole course of both tells where zenith and pole are.

    Parameters
    ----------
    seen, fitted
        The frames and the fit without refraction.
    home : int
        The reference.
    turned : ndarray, shape (k,), radians
        How far the sky has turned since the reference.
    strength : float
        Of the refraction, see `Camera`.

    Returns
    -------
    list of Air
        The best guess, and its twin on the other side of the field, which squeezes alike; none where nothing
        is squeezed.
    """
    squeeze, error = np.zeros((len(seen), 2)), np.full(len(seen), np.inf)
    camera = fitted.camera
    for k, (s, w, pose) in enumerate(zip(seen, fitted.weights, fitted.poses, strict=True)):
        basis = camera.basis(s.x, s.y)
        r = np.column_stack(camera.look(*camera.straighten(basis), pose)) - fitted.star[s.track]
        n = camera.coefficients.size
        jacobian = derivatives(camera, basis, pose, None, 0)
        jacobian = np.concatenate(
            [jacobian[:, :, n : n + 2] * camera.radius, jacobian[:, :, n + 3 :]], axis=2
        )
        good = (w > 0) & np.isfinite(r).all(axis=1)
        if good.sum() < 20:
            continue
        a = (jacobian[good] * np.sqrt(w[good])[:, None, None]).reshape(-1, 6)
        scale = np.linalg.norm(a, axis=0)
        solution = np.linalg.lstsq(a / scale, (r[good] * np.sqrt(w[good])[:, None]).ravel(), rcond=1e-12)[0]
        squeeze[k] = solution[:2] / scale[:2]
        error[k] = 1.0 / scale[0]
    some = np.flatnonzero(np.isfinite(error))
    if len(some) < 6 or home not in some:
        return []
    # The sky turns evenly: so many frames tell its course as well as all.
    some = np.unique(some[np.linspace(0, len(some) - 1, min(len(some), _LOOKED_AT)).round().astype(int)])
    # Every direction of the pole, every zenith up to 75 degrees away, in steps of some 8 degrees.
    poles, zeniths = _directions(500, -1.0), _directions(180, np.cos(np.radians(75.0)))
    # What grows with the drift may as well be the lens'.
    root = 1.0 / np.maximum(error[some], 1e-7)
    drift = np.column_stack([np.ones(len(some)), fitted.poses[some, :2]]) * root[:, None]
    q, _ = np.linalg.qr(drift / np.linalg.norm(drift, axis=0))

    def rest(values: np.ndarray) -> np.ndarray:
        values = root.reshape(-1, *[1] * (values.ndim - 1)) * values
        return values - np.tensordot(q, np.tensordot(q.T, values, 1), 1)

    wanted = rest(squeeze[some])
    best, least = None, float(np.sum(wanted**2))
    for pole in poles:
        along = zeniths @ pole
        across = np.cross(pole, zeniths)
        c, s_ = np.cos(turned[some])[:, None, None], np.sin(turned[some])[:, None, None]
        z = c * zeniths + s_ * across + (1 - c) * along[:, None] * pole
        bad = (z[:, :, 2] < 0.1).any(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            tx, ty = z[:, :, 0] / z[:, :, 2], z[:, :, 1] / z[:, :, 2]
        made = rest(-0.5 * SQUEEZE * strength * np.stack([tx * tx - ty * ty, 2 * tx * ty], axis=1))
        cost = np.where(bad, np.inf, np.sum((wanted[:, :, None] - made) ** 2, axis=(0, 1)))
        at = int(np.argmin(cost))
        if cost[at] < least:
            best, least = (zeniths[at], pole), cost[at]
    if best is None:
        return []
    zenith, pole = best
    twin = np.array([-1.0, -1.0, 1.0])
    return [Air(zenith * side, pole * side, turned, free=True) for side in (np.ones(3), twin)]


def _directions(n: int, lowest: float) -> np.ndarray:
    """About n directions spread evenly over the sphere down to a height `lowest` of z (Fibonacci's spiral)."""
    z = 1.0 - (np.arange(n) + 0.5) / n * (1.0 - lowest)
    angle = np.pi * (3.0 - np.sqrt(5.0)) * np.arange(n)
    return np.column_stack([np.sqrt(1 - z * z) * np.cos(angle), np.sqrt(1 - z * z) * np.sin(angle), z])


def _icrs(solution: object, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Unit vectors (n, 3), ICRS, of pixels."""
    from astropy.coordinates import SkyCoord
    from astropy.wcs.utils import wcs_to_celestial_frame

    lon, lat = solution.all_pix2world(x, y, 0)  # type: ignore[attr-defined]
    sky = SkyCoord(lon, lat, unit="deg", frame=wcs_to_celestial_frame(solution)).icrs
    return np.asarray(sky.cartesian.xyz.value.T)

"""The reference's WCS in the one form that the page computes with: a tangential projection with polynomials."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np

_DEGREE = 6
_GRID = (29, 23)
GOOD_PIX = 0.05
"""A projection of another kind is told only where the tangential one is within this of it."""


def sky_record(wcs_header: str, shape: tuple[int, int]) -> dict[str, Any] | None:
    """What takes native pixels to the sky and back to a pixel, as plain values.

    Parameters
    ----------
    wcs_header : str
        WCS cards of the reference's native pixels; may be empty.
    shape : (int, int)
        (ny, nx) of the reference.

    Returns
    -------
    dict or None
        ``crval`` (deg ICRS), ``crpix`` (0-based), ``cd`` (2x2, deg per pixel) and ``a``, ``b``: lists of (p, q,
        coefficient), added to u and v before `cd`. TAN and TAN-SIP headers are taken as they are, all others
        are fitted; None without a WCS, or where no polynomial of degree 6 comes within 0.05 pixels.

    References
    ----------
    Shupe et al. 2005, ASP Conf. Ser. 347, 491 (SIP); Calabretta & Greisen 2002, doi:10.1051/0004-6361:20021327.
    """
    from astropy.io import fits
    from astropy.wcs import WCS

    if not wcs_header:
        return None
    header = fits.Header.fromstring(wcs_header)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wcs = WCS(header)
    if not wcs.has_celestial:
        return None
    plain = [str(header.get(f"CTYPE{i}", "")) for i in (1, 2)]
    exact = (
        plain in (["RA---TAN", "DEC--TAN"], ["RA---TAN-SIP", "DEC--TAN-SIP"])
        and str(header.get("RADESYS", "ICRS")).strip() in ("ICRS", "FK5")
        and header.get("EQUINOX", 2000.0) == 2000.0
        and header.get("LONPOLE", 180.0) == 180.0
        and not any(re.match(r"PV\d_\d", key) for key in header)
    )
    return _own(wcs, plain[0].endswith("SIP")) if exact else _fitted(wcs, shape)


def _own(wcs: Any, bent: bool) -> dict[str, Any]:
    """A TAN or TAN-SIP header's terms."""
    return {
        "crval": wcs.wcs.crval.tolist(),
        "crpix": (wcs.wcs.crpix - 1).tolist(),
        "cd": wcs.pixel_scale_matrix.tolist(),
        "a": _terms(wcs.sip.a) if bent and wcs.sip is not None else [],
        "b": _terms(wcs.sip.b) if bent and wcs.sip is not None else [],
    }


def _fitted(wcs: Any, shape: tuple[int, int]) -> dict[str, Any] | None:
    """The tangential projection at the image's centre that is nearest to any celestial WCS."""
    ny, nx = shape
    crpix = np.array([(nx - 1) / 2, (ny - 1) / 2])
    x, y = (
        g.ravel() for g in np.meshgrid(np.linspace(0, nx - 1, _GRID[0]), np.linspace(0, ny - 1, _GRID[1]))
    )
    places = wcs.celestial.pixel_to_world(np.append(x, crpix[0]), np.append(y, crpix[1])).icrs
    ra, dec = np.radians(places.ra.deg), np.radians(places.dec.deg)
    ra0, dec0 = ra[-1], dec[-1]
    if not np.isfinite(ra).all() or not np.isfinite(dec).all():
        return None
    ra, dec = ra[:-1] - ra0, dec[:-1]
    height = np.sin(dec) * np.sin(dec0) + np.cos(dec) * np.cos(dec0) * np.cos(ra)
    if height.min() < 0.1:  # the tangent plane ends at 90 degrees
        return None
    xi = np.degrees(np.cos(dec) * np.sin(ra) / height)
    eta = np.degrees((np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * np.cos(ra)) / height)
    size = max(nx, ny) / 2
    powers = [(p, q) for p in range(_DEGREE + 1) for q in range(_DEGREE + 1 - p)]
    u, v = (x - crpix[0]) / size, (y - crpix[1]) / size
    design = np.stack([u**p * v**q for p, q in powers], axis=1)
    fit = np.linalg.lstsq(design, np.stack([xi, eta], axis=1), rcond=None)[0]
    terms = {power: fit[n] / size ** sum(power) for n, power in enumerate(powers)}
    cd = np.stack([terms[1, 0], terms[0, 1]], axis=1)
    inverse = np.linalg.inv(cd)
    if np.abs((design @ fit - np.stack([xi, eta], axis=1)) @ inverse.T).max() > GOOD_PIX:
        return None
    bent = {power: inverse @ value for power, value in terms.items() if sum(power) != 1}
    return {
        "crval": [float(np.degrees(ra0)), float(np.degrees(dec0))],
        "crpix": crpix.tolist(),
        "cd": cd.tolist(),
        "a": [(p, q, float(value[0])) for (p, q), value in bent.items()],
        "b": [(p, q, float(value[1])) for (p, q), value in bent.items()],
    }


def _terms(square: np.ndarray) -> list[tuple[int, int, float]]:
    return [(p, q, float(value)) for (p, q), value in np.ndenumerate(square) if value]

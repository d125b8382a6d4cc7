"""Writing a frame the way a PANOPTES unit does: its cards, its plate solution, RICE in HDU 1."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from difflapse.synth.geometry import Geometry, Site, local_sidereal_deg, sky_angles, unit_vectors


@dataclass(frozen=True)
class PlateSolution:
    """How well the header's WCS is known: an order-2 TAN-SIP fitted to a few stars."""

    stars: int = 28
    noise_pix: float = 0.25
    """Error of each star's position, each axis."""


@dataclass(frozen=True)
class Stamp:
    """What the unit's computer and camera say about a frame."""

    start: datetime
    exposure_s: float
    sequence: datetime
    """When the sequence began."""
    skew_s: float
    unit: str
    camera: str
    field: str
    mosaic: str


def write_frame(
    path: Path,
    pixels: np.ndarray,
    stamp: Stamp,
    site: Site,
    geometry: Geometry,
    axis: tuple[np.ndarray, np.ndarray],
    plate: PlateSolution | None,
    rng: np.random.Generator,
) -> None:
    """Write uint16 `pixels` as a RICE-compressed image in HDU 1; `axis` is RA and Dec of the optical axis."""
    from astropy.io import fits

    header = fits.Header()
    for key, value, comment in _cards(stamp, site, geometry, axis, rng):
        header[key] = (value, comment)
    if plate is not None:
        for key, value in plate_solution(geometry, plate, rng):
            header[key] = value
    image = fits.CompImageHDU(pixels, header, compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path, overwrite=True)


def plate_solution(
    geometry: Geometry, plate: PlateSolution, rng: np.random.Generator
) -> list[tuple[str, str | int | float]]:
    """FITS cards of an order-2 TAN-SIP fitted to noisy star positions scattered over the frame.

    The lens has a cubic term, which no order-2 polynomial holds: the corners stay off even without noise.
    """
    ny, nx = geometry.shape
    # One star per cell of a jittered grid: a solver's stars cover the frame, but not evenly.
    across = max(2, int(np.ceil(np.sqrt(plate.stars * nx / ny))))
    down = max(2, -(-plate.stars // across))
    cells = rng.permutation(across * down)[: plate.stars]
    x = ((cells % across) + rng.random(len(cells))) * nx / across - 0.5
    y = ((cells // across) + rng.random(len(cells))) * ny / down - 0.5
    ra, dec = geometry.pixel_to_sky(x, y)
    crpix = np.array([0.5 * (nx - 1), 0.5 * (ny - 1)])
    u = x + rng.normal(0.0, plate.noise_pix, len(x)) - crpix[0]
    v = y + rng.normal(0.0, plate.noise_pix, len(y)) - crpix[1]
    terms = np.column_stack([np.ones_like(u), u, v, u * u, u * v, v * v])
    crval = np.array(geometry.pixel_to_sky(*crpix))
    for _ in range(3):  # the constant term moves CRVAL until it vanishes
        fit = np.linalg.lstsq(terms, np.column_stack(_tangent(ra, dec, crval)), rcond=None)[0]
        crval = np.array(_from_tangent(fit[0, 0], fit[0, 1], crval))
    cd = fit[1:3].T
    a, b = np.linalg.solve(cd, fit[3:].T)
    gx, gy = (
        g.ravel() for g in np.meshgrid(np.linspace(-0.5, 0.5, 20) * nx, np.linspace(-0.5, 0.5, 20) * ny)
    )
    fx = gx + a[0] * gx**2 + a[1] * gx * gy + a[2] * gy**2
    fy = gy + b[0] * gx**2 + b[1] * gx * gy + b[2] * gy**2
    back = np.column_stack([np.ones_like(fx), fx, fy, fx * fx, fx * fy, fy * fy])
    inverse = np.linalg.lstsq(back, np.column_stack([gx - fx, gy - fy]), rcond=None)[0]
    cards: list[tuple[str, str | int | float]] = [
        ("WCSAXES", 2),
        ("CTYPE1", "RA---TAN-SIP"),
        ("CTYPE2", "DEC--TAN-SIP"),
        ("EQUINOX", 2000.0),
        ("LONPOLE", 180.0),
        ("LATPOLE", 0.0),
        ("CRVAL1", float(crval[0])),
        ("CRVAL2", float(crval[1])),
        ("CRPIX1", float(crpix[0] + 1)),
        ("CRPIX2", float(crpix[1] + 1)),
        ("CUNIT1", "deg"),
        ("CUNIT2", "deg"),
        ("CD1_1", float(cd[0, 0])),
        ("CD1_2", float(cd[0, 1])),
        ("CD2_1", float(cd[1, 0])),
        ("CD2_2", float(cd[1, 1])),
        ("IMAGEW", nx),
        ("IMAGEH", ny),
    ]
    for name, second in (("A", a), ("B", b)):
        cards.append((f"{name}_ORDER", 2))
        cards += [
            (f"{name}_{p}_{q}", float(c)) for (p, q), c in zip(((2, 0), (1, 1), (0, 2)), second, strict=True)
        ]
    order = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
    for name, column in (("AP", 0), ("BP", 1)):
        cards.append((f"{name}_ORDER", 2))
        cards += [(f"{name}_{p}_{q}", float(c)) for (p, q), c in zip(order, inverse[:, column], strict=True)]
    return cards


def _cards(
    stamp: Stamp,
    site: Site,
    geometry: Geometry,
    axis: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> list[tuple[str, Any, str]]:
    """The cards POCS writes, in its order, with its units inside strings."""
    middle_mjd = (stamp.start - datetime(1858, 11, 17)).total_seconds() / 86400.0
    ra, dec = float(axis[0]), float(axis[1])
    zenith_distance = float(geometry.zenith_distance_deg(ra, dec))
    hour_angle = ((local_sidereal_deg(middle_mjd, site.longitude_deg) - ra) / 15.0 + 12.0) % 24.0 - 12.0
    moon = unit_vectors((middle_mjd * 13.1764 + 218.3) % 360.0, 0.0)  # a mean Moon is good enough for a card
    separation = np.degrees(np.arccos(np.clip(moon @ unit_vectors(ra, dec), -1, 1)))
    local = stamp.start + timedelta(seconds=stamp.exposure_s, hours=site.utc_offset_h)
    sequence = f"{stamp.unit}_{stamp.camera}_{stamp.sequence:%Y%m%dT%H%M%S}"
    return [
        ("ISO", 100, ""),
        ("EXPTIME", stamp.exposure_s, "Seconds"),
        ("CAMTEMP", f"{int(17 + rng.integers(-1, 2))} C", "Celsius - From CR2"),
        ("CIRCCONF", "0.019 mm", "From CR2"),
        ("COLORTMP", int(5400 + rng.integers(-40, 40)), "From CR2"),
        ("DATE-OBS", (stamp.start + timedelta(seconds=stamp.skew_s)).isoformat(timespec="seconds"), ""),
        ("FILENAME", f"{stamp.start:%Y%m%dT%H%M%S}.cr2", "From CR2"),
        ("INTSN", "HA0028608", "From CR2"),
        ("CAMSN", "012070048413", "From CR2"),
        ("MEASEV", -3.62, "From CR2"),
        *([("MEASRGGB", "471 1024 1024 733", "From CR2")] if stamp.mosaic else []),
        ("WHTLVLN", 11765, "From CR2"),
        ("WHTLVLS", 12277, "From CR2"),
        ("REDBAL", 2.015625, "From CR2"),
        ("BLUEBAL", 1.490234, "From CR2"),
        ("IMAGEID", f"{stamp.unit}_{stamp.camera}_{stamp.start:%Y%m%dT%H%M%S}", ""),
        ("SEQID", sequence, ""),
        ("FIELD", stamp.field, ""),
        ("RA-MNT", round(ra, 5), "Degrees"),
        ("HA-MNT", hour_angle, "Degrees"),
        ("DEC-MNT", round(dec, 6), "Degrees"),
        ("AIRMASS", float(1.0 / np.cos(np.radians(min(zenith_distance, 88.0)))), "Sec(z)"),
        *_mosaic_cards(stamp.mosaic),
        ("LAT-OBS", site.latitude_deg, "Degrees"),
        ("LONG-OBS", site.longitude_deg, "Degrees"),
        ("ELEV-OBS", site.elevation_m, "Meters"),
        ("MOONSEP", float(separation), "Degrees"),
        ("MOONFRAC", 0.94, ""),
        ("DATE", local.isoformat(timespec="seconds"), "local time"),
        ("INSTRUME", stamp.camera, "Camera ID"),
        ("OBSERVER", stamp.unit, "PANOPTES Unit ID"),
        ("ORIGIN", "difflapse.synth", "simulated: no photon ever met this camera"),
    ]


def _mosaic_cards(mosaic: str) -> list[tuple[str, Any, str]]:
    """PANOPTES says RGGB, seen from the bottom left: GBRG in array order. Others name theirs."""
    if not mosaic:
        return [("FILTER", "V", "")]
    named = [] if mosaic == "GBRG" else [("BAYERPAT", mosaic, "array order"), ("ROWORDER", "TOP-DOWN", "")]
    return [("FILTER", "RGGB", ""), *named]


def _tangent(ra: np.ndarray, dec: np.ndarray, crval: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gnomonic (xi, eta) in degrees about `crval`, east and north positive."""
    a, d = np.radians(ra - crval[0]), np.radians(dec)
    d0 = np.radians(crval[1])
    c = np.sin(d0) * np.sin(d) + np.cos(d0) * np.cos(d) * np.cos(a)
    xi = np.cos(d) * np.sin(a) / c
    eta = (np.cos(d0) * np.sin(d) - np.sin(d0) * np.cos(d) * np.cos(a)) / c
    return np.degrees(xi), np.degrees(eta)


def _from_tangent(xi: float, eta: float, crval: np.ndarray) -> tuple[float, float]:
    """RA and Dec in degrees of gnomonic (xi, eta) in degrees about `crval`."""
    a0, d0 = np.radians(crval[0]), np.radians(crval[1])
    east = np.array([-np.sin(a0), np.cos(a0), 0.0])
    axis = unit_vectors(crval[0], crval[1])
    north = np.array([-np.sin(d0) * np.cos(a0), -np.sin(d0) * np.sin(a0), np.cos(d0)])
    ra, dec = sky_angles(axis + np.radians(xi) * east + np.radians(eta) * north)
    return float(ra), float(dec)

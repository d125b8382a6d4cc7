"""Where a star falls on the sensor: refraction, the camera's orientation and the lens, all in closed form.

The chain, for one frame, with every vector in ICRS:

1. refraction lifts the star towards the zenith of mid-exposure, by 58.276 tan z - 0.0824 tan^3 z arcseconds
   of the true zenith distance at 1010 hPa and 10 C (Smart's formula, good to 70 degrees), scaled by pressure
   over absolute temperature;
2. the camera's orientation (a rotation matrix) takes it to (c1, c2, c3), c3 along the optical axis;
3. TAN projection: ``u = f c1 / c3``, ``v = f c2 / c3`` in pixels, f = 206264.806 / arcsec per pixel;
4. the lens, with ``p = u / R``, ``q = v / R``, ``r2 = p*p + q*q``::

       x = cx + u + R (cubic r2 p + qxx p*p + qxy p*q + qyy q*q)
       y = cy + v + R (cubic r2 q + kxx p*p + kxy p*q + kyy q*q)

(cx, cy) is the optical centre, which is not the frame's. Both directions are exact: the inverse is solved to
1e-10 px.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ARCSEC = np.pi / 648000.0
"""One arcsecond in radians."""


@dataclass(frozen=True)
class Site:
    """Where the camera stands, and the air above it."""

    latitude_deg: float = 34.22
    longitude_deg: float = -118.06
    """Degrees east."""
    elevation_m: float = 1700.0
    temperature_c: float = 15.0
    utc_offset_h: float = -7.0
    """What the unit's local time is ahead of UTC; used by the card DATE only."""
    refraction: bool = True

    @property
    def pressure_hpa(self) -> float:
        """Mean pressure at this height (scale height 8434 m)."""
        return 1013.25 * float(np.exp(-self.elevation_m / 8434.0))


@dataclass(frozen=True)
class Lens:
    """A wide lens: its scale and its distortion, dimensionless so that it suits any size of sensor."""

    scale_arcsec: float = 10.3
    """Arcseconds per native pixel at the optical centre."""
    cubic: float = 1.0e-3
    """Radial cubic term: pixels moved at distance R, in units of R."""
    centre: tuple[float, float] = (0.0195, -0.0223)
    """Offset (x, y) of the optical centre from the frame's, in units of R."""
    quadratic_x: tuple[float, float, float] = (2.1e-4, -1.7e-4, 0.9e-4)
    quadratic_y: tuple[float, float, float] = (-1.2e-4, 2.4e-4, 1.5e-4)
    """SIP-like terms of p*p, p*q, q*q, in units of R."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """The exact map between sky and sensor of one frame; positions are 0-based native pixels."""

    shape: tuple[int, int]
    """(ny, nx)."""
    lens: Lens
    camera: np.ndarray
    """(3, 3): rows are the apparent (refracted) directions of +x, +y and the optical axis, ICRS."""
    zenith: np.ndarray
    """(3,): direction of the zenith, ICRS."""
    refraction: float
    """Scale of the formula: 1 at 1010 hPa and 10 C, 0 switches refraction off."""

    @property
    def radius_pix(self) -> float:
        """R: half of the frame's diagonal."""
        return 0.5 * float(np.hypot(*self.shape))

    @property
    def centre_pix(self) -> tuple[float, float]:
        """The optical centre (x, y)."""
        ny, nx = self.shape
        r = self.radius_pix
        return 0.5 * (nx - 1) + r * self.lens.centre[0], 0.5 * (ny - 1) + r * self.lens.centre[1]

    def sky_to_pixel(
        self, ra_deg: np.ndarray | float, dec_deg: np.ndarray | float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Map ICRS degrees to native pixels; NaN behind the camera. Arrays of any equal shape."""
        v = unit_vectors(ra_deg, dec_deg)
        c = self._lift(v) @ self.camera.T
        with np.errstate(divide="ignore", invalid="ignore"):
            f = np.where(c[..., 2] > 0.05, self._focal / c[..., 2], np.nan)
        du, dv = self._distort(f * c[..., 0], f * c[..., 1])
        cx, cy = self.centre_pix
        return cx + du, cy + dv

    def pixel_to_sky(self, x: np.ndarray | float, y: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Map native pixels to ICRS degrees (RA in 0..360). Arrays of any equal shape."""
        cx, cy = self.centre_pix
        u, v = self._undistort(np.asarray(x, float) - cx, np.asarray(y, float) - cy)
        c = np.stack([u / self._focal, v / self._focal, np.ones_like(u)], axis=-1)
        c /= np.linalg.norm(c, axis=-1, keepdims=True)
        return sky_angles(self._lower(c @ self.camera))

    def zenith_distance_deg(self, ra_deg: np.ndarray | float, dec_deg: np.ndarray | float) -> np.ndarray:
        """True (unrefracted) zenith distance in degrees."""
        return np.degrees(self._zenith_distance(unit_vectors(ra_deg, dec_deg))[0])

    @property
    def _focal(self) -> float:
        return 1.0 / (self.lens.scale_arcsec * ARCSEC)

    def _distort(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ideal tangent-plane pixels to pixels behind the lens."""
        r, lens = self.radius_pix, self.lens
        p, q = u / r, v / r
        k = 1.0 + lens.cubic * (p * p + q * q)
        a, b = lens.quadratic_x, lens.quadratic_y
        return (
            r * (k * p + a[0] * p * p + a[1] * p * q + a[2] * q * q),
            r * (k * q + b[0] * p * p + b[1] * p * q + b[2] * q * q),
        )

    def _undistort(self, du: np.ndarray, dv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Solve `_distort` by fixed-point steps; its departure from the identity shrinks 100-fold in each."""
        u, v = du.copy(), dv.copy()
        for _ in range(40):
            eu, ev = self._distort(u, v)
            eu, ev = du - eu, dv - ev
            u, v = u + eu, v + ev
            if not np.any(np.hypot(eu, ev) > 1e-11 * self.radius_pix):
                break
        return u, v

    def _zenith_distance(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Angle to the zenith in radians, and its cosine and sine."""
        cos = v @ self.zenith
        sin = np.linalg.norm(np.cross(v, self.zenith), axis=-1)
        return np.arctan2(sin, cos), cos, sin

    def _lift(self, v: np.ndarray) -> np.ndarray:
        """True directions to apparent ones."""
        z, cos, sin = self._zenith_distance(v)
        return _turn(v, self.zenith, cos, sin, self._refraction(z))

    def _lower(self, v: np.ndarray) -> np.ndarray:
        """Apparent directions to true ones."""
        apparent, cos, sin = self._zenith_distance(v)
        z = apparent
        for _ in range(12):  # R changes by 1/1000 of a change of z, so this is exact after five
            z = apparent + self._refraction(z)
        return _turn(v, self.zenith, cos, sin, apparent - z)

    def _refraction(self, zenith_distance: np.ndarray) -> np.ndarray:
        """Refraction in radians for true zenith distances in radians; not more than that of 84 degrees."""
        t = np.tan(np.minimum(zenith_distance, np.radians(84.0)))
        return self.refraction * (58.276 * t - 0.0824 * t**3) * ARCSEC


def unit_vectors(ra_deg: np.ndarray | float, dec_deg: np.ndarray | float) -> np.ndarray:
    """Directions (..., 3) of right ascension and declination in degrees."""
    ra, dec = np.radians(np.asarray(ra_deg, float)), np.radians(np.asarray(dec_deg, float))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def sky_angles(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension (0..360) and declination in degrees of directions (..., 3)."""
    ra = np.degrees(np.arctan2(v[..., 1], v[..., 0])) % 360.0
    return ra, np.degrees(np.arctan2(v[..., 2], np.hypot(v[..., 0], v[..., 1])))


def rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    """The (3, 3) right-handed rotation by `angle` radians about a unit vector (Rodrigues)."""
    x, y, z = axis
    k = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * k + (1.0 - np.cos(angle)) * (k @ k)


def precession(mjd: float) -> np.ndarray:
    """The (3, 3) matrix from the equator of J2000 to that of date (Lieske 1977); nutation is left out."""
    t = (mjd - 51544.5) / 36525.0
    zeta = (2306.2181 * t + 0.30188 * t**2 + 0.017998 * t**3) * ARCSEC
    z = (2306.2181 * t + 1.09468 * t**2 + 0.018203 * t**3) * ARCSEC
    theta = (2004.3109 * t - 0.42665 * t**2 - 0.041833 * t**3) * ARCSEC
    pole, y = np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0])
    return rotation(pole, z) @ rotation(y, -theta) @ rotation(pole, zeta)


def local_sidereal_deg(mjd: float, longitude_deg: float) -> float:
    """Mean local sidereal time in degrees (Meeus, chapter 12), UT1 taken as UTC."""
    days = mjd - 51544.5
    return (280.46061837 + 360.98564736629 * days + longitude_deg) % 360.0


def zenith_and_pole(mjd: float, site: Site) -> tuple[np.ndarray, np.ndarray]:
    """Directions of the zenith and of the celestial pole of date, ICRS."""
    to_icrs = precession(mjd).T
    zenith = unit_vectors(local_sidereal_deg(mjd, site.longitude_deg), site.latitude_deg)
    return to_icrs @ zenith, to_icrs @ np.array([0.0, 0.0, 1.0])


def _turn(
    v: np.ndarray, towards: np.ndarray, cos: np.ndarray, sin: np.ndarray, angle: np.ndarray
) -> np.ndarray:
    """Turn directions `v` by `angle` radians towards another, `cos` and `sin` of the angle away."""
    with np.errstate(divide="ignore", invalid="ignore"):
        tangent = (towards - cos[..., None] * v) / sin[..., None]
    tangent = np.where(sin[..., None] > 1e-9, tangent, 0.0)
    return np.cos(angle)[..., None] * v + np.sin(angle)[..., None] * tangent

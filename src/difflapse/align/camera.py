"""A camera on a night: where a pixel of any of its frames looks, through one lens, a pose for each frame, and the air.

Directions are given in the axes of the reference frame: +x, +y and the optical axis there. They are written as
positions on the plane that touches the sky there, in pixels (the focal length times the tangent), so that a
difference of two of them is one of pixels. Nothing here knows of stars or fits: that is `joint` and `lens`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numba
import numpy as np

from difflapse.align.fit import design
from difflapse.model.transform import powers

SQUEEZE = 58.294 / 206264.806
"""Refraction at 45 degrees, radians, at 1010 hPa and 10 C."""
_CUBIC = 0.0668 / 58.294
_LOWEST = 0.1
_STEEPEST = 9.9
"""Cosine of the zenith distance below which refraction is taken as there: the formula ends at 80 degrees or so."""
_FLAT = 1e-7
_UP = np.array([0.0, 0.0, 1.0])
FAR = 8.0
"""Focal length, in half diagonals, where nothing is known: longer than a short tele's."""


@dataclass(frozen=True, eq=False)
class Camera:
    """One lens, the same for all frames of a night.

    A pixel (x, y) of a frame, p = ((x, y) - centre) / radius, is bent straight by ``u = (x, y) - centre + shear +
    sum c_ij p_x**i p_y**j`` with i + j from 2 to the degree; ``(u, focal)`` is then its ray, in the frame's axes.
    """

    centre: tuple[float, float]
    """Middle of the frames, px. The optical centre need not be there: the polynomial has it."""
    radius: float
    """Half of the frames' diagonal, px."""
    curvature: float
    """How much the sky is curved over the frame: square of `radius` over the focal length. Without air it is a
    number that a fit may make negative; with air it is not."""
    shear: np.ndarray
    """(2,): pixels that are not square, as (a, b) in ``u += (a p_x + b p_y, b p_x - a p_y)``, px."""
    coefficients: np.ndarray
    """(2, n) px, terms of degree 2 and up in the order of `difflapse.model.transform.powers`; none: a perfect lens."""
    refraction: float = 0.0
    """Strength of the air: 1 at 1010 hPa and 10 C, 0 for none."""

    @classmethod
    def perfect(cls, shape: tuple[int, int], degree: int = 1, focal: float | None = None) -> Camera:
        """A lens without distortion, its terms up to `degree` at zero; without `focal`, a long one."""
        ny, nx = shape
        radius = 0.5 * float(np.hypot(nx, ny))
        n = len(powers(degree)) - 3
        return cls(
            (0.5 * (nx - 1), 0.5 * (ny - 1)),
            radius,
            (radius / focal) ** 2 if focal else FAR**-2,
            np.zeros(2),
            np.zeros((2, n)),
        )

    @property
    def focal(self) -> float:
        """Focal length, px."""
        return self.radius / float(np.sqrt(max(self.curvature, _FLAT)))

    @property
    def degree(self) -> int:
        """Of the polynomial; 1 where there is none."""
        return round((np.sqrt(8 * (self.coefficients.shape[1] + 3) + 1) - 3) / 2)

    def basis(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(n_points, 3 + n) terms of the polynomial at pixels, constant and linear ones first."""
        return design((x - self.centre[0]) / self.radius, (y - self.centre[1]) / self.radius, self.degree)

    def straighten(self, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ideal positions (u, v) about the centre, px, of pixels given by their `basis`."""
        u, v = np.empty(len(basis)), np.empty(len(basis))
        _straighten(basis, self.radius, self.shear, self.coefficients, u, v)
        return u, v

    def look(
        self, u: np.ndarray, v: np.ndarray, pose: np.ndarray, zenith: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions on the sky's plane, px, of ideal positions of a frame.

        Parameters
        ----------
        u, v : ndarray, shape (n,), px
            What `straighten` gives.
        pose : ndarray, shape (4,)
            Where the frame's middle points on the reference's plane (x, y, px; truly, not as the air shows it), the
            roll (radians) and the logarithm of its scale; zeros for the reference.
        zenith : ndarray, shape (3,), optional
            Direction of the zenith in the reference's axes at the frame's time; None: no refraction.
        """
        u, v = np.asarray(u, float), np.asarray(v, float)
        X, Y = np.empty(u.shape), np.empty(u.shape)
        a = self.views(np.asarray(pose)[None], None if zenith is None else zenith[None])[0]
        look_along(u.ravel(), v.ravel(), *a[:7], a[7:], X.reshape(-1), Y.reshape(-1))
        return X, Y

    def views(self, poses: np.ndarray, zeniths: np.ndarray | None = None) -> np.ndarray:
        """(k, 10): what `look_along` needs to know of the camera, each pose (k, 4), and the air (k, 3)."""
        out = np.empty((len(poses), 10))
        size = np.exp(poses[:, 3])
        out[:, 0], out[:, 1] = size * np.cos(poses[:, 2]), size * np.sin(poses[:, 2])
        out[:, 2:4] = poses[:, :2]
        out[:, 4], out[:, 5] = self.curvature / self.radius**2, self.focal
        out[:, 6], out[:, 7:] = 0.0, _UP
        if zeniths is not None and self.refraction != 0.0:
            out[:, 6], out[:, 7:] = self.refraction * SQUEEZE, zeniths
        return out

    def to_sky(
        self, x: np.ndarray, y: np.ndarray, pose: np.ndarray, zenith: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions on the sky's plane, px, of native pixels of a frame; see `look`."""
        return self.look(*self.straighten(self.basis(x, y)), pose, zenith)

    def from_sky(
        self,
        X: np.ndarray,
        Y: np.ndarray,
        pose: np.ndarray,
        zenith: np.ndarray | None,
        start: tuple[np.ndarray, np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Native pixels of positions on the sky's plane, by Newton's method from `start`; NaN where it fails."""
        x, y = (np.array(s, float) for s in start)
        away = np.full(x.shape, np.inf)
        for _ in range(15):
            sx, sy = self.to_sky(x, y, pose, zenith)
            ex, ey = X - sx, Y - sy
            away = np.hypot(ex, ey)
            if not np.any(away > 1e-9 * self.radius):
                break
            ax, ay = self.to_sky(x + 0.5, y, pose, zenith)
            bx, by = self.to_sky(x, y + 0.5, pose, zenith)
            a, b, c, d = 2 * (ax - sx), 2 * (bx - sx), 2 * (ay - sy), 2 * (by - sy)
            det = a * d - b * c
            x, y = x + (d * ex - b * ey) / det, y + (a * ey - c * ex) / det
        lost = ~(away < 1e-5)
        return np.where(lost, np.nan, x), np.where(lost, np.nan, y)

    def with_degree(self, degree: int) -> Camera:
        """The same lens with more terms, at zero, or with fewer."""
        n = len(powers(degree)) - 3
        new = np.zeros((2, n))
        common = min(n, self.coefficients.shape[1])
        new[:, :common] = self.coefficients[:, :common]
        return replace(self, coefficients=new)


def turn_about(axis: np.ndarray, angle: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Directions (k, 3): `direction` turned by each of k angles (radians) about an axis (Rodrigues)."""
    axis = axis / np.linalg.norm(axis)
    c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
    return c * direction + s * across(axis, direction) + (1 - c) * (axis @ direction) * axis


def across(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product of two vectors (numpy's own is made for many, and slow for two)."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _straighten(
    basis: np.ndarray,
    radius: float,
    shear: np.ndarray,
    coefficients: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
) -> None:
    """The arithmetic of `Camera.straighten`."""
    a, b = shear[0], shear[1]
    for i in range(len(basis)):
        p, q = basis[i, 1], basis[i, 2]
        x, y = (radius + a) * p + b * q, (radius - a) * q + b * p
        for t in range(coefficients.shape[1]):
            x += coefficients[0, t] * basis[i, 3 + t]
            y += coefficients[1, t] * basis[i, 3 + t]
        u[i], v[i] = x, y


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _lifted(x: float, y: float, f: float, air: float, zenith: np.ndarray) -> tuple[float, float]:
    """Where the air shows a direction: a true position on the sky's plane, px, lifted towards the zenith."""
    length = np.sqrt(x * x + y * y + f * f)
    tx, ty, tz = x / length, y / length, f / length
    cos = tx * zenith[0] + ty * zenith[1] + tz * zenith[2]
    sin = max(np.sqrt(max(1.0 - cos * cos, 0.0)), 1e-12)
    distance, angle = np.arctan2(sin, cos), 0.0
    for _ in range(4):  # refraction changes by a thousandth of a change of the zenith distance
        tan = min(np.tan(distance - angle), _STEEPEST) if distance - angle < 1.5 else _STEEPEST
        angle = air * (tan - _CUBIC * tan**3)
    along, up = np.cos(angle), np.sin(angle) / sin
    sx = along * tx + up * (zenith[0] - cos * tx)
    sy = along * ty + up * (zenith[1] - cos * ty)
    sz = along * tz + up * (zenith[2] - cos * tz)
    return f * sx / sz, f * sy / sz


@numba.njit(cache=True, nogil=True, error_model="numpy")
def look_along(
    u: np.ndarray,
    v: np.ndarray,
    cos_roll: float,
    sin_roll: float,
    tx: float,
    ty: float,
    q: float,
    f: float,
    air: float,
    zenith: np.ndarray,
    X: np.ndarray,
    Y: np.ndarray,
) -> None:
    """The arithmetic of `Camera.look` for a `Camera.view`; `air` is refraction at 45 degrees, radians, 0 for none."""
    if air != 0.0:
        tx, ty = _lifted(tx, ty, f, air, zenith)
    n = np.sqrt(1.0 + q * (tx * tx + ty * ty))
    for i in range(len(u)):
        vx, vy = cos_roll * u[i] - sin_roll * v[i], sin_roll * u[i] + cos_roll * v[i]
        # The shortest rotation that takes the axis to (tx, ty, f); z is in units of the focal length.
        along = q * (tx * vx + ty * vy)
        dx, dy = vx - tx * along / (n * (n + 1.0)) + tx / n, vy - ty * along / (n * (n + 1.0)) + ty / n
        dz = (1.0 - along) / n
        if air == 0.0:
            X[i], Y[i] = dx / dz, dy / dz
            continue
        # Lower the apparent direction from the zenith by Smart's formula.
        length = np.sqrt(dx * dx + dy * dy + (f * dz) ** 2)
        cos = (dx * zenith[0] + dy * zenith[1] + f * dz * zenith[2]) / length
        safe = max(cos, _LOWEST)
        tan2 = 1.0 / (safe * safe) - 1.0
        k = air * (1.0 - _CUBIC * tan2)
        angle = k * np.sqrt(tan2)
        off = k / safe * (1.0 - angle * angle / 6.0)  # sin(angle) / angle, of a thousandth of a radian
        kept = np.cos(angle) + off * safe
        off *= length
        z = f * dz * kept - off * zenith[2]
        X[i], Y[i] = f * (dx * kept - off * zenith[0]) / z, f * (dy * kept - off * zenith[1]) / z

"""A transform: native pixels of one frame to native pixels of another, and back."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

MODELS = ("shift", "euclidean", "similarity", "affine", "homography", "polynomial")


def powers(degree: int) -> list[tuple[int, int]]:
    """Exponents (i, j) of the terms u**i v**j of a polynomial of `degree`, in its coefficients' order."""
    return [(n - j, j) for n in range(degree + 1) for j in range(n + 1)]


@functools.lru_cache(maxsize=16)
def _exponents(degree: int) -> np.ndarray:
    """`powers` as an array (t, 2) of int64."""
    return np.array(powers(degree), np.int64)


@dataclass(frozen=True, eq=False)
class Transform:
    """A map of the plane: a 3x3 matrix, and where needed a polynomial correction on top of it.

    ``(x, y) -> H (x, y, 1) + P(u, v)`` with ``u = (x - origin_x) / scale`` and ``v = (y - origin_y) /
    scale``; H acts as a homography. Positions are 0-based native pixels, pixel centres. The inverse is solved
    by Newton's method, to 1e-8 px wherever the transform is one to one; elsewhere it is NaN.
    """

    model: str
    """One of `MODELS`."""
    matrix: np.ndarray
    """(3, 3) float64."""
    coefficients: np.ndarray | None = None
    """(2, n) float64 in pixels, terms in the order of `powers`; None for the linear models."""
    origin: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    domain: tuple[float, float, float, float] | None = None
    """(x0, y0, x1, y1) of the frame on which it was fitted; None: everywhere."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "matrix", np.asarray(self.matrix, float).reshape(3, 3))
        if self.coefficients is not None:
            object.__setattr__(self, "coefficients", np.asarray(self.coefficients, float).reshape(2, -1))

    @classmethod
    def identity(cls) -> Transform:
        """The transform that moves nothing."""
        return cls("shift", np.eye(3))

    @classmethod
    def from_matrix(cls, matrix: np.ndarray, model: str = "affine") -> Transform:
        """A linear transform from a (2, 3) or (3, 3) matrix."""
        m = np.eye(3)
        m[: len(matrix)] = matrix
        return cls(model, m)

    @property
    def degree(self) -> int:
        """Degree of the polynomial correction; 1 for linear models."""
        if self.coefficients is None:
            return 1
        n = self.coefficients.shape[1]
        return round((math.sqrt(8 * n + 1) - 3) / 2)

    @property
    def mirrored(self) -> bool:
        """Whether it turns the image over."""
        x0, y0 = self._centre()
        return bool(np.linalg.det(self.jacobian(x0, y0)) < 0)

    def __call__(self, x: np.ndarray | float, y: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Map positions forward. Scalars or arrays of any equal shape; returns float64 of the same shape."""
        x = np.asarray(x, float)
        y = np.asarray(y, float)
        fx, fy, *_ = self._evaluate(x, y, derivatives=False)
        return fx, fy

    def inverse(self, x: np.ndarray | float, y: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Map positions back: the (u, v) for which ``self(u, v) == (x, y)``; NaN where there is none."""
        x = np.asarray(x, float)
        y = np.asarray(y, float)
        inv = np.linalg.inv(self.matrix)
        u, v = _homography(inv, x, y)
        if self.coefficients is None:
            return u, v
        for _ in range(30):
            fx, fy, a, b, c, d = self._evaluate(u, v, derivatives=True)
            ex, ey = x - fx, y - fy
            det = a * d - b * c
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                du = (d * ex - b * ey) / det
                dv = (a * ey - c * ex) / det
                u, v = u + du, v + dv
                step = np.hypot(du, dv)
            if not np.any(step > 1e-9):  # NaN counts as done
                break
        with np.errstate(invalid="ignore"):
            lost = ~(step < 1e-6)
        if np.any(lost):
            u, v = np.where(lost, np.nan, u), np.where(lost, np.nan, v)
        return u, v

    def jacobian(self, x: float, y: float) -> np.ndarray:
        """The (2, 2) derivative at one point: [[dX/dx, dX/dy], [dY/dx, dY/dy]]."""
        _, _, a, b, c, d = self._evaluate(np.asarray(float(x)), np.asarray(float(y)), derivatives=True)
        return np.array([[a, b], [c, d]], float)

    def rotation_deg(self, x: float, y: float) -> float:
        """Rotation at a point, degrees counter-clockwise with x right and y up, frame to reference."""
        j = self.jacobian(x, y)
        sign = np.sign(np.linalg.det(j)) or 1.0
        return float(np.degrees(np.arctan2(j[1, 0] - sign * j[0, 1], j[0, 0] + sign * j[1, 1])))

    def local_scale(self, x: float, y: float) -> float:
        """Linear scale at a point: reference pixels per frame pixel."""
        return float(np.sqrt(abs(np.linalg.det(self.jacobian(x, y)))))

    def _centre(self) -> tuple[float, float]:
        if self.domain is None:
            return self.origin
        return 0.5 * (self.domain[0] + self.domain[2]), 0.5 * (self.domain[1] + self.domain[3])

    def _evaluate(self, x: np.ndarray, y: np.ndarray, derivatives: bool) -> tuple[np.ndarray, ...]:
        h = self.matrix
        w = h[2, 0] * x + h[2, 1] * y + h[2, 2]
        fx = (h[0, 0] * x + h[0, 1] * y + h[0, 2]) / w
        fy = (h[1, 0] * x + h[1, 1] * y + h[1, 2]) / w
        if derivatives:
            a, b = (h[0, 0] - fx * h[2, 0]) / w, (h[0, 1] - fx * h[2, 1]) / w
            c, d = (h[1, 0] - fy * h[2, 0]) / w, (h[1, 1] - fy * h[2, 1]) / w
        rows = (fx, fy, a, b, c, d) if derivatives else (fx, fy)
        if self.coefficients is None:
            return rows
        from difflapse.model._polynomial import (
            add_polynomial,
        )  # a compiler comes with it: only where it is needed

        u = np.asarray((x - self.origin[0]) / self.scale)
        v = np.asarray((y - self.origin[1]) / self.scale)
        if u.shape != v.shape:
            u, v = (np.array(np.broadcast_to(w, np.shape(fx))) for w in (u, v))
        out = np.stack(rows).reshape(len(rows), -1)
        # Always of the same types and layout: it is compiled once.
        add_polynomial(
            np.ascontiguousarray(self.coefficients), _exponents(self.degree), u.reshape(-1), v.reshape(-1),
            float(self.scale), out,
        )  # fmt: skip
        return tuple(out.reshape(len(rows), *u.shape))


def _homography(h: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    w = h[2, 0] * x + h[2, 1] * y + h[2, 2]
    return (h[0, 0] * x + h[0, 1] * y + h[0, 2]) / w, (h[1, 0] * x + h[1, 1] * y + h[1, 2]) / w

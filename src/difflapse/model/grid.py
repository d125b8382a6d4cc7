"""The pixel grid of a run's products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ProductGrid:
    """Where the pixels of product images lie on the reference frame.

    Product pixel (i, j) has its centre at native ``x = origin[0] + step * i + (step - 1) / 2`` (y likewise):
    superpixels of a mosaic have step 2, monochrome frames step 1.
    """

    shape: tuple[int, int]
    """(ny, nx) in product pixels."""
    step: int = 1
    origin: tuple[float, float] = (0, 0)
    """Native (x, y) of the first native pixel: even numbers for a crop of a mosaic, fractions where the grid
    follows something that moves."""

    def to_native(self, i: np.ndarray | float, j: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Native reference pixels of product pixels (i to the right, j up)."""
        half = (self.step - 1) / 2
        return np.asarray(i) * self.step + half + self.origin[0], np.asarray(
            j
        ) * self.step + half + self.origin[1]

    def from_native(self, x: np.ndarray | float, y: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Product pixels of native reference pixels."""
        half = (self.step - 1) / 2
        return (np.asarray(x) - half - self.origin[0]) / self.step, (
            np.asarray(y) - half - self.origin[1]
        ) / self.step

    def nearest(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The product pixels (columns, rows) that native reference pixels fall on; at the edge for those beyond."""
        i, j = (np.rint(np.nan_to_num(v)) for v in self.from_native(x, y))
        ny, nx = self.shape
        return np.clip(i, 0, nx - 1).astype(int), np.clip(j, 0, ny - 1).astype(int)

    @property
    def native_area(self) -> float:
        """Native pixels that it covers."""
        return float(np.prod(self.shape)) * self.step**2

    def ltv(self) -> tuple[float, float, float]:
        """(LTM, LTV1, LTV2): FITS 1-based product pixel = LTM * FITS 1-based native pixel + LTV."""
        m = 1.0 / self.step
        half = (self.step - 1) / 2
        return m, 1 - m * (1 + half + self.origin[0]), 1 - m * (1 + half + self.origin[1])

    @classmethod
    def whole(cls, shape: tuple[int, int], mosaic: str) -> ProductGrid:
        """The grid of a whole frame of native `shape`; an odd last row or column of a mosaic is dropped."""
        return cls((shape[0] // 2, shape[1] // 2), 2) if mosaic else cls(shape, 1)

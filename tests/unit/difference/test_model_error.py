"""The model error: learned from residuals that are known, and what it must not hide."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from difflapse.difference import Noise
from difflapse.difference.model_error import Learned, learn, measure_scatter, sort_pixels
from difflapse.measure.mesh import constant
from difflapse.model import ProductGrid

SHAPE = (330, 460)
FWHM = 2.0
SIGMA, SKY, GAIN = 10.0, 300.0, 1.5
GRID = ProductGrid(SHAPE, 2, (4, 6))
FRAMES = 10


def stars(rng: np.random.Generator, n: int = 700) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y = rng.uniform(8, SHAPE[1] - 9, n), rng.uniform(8, SHAPE[0] - 9, n)
    return x, y, 10 ** rng.uniform(2.0, 4.8, n)


def scene(x: np.ndarray, y: np.ndarray, flux: np.ndarray) -> np.ndarray:
    """Light above the sky, ADU."""
    out = np.zeros(SHAPE)
    s = FWHM / 2.355
    for a, b, f in zip(x, y, flux, strict=True):
        j0, i0 = int(b) - 7, int(a) - 7
        j, i = np.mgrid[max(j0, 0) : min(j0 + 15, SHAPE[0]), max(i0, 0) : min(i0 + 15, SHAPE[1])]
        out[j, i] += f / (2 * np.pi * s**2) * np.exp(-((i - a) ** 2 + (j - b) ** 2) / (2 * s**2))
    return out


class Field:
    """A field whose frames are shifted a little against the template, each its own way."""

    def __init__(self, shift: float, seed: int = 3, calm: tuple[int, ...] = ()) -> None:
        rng = np.random.default_rng(seed)
        self.x, self.y, self.flux = stars(rng)
        self.light = scene(self.x, self.y, self.flux)
        self.sigma = np.sqrt(SIGMA**2 + self.light / GAIN)
        gy, gx = np.gradient(self.light)
        self.residuals = []
        for k in range(FRAMES):
            size = shift * (0.25 if k in calm else 1.0)
            angle = rng.uniform(0, 2 * np.pi)
            wrong = size * (np.cos(angle) * gx + np.sin(angle) * gy)
            self.residuals.append((rng.standard_normal(SHAPE) + wrong / self.sigma).astype(np.float32))
        noise = Noise(constant([SIGMA**2]), constant([1 / GAIN]))
        data = (self.light + SKY)[None].astype(np.float32)
        self.sorts = sort_pixels(data, constant([SKY]), noise, np.zeros(SHAPE, bool), 12, FWHM)

    def learned(self) -> Learned:
        measured = [measure_scatter(r, self.sorts, FWHM) for r in self.residuals]
        return learn(list(range(FRAMES)), measured, self.sorts, GRID)

    def near(self, brighter: float, inner: float, outer: float) -> np.ndarray:
        """Pixels between so many FWHM from stars that are brighter than this."""
        j, i = np.mgrid[: SHAPE[0], : SHAPE[1]]
        away = np.full(SHAPE, np.inf)
        for a, b in zip(self.x[self.flux > brighter], self.y[self.flux > brighter], strict=True):
            away = np.minimum(away, np.hypot(i - a, j - b))
        return (away >= inner * FWHM) & (away < outer * FWHM)


def robust(values: np.ndarray) -> float:
    return float(1.4826 * np.median(np.abs(values)))


def test_residuals_at_stars_are_as_wide_as_it_says() -> None:
    field = Field(0.04)
    found = field.learned()
    cores = field.near(3e3, 0, 1.2)
    for k in (0, 4, 9):
        i, j = np.meshgrid(np.arange(SHAPE[1]), np.arange(SHAPE[0]))
        extra = found.factor(*GRID.to_native(i, j), frame=k, point=False)
        ratio = field.residuals[k] / np.sqrt(1 + extra**2)
        assert robust(field.residuals[k][cores]) > 1.6
        assert robust(ratio[cores]) == pytest.approx(1.0, abs=0.12)
        assert robust(ratio[field.near(3e3, 3, 99)]) == pytest.approx(1.0, abs=0.03)


def test_where_the_model_is_right_there_is_no_error() -> None:
    field = Field(0.0)
    found = field.learned()
    assert np.percentile(found.image(), 99) < 0.5
    assert found.image().mean() < 0.08
    assert max(found.floor.values()) < 0.2


def test_calm_frames_have_smaller_errors() -> None:
    found = Field(0.05, calm=(2, 3, 7)).learned()
    calm = np.mean([found.strength[k] for k in (2, 3, 7)])
    rest = np.mean([found.strength[k] for k in (0, 1, 4, 5, 6, 8, 9)])
    assert calm / rest == pytest.approx(0.25, abs=0.1)


def test_a_variable_star_does_not_hide_itself() -> None:
    field = Field(0.03)
    plain = field.learned()
    n = int(np.argsort(field.flux)[-60])
    star = scene(field.x[n : n + 1], field.y[n : n + 1], field.flux[n : n + 1])
    for k in range(0, FRAMES, 2):
        field.residuals[k] = field.residuals[k] + (0.5 * star / field.sigma).astype(np.float32)
    found = field.learned()
    at = GRID.to_native(field.x[n], field.y[n])
    assert found.factor(*at) < 1.15 * plain.factor(*at) + 0.1
    j, i = round(field.y[n]), round(field.x[n])
    assert field.residuals[0][j, i] / np.sqrt(1 + found.factor(*at, point=False) ** 2) > 5


def test_sources_near_bright_stars_stay_significant() -> None:
    field = Field(0.04)
    found = field.learned()
    ring = field.near(2e4, 3, 5)
    j, i = np.nonzero(ring)
    extra = found.factor(*GRID.to_native(i, j))
    assert np.mean(15 / np.sqrt(1 + extra**2) >= 5) > 0.9


def test_positions_are_native_pixels_of_the_reference() -> None:
    field = Field(0.05)
    found = field.learned()
    n = int(np.argmax(field.flux))
    i, j = round(field.x[n]), round(field.y[n])
    x, y = GRID.to_native(i, j)
    assert found.factor(x, y, point=False) == found.image()[j, i] > 1
    assert found.factor(-1e4, np.nan).shape == ()


def test_a_masked_frame_teaches_nothing() -> None:
    field = Field(0.05)
    field.residuals[1] = np.full(SHAPE, np.nan, np.float32)
    found = field.learned()
    assert np.isfinite(found.image()).all()
    assert found.strength[1] > 0


@pytest.mark.parametrize("fwhm", [0.8, 1.7, 5.0])
def test_points_scatter_as_in_an_image_that_is_smoothed_as_a_whole(fwhm: float) -> None:
    """Robust widths of each sort, in bins of an eighth of a sigma; by OpenCV, with holes."""
    rng = np.random.default_rng(2)
    shape = (140, 211)
    sorts = np.zeros(shape, np.uint16)
    sorts[:, 70:150], sorts[:, 150:] = 3, 8
    residual = (rng.standard_normal(shape) * np.where(sorts == 8, 3.0, 1.2)).astype(np.float32)
    residual[rng.random(shape) < 0.05] = np.nan
    measured = measure_scatter(residual, sorts, fwhm)
    smooth = cv2.GaussianBlur(np.nan_to_num(residual), (0, 0), fwhm / 2.355)
    width = {
        s: 1.4826 * float(np.median(np.abs(smooth[(sorts == s) & np.isfinite(residual)]))) for s in (0, 3, 8)
    }
    for s in (3, 8):
        assert measured.count[s] == np.isfinite(residual[sorts == s]).sum()
        assert measured.point[s] == pytest.approx(width[s] / width[0], rel=0.03)
    assert measured.pixel[8] == pytest.approx(3.0, rel=0.03)

"""Sizes on the sky: of a pixel in the middle of the frame, of the products with all that bends them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from difflapse.io.celestial import tan_sip_header
from difflapse.model import ProductGrid, TanSip
from difflapse.pipeline.field import field_of, pixel_arcsec, reference_pixel_arcsec
from difflapse.pipeline.records import Canvas, SkyPlace

SHAPE = (260, 390)


def header(bend: float = 0.0) -> str:
    a, b = np.zeros((4, 4)), np.zeros((4, 4))
    a[3, 0], b[0, 3] = bend, bend
    cd = np.array([[-2.7e-3, 4e-4], [4e-4, 2.7e-3]])
    return tan_sip_header(TanSip((350.1, 63.0), (180.3, 140.8), cd, a, b, 0 * a, 0 * b), SHAPE)


def night(text: str, grid: ProductGrid) -> Any:
    shared = {
        "sky": SkyPlace(text),
        "canvas": Canvas(grid),
        "reference": SimpleNamespace(facts=SimpleNamespace(shape=SHAPE)),
    }
    return SimpleNamespace(shared=shared.__getitem__, has=shared.__contains__)


def test_a_pixel_is_as_large_as_the_wcs_makes_it() -> None:
    side = 3600 * np.hypot(2.7e-3, 4e-4)
    assert pixel_arcsec(header(), SHAPE) == pytest.approx(side, rel=1e-5)
    # A lens that stretches by 3 bend r^2 is measured where the frame's middle is, 14 and 11 pixels from CRPIX.
    bent = pixel_arcsec(header(1e-5), SHAPE)
    assert bent / side - 1 == pytest.approx(1.5e-5 * (14.2**2 + 11.3**2), rel=0.05)
    assert reference_pixel_arcsec(night(header(1e-5), ProductGrid(SHAPE, 1))) == bent
    assert reference_pixel_arcsec(night("", ProductGrid(SHAPE, 1))) is None


@pytest.mark.parametrize("grid", [ProductGrid((130, 195), 2), ProductGrid((51, 80), 2, (31.0, 62.0))])
def test_the_field_goes_from_edge_to_edge(grid: ProductGrid) -> None:
    text = header(2e-6)
    wcs = WCS(fits.Header.fromstring(text))
    (x0, y0), (ny, nx) = grid.origin, grid.shape
    left, right, low, high = x0 - 0.5, x0 + 2 * nx - 0.5, y0 - 0.5, y0 + 2 * ny - 0.5

    def sky(x: float, y: float) -> SkyCoord:
        return SkyCoord(*wcs.all_pix2world(x, y, 0), unit="deg")

    middle = sky((left + right) / 2, (low + high) / 2)
    found = field_of(night(text, grid))
    assert found is not None
    assert SkyCoord(found.ra_deg, found.dec_deg, unit="deg").separation(middle).arcsec < 1e-3
    y, x = (low + high) / 2, (left + right) / 2
    assert found.width_deg == pytest.approx(sky(left, y).separation(sky(right, y)).deg, rel=1e-4)
    assert found.height_deg == pytest.approx(sky(x, low).separation(sky(x, high)).deg, rel=1e-4)
    corners = [middle.separation(sky(a, b)).deg for a in (left, right) for b in (low, high)]
    assert found.radius_deg == pytest.approx(max(corners), rel=1e-6)
    assert field_of(night("", grid)) is None

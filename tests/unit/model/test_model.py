"""The records that flow: transforms turn the right way, product grids agree with FITS, times are text."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from difflapse.model import Frame, FrameFacts, ProductGrid, Stars, Transform
from difflapse.model.times import iso_utc
from difflapse.model.transform import powers

NX, NY = 390, 260


def turned(angle: float, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Transform:
    c, s = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    return Transform.from_matrix(np.array([[c, -s, shift[0]], [s, c, shift[1]]]), "similarity")


def folded() -> Transform:
    """x' = x - 0.002 x^2: nothing is mapped beyond 125, and what lies below is met twice."""
    coefficients = np.zeros((2, len(powers(2))))
    coefficients[0, powers(2).index((2, 0))] = -0.002
    return Transform("polynomial", np.eye(3), coefficients)


def test_rotation_is_counter_clockwise_with_y_up() -> None:
    """A quarter turn counter-clockwise takes +x to +y."""
    quarter = turned(90.0)
    x, y = quarter(10.0, 0.0)
    assert (float(x), float(y)) == pytest.approx((0.0, 10.0), abs=1e-12)
    assert quarter.rotation_deg(3.0, 4.0) == pytest.approx(90.0)
    assert turned(-31.5).rotation_deg(100.0, 50.0) == pytest.approx(-31.5)


def test_scale_is_reference_pixels_per_frame_pixel() -> None:
    double = turned(20.0, 2.0, (5.5, -3.25))
    assert double.local_scale(7.0, 9.0) == pytest.approx(2.0)
    a, b = np.array(double(0.0, 0.0)), np.array(double(3.0, 4.0))
    assert np.hypot(*(b - a)) == pytest.approx(10.0)


def test_a_mirror_is_told_from_a_turn() -> None:
    mirror = Transform.from_matrix(np.array([[-1.0, 0, NX - 1], [0, 1, 0]]))
    half_turn = Transform.from_matrix(np.array([[-1.0, 0, NX - 1], [0, -1, NY - 1]]))
    assert mirror.mirrored
    assert not half_turn.mirrored
    assert abs(half_turn.rotation_deg(0.0, 0.0)) == pytest.approx(180.0)
    assert mirror.local_scale(1.0, 1.0) == pytest.approx(1.0)


def test_the_inverse_is_nan_where_nothing_is_mapped() -> None:
    transform = folded()
    x, y = transform.inverse(np.array([80.0, 124.0, 126.0, 400.0]), np.array([3.0, 4.0, 5.0, 6.0]))
    back = transform(x[:2], y[:2])
    assert np.allclose(back, [[80.0, 124.0], [3.0, 4.0]], atol=1e-8)
    assert np.isnan(x[2:]).all()
    assert np.isnan(y[2:]).all()


def test_scalars_and_arrays_of_any_shape_are_welcome() -> None:
    transform = turned(12.0, 1.1, (3.25, -7.5))
    x, y = np.meshgrid(np.linspace(0, NX - 1, 7), np.linspace(0, NY - 1, 5))
    fx, fy = transform(x, y)
    assert fx.shape == fy.shape == (5, 7)
    one = transform(float(x[3, 2]), float(y[3, 2]))
    assert np.allclose([one[0], one[1]], [fx[3, 2], fy[3, 2]])
    u, v = transform.inverse(one[0], one[1])
    assert np.allclose([u, v], [x[3, 2], y[3, 2]], atol=1e-10)


def test_an_array_and_a_number_go_together() -> None:
    x, y = np.linspace(10, 900, 700), np.linspace(20, 600, 5)
    transform = folded()
    for u, v in ((x, 300.0), (300.0, y), (x[:6, None], y[None, :])):
        whole = [np.broadcast_to(w, np.broadcast_shapes(np.shape(u), np.shape(v))).copy() for w in (u, v)]
        for one, other in zip(transform(u, v), transform(*whole), strict=True):
            assert np.array_equal(one, other, equal_nan=True)


def test_the_jacobian_is_the_derivative() -> None:
    rng = np.random.default_rng(8)
    matrix = np.array([[1.1, 0.2, 3.0], [-0.1, 0.9, 8.0], [2e-5, -3e-5, 1.0]])
    transform = Transform("homography", matrix, rng.normal(0, 2, (2, len(powers(3)))), (200.5, 130.25), 234.0)
    j, h = transform.jacobian(77.3, 61.9), 1e-4
    for axis, (dx, dy) in enumerate([(h, 0.0), (0.0, h)]):
        ahead = np.array(transform(77.3 + dx, 61.9 + dy))
        behind = np.array(transform(77.3 - dx, 61.9 - dy))
        assert np.allclose((ahead - behind) / (2 * h), j[:, axis], atol=1e-6)


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 7])
def test_the_degree_follows_from_the_coefficients(degree: int) -> None:
    coefficients = np.zeros((2, len(powers(degree))))
    assert Transform("polynomial", np.eye(3), coefficients).degree == degree


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("origin", [(0, 0), (34, 122)])
def test_a_product_grid_agrees_with_its_ltm_and_ltv(step: int, origin: tuple[int, int]) -> None:
    """FITS counts pixels from 1: image = LTM * native + LTV, both 1-based."""
    grid = ProductGrid((NY // step, NX // step), step, origin)
    i, j = np.array([0.0, 3.0, 17.25]), np.array([0.0, 8.5, 101.0])
    x, y = grid.to_native(i, j)
    ltm, ltv1, ltv2 = grid.ltv()
    assert np.allclose(i + 1, ltm * (x + 1) + ltv1, atol=1e-12)
    assert np.allclose(j + 1, ltm * (y + 1) + ltv2, atol=1e-12)
    assert np.allclose(grid.from_native(x, y), [i, j], atol=1e-12)


def test_a_superpixel_grid_has_the_documented_ltm_and_ltv() -> None:
    assert ProductGrid.whole((261, 391), "GBRG") == ProductGrid((130, 195), 2)
    assert ProductGrid.whole((261, 391), "GBRG").ltv() == (0.5, 0.25, 0.25)
    assert ProductGrid.whole((261, 391), "").ltv() == (1.0, 0.0, 0.0)
    assert ProductGrid((20, 30), 1, (12, 7)).ltv() == (1.0, -12.0, -7.0)
    assert ProductGrid((20, 30), 2).to_native(0, 0) == (0.5, 0.5)


def test_times_are_written_as_iso_text() -> None:
    # MJD 51544.5 is noon of 2000-01-01.
    assert iso_utc(51544.5) == "2000-01-01T12:00:00.000"
    assert iso_utc(51544.5, 0) == "2000-01-01T12:00:00"
    assert iso_utc(58354.0 + (4 * 3600 + 2 * 60 + 18.1234) / 86400, 3) == "2018-08-24T04:02:18.123"
    assert iso_utc(58354.25, 6) == "2018-08-24T06:00:00.000000"


def test_rounding_carries_into_the_next_day() -> None:
    almost = 51544.0 + (86400 - 0.0001) / 86400
    assert iso_utc(almost, 3) == "2000-01-02T00:00:00.000"
    assert iso_utc(almost, 0) == "2000-01-02T00:00:00"
    assert iso_utc(-0.5, 0) == "1858-11-16T12:00:00"


def test_the_middle_of_the_exposure_needs_a_time() -> None:
    facts = FrameFacts("", "f", 0, (NY, NX), start_mjd=58354.0, exposure_s=172.8)
    assert facts.mid_mjd == pytest.approx(58354.001)
    assert dataclasses.replace(facts, exposure_s=None).mid_mjd == 58354.0
    assert dataclasses.replace(facts, start_mjd=None).mid_mjd is None


def test_records_are_frozen() -> None:
    for record in (
        FrameFacts("", "f", 0, (NY, NX)),
        Frame(FrameFacts("", "f", 0, (NY, NX)), np.zeros((NY, NX))),
        Stars.empty(3),
        Transform.identity(),
        ProductGrid((NY, NX)),
    ):
        name = dataclasses.fields(record)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, name, None)


def test_stars_are_taken_with_all_their_columns() -> None:
    n = 5
    x, y, flux, snr, fwhm = (np.arange(n) + 10.0 * k for k in range(5))
    stars = Stars(x, y, flux, snr, fwhm, np.arange(3 * n).reshape(3, n), np.arange(n) > 2)
    some = stars.take(np.array([4, 1]))
    assert len(some) == 2
    assert np.array_equal(some.xy, [[4.0, 14.0], [1.0, 11.0]])
    assert np.array_equal(some.colour_flux, [[4, 1], [9, 6], [14, 11]])
    assert np.array_equal(some.saturated, [True, False])
    assert len(Stars.empty(3)) == 0
    assert Stars.empty(3).colour_flux.shape == (3, 0)

"""Which circles, which blends, which stamps."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from difflapse.changes.variability import Variability
from difflapse.model import FrameFacts, Quality, Stars
from difflapse.model.catalogue import Catalogue
from difflapse.pipeline import stamps
from difflapse.pipeline.config import RunOptions
from difflapse.pipeline.context import Night, forget
from difflapse.pipeline.curves import kept_stars
from difflapse.pipeline.starlight import RADIUS, blended, night_radius, sky_positions


def stars(x, y, flux):
    one = np.ones(len(x))
    return Stars(np.array(x), np.array(y), np.array(flux), one, one, np.array(flux)[None], one < 0)


def test_the_radius_follows_the_nights_worse_frames():
    quality = [Quality(9, w, (1.0,), (1.0,), 1.0) for w in (2.0, 2.2, 2.4, 3.0, float("nan"))]
    assert night_radius(quality) == pytest.approx(RADIUS * 2.55)  # the 75th percentile of four
    trailed = [Quality(9, 2.4, (1.0,), (1.0,), 1.7)]
    assert night_radius(trailed) == pytest.approx(RADIUS * 2.4 * 1.7**0.5)
    assert night_radius([]) > 0


def test_a_star_is_blended_by_what_is_bright_enough_and_near_enough():
    some = stars(
        [10.0, 15.0, 60.0, 65.0, 200.0], [10.0, 12.0, 30.0, 30.0, 5.0], [1000.0, 50.0, 1000.0, 5.0, 9.0]
    )
    assert list(blended(some, 8.0)) == [True, True, False, True, False]
    assert not blended(some, 3.0).any()


def test_without_a_wcs_places_are_unknown():
    ra, dec = sky_positions("", np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    assert np.isnan(ra).all() and np.isnan(dec).all()


def test_the_faint_stars_that_are_kept_are_those_that_look_variable():
    n = 100
    chance = np.full(n, 0.5)
    chance[[3, 80, 99]] = 1e-6
    chance[90] = np.nan
    none = np.zeros(n)
    judged = Variability(np.arange(n), none, none, chance, none, none, none, none, none, 99)
    assert list(kept_stars(judged, 10, 105)) == [*range(10), 80, 99]


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_stamps_are_whole_cells_as_the_camera_gave_them(tmp_path, dtype):
    scratch = tmp_path / "s"
    scratch.mkdir()
    rng = np.random.default_rng(3)
    data = rng.integers(0, 30_000, (60, 90)).astype(dtype)
    if dtype == "uint16":
        data += 30_000
    facts = FrameFacts("a", "a", 0, data.shape, dtype, mosaic="GBRG", start_mjd=58000.0, exposure_s=10.0)
    night = Night("n", (facts, facts), RunOptions(save=("stamps",)), str(scratch), str(tmp_path))
    x, y = np.array([40.3, 2.0, 71.7]), np.array([25.8, 30.0, 31.2])
    catalogue = Catalogue(x, y, x * np.nan, x * np.nan, np.zeros(3, np.uint8), 4.2, 3)
    try:
        night.share("catalogue", catalogue)
        night.make_array("light", (2, 9, 3), np.float32)
        stamps.lay_out(night, catalogue)
        for k in (0, 1):
            stamps.cut(night, k, data, x, y)
        assert stamps.write_stamps(night, [0, 1]) == ["stamps/stamps.fits"]
        with fits.open(tmp_path / "stamps" / "stamps.fits") as file:
            rows, header = np.array(file[1].data), file[1].header
            values = file[1].data["stamp"]
        side = stamps.stamp_side(4.2)
        assert header["PATTERN"] == "GBRG" and side == 14 and values.shape == (4, side, side)
        assert list(rows["star"]) == [0, 0, 2, 2]  # the one at the edge has none
        for row, stamp in zip(rows, values, strict=True):
            i, j, star = row["x_corner"], row["y_corner"], row["star"]
            assert i % 2 == 0 and j % 2 == 0
            assert (stamp == data[j : j + side, i : i + side]).all()
            # The circle lies within it.
            assert i <= x[star] - 4.2 and x[star] + 4.2 <= i + side - 1
    finally:
        forget()

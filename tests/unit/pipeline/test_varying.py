"""Which stars are listed as varying by their light curves alone."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table

from difflapse.model.catalogue import BLENDED
from difflapse.pipeline.varying import varying_stars

RADIUS = 3.5
NONE = Table(names=("kind", "x_pix", "y_pix"), dtype=("U9", float, float))


def stars(**more):
    """Eight stars 40 px apart, of which numbers 3, 5 and 6 look variable; 1000 were tested."""
    n = 8
    columns = {
        "star": np.arange(n) + 2,
        "x_pix": 30.25 + 40 * np.arange(n),
        "y_pix": np.full(n, 60.5),
        "ra_deg": MaskedColumn(np.zeros(n), mask=np.ones(n, bool)),
        "dec_deg": MaskedColumn(np.zeros(n), mask=np.ones(n, bool)),
        "mag": np.linspace(-9, -5, n),
        "scatter_mag": np.full(n, 0.01),
        "amplitude_mag": np.full(n, 0.3),
        "false_alarm": np.array([0.5, 3e-7, 0.02, 8e-12, 9e-5, 0.2, 2e-4, 0.9]),
        "borne_out": np.array([0.4, 0.9, 0.4, 0.8, 0.7, 0.4, 0.7, 0.3]),
        "n_frames": np.full(n, 20),
        "flags": np.zeros(n, int),
    }
    return Table(
        {**columns, **more}, meta={"stars_tested": 1000, "aperture_radius_pix": RADIUS, "exposure_s": 60.0}
    )


def changes(kind, x, y):
    return Table({"kind": [kind], "x_pix": [x], "y_pix": [y]})


def test_those_below_the_false_alarms_of_the_night_strongest_first():
    found = varying_stars(stars(), NONE, 0.1)
    assert list(found["star"]) == [5, 3, 6]
    assert list(found["name"]) == ["star X150Y60", "star X70Y60", "star X190Y60"]
    assert found.meta == {"stars_tested": 1000, "false_alarms": 0.1}
    assert list(varying_stars(stars(), NONE, 0.05)["star"]) == [5, 3]
    assert list(varying_stars(stars(), NONE, 0.5)["star"]) == [5, 3, 6, 8]
    assert len(varying_stars(stars(), NONE, 1e-12)) == 0


@pytest.mark.parametrize(
    ("kind", "away", "listed"),
    [("variable", 0.4, False), ("transient", 6.5, False), ("transient", 7.5, True), ("mover", 0.4, True)],
)
def test_what_is_or_lies_in_the_light_of_a_change_that_stays_is_not_listed(kind, away, listed):
    found = varying_stars(stars(), changes(kind, 150.25, 60.5 + away), 0.1)
    assert (5 in found["star"]) == listed


def test_of_stars_whose_circles_overlap_the_strongest_is_listed():
    table = stars()
    table["x_pix"][1] = 144.0
    assert list(varying_stars(table, NONE, 0.1)["star"]) == [5, 6]


def test_a_blended_star_is_listed_where_the_differences_know_of_it():
    flags = np.zeros(8, int)
    flags[[1, 3]] = BLENDED
    agreed = MaskedColumn(stars()["borne_out"], mask=np.arange(8) == 1)
    assert list(varying_stars(stars(flags=flags, borne_out=agreed), NONE, 0.1)["star"]) == [5, 6]


def test_places_are_named_on_the_sky_and_tables_of_older_runs_are_read():
    table = stars(ra_deg=np.full(8, 31.0425), dec_deg=np.full(8, -6.6876))
    del table["borne_out"]
    assert varying_stars(table, NONE, 0.1)["name"][0] == "star J0204.2-0641"

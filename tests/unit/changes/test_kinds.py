"""What changes are told with."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.changes.kinds import with_curves
from difflapse.model.sightings import Change


def change(kind: str, x: float, y: float) -> Change:
    return Change(kind, x, y, 0, 11, 8.0, 20.0, np.zeros(0, int), amplitude_mag=0.5, note="why")


def test_a_variable_gets_its_star_s_number_and_amplitude_or_says_that_it_has_none() -> None:
    given = [
        change("variable", 100.3, 50.2),
        change("variable", 208.0, 4.5),
        change("transient", 300.0, 40.0),
    ]
    star, x, y = np.array([3, 8, 9]), np.array([100.0, 180.0, 206.5]), np.array([50.5, 7.0, 6.5])
    near, edge, new = with_curves(given, star, x, y, np.array([0.31, 0.02, 0.7]), 1.5)
    assert (near.star, near.amplitude_mag, near.note) == (3, pytest.approx(0.31), "why")
    assert (edge.star, edge.amplitude_mag) == (-1, pytest.approx(0.5))
    assert edge.note.startswith("why; ") and "light curve" in edge.note
    assert (new.star, new.note) == (-1, "why")


def test_a_night_without_light_curves_has_none_to_give() -> None:
    none = np.zeros(0)
    (alone,) = with_curves([change("variable", 100.3, 50.2)], none.astype(int), none, none, none, 1.5)
    assert alone.star == -1
    assert "light curve" in alone.note

"""What became of what was planted: shares with errors, limits, and what is nobody's."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.changes.link import LinkOptions
from difflapse.model.sightings import Sightings
from difflapse.pipeline.depth import Verdict, binomial, completeness_table, fit_limits, judge
from difflapse.pipeline.plant import Planted
from difflapse.pipeline.tables import tell_depth

FRAMES = 10


def planted_things() -> Planted:
    """Two new stars and a mover."""
    t = np.arange(FRAMES)
    x = np.stack([np.full(FRAMES, 100.3), np.full(FRAMES, 300.7), 500.2 + 5.0 * t])
    y = np.stack([np.full(FRAMES, 80.1), np.full(FRAMES, 90.4), 200.6 - 3.0 * t])
    on = np.ones((3, FRAMES), bool)
    on[0, 5:] = False
    return Planted(
        np.array([0, 0, 1]), x, y, np.zeros((3, 2)), on, np.ones((1, 3)), np.array([1.1, 2.2, 1.4]),
        np.zeros((FRAMES, 3, 2), int), 32, 15,
    )  # fmt: skip


def seen(places: list[tuple[int, int, float, float, float]]) -> tuple[np.ndarray, Sightings]:
    """Sightings (window, frame, x, y, snr) as the probe gives them."""
    window, frame, x, y, snr = (np.array(v) for v in zip(*places, strict=True))
    n = len(window)
    return window.astype(int), Sightings(
        frame.astype(np.int32), x.astype(float), y.astype(float), snr.astype(float), np.full(n, 2.2),
        np.zeros(n, np.int32), error=np.full(n, 0.2), sharpness=np.full(n, 0.3),
    )  # fmt: skip


def test_new_stars_and_movers_are_told_apart_and_strangers_counted():
    thing = planted_things()
    places = [(0, k, 100.3, 80.1, 12.0) for k in range(5)]
    places += [(2, k, thing.x[2, k], thing.y[2, k], 11.0) for k in range(FRAMES)]
    places += [(1, k, 325.0, 110.0, 20.0) for k in range(6)]
    window, sightings = seen(places)
    options = LinkOptions(0.1, 2.2, 4e6)
    verdict = judge(thing, window, sightings, np.arange(FRAMES) * 0.05, options, np.zeros((0, 2)))
    assert verdict.found.tolist() == [True, False, True]
    assert verdict.seen.tolist() == [True, False, True]
    assert verdict.false_kind == ("transient",) and verdict.false_snr == pytest.approx([20.0])
    # The night's own change there is no fault.
    verdict = judge(thing, window, sightings, np.arange(FRAMES) * 0.05, options, np.array([[324.0, 111.0]]))
    assert verdict.false_kind == ()


def test_windows_are_not_linked_with_each_other():
    thing = planted_things()
    # A straight track across two windows, one sighting in each frame.
    places = [(k % 2, k, 200.0 + 6 * k, 85.0 + 2 * k, 9.0) for k in range(FRAMES)]
    window, sightings = seen(places)
    verdict = judge(
        thing, window, sightings, np.arange(FRAMES) * 0.05, LinkOptions(0.1, 2.2, 4e6), np.zeros((0, 2))
    )
    assert not verdict.found.any()


def test_errors_are_not_nought_where_all_are_found():
    share, error = binomial(10, 10)
    assert share == 1.0 and error == pytest.approx(0.5 / 11, rel=0.1)
    share, error = binomial(200, 400)
    assert share == 0.5 and error == pytest.approx(0.025, rel=0.02)


def test_limits_of_a_known_curve():
    rng = np.random.default_rng(2)
    mag = rng.uniform(0, 4, 400)
    found = rng.random(400) < 1 / (1 + np.exp((mag - 2.3) / 0.15))
    limits = fit_limits(mag, found)
    error = limits["mag_50_err"]
    assert error is not None and 0.01 <= error < 0.12
    assert limits["mag_50"] == pytest.approx(2.3, abs=4 * error)
    assert limits["mag_90"] == pytest.approx(2.3 - 0.15 * np.log(9), abs=0.2)
    assert fit_limits(mag, np.ones(400, bool))["mag_50"] is None


def test_a_table_counts_everything_once():
    rng = np.random.default_rng(3)
    n = 90
    kind = np.repeat([0, 1], [60, 30])
    mag = rng.uniform(-2, 1, n)
    on = np.ones((n, FRAMES), bool)
    on[7] = False  # never on the products
    x = np.zeros((n, FRAMES))
    thing = Planted(
        kind, x, x, np.zeros((n, 2)), on, np.ones((1, n)), mag, np.zeros((FRAMES, n, 2), int), 32, 15
    )
    snr = 10 ** (1 - 0.4 * mag)
    verdict = Verdict(mag < 0, mag < 0.2, ("mover",), np.array([10.0]))
    table = completeness_table(thing, snr, verdict)
    own = table[table["kind"] == "transient"]
    assert own["n_planted"].sum() == 59 and table["n_planted"].sum() == 89
    assert own["n_found"].sum() == ((mag < 0) & (kind == 0) & on.any(axis=1)).sum()
    assert (table["completeness"][table["mag"] < -0.3] == 1).all()
    assert (table["completeness"][table["mag"] > 0.3] == 0).all()
    assert table["n_false"].sum() == 1 and table["mag"][table["n_false"] == 1][0] in (-0.25, 0.25)
    assert table.meta["limits"]["mover"]["mag_50"] == pytest.approx(0.0, abs=0.25)
    assert "half of new stars of magnitude" in tell_depth(table) and "movers" in tell_depth(table)

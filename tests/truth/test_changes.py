"""What changed in simulated nights: all that was planted, by its right kind, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from difflapse.synth.scene import Mover, Nova, SkyObject, Streak, Variable
from difflapse.synth.score import score

from .conftest import Done, Make, NightSpec, spec_of

SHAPE = (520, 780)
HOURS = 13 * 178 / 3600
PLANTED: tuple[SkyObject, ...] = (
    Mover((0.31, 0.62), (4.1, -2.7), 12.6),
    Mover((0.68, 0.29), (-3.2, 2.2), 13.4),
    Variable((0.52, 0.71), mag=10.8, amplitude_mag=0.5, period_h=0.9 * HOURS),
    Nova((0.24, 0.27), mag=12.6, start_h=0.4 * HOURS, rise_h=0.1),
    Streak(9, (0.15, 0.9), (0.85, 0.42), adu_per_pix=45.0),
)


def specs(seed: int, planted: tuple[SkyObject, ...]) -> NightSpec:
    return replace(spec_of(SHAPE, frames=14, seed=seed, clouds=1), objects=planted)


@pytest.fixture(scope="module", params=[41, 42])
def eventful(request: pytest.FixtureRequest, done: Make) -> Done:
    return done(specs(request.param, PLANTED))


def test_what_was_planted_is_found_by_its_kind_and_little_else(eventful: Done) -> None:
    result = score(eventful.truth, eventful.run.changes, eventful.reference)
    assert all(p.snr > 12 for p in result.planted)
    assert {p.name: p.found_as for p in result.planted} == {p.name: p.kind for p in result.planted}
    assert len(result.false) <= 1


def test_rates_and_fluxes_are_the_planted_ones(eventful: Done) -> None:
    truth, changes, seen = eventful.truth, eventful.run.changes, eventful.run.detections
    result = score(truth, changes, eventful.reference)
    for thing, planted in zip(truth.objects, result.planted, strict=True):
        if thing.kind != "mover":
            continue
        row = changes[planted.change]
        x, y = truth.sky_to_pixel(eventful.reference, thing.ra_deg, thing.dec_deg)
        times = np.array([f.mid_mjd for f in truth.frames]) * 24
        rate = np.hypot(np.polyfit(times, x, 1)[0], np.polyfit(times, y, 1)[0])
        assert abs(row["rate_pix_per_hour"] - rate) < 4 * row["rate_err_pix_per_hour"] + 0.002 * rate
        own = seen[(seen["change"] == planted.change) & (seen["flags"] == 0)]
        # Green pixels are half of all; a circle of 1.1 FWHM holds 0.85 of a star's light, Moffat wings and all. The
        # mean of some 10 sightings of S/N 15 is good to a few per cent, stars in the circle to some more.
        share = np.array([row["flux_adu"] / (0.5 * thing.flux_adu[row["frame"]]) for row in own])
        assert np.median(share) == pytest.approx(0.85, abs=0.17)


def test_all_sightings_of_changes_are_believed_and_lie_in_their_frames(eventful: Done) -> None:
    seen = eventful.run.detections
    assert np.all(np.asarray(seen["flags"])[seen["change"] >= 0] & ~2048 == 0)
    for k in np.unique(seen["frame"]):
        own = seen[(seen["frame"] == k) & ~np.ma.getmaskarray(seen["x_frame_pix"])]
        x, y = eventful.run.frames[int(k)].to_reference(own["x_frame_pix"], own["y_frame_pix"])
        assert np.allclose(x, own["x_pix"], atol=2e-3) and np.allclose(y, own["y_pix"], atol=2e-3)


def test_a_quiet_night_has_no_change(done: Make) -> None:
    quiet = done(specs(43, ()))
    assert len(quiet.run.changes) <= 1


def test_without_a_difference_there_are_no_tables(done: Make) -> None:
    none = done(spec_of(), diff="none")
    assert not (none.out / "changes.ecsv").exists()
    assert none.run.sequences[0].summary()["changes"] is None


def test_a_mover_is_one_thing_in_running_differences_too(done: Make) -> None:
    """It shows twice there, bright and dark; the dark side is no change."""
    running = done(specs(41, PLANTED), diff="running")
    result = score(running.truth, running.run.changes, running.reference)
    movers = [p for p in result.planted if p.kind == "mover"]
    assert all(p.recovered for p in movers)
    kinds = [str(running.run.changes["kind"][i]) for i in result.false]
    assert kinds.count("mover") == 0

"""What a run says of its depth, beside what became of things that are really in its frames."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from difflapse import synth
from difflapse.synth.score import score

SPEC = synth.preset(
    "changes",
    frames=12,
    shape=(700, 1050),
    seed=31,
    clouds=0,
    comets=0,
    streaks=0,
    variables=0,
    movers=14,
    novae=14,
)


@pytest.fixture(scope="module")
def deep(done, tmp_path_factory):
    """Twelve frames with a dozen each of movers and new stars; a catalogue that knows the brightest new star."""
    truth = synth.truth_of(SPEC)
    nova = min((o for o in truth.objects if o.kind == "nova"), key=lambda o: o.mag.min())
    path = tmp_path_factory.mktemp("catalogue") / "known.ecsv"
    Table(
        {
            "name": ["it", "elsewhere"],
            "ra": [nova.ra_deg[0], 10.0],
            "dec": [nova.dec_deg[0], 10.0],
            "type": ["N", "N"],
        }
    ).write(path)
    return done(SPEC, crossmatch=str(path))


def test_injected_completeness_is_that_of_what_is_there(deep):
    table = deep.run.completeness
    assert table["n_planted"].sum() >= 50
    changes = Table.read(deep.out / "changes.ecsv")
    result = score(deep.truth, changes, deep.reference)
    expected = variance = 0.0
    recovered = 0
    own = {kind: table[table["kind"] == kind] for kind in ("transient", "mover")}
    for thing in result.planted:
        if thing.n_sightings < 2:
            continue
        rows = own[thing.kind]
        order = np.argsort(rows["snr"])
        share, error = (
            float(np.interp(thing.snr, rows["snr"][order], rows[name][order]))
            for name in ("completeness", "completeness_err")
        )
        expected += share
        variance += share * (1 - share) + error**2
        recovered += thing.recovered
    assert recovered > 5
    assert abs(recovered - expected) < 3 * np.sqrt(variance)


def test_bright_ones_are_found_and_the_faintest_are_not(deep):
    table = deep.run.completeness
    bright, faint = table[table["snr"] > 20], table[table["snr"] < 4]
    # 10 % of those in crowds and at edges are lost; three sigma of what is left of 15 or so.
    assert bright["n_found"].sum() / bright["n_planted"].sum() > 0.7
    assert faint["n_found"].sum() / faint["n_planted"].sum() < 0.4
    limits = table.meta["limits"]
    assert table.meta["false_alarms"]["transient"] + table.meta["false_alarms"]["mover"] <= 2
    assert any(v["mag_50"] is not None for v in limits.values())
    assert "depth" in deep.run.summary()["sequences"][0]


def test_a_catalogue_names_what_it_knows(deep):
    changes = Table.read(deep.out / "changes.ecsv")
    named = changes[changes["known"] == "it"]
    assert len(named) == 1 and named["known_catalogue"][0] == "known.ecsv" and named["known_type"][0] == "N"
    # A quarter of a pixel of 10.3 arcsec, and the WCS's own error of a pixel.
    assert named["known_separation_arcsec"][0] < 15
    assert (changes["known"] == "elsewhere").sum() == 0


def test_without_injection_there_is_none_and_nothing_else_differs(deep, done):
    plain = done(SPEC, injection=False)
    assert not (plain.out / "completeness.ecsv").exists()
    for name in ("detections.ecsv", "changes.ecsv"):
        a, b = (Table.read(out / name) for out in (plain.out, deep.out))
        assert len(a) == len(b)
        assert np.array_equal(np.asarray(a["x_pix"]), np.asarray(b["x_pix"]))
    assert (plain.out / "template.fits").stat().st_size == (deep.out / "template.fits").stat().st_size


@pytest.mark.parametrize("diff", ["running", "rolling"])
def test_neighbours_in_time_are_planted_too(done, diff):
    spec = synth.preset(
        "changes", frames=8, shape=(520, 780), seed=5, clouds=0, comets=0, streaks=0, variables=0
    )
    table = done(spec, diff=diff, window=5).run.completeness
    assert table.meta["diff"] == diff
    movers = table[(table["kind"] == "mover") & (table["snr"] > 12)]
    assert movers["n_planted"].sum() >= 4
    # A running difference shows a slow one less the light of the frame before, and few frames hold half of each track.
    share = movers["n_any_kind"].sum() / movers["n_planted"].sum()
    assert share > (0.25 if diff == "running" else 0.5)
    faint = table[table["snr"] < 4]
    assert faint["n_found"].sum() / faint["n_planted"].sum() < 0.4

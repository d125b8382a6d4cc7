"""One lens for a night, through a whole run."""

from __future__ import annotations

import numpy as np
import pytest

import difflapse

from .conftest import SHAPE, Make, in_clouds, spec_of

NY, NX = SHAPE


@pytest.mark.parametrize("wcs", [True, False])
def test_a_night_with_one_lens(done: Make, wcs: bool) -> None:
    """Some 200 to 400 stars of 0.03 to 0.06 px fix a pose to 0.005 px; in thick clouds only those are left that are
    saturated elsewhere: that frame keeps its own transform and says why.
    """
    spec = in_clouds(spec_of(SHAPE, frames=7, wcs=wcs), 5)
    night = done(spec, transform="lens", diff="none")
    rows = night.run.table
    gx, gy = np.meshgrid(np.linspace(0, NX - 1, 27), np.linspace(0, NY - 1, 19))
    again = difflapse.open_run(night.out)
    others = [k for k in night.used if k != night.reference]
    assert len(others) >= 5
    for k in others:
        assert ("no lens: " if k == 5 else "the night's lens on") in rows[k]["note"]
        x, y = again.frames[k].to_reference(gx, gy)
        tx, ty = night.truth.to_reference(k, night.reference, gx, gy)
        away = np.hypot(x - tx, y - ty)
        assert np.sqrt(np.mean(away**2)) < (0.1 if k == 5 else 0.02)
        assert rows[k]["n_matched"] > 5
    assert rows.meta["lens"].startswith("one lens of degree")


@pytest.mark.parametrize("wcs", [True, False])
def test_a_meridian_flip_in_the_middle_of_a_night_is_the_same_lens(done: Make, wcs: bool) -> None:
    """The camera turns by half a turn: its lens turns with it, and is one with that of the frames before."""
    night = done(spec_of(SHAPE, frames=8, flip_at=4, wcs=wcs), transform="lens", diff="none")
    gx, gy = np.meshgrid(np.linspace(0, NX - 1, 27), np.linspace(0, NY - 1, 19))
    rows = night.run.table
    assert night.used == list(range(8))
    turned = np.array([abs(float(rows[k]["rotation_deg"])) > 179 for k in night.used])
    assert turned.tolist() in ([False] * 4 + [True] * 4, [True] * 4 + [False] * 4)
    for k in night.used:
        if k == night.reference:
            continue
        assert "the night's lens on" in rows[k]["note"]
        x, y = night.run.frames[k].to_reference(gx, gy)
        tx, ty = night.truth.to_reference(k, night.reference, gx, gy)
        # Where the reference sees it; the lens is told by what both sides of the flip see of each place.
        seen = (tx >= 0) & (ty >= 0) & (tx <= NX - 1) & (ty <= NY - 1)
        assert np.sqrt(np.mean(((x - tx) ** 2 + (y - ty) ** 2)[seen])) < 0.02


def test_a_night_that_cannot_carry_a_lens_says_so(done: Make) -> None:
    """Headers alone fit no star, and a lens is fitted to stars."""
    night = done(spec_of(frames=4), align="wcs", transform="lens", diff="none")
    for k in night.used:
        assert ("no lens: " in night.run.table[k]["note"]) == (k != night.reference)

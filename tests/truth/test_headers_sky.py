"""Without a solver the WCS of the products is what the headers agree on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import difflapse
from difflapse import synth

from .conftest import SHAPE, Notes, spec_of

FRAMES = 5


@pytest.fixture
def night(simulated, tmp_path: Path) -> tuple[Path, synth.Truth]:
    """A night of its own, to be written to: the headers of frames 1 and 2 are changed by the tests."""
    folder, truth = simulated(spec_of(SHAPE, frames=FRAMES, seed=31))
    shutil.copytree(folder, tmp_path / "night")
    return tmp_path / "night", truth


def off(run: difflapse.pipeline.results.Run, truth: synth.Truth) -> float:
    """The largest distance of the products' sky from the truth, native px."""
    x, y = (
        g.ravel() for g in np.meshgrid(np.linspace(0, SHAPE[1] - 1, 15), np.linspace(0, SHAPE[0] - 1, 11))
    )
    world = run.wcs.pixel_to_world((x - 0.5) / 2, (y - 0.5) / 2).icrs
    k = run.reference.number
    return float(np.hypot(*(np.array(truth.sky_to_pixel(k, world.ra.deg, world.dec.deg)) - [x, y])).max())


def change(file: Path, **cards: float | None) -> None:
    with fits.open(file, mode="update") as hdus:
        header = hdus[1].header
        for key, value in cards.items():
            if value is None:
                del header[key]
            else:
                header[key] = header[key] + value


def test_a_confident_header_that_is_wrong_is_caught_even_in_the_reference(
    night: tuple[Path, synth.Truth], tmp_path: Path
) -> None:
    folder, truth = night
    change(folder / truth.frames[1].file, CRVAL2=0.4)
    notes = Notes()
    run = difflapse.run(folder, tmp_path / "out", reference=1, progress=notes, workers=1)
    # Four headers of 28 stars with 0.25 px each: 0.5 px at a corner, and what their order lacks.
    assert off(run, truth) < 1.5
    assert run.table.meta["wcs"].startswith("TAN-SIP of order 2, mean of 4 headers")
    (note,) = [text for text in notes.said if text.startswith("WCS")]
    assert truth.frames[1].file in note and "contradict the others" in note


def test_a_reference_without_wcs_gets_one_from_the_others(
    night: tuple[Path, synth.Truth], tmp_path: Path
) -> None:
    folder, truth = night
    change(folder / truth.frames[2].file, CTYPE1=None, CTYPE2=None)
    run = difflapse.run(folder, tmp_path / "out", reference=2, workers=1)
    assert "mean of 4 headers" in run.table.meta["wcs"]
    assert off(run, truth) < 1.5
    assert fits.getheader(tmp_path / "out" / "template.fits")["WCSFROM"] == "headers"

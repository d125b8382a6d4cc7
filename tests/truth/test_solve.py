"""A night without WCS gets one from real index files, made here of the simulated sky by astrometry.net's own tools."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table
from astropy.wcs import WCS

import difflapse
from difflapse.errors import OptionError
from difflapse.pipeline.results import Run
from difflapse.synth import NightSpec, Truth

from .conftest import SHAPE, Notes, spec_of

LIMIT = 0.1
"""Px: how far sky positions may be off, anywhere on the frame."""
SOLVERS = {
    "solve-field": ""
    if shutil.which("solve-field")
    else "solve-field (Debian: astrometry.net) is not installed",
    "astrometry": "" if importlib.util.find_spec("astrometry") else "the package astrometry is not installed",
}

pytestmark = pytest.mark.skipif(
    shutil.which("build-astrometry-index") is None,
    reason="build-astrometry-index (Debian: astrometry.net) is not installed",
)
needs_solve_field = pytest.mark.skipif(bool(SOLVERS["solve-field"]), reason=SOLVERS["solve-field"])


@pytest.fixture(scope="session")
def night(simulated: Callable[[NightSpec], tuple[Path, Truth]]) -> tuple[Path, Truth]:
    return simulated(spec_of(SHAPE, frames=4, seed=21, wcs=False))


def build_index(folder: Path, ra: np.ndarray, dec: np.ndarray, mag: np.ndarray) -> Path:
    """Index files for fields of a degree and two."""
    folder.mkdir()
    order = np.argsort(mag)
    table = Table([ra[order], dec[order], mag[order]], names=["RA", "DEC", "MAG"])
    table.write(folder / "catalogue.fits")
    for preset in (5, 7):
        subprocess.run(
            ["build-astrometry-index", "-i", folder / "catalogue.fits", "-o", folder / f"index-{preset}.fits",
             "-P", str(preset), "-S", "MAG", "-n", "100", "-E", "-I", str(preset), "-j", "0.1", "-t", folder],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def index_files(night: tuple[Path, Truth], tmp_path_factory: pytest.TempPathFactory) -> Path:
    truth = night[1]
    bright = truth.star_mag < 12
    folder = tmp_path_factory.mktemp("sky") / "index"
    return build_index(folder, truth.star_ra_deg[bright], truth.star_dec_deg[bright], truth.star_mag[bright])


def off(wcs: WCS, header: fits.Header, truth: Truth, reference: int) -> float:
    """The largest distance, native px, between what a product's WCS says and the truth, over the reference's grid."""
    ny, nx = header["NAXIS2"], header["NAXIS1"]
    i, j = (g.ravel() for g in np.meshgrid(np.linspace(0, nx - 1, 21), np.linspace(0, ny - 1, 15)))
    world = wcs.pixel_to_world(i, j, 0)[0] if wcs.naxis == 3 else wcs.pixel_to_world(i, j)
    x, y = truth.sky_to_pixel(reference, world.icrs.ra.deg, world.icrs.dec.deg)
    native_x = (i + 1 - header["LTV1"]) / header["LTM1_1"] - 1
    native_y = (j + 1 - header["LTV2"]) / header["LTM2_2"] - 1
    return float(np.hypot(x - native_x, y - native_y).max())


@pytest.mark.parametrize(
    "solver", [pytest.param(s, marks=pytest.mark.skipif(bool(why), reason=why)) for s, why in SOLVERS.items()]
)
def test_the_sky_is_known_to_a_tenth_of_a_pixel(
    solver: str, night: tuple[Path, Truth], index_files: Path, tmp_path: Path
) -> None:
    folder, truth = night
    difflapse.run(
        folder,
        tmp_path / "out",
        solve=True,
        solver=solver,
        index_files=str(index_files),
        save="aligned",
        workers=1,
    )
    run = difflapse.open_run(tmp_path / "out")
    k = run.reference.number
    header = fits.getheader(tmp_path / "out" / "template.fits")
    assert header["WCSFROM"] == solver
    assert off(run.template.wcs, header, truth, k) < LIMIT
    assert off(run.template.wcs.celestial, header, truth, k) < LIMIT
    assert off(run.wcs, header, truth, k) < LIMIT
    for path in sorted((tmp_path / "out" / "aligned").glob("*.fits")):
        assert off(CCDData.read(path).wcs, fits.getheader(path), truth, k) < LIMIT
        sip = fits.getheader(path, "SKY")
        assert sip["CTYPE1"] == "RA---TAN-SIP" and 2 <= sip["A_ORDER"] <= 5
        assert off(WCS(sip), fits.getheader(path), truth, k) < LIMIT
    # The text, the scale and the record all speak of the same.
    text = run.table.meta["wcs"]
    assert f"by {solver}" in text and "index-" in text
    assert run.summary()["sequences"][0]["wcs"] == text
    wcs = tomllib.loads((tmp_path / "out" / "run.toml").read_text())["provenance"]["wcs"]
    assert wcs["source"] == solver and wcs["index_file"].startswith("index-")
    rows = run.table[run.table["method"] != "reference"]
    np.testing.assert_allclose(rows["rms_arcsec"] / rows["rms_pix"], 10.3, atol=0.05)


@needs_solve_field
def test_a_crop_on_the_sky_finds_its_place(
    night: tuple[Path, Truth], index_files: Path, tmp_path: Path
) -> None:
    folder, truth = night
    ra, dec = (float(v) for v in truth.pixel_to_sky(1, 500.3, 210.8))
    given = {"center": f"{ra},{dec}", "size": "30arcmin", "workers": 1}
    with pytest.raises(OptionError, match="has no WCS") as caught:
        difflapse.run(folder, tmp_path / "out", **given)
    assert "--solve" in caught.value.hint
    run: Run = difflapse.run(folder, tmp_path / "out", **given, solve=True, index_files=str(index_files))
    header = fits.getheader(tmp_path / "out" / "template.fits")
    x, y = truth.sky_to_pixel(run.reference.number, ra, dec)
    middle = [((header[f"NAXIS{n}"] + 1) / 2 - header[f"LTV{n}"]) / header[f"LTM{n}_{n}"] - 1 for n in (1, 2)]
    np.testing.assert_allclose(middle, [x, y], atol=2.0)
    assert abs(header["NAXIS1"] * 2 - 1800 / 10.3) < 3
    assert off(run.template.wcs, header, truth, run.reference.number) < LIMIT


@needs_solve_field
def test_a_field_that_is_not_solved_is_noted_and_the_night_goes_on(
    night: tuple[Path, Truth], tmp_path: Path
) -> None:
    rng = np.random.default_rng(8)
    elsewhere = build_index(
        tmp_path / "index", rng.uniform(10, 13, 400), rng.uniform(-41, -38, 400), rng.uniform(6, 12, 400)
    )
    notes = Notes()
    run = difflapse.run(
        night[0],
        tmp_path / "out",
        progress=notes,
        solve=True,
        index_files=str(elsewhere),
        solve_limit=20.0,
        workers=1,
    )
    assert all(frame.used for frame in run.frames)
    assert run.table.meta["wcs"] == "none"
    assert run.wcs is None and run.template.wcs is None
    (note,) = [text for text in notes.said if text.startswith("not solved")]
    # Three frames are asked, and each is either searched to its end or given up in time.
    assert note.count(".fits") == 3
    assert note.count("not solved within") + note.count("found no place on the sky") >= 3

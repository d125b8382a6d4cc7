"""The page's data from a run's products, and what may be missing among them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

import difflapse
from difflapse.errors import InputError
from difflapse.pipeline.report import page_data, remake
from difflapse.pipeline.results import Night
from difflapse.pipeline.written import read_products


@pytest.fixture(scope="module")
def made(small_night: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "out"
    difflapse.run(small_night, out, workers=1, width=640)
    return out


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A run whose tables each test writes itself."""
    folder = Path(shutil.copytree(made, tmp_path / "run"))
    for name in ("stars.ecsv", "lightcurves.fits", "changes.ecsv", "detections.ecsv", "completeness.ecsv"):
        (folder / name).unlink(missing_ok=True)
    remake(folder)
    return folder


def test_a_run_ends_with_its_page_and_lists_it(made: Path) -> None:
    listed = read_products(made)
    assert {"report.html", "report_files/night.js", "report_files/page.css"} <= set(listed)
    assert all((made / name).exists() for name in listed)
    text = (made / "report_files/night.js").read_text(encoding="utf-8")
    told = json.loads(text.removeprefix('difflapse.give("night", ').removesuffix(");\n"))
    assert told["frames"]["status"] == ["used"] * 5
    assert told["reference"]["nx"] == 390
    assert told["object"]
    assert told["run"]["command"].startswith("difflapse run ../")
    assert "--width 640" in told["run"]["command"]
    assert "--workers" not in told["run"]["command"], "says how it ran, not what was made"
    assert len(told["run"]["inputs"]) == 5
    assert {item["name"] for item in told["run"]["products"]} >= {"timelapse.mp4", "frames.ecsv", "run.toml"}


def test_it_is_made_again_the_same_and_what_is_stale_goes(run: Path) -> None:
    before = {p.name: p.read_bytes() for p in (run / "report_files").iterdir()}
    stars(run)
    remake(run)
    assert (run / "report_files/curves-000.js").exists()
    assert "report_files/curves-000.js" in read_products(run)
    for name in ("stars.ecsv", "lightcurves.fits"):
        (run / name).unlink()
    assert remake(run) == [run / "report.html"]
    after = {p.name: p.read_bytes() for p in (run / "report_files").iterdir()}
    assert after.keys() == before.keys()
    for name in ("stars.js", "transforms.js", "viewer.js"):
        assert after[name] == before[name]


def test_changing_stars_keep_their_curves_first(run: Path) -> None:
    stars(run)
    Table(rows=[(0, "variable", 9.0, 9.0, 0, 4, 5, 8.0, 7)], names=(
        "change", "kind", "x_pix", "y_pix", "first_frame", "last_frame", "n_detections", "snr", "star",
    )).write(run / "changes.ecsv", format="ascii.ecsv")  # fmt: skip
    (run / "clips").mkdir(exist_ok=True)
    (run / "clips" / "variable-0.mp4").write_bytes(b"x")
    data = page_data(Night(run))
    told = data["night"]
    assert told["changes"][0]["clip"] == "clips/variable-0.mp4"
    assert told["changes"][0]["name"] == "variable 0"
    assert told["changes"][0]["seen"] == [0, 4]
    seen = {
        "change": [0, -1, 0, 0],
        "frame": [3, 0, 1, 2],
        "x_pix": [9.0] * 4,
        "y_pix": [9.0] * 4,
        "snr": [8.0] * 4,
    }
    Table({**seen, "flux_adu": [1.0] * 4, "flux_err_adu": [1.0] * 4, "flags": [0] * 4}).write(
        run / "detections.ecsv", format="ascii.ecsv", overwrite=True
    )
    assert page_data(Night(run))["night"]["changes"][0]["seen"] == [1, 3]
    # The variable, then the flagged one, then by brightness.
    assert told["curves"]["stars"][:3].tolist() == [7, 2, 0]
    assert data["stars"]["x_pix"][1] == 11.25


def test_a_masked_value_is_unknown(run: Path) -> None:
    table = Table(Table.read(run / "frames.ecsv", format="ascii.ecsv"), masked=True)
    table["fwhm_pix"][2] = np.ma.masked
    table["time_utc"][2] = np.ma.masked
    table.write(run / "frames.ecsv", format="ascii.ecsv", overwrite=True)
    frames = page_data(Night(run))["night"]["frames"]
    assert frames["fwhm_pix"][2] is None
    assert frames["mjd"][2] is None
    assert frames["time"][2] == ""
    assert frames["fwhm_pix"][1] > 0


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"frames\.ecsv"):
        remake(tmp_path)


def test_a_damaged_table_is_named(run: Path) -> None:
    (run / "stars.ecsv").write_text("# %ECSV 1.0\n# nonsense\n")
    with pytest.raises(InputError, match=r"stars\.ecsv"):
        remake(run)


def stars(folder: Path) -> None:
    """Ten stars, brighter first; one flagged."""
    n = np.arange(10)
    Table(
        {"star": n, "x_pix": 10 + 1.25 * n, "y_pix": 20.0 + n, "mag": -10.0 + n, "flags": 4 * (n == 2)}
    ).write(folder / "stars.ecsv", format="ascii.ecsv")
    star, frame = (g.ravel() for g in np.meshgrid(n, np.arange(5), indexing="ij"))
    Table(
        {
            "star": star, "frame": frame, "channel": ["G"] * 50, "rel_flux": 1 + 0.01 * frame,
            "rel_flux_err": 0.01 + 0 * frame, "flags": 0 * frame,
        }
    ).write(folder / "lightcurves.fits")  # fmt: skip

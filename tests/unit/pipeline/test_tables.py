"""Tables: what is unknown is masked, and transforms come back to the last digit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from difflapse.errors import InputError
from difflapse.io.products import write_table
from difflapse.model import Alignment, LeftOut, ProductGrid, Quality, Transform
from difflapse.model.transform import powers
from difflapse.pipeline import tables, written

from .conftest import SHAPE, facts

NY, NX = SHAPE


def bent(degree: int = 3, size: float = 3.0) -> Transform:
    rng = np.random.default_rng(4)
    c, s = np.cos(0.3), np.sin(0.3)
    matrix = np.array([[c, -s, 31.2], [s, c, -17.7], [1e-6, -2e-6, 1]])
    return Transform(
        "polynomial",
        matrix,
        rng.uniform(-size, size, (2, len(powers(degree)))),
        (194.5, 129.5),
        234.4,
        (0.0, 0.0, NX - 1.0, NY - 1.0),
    )


TRANSFORMS = {
    "shift": Transform.from_matrix(np.array([[1.0, 0, 1 / 3], [0, 1, -np.pi]]), "shift"),
    "similarity": Transform.from_matrix(np.array([[0.99, -0.02, 7.1], [0.02, 0.99, 3.3]]), "similarity"),
    "homography": Transform("homography", np.array([[1.01, 0.02, 3], [-0.01, 0.98, 5], [2e-5, -1e-5, 1]])),
    "quadratic": bent(2),
    "cubic": bent(3),
}


def places() -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(np.linspace(0, NX - 1, 23), np.linspace(0, NY - 1, 17))
    return x, y


@pytest.mark.parametrize("name", list(TRANSFORMS))
def test_a_transform_survives_json(name: str) -> None:
    before = TRANSFORMS[name]
    after = tables.read_transform(json.loads(json.dumps(tables.transform_record(before))))
    assert after.model == before.model
    assert after.domain == before.domain
    x, y = places()
    assert np.abs(np.subtract(before(x, y), after(x, y))).max() < 1e-9


@pytest.mark.parametrize("name", list(TRANSFORMS))
def test_the_inverse_in_the_file_errs_by_no_more_than_it_says(name: str) -> None:
    """Read as the convention in the file says, by somebody without difflapse."""
    alignment = Alignment(TRANSFORMS[name], "asterism", 99, 0.05)
    grid = ProductGrid((120, 180), 2, (10, 4))
    record = json.loads(json.dumps(tables.transforms_record(facts(2), 2, [(0, facts(0), alignment)], grid)))
    item = record["frames"][0]["inverse"]
    x, y = places()
    X, Y = TRANSFORMS[name](x, y)
    h = np.array(item["matrix"])
    w = h[2, 0] * X + h[2, 1] * Y + h[2, 2]
    u, v = (h[0, 0] * X + h[0, 1] * Y + h[0, 2]) / w, (h[1, 0] * X + h[1, 1] * Y + h[1, 2]) / w
    if "coefficients" in item:
        p = (X - item["origin"][0]) / item["scale"]
        q = (Y - item["origin"][1]) / item["scale"]
        for (i, j), a, b in zip(item["powers"], *item["coefficients"], strict=True):
            u, v = u + a * p**i * q**j, v + b * p**i * q**j
    error = float(np.hypot(u - x, v - y).max())
    assert error <= 1.5 * item["max_error_pix"] + 1e-9
    assert item["max_error_pix"] < 0.01
    assert record["reference"] == {
        "frame": 2,
        "file": "night/f02.fits.fz",
        "source": "f02.fits.fz",
        "time_utc": "2018-08-24T04:55:00.000",
        "shape": [NY, NX],
        "wcs_header": "",
    }
    assert record["products"] == {"shape": [120, 180], "step": 2, "origin": [10, 4]}


def test_a_row_tells_the_alignment_in_pixels_and_degrees() -> None:
    angle, scale = 1.5, 1.02
    c, s = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    m = np.array([[c, -s], [s, c]])
    centre = np.array([(NX - 1) / 2, (NY - 1) / 2])
    shift = centre - m @ centre + [3.25, -7.5]
    alignment = Alignment(
        Transform.from_matrix(np.column_stack([m, shift]), "similarity"), "wcs", 321, 0.04, 0.09, ("a: b",)
    )
    quality = Quality(400, 2.2, (210.0, 340.0, 230.0), (9.0, 12.0, 10.0), 1.1)
    mesh = np.stack([np.full((2, 2), v) for v in (0.5, 0.6, 0.7)])
    row = tables.frame_row(3, facts(3), "f", "", quality, alignment, mesh, True, 10.3)
    assert row["status"] == "used"
    assert (row["dx_pix"], row["dy_pix"]) == pytest.approx((3.25, -7.5))
    assert row["rotation_deg"] == pytest.approx(angle)
    assert row["scale"] == pytest.approx(scale)
    assert row["rms_arcsec"] == pytest.approx(0.04 * 10.3)
    # Green stands for a mosaic.
    assert (row["background_adu"], row["noise_adu"], row["transparency"]) == (340.0, 12.0, pytest.approx(0.6))
    assert row["time_utc"] == "2018-08-24T04:58:00.000"
    assert row["in_template"] is True
    assert row["refused"] == "a: b"


def test_unknown_values_are_masked_and_survive_the_file(tmp_path: Path) -> None:
    rows = [
        tables.frame_row(0, facts(0), "a.fits", "", Quality(5, float("nan"), (3.5,), (1.0,))),
        tables.frame_row(1, facts(1, start_mjd=None, time_source=""), "b.fits", 'no stars, and a "quote"'),
        tables.left_out_row(LeftOut("dark.fits", "a dark")),
    ]
    write_table(tmp_path / "frames.ecsv", tables.frames_table(rows, {"sequence": "s", "reference_frame": 0}))
    table = Table.read(tmp_path / "frames.ecsv", format="ascii.ecsv")
    assert list(table["status"]) == ["used", "skipped", "skipped"]
    assert list(np.ma.getmaskarray(table["frame"])) == [False, False, True]
    assert list(np.ma.getmaskarray(table["time_utc"])) == [False, True, True]
    assert list(np.ma.getmaskarray(table["fwhm_pix"])) == [True, True, True]
    assert list(np.ma.getmaskarray(table["background_adu"])) == [False, True, True]
    assert table["background_adu"][0] == 3.5
    assert str(table["reason"][1]) == 'no stars, and a "quote"'
    assert str(table["background_adu"].unit) == "adu"
    assert table.meta["sequence"] == "s"
    assert list(table.colnames)[:4] == ["frame", "file", "time_utc", "time_source"]


def test_the_columns_that_were_promised_are_there() -> None:
    promised = """frame file time_utc time_source status reason method n_stars n_matched rms_pix rms_arcsec dx_pix
        p95_pix p95_arcsec corner_pix corner_arcsec dy_pix rotation_deg scale fwhm_pix background_adu noise_adu
        transparency in_template note"""
    assert set(promised.split()) <= set(tables.frame_row(0, facts(), "f", ""))


def test_provenance_lists_products_inputs_and_versions() -> None:
    record = tables.provenance({"f.fits": "0" * 64}, ["b", "a"], 1.234)
    assert record["products"] == ["a", "b"]
    assert record["inputs"] == {"f.fits": "0" * 64}
    assert {"difflapse", "python", "numpy", "astropy", "numba"} <= set(record["versions"])
    assert record["seconds"] == 1.23


@pytest.mark.parametrize("content", [None, "", "{", "[1, 2"])
def test_a_damaged_json_product_is_an_input_error(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "transforms.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"transforms\.json"):
        written.read_json(path)


def test_a_missing_run_toml_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run\.toml"):
        written.read_products(tmp_path)


@pytest.mark.parametrize(
    ("alignment", "judged_on"),
    [
        (Alignment(Transform.identity(), "wcs", 40, 0.05), "stars"),
        (Alignment(Transform.identity(), "phase", 16, 0.94, on_pixels=True), "pixels"),
        (Alignment(Transform.identity(), "interpolated", 9, float("nan")), ""),
        (Alignment(Transform.identity(), "reference", 40, 0.0), ""),
    ],
)
def test_a_frame_says_what_its_rms_was_measured_on(alignment: Alignment, judged_on: str) -> None:
    row = tables.frame_row(3, facts(3), "n3.fits", "", None, alignment)
    assert row["judged_on"] == judged_on
    assert tables.frames_table([row], {})["judged_on"][0] == judged_on


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({}, "held-out stars"),
        ({"stars": 7}, "held-out stars"),
        ({"pixels": 12}, "tiles of pixels"),
        ({"stars": 7, "pixels": 3}, "held-out stars, in 3 of 10 frames on tiles of pixels"),
    ],
)
def test_stars_are_spoken_of_where_there_were_some(counts: dict[str, int], told: str) -> None:
    assert tables.tell_judged_on(counts) == told

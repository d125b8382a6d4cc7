"""The certificate of a run: what is kept, what is judged, and what the numbers say."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import difflapse
from difflapse.errors import InputError, OutputError, PrecisionError
from difflapse.io.products import write_json, write_table, write_toml
from difflapse.model import Alignment, HeldOut, ProductGrid, Quality, Stars, Transform
from difflapse.pipeline import certificate as module
from difflapse.pipeline import tables, written
from difflapse.pipeline.certificate import judge_precision, residuals_table
from difflapse.pipeline.folder import add_products

from .conftest import SHAPE, facts

NY, NX = SHAPE
N = 700
NOISE = 0.05


def stars(seed: int = 1) -> Stars:
    rng = np.random.default_rng(seed)
    none = np.zeros(N)
    x, y = rng.uniform(0, NX - 1, N), rng.uniform(0, NY - 1, N)
    return Stars(x, y, none, none + 50, none + 2, np.zeros((1, N)), none.astype(bool))


def moved(k: int) -> Transform:
    angle = np.radians(0.05 * k + (180 if k == 5 else 0))
    c, s = np.cos(angle), np.sin(angle)
    x0, y0 = (NX - 1) / 2, (NY - 1) / 2
    shift = [x0 - c * x0 + s * y0 + 2.3 * k, y0 - s * x0 - c * y0 - 1.1 * k]
    return Transform.from_matrix(np.array([[c, -s, shift[0]], [s, c, shift[1]]]), "euclidean")


def aligned(k: int, reference: Stars, fixed: float = 0.0, own: float = 0.0) -> Alignment:
    """Residuals of noise, of a stretch in x that all frames share (`fixed`), and of one in y (`own`), px."""
    rng = np.random.default_rng(100 + k)
    x, y = moved(k).inverse(reference.x, reference.y)
    dx, dy = rng.normal(0, NOISE, (2, N))
    dx += fixed * (2 * reference.x / NX - 1)
    dy += own * (2 * reference.y / NY - 1)
    columns = (x, y, dx, dy, np.full(N, 40.0) + reference.x / 10)
    away = np.hypot(dx, dy)
    return Alignment(
        moved(k),
        "asterism",
        N,
        float(np.sqrt(np.mean(away**2))),
        float(np.percentile(away, 95)),
        held_out=HeldOut(*(np.asarray(c, np.float32) for c in columns)),
    )


def finished(
    folder: Path,
    frames: int = 7,
    fixed: float = 0.0,
    own: dict[int, float] | None = None,
    skipped: tuple[int, ...] = (4,),
    require_rms: float = 0.0,
    by_phase: tuple[int, ...] = (),
    timed: bool = True,
    on_tiles: bool = False,
) -> Path:
    """The folder of a run on planted residuals, of stars or of tiles of pixels; frame 2 is the reference."""
    folder.mkdir(parents=True, exist_ok=True)
    reference = stars()
    night = [facts(k, **({} if timed or k else {"start_mjd": None})) for k in range(frames)]
    alignments: dict[int, Alignment] = {}
    for k in range(frames):
        if k == 2:
            alignments[k] = Alignment(Transform.identity(), "reference", N, 0.0)
        elif k in by_phase:
            alignments[k] = Alignment(moved(k), "phase", 0, float("nan"))
        elif k not in skipped:
            alignments[k] = aligned(k, reference, fixed, (own or {}).get(k, 0.0))
            if on_tiles:
                alignments[k] = replace(alignments[k], held_out=None, n_matched=16, on_pixels=True)
    quality = Quality(3 if on_tiles else N, 2.2, (100.0,), (8.0,))
    rows = [
        tables.frame_row(
            k, f, f.file, "" if k in alignments else "clouds", quality, alignments.get(k), pixel_arcsec=10.3
        )
        for k, f in enumerate(night)
    ]
    meta = {"sequence": "field", "reference_frame": 2, "diff": "none", "pixel_arcsec": 10.3}
    write_table(folder / "frames.ecsv", tables.frames_table(rows, meta))
    items = [(k, night[k], a) for k, a in alignments.items()]
    write_json(
        folder / "transforms.json",
        tables.transforms_record(night[2], 2, items, ProductGrid((NY // 2, NX // 2), 2, (0, 0))),
    )
    products = ["frames.ecsv", "transforms.json"]
    table = residuals_table(alignments, night, reference)
    if table is not None:
        write_table(folder / "residuals.fits", table)
        products.append("residuals.fits")
    write_toml(
        folder / "run.toml",
        {"require_rms": require_rms, "provenance": {"products": products, "root": "../night"}},
    )
    return folder


def test_residuals_are_kept_with_the_star_they_belong_to(tmp_path: Path) -> None:
    night = difflapse.open_run(finished(tmp_path / "out")).sequences[0]
    kept = night.residuals
    assert kept.colnames == ["frame", "star", "x_pix", "y_pix", "dx_pix", "dy_pix", "snr"]
    assert [str(kept[name].unit) for name in kept.colnames[2:6]] == ["pix"] * 4
    assert all(kept[name].dtype.itemsize == 4 for name in kept.colnames)
    assert np.unique(kept["frame"]).tolist() == [0, 1, 3, 5, 6]
    truth, star = stars(), kept["star"]
    assert np.allclose(kept["x_pix"] - kept["dx_pix"], truth.x[star], atol=4 * NOISE)
    one = kept[kept["frame"] == 3]
    planted = aligned(3, truth).held_out
    assert planted is not None
    assert np.array_equal(one["dy_pix"], planted.dy)
    assert np.array_equal(one["star"], np.arange(N))
    x, y = moved(3)(planted.x, planted.y)
    assert np.allclose(one["x_pix"], x, atol=1e-3)
    assert np.allclose(one["y_pix"], y, atol=1e-3)
    comments = str(fits.getheader(night.folder / "residuals.fits", 1)["COMMENT"]).replace("\n", "")
    assert f"At most {module.MOST_PER_FRAME} stars a frame" in comments


def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 1000)
    kept = Table.read(finished(tmp_path / "all") / "residuals.fits")
    assert len(kept) == 1000
    assert set(np.bincount(kept["frame"])) == {0, 200}
    monkeypatch.setattr(module, "MOST_PER_FRAME", 90)
    assert len(Table.read(finished(tmp_path / "frame") / "residuals.fits")) == 5 * 90


def test_frames_have_their_figures_in_pixels_and_arcsec(tmp_path: Path) -> None:
    table = difflapse.open_run(finished(tmp_path / "out", fixed=0.2)).table
    radial = np.sqrt(2) * NOISE
    for row in table[[0, 1, 3, 6]]:
        # Corners have u^2 averaging 0.653 where the whole field has 1 / 3.
        assert row["rms_pix"] == pytest.approx(np.sqrt(radial**2 + 0.2**2 / 3), rel=0.1)
        assert row["corner_pix"] == pytest.approx(np.sqrt(radial**2 + 0.2**2 * 0.653), rel=0.2)
        for name in ("rms", "p95", "corner"):
            assert row[f"{name}_arcsec"] == pytest.approx(10.3 * row[f"{name}_pix"])
    assert str(table["corner_arcsec"].unit) == "arcsec"
    assert np.ma.is_masked(table["corner_pix"][2])
    assert np.ma.is_masked(table["rms_pix"][4])


@pytest.mark.parametrize(
    "frames, limit, words",
    [
        ([("a", 0.05), ("b", 0.1)], 0.1, None),
        ([("a", 0.05), ("b", 0.5)], 0.0, None),
        ([("a", 0.05), ("b", 0.101)], 0.1, ["b is aligned to 0.101 px", "0.1 is required", "1 of 2"]),
        ([("a", 0.2), ("b", 0.3), ("c", 0.05)], 0.1, ["b is aligned to 0.3 px", "2 of 3", "median is 0.2"]),
        ([("a", 0.05), ("b", float("nan"))], 0.1, ["b has no rms", "0.1 px"]),
        ([("b", float("nan")), ("c", float("nan"))], 0.1, ["b (and 1 more) has no rms"]),
        ([("a", 0.3), ("b", float("nan"))], 0.1, ["a is aligned to 0.3 px", "b has no rms"]),
        ([], 0.1, ["no frame but the reference"]),
    ],
)
def test_every_used_frame_must_reach_what_is_required(
    frames: list[tuple[str, float]], limit: float, words: list[str] | None
) -> None:
    fault = judge_precision("field", frames, limit)
    if words is None:
        assert fault is None
        return
    assert isinstance(fault, PrecisionError)
    assert fault.exit_code == 5
    for word in ["field", *words]:
        assert word in fault.message
    assert fault.hint
    assert fault.facts["needed"] == limit


def test_the_limit_offered_would_be_reached() -> None:
    frames = [("a", 0.131), ("b", 0.02)]
    fault = judge_precision("field", frames, 0.1)
    assert fault is not None
    offered = float(fault.hint.rpartition("--require-rms ")[2])
    assert offered == 0.14
    assert judge_precision("field", frames, offered) is None


def test_noise_is_told_from_a_pattern(tmp_path: Path) -> None:
    told = difflapse.open_run(finished(tmp_path / "noise")).certificate().to_mapping()
    json.dumps(told)
    assert told["frames"] == {
        "used": 6,
        "skipped": 1,
        "without_rms": 0,
        "methods": {"asterism": 5, "reference": 1},
    }
    assert told["systematic"]["fixed"]["verdict"] == "noise"
    assert told["systematic"]["changing"]["beyond_noise"] == []
    assert told["noise"]["rms_pix"] == pytest.approx(np.sqrt(2) * NOISE, rel=0.03)
    # FWHM 2.2 px, S/N 40 to 79: sqrt(2) axes x sqrt(2) frames x 0.934 px / snr
    snr = 40 + stars().x / 10
    assert told["noise"]["photon_limit_pix"] == pytest.approx(
        2 * 2.2 / 2.3548 * np.sqrt(np.mean(1 / snr**2)), rel=1e-3
    )

    told = difflapse.open_run(finished(tmp_path / "lens", fixed=0.06)).certificate().to_mapping()
    fixed = told["systematic"]["fixed"]
    assert fixed["verdict"] == "systematic"
    assert fixed["rms_pix"] == pytest.approx(0.06 / np.sqrt(3), abs=0.006)
    assert fixed["below_pix"] > fixed["rms_pix"]
    assert told["systematic"]["changing"]["beyond_noise"] == []


def test_a_frame_with_a_pattern_of_its_own_is_named(tmp_path: Path) -> None:
    folder = finished(tmp_path / "out", frames=16, own={3: 0.15})
    told = difflapse.open_run(folder).certificate().to_mapping()
    changing = told["systematic"]["changing"]
    assert changing["frames"] == 14
    assert changing["beyond_noise"] == [3]
    assert changing["worst_frame"] == 3
    assert changing["worst_rms_pix"] == pytest.approx(0.15 / np.sqrt(3), abs=0.015)
    assert changing["median_rms_pix"] < 0.015
    assert told["rms"]["worst_frame"] == 3
    # Alike in all frames there is next to nothing, since a bad frame counts for little in the mean.
    assert told["systematic"]["fixed"]["rms_pix"] < 0.012


def test_two_frames_cannot_tell_whose_pattern_it_is(tmp_path: Path) -> None:
    told = difflapse.open_run(finished(tmp_path / "out", frames=4, own={3: 0.1}, skipped=(0,))).certificate()
    assert told.to_mapping()["systematic"]["changing"] is None
    assert told.to_mapping()["systematic"]["fixed"]["verdict"] == "systematic"


def test_a_night_judges_itself_by_its_own_limit_or_another(tmp_path: Path) -> None:
    proof = difflapse.open_run(finished(tmp_path / "out", require_rms=0.09)).certificate()
    assert proof.limit == 0.09
    assert proof.judge(proof.limit) is None
    assert proof.to_mapping()["reached"] is True
    assert proof.to_mapping(0.05)["reached"] is False
    assert proof.judge(0.05) is not None


def test_a_night_without_stars_has_the_numbers_it_has(tmp_path: Path) -> None:
    folder = finished(tmp_path / "out", by_phase=(0, 1, 3, 5, 6))
    proof = difflapse.open_run(folder).certificate()
    told = proof.to_mapping()
    assert (told["rms"], told["systematic"], told["noise"]) == (None, None, None)
    assert told["frames"]["without_rms"] == 5
    with pytest.raises(InputError, match=r"residuals\.fits"):
        _ = proof.night.residuals
    fault = proof.judge(0.1)
    assert fault is not None
    assert "(and 4 more) has no rms" in fault.message


def test_later_products_are_listed_where_overwrite_looks(tmp_path: Path) -> None:
    night = finished(tmp_path / "out" / "field")
    write_json(tmp_path / "out" / "run.json", {"sequences": ["field", "other"]})
    write_toml(tmp_path / "out" / "run.toml", {"provenance": {"products": ["run.json", "field/frames.ecsv"]}})
    for _ in range(2):
        add_products(night, ["certificate/night.png"])
    above = tomllib.loads((tmp_path / "out" / "run.toml").read_text())
    assert above["provenance"]["products"] == ["field/certificate/night.png", "field/frames.ecsv", "run.json"]
    own = tomllib.loads((night / "run.toml").read_text())
    assert own["provenance"]["products"].count("certificate/night.png") == 1
    assert own["provenance"]["root"] == "../night"


def test_a_folder_above_that_is_no_run_of_ours_stays_as_it_is(tmp_path: Path) -> None:
    night = finished(tmp_path / "out")
    (tmp_path / "run.toml").write_text("mine")
    add_products(night, ["certificate/night.png"])
    assert (tmp_path / "run.toml").read_text() == "mine"


def test_figures_do_not_replace_files_of_others(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    folder = finished(tmp_path / "out")
    (folder / "certificate").mkdir()
    (folder / "certificate" / "night.png").write_text("mine")
    with pytest.raises(OutputError, match=r"night\.png"):
        difflapse.open_run(folder).certificate().save()
    assert (folder / "certificate" / "night.png").read_text() == "mine"
    assert "certificate/night.png" not in written.read_products(folder)


def test_tiles_of_pixels_are_no_stars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from difflapse.cli.app import main

    folder = finished(tmp_path / "out", on_tiles=True)
    proof = difflapse.open_run(folder).certificate()
    assert proof.to_mapping()["judged_on"] == {"pixels": 5}
    assert not proof.has_stars
    assert main(["certificate", str(folder), "--no-figures"]) == 0
    said = capsys.readouterr().out
    assert "tiles of pixels" in said
    assert "star" not in said
    of_stars = difflapse.open_run(finished(tmp_path / "stars")).certificate()
    assert of_stars.to_mapping()["judged_on"] == {"stars": 5}
    assert of_stars.has_stars


def test_an_older_run_is_judged_by_what_it_kept(tmp_path: Path) -> None:
    """Without the column: residuals were kept of stars alone."""
    for name, on_tiles, expected in (("a", True, {"pixels": 5}), ("b", False, {"stars": 5})):
        folder = finished(tmp_path / name, on_tiles=on_tiles)
        table = Table.read(folder / "frames.ecsv", format="ascii.ecsv")
        table.remove_column("judged_on")
        table.write(folder / "frames.ecsv", format="ascii.ecsv", overwrite=True)
        assert difflapse.open_run(folder).sequences[0].judged_on == expected

"""The camera's noise and the model error of a simulated night, and a template from outside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData

import difflapse
from difflapse.errors import InputError, OptionError
from difflapse.synth import NightSpec
from difflapse.synth.scene import Comet

from .conftest import SHAPE, Done, Make


def robust(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def near_stars(night: Done, brighter: float, radius_pix: float) -> np.ndarray:
    """Product pixels within `radius_pix` native pixels of stars brighter than a magnitude."""
    x, y, on = night.truth.star_pixels(night.reference)
    mags = night.truth.star_mags(night.reference)
    i, j = night.product_xy(x[on & (mags < brighter)], y[on & (mags < brighter)])
    ny, nx = SHAPE[0] // 2, SHAPE[1] // 2
    gj, gi = np.mgrid[:ny, :nx]
    out = np.zeros((ny, nx), bool)
    for a, b in zip(i, j, strict=True):
        out |= np.hypot(gi - a, gj - b) < radius_pix / 2
    return out


def test_gain_and_response_are_told_and_near_the_truth(night: Done) -> None:
    camera = night.run.table.meta["camera"]
    assert camera["gain_source"] == "header"
    assert camera["measured_gain_e_adu"] == pytest.approx(1.5, abs=4 * camera["measured_gain_error"] + 0.06)
    read = camera["measured_read_noise_e"]
    assert read == pytest.approx(8.0, abs=4 * camera["measured_read_noise_error"])
    assert camera["response"] == pytest.approx(0.01, abs=0.003)
    summary = night.run.summary()["sequences"][0]
    assert summary["camera"]["gain_e_adu"] == 1.5
    assert difflapse.open_run(night.out).table.meta["camera"] == camera


def test_with_the_model_error_residuals_at_stars_are_as_foretold(night: Done) -> None:
    with fits.open(night.out / "model_error.fits") as hdus:
        extra = np.array(hdus[0].data)
    stars, sky = near_stars(night, 10.0, 11.0), ~near_stars(night, 13.5, 11.0)
    photon, total = [], []
    for k in night.used:
        significance = night.product("differences", k).significance
        photon.append(robust(significance[stars]))
        total.append(robust((significance / np.sqrt(1 + extra**2))[stars]))
        clear = night.truth.frames[k].transparency > 0.9
        assert robust(significance[sky]) == pytest.approx(1.0, abs=0.03 if clear else 0.08)
    assert np.median(photon) < 2.0
    assert np.median(total) < 1.2 < 1.5
    assert np.median(extra[sky]) < 0.2


def test_the_map_reads_as_ccddata_and_lies_on_the_product_grid(night: Done) -> None:
    found = CCDData.read(night.out / "model_error.fits")
    assert found.unit == ""
    assert found.shape == (SHAPE[0] // 2, SHAPE[1] // 2)
    assert found.header["ERRTYPE"] == "MODEL"
    assert found.header["LTM1_1"] == 0.5
    assert "model_error.fits" in night.run.summary()["sequences"][0]["products"]


def test_a_comet_leaves_little_trace_in_the_template(night: Done, night_spec: NightSpec, done: Make) -> None:
    """Beside the same night without it. It moves by less than its width: a plain mean would hold most of it."""
    without = replace(night_spec, objects=tuple(o for o in night_spec.objects if not isinstance(o, Comet)))
    twin = done(without, diff="template", window=5, save="aligned,differences")
    moving = night.run.table.meta["moving"]
    assert "comet" in moving
    assert "comet" not in twin.run.table.meta["moving"]
    assert twin.reference == night.reference
    comet = next(o for o in night.truth.objects if o.kind == "comet")
    middle = night.reference
    i, j = night.product_xy(comet.x[middle], comet.y[middle])
    trace = np.asarray(night.run.template.data) - np.asarray(twin.run.template.data)
    box = (slice(None), slice(int(j) - 6, int(j) + 7), slice(int(i) - 6, int(i) + 7))
    weight = 1 / night.product("differences", middle).variance[box].mean(axis=(1, 2))
    left = np.sum(np.median(trace[box], axis=(1, 2)) * weight) / np.sqrt(weight.sum())
    light = night.product("differences", middle).significance[box[1:]]
    assert np.nanmedian(light) > 2.0
    assert moving["self_subtracted"] > 0.6
    assert abs(left) < 0.35 * (np.nanmedian(light) + left)


def test_a_template_from_outside(night: Done, tmp_path: Path) -> None:
    mono = tmp_path / "mono.fits"
    template = night.run.template
    header = fits.getheader(night.out / "template.fits", "SKY")
    fits.PrimaryHDU(np.asarray(template.data).mean(axis=0) * 3 + 50, header).writeto(mono)
    frames = sorted(night.folder.glob("*.fits.fz"))[:3]
    for k, file in enumerate((night.out / "template.fits", mono)):
        out = tmp_path / f"out{k}"
        run = difflapse.run([str(f) for f in frames], out, template=file, workers=1, save="differences")
        assert run.table.meta["diff"] == "template"
        assert run.table.meta["template_file"] == file.name
        again = Done(night.folder, night.truth, out, run)
        significance = again.product("differences", again.used[0]).significance
        assert robust(significance) == pytest.approx(1.0, abs=0.1)
        # Its own brightness and sky do not matter.
        assert abs(np.nanmedian(significance)) < 0.1


def test_a_template_that_cannot_be_used(night: Done, tmp_path: Path) -> None:
    frames = [str(f) for f in sorted(night.folder.glob("*.fits.fz"))[:3]]
    with pytest.raises(OptionError, match="no such file"):
        difflapse.run(frames, tmp_path / "a", template=tmp_path / "none.fits")
    with pytest.raises(OptionError, match="diff is running"):
        difflapse.run(frames, tmp_path / "b", template=night.out / "template.fits", diff="running")
    other = next((night.out / "differences").glob("*.fits"))
    with pytest.raises(InputError, match="a difference of an earlier run"):
        difflapse.run(frames, tmp_path / "c", template=other)
    rng = np.random.default_rng(1)
    noise = tmp_path / "noise.fits"
    fits.PrimaryHDU(rng.normal(100, 5, (300, 420)).astype(np.float32)).writeto(noise)
    with pytest.raises(InputError, match="the template"):
        difflapse.run(frames, tmp_path / "d", template=noise, workers=1)

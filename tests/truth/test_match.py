"""Matching through the whole of a run: a night whose seeing changes, against the simulator's truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import difflapse
from difflapse.errors import OptionError

from .conftest import Done, Make, NightSpec, spec_of


@pytest.fixture(scope="session")
def changing_seeing() -> NightSpec:
    """Twelve frames in the light of many stars; the FWHM wanders from 1.8 to 3 pixels."""
    spec = spec_of((520, 780), frames=10, seed=5)
    return replace(spec, air=replace(spec.air, fwhm_pix=(1.8, 3.0)))


@pytest.fixture(scope="session")
def matched(done: Make, changing_seeing: NightSpec) -> dict[str, Done]:
    return {m: done(changing_seeing, match=m, save="differences") for m in ("scale", "auto", "zogy")}


def near_stars(night: Done, low: float, high: float, reach: float) -> np.ndarray:
    """(ny, nx): whether a product pixel is within `reach` native pixels of a star between two magnitudes."""
    x, y, on = night.truth.star_pixels(night.reference)
    mag = night.truth.star_mags(night.reference)
    ny, nx = (n // 2 for n in night.truth.shape)
    gx, gy = np.meshgrid(2 * np.arange(nx) + 0.5, 2 * np.arange(ny) + 0.5)
    out = np.zeros((ny, nx), bool)
    for a, b in zip(x[on & (mag > low) & (mag < high)], y[on & (mag > low) & (mag < high)], strict=True):
        out |= (gx - a) ** 2 + (gy - b) ** 2 < reach**2
    return out


def significance(night: Done, k: int) -> np.ndarray:
    return np.asarray(night.product("differences", k).significance)


def robust(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def worst(night: Done, area: np.ndarray) -> dict[int, float]:
    """Rms of each frame's difference there, in photon sigma."""
    return {k: float(np.nanstd(significance(night, k)[area])) for k in night.used}


def test_bright_stars_leave_less_where_the_seeing_changed(matched: dict[str, Done]) -> None:
    """Unsaturated stars of magnitude 7.5 to 9.5, to 5 FWHM: below 2 photon sigma in every frame, as is wanted."""
    area = near_stars(matched["scale"], 7.5, 9.5, 11)
    before, after = worst(matched["scale"], area), worst(matched["auto"], area)
    table = matched["auto"].run.table
    taken = [k for k in matched["auto"].used if table["match"][k] == "psf"]
    assert len(taken) >= 4
    blurred = max(before, key=lambda k: before[k])
    assert before[blurred] > 2.5
    assert max(after.values()) < 2.0
    assert after[blurred] < 0.7 * before[blurred]
    assert after[blurred] < 0.6 * before[blurred]
    for k in taken:
        assert after[k] < 1.15 * before[k]  # two dozen stars: where there was little to gain, one may decide
        assert table["match_after_sigma"][k] < table["match_before_sigma"][k]
        assert table["match_kernel"][k].startswith("psf: ")
        assert matched["auto"].product("differences", k).header["MATCH"] == "psf"


def test_the_sky_keeps_unit_width(matched: dict[str, Done]) -> None:
    """About 60 000 pixels, a third of them independent: the width to 1 %; the noise model itself to 3 %."""
    sky = ~near_stars(matched["scale"], 0, 14.5, 14)
    for k in matched["auto"].used:
        assert robust(significance(matched["auto"], k)[sky]) == pytest.approx(1.0, abs=0.04)


def test_every_frame_says_what_was_matched(matched: dict[str, Done]) -> None:
    for name, night in matched.items():
        said = {night.run.table["match"][k] for k in night.used}
        assert said <= ({"scale", "psf"} if name == "auto" else {name})


def test_few_stars_fall_back_to_scaling_with_the_reason(done: Make) -> None:
    spec = spec_of(seed=7)
    few = replace(spec, population=replace(spec.population, zero_point_e=spec.population.zero_point_e / 10))
    night = done(few, match="psf")
    for k in night.used:
        assert night.run.table["match"][k] == "scale"
        assert "match psf failed, scaled instead" in night.run.table["note"][k]
        assert "12 are needed" in night.run.table["note"][k]


def test_an_unknown_way_of_matching_is_refused() -> None:
    with pytest.raises(OptionError, match="zogy"):
        difflapse.RunOptions(match="zogi")

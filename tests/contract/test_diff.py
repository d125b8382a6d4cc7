"""Every way of subtracting is asked the same questions, on the same small night."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import difflapse
from difflapse.methods import all_methods
from difflapse.pipeline.config import DIFF, MATCH
from difflapse.pipeline.results import Run
from difflapse.synth import Truth

SUBTRACTING = tuple(m.name for m in all_methods() if m.kind == "diff" and m.name != "none")


@dataclass(frozen=True)
class Subtracted:
    run: Run
    maps: dict[int, np.ndarray]
    """Significance of each frame's difference, NaN where masked."""
    headers: dict[int, fits.Header]


@pytest.fixture(scope="module")
def subtracted(small_night: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Subtracted]:
    kept: dict[str, Subtracted] = {}

    def make(diff: str) -> Subtracted:
        if diff in kept:
            return kept[diff]
        out = tmp_path_factory.mktemp(diff) / "out"
        run = difflapse.run(small_night, out, diff=diff, window=3, save="differences", workers=1)
        maps, headers = {}, {}
        for frame in run.frames:
            path = out / "differences" / frame.file.replace(".fits.fz", ".fits")
            if path.exists():
                with fits.open(path) as hdus:
                    data, variance, mask = (np.array(hdus[n].data) for n in (0, "UNCERT", "MASK"))
                    headers[frame.number] = hdus[0].header.copy()
                combined = (data / variance).sum(0) / np.sqrt((1 / variance).sum(0))
                maps[frame.number] = np.where(mask[0] == 0, combined, np.nan)
        kept[diff] = Subtracted(run, maps, headers)
        return kept[diff]

    return make


def test_the_tables_of_methods_and_of_options_agree() -> None:
    assert {m.name for m in all_methods() if m.kind == "diff"} == set(DIFF)
    assert {m.name for m in all_methods() if m.kind == "match"} == set(MATCH)


@pytest.mark.parametrize("diff", SUBTRACTING)
def test_every_frame_that_has_a_partner_has_a_difference(
    subtracted: Callable[[str], Subtracted], diff: str
) -> None:
    """A frame whose place was guessed has none: it is shown alone."""
    result = subtracted(diff)
    used = [f.number for f in result.run.frames if f.used]
    guessed = [k for k in used if result.run.table["method"][k] == "interpolated"]
    assert guessed == [2]  # in clouds
    partners = [k for k in used if k not in guessed]
    assert list(result.maps) == (partners[1:] if diff == "running" else partners)
    shown = result.run.timelapse["frames"]
    assert [f["template"] is not None for f in shown] == [k in result.maps for k in used]


@pytest.mark.parametrize("diff", SUBTRACTING)
def test_the_sky_is_of_unit_width_and_no_mean(subtracted: Callable[[str], Subtracted], diff: str) -> None:
    for part in subtracted(diff).maps.values():
        good = part[np.isfinite(part)]
        assert 1.4826 * np.median(np.abs(good - np.median(good))) == pytest.approx(1.0, abs=0.07)
        assert abs(np.median(good)) < 0.06


@pytest.mark.parametrize("diff", SUBTRACTING)
def test_what_appears_is_positive(
    subtracted: Callable[[str], Subtracted], small_night: Path, diff: str
) -> None:
    """A mover, where it is now; never the other sign."""
    result, truth = subtracted(diff), Truth.read(small_night)
    reference = result.run.reference.number
    seen = 0
    for thing in (o for o in truth.objects if o.kind == "mover"):
        for k, part in result.maps.items():
            x, y = truth.to_reference(k, reference, thing.x[k], thing.y[k])
            i, j = round((float(x) - 0.5) / 2), round((float(y) - 0.5) / 2)
            if thing.inside[k] and 4 < i < part.shape[1] - 5 and 4 < j < part.shape[0] - 5:
                here = part[j - 1 : j + 2, i - 1 : i + 2]
                if np.isfinite(here).all():
                    assert here.sum() / 3 > 8
                    seen += 1
    assert seen >= 3


@pytest.mark.parametrize("diff", SUBTRACTING)
def test_headers_name_the_mode_and_the_lag(subtracted: Callable[[str], Subtracted], diff: str) -> None:
    result = subtracted(diff)
    for k, h in result.headers.items():
        assert h["DIFFMODE"] == diff
        assert {"TMPLTIME", "LAG", "LTM1_1", "LTV1", "NOISECOR", "REFFILE", "ORIGFILE"} <= set(h)
        assert h["ORIGFILE"] == result.run.frames[k].file
        assert abs(h["LAG"]) < 1500


@pytest.mark.parametrize("diff", SUBTRACTING)
def test_most_of_the_common_field_has_a_difference(
    subtracted: Callable[[str], Subtracted], diff: str
) -> None:
    for part in subtracted(diff).maps.values():
        assert np.isfinite(part).mean() > 0.85


@pytest.mark.parametrize("diff", SUBTRACTING)
def test_the_same_again_is_the_same(
    subtracted: Callable[[str], Subtracted], small_night: Path, tmp_path: Path, diff: str
) -> None:
    first = subtracted(diff)
    again = difflapse.run(small_night, tmp_path / "again", diff=diff, window=3, save="differences", workers=1)
    assert again.timelapse == first.run.timelapse
    for name in sorted(p.name for p in (first.run.out / "differences").iterdir()):
        a, b = (fits.getdata(run.out / "differences" / name) for run in (first.run, again))
        assert np.array_equal(a, b)

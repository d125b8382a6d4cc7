"""A plan: what a run would do, foreseen from headers, and borne out by the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import difflapse
from difflapse import RunOptions
from difflapse.errors import InputError, OptionError, OutputError
from difflapse.model import Inventory, ProductGrid, Sequence
from difflapse.pipeline import pictures
from difflapse.pipeline.follow import COMET_FRAMES
from difflapse.pipeline.memory import choose_workers, foresee
from difflapse.pipeline.night_stages import template_size
from difflapse.pipeline.sight import PLACE_FRAMES
from difflapse.pipeline.starlight import MOST_SUMS

from .conftest import facts

FULL = (3476, 5208)


def sequence(n: int, shape: tuple[int, int] = FULL, mosaic: str = "GBRG") -> Sequence:
    return Sequence("s", tuple(facts(k, shape=shape, mosaic=mosaic) for k in range(n)))


def inventory(n: int, shape: tuple[int, int] = FULL) -> Inventory:
    return Inventory("/nowhere", (sequence(n, shape),), ())


def test_a_plan_reads_headers_and_writes_nothing(small_night: Path, tmp_path: Path) -> None:
    before = {p.name for p in small_night.iterdir()}
    made = difflapse.plan(small_night, tmp_path / "out", RunOptions())
    (only,) = made.sequences
    assert (only.frames, only.shape, only.mosaic, only.diff) == (5, (260, 390), "GBRG", "template")
    assert only.template_frames == 5
    assert made.workers == 1
    json.dumps(made.to_mapping())
    assert not (tmp_path / "out").exists()
    assert {p.name for p in small_night.iterdir()} == before


def test_a_plan_says_what_options_change(small_night: Path, tmp_path: Path) -> None:
    def plan(**options: object) -> difflapse.pipeline.plan.SequencePlan:  # type: ignore[name-defined]
        made = difflapse.plan(small_night, tmp_path / "out", RunOptions.from_mapping(options))
        return made.sequences[0]

    whole = plan()
    assert plan(save="aligned,differences").output_bytes > whole.output_bytes + 5 * 2 * 8 * 3 * 130 * 195
    assert plan(roi="0,0,100,80").output_bytes < whole.output_bytes
    assert plan(diff="running").template_frames == 0
    assert any("50x40" in step for step in plan(roi="0,0,100,80").steps)


def test_a_plan_refuses_what_the_run_would_refuse(small_night: Path, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("")
    with pytest.raises(OutputError):
        difflapse.plan(small_night, tmp_path / "used", RunOptions())
    with pytest.raises(InputError):
        difflapse.plan(tmp_path / "nothing here", None, RunOptions())
    with pytest.raises(OptionError):
        difflapse.plan(small_night, tmp_path / "out", RunOptions(roi="4000,4000,100,100"))


def test_the_plan_of_the_night_is_the_run(small_night: Path, tmp_path: Path) -> None:
    made = difflapse.plan(small_night, tmp_path / "out", RunOptions())
    run = difflapse.run(small_night, tmp_path / "out", workers=1)
    (planned,) = made.sequences
    assert run.sequences[0].name == planned.name
    assert len(run.frames) == planned.frames
    assert run.table.meta["diff"] == planned.diff
    assert f"{run.timelapse['width']}x{run.timelapse['height']}" in " ".join(planned.steps)
    size = sum(p.stat().st_size for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert 0.2 * planned.output_bytes < size < 5 * planned.output_bytes


def test_memory_does_not_grow_with_the_night() -> None:
    few, many = (foresee(sequence(n), RunOptions(), 2).memory_bytes for n in (12, 2000))
    assert many == few


def test_a_short_night_has_a_smaller_template_and_a_target_that_is_followed_a_deep_one() -> None:
    sizes = [template_size(n, RunOptions()) for n in (4, 8, 24, 48, 60, 72, 500)]
    assert sizes == [4, 8, 8, 8, 10, 12, 12]
    followed = [template_size(n, RunOptions(follow=("comet",))) for n in (4, 24, 500)]
    assert followed == [4, 12, 12]


def test_scratch_space_is_bounded_by_the_template_and_the_stars() -> None:
    options = RunOptions(injection=False)
    product = FULL[0] * FULL[1] // 4

    def beside_pictures(n: int, options: RunOptions) -> int:
        grid = ProductGrid((FULL[0] // 2, FULL[1] // 2), 2)
        layout = pictures.movie_layout(grid, options)
        drawn = 3 * layout.width * layout.height * n
        assert drawn < pictures.MOST_BYTES
        kept = n * product  # a byte for each pixel of the differences, for the clips
        assert pictures.difference_bytes(n, grid.shape, options) == kept
        return foresee(sequence(n), options, 2).scratch_bytes - drawn - kept

    scratch = beside_pictures(500, options)
    light = 4 * 9 * MOST_SUMS
    members = template_size(500, options)
    cells = (COMET_FRAMES + 3 * members) * 4 * product // 16
    places = PLACE_FRAMES * product  # a byte for each pixel of as many filtered differences
    assert scratch - places == pytest.approx((members + 2) * 12 * product + cells + light, rel=0.15)
    running = beside_pictures(500, RunOptions(diff="running", injection=False))
    assert places < running < places + (scratch - places) / 4
    # What is planted is kept for each frame: the light alone.
    planted = beside_pictures(500, RunOptions()) - scratch
    assert 0.3e6 < planted / 500 < 1.2e6


def test_differences_are_kept_for_clips_alone_and_not_of_a_long_night() -> None:
    shape = (FULL[0] // 2, FULL[1] // 2)
    assert pictures.difference_bytes(600, shape, RunOptions()) == 600 * shape[0] * shape[1]
    assert pictures.difference_bytes(700, shape, RunOptions()) == 0
    for options in (RunOptions(reel=False), RunOptions(diff="none")):
        assert pictures.difference_bytes(20, shape, options) == 0
    with_reel, without = (
        foresee(sequence(600), RunOptions(reel=reel), 2).scratch_bytes for reel in (True, False)
    )
    assert with_reel - without == 600 * shape[0] * shape[1]


def test_pictures_on_scratch_are_bounded_for_any_night() -> None:
    options = RunOptions(injection=False)
    few, many, more = (foresee(sequence(n), options, 2).scratch_bytes for n in (600, 2000, 8000))
    assert few > 4e9
    assert many == more < 3e9


def test_more_workers_need_more_memory_and_crops_less() -> None:
    one, four = (foresee(sequence(20), RunOptions(), w).memory_bytes for w in (1, 4))
    assert four > one + 3 * 200e6
    crop = foresee(sequence(20), RunOptions(roi="0,0,800,600"), 1).memory_bytes
    assert crop < one


def test_memory_limits_the_workers() -> None:
    options = RunOptions(workers=8, memory="100GB")
    assert choose_workers(inventory(20), options) == 8
    need = foresee(sequence(20), RunOptions(), 3).memory_bytes
    assert choose_workers(inventory(20), RunOptions(workers=8, memory=str(need))) == 3
    with pytest.raises(OptionError, match="memory is 50MB") as caught:
        choose_workers(inventory(20), RunOptions(memory="50MB"))
    assert "--roi" in caught.value.hint


def test_a_small_night_stays_in_one_process() -> None:
    assert choose_workers(inventory(5, (260, 390)), RunOptions()) == 1
    assert choose_workers(inventory(5, (260, 390)), RunOptions(workers=2)) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no resource module")
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_the_memory_foreseen_is_that_of_the_run(tmp_path: Path) -> None:
    """The peak of a process of its own, against what was foreseen for it."""
    from difflapse import synth

    synth.simulate(
        tmp_path / "night", synth.preset("panoptes", frames=4, shape=(1200, 1800), seed=3, clouds=0)
    )
    made = difflapse.plan(tmp_path / "night", tmp_path / "out", RunOptions(workers=1))
    code = (
        "import pathlib, sys, difflapse\n"
        "difflapse.run(sys.argv[1], sys.argv[2], workers=1, overwrite=True)\n"
        # Not ru_maxrss: a child inherits its parent's, and pytest has grown by now.
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print(status.split('VmHWM:')[1].split()[0])\n"
    )
    for _ in range(2):  # the first may have to compile, once on a machine, which takes memory of its own
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "night"), str(tmp_path / "out")],
            capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    peak = int(done.stdout) * 1024
    foreseen = made.sequences[0].memory_bytes
    assert 0.4 * foreseen < peak < 1.3 * foreseen

"""Processor time of each stage of a run, on one process: what is late in it (movie, clips, page) against decoding.

``python benchmarks/stage_costs.py NIGHT`` prints a table; `run.py` prints the two ratios.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DRAWN = ("draw", "movie")
SHOWN = ("reel", "page")


def stage_costs(source: Path, out: Path) -> dict[str, float]:
    """Seconds of processor time that each stage takes over all frames, and ``page``; run once before, for compiling."""
    import cv2

    import difflapse
    from difflapse.pipeline import report, stages
    from difflapse.pipeline import sequences as running

    cv2.setNumThreads(1)
    spent: dict[str, float] = {}

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*given: Any) -> Any:
            start = time.process_time()
            try:
                return work(*given)
            finally:
                spent[name] = spent.get(name, 0.0) + time.process_time() - start

        return measured

    table = tuple(dataclasses.replace(s, work=timed(s.name, s.work)) for s in stages.STAGES)
    plan = running.plan_groups
    running.plan_groups = lambda *_: plan(table)
    try:
        shutil.rmtree(out, ignore_errors=True)
        difflapse.run(source, out, workers=1)
    finally:
        running.plan_groups = plan
    timed("page", report.remake)(out)
    return spent


def decoding_cost(source: Path) -> float:
    """Seconds of processor time in which astropy decodes a frame."""
    from astropy.io import fits

    files = sorted(source.glob("*.fits.fz"))[:12]
    fits.getdata(files[0], 1)
    start = time.process_time()
    for path in files:
        fits.getdata(path, 1)
    return (time.process_time() - start) / len(files)


def ratios(source: Path, out: Path) -> dict[str, float]:
    """Cost of movie, and of page, clips and reel, for each frame, over that of decoding it."""
    spent = stage_costs(source, out)
    whole = decoding_cost(source) * len(list(source.glob("*.fits.fz")))
    return {
        "movie / decoding": sum(spent[name] for name in DRAWN) / whole,
        "page, clips and reel / decoding": sum(spent.get(name, 0.0) for name in SHOWN) / whole,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("night", type=Path, help="a folder of compressed frames")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        frames = len(list(args.night.glob("*.fits.fz")))
        decode = decoding_cost(args.night)
        print(
            f"{frames} frames; astropy decodes one in {1e3 * decode:.0f} ms of processor time",
            file=sys.stderr,
        )
        for name, seconds in stage_costs(args.night, Path(scratch) / "out").items():
            print(
                f"{name:<12} {1e3 * seconds / frames:8.1f} ms a frame {seconds / frames / decode:7.2f} of decoding"
            )


if __name__ == "__main__":
    main()

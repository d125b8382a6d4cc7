"""How wrong `to_reference` is over a whole night, against the simulator's truth: each frame by itself, and one lens.

Run: python benchmarks/alignment_night.py FOLDER [--frames 60] [--size 5208x3476]

Simulates the preset `panoptes` into FOLDER unless it is there, reads and measures each frame once, and aligns the night
twice: with the headers' plate solutions, and as if there were none. Errors are taken on a grid over the whole frame,
corners included; costs are processor time of this one process, beyond decoding and measuring.
"""

from __future__ import annotations

import argparse
import pickle
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from difflapse.align.chain import auto
from difflapse.align.lens import one_lens
from difflapse.align.view import AlignOptions, View
from difflapse.errors import FrameError
from difflapse.io.discover import discover
from difflapse.io.fits import read_frame
from difflapse.measure import find_defects, find_stars
from difflapse.model import Alignment, Frame, FrameFacts, Stars, Transform
from difflapse.pipeline.config import RunOptions
from difflapse.pipeline.context import Night
from difflapse.pipeline.tasks import read_pixels
from difflapse.synth import Truth, preset, simulate

Measured = list[tuple[FrameFacts, Stars]]


def measure(folder: Path) -> Measured:
    """Stars of all frames; kept beside the night, so that a second run is quick."""
    kept = folder.with_name(folder.name + "-stars.pickle")
    if kept.exists():
        return pickle.loads(kept.read_bytes())  # type: ignore[no-any-return]
    (sequence,) = discover([str(folder)], mosaic="auto", split=False).sequences
    frames = sequence.frames
    night = Night(sequence.name, frames, RunOptions(), "", "")
    some = np.unique(np.linspace(0, len(frames) - 1, 6).astype(int))
    defects = find_defects([read_frame(frames[k]).data for k in some], frames[0].mosaic)
    out = []
    for k, facts in enumerate(frames):
        pixels = read_pixels(night, k, defects)
        out.append((facts, find_stars(Frame(facts, pixels.data, pixels.mask))[0]))
    kept.write_bytes(pickle.dumps(out))
    return out


def report(name: str, truth: Truth, reference: int, transforms: dict[int, Transform]) -> None:
    ny, nx = truth.shape
    gx, gy = np.meshgrid(np.linspace(0, nx - 1, 27), np.linspace(0, ny - 1, 19))
    rows = []
    for k, t in transforms.items():
        if k != reference:
            x, y = t(gx, gy)
            tx, ty = truth.to_reference(k, reference, gx, gy)
            away = np.hypot(x - tx, y - ty)
            rows.append((np.sqrt(np.mean(away**2)), away.max()))
    rms, worst = np.array(rows).T
    print(
        f"{name:34s} | {np.median(rms):.4f} | {np.median(worst):.4f} | {rms.max():.4f} | {worst.max():.4f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--size", default="5208x3476")
    given = parser.parse_args()
    if not (given.folder / "truth.json").exists():
        nx, ny = (int(part) for part in given.size.split("x"))
        simulate(given.folder, preset("panoptes", frames=given.frames, shape=(ny, nx)), workers=2)
    truth, measured = Truth.read(given.folder), measure(given.folder)
    reference = len(measured) // 2
    print("frame to reference, px                 median frame      worst used frame")
    print(f"{'':34s} |  rms   | point  |  rms   | point")
    for name in ("header WCS", "no WCS"):
        facts = {
            k: f if name == "header WCS" else replace(f, wcs_header="") for k, (f, _) in enumerate(measured)
        }
        stars = {k: s for k, (_, s) in enumerate(measured)}
        views = {k: View(facts[k], stars[k], lambda: None) for k in facts}  # type: ignore[arg-type, return-value]
        own = {reference: Alignment(Transform.identity(), "reference", len(stars[reference]), 0.0)}
        started = time.process_time()
        for k in facts:
            if k != reference:
                try:
                    own[k] = auto(views[k], views[reference], AlignOptions())
                except (FrameError, TypeError) as error:  # without stars it would ask for pixels
                    print(f"frame {k} is not aligned on stars: {error}")
        alone = time.process_time() - started
        started = time.process_time()
        lens = one_lens({k: facts[k] for k in own}, {k: stars[k] for k in own}, own, reference)
        together = time.process_time() - started
        report(f"{name}, each frame by itself", truth, reference, {k: a.transform for k, a in own.items()})
        report(f"{name}, auto", truth, reference, {k: a.transform for k, a in lens.alignments.items()})
        n = len(own) - 1
        print(f"    {lens.line}; {lens.used} of {n} frames take it")
        print(
            f"    {1e3 * alone / n:.0f} ms a frame by itself, {1e3 * together / n:.0f} ms more for the lens"
        )


if __name__ == "__main__":
    main()

"""How well a simulated night's comet stands out in the movie: of the differential panel, and of the aligned one.

    python benchmarks/comet.py NIGHT OUT    # NIGHT simulated (preset panoptes), OUT a run of it with --labels none

The decoded luma is smoothed to the comet's size (a Gaussian of half its FWHM); things are local maxima at least a
FWHM apart. In each frame: how many outshine the comet, in either panel.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import av
import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter

import difflapse
from difflapse.synth import Truth


def decode(path: Path) -> list[np.ndarray]:
    """The luma of each frame, as players see it."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def outshining(panel: np.ndarray, u: float, v: float, fwhm: float) -> int:
    """Things of a panel (ny, nx) brighter than the one at (u, v), all in movie pixels."""
    smooth = gaussian_filter(panel.astype(float), 0.5 * fwhm / 2.355)
    reach = max(1, round(fwhm))
    things = smooth == maximum_filter(smooth, size=2 * reach + 1)
    ny, nx = panel.shape
    y, x = np.mgrid[:ny, :nx]
    near = np.hypot(x - u, y - v) <= fwhm
    return int((things & ~near & (smooth > smooth[near].max())).sum())


def ranks(truth: Truth, out: Path) -> list[tuple[int, int, int]]:
    """Frame, things that outshine the comet in the differential panel, and in the aligned one."""
    run = difflapse.open_run(out)
    record = json.loads((out / "timelapse.json").read_text())
    pictures = decode(out / record["video"])
    comet = next(o for o in truth.objects if o.kind == "comet")
    wide = next((o["fwhm_pix"] for o in truth.parameters["objects"] if "condensation" in o), 28.0)
    shown = [f.number for f in run.frames if f.used]
    found = []
    for k, picture, told in zip(shown, pictures, record["frames"], strict=True):
        if told["template"] is None or not comet.inside[k]:
            continue
        x, y = truth.to_reference(k, run.reference.number, comet.x[k], comet.y[k])
        counts = []
        for name in ("difference", "aligned"):
            p = record["panels"][name]
            matrix = np.array(p["native_to_movie"])
            u, v = matrix @ np.array([float(x), float(y), 1.0]) - (p["x"], p["y"])
            view = picture[p["y"] : p["y"] + p["height"], p["x"] : p["x"] + p["width"]]
            counts.append(outshining(view, u, v, wide * matrix[0, 0]))
        found.append((k, *counts))
    return found


def main() -> None:
    """Print one line a night."""
    night, out = Path(sys.argv[1]), Path(sys.argv[2])
    found = ranks(Truth.read(night), out)
    within = sum(difference < 5 for _, difference, _ in found)
    hidden = sum(aligned >= 50 for _, _, aligned in found)
    print(
        f"{night.name}: in {within} of {len(found)} frames the comet is among the 5 brightest of the difference "
        f"(outshone by {max(f[1] for f in found)} at most); in {hidden} it is outshone by 50 or more in the aligned "
        f"panel ({min(f[2] for f in found)} to {max(f[2] for f in found)})"
    )


if __name__ == "__main__":
    main()

"""How well frames subtract at bright stars and over sky: scale, matched, proper, and the peers installed.

``python benchmarks/subtraction.py NIGHT... [--frames N] [--peers 1]``. Each night is run once in this process, one
difference after another is taken again from the very same images by each method, and the numbers are in the photon
sigma of the plain difference. Peers (sfft from PyPI, ``hotpants`` on the PATH) get the green plane, all else equal.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

import difflapse
from difflapse.difference import Science, Template, subtract
from difflapse.measure.mesh import image
from difflapse.pipeline import match, tasks
from difflapse.pipeline.context import Night
from difflapse.pipeline.records import Canvas, Reference

BRIGHT = ((50, 100), (100, 200), (200, np.inf))
"""S/N of unsaturated stars on the reference, all colours together."""
REACH = 5
"""FWHM about them that count."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nights", nargs="+", help="folders of frames")
    parser.add_argument("--frames", type=int, default=8, help="frames of each night, evenly spread")
    parser.add_argument("--peers", type=int, default=1, help="frames of each night that peers get too")
    args = parser.parse_args()
    sfft = importlib.util.find_spec("sfft") is not None
    hotpants = shutil.which("hotpants")
    if not sfft:
        print("sfft is skipped: it is not installed (pip install sfft)")
    if not hotpants:
        print("hotpants is skipped: no such program on the PATH")
    for folder in args.nights:
        print(f"\n{folder}\n{'':>5} {'':<12}{'sky':>11}", end="")
        print(
            "".join(f"{f'S/N {low}+':>13}" for low, _ in BRIGHT),
            f"{'cores':>13}{'CPU ms':>8}   robust sigma / rms",
        )
        taken: list[int] = []
        listen(folder, functools.partial(judge, args, sfft, hotpants, taken))


def listen(folder: str, heard: Callable[..., None]) -> None:
    """Run a night; `heard` is told what is subtracted from what, frame by frame."""
    whole = tasks.take_matched

    def told(night: Night, k: int, science: Science, template: Template, own: float, quality: Any) -> Any:
        heard(night, k, science, template, own, quality)
        return whole(night, k, science, template, own, quality)

    tasks.take_matched = told
    try:
        with tempfile.TemporaryDirectory() as out, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            difflapse.run(folder, Path(out) / "out", match="scale", workers=1)
    finally:
        tasks.take_matched = whole


def judge(
    args: argparse.Namespace,
    sfft: bool,
    hotpants: str | None,
    taken: list[int],
    night: Night,
    k: int,
    science: Science,
    template: Template,
    own: float,
    quality: Any,
) -> None:
    """Take one frame's difference in every way, and print what is left where."""
    if k not in np.linspace(0, len(night.frames) - 1, args.frames).round().astype(int):
        return
    taken.append(k)
    areas = areas_of(night, k)
    plain, spent = timed(lambda: subtract(science, template, own, keep=True))
    show(k, "scale", plain.combined, areas, spent)
    for name in ("auto", "psf", "zogy"):
        asked = replaced(night, name)
        made, spent = timed(lambda asked=asked: match.take_matched(asked, k, science, template, own, quality))
        show(k, f"{name} ({made[1].method})" if name == "auto" else name, made[0].combined, areas, spent)
    if len(taken) > args.peers or not (sfft or hotpants):
        return
    c = len(science.data) // 2
    sigma = np.sqrt(plain.variance[c])
    hidden = plain.mask != 0
    show(k, "green: scale", np.where(hidden, np.nan, plain.data[c] / sigma), areas, float("nan"))
    *_, kernel = match.take_matched(replaced(night, "psf"), k, science, template, own, quality)
    if kernel is not None:
        psf = match.difference_with(kernel, science, template, own, False, keep=True)
        show(k, "green: psf", np.where(hidden, np.nan, psf.data[c] / sigma), areas, float("nan"))
    new = science.data[c] * image(science.inverse_scale[c], hidden.shape) - image(
        science.offset[c], hidden.shape
    )
    for name, peer in (
        ("sfft", sfft_difference if sfft else None),
        ("hotpants", hotpants_difference if hotpants else None),
    ):
        if peer is None:
            continue
        try:
            with tempfile.TemporaryDirectory() as room:
                made, spent = timed(
                    lambda peer=peer, room=room: peer(Path(room), new, template.data[c], hidden)
                )
        except Exception as error:  # a peer's failure is its own; the others go on
            print(f"{k:5} {name} failed: {str(error).strip()[-200:]}")
            continue
        show(k, f"green: {name}", np.where(hidden, np.nan, made / sigma), areas, spent)


def areas_of(night: Night, k: int) -> dict[str, np.ndarray]:
    """Where is sky, and where are bright unsaturated stars; (ny, nx) bool each."""
    reference: Reference = night.shared("reference")
    canvas: Canvas = night.shared("canvas")
    stars, grid = reference.light, canvas.of(k)
    i, j = grid.from_native(stars.x, stars.y)
    reach = REACH * float(np.nanmedian(stars.fwhm)) / grid.step
    near: Callable[[np.ndarray, float], np.ndarray] = lambda some, r: discs(grid.shape, i[some], j[some], r)  # noqa: E731
    areas = {"sky": ~near(np.ones(len(stars), bool), reach)}
    for low, high in BRIGHT:
        areas[f"{low}"] = near(~stars.saturated & (stars.snr >= low) & (stars.snr < high), reach)
    areas["cores"] = near(~stars.saturated & (stars.snr >= 100), reach / REACH)
    return areas


def discs(shape: tuple[int, int], i: np.ndarray, j: np.ndarray, radius: float) -> np.ndarray:
    out = np.zeros(shape, bool)
    reach = int(np.ceil(radius))
    v, u = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    for a, b in zip(i, j, strict=True):
        p, q = round(float(a)), round(float(b))
        on = (u + p - a) ** 2 + (v + q - b) ** 2 <= radius**2
        y, x = v[on] + q, u[on] + p
        inside = (x >= 0) & (y >= 0) & (x < shape[1]) & (y < shape[0])
        out[y[inside], x[inside]] = True
    return out


def show(k: int, name: str, sigma: np.ndarray, areas: dict[str, np.ndarray], spent: float) -> None:
    cells = []
    for area in areas.values():
        values = sigma[area]
        values = values[np.isfinite(values)]
        robust = 1.4826 * np.median(np.abs(values - np.median(values))) if values.size else np.nan
        # What changed, and what a mask has missed, must not be all that the rms tells.
        cells.append(f"{robust:6.3f}/{np.std(np.clip(values, -30, 30)):5.2f} ")
    print(f"{k:5} {name:<13}" + "".join(cells) + f"{1e3 * spent:7.0f}", flush=True)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result, and the processor time of this process and its children, s; compiled and warm where it can be."""
    before = os.times()
    start = time.process_time()
    result = work()
    after = os.times()
    children = after.children_user + after.children_system - before.children_user - before.children_system
    return result, time.process_time() - start + children


def replaced(night: Night, method: str) -> Night:
    """The same night with another --match."""
    from dataclasses import replace

    return replace(night, options=replace(night.options, match=method))


def sfft_difference(room: Path, new: np.ndarray, deep: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """sfft, sparse or crowded alike: the whole image but its masked pixels tells the kernel."""
    from sfft.CustomizedPacket import Customized_Packet

    calm = [np.where(hidden, np.float32(np.median(a[~hidden])), a) for a in (deep, new)]
    names = [room / n for n in ("ref.fits", "sci.fits", "mref.fits", "msci.fits", "diff.fits")]
    sky = [np.float32(np.median(a)) for a in calm]
    for path, part in zip(names, [calm[0], calm[1], calm[0] - sky[0], calm[1] - sky[1]], strict=False):
        fits.writeto(path, part.astype(np.float32))
    with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
        Customized_Packet.CP(
            *(str(n) for n in names[:4]), ForceConv="REF", GKerHW=2, FITS_DIFF=str(names[4]), KerPolyOrder=2,
            BGPolyOrder=0, ConstPhotRatio=True, BACKEND_4SUBTRACT="Numpy", NUM_CPU_THREADS_4SUBTRACT=1,
            VERBOSE_LEVEL=0,
        )  # fmt: skip
    return np.asarray(fits.getdata(names[4]), float)


def hotpants_difference(room: Path, new: np.ndarray, deep: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """HOTPANTS with Gaussians to the size of these stars; the template is convolved."""
    low, high = float(new[~hidden].min()) - 1, float(deep.max()) + 1
    for name, part in (("new", new), ("deep", deep)):
        fits.writeto(room / f"{name}.fits", np.where(hidden, low - 10, part).astype(np.float32))
    command = [
        "hotpants", "-inim", "new.fits", "-tmplim", "deep.fits", "-outim", "diff.fits", "-c", "t", "-n", "t",
        "-ko", "2",         "-bgo", "1", "-r", "5", "-rss", "9", "-ng", "3", "4", "0.5", "3", "1", "2", "2", "-v", "0",
        "-il", str(low), "-tl", str(low), "-iu", str(high), "-tu", str(high),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=room, capture_output=True, text=True, check=False)
    if done.returncode or not (room / "diff.fits").exists():
        raise RuntimeError(done.stderr or done.stdout or "no difference was written")
    return np.asarray(fits.getdata(room / "diff.fits"), float)


if __name__ == "__main__":
    main()

"""What difflapse costs and how exact it is, beside its peers, in one run on one machine: ``make bench``.

Frames are those of the simulator's preset ``panoptes`` at full size. Everything is a ratio to what merely decoding the
same files with astropy takes here, on as many processes. ``make bench ARGS="--frames 24 --no-peers"`` is quicker.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from stage_costs import ratios

WORKERS = 2
TURNS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=36, help="frames of the long run; the short one has 12")
    parser.add_argument("--size", default="5208x3476", help="pixels of a frame, width x height")
    parser.add_argument("--data", help="folder to keep the simulated nights in; else they are removed")
    parser.add_argument(
        "--no-peers", action="store_true", help="leave astroalign, reproject and scikit-image out"
    )
    parser.add_argument("--json", help="also write the figures to this file")
    args = parser.parse_args()
    width, height = (int(n) for n in args.size.split("x"))
    folder = Path(args.data) if args.data else Path(tempfile.mkdtemp(prefix="difflapse-bench-"))
    try:
        figures = measure(folder, (height, width), args.frames, not args.no_peers)
    finally:
        if not args.data:
            shutil.rmtree(folder, ignore_errors=True)
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=1))


def measure(folder: Path, shape: tuple[int, int], frames: int, peers: bool) -> dict[str, float]:
    figures: dict[str, float] = {}

    def tell(name: str, value: float, unit: str = "", note: str = "") -> None:
        figures[name] = round(float(value), 5)
        print(f"{name:<58} {value:10.4g} {unit:<4} {note}", flush=True)

    print(
        f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"{shape[1]}x{shape[0]} pixels"
    )
    solved = night(folder / "solved", frames, shape, wcs=True)
    unsolved = night(folder / "unsolved", 12, shape, wcs=False)
    short = subset(solved, folder / "short", 12)

    # Compiled code is cached then, files are in memory; to look at the processes' memory would slow the next ones down.
    memory = max(run(source, folder / "out-warm", watched=True)[1] for source in (short, solved))
    # By turns, and the middle of them: a shared machine is never as quick as a minute ago.
    turns = np.array(
        [
            [
                decoding(solved),
                run(short, folder / "out-short")[0],
                run(solved, folder / "out-solved")[0],
                run(short, folder / "out-movies-short", "--no-changes")[0],
                run(solved, folder / "out-movies", "--no-changes")[0],
            ]
            for _ in range(TURNS)
        ]
    )
    decode, seconds12, seconds, alone12, alone = (float(v) for v in np.median(turns, axis=0))
    tell("astropy decodes a frame, 2 processes", 1e3 * decode, "ms")
    marginal = (seconds - seconds12) / (frames - 12)
    tell("default run, 12 frames", seconds12, "s")
    tell(f"default run, {frames} frames", seconds, "s")
    tell("marginal cost of a frame", 1e3 * marginal, "ms")
    each = (turns[:, 2] - turns[:, 1]) / (frames - 12) / turns[:, 0]
    spread = f"{each.min():.2f} to {each.max():.2f} in {TURNS} turns"
    tell("marginal cost / decoding", marginal / decode, "", f"at most 5; {spread}")
    tell("fixed cost", seconds12 - 12 * marginal, "s", "below 6")
    marginal = (alone - alone12) / (frames - 12)
    tell("movies alone (--no-changes), 12 frames", alone12, "s")
    tell(f"movies alone, {frames} frames", alone, "s")
    tell("movies alone, marginal cost / decoding", marginal / decode, "", "at most 5")
    tell("movies alone, fixed cost", alone12 - 12 * marginal, "s", "below 6")
    for name, ratio in ratios(solved, folder / "out-stages").items():
        tell(f"{name}, one core", ratio, "", "at most 1.5" if "page" in name else "at most 1")
    tell("memory of all processes (PSS)", memory / 1e9, "GB", "below 3")
    for label, source, method in (
        ("auto, header WCS", short, "auto"),
        ("asterism, header WCS", short, "asterism"),
        ("auto, no WCS", unsolved, "auto"),
        ("asterism, no WCS", unsolved, "asterism"),
    ):
        out = folder / f"out-{label.replace(', ', '-').replace(' ', '-')}"
        spent, _ = run(source, out, "--align", method)
        rms, worst = accuracy(source, out)
        tell(f"alignment rms over the field, 12 frames: {label}", rms, "px", "at most 0.02")
        tell(f"alignment worst point, 12 frames: {label}", worst, "px")
        tell(f"12 frames, {label}", spent, "s")
    finding(short, tell)
    if peers:
        peer_figures(solved, tell)
    return figures


def finding(folder: Path, tell) -> None:  # type: ignore[no-untyped-def]
    """What each method takes to find a transform, on one core, beyond decoding and measuring stars; and how well."""
    import cv2

    from difflapse.align.view import AlignOptions, View
    from difflapse.io.discover import discover
    from difflapse.measure import Defects
    from difflapse.methods import find_method
    from difflapse.pipeline import tasks
    from difflapse.pipeline.config import RunOptions
    from difflapse.pipeline.context import Night
    from difflapse.synth import Truth

    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as scratch:
        sequence = discover([str(folder)]).sequences[0]
        context = Night(sequence.name, sequence.frames, RunOptions(), scratch, scratch)
        context.share("defects", Defects.none())
        views = []
        for k in (1, 9):
            pixels = tasks.read(context, k, {})
            stars = tasks.measure(context, k, pixels)["stars"]
            picture = tasks.reduced_picture(context, k)
            views.append(View(sequence.frames[k], stars, lambda picture=picture: picture))
        spent = timed(lambda: tasks.measure(context, 9, pixels))
        tell("stars, sky and noise of a frame, one core", 1e3 * spent, "ms")
        truth = Truth.read(folder)
        ny, nx = truth.shape
        gx, gy = np.meshgrid(np.linspace(0, nx - 1, 41), np.linspace(0, ny - 1, 31))
        true_x, true_y = truth.to_reference(9, 1, gx, gy)
        inside = (true_x >= 0) & (true_y >= 0) & (true_x <= nx - 1) & (true_y <= ny - 1)
        for method, detector in (
            ("wcs", ""), ("asterism", ""), ("features", "orb"), ("features", "akaze"), ("features", "sift"),
            ("phase", ""),
        ):  # fmt: skip
            options = AlignOptions(method, "auto", detector or "orb")
            find = find_method("align", method)
            spent = timed(lambda find=find, options=options: find(views[1], views[0], options))
            x, y = find(views[1], views[0], options).transform(gx, gy)
            rms = np.sqrt(((x - true_x) ** 2 + (y - true_y) ** 2)[inside].mean())
            tell(
                f"finding by {method} {detector}".strip() + ", one core",
                1e3 * spent,
                "ms",
                f"wrong by {rms:.4f} px rms",
            )
    whole_cost(folder, tell)


def whole_cost(folder: Path, tell) -> None:  # type: ignore[no-untyped-def]
    """What the transforms of a night cost in all, per frame and in processor time, beyond decoding: stars, each frame
    by itself, the night's lens; with the headers' plate solutions and without.
    """
    from dataclasses import replace

    from difflapse.align.chain import auto
    from difflapse.align.lens import one_lens
    from difflapse.align.view import AlignOptions, View
    from difflapse.io.discover import discover
    from difflapse.io.products import sha256
    from difflapse.measure import Defects, find_stars, noise_shape
    from difflapse.model import Alignment, Frame, Transform
    from difflapse.pipeline import tasks
    from difflapse.pipeline.config import RunOptions
    from difflapse.pipeline.context import Night

    sequence = discover([str(folder)]).sequences[0]
    frames, home = sequence.frames, len(sequence.frames) // 2
    context = Night(sequence.name, frames, RunOptions(), "", "")
    stars, spent = {}, {"stars": 0.0, "noise": 0.0, "checksum": 0.0}

    def take(name: str, work):  # type: ignore[no-untyped-def]
        start = time.process_time()
        made = work()
        spent[name] += (time.process_time() - start) / len(frames)
        return made

    for turn, k in enumerate((0, *range(len(frames)))):
        facts, pixels = frames[k], tasks.read_pixels(context, k, Defects.none())
        frame = Frame(facts, pixels.data, pixels.mask)
        stars[k] = take("stars", partial(find_stars, frame))[0]
        take("noise", partial(noise_shape, pixels.data, facts.mosaic, pixels.mask))
        take("checksum", partial(sha256, facts.path))
        if turn == 0:
            spent = dict.fromkeys(spent, 0.0)  # what the first turn loads does not count
    for name, what in (
        ("stars", "stars"), ("noise", "noise over the field"), ("checksum", "checksum of the file"),
    ):  # fmt: skip
        tell(f"{what} of a frame, processor time", 1e3 * spent[name], "ms")
    for wcs in (True, False):
        known = {k: f if wcs else replace(f, wcs_header="") for k, f in enumerate(frames)}
        views = {k: View(f, stars[k], lambda: None) for k, f in known.items()}  # type: ignore[arg-type, return-value]
        seconds = []
        for _ in range(2):  # the first turn loads what is compiled
            own = {home: Alignment(Transform.identity(), "reference", len(stars[home]), 0.0)}
            start = time.process_time()
            for k in known:
                if k != home:
                    own[k] = auto(views[k], views[home], AlignOptions())
            middle = time.process_time()
            one_lens(known, stars, own, home)
            seconds = [middle - start, time.process_time() - middle]
        alone, lens = (1e3 * s / len(frames) for s in seconds)
        label = "header WCS" if wcs else "no WCS"
        tell(f"a frame by itself, {label}, processor time", alone, "ms")
        tell(f"the night's lens, {label}, per frame, processor time", lens, "ms")
        tell(f"stars, transform and lens, {label}", 1e3 * spent["stars"] + alone + lens, "ms", "at most 150")


def timed(work, repeats: int = 3) -> float:  # type: ignore[no-untyped-def]
    """Seconds that the work takes, the best of a few turns after a first one."""
    work()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def night(folder: Path, frames: int, shape: tuple[int, int], wcs: bool) -> Path:
    """Simulate a night, once."""
    from difflapse.synth import preset, simulate

    if not (folder / "truth.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        simulate(folder, preset("panoptes", frames=frames, shape=shape, seed=1, wcs=wcs), workers=WORKERS)
    return folder


def subset(source: Path, folder: Path, frames: int) -> Path:
    """The first frames of a night, linked into a folder of their own."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in [*sorted(source.glob("*.fits.fz"))[:frames], source / "truth.json"]:
        (folder / path.name).symlink_to(path.resolve())
    return folder


def decode_one(path: str) -> int:
    from astropy.io import fits

    return int(fits.getdata(path, 1).shape[0])


def decoding(folder: Path) -> float:
    """Seconds per frame that astropy takes to decode the files, on two processes that have it loaded."""
    files = [str(path) for path in sorted(folder.glob("*.fits.fz"))]
    with ProcessPoolExecutor(WORKERS) as pool:
        list(pool.map(decode_one, files[: 2 * WORKERS]))
        start = time.perf_counter()
        list(pool.map(decode_one, files))
        return (time.perf_counter() - start) / len(files)


def run(source: Path, out: Path, *options: str, watched: bool = False) -> tuple[float, int]:
    """Run the program as a user would: wall time, and the peak memory of all its processes where it is watched."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "difflapse", "run", str(source), "-o", str(out), "--quiet"]
    start = time.perf_counter()
    process = subprocess.Popen([*command, "--workers", str(WORKERS), *options])
    peak = [0]
    watch = threading.Thread(target=watch_memory, args=(process, peak), daemon=True)
    if watched:
        watch.start()
    if process.wait() != 0:
        raise SystemExit(f"difflapse run failed on {source}")
    seconds = time.perf_counter() - start
    if watched:
        watch.join()
    return seconds, peak[0]


def watch_memory(process: subprocess.Popen[bytes], peak: list[int]) -> None:
    """Keep the largest sum of proportional set sizes over a process and its descendants (Linux)."""
    while process.poll() is None:
        peak[0] = max(peak[0], sum(pss(pid) for pid in family(process.pid)))
        time.sleep(0.2)


def family(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += parents.get(found[-1], [])
    return found


def pss(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


def accuracy(source: Path, out: Path) -> tuple[float, float]:
    """Alignment against the simulator's truth on a grid over the whole field: rms over all used frames, worst point."""
    import difflapse
    from difflapse.synth import Truth

    truth, result = Truth.read(source), difflapse.open_run(out)
    names = [frame.file for frame in truth.frames]
    reference = names.index(result.reference.file)
    ny, nx = truth.shape
    gx, gy = np.meshgrid(np.linspace(0, nx - 1, 41), np.linspace(0, ny - 1, 31))
    squares = []
    for frame in result.frames:
        if not frame.used or frame.number == result.reference.number:
            continue
        true_x, true_y = truth.to_reference(names.index(frame.file), reference, gx, gy)
        x, y = frame.to_reference(gx, gy)
        inside = (true_x >= 0) & (true_y >= 0) & (true_x <= nx - 1) & (true_y <= ny - 1)
        squares.append(((x - true_x) ** 2 + (y - true_y) ** 2)[inside])
    together = np.concatenate(squares)
    return float(np.sqrt(together.mean())), float(np.sqrt(together.max()))


def peer_figures(folder: Path, tell) -> None:  # type: ignore[no-untyped-def]
    """What others take for one frame of the same night, on one process; whatever is not installed is left out."""
    from astropy.io import fits
    from astropy.wcs import WCS

    files = sorted(folder.glob("*.fits.fz"))[:2]
    a, b = (fits.getdata(path, 1).astype(np.float32) for path in files)
    try:
        import astroalign

        start = time.perf_counter()
        astroalign.register(b, a)
        tell("astroalign.register on pixels, one frame", 1e3 * (time.perf_counter() - start), "ms")
    except ImportError:
        print("astroalign is not installed")
    try:
        from reproject import reproject_interp

        headers = [fits.getheader(path, 1) for path in files]
        start = time.perf_counter()
        reproject_interp((b, WCS(headers[1])), WCS(headers[0]), shape_out=a.shape)
        tell("reproject_interp, one frame", 1e3 * (time.perf_counter() - start), "ms")
    except ImportError:
        print("reproject is not installed")
    try:
        from skimage.feature import ORB

        start = time.perf_counter()
        ORB(n_keypoints=10).detect_and_extract(a / a.max())
        tell("skimage ORB with 10 keypoints, one frame", 1e3 * (time.perf_counter() - start), "ms")
    except ImportError:
        print("scikit-image is not installed")


if __name__ == "__main__":
    main()

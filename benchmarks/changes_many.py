"""What is found, and what is reported falsely, over many simulated nights.

Run: python benchmarks/changes_many.py FOLDER [--nights 28] [--only 3,7] [--keep] [--figures docs/images]

28 nights: 20 of 24 frames of 2604x1738 and 3 of 5208x3476 (preset `changes`: clouds, streaks, hot pixels, seeing that
changes), and 5 of 2604x1738 with nothing planted. Each is simulated, run with default options, scored against its
truth.json, and its frames removed before the next. A night that was scored is not made again: the figures stand in
FOLDER/NAME.json, and what was made of it in FOLDER/NAME (without images). The table and the figure are made of all
nights that are there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

import difflapse
from difflapse.synth import NightSpec, Truth, preset, simulate
from difflapse.synth.score import FLOOR, KIND, score

EDGES = (3, 5, 6, 8, 10, 13, 17, 22, 30, 1000)
KINDS = tuple(KIND.values())


def nights() -> dict[str, NightSpec]:
    """All nights by name, the small ones first."""
    half, full = (1738, 2604), (3476, 5208)
    nothing = {"comets": 0, "movers": 0, "variables": 0, "novae": 0, "streaks": 0}
    return (
        {f"changes-{n:02d}": preset("changes", seed=100 + n, shape=half, clouds=n % 3) for n in range(20)}
        | {
            f"empty-{n}": preset("changes", seed=200 + n, shape=half, clouds=n % 3, **nothing)
            for n in range(5)
        }
        | {f"full-{n}": preset("changes", seed=300 + n, shape=full, clouds=n % 3) for n in range(3)}
    )


def one_night(folder: Path, name: str, spec: NightSpec, keep: bool, workers: int) -> dict[str, Any]:
    """Simulate, run and score a night; its frames are removed."""
    frames, out = folder / f"{name}-frames", folder / name
    for old in (frames, out):
        shutil.rmtree(old, ignore_errors=True)
    truth = simulate(frames, spec, workers=workers or 2)
    begun, cpu = time.monotonic(), time.process_time()
    run = difflapse.run(frames, out, workers=workers)
    seconds = time.monotonic() - begun
    result = scored(truth, run.sequences[0]) | {
        "seconds": round(seconds, 1),
        "cpu": time.process_time() - cpu,
    }
    if not keep:
        shutil.rmtree(frames)
        for file in out.iterdir():
            if file.suffix in (".fits", ".mp4"):
                file.unlink()
    return result


def scored(truth: Truth, night: Any) -> dict[str, Any]:
    """A night's outcomes and false changes, as plain values."""
    changes = Table.read(night.folder / "changes.ecsv", format="ascii.ecsv")
    floor = star_floor(night.folder)
    result = score(truth, changes, night.reference.number, FLOOR if floor is None else floor)
    columns = ("kind", "x_pix", "y_pix", "first_frame", "last_frame", "snr", "note")
    return {
        "floor": floor,
        "planted": [
            asdict(p) | {"recovered": p.recovered} for p in result.planted if p.n_sightings >= _fewest(p.kind)
        ],
        "false": [{c: str(changes[c][n]) for c in columns} for n in result.false],
        "injected": injected(night.folder),
    }


def injected(folder: Path) -> dict[str, Any] | None:
    """What the run itself says of its depth."""
    path = folder / "completeness.ecsv"
    if not path.exists():
        return None
    table = Table.read(path, format="ascii.ecsv")
    return {"limits": table.meta["limits"], "rows": [[str(v) for v in row] for row in table]}


def star_floor(folder: Path) -> float | None:
    """Scatter of bright stars' own light curves beyond the noise model's, over their light; None without them."""
    path = folder / "stars.ecsv"
    if not path.exists():
        return None
    stars = Table.read(path, format="ascii.ecsv")
    mag, scatter, expected, flags = (
        np.ma.filled(np.ma.asarray(stars[c]).astype(float), np.nan)
        for c in ("mag", "scatter_mag", "expected_scatter_mag", "flags")
    )
    good = np.isfinite(mag + scatter + expected) & (flags == 0)
    bright = np.flatnonzero(good)[np.argsort(mag[good])[:200]]
    if len(bright) < 20:
        return None
    return float(np.sqrt(max(np.median(scatter[bright] ** 2 - expected[bright] ** 2), 0)) / 1.0857)


def _fewest(kind: str) -> int:
    """Frames on which a thing of a kind must be to be seen to count: a streak has one."""
    return 1 if kind == "streak" else 2


def rows_of(planted: list[dict[str, Any]]) -> list[tuple[str, float, float, int, int]]:
    """Rows (kind, low, high, planted, recovered) by S/N of one sighting; kind ``all`` last."""
    rows = []
    for kind in (*KINDS, "all"):
        for low, high in pairwise(EDGES):
            here = [p for p in planted if kind in (p["kind"], "all") and low <= p["snr"] < high]
            rows.append((kind, float(low), float(high), len(here), sum(p["recovered"] for p in here)))
    return rows


def report(results: dict[str, dict[str, Any]]) -> str:
    """The table of docs/completeness.md."""
    planted = [p for r in results.values() for p in r["planted"]]
    lines = ["| kind | " + " | ".join(f"{a}-{b}" if b < 1000 else f">{a}" for a, b in pairwise(EDGES)) + " |"]
    lines.append("|---|" + "---|" * (len(EDGES) - 1))
    rows = rows_of(planted)
    for kind in dict.fromkeys(r[0] for r in rows):
        cells = [f"{hit} of {n}" if n else "" for k, _, _, n, hit in rows if k == kind]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    for low, high, needed in ((10, np.inf, 95), (6, 8, 60)):
        own = [p for p in planted if low <= p["snr"] < high]
        if own:
            share = 100 * np.mean([p["recovered"] for p in own])
            lines.append(
                f"\nS/N {low} to {high:g} a sighting: {share:.1f} % of {len(own)} with the right kind ({needed} asked)"
            )
    for title, names in (
        ("planted", [n for n in results if not n.startswith("empty")]),
        ("empty", [n for n in results if n.startswith("empty")]),
    ):
        count = [len(results[n]["false"]) for n in names]
        if count:
            lines.append(
                f"\nFalse changes, {len(count)} {title} nights: mean {np.mean(count):.2f}, at most {max(count)} a night"
            )
    return "\n".join(lines)


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Share recovered against S/N of one sighting, by kind."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from difflapse.pipeline.depth import binomial

    planted = [p for r in results.values() for p in r["planted"]]
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    shift = dict(zip((*KINDS, "all"), np.geomspace(0.95, 1.05, 6), strict=True))
    rows = rows_of(planted)
    for kind in (*KINDS, "all"):
        own = [r for r in rows if r[0] == kind and r[3]]
        if not own:
            continue
        x = [np.sqrt(a * min(b, 60)) * shift[kind] for _, a, b, _, _ in own]
        share, error = zip(*(binomial(hit, n) for *_, n, hit in own), strict=True)
        style = {"color": "black", "linewidth": 2} if kind == "all" else {"alpha": 0.8, "linewidth": 1}
        axes.errorbar(x, share, error, marker="o", markersize=4, capsize=2, label=kind, **style)
    axes.set(
        xscale="log", xlabel="S/N of one sighting", ylabel="recovered with the right kind", ylim=(-0.03, 1.05)
    )
    axes.set_xticks([3, 5, 7, 10, 15, 20, 30, 40], ["3", "5", "7", "10", "15", "20", "30", "40"])
    axes.minorticks_off()
    axes.axvline(10, color="grey", linewidth=0.6, linestyle=":")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nights", type=int, help="so many of the nights, in their order")
    parser.add_argument("--only", default="", help="names of nights, with commas")
    parser.add_argument("--keep", action="store_true", help="keep frames and images")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="run nights that were scored already")
    parser.add_argument("--figures", type=Path, help="folder for completeness-nights.png")
    told = parser.parse_args()
    told.folder.mkdir(parents=True, exist_ok=True)
    wanted = nights()
    if told.only:
        wanted = {name: wanted[name] for name in told.only.split(",")}
    for name in list(wanted)[: told.nights]:
        kept = told.folder / f"{name}.json"
        if kept.exists() and not told.again:
            continue
        result = one_night(told.folder, name, wanted[name], told.keep, told.workers)
        part = kept.with_suffix(".part")
        part.write_text(json.dumps(result, indent=1), encoding="utf-8")
        part.replace(kept)
        hits = sum(p["recovered"] for p in result["planted"])
        print(
            f"{name}: {hits} of {len(result['planted'])} recovered, {len(result['false'])} false, "
            f"{result['seconds']} s",
            flush=True,
        )
    results = {p.stem: json.loads(p.read_text("utf-8")) for p in sorted(told.folder.glob("*.json"))}
    results = {name: r for name, r in results.items() if name in nights()}
    if results:
        print(report(results))
        if told.figures:
            draw(results, told.figures / "completeness-nights.png")


if __name__ == "__main__":
    main()

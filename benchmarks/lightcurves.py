"""Light curves against the truth of simulated nights, and a real transit from a run's default output.

    python benchmarks/lightcurves.py NIGHT...            simulated nights (truth.json beside the frames), run first
    python benchmarks/lightcurves.py --transit HATP32    the frames of HAT-P-32, run first
    ... --out FOLDER                                     keep (and reuse) the runs there
    ... --figure FILE.svg                                draw the transit

Nights: median scatter of bright unsaturated lone stars over photon and read noise, chi square of quiet stars, chi
square of planted variables against their true curves, and false alarms. Transit: a trapezoid times a straight line,
fitted robustly; errors by shifting the residuals along the curve (Jenkins et al. 2002, doi:10.1086/324752), which keeps
noise that is alike in neighbouring frames as it is.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from astropy.time import Time
from scipy.optimize import least_squares
from scipy.spatial import cKDTree

import difflapse
from difflapse.synth import Truth

TRUSTED = 255 - 64
"""Flags that make a number untrusted: all but `blended`."""
HOST = (424.0, 286.0)
"""HAT-P-32 on the first frame, native pixels."""


def run_of(folder: Path, out: Path) -> Any:
    """The finished run of a folder, made where it is not there yet; default options."""
    if not (out / "frames.ecsv").exists():
        difflapse.run(str(folder), str(out))
    return difflapse.open_run(out).sequences[0]


def cube(night: Any) -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]], np.ndarray]:
    """Star numbers, (stars, frames) arrays by channel and column, and frame numbers."""
    table = Table.read(night.folder / "lightcurves.fits")
    star, frame = np.unique(table["star"]), np.unique(table["frame"])
    names = list(dict.fromkeys(np.asarray(table["channel"]).astype(str)))
    columns = ("flux_adu", "flux_err_adu", "rel_flux", "rel_flux_err", "flags")
    shape = (len(star), len(names), len(frame))
    data = {c: np.ma.filled(np.ma.asarray(table[c], float), np.nan).reshape(shape) for c in columns}
    return star, {n: {c: data[c][:, i] for c in columns} for i, n in enumerate(names)}, frame


def measure_night(folder: Path, out: Path) -> None:
    """Print the figures of one simulated night."""
    night = run_of(folder, out)
    truth = Truth.read(folder)
    stars = night.stars
    number, light, frames = cube(night)
    reference = night.reference.number
    x, y, inside = truth.star_pixels(reference)
    there = np.flatnonzero(inside & np.isfinite(x))
    near = cKDTree(np.column_stack([x[there], y[there]]))
    away, which = near.query(np.column_stack([stars["x_pix"], stars["y_pix"]]))
    which = there[which]
    changing = np.isin(truth.star_kind[which], ["variable", "nova"])
    flags = np.asarray(stars["flags"])
    fwhm = float(np.ma.median(night.table["fwhm_pix"]))
    lone = ~changing & (flags == 0) & (away < 1)
    radius = stars.meta["aperture_radius_pix"]
    print(
        f"{folder.name}: FWHM {fwhm:.2f} px, circles of {radius:.2f} px, {len(stars)} stars, {len(frames)} frames"
    )
    for name, c in light.items():
        rel = np.where(c["flags"].astype(int) & TRUSTED, np.nan, c["rel_flux"])
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # stars without a single number
            snr = np.nanmedian(c["flux_adu"] / c["flux_err_adu"], axis=1)
            photon = c["flux_err_adu"] / c["flux_adu"] * c["rel_flux"]
            scatter = 1.4826 * np.nanmedian(np.abs(rel - np.nanmedian(rel, axis=1)[:, None]), axis=1)
            expected = np.sqrt(np.nanmedian(photon**2, axis=1))
            z = (rel - 1) / c["rel_flux_err"]
        for low, high in ((100, 1e9), (50, 100), (20, 50)):
            some = (
                lone[number]
                & (snr >= low)
                & (snr < high)
                & (np.isfinite(rel).sum(axis=1) >= 0.8 * len(frames))
            )
            if some.sum() < 5:
                continue
            ratio = float(np.nanmedian(scatter[some] / expected[some]))
            mmag = 1085.7 * float(np.nanmedian(scatter[some]))
            chi2 = float(np.nanmean(np.clip(z[some], -5, 5) ** 2)) * len(frames) / (len(frames) - 1)
            limit = f"{low} to {high:g}" if high < 1e8 else f"over {low}"
            print(
                f"  {name} S/N {limit}: {some.sum()} stars, {mmag:.1f} mmag, {ratio:.2f} x photon and read noise, "
                f"chi2 {chi2:.2f}"
            )
    total, count = 0.0, 0
    for o in truth.objects:
        hit = np.flatnonzero((which == o.star) & (away < 1))
        if o.kind != "variable" or not len(hit):
            continue
        row = int(np.flatnonzero(number == hit[0])[0])
        told = []
        true = _true_curve(truth, o, frames, radius)
        for name, c in light.items():
            good = (c["flags"][row].astype(int) & TRUSTED == 0) & np.isfinite(c["rel_flux"][row])
            r, e, t = c["rel_flux"][row][good], c["rel_flux_err"][row][good], true[good]
            chi2 = float(((r - t * (r * t / e**2).sum() / (t * t / e**2).sum()) ** 2 / e**2).sum()) / (
                good.sum() - 1
            )
            if name in ("G", "L"):
                total, count = total + chi2, count + 1
            told.append(f"{name} {chi2:.2f}")
        s = stars[int(hit[0])]
        print(
            f"  variable {o.star} ({np.ptp(o.mag):.2f} mag; measured {s['amplitude_mag']:.2f}): "
            f"chi2 {', '.join(told)}; "
            f"false alarm {s['false_alarm']:.1g}; flags {s['flags']}"
        )
    if count:
        print(f"  mean chi2 of planted curves in G: {total / count:.2f}")
    chance = np.ma.filled(np.ma.asarray(stars["false_alarm"], float), np.nan)
    tested = int(np.isfinite(chance).sum())
    quiet = np.isfinite(chance) & ~changing
    for level in (1e-2, 1e-3, 1 / tested):
        print(
            f"  false alarm < {level:.2g}: {np.sum(chance[quiet] < level)} quiet stars, {level * tested:.1f} expected"
        )


def _true_curve(truth: Truth, o: Any, frames: np.ndarray, radius: float) -> np.ndarray:
    """The true light in a star's circle: its own, and that of fainter ones which the circle also holds."""
    own = 10 ** (-0.4 * np.asarray(o.mag)[frames])
    k = int(frames[len(frames) // 2])
    x, y, _ = truth.star_pixels(k)
    near = np.hypot(x - x[o.star], y - y[o.star]) < radius
    near[o.star] = False
    with np.errstate(over="ignore"):
        return own + float((10 ** (-0.4 * truth.star_mag[near])).sum())


@dataclass(frozen=True)
class Transit:
    """A fitted trapezoid; times in days from `start`."""

    start: float
    values: np.ndarray
    """Middle (h), duration (h, first to last contact), ingress (h), depth, level, slope (1/h)."""
    errors: np.ndarray
    residuals: np.ndarray


def trapezoid(p: np.ndarray, hours: np.ndarray) -> np.ndarray:
    """Relative flux: a trapezoid times a straight line."""
    middle, duration, ingress, depth, level, slope = p
    inside = np.clip((duration / 2 - np.abs(hours - middle)) / ingress, 0, 1)
    return (level + slope * (hours - hours.mean())) * (1 - depth * inside)


def fit_transit(hours: np.ndarray, flux: np.ndarray, error: np.ndarray) -> Transit:
    """Fit from several first guesses; errors by shifting the residuals along the curve."""
    low, high = [0, 1, 0.1, 0, 0.9, -0.05], [hours[-1], 5, 1.2, 0.1, 1.1, 0.05]

    def fit(values: np.ndarray, guess: np.ndarray) -> Any:
        return least_squares(
            lambda p: (values - trapezoid(p, hours)) / error, guess, bounds=(low, high), loss="soft_l1"
        )

    guesses = [np.array([m, 3.0, 0.4, 0.02, 1, 0]) for m in np.linspace(0.2, 0.8, 7) * hours[-1]]
    best = min((fit(flux, g) for g in guesses), key=lambda f: f.cost)
    model = trapezoid(best.x, hours)
    left = flux - model
    shifted = np.array([fit(model + np.roll(left, n), best.x).x for n in range(1, len(hours))])
    return Transit(0.0, best.x, shifted.std(axis=0), left)


def measure_transit(folder: Path, out: Path, figure: str | None) -> None:
    """Print (and draw) the transit of HAT-P-32 b from the run's default output."""
    night = run_of(folder, out)
    x, y = night.frames[0].to_reference(*HOST)
    star = night.star_at(pixel=(float(x), float(y)))
    curve = night.light_curve(star)
    good = (np.asarray(curve["flags"]).astype(int) & TRUSTED == 0) & np.isfinite(
        np.asarray(curve["rel_flux"], float)
    )
    curve = curve[good]
    bjd = np.asarray(curve["bjd_tdb"].value)
    hours = (bjd - bjd[0]) * 24
    flux, error = (np.asarray(curve[c], float) for c in ("rel_flux", "rel_flux_err"))
    found = fit_transit(hours, flux, error)
    v, e = found.values, found.errors
    lag = np.median(curve.time.jd - bjd)
    utc = Time(bjd[0] + v[0] / 24 + lag, format="jd", scale="utc")
    robust = 1085.7 * 1.4826 * float(np.median(np.abs(found.residuals - np.median(found.residuals))))
    steps = 1085.7 * 1.4826 * float(np.median(np.abs(np.diff(found.residuals)))) / 2**0.5
    photon = 1085.7 * float(
        np.median(np.asarray(curve["flux_err_adu"].value) / np.asarray(curve["flux_adu"].value))
    )
    binned = found.residuals[: len(flux) // 10 * 10].reshape(-1, 10).mean(axis=1)
    row = night.stars[star]
    print(f"HAT-P-32 is star {star}; {len(flux)} frames without flags; false alarm {row['false_alarm']:.1g}")
    print(f"  depth     {v[3]:.4f} +- {e[3]:.4f}")
    print(
        f"  mid-time  BJD_TDB {bjd[0] + v[0] / 24:.5f} +- {e[0] / 24:.5f}; {utc.iso[:19]} UTC +- {e[0] * 60:.1f} min"
    )
    print(f"  duration  {v[1]:.2f} +- {e[1]:.2f} h, ingress {v[2] * 60:.0f} +- {e[2] * 60:.0f} min")
    print(f"  slope     {1e3 * v[5]:.2f} +- {1e3 * e[5]:.2f} mmag an hour (about)")
    print(
        f"  scatter   {robust:.1f} mmag a frame (robust), {steps:.1f} from frame to frame; "
        f"{1085.7 * binned.std():.1f} in means of 10"
    )
    print(f"  photon and read noise alone {photon:.1f} mmag, by the gain that the frames show")
    if figure:
        draw(Path(figure), hours, flux, error, v, (bjd[0], utc.iso[:10]))


def draw(
    path: Path, hours: np.ndarray, flux: np.ndarray, error: np.ndarray, values: np.ndarray, when: Any
) -> None:
    """The transit, on a ground of its own so that it reads on light and dark pages."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    middle = values[0]
    t = hours - middle
    line = values[4] + values[5] * (hours - hours.mean())
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "difflapse"}):
        figure = Figure(figsize=(8, 4.2), layout="constrained", facecolor="white")
        ax = figure.subplots()
        ax.set_facecolor("white")
        ax.errorbar(
            t,
            flux / line,
            error,
            fmt="o",
            ms=3,
            lw=0.6,
            color="#9bb0c9",
            mec="#5f7fa6",
            zorder=1,
            label="one frame",
        )
        n = len(t) // 8 * 8
        bt, bf = t[:n].reshape(-1, 8).mean(axis=1), (flux / line)[:n].reshape(-1, 8)
        ax.errorbar(
            bt, bf.mean(axis=1), bf.std(axis=1, ddof=1) / 8**0.5, fmt="s", ms=4.5, lw=1.2, color="#1b3a5c", zorder=3,
            label="mean of 8",
        )  # fmt: skip
        fine = np.linspace(t[0], t[-1], 800)
        ax.plot(
            fine,
            trapezoid(np.array([0, *values[1:4], 1, 0]), fine),
            color="#c8502b",
            lw=1.8,
            zorder=2,
            label="trapezoid",
        )
        ax.set_xlabel(f"hours from the middle of the transit, {when[1]}")
        ax.set_ylabel("relative flux")
        ax.grid(alpha=0.25)
        ax.legend(frameon=False, ncols=3, loc="upper center")
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("nights", nargs="*", type=Path)
    parser.add_argument("--transit", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figure")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = given.out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        for folder in given.nights:
            measure_night(folder, out / folder.name)
        if given.transit:
            measure_transit(given.transit, out / given.transit.name, given.figure)


if __name__ == "__main__":
    main()

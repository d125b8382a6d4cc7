"""The certificate's figures, drawn with matplotlib (extra ``plots``), which is imported only here.

No pyplot: figures are plain objects that belong to who asked for them, whatever backend is set.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from difflapse.align.residuals import CORNER, in_corners
from difflapse.errors import MissingDependencyError, OptionError
from difflapse.pipeline.certificate import Certificate
from difflapse.pipeline.pair import Pair, Picture
from difflapse.pipeline.tables import tell_judged_on

try:
    from matplotlib import rc_context
    from matplotlib.collections import EllipseCollection
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure
    from matplotlib.patches import ConnectionPatch, Rectangle
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
except ImportError as error:
    raise MissingDependencyError(
        f"figures need matplotlib, which cannot be imported ({error})",
        "pip install 'difflapse[plots]', or --no-figures for the numbers alone",
    ) from None

_LINES = 15
"""Matched stars that are joined by a line and numbered."""
_LONGEST = 1.5
"""Arrows drawn in full, in units of what 95 % of them do not exceed."""
_CLEAR = 2.5
"""Significance from which a mean residual is drawn as one: by chance 1 in 500."""


@dataclass(frozen=True)
class _Theme:
    """Colours that stay apart for colour-blind eyes (after Okabe & Ito) and on paper."""

    paper: str
    ink: str
    faint: str
    first: str
    second: str
    third: str
    pictures: str

    def style(self) -> dict[str, Any]:
        """The same as matplotlib's settings."""
        return {
            "figure.facecolor": self.paper,
            "axes.facecolor": self.paper,
            "axes.edgecolor": self.ink,
            "axes.labelcolor": self.ink,
            "text.color": self.ink,
            "xtick.color": self.ink,
            "ytick.color": self.ink,
            "grid.color": self.faint,
            "grid.linewidth": 0.6,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlelocation": "left",
            "axes.titlesize": 11,
            "font.size": 10.5,
            "legend.frameon": False,
            "legend.fontsize": 9.5,
            "figure.dpi": 144,
        }


THEMES = {
    "light": _Theme("#ffffff", "#22252a", "#dcdfe3", "#0072b2", "#d55e00", "#6b7077", "gray_r"),
    "dark": _Theme("#15171a", "#dfe3e8", "#363b42", "#56b4e9", "#f0a030", "#9aa1aa", "gray"),
}


def draw_residuals(certificate: Certificate, theme: str = "light") -> Figure:
    """See `Certificate.draw_residuals`."""
    look = _theme(theme)
    ny, nx = certificate.shape
    with rc_context(look.style()):
        tall = float(np.clip(8.6 * ny / nx, 3.0, 9.0))
        figure = Figure(figsize=(10, tall + 4.9), layout="constrained")
        grid = figure.add_gridspec(2, 2, height_ratios=(tall, 3.6))
        _draw_field(figure.add_subplot(grid[0, :]), certificate, look)
        _draw_noise(figure.add_subplot(grid[1, 0]), certificate, look)
        _draw_cloud(figure.add_subplot(grid[1, 1]), certificate, look)
        told = certificate.to_mapping()
        figure.suptitle(
            f"{certificate.night.name}: residuals of held-out stars, {told['noise']['stars']:,} of "
            f"{len(np.unique(certificate.column('frame')))} frames",
            x=0.01, ha="left", fontsize=13, fontweight="bold",
        )  # fmt: skip
    return figure


def draw_night(certificate: Certificate, theme: str = "light") -> Figure:
    """See `Certificate.draw_night`."""
    look = _theme(theme)
    used = certificate.used
    with rc_context(look.style()):
        figure = Figure(figsize=(10, 11), layout="constrained")
        axes = figure.subplots(5, 1, sharex=True, height_ratios=(1.3, 1, 1, 1, 1.3))
        when, dates = _times(certificate)
        t = when[np.asarray(used["frame"], int)]
        dot = {"marker": "o", "markersize": 4, "linewidth": 1.1}
        drift, turn, zoom, focus, rms = axes
        drift.plot(t, _values(used, "dx_pix"), color=look.first, label="x", **dot)
        drift.plot(t, _values(used, "dy_pix"), color=look.second, label="y", **{**dot, "marker": "s"})
        drift.set_ylabel("px")
        drift.set_title("Drift of the centre on the reference")
        _draw_rotation(turn, t, _values(used, "rotation_deg"), look, dot)
        zoom.plot(t, (_values(used, "scale") - 1) * 1e6, color=look.first, **dot)
        zoom.set_title("Scale, frame to reference, minus 1")
        zoom.set_ylabel("10$^{-6}$")
        if certificate.has_stars:
            focus.plot(t, _values(used, "fwhm_pix"), color=look.first, **dot)
            focus.set_title("Focus: width of the stars (FWHM)")
            focus.set_ylabel("px")
        else:
            focus.plot(t, _values(used, "background_adu"), color=look.first, **dot)
            focus.set_title("Background (there are too few stars to measure the focus on)")
            focus.set_ylabel("ADU")
        _draw_rms(rms, certificate, when, look, dot)
        skipped = certificate.frames[certificate.frames["status"] != "used"]
        reference = used[used["method"] == "reference"]
        for n, ax in enumerate(axes):
            for row in skipped:
                ax.axvline(
                    when[int(row["frame"])], color=look.third, linewidth=1, linestyle=(0, (1, 2)), zorder=0
                )
            for row in reference:
                ax.axvline(when[int(row["frame"])], color=look.ink, linewidth=0.9, zorder=0)
            ax.margins(x=0.02)
            if n == 0:
                if len(reference):
                    ax.plot([], [], color=look.ink, linewidth=0.9, label="reference")
                if len(skipped):
                    label = f"skipped ({len(skipped)})"
                    ax.plot([], [], color=look.third, linewidth=1, linestyle=(0, (1, 2)), label=label)
        for ax in (drift, rms):
            ax.legend(loc="lower right", bbox_to_anchor=(1, 0.97), ncols=5, borderaxespad=0, handlelength=1.6)
        if dates:
            locator = AutoDateLocator(minticks=4, maxticks=9)
            rms.xaxis.set_major_locator(locator)
            rms.xaxis.set_major_formatter(ConciseDateFormatter(locator))
            rms.set_xlabel("UTC")
        else:
            rms.set_xlabel("frame")
        figure.suptitle(
            f"{certificate.night.name}: {len(used)} of {len(certificate.frames)} frames used",
            x=0.01, ha="left", fontsize=13, fontweight="bold",
        )  # fmt: skip
        figure.align_ylabels(axes)
    return figure


def draw_pair(pair: Pair, theme: str = "light") -> Figure:
    """See `Certificate.draw_pair`."""
    look = _theme(theme)
    with rc_context({**look.style(), "axes.grid": False}):
        width, height = (np.ptp(np.reshape(pair.boxes, (2, 2, 2)), axis=2).max(0)).tolist()
        figure = Figure(
            figsize=(11.5, float(np.clip(5.3 * height / width, 3, 9)) + 1.4), layout="constrained"
        )
        axes = figure.subplots(1, 2)
        row = pair.row
        which = f", frame {pair.reference.number}" if pair.reference.number >= 0 else ""
        titles = (
            f"frame {pair.frame.number}: {pair.frame.file.rpartition('/')[2]}",
            f"reference{which}: {pair.reference.file.rpartition('/')[2]}",
        )
        for n, (ax, positions) in enumerate(zip(axes, (pair.xy, pair.reference_xy), strict=True)):
            if pair.pictures:
                _draw_picture(ax, pair.pictures[n], look)
            size = 14 if pair.pictures else np.clip(3 * np.log2(np.maximum(pair.snr, 2)), 4, 40)
            ax.scatter(
                *positions.T, s=size, facecolors="none" if pair.pictures else look.ink, edgecolors=look.first,
                linewidths=0.5 if pair.pictures else 0, alpha=0.75,
            )  # fmt: skip
            left, right, bottom, top = pair.boxes[n]
            ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", title=titles[n], xlabel="x, px")
        axes[0].set_ylabel("y, px")
        for number, star in enumerate(_spread_bright(pair), 1):
            ends = pair.xy[star], pair.reference_xy[star]
            line = ConnectionPatch(
                ends[0], ends[1], "data", "data", axesA=axes[0], axesB=axes[1],
                color=look.second, linewidth=0.8, alpha=0.55,
            )  # fmt: skip
            line.set_in_layout(False)
            figure.add_artist(line)
            for ax, end in zip(axes, ends, strict=True):
                ax.plot(*end, marker="o", markersize=9, markerfacecolor="none", markeredgecolor=look.second)
                ax.annotate(
                    str(number), end, (5, 5), textcoords="offset points", fontsize=9, fontweight="bold",
                    color=look.second, bbox={"boxstyle": "round,pad=0.1", "fc": look.paper, "ec": "none", "alpha": 0.7},
                    annotation_clip=True,
                )  # fmt: skip
        figure.suptitle(
            f"{row['n_matched']} stars matched by {row['method']} ({row['model']}), {row['rms_pix']:.3f} px rms "
            f"held out\nshift ({row['dx_pix']:+.1f}, {row['dy_pix']:+.1f}) px, "
            f"rotation {row['rotation_deg']:+.3f} deg, scale {row['scale']:.5f}",
            x=0.01, ha="left", fontsize=12,
        )  # fmt: skip
        if pair.note:
            figure.supxlabel(pair.note, fontsize=9, color=look.third)
    return figure


def draw_completeness(table: Any, name: str, theme: str = "light") -> Figure:
    """See `Certificate.draw_completeness`."""
    look = _theme(theme)
    shown = {"transient": ("new stars", look.first, "o"), "mover": ("movers", look.second, "s")}
    with rc_context(look.style()):
        figure = Figure(figsize=(8, 4.6), layout="constrained")
        ax = figure.subplots()
        for kind, (label, colour, marker) in shown.items():
            own = table[table["kind"] == kind]
            if len(own) == 0:
                continue
            mag, share, error = (_values(own, c) for c in ("mag", "completeness", "completeness_err"))
            limits = table.meta["limits"].get(kind, {})
            half = limits.get("mag_50")
            said = f"{label}, {int(np.sum(own['n_planted']))} planted"
            if half is not None:
                said += f": half to {half:.2f}"
                ax.axvline(half, color=colour, linewidth=0.9, linestyle=":")
            bars = np.stack([np.minimum(error, share), np.minimum(error, 1 - share)])
            ax.errorbar(
                mag,
                share,
                bars,
                color=colour,
                marker=marker,
                markersize=5,
                capsize=2,
                linewidth=1.3,
                label=said,
            )
        ax.axhline(0.5, color=look.third, linewidth=0.7)
        ax.set_ylim(-0.04, 1.06)
        ax.set_xlabel(r"magnitude, $-2.5\,\log_{10}$ adu/s")
        ax.set_ylabel("found")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.0f} %"))
        ax.legend(loc="lower left")
        ax.set_title(f"{name}: artificial stars and movers found")
        # What a magnitude means in one frame's noise: the relation of what was planted.
        mag, snr = _values(table, "mag"), np.log10(np.maximum(_values(table, "snr"), 1e-3))
        if len(np.unique(mag)) > 2:
            slope, level = np.polyfit(mag, snr, 1)
            low, high = ax.get_xlim()
            ticks = {s: (np.log10(s) - level) / slope for s in (3, 5, 7, 10, 15, 20, 30, 50, 70)}
            ticks = {s: m for s, m in ticks.items() if low <= m <= high}
            top = ax.secondary_xaxis("top")
            top.set_xticks(list(ticks.values()), [f"{s}" for s in ticks])
            top.set_xlabel("S/N of one sighting")
            ax.set_title("")
            figure.suptitle(
                f"{name}: artificial stars and movers found",
                x=0.01,
                ha="left",
                fontsize=12,
                fontweight="bold",
            )
    return figure


def write_figure(figure: Figure, path: Path, form: str) -> None:
    """Write a figure as ``png`` or ``svg``; the same figure gives the same bytes."""
    # The layout's solver differs in the last digits from time to time, and an SVG names its parts by them.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        axes.set_position(np.round(axes.get_position().bounds, 6))
    with rc_context({"svg.hashsalt": "difflapse"}):
        figure.savefig(path, format=form, metadata={"Date": None} if form == "svg" else None)


def _draw_field(ax: Any, certificate: Certificate, look: _Theme) -> None:
    """Mean residuals as arrows, with discs of one sigma, and the rms of each corner outside of it."""
    field = certificate.field
    ny, nx = certificate.shape
    good = np.isfinite(field.significance)
    x, y, dx, dy = (a[good] for a in (field.x, field.y, field.dx, field.dy))
    error = np.hypot(field.dx_error, field.dy_error)[good]
    clear = field.significance[good] > _CLEAR
    cell = nx / field.x.shape[1]
    longest = float(np.percentile(np.maximum(np.hypot(dx, dy), error), 95)) if good.any() else 1.0
    dx, dy, zoom, cut = fit_arrows(x, y, dx, dy, 0.75 * cell / longest, _LONGEST * longest, (ny, nx))
    discs = EllipseCollection(
        2 * error * zoom, 2 * error * zoom, 0, units="xy", offsets=np.column_stack([x, y]),
        offset_transform=ax.transData, facecolors=look.faint, edgecolors="none",
    )  # fmt: skip
    ax.add_collection(discs)
    shape = {
        "angles": "xy",
        "scale_units": "xy",
        "scale": 1 / zoom,
        "units": "inches",
        "width": 0.022,
        "zorder": 3,
    }
    for chosen, colour in ((~clear, look.first), (clear, look.second)):
        ax.quiver(x[chosen], y[chosen], dx[chosen], dy[chosen], color=colour, **shape)
    ax.plot(
        (x + dx * zoom)[cut], (y + dy * zoom)[cut], "o", markersize=6, markerfacecolor="none",
        markeredgecolor=look.second, zorder=4,
    )  # fmt: skip
    ax.set(
        xlim=(-0.5, nx - 0.5),
        ylim=(-0.5, ny - 0.5),
        aspect="equal",
        xlabel="x on the reference, px",
        ylabel="y, px",
    )
    ax.grid(False)
    for side in ("top", "right"):
        ax.spines[side].set_visible(True)
    told = certificate.to_mapping()["systematic"]["fixed"]
    verdict = {
        "noise": "noise explains it",
        "systematic": "more than noise",
        "unknown": "too few stars to tell",
    }[told["verdict"]]
    ax.set_title(
        f"Mean residual by place: {_px(told['rms_pix'])} rms without its noise, "
        f"below {_px(told['below_pix'])}; {verdict}",
        pad=26,
    )
    nice = _nice(longest)
    handles = (
        ax.quiver([], [], [], [], color=look.second, **shape),
        ax.quiver([], [], [], [], color=look.first, **shape),
    )
    key = {"coordinates": "axes", "labelpos": "E", "labelsep": 0.08, "fontproperties": {"size": 9.5}}
    ax.quiverkey(handles[0], 0.28, 1.035, nice, f"{nice:g} px, beyond {_CLEAR:g} sigma", **key)
    longer = f"; ringed: longer than {_px(_LONGEST * longest)}" if cut.any() else ""
    ax.quiverkey(handles[1], 0.60, 1.035, nice, f"within that (disc: 1 sigma){longer}", **key)
    _draw_corners(ax, certificate, look)


def fit_arrows(
    x: np.ndarray,
    y: np.ndarray,
    dx: np.ndarray,
    dy: np.ndarray,
    zoom: float,
    longest: float,
    shape: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Shorten arrows (n,) until all lie within their box of `shape` (ny, nx).

    Those longer than `longest` are cut to it; if some still leave the box, all are drawn smaller by the same factor.

    Returns
    -------
    dx, dy : ndarray
        As they are to be drawn, times `zoom`.
    zoom : float
        At most that given.
    cut : ndarray of bool
        Those that were cut.
    """
    length = np.hypot(dx, dy)
    cut = length > longest
    keep = np.where(cut, longest / np.maximum(length, 1e-12), 1.0)
    dx, dy = dx * keep, dy * keep
    for at, d, n in ((x, dx, shape[1]), (y, dy, shape[0])):
        room = np.where(d > 0, n - 0.5 - at, at + 0.5)
        moves = d != 0
        if moves.any():
            zoom = min(zoom, float((room[moves] / np.abs(d[moves])).min()))
    return dx, dy, zoom, cut


def _draw_corners(ax: Any, certificate: Certificate, look: _Theme) -> None:
    """Outline the corners, and write each one's rms beside it."""
    ny, nx = certificate.shape
    x, y = certificate.column("x_pix"), certificate.column("y_pix")
    square = certificate.column("dx_pix") ** 2 + certificate.column("dy_pix") ** 2
    corner = in_corners(x, y, (ny, nx))
    for right in (False, True):
        for top in (False, True):
            own = corner & ((x > nx / 2) == right) & ((y > ny / 2) == top)
            box = ((1 - CORNER) * nx - 0.5 if right else -0.5, (1 - CORNER) * ny - 0.5 if top else -0.5)
            edge = Rectangle(box, CORNER * nx, CORNER * ny, fill=False, ec=look.third, lw=0.9, ls=(0, (3, 3)))
            ax.add_patch(edge)
            text = f"corner {np.sqrt(square[own].mean()):.3f} px" if own.any() else "corner: no stars"
            ax.annotate(
                text, (float(right), float(top)), (0, 5 if top else -20), xycoords="axes fraction",
                textcoords="offset points", ha="right" if right else "left", va="bottom" if top else "top",
                fontsize=10, fontweight="bold", color=look.ink,
            )  # fmt: skip


def _draw_noise(ax: Any, certificate: Certificate, look: _Theme) -> None:
    """Scatter on one axis against signal to noise, beside what photons allow."""
    snr = certificate.column("snr")
    square = certificate.column("dx_pix") ** 2 + certificate.column("dy_pix") ** 2
    groups = np.array_split(np.argsort(snr), int(np.clip(len(snr) // 30, 1, 16)))
    middle = np.array([np.median(snr[g]) for g in groups])
    rms = np.array([max(np.sqrt(square[g].mean()), 1e-6) for g in groups])
    error = rms / (2 * np.sqrt([len(g) for g in groups]))
    along = np.geomspace(max(snr.min(), 1), max(snr.max(), snr.min() * 1.1, 2), 100)
    ax.errorbar(middle, rms, error, fmt="o", color=look.first, markersize=5, label="held-out rms")
    label = f"fit, floor {np.sqrt(2) * certificate.noise.floor:.3f} px"
    ax.plot(along, np.sqrt(2) * certificate.noise(along), color=look.first, linewidth=1.2, label=label)
    ax.plot(
        along, np.sqrt(2) * certificate.photon_sigma(along), color=look.second, linewidth=1.4, linestyle="--",
        label="photons alone",
    )  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="signal to noise of the star", ylabel="radial rms, px")
    ax.set_ylim(0.5 * rms.min(), 2 * rms.max())
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    ax.set_title("Against brightness")
    ax.legend(loc="upper right", borderaxespad=0)


def _draw_cloud(ax: Any, certificate: Certificate, look: _Theme) -> None:
    """All residuals as a cloud, with circles that hold 68 and 95 %."""
    dx, dy = certificate.column("dx_pix"), certificate.column("dy_pix")
    away = np.hypot(dx, dy)
    half = 1.25 * max(float(np.percentile(away, 95)), 1e-6)
    few = np.random.default_rng(0).permutation(len(dx))[:4000]
    ax.plot(dx[few], dy[few], ".", markersize=2.2, alpha=0.35, color=look.first, rasterized=True)
    angle = np.linspace(0, 2 * np.pi, 200)
    for percent, style in ((68, "-"), (95, "--")):
        radius = np.percentile(away, percent)
        ax.plot(
            radius * np.cos(angle), radius * np.sin(angle), style, color=look.second, linewidth=1.4,
            label=f"{percent} %:\n{radius:.3f} px",
        )  # fmt: skip
    ax.axhline(0, color=look.third, linewidth=0.6)
    ax.axvline(0, color=look.third, linewidth=0.6)
    ax.set(xlim=(-half, half), ylim=(-half, half), aspect="equal", xlabel="x, px", ylabel="y, px")
    ax.xaxis.set_major_locator(MaxNLocator(4, symmetric=True))
    ax.yaxis.set_major_locator(MaxNLocator(4, symmetric=True))
    ax.set_title("All stars")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1), borderaxespad=0, handlelength=1.4)


def _draw_rotation(ax: Any, t: np.ndarray, degrees: np.ndarray, look: _Theme, dot: dict[str, Any]) -> None:
    """Rotation, in the unit that suits it; frames turned about by a meridian flip are brought beside the others."""
    turned = np.abs(degrees) > 90
    rest = np.where(turned, degrees - 180 * np.sign(degrees), degrees)
    span = float(np.nanmax(np.abs(rest))) if np.isfinite(rest).any() else 0.0
    factor, unit = (1, "deg") if span > 1 else (60, "arcmin") if span > 1 / 30 else (3600, "arcsec")
    ax.plot(t, rest * factor, color=look.first, **dot)
    if turned.any():
        ax.plot(
            t[turned], rest[turned] * factor, "o", markersize=7, markerfacecolor="none",
            markeredgecolor=look.second, label="turned by 180 deg, taken off",
        )  # fmt: skip
        ax.legend(loc="lower right", bbox_to_anchor=(1, 0.97), borderaxespad=0)
    ax.set_title("Rotation, frame to reference")
    ax.set_ylabel(unit)


def _draw_rms(ax: Any, certificate: Certificate, when: np.ndarray, look: _Theme, dot: dict[str, Any]) -> None:
    """The frames' held-out residuals, with the limit that was required."""
    others = certificate.others
    t = when[np.asarray(others["frame"], int)]
    curves = (
        ("p95_pix", "95 %", look.third, "^"),
        ("corner_pix", "corners", look.second, "s"),
        ("rms_pix", "rms", look.first, "o"),
    )
    for name, label, colour, marker in curves:
        values = _values(others, name)
        if np.isfinite(values).any():
            ax.plot(t, values, color=colour, label=label, **{**dot, "marker": marker})
    without = ~np.isfinite(_values(others, "rms_pix"))
    if without.any():
        ax.plot(
            t[without], np.zeros(without.sum()), "x", color=look.second, label=f"no rms ({without.sum()})"
        )
    if certificate.limit:
        ax.axhline(certificate.limit, color=look.ink, linewidth=1.2, linestyle="--", label="required rms")
    ax.set_ylim(bottom=0)
    ax.set_title(f"Residuals of {tell_judged_on(certificate.night.judged_on)}")
    ax.set_ylabel("px")
    arcsec = certificate.night.table.meta.get("pixel_arcsec")
    if arcsec:
        right = ax.secondary_yaxis("right", functions=(lambda p: p * arcsec, lambda a: a / arcsec))
        right.set_ylabel("arcsec")


def _draw_picture(ax: Any, picture: Picture, look: _Theme) -> None:
    """A picture in grey on a flat sky: the sky's noise shows faintly, and stars are not burnt out."""
    flat = picture.data - _background(picture.data)
    known = flat[np.isfinite(flat)]
    noise, bright = 1.0, 0.0
    if known.size:
        noise, bright = 1.4826 * float(np.median(np.abs(known))), float(np.percentile(known, 99))
    soft = np.arcsinh(flat / max(4 * noise, bright, 1e-9))
    shown = {"cmap": look.pictures, "vmin": -0.3, "vmax": 2.6, "interpolation": "antialiased"}
    ax.imshow(soft, extent=picture.box, origin="lower", **shown)


def _background(image: np.ndarray, blocks: tuple[int, int] = (12, 16)) -> np.ndarray:
    """Medians of blocks, joined smoothly: for the eye only."""
    from scipy.ndimage import map_coordinates

    ny, nx = image.shape
    edges = [np.linspace(0, n, min(b, n) + 1).astype(int) for n, b in zip((ny, nx), blocks, strict=True)]
    sky = np.full((len(edges[0]) - 1, len(edges[1]) - 1), np.nan)
    for j, i in np.ndindex(sky.shape):
        block = image[edges[0][j] : edges[0][j + 1], edges[1][i] : edges[1][i + 1]]
        good = block[np.isfinite(block)]
        if good.size:
            sky[j, i] = np.median(good)
    sky[np.isnan(sky)] = np.nanmedian(sky) if np.isfinite(sky).any() else 0.0
    y, x = ((np.arange(n) + 0.5) / n * m - 0.5 for n, m in zip(image.shape, sky.shape, strict=True))
    return map_coordinates(sky, np.meshgrid(y, x, indexing="ij"), order=1, mode="nearest").astype(np.float32)


def _spread_bright(pair: Pair) -> np.ndarray:
    """Indices of bright stars, well apart on both panels: the brightest of each cell of the right one."""
    left, right, bottom, top = pair.boxes[1]
    i = np.clip(((pair.reference_xy[:, 0] - left) / (right - left) * 5).astype(int), 0, 4)
    j = np.clip(((pair.reference_xy[:, 1] - bottom) / (top - bottom) * 3).astype(int), 0, 2)
    order = np.argsort(-pair.snr, kind="stable")
    first = np.unique((j * 5 + i)[order], return_index=True)[1]
    return order[first][:_LINES]


def _times(certificate: Certificate) -> tuple[np.ndarray, bool]:
    """Where each frame lies on the axis of time: dates, or frame numbers where a time is missing."""
    known = [frame.time_utc for frame in certificate.night.frames]
    if all(known):
        return np.array(known, "datetime64[ms]"), True
    return np.arange(len(known), dtype=float), False


def _values(table: Any, name: str) -> np.ndarray:
    if name not in table.colnames:
        return np.full(len(table), np.nan)
    return np.ma.filled(np.ma.asarray(table[name], dtype=float), np.nan)


def _nice(value: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is no larger."""
    power = 10.0 ** np.floor(np.log10(max(value, 1e-9)))
    return float(max(n for n in (1, 2, 5) if n * power <= value * (1 + 1e-9)) * power)


def _px(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f} px"


def _theme(name: str) -> _Theme:
    if name not in THEMES:
        raise OptionError(f"theme is {name!r}; it must be one of {', '.join(THEMES)}")
    return THEMES[name]

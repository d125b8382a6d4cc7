"""How deep the night was: what was planted is looked for, linked and counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from difflapse.align.stamps import native_side
from difflapse.changes import beside, refuse
from difflapse.changes.find import FindOptions, search
from difflapse.changes.link import LinkOptions, link
from difflapse.difference.windows import cut
from difflapse.io.products import write_table
from difflapse.model import Alignment, ProductGrid
from difflapse.model.sightings import CLOUD, Sightings
from difflapse.mosaic import native_order
from difflapse.pipeline.context import Night
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.plant import KINDS, SEED, Planted, sheet_of
from difflapse.pipeline.records import Pixels
from difflapse.pipeline.sensor import facts_with_gain, in_force
from difflapse.pipeline.sight import BELIEVED, Sighted, Watch, by_lanes, link_options, measured, places_of

_APART = 1e5
"""Native pixels between windows while they are linked."""
_BIN = 0.5
"""Magnitudes to a row of the table."""
_COLUMNS = (
    "kind", "mag", "snr", "n_planted", "n_found", "completeness", "completeness_err", "n_any_kind", "n_false",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Probed:
    """What was sighted in the planted windows of one frame."""

    window: np.ndarray
    """(m,) int: which of the planted things is about."""
    sightings: Sightings
    """m of them, on the reference's pixels."""


def probe(night: Night, k: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """Look for what was planted in frame `k`, in its windows alone, as `sight` looks at the whole frame."""
    sighted: Sighted | None = values["sighted"]
    if sighted is None or not night.has("planted"):
        return {"probed": None}
    try:
        return {"probed": look(night, k, values, sighted)}
    except Exception as error:  # a frame must not be lost to what is planted beside it
        return {"probed": f"{type(error).__name__}: {error}"}


def look(night: Night, k: int, values: Mapping[str, Any], sighted: Sighted) -> Probed | None:
    """What is sighted in the planted windows of frame `k`; None where it has no difference."""
    sheet = sheet_of(night, k, values["difference"])
    if sheet is None:
        return None
    sigma, mask, template = sheet
    planted: Planted = night.shared("planted")
    watch: Watch = night.shared("watch")
    own: ProductGrid = night.shared("canvas").of(k)
    grid = ProductGrid((sigma.shape[0], sigma.shape[1]), own.step)
    starlight = replace(watch.starlight, bins=cut(watch.starlight.bins, planted.place[k], planted.side))
    found, snr = search(sigma, grid, FindOptions(watch.width, streaks=False), k)
    found = refuse.by_starlight(found, snr, starlight, grid, scatter=sighted.scatter)
    found = refuse.by_dipole(found, watch.fwhm, starlight, grid)
    found = refuse.by_mask(found, mask, grid, watch.width)
    found = refuse.by_spike(found, snr, mask, starlight.bins, grid, watch.width)
    found = beside.by_ring(found, beside.rings(mask, watch.width), sighted.beside, grid, BELIEVED)
    # From the sheet to the reference, and on to the frame.
    _, row = grid.from_native(found.x, found.y)
    window = np.clip((row + 0.5) // planted.side, 0, len(planted) - 1).astype(int)
    place = planted.place[k, window]
    x = found.x + own.origin[0] + own.step * place[:, 0]
    y = found.y + own.origin[1] + own.step * (place[:, 1] - window * planted.side)
    found = by_lanes(found, x, y, watch, sighted.dark)
    alignment: Alignment = values["alignment"]
    fx, fy = (np.asarray(v) for v in alignment.transform.inverse(x, y))
    data, bad, corner = _native_sheet(night, k, values["pixels"])
    height = data.shape[1]
    scale = values["scale"]
    brighten = 1.0 if scale is None else 1.0 / float(np.mean(scale))
    at_x, at_y = fx - corner[window, 0], fy - corner[window, 1]
    # Beyond its window a place of the sheet is another's.
    inside = (at_x > 0) & (at_y > 0) & (at_x < height - 1) & (at_y < height - 1)
    at_x, at_y = np.where(inside, at_x, np.nan), np.where(inside, at_y + window * height, np.nan)
    facts = facts_with_gain(night, k)
    found = measured(found, at_x, at_y, facts, data, bad, watch, grid, template, brighten)
    found = refuse.by_border(replace(found, x_frame=fx, y_frame=fy), watch.inner, watch.width * grid.step)
    if not sighted.clear:
        found = replace(found, flags=found.flags | CLOUD)
    return Probed(window, replace(found, x=x, y=y))


def _native_sheet(night: Night, k: int, pixels: Pixels) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The frame's native pixels about all that is planted, planted light in, the bits of bad ones, and the windows'
    corners (n, 2).
    """
    stamps = np.asarray(night.array("planted_native")[k])
    corner = np.asarray(night.array("planted_corners")[k])
    n = len(stamps)
    planted: Planted = night.shared("planted")
    step = 2 if night.frames[k].mosaic else 1
    side = native_side(planted.size, step)
    dark = (side - stamps.shape[1]) // 2
    level = float(np.median(pixels.data[::64, ::64]))
    data = cut(native_order(pixels.data), corner, side, level).astype(np.float32)
    data.reshape(n, side, side)[:, dark : side - dark, dark : side - dark] += stamps
    saturation = in_force(night, night.frames[k]).saturation_adu
    if saturation is not None:
        np.minimum(data, saturation, out=data)
    return data, cut(pixels.bad_bits, corner, side), corner


@dataclass(frozen=True, eq=False)
class Verdict:
    """What became of all that was planted."""

    found: np.ndarray
    """(n,) bool: as one change of the right kind."""
    seen: np.ndarray
    """(n,) bool: as a change of any kind."""
    false_kind: tuple[str, ...]
    false_snr: np.ndarray
    """Kind and best S/N of the changes in the windows that are neither planted nor changes of the night itself."""


def measure_depth(desk: Desk) -> None:
    """Link what was sighted in the planted windows, count what was found, and write `completeness.ecsv`."""
    night = desk.night
    probed: dict[int, Probed | str | None] = desk.values.get("probed", {})
    held = [p for k, p in sorted(probed.items()) if isinstance(p, Probed) and k not in desk.failed]
    faults = {p for p in probed.values() if isinstance(p, str)}
    if faults:
        desk.progress.note(
            f"what was planted could not be looked for in all frames: {'; '.join(sorted(faults))}"
        )
    if not held:
        return
    planted: Planted = night.shared("planted")
    watch: Watch = night.shared("watch")
    grid: ProductGrid = night.shared("canvas").grid
    options = link_options(night, watch)
    window = np.concatenate([p.window for p in held])
    sightings = Sightings.joined([p.sightings for p in held])
    windows = len(planted) * (planted.side * grid.step) ** 2
    sightings = refuse.by_sensor(sightings, watch.fwhm, windows, night.options.false_alarms)
    given = {k: s for k, s in desk.values["sighted"].items() if s is not None and k not in desk.failed}
    sightings = refuse.by_place(sightings, BELIEVED, places_of(night, given, sightings))
    verdict = judge(planted, window, sightings, night.hours(), options, _known_places(night))
    snr = np.nanmedian(np.where(planted.on, night.shared("planted_snr"), np.nan), axis=1)
    table = completeness_table(planted, snr, verdict)
    table.meta["false_alarms_asked"] = night.options.false_alarms
    table.meta["diff"] = night.shared("scene").mode
    write_table(Path(night.out) / "completeness.ecsv", table)
    desk.products.append("completeness.ecsv")


def judge(
    planted: Planted,
    window: np.ndarray,
    sightings: Sightings,
    times: np.ndarray,
    options: LinkOptions,
    others: np.ndarray,
) -> Verdict:
    """Link the sightings of each window by themselves, and see which of the changes are what was planted.

    Parameters
    ----------
    planted : Planted
        n things.
    window : ndarray of int, shape (m,)
        Which of them each sighting lies about.
    sightings : Sightings
        m of them.
    times : ndarray, shape (K,)
        As for `link`.
    options : LinkOptions
        As for the night itself.
    others : ndarray, shape (q, 2)
        Native pixels of the reference where the night itself has changes: no fault of what was planted.

    Returns
    -------
    Verdict
    """
    found, seen = np.zeros(len(planted), bool), np.zeros(len(planted), bool)
    kinds: list[str] = []
    strengths: list[float] = []
    # Windows are put far apart, so that nothing is linked across them.
    apart = replace(
        sightings,
        x=sightings.x + _APART * window,
        x_end=sightings.x_end + _APART * window,
    )
    near = 1.5 * options.fwhm + 1.0
    for change in link(apart, times, options):
        members = change.members
        w = int(window[members[0]])
        frames = sightings.frame[members]
        x, y = sightings.x[members], sightings.y[members]
        hit = np.hypot(x - planted.x[w, frames], y - planted.y[w, frames]) < near
        if hit.mean() >= 0.5:
            seen[w] = True
            found[w] |= change.kind == KINDS[planted.kind[w]]
            continue
        # The dark ghost of what moves lies where it was on another frame.
        ghost = np.hypot(x[:, None] - planted.x[w], y[:, None] - planted.y[w]).min() < 2 * near
        real = len(others) and np.hypot(x[:, None] - others[:, 0], y[:, None] - others[:, 1]).min() < 2 * near
        if not ghost and not real:
            kinds.append(change.kind)
            strengths.append(float(change.snr))
    return Verdict(found, seen, tuple(kinds), np.array(strengths, float))


def completeness_table(planted: Planted, snr: np.ndarray, verdict: Verdict) -> Table:
    """The contract's `completeness.ecsv`: a row per kind and half a magnitude, brightest first.

    Parameters
    ----------
    planted : Planted
        n things.
    snr : ndarray, shape (n,)
        S/N of one sighting of each; NaN for what was never to be seen.
    verdict : Verdict
        What became of them.
    """
    could = planted.on.any(axis=1) & np.isfinite(snr)
    rows: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    meta: dict[str, Any] = {"seed": SEED, "n_planted": int(could.sum()), "limits": {}, "false_alarms": {}}
    relation = np.polyfit(np.log10(snr[could]), planted.mag[could], 1) if could.sum() > 2 else (0.0, 0.0)
    false_mag = np.polyval(relation, np.log10(np.maximum(verdict.false_snr, 1e-3)))
    for number, kind in enumerate(KINDS):
        mine = np.flatnonzero(could & (planted.kind == number))
        wrong = np.array([k == kind for k in verdict.false_kind], bool)
        meta["false_alarms"][kind] = int(wrong.sum())
        if len(mine) == 0:
            continue
        mag = planted.mag[mine]
        meta["limits"][kind] = fit_limits(mag, verdict.found[mine])
        low = np.floor(mag.min() / _BIN) * _BIN
        for edge in np.arange(low, mag.max() + 1e-9, _BIN):
            own = mine[(mag >= edge) & (mag < edge + _BIN)]
            if len(own) == 0:
                continue
            n, hits = len(own), int(verdict.found[own].sum())
            share, error = binomial(hits, n)
            values = (
                kind, edge + 0.5 * _BIN, float(np.median(snr[own])), n, hits, share, error,
                int(verdict.seen[own].sum()), int((wrong & (false_mag >= edge) & (false_mag < edge + _BIN)).sum()),
            )  # fmt: skip
            for name, value in zip(_COLUMNS, values, strict=True):
                rows[name].append(value)
    table = Table(rows, names=_COLUMNS, meta=meta)
    for name, digits in (("mag", 2), ("snr", 2), ("completeness", 3), ("completeness_err", 3)):
        table[name] = np.round(np.asarray(table[name], float), digits)
    table["mag"].unit = "mag"
    return table


def binomial(hits: int, n: int) -> tuple[float, float]:
    """Share of `hits` in `n` and its standard error, by Wilson's interval: not 0 where all or none are found.

    References
    ----------
    Wilson 1927, J. Am. Stat. Assoc. 22, 209, doi:10.1080/01621459.1927.10502953.
    """
    share = hits / n
    return share, float(np.sqrt(share * (1 - share) / n + 1 / (4 * n * n)) / (1 + 1 / n))


def fit_limits(mag: np.ndarray, found: np.ndarray) -> dict[str, float | None]:
    """Magnitudes to which half and 90 % are found, from a logistic curve of greatest likelihood.

    Parameters
    ----------
    mag : ndarray, shape (n,)
        Of what was planted.
    found : ndarray of bool, shape (n,)
        Which of it was found.

    Returns
    -------
    dict
        `mag_50`, `mag_50_err` (where the likelihood falls to exp(-1/2)), `mag_90`, and `brightest`, the share found of
        bright ones; None where what was planted does not tell.
    """
    middle = np.linspace(mag.min() - 1, mag.max() + 1, 601)[:, None, None]
    width = np.geomspace(0.03, 0.6, 8)[None, :, None]
    top = np.linspace(0.55, 0.995, 10)[None, None, :]
    total = np.zeros((601, 8, 10))
    for m, hit in zip(mag, found, strict=True):
        share = np.clip(top / (1 + np.exp(np.clip((m - middle) / width, -50, 50))), 1e-3, 0.999)
        total += np.log(share if hit else 1 - share)
    best = np.unravel_index(int(np.argmax(total)), total.shape)
    w, t = float(width[0, best[1], 0]), float(top[0, 0, best[2]])
    m0 = float(middle[best[0], 0, 0])

    def where(share: float) -> float | None:
        if t <= share:
            return None
        at = m0 + w * float(np.log(t / share - 1))
        return round(at, 2) if mag.min() <= at <= mag.max() else None

    # The half's own likelihood: of each curve, at the magnitude where it passes it.
    with np.errstate(divide="ignore", invalid="ignore"):
        half = middle + width * np.log(np.where(top > 0.5, top / 0.5 - 1, np.nan))
    likely = half[(total > total.max() - 0.5) & np.isfinite(half)]
    half_at = where(0.5)
    error = round(float(max(np.ptp(likely) / 2, 0.01)), 2) if half_at is not None and likely.size else None
    return {"mag_50": half_at, "mag_50_err": error, "mag_90": where(0.9), "brightest": round(t, 2)}


def _known_places(night: Night) -> np.ndarray:
    """Where the night itself has changes, (q, 2) native pixels of the reference."""
    path = Path(night.out) / "changes.ecsv"
    if not path.exists():
        return np.zeros((0, 2))
    table = Table.read(path, format="ascii.ecsv")
    places = [np.ma.filled(np.ma.asarray(table[c]).astype(float), np.nan) for c in ("x_pix", "y_pix")]
    ends = [
        np.ma.filled(np.ma.asarray(table[c]).astype(float), np.nan)
        for c in ("x_end_pix", "y_end_pix")
        if c in table.colnames
    ]
    both = [np.column_stack(places)] + ([np.column_stack(ends)] if len(ends) == 2 else [])
    out = np.concatenate(both)
    return np.asarray(out[np.isfinite(out).all(axis=1)])

"""Linking: the sightings of one thing become one change."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from difflapse.model.sightings import Change, Sightings

_MOST = 250
"""Sightings of one frame that tracks are looked for among, the strongest."""
_SEEDS = 20_000
"""Pairs of sightings that tracks are begun with, at most, the strongest."""
_FASTEST = 40.0
"""Stars' widths from one frame to the next: what is faster leaves a streak in most exposures."""
_NEXT = 3
"""Two sightings that begin a track are so many frames apart, at most."""
_SEEN = 0.3
"""Share of the frames between its first and last that a track must be sighted on."""
_IN_VAIN = 8
"""Frames next to a pair in time on which a third sighting is looked for."""
_STAYS = 0.5
"""Share of the frames between first and last, of those that would show it, on which a place stands out: what does on
fewer is noise of its own."""
_FLOOR = 4.5
"""S/N from which there are sightings."""
_SAME = 0.8
"""Stars' widths within which a place is the same."""
_PLACE = 8.5
"""S/N together of a place that stands out."""
_PAIR, _SAFE_PAIR, _ALIKE = 5.0, 6.0, 3.0
"""S/N of the weaker of two sightings at one place where chance hardly makes such, or whatever the night is like; and by
what factor one may outshine the other where its S/N is less than the second."""
_ALONE = 10.0
"""S/N of a thing seen once."""
_TRAILED = 1.5
"""Stars' widths that a thing must move within an exposure for its trail to tell it from a point, ..."""
_SHARPER = 0.8
"""... and the sharpest frame's width over the usual one: a fifth is what seeing does within a night."""


@dataclass(frozen=True)
class LinkOptions:
    """How much is believed."""

    false_alarms: float = 0.1
    """False changes in a night by chance alone, of each kind."""
    fwhm: float = 2.0
    """Of a star, native pixels."""
    area: float = 4.5e6
    """Native pixels on which things can be seen."""
    exposure: float = 0.0
    """Of a frame, in the unit of times; 0 where it is unknown."""
    strengths: np.ndarray | None = None
    """S/N of all bright points that the night has, ascending; those that are linked, where that is all of it."""


@dataclass(frozen=True, eq=False)
class Track:
    """A steady motion through sightings."""

    members: np.ndarray
    """(m,) int."""
    time: float
    x: float
    y: float
    """Where it is at `time`, native pixels of the reference."""
    rate_x: float
    rate_y: float
    """Native pixels per unit of time."""
    place_err: float
    rate_err: float
    """Standard errors of a coordinate at `time`, and of a rate's component."""

    def at(self, times: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Where it is at some times."""
        since = np.asarray(times, float) - self.time
        return self.x + self.rate_x * since, self.y + self.rate_y * since


def link(
    sightings: Sightings,
    times: np.ndarray,
    options: LinkOptions,
    taken: np.ndarray | None = None,
    moving: bool = True,
) -> list[Change]:
    """Link what is not refused: streaks, moving things along straight tracks, what stands still, what is seen once.

    Parameters
    ----------
    sightings : Sightings
        Of the whole night.
    times : ndarray, shape (n_frames,)
        Mid-exposure times, hours from any start; frame numbers where they are not known.
    options : LinkOptions
        How much is believed.
    taken : ndarray of bool, shape (n,), optional
        Sightings that are something else's already.
    moving : bool
        Whether streaks and tracks are looked for; without, only what stands still and what is seen once.

    Returns
    -------
    list of Change
        Strongest first; a sighting is in one of them at most. Stars that vary are not among them: they are judged
        by their light curves (`difflapse.changes.vary`).

    Notes
    -----
    A track is believed if chance would make fewer than `false_alarms` as good in the night: the number of pairs that
    can begin one, times the chance that as many of the other frames have a sighting within the track's reach, at the
    density of sightings that the night has.
    """
    free = sightings.believed & (np.ones(len(sightings), bool) if taken is None else ~taken)
    changes = [_streak(sightings, group) for group in link_streaks(sightings, free)] if moving else []
    free &= ~sightings.is_streak
    for track in find_tracks(sightings, times, options, free) if moving else []:
        free[track.members] = False
        changes.append(_mover(sightings, track, times))
    for members in find_places(sightings, options, free):
        free[members] = False
        changes.append(_transient(sightings, members))
    for n in find_singles(sightings, options, free):
        changes.append(_single(sightings, int(n)))
    return sorted(changes, key=lambda c: -c.snr_all)


def find_tracks(
    sightings: Sightings, times: np.ndarray, options: LinkOptions, free: np.ndarray
) -> list[Track]:
    """Steady motions of bright points, two sightings or more each, most certain first."""
    rows = np.flatnonzero(free & (sightings.snr > 0) & ~_still(sightings, options, free))
    frames = np.unique(sightings.frame[rows])
    if len(frames) < 2:
        return []
    by_frame: dict[int, np.ndarray] = {}
    for k in frames:
        own = rows[sightings.frame[rows] == k]
        by_frame[int(k)] = own[np.argsort(-sightings.snr[own], kind="stable")][:_MOST]
    trees = {k: cKDTree(np.column_stack([sightings.x[v], sightings.y[v]])) for k, v in by_frame.items()}
    step = float(np.median(np.diff(np.sort(times)))) if len(times) > 1 else 1.0
    seeds = _seeds(sightings, times, by_frame, trees, options, step)
    strengths = np.sort(sightings.snr[np.concatenate(list(by_frame.values()))])
    gone: set[int] = set()
    found: list[Track] = []
    for a, b in seeds:
        if a in gone or b in gone:
            continue
        track = _grow(sightings, times, by_frame, trees, options, (a, b), gone)
        if track is not None and _is_sure(sightings, track, by_frame, strengths, options, len(seeds)):
            found.append(track)
            gone.update(int(n) for n in track.members)
    return found


def _still(sightings: Sightings, options: LinkOptions, free: np.ndarray) -> np.ndarray:
    """(n,) bool: those that recur in their place on three frames or more, so that they do not move."""
    rows = np.flatnonzero(free & ~sightings.is_streak)
    out = np.zeros(len(sightings), bool)
    if len(rows) < 3:
        return out
    tree = cKDTree(np.column_stack([sightings.x[rows], sightings.y[rows]]))
    for n, near in enumerate(tree.query_ball_point(tree.data, 0.8 * options.fwhm)):
        out[rows[n]] = len(near) >= 3 and len(np.unique(sightings.frame[rows[near]])) >= 3
    return out


def _seeds(
    sightings: Sightings,
    times: np.ndarray,
    by_frame: dict[int, np.ndarray],
    trees: dict[int, cKDTree],
    options: LinkOptions,
    step: float,
) -> list[tuple[int, int]]:
    """Pairs of sightings on neighbouring frames that may be of one moving thing, strongest first."""
    pairs: list[tuple[float, int, int]] = []
    for k in by_frame:
        for later in range(k + 1, k + 1 + _NEXT):
            if later not in by_frame:
                continue
            reach = _FASTEST * options.fwhm * max(abs(times[later] - times[k]) / max(step, 1e-12), 1.0)
            for a, near in zip(by_frame[k], trees[k].query_ball_tree(trees[later], reach), strict=True):
                for b in by_frame[later][near]:
                    moved = np.hypot(sightings.x[b] - sightings.x[a], sightings.y[b] - sightings.y[a])
                    # Slow things are begun with pairs further apart in time, or with those that noise pushes apart.
                    if moved > 0.5 * options.fwhm:
                        pairs.append((min(sightings.snr[a], sightings.snr[b]) - 0.02 * moved, int(a), int(b)))
    pairs.sort(key=lambda p: (-p[0], p[1], p[2]))
    return [(a, b) for _, a, b in pairs[:_SEEDS]]


def _grow(
    sightings: Sightings,
    times: np.ndarray,
    by_frame: dict[int, np.ndarray],
    trees: dict[int, cKDTree],
    options: LinkOptions,
    pair: tuple[int, int],
    gone: set[int],
) -> Track | None:
    """Follow a pair to the other frames, nearest in time first, fitting the motion anew with each."""
    members = list(pair)
    track = fit_track(sightings, times, np.array(members), options.fwhm)
    inner = sorted(times[sightings.frame[n]] for n in pair)
    begun = {int(sightings.frame[n]) for n in pair}
    order = sorted(set(by_frame) - begun, key=lambda f: max(inner[0] - times[f], times[f] - inner[1], 0.0))
    for passed, k in enumerate(order):
        if passed >= max(_IN_VAIN, 2 * len(members) / _SEEN):
            break
        x, y = track.at(times[k])
        since = times[k] - track.time
        spread = math.hypot(track.place_err, track.rate_err * since)
        reach = min(0.6 * options.fwhm + 3 * spread, 3 * options.fwhm)
        near = [
            int(n)
            for n in by_frame[k][trees[k].query_ball_point((float(x), float(y)), reach)]
            if n not in gone
        ]
        if near:
            best = max(
                near,
                key=lambda n: (
                    sightings.snr[n]
                    - 3 * math.hypot(sightings.x[n] - float(x), sightings.y[n] - float(y)) / options.fwhm
                ),
            )
            members.append(best)
            track = fit_track(sightings, times, np.array(members), options.fwhm)
    # What does not lie on the whole track was not it.
    for _ in range(3):
        own = track.members
        x, y = track.at(times[sightings.frame[own]])
        away = np.hypot(sightings.x[own] - x, sightings.y[own] - y)
        keep = away < 0.7 * options.fwhm + 3 * sightings.error[own]
        if keep.all() or keep.sum() < 2:
            break
        track = fit_track(sightings, times, own[keep], options.fwhm)
    span = np.ptp(times[sightings.frame[track.members]])
    moved = math.hypot(track.rate_x, track.rate_y) * span
    if len(track.members) < 2 or moved < max(1.2 * options.fwhm, 4 * track.rate_err * span):
        return None
    return track


def fit_track(sightings: Sightings, times: np.ndarray, members: np.ndarray, fwhm: float) -> Track:
    """The steady motion that fits some sightings best, weighted with their errors (and a floor of fwhm / 20)."""
    t = times[sightings.frame[members]]
    error = np.hypot(sightings.error[members], 0.05 * fwhm)
    w = 1 / error**2
    middle = float((w * t).sum() / w.sum())
    since = t - middle
    spread = float((w * since**2).sum())
    x, y = sightings.x[members], sightings.y[members]
    mx, my = float((w * x).sum() / w.sum()), float((w * y).sum() / w.sum())
    rate_x = float((w * since * (x - mx)).sum() / spread) if spread > 0 else 0.0
    rate_y = float((w * since * (y - my)).sum() / spread) if spread > 0 else 0.0
    # Errors are those of the fit, enlarged where the sightings scatter by more than theirs.
    scale = 1.0
    if len(members) > 2:
        chi = (w * ((x - mx - rate_x * since) ** 2 + (y - my - rate_y * since) ** 2)).sum() / (
            2 * len(members) - 4
        )
        scale = math.sqrt(max(1.0, float(chi)))
    return Track(
        np.asarray(members, int),
        middle,
        mx,
        my,
        rate_x,
        rate_y,
        scale / math.sqrt(w.sum()),
        scale / math.sqrt(spread) if spread > 0 else math.inf,
    )


def _is_sure(
    sightings: Sightings,
    track: Track,
    by_frame: dict[int, np.ndarray],
    strengths: np.ndarray,
    options: LinkOptions,
    n_seeds: int,
) -> bool:
    """Whether chance hardly makes such a track, and it was seen often enough on its way.

    `strengths` are those of all sightings that a track may be made of, in their order.
    """
    own = track.members
    frames = sightings.frame[own]
    m = len(own)
    first, last = int(frames.min()), int(frames.max())
    if m < max(2, _SEEN * sum(first <= k <= last for k in by_frame)):
        return False
    weakest = float(sightings.snr[own].min())
    as_strong = len(strengths) - int(np.searchsorted(strengths, weakest))
    density = as_strong / len(by_frame) / options.area
    if m == 2:
        # Nothing confirms the pair: both must be strong, alike, and few others as strong be about.
        apart = math.hypot(*(np.diff(v[own])[0] for v in (sightings.x, sightings.y)))
        pairs = as_strong * density * math.pi * apart**2 * _NEXT
        ratio = float(sightings.snr[own].max() / weakest)
        gap = int(np.ptp(frames))
        sure = pairs < options.false_alarms and weakest > 7.0 and ratio < 2.0 and gap <= 2
        return bool(sure and not _too_sharp(sightings, track, options).any())
    reach = 0.6 * options.fwhm + 3 * track.place_err
    chance = min(density * math.pi * reach**2, 0.5)
    others = max(len(by_frame) - 2, m - 2)
    expected = max(n_seeds, 1) * math.comb(others, m - 2) * chance ** (m - 2)
    return expected < options.false_alarms


def _too_sharp(sightings: Sightings, track: Track, options: LinkOptions) -> np.ndarray:
    """Which members of a track, (m,) bool, are sharper than what moves so fast: particles leave no trail.

    A member's share of light in the brightest of 3x3 pixels is known to an error that follows from its S/N.
    """
    length = math.hypot(track.rate_x, track.rate_y) * options.exposure
    if length < _TRAILED * options.fwhm:
        return np.zeros(len(track.members), bool)
    # The width that pixels see is that of the light and the pixel's own.
    sigma = math.sqrt(max((_SHARPER * options.fwhm / 2.3548) ** 2 - 1 / 12, 0.2**2))
    share = sightings.sharpness[track.members]
    # The brightest pixel over the noise of one: a matched filter's S/N times its weight.
    contrast = sightings.snr[track.members] * 2 * math.sqrt(math.pi) * sigma * share
    with np.errstate(invalid="ignore", divide="ignore"):
        error = share * np.sqrt((1 - share) ** 2 + 8 * share**2) / contrast
        return np.asarray(share - 3 * error > _centre(sigma, 0.0) * _centre(sigma, length))


def _centre(sigma: float, length: float) -> float:
    """Share of the light on three pixels in a row that the middle one has: a Gaussian's, drawn out to a length."""
    steps = (np.arange(64) + 0.5) / 64 - 0.5
    inner, whole = (
        sum(
            math.erf((half - length * s) / (math.sqrt(2) * sigma))
            + math.erf((half + length * s) / (math.sqrt(2) * sigma))
            for s in steps
        )
        for half in (0.5, 1.5)
    )
    return inner / whole


def find_places(sightings: Sightings, options: LinkOptions, free: np.ndarray) -> list[np.ndarray]:
    """Places that stand out with one sign on two frames or more: rows of each, strongest first."""
    rows = np.flatnonzero(free & ~sightings.is_streak)
    if len(rows) < 2:
        return []
    rows = rows[np.argsort(-np.abs(sightings.snr[rows]), kind="stable")]
    tree = cKDTree(np.column_stack([sightings.x[rows], sightings.y[rows]]))
    gone = np.zeros(len(rows), bool)
    frames = np.unique(sightings.frame[rows])
    strengths = options.strengths
    if strengths is None:
        strengths = np.sort(sightings.snr[rows][sightings.snr[rows] > 0])
    found = []
    for n, near in enumerate(tree.query_ball_point(tree.data, _SAME * options.fwhm)):
        if gone[n] or len(near) < 2:
            continue
        own = np.array([m for m in near if not gone[m]], int)
        # One of each frame: the strongest.
        _, first = np.unique(sightings.frame[rows[own]], return_index=True)
        own = own[np.sort(first)]
        gone[near] = True
        if len(own) < 2:
            gone[[m for m in near if m != n]] = False
            continue
        snr = sightings.snr[rows[own]]
        strong = np.sort(np.abs(snr))[::-1]
        steady = abs(snr.sum()) > 0.6 * np.abs(snr).sum() or len(own) >= 4
        # What shines is there on the frames in between as well.
        seen = sightings.frame[rows[own]]
        inside = int(((frames >= seen.min()) & (frames <= seen.max())).sum())
        steady &= len(own) >= _STAYS * _shown(float(np.median(np.abs(snr)))) * inside
        # Two frames must be strong; more may be weaker: what recurs at its place has a cause, if not this one.
        safe = strong[1] > (_SAFE_PAIR if len(own) == 2 else _FLOOR)
        enough = math.hypot(*strong) > _PLACE and (
            safe or _is_pair(snr, int(np.ptp(seen)), strengths, len(frames), options)
        )
        if steady and enough:
            found.append(rows[own])
            gone[tree.query_ball_point(tree.data[n], 1.5 * options.fwhm)] = True
    return found


def _is_pair(snr: np.ndarray, gap: int, strengths: np.ndarray, frames: int, options: LinkOptions) -> bool:
    """Whether chance hardly puts two bright points as strong on one place so soon after one another.

    Dark points are no such thing: where the template has no star, there is no light to be missed.
    """
    weaker = float(snr.min())
    if len(snr) != 2 or weaker < _PAIR or snr.max() > _ALIKE * weaker:
        return False
    as_strong = len(strengths) - int(np.searchsorted(strengths, weaker))
    each = as_strong / frames / options.area * math.pi * (_SAME * options.fwhm) ** 2
    return as_strong * each * gap < options.false_alarms


def _shown(snr: float) -> float:
    """Share of the frames that show a thing whose sightings have this S/N, were it a sigma fainter than those."""
    return 0.5 * (1 + math.erf((snr - 1 - _FLOOR) / math.sqrt(2)))


def find_singles(sightings: Sightings, options: LinkOptions, free: np.ndarray) -> np.ndarray:
    """Rows of strong, star-like sightings on one frame alone."""
    # The middle pixel's share of a star's light in 3x3: particles are sharper, the more so where stars are wide.
    sigma = max(options.fwhm, 1.0) / 2.3548
    star = (math.erf(0.5 / (math.sqrt(2) * sigma)) / math.erf(1.5 / (math.sqrt(2) * sigma))) ** 2
    like = (sightings.sharpness > 0.12) & (sightings.sharpness < min(0.5, 2.5 * star))
    narrow = sightings.width < 2.0 * options.fwhm * 1.2
    return np.flatnonzero(free & ~sightings.is_streak & (sightings.snr > _ALONE) & like & narrow)


def link_streaks(sightings: Sightings, free: np.ndarray) -> list[np.ndarray]:
    """Streaks, each with its continuation on the next frame where there is one."""
    rows = np.flatnonzero(free & sightings.is_streak)
    rows = rows[np.argsort(sightings.frame[rows], kind="stable")]
    groups: list[list[int]] = []
    for n in rows:
        for group in groups:
            last = group[-1]
            if (
                sightings.frame[n] - sightings.frame[last] == 1
                and len(group) == 1
                and _in_line(sightings, last, int(n))
            ):
                group.append(int(n))
                break
        else:
            groups.append([int(n)])
    return [np.array(g) for g in groups]


def _in_line(s: Sightings, a: int, b: int) -> bool:
    """Whether two streaks lie on one line, one behind the other."""
    ax, ay = s.x_end[a] - s.x[a], s.y_end[a] - s.y[a]
    bx, by = s.x_end[b] - s.x[b], s.y_end[b] - s.y[b]
    la, lb = math.hypot(ax, ay), math.hypot(bx, by)
    if abs(ax * by - ay * bx) > 0.03 * la * lb:
        return False
    mx, my = 0.5 * (s.x[b] + s.x_end[b]) - s.x[a], 0.5 * (s.y[b] + s.y_end[b]) - s.y[a]
    return abs(ax * my - ay * mx) / la < 0.02 * math.hypot(mx, my) + 3


def _streak(s: Sightings, members: np.ndarray) -> Change:
    """A streak as a change; its ends are those of its first frame."""
    n = members[0]
    return Change(
        "streak", float(s.x[n]), float(s.y[n]), int(s.frame[members].min()), int(s.frame[members].max()),
        float(s.snr[members].max()), _together(s, members), members,
        x_end=float(s.x_end[n]), y_end=float(s.y_end[n]), width=float(s.width[n]),
    )  # fmt: skip


def _mover(s: Sightings, track: Track, times: np.ndarray) -> Change:
    """A track as a change."""
    own = track.members[np.argsort(s.frame[track.members], kind="stable")]
    first, last = int(s.frame[own[0]]), int(s.frame[own[-1]])
    x, y = track.at(np.array([times[first], times[last]]))
    return Change(
        "mover", float(x[0]), float(y[0]), first, last, float(s.snr[own].max()), _together(s, own), own,
        track.rate_x, track.rate_y, track.rate_err, x_end=float(x[1]), y_end=float(y[1]),
        note=f"{len(own)} sightings on a straight track",
    )  # fmt: skip


def _transient(s: Sightings, members: np.ndarray) -> Change:
    """A place that stands out as a change: nothing was in the template there, or it was gone later."""
    own = members[np.argsort(s.frame[members], kind="stable")]
    w = s.snr[own] ** 2
    sign = "brighter" if s.snr[own].sum() > 0 else "fainter"
    return Change(
        "transient", float((w * s.x[own]).sum() / w.sum()), float((w * s.y[own]).sum() / w.sum()),
        int(s.frame[own[0]]), int(s.frame[own[-1]]), float(np.abs(s.snr[own]).max()), _together(s, own), own,
        note=f"{sign} than the template on {len(own)} frames, no star there",
    )  # fmt: skip


def _single(s: Sightings, n: int) -> Change:
    """Something seen once, as a change."""
    return Change(
        "unknown", float(s.x[n]), float(s.y[n]), int(s.frame[n]), int(s.frame[n]), float(abs(s.snr[n])),
        float(abs(s.snr[n])), np.array([n]), note="a point of light on one frame",
    )  # fmt: skip


def _together(s: Sightings, members: np.ndarray) -> float:
    """S/N of all sightings together."""
    return float(np.sqrt((s.snr[members] ** 2).sum()))

"""One lens for the night: every frame's transform from one camera, a pose of its own, and the air.

A frame fitted by itself knows only what its own stars tell; where a cloud hides a part of the field it extrapolates.
Here all frames share the lens, so that a frame needs no more than where it points, its roll and its scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from difflapse.align.camera import Camera
from difflapse.align.fit import design, fit_transform, grid_points
from difflapse.align.joint import FOLDS, Air, Joint, Seen, derivatives, fit_joint
from difflapse.align.match import position_variance
from difflapse.align.zenith import TURN, air_of, axes_of, guess_air, strength_of
from difflapse.model import Alignment, FrameFacts, HeldOut, Stars, Transform
from difflapse.model.transform import powers

FEWEST_FRAMES = 3
FEWEST_STARS = 8
_JOINT = 60
"""Frames that the lens is fitted to at most, spread over the night; the others only take their pose from it."""
_TRACKS = 2500
_DEGREES = ((300, 5), (100, 3), (0, 1))
"""Stars of the night from which on the lens gets terms up to a degree."""
_CLEAR = 2.5
_EXACT = 1e-3
_NEIGHBOURS = 10


@dataclass(frozen=True, eq=False)
class Lens:
    """What one lens makes of a night."""

    alignments: Mapping[int, Alignment]
    """For each frame handed in: the lens' alignment where it is used, else its own, the reason in its note."""
    camera: Camera | None
    """None where the night cannot carry a lens."""
    used: int
    """Frames that take the lens' transform."""
    line: str
    """What was found, or why not."""


@dataclass(frozen=True, eq=False)
class _Frame:
    """A frame that takes part: the stars that count, and how it lies by itself."""

    number: int
    facts: FrameFacts
    stars: Stars
    own: Alignment


@dataclass(frozen=True, eq=False)
class _Pose:
    """What a frame's stars, given lens and catalogue, say of its pose, and the same without each fold."""

    pose: np.ndarray
    """(4,)."""
    information: np.ndarray
    """(FOLDS, 4, 4): of each fold's stars."""
    folds: np.ndarray
    """(FOLDS, 4): added to the pose where the fold's stars are left out."""
    seen: Seen
    star: np.ndarray
    """(n,) which of the frame's stars; NaN weights are gone."""


def one_lens(
    facts: Mapping[int, FrameFacts],
    stars: Mapping[int, Stars],
    alignments: Mapping[int, Alignment],
    reference: int,
    wanted: str = "auto",
) -> Lens:
    """Fit one camera to a whole night, and choose for each frame between it and the frame's own transform.

    Parameters
    ----------
    facts, stars, alignments : mappings of frame numbers
        All frames that are aligned, the reference among them. Frames that were not aligned on stars, are mirrored, or
        of another shape or scale than the reference, stay as they are.
    reference : int
        The frame whose pixel grid is kept.
    wanted : str
        ``auto``: a frame takes the lens where held-out stars do not speak against it and where it is the surer over
        the whole field; ``lens``: wherever it can be fitted.

    Returns
    -------
    Lens

    Notes
    -----
    Pixels are bent straight by one polynomial of degree 5 or less, turned by the frame's pose, and lowered by
    refraction (Smart's formula); sky positions of the stars are eliminated. Zenith and pole come from the header's WCS,
    site and time, else they are fitted where that pays. A pose is then weighed against what its neighbours in time
    lead one to expect, by how much they really scatter. Deterministic; 60 frames of 1500 stars cost about 2 s.
    """
    line, frames = _eligible(facts, stars, alignments, reference)
    if line:
        return _without(alignments, reference, wanted, line)
    home = next(n for n, frame in enumerate(frames) if frame.number == reference)
    when = np.array([f.facts.mid_mjd if f.facts.mid_mjd is not None else np.nan for f in frames])
    times = when if np.all(np.isfinite(when)) else np.arange(len(frames), dtype=float)
    positions = [np.column_stack(f.own.transform(f.stars.x, f.stars.y)) for f in frames]
    reach = [float(np.clip(4.0 * f.own.rms_pix, 0.5, 2.0)) if n != home else 0.5 for n, f in enumerate(frames)]
    model = _Model(frames, home, when)
    fitted = None
    for _ in range(2):
        tracks, count = _make_tracks(positions, reach, home)
        chosen = _spread(frames, home)
        seen, ends, tracks = _sort(frames, tracks, count, chosen)
        if ends[-1] < FEWEST_STARS:
            line = f"{ends[-1]} stars are seen in three frames or more; a lens needs {FEWEST_STARS}"
            return _without(alignments, reference, wanted, line)
        fitted = model.fit(seen, ends, chosen, fitted)
        poses = [_pose_of(fitted, model, seen, ends, n, chosen) for n in range(len(frames))]
        # Once more with what is now known: a cloudy frame may have led its stars astray.
        positions = [
            np.column_stack(fitted.camera.to_sky(f.stars.x, f.stars.y, p.pose, model.zenith(fitted, n)))
            for n, (f, p) in enumerate(zip(frames, poses, strict=True))
        ]
        reach = [0.6] * len(frames)
    assert fitted is not None
    poses = _with_neighbours(poses, times)
    return _choose(frames, home, model, fitted, poses, ends, tracks, alignments, wanted)


def _eligible(
    facts: Mapping[int, FrameFacts],
    stars: Mapping[int, Stars],
    alignments: Mapping[int, Alignment],
    reference: int,
) -> tuple[str, list[_Frame]]:
    """The frames that take part, in order; and why there is nothing to do, or nothing."""
    frames = []
    shape = facts[reference].shape
    for k in sorted(alignments):
        own, some = alignments[k], stars[k]
        if k != reference:
            t = own.transform
            middle = 0.5 * (shape[1] - 1), 0.5 * (shape[0] - 1)
            if own.held_out is None or facts[k].shape != shape or t.mirrored:
                continue
            if abs(np.log(t.local_scale(*middle))) > 0.02:
                continue
        good = np.isfinite(some.x) & np.isfinite(some.y)
        if (good & ~some.saturated).sum() >= 20:
            good &= ~some.saturated
        frames.append(_Frame(k, facts[k], some.take(good), own))
    others = len(frames) - 1
    if others + 1 < FEWEST_FRAMES:
        return (
            f"{others + 1} frames like the reference are aligned on stars; a lens needs {FEWEST_FRAMES}",
            frames,
        )
    return "", frames


def _without(alignments: Mapping[int, Alignment], reference: int, wanted: str, line: str) -> Lens:
    """All frames as they are; where the lens was asked for, their notes say why."""
    if wanted == "lens":
        alignments = {
            k: own if k == reference else _noted(own, f"no lens: {line}") for k, own in alignments.items()
        }
    return Lens(dict(alignments), None, 0, line)


def _noted(own: Alignment, more: str) -> Alignment:
    return replace(own, note="; ".join(part for part in (own.note, more) if part))


class _Model:
    """How the night is modelled: what header, site and times tell, and what is fitted."""

    def __init__(self, frames: list[_Frame], home: int, when: np.ndarray) -> None:
        self.frames, self.home = frames, home
        reference = frames[home].facts
        self.shape = reference.shape
        axes = axes_of(reference)
        self.focal, self.focal_error = (axes[1], 0.003) if axes else (None, 1.0)
        self.strength = strength_of(reference)
        self.air = air_of(reference, when, axes[0]) if axes else None
        known = np.all(np.isfinite(when))
        self.turned = TURN * (when - when[home]) if known else None

    def zenith(self, fitted: Joint, n: int) -> np.ndarray | None:
        """Of the n-th frame, in the reference's axes."""
        return self._air(fitted, slice(n, n + 1)).zeniths()[0] if fitted.air else None  # type: ignore[union-attr]

    def _air(self, fitted: Joint, which: slice | np.ndarray) -> Air | None:
        if fitted.air is None or self.turned is None:
            return None
        return replace(fitted.air, angle=self.turned[which])

    def fit(self, seen: list[Seen], ends: np.ndarray, chosen: np.ndarray, before: Joint | None) -> Joint:
        """Fit lens, air and poses to the chosen frames; `before` is a fit to nearly the same stars."""
        degree = next(d for least, d in _DEGREES if ends[-1] >= least)
        home = int(np.flatnonzero(chosen == self.home)[0])
        some = [seen[n] for n in chosen]
        camera = Camera.perfect(self.shape, degree, self.focal)

        def fit(start: Camera, poses: np.ndarray, air: Air | None) -> Joint:
            return fit_joint(some, home, ends, start, poses, air, self.strength, self.focal_error)

        if before is not None:
            return fit(camera, before.poses, before.air)
        poses = np.array([self._first_pose(n) for n in chosen])
        if self.air is not None or self.turned is None or degree == 1:
            return fit(camera, poses, replace(self.air, angle=self.air.angle[chosen]) if self.air else None)
        best = plain = fit(camera, poses, None)
        for air in guess_air(some, plain, home, self.turned[chosen], self.strength[0]):
            other = fit(camera, plain.poses, air)
            if _beats(other, best):
                best = other
        return best

    def _first_pose(self, n: int) -> np.ndarray:
        """The pose of a frame by its own transform."""
        if n == self.home:
            return np.zeros(4)
        t = self.frames[n].own.transform
        cx, cy = 0.5 * (self.shape[1] - 1), 0.5 * (self.shape[0] - 1)
        x, y = t(cx, cy)
        jacobian = t.jacobian(cx, cy)
        turn = (jacobian[0, 0] + jacobian[1, 1] + 1j * (jacobian[1, 0] - jacobian[0, 1])) / 2
        return np.array([x - cx, y - cy, np.angle(turn), np.log(abs(turn))])


def _beats(other: Joint, best: Joint) -> bool:
    """Whether a fit predicts held-out stars clearly better than another, star by star."""
    gain = best.held - other.held
    gain = gain[np.isfinite(gain)]
    limit = 10.0 * float(np.median(best.held))
    gain = np.clip(gain, -limit, limit)
    return bool(gain.mean() > _CLEAR * gain.std() / np.sqrt(len(gain)))


def _spread(frames: list[_Frame], home: int) -> np.ndarray:
    """Numbers of the frames that the lens is fitted to, the reference among them."""
    n = len(frames)
    some = np.unique(np.linspace(0, n - 1, min(n, _JOINT)).round().astype(int))
    return np.unique(np.append(some, home))


def _make_tracks(
    positions: list[np.ndarray], reach: list[float], home: int
) -> tuple[list[np.ndarray], int]:
    """Which star of the night each star of each frame is, -1 for none, and how many there are.

    The list of stars begins as the reference's, and grows by what other frames see beside it.
    """
    sky = positions[home]
    tracks = [np.full(len(p), -1) for p in positions]
    tracks[home] = np.arange(len(sky))
    order = sorted((n for n in range(len(positions)) if n != home), key=lambda n: abs(n - home))
    for n in order:
        at = positions[n]
        if len(at) == 0 or len(sky) == 0:
            continue
        distance, j = cKDTree(sky).query(at, k=1, distance_upper_bound=3.0 * reach[n])
        near = np.flatnonzero(distance <= reach[n])
        near = near[np.argsort(distance[near], kind="stable")]
        near = near[np.unique(j[near], return_index=True)[1]]
        tracks[n][near] = j[near]
        new = np.flatnonzero(~np.isfinite(distance) & np.all(np.isfinite(at), axis=1))
        tracks[n][new] = len(sky) + np.arange(len(new))
        sky = np.vstack([sky, at[new]])
    return tracks, len(sky)


def _sort(
    frames: list[_Frame], tracks: list[np.ndarray], count: int, chosen: np.ndarray
) -> tuple[list[Seen], np.ndarray, list[np.ndarray]]:
    """Number the stars that enough frames see by folds, and list each frame's; also star by star of each frame."""
    seen_by = np.zeros(count, int)
    for n in chosen:
        seen_by[tracks[n][tracks[n] >= 0]] += 1
    least = 3 if len(chosen) > 3 else 2
    kept = np.flatnonzero(seen_by >= least)
    if len(kept) > _TRACKS:
        kept = np.sort(kept[np.argsort(-seen_by[kept], kind="stable")[:_TRACKS]])
    fold = np.arange(len(kept)) % FOLDS
    number = np.full(count + 1, -1)
    number[kept[np.argsort(fold, kind="stable")]] = np.arange(len(kept))
    ends = np.cumsum(np.bincount(fold, minlength=FOLDS))
    seen, which = [], []
    for frame, own in zip(frames, tracks, strict=True):
        new = number[own]
        order = np.flatnonzero(new >= 0)
        order = order[np.argsort(new[order], kind="stable")]
        some = frame.stars.take(order)
        seen.append(Seen(new[order], some.x, some.y, 1.0 / position_variance(some)))
        which.append(order)
    return seen, ends, which


def _pose_of(
    fitted: Joint, model: _Model, seen: list[Seen], ends: np.ndarray, n: int, chosen: np.ndarray
) -> _Pose:
    """A frame's pose given lens and stars: that of the joint fit, or fitted to them where it took no part."""
    s = seen[n]
    camera, air = fitted.camera, model._air(fitted, slice(n, n + 1))
    basis = camera.basis(s.x, s.y)
    zenith = air.zeniths()[0] if air else None
    fold = np.searchsorted(ends, s.track, side="right")
    star, total = fitted.star[s.track], fitted.star_weight[s.track]
    straight = camera.straighten(basis)
    place = np.flatnonzero(chosen == n)
    common = fitted.common_folds.shape[1]
    if len(place):
        pose, w = fitted.poses[place[0]], fitted.weights[place[0]]
        folds = fitted.pose_folds[:, place[0]]
        jacobian = derivatives(camera, basis, pose, air, 0)[:, :, common:]
        # What the star's mean without this frame weighs, and this frame against it.
        with np.errstate(divide="ignore", invalid="ignore"):
            w = np.where(w > 0, w * (1.0 - w / total), 0.0)
    else:
        pose, w = model._first_pose(n), np.zeros(len(s.x))
        for _ in range(8):
            at = np.column_stack(camera.look(*straight, pose, zenith))
            r = np.where(np.isfinite(star), at - star, 1e3)
            reduced = np.hypot(*r.T) * np.sqrt(s.weight)
            sigma = max(float(np.median(reduced)) / 1.1774, 1e-6) if len(reduced) else 1.0
            w = np.where(reduced < 5.0 * (1 + 8.0 / max(len(r), 1)) * sigma, s.weight / sigma**2, 0.0)
            w = np.where(total > 0, 1.0 / (1.0 / np.maximum(w, 1e-9) + 1.0 / np.maximum(total, 1e-9)), 0.0) * (w > 0)
            jacobian = derivatives(camera, basis, pose, air, 0)[:, :, common:]
            normal = np.einsum("nij,n,nik->jk", jacobian, w, jacobian)
            step = np.linalg.lstsq(normal, -np.einsum("nij,n,ni->j", jacobian, w, r), rcond=1e-12)[0]
            pose = pose + step
            if np.abs(step[:2]).max() < 1e-5 and np.abs(step[2:]).max() < 1e-9:
                break
        folds = np.zeros((FOLDS, 4))
        whole = derivatives(camera, basis, pose, air, 0)
        jacobian = whole[:, :, common:]
        r = np.where(np.isfinite(star), np.column_stack(camera.look(*straight, pose, zenith)) - star, 0.0)
        for f in range(FOLDS):
            left = w * (fold != f)
            moved = r + whole[:, :, :common] @ fitted.common_folds[f] - np.nan_to_num(fitted.star_folds[f, s.track])
            normal = np.einsum("nij,n,nik->jk", jacobian, left, jacobian)
            folds[f] = np.linalg.lstsq(normal, -np.einsum("nij,n,ni->j", jacobian, left, moved), rcond=1e-12)[0]
    information = np.array(
        [np.einsum("nij,n,nik->jk", jacobian, w * (fold == f), jacobian) for f in range(FOLDS)]
    )
    return _Pose(pose, information, folds, Seen(s.track, s.x, s.y, w), np.arange(len(s.x)))


def _with_neighbours(poses: list[_Pose], times: np.ndarray) -> list[_Pose]:
    """Weigh each pose against what its neighbours in time lead one to expect, by how much poses really scatter."""
    n = len(poses)
    value = np.array([p.pose for p in poses])
    # With each fold's stars left out, too: without them all poses may move together, as the lens does.
    without = value[None] + np.moveaxis(np.array([p.folds for p in poses]), 1, 0)
    spread = np.array([_variance(p.information.sum(0)) for p in poses])
    trust = np.zeros((n, 4))
    away = np.zeros((1 + FOLDS, n, 4))
    alike = np.abs(np.angle(np.exp(1j * (value[:, None, 2] - value[:, 2])))) < 0.1
    np.fill_diagonal(alike, False)
    for c in range(4):
        scatter = 0.0
        for _ in range(3):
            gain, error = _line_through_neighbours(times, spread[:, c] + scatter, alike)
            good = np.isfinite(error) & np.isfinite(spread[:, c])
            if good.sum() < 5:
                break
            off = value[:, c] - gain @ value[:, c]
            # The typical square, robustly, beyond what the known errors explain.
            total = float(np.median(off[good] ** 2)) / 0.455
            known = float(np.median(spread[good, c] + gain[good] ** 2 @ np.where(good, spread[:, c], 0.0)))
            scatter = max(total - known, 0.05 * total)
        if good.sum() >= 5:
            trust[:, c] = np.where(np.isfinite(error), 1.0 / (error + scatter), 0.0)
            for f, v in enumerate((value, *without)):
                away[f, :, c] = gain @ v[:, c] - v[:, c]
    out = []
    for k, p in enumerate(poses):
        stiff, stars = np.diag(trust[k]), p.information.sum(0)
        pose = p.pose + _solve(stars + stiff, trust[k] * away[0, k])
        folds = [
            without[f, k] + _solve(stars - p.information[f] + stiff, trust[k] * away[1 + f, k]) - pose
            for f in range(FOLDS)
        ]
        out.append(replace(p, pose=pose, folds=np.array(folds)))
    return out


def _line_through_neighbours(
    times: np.ndarray, variance: np.ndarray, alike: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Straight lines through each frame's nearest neighbours in time, the frame itself left out.

    Returns the weights (n, n) that make the value at each frame of those at the others, and the variances; infinite
    where fewer than 4 are alike.
    """
    n = len(times)
    gain, error = np.zeros((n, n)), np.full(n, np.inf)
    for k in range(n):
        near = np.flatnonzero(alike[k] & np.isfinite(variance))
        near = near[np.argsort(np.abs(times[near] - times[k]), kind="stable")[:_NEIGHBOURS]]
        if len(near) < 4:
            continue
        t = times[near] - times[k]
        width = 1.2 * float(np.abs(t).max()) or 1.0
        w = (1 - (np.abs(t) / width) ** 3) ** 3 / np.maximum(variance[near], 1e-30)
        basis = np.column_stack([np.ones_like(t), t / width])
        gain[k, near] = (np.linalg.pinv((basis * w[:, None]).T @ basis, hermitian=True) @ (basis * w[:, None]).T)[0]
        error[k] = np.sum(gain[k, near] ** 2 * variance[near])
    return gain, error


def _solve(normal: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solution of a small system whose unknowns have very different units."""
    scale = np.sqrt(np.maximum(np.diag(normal), 1e-300))
    return np.asarray(np.linalg.lstsq(normal / np.outer(scale, scale), right / scale, rcond=1e-12)[0] / scale)


def _variance(information: np.ndarray) -> np.ndarray:
    """Variances of a pose, infinite where its stars say nothing."""
    scale = np.sqrt(np.diag(information))
    if not np.all(scale > 0):
        return np.full(len(scale), np.inf)
    try:
        return np.asarray(np.diag(np.linalg.inv(information / np.outer(scale, scale))) / scale**2)
    except np.linalg.LinAlgError:
        return np.full(len(scale), np.inf)


def _choose(
    frames: list[_Frame],
    home: int,
    model: _Model,
    fitted: Joint,
    poses: list[_Pose],
    ends: np.ndarray,
    which: list[np.ndarray],
    alignments: Mapping[int, Alignment],
    wanted: str,
) -> Lens:
    """Make the lens' transforms, and take each frame's where it is the better one."""
    judged = [
        _judge(frames, home, model, fitted, poses, ends, which, n) if n != home else None for n in range(len(frames))
    ]
    clear = [j for j in judged if j is not None and j.common >= 50]
    # What the lens gets wrong everywhere, beyond errors that its stars explain.
    excess = max(float(np.median([-j.gain for j in clear])), 0.0) if clear else 0.0
    out = dict(alignments)
    used = 0
    for frame, j in zip(frames, judged, strict=True):
        if j is None:
            continue
        if j.transform is None:
            out[frame.number] = _noted(frame.own, "no lens: no polynomial of degree 5 follows it to 0.001 px")
            continue
        mine = max(excess, -j.gain if j.gain < -_CLEAR * j.gain_error else 0.0) + j.lens_variance
        if wanted == "lens" or j.gain > _CLEAR * j.gain_error or mine <= j.own_variance:
            radial = np.hypot(j.held_out.dx, j.held_out.dy)
            own = frame.own
            out[frame.number] = replace(
                own,
                transform=j.transform,
                n_matched=len(radial),
                rms_pix=float(np.sqrt(np.mean(radial**2))) if len(radial) else float("nan"),
                p95_pix=float(np.percentile(radial, 95)) if len(radial) else float("nan"),
                held_out=j.held_out,
                note=f"the night's lens on {len(radial)} stars, held-out {own.rms_pix:.3f} px by itself",
            )
            used += 1
    line = f"one lens of degree {fitted.camera.degree} on {ends[-1]} stars of {len(frames)} frames"
    if wanted == "lens":
        for k, own in alignments.items():
            if k not in {f.number for f in frames}:
                out[k] = _noted(own, "no lens: not aligned on stars, or not like the reference")
    return Lens(out, fitted.camera, used, line)


@dataclass(frozen=True, eq=False)
class _Judged:
    """A frame's transform by the lens, beside its own."""

    transform: Transform | None
    held_out: HeldOut
    common: int
    """Stars that both were tested on."""
    gain: float
    """Mean square of the own residuals minus that of the lens', px**2, and its standard error."""
    gain_error: float
    own_variance: float
    lens_variance: float
    """Mean over the whole frame of the squared error that the stars' noise explains, px**2."""


def _judge(
    frames: list[_Frame],
    home: int,
    model: _Model,
    fitted: Joint,
    poses: list[_Pose],
    ends: np.ndarray,
    which: list[np.ndarray],
    n: int,
) -> _Judged:
    frame, p, base = frames[n], poses[n], poses[home]
    camera = fitted.camera
    air, air0 = model._air(fitted, slice(n, n + 1)), model._air(fitted, slice(home, home + 1))
    zenith, zenith0 = (a.zeniths()[0] if a else None for a in (air, air0))
    transform, away = _compose(camera, model.shape, (p.pose, base.pose), (zenith, zenith0), frame.own.transform)
    # Stars that both this frame and the reference see, each predicted by the fold that left it out.
    _, i, j = np.intersect1d(p.seen.track, base.seen.track, return_indices=True)
    good = (p.seen.weight[i] > 0) & (base.seen.weight[j] > 0)
    i, j = i[good], j[good]
    fold = np.searchsorted(ends, p.seen.track[i], side="right")
    here, there = camera.basis(p.seen.x[i], p.seen.y[i]), camera.basis(base.seen.x[j], base.seen.y[j])
    d_here = derivatives(camera, here, p.pose, air, 0)
    d_there = derivatives(camera, there, base.pose, air0, 0)
    sky = np.column_stack(camera.look(*camera.straighten(here), p.pose, zenith))
    sky0 = np.column_stack(camera.look(*camera.straighten(there), base.pose, zenith0))
    moves, moves0 = (np.hstack([fitted.common_folds, one.folds]) for one in (p, base))
    off = sky - sky0 + np.einsum("nij,nj->ni", d_here, moves[fold])
    off -= np.einsum("nij,nj->ni", d_there, moves0[fold])
    off = _to_pixels(camera, base.seen.x[j], base.seen.y[j], base.pose, zenith0, off)
    a, b = which[n][i], which[home][j]
    snr = np.minimum(frame.stars.snr[a], frames[home].stars.snr[b])
    columns = (frame.stars.x[a], frame.stars.y[a], *off.T, snr)
    held = HeldOut(*(np.asarray(c, np.float32) for c in columns))
    own = frame.own.held_out
    assert own is not None
    mine = {key: m for m, key in enumerate(zip(held.x.tolist(), held.y.tolist(), strict=True))}
    pairs = [
        (m, mine[key]) for m, key in enumerate(zip(own.x.tolist(), own.y.tolist(), strict=True)) if key in mine
    ]
    gain, error = 0.0, np.inf
    if pairs:
        o, m = np.array(pairs).T
        difference = own.dx[o] ** 2 + own.dy[o] ** 2 - held.dx[m] ** 2 - held.dy[m] ** 2
        gain = float(np.mean(difference))
        error = float(np.std(difference) / np.sqrt(len(difference))) if len(difference) > 5 else np.inf
    # Over the frame: what leaving out each fifth of the stars changes (a delete-a-group jackknife).
    grid = grid_points((0.0, 0.0, model.shape[1] - 1.0, model.shape[0] - 1.0))
    gx, gy = grid.T
    tx, ty = (transform or frame.own.transform)(gx, gy)
    change = derivatives(camera, camera.basis(gx, gy), p.pose, air, 0) @ moves.T
    change -= derivatives(camera, camera.basis(tx, ty), base.pose, air0, 0) @ moves0.T
    lens_variance = float(np.mean(np.sum(change**2, axis=1))) * (FOLDS - 1)
    return _Judged(transform, held, len(pairs), gain, error, _own_variance(frame.own, grid), lens_variance)


def _own_variance(own: Alignment, grid: np.ndarray) -> float:
    """Mean square error, px**2, that noise leaves in a frame's own transform over a grid, by its leverage."""
    held = own.held_out
    assert held is not None
    t = own.transform
    degree = 0 if t.model == "shift" else t.degree
    centre, scale = grid.mean(0), np.abs(grid - grid.mean(0)).max()
    basis = design((held.x - centre[0]) / scale, (held.y - centre[1]) / scale, degree)
    there = design((grid[:, 0] - centre[0]) / scale, (grid[:, 1] - centre[1]) / scale, degree)
    if len(basis) <= len(powers(degree)):
        return np.inf
    inverse = np.linalg.pinv(basis.T @ basis, rcond=1e-12, hermitian=True)
    leverage = float(np.einsum("ij,jk,ik->i", there, inverse, there).mean())
    return leverage * float(np.mean(held.dx**2 + held.dy**2))


def _to_pixels(
    camera: Camera, x: np.ndarray, y: np.ndarray, pose: np.ndarray, zenith: np.ndarray | None, off: np.ndarray
) -> np.ndarray:
    """Small differences on the sky's plane as differences of native pixels of a frame, at (x, y)."""
    here = np.column_stack(camera.to_sky(x, y, pose, zenith))
    a, c = (np.column_stack(camera.to_sky(x + 0.5, y, pose, zenith)) - here).T / 0.5
    b, d = (np.column_stack(camera.to_sky(x, y + 0.5, pose, zenith)) - here).T / 0.5
    det = a * d - b * c
    return np.column_stack([d * off[:, 0] - b * off[:, 1], a * off[:, 1] - c * off[:, 0]]) / det[:, None]


def _compose(
    camera: Camera,
    shape: tuple[int, int],
    poses: tuple[np.ndarray, np.ndarray],
    zeniths: tuple[np.ndarray | None, np.ndarray | None],
    start: Transform,
) -> tuple[Transform | None, float]:
    """Frame to sky to reference as one polynomial over the whole frame, and how far it strays; None if too far."""
    domain = (0.0, 0.0, shape[1] - 1.0, shape[0] - 1.0)
    grid, test = grid_points(domain, 17), grid_points(domain, 14)
    both = np.vstack([grid, test])
    first = fit_transform(*grid.T, *start(*grid.T), model="similarity", domain=domain)
    sky = camera.to_sky(both[:, 0], both[:, 1], poses[0], zeniths[0])
    x, y = camera.from_sky(*sky, poses[1], zeniths[1], first(both[:, 0], both[:, 1]))
    n = len(grid)
    worst = np.inf
    if np.all(np.isfinite(x)):
        for degree in range(2, 6):
            t = fit_transform(*grid.T, x[:n], y[:n], None, "polynomial", degree, domain)
            tx, ty = t(test[:, 0], test[:, 1])
            worst = float(np.hypot(tx - x[n:], ty - y[n:]).max())
            if worst <= (0.2 if degree < 5 else 1.0) * _EXACT:
                return t, worst
    return None, worst

"""One lens for the night: every frame's transform from one camera, a pose of its own, and the air.

A frame fitted by itself knows only what its own stars tell; where a cloud hides a part of the field it extrapolates.
Here all frames share the lens, so that a frame needs no more than where it points, its roll and its scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from difflapse.align.camera import Camera
from difflapse.align.fit import design, fit_on_grid, fit_robust, fit_transform, grid_points
from difflapse.align.joint import FOLDS, Air, Joint, Seen, derivatives, fit_joint
from difflapse.align.poses import Pose, pose_of, with_neighbours
from difflapse.align.tracks import make_tracks, sort_tracks
from difflapse.align.zenith import TURN, air_of, axes_of, guess_air, header_lens, strength_of
from difflapse.model import Alignment, FrameFacts, HeldOut, Stars, Transform
from difflapse.model.transform import powers

FEWEST_FRAMES = 3
FEWEST_STARS = 8
FEWEST_IN_COMMON = 6
"""Stars that a frame shares with the reference: fewer would not have aligned it by itself either."""
_JOINT = 60
"""Frames that the lens is fitted to at most, spread over the night; the others only take their pose from it."""
_DEGREES = ((300, 5), (100, 3), (0, 1))
"""Stars of the night from which on the lens gets terms up to a degree."""
_TRIED = 12
"""Frames on which a header's distortion is held against none."""
_TOLD = 20
"""Lone stars known from other frames, from which a transform is judged by them alone."""
_CLEAR = 2.5
_EXACT = 1e-3
_TRACKED = (400, 1000)
"""Stars of the night that the first fit takes at most, and the last: those that most frames saw. More make no frame's
pose any better, and each adds to the cost."""
_ROUGH, _FINE = 8, 6
"""Steps of the first fit at most, and of the last."""


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
    lead one to expect, by how much they really scatter. Residuals are taken against what the other frames measured of
    each star, of frames that keep their own transform too. Deterministic; 60 frames of 1500 stars cost about 1.1 s of a
    core with WCS, 2.3 s without.
    """
    line, frames = _eligible(facts, stars, alignments, reference)
    if line:
        return _without(alignments, reference, wanted, line)
    home = next(n for n, frame in enumerate(frames) if frame.number == reference)
    when = np.array([f.facts.mid_mjd if f.facts.mid_mjd is not None else np.nan for f in frames])
    times = when if np.all(np.isfinite(when)) else np.arange(len(frames), dtype=float)
    positions = [np.column_stack(f.own.transform(f.stars.x, f.stars.y)) for f in frames]
    reach = [
        float(np.clip(4.0 * f.own.rms_pix, 0.5, 2.0)) if n != home else 0.5 for n, f in enumerate(frames)
    ]
    model = _Model(frames, home, when)
    chosen = _spread(frames, home)
    place = {int(n): m for m, n in enumerate(chosen)}
    fitted = None
    for most in _TRACKED:
        tracks, count = make_tracks(positions, reach, home)
        seen, ends, tracks = sort_tracks([f.stars for f in frames], tracks, count, chosen, most)
        if ends[-1] < FEWEST_STARS:
            line = f"{ends[-1]} stars are seen in three frames or more; a lens needs {FEWEST_STARS}"
            return _without(alignments, reference, wanted, line)
        try:
            fitted = model.fit(seen, ends, chosen, fitted)
        except np.linalg.LinAlgError:
            fitted = None
        if fitted is None or not np.all(np.isfinite(fitted.poses)):
            return _without(alignments, reference, wanted, f"{ends[-1]} stars do not determine it")
        poses = [
            pose_of(fitted, s, ends, place.get(n), model.first_poses[n], model.air_at(fitted, n))
            for n, s in enumerate(seen)
        ]
        # Once more with what is now known: a cloudy frame may have led its stars astray.
        positions = [
            np.column_stack(fitted.camera.to_sky(f.stars.x, f.stars.y, p.pose, model.zenith(fitted, n)))
            for n, (f, p) in enumerate(zip(frames, poses, strict=True))
        ]
        reach = [0.6] * len(frames)
    assert fitted is not None
    poses = with_neighbours(poses, times)
    return _choose(_Solved(frames, home, model, fitted, poses, ends, tracks), alignments, wanted)


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
        self.focal = axes[1] if axes else None
        self.focal_error = 0.003 if axes else 1.0
        self.header = header_lens(reference, axes, max(d for _, d in _DEGREES)) if axes else None
        self.strength = strength_of(reference)
        self.air = air_of(reference, when, axes[0]) if axes else None
        known = np.all(np.isfinite(when))
        self.turned = TURN * (when - when[home]) if known else None
        self.first_poses = [self._first_pose(n) for n in range(len(frames))]

    def zenith(self, fitted: Joint, n: int) -> np.ndarray | None:
        """Of the n-th frame, in the reference's axes."""
        air = self.air_at(fitted, n)
        return air.at(0) if air else None

    def air_at(self, fitted: Joint, n: int) -> Air | None:
        """The air of the n-th frame alone."""
        if fitted.air is None or self.turned is None:
            return None
        return replace(fitted.air, angle=self.turned[n : n + 1])

    def fit(self, seen: list[Seen], ends: np.ndarray, chosen: np.ndarray, before: Joint | None) -> Joint:
        """Fit lens, air and poses to the chosen frames; `before` is a fit to nearly the same stars."""
        degree = next(d for least, d in _DEGREES if ends[-1] >= least)
        home = int(np.flatnonzero(chosen == self.home)[0])
        some = [seen[n] for n in chosen]
        camera = Camera.perfect(self.shape, degree, self.focal)
        if self.header is not None:
            told = self.header.with_degree(degree)
            # A header's distortion is where the fit starts, unless the stars are better off without it.
            if _misfit(told, some, home) < _misfit(camera, some, home):
                camera = told

        def fit(start: Camera, poses: np.ndarray, air: Air | None, steps: int = _ROUGH) -> Joint:
            return fit_joint(some, home, ends, start, poses, air, self.strength, self.focal_error, steps)

        if before is not None:
            return fit(camera, before.poses, before.air, _FINE)
        poses = np.array([self.first_poses[n] for n in chosen])
        if self.air is not None or self.turned is None or degree == 1:
            return fit(camera, poses, replace(self.air, angle=self.air.angle[chosen]) if self.air else None)
        plain = fit(camera, poses, None)
        guesses = guess_air(some, plain, home, self.turned[chosen], self.strength[0])
        aired = [fit(camera, plain.poses, air) for air in guesses]
        if not aired:
            return plain
        # There is air: it need not win, as long as it does not clearly lose.
        best = min(aired, key=lambda one: float(np.nansum(one.held)))
        return plain if _beats(plain, best) else best

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


def _misfit(camera: Camera, seen: list[Seen], home: int) -> float:
    """How far off stars typically are, px, if two frames straightened by a lens differ by an affine transform only."""
    some = range(0, len(seen), max(1, len(seen) // _TRIED))
    flat = {n: camera.straighten(camera.basis(seen[n].x, seen[n].y)) for n in {*some, home}}
    area = (-camera.radius, -camera.radius, camera.radius, camera.radius)
    off = []
    for n in some:
        s = seen[n]
        _, i, j = np.intersect1d(s.track, seen[home].track, return_indices=True)
        if n == home or len(i) < 20:
            continue
        here, there = (np.array([part[index] for part in flat[m]]) for m, index in ((n, i), (home, j)))
        # Of degree 1, which is affine; where the area is told its terms are made once.
        t, _ = fit_robust(here[0], here[1], there[0], there[1], None, "polynomial", 1, area)
        x, y = t(here[0], here[1])
        off.append(float(np.median(np.hypot(x - there[0], y - there[1]))))
    return max(off, default=0.0)


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


@dataclass(frozen=True, eq=False)
class _Solved:
    """The night with its lens."""

    frames: list[_Frame]
    home: int
    """Place of the reference among them."""
    model: _Model
    fitted: Joint
    poses: list[Pose]
    ends: np.ndarray
    """Where the stars of each fold end."""
    which: list[np.ndarray]
    """Of each frame: the star of its list that each of its tracks' sightings is."""


def _choose(night: _Solved, alignments: Mapping[int, Alignment], wanted: str) -> Lens:
    """Make the lens' transforms, and take each frame's where it is the better one."""
    frames, fitted = night.frames, night.fitted
    judged = [_judge(night, n) if n != night.home else None for n in range(len(frames))]
    clear = [j for j in judged if j is not None and j.common >= 50]
    # What the lens gets wrong everywhere, beyond errors that its stars explain.
    excess = max(float(np.median([-j.gain for j in clear])), 0.0) if clear else 0.0
    out = dict(alignments)
    used = 0
    for frame, j in zip(frames, judged, strict=True):
        if j is None:
            continue
        if len(j.held_out) < FEWEST_IN_COMMON:
            if wanted == "lens":
                line = f"{len(j.held_out)} stars in common with the reference; it needs {FEWEST_IN_COMMON}"
                out[frame.number] = _noted(frame.own, f"no lens: {line}")
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
                rms_pix=_rms(j.held_out),
                p95_pix=float(np.percentile(radial, 95)) if len(radial) else float("nan"),
                held_out=j.held_out,
                beside=j.beside,
                note=f"the night's lens on {len(radial)} stars; held out against the reference alone "
                f"{_rms(j.beside):.3f} px, {own.rms_pix:.3f} px by itself",
            )
            used += 1
        elif j.own_held_out is not None:
            radial = np.hypot(j.own_held_out.dx, j.own_held_out.dy)
            line = f"held out against the reference alone {frame.own.rms_pix:.3f} px"
            out[frame.number] = replace(
                _noted(frame.own, line),
                rms_pix=_rms(j.own_held_out),
                p95_pix=float(np.percentile(radial, 95)),
                held_out=j.own_held_out,
                beside=frame.own.held_out,
            )
    line = f"one lens of degree {fitted.camera.degree} on {night.ends[-1]} stars of {len(frames)} frames"
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
    """Against where the night's other frames put each star."""
    beside: HeldOut
    """The same stars against the reference's own sightings, as a frame by itself is judged."""
    own_held_out: HeldOut | None
    """The frame's own transform against where the other frames put each star; None where too few are known."""
    common: int
    """Stars that both were tested on."""
    gain: float
    """Mean square of the own residuals minus that of the lens', px**2, and its standard error."""
    gain_error: float
    own_variance: float
    lens_variance: float
    """Mean over the whole frame of the squared error that the stars' noise explains, px**2."""


def _judge(night: _Solved, n: int) -> _Judged:
    """Hold the lens' transform of the n-th frame beside its own."""
    home, model, fitted = night.home, night.model, night.fitted
    frame, p, base = night.frames[n], night.poses[n], night.poses[home]
    camera = fitted.camera
    air, air0 = model.air_at(fitted, n), model.air_at(fitted, home)
    zenith, zenith0 = (a.at(0) if a else None for a in (air, air0))
    transform = _compose(camera, model.shape, (p.pose, base.pose), (zenith, zenith0), frame.own.transform)
    # Stars that both this frame and the reference see, each predicted by the fold that left it out.
    _, i, j = np.intersect1d(p.seen.track, base.seen.track, return_indices=True)
    good = (p.seen.weight[i] > 0) & (base.seen.weight[j] > 0)
    i, j = i[good], j[good]
    fold = np.searchsorted(night.ends, p.seen.track[i], side="right")
    here, there = camera.basis(p.seen.x[i], p.seen.y[i]), camera.basis(base.seen.x[j], base.seen.y[j])
    d_here = derivatives(camera, here, p.pose, air, 0)
    d_there = derivatives(camera, there, base.pose, air0, 0)
    sky = np.column_stack(camera.look(*camera.straighten(here), p.pose, zenith))
    sky0 = np.column_stack(camera.look(*camera.straighten(there), base.pose, zenith0))
    # All with the star's fold left out: as this frame sees it, as the reference does, and as the others do.
    moves, moves0 = (np.hstack([fitted.common_folds, one.folds]) for one in (p, base))
    here = sky + np.einsum("nij,nj->ni", d_here, moves[fold])
    there = sky0 + np.einsum("nij,nj->ni", d_there, moves0[fold])
    known = np.isfinite(p.places[i]).all(axis=1)
    i, j, here, there = i[known], j[known], here[known], there[known]
    off, off_night = _to_pixels(
        camera, base.seen.x[j], base.seen.y[j], base.pose, zenith0, (here - there, here - p.places[i])
    )
    # A pair that is far off is a wrong one, by the rule of `fit.choose_model`.
    reduced = np.hypot(*off.T) * np.sqrt(p.seen.weight[i])
    sigma = np.median(reduced) / 1.1774 if len(i) else 1.0
    right = reduced <= 5.0 * (1.0 + 8.0 / max(len(i), 1)) * sigma
    off, off_night = off[right], off_night[right]
    a, b = night.which[n][i[right]], night.which[home][j[right]]
    # Blended stars may help to fit a pose, but are no measure of it.
    lone = ~(frame.stars.blended[a] | night.frames[home].stars.blended[b])
    if lone.sum() >= _TOLD:
        a, b, off, off_night = a[lone], b[lone], off[lone], off_night[lone]
    snr = np.minimum(frame.stars.snr[a], night.frames[home].stars.snr[b])
    at = frame.stars.x[a], frame.stars.y[a]
    held, held_night = (
        HeldOut(*(np.asarray(c, np.float32) for c in (*at, *errors.T, snr))) for errors in (off, off_night)
    )
    own = frame.own.held_out
    assert own is not None
    o, m = _same_places(own, held)
    gain, error, own_night = 0.0, np.inf, None
    if len(o):
        if len(o) >= _TOLD:
            # From the reference's sighting of a star to what the others say of it.
            moved = (off_night - off)[m].T.astype(np.float32)
            own_night = HeldOut(own.x[o], own.y[o], own.dx[o] + moved[0], own.dy[o] + moved[1], own.snr[o])
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
    own_variance = _own_variance(frame.own, grid)
    return _Judged(
        transform,
        held_night,
        held,
        own_night,
        len(o),
        gain,
        error,
        own_variance,
        lens_variance,
    )


def _same_places(one: HeldOut, other: HeldOut) -> tuple[np.ndarray, np.ndarray]:
    """Which of one's stars are which of another's, by their places, to the last bit."""
    mine, theirs = (
        np.ascontiguousarray(np.column_stack([s.x, s.y]), np.float32).view(np.int64).ravel()
        for s in (one, other)
    )
    _, o, m = np.intersect1d(mine, theirs, return_indices=True)
    order = np.argsort(o)
    return o[order], m[order]


def _rms(held: HeldOut) -> float:
    """Radial rms, px."""
    return float(np.sqrt(np.mean(held.dx**2 + held.dy**2))) if len(held) else float("nan")


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
    camera: Camera,
    x: np.ndarray,
    y: np.ndarray,
    pose: np.ndarray,
    zenith: np.ndarray | None,
    several: tuple[np.ndarray, ...],
) -> list[np.ndarray]:
    """Small differences on the sky's plane, several (n, 2), as those of native pixels of a frame, at (x, y)."""
    here = np.column_stack(camera.to_sky(x, y, pose, zenith))
    a, c = (np.column_stack(camera.to_sky(x + 0.5, y, pose, zenith)) - here).T / 0.5
    b, d = (np.column_stack(camera.to_sky(x, y + 0.5, pose, zenith)) - here).T / 0.5
    det = (a * d - b * c)[:, None]
    return [
        np.column_stack([d * off[:, 0] - b * off[:, 1], a * off[:, 1] - c * off[:, 0]]) / det
        for off in several
    ]


def _compose(
    camera: Camera,
    shape: tuple[int, int],
    poses: tuple[np.ndarray, np.ndarray],
    zeniths: tuple[np.ndarray | None, np.ndarray | None],
    start: Transform,
) -> Transform | None:
    """Frame to sky to reference as one polynomial over the whole frame; None if none follows it."""
    domain = (0.0, 0.0, shape[1] - 1.0, shape[0] - 1.0)
    grid, test = grid_points(domain, 17), grid_points(domain, 14)
    both = np.vstack([grid, test])
    gx, gy = grid.T
    first = fit_transform(gx, gy, *start(gx, gy), None, "similarity", 1, domain)
    sky = camera.to_sky(both[:, 0], both[:, 1], poses[0], zeniths[0])
    x, y = camera.from_sky(*sky, poses[1], zeniths[1], first(both[:, 0], both[:, 1]))
    n = len(grid)
    if np.all(np.isfinite(x)):
        seen = np.column_stack([x, y])
        for degree in range(2, 6):
            t, off = fit_on_grid(seen[:n], 17, seen[n:], 14, degree, domain)
            if off <= (0.2 if degree < 5 else 1.0) * _EXACT:
                return t
    return None

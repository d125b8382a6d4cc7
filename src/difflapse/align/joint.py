"""One least-squares fit of a night's camera, air and poses to the stars that its frames share.

The places of the stars are unknown: each is eliminated from the normal equations, exactly (variable projection), so
that what remains is one lens, the air, and four numbers for each frame. Nothing here makes tracks: that is `lens`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from difflapse.align._joint_kernels import derive, eliminate, gather, mean_places, misfit, solve_symmetric
from difflapse.align.camera import Camera, across, look_along, turn_about

FOLDS = 5
_POSE = 4
_CLIP = 5.0
_LOOSE = 0.003
"""Expected size of a term of the distortion, in half diagonals; what the stars do not tell stays below it."""
_SQUARE = 1e-3
_STEPS = 10
_SETTLED = 2.0
"""A step that gains less, in chi squared, is the last."""


@dataclass(frozen=True, eq=False)
class Air:
    """Where the zenith was; it goes round the celestial pole as the sky turns."""

    zenith: np.ndarray
    """(3,) at the reference's time, in the reference's axes."""
    pole: np.ndarray
    """(3,) axis about which the zenith turns, right-handed in those axes."""
    angle: np.ndarray
    """(k,) radians that the sky has turned since the reference, for each frame."""
    free: bool = False
    """Whether zenith and pole are to be fitted: they are guesses."""

    def zeniths(self) -> np.ndarray:
        """(k, 3): direction of the zenith at each frame's time."""
        return turn_about(self.pole, self.angle, self.zenith)

    def at(self, k: int) -> np.ndarray:
        """(3,): direction of the zenith at one frame's time."""
        return np.asarray(turn_about(self.pole, self.angle[k : k + 1], self.zenith)[0])

    def nudged(self, by: np.ndarray) -> Air:
        """With the zenith moved by two small angles, and the pole by two."""
        return replace(self, zenith=_nudged(self.zenith, by[:2]), pole=_nudged(self.pole, by[2:]))


@dataclass(frozen=True, eq=False)
class Seen:
    """The stars of one frame that are tracked."""

    track: np.ndarray
    """(n,) int, ascending: which star of the night."""
    x: np.ndarray
    y: np.ndarray
    """(n,) native pixels."""
    weight: np.ndarray
    """(n,) inverse variance of a position's coordinate, px**-2, up to a factor."""


@dataclass(frozen=True, eq=False)
class Joint:
    """A fitted night."""

    camera: Camera
    poses: np.ndarray
    """(k, 4), see `Camera.look`; the reference's are zeros."""
    air: Air | None
    star: np.ndarray
    """(n_tracks, 2): stars on the sky's plane, px; NaN where nothing good is left."""
    star_weight: np.ndarray
    """(n_tracks,) inverse variance of each of their coordinates."""
    weights: tuple[np.ndarray, ...]
    """For each frame (n,): inverse variance of its positions as the residuals tell, 0 where clipped."""
    common_folds: np.ndarray
    """(FOLDS, n): what is added to camera and air (see `derivatives`) where a fold's stars are left out."""
    pose_folds: np.ndarray
    """(FOLDS, k, 4): the same of the poses."""
    star_folds: np.ndarray
    """(FOLDS, n_tracks, 2): the same of the stars."""
    held: np.ndarray
    """(n_tracks,) sum of squared held-out residuals, weighted."""


def fit_joint(
    seen: list[Seen],
    reference: int,
    fold_ends: np.ndarray,
    camera: Camera,
    poses: np.ndarray,
    air: Air | None,
    strength: tuple[float, float],
    focal_error: float,
    steps: int = _STEPS,
) -> Joint:
    """Fit camera, air and poses to tracked stars.

    Parameters
    ----------
    seen : list of Seen
        One for each frame.
    reference : int
        The frame whose axes are kept, and whose pose is not fitted.
    fold_ends : ndarray, shape (FOLDS,)
        Tracks are numbered by folds: fold f has those below ``fold_ends[f]``.
    camera : Camera
        A first guess, of the degree wanted; terms that the stars do not tell stay near it.
    poses : ndarray, shape (k, 4)
        A first guess.
    air : Air or None
        None: no refraction.
    strength : (float, float)
        Expected refraction, 1 at 1010 hPa and 10 C, and its relative error.
    focal_error : float
        Relative error of the focal length guessed.
    steps : int
        At most; few for a rough fit.

    Returns
    -------
    Joint

    Notes
    -----
    Levenberg-Marquardt; a position more than 5 robust standard deviations of its frame from its star's mean
    counts nothing. The cost is that of ``(2 tracks) * (terms + 4 frames)**2``.
    """
    problem = _Problem(seen, reference, fold_ends, camera, air, strength, focal_error)
    state = _State(replace(camera, refraction=strength[0] if air else 0.0), poses.copy(), air)
    weights = problem.weight.copy()
    for step in range(steps):
        # The clipping settles first: while it changes, so does what is minimised.
        if step < 5:
            weights = problem.reweigh(state, weights, soft=step == 0)
        normal, right, _ = problem.equations(state, weights)
        before = problem.cost(state, weights)
        # Where lens, curvature and air can stand for one another the valley is long and bent: shorter steps then.
        for brake in (0.0, 1.0, 10.0, 1e2, 1e3, 1e4, 1e6):
            damped = problem.stiffness.copy()
            damped[: problem.common] *= 1.0 + brake
            delta = _solved(normal[0] + np.diag(damped), right[0] + problem.pull(state))
            trial = problem.moved(state, delta)
            after = problem.cost(trial, weights)
            if after <= before * (1 + 1e-12):
                break
        else:
            break
        state, problem.brake = trial, brake
        if step >= 3 and before - after < _SETTLED * (1.0 + after / problem.count):
            break
    return problem.finish(state, weights)


@dataclass(frozen=True, eq=False)
class _State:
    camera: Camera
    poses: np.ndarray
    air: Air | None


class _Problem:
    """The fixed parts of a fit: who saw what, and what is expected of the parameters.

    The stars of all frames stand in one row, frame after frame: `part` says where each frame's are.
    """

    def __init__(
        self,
        seen: list[Seen],
        reference: int,
        fold_ends: np.ndarray,
        camera: Camera,
        air: Air | None,
        strength: tuple[float, float],
        focal_error: float,
    ) -> None:
        self.frames = len(seen)
        self.reference = reference
        self.fold_ends = fold_ends
        self.n_tracks = int(fold_ends[-1])
        self.brake = 0.0
        self.placed: tuple[_State, np.ndarray] | None = None
        ends = np.cumsum([0, *(len(s.x) for s in seen)])
        self.part = [slice(a, b) for a, b in pairwise(ends)]
        self.track = np.concatenate([s.track for s in seen])
        self.weight = np.concatenate([s.weight for s in seen])
        self.basis = camera.basis(np.concatenate([s.x for s in seen]), np.concatenate([s.y for s in seen]))
        self.count = len(self.track)
        self.guess = camera
        self.strength = strength
        self.terms = camera.coefficients.shape[1]
        spread = [_LOOSE * camera.radius] * (2 * self.terms) + [_SQUARE * camera.radius] * 2
        spread += [2.0 * focal_error * camera.curvature]
        if air is not None:
            spread += [strength[0] * strength[1]] + ([1.0] * 4 if air.free else [])
        self.common = len(spread)
        self.size = self.common + _POSE * (self.frames - 1)
        self.stiffness = np.zeros(self.size)
        self.stiffness[: self.common] = 1.0 / np.square(spread)
        # Poses are free; a trace of stiffness keeps a frame without stars from being singular.
        self.stiffness[self.common :] = 1e-9

    def columns(self, k: int) -> slice:
        """Where the pose of a frame stands among the parameters; empty for the reference."""
        if k == self.reference:
            return slice(self.common, self.common)
        start = self.common + _POSE * (k - (k > self.reference))
        return slice(start, start + _POSE)

    def positions(self, state: _State) -> np.ndarray:
        """(n, 2): places of all frames' stars on the sky's plane."""
        if self.placed is not None and self.placed[0] is state:
            return self.placed[1]
        views = state.camera.views(state.poses, state.air.zeniths() if state.air else None)
        u, v = state.camera.straighten(self.basis)
        out = np.empty((2, self.count))
        for view, part in zip(views, self.part, strict=True):
            look_along(u[part], v[part], *view[:7], view[7:], out[0, part], out[1, part])
        self.placed = state, np.ascontiguousarray(out.T)
        return self.placed[1]

    def stars(self, positions: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weighted mean place of each star, and its weight."""
        return mean_places(positions, weights, self.track, self.n_tracks)  # type: ignore[no-any-return]

    def residuals(self, state: _State, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, 2), and the weight of each star."""
        positions = self.positions(state)
        star, total = self.stars(positions, weights)
        return positions - star[self.track], total

    def cost(self, state: _State, weights: np.ndarray) -> float:
        positions = self.positions(state)
        star, _ = self.stars(positions, weights)
        away = self.offsets(state)
        return float(
            misfit(positions, star, weights, self.track) + np.sum(self.stiffness[: self.common] * away**2)
        )

    def offsets(self, state: _State) -> np.ndarray:
        """How far the common parameters lie from what is expected of them."""
        c, g = state.camera, self.guess
        away = [*(c.coefficients - g.coefficients).ravel(), *c.shear, c.curvature - g.curvature]
        if state.air is not None:
            away.append(c.refraction - self.strength[0])
            if state.air.free:
                away += [0.0] * 4
        return np.array(away)

    def pull(self, state: _State) -> np.ndarray:
        out = np.zeros(self.size)
        out[: self.common] = -self.stiffness[: self.common] * self.offsets(state)
        return out

    def moved(self, state: _State, delta: np.ndarray) -> _State:
        c, n = state.camera, self.terms
        camera = replace(
            c,
            coefficients=c.coefficients + delta[: 2 * n].reshape(2, n),
            shear=c.shear + delta[2 * n : 2 * n + 2],
            curvature=c.curvature + float(delta[2 * n + 2]),
        )
        air = state.air
        if air is not None:
            # Air bends real directions: the sky cannot be flat then, nor the air thinner than none.
            camera = replace(
                camera,
                refraction=max(c.refraction + float(delta[2 * n + 3]), 1e-3),
                curvature=max(camera.curvature, 0.1 * c.curvature),
            )
            if air.free:
                air = air.nudged(delta[2 * n + 4 : 2 * n + 8])
        poses = state.poses.copy()
        for k in range(self.frames):
            if k != self.reference:
                poses[k] += delta[self.columns(k)]
        return _State(camera, poses, air)

    def reweigh(self, state: _State, weights: np.ndarray, soft: bool) -> np.ndarray:
        """Weights by each frame's own scatter, and none for what is far off."""
        residuals, total = self.residuals(state, weights)
        rest = total[self.track]
        # A position pulls its star's mean towards itself: its residual is smaller than its error.
        with np.errstate(invalid="ignore", divide="ignore"):
            shrink = 1.0 - np.clip(weights / rest, 0.0, 0.9)
            reduced = np.sqrt((residuals[:, 0] ** 2 + residuals[:, 1] ** 2) * self.weight / shrink)
        good = np.isfinite(reduced) & (weights < 0.7 * rest)
        out = np.zeros(self.count)
        for part in self.part:
            off, fine = reduced[part], good[part]
            n = int(fine.sum())
            sigma = max(float(np.median(off[fine])) / 1.1774 if n > 4 else 1.0, 1e-6)
            new = self.weight[part] / sigma**2
            far = ~(off < _CLIP * (1.0 + 8.0 / max(n, 1)) * sigma)
            new[far] = new[far] * np.minimum(1.0, (2.0 * sigma / off[far]) ** 2) if soft else 0.0
            out[part] = np.nan_to_num(new)
        return out

    def equations(
        self, state: _State, weights: np.ndarray, by_fold: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Normal equations with the stars eliminated, of each fold or of all: (f, p, p), of which the upper half
        counts, and (f, p); and the stars' sums (n_tracks, 2, p) of weighted derivatives.
        """
        ends = self.fold_ends if by_fold else np.array([self.n_tracks])
        normal = np.zeros((len(ends), self.size, self.size))
        right = np.zeros((len(ends), self.size))
        sums = np.zeros((self.n_tracks, 2, self.size))
        residuals, total = self.residuals(state, weights)
        c = self.common
        u, v = state.camera.straighten(self.basis)
        views = _views(state.camera, state.poses, state.air)
        for k, part in enumerate(self.part):
            jacobian = np.empty((part.stop - part.start, 2, c + _POSE))
            derive(self.basis[part], u[part], v[part], *views[k], jacobian)
            own = self.columns(k)
            p = c + own.stop - own.start
            start = part.start
            for f, end in enumerate(part.start + np.searchsorted(self.track[part], ends)):
                block, gradient = np.zeros((p, p)), np.zeros(p)
                some = slice(start, end)
                gather(
                    self.basis[some],
                    jacobian[start - part.start : end - part.start],
                    residuals[some],
                    weights[some],
                    self.track[some],
                    c,
                    own.start,
                    block,
                    gradient,
                    sums,
                )
                normal[f, :c, :c] += block[:c, :c]
                normal[f, :c, own] += block[:c, c:]
                normal[f, own, own] += block[c:, c:]
                right[f, :c] -= gradient[:c]
                right[f, own] -= gradient[c:]
                start = end
        start = 0
        for f, end in enumerate(ends):
            eliminate(sums[start:end], total[start:end], normal[f])
            start = end
        return normal, right, sums

    def finish(self, state: _State, weights: np.ndarray) -> Joint:
        """The result, with what it would be without each fold's stars: one more step from here for each."""
        normal, right, sums = self.equations(state, weights, by_fold=True)
        stiff, pull = self.stiffness.copy(), self.pull(state)
        stiff[: self.common] *= 1.0 + self.brake
        whole, rest = normal.sum(0) + np.diag(stiff), right.sum(0) + pull
        here = _solved(whole, rest)
        folds = np.array([_solved(whole - normal[f], rest - right[f]) - here for f in range(len(normal))])
        positions = self.positions(state)
        star, total = self.stars(positions, weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            star_folds = np.moveaxis(sums @ folds.T / total[:, None, None], 2, 0)
        pose_folds = np.zeros((len(folds), self.frames, _POSE))
        for k in range(self.frames):
            if k != self.reference:
                pose_folds[:, k] = folds[:, self.columns(k)]
        held = np.zeros(self.n_tracks)
        u, v = state.camera.straighten(self.basis)
        views = _views(state.camera, state.poses, state.air)
        for k, part in enumerate(self.part):
            jacobian = np.empty((part.stop - part.start, 2, self.common + _POSE))
            derive(self.basis[part], u[part], v[part], *views[k], jacobian)
            track, w = self.track[part], weights[part]
            fold = np.searchsorted(self.fold_ends, track, side="right")
            moves = np.hstack([folds[:, : self.common], pose_folds[:, k]])[fold]
            r = positions[part] - star[track] + np.einsum("nij,nj->ni", jacobian, moves)
            r -= star_folds[fold, track]
            held[track] += np.where(w > 0, self.weight[part] * np.sum(r**2, axis=1), 0.0)
        return Joint(
            state.camera,
            state.poses,
            state.air,
            star,
            total,
            tuple(weights[part] for part in self.part),
            folds[:, : self.common],
            pose_folds,
            star_folds,
            held,
        )


def _solved(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solution of normal equations, given by their upper half."""
    solution, determined = solve_symmetric(matrix, right)
    if not determined:
        raise np.linalg.LinAlgError("the stars do not determine the lens")
    return solution  # type: ignore[no-any-return]


def derivatives(camera: Camera, basis: np.ndarray, pose: np.ndarray, air: Air | None, k: int) -> np.ndarray:
    """Derivatives of a frame's positions on the sky, shape (n, 2, common + 4).

    The common parameters are the lens' terms of x, then of y, its shear, the sky's curvature, then the strength of
    the refraction, and two angles of the zenith and two of the pole, as far as there is air and they are free; the
    pose's four come last.
    """
    one = replace(air, angle=air.angle[k : k + 1]) if air else None
    views, steps = _views(camera, pose[None], one)[0]
    # The moved views are all but the first; roll and scale need none.
    out = np.empty((len(basis), 2, 2 * (basis.shape[1] - 3) + 2 + len(views) - 1 + 2))
    derive(basis, *camera.straighten(basis), views, steps, out)
    return out


def _views(camera: Camera, poses: np.ndarray, air: Air | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each frame what `derive` needs: how it looks, then with each parameter in turn moved, and the steps."""
    zeniths: list[np.ndarray] = [] if air is None else [air.zeniths()]
    rounder = replace(camera, curvature=camera.curvature + 1e-5)
    denser = replace(camera, refraction=camera.refraction + 1e-3)
    up = zeniths[0] if zeniths else None
    steps = [1.0, 1e-5]
    views = [camera.views(poses, up), rounder.views(poses, up)]
    if air is not None:
        steps.append(1e-3)
        views.append(denser.views(poses, up))
        if air.free:
            steps += [1e-4] * 4
            views += [camera.views(poses, air.nudged(step).zeniths()) for step in 1e-4 * np.eye(4)]
    for place in (2, 3):
        # The middle's place is the only part of a view that moves with it.
        steps.append(1.0)
        views.append(views[0].copy())
        views[-1][:, place] += 1.0
    together = np.stack(views, axis=1)
    return [(one, np.array(steps)) for one in together]


def _nudged(direction: np.ndarray, by: np.ndarray) -> np.ndarray:
    """A direction moved by two small angles across itself."""
    by = np.clip(by, -0.3, 0.3)
    side = across(direction, np.eye(3)[np.argmin(np.abs(direction))])
    side /= np.linalg.norm(side)
    out = direction + by[0] * side + by[1] * across(direction, side)
    return out / np.linalg.norm(out)

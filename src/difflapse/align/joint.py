"""One least-squares fit of a night's camera, air and poses to the stars that its frames share.

The places of the stars are unknown: each is eliminated from the normal equations, exactly (variable projection), so
that what remains is one lens, the air, and four numbers for each frame. Nothing here makes tracks: that is `lens`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from difflapse.align.camera import Camera, across, turn_about

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
    weights = [s.weight.copy() for s in seen]
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
            delta = np.linalg.solve(normal[0] + np.diag(damped), right[0] + problem.pull(state))
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
    """The fixed parts of a fit: who saw what, and what is expected of the parameters."""

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
        self.seen = seen
        self.reference = reference
        self.fold_ends = fold_ends
        self.n_tracks = int(fold_ends[-1])
        self.brake = 0.0
        self.count = sum(len(s.x) for s in seen)
        self.guess = camera
        self.guess_air = air
        self.strength = strength
        self.bases = [camera.basis(s.x, s.y) for s in seen]
        self.terms = camera.coefficients.shape[1]
        spread = [_LOOSE * camera.radius] * (2 * self.terms) + [_SQUARE * camera.radius] * 2
        spread += [2.0 * focal_error * camera.curvature]
        if air is not None:
            spread += [strength[0] * strength[1]] + ([1.0] * 4 if air.free else [])
        self.common = len(spread)
        self.size = self.common + _POSE * (len(seen) - 1)
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

    def positions(self, state: _State) -> list[np.ndarray]:
        zeniths = state.air.zeniths() if state.air else None
        return [
            np.column_stack(
                state.camera.look(
                    *state.camera.straighten(basis), state.poses[k], None if zeniths is None else zeniths[k]
                )
            )
            for k, basis in enumerate(self.bases)
        ]

    def stars(self, positions: list[np.ndarray], weights: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Weighted mean place of each star, and its weight."""
        total = np.zeros(self.n_tracks)
        sums = np.zeros((self.n_tracks, 2))
        for s, at, w in zip(self.seen, positions, weights, strict=True):
            total[s.track] += w
            sums[s.track] += w[:, None] * at
        with np.errstate(invalid="ignore", divide="ignore"):
            return sums / total[:, None], total

    def residuals(self, state: _State, weights: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
        positions = self.positions(state)
        star, total = self.stars(positions, weights)
        return [at - star[s.track] for s, at in zip(self.seen, positions, strict=True)], total

    def cost(self, state: _State, weights: list[np.ndarray]) -> float:
        residuals, _ = self.residuals(state, weights)
        data = sum(
            float(np.sum(w[w > 0, None] * r[w > 0] ** 2)) for r, w in zip(residuals, weights, strict=True)
        )
        away = self.offsets(state)
        return data + float(np.sum(self.stiffness[: self.common] * away**2))

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
                zenith = _nudged(air.zenith, delta[2 * n + 4 : 2 * n + 6])
                air = replace(air, zenith=zenith, pole=_nudged(air.pole, delta[2 * n + 6 : 2 * n + 8]))
        poses = state.poses.copy()
        for k in range(len(self.seen)):
            if k != self.reference:
                poses[k] += delta[self.columns(k)]
        return _State(camera, poses, air)

    def reweigh(self, state: _State, weights: list[np.ndarray], soft: bool) -> list[np.ndarray]:
        """Weights by each frame's own scatter, and none for what is far off."""
        residuals, total = self.residuals(state, weights)
        out = []
        for s, r, w in zip(self.seen, residuals, weights, strict=True):
            rest = total[s.track]
            # A position pulls its star's mean towards itself: its residual is smaller than its error.
            with np.errstate(invalid="ignore", divide="ignore"):
                shrink = np.sqrt(1.0 - np.clip(w / rest, 0.0, 0.9))
                reduced = np.hypot(*r.T) * np.sqrt(s.weight) / shrink
            good = np.isfinite(reduced) & (w < 0.7 * rest)
            sigma = float(np.median(reduced[good])) / 1.1774 if good.sum() > 4 else 1.0
            sigma = max(sigma, 1e-6)
            new = s.weight / sigma**2
            far = ~(reduced < _CLIP * (1.0 + 8.0 / max(int(good.sum()), 1)) * sigma)
            new[far] = new[far] * np.minimum(1.0, (2.0 * sigma / reduced[far]) ** 2) if soft else 0.0
            out.append(np.nan_to_num(new))
        return out

    def equations(
        self, state: _State, weights: list[np.ndarray], by_fold: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Normal equations with the stars eliminated, of each fold or of all: (f, p, p) and (f, p); and the stars' sums
        (n_tracks, 2, p) of weighted derivatives.
        """
        ends = self.fold_ends if by_fold else np.array([self.n_tracks])
        normal = np.zeros((len(ends), self.size, self.size))
        right = np.zeros((len(ends), self.size))
        sums = np.zeros((self.n_tracks, 2, self.size))
        residuals, total = self.residuals(state, weights)
        c = self.common
        for k, (s, r, w) in enumerate(zip(self.seen, residuals, weights, strict=True)):
            jacobian = derivatives(state.camera, self.bases[k], state.poses[k], state.air, k)
            if k == self.reference:
                jacobian = jacobian[:, :, :c]
            own = self.columns(k)
            weighted = jacobian * w[:, None, None]
            sums[s.track, :, :c] += weighted[:, :, :c]
            sums[s.track, :, own] = weighted[:, :, c:]
            start = 0
            r = np.where(w[:, None] > 0, r, 0.0)
            for f, end in enumerate(np.searchsorted(s.track, ends)):
                a = jacobian[start:end].reshape(-1, jacobian.shape[2])
                b = weighted[start:end].reshape(-1, jacobian.shape[2])
                block = b.T @ a
                normal[f, :c, :c] += block[:c, :c]
                normal[f, :c, own] += block[:c, c:]
                normal[f, own, :c] += block[c:, :c]
                normal[f, own, own] += block[c:, c:]
                gradient = b.T @ r[start:end].ravel()
                right[f, :c] -= gradient[:c]
                right[f, own] -= gradient[c:]
                start = end
        with np.errstate(divide="ignore"):
            root = np.where(total > 0, 1.0 / np.sqrt(total), 0.0)
        start = 0
        for f, end in enumerate(ends):
            part = (sums[start:end] * root[start:end, None, None]).reshape(-1, self.size)
            normal[f] -= part.T @ part
            start = end
        return normal, right, sums

    def finish(self, state: _State, weights: list[np.ndarray]) -> Joint:
        """The result, with what it would be without each fold's stars: one more step from here for each."""
        normal, right, sums = self.equations(state, weights, by_fold=True)
        stiff, pull = self.stiffness.copy(), self.pull(state)
        stiff[: self.common] *= 1.0 + self.brake
        whole, rest = normal.sum(0) + np.diag(stiff), right.sum(0) + pull
        here = np.linalg.solve(whole, rest)
        folds = np.array(
            [np.linalg.solve(whole - normal[f], rest - right[f]) - here for f in range(len(normal))]
        )
        positions = self.positions(state)
        star, total = self.stars(positions, weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            star_folds = np.moveaxis(sums @ folds.T / total[:, None, None], 2, 0)
        pose_folds = np.zeros((len(folds), len(self.seen), _POSE))
        for k in range(len(self.seen)):
            if k != self.reference:
                pose_folds[:, k] = folds[:, self.columns(k)]
        held = np.zeros(self.n_tracks)
        for k, (s, at, w) in enumerate(zip(self.seen, positions, weights, strict=True)):
            jacobian = derivatives(state.camera, self.bases[k], state.poses[k], state.air, k)
            fold = np.searchsorted(self.fold_ends, s.track, side="right")
            moves = np.hstack([folds[:, : self.common], pose_folds[:, k]])[fold]
            r = at - star[s.track] + np.einsum("nij,nj->ni", jacobian, moves) - star_folds[fold, s.track]
            held[s.track] += np.where(w > 0, s.weight * np.sum(r**2, axis=1), 0.0)
        return Joint(
            state.camera,
            state.poses,
            state.air,
            star,
            total,
            tuple(weights),
            folds[:, : self.common],
            pose_folds,
            star_folds,
            held,
        )


def derivatives(camera: Camera, basis: np.ndarray, pose: np.ndarray, air: Air | None, k: int) -> np.ndarray:
    """Derivatives of a frame's positions on the sky, shape (n, 2, common + 4).

    The common parameters are the lens' terms of x, then of y, its shear, the sky's curvature, then the strength of
    the refraction, and two angles of the zenith and two of the pole, as far as there is air and they are free; the
    pose's four come last.
    """
    u, v = camera.straighten(basis)
    zenith = air.at(k) if air else None
    here = np.column_stack(camera.look(u, v, pose, zenith))

    def change(at: tuple[np.ndarray, np.ndarray], step: float) -> np.ndarray:
        return (np.column_stack(at) - here) / step

    du = change(camera.look(u + 1.0, v, pose, zenith), 1.0)
    dv = change(camera.look(u, v + 1.0, pose, zenith), 1.0)
    p, q = basis[:, 1, None], basis[:, 2, None]
    parts = [du[:, :, None] * basis[:, None, 3:], dv[:, :, None] * basis[:, None, 3:]]
    rounder = replace(camera, curvature=camera.curvature + 1e-5)
    columns = [du * p - dv * q, du * q + dv * p, change(rounder.look(u, v, pose, zenith), 1e-5)]
    if air is not None:
        denser = replace(camera, refraction=camera.refraction + 1e-3)
        columns.append(change(denser.look(u, v, pose, zenith), 1e-3))
        if air.free:
            moved = [_zenith_with(air, k, i, 1e-4) for i in range(4)]
            columns += [change(camera.look(u, v, pose, there), 1e-4) for there in moved]
    columns += [change(camera.look(u, v, pose + step, zenith), 1.0) for step in np.eye(_POSE)[:2]]
    columns += [-du * v[:, None] + dv * u[:, None], du * u[:, None] + dv * v[:, None]]
    return np.concatenate([*parts, np.stack(columns, axis=2)], axis=2)


def _zenith_with(air: Air, k: int, which: int, step: float) -> np.ndarray:
    """Zenith of frame k with one of the four angles of the air moved."""
    move = np.zeros(2)
    move[which % 2] = step
    zenith, pole = (
        (_nudged(air.zenith, move), air.pole) if which < 2 else (air.zenith, _nudged(air.pole, move))
    )
    return turn_about(pole, air.angle[k : k + 1], zenith)[0]


def _nudged(direction: np.ndarray, by: np.ndarray) -> np.ndarray:
    """A direction moved by two small angles across itself."""
    by = np.clip(by, -0.3, 0.3)
    side = across(direction, np.eye(3)[np.argmin(np.abs(direction))])
    side /= np.linalg.norm(side)
    out = direction + by[0] * side + by[1] * across(direction, side)
    return out / np.linalg.norm(out)

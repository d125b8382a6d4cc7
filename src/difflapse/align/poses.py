"""Where each frame of a night points, given its lens and its stars, and given its neighbours in time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from difflapse.align._joint_kernels import by_fold
from difflapse.align.joint import FOLDS, Air, Joint, Seen, derivatives

_NEIGHBOURS = 10


@dataclass(frozen=True, eq=False)
class Pose:
    """What a frame's stars, given lens and catalogue, say of its pose, and the same without each fold."""

    pose: np.ndarray
    """(4,)."""
    information: np.ndarray
    """(FOLDS, 4, 4): of each fold's stars."""
    folds: np.ndarray
    """(FOLDS, 4): added to the pose where the fold's stars are left out."""
    seen: Seen
    """Its stars; their weights are against the catalogue, 0 where clipped."""
    places: np.ndarray
    """(n, 2): where on the sky's plane the other frames' sightings put each of its stars, while the lens was fitted
    without that star's fold."""


def pose_of(
    fitted: Joint, s: Seen, ends: np.ndarray, place: int | None, first: np.ndarray, air: Air | None
) -> Pose:
    """A frame's pose given lens and stars: that of the joint fit, or fitted to them where it took no part.

    Parameters
    ----------
    fitted : Joint
        The night.
    s : Seen
        The frame's stars.
    ends : ndarray
        Of the folds, see `fit_joint`.
    place : int or None
        The frame's place in the joint fit.
    first : ndarray, shape (4,)
        A guess, for a frame that took no part.
    air : Air or None
        At the frame's time alone.
    """
    camera = fitted.camera
    basis = camera.basis(s.x, s.y)
    fold = np.searchsorted(ends, s.track, side="right")
    star, total = fitted.star[s.track], fitted.star_weight[s.track]
    common = fitted.common_folds.shape[1]
    places = star + fitted.star_folds[fold, s.track]
    if place is not None:
        pose, w, folds = fitted.poses[place], fitted.weights[place], fitted.pose_folds[:, place]
        whole = derivatives(camera, basis, pose, air, 0)
        jacobian = whole[:, :, common:]
        # The star's mean holds what this frame saw of it: that is taken out again.
        at = np.column_stack(camera.look(*camera.straighten(basis), pose, air.at(0) if air else None))
        at += np.einsum("nij,nj->ni", whole, np.hstack([fitted.common_folds, folds])[fold])
        with np.errstate(divide="ignore", invalid="ignore"):
            places = places + (w / (total - w))[:, None] * (places - at)
        # What the star's mean without this frame weighs, and this frame against it.
        with np.errstate(divide="ignore", invalid="ignore"):
            w = np.where(w > 0, w * (1.0 - w / total), 0.0)
    else:
        pose, w = _fit_pose(fitted, s, basis, first, air)
        whole = derivatives(camera, basis, pose, air, 0)
        jacobian = whole[:, :, common:]
        at = np.column_stack(camera.look(*camera.straighten(basis), pose, air.at(0) if air else None))
        r = np.where(w[:, None] > 0, at - star, 0.0)
        folds = np.zeros((FOLDS, 4))
        for f in range(FOLDS):
            left = w * (fold != f)
            moved = r + whole[:, :, :common] @ fitted.common_folds[f]
            moved -= np.nan_to_num(fitted.star_folds[f, s.track])
            folds[f] = solve_scaled(
                np.einsum("nij,n,nik->jk", jacobian, left, jacobian),
                -np.einsum("nij,n,ni->j", jacobian, left, moved),
            )
    information = by_fold(jacobian, w, fold, FOLDS)
    return Pose(pose, information, folds, replace(s, weight=w), places)


def _fit_pose(
    fitted: Joint, s: Seen, basis: np.ndarray, first: np.ndarray, air: Air | None
) -> tuple[np.ndarray, np.ndarray]:
    """A pose by least squares on stars whose places are known, and the weights of what was not clipped."""
    camera = fitted.camera
    star, total = fitted.star[s.track], fitted.star_weight[s.track]
    straight = camera.straighten(basis)
    zenith = air.at(0) if air else None
    pose, w = first, np.zeros(len(s.x))
    for _ in range(8):
        r = np.column_stack(camera.look(*straight, pose, zenith)) - star
        reduced = np.hypot(*r.T) * np.sqrt(s.weight)
        good = np.isfinite(reduced) & (total > 0)
        if good.sum() < 3:
            return pose, np.zeros(len(s.x))
        sigma = max(float(np.median(reduced[good])) / 1.1774, 1e-6)
        good &= reduced < 5.0 * (1.0 + 8.0 / good.sum()) * sigma
        w = np.where(good, 1.0 / (sigma**2 / s.weight + 1.0 / np.where(total > 0, total, 1.0)), 0.0)
        jacobian = derivatives(camera, basis, pose, air, 0)[:, :, -4:]
        r = np.where(good[:, None], r, 0.0)
        step = solve_scaled(
            np.einsum("nij,n,nik->jk", jacobian, w, jacobian), -np.einsum("nij,n,ni->j", jacobian, w, r)
        )
        pose = pose + step
        if np.abs(step[:2]).max() < 1e-5 and np.abs(step[2:]).max() < 1e-9:
            break
    return pose, w


def with_neighbours(poses: list[Pose], times: np.ndarray) -> list[Pose]:
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
        near = _neighbours(times, np.isfinite(spread[:, c]), alike)
        for _ in range(3):
            gain, error = _line_through_neighbours(times, spread[:, c] + scatter, near)
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
        pose = p.pose + solve_scaled(stars + stiff, trust[k] * away[0, k])
        folds = [
            without[f, k] + solve_scaled(stars - p.information[f] + stiff, trust[k] * away[1 + f, k]) - pose
            for f in range(FOLDS)
        ]
        out.append(replace(p, pose=pose, folds=np.array(folds)))
    return out


def _neighbours(times: np.ndarray, known: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """Each frame's nearest neighbours in time, (n, _NEIGHBOURS), -1 where there are no more; none of fewer than 4."""
    near = np.full((len(times), _NEIGHBOURS), -1)
    for k in range(len(times)):
        some = np.flatnonzero(alike[k] & known)
        some = some[np.argsort(np.abs(times[some] - times[k]), kind="stable")[:_NEIGHBOURS]]
        if len(some) >= 4:
            near[k, : len(some)] = some
    return near


def _line_through_neighbours(
    times: np.ndarray, variance: np.ndarray, near: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Straight lines through each frame's nearest neighbours in time, the frame itself left out.

    Returns the weights (n, n) that make the value at each frame of those at the others, and the variances; infinite
    where there are no neighbours.
    """
    n = len(times)
    gain, error = np.zeros((n, n)), np.full(n, np.inf)
    some = np.flatnonzero(near[:, 0] >= 0)
    if not len(some):
        return gain, error
    near, told = near[some], near[some] >= 0
    t = np.where(told, times[near] - times[some, None], 0.0)
    width = 1.2 * np.abs(t).max(axis=1, keepdims=True)
    width[width == 0] = 1.0
    w = np.where(told, (1 - (np.abs(t) / width) ** 3) ** 3 / np.maximum(variance[near], 1e-30), 0.0)
    basis = np.stack([np.ones_like(t), t / width], axis=-1)
    weighted = (basis * w[..., None]).transpose(0, 2, 1)
    inverse = np.linalg.pinv(weighted @ basis, hermitian=True)
    own = (inverse[:, :1] @ weighted)[:, 0]
    rows = np.broadcast_to(some[:, None], near.shape)
    gain[rows[told], near[told]] = own[told]
    error[some] = np.sum(np.where(told, own**2 * variance[near], 0.0), axis=1)
    return gain, error


def solve_scaled(normal: np.ndarray, right: np.ndarray) -> np.ndarray:
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

"""Pairs of star lists, alike and unlike: how many are aligned, how many wrongly believed, and how long it
takes.

    python benchmarks/asterism_pairs.py [PAIRS] [SEED]

Alike: the same sky, flipped or mirrored at random, scaled 0.5 to 2, drifted up to half a frame, lists of up
to 20,000 stars, up to 80 % lost to clouds, 30 % spurious, at least 6 (by default) in common. Unlike: two
different skies.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np

from difflapse.align.asterism import find
from difflapse.align.view import AlignOptions, Reduced, View
from difflapse.errors import AlignError
from difflapse.model import FrameFacts, Stars


@dataclass(frozen=True)
class Pair:
    frame: View
    reference: View
    truth: np.ndarray
    """(2, 3): frame to reference."""
    common: int
    what: str


def view(x: np.ndarray, y: np.ndarray, flux: np.ndarray, shape: tuple[int, int]) -> View:
    order = np.argsort(-flux, kind="stable")
    n = len(x)
    snr = np.clip(np.sqrt(flux), 5, 1000)
    stars = Stars(
        x[order], y[order], flux[order], snr[order], np.full(n, 2.5), flux[order][None], np.zeros(n, bool)
    )

    def picture() -> Reduced:
        raise AssertionError("the asterism method looks at no pixels")

    return View(FrameFacts("", "list", 0, shape), stars, picture)


def sky(rng: np.random.Generator, n: int, size: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stars over a square of +-size, fluxes as real ones are: N(>f) ~ f**-0.8."""
    return rng.uniform(-size, size, n), rng.uniform(-size, size, n), 400 * rng.uniform(1e-4, 1, n) ** -1.25


def see(
    rng: np.random.Generator,
    stars: tuple[np.ndarray, np.ndarray, np.ndarray],
    matrix: np.ndarray,
    shape: tuple[int, int],
    clouds: float,
    patchy: bool,
    spurious: float,
    most: int,
) -> tuple[View, np.ndarray]:
    """What a camera sees of a sky, and which stars those are (-1: spurious)."""
    sx, sy, flux = stars
    x = matrix[0, 0] * sx + matrix[0, 1] * sy + matrix[0, 2]
    y = matrix[1, 0] * sx + matrix[1, 1] * sy + matrix[1, 2]
    inside = np.flatnonzero((x > 0) & (y > 0) & (x < shape[1] - 1) & (y < shape[0] - 1))
    inside = inside[np.argsort(-flux[inside])][:most]
    if patchy and clouds > 0:  # an edge of cloud across the frame
        angle = rng.uniform(0, 2 * np.pi)
        depth = np.cos(angle) * x[inside] / shape[1] + np.sin(angle) * y[inside] / shape[0]
        inside = inside[depth > np.quantile(depth, clouds)] if len(inside) else inside
    elif clouds > 0:
        inside = inside[rng.random(len(inside)) > clouds]
    n = len(inside)
    fake = int(spurious / (1 - spurious) * n)
    sigma = rng.uniform(0.03, 0.15, n)
    px = np.concatenate([x[inside] + rng.normal(0, sigma), rng.uniform(0, shape[1] - 1, fake)])
    py = np.concatenate([y[inside] + rng.normal(0, sigma), rng.uniform(0, shape[0] - 1, fake)])
    f = np.concatenate(
        [flux[inside] * np.exp(rng.normal(0, 0.05, n)), rng.choice(flux, fake) if fake else np.zeros(0)]
    )
    which = np.concatenate([inside, np.full(fake, -1)])
    return view(px, py, f, shape), which[np.argsort(-f, kind="stable")]


def random_pair(seed: int, alike: bool = True, least: int = 6) -> Pair:
    """A random pair; drawn again until at least `least` stars are in common."""
    rng = np.random.default_rng(seed)
    while True:
        shape = [(3476, 5208), (500, 650), (1024, 1056), (2048, 3072)][rng.integers(4)]
        most = int(np.exp(rng.uniform(np.log(10), np.log(20000))))
        scale = np.exp(rng.uniform(np.log(0.5), np.log(2)))
        angle = rng.choice([0.0, np.pi, rng.uniform(-np.pi, np.pi)])
        mirror = rng.choice([1.0, -1.0])
        drift = rng.uniform(-0.5, 0.5, 2) * np.array([shape[1], shape[0]])
        clouds = rng.choice([0.0, rng.uniform(0, 0.8)])
        patchy = bool(rng.integers(2))
        half = np.array([shape[1], shape[0]]) / 2
        size = 1.2 * float(np.hypot(*half)) * 2 + float(np.hypot(*drift))
        area = (2 * size) ** 2 / (shape[0] * shape[1])
        stars = sky(rng, int(min(most * area * 1.2, 300000)), size)
        to_reference = np.column_stack([np.eye(2), half])
        linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = linear @ np.diag([1.0, mirror])
        # Sky to frame is the inverse of frame to reference, around the frame's centre.
        inverse = np.linalg.inv(linear)
        to_frame = np.column_stack([inverse, half - inverse @ drift])
        reference, ids_r = see(rng, stars, to_reference, shape, 0.0, False, 0.3, most)
        other = stars if alike else sky(rng, len(stars[0]), size)
        frame, ids_f = see(rng, other, to_frame, shape, clouds, patchy, 0.3, most)
        common = len(np.intersect1d(ids_r[ids_r >= 0], ids_f[ids_f >= 0])) if alike else 0
        if (alike and common < least) or min(len(frame.stars), len(reference.stars)) < 6:
            continue
        truth = np.column_stack([linear, half + drift - linear @ half])
        what = (
            f"{len(frame.stars)}/{len(reference.stars)} stars, {common} in common, scale {scale:.2f}, "
            f"clouds {clouds:.2f}{' patchy' if patchy else ''}, shape {shape}"
        )
        return Pair(frame, reference, truth, common, what)


def error_of(pair: Pair, transform: object) -> float:
    """Largest error over the common part of the two frames, px."""
    ny, nx = pair.frame.facts.shape
    gx, gy = (a.ravel() for a in np.meshgrid(np.linspace(0, nx - 1, 9), np.linspace(0, ny - 1, 9)))
    tx = pair.truth[0, 0] * gx + pair.truth[0, 1] * gy + pair.truth[0, 2]
    ty = pair.truth[1, 0] * gx + pair.truth[1, 1] * gy + pair.truth[1, 2]
    inside = (tx >= 0) & (ty >= 0) & (tx < nx) & (ty < ny)
    fx, fy = transform(gx, gy)  # type: ignore[operator]
    away = np.hypot(fx - tx, fy - ty)
    return float(away[inside].max()) if inside.any() else float(away.min())


def main(pairs: int = 500, seed: int = 0) -> None:
    options = AlignOptions()
    find(*(lambda p: (p.frame, p.reference))(random_pair(1, least=100)), options)  # compile
    aligned, wrong, believed = 0, 0, 0
    spent: list[float] = []
    refusing: list[float] = []
    for k in range(pairs):
        pair = random_pair(seed + k)
        start = time.perf_counter()
        try:
            result = find(pair.frame, pair.reference, options)
        except AlignError as error:
            print(f"pair {seed + k}: refused: {error} | {pair.what}")
            continue
        spent.append(time.perf_counter() - start)
        off = error_of(pair, result.transform)
        if off < 2.0:
            aligned += 1
        else:
            wrong += 1
            print(f"pair {seed + k}: WRONG by {off:.1f} px, {result.note} | {pair.what}")
    for k in range(pairs):
        pair = random_pair(10_000_000 + seed + k, alike=False)
        start = time.perf_counter()
        try:
            result = find(pair.frame, pair.reference, options)
        except AlignError:
            refusing.append(time.perf_counter() - start)
            continue
        believed += 1
        print(
            f"skies {10_000_000 + seed + k}: BELIEVED {result.n_matched} {result.rms_pix:.2f} | {pair.what}"
        )
    print(f"alike: {aligned} of {pairs} aligned, {wrong} wrong; unlike: {believed} of {pairs} believed")
    print(
        f"ms per pair: aligned median {1e3 * np.median(spent):.0f}, "
        f"95 % {1e3 * np.percentile(spent, 95):.0f}, "
        f"worst {1e3 * np.max(spent):.0f}; refused median {1e3 * np.median(refusing):.0f}, "
        f"worst {1e3 * np.max(refusing):.0f}"
    )


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:3]))

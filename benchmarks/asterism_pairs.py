"""Pairs of star lists, alike and unlike: how many are aligned, how many wrongly believed, and how long it
takes.

    python benchmarks/asterism_pairs.py [PAIRS] [SEED] [PAIRS THROUGH PIXELS]

Alike: the same sky, flipped or mirrored at random, scaled 0.5 to 2, drifted up to half a frame, lists of up
to 20,000 stars, up to 80 % lost to clouds, 30 % spurious, at least 6 (by default) in common. Unlike: two
different skies.

Aligned means: where the common stars are, wrong by less than four times the standard error that their noise
leaves a fit of six terms. A few pairs share so few of so many stars that chance coincidences as good must be
expected among all ways of laying one list on the other; nobody can tell those from the truth, and they may be
refused (`Pair.decidable`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import poisson

from difflapse import synth
from difflapse.align.asterism import find
from difflapse.align.view import AlignOptions, Reduced, View
from difflapse.errors import AlignError
from difflapse.measure import find_stars
from difflapse.model import Frame, FrameFacts, Stars
from difflapse.synth.camera import Points, expose, finish_light, make_defects, put_points
from difflapse.synth.night import plan

SIGMA = 0.095
"""Typical error of a position in the lists, px: they are drawn between 0.03 and 0.15."""


@dataclass(frozen=True)
class Pair:
    frame: View
    reference: View
    truth: np.ndarray
    """(2, 3): frame to reference."""
    common: int
    x: np.ndarray
    y: np.ndarray
    """Measured positions of the common stars on the frame, px."""
    decidable: bool
    """Whether the common stars beat chance with a probability of 10^-5, all pairs of pairs of stars tried."""
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
        shared = np.isin(ids_f, ids_r[ids_r >= 0]) & (ids_f >= 0) & alike
        common = int(shared.sum())
        if (alike and common < least) or min(len(frame.stars), len(reference.stars)) < 6:
            continue
        truth = np.column_stack([linear, half + drift - linear @ half])
        what = (
            f"{len(frame.stars)}/{len(reference.stars)} stars, {common} in common, scale {scale:.2f}, "
            f"clouds {clouds:.2f}{' patchy' if patchy else ''}, shape {shape}"
        )
        x, y = frame.stars.x[shared], frame.stars.y[shared]
        return Pair(frame, reference, truth, common, x, y, decidable(frame, reference, truth, common), what)


def decidable(frame: View, reference: View, truth: np.ndarray, common: int) -> bool:
    """Whether `common` stars in common can be told from chance by positions alone.

    Two pairs of stars make a hypothesis (shift, rotation, scale, and a mirror or not); the others must lie within
    3 standard deviations of where it puts them, and chance puts a Poisson number of stars there.
    """
    px, py = truth[:, :2] @ frame.stars.xy.T + truth[:, 2:]
    ny, nx = reference.facts.shape
    inside = int(np.sum((px > 0) & (py > 0) & (px < nx) & (py < ny)))
    near = np.pi * (3 * SIGMA) ** 2 * (1 + np.linalg.det(truth[:, :2]) ** 2) ** 0.5
    by_chance = inside * len(reference.stars) / (ny * nx) * near
    tried = float(len(frame.stars)) ** 2 * float(len(reference.stars)) ** 2
    return bool(poisson.sf(common - 3, by_chance) * tried < 1e-5)


def error_of(pair: Pair, transform: object) -> float:
    """Rms error where the common stars are, over the largest that their noise excuses; up to 1 is aligned."""
    truth = pair.truth
    px, py = truth[:, :2] @ np.stack([pair.x, pair.y]) + truth[:, 2:]
    fx, fy = transform(pair.x, pair.y)  # type: ignore[operator]
    away = float(np.sqrt(np.mean((fx - px) ** 2 + (fy - py) ** 2)))
    scale = float(np.sqrt(abs(np.linalg.det(truth[:, :2]))))
    # Two coordinates, six terms each; no fit is asked to be better than a fiftieth of a pixel.
    standard = np.sqrt(2.0) * SIGMA * np.hypot(1.0, scale) * np.sqrt(min(1.0, 6.0 / pair.common))
    return away / max(4.0 * standard, 0.02)


def pixel_pair(seed: int, alike: bool = True, least: int = 6) -> Pair:
    """A random pair of rendered frames of one camera, hot pixels and all, and the stars found on them."""
    rng = np.random.default_rng([seed, *b"pixels"])
    shape = (500, 740)
    half = np.array([shape[1], shape[0]]) / 2
    while True:
        mosaic = str(rng.choice(["GBRG", ""]))
        fwhm = rng.uniform(1.6, 3.0, 2)
        most = int(np.exp(rng.uniform(np.log(30), np.log(2000))))
        scale = float(np.exp(rng.uniform(np.log(0.5), np.log(2))))
        angle = rng.choice([0.0, np.pi, rng.uniform(-np.pi, np.pi)])
        mirror = rng.choice([1.0, -1.0])
        drift = rng.uniform(-0.5, 0.5, 2) * 2 * half
        clouds = rng.choice([0.0, rng.uniform(0, 0.8)])
        linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = linear @ np.diag([1.0, mirror])
        truth = np.column_stack([linear, half + drift - linear @ half])
        inverse = np.linalg.inv(linear)
        to_frame = np.column_stack([inverse, half - inverse @ (half + drift)])
        size = 2.5 * float(np.hypot(*half))
        n = int(most * (2 * size) ** 2 / (shape[0] * shape[1]))
        skies = [sky(rng, n, size) for _ in range(1 if alike else 2)]
        found, true = [], []
        for which, (matrix, hidden) in enumerate(((np.eye(2, 3), 0.0), (to_frame, clouds))):
            sx, sy, flux = skies[min(which, len(skies) - 1)]
            x, y = matrix[:, :2] @ np.stack([sx + half[0], sy + half[1]]) + matrix[:, 2:]
            light = 6.0 * flux * np.exp(rng.normal(0, 0.01, n))
            if hidden > 0:
                edge = rng.uniform(0, 2 * np.pi)
                depth = np.cos(edge) * (x / shape[1] - 0.5) + np.sin(edge) * (y / shape[0] - 0.5)
                light = light / (1.0 + np.exp(-40.0 * (depth + 0.5 - hidden)))
            found.append(expose_stars(x, y, light, shape, mosaic, float(fwhm[which]), seed, which))
            true.append(np.stack([x, y]))
        reference, frame = found
        shared = np.zeros(len(frame.stars), bool)
        if alike and min(len(frame.stars), len(reference.stars)) > 0:
            px, py = truth[:, :2] @ frame.stars.xy.T + truth[:, 2:]
            away, other = cKDTree(reference.stars.xy).query(np.column_stack([px, py]))
            on_sky = cKDTree(true[1].T).query(frame.stars.xy)[0] < 0.5
            shared = (away < 0.5 * max(1.0, scale)) & on_sky & (frame.stars.snr >= 10)
            shared &= reference.stars.snr[other] >= 10
        common = int(shared.sum())
        if (alike and common < least) or min(len(frame.stars), len(reference.stars)) < 6:
            continue
        what = (
            f"{len(frame.stars)}/{len(reference.stars)} stars, {common} in common, scale {scale:.2f}, "
            f"clouds {clouds:.2f}, {mosaic or 'monochrome'}, FWHM {fwhm[1]:.1f}/{fwhm[0]:.1f} px"
        )
        x, y = frame.stars.x[shared], frame.stars.y[shared]
        return Pair(frame, reference, truth, common, x, y, decidable(frame, reference, truth, common), what)


def expose_stars(
    x: np.ndarray,
    y: np.ndarray,
    light: np.ndarray,
    shape: tuple[int, int],
    mosaic: str,
    fwhm: float,
    seed: int,
    which: int,
) -> View:
    """Render stars of `light` electrons with the simulator's camera, and find them again."""
    spec = synth.preset("panoptes", frames=1, shape=shape, seed=seed)
    sensor = replace(spec.sensor, mosaic=mosaic)
    geometry = plan(spec).moments[0].geometry
    defects = make_defects(sensor, shape, np.random.default_rng([seed, 1]))  # the same in both frames
    image = np.zeros(shape, np.float32)
    near = (x > -30) & (y > -30) & (x < shape[1] + 30) & (y < shape[0] + 30)
    colour = np.random.default_rng([seed, 2]).uniform(0.2, 1.2, len(x))
    put_points(
        image, sensor, geometry, spec.blur, fwhm,
        Points(x[near], y[near], light[near, None] * spec.response(colour[near])),
    )  # fmt: skip
    level = np.array(spec.air.sky_adu) * sensor.gain_e_adu
    flat_sky = np.ones((shape[0] // 32 + 2, shape[1] // 32 + 2))
    finish_light(image, sensor, geometry, defects, flat_sky, 32, level)
    data = expose(image, sensor, defects, np.random.default_rng([seed, 3, which]))
    facts = FrameFacts(
        "", "pixels", 0, shape, mosaic=mosaic, bias_adu=sensor.bias_adu, gain_e_adu=sensor.gain_e_adu,
        saturation_adu=sensor.saturation_adu,
    )  # fmt: skip
    stars, _ = find_stars(Frame(facts, data, None))

    def picture() -> Reduced:
        raise AssertionError("the asterism method looks at no pixels")

    return View(facts, stars, picture)


def main(pairs: int = 500, seed: int = 0, pixels: int = 50) -> None:
    options = AlignOptions()
    find(*(lambda p: (p.frame, p.reference))(random_pair(1, least=100)), options)  # compile
    print(f"star lists, seeds from {seed}")
    judge(random_pair, pairs, seed, options)
    if pixels:
        print("through pixels")
        judge(pixel_pair, pixels, seed, options)


def judge(make: Callable[..., Pair], pairs: int, seed: int, options: AlignOptions) -> None:
    """Align so many pairs alike and unlike, and print what became of them."""
    aligned, wrong, believed, excused = 0, 0, 0, 0
    spent: list[float] = []
    refusing: list[float] = []
    for k in range(pairs):
        pair = make(seed + k)
        start = time.process_time()
        try:
            result = find(pair.frame, pair.reference, options)
        except AlignError as error:
            excused += not pair.decidable
            why = "" if pair.decidable else " (rightly: chance does as much)"
            print(f"pair {seed + k}: refused{why}: {error} | {pair.what}")
            continue
        spent.append(time.process_time() - start)
        off = error_of(pair, result.transform)
        if off < 1.0:
            aligned += 1
        else:
            wrong += 1
            print(f"pair {seed + k}: WRONG {off:.1f} times the limit, {result.note} | {pair.what}")
    for k in range(pairs):
        pair = make(10_000_000 + seed + k, alike=False)
        start = time.process_time()
        try:
            result = find(pair.frame, pair.reference, options)
        except AlignError:
            refusing.append(time.process_time() - start)
            continue
        believed += 1
        print(
            f"skies {10_000_000 + seed + k}: BELIEVED {result.n_matched} {result.rms_pix:.2f} | {pair.what}"
        )
    print(
        f"alike: {aligned} of {pairs - excused} aligned, {wrong} wrong ({excused} more refused that nobody can tell "
        f"from chance); unlike: {believed} of {pairs} believed"
    )
    for name, values in (("aligned", spent), ("refused, different skies", refusing)):
        if values:
            middle, high, most = 1e3 * np.percentile(values, [50, 95, 100])
            print(f"ms of one core per pair {name}: median {middle:.0f}, 95 % {high:.0f}, worst {most:.0f}")


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:4]))

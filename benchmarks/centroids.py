"""Positions of stars against the simulator's truth, beside what their light allows.

    python benchmarks/centroids.py [SEED]

For each camera: the error of positions over the Cramer-Rao bound, by S/N; the mean error by the place of the star
within the 2x2 cell of the mosaic (or within the pixel); and how well the error foretold agrees with the one made.

The bound is the inverse of the Fisher information that the pixels hold on a star's position when its fluxes in
red, green and blue are unknown as well: with the expected electrons mu of each pixel, its variance v = mu + read
noise**2, I_ab = sum (d mu / d a) (d mu / d b) / v (Kay 1993, Fundamentals of Statistical Signal Processing I, 3.9;
for stars Mendez et al. 2013, doi:10.1086/671126, and Lobos et al. 2015, doi:10.1086/683840).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.spatial import cKDTree

from difflapse import synth
from difflapse.align.match import position_variance
from difflapse.measure import find_stars
from difflapse.model import Frame, FrameFacts, Stars
from difflapse.synth import NightSpec
from difflapse.synth.camera import MOFFAT_BETA, psf_shape, vignette
from difflapse.synth.night import _stars, plan

# The kernel that makes the simulator's stars, so that the bound is that of these very stars.
from difflapse.synth._kernels import add_points  # isort: skip

REACH = 12
CASES = {
    "mosaic": {},
    "mosaic, sharp (FWHM 1.5 px)": {"fwhm": (1.48, 1.52)},
    "mosaic, trailed by 5 px": {"trail": 5.0},
    "monochrome": {"mosaic": ""},
    "monochrome, sharp (FWHM 1.5 px)": {"mosaic": "", "fwhm": (1.48, 1.52)},
}


@dataclass(frozen=True, eq=False)
class Errors:
    """Stars of all frames: errors, the bound and what was foretold, px; (n,) each."""

    dx: np.ndarray
    dy: np.ndarray
    bound_x: np.ndarray
    bound_y: np.ndarray
    told: np.ndarray
    """Standard error of each coordinate by `position_variance`."""
    snr: np.ndarray
    x: np.ndarray
    """True position, native px."""
    y: np.ndarray
    apart: np.ndarray
    """Distance to the nearest star that has a tenth of its light or more, px."""


def night(
    mosaic: str = "GBRG",
    fwhm: tuple[float, float] | None = None,
    trail: float = 0.0,
    seed: int = 1,
    shape: tuple[int, int] = (1042, 1562),
    frames: int = 4,
    per_18mpx: int = 40000,
) -> NightSpec:
    """A PANOPTES night without clouds and things that move."""
    spec = synth.preset(
        "panoptes", frames=frames, shape=shape, seed=seed, clouds=0, streaks=0, comets=0, movers=0, novae=0
    )
    return replace(
        spec,
        trail_pix=trail,
        population=replace(spec.population, per_18mpx=per_18mpx),
        sensor=replace(spec.sensor, mosaic=mosaic, hot_per_18mpx=0, dead_per_18mpx=0),
        air=replace(spec.air, fwhm_pix=fwhm or spec.air.fwhm_pix),
    )


def bound(
    spec: NightSpec, k: int, x: np.ndarray, y: np.ndarray, flux: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Smallest standard errors of x and y (px) of stars of `flux` (n, 3) electrons, before vignetting."""
    moment = plan(spec).moments[k]
    geometry, sensor = moment.geometry, spec.sensor
    long, short, angle = psf_shape(x, y, geometry, spec.blur, moment.fwhm_pix)
    to_alpha = 0.5 / np.sqrt(2.0 ** (1.0 / MOFFAT_BETA) - 1.0)
    dim = vignette(x, y, sensor, geometry)
    sky = np.array(spec.air.sky_adu) * sensor.gain_e_adu
    size = 2 * REACH + 1
    site = sensor.sites
    jj, ii = np.mgrid[0:size, 0:size]
    parts = max(1, int(np.ceil(2 * spec.trail_pix)) + 1) if spec.trail_pix > 0 else 1
    along = ((np.arange(parts) + 0.5) / parts - 0.5) * spec.trail_pix
    out = np.empty((2, len(x)))
    for n in range(len(x)):
        i0, j0 = (int(round(v)) - REACH for v in (x[n], y[n]))
        i0, j0 = i0 - i0 % 2, j0 - j0 % 2  # the mosaic's phase stays
        a, b = long[n] * to_alpha, short[n] * to_alpha
        c, s = np.cos(angle[n]), np.sin(angle[n])
        form = np.array(
            [c * c / a**2 + s * s / b**2, c * s * (1 / a**2 - 1 / b**2), s * s / a**2 + c * c / b**2]
        )
        peak = (MOFFAT_BETA - 1.0) / (np.pi * a * b)

        def seen(px: float, py: float, form: np.ndarray = form, peak: float = peak) -> np.ndarray:
            image = np.zeros((size, size))
            one = np.ones(parts)
            add_points(
                image, site, px + along, py * one, np.ones((parts, 3)) / parts, form * one[:, None], peak * one,
                90.0 * one,
            )  # fmt: skip
            return image

        px, py, h = x[n] - i0, y[n] - j0, 0.02
        shape = seen(px, py)
        ex = (seen(px + h, py) - seen(px - h, py)) / (2 * h)
        ey = (seen(px, py + h) - seen(px, py - h)) / (2 * h)
        channel = site[jj & 1, ii & 1]
        light = flux[n, channel] * dim[n]
        variance = light * shape + sky[channel] * dim[n] + sensor.read_noise_e**2
        variance += (sensor.flat_noise * light * shape) ** 2  # the flat field is not corrected
        # What clips tells nothing.
        full = (sensor.saturation_adu - sensor.bias_adu) * sensor.gain_e_adu
        variance[light * shape + sky[channel] * dim[n] >= full] = np.inf
        columns = [light * ex, light * ey, *(shape * (channel == c) for c in np.unique(channel))]
        design = np.stack([v.ravel() for v in columns])
        fisher = (design / variance.ravel()) @ design.T
        out[:, n] = np.sqrt(np.diag(np.linalg.inv(fisher))[:2])
    return out[0], out[1]


def errors(spec: NightSpec, most: int = 1500) -> Errors:
    """Measure all frames of a night; unsaturated stars found within a pixel of a true one."""
    planned = plan(spec)
    rows = []
    for k in range(spec.frames):
        facts = FrameFacts(
            "", "f", 0, spec.shape, mosaic=spec.sensor.mosaic, bias_adu=spec.sensor.bias_adu,
            gain_e_adu=spec.sensor.gain_e_adu, saturation_adu=spec.sensor.saturation_adu,
        )  # fmt: skip
        stars, _ = find_stars(Frame(facts, synth.render(spec, k), None))
        points = _stars(planned, k)
        light = points.flux.sum(1)
        found = cKDTree(np.column_stack([points.x, points.y]))
        # The brightest true star within 1.5 px is the one that was seen.
        near = found.query_ball_point(stars.xy, 1.5)
        index = np.array([max(n, key=lambda i: light[i]) if n else -1 for n in near])
        good = (index >= 0) & usable(stars)
        stars, index = stars.take(good), index[good]
        some = np.random.default_rng(0).permutation(len(stars))[:most]
        stars, index = stars.take(some), index[some]
        x, y = points.x[index], points.y[index]
        around = found.query_ball_point(np.column_stack([x, y]), 15.0)
        apart = np.array(
            [
                min((np.hypot(points.x[m] - points.x[i], points.y[m] - points.y[i]) for m in n
                     if m != i and light[m] > 0.1 * light[i]), default=np.inf)
                for i, n in zip(index, around, strict=True)
            ]
        )  # fmt: skip
        bx, by = bound(spec, k, x, y, points.flux[index])
        told = np.sqrt(position_variance(stars))
        rows.append([stars.x - x, stars.y - y, bx, by, told, stars.snr, x, y, apart])
    return Errors(*np.concatenate(rows, axis=1))


def usable(stars: Stars) -> np.ndarray:
    """Stars that a fit uses."""
    return ~stars.saturated


def width(values: np.ndarray) -> float:
    """Standard deviation of the core of a distribution."""
    low, high = np.percentile(values, [15.8655, 84.1345])
    return float(high - low) / 2


def main(seed: int = 1) -> None:
    for name, case in CASES.items():
        spec = night(**case, seed=seed)  # type: ignore[arg-type]
        e = errors(spec)
        # A common shift is not an error: a lopsided or trailed star has no centre of its own.
        dx, dy = e.dx - np.median(e.dx), e.dy - np.median(e.dy)
        print(f"{name}: {len(dx)} stars")
        print(
            "      S/N      n   error/bound: core  rms   alone: core  rms  bound px |  error/told: core  rms"
        )
        edges = (5, 10, 20, 40, 80, 160, 320, 1e9)
        for low, high in pairwise(edges):
            at = (e.snr >= low) & (e.snr < high)
            if at.sum() < 30:
                continue
            z = np.concatenate([dx[at] / e.bound_x[at], dy[at] / e.bound_y[at]])
            lone = at & (e.apart > 10)
            zl = np.concatenate([dx[lone] / e.bound_x[lone], dy[lone] / e.bound_y[lone]])
            t = np.concatenate([dx[at], dy[at]]) / np.tile(e.told[at], 2)
            print(
                f"{low:6.0f} .. {high:<6.0g} {at.sum():5d}        {width(z):.2f}  {rms(z):5.2f}"
                f"          {width(zl):.2f} {rms(zl):5.2f}    {np.median(e.bound_x[at]):.4f} |"
                f"        {width(t):.2f}  {rms(t):.2f}"
            )
        step = 2 if spec.sensor.mosaic else 1
        lone = (e.apart > 6) & (e.snr > 40)
        bias, noise = phase_bias(dx[lone], dy[lone], e.x[lone], e.y[lone], e.bound_x[lone], step)
        print(
            f"   by place in the {step}x{step} cell: bias {bias:.4f} px rms (its own noise taken off; {noise:.4f}); "
            f"median bound of these stars {np.median(e.bound_x[lone]):.4f}"
        )


def rms(z: np.ndarray) -> float:
    """Root mean square, the worst percent left out."""
    z = np.abs(z)
    return float(np.sqrt(np.mean(z[z <= np.percentile(z, 99)] ** 2)))


def phase_bias(
    dx: np.ndarray, dy: np.ndarray, x: np.ndarray, y: np.ndarray, bound: np.ndarray, step: int, bins: int = 6
) -> tuple[float, float]:
    """Rms over the places in a cell of the mean error there, noise taken off; and that noise, px."""
    place = (np.floor((x % step) / step * bins) * bins + np.floor((y % step) / step * bins)).astype(int)
    squares, noises = [], []
    for d in (dx, dy):
        for p in range(bins * bins):
            here = np.clip(d[place == p], -5 * 0.05, 5 * 0.05)
            if len(here) < 10:
                continue
            squares.append(np.mean(here) ** 2 - np.var(here) / len(here))
            noises.append(np.var(here) / len(here))
    return float(np.sqrt(max(np.mean(squares), 0.0))), float(np.sqrt(np.mean(noises)))


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:2]))

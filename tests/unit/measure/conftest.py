"""Frames whose stars and hot pixels are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from difflapse import synth
from difflapse.model import Frame, FrameFacts
from difflapse.synth import NightSpec, Population, Truth, Variable

BIAS, GAIN, SATURATION = 2048.0, 1.5, 13800.0


@dataclass(frozen=True)
class Night:
    """A simulated night and its frames' pixels."""

    spec: NightSpec
    truth: Truth
    frames: tuple[np.ndarray, ...]

    def frame(self, k: int, mask: np.ndarray | None = None) -> Frame:
        return frame_of(self.frames[k], self.spec.sensor.mosaic, mask)


def frame_of(data: np.ndarray, mosaic: str, mask: np.ndarray | None = None) -> Frame:
    facts = FrameFacts(
        "", "f", 0, data.shape, mosaic=mosaic, bias_adu=BIAS, gain_e_adu=GAIN, saturation_adu=SATURATION
    )
    return Frame(facts, data, mask)


def night_of(spec: NightSpec) -> Night:
    return Night(spec, synth.truth_of(spec), tuple(synth.render(spec, k) for k in range(spec.frames)))


def lone_stars(
    mosaic: str, fwhm: float, mags: tuple[float, float], shape: tuple[int, int], seed: int
) -> NightSpec:
    """One star in each cell of 60 px or so, at a random fraction of a pixel, of any brightness and colour."""
    rng = np.random.default_rng(seed)
    ny, nx = shape
    pitch = max(60.0, 9 * fwhm)
    gx, gy = np.meshgrid(np.arange(pitch, nx - pitch / 2, pitch), np.arange(pitch, ny - pitch / 2, pitch))
    x, y = (g.ravel() + rng.uniform(-8, 8, g.size) for g in (gx, gy))
    objects = tuple(
        Variable((a / nx, b / ny), mag=m, amplitude_mag=0.0, period_h=1.0, colour=c)
        for a, b, m, c in zip(x, y, rng.uniform(*mags, len(x)), rng.uniform(0.2, 1.2, len(x)), strict=True)
    )
    spec = synth.preset("panoptes", frames=3, shape=shape, seed=seed, clouds=0)
    return replace(
        spec,
        population=replace(Population(), per_18mpx=0),
        objects=objects,
        sensor=replace(spec.sensor, mosaic=mosaic, hot_per_18mpx=0, dead_per_18mpx=0),
        air=replace(spec.air, fwhm_pix=(fwhm, fwhm + 0.01)),
    )


@pytest.fixture(scope="session")
def plain() -> Callable[[str], Night]:
    """A night of four crowded PANOPTES frames, for a mosaic or (empty) a monochrome camera."""
    kept: dict[str, Night] = {}

    def make(mosaic: str) -> Night:
        if mosaic not in kept:
            spec = synth.preset("panoptes", frames=4, shape=(521, 783), seed=5, clouds=0, streaks=0, comets=0)
            kept[mosaic] = night_of(
                replace(spec, sensor=replace(spec.sensor, mosaic=mosaic, hot_per_18mpx=0, dead_per_18mpx=0))
            )
        return kept[mosaic]

    return make

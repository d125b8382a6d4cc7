"""Simulated nights whose truth is known, each simulated and run once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

import difflapse
from difflapse import synth
from difflapse.pipeline.results import Run
from difflapse.synth import NightSpec, Truth

SHAPE = (520, 780)
SMALL = (260, 390)


@dataclass(frozen=True)
class Product:
    """A saved image: planes, their variance, mask and header."""

    data: np.ndarray
    variance: np.ndarray
    mask: np.ndarray
    header: fits.Header

    @property
    def significance(self) -> np.ndarray:
        """All planes in one map, NaN where masked."""
        combined = (self.data / self.variance).sum(0) / np.sqrt((1 / self.variance).sum(0))
        return np.where(self.mask == 0, combined, np.nan)


@dataclass(frozen=True)
class Done:
    """A night, its truth and its run."""

    folder: Path
    truth: Truth
    out: Path
    run: Run

    @property
    def reference(self) -> int:
        return int(self.run.reference.number)

    @property
    def used(self) -> list[int]:
        """Frames that a method aligned; those whose place was guessed are shown besides, and never subtracted."""
        return [k for k in self.shown if k not in self.guessed]

    @property
    def shown(self) -> list[int]:
        return [f.number for f in self.run.frames if f.used]

    @property
    def guessed(self) -> list[int]:
        return [k for k, method in enumerate(self.run.table["method"]) if method == "interpolated"]

    def product(self, kind: str, k: int) -> Product:
        name = self.run.frames[k].file.removesuffix(".fits.fz") + ".fits"
        return read_product(self.out / kind / name)

    def product_xy(self, x: np.ndarray | float, y: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Native reference pixels to 0-based product pixels, by the LTM and LTV of the reference's product."""
        h = self.product("aligned", self.reference).header
        return h["LTM1_1"] * (np.asarray(x) + 1) + h["LTV1"] - 1, h["LTM2_2"] * (np.asarray(y) + 1) + h[
            "LTV2"
        ] - 1


@functools.lru_cache(maxsize=200)
def read_product(path: Path) -> Product:
    with fits.open(path) as hdus:
        data, variance, mask = (np.array(hdus[n].data) for n in (0, "UNCERT", "MASK"))
        header = hdus[0].header.copy()
    if data.ndim == 2:
        data, variance, mask = data[None], variance[None], mask[None]
    assert (mask == mask[0]).all()
    return Product(data, variance, mask[0], header)


def spec_of(shape: tuple[int, int] = SMALL, **more: Any) -> NightSpec:
    given: dict[str, Any] = {"clouds": 0, "streaks": 0, "comets": 0, "movers": 0, "variables": 0, "novae": 0}
    return synth.preset("panoptes", shape=shape, **{"frames": 4, "seed": 11, **given, **more})


def in_clouds(spec: NightSpec, *frames: int) -> NightSpec:
    return replace(spec, air=replace(spec.air, clouds=tuple((k, 5.0) for k in frames)))


class Notes:
    """Remembers what a run noted."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def start(self, stage: str, total: int) -> None: ...
    def advance(self, stage: str, count: int = 1) -> None: ...
    def finish(self, stage: str) -> None: ...
    def note(self, text: str) -> None:
        self.said.append(text)


Make = Callable[..., Done]


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[NightSpec], tuple[Path, Truth]]:
    """Simulate a night once, however many tests use it; read it, never write to it."""
    kept: dict[str, tuple[Path, Truth]] = {}

    def make(spec: NightSpec) -> tuple[Path, Truth]:
        if repr(spec) not in kept:
            folder = tmp_path_factory.mktemp("night") / "night"
            kept[repr(spec)] = folder, synth.simulate(folder, spec)
        return kept[repr(spec)]

    return make


@pytest.fixture(scope="session")
def done(
    simulated: Callable[[NightSpec], tuple[Path, Truth]], tmp_path_factory: pytest.TempPathFactory
) -> Make:
    """Run a simulated night with options, once for each combination."""
    kept: dict[str, Done] = {}

    def make(spec: NightSpec, **options: Any) -> Done:
        key = repr((spec, sorted(options.items())))
        if key not in kept:
            folder, truth = simulated(spec)
            out = tmp_path_factory.mktemp("out") / "out"
            run = difflapse.run(folder, out, **{"workers": 1, **options})
            kept[key] = Done(folder, truth, out, run)
        return kept[key]

    return make


@pytest.fixture(scope="session")
def night_spec() -> NightSpec:
    """Eight frames, one in clouds; a comet, a mover and a variable star."""
    return spec_of(SHAPE, frames=8, clouds=1, comets=1, movers=1, variables=1)


@pytest.fixture(scope="session")
def night(done: Make, night_spec: NightSpec) -> Done:
    return done(night_spec, diff="template", window=5, save="aligned,differences")

"""A sky that knows the truth: simulated nights, seeded, with positions exact to 0.001 px.

``simulate("OUT", preset("demo"))`` writes frames like a PANOPTES unit's and ``truth.json`` beside them.
"""

from __future__ import annotations

from difflapse.synth.camera import Blur, Sensor
from difflapse.synth.geometry import Geometry, Lens, Site
from difflapse.synth.header import PlateSolution
from difflapse.synth.night import Air, Clock, Mount, NightSpec, ideal, render, simulate, truth_of
from difflapse.synth.presets import PRESETS, preset
from difflapse.synth.scene import Comet, Mover, Nova, Population, Response, Streak, Variable
from difflapse.synth.truth import TrueFrame, TrueObject, Truth

__all__ = [
    "Air",
    "Blur",
    "Clock",
    "Comet",
    "Geometry",
    "Lens",
    "Mount",
    "Mover",
    "NightSpec",
    "Nova",
    "PRESETS",
    "PlateSolution",
    "Population",
    "Response",
    "Sensor",
    "Site",
    "Streak",
    "TrueFrame",
    "TrueObject",
    "Truth",
    "Variable",
    "ideal",
    "preset",
    "render",
    "simulate",
    "truth_of",
]

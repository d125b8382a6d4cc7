"""Numbers taken from one frame's own, unresampled pixels: background, noise, stars, defects, quality."""

from __future__ import annotations

from difflapse.measure.background import channel_levels
from difflapse.measure.defects import Defects, find_defects
from difflapse.measure.noise_map import noise_shape, relative_variance
from difflapse.measure.repair import find_saturated, repair
from difflapse.measure.stars import find_stars

__all__ = [
    "Defects",
    "channel_levels",
    "find_defects",
    "find_saturated",
    "find_stars",
    "noise_shape",
    "relative_variance",
    "repair",
]

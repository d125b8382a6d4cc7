"""Numbers taken from one frame's own, unresampled pixels: background, noise, stars, defects, quality."""

from __future__ import annotations

from difflapse.measure.background import channel_levels
from difflapse.measure.defects import Defects, find_defects
from difflapse.measure.draw import draw_stars, gaussian_profile, reach_pix
from difflapse.measure.noise_map import noise_shape, relative_variance
from difflapse.measure.repair import find_saturated, repair
from difflapse.measure.saturation import clip_level, common_clip_level, is_plausible, saturation_of
from difflapse.measure.stars import find_stars

__all__ = [
    "clip_level",
    "Defects",
    "channel_levels",
    "common_clip_level",
    "draw_stars",
    "find_defects",
    "find_saturated",
    "find_stars",
    "gaussian_profile",
    "is_plausible",
    "noise_shape",
    "reach_pix",
    "relative_variance",
    "repair",
    "saturation_of",
]

"""Taking differences: photometric scale, smooth background, template, noise, and the subtraction itself.

All images here are on the product grid, (c, ny, nx) float32 with bias taken off; slowly varying quantities
are meshes, (c, my, mx) float32 whose nodes reach from the centre of the first pixel to the centre of the
last.
"""

from __future__ import annotations

from difflapse.difference.noise import Noise, noise_of
from difflapse.difference.offset import fit_offset
from difflapse.difference.scale import scale_from_pixels, scale_from_stars
from difflapse.difference.subtract import Difference, Science, subtract
from difflapse.difference.template import Template, combine, combine_laid, lay_meshes

__all__ = [
    "Difference",
    "Noise",
    "Science",
    "Template",
    "combine",
    "combine_laid",
    "fit_offset",
    "lay_meshes",
    "noise_of",
    "scale_from_pixels",
    "scale_from_stars",
    "subtract",
]

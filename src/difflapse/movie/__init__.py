"""From aligned pictures and differences to a movie: layout, stretch, colours, words, video.

The way of a frame: `make_layout` once, `measure_stretch` once; then for each frame `aligned_panel` and
`difference_panel` (or `hatched_panel`), `compose`, and `Encoder.write`.
"""

from __future__ import annotations

from difflapse.movie.annotate import Caption
from difflapse.movie.compose import compose
from difflapse.movie.diverging import VMAX, difference_panel, diverging_table, hatched_panel, sigma_panel
from difflapse.movie.encode import Encoder
from difflapse.movie.layout import Layout, Panel, Strip, make_layout
from difflapse.movie.sidecar import MovieFrame, timelapse_record
from difflapse.movie.stretch import Stretch, aligned_panel, measure_stretch

__all__ = [
    "VMAX",
    "Caption",
    "Encoder",
    "Layout",
    "MovieFrame",
    "Panel",
    "Stretch",
    "Strip",
    "aligned_panel",
    "compose",
    "difference_panel",
    "diverging_table",
    "hatched_panel",
    "make_layout",
    "measure_stretch",
    "sigma_panel",
    "timelapse_record",
]

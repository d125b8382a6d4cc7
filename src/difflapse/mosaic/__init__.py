"""Colour-filter mosaics: which pixel sees which colour, the planes of each, and superpixels.

A mosaic is named by its four sites in array order: row 0 column 0, row 0 column 1, row 1 column 0, row 1
column 1. Demosaicking proper is not done here or anywhere in the way of a number: a superpixel takes one
value of each colour from its own four sites, and the eye gets pictures made of superpixels.
"""

from __future__ import annotations

from difflapse.mosaic.medians import stack_medians
from difflapse.mosaic.network import sort_rows, sorting_network
from difflapse.mosaic.planes import CHANNELS, Site, channels, native_order, sites, split
from difflapse.mosaic.superpixel import bin_image, bin_medians, superpixels

__all__ = [
    "CHANNELS",
    "Site",
    "bin_image",
    "bin_medians",
    "channels",
    "native_order",
    "sites",
    "sort_rows",
    "sorting_network",
    "split",
    "stack_medians",
    "superpixels",
]

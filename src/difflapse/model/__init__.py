"""What flows through the house: frozen records that compute nothing but what they are."""

from __future__ import annotations

from difflapse.model.alignment import Alignment, HeldOut
from difflapse.model.frame import Frame, FrameFacts
from difflapse.model.grid import ProductGrid
from difflapse.model.sequence import Inventory, LeftOut, Sequence
from difflapse.model.sky import TanSip
from difflapse.model.stars import Quality, StarProfile, Stars
from difflapse.model.track import SkyPath, Track
from difflapse.model.transform import Transform

__all__ = [
    "Alignment",
    "Frame",
    "FrameFacts",
    "HeldOut",
    "Inventory",
    "LeftOut",
    "ProductGrid",
    "Quality",
    "Sequence",
    "SkyPath",
    "StarProfile",
    "Stars",
    "TanSip",
    "Track",
    "Transform",
]

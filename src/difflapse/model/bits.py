"""The bits of product masks; a pixel with none of them is good."""

from __future__ import annotations

OUTSIDE = 1
SATURATED = 2
DEFECT = 4
BLANK = 8
NO_TEMPLATE = 16

NAMES: dict[int, str] = {
    OUTSIDE: "outside the frame",
    SATURATED: "saturated",
    DEFECT: "hot or dead pixel of the sensor",
    BLANK: "blank, NaN or lost in the file",
    NO_TEMPLATE: "no template here",
}
"""What each bit says, as written into the headers of products."""

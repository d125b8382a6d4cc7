"""What was found among the inputs: sequences to run, and what is left out of them."""

from __future__ import annotations

from dataclasses import dataclass

from difflapse.model.frame import FrameFacts


@dataclass(frozen=True)
class Sequence:
    """Frames of one camera, shape and filter with a common sky, in time order."""

    name: str
    """Short, unique among the inputs, and fit for a folder's name."""
    frames: tuple[FrameFacts, ...]
    notes: tuple[str, ...] = ()
    """What was decided about the sequence, and why (clock, mosaic, joined sequences), for `info`."""


@dataclass(frozen=True)
class LeftOut:
    """A file that is in no sequence, and why."""

    file: str
    reason: str
    facts: FrameFacts | None = None
    """None where the file could not be read at all."""


@dataclass(frozen=True)
class Inventory:
    """Everything found among the inputs."""

    root: str
    """The inputs' common root; `FrameFacts.file` is relative to it."""
    sequences: tuple[Sequence, ...]
    left_out: tuple[LeftOut, ...]

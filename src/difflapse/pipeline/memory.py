"""Memory and scratch space of a run, foreseen from the size of its frames."""

from __future__ import annotations

from dataclasses import dataclass

from difflapse.model import FrameFacts

_PROCESS = 300_000_000
"""A process with its libraries loaded."""


@dataclass(frozen=True)
class Need:
    """What a run needs at its peak."""

    memory_bytes: int
    """All processes together, resident."""
    scratch_bytes: int
    """Temporary files in the output folder."""


def foresee(
    facts: FrameFacts,
    grid_shape: tuple[int, int],
    channels: int,
    workers: int,
    members: int,
    diff: str,
    window: int,
) -> Need:
    """Foresee memory and scratch for frames like `facts` on a product grid of `grid_shape`.

    The peak of a worker is its raw frame twice (file and pixels), the planes, the warped image with mask and
    coverage, the difference, and the template, which all workers share.
    """
    native = facts.shape[0] * facts.shape[1]
    product = grid_shape[0] * grid_shape[1]
    raw = native * (2 if "16" in facts.dtype else 4)
    image = 4 * channels * product
    worker = _PROCESS + 2 * raw + 4 * native + image + (4 + 1 + 1 + 4) * product + image
    if diff in ("running", "rolling"):
        worker += (window if diff == "rolling" else 2) * (image + product)
    sensor = _PROCESS + 6 * raw + 6 * 4 * native
    template = (2 * image + product) if members else 0
    main = _PROCESS + 100_000_000 + image
    together = main + template + max(workers * worker, sensor + (workers - 1) * worker)
    scratch = (members or 1) * (image + product) + template
    return Need(int(together), int(scratch))

"""A transform with its proof."""

from __future__ import annotations

from dataclasses import dataclass

from difflapse.model.transform import Transform


@dataclass(frozen=True, eq=False)
class Alignment:
    """How a frame lies on the reference, how that was found, and how good it is."""

    transform: Transform
    """Native pixels of the frame to native pixels of the reference."""
    method: str
    """The named method that found it: ``wcs``, ``asterism``, ``features``, ``phase``, ``none``."""
    n_matched: int
    """Stars (or features) that agree with it."""
    rms_pix: float
    """Radial rms on stars (or pixels) it was not fitted to, native pixels of the reference; NaN if none."""
    p95_pix: float = float("nan")
    """95th percentile of the same residuals."""
    refused: tuple[str, ...] = ()
    """What was tried before and refused, one line each, with the numbers."""
    note: str = ""

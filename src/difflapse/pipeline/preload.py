"""Imported by what workers are forked from: everything that each of them would otherwise load by itself.

The first compiled function that a process calls sets the compiler up, in a third of a second: done here once, it is
every worker's.
"""

from __future__ import annotations

import numba
import scipy.interpolate
import scipy.ndimage  # noqa: F401

import difflapse.pipeline.stages  # noqa: F401  (to have it loaded is the purpose)


@numba.njit(cache=True)
def nothing() -> None:
    """Do nothing, compiled."""


nothing()

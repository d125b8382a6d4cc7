"""Imported by what workers are forked from: everything that each of them would otherwise load by itself.

The first compiled function that a process calls sets the compiler up, in a third of a second: done here once, it is
every worker's. What is loaded stays: the garbage collector need not look through it, neither meanwhile nor in the
workers, whose own copy it would become.
"""

from __future__ import annotations

import gc
import importlib

import numba

_LOADED = ("scipy.interpolate", "scipy.ndimage", "difflapse.pipeline.stages")


@numba.njit(cache=True)
def _nothing() -> None:
    pass


gc.disable()
for _name in _LOADED:
    importlib.import_module(_name)
_nothing()
gc.freeze()
gc.enable()

"""Compiled functions that earlier runs used: loaded once, before workers are copied from this process.

A process loads a compiled function from numba's files when it first calls it, in some five milliseconds, and a run
needs 150 of them. What this process has loaded, its copies have.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba
from llvmlite import binding
from numba.extending import is_jitted

from difflapse._version import __version__
from difflapse.io.products import atomic
from difflapse.pipeline.preload import nothing

if TYPE_CHECKING:
    from difflapse.pipeline.pool import Pool

_FILE = "of-earlier-runs.nbi"
"""Ends as numba's own files do: whoever removes those removes this one too. Without them it would have all compiled."""

Used = frozenset[tuple[str, str, Any, float]]
"""Module and name of a function, the types it was called with, and when its file was changed."""


def in_use() -> Used:
    """The compiled functions that this process has loaded, or compiled."""
    return frozenset(
        (module, name, signature, changed)
        for module, name, function, changed in _functions()
        for signature in function.signatures
    )


def remember(pool: Pool) -> None:
    """Write down, beside numba's own files, which compiled functions this process and a worker have.

    Whatever goes wrong with it costs nothing but time of the next run.
    """
    with contextlib.suppress(Exception):
        write(in_use() | pool.start(in_use)())


def write(used: Used) -> None:
    """Write down what is in use, unless that is what is written already."""
    place = _place()
    if place is not None and _read(place) != used:
        with atomic(place) as part:
            part.write_bytes(pickle.dumps((_surroundings(), used), protocol=5))


def load() -> None:
    """Load the compiled functions that earlier runs used, but for those whose file was changed since then."""
    place = _place()
    used = _read(place) if place is not None else frozenset()
    if not used:
        return
    functions = {(module, name): (function, changed) for module, name, function, changed in _functions()}
    for module, name, signature, changed in used:
        function, now = functions.get((module, name), (None, 0.0))
        if function is not None and now == changed:
            # Whatever is wrong with it is told where it is called.
            with contextlib.suppress(Exception):
                function.compile(signature)


def _functions() -> Iterator[tuple[str, str, Any, float]]:
    for module in [m for name, m in list(sys.modules.items()) if name.startswith("difflapse.") and m]:
        own = [
            (name, thing)
            for name, thing in list(vars(module).items())
            if is_jitted(thing) and thing.__module__ == module.__name__
        ]
        # A file may be gone: the package may be replaced while it runs.
        with contextlib.suppress(OSError):
            changed = Path(module.__file__ or "").stat().st_mtime if own else 0.0
            yield from ((module.__name__, name, thing, changed) for name, thing in own)


def _place() -> Path | None:
    kept = nothing.stats.cache_path if is_jitted(nothing) else None
    return Path(kept) / _FILE if kept else None


def _read(place: Path) -> Used:
    try:
        surroundings, used = pickle.loads(place.read_bytes())
    except Exception:  # not there, cut short, or of other versions' classes
        return frozenset()
    return frozenset(used) if surroundings == _surroundings() else frozenset()


def _surroundings() -> tuple[str | None, ...]:
    """What numba's files are good for: with others it would compile, not load."""
    return (
        __version__,
        numba.__version__,
        sys.implementation.cache_tag,
        numba.config.CPU_NAME or binding.get_host_cpu_name(),
        numba.config.CPU_FEATURES or binding.get_host_cpu_features().flatten(),
    )

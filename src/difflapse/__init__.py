"""Point it at a night of astronomical frames and watch what changed.

The public names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from difflapse._version import __version__

if TYPE_CHECKING:
    from difflapse.io.discover import discover
    from difflapse.io.info import describe
    from difflapse.pipeline.config import RunOptions
    from difflapse.pipeline.plan import plan
    from difflapse.pipeline.results import Night, Run, RunFrame, open_run
    from difflapse.pipeline.run import run

_PLACES = {
    "Night": "difflapse.pipeline.results",
    "Run": "difflapse.pipeline.results",
    "RunFrame": "difflapse.pipeline.results",
    "RunOptions": "difflapse.pipeline.config",
    "describe": "difflapse.io.info",
    "discover": "difflapse.io.discover",
    "open_run": "difflapse.pipeline.results",
    "plan": "difflapse.pipeline.plan",
    "run": "difflapse.pipeline.run",
}

__all__ = [
    "Night",
    "Run",
    "RunFrame",
    "RunOptions",
    "__version__",
    "describe",
    "discover",
    "open_run",
    "plan",
    "run",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'difflapse' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

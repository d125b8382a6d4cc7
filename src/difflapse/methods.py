"""The table of named methods: what can be asked for by name, and where it lives.

Third parties add their own under the entry-point group ``difflapse.methods``: the entry point's name is
``KIND.NAME`` (such as ``align.mymethod``) and its object is a callable with the signature of its kind. A
broken plug-in is a warning, not a failure.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from difflapse.errors import MissingDependencyError, OptionError


@dataclass(frozen=True)
class Method:
    """One named method; `where` is ``module:function``, empty where the pipeline itself is the method."""

    kind: str
    name: str
    line: str
    where: str = ""
    extra: str = ""
    """The optional dependency it needs, as in ``pip install difflapse[EXTRA]``."""


TABLE: tuple[Method, ...] = (
    Method(
        "align",
        "auto",
        "cheapest first; the first that passes a check on stars or pixels it was not fitted to",
        "difflapse.align.chain:auto",
    ),
    Method(
        "align",
        "wcs",
        "the header's celestial WCS (TAN-SIP and all that astropy reads)",
        "difflapse.align.wcs:find",
    ),
    Method(
        "align",
        "asterism",
        "stars matched by triangles, fitted with all that match; any rotation, mirror, 0.5-2x scale",
        "difflapse.align.asterism:find",
    ),
    Method(
        "align",
        "features",
        "image features (ORB, AKAZE, SIFT): the Moon, the Sun, planets, clouds, landscapes",
        "difflapse.align.features:find",
    ),
    Method(
        "align",
        "phase",
        "cross-correlation to a fraction of a pixel, for fields without stars; shift only",
        "difflapse.align.phase:find",
    ),
    Method("align", "none", "frames are taken as they lie"),
    Method("diff", "template", "minus a robust template of the night's best frames"),
    Method("diff", "running", "minus the frame one lag earlier"),
    Method("diff", "rolling", "minus the median of the neighbours in time"),
    Method("diff", "none", "no difference, only the aligned frames"),
    Method("match", "auto", "scale, where stars or pixels allow it"),
    Method("match", "none", "subtracted as they are"),
    Method("match", "scale", "photometric scale per colour and a smooth background"),
)


def find_method(kind: str, name: str) -> Callable[..., Any]:
    """Load the callable of a named method; raises `OptionError` for an unknown name."""
    for method in all_methods():
        if method.kind == kind and method.name == name and method.where:
            module, _, attribute = method.where.partition(":")
            try:
                return getattr(import_module(module), attribute)  # type: ignore[no-any-return]
            except ImportError as error:
                if not method.extra:
                    raise
                raise MissingDependencyError(
                    f"{kind} method {name!r} needs {error.name}", f"pip install 'difflapse[{method.extra}]'"
                ) from error
    known = ", ".join(m.name for m in all_methods() if m.kind == kind)
    raise OptionError(f"no {kind} method is called {name!r}; there are {known}")


def all_methods() -> tuple[Method, ...]:
    """Every named method: the house's own, then those of installed plug-ins."""
    found = list(TABLE)
    for point in entry_points(group="difflapse.methods"):
        kind, _, name = point.name.partition(".")
        if not name:
            warnings.warn(f"plug-in {point.name!r} ignored: its name is not KIND.NAME", stacklevel=2)
            continue
        found.append(
            Method(kind, name, f"from {point.dist.name if point.dist else 'a plug-in'}", point.value)
        )
    return tuple(found)

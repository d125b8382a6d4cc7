"""The table of named methods: what can be asked for by name, and where it lives.

Third parties add ways of aligning under the entry-point group ``difflapse.methods``: the entry point's name is
``align.NAME`` and its object a callable ``(frame: View, reference: View, options: AlignOptions) -> Alignment``
(see `difflapse.align.view`). Other kinds take no plug-ins, and a name of the house's own stays the house's: such
an entry point is passed over with a warning.
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


TABLE: tuple[Method, ...] = (
    Method(
        "align",
        "auto",
        "cheapest first; the first that passes a check on what it was not fitted to; else between its neighbours",
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
        "stars matched by triangles, fitted with all that match; any rotation, mirror, scales 0.4 to 2.5",
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
    Method("resample", "cubic", "Keys' cubic over 4 pixels; exact for parabolas"),
    Method("resample", "linear", "between 2 pixels: never beyond their values, but softer"),
    Method(
        "resample", "lanczos3", "windowed sinc over 6 pixels, exact for cubics; sharper, rings at cosmic rays"
    ),
    Method("resample", "lanczos4", "windowed sinc over 8 pixels, exact for cubics; the sharpest"),
    Method("resample", "area", "pixels by the area they share; keeps the flux, whatever the scale"),
    Method("diff", "template", "minus a robust template of the night's best frames"),
    Method("diff", "running", "minus the frame one lag earlier"),
    Method("diff", "rolling", "minus the median of the neighbours in time"),
    Method("diff", "none", "no difference, only the aligned frames"),
    Method(
        "match",
        "auto",
        "psf where held-out stars are better for it, else scale where stars or pixels allow it",
    ),
    Method("match", "none", "subtracted as they are"),
    Method("match", "scale", "photometric scale per colour and a smooth background"),
    Method(
        "match",
        "psf",
        "scale, then a kernel that varies over the field takes one image's stars to the other's",
    ),
    Method("match", "zogy", "psf, then whitened: the proper difference of Zackay, Ofek & Gal-Yam, in sigma"),
)


def find_method(kind: str, name: str) -> Callable[..., Any]:
    """Load the callable of a named method, which may be a plug-in's.

    Raises
    ------
    OptionError
        No method of the kind has this name.
    MissingDependencyError
        A module that it needs is not installed; ``module`` in its facts is the module's name.
    """
    for method in all_methods():
        if method.kind == kind and method.name == name and method.where:
            module, _, attribute = method.where.partition(":")
            try:
                return getattr(import_module(module), attribute)  # type: ignore[no-any-return]
            except ModuleNotFoundError as error:
                missing = error.name or module
                raise MissingDependencyError(
                    f"{kind} method {name!r} ({method.line}) needs the module {missing}, which is not installed",
                    f"pip install {missing.partition('.')[0]}",
                    {"module": missing},
                ) from error
    raise OptionError(f"no {kind} method is called {name!r}; there are {', '.join(names(kind))}")


def names(kind: str) -> tuple[str, ...]:
    """Names of all methods of a kind, plug-ins last: what its option may be."""
    return tuple(method.name for method in all_methods() if method.kind == kind)


def all_methods() -> tuple[Method, ...]:
    """Every named method: the house's own, then those of installed plug-ins."""
    found = list(TABLE)
    taken = {(method.kind, method.name) for method in TABLE}
    for point in entry_points(group="difflapse.methods"):
        kind, _, name = point.name.partition(".")
        reason = ""
        if kind != "align" or not name:
            reason = "its name is not align.NAME"
        elif (kind, name) in taken:
            reason = "the name is taken"
        if reason:
            warnings.warn(f"plug-in {point.name!r} ignored: {reason}", stacklevel=2)
            continue
        taken.add((kind, name))
        source = point.dist.name if point.dist else "a plug-in"
        found.append(Method(kind, name, f"from {source}", point.value))
    return tuple(found)

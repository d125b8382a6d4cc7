"""Values as scripts: JSON that no header's text can break out of."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_ESCAPES = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}
"""Letters that could end a script element or a line of JavaScript; in JSON they occur only within text."""


def as_script(name: str, value: Any) -> str:
    """A statement that hands a value to the page under a name.

    Parameters
    ----------
    name : str
        What the page asks for, such as ``night``.
    value : Any
        Plain values and numpy arrays; NaN and infinity become null.

    Returns
    -------
    str
        JavaScript that is safe in a file of its own and within ``<script>``, whatever text the value holds.
    """
    return f"difflapse.give({_json(name)}, {_json(value)});\n"


def _json(value: Any) -> str:
    try:
        text = _dumps(value)
    except ValueError:  # not a number somewhere: rare, so that looking for it first would cost more
        text = _dumps(plain(value))
    return text.translate(_ESCAPES)


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain)


def plain(value: Any) -> Any:
    """A value without numpy's types; what is masked or not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value

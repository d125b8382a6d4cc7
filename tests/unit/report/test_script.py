"""Values as scripts: nothing in them ends a script, and all of it comes back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from difflapse.report.script import as_script

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--",
    "]]>",
    "a\u2028b\u2029c",
    "\"'\\",
    "Žižkov ☃",
    "\x00\x07",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_breaks_out(text: str) -> None:
    script = as_script("night", {text: [text]})
    assert not set("<>&\u2028\u2029\x00") & set(script)
    value = script.partition(",")[2].removesuffix(");\n")
    assert json.loads(value) == {text: [text]}


def test_numpy_and_what_is_not_finite_become_plain() -> None:
    script = as_script(
        "x", {"a": np.array([1.5, np.nan]), "b": np.int64(3), "c": float("inf"), "d": np.bool_(True)}
    )
    assert script == 'difflapse.give("x", {"a":[1.5,null],"b":3,"c":null,"d":true});\n'

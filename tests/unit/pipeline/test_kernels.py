"""Compiled functions of earlier runs are there before they are called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from difflapse.pipeline import kernels

_RUN = """
import numpy as np
from difflapse.measure.order import median
from difflapse.pipeline import kernels

median(np.arange(9, dtype=np.float32), np.empty(9, np.float32))
kernels.write(kernels.in_use())
"""

_NEXT = """
import os, sys
from difflapse.measure import order
from difflapse.pipeline import kernels

if sys.argv[1] == "changed":
    os.utime(order.__file__, (1, 1))
kernels.load()
print(len(order.median.signatures), sum(order.median.stats.cache_misses.values()))
"""


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    """Surroundings in which compiled functions are kept in a folder of the test, and the sources are a copy."""
    source = Path(__file__).parents[3] / "src" / "difflapse"
    for file in source.rglob("*"):
        if file.is_file() and file.suffix in (".py", ".html", ".css", ".js", ".ttf", ".toml", ".json"):
            copy = tmp_path / "src" / "difflapse" / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    return {
        **os.environ,
        "NUMBA_CACHE_DIR": str(tmp_path / "compiled"),
        "PYTHONPATH": str(tmp_path / "src"),
    }


def told(code: str, surroundings: dict[str, str], *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=surroundings, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def kept(surroundings: dict[str, str]) -> Path:
    (place,) = Path(surroundings["NUMBA_CACHE_DIR"]).rglob("of-earlier-runs.nbi")
    return place


def test_what_a_run_used_is_loaded_by_the_next_and_nothing_is_compiled(own: dict[str, str]) -> None:
    assert told(_NEXT, own, "") == "0 0"
    told(_RUN, own)
    assert told(_NEXT, own, "") == "1 0"
    told(_RUN, own)  # what the first compiled into others is not called by itself
    before = kept(own).stat().st_mtime_ns
    told(_RUN, own)
    assert kept(own).stat().st_mtime_ns == before


def test_functions_of_a_changed_file_are_left_to_their_first_call(own: dict[str, str]) -> None:
    told(_RUN, own)
    assert told(_NEXT, own, "changed") == "0 0"


def test_a_damaged_file_is_as_none(own: dict[str, str]) -> None:
    told(_RUN, own)
    kept(own).write_bytes(kept(own).read_bytes()[:40])
    assert told(_NEXT, own, "") == "0 0"
    told(_RUN, own)
    assert told(_NEXT, own, "") == "1 0"


def test_what_another_processor_compiled_is_not_compiled_again_beforehand(own: dict[str, str]) -> None:
    told(_RUN, own)
    assert told(_NEXT, {**own, "NUMBA_CPU_NAME": "generic"}, "") == "0 0"


def test_a_lost_worker_costs_the_next_run_its_list_alone() -> None:
    class Broken:
        def start(self, task: object) -> object:
            raise RuntimeError("lost")

    kernels.remember(Broken())  # type: ignore[arg-type]

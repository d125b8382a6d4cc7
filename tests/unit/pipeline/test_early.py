"""A task in a copy of this process, while this one goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_EARLY = """
import os, sys, threading
import chores
from difflapse.errors import DifflapseError
from difflapse.pipeline.early import in_copy

case = sys.argv[1]
if case == "threads":
    threading.Thread(target=threading.Event().wait, daemon=True).start()
task, job = {"refuse": (chores.refuse, 0), "fail": (chores.fail, 1), "die": (chores.die, 0)}.get(case, (chores.who, 0))
with in_copy(task, job) as wait_for:
    if wait_for is None:
        print("none")
    else:
        try:
            result = wait_for()
            print(result != os.getpid() if isinstance(result, int) else type(result).__name__)
        except DifflapseError as error:
            print(type(error).__name__, error.message)
"""

_LEFT = """
import multiprocessing, time
import chores
from difflapse.pipeline.early import in_copy

begun = time.monotonic()
with in_copy(time.sleep, 600):
    assert len(multiprocessing.active_children()) == 1
print(multiprocessing.active_children(), time.monotonic() - begun < 300)
"""


def told(code: str, *words: str) -> str:
    quiet = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "MKL", "OMP")}
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, **quiet, "PYTHONPATH": path},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux a process is copied")
@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("who", "True"),
        ("fail", "AlignError"),
        ("refuse", "OptionError not a frame's fault"),
        ("die", "NoneType"),
        ("threads", "none"),
    ],
)
def test_the_result_comes_from_another_process_and_its_errors_too(case: str, expected: str) -> None:
    assert told(_EARLY, case) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux a process is copied")
def test_a_copy_that_nobody_waits_for_is_ended() -> None:
    assert told(_LEFT) == "[] True"

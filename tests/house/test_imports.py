"""What an import may load, and how quick the help is."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

HEAVY = (
    "numpy",
    "scipy",
    "astropy",
    "cv2",
    "sep",
    "numba",
    "av",
    "PIL",
    "rich",
    "fsspec",
    "aiohttp",
    "matplotlib",
)
COMMANDS = ("", "run", "demo", "simulate", "info", "certificate", "report", "methods")


def loaded_by(code: str) -> set[str]:
    """Heavy packages in sys.modules after `code`, in a fresh interpreter."""
    tail = f"\nimport json, sys\nprint('\\n' + json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_of_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import difflapse; difflapse.__version__; dir(difflapse)") == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_nothing_heavy(command: str) -> None:
    words = [command, "--help"] if command else ["--help"]
    assert loaded_by(f"from difflapse.cli.app import main\nassert main({words!r}) == 0") == set()


def test_a_wrong_option_is_told_before_anything_heavy_is_loaded() -> None:
    assert (
        loaded_by("from difflapse.cli.app import main\nassert main(['run', 'x', '--align', 'wsc']) == 2")
        == set()
    )


def test_what_begins_a_run_loads_what_its_first_copy_needs_and_no_more() -> None:
    """The rest is loaded while the copy works: see `difflapse.pipeline.early`."""
    code = (
        "import difflapse.pipeline.run, sys\n"
        "late = [m for m in sys.modules if m in ('difflapse.pipeline.stages', 'difflapse.movie', 'astropy.table',"
        " 'astropy.wcs', 'scipy.spatial', 'scipy.interpolate')]\n"
        "assert not late, late"
    )
    assert not {"av", "PIL", "matplotlib"} & loaded_by(code)


def test_help_takes_half_a_second_at_most() -> None:
    best = min(_seconds([sys.executable, "-m", "difflapse", "--help"]) for _ in range(5))
    assert best < 0.5


def _seconds(words: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began

"""The floors of the house: each imports only what lies below it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def test_no_floor_imports_one_above_or_beside_it(root: Path) -> None:
    pytest.importorskip("importlinter", reason="import-linter is not installed")
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def tree(root: Path) -> list[Path]:
    """Every text file of the project: what git knows, or what lies there where this is no git checkout."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            capture_output=True,
            check=True,
        )
        files = [root / name for name in listed.stdout.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        tops = ("src", "tests", "docs", "benchmarks", ".ci")
        files = [file for top in tops for file in (root / top).rglob("*")] + list(root.glob("*.*"))
    kinds = {".py", ".md", ".toml", ".txt", ".cfg", ".yml", ".yaml", ".html", ".js", ".css", ".pyi", ""}
    return [f for f in files if f.is_file() and f.suffix in kinds and "__pycache__" not in f.parts]

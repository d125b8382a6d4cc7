"""Reading what a run wrote, as plain values: its `run.toml`, and its JSON."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from difflapse.errors import InputError


def read_products(folder: Path) -> list[str]:
    """The products listed in a folder's `run.toml`; raises InputError where that cannot be read."""
    return list(read_record(folder).get("provenance", {}).get("products", []))


def why_not_asked(folder: Path) -> str:
    """Why nothing that changed was looked for, where the run was not asked to; empty where it was."""
    try:
        asked = read_record(folder).get("changes", True)
    except InputError:
        return ""
    return "" if asked else "only the movie was asked for"


def read_record(folder: Path) -> dict[str, Any]:
    """A folder's `run.toml`; raises InputError where that cannot be read."""
    try:
        with (folder / "run.toml").open("rb") as file:
            return tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            f"{folder / 'run.toml'} cannot be read: {error}", "is this the folder of a run?"
        ) from None


def read_json(path: Path) -> Any:
    """A JSON product; raises InputError where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "is this the folder of a finished run?") from None

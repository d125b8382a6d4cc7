"""The options of a run on the command line, made from the one table in `difflapse.pipeline.config`."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, TypeVar

import click

from difflapse.errors import OptionError
from difflapse.pipeline.config import RunOptions, flag

F = TypeVar("F", bound=Callable[..., Any])


def run_options(only: Iterable[str] | None = None) -> Callable[[F], F]:
    """Decorate a command with the options of `RunOptions` (or some of them), in their order.

    Values reach the command as text (flags as bool), None where not given: checking them is `RunOptions`' own
    work, so that the command line, the TOML file and Python say the same about a wrong value.
    """
    chosen = [item for item in fields(RunOptions) if only is None or item.name in set(only)]

    def decorate(function: F) -> F:
        for item in reversed(chosen):
            function = _option(item)(function)
        return function

    return decorate


def collect(given: Mapping[str, Any], config: str | None = None) -> RunOptions:
    """Options in force: defaults, then the file, then the command line, which wins."""
    values = read_config(config) if config else {}
    for name, value in given.items():
        if value is None or value == ():
            continue
        values[name] = value
    return RunOptions.from_mapping(values)


def read_config(path: str) -> dict[str, Any]:
    """Options of a TOML file: its top-level keys and its [options] table; [provenance] is ignored."""
    try:
        with Path(path).open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise OptionError(f"--config {path} cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"--config {path} is not TOML: {error}") from None
    table.pop("provenance", None)
    options = table.pop("options", {})
    if not isinstance(options, dict):
        raise OptionError(f"--config {path}: options is {options!r}; it must be a table", "[options]")
    return {key.replace("-", "_"): value for key, value in (table | options).items()}


def _option(item: Field[Any]) -> Callable[[F], F]:
    name = flag(item.name)
    text = item.metadata["help"]
    if isinstance(item.default, bool):
        return click.option(f"{name}/--no-{name[2:]}", item.name, default=None, help=text)
    default: Any = item.default
    shown = ",".join(default) if item.metadata["many"] else f"{default}"
    if isinstance(item.default, float):
        shown = f"{item.default:g}"
    if shown:
        text = f"{text}  [default: {shown}]"
    return click.option(
        name, item.name, metavar=_metavar(item), help=text, default=None, multiple=bool(item.metadata["many"])
    )


def _metavar(item: Field[Any]) -> str:
    choices = "|".join(item.metadata["choices"])
    if item.metadata["many"] and choices:
        return f"[{choices}],..."
    return f"[{choices}]" if choices else item.metadata["metavar"] or "TEXT"

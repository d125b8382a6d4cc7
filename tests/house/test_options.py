"""One table of options: the command line, the TOML file and Python have the same ones."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import click
import pytest

from difflapse.cli.app import COMMANDS, program
from difflapse.pipeline.config import RunOptions

ABOUT_THE_COMMAND = {"inputs", "out", "config", "only_plan", "as_json", "quiet"}
"""What `difflapse run` takes beside the options of a run."""


def command(name: str) -> click.Command:
    found = program.get_command(click.Context(program), name)
    assert found is not None
    return found


def test_run_has_every_option_of_the_table_and_no_other() -> None:
    names = {parameter.name for parameter in command("run").params}
    assert names == {item.name for item in fields(RunOptions)} | ABOUT_THE_COMMAND


@pytest.mark.parametrize("item", fields(RunOptions), ids=lambda item: item.name)
def test_an_option_is_spelled_alike_and_explained(item) -> None:
    (parameter,) = [p for p in command("run").params if p.name == item.name]
    assert isinstance(parameter, click.Option)
    assert "--" + item.name.replace("_", "-") in parameter.opts
    assert item.metadata["help"]
    assert item.metadata["help"] in (parameter.help or "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_every_command_has_help(name: str) -> None:
    for parameter in command(name).params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts}"


def test_an_option_means_the_same_in_every_command() -> None:
    letters: dict[str, set[str]] = {}
    for name in COMMANDS:
        for parameter in command(name).params:
            for spelled in parameter.opts:
                if spelled.startswith("-") and not spelled.startswith("--"):
                    letters.setdefault(spelled, set()).add(str(parameter.name))
    assert all(len(meanings) == 1 for meanings in letters.values()), letters


def test_defaults_pass_their_own_checks_and_come_back_from_text() -> None:
    assert RunOptions.from_mapping(RunOptions().to_mapping()) == RunOptions()


def test_pins_are_plain_and_hold_every_dependency(root: Path) -> None:
    import re
    import tomllib

    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+", pin) for pin in pins)
    names = [pin.partition("==")[0] for pin in pins]
    assert len(names) == len(set(names))
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = {
        re.split(r"[^A-Za-z0-9_.-]", text)[0].lower()
        for group in [project["dependencies"], *extras]
        for text in group
    }
    assert wanted - {"difflapse"} <= set(names)

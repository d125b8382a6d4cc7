"""The documentation: its Python runs, its commands exist, its links lead somewhere, and it is complete.

A Python block that cannot be run says why in an HTML comment on the line before it: ``not run: reason``. The
blocks of a page are run in order, as a reader would, in a folder that holds a small night called NIGHT.
"""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass, fields
from pathlib import Path

import click
import pytest

from difflapse.cli.app import COMMANDS, program
from difflapse.pipeline.config import RunOptions

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
]
NOT_RUN = re.compile(r"<!-- not run: (?P<why>\S.*?) -->")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    line: int
    text: str
    not_run: str


def blocks(page: Path, language: str) -> list[Block]:
    """Fenced blocks of one language."""
    found = []
    lines = page.read_text(encoding="utf-8").split("\n")
    at = 0
    while at < len(lines):
        opened = re.fullmatch(r"```(\w*).*", lines[at])
        at += 1
        if not opened:
            continue
        first = at
        while not lines[at].startswith("```"):
            at += 1
        before = next((line for line in reversed(lines[: first - 1]) if line.strip()), "")
        why = NOT_RUN.fullmatch(before.strip())
        if opened.group(1) == language:
            found.append(Block(language, first + 1, "\n".join(lines[first:at]), why["why"] if why else ""))
        at += 1
    return found


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


PYTHON_PAGES = [page for page in PAGES if any(not block.not_run for block in blocks(page, "python"))]


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=name)
def test_python_of_a_page_runs(
    page: Path, small_night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(small_night, tmp_path / "NIGHT")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        if not block.not_run:
            code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
            exec(code, names)


def test_there_is_python_to_run() -> None:
    assert {name(page) for page in PYTHON_PAGES} >= {"README.md", "docs/python.md"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_of_a_page_exist(page: Path) -> None:
    for block in blocks(page, "sh"):
        if block.not_run:
            continue
        for line in block.text.replace("\\\n", " ").split("\n"):
            words = shlex.split(line, comments=True)
            if words[:1] == ["difflapse"]:
                _check_command(words[1:], f"{name(page)}:{block.line}: {line}")


def _check_command(words: list[str], where: str) -> None:
    if words[0].startswith("-"):
        assert words[0] in ("--help", "--version"), where
        return
    assert words[0] in COMMANDS or words[0] == "COMMAND", where
    if words[0] == "COMMAND":
        return
    command = program.get_command(click.Context(program), words[0])
    assert command is not None
    known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}
    for word in words[1:]:
        if word.startswith("-"):
            assert word.partition("=")[0] in known, where


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), f"{name(page)} -> {target}"


def test_commands_page_has_every_command() -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert re.search(rf"^## `difflapse {command}\b", text, re.MULTILINE), command


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_page_has_every_option_and_no_other(command: str) -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    section = re.split(r"^## ", text.partition(f"## `difflapse {command}")[2], flags=re.MULTILINE)[0]
    told = set(re.findall(r"(?<![\w-])--[a-z](?:[a-z-]*[a-z])?", section))
    found = program.get_command(click.Context(program), command)
    assert found is not None
    known = {
        option for p in found.params for option in (*p.opts, *p.secondary_opts) if option.startswith("--")
    }
    positive = {option for p in found.params for option in p.opts if option.startswith("--")}
    assert positive - told == set(), "missing from the page"
    everywhere = {
        option
        for other in COMMANDS
        for p in program.get_command(click.Context(program), other).params  # type: ignore[union-attr]
        for option in (*p.opts, *p.secondary_opts)
    }
    assert told - known - everywhere - {"--help", "--version"} == set(), "on the page but not in the program"


@pytest.mark.parametrize("item", fields(RunOptions), ids=lambda item: item.name)
def test_commands_page_gives_every_choice_and_default(item) -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    row, *_ = re.findall(rf"^\| `--{item.name.replace('_', '-')}[ `].*$", text, re.MULTILINE)
    for choice in item.metadata["choices"]:
        assert f"`{choice}`" in row
    default = item.default
    if isinstance(default, tuple):
        default = ",".join(default)
    if not isinstance(default, bool) and default != "":
        shown = f"{default:g}" if isinstance(default, float) else str(default)
        assert f"`{shown}`" in row

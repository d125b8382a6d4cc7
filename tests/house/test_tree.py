"""The files themselves: no machine's paths, no registry's host, no invisible characters."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

# Spelled in pieces, so that this file does not find itself.
MACHINE_PATH = re.compile(
    r"(?<![\w.:/~-])/(?:" + "|".join(("wo" + "rk", "ro" + "ot", "ho" + "me", "Us" + "ers")) + r")/"
)
REGISTRY = re.compile(
    "|".join(
        ("pypi" + r"\.org", "python" + "hosted", "ana" + r"conda\.org", "index" + "-url", "find" + "-links")
    )
)
FINE = set("\n\t")


def test_no_path_of_one_machine(tree: list[Path], root: Path) -> None:
    assert _lines_with(MACHINE_PATH, tree, root) == []


def test_no_registry_is_named(tree: list[Path], root: Path) -> None:
    assert _lines_with(REGISTRY, tree, root) == []


def test_text_is_utf8_without_invisible_characters(tree: list[Path], root: Path) -> None:
    strange = []
    for file in tree:
        text = file.read_bytes().decode("utf-8")
        for number, line in enumerate(text.split("\n"), 1):
            for letter in line:
                category = unicodedata.category(letter)
                if letter not in FINE and (category[0] == "C" or (category[0] == "Z" and letter != " ")):
                    strange.append(
                        f"{file.relative_to(root)}:{number}: {unicodedata.name(letter, repr(letter))}"
                    )
    assert strange == []


def test_text_files_end_with_one_newline_and_no_trailing_spaces(tree: list[Path], root: Path) -> None:
    untidy = []
    for file in tree:
        text = file.read_bytes().decode("utf-8")
        if text and (not text.endswith("\n") or text.endswith("\n\n")):
            untidy.append(f"{file.relative_to(root)}: end of file")
        untidy += [
            f"{file.relative_to(root)}:{n}"
            for n, line in enumerate(text.split("\n"), 1)
            if line != line.rstrip()
        ]
    assert untidy == []


def test_every_folder_of_tests_and_sources_is_lower_case(tree: list[Path], root: Path) -> None:
    for file in tree:
        relative = file.relative_to(root)
        if relative.parts[0] in ("src", "tests"):
            assert relative.as_posix() == relative.as_posix().lower()


def _lines_with(pattern: re.Pattern[str], tree: list[Path], root: Path) -> list[str]:
    return [
        f"{file.relative_to(root)}:{number}: {line.strip()[:100]}"
        for file in tree
        for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), 1)
        if pattern.search(line)
    ]

"""The public names: there, documented, and no others."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

import difflapse
from difflapse.errors import DifflapseError, MissingDependencyError
from difflapse.methods import TABLE, find_method

PROMISED = ("__version__", "run", "open_run", "RunOptions", "Run", "Night")


@pytest.mark.parametrize("name", PROMISED)
def test_promised_names_are_there(name: str) -> None:
    assert name in difflapse.__all__
    assert getattr(difflapse, name) is not None


def test_every_public_name_exists_says_what_it_is_and_is_documented(root: Path) -> None:
    page = (root / "docs" / "python.md").read_text(encoding="utf-8")
    for name in difflapse.__all__:
        thing = getattr(difflapse, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), f"difflapse.{name} has no docstring"
        assert name in page, f"difflapse.{name} is not in docs/python.md"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        difflapse.no_such_thing  # noqa: B018


def test_dir_shows_the_public_names() -> None:
    assert set(difflapse.__all__) <= set(dir(difflapse))


@pytest.mark.parametrize("method", [m for m in TABLE if m.where], ids=lambda m: f"{m.kind}-{m.name}")
def test_every_named_method_is_where_the_table_says(method) -> None:
    assert callable(find_method(method.kind, method.name))


def test_every_module_can_be_imported_by_itself(root: Path) -> None:
    source = root / "src"
    for file in sorted((source / "difflapse").rglob("*.py")):
        parts = list(file.relative_to(source).with_suffix("").parts)
        if parts[-1] == "__main__":
            continue
        try:
            module = importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
        except MissingDependencyError as error:  # a module that needs an extra says which
            assert "pip install 'difflapse[" in error.hint
            continue
        assert module.__doc__, f"{file} says nothing about itself"


def test_errors_derive_from_one_base() -> None:
    from difflapse import errors

    raised = [
        thing
        for _, thing in inspect.getmembers(errors, inspect.isclass)
        if thing.__module__ == errors.__name__
    ]
    assert all(issubclass(thing, DifflapseError) for thing in raised)

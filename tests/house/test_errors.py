"""Errors reach home from a worker with all they know, and every one has its exit code."""

from __future__ import annotations

import importlib
import pickle
from pathlib import Path

import pytest

from difflapse import errors
from difflapse.errors import DifflapseError

EXIT_CODES = {
    "DifflapseError": 1,
    "OptionError": 2,
    "InputError": 3,
    "MissingDependencyError": 4,
    "TooManyFailedError": 5,
    "PrecisionError": 5,
    "OutputError": 6,
    "FrameError": 3,
    "ReadError": 3,
    "MeasureError": 3,
    "AlignError": 3,
}


def all_errors() -> list[type[DifflapseError]]:
    """Every error class of the house, wherever it is defined."""
    package = Path(errors.__file__).parent
    for file in package.rglob("*.py"):
        parts = file.relative_to(package.parent).with_suffix("").parts
        if "class" in (text := file.read_text(encoding="utf-8")) and "Error)" in text:
            importlib.import_module(".".join(p for p in parts if p != "__init__"))
    found: list[type[DifflapseError]] = [DifflapseError]
    for one in found:
        found.extend(child for child in one.__subclasses__() if child not in found)
    return found


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling_with_its_facts(kind: type[DifflapseError]) -> None:
    sent = kind("found 4 stars, needed 6", "a longer exposure", {"found": 4, "needed": 6})
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        home = pickle.loads(pickle.dumps(sent, protocol))
        assert type(home) is kind
        assert (home.message, home.hint, home.facts) == (sent.message, sent.hint, sent.facts)
        assert str(home) == "found 4 stars, needed 6"
        assert home.exit_code == sent.exit_code


@pytest.mark.parametrize("name", EXIT_CODES)
def test_exit_codes_are_the_promised_ones(name: str) -> None:
    assert getattr(errors, name).exit_code == EXIT_CODES[name]


def test_the_tree_is_drawn_in_the_docstring_whole() -> None:
    assert errors.__doc__ is not None
    for kind in all_errors():
        if kind.__module__ == errors.__name__:
            assert kind.__name__ in errors.__doc__


@pytest.mark.parametrize(
    ("told", "in_python"),
    [
        ("--max-failed is 7; it is a fraction, 0 to 1", "max_failed is 7; it is a fraction, 0 to 1"),
        ("another name, or --overwrite", "another name, or overwrite=True"),
        ("--no-reel makes none; --max-failed 1 goes on", "reel=False makes none; max_failed=1 goes on"),
        ("another --reference, or --align features", "another reference, or align='features'"),
        ("give another folder with -o OUT", "give another folder with out=OUT"),
        (
            "a crop (--roi), or --center 303.2,46.0 --size 1deg",
            "a crop (roi), or center='303.2,46.0' size='1deg'",
        ),
        ("nothing - of that -- kind", "nothing - of that -- kind"),
    ],
)
def test_python_sees_options_as_its_keywords(told: str, in_python: str) -> None:
    """What the command line prints names options with dashes; what an exception shows does not."""
    error = pickle.loads(pickle.dumps(errors.OptionError(told, told)))
    assert (error.message, error.hint) == (told, told)
    assert str(error) == in_python
    assert error.__notes__ == [in_python]


def test_the_options_without_a_value_are_those_of_a_run() -> None:
    from dataclasses import fields

    from difflapse.pipeline.config import RunOptions

    assert set(errors.FLAGS) == {item.name for item in fields(RunOptions) if isinstance(item.default, bool)}


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("--max-failed is 2", "max_failed is 2"),
        ("try --overwrite, or -o OUT", "try overwrite=True, or out=OUT"),
        ("--no-reel goes without", "reel=False goes without"),
        ("--no-figures does", "--no-figures does"),
        ("/data/m31--lum/night--solve/a.fits is gone", "/data/m31--lum/night--solve/a.fits is gone"),
    ],
)
def test_python_is_told_of_keywords_and_of_names_as_they_are(told: str, shown: str) -> None:
    assert str(DifflapseError(told)) == shown

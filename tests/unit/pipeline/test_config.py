"""Options: every one is checked, says what it was and what it may be, and suggests what was meant."""

from __future__ import annotations

import dataclasses
import inspect
import tomllib
from typing import Any

import pytest
import tomli_w

import difflapse
from difflapse.errors import OptionError
from difflapse.pipeline.config import RunOptions, parse_follow, parse_lag, parse_memory, parse_roi, suggest


def test_the_python_api_names_every_option_with_its_default() -> None:
    """`difflapse.run` hides nothing behind **kwargs, and repeats no default wrongly."""
    parameters = inspect.signature(difflapse.run).parameters
    options = {name: p for name, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
    assert not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    assert options.pop("progress").default is None
    fields = {item.name: item.default for item in dataclasses.fields(RunOptions)}
    assert {name: p.default for name, p in options.items()} == fields
    assert list(options) == list(fields)


def test_every_option_says_what_it_is_for() -> None:
    for item in dataclasses.fields(RunOptions):
        assert len(item.metadata["help"]) > 10, item.name


CHOICES = [f for f in dataclasses.fields(RunOptions) if f.metadata["choices"]]


@pytest.mark.parametrize("item", CHOICES, ids=lambda f: f.name)
def test_every_choice_is_taken_and_nothing_else(item: dataclasses.Field[Any]) -> None:
    for choice in item.metadata["choices"]:
        options = RunOptions.from_mapping({item.name: choice})
        value = getattr(options, item.name)
        assert value == ((choice,) if item.metadata["many"] and choice != "none" else value)
        assert choice in (value if item.metadata["many"] else (value,)) or choice == "none"
    with pytest.raises(OptionError, match=item.name) as caught:
        RunOptions.from_mapping({item.name: "no such thing"})
    assert item.metadata["choices"][0] in str(caught.value)


WRONG: dict[str, list[Any]] = {
    "window": ["2", "0", "nine", 9.5, True],
    "width": ["63", "-1", "wide"],
    "fps": ["0", "-3", "121", "nan", "fast"],
    "max_failed": ["-0.1", "1.01", "nan", "half"],
    "require_rms": ["-0.1", "nan", "inf", "small"],
    "workers": ["-1", "two", 1.5, True],
    "memory": ["much", "-2GB", "0", "GB"],
    "lag": ["0", "-1", "1.5", "10 parsec", "", "0min"],
    "reference": [""],
    "roi": ["1,2,3", "1,2,3,4,5", "a,b,c,d", "0,0,7,100", "0,0,100,7", "1.5,2,30,40"],
    "overwrite": ["yes", 1],
    "split": ["no", 0],
    "panels": ["", []],
}


@pytest.mark.parametrize("name, value", [(n, v) for n, values in WRONG.items() for v in values])
def test_what_does_not_fit_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(OptionError) as caught:
        RunOptions.from_mapping({name: value})
    assert name in str(caught.value)
    assert caught.value.exit_code == 2


RIGHT: dict[str, list[tuple[Any, Any]]] = {
    "window": [("3", 3), (11, 11)],
    "width": [("64", 64), (4096, 4096)],
    "fps": [("0.5", 0.5), (30, 30.0)],
    "max_failed": [("0", 0.0), (1, 1.0)],
    "require_rms": [("0.1", 0.1), (0, 0.0)],
    "workers": [("0", 0), ("7", 7)],
    "memory": [("2GB", "2GB")],
    "lag": [(3, "3"), ("10min", "10min")],
    "reference": [(4, "4"), ("middle", "middle")],
    "panels": [("aligned", ("aligned",)), ("template,  difference", ("template", "difference"))],
    "save": [("none", ()), (["aligned"], ("aligned",)), ("aligned,differences", ("aligned", "differences"))],
    "diff": [("base", "template")],
    "overwrite": [(True, True)],
}


@pytest.mark.parametrize("name, value, meant", [(n, v, m) for n, pairs in RIGHT.items() for v, m in pairs])
def test_text_and_values_mean_the_same(name: str, value: object, meant: object) -> None:
    found = getattr(RunOptions.from_mapping({name: value}), name)
    assert found == meant
    assert type(found) is type(meant)


def test_an_unknown_option_is_refused_with_the_nearest_word() -> None:
    with pytest.raises(OptionError) as caught:
        RunOptions.from_mapping({"algin": "wcs"})
    assert "algin" in str(caught.value)
    assert "'align'" in caught.value.hint
    with pytest.raises(OptionError) as caught:
        RunOptions.from_mapping({"align": "astersim"})
    assert "'asterism'" in caught.value.hint


def test_dashes_are_spelled_as_on_the_command_line() -> None:
    assert RunOptions.from_mapping({"max-failed": 0.25}).max_failed == 0.25


@pytest.mark.parametrize(
    "given",
    [
        {"center": "10,20"},
        {"size": "1deg"},
        {"roi": "0,0,100,100", "center": "10,20", "size": "1deg"},
    ],
)
def test_crops_are_whole_and_one(given: dict[str, str]) -> None:
    with pytest.raises(OptionError):
        RunOptions.from_mapping(given)


@pytest.mark.parametrize("transform", ["lens", "affine"])
def test_a_transform_of_what_is_not_aligned_is_refused(transform: str) -> None:
    with pytest.raises(OptionError, match=f"transform is {transform}, but with align none"):
        RunOptions(align="none", transform=transform)
    assert RunOptions(align="none").transform == "auto"


def test_without_a_difference_there_is_one_panel_less() -> None:
    assert RunOptions(diff="none").shown_panels == ("aligned",)
    assert RunOptions(diff="none").panels == RunOptions().panels  # what run.toml keeps for another run
    assert RunOptions(diff="none", panels=("aligned", "sigma")).shown_panels == ("aligned", "sigma")


def test_options_survive_toml() -> None:
    options = RunOptions.from_mapping(
        {"diff": "running", "lag": "10min", "save": "aligned", "fps": 7.5, "split": True, "roi": "2,4,100,50"}
    )
    text = tomli_w.dumps(options.to_mapping())
    assert RunOptions.from_mapping(tomllib.loads(text)) == options
    assert RunOptions.from_mapping(RunOptions().to_mapping()) == RunOptions()


@pytest.mark.parametrize(
    "text, frames, seconds",
    [
        ("1", 1, 0),
        (" 12 ", 12, 0),
        ("90s", 0, 90),
        ("90 sec", 0, 90),
        ("1.5min", 0, 90),
        ("2h", 0, 7200),
        ("2 hour", 0, 7200),
        ("0.5d", 0, 43200),
    ],
)
def test_a_lag_is_frames_or_a_time(text: str, frames: int, seconds: float) -> None:
    assert parse_lag(text) == (frames, seconds)


@pytest.mark.parametrize(
    "text, size",
    [
        ("2GB", 2 * 1024**3),
        ("1500MiB", 1500 * 1024**2),
        ("3g", 3 * 1024**3),
        ("0.5 TB", 1024**4 // 2),
        ("4096", 4096),
    ],
)
def test_a_size_of_memory_is_read(text: str, size: int) -> None:
    assert parse_memory(text) == size


def test_a_crop_may_begin_outside() -> None:
    assert parse_roi("-5, -7,100 ,50") == (-5, -7, 100, 50)


def test_a_suggestion_names_the_nearest_or_all() -> None:
    assert suggest("wdith", ["width", "window"]) == "did you mean 'width'?"
    assert suggest("zzz", ["width", "window"]) == "known are width, window"


def test_follow_takes_places_that_hold_commas() -> None:
    one, two = "243.71,33.02@2018-08-24T04:02:18", "16h15m07s,+33d03m@2018-08-24T05:40"
    for given in ((one, two), [one, two], f"{one};{two}"):
        options = RunOptions.from_mapping({"follow": given})
        assert options.follow == (one, two)
        assert RunOptions.from_mapping(options.to_mapping()) == options
    assert parse_follow((one, two)) == (
        ("243.71", "33.02", "2018-08-24T04:02:18"),
        ("16h15m07s", "+33d03m", "2018-08-24T05:40"),
    )
    assert parse_follow(("comet",)) == "comet"
    assert parse_follow(("46P.ecsv",)) == "46P.ecsv"


@pytest.mark.parametrize(
    ("follow", "words"),
    [
        ("1,2@2018-08-24T04:02", "1 time"),
        (("comet", "46P.ecsv"), "'comet'; it must be"),
        (("1,2@2018-08-24T04:02", "3,4"), "'3,4'; it must be"),
        (("1,2@2018-08-24T04:02", "3,4@tomorrow"), "tomorrow"),
        (("1,2@2018-08-24T04:02", "3 4@2018-08-24T05:02"), "3 4"),
    ],
)
def test_a_follow_that_makes_no_sense_is_refused(follow: object, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        RunOptions.from_mapping({"follow": follow})


def test_a_size_alone_is_that_of_what_is_followed() -> None:
    assert RunOptions(follow=("comet",), size="300px").size == "300px"
    with pytest.raises(OptionError, match="go together"):
        RunOptions(size="300px")
    with pytest.raises(OptionError, match="go together"):
        RunOptions(follow=("comet",), center="1,2")

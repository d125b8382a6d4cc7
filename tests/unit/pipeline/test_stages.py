"""The table of stages: checked, grouped, and each value dropped after its last reader."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from difflapse.pipeline.context import Night
from difflapse.pipeline.stages import STAGES, Scope, Stage, plan_groups, run_group

SCOPES = {"E": Scope.EACH, "W": Scope.WINDOW, "N": Scope.NIGHT}


def stage(line: str, work: Callable[..., Any] | None = None) -> Stage:
    """``E name: a b -> c d`` or, with large values, ``E name: a b => c d``."""
    head, _, flow = line.partition(":")
    large = "=>" in flow
    reads, _, makes = flow.partition("=>" if large else "->")
    names = tuple(makes.split())
    return Stage(
        head[2:].strip(),
        SCOPES[head[0]],
        work or (lambda night, k, values: {name: (name, k) for name in names}),
        tuple(reads.split()),
        names,
        large,
    )


def table(*lines: str) -> tuple[Stage, ...]:
    return tuple(stage(line) for line in lines)


def shape(stages: tuple[Stage, ...]) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    return [("+".join(s.name for s in g.stages), g.needs, g.gives) for g in plan_groups(stages)]


def test_the_houses_own_table_is_sound() -> None:
    groups = plan_groups()
    names = [
        "defects", "measure", "reference", "align", "lens", "interpolate", "sky", "follow", "state", "template",
        "stars", "stills", "watch", "sorts", "catalogue", "plant", "draw", "comet", "light", "tables", "learn",
        "changes", "curves", "depth", "crossmatch", "page", "movie", "reel",
    ]  # fmt: skip
    assert [g.name for g in groups] == names
    assert [g.name for g in groups if not g.is_night] == ["measure", "align", "draw"]
    second = groups[names.index("draw")]
    assert [s.name for s in second.stages] == [
        "read", "warp", "subtract", "sight", "residuals", "probe", "photometry", "save", "draw",
    ]  # fmt: skip
    assert set(second.gives) == {"shown", "told", "saved", "sighted", "scatter", "probed", "measured"}
    assert not {v for s in STAGES if s.large for v in s.makes} & {v for g in groups for v in g.gives}


def test_neighbouring_stages_of_single_frames_become_one_task() -> None:
    assert shape(table("E a: -> x", "E b: x -> y", "W c: y -> z")) == [("a+b+c", (), ("z",))]


def test_a_night_stage_stands_alone() -> None:
    found = shape(table("E a: -> x", "N n: x -> m", "N o: -> p", "E b: x -> y"))
    assert found == [("a", (), ("x",)), ("n", ("x",), ("m",)), ("o", (), ("p",)), ("b", ("x",), ("y",))]


def test_a_value_that_nobody_makes_is_found() -> None:
    with pytest.raises(ValueError, match="'b' reads 'y'"):
        plan_groups(table("E a: -> x", "E b: y -> z"))


def test_a_value_that_is_made_too_late_is_found() -> None:
    with pytest.raises(ValueError, match="'a' reads 'y'"):
        plan_groups(table("E a: y -> x", "E b: -> y"))


def test_two_makers_of_one_value_are_found() -> None:
    with pytest.raises(ValueError, match="both 'a' and 'b'"):
        plan_groups(table("E a: -> x", "E b: -> x"))


def test_large_values_are_made_again_beyond_a_night_stage() -> None:
    stages = table(
        "E read: => pixels", "E measure: pixels -> stars", "N ref: stars -> r", "E warp: pixels -> done"
    )
    assert shape(stages) == [
        ("read+measure", (), ("stars",)),
        ("ref", ("stars",), ("r",)),
        ("read+warp", (), ("done",)),
    ]


def test_what_a_large_value_is_made_of_is_made_again_too() -> None:
    stages = table(
        "E open: -> name",
        "E read: name => raw",
        "E clean: raw => pixels",
        "E m: pixels -> s",
        "N r: s -> t",
        "E w: pixels -> d",
    )
    assert shape(stages)[-1] == ("read+clean+w", ("name",), ("d",))
    assert shape(stages)[0] == ("open+read+clean+m", (), ("name", "s"))


def test_frames_go_through_a_group(night: Night) -> None:
    group = plan_groups(table("E a: -> x", "E b: x -> y", "N n: y -> m", "E c: x y -> z"))
    assert run_group(group[0], night, 3, {}) == {"x": ("x", 3), "y": ("y", 3)}
    assert run_group(group[2], night, 3, {"x": 1, "y": 2}) == {"z": ("z", 3)}


def test_each_value_is_dropped_after_its_last_reader(night: Night) -> None:
    """Memory: an image that no later stage reads must be gone when that stage runs."""
    seen: list[bool] = []
    kept: list[weakref.ref[np.ndarray]] = []

    def make(_: Night, k: int, values: Mapping[str, Any]) -> dict[str, Any]:
        image = np.zeros(1000)
        kept.append(weakref.ref(image))
        return {"image": image}

    def use(_: Night, k: int, values: Mapping[str, Any]) -> dict[str, Any]:
        return {"number": float(values["image"].sum())}

    def after(_: Night, k: int, values: Mapping[str, Any]) -> dict[str, Any]:
        seen.append(kept[0]() is None and "image" not in values)
        return {"done": values["number"]}

    stages = (
        stage("E a: => image", make),
        stage("E b: image -> number", use),
        stage("E c: number -> done", after),
    )
    (group,) = plan_groups(stages)
    assert run_group(group, night, 0, {}) == {"done": 0.0}
    assert seen == [True]


def test_values_that_were_given_are_not_changed(night: Night) -> None:
    (_, _, group) = plan_groups(table("E a: -> x", "N n: x -> m", "E b: x -> y"))
    given = {"x": 1}
    run_group(group, night, 0, given)
    assert given == {"x": 1}

"""The way of the data through the house, written once as a table.

Each stage has a scope: `EACH` frame by itself, `WINDOW` with its neighbours in time, or the whole `NIGHT` once,
in the main process. The runner checks the table, joins neighbouring EACH
and WINDOW stages into one task for a worker process, drops each value after its last reader, and makes
*large* values again on the far side of a NIGHT stage rather than keep them for all frames: a file is read
twice, but memory does not grow with the night.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from difflapse.pipeline import (
    changes,
    curves,
    depth,
    encode,
    follow,
    interpolate,
    learn,
    night_stages,
    plant,
    products,
    reel,
    report,
    sight,
    starlight,
    state,
    tasks,
)
from difflapse.pipeline.config import RunOptions
from difflapse.pipeline.context import Night
from difflapse.pipeline.crossmatch import crossmatch
from difflapse.pipeline.sky import find_sky


class Scope(Enum):
    """How much of the night a stage must see at once."""

    EACH = "each"
    WINDOW = "window"
    NIGHT = "night"


@dataclass(frozen=True)
class Stage:
    """One step of the way."""

    name: str
    scope: Scope
    work: Callable[..., Any]
    """Takes the night, a frame and its values, and returns what it makes; a NIGHT stage takes the desk."""
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    large: bool = False
    """Its values are too large to be kept for all frames: made again where they are needed again."""
    optional: bool = False
    """Of the night: what goes wrong in it is told, and the night goes on without its products."""
    seeks: bool = False
    """It serves what changed, the light of all stars, or what is planted: left out where none of it is asked for."""


STAGES: tuple[Stage, ...] = (
    Stage("defects", Scope.NIGHT, night_stages.find_defects, (), ("defects",)),
    Stage("read", Scope.EACH, tasks.read, (), ("pixels",), large=True),
    Stage("measure", Scope.EACH, tasks.measure, ("pixels",), ("stars", "quality", "digest")),
    Stage("reference", Scope.NIGHT, night_stages.choose_reference, ("stars", "quality"), ("reference",)),
    Stage("align", Scope.EACH, tasks.align, ("stars", "quality"), ("alignment", "scale")),
    Stage("lens", Scope.NIGHT, night_stages.fit_lens, ("stars", "alignment"), ("lens",)),
    Stage("interpolate", Scope.NIGHT, interpolate.interpolate_frames, ("stars", "alignment"), ()),
    Stage("sky", Scope.NIGHT, find_sky, ("stars", "alignment"), ("sky",)),
    Stage("follow", Scope.NIGHT, follow.follow_target, ("alignment", "quality", "scale"), ("canvas",)),
    Stage("state", Scope.NIGHT, state.write_state, ("quality", "alignment", "scale"), ()),
    Stage("template", Scope.NIGHT, night_stages.make_template, ("quality", "alignment", "scale"), ("scene",)),
    Stage("stars", Scope.NIGHT, starlight.begin_catalogue, (), (), seeks=True),
    Stage("stills", Scope.NIGHT, products.begin_stills, (), ()),
    Stage("watch", Scope.NIGHT, sight.prepare_watch, ("stars", "quality", "alignment"), (), seeks=True),
    Stage("sorts", Scope.NIGHT, learn.prepare_sorts, ("quality",), (), seeks=True),
    Stage("catalogue", Scope.NIGHT, starlight.find_catalogue, ("quality",), (), seeks=True),
    Stage("plant", Scope.NIGHT, plant.plant, ("quality", "alignment", "scale"), (), seeks=True),
    Stage(
        "warp", Scope.EACH, tasks.warp, ("pixels", "alignment", "quality", "scale"), ("warped",), large=True
    ),
    Stage(
        "subtract",
        Scope.WINDOW,
        tasks.subtract,
        ("warped", "scale", "alignment", "quality"),
        ("science", "difference"),
        large=True,
    ),
    Stage(
        "sight",
        Scope.EACH,
        sight.sight,
        ("pixels", "difference", "alignment", "scale"),
        ("sighted",),
        seeks=True,
    ),
    Stage("residuals", Scope.EACH, learn.residuals, ("difference",), ("scatter",), seeks=True),
    Stage(
        "probe",
        Scope.EACH,
        depth.probe,
        ("pixels", "difference", "sighted", "alignment", "scale"),
        ("probed",),
        seeks=True,
    ),
    Stage(
        "photometry",
        Scope.EACH,
        starlight.measure_light,
        ("pixels", "alignment", "quality"),
        ("measured",),
        seeks=True,
    ),
    Stage("save", Scope.EACH, tasks.save, ("science", "difference", "alignment", "quality"), ("saved",)),
    Stage(
        "draw",
        Scope.EACH,
        tasks.draw,
        ("science", "difference", "quality", "alignment", "scale"),
        ("shown", "told"),
    ),
    Stage("comet", Scope.NIGHT, changes.begin_comet, ("sighted",), (), optional=True, seeks=True),
    Stage("light", Scope.NIGHT, curves.begin_curves, ("quality", "measured"), (), optional=True, seeks=True),
    Stage("tables", Scope.NIGHT, products.write_products, ("alignment", "saved"), ()),
    Stage("learn", Scope.NIGHT, learn.learn_model_error, ("scatter",), (), optional=True, seeks=True),
    Stage(
        "changes",
        Scope.NIGHT,
        changes.find_changes,
        ("sighted", "alignment", "scale"),
        (),
        optional=True,
        seeks=True,
    ),
    Stage("curves", Scope.NIGHT, curves.finish_curves, ("measured",), (), seeks=True),
    Stage("depth", Scope.NIGHT, depth.measure_depth, ("probed", "sighted"), (), optional=True, seeks=True),
    Stage("crossmatch", Scope.NIGHT, crossmatch, (), (), optional=True, seeks=True),
    Stage("page", Scope.NIGHT, report.begin_tables, (), ()),
    Stage("movie", Scope.NIGHT, encode.encode_movie, ("shown",), ()),
    Stage(
        "reel",
        Scope.NIGHT,
        reel.make_reel,
        ("alignment", "quality", "scale", "shown"),
        (),
        optional=True,
        seeks=True,
    ),
)


def stages_of(options: RunOptions) -> tuple[Stage, ...]:
    """The stages that a run with such options goes through."""
    return tuple(stage for stage in STAGES if options.changes or not stage.seeks)


@dataclass(frozen=True)
class Group:
    """Stages joined into one task per frame, or one NIGHT stage."""

    stages: tuple[Stage, ...]
    needs: tuple[str, ...]
    """Per-frame values that must be handed in."""
    gives: tuple[str, ...]
    """Per-frame values that later groups read, or that nobody reads: the results."""

    @property
    def name(self) -> str:
        """The last stage's name: what the task is for."""
        return self.stages[-1].name

    @property
    def reads(self) -> set[str]:
        """All per-frame values that any of its stages reads."""
        return {value for stage in self.stages for value in stage.reads}

    @property
    def is_night(self) -> bool:
        """Whether it is one NIGHT stage."""
        return self.stages[0].scope is Scope.NIGHT


def plan_groups(stages: tuple[Stage, ...] = STAGES, known: tuple[str, ...] = ()) -> tuple[Group, ...]:
    """Check a table of stages and join it into groups; values that are `known` need no stage that makes them.

    Raises
    ------
    ValueError
        A stage reads what none before it makes, or two stages make the same value.
    """
    makers: dict[str, Stage] = {}
    for stage in stages:
        for value in stage.reads:
            if value not in makers and value not in known:
                raise ValueError(f"stage {stage.name!r} reads {value!r}, which no stage before it makes")
        for value in stage.makes:
            if value in makers:
                raise ValueError(f"{value!r} is made by both {makers[value].name!r} and {stage.name!r}")
            makers[value] = stage
    runs: list[list[Stage]] = []
    for stage in stages:
        alone = stage.scope is Scope.NIGHT
        if alone or not runs or runs[-1][0].scope is Scope.NIGHT:
            runs.append([stage])
        else:
            runs[-1].append(stage)
    full = [_with_remakes(run, makers) for run in runs]
    groups = []
    for n, run in enumerate(full):
        made = {value for stage in run for value in stage.makes}
        needs = {value for stage in run for value in stage.reads} - made
        if run[0].scope is Scope.NIGHT:
            groups.append(Group(tuple(run), tuple(sorted(needs)), tuple(sorted(made))))
            continue
        later = {value for other in full[n + 1 :] for stage in other for value in stage.reads}
        read_by_any = {value for stage in stages for value in stage.reads}
        small = {value for stage in run if not stage.large for value in stage.makes}
        gives = {value for value in small if value in later or value not in read_by_any}
        groups.append(Group(tuple(run), tuple(sorted(needs)), tuple(sorted(gives))))
    return tuple(groups)


def run_group(group: Group, night: Night, frame: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """Take one frame through the stages of a group; returns what the group gives."""
    values: dict[str, Any] = dict(given)
    result: dict[str, Any] = {}
    for n, stage in enumerate(group.stages):
        values.update(stage.work(night, frame, values))
        for value in [v for v in values if v in group.gives and v not in result]:
            result[value] = values[value]
        still_read = {v for later in group.stages[n + 1 :] for v in later.reads}
        for value in [v for v in values if v not in still_read]:
            del values[value]
    return result


def _with_remakes(run: list[Stage], makers: Mapping[str, Stage]) -> list[Stage]:
    """Put the makers of large values that a run needs, but does not make, before it."""
    if run[0].scope is Scope.NIGHT:
        return run
    out = list(run)
    while True:
        made = {value for stage in out for value in stage.makes}
        missing = [
            makers[v]
            for stage in out
            for v in stage.reads
            if v not in made and v in makers and makers[v].large
        ]
        if not missing:
            return out
        out.insert(0, missing[0])

"""`state.npz`: what was found out about a night before anything was subtracted, so that it need not be found again."""

from __future__ import annotations

import dataclasses
import importlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from difflapse._version import __version__
from difflapse.errors import InputError
from difflapse.io.products import atomic
from difflapse.io.source import is_url
from difflapse.model import Alignment, FrameFacts
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.records import Reference

NAME = "state.npz"
SECOND_PASS = ("template", "stills", "read", "warp", "subtract", "save", "draw", "tables", "movie")
"""Stages that a movie is made again with."""
_NOT_KEPT = ("night", "picture")
"""Shared values that only the stages before need."""
_HOUSE = "difflapse"


@dataclass(frozen=True, eq=False)
class State:
    """What a night was found to be."""

    name: str
    frames: tuple[FrameFacts, ...]
    """Their paths empty, but for URLs: `run.toml` says where they lie as seen from it."""
    shared: dict[str, Any]
    """As `Night.share` got them; paths of the reference are empty too."""
    values: dict[str, dict[int, Any]]
    """As `Desk.values`."""
    failed: dict[int, str]
    """Frames that were skipped until then, with the reason."""


def write_state(desk: Desk) -> None:
    """Write down what the second pass needs, when all of it is known and nothing else is."""
    from difflapse.pipeline.stages import STAGES

    night = desk.night
    read = {name for stage in STAGES if stage.name in SECOND_PASS for name in stage.reads}
    values = {name: dict(found) for name, found in desk.values.items() if name in read}
    if "alignment" in values:
        # residuals.fits has what was held out.
        values["alignment"] = {k: _bare(a) for k, a in values["alignment"].items()}
    kept = sorted(p.stem for p in Path(night.scratch).glob("*.pickle") if p.stem not in _NOT_KEPT)
    state = State(
        night.name,
        tuple(_unplaced(f) for f in night.frames),
        {
            name: _bare_reference(value) if isinstance(value := night.shared(name), Reference) else value
            for name in kept
        },
        values,
        dict(desk.failed),
    )
    save_state(Path(night.out) / NAME, state)
    desk.products.append(NAME)


def save_state(path: Path, state: State) -> None:
    """Write a state: plain values as JSON, and the arrays they mention, each once.

    Records are written with the names of their classes and fields, never as code: reading runs nothing.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    arrays: list[np.ndarray] = []
    seen: dict[int, int] = {}
    record = json.dumps({"difflapse": __version__, "state": _pack(state, arrays, seen)})
    named: dict[str, Any] = {f"a{n}": array for n, array in enumerate(arrays)}
    named["record"] = np.frombuffer(record.encode(), np.uint8)
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **named)


def load_state(path: Path) -> State:
    """Read what `save_state` wrote; a record of another version is refused, unless its fields are the same.

    Raises
    ------
    InputError
        There is none, it is damaged, or another version wrote it.
    """
    hint = "run the night again; this version's run writes one"
    try:
        with np.load(path, allow_pickle=False) as file:
            record = json.loads(file["record"].tobytes())
            arrays = {name: file[name] for name in file.files if name != "record"}
    except FileNotFoundError:
        raise InputError(f"there is no {path}: the run ended early, or an older version ran", hint) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read: {error}", hint) from None
    try:
        state = _unpack(record["state"], arrays)
        assert isinstance(state, State)
    except (AttributeError, KeyError, TypeError, ImportError, AssertionError):
        wrote = record.get("difflapse", "?") if isinstance(record, dict) else "?"
        raise InputError(
            f"{path} was written by difflapse {wrote}; this is {__version__}, which keeps other things", hint
        ) from None
    return state


def _unplaced(facts: FrameFacts) -> FrameFacts:
    """Without a path, that run and inputs may be moved together."""
    return replace(facts, path=facts.path if is_url(facts.path) else "")


def _bare_reference(reference: Reference) -> Reference:
    external = reference.external
    if external is not None:
        external = replace(external, facts=_unplaced(external.facts), path="")
    return replace(reference, facts=_unplaced(reference.facts), external=external)


def _bare(alignment: Alignment) -> Alignment:
    return replace(alignment, held_out=None, beside=None)


def _pack(value: Any, arrays: list[np.ndarray], seen: dict[int, int]) -> Any:
    """A value as JSON can hold it; its arrays are put aside and mentioned by number."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray):
        if id(value) not in seen:
            seen[id(value)] = len(arrays)
            arrays.append(value)
        return {"array": seen[id(value)]}
    if isinstance(value, np.generic):
        return {"scalar": [value.dtype.str, value.item()]}
    if isinstance(value, tuple):
        return {"tuple": [_pack(item, arrays, seen) for item in value]}
    if isinstance(value, list):
        return [_pack(item, arrays, seen) for item in value]
    if isinstance(value, Mapping):
        return {"map": [[_pack(k, arrays, seen), _pack(v, arrays, seen)] for k, v in value.items()]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        parts = {f.name: _pack(getattr(value, f.name), arrays, seen) for f in dataclasses.fields(kind)}
        return {"record": f"{kind.__module__}:{kind.__qualname__}", "fields": parts}
    raise TypeError(f"a {type(value).__name__} cannot be kept in {NAME}")


def _unpack(packed: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The value that `_pack` made this of."""
    if isinstance(packed, list):
        return [_unpack(item, arrays) for item in packed]
    if not isinstance(packed, dict):
        return packed
    if "array" in packed:
        return arrays[f"a{packed['array']}"]
    if "scalar" in packed:
        kind, value = packed["scalar"]
        return np.dtype(kind).type(value)
    if "tuple" in packed:
        return tuple(_unpack(item, arrays) for item in packed["tuple"])
    if "map" in packed:
        return {_unpack(k, arrays): _unpack(v, arrays) for k, v in packed["map"]}
    module, _, name = packed["record"].partition(":")
    if module.split(".")[0] != _HOUSE or "." in name:
        raise TypeError(packed["record"])
    kind = getattr(importlib.import_module(module), name)
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise TypeError(packed["record"])
    if {f.name for f in dataclasses.fields(kind)} != set(packed["fields"]):
        raise TypeError(packed["record"])
    return kind(**{key: _unpack(item, arrays) for key, item in packed["fields"].items()})

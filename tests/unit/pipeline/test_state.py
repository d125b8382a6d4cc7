"""What is kept of a night: it comes back as it was, and reading it runs nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from difflapse.errors import InputError
from difflapse.model import Alignment, ProductGrid, Transform
from difflapse.pipeline.records import Canvas
from difflapse.pipeline.state import State, load_state, save_state

from .conftest import facts


def state() -> State:
    mesh = np.linspace(0.9, 1.1, 24, dtype=np.float32).reshape(3, 2, 4)
    alignment = Alignment(Transform.identity(), "asterism", 41, float("nan"))
    return State(
        "night",
        (facts(0), facts(1)),
        {"canvas": Canvas(ProductGrid((40, 70), 2, (6.0, 3.5))), "lens": "one lens", "nothing": None},
        {"scale": {0: mesh, 1: None}, "alignment": {0: alignment, 1: alignment}, "same": {0: mesh}},
        {1: "too cloudy"},
    )


def test_a_state_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    save_state(path, state())
    found = load_state(path)
    assert found.frames == state().frames
    assert found.failed == {1: "too cloudy"}
    assert found.shared["canvas"].grid == ProductGrid((40, 70), 2, (6.0, 3.5))
    assert found.shared["nothing"] is None
    scale = found.values["scale"][0]
    assert scale.dtype == np.float32
    assert (scale == state().values["scale"][0]).all()
    assert found.values["same"][0] is scale  # an array is kept once
    assert found.values["scale"][1] is None
    back = found.values["alignment"][1]
    assert back.method == "asterism"
    assert np.isnan(back.rms_pix)
    assert back.transform(3.5, 4.25) == (3.5, 4.25)


def rewritten(path: Path, old: str, new: str) -> None:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    text = arrays["record"].tobytes().decode().replace(old, new)
    assert json.loads(text)
    arrays["record"] = np.frombuffer(text.encode(), np.uint8)
    np.savez_compressed(path, **arrays)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"n_matched"', '"n_matches"'),
        ("difflapse.pipeline.records:Canvas", "difflapse.pipeline.records:Canvass"),
        ("difflapse.pipeline.records:Canvas", "subprocess:Popen"),
        ("difflapse.pipeline.records:Canvas", "difflapse.io.products:sha256"),
    ],
)
def test_another_versions_state_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "state.npz"
    save_state(path, state())
    rewritten(path, old, new)
    with pytest.raises(InputError, match="was written by difflapse"):
        load_state(path)


def test_a_state_that_is_not_there_or_damaged_is_told(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    with pytest.raises(InputError, match="there is no"):
        load_state(path)
    save_state(path, state())
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(InputError, match="cannot be read"):
        load_state(path)


def test_an_array_of_objects_is_never_read(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    np.savez(path, record=np.array([{"a": 1}], object))
    with pytest.raises(InputError, match="cannot be read"):
        load_state(path)

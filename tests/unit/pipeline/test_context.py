"""What workers share: written once, read everywhere, kept until it is let go of."""

from __future__ import annotations

import pickle

import numpy as np

from difflapse.pipeline.context import Night, forget


def test_a_shared_value_comes_back_and_is_kept(night: Night) -> None:
    night.share("scene", {"a": np.arange(5)})
    first = night.shared("scene")
    assert np.array_equal(first["a"], np.arange(5))
    assert night.shared("scene") is first


def test_a_large_array_is_mapped_and_not_loaded(night: Night) -> None:
    np.save(night.array_path("template"), np.arange(12.0).reshape(3, 4))
    mapped = night.array("template")
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable
    assert mapped[2, 3] == 11


def test_after_forgetting_the_files_may_change(night: Night) -> None:
    night.share("scene", 1)
    assert night.shared("scene") == 1
    night.share("scene", 2)
    forget()
    assert night.shared("scene") == 2


def test_a_night_is_small_and_survives_the_way_to_a_worker(night: Night) -> None:
    text = pickle.dumps(night)
    assert len(text) < 400  # however many frames it has
    other = pickle.loads(text)
    assert (other.name, other.frames, other.options) == (night.name, night.frames, night.options)
    assert pickle.loads(text) is other  # one copy per process

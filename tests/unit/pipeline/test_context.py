"""What workers share: written once, read everywhere, kept until it is let go of."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from difflapse.errors import OutputError
from difflapse.pipeline.context import Night, forget


def test_a_shared_value_comes_back_and_is_kept(night: Night) -> None:
    night.share("scene", {"a": np.arange(5)})
    first = night.shared("scene")
    assert np.array_equal(first["a"], np.arange(5))
    assert night.shared("scene") is first


def test_a_large_array_is_filled_by_parts_and_mapped(night: Night) -> None:
    night.make_array("template", (2, 5, 3), np.float32)
    night.write("template", (1, 2, 0), np.arange(6).reshape(2, 3))
    forget()
    mapped = night.array("template")
    assert isinstance(mapped, np.memmap)
    assert mapped.dtype == np.float32
    assert np.array_equal(mapped[1, 2:4], [[0, 1, 2], [3, 4, 5]])
    assert mapped.sum() == 15  # what nobody wrote is zero


def test_what_is_written_into_a_mapped_array_stays_with_the_process(night: Night) -> None:
    night.make_array("template", (4,), np.uint8)
    night.array("template")[:] = 7
    forget()
    assert not night.array("template").any()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told_and_not_a_crash(night: Night) -> None:
    night.make_array("members", (2, 3), np.float32)
    night.array("members")
    night.array_path("members").unlink()
    night.array_path("members").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="scratch"):
        night.write("members", (0, 0), np.zeros((2, 3)))


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


def test_a_window_is_filled_and_nothing_beside_it(night: Night) -> None:
    night.make_array("template", (2, 5, 7), np.float32)
    night.write_window("template", (0, 1, 3), np.arange(12).reshape(2, 2, 3))
    forget()
    expected = np.zeros((2, 5, 7))
    expected[:, 1:3, 3:6] = np.arange(12).reshape(2, 2, 3)
    assert np.array_equal(night.array("template"), expected)
    night.write_window("template", (0, 3, 5), np.array([[50.0, 51], [52, 53]]))
    forget()
    assert np.array_equal(night.array("template")[0, 3:, 5:], [[50, 51], [52, 53]])


def test_an_array_of_ones_own_is_nobody_elses(night: Night) -> None:
    night.make_array("template", (4,), np.uint8)
    shared = night.array("template")
    own = night.own_array("template")
    own[:] = 7
    assert not shared.any()
    assert not night.own_array("template").any()

"""What every worker knows of the night, and the scratch folder that brings it the night's shared values."""

from __future__ import annotations

import errno
import functools
import math
import os
import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from difflapse.errors import OutputError
from difflapse.model import FrameFacts
from difflapse.pipeline.config import RunOptions


@dataclass(frozen=True, eq=False)
class Night:
    """One sequence being run. It travels to workers by the name of its scratch folder: one copy per process."""

    name: str
    frames: tuple[FrameFacts, ...]
    options: RunOptions
    scratch: str
    """Folder for shared values; removed when the run ends."""
    out: str
    """Folder of the products."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        path = Path(self.scratch) / "night.pickle"
        if not path.exists():
            part = path.with_suffix(".part")
            part.write_bytes(pickle.dumps((self.name, self.frames, self.options, self.scratch, self.out)))
            part.replace(path)
        return _open_night, (self.scratch,)

    def times(self, frames: Iterable[int] | None = None) -> list[float]:
        """Mid-exposure times (MJD, UTC) of all frames, or of those asked for, where they are known."""
        numbers = range(len(self.frames)) if frames is None else frames
        return [t for t in (self.frames[k].mid_mjd for k in numbers) if t is not None]

    def clock(self) -> np.ndarray:
        """Mid-exposure times of all frames, MJD; their numbers where one is unknown."""
        times = [facts.mid_mjd for facts in self.frames]
        return np.array(np.arange(len(times)) if None in times else times, float)

    def hours(self) -> np.ndarray:
        """The same in hours from the first; frame numbers where one is unknown."""
        clock = self.clock()
        known = len(self.times()) == len(self.frames)
        return np.asarray((clock - clock.min()) * 24) if known else clock

    def cadence_s(self) -> float | None:
        """Median time from one frame to the next, s; None where fewer than two times are known."""
        times = self.times()
        return float(np.median(np.diff(sorted(times))) * 86400) if len(times) > 1 else None

    def share(self, name: str, value: Any) -> None:
        """Write a value of the whole night where all workers find it; once only."""
        path = Path(self.scratch) / f"{name}.pickle"
        with path.open("wb") as file:
            pickle.dump(value, file, protocol=5)

    def has(self, name: str) -> bool:
        """Whether a value has been shared yet."""
        return (Path(self.scratch) / f"{name}.pickle").exists()

    def shared(self, name: str) -> Any:
        """Read a value that `share` wrote; kept by the process after the first time."""
        return _load_pickle(self.scratch, name)

    def array_path(self, name: str) -> Path:
        """Where a large array of the night lies."""
        return Path(self.scratch) / f"{name}.npy"

    def has_array(self, name: str) -> bool:
        """Whether a large array has been laid out."""
        return self.array_path(name).exists()

    def make_array(self, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        """Lay out a large array of the night, to be filled with `write` from any process."""
        with self.array_path(name).open("wb") as file:
            header = {
                "shape": shape,
                "fortran_order": False,
                "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
            }
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + math.prod(shape) * np.dtype(dtype).itemsize)

    def write(self, name: str, place: tuple[int, ...], value: np.ndarray) -> None:
        """Fill a contiguous part of a large array that begins at index `place`.

        Written, not mapped: where the disk is full, a written file says so and a mapped one ends the process.

        Raises
        ------
        OutputError
            The disk is full, most likely.
        """
        whole = self.array(name)
        start = whole.offset + int(np.ravel_multi_index(place, whole.shape)) * whole.itemsize
        try:
            with self.array_path(name).open("r+b") as file:
                file.seek(start)
                file.write(np.ascontiguousarray(value, whole.dtype).data)
        except OSError as error:
            raise _disk_full(whole, error) from None

    def write_window(self, name: str, place: tuple[int, ...], value: np.ndarray) -> None:
        """As `write`, for a window (..., rows, columns) over the last axes of an array, its first pixel at `place`."""
        whole = self.array(name)
        rows = np.ascontiguousarray(value, whole.dtype).reshape(-1, value.shape[-1])
        outer = value.shape[:-1]
        steps = np.array(whole.strides[whole.ndim - value.ndim : -1], np.int64)
        start = whole.offset + int(np.ravel_multi_index(place, whole.shape)) * whole.itemsize
        try:
            with self.array_path(name).open("r+b", buffering=0) as file:
                for row, index in zip(rows, np.ndindex(outer), strict=True):
                    file.seek(start + int(np.dot(steps, index)))
                    if file.write(row.data) != row.nbytes:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise _disk_full(whole, error) from None

    def array(self, name: str) -> np.memmap:
        """A large array of the night, mapped from disk: all workers share its memory. What is written into it
        stays with the process.
        """
        return _load_array(self.scratch, name)

    def own_array(self, name: str) -> np.memmap:
        """As `array`, mapped for the caller alone: what is written into it ends with it."""
        return np.load(self.array_path(name), mmap_mode="c")


def _disk_full(whole: np.memmap, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write scratch files of {whole.nbytes / 1e6:.0f} MB beside the products: {error}",
        "free some space, or -o OUT on another disk; --plan says how much is needed",
    )


@functools.lru_cache(maxsize=1)
def _open_night(scratch: str) -> Night:
    """The night of a scratch folder. A worker that comes to another night lets go of the last one's files."""
    forget()
    with (Path(scratch) / "night.pickle").open("rb") as file:
        return Night(*pickle.load(file))


@functools.lru_cache(maxsize=64)
def _load_pickle(scratch: str, name: str) -> Any:
    with (Path(scratch) / f"{name}.pickle").open("rb") as file:
        return pickle.load(file)


@functools.lru_cache(maxsize=64)
def _load_array(scratch: str, name: str) -> np.memmap:
    # Writable, for compiled code is compiled once more for arrays that are not.
    return np.load(Path(scratch) / f"{name}.npy", mmap_mode="c")


def forget() -> None:
    """Let go of all mapped files, so that the scratch folder can be removed."""
    _load_pickle.cache_clear()
    _load_array.cache_clear()

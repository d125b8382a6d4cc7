"""What every worker knows of the night, and the scratch folder that brings it the night's shared values."""

from __future__ import annotations

import functools
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

    def share(self, name: str, value: Any) -> None:
        """Write a value of the whole night where all workers find it; once only."""
        path = Path(self.scratch) / f"{name}.pickle"
        with path.open("wb") as file:
            pickle.dump(value, file, protocol=5)

    def shared(self, name: str) -> Any:
        """Read a value that `share` wrote; kept by the process after the first time."""
        return _load_pickle(self.scratch, name)

    def array_path(self, name: str) -> Path:
        """Where a large array of the night lies."""
        return Path(self.scratch) / f"{name}.npy"

    def save_array(self, name: str, value: np.ndarray) -> None:
        """Write a large array of the night.

        Raises
        ------
        OutputError
            The disk is full, most likely: numpy does not say.
        """
        try:
            np.save(self.array_path(name), value)
        except OSError as error:
            raise OutputError(
                f"cannot write scratch files of {value.nbytes / 1e6:.0f} MB beside the products: {error}",
                "free some space, or -o a folder on another disk; --plan says how much is needed",
            ) from None

    def array(self, name: str) -> np.ndarray:
        """A large array of the night, mapped from disk: all workers share its memory."""
        return _load_array(self.scratch, name)


@functools.lru_cache(maxsize=1)
def _open_night(scratch: str) -> Night:
    """The night of a scratch folder. A worker that comes to another night lets go of the last one's files."""
    forget()
    with (Path(scratch) / "night.pickle").open("rb") as file:
        return Night(*pickle.load(file))


@functools.lru_cache(maxsize=16)
def _load_pickle(scratch: str, name: str) -> Any:
    with (Path(scratch) / f"{name}.pickle").open("rb") as file:
        return pickle.load(file)


@functools.lru_cache(maxsize=16)
def _load_array(scratch: str, name: str) -> np.ndarray:
    return np.load(Path(scratch) / f"{name}.npy", mmap_mode="r")


def forget() -> None:
    """Let go of all mapped files, so that the scratch folder can be removed."""
    _load_pickle.cache_clear()
    _load_array.cache_clear()

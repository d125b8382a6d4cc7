"""A movie as a folder of numbered PNG pictures, for those who cut it with a program of their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np

from difflapse.errors import OptionError, OutputError


class PngFrames:
    """Write pictures to ``path/00000.png`` and so on; a context manager, to be used as `Encoder` is.

    The folder appears under its name only when the block ends well. Each file bears the metadata as text, and how
    many seconds it stays.

    Parameters
    ----------
    path : str or Path
        The folder to make.
    size : (int, int)
        (width, height) of the pictures.
    fps : float
        Pictures per second, for those that are given no time of their own.
    metadata : mapping of str to str, optional
        Tags of each file.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int],
        fps: float = 12.0,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.path, self.size, self.fps = Path(path), size, fps
        self.n_written, self.seconds = 0, 0.0
        self._metadata = dict(metadata or {})
        self._part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")

    def __enter__(self) -> PngFrames:
        try:
            self._part.mkdir()
        except OSError as error:
            raise _cannot(self.path, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._part.replace(self.path)
        except OSError as problem:
            raise _cannot(self.path, problem) from problem
        finally:
            shutil.rmtree(self._part, ignore_errors=True)

    def write(self, rgb: np.ndarray, seconds: float | None = None) -> None:
        """Append one picture, (height, width, 3) uint8 RGB, which stays for `seconds`."""
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        if rgb.shape != (self.size[1], self.size[0], 3) or rgb.dtype != np.uint8:
            raise OptionError(
                f"a picture of shape {rgb.shape}, {rgb.dtype}, for a movie of size {self.size} in uint8"
            )
        stay = 1 / self.fps if seconds is None else seconds
        words = PngInfo()
        for key, value in {**self._metadata, "seconds": f"{stay:.6g}"}.items():
            words.add_itxt(key, value)
        try:
            name = self._part / f"{self.n_written:05d}.png"
            Image.fromarray(np.ascontiguousarray(rgb)).save(name, pnginfo=words, compress_level=3)
        except OSError as error:
            raise _cannot(self.path, error) from error
        self.n_written += 1
        self.seconds += stay


def _cannot(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {error.strerror or error}", "is the disk full, or the folder read-only?"
    )

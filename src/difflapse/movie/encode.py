"""Movie frames to an H.264 file that plays everywhere."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter

from difflapse.errors import OptionError, OutputError
from difflapse.movie.layout import MAX_BLOCKS, MAX_BLOCKS_PER_SECOND, MAX_HEIGHT, MAX_WIDTH

SLOWEST = 0.01
"""Pictures per second at least: a picture that stays for 100 s."""


class Encoder:
    """Encode pictures of one size to `path`; a context manager.

    H.264 (High, level 5.1 at most), yuv420p in limited range, converted with the BT.709 matrix and tagged so,
    a keyframe each second, the index before the pictures (faststart). The file appears under its name only
    when the block ends well; after any exception, an interruption too, nothing is left.

    Parameters
    ----------
    path : str or Path
        The MP4 file to make, in a folder that exists.
    size : (int, int)
        (width, height) of the pictures, both even.
    fps : float
        Pictures per second; fractions such as 0.5 or 29.97 are kept.
    metadata : mapping of str to str, optional
        Tags of the file, such as ``title`` and ``comment``.
    threads : int
        Threads of the encoder; 0 lets it choose.
    crf : int
        Quality: smaller is better and larger, 18 to 28 is sensible.
    preset : str
        Effort of x264.

    Raises
    ------
    OptionError
        Odd or too large a size, less than 0.01 pictures a second, or more than level 5.1 can carry.
    OutputError
        The file cannot be written.

    Notes
    -----
    Noise is dear to encode: 2560x994 with a noisy sky costs about 60 ms of CPU and 350 kB a picture, most of
    both for noise. Memory holds a few pictures, however many are written.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int],
        fps: float = 12.0,
        metadata: Mapping[str, str] | None = None,
        threads: int = 0,
        crf: int = 24,
        preset: str = "veryfast",
    ) -> None:
        self.path = Path(path)
        self.size = size
        self.fps = fps
        self.n_written = 0
        _check(size, fps)
        self._metadata = dict(metadata or {})
        self._threads, self._crf, self._preset = threads, crf, preset
        self._part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self._container: av.container.OutputContainer | None = None
        self._reformatter = VideoReformatter()

    def __enter__(self) -> Encoder:
        try:
            self._part.touch()  # the container opens its file late; fail before the work
            self._open()
        except OSError as error:
            self._discard()
            raise _cannot(self.path, error) from error
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            assert self._container is not None
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._container = None
            self._part.replace(self.path)
        except OSError as problem:
            raise _cannot(self.path, problem) from problem
        finally:
            self._discard()

    def write(self, rgb: np.ndarray) -> None:
        """Append one picture, (height, width, 3) uint8 RGB; raises OutputError when the disk is full."""
        if self._container is None:
            raise OutputError(f"{self.path} is not open", "write inside a `with Encoder(...)` block")
        if rgb.shape != (self.size[1], self.size[0], 3) or rgb.dtype != np.uint8:
            raise OptionError(
                f"a picture of shape {rgb.shape}, {rgb.dtype}, for a movie of size {self.size} in uint8"
            )
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        # Without this the picture is converted with the matrix of standard television and its colours shift.
        frame = self._reformatter.reformat(
            frame,
            format="yuv420p",
            src_colorspace=Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        frame.color_range = ColorRange.MPEG
        frame.colorspace = Colorspace.ITU709
        frame.pts = self.n_written
        frame.time_base = self._stream.codec_context.time_base
        try:
            self._container.mux(self._stream.encode(frame))
        except OSError as error:
            raise _cannot(self.path, error) from error
        self.n_written += 1

    def _open(self) -> None:
        rate = Fraction(self.fps).limit_denominator(1001)
        self._container = av.open(str(self._part), "w", format="mp4", options={"movflags": "+faststart"})
        self._container.metadata.update(self._metadata)
        stream = self._container.add_stream("libx264", rate=rate)
        stream.width, stream.height = self.size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = 1 / rate
        context.gop_size = max(1, round(self.fps))
        context.color_range = ColorRange.MPEG
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709
        context.colorspace = Colorspace.ITU709
        context.thread_count = self._threads
        stream.options = {
            "preset": self._preset,
            "crf": str(self._crf),
            # Keyframes at regular places only: players seek by the second.
            "sc_threshold": "0",
            # Noise cannot be predicted: searching for it doubles the time and does not shrink the file.
            "bf": "0",
            "x264-params": "me=dia:subme=1:partitions=none:weightp=0",
        }
        self._stream = stream

    def _discard(self) -> None:
        """Close what is open and remove the unfinished file; never raises for the file's sake."""
        if self._container is not None:
            container, self._container = self._container, None
            with contextlib.suppress(OSError):
                container.close()
        self._part.unlink(missing_ok=True)


def _check(size: tuple[int, int], fps: float) -> None:
    width, height = size
    if width % 2 or height % 2 or width < 2 or height < 2:
        raise OptionError(f"the movie is {width}x{height}; both must be even")
    blocks = -(-width // 16) * -(-height // 16)
    if width > MAX_WIDTH or height > MAX_HEIGHT or blocks > MAX_BLOCKS:
        raise OptionError(f"the movie is {width}x{height}; players stop at {MAX_WIDTH}x{MAX_HEIGHT}")
    if not fps >= SLOWEST:
        raise OptionError(
            f"fps is {fps:g}; it must be {SLOWEST:g} or more", "0.1 shows each picture for 10 s"
        )
    if blocks * fps > MAX_BLOCKS_PER_SECOND:
        most = MAX_BLOCKS_PER_SECOND / blocks
        raise OptionError(
            f"fps is {fps:g}; players can show at most {most:.0f} at {width}x{height}", "use a smaller width"
        )


def _cannot(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {error.strerror or error}", "is the disk full, or the folder read-only?"
    )

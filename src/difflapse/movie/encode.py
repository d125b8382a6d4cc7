"""Movie frames to a video file: H.264 that plays everywhere, or what else was asked for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from difflapse.errors import MissingDependencyError, OptionError, OutputError
from difflapse.movie.gif import GifPalette, insert_comment
from difflapse.movie.layout import (
    FULL_BLOCKS,
    FULL_BLOCKS_PER_SECOND,
    MAX_BLOCKS,
    MAX_BLOCKS_PER_SECOND,
    MAX_HEIGHT,
    MAX_SIDE,
    MAX_WIDTH,
)
from difflapse.movie.yuv import fill_planes

SLOWEST = 0.01
"""Pictures per second at least: a picture that stays for 100 s."""
GIF_WIDTH = 1280
"""A GIF knows no motion and 256 colours: wider ones are too large for what they are made for."""
_TICK = Fraction(1, 90000)
"""Clock of a movie whose pictures stay for different times."""


@dataclass(frozen=True)
class Codec:
    """One way of making a video file of pictures."""

    name: str
    suffix: str
    encoder: str
    """The name of it in FFmpeg; empty for the folder of PNG pictures."""
    container: str = "mp4"
    pixels: str = "yuv420p"
    tag: str = ""
    """Four letters by which players know the codec, where not the usual ones."""
    depth: int = 8
    """Bits in which pictures are drawn for it."""
    options: Mapping[str, str] = field(default_factory=dict)
    muxer: Mapping[str, str] = field(default_factory=dict)


_FASTSTART = {"movflags": "+faststart"}
# Noise does not move by parts of a pixel, for the frames are aligned. Arithmetic coding would take a third more time to
# make the file an eighth smaller. Colour is coded finer than is usual, or tints spread over grey from where a star is.
# What comes is not looked at: noise tells nothing of it.
_X264 = "me=dia:subme=0:partitions=none:weightp=0:cabac=0:chroma-qp-offset=-6:rc-lookahead=0:mbtree=0:ref=1"
_STILL = {"qp": "22", "x264-params": f"{_X264}:aq-mode=0:no-deblock=1"}
"""Other options of H.264 for pictures that are mostly still and of large pixels, such as clips: all of a picture is as
coarse, but less so, for what stays costs nothing; and it is not smoothed. A dark sky would lose its noise so."""
CODECS = {
    codec.name: codec
    for codec in (
        Codec(
            "h264",
            ".mp4",
            "libx264",
            options={
                "preset": "veryfast",
                "crf": "25",
                "forced-idr": "1",
                # Keyframes at regular places only: players seek by the second.
                "sc_threshold": "0",
                # Noise cannot be predicted: searching for it doubles the time and does not shrink the file.
                "bf": "0",
                # Keyframes much like the others: else noise would pulse once a second.
                "x264-params": f"{_X264}:ipratio=1.1",
            },
            muxer=_FASTSTART,
        ),
        Codec(
            "hevc",
            ".mp4",
            "libx265",
            tag="hvc1",  # Apple's players refuse the usual hev1
            options={
                "preset": "superfast",
                "crf": "26",
                "forced-idr": "1",
                "x265-params": "log-level=error:scenecut=0:bframes=0",
            },
            muxer=_FASTSTART,
        ),
        Codec(
            "vp9",
            ".webm",
            "libvpx-vp9",
            "webm",
            options={"crf": "34", "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1"},
        ),
        Codec("av1", ".webm", "libsvtav1", "webm", options={"crf": "36", "preset": "9"}),
        Codec("gif", ".gif", "gif", "gif", "pal8", muxer={"loop": "0"}),
        Codec(
            "ffv1",
            ".mkv",
            "ffv1",
            "matroska",
            "gbrp16le",
            depth=16,
            options={"level": "3", "slicecrc": "1", "slices": "4"},
        ),
        Codec("png", "", "", ""),
    )
}
"""Every codec by the name that ``--codec`` gives it."""


def movie_name(codec: str, stem: str = "timelapse") -> str:
    """The file that a codec makes: ``timelapse.mp4``; a folder for ``png``."""
    return f"{stem}{CODECS[codec].suffix}"


def check_codec(name: str) -> Codec:
    """The codec called `name`, when this machine's PyAV can encode it.

    Raises
    ------
    OptionError
        There is no such codec.
    MissingDependencyError
        PyAV was built without its encoder.
    """
    codec = CODECS.get(name)
    if codec is None:
        raise OptionError(f"codec is {name!r}; it must be one of {', '.join(CODECS)}")
    if codec.encoder and not _has(codec.encoder):
        there = [n for n, other in CODECS.items() if not other.encoder or _has(other.encoder)]
        raise MissingDependencyError(
            f"codec {name} needs the encoder {codec.encoder}, which this PyAV was built without",
            f"install PyAV from its wheel (pip install av), or use one of {', '.join(there)}",
        )
    return codec


def _has(encoder: str) -> bool:
    try:
        av.codec.Codec(encoder, "w")
    except (av.error.FFmpegError, ValueError):
        return False
    return True


class Encoder:
    """Encode pictures of one size to `path`; a context manager.

    Yuv420p in limited range, converted with the BT.709 matrix and tagged so (but for GIF and FFV1), a keyframe
    each second, the index of an MP4 before the pictures (faststart). H.264 is of level 5.1 at most, HEVC has the
    tag that Apple wants. FFV1 is lossless: 16-bit RGB, with a checksum in each slice. The file appears under its
    name only when the block ends well; after any exception, an interruption too, nothing is left.

    Parameters
    ----------
    path : str or Path
        The file to make, in a folder that exists; a folder to make for ``png``.
    size : (int, int)
        (width, height) of the pictures, both even.
    fps : float
        Pictures per second; fractions such as 0.5 or 29.97 are kept.
    metadata : mapping of str to str, optional
        Tags of the file: ``title``, ``date``, ``comment``, ``description``, ``synopsis`` are kept by all
        containers; GIF has one comment, which holds them all.
    threads : int
        Threads of the encoder; 0 lets it choose.
    codec : str
        One of `CODECS`.
    variable : bool
        Pictures stay for as long as `write` is told, not all for ``1 / fps``.
    sample : sequence of (height, width, 3) uint8, optional
        Pictures from all over the movie, for the colours of a GIF; without, the first picture gives them.
    full : bool
        Sizes beyond what every player plays are allowed, up to the highest level of H.264.
    still : bool
        H.264 for pictures most of which stays as it was, and is magnified.

    Raises
    ------
    OptionError
        Odd or too large a size, less than 0.01 pictures a second, or more than H.264's level 5.1 can carry.
    MissingDependencyError
        See `check_codec`.
    OutputError
        The file cannot be written.

    Notes
    -----
    Noise is dear to encode: 2560x1040 with a noisy sky costs about 25 ms of CPU and 300 kB a picture as H.264, most
    of both for noise. Memory holds a few pictures, however many are written.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int],
        fps: float = 12.0,
        metadata: Mapping[str, str] | None = None,
        threads: int = 0,
        codec: str = "h264",
        variable: bool = False,
        sample: Sequence[np.ndarray] = (),
        full: bool = False,
        still: bool = False,
    ) -> None:
        self.path = Path(path)
        self.size = size
        self.fps = fps
        self.n_written = 0
        self.seconds = 0.0
        """Length of what is written so far."""
        self.codec = check_codec(codec)
        _check(size, fps, full)
        self._metadata = dict(metadata or {})
        self._threads, self._variable, self._sample, self._still = threads, variable, sample, still
        self._part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self._container: av.container.OutputContainer | None = None
        self._frame: av.VideoFrame | None = None
        self._palette: GifPalette | None = None
        self._durations: dict[int, int] = {}
        self._next_key = 0.0

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
            self._finish()
            self._part.replace(self.path)
        except OSError as problem:
            raise _cannot(self.path, problem) from problem
        finally:
            self._discard()

    def write(self, rgb: np.ndarray, seconds: float | None = None) -> None:
        """Append one picture, (height, width, 3) uint8 RGB (FFV1: or uint16), which stays for `seconds`.

        Raises
        ------
        OptionError
            It has another size or type, or a time of its own in a movie that is not `variable`.
        OutputError
            The disk is full.
        """
        if self._container is None:
            raise OutputError(f"{self.path} is not open", "write inside a `with Encoder(...)` block")
        types = (np.uint8, np.uint16) if self.codec.name == "ffv1" else (np.uint8,)
        if rgb.shape != (self.size[1], self.size[0], 3) or rgb.dtype not in types:
            raise OptionError(
                f"a picture of shape {rgb.shape}, {rgb.dtype}, for a movie of size {self.size} in uint8"
            )
        if seconds is not None and not self._variable:
            raise OptionError("a picture has a time of its own, but the movie's pace is even")
        stay = 1 / self.fps if seconds is None else seconds
        clock = self._stream.codec_context.time_base
        if self._variable:
            start, end = (round(t / clock) for t in (self.seconds, self.seconds + stay))
        else:
            start, end = self.n_written, self.n_written + 1
        try:
            for frame in self._frames(rgb):
                frame.pts, frame.time_base = start, clock
                self._durations[start] = max(1, end - start)
                frame.duration = self._durations[start]
                frame.pict_type = PictureType.NONE
                if self._variable and self.seconds >= self._next_key - 1e-6:
                    frame.pict_type = PictureType.I
                    self._next_key = self.seconds + 1
                self._mux(self._stream.encode(frame))
        except OSError as error:
            raise _cannot(self.path, error) from error
        self.n_written += 1
        self.seconds += stay

    def _frames(self, rgb: np.ndarray) -> Sequence[av.VideoFrame]:
        """The picture as the encoder takes it."""
        if self.codec.name == "gif":
            if self._palette is None:
                self._palette = GifPalette([*self._sample] or [rgb])
            return [self._palette.reduce(rgb)]
        if self.codec.name == "ffv1":
            deep = rgb if rgb.dtype == np.uint16 else rgb.astype(np.uint16) * np.uint16(257)
            return [av.VideoFrame.from_ndarray(deep, format="gbrp16le")]
        if self._frame is None:
            self._frame = av.VideoFrame(*self.size, self.codec.pixels)
            self._frame.color_range = ColorRange.MPEG
            self._frame.colorspace = Colorspace.ITU709
        # One frame for all pictures: encoders copy what they keep.
        planes = [np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size) for plane in self._frame.planes]
        fill_planes(rgb, planes)
        return [self._frame]

    def _mux(self, packets: Sequence[Any]) -> None:
        """Hand on what is encoded. Encoders forget how long the last picture stays."""
        assert self._container is not None
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts, packet.duration)
            self._container.mux(packet)

    def _open(self) -> None:
        rate = Fraction(self.fps).limit_denominator(1001)
        codec = self.codec
        # This encoder tells its settings to the terminal unless told not to.
        os.environ.setdefault("SVT_LOG", "1")
        container = av.open(str(self._part), "w", format=codec.container, options=dict(codec.muxer))
        self._container = container
        container.metadata.update(self._metadata)
        stream = container.add_stream(codec.encoder, rate=rate)
        stream.width, stream.height = self.size
        stream.pix_fmt = codec.pixels
        context = stream.codec_context
        gif = codec.name == "gif"
        self._variable |= gif  # its clock counts hundredths of a second
        context.time_base = Fraction(1, 100) if gif else _TICK if self._variable else 1 / rate
        context.gop_size = 1 if codec.name == "ffv1" else max(1, round(self.fps))
        context.thread_count = self._threads
        if codec.tag:
            context.codec_tag = codec.tag
        if codec.pixels == "yuv420p":
            context.color_range = ColorRange.MPEG
            context.color_primaries = ColorPrimaries.BT709
            context.color_trc = ColorTrc.BT709
            context.colorspace = Colorspace.ITU709
        stream.options = {**codec.options, **(_STILL if self._still and codec.name == "h264" else {})}
        self._stream = stream

    def _finish(self) -> None:
        """Write what the encoder still holds, and the index."""
        assert self._container is not None
        self._mux(self._stream.encode(None))
        self._container.close()
        self._container = None
        if self.codec.name == "gif":
            words = "\n".join(f"{key}: {value}" for key, value in self._metadata.items())
            insert_comment(self._part, words)

    def _discard(self) -> None:
        """Close what is open and remove the unfinished file; never raises for the file's sake."""
        if self._container is not None:
            container, self._container = self._container, None
            with contextlib.suppress(OSError):
                container.close()
        self._part.unlink(missing_ok=True)


def _check(size: tuple[int, int], fps: float, full: bool = False) -> None:
    width, height = size
    if width % 2 or height % 2 or width < 2 or height < 2:
        raise OptionError(f"the movie is {width}x{height}; both must be even")
    blocks = -(-width // 16) * -(-height // 16)
    if full:
        if max(size) > MAX_SIDE or blocks > FULL_BLOCKS:
            raise OptionError(f"the movie is {width}x{height}; encoders stop at {MAX_SIDE} pixels a side")
    elif width > MAX_WIDTH or height > MAX_HEIGHT or blocks > MAX_BLOCKS:
        raise OptionError(f"the movie is {width}x{height}; players stop at {MAX_WIDTH}x{MAX_HEIGHT}")
    if not fps >= SLOWEST:
        raise OptionError(
            f"fps is {fps:g}; it must be {SLOWEST:g} or more", "0.1 shows each picture for 10 s"
        )
    most = (FULL_BLOCKS_PER_SECOND if full else MAX_BLOCKS_PER_SECOND) / blocks
    if fps > most:
        raise OptionError(
            f"fps is {fps:g}; players can show at most {most:.0f} at {width}x{height}", "use a smaller width"
        )


def _cannot(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {error.strerror or error}", "is the disk full, or the folder read-only?"
    )

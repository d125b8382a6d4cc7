"""What a GIF needs beside its pictures: 256 colours for all of them, and a place for words."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.filter import Graph

_RGB = av.VideoFormat("rgb24")
_CLOCK = Fraction(1, 100)
"""Any will do: times are the encoder's affair."""


class GifPalette:
    """One palette for a whole movie, so that its colours do not flicker.

    Parameters
    ----------
    sample : sequence of (height, width, 3) uint8
        Pictures from all over the movie, one or more.

    Notes
    -----
    FFmpeg's ``palettegen`` (median cut over all pixels of the sample) and ``paletteuse`` with an ordered dither, which
    stays where it is from picture to picture and so hardly adds to the file.
    """

    def __init__(self, sample: Sequence[np.ndarray]) -> None:
        height, width, _ = sample[0].shape
        making = Graph()
        source = making.add_buffer(width=width, height=height, format=_RGB, time_base=_CLOCK)
        maker = making.add("palettegen", "stats_mode=full:reserve_transparent=0")
        end = making.add("buffersink")
        source.link_to(maker)
        maker.link_to(end)
        making.configure()
        for n, picture in enumerate(sample):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = n, _CLOCK
            source.push(frame)
        source.push(None)
        palette = end.pull()
        assert isinstance(palette, av.VideoFrame)
        palette.pts, palette.time_base = 0, _CLOCK
        self._n = 0
        self._graph = Graph()
        self._source = self._graph.add_buffer(
            width=width, height=height, format=_RGB, time_base=_CLOCK, name="pictures"
        )
        colours = self._graph.add_buffer(
            width=palette.width,
            height=palette.height,
            format=palette.format,
            time_base=_CLOCK,
            name="palette",
        )
        user = self._graph.add("paletteuse", "dither=bayer:bayer_scale=4:diff_mode=rectangle")
        self._end = self._graph.add("buffersink")
        self._source.link_to(user, 0, 0)
        colours.link_to(user, 0, 1)
        user.link_to(self._end)
        self._graph.configure()
        colours.push(palette)
        colours.push(None)

    def reduce(self, rgb: np.ndarray) -> av.VideoFrame:
        """One picture, (height, width, 3) uint8, in the palette's colours."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame.pts, frame.time_base = self._n, _CLOCK
        self._n += 1
        self._source.push(frame)
        reduced = self._end.pull()
        assert isinstance(reduced, av.VideoFrame)
        return reduced


def insert_comment(path: Path, words: str) -> None:
    """Write words into a GIF as its comment, before the first picture."""
    data = path.read_bytes()
    flags = data[10]
    start = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    text = words.encode("ascii", "replace")
    parts = b"".join(bytes([len(text[n : n + 255])]) + text[n : n + 255] for n in range(0, len(text), 255))
    path.write_bytes(data[:start] + b"\x21\xfe" + parts + b"\x00" + data[start:])

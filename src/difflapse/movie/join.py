"""Movies of one kind put one after another, without encoding them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import av

from difflapse.errors import OutputError


def join(parts: Sequence[Path], path: Path, metadata: Mapping[str, str]) -> float:
    """Write MP4 files that `Encoder` made, of one size, rate and codec, as one.

    Parameters
    ----------
    parts : sequence of Path
        One or more, in order.
    path : Path
        The file to make; not atomic.
    metadata : mapping of str to str
        Its tags.

    Returns
    -------
    float
        Its length, seconds.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    length = 0.0
    try:
        with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as out:
            out.metadata.update(metadata)
            stream = None
            for part in parts:
                with av.open(str(part)) as container:
                    source = container.streams.video[0]
                    if stream is None:
                        stream = out.add_stream_from_template(source)
                    end = 0.0
                    for packet in container.demux(source):
                        if packet.dts is None or packet.pts is None or packet.time_base is None:
                            continue
                        shift = round(length / packet.time_base)
                        end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = stream
                        out.mux(packet)
                    length += end
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}", "is the disk full?") from None
    return length

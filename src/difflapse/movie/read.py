"""Pictures of a movie, decoded again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from difflapse.errors import InputError


def read_pictures(path: str | Path, numbers: Sequence[int]) -> dict[int, np.ndarray]:
    """Some pictures of a movie that `Encoder` or `PngFrames` made.

    Parameters
    ----------
    path : str or Path
        The file; for PNG pictures the pattern ``folder/%05d.png``.
    numbers : sequence of int
        Counted from 0 in the order of time.

    Returns
    -------
    dict of int to (height, width, 3) uint8 RGB (of FFV1: uint16)
        Without those that the movie does not have.

    Raises
    ------
    InputError
        The file is missing or damaged.
    """
    if "%" in str(path):
        from PIL import Image

        files = {n: Path(str(path) % n) for n in numbers}
        return {n: np.array(Image.open(f).convert("RGB")) for n, f in files.items() if f.exists()}
    wanted, found = set(numbers), {}
    try:
        with av.open(str(path)) as container:
            for n, frame in enumerate(container.decode(video=0)):
                if n in wanted:
                    if frame.format.name == "gbrp16le":
                        found[n] = frame.to_ndarray(format="gbrp16le")
                    else:
                        found[n] = frame.to_ndarray(format="rgb24")
                if len(found) == len(wanted):
                    break
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"{path} cannot be decoded: {error}", "is it the movie of a finished run?") from None
    return found

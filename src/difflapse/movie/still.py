"""Single pictures of a night as PNG, with what they show in their own text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numba import njit

from difflapse.errors import OutputError
from difflapse.movie.layout import Panel
from difflapse.movie.shrink import INK, PAPER
from difflapse.movie.text import eight_bits

_HATCH = np.array((PAPER, INK), np.uint8)


def write_png(path: Path, picture: np.ndarray, words: Mapping[str, str]) -> None:
    """Write (height, width, 3) uint8 RGB with `words` as its text chunks; raises OutputError."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, value in words.items():
        info.add_itxt(key, value)
    try:
        Image.fromarray(np.ascontiguousarray(picture)).save(path, pnginfo=info, compress_level=1)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}", "is the disk full, or the folder read-only?"
        ) from error


class Trails:
    """The brightest that each place of a panel was in the night: what moves draws its trail.

    Parameters
    ----------
    panel : Panel
        Of the movie frames that are added.
    """

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.picture = np.zeros((panel.height, panel.width, 3), np.uint8)

    def add(self, frame: np.ndarray) -> None:
        """Take in a movie frame (height, width, 3) uint8 or uint16; places that it does not cover do not count."""
        p = self.panel
        view = eight_bits(frame[p.y : p.y + p.height, p.x : p.x + p.width])
        _keep_brightest(self.picture, view, _HATCH)


@njit(cache=True, nogil=True)
def _keep_brightest(picture, view, hatch):  # type: ignore[no-untyped-def]
    """The larger of each byte of (h, w, 3) uint8 `view` and `picture`, in place, but for the hatch's two colours."""
    for y in range(picture.shape[0]):
        old, new = picture[y], view[y]
        for x in range(picture.shape[1]):
            r, g, b = new[x, 0], new[x, 1], new[x, 2]
            covered = True
            for k in range(2):
                covered &= (r != hatch[k, 0]) | (g != hatch[k, 1]) | (b != hatch[k, 2])
            if covered:
                old[x, 0] = max(old[x, 0], r)
                old[x, 1] = max(old[x, 1], g)
                old[x, 2] = max(old[x, 2], b)

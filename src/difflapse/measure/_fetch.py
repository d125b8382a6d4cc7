"""Reading a little of what is going to be read, so that memory fetches it all at once.

Stars lie far apart in memory, each of their rows on a page of its own: a kernel that reads row after row waits for
each of them, for more time than its arithmetic takes.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def fetch(data: np.ndarray, x: np.ndarray, y: np.ndarray, reach: int, room: np.ndarray) -> None:
    """Read both ends of all rows of an image (ny, nx) within `reach` pixels of some places, one load after the other.

    What was read goes to `room` (1,) float64, without a meaning: what goes nowhere would not be read.
    """
    ny, nx = data.shape
    seen = 0.0
    for k in range(len(x)):
        # NaN fails too.
        if not (-reach <= x[k] < nx + reach and -reach <= y[k] < ny + reach):
            continue
        i, j = int(x[k]), int(y[k])
        left, right = min(max(i - reach, 0), nx - 1), min(max(i + reach, 0), nx - 1)
        for row in range(max(0, j - reach), min(ny, j + reach + 1)):
            seen += float(data[row, left]) + float(data[row, right])
    room[0] += seen

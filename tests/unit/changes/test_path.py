"""Lines followed on a picture."""

from __future__ import annotations

import numpy as np

from difflapse.changes.path import follow


def test_a_path_ends_within_the_picture() -> None:
    """What is brightest in its last row alone gives a path of two rows, none of them beyond the edge."""
    cells = np.full((70, 53), -5, np.int16)
    cells[-1] = 9
    first, last, *_ = follow(cells, 68, 69, 20.3, 20.8, 1.0, 7.0)
    assert (first, last) == (68, 69)
    first, last, *_ = follow(np.ascontiguousarray(cells[::-1]), 0, 1, 20.3, 20.8, 1.0, 7.0)
    assert (first, last) == (0, 1)

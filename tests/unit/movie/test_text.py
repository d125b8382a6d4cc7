"""Letters laid on pictures: as the plain formula says, in 8 bits and in 16, cut at the edges."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.movie.text import GROUND, blend, paste, paste_seamed, text_mask


def plain(under: np.ndarray, ink: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """The same in floating point."""
    full = np.array(colour) * (257.0 if under.dtype == np.uint16 else 1.0)
    share = ink[..., None] / 255.0
    return np.asarray((1 - share) * under + share * full)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(31, 70), (53,)])
def test_ink_covers_as_thickly_as_it_says(dtype: type, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    under = rng.integers(0, np.iinfo(dtype).max, (*shape, 3)).astype(dtype)
    ink = rng.integers(0, 256, shape).astype(np.uint8)
    expected = plain(under, ink, (17, 200, 255))
    blend(under, ink, (17, 200, 255))
    assert np.abs(under - expected).max() <= 0.5 + 1e-9


def test_a_seam_is_four_words_askew_under_the_word() -> None:
    word = text_mask("mover 3", 14)
    once, by_hand = (np.full((40, 90, 3), 130, np.uint8) for _ in range(2))
    paste_seamed(once, word, 7, 9, (140, 245, 205))
    for dx, dy in ((-1, -1), (1, -1), (-1, 1), (1, 1)):
        paste(by_hand, word, 7 + dx, 9 + dy, GROUND)
    paste(by_hand, word, 7, 9, (140, 245, 205))
    assert np.abs(once.astype(int) - by_hand).max() <= 3  # rounded once instead of five times
    assert (once != 130).any()


@pytest.mark.parametrize("place", [(-5, -4), (80, 35), (500, 500), (-500, 3)])
def test_what_lies_beyond_the_edges_is_cut(place: tuple[int, int]) -> None:
    picture, wide = np.full((40, 90, 3), 130, np.uint8), np.full((240, 290, 3), 130, np.uint8)
    word = text_mask("mover 3", 14)
    paste_seamed(picture, word, *place, (140, 245, 205))
    if abs(place[0]) < 100:
        paste_seamed(wide, word, place[0] + 100, place[1] + 100, (140, 245, 205))
    np.testing.assert_array_equal(picture, wide[100:140, 100:190])

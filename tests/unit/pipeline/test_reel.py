"""How long the highlights are: neither over at once nor longer than one looks."""

from __future__ import annotations

import pytest

from difflapse.pipeline.clips import clip_stays
from difflapse.pipeline.reel import night_stay
from difflapse.pipeline.subjects import IN_BEST, MOST_FRAMES

TITLE_S = 2.5


@pytest.mark.parametrize("frames", [3, 4, 12, 48])
@pytest.mark.parametrize("clips", [[1], [1, 1], [3, 3, 3], [MOST_FRAMES] * IN_BEST])
def test_highlights_take_ten_seconds_to_a_minute(frames: int, clips: list[int]) -> None:
    lengths = [sum(clip_stays(n)) for n in clips]
    stay = night_stay(frames, lengths)
    assert 10 - 1e-9 <= TITLE_S + frames * stay + sum(lengths) <= 60
    assert 1 / 12 <= stay <= 2


def test_a_clip_ends_with_a_moment_to_look() -> None:
    assert clip_stays(1) == [1.5]
    assert clip_stays(50) == pytest.approx([0.1] * 49 + [1.1])

"""How long pictures stay, in figures worked out by hand."""

import pytest

from difflapse.movie.pace import LONGEST_GAP_S, Stay, stay

SECOND = 1 / 86400


@pytest.mark.parametrize(
    ("passed", "picture", "gap"),
    [(60, 0.1, 0), (66, 0.11, 0), (48, 0.08, 0), (90, 0.15, 0), (91, 0.1, 0.1 * 31 / 60), (600, 0.1, 0.9)],
)
def test_time_passes_in_proportion(passed, picture, gap):
    """A cadence of 60 s at 10 pictures a second: 0.1 s a picture, and what is beyond it is a gap."""
    found = stay(58000.25, 58000.25 + passed * SECOND, 60.0, 10.0)
    assert found.picture == pytest.approx(picture, rel=1e-4)
    assert found.gap == pytest.approx(gap, rel=1e-4)
    assert not found.capped


def test_a_day_is_not_waited_for():
    found = stay(58000.0, 58001.0, 60.0, 10.0)
    assert found == Stay(0.1, LONGEST_GAP_S, True)
    # At 0.2 pictures a second each stays for 5 s, and so does the gap.
    assert stay(58000.0, 58001.0, 60.0, 0.2).gap == 5.0


def test_what_is_not_known_is_shown_for_the_usual_time():
    for now, then, cadence in [(None, 58000.0, 60.0), (58000.0, None, 60.0), (58000.0, 58001.0, None)]:
        assert stay(now, then, cadence, 8.0) == Stay(0.125)


def test_frames_of_one_time_are_still_seen():
    assert stay(58000.0, 58000.0, 60.0, 10.0).picture == 0.05

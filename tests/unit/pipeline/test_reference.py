"""A reference can be named by number or by file; one that is not there is refused before pixels are read."""

from __future__ import annotations

import pytest

from difflapse.errors import OptionError
from difflapse.model import FrameFacts, Inventory, Sequence
from difflapse.pipeline.config import RunOptions
from difflapse.pipeline.night_stages import check_reference


def inventory(*lengths: int) -> Inventory:
    """Sequences of so many frames, named a0.fits, a1.fits, ... b0.fits, ..."""
    sequences = []
    for letter, n in zip("abc", lengths, strict=False):
        frames = tuple(
            FrameFacts(f"/x/{letter}{k}.fits", f"x/{letter}{k}.fits", 0, (20, 30)) for k in range(n)
        )
        sequences.append(Sequence(letter, frames))
    return Inventory("/x", tuple(sequences), ())


@pytest.mark.parametrize(
    "wanted", ["best", "first", "middle", "0", "4", "a3.fits", "x/a3.fits", "/x/b1.fits"]
)
def test_what_is_there_is_accepted(wanted: str) -> None:
    check_reference(inventory(5, 5), RunOptions(reference=wanted))


@pytest.mark.parametrize("wanted", ["5", "99", "a5.fits", "third", "-1", "2.5", "²"])
def test_what_is_not_there_is_refused_by_name(wanted: str) -> None:
    with pytest.raises(OptionError, match=wanted):
        check_reference(inventory(5, 5), RunOptions(reference=wanted))


def test_a_number_must_exist_in_every_sequence() -> None:
    """A later, shorter night must not fail after an earlier one is done."""
    with pytest.raises(OptionError, match="b has frames 0 to 2"):
        check_reference(inventory(5, 3), RunOptions(reference="4"))

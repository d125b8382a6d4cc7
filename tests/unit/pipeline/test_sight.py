"""Sighting: what the night knows of its stars and its camera goes to those who judge."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from difflapse.changes.lanes import Lanes
from difflapse.model import FrameFacts, ProductGrid
from difflapse.model.sightings import BLEED, STAR, Sightings
from difflapse.pipeline.changes import _loud, _suspects
from difflapse.pipeline.sight import by_lanes, link_options


def test_only_points_on_lanes_that_the_frame_lacks_are_refused() -> None:
    """Two lanes, the frame holds the second one's star; a streak crosses what it likes."""
    lanes = Lanes(
        np.array([50.0, 50.0]), np.array([80.0, 140.0]),
        np.array([[40.0, 200.0, 77.0, 83.0], [40.0, 200.0, 137.0, 143.0]]),
        np.array([[47.0, 53.0, 70.0, 90.0], [47.0, 53.0, 130.0, 150.0]]),
    )  # fmt: skip
    x, y, nan = np.array([150.0, 150.0, 150.0, 150.0]), np.array([80.0, 140.0, 110.0, 81.0]), np.nan
    seen = Sightings(
        np.zeros(4, np.int32), x, y, np.full(4, 9.0), np.full(4, 2.1), np.array([0, 0, 0, STAR], np.int32),
        x_end=np.array([nan, nan, nan, 400.0]), y_end=np.array([nan, nan, nan, 90.0]),
    )  # fmt: skip
    watch: Any = SimpleNamespace(lanes=lanes)
    flagged = by_lanes(seen, x, y, watch, np.array([True, False]))
    assert flagged.flags.tolist() == [BLEED, 0, 0, STAR]


def night_of(frames: list[FrameFacts], **shared: Any) -> Any:
    """As much of a night as is asked."""
    return SimpleNamespace(
        frames=frames,
        times=lambda: [f.mid_mjd for f in frames if f.mid_mjd is not None],
        options=SimpleNamespace(false_alarms=0.2),
        shared=shared.__getitem__,
        has=shared.__contains__,
    )


@pytest.mark.parametrize(
    "mosaic, exposure, timed, hours",
    [("", 90.0, True, 0.025), ("GBRG", 90.0, True, 0.0), ("", None, True, 0.0), ("", 90.0, False, 0.0)],
)
def test_how_long_things_move_in_an_exposure_is_told_of_monochrome_cameras_with_a_clock(
    mosaic: str, exposure: float | None, timed: bool, hours: float
) -> None:
    frames = [
        FrameFacts(
            "",
            "f",
            0,
            (300, 420),
            mosaic=mosaic,
            exposure_s=exposure,
            start_mjd=57000.0 + k if timed or k else None,
        )
        for k in range(3)
    ]
    canvas = SimpleNamespace(grid=ProductGrid((150, 210), 2))
    night = night_of(frames, scene=SimpleNamespace(used=(1, 2)), canvas=canvas)
    watch: Any = SimpleNamespace(fwhm=2.3)
    options = link_options(night, watch)
    assert (options.false_alarms, options.fwhm, options.area) == (0.2, 2.3, 300 * 420)
    assert options.exposure == pytest.approx(hours)


def test_a_light_curve_bears_out_the_star_at_its_place_only() -> None:
    """Chances of 1e-9, 0.004 and 0.3 in 100 stars: to suspect a star takes more than to bear out what is suspected."""
    curves = SimpleNamespace(
        x=np.array([10.0, 50.0, 90.0]), y=np.array([20.0, 20.0, 20.0]),
        false_alarm=np.array([1e-9, 4e-3, 0.3]), tested=100,
    )  # fmt: skip
    night = night_of([], variability=curves)
    x, y = np.array([10.5, 50.5, 90.5, 13.0]), np.full(4, 20.0)
    assert _loud(night, x, y, 1.7, 0.01).tolist() == [True, True, False, False]
    assert _suspects(night, x, y, 1.7).tolist() == [True, False, False, False]
    assert not _suspects(night_of([]), x, y, 1.7).any()

"""What the pipeline's tests share: facts of frames that need no file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from difflapse.model import FrameFacts
from difflapse.pipeline.config import RunOptions
from difflapse.pipeline.context import Night

SHAPE = (260, 390)


def facts(k: int = 0, **more: Any) -> FrameFacts:
    """A PANOPTES-like frame, taken k times three minutes after the first."""
    given: dict[str, Any] = {
        "path": f"/nowhere/f{k:02d}.fits.fz",
        "file": f"night/f{k:02d}.fits.fz",
        "hdu": 1,
        "shape": SHAPE,
        "start_mjd": 58354.2 + 180 * k / 86400,
        "exposure_s": 120.0,
        "time_source": "file name",
        "bias_adu": 2048.0,
        "gain_e_adu": 1.5,
        "saturation_adu": 13800.0,
        "mosaic": "GBRG",
    }
    return FrameFacts(**{**given, **more})


@pytest.fixture
def night(tmp_path: Path) -> Night:
    """A night of five frames that nobody reads."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    frames = tuple(facts(k) for k in range(5))
    return Night("a night", frames, RunOptions(), str(scratch), str(tmp_path / "out"))

"""What each frame and panel of a movie is, as plain data: `timelapse.json`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from difflapse.movie.diverging import VMAX
from difflapse.movie.layout import Layout


@dataclass(frozen=True)
class MovieFrame:
    """One encoded frame of the movie."""

    file: str | None
    """The input file's name in the tables; None for a gap."""
    time_utc: str | None
    """Middle of the exposure, ISO text; None if unknown."""
    template: str | None
    """What was subtracted: ``template``, ``rolling median``, or a file's name; None where there is no difference."""
    shift: tuple[float, float] = (0.0, 0.0)
    """Native pixels (x, y) by which the panels look elsewhere than `native_to_movie` says: they follow a target."""
    start_s: float | None = None
    """When it appears in the movie, seconds; None where it was not encoded yet."""
    duration_s: float | None = None
    """For how long it stays."""


def timelapse_record(
    layout: Layout,
    frames: Iterable[MovieFrame],
    fps: float,
    units: str = "sigma",
    vmax: float = VMAX,
    video: str = "timelapse.mp4",
) -> dict[str, object]:
    """Describe a movie: where its panels are, how native pixels map into them, what each frame shows.

    Returns
    -------
    record : dict
        Plain values, ready for JSON. ``panels.NAME.native_to_movie`` is the 2x3 matrix from native pixels of
        the reference to movie pixels, both counted from 0 at pixel centres; ``frames[k].shift`` is to be taken
        off native pixels before.
    """
    return {
        "video": video,
        "width": layout.width,
        "height": layout.height,
        "fps": float(fps),
        "units": units,
        "vmax": float(vmax),
        "step": layout.step,
        "origin": list(layout.origin),
        "panels": {
            panel.name: {
                "x": panel.x,
                "y": panel.y,
                "width": panel.width,
                "height": panel.height,
                "native_to_movie": layout.native_to_movie(panel.name).tolist(),
            }
            for panel in layout.panels
        },
        "frames": [
            {
                "file": f.file,
                "time_utc": f.time_utc,
                "template": f.template,
                "shift": list(f.shift),
                "start_s": _rounded(f.start_s),
                "duration_s": _rounded(f.duration_s),
            }
            for f in frames
        ],
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)

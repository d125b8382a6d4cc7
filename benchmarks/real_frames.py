"""How well the frames of a real night lie on one of them: held-out residuals of stars of a given S/N.

    python benchmarks/real_frames.py FOLDER [S/N]

For every frame the radial rms of stars that its transform was not fitted to, and what their noise alone would
give: the ratio of both is 1 where nothing is left to win.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from difflapse.align.asterism import find
from difflapse.align.view import AlignOptions, Reduced, View
from difflapse.errors import AlignError
from difflapse.io.discover import discover
from difflapse.io.fits import read_frame
from difflapse.measure import find_defects, find_stars, repair
from difflapse.model import Frame, FrameFacts, Quality, Stars

ENOUGH = 60
"""Stars that a frame must have for its rms to count."""


@dataclass(frozen=True)
class Measured:
    """A frame's stars, and how good it is."""

    facts: FrameFacts
    stars: Stars
    quality: Quality


@dataclass(frozen=True)
class Row:
    """One frame on the reference."""

    file: str
    n: int
    """Stars of the S/N asked for that were held out."""
    rms: float
    """Their radial rms, px."""
    median: float
    """Their median radial residual, px."""
    model: str
    elongation: float
    fwhm: float


def measure(folder: Path) -> list[Measured]:
    """Find the stars of the longest sequence of a folder, hot pixels mended as in a run."""
    sequence = max(discover([folder]).sequences, key=lambda s: len(s.frames))
    some = [sequence.frames[k] for k in np.linspace(0, len(sequence.frames) - 1, 6).astype(int)]
    defects = find_defects([read_frame(f).data for f in some], some[0].mosaic)
    out = []
    for facts in sequence.frames:
        frame = read_frame(facts)
        data = frame.data.copy()
        repair(data, defects.x, defects.y, 2 if facts.mosaic else 1)
        out.append(Measured(facts, *find_stars(Frame(facts, data, frame.mask))))
    return out


def align(frame: Measured, reference: Measured, snr: float) -> Row:
    """Lay a frame on the reference; rms of its stars of `snr` or more, held out."""
    result = find(view(frame), view(reference), AlignOptions())
    assert result.held_out is not None
    bright = result.held_out.snr >= snr
    away = np.hypot(result.held_out.dx, result.held_out.dy)[bright]
    n = len(away)
    rms = float(np.sqrt(np.mean(away**2))) if n else float("nan")
    return Row(
        frame.facts.file,
        n,
        rms,
        float(np.median(away)) if n else float("nan"),
        result.transform.model + (str(result.transform.degree) if result.transform.degree > 1 else ""),
        frame.quality.elongation,
        frame.quality.fwhm_pix,
    )


def view(frame: Measured) -> View:
    def picture() -> Reduced:
        raise AssertionError("the asterism method looks at no pixels")

    return View(frame.facts, frame.stars, picture)


def main(folder: str, snr: float = 20.0) -> None:
    frames = measure(Path(folder))
    # As `--reference best` does: sharp, round and rich.
    merit = [f.quality.n_stars / (f.quality.fwhm_pix * f.quality.elongation) ** 2 for f in frames]
    best = int(np.nanargmax(merit))
    rows = []
    for k, frame in enumerate(frames):
        if k == best:
            continue
        try:
            rows.append(align(frame, frames[best], snr))
        except AlignError as error:
            print(f"{frame.facts.file}: refused: {error}")
    for row in rows:
        print(
            f"{row.file}: {row.n} stars, rms {row.rms:.3f}, median {row.median:.3f} px; {row.model}; "
            f"elongation {row.elongation:.2f}, FWHM {row.fwhm:.2f} px"
        )
    rms = np.array([row.rms for row in rows if row.n >= ENOUGH])
    print(
        f"{len(rows)} of {len(frames) - 1} frames aligned on frame {best}; of the {len(rms)} with {ENOUGH} stars of "
        f"S/N >= {snr:g} the held-out radial rms is {np.median(rms):.3f} px in the median frame, "
        f"{np.percentile(rms, 95):.3f} in the 95th percentile, {rms.max():.3f} px in the worst"
    )


if __name__ == "__main__":
    main(sys.argv[1], *(float(a) for a in sys.argv[2:3]))

"""How well the frames of a real night lie on one of them: held-out residuals of stars of a given S/N.

    python benchmarks/real_frames.py FOLDER [S/N]

For every frame the radial rms of stars that its transform was not fitted to: by itself, against the stars of the
reference, and as a run aligns it, by the night's lens and against what the other frames say of each star. Beside it
what the noise of these stars on this frame foretells: below that nothing is to be had.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from difflapse.align.asterism import find
from difflapse.align.lens import Lens, one_lens
from difflapse.align.view import AlignOptions, Reduced, View
from difflapse.errors import AlignError
from difflapse.io.discover import discover
from difflapse.io.fits import read_frame
from difflapse.measure import find_defects, find_stars, repair
from difflapse.model import Alignment, Frame, FrameFacts, Quality, Stars, Transform

ENOUGH = 60
"""Stars that a frame must have for its rms to count."""
WANTED = 0.06
"""px"""


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
    noise: float
    """Radial rms that the standard errors of their positions on this frame foretell, px."""
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


def judge(frame: Measured, result: Alignment, snr: float) -> Row:
    """How far the frame's stars of `snr` or more lie from where a transform not fitted to them puts them."""
    held = result.held_out
    assert held is not None
    bright = held.snr >= snr
    away = np.hypot(held.dx, held.dy)[bright]
    place = {x: k for k, x in enumerate(frame.stars.x.astype(np.float32).tolist())}
    error = frame.stars.error[[place[x] for x in held.x[bright].tolist()]]
    n = len(away)
    return Row(
        frame.facts.file,
        n,
        float(np.sqrt(np.mean(away**2))) if n else float("nan"),
        float(np.median(away)) if n else float("nan"),
        float(np.sqrt(2 * np.nanmean(error**2))) if n else float("nan"),
        result.transform.model + (str(result.transform.degree) if result.transform.degree > 1 else ""),
        frame.quality.elongation,
        frame.quality.fwhm_pix,
    )


def view(frame: Measured) -> View:
    def picture() -> Reduced:
        raise AssertionError("the asterism method looks at no pixels")

    return View(frame.facts, frame.stars, picture)


def align(frames: list[Measured]) -> tuple[int, dict[int, Alignment], Lens]:
    """The best frame, how each lies on it by itself, and what one lens makes of all."""
    # As `--reference best` does: sharp, round and rich.
    merit = [f.quality.n_stars / (f.quality.fwhm_pix * f.quality.elongation) ** 2 for f in frames]
    best = int(np.nanargmax(merit))
    own = {best: Alignment(Transform.identity(), "reference", len(frames[best].stars), 0.0)}
    for k, frame in enumerate(frames):
        if k != best:
            try:
                own[k] = find(view(frame), view(frames[best]), AlignOptions())
            except AlignError as error:
                print(f"{frame.facts.file}: refused: {error}")
    facts, stars = ({k: getattr(frames[k], part) for k in own} for part in ("facts", "stars"))
    return best, own, one_lens(facts, stars, own, best)


def main(folder: str, snr: float = 20.0) -> None:
    frames = measure(Path(folder))
    best, own, lens = align(frames)
    print(
        f"{len(own) - 1} of {len(frames) - 1} frames aligned on frame {best}; {lens.line}, used by {lens.used}"
    )
    for name, alignments in (("by itself", own), ("in a run", lens.alignments)):
        rows = [judge(frames[k], alignments[k], snr) for k in sorted(own) if k != best]
        for row in rows:
            print(
                f"{row.file} {name}: {row.n} stars, rms {row.rms:.4f}, median {row.median:.4f}, "
                f"noise {row.noise:.4f} px; {row.model}; elongation {row.elongation:.2f}, FWHM {row.fwhm:.2f} px"
            )
        rms = np.array([row.rms for row in rows if row.n >= ENOUGH])
        print(
            f"{name}: of the {len(rms)} with {ENOUGH} stars of S/N >= {snr:g} the held-out radial rms is "
            f"{np.median(rms):.3f} px in the median frame, {np.percentile(rms, 95):.3f} in the 95th percentile, "
            f"{rms.max():.4f} px in the worst; {(rms > WANTED).sum()} are above {WANTED} px"
        )


if __name__ == "__main__":
    main(sys.argv[1], *(float(a) for a in sys.argv[2:3]))

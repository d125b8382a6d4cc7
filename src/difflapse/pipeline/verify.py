"""A finished run put to the proof: chosen frames made again from the inputs, and compared with its products."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from difflapse.errors import InputError, OptionError, VerifyError
from difflapse.io.products import product_names
from difflapse.model import FrameFacts
from difflapse.movie.read import read_pictures
from difflapse.pipeline import pictures
from difflapse.pipeline.again import (
    Again,
    changed_inputs,
    find_inputs,
    lend,
    named_files,
    read_options,
    reopened,
)
from difflapse.pipeline.drawing import mark_changes
from difflapse.pipeline.products import wait_for_files
from difflapse.pipeline.progress import Progress, Silence
from difflapse.pipeline.records import Scene
from difflapse.pipeline.state import NAME, SECOND_PASS, load_state
from difflapse.pipeline.written import read_json, read_record

SIGMAS = 1e-3
"""By how much pixels may differ, in units of their own noise: what another machine's rounding may do."""
_FLIPPED = 1e-5
"""Part of the pixels whose mask may differ: rounding, again."""
_CELL = 16
GREY_LEVELS = {"h264": 6.0, "hevc": 6.0, "vp9": 6.0, "av1": 8.0, "gif": 8.0, "ffv1": 0.05, "png": 0.0}
"""By how much the mean of 16x16 pixels of a decoded picture may differ from the drawn one, of 255. Below 1
nothing was lost, and each pixel is looked at (in 16 bits 0.05 are 13 levels: what another machine may round)."""
_FRAMES = 4
_PASS = tuple(name for name in SECOND_PASS if name not in ("tables", "movie"))


@dataclass(frozen=True)
class Check:
    """One product compared with what was made again."""

    what: str
    """``inputs``, ``template.fits``, a saved image, or ``timelapse.mp4, picture 5``."""
    same: bool
    worst: float
    """The largest difference, in `units`."""
    units: str
    limit: float
    text: str
    """The same in words, with where it is."""


def verify(
    out: str | Path,
    frames: Sequence[int] | None = None,
    inputs: str | Path | None = None,
    progress: Progress | None = None,
) -> tuple[Check, ...]:
    """Make chosen frames of a finished night again, from its inputs, and compare them with its products.

    Compared are the inputs with their SHA-256, then the template, the frames' saved images, and their pictures in
    the movie. Nothing is found again: stars, transforms and brightness are those that the run wrote down.

    Parameters
    ----------
    out : str or Path
        The folder of the night; nothing is written there.
    frames : sequence of int, optional
        Frames to make again, as in the column ``frame``; by default four that are spread over the night.
    inputs : str or Path, optional
        Where the input files lie now; by default where they were.
    progress : Progress, optional
        A listener; silent by default.

    Returns
    -------
    tuple of Check
        One for each product; `judge` makes an error of those that differ.

    Raises
    ------
    InputError
        There is no finished run, or its inputs are not there.
    OptionError
        A frame that the night does not have, or did not use.
    """
    place = Path(out)
    state = load_state(place / NAME)
    record = read_record(place).get("provenance", {})
    options = read_options(place)
    facts = find_inputs(state, record, place, inputs)
    named = named_files(record, options, place, inputs)
    alive = [k for k in range(len(facts)) if k not in state.failed]
    changed = changed_inputs(facts, record, alive, named)
    digests = record.get("inputs", {})
    checks = [_inputs_check(changed, len([k for k in alive if digests.get(facts[k].file)]) + len(named))]
    if changed:
        return tuple(checks)
    shown = {f["file"] for f in read_json(place / "timelapse.json")["frames"]}
    used = [k for k in alive if facts[k].file in shown]
    chosen = _chosen(frames, used, facts)
    kept = tuple(kind for kind in options.save if kind != "cube")
    options = replace(options, save=kept, overwrite=False)
    with (
        tempfile.TemporaryDirectory(prefix="difflapse-verify-") as staged,
        reopened(place, options, inputs, Path(staged), progress or Silence(), checked=True) as again,
    ):
        lend(place, Path(staged))
        again.desk.few = True
        again.run(_PASS, chosen)
        wait_for_files(again.desk)
        checks += _compare(place, Path(staged), again, chosen, kept, options.codec)
    return tuple(checks)


def judge(name: str, checks: Sequence[Check]) -> VerifyError | None:
    """The error to raise where products differ from what is made again; None where none does."""
    different = [check for check in checks if not check.same]
    if not different:
        return None
    more = f" (and {len(different) - 1} more)" if len(different) > 1 else ""
    return VerifyError(
        f"{name}: {different[0].text}{more}",
        "was a product or an input changed after the run, or is this another version?",
        {"different": [asdict(check) for check in different], "compared": len(checks)},
    )


def _chosen(frames: Sequence[int] | None, used: list[int], facts: Sequence[FrameFacts]) -> list[int]:
    """Frames to make again, in order of time."""
    if frames is None:
        spread = np.linspace(0, len(used) - 1, min(_FRAMES, len(used))).round().astype(int)
        return [used[n] for n in np.unique(spread)]
    for k in frames:
        if not 0 <= k < len(facts):
            raise OptionError(f"there is no frame {k}: the night has frames 0 to {len(facts) - 1}")
        if k not in used:
            raise OptionError(
                f"frame {k} ({facts[k].file}) was not used, so that there is nothing to compare",
                "frames.ecsv says why",
            )
    return sorted(set(frames))


def _inputs_check(changed: list[str], n: int) -> Check:
    text = (
        f"{changed[0]} is not the file that the run read: its SHA-256 differs"
        if changed
        else f"inputs: {n} files, SHA-256 as the run read them"
    )
    return Check("inputs", not changed, float(len(changed)), "files", 0.0, text)


def _compare(
    place: Path, staged: Path, again: Again, chosen: list[int], kept: tuple[str, ...], codec: str
) -> Iterator[Check]:
    """All products of the chosen frames, one after another."""
    desk = again.desk
    night = desk.night
    scene: Scene = night.shared("scene")
    names = product_names([f.file for f in night.frames])
    lost = [k for k in chosen if k in desk.failed]
    if lost:
        raise InputError(f"{night.frames[lost[0]].file} cannot be made again: {desk.failed[lost[0]]}")
    if scene.mode == "template":
        yield compare_images("template.fits", place / "template.fits", staged / "template.fits")
    for folder in kept:
        for k in chosen:
            file = f"{folder}/{names[k]}"
            if (staged / file).exists() or (place / file).exists():
                yield compare_images(file, place / file, staged / file)
    told = read_json(place / "timelapse.json")
    number = {f["file"]: n for n, f in enumerate(told["frames"]) if f["file"] is not None}
    wanted = {number[night.frames[k].file]: k for k in chosen}
    found = read_pictures(place / told["video"], sorted(wanted))
    for n, k in sorted(wanted.items()):
        drawn = pictures.kept(night, k)
        if told.get("marks", True):
            mark_changes(night, k, drawn)
        what = f"{told['video']}, picture {n} (frame {k})"
        if n not in found:
            yield Check(what, False, 255.0, "grey levels", 0.0, f"{what} is missing")
        else:
            yield compare_pictures(what, found[n], drawn, GREY_LEVELS[codec])


def compare_images(what: str, there: Path, made: Path) -> Check:
    """A product image, its variance and mask, with the same made again; differences in units of the noise."""
    from astropy.io import fits

    if not there.exists() or not made.exists():
        why = "is missing" if not there.exists() else "would not be made"
        return Check(what, False, float("inf"), "sigma", SIGMAS, f"{what} {why}")
    try:
        with fits.open(there) as one, fits.open(made) as two:
            data, variance, mask = (
                [np.array(hdus[name].data) for hdus in (one, two)] for name in (0, "UNCERT", "MASK")
            )
    except (OSError, KeyError, ValueError, TypeError) as error:
        return Check(
            what, False, float("inf"), "sigma", SIGMAS, f"{what} cannot be read as it was written: {error}"
        )
    if data[0].shape != data[1].shape:
        text = f"{what} has the shape {data[0].shape}; made again it has {data[1].shape}"
        return Check(what, False, float("inf"), "sigma", SIGMAS, text)
    flipped = mask[0] != mask[1]
    if flipped.mean() > _FLIPPED:
        where = _where(np.argmax(flipped), flipped.shape)
        text = f"{what}: {flipped.sum()} pixels are masked otherwise, the first at {where}"
        return Check(what, False, float(flipped.sum()), "pixels", 0.0, text)
    with np.errstate(invalid="ignore"):
        sigma = np.sqrt(np.maximum(variance[1], 0))
        off = np.abs(data[0].astype(float) - data[1]) / np.where(sigma > 0, sigma, 1)
        rate = np.abs(variance[0].astype(float) / np.where(variance[1] > 0, variance[1], 1) - 1)
    off = np.where(np.isfinite(data[0]) == np.isfinite(data[1]), np.nan_to_num(off), np.inf)
    off[flipped] = 0
    rate = np.where((variance[1] > 0) & ~flipped, np.nan_to_num(rate, nan=np.inf), 0)
    worst = float(max(off.max(), rate.max()))
    same = worst <= SIGMAS
    place = _where(int(np.argmax(off if off.max() >= rate.max() else rate)), off.shape)
    n = int((np.maximum(off, rate) > SIGMAS).sum())
    text = (
        f"{what}: as made again, to {worst:.1g} sigma"
        if same
        else f"{what}: {n} pixels differ, by {worst:.3g} sigma at most, at {place}"
    )
    return Check(what, same, worst, "sigma", SIGMAS, text)


def compare_pictures(what: str, there: np.ndarray, made: np.ndarray, limit: float) -> Check:
    """A decoded picture with the one that was drawn again: means of 16x16 pixels, in grey levels."""
    if there.shape != made.shape:
        text = (
            f"{what} is {there.shape[1]}x{there.shape[0]}; drawn again it is {made.shape[1]}x{made.shape[0]}"
        )
        return Check(what, False, 255.0, "grey levels", limit, text)
    per_grey = 257 if made.dtype == np.uint16 else 1
    if there.dtype != made.dtype:
        text = f"{what} has levels of {8 * there.itemsize} bits; drawn again it has {8 * made.itemsize}"
        return Check(what, False, 255.0, "grey levels", limit, text)
    luma = np.array((0.2126, 0.7152, 0.0722), np.float32) / np.float32(per_grey)
    difference = (there.astype(np.float32) - made) @ luma
    high, wide = (n // _CELL * _CELL for n in difference.shape)
    cells = difference[:high, :wide].reshape(high // _CELL, _CELL, wide // _CELL, _CELL).mean((1, 3))
    worst = float(np.abs(cells).max())
    if limit < 1:
        worst = float(np.abs(difference).max())
    same = worst <= limit
    j, i = np.unravel_index(np.argmax(np.abs(cells)), cells.shape)
    text = (
        f"{what}: as drawn again, to {worst:.1f} grey levels"
        if same
        else f"{what}: differs by {worst:.1f} grey levels about x={_CELL * (i + 0.5):.0f}, "
        f"y={_CELL * (j + 0.5):.0f} from the upper left; the codec's limit is {limit:g}"
    )
    return Check(what, same, worst, "grey levels", limit, text)


def _where(flat: int | np.integer, shape: tuple[int, ...]) -> str:
    place = np.unravel_index(int(flat), shape)
    plane = f"plane {place[0]}, " if len(shape) == 3 else ""
    return f"{plane}x={place[-1]}, y={place[-2]} (0-based)"

"""The main job: inputs in, products out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from difflapse.io.discover import discover
from difflapse.pipeline import folder
from difflapse.pipeline.config import RunOptions
from difflapse.pipeline.defects import search_sensor
from difflapse.pipeline.early import in_copy
from difflapse.pipeline.pool import cores, prestart
from difflapse.pipeline.progress import Progress, Silence
from difflapse.pipeline.solving import check_solver

if TYPE_CHECKING:
    from difflapse.pipeline.results import Run


def run(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    progress: Progress | None = None,
    align: str = "auto",
    transform: str = "auto",
    detector: str = "orb",
    resample: str = "cubic",
    reference: str | int = "best",
    diff: str = "template",
    template: str | Path = "",
    lag: str | int = "1",
    window: int = 9,
    match: str = "auto",
    units: str = "sigma",
    mosaic: str = "auto",
    center: str = "",
    size: str = "",
    roi: str = "",
    solve: bool = False,
    solver: str = "auto",
    index_files: str | Sequence[str] = (),
    solve_limit: float = 120.0,
    follow: str | Sequence[str] = (),
    false_alarms: float = 0.1,
    panels: str | Sequence[str] = ("aligned", "difference"),
    labels: str = "full",
    width: int | str = 2560,
    fps: float = 12.0,
    codec: str = "h264",
    pace: str = "even",
    stretch: str = "asinh",
    white_balance: str = "stars",
    timezone: str = "",
    grid: bool = False,
    inset: str | Sequence[str] = (),
    changes: bool = True,
    reel: bool = True,
    save: str | Sequence[str] = (),
    split: bool = False,
    crossmatch: str | Sequence[str] = (),
    injection: bool = True,
    workers: int = 0,
    memory: str = "",
    max_failed: float = 0.5,
    require_rms: float = 0.0,
    overwrite: bool = False,
) -> Run:
    """Turn a night of frames into an aligned movie, a differential movie and tables.

    Parameters
    ----------
    inputs : str, Path or sequence of them
        Files, folders (searched downwards), globs, ``@list.txt`` or URLs.
    out : str or Path, optional
        Folder for the products; by default the input's name + ``-difflapse`` in the current folder.
    progress : Progress, optional
        A listener; silent by default.
    align, transform, detector, resample, reference : str
        How frames are aligned, by which model, with which kernel they are resampled, and on which frame's pixel
        grid (`reference` may be a number, or a file of the same sky from anywhere).
    diff, template, lag, window, match, units : str, window int
        What is subtracted (`template` may be a file of the same sky, such as another night's), how it is matched
        before, and in which units the movie shows it.
    mosaic : str
        The colour mosaic in array order, ``none``, or ``auto``.
    center, size, roi : str
        A crop, on the sky or in native pixels of the reference.
    solve, solver, index_files, solve_limit : bool, str, str or sequence of str, float
        Whether to find the field on the sky, by which plate solver, in which index files (or folders of them),
        and for how many seconds at most.
    follow : str or sequence of str
        A moving target that stands still in the products: ``comet``, an ephemeris, or two ``RA,DEC@TIME`` or
        more.
    false_alarms : float
        False changes that chance may make in a night, of each kind.
    panels, labels, width, fps, codec, pace, stretch : str, width int, fps float
        The movie; `panels` may be a sequence; a `width` of 0 or ``full`` is that of the images.
    white_balance, timezone, grid, inset : str, str, bool, str or sequence of str
        What is white in it; a second clock; lines of the sky; zooms in the corners.
    changes : bool
        Whether to look for what changed, to measure all stars and to tell how deep the night was. Without, a run makes
        the movie of the aligned frames and of their differences, and no clips, light curves or artificial stars.
    reel : bool
        A clip of each change, and the best of them in one movie.
    save : str or sequence of str
        FITS images to keep: ``aligned``, ``differences``; ``cube``: all of the night in one file.
    split : bool
        Keep sequences apart that differ only in their sequence id.
    crossmatch : str or sequence of str
        Catalogues that changes and stars are compared with: files, ``vsx``, ``skybot``.
    injection : bool
        Plant artificial stars and movers in small windows beside the frames, and tell how many are found.
    workers, memory : int, str
        Worker processes (0: one per core), and what all of them may take.
    max_failed : float
        Give up when more than this fraction of a sequence is skipped.
    require_rms : float
        Fail, with all products written, unless each used frame's held-out rms is this small, px; 0: not asked.
    overwrite : bool
        Replace an earlier run's products.

    All from `align` on are the fields of `difflapse.RunOptions`.

    Returns
    -------
    Run
        What was made; `difflapse.open_run` gives the same later.

    Raises
    ------
    OptionError
        A value that does not fit.
    InputError
        Nothing usable among the inputs.
    TooManyFailedError
        More than `max_failed` of a sequence's frames were skipped; `frames.ecsv` says why.
    PrecisionError
        A used frame is aligned less well than `require_rms`, or has no rms.
    OutputError
        The folder is in use or cannot be written.
    MissingDependencyError
        The plate solver that is asked for is not installed.
    """
    given = dict(locals())
    options = RunOptions.from_mapping({option.name: given[option.name] for option in fields(RunOptions)})
    many = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    return run_night(
        [str(item) for item in many], None if out is None else str(out), options, progress or Silence()
    )


def run_night(inputs: Sequence[str], out: str | None, options: RunOptions, progress: Progress) -> Run:
    """As `run`, with the options checked already."""
    started = time.monotonic()
    target = Path(out) if out is not None else folder.default_out(inputs)
    folder.check_free(target, options.overwrite)
    _check_at_hand(options)
    beside = options.workers != 1 and cores() > 1
    if beside:
        prestart()  # a small night may turn out not to need it
    inventory = discover(inputs, mosaic=options.mosaic, split=options.split)
    with contextlib.ExitStack() as early:
        sensor = None
        if not _is_compiled():
            progress.note("compiling, once on this machine: the first stages take up to a minute longer")
        if beside:
            frames = inventory.sequences[0].frames
            sensor = early.enter_context(in_copy(search_sensor, frames, options.workers or cores()))
        # The rest of the program takes a second to load.
        from difflapse.pipeline.sequences import run_sequences

        return run_sequences(inventory, target, options, progress, sensor, started)


def _check_at_hand(options: RunOptions) -> None:
    """Tell before anything is read what is asked for and not there; only what is asked for is loaded to see that."""
    check_solver(options)
    if options.crossmatch:
        from difflapse.pipeline.crossmatch import check_crossmatch

        check_crossmatch(options)
    if options.codec != RunOptions.codec:
        from difflapse.movie.encode import check_codec

        check_codec(options.codec)


def _is_compiled() -> bool:
    """Whether an earlier run left its compiled functions where this one looks for them."""
    from difflapse.measure.order import median

    kept = median.stats.cache_path if hasattr(median, "stats") else None
    return kept is None or any(Path(kept).glob("*.nbi"))

"""The main job: inputs in, products out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from difflapse.errors import DifflapseError, FrameError, TooManyFailedError
from difflapse.io.discover import discover
from difflapse.io.products import sha256, write_json, write_table, write_toml
from difflapse.model import Inventory
from difflapse.model import Sequence as FrameSequence
from difflapse.movie.encode import check_codec
from difflapse.pipeline import folder, pictures, tables
from difflapse.pipeline.certificate import judge_precision, residuals_table, told_frames
from difflapse.pipeline.config import RunOptions
from difflapse.pipeline.context import Night, forget
from difflapse.pipeline.crossmatch import check_crossmatch
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.drawing import check_panels
from difflapse.pipeline.external import external_of
from difflapse.pipeline.field import reference_pixel_arcsec
from difflapse.pipeline.follow import check_follow
from difflapse.pipeline.foreign import check_template
from difflapse.pipeline.memory import choose_workers
from difflapse.pipeline.moving import moving_record
from difflapse.pipeline.night_stages import check_reference
from difflapse.pipeline.plant import forget_planted
from difflapse.pipeline.pool import Pool, cores, guarded, import_beside, prestart
from difflapse.pipeline.products import wait_for_files
from difflapse.pipeline.progress import Progress, Silence
from difflapse.pipeline.records import Canvas, Reference, Scene, Told
from difflapse.pipeline.report import report_beside, write_index
from difflapse.pipeline.results import Run
from difflapse.pipeline.sensor import camera_record
from difflapse.pipeline.sky import place_of
from difflapse.pipeline.solving import check_solver
from difflapse.pipeline.stages import Group, Scope, Stage, plan_groups, run_group, stages_of
from difflapse.pipeline.tasks import CHUNK, forget_pictures

_TABLED = {"quality", "alignment", "scale", "digest", "told"}
"""Values that the tables need at the end."""
_LATER = ("astropy.wcs", "astropy.table", "scipy.interpolate", "scipy.ndimage", "scipy.optimize")
"""What this process needs when the first frames have been measured, and takes long to load."""


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
    check_solver(options)
    check_crossmatch(options)
    check_codec(options.codec)
    if options.workers != 1 and cores() > 1:
        prestart()  # a small night may turn out not to need it
    inventory = discover(inputs, mosaic=options.mosaic, split=options.split)
    check_reference(inventory, options)
    check_follow(inventory, options)
    check_template(inventory, options)
    check_panels(inventory, options)
    done: list[_Done] = []
    failed: list[tuple[FrameSequence, DifflapseError]] = []
    with folder.staging(target) as staged:
        several = len(inventory.sequences) > 1
        with Pool(choose_workers(inventory, options)) as pool:
            if pool.workers > 1:
                import_beside(_LATER)
            if not _is_compiled():
                progress.note("compiling, once on this machine: the first stages take up to a minute longer")
            for sequence in inventory.sequences:
                place = staged / sequence.name if several else staged
                try:
                    done.append(
                        _run_sequence(sequence, inventory, place, options, pool, progress, not several)
                    )
                except DifflapseError as error:
                    # One sequence's failure must not lose another's night.
                    if not several or error.exit_code in (1, 2, 6):
                        raise
                    progress.note(f"{sequence.name}: {error.message}")
                    failed.append((sequence, error))
                finally:
                    forget()
                    shutil.rmtree(place / ".scratch", ignore_errors=True)
                    forget_pictures()
                    forget_planted()
        if failed and not done:
            raise failed[0][1]
        seconds = time.monotonic() - started
        products = (
            [f"{d.sequence.name}/{p}" for d in done for p in d.products]
            if several
            else list(done[0].products)
        )
        if several:
            products += _write_index(inventory, done, failed, staged, options, seconds, products)
        folder.publish(staged, target, products, options.overwrite)
    faults = [d.fault for d in done if d.fault is not None]
    for fault in faults[1:]:
        progress.note(fault.message)
    if faults:
        raise faults[0]
    frames = sum(len(d.sequence.frames) for d in done)
    return Run(target, {"seconds": round(seconds, 2), "frames_per_second": round(frames / seconds, 2)})


def _is_compiled() -> bool:
    """Whether an earlier run left its compiled functions where this one looks for them."""
    from difflapse.measure.order import median

    kept = median.stats.cache_path if hasattr(median, "stats") else None
    return kept is None or any(Path(kept).glob("*.nbi"))


@dataclass(frozen=True)
class _Done:
    """A sequence that is finished."""

    sequence: FrameSequence
    products: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    fault: DifflapseError | None = None
    """Why the run fails all the same: too many frames skipped, or not aligned as well as required."""


def _run_sequence(
    sequence: FrameSequence,
    inventory: Inventory,
    place: Path,
    options: RunOptions,
    pool: Pool,
    progress: Progress,
    alone: bool,
) -> _Done:
    """Take one sequence through all stages; its products lie in `place` when this returns."""
    started = time.monotonic()
    scratch = place / ".scratch"
    scratch.mkdir(parents=True)
    night = Night(sequence.name, sequence.frames, options, str(scratch), str(place))
    desk = Desk(night, pool, progress)
    for note in sequence.notes:
        if note.startswith("wavelength: "):  # it shows in every difference
            progress.note(note)
    too_many = run_stages(desk, plan_groups(stages_of(options)))
    products = desk.products
    rows = tuple(_rows(desk))
    left = [tables.left_out_row(item) for item in inventory.left_out] if alone else []
    meta = _meta(desk, too_many is None)
    write_table(place / "frames.ecsv", tables.frames_table([*rows, *left], meta))
    products.append("frames.ecsv")
    products += _save_residuals(desk, place)
    out = place.parent if alone else place.parent.parent / place.name
    digests = {night.frames[k].file: d for k, d in sorted(desk.values.get("digest", {}).items()) if d}
    products.append("run.toml")
    record = {
        **options.to_mapping(),
        "provenance": tables.provenance(
            digests,
            [p for p in products if p != "run.toml"],
            time.monotonic() - started,
            folder.root_from(inventory.root, out),
            _sky_record(night),
            camera_record(night),
        ),
    }
    external = external_of(night.frames, options)
    named = {"reference": external.path if external else "", "template": options.template}
    for name, file in named.items():
        if file:
            path = Path(file).expanduser()
            record["provenance"][name] = sha256(path)
            record["provenance"][f"{name}_file"] = folder.root_from(str(path.resolve()), out)
    # The options are what was asked for; this is what was done.
    record["provenance"].update({name: meta[name] for name in ("diff", "diff_note") if name in meta})
    write_toml(place / "run.toml", record)
    products += report_beside(desk)
    return _Done(sequence, tuple(products), rows, too_many or _not_precise(night, rows))


def run_stages(desk: Desk, groups: Sequence[Group]) -> TooManyFailedError | None:
    """Take all frames through the groups; where too many failed on the way it ends, with the error to raise."""
    with desk:
        for n, group in enumerate(groups):
            if group.is_night:
                work(desk, group.stages[0])
            else:
                each(desk, group)
            needed = {name for later in groups[n + 1 :] for name in later.reads} | _TABLED
            for name in desk.values.keys() - needed:
                del desk.values[name]
            too_many = _too_many(desk, desk.night.options)
            if too_many is not None:
                return too_many
        desk.pool.finish()
        wait_for_files(desk)
    return None


def work(desk: Desk, stage: Stage) -> None:
    """Take the night through a stage of its own. Of an optional one an error is told, and costs its products alone."""
    if not stage.optional:
        stage.work(desk)
        return
    error = guarded(stage.work, desk)
    if isinstance(error, FrameError):
        desk.progress.note(f"{stage.name}: left out, {error.message}")


def _save_residuals(desk: Desk, place: Path) -> list[str]:
    """Write `residuals.fits` where stars were held out; the names of what was written."""
    night = desk.night
    alignments = {
        k: desk.value("alignment", k) for k in desk.values.get("alignment", {}) if k not in desk.failed
    }
    table = residuals_table(alignments, night.frames, night.shared("reference").stars) if alignments else None
    if table is None:
        return []
    write_table(place / "residuals.fits", table)
    return ["residuals.fits"]


def _not_precise(night: Night, rows: Sequence[Mapping[str, Any]]) -> DifflapseError | None:
    """The error of a night that does not reach `require_rms`."""
    others = [row for row in rows if row["status"] == "used" and row["method"] != "reference"]
    return judge_precision(night.name, told_frames(others), night.options.require_rms)


def each(desk: Desk, group: Group, only: Sequence[int] | None = None) -> None:
    """Take every frame that is still alive (or some of them) through a group, and keep what it gives.

    Where a frame needs its neighbours in time, a worker takes several in a row, so that it has them at hand.
    """
    night = desk.night
    windowed = any(stage.scope is Scope.WINDOW for stage in group.stages) and night.shared("scene").windowed
    size = CHUNK if windowed and desk.pool.workers > 1 else 1
    frames = desk.alive() if only is None else list(only)
    chunks = [frames[n : n + size] for n in range(0, len(frames), size)]
    desk.progress.start(group.name, len(frames))
    jobs = ((group, night, [(k, _given(desk, group, k)) for k in chunk]) for chunk in chunks)
    in_order = desk.film is not None and "shown" in group.gives
    in_flight = desk.pool.workers + 1 if size > 1 else None
    for n, results in desk.pool.run(_task, jobs, ordered=in_order, in_flight=in_flight):
        whole = isinstance(results, FrameError)  # lost with its worker
        for k, result in zip(chunks[n], [results] * len(chunks[n]) if whole else results, strict=True):
            if isinstance(result, FrameError):
                desk.errors[k] = result
                desk.fail(k, result.message)
            else:
                for name, value in result.items():
                    desk.values.setdefault(name, {})[k] = value
                if in_order and desk.film is not None:
                    desk.film.add(k, pictures.kept(night, k), result["shown"])
            desk.progress.advance(group.name)
    desk.progress.finish(group.name)


def _task(group: Group, night: Night, items: Sequence[tuple[int, Mapping[str, Any]]]) -> list[Any]:
    """Take some frames through a group; a failure is its frame's result."""
    return [guarded(run_group, group, night, *item) for item in items]


def _given(desk: Desk, group: Group, k: int) -> dict[str, Any]:
    return {name: desk.value(name, k) for name in group.needs}


def _too_many(desk: Desk, options: RunOptions) -> TooManyFailedError | None:
    """The error to raise when too many frames are skipped; the tables are still written."""
    total = len(desk.night.frames)
    if len(desk.failed) <= options.max_failed * total:
        return None
    reasons: dict[str, int] = {}
    for reason in desk.failed.values():
        reasons[reason] = reasons.get(reason, 0) + 1
    most = max(reasons, key=lambda r: reasons[r])
    return TooManyFailedError(
        f"{len(desk.failed)} of {total} frames of {desk.night.name} were skipped; "
        f"at most {options.max_failed:.0%} may be. The most frequent reason: {most}",
        "frames.ecsv has each frame's reason; --max-failed 1 goes on all the same",
        {"found": len(desk.failed), "needed": int(options.max_failed * total)},
    )


def _rows(desk: Desk) -> Iterator[dict[str, Any]]:
    night = desk.night
    finished = "alignment" in desk.values
    chosen = night.shared("scene").template_frames if night.has("scene") else ()
    arcsec = reference_pixel_arcsec(night) if finished else None
    canvas: Canvas | None = night.shared("canvas") if night.has("canvas") else None
    track = canvas.track if canvas else None
    for k, facts in enumerate(night.frames):
        get = {name: desk.values.get(name, {}).get(k) for name in ("quality", "alignment", "scale")}
        reason = desk.failed.get(k, "") or (
            "" if get["alignment"] is not None else "the run stopped before its turn"
        )
        row = tables.frame_row(
            k, facts, facts.file, reason, in_template=k in chosen, pixel_arcsec=arcsec, **get
        )
        subtracted = get["alignment"] is not None and get["alignment"].method != "interpolated"
        matched = get["scale"] is not None or night.options.match == "none" or k in chosen
        if not reason and subtracted and not matched:
            row["note"] = "; ".join(
                filter(
                    None,
                    (
                        row["note"],
                        "fewer than 5 stars in common: brightness matched on pixels where they allow it",
                    ),
                )
            )
        told: Told | None = desk.values.get("told", {}).get(k)
        if told is not None:
            row["match"], row["match_kernel"] = told.method, told.kernel
            row["match_before_sigma"], row["match_after_sigma"] = told.before, told.after
            row["note"] = "; ".join(filter(None, (row["note"], told.note)))
        if track is not None:
            row["target_x_pix"], row["target_y_pix"] = float(track.x[k]), float(track.y[k])
        yield row


def _sky_record(night: Night) -> dict[str, Any]:
    """What the WCS was fitted to, for the provenance."""
    place = place_of(night)
    return {"source": place.source, "index_file": place.index or None, "text": place.text} if place else {}


def _meta(desk: Desk, finished: bool) -> dict[str, Any]:
    night = desk.night
    meta: dict[str, Any] = {
        "sequence": night.name,
        "object": night.frames[0].object or "",
        "columns": "positions are 0-based native pixels; time_utc is mid-exposure",
    }
    if night.has("reference"):
        reference: Reference = night.shared("reference")
        if reference.external is None:
            meta["reference_frame"] = reference.frame
        else:
            meta["reference_file"] = reference.facts.file
            meta["reference_light"] = night.frames[reference.frame].file
        meta["sensor_defects"] = len(reference.defects)
    if moving := moving_record(night):
        meta["moving"] = moving
    if camera := camera_record(night):
        meta["camera"] = camera
    if night.has("lens"):
        meta["lens"] = night.shared("lens")
    if finished:
        scene: Scene = night.shared("scene")
        meta["diff"] = scene.mode
        if night.has("diff_note"):
            meta["diff_note"] = night.shared("diff_note")
        if night.has("not_planted"):
            meta["not_planted"] = night.shared("not_planted")
        if scene.template_file:
            meta["template_file"] = scene.template_file
        meta["wcs"] = place_of(night).text
        meta.update({} if (scale := reference_pixel_arcsec(night)) is None else {"pixel_arcsec": scale})
    return meta


def _write_index(
    inventory: Inventory,
    done: Sequence[_Done],
    failed: Sequence[tuple[FrameSequence, DifflapseError]],
    staged: Path,
    options: RunOptions,
    seconds: float,
    products: Sequence[str],
) -> list[str]:
    """What lies above several sequences: all rows in one table, and a page that leads to each."""
    rows: list[dict[str, Any]] = [{**row, "sequence": d.sequence.name} for d in done for row in d.rows]
    for sequence, error in failed:
        rows += [
            {**tables.frame_row(k, f, f.file, error.message), "sequence": sequence.name}
            for k, f in enumerate(sequence.frames)
        ]
    rows += [{**tables.left_out_row(item), "sequence": ""} for item in inventory.left_out]
    write_table(
        staged / "frames.ecsv", tables.frames_table(rows, {"sequences": [d.sequence.name for d in done]})
    )
    write_json(staged / "run.json", {"sequences": [d.sequence.name for d in done]})
    write_index(Run(staged))
    made = ["frames.ecsv", "run.json", "index.html", "run.toml"]
    listed = [*products, *made[:-1]]
    write_toml(
        staged / "run.toml", {**options.to_mapping(), "provenance": tables.provenance({}, listed, seconds)}
    )
    return made

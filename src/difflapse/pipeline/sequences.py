"""The sequences of a night, each through all stages, and their products."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difflapse.errors import DifflapseError, FrameError, TooManyFailedError
from difflapse.io.products import sha256, write_json, write_table, write_toml
from difflapse.model import Inventory
from difflapse.model import Sequence as FrameSequence
from difflapse.movie.encode import check_codec
from difflapse.pipeline import folder, kernels, pictures, tables
from difflapse.pipeline.certificate import judge_precision, residuals_table, told_frames
from difflapse.pipeline.config import RunOptions
from difflapse.pipeline.context import Night, forget
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
from difflapse.pipeline.pool import Pool, guarded, import_beside
from difflapse.pipeline.products import wait_for_files
from difflapse.pipeline.progress import Progress
from difflapse.pipeline.records import Canvas, Reference, Scene, Told
from difflapse.pipeline.report import report_beside, write_index
from difflapse.pipeline.results import Run
from difflapse.pipeline.sensor import camera_record
from difflapse.pipeline.sky import place_of
from difflapse.pipeline.stages import Group, Scope, Stage, plan_groups, run_group, stages_of
from difflapse.pipeline.tasks import CHUNK, forget_pictures

_TABLED = {"quality", "alignment", "scale", "digest", "told"}
"""Values that the tables need at the end."""
_LATER = ("astropy.wcs", "astropy.table", "scipy.interpolate", "scipy.ndimage", "scipy.optimize")
"""What this process needs when the first frames have been measured, and takes long to load."""


def run_sequences(
    inventory: Inventory,
    target: Path,
    options: RunOptions,
    progress: Progress,
    sensor: Callable[[], Any] | None,
    started: float,
) -> Run:
    """Take all sequences of an inventory through all stages, and put what they made into the folder `target`.

    `sensor` waits for what the first of them shows of its sensor, where that is looked for already. `started` is the
    time on `time.monotonic`.
    """
    check_codec(options.codec)  # the usual one, too
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
            for sequence in inventory.sequences:
                place = staged / sequence.name if several else staged
                try:
                    done.append(
                        _run_sequence(
                            sequence, inventory, place, options, pool, progress, not several, sensor
                        )
                    )
                except DifflapseError as error:
                    # One sequence's failure must not lose another's night.
                    if not several or error.exit_code in (1, 2, 6):
                        raise
                    progress.note(f"{sequence.name}: {error.message}")
                    failed.append((sequence, error))
                finally:
                    sensor = None  # each has its own
                    forget()
                    shutil.rmtree(place / ".scratch", ignore_errors=True)
                    forget_pictures()
                    forget_planted()
            if pool.copied:
                kernels.remember(pool)
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
    sensor: Callable[[], Any] | None,
) -> _Done:
    """Take one sequence through all stages; its products lie in `place` when this returns."""
    started = time.monotonic()
    scratch = place / ".scratch"
    scratch.mkdir(parents=True)
    night = Night(sequence.name, sequence.frames, options, str(scratch), str(place))
    desk = Desk(night, pool, progress)
    if sensor is not None:
        desk.awaited["sensor"] = sensor
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

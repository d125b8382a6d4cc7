"""A finished run taken up again: its night rebuilt from products and inputs, nothing found anew."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from difflapse.errors import InputError, OptionError, OutputError
from difflapse.io.products import sha256
from difflapse.io.source import is_url
from difflapse.measure.mesh import window
from difflapse.model import FrameFacts, Inventory, ProductGrid
from difflapse.model import Sequence as FrameSequence
from difflapse.movie.encode import CODECS, check_codec, movie_name
from difflapse.pipeline import folder
from difflapse.pipeline.config import MOVIE_OPTIONS, RunOptions
from difflapse.pipeline.context import Night, forget
from difflapse.pipeline.crop import cut_note, product_grid
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.memory import choose_workers
from difflapse.pipeline.pool import Pool
from difflapse.pipeline.progress import Progress, Silence
from difflapse.pipeline.records import Canvas, Reference, SkyPlace
from difflapse.pipeline.stages import STAGES, Group, plan_groups
from difflapse.pipeline.state import NAME, SECOND_PASS, State, load_state
from difflapse.pipeline.tasks import forget_pictures
from difflapse.pipeline.written import read_record

_CROP = ("center", "size", "roi")
NAMED = ("reference", "template")
"""Options that may name a file beside the frames."""
_PASS = tuple(name for name in SECOND_PASS if name not in ("stills", "save", "tables"))


def make_movie(
    out: str | Path,
    changes: Mapping[str, Any] | None = None,
    file: str | Path | None = None,
    inputs: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Make another movie of a finished night, from its products, its stored transforms and its inputs.

    Parameters
    ----------
    out : str or Path
        The folder of the night (of one sequence).
    changes : mapping of str to value, optional
        Options that are to differ from the run's, of `MOVIE_OPTIONS`.
    file : str or Path, optional
        The movie; by default ``timelapse-2.mp4``, or the next number, in `out`. Its ending chooses the codec
        where `changes` do not.
    inputs : str or Path, optional
        Where the run's input files lie now; by default where they were, as seen from `out`.
    overwrite : bool
        Replace `file`.
    progress : Progress, optional
        A listener; silent by default.

    Returns
    -------
    Path
        The movie, or the folder of its pictures. A JSON file of the same name says what it shows.

    Raises
    ------
    InputError
        There is no finished run, or its inputs are not there or not the same files.
    OptionError
        An option that would change what was found, or does not fit.
    OutputError
        The movie is there already, or cannot be written.
    """
    place = Path(out)
    listener = progress or Silence()
    options = _options_for(place, changes or {}, file)
    target = _target(place, options, file, overwrite)
    check_codec(options.codec)
    with folder.staging(target.parent) as staged, reopened(place, options, inputs, staged, listener) as again:
        lend(place, staged)
        again.desk.stem = target.stem if options.codec != "png" else target.name
        again.run(_PASS)
        made = [p for p in again.desk.products if p.startswith(again.desk.stem)]
        _publish(staged, target, options)
    if target.parent.resolve() == place.resolve():
        folder.add_products(place, made)
    return target


def lend(place: Path, staged: Path) -> None:
    """Lay the tables of what changed beside the pictures, which are marked with them."""
    for name in ("changes.ecsv", "detections.ecsv"):
        if (place / name).exists():
            shutil.copyfile(place / name, staged / name)


@dataclass(frozen=True, eq=False)
class Again:
    """A night that is taken up again."""

    desk: Desk

    def run(self, stages: Sequence[str], only: Sequence[int] | None = None) -> None:
        """Take its frames (or `only` some) through the named stages; raises what a run would raise."""
        from difflapse.pipeline.sequences import each

        desk = self.desk
        before = dict(desk.failed)
        with desk:
            for group in self.groups(stages):
                if group.is_night:
                    group.stages[0].work(desk)
                else:
                    each(desk, group, only)
            desk.pool.finish()
        failed = [k for k in desk.failed if k not in before]
        if len(failed) > desk.night.options.max_failed * len(desk.night.frames):
            raise InputError(
                f"{len(failed)} frames cannot be made again; the first: {desk.failed[failed[0]]}"
            )

    def groups(self, stages: Sequence[str]) -> tuple[Group, ...]:
        """The named stages, joined."""
        chosen = tuple(stage for stage in STAGES if stage.name in stages)
        return plan_groups(chosen, tuple(self.desk.values))


@contextmanager
def reopened(
    place: Path,
    options: RunOptions,
    inputs: str | Path | None,
    staged: Path,
    progress: Progress,
    checked: bool = False,
) -> Iterator[Again]:
    """The night of `place` as it was when nothing had been subtracted yet, its products going to `staged`.

    Parameters
    ----------
    place : Path
        Folder of the finished night.
    options : RunOptions
        Those in force; what was found must not depend on where they differ from the run's.
    inputs : str or Path, optional
        Where the input files lie now.
    staged : Path
        A folder that exists.
    progress : Progress
        A listener.
    checked : bool
        The inputs' SHA-256 have been compared already.

    Raises
    ------
    InputError
        No finished run, or inputs that are missing or are not the files that the run read.
    OptionError
        The crop does not lie within the run's.
    """
    state = load_state(place / NAME)
    record = read_record(place).get("provenance", {})
    frames = find_inputs(state, record, place, inputs)
    named = named_files(record, options, place, inputs)
    if not checked:
        alive = [k for k in range(len(frames)) if k not in state.failed]
        check_inputs(frames, record, alive, named)
    options = RunOptions.from_mapping({**options.to_mapping(), **{k: str(v) for k, v in named.items()}})
    scratch = staged / ".scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    night = Night(state.name, frames, options, str(scratch), str(staged))
    shared, values = _cropped(state, options, read_options(place), progress)
    shared["reference"] = _placed(shared["reference"], frames, named)
    for name, value in shared.items():
        night.share(name, value)
    inventory = Inventory("", (FrameSequence(state.name, frames),), ())
    try:
        with Pool(choose_workers(inventory, replace(options, center="", size=""))) as pool:
            desk = Desk(night, pool, progress, values, dict(state.failed))
            desk.values["digest"] = {
                k: record.get("inputs", {}).get(f.file, "") for k, f in enumerate(frames)
            }
            yield Again(desk)
    finally:
        forget()
        forget_pictures()


def read_options(place: Path) -> RunOptions:
    """Options of a finished run."""
    record = read_record(place)
    known = {item.name for item in fields(RunOptions)}
    return RunOptions.from_mapping({key: value for key, value in record.items() if key in known})


def find_inputs(
    state: State, record: Mapping[str, Any], place: Path, inputs: str | Path | None
) -> tuple[FrameFacts, ...]:
    """The frames with the paths at which their files lie now; raises InputError where one is missing."""
    root = record.get("root") if inputs is None else str(inputs)
    found = []
    missing: list[str] = []
    for k, facts in enumerate(state.frames):
        if facts.path and inputs is None:  # a URL
            found.append(facts)
            continue
        if root is None or is_url(root):
            raise InputError("it is not known where the run's inputs are", "--inputs FOLDER says where")
        top = place.resolve() / root if inputs is None else Path(root)
        path = top / facts.file
        if not path.is_file() and inputs is not None:
            path = top / Path(facts.file).name
        if not path.is_file() and k not in state.failed:
            missing.append(facts.file)
        found.append(replace(facts, path=str(path)))
    if missing:
        raise InputError(
            f"{len(missing)} of {len(found)} input files are not in {root}, {missing[0]} for one",
            "--inputs FOLDER says where the run's input files lie now",
            {"found": len(found) - len(missing), "needed": len(found)},
        )
    return tuple(found)


def named_files(
    record: Mapping[str, Any], options: RunOptions, place: Path, inputs: str | Path | None
) -> dict[str, Path]:
    """Where the files lie now that ``--reference`` and ``--template`` named beside the frames, by option.

    Raises
    ------
    InputError
        One of them is neither where it was, as seen from the run or from here, nor among the inputs.
    """
    found = {}
    for name in NAMED:
        if not record.get(name):
            continue
        told, given = record.get(f"{name}_file"), Path(getattr(options, name)).expanduser()
        places = [*([place.resolve() / told] if told else []), given]
        places += [Path(inputs) / given.name] if inputs is not None else []
        there = next((path for path in places if path.is_file()), None)
        if there is None:
            raise InputError(
                f"the {name} {given} is not where it was",
                "put it back, or into the folder that --inputs names",
            )
        found[name] = there
    return found


def changed_inputs(
    frames: Sequence[FrameFacts], record: Mapping[str, Any], which: Sequence[int], named: Mapping[str, Path]
) -> list[str]:
    """Names of the files that are not those which the run read; URLs are not looked at.

    Parameters
    ----------
    frames : sequence of FrameFacts
        With the paths of now.
    record : mapping
        The run's provenance, which has the SHA-256 of each file.
    which : sequence of int
        Frames to look at.
    named : mapping of str to Path
        See `named_files`.
    """
    digests = record.get("inputs", {})
    known = [k for k in which if digests.get(frames[k].file) and not is_url(frames[k].path)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda k: sha256(frames[k].path), known))
    changed = [frames[k].file for k, d in zip(known, found, strict=True) if d != digests[frames[k].file]]
    return changed + [
        f"the {name} {path.name}" for name, path in named.items() if sha256(path) != record[name]
    ]


def check_inputs(
    frames: Sequence[FrameFacts], record: Mapping[str, Any], which: Sequence[int], named: Mapping[str, Path]
) -> None:
    """Raise InputError unless the files are those that the run read; see `changed_inputs`."""
    changed = changed_inputs(frames, record, which, named)
    if changed:
        raise InputError(
            f"{changed[0]} is not the file that the run read: its SHA-256 differs"
            + (f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""),
            "run the night again",
            {"changed": len(changed)},
        )


def _placed(reference: Reference, frames: Sequence[FrameFacts], named: Mapping[str, Path]) -> Reference:
    """The reference with the paths of now."""
    external = reference.external
    if external is None:
        return replace(reference, facts=replace(reference.facts, path=frames[reference.frame].path))
    path = str(named.get("reference", ""))
    external = replace(external, path=path, facts=replace(external.facts, path=path))
    return replace(reference, facts=replace(reference.facts, path=path), external=external)


def _options_for(place: Path, changes: Mapping[str, Any], file: str | Path | None) -> RunOptions:
    """The run's options with those changed that may be."""
    own = read_options(place)
    wrong = [name for name in changes if name.replace("-", "_") not in MOVIE_OPTIONS]
    if wrong:
        raise OptionError(
            f"{wrong[0]} cannot be changed in a movie of a finished run",
            f"run the night again; a movie takes {', '.join(MOVIE_OPTIONS)}",
        )
    new = {key.replace("-", "_"): value for key, value in changes.items()}
    if any(new.get(name) for name in _CROP):
        if own.follow:
            raise OptionError("a night that follows a target keeps its cut", "run the night again with it")
        new = {**dict.fromkeys(_CROP, ""), **new}
    if file is not None and Path(file).suffix:
        fitting = [c.name for c in CODECS.values() if c.suffix == Path(file).suffix.lower()]
        if not fitting:
            known = ", ".join(sorted({c.suffix for c in CODECS.values() if c.suffix}))
            raise OptionError(f"{file} names no kind of movie", f"one of {known}, or no ending for png")
        if "codec" in new and new["codec"] not in fitting:
            raise OptionError(
                f"{file} does not go with codec {new['codec']}", f"it is for {' or '.join(fitting)}"
            )
        if "codec" not in new and own.codec not in fitting:
            new["codec"] = fitting[0]
    return RunOptions.from_mapping({**own.to_mapping(), "save": [], "overwrite": False, **new})


def _target(place: Path, options: RunOptions, file: str | Path | None, overwrite: bool) -> Path:
    """Where the movie goes."""
    if file is None:
        n = 2
        while any(place.glob(f"timelapse-{n}")) or any(place.glob(f"timelapse-{n}.*")):
            n += 1
        return place / movie_name(options.codec, f"timelapse-{n}")
    target = Path(file)
    if options.codec == "png" and target.suffix:
        raise OptionError(f"{file} has an ending; pictures go to a folder")
    if options.codec != "png" and not target.suffix:
        target = Path(movie_name(options.codec, str(target)))
    taken = [path for path in (target, _sidecar(target, options)) if path.exists()]
    if taken and not overwrite:
        raise OutputError(f"{taken[0]} is there already", "another name, or --overwrite")
    if target.is_dir():
        raise OutputError(f"{target} is a folder", "another name")
    if not target.parent.is_dir():
        raise OutputError(f"there is no folder {target.parent}", "make it, or choose another")
    return target


def _sidecar(target: Path, options: RunOptions) -> Path:
    return target.with_name(f"{target.name if options.codec == 'png' else target.stem}.json")


def _publish(staged: Path, target: Path, options: RunOptions) -> None:
    """Move the finished movie and its description to their places."""
    sidecar = _sidecar(target, options)
    try:
        (staged / target.name).replace(target)
        (staged / sidecar.name).replace(sidecar)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror}", "another name") from None


def _cropped(
    state: State, options: RunOptions, own: RunOptions, progress: Progress
) -> tuple[dict[str, Any], dict[str, dict[int, Any]]]:
    """Shared values and frames' values, on the crop that is asked for where it is another than the run's."""
    shared, values = dict(state.shared), {name: dict(found) for name, found in state.values.items()}
    if all(getattr(options, name) == getattr(own, name) for name in _CROP):
        return shared, values
    reference: Reference = shared["reference"]
    place: SkyPlace = shared["sky"]
    whole: ProductGrid = shared["canvas"].grid
    facts = replace(reference.facts, wcs_header=place.wcs_header)
    part = product_grid(facts, options, bool(state.frames[reference.frame].mosaic), whole)
    if note := cut_note(facts, options):
        progress.note(note)
    (x0, y0), (x1, y1) = whole.origin, part.origin
    inside = (
        x1 >= x0
        and y1 >= y0
        and x1 + part.step * part.shape[1] <= x0 + whole.step * whole.shape[1]
        and y1 + part.step * part.shape[0] <= y0 + whole.step * whole.shape[0]
    )
    if not inside:
        raise OptionError(
            f"the crop of {part.shape[1] * part.step}x{part.shape[0] * part.step} px at {x1:g},{y1:g} reaches "
            f"beyond the run's {whole.shape[1] * whole.step}x{whole.shape[0] * whole.step} px at {x0:g},{y0:g}",
            "run the night again with it",
        )
    shared["canvas"] = Canvas(part)
    scales = values["scale"]
    values["scale"] = {
        k: None if scale is None else window(np.asarray(scale), whole, part) for k, scale in scales.items()
    }
    return shared, values

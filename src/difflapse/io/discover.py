"""What is there: inputs to files, files to frames, frames to sequences."""

from __future__ import annotations

import dataclasses
import glob
import os
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from difflapse.errors import InputError, OptionError, ReadError
from difflapse.io.dialects import PATTERNS
from difflapse.io.fits import Scan, relative_file, scan
from difflapse.io.grouping import group
from difflapse.io.source import is_url
from difflapse.io.times import natural_key
from difflapse.model import Inventory, LeftOut

SUFFIXES = (".fits", ".fit", ".fts", ".fits.fz", ".fit.fz", ".fts.fz", ".fz")
PACKED = (".gz", ".bz2", ".xz")
RUN_FILE = "run.toml"
READERS = 8
"""Threads that read headers: most of their time is spent waiting for the disk or the network."""


def discover(inputs: Sequence[str | Path], *, mosaic: str = "auto", split: bool = False) -> Inventory:
    """Find the frames among the inputs and sort them into sequences; no pixels are read.

    Parameters
    ----------
    inputs : sequence of str or Path
        Files, folders (searched downwards), globs, ``@list.txt`` (one input per line) and URLs, in any
        mixture. Hidden folders, folders that hold a run of difflapse, and files that difflapse wrote are left
        out.
    mosaic : str
        ``auto`` for what the headers say, ``none`` for a monochrome camera, or the pattern in array order.
    split : bool
        Whether sequences that differ only in their sequence id (as after a meridian flip) stay apart.

    Returns
    -------
    Inventory
        Sequences of two frames or more, each in time order, the earliest sequence first; and every file that
        is in none, with the reason.

    Raises
    ------
    InputError
        Nothing usable: an input that does not exist, no FITS files, or no two frames that belong together.
    OptionError
        `mosaic` is not a pattern.

    Notes
    -----
    Headers take 1 to 3 ms per frame, 8 ms with a WCS.
    """
    if mosaic not in ("auto", "none", *PATTERNS):
        raise OptionError(f"mosaic is {mosaic!r}; it must be auto, none, {', '.join(PATTERNS)}")
    paths, root, unwanted = find_files(inputs)
    if not paths:
        shown = ", ".join(map(str, inputs)) or "nothing"
        raise InputError(
            f"no FITS files found in {shown}; 2 frames or more are needed",
            f"{unwanted[0].file} {unwanted[0].reason}, whose products are no input: name the folder of frames"
            if unwanted
            else "name a folder that holds .fits, .fit, .fts or .fits.fz files",
            {"found": 0, "needed": 2},
        )
    with warnings.catch_warnings(), ThreadPoolExecutor(READERS) as pool:
        warnings.simplefilter("ignore")
        found = list(pool.map(lambda path: _scan_or_reason(path, root), paths))
    left_out = list(unwanted)
    scans: list[Scan] = []
    for item in found:
        if isinstance(item, LeftOut):
            left_out.append(item)
        elif item.ours:
            left_out.append(
                LeftOut(item.facts.file, "a product of difflapse, not an observation", item.facts)
            )
        else:
            scans.append(_with_mosaic(item, mosaic))
    sequences, others = group(scans, split=split)
    left_out += others
    left_out.sort(key=lambda item: natural_key(item.file))
    if not sequences:
        raise _nothing_usable(left_out, len(found))
    return Inventory(root, sequences, tuple(left_out))


def find_files(inputs: Sequence[str | Path]) -> tuple[list[str], str, list[LeftOut]]:
    """Paths and URLs of all FITS-named files among the inputs, each once; their common root; what was passed
    over.

    Raises `InputError` for an input that does not exist.
    """
    paths: dict[str, None] = {}
    folders: list[str] = []
    unwanted: list[LeftOut] = []
    for entry in _expanded(inputs):
        if is_url(entry):
            paths[entry] = None
        elif os.path.isdir(entry):
            folder = os.path.abspath(entry)
            folders.append(folder)
            inside, runs = _search(folder)
            paths.update(dict.fromkeys(inside))
            unwanted += [
                LeftOut(relative_file(run, folder) + "/", "holds a run of difflapse") for run in runs
            ]
        else:
            # A file named outright is tried whatever it is called.
            paths[os.path.abspath(entry)] = None
    unique: dict[str, str] = {}
    for path in paths:
        unique.setdefault(path if is_url(path) else os.path.realpath(path), path)
    chosen = sorted(unique.values(), key=natural_key)
    return chosen, _common_root(chosen, folders), unwanted


def is_fits_name(name: str) -> bool:
    """Whether a file's name ends as FITS files' do, in any case: ``.fits``, ``.FIT``, ``.fts.gz``,
    ``.fits.fz``, ...
    """
    lower = name.lower()
    for ending in PACKED:
        lower = lower.removesuffix(ending)
    return lower.endswith(SUFFIXES) and not os.path.basename(name).startswith(".")


def _expanded(inputs: Iterable[str | Path], within: tuple[str, ...] = ()) -> list[str]:
    """Files, folders and URLs that the inputs stand for; `within` are the lists being read."""
    entries: list[str] = []
    for item in inputs:
        entry = os.path.expanduser(str(item)) if not is_url(str(item)) else str(item)
        if entry.startswith("@") and not os.path.exists(entry):
            entries += _listed(entry[1:], within)
        elif is_url(entry) or os.path.exists(entry):
            entries.append(entry)
        elif glob.has_magic(entry):
            matches = sorted(glob.glob(entry, recursive=True), key=natural_key)
            if not matches:
                raise InputError(f"no file matches {entry}", "check the pattern", {"found": 0, "needed": 2})
            # A pattern such as *.fits* catches markers too; a folder in it is searched.
            entries += [match for match in matches if os.path.isdir(match) or is_fits_name(match)]
        else:
            raise InputError(
                f"there is no file or folder {entry}", "check the path", {"found": 0, "needed": 2}
            )
    return entries


def _listed(path: str, within: tuple[str, ...]) -> list[str]:
    here = os.path.realpath(path)
    if here in within:
        raise InputError(
            f"the list {path} names itself, outright or through other lists", "take that line out"
        )
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InputError(f"the list {path} cannot be read: {reason}", "check the path") from error
    entries = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    base = os.path.dirname(os.path.abspath(path))
    # Relative names in a list are meant from where the list lies, or else from here.
    placed = [
        e if is_url(e) or not _exists(os.path.join(base, e)) else os.path.join(base, e) for e in entries
    ]
    return _expanded(placed, (*within, here))


def _exists(path: str) -> bool:
    return os.path.exists(path) or (glob.has_magic(path) and bool(glob.glob(path, recursive=True)))


def _search(folder: str) -> tuple[list[str], list[str]]:
    """FITS-named files below a folder, and the folders below it that hold runs."""
    files: list[str] = []
    runs: list[str] = []
    for here, below, names in os.walk(folder, followlinks=False):
        if _is_run(here, names):
            runs.append(here)
            below.clear()
            continue
        below[:] = sorted((name for name in below if not name.startswith(".")), key=natural_key)
        files += [os.path.join(here, name) for name in names if is_fits_name(name)]
    return files, runs


def _is_run(folder: str, names: list[str]) -> bool:
    if RUN_FILE not in names:
        return False
    try:
        head = Path(folder, RUN_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "difflapse" in head


def _common_root(paths: list[str], folders: list[str]) -> str:
    urls = [path for path in paths if is_url(path)]
    if urls:
        return _common_url(urls) if len(urls) == len(paths) else ""
    places = folders + [os.path.dirname(path) for path in paths if not any(_below(path, f) for f in folders)]
    if not places:
        return os.getcwd()
    try:
        return os.path.commonpath(places)
    except ValueError:
        # Different drives have nothing in common.
        return ""


def _common_url(urls: list[str]) -> str:
    common: list[str] = []
    for level in zip(*(url.split("?")[0].split("/")[:-1] for url in urls), strict=False):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    # The scheme and its two slashes alone name no place.
    return "/".join(common) if len(common) > 2 else ""


def _below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip(os.sep) + os.sep)


def _scan_or_reason(path: str, root: str) -> Scan | LeftOut:
    try:
        return scan(path, root)
    except ReadError as error:
        return LeftOut(relative_file(path, root), str(error))


def _with_mosaic(found: Scan, mosaic: str) -> Scan:
    if mosaic == "auto":
        return found
    pattern = "" if mosaic == "none" else mosaic
    reason = f"--mosaic {mosaic}, as asked" + (
        f" (the headers say: {found.mosaic_reason})" if found.facts.mosaic else ""
    )
    return dataclasses.replace(
        found, facts=dataclasses.replace(found.facts, mosaic=pattern), mosaic_reason=reason
    )


def _nothing_usable(left_out: list[LeftOut], n_files: int) -> InputError:
    counts: dict[str, int] = {}
    for item in left_out:
        counts[item.reason] = counts.get(item.reason, 0) + 1
    reasons = sorted(counts.items(), key=lambda pair: -pair[1])
    shown = "; ".join(f"{count} x {reason}" for reason, count in reasons[:4])
    first = ", ".join(item.file for item in left_out[:3]) + (" ..." if len(left_out) > 3 else "")
    return InputError(
        f"none of {n_files} file{'s' if n_files != 1 else ''} can be used ({shown}); "
        "2 frames of one camera, shape, filter and sky are needed",
        f"another folder, or more frames of the field; these were {first}",
        {"found": 0, "needed": 2, "files": n_files},
    )

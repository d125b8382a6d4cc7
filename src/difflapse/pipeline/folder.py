"""The output folder: refused when it is in use, filled only when all is done, and never left half-written."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from difflapse.errors import DISK_FULL, InputError, OutputError
from difflapse.io.products import write_toml
from difflapse.io.source import is_url
from difflapse.pipeline.written import read_json, read_products, read_record

STAGING = ".difflapse-part-"
_FIXED = (
    "timelapse.mp4",
    "timelapse.webm",
    "highlights.mp4",
    "timelapse.gif",
    "timelapse.mkv",
    "cube.fits",
    "state.npz",
    "timelapse.json",
    "trails.png",
    "template.png",
    "template.fits",
    "transforms.json",
    "residuals.fits",
    "frames.ecsv",
    "changes.ecsv",
    "detections.ecsv",
    "stars.ecsv",
    "lightcurves.fits",
    "completeness.ecsv",
    "model_error.fits",
    "run.json",
    "report.html",
    "index.html",
)
"""Products that always bear the same name."""


def default_out(inputs: Sequence[str]) -> Path:
    """The input's name + ``-difflapse``, in the current folder."""
    first = str(inputs[0]).split("?")[0].rstrip("/\\")
    path = Path(first.lstrip("@"))
    if any(sign in path.name for sign in "*?[") or (len(inputs) > 1 and path.suffix):
        path = path.parent
    name = path.resolve().name if path.name in ("", ".", "..") else path.name
    for ending in (".gz", ".fz", ".fits", ".fit", ".fts", ".txt"):
        name = name.removesuffix(ending).removesuffix(ending.upper())
    return Path(f"{name or 'night'}-difflapse")


def root_from(root: str, out: Path) -> str:
    """The inputs' common root as seen from the folder of a run, so that both may move together."""
    if not root or is_url(root):
        return root
    try:
        return Path(os.path.relpath(root, out.resolve())).as_posix()
    except ValueError:  # another drive
        return Path(root).as_posix()


def check_free(out: Path, overwrite: bool) -> None:
    """Refuse a folder that holds something, unless it is a run's and may be replaced; nothing is changed.

    Raises
    ------
    OutputError
        It is a file, it is not empty, or it is not the folder of a run.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise OutputError(f"{out} is a file; a folder is needed for the products", "give another with -o OUT")
    if not any(not item.name.startswith(STAGING) for item in out.iterdir()):
        return
    if not overwrite:
        raise OutputError(
            f"{out} is not empty", "give another folder with -o OUT, or --overwrite to replace the run in it"
        )
    if not (out / "run.toml").exists():
        raise OutputError(
            f"{out} is not empty and holds no run of difflapse, so --overwrite would not know what to remove",
            "give another folder with -o OUT",
        )
    try:
        listed = {*read_products(out), "run.toml"}
    except InputError as error:
        raise OutputError(error.message, "give another folder with -o OUT") from None
    strange = [name for name in _FIXED if name not in listed and (out / name).exists()]
    if strange:
        raise OutputError(
            f"{out / strange[0]} is in the way: it is no product of the run in that folder",
            "move it, or give another folder with -o OUT",
        )


@contextlib.contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A hidden folder inside `out` for a run's work; removed in any case, and `out` if it was made for it."""
    made = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        for stale in out.glob(f"{STAGING}*"):
            if not _alive(stale.name.removeprefix(STAGING).split("-")[0]):
                shutil.rmtree(stale, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{STAGING}{os.getpid()}-", dir=out))
    except OSError as error:
        raise OutputError(
            f"cannot write to {out}: {error.strerror}", "give another folder with -o OUT"
        ) from None
    try:
        yield folder
    except OSError as error:
        if error.errno in DISK_FULL:
            raise OutputError(
                f"the disk of {out} is full", "free some space, or -o OUT on another disk"
            ) from None
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if made:
            with contextlib.suppress(OSError):
                out.rmdir()


def publish(staged: Path, out: Path, products: Sequence[str], overwrite: bool) -> None:
    """Move finished products to their place, after removing those of the run that they replace."""
    try:
        old = read_products(out) if overwrite and (out / "run.toml").exists() else []
        foreign = [name for name in products if name not in (*old, "run.toml") and (out / name).exists()]
        if foreign:
            raise OutputError(
                f"{out / foreign[0]} is in the way: it is no product of the run in that folder",
                "move it, or give another folder with -o OUT",
            )
        _remove(out, old)
        # run.toml last: a folder that has the new one is complete, and the old one serves --overwrite until then.
        for name in sorted(products, key=lambda n: n == "run.toml"):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staged / name, out / name)
    except OSError as error:
        raise OutputError(
            f"cannot write to {out}: {error.strerror}", "give another folder with -o OUT"
        ) from None


def add_products(folder: Path, names: Sequence[str]) -> None:
    """List more products in the `run.toml` of a finished sequence, and in that of the run it is a part of.

    So that a later ``--overwrite`` removes them with the rest.
    """
    places = [(folder, "")]
    above = folder.resolve().parent
    if (above / "run.json").exists() and folder.resolve().name in read_json(above / "run.json")["sequences"]:
        places.append((above, f"{folder.resolve().name}/"))
    for place, prefix in places:
        record = read_record(place)
        listed = record.setdefault("provenance", {}).setdefault("products", [])
        record["provenance"]["products"] = sorted({*listed, *(prefix + name for name in names)})
        write_toml(place / "run.toml", record)


def _remove(out: Path, products: Sequence[str]) -> None:
    """Remove products, and the folders below `out` that held nothing else; never anything outside of `out`."""
    root = out.resolve()
    folders: set[Path] = set()
    for name in products:
        target = (root / name).resolve()
        if root in target.parents and not target.is_dir():
            target.unlink(missing_ok=True)
            folders.update(p for p in target.parents if root in p.parents)
    for folder in sorted(folders, key=lambda p: -len(p.parts)):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _alive(pid: str) -> bool:
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True

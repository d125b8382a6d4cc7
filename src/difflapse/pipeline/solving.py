"""Asking a plate solver of this machine where a list of stars lies. Nothing leaves the machine, not even an image."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from astropy.io import fits

from difflapse.errors import MissingDependencyError, OptionError, SolveError
from difflapse.io.celestial import read_sky
from difflapse.io.solver import list_index_files, read_solution, write_xylist
from difflapse.model import FrameFacts, Stars
from difflapse.pipeline import solve_child
from difflapse.pipeline.config import RunOptions

MOST_STARS = 1000
"""Stars that a solver gets, the brightest: its index holds no fainter ones."""
FEWEST_STARS = 8
_RADIUS_DEG = 15.0
"""How far from where the header points the field is looked for: mounts err, and RA may be the subject's."""
_SCALE_ERROR = 2.5
"""Factor by which focal length and pixel size, or the binning that goes with them, may be wrong."""
_IN_MEMORY = 2_000_000_000
"""Bytes of index files that are searched side by side; more are searched in turn."""


@dataclass(frozen=True, eq=False)
class Solution:
    """What a solver found for one frame."""

    solver: str
    wcs_header: str
    """As `FrameFacts.wcs_header`; the solver's own, good to some pixels."""
    ra_deg: np.ndarray
    dec_deg: np.ndarray
    """The index's stars in the field."""
    index: str
    """Name of the index file that it was found in; empty if unknown."""


def check_solver(options: RunOptions) -> str:
    """The solver that a run will use; empty where it is not to solve. Called before anything is read.

    Raises
    ------
    MissingDependencyError
        It is not installed.
    OptionError
        The index files that it needs are not given, or are none; or they are given, and solving is not asked for.
    """
    if not options.solve:
        if options.index_files or options.solver != "auto" or options.solve_limit != RunOptions.solve_limit:
            raise OptionError(
                "solver, index_files and solve_limit are for solving, which is not asked for", "add --solve"
            )
        return ""
    if options.index_files:
        list_index_files(options.index_files)
    has = {
        "solve-field": shutil.which("solve-field") is not None,
        "astrometry": find_spec("astrometry") is not None,
    }
    wanted = options.solver
    if wanted == "auto":
        # solve-field knows by its own configuration where its index files are; the package must be told.
        wanted = "solve-field" if has["solve-field"] else "astrometry"
        if not any(has.values()):
            raise MissingDependencyError(
                "solve needs a plate solver; neither solve-field nor the package astrometry is installed",
                "apt-get install astrometry.net (or brew install astrometry-net), or pip install 'difflapse[solve]'",
                {"module": "astrometry"},
            )
    if not has[wanted]:
        install = {
            "solve-field": "apt-get install astrometry.net, or brew install astrometry-net",
            "astrometry": "pip install 'difflapse[solve]' (Linux and macOS)",
        }[wanted]
        raise MissingDependencyError(f"the solver {wanted} is not installed", install, {"module": wanted})
    if wanted == "astrometry" and not options.index_files:
        raise OptionError(
            "the solver astrometry needs index files",
            "--index-files FOLDER, with files from data.astrometry.net",
        )
    return wanted


def solve_stars(
    stars: Stars, facts: FrameFacts, options: RunOptions, scratch: Path, hints: bool, seconds: float
) -> Solution:
    """Find where a frame's stars lie on the sky; not to the last tenth of a pixel: see `align.sky`.

    Parameters
    ----------
    stars : Stars
        Of the frame, native pixels, brightest first.
    facts : FrameFacts
        Shape, and what the header says of direction and scale.
    options : RunOptions
        `solver`, `index_files`.
    scratch : Path
        An existing folder for the solver's files.
    hints : bool
        Whether to believe the header roughly: within 15 degrees, and within a factor 2.5 of the scale.
    seconds : float
        When to give up.

    Returns
    -------
    Solution

    Raises
    ------
    SolveError
        Too few stars, not solved, out of time, or the solver failed; `facts` has `found` and `needed`.
    """
    if len(stars) < FEWEST_STARS:
        raise SolveError(
            f"{len(stars)} stars; a plate solver needs {FEWEST_STARS}",
            "",
            {"found": len(stars), "needed": FEWEST_STARS},
        )
    solver = check_solver(options)
    stars = stars.take(np.argsort(-stars.flux, kind="stable")[:MOST_STARS])
    position, scale = hints_of(facts) if hints else (None, None)
    index_files = list_index_files(options.index_files) if options.index_files else ()
    ask = _ask_solve_field if solver == "solve-field" else _ask_package
    return ask(stars, facts.shape, index_files, scratch, position, scale, seconds)


def hints_of(facts: FrameFacts) -> tuple[tuple[float, float, float] | None, tuple[float, float] | None]:
    """What the header says roughly: (RA, Dec, radius) in degrees, and the least and largest arcsec per pixel."""
    centre, scale = facts.pointing, facts.pixel_arcsec
    if facts.wcs_header:
        sky = read_sky([fits.Header.fromstring(facts.wcs_header)], facts.shape)
        centre, scale = sky.centre, sky.width_deg * 3600.0 / min(facts.shape)
    position = None if centre is None else (centre[0] % 360.0, centre[1], _RADIUS_DEG)
    return position, None if not scale else (scale / _SCALE_ERROR, scale * _SCALE_ERROR)


def _ask_solve_field(
    stars: Stars,
    shape: tuple[int, int],
    index_files: Sequence[Path],
    scratch: Path,
    position: tuple[float, float, float] | None,
    scale: tuple[float, float] | None,
    seconds: float,
) -> Solution:
    write_xylist(scratch / "field.xyls", stars)
    command = [
        "solve-field", str(scratch / "field.xyls"), "--out", "solved",
        "--dir", str(scratch), "--temp-dir", str(scratch),
        "--overwrite", "--no-plots", "--new-fits", "none", "--match", "none", "--corr", "none", "--index-xyls", "none",
        "--width", str(shape[1]), "--height", str(shape[0]), "--x-column", "X", "--y-column", "Y",
        "--sort-column", "FLUX", "--no-remove-lines", "--uniformize", "0", "--crpix-center",
        "--cpulimit", str(max(1, round(seconds))),
    ]  # fmt: skip
    if index_files:
        config = [f"cpulimit {max(1, round(seconds))}"]
        if sum(path.stat().st_size for path in index_files) < _IN_MEMORY:
            config.append("inparallel")
        config += [f"add_path {folder}" for folder in dict.fromkeys(path.parent for path in index_files)]
        config += [f"index {path.name}" for path in index_files]
        (scratch / "solver.cfg").write_text("\n".join(config) + "\n", encoding="utf-8")
        command += ["--config", str(scratch / "solver.cfg")]
    if position is not None:
        ra, dec, radius = position
        command += ["--ra", f"{ra:.6f}", "--dec", f"{dec:.6f}", "--radius", f"{radius:g}"]
    if scale is not None:
        command += [
            "--scale-units",
            "arcsecperpix",
            "--scale-low",
            f"{scale[0]:.6g}",
            "--scale-high",
            f"{scale[1]:.6g}",
        ]
    for name in ("solved.wcs", "solved.rdls", "solved.solved"):
        (scratch / name).unlink(missing_ok=True)
    said = _run(command, scratch, seconds)
    if not (scratch / "solved.wcs").exists():
        raise _unsolved(stars, "solve-field", said)
    found = re.search(r"solved with index (\S.*?)\.?\s*$", said, re.MULTILINE)
    return Solution(
        "solve-field",
        *read_solution(scratch / "solved.wcs", scratch / "solved.rdls", shape),
        Path(found.group(1)).name if found else "",
    )


def _ask_package(
    stars: Stars,
    shape: tuple[int, int],
    index_files: Sequence[Path],
    scratch: Path,
    position: tuple[float, float, float] | None,
    scale: tuple[float, float] | None,
    seconds: float,
) -> Solution:
    answer = scratch / "answer.json"
    answer.unlink(missing_ok=True)
    job = {
        "stars": (stars.xy + 1.0).tolist(),
        "index_files": [str(path) for path in index_files],
        "position": position,
        "arcsec_pix": scale,
        "answer": str(answer),
    }
    (scratch / "job.json").write_text(json.dumps(job), encoding="utf-8")
    said = _run(
        [sys.executable, "-P", str(solve_child.__file__), str(scratch / "job.json")], scratch, seconds
    )
    if not answer.exists():
        raise _unsolved(stars, "astrometry", said)
    record = json.loads(answer.read_text(encoding="utf-8"))
    return Solution(
        "astrometry", *read_solution(record["wcs"], np.array(record["stars"], float), shape), record["index"]
    )


def _run(command: Sequence[str], scratch: Path, seconds: float) -> str:
    """Run a solver to its end or ours, whichever comes first; returns what it printed.

    Raises
    ------
    SolveError
        It took too long, could not be started, or failed.
    """
    log = scratch / "solver.log"
    posix = os.name == "posix"
    started = time.monotonic()
    with log.open("wb") as out:
        try:
            # In a group of its own: it has children, and Ctrl-C is ours to pass on.
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=posix,
            )
        except OSError as error:
            raise SolveError(
                f"{Path(command[0]).name} could not be started: {error.strerror or error}"
            ) from None
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired:
            spent = time.monotonic() - started
            raise SolveError(
                f"not solved within {spent:.0f} s",
                "--solve-limit gives more time",
                {"found": round(spent), "needed": round(seconds)},
            ) from None
        finally:
            _end(child, posix)
    said = log.read_text(encoding="utf-8", errors="replace")
    if code != 0:
        last = [line.strip() for line in said.splitlines() if line.strip()][-1:]
        raise SolveError(
            f"the solver failed with exit code {code}" + (f": {last[0][:160]}" if last else ""),
            "",
            {"found": code, "needed": 0},
        )
    return said


def _end(child: subprocess.Popen[bytes], posix: bool) -> None:
    """End a solver and what it started, kindly at first; nothing to do where it has ended."""
    if child.poll() is not None:
        return
    with contextlib.suppress(OSError):
        if posix:
            os.killpg(child.pid, signal.SIGTERM)
        else:
            child.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(2.0)
    if posix:
        # Its children too, even where it went before them.
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _unsolved(stars: Stars, solver: str, said: str) -> SolveError:
    given_up = "; it ran into its time limit" if "limit" in said.lower() and "reached" in said.lower() else ""
    return SolveError(
        f"{solver} found no place on the sky for the {len(stars)} brightest stars{given_up}",
        "index files must cover the field's place and size",
        {"found": 0, "needed": 1, "stars": len(stars)},
    )

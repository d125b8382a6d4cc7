"""Asking a solver: what is missing is said at once, what fails or hangs is ended and told."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from difflapse.errors import MissingDependencyError, OptionError, SolveError
from difflapse.model import FrameFacts, Stars
from difflapse.pipeline import solving
from difflapse.pipeline.config import RunOptions
from difflapse.pipeline.solving import check_solver, hints_of, solve_stars

pytestmark = pytest.mark.skipif(os.name != "posix", reason="stands a script in for solve-field")

FACTS = FrameFacts("", "f.fits", 0, (200, 300), pointing=(243.5, 33.0), pixel_arcsec=10.0)
SOLVES = """
from astropy.io import fits
import numpy as np
header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 243.0, "CRVAL2": 33.0, "CRPIX1": 150.5,
    "CRPIX2": 100.5, "CD1_1": -0.003, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.003})
fits.PrimaryHDU(header=header).writeto(out + "/solved.wcs")
fits.BinTableHDU.from_columns([fits.Column(n, "D", array=np.array([1.0, 2.0])) for n in ("RA", "DEC")]).writeto(
    out + "/solved.rdls")
print("Field 1: solved with index index-4107.fits.")
"""


def stars(n: int = 40) -> Stars:
    rng = np.random.default_rng(n)
    one = np.ones(n)
    return Stars(
        rng.uniform(0, 299, n), rng.uniform(0, 199, n), rng.uniform(1, 9, n), one, one, one[None], one < 0
    )


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a `solve-field` on the path that does what a piece of Python says; returns where it writes its call."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(solving, "find_spec", lambda name: None)

    def make(body: str) -> Path:
        script = folder / "solve-field"
        script.write_text(
            f"#!{sys.executable}\nimport json, pathlib, sys, time\nout = sys.argv[sys.argv.index('--dir') + 1]\n"
            f"pathlib.Path({str(tmp_path / 'call.json')!r}).write_text(json.dumps(sys.argv))\n{body}\n"
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        return tmp_path / "call.json"

    return make


def ask(
    tmp_path: Path, hints: bool = False, seconds: float = 30.0, n: int = 40, **options: object
) -> solving.Solution:
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    return solve_stars(stars(n), FACTS, RunOptions(solve=True, **options), scratch, hints, seconds)


def test_without_any_solver_the_run_says_what_to_install(fake) -> None:
    with pytest.raises(MissingDependencyError, match="neither solve-field nor the package") as caught:
        check_solver(RunOptions(solve=True))
    assert "difflapse[solve]" in caught.value.hint and caught.value.exit_code == 4
    for solver in ("solve-field", "astrometry"):
        with pytest.raises(MissingDependencyError, match=f"the solver {solver} is not installed"):
            check_solver(RunOptions(solve=True, solver=solver))
    assert check_solver(RunOptions()) == ""


def test_the_package_needs_index_files(fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solving, "find_spec", lambda name: object())
    with pytest.raises(OptionError, match="needs index files"):
        check_solver(RunOptions(solve=True))
    fake("")
    assert check_solver(RunOptions(solve=True)) == "solve-field"


def test_options_of_solving_without_solving_are_refused(tmp_path: Path) -> None:
    for given in ({"index_files": (str(tmp_path),)}, {"solver": "astrometry"}, {"solve_limit": 30.0}):
        with pytest.raises(OptionError, match="not asked for"):
            check_solver(RunOptions(**given))
    with pytest.raises(OptionError, match="solve_limit is 0"):
        RunOptions(solve=True, solve_limit=0)
    with pytest.raises(OptionError, match="is not there"):
        check_solver(RunOptions(solve=True, index_files=(str(tmp_path / "none"),)))


def test_a_solution_comes_back_with_its_index(fake, tmp_path: Path) -> None:
    call = fake(SOLVES)
    found = ask(tmp_path)
    assert (found.solver, found.index) == ("solve-field", "index-4107.fits")
    np.testing.assert_array_equal(found.ra_deg, [1.0, 2.0])
    assert "RA---TAN" in found.wcs_header
    said = call.read_text()
    assert '"300"' in said and '"200"' in said
    assert "--ra" not in said and "--scale-low" not in said


def test_hints_come_from_the_header(fake, tmp_path: Path) -> None:
    import json

    call = fake(SOLVES)
    ask(tmp_path, hints=True)
    said = json.loads(call.read_text())
    given = {
        name: float(said[said.index(name) + 1]) for name in ("--ra", "--dec", "--scale-low", "--scale-high")
    }
    assert given == {"--ra": 243.5, "--dec": 33.0, "--scale-low": 4.0, "--scale-high": 25.0}
    assert hints_of(FrameFacts("", "f", 0, (2, 3))) == (None, None)


def test_index_files_are_named_to_the_solver(fake, tmp_path: Path) -> None:
    fake(SOLVES)
    path = tmp_path / "index-1.fits"
    fits.PrimaryHDU(header=fits.Header({"NQUADS": 3, "INDEXID": 4107})).writeto(path)
    ask(tmp_path, index_files=(str(path),))
    config = (tmp_path / "scratch" / "solver.cfg").read_text().splitlines()
    assert f"add_path {tmp_path.resolve()}" in config and "index index-1.fits" in config


def test_a_field_that_is_not_solved_is_told_with_numbers(fake, tmp_path: Path) -> None:
    fake("print('Did not solve')")
    with pytest.raises(SolveError, match="found no place on the sky for the 40 brightest stars") as caught:
        ask(tmp_path)
    assert caught.value.facts["found"] == 0
    with pytest.raises(SolveError, match="7 stars; a plate solver needs 8"):
        ask(tmp_path, n=7)


def test_an_earlier_answer_is_not_taken_for_a_new_one(fake, tmp_path: Path) -> None:
    fake(SOLVES)
    ask(tmp_path)
    fake("print('Did not solve')")
    with pytest.raises(SolveError, match="no place"):
        ask(tmp_path)


def test_a_solver_that_fails_is_told_with_its_last_words(fake, tmp_path: Path) -> None:
    fake("print('no index files'); sys.exit(3)")
    with pytest.raises(SolveError, match="exit code 3: no index files"):
        ask(tmp_path)
    (tmp_path / "bin" / "solve-field").write_text("#!/no/such/interpreter\n")
    with pytest.raises(SolveError, match="could not be started"):
        ask(tmp_path)


def test_a_solver_that_hangs_is_ended_with_its_children(fake, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    fake(
        "import subprocess, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
        f"pathlib.Path({str(pid)!r}).write_text(str(child.pid))\ntime.sleep(300)"
    )
    started = time.monotonic()
    with pytest.raises(SolveError, match=r"not solved within \d+ s") as caught:
        ask(tmp_path, seconds=3.0)
    assert "--solve-limit" in caught.value.hint
    assert time.monotonic() - started < 30
    assert _gone(int(pid.read_text()))


def test_an_interrupt_ends_the_solver(fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    pid = tmp_path / "pid"
    fake(f"import os\npathlib.Path({str(pid)!r}).write_text(str(os.getpid()))\ntime.sleep(300)")
    wait = subprocess.Popen.wait

    def interrupted(self: subprocess.Popen, timeout: float | None = None) -> int:
        if timeout == 30.0:
            while not (pid.exists() and pid.read_text()):
                time.sleep(0.01)
            raise KeyboardInterrupt
        return wait(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask(tmp_path)
    assert _gone(int(pid.read_text()))


def _gone(pid: int) -> bool:
    """Whether a process has ended within some seconds; one that nobody waited for yet counts as ended."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        status = Path(f"/proc/{pid}/status")
        if status.exists() and "State:\tZ" in status.read_text():
            return True
        time.sleep(0.1)
    return False

"""The program: its list of commands, and what its exit codes mean.

Exit codes: 0 done; 1 our fault; 2 wrong option; 3 no usable input; 4 a missing optional dependency; 5 too
many frames failed, or aligned less well than required; 6 cannot write; 7 verify differs; 130 interrupted;
141 the reader of our output left.
"""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Sequence

import click

from difflapse._version import __version__
from difflapse.cli.failures import report
from difflapse.cli.interrupt import REQUEST
from difflapse.cli.lazy import LazyGroup

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("difflapse.cli.run:run", "The main job: a night of frames to movies and tables."),
    "demo": ("difflapse.cli.demo:demo", "Simulate a small night, run it, say where the movie is."),
    "simulate": ("difflapse.cli.simulate:simulate", "Write a night whose truth is known."),
    "info": (
        "difflapse.cli.info:info",
        "What is there: sequences, times, mosaic, WCS, and what was decided.",
    ),
    "certificate": (
        "difflapse.cli.certificate:certificate",
        "How well a finished run is aligned: numbers and figures.",
    ),
    "movie": ("difflapse.cli.movie:movie", "Another movie of a finished run; nothing is found again."),
    "verify": ("difflapse.cli.verify:verify", "Make chosen frames again and compare them with the products."),
    "report": ("difflapse.cli.report:report", "The page of a finished run, made again or in one file."),
    "lightcurve": (
        "difflapse.cli.lightcurve:lightcurve",
        "One star's light curve from a finished run, printed and plotted.",
    ),
    "methods": ("difflapse.cli.methods:methods", "Every named method, one line each."),
}
"""Name of each command: where it lives, and its one line in ``difflapse --help``."""

HELP = """Point it at a night of astronomical frames and watch what changed.

\b
  difflapse demo                    see it work on a simulated night
  difflapse run NIGHT/ -o OUT       movie, differential movie, tables
  difflapse COMMAND --help          all options of a command
"""

program = LazyGroup(
    name="difflapse",
    table=COMMANDS,
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
program = click.version_option(__version__, message="difflapse %(version)s")(program)


def main(args: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every failure becomes one line on stderr.

    Changes nothing of the process itself (see `prepare_process` for that), so it may be called from a test.
    """
    words = list(sys.argv[1:] if args is None else args)
    try:
        _complete()
        code = _invoke(words or ["--help"])
        sys.stdout.flush()
        return code
    except BaseException as error:
        return report(KeyboardInterrupt() if REQUEST.made else error)


def _invoke(words: list[str]) -> int:
    """Parse and call; click's own way of leaving (``--help``) is a normal end."""
    try:
        with program.make_context("difflapse", words) as context:
            program.invoke(context)
    except click.exceptions.Exit as leave:
        return leave.exit_code
    return 0


def _complete() -> None:
    """Answer a shell that asks for completions."""
    instruction = os.environ.get("_DIFFLAPSE_COMPLETE")
    if instruction:
        from click.shell_completion import shell_complete

        raise SystemExit(shell_complete(program, {}, "difflapse", "_DIFFLAPSE_COMPLETE", instruction))


def prepare_process() -> None:
    """Make this process a program: no libraries' warnings for a person, a request to end is an interrupt."""
    # Matrices here are small: a library's own threads would only wait for each other, beside our workers.
    for library in ("OPENBLAS", "MKL", "OMP"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    if not sys.warnoptions:
        warnings.filterwarnings("ignore")
        warnings.filterwarnings("default", category=UserWarning, module=r"difflapse\.")
        warnings.showwarning = _show_warning
        os.environ.setdefault("PYTHONWARNINGS", "ignore")  # for worker processes
    # Nearly all that is made while a program starts stays: it need not be looked through every few hundred objects.
    gc.set_threshold(50_000, 20, 20)
    REQUEST.listen()


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    """One line, no source code."""
    click.echo(f"difflapse: note: {message}", err=True)

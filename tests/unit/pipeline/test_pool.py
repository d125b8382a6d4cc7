"""Workers: the same results as here, in the order asked for, with failures as results and memory bounded."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from difflapse.errors import AlignError, DifflapseError, FrameError, OptionError, OutputError
from difflapse.pipeline.pool import Pool, cores, guarded

sys.path.insert(0, str(Path(__file__).parent))
import chores


@pytest.fixture(scope="module")
def two() -> Iterator[Pool]:
    with Pool(2) as pool:
        yield pool


@pytest.fixture(params=[1, 2])
def pool(request: pytest.FixtureRequest, two: Pool) -> Pool:
    return two if request.param == 2 else Pool(1)


def jobs(n: int) -> list[tuple[int]]:
    return [(k,) for k in range(n)]


def test_results_carry_the_number_of_their_job(pool: Pool) -> None:
    assert dict(pool.run(chores.square, jobs(20))) == {k: k * k for k in range(20)}


def test_results_come_in_order_where_asked(pool: Pool) -> None:
    assert [n for n, _ in pool.run(chores.slow_first, jobs(9), ordered=True)] == list(range(9))


def test_a_slow_frame_holds_up_no_other(two: Pool) -> None:
    order = [n for n, _ in two.run(chores.slow_first, jobs(6))]
    assert sorted(order) == list(range(6))
    assert order[0] != 0


def test_nothing_to_do_is_nothing_done(pool: Pool) -> None:
    assert list(pool.run(chores.square, [])) == []


def test_failures_of_frames_are_results(pool: Pool) -> None:
    results = dict(pool.run(chores.fail, jobs(6)))
    assert (results[0], results[5]) == (0, 5)
    assert isinstance(results[1], AlignError)
    assert results[1].facts == {"found": 4, "needed": 6}
    assert all(isinstance(results[k], FrameError) for k in (1, 2, 3, 4))
    assert "ZeroDivisionError" in results[2].message
    assert "chores.py" in results[2].message
    assert "No such file" in results[3].message
    assert "memory" in results[4].message


def test_what_is_no_frames_fault_ends_the_run(pool: Pool) -> None:
    with pytest.raises(OptionError):
        list(pool.run(chores.refuse, jobs(3)))


def test_a_full_disk_ends_the_run(pool: Pool) -> None:
    with pytest.raises(OutputError, match="full"):
        list(pool.run(chores.full, jobs(3)))


def test_a_task_started_beside_others_is_waited_for_when_its_result_is_asked(pool: Pool) -> None:
    late = pool.start(chores.slow_first, 0)
    failed = pool.start(chores.fail, 1)
    assert dict(pool.run(chores.square, jobs(5))) == {k: k * k for k in range(5)}
    assert late() == 0
    assert isinstance(failed(), AlignError)


@pytest.mark.parametrize("ordered", [True, False])
def test_no_more_frames_are_in_flight_than_allowed(two: Pool, ordered: bool) -> None:
    """Jobs are asked for one by one: a night is never queued whole."""
    handed = 0

    def source() -> Iterator[tuple[int]]:
        nonlocal handed
        for k in range(40):
            handed += 1
            yield (k,)

    most = 0
    for done, _ in enumerate(two.run(chores.square, source(), ordered)):
        most = max(most, handed - done)
    assert handed == 40
    assert 2 <= most <= two.in_flight + 1


def test_one_worker_is_this_process_and_two_are_not(two: Pool) -> None:
    assert {pid for _, pid in Pool(1).run(chores.who, jobs(3))} == {os.getpid()}
    assert os.getpid() not in {pid for _, pid in two.run(chores.who, jobs(8))}


def test_a_worker_that_is_killed_is_told_with_a_hint() -> None:
    with Pool(2) as pool, pytest.raises(DifflapseError, match="ended from outside") as caught:
        list(pool.run(chores.die, jobs(2)))
    assert "--workers" in caught.value.hint


def test_guarded_lets_interrupts_through() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded(interrupted)


def test_an_interrupt_that_compiled_code_took_for_its_own_error_is_no_bad_frame() -> None:
    def compiled() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise SystemError("returned a result with an exception set") from error

    with pytest.raises(KeyboardInterrupt):
        guarded(compiled)


def test_there_is_at_least_one_core() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)


def counting(taken: list[object], steps: int, fault: Exception | None = None) -> Generator[None]:
    """Steps that note themselves, the last of which may fail; and its end."""
    try:
        for n in range(steps):
            if fault is not None and n == steps - 1:
                raise fault
            taken.append(n)
            yield
    finally:
        taken.append("end")


def test_what_is_done_beside_goes_on_while_workers_work(two: Pool) -> None:
    taken: list[object] = []
    two.do_beside(counting(taken, 3))
    assert taken == []
    assert dict(two.run(chores.slow_first, jobs(4))) == {k: k for k in range(4)}
    assert taken == [0, 1, 2, "end"]  # a task of 0.3 s leaves time for all
    two.finish()
    assert taken == [0, 1, 2, "end"]


def test_what_is_left_of_it_is_done_at_the_end(pool: Pool) -> None:
    taken: list[object] = []
    pool.do_beside(counting(taken, 5))
    pool.finish()
    assert taken == [0, 1, 2, 3, 4, "end"]


def test_its_failure_is_nobody_elses(two: Pool) -> None:
    taken: list[object] = []
    two.do_beside(counting(taken, 2, OutputError("the disk is full")))
    assert dict(two.run(chores.slow_first, jobs(2))) == {0: 0, 1: 1}
    with pytest.raises(OutputError, match="disk is full"):
        two.finish()
    two.finish()  # told once
    assert taken == [0, "end"]


def test_it_cleans_up_where_it_is_dropped(two: Pool) -> None:
    taken: list[object] = []
    steps = counting(taken, 5)
    next(steps)
    two.do_beside(steps)
    two.drop()
    two.finish()
    assert taken == [0, "end"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only that C library is told")
def test_workers_keep_the_memory_of_arrays(two: Pool) -> None:
    """Of 160 MB, twice: the second time hardly any is new; pages are of 4 kB or of 2 MB."""
    assert all(pages < 40 for _, pages in two.run(chores.new_pages, [()] * 4))


def test_libraries_of_workers_have_no_threads_of_their_own(two: Pool) -> None:
    name = "OPENBLAS_NUM_THREADS"
    assert dict(two.run(chores.environment, [(name,)])) == {0: os.environ.get(name, "1")}


_KILLED = """
import os, signal, sys
import chores
from difflapse.pipeline.pool import Pool

pool = Pool(2)
print(*{pid for _, pid in pool.run(chores.who, [(k,) for k in range(40)])}, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("threads", ["1", "2"])
def test_workers_go_with_a_process_that_is_killed(threads: str, tmp_path: Path) -> None:
    """They would wait for work for ever, and keep a gigabyte each."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    quiet = {f"{library}_NUM_THREADS": threads for library in ("OPENBLAS", "MKL", "OMP")}
    with (tmp_path / "told").open("w") as file:  # a pipe would end with the last worker
        told = subprocess.run(
            [sys.executable, "-c", _KILLED], env={**os.environ, **quiet, "PYTHONPATH": path},
            stdout=file, timeout=300, check=False,
        )  # fmt: skip
    workers = [int(pid) for pid in (tmp_path / "told").read_text().split()]
    assert workers and told.returncode == -9
    for _ in range(200):
        left = [pid for pid in workers if _lives(pid)]
        if not left:
            break
        time.sleep(0.1)
    assert left == []


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # One that ended may wait for somebody to ask how.
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


_PARENTS = """
import os, sys, threading
import chores
from difflapse.pipeline.pool import Pool, can_fork

if sys.argv[1] == "threads":
    threading.Thread(target=threading.Event().wait, daemon=True).start()
alone = can_fork()
with Pool(2) as pool:
    assert dict(pool.run(chores.square, [(k,) for k in range(9)])) == {k: k * k for k in range(9)}
    parents = {parent for _, parent in pool.run(os.getppid, [()] * 6)}
print(alone, parents == {os.getpid()})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="workers are copies of the process on Linux alone")
@pytest.mark.parametrize("others", ["none", "threads"])
def test_workers_are_copies_of_a_process_without_other_threads(others: str) -> None:
    """With threads a copy could inherit what one of them holds: a server of its own is forked then."""
    here = str(Path(__file__).parent)
    quiet = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "MKL", "OMP")}
    path = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    told = subprocess.run(
        [sys.executable, "-c", _PARENTS, others],
        env={**os.environ, **quiet, "PYTHONPATH": path},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    alone = others == "none"
    assert told.stdout.split() == [str(alone), str(alone)], told.stderr

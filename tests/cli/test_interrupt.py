"""A request to end is never lost, and never raised where it would crash the compiler."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from types import FunctionType

import pytest

from difflapse.cli.interrupt import Request

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


@pytest.fixture
def request_made() -> Iterator[Request]:
    """A request that listens, and afterwards the handlers that were there before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    asked = Request()
    asked.listen()
    yield asked
    for number, handler in before.items():
        signal.signal(number, handler)


def press(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


def living_in(module: str, call: Callable[[], None]) -> Callable[[], None]:
    """A function of another module that calls `call`."""

    def caller() -> None:
        call()

    return FunctionType(
        caller.__code__, {"__name__": module, "call": call}, "caller", None, caller.__closure__
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_is_raised_where_the_program_is_and_remembered(request_made: Request, number: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        press(number)
    with pytest.raises(KeyboardInterrupt):
        request_made.obey()


@pytest.mark.parametrize("module", ["llvmlite.binding.executionengine", "numba.core.dispatcher"])
def test_inside_the_compiler_it_waits_for_the_next_progress(request_made: Request, module: str) -> None:
    living_in(module, press)()
    with pytest.raises(KeyboardInterrupt):
        request_made.obey()


def test_a_module_that_only_sounds_like_the_compiler_does_not_hold_it_up(request_made: Request) -> None:
    with pytest.raises(KeyboardInterrupt):
        living_in("numbat.tools", press)()


def test_nothing_is_raised_without_a_request(request_made: Request) -> None:
    request_made.obey()

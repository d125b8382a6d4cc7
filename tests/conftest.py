"""What every test may ask for: a small simulated night, real frames, and a word about what is skipped."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

REAL_DATA = "DIFFLAPSE_REAL_DATA"


def _why_no_real_data() -> str:
    folder = os.environ.get(REAL_DATA)
    if not folder:
        return f"{REAL_DATA} is unset; set it to a folder of real frames"
    if not Path(folder).is_dir():
        return f"{REAL_DATA} is {folder}, which is no folder"
    return ""


def browser_program() -> str | None:
    """The distribution's own Chromium, which plays H.264; those that playwright fetches do not."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def firefox_program() -> str | None:
    """The distribution's own Firefox."""
    return next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)


def _why_no_firefox() -> str:
    return "" if firefox_program() else "no firefox is installed"


def _why_no_browser() -> str:
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed"
    return "" if browser_program() else "no chromium is installed"


def _why_no_figures() -> str:
    return "" if importlib.util.find_spec("matplotlib") else "matplotlib is not installed"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: needs playwright and a browser")
    config.addinivalue_line("markers", "firefox: needs Firefox")


def pytest_report_header(config: pytest.Config) -> list[str]:
    lines = []
    reasons = (
        ("real data", _why_no_real_data()),
        ("figures", _why_no_figures()),
        ("browser", _why_no_browser()),
        ("firefox", _why_no_firefox()),
    )
    for what, why in reasons:
        lines.append(f"difflapse: tests with {what} are {f'skipped: {why}' if why else 'run'}")
    return lines


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reasons = {"browser": _why_no_browser(), "firefox": _why_no_firefox()}
    for item in items:
        for marker, why in reasons.items():
            if why and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def chromium_program() -> str:
    """Path of the browser that tests of pages use."""
    program = browser_program()
    assert program is not None
    return program


@pytest.fixture(scope="session", name="firefox_program")
def _firefox_program() -> str:
    """Path of the Firefox that tests of pages use."""
    program = firefox_program()
    assert program is not None
    return program


@pytest.fixture(scope="session")
def small_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with five small PANOPTES-like frames and their truth; read it, never write to it."""
    from difflapse import synth

    folder = tmp_path_factory.mktemp("small") / "night"
    synth.simulate(str(folder), synth.preset("panoptes", frames=5, shape=(260, 390), seed=3), workers=1)
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real frames; skips, saying so, where there is none."""
    why = _why_no_real_data()
    if why:
        pytest.skip(why)
    return Path(os.environ[REAL_DATA])

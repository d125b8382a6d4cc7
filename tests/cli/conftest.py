from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from difflapse.cli.app import main


@dataclass(frozen=True)
class Result:
    """What a command left behind: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    def assert_failed(self, code: int, *words: str) -> None:
        """It ended with this code and one line on stderr that holds these words; nothing on stdout."""
        assert self.code == code, self.err
        lines = [line for line in self.err.splitlines() if line.startswith("difflapse: ")]
        assert len(lines) == 1, self.err
        assert self.err.splitlines()[-1] == lines[0]
        assert "Traceback" not in self.err
        for word in words:
            assert word in lines[0]
        assert self.out == ""


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Call the program in this process: ``call("run", folder, "--plan")``."""

    def run(*words: object) -> Result:
        capfd.readouterr()
        code = main([str(word) for word in words])
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return run


@pytest.fixture
def write_frame() -> Callable[..., Path]:
    """Write one small frame: ``write_frame(path, IMAGETYP="Dark Frame")``."""
    from astropy.io import fits

    def write(path: Path, **cards: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(len(path.name)).normal(2100, 8, (48, 70))
        hdu = fits.PrimaryHDU(noise.astype(np.uint16))
        for key, value in cards.items():
            hdu.header[key] = value
        hdu.writeto(path)
        return path

    return write

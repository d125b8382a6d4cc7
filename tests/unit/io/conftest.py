"""Frames made for the tests of reading: small, rectangular, and wrong in the ways real ones are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

Make = Callable[..., Path]
SHAPE = (20, 30)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a frame into the test's folder: ``make(name, cards, data=..., extensions=...)``."""

    def write(
        name: str,
        cards: Mapping[str, Any] | None = None,
        data: np.ndarray | None = None,
        compression: str = "",
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full(SHAPE, 1000, np.uint16) if data is None else data
        header = fits.Header()
        for key, value in (cards or {}).items():
            header[key] = value
        if compression:
            hdus = [fits.PrimaryHDU(), fits.CompImageHDU(pixels, header, compression_type=compression)]
        else:
            hdus = [fits.PrimaryHDU(pixels, header)]
        fits.HDUList(hdus).writeto(path)
        return path

    return write


@pytest.fixture
def night(make: Make) -> Callable[..., list[Path]]:
    """Write `n` frames, one a minute, with DATE-OBS unless the cards say otherwise."""

    def write(
        n: int = 3, folder: str = "night", start: str = "2024-03-01T22:00:00", **cards: Any
    ) -> list[Path]:
        first = datetime.fromisoformat(start)
        written = []
        for i in range(n):
            own = {
                "DATE-OBS": (first + timedelta(minutes=i)).isoformat(),
                "EXPTIME": 30.0,
                "INSTRUME": "CAM1",
                "OBJECT": "M31",
                "FILTER": "V",
            }
            own.update(
                {k.replace("DATE_OBS", "DATE-OBS"): v(i) if callable(v) else v for k, v in cards.items()}
            )
            own = {k: v for k, v in own.items() if v is not None}
            written.append(make(f"{folder}/frame{i}.fits", own))
        return written

    return write


def tan(ra: float = 150.0, dec: float = 20.0, scale: float = 0.01) -> dict[str, Any]:
    """Cards of a plain tangential WCS centred on a frame of `SHAPE`."""
    return {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": ra,
        "CRVAL2": dec,
        "CRPIX1": 15.5,
        "CRPIX2": 10.5,
        "CD1_1": -scale,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": scale,
    }


@pytest.fixture
def solved() -> Callable[..., dict[str, Any]]:
    """Cards of a WCS: ``solved(ra, dec, scale)``."""
    return tan

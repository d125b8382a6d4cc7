"""A night in one FITS file: images as planes along a last axis of time, filled in any order from any process."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits

from difflapse.errors import OutputError
from difflapse.io.products import CREATOR, Card, fits_table, header_value

if TYPE_CHECKING:
    from astropy.table import Table

_BLOCK = 2880


def create_cube(
    path: str | Path,
    images: Mapping[str, tuple[tuple[int, ...], fits.Header | None, Sequence[Card]]],
    cards: Sequence[Card],
    frames: Table,
) -> None:
    """Lay out a file of cubes, their pixels NaN until `write_plane` fills them.

    Parameters
    ----------
    path : str or Path
        The file; not atomic, for it is filled later: to be called where nothing unfinished is seen.
    images : mapping of str to (shape, WCS, cards)
        Name of each extension; shape (n, ny, nx) or (n, planes, ny, nx), time first; WCS cards or None.
    cards : sequence of (keyword, value, comment)
        For the header of each image.
    frames : Table
        A row per plane along the axis of time: the extension FRAMES.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    primary = fits.Header()
    primary["CREATOR"] = (CREATOR, "program that wrote this file")
    blank = np.full(1 << 18, np.nan, ">f4")
    try:
        fits.PrimaryHDU(header=primary).writeto(path, overwrite=True)
        with Path(path).open("ab") as file:
            for name, (shape, wcs, own) in images.items():
                header = fits.Header([("XTENSION", "IMAGE"), ("BITPIX", -32), ("NAXIS", len(shape))])
                for axis, length in enumerate(reversed(shape), 1):
                    header[f"NAXIS{axis}"] = length
                header["PCOUNT"], header["GCOUNT"] = 0, 1
                header["EXTNAME"] = name
                if wcs is not None:
                    header.extend(
                        (card for card in wcs.cards if not card.keyword.startswith("NAXIS")), strip=False
                    )
                for keyword, value, comment in [*cards, *own]:
                    header[keyword] = (header_value(value), comment)
                header[f"CTYPE{len(shape)}"] = ("FRAME", "the row of the extension FRAMES")
                file.write(header.tostring().encode("ascii"))
                left = math.prod(shape)
                while left:
                    part = blank[: min(left, len(blank))]
                    file.write(part.data)
                    left -= len(part)
                file.write(b"\0" * (-4 * math.prod(shape) % _BLOCK))
        fits.append(path, fits.table_to_hdu(fits_table(frames)).data, fits.Header([("EXTNAME", "FRAMES")]))
    except OSError as error:
        raise _cannot(path, error) from None


def plane_offsets(path: str | Path) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Where each cube's pixels begin in the file, bytes, and their shape, time first."""
    with fits.open(path, memmap=True) as hdus:
        return {
            hdu.name: (int(hdu.fileinfo()["datLoc"]), tuple(hdu.shape))
            for hdu in hdus
            if isinstance(hdu, fits.ImageHDU)
        }


def write_plane(path: str | Path, place: tuple[int, tuple[int, ...]], n: int, data: np.ndarray) -> None:
    """Fill plane `n` of a cube at `place` (of `plane_offsets`) with (ny, nx) or (planes, ny, nx) pixels.

    Raises
    ------
    OutputError
        The disk is full, most likely.
    """
    offset, shape = place
    if data.shape != shape[1:]:
        raise ValueError(f"a plane of {data.shape} for a cube of {shape}")
    try:
        with Path(path).open("r+b") as file:
            file.seek(offset + 4 * n * math.prod(shape[1:]))
            file.write(np.ascontiguousarray(data, ">f4").data)
    except OSError as error:
        raise _cannot(path, error) from None


def _cannot(path: str | Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {(error.strerror or str(error)).lower()}",
        "check the space and the permissions there",
        {"path": str(path)},
    )

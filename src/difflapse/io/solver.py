"""The files that plate solvers exchange: star lists in, a WCS and the catalogue's stars out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.io import fits

from difflapse.errors import OptionError, ReadError
from difflapse.io.celestial import read_sky
from difflapse.model import Stars


def write_xylist(path: Path, stars: Stars) -> None:
    """Write a star list as astrometry.net takes it: columns X, Y (1-based native pixels) and FLUX, brightest first."""
    columns = [
        fits.Column("X", "D", "pix", array=stars.x + 1.0),
        fits.Column("Y", "D", "pix", array=stars.y + 1.0),
        fits.Column("FLUX", "D", array=stars.flux),
    ]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(path, overwrite=True)


def read_solution(
    wcs: Path | Mapping[str, str | int | float], stars: Path | np.ndarray, shape: tuple[int, int]
) -> tuple[str, np.ndarray, np.ndarray]:
    """What a solver found: its WCS as `FrameFacts.wcs_header` has it, and the stars of its index in the field.

    Parameters
    ----------
    wcs : Path or mapping
        The ``.wcs`` file of solve-field, or the cards.
    stars : Path or ndarray, shape (n, 2)
        The ``.rdls`` file of solve-field, or right ascension and declination.
    shape : (int, int)
        (ny, nx) of the frame.

    Returns
    -------
    (str, ndarray, ndarray)
        Header text; right ascension and declination of the stars, degrees.

    Raises
    ------
    ReadError
        A file is missing or damaged, or its WCS does not work.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = fits.getheader(wcs) if isinstance(wcs, Path) else fits.Header(dict(wcs))
            sky = read_sky([header], shape)
            if isinstance(stars, Path):
                table = fits.getdata(stars, 1)
                ra, dec = table["RA"], table["DEC"]
            else:
                ra, dec = np.reshape(stars, (-1, 2)).T
    except (OSError, KeyError, ValueError, TypeError, IndexError) as error:
        raise ReadError(f"what the solver wrote cannot be read: {error}") from None
    if not sky.header:
        raise ReadError(f"the solver's WCS cannot be used ({sky.note or 'it is not on the sky'})")
    return sky.header, np.asarray(ra, float), np.asarray(dec, float)


def list_index_files(given: tuple[str, ...]) -> tuple[Path, ...]:
    """The index files of astrometry.net among files and folders, looked for by their content; sorted, none twice.

    Raises
    ------
    OptionError
        Something is not there, or no file is an index.
    """
    candidates: list[Path] = []
    for text in given:
        path = Path(text).expanduser()
        if path.is_dir():
            candidates += [p for p in sorted(path.iterdir()) if p.suffix.lower() == ".fits" and p.is_file()]
        elif path.is_file():
            candidates.append(path)
        else:
            raise OptionError(
                f"index_files names {text}, which is not there", "give a folder of index-*.fits"
            )
    found = [path.resolve() for path in candidates if _is_index(path)]
    if not found:
        raise OptionError(
            f"none of the {len(candidates)} files in {', '.join(given)} is an index of astrometry.net",
            "data.astrometry.net has them: index-41*.fits suit fields of a degree and more",
        )
    return tuple(dict.fromkeys(found))


def _is_index(path: Path) -> bool:
    """Whether a file's primary header counts an index's quads of stars."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = fits.getheader(path)
    except (OSError, ValueError):
        return False
    return "NQUADS" in header and "INDEXID" in header

"""Writing products: nothing half-written ever bears its final name."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from difflapse._version import __version__
from difflapse.errors import OutputError

if TYPE_CHECKING:
    from astropy.table import Table

CREATOR = f"difflapse {__version__}"
CHUNK = 1 << 20

Card = tuple[str, str | int | float | bool, str]
"""Keyword, value and comment of a header card."""


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Write a file under a temporary name beside it, and give it its name only when it is complete.

    On an error or an interrupt the temporary file is removed and whatever bore the name before stays as it
    was.

    Parameters
    ----------
    path : str or Path
        The final name; its folder must exist.

    Yields
    ------
    Path
        The name to write to; its ending is that of `path`.

    Raises
    ------
    OutputError
        The disk is full, the folder is missing or may not be written to.
    """
    target = Path(path)
    # Two writers of one name never meet; the ending stays last, for libraries choose the format by it.
    temporary = target.with_name(f".{target.stem}.{os.getpid()}-{secrets.token_hex(4)}.part{target.suffix}")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(
            f"cannot write {target}: {(error.strerror or str(error)).lower()}",
            "check the space and the permissions there",
            {"path": str(target)},
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def product_names(files: Sequence[str]) -> list[str]:
    """Names of frames' products: those of their files, without what compression added; unique within a night."""
    plain = []
    for file in files:
        name = PurePosixPath(file).name
        for ending in (".gz", ".fz", ".bz2", ".xz"):
            name = name.removesuffix(ending)
        plain.append(name)
    count = Counter(name.split(".")[0] for name in plain)
    return [
        f"{PurePosixPath(name).stem}{f'_{k:04d}' if count[name.split('.')[0]] > 1 else ''}.fits"
        for k, name in enumerate(plain)
    ]


def write_image(
    path: str | Path,
    data: np.ndarray,
    *,
    variance: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    bits: Mapping[str, int] | None = None,
    cards: Sequence[Card] = (),
    wcs: fits.Header | None = None,
    sky: fits.Header | None = None,
    unit: str = "adu",
) -> None:
    """Write an image that `astropy.nddata.CCDData.read` understands as it is.

    Parameters
    ----------
    path : str or Path
        The file to write, atomically.
    data : (ny, nx) or (planes, ny, nx) array
        Written as float32.
    variance : array like `data`, optional
        Written as float32 in the extension UNCERT, in the square of `unit`.
    mask : array like `data`, optional
        0 = good. Bool, or uint8 with a bit for each reason. Written as uint8 in the extension MASK.
    bits : mapping of str to int, optional
        Name of each bit of the mask, such as ``{"NODATA": 1, "HOT": 2}``; written into its header. A bool
        mask has one bit, BAD.
    cards : sequence of (keyword, value, comment)
        For the header of the image: LTM1_1 and the like, DIFFMODE, NOISECOR, ...
    wcs : Header, optional
        WCS cards for these pixels, as `binned_wcs_header` makes them.
    sky : Header, optional
        WCS of two axes, where the image has three: written as it is into the extension SKY, which has no pixels.
    unit : str
        BUNIT of the image.

    Raises
    ------
    OutputError
        The file cannot be written.
    ValueError
        Shapes differ.
    """
    for name, other in (("variance", variance), ("mask", mask)):
        if other is not None and other.shape != data.shape:
            raise ValueError(f"{name} is {other.shape}; it must be like the data, {data.shape}")
    header = fits.Header()
    if wcs is not None:
        header.extend((card for card in wcs.cards if not card.keyword.startswith("NAXIS")), strip=False)
    header["BUNIT"] = (unit, "unit of the pixels")
    for keyword, value, comment in cards:
        header[keyword] = (header_value(value), comment)
    header["CREATOR"] = (CREATOR, "program that wrote this file")
    hdus = fits.HDUList([fits.PrimaryHDU(np.asarray(data, np.float32), header)])
    if variance is not None:
        own = fits.Header([("UTYPE", "VarianceUncertainty"), ("BUNIT", _squared(unit))])
        hdus.append(fits.ImageHDU(np.asarray(variance, np.float32), own, name="UNCERT"))
    if mask is not None:
        named = {"BAD": 1} if bits is None else dict(bits)
        own = fits.Header()
        for i, (reason, bit) in enumerate(sorted(named.items(), key=lambda item: item[1])):
            own[f"BITVAL{i}"] = (bit, "added to pixels that are bad because:")
            own[f"BITNAM{i}"] = reason
        hdus.append(fits.ImageHDU(np.asarray(mask, np.uint8), own, name="MASK"))
    if sky is not None:
        cards_only = fits.Header([card for card in sky.cards if not card.keyword.startswith("NAXIS")])
        hdus.append(fits.ImageHDU(None, cards_only, name="SKY"))
    with atomic(path) as temporary:
        hdus.writeto(temporary, overwrite=True, checksum=True)


def header_value(value: Any) -> Any:
    r"""A value that a FITS header can hold: text that is not printable ASCII is written as in Python, ``\xe9``."""
    if not isinstance(value, str) or (value.isascii() and value.isprintable()):
        return value
    escaped = value.encode("ascii", "backslashreplace").decode("ascii")
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in escaped)


def fits_table(table: Table) -> Table:
    """A table as FITS can hold it: its text, and that of its header, as `header_value` has it."""
    held = table.copy(copy_data=False)
    for name in held.colnames:
        text = np.ma.asarray(held[name])
        if text.dtype.kind == "U":
            plain = [header_value(str(value)) for value in text.data]
            held[name] = np.ma.array(plain, mask=text.mask) if np.ma.is_masked(text) else plain
    held.meta = {key: header_value(value) for key, value in table.meta.items()}
    return held


def write_table(path: str | Path, table: Table) -> None:
    """Write a table as ECSV (``.ecsv``), or as FITS where the name says so; raises `OutputError`."""
    with atomic(path) as temporary:
        if Path(path).suffix.lower() in (".fits", ".fit"):
            table.meta.setdefault("CREATOR", CREATOR)
            fits_table(table).write(temporary, format="fits", overwrite=True)
        else:
            _write_ecsv(temporary, table)


def write_rows(path: str | Path, rows: np.ndarray, header: fits.Header, name: str) -> None:
    """Write records as a FITS binary table, as fast as the disk takes them; raises `OutputError`.

    astropy encodes columns of letters one by one, a second for 500,000 rows: here they are written as they are.

    Parameters
    ----------
    path : str or Path
        File to write.
    rows : ndarray, shape (n,)
        Big-endian records; letters are of type ``S``.
    header : Header
        Further cards, ``TUNIT`` ones among them.
    name : str
        Of the extension.
    """
    kinds = {key: rows.dtype[key] for key in rows.dtype.names or ()}
    bytes_only = [
        (key, "u1", (kind.itemsize,)) if kind.kind == "S" else (key, kind) for key, kind in kinds.items()
    ]
    hdu = fits.BinTableHDU(rows.view(bytes_only), name=name)
    hdu.header.update(header)
    hdu.add_datasum()
    for n, kind in enumerate(kinds.values(), 1):
        if kind.kind == "S":
            hdu.header[f"TFORM{n}"] = f"{kind.itemsize}A"
            hdu.header.remove(f"TDIM{n}", ignore_missing=True)
    hdu.add_checksum(override_datasum=False)
    primary = fits.PrimaryHDU()
    primary.add_checksum()
    with atomic(path) as temporary, temporary.open("wb") as file:
        file.write(primary.header.tostring().encode("ascii"))
        file.write(hdu.header.tostring().encode("ascii"))
        file.write(rows.data)
        file.write(bytes(-rows.nbytes % 2880))


def _write_ecsv(path: Path, table: Table) -> None:
    """As astropy writes it, a tenth of a second instead of three for 10,000 rows: its rows are made cell by cell."""
    if any(len(table[name].shape) != 1 or table[name].dtype.kind not in "biufU" for name in table.colnames):
        table.write(path, format="ascii.ecsv", overwrite=True)
        return
    head = io.StringIO()
    table[:0].write(head, format="ascii.ecsv")
    columns = [_cells(table[name]) for name in table.colnames]
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(head.getvalue())
        file.writelines(" ".join(row) + "\n" for row in zip(*columns, strict=True))


def _cells(column: Any) -> list[str]:
    """A column's values as ECSV writes them; what is masked or empty is ``""``."""
    data, mask = np.ma.getdata(column), np.ma.getmaskarray(column)
    # Of Python's own numbers it takes a fifth of the time; those of fewer digits would get more.
    text = [str(value) for value in (data if data.dtype.kind == "f" and data.itemsize < 8 else data.tolist())]
    if data.dtype.kind == "U":
        text = [_quoted(value) for value in text]
    return ['""' if hidden else value for value, hidden in zip(text, mask, strict=True)]


def _quoted(text: str) -> str:
    """Text that could be taken for something else, in quotes."""
    plain = text and not any(sign in text for sign in ' "\n\r\t') and not text.startswith("#")
    return text if plain else '"' + text.replace('"', '""') + '"'


def read_numbers(path: str | Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read some columns of numbers of an ECSV table that `write_table` wrote, of the rows that have a first of them.

    astropy, which makes columns of all types of all rows, takes ten times as long.

    Parameters
    ----------
    path : str or Path
        The table.
    names : sequence of str
        Columns; the first is one of numbers from 0 on, and rows without one, or with -1, are passed over.

    Returns
    -------
    dict of str to (n,) float64
        By name; NaN where a value is masked.

    Raises
    ------
    ValueError
        There is no such column, or one of other than numbers.
    """
    with Path(path).open(encoding="utf-8", newline="") as file:
        rows = csv.reader((line for line in file if not line.startswith("#")), delimiter=" ")
        head = next(rows, [])
        places = [head.index(name) for name in names]
        first = places[0]
        texts = [[row[n] for n in places] for row in rows if row[first] not in ("", "-1")]
    found = np.array([[float(text or "nan") for text in row] for row in texts], float)
    return dict(zip(names, found.reshape(-1, len(names)).T.copy(), strict=True))


def write_toml(path: str | Path, values: Mapping[str, Any]) -> None:
    """Write plain values as TOML; raises `OutputError`. TOML has no null: keys whose value is None are
    left out.
    """
    import tomli_w

    with atomic(path) as temporary:
        temporary.write_text(tomli_w.dumps(_without_none(values)), encoding="utf-8")


def write_json(path: str | Path, values: Any) -> None:
    """Write plain values as JSON that any reader takes: NaN and infinity become null; raises
    `OutputError`.
    """
    with atomic(path) as temporary:
        text = json.dumps(_finite(values), indent=1, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def write_text(path: str | Path, text: str) -> None:
    """Write text as UTF-8; raises `OutputError`."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: str | Path) -> str:
    """SHA-256 of a local file, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while part := stream.read(CHUNK):
            digest.update(part)
    return digest.hexdigest()


def _squared(unit: str) -> str:
    return f"{unit}2" if unit.isalpha() else f"({unit})**2" if unit else ""


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value if item is not None]
    return _plain(value)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_finite(item) for item in value]
    plain = _plain(value)
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def _plain(value: Any) -> Any:
    """A Python value of a numpy scalar; text of a path."""
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, Path) else value

"""Where bytes come from: plain files, compressed files and URLs, all opened as one kind of stream."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from difflapse.errors import MissingDependencyError, ReadError

BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What a damaged or vanished file raises while it is read."""

URL_BLOCK = 1 << 16
"""Bytes asked for at a time while the headers of a remote file are read: enough for most headers, little
to wait for.
"""


def is_url(path: str) -> bool:
    """Whether `path` names something on a server (``https://...``) or in another store that fsspec knows."""
    scheme, mark, _ = str(path).partition("://")
    return bool(mark) and len(scheme) > 1 and scheme.replace("+", "").isalnum()


def open_source(path: str) -> tuple[BinaryIO, int | None]:
    """Open a file or URL for reading, decompressed where its first bytes say that it is compressed.

    Compression is told from the contents and never from the name, so that a misnamed file is read all the
    same.

    Parameters
    ----------
    path : str
        A local path, or a URL.

    Returns
    -------
    stream : binary file
        Positioned at its start; the caller closes it.
    size : int or None
        Length of the decompressed contents in bytes; None where it is unknown before reading.

    Raises
    ------
    ReadError
        The file is not there, cannot be opened, or is empty.
    """
    stream, size = _open_url(path) if is_url(path) else _open_local(path)
    try:
        magic = stream.read(6)
        stream.seek(0)
    except BROKEN + (ValueError,) as error:
        stream.close()
        raise ReadError(f"cannot be read: {_reason(error)}", "check the file or the connection") from error
    if not magic:
        stream.close()
        raise ReadError(
            "the file is empty: 0 bytes found, a FITS file needs 2880", facts={"found": 0, "needed": 2880}
        )
    if magic[:2] == b"\x1f\x8b":
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream)), None
    if magic[:3] == b"BZh":
        return cast(BinaryIO, bz2.BZ2File(stream)), None
    if magic == b"\xfd7zXZ\x00":
        return cast(BinaryIO, lzma.LZMAFile(stream)), None
    return stream, size


def read_source(path: str) -> bytes:
    """All decompressed bytes of a file or URL; raises `ReadError` where they end too early."""
    stream, _ = open_source(path)
    with stream:
        try:
            return stream.read()
        except BROKEN as error:
            raise ReadError(f"cannot be read to its end: {_reason(error)}", "copy the file again") from error


def is_plain_file(path: str) -> bool:
    """Whether `path` is a local file whose bytes lie on disk as FITS, so that parts of it can be read in
    place.
    """
    if is_url(path):
        return False
    try:
        with open(path, "rb") as stream:
            return stream.read(6) == b"SIMPLE"
    except OSError:
        return False


def _open_local(path: str) -> tuple[BinaryIO, int | None]:
    try:
        stream = cast(BinaryIO, Path(path).open("rb"))  # noqa: SIM115
        return stream, os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise ReadError(f"cannot be opened: {_reason(error)}") from error


def _open_url(url: str) -> tuple[BinaryIO, int | None]:
    try:
        import fsspec
    except ImportError as error:
        raise MissingDependencyError(
            "reading from a URL needs fsspec", "pip install 'difflapse[url]'"
        ) from error
    try:
        fs, path = fsspec.core.url_to_fs(url)
        stream = fs.open(path, "rb", block_size=URL_BLOCK)
        size = getattr(stream, "size", None)
        if size is None or not _supports_parts(stream):
            # The server sends whole files only.
            stream.close()
            whole = fs.cat_file(path)
            return io.BytesIO(whole), len(whole)
        return cast(BinaryIO, stream), int(size)
    except ImportError as error:
        raise MissingDependencyError(
            f"reading {url.partition(':')[0]} URLs needs {error.name or error}",
            "pip install 'difflapse[url]'",
        ) from error
    except Exception as error:
        # Each store has exceptions of its own, and none of them may stop a night.
        raise ReadError(
            f"cannot be fetched: {_reason(error)}", "check the address and the connection"
        ) from error


def _supports_parts(stream: BinaryIO) -> bool:
    try:
        stream.seek(6)
        stream.read(1)
        stream.seek(0)
    except Exception:
        # Stores differ in what they raise where ranges are refused.
        return False
    return True


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__

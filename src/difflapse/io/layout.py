"""What lies where in a FITS file, and which of its HDUs is the image.

The headers are walked here and not by astropy: it takes a fraction of the time, shows whether all the data
are there without reading them, and forgives what cameras write into headers (text that is not ASCII, wrong
checksums).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import reduce
from operator import mul
from typing import BinaryIO

from astropy.io import fits

from difflapse.errors import ReadError
from difflapse.io.source import BROKEN, open_source

BLOCK = 2880
MAX_HEADER = 2000 * BLOCK
"""No header is longer than this; what is, lacks its END."""

PRINTABLE = bytes(b if 32 <= b < 127 else 32 if b == 0 else 63 for b in range(256))
"""Translation of header bytes: accents and control characters, which astropy refuses, become question
marks.
"""

NOT_SCIENCE = re.compile(
    "MASK|DQ|BPM|BADPIX|FLAGS|ERR|ERROR|SIGMA|UNCERT|STDDEV|RMS|VAR|VARIANCE|IVAR|WHT|WEIGHTS?|EXPMAP|CONFMAP|"
    "BACKGROUND|BKG|SKY|PSF|THUMB|THUMBNAIL|PREVIEW|OVERSCAN|CTX|COVERAGE"
)
"""Names of extensions that accompany an image and are not one."""

SCIENCE = ("SCI", "SCIENCE", "IMAGE", "PRIMARY", "DATA", "COMPRESSED_IMAGE")


@dataclass(frozen=True, eq=False)
class Hdu:
    """One header-data unit: its header and where its data lie (bytes from the start of the decompressed
    file).
    """

    index: int
    header: fits.Header
    data_start: int
    data_size: int

    @property
    def compressed(self) -> bool:
        """Whether it is a table that holds a tile-compressed image."""
        return self.header.get("ZIMAGE") is True

    @property
    def bitpix(self) -> int:
        """BITPIX of the image."""
        return int(self.header["ZBITPIX" if self.compressed else "BITPIX"])

    @property
    def axes(self) -> tuple[int, ...]:
        """Lengths of the image's axes in array order (slowest first); empty where there is no image."""
        if not self.compressed and self.header.get("XTENSION", "IMAGE").strip() != "IMAGE":
            return ()
        letter = "Z" if self.compressed else ""
        n = int(self.header.get(letter + "NAXIS", 0))
        return tuple(int(self.header.get(f"{letter}NAXIS{i}", 0)) for i in range(n, 0, -1))

    @property
    def shape(self) -> tuple[int, int] | None:
        """(ny, nx) of a single image, axes of length 1 aside; None where it is not one."""
        axes = self.axes
        if len(axes) < 2 or 0 in axes:
            return None
        extra, (ny, nx) = axes[:-2], axes[-2:]
        return (ny, nx) if all(n == 1 for n in extra) and ny > 1 and nx > 1 else None

    @property
    def name(self) -> str:
        """EXTNAME in capitals; PRIMARY for the first."""
        return str(self.header.get("EXTNAME", "") or ("PRIMARY" if self.index == 0 else "")).strip().upper()

    def __str__(self) -> str:
        return f"HDU {self.index}" + (f" ({self.name})" if self.name and self.index else "")


def read_layout(path: str) -> tuple[Hdu, ...]:
    """Walk the HDUs of a file without reading their data.

    Raises
    ------
    ReadError
        Not FITS, a header without END, or data cut short: the bytes found and needed are in `facts`.
    """
    stream, size = open_source(path)
    with stream:
        try:
            return _walk(stream, size)
        except BROKEN as error:
            raise ReadError(
                f"the file is damaged: {error or type(error).__name__}", "copy the file again"
            ) from error


def choose_image(hdus: tuple[Hdu, ...]) -> tuple[Hdu, str]:
    """The HDU that holds the image, and why where that is not obvious.

    Companions (masks, errors, weights) are passed over by name; then the largest image wins, an image of 8
    bits only where there is no deeper one, one named SCI before one that is not, and the first of equals.

    Raises
    ------
    ReadError
        There is no single two-dimensional image; the message says what there is instead.
    """
    images = [hdu for hdu in hdus if hdu.shape is not None]
    if not images:
        raise ReadError(*_what_instead(hdus))
    deepest = max(abs(hdu.bitpix) for hdu in images)

    def rank(hdu: Hdu) -> tuple[bool, bool, int, bool, int]:
        ny, nx = hdu.shape or (0, 0)
        shallow = abs(hdu.bitpix) == 8 < deepest
        return (
            NOT_SCIENCE.fullmatch(hdu.name) is not None,
            shallow,
            -ny * nx,
            hdu.name not in SCIENCE,
            hdu.index,
        )

    best = min(images, key=rank)
    others = [hdu for hdu in images if hdu is not best]
    if not others:
        return best, ""
    rivals = [
        h
        for h in others
        if h.shape == best.shape and rank(h)[:2] == rank(best)[:2] and h.name in ("", *SCIENCE)
    ]
    if rivals or any("DETSEC" in h.header for h in others):
        return (
            best,
            f"image: {best} of {len(images)} images (amplifiers, chips or versions); the first is used",
        )
    return best, f"image: {best}; passed over: {', '.join(str(h) for h in others)}"


def merged_header(hdus: tuple[Hdu, ...], image: Hdu) -> fits.Header:
    """The primary header under the image's own: what the image says wins."""
    if image.index == 0:
        return image.header
    merged = image.header.copy()
    merged.extend(hdus[0].header.cards, unique=True, strip=True)
    return merged


def _walk(stream: BinaryIO, size: int | None) -> tuple[Hdu, ...]:
    hdus: list[Hdu] = []
    position = 0
    while True:
        text = _read_header(stream, position, first=not hdus)
        if text is None:
            return tuple(hdus)
        header = _parse(text)
        start = position + len(text)
        needed = _data_size(header)
        hdu = Hdu(len(hdus), header, start, needed)
        hdus.append(hdu)
        position = start + -(-needed // BLOCK) * BLOCK
        if size is not None:
            if start + needed > size:
                raise _truncated(hdu, size - start)
            if position >= size:
                return tuple(hdus)
            stream.seek(position)
        elif not _skip(stream, position - start):
            # The stream ended in the data, or just before their padding: only reading them can tell.
            return tuple(hdus)


def _skip(stream: BinaryIO, count: int) -> bool:
    while count > 0:
        got = len(stream.read(min(count, 1 << 20)))
        if not got:
            return False
        count -= got
    return True


def _truncated(hdu: Hdu, found: int) -> ReadError:
    facts = {"found": max(found, 0), "needed": hdu.data_size}
    return ReadError(
        f"truncated: {max(found, 0)} bytes of data found in {hdu}, {hdu.data_size} needed",
        "copy the file again",
        facts,
    )


def _read_header(stream: BinaryIO, position: int, first: bool) -> bytes | None:
    """The header's bytes, whole blocks; None where no further HDU begins."""
    blocks = stream.read(BLOCK)
    if first:
        if not blocks.startswith(b"SIMPLE"):
            shown = blocks[:30].split(b"\n")[0].decode("ascii", "replace").strip()
            raise ReadError(f"not a FITS file: it begins with {shown!r}, not with SIMPLE")
    elif not blocks.startswith(b"XTENSION"):
        return None
    block = blocks
    parts = [block]
    while _end_of_header(block) < 0:
        block = stream.read(BLOCK)
        if not block or len(parts) * BLOCK > MAX_HEADER:
            raise ReadError(
                f"truncated: the header has no END within {position + sum(map(len, parts))} bytes",
                "copy the file again",
            )
        parts.append(block)
    return b"".join(parts)


def _end_of_header(block: bytes) -> int:
    for at in range(0, len(block), 80):
        card = block[at : at + 80]
        if card.startswith(b"END") and not card[3:].strip(b" \0"):
            return at
    return -1


def _parse(raw: bytes) -> fits.Header:
    return fits.Header.fromstring(raw.translate(PRINTABLE).decode("ascii"))


def _data_size(header: fits.Header) -> int:
    try:
        n = int(header.get("NAXIS", 0))
        lengths = [int(header[f"NAXIS{i}"]) for i in range(1, n + 1)]
        groups = header.get("GROUPS") is True and n > 0 and lengths[0] == 0
        pixels = reduce(mul, lengths[1:] if groups else lengths, 1) if n else 0
        extra = int(header.get("PCOUNT", 0)) if groups or "XTENSION" in header else 0
        count = int(header.get("GCOUNT", 1)) if groups or "XTENSION" in header else 1
        if min([pixels, extra, count, *lengths]) < 0:
            raise ValueError("negative")
        return abs(int(header["BITPIX"])) // 8 * count * (extra + pixels)
    except (KeyError, ValueError, TypeError, fits.VerifyError) as error:
        raise ReadError(f"the header does not describe its data (NAXIS, BITPIX): {error}") from error


def _what_instead(hdus: tuple[Hdu, ...]) -> tuple[str, str]:
    for hdu in hdus:
        if hdu.header.get("GROUPS") is True:
            return f"no image: {hdu} holds random groups (interferometry)", ""
        axes = hdu.axes
        if len(axes) > 2 and 0 not in axes:
            size = " x ".join(map(str, axes))
            return (
                f"no single image: {hdu} is a cube of {size}; 2 axes are needed",
                "split it into one file per plane",
            )
    tables = [hdu for hdu in hdus if str(hdu.header.get("XTENSION", "")).strip() in ("BINTABLE", "TABLE")]
    if tables:
        return f"no image: only {'a table' if len(tables) == 1 else f'{len(tables)} tables'}", ""
    return f"no image in {len(hdus)} HDU{'s' if len(hdus) != 1 else ''}", ""

"""One FITS file: what it says about itself, and its pixels."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from astropy.io import fits

from difflapse.errors import ReadError
from difflapse.io import dialects
from difflapse.io.celestial import Sky, read_plane, read_sky
from difflapse.io.layout import Hdu, choose_image, merged_header, read_layout
from difflapse.io.source import BROKEN, is_plain_file, is_url, open_source, read_source
from difflapse.io.times import Stamp, decide_clock, read_stamps
from difflapse.model import Frame, FrameFacts

ZERO_BLOCK = 4
"""Side of the smallest square of exact zeros that is taken for lost telemetry."""


@dataclass(frozen=True, eq=False)
class Scan:
    """All that a file's headers tell: the facts that travel on, and what sorting files into sequences
    needs besides.
    """

    facts: FrameFacts
    stamps: tuple[Stamp, ...]
    """Every start time the file offers; the sequence decides between them."""
    sky: Sky
    serial: str
    wavelength: str
    dialect: str
    computer_clock: bool
    mosaic_reason: str
    image_reason: str
    """Why this HDU; empty where there was no choice."""
    ours: bool
    """Whether difflapse itself wrote the file."""


def read_facts(path: str | Path, root: str = "") -> FrameFacts:
    """Read what a file says about itself, without its pixels; the clock is chosen from this one file alone.

    Parameters
    ----------
    path : str or Path
        A file, or a URL.
    root : str
        Folder that `FrameFacts.file` is made relative to; empty for the file's own folder.

    Returns
    -------
    FrameFacts

    Raises
    ------
    ReadError
        Not FITS, truncated (``found`` and ``needed`` bytes in its facts), or without a two-dimensional image.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return scan(path, root).facts


def scan(path: str | Path, root: str = "") -> Scan:
    """As `read_facts`, with all that sorting files into sequences needs.

    astropy warns of odd cards here: silence it once around many calls, for its filters are shared by all
    threads.
    """
    location = str(path) if is_url(str(path)) else str(Path(path).absolute())
    hdus = read_layout(location)
    image, image_reason = choose_image(hdus)
    header = merged_header(hdus, image)
    dialect = dialects.dialect_of(header)
    shape = image.shape or (0, 0)
    dtype = _dtype(image)
    name = PurePosixPath(location.replace("\\", "/"))
    exposure = dialects.find_number(header, "exposure")
    stamps = read_stamps(header, name.name, exposure, dialect)
    clock = decide_clock([stamps], [exposure], [name.name], dialect.computer_clock)
    levels = dialects.levels(header, dialect, dtype)
    mosaic, mosaic_reason = dialects.mosaic(header, dialect, shape[0])
    own = (image.header,) if image.index == 0 else (image.header, hdus[0].header)
    sky = read_sky(own, shape)
    ra, dec = dialects.find_number(header, "ra"), dialects.find_number(header, "dec")
    red, blue = (dialects.find_number(header, f"{colour}_balance") for colour in ("red", "blue"))
    pixel, focal = dialects.find_number(header, "pixel_um"), dialects.find_number(header, "focal_mm")
    facts = FrameFacts(
        path=location,
        file=relative_file(location, root),
        hdu=image.index,
        shape=shape,
        dtype=str(dtype),
        kind=dialects.kind_of(header, name.parent.name, name.name, dialect),
        start_mjd=clock.starts_mjd[0],
        exposure_s=exposure,
        time_source=clock.source,
        gain_e_adu=levels.gain_e_adu,
        read_noise_e=levels.read_noise_e,
        bias_adu=levels.bias_adu,
        saturation_adu=levels.saturation_adu,
        saturation_source=levels.saturation_source,
        mosaic=mosaic,
        camera=dialects.camera_of(header, dialect),
        filter=dialects.filter_of(header),
        object=dialects.find_text(header, "object"),
        sequence_id=dialects.find_text(header, "sequence"),
        latitude_deg=dialects.find_number(header, "latitude"),
        longitude_deg=dialects.longitude_of(header, dialect),
        elevation_m=dialects.find_number(header, "elevation"),
        wcs_header=sky.header,
        pointing=None if ra is None or dec is None else (ra, dec),
        pixel_arcsec=None if pixel is None or focal is None else 206.265 * pixel / focal,
        plane=None if sky.header else read_plane(own),
        white_balance=None if red is None or blue is None else (red, 1.0, blue),
        notes=tuple(filter(None, (image_reason, sky.note, *clock.notes))),
    )
    creator = str(dialects.card(header, "CREATOR") or "")
    return Scan(
        facts=facts,
        stamps=stamps,
        sky=sky,
        wavelength=dialects.find_text(header, "wavelength"),
        serial=dialects.find_text(header, "serial"),
        dialect=dialect.name,
        computer_clock=dialect.computer_clock,
        mosaic_reason=mosaic_reason,
        image_reason=image_reason,
        ours=creator.lower().startswith("difflapse"),
    )


def read_frame(facts: FrameFacts, rows: tuple[int, int] | None = None) -> Frame:
    """Read the pixels of a frame, in the smallest type that holds them exactly.

    BZERO and BSCALE are applied: unsigned 16-bit integers stay ``uint16``. Pixels that are BLANK, NaN or
    infinite are masked, and set to the median of the others so that arithmetic stays finite; so are squares
    of exact zeros in images that are bright everywhere else (telemetry that was lost), whose zeros are kept.

    Parameters
    ----------
    facts : FrameFacts
        As `read_facts` or `discover` returned them; `path` and `hdu` say where the pixels are.
    rows : (int, int), optional
        First row and one past the last that are needed. Where the tiles of a compressed image can be read one by
        one, the other rows are not: they hold the median of those that are, and are not masked.

    Returns
    -------
    Frame
        `data` (ny, nx) in native byte order; `mask` (ny, nx) bool with True = bad, or None where all are
        good.

    Raises
    ------
    ReadError
        The file is gone, damaged, or cut short: ``found`` and ``needed`` bytes in its facts.
    """
    hdu = _hdu(facts)
    if rows is not None and hdu.compressed:
        return _part(facts, hdu, rows)
    raw = _compressed_pixels(facts.path, hdu, [None])[0] if hdu.compressed else _plain_pixels(facts.path, hdu)
    return Frame(facts, *_pixels_and_mask(raw.reshape(facts.shape), hdu))


def read_bands(
    facts: FrameFacts, bands: Sequence[tuple[int, int, int]]
) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Read some rows of a frame, from its left edge, without making the rest of it.

    Parameters
    ----------
    facts : FrameFacts
        As for `read_frame`.
    bands : sequence of (int, int, int)
        First row, one past the last, and one past the last column of each band, within the frame; in any order, they
        may overlap.

    Returns
    -------
    list of (ndarray, ndarray or None)
        Pixels (rows, columns) and mask of each band, as `read_frame` gives them.

    Raises
    ------
    ReadError
        As `read_frame`.
    """
    hdu = _hdu(facts)
    if hdu.compressed:
        parts = _compressed_pixels(facts.path, hdu, bands)
    else:
        whole = _plain_pixels(facts.path, hdu).reshape(facts.shape)
        parts = [whole[first:past, :wide].copy() for first, past, wide in bands]
    return [_pixels_and_mask(part, hdu) for part in parts]


def _hdu(facts: FrameFacts) -> Hdu:
    """Where a frame's pixels are; raises ReadError where they are no more."""
    hdus = read_layout(facts.path)
    if facts.hdu >= len(hdus) or hdus[facts.hdu].shape != facts.shape:
        raise ReadError(
            f"the file has changed: HDU {facts.hdu} is no image of {_size(facts.shape)} pixels any more"
        )
    return hdus[facts.hdu]


def compact(data: np.ndarray) -> np.ndarray:
    """Pixels in one of the types that the arithmetic is compiled for: 16-bit integers as they are, all else float32.

    Float32 holds integers exactly up to 16 777 216, far beyond what a camera counts to.
    """
    return data if data.dtype in (np.uint16, np.int16) else data.astype(np.float32, copy=False)


def _part(facts: FrameFacts, hdu: Hdu, rows: tuple[int, int]) -> Frame:
    """A frame of which only some rows are read."""
    first, past = max(0, rows[0]), min(facts.shape[0], rows[1])
    if first >= past:
        raise ReadError(f"rows {rows[0]} to {rows[1]} are asked of an image of {_size(facts.shape)} pixels")
    raw = _compressed_pixels(facts.path, hdu, [(first, past, facts.shape[1])])[0]
    part, bad = _pixels_and_mask(raw, hdu)
    data = np.empty(facts.shape, part.dtype)
    data[first:past] = part
    level = np.median(part[:: max(1, len(part) // 64)]).astype(part.dtype)
    data[:first], data[past:] = level, level
    mask = None
    if bad is not None:
        mask = np.zeros(facts.shape, bool)
        mask[first:past] = bad
    return Frame(facts, data, mask)


def _pixels_and_mask(raw: np.ndarray, hdu: Hdu) -> tuple[np.ndarray, np.ndarray | None]:
    """Scaled pixels and the mask of the bad ones, or None; `raw` may be changed."""
    blank = _blank(hdu)
    if blank is not None and raw.dtype == _dtype(hdu) and raw.dtype.kind == "u" and raw.dtype.itemsize > 1:
        # Decoded straight into unsigned pixels, while BLANK is a stored value.
        blank += int(_scaling(hdu)[0])
    bad = raw == blank if blank is not None and raw.dtype.kind in "iu" else None
    data = _scaled(raw, hdu)
    if data.dtype.kind == "f":
        finite = np.isfinite(data)
        if not finite.all():
            bad = ~finite if bad is None else bad | ~finite
    if bad is not None and bad.any():
        if bad.all():
            raise ReadError("all pixels are BLANK or NaN", facts={"found": 0, "needed": 1})
        data[bad] = np.median(data[~bad])
    else:
        bad = None
    lost = _lost_blocks(data)
    if lost is not None:
        bad = lost if bad is None else bad | lost
    return data, bad


def relative_file(location: str, root: str) -> str:
    """POSIX path of a file below a root, or its name where it does not lie below it."""
    posix, base = location.replace("\\", "/"), root.replace("\\", "/").rstrip("/")
    if base and posix.startswith(base + "/"):
        return posix[len(base) + 1 :]
    return PurePosixPath(posix.split("?")[0]).name


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _scaling(hdu: Hdu) -> tuple[float, float]:
    zero, scale = (dialects.number(dialects.card(hdu.header, key)) for key in ("BZERO", "BSCALE"))
    return zero or 0.0, 1.0 if scale is None else scale


def _blank(hdu: Hdu) -> int | None:
    value = dialects.number(dialects.card(hdu.header, "ZBLANK" if hdu.compressed else "BLANK"))
    if value is None and hdu.compressed:
        value = dialects.number(dialects.card(hdu.header, "BLANK"))
    return None if value is None or hdu.bitpix < 0 else int(value)


_STORED = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}


def _dtype(hdu: Hdu) -> np.dtype:
    """The type of the pixels after BZERO and BSCALE."""
    bitpix = hdu.bitpix
    if bitpix not in _STORED:
        raise ReadError(f"BITPIX is {bitpix}; it must be 8, 16, 32, 64, -32 or -64", facts={"found": bitpix})
    stored = np.dtype(_STORED[bitpix])
    zero, scale = _scaling(hdu)
    if stored.kind == "f" or (zero == 0 and scale == 1):
        return stored
    if scale == 1 and zero == 2.0 ** (bitpix - 1) and bitpix > 8:
        return np.dtype(f"u{bitpix // 8}")
    if scale == 1 and zero == -128 and bitpix == 8:
        return np.dtype("i1")
    if scale == 1 and zero.is_integer() and bitpix <= 16 and abs(zero) < 2**30:
        return np.dtype("i4")
    return np.dtype("f4" if bitpix <= 16 else "f8")


def _scaled(raw: np.ndarray, hdu: Hdu) -> np.ndarray:
    """Apply BZERO and BSCALE; `raw` may be changed."""
    target = _dtype(hdu)
    zero, scale = _scaling(hdu)
    if raw.dtype == target and target.kind == "u" and target.itemsize > 1:
        # Decoded straight into unsigned pixels.
        return raw
    if target.kind == "u" and target.itemsize > 1:
        unsigned = raw.view(target)
        np.bitwise_xor(unsigned, target.type(1 << (8 * target.itemsize - 1)), out=unsigned)
        return unsigned
    if zero == 0 and scale == 1:
        return raw.astype(target, copy=False)
    if target.kind == "i":
        return (raw.astype("i4") + int(zero)).astype(target)
    result = raw.astype(target)
    if scale != 1:
        result *= scale
    if zero:
        result += zero
    return result


def _plain_pixels(path: str, hdu: Hdu) -> np.ndarray:
    stream, _ = open_source(path)
    with stream:
        try:
            stream.seek(hdu.data_start)
            found = stream.read(hdu.data_size)
        except BROKEN as error:
            # gzip raises before it hands out what there was: say how far the whole file goes.
            raise ReadError(
                f"truncated or damaged: {hdu.data_size} bytes of data needed, fewer found ({error})",
                "copy the file again",
                {"found": 0, "needed": hdu.data_size},
            ) from error
    if len(found) < hdu.data_size:
        raise ReadError(
            f"truncated: {len(found)} bytes of data found in {hdu}, {hdu.data_size} needed",
            "copy the file again",
            {"found": len(found), "needed": hdu.data_size},
        )
    stored = np.dtype(_STORED[hdu.bitpix])
    return np.frombuffer(found, stored.newbyteorder(">")).astype(stored)


def _compressed_pixels(path: str, hdu: Hdu, bands: Sequence[tuple[int, int, int] | None]) -> list[np.ndarray]:
    """Stored pixels of a compressed image, all of them for None, and of bands of rows up to a column."""
    from difflapse.io import rice

    plain = is_plain_file(path)
    contents = None if plain else read_source(path)
    if rice.can_decode(hdu.header):
        heap = np.memmap(path, np.uint8, "r") if plain else np.frombuffer(contents or b"", np.uint8)
        found = min(hdu.data_size, len(heap) - hdu.data_start)
        if found < hdu.data_size:
            raise ReadError(
                f"truncated: {max(found, 0)} bytes of data found in {hdu}, {hdu.data_size} needed",
                "copy the file again",
                {"found": max(found, 0), "needed": hdu.data_size},
            )
        table = heap[hdu.data_start : hdu.data_start + hdu.data_size]
        decoded = rice.decode(hdu.header, table, _dtype(hdu), bands)
        if decoded is not None:
            return decoded
    whole = _astropy_pixels(path if contents is None else contents, hdu)
    whole = whole.reshape(-1, whole.shape[-1])
    return [whole if b is None else whole[b[0] : b[1], : b[2]].copy() for b in bands]


def _astropy_pixels(source: str | bytes, hdu: Hdu) -> np.ndarray:
    """Any tile compression that astropy knows, before BZERO and BSCALE."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened = io.BytesIO(source) if isinstance(source, bytes) else source
            with fits.open(
                opened, memmap=False, do_not_scale_image_data=True, ignore_missing_end=True
            ) as hdus:
                data = hdus[hdu.index].data
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        # cfitsio's and astropy's decoders raise many kinds on damaged tiles; one bad frame never stops a
        # night.
        raise ReadError(
            f"the compressed image in {hdu} cannot be decoded: {reason}",
            "copy the file again",
        ) from error
    if data is None:
        raise ReadError(f"no pixels in {hdu}")
    return np.ascontiguousarray(data, data.dtype.newbyteorder("="))


def _lost_blocks(data: np.ndarray) -> np.ndarray | None:
    """Mask of rectangles of exact zeros in an image that is far above zero everywhere else; None where
    there are none.
    """
    if data[::ZERO_BLOCK].min() > 0:  # each block has one of these rows
        return None
    zeros = data == 0
    count = int(np.count_nonzero(zeros))
    if count < ZERO_BLOCK**2 or count > 0.9 * data.size:
        return None
    step = max(1, math.isqrt(data.size // 100_000))
    sample = data[::step, ::step]
    sample = sample[sample != 0]
    if len(sample) < 100:
        return None
    low, middle = np.percentile(sample, [0.5, 50])
    if not low > 0.2 * middle > 0:
        return None
    from scipy.ndimage import binary_opening

    lost = binary_opening(zeros, np.ones((ZERO_BLOCK, ZERO_BLOCK), bool))
    inside = int(np.count_nonzero(lost))
    # Zeros strewn elsewhere are counts of a faint sky.
    return lost if inside and count - inside <= 1e-3 * data.size else None

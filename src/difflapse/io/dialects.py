"""The one table of what each camera calls things.

Nothing outside this file (and `times`, for the clock) knows a header keyword. A quantity is looked for under
its keywords in the order of the table; a card counts only where its value can be understood and is plausible,
so that an empty or boastful card never hides a good one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from astropy.io import fits

Value = float | str
Convert = Callable[[object], Value | None]

PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")


@dataclass(frozen=True)
class Levels:
    """What the camera's numbers mean; None where the file does not say."""

    gain_e_adu: float | None
    read_noise_e: float | None
    bias_adu: float | None
    saturation_adu: float | None
    saturation_source: str = ""
    """``header``, ``camera`` (what is known of its family), ``type`` (the most it can hold), or empty."""


@dataclass(frozen=True)
class Dialect:
    """What is known of a family of cameras without their headers saying so."""

    name: str
    recognise: Callable[[fits.Header], bool]
    levels: Levels = Levels(None, None, None, None)
    computer_clock: bool = False
    """Whether names stamped by the computer are to be believed before the camera's DATE-OBS."""
    west_positive: bool = False
    """Whether longitudes are written positive to the west."""


def card(header: Mapping[str, object], keyword: str) -> object:
    """A card's value; None where it is missing, empty, undefined or cannot be parsed."""
    try:
        value = header.get(keyword)
    except (fits.VerifyError, ValueError):
        return None
    if value is None or isinstance(value, fits.card.Undefined):
        return None
    if isinstance(value, str):
        return value.strip() or None
    return value


def number(value: object) -> float | None:
    """A finite number; from text, the leading one (``'17 C'`` is 17)."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    match = re.match(r"\s*([-+]?\d+(?:\.\d*)?(?:[eEdD][-+]?\d+)?|[-+]?\.\d+)", str(value))
    return float(match.group(1).upper().replace("D", "E")) if match else None


def text(value: object) -> str | None:
    """Text with single spaces; None for what stands for nothing."""
    plain = " ".join(str(value).split()) if value is not None else ""
    return None if plain.lower() in ("", "none", "null", "n/a", "unknown", "?") else plain


def sexagesimal(value: object) -> float | None:
    """Degrees from a number, ``'-17 52 45'``, ``'28:45:37 N'`` or ``'28d45m37s'``; west and south are
    negative.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(value)
    match = re.fullmatch(
        r"\s*([NSEWnsew])?\s*([-+]?)\s*(\d+(?:\.\d*)?)(?:[\s:dDhH°]+(\d+(?:\.\d*)?))?(?:[\s:mM']+(\d+(?:\.\d*)?))?"
        r"[\s:sS\"]*(?:deg)?\s*([NSEWnsew])?\s*",
        str(value),
    )
    if not match:
        return None
    before, sign, *parts, after = match.groups()
    size = sum(float(part or 0) / 60**i for i, part in enumerate(parts))
    negative = (sign == "-") != ((before or after or "").upper() in ("S", "W"))
    return -size if negative else size


def hour_angle(value: object) -> float | None:
    """Degrees of right ascension: text of several parts is in hours, a lone number in degrees."""
    degrees = sexagesimal(value)
    several = isinstance(value, str) and re.search(r"\d[\s:hH]+\d", value.strip())
    return None if degrees is None else degrees * (15.0 if several else 1.0)


def within(convert: Convert, low: float, high: float) -> Convert:
    """The conversion, refusing values outside low..high."""

    def checked(value: object) -> Value | None:
        found = convert(value)
        return found if isinstance(found, float) and low <= found <= high else None

    return checked


def milliseconds(value: object) -> float | None:
    """Seconds from a number of milliseconds."""
    found = number(value)
    return None if found is None else found / 1000.0


def ceiling(value: object) -> float | None:
    """A level that looks like a detector's limit: a round number, or one below a power of two.

    DATAMAX often is the brightest pixel of this frame instead, which says nothing of saturation.
    """
    found = number(value)
    if found is None or found < 200:
        return None
    power = 2.0 ** round(math.log2(found + 1))
    return found if found % 500 == 0 or power - 1 <= found <= power else None


NAMES: dict[str, tuple[tuple[str, Convert], ...]] = {
    "red_balance": (("REDBAL", within(number, 0.1, 10)), ("WB_RED", within(number, 0.1, 10))),
    "blue_balance": (("BLUEBAL", within(number, 0.1, 10)), ("WB_BLUE", within(number, 0.1, 10))),
    "exposure": (
        ("EXPTIME", within(number, 0, 1e6)),
        ("EXPOSURE", within(number, 0, 1e6)),
        ("XPOSURE", within(number, 0, 1e6)),
        ("EXP_TIME", within(number, 0, 1e6)),
        ("EXPOTIME", within(number, 0, 1e6)),
        ("EXP-TIME", within(number, 0, 1e6)),
        ("ITIME", within(number, 0, 1e6)),
        ("ONTIME", within(number, 0, 1e6)),
        ("EXPMSEC", within(milliseconds, 0, 1e6)),
    ),
    "gain": (
        ("EGAIN", within(number, 0.001, 1000)),
        ("CCDGAIN", within(number, 0.001, 1000)),
        ("GAIN_E", within(number, 0.001, 1000)),
        ("HIERARCH GAIN E/ADU", within(number, 0.001, 1000)),
        ("GAIN", within(number, 0.05, 20)),
    ),
    "read_noise": (
        ("RDNOISE", within(number, 0.1, 1000)),
        ("READNOIS", within(number, 0.1, 1000)),
        ("RON", within(number, 0.1, 1000)),
        ("RDNOISEE", within(number, 0.1, 1000)),
    ),
    "bias": (
        ("BIASLVL", within(number, 0, 1e6)),
        ("BIASLEVE", within(number, 0, 1e6)),
        ("BLKLEVEL", within(number, 1, 1e6)),
    ),
    "saturation": (
        ("SATURATE", within(number, 100, 1e9)),
        ("SATLEVEL", within(number, 100, 1e9)),
        ("SATURATI", within(number, 100, 1e9)),
        ("MAXLIN", within(number, 100, 1e9)),
        ("DATAMAX", ceiling),
    ),
    "filter": (
        ("FILTER", text),
        ("FILTNAM", text),
        ("FILTER1", text),
        ("INSFILTE", text),
        ("FILTERID", text),
        ("FILT", text),
        ("BAND", text),
    ),
    "wavelength": (("WAVELNTH", text),),
    "telescope": (("TELESCOP", text), ("OBSERVAT", text)),
    "instrument": (("INSTRUME", text), ("CAMERA", text), ("DETECTOR", text), ("CAMMODEL", text)),
    "serial": (("CAMSN", text), ("CAMID", text), ("SERIALNO", text), ("DETSERNO", text), ("SERNUM", text)),
    "unit": (("OBSERVER", text),),
    "object": (("FIELD", text), ("OBJECT", text), ("TARGNAME", text), ("OBJNAME", text)),
    "sequence": (("SEQID", text), ("SEQ_ID", text), ("OBSEQID", text)),
    "kind": (
        ("IMAGETYP", text),
        ("IMAGETYPE", text),
        ("OBSTYPE", text),
        ("FRAMETYP", text),
        ("FRAME", text),
        ("IMTYPE", text),
    ),
    "latitude": tuple(
        (k, within(sexagesimal, -90, 90))
        for k in ("LAT-OBS", "SITELAT", "OBSGEO-B", "OBSLAT", "GEOLAT", "LATITUDE", "SITE-LAT")
    ),
    "longitude": tuple(
        (k, within(sexagesimal, -360, 360))
        for k in (
            "LONG-OBS",
            "SITELONG",
            "OBSGEO-L",
            "OBSLONG",
            "GEOLON",
            "LONGITUD",
            "SITE-LON",
            "LONGITUDE",
        )
    ),
    "elevation": tuple(
        (k, within(number, -500, 9000))
        for k in ("ELEV-OBS", "SITEELEV", "OBSGEO-H", "OBSELEV", "GEOALT", "ALT-OBS", "ALTITUDE")
    ),
    "pixel_um": tuple((k, within(number, 0.1, 1000)) for k in ("XPIXSZ", "PIXSIZE1", "XPIXELSZ", "PIXSIZE")),
    "focal_mm": tuple((k, within(number, 1, 1e5)) for k in ("FOCALLEN", "FOCALLENGTH", "FOCAL")),
    "ra": tuple(
        (k, within(hour_angle, -360, 360)) for k in ("RA-MNT", "OBJCTRA", "CRVAL1", "RA", "TELRA", "RA_OBJ")
    ),
    "dec": tuple(
        (k, within(sexagesimal, -90, 90))
        for k in ("DEC-MNT", "OBJCTDEC", "CRVAL2", "DEC", "TELDEC", "DEC_OBJ")
    ),
}
"""Keywords of each quantity, best first, each with how its value is understood."""

KINDS: tuple[tuple[str, str], ...] = (
    (r"dark", "dark"),
    (r"bias|zero|offset", "bias"),
    (r"flat|dome|twilight", "flat"),
    (r"pointing|focus|acquisition", "pointing"),
)
"""Words in IMAGETYP and its like, and the kind of frame they mean; all else is a light frame."""

SETTING_NOT_GAIN = re.compile(
    r"ZWO|ASI\d|QHY|TOUPTEK|PLAYER ONE|ATIK HORIZON|SHARPCAP|N\.I\.N\.A|NINA|INDI|FIRECAPTURE", re.I
)
"""Cameras and programs that write a setting of the camera, not electrons per ADU, as GAIN."""

IMAGE_NAME = re.compile(r"20[1-9][0-9]*T[0-9]+")
"""How PANOPTES names the frames of an observation; its pointing frames have other names."""


CALIBRATION_NAME = r"(?:master)?[-_ ]?(dark|bias|flat)(?:e?s|[-_ ]?fields?|[-_ ]?frames?)?"
"""What frames without IMAGETYP are called when they are not of the sky."""


def _is_panoptes(header: fits.Header) -> bool:
    signed = "PANOPTES" in str(card(header, "ORIGIN")).upper() or str(
        card(header, "CREATOR")
    ).upper().startswith("POCS")
    return signed or all(key in header for key in ("SEQID", "IMAGEID", "RA-MNT"))


def _is_microobservatory(header: fits.Header) -> bool:
    return "MICROOBSERVATORY" in f"{card(header, 'CREATOR')} {card(header, 'REFERENC')}".upper()


PLAIN = Dialect("", lambda header: True)

DIALECTS: tuple[Dialect, ...] = (
    # 14 bits over a black of 2048; the clip lies between 13583 and 13863, so 13500 and more cannot be
    # trusted.
    Dialect("PANOPTES", _is_panoptes, Levels(1.5, 10.0, 2048.0, 13500.0), computer_clock=True),
    Dialect("MicroObservatory", _is_microobservatory, Levels(None, None, None, 4095.0), west_positive=True),
    PLAIN,
)
"""Families of cameras; the first that recognises the header."""


def dialect_of(header: fits.Header) -> Dialect:
    """The family of cameras that wrote a header."""
    return next(dialect for dialect in DIALECTS if dialect.recognise(header))


def find(header: fits.Header, quantity: str) -> tuple[Value | None, str]:
    """A quantity of `NAMES` and the keyword it was found under; None and an empty name where there is
    none.
    """
    for keyword, convert in NAMES[quantity]:
        raw = card(header, keyword)
        if raw is not None and (value := convert(raw)) is not None:
            return value, keyword
    return None, ""


def find_number(header: fits.Header, quantity: str) -> float | None:
    """A quantity of `NAMES` that is a number."""
    value, _ = find(header, quantity)
    return value if isinstance(value, float) else None


def find_text(header: fits.Header, quantity: str) -> str:
    """A quantity of `NAMES` that is text; empty where there is none."""
    value, _ = find(header, quantity)
    return value if isinstance(value, str) else ""


def levels(header: fits.Header, dialect: Dialect, dtype: np.dtype) -> Levels:
    """Gain, read noise, bias and saturation: the header's, else the dialect's, else what the type can
    hold.
    """
    known = dialect.levels
    gain, keyword = find(header, "gain")
    maker = " ".join(str(card(header, k)) for k in ("INSTRUME", "CAMERA", "SWCREATE", "CREATOR", "PROGRAM"))
    if keyword == "GAIN" and SETTING_NOT_GAIN.search(maker):
        gain = None
    saturation, source = find_number(header, "saturation"), "header"
    if not saturation:
        saturation, source = known.saturation_adu, "camera"
    if saturation is None and dtype.kind in "iu":
        saturation, source = float(np.iinfo(dtype).max), "type"
    return Levels(
        gain if isinstance(gain, float) else known.gain_e_adu,
        find_number(header, "read_noise") or known.read_noise_e,
        find_number(header, "bias") or known.bias_adu,
        saturation,
        source if saturation is not None else "",
    )


def mosaic(header: fits.Header, dialect: Dialect, ny: int) -> tuple[str, str]:
    """The colours of the mosaic in array order, and why.

    BAYERPAT is taken in array order from row 0; ``ROWORDER='BOTTOM-UP'`` says that it was written for the
    picture with its last row on top; XBAYROFF and YBAYROFF move it. PANOPTES has no BAYERPAT but
    ``FILTER='RGGB'``, which is the pattern as displayed with the origin at the bottom left, and so GBRG in
    array order.

    Returns
    -------
    pattern : str
        Such as ``GBRG``: (row 0, col 0), (0, 1), (1, 0), (1, 1); empty for a monochrome camera.
    reason : str
        One line for `info`.
    """
    for keyword in ("BAYERPAT", "COLORTYP", "CFAPAT", "BAYER", "BAYERPATTERN"):
        pattern = str(card(header, keyword) or "").upper().strip("'\" ")
        if pattern in PATTERNS:
            return _placed(pattern, keyword, header, ny)
    colours = str(card(header, "FILTER") or "").upper()
    if colours in PATTERNS:
        pattern = shift(colours, 0, 1)
        reason = f"FILTER={colours} without BAYERPAT is as displayed, origin at the bottom left"
        return pattern, f"{reason}: {pattern} in array order"
    if dialect.name == "PANOPTES" and card(header, "MEASRGGB") is not None:
        return "GBRG", "a PANOPTES DSLR (MEASRGGB): GBRG in array order"
    return "", "no BAYERPAT and no mosaic in FILTER: monochrome"


def shift(pattern: str, columns: int, rows: int) -> str:
    """The pattern seen from a pixel `columns` and `rows` further."""
    return "".join(pattern[2 * ((r + rows) % 2) + (c + columns) % 2] for r in (0, 1) for c in (0, 1))


def _placed(pattern: str, keyword: str, header: fits.Header, ny: int) -> tuple[str, str]:
    columns = int(number(card(header, "XBAYROFF")) or 0)
    rows = int(number(card(header, "YBAYROFF")) or 0)
    reason = f"{keyword}={pattern}"
    if columns or rows:
        reason += f", XBAYROFF={columns}, YBAYROFF={rows}"
    bottom_up = str(card(header, "ROWORDER") or "").upper().startswith("BOTTOM")
    if bottom_up:
        # Written for the picture with row ny - 1 on top: an even number of rows turns the pattern over.
        rows += ny - 1
        reason += ", ROWORDER=BOTTOM-UP"
    placed = shift(pattern, columns, rows)
    return (
        placed,
        f"{reason}: {placed} in array order"
        if placed != pattern or bottom_up
        else f"{reason}, in array order",
    )


def kind_of(header: fits.Header, folder: str, file: str, dialect: Dialect) -> str:
    """``light``, ``dark``, ``bias``, ``flat`` or ``pointing``: from the header, else from the names of file
    and folder.

    `folder` is the name of the folder the file lies in, `file` the file's own name.
    """
    said = find_text(header, "kind").lower()
    for words, kind in KINDS:
        if said and re.search(words, said):
            return kind
    stamped = str(card(header, "FILENAME") or "")
    if re.search(r"pointing", f"{file} {stamped} {card(header, 'IMAGEID')}", re.I):
        return "pointing"
    if (
        dialect.name == "PANOPTES"
        and stamped
        and not IMAGE_NAME.search(stamped)
        and not IMAGE_NAME.search(file)
    ):
        return "pointing"
    if not said:
        for pattern, name in (
            (CALIBRATION_NAME + "$", find_text(header, "object")),
            (CALIBRATION_NAME + "(?:[^a-z]|$)", file),
            (CALIBRATION_NAME + "$", folder),
        ):
            if match := re.match(pattern, name.lower()):
                return match.group(1)
    return "light"


def camera_of(header: fits.Header, dialect: Dialect) -> str:
    """A name for the camera that tells it from others."""
    instrument = find_text(header, "instrument")
    if dialect.name == "PANOPTES":
        return " ".join(filter(None, (find_text(header, "unit"), instrument or find_text(header, "serial"))))
    telescope = find_text(header, "telescope")
    if telescope.lower() in instrument.lower():
        return instrument
    return " ".join(filter(None, (telescope, instrument)))


def filter_of(header: fits.Header) -> str:
    """The filter's name; the wavelength where there is no filter."""
    return find_text(header, "filter") or find_text(header, "wavelength")


def longitude_of(header: fits.Header, dialect: Dialect) -> float | None:
    """Longitude of the site, degrees east, -180..180."""
    value = find_number(header, "longitude")
    if value is None:
        return None
    east = -value if dialect.west_positive and value > 0 else value
    return (east + 180.0) % 360.0 - 180.0

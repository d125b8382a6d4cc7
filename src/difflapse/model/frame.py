"""A frame: what its file says about it, and its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FrameFacts:
    """What one input file says about itself; read without its pixels, passed on everywhere.

    Header keywords never leave `difflapse.io`: the rest of the house knows a frame by these facts.
    """

    path: str
    """Where it is opened: an absolute path, or a URL."""
    file: str
    """POSIX path below the inputs' common root: the name used in tables and products."""
    hdu: int
    """Index of the HDU that holds the image (the compressed image HDU for ``.fz``)."""
    shape: tuple[int, int]
    """(ny, nx) of the image, in native pixels."""
    dtype: str = "uint16"
    """Type of the pixels after BZERO and BSCALE: ``uint16``, ``int16``, ``float32``, ..."""
    kind: str = "light"
    """``light``, ``dark``, ``bias``, ``flat`` or ``pointing``."""
    start_mjd: float | None = None
    """Start of the exposure, MJD (UTC); None if unknown."""
    exposure_s: float | None = None
    """Exposure time in seconds; None if unknown."""
    time_source: str = ""
    """Where the time came from: ``file name``, ``FILENAME``, ``DATE-OBS``, ...; empty if unknown."""
    gain_e_adu: float | None = None
    """Gain in electrons per ADU; None if unknown."""
    read_noise_e: float | None = None
    """Read noise in electrons; None if unknown."""
    bias_adu: float | None = None
    """Level of no light; None if unknown."""
    saturation_adu: float | None = None
    """Level at and above which a pixel is saturated; None if unknown."""
    saturation_source: str = ""
    """``header``; ``camera``, which is known to saturate there; ``type``, the most it can hold; empty if unknown."""
    mosaic: str = ""
    """Colours of the 2x2 mosaic in array order (row 0 col 0, row 0 col 1, row 1 col 0, row 1 col 1):
    ``GBRG``;
    empty for a monochrome camera."""
    camera: str = ""
    filter: str = ""
    object: str = ""
    sequence_id: str = ""
    """SEQID or its like; empty if there is none."""
    latitude_deg: float | None = None
    longitude_deg: float | None = None
    """Site, degrees north and east; None if unknown."""
    elevation_m: float | None = None
    """Site, metres above the sea; None if unknown."""
    wcs_header: str = ""
    """The celestial WCS as a FITS header string (``Header.tostring``); empty if there is none."""
    pointing: tuple[float, float] | None = None
    """Right ascension and declination that the mount or the observer wrote, degrees: a hint, which may be far off."""
    pixel_arcsec: float | None = None
    """Scale by pixel size and focal length: a hint; None if unknown."""
    plane: tuple[str, tuple[float, ...]] | None = None
    """A linear WCS that is not on the sky (the Sun's own coordinates, a detector's): the axes' names, and the
    six numbers of the 2x3 matrix, row by row, from 0-based native pixels to them; None if there is none."""
    white_balance: tuple[float, float, float] | None = None
    """Factors of R, G and B that the camera would show daylight white with, green 1; None if unknown."""
    notes: tuple[str, ...] = ()
    """What a reader of `frames.ecsv` should know: clock offsets, repaired cards, ..."""

    @property
    def mid_mjd(self) -> float | None:
        """Middle of the exposure, MJD (UTC); the start where the exposure is unknown; None without a time."""
        if self.start_mjd is None:
            return None
        return self.start_mjd + 0.5 * (self.exposure_s or 0.0) / 86400.0


@dataclass(frozen=True, eq=False)
class Frame:
    """The pixels of a frame as its camera gave them, unresampled.

    `data` has shape (ny, nx) and stays in the file's own small type (``uint16``) until arithmetic needs
    float; `mask` is True where a pixel is bad (BLANK, NaN), or None where all are good.
    """

    facts: FrameFacts
    data: np.ndarray
    mask: np.ndarray | None = None

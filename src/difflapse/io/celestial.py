"""The celestial WCS of a header: cleaned for keeping, and rewritten for binned products."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits

from difflapse.io.dialects import card, number
from difflapse.model import ProductGrid, TanSip

WCS_CARD = re.compile(
    r"WCSAXES|WCSNAME|RADESYS|EQUINOX|LONPOLE|LATPOLE|(?:CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA)[12]|(?:CD|PC)[12]_[12]|"
    r"PV[12]_\d{1,2}|PS[12]_\d{1,2}|(?:A|B|AP|BP)_(?:ORDER|DMAX|\d_\d)|WAT[012]_\d{3}"
)
_DISTORTION = r"PV\d_\d+|(?:A|B|AP|BP)_(?:ORDER|\d_\d)|PC\d_\d|CDELT\d|CROTA\d"
CELESTIAL = re.compile(r"(?:RA--|DEC-|[GE]LON|[GE]LAT|[A-Z]{2}LN|[A-Z]{2}LT)(?:-|$)")
NOT_SKY = re.compile(r"HP(?:LN|LT)|HGLN|HGLT|HCLN|HCLT|CRLN|CRLT|SOLAR")
"""The Sun's own coordinates: they move over the sky, and no star keeps a place in them."""

_Cards = dict[str, Any]
"""Keywords and values: a `Header` looks its settings up at every card."""


@dataclass(frozen=True)
class Sky:
    """Where a frame points, by its WCS."""

    header: str
    """Its WCS cards alone, as `Header.tostring` writes them; empty where there is no celestial WCS."""
    centre: tuple[float, float] | None = None
    """Right ascension and declination of the frame's centre, degrees ICRS."""
    width_deg: float = 0.0
    """The shorter side of the frame on the sky."""
    note: str = ""


def read_sky(headers: Iterable[fits.Header], shape: tuple[int, int]) -> Sky:
    """The celestial WCS of the first header that has one, with its usual mistakes repaired.

    Parameters
    ----------
    headers : iterable of Header
        The image's own header, then the primary; they are not mixed, for terms of two solutions make none.
    shape : (int, int)
        (ny, nx) of the image.

    Returns
    -------
    Sky
        Without header where no celestial WCS works; `note` says what was repaired or refused.
    """
    for header in headers:
        kinds = [str(card(header, f"CTYPE{i}") or "").upper() for i in (1, 2)]
        if all(CELESTIAL.match(kind) and not NOT_SKY.match(kind) for kind in kinds):
            return _checked(*_cleaned(header, shape), shape)
    return Sky("")


def read_plane(headers: Iterable[fits.Header]) -> tuple[str, tuple[float, ...]] | None:
    """A linear WCS that is not on the sky, such as ``Solar-X``: the axes' names, and the matrix from 0-based pixels.

    Returns
    -------
    (str, six floats) or None
        None without CTYPE, scale or reference pixel, and where the axes are celestial.
    """
    for header in headers:
        kinds = [str(card(header, f"CTYPE{i}") or "").strip().upper() for i in (1, 2)]
        if not all(kinds) or any(CELESTIAL.match(k) and not NOT_SKY.match(k) for k in kinds):
            continue
        middle = [number(card(header, f"CRPIX{i}")) for i in (1, 2)]
        value = [number(card(header, f"CRVAL{i}")) for i in (1, 2)]
        scale = [number(card(header, f"CDELT{i}")) for i in (1, 2)]
        if any(v is None for v in (*middle, *value)):
            continue
        has_matrix = any(f"CD{i}_{j}" in header for i in (1, 2) for j in (1, 2))
        if not has_matrix and any(not v for v in scale):
            continue
        matrix = _cd_matrix(header)
        if abs(np.linalg.det(matrix)) == 0:
            continue
        shift = np.array(value, float) - matrix @ (np.array(middle, float) - 1.0)
        full = np.column_stack([matrix, shift])
        return ",".join(kinds), tuple(float(v) for v in full.ravel())
    return None


def tan_sip_header(wcs: TanSip, shape: tuple[int, int]) -> str:
    """A TAN-SIP as header text, in the form that `FrameFacts.wcs_header` has.

    Parameters
    ----------
    wcs : TanSip
        Of any order up to 9.
    shape : (int, int)
        (ny, nx) of the image.

    Returns
    -------
    str
        Cards as `Header.tostring` writes them.
    """
    bent = wcs.order > 1
    header = fits.Header()
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, shape[1], shape[0]
    header["WCSAXES"] = 2
    for axis, name in ((1, "RA---TAN"), (2, "DEC--TAN")):
        header[f"CTYPE{axis}"] = name + ("-SIP" if bent else "")
        header[f"CUNIT{axis}"] = "deg"
        header[f"CRVAL{axis}"] = float(wcs.crval[axis - 1])
        header[f"CRPIX{axis}"] = float(wcs.crpix[axis - 1]) + 1.0
        for other in (1, 2):
            header[f"CD{axis}_{other}"] = float(wcs.cd[axis - 1, other - 1])
    header["RADESYS"] = "ICRS"
    for name, square in (("A", wcs.a), ("B", wcs.b), ("AP", wcs.ap), ("BP", wcs.bp)) if bent else ():
        header[f"{name}_ORDER"] = len(square) - 1
        for (p, q), value in np.ndenumerate(square):
            if value:
                header[f"{name}_{p}_{q}"] = float(value)
    return header.tostring()


def native_wcs_header(product: fits.Header, grid: ProductGrid) -> str:
    """The WCS of native pixels from that of a product: the inverse of `binned_wcs_header`.

    Parameters
    ----------
    product : Header
        Of a product image, with planes or without.
    grid : ProductGrid
        Where its pixels lie on the native ones.

    Returns
    -------
    str
        As `FrameFacts.wcs_header`; empty where the product has none.
    """
    letter = "A" if "CTYPE1A" in product else ""  # with planes the exact one, distortion and all
    own = fits.Header()
    for key in product:
        if key.endswith(letter) and WCS_CARD.fullmatch(key.removesuffix(letter)):
            own[key.removesuffix(letter)] = product[key]
    if "CTYPE1" not in own:
        return ""
    ny, nx = (round(grid.origin[1 - i]) + grid.shape[i] * grid.step for i in (0, 1))
    header, _ = _cleaned(own, (ny, nx))
    before = (-grid.origin[0] / grid.step, -grid.origin[1] / grid.step)
    return binned_wcs_header(header.tostring(), 1 / grid.step, before, (ny, nx)).tostring()


def binned_wcs_header(
    wcs_header: str, factor: float, origin: tuple[float, float], shape: tuple[int, int], planes: int = 0
) -> fits.Header:
    """The WCS of an image cropped and binned from native pixels.

    Pixel i of the product (0-based, centre) lies at native ``factor * i + (factor - 1) / 2 + origin``. Linear
    terms and SIP polynomials are rescaled exactly. With `planes`, a linear third axis is added. astropy refuses
    SIP beside a third axis, so such a header has the nearest undistorted projection, and on top of it the same
    polynomial once more in the terms that its library (wcslib) takes with any number of axes: ``CQDISi = 'TPD'``
    (draft of FITS WCS paper IV). What does not know them sees the undistorted one. The exact WCS is also there as
    WCS ``A``, in TPV terms.

    Parameters
    ----------
    wcs_header : str
        As `FrameFacts.wcs_header`; an empty one gives an empty header.
    factor : float
        Native pixels along the side of a product pixel: 2 for superpixels, 1 for a crop.
    origin : (float, float)
        Native (x, y) of the crop's first pixel.
    shape : (int, int)
        (ny, nx) of the product.
    planes : int
        Length of a third axis; 0 for none.

    Returns
    -------
    Header
        WCS cards alone.
    """
    header = fits.Header.fromstring(wcs_header) if wcs_header else fits.Header()
    if not header:
        return header
    for axis in (1, 2):
        header[f"CRPIX{axis}"] = (
            header.get(f"CRPIX{axis}", 0.0) - 1 - origin[axis - 1] - (factor - 1) / 2
        ) / factor + 1
    linear = [f"CD{i}_{j}" for i in (1, 2) for j in (1, 2) if f"CD{i}_{j}" in header] or ["CDELT1", "CDELT2"]
    for key in linear:
        header[key] = header.get(key, 1.0) * factor
    for key in [key for key in header if re.fullmatch(r"(?:A|B|AP|BP)_\d_\d", key)]:
        header[key] *= float(factor) ** (int(key[-3]) + int(key[-1]) - 1)
    for key in [key for key in header if re.fullmatch(r"(?:A|B|AP|BP)_DMAX", key)]:
        del header[key]
    header["NAXIS1"], header["NAXIS2"] = shape[1], shape[0]
    return _with_planes(header, planes) if planes else header


def _cleaned(header: fits.Header, shape: tuple[int, int]) -> tuple[fits.Header, list[str]]:
    notes: list[str] = []
    clean: _Cards = {"NAXIS": 2, "NAXIS1": shape[1], "NAXIS2": shape[0]}
    for key in dict.fromkeys(header.keys()):
        if WCS_CARD.fullmatch(key) and (value := card(header, key)) is not None:
            clean[key] = value
    clean["WCSAXES"] = 2
    for key in list(clean):
        if re.match(r"CRVAL|CRPIX|CDELT|CROTA|CD\d|PC\d|PV|LONPOLE|LATPOLE|[AB]P?_", key):
            value = number(clean[key])
            if value is None:
                del clean[key]
            elif isinstance(clean[key], str):
                clean[key] = int(value) if key.endswith("_ORDER") else value
    _repair_equinox(clean, header, notes)
    kinds = [str(clean[f"CTYPE{i}"]).upper().strip() for i in (1, 2)]
    if "A_ORDER" in clean and "B_ORDER" in clean and not any(kind.endswith("-SIP") for kind in kinds):
        if all(kind.endswith("TAN") for kind in kinds):
            clean["CTYPE1"], clean["CTYPE2"] = (kind + "-SIP" for kind in kinds)
            notes.append("wcs: SIP terms are used though CTYPE lacks -SIP")
    elif any(kind.endswith("-SIP") for kind in kinds) and not ("A_ORDER" in clean and "B_ORDER" in clean):
        clean["CTYPE1"], clean["CTYPE2"] = (kind.removesuffix("-SIP") for kind in kinds)
        notes.append("wcs: CTYPE says SIP but there are no SIP terms")
    if any(kind.endswith("-TAN") for kind in kinds) and any(
        re.fullmatch(r"PV2_\d+|PV1_(?:[05-9]|\d\d)", key) for key in clean
    ):
        # SCAMP wrote TPV polynomials under RA---TAN before TPV had a name.
        clean["CTYPE1"], clean["CTYPE2"] = (kind.removesuffix("-TAN") + "-TPV" for kind in kinds)
        notes.append("wcs: PV terms with TAN are read as TPV")
    return fits.Header(clean.items()), notes


def _repair_equinox(clean: _Cards, header: fits.Header, notes: list[str]) -> None:
    raw = card(header, "EQUINOX") or card(header, "EPOCH")
    year = number(str(raw).upper().lstrip("JB")) if raw is not None else None
    if "EQUINOX" in clean and not isinstance(clean["EQUINOX"], int | float):
        del clean["EQUINOX"]
        notes.append(f"wcs: EQUINOX {str(raw)!r} read as {year or 2000.0}")
    if "RADESYS" not in clean and str(clean["CTYPE1"]).startswith(("RA", "DEC")):
        clean["EQUINOX"] = year if year and 1800 < year < 2200 else 2000.0


def _checked(clean: fits.Header, notes: list[str], shape: tuple[int, int]) -> Sky:
    from astropy.wcs import WCS
    from astropy.wcs.utils import proj_plane_pixel_scales

    ny, nx = shape
    scaled = any(re.match(r"CD\d|CDELT", key) for key in clean)
    if not scaled or abs(np.linalg.det(_cd_matrix(clean))) == 0:
        return Sky("", note="wcs: has no scale, and is not used")
    try:
        wcs = WCS(clean)
        if not wcs.has_celestial:
            return Sky("", note="wcs: not on the sky, and not used")
        centre = wcs.all_pix2world([[0.5 * (nx - 1), 0.5 * (ny - 1)]], 0)[0]
        scales = proj_plane_pixel_scales(wcs)  # there are no other axes
    except Exception as error:
        # wcslib has a dozen exceptions for headers that make no sense; none of them may stop a night.
        return Sky("", note=f"wcs: does not work and is not used ({' '.join(str(error).split())[:80]})")
    if not np.all(np.isfinite(centre)) or not np.all(np.isfinite(scales)) or min(scales) <= 0:
        return Sky("", note="wcs: undefined at the frame's centre, and not used")
    lon, lat = (centre[0], centre[1]) if wcs.wcs.lng == 0 else (centre[1], centre[0])
    return Sky(
        clean.tostring(),
        (float(lon), float(lat)),
        float(min(nx * scales[0], ny * scales[1])),
        "; ".join(notes),
    )


def _with_planes(header: fits.Header, planes: int) -> fits.Header:
    result = header.copy()
    terms: list[dict[int, float]] = []
    if "A_ORDER" in header:
        result, terms = _sip_as_terms(header)
    elif str(header["CTYPE1"]).endswith("-TPV"):
        result, terms = _split_tpv(header)
    second: dict[str, str | int | float] = {}
    if terms:
        second = {k + "A": v for k, v in result.items() if not k.startswith(("NAXIS", "WCSNAME"))}
        for i in (1, 2):
            second[f"CTYPE{i}A"] = str(result[f"CTYPE{i}"])[:5] + "TPV"
            second.update({f"PV{i}_{k}A": value for k, value in terms[i - 1].items()})
        second["WCSNAMEA"] = "with distortion"
    matrix = any(re.fullmatch(r"CD[12]_[12]", key) for key in result)
    result["NAXIS"], result["WCSAXES"], result["NAXIS3"] = 3, 3, planes
    result["CTYPE3"], result["CRPIX3"], result["CRVAL3"] = "PLANE", 1.0, 1.0
    result["CD3_3" if matrix else "CDELT3"] = 1.0
    # The number of axes goes before what describes them.
    result.insert(0, ("WCSAXES", result.pop("WCSAXES")))
    if terms:
        # wcslib copies distortions only where every axis has one, so the planes get one that does nothing.
        for i, (axes, own) in enumerate((((1, 2), terms[0]), ((2, 1), terms[1]), ((3,), {1: 1.0})), start=1):
            result[f"CQDIS{i}"] = ("TPD", "distortion, FITS WCS paper IV")
            records = ["DOCORR: 0", f"NAXES: {len(axes)}"]
            records += [f"AXIS.{n}: {axis}" for n, axis in enumerate(axes, start=1)]
            records += [f"TPD.FWD.{k}: {value!r}" for k, value in own.items()]
            for record in records:
                result.append(fits.Card(f"DQ{i}", record), end=True)
    for key, value in second.items():
        result[key] = value
    return result


def _sip_as_terms(header: fits.Header) -> tuple[fits.Header, list[dict[int, float]]]:
    """The nearest projection without distortion, and what turns its plane into the exact one: TPV's terms."""
    from astropy.wcs import WCS

    plane = _without(header, _DISTORTION)
    for i in (1, 2):
        plane[f"CTYPE{i}"] = str(header[f"CTYPE{i}"])[:5] + "TAN"
    result = plane.copy()
    for i in (1, 2):
        plane[f"CRPIX{i}"] = 0.0
        for j in (1, 2):
            plane[f"CD{i}_{j}"] = float(i == j)
    order = max(int(header["A_ORDER"]), int(header["B_ORDER"]))
    rows = np.linspace(1, header["NAXIS2"], 25)
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(1, header["NAXIS1"], 25), rows))
    there = WCS(plane).wcs_world2pix(WCS(header).all_pix2world(np.column_stack([x, y]), 1), 1)
    line, *_ = np.linalg.lstsq(np.column_stack([x, y, np.ones_like(x)]), there, rcond=None)
    cd = line[:2].T
    result["CRPIX1"], result["CRPIX2"] = (float(v) for v in -np.linalg.solve(cd, line[2]))
    for i in (1, 2):
        for j in (1, 2):
            result[f"CD{i}_{j}"] = float(cd[i - 1, j - 1])
    near = np.column_stack([x, y, np.ones_like(x)]) @ line
    size = float(np.abs(near).max())
    powers = [(n - j, j) for n in range(order + 1) for j in range(n + 1)]
    terms = []
    for axis in (0, 1):
        # Each axis has its own coordinate first.
        own, other = near[:, axis] / size, near[:, 1 - axis] / size
        basis = np.column_stack([own**p * other**q for p, q in powers])
        values = np.linalg.lstsq(basis, there[:, axis], rcond=None)[0]
        # Terms are numbered by degree, with a place left for r after each odd one: 0; 1 2 (3); 4 5 6; 7-10 (11); ...
        terms.append(
            {
                n + (p + q) // 2: float(value / size ** (p + q))
                for n, ((p, q), value) in enumerate(zip(powers, values, strict=True))
            }
        )
    return result, terms


def _split_tpv(header: fits.Header) -> tuple[fits.Header, list[dict[int, float]]]:
    """A TPV header as its linear part and its terms."""
    result = _without(header, r"PV[12]_\d+")
    terms = []
    for i in (1, 2):
        result[f"CTYPE{i}"] = str(header[f"CTYPE{i}"])[:5] + "TAN"
        found = {int(k[4:]): float(header[k]) for k in header if re.fullmatch(rf"PV{i}_\d+", k)}
        terms.append({1: 1.0, **found})
    return result, terms


def _without(header: fits.Header, pattern: str) -> fits.Header:
    return fits.Header([c for c in header.copy().cards if not re.fullmatch(pattern, c.keyword)])


def _cd_matrix(header: fits.Header) -> np.ndarray:
    if any(f"CD{i}_{j}" in header for i in (1, 2) for j in (1, 2)):
        return np.array([[header.get(f"CD{i}_{j}", 0.0) for j in (1, 2)] for i in (1, 2)], float)
    pc = np.array([[header.get(f"PC{i}_{j}", float(i == j)) for j in (1, 2)] for i in (1, 2)], float)
    return np.diag([header.get("CDELT1", 1.0), header.get("CDELT2", 1.0)]) @ pc

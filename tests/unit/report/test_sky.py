"""The page's form of a WCS against astropy, for projections of every kind that cameras' headers have."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from difflapse.report import sky_record

SHAPE = (870, 1300)


def header(projection: str, **more: float | str) -> fits.Header:
    out = fits.Header({"WCSAXES": 2, "CRPIX1": 700.3, "CRPIX2": 401.9, "CRVAL1": 0.4, "CRVAL2": -62.0})
    out["CTYPE1"], out["CTYPE2"] = f"RA---{projection}", f"DEC--{projection}"
    out["CD1_1"], out["CD1_2"], out["CD2_1"], out["CD2_2"] = -2.8e-3, 3e-4, 4e-4, 2.9e-3
    for key, value in more.items():
        out[key] = value
    return out


def by_record(record: dict, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the page computes, in numpy."""
    u, v = x - record["crpix"][0], y - record["crpix"][1]
    f = u + sum(c * u**p * v**q for p, q, c in record["a"])
    g = v + sum(c * u**p * v**q for p, q, c in record["b"])
    xi, eta = np.radians(np.array(record["cd"]) @ np.stack([f, g]))
    ra0, dec0 = np.radians(record["crval"])
    down = np.cos(dec0) - eta * np.sin(dec0)
    dec = np.arctan2(np.sin(dec0) + eta * np.cos(dec0), np.hypot(xi, down))
    return np.degrees(ra0 + np.arctan2(xi, down)) % 360, np.degrees(dec)


@pytest.mark.parametrize(
    ("cards", "within"),
    [
        (header("TAN"), 1e-6),
        (header("TAN-SIP", A_ORDER=3, B_ORDER=3, A_2_0=2e-5, A_1_2=3e-9, B_0_2=-3e-5, B_1_1=1e-5), 1e-6),
        (header("ZEA"), 0.05),
        (header("TPV", PV1_1=1.0, PV1_4=0.004, PV2_1=1.0, PV2_5=-0.003), 0.05),
        (header("TAN", RADESYS="FK4", EQUINOX=1950.0), 0.05),
    ],
    ids=["TAN", "TAN-SIP", "ZEA", "TPV", "B1950"],
)
def test_it_agrees_with_astropy(cards: fits.Header, within: float) -> None:
    record = sky_record(cards.tostring(), SHAPE)
    assert record is not None
    rng = np.random.default_rng(2)
    x, y = rng.uniform(0, SHAPE[1], 200), rng.uniform(0, SHAPE[0], 200)
    wcs = WCS(cards)
    truth = wcs.pixel_to_world(x, y).icrs
    ra, dec = by_record(record, x, y)
    off = np.hypot((ra - truth.ra.deg + 180) % 360 - 180, (dec - truth.dec.deg) / np.cos(np.radians(62)))
    assert np.max(off * np.cos(np.radians(62))) / 2.8e-3 < within, "pixels"


def test_without_a_sky_there_is_none() -> None:
    assert sky_record("", SHAPE) is None
    allsky = header("ARC")
    for key in ("CD1_1", "CD1_2", "CD2_1", "CD2_2"):
        allsky[key] *= 60  # 230 degrees across: no tangent plane holds it
    assert sky_record(allsky.tostring(), SHAPE) is None

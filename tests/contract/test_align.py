"""Every alignment method is asked the same questions."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from difflapse.align.view import AlignOptions, Reduced, View
from difflapse.errors import AlignError
from difflapse.methods import find_method
from difflapse.model import Alignment, FrameFacts, Stars

SHAPE = (520, 760)
STEP, OFFSET = 2.0, 0.5
METHODS = ("wcs", "asterism", "features", "phase", "auto")
NOISE = 0.08


def scene(shift: tuple[float, float], angle: float = 0.0, empty: bool = False, seed: int = 11) -> View:
    """A frame of a sky of stars and gas: frame (x, y) = reference (x, y) turned + shift."""
    rng = np.random.default_rng(seed)
    n = 260
    sx, sy = rng.uniform(-300, 1060, n), rng.uniform(-300, 820, n)
    flux = 300 * rng.uniform(0.02, 1, n) ** -1.0
    own = np.random.default_rng(int(1000 * abs(shift[0])) + 1)
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    cx, cy = SHAPE[1] / 2, SHAPE[0] / 2
    x = cx + c * (sx - cx) - s * (sy - cy) + shift[0]
    y = cy + s * (sx - cx) + c * (sy - cy) + shift[1]
    facts = FrameFacts("", "f", 0, SHAPE, wcs_header="" if empty else header(shift, angle))
    ny, nx = int(SHAPE[0] / STEP), int(SHAPE[1] / STEP)
    mask = np.zeros((ny, nx), bool)
    mask[40:44, 60:64] = True
    if empty:
        flat = np.zeros((ny, nx), np.float32)
        return View(facts, Stars.empty(), lambda: Reduced(flat, mask, STEP, OFFSET))
    on = (x > 2) & (y > 2) & (x < SHAPE[1] - 3) & (y < SHAPE[0] - 3)
    keep = np.flatnonzero(on)[np.argsort(-flux[on])]
    m = len(keep)
    stars = Stars(
        x[keep] + own.normal(0, NOISE, m),
        y[keep] + own.normal(0, NOISE, m),
        flux[keep],
        np.full(m, 30.0),
        np.full(m, 3.0),
        flux[keep][None],
        np.zeros(m, bool),
    )
    gy, gx = np.mgrid[0:ny, 0:nx].astype(float)
    px, py = gx * STEP + OFFSET, gy * STEP + OFFSET
    ux = cx + c * (px - shift[0] - cx) + s * (py - shift[1] - cy)
    uy = cy - s * (px - shift[0] - cx) + c * (py - shift[1] - cy)
    image = own.normal(0, 1.0, (ny, nx))
    for k in range(12):
        wave = np.random.default_rng(k)
        kx, ky, phase = wave.uniform(-0.15, 0.15), wave.uniform(-0.15, 0.15), wave.uniform(0, 6.28)
        image += 3.0 * np.sin(kx * ux + ky * uy + phase)
    for a, b, f in zip(x[keep], y[keep], flux[keep], strict=True):
        i, j = (a - OFFSET) / STEP, (b - OFFSET) / STEP
        image += f / 10 * np.exp(-0.5 * ((gx - i) ** 2 + (gy - j) ** 2) / 0.8**2)
    data = image.astype(np.float32)
    data[mask] = 1e6
    return View(facts, stars, lambda: Reduced(data, mask, STEP, OFFSET))


def header(shift: tuple[float, float], angle: float) -> str:
    """A tangential WCS that moves and turns with the scene."""
    from astropy.io import fits

    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    scale = 10.3 / 3600
    cards = {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": 243.7,
        "CRVAL2": 33.0,
        "CRPIX1": SHAPE[1] / 2 + shift[0] + 1,
        "CRPIX2": SHAPE[0] / 2 + shift[1] + 1,
        "CD1_1": -scale * c,
        "CD1_2": -scale * s,
        "CD2_1": -scale * s,
        "CD2_2": scale * c,
        "CUNIT1": "deg",
        "CUNIT2": "deg",
    }
    return str(fits.Header(cards).tostring())


@pytest.fixture(scope="module")
def reference() -> View:
    return scene((0.0, 0.0))


def error_of(result: Alignment, shift: tuple[float, float], angle: float) -> float:
    gx, gy = (g.ravel() for g in np.meshgrid(np.linspace(80, 680, 7), np.linspace(80, 440, 5)))
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    cx, cy = SHAPE[1] / 2, SHAPE[0] / 2
    dx, dy = gx - shift[0] - cx, gy - shift[1] - cy
    tx, ty = cx + c * dx + s * dy, cy - s * dx + c * dy
    fx, fy = result.transform(gx, gy)
    return float(np.sqrt(np.mean((fx - tx) ** 2 + (fy - ty) ** 2)))


def ask(method: str) -> Callable[[View, View, AlignOptions], Alignment]:
    return find_method("align", method)


@pytest.mark.parametrize("method", METHODS)
def test_a_known_shift_is_recovered_with_its_sign(method: str, reference: View) -> None:
    shift = (37.3, -21.8)
    result = ask(method)(scene(shift), reference, AlignOptions())
    # Stars, headers: the error of a few parameters from a hundred stars. Pixels: a tenth of a reduced one.
    assert error_of(result, shift, 0.0) < (0.2 if method == "phase" else 0.05)
    assert result.method == ("wcs" if method == "auto" else method)
    assert result.n_matched >= 6
    assert 0 < result.rms_pix < 0.6


@pytest.mark.parametrize("method", [m for m in METHODS if m != "phase"])
@pytest.mark.parametrize("angle", [11.7, 180.0])
def test_a_known_rotation_is_recovered(method: str, angle: float, reference: View) -> None:
    shift = (8.6, 14.3)
    result = ask(method)(scene(shift, angle), reference, AlignOptions())
    assert error_of(result, shift, angle) < 0.08


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_field_is_refused_by_name(method: str, reference: View) -> None:
    with pytest.raises(AlignError) as caught:
        ask(method)(scene((0.0, 0.0), empty=True), reference, AlignOptions())
    facts = caught.value.facts
    assert facts["method"] == method
    assert facts["found"] < facts["needed"]  # type: ignore[operator]
    if method == "auto":
        assert len(facts["refused"]) == 4  # type: ignore[arg-type]


@pytest.mark.parametrize("method", [m for m in METHODS if m != "wcs"])
def test_another_sky_is_refused(method: str, reference: View) -> None:
    other = scene((0.0, 0.0), seed=12)
    dark = other.picture()
    noise = np.random.default_rng(3).normal(0, 1, dark.data.shape).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 3.0) * 30
    facts = FrameFacts("", "f", 0, SHAPE)
    unlike = View(facts, other.stars, lambda: Reduced(noise, dark.mask, STEP, OFFSET))
    with pytest.raises(AlignError):
        ask(method)(unlike, reference, AlignOptions())


@pytest.mark.parametrize("method", METHODS)
def test_same_input_same_output_and_inputs_untouched(method: str, reference: View) -> None:
    frame = scene((5.4, 3.1))
    before = (frame.stars.xy.copy(), frame.picture().data.copy(), reference.picture().data.copy())
    one = ask(method)(frame, reference, AlignOptions())
    two = ask(method)(frame, reference, AlignOptions())
    assert np.array_equal(one.transform.matrix, two.transform.matrix)
    assert (one.rms_pix, one.n_matched, one.note) == (two.rms_pix, two.n_matched, two.note)
    after = (frame.stars.xy, frame.picture().data, reference.picture().data)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_the_reference_on_itself_is_the_identity(method: str, reference: View) -> None:
    result = ask(method)(reference, reference, AlignOptions())
    assert error_of(result, (0.0, 0.0), 0.0) < 0.05


@pytest.mark.parametrize("method", ["asterism", "features", "auto"])
def test_the_model_asked_for_is_used(method: str, reference: View) -> None:
    result = ask(method)(scene((5.4, 3.1)), reference, AlignOptions(transform="affine"))
    assert result.transform.model == "affine"


@pytest.mark.parametrize("detector", ["orb", "akaze", "sift"])
def test_every_detector_works_without_stars(detector: str, reference: View) -> None:
    frame = scene((37.3, -21.8), 4.0)
    bare, base = (View(FrameFacts("", "f", 0, SHAPE), Stars.empty(), v.picture) for v in (frame, reference))
    result = ask("features")(bare, base, AlignOptions(detector=detector))
    assert error_of(result, (37.3, -21.8), 4.0) < 0.6
    assert "tiles" in result.note

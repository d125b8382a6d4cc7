"""`auto`: what is tried, in what order, and what is refused and why."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from astropy.io import fits

from difflapse.align.chain import auto
from difflapse.align.view import AlignOptions, Reduced, View
from difflapse.errors import AlignError
from difflapse.model import FrameFacts, Stars

SHAPE = (600, 900)


def header(dx: float) -> str:
    scale = 10.3 / 3600
    cards = {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": 243.7,
        "CRVAL2": 33.0,
        "CRPIX1": 450.0 + dx,
        "CRPIX2": 300.0,
        "CD1_1": -scale,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": scale,
    }
    return str(fits.Header(cards).tostring())


def view(dx: float, wcs_dx: float | None = None, hot: int = 0, n: int = 150, texture: float = 0.0) -> View:
    """Stars and texture moved by `dx` in x, a header that says `wcs_dx`, hot pixels that stay."""
    rng = np.random.default_rng(2)
    x, y, flux = rng.uniform(50, 850, n), rng.uniform(20, 580, n), rng.uniform(100, 900, n)
    hx, hy = rng.integers(0, 900, hot).astype(float), rng.integers(0, 600, hot).astype(float)
    own = np.random.default_rng(int(abs(dx) * 10) + 5)
    x = np.concatenate([x + dx + own.normal(0, 0.07, n), hx])
    y = np.concatenate([y + own.normal(0, 0.07, n), hy])
    f = np.concatenate([flux, np.full(hot, 2000.0)])
    order = np.argsort(-f, kind="stable")
    m = n + hot
    stars = Stars(
        x[order], y[order], f[order], np.full(m, 40.0), np.full(m, 2.5), f[order][None], np.zeros(m, bool)
    )
    facts = FrameFacts("", "f", 0, SHAPE, wcs_header="" if wcs_dx is None else header(wcs_dx))

    def picture() -> Reduced:
        cloud = cv2.GaussianBlur(
            np.random.default_rng(9).normal(0, 1, (300, 700)).astype(np.float32), (0, 0), 3
        )
        data = texture * 50 * cloud[:, 100 - round(dx / 2) : 550 - round(dx / 2)]
        data = data + own.normal(0, 1.0, data.shape).astype(np.float32)
        return Reduced(data.astype(np.float32), np.zeros(data.shape, bool), 2.0, 0.5)

    return View(facts, stars, picture)


def test_a_good_header_is_refined_on_the_stars() -> None:
    result = auto(view(12.4, wcs_dx=11.2), view(0.0, wcs_dx=0.0), AlignOptions())
    assert result.method == "wcs"
    assert result.note.startswith(f"refined on {result.n_matched} stars")
    assert float(result.transform(450.0, 300.0)[0]) == pytest.approx(437.6, abs=0.03)


def test_a_header_that_did_not_follow_the_sky_is_refused_with_numbers() -> None:
    result = auto(view(52.4, wcs_dx=0.0), view(0.0, wcs_dx=0.0), AlignOptions())
    assert result.method == "asterism"
    assert float(result.transform(450.0, 300.0)[0]) == pytest.approx(397.6, abs=0.03)
    assert result.refused[0].startswith("wcs: ")
    assert any(c.isdigit() for c in result.refused[0])


def test_hot_pixels_do_not_confirm_such_a_header() -> None:
    result = auto(view(52.4, wcs_dx=0.0, hot=60), view(0.0, wcs_dx=0.0, hot=60), AlignOptions())
    assert float(result.transform(450.0, 300.0)[0]) == pytest.approx(397.6, abs=0.03)
    assert len(result.refused) == 2


def test_without_stars_the_pixels_decide() -> None:
    pair = [view(dx, n=3, texture=1.0) for dx in (24.0, 0.0)]
    result = auto(pair[0], pair[1], AlignOptions())
    assert result.method in ("features", "phase")
    assert float(result.transform(450.0, 300.0)[0]) == pytest.approx(426.0, abs=0.3)
    assert [line.split(":")[0] for line in result.refused[:2]] == ["wcs", "asterism"]


def test_a_header_is_confirmed_by_pixels_where_there_are_no_stars() -> None:
    pair = [view(dx, wcs_dx=dx, n=3, texture=1.0) for dx in (24.0, 0.0)]
    result = auto(pair[0], pair[1], AlignOptions())
    assert result.method == "wcs"
    assert "none fitted" in result.note


@pytest.mark.parametrize(
    ("wanted", "model"), [("auto", "affine"), ("shift", "shift"), ("similarity", "similarity")]
)
def test_a_header_without_stars_gives_the_transform_asked_for(wanted: str, model: str) -> None:
    pair = [view(dx, wcs_dx=dx, n=3, texture=1.0) for dx in (24.0, 0.0)]
    result = auto(pair[0], pair[1], AlignOptions(transform=wanted))
    assert (result.method, result.transform.model) == ("wcs", model)
    assert float(result.transform(450.0, 300.0)[0]) == pytest.approx(426.0, abs=0.01)


def test_nothing_in_common_names_every_refusal() -> None:
    other = view(0.0, texture=1.0)
    flipped = replace(
        other.stars,
        x=np.random.default_rng(77).uniform(0, 899, 150),
        y=np.random.default_rng(78).uniform(0, 599, 150),
    )
    noise = Reduced(
        np.random.default_rng(1).normal(0, 1, (300, 450)).astype(np.float32),
        np.zeros((300, 450), bool),
        2.0,
        0.5,
    )
    with pytest.raises(AlignError) as caught:
        auto(View(other.facts, flipped, lambda: noise), other, AlignOptions())
    for name in ("wcs", "asterism", "features", "phase"):
        assert f"{name}: " in str(caught.value)
    assert caught.value.facts["needed"] == 6

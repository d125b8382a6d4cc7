"""A TAN-SIP from catalogue stars and from many headers: exact, of the order it needs, not led astray."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from difflapse.align.fit import fit_transform
from difflapse.align.sky import combine_headers, refine_on_catalogue, to_tangent
from difflapse.align.view import View
from difflapse.errors import AlignError
from difflapse.io.celestial import read_sky, tan_sip_header
from difflapse.model import FrameFacts, Stars
from difflapse.synth.geometry import Geometry, Lens, rotation, unit_vectors
from difflapse.synth.header import PlateSolution, plate_solution

SHAPE = (870, 1300)
NY, NX = SHAPE
GX, GY = (g.ravel() for g in np.meshgrid(np.linspace(0, NX - 1, 13), np.linspace(0, NY - 1, 9)))
DOMAIN = (0.0, 0.0, NX - 1.0, NY - 1.0)


def camera(shift: float = 0.0, lens: Lens | None = None) -> Geometry:
    """A wide camera at 52 degrees from the zenith; `shift` turns it, in pixels at the middle."""
    axis, north = unit_vectors(243.0, 36.0), unit_vectors(243.0, 90.0)
    x = np.cross(axis, north)
    x /= np.linalg.norm(x)
    rows = np.array([x, np.cross(axis, x), axis])
    lens = lens or Lens(scale_arcsec=40.0)
    turn = rotation(rows[1], np.radians(shift * lens.scale_arcsec / 3600)) @ rotation(axis, 0.3)
    return Geometry(SHAPE, lens, rows @ turn.T, unit_vectors(180.0, 20.0), 1.0)


def header_of(geometry: Geometry, seed: int = 0, **plate: float) -> str:
    cards = plate_solution(geometry, PlateSolution(**plate), np.random.default_rng(seed))
    return read_sky([fits.Header(cards)], SHAPE).header


def seen(
    geometry: Geometry, n: int, noise: float, rng: np.random.Generator
) -> tuple[View, np.ndarray, np.ndarray]:
    """A frame of n stars with a positional error, and their true places on the sky."""
    x, y = rng.uniform(0, NX - 1, n), rng.uniform(0, NY - 1, n)
    ra, dec = geometry.pixel_to_sky(x, y)
    flux = np.sort(rng.uniform(1e3, 1e5, n))[::-1]
    snr = np.full(n, 0.6 * 2.0 / noise)
    stars = Stars(
        x + rng.normal(0, noise, n),
        y + rng.normal(0, noise, n),
        flux,
        snr,
        np.full(n, 2.0),
        flux[None],
        flux < 0,
    )
    facts = FrameFacts("", "f", 0, SHAPE)
    return View(facts, stars, lambda: pytest.fail("pixels are not looked at")), ra, dec


def off(header: str, geometry: Geometry) -> np.ndarray:
    """How far a header's sky lies from the truth, px, over the frame."""
    x, y = geometry.sky_to_pixel(*WCS(fits.Header.fromstring(header)).all_pix2world(GX, GY, 0))
    return np.hypot(x - GX, y - GY)


def test_a_fit_to_catalogue_stars_is_as_exact_as_they_are() -> None:
    geometry, rng = camera(), np.random.default_rng(1)
    view, ra, dec = seen(geometry, 600, 0.05, rng)
    guess = header_of(geometry)
    assert off(guess, geometry).max() > 0.5
    fit = refine_on_catalogue(view, None, guess, ra, dec)
    assert 3 <= fit.wcs.order <= 5
    assert fit.n > 570
    # Two coordinates of 0.05 px, and the catalogue without error.
    assert 0.9 * 0.0707 < fit.rms_pix < 1.15 * 0.0707
    away = off(tan_sip_header(fit.wcs, SHAPE), geometry)
    # sigma sqrt(terms / stars) for two coordinates is 0.0107 px; at corners five times that.
    assert np.sqrt(np.mean(away**2)) < 0.02
    assert away.max() < 0.08


def test_the_header_means_the_same_to_astropy_both_ways() -> None:
    geometry = camera()
    view, ra, dec = seen(geometry, 600, 0.01, np.random.default_rng(2))
    fit = refine_on_catalogue(view, None, header_of(geometry), ra, dec)
    wcs, record = WCS(fits.Header.fromstring(tan_sip_header(fit.wcs, SHAPE))), fit.wcs
    lon, lat = wcs.all_pix2world(GX, GY, 0)
    u, v = GX - record.crpix[0], GY - record.crpix[1]
    value = np.polynomial.polynomial.polyval2d
    bent = record.cd @ np.array([u + value(u, v, record.a), v + value(u, v, record.b)])
    np.testing.assert_allclose(to_tangent(lon, lat, record.crval), bent, atol=1e-10)
    x, y = wcs.all_world2pix(lon, lat, 0)
    np.testing.assert_allclose([x, y], [GX, GY], atol=1e-3)
    # The inverse polynomials alone, as tools without iteration use them.
    U, V = u + value(u, v, record.a), v + value(u, v, record.b)
    np.testing.assert_allclose([U + value(U, V, record.ap), V + value(U, V, record.bp)], [u, v], atol=0.01)
    np.testing.assert_allclose(wcs.sip.ap, record.ap)
    np.testing.assert_allclose(wcs.sip.bp, record.bp)
    assert read_sky([fits.Header.fromstring(tan_sip_header(record, SHAPE))], SHAPE).note == ""


def test_no_distortion_needs_no_terms() -> None:
    plain = camera(lens=Lens(40.0, 0.0, (0.0, 0.0), (0.0,) * 3, (0.0,) * 3))
    plain = replace(plain, refraction=0.0)
    view, ra, dec = seen(plain, 300, 0.05, np.random.default_rng(3))
    fit = refine_on_catalogue(view, None, header_of(plain), ra, dec)
    text = tan_sip_header(fit.wcs, SHAPE)
    assert fit.wcs.order == 1
    assert "SIP" not in text and "A_ORDER" not in text
    assert off(text, plain).max() < 0.03


def test_catalogue_stars_that_are_wrong_do_not_pull() -> None:
    geometry, rng = camera(), np.random.default_rng(4)
    view, ra, dec = seen(geometry, 500, 0.05, rng)
    ra = ra + np.where(rng.random(500) < 0.2, rng.normal(0, 0.03, 500), 0.0)
    fit = refine_on_catalogue(view, None, header_of(geometry), ra, dec)
    assert off(tan_sip_header(fit.wcs, SHAPE), geometry).max() < 0.12


def test_another_sky_is_refused_with_numbers() -> None:
    geometry, rng = camera(), np.random.default_rng(5)
    view, _, _ = seen(geometry, 300, 0.05, rng)
    _, ra, dec = seen(geometry, 300, 0.05, rng)
    with pytest.raises(AlignError) as caught:
        refine_on_catalogue(view, None, header_of(geometry), ra, dec)
    assert caught.value.facts["method"] == "wcs"
    assert "found" in caught.value.facts and "needed" in caught.value.facts


def test_stars_of_another_frame_serve_through_the_way_there() -> None:
    here, there = camera(), camera(shift=37.3)
    view, ra, dec = seen(here, 500, 0.05, np.random.default_rng(6))
    to_there = fit_transform(
        GX, GY, *there.sky_to_pixel(*here.pixel_to_sky(GX, GY)), None, "polynomial", 4, DOMAIN
    )
    fit = refine_on_catalogue(view, to_there, header_of(there), ra, dec)
    assert off(tan_sip_header(fit.wcs, SHAPE), here).max() < 0.1


def night(n: int, **plate: float) -> tuple[Geometry, list[tuple[str, object]]]:
    """Headers of a drifting night, each with errors of its own, and the ways to the first frame."""
    first = camera()
    out = []
    for k in range(n):
        geometry = camera(3.3 * k)
        way = fit_transform(
            GX, GY, *first.sky_to_pixel(*geometry.pixel_to_sky(GX, GY)), None, "polynomial", 4, DOMAIN
        )
        out.append((header_of(geometry, k, **plate), way))
    return first, out


def test_many_headers_are_better_than_the_usual_one() -> None:
    first, headers = night(16)
    fit = combine_headers(headers, SHAPE)
    mean = off(tan_sip_header(fit.wcs, SHAPE), first)
    alone = [off(header_of(first, seed), first) for seed in range(20, 40)]
    assert fit.n == 16 and fit.refused == ()
    assert 0.1 < fit.rms_pix < 0.6
    assert np.sqrt(np.mean(mean**2)) < 0.97 * np.median([np.sqrt(np.mean(a**2)) for a in alone])


def test_without_a_term_that_all_lack_the_mean_gains_as_many_do() -> None:
    straight = Lens(40.0, 0.0)
    geometry = camera(lens=straight)
    identity = fit_transform(GX, GY, GX, GY, None, "affine", 1, DOMAIN)
    headers = [(header_of(geometry, seed), identity) for seed in range(16)]
    mean = off(tan_sip_header(combine_headers(headers, SHAPE).wcs, SHAPE), geometry)
    alone = [np.mean(off(text, geometry) ** 2) for text, _ in headers]
    # Sixteen independent errors: a quarter of one, and a little of the third order that refraction leaves.
    assert 0.15 < np.sqrt(np.mean(mean**2) / np.mean(alone)) < 0.4


def test_headers_that_contradict_the_others_are_left_out() -> None:
    first, headers = night(9)
    clean = off(tan_sip_header(combine_headers(headers, SHAPE).wcs, SHAPE), first)
    for k, pixels in ((2, 6.0), (5, 900.0)):
        wrong = fits.Header.fromstring(headers[k][0])
        wrong["CRPIX1"] += pixels
        headers[k] = (wrong.tostring(), headers[k][1])
    fit = combine_headers(headers, SHAPE)
    assert fit.refused == (2, 5)
    assert off(tan_sip_header(fit.wcs, SHAPE), first).max() < clean.max() + 0.3


def test_headers_that_all_differ_make_no_mean() -> None:
    _, headers = night(6)
    mixed = []
    for k, (text, way) in enumerate(headers):
        wrong = fits.Header.fromstring(text)
        wrong["CRPIX1"] += 40.0 * k
        mixed.append((wrong.tostring(), way))
    with pytest.raises(AlignError, match="headers agree within 8 px"):
        combine_headers(mixed, SHAPE)
    with pytest.raises(AlignError, match="2 headers cover"):
        combine_headers(headers[:2], SHAPE)

"""Real nights: every frame aligned, and three methods that agree."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import sep
from astropy.io import fits

from difflapse.align import asterism, chain, features, wcs
from difflapse.align.view import AlignOptions, Reduced, View
from difflapse.model import FrameFacts, Stars


def look(path: Path) -> View:
    """A frame as alignment sees it, with a plain star finder of the test's own."""
    with fits.open(path) as hdus:
        hdu = next(h for h in hdus[::-1] if h.data is not None)
        data = np.ascontiguousarray(hdu.data.astype(np.float32))
        text = hdu.header.tostring() if "CTYPE1" in hdu.header else ""
    background = sep.Background(data)
    data -= background.back()
    found = sep.extract(data, 5.0, err=background.globalrms, minarea=5)
    found = found[np.argsort(-found["flux"])][:400]
    fwhm = 2.355 * np.sqrt(found["a"] * found["b"])
    x, y, _ = sep.winpos(data, found["x"], found["y"], fwhm / 2.355)
    flux = found["flux"].astype(float)
    snr = flux / (background.globalrms * np.sqrt(found["npix"]))
    stars = Stars(x, y, flux, snr, fwhm, flux[None], np.zeros(len(x), bool))
    picture = Reduced(data, np.zeros(data.shape, bool), 1.0, 0.0)
    return View(FrameFacts(str(path), path.name, 0, data.shape, wcs_header=text), stars, lambda: picture)


def need(folder: Path, pattern: str) -> list[Path]:
    files = sorted(folder.glob(pattern))
    if not files:
        pytest.skip(f"{folder} has no {pattern}")
    return files


def test_all_142_frames_of_a_drifting_night_are_aligned(real_data: Path) -> None:
    files = need(real_data / "hatp32-microobs", "*.FITS")
    reference = look(files[70])
    worst = 0.0
    for path in files:
        result = asterism.find(look(path), reference, AlignOptions())
        worst = max(worst, result.rms_pix)
    assert worst < 0.5  # the first frames are trailed


def test_stars_of_every_frame_lie_where_the_night_puts_them(real_data: Path) -> None:
    """0.06 px radial rms, held out, of stars of S/N 20 and more on each frame that has 60 of them, trailed ones too."""
    need(real_data / "hatp32-microobs", "*.FITS")
    path = Path(__file__).parents[2] / "benchmarks" / "real_frames.py"
    spec = importlib.util.spec_from_file_location("real_frames", path)
    assert spec is not None and spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = benchmark
    spec.loader.exec_module(benchmark)
    frames = benchmark.measure(real_data / "hatp32-microobs")
    best, own, lens = benchmark.align(frames)
    assert len(own) == 142
    rows = [benchmark.judge(frames[k], lens.alignments[k], 20.0) for k in own if k != best]
    assert all(row.n >= 60 for row in rows)
    assert max(row.elongation for row in rows) > 2.0
    rms, noise = np.array([row.rms for row in rows]), np.array([row.noise for row in rows])
    assert rms.max() < 0.06
    # No better than noise allows, and little worse.
    assert 0.9 < np.median(rms / noise) < 1.15


def test_wcs_asterism_and_features_agree(real_data: Path) -> None:
    files = need(real_data / "hatp32-wcs-derived", "*.fits.fz")
    reference = look(files[24])
    gx, gy = np.meshgrid(np.linspace(0, 649, 9), np.linspace(0, 499, 7))
    for path in (files[0], files[1], files[12], files[36], files[-1]):
        frame = look(path)
        maps = [m.find(frame, reference, AlignOptions()).transform(gx, gy) for m in (wcs, asterism, features)]
        on = (maps[1][0] > 0) & (maps[1][0] < 649) & (maps[1][1] > 0) & (maps[1][1] < 499)
        for one in range(3):
            for other in range(one):
                away = np.hypot(*np.subtract(maps[one], maps[other]))[on]
                assert np.sqrt(np.mean(away**2)) < 0.2
        assert chain.auto(frame, reference, AlignOptions()).method == "wcs"


def test_the_sun_is_aligned_without_stars(real_data: Path) -> None:
    files = need(real_data / "soho-eit", "*.fits")
    views = []
    for path in files:
        data = fits.getdata(path).astype(np.float32)
        lost = cv2.morphologyEx((data == 0).astype(np.uint8), cv2.MORPH_OPEN, np.ones((4, 4), np.uint8)) > 0
        picture = Reduced(data - np.median(data), lost, 1.0, 0.0)
        views.append(View(FrameFacts("", path.name, 0, data.shape), Stars.empty(), lambda p=picture: p))  # type: ignore[misc]
    for view in views:
        result = chain.auto(view, views[6], AlignOptions())
        cx, cy = result.transform(63.5, 63.5)
        # The disc turns by at most 0.5 px an hour at its centre: 6 hours either way.
        assert abs(float(cx) - 63.5) < 3.0
        assert abs(float(cy) - 63.5) < 0.5

"""A browser, and finished runs made by hand: small, of any number of frames, with any text in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table

from difflapse.io.celestial import tan_sip_header
from difflapse.io.products import write_json, write_toml
from difflapse.model import TanSip, Transform
from difflapse.movie import make_layout
from difflapse.movie.encode import Encoder
from difflapse.movie.sidecar import MovieFrame, timelapse_record
from difflapse.pipeline import tables
from difflapse.pipeline.config import RunOptions

SHAPE = (260, 390)
"""(ny, nx) of the made runs' reference, native pixels."""
BEGIN = datetime(2018, 8, 24, 4, 1, 18, tzinfo=UTC)
LEVELS = 8
"""Grey of the aligned panel tells a frame's number modulo this."""
MID = 128
"""Grey of the differential panel."""


def grey(frame: int) -> int:
    """Of the aligned panel."""
    return 30 + 25 * (frame % LEVELS)


@dataclass
class Seen:
    """What a page complained of, and what it asked the network for."""

    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def check(self) -> None:
        assert self.complaints == []
        assert [url for url in self.requests if not url.startswith(("file://", "blob:", "data:"))] == []


@pytest.fixture(scope="session")
def chromium(chromium_program: str) -> Iterator[Any]:
    """The installed browser, headless; skips, saying so, where it cannot play H.264."""
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_program, args=arguments)
        page = browser.new_page()
        plays = page.evaluate(
            "document.createElement('video').canPlayType('video/mp4; codecs=\"avc1.640028\"')"
        )
        page.close()
        if not plays:
            pytest.skip(f"{chromium_program} says that it cannot play avc1")
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Open a page from disk; when the test ends, nothing may have been complained of or asked of the network."""
    contexts, seen = [], Seen()

    def opened(path: Path, size: tuple[int, int] = (1440, 900), **more: Any) -> Any:
        context = chromium.new_context(viewport={"width": size[0], "height": size[1]}, **more)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda m: m.type in ("error", "warning") and seen.complaints.append(m.text))
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.on("request", lambda request: seen.requests.append(request.url))
        page.on("dialog", lambda dialog: (seen.complaints.append("a dialog"), dialog.dismiss()))
        page.goto(path.as_uri())
        page.wait_for_function("document.documentElement.dataset.ready === 'yes'")
        page.wait_for_function(
            "!difflapse.view || difflapse.view.player.ready || difflapse.view.player.broken"
        )
        return page

    yield opened
    for context in contexts:
        context.close()
    seen.check()


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that makes the folder of a finished run, all products but the page."""

    def make(n: int = 10, **more: Any) -> Path:
        folder = tmp_path_factory.mktemp("run") / "out"
        folder.mkdir()
        write_run(folder, n, **more)
        return folder

    return make


def write_run(
    folder: Path,
    n: int,
    *,
    title: str = "M 13",
    skipped: tuple[int, ...] = (),
    sky: bool = True,
    found: bool = True,
    measured: bool = True,
    lag: int = 0,
    refused: bool = False,
    varying: bool = False,
    judged_on: str = "stars",
) -> None:
    """Frames every three minutes; frame k lies k / 4 px right of the reference, 0."""
    names = [f"{'<b>&' if k == 1 else ''}frame{k:04d}.fits" for k in range(n)]
    times = [(BEGIN + timedelta(minutes=3 * k)).strftime("%Y-%m-%dT%H:%M:%S.000") for k in range(n)]
    used = [k for k in range(n) if k not in skipped]
    _movie(folder, [names[k] for k in used], [times[k] for k in used], used, lag)
    _frames(folder, names, times, set(skipped), title, judged_on)
    ways = {k: Transform.from_matrix(np.array([[1, 0, k / 4], [0, 1, -k / 8]]), "shift") for k in used}
    write_json(
        folder / "transforms.json",
        {
            "reference": {
                "frame": 0,
                "file": names[0],
                "source": names[0],
                "time_utc": times[0],
                "shape": list(SHAPE),
                "wcs_header": tan_sip_header(field_of(), SHAPE) if sky else "",
            },
            "products": {"shape": list(SHAPE), "step": 1, "origin": [0, 0]},
            "frames": [
                {
                    "frame": k,
                    "file": names[k],
                    **tables.transform_record(way),
                    "inverse": tables.transform_record(
                        Transform.from_matrix(np.linalg.inv(way.matrix), "shift")
                    ),
                }
                for k, way in ways.items()
            ],
        },
    )
    if measured:
        _stars(folder, used, varying)
    if found:
        _changes(folder, used, times, refused)
    products = sorted(path.name for path in folder.iterdir())
    record = tables.provenance(dict.fromkeys(names, "ab" * 32), products, 12.3, "../night")
    write_toml(folder / "run.toml", {**RunOptions(fps=12).to_mapping(), "provenance": record})


def field_of() -> TanSip:
    """A bent field, turned and mirrored as the sky is."""
    a, b = np.zeros((4, 4)), np.zeros((4, 4))
    a[2, 0], a[1, 1], b[0, 2], b[1, 2] = 3e-5, -2e-5, 4e-5, 2e-7
    return TanSip(
        (243.7, 33.02), (180.3, 140.8), np.array([[-2.7e-3, 4e-4], [4e-4, 2.7e-3]]), a, b, a * 0, b * 0
    )


def _movie(folder: Path, names: list[str], times: list[str], numbers: list[int], lag: int) -> None:
    layout = make_layout(("aligned", "difference"), SHAPE, 1, (0, 0), 640, "none")
    with Encoder(folder / "timelapse.mp4", (layout.width, layout.height), 12.0, {}) as encoder:
        picture = np.zeros((layout.height, layout.width, 3), np.uint8)
        for k in numbers:
            for panel, level in zip(layout.panels, (grey(k), MID), strict=True):
                picture[panel.y : panel.y + panel.height, panel.x : panel.x + panel.width] = level
            encoder.write(picture)
    # In a running difference the first frames have none.
    minus = [None] * lag + names[: len(names) - lag] if lag else ["template"] * len(names)
    frames = [MovieFrame(*one) for one in zip(names, times, minus, strict=True)]
    write_json(folder / "timelapse.json", {**timelapse_record(layout, frames, 12.0), "marks": False})


def _frames(
    folder: Path, names: list[str], times: list[str], skipped: set[int], title: str, judged_on: str
) -> None:
    n = len(names)
    k = np.arange(n)
    lost = np.array([i in skipped for i in k])
    table = Table(
        {
            "frame": k,
            "file": names,
            "time_utc": times,
            "status": np.where(lost, "skipped", "used"),
            "reason": np.where(lost, "7 stars were found; 12 are needed </script>", ""),
            "method": np.where(k == 0, "reference", "asterism"),
            "note": [""] * n,
            "in_template": k < 12,
            "judged_on": np.where(lost | (k == 0), "", judged_on),
            "n_stars": np.full(n, 900 if judged_on == "stars" else 3),
        },
        meta={
            "sequence": "night",
            "object": title,
            "reference_frame": 0,
            "diff": "template",
            "wcs": "TAN-SIP of order 3",
        },
    )
    for name, value in (
        ("rms_pix", 0.05 + 0.01 * np.sin(k)), ("p95_pix", 0.1 + 0 * k), ("dx_pix", k / 4), ("dy_pix", -k / 8),
        ("rotation_deg", 0 * k), ("fwhm_pix", 2.3 + 0.1 * np.cos(k)), ("background_adu", 400.0 + k),
        ("transparency", 1 - 0.001 * k),
    ):  # fmt: skip
        table[name] = MaskedColumn(np.asarray(value, float), mask=lost)
    table.write(folder / "frames.ecsv", format="ascii.ecsv")


def _stars(folder: Path, used: list[int], varying: bool) -> None:
    """Three stars, of which the second is a change, and the first varies by its light curve if one does."""
    x, y = np.array([60.25, 200.5, 321.75]), np.array([50.5, 130.25, 222.0])
    n = len(x)
    table = Table(
        {
            "star": np.arange(n) + 5, "x_pix": x, "y_pix": y, "ra_deg": 243.7 + 0 * x, "dec_deg": 33 + 0 * x,
            "mag": [-11.0, -10.0, -9.0], "scatter_mag": [0.004] * n, "expected_scatter_mag": [0.004] * n,
            "n_frames": [len(used)] * n, "flags": [0] * n,
        },
        meta={"stars_tested": 700, "aperture_radius_pix": 4.0},
    )  # fmt: skip
    if varying:
        table["false_alarm"], table["borne_out"] = [2.3e-7, 1e-30, 0.4], [0.83, 0.95, 0.4]
        table["amplitude_mag"] = [0.217, 0.3, 0.05]
    table.write(folder / "stars.ecsv", format="ascii.ecsv")
    star, frame, channel = (
        g.ravel() for g in np.meshgrid(np.arange(n) + 5, used, ["R", "G", "B"], indexing="ij")
    )
    flux = 1 + 0.1 * np.sin(frame.astype(int) + star)
    Table(
        {
            "star": star, "frame": frame, "channel": channel, "rel_flux": flux, "rel_flux_err": 0.004 + 0 * flux,
            "flags": 0 * star,
        }
    ).write(folder / "lightcurves.fits")  # fmt: skip


def _changes(folder: Path, used: list[int], times: list[str], refused: bool) -> None:
    nan = np.nan
    rows = [
        (0, "variable", 200.5, 130.25, used[0], used[-1], 4, 31.0, 0.2, nan, 5 + 1),
        (1, "mover", 100.0, 180.0, used[0], used[-1], len(used), 55.0, nan, 410.0, -1),
        (2, "transient", 300.0, 80.0, used[1], used[1], 1, 8.0, nan, nan, -1),
    ]
    names = ("change", "kind", "x_pix", "y_pix", "first_frame", "last_frame", "n_detections", "snr",
             "amplitude_mag", "rate_arcsec_per_hour", "star")  # fmt: skip
    table = Table(rows=rows, names=names)
    for name in ("amplitude_mag", "rate_arcsec_per_hour"):
        table[name] = MaskedColumn(table[name], mask=np.isnan(table[name]))
    table.write(folder / "changes.ecsv", format="ascii.ecsv")
    seen = [(1, k, 100.0 + k / 2, 180.0, 900.0, 20.0, 45.0, 0) for k in used]
    if refused:
        # On each frame one at a star, one on empty sky for two reasons, and from the second on one for none.
        seen += [(-1, k, 321.5, 222.25, 99.0, 9.0, 7.5, 512) for k in used]
        seen += [(-1, k, 30.5, 200.0, -99.0, 9.0, -8.3, 3) for k in used]
        seen += [(-1, k, 350.0, 40.0, 50.0, 9.0, 4.5, 0) for k in used[1:]]
    table = Table(
        rows=seen,
        names=("change", "frame", "x_pix", "y_pix", "flux_adu", "flux_err_adu", "snr", "flags"),
        meta={
            "flags": {
                "1": "a hot pixel: it stays",
                "2": "a <b>cosmic</b> ray",
                "512": "within a star's error",
            }
        },
    )
    table.write(folder / "detections.ecsv", format="ascii.ecsv")

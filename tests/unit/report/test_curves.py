"""Light curves in a page: what is unpacked is what was packed, and what does not fit is said."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from difflapse.report import Curves, pack_curves


def night(stars: int, frames: int, channels: str = "RGB") -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(5)
    star, frame, channel = (
        g.ravel()
        for g in np.meshgrid(np.arange(stars) * 3, np.arange(frames) + 2, list(channels), indexing="ij")
    )
    flux = 1 + rng.normal(0, 0.2, len(star))
    return star, frame, channel, flux, np.full(len(star), 0.03), rng.integers(0, 2, len(star)) * 8


def unpack(curves: Curves, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, errors and flags of the n-th star: (channels, frames)."""
    raw = base64.b64decode(curves.chunks[n // curves.per_chunk])
    first = n // curves.per_chunk * curves.per_chunk
    many = min(curves.per_chunk, len(curves.stars) - first) * len(curves.channels)
    k = len(curves.frames)
    head = np.frombuffer(raw, "<f4", many * 3).reshape(many, 3)
    values = np.frombuffer(raw, "<u2", many * k, many * 12).reshape(many, k).astype(float)
    errors = np.frombuffer(raw, np.uint8, many * k, many * (12 + 2 * k)).reshape(many, k)
    flags = np.frombuffer(raw, np.uint8, many * k, many * (12 + 3 * k)).reshape(many, k)
    values[values == 65535] = np.nan
    own = slice((n - first) * len(curves.channels), (n - first + 1) * len(curves.channels))
    return (
        head[own, 0:1] + values[own] * head[own, 1:2],
        errors[own] * head[own, 2:3],
        flags[own],
    )


def test_what_is_unpacked_is_what_was_packed() -> None:
    star, frame, channel, flux, error, flags = night(1500, 30)
    flux[(star == 33) & (frame == 7)] = np.nan
    curves = pack_curves(star, frame, channel, flux, error, flags, np.unique(star)[::-1])
    assert len(curves.chunks) > 1
    assert curves.channels == ("G", "R", "B")
    assert curves.note == ""
    for wanted in (33, 0, 4497):
        n = int(np.flatnonzero(curves.stars == wanted)[0])
        assert n == 1499 - wanted // 3, "in the order asked for"
        values, errors, doubtful = unpack(curves, n)
        for c, name in enumerate(curves.channels):
            own = (star == wanted) & (channel == name)
            half = (
                0.5 * np.nanmax(flux[own]) / 65534 + 0.5 * abs(np.nanmin(flux[own])) / 65534 + 2e-7
            )  # and float32
            assert values[c] == pytest.approx(flux[own], abs=half, nan_ok=True)
            assert errors[c][np.isfinite(values[c])] == pytest.approx(0.03, rel=0.003)
            assert (doubtful[c] != 0).tolist() == (flags[own] != 0).tolist()


def test_a_star_that_lacks_frames_has_holes_there() -> None:
    star, frame, channel, flux, error, flags = night(4, 6, "L")
    kept = ~((star == 3) & (frame > 4))
    curves = pack_curves(*(a[kept] for a in (star, frame, channel, flux, error, flags)), np.array([3]))
    values, *_ = unpack(curves, 0)
    assert curves.stars.tolist() == [3, 0, 6, 9], "those without a place in the order come last"
    assert np.isnan(values[0]).tolist() == [False] * 3 + [True] * 3


def test_beyond_the_limit_first_colours_go_then_the_last_stars_and_it_is_said() -> None:
    rows = night(100, 20)
    order = np.unique(rows[0])
    whole = pack_curves(*rows, order)
    size = sum(map(len, whole.chunks))
    green = pack_curves(*rows, order, most_bytes=size // 2)
    assert green.channels == ("G",)
    assert len(green.stars) == 100
    assert "lightcurves.fits" in green.note
    few = pack_curves(*rows, order, most_bytes=size // 10)
    assert few.stars.tolist() == order[: len(few.stars)].tolist()
    assert 20 < len(few.stars) < 40
    assert f"{len(few.stars)} of 100" in few.note
    assert sum(map(len, few.chunks)) <= size // 10

"""Light curves of a run, against the truth of the night."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from scipy.spatial import cKDTree

from difflapse import open_run

TRUSTED = 255 - 64


@pytest.fixture(scope="module")
def curves(night: Any) -> tuple[Any, np.ndarray, dict[str, np.ndarray]]:
    """The night, each catalogue star's row in the truth (-1: none), and its curves in G, (stars, frames)."""
    stars = night.run.stars
    x, y, inside = night.truth.star_pixels(night.reference)
    there = np.flatnonzero(inside & np.isfinite(x))
    away, which = cKDTree(np.column_stack([x[there], y[there]])).query(
        np.column_stack([stars["x_pix"], stars["y_pix"]])
    )
    table = Table.read(night.out / "lightcurves.fits")
    green = table[np.asarray(table["channel"]).astype(str) == "G"]
    n_frames = len(np.unique(green["frame"]))
    columns = {
        name: np.ma.filled(np.ma.asarray(green[name], float), np.nan).reshape(-1, n_frames)
        for name in ("frame", "flux_adu", "flux_err_adu", "rel_flux", "rel_flux_err", "flags")
    }
    return night, np.where(away < 1, there[which], -1), columns


def test_stars_lie_where_they_are_with_their_place_on_the_sky(curves) -> None:
    night, which, _ = curves
    stars = night.run.stars
    good = (
        (which >= 0) & (np.asarray(stars["flags"]) == 0) & (np.asarray(stars["expected_scatter_mag"]) < 0.03)
    )
    assert good.sum() > 30
    x, y, _ = night.truth.star_pixels(night.reference)
    off = np.hypot(stars["x_pix"] - x[which], stars["y_pix"] - y[which])[good]
    assert np.median(off) < 0.06
    east = (stars["ra_deg"] - night.truth.star_ra_deg[which]) * np.cos(np.radians(stars["dec_deg"]))
    north = stars["dec_deg"] - night.truth.star_dec_deg[which]
    # 10.3 arcsec a pixel; the mean of the headers' WCS is good to some tenths of a pixel.
    assert np.ma.median(np.hypot(east, north)[good]) * 3600 < 10
    assert (np.diff(stars["star"]) == 1).all()


def test_bright_stars_scatter_as_their_photons_say_and_errors_hold(curves) -> None:
    night, which, c = curves
    stars = night.run.stars
    rel = np.where(c["flags"].astype(int) & TRUSTED, np.nan, c["rel_flux"])
    quiet = (which >= 0) & (night.truth.star_kind[which] == "star") & (np.asarray(stars["flags"]) == 0)
    quiet = quiet[: len(rel)] & (np.isfinite(rel).sum(axis=1) >= 6)
    snr = np.nanmedian(np.where(c["flux_err_adu"] > 0, c["flux_adu"] / c["flux_err_adu"], np.nan), axis=1)
    some = quiet & (snr > 30)
    assert some.sum() > 40
    z = (rel[some] - 1) / (c["flux_err_adu"] / c["flux_adu"] * c["rel_flux"])[some]
    # Medians of 7 clear frames leave 0.9 of a Gaussian's scatter.
    assert 0.75 < 1.4826 * np.nanmedian(np.abs(z)) < 1.3
    z = (rel[some] - 1) / c["rel_flux_err"][some]
    assert 0.75 < 1.4826 * np.nanmedian(np.abs(z)) < 1.15


def test_the_planted_variable_is_measured_within_its_errors_and_stands_out(curves) -> None:
    night, which, c = curves
    planted = next(o for o in night.truth.objects if o.kind == "variable")
    star = int(np.flatnonzero(which == planted.star)[0])
    frames = c["frame"][star].astype(int)
    rel, error = c["rel_flux"][star], c["rel_flux_err"][star]
    good = (c["flags"][star].astype(int) & TRUSTED == 0) & np.isfinite(rel)
    true = 10 ** (-0.4 * planted.mag[frames])
    scale = (rel * true / error**2)[good].sum() / (true**2 / error**2)[good].sum()
    chi2 = (((rel - scale * true) / error)[good] ** 2).sum()
    # Of 6 degrees of freedom: 22.5 is passed once in a thousand; a hundredth of it hardly ever undercut.
    assert 0.2 < chi2 < 22.5
    assert night.run.stars["false_alarm"][star] < 1e-4
    curve = night.run.light_curve(star)
    assert np.allclose(curve["rel_flux"], rel, equal_nan=True) and curve.time.scale == "utc"


def test_what_varies_by_its_curve_alone_is_listed_and_hardly_anything_else(curves) -> None:
    night, which, _ = curves
    listed = night.run.varying
    planted = next(o for o in night.truth.objects if o.kind == "variable")
    # Seven clear frames are few for the differences' own test of stars.
    assert which[listed["star"][0]] == planted.star
    assert listed["borne_out"][0] > 0.9
    false = [star for star in listed["star"] if night.truth.star_kind[which[star]] != "variable"]
    # 0.1 are expected in a night: two or more come by chance in one of 200.
    assert len(false) <= 1
    assert 300 < listed.meta["stars_tested"] <= len(night.run.stars)
    told = night.run.summary()["sequences"][0]["varying"]
    assert told["tested"] == listed.meta["stars_tested"] and told["false_alarms"] == 0.1
    assert [star["star"] for star in told["stars"]] == list(listed["star"])


def test_the_clouded_frame_is_flagged_and_times_are_barycentric(curves) -> None:
    night, _, c = curves
    cloudy = [k for k in night.used if night.truth.frames[k].transparency < 0.15]
    for k in cloudy:
        assert (c["flags"][:, c["frame"][0] == k].astype(int) & 128 == 128).all()
    with fits.open(night.out / "lightcurves.fits") as file:
        header, rows = file["LIGHTCURVES"].header, file["LIGHTCURVES"].data
        assert header["TIMESYS"] == "UTC" and header["BJDFROM"] == "stars"
        late = rows["bjd_tdb"] - 2400000.5 - rows["time_mjd"]
        # TDB - UTC is 69 s; the Earth is at most 500 s nearer to a star than the barycentre, or farther.
        assert (np.abs(late * 86400 - 69.2) < 500).all() and np.ptp(late) > 0
        assert ((rows["airmass"] >= 1) & (rows["airmass"] < 5)).all()


def test_stamps_are_the_frames_own_pixels(night: Any, done: Callable[..., Any], night_spec: Any) -> None:
    from difflapse.io.discover import discover
    from difflapse.io.fits import read_frame

    kept = done(night_spec, save="stamps", diff="none")
    assert open_run(kept.out).stars["in_lightcurves"].all()
    frames = discover([kept.folder]).sequences[0].frames
    with fits.open(kept.out / "stamps" / "stamps.fits") as file:
        rows = file["STAMPS"].data
        assert file["STAMPS"].header["PATTERN"] == frames[0].mosaic
        for k in (0, 7):
            data = read_frame(frames[k]).data
            own = rows[rows["frame"] == k]
            assert len(own) > 50
            same = []
            for row in own:
                i, j = row["x_corner"], row["y_corner"]
                side = row["stamp"].shape[0]
                assert i % 2 == 0 and j % 2 == 0
                same.append(np.mean(row["stamp"] == data[j : j + side, i : i + side]))
            # Hot pixels are filled, the others untouched.
            assert np.mean(same) > 0.99

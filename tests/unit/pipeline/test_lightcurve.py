"""One star's curve, read back."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from difflapse.errors import InputError, OptionError
from difflapse.pipeline.lightcurve import FILTERS, aavso_text, read_curve, read_stars, star_at, text_plot


@pytest.fixture
def folder(tmp_path):
    """Twelve stars, three colours, nine frames; star 2 dims by a tenth in frames 3 to 5."""
    n, f = 12, 9
    rng = np.random.default_rng(8)
    x, y = np.linspace(20, 300, n), rng.uniform(10, 180, n)
    t = Table({"star": np.arange(n), "x_pix": x, "y_pix": y, "mag": -6 + 0.1 * np.arange(n)})
    t["ra_deg"], t["dec_deg"] = 250 - (x - 150) * 10 / 3600, 30 + y * 10 / 3600
    t["colour_mag"] = 0.5
    t["false_alarm"] = np.where(np.arange(n) == 2, 1e-6, 0.5)
    t["flags"], t["in_lightcurves"] = np.zeros(n, int), np.arange(n) < 11
    t.meta["exposure_s"] = 10.0
    t.write(tmp_path / "stars.ecsv")
    rows = np.zeros((11, 3, f), dtype=[
        ("star", ">i4"), ("frame", ">i4"), ("time_mjd", ">f8"), ("bjd_tdb", ">f8"), ("airmass", ">f4"),
        ("channel", "S1"), ("flux_adu", ">f4"), ("flux_err_adu", ">f4"), ("rel_flux", ">f4"),
        ("rel_flux_err", ">f4"), ("flags", "u1"),
    ])  # fmt: skip
    rows["star"] = np.arange(11)[:, None, None]
    rows["frame"] = np.arange(f)
    rows["time_mjd"] = 58000 + np.arange(f) / 480
    rows["bjd_tdb"] = rows["time_mjd"] + 2400000.5 + 0.003
    rows["airmass"] = 1.25
    for i, c in enumerate("RGB"):
        rows["channel"][:, i] = c.encode()
        rows["flux_adu"][:, i] = 1000 * (i + 1)
    rows["rel_flux"], rows["rel_flux_err"] = 1, 0.01
    rows["rel_flux"][2, :, 3:6] = 0.9
    rows["flags"][2, :, 8] = 4
    fits.BinTableHDU(rows.ravel(), name="LIGHTCURVES").writeto(tmp_path / "lightcurves.fits")
    return tmp_path


def test_a_curve_is_a_time_series_of_one_colour(folder):
    curve = read_curve(folder, 2)
    assert curve.meta == {"star": 2, "channel": "G"} and len(curve) == 9
    assert curve.time.scale == "utc" and curve.time[1].mjd == pytest.approx(58000 + 1 / 480)
    assert list(np.round(curve["rel_flux"], 3)) == [1, 1, 1, 0.9, 0.9, 0.9, 1, 1, 1]
    assert curve["flux_adu"].unit == "adu" and curve["flux_adu"].value[0] == 2000
    assert read_curve(folder, 2, "b")["flux_adu"].value[0] == 3000


@pytest.mark.parametrize(
    "star, channel, word", [(11, "", "no star 11"), (99, "", "no star 99"), (2, "L", "R, G, B")]
)
def test_what_is_not_there_is_said(folder, star, channel, word):
    with pytest.raises(InputError) as caught:
        read_curve(folder, star, channel)
    assert word in f"{caught.value.message} {caught.value.hint}"


def test_a_star_is_found_by_pixel_and_by_sky(folder):
    stars = read_stars(folder)
    row = stars[4]
    assert star_at(stars, pixel=(row["x_pix"] + 2, row["y_pix"] - 1)) == 4
    assert star_at(stars, sky=(row["ra_deg"], row["dec_deg"] + 20 / 3600)) == 4
    with pytest.raises(InputError, match=r"nearest is star \d+, \d+\.\d px"):
        star_at(stars, pixel=(-60, -80))
    with pytest.raises(InputError, match="nearest is star"):
        star_at(stars, sky=(row["ra_deg"] + 5, row["dec_deg"]))
    stars["ra_deg"] = np.ma.masked_all(len(stars))
    with pytest.raises(InputError, match="not known"):
        star_at(stars, sky=(250, 30))


@pytest.mark.parametrize("channel", ["R", "G", "B"])
def test_aavso_has_its_header_its_filter_and_no_flagged_frame(folder, channel):
    lines = aavso_text(folder, 2, "ABC", channel, "SS Cyg").splitlines()
    assert (
        lines[0] == "#TYPE=EXTENDED"
        and "#OBSCODE=ABC" in lines
        and "#DELIM=," in lines
        and "#DATE=JD" in lines
    )
    names = next(line for line in lines if line.startswith("#NAME")).lstrip("#").split(",")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in lines if not line.startswith("#")]
    assert len(rows) == 8
    first, dip = rows[0], rows[4]
    assert (first["NAME"], first["FILT"], first["MTYPE"]) == ("SS Cyg", FILTERS[channel], "DIF")
    assert first["CNAME"] == "ENSEMBLE" and first["KNAME"] != "difflapse-2"
    assert float(first["DATE"]) == pytest.approx(2458000.5, abs=1e-5)
    # All stars have the same flux: no difference, until it dims by 0.114 mag; its error grows as its light falls.
    assert float(first["MAG"]) == pytest.approx(0, abs=1e-3)
    assert float(dip["MAG"]) == pytest.approx(0.114, abs=1e-3)
    assert float(dip["MERR"]) == pytest.approx(0.012, abs=1e-3)
    assert first["AMASS"] == "1.250"


def test_aavso_on_a_zero_point_is_a_magnitude(folder):
    line = aavso_text(folder, 2, "ABC", "G", zero_point=16.0).splitlines()[-1].split(",")
    assert line[6] == "STD"
    assert float(line[2]) == pytest.approx(16 - 2.5 * np.log10(200), abs=1e-3)


@pytest.mark.parametrize("code", ["", " ", "A,B"])
def test_aavso_needs_an_observer(folder, code):
    with pytest.raises(OptionError, match="observer"):
        aavso_text(folder, 2, code)


def test_the_drawing_with_characters_dips_where_the_star_does(folder):
    lines = text_plot(read_curve(folder, 2), 60, 11).splitlines()
    high = [n for n, line in enumerate(lines[:11]) if "o" in line]
    assert len(high) == 2 and high[1] - high[0] >= 7
    assert lines[high[0]].count("o") == 5 and lines[high[1]].count("o") == 3
    assert "00:00 UTC" in lines[-1]

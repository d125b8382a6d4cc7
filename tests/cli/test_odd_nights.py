"""Nights that are odd in ways nobody should notice: names in any script, a frame that was never exposed."""

from __future__ import annotations

import shutil
from pathlib import Path

from astropy.io import fits
from astropy.table import Table


def test_names_in_any_script_and_an_empty_frame(call, small_night: Path, tmp_path: Path) -> None:
    night = tmp_path / "Nächte" / "星 1"
    night.mkdir(parents=True)
    files = sorted(small_night.glob("*.fits.fz"))
    for k, file in enumerate(files):
        shutil.copy(file, night / (file.name.replace(".", "_λ.", 1) if k < 2 else file.name))
    with fits.open(files[2]) as hdus:
        hdus[1].data[:] = 2048
        hdus.writeto(night / files[2].name, overwrite=True)
    out = tmp_path / "été"
    words = ["--workers", 1, "--no-reel", "--no-injection", "--save", "aligned,cube,stamps"]
    result = call("run", tmp_path / "Nächte", "-o", out, *words)
    assert result.code == 0, result.err
    frames = Table.read(out / "frames.ecsv", format="ascii.ecsv")
    skipped = frames["status"] == "skipped"
    assert list(frames["file"][skipped]) == [f"星 1/{files[2].name}"]
    assert "all of its pixels are the same, 2048 ADU" in frames["reason"][skipped][0]
    assert sum("_λ" in name for name in frames["file"]) == 2
    assert fits.getheader(out / "template.fits")["REFFILE"].isascii()
    listed = [row["file"] for row in fits.getdata(out / "cube.fits", "FRAMES")]
    assert sum(name.startswith(r"\u661f 1/2") and r"_\u03bb" in name for name in listed) == 2
    assert len(list((out / "aligned").glob("*_λ.fits"))) == 2

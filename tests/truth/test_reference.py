"""A reference from outside the night: another camera's frame, a product of an earlier run, another sky."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import difflapse
from difflapse.errors import InputError, OptionError
from difflapse.pipeline.pair import make_pair
from difflapse.synth import NightSpec, Truth
from difflapse.synth.camera import expose, make_defects
from difflapse.synth.geometry import Geometry
from difflapse.synth.night import light, plan

from .conftest import Done, Make, read_product, spec_of

Simulated = Callable[[NightSpec], tuple[Path, Truth]]
SHAPE = (520, 780)
OTHER = (391, 470)


def robust(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def another_camera(path: Path, spec: NightSpec, mosaic: str = "", scale: float = 16.5) -> Geometry:
    """A frame of the same stars, rolled by 33 degrees, at another scale, of another shape, without a WCS."""
    mount = replace(spec.mount, roll_deg=spec.mount.roll_deg + 33.0, dec_deg=spec.mount.dec_deg + 0.1)
    other = replace(
        spec,
        shape=OTHER,
        mount=mount,
        lens=replace(spec.lens, scale_arcsec=scale),
        sensor=replace(spec.sensor, mosaic=mosaic),
        seed=spec.seed + 1,
    )
    there = replace(plan(other), scene=plan(spec).scene)
    rng = np.random.default_rng(7)
    defects = make_defects(other.sensor, OTHER, rng)
    pixels = expose(light(there, 0, defects), other.sensor, defects, rng)
    header = fits.Header([("BAYERPAT", mosaic)]) if mosaic else fits.Header()
    header["DATE-OBS"] = "2016-09-09T08:12:26"
    fits.PrimaryHDU(pixels, header).writeto(path)
    return there.moments[0].geometry


def misses(night: difflapse.Night, truth: Truth, there: Geometry, k: int) -> np.ndarray:
    """Distance, reference px, between where frame k's pixels are put and where they belong."""
    ny, nx = truth.shape
    gx, gy = np.meshgrid(np.linspace(20, nx - 21, 21), np.linspace(20, ny - 21, 15))
    x, y = night.frames[k].to_reference(gx, gy)
    tx, ty = there.sky_to_pixel(*truth.pixel_to_sky(k, gx, gy))
    seen = (tx > 0) & (ty > 0) & (tx < OTHER[1] - 1) & (ty < OTHER[0] - 1)
    assert seen.mean() > 0.3
    return np.hypot(x - tx, y - ty)[seen]


@pytest.mark.parametrize("mosaic", ["", "RGGB"])
def test_a_mosaic_night_lies_on_another_cameras_pixels(
    simulated: Simulated, tmp_path: Path, mosaic: str
) -> None:
    """200 stars of 0.1 px (of 16.5 arcsec) fix a polynomial to 0.03 px."""
    spec = spec_of(SHAPE, frames=5, wcs=False)
    folder, truth = simulated(spec)
    there = another_camera(tmp_path / "other.fits", spec, mosaic)
    out = tmp_path / "out"
    run = difflapse.run(
        folder, out, reference=str(tmp_path / "other.fits"), workers=1, save="aligned,differences"
    )
    night = run.sequences[0]
    assert [f.used for f in night.frames] == [True] * 5
    for k in range(5):
        assert np.sqrt(np.mean(misses(night, truth, there, k) ** 2)) < 0.06
    assert set(night.table["method"]) == {"asterism"}
    assert np.allclose(night.table["scale"], 10.3 / 16.5, rtol=0.01)
    # The product grid: two by two pixels of the reference, three planes of the night's camera.
    for k, name in enumerate(f.file.removesuffix(".fits.fz") for f in night.frames):
        part = read_product(out / "differences" / f"{name}.fits")
        assert part.data.shape == (3, OTHER[0] // 2, OTHER[1] // 2)
        assert part.header["REFFILE"] == "other.fits"
        assert part.header["LTM1_1"] == 0.5
        assert "DIFFMODE" in part.header
        # Interpolated at a scale of 1.25 product pixels to a sample.
        assert 0.7 < robust(part.significance) < 1.15, k
    assert night.reference.number == -1
    assert night.reference.file == "other.fits"
    assert night.reference.time.isot.startswith("2016-09-09")
    x, y = night.reference.to_reference(3.5, 4.25)
    assert (float(x), float(y)) == (3.5, 4.25)
    told = json.loads((out / "transforms.json").read_text())["reference"]
    assert (told["frame"], told["file"], told["shape"]) == (None, "other.fits", list(OTHER))
    record = tomllib.loads((out / "run.toml").read_text())["provenance"]
    assert record["reference"] == hashlib.sha256((tmp_path / "other.fits").read_bytes()).hexdigest()
    # Brightness is that of a frame of the night, which has a transparency of 1.
    assert np.abs(night.table["transparency"] - 1).min() < 1e-3
    assert run.summary()["sequences"][0]["reference"] == "other.fits"
    # The certificate's pair shows the reference itself, with its stars where they are matched.
    pair = make_pair(night.certificate(), 0, None)
    assert pair.note == ""
    assert pair.pictures is not None
    for picture, positions in zip(pair.pictures, (pair.xy, pair.reference_xy), strict=True):
        left, right, bottom, top = picture.box
        step = (right - left) / picture.data.shape[1]
        assert (top - bottom) / picture.data.shape[0] == step
        i, j = (((v - edge) / step).astype(int) for v, edge in zip(positions.T, (left, bottom), strict=True))
        assert np.median(picture.data[j, i]) > np.percentile(picture.data, 90)


def test_stars_of_the_template_lie_where_the_reference_has_them(simulated: Simulated, tmp_path: Path) -> None:
    spec = spec_of(SHAPE, frames=4, wcs=False)
    spec = replace(spec, sensor=replace(spec.sensor, mosaic=""))
    folder, truth = simulated(spec)
    there = another_camera(tmp_path / "other.fits", spec)
    run = difflapse.run(folder, tmp_path / "out", reference=str(tmp_path / "other.fits"), workers=1)
    image = np.asarray(run.template.data)
    assert image.shape == OTHER
    x, y = there.sky_to_pixel(truth.star_ra_deg, truth.star_dec_deg)
    inside = (x > 60) & (y > 60) & (x < OTHER[1] - 61) & (y < OTHER[0] - 61)
    bright = np.flatnonzero(inside & (truth.star_mag < 9.5))
    found = []
    for k in bright:
        a, b = round(float(x[k])), round(float(y[k]))
        if run.template.mask[b - 3 : b + 4, a - 3 : a + 4].any():
            continue  # beyond the night's frames
        part = image[b - 3 : b + 4, a - 3 : a + 4] - np.median(image)
        v, u = np.indices(part.shape)
        part = np.clip(part, 0, None)
        found.append(
            (a - 3 + (u * part).sum() / part.sum() - x[k], b - 3 + (v * part).sum() / part.sum() - y[k])
        )
    assert len(found) > 8
    assert np.abs(np.median(found, axis=0)).max() < 0.1


@pytest.mark.parametrize("roi", ["", "100,60,320,240"])
def test_the_template_of_an_earlier_run_gives_its_own_grid(
    done: Make, simulated: Simulated, tmp_path: Path, roi: str
) -> None:
    """Its pixels, WCS and all: the two runs' products can be compared pixel by pixel."""
    spec = spec_of(SHAPE, frames=4)
    first: Done = done(spec, reference=1, roi=roi)
    folder, truth = simulated(spec)
    run = difflapse.run(
        folder, tmp_path / "out", reference=str(first.out / "template.fits"), workers=1, align="asterism"
    )
    one, two = first.run.template, run.template
    assert two.shape == one.shape
    for key in ("LTM1_1", "LTV1", "LTV2", "REFFILE"):
        assert two.header[key] == one.header[key]
    assert run.reference.file == truth.frames[1].file
    gx, gy = np.meshgrid(np.linspace(110, 410, 9), np.linspace(70, 290, 7))
    for k in range(4):
        x, y = run.frames[k].to_reference(gx, gy)
        tx, ty = truth.to_reference(k, 1, gx, gy)
        # The template's centroids are as good as the frames', on superpixels.
        assert np.sqrt(np.mean(np.hypot(x - tx, y - ty) ** 2)) < 0.05
    j, i = np.indices(one.shape[1:])
    a, b = (wcs.pixel_to_world(i, j) for wcs in (first.run.wcs, run.wcs))
    assert a.separation(b).arcsec.max() < 0.02
    good = ~(one.mask | two.mask)
    ratio = np.asarray(two.data)[good] - np.asarray(one.data)[good]
    assert abs(np.median(ratio)) < 30


def test_another_sky_is_refused(simulated: Simulated, tmp_path: Path) -> None:
    folder, _ = simulated(spec_of(frames=4, wcs=False))
    elsewhere = spec_of(frames=2, seed=99, wcs=False)
    other, truth = simulated(elsewhere)
    name = str(other / truth.frames[0].file)
    with pytest.raises(InputError, match="none of the 4 best frames lies on the reference") as caught:
        difflapse.run(folder, tmp_path / "out", reference=name, workers=1)
    assert caught.value.exit_code == 3
    assert caught.value.facts["tried"] == 4
    assert not (tmp_path / "out").exists()


def test_a_frame_of_the_same_name_elsewhere_is_another_frame(simulated: Simulated, tmp_path: Path) -> None:
    """Its path says which is meant; a bare name means the night's own."""
    folder, truth = simulated(spec_of(frames=4))
    name = truth.frames[1].file
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / name).write_bytes((folder / truth.frames[2].file).read_bytes())
    one = difflapse.run(folder, tmp_path / "1", reference=name, workers=1)
    assert one.reference.number == 1
    two = difflapse.run(folder, tmp_path / "2", reference=str(folder / name), workers=1)
    assert two.reference.number == 1
    three = difflapse.run(folder, tmp_path / "3", reference=str(tmp_path / "other" / name), workers=1)
    assert three.reference.number == -1
    x, y = three.frames[2].to_reference(100.25, 80.5)
    assert np.hypot(x - 100.25, y - 80.5) < 0.02


@pytest.mark.parametrize("what", ["difference", "text", "nothing"])
def test_what_is_no_reference_is_refused_before_any_work(
    done: Make, simulated: Simulated, tmp_path: Path, what: str
) -> None:
    spec = spec_of(frames=4)
    folder, truth = simulated(spec)
    path = tmp_path / "reference.fits"
    if what == "difference":
        made = done(spec, save="aligned,differences")
        path = made.out / "differences" / truth.frames[0].file.replace(".fits.fz", ".fits")
    elif what == "text":
        path.write_text("not FITS")
    with pytest.raises((InputError, OptionError)) as caught:
        difflapse.run(folder, tmp_path / "out", reference=str(path), workers=1)
    assert caught.value.exit_code == (2 if what == "nothing" else 3)
    assert "reference" in caught.value.message
    assert not (tmp_path / "out").exists()


def test_the_plan_foresees_the_references_grid(simulated: Simulated, tmp_path: Path) -> None:
    spec = spec_of(frames=4)
    folder, _ = simulated(spec)
    another_camera(tmp_path / "other.fits", spec)
    options = difflapse.RunOptions(reference=str(tmp_path / "other.fits"))
    told = difflapse.plan([folder], tmp_path / "out", options).to_mapping()
    assert f"{OTHER[1] // 2}x{OTHER[0] // 2} product pixels" in " ".join(told["sequences"][0]["steps"])

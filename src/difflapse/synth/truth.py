"""The truth of a simulated night, read back from `truth.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from difflapse.errors import InputError
from difflapse.synth.geometry import Geometry, Lens

VERSION = 1


@dataclass(frozen=True, eq=False)
class TrueFrame:
    """What is true of one frame."""

    file: str
    """Its name, beside truth.json."""
    start_mjd: float
    """True start of the exposure, MJD (UTC); the header's DATE-OBS is off by the clock's skew."""
    exposure_s: float
    cloudy: bool
    """Whether clouds take more than 30 % of the light."""
    transparency: float
    """Green light that arrives through air, haze and clouds, mean over the frame; 1 above the atmosphere."""
    fwhm_pix: float
    """Geometric-mean FWHM of the PSF at the optical centre, native pixels, before integration over pixels."""
    sky_adu: tuple[float, float, float]
    """Sky in R, G, B at the optical centre of a clear frame, ADU above the bias."""
    zenith_distance_deg: float
    flipped: bool
    wcs: bool
    """Whether its header has a WCS."""
    geometry: Geometry

    @property
    def mid_mjd(self) -> float:
        """Middle of the exposure, MJD (UTC)."""
        return self.start_mjd + 0.5 * self.exposure_s / 86400.0


@dataclass(frozen=True, eq=False)
class TrueObject:
    """Something that moves or changes; arrays have one entry for each frame in `frame`."""

    kind: str
    """``comet``, ``mover``, ``variable``, ``nova`` or ``streak``."""
    name: str
    star: int
    """Row in `Truth.stars`, -1 for what is no star."""
    frame: np.ndarray
    x: np.ndarray
    y: np.ndarray
    """Native pixels of that frame at mid-exposure (a streak's start); NaN behind the camera."""
    ra_deg: np.ndarray
    dec_deg: np.ndarray
    mag: np.ndarray
    """Green magnitude above the atmosphere; 99 while absent; NaN for streaks."""
    flux_adu: np.ndarray
    """ADU on this frame, after air, clouds and vignetting, as if all pixels were green (streaks: in all)."""
    inside: np.ndarray
    """bool: whether it is there and its position is on the sensor."""
    x_end: np.ndarray
    y_end: np.ndarray
    """A streak's end; for the others equal to x, y."""


@dataclass(frozen=True, eq=False)
class Truth:
    """A simulated night: frames, stars, objects, and the exact maps between them."""

    name: str
    seed: int
    shape: tuple[int, int]
    """(ny, nx) of every frame."""
    mosaic: str
    frames: tuple[TrueFrame, ...]
    objects: tuple[TrueObject, ...]
    hot_pixels: np.ndarray
    """(n, 3): x, y, mean ADU."""
    star_ra_deg: np.ndarray
    star_dec_deg: np.ndarray
    star_mag: np.ndarray
    star_colour: np.ndarray
    star_kind: np.ndarray
    parameters: dict[str, Any]
    """The whole NightSpec as plain values."""

    @classmethod
    def read(cls, source: str | Path) -> Truth:
        """Read a folder's truth.json, or the file itself.

        Raises
        ------
        InputError
            There is none, or it is not ours.
        """
        path = Path(source)
        path = path / "truth.json" if path.is_dir() else path
        try:
            return from_plain(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as e:
            raise InputError(
                f"no truth.json at {source}", "simulate a night first: difflapse simulate OUT"
            ) from e
        except (ValueError, KeyError, TypeError) as e:
            raise InputError(f"{path} is not the truth of a simulated night: {e}") from e

    @cached_property
    def stars(self) -> Any:
        """Table of all stars: ra, dec (degrees, ICRS), mag (green), colour (B-V like), kind; a row each."""
        from astropy.table import Table

        columns = [self.star_ra_deg, self.star_dec_deg, self.star_mag, self.star_colour, self.star_kind]
        units = ["deg", "deg", "mag", None, None]
        return Table(columns, names=["ra", "dec", "mag", "colour", "kind"], units=units)

    def sky_to_pixel(
        self, k: int, ra_deg: np.ndarray | float, dec_deg: np.ndarray | float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Map ICRS degrees to native pixels of frame `k` at mid-exposure."""
        return self.frames[k].geometry.sky_to_pixel(ra_deg, dec_deg)

    def pixel_to_sky(
        self, k: int, x: np.ndarray | float, y: np.ndarray | float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Map native pixels of frame `k` to ICRS degrees."""
        return self.frames[k].geometry.pixel_to_sky(x, y)

    def to_reference(
        self, k: int, ref: int, x: np.ndarray | float, y: np.ndarray | float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Map native pixels of frame `k` to those of frame `ref`, for what stands still on the sky."""
        return self.sky_to_pixel(ref, *self.pixel_to_sky(k, x, y))

    def star_pixels(self, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y (native pixels of frame `k`) of all stars, and whether each is there and on the sensor."""
        x, y = self.sky_to_pixel(k, self.star_ra_deg, self.star_dec_deg)
        mag = self.star_mags(k)
        with np.errstate(invalid="ignore"):
            return x, y, on_sensor(x, y, self.shape) & (mag < 90)

    def star_mags(self, k: int) -> np.ndarray:
        """Green magnitudes of all stars on frame `k`; 99 for a nova that is not there yet."""
        mag = self.star_mag.copy()
        for o in self.objects:
            if o.star >= 0:
                mag[o.star] = o.mag[k]
        return mag


def on_sensor(x: np.ndarray, y: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Whether positions fall on the pixels of a sensor of (ny, nx)."""
    with np.errstate(invalid="ignore"):
        return (x >= -0.5) & (x < shape[1] - 0.5) & (y >= -0.5) & (y < shape[0] - 0.5)


def to_plain(truth: Truth) -> dict[str, Any]:
    """The truth as values that JSON can hold, columns as lists; positions to 1e-6 px."""
    lens = truth.frames[0].geometry.lens
    frames = [
        {
            "file": f.file,
            "start_mjd": f.start_mjd,
            "exposure_s": f.exposure_s,
            "cloudy": f.cloudy,
            "transparency": f.transparency,
            "fwhm_pix": f.fwhm_pix,
            "sky_adu": list(f.sky_adu),
            "zenith_distance_deg": f.zenith_distance_deg,
            "flipped": f.flipped,
            "wcs": f.wcs,
            "camera": f.geometry.camera.tolist(),
            "zenith": f.geometry.zenith.tolist(),
            "refraction": f.geometry.refraction,
        }
        for f in truth.frames
    ]
    objects = [
        {
            "kind": o.kind,
            "name": o.name,
            "star": o.star,
            "frame": o.frame.tolist(),
            **{c: _rounded(getattr(o, c), 6) for c in ("x", "y", "x_end", "y_end")},
            **{c: _rounded(getattr(o, c), 9) for c in ("ra_deg", "dec_deg")},
            **{c: _rounded(getattr(o, c), 4) for c in ("mag", "flux_adu")},
            "inside": o.inside.tolist(),
        }
        for o in truth.objects
    ]
    return {
        "difflapse_truth": VERSION,
        "positions": "x, y: 0-based native pixels, pixel centres, at mid-exposure (docs/simulator.md)",
        "name": truth.name,
        "seed": truth.seed,
        "shape": list(truth.shape),
        "mosaic": truth.mosaic,
        "lens": {
            "scale_arcsec": lens.scale_arcsec,
            "cubic": lens.cubic,
            "centre": list(lens.centre),
            "quadratic_x": list(lens.quadratic_x),
            "quadratic_y": list(lens.quadratic_y),
        },
        "frames": frames,
        "objects": objects,
        "hot_pixels": np.round(truth.hot_pixels, 2).tolist(),
        "stars": {
            "ra_deg": truth.star_ra_deg.tolist(),
            "dec_deg": truth.star_dec_deg.tolist(),
            "mag": truth.star_mag.tolist(),
            "colour": truth.star_colour.tolist(),
            "kind_other_than_star": {
                str(i): str(truth.star_kind[i]) for i in np.flatnonzero(truth.star_kind != "star")
            },
        },
        "parameters": truth.parameters,
    }


def from_plain(plain: dict[str, Any]) -> Truth:
    """The truth from what `to_plain` made."""
    if plain.get("difflapse_truth") != VERSION:
        raise ValueError(f"version {plain.get('difflapse_truth')!r}, this program reads {VERSION}")
    shape = (int(plain["shape"][0]), int(plain["shape"][1]))
    held = plain["lens"]
    lens = Lens(
        scale_arcsec=held["scale_arcsec"],
        cubic=held["cubic"],
        centre=(held["centre"][0], held["centre"][1]),
        quadratic_x=(held["quadratic_x"][0], held["quadratic_x"][1], held["quadratic_x"][2]),
        quadratic_y=(held["quadratic_y"][0], held["quadratic_y"][1], held["quadratic_y"][2]),
    )
    frames = tuple(
        TrueFrame(
            file=f["file"],
            start_mjd=f["start_mjd"],
            exposure_s=f["exposure_s"],
            cloudy=f["cloudy"],
            transparency=f["transparency"],
            fwhm_pix=f["fwhm_pix"],
            sky_adu=(f["sky_adu"][0], f["sky_adu"][1], f["sky_adu"][2]),
            zenith_distance_deg=f["zenith_distance_deg"],
            flipped=f["flipped"],
            wcs=f["wcs"],
            geometry=Geometry(shape, lens, np.array(f["camera"]), np.array(f["zenith"]), f["refraction"]),
        )
        for f in plain["frames"]
    )
    floats = ("x", "y", "ra_deg", "dec_deg", "mag", "flux_adu", "x_end", "y_end")
    objects = tuple(
        TrueObject(
            kind=o["kind"],
            name=o["name"],
            star=o["star"],
            frame=np.array(o["frame"], int),
            inside=np.array(o["inside"], bool),
            **{c: np.array([np.nan if v is None else v for v in o[c]], float) for c in floats},
        )
        for o in plain["objects"]
    )
    stars = plain["stars"]
    kind = np.full(len(stars["mag"]), "star", dtype="U8")
    for i, name in stars["kind_other_than_star"].items():
        kind[int(i)] = name
    return Truth(
        name=plain["name"],
        seed=plain["seed"],
        shape=shape,
        mosaic=plain["mosaic"],
        frames=frames,
        objects=objects,
        hot_pixels=np.array(plain["hot_pixels"], float).reshape(-1, 3),
        star_ra_deg=np.array(stars["ra_deg"], float),
        star_dec_deg=np.array(stars["dec_deg"], float),
        star_mag=np.array(stars["mag"], float),
        star_colour=np.array(stars["colour"], float),
        star_kind=kind,
        parameters=plain["parameters"],
    )


def _rounded(values: np.ndarray, digits: int) -> list[float | None]:
    """Floats for JSON, which has no NaN."""
    return [round(float(v), digits) if np.isfinite(v) else None for v in values]

"""The camera: point-spread function, sensor, and the step from light to numbers.

Positions are 0-based native pixels; light is counted in electrons. A channel's flux is what a star would give
if every pixel had that channel's filter: a mosaic site receives its own channel's density, nothing is shared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from difflapse.errors import OptionError
from difflapse.synth._kernels import add_coma, add_points, add_sky, read_out
from difflapse.synth.geometry import Geometry

MOFFAT_BETA = 2.5
"""Fixed, so that the profile needs one square root and no power."""
CHANNELS = "RGB"


@dataclass(frozen=True)
class Sensor:
    """A mosaic sensor. An empty `mosaic` is a monochrome one, all its pixels green."""

    mosaic: str = "GBRG"
    """Colours in array order: (0,0), (0,1), (1,0), (1,1)."""
    gain_e_adu: float = 1.5
    read_noise_e: float = 8.0
    bias_adu: float = 2048.0
    row_noise_adu: float = 0.6
    """Offset of each row from its neighbours, new in each frame."""
    saturation_adu: float = 13800.0
    flat_noise: float = 0.01
    """Pixel-to-pixel scatter of sensitivity, fixed on the sensor."""
    vignetting: tuple[float, float] = (0.38, 0.07)
    """Coefficients of r**2 and r**4, r in half diagonals from the optical centre."""
    hot_per_18mpx: int = 900
    dead_per_18mpx: int = 40
    noise: bool = True
    """False: no photon, read, row or scintillation noise (the flat field and the hot pixels stay)."""

    def __post_init__(self) -> None:
        if self.mosaic and (len(self.mosaic) != 4 or set(self.mosaic) - set(CHANNELS)):
            raise OptionError(
                f"mosaic is {self.mosaic!r}", "four of R, G, B in array order, such as GBRG; empty for none"
            )

    @property
    def sites(self) -> np.ndarray:
        """(2, 2) channel index (R 0, G 1, B 2) of each site."""
        return np.array([CHANNELS.index(c) for c in (self.mosaic or "GGGG")], np.int64).reshape(2, 2)


@dataclass(frozen=True)
class Blur:
    """How the PSF grows from the optical centre to the corner; its size at the centre is the night's."""

    growth: float = 0.18
    """Geometric-mean FWHM at the corner over the one at the centre, minus one; grows as r**2."""
    elongation: float = 0.32
    """Axis ratio at the corner minus one; grows as r**2. The long axis points to the optical centre."""


@dataclass(frozen=True, eq=False)
class Points:
    """Point sources on one frame: (n,) native pixels, and (n, 3) electrons in R, G, B."""

    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray


@dataclass(frozen=True, eq=False)
class Defects:
    """What is wrong with the sensor, the same in all frames."""

    flat: np.ndarray
    """(ny, nx) float32, relative sensitivity, near 1; dead pixels low."""
    hot_x: np.ndarray
    hot_y: np.ndarray
    """(n,) int columns and rows of the hot pixels."""
    hot_adu: np.ndarray
    """(n,) mean ADU each adds to an exposure."""
    hot_flickers: np.ndarray
    """(n,) bool: those that are on in some frames and off in others (random telegraph)."""


def make_defects(sensor: Sensor, shape: tuple[int, int], rng: np.random.Generator) -> Defects:
    """Draw the flat field, the hot pixels (some in clusters, some that flicker) and the dead ones."""
    ny, nx = shape
    flat = rng.standard_normal(shape, np.float32)
    flat *= np.float32(sensor.flat_noise)
    flat += np.float32(1.0)
    share = ny * nx / 18.1e6
    wanted = round(sensor.hot_per_18mpx * share)
    # One in six hot pixels lies next to another: charge defects come in clumps.
    lone = wanted - wanted // 6
    x, y = rng.integers(0, nx, lone), rng.integers(0, ny, lone)
    parent = rng.integers(0, max(lone, 1), wanted - lone)
    step = np.array([(0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, -1)])[rng.integers(0, 6, wanted - lone)]
    x = np.concatenate([x, np.clip(x[parent] + step[:, 0], 0, nx - 1)]) if lone else x
    y = np.concatenate([y, np.clip(y[parent] + step[:, 1], 0, ny - 1)]) if lone else y
    adu = np.exp(rng.normal(np.log(220.0), 1.25, len(x))).clip(30.0, 11000.0)
    _, first = np.unique(y * nx + x, return_index=True)
    first.sort()
    x, y, adu = x[first], y[first], adu[first]
    dead = round(sensor.dead_per_18mpx * share)
    flat[rng.integers(0, ny, dead), rng.integers(0, nx, dead)] = rng.uniform(0.0, 0.6, dead)
    return Defects(flat, x, y, adu, rng.random(len(x)) < 0.05)


def psf_shape(
    x: np.ndarray, y: np.ndarray, geometry: Geometry, blur: Blur, fwhm_pix: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Long and short FWHM (pixels) and direction of the long axis (radians from +x) at positions."""
    cx, cy = geometry.centre_pix
    dx, dy = x - cx, y - cy
    r2 = np.minimum((dx * dx + dy * dy) / geometry.radius_pix**2, 1.5)
    mean = fwhm_pix * (1.0 + blur.growth * r2)
    ratio = np.sqrt(1.0 + blur.elongation * r2)
    return mean * ratio, mean / ratio, np.arctan2(dy, dx)


def put_points(
    image: np.ndarray, sensor: Sensor, geometry: Geometry, blur: Blur, fwhm_pix: float, points: Points
) -> None:
    """Add stars to `image` (ny, nx; electrons) in place, each out to where it fades below 0.1 electron."""
    long, short, angle = psf_shape(points.x, points.y, geometry, blur, fwhm_pix)
    to_alpha = 0.5 / np.sqrt(2.0 ** (1.0 / MOFFAT_BETA) - 1.0)
    a, b = long * to_alpha, short * to_alpha
    c, s = np.cos(angle), np.sin(angle)
    form = np.column_stack(
        [c * c / a**2 + s * s / b**2, c * s * (1 / a**2 - 1 / b**2), s * s / a**2 + c * c / b**2]
    )
    peak = (MOFFAT_BETA - 1.0) / (np.pi * a * b)
    brightest = points.flux.max(axis=1, initial=0.0)
    radius = np.clip(a * (np.maximum(brightest * peak, 1e-9) / 0.1) ** (0.5 / MOFFAT_BETA), 5.0, 90.0)
    on = np.isfinite(points.x) & np.isfinite(points.y) & (brightest > 0)
    add_points(
        image,
        sensor.sites,
        points.x[on],
        points.y[on],
        points.flux[on],
        form[on],
        peak[on],
        radius[on],
    )


def put_coma(
    image: np.ndarray, sensor: Sensor, x: float, y: float, fwhm_pix: float, flux: np.ndarray
) -> None:
    """Add a coma of total `flux` (3,) electrons whose full width at half maximum is `fwhm_pix`, in place."""
    core, reach = coma_scales(fwhm_pix)
    rho = np.linspace(0.0, 9.0 * reach, 20001)
    density = np.exp(-rho / reach) / np.hypot(rho, core)
    total = float(np.trapezoid(2 * np.pi * rho * density, rho))
    add_coma(image, sensor.sites, float(x), float(y), core, reach, np.asarray(flux, float), 1.0 / total)


def coma_scales(fwhm_pix: float) -> tuple[float, float]:
    """Softening of the 1/rho profile and its exponential reach, in pixels, for a FWHM."""
    reach = 1.5 * fwhm_pix
    # half maximum at fwhm / 2: exp(-h / reach) * core / hypot(h, core) = 1/2
    h = 0.5 * fwhm_pix
    k = 2.0 * np.exp(-h / reach)
    return float(h / np.sqrt(k * k - 1.0)), float(reach)


def finish_light(
    image: np.ndarray,
    sensor: Sensor,
    geometry: Geometry,
    defects: Defects,
    sky: np.ndarray,
    step: int,
    level_e: np.ndarray,
) -> None:
    """Add the sky (map `sky`, nodes every `step` pixels, times `level_e`), vignetting and flat, in place."""
    centre = np.array(geometry.centre_pix)
    add_sky(
        image,
        sensor.sites,
        np.ascontiguousarray(sky, float),
        step,
        np.asarray(level_e, float),
        centre,
        1.0 / geometry.radius_pix,
        np.array(sensor.vignetting),
        defects.flat,
    )


def vignette(x: np.ndarray, y: np.ndarray, sensor: Sensor, geometry: Geometry) -> np.ndarray:
    """Light that reaches positions on the sensor, 1 at the optical centre."""
    cx, cy = geometry.centre_pix
    r2 = ((x - cx) ** 2 + (y - cy) ** 2) / geometry.radius_pix**2
    return 1.0 - sensor.vignetting[0] * r2 - sensor.vignetting[1] * r2 * r2


def expose(image: np.ndarray, sensor: Sensor, defects: Defects, rng: np.random.Generator) -> np.ndarray:
    """Turn expected electrons (ny, nx float32; changed in place) into the uint16 frame the camera writes."""
    flicker_on = rng.random(len(defects.hot_x)) < 0.5
    hot = np.where(defects.hot_flickers & ~flicker_on, 0.0, defects.hot_adu)
    image[defects.hot_y, defects.hot_x] += (hot * sensor.gain_e_adu).astype(np.float32)
    if not sensor.noise:
        adu = np.rint(sensor.bias_adu + image / sensor.gain_e_adu)
        return np.clip(adu, 0, sensor.saturation_adu).astype(np.uint16)
    normal = rng.standard_normal(image.shape, np.float32)
    rows = rng.normal(0.0, sensor.row_noise_adu, image.shape[0])
    seed = int(rng.integers(0, 2**31 - 1))
    return read_out(
        image,
        normal,
        rows,
        sensor.gain_e_adu,
        sensor.read_noise_e,
        sensor.bias_adu,
        float(int(sensor.saturation_adu)),
        seed,
    )

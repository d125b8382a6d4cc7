"""A night: time, the mount, the weather, and the frames written to disk with their truth."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from difflapse.errors import OptionError, OutputError
from difflapse.synth.camera import (
    Blur,
    Defects,
    Points,
    Sensor,
    expose,
    finish_light,
    make_defects,
    put_coma,
    put_points,
    vignette,
)
from difflapse.synth.geometry import (
    ARCSEC,
    Geometry,
    Lens,
    Site,
    rotation,
    sky_angles,
    unit_vectors,
    zenith_and_pole,
)
from difflapse.synth.header import PlateSolution, Stamp, write_frame
from difflapse.synth.scene import (
    ABSENT,
    Comet,
    Mover,
    Nova,
    Population,
    Response,
    Scene,
    SkyObject,
    Streak,
    Variable,
    make_scene,
    path,
)
from difflapse.synth.truth import TrueFrame, TrueObject, Truth, from_plain, on_sensor, to_plain

SIDEREAL_ARCSEC_S = 15.041067
"""How fast the sky turns."""
SKY_STEP = 32
"""Pixels between the nodes of the sky's brightness map."""
STREAK_MARGIN = 30
"""Pixels outside the sensor from which a streak's light may still fall on it."""
SMALL_NIGHT_PIX = 60_000_000
"""A night with fewer pixels in all is done before other processes have started, so it stays in this one."""


@dataclass(frozen=True)
class Clock:
    """When frames are taken, and what the camera believes."""

    start: str = "2018-08-24T04:01:18"
    """True start of the first exposure, UTC."""
    exposure_s: float = 120.0
    cadence_s: tuple[int, int] = (172, 184)
    """Shortest and longest time from one start to the next; whole seconds, drawn evenly."""
    skew_s: float = -352.0
    """DATE-OBS minus the truth: the camera's clock is off, the computer's (file name, IMAGEID) is right."""

    @property
    def mean_cadence_s(self) -> float:
        """Mean time from one start to the next."""
        return 0.5 * (self.cadence_s[0] + self.cadence_s[1])


@dataclass(frozen=True)
class Mount:
    """Where the camera points, and how badly its mount tracks."""

    ra_deg: float = 243.7
    dec_deg: float = 33.0
    """Apparent direction of the optical axis at the first mid-exposure."""
    roll_deg: float = 91.7
    """Position angle of the sensor's +y axis, from north through east."""
    rate_arcsec_s: float = 0.21
    """Tracking too fast by this (at the equator)."""
    polar_deg: float = 0.35
    polar_angle_deg: float = 65.0
    """The polar axis' error, and its direction from the meridian; bends the drift, turns the field."""
    periodic_arcsec: float = 4.0
    periodic_s: float = 479.0
    """Amplitude and period of the worm gear's error."""
    jitter_arcsec: float = 1.0
    """Random offset of each frame, each axis (wind, backlash)."""
    flip_offset_arcsec: tuple[float, float] = (310.0, -190.0)
    """How far off the mount points after a meridian flip, along +x and +y."""


@dataclass(frozen=True)
class Air:
    """Seeing, extinction and the brightness of the sky."""

    fwhm_pix: tuple[float, float] = (1.8, 2.2)
    """Range of the PSF's FWHM at the optical centre: focus wanders through it within the night."""
    extinction_mag: tuple[float, float, float] = (0.12, 0.18, 0.28)
    """Magnitudes per air mass in R, G, B."""
    haze: float = 0.03
    """Light lost, at most, to thin haze that comes and goes."""
    scintillation: float = 0.0015
    """Scatter of each star's light in one exposure."""
    sky_adu: tuple[float, float, float] = (260.0, 420.0, 290.0)
    """Sky in R, G, B per exposure at the optical centre, above the bias."""
    gradient: float = 0.12
    """Brighter by this from one side of the frame to the other; its direction turns slowly."""
    clouds: tuple[tuple[int, float], ...] = ()
    """(frame, optical depth of the thickest parts): 0.4 is thin, 5 hides most stars."""
    cloud_glow: float = 0.8
    """A thick cloud brightens the sky by this: it reflects the town."""


@dataclass(frozen=True)
class NightSpec:
    """A whole simulated night. Vary one with `dataclasses.replace`; the same spec gives the same pixels."""

    name: str = "panoptes"
    seed: int = 1
    frames: int = 36
    shape: tuple[int, int] = (3476, 5208)
    """(ny, nx) in native pixels."""
    site: Site = field(default_factory=Site)
    clock: Clock = field(default_factory=Clock)
    mount: Mount = field(default_factory=Mount)
    lens: Lens = field(default_factory=Lens)
    blur: Blur = field(default_factory=Blur)
    sensor: Sensor = field(default_factory=Sensor)
    air: Air = field(default_factory=Air)
    population: Population = field(default_factory=Population)
    response: Response = field(default_factory=Response)
    objects: tuple[SkyObject, ...] = ()
    plate: PlateSolution | None = field(default_factory=PlateSolution)
    """How well the header's WCS is known; None leaves it out of all headers."""
    flip_at: int | None = None
    """First frame after a meridian flip: the camera is turned by 180 degrees and a new SEQID begins."""
    trail_pix: float = 0.0
    """Length of star trails along +x within an exposure; 0: tracked well enough."""
    unit: str = "PAN012"
    camera: str = "358d0f"
    field_name: str = "Simulated field"

    def __post_init__(self) -> None:
        if self.frames < 1 or min(self.shape) < 32:
            raise OptionError(
                f"a night of {self.frames} frames of {self.shape[1]}x{self.shape[0]} cannot be simulated",
                "at least 1 frame of at least 32x32 pixels",
            )


@dataclass(frozen=True, eq=False)
class Moment:
    """Everything about one frame that is decided before its light is computed."""

    index: int
    start: datetime
    hours: float
    """From the first mid-exposure to this one."""
    cadences: float
    """From mid-night to this mid-exposure, in mean cadences."""
    geometry: Geometry
    flipped: bool
    fwhm_pix: float
    haze: float
    """Fraction of light that passes the haze."""
    cloud_depth: float
    cloud_shift: tuple[float, float]
    sky_scale: float
    sky_slope: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Night:
    """A planned night: its moments and its sky."""

    spec: NightSpec
    moments: tuple[Moment, ...]
    scene: Scene
    cloud_texture: np.ndarray
    """(96, 96), periodic, mostly 0..1."""

    @property
    def middle(self) -> Geometry:
        """The frame on which objects' places and rates are given."""
        return self.moments[len(self.moments) // 2].geometry


def simulate(
    out: str | Path,
    spec: NightSpec,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Truth:
    """Write a night of frames whose truth is known; not for anything but testing and teaching.

    Parameters
    ----------
    out : path
        Folder to make; refused if it holds anything.
    spec : NightSpec
        The night; see `preset`.
    workers : int
        Processes, at most; a small night stays in this one. The pixels do not depend on it. A script that
        asks for more than one needs the ``if __name__ == "__main__":`` guard, since they are spawned.
    progress : callable, optional
        Called with (frames done, frames in all).

    Returns
    -------
    Truth
        What is also in ``out/truth.json``.

    Raises
    ------
    OutputError
        The folder is not empty, or cannot be written.
    """
    folder = _empty_folder(Path(out))
    night = plan(spec)
    share = max(1, min(4, -(-spec.frames // max(workers, 1))))
    tasks = [range(i, min(i + share, spec.frames)) for i in range(0, spec.frames, share)]
    done = 0
    with _writing(folder):
        if workers <= 1 or spec.frames * spec.shape[0] * spec.shape[1] < SMALL_NIGHT_PIX:
            defects = _defects(spec)
            for k in range(spec.frames):
                _write(night, defects, k, folder)
                if progress:
                    progress(k + 1, spec.frames)
        else:
            with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=get_context("spawn")) as pool:
                for count in pool.map(_write_share, *zip(*((spec, t, folder) for t in tasks), strict=True)):
                    done += count
                    if progress:
                        progress(done, spec.frames)
        text = json.dumps(to_plain(_truth(night)), separators=(",", ":"))
        part = folder / ".truth.json.part"
        part.write_text(text, encoding="utf-8")
        os.replace(part, folder / "truth.json")
    return from_plain(json.loads(text))


def truth_of(spec: NightSpec) -> Truth:
    """The truth of a night without computing a pixel of it."""
    return from_plain(json.loads(json.dumps(to_plain(_truth(plan(spec))))))


def render(spec: NightSpec, k: int) -> np.ndarray:
    """The (ny, nx) uint16 pixels of frame `k`, exactly as `simulate` writes them."""
    defects = _defects(spec)
    return expose(light(plan(spec), k, defects), spec.sensor, defects, _rng(spec, "expose", k))


def ideal(spec: NightSpec, k: int) -> np.ndarray:
    """The (ny, nx) float32 expectation of frame `k`, ADU above the bias: no noise, saturation, hot pixels."""
    still = replace(spec, sensor=replace(spec.sensor, noise=False))
    return light(plan(still), k, _defects(spec)) / np.float32(spec.sensor.gain_e_adu)


def plan(spec: NightSpec) -> Night:
    """Decide all that happens in a night: times, pointings, weather and the sky; no pixels yet."""
    rng = _rng(spec, "time")
    steps = rng.integers(spec.clock.cadence_s[0], spec.clock.cadence_s[1] + 1, spec.frames - 1)
    elapsed = np.concatenate([[0], np.cumsum(steps)]).astype(int)
    moments = tuple(_moment(spec, k, elapsed) for k in range(spec.frames))
    geometries = [m.geometry for m in moments]
    middle = geometries[len(geometries) // 2]
    scene = make_scene(spec.population, spec.objects, geometries, middle, _rng(spec, "scene"))
    return Night(spec, moments, scene, _texture(_rng(spec, "clouds")))


def light(night: Night, k: int, defects: Defects) -> np.ndarray:
    """The expected electrons of frame `k`, (ny, nx) float32: stars, objects, sky, vignetting, flat."""
    spec, moment = night.spec, night.moments[k]
    image = np.zeros(spec.shape, np.float32)
    points = [_stars(night, k)]
    for thing in spec.objects:
        if isinstance(thing, (Mover, Comet)):
            ra, dec = path(thing, night.middle, np.array([moment.cadences]))
            x, y = moment.geometry.sky_to_pixel(ra, dec)
            if not np.all(np.isfinite([x, y])):
                continue
            flux = (
                10 ** (-0.4 * thing.mag)
                * spec.population.zero_point_e
                * transmission(night, k, x, y, ra, dec)
            )
            if isinstance(thing, Comet):
                flux = flux * np.array(thing.channels)
                put_coma(image, spec.sensor, x[0], y[0], thing.fwhm_pix, flux[0] * (1 - thing.condensation))
                flux = flux * thing.condensation
            else:
                flux = flux * spec.response(thing.colour)
            points.append(Points(x, y, flux))
        elif isinstance(thing, Streak) and thing.frame == k:
            points.append(_streak(night, k, thing))
    for group in points:
        for part in _trailed(group, spec.trail_pix):
            put_points(image, spec.sensor, moment.geometry, spec.blur, moment.fwhm_pix, part)
    level = np.array(spec.air.sky_adu) * spec.sensor.gain_e_adu
    finish_light(image, spec.sensor, moment.geometry, defects, _sky_map(night, k), SKY_STEP, level)
    return image


def transmission(
    night: Night, k: int, x: np.ndarray, y: np.ndarray, ra: np.ndarray, dec: np.ndarray
) -> np.ndarray:
    """Share of light (n, 3) in R, G, B that comes through air, haze and clouds at positions on frame `k`."""
    moment, air = night.moments[k], night.spec.air
    z = np.minimum(moment.geometry.zenith_distance_deg(ra, dec), 88.0)
    c = np.cos(np.radians(z))
    airmass = 1.0 / (c + 0.50572 * (96.07995 - z) ** -1.6364)  # Kasten & Young (1989)
    grey = moment.haze * np.exp(-_cloud(night, k, x, y))
    return grey[..., None] * 10 ** (-0.4 * airmass[..., None] * np.array(air.extinction_mag))


def _moment(spec: NightSpec, k: int, elapsed: np.ndarray) -> Moment:
    """Time, pointing and weather of frame `k`."""
    first = datetime.fromisoformat(spec.clock.start)
    start = first + timedelta(seconds=int(elapsed[k]))
    hours = elapsed[k] / 3600.0
    flipped = spec.flip_at is not None and k >= spec.flip_at
    own, shared = _rng(spec, "moment", k), _rng(spec, "weather")
    phases = shared.uniform(0, 2 * np.pi, 8)
    direction = shared.uniform(0, 2 * np.pi)
    wind = np.array([np.cos(direction), np.sin(direction)]) * shared.uniform(60.0, 90.0)
    low, high = spec.air.fwhm_pix
    wander = 0.5 + 0.38 * np.sin(hours * 2.4 + phases[0]) + own.normal(0.0, 0.08)
    pulse = np.sin(hours * 3.1 + phases[1]) * np.sin(hours * 0.9 + phases[2])
    turn = phases[3] + 0.35 * hours
    return Moment(
        index=k,
        start=start,
        hours=hours,
        cadences=(elapsed[k] - elapsed[len(elapsed) // 2]) / spec.clock.mean_cadence_s,
        geometry=_pointing(spec, k, float(elapsed[k]), flipped, own.normal(0.0, 1.0, 2)),
        flipped=flipped,
        fwhm_pix=float(low + (high - low) * np.clip(wander, 0.0, 1.0)),
        haze=float(1.0 - spec.air.haze * pulse**2),
        cloud_depth=dict(spec.air.clouds).get(k, 0.0),
        cloud_shift=(float(wind[0] * hours), float(wind[1] * hours)),
        sky_scale=float(1.0 + 0.08 * np.sin(hours * 0.8 + phases[4])),
        sky_slope=(float(spec.air.gradient * np.cos(turn)), float(spec.air.gradient * np.sin(turn))),
    )


def _pointing(spec: NightSpec, k: int, seconds: float, flipped: bool, jitter: np.ndarray) -> Geometry:
    """The camera's orientation: it turns with the Earth, and back about a not quite polar axis."""
    mount, site = spec.mount, spec.site
    start = mjd(datetime.fromisoformat(spec.clock.start)) + 0.5 * spec.clock.exposure_s / 86400.0
    _, pole = zenith_and_pole(start, site)
    axis = unit_vectors(mount.ra_deg, mount.dec_deg)
    ra, roll = np.radians(mount.ra_deg), np.radians(mount.roll_deg)
    east = np.array([-np.sin(ra), np.cos(ra), 0.0])
    north = np.cross(axis, east)
    rows = np.array(
        [np.sin(roll) * north - np.cos(roll) * east, np.cos(roll) * north + np.sin(roll) * east, axis]
    )
    meridian = axis - (axis @ pole) * pole
    meridian /= np.linalg.norm(meridian)
    tilt, where = np.radians(mount.polar_deg), np.radians(mount.polar_angle_deg)
    off = np.cos(where) * meridian + np.sin(where) * np.cross(pole, meridian)
    mount_axis = np.cos(tilt) * pole + np.sin(tilt) * off
    turned = SIDEREAL_ARCSEC_S * seconds * ARCSEC
    worm = mount.periodic_arcsec * np.sin(2 * np.pi * seconds / mount.periodic_s) * ARCSEC
    driven = turned + mount.rate_arcsec_s * seconds * ARCSEC + worm
    motion = rotation(pole, turned) @ rotation(mount_axis, -driven)
    nudge = jitter * mount.jitter_arcsec
    rows = rows @ motion.T
    if flipped:
        rows[:2] *= -1.0
        nudge = nudge + np.array(mount.flip_offset_arcsec)
    rows = rows @ (rotation(rows[0], -nudge[1] * ARCSEC) @ rotation(rows[1], nudge[0] * ARCSEC)).T
    zenith, _ = zenith_and_pole(start + seconds / 86400.0, site)
    scale = (site.pressure_hpa / 1010.0) * (283.0 / (273.0 + site.temperature_c)) if site.refraction else 0.0
    return Geometry(spec.shape, spec.lens, rows, zenith, scale)


def _stars(night: Night, k: int) -> Points:
    """Every star that can reach frame `k`, with its light after the atmosphere."""
    spec, moment, scene = night.spec, night.moments[k], night.scene
    ny, nx = spec.shape
    x, y = moment.geometry.sky_to_pixel(scene.ra_deg, scene.dec_deg)
    mag = scene.magnitudes(moment.hours)
    with np.errstate(invalid="ignore"):
        near = (x > -90) & (y > -90) & (x < nx + 90) & (y < ny + 90) & (mag < ABSENT - 9)
    x, y = x[near], y[near]
    flux = spec.population.zero_point_e * 10 ** (-0.4 * mag[near])
    if spec.sensor.noise:
        twinkle = _rng(spec, "twinkle", k).normal(1.0, spec.air.scintillation, len(scene.mag))
        flux = flux * twinkle[near]
    through = transmission(night, k, x, y, scene.ra_deg[near], scene.dec_deg[near])
    return Points(x, y, flux[:, None] * spec.response(scene.colour[near]) * through)


def _streak(night: Night, k: int, streak: Streak) -> Points:
    """A satellite's line as points a quarter of a pixel apart."""
    spec = night.spec
    (x0, y0), (x1, y1) = _streak_ends(streak, spec.shape)
    length = float(np.hypot(x1 - x0, y1 - y0))
    n = max(2, int(np.ceil(4 * length)))
    t = (np.arange(n) + 0.5) / n
    x, y = x0 + t * (x1 - x0), y0 + t * (y1 - y0)
    bright = np.full(n, streak.adu_per_pix * spec.sensor.gain_e_adu * length / n)
    if streak.tumble_pix > 0:
        bright *= 1.0 + 0.8 * np.sin(2 * np.pi * t * length / streak.tumble_pix)
    ny, nx = spec.shape
    out = STREAK_MARGIN
    near = (x > -out) & (y > -out) & (x < nx + out) & (y < ny + out)
    x, y = x[near], y[near]
    through = np.exp(-_cloud(night, k, x, y))
    return Points(x, y, (bright[near] * through)[:, None] * spec.response(streak.colour))


def _streak_ends(streak: Streak, shape: tuple[int, int]) -> tuple[tuple[float, float], tuple[float, float]]:
    """First and last point (x, y) in native pixels."""
    ny, nx = shape
    start = (streak.start[0] * nx - 0.5, streak.start[1] * ny - 0.5)
    return start, (streak.end[0] * nx - 0.5, streak.end[1] * ny - 0.5)


def _trailed(points: Points, trail_pix: float) -> Iterator[Points]:
    """The points, or where stars trail, equal parts of them half a pixel apart."""
    n = int(np.ceil(2 * trail_pix)) + 1 if trail_pix > 0 else 1
    for t in (np.arange(n) + 0.5) / n - 0.5:
        yield Points(points.x + t * trail_pix, points.y, points.flux / n)


def _cloud(night: Night, k: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Optical depth of the clouds at positions on frame `k`."""
    from scipy.ndimage import map_coordinates

    moment = night.moments[k]
    if moment.cloud_depth <= 0:
        return np.zeros(np.shape(x))
    cell = moment.geometry.radius_pix / 14.0
    places = np.stack(
        [np.asarray(y) / cell + moment.cloud_shift[1], np.asarray(x) / cell + moment.cloud_shift[0]]
    )
    texture = map_coordinates(night.cloud_texture, places, order=3, mode="grid-wrap")
    return moment.cloud_depth * (0.25 + 0.85 * np.clip(texture, 0.0, 1.3))


def _texture(rng: np.random.Generator) -> np.ndarray:
    """A periodic field with structure on all scales, most of it within 0..1."""
    n = 96
    f = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.fftfreq(n)[None, :])
    f[0, 0] = np.inf
    wave = np.fft.fft2(rng.standard_normal((n, n))) * (f**-1.7) * (f < 0.35)
    field_ = np.fft.ifft2(wave).real
    low, high = np.percentile(field_, [5, 95])
    return (field_ - low) / (high - low)


def _sky_map(night: Night, k: int) -> np.ndarray:
    """The sky's brightness on nodes `SKY_STEP` pixels apart, 1 at the centre of a clear average frame."""
    ny, nx = night.spec.shape
    moment = night.moments[k]
    y, x = np.meshgrid(
        np.arange(-(-ny // SKY_STEP) + 1) * SKY_STEP,
        np.arange(-(-nx // SKY_STEP) + 1) * SKY_STEP,
        indexing="ij",
    )
    slope = 1.0 + moment.sky_slope[0] * (x / nx - 0.5) + moment.sky_slope[1] * (y / ny - 0.5)
    hidden = 1.0 - np.exp(-_cloud(night, k, x, y))
    return moment.sky_scale * slope * (1.0 + night.spec.air.cloud_glow * hidden)


def _truth(night: Night) -> Truth:
    """All that is known of a night."""
    spec, scene, moments = night.spec, night.scene, night.moments
    defects = _defects(spec)
    ny, nx = spec.shape
    gx, gy = np.meshgrid(np.linspace(0, nx - 1, 24), np.linspace(0, ny - 1, 16))
    frames = []
    for m in moments:
        ra, dec = m.geometry.pixel_to_sky(gx.ravel(), gy.ravel())
        green = transmission(night, m.index, gx.ravel(), gy.ravel(), ra, dec)[:, 1]
        cloud = float(np.mean(np.exp(-_cloud(night, m.index, gx, gy))))
        transparency = float(green.mean())
        frames.append(
            TrueFrame(
                file=_file_name(m.start),
                start_mjd=mjd(m.start),
                exposure_s=spec.clock.exposure_s,
                cloudy=cloud < 0.7,
                transparency=transparency,
                fwhm_pix=m.fwhm_pix,
                sky_adu=tuple(float(s * m.sky_scale) for s in spec.air.sky_adu),  # type: ignore[arg-type]
                zenith_distance_deg=float(
                    m.geometry.zenith_distance_deg(*m.geometry.pixel_to_sky(nx / 2, ny / 2))
                ),
                flipped=m.flipped,
                wcs=_solved(night, m),
                geometry=m.geometry,
            )
        )
    return Truth(
        name=spec.name,
        seed=spec.seed,
        shape=spec.shape,
        mosaic=spec.sensor.mosaic,
        frames=tuple(frames),
        objects=_objects(night),
        hot_pixels=np.column_stack([defects.hot_x, defects.hot_y, defects.hot_adu]).astype(float),
        star_ra_deg=scene.ra_deg,
        star_dec_deg=scene.dec_deg,
        star_mag=scene.mag,
        star_colour=scene.colour,
        star_kind=scene.kind,
        parameters=asdict(spec),
    )


def _objects(night: Night) -> tuple[TrueObject, ...]:
    """The truth of each thing that moves or changes."""
    spec, scene = night.spec, night.scene
    row = len(scene.mag) - len(scene.changing)
    numbers: dict[str, int] = {}
    found = []
    for thing in spec.objects:
        kind = type(thing).__name__.lower()
        numbers[kind] = numbers.get(kind, 0) + 1
        star = -1
        moments = night.moments
        if isinstance(thing, Streak):
            if thing.frame >= spec.frames:
                continue
            moments = (night.moments[thing.frame],)
        k = np.array([m.index for m in moments])
        if isinstance(thing, (Variable, Nova)):
            star, row = row, row + 1
            ra, dec = np.full(len(k), scene.ra_deg[star]), np.full(len(k), scene.dec_deg[star])
            mag = np.array([thing.magnitude(m.hours) for m in moments])
        elif isinstance(thing, (Mover, Comet)):
            ra, dec = path(thing, night.middle, np.array([m.cadences for m in moments]))
            mag = np.full(len(k), thing.mag)
        if isinstance(thing, Streak):
            (x0, y0), (x1, y1) = _streak_ends(thing, spec.shape)
            x, y, x_end, y_end = (np.array([v]) for v in (x0, y0, x1, y1))
            ra, dec = moments[0].geometry.pixel_to_sky(x, y)
            mag = np.array([np.nan])
            flux = (
                np.array([float(np.sum(_streak(night, thing.frame, thing).flux[:, 1]))])
                / spec.sensor.gain_e_adu
            )
            inside = np.array([True])
        else:
            places = [m.geometry.sky_to_pixel(ra[i], dec[i]) for i, m in enumerate(moments)]
            x, y = np.array([p[0] for p in places]), np.array([p[1] for p in places])
            x_end, y_end = x, y
            inside = on_sensor(x, y, spec.shape) & (mag < ABSENT - 9)
            through = np.array(
                [
                    transmission(night, m.index, x[i : i + 1], y[i : i + 1], ra[i : i + 1], dec[i : i + 1])[
                        0, 1
                    ]
                    for i, m in enumerate(moments)
                ]
            )
            dimmed = through * vignette(x, y, spec.sensor, moments[0].geometry)
            flux = spec.population.zero_point_e * 10 ** (-0.4 * mag) * dimmed / spec.sensor.gain_e_adu
        found.append(
            TrueObject(
                kind, f"{kind} {numbers[kind]}", star, k, x, y, ra, dec, mag, flux, inside, x_end, y_end
            )
        )
    return tuple(found)


def _write_share(spec: NightSpec, frames: range, folder: Path) -> int:
    """Write a few frames in a process of its own."""
    night, defects = plan(spec), _defects(spec)
    for k in frames:
        _write(night, defects, k, folder)
    return len(frames)


def _write(night: Night, defects: Defects, k: int, folder: Path) -> None:
    """Compute frame `k` and write it under its final name once it is whole."""
    spec, moment = night.spec, night.moments[k]
    pixels = expose(light(night, k, defects), spec.sensor, defects, _rng(spec, "expose", k))
    begin = spec.flip_at if moment.flipped and spec.flip_at is not None else 0
    stamp = Stamp(
        start=moment.start,
        exposure_s=spec.clock.exposure_s,
        sequence=night.moments[begin].start - timedelta(seconds=121),
        skew_s=spec.clock.skew_s,
        unit=spec.unit,
        camera=spec.camera,
        field=spec.field_name,
        mosaic=spec.sensor.mosaic,
    )
    plate = spec.plate if _solved(night, moment) else None
    axis = sky_angles(moment.geometry.camera[2])
    final = folder / _file_name(moment.start)
    part = folder / f".{final.name}.part"
    write_frame(part, pixels, stamp, spec.site, moment.geometry, axis, plate, _rng(spec, "plate", k))
    os.replace(part, final)


def _solved(night: Night, moment: Moment) -> bool:
    """Whether a plate solver would have solved this frame: not through thick clouds."""
    return night.spec.plate is not None and moment.cloud_depth < 1.5


def _defects(spec: NightSpec) -> Defects:
    return make_defects(spec.sensor, spec.shape, _rng(spec, "sensor"))


def _file_name(start: datetime) -> str:
    return f"{start:%Y%m%dT%H%M%S}.fits.fz"


def mjd(when: datetime) -> float:
    """MJD (UTC) of a time."""
    return (when - datetime(1858, 11, 17)).total_seconds() / 86400.0


def _rng(spec: NightSpec, purpose: str, k: int = 0) -> np.random.Generator:
    """A generator of its own for each purpose and frame, so that no draw depends on another."""
    return np.random.default_rng([spec.seed, k, *purpose.encode()])


def _empty_folder(folder: Path) -> Path:
    """Make the folder, or refuse it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = next(folder.iterdir(), None)
    except OSError as e:
        raise OutputError(f"cannot write to {folder}: {e.strerror or e}", "choose another folder") from e
    if held is not None:
        raise OutputError(
            f"{folder} is not empty (it holds {held.name})", "choose a new folder for the simulated night"
        )
    return folder


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Leave no half-written file behind, and say plainly what stopped the writing."""
    try:
        yield
    except OSError as e:
        raise OutputError(f"cannot write to {folder}: {e.strerror or e}", "free some space") from e
    finally:
        for part in folder.glob(".*.part"):
            part.unlink(missing_ok=True)


__all__ = [
    "Air",
    "Clock",
    "Moment",
    "Mount",
    "Night",
    "NightSpec",
    "ideal",
    "light",
    "plan",
    "render",
    "simulate",
    "transmission",
    "truth_of",
]

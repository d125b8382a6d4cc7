"""Ready-made nights."""

from __future__ import annotations

import numpy as np

from difflapse.errors import OptionError
from difflapse.synth.header import PlateSolution
from difflapse.synth.night import Air, Clock, Mount, NightSpec
from difflapse.synth.scene import Comet, Mover, Nova, SkyObject, Streak, Variable

PRESETS = {
    "panoptes": "a night of a PANOPTES unit, as in docs/simulator.md, number by number; for all figures",
    "changes": "24 frames as of panoptes with many variables, new stars, movers, streaks and comets, faint to bright",
    "demo": "24 small frames with a comet, a variable, a mover, a satellite and one cloudy frame",
}
"""Name and one line of each."""
_MANY = {"movers": 12, "variables": 12, "novae": 10}
"""Things of `changes` per 4.5 Mpx."""
LONG = 60
"""Frames after which the field would sink too low: longer nights look further east at the sky's rate."""


def preset(
    name: str = "panoptes",
    *,
    frames: int | None = None,
    shape: tuple[int, int] | None = None,
    seed: int = 1,
    wcs: bool = True,
    clouds: int | None = None,
    comets: int | None = None,
    movers: int | None = None,
    variables: int | None = None,
    novae: int | None = None,
    streaks: int | None = None,
    flip_at: int | None = None,
) -> NightSpec:
    """A ready-made night of any length and size; whatever is None is the preset's own.

    Parameters
    ----------
    name : str
        One of `PRESETS`.
    frames : int
        36 (`panoptes`) or 24 (`changes`, `demo`).
    shape : (ny, nx)
        (3476, 5208), (1738, 2604) (`changes`) or (868, 1302) (`demo`). The density of stars and hot pixels stays; distortion, vignetting
        and the PSF's growth scale with the frame, so that a small frame is as hard for each pixel of drift.
    seed : int
        Everything random follows from it.
    wcs : bool
        Whether headers hold a plate solution.
    clouds : int
        Frames in thick clouds (each with a thinly clouded neighbour in `panoptes`).
    comets, movers, variables, novae, streaks : int
        How many of each. In `changes` 1, 12, 12, 10 and 4 (movers, variables and novae per 4.5 Mpx, 40 each at
        most), of brightness so spread that one sighting has an S/N of some 3 to 60.
    flip_at : int
        First frame after a meridian flip.

    Raises
    ------
    OptionError
        There is no such preset.
    """
    if name not in PRESETS:
        raise OptionError(f"no preset {name!r}", f"one of: {', '.join(PRESETS)}")
    demo, many = name == "demo", name == "changes"
    n = (36 if name == "panoptes" else 24) if frames is None else frames
    usual = {"panoptes": (3476, 5208), "changes": (1738, 2604), "demo": (868, 1302)}
    size = usual[name] if shape is None else shape
    rng = np.random.default_rng([seed, *b"preset"])
    thick = (1 if demo else max(1, n // 18)) if clouds is None else clouds
    usual_counts = {"comets": 1, "movers": 3, "variables": 6, "novae": 1, "streaks": 3}
    if demo:
        usual_counts |= {"movers": 1, "variables": 1, "novae": 0, "streaks": 1}
    elif many:
        area = size[0] * size[1] / (1738 * 2604)
        counts = {kind: max(2, min(40, round(area * n_))) for kind, n_ in _MANY.items()}
        usual_counts |= counts | {"comets": 1, "streaks": 4}
    given = {"comets": comets, "movers": movers, "variables": variables, "novae": novae, "streaks": streaks}
    wanted = {kind: usual_counts[kind] if count is None else count for kind, count in given.items()}
    hours = max(n - 1, 1) * Clock().mean_cadence_s / 3600.0
    return NightSpec(
        name=name,
        seed=seed,
        frames=n,
        shape=size,
        air=Air(
            clouds=_clouds(n, thick, thin=not demo, rng=rng),
            fwhm_pix=(float(rng.uniform(1.8, 2.1)), float(rng.uniform(2.2, 2.7))) if many else Air().fwhm_pix,
        ),
        objects=(_many_objects if many else _objects)(wanted, n, hours, rng),
        plate=PlateSolution() if wcs else None,
        flip_at=flip_at,
        mount=Mount(ra_deg=Mount().ra_deg + max(n - LONG, 0) * 0.744),
        field_name="Simulated demo" if demo else "Simulated Hercules",
    )


def _clouds(frames: int, thick: int, thin: bool, rng: np.random.Generator) -> tuple[tuple[int, float], ...]:
    """(frame, depth) of the cloudy frames, spread over the night, never the first one."""
    thick = min(thick, max(frames - 1, 0))
    if thick <= 0:
        return ()
    middle = 1 + (np.arange(thick) + rng.uniform(0.25, 0.75, thick)) * (frames - 1) / thick
    at = sorted({min(int(m), frames - 1) for m in middle})
    depth = dict.fromkeys((k + 1 for k in at if k + 1 < frames), 0.4) if thin and frames > 8 else {}
    depth |= dict.fromkeys(at, 5.0)
    return tuple(sorted(depth.items()))


def _many_objects(
    wanted: dict[str, int], frames: int, hours: float, rng: np.random.Generator
) -> tuple[SkyObject, ...]:
    """The things of `changes`: brightness evenly spread from what is hardly seen to what cannot be missed."""

    def spread(n: int, low: float, high: float) -> np.ndarray:
        return np.asarray(rng.permutation(low + (np.arange(n) + rng.uniform(0, 1, n)) / max(n, 1) * (high - low)))

    def place() -> tuple[float, float]:
        return float(rng.uniform(0.06, 0.94)), float(rng.uniform(0.06, 0.94))

    def rate(low: float, high: float) -> tuple[float, float]:
        speed, angle = rng.uniform(low, high), rng.uniform(0, 2 * np.pi)
        return float(speed * np.cos(angle)), float(speed * np.sin(angle))

    made: list[SkyObject] = []
    for mag in spread(wanted["comets"], 9.0, 12.0):
        made.append(Comet(place(), rate(2.2, 3.5), float(mag), float(rng.uniform(20, 32))))
    # A star of magnitude 14.6 stands out from a clear sky by 10 sigma.
    for mag in spread(wanted["movers"], 12.7, 15.8):
        made.append(Mover(place(), rate(2.0, 7.0), float(mag), float(rng.uniform(0.6, 0.9))))
    amplitude = 10 ** spread(wanted["variables"], np.log10(0.06), np.log10(0.9))
    for i, mag in enumerate(spread(wanted["variables"], 9.5, 13.3)):
        star = Variable(
            place(),
            mag=float(mag),
            amplitude_mag=float(amplitude[i]),
            period_h=float(hours * rng.uniform(0.45, 1.3)),
            phase=float(rng.random()),
            shape=("sine", "eclipse")[i % 2],
            colour=float(rng.uniform(0.2, 1.2)),
        )
        made.append(star)
    for mag in spread(wanted["novae"], 12.7, 15.8):
        start, rise = rng.uniform(0.15, 0.75) * hours, rng.uniform(0.02, 0.1) * hours
        made.append(Nova(place(), float(mag), float(start), float(rise)))
    for i, light in enumerate(10 ** spread(wanted["streaks"], np.log10(25.0), np.log10(600.0))):
        frame = int((i + rng.uniform(0.1, 0.9)) * frames / wanted["streaks"])
        angle, middle = rng.uniform(0, 2 * np.pi), place()
        half = float(rng.choice([0.9, 0.25, 0.12])) * np.array([np.cos(angle), np.sin(angle)])
        made.append(
            Streak(
                min(frame, frames - 1),
                (float(middle[0] - half[0]), float(middle[1] - half[1])),
                (float(middle[0] + half[0]), float(middle[1] + half[1])),
                adu_per_pix=float(light),
                tumble_pix=float(rng.choice([0.0, 0.0, 170.0])),
            )
        )
    return tuple(made)


def _objects(
    wanted: dict[str, int], frames: int, hours: float, rng: np.random.Generator
) -> tuple[SkyObject, ...]:
    """The things that change, placed at random but away from the frame's edge."""

    def place() -> tuple[float, float]:
        return float(rng.uniform(0.18, 0.82)), float(rng.uniform(0.18, 0.82))

    def rate(low: float, high: float) -> tuple[float, float]:
        speed, angle = rng.uniform(low, high), rng.uniform(0, 2 * np.pi)
        return float(speed * np.cos(angle)), float(speed * np.sin(angle))

    made: list[SkyObject] = []
    for _ in range(wanted["comets"]):
        at = float(rng.uniform(0.35, 0.65)), float(rng.uniform(0.35, 0.65))
        made.append(Comet(at, rate(2.2, 3.2), fwhm_pix=float(rng.uniform(24, 32))))
    for i in range(wanted["movers"]):
        mag, colour = 10.6 + 0.5 * (i % 4), float(rng.uniform(0.6, 0.9))
        made += [Mover(place(), rate(3.0, 7.0), mag, colour)]
    for i in range(wanted["variables"]):
        star = Variable(
            place(),
            mag=10.3 + 0.25 * (i % 5),
            amplitude_mag=(0.7, 0.45, 0.25, 0.8)[i % 4],
            period_h=float(hours * rng.uniform(0.45, 1.1)),
            phase=float(rng.random()),
            shape=("sine", "eclipse")[i % 2],
            colour=float(rng.uniform(0.2, 1.2)),
        )
        made.append(star)
    for _ in range(wanted["novae"]):
        made += [Nova(place(), mag=9.8, start_h=0.35 * hours, rise_h=0.2 * hours)]
    for i in range(wanted["streaks"]):
        frame = int((i + rng.uniform(0.3, 0.7)) * frames / wanted["streaks"])
        angle = rng.uniform(0, 2 * np.pi)
        middle = place()
        half = (0.9, 0.25, 0.15)[i % 3] * np.array([np.cos(angle), np.sin(angle)])
        made.append(
            Streak(
                min(frame, frames - 1),
                (float(middle[0] - half[0]), float(middle[1] - half[1])),
                (float(middle[0] + half[0]), float(middle[1] + half[1])),
                adu_per_pix=(250.0, 140.0, 600.0)[i % 3],
                tumble_pix=(0.0, 170.0, 0.0)[i % 3],
            )
        )
    return tuple(made)

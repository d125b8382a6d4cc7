"""How deep the night was: artificial stars and movers planted into windows of all frames, and looked for there.

The windows go the way of the frames (template, matching, difference, finding, refusing, linking) by the same
functions, beside them: no product ever holds an artificial star.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from difflapse.align.kernels import kernel_of
from difflapse.align.stamps import native_side, warp_stamps
from difflapse.difference import Science, Template
from difflapse.difference.convolve import Windows
from difflapse.difference.windows import add_stamps, cut, cut_mask, cut_mesh, cut_noise
from difflapse.errors import FrameError
from difflapse.measure import draw_stars, gaussian_profile, reach_pix
from difflapse.model import Alignment, ProductGrid, Quality, StarProfile, bits
from difflapse.mosaic import channels, sites
from difflapse.pipeline.context import Night
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.match import difference_with
from difflapse.pipeline.records import Member, Reference, Scene, Subtracted
from difflapse.pipeline.sensor import facts_with_gain

KINDS = ("transient", "mover")
SEED = 20
_SNR = (3.0, 40.0)
"""Of one sighting of what is planted, evenly in its logarithm."""
_FEWEST = 4
"""Frames with a difference."""
_PER_TRANSIENT = 35_000
"""Product pixels to a planted transient; there is a mover to every three of them."""
_TRANSIENTS = (48, 96)
_USUAL_SIZE = 15
"""Product pixels along a stamp of stars two pixels wide."""
_SPEED = (1.0, 3.0)
"""Of movers, FWHM from a frame to the next."""
_WIDEST = 16.0
"""FWHM, native px, above which stars are no points, and nothing is planted."""


@dataclass(frozen=True, eq=False)
class Planted:
    """What was planted: n things, the transients first, on K frames."""

    kind: np.ndarray
    """(n,) int: index into `KINDS`."""
    x: np.ndarray
    y: np.ndarray
    """(n, K) float64, native pixels of the reference at mid-exposure."""
    step: np.ndarray
    """(n, 2) float64: native px moved within an exposure."""
    on: np.ndarray
    """(n, K) bool: whether it shines, and lies on the products."""
    flux: np.ndarray
    """(c, n) float64: ADU on the frame that brightness is measured against, as if all pixels were of that colour."""
    mag: np.ndarray
    """(n,) float64: -2.5 log10 of adu/s over the green or only channel's own pixels, as in `stars.ecsv`."""
    place: np.ndarray
    """(K, n, 2) int: i, j of each window's first product pixel."""
    side: int
    """Product pixels along a window."""
    size: int
    """Product pixels along a stamp, in the middle of its window."""

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def still(self) -> np.ndarray:
        """(n,) bool: windows that lie at the same place in all frames."""
        return self.kind == 0


def plant(desk: Desk) -> None:
    """Draw what is planted, and lay its light on scratch, frame by frame."""
    night = desk.night
    scene: Scene = night.shared("scene")
    why = why_not(night, scene)
    if why:
        if night.options.injection:
            night.share("not_planted", why)
            desk.progress.note(f"how deep the night was is not measured: {why}")
        return
    quality = {k: desk.value("quality", k) for k in scene.used}
    planted = draw_plan(night, scene, quality)
    if planted is None:
        why = "no frame tells how wide its stars are"
        night.share("not_planted", why)
        desk.progress.note(f"how deep the night was is not measured: {why}")
        return
    night.share("planted", planted)
    n, frames = len(planted), len(night.frames)
    night.make_array("planted_stamps", (frames, n, len(planted.flux), planted.size, planted.size), np.float32)
    lit = lit_side(planted.size, night.shared("canvas").grid.step)
    night.make_array("planted_native", (frames, n, lit, lit), np.float32)
    night.make_array("planted_corners", (frames, n, 2), np.int32)
    desk.progress.start("plant", len(scene.used))
    jobs = [
        (night, k, *(desk.value(name, k) for name in ("alignment", "quality", "scale"))) for k in scene.used
    ]
    snr = np.full((len(planted), len(night.frames)), np.nan)
    for n, result in desk.pool.run(plant_frame, jobs):
        if isinstance(result, FrameError):
            desk.progress.note(f"nothing is planted in {night.frames[scene.used[n]].file}: {result.message}")
        else:
            snr[:, scene.used[n]] = result
        desk.progress.advance("plant")
    desk.progress.finish("plant")
    night.share("planted_snr", snr)


def why_not(night: Night, scene: Scene) -> str:
    """Why nothing can be planted; empty where it can."""
    if not night.options.injection:
        return "not asked"
    if night.has("no_watch"):
        return str(night.shared("no_watch"))
    if scene.mode == "none":
        return "nothing is subtracted"
    if len(scene.used) < _FEWEST:
        return f"{len(scene.used)} frames can be compared; {_FEWEST} are needed"
    if night.options.follow:
        return "a target is followed, and stars trail"
    if night.shared("reference").external is not None:
        return "the reference is another camera's"
    return ""


def profile_of(quality: Quality, size: tuple[int, int]) -> StarProfile | None:
    """What pixels of a frame see of a star; None where nothing is known of it."""
    if quality.profile is not None:
        return quality.profile
    return gaussian_profile(quality.fwhm_pix, size) if np.isfinite(quality.fwhm_pix) else None


def lit_side(size: int, step: int) -> int:
    """Native pixels (even) in the middle of a native window that planted light falls on, trails and all."""
    return 2 * ((size * step + 3) // 2)


def planted_bytes(product: int, n_channels: int, step: int) -> int:
    """Scratch of one frame's planted light, bytes, foreseen for stars of an ordinary width."""
    things = int(np.clip(product // _PER_TRANSIENT, *_TRANSIENTS)) * 4 // 3
    return 4 * things * (n_channels * _USUAL_SIZE**2 + lit_side(_USUAL_SIZE, step) ** 2)


def draw_plan(night: Night, scene: Scene, quality: Mapping[int, Quality]) -> Planted | None:
    """Places, times, motions and brightness of what is planted; None where no frame tells its stars' width."""
    reference: Reference = night.shared("reference")
    grid: ProductGrid = night.shared("canvas").grid
    own = quality[reference.frame]
    facts = night.frames[reference.frame]
    profile = profile_of(own, facts.shape)
    widths = [q.fwhm_pix for q in quality.values() if np.isfinite(q.fwhm_pix) and q.fwhm_pix < _WIDEST]
    if profile is None or not widths or own.fwhm_pix > _WIDEST:
        return None
    rng = np.random.default_rng(SEED)
    ny, nx = grid.shape
    transients = int(np.clip(ny * nx // _PER_TRANSIENT, *_TRANSIENTS))
    kind = np.repeat([0, 1], [transients, transients // 3])
    n, frames = len(kind), len(night.frames)
    fwhm = float(np.median(widths))
    t = _clock(night)
    x0, y0 = grid.to_native(rng.uniform(0, nx - 1, n), rng.uniform(0, ny - 1, n))
    speed = np.where(kind == 1, rng.uniform(*_SPEED, n) * fwhm, 0.0)
    angle = rng.uniform(0, 2 * np.pi, n)
    vx, vy = speed * np.cos(angle), speed * np.sin(angle)
    x, y = x0[:, None] + vx[:, None] * t, y0[:, None] + vy[:, None] * t
    i, j = grid.from_native(x, y)
    on = (i >= 0) & (j >= 0) & (i <= nx - 1) & (j <= ny - 1)
    # A new star shines in two frames or more in a row, up to half of the night.
    used = np.array(scene.used)
    length = np.exp(rng.uniform(np.log(2), np.log(max(2.5, 0.5 * len(used))), n)).astype(int)
    begin = (rng.random(n) * (len(used) - length + 1)).astype(int)
    order = np.full(frames, -1)
    order[used] = np.arange(len(used))
    lit = (order >= begin[:, None]) & (order < (begin + length)[:, None])
    on &= (order >= 0) & (lit | (kind == 1)[:, None])
    exposed = facts.exposure_s or 0.0
    share = min(1.0, exposed / scene.cadence_s) if scene.cadence_s else 0.0

    widest = max(max(widths) / fwhm, 1.0)
    reach = min(reach_pix(profile) * widest, 3 * _WIDEST) + 0.5 * share * speed.max()
    size = 2 * (int(np.ceil(reach / grid.step)) + kernel_of(night.options.resample).half) + 1
    side = max(32, size + 8, int(np.ceil(12 * fwhm / grid.step)))
    place = np.stack([np.round(i), np.round(j)], axis=-1).astype(int) - side // 2
    flux = _fluxes(
        night,
        reference,
        own,
        profile,
        x0,
        y0,
        np.exp(rng.uniform(float(np.log(_SNR[0])), float(np.log(_SNR[1])), n)),
    )
    green = 1 if len(flux) == 3 else 0
    radius = night.shared("catalogue").radius if night.has("catalogue") else np.inf
    mag = -2.5 * np.log10(
        _share(profile, facts.mosaic, green, radius, x0, y0) * flux[green] / (exposed or 1.0)
    )
    return Planted(
        kind,
        x,
        y,
        share * np.column_stack([vx, vy]),
        on,
        flux,
        mag,
        place.transpose(1, 0, 2).copy(),
        side,
        size,
    )


def _clock(night: Night) -> np.ndarray:
    """Times of all frames from mid-night, in cadences; frame numbers where not all are known."""
    times = [facts.mid_mjd for facts in night.frames]
    cadence = night.cadence_s()
    numbers = np.arange(len(times), dtype=float)
    if cadence and not any(t is None for t in times):
        numbers = np.array(times, float) * 86400 / cadence
    return np.asarray(numbers - 0.5 * (numbers.min() + numbers.max()))


def _fluxes(
    night: Night,
    reference: Reference,
    quality: Quality,
    profile: StarProfile,
    x: np.ndarray,
    y: np.ndarray,
    snr: np.ndarray,
) -> np.ndarray:
    """Fluxes (c, n) of typical colour that stand out from the reference frame's noise by `snr`."""
    facts = facts_with_gain(night, reference.frame)
    colour = np.ones(len(channels(facts.mosaic)))
    seen = reference.light.colour_flux
    if len(seen) == 3 and seen.shape[1] >= 5:
        # Sums are over each colour's own pixels: green has two in four.
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.nanmedian(np.where(seen[1] > 0, seen / (0.5 * seen[1]), np.nan), axis=1)
        colour = np.clip(np.array([ratio[0], 1.0, ratio[2]]), 0.05, 20.0)
    flux = np.full(len(x), 1000.0)
    for _ in range(12):
        flux *= snr / expected_snr(
            profile, quality, facts.gain_e_adu, facts.mosaic, x, y, colour[:, None] * flux
        )
    return np.asarray(colour[:, None] * flux)


def _share(
    profile: StarProfile, mosaic: str, channel: int, radius: float, x: np.ndarray, y: np.ndarray
) -> float:
    """Share of a star's light, as if all pixels were of a colour, on that colour's own pixels in an aperture."""
    sensed = channel_sites(mosaic)
    if not np.isfinite(radius):
        return float(np.mean(sensed == channel))
    side = native_side(1, 1) + 2 * int(np.ceil(radius))
    corner = 2 * (np.column_stack([x, y]) / 2 - side / 4).round().astype(int)
    only = np.zeros((sensed.max() + 1, len(x)))
    only[channel] = 1.0
    stamps = draw_stars(profile, x, y, only, corner, side, sensed)
    u = np.arange(side)
    away = np.hypot(
        corner[:, 0, None, None] + u - x[:, None, None],
        corner[:, 1, None, None] + u[:, None] - y[:, None, None],
    )
    return float(np.mean(np.sum(stamps * np.clip(radius + 0.5 - away, 0, 1), axis=(1, 2))))


def expected_snr(
    profile: StarProfile,
    quality: Quality,
    gain: float | None,
    mosaic: str,
    x: np.ndarray,
    y: np.ndarray,
    flux: np.ndarray,
) -> np.ndarray:
    """S/N (n,) of stars alone on the sky of a frame, fitted at known places: photons and the empty pixel's noise."""
    side = native_side(1, 1)
    corner = np.column_stack([np.round(x), np.round(y)]).astype(int) - side // 2
    stamps = draw_stars(profile, x, y, flux, corner, side, channel_sites(mosaic))
    return _snr(stamps, corner, quality, gain, mosaic)


def _snr(
    stamps: np.ndarray, corner: np.ndarray, quality: Quality, gain: float | None, mosaic: str
) -> np.ndarray:
    """S/N of expected light on native pixels."""
    step = 2 if mosaic else 1
    side = stamps.shape[-1]
    row = (corner[:, 1, None] + np.arange(side)) % step
    column = (corner[:, 0, None] + np.arange(side)) % step
    variance = (
        np.asarray(quality.noise_adu)[channel_sites(mosaic)][row[:, :, None] * step + column[:, None, :]] ** 2
    )
    if gain:
        variance = variance + stamps / gain
    return np.asarray(np.sqrt(np.sum(stamps.astype(float) ** 2 / variance, axis=(1, 2))))


def channel_sites(mosaic: str) -> np.ndarray:
    """The channel of each site of the cell, row by row."""
    return np.array([site.channel for site in sorted(sites(mosaic), key=lambda s: (s.y, s.x))])


def plant_frame(
    night: Night, k: int, alignment: Alignment, quality: Quality, scale: np.ndarray | None
) -> np.ndarray:
    """Lay the light of all that is planted in frame `k` on scratch, resampled; returns its S/N there (n,)."""
    planted: Planted = night.shared("planted")
    scene: Scene = night.shared("scene")
    reference: Reference = night.shared("reference")
    grid: ProductGrid = night.shared("canvas").of(k)
    facts = facts_with_gain(night, k)
    profile = profile_of(quality, facts.shape)
    n = len(planted)
    snr = np.full(n, np.nan)
    on = np.flatnonzero(planted.on[:, k])
    light = np.ones_like(planted.flux)
    if scale is not None:
        light = _sample(scale, reference.grid, planted.x[:, k], planted.y[:, k])
    x, y = (np.asarray(v) for v in alignment.transform.inverse(planted.x[:, k], planted.y[:, k]))
    pattern, step = facts.mosaic, (2 if facts.mosaic else 1)
    side = native_side(planted.size, step)
    lost = ~(np.isfinite(x) & np.isfinite(y))
    x, y = np.where(lost, -1e6, x), np.where(lost, -1e6, y)
    corner = step * np.round((np.column_stack([x, y]) - side / 2) / step).astype(np.int32)
    night.write("planted_corners", (k, 0, 0), corner)
    if profile is None or len(on) == 0:
        return snr  # the arrays are dark where nothing is written
    corner, flux = corner[on], planted.flux[:, on] * light[:, on]
    # What moves within the exposure leaves a short trail.
    parts = int(np.ceil(np.hypot(*planted.step.T).max())) + 1
    stamps = np.zeros((len(on), side, side), np.float32)
    for part in (np.arange(parts) + 0.5) / parts - 0.5:
        px = planted.x[on, k] + part * planted.step[on, 0]
        py = planted.y[on, k] + part * planted.step[on, 1]
        fx, fy = (np.asarray(v) for v in alignment.transform.inverse(px, py))
        fx, fy = np.where(lost[on], -1e6, fx), np.where(lost[on], -1e6, fy)
        stamps += draw_stars(profile, fx, fy, flux / parts, corner, side, channel_sites(pattern))
    snr[on] = np.where(lost[on], np.nan, _snr(stamps, corner, quality, facts.gain_e_adu, pattern))
    if facts.gain_e_adu:
        rng = np.random.default_rng([SEED, k])
        lit = stamps > 0
        stamps[lit] = rng.poisson(stamps[lit] * facts.gain_e_adu) / facts.gain_e_adu
    at = planted.place[k, on] + (planted.side - planted.size) // 2
    warped = warp_stamps(
        stamps, corner, sites(pattern), alignment.transform, grid, at, planted.size, night.options.resample
    )
    if scene.windowed:
        # Frames that are subtracted from each other are levelled first.
        warped /= light[:, on].T[:, :, None, None]
    dark = (side - lit_side(planted.size, step)) // 2
    middle = stamps[:, dark : side - dark, dark : side - dark]
    for name, values in (("planted_stamps", warped), ("planted_native", middle)):
        whole = np.zeros((n, *values.shape[1:]), np.float32)
        whole[on] = values
        night.write(name, (k, *(0,) * whole.ndim), whole)
    return snr


def _sample(mesh: np.ndarray, grid: ProductGrid, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A mesh (c, my, mx) over the product grid at native places of the reference, (c, n)."""
    i, j = grid.from_native(x, y)
    my, mx = mesh.shape[1:]
    v = np.clip(j * (my - 1) / max(grid.shape[0] - 1, 1), 0, my - 1)
    u = np.clip(i * (mx - 1) / max(grid.shape[1] - 1, 1), 0, mx - 1)
    a, b = np.minimum(v.astype(int), my - 2), np.minimum(u.astype(int), mx - 2)
    f, g = v - a, u - b
    low = mesh[:, a, b] * (1 - g) + mesh[:, a, b + 1] * g
    high = mesh[:, a + 1, b] * (1 - g) + mesh[:, a + 1, b + 1] * g
    return np.asarray(low * (1 - f) + high * f, float)


def sheet_of(
    night: Night, k: int, difference: Subtracted
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The planted windows' difference of frame `k`, in photon sigma, its mask, and the template there (c, ...).

    All one window above the other. None where the frame has no difference.
    """
    pair = difference.pair
    if pair is None:
        return None
    planted: Planted = night.shared("planted")
    scene: Scene = night.shared("scene")
    shape = pair.science.data.shape[1:]
    place, side = planted.place[k], planted.side
    data = cut(pair.science.data, place, side)
    margin = (side - planted.size) // 2
    add_stamps(data, np.asarray(night.array("planted_stamps")[k]), np.full((len(planted), 2), margin))
    science = Science(
        data,
        cut_mask(pair.science.mask, place, side, border=2),
        cut_mesh(pair.science.inverse_scale, shape, place, side),
        cut_mesh(pair.science.offset, shape, place, side),
        cut_noise(pair.science.noise, shape, place, side),
    )
    # What the planted light changes in the template is added to the template as it is.
    if scene.mode == "template" and not night.has("matched"):
        # A template from another night holds nothing of this one.
        more = np.zeros((len(planted), len(data), planted.size, planted.size), np.float32)
    elif scene.mode == "template":
        moving = _template_change(night, place, np.flatnonzero(~planted.still))
        more = np.concatenate([_still_change(night), moving])
    else:
        more = _neighbours_change(night, k, scene, pair.template)
    behind = cut(pair.template.data, place, side)
    add_stamps(behind, more, np.full((len(planted), 2), (side - more.shape[-1]) // 2))
    template = Template(
        behind,
        cut(pair.template.variance, place, side, 1e12),
        cut(pair.template.count, place, side),
        cut_mesh(pair.template.sky, shape, place, side),
        pair.template.correlation,
    )
    middle = place + 0.5 * (side - 1)
    windows = Windows(middle[:, 0], middle[:, 1], side)
    whiten = night.options.match == "zogy"
    result = difference_with(difference.kernel, science, template, pair.own, whiten, windows=windows)
    return result.significance, result.mask, behind


@functools.lru_cache(maxsize=1)
def _still_change(night: Night) -> np.ndarray:
    """`_template_change` in the windows that stay in their place."""
    planted: Planted = night.shared("planted")
    return _template_change(
        night, planted.place[night.shared("scene").used[0]], np.flatnonzero(planted.still)
    )


def forget_planted() -> None:
    """Let go of what this process keeps of a night; run where the night ends."""
    _still_change.cache_clear()


def _template_change(night: Night, place: np.ndarray, which: np.ndarray) -> np.ndarray:
    """What the light of the planted things of index `which` makes of the template in the middle of their windows at
    `place`, (m, c, s, s): the template's frames combined with it and without.
    """
    from difflapse.pipeline.tasks import combine_members

    planted: Planted = night.shared("planted")
    scene: Scene = night.shared("scene")
    members: dict[int, Member] = night.shared("matched")
    frames, masks = night.array("members"), night.array("member_masks")
    moving = night.array("moving") if night.has("moving") else None
    shape = frames.shape[2:]
    inner = min(planted.side, planted.size + 8)
    place = place[which] + (planted.side - inner) // 2
    slots = [member.slot for member in members.values()]
    stack = np.stack([cut(frames[slot], place, inner) for slot in slots])
    hidden = np.stack([cut_mask(np.asarray(masks[slot]), place, inner, border=0) for slot in slots])
    if moving is not None:
        hidden |= np.stack([cut(moving[slot], place, inner) for slot in slots]).astype(bool) * np.uint8(
            bits.BLANK
        )
    laid = _laid(tuple(members.values()), shape, place, inner)
    level = cut_mesh(scene.sky, shape, place, inner)
    ny = stack.shape[2]
    if night.has("coma") or moving is not None:
        # The template is not what its frames as they lie on scratch make.
        without = combine_members(night, laid, stack, hidden, level, ny)[0]
    else:
        without = cut(night.array("template"), place, inner)
    for j, sheet in zip(members, stack, strict=True):
        where = planted.place[j, which] - place + (planted.side - planted.size) // 2
        add_stamps(sheet, np.asarray(night.array("planted_stamps")[j])[which], where)
    change = combine_members(night, laid, stack, hidden, level, ny)[0] - without
    return np.ascontiguousarray(change.reshape(len(change), len(place), inner, inner).transpose(1, 0, 2, 3))


def _laid(
    members: tuple[Member, ...], shape: tuple[int, ...], place: np.ndarray, side: int
) -> tuple[Member, ...]:
    """The template's frames with their meshes over a sheet of windows; meshes of one shape are cut together."""
    meshes = [
        mesh
        for m in members
        for mesh in (m.inverse_scale, m.offset, m.noise.sky, m.noise.photon, m.noise.flat)
    ]
    out: list[np.ndarray] = [meshes[0]] * len(meshes)
    for size in {mesh.shape for mesh in meshes}:
        own = [n for n, mesh in enumerate(meshes) if mesh.shape == size]
        sheets = cut_mesh(np.concatenate([meshes[n] for n in own]), shape, place, side)
        for n, sheet in zip(own, np.split(sheets, len(own)), strict=True):
            out[n] = sheet
    return tuple(
        replace(
            m,
            slot=n,
            inverse_scale=out[5 * n],
            offset=out[5 * n + 1],
            noise=replace(m.noise, sky=out[5 * n + 2], photon=out[5 * n + 3], response=out[5 * n + 4]),
        )
        for n, m in enumerate(members)
    )


def _neighbours_change(night: Night, k: int, scene: Scene, template: Template) -> np.ndarray:
    """The same where neighbours in time are subtracted: this process has them at hand, levelled."""
    from difflapse.pipeline import tasks

    planted: Planted = night.shared("planted")
    place, side = planted.place[k], planted.side
    others = tasks.neighbours(night, k, scene)
    margin = (side - planted.size) // 2
    light = []
    for j in others:
        sheet = np.zeros((len(template.data), len(planted) * side, side), np.float32)
        add_stamps(sheet, np.asarray(night.array("planted_stamps")[j]), planted.place[j] - place + margin)
        light.append(sheet)
    change = light[0]
    if scene.mode == "rolling":
        members, lit = [], []
        for sheet, (data, mask, noise) in zip(
            light, tasks.levelled_neighbours(night, scene, others), strict=True
        ):
            shape = data.shape[1:]
            own = cut(data, place, side)
            rest = cut_mask(mask, place, side, border=0), cut_noise(noise, shape, place, side)
            members.append((own, *rest))
            lit.append((own + sheet, *rest))
        level = cut_mesh(scene.sky, shape, place, side)
        change = tasks.median_of(lit, level)[0] - tasks.median_of(members, level)[0]
    return np.ascontiguousarray(change.reshape(len(change), len(planted), side, side).transpose(1, 0, 2, 3))

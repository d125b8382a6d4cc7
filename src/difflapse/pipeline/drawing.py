"""What one movie frame shows: the night's stretch and signs, measured once; then the panels of each frame."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import numpy as np

from difflapse._version import __version__
from difflapse.difference import Science
from difflapse.errors import OptionError
from difflapse.io.products import read_numbers
from difflapse.measure.mesh import at_pixels, constant, image
from difflapse.model import Alignment, Inventory, Quality, bits
from difflapse.model.times import iso_utc
from difflapse.movie.annotate import Caption
from difflapse.movie.compose import compose
from difflapse.movie.diverging import difference_panel, hatched_panel, sigma_panel
from difflapse.movie.grid import draw_grid
from difflapse.movie.insets import MOST, corners, paste_inset, zoom_pixels
from difflapse.movie.layout import Layout, make_layout
from difflapse.movie.split import divider, split_panel
from difflapse.movie.still import write_png
from difflapse.movie.stretch import Stretch, aligned_panel, measure_stretch, sampled_every
from difflapse.pipeline.config import RunOptions, zone_of
from difflapse.pipeline.context import Night
from difflapse.pipeline.metadata import field_text
from difflapse.pipeline.records import Canvas, Reference, Scene, Subtracted
from difflapse.pipeline.signs import BEST

PLANES = ("red", "green", "blue")
_DIM = 0.7
"""Transparency below which the movie says so."""
_GAP = 2.5
"""Cadences from one frame to the next from which on a gap is told."""
_BLINK_S = 0.25
"""Seconds that each of two blinking pictures stays, about."""
_SWEEP_S = 4.0
"""Seconds in which the divider goes over the picture and back."""
_OF_SIGHTINGS = ("change", "frame", "x_pix", "y_pix")
"""What marks need to know of the sightings, most of which are no change's."""


def night_stretch(
    night: Night, picture: np.ndarray, hidden: np.ndarray, noise: Any, level: np.ndarray | None
) -> tuple[Stretch, str]:
    """The stretch of a night measured on its best picture (c, ny, nx); a note where it is not the one asked for."""
    shape, every = picture.shape[1:], sampled_every(picture.shape[1:])
    picture, hidden = picture[:, ::every, ::every], hidden[::every, ::every]
    if level is not None:
        picture = picture - at_pixels(level, shape, *(np.arange(0, n, every) for n in shape))
    options, note = night.options, ""
    balance: tuple[float, ...] | None = None
    if options.white_balance == "none":
        balance = (1.0,) * len(picture)
    elif options.white_balance == "header" and len(picture) == 3:
        balance = night.frames[night.shared("reference").frame].white_balance
        if balance is None:
            note = "white balance: the headers have none; the typical star is made white"
    if len(picture) == 1:
        balance = None
    return measure_stretch(picture, hidden, options.stretch, noise, balance), note


def sky_level(sky: np.ndarray, smooth: bool) -> np.ndarray | None:
    """The sky's gradient (c, my, mx) about a mean of zero, levelled for the eye; None where scenery fills the field."""
    if not smooth:
        return None
    mesh: np.ndarray = sky - sky.mean(axis=(1, 2), keepdims=True)
    return mesh


def draw_frame(night: Night, k: int, values: Mapping[str, Any]) -> np.ndarray:
    """The movie frame of frame `k`, (height, width, 3) uint8 or uint16; see `tasks.draw`."""
    scene: Scene = night.shared("scene")
    difference: Subtracted = values["difference"]
    layout = scene.layout
    draw = _Frame(night, k, scene, values["science"], difference, values["quality"])
    panels: dict[str, np.ndarray] = {}
    titles = []
    for name in layout.names:
        panels[name], title = draw.panel(name)
        titles.append(title)
    if scene.signs.grid:
        shift = night.shared("canvas").shift(k)
        for name in layout.names:
            draw_grid(panels[name], layout, scene.signs.grid, shift)
    draw.insets(panels)
    caption = _caption(night, k, scene, tuple(titles), values["alignment"], values["scale"])
    return compose(layout, panels, caption)


class _Frame:
    """One frame on its way into the movie; each picture of it is made once."""

    def __init__(
        self,
        night: Night,
        k: int,
        scene: Scene,
        science: Science,
        difference: Subtracted,
        quality: Quality,
    ) -> None:
        self.night, self.k, self.scene = night, k, scene
        self.science, self.difference, self.quality = science, difference, quality
        self.hidden = science.mask & np.uint8(bits.OUTSIDE | bits.BLANK)

    def panel(self, name: str) -> tuple[np.ndarray, str]:
        """A panel and its title."""
        scene, result = self.scene, self.difference.result
        if name == "aligned":
            track = self.night.shared("canvas").track
            return self.aligned, f"aligned: following {track.name}" if track else "aligned"
        if name == "template":
            return self._template()
        if name in PLANES:
            return self._plane(PLANES.index(name)), f"{name}: one colour, aligned"
        if name == "blink":
            hold = max(1, round(_BLINK_S * self.night.options.fps))
            if (scene.used.index(self.k) if self.k in scene.used else self.k) // hold % 2:
                return self.aligned, "blink: this frame"
            panel, title = self._template()
            return panel, f"blink: {title}"
        if name == "sigma":
            return _sigma_panel(self.science, self.quality, scene)
        if result is None:
            if name == "split":
                return self.aligned.copy(), f"split: {self.difference.title}"
            return hatched_panel(scene.layout), self.difference.title
        if name == "difference":
            return self.differential, self.difference.title
        place = divider(self.k / self.night.options.fps / _SWEEP_S)
        return (
            split_panel(self.aligned, self.differential, place, scene.layout),
            f"aligned | {self.difference.title}",
        )

    @functools.cached_property
    def aligned(self) -> np.ndarray:
        scene = self.scene
        return aligned_panel(self.science.data, self.hidden, self.stretch, scene.layout, self.level)

    @functools.cached_property
    def differential(self) -> np.ndarray:
        return self._difference(slice(None), slice(None), self.scene.layout)

    @functools.cached_property
    def stretch(self) -> Stretch:
        """The night's, its black moved by as much as the frame's sky is brighter than the reference's.

        So the sky is the same all night: clouds still dim it, moonlight makes no flicker.
        """
        reference: Reference = self.night.shared("reference")
        sky = self.science.noise.level * np.asarray(self.quality.background_adu)
        black = np.asarray(self.scene.stretch.black) + sky - np.asarray(reference.background_adu)
        return replace(self.scene.stretch, black=tuple(black.tolist()))

    @property
    def level(self) -> np.ndarray | None:
        """The sky's gradient as this frame has it: brighter skies have more of it."""
        if self.scene.level is None:
            return None
        reference: Reference = self.night.shared("reference")
        now = self.science.noise.level * np.asarray(self.quality.background_adu)
        ratio = now / np.maximum(np.asarray(reference.background_adu), 1e-3)
        part: np.ndarray = self.scene.level * np.clip(ratio, 0.2, 5.0).astype(np.float32)[:, None, None]
        return part

    def _difference(self, rows: slice, cols: slice, layout: Layout) -> np.ndarray:
        result = self.difference.result
        assert result is not None
        return difference_panel(
            result.combined[rows, cols],
            result.mask[rows, cols],
            layout,
            self.scene.vmax,
            result.units,
            result.noise,
        )

    def _template(self) -> tuple[np.ndarray, str]:
        if self.scene.mode != "template":
            return hatched_panel(self.scene.layout, "no template"), "template"
        return (
            _template_panel(self.night, self.scene).copy(),
            f"template: {_made_of(self.scene)}",
        )

    def _plane(self, c: int) -> np.ndarray:
        scene = self.scene
        level = None if self.level is None else self.level[c : c + 1]
        data = self.science.data[c : c + 1]
        return aligned_panel(data, self.hidden, self.stretch.plane(c), scene.layout, level)

    def insets(self, panels: dict[str, np.ndarray]) -> None:
        """Put the zooms that were asked for into the corners of the panels, from the product's own pixels."""
        scene = self.scene
        places = scene.signs.insets
        if not places:
            return
        layout, canvas = scene.layout, self.night.shared("canvas")
        matrix = layout.native_to_movie(layout.names[0])
        at = []
        dx, dy = canvas.shift(self.k)
        for _, x, y in places:
            u, v = matrix @ (x - dx, y - dy, 1.0)
            at.append((u - layout.panels[0].x, v - layout.panels[0].y))
        half = max(4, round(0.13 * min(layout.panel_shape) / (4 * max(1.0, layout.scale))))
        ny, nx = layout.shape
        for (label, x, y), (u, v), corner in zip(
            places, at, corners(layout, [(a, b) for a, b in at]), strict=True
        ):
            i, j = (round(float(n)) for n in canvas.of(self.k).from_native(x, y))
            cols, rows = slice(max(0, i - half), i + half + 1), slice(max(0, j - half), j + half + 1)
            wide, high = min(nx, i + half + 1) - cols.start, min(ny, j + half + 1) - rows.start
            if min(wide, high) < 4:  # followed out of the picture
                continue
            small = make_layout(
                ("aligned",), (high, wide), width=max(64, wide), labels="none", depth=layout.depth
            )
            small_panel = small.panels[0]
            reach = (half + 0.5) * layout.scale
            box = (round(u - reach), round(v - reach), round(u + reach), round(v + reach))
            for name, panel in panels.items():
                if name == "difference" and self.difference.result is not None:
                    tile = self._difference(rows, cols, small)
                elif name == "aligned":
                    level = self.level
                    local = None
                    if level is not None:
                        a = round(j / max(1, ny - 1) * (level.shape[1] - 1))
                        b = round(i / max(1, nx - 1) * (level.shape[2] - 1))
                        local = constant(list(level[:, a, b]))
                    data, hidden = self.science.data[:, rows, cols], self.hidden[rows, cols]
                    tile = aligned_panel(data, hidden, self.stretch, small, local)
                else:
                    continue
                assert tile.shape[:2] == (small_panel.height, small_panel.width)
                paste_inset(panel, tile, corner, label, layout, box)


def _made_of(scene: Scene) -> str:
    return scene.template_file or f"{len(scene.template_frames)} frames"


@functools.lru_cache(maxsize=1)
def _template_panel(night: Night, scene: Scene) -> np.ndarray:
    return aligned_panel(
        np.asarray(night.array("template")),
        night.array("template_count") == 0,
        scene.stretch,
        scene.layout,
        scene.level,
    )


def forget_panels() -> None:
    """Let go of what this process keeps of a night."""
    _template_panel.cache_clear()
    _changes.cache_clear()


def _sigma_panel(science: Science, quality: Quality, scene: Scene) -> tuple[np.ndarray, str]:
    """Expected noise of the frame on the template's brightness, all channels combined, in ADU."""
    shape = science.data.shape[1:]
    weight = np.zeros(shape, np.float32)
    for c, data in enumerate(science.data):
        factor = float(np.mean(science.inverse_scale[c]))
        back = np.float32(quality.background_adu[c] * science.noise.level)
        signal = np.maximum((data - back) * np.float32(factor), 0)
        photon, flat = (image(part[c], shape) for part in (science.noise.photon, science.noise.flat))
        weight += 1 / np.maximum(
            image(science.noise.sky[c], shape) + (photon + flat * signal) * signal, 1e-12
        )
    panel = sigma_panel(1 / np.sqrt(weight), science.mask != 0, scene.layout, 0.0, scene.sigma_top)
    return panel, f"sigma: expected noise, 0 to {scene.sigma_top:.3g} ADU"


def _caption(
    night: Night,
    k: int,
    scene: Scene,
    titles: tuple[str, ...],
    alignment: Alignment,
    scale: np.ndarray | None,
) -> Caption:
    facts = night.frames[k]
    light = 1.0 if scale is None else float(np.mean(scale))
    rms = (
        f", rms {alignment.rms_pix:.2f} px"
        if np.isfinite(alignment.rms_pix) and alignment.method != "reference"
        else ""
    )
    notes = ["position interpolated"] if alignment.method == "interpolated" else []
    if light < _DIM:
        notes.append(f"clouds? {100 * light:.0f} % of the light")
    before = night.frames[k - 1].mid_mjd if k else None
    new_date = False
    if before is not None and facts.mid_mjd is not None:
        new_date = math.floor(before) != math.floor(facts.mid_mjd)
        lapse = (facts.mid_mjd - before) * 86400
        if scene.cadence_s and lapse > _GAP * scene.cadence_s:
            notes.append(f"after a gap of {lapse_text(lapse)}")
    zone = zone_of(night.options.timezone)
    return Caption(
        time_utc=iso_utc(facts.mid_mjd, 0) if facts.mid_mjd is not None else "",
        frame=k,
        n_frames=len(night.frames),
        name=facts.object or night.name,
        exposure=f"{facts.exposure_s:g} s" if facts.exposure_s else "",
        titles=titles,
        method=f"{alignment.method}{rms}",
        note=", ".join(notes),
        units=night.options.units,
        vmax=scene.vmax,
        time_local=_local(facts.mid_mjd, zone) if zone and facts.mid_mjd is not None else "",
        new_date=new_date,
        compass=scene.signs.compass,
        bar=scene.signs.bar,
    )


def lapse_text(seconds: float) -> str:
    """A time in words, to two digits or so: ``48 s``, ``3 min``, ``1.5 h``, ``12 d``."""
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _local(mjd: float, zone: tzinfo) -> str:
    when = (datetime(1858, 11, 17, tzinfo=UTC) + timedelta(days=mjd)).astimezone(zone)
    name = when.tzname() or ""
    name = name if name and name[0].isalpha() else f"UTC{when:%z}"
    return f"{when:%Y-%m-%d %H:%M:%S} {name}"


def save_still(night: Night) -> str:
    """Write `template.png`, the night's template without what moves, a pixel for each of its own. Returns its name."""
    scene: Scene = night.shared("scene")
    grid = night.shared("canvas").grid
    template = np.asarray(night.array("template"))
    layout = make_layout(("template",), grid.shape, grid.step, grid.origin, 0, "none", 1.0)
    picture = aligned_panel(template, night.array("template_count") == 0, scene.stretch, layout, scene.level)
    what = f"template, {_made_of(scene)}: what did not change"
    write_png(Path(night.out) / "template.png", picture, still_words(night, what))
    return "template.png"


def still_words(night: Night, what: str) -> dict[str, str]:
    """The text of a picture's file: field, what it shows, when, by what."""
    times = night.times()
    when = f"{iso_utc(min(times), 0)} to {iso_utc(max(times), 0)} UTC" if times else "times unknown"
    return {
        "Title": night.frames[0].object or night.name,
        "Description": f"{what}; {when}; {len(night.frames)} frames; stretch {night.options.stretch}",
        "Field": field_text(night) or "not known on the sky",
        "Source": night.frames[0].camera or "unknown camera",
        "Software": f"difflapse {__version__}",
    }


def mark_changes(night: Night, k: int, picture: np.ndarray) -> bool:
    """Mark what changed in a finished movie frame, in place; whether the night's changes are known."""
    from difflapse.movie.marks import mark

    scene: Scene = night.shared("scene")
    found = _changes(night.out)
    if scene.layout.labels != "full" or found is None:
        return False
    changes, detections = found
    canvas: Canvas = night.shared("canvas")
    if BEST in night.options.inset:
        _inset_best(picture, scene, changes, detections, k, canvas.shift(k))
    mark(picture, scene.layout, changes, detections, k, canvas.shift(k))
    return True


def _inset_best(
    picture: np.ndarray, scene: Scene, changes: Any, detections: Any, k: int, shift: tuple[float, float]
) -> None:
    """Zooms of the best changes, in place: magnified from the drawn picture, in the corners insets leave free."""
    from difflapse.movie.marks import best_places

    layout = scene.layout
    matrix = layout.native_to_movie(layout.names[0])
    first = layout.panels[0]
    found = best_places(changes, detections, k, MOST - len(scene.signs.insets))
    # Corners by where each was first seen, so that they stay; those of given places are taken already.
    fixed = [(x, y) for _, x, y in scene.signs.insets] + [home for _, home, _ in found]
    at = [tuple(matrix @ (*place, 1.0) - (first.x, first.y)) for place in fixed]
    chosen = corners(layout, at)[len(scene.signs.insets) :]
    half = zoom_pixels(layout) // 2
    for (name, _, now), corner in zip(found, chosen, strict=True):
        u, v = matrix @ (now[0] - shift[0], now[1] - shift[1], 1.0) - (first.x, first.y)
        i, j = round(float(u)), round(float(v))
        i = min(max(half, i), first.width - half - 1)
        j = min(max(half, j), first.height - half - 1)
        box = (i - half, j - half, i + half + 1, j + half + 1)
        for panel in layout.panels:
            if panel.name in ("aligned", "difference"):
                view = picture[panel.y : panel.y + panel.height, panel.x : panel.x + panel.width]
                tile = view[box[1] : box[3], box[0] : box[2]].copy()
                paste_inset(view, tile, corner, name.split()[-1], layout, box)


@functools.lru_cache(maxsize=1)
def _changes(out: str) -> tuple[Any, Any] | None:
    """The tables of changes and sightings in a folder of products; None where there are no changes."""
    path = Path(out) / "changes.ecsv"
    if not path.is_file():
        return None
    from astropy.table import Table

    changes = Table.read(path)
    if not len(changes):
        return None
    sightings = Path(out) / "detections.ecsv"
    return _plain(changes), read_numbers(sightings, _OF_SIGHTINGS) if sightings.is_file() else None


def _plain(table: Any) -> dict[str, np.ndarray]:
    """The columns of a table as arrays, numbers with NaN where they are masked: quick to look into for each frame."""
    return {
        name: np.ma.filled(np.ma.asarray(table[name].data).astype(float), np.nan)
        if table[name].dtype.kind in "fiu"
        else np.asarray(np.ma.filled(table[name].data, ""), str)
        for name in table.colnames
    }


def check_panels(inventory: Inventory, options: RunOptions) -> None:
    """Refuse, before anything is read, panels and lines that a night's frames cannot have; raises OptionError."""
    planes = [name for name in options.panels if name in PLANES]
    for sequence in inventory.sequences:
        if options.grid and not options.solve and not any(facts.wcs_header for facts in sequence.frames):
            raise OptionError(
                f"a grid is asked for, but no frame of {sequence.name} has a WCS",
                "--solve finds the field on the sky",
            )
        if planes and not sequence.frames[0].mosaic:
            raise OptionError(
                f"panel {planes[0]} is a colour of a mosaic camera's; {sequence.name} has no colours",
                "use the panel aligned, or --mosaic where its headers do not say the mosaic",
            )

"""Values that flow between the stages of a run; frozen, and small unless they say otherwise."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from difflapse.align.warp import BadPixels
from difflapse.difference import Difference, Noise, Science, Template
from difflapse.difference.psf import Kernel
from difflapse.io.external import External
from difflapse.measure import Defects
from difflapse.measure.photometry import bad_map
from difflapse.model import FrameFacts, ProductGrid, Stars, Track
from difflapse.movie.compass import Compass
from difflapse.movie.grid import SkyLine
from difflapse.movie.layout import Layout
from difflapse.movie.stretch import Stretch
from difflapse.movie.timebar import TimeBar


@dataclass(frozen=True, eq=False)
class Pixels:
    """Unresampled pixels of a frame (large): bad ones are filled, and listed."""

    data: np.ndarray
    mask: np.ndarray | None
    bad: BadPixels

    @functools.cached_property
    def bad_bits(self) -> np.ndarray:
        """The list of the bad ones as a (ny, nx) uint8 image of their bits; laid out once for all who ask."""
        return bad_map(self.data.shape, self.bad.x, self.bad.y, self.bad.bit)


@dataclass(frozen=True, eq=False)
class Shown:
    """What one movie frame shows, for `timelapse.json` and the headers of products."""

    template: str | None
    """``template``, or the file that was subtracted; None without a difference."""
    template_mjd: float | None
    """Mean time of what was subtracted."""


@dataclass(frozen=True)
class Told:
    """What `frames.ecsv` says about the matching of a frame."""

    method: str
    """``none``, ``scale``, ``psf`` or ``zogy``; empty where nothing was subtracted."""
    before: float = float("nan")
    """Residual at stars with the scale alone, sigma; see `difflapse.difference.psf.Kernel`."""
    after: float = float("nan")
    kernel: str = ""
    """The kernel in words."""
    note: str = ""
    """Why it is not what was asked for."""


@dataclass(frozen=True, eq=False)
class Pair:
    """What was subtracted from what, before any convolution (large; not copies)."""

    science: Science
    template: Template
    own: float
    """Weight of the frame itself in the template."""


@dataclass(frozen=True, eq=False)
class Subtracted:
    """A difference (large) and what it is the difference of."""

    result: Difference | None
    """None where there is nothing to subtract from the frame."""
    shown: Shown
    title: str
    told: Told
    pair: Pair | None = None
    """What was subtracted from what; None likewise."""
    kernel: Kernel | None = None
    """What matched the two; None: the scale alone. What is planted in windows of them is subtracted likewise."""

    @property
    def template(self) -> np.ndarray | None:
        """(c, ny, nx) float32, ADU: what was subtracted (large; not a copy)."""
        return None if self.pair is None else self.pair.template.data


@dataclass(frozen=True)
class SkyPlace:
    """Where the reference lies on the sky, and how that is known; false where it is not."""

    wcs_header: str = ""
    """As `FrameFacts.wcs_header`, for the reference's native pixels."""
    source: str = ""
    """``header``, ``headers`` (the mean of many), or the solver's name."""
    n: int = 0
    """Catalogue stars, or headers, that it was fitted to."""
    rms_pix: float = float("nan")
    """Radial rms of stars held out, or of the headers about their mean, native pixels."""
    index: str = ""
    """Index file that the solver found it in."""
    text: str = "none"
    """All that in words."""

    def __bool__(self) -> bool:
        return bool(self.wcs_header)


@dataclass(frozen=True, eq=False)
class Reference:
    """The frame whose grid is kept, and what the others are compared with."""

    frame: int
    """The frame of the night that brightness and sky are measured against: the reference itself, or the best
    that lies on a reference from outside."""
    facts: FrameFacts
    """Of the reference: its file, native pixels and WCS."""
    stars: Stars
    """Of the reference, which alignment looks at."""
    grid: ProductGrid
    """Of the products, or of the whole reference where the products follow a target; brightness is mapped on it."""
    background_adu: tuple[float, ...]
    """Of `frame`."""
    defects: Defects
    light: Stars
    """Of `frame`, on the reference's pixels: what brightness is compared with."""
    external: External | None = None
    """Where the reference is no frame of the night."""
    light_area: float = 1.0
    """Pixels of `frame` to a product pixel, typically: other than 1 only on a reference from outside."""
    place: SkyPlace = SkyPlace()
    """Where it lies on the sky, where a crop had to know that before the frames were aligned."""


@dataclass(frozen=True, eq=False)
class Member:
    """A frame of the template, whose resampled pixels lie in the night's arrays `members` and `member_masks`."""

    slot: int
    """Its place there."""
    inverse_scale: np.ndarray
    """(c, my, mx) mesh, see `difflapse.difference.Science`."""
    offset: np.ndarray
    """(c, ky, kx) mesh, likewise: zero until it is matched to the reference."""
    noise: Noise
    weight: float = 1.0
    """How much it counts in the template."""


@dataclass(frozen=True, eq=False)
class Canvas:
    """Where the pixels of products lie on the reference: the same for all frames, or following a target."""

    grid: ProductGrid
    """Of the template; of each frame where nothing is followed."""
    track: Track | None = None
    start: tuple[float, float] = (0.0, 0.0)
    """Where the target is when `grid` is right, native pixels of the reference."""

    def shift(self, k: int) -> tuple[float, float]:
        """By how much the target of frame `k` has moved from there, native pixels (x, y)."""
        if self.track is None:
            return 0.0, 0.0
        return float(self.track.x[k] - self.start[0]), float(self.track.y[k] - self.start[1])

    def of(self, k: int) -> ProductGrid:
        """The grid of frame `k`."""
        if self.track is None:
            return self.grid
        dx, dy = self.shift(k)
        return replace(self.grid, origin=(self.grid.origin[0] + dx, self.grid.origin[1] + dy))


@dataclass(frozen=True, eq=False)
class Signs:
    """What all pictures of a night say about its sky and its times."""

    compass: Compass | None = None
    """None where the sky is not known."""
    grid: tuple[SkyLine, ...] = ()
    bar: TimeBar | None = None
    insets: tuple[tuple[str, float, float], ...] = ()
    """Label and native pixel (x, y) of the reference of each zoom."""


@dataclass(frozen=True, eq=False)
class Scene:
    """What all frames of the second pass share."""

    mode: str
    """The difference in force: template, running, rolling or none; few frames may change what was asked."""
    used: tuple[int, ...]
    """Frames that take part, in time order."""
    template_frames: tuple[int, ...]
    template_mjd: float | None
    sky: np.ndarray
    """(c, my, mx) mesh: the sky level of the template or the reference image."""
    smooth: bool
    """Whether a smooth background may be taken off: not where the scene fills the field."""
    cadence_s: float | None
    layout: Layout
    stretch: Stretch
    vmax: float
    """Ends of the differential panel's scale, in its units."""
    sigma_top: float
    """White of the panel of expected noise, ADU; the same for all frames."""
    template_correlation: np.ndarray | float = 1.0
    """(c,): NOISECOR of the template."""
    own_weight: Mapping[int, float] = field(default_factory=dict)
    """Frame -> its share of the template, where it is in it: the two are then correlated."""
    level: np.ndarray | None = None
    """(c, my, mx) mesh about a mean of zero: the sky's gradient, which the eye is spared; None: it is kept."""
    signs: Signs = Signs()
    template_file: str = ""
    """Where it is from outside the night."""

    @property
    def template_title(self) -> str:
        """The template in words."""
        return self.template_file or f"template of {len(self.template_frames)} frames"

    @property
    def windowed(self) -> bool:
        """Whether a difference needs the frame's neighbours in time."""
        return self.mode in ("running", "rolling")

"""The stretch: measured once per night, applied to every picture of it, so that nothing flickers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numba import njit

from difflapse.errors import OptionError
from difflapse.movie.layout import Layout
from difflapse.movie.shrink import FAR, as_flags, enlarge, hatch, hatch_colours, plan_axis, row_weight
from difflapse.movie.text import levels

KINDS = ("asinh", "mtf", "log", "sqrt", "linear", "percentile")

_STEPS, _DEEP_STEPS = 4096, 1 << 18
"""Steps of the stretch, drawn in 8 and in 16 bits: more than there are levels."""
_SKY = 0.105
"""Brightness (0..1) at which the sky is shown: dark, yet above the black of the strips."""
_REACH = 2
"""Movie pixels on each side whose colour counts."""
_RIM = 2
"""Movie pixels around a burnt one in which interpolation undershoots."""
_COLOUR = 1.0
"""How strong colours are shown, beside those that the camera saw."""
_MOST_COLOUR = 0.6
"""By what part of the mean a channel is lighter or darker at most."""
_DOUBT = 12.0
"""Noise of the light that must be there for colour, in units of the noise of all of its pixels together."""


@dataclass(frozen=True)
class Stretch:
    """How brightness becomes grey, for a whole night.

    Channel c of a pixel is balanced to ``(value - black[c]) * gain[c]``; the mean of the channels is shown
    between 0 and `white`; the ratio of the channels is the colour.
    """

    kind: str
    """One of `KINDS`."""
    black: tuple[float, ...]
    """Value of each channel that is shown black, ADU."""
    gain: tuple[float, ...]
    """White balance, 1 for the green or only channel."""
    white: float
    """Balanced brightness that is shown white."""
    softening: float
    """Balanced brightness at which asinh and log leave their linear part; of mtf, what is shown mid-grey."""
    noise: float
    """Noise of one frame's pixel in balanced brightness (mean of the channels)."""
    full: float = float("inf")
    """Balanced brightness above which some channel may be saturated, and colour tells nothing."""

    def plane(self, c: int) -> Stretch:
        """The stretch of channel `c` shown alone, in grey."""
        n = len(self.black)
        share = self.gain[c] / (sum(g * g for g in self.gain) ** 0.5 / n)
        return replace(self, black=(self.black[c],), gain=(self.gain[c],), noise=self.noise * share / n**0.5)


def measure_stretch(
    image: np.ndarray,
    mask: np.ndarray | None = None,
    kind: str = "asinh",
    noise: Sequence[float] | None = None,
    balance: Sequence[float] | None = None,
) -> Stretch:
    """Measure the stretch of a night on its template (or any good frame). Not for measuring sky or noise.

    Parameters
    ----------
    image : (c, ny, nx) float
        1 channel, or 3 (R, G, B). NaN counts as masked.
    mask : (ny, nx) or (c, ny, nx) bool, optional
        True = bad.
    kind : str
        One of `KINDS`: ``asinh`` and ``log`` compress the bright end; ``mtf`` is the midtones transfer function
        of PixInsight and Siril; ``sqrt`` and ``linear`` need no softening; ``percentile`` is linear between the
        0.5th and the 99.5th percentile.
    noise : sequence of float, optional
        Noise of each channel in *one frame*, same units. Without it the image's own pixel-to-pixel noise is
        taken, and single frames look grainier than they need when the image is a stack.
    balance : sequence of float, optional
        Gains of the channels, such as a header's; without them the typical star is made white.

    Returns
    -------
    Stretch
        Always usable: an empty or constant image gives a plain one.

    Notes
    -----
    Black lies 4 sigma below the median, but not lower than 4 sigma of the noise below the image's faintest
    pixels: with stars on a dark sky the first rules, with the Sun or Moon in the field the second. The
    softening is solved for so that the median becomes dark grey; where it would be brighter than that even
    unstretched, the stretch stays nearly linear. Colours are balanced so that the sky is neutral and the
    typical star white.
    """
    if kind not in KINDS:
        raise OptionError(f"stretch is {kind!r}; it must be one of {', '.join(KINDS)}")
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[None]
    channels = len(image)
    flat = _sample(image, mask)
    if flat.shape[1] == 0:
        return Stretch(kind, (0.0,) * channels, (1.0,) * channels, 1.0, 1.0, 0.0)
    sigma = np.array(noise if noise is not None else _pixel_noise(image, mask), float)
    sky = np.median(flat, axis=1)
    light = flat - sky[:, None]
    gain = _balance(light, sigma) if balance is None else np.asarray(balance, float)
    brightness = (light * gain[:, None]).mean(0)

    p1, p16, p50, p995, p999, top = np.percentile(brightness, [0.5, 16, 50, 99.5, 99.9, 100])
    tiny = max(1e-6 * float(np.abs(sky).max()), 1e-6)
    noise_l = float(np.sqrt(((sigma * gain) ** 2).sum()) / channels)
    wide = max(p50 - p16, noise_l, tiny)
    if kind == "percentile":
        floor, white = p1, max(p995 - p1, 4 * noise_l, tiny)
    else:
        floor = max(p50 - 4.0 * wide, p1 - 4.0 * noise_l - tiny)
        white = max(p999, p50 + 25.0 * max(noise_l, tiny)) - floor
        if top - floor > 20.0 * white:  # few but bright sources: keep their cores from all being clipped
            white *= 2.0
    softening = _soften(kind, p50 - floor, white)
    black = sky + floor / gain
    full = 0.7 * float(((light.max(axis=1) - floor / gain) * gain).min())
    return Stretch(
        kind,
        tuple(map(float, black)),
        tuple(map(float, gain)),
        float(white),
        float(softening),
        noise_l,
        max(full, 4 * noise_l, tiny),
    )


def aligned_panel(
    image: np.ndarray,
    mask: np.ndarray | None,
    stretch: Stretch,
    layout: Layout,
    level: np.ndarray | None = None,
) -> np.ndarray:
    """Draw an image with the night's stretch, at the size of a panel. Also for the template.

    Parameters
    ----------
    image : (c, ny, nx) float32
        1 channel, or 3 (R, G, B).
    mask : (ny, nx) or (c, ny, nx) bool or uint8, optional
        True, or not 0, = bad. NaN counts as masked. Places where over half of the area is masked are hatched.
    stretch : Stretch
        Of the night, from `measure_stretch`.
    layout : Layout
        Says how large the panel is, and how deep.
    level : (c, my, mx) float, optional
        A slowly varying brightness that is taken off, on nodes spread evenly from edge to edge (of row 0
        first): the sky's own gradient and the lens's vignetting, less their mean.

    Returns
    -------
    panel : (height, width, 3) uint8 or, in a layout 16 bits deep, uint16
        Row 0 of the image at the bottom.

    Notes
    -----
    The mean of the channels alone is stretched, and the ratio of the channels is kept: a bright star stays
    orange or blue. The ratio is that of the 5x5 movie pixels around together, weighed by their light and
    without saturated ones: a mosaic's colours, which lie on different pixels, are mixed, saturated cores take
    the colour of their rims, and video, which halves the resolution of colour, keeps it. Colour comes in as
    far as that light exceeds the noise; its green-magenta part, in which stars differ least and mosaics err
    most, is halved.

    When shrinking, each movie pixel shows the mean over its area; where the brightest pixel inside stands out
    of that mean by more than 2.5 sigma of the noise, up to 0.6 of the excess is added, so that faint stars
    survive and the sky stays as smooth as a mean. 1738x2604x3 to 1278 wide: about 26 ms on one core.

    Interpolation undershoots beside cores that the camera cut off: such rims, darker than the sky within two pixels
    of burnt ones, are shown as bright as what lies around them.
    """
    image = np.ascontiguousarray(image, np.float32)
    if image.ndim == 2:
        image = image[None]
    high, wide = layout.panel_shape
    if layout.scale > 1:
        high, wide = layout.shape
    rows = plan_axis(layout.shape[0], high, max(1.0, 1 / layout.scale))
    cols = plan_axis(layout.shape[1], wide, max(1.0, 1 / layout.scale))
    out = np.empty((high, wide, 3), layout.dtype)
    hidden = np.empty((high, wide), np.uint8)
    gain = np.array(stretch.gain, np.float32)
    noise = max(stretch.noise, 1e-6 * stretch.white)
    light = np.empty((high, wide), np.float32)
    chroma = np.empty((3 if len(image) == 3 else 0, high, wide), np.float32)
    if level is None:
        level = np.zeros((len(image), 2, 2))
    _shrink(
        image,
        *as_flags(mask, image.shape[2]),
        *rows,
        *cols,
        np.array(stretch.black, np.float32),
        gain,
        np.float32(noise),
        np.float32(min(stretch.full, 3e38)),
        np.ascontiguousarray(level, np.float32),
        light,
        chroma,
        hidden,
    )
    soft = stretch.softening / stretch.white
    sky = stretch.white * (np.searchsorted(_table(stretch.kind, soft, _STEPS), _SKY) / _STEPS) ** 2
    _fill_rims(light, np.float32(stretch.white), np.float32(sky - 2 * noise))
    table = _table(stretch.kind, soft, _DEEP_STEPS if layout.depth == 16 else _STEPS)
    full = np.float32(np.iinfo(layout.dtype).max)
    _paint(light, chroma, np.float32(stretch.white), np.float32(noise), table, full, out)
    return finish(out, hidden, layout)


def finish(small: np.ndarray, hidden: np.ndarray, layout: Layout) -> np.ndarray:
    """Enlarge (h, w, 3) to the panel's size where needed, and hatch what is `hidden` (1; 2: pale)."""
    paper, ink = (levels(colour, small.dtype) for colour in hatch_colours())
    if layout.enlargement == 1:
        hatch(small, hidden, paper, ink, hatch_period(layout))
        return small
    out = np.empty((*layout.panel_shape, 3), small.dtype)
    enlarge(small, hidden, layout.enlargement, paper, ink, hatch_period(layout), out)
    return out


def hatch_period(layout: Layout) -> int:
    """Distance of the hatch's lines along a row, movie pixels."""
    return max(8, layout.text // 2 // 4 * 4)


def sampled_every(shape: tuple[int, ...]) -> int:
    """Of how many rows and columns of an image (ny, nx) `measure_stretch` looks at one, where the noise is given."""
    return max(1, int(np.sqrt(shape[0] * shape[1] / 4e5)))


def _sample(image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Good pixels, as (c, n) float64; of large images some half a million or a little more."""
    skip = sampled_every(image.shape[1:])
    some = _good(image[:, ::skip, ::skip], None if mask is None else np.asarray(mask)[..., ::skip, ::skip])
    flat = some.reshape(len(image), -1)
    return flat[:, np.isfinite(flat[0])]


def _pixel_noise(image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Each channel's noise from one pixel to the next, on about a million pixels in whole rows."""
    skip = max(1, int(np.sqrt(image.shape[1] * image.shape[2] / 1e6)))
    rows = _good(image[:, :: skip**2], None if mask is None else np.asarray(mask)[..., :: skip**2, :])
    step = rows[..., 1:] - rows[..., :-1]
    noise = [1.4826 * np.median(a) if (a := np.abs(s[np.isfinite(s)])).size else 0.0 for s in step]
    return np.array(noise) / np.sqrt(2)


def _good(image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Pixels as float64, NaN in all channels where one is bad."""
    good = np.isfinite(image).all(0)
    if mask is not None:
        bad = np.asarray(mask, bool)
        good &= ~(bad.any(0) if bad.ndim == 3 else bad)
    return np.where(good, image, np.nan).astype(np.float64)


def _balance(light: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """White balance: the gains that make the typical star white; 1 where there are too few stars."""
    c = len(light)
    if c == 1:
        return np.ones(1)
    total = light.mean(0)
    spread = np.percentile(total, 50) - np.percentile(total, 16)
    stars = total > max(12 * spread, 12 * float(np.sqrt((sigma**2).sum())) / c)
    # The brightest are saturated, hence falsely white.
    stars &= total < 0.5 * total.max()
    if stars.sum() < 30:
        return np.ones(c)
    fluxes = np.maximum(np.median(light[:, stars], axis=1), 1e-9)
    return np.clip(fluxes[1] / fluxes, 0.25, 4.0)


def _soften(kind: str, sky: float, white: float) -> float:
    """The softening for which the sky is shown as dark grey."""
    if kind == "mtf":
        u = min(max(sky / white, 1e-9), 1.0)
        return float(white * min(u * (1 - _SKY) / (u + _SKY - 2 * u * _SKY), 0.5))
    low, high = 1e-6 * white, 0.3 * white
    bend = np.log1p if kind == "log" else np.arcsinh
    for _ in range(60):
        middle = np.sqrt(low * high)
        if bend(sky / middle) / bend(white / middle) > _SKY:
            low = middle
        else:
            high = middle
    return float(high)


@functools.lru_cache(maxsize=16)
def _table(kind: str, soft: float, steps: int) -> np.ndarray:
    """Grey 0..1 over the square root of the relative brightness, (steps,) float32: finest where the sky is."""
    u = np.linspace(0, 1, steps) ** 2
    if kind == "asinh":
        grey = np.arcsinh(u / soft) / np.arcsinh(1 / soft)
    elif kind == "log":
        grey = np.log1p(u / soft) / np.log1p(1 / soft)
    elif kind == "mtf":
        grey = (soft - 1) * u / ((2 * soft - 1) * u - soft)
    elif kind == "sqrt":
        grey = np.sqrt(u)
    else:
        grey = u
    table = grey.astype(np.float32)
    table.setflags(write=False)
    return table


@njit(cache=True, nogil=True, error_model="numpy")
def _add_colours(red, green, blue, hide, w, gain, lift, into, share, high):  # type: ignore[no-untyped-def]
    """Add one input row of three channels: its good pixels times `w`, their weight, and the brightest of them.

    What is balanced and `lift`-ed to below all else does not count as bright.
    """
    first, second, third = into[0], into[1], into[2]
    zero, by_red, by_green, by_blue = np.float32(0), gain[0], gain[1], gain[2]
    for i in range(share.shape[0]):
        r, g, b = red[i], green[i], blue[i]
        good = (hide[i] == 0) & (abs(r) < FAR) & (abs(g) < FAR) & (abs(b) < FAR)
        first[i] += w * r if good else zero
        second[i] += w * g if good else zero
        third[i] += w * b if good else zero
        share[i] += w if good else zero
        v = by_red * r + by_green * g + by_blue * b
        v = v + lift if good else -FAR
        high[i] = v if v > high[i] else high[i]


@njit(cache=True, nogil=True, error_model="numpy")
def _add_grey(line, hide, w, gain, lift, into, share, high):  # type: ignore[no-untyped-def]
    """The same of a single channel."""
    only, zero, by = into[0], np.float32(0), gain[0]
    for i in range(share.shape[0]):
        v = line[i]
        good = (hide[i] == 0) & (abs(v) < FAR)
        only[i] += w * v if good else zero
        share[i] += w if good else zero
        v = by * v + lift if good else -FAR
        high[i] = v if v > high[i] else high[i]


@njit(cache=True, nogil=True, error_model="numpy")
def _add_columns(total, share, high, where, weight, mean, cover, top):  # type: ignore[no-untyped-def]
    """Shrink summed rows: `mean` (c, n_out) of what is good, `cover` its part of the area, `top` its brightest."""
    zero, one, channels = np.float32(0), np.float32(1), total.shape[0]
    first, second, third = total[0], total[channels // 2], total[channels - 1]
    # Without a sign, for numba asks of each signed index whether it counts from the end.
    step = np.uint64(1)
    for k in range(cover.shape[0]):
        a, b = np.uint64(where[0, k]), np.uint64(where[1, k]) - step
        head, tail = weight[0, k], weight[1, k]
        s = head * share[a] + tail * share[b]
        r = head * first[a] + tail * first[b]
        g = head * second[a] + tail * second[b]
        u = head * third[a] + tail * third[b]
        i = a + step
        if i < b:  # most often there is one: a loop would cost half as much again
            s += share[i]
            r += first[i]
            g += second[i]
            u += third[i]
            i += step
        while i < b:
            s += share[i]
            r += first[i]
            g += second[i]
            u += third[i]
            i += step
        per = one / s if s > zero else zero
        cover[k] = s * weight[2, k]
        mean[0, k] = r * per
        if channels == 3:
            mean[1, k], mean[2, k] = g * per, u * per
        i, b = np.uint64(where[2, k]), np.uint64(where[3, k]) - step
        v = high[i] if high[i] > high[b] else high[b]
        i += step
        while i < b:
            v = high[i] if high[i] > v else v
            i += step
        top[k] = v


@njit(cache=True, nogil=True, error_model="numpy")
def _shrink(  # type: ignore[no-untyped-def]
    image,
    bad,
    masked,
    rows,
    row_weights,
    cols,
    col_weights,
    black,
    gain,
    noise,
    full,
    level,
    light,
    chroma,
    hidden,
):
    """Shrink, balance and level in one pass over the image; what colour there is, weighed by its light."""
    channels, nx = image.shape[0], image.shape[2]
    tall, wide = hidden.shape
    total, share = np.empty((channels, nx), np.float32), np.empty(nx, np.float32)
    high = np.empty(nx, np.float32)
    mean, cover = np.empty((channels, wide), np.float32), np.empty(wide, np.float32)
    near, tint = np.empty(wide, np.float32), np.empty(wide, np.float32)
    zero, half, one = np.float32(0), np.float32(0.5), np.float32(1)
    per_noise, per_full, per_channel = one / noise, one / full, one / np.float32(channels)
    spread, off = _spread(level, gain, wide), np.empty(wide, np.float32)
    my = level.shape[1]
    zero_level = zero
    for c in range(channels):
        zero_level += gain[c] * black[c] * per_channel
    shrinks = rows.shape[1] < image.shape[1]
    for r in range(tall):
        row = tall - 1 - r
        total[:], share[:], high[:] = zero, zero, -FAR
        for j in range(rows[0, row], rows[1, row]):
            w, hide = row_weight(rows, row_weights, row, j), bad[j if masked else 0]
            lift = zero if rows[2, row] <= j < rows[3, row] else -FAR
            if channels == 3:
                _add_colours(image[0, j], image[1, j], image[2, j], hide, w, gain, lift, total, share, high)
            else:
                _add_grey(image[0, j], hide, w, gain, lift, total, share, high)
        _add_columns(total, share, high, cols, col_weights, mean, cover, tint)
        for k in range(wide):
            hidden[r, k] = cover[k] < half
            near[k] = zero
        for c in range(channels):
            line, by, dark = mean[c], gain[c], black[c]
            for k in range(wide):
                line[k] = by * (line[k] - dark)
                near[k] += per_channel * line[k]
        bright = light[r]
        for k in range(wide):
            bright[k] = near[k]
        if shrinks:
            for k in range(wide):
                excess = per_channel * tint[k] - zero_level - near[k]
                t = min(max(excess * per_noise * np.float32(0.4) - one, zero), one)
                bright[k] += np.float32(0.6) * t * max(excess, zero)
        v = np.float32(row * (my - 1) / max(tall - 1, 1))
        a = min(int(v), my - 2)
        f = v - np.float32(a)
        for c in range(channels):
            lower, upper, line = spread[c, a], spread[c, a + 1], mean[c]
            for k in range(wide):
                off[k] = lower[k] + f * (upper[k] - lower[k])
            # One by one: a loop that changes several rows is not done many pixels at a time.
            for k in range(wide):
                line[k] -= off[k]
            for k in range(wide):
                bright[k] -= per_channel * off[k]
            for k in range(wide):
                near[k] -= per_channel * off[k]
        if channels == 3:
            # Saturated light has no colour, nor has what is darker than the sky.
            for k in range(wide):
                top = max(max(mean[0, k], mean[1, k]), mean[2, k])
                tint[k] = min(max(np.float32(4) * (one - top * per_full), zero), one)
                tint[k] *= one if near[k] > zero else zero
            for k in range(wide):
                chroma[0, r, k] = tint[k] * (mean[0, k] - near[k])
                chroma[1, r, k] = tint[k] * (mean[2, k] - near[k])
                chroma[2, r, k] = tint[k] * near[k]


@njit(cache=True, nogil=True, error_model="numpy")
def _spread(level, gain, wide):  # type: ignore[no-untyped-def]
    """Each row of the nodes (c, my, mx) of a level, balanced, at all pixels of a row of the picture: (c, my, wide)."""
    channels, my, mx = level.shape
    spread = np.empty((channels, my, wide), np.float32)
    step = np.float32((mx - 1) / max(wide - 1, 1))
    for c in range(channels):
        for a in range(my):
            line, out = level[c, a], spread[c, a]
            for k in range(wide):
                u = np.float32(k) * step
                b = min(int(u), mx - 2)
                out[k] = gain[c] * (line[b] + (u - np.float32(b)) * (line[b + 1] - line[b]))
    return spread


@njit(cache=True, nogil=True, error_model="numpy")
def _fill_rims(light, white, dark):  # type: ignore[no-untyped-def]
    """Close, in place, what is `dark` beside burnt pixels: give it the least of the largest values around it."""
    tall, wide = light.shape
    rows: list[int] = [0 for _ in range(0)]  # which tells numba what they hold
    cols: list[int] = [0 for _ in range(0)]
    seen = np.zeros((tall, wide), np.bool_)
    for r in range(tall):
        for k in range(wide):
            if light[r, k] < white:
                continue
            for j in range(max(r - _RIM, 0), min(r + _RIM + 1, tall)):
                for i in range(max(k - _RIM, 0), min(k + _RIM + 1, wide)):
                    if light[j, i] < dark and not seen[j, i]:
                        seen[j, i] = True
                        rows.append(j)
                        cols.append(i)
    filled = np.empty(len(rows), np.float32)
    for n in range(len(rows)):
        least = np.float32(FAR)
        for j in range(max(rows[n] - _RIM, 0), min(rows[n] + _RIM + 1, tall)):
            for i in range(max(cols[n] - _RIM, 0), min(cols[n] + _RIM + 1, wide)):
                most = -np.float32(FAR)
                for b in range(max(j - _RIM, 0), min(j + _RIM + 1, tall)):
                    for a in range(max(i - _RIM, 0), min(i + _RIM + 1, wide)):
                        most = max(most, light[b, a])
                least = min(least, most)
        filled[n] = least
    for n in range(len(rows)):
        light[rows[n], cols[n]] = filled[n]


@njit(cache=True, nogil=True, error_model="numpy")
def _paint(light, chroma, white, noise, table, full, out):  # type: ignore[no-untyped-def]
    """Stretch the light of each movie pixel, and give it the colour of the 5x5 pixels around it."""
    tall, wide = light.shape
    grey, place = np.empty(wide, np.float32), np.empty(wide, np.int32)
    upright = np.zeros((3, wide + 2 * _REACH), np.float32)
    box, ink = np.empty((3, wide), np.float32), np.empty((3, wide), out.dtype)
    zero, half, one = np.float32(0), np.float32(0.5), np.float32(1)
    last = np.float32(table.shape[0] - 1)
    per_white, most = one / white, np.float32(_MOST_COLOUR)
    doubt = np.float32(_DOUBT * (2 * _REACH + 1)) * noise
    for r in range(tall):
        bright = light[r]
        for k in range(wide):
            place[k] = np.int32(np.sqrt(min(max(bright[k], zero) * per_white, one)) * last)
        for k in range(wide):
            grey[k] = full * table[place[k]]
        if chroma.shape[0] == 0:
            for k in range(wide):
                for c in range(3):
                    out[r, k, c] = min(grey[k] + half, full)
            continue
        for c in range(3):
            lines = upright[c]
            lines[_REACH : wide + _REACH] = zero
            for j in range(max(0, r - _REACH), min(tall, r + _REACH + 1)):
                line = chroma[c, j]
                for k in range(wide):
                    lines[k + _REACH] += line[k]
            for k in range(wide):
                s = zero
                for i in range(2 * _REACH + 1):
                    s += lines[k + i]
                box[c, k] = s
        for k in range(wide):
            trust = np.float32(_COLOUR) / (max(box[2, k], zero) + doubt)
            red, blue = box[0, k] * trust, box[1, k] * trust
            green = -(red + blue)
            red, blue = red + np.float32(0.25) * green, blue + np.float32(0.25) * green
            green *= half
            box[0, k] = min(max(red, -most), most)
            box[1, k] = min(max(green, -most), most)
            box[2, k] = min(max(blue, -most), most)
        for c in range(3):
            for k in range(wide):
                ink[c, k] = min(grey[k] * (one + box[c, k]) + half, full)
        for k in range(wide):
            out[r, k, 0], out[r, k, 1], out[r, k, 2] = ink[0, k], ink[1, k], ink[2, k]

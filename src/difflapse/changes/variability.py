"""Which stars vary: how far each one's light curve departs from those of quiet stars of its brightness, and whether the
differences, which measure it another way, bear that out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from difflapse.changes.curves import Curves

_FEWEST_FRAMES = 5
_GROUP = 120
"""Stars of like brightness that a star is compared with."""
_FEWEST_STARS = 50
_CLIP = 8.0
"""sigma that a single frame counts at most: no single number makes a star variable beyond all doubt."""
_SPIKE = 3.0
"""sigma to which a frame is cut that alone is brighter: what flies past or strikes the sensor does that."""
_TAIL = (0.90, 0.98)
"""Quantiles of the night's own stars, the tail between which is taken on: few stars vary, so that it is of quiet
ones."""
_BORNE_OUT = 0.5
"""Correlation of a curve with what the differences show, from which on they bear it out. Of stars that vary it is 0.7
to 0.95, of curves that neighbours' light disturbs -0.3 to 0.3, of quiet ones 0.1 to 0.6: both see the same photons."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What the differences from a template show of n stars on f frames, arrays (f, n); NaN where unknown."""

    judged: np.ndarray
    """Light over the template's, less 1, in units of the scatter that its frame shows at stars of like brightness."""
    passed: np.ndarray
    """bool: something moving passes the star; the frame says nothing of its light."""

    def on(self, frames: Sequence[int]) -> Seen:
        """Some of the frames."""
        return Seen(self.judged[frames], self.passed[frames])


@dataclass(frozen=True, eq=False)
class Variability:
    """What the light curves of n stars say about change; arrays have length n, NaN or -1 where not tested."""

    star: np.ndarray
    """int: numbers in the catalogue."""
    x: np.ndarray
    """Native pixels of the reference."""
    y: np.ndarray
    false_alarm: np.ndarray
    """Probability that a quiet star of this brightness looks as variable."""
    borne_out: np.ndarray
    """Correlation of the curve with what the differences show; NaN where they know nothing of the star."""
    amplitude_mag: np.ndarray
    """Peak to peak of the smoothed curve, all colours together."""
    snr: np.ndarray
    """Of the frame that departs most."""
    first_frame: np.ndarray
    """First and last frame that depart by more than 3 sigma."""
    last_frame: np.ndarray
    tested: int
    """Stars that were tested: so many times a `false_alarm` are expected below it by chance."""


def judge(
    curves: Sequence[Curves],
    bad: np.ndarray,
    blended: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    seen: Seen | None = None,
) -> Variability:
    """Test every star for variability.

    Parameters
    ----------
    curves : sequence of Curves
        One per channel; combined by their errors into one curve.
    bad : ndarray of bool, shape (f, n)
        Measurements not to be trusted.
    blended : ndarray of bool, shape (n,)
        Compared among themselves where there are enough of them.
    x, y : ndarray, shape (n,)
        Native pixels of the reference.
    seen : Seen, optional
        What the differences show of the same stars and frames.

    Returns
    -------
    Variability

    Notes
    -----
    Two statistics of the curve: the rms of the deviations in sigma, and the mean product of those of neighbouring
    frames (von Neumann 1941, doi:10.1214/aoms/1177731677, in the form of Welch & Stetson 1993,
    doi:10.1086/116556), which noise does not raise and slow change does. And one of the curve and the differences
    together: the mean product of the one's deviation and the other's on a neighbouring frame, which neither their
    common photons raise, nor what disturbs one of them alone. Each is compared with stars of like brightness: the
    distance from their median over that of their 90th percentile. Beyond that percentile the false-alarm probability
    falls exponentially, at the rate that the night's stars show between their 90th and 98th; the smallest
    probability counts as often as there are statistics.

    Where the curve and the differences, both smoothed over three frames, have a correlation below 0.5, the curve is
    disturbed (a neighbour's light comes into the circle when seeing is poor, and leaves with it: most of a crowded
    night's outstanding curves are of that kind), and only the third statistic counts.
    """
    n = len(x)
    deviation, error = _combined(curves, bad if seen is None else bad | seen.passed)
    z = deviation / error
    counted = np.isfinite(z)
    enough = counted.sum(axis=0) >= _FEWEST_FRAMES
    calm = _without_spikes(z)
    size = np.maximum(counted.sum(axis=0), 1)
    filled = np.nan_to_num(calm)
    rms = np.sqrt((filled**2).sum(axis=0) / size)
    lagged = (filled[1:] * filled[:-1]).sum(axis=0) / np.sqrt(size)
    bright = curves[len(curves) // 2].usual
    tested = enough & (bright > 0) & np.isfinite(bright)
    borne_out, together = (np.full(n, np.nan),) * 2 if seen is None else _agreement(calm, seen)
    chance = _false_alarms(rms, lagged, together, borne_out, bright, tested, blended)
    smooth = _smoothed(deviation, error)
    model = np.where(np.abs(deviation - smooth) < 3.5 * error, smooth, deviation)
    model = np.where(np.abs(calm) < np.abs(z), smooth, model)
    with np.errstate(invalid="ignore", divide="ignore"):
        mags = -2.5 * np.log10(np.maximum(1 + model, 1e-3))
    some_model = np.where(np.isfinite(mags), mags, np.nan)
    high = np.where(enough, np.max(np.nan_to_num(some_model, nan=-np.inf), axis=0), np.nan)
    low = np.where(enough, np.min(np.nan_to_num(some_model, nan=np.inf), axis=0), np.nan)
    departs = np.abs(filled) > 3
    frames = np.arange(len(z))[:, None]
    first = np.where(departs.any(axis=0), np.min(np.where(departs, frames, len(z)), axis=0), -1)
    last = np.max(np.where(departs, frames, -1), axis=0)
    return Variability(
        np.arange(n),
        x,
        y,
        chance,
        borne_out,
        high - low,
        np.where(enough, np.abs(filled).max(axis=0) if len(z) else 0.0, np.nan),
        first,
        last,
        int(np.isfinite(chance).sum()),
    )


def _false_alarms(
    rms: np.ndarray,
    lagged: np.ndarray,
    together: np.ndarray,
    borne_out: np.ndarray,
    bright: np.ndarray,
    tested: np.ndarray,
    blended: np.ndarray,
) -> np.ndarray:
    """How often a quiet star looks as variable as each does by any of three statistics; NaN where not tested."""
    chance = np.full(len(bright), np.nan)
    kinds = [tested & ~blended, tested & blended]
    if min(kind.sum() for kind in kinds) < _FEWEST_STARS:
        kinds = [tested]
    for kind in kinds:
        some = np.flatnonzero(kind)
        if len(some) < _FEWEST_STARS:
            continue
        order = some[np.argsort(-bright[some], kind="stable")]
        alone = np.minimum(_chance(rms[order]), _chance(lagged[order]))
        alone[borne_out[order] < _BORNE_OUT] = 1.0
        chance[order] = np.minimum(2 * alone, 1.0)
        both = np.isfinite(together[order])
        if both.sum() < _FEWEST_STARS:
            continue
        order, alone = order[both], alone[both]
        chance[order] = np.minimum(3 * np.minimum(alone, _chance(together[order])), 1.0)
    return chance


def _combined(curves: Sequence[Curves], bad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The weighted mean deviation of all colours and its error, (f, n); NaN where there is none."""
    total, weight = np.zeros(bad.shape), np.zeros(bad.shape)
    for one in curves:
        with np.errstate(invalid="ignore", divide="ignore"):
            w = 1 / one.rel_err.astype(float) ** 2
        good = ~bad & np.isfinite(one.rel) & np.isfinite(w)
        total += np.where(good, w * (one.rel.astype(float) - 1), 0.0)
        weight += np.where(good, w, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight > 0, total / weight, np.nan), np.where(weight > 0, weight**-0.5, np.nan)


def _agreement(calm: np.ndarray, seen: Seen) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of each curve with what the differences show, and the mean product of both on neighbouring frames;
    NaN where too few frames have both.
    """
    other = _without_spikes(seen.judged - _median_of_known(seen.judged))
    known = np.isfinite(calm) & np.isfinite(other) & ~seen.passed
    a, b = np.where(known, calm, np.nan), np.where(known, other, np.nan)
    n = known.sum(axis=0)
    p, q = np.nan_to_num(a), np.nan_to_num(b)
    crossed = (p[1:] * q[:-1] + p[:-1] * q[1:]).sum(axis=0) / np.sqrt(np.maximum(2 * n, 1))
    one = np.ones_like(a)
    p, q = (np.where(known, _smoothed(v, one), 0.0) for v in (a, b))
    p, q = (np.where(known, v - v.sum(axis=0) / np.maximum(n, 1), 0.0) for v in (p, q))
    with np.errstate(invalid="ignore", divide="ignore"):
        alike = (p * q).sum(axis=0) / np.sqrt((p**2).sum(axis=0) * (q**2).sum(axis=0))
    enough = n >= _FEWEST_FRAMES
    return np.where(enough, alike, np.nan), np.where(enough, crossed, np.nan)


def _median_of_known(values: np.ndarray) -> np.ndarray:
    """Of each star over the frames; NaN where none is known."""
    some = np.isfinite(values).any(axis=0)
    out = np.full(values.shape[1], np.nan)
    out[some] = np.nanmedian(values[:, some], axis=0)
    return out


def _without_spikes(z: np.ndarray) -> np.ndarray:
    """Deviations in sigma, cut at `_CLIP`; frames that alone are brighter at `_SPIKE`."""
    side = np.full_like(z[:1], 0.0)
    before, after = np.concatenate([side, z[:-1]]), np.concatenate([z[1:], side])
    with np.errstate(invalid="ignore"):
        alone = (z > _SPIKE) & ~(before > 0.3 * z) & ~(after > 0.3 * z)
    return np.clip(np.where(alone, _SPIKE, z), -_CLIP, _CLIP)


def _smoothed(deviation: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Weighted means over three frames, weights 1 2 1."""
    w = np.where(np.isfinite(deviation), 1 / error**2, 0.0)
    d = np.nan_to_num(deviation)
    total, weight = 2 * w * d, 2 * w
    total[1:] += (w * d)[:-1]
    weight[1:] += w[:-1]
    total[:-1] += (w * d)[1:]
    weight[:-1] += w[1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight > 0, total / weight, np.nan)


def _chance(statistic: np.ndarray) -> np.ndarray:
    """False-alarm probabilities of a statistic whose stars come sorted by brightness."""
    n = len(statistic)
    parts = np.array_split(np.arange(n), max(1, n // _GROUP))
    centre = np.array([part.mean() for part in parts])
    middle = np.array([np.median(statistic[part]) for part in parts])
    high = np.array([np.quantile(statistic[part], _TAIL[0]) for part in parts])
    place = np.arange(n)
    middle, high = np.interp(place, centre, middle), np.interp(place, centre, high)
    far = (statistic - middle) / np.maximum(high - middle, 1e-12)
    low, top = np.quantile(far, _TAIL)
    rate = (top - low) / np.log((1 - _TAIL[0]) / (1 - _TAIL[1]))
    rank = 1 - (np.argsort(np.argsort(far, kind="stable"), kind="stable") + 0.5) / n
    return np.where(far <= low, rank, (1 - _TAIL[0]) * np.exp(-(far - low) / max(rate, 1e-12)))

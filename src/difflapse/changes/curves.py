"""Light curves: what air, clouds, mosaic and sensor did to all stars is learnt from the quiet ones and taken off.

In magnitudes, a star's light on a frame is its own constant, plus what the frame does to stars at that place and of
that colour (extinction, clouds, focus), plus what the sensor does at that place (its sensitivity, and where on the
mosaic's cell the star falls), plus what its neighbours in place, colour and brightness still have in common.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from difflapse.changes import _curve_kernels as kernels

_TEACHER_SNR = 15.0
"""Typical S/N from which a star says something about the others."""
_MOST_TEACHERS = 1500
_MOST_FRAMES = 40
"""Frames, spread over the night, from which the sensor's terms are learnt."""
_FEWEST_TEACHERS = 5
_NEIGHBOURS = 60
_WORTH = 0.05
"""Share of the neighbours' deviation that must prove real for it to be taken off at all."""
_GRAIN = 0.002
"""mag: what the brightest stars are trusted to while the fits weigh them."""
_ROUNDS = 3
_DEGREE = 4
"""Of the sensor's smooth map over the field, ..."""
_SMOOTH, _FIELD = (_DEGREE + 1) * (_DEGREE + 2) // 2 - 1, 7
"""... whose terms come first, but for the constant; then so many for each wave over the cell, the wave itself first."""
_SENSOR = _SMOOTH + 12 * _FIELD
_ENOUGH_FOR_WAVES = 250
"""Stars on a frame from which its own departure from the night's mean phase waves is fitted."""
_DARKEST = 0.2
"""Light of a frame, relative to the night's typical one, below which it does not tell a star's usual brightness."""


@dataclass(frozen=True, eq=False)
class Light:
    """What was measured of n stars on f frames in one channel; arrays (f, n) float32 unless said."""

    flux: np.ndarray
    """ADU; NaN where it was not measured."""
    error: np.ndarray
    """ADU."""
    x: np.ndarray
    """Native pixels of the frame."""
    y: np.ndarray
    bad: np.ndarray
    """bool: the number is there but not to be trusted (saturated, defect, blank)."""


@dataclass(frozen=True, eq=False)
class Setting:
    """What is known of the stars and frames, for all channels alike."""

    x: np.ndarray
    """(n,) native pixels of the reference."""
    y: np.ndarray
    colour: np.ndarray
    """(n,) mag, blue minus red; NaN where unknown, all NaN for a monochrome camera."""
    blended: np.ndarray
    """(n,) bool: not to learn from."""
    fwhm: np.ndarray
    """(f,) native pixels; NaN where unknown."""
    shape: tuple[int, int]
    """(ny, nx) of a frame."""
    cell: int
    """Pixels after which the sensor repeats itself: 2 for a mosaic, 1 otherwise."""


@dataclass(frozen=True, eq=False)
class Curves:
    """Corrected light of one channel; arrays (f, n) float32 unless said."""

    rel: np.ndarray
    """1 = the star's median."""
    rel_err: np.ndarray
    """With the measured floor."""
    photon_err: np.ndarray
    """What photons and read noise alone say, relative."""
    usual: np.ndarray
    """(n,) ADU: the star's median flux on a typical frame; NaN where unknown."""
    teachers: int
    """Stars that the corrections were learnt from."""
    local: np.ndarray
    """(f,): share of the neighbours' common deviation that proved real, 0 to 1."""
    dim: np.ndarray
    """(f,) bool: clouds left less than a fifth of the usual light; its numbers are no more than a guess."""


def correct(light: Light, setting: Setting) -> Curves:
    """Take off all that stars have in common, and find errors that hold.

    Parameters
    ----------
    light : Light
        One channel's measured fluxes.
    setting : Setting
        Stars and frames.

    Returns
    -------
    Curves
        Where fewer than 5 stars tell anything, nothing is taken off but each star's median.

    Notes
    -----
    Per frame a polynomial over the field (of degree 0 to 3, by the number of stars) and two terms in colour; for the
    night one map of the sensor and one wave over the mosaic's cell, whose size follows FWHM and place; then the
    weighted mean of what 60 neighbours in place, colour and brightness have left, times the share of it that
    predicts stars which were not asked. All fits are robust and weighted. Errors: whatever stars of the same
    brightness scatter beyond their photon noise is added as a floor, and a frame whose stars scatter more than
    others' has all its errors scaled.

    References
    ----------
    Broeg, Fernandez & Neuhaeuser 2005, doi:10.1002/asna.200410350 (weighted ensemble).
    """
    f, n = light.flux.shape
    flux = np.where(light.bad, np.nan, light.flux).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        snr = np.where(flux > 0, flux / light.error, np.nan)
        mag = np.where(snr > 3, -2.5 * np.log10(np.maximum(flux, 1e-9)), np.nan)
        sigma = 1.0857 / snr
    typical = _median(snr, 0)
    teachable = (typical > _TEACHER_SNR) & ~setting.blended & (np.isfinite(mag).mean(axis=0) > 0.6)
    teachers = np.flatnonzero(teachable)
    teachers = teachers[np.argsort(-typical[teachers], kind="stable")][:_MOST_TEACHERS]
    correction = np.zeros((f, n))
    local = np.zeros(f)
    if len(teachers) >= _FEWEST_TEACHERS:
        design = _Design(light, setting)
        correction, local = _learn(mag, sigma, teachers, typical, setting, design)
    grey = _median(correction, 1)
    clear = 10 ** (-0.4 * (grey - np.nanmedian(grey))) > _DARKEST
    with np.errstate(invalid="ignore", over="ignore"):
        flat = flux * 10 ** (0.4 * correction)
    usual = _median(np.where(clear[:, None], flat, np.nan), 0)
    usual = np.where(np.isfinite(usual), usual, _median(flat, 0))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        scale = 10 ** (0.4 * correction) / np.where(usual > 0, usual, np.nan)
        rel = light.flux * scale
        photon = light.error * scale
    error = _errors(np.where(light.bad | ~clear[:, None], np.nan, rel), photon, usual, setting.blended)
    return Curves(
        rel.astype(np.float32),
        error.astype(np.float32),
        photon.astype(np.float32),
        usual,
        len(teachers) if len(teachers) >= _FEWEST_TEACHERS else 0,
        local,
        ~clear,
    )


class _Design:
    """The terms of the sensor: a smooth map, and waves over the cell whose size follows place and FWHM."""

    def __init__(self, light: Light, setting: Setting) -> None:
        self.light, self.setting = light, setting
        fwhm = setting.fwhm
        middle = float(np.nanmedian(fwhm)) if np.isfinite(fwhm).any() else 1.0
        self.width = np.nan_to_num((fwhm - middle) / middle)
        f = len(fwhm)
        self.frames = np.unique(np.linspace(0, f - 1, min(f, _MOST_FRAMES)).round().astype(int))
        self._kept: dict[int, np.ndarray] = {}

    def taught(self, teachers: np.ndarray, frame: int) -> np.ndarray:
        """As `terms`, of the teachers, always the same ones: kept for the frames that tell the sensor's terms."""
        found = self._kept.get(frame)
        if found is None:
            found = self.terms(teachers, frame)
            if frame in self.frames:
                self._kept[frame] = found
        return found

    def terms(self, stars: np.ndarray, frame: int) -> np.ndarray:
        """(terms, stars) of one frame, float32."""
        trig, u, v, width = self._place(frame, stars)
        out = np.empty((_SENSOR, len(stars)), np.float32)
        kernels.lay_terms(trig, u, v, width, _DEGREE, out)
        return out

    def add(self, frame: int, coefficients: np.ndarray, own: np.ndarray, to: np.ndarray) -> None:
        """Add what the terms make of one frame to all stars (n,); `own` (8,) belong to its `waves`."""
        coefficients = coefficients.copy()
        self.waves(coefficients)[:] += own
        kernels.add_sensor(*self._place(frame, slice(None)), _DEGREE, coefficients, to)

    def _place(
        self, frame: int, stars: np.ndarray | slice
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.float32]:
        """Cosines and sines (4, n) of where stars are on the cell, where they are on the sensor, and the FWHM."""
        x, y = np.nan_to_num(self.light.x[frame, stars]), np.nan_to_num(self.light.y[frame, stars])
        ny, nx = self.setting.shape
        half = 0.5 * max(nx, ny)
        turn, cell = np.float32(2 * np.pi), np.float32(self.setting.cell)
        px, py = turn * ((x / cell) % 1), turn * ((y / cell) % 1)
        trig = np.stack([np.cos(px), np.sin(px), np.cos(py), np.sin(py)])
        return trig, (x - 0.5 * nx) / half, (y - 0.5 * ny) / half, np.float32(self.width[frame])

    @staticmethod
    def waves(terms: np.ndarray) -> np.ndarray:
        """The coarsest 8 waves over the cell among the `terms`, for a frame whose own differ from the night's."""
        return terms[_SMOOTH : _SMOOTH + 8 * _FIELD : _FIELD]


def _monomials(u: np.ndarray, v: np.ndarray, degree: int) -> list[np.ndarray]:
    """u**i v**j for i + j up to `degree`, the constant first."""
    pu, pv = [np.ones_like(u)], [np.ones_like(v)]
    for _ in range(degree):
        pu.append(pu[-1] * u)
        pv.append(pv[-1] * v)
    return [pu[i] * pv[j] for i in range(degree + 1) for j in range(degree + 1 - i)]


def _learn(
    mag: np.ndarray,
    sigma: np.ndarray,
    teachers: np.ndarray,
    typical: np.ndarray,
    setting: Setting,
    design: _Design,
) -> tuple[np.ndarray, np.ndarray]:
    """Corrections of all stars on all frames, mag, and how much of the local ones is real."""
    f = len(mag)
    own, variance = mag[:, teachers], sigma[:, teachers] ** 2 + _GRAIN**2
    known = np.isfinite(own)
    weight = np.where(known, 1 / variance, 0.0)
    terms = _frame_terms(setting, _effective(weight))
    own = np.where(known, own, 0.0)
    sensor = np.zeros_like(own)
    frame = np.zeros_like(own)
    per_frame = np.zeros((f, len(terms)))
    taught = np.zeros(_SENSOR)
    star = _median(np.where(known, own, np.nan), 0)
    enough = known.sum() > 20 * _SENSOR and f > 3
    wavy = enough and _effective(weight) > _ENOUGH_FOR_WAVES
    own_waves = np.zeros((f, 8))
    for round_ in range(_ROUNDS):
        columns = np.empty((len(terms) + (8 if wavy else 0), len(teachers)))
        columns[: len(terms)] = terms[:, teachers]
        for i in range(f):
            if wavy:
                columns[len(terms) :] = design.waves(design.taught(teachers, i))
            solved = kernels.fit_frame(columns, own[i] - star - sensor[i], weight[i], frame[i])
            per_frame[i] = solved[: len(terms)]
            own_waves[i] = solved[len(terms) :] if wavy else 0.0
        left = np.where(known, own - frame - sensor, np.nan)
        star = _weighted_middle(left, weight)
        # Stars that vary, or that the sensor treats badly, say less about the others.
        spread = 2.2 * _median((left - star) ** 2, 0)
        weight = np.where(known, 1 / (variance + np.maximum(spread - _median(variance, 0), 0)), 0.0)
        if round_ == 0 and len(terms) > len(fewer := _frame_terms(setting, _effective(weight))):
            terms, per_frame = fewer, per_frame[:, : len(fewer)]
        if enough and round_ < _ROUNDS - 1:
            taught += _sensor(design, teachers, own - frame - star - sensor, weight)
            sensor = np.stack([kernels.combine(taught, design.taught(teachers, i)) for i in range(f)])
    left = np.where(known, own - frame - star - sensor, np.nan)
    fixed = per_frame @ terms
    if enough:
        for i in range(f):
            design.add(i, taught, own_waves[i], fixed[i])
    shared, share = _neighbours(left, weight, teachers, typical, setting)
    return fixed + shared, share


def _frame_terms(setting: Setting, teachers: float) -> np.ndarray:
    """(terms, n): a polynomial over the field and some terms of colour, as many as so many teachers bear."""
    degree = 3 if teachers > 200 else 2 if teachers > 80 else 1 if teachers > 30 else 0
    ny, nx = setting.shape
    half = 0.5 * max(nx, ny)
    u, v = (setting.x - 0.5 * nx) / half, (setting.y - 0.5 * ny) / half
    terms = _monomials(u, v, degree)
    if teachers > 60 and np.isfinite(setting.colour).any():
        colour = setting.colour - np.nanmedian(setting.colour)
        spread = 1.4826 * np.nanmedian(np.abs(colour)) or 1.0
        colour = np.clip(np.nan_to_num(colour / spread), -3, 3)
        terms += [colour, colour**2 - 1, colour * u, colour * v]
    return np.stack(terms)


def _effective(weight: np.ndarray) -> float:
    """How many equal stars would tell as much as these of unequal weight, (f, t), on a typical frame."""
    total, squares = weight.sum(axis=1), (weight**2).sum(axis=1)
    return float(np.median(total**2 / np.maximum(squares, 1e-30)))


def _sensor(design: _Design, stars: np.ndarray, left: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Least squares of what is left on the sensor's terms, each star's own mean taken out of both."""
    z = left * np.sqrt(weight)
    spread = max(1.4826 * float(np.median(np.abs(z[weight > 0]))), 1.0)
    w = kernels.faded(weight, z / spread)
    mean = np.zeros((_SENSOR, len(stars)))
    normal, right = np.zeros((_SENSOR, _SENSOR)), np.zeros(_SENSOR)
    half = np.empty((_SENSOR, len(stars)), np.float32)
    total = np.maximum(w[design.frames].sum(axis=0), 1e-30)
    for i in design.frames:
        t = design.taught(stars, i)
        kernels.add_weighted(t, w[i], left[i], mean, right)
        # A product with itself costs half of another's.
        np.multiply(t, np.sqrt(w[i]).astype(np.float32), out=half)
        normal += half @ half.T
    normal -= (mean / total) @ mean.T
    right -= (mean / total) @ (left * w)[design.frames].sum(axis=0)
    # A ridge of some 30 measurements: what the stars' drift does not tell stays zero.
    scale = np.diag(normal).mean()
    ridge = max(1e-6 * scale, 30 * float(np.median(w[w > 0])) if (w > 0).any() else 1.0)
    return np.linalg.solve(normal + ridge * np.eye(_SENSOR), right)


def _neighbours(
    left: np.ndarray, weight: np.ndarray, teachers: np.ndarray, typical: np.ndarray, setting: Setting
) -> tuple[np.ndarray, np.ndarray]:
    """What stars alike in place, colour and brightness still have in common, for all stars, and what it is worth."""
    f, t = left.shape
    n = len(setting.x)
    k = min(_NEIGHBOURS + 1, t)
    if t < 3 * _NEIGHBOURS:
        return np.zeros((f, n)), np.zeros(f)
    size = 0.25 * max(setting.shape)
    colour = (
        np.nan_to_num(setting.colour - np.nanmedian(setting.colour))
        if np.isfinite(setting.colour).any()
        else np.zeros(n)
    )
    bright = 2.5 * np.log10(np.maximum(np.nan_to_num(typical), 1.0))
    place = np.column_stack([setting.x / size, setting.y / size, colour / 1.0, bright / 3.0])
    z = np.nan_to_num(left) * np.sqrt(weight)
    spread = max(1.4826 * float(np.median(np.abs(z[weight > 0]))), 1.0)
    w = kernels.faded(weight, z / spread)
    values = np.nan_to_num(left)
    among = np.ascontiguousarray(place[teachers].T)
    by_star, weights = np.ascontiguousarray(values.T), np.ascontiguousarray(w.T)
    near = kernels.nearest(place[teachers], among, k)
    told = kernels.mean_of(near, np.arange(t), by_star, weights).T
    square = (w * told**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(square > 0, np.clip((w * told * values).sum(axis=1) / square, 0, 1), 0.0)
    mean = np.zeros((f, n))
    if (some := share > _WORTH).any():
        itself = np.full(n, -1)
        itself[teachers] = np.arange(t)
        near = kernels.nearest(place, among, k)
        mean[some] = kernels.mean_of(near, itself, by_star[:, some], weights[:, some]).T
    return mean * share[:, None], share


def _errors(rel: np.ndarray, photon: np.ndarray, usual: np.ndarray, blended: np.ndarray) -> np.ndarray:
    """Errors that hold: the photon noise, a floor by brightness, and a factor for each frame."""
    f = len(rel)
    error = photon.astype(float).copy()
    measured = (np.isfinite(rel) & np.isfinite(error)).sum(axis=0)
    good = np.flatnonzero((measured >= max(3, f // 2)) & (usual > 0) & ~blended)
    if len(good) < 10 or f < 4:
        return error
    # Residuals from the median of f frames are smaller than those from the truth.
    dof = np.sqrt(f / (f - 1.0))
    order = good[np.argsort(-usual[good], kind="stable")]
    groups = np.array_split(order, max(1, min(40, len(order) // 50)))
    extra = np.zeros(len(groups))
    frame = np.ones(f)
    for _ in range(3):
        for g, group in enumerate(groups):
            stars = group[:: max(1, len(group) // 60)]
            extra[g] = kernels.excess(rel, photon, frame, stars, dof)
        extra = np.maximum(extra, 0)
        at = np.array([np.median(np.log10(usual[stars])) for stars in groups])
        with np.errstate(invalid="ignore", divide="ignore"):
            level = np.interp(-np.log10(np.maximum(usual, 1e-9)), -at, extra)
        level = np.where(np.isfinite(level), level, 0.0)
        spread = kernels.scatter(rel, photon, level, good, dof) / 0.6745
        ratio = spread / np.nanmedian(spread)
        # The spread of n stars is itself known to 1.17 / sqrt(n): only what is clearly worse counts.
        worse = ratio > 1 + 3 * 1.17 / np.sqrt(len(good))
        frame = np.where(worse, ratio, 1.0)
    return np.asarray(np.sqrt(photon**2 + level) * frame[:, None])


def _weighted_middle(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Robust weighted mean over frames: about the median, outliers fading."""
    middle = _median(values, 0)
    d = np.nan_to_num(values - middle)
    w = np.where(np.isfinite(values), weight, 0.0)
    z = d * np.sqrt(w)
    with np.errstate(invalid="ignore"):
        spread = np.maximum(1.4826 * np.nan_to_num(_median(np.where(w > 0, np.abs(z), np.nan), 0)), 1.0)
    w = kernels.faded(w, z / spread)
    return np.nan_to_num(middle + (w * d).sum(axis=0) / np.maximum(w.sum(axis=0), 1e-30))


def _median(values: np.ndarray, axis: int) -> np.ndarray:
    """Median that passes over NaN, and is NaN where there is nothing else, without a warning."""
    ordered = np.sort(values, axis=axis)  # NaN come last
    n = np.isfinite(values).sum(axis=axis)
    low, high = np.maximum(n - 1, 0) // 2, np.minimum(n // 2, np.maximum(n - 1, 0))
    pick = lambda k: np.take_along_axis(ordered, np.expand_dims(k, axis), axis).squeeze(axis)  # noqa: E731
    return np.where(n > 0, 0.5 * (pick(low) + pick(high)), np.nan)

"""The acceptance test that every transform must pass, on stars or pixels it was not fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from difflapse.align.fit import NEEDED, Choice
from difflapse.align.match import Matches, log10_chance
from difflapse.align.view import View
from difflapse.model.transform import Transform, powers

LEAST_STARS = 6
"""Fewest stars that are believed at all."""
LOG10_CHANCE = -5.0
"""A match must be less likely than this by chance, all hypotheses that were looked at included."""


@dataclass(frozen=True)
class Verdict:
    """Whether a transform is believed, in one line and in numbers."""

    passed: bool
    line: str
    facts: Mapping[str, object]


def judge_stars(
    frame: View,
    reference: View,
    choice: Choice,
    i: np.ndarray,
    j: np.ndarray,
    found: Matches,
    trials: float,
) -> Verdict:
    """Judge a transform by matched stars: are they enough, beyond chance, and close when held out?

    Parameters
    ----------
    frame : View
        The frame to be aligned.
    reference : View
        The frame whose pixel grid is kept.
    choice : Choice
        The fitted model with its held-out residuals.
    i, j : ndarray of int
        The pairs it was offered; `choice.keep` tells those it kept.
    found : Matches
        The counts behind the probability of chance matches.
    trials : float
        Hypotheses looked at before.

    Returns
    -------
    Verdict
        `facts` has `found`, `needed`, and `log10_chance`, `rms_pix` and `limit_pix` as far as they were
        reached.
    """
    keep = choice.keep
    n = int(keep.sum())
    if n < LEAST_STARS:
        line = f"{n} of {found.n_frame} stars in common agree; at least {LEAST_STARS} are needed"
        return Verdict(False, line, {"found": n, "needed": LEAST_STARS})
    a, b = frame.stars, reference.stars
    fx, fy = choice.transform(a.x[i[keep]], a.y[i[keep]])
    residuals = np.hypot(fx - b.x[j[keep]], fy - b.y[j[keep]])
    # Three pairs made the hypothesis; a model of p parameters can satisfy p / 2 pairs by itself.
    spent = max(3, (parameters(choice.transform) + 1) // 2)
    density = found.density
    log10_p = log10_chance(residuals, found.n_frame, density, spent, trials)
    limit = rms_limit(frame, reference)
    facts = {
        "found": n,
        "needed": LEAST_STARS,
        "log10_chance": log10_p,
        "rms_pix": choice.rms,
        "limit_pix": limit,
    }
    if log10_p > LOG10_CHANCE:
        line = (
            f"{n} stars agree, which chance explains (10^{log10_p:.1f}; 10^{LOG10_CHANCE:.0f} is the limit)"
        )
        return Verdict(False, line, facts)
    if not choice.rms <= limit:
        line = f"{n} stars agree to {choice.rms:.2f} px rms when held out; at most {limit:.2f} px is allowed"
        return Verdict(False, line, facts)
    line = f"{choice.transform.model}{_degree(choice.transform)} on {n} of {found.n_frame} stars in common"
    return Verdict(True, line, facts)


def rests(transform: Transform, shape: tuple[int, int], within: float = 1.0) -> bool:
    """Whether a transform moves no corner of a frame by `within` px: as hot pixels do, and good mounts."""
    x, y = np.array([0, shape[1] - 1, 0, shape[1] - 1.0]), np.array([0, 0, shape[0] - 1, shape[0] - 1.0])
    fx, fy = transform(x, y)
    return bool(np.all(np.hypot(fx - x, fy - y) < within))


def rms_limit(frame: View, reference: View) -> float:
    """Largest believable held-out rms, px: half the stars' width, and never less than 1."""
    widths = [
        np.median(s.fwhm[np.isfinite(s.fwhm)]) for s in (frame.stars, reference.stars) if _measured(s.fwhm)
    ]
    return max(1.0, 0.5 * float(max(widths))) if widths else 1.0


def parameters(transform: Transform) -> int:
    """Free parameters of a transform's model."""
    if transform.model == "polynomial":
        return 2 * len(powers(transform.degree))
    return {"euclidean": 3, "homography": 8}.get(transform.model, 2 * NEEDED[transform.model])


def _measured(fwhm: np.ndarray) -> bool:
    return bool(np.any(np.isfinite(fwhm)))


def _degree(transform: Transform) -> str:
    return f" of degree {transform.degree}" if transform.model == "polynomial" else ""

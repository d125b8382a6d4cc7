"""From a rough transform to a proven one, on stars: match all, choose the model, judge it on stars held
out.
"""

from __future__ import annotations

import numpy as np

from difflapse.align.check import judge_stars
from difflapse.align.fit import choose_model
from difflapse.align.match import Matches, match_stars, position_variance
from difflapse.align.view import AlignOptions, View
from difflapse.errors import AlignError
from difflapse.model import Alignment, HeldOut, Transform


def refine_on_stars(
    frame: View,
    reference: View,
    guess: Transform,
    options: AlignOptions,
    method: str,
    trials: float = 1.0,
    coarse: float = 4.0,
) -> Alignment:
    """Fit a transform to all stars that match under a guess, and accept it only if held-out stars agree.

    Parameters
    ----------
    frame : View
        The frame to be aligned.
    reference : View
        The frame whose pixel grid is kept.
    guess : Transform
        Frame to reference, good to about `coarse` px.
    options : AlignOptions
        `transform` is the model wanted.
    method : str
        The name that the result bears.
    trials : float
        Guesses that were looked at before this one, see `match.log10_chance`.
    coarse : float, px
        Radius of the first matching.

    Returns
    -------
    Alignment

    Raises
    ------
    AlignError
        If `judge_stars` refuses; `facts` has `found`, `needed` and the numbers behind the refusal.
    """
    found = match_stars(
        frame.stars, reference.stars, guess, frame.facts.shape, reference.facts.shape, coarse=coarse
    )
    return settle(frame, reference, found, options, method, trials)


def settle(
    frame: View, reference: View, found: Matches, options: AlignOptions, method: str, trials: float
) -> Alignment:
    """Choose the model on matches already made, and judge it."""
    shape = frame.facts.shape
    domain = (0.0, 0.0, shape[1] - 1.0, shape[0] - 1.0)
    i, j = found.frame, found.reference
    a, b = frame.stars, reference.stars
    if len(i) < 3:
        raise AlignError(
            f"{len(i)} stars agree within {found.tolerance:.2g} px; at least 6 are needed",
            "",
            {"found": len(i), "needed": 6, "method": method},
        )
    weights = 1.0 / (position_variance(a)[i] + position_variance(b)[j])
    usable = ~(a.saturated[i] | b.saturated[j] | a.blended[i] | b.blended[j])
    if usable.sum() >= 20:
        i, j, weights = i[usable], j[usable], weights[usable]
    choice = choose_model(a.x[i], a.y[i], b.x[j], b.y[j], weights, options.transform, domain, found.common)
    verdict = judge_stars(frame, reference, choice, i, j, found, trials)
    if not verdict.passed:
        raise AlignError(verdict.line, "", {"method": method, **verdict.facts})
    i, j = i[choice.keep], j[choice.keep]
    columns = (a.x[i], a.y[i], *choice.residuals.T, np.minimum(a.snr[i], b.snr[j]))
    held_out = HeldOut(*(np.asarray(column, np.float32) for column in columns))
    return Alignment(choice.transform, method, len(i), choice.rms, choice.p95, (), verdict.line, held_out)

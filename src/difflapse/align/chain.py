"""`auto`: every method in turn, cheapest first, until one passes a check on what it was not fitted to."""

from __future__ import annotations

from dataclasses import replace

from difflapse.align import asterism, features, phase, wcs
from difflapse.align.check import rests
from difflapse.align.pixels import judge_on_pixels
from difflapse.align.refine import refine_on_stars
from difflapse.align.view import AlignOptions, View
from difflapse.errors import AlignError
from difflapse.model import Alignment

_STEPS = ("wcs", "asterism", "features", "phase")


def auto(frame: View, reference: View, options: AlignOptions) -> Alignment:
    """Align by the cheapest method that can be believed; not for measuring how well one method does.

    The header's WCS is tried where both frames have one, and refined on all stars that match it; then
    asterisms, image features and cross-correlation. Each is held to the check of `check.judge_stars`, or of
    `pixels` where there are too few stars.

    Parameters
    ----------
    frame : View
        The frame to be aligned.
    reference : View
        The frame whose pixel grid is kept.
    options : AlignOptions
        `method` is not looked at.

    Returns
    -------
    Alignment
        `refused` has a line for each method tried before, with its numbers.

    Raises
    ------
    AlignError
        All methods refused; `refused` in its facts says why, `found` and `needed` are those of the best on
        stars. What is left then is `between.interpolate`, which needs the neighbours.
    """
    refused: list[str] = []
    found = 0
    for step in _STEPS:
        try:
            result = _try(step, frame, reference, options)
        except AlignError as error:
            refused.append(f"{step}: {error.message}")
            count = error.facts.get("found", 0)
            found = max(found, count) if isinstance(count, int) and step in ("wcs", "asterism") else found
            continue
        return replace(result, refused=(*refused, *result.refused))
    raise AlignError(
        "no method aligns this frame: " + "; ".join(refused),
        "another --reference may have more in common with it",
        {"found": found, "needed": 6, "method": "auto", "refused": tuple(refused)},
    )


_SCENE_MOVES = 2.0


def _try(step: str, frame: View, reference: View, options: AlignOptions) -> Alignment:
    """One method, with its check; AlignError where it refuses."""
    if step == "asterism":
        return asterism.find(frame, reference, options)
    if step == "features":
        return features.find(frame, reference, options)
    if step == "phase":
        return phase.find(frame, reference, options)
    fewest = min(len(frame.stars), len(reference.stars))
    # Stars are fitted with the model that was asked for; without them the headers' own map must be of it.
    guess = wcs.map_by_headers(frame.facts, reference.facts, options.transform if fewest < 6 else "auto")
    if fewest < 6:
        # In coordinates of the Sun or of a detector the scene itself moves: the Sun turns by a pixel in hours.
        return judge_on_pixels(
            frame, reference, guess, "wcs", 1.0 if frame.facts.wcs_header else _SCENE_MOVES
        )
    result = refine_on_stars(frame, reference, guess, options, "wcs", coarse=wcs.COARSE)
    if rests(result.transform, frame.facts.shape) and result.n_matched < 0.5 * fewest:
        raise AlignError(
            f"{result.n_matched} of {fewest} stars agree with it and do not move at all: maybe hot pixels",
            "",
            {"found": result.n_matched, "needed": fewest // 2, "method": "wcs"},
        )
    return replace(result, note=f"refined on {result.n_matched} stars: {result.note}")

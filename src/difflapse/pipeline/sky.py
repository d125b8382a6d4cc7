"""Where the night's reference lies on the sky: asked of a plate solver, or taken from what the headers say."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from difflapse.align.sky import SkyFit, Way, combine_headers, refine_on_catalogue
from difflapse.align.view import View
from difflapse.errors import AlignError, FrameError, SolveError
from difflapse.io.celestial import tan_sip_header
from difflapse.model import Alignment, FrameFacts, Stars
from difflapse.pipeline.context import Night
from difflapse.pipeline.desk import Desk
from difflapse.pipeline.records import Reference, SkyPlace
from difflapse.pipeline.solving import Solution, hints_of, solve_stars

OTHER_FRAMES = 2
"""Frames that are tried where the reference is not solved: those with the most stars."""
_MOST_HEADERS = 60
"""Headers that are combined, spread over the night: more hardly make their mean any better."""


def find_sky(desk: Desk) -> None:
    """Share where the reference lies on the sky, and say so where it was asked for and is not known."""
    night = desk.night
    reference: Reference = night.shared("reference")
    place: SkyPlace | None = reference.place
    if night.options.solve and not place:
        place = _solve_night(desk, reference)
    night.share("sky", place or _from_headers(desk, reference))


def place_of(night: Night) -> SkyPlace:
    """Where the reference lies on the sky; unknown where the run did not come so far."""
    found: SkyPlace = night.shared("sky") if night.has("sky") else SkyPlace()
    return found


def solve_alone(
    desk: Desk, candidates: Sequence[tuple[FrameFacts, Stars, int]]
) -> tuple[int, SkyPlace] | None:
    """The number of the first of some images, not aligned yet, found on the sky; None (and a note) if none."""
    refused: list[str] = []
    for facts, stars, number in candidates:
        seconds = desk.night.options.solve_limit / len(candidates)
        place = _attempt(desk, facts, facts, stars, None, seconds, refused)
        if place:
            return number, place
    desk.progress.note(f"not solved: {'; '.join(refused)}")
    return None


def _solve_night(desk: Desk, reference: Reference) -> SkyPlace | None:
    """Solve the reference, or else another frame through its alignment; None (and a note) where all refuse."""
    night = desk.night
    desk.progress.start("solve", 1)
    end = time.monotonic() + night.options.solve_limit
    refused: list[str] = []
    found = _attempt(
        desk, reference.facts, reference.facts, reference.stars, None, night.options.solve_limit / 2, refused
    )
    others = [k for k in _aligned(desk) if night.frames[k].file != reference.facts.file]
    for k in sorted(others, key=lambda k: -len(desk.value("stars", k)))[:OTHER_FRAMES]:
        # Half of what is left, so that a frame without hope does not take the others' time.
        left = (end - time.monotonic()) / 2
        if found or left < 1.0:
            break
        alignment: Alignment = desk.value("alignment", k)
        found = _attempt(
            desk, night.frames[k], reference.facts, desk.value("stars", k), alignment, left, refused
        )
    desk.progress.advance("solve")
    desk.progress.finish("solve")
    if found is None:
        desk.progress.note(f"not solved: {'; '.join(refused)}")
    return found


def _aligned(desk: Desk) -> list[int]:
    """Frames whose place is measured, not guessed."""
    return [k for k in desk.alive() if desk.value("alignment", k).method != "interpolated"]


def _attempt(
    desk: Desk,
    own: FrameFacts,
    facts: FrameFacts,
    stars: Stars,
    alignment: Alignment | None,
    seconds: float,
    refused: list[str],
) -> SkyPlace | None:
    """One image, with its header's hints and then without; `facts` are the reference's, `alignment` leads there."""
    night = desk.night
    scratch = Path(night.scratch) / "solve"
    scratch.mkdir(exist_ok=True)
    end = time.monotonic() + seconds
    said: list[str] = []
    for hints in (True, False) if any(hints_of(own)) else (False,):
        left = end - time.monotonic()
        if left < 0.5:
            break
        try:
            solution = solve_stars(stars, own, night.options, scratch, hints, left / 2 if hints else left)
            return _refined(solution, facts, stars, alignment, own.file)
        except FrameError as error:
            said.append(f"{error.message} ({error.hint})" if error.hint else error.message)
    refused.append(f"{own.file}: {', '.join(dict.fromkeys(said))}")
    return None


def _refined(
    solution: Solution, facts: FrameFacts, stars: Stars, alignment: Alignment | None, file: str
) -> SkyPlace:
    """The solver's answer, fitted anew to all catalogue stars on the reference's grid."""
    way: Way | None = None
    if alignment is not None:
        x, y = alignment.transform(stars.x, stars.y)
        stars, way = replace(stars, x=x, y=y), alignment.transform.inverse
    try:
        fit = refine_on_catalogue(
            View(facts, stars, _no_picture), way, solution.wcs_header, solution.ra_deg, solution.dec_deg
        )
    except AlignError as error:
        raise SolveError(
            f"{solution.solver} found a place, but with {len(solution.ra_deg)} catalogue stars {error.message}",
            error.hint,
            error.facts,
        ) from None
    index = f" of {solution.index}" if solution.index else ""
    through = "" if alignment is None else f", through {file}"
    return SkyPlace(
        tan_sip_header(fit.wcs, facts.shape),
        solution.solver,
        fit.n,
        fit.rms_pix,
        solution.index,
        f"{_kind(fit)} on {fit.n} stars{index} by {solution.solver}{through}, rms {fit.rms_pix:.3f} px held out",
    )


def _from_headers(desk: Desk, reference: Reference) -> SkyPlace:
    """The mean of what the frames' headers say, or the reference's own where they make none."""
    night = desk.night
    facts = reference.facts
    own = SkyPlace()
    if facts.wcs_header:
        own = SkyPlace(facts.wcs_header, "header", text="the header of the reference")
    if own and reference.external:
        return own
    frames = [k for k in _aligned(desk) if night.frames[k].wcs_header]
    # A header that was copied from frame to frame knows nothing of the frames that it was copied to.
    if len({night.frames[k].wcs_header for k in frames}) <= len(frames) / 2 or len(frames) < 3:
        return own
    step = max(1, -(-len(frames) // _MOST_HEADERS))
    frames = frames[::step]
    headers = [(night.frames[k].wcs_header, desk.value("alignment", k).transform) for k in frames]
    try:
        fit = combine_headers(headers, facts.shape)
    except AlignError as error:
        if own:
            desk.progress.note(f"WCS: only the reference's header is used: {error.message}")
        return own
    if fit.refused:
        files = ", ".join(night.frames[frames[n]].file for n in fit.refused[:3])
        more = f" and {len(fit.refused) - 3} more" if len(fit.refused) > 3 else ""
        desk.progress.note(f"WCS: the headers of {files}{more} contradict the others and are left out")
    text = f"{_kind(fit)}, mean of {fit.n} headers that differ by {fit.rms_pix:.2f} px rms"
    return SkyPlace(tan_sip_header(fit.wcs, facts.shape), "headers", fit.n, fit.rms_pix, "", text)


def _kind(fit: SkyFit) -> str:
    return f"TAN-SIP of order {fit.wcs.order}" if fit.wcs.order > 1 else "TAN"


def _no_picture() -> NoReturn:
    raise AlignError("the sky is not found on pixels", "", {"found": 0, "needed": 1})

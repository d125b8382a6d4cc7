"""Stars that vary, by how their light in the differences goes through the night."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

_LEAST_FRAMES = 5
_TOGETHER = 4.5
"""Mean product of neighbouring residuals, in units of the scatter of stars like it, from which on a star varies."""
_SUSPECT = 1.0
"""The same for a star whose light curve, measured otherwise, says so too."""
_AWAY = 3.0
_OFTEN = 3
_DIP = 4.5
"""... or so many, one after another, fainter by this many sigma, ..."""
_DEEP = 6.0
"""... or two by so many: an eclipse."""
_FLARE = 5
"""Brighter it must be on more frames: something may pass by for three or four."""
"""So many frames must be so many sigma from the star's median."""
_STEP = 9.0
"""sigma by which the means before and after some frame differ where a star came or went."""
_GONE = 0.2
"""Light over its greatest below which a star counts as gone: then it is a transient, not a variable."""


@dataclass(frozen=True, eq=False)
class Variation:
    """Stars that vary, one entry each."""

    star: np.ndarray
    """(m,) int: row among the stars given."""
    together: np.ndarray
    """(m,) float64: mean product of neighbouring residuals."""
    snr: np.ndarray
    """(m,) float64: of the frame furthest from the median."""
    amplitude_mag: np.ndarray
    """(m,) float64: peak to peak of the running median of three; NaN where it was gone."""
    gone: np.ndarray
    """(m,) bool: whether there was (nearly) no light for a part of the night."""
    appears: np.ndarray
    """(m,) bool: of those, whether it came rather than went."""

    def take(self, index: np.ndarray) -> Variation:
        """Some of them."""
        return Variation(*(getattr(self, item.name)[index] for item in fields(self)))


def find_variation(share: np.ndarray, judged: np.ndarray, suspect: np.ndarray | None = None) -> Variation:
    """Find the stars whose light changes by more than that of stars like them.

    Parameters
    ----------
    share : ndarray, shape (n_frames, n)
        Light over the template's, less 1; NaN where unknown.
    judged : ndarray, shape (n_frames, n)
        The same in units of the scatter that its frame shows at stars of like brightness; NaN where unknown,
        clouded, or where something passes by.
    suspect : ndarray of bool, shape (n,), optional
        Stars that another test (of their light curves) found to vary: less is asked of them.

    Returns
    -------
    Variation
        Most certain first.

    Notes
    -----
    The mean product of neighbouring residuals is 0 for noise, whose scatter over the stars is 1 / sqrt(frames), and
    the variance of the star's own light for what varies more slowly than frames are taken. What one frame alone shows
    (a passing mover, a satellite) does not count: the frame that counts most is left out.
    """
    n_frames, n = judged.shape
    known = np.isfinite(judged)
    enough = known.sum(axis=0) >= _LEAST_FRAMES
    level = np.nanmedian(np.where(enough, judged, 0.0), axis=0)
    rest = np.where(known, judged - level, 0.0)
    rest = np.clip(rest, -60, 60)
    # Neighbours among the frames that know the star.
    product, count = np.zeros(n), np.zeros(n)
    largest = np.zeros(n)
    last = np.full(n, np.nan)
    previous = np.zeros(n)
    for k in range(n_frames):
        pair = np.where(known[k] & np.isfinite(last), rest[k] * last, 0.0)
        product += pair
        count += known[k] & np.isfinite(last)
        largest = np.maximum(largest, pair + previous)
        previous = pair
        last = np.where(known[k], rest[k], last)
    together = (product - np.maximum(largest, 0)) / np.maximum(count - 2, 1)
    often = (np.abs(rest) > _AWAY).sum(axis=0)
    dips = _run(-rest, known, _DIP, _OFTEN) | _run(-rest, known, _DEEP, 2) | _run(rest, known, _DIP, _FLARE)
    dips |= ((-rest > _DEEP).sum(axis=0) >= _OFTEN) & (together > 0)
    dips |= _came_or_went(np.where(known, share, np.nan), judged)
    if suspect is not None:
        dips |= suspect & (together > _SUSPECT) & (often >= 2)
    found = np.flatnonzero(enough & (((together > _TOGETHER) & (often >= _OFTEN)) | dips))
    found = found[np.argsort(-together[found], kind="stable")]
    amplitude, gone, appears = (
        np.full(len(found), np.nan),
        np.zeros(len(found), bool),
        np.zeros(len(found), bool),
    )
    for i, s in enumerate(found):
        light = 1 + share[known[:, s], s]
        # Of three at the ends as well: one frame alone shows nothing.
        begins = np.clip(np.arange(len(light)) - 1, 0, max(len(light) - 3, 0))
        smooth = np.array([np.median(light[k : k + 3]) for k in begins])
        top, low = smooth.max(), smooth.min()
        if low < _GONE * top:
            gone[i] = True
            absent = np.flatnonzero(smooth < _GONE * top)
            appears[i] = absent.mean() < (len(light) - 1) / 2
        else:
            amplitude[i] = 2.5 * np.log10(top / low)
    return Variation(
        found, together[found], np.abs(rest[:, found]).max(axis=0, initial=0.0), amplitude, gone, appears
    )


def _came_or_went(share: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """Which stars have no light before some frame, or after it, and plain light on its other side, (n,) bool.

    What lasts for most of the night is in the template, and no single frame without it need stand out.
    """
    known = np.isfinite(judged)
    light, mark = np.where(known, 1 + share, 0.0), np.where(known, np.clip(judged, -60, 60), 0.0)
    # What one frame alone shows, a particle on the last one, is no star that came: the brightest frame does not count.
    every = np.arange(judged.shape[1])
    top = np.argmax(np.where(known, mark, -np.inf), axis=0)
    held = known.copy()
    held[top, every], light[top, every], mark[top, every] = False, 0.0, 0.0
    known, held, light, mark = (np.cumsum(v, axis=0) for v in (known, held, light, mark))
    found = np.zeros(judged.shape[1], bool)
    for k in range(len(judged) - 1):
        n1, n2 = held[k], held[-1] - held[k]
        light1, mark1 = light[k] / np.maximum(n1, 1), mark[k] / np.maximum(n1, 1)
        light2, mark2 = (light[-1] - light[k]) / np.maximum(n2, 1), (mark[-1] - mark[k]) / np.maximum(n2, 1)
        step = np.abs(mark1 - mark2) * np.sqrt(n1 * n2 / np.maximum(n1 + n2, 1))
        dark, lit = np.minimum(light1, light2), np.maximum(light1, light2)
        often = np.minimum(known[k], known[-1] - known[k]) >= _OFTEN
        found |= often & (step > _STEP) & (dark < _GONE * lit)
    return found


def _run(rest: np.ndarray, known: np.ndarray, least: float, length: int) -> np.ndarray:
    """Which stars exceed `least` on `length` known frames one after another."""
    run, best = np.zeros(rest.shape[1], int), np.zeros(rest.shape[1], int)
    for k in range(len(rest)):
        run = np.where(known[k], np.where(rest[k] > least, run + 1, 0), run)
        best = np.maximum(best, run)
    return np.asarray(best >= length)

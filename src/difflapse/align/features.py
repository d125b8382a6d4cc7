"""Align by image features (ORB, AKAZE, SIFT): the Moon, the Sun, planets, clouds, landscapes, and stars
too.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from difflapse.align.check import rests
from difflapse.align.pixels import settle_on_pixels
from difflapse.align.refine import refine_on_stars
from difflapse.align.view import AlignOptions, Reduced, View
from difflapse.errors import AlignError
from difflapse.model import Alignment, Transform

DETECTORS = ("orb", "akaze", "sift")
_MOST = 1500
_RATIO = 0.85
_LEAST = 8
_SEED = 20180824


def find(frame: View, reference: View, options: AlignOptions) -> Alignment:
    """Align by keypoints of the small pictures, refined on the stars found, or on the pixels.

    Parameters
    ----------
    frame, reference : View
        Their pictures are made; their stars are used for the refinement where both have 6 or more.
    options : AlignOptions
        `detector` and the `transform` of the refinement.

    Returns
    -------
    Alignment

    Raises
    ------
    AlignError
        `found` and `needed` keypoints, stars or tiles.

    Notes
    -----
    Mirror images are found by looking a second time at the reference turned over. Keypoints that do not move,
    where fewer than half of the matches rest, are taken for dust and hot pixels and left out. A 1 Mpx picture
    costs about 0.1 s (ORB).

    References
    ----------
    Rublee et al. 2011, doi:10.1109/ICCV.2011.6126544 (ORB); Alcantarilla et al. 2013, doi:10.5244/C.27.13
    (AKAZE); Lowe 2004, doi:10.1023/B:VISI.0000029664.99615.94 (SIFT, the ratio test).
    """
    if options.detector not in DETECTORS:
        raise ValueError(f"detector is {options.detector!r}; it must be one of {', '.join(DETECTORS)}")
    here, there = frame.picture(), reference.picture()
    refusal: AlignError | None = None
    described = _describe(here, options.detector, mirrored=False)
    for mirrored in (False, True):
        try:
            guesses = _guess(here, described, there, options.detector, mirrored)
        except AlignError as error:
            refusal = refusal or error
            continue
        for guess, n in guesses:
            try:
                result = _refine(frame, reference, guess, options)
            except AlignError as error:
                refusal = error
                continue
            return replace(result, note=f"{n} {options.detector} keypoints, then {result.note}")
    assert refusal is not None
    raise refusal


def _refine(frame: View, reference: View, guess: Transform, options: AlignOptions) -> Alignment:
    """On stars where there are any, else on pixels."""
    refused: tuple[str, ...] = ()
    fewest = min(len(frame.stars), len(reference.stars))
    if fewest >= 6:
        try:
            coarse = 3.0 * reference.picture().step
            result = refine_on_stars(frame, reference, guess, options, "features", coarse=min(coarse, 12.0))
            if not rests(result.transform, frame.facts.shape) or result.n_matched >= 0.5 * fewest:
                return result
            refused = (f"features on stars: {result.n_matched} of {fewest} agree, and do not move at all",)
        except AlignError as error:
            refused = (f"features on stars: {error.message}",)
    result = settle_on_pixels(frame, reference, guess, options, "features")
    return replace(result, refused=refused)


def _guess(
    here: Reduced,
    described: tuple[np.ndarray, np.ndarray],
    there: Reduced,
    detector: str,
    mirrored: bool,
) -> list[tuple[Transform, int]]:
    """Similarities (native px) that keypoints agree on, and how many do; the likelier first."""
    xy_a, code_a = described
    xy_b, code_b = _describe(there, detector, mirrored)
    fewest = min(len(xy_a), len(xy_b))
    if fewest < _LEAST:
        raise AlignError(
            f"{len(xy_a)} and {len(xy_b)} {detector} keypoints; at least {_LEAST} are needed",
            "--align phase suits pictures without corners",
            {"found": fewest, "needed": _LEAST, "method": "features"},
        )
    i, j = _pairs(code_a, code_b, detector)
    native_a, native_b = xy_a[i] * here.step + here.offset, xy_b[j] * there.step + there.offset
    out = []
    resting = np.hypot(*(native_a - native_b).T) < 1.0 * there.step
    for some in (np.ones(len(i), bool), ~resting):
        found = _ransac(native_a[some], native_b[some], there.step)
        if found is None:
            continue
        matrix, n = found
        out.append((Transform.from_matrix(matrix, "similarity"), n))
        if not (_still(matrix, native_a, there.step) and n < 0.5 * len(i)):
            break
    if not out:
        raise AlignError(
            f"{len(i)} {detector} keypoints match, of which fewer than {_LEAST} agree on a transform",
            "another --detector, or --align phase",
            {"found": min(len(i), _LEAST - 1), "needed": _LEAST, "method": "features"},
        )
    # What moves is believed before what rests: see the notes of `find`.
    return out[::-1]


def _still(matrix: np.ndarray, points: np.ndarray, step: float) -> bool:
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    return bool(np.median(np.hypot(*(moved - points).T)) < step)


def _describe(picture: Reduced, detector: str, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (n, 2) in reduced px of the picture as it is, and their descriptors."""
    image, good = stretch(picture)
    if mirrored:
        image, good = np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(good[:, ::-1])
    maker: cv2.Feature2D
    if detector == "orb":
        maker = cv2.ORB.create(nfeatures=_MOST, fastThreshold=7, edgeThreshold=20, patchSize=31)
    elif detector == "akaze":
        maker = cv2.AKAZE.create(threshold=3e-4, max_points=_MOST)
    else:
        maker = cv2.SIFT.create(nfeatures=_MOST, contrastThreshold=0.02)
    points, codes = maker.detectAndCompute(image, good)
    if codes is None or len(points) == 0:
        return np.zeros((0, 2)), np.zeros((0, 32), np.uint8)
    xy = np.array([p.pt for p in points], float)
    if mirrored:
        xy[:, 0] = image.shape[1] - 1 - xy[:, 0]
    return xy, codes


def stretch(picture: Reduced) -> tuple[np.ndarray, np.ndarray]:
    """The picture in 8 bits for keypoint detectors, and the mask (255 = usable) that they take.

    The scale runs from just below the median to the 99.7th percentile, compressed by asinh, so that faint
    stars count beside bright ones and a solar disc keeps its texture.
    """
    good = ~picture.mask & np.isfinite(picture.data)
    data = np.where(good, picture.data, 0).astype(np.float32)
    if not good.any():
        return np.zeros(data.shape, np.uint8), np.zeros(data.shape, np.uint8)
    low, middle, high = np.percentile(data[good], [2, 50, 99.7])
    noise = max(float(middle - low) / 2.0, 1e-6 * float(abs(high)), 1e-12)
    data[~good] = middle
    data = cv2.GaussianBlur(data, (0, 0), 1.0)
    top = np.arcsinh(max(high - middle, noise) / (2 * noise))
    image = np.arcsinh((data - middle) / (2 * noise)) / max(float(top), 1e-6)
    eight = np.clip(40 + 200 * image, 0, 255).astype(np.uint8)
    usable = cv2.erode(good.astype(np.uint8) * 255, np.ones((7, 7), np.uint8), borderValue=255)
    return eight, usable


def _pairs(code_a: np.ndarray, code_b: np.ndarray, detector: str) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of keypoints that pass the ratio test both ways."""
    norm = cv2.NORM_L2 if detector == "sift" else cv2.NORM_HAMMING
    matcher = cv2.BFMatcher(norm)
    forward = {}
    for pair in matcher.knnMatch(code_a, code_b, k=2):
        if len(pair) == 2 and pair[0].distance < _RATIO * pair[1].distance:
            forward[pair[0].queryIdx] = pair[0].trainIdx
    back = {m.queryIdx: m.trainIdx for m in matcher.match(code_b, code_a)}
    kept = [(a, b) for a, b in forward.items() if back.get(b) == a]
    both = np.array(kept, int).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _ransac(a: np.ndarray, b: np.ndarray, step: float) -> tuple[np.ndarray, int] | None:
    """The similarity that most pairs agree on, (2, 3), and how many; None below `_LEAST`."""
    if len(a) < _LEAST:
        return None
    cv2.setRNGSeed(_SEED)
    matrix, inliers = cv2.estimateAffinePartial2D(
        a, b, method=cv2.RANSAC, ransacReprojThreshold=2.5 * step, maxIters=5000, confidence=0.999
    )
    mirror = np.diag([1.0, -1.0])
    cv2.setRNGSeed(_SEED)
    turned, others = cv2.estimateAffinePartial2D(
        a @ mirror, b, method=cv2.RANSAC, ransacReprojThreshold=2.5 * step, maxIters=5000, confidence=0.999
    )
    n, m = (0 if k is None else int(k.sum()) for k in (inliers, others))
    if m > n:
        matrix, n = turned.copy(), m
        matrix[:, 1] *= -1.0
    return (matrix, n) if n >= _LEAST and matrix is not None else None

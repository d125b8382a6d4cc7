"""Align by cross-correlation to a fraction of a pixel: shift only, for fields without stars or corners."""

from __future__ import annotations

import cv2
import numpy as np
from scipy import fft

from difflapse.align.pixels import high_pass, settle_on_pixels
from difflapse.align.view import AlignOptions, Reduced, View
from difflapse.errors import AlignError
from difflapse.model import Alignment, Transform

_COARSE_PIXELS = 300_000
_LEAST_OVERLAP = 0.2
_SIGNIFICANT = 6.0


def find(frame: View, reference: View, options: AlignOptions) -> Alignment:
    """Align by the peak of the cross-correlation; a shift only, and only between pictures of one scale and
    angle.

    Parameters
    ----------
    frame, reference : View
        Only their pictures are looked at.
    options : AlignOptions
        `transform` other than ``auto`` and ``shift`` refines the shift to that model on tiles.

    Returns
    -------
    Alignment

    Raises
    ------
    AlignError
        A picture without structure, a peak that is not significant (`found` and `needed` standard
        deviations), or tiles that disagree.

    References
    ----------
    Padfield 2012, doi:10.1109/TIP.2011.2181402 (masked normalised correlation);
    Guizar-Sicairos et al. 2008, doi:10.1364/OL.33.000156 (sub-pixel peak by an upsampled DFT).
    """
    here, there = frame.picture(), reference.picture()
    if abs(here.step - there.step) > 1e-9 * there.step:
        raise AlignError(
            f"the pictures have {here.step:g} and {there.step:g} native pixels per pixel; they must agree",
            "",
            {"found": here.step, "needed": there.step, "method": "phase"},
        )
    a, valid_a = _prepared(here)
    b, valid_b = _prepared(there)
    for data, valid, role in ((a, valid_a, "frame"), (b, valid_b, "reference")):
        telling = int(valid.sum()) if valid.any() and float(np.std(data[valid])) > 0.0 else 0
        if telling < 256:
            raise AlignError(
                f"the {role} has {telling} usable pixels with any structure; 256 are needed",
                "",
                {"found": telling, "needed": 256, "method": "phase"},
            )
    shift, sigma = _coarse(a, valid_a, b, valid_b)
    if sigma < _SIGNIFICANT:
        raise AlignError(
            f"the correlation's peak stands out by {sigma:.1f} sigma; {_SIGNIFICANT:g} are needed",
            "",
            {"found": sigma, "needed": _SIGNIFICANT, "method": "phase"},
        )
    shift = _fine(a, valid_a, b, valid_b, shift)
    matrix = np.eye(3)
    matrix[:2, 2] = [
        shift[0] * there.step + there.offset - here.offset,
        shift[1] * there.step + there.offset - here.offset,
    ]
    wanted = "shift" if options.transform == "auto" else options.transform
    return settle_on_pixels(frame, reference, Transform("shift", matrix), options, "phase", wanted)


def _prepared(picture: Reduced) -> tuple[np.ndarray, np.ndarray]:
    """The high-passed picture, 0 where invalid, and where it is valid."""
    valid = ~picture.mask & np.isfinite(picture.data)
    return high_pass(np.where(valid, picture.data, 0), valid), valid


def _coarse(
    a: np.ndarray, valid_a: np.ndarray, b: np.ndarray, valid_b: np.ndarray
) -> tuple[tuple[float, float], float]:
    """Shift (x, y) from a to b by masked normalised correlation, and its peak in standard deviations of the
    rest.
    """
    factor = 1
    while a.size / factor**2 > _COARSE_PIXELS:
        factor += 1
    images = []
    for data, valid in ((a, valid_a), (b, valid_b)):
        ny, nx = data.shape[0] // factor, data.shape[1] // factor
        small = cv2.resize(data[: ny * factor, : nx * factor], (nx, ny), interpolation=cv2.INTER_AREA)
        weight = cv2.resize(
            valid[: ny * factor, : nx * factor].astype(np.float32), (nx, ny), interpolation=cv2.INTER_AREA
        )
        images.append((small * (weight > 0.5), (weight > 0.5).astype(np.float32)))
    (fa, wa), (fb, wb) = images
    size = (
        cv2.getOptimalDFTSize(fa.shape[0] + fb.shape[0] - 1),
        cv2.getOptimalDFTSize(fa.shape[1] + fb.shape[1] - 1),
    )
    A, WA, A2 = (fft.rfft2(v, size) for v in (fa, wa, fa * fa))
    B, WB, B2 = (fft.rfft2(v, size) for v in (fb, wb, fb * fb))

    def correlate(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        return fft.irfft2(np.conj(p) * q, size)

    count = np.maximum(correlate(WA, WB), 1.0)
    sum_a, sum_b = correlate(A, WB), correlate(WA, B)
    cross = correlate(A, B) - sum_a * sum_b / count
    var_a = np.maximum(correlate(A2, WB) - sum_a**2 / count, 0.0)
    var_b = np.maximum(correlate(WA, B2) - sum_b**2 / count, 0.0)
    power = np.sqrt(var_a * var_b)
    enough = (count > _LEAST_OVERLAP * min(wa.sum(), wb.sum())) & (power > 1e-6 * power.max())
    # In units of its own error: a coefficient from n pixels scatters as 1 / sqrt(n).
    score = np.where(enough, cross / np.maximum(power, 1e-30) * np.sqrt(count), 0.0)
    peak = int(np.argmax(score))
    dy, dx = np.unravel_index(peak, score.shape)
    spread = float(np.median(np.abs(score[enough]))) * 1.4826
    height = float(score[dy, dx]) / spread if spread > 0 else 0.0
    sy = int(dy) - size[0] if dy >= fb.shape[0] else int(dy)
    sx = int(dx) - size[1] if dx >= fb.shape[1] else int(dx)
    return (float(sx * factor), float(sy * factor)), height


def _fine(
    a: np.ndarray,
    valid_a: np.ndarray,
    b: np.ndarray,
    valid_b: np.ndarray,
    shift: tuple[float, float],
) -> tuple[float, float]:
    """Refine a whole-pixel shift on the common part, by the peak of the upsampled cross-correlation."""
    for _ in range(2):
        sx, sy = round(shift[0]), round(shift[1])
        ya, yb = max(0, -sy), max(0, sy)
        xa, xb = max(0, -sx), max(0, sx)
        ny = min(a.shape[0] - ya, b.shape[0] - yb)
        nx = min(a.shape[1] - xa, b.shape[1] - xb)
        if ny < 16 or nx < 16:
            return shift
        both = valid_a[ya : ya + ny, xa : xa + nx] & valid_b[yb : yb + ny, xb : xb + nx]
        window = (np.outer(np.hanning(ny), np.hanning(nx)) * both).astype(np.float32)
        A = fft.fft2(a[ya : ya + ny, xa : xa + nx] * window)
        B = fft.fft2(b[yb : yb + ny, xb : xb + nx] * window)
        product = np.conj(A) * B
        rough = fft.ifft2(product).real
        reach = 12
        near = np.roll(rough, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
        py, px = (int(k) for k in np.unravel_index(int(np.argmax(near)), near.shape))
        dx, dy = _upsampled(product, px - reach, py - reach)
        shift = (sx + dx, sy + dy)
    return shift


def _upsampled(product: np.ndarray, x: int, y: int, upsampling: int = 50) -> tuple[float, float]:
    """Peak of a cross-correlation near (x, y) by a matrix DFT on a grid of 1 / `upsampling` px."""
    ny, nx = product.shape
    steps = np.arange(-upsampling, upsampling + 1) / upsampling
    ky, kx = np.fft.fftfreq(ny), np.fft.fftfreq(nx)
    left = np.exp(2j * np.pi * np.outer(y + steps, ky))
    right = np.exp(2j * np.pi * np.outer(kx, x + steps))
    surface = (left @ product @ right).real
    py, px = np.unravel_index(int(np.argmax(surface)), surface.shape)
    return float(x + steps[px]), float(y + steps[py])

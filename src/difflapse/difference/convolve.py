"""Convolving an image with a kernel that varies slowly over the field, its noise carried."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from scipy.linalg import toeplitz

from difflapse.difference.mesh import nodes, resample
from difflapse.difference.noise import Noise
from difflapse.difference.psf import Kernel, terms
from difflapse.difference.subtract import Science
from difflapse.difference.template import Template
from difflapse.model import bits

_BLOCK = 64
"""Pixels along each axis over which the kernel stays the same."""


@dataclass(frozen=True, eq=False)
class Windows:
    """Square windows of an image, one above the other: a small image of their own, (c, n * side, side)."""

    x: np.ndarray
    """(n,): middles of the windows, product pixels of the whole image."""
    y: np.ndarray
    side: int


def convolve_science(
    science: Science, kernel: Kernel, out: np.ndarray | None = None, windows: Windows | None = None
) -> Science:
    """Convolve a science frame; its mask grows by the kernel's reach, its noise and NOISECOR are those it has then.

    Parameters
    ----------
    science : Science
        The frame, or windows of it.
    kernel : Kernel
        Of the whole frame.
    out : ndarray, shape (c, ny, nx), float32, optional
        Written into: fresh memory costs more than what is done in it.
    windows : Windows, optional
        Where they lie, if `science` are windows; they know nothing beyond their edges.

    Returns
    -------
    Science
    """
    data = np.empty_like(science.data) if out is None else out
    _convolve(science.data, kernel, data, windows)
    noise, shape = science.noise, data.shape[1:]
    if windows is None:
        gi, gj = nodes(shape, 128)
        x, y = np.meshgrid(gi, gj)
        factor = _factors(kernel, x, y, noise.correlation)[0]
    else:
        # One mean value: of windows spread over the field, in no order.
        here = _factors(kernel, windows.x, windows.y, noise.correlation)[0].mean(axis=1)
        factor = np.broadcast_to(here[:, None, None], (len(data), *(len(n) for n in nodes(shape, 128)[::-1])))

    def carried(mesh: np.ndarray) -> np.ndarray:
        return (resample(mesh, shape, 128) * factor).astype(np.float32)

    correlation = np.broadcast_to(noise.correlation, len(data)) / np.sqrt(factor.mean(axis=(1, 2)))
    response = None if noise.response is None else carried(noise.response)
    noise = Noise(carried(noise.sky), carried(noise.photon), correlation, noise.level, response)
    return Science(data, grown(science.mask, kernel.size // 2), science.inverse_scale, science.offset, noise)


def convolve_template(
    template: Template, kernel: Kernel, out: np.ndarray | None = None, windows: Windows | None = None
) -> Template:
    """Convolve a template; holes grow by the kernel's reach, variance and NOISECOR are those it has then.

    Parameters
    ----------
    template : Template
        The template, or windows of it.
    kernel : Kernel
        Of the whole template.
    out : ndarray, shape (2, c, ny, nx), float32, optional
        Room for data and variance.
    windows : Windows, optional
        As for `convolve_science`.

    Returns
    -------
    Template
    """
    data, variance = np.empty((2, *template.data.shape), np.float32) if out is None else out
    _convolve(template.data, kernel, data, windows)
    block, x, y = blocks(template.data.shape[1:], windows)
    here = _factors(kernel, x, y, template.correlation)[0].astype(np.float32)
    for n in range(len(data)):
        _scale(np.asarray(template.variance[n]), here[n], block, variance[n])
    count = template.count
    if not count.all():
        count = np.where(grown((count == 0).astype(np.uint8), kernel.size // 2) != 0, np.uint8(0), count)
    correlation = np.broadcast_to(template.correlation, len(data)) / np.sqrt(here.mean(axis=(1, 2)))
    return Template(data, variance, count, template.sky, correlation)


def shared_part(kernel: Kernel, correlation: np.ndarray | float) -> float:
    """What becomes of the weight that a science frame has in its own template when one of them is convolved.

    Times this, the weight goes into ``variance of science * (1 - 2 weight)``, the mean of channels.
    """
    y, x = (np.array([0.5 * (n - 1)]) for n in kernel.shape)
    factor, overlap = _factors(kernel, x, y, correlation)
    return float(np.mean(overlap / factor if kernel.science else overlap))


def grown(mask: np.ndarray, reach: int) -> np.ndarray:
    """A mask whose regions grow by `reach` pixels, its single defects (filled from their neighbours) by one."""
    import cv2

    out = mask.copy()
    for bit in (bits.OUTSIDE, bits.SATURATED, bits.DEFECT, bits.BLANK, bits.NO_TEMPLATE):
        here = mask & np.uint8(bit)
        if here.any():
            r = 1 if bit == bits.DEFECT else reach
            out |= cv2.dilate(here, np.ones((2 * r + 1, 2 * r + 1), np.uint8))
    return out


def neighbours(correlation: float) -> np.ndarray:
    """Correlation (4,) of pixels 0 to 3 apart along an axis, as cubic resampling with this NOISECOR leaves it."""
    # By the phase whose sum of squared weights, over both axes alike, makes sums so much noisier than pixels.
    f = np.linspace(0, 0.5, 51)
    d = np.stack([1 + f, f, 1 - f, 2 - f])
    inner, outer = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    w = np.where(d < 1, inner, outer)
    product = np.stack([(w[: 4 - n] * w[n:]).sum(0) for n in range(4)])
    wanted = 1 / np.clip(correlation, 1, 1 / product[0].min())
    return product[:, np.argmin(np.abs(product[0] - wanted))] / wanted


def block_kernels(kernel: Kernel, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The kernel at places of any shape s, (c, *s, n, n) float32."""
    basis = terms(x.ravel(), y.ravel(), kernel.shape, kernel.taps.shape[1])
    local = np.einsum("st,ctk->csk", basis, kernel.taps)
    return np.ascontiguousarray(local.reshape(-1, *x.shape, kernel.size, kernel.size), np.float32)


def _correlations(size: int, correlation: float) -> np.ndarray:
    """Correlation matrix (k, k) of the pixels under a kernel, see `neighbours`."""
    line = toeplitz(np.pad(neighbours(correlation), (0, max(0, size - 4)))[:size])
    return np.kron(line, line)


def _factors(
    kernel: Kernel, x: np.ndarray, y: np.ndarray, correlation: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """Variance after over before, and covariance of after with before over the latter; (c, *s) at places of shape s."""
    local = block_kernels(kernel, x, y)
    c = len(local)
    local = local.reshape(c, -1, kernel.size**2).astype(float)
    factor, overlap = np.empty(local.shape[:2]), np.empty(local.shape[:2])
    for n, each in enumerate(np.broadcast_to(correlation, c)):
        joint = _correlations(kernel.size, float(each))
        factor[n] = np.einsum("sk,kl,sl->s", local[n], joint, local[n])
        overlap[n] = local[n] @ joint[len(joint) // 2]
    return factor.reshape(c, *x.shape), overlap.reshape(c, *x.shape)


def blocks(shape: tuple[int, ...], windows: Windows | None = None) -> tuple[int, np.ndarray, np.ndarray]:
    """Pixels along a block over which the kernel stays the same, and the middles of the blocks (by, bx)."""
    if windows is not None:
        return windows.side, windows.x[:, None], windows.y[:, None]
    middles = (np.minimum((np.arange(-(-n // _BLOCK)) + 0.5) * _BLOCK - 0.5, n - 1) for n in shape[::-1])
    x, y = np.meshgrid(*middles)
    return _BLOCK, x, y


def _convolve(image: np.ndarray, kernel: Kernel, out: np.ndarray, windows: Windows | None = None) -> None:
    block, x, y = blocks(image.shape[1:], windows)
    for plane, local, to in zip(image, block_kernels(kernel, x, y), out, strict=True):
        correlate(np.asarray(plane), local, block, windows is not None, to)


@numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)
def correlate(image: np.ndarray, kernels: np.ndarray, block: int, apart: bool, out: np.ndarray) -> None:
    """Correlate each block of an image with its kernel (by, bx, n, n); beyond the edges it stays as at them.

    Where rows of blocks are `apart` (windows of their own), one does not look into the next.
    """
    ny, nx = image.shape
    size = kernels.shape[2]
    r = size // 2
    strip = np.empty((size, nx + 2 * r), np.float32)
    for j in range(ny):
        first = j // block * block if apart else 0
        last = min(first + block, ny) - 1 if apart else ny - 1
        for q in range(size):
            row = image[min(max(j + q - r, first), last)]
            strip[q, :r] = row[0]
            strip[q, r : r + nx] = row
            strip[q, r + nx :] = row[nx - 1]
        to = out[j]
        for b in range(kernels.shape[1]):
            i0, i1 = b * block, min((b + 1) * block, nx)
            part = to[i0:i1]
            part[:] = 0
            for q in range(size):
                taps = kernels[j // block, b, q]
                # Sides are odd: four taps at a time, then what is left.
                p = 0
                while p + 3 < size:
                    k0, k1, k2, k3 = taps[p], taps[p + 1], taps[p + 2], taps[p + 3]
                    at = i0 + p
                    s0, s1 = strip[q, at : at + len(part)], strip[q, at + 1 : at + 1 + len(part)]
                    s2, s3 = strip[q, at + 2 : at + 2 + len(part)], strip[q, at + 3 : at + 3 + len(part)]
                    for i in range(len(part)):
                        part[i] += k0 * s0[i] + k1 * s1[i] + k2 * s2[i] + k3 * s3[i]
                    p += 4
                while p < size:
                    k0 = taps[p]
                    s0 = strip[q, i0 + p : i0 + p + len(part)]
                    for i in range(len(part)):
                        part[i] += k0 * s0[i]
                    p += 1


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _scale(image: np.ndarray, factor: np.ndarray, block: int, out: np.ndarray) -> None:
    ny, nx = image.shape
    for j in range(ny):
        for b in range(factor.shape[1]):
            f = factor[j // block, b]
            for i in range(b * block, min((b + 1) * block, nx)):
                out[j, i] = image[j, i] * f

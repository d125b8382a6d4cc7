"""Convolving an image with a kernel that varies slowly over the field, its noise carried."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numba
import numpy as np
from scipy.linalg import toeplitz

from difflapse.difference.correlate import Convolution
from difflapse.difference.noise import Noise
from difflapse.difference.psf import Kernel, terms
from difflapse.difference.subtract import Science
from difflapse.difference.template import Template
from difflapse.measure.mesh import nodes, resample
from difflapse.model import bits

_BLOCK = 64
"""Pixels along each axis over which the kernel stays the same."""
_REGIONS = np.uint8(bits.OUTSIDE | bits.SATURATED | bits.BLANK | bits.NO_TEMPLATE)
"""Bits of what grows by all of a kernel's reach."""


@dataclass(frozen=True, eq=False)
class Windows:
    """Square windows of an image, one above the other: a small image of their own, (c, n * side, side)."""

    x: np.ndarray
    """(n,): middles of the windows, product pixels of the whole image."""
    y: np.ndarray
    side: int


def convolve_science(science: Science, kernel: Kernel, windows: Windows | None = None) -> Science:
    """A science frame as it is once convolved: its mask grown by the kernel's reach, its noise and NOISECOR those it
    has then; its pixels are left to the subtraction.

    Parameters
    ----------
    science : Science
        The frame, or windows of it.
    kernel : Kernel
        Of the whole frame.
    windows : Windows, optional
        Where they lie, if `science` are windows; they know nothing beyond their edges.

    Returns
    -------
    Science
        With a `convolution`, and the pixels of the one that was given.
    """
    noise, shape = science.noise, science.data.shape[1:]
    c = len(science.data)
    if windows is None:
        gi, gj = nodes(shape, 128)
        x, y = np.meshgrid(gi, gj)
        factor = _factors(kernel, x, y, noise.correlation)[0]
    else:
        # One mean value: of windows spread over the field, in no order.
        here = _factors(kernel, windows.x, windows.y, noise.correlation)[0].mean(axis=1)
        factor = np.broadcast_to(here[:, None, None], (c, *(len(n) for n in nodes(shape, 128)[::-1])))

    def carried(mesh: np.ndarray) -> np.ndarray:
        return (resample(mesh, shape, 128) * factor).astype(np.float32)

    correlation = np.broadcast_to(noise.correlation, c) / np.sqrt(factor.mean(axis=(1, 2)))
    response = None if noise.response is None else carried(noise.response)
    return replace(
        science,
        mask=grown(science.mask, kernel.size // 2),
        noise=Noise(carried(noise.sky), carried(noise.photon), correlation, noise.level, response),
        convolution=_convolution(kernel, shape, noise.correlation, windows),
    )


def convolve_template(template: Template, kernel: Kernel, windows: Windows | None = None) -> Template:
    """A template as it is once convolved: holes grown by the kernel's reach, its NOISECOR that which it has then; its
    pixels and their variance are left to the subtraction.

    Parameters
    ----------
    template : Template
        The template, or windows of it.
    kernel : Kernel
        Of the whole template.
    windows : Windows, optional
        As for `convolve_science`.

    Returns
    -------
    Template
        With a `convolution`, and the pixels and the variance of the one that was given.
    """
    convolution = _convolution(kernel, template.data.shape[1:], template.correlation, windows)
    count = template.count
    if not count.all():
        count = count * (grown((count == 0).view(np.uint8), kernel.size // 2) == 0)
    wider = np.sqrt(convolution.factor.mean(axis=(1, 2)))
    correlation = np.broadcast_to(template.correlation, len(wider)) / wider
    return replace(template, count=count, correlation=correlation, convolution=convolution)


def shared_part(kernel: Kernel, correlation: np.ndarray | float) -> float:
    """What becomes of the weight that a science frame has in its own template when one of them is convolved.

    Times this, the weight goes into ``variance of science * (1 - 2 weight)``, the mean of channels.
    """
    y, x = (np.array([0.5 * (n - 1)]) for n in kernel.shape)
    factor, overlap = _factors(kernel, x, y, correlation)
    return float(np.mean(overlap / factor if kernel.science else overlap))


def grown(mask: np.ndarray, reach: int) -> np.ndarray:
    """A mask whose regions grow by `reach` pixels, its single defects (filled from their neighbours) by one."""
    out = mask.copy()
    _grow(np.flatnonzero(mask != 0), mask, reach, out)
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _grow(places: np.ndarray, mask: np.ndarray, reach: int, out: np.ndarray) -> None:
    """Add to `out` what grows about these pixels of a mask, counted row by row; those of one kind in a row together."""
    ny, nx = mask.shape
    k = 0
    while k < len(places):
        j, start = places[k] // nx, places[k] % nx
        value, past = mask[j, start], start + 1
        k += 1
        while k < len(places) and places[k] == j * nx + past and past < nx and mask[j, past] == value:
            past += 1
            k += 1
        for r, which in ((reach, _REGIONS), (1, np.uint8(bits.DEFECT))):
            bit = np.uint8(value & which)
            if bit:
                for row in range(max(0, j - r), min(ny, j + r + 1)):
                    for column in range(max(0, start - r), min(nx, past + r)):
                        out[row, column] |= bit


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


@functools.lru_cache(maxsize=16)
def _correlations(size: int, correlation: float) -> np.ndarray:
    """Correlation matrix (k, k) of the pixels under a kernel, see `neighbours`."""
    line = toeplitz(np.pad(neighbours(correlation), (0, max(0, size - 4)))[:size])
    return np.kron(line, line)


def _factors(
    kernel: Kernel, x: np.ndarray, y: np.ndarray, correlation: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """Variance after over before, and covariance of after with before over the latter; (c, *s) at places of shape s."""
    where = x.ravel(), y.ravel()
    if kernel.taps.shape[1] == 1:
        # The same everywhere.
        where = where[0][:1], where[1][:1]
    local = block_kernels(kernel, *where)
    c = len(local)
    local = local.reshape(c, -1, kernel.size**2).astype(float)
    factor, overlap = np.empty((c, x.size)), np.empty((c, x.size))
    for n, each in enumerate(np.broadcast_to(correlation, c)):
        joint = _correlations(kernel.size, float(each))
        # Not by a library: it wakes threads for this.
        factor[n] = _squares(local[n], joint)
        overlap[n] = np.einsum("sk,k->s", local[n], joint[len(joint) // 2])
    return factor.reshape(c, *x.shape), overlap.reshape(c, *x.shape)


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def _squares(local: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """Variance (s,) of what kernels (s, k) make of pixels of this correlation matrix (k, k) and variance 1."""
    n, k = local.shape
    out, row = np.zeros(n), np.empty(k)
    for s in range(n):
        row[:] = 0
        for p in range(k):
            f = local[s, p]
            for q in range(k):
                row[q] += f * joint[p, q]
        for q in range(k):
            out[s] += row[q] * local[s, q]
    return out


def blocks(shape: tuple[int, ...], windows: Windows | None = None) -> tuple[int, np.ndarray, np.ndarray]:
    """Pixels along a block over which the kernel stays the same, and the middles of the blocks (by, bx)."""
    if windows is not None:
        return windows.side, windows.x[:, None], windows.y[:, None]
    middles = (np.minimum((np.arange(-(-n // _BLOCK)) + 0.5) * _BLOCK - 0.5, n - 1) for n in shape[::-1])
    x, y = np.meshgrid(*middles)
    return _BLOCK, x, y


def _convolution(
    kernel: Kernel, shape: tuple[int, ...], correlation: np.ndarray | float, windows: Windows | None
) -> Convolution:
    block, x, y = blocks(shape, windows)
    factor = _factors(kernel, x, y, correlation)[0].astype(np.float32)
    return Convolution(block_kernels(kernel, x, y), factor, block, windows is not None)

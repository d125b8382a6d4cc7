"""Images on the product grid whose noise is known."""

from __future__ import annotations

import numpy as np

from difflapse.difference import Noise, Science, Template
from difflapse.measure.mesh import constant

SHAPE = (210, 334)
SKY = np.array([212.0, 343.0, 237.0])
SIGMA = np.array([9.0, 7.0, 11.0])
GAIN = 1.5


def noise_of_frame(sigma: np.ndarray = SIGMA, gain: float | None = None) -> Noise:
    photon = [1 / gain if gain else 0.0] * len(sigma)
    return Noise(constant(np.square(sigma)), constant(photon))


def draw(rng: np.random.Generator, sigma: np.ndarray = SIGMA, level: np.ndarray = SKY) -> np.ndarray:
    """A frame of sky and noise, (c, ny, nx) float32."""
    white = rng.standard_normal((len(sigma), *SHAPE))
    return (level[:, None, None] + sigma[:, None, None] * white).astype(np.float32)


def science(data: np.ndarray, noise: Noise | None = None, mask: np.ndarray | None = None) -> Science:
    c = len(data)
    mask = np.zeros(data.shape[1:], np.uint8) if mask is None else mask
    return Science(data, mask, constant([1.0] * c), constant([0.0] * c), noise or noise_of_frame())


def template(data: np.ndarray, sigma: np.ndarray = SIGMA, count: np.ndarray | None = None) -> Template:
    variance = np.broadcast_to(np.square(sigma)[:, None, None], data.shape).astype(np.float32)
    count = np.ones(data.shape[1:], np.uint8) if count is None else count
    return Template(data, variance, count, constant(SKY[: len(data)]))

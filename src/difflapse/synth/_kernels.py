"""The inner loops of the simulator, compiled once and cached beside this file."""

from __future__ import annotations

import numba
import numpy as np

# Gauss-Legendre points and weights on one pixel, (-0.5, 0.5): good to 1e-5 of the flux at FWHM 1.8 px.
_P5, _W5 = (a / 2 for a in np.polynomial.legendre.leggauss(5))
_P3, _W3 = (a / 2 for a in np.polynomial.legendre.leggauss(3))
_P2, _W2 = (a / 2 for a in np.polynomial.legendre.leggauss(2))


@numba.njit(cache=True)
def _moffat(dx, dy, a, b, c):  # type: ignore[no-untyped-def]
    """A Moffat of beta 2.5, one at its peak; (a, b, c) is the quadratic form of its ellipse."""
    s = 1.0 / (1.0 + a * dx * dx + 2.0 * b * dx * dy + c * dy * dy)
    return s * s * np.sqrt(s)


@numba.njit(cache=True)
def add_points(image, sites, x, y, flux, form, peak, radius):  # type: ignore[no-untyped-def]
    """Add point sources to `image` (ny, nx; electrons), integrated over each pixel, in place.

    `sites` (2, 2) is the channel of each mosaic site; `flux` (n, 3) electrons as if all pixels
    were of that channel; `form` (n, 3) the quadratic forms; `peak` (n,) the central density of unit flux;
    `radius` (n,) pixels.
    """
    ny, nx = image.shape
    for i in range(x.size):
        a, b, c = form[i, 0], form[i, 1], form[i, 2]
        reach = radius[i]
        y0, y1 = max(0, int(np.ceil(y[i] - reach))), min(ny - 1, int(np.floor(y[i] + reach)))
        x0, x1 = max(0, int(np.ceil(x[i] - reach))), min(nx - 1, int(np.floor(x[i] + reach)))
        for row in range(y0, y1 + 1):
            dy = row - y[i]
            for col in range(x0, x1 + 1):
                dx = col - x[i]
                r2 = dx * dx + dy * dy
                if r2 > reach * reach:
                    continue
                total = 0.0
                if r2 < 9.0:
                    for m in range(5):
                        for n in range(5):
                            total += _W5[m] * _W5[n] * _moffat(dx + _P5[n], dy + _P5[m], a, b, c)
                elif r2 < 36.0:
                    for m in range(3):
                        for n in range(3):
                            total += _W3[m] * _W3[n] * _moffat(dx + _P3[n], dy + _P3[m], a, b, c)
                elif r2 < 144.0:
                    for m in range(2):
                        for n in range(2):
                            total += _W2[m] * _W2[n] * _moffat(dx + _P2[n], dy + _P2[m], a, b, c)
                else:
                    total = _moffat(dx, dy, a, b, c)
                image[row, col] += total * peak[i] * flux[i, sites[row & 1, col & 1]]


@numba.njit(cache=True)
def add_coma(image, sites, x, y, core, reach, flux, norm):  # type: ignore[no-untyped-def]
    """Add a comet's coma, ``exp(-rho / reach) / sqrt(rho**2 + core**2)``, to `image` in place; flux (3,)."""
    ny, nx = image.shape
    far = 9.0 * reach
    for row in range(max(0, int(y - far)), min(ny, int(y + far) + 2)):
        for col in range(max(0, int(x - far)), min(nx, int(x + far) + 2)):
            rho2 = (row - y) ** 2 + (col - x) ** 2
            if rho2 < far * far:
                density = np.exp(-np.sqrt(rho2) / reach) / np.sqrt(rho2 + core * core)
                image[row, col] += norm * flux[sites[row & 1, col & 1]] * density


@numba.njit(cache=True)
def add_sky(image, sites, sky, step, level, centre, inverse_radius, falloff, flat):  # type: ignore[no-untyped-def]
    """Add the sky, then dim everything by vignetting and the flat field, in place.

    `sky` is a coarse map with nodes `step` pixels apart, interpolated linearly; `level` (3,) electrons of
    each channel; `falloff` the coefficients of r**2 and r**4; `flat` (ny, nx).
    """
    ny, nx = image.shape
    line = np.empty(sky.shape[1])
    for row in range(ny):
        j = min(row // step, sky.shape[0] - 2)
        t = row / step - j
        for n in range(sky.shape[1]):
            line[n] = (1.0 - t) * sky[j, n] + t * sky[j + 1, n]
        dy = (row - centre[1]) * inverse_radius
        for col in range(nx):
            i = min(col // step, sky.shape[1] - 2)
            s = col / step - i
            shine = (1.0 - s) * line[i] + s * line[i + 1]
            dx = (col - centre[0]) * inverse_radius
            r2 = dx * dx + dy * dy
            light = image[row, col] + shine * level[sites[row & 1, col & 1]]
            image[row, col] = light * (1.0 - falloff[0] * r2 - falloff[1] * r2 * r2) * flat[row, col]


@numba.njit(cache=True)
def read_out(image, normal, rows, gain, read_noise, bias, saturation, seed):  # type: ignore[no-untyped-def]
    """Turn electrons into the numbers a camera writes: photon and read noise, gain, bias, saturation, uint16.

    `normal` (ny, nx) standard normal deviates; `rows` (ny,) ADU added to each row. Below 40 electrons the
    photon noise is a true Poisson deviate, above it a Gaussian one.
    """
    np.random.seed(seed)  # noqa: NPY002 - numba's own generator, seeded for this call
    ny, nx = image.shape
    out = np.empty((ny, nx), np.uint16)
    for row in range(ny):
        for col in range(nx):
            e = max(0.0, image[row, col])
            if e < 40.0:
                noisy = np.random.poisson(e) + read_noise * normal[row, col]  # noqa: NPY002
            else:
                noisy = e + np.sqrt(e + read_noise * read_noise) * normal[row, col]
            adu = np.floor(bias + rows[row] + noisy / gain + 0.5)
            out[row, col] = np.uint16(min(max(adu, 0.0), saturation))
    return out

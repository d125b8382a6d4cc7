"""Where an image lies on the sky."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class TanSip:
    """A tangential projection with a polynomial distortion, as FITS headers hold it (SIP).

    With ``u = x - crpix[0]``, ``v = y - crpix[1]`` and A, B the polynomials of `a`, `b`::

        (xi, eta) = cd (u + A(u, v), v + B(u, v))

    are the coordinates, in degrees east and north, on the plane that touches the sky at `crval`. `ap` and `bp` are
    the nearest polynomials of the way back: ``u = U + AP(U, V)`` for ``U = u + A(u, v)``, and v likewise.

    References
    ----------
    Shupe et al. 2005, ASP Conf. Ser. 347, 491 (SIP).
    """

    crval: tuple[float, float]
    """Right ascension and declination, degrees ICRS."""
    crpix: tuple[float, float]
    """(x, y), 0-based native pixels."""
    cd: np.ndarray
    """(2, 2), degrees per pixel."""
    a: np.ndarray
    """(order + 1, order + 1): the coefficient of u**p v**q at [p, q]; (1, 1) without distortion. Likewise below."""
    b: np.ndarray
    ap: np.ndarray
    bp: np.ndarray

    @property
    def order(self) -> int:
        """Degree of the distortion; 1 without any."""
        return max(1, len(self.a) - 1)

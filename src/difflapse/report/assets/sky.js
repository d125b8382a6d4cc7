"use strict";

/* Where things lie: native pixels of the reference, of a frame, of the movie, and the sky. */
difflapse.sky = (() => {
  const rad = Math.PI / 180;

  const bend = (terms, u, v) => terms.reduce((sum, [p, q, c]) => sum + c * u ** p * v ** q, 0);

  /* Right ascension and declination, degrees, of a native pixel of the reference: TAN with SIP polynomials. */
  function toSky(wcs, x, y) {
    const u = x - wcs.crpix[0];
    const v = y - wcs.crpix[1];
    const f = u + bend(wcs.a, u, v);
    const g = v + bend(wcs.b, u, v);
    const xi = (wcs.cd[0][0] * f + wcs.cd[0][1] * g) * rad;
    const eta = (wcs.cd[1][0] * f + wcs.cd[1][1] * g) * rad;
    const [ra0, dec0] = [wcs.crval[0] * rad, wcs.crval[1] * rad];
    const down = Math.cos(dec0) - eta * Math.sin(dec0);
    const ra = ra0 + Math.atan2(xi, down);
    const dec = Math.atan2(Math.sin(dec0) + eta * Math.cos(dec0), Math.hypot(xi, down));
    return [(((ra / rad) % 360) + 360) % 360, dec / rad];
  }

  /* A transform as transforms.json has it: a homography, and polynomials added. */
  function carry(transform, x, y) {
    const m = transform.matrix;
    const w = m[2][0] * x + m[2][1] * y + m[2][2];
    let X = (m[0][0] * x + m[0][1] * y + m[0][2]) / w;
    let Y = (m[1][0] * x + m[1][1] * y + m[1][2]) / w;
    if (transform.coefficients) {
      const u = (x - transform.origin[0]) / transform.scale;
      const v = (y - transform.origin[1]) / transform.scale;
      transform.powers.forEach(([i, j], k) => {
        const term = u ** i * v ** j;
        X += transform.coefficients[0][k] * term;
        Y += transform.coefficients[1][k] * term;
      });
    }
    return [X, Y];
  }

  /* A 2x3 matrix applied, and its inverse. */
  const forward = (m, x, y) => [m[0][0] * x + m[0][1] * y + m[0][2], m[1][0] * x + m[1][1] * y + m[1][2]];
  function backward(m, x, y) {
    const det = m[0][0] * m[1][1] - m[0][1] * m[1][0];
    const [dx, dy] = [x - m[0][2], y - m[1][2]];
    return [(m[1][1] * dx - m[0][1] * dy) / det, (m[0][0] * dy - m[1][0] * dx) / det];
  }

  return { toSky, carry, forward, backward };
})();

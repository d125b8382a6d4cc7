"use strict";

/* Light curves, unpacked from the file that holds a star when it is asked for. */
difflapse.curves = (() => {
  const MISSING = 65535;
  const unpacked = new Map();

  /* Everything of one star: channel -> {flux, error, faint}, by the frames of `index.frames`; null where there is none. */
  async function of(star) {
    const index = difflapse.now("night").curves;
    const place = index ? index.stars.indexOf(star) : -1;
    if (place < 0) return null;
    const chunk = Math.floor(place / index.perChunk);
    if (!unpacked.has(chunk)) {
      const text = await difflapse.need(`curves-${String(chunk).padStart(3, "0")}`);
      unpacked.set(chunk, bytesOf(text));
    }
    const here = Math.min(index.perChunk, index.stars.length - chunk * index.perChunk);
    return read(unpacked.get(chunk), here, place % index.perChunk, index);
  }

  function bytesOf(text) {
    const letters = atob(text);
    const out = new Uint8Array(letters.length);
    for (let k = 0; k < letters.length; k += 1) out[k] = letters.charCodeAt(k);
    return new DataView(out.buffer);
  }

  /* See pack_curves: floats, values, errors, flags, each for all stars and channels of the chunk. */
  function read(view, stars, star, index) {
    const n = index.frames.length;
    const many = stars * index.channels.length;
    const values = many * 12;
    const errors = values + many * n * 2;
    const flags = errors + many * n;
    const told = {};
    index.channels.forEach((channel, c) => {
      const row = star * index.channels.length + c;
      const [low, step, errorStep] = [0, 4, 8].map((at) => view.getFloat32(row * 12 + at, true));
      const curve = { flux: [], error: [], faint: [] };
      for (let k = 0; k < n; k += 1) {
        const q = view.getUint16(values + (row * n + k) * 2, true);
        curve.flux.push(q === MISSING ? null : low + q * step);
        curve.error.push(q === MISSING ? null : view.getUint8(errors + row * n + k) * errorStep);
        curve.faint.push(view.getUint8(flags + row * n + k) !== 0);
      }
      told[channel] = curve;
    });
    return told;
  }

  return { of };
})();

"""How a frame lies on the reference: finding it (wcs, asterism, features, phase, auto), applying it."""

"""What a movie's file says of itself: what it shows, when and where, and what it was made from."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version

from difflapse._version import __version__
from difflapse.align.wcs import celestial
from difflapse.model.times import iso_utc
from difflapse.pipeline.context import Night
from difflapse.pipeline.records import Canvas, Scene
from difflapse.pipeline.sky import place_of


def movie_metadata(night: Night, frames: list[int], digests: Mapping[str, str]) -> dict[str, str]:
    """Title, date, comment, description and synopsis of a movie: tags that every container has room for.

    Parameters
    ----------
    night : Night
        The night, its scene known.
    frames : list of int
        Frames that are shown.
    digests : mapping of str to str
        SHA-256 of each input file, by its name; empty where a file has none.
    """
    scene: Scene = night.shared("scene")
    times = night.times(frames)
    when = f"{iso_utc(min(times), 0)} to {iso_utc(max(times), 0)} UTC" if times else "times unknown"
    where = field_text(night)
    known = {file: digest for file, digest in sorted(digests.items()) if digest}
    said = [when, f"{len(frames)} frames", f"difference: {scene.mode}", where]
    if known:
        said.append(f"inputs sha256:{inputs_digest(known)}")
    title = night.frames[0].object or night.name
    record = {
        "software": f"difflapse {__version__}",
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "av")},
        },
        "sequence": night.name,
        "time_range_utc": [iso_utc(min(times)), iso_utc(max(times))] if times else None,
        "field": field_of(night),
        "inputs_sha256": inputs_digest(known) if known else None,
        "inputs": known,
    }
    return {
        "title": title,
        **({"date": iso_utc(min(times), 0)[:10]} if times else {}),
        "comment": f"difflapse {__version__}; " + "; ".join(part for part in said if part),
        "description": f"{title}, {when}" + (f", {where}" if where else ""),
        "synopsis": json.dumps(record, ensure_ascii=False),
    }


def inputs_digest(digests: Mapping[str, str]) -> str:
    """One SHA-256 for all inputs: that of the lines ``sha256sum`` prints for them, in the order of their names."""
    lines = "".join(f"{digest}  {file}\n" for file, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def field_of(night: Night) -> dict[str, float] | None:
    """Centre and size of the products on the sky, degrees; None where the reference has no WCS."""
    place = place_of(night)
    if not place:
        return None
    from astropy.wcs.utils import proj_plane_pixel_scales

    canvas: Canvas = night.shared("canvas")
    grid = canvas.grid
    wcs = celestial(place.wcs_header)
    x, y = grid.to_native((grid.shape[1] - 1) / 2, (grid.shape[0] - 1) / 2)
    ra, dec = (float(v) for v in wcs.all_pix2world(x, y, 0))
    sx, sy = (float(s) for s in proj_plane_pixel_scales(wcs))
    return {
        "ra_deg": round(ra, 6),
        "dec_deg": round(dec, 6),
        "width_deg": round(sx * grid.step * grid.shape[1], 6),
        "height_deg": round(sy * grid.step * grid.shape[0], 6),
    }


def field_text(night: Night) -> str:
    """The same in words; empty where it is not known."""
    told = field_of(night)
    if told is None:
        return ""
    return (
        f"RA {told['ra_deg']:.4f} Dec {told['dec_deg']:+.4f} deg, "
        f"{told['width_deg']:.3g} x {told['height_deg']:.3g} deg"
    )

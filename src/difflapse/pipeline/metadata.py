"""What a movie's file says of itself: what it shows, when and where, and what it was made from."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version

from difflapse._version import __version__
from difflapse.model.times import iso_utc
from difflapse.pipeline.context import Night
from difflapse.pipeline.field import field_of
from difflapse.pipeline.records import Scene


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
        "field": _field_record(night),
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


def _field_record(night: Night) -> dict[str, float] | None:
    """Centre and size of the products on the sky, degrees; None where the reference has no WCS."""
    field = field_of(night)
    if field is None:
        return None
    names = ("ra_deg", "dec_deg", "width_deg", "height_deg")
    return {name: round(getattr(field, name), 6) for name in names}


def field_text(night: Night) -> str:
    """The same in words; empty where it is not known."""
    field = field_of(night)
    if field is None:
        return ""
    return f"RA {field.ra_deg:.4f} Dec {field.dec_deg:+.4f} deg, {field.width_deg:.3g} x {field.height_deg:.3g} deg"

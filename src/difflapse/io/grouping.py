"""Which frames belong together: one camera, shape, filter and sky, in the order of a clock that can be
believed.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field

from difflapse.io.dialects import IMAGE_NAME
from difflapse.io.fits import Scan
from difflapse.io.times import Clock, decide_clock, natural_key, utc_text
from difflapse.model import FrameFacts, LeftOut, Sequence

COMMON_SKY = 0.75
"""Frames share a sky when their centres are closer than this fraction of the field: 25 % or more in
common.
"""

POINTING_DEG = 20.0
"""Mounts that say they point further apart than this look at different skies; their word is good for no
more.
"""

KIND_REASONS = {
    "dark": "a dark frame, not of the sky",
    "bias": "a bias frame, not of the sky",
    "flat": "a flat field, not of the sky",
    "pointing": "a pointing or alignment frame, not part of the observation",
}


def group(scans: Ordered[Scan], *, split: bool = False) -> tuple[tuple[Sequence, ...], list[LeftOut]]:
    """Sort frames into sequences.

    Parameters
    ----------
    scans : sequence of Scan
        Frames of any cameras, kinds and nights, in any order.
    split : bool
        Whether a new sequence id always starts a new sequence.

    Returns
    -------
    sequences : tuple of Sequence
        Each of two frames or more in time order; the earliest first.
    left_out : list of LeftOut
        All other frames, with reasons.
    """
    left_out: list[LeftOut] = []
    lights: list[Scan] = []
    pointing = _pointing_by_company(scans)
    for item in scans:
        kind = "pointing" if item.facts.path in pointing else item.facts.kind
        if kind in KIND_REASONS:
            facts = dataclasses.replace(item.facts, kind=kind)
            left_out.append(LeftOut(facts.file, KIND_REASONS[kind], facts))
        else:
            lights.append(item)
    lights, copies = _without_copies(lights)
    left_out += copies
    sequences: list[Sequence] = []
    for members in _gather(lights, split):
        if len(members) > 1:
            sequences.append(_sequence(members))
        else:
            left_out.append(_lone(members[0], lights))
    sequences.sort(key=lambda s: (s.frames[0].start_mjd or math.inf, natural_key(s.frames[0].file)))
    return _uniquely_named(sequences), left_out


@dataclass
class _Cluster:
    """Frames gathered so far, and the sky they share."""

    members: list[Scan] = field(default_factory=list)

    def accepts(self, item: Scan) -> bool:
        """Whether a frame shows this sky: by WCS, else by name, else by where the mounts say they point."""
        solved = next((m for m in self.members if m.sky.centre), None)
        if solved is not None and item.sky.centre is not None:
            limit = COMMON_SKY * min(solved.sky.width_deg, item.sky.width_deg)
            return separation(solved.sky.centre or (0, 0), item.sky.centre) < limit
        names = {_plain(m.facts.object) for m in self.members} - {""}
        if names and _plain(item.facts.object):
            return _plain(item.facts.object) in names
        if any(m.facts.sequence_id and m.facts.sequence_id == item.facts.sequence_id for m in self.members):
            return True
        pointed = next((m.facts.pointing for m in self.members if m.facts.pointing), None)
        if pointed and item.facts.pointing:
            return separation(pointed, item.facts.pointing) < POINTING_DEG
        return True


def separation(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Angle between two (ra, dec), all in degrees."""
    ra1, dec1, ra2, dec2 = map(math.radians, (*a, *b))
    s = math.sin((dec2 - dec1) / 2) ** 2 + math.cos(dec1) * math.cos(dec2) * math.sin((ra2 - ra1) / 2) ** 2
    return math.degrees(2 * math.asin(min(1.0, math.sqrt(s))))


def _gather(lights: Ordered[Scan], split: bool) -> list[list[Scan]]:
    kinds: dict[tuple[object, ...], list[_Cluster]] = {}
    # Frames with a WCS go first: they say which sky is which, and the others join them by name.
    order = sorted(lights, key=lambda s: (s.sky.centre is None, _first_time(s), natural_key(s.facts.file)))
    for item in order:
        clusters = kinds.setdefault(_key(item, split), [])
        home = next((cluster for cluster in clusters if cluster.accepts(item)), None)
        if home is None:
            clusters.append(home := _Cluster())
        home.members.append(item)
    return [cluster.members for clusters in kinds.values() for cluster in clusters]


def _key(item: Scan, split: bool) -> tuple[object, ...]:
    facts = item.facts
    return (
        facts.camera,
        item.serial,
        facts.shape,
        facts.filter,
        facts.mosaic,
        facts.sequence_id if split else "",
    )


def _first_time(item: Scan) -> float:
    return item.facts.start_mjd if item.facts.start_mjd is not None else math.inf


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def _place(item: Scan) -> tuple[str, str]:
    """Folder and name of a frame's file."""
    folder, _, name = item.facts.path.replace("\\", "/").rpartition("/")
    return folder, name


def _pointing_by_company(scans: Ordered[Scan]) -> set[str]:
    """PANOPTES frames whose names are unlike those of the observation in the same folder."""
    named: dict[str, bool] = {}
    for item in scans:
        if item.dialect == "PANOPTES":
            folder, name = _place(item)
            named[folder] = named.get(folder, False) or bool(IMAGE_NAME.match(name))
    found = set()
    for item in scans:
        folder, name = _place(item)
        if item.dialect == "PANOPTES" and named[folder] and not IMAGE_NAME.match(name):
            found.add(item.facts.path)
    return found


def _without_copies(lights: list[Scan]) -> tuple[list[Scan], list[LeftOut]]:
    """Leave out second copies: the same name but for its endings, the same time, camera and shape."""
    same: dict[tuple[object, ...], list[Scan]] = {}
    for item in lights:
        folder, name = _place(item)
        stem = re.sub(r"(?:\.(?:fits?|fts|fz|gz|bz2|xz))+$", "", name.lower())
        start = item.facts.start_mjd
        place = folder if start is None else round(start * 86400.0, 2)
        same.setdefault((stem, place, item.facts.camera, item.facts.shape), []).append(item)
    kept: list[Scan] = []
    copies: list[LeftOut] = []
    for items in same.values():
        # The solved copy knows more, and the plain one opens faster.
        best = min(items, key=lambda s: (s.sky.centre is None, len(s.facts.file), s.facts.file))
        kept.append(best)
        copies += [
            LeftOut(s.facts.file, f"a second copy of {best.facts.file} (same name, time and camera)", s.facts)
            for s in items
            if s is not best
        ]
    return kept, copies


def _sequence(members: list[Scan]) -> Sequence:
    clock = decide_clock(
        [m.stamps for m in members],
        [m.facts.exposure_s for m in members],
        [m.facts.file for m in members],
        members[0].computer_clock,
    )
    usual = Counter(m.wavelength for m in members).most_common(1)[0][0]
    timed = [
        _timed(member, start, clock, usual) for member, start in zip(members, clock.starts_mjd, strict=True)
    ]
    timed.sort(key=lambda f: (f.start_mjd is None, f.start_mjd or 0.0, natural_key(f.file)))
    return Sequence(_name(timed), tuple(timed), _notes(members, timed, clock))


def _timed(member: Scan, start: float | None, clock: Clock, usual: str) -> FrameFacts:
    other = f"wavelength {member.wavelength or 'unknown'}, of most frames {usual or 'unknown'}"
    notes = (other if member.wavelength != usual else "", member.image_reason, member.sky.note)
    own = tuple(filter(None, notes))
    source = clock.source
    if start is None:
        source = ""
    elif not any(stamp.source == source for stamp in member.stamps):
        source = "another source"
    return dataclasses.replace(member.facts, start_mjd=start, time_source=source, notes=own + clock.notes)


def _notes(members: list[Scan], frames: list[FrameFacts], clock: Clock) -> tuple[str, ...]:
    notes = [f"clock: {clock.reason}", *(f"clock: {note}" for note in clock.notes)]
    notes += [f"mosaic: {reason}" for reason in dict.fromkeys(m.mosaic_reason for m in members)]
    notes += list(dict.fromkeys(m.image_reason for m in members if m.image_reason))
    for note, count in Counter(m.sky.note for m in members if m.sky.note).items():
        notes.append(note if count == len(members) else f"{note} ({count} of {len(members)} frames)")
    solved = [m.sky.header for m in members if m.sky.header]
    if len(solved) > 1 and len(set(solved)) == 1:
        notes.append("wcs: the same in all frames, as if the sky had not moved")
    wavelengths = Counter(m.wavelength for m in members)
    if len(wavelengths) > 1:
        shown = ", ".join(
            f"{value or 'none'} in {count} frames" for value, count in wavelengths.most_common()
        )
        notes.append(f"wavelength: differs between frames of one filter: {shown}")
    exposures = sorted({f.exposure_s for f in frames if f.exposure_s is not None})
    if exposures and exposures[-1] > 1.02 * exposures[0]:
        notes.append(f"exposure: differs between frames, {exposures[0]:g} to {exposures[-1]:g} s")
    ids = sorted({f.sequence_id for f in frames} - {""})
    if len(ids) > 1:
        notes.append(
            f"joined: {len(ids)} sequence ids show one sky ({', '.join(ids)}); --split keeps them apart"
        )
    return tuple(notes)


def _name(frames: Ordered[FrameFacts]) -> str:
    """Field, camera, filter and date, fit for a folder's name."""
    first = frames[0]
    subject = next((f.object for f in frames if f.object), "")
    date = utc_text(first.start_mjd, 0)[:10].replace("-", "") if first.start_mjd is not None else ""
    parts = [
        re.sub(r"[^A-Za-z0-9.+-]+", "_", part).strip("_.-")[:40] for part in (subject, first.camera, date)
    ]
    return "-".join(filter(None, parts)) or "sequence"


def _uniquely_named(sequences: list[Sequence]) -> tuple[Sequence, ...]:
    taken: Counter[str] = Counter()
    named: list[Sequence] = []
    repeated = {name for name, n in Counter(s.name.lower() for s in sequences).items() if n > 1}
    for sequence in sequences:
        name = sequence.name
        if name.lower() in repeated:
            first = sequence.frames[0]
            detail = (
                re.sub(r"[^A-Za-z0-9]+", "_", first.filter).strip("_") or f"{first.shape[1]}x{first.shape[0]}"
            )
            name = f"{name}-{detail}"
        taken[name.lower()] += 1
        if taken[name.lower()] > 1:
            name = f"{name}-{taken[name.lower()]}"
        named.append(dataclasses.replace(sequence, name=name))
    return tuple(named)


def _lone(item: Scan, lights: Ordered[Scan]) -> LeftOut:
    """A frame without company, and what sets it apart from the others."""
    facts = item.facts
    others = [other for other in lights if other is not item]
    size = f"{facts.shape[1]}x{facts.shape[0]} pixels"
    named = f"camera {facts.camera}" if facts.camera else "a camera without a name"
    of_camera = [o for o in others if o.facts.camera == facts.camera and o.serial == item.serial]
    if not others:
        why = "the only frame"
    elif not of_camera:
        why = f"the only frame of {named}"
    elif not any(o.facts.shape == facts.shape for o in of_camera):
        common = Counter(o.facts.shape for o in of_camera).most_common(1)[0][0]
        why = f"the only frame of {size} from {named} (others have {common[1]}x{common[0]})"
    elif not any(o.facts.filter == facts.filter for o in of_camera if o.facts.shape == facts.shape):
        why = f"the only frame with filter {facts.filter or '(none)'} from {named}"
    else:
        why = "no other frame shows the same sky"
    return LeftOut(facts.file, f"{why}; a sequence needs 2 of one camera, shape, filter and sky", facts)

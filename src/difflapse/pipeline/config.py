"""Every option of a run, once: Python API, command line and TOML file are all made from this record."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from difflapse.errors import OptionError
from difflapse.methods import names

ALIGN = ("auto", "wcs", "asterism", "features", "phase", "none")
TRANSFORM = ("auto", "shift", "euclidean", "similarity", "affine", "homography", "polynomial", "lens")
DIFF = ("template", "running", "rolling", "none")
MATCH = ("auto", "none", "scale", "psf", "zogy")
UNITS = ("sigma", "adu", "percent", "mag")
MOSAIC = ("auto", "none", "RGGB", "BGGR", "GRBG", "GBRG")
PANELS = ("aligned", "difference", "template", "sigma", "blink", "split", "red", "green", "blue")
OF_TEMPLATE, OF_DIFFERENCE = ("template", "blink"), ("difference", "split")
"""Panels that show a template, and those that show a difference."""
LABELS = ("full", "time", "none")
SAVE = ("aligned", "differences", "stamps", "cube")
CODEC = ("h264", "hevc", "vp9", "av1", "gif", "ffv1", "png")
PACE = ("even", "true")
SOLVER = ("auto", "solve-field", "astrometry")
RESAMPLE = ("cubic", "linear", "lanczos3", "lanczos4", "area")
DETECTOR = ("orb", "akaze", "sift")
STRETCH = ("asinh", "mtf", "log", "sqrt", "linear", "percentile")
WHITE_BALANCE = ("stars", "header", "none")

MOVIE_OPTIONS = (
    "diff",
    "lag",
    "window",
    "units",
    "center",
    "size",
    "roi",
    "panels",
    "labels",
    "width",
    "fps",
    "codec",
    "pace",
    "stretch",
    "white_balance",
    "timezone",
    "grid",
    "inset",
    "workers",
    "memory",
)
"""Options of a run that another movie of it may change: none of them changes what was found."""


_KINDS = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    tuple: "a list of words",
}
"""What a value must be, by the type of the option's default."""


def _option(
    default: Any,
    help: str,
    choices: tuple[str, ...] = (),
    many: bool = False,
    metavar: str = "",
    separator: str = ",",
) -> Any:
    meta = {"help": help, "choices": choices, "many": many, "metavar": metavar, "separator": separator}
    return field(default=default, metadata=meta)


@dataclass(frozen=True)
class RunOptions:
    """All options of a run, checked. Build it with keywords, or from text with `RunOptions.from_mapping`."""

    align: str = _option("auto", "how frames are aligned", ALIGN)
    transform: str = _option("auto", "model of the transform", TRANSFORM)
    detector: str = _option("orb", "keypoints of --align features", DETECTOR)
    resample: str = _option(
        "cubic", "how pixels are resampled onto the reference; area keeps the flux", RESAMPLE
    )
    reference: str = _option(
        "best",
        "frame whose pixel grid is kept: best, first, middle, a frame number or any FITS file of the same sky",
        metavar="WHICH",
    )
    diff: str = _option("template", "what is subtracted (base is another name for template)", DIFF)
    template: str = _option(
        "", "what is subtracted instead of the night's own: any FITS file of the same sky", metavar="FILE"
    )
    lag: str = _option("1", "running difference: frames, or a time such as 10min", metavar="LAG")
    window: int = _option(9, "rolling difference: frames in the centred window", metavar="N")
    match: str = _option(
        "auto", "what is matched before subtracting: brightness, or point-spread functions too", MATCH
    )
    units: str = _option("sigma", "units of the movie's differential panel", UNITS)
    mosaic: str = _option("auto", "colour mosaic in array order, row by row from row 0", MOSAIC)
    center: str = _option("", "centre of a crop on the sky, degrees or sexagesimal: RA,DEC", metavar="RA,DEC")
    size: str = _option(
        "",
        "size of that crop, or of one about what is followed: 30arcmin, 1deg,40arcmin or 300px",
        metavar="SIZE",
    )
    roi: str = _option("", "crop in native pixels of the reference: X,Y,W,H", metavar="X,Y,W,H")
    solve: bool = _option(False, "find the field on the sky with a plate solver of this machine")
    solver: str = _option("auto", "the plate solver; auto: solve-field where it is installed", SOLVER)
    index_files: tuple[str, ...] = _option(
        (), "astrometry.net's index files, or folders of them", many=True, metavar="PATH,..."
    )
    solve_limit: float = _option(120.0, "seconds after which solving is given up", metavar="SECONDS")
    follow: tuple[str, ...] = _option(
        (),
        "keep a moving target in its place: comet (found), RA,DEC@TIME given twice or more, or an ephemeris.ecsv",
        many=True,
        metavar="TARGET",
        separator=";",
    )
    false_alarms: float = _option(
        0.1, "false changes that chance may make in a night, of each kind", metavar="N"
    )
    panels: tuple[str, ...] = _option(
        ("aligned", "difference"), "panels of the movie, left to right", PANELS, many=True
    )
    labels: str = _option("full", "what is burnt into the movie", LABELS)
    width: int = _option(
        2560,
        "width of the movie at most, pixels; 0 or full: a movie pixel for each product pixel",
        metavar="PX",
    )
    fps: float = _option(12.0, "movie frames per second", metavar="FPS")
    codec: str = _option("h264", "how the movie is encoded; png: a folder of pictures", CODEC)
    pace: str = _option("even", "how long each frame is shown; true: as in the night, with its gaps", PACE)
    stretch: str = _option("asinh", "stretch of the aligned panel", STRETCH)
    white_balance: str = _option("stars", "what is white: the typical star, or by the header", WHITE_BALANCE)
    timezone: str = _option(
        "",
        "zone of a second clock beside UTC: local (this machine's), Pacific/Honolulu or -10:00",
        metavar="ZONE",
    )
    grid: bool = _option(False, "lines of right ascension and declination over the pictures")
    inset: tuple[str, ...] = _option(
        (),
        "zooms in the corners, four at most: RA,DEC or X,Ypx, or best for the best changes",
        many=True,
        metavar="PLACE",
        separator=";",
    )
    changes: bool = _option(
        True,
        "look for what changed, measure all stars and tell how deep the night was; without: movies alone",
    )
    reel: bool = _option(True, "a clip of each change, and the best of them in highlights.mp4")
    save: tuple[str, ...] = _option((), "FITS images to keep", SAVE, many=True)
    split: bool = _option(
        False, "keep sequences apart that differ only in their sequence id (meridian flips)"
    )
    crossmatch: tuple[str, ...] = _option(
        (),
        "catalogues of known things: VOTable, FITS or ECSV files; vsx and skybot ask the network",
        many=True,
        metavar="FILE|vsx|skybot",
    )
    injection: bool = _option(True, "plant artificial stars and movers, and tell how deep the night was")
    workers: int = _option(0, "worker processes; 0: one per core", metavar="N")
    memory: str = _option(
        "",
        "memory for all processes, such as 2GB; fewer workers are used where more would not fit",
        metavar="SIZE",
    )
    max_failed: float = _option(
        0.5, "give up when more than this fraction of a sequence is skipped", metavar="FRACTION"
    )
    require_rms: float = _option(
        0.0,
        "fail unless every used frame is aligned to this rms, held out, px; 0: not asked",
        metavar="PX",
    )
    overwrite: bool = _option(False, "replace an earlier run's products in the output folder")

    def __post_init__(self) -> None:
        for item in fields(self):
            object.__setattr__(self, item.name, _convert(item, getattr(self, item.name)))
        if self.diff == "base":
            object.__setattr__(self, "diff", "template")
        for item in fields(self):
            value = getattr(self, item.name)
            # Plug-ins add ways of aligning; of all else the house's own are all there are.
            choices = names("align") if item.name == "align" else item.metadata["choices"]
            if item.metadata["many"]:
                object.__setattr__(self, item.name, tuple(value))
                for one in value if choices else ():
                    _check_choice(item.name, one, choices)
            elif choices:
                _check_choice(item.name, value, choices)
        if not self.reference:
            raise OptionError(
                "--reference is empty; it must be best, first, middle, a frame number or a file"
            )
        parse_lag(self.lag)
        if not 3 <= self.window <= 255:
            raise OptionError(f"--window is {self.window}; a rolling median takes 3 to 255 frames")
        if self.width < 64 and self.width != 0:
            raise OptionError(
                f"--width is {self.width}; a movie needs 64 pixels or more", "0 or full: no limit"
            )
        zone_of(self.timezone)
        for one in self.inset:
            if one != "best" and not re.fullmatch(r"[^,]+,[^,]+", one):
                raise OptionError(
                    f"--inset is {one!r}; it must be RA,DEC, X,Ypx or best", "for example 1520,830px"
                )
        if not 0.01 <= self.fps <= 120:
            raise OptionError(f"--fps is {self.fps:g}; it must lie between 0.01 and 120")
        if not 0 <= self.max_failed <= 1:
            raise OptionError(f"--max-failed is {self.max_failed:g}; it is a fraction, 0 to 1")
        if not 0 < self.false_alarms <= 1000:
            raise OptionError(
                f"--false-alarms is {self.false_alarms:g}; it must be more than 0, 1000 at most"
            )
        if not 0 <= self.require_rms < float("inf"):
            raise OptionError(f"--require-rms is {self.require_rms:g}; it must be pixels, or 0 for no limit")
        if self.workers < 0:
            raise OptionError(f"--workers is {self.workers}; it must be 0 (one per core) or more")
        if not self.solve_limit > 0:
            raise OptionError(f"--solve-limit is {self.solve_limit:g}; it must be more than 0 seconds")
        if self.align == "none" and self.transform != "auto":
            raise OptionError(
                f"--transform is {self.transform}, but with align none no frame is aligned and nothing is fitted",
                "leave out one of them",
            )
        if not self.panels:
            raise OptionError("no panels: the movie needs at least one", f"choose from {', '.join(PANELS)}")
        for one in self.shown_panels:
            _check_panel(one, self.diff)
        if self.roi and (self.center or self.size):
            raise OptionError("both --roi and the centre of a crop are given", "use one of them")
        if bool(self.center) != bool(self.size) and (self.center or not self.follow):
            raise OptionError(
                "--center and --size go together", "for example --center 303.2,46.0 --size 30arcmin"
            )
        if self.follow:
            parse_follow(self.follow)
        if not self.changes:
            self._check_without_changes()
        if self.roi:
            parse_roi(self.roi)
        if self.memory:
            parse_memory(self.memory)

    def _check_without_changes(self) -> None:
        """Refuse what cannot be made where nothing that changed is looked for."""
        asked = {
            "--save stamps": "stamps" in self.save,
            "--crossmatch": bool(self.crossmatch),
            "--inset best": "best" in self.inset,
            "--false-alarms": self.false_alarms != RunOptions.false_alarms,
        }
        for name in (name for name, is_asked in asked.items() if is_asked):
            raise OptionError(
                f"{name} needs what changed, or the stars, but --no-changes is given", "leave out one of them"
            )

    @property
    def shown_panels(self) -> tuple[str, ...]:
        """Panels of the movie: without a difference the default pair is the aligned one alone."""
        if self.diff == "none" and self.panels == ("aligned", "difference"):
            return ("aligned",)
        return self.panels

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> RunOptions:
        """Options from a mapping such as a TOML table; unknown keys are errors with a spelling suggestion."""
        known = {item.name: item for item in fields(cls)}
        ready: dict[str, Any] = {}
        for key, value in values.items():
            name = key.replace("-", "_")
            if name not in known:
                raise OptionError(f"there is no option {key!r}", suggest(name, list(known)))
            ready[name] = _convert(known[name], value)
        return cls(**ready)

    def to_mapping(self) -> dict[str, Any]:
        """All options as plain values, ready for TOML or JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


def flag(name: str) -> str:
    """How an option is spelled on the command line, and in messages."""
    return "--" + name.replace("_", "-")


def suggest(word: str, known: list[str]) -> str:
    """A hint that names the nearest known word, or lists them all."""
    return _meant(word, known) or f"known are {', '.join(known)}"


def _meant(word: str, known: Sequence[str]) -> str:
    """A hint that names the nearest known word; empty where none is near."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def zone_of(text: str) -> tzinfo | None:
    """The time zone of a name, an offset from UTC or ``local``; None for none; raises OptionError."""
    if not text:
        return None
    if text == "local":
        return datetime.now().astimezone().tzinfo
    match = re.fullmatch(r"(?:UTC)?([-+])(\d{1,2})(?::?(\d{2}))?", text)
    if match and int(match.group(2)) <= 14:
        size = timedelta(hours=int(match.group(2)), minutes=int(match.group(3) or 0))
        return timezone(size if match.group(1) == "+" else -size)
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise OptionError(
            f"--timezone is {text!r}; it must be local, a name such as Pacific/Honolulu, or an offset as -10:00",
            "where this machine knows no names: pip install tzdata",
        ) from None


def parse_lag(text: str) -> tuple[int, float]:
    """A lag as (frames, seconds); one of the two is 0."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|sec|min|h|hour|d)?\s*", str(text))
    unit = match.group(2) if match else None
    if match and unit is None and "." not in match.group(1) and int(match.group(1)) > 0:
        return int(match.group(1)), 0.0
    if match and unit and float(match.group(1)) > 0:
        return 0, float(match.group(1)) * {"s": 1, "sec": 1, "min": 60, "h": 3600, "hour": 3600, "d": 86400}[
            unit
        ]
    raise OptionError(
        f"--lag is {text!r}; it must be a number of frames or a time", "for example 1, 3, 90s or 10min"
    )


def parse_roi(text: str) -> tuple[int, int, int, int]:
    """A crop X,Y,W,H as integers, in native pixels of the reference."""
    try:
        x, y, w, h = (int(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"--roi is {text!r}; it must be four whole numbers X,Y,W,H") from None
    if w < 8 or h < 8:
        raise OptionError(f"--roi is {w}x{h} pixels; it must be at least 8x8")
    return x, y, w, h


def parse_follow(values: tuple[str, ...]) -> str | tuple[tuple[str, str, str], ...]:
    """What is followed: ``comet``, the name of an ephemeris, or (RA, Dec, time) twice or more, still as text."""
    if len(values) == 1 and "@" not in values[0]:
        return values[0]
    matches = [re.fullmatch(r"([^,@]+),([^,@]+)@([^@]+)", text) for text in values]
    for text, match in zip(values, matches, strict=True):
        try:
            if match is None:
                raise ValueError
            datetime.fromisoformat(match.group(3).strip())
        except ValueError:
            raise OptionError(
                f"--follow is {text!r}; it must be comet, an ephemeris.ecsv, or RA,DEC@TIME twice or more",
                "for example --follow 243.71,33.02@2018-08-24T04:02:18 --follow 243.78,33.05@2018-08-24T05:40:00",
            ) from None
    if len(values) < 2:
        raise OptionError(
            f"--follow is given for 1 time, {values[0]!r}; 2 are needed to tell how the target moves",
            "give --follow RA,DEC@TIME again for another time, such as the end of the night",
        )
    return tuple((m.group(1).strip(), m.group(2).strip(), m.group(3).strip()) for m in matches if m)


def parse_memory(text: str) -> int:
    """A size such as 2GB or 1500MiB, in bytes."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?\s*", text, re.IGNORECASE)
    if not match or float(match.group(1)) <= 0:
        raise OptionError(f"--memory is {text!r}; it must be a size", "for example 2GB")
    return int(float(match.group(1)) * 1024 ** " KMGT".index(match.group(2).upper() or " "))


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionError(
            f"{flag(name)} is {value!r}; it must be one of {', '.join(choices)}",
            _meant(str(value), choices),
        )


def _check_panel(name: str, diff: str) -> None:
    """Refuse a panel that would stay empty all night."""
    if name in OF_TEMPLATE and diff != "template":
        raise OptionError(
            f"panel {name} shows the template, but with --diff {diff} none is made",
            "--diff template, or --panels aligned,difference",
        )
    if name in OF_DIFFERENCE and diff == "none":
        raise OptionError(
            f"panel {name} shows the difference, but with --diff none nothing is subtracted",
            "--diff template, or --panels aligned",
        )


def _convert(item: dataclasses.Field[Any], value: Any) -> Any:
    kind: type[Any] = type(item.default)
    try:
        if item.metadata["many"]:
            given = [value] if isinstance(value, str) else value
            parts = [part.strip() for one in given for part in str(one).split(item.metadata["separator"])]
            return tuple(part for part in parts if part not in ("", "none"))
        if kind is bool:
            if not isinstance(value, bool):
                raise ValueError
            return value
        if item.name == "width" and value == "full":
            return 0
        if isinstance(value, bool) or (kind is int and isinstance(value, float) and not value.is_integer()):
            raise ValueError
        return kind(value)
    except (TypeError, ValueError):
        raise OptionError(f"{flag(item.name)} is {value!r}; it must be {_KINDS[kind]}") from None

"""Letters on the movie, from the font that comes with Pillow: the same picture on every machine."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from PIL import Image, ImageDraw, ImageFont

BRIGHT = (236, 236, 238)
DIM = (152, 153, 158)
WARN = (240, 190, 110)
GROUND = (17, 17, 19)
"""Colours of words, of lesser words, of warnings, and of what they stand on."""

_OWN = "σ−×Δ–"
"""Characters the font lacks and the movie needs; drawn here."""


def text_mask(text: str, size: int, room: int = 0) -> np.ndarray:
    """Draw one line of text.

    Parameters
    ----------
    text : str
        Any text; see `sanitise`.
    size : int
        Em, pixels.
    room : int
        Pixels it may take, 0 for any number; longer text ends in an ellipsis.

    Returns
    -------
    mask : (height, width) uint8
        Ink from 0 to 255, read-only. The height depends on `size` alone, so that lines share a baseline;
        digits all have the same width, so that numbers that change do not move their neighbours.
    """
    return _draw(_elide(sanitise(text), size, room), size)


@functools.lru_cache(maxsize=2048)
def sanitise(text: str) -> str:
    """Make any text fit to be shown: one line, no control characters, only letters the font has.

    Accents go where the font lacks the accented letter, Greek letters are spelled out, the rest becomes
    ``?``.
    """
    out = []
    for char in unicodedata.normalize("NFKC", str(text)[:400]):
        kind = unicodedata.category(char)
        if char.isspace():
            out.append(" ")
        elif kind[0] == "C":
            continue
        elif char in _OWN or _known(char):
            out.append(char)
        else:
            plain = "".join(c for c in unicodedata.normalize("NFKD", char) if _known(c))
            name = unicodedata.name(char, "")
            if plain:
                out.append(plain)
            elif name.startswith("GREEK "):
                out.append(name.split(" WITH ")[0].rsplit(" ", 1)[-1].lower())
            elif kind == "Pd":
                out.append("–")
            elif kind[0] != "M":
                out.append("?")
    return re.sub(" +", " ", "".join(out)).strip()


def paste(picture: np.ndarray, mask: np.ndarray, x: int, y: int, colour: tuple[int, int, int]) -> None:
    """Lay a text mask on (H, W, 3) uint8 or uint16 `picture`, its corner at (x, y), in place; cut at the edges."""
    x0, y0 = max(0, x), max(0, y)
    x1, y1 = min(picture.shape[1], x + mask.shape[1]), min(picture.shape[0], y + mask.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    blend(picture[y0:y1, x0:x1], mask[y0 - y : y1 - y, x0 - x : x1 - x], colour)


def paste_seamed(picture: np.ndarray, mask: np.ndarray, x: int, y: int, colour: tuple[int, int, int]) -> None:
    """As `paste`, on a dark seam a pixel wide, so that it reads on any ground."""
    paste(picture, _seam(np.array(mask)), x - 1, y - 1, GROUND)
    paste(picture, mask, x, y, colour)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _seam(mask: np.ndarray) -> np.ndarray:
    """What four copies of a mask, each askew by a pixel, cover together, (height + 2, width + 2) uint8."""
    tall, wide = mask.shape
    clear = np.ones((tall + 2, wide + 2), np.float32)
    for y in range(tall):
        for x in range(wide):
            through = np.float32(1) - np.float32(mask[y, x]) / np.float32(255)
            clear[y, x] *= through
            clear[y, x + 2] *= through
            clear[y + 2, x] *= through
            clear[y + 2, x + 2] *= through
    return np.rint(np.float32(255) * (np.float32(1) - clear)).astype(np.uint8)


def blend(under: np.ndarray, ink: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Lay a colour over (..., 3) uint8 or uint16, in place, as thickly as `ink` (...) uint8 says."""
    flat = under if under.ndim == 3 else under[None]
    _blend(flat, np.array(ink, ndmin=2), levels(colour, under.dtype).astype(np.int64))


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _blend(under: np.ndarray, ink: np.ndarray, colour: np.ndarray) -> None:
    for y in range(under.shape[0]):
        for x in range(under.shape[1]):
            w = np.int64(ink[y, x])
            if w:
                for c in range(3):
                    under[y, x, c] = ((255 - w) * np.int64(under[y, x, c]) + w * colour[c] + 127) // 255


def levels(colour: Any, dtype: Any) -> np.ndarray:
    """A colour, or a picture, of 8 bits as levels of `dtype`, uint8 or uint16: white stays white."""
    eight = np.asarray(colour, np.uint8)
    return eight.astype(np.uint16) * np.uint16(257) if dtype == np.uint16 else eight


def eight_bits(picture: np.ndarray) -> np.ndarray:
    """A picture of 16 bits in 8, to the nearest level; one of 8 bits as it is."""
    if picture.dtype != np.uint16:
        return picture
    return ((picture.astype(np.uint32) + 128) // 257).astype(np.uint8)


def draw_in_eight_bits(picture: np.ndarray, draw: Callable[[np.ndarray], None]) -> None:
    """Draw on (h, w, 3) uint8 or uint16 in place with what can only draw on 8 bits; pixels it leaves keep theirs."""
    if picture.dtype == np.uint8:
        draw(picture)
        return
    before = eight_bits(picture)
    after = before.copy()
    draw(after)
    drawn = (after != before).any(axis=-1)
    picture[drawn] = levels(after[drawn], picture.dtype)


@functools.lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # every wheel of Pillow has FreeType
    return font


@functools.lru_cache(maxsize=4096)
def _known(char: str) -> bool:
    """Whether the font has the character: its picture is not that of a missing one."""
    if unicodedata.category(char)[0] in "CM":
        return False
    font = _font(40)
    return bytes(font.getmask(char)) != bytes(font.getmask("\uffff"))


def _runs(text: str) -> list[str]:
    """The text cut so that only words are set as a whole: all else has fixed places, free of kerning."""
    return re.findall(r"[A-Za-z\u00c0-\uffff]{2,}|.", "".join(text)) if text else []


def _advance(run: str, size: int) -> float:
    if run in _OWN:
        return {"σ": 0.6, "−": 0.575, "×": 0.5, "Δ": 0.66, "–": 0.5}[run] * size
    if run == " ":  # the font's own is so narrow that numbers in a row run together
        return 0.3 * size
    return float(_font(size).getlength(run))


@functools.lru_cache(maxsize=2048)
def _width(text: str, size: int) -> int:
    return round(sum(_advance(run, size) for run in _split(text)))


def _split(text: str) -> list[str]:
    """Runs, with the characters of our own apart."""
    return [
        part
        for run in re.split(f"([{_OWN}])", text)
        if run
        for part in ([run] if run in _OWN else _runs(run))
    ]


@functools.lru_cache(maxsize=2048)
def _elide(text: str, size: int, room: int) -> str:
    if room <= 0 or _width(text, size) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if _width(text[:middle].rstrip() + "…", size) <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…" if low else ""


@functools.lru_cache(maxsize=1024)
def _draw(text: str, size: int) -> np.ndarray:
    high = round(1.25 * size)
    picture = Image.new("L", (max(1, _width(text, size)), high), 0)
    pen = ImageDraw.Draw(picture)
    base = round(0.95 * size)
    x = 0.0
    for run in _split(text):
        if run in _OWN:
            picture.paste(255, (round(x), 0), _own_glyph(run, size, high, base))
        elif run != " ":
            pen.text((round(x), base), run, fill=255, font=_font(size), anchor="ls")
        x += _advance(run, size)
    mask = np.asarray(picture).copy()
    if not text:
        mask = mask[:, :0]
    mask.setflags(write=False)
    return mask


@functools.lru_cache(maxsize=64)
def _own_glyph(char: str, size: int, high: int, base: int) -> Image.Image:
    """A character the font lacks, drawn four times too large and shrunk, as (high, advance) ink."""
    k = 4
    em = size * k
    wide = max(1, round(_advance(char, size)))
    picture = Image.new("L", (wide * k, high * k), 0)
    pen = ImageDraw.Draw(picture)
    box = _font(em).getbbox("x", anchor="ls")
    x_high, stroke = -box[1], max(k, round(0.085 * em))
    floor = base * k
    if char == "σ":
        left, right = round(0.05 * em), round(0.47 * em)
        pen.ellipse((left, floor - x_high, right, floor + round(0.01 * em)), outline=255, width=stroke)
        pen.rectangle(
            (round(0.25 * em), floor - x_high, round(0.56 * em), floor - x_high + stroke - 1), fill=255
        )
    elif char in "−–":
        plus = _font(em).getbbox("+", anchor="ls")
        middle = (plus[1] + plus[3]) // 2 + floor
        edge = round(0.08 * em)
        pen.rectangle(
            (edge, middle - stroke // 2, wide * k - edge, middle - stroke // 2 + stroke - 1), fill=255
        )
    elif char == "×":
        a, b, y = round(0.08 * em), round(0.42 * em), floor - round(0.1 * em)
        pen.line((a, y, b, y - (b - a)), fill=255, width=stroke)
        pen.line((a, y - (b - a), b, y), fill=255, width=stroke)
    else:
        top, a, b = floor - round(0.7 * em), round(0.04 * em), round(0.62 * em)
        pen.line(
            [(a, floor - 1), ((a + b) // 2, top), (b, floor - 1), (a, floor - 1)], fill=255, width=stroke
        )
    return picture.resize((wide, high), Image.Resampling.BOX)

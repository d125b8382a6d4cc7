"""Planes of luma and colour: the figures of BT.709, whatever room the encoder leaves beside its rows."""

import av
import numpy as np
import pytest

from difflapse.movie.encode import CODECS, Encoder
from difflapse.movie.yuv import fill_planes

HIGH, WIDE = 46, 70


def converted(rgb, beyond=6):
    """The three planes of a picture, laid out in rows longer than it is wide."""
    high, wide = rgb.shape[:2]
    planes = [
        np.full((h, w + beyond), 77, np.uint8)
        for h, w in ((high, wide), (high // 2, wide // 2), (high // 2, wide // 2))
    ]
    fill_planes(rgb, planes)
    for plane in planes:
        assert (plane[:, plane.shape[1] - beyond :] == 77).all()
    return [plane[:, : plane.shape[1] - beyond] for plane in planes]


def exact(rgb):
    """The same by the standard's formulas, not rounded; colour of the mean of 2x2 pixels."""
    r, g, b = np.moveaxis(rgb.astype(float), -1, 0)
    luma = 0.2126 * r + 0.7152 * g + 0.0722 * b
    blue, red = (b - luma) / 1.8556, (r - luma) / 1.5748
    blue, red = (c.reshape(HIGH // 2, 2, WIDE // 2, 2).mean(axis=(1, 3)) for c in (blue, red))
    return 16 + 219 * luma / 255, 128 + 224 * blue / 255, 128 + 224 * red / 255


def test_each_level_is_the_nearest_to_what_the_standard_says():
    rgb = np.random.default_rng(5).integers(0, 256, (HIGH, WIDE, 3), np.uint8)
    rgb[:4] = np.arange(4)[:, None, None] * 85  # with the darkest and the brightest
    for plane, wanted in zip(converted(rgb), exact(rgb), strict=True):
        off = plane - wanted
        assert np.abs(off).max() < 0.52
        assert abs(off.mean()) < 0.05


def test_grey_has_no_colour_and_limits_are_kept():
    grey = np.repeat(np.resize(np.arange(256), HIGH * WIDE).reshape(HIGH, WIDE, 1), 3, axis=2).astype(
        np.uint8
    )
    luma, blue, red = converted(grey)
    assert (blue == 128).all() and (red == 128).all()
    assert (luma.min(), luma.max()) == (16, 235)
    pure = np.zeros((HIGH, WIDE, 3), np.uint8)
    pure[..., 2] = 255
    assert (converted(pure)[1] == 240).all()
    pure[...] = (255, 255, 0)
    assert (converted(pure)[1] == 16).all()


def test_pictures_that_are_views_of_others_are_taken_as_they_look():
    rgb = np.random.default_rng(6).integers(0, 256, (HIGH, WIDE, 3), np.uint8)
    turned = rgb[::-1, ::-1]
    for a, b in zip(converted(turned), converted(turned.copy()), strict=True):
        assert (a == b).all()


def test_rows_that_are_like_those_above_are_converted_as_if_they_were_not():
    """Enlarged pixels have many such rows; one bit makes a row another."""
    rgb = np.repeat(np.random.default_rng(7).integers(0, 256, (9, WIDE, 3), np.uint8), 6, axis=0)[:HIGH]
    rgb[9, 33, 1] ^= 1
    rgb[20, 0, 0] ^= 1
    rgb[27, WIDE - 1, 2] ^= 1
    whole = converted(rgb)
    for top in range(0, HIGH, 2):
        alone = np.zeros_like(rgb)
        alone[top : top + 2] = rgb[top : top + 2]  # nothing above is like it
        for plane, wanted, rows in zip(whole, converted(alone), (2, 1, 1), strict=True):
            at = slice(top * rows // 2, top * rows // 2 + rows)
            assert (plane[at] == wanted[at]).all()


@pytest.mark.parametrize(
    "codec", [name for name, codec in CODECS.items() if codec.pixels == "yuv420p" and codec.encoder]
)
def test_pictures_that_follow_each_other_stay_apart(tmp_path, codec):
    """All pictures of a movie are handed over in one frame: none may show what was in it later, however many wait."""
    path = tmp_path / f"m{CODECS[codec].suffix}"
    levels = [40 + 37 * n % 190 for n in range(14)]
    with Encoder(path, (128, 96), 12, threads=2, codec=codec) as encoder:
        picture = np.empty((96, 128, 3), np.uint8)
        for level in levels:
            picture[:] = (level, 255 - level, 90)
            encoder.write(picture)
    with av.open(str(path)) as container:
        shown = [
            frame.to_ndarray(format="rgb24")[40:60, 50:70].mean(axis=(0, 1))
            for frame in container.decode(video=0)
        ]
    assert len(shown) == len(levels)
    for level, colour in zip(levels, shown, strict=True):
        assert np.abs(colour - (level, 255 - level, 90)).max() < 12

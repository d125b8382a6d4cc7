"""The fast decoder gives the pixels that astropy gives, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from difflapse.errors import ReadError
from difflapse.io import rice
from difflapse.io.fits import read_facts, read_frame
from difflapse.io.layout import read_layout


def images():
    rng = np.random.default_rng(7)
    ny, nx = 37, 101
    sky = rng.normal(2500, 20, (ny, nx)).clip(0, 65535)
    stars = sky.copy()
    stars[10:14, 40:44] += 40000
    return {
        "sky": sky.astype(np.uint16),
        "stars": stars.astype(np.uint16),
        "all zero": np.zeros((ny, nx), np.uint16),
        "constant": np.full((ny, nx), 65535, np.uint16),
        "noise of all bits": rng.integers(0, 65536, (ny, nx)).astype(np.uint16),
        "rare spikes": np.where(rng.random((ny, nx)) < 0.01, 60000, 100).astype(np.uint16),
        "signed": rng.normal(0, 500, (ny, nx)).astype(np.int16),
        "bytes": rng.integers(0, 256, (ny, nx)).astype(np.uint8),
        "quiet bytes": rng.integers(100, 104, (ny, nx)).astype(np.uint8),
        "32 bits": rng.normal(1e6, 3e4, (ny, nx)).astype(np.int32),
        "32 bits, all of them": rng.integers(-(2**31), 2**31, (ny, nx)).astype(np.int32),
        "32 bits, spikes": np.where(rng.random((ny, nx)) < 0.02, 2**30, 5).astype(np.int32),
        "unsigned 32 bits": rng.integers(0, 2**32, (ny, nx)).astype(np.uint32),
        "one pixel wide rows": rng.integers(0, 5000, (50, 2)).astype(np.uint16)[:, :2],
    }


@pytest.mark.parametrize("name", images())
@pytest.mark.parametrize("tile", [None, (16, 101), (10, 7), (37, 101), (1, 33)])
def test_pixels_are_astropys(tmp_path, name, tile):
    data = images()[name]
    if tile is not None:
        tile = tuple(min(t, n) for t, n in zip(tile, data.shape, strict=True))
    path = tmp_path / "a.fits.fz"
    hdu = fits.CompImageHDU(data, compression_type="RICE_1", tile_shape=tile)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    layout = read_layout(str(path))[1]
    assert rice.can_decode(layout.header)
    frame = read_frame(read_facts(path))
    with fits.open(path) as opened:
        expected = opened[1].data
    assert frame.data.dtype == data.dtype
    np.testing.assert_array_equal(frame.data, expected)
    np.testing.assert_array_equal(frame.data, data)


def test_every_split_between_low_and_high_bits(tmp_path):
    rng = np.random.default_rng(3)
    rows = [rng.normal(30000, 2.0**k, 320).clip(0, 65535) for k in range(16)]
    data = np.array(rows).astype(np.uint16)
    path = tmp_path / "a.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, compression_type="RICE_1")]).writeto(path)
    np.testing.assert_array_equal(read_frame(read_facts(path)).data, data)


def test_a_block_of_another_length(tmp_path):
    data = np.random.default_rng(5).normal(900, 30, (9, 70)).astype(np.int16)
    path = tmp_path / "a.fits.fz"
    hdu = fits.CompImageHDU(data, compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    header = read_layout(str(path))[1].header
    assert rice.can_decode(header)
    header["ZVAL1"] = 0
    assert not rice.can_decode(header)


@pytest.mark.parametrize("change", [("ZCMPTYPE", "GZIP_1"), ("ZBITPIX", -32), ("ZNAXIS2", 99), ("ZVAL2", 8)])
def test_what_it_does_not_know_is_left_to_astropy(tmp_path, change):
    path = tmp_path / "a.fits.fz"
    hdu = fits.CompImageHDU(np.ones((9, 70), np.int16), compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    header = read_layout(str(path))[1].header
    header[change[0]] = change[1]
    assert not rice.can_decode(header)


def test_damaged_bits_are_an_error_and_not_a_crash(tmp_path):
    data = np.random.default_rng(5).normal(900, 30, (40, 200)).astype(np.uint16)
    path = tmp_path / "a.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, compression_type="RICE_1")]).writeto(path)
    facts = read_facts(path)
    hdu = read_layout(str(path))[1]
    raw = bytearray(path.read_bytes())
    heap = hdu.data_start + 8 * 40
    raw[heap : hdu.data_start + hdu.data_size] = bytes(hdu.data_size - 8 * 40)
    path.write_bytes(raw)
    # All zeros are a legal code of equal pixels; a long run without its closing 1 is not.
    read_frame(facts)
    raw[heap + 2 : heap + 3] = b"\x10"
    path.write_bytes(raw)
    with pytest.raises(ReadError, match="tile 1 of 40 is damaged"):
        read_frame(facts)


def test_descriptors_beyond_the_heap_are_an_error(tmp_path):
    path = tmp_path / "a.fits.fz"
    hdu = fits.CompImageHDU(np.ones((9, 70), np.uint16), compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    facts = read_facts(path)
    start = read_layout(str(path))[1].data_start
    raw = bytearray(path.read_bytes())
    raw[start + 4 : start + 8] = (10**6).to_bytes(4, "big")
    path.write_bytes(raw)
    with pytest.raises(ReadError) as caught:
        read_frame(facts)
    assert caught.value.facts["needed"] > caught.value.facts["found"]

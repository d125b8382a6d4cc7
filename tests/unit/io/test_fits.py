"""One file: which HDU, which pixels, and what is said when there are none."""

from __future__ import annotations

import gzip
import pickle

import numpy as np
import pytest
from astropy.io import fits

from difflapse.errors import ReadError
from difflapse.io.fits import compact, read_bands, read_facts, read_frame, relative_file, scan

RAMP = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30) + 1000


@pytest.mark.parametrize("ending", [".fits", ".FIT", ".fts"])
def test_unsigned_pixels_stay_small(make, ending):
    facts = read_facts(make("a" + ending, data=RAMP))
    frame = read_frame(facts)
    assert (facts.dtype, facts.shape, facts.hdu) == ("uint16", (20, 30), 0)
    assert frame.data.dtype == np.uint16
    assert frame.data.dtype.isnative
    assert frame.mask is None
    np.testing.assert_array_equal(frame.data, RAMP)


def test_gzipped_whole_files(make, tmp_path):
    path = tmp_path / "b.fits.gz"
    path.write_bytes(gzip.compress(make("a.fits", data=RAMP).read_bytes()))
    np.testing.assert_array_equal(read_frame(read_facts(path)).data, RAMP)


@pytest.mark.parametrize("method", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1"])
def test_every_tile_compression_of_integers(make, method):
    data = RAMP if method != "PLIO_1" else RAMP.astype(np.int16)
    facts = read_facts(make("a.fits.fz", data=data, compression=method))
    assert facts.hdu == 1
    frame = read_frame(facts)
    assert frame.data.dtype == data.dtype
    np.testing.assert_array_equal(frame.data, data)


@pytest.mark.parametrize("method", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1"])
def test_float_tiles_and_their_nan(make, method):
    data = np.random.default_rng(1).normal(500, 10, (40, 60)).astype(np.float32)
    data[3, 5] = np.nan
    frame = read_frame(read_facts(make("a.fits.fz", data=data, compression=method)))
    assert frame.data.dtype == np.float32
    assert np.all(np.isfinite(frame.data))
    good = np.isfinite(data)
    # Tiles of floats are quantised to a fraction of their noise.
    assert np.abs(frame.data[good] - data[good]).max() < 5.0
    if method != "HCOMPRESS_1":
        assert np.argwhere(frame.mask).tolist() == [[3, 5]]


def test_a_compressed_file_inside_gzip(make, tmp_path):
    path = tmp_path / "b.fits.fz.gz"
    path.write_bytes(gzip.compress(make("a.fits.fz", data=RAMP, compression="RICE_1").read_bytes()))
    np.testing.assert_array_equal(read_frame(read_facts(path)).data, RAMP)


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (RAMP.astype(np.uint8), "uint8"),
        (RAMP.astype(np.int16), "int16"),
        (RAMP.astype(np.int32), "int32"),
        (RAMP.astype(np.uint32), "uint32"),
        (RAMP.astype(np.float32), "float32"),
        (RAMP.astype(np.float64), "float64"),
    ],
)
def test_every_plain_type(make, data, dtype):
    facts = read_facts(make("a.fits", data=data))
    frame = read_frame(facts)
    assert facts.dtype == dtype == str(frame.data.dtype)
    np.testing.assert_array_equal(frame.data, data)


def test_scaled_integers_become_physical(tmp_path):
    path = tmp_path / "a.fits"
    hdu = fits.PrimaryHDU(RAMP.astype(np.int16))
    hdu.header["BSCALE"], hdu.header["BZERO"] = 0.5, 10.0
    raw = fits.HDUList([hdu])
    raw.writeto(path)
    path.write_bytes(_patched(path, {"BSCALE": "0.5", "BZERO": "10.0"}))
    frame = read_frame(read_facts(path))
    assert frame.data.dtype == np.float32
    np.testing.assert_allclose(frame.data, fits.getdata(path))


def test_blank_pixels_are_masked(make):
    data = RAMP.astype(np.int16)
    data[2, 7] = -999
    frame = read_frame(read_facts(make("a.fits", {"BLANK": -999}, data=data)))
    assert frame.data.dtype == np.int16
    assert np.argwhere(frame.mask).tolist() == [[2, 7]]
    assert frame.data[2, 7] > 1000


@pytest.mark.parametrize(
    ("name", "compression"), [("a.fits", ""), ("a.fits.fz", "RICE_1"), ("b.fits.fz", "GZIP_1")]
)
def test_blank_is_a_stored_value_of_unsigned_pixels_too(make, name, compression):
    """BLANK counts before BZERO: astropy masks the same pixels of a floating-point copy."""
    data = RAMP.copy()
    data[3, 4:9] = 65535
    path = make(name, {"BLANK": 32767}, data=data, compression=compression)
    frame = read_frame(read_facts(path))
    with fits.open(path, uint=False) as hdus:
        expected = np.isnan(hdus[-1].data)
    assert expected.sum() == 5
    assert frame.data.dtype == np.uint16
    np.testing.assert_array_equal(frame.mask, expected)
    assert frame.data.max() < 2000


def test_nan_and_infinity_are_masked_and_made_finite(make):
    data = RAMP.astype(np.float32)
    data[0, 1], data[5, 6] = np.nan, np.inf
    frame = read_frame(read_facts(make("a.fits", data=data)))
    assert np.argwhere(frame.mask).tolist() == [[0, 1], [5, 6]]
    assert np.all(np.isfinite(frame.data))


def test_an_image_of_nan_alone_is_an_error(make):
    with pytest.raises(ReadError, match="all pixels"):
        read_frame(read_facts(make("a.fits", data=np.full((20, 30), np.nan, np.float32))))


def test_lost_telemetry_is_masked(make):
    data = np.random.default_rng(1).normal(840, 5, (64, 80)).astype(np.float32)
    data[8:12, 20:24] = 0
    data[40:50, 60:80] = 0
    data[0, 0] = 0
    frame = read_frame(read_facts(make("a.fits", data=data)))
    assert frame.mask.sum() == 16 + 200
    assert frame.mask[8:12, 20:24].all()
    assert not frame.mask[0, 0]


def test_zeros_are_pixels_where_the_sky_is_near_zero(make):
    data = np.random.default_rng(1).poisson(1.0, (64, 80)).astype(np.uint16)
    data[8:20, 20:40] = 0
    assert read_frame(read_facts(make("a.fits", data=data))).mask is None


def test_two_images_named_sci_of_which_the_last_is_a_mask(tmp_path):
    path = tmp_path / "a.fits"
    hdus = [
        fits.PrimaryHDU(),
        fits.ImageHDU(RAMP, name="SCI"),
        fits.ImageHDU(np.zeros((20, 30), np.uint8), name="SCI"),
    ]
    fits.HDUList(hdus).writeto(path)
    facts = read_facts(path)
    assert facts.hdu == 1
    assert any("HDU 1 (SCI)" in note for note in facts.notes)


def test_companions_are_passed_over_by_name(tmp_path):
    path = tmp_path / "a.fits"
    hdus = [
        fits.PrimaryHDU(),
        fits.ImageHDU(RAMP.astype(np.float32), name="ERR"),
        fits.ImageHDU(RAMP.astype(np.float32), name="DQ"),
        fits.ImageHDU(RAMP.astype(np.float32), name="SCI"),
    ]
    fits.HDUList(hdus).writeto(path)
    assert read_facts(path).hdu == 3


def test_amplifiers_are_said_to_be_several(tmp_path):
    path = tmp_path / "a.fits"
    parts = [fits.ImageHDU(RAMP, fits.Header([("DETSEC", f"[{i}:30,1:20]")]), name=f"IM{i}") for i in (1, 2)]
    fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(path)
    facts = read_facts(path)
    assert facts.hdu == 1
    assert any("of 2 images" in note for note in facts.notes)


def test_an_empty_primary_gives_its_time_and_wcs(tmp_path, solved):
    path = tmp_path / "a.fits"
    primary = fits.PrimaryHDU()
    primary.header["DATE-OBS"] = "2024-03-01T22:00:00"
    primary.header.update(solved())
    fits.HDUList([primary, fits.ImageHDU(RAMP)]).writeto(path)
    raw = path.read_bytes()
    # Two axes of length 0, as some pipelines write.
    raw = raw.replace(b"NAXIS   =                    0", b"NAXIS   =                    2", 1)
    at = raw.index(b"EXTEND  =")
    cards = b"NAXIS1  =                    0".ljust(80) + b"NAXIS2  =                    0".ljust(80)
    raw = raw[:at] + cards + raw[at : 2880 - 160] + raw[2880:]
    path.write_bytes(raw)
    facts = read_facts(path)
    assert facts.hdu == 1
    assert facts.time_source == "DATE-OBS"
    assert "RA---TAN" in facts.wcs_header
    np.testing.assert_array_equal(read_frame(facts).data, RAMP)


def test_the_image_header_wins_over_the_primary(tmp_path):
    path = tmp_path / "a.fits"
    primary = fits.PrimaryHDU()
    primary.header["EXPTIME"] = 1.0
    primary.header["OBJECT"] = "from the primary"
    image = fits.ImageHDU(RAMP)
    image.header["EXPTIME"] = 2.0
    fits.HDUList([primary, image]).writeto(path)
    facts = read_facts(path)
    assert (facts.exposure_s, facts.object) == (2.0, "from the primary")


def test_axes_of_length_one_are_no_cube(make):
    frame = read_frame(read_facts(make("a.fits", data=RAMP[None])))
    assert frame.data.shape == (20, 30)


def test_a_cube_says_so(make):
    with pytest.raises(ReadError, match="cube of 5 x 20 x 30"):
        read_facts(make("a.fits", data=np.zeros((5, 20, 30), np.int16)))


def test_a_table_says_so(tmp_path):
    path = tmp_path / "a.fits"
    table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.zeros(3))])
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    with pytest.raises(ReadError, match="only a table"):
        read_facts(path)


def test_random_groups_say_so(tmp_path):
    path = tmp_path / "a.fits"
    groups = fits.GroupData(
        np.zeros((4, 1, 1, 3, 2), np.float32), bitpix=-32, parnames=["U"], pardata=[np.zeros(4)]
    )
    fits.HDUList([fits.GroupsHDU(groups)]).writeto(path)
    with pytest.raises(ReadError, match="random groups"):
        read_facts(path)


def test_an_axis_of_777777701_in_a_small_file(make):
    path = make("a.fits", data=RAMP)
    path.write_bytes(_patched(path, {"NAXIS1": "777777701"}))
    with pytest.raises(ReadError) as caught:
        read_facts(path)
    assert caught.value.facts["needed"] == 777777701 * 20 * 2
    assert caught.value.facts["found"] < 3000


@pytest.mark.parametrize("compression", ["", "RICE_1"])
def test_truncated_data_name_what_was_found_and_needed(make, compression):
    noise = np.random.default_rng(1).integers(0, 65535, (100, 120)).astype(np.uint16)
    path = make("a.fits", data=noise, compression=compression)
    facts = read_facts(path)
    path.write_bytes(path.read_bytes()[:-12000])
    for attempt in (lambda: read_facts(path), lambda: read_frame(facts)):
        with pytest.raises(ReadError) as caught:
            attempt()
        assert 0 < caught.value.facts["found"] < caught.value.facts["needed"]
        assert pickle.loads(pickle.dumps(caught.value)).facts == caught.value.facts


def test_truncated_gzip_opens_and_fails_on_reading(make, tmp_path):
    noise = np.random.default_rng(1).integers(0, 65535, (100, 120)).astype(np.uint16)
    whole = gzip.compress(make("a.fits", data=noise).read_bytes())
    path = tmp_path / "b.fits.gz"
    path.write_bytes(whole)
    facts = read_facts(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReadError):
        read_frame(facts)


def test_missing_padding_is_forgiven(make):
    path = make("a.fits", data=RAMP)
    raw = path.read_bytes()
    path.write_bytes(raw[: 2880 + RAMP.nbytes])
    np.testing.assert_array_equal(read_frame(read_facts(path)).data, RAMP)


def test_a_wrong_checksum_is_forgiven(make):
    path = make("a.fits", {"CHECKSUM": "oeFFpbCFobCFobCF", "DATASUM": "1"}, data=RAMP)
    np.testing.assert_array_equal(read_frame(read_facts(path)).data, RAMP)


def test_letters_that_are_not_ascii_are_forgiven(make):
    path = make("a.fits", {"OBSERVER": "Jose", "OBJECT": "M42"}, data=RAMP)
    path.write_bytes(path.read_bytes().replace(b"Jose", b"Jos\xe9"))
    facts = read_facts(path)
    assert facts.object == "M42"
    np.testing.assert_array_equal(read_frame(facts).data, RAMP)


def test_non_ascii_headers_of_other_compressions(make):
    path = make("a.fits.fz", {"OBSERVER": "Jose"}, data=RAMP, compression="GZIP_1")
    path.write_bytes(path.read_bytes().replace(b"Jose", b"Jos\xe9"))
    np.testing.assert_array_equal(read_frame(read_facts(path)).data, RAMP)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\x01", "not a FITS file"),
        (b"this is my observing log\nclouds\n", "observing log"),
        (b"SIMPLE  =                    T".ljust(2880), "no END"),
    ],
)
def test_what_is_not_fits_says_so(tmp_path, content, said):
    path = tmp_path / "a.fits"
    path.write_bytes(content)
    with pytest.raises(ReadError, match=said):
        read_facts(path)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(ReadError, match="no such file"):
        read_facts(tmp_path / "nowhere.fits")
    with pytest.raises(ReadError):
        read_facts(tmp_path)


def test_a_file_that_changed_says_so(make):
    path = make("a.fits", data=RAMP)
    facts = read_facts(path)
    fits.PrimaryHDU(RAMP[:10]).writeto(path, overwrite=True)
    with pytest.raises(ReadError, match="has changed"):
        read_frame(facts)


def test_junk_cards_of_panoptes_are_ignored(make):
    cards = {
        "_TYPE1": "RA---TAN-SIP",
        "_CSAXES": 2,
        "COMMENT": 'Original key: "EQUINOX"',
        "ORIGIN": "Project PANOPTES",
    }
    assert read_facts(make("20180824T040118.fits", cards)).wcs_header == ""


def test_the_name_below_the_root(make):
    path = make("deep/er/a.fits")
    root = path.parent.parent
    assert read_facts(path, str(root)).file == "er/a.fits"
    assert read_facts(path).file == "a.fits"
    assert relative_file("https://host/night/a.fits?token=1", "") == "a.fits"


def test_facts_travel_to_other_processes(make, solved):
    facts = scan(make("a.fits", solved())).facts
    assert pickle.loads(pickle.dumps(facts)) == facts


def _patched(path, values):
    """The file with other values in its primary header, as raw bytes."""
    raw = bytearray(path.read_bytes())
    for key, value in values.items():
        at = raw.find(key.ljust(8).encode() + b"=")
        card = f"{key:8}= {value:>20}".ljust(80).encode()
        if at < 0:
            at = raw.index(b"END".ljust(80))
            raw[at + 80 : at + 160] = b"END".ljust(80)
        raw[at : at + 80] = card
    return bytes(raw)


@pytest.mark.parametrize("rows", [(0, 9), (23, 61), (70, 83), (-5, 12), (60, 400)])
@pytest.mark.parametrize("tile", [(1, 57), (8, 57), (10, 20)])
def test_some_rows_of_a_compressed_image_are_those_of_the_whole(tmp_path, rows, tile):
    """Only tiles that hold them are decoded; what is not read is level, and not masked."""
    rng = np.random.default_rng(3)
    pixels = rng.normal(2200, 30, (83, 57)).astype(np.uint16)
    path = tmp_path / "a.fits.fz"
    hdu = fits.CompImageHDU(pixels, compression_type="RICE_1", tile_shape=tile)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    facts = read_facts(path)
    part = read_frame(facts, rows)
    first, past = max(0, rows[0]), min(83, rows[1])
    np.testing.assert_array_equal(part.data[first:past], pixels[first:past])
    assert part.data.shape == pixels.shape
    assert part.mask is None
    rest = np.delete(part.data, np.arange(first, past), axis=0)
    assert abs(rest.astype(float) - 2200).max() < 20


def test_rows_that_a_file_has_not_are_an_error(tmp_path):
    pixels = np.random.default_rng(3).normal(2200, 30, (83, 57)).astype(np.uint16)
    path = tmp_path / "a.fits.fz"
    hdu = fits.CompImageHDU(pixels, compression_type="RICE_1", tile_shape=(1, 57))
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    facts = read_facts(path)
    with pytest.raises(ReadError, match="rows 90 to 95"):
        read_frame(facts, (90, 95))


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("u2", "uint16"),
        ("i2", "int16"),
        ("u1", "float32"),
        ("i4", "float32"),
        ("i8", "float32"),
        ("f8", "float32"),
    ],
)
def test_arithmetic_meets_three_types_of_pixels(kind: str, wanted: str) -> None:
    values = np.array([[0, 7, 127]], kind)
    packed = compact(values)
    assert packed.dtype == wanted
    assert packed.tolist() == values.tolist()
    assert (packed is values) == (wanted.endswith("int16"))


@pytest.mark.parametrize(
    ("compressed", "tile"),
    [
        (None, None),
        ("RICE_1", (1, 57)),
        ("RICE_1", (1, 20)),
        ("RICE_1", (7, 57)),
        ("RICE_1", (16, 20)),
        ("GZIP_1", (1, 57)),
    ],
)
def test_bands_are_the_rows_of_the_whole_and_nothing_else(tmp_path, compressed, tile):
    """In any order, overlapping, up to any column; a band's blank pixels are masked in it alone. What is changed in one
    stays there.
    """
    rng = np.random.default_rng(5)
    pixels = rng.normal(2200, 30, (83, 57)).astype(np.float32 if not compressed else np.int16)
    if compressed:
        pixels[40, 7] = -32768
        hdu = fits.CompImageHDU(pixels, compression_type=compressed, tile_shape=tile)
        hdu.header["BLANK"] = -32768
    else:
        pixels[40, 7] = np.nan
        hdu = fits.ImageHDU(pixels)
    path = tmp_path / "a.fits"
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    facts = read_facts(path)
    whole = read_frame(facts)
    bands = [(60, 83, 57), (0, 3, 31), (39, 61, 33), (38, 50, 5)]
    for (first, past, wide), (data, mask) in zip(bands, read_bands(facts, bands), strict=True):
        assert data.shape == (past - first, wide)
        expected = whole.data[first:past, :wide].copy()
        if first == 39:
            assert mask is not None and mask.sum() == 1 and mask[1, 7]
            expected[1, 7] = data[1, 7]
        else:
            assert mask is None
        np.testing.assert_array_equal(data, expected)
        data[:] = 0
    np.testing.assert_array_equal(read_frame(facts).data, whole.data)

"""Inputs to sequences: what is found, what belongs together, and what is left out and why."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from astropy.io import fits

from difflapse.errors import InputError, OptionError
from difflapse.io import discover
from difflapse.io.discover import is_fits_name
from difflapse.io.info import describe


def files(inventory):
    return [[frame.file for frame in sequence.frames] for sequence in inventory.sequences]


def reasons(inventory):
    return {item.file: item.reason for item in inventory.left_out}


@pytest.mark.parametrize(
    "name",
    ["a.fits", "a.FITS", "a.fit", "a.FTS", "a.fits.fz", "a.fits.gz", "a.fit.gz", "a.fz", "a.fits.fz.gz"],
)
def test_names_of_fits_files(name):
    assert is_fits_name(name)


@pytest.mark.parametrize(
    "name", ["solved.fits.solved", "a.fits.txt", "a.jpg", "fits", ".a.fits", "a.fits~", "x/._a.fits"]
)
def test_names_of_other_files(name):
    assert not is_fits_name(name)


def test_a_folder_is_searched_downwards(night, tmp_path):
    night(2, folder="top/a")
    night(2, folder="top/b/c", start="2024-03-01T23:00:00")
    inventory = discover([tmp_path / "top"])
    assert files(inventory) == [["a/frame0.fits", "a/frame1.fits", "b/c/frame0.fits", "b/c/frame1.fits"]]
    assert inventory.root == str(tmp_path / "top")
    assert inventory.left_out == ()


def test_markers_hidden_folders_and_earlier_runs_are_no_candidates(night, tmp_path):
    night(3)
    folder = tmp_path / "night"
    (folder / "frame0.fits.solved").write_bytes(b"\x01")
    (folder / ".hidden").mkdir()
    (folder / "OUT" / "aligned").mkdir(parents=True)
    for place in (".hidden", "OUT", "OUT/aligned"):
        shutil.copy(folder / "frame0.fits", folder / place / "copy.fits")
    (folder / "OUT" / "run.toml").write_text('[provenance]\nversions = { difflapse = "0.1" }\n')
    inventory = discover([folder])
    assert files(inventory) == [["frame0.fits", "frame1.fits", "frame2.fits"]]
    assert reasons(inventory) == {"OUT/": "holds a run of difflapse"}


def test_our_own_products_are_left_out_wherever_they_lie(night, make, tmp_path):
    night(2)
    make("night/template.fits", {"CREATOR": "difflapse 0.1.0"})
    assert "product of difflapse" in reasons(discover([tmp_path / "night"]))["template.fits"]


def test_text_called_fits_is_left_out_with_its_first_words(night, tmp_path):
    night(2)
    (tmp_path / "night" / "log.fits").write_text("Clouds until midnight.\n")
    assert "Clouds until midnight." in reasons(discover([tmp_path / "night"]))["log.fits"]


def test_a_truncated_frame_is_left_out_with_the_bytes(night, tmp_path):
    paths = night(3)
    paths[1].write_bytes(paths[1].read_bytes()[:3000])
    inventory = discover([tmp_path / "night"])
    assert files(inventory) == [["frame0.fits", "frame2.fits"]]
    assert "120 bytes of data found in HDU 0, 1200 needed" in reasons(inventory)["frame1.fits"]


def test_an_empty_folder(tmp_path):
    with pytest.raises(InputError, match="no FITS files found") as caught:
        discover([tmp_path])
    assert caught.value.exit_code == 3
    assert caught.value.hint


def test_a_folder_of_darks(night, tmp_path):
    night(4, IMAGETYP="Dark Frame")
    with pytest.raises(InputError, match="4 x a dark frame"):
        discover([tmp_path / "night"])


def test_one_frame_alone(night):
    with pytest.raises(InputError, match="2 frames"):
        discover(night(1))


@pytest.mark.parametrize("name", ["nowhere", "nowhere/*.fits", "@nowhere.txt", "a.fits"])
def test_inputs_that_do_not_exist(tmp_path, name):
    given = "@" + str(tmp_path / name[1:]) if name.startswith("@") else str(tmp_path / name)
    with pytest.raises(InputError, match=r"nowhere|a\.fits"):
        discover([given])


def test_globs_lists_and_repeats_name_each_file_once(night, tmp_path):
    paths = night(4)
    (tmp_path / "list.txt").write_text(
        f"# the night\n{paths[0]}\nnight/frame1.fits\n\nnight/frame[12].fits\n"
    )
    given = [tmp_path / "night" / "*.fits*", f"@{tmp_path / 'list.txt'}", paths[3], str(paths[3])]
    assert files(discover(given)) == [[f"frame{i}.fits" for i in range(4)]]
    assert files(discover([f"@{tmp_path / 'list.txt'}"])) == [["frame0.fits", "frame1.fits", "frame2.fits"]]


def test_darks_and_flats_among_the_lights_are_named(night, make, tmp_path):
    night(3)
    make("night/dark1.fits", {"IMAGETYP": "DARK", "INSTRUME": "CAM1"})
    make("night/flat.fits", {"IMAGETYP": "Flat Field", "INSTRUME": "CAM1"})
    inventory = discover([tmp_path / "night"])
    assert len(inventory.sequences[0].frames) == 3
    assert "dark" in reasons(inventory)["dark1.fits"]
    assert "flat" in reasons(inventory)["flat.fits"]
    assert {item.facts.kind for item in inventory.left_out} == {"dark", "flat"}


def test_time_order_is_not_the_order_of_names(night, tmp_path):
    night(3, DATE_OBS=lambda i: f"2024-03-01T22:0{[4, 2, 6][i]}:00")
    assert files(discover([tmp_path / "night"])) == [["frame1.fits", "frame0.fits", "frame2.fits"]]


@pytest.mark.parametrize(
    "change",
    [{"INSTRUME": "CAM2"}, {"FILTER": "R"}, {"OBJECT": "M42"}, {"CAMSN": "17"}, {"BAYERPAT": "RGGB"}],
)
def test_what_differs_is_another_sequence(night, tmp_path, change):
    night(3, folder="n/a")
    night(2, folder="n/b", start="2024-03-01T23:00:00", **change)
    inventory = discover([tmp_path / "n"])
    assert [len(group) for group in files(inventory)] == [3, 2]
    names = [sequence.name for sequence in inventory.sequences]
    assert len(set(names)) == 2
    assert all("/" not in name and " " not in name for name in names)


def test_another_size_among_the_frames_is_left_out_with_both_sizes(night, make, tmp_path):
    night(3)
    cards = {"INSTRUME": "CAM1", "OBJECT": "M31", "FILTER": "V", "DATE-OBS": "2024-03-01T23:00:00"}
    make("night/crop.fits", cards, data=np.ones((10, 16), np.uint16))
    reason = reasons(discover([tmp_path / "night"]))["crop.fits"]
    assert "16x10" in reason
    assert "30x20" in reason


def test_the_sky_decides_where_both_have_a_wcs(night, solved, tmp_path):
    # The field is 0.2 degrees high: 0.1 away is in common, 1 away is not.
    night(2, folder="n/a", **solved(150.0, 20.0), OBJECT="one")
    night(2, folder="n/b", start="2024-03-01T22:30:00", **solved(150.0, 20.1), OBJECT="two")
    night(2, folder="n/c", start="2024-03-01T23:30:00", **solved(150.0, 21.0), OBJECT="one")
    assert [len(group) for group in files(discover([tmp_path / "n"]))] == [4, 2]


def test_frames_without_wcs_join_by_name(night, solved, tmp_path):
    night(2, folder="n/a", **solved())
    night(2, folder="n/b", start="2024-03-01T22:30:00")
    assert [len(group) for group in files(discover([tmp_path / "n"]))] == [4]


def test_a_meridian_flip_is_joined_unless_split(night, tmp_path):
    night(2, folder="n/a", SEQID="PAN_1")
    night(2, folder="n/b", start="2024-03-01T23:30:00", SEQID="PAN_2")
    joined = discover([tmp_path / "n"])
    assert [len(group) for group in files(joined)] == [4]
    assert any("PAN_1, PAN_2" in note for note in joined.sequences[0].notes)
    assert [len(group) for group in files(discover([tmp_path / "n"], split=True))] == [2, 2]


def test_long_gaps_do_not_split(night, tmp_path):
    night(2, folder="n/a")
    night(2, folder="n/b", start="2024-03-02T05:00:00")
    assert [len(group) for group in files(discover([tmp_path / "n"]))] == [4]


def test_exposures_that_differ_are_noted(night, tmp_path):
    night(3, EXPTIME=lambda i: [30.0, 12.6, 7.6][i])
    assert any("7.6 to 30 s" in note for note in discover([tmp_path / "night"]).sequences[0].notes)


def test_frames_of_another_wavelength_say_so(night, tmp_path):
    """The Sun through one filter at two wavelengths: one sequence, but its odd frames are named."""
    night(4, WAVELNTH=lambda i: [195, 171, 195, 195][i])
    sequence = discover([tmp_path / "night"]).sequences[0]
    assert any("195 in 3 frames, 171 in 1 frames" in note for note in sequence.notes)
    assert ["wavelength 171, of most frames 195" in f.notes for f in sequence.frames] == [
        False,
        True,
        False,
        False,
    ]


def test_a_copy_of_a_frame_is_left_out(night, tmp_path):
    path = night(3)[1]
    with fits.open(path) as hdus:
        copy = fits.CompImageHDU(hdus[0].data, hdus[0].header, compression_type="RICE_1")
        fits.HDUList([fits.PrimaryHDU(), copy]).writeto(path.with_suffix(".fits.fz"))
    inventory = discover([tmp_path / "night"])
    assert files(inventory) == [["frame0.fits", "frame1.fits", "frame2.fits"]]
    assert "second copy of frame1.fits" in reasons(inventory)["frame1.fits.fz"]


def test_a_wcs_that_never_moves_is_noted(night, solved, tmp_path):
    night(3, **solved())
    assert any("same in all frames" in note for note in discover([tmp_path / "night"]).sequences[0].notes)


def test_panoptes_nights(make, tmp_path):
    base = {
        "ORIGIN": "Project PANOPTES",
        "CREATOR": "POCSv0.7.0",
        "OBSERVER": "PAN012",
        "INSTRUME": "358d0f",
        "FIELD": "Comet 46P",
        "FILTER": "RGGB",
        "EXPTIME": 120.0,
        "SEQID": "PAN012_358d0f_20180824T035917",
    }
    folder = "Comet46P/358d0f/20180824T035917"
    for minute in (4, 1, 7):
        # The camera's clock is 5 min 52 s late, and the sequence of the frames is not that of their making.
        make(
            f"{folder}/20180824T04{minute:02}18.fits.fz",
            {**base, "DATE-OBS": f"2018-08-24T03:{55 + minute - 6 if minute < 10 else 0:02}:26"},
            compression="RICE_1",
        )
    make(f"{folder}/pointing00.fits.fz", {**base, "EXPTIME": 30.0}, compression="RICE_1")
    make(f"{folder}/focus.fits.fz", {**base, "EXPTIME": 5.0}, compression="RICE_1")
    inventory = discover([tmp_path])
    told = describe(inventory)["sequences"][0]
    assert [f.rpartition("/")[2] for f in told["files"]] == [
        "20180824T040118.fits.fz",
        "20180824T040418.fits.fz",
        "20180824T040718.fits.fz",
    ]
    assert told["time_source"] == "file name"
    assert told["first_utc"] == "2018-08-24T04:02:18.000"
    assert told["mosaic"] == "GBRG"
    assert told["cadence_s"] == 180.0
    assert any("DATE-OBS is 0:10:52 before file name" in note for note in told["notes"])
    assert {"pointing" in reason for reason in reasons(inventory).values()} == {True}
    assert len(inventory.left_out) == 2


def test_all_times_identical_and_named_in_files(night, make, tmp_path):
    for second in (5, 25, 45):
        make(
            f"n/img_20240301_2200{second:02}.fits",
            {"DATE-OBS": "2024-03-01T22:00:00", "EXPTIME": 10.0, "INSTRUME": "C"},
        )
    sequence = discover([tmp_path / "n"]).sequences[0]
    assert {frame.time_source for frame in sequence.frames} == {"file name"}
    assert any("DATE-OBS is the same in all frames" in note for note in sequence.notes)


def test_no_time_at_all_is_in_the_order_of_names(make, tmp_path):
    for i in (10, 2, 1):
        make(f"n/f{i}.fits", {"INSTRUME": "C"})
    inventory = discover([tmp_path / "n"])
    assert files(inventory) == [["f1.fits", "f2.fits", "f10.fits"]]
    assert inventory.sequences[0].frames[0].start_mjd is None
    assert describe(inventory)["sequences"][0]["first_utc"] is None


def test_the_mosaic_asked_for_overrides_the_headers(night):
    paths = night(2, BAYERPAT="RGGB")
    assert discover(paths).sequences[0].frames[0].mosaic == "RGGB"
    told = discover(paths, mosaic="BGGR").sequences[0]
    assert told.frames[0].mosaic == "BGGR"
    assert any("as asked" in note and "RGGB" in note for note in told.notes)
    assert discover(paths, mosaic="none").sequences[0].frames[0].mosaic == ""
    with pytest.raises(OptionError):
        discover(paths, mosaic="RRGB")


def test_description_is_json_and_complete(night, tmp_path):
    import json

    night(3)
    told = json.loads(json.dumps(describe(discover([tmp_path / "night"])), allow_nan=False))
    sequence = told["sequences"][0]
    assert sequence["n_frames"] == 3
    assert sequence["shape"] == [20, 30]
    assert sequence["cadence_s"] == 60.0
    assert sequence["exposure_s"] == 30.0
    assert sequence["wcs"] == "none"
    assert sequence["time_source"] == "DATE-OBS"
    assert sequence["first_utc"] == "2024-03-01T22:00:15.000"
    assert sequence["time_reason"]
    assert sequence["mosaic_reason"]


@pytest.mark.parametrize("lists", [{"a.txt": "a.txt"}, {"a.txt": "b.txt", "b.txt": "a.txt"}])
def test_a_list_that_names_itself_says_so(tmp_path, lists):
    for name, other in lists.items():
        (tmp_path / name).write_text(f"@{tmp_path / other}\n")
    with pytest.raises(InputError, match=r"a\.txt names itself"):
        discover([f"@{tmp_path / 'a.txt'}"])

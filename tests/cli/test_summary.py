"""The summary and the plan in words, from the mappings a run and a plan give."""

from __future__ import annotations

import pytest

from difflapse.cli.summary import print_plan, print_summary

NIGHT = {
    "name": "PAN012_358d0f",
    "folder": "OUT",
    "n_frames": 24,
    "n_used": 22,
    "n_skipped": 2,
    "median_rms_pix": 0.0412,
    "movie": "timelapse.mp4",
    "products": ["timelapse.mp4", "frames.ecsv"],
    "skipped": [{"file": f"n{k}.fits", "reason": "found 3 stars, needed 6"} for k in (4, 7)],
    "reference": "n9.fits",
    "methods": {"wcs": 10, "asterism": 12},
}


def summary(**night: object) -> dict:
    left_out = [{"file": "dark.fits", "reason": "a dark frame"}]
    return {"seconds": 75.0, "frames_per_second": 0.32, "sequences": [NIGHT | night], "left_out": left_out}


def test_a_summary_tells_all_that_a_person_wants(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(summary())
    out = capsys.readouterr().out
    for words in (
        "22 of 24 frames used, 2 skipped",
        "median rms 0.0412 px (wcs 10, asterism 12)",
        "n9.fits",
        "n7.fits: found 3 stars, needed 6",
        "dark.fits: a dark frame",
        "1 min 15 s, 0.32 frames/s",
    ):
        assert words in out
    assert "OUT/timelapse.mp4" in out.replace("\\", "/")


def test_the_worst_frame_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(summary(worst_rms_pix=0.1384, worst_rms_file="n13.fits"))
    line = "median rms 0.0412 px (wcs 10, asterism 12), worst 0.138 px: n13.fits"
    assert line in capsys.readouterr().out


def test_an_rms_of_tiles_of_pixels_is_none_of_stars(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(summary(judged_on={"pixels": 22}))
    assert "median rms 0.0412 px on tiles of pixels (wcs 10, asterism 12)" in capsys.readouterr().out
    print_summary(summary(judged_on={"stars": 22}))
    assert "median rms 0.0412 px (wcs 10, asterism 12)" in capsys.readouterr().out


def test_many_skipped_frames_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    many = [{"file": f"n{k}.fits", "reason": "clouds"} for k in range(30)]
    print_summary(summary(skipped=many, n_skipped=30))
    out = capsys.readouterr().out
    assert out.count("clouds") == 8
    assert "22 more" in out
    assert "frames.ecsv" in out


def test_a_long_reason_is_cut_at_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(summary(skipped=[{"file": "n1.fits", "reason": "no method aligns this frame; " * 20}]))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "n1.fits" in line]
    assert len(line) < 160
    assert line.endswith(" ...")


@pytest.mark.parametrize("rms", [None, float("nan")])
def test_an_rms_that_is_not_known_is_not_invented(
    capsys: pytest.CaptureFixture[str], rms: float | None
) -> None:
    print_summary(summary(median_rms_pix=rms))
    assert "rms unknown" in capsys.readouterr().out


def test_a_plan_tells_memory_and_disk(capsys: pytest.CaptureFixture[str]) -> None:
    night = {
        "name": "a",
        "frames": 24,
        "shape": [868, 1302],
        "mosaic": "GBRG",
        "align": "auto",
        "diff": "template",
        "template_frames": 11,
        "steps": ["read", "measure"],
    }
    sizes = {"memory_bytes": 3 * 1024**3, "scratch_bytes": 5 * 1024**2, "output_bytes": 900, "workers": 2}
    print_plan({"out": "OUT", "sequences": [night], "left_out": []} | sizes)
    out = capsys.readouterr().out
    for words in (
        "24 frames of 1302x868",
        "GBRG",
        "of 11 frames",
        "3.0 GB with 2 workers",
        "5.0 MB",
        "900 bytes",
    ):
        assert words in out


def test_of_many_files_left_out_for_one_reason_a_few_are_told() -> None:
    from difflapse.cli.info import _left_out

    items = [{"file": f"d{k:03d}.fits", "reason": "a dark"} for k in range(50)]
    items.insert(7, {"file": "x.fits", "reason": "truncated"})
    lines = list(_left_out(items))
    assert len(lines) == 10
    assert "left out     d000.fits: a dark" in lines
    assert "left out     x.fits: truncated" in lines
    assert any("42 more files: a dark" in line for line in lines)


def test_what_was_done_otherwise_than_asked_and_what_was_not_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    why = "3 frames are too few for a template difference; it needs 4"
    print_summary(summary(diff="running", diff_note=why, depth=None, depth_note="3 frames can be compared"))
    out = capsys.readouterr().out
    assert f"  difference running: {why}\n" in out
    assert "  depth      not measured: 3 frames can be compared\n" in out
    print_summary(summary(diff="running", diff_note="", depth=None, depth_note=""))
    out = capsys.readouterr().out
    assert "  difference running\n" in out and "depth" not in out


def test_the_camera_is_told_in_plain_words(capsys: pytest.CaptureFixture[str]) -> None:
    camera = {"gain_e_adu": 25.94, "gain_source": "photon transfer"}
    print_summary(summary(camera=camera | {"saturation_adu": 4095.0, "saturation_source": "camera"}))
    line = "noise      gain 25.9 e/ADU (measured on the frames), saturates at 4095 ADU (known of this camera)"
    assert line in capsys.readouterr().out
    print_summary(summary(camera={"gain_source": "unknown", "not_measured": "no sky"}))
    assert "gain unknown: sigma counts the noise of the dark sky" in capsys.readouterr().out


def varying(n: int, sky: bool = False) -> dict:
    """What a night tells of n stars that vary by their light curves."""
    stars = [
        {
            "star": 33 + k,
            "name": f"star J0204.2+46{41 + k}" if sky else f"star X{368 + k}Y328",
            "x_pix": 368.2 + k,
            "y_pix": 327.7,
            "ra_deg": 31.04 if sky else None,
            "amplitude_mag": 0.0372 + k,
            "false_alarm": 2.28e-9 if k else 3.1e-41,
        }
        for k in range(n)
    ]
    return {"tested": 1924, "false_alarms": 0.1, "stars": stars}


def test_stars_that_vary_by_their_light_curves_are_told_with_place_size_and_chance(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_summary(summary(varying=varying(2)))
    line = (
        "  varies     2 stars by the light curve alone: star 33 at (368, 328) by 0.04 mag, false alarm below 1e-9; "
        "star 34 at (369, 328) by 1.04 mag, false alarm 2e-9\n"
    )
    assert line in capsys.readouterr().out
    print_summary(summary(varying=varying(7, sky=True)))
    out = capsys.readouterr().out
    assert "varies     7 stars by the light curve alone: star 33 at J0204.2+4641 by" in out
    assert "and 3 more, on the page" in out


def test_none_that_varies_is_told_and_what_is_not_known_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(summary(varying=varying(0)))
    assert "  varies     none of 1924 stars by its light curve alone\n" in capsys.readouterr().out
    for unknown in (None, {"tested": 0, "false_alarms": 0.1, "stars": []}):
        print_summary(summary(varying=unknown))
        assert "varies" not in capsys.readouterr().out

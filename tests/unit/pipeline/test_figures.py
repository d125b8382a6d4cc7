"""The certificate's figures: what must be seen on them is there, in either theme and from any source of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import difflapse
from difflapse.errors import InputError, OptionError
from difflapse.io.products import product_names, write_image

from . import test_certificate
from .conftest import SHAPE
from .test_certificate import N, finished

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'difflapse[plots]'")

NY, NX = SHAPE


def words(figure: Any) -> str:
    """All text of a figure."""
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def certificate(folder: Path, **more: Any) -> Any:
    return difflapse.open_run(finished(folder, **more)).certificate()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_map_has_an_arrow_a_cell_and_an_rms_a_corner(tmp_path: Path, theme: str) -> None:
    from matplotlib.quiver import Quiver, QuiverKey

    proof = certificate(tmp_path / "out", fixed=0.08)
    figure = proof.draw_residuals(theme)
    field = figure.axes[0]
    arrows = [artist for artist in field.get_children() if isinstance(artist, Quiver)]
    known = proof.field
    good = np.isfinite(known.significance)
    assert sum(a.N for a in arrows) == good.sum()
    clear = max((a for a in arrows if a.N), key=lambda a: np.abs(a.U).max())
    assert np.abs(clear.U).max() == pytest.approx(np.abs(known.dx[good]).max())
    keys = [a.text.get_text() for a in field.get_children() if isinstance(a, QuiverKey)]
    assert [word in key for word, key in zip(("px, beyond", "1 sigma"), keys, strict=True)] == [True, True]
    assert field.get_xlim() == (-0.5, NX - 0.5)
    assert field.get_ylim() == (-0.5, NY - 0.5)
    said = words(figure)
    assert said.count("corner 0.") == 4
    for word in (
        "more than noise",
        "photons alone",
        "radial rms, px",
        "95 %",
        "3,500 of 5 frames",
    ):
        assert word in said
    paper = figure.get_facecolor()[:3]
    assert (np.mean(paper) > 0.9) == (theme == "light")
    assert abs(np.mean(paper) - np.mean(field.xaxis.label.get_color() == "#dfe3e8")) > 0.5


def test_the_night_shows_every_used_frame_and_every_skipped_one(tmp_path: Path) -> None:
    figure = certificate(tmp_path / "out", require_rms=0.2).draw_night()
    said = words(figure)
    for word in (
        "Drift",
        "Rotation",
        "Scale",
        "Focus",
        "Residuals",
        "UTC",
        "skipped (1)",
        "reference",
        "arcsec",
    ):
        assert word in said
    for word in ("required rms", "corners", "95 %", "turned by 180 deg"):
        assert word in said
    drift, turn, *_, rms = figure.axes
    x = drift.get_lines()[0].get_ydata()
    assert x == pytest.approx(
        [2.3 * k for k in (0, 1, 2, 3, 5, 6)] - np.array([0, 0, 4.6, 0, 0, 0]), abs=1e-6
    )
    arcmin = turn.get_lines()[0].get_ydata()
    assert arcmin == pytest.approx([0.05 * 60 * k for k in (0, 1, 0, 3, 5, 6)], abs=1e-6)
    assert 0.2 in [line.get_ydata()[0] for line in rms.get_lines()]
    assert rms.get_ylim()[0] == 0


def test_without_times_frames_are_numbered(tmp_path: Path) -> None:
    figure = certificate(tmp_path / "out", timed=False, by_phase=(3,)).draw_night()
    assert "UTC" not in words(figure)
    assert figure.axes[0].get_lines()[0].get_xdata().tolist() == [0, 1, 2, 3, 5, 6]
    assert "no rms (1)" in words(figure)


def test_a_pair_joins_the_same_stars(tmp_path: Path) -> None:
    from matplotlib.patches import ConnectionPatch

    proof = certificate(tmp_path / "out")
    with pytest.warns(UserWarning, match="--inputs FOLDER"):
        figure = proof.draw_pair(3)
    left, right = figure.axes
    lines = [artist for artist in figure.get_children() if isinstance(artist, ConnectionPatch)]
    assert 10 <= len(lines) <= 15
    frame = proof.night.frames[3]
    for line in lines:
        x, y = frame.to_reference(*line.xy1)
        assert np.hypot(x - line.xy2[0], y - line.xy2[1]) < 0.3
    assert len(left.collections[0].get_offsets()) == len(right.collections[0].get_offsets()) == N
    assert {str(n) for n in range(1, len(lines) + 1)} <= set(words(figure).split("\n"))
    assert "stars are shown: night/f03.fits.fz is not in ../night" in words(figure)
    assert f"{N} stars matched by asterism" in words(figure)
    assert proof.farthest() == 6
    with pytest.warns(UserWarning, match="f06"):
        assert "frame 6: f06.fits.fz" in words(proof.draw_pair())


def test_a_pair_falls_back_on_aligned_frames(tmp_path: Path) -> None:
    proof = certificate(tmp_path / "out")
    night = proof.night
    (night.folder / "aligned").mkdir()
    names = product_names([frame.file for frame in night.frames])
    data = np.random.default_rng(2).normal(100, 5, (3, NY // 2, NX // 2)).astype(np.float32)
    mask = np.zeros(data.shape, np.uint8)
    mask[:, :20] = 1
    for k in (2, 3):
        write_image(night.folder / "aligned" / names[k], data, variance=data, mask=mask)
    with pytest.warns(UserWarning, match="aligned frames are shown"):
        figure = proof.draw_pair(3)
    assert "aligned frames are shown" in words(figure)
    (image,) = figure.axes[0].get_images()
    assert image.get_extent() == [-0.5, NX - 0.5, -0.5, NY - 0.5]
    shown = np.ma.filled(image.get_array(), np.nan)
    assert shown.shape == (NY // 2, NX // 2)
    x, y = figure.axes[0].collections[0].get_offsets().T
    known = night.residuals[night.residuals["frame"] == 3]
    assert np.allclose(x, known["x_pix"])
    assert np.allclose(y, known["y_pix"])


@pytest.mark.parametrize(
    "frame, word",
    [(2, "is the reference"), (4, "was skipped: clouds"), (99, "frames 0 to 6"), (3, "not aligned on")],
)
def test_a_pair_that_cannot_be_drawn_is_refused(tmp_path: Path, frame: int, word: str) -> None:
    proof = certificate(tmp_path / "out", by_phase=(3,))
    with pytest.raises(InputError, match=word):
        proof.draw_pair(frame)


def test_inputs_that_are_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"f03\.fits\.fz is not in") as caught:
        certificate(tmp_path / "out").draw_pair(3, inputs=tmp_path)
    assert "--inputs" in caught.value.hint


def test_a_theme_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="light, dark"):
        certificate(tmp_path / "out").draw_night("sepia")


@pytest.mark.filterwarnings("ignore:no pictures")
@pytest.mark.parametrize("form", ["png", "svg"])
def test_figures_are_saved_and_listed(tmp_path: Path, form: str) -> None:
    proof = certificate(tmp_path / "out")
    paths = proof.save(form=form)
    assert {path.name for path in paths} == {f"{name}.{form}" for name in ("night", "residuals", "pair")}
    assert all(path.stat().st_size > 20_000 for path in paths)
    assert {f"certificate/{path.name}" for path in paths} <= set(proof.night.summary()["products"])
    before = [path.read_bytes() for path in paths]
    assert proof.save(form=form) == paths
    assert [path.read_bytes() for path in paths] == before


def test_without_stars_there_is_the_night_alone(tmp_path: Path) -> None:
    proof = certificate(tmp_path / "out", by_phase=(0, 1, 3, 5, 6))
    assert [path.name for path in proof.save()] == ["night.png"]
    with pytest.raises(InputError, match="no frame was aligned on stars"):
        proof.draw_residuals()


@pytest.mark.filterwarnings("ignore:no pictures")
def test_a_night_of_copies_has_no_scatter_and_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_certificate, "NOISE", 0.0)
    proof = certificate(tmp_path / "out")
    told = proof.to_mapping()
    assert told["rms"]["worst_pix"] < 1e-4
    assert told["systematic"]["fixed"]["verdict"] in ("unknown", "noise")
    assert len(proof.save()) == 3


def test_a_night_without_stars_speaks_of_none(tmp_path: Path) -> None:
    said = words(certificate(tmp_path / "out", on_tiles=True).draw_night())
    assert "Residuals of tiles of pixels" in said
    assert "too few stars" in said
    assert "FWHM" not in said


def test_arrows_stay_in_their_box() -> None:
    """However long and wherever: the longest are cut, and all shrink together if some still leave."""
    from difflapse.pipeline.figures import fit_arrows

    rng = np.random.default_rng(8)
    x, y = (g.ravel() for g in np.meshgrid(np.arange(40.5, NX, 60), np.arange(30.5, NY, 50)))
    dx, dy = rng.normal(0, 0.01, (2, len(x)))
    dx[3], dy[3] = 0.4, -0.1
    drawn_x, drawn_y, zoom, cut = fit_arrows(x, y, dx, dy, 4000.0, 0.03, SHAPE)
    assert cut[3]
    assert not cut[np.hypot(dx, dy) < 0.03].any()
    assert np.hypot(drawn_x[cut], drawn_y[cut]) == pytest.approx(0.03)
    assert np.arctan2(drawn_y, drawn_x) == pytest.approx(np.arctan2(dy, dx))
    assert (drawn_x[~cut] == dx[~cut]).all()
    tips = np.array([x + zoom * drawn_x, y + zoom * drawn_y])
    room = np.array([[NX - 0.5], [NY - 0.5]])
    assert (tips > -0.5 - 1e-6).all()
    assert (tips < room + 1e-6).all()
    assert min((tips + 0.5).min(), (room - tips).min()) == pytest.approx(0, abs=1e-6), (
        "no smaller than it must be"
    )
    assert fit_arrows(x, y, dx, dy, 100.0, 1.0, SHAPE)[2] == 100.0
    assert np.isfinite(fit_arrows(x, y, 0 * dx, 0 * dy, 7.0, 1.0, SHAPE)[2])

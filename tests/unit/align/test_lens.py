"""One lens for a night: star lists made by the simulator's own geometry, which shares no code with the fit."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from difflapse.align import asterism
from difflapse.align.camera import Camera
from difflapse.align.joint import FOLDS, Seen
from difflapse.align.lens import Lens, one_lens
from difflapse.align.poses import Pose, with_neighbours
from difflapse.align.view import AlignOptions, View
from difflapse.align.zenith import air_of, axes_of, header_lens, strength_of
from difflapse.errors import AlignError
from difflapse.model import Alignment, FrameFacts, Stars, Transform
from difflapse.synth import NightSpec, Truth, preset
from difflapse.synth.header import PlateSolution, plate_solution
from difflapse.synth.night import truth_of

SHAPE = (1390, 2084)
SIGMA = 0.05
"""Error of a star's position, px, each axis."""
Night = tuple[dict[int, FrameFacts], dict[int, Stars], dict[int, Alignment], Truth]


def spec_of(frames: int = 14, **more: object) -> NightSpec:
    given: dict[str, object] = {
        "clouds": 0,
        "streaks": 0,
        "comets": 0,
        "movers": 0,
        "variables": 0,
        "novae": 0,
    }
    # Wider in time than in frames: 14 frames span three hours, as 60 of the preset do.
    spec = preset("panoptes", frames=frames, shape=SHAPE, seed=5, **{**given, **more})  # type: ignore[arg-type]
    return replace(spec, clock=replace(spec.clock, cadence_s=(760, 770)))


def header_of(truth: Truth, k: int, rng: np.random.Generator) -> str:
    header = fits.Header()
    header["NAXIS1"], header["NAXIS2"] = SHAPE[1], SHAPE[0]
    for key, value in plate_solution(truth.frames[k].geometry, PlateSolution(), rng):
        header[key] = value
    return str(header.tostring())


def night(
    spec: NightSpec,
    reference: int,
    wcs: bool,
    faintest: float = 10.2,
    hidden: dict[int, float] | None = None,
    spurious: int = 0,
    align: bool = True,
) -> Night:
    """Facts, measured stars, and each frame's own alignment. `hidden`: frame -> share of its width that shows stars."""
    truth = truth_of(spec)
    rng = np.random.default_rng(3)
    bright = np.flatnonzero((truth.star_mag < faintest) & (truth.star_mag > 6.5))
    facts, stars = {}, {}
    for k, frame in enumerate(truth.frames):
        x, y, on = truth.star_pixels(k)
        some = bright[on[bright]]
        if hidden and k in hidden:
            some = some[x[some] < hidden[k] * SHAPE[1]]
        some = some[np.argsort(truth.star_mag[some], kind="stable")]
        px, py = x[some] + rng.normal(0, SIGMA, len(some)), y[some] + rng.normal(0, SIGMA, len(some))
        if spurious:
            # Beside a real star, where they are taken for it.
            at = rng.choice(len(px), spurious, replace=False)
            angle, far = rng.uniform(0, 2 * np.pi, spurious), rng.uniform(0.3, 2.0, spurious)
            px[at] += far * np.cos(angle)
            py[at] += far * np.sin(angle)
        n = len(px)
        flux = 10 ** (-0.4 * (truth.star_mag[some] - 15))
        # Such S/N and width that `position_variance` expects just SIGMA.
        snr = np.full(n, 0.6 * 2.2 / np.sqrt(SIGMA**2 - 0.03**2))
        stars[k] = Stars(px, py, flux, snr, np.full(n, 2.2), flux[None], np.zeros(n, bool))
        facts[k] = FrameFacts(
            "",
            f"{k}.fits",
            0,
            SHAPE,
            start_mjd=frame.start_mjd,
            exposure_s=frame.exposure_s,
            latitude_deg=spec.site.latitude_deg if wcs else None,
            longitude_deg=spec.site.longitude_deg if wcs else None,
            elevation_m=spec.site.elevation_m,
            wcs_header=header_of(truth, k, rng) if wcs else "",
        )
    own = {reference: Alignment(Transform.identity(), "reference", len(stars[reference]), 0.0)}
    for k in facts:
        if k != reference and align:
            views = [View(facts[n], stars[n], lambda: None) for n in (k, reference)]  # type: ignore[arg-type, return-value]
            try:
                own[k] = asterism.find(*views, AlignOptions())
            except AlignError:
                continue
    return facts, stars, own, truth


def errors(truth: Truth, reference: int, transforms: dict[int, Transform]) -> dict[int, float]:
    """Radial rms over the whole frame, px."""
    gx, gy = np.meshgrid(np.linspace(0, SHAPE[1] - 1, 21), np.linspace(0, SHAPE[0] - 1, 15))
    out = {}
    for k, t in transforms.items():
        if k != reference:
            x, y = t(gx, gy)
            tx, ty = truth.to_reference(k, reference, gx, gy)
            out[k] = float(np.sqrt(np.mean((x - tx) ** 2 + (y - ty) ** 2)))
    return out


def fitted(made: Night, reference: int, wanted: str = "auto") -> Lens:
    facts, stars, own, _ = made
    return one_lens({k: facts[k] for k in own}, {k: stars[k] for k in own}, own, reference, wanted)


def of(lens: Lens) -> dict[int, Transform]:
    return {k: a.transform for k, a in lens.alignments.items()}


@pytest.fixture(scope="module", params=[True, False], ids=["wcs", "no wcs"])
def clouded(request: pytest.FixtureRequest) -> tuple[Night, Lens]:
    """14 frames over three hours, down to 60 degrees from the zenith; one shows stars in a third of the field only."""
    made = night(spec_of(), 6, request.param, hidden={9: 0.33})
    return made, fitted(made, 6)


def test_a_clouded_frame_is_right_over_the_whole_field(clouded: tuple[Night, Lens]) -> None:
    """By itself it extrapolates; with the lens its stars need to tell its pointing only."""
    (_, stars, own, truth), lens = clouded
    n = len(stars[9])
    alone = errors(truth, 6, {9: own[9].transform})[9]
    together = errors(truth, 6, of(lens))[9]
    pointing = SIGMA * np.sqrt(2.0 / n)
    assert 0.3 * pointing < together < 6 * pointing
    assert together < 0.3 * alone


def test_clear_frames_are_as_right_as_their_stars_allow(clouded: tuple[Night, Lens]) -> None:
    """Four numbers from n stars of this and of the reference: SIGMA sqrt(2 * 4 / n), and the lens' share."""
    (_, stars, own, truth), lens = clouded
    found = errors(truth, 6, of(lens))
    alone = errors(truth, 6, {k: a.transform for k, a in own.items()})
    clear = [k for k in found if k != 9]
    expected = SIGMA * np.sqrt(8.0 / len(stars[6]))
    typical = float(np.median([found[k] for k in clear]))
    assert 0.2 * expected < typical < 2.5 * expected
    assert typical < float(np.median([alone[k] for k in clear]))
    assert lens.used >= len(clear) - 1


def test_the_rms_is_that_of_one_centroid_and_of_the_mean_of_the_others(clouded: tuple[Night, Lens]) -> None:
    """Radial: sqrt(2) SIGMA of this frame, and its 1 / sqrt(12 or 13) of the other frames' mean, whatever the frame.

    Against the reference alone, which the note tells, it is that of two centroids: 2 SIGMA.
    """
    (_, _, own, _), lens = clouded
    for k, a in lens.alignments.items():
        if k == 6:
            continue
        assert a.held_out is not None
        n = len(a.held_out)
        assert n == a.n_matched or a.transform is own[k].transform
        assert a.rms_pix == pytest.approx(SIGMA * np.sqrt(2 * (1 + 1 / 12.5)), rel=4 / np.sqrt(2 * n))
        radial = np.hypot(a.held_out.dx, a.held_out.dy)
        assert a.rms_pix == pytest.approx(float(np.sqrt(np.mean(radial**2))), rel=1e-5)
        assert a.p95_pix == pytest.approx(float(np.percentile(radial, 95)), rel=1e-5)
        beside = re.search(r"held out against the reference alone ([0-9.]+) px", a.note)
        assert beside is not None
        assert float(beside.group(1)) == pytest.approx(2 * SIGMA, rel=4 / np.sqrt(2 * n) + 0.01)
        if a.transform is not own[k].transform:
            assert a.note.startswith("the night's lens on ")


def test_what_a_frame_has_wrong_its_residuals_show_in_full() -> None:
    """A star of one of six frames is moved: had it a part in where the others put it, a sixth would be hidden."""
    made = night(spec_of(6), 2, True)
    facts, stars, own, truth = made
    before = fitted(made, 2, "lens").alignments[4].held_out
    assert before is not None
    middle = np.argsort(np.hypot(before.x - 0.5 * SHAPE[1], before.y - 0.5 * SHAPE[0]))[:3]
    for n in middle:
        star = int(np.argmin(np.hypot(stars[4].x - before.x[n], stars[4].y - before.y[n])))
        x = stars[4].x.copy()
        # Towards its place, so that it stays far from being clipped.
        by = -0.08 * np.sign(before.dx[n])
        x[star] += by
        after = fitted((facts, {**stars, 4: replace(stars[4], x=x)}, own, truth), 2, "lens").alignments[4]
        assert after.held_out is not None
        m = int(np.flatnonzero(after.held_out.x == np.float32(x[star]))[0])
        assert after.held_out.dx[m] - before.dx[n] == pytest.approx(by, rel=0.04)


def test_the_same_night_gives_the_same_and_is_not_written_to() -> None:
    made = night(spec_of(5), 2, True)
    before = {k: s.x.copy() for k, s in made[1].items()}
    first, second = fitted(made, 2, "lens"), fitted(made, 2, "lens")
    assert first.used == 4
    for k in first.alignments:
        a, b = (run.alignments[k].transform for run in (first, second))
        assert np.array_equal(a.matrix, b.matrix)
        assert np.array_equal(made[1][k].x, before[k])


def test_wrong_pairs_do_not_bend_it() -> None:
    """A sixth of the stars of each frame are off by 0.3 to 2 px."""
    made = night(spec_of(8), 3, True, spurious=60)
    found = errors(made[3], 3, of(fitted(made, 3, "lens")))
    expected = SIGMA * np.sqrt(8.0 / (len(made[1][3]) - 120))
    assert max(found.values()) < 4 * expected


@pytest.mark.parametrize("wcs", [True, False])
def test_a_meridian_flip_is_the_same_lens(wcs: bool) -> None:
    made = night(spec_of(10, flip_at=6), 3, wcs)
    lens = fitted(made, 3, "lens")
    found = errors(made[3], 3, of(lens))
    expected = SIGMA * np.sqrt(8.0 / len(made[1][3]))
    assert lens.used == 9
    assert all("lens" in lens.alignments[k].note for k in range(6, 10))
    assert max(found.values()) < 5 * expected


def test_without_drift_nothing_is_lost() -> None:
    """Then the lens cannot be told, and need not be: frames differ by next to nothing."""
    spec = spec_of(8)
    still = replace(spec.mount, rate_arcsec_s=0.0, polar_deg=0.0, periodic_arcsec=0.0, jitter_arcsec=0.3)
    made = night(replace(spec, mount=still, site=replace(spec.site, refraction=False)), 3, False)
    lens = fitted(made, 3, "lens")
    found = errors(made[3], 3, of(lens))
    assert np.median(list(found.values())) < 2.5 * SIGMA * np.sqrt(8.0 / len(made[1][3]))


@pytest.mark.parametrize("faintest", [7.3, 7.6])
def test_eight_stars_carry_poses_and_no_distortion(faintest: float) -> None:
    """8 or 16 stars: four numbers from n stars of two frames, and what drift shows of the distortion."""
    made = night(spec_of(6), 2, True, faintest=faintest)
    n = min(len(s) for s in made[1].values())
    assert 7 <= n <= 16
    lens = fitted(made, 2, "lens")
    found = errors(made[3], 2, of(lens))
    assert lens.used >= 3
    expected = SIGMA * np.sqrt(8.0 / n)
    assert 0.2 * expected < np.median(list(found.values())) < 2.5 * expected


@pytest.mark.parametrize("wanted", ["auto", "lens"])
def test_two_frames_keep_their_own_and_say_why(wanted: str) -> None:
    facts, stars, own, _ = night(spec_of(2), 0, True)
    lens = one_lens(facts, stars, own, 0, wanted)
    assert lens.camera is None and lens.used == 0
    assert "2 frames" in lens.line and "needs 3" in lens.line
    assert lens.alignments[1].transform is own[1].transform
    assert ("no lens: 2 frames" in lens.alignments[1].note) == (wanted == "lens")


def test_frames_that_are_not_like_the_reference_stay_as_they_are() -> None:
    facts, stars, own, _ = night(spec_of(6), 2, True)
    mirror = np.array([[-1.0, 0, SHAPE[1] - 1.0], [0, 1, 0], [0, 0, 1]])
    own[0] = replace(own[0], transform=Transform("affine", mirror))
    own[1] = replace(own[1], held_out=None)
    lens = one_lens(facts, stars, own, 2, "lens")
    assert lens.used == 3
    for k in (0, 1):
        assert lens.alignments[k].transform is own[k].transform
        assert "no lens: not aligned on stars, or not like the reference" in lens.alignments[k].note


def test_a_camera_sees_what_the_simulator_makes() -> None:
    """Refraction, pose and distortion against the simulator's closed form, to its own refraction's rounding."""
    spec = spec_of(6)
    truth = truth_of(spec)
    facts = night(spec, 2, True, align=False)[0]
    found = axes_of(facts[2])
    assert found is not None
    axes, focal = found
    g = truth.frames[2].geometry
    assert focal == pytest.approx(206264.806 / 10.3, rel=2e-3)
    middle = g.pixel_to_sky(0.5 * (SHAPE[1] - 1), 0.5 * (SHAPE[0] - 1))
    assert np.degrees(np.arccos(np.clip(axes[2] @ _unit(*middle), -1, 1))) * 3600 < 2 * 10.3
    air = air_of(facts[2], np.array([truth.frames[5].mid_mjd]), axes)
    assert air is not None
    # Mean sidereal time and the pole of date: a hundredth of a degree; the frame's middle a tenth of a pixel or so.
    assert np.degrees(np.arccos(np.clip(air.at(0) @ (axes @ truth.frames[5].geometry.zenith), -1, 1))) < 0.02
    assert strength_of(facts[2])[0] == pytest.approx(g.refraction, rel=0.06)
    lens = header_lens(facts[2], found, 5)
    assert lens is not None
    corner = np.abs(
        lens.straighten(lens.basis(np.array([0.0]), np.array([0.0])))[0][0] + 0.5 * (SHAPE[1] - 1)
    )
    assert 0.05 < corner < 5.0


def _unit(ra: float, dec: float) -> np.ndarray:
    a, d = np.radians(ra), np.radians(dec)
    return np.array([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])


def test_a_camera_and_back() -> None:
    rng = np.random.default_rng(1)
    camera = replace(
        Camera.perfect(SHAPE, 5, 20000.0), coefficients=rng.normal(0, 1.0, (2, 18)), refraction=0.8
    )
    zenith = np.array([0.3, 0.6, 0.74])
    zenith /= np.linalg.norm(zenith)
    pose = np.array([55.0, -120.0, 2.9, 1e-4])
    x, y = rng.uniform(0, SHAPE[1], 200), rng.uniform(0, SHAPE[0], 200)
    sky = camera.to_sky(x, y, pose, zenith)
    u, v = camera.from_sky(*sky, pose, zenith, (x + 2.0, y - 3.0))
    assert np.hypot(u - x, v - y).max() < 1e-5
    # The pose is where the middle truly points.
    at = camera.to_sky(*(np.array([c]) for c in camera.centre), pose, zenith)
    bent = camera.straighten(camera.basis(*(np.array([c]) for c in camera.centre)))
    assert np.hypot(at[0] - pose[0], at[1] - pose[1]) < 1e-3 + np.hypot(*bent)


def test_a_frame_without_stars_is_led_by_its_neighbours() -> None:
    """Roll grows evenly and scatters by 1e-6; a frame whose stars say nothing of it gets what lies between."""
    rng = np.random.default_rng(2)
    times = np.arange(12.0)
    none = Seen(np.zeros(0, int), np.zeros(0), np.zeros(0), np.zeros(0))
    poses = []
    for t in times:
        pose = np.array([3.0 * t, -t, 1e-4 * t + rng.normal(0, 1e-6), rng.normal(0, 1e-6)])
        information = np.diag([1e6, 1e6, 1e12, 1e12]) / FOLDS
        if t == 7:
            pose[2] += 1e-3
            information = np.diag([1e2, 1e2, 1e4, 1e4]) / FOLDS
        poses.append(
            Pose(pose, np.array([information] * FOLDS), np.zeros((FOLDS, 4)), none, np.zeros((0, 2)))
        )
    found = with_neighbours(poses, times)
    assert abs(found[7].pose[2] - 7e-4) < 4e-6
    # What its stars do tell is kept: frames do point where the wind blows them.
    for t in (2, 4, 9):
        assert abs(found[t].pose[2] - poses[t].pose[2]) < 3e-6

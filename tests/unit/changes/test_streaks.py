"""Streaks: how faint they may be, how many noise makes, their ends and widths, and what is none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from difflapse.changes import cells as cells_room
from difflapse.changes import radon, streaks
from difflapse.changes.find import flatten
from difflapse.changes.kinds import of_streak
from difflapse.changes.streaks import find_streaks, least_snr
from difflapse.model import ProductGrid
from difflapse.model.sightings import Change, Sightings

SHAPE = (420, 610)
GRID = ProductGrid(SHAPE, 1, (0, 0))
FWHM = 1.4
SIGMA = FWHM / 2.3548


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(SHAPE, np.float32)


def line(
    x0: float, y0: float, x1: float, y1: float, fwhm: float = FWHM, bend: float = 0.0, flashes: float = 0.0
) -> np.ndarray:
    """A Gaussian line of unit light per pixel of length; its middle lies aside by `bend`, and it flashes so fast."""
    sigma = fwhm / 2.3548
    length = np.hypot(x1 - x0, y1 - y0)
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    v, u = np.indices(SHAPE, dtype=np.float32)
    along, across = (u - x0) * ux + (v - y0) * uy, (v - y0) * ux - (u - x0) * uy
    part = along / length
    across = across - 4 * bend * part * (1 - part)
    bright = 1 + 0.8 * np.sin(2 * np.pi * along / flashes) if flashes else 1.0
    shape = np.exp(-0.5 * (across / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma)
    return np.asarray(shape * bright * ((along >= 0) & (along <= length)), np.float32)


def of_snr(snr: float, shape: np.ndarray) -> np.ndarray:
    """A thing with the S/N that the best filter for its own shape has in noise of unit sigma."""
    return np.asarray(shape * (snr / np.sqrt((shape**2).sum())), np.float32)


def search(sigma: np.ndarray, floor: float = 6.9, light: np.ndarray | None = None) -> Sightings:
    return find_streaks(flatten(sigma), GRID, FWHM, floor, 0, light)


def aside(found: Sightings, n: int, x0: float, y0: float, x1: float, y1: float) -> float:
    """How far both ends found lie from a line, at most."""
    length = np.hypot(x1 - x0, y1 - y0)
    away = [
        abs((x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)) / length
        for x, y in ((found.x[n], found.y[n]), (found.x_end[n], found.y_end[n]))
    ]
    return float(max(away))


def drawn(rng: np.random.Generator, crosses: bool) -> tuple[float, float, float, float]:
    """Both ends of a line that lies inside by its whole length, or of one that leaves the picture at both."""
    while True:
        angle, half = rng.uniform(0, np.pi), 900.0 if crosses else rng.uniform(60, 180)
        x, y = rng.uniform(0.3, 0.7) * SHAPE[1], rng.uniform(0.3, 0.7) * SHAPE[0]
        dx, dy = half * np.cos(angle), half * np.sin(angle)
        ends = (x - dx, y - dy, x + dx, y + dy)
        inside = min(ends) > 5 and max(ends[::2]) < SHAPE[1] - 5 and max(ends[1::2]) < SHAPE[0] - 5
        if crosses or inside:
            return ends


@pytest.fixture(params=["all cells", "2x2 cells"])
def first_look(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which lines are first looked for: the second as in large pictures."""
    if request.param == "2x2 cells":
        monkeypatch.setattr(streaks, "_FINE", 0)
    return str(request.param)


@pytest.mark.usefixtures("first_look")
@pytest.mark.parametrize(
    ("snr", "crosses", "least", "most"),
    [
        (10.0, False, 0.95, 1.0),
        (8.5, True, 0.95, 1.0),
        (7.5, False, 0.25, 0.85),
        (6.8, True, 0.35, 0.95),
        (4.0, False, 0.0, 0.04),
        (3.5, True, 0.0, 0.04),
    ],
)
def test_streaks_are_found_as_their_light_allows(
    snr: float, crosses: bool, least: float, most: float
) -> None:
    """40 lines of any place and direction, at 0.1 false ones in a night of 24 frames of this size.

    What is asked of a line that crosses the picture is 0.8 sigma less. The flattening takes 7 % of the S/N away, the
    choice of the best path gives some 0.3 sigma back.
    """
    rng = np.random.default_rng(int(100 * snr) + crosses)
    floor = least_snr(SHAPE[0] * SHAPE[1], FWHM, 24, 0.1)
    hits, count = 0, 40
    for n in range(count):
        ends = drawn(rng, crosses)
        found = search(noise(1000 + n) + of_snr(snr, line(*ends)), floor)
        hits += any(aside(found, m, *ends) < 3 for m in range(len(found)))
    assert least * count <= hits <= most * count


@pytest.mark.usefixtures("first_look")
def test_noise_makes_as_many_streaks_as_are_allowed() -> None:
    """150 frames at 0.2 a frame are 30; pictures as small as these have more edge for their area, and some more."""
    floor = least_snr(SHAPE[0] * SHAPE[1], FWHM, 1, 0.2)
    count = sum(len(search(noise(n), floor)) for n in range(150))
    assert 12 <= count <= 85


def test_more_is_asked_of_larger_pictures_longer_nights_and_fewer_false_alarms() -> None:
    usual = least_snr(1_000_000, FWHM, 24, 0.1)
    assert 6.5 < usual < 7.3
    for other in (
        least_snr(4_000_000, FWHM, 24, 0.1),
        least_snr(1_000_000, FWHM, 96, 0.1),
        least_snr(1_000_000, FWHM, 24, 0.025),
    ):
        assert other - usual == pytest.approx(np.log(4) / (usual - 4 / usual), rel=0.1)
    assert least_snr(1_000_000, 2 * FWHM, 24, 0.1) == pytest.approx(
        least_snr(250_000, FWHM, 24, 0.1), abs=1e-6
    )


def test_dark_lines_are_none() -> None:
    assert len(search(noise(1) - of_snr(40, line(100.3, 50.2, 420.8, 330.1)))) == 0


@pytest.mark.usefixtures("first_look")
@pytest.mark.parametrize("width", [1.0, 3.0])
def test_ends_and_width_are_those_of_the_streak(width: float) -> None:
    """S/N 60: ends to 6 px along (where it has S/N 8 and 10), 0.3 px across; widths to 12 %."""
    ends = (100.3, 50.2, 480.8, 350.1)
    found = search(noise(2) + of_snr(60, line(*ends, fwhm=width * FWHM)))
    assert len(found) == 1
    own = sorted([(found.x[0], found.y[0]), (found.x_end[0], found.y_end[0])])
    for (x, y), (tx, ty) in zip(own, (ends[:2], ends[2:]), strict=True):
        assert np.hypot(x - tx, y - ty) < 6
    assert aside(found, 0, *ends) < 0.3 * width
    # The mean about it that is taken off has a part of it, and a filter as wide as a star has less of a wider line.
    assert found.snr[0] == pytest.approx(60 * (0.88 if width == 1 else 0.57), rel=0.12)
    assert found.width[0] == pytest.approx(width * FWHM, rel=0.12)


@pytest.mark.usefixtures("first_look")
def test_a_bent_streak_is_one_and_keeps_its_light() -> None:
    """3 px aside in its middle, as a lens bends it: a straight line has less than half of it."""
    ends = (40.3, 50.2, 570.8, 300.1)
    found = search(noise(3) + of_snr(15, line(*ends, bend=3.0)))
    assert len(found) == 1
    assert found.snr[0] == pytest.approx(14, abs=2.5)
    assert aside(found, 0, *ends) < 2
    assert np.hypot(found.x_end[0] - found.x[0], found.y_end[0] - found.y[0]) == pytest.approx(586, abs=40)


def test_flashes_are_told_from_a_steady_light_where_noise_allows() -> None:
    ends = (40.3, 20.2, 550.8, 400.1)
    for n in range(4):
        steady = search(noise(10 + n) + of_snr(25, line(*ends)))
        flashing = search(noise(20 + n) + of_snr(25, line(*ends, flashes=85.0)))
        assert len(steady) == len(flashing) == 1
        assert steady.sharpness[0] > 0.9
        assert flashing.sharpness[0] < 0.6
    faint = search(noise(31) + of_snr(9, line(*ends)))
    assert len(faint) == 1
    assert np.isnan(faint.sharpness[0])


def test_a_streak_that_a_mask_cuts_is_one() -> None:
    ends = (40.3, 60.2, 570.8, 370.1)
    sigma = noise(4) + of_snr(30, line(*ends))
    sigma[:, 250:330] = np.nan
    found = search(sigma)
    assert len(found) == 1
    assert np.hypot(found.x_end[0] - found.x[0], found.y_end[0] - found.y[0]) == pytest.approx(614, abs=15)


def test_a_faint_streak_beside_a_bright_one_is_found_too() -> None:
    bright, faint = (40.3, 60.2, 570.8, 370.1), (60.0, 380.0, 400.0, 100.0)
    found = search(noise(5) + of_snr(300, line(*bright)) + of_snr(14, line(*faint)))
    assert len(found) == 2
    assert aside(found, 0, *bright) < 1 and aside(found, 1, *faint) < 2
    assert found.snr[0] > 150 and found.snr[1] == pytest.approx(13, abs=3)


def test_what_stars_leave_is_no_streak() -> None:
    """Stars in a row, each with residuals of 6 sigma where the template is bright; a streak through them is one."""
    light = np.zeros(SHAPE, np.uint8)
    rng = np.random.default_rng(6)
    left = np.zeros(SHAPE, np.float32)
    for _ in range(150):
        cv2.circle(light, (int(rng.integers(SHAPE[1])), int(rng.integers(SHAPE[0]))), 3, 6, -1)
    for k in range(12):
        cv2.circle(light, (150 + 9 * k, 200 + 5 * k), 3, 6, -1)
        left[200 + 5 * k, 150 + 9 * k] = 12
    wide = rng.normal(0, 0.7, SHAPE).astype(np.float32) * (light > 0)
    sigma = noise(6) + wide + cv2.GaussianBlur(left, (0, 0), SIGMA) * 4
    assert len(search(sigma, light=light)) == 0
    ends = (30.0, 400.0, 560.0, 30.0)
    found = search(sigma + of_snr(14, line(*ends)), light=light)
    assert len(found) == 1
    assert aside(found, 0, *ends) < 2


@pytest.mark.parametrize("tilt", [0.0, 0.02])
def test_rows_of_a_readout_are_no_streaks(tilt: float) -> None:
    """Offsets of 0.15 sigma a row, turned by a degree or not; a true streak is found among them."""
    v, u = np.indices(SHAPE, dtype=np.float32)
    offsets = np.random.default_rng(7).normal(0, 0.15, SHAPE[0] + 40).astype(np.float32)
    rows = np.interp((v + tilt * u).ravel(), np.arange(len(offsets)), offsets).reshape(SHAPE)
    sigma = noise(8) + rows.astype(np.float32)
    assert len(search(sigma)) == 0
    ends = (60.3, 40.2, 500.8, 350.1)
    found = search(sigma + of_snr(14, line(*ends)))
    assert len(found) == 1 and aside(found, 0, *ends) < 2


def test_a_clouds_edge_and_a_trailed_star_are_no_streaks() -> None:
    v, u = np.indices(SHAPE, dtype=np.float32)
    edge = 3 / (1 + np.exp(-((u - 0.4 * v) - 200) / 6))
    assert len(search(noise(9) + edge.astype(np.float32))) == 0
    assert len(search(noise(9) + of_snr(80, line(300.2, 200.1, 318.7, 206.5)))) == 0


def test_what_is_all_masked_or_too_small_has_no_streaks() -> None:
    assert len(search(np.full(SHAPE, np.nan, np.float32))) == 0
    small = np.random.default_rng(0).standard_normal((40, 500), np.float32)
    assert len(find_streaks(small, ProductGrid((40, 500), 1, (0, 0)), FWHM, 6.9)) == 0


def told(
    ends: tuple[float, float, float, float],
    steady: float,
    *,
    width: float = 2.8,
    frames: int = 1,
    moved: tuple[float, float] = (0.0, 0.0),
    minutes: float | None = 2.0,
) -> str:
    """What is said of a streak on a reference of 3000 x 2000."""
    one = np.ones(1)
    x, y, x_end, y_end = (v * one for v in ends)
    streak = Sightings(
        np.zeros(1, np.int32), x, y, 30 * one, width * one, np.zeros(1, np.int32), x_end, y_end,
        x_frame=x + moved[0], y_frame=y + moved[1], sharpness=steady * one,
    )  # fmt: skip
    change = Change(
        "streak", ends[0], ends[1], 4, 3 + frames, 30.0, 30.0, np.zeros(1, int),
        x_end=ends[2], y_end=ends[3], width=width,
    )  # fmt: skip
    return of_streak(change, streak, (2000, 3000), minutes, 2.7).note


def test_what_speaks_for_a_satellite_a_plane_or_a_meteor() -> None:
    across, inside = (0.0, 300.0, 2999.0, 1500.0), (700.0, 300.0, 1500.0, 900.0)
    assert told(across, 1.0) == "satellite: it crosses the frame, 3230 px long, steady"
    assert told(inside, 1.0).startswith("meteor, or a satellite that is high")
    assert "both ends inside the frame, 1000 px long in 120 s, steady" in told(inside, 1.0)
    assert told(inside, 1.0, minutes=0.5).startswith("satellite, or a meteor: ")
    assert told(across, 0.3).startswith("tumbling satellite, or a plane's lights: ")
    # What noise hides is not called flashing.
    assert told(across, float("nan")).endswith("too faint to tell whether it flashes")
    assert told(across, float("nan")).startswith("satellite: ")
    assert told(across, 0.3, width=9.0).startswith("a plane: ") and "3.3 times as wide" in told(
        across, 0.3, width=9.0
    )
    assert told(inside, 1.0, frames=2).startswith("satellite: ")


def test_a_streak_leaves_its_own_frame_wherever_that_lies_on_the_reference() -> None:
    """The frame is 60 px to the right of the reference; or turned by half a circle."""
    assert "one end inside" in told((60.0, 300.0, 1500.0, 900.0), 1.0, moved=(-60.0, 4.0))
    assert "both ends inside" in told((60.0, 300.0, 1500.0, 900.0), 1.0)
    ends = (2990.0, 300.0, 1500.0, 900.0)
    assert "one end inside" in told(ends, 1.0, moved=(2999.0 - 2 * ends[0], 1999.0 - 2 * ends[1]))


def test_halves_are_odd_unbiased_and_bounded() -> None:
    """Sums of four odd numbers over 2: no brighter on the whole, however fine the numbers."""
    rng = np.random.default_rng(8)
    for parts in (1, 4, 8):
        top = 3 * parts
        cells = (2 * np.floor(np.clip(rng.normal(size=(601, 803)) * parts, -top, top - 0.1) / 2) + 1).astype(
            np.int8
        )
        out = np.empty((300, 401), np.int8)
        cells_room._halved(cells, np.int32(81), out)
        assert np.all(out % 2 == 1)
        whole = cells[:600, :802].astype(int).reshape(300, 2, 401, 2).sum(axis=(1, 3)) / 2
        assert np.abs(out - whole).max() <= 1
        error = (out - whole).std() / np.sqrt(out.size)
        assert abs((out - whole).mean()) < 4 * error
        for along in (out - whole).mean(axis=0), (out - whole).mean(axis=1):
            assert np.abs(along).max() < 6 * error * np.sqrt(len(along))
    bright = np.full((4, 6), 23, np.int8)
    bright[:2, :2] = 0
    bright[2, 0] = bright[2, 1] = bright[3, 0] = 0
    out = np.empty((2, 3), np.int8)
    cells_room._halved(bright, np.int32(31), out)
    assert out.tolist() == [[0, 31, 31], [11, 31, 31]]
    cells_room._halved(-bright, np.int32(31), out)
    assert out.tolist() == [[0, -31, -31], [-11, -31, -31]]


@pytest.mark.parametrize("shape, most", [((9, 7), 127), ((800, 11), 81)])
def test_sums_of_bright_cells_stay_within_their_bytes(shape: tuple[int, int], most: int) -> None:
    """Those of a small picture within a byte, those of a tall one so that a whole column of them is 16 bits."""
    bright = np.full(shape, 119, np.int8)
    for sign in (1, -1):
        upright, turned = cells_room.halves_of(sign * bright)
        assert upright.shape == (shape[0] // 2, shape[1] // 2)
        assert np.array_equal(turned, upright.T)
        assert (upright == sign * most).all()
        assert abs(int(upright[:, 0].sum())) <= 32767


@pytest.mark.parametrize("size", [1, 3])
def test_cells_are_what_whole_images_make_of_them(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, filter and scale by OpenCV and numpy, with a tenth of the pixels hidden, not levelled."""
    monkeypatch.setattr(cells_room, "_STRIPED", np.inf)
    sigma = noise(5) + 4 * line(50.3, 60.8, 500.2, 380.4)
    light = np.zeros(SHAPE, np.uint8)
    light[100:180, 200:330] = 7
    sigma[light > 0] *= 1.4
    sigma[np.random.default_rng(6).random(SHAPE) < 0.1] = np.nan
    cells = cells_room.cells_of(sigma, light, FWHM, size)
    assert cells is not None
    assert cells_room.cells_of(np.full(SHAPE, np.nan, np.float32), None, FWHM, size) is None
    weight = np.where(light > 0, cells_room._weights(sigma, light)[7], np.float32(1))
    assert weight.min() == pytest.approx(1.4**-2, abs=0.04)
    data = np.nan_to_num(sigma) * weight
    soft = cv2.GaussianBlur(data, (0, 0), max(FWHM, 1.5 * size) / 2.3548)
    soft, seen = (v[size // 2 :: size, size // 2 :: size] for v in (soft, np.isfinite(sigma)))
    soft = soft / (1.4826 * np.median(np.abs(soft[::5, ::3][seen[::5, ::3]])))
    soft = np.where(seen, soft - np.clip(soft[seen], -3, 3).mean(dtype=float), 0)
    assert np.abs(cells.picture - soft).max() < 1e-4
    clipped = np.clip(soft, -3, 3)
    assert np.array_equal(cells.upright == 0, ~seen)
    assert np.abs(cells.upright * cells.step - clipped)[seen].max() < 1.001 * cells.step
    assert np.array_equal(cells.turned, cells.upright.T)


@pytest.mark.parametrize("turned", [False, True])
def test_offsets_of_rows_and_columns_are_taken_off(turned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, or columns, that differ by a third of a sigma: their means are no less alike than if they did not."""
    shape = SHAPE[::-1] if turned else SHAPE
    rng = np.random.default_rng(9)
    sigma = rng.standard_normal(shape, np.float32)
    offset = 0.33 * rng.standard_normal((shape[0], 1), np.float32)
    scatter = []
    for data, striped in ((sigma, 1.12), (sigma + offset, 1.12), (sigma + offset, np.inf)):
        monkeypatch.setattr(cells_room, "_STRIPED", striped)
        found = cells_room.cells_of(np.ascontiguousarray(data.T if turned else data), None, FWHM, 1)
        assert found is not None
        # Nothing else is touched.
        assert 0.8 < found.picture.std() < 1.1
        scatter.append(found.picture.mean(axis=0 if turned else 1).std())
    assert scatter[1] < 1.2 * scatter[0]
    assert scatter[1] < 0.15 * scatter[2]


@pytest.mark.parametrize("shape", [(1, 40), (2, 40), (64, 3)])
def test_lines_of_a_picture_with_hardly_any_rows_or_columns(shape: tuple[int, int]) -> None:
    found = radon.strongest(np.ones(shape, np.int16), 2, np.ones(2 * shape[0] + 1), 1e3)
    assert found.shape == (0, 5)

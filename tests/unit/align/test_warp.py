"""Warping: pixels land where the transform says, in all colours alike, with an honest mask and noise."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.align.warp import BadPixels, Unsplit, Warped, warp, warp_light
from difflapse.model import ProductGrid, Transform, bits
from difflapse.model.transform import powers
from difflapse.mosaic import sites, split

SHAPE = (261, 391)
NY, NX = SHAPE
CX, CY = (NX - 1) / 2, (NY - 1) / 2


def about_centre(matrix: list[list[float]], shift: tuple[float, float]) -> Transform:
    m = np.array(matrix)
    return Transform.from_matrix(np.column_stack([m, [CX, CY] - m @ [CX, CY] + shift]))


def turned(angle: float, scale: float = 1.0, shift: tuple[float, float] = (3.3, -1.7)) -> Transform:
    c, s = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    return about_centre([[c, -s], [s, c]], shift)


def bent() -> Transform:
    rng = np.random.default_rng(4)
    coefficients = rng.uniform(-0.4, 0.4, (2, len(powers(3))))
    matrix = np.array([[1, 0, 12.4], [0, 1, -7.3], [0, 0, 1]])
    return Transform("polynomial", matrix, coefficients, (CX, CY), 235.0, (0, 0, NX - 1, NY - 1))


TRANSFORMS = {
    "identity": Transform.identity(),
    "shift": turned(0.0, shift=(-7.37, 12.81)),
    "drift": turned(0.3, 1.0004),
    "3 degrees": turned(3.0),
    "37 degrees": turned(37.0),
    "quarter turn": turned(90.0),
    "half turn": turned(180.0, shift=(31.4, -18.7)),
    "nearly a half turn": turned(181.5),
    "mirror in x": about_centre([[-1, 0], [0, 1]], (3.3, -1.7)),
    "mirror in y": about_centre([[1, 0], [0, -1]], (3.3, -1.7)),
    "mirror and 20 degrees": about_centre([[-0.94, 0.342], [0.342, 0.94]], (0.3, 4.2)),
    "scale 2": turned(4.0, 2.0),
    "scale 0.7": turned(-8.0, 0.7),
    "homography": Transform("homography", np.array([[1.02, 0.01, 3], [-0.02, 0.98, 5], [4e-5, -3e-5, 1]])),
    "polynomial": bent(),
}


def scene(x: np.ndarray, y: np.ndarray, width: float = 6.0) -> np.ndarray:
    """A sky of wide stars, known everywhere."""
    rng = np.random.default_rng(1)
    out = np.full(np.shape(x), 100.0)
    for a, b, f in zip(
        rng.uniform(5, NX - 6, 40), rng.uniform(5, NY - 6, 40), rng.uniform(50, 500, 40), strict=True
    ):
        out = out + f * np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * width**2))
    return out


def image() -> np.ndarray:
    y, x = np.indices(SHAPE).astype(float)
    return scene(x, y)


def native_of(transform: Transform, grid: ProductGrid) -> tuple[np.ndarray, np.ndarray]:
    """Where on the frame each product pixel comes from."""
    j, i = np.indices(grid.shape).astype(float)
    return transform.inverse(*grid.to_native(i, j))


def warped(
    data: np.ndarray, pattern: str, transform: Transform, grid: ProductGrid | None = None, **more: object
) -> Warped:
    grid = grid or ProductGrid.whole(data.shape, pattern)
    return warp(split(data, pattern), sites(pattern), transform, grid, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(TRANSFORMS))
@pytest.mark.parametrize("pattern", ["", "GBRG", "RGGB"])
def test_every_pixel_lands_where_the_transform_says(pattern: str, name: str) -> None:
    """The known scene at the mapped places, in every colour: no plane may be off by its site's phase."""
    transform = TRANSFORMS[name]
    grid = ProductGrid.whole(SHAPE, pattern)
    result = warped(image(), pattern, transform)
    x, y = native_of(transform, grid)
    # At the frame's edge half of the kernel has nothing to take from.
    good = (result.mask == 0) & (x > 6) & (y > 6) & (x < NX - 8) & (y < NY - 8)
    assert good.mean() > 0.15
    truth = scene(x, y)[good]
    h = 0.01
    slope = np.stack([scene(x + h, y) - scene(x - h, y), scene(x, y + h) - scene(x, y - h)], axis=-1)[
        good
    ] / (2 * h)
    for plane in result.data:
        error = plane[good] - truth
        # Interpolating a star of sigma 6 px between samples 1 or 2 px apart errs by 2e-3 of its height.
        assert np.abs(error).max() < (2.0 if pattern else 0.2)
        shift, *_ = np.linalg.lstsq(slope, error, rcond=None)
        # Cubics pull towards samples: 0.005 px for samples 2 px apart. Between its nodes the map is taken for
        # linear, which the strongest curvature here makes wrong by 0.003 px per px between samples.
        assert np.abs(shift).max() < (0.008 if pattern else 0.003 if name == "homography" else 0.001)


@pytest.mark.parametrize("kind", ["uint16", "float32"])
@pytest.mark.parametrize("name", list(TRANSFORMS))
@pytest.mark.parametrize("pattern", ["", "GBRG", "RGGB"])
def test_a_frame_need_not_be_split_first(pattern: str, name: str, kind: str) -> None:
    """Bit by bit as from its planes: a mosaic of odd size has a last row and column that no cell holds."""
    rng = np.random.default_rng(6)
    data = rng.integers(90, 60_000, SHAPE).astype(kind)
    x, y = rng.uniform(0, NX, 30), rng.uniform(0, NY, 30)
    bad = BadPixels(np.floor(x), np.floor(y), np.full(30, bits.SATURATED, np.uint8))
    grid, place = ProductGrid.whole(SHAPE, pattern), sites(pattern)
    for kernel in ("cubic", "lanczos3"):
        planes = warp(split(data, pattern, 77.0), place, TRANSFORMS[name], grid, bad, kernel)
        whole = warp(Unsplit(data, pattern, 77.0), place, TRANSFORMS[name], grid, bad, kernel)
        assert np.array_equal(planes.data, whole.data)
        assert np.array_equal(planes.mask, whole.mask)
        assert np.array_equal(planes.coverage, whole.coverage)


def test_whole_shifts_of_a_monochrome_frame_are_exact_copies() -> None:
    data = np.random.default_rng(2).normal(500, 30, SHAPE).astype(np.float32)
    result = warped(data, "", Transform.from_matrix(np.array([[1.0, 0, -17], [0, 1, 5]])))
    assert np.array_equal(result.data[0, 5:, : NX - 17], data[: NY - 5, 17:])
    assert (result.mask[5:, : NX - 17] == 0).all()
    assert (result.mask[:5] == bits.OUTSIDE).all()
    assert (result.mask[:, NX - 17 :] == bits.OUTSIDE).all()


@pytest.mark.parametrize("name", list(TRANSFORMS))
@pytest.mark.parametrize("pattern", ["", "GBRG"])
def test_mask_and_coverage_say_what_is_inside(pattern: str, name: str) -> None:
    transform = TRANSFORMS[name]
    result = warped(image(), pattern, transform)
    grid = ProductGrid.whole(SHAPE, pattern)
    x, y = native_of(transform, grid)
    assert set(np.unique(result.coverage)) <= {0.0, 1.0}
    assert np.array_equal(result.mask == bits.OUTSIDE, result.coverage == 0)
    assert (result.data[:, result.coverage == 0] == 0).all()
    # Every site must surround the point: a mosaic's last sites end a pixel earlier than its first ones begin.
    edge = 1.0 if pattern else 0.0
    x1, y1 = (NX - 2 - edge, NY - 2 - edge) if pattern else (NX - 1, NY - 1)
    slack = 0.01
    # Stretched over 1.4 samples, pixels about the edge take too much from beyond it.
    deep = 1.4 * (2 if pattern else 1) if name == "scale 0.7" else slack
    inside = (x >= edge + deep) & (y >= edge + deep) & (x <= x1 - deep) & (y <= y1 - deep)
    outside = (x < edge - slack) | (y < edge - slack) | (x > x1 + slack) | (y > y1 + slack)
    assert (result.coverage[inside] == 1).all()
    assert (result.coverage[outside] == 0).all()


@pytest.mark.parametrize("shift", [(1e5, 0.0), (0.0, -4000.0), (391.0, 261.0)])
def test_a_frame_that_shares_nothing_is_all_outside(shift: tuple[float, float]) -> None:
    result = warped(image(), "GBRG", turned(0.0, shift=shift))
    assert (result.mask == bits.OUTSIDE).all()
    assert (result.data == 0).all()
    assert (result.coverage == 0).all()


def test_where_the_transform_has_no_inverse_there_is_nothing() -> None:
    coefficients = np.zeros((2, len(powers(2))))
    coefficients[0, powers(2).index((2, 0))] = -0.002
    folded = Transform("polynomial", np.eye(3), coefficients)
    result = warped(image(), "", folded)
    assert (result.mask[:, 128:] == bits.OUTSIDE).all()
    assert (result.mask[:, 2:112] == 0).all()
    assert np.isfinite(result.data).all()


@pytest.mark.parametrize("shape", [(8, 8), (9, 13), (260, 16), (17, 390)])
@pytest.mark.parametrize("pattern", ["", "RGGB"])
def test_small_frames_are_warped_too(pattern: str, shape: tuple[int, int]) -> None:
    y, x = np.indices(shape).astype(float)
    transform = Transform.from_matrix(np.array([[1.0, 0, 0.6], [0, 1, 1.2]]))
    result = warped(3 * x + 5 * y, pattern, transform)
    fx, fy = native_of(transform, ProductGrid.whole(shape, pattern))
    deep = (fx > 4) & (fy > 4) & (fx < shape[1] - 6) & (fy < shape[0] - 6)
    assert (result.mask[deep] == 0).all()
    for plane in result.data:
        assert np.abs(plane - 3 * fx - 5 * fy)[deep].max(initial=0) < 1e-3


@pytest.mark.parametrize("name", ["shift", "drift", "half turn", "37 degrees", "polynomial"])
@pytest.mark.parametrize("pattern, origin", [("", (37, 22)), ("GBRG", (38, 22))])
def test_a_crop_is_the_cut_of_the_whole(pattern: str, origin: tuple[int, int], name: str) -> None:
    step = 2 if pattern else 1
    grid = ProductGrid((90, 130), step, origin)
    data = np.random.default_rng(3).normal(500, 30, SHAPE)
    x, y = np.array([120.0, 121, 205]), np.array([90.0, 90, 130])
    bad = BadPixels(x, y, np.array([bits.DEFECT, bits.BLANK, bits.SATURATED], np.uint8))
    whole = warped(data, pattern, TRANSFORMS[name], bad=bad)
    crop = warped(data, pattern, TRANSFORMS[name], grid, bad=bad)
    cut = np.s_[origin[1] // step : origin[1] // step + 90, origin[0] // step : origin[0] // step + 130]
    # Of a noise of 30; the nodes of a strongly bent map lie elsewhere for a crop, changing it 0.005 px.
    assert np.abs(crop.data - whole.data[(slice(None), *cut)]).max() < (0.5 if name == "polynomial" else 0.02)
    assert np.mean(crop.mask != whole.mask[cut]) < 1e-3
    assert np.abs(crop.coverage - whole.coverage[cut]).mean() < 1e-3


@pytest.mark.parametrize(
    "name", ["shift", "drift", "3 degrees", "37 degrees", "half turn", "mirror in x", "scale 0.7"]
)
@pytest.mark.parametrize("pattern", ["", "GBRG"])
def test_the_variance_factor_is_what_noise_shows(pattern: str, name: str) -> None:
    rng = np.random.default_rng(8)
    data = rng.normal(0, 1, (521, 783)).astype(np.float32)
    result = warped(data, pattern, TRANSFORMS[name])
    good = result.mask == 0
    good[:2] = good[-2:] = good[:, :2] = good[:, -2:] = False
    for plane, factor in zip(result.data, result.variance_factor, strict=True):
        found = float(plane[good].var())
        # n independent pixels give a variance to sqrt(2 / n); resampled ones are a few times fewer.
        tolerance = 5 * np.sqrt(2 * 4 / good.sum()) + 0.01
        assert found == pytest.approx(float(factor.mean()), rel=tolerance)
        assert 0.1 < factor.min() <= factor.max() <= 1.0 + 1e-6


def test_the_variance_factor_follows_the_phase_over_the_field() -> None:
    """A scale of 1.002 takes the phase one and a half times through its range: each part has its own."""
    rng = np.random.default_rng(9)
    transform = turned(0.0, 1.002, (0.2, 0.3))
    parts, factors = [], None
    for _ in range(12):
        result = warped(rng.normal(0, 1, (300, 800)).astype(np.float32), "", transform)
        parts.append(result.data[0])
        factors = result.variance_factor[0]
    assert factors is not None
    found = np.square(parts).mean(axis=0)
    my, mx = factors.shape
    assert np.ptp(factors) > 0.3
    for a, b in [(2, 3), (4, 12), (6, 20), (3, 17)]:
        j, i = round(a * 299 / (my - 1)), round(b * 799 / (mx - 1))
        box = found[j - 10 : j + 11, i - 10 : i + 11].mean()
        assert box == pytest.approx(float(factors[a, b]), rel=0.12)


BITS = [bits.DEFECT, bits.BLANK, bits.SATURATED]


@pytest.mark.parametrize("bit", BITS)
@pytest.mark.parametrize(
    "name", ["shift", "3 degrees", "37 degrees", "half turn", "mirror in y", "scale 2", "polynomial"]
)
@pytest.mark.parametrize("pattern", ["", "GBRG"])
def test_bad_pixels_keep_their_bit_and_hold_no_weight_elsewhere(pattern: str, name: str, bit: int) -> None:
    """Unit impulses at the bad pixels: what an unmasked output pixel holds of them is little, or nothing."""
    transform = TRANSFORMS[name]
    rng = np.random.default_rng(10)
    x, y = (
        g.ravel() + rng.integers(-6, 7, 28)
        for g in np.meshgrid(np.arange(60, 330, 40), np.arange(60, 190, 40))
    )
    data = np.zeros(SHAPE, np.float32)
    data[y, x] = 1
    bad = BadPixels(x.astype(float), y.astype(float), np.full(28, bit, np.uint8))
    result = warped(data, pattern, transform, bad=bad)
    assert set(np.unique(result.mask)) <= {0, bits.OUTSIDE, bit, bits.OUTSIDE | bit}
    touched = (result.mask & bit) != 0
    assert touched.sum() >= 28 * 0.9
    assert ((result.coverage >= 0) & (result.coverage <= 1)).all()
    assert (result.coverage[touched] < 1).mean() > 0.9
    # Filled pixels may keep a quarter of a neighbour's weight; regions nothing but the kernel's outer lobe,
    # or the corners of a square where the grids are turned against each other.
    limit = 0.27 if bit == bits.DEFECT else (0.13 if name == "37 degrees" else 0.075)
    for plane in result.data:
        assert np.abs(plane[~touched]).max() < limit
    # Nothing is masked that holds nothing: no output pixel farther than two samples away.
    fx, fy = native_of(transform, ProductGrid.whole(SHAPE, pattern))
    far = np.min([np.maximum(np.abs(fx - a), np.abs(fy - b)) for a, b in zip(x, y, strict=True)], axis=0)
    assert far[touched].max() < 2.9 * (2 if pattern else 1)


@pytest.mark.parametrize("bit", BITS)
def test_bad_pixels_outside_and_at_the_edge_are_no_crash(bit: int) -> None:
    x, y = np.array([0.0, NX - 1, 3, NX - 1]), np.array([0.0, NY - 1, NY - 1, 0])
    bad = BadPixels(x, y, np.full(4, bit, np.uint8))
    for transform in TRANSFORMS.values():
        result = warped(image(), "GBRG", transform, bad=bad)
        assert np.isfinite(result.data).all()


def test_nothing_given_is_changed() -> None:
    planes = split(image(), "GBRG")
    x, y, bit = np.array([20.0, 31.0]), np.array([11.0, 40.0]), np.array([4, 2], np.uint8)
    before = [planes.copy(), x.copy(), y.copy(), bit.copy()]
    for transform in TRANSFORMS.values():
        warp(planes, sites("GBRG"), transform, ProductGrid.whole(SHAPE, "GBRG"), BadPixels(x, y, bit))
    assert all(np.array_equal(a, b) for a, b in zip([planes, x, y, bit], before, strict=True))


@pytest.mark.parametrize("name", ["shift", "37 degrees"])
def test_a_buffer_is_filled_whole(name: str) -> None:
    out = np.full((3, NY // 2, NX // 2), np.nan, np.float32)
    result = warped(image(), "GBRG", TRANSFORMS[name], out=out)
    assert result.data is out
    assert np.array_equal(out, warped(image(), "GBRG", TRANSFORMS[name]).data)


@pytest.mark.parametrize("kernel", ["cubic", "area"])
@pytest.mark.parametrize("name", ["drift", "37 degrees", "scale 2"])
@pytest.mark.parametrize("pattern", ["", "GBRG"])
def test_a_window_that_is_but_looked_at_is_the_same_without_its_noise(
    pattern: str, name: str, kernel: str
) -> None:
    data = np.random.default_rng(3).integers(90, 900, SHAPE).astype(np.uint16)
    bad = BadPixels(np.array([150.0, 151.0]), np.array([120.0, 33.0]), np.array([4, 8], np.uint8))
    step = 2 if pattern else 1
    grid = ProductGrid((61, 47), step, (100.0, 90.0))
    given = (Unsplit(data, pattern, 12.0), sites(pattern), TRANSFORMS[name], grid, bad, kernel)
    whole = warp(*given)
    light, mask, level = warp_light(*given)
    assert np.array_equal(light, whole.data)
    assert np.array_equal(mask, whole.mask)
    assert level == pytest.approx(whole.level, rel=1e-6)


def test_an_unknown_kernel_is_named() -> None:
    with pytest.raises(ValueError, match="'lanczos'; it must be one of cubic, linear, lanczos3"):
        warp(
            np.zeros((1, *SHAPE), np.float32),
            sites(""),
            Transform.identity(),
            ProductGrid(SHAPE),
            None,
            "lanczos",
        )

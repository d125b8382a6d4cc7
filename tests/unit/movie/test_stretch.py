"""The stretch: one for the night, for skies of every kind."""

import numpy as np
import pytest

from difflapse.errors import OptionError
from difflapse.movie import aligned_panel, make_layout, measure_stretch

RNG = np.random.default_rng(5)


def starfield(shape=(220, 331), sky=(300.0, 420.0, 260.0), colours=(0.5, 1.0, 0.7)):
    """Sky with noise 10 in each channel and 60 stars whose typical colour is not white."""
    image = np.array(sky)[:, None, None] + RNG.normal(0, 10, (3, *shape))
    y, x = np.mgrid[: shape[0], : shape[1]]
    for _ in range(60):
        cx, cy, flux = RNG.uniform(5, shape[1] - 5), RNG.uniform(5, shape[0] - 5), 10 ** RNG.uniform(2.2, 4)
        star = flux * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 4)
        image += np.array(colours)[:, None, None] * star
    return image.astype(np.float32)


@pytest.mark.parametrize("width", [331, 163])
def test_sky_is_neutral_dark_grey_and_stars_are_white(width):
    """Unequal skies and a camera that is weak in red end as grey sky and, typically, white stars."""
    image = starfield()
    layout = make_layout(("aligned",), image.shape[1:], width=width, labels="none")
    panel = aligned_panel(image, None, measure_stretch(image), layout).astype(float)
    sky = np.median(panel, axis=(0, 1))
    assert (abs(sky - 27) < 8).all()
    assert np.ptp(sky) < 3
    stars = panel[panel.mean(2) > 150]
    assert len(stars) > 20
    assert np.ptp(stars.mean(0)) < 12
    assert panel.max() > 250


def test_the_stretch_does_not_flicker():
    """The same picture with one star more is drawn the same everywhere else, but for its colour in 2 pixels around."""
    image = starfield()
    stretch = measure_stretch(image)
    layout = make_layout(("aligned",), image.shape[1:], width=163, labels="none")
    before = aligned_panel(image, None, stretch, layout)
    image[:, 100:104, 200:204] += 9000
    after = aligned_panel(image, None, stretch, layout)
    changed = (before != after).any(2)
    y, x = np.nonzero(changed)
    assert len(y) >= 1
    assert np.ptp(y) < 8
    assert np.ptp(x) < 8
    light = [p.astype(float).mean(2) for p in (before, after)]
    assert 1 <= (abs(light[1] - light[0]) > 8).sum() <= 16


def sun(shape=(128, 131)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    disc = np.hypot(x - 66, y - 60) < 48
    return (840 + 500 * disc + 300 * disc * np.sin(x / 7) ** 2 + RNG.normal(0, 3, shape)).astype(np.float32)


@pytest.mark.parametrize("kind", ["asinh", "linear", "log", "sqrt"])
def test_a_sun_keeps_its_tones(kind):
    """A bright body on a pedestal: the surroundings dark, the disc neither black nor burnt out."""
    image = sun()
    layout = make_layout(("aligned",), image.shape, width=131, labels="none")
    panel = aligned_panel(image, None, measure_stretch(image, None, kind), layout).astype(float)[..., 0]
    assert panel[:5, :5].mean() < 90
    disc = panel[50:80, 50:80]
    assert np.percentile(disc, 95) - np.percentile(disc, 5) > 25
    assert np.median(disc) > panel[:5, :5].mean() + 60
    assert (disc == 255).mean() < 0.2


@pytest.mark.parametrize(
    "image",
    [
        np.full((1, 20, 33), 7.0),
        np.zeros((3, 20, 33)),
        np.full((3, 20, 33), np.nan),
        np.random.default_rng(1).normal(0, 5, (3, 20, 33)),
        np.full((1, 20, 33), -1e6),
    ],
)
def test_starless_and_empty_images_give_a_usable_stretch(image):
    """Constant, cloud, nothing at all: a finite stretch, and noise is not blown up to black and white."""
    stretch = measure_stretch(image)
    assert all(np.isfinite(v) for v in (*stretch.black, *stretch.gain, stretch.white, stretch.softening))
    layout = make_layout(("aligned",), image.shape[1:], width=33, labels="none")
    panel = aligned_panel(image.astype(np.float32), None, stretch, layout)
    assert panel.std() < 25


def test_faint_stars_survive_shrinking():
    """A star of one pixel, 12 sigma, still stands out of the shrunk sky by 4 sigma."""
    noise = RNG.normal(0, 10, (1, 300, 500)).astype(np.float32) + 400
    stretch = measure_stretch(noise)
    noise[0, 100::50, 100::50] = 520
    layout = make_layout(("aligned",), (300, 500), width=160, labels="none")
    panel = aligned_panel(noise, None, stretch, layout).astype(float)[..., 0]
    matrix = layout.native_to_movie("aligned")
    xs, ys = np.meshgrid(np.arange(100, 500, 50), np.arange(100, 300, 50))
    at = np.rint(matrix @ np.stack([xs.ravel(), ys.ravel(), np.ones(xs.size)])).astype(int)
    stars = panel[np.clip(at[1], 0, 95), at[0]]
    assert np.median(stars) > np.median(panel) + 4 * panel.std()


def test_the_mask_hides_and_true_is_bad():
    image = starfield()
    mask = np.zeros((3, 220, 331), bool)
    mask[1, :50, :80] = True
    layout = make_layout(("aligned",), (220, 331), width=331, labels="none")
    stretch = measure_stretch(image, mask)
    panel = aligned_panel(image, mask, stretch, layout)
    np.testing.assert_array_equal(panel, aligned_panel(image, mask[1], stretch, layout))
    assert (np.ptp(panel[170:, :80].reshape(-1, 3), axis=0) < 20).all()
    assert panel[170:, :80].min() > 45
    assert np.ptp(panel[:170]) > 200


def test_unknown_kind_is_an_option_error():
    with pytest.raises(OptionError, match="asinh"):
        measure_stretch(np.zeros((1, 4, 5)), None, "gamma")


def test_cut_off_cores_have_no_dark_rims():
    """What cubic resampling leaves beside a bleeding column is lifted to what lies around; other dark spots stay."""
    rng = np.random.default_rng(11)
    y, x = np.mgrid[:160, :202]
    clean = 300 + rng.normal(0, 6, (160, 202)) + 350 * np.exp(-np.hypot(x - 81, (y - 70) / 2) / 6)
    for cx, cy in zip(rng.uniform(5, 197, 40), rng.uniform(5, 155, 40), strict=True):
        clean += 3000 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 4)
    image = clean.copy()
    image[60:81, 80:83] = 4095
    stretch = measure_stretch(image[None], noise=(6,))
    rim = np.zeros(image.shape, bool)
    rim[60:81, [79, 83]] = True
    image[rim] -= 290
    image[140:142, 20:22] = 10
    layout = make_layout(("aligned",), image.shape, width=202, labels="none")
    panel = aligned_panel(image[None].astype(np.float32), None, stretch, layout)[::-1, :, 0].astype(int)
    meant = aligned_panel(np.where(rim, clean, image)[None].astype(np.float32), None, stretch, layout)[
        ::-1, :, 0
    ]
    assert panel[rim].min() > np.median(panel) + 20
    assert np.abs(panel[rim] - meant[rim].astype(int)).max() < 45
    assert (panel[60:81, 80:83] == 255).all()
    assert (panel[140:142, 20:22] == 0).all()
    elsewhere = ~rim
    assert (panel[elsewhere] == meant[elsewhere]).all()

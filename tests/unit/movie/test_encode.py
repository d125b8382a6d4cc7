"""The video: what players need, colours that are true, and nothing left behind by a failure."""

from fractions import Fraction

import av
import numpy as np
import pytest

from difflapse.errors import OptionError, OutputError
from difflapse.movie import Encoder

COLOURS = [(200, 40, 40), (40, 180, 60), (50, 60, 210), (124, 124, 124), (250, 240, 200), (10, 20, 60)]


def bars(width=192, height=130):
    picture = np.zeros((height, width, 3), np.uint8)
    for n, colour in enumerate(COLOURS):
        picture[:, n * 32 : (n + 1) * 32] = colour
    return picture


@pytest.fixture
def movie(tmp_path):
    """26 frames at 12 a second."""
    path = tmp_path / "m.mp4"
    with Encoder(path, (192, 130), 12, {"title": "a night", "comment": "difflapse"}, threads=1) as encoder:
        for n in range(26):
            encoder.write(np.roll(bars(), n, axis=0))
    return path


def test_streams_are_what_players_need(movie):
    """H.264, yuv420p, BT.709 in limited range, level 5.1 at most, every frame there at its time."""
    with av.open(str(movie)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert context.name == "h264"
        assert context.pix_fmt == "yuv420p"
        assert (context.color_primaries, context.color_trc, context.colorspace, context.color_range) == (
            1,
            1,
            1,
            1,
        )
        assert stream.average_rate == 12
        assert container.metadata["title"] == "a night"
        frames = list(container.decode(stream))
        assert len(frames) == 26
        assert [n for n, f in enumerate(frames) if f.key_frame] == [0, 12, 24]
        assert [round(f.time * 12) for f in frames] == list(range(26))
        assert context.extradata[3] <= 51
        assert context.profile in ("High", "Main")


def test_the_index_comes_first(movie):
    data = movie.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_colours_are_converted_with_the_matrix_that_is_tagged(movie):
    """Luma and chroma as BT.709 demands, within the coding's error; BT.601 would be off by up to 20."""
    with av.open(str(movie)) as container:
        planes = next(container.decode(video=0)).to_ndarray()
    height, width = 130, 192
    luma = planes[:height]
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    for n, (r, g, b) in enumerate(COLOURS):
        y = 0.2126 * r + 0.7152 * g + 0.0722 * b
        cb, cr = (b - y) / 1.8556, (r - y) / 1.5748
        middle = n * 32 + 16
        assert abs(float(np.median(luma[:, middle - 6 : middle + 6])) - (16 + 219 * y / 255)) < 2.5
        assert (
            abs(float(np.median(chroma[0][:, middle // 2 - 3 : middle // 2 + 3])) - (128 + 224 * cb / 255))
            < 3
        )
        assert (
            abs(float(np.median(chroma[1][:, middle // 2 - 3 : middle // 2 + 3])) - (128 + 224 * cr / 255))
            < 3
        )


@pytest.mark.parametrize(
    ("fps", "rate"),
    [(0.5, Fraction(1, 2)), (29.97, Fraction(2997, 100)), (3, Fraction(3)), (0.01, Fraction(1, 100))],
)
def test_fractional_rates_are_kept(tmp_path, fps, rate):
    with Encoder(tmp_path / "m.mp4", (64, 48), fps, threads=1) as encoder:
        for n in range(3):
            encoder.write(np.full((48, 64, 3), 40 * n, np.uint8))
    with av.open(str(tmp_path / "m.mp4")) as container:
        assert abs(float(container.streams.video[0].average_rate / rate) - 1) < 1e-3


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_nothing_and_keeps_what_was_there(tmp_path, error):
    path = tmp_path / "m.mp4"
    path.write_bytes(b"earlier")
    with pytest.raises(error), Encoder(path, (64, 48), 12, threads=1) as encoder:
        encoder.write(np.zeros((48, 64, 3), np.uint8))
        assert len(list(tmp_path.iterdir())) == 2  # the unfinished file has another name
        raise error
    assert path.read_bytes() == b"earlier"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_is_not_there_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="cannot write"), Encoder(tmp_path / "no" / "m.mp4", (64, 48), 12):
        pass


def test_a_full_disk_is_an_output_error(tmp_path):
    """Beyond the limit the system refuses to write, as on a full disk: an error says so, nothing stays."""
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    noise = np.random.default_rng(3).integers(0, 255, (480, 640, 3), np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(OutputError), Encoder(tmp_path / "m.mp4", (640, 480), 12, threads=1) as encoder:
            for n in range(12):
                encoder.write(np.roll(noise, 7 * n, axis=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_sizes_players_refuse_are_refused_here():
    full = (4096, 2304)
    for size, fps in [
        ((65, 48), 12),
        ((64, 47), 12),
        ((4098, 100), 12),
        ((100, 2306), 12),
        (full, 30),
        ((64, 64), 0),
        ((64, 64), 0.0004),
        ((64, 64), 0.0099),
        ((64, 64), float("nan")),
    ]:
        with pytest.raises(OptionError):
            Encoder("m.mp4", size, fps)


def test_pictures_of_another_size_are_refused(tmp_path):
    with pytest.raises(OptionError), Encoder(tmp_path / "m.mp4", (64, 48), 12, threads=1) as encoder:
        encoder.write(np.zeros((50, 64, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_the_same_pictures_make_the_same_file(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        with Encoder(tmp_path / name, (192, 130), 12, threads=1) as encoder:
            for n in range(5):
                encoder.write(np.roll(bars(), n, axis=1))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_what_stays_is_kept_in_the_same_room(tmp_path):
    """The options for pictures that are mostly still: as near to them as the usual ones, in a file not much larger."""
    rng = np.random.default_rng(8)
    ground = np.repeat(np.repeat(rng.integers(20, 120, (36, 64, 3)), 10, axis=0), 10, axis=1).astype(np.uint8)
    told = {}
    for still in (False, True):
        path = tmp_path / f"{still}.mp4"
        noise = np.random.default_rng(9)
        with Encoder(path, (640, 360), 12, threads=1, variable=True, still=still) as encoder:
            for _ in range(15):
                picture = ground.copy()
                own = noise.normal(120, 30, (20, 20)).clip(0, 255).astype(np.uint8)
                picture[80:280, 40:240] = np.repeat(np.repeat(own, 10, axis=0), 10, axis=1)[..., None]
                encoder.write(picture, 0.25)
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0))
            assert container.streams.video[0].codec_context.profile in ("High", "Main")
        assert [n for n, f in enumerate(frames) if f.key_frame] == [0, 4, 8, 12]
        off = frames[-1].to_ndarray(format="rgb24").astype(float) - picture
        told[still] = float(np.sqrt((off**2).mean())), path.stat().st_size
    assert told[True][0] < 1.15 * told[False][0]
    assert told[True][1] < 1.4 * told[False][1]


def test_a_dark_sky_keeps_its_noise_in_all_pictures(tmp_path):
    """The last picture of a second is the one a movie rests on: what came before must not stay there as blotches."""
    rng, sigma = np.random.default_rng(2), 2.5
    path = tmp_path / "m.mp4"
    with Encoder(path, (480, 320), 12, threads=1) as encoder:
        for _ in range(8):
            sky = 40 + rng.normal(0, sigma, (160, 240)).repeat(2, 0).repeat(2, 1)
            encoder.write(np.rint(sky).astype(np.uint8)[..., None].repeat(3, 2))
    with av.open(str(path)) as container:
        shown = [
            frame.to_ndarray(format="rgb24")[..., 1].astype(float) for frame in container.decode(video=0)
        ]
    for picture in shown:
        kept = picture.reshape(20, 16, 30, 16).std(axis=(1, 3)) / sigma
        assert 0.45 < np.median(kept) < 1.05
        assert (kept < 0.4).mean() < 0.2

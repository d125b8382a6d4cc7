"""Every codec: what the file is, when its pictures come, what it says of itself, and how true its pictures are."""

import av
import numpy as np
import pytest
from PIL import Image

from difflapse.errors import MissingDependencyError, OptionError
from difflapse.movie import encode
from difflapse.movie.encode import CODECS, Encoder, check_codec, movie_name
from difflapse.movie.frames import PngFrames

WIDTH, HEIGHT = 130, 98
VIDEO = {"h264": "h264", "hevc": "hevc", "vp9": "vp9", "av1": "av1", "ffv1": "ffv1"}
WORDS = {"title": "NGC 7000", "comment": "difflapse; 36 frames", "synopsis": '{"inputs": {"a.fits": "ab12"}}'}
STAYS = [0.25] * 5 + [2.0, 0.25, 0.5, 0.25, 0.25, 0.75]


def picture(n):
    """A gradient, colour bars and a square that moves by 7 pixels a picture."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    out = np.stack([90 + x // 2, 120 + 0 * x, 90 + y // 2], -1).astype(np.uint8)
    out[10:22, :40] = (200, 60, 50)
    out[10:22, 40:80] = (40, 80, 210)
    out[50:66, 7 * n : 7 * n + 16] = 240
    return out


def make(path, codec, variable=False):
    with Encoder(path, (WIDTH, HEIGHT), 4, WORDS, threads=1, codec=codec, variable=variable) as encoder:
        for n, stay in enumerate(STAYS):
            encoder.write(picture(n), stay if variable else None)
        return encoder


def decoded(path):
    with av.open(str(path)) as container:
        deep = container.streams.video[0].codec_context.pix_fmt == "gbrp16le"
        return [
            (
                f.time,
                f.key_frame,
                f.to_ndarray(format="gbrp16le") // 257 if deep else f.to_ndarray(format="rgb24"),
            )
            for f in container.decode(video=0)
        ]


@pytest.mark.parametrize("codec", VIDEO)
def test_a_file_is_what_it_should_be(tmp_path, codec):
    path = tmp_path / movie_name(codec)
    make(path, codec)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        # A decoder of AV1 goes by its own name.
        assert stream.codec.canonical_name == VIDEO[codec]
        assert (stream.width, stream.height) == (WIDTH, HEIGHT)
        assert stream.average_rate == 4
        told = {key.lower(): value for key, value in container.metadata.items()}
        assert {key: told[key] for key in WORDS} == WORDS
        if codec == "ffv1":
            assert context.pix_fmt == "gbrp16le"
        else:
            assert context.pix_fmt == "yuv420p"
            assert [
                int(v)
                for v in (
                    context.color_primaries,
                    context.color_trc,
                    context.colorspace,
                    context.color_range,
                )
            ] == [1, 1, 1, 1]
        if path.suffix == ".mp4":
            assert context.codec_tag == {"h264": "avc1", "hevc": "hvc1"}[codec]
    pictures = decoded(path)
    assert [round(4 * time) for time, _, _ in pictures] == list(range(len(STAYS)))
    assert {n for n, (_, key, _) in enumerate(pictures) if key} >= set(range(0, len(STAYS), 4))
    if path.suffix == ".mp4":
        data = path.read_bytes()
        assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("codec", VIDEO)
def test_pictures_are_true(tmp_path, codec):
    """Lossless to the last bit; else blocks within a few grey levels, and each picture in its place."""
    path = tmp_path / movie_name(codec)
    make(path, codec)
    for n, (_, _, found) in enumerate(decoded(path)):
        if codec == "ffv1":
            assert (found == picture(n)).all()
            continue
        difference = found.astype(float) - picture(n)
        # Luma alone: colours have half the resolution, and run at the bars' edges.
        luma = difference @ (0.2126, 0.7152, 0.0722)
        assert np.abs(luma[:96, :128].reshape(12, 8, 16, 8).mean((1, 3))).max() < 6
        assert np.sqrt(np.mean(difference**2)) < 6
        # The moving square is where this picture has it, and in no other place.
        assert found[58, 7 * n + 8].min() > 200
        assert found[58, (7 * n + 60) % (WIDTH - 16) + 8].max() < 200


@pytest.mark.parametrize("codec", VIDEO)
def test_pictures_stay_for_their_own_time(tmp_path, codec):
    path = tmp_path / movie_name(codec)
    encoder = make(path, codec, variable=True)
    assert encoder.seconds == pytest.approx(sum(STAYS))
    starts = np.cumsum([0, *STAYS[:-1]])
    pictures = decoded(path)
    assert [time for time, _, _ in pictures] == pytest.approx(starts, abs=1e-3)
    with av.open(str(path)) as container:
        assert container.duration / 1e6 == pytest.approx(sum(STAYS), abs=0.002)
    # A player that seeks finds a keyframe at most a second before, or the picture that holds there.
    keys = [time for time, key, _ in pictures if key]
    assert all(min(t - key for key in keys if key <= t + 1e-3) <= 1 for t in starts)


def test_a_gif_has_its_times_words_and_colours(tmp_path):
    path = tmp_path / movie_name("gif")
    make(path, "gif", variable=True)
    with Image.open(path) as image:
        assert image.size == (WIDTH, HEIGHT)
        assert image.n_frames == len(STAYS)
        assert image.info["loop"] == 0
        assert b"title: NGC 7000" in image.info["comment"]
        times = []
        for n in range(image.n_frames):
            image.seek(n)
            times.append(image.info["duration"] / 1000)
            difference = np.asarray(image.convert("RGB"), float) - picture(n)
            assert np.sqrt(np.mean(difference**2)) < 5
    assert times == pytest.approx(STAYS, abs=0.011)


def test_a_gif_takes_its_colours_from_the_sample(tmp_path):
    """A colour that the first picture lacks is there when the sample has it."""
    late = np.full((HEIGHT, WIDTH, 3), (10, 220, 30), np.uint8)
    errors = []
    for n, sample in enumerate([(), (picture(0), late)]):
        path = tmp_path / f"{n}.gif"
        with Encoder(path, (WIDTH, HEIGHT), 10, codec="gif", sample=sample) as encoder:
            encoder.write(picture(0))
            encoder.write(late)
        with Image.open(path) as image:
            image.seek(1)
            errors.append(np.abs(np.asarray(image.convert("RGB"), float) - late).mean())
    assert errors[1] < 4 < 20 < errors[0]


def test_sixteen_bits_come_back(tmp_path):
    deep = np.random.default_rng(4).integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(np.uint16)
    with Encoder(tmp_path / "m.mkv", (WIDTH, HEIGHT), 5, codec="ffv1") as encoder:
        encoder.write(deep)
    with av.open(str(tmp_path / "m.mkv")) as container:
        (frame,) = container.decode(video=0)
    assert (frame.to_ndarray(format="gbrp16le") == deep).all()


def test_png_pictures_are_numbered_and_exact(tmp_path):
    with PngFrames(tmp_path / "timelapse", (WIDTH, HEIGHT), 4, WORDS) as frames:
        frames.write(picture(0))
        frames.write(picture(1), 1.5)
        assert not (tmp_path / "timelapse").exists()
    assert sorted(p.name for p in (tmp_path / "timelapse").iterdir()) == ["00000.png", "00001.png"]
    for n, stay in enumerate(["0.25", "1.5"]):
        with Image.open(tmp_path / "timelapse" / f"0000{n}.png") as image:
            assert (np.asarray(image) == picture(n)).all()
            assert image.text["title"] == "NGC 7000"
            assert image.text["seconds"] == stay


def test_png_pictures_leave_nothing_after_a_failure(tmp_path):
    with pytest.raises(KeyboardInterrupt), PngFrames(tmp_path / "timelapse", (WIDTH, HEIGHT)) as frames:
        frames.write(picture(0))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_is_missing_is_told_with_those_that_are_not(monkeypatch):
    monkeypatch.setattr(encode, "_has", lambda name: name in ("libx264", "gif"))
    with pytest.raises(MissingDependencyError, match="libx265") as caught:
        check_codec("hevc")
    assert "h264" in caught.value.hint
    assert "av1" not in caught.value.hint
    assert check_codec("png").name == "png"


def test_a_codec_that_does_not_exist_is_a_wrong_option():
    with pytest.raises(OptionError, match="mpeg1"):
        check_codec("mpeg1")


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_a_time_of_its_own_needs_a_movie_that_allows_it(tmp_path, codec):
    with (
        pytest.raises(OptionError, match="even"),
        Encoder(tmp_path / "m", (WIDTH, HEIGHT), codec=codec) as encoder,
    ):
        encoder.write(picture(0), 1.0)


def test_names_tell_the_container():
    assert [movie_name(codec) for codec in CODECS] == [
        "timelapse.mp4",
        "timelapse.mp4",
        "timelapse.webm",
        "timelapse.webm",
        "timelapse.gif",
        "timelapse.mkv",
        "timelapse",
    ]

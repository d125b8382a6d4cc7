"""Frames on a server are read like frames on disk, whether it sends parts or whole files only."""

from __future__ import annotations

import functools
import http.server
import re
import threading
from pathlib import Path

import numpy as np
import pytest

from difflapse.errors import ReadError
from difflapse.io import discover, read_frame
from difflapse.io.source import is_url, open_source

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")


class _Whole(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


class _Parts(_Whole):
    """The same with ranges."""

    def do_GET(self):
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not asked or not path.is_file():
            return super().do_GET()
        content = path.read_bytes()
        first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        self.wfile.write(content[first : last + 1])
        return None


@pytest.fixture(params=[_Whole, _Parts])
def server(request, tmp_path):
    handler = functools.partial(request.param, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_night_on_a_server(server, make):
    rng = np.random.default_rng(2)
    data = [rng.integers(0, 60000, (200, 300)).astype(np.uint16) for _ in range(2)]
    for i, pixels in enumerate(data):
        cards = {"DATE-OBS": f"2024-03-01T22:0{i}:00", "INSTRUME": "C"}
        make(f"n/f{i}.fits", cards, data=pixels)
        make(f"n/g{i}.fits.fz", {**cards, "INSTRUME": "D"}, data=pixels, compression="RICE_1")
    inventory = discover(
        [f"{server}/n/{name}" for name in ("f0.fits", "f1.fits", "g0.fits.fz", "g1.fits.fz")]
    )
    assert inventory.root == f"{server}/n"
    assert [[f.file for f in s.frames] for s in inventory.sequences] == [
        ["f0.fits", "f1.fits"],
        ["g0.fits.fz", "g1.fits.fz"],
    ]
    for sequence in inventory.sequences:
        for frame, pixels in zip(sequence.frames, data, strict=True):
            np.testing.assert_array_equal(read_frame(frame).data, pixels)


def test_what_is_not_on_the_server(server):
    with pytest.raises(ReadError, match=r"cannot be fetched|cannot be read"):
        open_source(f"{server}/nowhere.fits")


def test_no_server_at_all():
    with pytest.raises(ReadError):
        open_source("http://127.0.0.1:9/a.fits")


@pytest.mark.parametrize(
    ("path", "url"), [("https://a/b.fits", True), ("s3://a/b", True), ("C://a", False), ("/a/b", False)]
)
def test_addresses(path, url):
    assert is_url(path) is url

"""Firefox, headless, driven by the protocol it has built in: a socket and JSON, nothing to install beside it."""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_SETTINGS = {
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "toolkit.telemetry.enabled": False,
    "ui.prefersReducedMotion": 1,
}
_WAIT_S = 20


class Firefox:
    """A browser with a profile of its own, in an empty folder; `close` ends it."""

    def __init__(self, program: str, profile: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = {**_SETTINGS, "marionette.port": port}
        text = "\n".join(f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in settings.items())
        (profile / "user.js").write_text(text)
        options = ("--headless", "--marionette", "--remote-allow-system-access", "--no-remote")
        self.process = subprocess.Popen(
            [program, *options, "--profile", profile],
            env={**os.environ, "HOME": str(profile)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._buffer, self._number = b"", 0
        self._socket = self._connect(port)
        self._read()  # it says who it is
        self.call("WebDriver:NewSession", capabilities={})

    def call(self, name: str, **values: Any) -> Any:
        """One command of WebDriver, and what it answers."""
        self._number += 1
        data = json.dumps([0, self._number, name, values]).encode()
        self._socket.sendall(b"%d:%s" % (len(data), data))
        _, number, error, result = self._read()
        assert number == self._number
        assert error is None, f"{name}: {error['message']}"
        return result["value"] if isinstance(result, dict) and "value" in result else result

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        script = f"JSON.stringify({expression})"
        told = self.call("WebDriver:ExecuteScript", script="return window.eval(arguments[0])", args=[script])
        return None if told is None else json.loads(told)

    def within(self, expression: str) -> Any:
        """The value of statements in the browser itself."""
        self.call("Marionette:SetContext", value="chrome")
        try:
            return self.call("WebDriver:ExecuteScript", script=expression, args=[])
        finally:
            self.call("Marionette:SetContext", value="content")

    def open(self, path: Path, size: tuple[int, int] = (1440, 900)) -> None:
        """Show a page from disk in a viewport of that size, and wait until it is ready."""
        self.within("Services.console.reset()")
        self.call("WebDriver:SetWindowRect", width=max(size[0], 600), height=size[1] + 200)
        self.within(
            "const style = gBrowser.selectedBrowser.style;"
            f"style.setProperty('width', '{size[0]}px'); style.setProperty('height', '{size[1]}px');"
        )
        self.call("WebDriver:Navigate", url=path.as_uri())
        self.wait_for("document.documentElement.dataset.ready === 'yes'")
        self.wait_for("difflapse.view.player.ready || difflapse.view.player.broken")
        assert self.evaluate("innerWidth") == size[0]

    def wait_for(self, expression: str) -> None:
        """Until the page says so; fails after a while."""
        end = time.monotonic() + _WAIT_S
        while not self.evaluate(expression):
            assert time.monotonic() < end, f"never: {expression}"
            time.sleep(0.05)

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width and height of an element, brought into sight."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{element}.scrollIntoView({{ block: 'nearest' }})")
        rect = self.evaluate(f"{element}.getBoundingClientRect()")
        return rect["x"], rect["y"], rect["width"], rect["height"]

    def click(self, x: float, y: float) -> None:
        """A click of the mouse at a place of the viewport."""
        moves = [
            {"type": "pointerMove", "x": round(x), "y": round(y), "origin": "viewport"},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        mouse = {"type": "pointer", "id": "mouse", "actions": moves}
        self.call("WebDriver:PerformActions", actions=[mouse])

    def press(self, key: str) -> None:
        """A key."""
        keys = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        self.call("WebDriver:PerformActions", actions=[{"type": "key", "id": "keys", "actions": keys}])

    def screenshot(self) -> Image.Image:
        """What is seen of the page."""
        data = base64.b64decode(self.call("WebDriver:TakeScreenshot", full=False))
        return Image.open(io.BytesIO(data))

    def grey(self, across: float, down: float = 0.75) -> float:
        """Of the picture at a place of the stage, as a person sees it."""
        left, top, wide, high = self.box(".stage")
        x, y = round(left + across * wide), round(top + down * high)
        return float(np.asarray(self.screenshot().convert("L"))[y : y + 4, x : x + 4].mean())

    def complaints(self) -> list[str]:
        """What the page's scripts and media brought to the console."""
        return self.within(
            "return Services.console.getMessageArray().map(String).filter((text) => text.includes('file://'))"
        )

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self.process.terminate()
        self.process.wait(_WAIT_S)

    def _connect(self, port: int) -> socket.socket:
        end = time.monotonic() + 3 * _WAIT_S
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port), 3 * _WAIT_S)
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    self.process.kill()
                    raise
                time.sleep(0.1)

    def _read(self) -> Any:
        while b":" not in self._buffer:
            self._more()
        size, _, self._buffer = self._buffer.partition(b":")
        while len(self._buffer) < int(size):
            self._more()
        message, self._buffer = self._buffer[: int(size)], self._buffer[int(size) :]
        return json.loads(message)

    def _more(self) -> None:
        part = self._socket.recv(1 << 16)
        if not part:
            raise ConnectionError("the browser has ended")
        self._buffer += part

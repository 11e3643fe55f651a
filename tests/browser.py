"""A real browser without a window: Chromium over a pipe, by its own protocol.

It takes no package: messages are JSON that ends with a zero byte, on file descriptors 3 and 4
(chromedevtools.github.io/devtools-protocol).
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--mute-audio"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--autoplay-policy=no-user-gesture-required", "--remote-debugging-pipe"),
)
PATIENCE_S = 60


def find() -> str | None:
    """The browser's program, if one is installed; `CHROMIUM` names another."""
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of it. `requests` are the addresses that it asked for, `errors` what it said."""

    def __init__(self, program: str) -> None:
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        (read, their_write), (their_read, write) = os.pipe(), os.pipe()
        # Its ends are 3 and 4, whatever numbers they have here.
        script = f'exec "$0" "$@" 3<&{their_read} 4>&{their_write}'
        command = [program, *FLAGS, f"--user-data-dir={self._profile}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", script, *command],
            pass_fds=(their_read, their_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(their_read)
        os.close(their_write)
        self._read, self._write, self._number, self._left = read, write, 0, b""
        self._session: str | None = None
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in targets if one["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._write)
        os.close(self._read)
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask for something, and wait for the answer."""
        said = self._answer(method, **params)
        assert "error" not in said, f"{method}: {said['error']}"
        return dict(said["result"])

    def _answer(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            said = self._message()
            if said.get("id") == self._number:
                return said
            self._note(said.get("method"), said.get("params", {}))

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            piece = os.read(self._read, 1 << 20)
            assert piece, "the browser ended"
            self._left += piece
        text, _, self._left = self._left.partition(b"\0")
        return dict(json.loads(text))

    def _note(self, method: str | None, params: dict[str, Any]) -> None:
        match method:
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(params["exceptionDetails"])[:600])
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def show(self, width_px: int, height_px: int = 900, dark: bool = False) -> None:
        """Be a screen of this width, a phone's below 500 pixels."""
        phone = width_px < 500
        size = {"width": width_px, "height": height_px, "deviceScaleFactor": 1, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, page: Path | str, mark: str = "") -> float:
        """Open a file or an address; returns the ms from its loading's start until it was drawn."""
        self.requests.clear()
        self.errors.clear()
        self.call("Page.navigate", url="about:blank")
        address = page if isinstance(page, str) else page.resolve().as_uri()
        self.call("Page.navigate", url=address + mark)
        ready = "location.protocol !== 'about:' && document.documentElement?.dataset.ready"
        return float(self.wait_for(ready))

    def wait_for(self, expression: str) -> Any:
        """Wait until an expression is true in the page; returns its value."""
        until = time.monotonic() + PATIENCE_S
        while True:
            # While one page goes and the next one comes there is none to ask, which is an error.
            said = self._answer("Runtime.evaluate", expression=expression, returnByValue=True)
            if value := said.get("result", {}).get("result", {}).get("value"):
                return value
            assert time.monotonic() < until, f"{expression}: not in {PATIENCE_S} s: {self.errors}"
            time.sleep(0.02)

    def run(self, expression: str) -> Any:
        """Evaluate an expression in the page; returns its value."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        said = self.call("Runtime.evaluate", **asked)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def press(self, key: str, code: str = "") -> None:
        """Press a key where the focus is."""
        text = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            event = {"type": kind, "key": key, "code": code or key} | (
                text if kind == "keyDown" else {}
            )
            self.call("Input.dispatchKeyEvent", **event)

    def picture(self, path: Path, whole: bool = False) -> None:
        """Write what is seen as a PNG; `whole`: to the end of the page."""
        made = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(made["data"]))

"""Firefox, driven over its own protocol (Marionette), so that pages are tested in it without geckodriver.

Found by the variable FILTERSCOPE_FIREFOX (a path), else as `firefox-esr` or `firefox` on the PATH.
"""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FIREFOX = os.environ.get("FILTERSCOPE_FIREFOX") or shutil.which("firefox-esr") or shutil.which("firefox")
PATIENCE = 60.0  # seconds, for a start on a busy machine and for any one answer
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's id, as the WebDriver standard has it
PREFERENCES = {
    "marionette.port": 0,  # any that is free; the profile's file MarionetteActivePort says which
    "network.proxy.type": 1,  # no server can be reached: nobody listens at this port
    "network.proxy.http": "127.0.0.1",
    "network.proxy.http_port": 9,
    "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 9,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "browser.download.folderList": 2,  # what is downloaded goes to the folder below, without a question
    "browser.download.alwaysOpenPanel": False,
    "security.dialog_enable_delay": 0,  # its dialogs can be answered at once
}
ERRORS = """
const seen = Services.console.getMessageArray();
Services.console.reset();
return seen.filter((one) => one instanceof Ci.nsIScriptError).map((one) => [one.sourceName, one.errorMessage]);
"""  # of the whole browser, refused loads and unknown CSS among them
WRITTEN = """
const { classes, interfaces } = Components;
const storage = classes["@mozilla.org/consoleAPI-storage;1"].getService(interfaces.nsIConsoleAPIStorage);
const calls = storage.getEvents();
storage.clearEvents();
return calls.map((one) => [one.filename, Array.from(one.arguments, String).join(" ")]);
"""  # by console.log and the like; asked of the process that shows files
SAVE = """
const windows = [...Services.wm.getEnumerator(null)];
const one = windows.find((other) => other.location.href.endsWith("/unknownContentType.xhtml"));
const dialog = one?.document.querySelector("dialog");
if (!dialog || dialog.getButton("accept").disabled) return false;
one.document.getElementById("save").click();
dialog.acceptDialog();
return true;
"""  # Firefox asks what it shall do with a file to which a page from the disk links
ENTER, ESCAPE, RIGHT = "\ue007", "\ue00c", "\ue014"  # keys, as WebDriver names them


class FirefoxError(RuntimeError):
    """Firefox refused a command, or did not start."""


class Firefox:
    """One headless Firefox with a profile of its own; a context manager.

    Args:
        profile: an empty folder, which also serves as its home.
    """

    def __init__(self, profile: Path) -> None:
        assert FIREFOX is not None
        self.downloads = profile / "downloads"
        self.downloads.mkdir()
        preferences = PREFERENCES | {"browser.download.dir": str(self.downloads)}
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in preferences.items()]
        (profile / "user.js").write_text("".join(lines), encoding="utf-8")
        self._process = subprocess.Popen(
            [
                FIREFOX,
                "--headless",
                "--no-remote",
                "--marionette",
                "--remote-allow-system-access",
                "--profile",
                profile,
            ],
            env=os.environ | {"HOME": str(profile), "MOZ_HEADLESS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._socket = socket.create_connection(("127.0.0.1", self._port(profile)), timeout=PATIENCE)
            self._stream = self._socket.makefile("rb")
            self._numbers = itertools.count(1)
            self._receive()  # its greeting
            self.send("WebDriver:NewSession", strictFileInteractability=True)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def __enter__(self) -> Firefox:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, FirefoxError):
            self.send("Marionette:Quit", flags=["eForceQuit"])
        self._stream.close()
        self._socket.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _port(self, profile: Path) -> int:
        """Where it listens, once it does."""
        file = profile / "MarionetteActivePort"
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self._process.poll() is None:
            if file.is_file() and (text := file.read_text(encoding="ascii").strip()):
                return int(text)
            time.sleep(0.1)
        raise FirefoxError(f"{FIREFOX} did not start within {PATIENCE:.0f} s")

    def _receive(self) -> Any:
        """One message: its length in decimal digits, a colon, JSON."""
        digits = b""
        while (byte := self._stream.read(1)) != b":":
            if not byte:
                raise FirefoxError("Firefox closed the connection")
            digits += byte
        return json.loads(self._stream.read(int(digits)))

    def send(self, command: str, **parameters: Any) -> Any:
        """Send a command and return its result.

        Raises:
            FirefoxError: Firefox refused it.
        """
        number = next(self._numbers)
        message = json.dumps([0, number, command, parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(message), message))
        while True:
            _, answered, error, result = self._receive()
            if answered == number:
                break
        if error:
            raise FirefoxError(f"{command}: {error['error']}: {error['message']}")
        return result.get("value", result) if isinstance(result, dict) else result

    def goto(self, path: Path, rest: str = "") -> None:
        """Open a file; `rest` is the part of its address from `?` or `#` on."""
        self.send("WebDriver:Navigate", url=path.as_uri() + rest)

    def run(self, body: str, *arguments: Any) -> Any:
        """What the body of a function returns in the page; a promise is waited for."""
        return self.send("WebDriver:ExecuteScript", script=body, args=list(arguments))

    def wait(self, body: str, *arguments: Any) -> Any:
        """What the body of a function returns in the page, as soon as that is true of it."""
        until = time.monotonic() + PATIENCE / 3
        while not (value := self.run(body, *arguments)):
            if time.monotonic() > until:
                raise FirefoxError(f"never came true: {body}")
            time.sleep(0.05)
        return value

    def find(self, selector: str) -> str:
        """The first element that a selector fits."""
        return str(self.send("WebDriver:FindElement", using="css selector", value=selector)[ELEMENT])

    def click(self, selector: str) -> None:
        """Click the first element that a selector fits, as a mouse does."""
        self.send("WebDriver:ElementClick", id=self.find(selector))

    def type(self, selector: str, text: str) -> None:
        """Type into an element; keys such as Enter and Escape are the characters that WebDriver gives them."""
        self.send("WebDriver:ElementSendKeys", id=self.find(selector), text=text)

    def press(self, key: str) -> None:
        """Press a key wherever the focus is."""
        actions = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self.send("WebDriver:PerformActions", actions=[{"type": "key", "id": "keys", "actions": actions}])

    def complaints(self) -> list[str]:
        """What pages from the disk wrote to the console, their errors and refused loads, since the last call."""
        written = self.send("WebDriver:ExecuteScript", script=WRITTEN, args=[], sandbox="system")
        errors = self._in_browser(ERRORS)
        pages = ("file:", "data:", "blob:")
        return [f"{source}: {text}" for source, text in (*errors, *written) if str(source).startswith(pages)]

    def _in_browser(self, body: str) -> Any:
        """What the body of a function returns in the browser's own window."""
        self.send("Marionette:SetContext", value="chrome")
        try:
            return self.run(body)
        finally:
            self.send("Marionette:SetContext", value="content")

    def downloaded(self, *, is_asked: bool) -> tuple[str, bytes]:
        """The file that is just being downloaded, once it is whole: its name and what is in it. It is removed.

        Args:
            is_asked: whether Firefox asks first whether to save it; it is answered.
        """
        until = time.monotonic() + PATIENCE / 3
        while time.monotonic() < until:
            is_asked = is_asked and not self._in_browser(SAVE)
            files = list(self.downloads.iterdir())
            if not is_asked and len(files) == 1 and files[0].suffix != ".part" and files[0].stat().st_size:
                content = files[0].read_bytes()
                files[0].unlink()
                return files[0].name, content
            time.sleep(0.1)
        raise FirefoxError(f"nothing was downloaded; there is {list(self.downloads.iterdir())}")

    def screenshot(self, selector: str) -> np.ndarray:
        """The first element that a selector fits, as it is shown: (H, W, 3) uint8."""
        text = self.send("WebDriver:TakeScreenshot", id=self.find(selector), full=False, hash=False)
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))

    def enter(self, selector: str) -> None:
        """Send what follows to the page inside a frame; opening another page leaves it."""
        self.send("WebDriver:SwitchToFrame", element={ELEMENT: self.find(selector)})

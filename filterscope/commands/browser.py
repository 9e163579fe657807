"""A page in the user's browser, where there is one to show it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from filterscope.exit_codes import say

PATIENCE = 3.0  # seconds; a browser that its command waits for is open by then
SCRIPT = "import sys, webbrowser; sys.exit(0 if webbrowser.open(sys.argv[1]) else 1)"
NO_BROWSER = "no browser could be started"


def show_page(page: Path) -> None:
    """Open a page in the user's browser; where that cannot be, say so and go on.

    The browser is started by a process of its own: it can neither write into our output nor end with us.
    """
    reason = why_not(os.environ, sys.platform) or _started(page.absolute().as_uri())
    if reason:
        say(f"note: the report is not opened: {reason}")


def why_not(environment: Mapping[str, str], system: str) -> str:
    """Why there is nobody to show a page to; empty where there is.

    Args:
        environment: its variables. BROWSER names the user's own browser, and needs no display.
        system: as `sys.platform` names it.
    """
    if environment.get("CI", "").lower() not in ("", "0", "false"):
        return "this is a CI job"
    has_display = any(environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    if system in ("darwin", "win32", "cygwin") or has_display:
        return ""
    return "there is no display (neither DISPLAY nor BROWSER is set)"


def _started(address: str) -> str:
    """Start the browser; why it could not be started, or nothing."""
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", SCRIPT, address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return f"{NO_BROWSER} ({error.strerror})"
    try:
        return NO_BROWSER if process.wait(PATIENCE) else ""
    except subprocess.TimeoutExpired:
        threading.Thread(target=process.wait, daemon=True).start()  # takes note of its end, whenever it comes
        return ""

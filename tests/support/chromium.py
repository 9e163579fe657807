"""What modules need that show pages in Chromium: Playwright, the browser, marks of such tests, visits of a page."""

import shutil
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright for Python (extra dev)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

IN_CHROMIUM = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the PATH"),
    pytest.mark.filterwarnings("default::DeprecationWarning"),  # Playwright's own
    pytest.mark.filterwarnings("default::ResourceWarning"),
]


class Visit:
    """A page in a fresh, offline context, and everything it complained about."""

    def __init__(self, browser, **options):
        self.context = browser.new_context(offline=True, **options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url}"))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()

    def goto(self, path: Path, anchor: str = ""):
        self.page.goto(path.as_uri() + anchor)
        self.page.wait_for_timeout(100)  # console messages come a little after the load event

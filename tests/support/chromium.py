"""What modules need that show pages in Chromium: Playwright, the browser, and the marks of such tests."""

import shutil

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright for Python (extra dev)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

IN_CHROMIUM = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the PATH"),
    pytest.mark.filterwarnings("default::DeprecationWarning"),  # Playwright's own
    pytest.mark.filterwarnings("default::ResourceWarning"),
]

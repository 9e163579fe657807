"""The pictures of docs/report.md: pages of two runs as Chromium draws them.

    filterscope demo --out RUN
    python benchmarks/report_pictures.py RUN BRANCHED docs/report

RUN is the demo's, BRANCHED of any network whose layers branch and join; tests/support/synthetic_run.py writes one. Both
reports must have been made.
"""

from __future__ import annotations

import io
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A page, and how it is looked at."""

    name: str  # of the picture, without suffix
    page: str  # from the site's folder
    width: int = 1300  # CSS pixels, as is the height
    height: int = 900
    theme: str = "light"
    scroll_to: str = ""  # selector of the element at the top; empty: the top of the page
    branched: bool = False  # whether it is the branched run's


VIEWS = (
    View(name="overview", page="index.html"),
    View(name="architecture", page="index.html", height=560, scroll_to=".architecture", branched=True),
    View(name="layer", page="layer-conv4.html"),
    View(name="channel", page="layer-conv3.html#5", height=1200),
    View(name="channel-dark", page="layer-conv4.html#16", theme="dark"),
    View(name="image", page="image-0.html"),
    View(name="data", page="data.html"),
    View(name="classes", page="classes.html", theme="dark"),
    View(name="method", page="method.html"),
    View(name="phone", page="layer-conv2.html", width=390, height=844, theme="dark", scroll_to=".units"),
)


def main(run: str, branched: str, out: str) -> None:
    """Write each view as a WebP of its size."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for view in VIEWS:
            page = browser.new_context(
                viewport={"width": view.width, "height": view.height}, color_scheme=view.theme, offline=True
            ).new_page()
            site = Path(branched if view.branched else run) / "site"
            page.goto(f"{site.resolve().as_uri()}/{view.page}")
            page.wait_for_load_state("networkidle")
            if view.scroll_to:
                page.locator(view.scroll_to).first.evaluate("element => element.scrollIntoView()")
            page.wait_for_timeout(500)  # milliseconds: pictures below are decoded
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            picture.save(Path(out) / f"{view.name}.webp", quality=85, method=6)
            page.context.close()
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A comparison as Chromium shows it from the disk: no complaint, nothing asked of a server, pictures drawn."""

from __future__ import annotations

import pytest

from filterscope.analyzer.run.reader import Run
from filterscope.reports.compare.compare import compare
from support.chromium import CHROMIUM, IN_CHROMIUM, sync_api
from support.synthetic_run import HOSTILE_NAMES, synthetic_run

pytestmark = IN_CHROMIUM


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("compare")
    a = synthetic_run(place / "a", layers=6, channels=7, names=HOSTILE_NAMES)
    b = synthetic_run(place / "b", layers=6, channels=7, names=HOSTILE_NAMES, statuses={2: "dead", 3: "unraised"})
    return compare(Run(a), Run(b), "activation").save(place / "out").parent


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1400)])
def test_each_page_opens_from_the_disk_without_a_complaint(folder, scheme, width):
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = chromium.new_context(offline=True, color_scheme=scheme, viewport={"width": width, "height": 800})
        for path in sorted(folder.glob("*.html")):
            page = context.new_page()
            complaints: list[str] = []
            requests: list[str] = []
            page.on("console", lambda message, told=complaints: told.append(message.text))
            page.on("requestfailed", lambda request, told=complaints: told.append(f"failed: {request.url}"))
            page.on("dialog", lambda dialog, told=complaints: told.append(dialog.message))
            page.on("request", lambda request, asked=requests: asked.append(request.url))
            page.goto(path.as_uri())
            page.wait_for_timeout(100)
            assert complaints == []
            assert [url for url in requests if not url.startswith("file:///")] == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path.name
            sizes = page.evaluate(
                "[...document.querySelectorAll('.cmp-px:not(.cmp-none)')].map(e => getComputedStyle(e))"
                ".map(s => [s.backgroundImage, parseFloat(s.width), parseFloat(s.height)])"
            )
            assert sizes
            for image, wide, high in sizes:
                assert image.startswith('url("file:///')
                assert min(wide, high) >= 20
            page.close()
        chromium.close()

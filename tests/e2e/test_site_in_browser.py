"""The site as Chromium shows it from the disk: no complaint, nothing asked of a server, with and without script."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))  # synthetic_run lies one folder up

from synthetic_run import HOSTILE_NAMES, synthetic_run

from analyzer.run import Run
from reports.site import render

sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright for Python (extra dev)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the PATH"),
    pytest.mark.filterwarnings("default::DeprecationWarning"),  # Playwright's own
    pytest.mark.filterwarnings("default::ResourceWarning"),
]
VISIBLE_SPRITES = """() => [...document.querySelectorAll('.px:not(.blank), .maps a')]
    .filter(element => element.checkVisibility())
    .map(element => getComputedStyle(element, element.matches('.maps a') ? '::after' : null))
    .map(style => ({image: style.backgroundImage, width: parseFloat(style.width), height: parseFloat(style.height)}))
"""


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    run = synthetic_run(
        tmp_path_factory.mktemp("run") / "run", layers=3, channels=40, images=3, names=HOSTILE_NAMES, status="partial"
    )
    return render(Run(run)).parent


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


def one_of_each_kind(folder: Path) -> list[Path]:
    layers = sorted(folder.glob("layer-*.html"))
    return [folder / "index.html", layers[0], layers[-1], folder / "image-0.html", folder / "method.html"]


LOOKS = [  # name, script, colour scheme, width of the screen
    ("phone, light, with script", True, "light", 390),
    ("desk, dark, without script", False, "dark", 1400),
]


@pytest.mark.parametrize(("script", "scheme", "width"), [look[1:] for look in LOOKS], ids=[look[0] for look in LOOKS])
def test_each_page_opens_from_the_disk_without_a_complaint(browser, folder, script, scheme, width):
    options = {"java_script_enabled": script, "color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    for path in one_of_each_kind(folder):
        with Visit(browser, **options) as visit:
            visit.goto(path)
            assert visit.complaints == []
            assert visit.requests
            assert [url for url in visit.requests if not url.startswith("file:///")] == []
            assert visit.page.locator("h1").is_visible()
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= width, path.name


def test_pictures_are_drawn_without_script(browser, folder):
    for path in one_of_each_kind(folder)[:-1]:
        with Visit(browser, java_script_enabled=False) as visit:
            visit.goto(path)
            sprites = visit.page.evaluate(VISIBLE_SPRITES)
            assert sprites, path.name
            for sprite in sprites:
                assert sprite["image"].startswith('url("file:///')
                assert sprite["width"] >= 10
                assert sprite["height"] >= 10


def test_a_sprite_has_the_colours_of_its_picture(browser, folder):
    run = Run(folder.parent)
    layer = run.layers[0]
    row = next(r for r in run.units.to_pylist() if r["layer"] == layer["name"] and r["channel"] == 7)
    with Visit(browser, java_script_enabled=False) as visit:
        visit.goto(folder / f"layer-{layer['slug']}.html", "#u7")
        sprite = visit.page.locator("#u7 .px.k0")
        box = sprite.bounding_box()
        assert box["width"] % row["width"] == 0
        assert box["height"] % row["height"] == 0
        shown = _pixels(sprite.screenshot())
    expected = run.tile(row)
    factor = shown.shape[0] // expected.shape[0]
    assert factor > 1
    assert (shown[factor // 2 :: factor, factor // 2 :: factor] == expected).all()


def test_the_address_of_a_unit_opens_its_details(browser, folder):
    layer = sorted(folder.glob("layer-*.html"))[0]
    with Visit(browser, java_script_enabled=False) as visit:
        visit.goto(layer)
        assert visit.page.locator("#view-grid").is_checked(), "forty channels start as a grid"
        assert not visit.page.locator("#u5 .on-images").is_visible()
        visit.page.locator("#u5 h3 a").click()
        assert visit.page.url.endswith("#u5")
        assert visit.page.locator("#u5 .on-images").is_visible()
        assert visit.page.locator("#u5 figure").count() == 3
        assert not visit.page.locator("#u6 .on-images").is_visible()
        visit.page.locator("#u5 .steps a").last.click()
        assert visit.page.locator("#u6 .on-images").is_visible()
        visit.page.locator("#view-cards").check()
        assert visit.page.locator("#u9 .on-images").is_visible()
        assert visit.complaints == []


def test_the_grid_shows_the_kind_of_picture_that_is_chosen(browser, folder):
    with Visit(browser, java_script_enabled=False) as visit:
        visit.goto(sorted(folder.glob("layer-*.html"))[0])
        for chosen in (0, 1, 2):
            visit.page.locator(f"#kind-{chosen}").check()
            shown = [visit.page.locator(f"#u4 figure.f{kind}").is_visible() for kind in (0, 1, 2)]
            assert shown == [kind == chosen for kind in (0, 1, 2)]


def test_script_orders_and_filters_the_channels(browser, folder):
    run = Run(folder.parent)
    layer = run.layers[0]
    rows = [r for r in run.units.to_pylist() if r["layer"] == layer["name"] and r["objective"] == "channel"]
    with Visit(browser) as visit:
        visit.goto(folder / f"layer-{layer['slug']}.html")
        order = (
            "() => [...document.querySelectorAll('.unit')].filter(u => !u.hidden).map(u => Number(u.dataset.channel))"
        )
        assert visit.page.evaluate(order) == list(range(40))
        visit.page.locator("#order").select_option("activation")
        finite = [r for r in rows if r["activation"] is not None]
        expected = [r["channel"] for r in sorted(finite, key=lambda r: (-r["activation"], r["channel"]))]
        assert visit.page.evaluate(order)[: len(expected)] == expected
        visit.page.locator("#order").select_option("channel")
        visit.page.locator("#status").select_option("dead")
        dead = [r["channel"] for r in rows if r["status"] == "dead"]
        assert visit.page.evaluate(order) == dead
        assert visit.page.locator("#shown").inner_text() == f"{len(dead)} of 40"
        assert visit.complaints == []


def test_without_script_no_control_is_shown_that_would_do_nothing(browser, folder):
    with Visit(browser, java_script_enabled=False) as visit:
        visit.goto(sorted(folder.glob("layer-*.html"))[0])
        assert not visit.page.locator("#order").is_visible()
        assert not visit.page.locator("#status").is_visible()
        assert visit.page.locator("#view-cards").is_visible()


def _pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))

"""Maps over photos and pictures opened large, as Chromium shows them from the disk."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from filterscope.analyzer.run.reader import Run
from filterscope.reports.page import heat
from filterscope.reports.site.site import render, render_single
from support.chromium import IN_CHROMIUM
from support.synthetic_run import synthetic_run

pytestmark = IN_CHROMIUM
IMAGES = 3
NO_PHOTO = """() => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`.thumb, .u b::before { visibility: hidden !important; }
    .overlay, .u::before { border-radius: 0 !important; } body, .overlay { background: #fff !important; }`);
  document.adoptedStyleSheets = [sheet];
}"""
FOCUSED = "() => document.activeElement.getAttribute('aria-label')"
NO_STORAGE = "Object.defineProperty(window, 'localStorage', { get() { throw new Error('none'); } })"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("maps") / "run"
    run = Run(synthetic_run(place, layers=2, channels=6, images=IMAGES, studies=True, size=(32, 32)))
    render_single(run)
    return render(run).parent


@pytest.fixture
def visit(browser):
    """Opens a page in a context of the test's own; at the end, no page may have complained."""
    context = browser.new_context(offline=True, viewport={"width": 1200, "height": 900})
    complaints: list[str] = []

    def opened(path: Path, anchor: str = "", page=None):
        if page is None:
            page = context.new_page()
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri() + anchor)
        page.wait_for_timeout(150)
        return page

    opened.context = context
    yield opened
    context.close()
    assert complaints == []


def layer_page(folder: Path, index: int = 0) -> tuple[dict, Path]:
    layer = Run(folder.parent).layers[index]
    return layer, folder / f"layer-{layer['slug']}.html"


def map_row(folder: Path, slug: str, image: int, channel: int) -> dict:
    rows = Run(folder.parent).maps(slug).to_pylist()
    return next(row for row in rows if (row["image"], row["channel"]) == (image, channel))


def expected_colours(folder: Path, layer: dict, image: int, channel: int, *, is_shared: bool) -> np.ndarray:
    """A map in colours on white, one pixel a neuron, from the run's numbers alone: (H, W, 3)."""
    rows = [map_row(folder, layer["slug"], other, channel) for other in range(IMAGES)]
    row = rows[image]
    tile = Run(folder.parent).tile(row)
    assert tile is not None
    value = tile[:, :, 0] / 255
    if is_shared:
        is_rectified = layer["nonlinearity"].startswith("relu")
        low = 0 if is_rectified else min(row["minimum"] for row in rows)
        high = max(row["maximum"] for row in rows)
        value = ((row["minimum"] + value * (row["maximum"] - row["minimum"]) - low) / (high - low)).clip(0, 1)
    steps = np.linspace(0, 1, len(heat.VIRIDIS))
    colour = np.stack([np.interp(value, steps, heat.VIRIDIS[:, band]) for band in range(3)], -1)
    cover = (heat.CLEAR + (heat.DENSE - heat.CLEAR) * value)[..., None]
    return colour * cover + 255 * (1 - cover)


def centres(png: bytes, size: tuple[int, int], top: int = 0, height: int | None = None) -> np.ndarray:
    """The pixel in the middle of each block of a screenshot that stands for a neuron."""
    shown = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))[top:]
    shown = shown if height is None else shown[:height]
    rows, columns = (((np.arange(n) + 0.5) * side / n).astype(int) for n, side in zip(size, shown.shape, strict=False))
    return shown[rows][:, columns].astype(int)


def unlike(shown: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(shown - expected)[1:-1, 1:-1].max())  # corners may be round


@pytest.mark.parametrize("is_shared", [True, False], ids=["common scale", "own scale"])
@pytest.mark.parametrize("index", [0, 1])
def test_a_map_of_a_channel_has_the_colours_of_its_numbers(visit, folder, is_shared, index):
    layer, path = layer_page(folder, index)
    page = visit(path, "#4")
    page.locator(f"[data-maps={'common' if is_shared else 'own'}]:visible").first.click()
    page.locator("[data-maps=pixels]:visible").first.click()
    page.evaluate(NO_PHOTO)
    section = page.locator(".view section[aria-label='On your images']")
    order = sorted(range(IMAGES), key=lambda image: -map_row(folder, layer["slug"], image, 4)["maximum"])
    for place, image in enumerate(order):
        expected = expected_colours(folder, layer, image, 4, is_shared=is_shared)
        shown = centres(section.locator(".overlay").nth(place).screenshot(), expected.shape[:2])
        assert unlike(shown, expected) < 6
    figure = section.locator("figcaption").first.inner_text()
    assert "highest" in figure
    assert "mean" in figure


@pytest.mark.parametrize("is_shared", [True, False], ids=["common scale", "own scale"])
def test_a_tile_of_the_grid_has_the_colours_of_its_numbers(visit, folder, is_shared):
    layer, path = layer_page(folder)
    page = visit(path)
    page.locator("input[value=m1]").check(force=True)
    page.locator(f"[data-maps={'common' if is_shared else 'own'}]:visible").click()
    page.locator("[data-maps=pixels]:visible").click()
    page.wait_for_timeout(200)
    page.evaluate(NO_PHOTO)
    assert page.locator(".if-common:visible").count() == is_shared
    for channel in (0, 4):
        expected = expected_colours(folder, layer, 1, channel, is_shared=is_shared)
        png = page.locator(f'.u[id="{channel}"]').screenshot()
        assert unlike(centres(png, expected.shape[:2], top=24, height=112), expected) < 6


def test_without_script_maps_are_in_colours_over_their_photo(browser, folder):
    layer, path = layer_page(folder)
    context = browser.new_context(offline=True, java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    page.locator("input[value=m1]").check(force=True)
    under = page.locator('.u[id="4"] b').evaluate(
        "e => { const s = getComputedStyle(e, '::before'); return [s.backgroundImage, s.width] }"
    )
    assert "images-grey.webp" in under[0]
    assert under[1] == "112px"
    assert page.locator(".unless-common").is_visible(), "it is said that each map is on its own scale"
    assert not page.locator("[data-maps]").first.is_visible(), "what would do nothing is not shown"
    page.evaluate(NO_PHOTO)
    expected = expected_colours(folder, layer, 1, 4, is_shared=False)
    png = page.locator('.u[id="4"]').screenshot()
    assert np.abs(centres(png, expected.shape[:2], top=24, height=112) - expected)[2:-2, 2:-2].mean() < 6
    page.goto((folder / "image-1.html").as_uri())
    page.evaluate(NO_PHOTO)
    tile = page.locator(f"#layer-{layer['slug']} figure").first
    channel = int(tile.locator("b").inner_text())
    expected = expected_colours(folder, layer, 1, channel, is_shared=True)
    shown = centres(tile.locator(".overlay").screenshot(), expected.shape[:2])
    assert np.abs(shown - expected)[2:-2, 2:-2].mean() < 6
    context.close()


def test_script_and_program_take_maps_to_the_same_scale(visit, folder):
    ends = [(0.0, 4.0), (1.0, 2.0), (-3.0, 2.0), (-3.0, -1.0), (-300.0, 4.0), (2.0, 2.0), (0.0, 0.0)]
    page = visit(layer_page(folder)[1])
    for scale in ((0.0, 4.0), (-301.0, 4.0)):
        found = page.evaluate("([all, scale]) => all.map(one => heatmaps.rescaling(one, scale))", [ends, scale])
        assert found == [heat.rescaling(one, scale) for one in ends]
    for is_rectified in (True, False):
        found = page.evaluate("([all, is]) => heatmaps.shared(all, is)", [ends, is_rectified])
        assert tuple(found) == heat.shared_scale(ends, is_rectified=is_rectified)
    assert page.evaluate("heatmaps.shared([[null, null], [2, 2]], false)") is None


@pytest.mark.parametrize("stored", [True, False], ids=["storage", "no storage"])
def test_the_choice_of_scale_is_remembered_on_the_next_page(visit, folder, stored):
    if not stored:
        visit.context.add_init_script(NO_STORAGE)
    page = visit(folder / "image-0.html")
    assert page.locator("[data-maps=common]").first.get_attribute("aria-pressed") == "true"
    page.locator("[data-maps=own]").first.click()
    page.locator("[data-maps=pixels]").first.click()
    page.locator(".firing h3 a").first.click()
    page.wait_for_timeout(200)
    assert "layer-" in page.url
    pressed = page.locator("[data-maps][aria-pressed=true]").evaluate_all("all => all.map(one => one.dataset.maps)")
    assert set(pressed) == {"own", "pixels"}
    assert page.evaluate("document.documentElement.className") == "own-scale map-pixels"


def test_a_strongest_place_opens_large_with_its_field_and_escape_stays_with_the_channel(visit, folder):
    page = visit(layer_page(folder)[1], "#1")
    section = page.locator("section[aria-label='Strongest on the data']")
    assert "Over the three strongest lies the channel's map" in section.inner_text()
    assert section.locator(".map-heat").count() == 3
    small = section.locator(".twin").nth(1)
    before = small.locator(".overlay").bounding_box()["width"]
    small.click()
    dialog = page.locator("dialog[open]")
    assert dialog.locator(".overlay").bounding_box()["width"] > 2 * before
    frame, whole = (dialog.locator(name).bounding_box() for name in (".field", ".overlay"))
    assert 0 < frame["width"] < whole["width"]
    assert whole["x"] <= frame["x"] + 2
    assert "activation" in dialog.locator(".large-title").inner_text()
    assert "that field framed" in dialog.inner_text()
    page.keyboard.press("ArrowRight")
    assert dialog.locator(".large-title").inner_text().startswith("3.")
    page.keyboard.press("Escape")
    page.wait_for_timeout(100)
    assert dialog.count() == 0
    assert page.url.endswith("#1")
    assert page.locator(".view h2").inner_text().startswith("Channel 1")
    assert page.evaluate(FOCUSED).startswith("3."), "focus is where the reader stopped"
    page.keyboard.press("Enter")
    assert dialog.count() == 1
    dialog.locator(".large-picture").click()
    assert dialog.count() == 0


def test_every_kind_of_picture_opens_large_and_links_still_lead(visit, folder):
    page = visit(layer_page(folder)[1], "#1")
    kinds = (".maximised .pic", "[aria-label='On your images'] .overlay", ".columns .pic")
    for number, kind in enumerate(kinds):
        picture = page.locator(f".view {kind}").first
        picture.scroll_into_view_if_needed()
        before = picture.bounding_box()["width"]
        picture.click()
        large = page.locator("dialog[open] .large-picture > *")
        assert large.bounding_box()["width"] > before, kind
        assert page.locator("dialog[open] .heat-key").count() == (number == 1), "maps bring their colours along"
        page.get_by_role("button", name="Close").click()
    page.locator(".view a.map").first.click()
    page.wait_for_timeout(200)
    assert page.locator("dialog[open]").count() == 0
    assert not page.locator(".view h2").inner_text().startswith("Channel 1 ")
    visit(folder / "image-0.html", page=page)
    for kind in (".stack > div", ".drawn > img", ".firing .overlay", ".seen > img"):
        page.locator(kind).first.click()
        assert page.locator("dialog[open] .large-title").inner_text(), kind
        page.keyboard.press("Escape")
        page.wait_for_timeout(50)
        assert page.locator("dialog[open]").count() == 0
    visit(layer_page(folder)[1], page=page)
    page.locator('.u[id="2"]').click()
    page.wait_for_timeout(150)
    assert page.locator("dialog[open]").count() == 0, "a click in the grid opens the channel"
    assert page.locator(".view h2").inner_text().startswith("Channel 2")


def test_in_a_single_file_a_map_opens_over_the_image_itself(visit, folder):
    slug = layer_page(folder)[0]["slug"]
    page = visit(folder.parent / "report.html", f"#layer-{slug}.1")
    page.locator("main:visible [aria-label='On your images'] .overlay").first.click()
    style = page.locator("dialog[open] .thumb").get_attribute("style")
    assert "data:image/webp" in style


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation_in_an_open_picture(browser, folder, scheme):
    axe = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python (extra dev)")
    source = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    context = browser.new_context(offline=True, color_scheme=scheme, viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.goto(layer_page(folder)[1].as_uri() + "#1")
    page.locator(".view [aria-label='On your images'] .overlay").first.click()
    page.evaluate(source)
    found = page.evaluate("axe.run({preload: false})")
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()

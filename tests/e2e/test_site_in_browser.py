"""The site as Chromium shows it from the disk: no complaint, nothing asked of a server, with and without script."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from filterscope.analyzer.run.reader import Run
from filterscope.reports.page import words
from filterscope.reports.site import layer_page
from filterscope.reports.site.site import render, render_single
from support.chromium import IN_CHROMIUM, Visit
from support.synthetic_run import HOSTILE_NAMES, synthetic_run

pytestmark = IN_CHROMIUM
LAY_OUT = """() => document.querySelectorAll('.layer, .firing, .class-tile').forEach(
    element => { element.style.contentVisibility = 'visible' })"""  # what lies off the screen has no size otherwise
VISIBLE_SPRITES = """() => [...document.querySelectorAll('.px:not(.blank), .pic:not(.blank), .u')]
    .filter(element => element.checkVisibility())
    .map(element => getComputedStyle(element, element.matches('.u') ? '::before' : null))
    .map(style => ({image: style.backgroundImage, width: parseFloat(style.width), height: parseFloat(style.height)}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    run = synthetic_run(
        tmp_path_factory.mktemp("run") / "run",
        layers=3,
        channels=40,
        images=3,
        names=HOSTILE_NAMES,
        status="partial",
        studies=True,
    )
    return render(Run(run)).parent


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A site and a single file with all kinds of page and few channels: axe looks at every element."""
    place = tmp_path_factory.mktemp("small") / "run"
    run = Run(synthetic_run(place, layers=1, channels=6, images=1, names=HOSTILE_NAMES, status="partial", studies=True))
    render_single(run)
    return render(run).parent


@pytest.fixture(scope="module")
def single(folder):
    return render_single(Run(folder.parent))


def one_of_each_kind(folder: Path) -> list[Path]:
    layers = sorted(folder.glob("layer-*.html"))
    pages = [folder / "index.html", layers[0], layers[-1], folder / "image-0.html", folder / "classes.html"]
    return [*pages, folder / "data.html", folder / "method.html"]


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
            visit.page.evaluate(LAY_OUT)
            sprites = visit.page.evaluate(VISIBLE_SPRITES)
            assert sprites, path.name
            for sprite in sprites:
                assert sprite["image"].startswith('url("file:///')
                assert sprite["width"] >= 10
                assert sprite["height"] >= 10


def first_layer(folder: Path) -> tuple[Run, dict, Path]:
    run = Run(folder.parent)
    return run, run.layers[0], folder / f"layer-{run.layers[0]['slug']}.html"


def packed(folder: Path, slug: str, channel: int) -> dict:
    """What the page's script reads of a channel."""
    text = (folder / "assets" / f"{slug}-u{channel // layer_page.CHUNK}.js").read_text(encoding="utf-8")
    units = json.loads(f"[{text.removeprefix('filterscope(').removesuffix(');' + chr(10))}]")[3]
    return next(unit for unit in units if unit["c"] == channel)


def test_a_tile_has_the_colours_of_its_picture(browser, folder):
    run, layer, path = first_layer(folder)
    row = next(r for r in run.units.to_pylist() if r["layer"] == layer["name"] and r["channel"] == 7)
    with Visit(browser, java_script_enabled=False) as visit:
        visit.goto(path)
        tile = visit.page.locator('.u[id="7"]')
        tile.scroll_into_view_if_needed()
        shown = _pixels(tile.screenshot())
    expected = run.tile(row)
    factor = 128 // max(expected.shape[:2])
    assert factor > 1
    side = factor * expected.shape[0]
    top = 24  # the line above, with its number
    picture = shown[top : top + side, : factor * expected.shape[1]]
    # Corners are round: the middle is compared.
    middle = picture[factor // 2 :: factor, factor // 2 :: factor][1:-1, 1:-1]
    assert (middle == expected[1:-1, 1:-1]).all()


def test_the_grid_shows_what_is_chosen_without_script(browser, folder):
    with Visit(browser, java_script_enabled=False) as visit:
        visit.goto(first_layer(folder)[2])
        tile = visit.page.locator('.u[id="4"]')
        seen = set()
        for mode in ("k0", "k1", "k2", "w", "b", "m0", "m2"):
            visit.page.locator(f"input[value={mode}]").check(force=True)
            style = tile.evaluate(
                "e => { const s = getComputedStyle(e, '::before'), n = getComputedStyle(e, '::after').content;"
                " return s.backgroundImage + s.backgroundPosition + n }"
            )
            seen.add(style)
            assert visit.page.locator(".about-mode:visible").count() == 1
        assert len(seen) == 7
        assert not visit.page.locator("select").first.is_visible(), "what would do nothing is not shown"


@pytest.fixture(scope="module")
def diverse(tmp_path_factory):
    """Two layers; in the second, three of four channels have diverse pictures, and channel 1 four times the same."""
    place = tmp_path_factory.mktemp("diverse") / "run"
    run = synthetic_run(
        place, layers=2, channels=4, images=1, diverse=3, first=["conv1"], status="partial", statuses={}
    )
    return render(Run(run)).parent


DIVERSE_TILES = """() => [...document.querySelectorAll('.layer-page .units li')].filter(e => e.checkVisibility()).map(
    e => [...e.querySelectorAll('.pic')].filter(e => e.checkVisibility()).map(
        e => [Math.round(e.clientWidth), getComputedStyle(e).backgroundImage != 'none']))"""


@pytest.mark.parametrize("media", ["screen", "print"])
def test_the_grid_shows_four_diverse_pictures_a_channel_and_one_where_they_agree(browser, diverse, media):
    path = diverse / f"layer-{Run(diverse.parent).layers[1]['slug']}.html"
    with Visit(browser, java_script_enabled=False) as visit:
        visit.goto(path)
        assert visit.page.evaluate(DIVERSE_TILES) == [[]] * 4
        assert visit.page.locator(".u .first:visible").count() == 4
        visit.page.locator("input[value=d]").check(force=True)
        visit.page.emulate_media(media=media)
        four, one = [[80, True]] * 4, [[162, True]]  # 20 pixels four times, and a gap between two
        assert visit.page.evaluate(DIVERSE_TILES) == [four, one, four], "a channel that has none is left out"
        assert visit.page.locator(".u .first:visible").count() == 0, "those of the channel alone are first ones"
        assert visit.complaints == []


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("is_single", [False, True], ids=["folder", "single file"])
def test_a_view_shows_diverse_pictures_as_one_figure(browser, diverse, is_single, width):
    run = Run(diverse.parent)
    page = f"layer-{run.layers[1]['slug']}"
    path, anchor = (render_single(run), f"#{page}.") if is_single else (diverse / f"{page}.html", "#")
    rows = {(r["channel"], r["objective"]): r for r in run.units.to_pylist() if r["layer"] == run.layers[1]["name"]}
    with Visit(browser, viewport={"width": width, "height": 900}) as visit:
        visit.goto(path, f"{anchor}0")
        view = visit.page.locator(".view:visible")
        figures = view.locator(".maximised figure")
        diverse_ones = figures.filter(has_text="Diversity")
        expected = [f"mean {words.figure(rows[0, f'diversity-{number}']['activation'])}" for number in range(1, 5)]
        assert diverse_ones.locator(".value").all_inner_texts() == expected
        assert "Diversity 1" in figures.nth(1).inner_text(), "they stand beside the channel's picture"
        assert view.locator(".main .badge").inner_text() == "first picture, a finer one follows"
        assert all(sprite["image"] != "none" for sprite in visit.page.evaluate(VISIBLE_SPRITES))
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        visit.page.keyboard.press("ArrowRight")
        visit.page.wait_for_timeout(100)
        assert diverse_ones.count() == 1
        assert "four ascents, one picture" in diverse_ones.inner_text()
        visit.page.keyboard.press("ArrowRight")
        visit.page.keyboard.press("ArrowRight")  # at once: no step is lost
        view.get_by_role("heading", name="Channel 3").wait_for()
        assert diverse_ones.count() == 0
        assert visit.complaints == []


def test_channels_are_ordered_by_the_highest_of_their_diverse_pictures(browser, diverse):
    run = Run(diverse.parent)
    rows = [r for r in run.units.to_pylist() if r["objective"].startswith("diversity")]
    highest = {c: max(r["activation"] for r in rows if r["channel"] == c) for c in range(3)}
    with Visit(browser) as visit:
        visit.goto(diverse / f"layer-{run.layers[1]['slug']}.html")
        visit.page.locator("input[value=d]").check(force=True)
        visit.page.locator("[name=order]").select_option("activation")
        assert visit.page.evaluate(SHOWN)[:3] == sorted(highest, key=lambda channel: -highest[channel])


SHOWN = "() => [...document.querySelectorAll('.units li')].filter(e => !e.hidden).map(e => Number(e.firstChild.id))"


def test_script_orders_filters_and_finds_channels(browser, folder):
    run, layer, path = first_layer(folder)
    rows = [r for r in run.units.to_pylist() if r["layer"] == layer["name"] and r["objective"] == "channel"]
    with Visit(browser) as visit:
        visit.goto(path)
        assert sorted(visit.page.evaluate(SHOWN)) == list(range(40))
        visit.page.locator("[name=order]").select_option("channel")
        assert visit.page.evaluate(SHOWN) == list(range(40))
        visit.page.locator("[name=order]").select_option("activation")
        finite = [r for r in rows if r["activation"] is not None]
        expected = [r["channel"] for r in sorted(finite, key=lambda r: (-r["activation"], r["channel"]))]
        assert visit.page.evaluate(SHOWN)[: len(expected)] == expected
        visit.page.locator("[name=order]").select_option("channel")
        visit.page.locator("[name=only]").select_option("dead")
        dead = [r["channel"] for r in rows if r["status"] == "dead"]
        assert visit.page.evaluate(SHOWN) == dead
        assert visit.page.locator(".shown").inner_text() == f"{len(dead)} of 40"
        visit.page.locator("[name=only]").select_option("")
        visit.page.locator("[name=find]").fill("8-11")
        visit.page.wait_for_timeout(200)
        assert visit.page.evaluate(SHOWN) == [8, 9, 10, 11]
        visit.page.locator("[name=find]").fill("edges")
        visit.page.wait_for_timeout(200)
        assert visit.page.evaluate(SHOWN) == list(range(0, 40, 2))
        assert visit.complaints == []


def test_the_address_of_a_channel_opens_its_view_and_keys_walk_on(browser, folder):
    run, layer, path = first_layer(folder)
    row = next(r for r in run.units.to_pylist() if r["layer"] == layer["name"] and r["channel"] == 5)
    with Visit(browser) as visit:
        page = visit.page
        visit.goto(path, "#5")
        view = page.locator(".view")
        assert view.locator("h2").inner_text().startswith("Channel 5")
        lead, sure = view.locator(".lead").inner_text(), view.locator(".sure").inner_text()
        facts = packed(folder, layer["slug"], 5)["a"]
        assert (lead, sure) == (facts[0], f"Its picture is {facts[1]}. {facts[2]}")
        assert "times that on the strongest natural image." in sure
        shown = view.locator(".maximised figure").nth(0)
        numbers = f"mean {words.figure(row['activation'])}, highest {words.figure(row['highest'])}"
        assert shown.locator(".value").inner_text() == numbers
        view.locator(".all-numbers summary").click()
        first = view.locator(".all-numbers tbody tr").nth(0).locator("td").all_inner_texts()
        kept = words.percent(row["robust"] / row["activation"])
        assert first[:3] == [
            words.figure(row["activation"]),
            f"{words.figure(row['robust'])} ({kept})",
            words.figure(row["random"]),
        ]
        assert view.locator(".maximised figure").count() == 3
        assert view.locator(".twin").count() == 4
        assert view.locator(".row.maps .map .m").count() == 3
        listens, feeds = (
            view.locator("section", has=page.get_by_role("heading", name=name, exact=True))
            for name in ("Listens to", "Feeds")
        )
        assert listens.locator("li").count() == 3
        assert feeds.locator("li b").all_inner_texts() == ["+", "−"]
        assert "--channels 5" in view.get_by_label("Make it again").inner_text()
        sprites = page.evaluate(VISIBLE_SPRITES)
        assert all(sprite["image"].startswith('url("file:///') for sprite in sprites)
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(100)
        assert page.url.endswith("#6")
        assert view.locator("h2").inner_text().startswith("Channel 6")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Escape")
        page.wait_for_timeout(100)
        assert view.is_hidden()
        assert page.locator(".units").is_visible()
        page.locator('.u[id="9"]').click()
        page.wait_for_timeout(100)
        assert view.locator("h2").inner_text().startswith("Channel 9")
        page.go_back()
        page.wait_for_timeout(100)
        assert view.is_hidden()
        assert visit.complaints == []


def test_numbers_are_written_by_script_as_by_the_program(browser, folder):
    values = [0.0, 12.3456, 9.996, -0.0123, 1234.5, 99999.0, 1.5e6, -1.2e-4, 0.5, 100.0, 3e-9, 41.04]
    shares = [0.394, 1.0, 0.9999, 0.0, 1e-9, 0.25]
    with Visit(browser) as visit:
        visit.goto(first_layer(folder)[2])
        assert visit.page.evaluate("values => values.map(figure)", values) == [words.figure(v) for v in values]
        assert visit.page.evaluate("values => values.map(percent)", shares) == [words.percent(v) for v in shares]


def test_the_slider_lays_an_attribution_over_its_image(browser, folder):
    with Visit(browser) as visit:
        visit.goto(folder / "image-0.html")
        under = visit.page.locator(".stack img").first
        opacity = "e => Number(getComputedStyle(e).opacity)"
        visit.page.locator("[name=blend]").fill("0")
        assert under.evaluate(opacity) == 1
        visit.page.locator("[name=blend]").fill("100")
        assert under.evaluate(opacity) == 0
        assert visit.complaints == []


def test_the_architecture_zooms_with_keys(browser, folder):
    with Visit(browser) as visit:
        visit.goto(folder / "index.html")
        frame = visit.page.locator(".of-all .canvas")
        width = "() => document.querySelector('.of-all .canvas > svg').clientWidth"
        visit.page.locator(".of-all [data-zoom=in]").click()
        before = visit.page.evaluate(width)
        frame.focus()
        visit.page.keyboard.press("+")
        visit.page.keyboard.press("+")
        assert visit.page.evaluate(width) > 1.5 * before
        assert visit.complaints == []


@pytest.mark.parametrize("script", [True, False])
def test_the_architecture_shows_all_operations_or_the_convolutions(browser, folder, script):
    with Visit(browser, java_script_enabled=script) as visit:
        visit.goto(folder / "index.html")
        whole, layers = (visit.page.locator(f".drawing.{name}") for name in ("of-all", "of-layers"))
        assert (whole.is_visible(), layers.is_visible()) == (True, False)
        visit.page.locator("[name=drawing][value=layers]").check()
        assert (whole.is_visible(), layers.is_visible()) == (False, True)
        assert visit.complaints == []


@pytest.mark.parametrize("script", [True, False])
def test_a_single_file_is_whole_in_itself(browser, single, folder, script):
    slug = first_layer(folder)[1]["slug"]
    with Visit(browser, java_script_enabled=script) as visit:
        visit.goto(single)
        assert visit.page.locator("main:visible").count() == 1
        visit.page.locator("#index .layers a").first.click()
        visit.page.wait_for_timeout(200)
        assert visit.page.locator("main:visible").get_attribute("id") == f"layer-{slug}"
        visit.page.locator(f'[id="layer-{slug}.7"]').click()
        visit.page.wait_for_timeout(300)
        if script:
            assert visit.page.locator("main:visible .view h2").inner_text().startswith("Channel 7")
            with visit.page.expect_download() as download:
                visit.page.get_by_text("Download PNG").click()
            run, layer, _ = first_layer(folder)
            row = next(r for r in run.units.to_pylist() if r["layer"] == layer["name"] and r["channel"] == 7)
            assert (_pixels(Path(download.value.path()).read_bytes()) == run.tile(row)).all()
        assert visit.complaints == []
        requests = [url for url in visit.requests if not url.startswith(("file:", "data:", "blob:"))]
        assert requests == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("light", 390)])
def test_axe_finds_no_violation(browser, small, scheme, width):
    folder = small
    axe = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python (extra dev)")
    source = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    layer = first_layer(folder)
    pages = [(path, "") for path in one_of_each_kind(folder)] + [(layer[2], "#5")]
    pages += [(folder.parent / "report.html", "")]
    for path, anchor in pages:
        with Visit(browser, color_scheme=scheme, viewport={"width": width, "height": 900}) as visit:
            visit.goto(path, anchor)
            visit.page.evaluate(LAY_OUT)
            visit.page.evaluate(source)
            found = visit.page.evaluate("axe.run({preload: false})")
            assert len(found["passes"]) > 10
            told = [
                (v["id"], v["nodes"][0]["html"][:200], v["nodes"][0]["failureSummary"]) for v in found["violations"]
            ]
            assert told == [], f"{path.name}{anchor}"


def _pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))

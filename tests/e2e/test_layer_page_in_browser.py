"""A layer's page at work: the address that holds what is chosen, look-alikes, search, and what is not there."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from filterscope.analyzer.run import tables
from filterscope.analyzer.run.reader import Run
from filterscope.reports.page.folder import Files
from filterscope.reports.site.single import bundled
from filterscope.reports.site.site import Extent, Site, render, render_single
from support.changed_tables import change_rows
from support.chromium import IN_CHROMIUM, Visit
from support.synthetic_run import synthetic_run

pytestmark = IN_CHROMIUM
SHOWN = """() => [...document.querySelectorAll('.units li')].filter(e => e.checkVisibility())
    .map(e => Number(e.firstChild.id.split('.').at(-1)))"""
CHANNELS = "() => [...document.querySelectorAll('.units .u')].map(e => Number(e.id.split('.').at(-1)))"
TWINS = {0: [4], 4: [0, 6], 6: [4], 9: [10], 10: [9]}  # channel → look-alikes
FIRST = "features.0.conv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A site of two layers of twelve channels, of which two groups are alike, with classes and a third layer unseen."""
    place = synthetic_run(
        tmp_path_factory.mktemp("layer") / "run", layers=2, channels=12, images=2, studies=True, statuses={5: "dead"}
    )
    twins = {channel: TWINS.get(channel, []) for channel in range(12)}
    change_rows(
        place / "weights/features-0-conv.parquet",
        lambda row: {"alike": twins[row["channel"]], "cosines": [0.99] * len(twins[row["channel"]])},
    )
    classes = [("features.1.conv", 7, "great dane", 0.98), (FIRST, 1, "great dane", 0.75), (FIRST, 3, "eyed hawk", 0.9)]
    rows = [
        {"layer": layer, "channel": channel, "rank": 0, "index": 0, "name": name, "auc": auc, "mean": 1.0, "images": 4}
        for layer, channel, name, auc in classes
    ]
    name = "examples/unit_classes.parquet"
    pq.write_table(pa.Table.from_pylist(rows, tables.TABLES[name]), place / name)
    render_single(Run(place))
    return render(Run(place)).parent


@pytest.fixture(params=["folder", "single file"])
def layer(request, folder):
    """The first layer's page as a file, what its addresses begin with, and its address itself."""
    if request.param == "folder":
        return folder / "layer-features-0-conv.html", "#", ""
    return folder.parent / "report.html", "#layer-features-0-conv.", "#layer-features-0-conv"


def settle(visit: Visit) -> None:
    visit.page.wait_for_timeout(250)


def test_what_is_chosen_stands_in_the_address_and_comes_back(browser, layer):
    path, prefix, plain = layer
    with Visit(browser) as visit:
        page = visit.page
        visit.goto(path, plain)
        main = page.locator(".layer-page:visible")
        first = page.evaluate(SHOWN)
        main.locator("[name=order]").select_option("activation")
        main.locator("[name=only]").select_option("dead")
        assert page.url.endswith(f"{prefix}order=activation&only=dead")
        main.locator("[name=only]").select_option("")
        main.locator("[name=find]").fill("1-3")
        settle(visit)
        main.locator("[name=find]").fill("1-4")
        settle(visit)
        main.locator("[value=w]").check(force=True)
        settle(visit)
        assert page.url.endswith(f"{prefix}order=activation&show=w&find=1-4")
        shown = page.evaluate(SHOWN)
        assert sorted(shown) == [1, 2, 3, 4]
        address = page.url
        page.go_back()
        settle(visit)
        assert main.locator("[value=k0]").is_checked()
        page.go_back()  # what was typed counts once
        settle(visit)
        assert page.url.endswith(f"{prefix}order=activation")
        page.go_back()
        settle(visit)
        assert page.evaluate(SHOWN) == [5]
        page.go_back()
        page.go_back()
        settle(visit)
        assert page.evaluate(SHOWN) == first
        page.go_forward()
        settle(visit)
        assert main.locator("[name=order]").input_value() == "activation"
        assert main.is_visible()
        assert visit.complaints == []
    with Visit(browser) as visit:
        visit.page.goto(address)
        settle(visit)
        assert visit.page.locator("main:visible").count() == 1
        assert visit.page.evaluate(SHOWN) == shown
        assert visit.page.locator(".layer-page:visible [value=w]").is_checked()
        assert visit.complaints == []


def test_an_address_that_means_nothing_changes_nothing(browser, layer):
    path, prefix, _ = layer
    for anchor in ("order=nonsense&only=%E0%A4%A&show=k99", "find=%", "order=", "%"):
        with Visit(browser) as visit:
            visit.goto(path, f"{prefix}{anchor}")
            settle(visit)
            assert visit.complaints == [], anchor
            if anchor != "find=%":
                assert len(visit.page.evaluate(SHOWN)) in (9, 0)


def test_a_view_leads_back_to_what_was_chosen(browser, layer):
    path, prefix, _ = layer
    with Visit(browser) as visit:
        page = visit.page
        visit.goto(path, f"{prefix}order=channel&find=3-8")
        settle(visit)
        page.locator(f'.u[id="{prefix[1:]}5"]').click()
        settle(visit)
        assert page.locator(".view:visible h2").inner_text().startswith("Channel 5")
        page.keyboard.press("ArrowRight")
        settle(visit)
        assert page.url.endswith(f"{prefix}6")
        page.locator(".view:visible .all").click()
        settle(visit)
        assert page.url.endswith(f"{prefix}order=channel&find=3-8")
        assert page.evaluate(SHOWN) == [3, 4, 5, 6, 7, 8]
        assert visit.complaints == []


def test_look_alikes_are_one_tile_that_a_click_unfolds(browser, layer):
    path, _, plain = layer
    with Visit(browser) as visit:
        page = visit.page
        visit.goto(path, plain)
        settle(visit)
        folded = page.evaluate(SHOWN)
        assert len(folded) == 9
        assert len({0, 4, 6} & set(folded)) == len({9, 10} & set(folded)) == 1
        button = page.locator(".alike:visible", has_text="+2 alike")
        head = next(iter({0, 4, 6} & set(folded)))
        assert button.get_attribute("aria-expanded") == "false"
        button.click()
        shown = page.evaluate(SHOWN)
        assert len(shown) == 11
        at = shown.index(head)
        assert set(shown[at : at + 3]) == {0, 4, 6}
        assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
        page.keyboard.press("Enter")
        assert page.evaluate(SHOWN) == folded
        main = page.locator(".layer-page:visible")
        main.locator("[name=order]").select_option("alike")
        assert len(page.evaluate(SHOWN)) == 12, "the order by similarity unfolds all"
        main.locator("[name=order]").select_option("channel")
        main.locator("[name=only]").select_option("twins")
        assert page.evaluate(SHOWN) == [0, 4, 6, 9, 10]
        main.locator("[name=only]").select_option("")
        main.locator("[name=find]").fill("4")
        settle(visit)
        assert page.evaluate(SHOWN) == [4], "what is searched for is never folded away"
        assert visit.complaints == []
    with Visit(browser, java_script_enabled=False) as visit:
        visit.goto(path, plain)
        assert len(visit.page.evaluate(SHOWN)) == 12


def test_a_filter_leaves_look_alikes_only_their_own_button(browser, folder):
    with Visit(browser) as visit:
        visit.goto(folder / "layer-features-0-conv.html", "#only=ok")
        settle(visit)
        assert len(visit.page.evaluate(SHOWN)) == 9
        visit.page.locator("[name=only]").select_option("dead")
        assert visit.page.evaluate(SHOWN) == [5]
        assert visit.page.locator(".alike").count() == 0


def test_channels_of_a_layer_are_found_by_class(browser, folder):
    with Visit(browser) as visit:
        visit.goto(folder / "layer-features-0-conv.html", "#find=great+Dane")
        settle(visit)
        assert visit.page.evaluate(SHOWN) == [1]


ABSENT = [  # channel, heading, sentence, whether a command stands below
    (12, "No channel 12", "features.0.conv has channels 0 to 11.", False),
    (99999999999999, "No channel 99999999999999", "features.0.conv has channels 0 to 11.", False),
]


@pytest.mark.parametrize(("channel", "heading", "sentence", "has_command"), ABSENT)
def test_a_channel_that_does_not_exist_is_said_not_to(browser, layer, channel, heading, sentence, has_command):
    path, prefix, _ = layer
    with Visit(browser) as visit:
        visit.goto(path, f"{prefix}{channel}")
        settle(visit)
        view = visit.page.locator(".view:visible")
        assert view.locator("h2").inner_text() == heading
        assert view.locator(".lead").inner_text() == sentence
        assert (view.locator("pre").count() == 1) is has_command
        visit.page.keyboard.press("Escape")
        settle(visit)
        assert view.count() == 0
        assert len(visit.page.evaluate(SHOWN)) == 9
        assert visit.complaints == []


def test_a_channel_that_was_not_analysed_has_the_command_that_would(browser, tmp_path):
    place = synthetic_run(tmp_path / "run", layers=1, channels=4, images=0)
    text = (place / "layers.json").read_text("utf-8").replace('"out_channels": 4', '"out_channels": 40', 1)
    (place / "layers.json").write_text(text, "utf-8")
    folder = render(Run(place)).parent
    for path, prefix, why in (
        (folder / "layer-features-0-conv.html", "#", "not analysed in this run"),
        (render_single(Run(place)), "#layer-features-0-conv.", "not in this file"),
    ):
        with Visit(browser) as visit:
            visit.goto(path, f"{prefix}17")
            settle(visit)
            view = visit.page.locator(".view:visible")
            assert view.locator(".lead").inner_text() == (
                "Channel 17 was not analysed in this run. This command analyses it:"
            )
            command = (
                "filterscope analyze 'my model.onnx' --images photos --layers features.0.conv --out again --channels 17"
            )
            assert view.locator("code").inner_text() == command
            visit.page.locator("#search").fill("features.0.conv 17")
            settle(visit)
            assert visit.page.locator(".hit").inner_text() == f"features.0.conv, channel 17\n{why}"


def test_a_channel_that_a_single_file_leaves_out_is_said_to_be_left_out(browser, tmp_path):
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=6, images=0, statuses={}))
    files = Files()
    Site(run, files, Extent(0, 3, False, lossless=0)).write()
    (tmp_path / "report.html").write_bytes(bundled(files.contents))
    with Visit(browser) as visit:
        visit.goto(tmp_path / "report.html")
        left_out = min(set(range(6)) - set(visit.page.evaluate(CHANNELS)))
        visit.goto(tmp_path / "report.html", f"#layer-features-0-conv.{left_out}")
        settle(visit)
        view = visit.page.locator(".view:visible")
        lead = view.locator(".lead").inner_text()
        assert lead.endswith(
            "This file is an excerpt of the report, without its pictures and numbers. This command analyses it:"
        )
        assert len(lead.split(". ")) > 2, "its own first sentence comes first"
        assert view.locator("code").inner_text().endswith(f"--channels {left_out}")


# Search


def hits(visit: Visit, query: str) -> list[str]:
    visit.page.locator("#search").fill(query)
    settle(visit)
    return [" | ".join(text.split("\n")) for text in visit.page.locator(".hit").all_inner_texts()]


def test_the_search_of_every_page_finds_classes_words_numbers_and_layers(browser, folder):
    pages = ["index.html", "layer-features-1-conv.html", "layer-features-2-conv.html", "image-0.html", "method.html"]
    for path in (*(folder / name for name in pages), folder.parent / "report.html"):
        with Visit(browser) as visit:
            visit.goto(path)
            assert hits(visit, "great dane") == [
                "features.1.conv, channel 7 | great dane, AUC 0.98",
                "features.0.conv, channel 1 | great dane, AUC 0.75",
            ]
            assert hits(visit, "eye") == ["features.0.conv, channel 3 | eyed hawk, AUC 0.90"]
            assert len(hits(visit, "edges")) == 12
            assert hits(visit, "features.1.conv 3") == ["features.1.conv, channel 3"]
            assert hits(visit, "11") == ["features.0.conv, channel 11", "features.1.conv, channel 11"]
            assert hits(visit, "features.0.conv edges 2-4") == [
                f"features.0.conv, channel {channel} | edges at 45°, of any colour" for channel in (2, 4)
            ]
            assert hits(visit, "conv") == [
                "features.0.conv | 12 of 12 channels",
                "features.1.conv | 12 of 12 channels",
                "features.2.conv | not analysed in this run",
            ]
            assert hits(visit, "zebra") == []
            assert "No layer, channel, image or class fits “zebra”" in visit.page.locator(".hits").inner_text()
            assert hits(visit, "77") == []
            assert "has the number 77. Add a layer’s name" in visit.page.locator(".hits").inner_text()
            assert hits(visit, "") == []
            assert not visit.page.locator(".hits").is_visible()
            assert visit.complaints == []
            assert [url for url in visit.requests if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("is_single", [False, True], ids=["folder", "single file"])
def test_the_search_is_used_by_keys(browser, folder, is_single):
    path = folder.parent / "report.html" if is_single else folder / "method.html"
    with Visit(browser) as visit:
        page = visit.page
        visit.goto(path)
        assert page.locator("script[src='assets/search.js']").count() == 0, "the index is read when it is needed"
        page.keyboard.press("/")
        page.keyboard.type("dane")
        settle(visit)
        field = page.locator("#search")
        assert field.get_attribute("aria-expanded") == "true"
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        assert field.get_attribute("aria-activedescendant") == "hit-1"
        assert page.locator(".hit[aria-selected=true]").inner_text().startswith("features.0.conv, channel 1")
        images = page.evaluate(
            "[...document.querySelectorAll('.hit .pic')].map(e => getComputedStyle(e).backgroundImage)"
        )
        assert len(images) == 2
        assert all(image.startswith("url(") for image in images)
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
        page.wait_for_timeout(400)
        expected = "#layer-features-1-conv.7" if is_single else "layer-features-1-conv.html#7"
        assert page.url.endswith(expected)
        assert page.locator(".view:visible h2").inner_text().startswith("Channel 7")
        page.locator("#search").fill("dane")
        settle(visit)
        page.keyboard.press("Escape")
        assert not page.locator(".hits").is_visible()
        assert page.url.endswith(expected), "Escape closes the list alone"
        assert visit.complaints == []


def test_a_click_on_what_was_found_leads_there(browser, folder):
    with Visit(browser) as visit:
        visit.goto(folder / "layer-features-1-conv.html")
        hits(visit, "features.1.conv 4")
        visit.page.locator(".hit").click()
        settle(visit)
        assert visit.page.url.endswith("layer-features-1-conv.html#4")
        assert not visit.page.locator(".hits").is_visible()
        assert visit.page.locator(".view h2").inner_text().startswith("Channel 4")


def test_without_script_there_is_no_search(browser, folder):
    with Visit(browser, java_script_enabled=False) as visit:
        visit.goto(folder / "index.html")
        assert not visit.page.locator("#search").is_visible()


def test_an_index_that_is_missing_is_said_to_be(browser, folder, tmp_path):
    place = tmp_path / "site"
    place.mkdir()
    for name in ("method.html", "assets/site.css", "assets/find.js"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes((folder / name).read_bytes())
    with Visit(browser) as visit:
        visit.goto(place / "method.html")
        hits(visit, "dane")
        assert "make the report again" in visit.page.locator(".hits").inner_text()


# Looks


CUT = """() => [...document.querySelectorAll('select, input[type=search], h1, h2, legend, button, .shows span, .lead')]
    .filter(e => e.checkVisibility() && !e.matches('.hide, .thumb'))
    .filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline')
    .map(e => e.outerHTML.slice(0, 200))"""
PLACEHOLDERS = """() => [...document.querySelectorAll('input[placeholder]')].filter(e => {
    if (!e.checkVisibility()) return false;
    const style = getComputedStyle(e), pen = document.createElement('canvas').getContext('2d');
    pen.font = style.font;
    const room = e.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    return pen.measureText(e.placeholder).width > room;
}).map(e => e.placeholder)"""


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_no_control_is_cut(browser, folder, width):
    for anchor in ("", "#3", "#12"):
        with Visit(browser, viewport={"width": width, "height": 900}) as visit:
            visit.goto(folder / "layer-features-0-conv.html", anchor)
            settle(visit)
            assert visit.page.evaluate(CUT) == []
            assert visit.page.evaluate(PLACEHOLDERS) == []
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
            hits(visit, "dane")
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
            assert visit.page.evaluate(CUT) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(browser, folder, scheme):
    axe = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python (extra dev)")
    source = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    for name, query in (
        ("layer-features-0-conv.html", "dane"),
        ("layer-features-0-conv.html#12", "zebra"),
        ("layer-features-2-conv.html", "conv"),
    ):
        file, _, anchor = name.partition("#")
        with Visit(browser, color_scheme=scheme, viewport={"width": 1200, "height": 900}) as visit:
            visit.goto(folder / file, f"#{anchor}")
            hits(visit, query)
            visit.page.keyboard.press("ArrowDown")
            visit.page.evaluate(source)
            found = visit.page.evaluate("axe.run({preload: false})")
            assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found["violations"]] == [], name

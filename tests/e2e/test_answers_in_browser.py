"""Answers on the pages of layers and channels: doubles, what tiles are ordered by, what the search leads to."""

from __future__ import annotations

import pytest

from filterscope.analyzer.run.reader import Run
from filterscope.reports.site.site import render, render_single
from support.changed_tables import change_rows
from support.chromium import IN_CHROMIUM, Visit
from support.synthetic_run import synthetic_run

pytestmark = IN_CHROMIUM
NUMBERS = """() => [...document.querySelectorAll('.units li')].filter(e => e.checkVisibility())
    .map(e => e.querySelector('small')?.textContent ?? '')"""
ORDERS = {
    "channel": "",
    "activation": "activation ",
    "share": " of bound",
    "active": " active",
    "alike": "similarity ",
    "selectivity": "selectivity ",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A site of two layers of eight channels; channel 4 of the first doubles channel 0, and channel 2 is silent."""
    place = synthetic_run(
        tmp_path_factory.mktemp("answers") / "run", layers=2, channels=8, images=2, studies=True, statuses={5: "dead"}
    )
    others = {0: 4, 4: 0}
    change_rows(
        place / "weights/features-0-conv.parquet",
        lambda row: {"alike": [others[row["channel"]], 6], "cosines": [0.996, 0.5]} if row["channel"] in others else {},
    )
    render_single(Run(place))
    return render(Run(place)).parent


@pytest.fixture(params=["folder", "single file"])
def page_of(request, folder):
    """A channel of the first layer → the file and the anchor that show it."""
    if request.param == "folder":
        return lambda channel: (folder / "layer-features-0-conv.html", f"#{channel}")
    return lambda channel: (folder.parent / "report.html", f"#layer-features-0-conv.{channel}")


def test_a_channel_says_whose_double_it_is_with_a_link(browser, page_of):
    with Visit(browser) as visit:
        visit.goto(*page_of(4))
        double = visit.page.locator(".view:visible .doubled")
        assert double.inner_text().strip() == "Double. Its weights double those of channel 0 (cosine 0.996)."
        double.locator("a", has_text="channel 0").click()
        visit.page.wait_for_timeout(300)
        assert visit.page.locator(".view:visible h2").inner_text().startswith("Channel 0")
        assert visit.complaints == []


def test_a_channel_without_a_double_says_so_with_the_rule(browser, page_of):
    with Visit(browser) as visit:
        visit.goto(*page_of(3))
        assert visit.page.locator(".view:visible .doubled").count() == 0
        text = visit.page.locator(".view:visible").inner_text()
        assert "No channel of this layer is its double" in text
        assert "a double has a cosine or correlation above 0.99" in text


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_each_tile_has_the_number_that_the_page_orders_by(browser, folder, script):
    with Visit(browser, java_script_enabled=script) as visit:
        visit.goto(folder / "layer-features-0-conv.html")
        tiles = visit.page.locator(".units small")
        assert tiles.count() == 8
        assert sum(tiles.nth(place).is_visible() for place in range(8)) == (7 if script else 8), "a double is folded"
        assert all(text.endswith(("× nature", "above random", "no ratio")) for text in tiles.all_inner_texts())


def test_each_order_writes_its_number_on_the_tiles_and_the_first_order_comes_back(browser, folder):
    with Visit(browser) as visit:
        visit.goto(folder / "layer-features-0-conv.html")
        first = visit.page.evaluate(NUMBERS)
        order = visit.page.locator("[name=order]")
        standard = order.input_value()
        options = set(order.locator("option").evaluate_all("all => all.map(e => e.value)"))
        assert options == {*ORDERS, "lift", standard}
        for value, text in ORDERS.items():
            order.select_option(value)
            numbers = visit.page.evaluate(NUMBERS)
            assert all(text in number and number != text for number in numbers) if text else set(numbers) == {""}
        order.select_option("selectivity")
        shares = [float(number.removeprefix("selectivity ")) for number in visit.page.evaluate(NUMBERS)]
        assert shares == sorted(shares, reverse=True)
        order.select_option(standard)
        assert visit.page.evaluate(NUMBERS) == first
        assert visit.complaints == []


def test_all_numbers_of_a_channel_hold_its_class_selectivity(browser, page_of):
    with Visit(browser) as visit:
        visit.goto(*page_of(7))
        numbers = visit.page.locator(".view:visible details.all-numbers")
        numbers.locator("summary").click()
        assert "class selectivity" in numbers.inner_text()
        assert "0.700" in numbers.inner_text()


def found(visit: Visit, query: str) -> tuple[list[str], str]:
    visit.page.locator("#search").fill(query)
    visit.page.wait_for_timeout(250)
    texts = [" | ".join(text.split("\n")) for text in visit.page.locator(".hit").all_inner_texts()]
    return texts, visit.page.locator(".hits [role=status]").inner_text()


@pytest.mark.parametrize("is_single", [False, True], ids=["folder", "single file"])
def test_the_search_leads_to_what_is_odd(browser, folder, is_single):
    with Visit(browser) as visit:
        visit.goto(folder.parent / "report.html" if is_single else folder / "method.html")
        assert found(visit, "silent")[0] == [
            "Silent on the data: 2 channels | listed on the first page",
            "features.0.conv, channel 2 | silent on the data",
            "features.1.conv, channel 2 | silent on the data",
        ]
        assert "features.0.conv, channel 5 | dead: no image raises it above 0" in found(visit, "dead")[0]
        assert found(visit, "duplicate features.0.conv")[0] == [
            "features.0.conv, channel 0 | double of 4",
            "features.0.conv, channel 4 | double of 0",
        ]
        assert "features.0.conv, channel 4 | look-alike of 0" in found(visit, "look-alike")[0]
        assert found(visit, "constant") == ([], "No channel is constant.")
        visit.page.locator("#search").fill("silent")
        visit.page.wait_for_timeout(250)
        visit.page.locator(".hit").first.click()
        visit.page.wait_for_timeout(250)
        assert visit.page.url.endswith("#index.odd" if is_single else "index.html#odd")
        assert visit.page.locator("h2", has_text="What is odd").is_visible()
        assert visit.complaints == []


@pytest.mark.parametrize("is_single", [False, True], ids=["folder", "single file"])
def test_where_no_channel_is_found_by_class_images_are_and_the_reason_is_said(browser, tmp_path, is_single):
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=3, images=2, statuses={}))
    path = render_single(run) if is_single else render(run)
    with Visit(browser) as visit:
        visit.goto(path)
        texts, reason = found(visit, "zebra")
        assert texts == []
        assert "that takes a data set with a folder a class (--examples)" in reason
        name = run.images[1].name
        texts, reason = found(visit, name.split(" ")[0])
        assert any(text.startswith(f"Image {name}") for text in texts)
        assert "--examples" in reason
        visit.page.locator(".hit", has_text=name).click()
        visit.page.wait_for_timeout(250)
        assert visit.page.locator("h2:visible", has_text="What fires on it").count() == 1
        assert visit.complaints == []


APART = ".view .patches .twin, .view .row.maps > *, .view .listens li, .view .columns table"
BOXES = """apart => [...document.querySelectorAll(apart)].map(e => {
    const {left, right, top, bottom} = e.getBoundingClientRect();
    return [left, right, top, bottom];
})"""


def overlap(one, other) -> bool:
    return min(one[1], other[1]) - max(one[0], other[0]) > 1 and min(one[3], other[3]) - max(one[2], other[2]) > 1


def test_a_channel_on_paper_overlaps_nothing_and_folds_nothing(browser, page_of):
    sheet = {"width": 718, "height": 1000}  # A4 less its margins, CSS pixels
    with Visit(browser, viewport=sheet) as visit:
        visit.goto(*page_of(4))
        view = visit.page.locator(".view:visible")
        numbers = view.locator("details.all-numbers")
        assert numbers.get_attribute("open") is None
        visit.page.emulate_media(media="print")
        visit.page.wait_for_timeout(200)
        assert numbers.locator("table").is_visible()
        assert not view.locator(".steps").is_visible()
        boxes = visit.page.evaluate(BOXES, APART)
        assert len(boxes) > 6
        assert not any(overlap(one, other) for place, one in enumerate(boxes) for other in boxes[:place])
        columns = visit.page.evaluate(BOXES, ".view .columns > section")
        assert not any(overlap(one, other) for place, one in enumerate(columns) for other in columns[:place])
        assert max(box[1] for box in boxes) <= sheet["width"]
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= sheet["width"]
        assert visit.page.pdf(format="A4").count(b"/Type /Page\n") <= 3
        visit.page.emulate_media(media="screen")
        visit.page.wait_for_timeout(200)
        assert numbers.get_attribute("open") is None
        assert visit.complaints == []

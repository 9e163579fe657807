"""The page of a data set on a phone: long names wrap, tables scroll in their box, a number leads to its images."""

import json

import pytest

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.writer import RunWriter
from filterscope.reports.site.site import render, render_single
from support.chromium import IN_CHROMIUM
from support.synthetic_run import synthetic_run
from support.synthetic_studies import write_classes_of_data

pytestmark = IN_CHROMIUM

NAMES = {"words": "a long name " * 25 + "{}", "one word": "x" * 290 + "{}"}  # of 300 characters
PHONE = {"width": 390, "height": 844}


def with_names(folder, name):
    run = Run(synthetic_run(folder, studies=True, layers=1, channels=4, images=2))
    study = json.loads((run.folder / "examples" / "study.json").read_text())
    with RunWriter(run.folder, "plan") as writer:
        write_classes_of_data(writer, [layer.json for layer in run.layers if layer.analysed], 12, name)
        writer.write_json("examples/study.json", study)
    return Run(run.folder)


def opened(browser, address, **context):
    page = browser.new_context(offline=True, viewport=PHONE, **context).new_page()
    page.goto(address)
    return page


@pytest.mark.parametrize("name", NAMES)
def test_long_names_wrap_in_a_table_that_scrolls_in_its_box(name, browser, tmp_path):
    page = opened(browser, render(with_names(tmp_path / "run", NAMES[name])).with_name("data.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for table in (".confusion", ".by-class"):
        box = page.locator(f".box:has({table})")
        assert box.evaluate("box => box.scrollWidth > box.clientWidth"), f"{table} is wider than a phone"
        assert "linear-gradient" in box.evaluate("box => getComputedStyle(box).maskImage")
        head = page.locator(f"{table} tbody th").first
        assert 60 <= head.bounding_box()["width"] <= PHONE["width"] / 2
        assert head.evaluate("head => head.scrollWidth <= head.clientWidth + 1"), "nothing is cut"
        assert len(head.locator("bdi").get_attribute("title")) >= 290, "the whole name"
        before = head.bounding_box()["x"]
        box.evaluate("box => box.scrollBy(10000, 0)")
        assert abs(head.bounding_box()["x"] - before) < 3, "the first column stays, up to the space of borders"
        last = page.locator(f"{table} tbody tr").first.locator("td").last.bounding_box()
        assert last["x"] + last["width"] <= box.bounding_box()["x"] + box.bounding_box()["width"] - 20, "not faded"
    page.context.close()


@pytest.mark.parametrize("script", [True, False])
@pytest.mark.parametrize("single", [True, False])
def test_a_number_of_the_matrix_shows_its_images(single, script, browser, tmp_path):
    run = with_names(tmp_path / "run", "class {}")
    address = f"{render_single(run).as_uri()}#data" if single else render(run).with_name("data.html").as_uri()
    page = opened(browser, address, java_script_enabled=script)
    shown = page.locator(".answered:visible")
    assert shown.count() == 0
    link = page.locator(".confusion td[class^=wrong] a").first
    count = int(link.inner_text())
    link.click()
    assert shown.count() == 1
    assert "taken for" in shown.locator("h3").inner_text()
    assert shown.locator("li").count() == count
    assert page.locator(".confusion:visible").count() >= 1, "the page stays"
    page.context.close()

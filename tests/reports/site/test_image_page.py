"""The page of an image: why one class rather than another, its label, and links to classes and layers."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from filterscope.analyzer.run.reader import Run
from filterscope.reports.page import colours
from filterscope.reports.site import contrast
from filterscope.reports.site.site import render
from support.pages import read
from support.synthetic_run import synthetic_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(synthetic_run(tmp_path_factory.mktemp("run") / "run", studies=True, layers=2, channels=6, images=2))


@pytest.fixture(scope="module")
def page(run):
    return read(render(run).parent / "image-0.html")


def signed(places, shape=(9, 12)):
    """A signed tile that is 0 but for some (rows, columns, value)."""
    tile = np.full((*shape, 1), 128, np.uint8)
    for rows, columns, value in places:
        tile[rows, columns] = value
    return tile


ALL = slice(None)
PLACES = {
    "upper left ninth of the image": [(slice(0, 3), slice(0, 4), 255)],
    "middle right ninth of the image": [(slice(3, 6), slice(8, 12), 200)],
    "central ninth of the image": [(slice(3, 6), slice(4, 8), 129), (slice(0, 3), ALL, 1)],
    "lower third of the image": [(slice(6, 9), ALL, 255)],
    "left third of the image": [(ALL, slice(0, 4), 255)],
    "middle third of the image, between top and bottom": [(slice(3, 6), ALL, 255)],
    "middle third of the image, between left and right": [(ALL, slice(4, 8), 255)],
}


@pytest.mark.parametrize("place", PLACES)
def test_the_part_of_the_image_that_speaks_for_the_answer_is_named(place):
    sentence = contrast.sentence(signed(PLACES[place]), "cat", "dog")
    assert sentence == f"100 % of what speaks for cat rather than dog lies in the {place}."


def test_what_is_spread_is_not_given_a_place_and_what_is_not_there_no_sentence():
    assert contrast.sentence(signed([(ALL, ALL, 200)]), "cat", "dog") == (
        "What speaks for cat rather than dog is spread over the image."
    )
    assert contrast.sentence(signed([(slice(0, 3), ALL, 1)]), "cat", "dog") == ""
    even = signed([(ALL, ALL, 178), (slice(0, 3), slice(0, 4), 255)])  # 127 in one ninth, 50 in the eight others
    assert contrast.sentence(even, "cat", "dog").endswith("is spread over the image.")
    more = signed([(ALL, ALL, 150), (slice(0, 3), slice(0, 4), 255)])  # 127 in one ninth, 22 in the others
    assert contrast.sentence(more, "cat", "dog").startswith("42 % of what speaks for cat rather than dog lies in the ")


def test_the_first_sentence_and_a_picture_say_why_not_the_next_class(run, page):
    (row,) = (r for r in run.table("attribution/attributions.parquet").to_pylist() if r["image"] == 0 and r["minus"])
    lead = page.select("p", "lead")[0].text
    assert lead.endswith(contrast.sentence(run.tile(row), "the class", "the next <class>"))
    assert "the class rather than the next <class>" in lead
    part = page.select("div", "contrast")[0]
    assert page.select("h3", within=part)[0].text.startswith("For the class rather than the next <class>")
    with Image.open(run.folder / "site" / page.select("img", "over", part)[0].attributes["src"]) as picture:
        np.testing.assert_array_equal(np.asarray(picture)[..., 3], colours.overlay(run.tile(row))[..., 3])
    assert "contrast" in read(run.folder / "site" / "method.html").ids


def test_a_run_of_before_has_no_contrast(run, tmp_path):
    folder = shutil.copytree(run.folder, tmp_path / "run")
    path = folder / "attribution" / "attributions.parquet"
    table = pq.read_table(path)
    of_answer = table.filter(pa.compute.is_null(table["minus"])).drop_columns(["minus", "minus_label"])
    pq.write_table(of_answer, path)
    page = read(render(Run(folder)).parent / "image-0.html")
    assert not page.select("div", "contrast")
    assert len(page.select("figure", "stack")) == 5
    assert "rather than" not in page.select("p", "lead")[0].text


def test_answers_lead_to_their_classes(run, page):
    links = [a.attributes["href"] for a in page.select("a", within=page.select("table", "answers")[0])]
    assert links
    for link in links:
        file, _, anchor = link.partition("#")
        assert anchor in read(run.folder / "site" / file).ids


def test_the_label_of_an_image_stands_beside_its_answer(run, tmp_path):
    folder = shutil.copytree(run.folder, tmp_path / "run")
    path = folder / "images" / "1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"label": 1}))
    tiles = read(render(Run(folder)).parent / "index.html").select("figure", "photo")
    label = Run(folder).info.labels[1] if Run(folder).info.labels else "class 1"
    assert f"is {label}" in tiles[1].text
    assert "is " not in tiles[0].text.replace("This is", "")


def test_rectifiers_are_not_shown_beside_the_convolution_that_they_follow(run, tmp_path):
    folder = shutil.copytree(run.folder, tmp_path / "run")
    path = folder / "values" / "values.parquet"
    table = pq.read_table(path)
    values = table.to_pylist()
    layer = next(one.name for one in run.layers if one.analysed)
    pools = [row | {"op": "MaxPool", "layer": layer} for row in values]
    ends = [row | {"op": "Relu", "layer": layer, "value": f"relu of {row['value']}"} for row in values]
    elsewhere = [row | {"op": "Relu", "layer": None, "value": f"sum of {row['value']}"} for row in values]
    pq.write_table(pa.Table.from_pylist([*pools, *ends, *elsewhere], table.schema), path)
    page = read(render(Run(folder)).parent / "image-0.html")
    names = [h3.text for h3 in page.select("h3")]
    value = values[0]["value"]
    assert any(name.startswith(value) and "MaxPool" in name for name in names)
    assert any(name.startswith(f"sum of {value}") for name in names)
    assert not any(name.startswith("relu of") for name in names)

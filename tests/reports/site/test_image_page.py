"""The page of an image: why one class rather than another, its label, and the layers that it shows."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from filterscope.analyzer.run import tables
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.records import ImageInfo, LayerInfo
from filterscope.reports.page import colours
from filterscope.reports.site import contrast
from filterscope.reports.site.image_page import ImagePage, OnLayer
from filterscope.reports.site.site import render
from support.changed_tables import change_rows
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


BEHIND = [  # value, operator, the convolution before it, channels; and whether it repeats that convolution
    ("a", "Relu", "conv1", 4, True),
    ("b", "MaxPool", "conv1", 4, False),
    ("c", "Sigmoid", "conv2", 3, False),
    ("d", "Relu", "conv3", 5, False),  # not shown above
    ("e", "Gemm", "conv1", 9, False),
    ("f", "Relu", "conv1", 9, False),  # of the dense layer
    ("g", "Clip", "conv4", 2, True),
]


def page_of(shown: dict[str, int]) -> ImagePage:
    layers = [OnLayer(LayerInfo.read({"name": name, "out_channels": count}), "", []) for name, count in shown.items()]
    return ImagePage(0, ImageInfo.read({"name": "a.png"}), (8, 8), (8, 8), layers=layers)


def table(*behind: tuple[str, str, str, int, bool]) -> pa.Table:
    rows = [
        {"image": 0, "value": value, "op": op, "layer": layer, "order": order, "channel": channel, "maximum": 1.0}
        for order, (value, op, layer, channels, _) in enumerate(behind)
        for channel in range(channels)
    ]
    return pa.Table.from_pylist(rows, tables.TABLES["values/values.parquet"])


def test_the_rectified_map_of_a_convolution_that_is_shown_is_not_shown_again():
    page = page_of({"conv1": 4, "conv2": 3, "conv4": 2})
    page.gather_values(SimpleNamespace(tile=lambda row: None), table(*BEHIND))
    assert [row.value for row in page.values] == [value for value, *_, repeats in BEHIND if not repeats]
    assert page.repeated == 2


@pytest.mark.parametrize("shown", [{}, {"conv1": 5}])
def test_without_its_convolution_it_is_shown(shown):
    page = page_of(shown)
    page.gather_values(SimpleNamespace(tile=lambda row: None), table(BEHIND[0]))
    assert [row.value for row in page.values] == ["a"]
    assert page.repeated == 0


@pytest.mark.parametrize(("tile", "expected"), [(None, False), (3, True)])
def test_a_page_knows_whether_it_has_maps(tile, expected):
    layer = OnLayer(LayerInfo.read({"name": "conv"}), "", [(0, None, True, None), (1, None, True, tile)])
    page = ImagePage(0, ImageInfo.read({"name": "a.png"}), (8, 8), (8, 8), layers=[layer])
    assert page.has_maps is expected


def test_an_image_without_maps_has_numbers_and_a_reason(tmp_path):
    place = synthetic_run(tmp_path / "run", layers=1, channels=3, images=2)
    for path in (place / "maps").glob("*.parquet"):
        change_rows(path, lambda row: {"atlas": None, "tile": None} if row["image"] == 1 else {})
    page = read(render(Run(place)).parent / "image-1.html")
    assert "no map" not in page.text
    assert "measured and not stored" in page.text
    assert page.select("section", "firing")[0].text.count("highest") == 3

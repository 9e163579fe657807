"""What the search of every page can find, and what it says where it can not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from filterscope.analyzer.run.reader import Run
from filterscope.reports.site.details import classes_of_channels
from filterscope.reports.site.site import render
from support.changed_tables import change_columns
from support.pages import read
from support.synthetic_run import synthetic_run

FIRST = "features.0.conv"


def index_of(folder: Path) -> dict[str, Any]:
    call = (folder / "assets/search.js").read_text("utf-8")
    return json.loads("[" + re.fullmatch(r"filterscope\((.*)\);\n", call, re.DOTALL)[1] + "]")[1]


@pytest.fixture
def place(tmp_path):
    return synthetic_run(tmp_path / "run", layers=2, channels=6, images=2, studies=True, statuses={3: "dead"})


def test_channels_are_found_by_what_is_odd_of_them(place):
    change_columns(place / "examples/units.parquet", dead=lambda r: r["channel"] == 1, correlation=lambda r: 0.1)
    change_columns(
        place / "weights/features-0-conv.parquet", cosines=lambda r: [0.995 if r["channel"] == 5 else 0.5] * 5
    )
    other = pq.read_table(place / "weights/features-0-conv.parquet").to_pylist()[5]["alike"]
    index = index_of(render(Run(place)).parent)
    odd = index["layers"][0]["odd"]
    assert odd["silent"] == [1]
    assert odd["dead"] == [3]
    assert odd["double"] == [sorted([5, *other])]
    assert index["layers"][1]["odd"].keys() == {"silent", "dead"}
    assert [title for title, _, page, _ in index["targets"] if page == "index.html#odd"] == [
        "Silent on the data: 2 channels",
        "Dead: 2 channels",
        "Double: 6 channels",
    ]
    assert "silent" not in index["lacks"]
    assert index["lacks"]["constant"] == "No channel is constant."
    assert set(index["layers"][0]["odd"]) <= {name for name, *_ in index["traits"]}


def test_a_channel_that_is_silent_on_the_data_speaks_for_no_class(place):
    change_columns(place / "examples/units.parquet", dead=lambda r: False)
    before = classes_of_channels(Run(place)).to_pylist()
    speaks = {(row["layer"], row["channel"]) for row in before}
    chosen = max(before, key=lambda row: row["auc"])
    silent = chosen["layer"], chosen["channel"]
    change_columns(place / "examples/units.parquet", dead=lambda r: (r["layer"], r["channel"]) == silent)
    run = Run(place)
    assert {(row["layer"], row["channel"]) for row in classes_of_channels(run).to_pylist()} == speaks - {silent}
    folder = render(run).parent
    layer = next(layer for layer in run.layers if layer.name == silent[0])
    address = f"layer-{layer.slug}.html#{silent[1]}"
    speakers = read(folder / "data.html").select("a", "speaker")
    assert speakers
    assert address not in {link.attributes["href"] for link in speakers}
    assert index_of(folder)["layers"][layer.index]["classes"][silent[1]] == []


def test_images_and_classes_with_pictures_are_found_by_name(place):
    run = Run(place)
    targets = {page: (title, words) for title, _, page, words in index_of(render(run).parent)["targets"]}
    for number, image in enumerate(run.images):
        title, words = targets[f"image-{number}.html#fire"]
        assert image.name in title
        assert image.name in words
        label = image.prediction.top[0].label if image.prediction and image.prediction.top else None
        assert not label or label in words
    assert any(page.startswith("classes.html#class-") for page in targets)


def test_a_run_without_data_says_what_would_find_channels_by_class(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=3, images=1, statuses={}))
    lacks = index_of(render(run).parent)["lacks"]
    assert lacks["classes"].startswith(
        "No channel is found by class here: that takes a data set with a folder a class (--examples)"
    )
    assert lacks["silent"] == "Which channels are silent is not known: that takes a data set (--examples)."
    assert lacks["double"].startswith("Which channels are doubles is not known")


def test_data_without_labels_says_that_labels_are_missing(place):
    (place / "examples/unit_classes.parquet").unlink()
    (place / "examples/classes.parquet").unlink(missing_ok=True)
    lacks = index_of(render(Run(place)).parent)["lacks"]
    assert "the images of the data set have no labels that fit" in lacks["classes"]


def test_labelled_data_whose_classes_no_channel_tells_is_not_said_to_lack_labels(place):
    (place / "examples/unit_classes.parquet").unlink()
    lacks = index_of(render(Run(place)).parent)["lacks"]
    assert "no channel tells a class, or no class has enough images" in lacks["classes"]

"""The first sentences of a layer's page: what its channels respond to, what is odd of them, where it stands."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from filterscope.analyzer.run.reader import Run
from filterscope.reports.site.site import render
from support.changed_tables import change_columns
from support.pages import read
from support.synthetic_run import synthetic_run

FIRST = "features.0.conv"


def sentences(place: Path, slug: str = "features-0-conv") -> str:
    verdict = read(render(Run(place)).parent / f"layer-{slug}.html").select("section", "verdict")[0]
    return " ".join(verdict.text.replace("\u00a0", " ").split())


@pytest.fixture
def place(tmp_path):
    return synthetic_run(tmp_path / "run", layers=3, channels=6, images=1, studies=True, statuses={3: "dead"})


def test_it_begins_with_the_classes_that_its_channels_tell(place):
    aucs = {0: 0.95, 1: 0.9, 4: 0.85}
    names = {0: "frog", 1: "frog", 4: "ship"}
    change_columns(place / "examples/units.parquet", dead=lambda r: False)
    change_columns(
        place / "examples/unit_classes.parquet",
        auc=lambda r: aucs.get(r["channel"], 0.6) - r["rank"] / 10,
        name=lambda r: names.get(r["channel"], "cat") if r["rank"] == 0 else "cat",
    )
    assert sentences(place).startswith("3 of its 6 channels tell a class of the data: frog and ship.")


def test_a_layer_that_no_class_names_begins_with_the_stimuli_that_it_prefers(place):
    change_columns(place / "examples/unit_classes.parquet", auc=lambda r: 0.6)
    best = ["edge", "edge", "colour", "edge", "colour", None]
    change_columns(place / "tuning/units.parquet", best=lambda r: best[r["channel"]])
    assert sentences(place).startswith(
        "Of simple stimuli most prefer edges (3) and plain colours (2). "
        "None of its 6 channels tells a class of the data well (an AUC of 0.8)."
    )


def test_pictures_are_compared_with_nature_also_where_nature_stays_below_0(place):
    natural = [-1.0, 0.0, 5.0, 50.0, None, 1.0]
    change_columns(place / "truth/units.parquet", maximised=lambda r: 10.0, natural=lambda r: natural[r["channel"]])
    text = "4 of 5 pictures that were compared excite their channels more than any natural image."
    assert text in sentences(place)


def test_what_is_odd_is_counted_and_what_was_looked_for_in_vain_is_said(place):
    change_columns(place / "examples/units.parquet", dead=lambda r: r["channel"] < 2, correlation=lambda r: 0.1)
    change_columns(place / "weights/features-0-conv.parquet", cosines=lambda r: [0.1] * 5)
    assert "2 are silent on the data, 1 is dead and none is constant or like another." in sentences(place)


def test_it_ends_with_its_place_and_then_comes_the_specification(place):
    run = Run(place)
    text = sentences(place, run.layers[1].slug)
    place_of = text.index(f"It is convolution 2 of {len(run.layers)}, and a neuron of it sees ")
    assert place_of < text.index("→") < text.index("analysed")


def test_without_studies_pictures_are_compared_with_random_images(tmp_path):
    place = synthetic_run(tmp_path / "run", layers=1, channels=5, images=0, statuses={1: "unraised"})
    text = sentences(place, Run(place).layers[0].slug)
    assert text.startswith("Pictures of 4 channels rise above random images. None is dead or constant.")
    assert "class" not in text.partition("It is convolution")[0]


def test_a_layer_with_doubles_has_look_alikes_also_where_the_page_shows_none_of_them(tmp_path):
    place = synthetic_run(tmp_path / "run", layers=1, channels=4, images=1, studies=True, statuses={})
    path = place / "examples/units.parquet"
    table = pq.read_table(path)
    unseen = [row | {"channel": 90 + row["channel"], "nearest": 90, "correlation": 0.999} for row in table.to_pylist()]
    rows = [row | {"correlation": 0.1} for row in table.to_pylist()] + unseen
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    change_columns(place / "weights/features-0-conv.parquet", cosines=lambda r: [0.1] * len(r["alike"]))
    text = sentences(place)
    assert "4 are look-alikes" in text
    assert "like another" not in text


def test_counts_of_all_channels_and_of_those_analysed_are_kept_apart(place):
    change_columns(place / "examples/units.parquet", dead=lambda r: r["channel"] < 2, correlation=lambda r: 0.1)
    change_columns(place / "weights/features-0-conv.parquet", cosines=lambda r: [0.1] * 5)
    layers = json.loads((place / "layers.json").read_text())
    next(layer for layer in layers["layers"] if layer["slug"] == "features-0-conv")["out_channels"] = 960
    (place / "layers.json").write_text(json.dumps(layers))
    text = "Of its 960 channels 2 are silent on the data and none is like another; of the 6 analysed 1 is dead and "
    assert f"{text}none is constant." in sentences(place)

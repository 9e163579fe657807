"""Units of which little can be said: constant, unraised, silent; each is called what it is."""

from __future__ import annotations

import json
import re

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper

import filterscope as fs
from filterscope import cli
from filterscope.analyzer.bounds.constant_units import is_constant
from filterscope.analyzer.run.files import gather_units
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.tables import UNIT_SCHEMA
from filterscope.commands.maximize import table
from filterscope.reports.site import summary
from filterscope.reports.site.site import render
from support.synthetic_run import synthetic_run

TOTALS = {"layers": 1, "units": 40, "pictures": 40, "unraised": 0, "dead": 0, "diverged": 0}


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([0.25, 0.25, 0.25], True),
        ([0.0, -0.0], True),
        ([0.25, 0.2500000001], True),
        ([0.25, 0.2501], False),
        ([0.25], False),
        ([0.25, None], False),
        ([float("nan"), 0.25, 0.25], False),
    ],
)
def test_one_number_for_everything_is_constant(answers, expected):
    assert is_constant(answers) is expected


def test_silent_channels_are_denied_only_where_there_was_data_to_look():
    assert "none is silent" in summary.nothing_odd(summary.Totals(**TOTALS, silent=0))
    assert "silent" not in summary.nothing_odd(summary.Totals(**TOTALS))


def links(markup: str) -> list[str]:
    return re.findall(r'href="([^"]*)"', markup)


def test_silent_channels_are_listed_with_links_to_their_views(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", layers=2, channels=30, images=1, studies=True, statuses={}))
    folder = render(run).parent
    index = (folder / "index.html").read_text(encoding="utf-8")
    silent = [(r["layer"], r["channel"]) for r in run.table("examples/units.parquet").to_pylist() if r["dead"]]
    assert len(silent) == 6
    assert "6 of 60 channels: never above 0 on any image of the data set." in index
    slugs = {layer["name"]: layer["slug"] for layer in run.layers}
    expected = [f"layer-{slugs[layer]}.html#{channel}" for layer, channel in silent]
    listed = re.search(r'class="what" href="method.html#silent">Silent on the data</a>.*?</ul>', index, re.S)
    assert [link for link in links(listed[0]) if ".html#" in link][1:] == expected
    for layer in run.layers[:2]:
        page = (folder / f"layer-{layer['slug']}.html").read_text(encoding="utf-8")
        (here,) = re.findall(r'<details class="silent".*?</details>', page, re.S)
        assert links(here)[:-1] == [link for link in expected if layer["slug"] in link]
    facts = json.loads((folder / "assets" / "index.json").read_text(encoding="utf-8"))
    assert facts["totals"]["silent"] == 6
    assert facts["layers"][0]["silent"] == [2, 14, 26]


def test_a_constant_channel_is_called_constant_on_its_pages(tmp_path):
    place = synthetic_run(tmp_path / "run", layers=1, channels=6, images=0, statuses={4: "unraised"})
    for path in place.glob("tasks/*/*-ascent-*.parquet"):
        rows = pq.read_table(path).to_pylist()
        rows[3] |= {"activation": 0.125, "robust": 0.125, "random": 0.125, "status": "unraised"}
        pq.write_table(pa.Table.from_pylist(rows, UNIT_SCHEMA), path)
    for path in place.glob("tasks/*/neuron-analytic-*.parquet"):
        rows = pq.read_table(path).to_pylist()
        rows[3] |= {"activation": 0.125, "random": 0.125, "status": "unraised"}
        pq.write_table(pa.Table.from_pylist(rows, UNIT_SCHEMA), path)
    pq.write_table(gather_units(place), place / "units.parquet")
    folder = render(Run(place)).parent
    page = (folder / f"layer-{Run(place).layers[0]['slug']}.html").read_text(encoding="utf-8")
    tile = re.search(r'<a class="([^"]*)" id="3".*?</a>', page, re.S)
    other = re.search(r'<a class="([^"]*)" id="4".*?</a>', page, re.S)
    assert "is-constant" in tile[1]
    assert "<i>constant</i>" in tile[0]
    assert "unraised" not in tile[0]
    assert "is-unraised" in other[1]
    index = (folder / "index.html").read_text(encoding="utf-8")
    assert "channels: gave one number for everything that was measured." in index
    assert "2 of 18 pictures did not rise above random images." in index  # those of channel 4


@pytest.fixture(scope="module")
def half_zero(tmp_path_factory):
    """A convolution whose first channel has weights of zero and whose second has not."""
    weights = np.zeros((2, 3, 3, 3), np.float32)
    weights[1] = np.random.default_rng(0).normal(size=(3, 3, 3))
    constants = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.float32([0.25, 0]), "b")]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"], "conv"), helper.make_node("Relu", ["y"], ["z"], "relu")],
        "half-zero",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 12, 12])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        constants,
    )
    path = tmp_path_factory.mktemp("half") / "half.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_maximize_says_unraised_where_it_is(half_zero, tmp_path, monkeypatch, capsys):
    network = fs.open(half_zero, preprocess="unit")
    found = fs.maximize(network, "conv", [0, 1], quality="draft", device="cpu")
    assert found.status == ("unraised", "ok")
    assert [row["status"] for row in found.to_json()] == ["unraised", "ok"]
    lines = table(found, tmp_path / "x.png").splitlines()
    assert "unraised: constant" in lines[0]
    assert "unraised" not in lines[1]
    monkeypatch.chdir(tmp_path)
    options = ["--preprocess", "unit", "--layer", "conv", "--channel", "0", "--quality", "draft", "--device", "cpu"]
    assert cli._run(["maximize", str(half_zero), *options]) == 0
    assert "unraised: constant" in capsys.readouterr().out


def test_lowest_pictures_are_unraised_where_random_images_go_lower(half_zero):
    network = fs.open(half_zero, preprocess="unit")
    found = fs.maximize(network, "conv", [0, 1], objective="negative", quality="draft", device="cpu")
    assert found.status == ("unraised", "ok")


def test_an_analysed_network_with_a_constant_channel_says_so(half_zero, tmp_path):
    run = fs.analyze(fs.open(half_zero, preprocess="unit"), out=tmp_path / "run", device="cpu")
    index = render(run).read_text(encoding="utf-8")
    assert "channels: gave one number for everything that was measured." in index

"""A run whose layers are values of every kind: numbers are those of the user's file, pages say what each layer is."""

import json

import numpy as np
import onnx
import pytest
from PIL import Image

import filterscope as fs
from support.networks import answers
from support.pages import read
from support.value_network import LAID_OUT, SIDE, value_network


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("values")
    onnx.save(value_network(), place / "m.onnx")
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    return fs.analyze(
        fs.open(place / "m.onnx", preprocess="unit"),
        [place / "0.png", place / "1.png"],
        place / "run",
        quality="draft",
        kinds="all",
        channels="2/layer",
        studies=[fs.Examples(place), fs.Truth()],
    )


def test_numbers_of_every_kind_of_layer_are_those_of_the_users_file(run):
    values = {layer.name: layer["origin"] for layer in run.layers}
    model, compared = value_network(), set()
    for row in run.units.to_pylist():
        lay_out = LAID_OUT.get(values[row["layer"]])
        if lay_out is None or row["method"] != "ascent":
            continue
        x = (run.tile(row)[None] / np.float32(255)).astype(np.float32).transpose(0, 3, 1, 2)
        value = values[row["layer"]]
        maps = lay_out(answers(model, x, [value])[value])[0, row["channel"]]
        assert maps.mean() == pytest.approx(row["activation"], rel=1e-4, abs=1e-5)
        assert maps.max() == pytest.approx(row["highest"], rel=1e-4, abs=1e-5)
        assert row["bound"] is None or row["activation"] <= row["bound"] + 1e-5
        compared.add(value)
    assert compared == {value for value, lay_out in LAID_OUT.items() if lay_out is not None}


def test_maps_and_data_are_measured_of_every_kind_of_layer(run):
    for layer in run.layers:
        rows = run.maps(layer.slug).to_pylist()
        assert len(rows) == 2 * layer.out_channels, layer.name
        assert all(row["minimum"] <= row["mean"] <= row["maximum"] for row in rows)
    statistics = run.table("examples/units.parquet").to_pylist()
    assert {row["layer"] for row in statistics} == {layer.name for layer in run.layers}


def test_pages_say_what_each_layer_is_and_where_it_stands(run):
    index = fs.report(run)
    names = [layer["name"] for layer in json.loads((index.parent / "assets/index.json").read_text())["layers"]]
    assert names == [layer.name for layer in run.layers]
    for name, words in {"layer1.0": "end of a block", "head": "dense layer", "stem": "pointwise convolution"}.items():
        layer = next(layer for layer in run.layers if layer.name == name)
        text = " ".join(read(index.parent / f"layer-{layer.slug}.html").select("main")[0].text.split())
        assert words in text
        assert f"Layer {names.index(name) + 1}" in text
        assert f"{names.index(name) + 1} of {len(names)}" in text
    overview = " ".join(read(index).select("main")[0].text.replace("\u00a0", " ").split())
    assert "3 convolution layers" in overview

"""Any value that has channels is a layer: what is listed, what it is called, and that its maps are its numbers."""

import numpy as np
import onnx
import pytest

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.execution.plan import Settings, selection
from filterscope.analyzer.maximize.presets import Recipe
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import preset
from filterscope.analyzer.network.values import chosen_values
from filterscope.converters.errors import SettingsError
from filterscope.requests.maximize import MaximizeRequest
from support.networks import answers, build
from support.value_network import CONSTANTS, LAID_OUT, NODES, SIDE, value_network


@pytest.fixture(scope="module")
def model():
    return value_network()


@pytest.fixture(scope="module")
def network(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("values") / "m.onnx"
    onnx.save(model, path)
    return open_network(path, InputOptions(preprocessing=preset("unit")))


def test_values_are_named_as_their_modules_and_told_apart_by_kind(network):
    found = {value.value: (value.name, value.kind, value.is_block) for value in network.values}
    assert found["a"] == ("stem", "conv", False)
    assert found["b"] == ("layer1.0.conv", "conv", False)
    assert found["c"] == ("c", "add", False), "inside a block, whose activation ends it"
    assert found["d"] == ("layer1.0", "activation", True)
    assert found["e"] == ("join", "concat", True)
    assert found["f"] == ("pool", "pool", False)
    assert found["q"] == ("head", "dense", False)
    assert "k" not in found


def test_maps_hold_the_values_numbers_however_they_are_laid_out(model, network):
    everything = network.with_values([], ["all"])
    layers = {layer.origin: layer for layer in everything.layers}
    pixels = network.random_pixels(1, (SIDE, SIDE), 0)
    x = (pixels / np.float32(255)).astype(np.float32).transpose(0, 3, 1, 2)
    wanted = answers(model, x, list(LAID_OUT))
    for value, lay_out in LAID_OUT.items():
        if lay_out is None:
            assert value not in layers
            continue
        layer = layers[value]
        maps = everything.session([layer.value]).run(everything.input.to_model(pixels))[layer.value]
        np.testing.assert_allclose(maps, lay_out(wanted[value]), rtol=1e-5, atol=1e-5)
        assert maps.shape[1:] == layer.output_shape


def test_layers_stand_in_graph_order_with_numbers_that_no_choice_changes(network):
    everything, few = network.with_values([], ["all"]), network.with_values(["layer1", "head"])
    assert [layer.name for layer in few.layers] == ["stem", "layer1.0.conv", "layer1.0", "patch", "head"]
    numbers = {layer.name: layer.index for layer in everything.layers}
    assert len(set(numbers.values())) == len(everything.layers)
    assert {layer.name: layer.index for layer in few.layers}.items() <= numbers.items()
    assert [layer.index for layer in network.layers] == [0, 1, 2]
    assert few.with_values(["layer1", "head"]) is few


@pytest.mark.parametrize(
    ("patterns", "kinds", "names"),
    [
        ([], ("conv", "block"), {"stem", "layer1.0.conv", "layer1.0", "join", "patch"}),
        ([], ("conv",), {"stem", "layer1.0.conv", "patch"}),
        ([], ("dense", "pool"), {"pool", "head", "l", "p"}),
        (["layer1*"], ("conv", "block"), {"layer1.0.conv", "layer1.0"}),
        (["layer1", "pool"], ("conv", "block"), {"layer1.0", "pool"}),
        (["c"], ("conv",), {"c"}),  # a name is a name, of whatever kind
        (["layer1.0.act"], ("conv",), {"layer1.0"}),
        (["stem,head"], ("conv", "block"), {"stem", "head"}),
    ],
)
def test_which_layers_are_analysed(network, patterns, kinds, names):
    extended = network.with_values(patterns, kinds)
    settings = Settings(layers=tuple(patterns), kinds=kinds, channels="1/layer")
    assert set(selection(extended.layers, settings)) == names


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("k", r"`layers=k`: the value \[1, 10, 37\] is no float with channels that follows from the image"),
        ("twice", "the module gives 2 values, r, s; name one of them"),
        ("nothing", "no layer matches 'nothing'"),
    ],
)
def test_a_name_that_stands_for_no_layer_is_refused_with_what_it_stands_for(tmp_path, name, words):
    more = [("Relu", "a", "r", {"name": "/twice/Relu"}), ("Neg", "a", "s", {"name": "/twice/Neg"})]
    model = build([*NODES, *more], CONSTANTS, shape=(1, 3, SIDE, SIDE), outputs=["q", "n", "o", "r", "s"])
    onnx.save(model, tmp_path / "m.onnx")
    network = open_network(tmp_path / "m.onnx", InputOptions(preprocessing=preset("unit")))
    request = MaximizeRequest(layer=name, recipe=Recipe.named("filterscope", "draft"))
    with pytest.raises(SettingsError, match=words):
        request.run(network)


def test_values_may_be_called_as_old_exporters_call_them(tmp_path):
    nodes = [("Conv", "x w", "onnx::Relu_1"), ("Relu", "onnx::Relu_1", "onnx::Gap_2")]
    nodes += [("GlobalAveragePool", "onnx::Gap_2", "onnx::Flatten_3"), ("Flatten", "onnx::Flatten_3", "4")]
    onnx.save(build(nodes, {"w": CONSTANTS["w"]}, shape=(1, 3, 8, 8)), tmp_path / "o.onnx")
    network = open_network(tmp_path / "o.onnx", InputOptions(preprocessing=preset("unit"))).with_values([], ["all"])
    assert [layer.origin for layer in network.layers] == ["onnx::Relu_1", "onnx::Gap_2", "onnx::Flatten_3", "4"]
    assert [layer.name for layer in network.layers if layer.is_called(["onnx::Gap_2"])] == ["onnx::Gap_2"]


def test_where_no_module_is_known_every_join_is_a_block(tmp_path):
    nodes = [(op, inputs, output, {k: v for k, v in more.items() if k != "name"}) for op, inputs, output, more in NODES]
    onnx.save(build(nodes[:5], {"w": CONSTANTS["w"], "v": CONSTANTS["v"]}, shape=(1, 3, 8, 8)), tmp_path / "n.onnx")
    network = open_network(tmp_path / "n.onnx", InputOptions(preprocessing=preset("unit")))
    assert [value.value for value in network.values if value.is_block] == ["d", "e"]
    assert chosen_values(network.values, ["e"], ("conv",))[0].name == "e"


@pytest.mark.parametrize("value", [value for value, lay_out in LAID_OUT.items() if lay_out is not None])
def test_a_picture_of_any_value_has_the_number_that_onnxruntime_gives_to_the_users_file(model, network, value):
    request = MaximizeRequest(layer=value, channels=(0,), recipe=Recipe.named("filterscope", "draft"), device="cpu")
    portrait = request.run(network)
    assert portrait.tiles.shape[1:3] == (SIDE, SIDE)
    x = (portrait.tiles / np.float32(255)).astype(np.float32).transpose(0, 3, 1, 2)
    maps = LAID_OUT[value](answers(model, x, [value])[value])
    assert maps[0, 0].mean() == pytest.approx(portrait.activation[0], rel=1e-4, abs=1e-5)
    if value != "n":  # a softmax sums to 1 whatever it sees
        assert portrait.activation[0] > portrait.random[0]

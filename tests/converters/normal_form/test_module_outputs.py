"""What each module of the user's network gives, from what exporters leave beside nodes."""

import onnx_ir as ir
import pytest

from filterscope.converters.normal_form.module_outputs import SCOPES, module_outputs
from support.networks import build, normal

BLOCK = [  # operator, values, path by TorchScript's exporter
    ("Conv", "x w", "a", "/stem/Conv"),
    ("Conv", "a v", "b", "/layer1/layer1.0/conv1/Conv"),
    ("Relu", "b", "c", "/layer1/layer1.0/act/Relu"),
    ("Conv", "c v", "d", "/layer1/layer1.0/conv2/Conv"),
    ("Add", "a d", "e", "/layer1/layer1.0/Add"),
    ("Relu", "e", "f", "/layer1/layer1.0/act_1/Relu"),
    ("Sigmoid", "f", "g", "/Sigmoid"),
]
OUTPUTS = {
    "stem": ("a",),
    "layer1": ("f",),
    "layer1.0": ("f",),
    "layer1.0.conv1": ("b",),
    "layer1.0.conv2": ("d",),
    "layer1.0.act": ("c",),
    "layer1.0.act_1": ("f",),
}


def model(rename):
    nodes = [(op, inputs, output, rename(path)) for op, inputs, output, path in BLOCK]
    return ir.from_proto(build(nodes, {"w": normal(4, 3, 3, 3), "v": normal(4, 4, 1, 1)}))


def test_blocks_are_found_in_the_names_of_torchscripts_exporter():
    assert module_outputs(model(lambda path: {"name": path})) == OUTPUTS


def test_blocks_are_found_in_the_metadata_of_pytorchs_own_exporter():
    network = model(lambda _: {})
    for node, (*_, path) in zip(network.graph, BLOCK, strict=True):
        scopes = path.strip("/").split("/")[:-1]
        paths = [".".join(scopes[: i + 1]) if scopes[0] == "stem" else scopes[i] for i in range(len(scopes))]
        whole = [one if one.startswith(("layer1", "stem")) else f"layer1.0.{one}" for one in paths]
        node.metadata_props[SCOPES] = repr(["", *whole, "op"])
    assert module_outputs(network) == OUTPUTS


def test_layers_are_found_in_the_names_of_tensorflows_exporter():
    found = module_outputs(model(lambda path: {"name": f"model/{path.strip('/').replace('/', '_')}/Op"}))
    assert found["model"] == ("g",)
    assert found["model/layer1_layer1.0_Add"] == ("e",)


def test_a_node_without_a_note_stands_where_its_neighbours_do():
    found = module_outputs(model(lambda path: {} if "act/" in path or path == "/Sigmoid" else {"name": path}))
    assert found["layer1.0"] == ("f",), "the activation between its convolutions is its own"
    assert "layer1.0.act" not in found


def test_a_module_that_is_applied_twice_has_two_values():
    found = module_outputs(model(lambda path: {"name": path.replace("act_1", "act")}))
    assert found["layer1.0.act"] == ("c", "f")
    assert found["layer1.0"] == ("f",)


@pytest.mark.parametrize("text", ["", "[", "3", "[1, 2]", "['', 'a'", "__import__('os')"])
def test_metadata_of_another_form_is_passed_over(text):
    network = model(lambda _: {})
    for node in network.graph:
        node.metadata_props[SCOPES] = text
    assert module_outputs(network) == {}

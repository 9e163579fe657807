"""What follows the last convolutions never stops the analysis of these."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from filterscope.analyzer.boundary.opening import open_network
from filterscope.converters.errors import ModelError, UnsupportedOperatorError
from filterscope.converters.parity import verify
from filterscope.converters.rewrites.opset_upgrade import to_opset
from filterscope.converters.torch_import.importer import import_torch
from support.networks import answers, build, canonical, normal

SAME = {"pads": [1, 1, 1, 1]}
W, W2 = normal(4, 3, 3, 3), normal(4, 4, 3, 3)
LAYERS = [("Conv", "x w", "c", SAME), ("Relu", "c", "r"), ("Conv", "r w2", "d", SAME)]
FLOAT, BOOL, INT64 = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT64


def inner(nodes, outputs, inputs=()):
    made = [helper.make_node(op, i.split(), o.split()) for op, i, o in nodes]
    return helper.make_graph(
        made, "inner", *([helper.make_tensor_value_info(*v) for v in g] for g in (inputs, outputs))
    )


UNTIL_SMALL = inner(
    [("Mul", "v half", "w_out"), ("ReduceMax", "w_out", "top"), ("Greater", "top one", "more")],
    [("more", BOOL, None), ("w_out", FLOAT, None)],
    [("i", INT64, []), ("go", BOOL, []), ("v", FLOAT, None)],
)
BRANCH = {
    "then_branch": inner([("Neg", "d", "n1")], [("n1", FLOAT, None)]),
    "else_branch": inner([("Abs", "d", "n2")], [("n2", FLOAT, None)]),
}
BOXES = [("Reshape", "d boxes", "b"), ("Reshape", "d scores", "s")]
HEADS = {  # nodes behind the last convolution, the model's outputs, the normal form's outputs
    "another program's operator": ([("EfficientNMS", "d", "y", {"domain": "TRT"})], "y", "d"),
    "one without a domain": ([("BatchedNMS_TRT", "d", "y")], "y", "d"),
    "a tokenizer's": ([("Relu", "d", "l"), ("BpeDecoder", "l", "y", {"domain": "ai.onnx.contrib"})], "y l", "l"),
    "boxes": ([*BOXES, ("NonMaxSuppression", "b s", "i"), ("Cast", "i", "y", {"to": FLOAT})], "y", "b s"),
    "the best": ([("GlobalAveragePool", "d", "p"), ("Flatten", "p", "f"), ("TopK", "f two", "y i")], "y i", "f"),
    "places": ([("Relu", "d", "l"), ("NonZero", "l", "i")], "l i", "l"),
    "a loop": ([("Loop", "many yes d", "y", {"body": UNTIL_SMALL})], "y", "d"),
    "a branch": (
        [("ReduceMax", "d", "m", {"keepdims": 0}), ("Greater", "m one", "is"), ("If", "is", "y", BRANCH)],
        "y",
        "d",
    ),
    "a dictionary": (
        [("Flatten", "d", "f"), ("ZipMap", "f", "y", {"domain": "ai.onnx.ml", "classlabels_int64s": [1, 2]})],
        "y",
        "f",
    ),
    "chance": ([("RandomNormalLike", "d", "z"), ("Add", "d z", "y")], "y", "d"),
    "a sequence": ([("SplitToSequence", "d", "q", {"axis": 1}), ("SequenceLength", "q", "y")], "y", ""),
}
CONSTANTS = {
    "w": W,
    "w2": W2,
    "boxes": np.array([0, -1, 4]),
    "scores": np.array([0, 1, -1]),
    "two": np.array([2]),
    "many": np.array(5),
    "yes": np.array(True),
    "half": np.float32(0.5),
    "one": np.float32(1),
}


def model(name):
    nodes, outputs, _ = HEADS[name]
    names = {read for _, text, *_ in [*LAYERS, *nodes] for read in text.split()} | {"half", "one"}
    constants = {key: array for key, array in CONSTANTS.items() if key in names}
    built = build([*LAYERS, *nodes], constants, outputs=outputs.split(), opset=17, ir_version=8)
    for value in built.graph.output:
        if not value.type.HasField("tensor_type"):
            value.type.tensor_type.elem_type = FLOAT
    return built


@pytest.mark.parametrize("name", HEADS)
def test_the_layers_before_it_are_opened_and_proven(name, tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(model(name), path)
    network = open_network(path)
    assert [layer.out_channels for layer in network.layers] == [4, 4]
    parity = network.prove()
    assert max(parity.original.error, parity.nodes.error) < 1e-5
    assert parity.warnings == ()
    outputs = set(network.model.graph.outputs)
    assert set(HEADS[name][2].split()) <= outputs
    assert any("behind the last convolutions were cut off" in note for note in network.model.notes)
    alone = build(LAYERS, {"w": W, "w2": W2})
    x = normal(2, 3, 16, 16)
    found = network.session(["d"]).run(x)["d"]
    np.testing.assert_allclose(found, answers(alone, x)["d"], rtol=1e-5, atol=1e-5)


def test_nothing_is_cut_off_where_nothing_has_to_be():
    nodes = [*LAYERS, ("GlobalAveragePool", "d", "p"), ("Flatten", "p", "f"), ("Softmax", "f", "y")]
    form = canonical(build(nodes, {"w": W, "w2": W2}))
    assert form.graph.outputs == ("y",)
    assert not [note for note in form.notes if "cut off" in note]


def test_an_unknown_operator_before_a_convolution_is_named_with_that_convolution():
    nodes = [
        LAYERS[0],
        ("Magic", "c", "r", {"domain": "mine", "name": "wand"}),
        ("Conv", "r w2", "y", {"name": "last"}),
    ]
    words = r"wand: operator Magic of mine( \(version 1\))? is not known to ONNX Runtime, and convolution last needs"
    with pytest.raises(UnsupportedOperatorError, match=words) as caught:
        canonical(build(nodes, {"w": W, "w2": W2}))
    listed = [(c.name, c.kernel, c.in_channels, c.out_channels, c.parameters) for c in caught.value.convolutions]
    assert [facts[1:] for facts in listed] == [
        (kernel.shape[2:], kernel.shape[1], kernel.shape[0], kernel.size) for kernel in (W, W2)
    ]
    assert listed[1][0] == "last"


def test_a_head_that_cannot_be_brought_into_normal_form_is_left_out(monkeypatch):
    real = to_opset

    def without_softmax(proto):
        if any(node.op_type == "Softmax" for node in proto.graph.node):
            raise ModelError("y: Softmax of opset 17 cannot be read")
        return real(proto)

    monkeypatch.setattr("filterscope.converters.normal_form.passes.to_opset", without_softmax)
    form = canonical(build([*LAYERS, ("Softmax", "d", "y")], {"w": W, "w2": W2}, opset=17))
    assert "d" in form.graph.outputs
    assert "y: Softmax of opset 17 cannot be read" in form.notes[-1]
    assert verify(form, import_torch(form), normal(3, 3, 16, 16)).warnings == ()


def test_a_head_that_differs_in_torch_is_a_warning_and_a_layer_that_differs_is_refused():
    nodes = [*LAYERS, ("GlobalAveragePool", "d", "p"), ("Flatten", "p", "f"), ("Gemm", "f k", "y", {"name": "head"})]
    form = canonical(build(nodes, {"w": W, "w2": W2, "k": normal(4, 5)}))
    twin = import_torch(form)
    twin.module.get_submodule(str(twin.calls["head"].target)).weight.data.mul_(1.1)
    parity = verify(form, twin, normal(3, 3, 16, 16))
    assert len(parity.warnings) == 1
    assert "What follows the last convolutions cannot be proven" in parity.warnings[0]
    assert "head (Gemm, opset 21)" in parity.warnings[0]

"""The normal form computes what the original computes. The judge is ONNX Runtime by itself, without our code."""

import dataclasses
import tracemalloc

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from filterscope.converters.errors import ModelError
from filterscope.converters.normal_form.canonical import canonicalize
from filterscope.converters.onnx_file.model_file import read
from filterscope.converters.rewrites.opset_site import OPSET
from support.networks import MODELS, answers, build, canonical, needs_data, normal

W = normal(4, 3, 3, 3)
SAME = {"pads": [1, 1, 1, 1]}
NORM = {"g": normal(4), "b": normal(4, seed=1), "m": normal(4, seed=2), "v": np.abs(normal(4, seed=3)) + 0.1}


def ints(*numbers):
    return np.array(numbers, np.int64)


def floats(*numbers):
    return np.array(numbers, np.float32)


def ops(model):
    return [node.op for node in model.graph.nodes]


def assert_same(model, form, batch=2, side=16):
    """Outputs of original and normal form agree, and so does each value that both have; as does another batch size."""
    x = normal(batch, 3, side, side)
    own = {name for node in model.graph.node for name in node.output}
    shared = [name for node in form.graph.nodes for name in node.outputs if name in own]
    assert {value.name for value in model.graph.output} <= {value.name for value in form.proto.graph.output}
    expected, found = answers(model, x, shared), answers(form.proto, x, shared)
    for name in shared:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
    assert next(iter(answers(form.proto, normal(3, 3, side, side)).values())).shape[0] == 3


# --- opsets


def clip(opset):
    if opset < 11:
        return [("Clip", "c", "y", {"min": -0.5, "max": 0.5})], {}
    return [("Clip", "c low high", "y")], {"low": np.float32(-0.5), "high": np.float32(0.5)}


def padding(opset):
    if opset < 11:
        return [("Pad", "c", "y", {"pads": [0, 0, 1, 2, 0, 0, 3, 4], "mode": "reflect"})], {}
    return [("Pad", "c p", "y", {"mode": "reflect"})], {"p": ints(0, 0, 1, 2, 0, 0, 3, 4)}


def upsampling(mode, factor):
    def nodes(opset):
        if opset < 9:
            return [("Upsample", "c", "y", {"scales": [1.0, 1.0, factor, factor], "mode": mode})], {}
        scales = {"s": floats(1, 1, factor, factor)}
        if opset < 11:
            return [("Upsample" if opset < 10 else "Resize", "c s", "y", {"mode": mode})], scales
        return [("Resize", "c _ s" if opset > 12 else "c r s", "y", {"mode": mode})], scales | {"r": floats()}

    return nodes


def axes_of(op, *axes, since, **attributes):
    """An operator whose axes were an attribute before they became an input."""

    def nodes(opset):
        if opset < since:
            return [(op, "c", "y", {"axes": list(axes)} | attributes)], {}
        return [(op, "c a", "y", attributes)], {"a": ints(*axes)}

    return nodes


def squeezing(opset):
    if opset < 13:
        squeezed = [("Squeeze", "p", "s", {"axes": [2, 3]}), ("Unsqueeze", "s", "y", {"axes": [1]})]
        return [("GlobalAveragePool", "c", "p"), *squeezed], {}
    return [("GlobalAveragePool", "c", "p"), ("Squeeze", "p a", "s"), ("Unsqueeze", "s o", "y")], {
        "a": ints(2, 3),
        "o": ints(1),
    }


def splitting(opset):
    if opset < 13:
        return [("Split", "c", "part y", {"axis": 1, "split": [1, 3]})], {}
    return [("Split", "c sizes", "part y", {"axis": 1})], {"sizes": ints(1, 3)}


def slicing(opset):
    if opset < 10:
        return [("Slice", "c", "y", {"starts": [1, -4], "ends": [100, -1], "axes": [1, 3]})], {}
    return [("Slice", "c s e a", "y")], {"s": ints(1, -4), "e": ints(100, -1), "a": ints(1, 3)}


def always(*nodes, **constants):
    return lambda opset: (list(nodes), constants)


FOLLOWERS = {  # operators whose form changed between opset 7 and 21, after a convolution that writes "c"
    "Relu": always(("Relu", "c", "y")),
    "BatchNormalization": always(("Relu", "c", "r"), ("BatchNormalization", "r g b m v", "y"), **NORM),
    "Clip": clip,
    "Pad": padding,
    "Upsample nearest": upsampling("nearest", 2),
    "Upsample nearest by 1.7": upsampling("nearest", 1.7),
    "Upsample linear": upsampling("linear", 2),
    "Softmax": always(("Softmax", "c", "y", {"axis": 1})),
    "Softmax, no axis": always(("Softmax", "c", "y")),
    "LogSoftmax": always(("LogSoftmax", "c", "y", {"axis": 1})),
    "ReduceMean": axes_of("ReduceMean", 2, 3, since=18, keepdims=1),
    "ReduceMax": axes_of("ReduceMax", 1, since=18, keepdims=0),
    "ReduceSum": axes_of("ReduceSum", 2, 3, since=13, keepdims=0),
    "Squeeze": squeezing,
    "Split": splitting,
    "Slice": slicing,
    "Dropout": always(("Dropout", "c", "y")),
    "Reshape": always(("Reshape", "c t", "y"), t=ints(0, -1)),
    "Gemm": always(
        ("GlobalAveragePool", "c", "p"),
        ("Flatten", "p", "f"),
        ("Gemm", "f k b", "y", {"transB": 1}),
        k=normal(5, 4),
        b=normal(5),
    ),
    "AveragePool": always(("AveragePool", "c", "y", {"kernel_shape": [3, 3], "strides": [2, 2], **SAME})),
    "DepthToSpace": always(("DepthToSpace", "c", "y", {"blocksize": 2})),
    "LRN": always(("LRN", "c", "y", {"size": 3})),
}


@pytest.mark.parametrize("name", FOLLOWERS)
def test_each_opset_is_brought_to_one_and_means_the_same(name):
    for opset in range(7, OPSET + 1):
        nodes, constants = FOLLOWERS[name](opset)
        model = build([("Conv", "x w", "c", SAME), *nodes], {"w": W} | constants, opset=opset, outputs=["y"])
        form = canonical(model)
        assert form.proto.opset_import[0].version == OPSET
        assert form.opset == opset
        assert_same(model, form)


@pytest.mark.parametrize("opset", [22, 23, 24])
def test_a_newer_opset_is_brought_down(opset):
    nodes = [("Conv", "x w", "c", SAME), ("BatchNormalization", "c g b m v", "n"), ("Relu", "n", "y")]
    model = build(nodes, {"w": W} | NORM, opset=opset)
    assert_same(model, canonical(model))


def test_an_operator_that_the_opset_lacks_stops_no_other():
    model = build([("Conv", "x w", "c", SAME), ("Upsample", "c", "y")], {"w": W}, opset=5)
    model.graph.node[1].op_type = "GRUUnit"  # experimental, gone since
    opened = canonical(model)
    assert any("GRUUnit of opset 5 has no form at opset 21" in note for note in opened.notes)
    assert [node.op for node in opened.graph.nodes] == ["Conv", "GRUUnit"]


# --- where exporters keep the weights


def test_initializers_that_are_listed_as_inputs_are_no_inputs():
    model = build([("Conv", "x w b", "y")], {"w": W, "b": normal(4)}, ir_version=3, opset=8, listed=True)
    assert len(model.graph.input) == 3
    form = canonical(model)
    assert form.graph.inputs == ("x",)
    assert form.input == "x"
    assert_same(model, form)


def constant_node(name, array):
    return ("Constant", "", name, {"value": numpy_helper.from_array(array)})


def test_weights_in_constant_nodes_become_initializers():
    model = build([constant_node("w", W), constant_node("b", normal(4)), ("Conv", "x w b", "c"), ("Relu", "c", "y")])
    form = canonical(model)
    assert ops(form) == ["Conv", "Relu"]
    np.testing.assert_array_equal(form.graph.initializers[form.graph.nodes[0].inputs[1]], W)
    assert_same(model, form)


HALF = numpy_helper.from_array(floats(0.5))
COMPUTED = {  # a kernel that takes nodes to make, from constants alone
    "turned": ([("Transpose", "k", "w", {"perm": [3, 2, 0, 1]})], {"k": W.transpose(2, 3, 1, 0)}),
    "scaled": ([("Mul", "k s", "w")], {"k": W, "s": normal(4, 1, 1, 1)}),
    "renamed": ([("Identity", "k", "w")], {"k": W}),
    "in 8 bits": (
        [("DequantizeLinear", "k s", "w", {"axis": 0})],
        {"k": (W * 40).astype(np.int8), "s": floats(0.01, 0.02, 0.03, 0.04)},
    ),
    "in 16 bits": ([("Cast", "k", "w", {"to": TensorProto.FLOAT})], {"k": W.astype(np.float16)}),
    "filled": ([("ConstantOfShape", "s", "w", {"value": HALF})], {"s": ints(4, 3, 3, 3)}),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_a_kernel_that_is_computed_from_constants_is_worked_out(name):
    nodes, constants = COMPUTED[name]
    model = build([*nodes, ("Conv", "x w", "y")], constants)
    form = canonical(model)
    assert ops(form) == ["Conv"]
    assert form.graph.initializers[form.graph.nodes[0].inputs[1]].shape == (4, 3, 3, 3)
    assert any("folded" in note for note in form.notes)
    assert_same(model, form)


@pytest.mark.parametrize("op", ["ConstantOfShape", "Expand", "Tile"])
@pytest.mark.parametrize("side", [1 << 14, 1 << 20])
def test_a_small_file_cannot_ask_for_a_huge_constant(op, side):
    source = "s" if op == "ConstantOfShape" else "one s"
    nodes = [(op, source, "huge"), ("ReduceSum", "huge", "z"), ("Conv", "x w", "c"), ("Add", "c z", "y")]
    constants = {"s": ints(side, side), "w": W} | ({} if source == "s" else {"one": np.ones((1, 1), np.float32)})
    tracemalloc.start()
    with pytest.raises(ModelError, match=r"would make a constant of .* far more than the file holds"):
        canonical(build(nodes, constants))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 26


def test_functions_are_written_out():
    model = build([("Conv", "x w", "c"), ("Swish2", "c", "y", {"domain": "own"})], {"w": W})
    body = [helper.make_node("Sigmoid", ["a"], ["s"]), helper.make_node("Mul", ["a", "s"], ["o"])]
    model.functions.append(
        helper.make_function("own", "Swish2", ["a"], ["o"], body, [helper.make_opsetid("", OPSET)], [])
    )
    form = canonical(model)
    assert ops(form) == ["Conv", "Sigmoid", "Mul"]
    assert "1 functions were written out." in form.notes
    assert_same(model, form)


# --- what is folded into a convolution

CONV, BN, RELU = ("Conv", "x w", "c", SAME), ("BatchNormalization", "c g b m v", "n"), ("Relu", "n", "y")

FOLDED = {  # nodes, operators that are left
    "BatchNorm": ([CONV, BN, RELU], ["Conv", "Relu"]),
    "BatchNorm with an epsilon": ([CONV, (*BN, {"epsilon": 0.1}), RELU], ["Conv", "Relu"]),
    "BatchNorm onto a bias": ([("Conv", "x w b", "c"), BN, RELU], ["Conv", "Relu"]),
    "two BatchNorms": ([CONV, BN, ("BatchNormalization", "n g b m v", "y")], ["Conv"]),
    "bias, (C, 1, 1)": ([CONV, ("Add", "c per_channel", "n"), RELU], ["Conv", "Relu"]),
    "bias, before": ([CONV, ("Add", "per_channel c", "n"), RELU], ["Conv", "Relu"]),
    "bias, (1, C, 1, 1)": ([CONV, ("Add", "c four_axes", "n"), RELU], ["Conv", "Relu"]),
    "bias, one number": ([CONV, ("Add", "c one", "n"), RELU], ["Conv", "Relu"]),
    "bias, then BatchNorm": (
        [CONV, ("Add", "c four_axes", "a"), ("BatchNormalization", "a g b m v", "y")],
        ["Conv"],
    ),
    "a second bias": ([("Conv", "x w b", "c"), ("Add", "c per_channel", "y")], ["Conv"]),
}

LEFT = {  # nodes; none of them is folded
    "BatchNorm after the activation": [CONV, ("Relu", "c", "r"), ("BatchNormalization", "r g b m v", "y")],
    "BatchNorm and something else read it": [CONV, BN, ("Add", "c n", "y")],
    "a full map": [CONV, ("Add", "c map", "y")],
    "a row of the map": [CONV, ("Add", "c row", "y")],
    "itself": [CONV, ("Add", "c c", "y")],
    "another branch": [CONV, ("Conv", "x w", "d", SAME), ("Add", "c d", "y")],
}

CONSTANTS = NORM | {
    "w": W,
    "per_channel": normal(4, 1, 1),
    "four_axes": normal(1, 4, 1, 1),
    "one": floats(0.7),
    "map": normal(4, 16, 16),
    "row": normal(16),
}


def used(nodes):
    read = {name for node in nodes for name in node[1].split()}
    return {name: array for name, array in CONSTANTS.items() if name in read}


@pytest.mark.parametrize("name", FOLDED)
def test_what_is_one_affine_map_per_channel_goes_into_the_convolution(name):
    nodes, left = FOLDED[name]
    model = build(nodes, used(nodes))
    form = canonical(model)
    assert ops(form) == left
    assert form.normalised == ({form.graph.nodes[0].name} if "BatchNorm" in name else set())
    assert_same(model, form)


def test_a_folded_convolution_writes_the_value_that_the_original_knows():
    nodes = [CONV, BN, RELU]
    form = canonical(build(nodes, used(nodes)))
    assert form.graph.nodes[0].outputs == ("n",)
    assert form.notes == ("1 BatchNorms were folded into the convolution before them.",)


@pytest.mark.parametrize("name", LEFT)
def test_what_is_no_affine_map_per_channel_is_left(name):
    nodes = LEFT[name]
    model = build(nodes, used(nodes))
    form = canonical(model)
    assert form.graph.nodes[-1].op in ("BatchNormalization", "Add")
    assert not form.normalised
    assert_same(model, form)


def test_a_batchnorm_is_left_where_the_convolution_is_an_output_of_the_graph():
    nodes = [CONV, BN, RELU]
    model = build(nodes, used(nodes), outputs=["c", "y"])
    form = canonical(model)
    assert ops(form) == ["Conv", "BatchNormalization", "Relu"]
    assert form.graph.outputs == ("c", "y")
    assert_same(model, form)


@pytest.mark.parametrize("last", ["BatchNormalization", "Conv"])
def test_the_graphs_output_keeps_its_name(last):
    nodes = [CONV, BN] if last == "BatchNormalization" else [CONV]
    model = build(nodes, used(nodes))
    form = canonical(model)
    assert form.graph.outputs == (nodes[-1][2],)
    assert ops(form) == ["Conv"]
    assert_same(model, form)


@pytest.mark.parametrize(("groups", "inputs", "outputs"), [(1, 3, 4), (3, 3, 6), (2, 4, 6)])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_a_batchnorm_goes_into_the_right_group(op, groups, inputs, outputs):
    kernel = (outputs, inputs // groups, 3, 3) if op == "Conv" else (inputs, outputs // groups, 3, 3)
    names = dict(zip("gbmv", (normal(outputs, seed=seed) for seed in range(4)), strict=True))
    names["v"] = np.abs(names["v"]) + 0.1
    model = build(
        [("Conv", "x k", "z"), (op, "z w b0", "c", {"group": groups, "strides": [2, 2]}), BN, RELU],
        {"k": normal(inputs, 3, 1, 1), "w": normal(*kernel), "b0": normal(outputs)} | names,
    )
    form = canonical(model)
    assert ops(form) == ["Conv", op, "Relu"]
    assert_same(model, form)


# --- the batch dimension

BAKED = {  # nodes after a convolution that writes "c" (N, 4, 8, 8); constants that hold the batch size, 1
    "flat": ([("Reshape", "c t", "y")], {"t": ints(1, 256)}),
    "flat, rest free": ([("Reshape", "c t", "y")], {"t": ints(1, -1)}),
    "all given": ([("Reshape", "c t", "y")], {"t": ints(1, 2, 2, 8, 8)}),
    "merged with channels": (
        [("Reshape", "c t", "r"), ("Relu", "r", "s"), ("Reshape", "s back", "y")],
        {"t": ints(2, 2, 8, 8), "back": ints(1, 4, 8, 8)},
    ),
    "merged, rest free": (
        [("Reshape", "c t", "r"), ("Relu", "r", "s"), ("Reshape", "s back", "y")],
        {"t": ints(2, -1, 8, 8), "back": ints(1, 4, 8, 8)},
    ),
    "channel shuffle": (
        [
            ("Reshape", "c t", "r"),
            ("Transpose", "r", "s", {"perm": [0, 2, 1, 3, 4]}),
            ("Reshape", "s back", "y"),
        ],
        {"t": ints(1, 2, 2, 8, 8), "back": ints(1, 4, 8, 8)},
    ),
    "sizes of a Resize": ([("Resize", "c _ _ s", "y", {"mode": "linear"})], {"s": ints(1, 4, 12, 20)}),
    "sizes and a region": (
        [("Resize", "c r _ s", "y", {"coordinate_transformation_mode": "tf_crop_and_resize", "mode": "linear"})],
        {"s": ints(1, 4, 12, 20), "r": floats(0, 0, 0, 0.5, 1, 1, 0.5, 1)},
    ),
    "an Expand": ([("GlobalAveragePool", "c", "p"), ("Expand", "p t", "y")], {"t": ints(1, 4, 5, 5)}),
    "sizes of two axes": ([("Resize", "c _ _ s", "y", {"mode": "linear", "axes": [2, 3]})], {"s": ints(12, 20)}),
    "an Expand without the batch": (
        [("GlobalAveragePool", "c", "p"), ("Expand", "p t", "y")],
        {"t": ints(4, 5, 5)},
    ),
    "a joined constant": ([("Concat", "c k", "y", {"axis": 1})], {"k": normal(1, 2, 8, 8)}),
    "an expanded constant": (
        [("Expand", "k t", "e"), ("Concat", "e c", "y", {"axis": 1})],
        {"k": normal(1, 1, 8, 1), "t": ints(1, 2, 8, 8)},
    ),
    "its shape": ([("Shape", "c", "t"), ("Reshape", "c t", "r"), ("Relu", "r", "y")], {}),
    "a recurrent head": (
        [
            ("ReduceMean", "c a", "m", {"keepdims": 0}),
            ("Transpose", "m", "q", {"perm": [2, 0, 1]}),
            ("GRU", "q k r _ _ h", "out y", {"hidden_size": 3}),
            ("Transpose", "y", "z", {"perm": [1, 0, 2]}),
        ],
        {"a": ints(2), "k": normal(1, 9, 4), "r": normal(1, 9, 3), "h": np.zeros((1, 1, 3), np.float32)},
    ),
}


@pytest.mark.parametrize("name", BAKED)
def test_a_fixed_batch_is_freed(name):
    nodes, constants = BAKED[name]
    strided = {"strides": [2, 2], **SAME}
    model = build([("Conv", "x w", "c", strided), *nodes], {"w": W} | constants, shape=(1, 3, 16, 16))
    form = canonical(model)
    assert form.input_shape == ("N", 3, 16, 16)
    assert any("batch dimension, fixed at 1" in note for note in form.notes)
    x = normal(3, 3, 16, 16)
    output = model.graph.output[0].name
    found = answers(form.proto, x)[output]
    expected = np.concatenate([answers(model, x[i : i + 1])[output] for i in range(3)])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_fixed_batch_of_two_is_freed():
    nodes = [("Conv", "x w", "c", SAME), ("Reshape", "c t", "y")]
    model = build(nodes, {"w": W, "t": ints(2, 4 * 256)}, shape=(2, 3, 16, 16))
    x = normal(4, 3, 16, 16)
    expected = np.concatenate([answers(model, x[:2])["y"], answers(model, x[2:])["y"]])
    np.testing.assert_allclose(answers(canonical(model).proto, x)["y"], expected, rtol=1e-4, atol=1e-5)


def test_a_free_batch_is_left_alone():
    model = build([("Conv", "x w", "c", SAME), ("Reshape", "c t", "y")], {"w": W, "t": ints(0, -1)})
    form = canonical(model)
    assert form.notes == ()
    assert form.input_shape == ("N", 3, 16, 16)


# --- what is refused


def no_input(model):
    del model.graph.input[:]


def of_type(kind):
    def change(model):
        model.graph.input[0].type.tensor_type.elem_type = kind

    return change


def nothing(model):
    pass


RELU_ONLY = [("Relu", "x", "y")]
REFUSED = {  # nodes, a change, the words
    "no convolution": (RELU_ONLY, nothing, "has no convolution layer; it holds 1 nodes: 1 Relu"),
    "no input": (RELU_ONLY, no_input, "has no input"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_analysed_is_refused_in_one_line(name):
    nodes, change, words = REFUSED[name]
    constants = {"w": W, "s": np.float32(1), "z": np.uint8(0)}
    model = build(nodes, {key: array for key, array in constants.items() if key in nodes[0][1].split()})
    change(model)
    with pytest.raises(ModelError, match=f"^model.onnx: {words}") as refusal:
        canonical(model)
    assert "\n" not in str(refusal.value)


def test_a_convolution_of_constants_is_no_layer():
    model = build([("Conv", "k w", "c"), ("Add", "x c", "y")], {"k": normal(1, 3, 16, 16), "w": normal(3, 3, 1, 1)})
    with pytest.raises(ModelError, match=r"^model\.onnx: .*: no convolution leads from its image to its outputs$"):
        canonical(model)


def test_an_original_that_was_not_kept_as_bytes_is_written_and_one_elsewhere_is_not_there():
    form = canonical(build([("Conv", "x w", "y")], {"w": W}))
    assert onnx.load_model_from_string(form.exported()) == form.original
    with pytest.raises(RuntimeError, match=r"^model\.onnx: was opened in another process"):
        _ = dataclasses.replace(form, evidence=None, export=None).original


def test_an_image_that_is_an_output_too_keeps_both_names():
    nodes = [("Conv", "x w", "c"), ("Identity", "x", "i"), ("Identity", "i", "y")]
    model = build(nodes, {"w": W}, outputs=["c", "y"])
    form = canonical(model)
    assert form.graph.outputs == ("c", "y")
    x = normal(2, 3, 16, 16)
    np.testing.assert_array_equal(answers(form.proto, x)["y"], x)


# --- names

NAMED = [  # kernel, node, output; the name that the user knows
    ("layer1.0.conv1.weight", "/layer1/layer1.0/conv1/Conv", "y", "layer1.0.conv1"),
    ("onnx::Conv_193", "/layer1/layer1.0/conv1/Conv", "y", "layer1.0.conv1"),
    ("onnx::Conv_193", "/features/features.1/block/block.0/block.0.0/Conv", "y", "features.1.block.0.0"),
    ("onnx::Conv_193", "/features/0/Conv", "y", "features.0"),
    ("onnx::Conv_193", "/conv1/Conv_1", "y", "conv1"),
    ("block1_conv1/kernel:0", "model/block1_conv1/Conv2D", "y", "block1_conv1"),
    ("const_fold_opt__12", "model/block1_conv1/Conv2D", "y", "model/block1_conv1"),
    ("fire2/squeeze1x1_w_0", "", "fire2/squeeze1x1_1", "fire2/squeeze1x1"),
    ("features.0.weight_quantized::dequantised", "Conv_0_quant", "y", "features.0"),
    ("features.0.weight_DequantizeLinear_Output", "n", "y", "features.0"),
    ("ConvBnFusion_W_features.0.weight", "n", "y", "features.0"),
    ("conv2d_53.w_0", "p2o.Conv.3", "conv2d_53.tmp_0", "conv2d_53"),
    ("conv2d_53.w_0", "Conv_3", "conv2d_53.tmp_0", "conv2d_53"),
    ("w", "Conv_3", "25", "Conv_3"),
    ("w", "", "25", "Conv_0"),
    ("Parameter5", "Convolution28", "Convolution28_Output_0", "Convolution28"),
    ("модель.0.weight", "n", "y", "модель.0"),
]


@pytest.mark.parametrize(("kernel", "node", "output", "name"), NAMED)
def test_a_layer_has_the_name_that_its_user_knows(kernel, node, output, name):
    form = canonical(build([("Conv", f"x {kernel}", output, {"name": node})], {kernel: W}))
    assert list(form.layer_names.values()) == [name]
    assert list(form.layer_names) == [form.graph.nodes[0].name]


def test_layers_that_share_a_name_are_told_apart():
    square = normal(3, 3, 3, 3)
    nodes = [("Conv", "x shared.weight", "a", {"name": "first"}), ("Conv", "a shared.weight", "y", {"name": "second"})]
    form = canonical(build(nodes, {"shared.weight": square}))
    assert list(form.layer_names.values()) == ["shared (first)", "shared (second)"]


def test_nodes_without_names_and_with_one_name_get_their_own():
    square = normal(3, 3, 3, 3)
    nodes = [
        ("Conv", "x w", "a", {"name": "c"}),
        ("Conv", "a w", "b", {"name": "c"}),
        ("Relu", "b", "r"),
        ("Abs", "r", "y"),
    ]
    names = [node.name for node in canonical(build(nodes, {"w": square})).graph.nodes]
    assert len(set(names)) == 4
    assert all(names)


# --- shapes


def test_shapes_are_concrete_at_any_size_even_where_inference_fails():
    nodes = [CONV, ("ReduceMax", "c", "m", {"keepdims": 0}), ("Add", "m seven", "end"), ("Range", "zero end one", "y")]
    ends = {"zero": np.float32(0), "one": np.float32(1), "seven": np.float32(7)}
    form = canonical(build(nodes, {"w": W, **ends}, shape=("N", 3, "H", "W")))
    shapes = form.shapes_at((1, 3, 20, 12))
    assert shapes["c"] == (1, 4, 20, 12)
    assert shapes["y"] == (7,)  # the image is black
    assert all(isinstance(extent, int) for shape in shapes.values() for extent in shape)


def test_a_size_that_does_not_run_is_refused():
    form = canonical(build([("Conv", "x w", "c"), ("Reshape", "c t", "y")], {"w": W, "t": ints(-1, 4 * 14 * 14)}))
    with pytest.raises(ModelError, match=r"does not run on an input of shape \[1, 3, 9, 9\]"):
        form.shapes_at((1, 3, 9, 9))


# --- real files

LAYERS = {  # convolutions; input for ONNX Runtime
    "mobilenetv2_fp32_dequant": (52, (1, 3, 224, 224)),
    "ultraface_rfb_320": (52, (1, 3, 240, 320)),
    "ultraface_slim_320_simplified": (42, (1, 3, 240, 320)),
    "ppocr_v4_det": (64, (1, 3, 64, 96)),
    "ppocr_v2_cls": (53, (1, 3, 48, 192)),
    "svhn_cnn6": (6, (1, 3, 32, 32)),
    "cifar10_cnn4": (4, (1, 3, 32, 32)),
    "mnist_cntk": (2, (1, 1, 28, 28)),
}


@needs_data
@pytest.mark.parametrize("name", LAYERS)
def test_a_real_file_keeps_its_layers_and_its_answers(name):
    count, shape = LAYERS[name]
    file = read(MODELS / f"{name}.onnx")
    form = canonicalize(file)
    kinds = ops(form)
    assert kinds.count("Conv") + kinds.count("ConvTranspose") == count == len(form.layer_names)
    assert kinds.count("ConvTranspose") == (2 if name == "ppocr_v4_det" else 0)
    assert len(set(form.layer_names.values())) == count
    assert form.input_shape[0] == "N" or not isinstance(form.input_shape[0], int)
    x = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    expected, found = answers(file.proto, x), answers(form.proto, x)
    assert list(expected) == list(found)
    for output, array in expected.items():
        np.testing.assert_allclose(found[output], array, rtol=1e-4, atol=1e-5, err_msg=output)
    three = answers(form.proto, np.concatenate([x, 1 - x, x]))
    for output, array in expected.items():
        np.testing.assert_allclose(three[output][2], array[0], rtol=1e-4, atol=1e-4, err_msg=output)


def test_the_original_is_left_as_it_was():
    nodes = [CONV, BN, RELU]
    model = build(nodes, used(nodes), shape=(1, 3, 16, 16), opset=9)
    before = onnx.ModelProto()
    before.CopyFrom(model)
    form = canonical(model)
    assert model == before
    assert form.original == before

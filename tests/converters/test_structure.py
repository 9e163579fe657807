"""Graphs of every shape that exporters write: each is opened, proven, and answers as the file does."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from filterscope.analyzer.boundary.opening import open_network
from filterscope.converters.errors import FilterscopeError
from support.networks import build, normal

SAME = {"auto_pad": "SAME_UPPER"}
W, W2 = normal(4, 3, 3, 3), normal(4, 4, 3, 3)
WEIGHTS = {"w": W, "w2": W2}
CONV, RELU, LAST = ("Conv", "x w", "c", SAME), ("Relu", "c", "r"), ("Conv", "r w2", "y", SAME)


def constant_node(name, array):
    return ("Constant", "", name, {"value": numpy_helper.from_array(np.asarray(array))})


def subgraph(nodes, outputs, inputs=(), constants=None):
    """A branch or a loop's body: inputs and outputs are (name, kind, shape)."""
    made = [helper.make_node(op, i.split(), o.split(), **dict(*attributes)) for op, i, o, *attributes in nodes]
    values = [[helper.make_tensor_value_info(*value) for value in given] for given in (inputs, outputs)]
    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()]
    return helper.make_graph(made, "inner", *values, held)


FLOAT, BOOL, INT64 = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT64


def branch(nodes, name, constants=None):
    return subgraph(nodes, [(name, FLOAT, None)], constants=constants)


def either(then, otherwise, condition="yes", output="y"):
    return ("If", condition, output, {"then_branch": then, "else_branch": otherwise})


KEPT = branch([("Conv", "r k", "a", SAME), ("Relu", "a", "kept")], "kept", {"k": W2})  # reads r from outside
OTHER = branch([("Neg", "r", "other")], "other")
OUTER = branch([("Identity", "r", "same")], "same")  # an output that is a value from outside
STEP = subgraph(
    [("Conv", "h w2", "a", SAME), ("Add", "a r", "h_out"), ("Identity", "go", "go_out")],
    [("go_out", BOOL, []), ("h_out", FLOAT, None)],
    [("i", INT64, []), ("go", BOOL, []), ("h", FLOAT, None)],
)
SCAN = subgraph(
    [
        ("Cast", "i", "f", {"to": FLOAT}),
        ("Mul", "h f", "h_out"),
        ("ReduceMean", "h_out a", "mean", {"keepdims": 0}),
        ("Add", "h one", "h_next"),
    ],
    [("always", BOOL, []), ("h_next", FLOAT, None), ("mean", FLOAT, None)],
    [("i", INT64, []), ("go", BOOL, []), ("h", FLOAT, None)],
    {"a": np.array([2, 3]), "one": np.float32(1), "always": np.array(True)},
)
NESTED = branch(
    [
        ("Shape", "r", "s"),
        ("Gather", "s at", "channels"),
        ("Equal", "channels four", "is"),
        ("If", "is", "kept", {"then_branch": KEPT, "else_branch": OTHER}),
    ],
    "kept",
    {"at": np.array(1), "four": np.array(4)},
)


def squeeze_if():
    """What PyTorch's older exporter writes for squeeze(): the axis may be 1, or may not."""
    then = subgraph([("Squeeze", "p axes", "s1")], [("s1", FLOAT, None)])
    return [
        CONV,
        ("GlobalAveragePool", "c", "p"),
        ("Shape", "p", "s"),
        ("Gather", "s three", "side"),
        ("Equal", "side one", "yes"),
        either(then, branch([("Identity", "p", "same")], "same"), output="q"),
        ("Add", "q b", "y"),
    ]


SQUEEZE = {"w": W, "axes": np.array([3]), "three": np.array(3), "one": np.array(1), "b": normal(4, 1)}
NORM = {"g": np.abs(normal(4)) + 1, "b": normal(4), "m": normal(4, seed=2), "v": np.abs(normal(4, seed=3)) + 0.5}
LONG = "scope/" * 60 + "convolution with spaces/ünïcödé/卷积 #1;<&>\"'"

NETWORKS = {  # nodes, constants, other arguments of build, convolutions, nodes of operators that must be gone
    "weights in Constant nodes": ([constant_node("w", W), CONV, RELU, constant_node("w2", W2), LAST], {}, {}, 2, ""),
    "weights shared behind Identity": (
        [("Identity", "w2", "k1"), ("Identity", "k1", "k2"), CONV, ("Conv", "c k1", "r", SAME), ("Conv", "r k2", "y")],
        WEIGHTS,
        {},
        3,
        "Identity",
    ),
    "weights shared by two": ([CONV, ("Conv", "c w2", "r", SAME), LAST], WEIGHTS, {}, 3, ""),
    "a weight shared with another operator": (
        [CONV, ("Reshape", "w2 t", "m"), ("Conv", "c w2", "r", SAME), ("MatMul", "r m", "y")],
        WEIGHTS | {"t": np.array([16, 9])},
        {},
        2,
        "Reshape",
    ),
    "weights of double precision, cast": (
        [("Cast", "k", "w", {"to": FLOAT}), CONV, RELU, LAST],
        {"k": W.astype(np.float64), "w2": W2},
        {},
        2,
        "Cast",
    ),
    "If of a constant": ([CONV, RELU, either(KEPT, OTHER)], {"w": W, "yes": np.array(True)}, {}, 2, "If"),
    "If of a constant, else": ([CONV, RELU, either(OTHER, KEPT)], {"w": W, "yes": np.array(False)}, {}, 2, "If"),
    "If in an If, decided by a shape": (
        [CONV, RELU, either(NESTED, OTHER)],
        {"w": W, "yes": np.array(True)},
        {},
        2,
        "If",
    ),
    "If that gives a value from outside": (
        [CONV, RELU, either(OUTER, OTHER, output="z"), ("Conv", "z w2", "y")],
        WEIGHTS | {"yes": np.array(True)},
        {},
        2,
        "If",
    ),
    "If that gives a graph output from outside": (
        [CONV, RELU, either(OUTER, OTHER, output="z"), ("Conv", "r w2", "y")],
        WEIGHTS | {"yes": np.array(True)},
        {"outputs": ["y", "z", "r"]},
        2,
        "If",
    ),
    "the same branch twice": (
        [CONV, RELU, either(KEPT, OTHER, output="z"), either(KEPT, OTHER, "no", "u"), ("Add", "z u", "y")],
        {"w": W, "yes": np.array(True), "no": np.array(True)},
        {},
        3,
        "If",
    ),
    "the same branch twice, decided by shapes": (
        [
            CONV,
            RELU,
            ("Shape", "r", "s"),
            ("Gather", "s at", "channels"),
            ("Equal", "channels four", "yes"),
            either(KEPT, OTHER, output="z"),
            either(KEPT, OTHER, output="u"),
            ("Add", "z u", "y"),
        ],
        {"w": W, "at": np.array(1), "four": np.array(4)},
        {},
        3,
        "If",
    ),
    "If of squeeze()": (squeeze_if(), SQUEEZE, {}, 1, "If"),
    "If of squeeze(), a fixed batch": (squeeze_if(), SQUEEZE, {"shape": (2, 3, 16, 16)}, 1, "If"),
    "Loop of three trips": (
        [CONV, RELU, ("Loop", "three yes r", "y", {"body": STEP})],
        WEIGHTS | {"three": np.array(3), "yes": np.array(True)},
        {},
        4,
        "Loop",
    ),
    "Loop without a condition": (
        [CONV, RELU, ("Loop", "three _ r", "y", {"body": STEP})],
        WEIGHTS | {"three": np.array(3)},
        {},
        4,
        "Loop",
    ),
    "Loop of no trip": (
        [CONV, RELU, ("Loop", "none yes r", "z", {"body": STEP}), ("Conv", "z w2", "y")],
        WEIGHTS | {"none": np.array(0), "yes": np.array(True)},
        {},
        2,
        "Loop",
    ),
    "Loop with a scan": (
        [CONV, RELU, ("Loop", "three yes r", "h_last y", {"body": SCAN})],
        WEIGHTS | {"three": np.array(3), "yes": np.array(True)},
        {"outputs": ["y", "h_last"]},
        1,
        "Loop",
    ),
    "Loop as often as there are channels": (
        [
            CONV,
            RELU,
            ("Shape", "r", "s"),
            ("Gather", "s at", "channels"),
            ("Loop", "channels yes r", "y", {"body": STEP}),
        ],
        WEIGHTS | {"at": np.array(1), "yes": np.array(True)},
        {},
        5,
        "Loop",
    ),
    "NHWC as tf2onnx writes it": (
        [
            ("Transpose", "x", "t", {"perm": [0, 3, 1, 2]}),
            ("Transpose", "k", "w", {"perm": [3, 2, 0, 1]}),
            ("Conv", "t w", "c", SAME | {"strides": [2, 2]}),
            ("Transpose", "c", "b1", {"perm": [0, 2, 3, 1]}),
            ("Relu", "b1", "r"),
            ("Transpose", "r", "b2", {"perm": [0, 3, 1, 2]}),
            ("Reshape", "d depthwise", "w2"),
            ("Conv", "b2 w2", "c2", SAME | {"group": 4}),
            ("Transpose", "c2", "y", {"perm": [0, 2, 3, 1]}),
        ],
        {"k": W.transpose(2, 3, 1, 0), "d": normal(3, 3, 4, 1), "depthwise": np.array([4, 1, 3, 3])},
        {"shape": ("N", 16, 16, 3)},
        2,
        "Reshape",
    ),
    "unknown height and width": ([CONV, RELU, LAST], WEIGHTS, {"shape": ("N", 3, "H", "W")}, 2, ""),
    "nothing known of the shape but its channels": (
        [CONV, RELU, LAST],
        WEIGHTS,
        {"shape": (None, 3, None, None)},
        2,
        "",
    ),
    "one name for all free dimensions": ([CONV, RELU, LAST], WEIGHTS, {"shape": ("d", 3, "d", "d")}, 2, ""),
    "a fixed batch of 5": (
        [CONV, RELU, ("Reshape", "r t", "f"), ("Gemm", "f k", "y")],
        {"w": W, "t": np.array([5, 1024]), "k": normal(1024, 7)},
        {"shape": (5, 3, 16, 16)},
        1,
        "",
    ),
    "a fixed batch of 5 with a constant for each picture": (
        [CONV, ("Add", "c p", "r"), ("Reshape", "r t", "f"), ("Gemm", "f k", "y")],
        {"w": W, "t": np.array([5, 1024]), "k": normal(1024, 7), "p": np.repeat(normal(1, 4, 16, 16), 5, axis=0)},
        {"shape": (5, 3, 16, 16)},
        1,
        "",
    ),
    **{
        f"auto_pad {mode}, stride {stride}, size {size}": (
            [
                ("Conv", "x w", "c", {"auto_pad": mode, "strides": [stride, stride]}),
                ("MaxPool", "c", "r", {"auto_pad": mode, "kernel_shape": [3, 2], "strides": [2, 2]}),
                LAST,
            ],
            WEIGHTS,
            {"shape": ("N", 3, *size)},
            2,
            "",
        )
        for mode in ("SAME_UPPER", "SAME_LOWER", "VALID")
        for stride, size in ((2, (17, 23)), (3, (20, 31)), (2, ("H", "W")))
    },
    "asymmetric pads": (
        [
            ("Conv", "x w", "c", {"pads": [0, 1, 2, 3], "strides": [2, 1]}),
            ("AveragePool", "c", "r", {"kernel_shape": [3, 3], "pads": [0, 1, 2, 0], "count_include_pad": 1}),
            ("MaxPool", "r", "q", {"kernel_shape": [3, 3], "pads": [2, 0, 0, 1]}),
            ("ConvTranspose", "q w2", "y", {"pads": [0, 1, 2, 0], "strides": [2, 2]}),
        ],
        WEIGHTS,
        {},
        2,
        "",
    ),
    "Conv1d and Conv3d inside": (
        [
            CONV,
            ("Reshape", "c rows", "flat"),
            ("Conv", "flat k1", "c1"),
            ("Reshape", "c1 cube", "cubes"),
            ("Conv", "cubes k3", "y"),
        ],
        {
            "w": W,
            "rows": np.array([0, 4, 256]),
            "k1": normal(4, 4, 1),
            "cube": np.array([0, 4, 4, 8, 8]),
            "k3": normal(2, 4, 2, 3, 3),
        },
        {},
        3,
        "",
    ),
    "optional inputs left out": (
        [("Conv", "x w _", "c", SAME), ("Clip", "c _ high", "r"), ("Resize", "r _ scales _", "y", {"mode": "nearest"})],
        {"w": W, "high": np.float32(0.5), "scales": np.array([1, 1, 2, 2], np.float32)},
        {},
        1,
        "",
    ),
    "names with odd characters": (
        [("Conv", "x w", "c", SAME | {"name": LONG}), ("Relu", "c", "r", {"name": "a b/c"}), LAST],
        WEIGHTS,
        {},
        2,
        "",
    ),
    "one name for all nodes": (
        [(*node[:3], dict(*node[3:]) | {"name": "node"}) for node in (CONV, RELU, LAST)],
        WEIGHTS,
        {},
        2,
        "",
    ),
    "a node named as another would be": (
        [(*CONV[:3], SAME | {"name": "Relu_1"}), RELU, (*LAST[:3], SAME | {"name": "Relu_1"})],
        WEIGHTS,
        {},
        2,
        "",
    ),
    "initializers as outputs": ([CONV, RELU, LAST], WEIGHTS, {"outputs": ["y", "w"]}, 2, ""),
    "unused initializers": ([CONV, RELU, LAST], WEIGHTS | {"spare": normal(3)}, {}, 2, ""),
    "an output that is read": ([CONV, RELU, LAST], WEIGHTS, {"outputs": ["c", "r", "y"]}, 2, ""),
    "one value under two output names": (
        [CONV, RELU, LAST, ("Identity", "y", "z"), ("Identity", "z", "u")],
        WEIGHTS,
        {"outputs": ["y", "z", "u"]},
        2,
        "",
    ),
    "the input as an output": ([CONV, RELU, LAST, ("Identity", "x", "z")], WEIGHTS, {"outputs": ["y", "z"]}, 2, ""),
    "the input itself as an output": ([CONV, RELU, LAST], WEIGHTS, {"outputs": ["y", "x"]}, 2, ""),
    "a constant as output": ([CONV, RELU, LAST, ("Neg", "w2", "n")], WEIGHTS, {"outputs": ["y", "n"]}, 2, ""),
    "Dropout left in": (
        [CONV, ("Dropout", "c ratio no", "r"), LAST],
        WEIGHTS | {"ratio": np.float32(0.5), "no": np.array(False)},
        {},
        2,
        "",
    ),
}


def whole(model, x):
    """What ONNX Runtime by itself answers, picture by picture where the file fixes the batch."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    for node in plain.graph.node:
        node.ClearField("name")  # it refuses a name that two nodes have
    session = onnxruntime.InferenceSession(plain.SerializeToString(), providers=["CPUExecutionProvider"])
    name, shape = session.get_inputs()[0].name, session.get_inputs()[0].shape
    if not shape or not isinstance(shape[0], int):
        return session.run(None, {name: x})
    parts = [session.run(None, {name: np.repeat(image[None], shape[0], axis=0)}) for image in x]
    return [np.stack([part[0] for part in output]) for output in zip(*parts, strict=True)]


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_opened_and_proven(name, tmp_path):
    nodes, constants, more, convolutions, gone = NETWORKS[name]
    model = build(nodes, constants, **more)
    for value in model.graph.output:
        if value.name == "x":
            value.CopyFrom(model.graph.input[0])
    onnx.save(model, tmp_path / "m.onnx")
    network = open_network(tmp_path / "m.onnx")
    assert len(network.layers) == convolutions
    assert not {node.op for node in network.model.graph.nodes} & set(gone.split())
    assert network.model.graph.outputs == tuple(value.name for value in model.graph.output)
    size = (network.input.height, network.input.width)
    x = normal(3, *size, 3) if network.input.layout == "NHWC" else normal(3, 3, *size)
    for expected, found in zip(whole(model, x), network.session([]).run(x).values(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert network.prove().original.error < 1e-4


# --- what `build` cannot write


def functions():
    """A function that calls a function, which takes its kernel size and stride from the caller."""
    inner = helper.make_function(
        "mine",
        "Pooled",
        ["a"],
        ["b"],
        [helper.make_node("MaxPool", ["a"], ["b"])],
        [helper.make_opsetid("", 21)],
        ["side"],
    )
    for name in ("kernel_shape", "strides"):
        given = inner.node[0].attribute.add(name=name, type=onnx.AttributeProto.INTS)
        given.ref_attr_name = "side"
    outer = helper.make_function(
        "mine",
        "Block",
        ["x", "k"],
        ["y"],
        [
            helper.make_node("Conv", ["x", "k"], ["c"], auto_pad="SAME_UPPER"),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("Pooled", ["r"], ["y"], domain="mine", side=[2, 2]),
        ],
        [helper.make_opsetid("", 21), helper.make_opsetid("mine", 1)],
    )
    made = build(
        [("Block", "x w", "h", {"domain": "mine"}), ("Block", "h w2", "t", {"domain": "mine"}), ("Relu", "t", "y")],
        WEIGHTS,
    )
    made.functions.extend([outer, inner])
    return made


def sparse(values, index):
    """A sparse tensor of an array's entries above 1."""
    places = np.argwhere(np.abs(values) > 1) if index == "by axis" else np.flatnonzero(np.abs(values) > 1)
    held = values[np.abs(values) > 1]
    return helper.make_sparse_tensor(
        numpy_helper.from_array(held, "w2"), numpy_helper.from_array(places.astype(np.int64), "places"), values.shape
    )


def sparse_initializer(index):
    made = build([CONV, RELU, LAST], WEIGHTS)
    del made.graph.initializer[1]
    made.graph.sparse_initializer.append(sparse(W2, index))
    return made


def sparse_constant():
    made = build([("Constant", "", "w2", {"value_float": 0.0}), CONV, RELU, LAST], {"w": W})
    attribute = onnx.AttributeProto(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    attribute.sparse_tensor.CopyFrom(sparse(W2, "through"))
    made.graph.node[0].attribute[0].CopyFrom(attribute)
    return made


def collecting_loop():
    """What TorchScript writes for a list that a loop appends to."""
    body = subgraph(
        [
            ("Conv", "h w2", "a", SAME),
            ("Relu", "a", "h_out"),
            ("SequenceInsert", "s h_out", "s_out"),
            ("Identity", "go", "go_out"),
        ],
        [("go_out", BOOL, []), ("h_out", FLOAT, None)],
        [("i", INT64, []), ("go", BOOL, []), ("h", FLOAT, None)],
    )
    for values, name in ((body.input, "s"), (body.output, "s_out")):
        values.append(helper.make_tensor_sequence_value_info(name, FLOAT, None))
    nodes = [CONV, RELU, ("SequenceEmpty", "", "s0", {"dtype": FLOAT})]
    nodes += [("Loop", "three yes r s0", "h s", {"body": body}), ("ConcatFromSequence", "s", "y", {"axis": 1})]
    return build(nodes, WEIGHTS | {"three": np.array(3), "yes": np.array(True)})


def unread_input():
    made = build([CONV, RELU, LAST], WEIGHTS)
    made.graph.input.insert(0, helper.make_tensor_value_info("unread", FLOAT, ["N", 3, 16, 16]))
    return made


def says_no_output_shape():
    made = build([CONV, RELU, LAST], WEIGHTS)
    made.graph.output[0].type.tensor_type.ClearField("shape")
    return made


def split_apart():
    nodes = [CONV, ("SplitToSequence", "c", "s", {"axis": 1}), ("SequenceAt", "s three", "a")]
    nodes += [("SequenceAt", "s one", "b"), ("Concat", "a b", "r", {"axis": 1}), ("Conv", "r k", "y")]
    return build(nodes, {"w": W, "three": np.array(3), "one": np.array(1), "k": normal(4, 2, 3, 3)})


def undecided():
    """A branch behind the last convolution that each picture decides for itself."""
    mean = ("ReduceMean", "y", "mean", {"keepdims": 0})
    branches = either(branch([("Neg", "y", "k")], "k"), branch([("Relu", "y", "o")], "o"), output="z")
    return build([CONV, RELU, LAST, mean, ("Greater", "mean zero", "yes"), branches], WEIGHTS | {"zero": np.float32(0)})


PROTOS = {  # a model, its convolutions
    "functions": (functions(), 2),
    "a sparse initializer": (sparse_initializer("through"), 2),
    "a sparse initializer, by axis": (sparse_initializer("by axis"), 2),
    "a sparse constant": (sparse_constant(), 2),
    "a list that a loop appends to": (collecting_loop(), 4),
    "a tensor that is taken apart": (split_apart(), 2),
    "an input that nothing reads": (unread_input(), 2),
    "an output without a shape": (says_no_output_shape(), 2),
}


@pytest.mark.parametrize(("made", "convolutions"), PROTOS.values(), ids=PROTOS)
def test_what_else_a_file_may_hold_is_opened_and_proven(made, convolutions, tmp_path):
    onnx.save(made, tmp_path / "m.onnx")
    network = open_network(tmp_path / "m.onnx")
    assert len(network.layers) == convolutions
    x = normal(1, 3, 16, 16)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {value.name: x for value in session.get_inputs()})[0]
    np.testing.assert_allclose(next(iter(network.session([]).run(x).values())), expected, rtol=1e-4, atol=1e-5)
    assert network.prove().original.error < 1e-5


def test_a_branch_behind_the_last_convolution_that_each_picture_decides_is_no_obstacle(tmp_path):
    onnx.save(undecided(), tmp_path / "m.onnx")
    network = open_network(tmp_path / "m.onnx")
    assert [layer.value for layer in network.layers] == ["c", "y"]
    x = normal(3, 3, 16, 16)
    expected = whole(build([CONV, RELU, LAST], WEIGHTS), x)[0]
    np.testing.assert_allclose(network.session(["y"]).run(x)["y"], expected, rtol=1e-4, atol=1e-5)
    assert network.prove().original.error < 1e-5


def test_weights_outside_the_file_are_read(tmp_path):
    onnx.save(build([CONV, RELU, LAST], WEIGHTS), tmp_path / "whole.onnx")
    made = onnx.load(tmp_path / "whole.onnx")
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    network = open_network(tmp_path / "m.onnx")
    np.testing.assert_array_equal(network.layers[1].weight, W2)
    assert network.prove().original.error == 0


def training_norm(opset):
    nodes = [CONV, ("BatchNormalization", "c g b m v", "n rm rv", {"training_mode": 1} if opset > 13 else {})]
    if opset < 14:
        nodes[1] = ("BatchNormalization", "c g b m v", "n rm rv sm sv")
    return build([*nodes, ("Relu", "n", "r"), LAST], WEIGHTS | NORM, opset=opset, ir_version=7)


def training_dropout(where):
    flag = {"yes": np.array(True)} if where == "initializer" else {}
    nodes = [CONV, ("Dropout", "c ratio yes", "r"), LAST]
    nodes = nodes if flag else [constant_node("yes", True), *nodes]
    return build(nodes, WEIGHTS | flag | {"ratio": np.float32(0.5)})


TRAINING = {
    "BatchNorm": (training_norm(15), "BatchNormalization"),
    "BatchNorm of an old opset": (training_norm(9), "BatchNormalization"),
    "Dropout": (training_dropout("initializer"), "Dropout"),
    "Dropout, its flag in a node": (training_dropout("node"), "Dropout"),
}


@pytest.mark.parametrize(("made", "op"), TRAINING.values(), ids=TRAINING)
def test_training_mode_is_switched_off_and_said(made, op, tmp_path):
    onnx.save(made, tmp_path / "m.onnx")
    network = open_network(tmp_path / "m.onnx")
    assert f"1 {op} nodes left in training mode are evaluated as in inference." in network.model.notes
    x = normal(3, 3, 16, 16)
    c = build([CONV], WEIGHTS)
    middle = onnxruntime.InferenceSession(c.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": x}
    )[0]
    if op == "BatchNormalization":
        g, b, m, v = (NORM[name].reshape(-1, 1, 1) for name in "gbmv")
        middle = np.maximum(0, (middle - m) / np.sqrt(v + 1e-5) * g + b)
    last = build([("Conv", "x w2", "y", SAME)], WEIGHTS, shape=("N", 4, 16, 16))
    expected = whole(last, middle)[0]
    np.testing.assert_allclose(network.session([]).run(x)["y"], expected, rtol=1e-3, atol=1e-3)
    assert network.prove().original.error < 1e-5


# --- refused


def convolution_in_a_branch():
    made = [("ReduceMean", "x", "mean", {"keepdims": 0}), ("Greater", "mean zero", "yes"), ("Relu", "x", "r")]
    sides = [branch([("Conv", "r w", name)], name) for name in ("a", "b")]
    return build(
        [*made, ("If", "yes", "y", {"name": "gate", "then_branch": sides[0], "else_branch": sides[1]})],
        {"w": W, "zero": np.float32(0)},
    )


def undecided_between():
    mean = ("ReduceMean", "r", "mean", {"keepdims": 0})
    gate = either(branch([("Neg", "r", "k")], "k"), OTHER, output="z")
    nodes = [CONV, RELU, mean, ("Greater", "mean zero", "yes"), gate, ("Conv", "z w2", "y")]
    return build(nodes, WEIGHTS | {"zero": np.float32(0)})


def loop_between(trips, condition="yes"):
    """A loop between two convolutions: of too many trips, or ended by what the picture holds."""
    nodes = [CONV, RELU, ("ReduceMean", "r", "mean", {"keepdims": 0}), ("Greater", "mean zero", "bright")]
    loop = ("Loop", f"trips {condition} r", "z", {"name": "again", "body": STEP})
    constants = {"zero": np.float32(0), "trips": np.array(trips), "yes": np.array(True)}
    return build([*nodes, loop, ("Conv", "z w2", "y")], WEIGHTS | constants)


def read_statistic():
    made = training_norm(15)
    made.graph.output.append(helper.make_tensor_value_info("rm", FLOAT, [4]))
    return made


REFUSED = {
    "no layer but in a branch": (
        convolution_in_a_branch(),
        r"its convolutions stand inside gate \(If\), where the picture decides whether they run",
    ),
    "a branch between layers": (
        undecided_between(),
        r"If_4: operator If \(opset 21\) has no converter into torch; `filterscope inspect` still lists the layers",
    ),
    "a loop of many trips": (loop_between(65), r"again: operator Loop \(opset 21\) has no converter into torch"),
    "a loop that the picture ends": (loop_between(2, "bright"), r"again: operator Loop \(opset 21\) has no converter"),
    "a statistic of training that is read": (read_statistic(), "its statistic 'rm' is read as in training; export"),
    "Conv1d alone": (
        build([("Conv", "x w", "y")], {"w": W[0]}, shape=("N", 3, 9)),
        r"no image input: .* x \['N', 3, 9\]",
    ),
    "Conv3d alone": (
        build([("Conv", "x w", "y")], {"w": normal(4, 3, 3, 3, 3)}, shape=("N", 3, 8, 9, 9)),
        r"no image input: .* x \['N', 3, 8, 9, 9\]",
    ),
}


@pytest.mark.parametrize(("made", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_analysed_is_refused_in_one_line(made, words, tmp_path):
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(FilterscopeError, match=words) as refusal:
        open_network(tmp_path / "m.onnx").prove()
    assert "\n" not in str(refusal.value)

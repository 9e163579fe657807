"""What scales and shifts a convolution's channels goes into it, however it is spelt; the oracle is the file itself."""

import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.network.layers import conv_layers
from filterscope.analyzer.network.receptive_fields import FieldWalk
from support.networks import answers, build, canonical, normal

SAME = {"pads": [1, 1, 1, 1]}
CONV, RELU = ("Conv", "x w b", "c", SAME), ("Relu", "n", "y")
TO_LAST, TO_FIRST = {"perm": [0, 2, 3, 1]}, {"perm": [0, 3, 1, 2]}
DOUBLE, FLOAT = {"to": TensorProto.DOUBLE}, {"to": TensorProto.FLOAT}
GAIN = np.array([-1.5, 0.5, -0.25, 2.0], np.float32)  # of either sign
SHIFT = np.array([0.3, -0.7, 1.1, 0.2], np.float32)
CONSTANTS = {
    "w": normal(4, 3, 3, 3),
    "b": normal(4),
    "gain": GAIN.reshape(4, 1, 1),
    "gain4": GAIN.reshape(1, 4, 1, 1),
    "shift": SHIFT.reshape(4, 1, 1),
    "shift4": SHIFT.reshape(1, 4, 1, 1),
    "last_gain": GAIN,
    "last_shift": SHIFT.reshape(1, 1, 4),
    "wide_gain": GAIN.astype(np.float64).reshape(4, 1, 1),
    "wide_shift": SHIFT.astype(np.float64).reshape(4, 1, 1),
    "last_wide_gain": GAIN.astype(np.float64),
    "flat_gain": GAIN.reshape(1, 4),
    "two": np.float32(2),
    "minus": np.full((1, 1, 1, 1), -0.5, np.float32),
    "full_map": np.broadcast_to(GAIN.reshape(4, 1, 1), (4, 16, 16)).copy(),
    "g": np.abs(GAIN),
    "v": np.abs(SHIFT) + np.float32(0.5),
    "shape": np.array([0, 4, 16, 16, 1]),
    "axis": np.array([4]),
    "row": normal(16),
    "map": normal(4, 16, 16),
    "one_column": normal(4, 16, 1),
    "zero": np.float32(0),
    "six": np.float32(6),
    "three": np.float32(3),
    "sixth": np.float32(1 / 6),
    "fifth": np.float32(0.2),
    "half": np.float32(0.5),
    "one": np.float32(1),
    "nothing": np.zeros((4, 1, 1), np.float32),
    "u": normal(4, 1, 3, 3),
}

FOLDED = {  # nodes; operators that are left
    "factor and shift": ([CONV, ("Mul", "c gain", "m"), ("Add", "m shift", "n"), RELU], ["Conv", "Relu"]),
    "the constants first": ([CONV, ("Mul", "gain4 c", "m"), ("Add", "shift4 m", "n"), RELU], ["Conv", "Relu"]),
    "mean and deviation": ([CONV, ("Sub", "c shift", "m"), ("Div", "m gain", "n"), RELU], ["Conv", "Relu"]),
    "a constant less the channel": ([CONV, ("Sub", "shift c", "n"), RELU], ["Conv", "Relu"]),
    "the opposite": ([CONV, ("Neg", "c", "n"), RELU], ["Conv", "Relu"]),
    "a sum of constants": ([CONV, ("Sum", "shift c two", "n"), RELU], ["Conv", "Relu"]),
    "one number": ([CONV, ("Mul", "c minus", "m"), ("Add", "two m", "n"), RELU], ["Conv", "Relu"]),
    "many": (
        [CONV, ("Mul", "c gain", "d"), ("Add", "d shift", "e"), ("Sub", "two e", "f"), ("Div", "f gain4", "n"), RELU],
        ["Conv", "Relu"],
    ),
    "a number a place, all alike": ([CONV, ("Mul", "c full_map", "n"), RELU], ["Conv", "Relu"]),
    "a BatchNorm behind a factor": (
        [CONV, ("Mul", "c gain", "m"), ("BatchNormalization", "m g b last_gain v", "n"), RELU],
        ["Conv", "Relu"],
    ),
    "in double precision": (
        [
            CONV,
            ("Cast", "c", "d", DOUBLE),
            ("Sub", "d wide_shift", "e"),
            ("Mul", "e wide_gain", "f"),
            ("Add", "f wide_shift", "m"),
            ("Cast", "m", "n", FLOAT),
            RELU,
        ],
        ["Conv", "Relu"],
    ),
    "channels last": (
        [
            CONV,
            ("Transpose", "c", "t", TO_LAST),
            ("Mul", "t last_gain", "m"),
            ("Add", "m last_shift", "a"),
            ("Transpose", "a", "n", TO_FIRST),
            RELU,
        ],
        ["Conv", "Relu"],
    ),
    "channels last and the non-linearity too": (
        [
            CONV,
            ("Transpose", "c", "t", TO_LAST),
            ("Mul", "t last_gain", "m"),
            ("Add", "m last_shift", "n"),
            ("Relu", "n", "r"),
            ("Transpose", "r", "y", TO_FIRST),
        ],
        ["Conv", "Transpose", "Relu", "Transpose"],
    ),
    "channels last, in double precision": (
        [
            CONV,
            ("Transpose", "c", "t", TO_LAST),
            ("Cast", "t", "d", DOUBLE),
            ("Mul", "d last_wide_gain", "e"),
            ("Cast", "e", "m", FLOAT),
            ("Add", "m last_shift", "n"),
            ("Relu", "n", "r"),
            ("Transpose", "r", "y", TO_FIRST),
        ],
        ["Conv", "Transpose", "Relu", "Transpose"],
    ),
    "with an axis more": (
        [
            CONV,
            ("Reshape", "c shape", "d"),
            ("Mul", "d gain5", "m"),
            ("Squeeze", "m axis", "n"),
            RELU,
        ],
        ["Conv", "Relu"],
    ),
    "an axis put in and taken away": (
        [CONV, ("Unsqueeze", "c axis", "d"), ("Mul", "d gain5", "m"), ("Squeeze", "m axis", "n"), RELU],
        ["Conv", "Relu"],
    ),
    "channels last and an axis more, to the end": (
        [
            CONV,
            ("Transpose", "c", "t", TO_LAST),
            ("Unsqueeze", "t axis", "d"),
            ("Mul", "d gain_and_axis", "n"),
            ("Relu", "n", "y"),
        ],
        ["Conv", "Transpose", "Unsqueeze", "Relu"],
    ),
    "an idle Dropout between": (
        [CONV, ("Mul", "c gain", "m"), ("Dropout", "m", "d"), ("Add", "d shift", "n"), RELU],
        ["Conv", "Relu"],
    ),
    "channels last, one half": (
        [CONV, ("Mul", "c gain", "h"), ("Transpose", "h", "t", TO_LAST), ("Mul", "t last_gain", "n"), RELU],
        ["Conv", "Transpose", "Relu"],
    ),
    "a depthwise convolution": (
        [("Conv", "x w b", "z", SAME), ("Conv", "z u", "c", {"group": 4}), ("Mul", "c gain", "n"), RELU],
        ["Conv", "Conv", "Relu"],
    ),
    "a factor of 0": ([CONV, ("Mul", "c nothing", "m"), ("Add", "m shift", "n"), RELU], ["Conv", "Relu"]),
}
CONSTANTS["gain5"] = GAIN.reshape(1, 4, 1, 1, 1)
CONSTANTS["gain_and_axis"] = GAIN.reshape(4, 1)
CONSTANTS["one_kernel"] = normal(1, 3, 3, 3)

LEFT = {  # nodes; nothing of them is folded
    "a row of the map": [CONV, ("Mul", "c row", "y")],
    "a number a place": [CONV, ("Mul", "c map", "y")],
    "a column a channel": [CONV, ("Add", "c one_column", "y")],
    "by itself": [CONV, ("Mul", "c c", "y")],
    "a number by the channel": [CONV, ("Div", "two c", "y")],
    "two readers": [CONV, ("Mul", "c gain", "m"), ("Add", "m c", "y")],
    "two factors": [CONV, ("Mul", "c gain", "m"), ("Mul", "c shift", "n"), ("Add", "m n", "y")],
    "division by zero": [CONV, ("Div", "c nothing", "d"), ("Clip", "d zero six", "y")],
    "channels last, the constant along the width": [
        CONV,
        ("Transpose", "c", "t", {"perm": [0, 1, 3, 2]}),
        ("Mul", "t row", "y"),
    ],
    "one channel that becomes four": [("Conv", "x one_kernel", "c", SAME), ("Add", "c shift", "y")],
    "behind the non-linearity": [CONV, ("Relu", "c", "r"), ("Mul", "r gain", "y")],
    "the beginning of a hard sigmoid": [
        CONV,
        ("Add", "c three", "a"),
        ("Clip", "a zero six", "k"),
        ("Mul", "k sixth", "y"),
    ],
    "the beginning of Keras 2's": [CONV, ("Mul", "c fifth", "m"), ("Add", "m half", "a"), ("Clip", "a zero one", "y")],
    "a sigmoid by Exp": [CONV, ("Neg", "c", "m"), ("Exp", "m", "e"), ("Add", "e one", "a"), ("Div", "one a", "y")],
    "whole numbers": [CONV, ("Div", "c half", "d"), ("Round", "d", "r"), ("Mul", "r half", "y")],
}


def used(nodes):
    read = {name for node in nodes for name in node[1].split()}
    return {name: array for name, array in CONSTANTS.items() if name in read}


def ops(form):
    return [node.op for node in form.graph.nodes]


def assert_each_value_is_the_files(model, form, names):
    """ONNX Runtime, on the file and on its normal form: outputs, and these values by their names."""
    for batch in (1, 2):
        x = normal(batch, 3, 16, 16, seed=batch)
        wanted = [*names, *(value.name for value in model.graph.output)]
        expected, found = answers(model, x, wanted), answers(form.proto, x, wanted)
        for name in wanted:
            largest = max(1.0, float(np.abs(expected[name]).max()))
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-5 * largest, err_msg=name)


def last_folded(nodes):
    """The value behind the last node before the non-linearity."""
    return next(node[1] for node in nodes if node[0] == "Relu")


@pytest.mark.parametrize("name", FOLDED)
def test_factors_and_shifts_of_channels_go_into_the_convolution(name):
    nodes, left = FOLDED[name]
    model = build(nodes, used(nodes))
    form = canonical(model)
    assert ops(form) == left
    written = {value for node in form.graph.nodes for value in node.outputs}
    assert last_folded(nodes) in written  # the pre-activation can be found in the file
    assert_each_value_is_the_files(model, form, [last_folded(nodes)])
    layer = conv_layers(
        FieldWalk(form.graph, "x", (2, 3), form.shapes_at((1, 3, 16, 16))), form.layer_names, form.normalised
    )[-1]
    assert layer.nonlinearity == "relu"


@pytest.mark.parametrize("name", LEFT)
def test_what_is_no_factor_or_shift_of_channels_stays(name):
    nodes = LEFT[name]
    model = build(nodes, used(nodes))
    form = canonical(model)
    assert len(ops(form)) == len(nodes)
    if name != "division by zero":
        assert_each_value_is_the_files(model, form, ["c"])


@pytest.mark.parametrize(
    ("shown", "left"), [("c", ["Conv", "Mul", "Add", "Relu"]), ("m", ["Conv", "Add", "Relu"]), ("n", ["Conv", "Relu"])]
)
def test_a_value_that_is_an_output_keeps_its_numbers(shown, left):
    nodes = [CONV, ("Mul", "c gain", "m"), ("Add", "m shift", "n"), RELU]
    model = build(nodes, used(nodes), outputs=[shown, "y"])
    form = canonical(model)
    assert form.graph.outputs == (shown, "y")
    assert ops(form) == left
    assert_each_value_is_the_files(model, form, [])


@pytest.mark.parametrize(("groups", "inputs", "outputs"), [(1, 3, 4), (3, 3, 6), (2, 4, 6)])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_a_factor_goes_into_the_right_group(op, groups, inputs, outputs):
    kernel = (outputs, inputs // groups, 3, 3) if op == "Conv" else (inputs, outputs // groups, 3, 3)
    model = build(
        [
            ("Conv", "x k", "z"),
            (op, "z w", "c", {"group": groups, "strides": [2, 2]}),
            ("Transpose", "c", "t", TO_LAST),
            ("Sub", "shift t", "m"),
            ("Mul", "m gain", "n"),
            RELU,
        ],
        {"k": normal(inputs, 3, 1, 1), "w": normal(*kernel), "gain": normal(outputs), "shift": normal(outputs, seed=1)},
    )
    form = canonical(model)
    assert ops(form) == ["Conv", op, "Transpose", "Relu"]
    assert_each_value_is_the_files(model, form, ["n"])


@pytest.mark.parametrize("kinds", list(itertools.permutations(("Mul", "Add", "Sub", "Div", "Neg"), 4)), ids=str)
def test_any_order_is_one_affine_map(kinds):
    """Each with its operands in either order, by a number or a channel."""
    nodes, value = [CONV], "c"
    for index, kind in enumerate(kinds):
        constant = ("gain", "shift4", "two", "minus")[index]
        operands = value if kind == "Neg" else f"{value} {constant}"
        if kind in ("Mul", "Add", "Sub") and index % 2:
            operands = f"{constant} {value}"
        value = f"v{index}"
        nodes.append((kind, operands, value))
    nodes.append(("Sigmoid", value, "y"))
    model = build(nodes, used(nodes))
    form = canonical(model)
    assert ops(form) == ["Conv", "Sigmoid"]
    assert_each_value_is_the_files(model, form, [value])


def test_a_factor_before_the_larger_of_two_layers_goes_into_its_own():
    """A Max of a value and a number may be the end of a hard sigmoid; this is none."""
    nodes = [CONV, ("Conv", "x w b", "o", SAME), ("Mul", "c gain", "n"), ("Max", "n o", "y")]
    model = build(nodes, used(nodes))
    form = canonical(model)
    assert ops(form) == ["Conv", "Conv", "Max"]
    assert_each_value_is_the_files(model, form, ["n", "o"])


def test_the_printed_activation_is_that_behind_a_negative_factor(tmp_path):
    """Conv, Mul, Add, Relu as tf2onnx writes a BatchNorm: unit 0's gain is negative."""
    nodes = [CONV, ("Mul", "c gain4", "m"), ("Add", "m shift4", "n"), RELU]
    path = tmp_path / "affine.onnx"
    onnx.save(build(nodes, used(nodes)), path)
    network = open_network(path)
    (layer,) = network.layers
    assert (layer.value, layer.nonlinearity, layer.batchnorm) == ("n", "relu", True)
    network.prove()
    pixels = network.random_pixels(2, (16, 16), 0)
    expected = answers(onnx.load(path), network.input.to_model(pixels), ["n"])["n"]
    found = network.session([layer.value], (16, 16)).run(network.input.to_model(pixels))[layer.value]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


# --- the non-linearity behind what changes no number

BEHIND = {  # what stands between the convolution and the Relu
    "Identity": [("Identity", "c", "n")],
    "Transpose": [("Transpose", "c", "n", TO_LAST)],
    "Cast": [("Cast", "c", "d", DOUBLE), ("Cast", "d", "n", FLOAT)],
    "Reshape": [("Reshape", "c flat", "n")],
    "Dropout": [("Dropout", "c", "n")],
    "8 bits": [("QuantizeLinear", "c sixth middle", "q"), ("DequantizeLinear", "q sixth middle", "n")],
    "all of them": [
        ("Transpose", "c", "t", TO_LAST),
        ("QuantizeLinear", "t sixth middle", "q"),
        ("DequantizeLinear", "q sixth middle", "d"),
        ("Reshape", "d flat", "e"),
        ("Dropout", "e", "n"),
    ],
}


@pytest.mark.parametrize("name", BEHIND)
@pytest.mark.parametrize("kind", ["relu", "silu"])
def test_the_non_linearity_is_found_behind_what_changes_no_number(name, kind):
    end = [RELU] if kind == "relu" else [("Sigmoid", "n", "s"), ("Mul", "s n", "y")]
    nodes = [CONV, *BEHIND[name], *end]
    further = {"flat": np.array([0, -1]), "middle": np.uint8(114)}
    read = {value for node in nodes for value in node[1].split()}
    form = canonical(build(nodes, used(nodes) | {key: array for key, array in further.items() if key in read}))
    layer = conv_layers(FieldWalk(form.graph, "x", (2, 3), form.shapes_at((1, 3, 16, 16))), form.layer_names)[0]
    assert layer.nonlinearity == kind

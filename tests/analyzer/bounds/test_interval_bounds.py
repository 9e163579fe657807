"""Interval bounds against ONNX Runtime: no activation of any image leaves its interval, and no interval is idle."""

import itertools

import numpy as np
import onnx
import pytest

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.bounds import interval_bounds, interval_rules
from filterscope.analyzer.bounds.interval_arithmetic import ELEMENTWISE
from filterscope.analyzer.bounds.interval_bounds import Interval, intervals
from filterscope.analyzer.bounds.interval_rules import RULES
from filterscope.analyzer.data import images
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import PRESETS, custom
from support.networks import DATA, MODELS, build, needs_data, normal
from support.opened import INVERTED, SIZE, opened, pictures


def positive(*shape):
    return np.abs(normal(*shape)) + np.float32(0.3)


def ints(*numbers):
    return np.array(numbers, np.int64)


def scalar(number):
    return np.array(number, np.float32)


# What follows two convolutions of the image, a and b, (N, 6, 9, 8) each: nodes, constants
CASES = {
    "conv": ([("Conv", "a w", "y", {"pads": [1, 0, 2, 1], "strides": [2, 1]})], {"w": normal(5, 6, 3, 3)}),
    "conv-dilated-bias": (
        [("Conv", "a w c", "y", {"pads": [2, 2, 2, 2], "dilations": [2, 3]})],
        {"w": normal(5, 6, 3, 2), "c": normal(5)},
    ),
    "conv-same": ([("Conv", "a w", "y", {"auto_pad": "SAME_UPPER", "strides": [2, 2]})], {"w": normal(4, 6, 3, 3)}),
    "conv-grouped": ([("Conv", "a w", "y", {"group": 3, "pads": [1, 1, 1, 1]})], {"w": normal(9, 2, 3, 3)}),
    "conv-depthwise": ([("Conv", "a w", "y", {"group": 6})], {"w": normal(6, 1, 3, 3)}),
    "conv-of-relu": ([("Relu", "a", "r"), ("Conv", "r w", "y", {"pads": [1, 1, 1, 1]})], {"w": normal(5, 6, 3, 3)}),
    **{  # a source that is almost constant: what a neuron at the border lacks shows
        f"conv-border-{pads}": (
            [("Clip", "a low high", "r"), ("Conv", "r w", "y", {"pads": pads, "dilations": [1, 2]})],
            {"low": scalar(2), "high": scalar(2.1), "w": positive(5, 6, 3, 2)},
        )
        for pads in ([1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 2])
    },
    "conv-1d": (
        [("Reshape", "a s", "r"), ("Conv", "r w", "y", {"pads": [1, 1]})],
        {"s": ints(0, 6, 72), "w": normal(4, 6, 3)},
    ),
    "transposed": ([("ConvTranspose", "a w", "y", {"strides": [2, 2]})], {"w": normal(6, 5, 3, 3)}),
    "transposed-grouped": (
        [("ConvTranspose", "a w c", "y", {"strides": [3, 2], "group": 2, "pads": [1, 0, 0, 1], "dilations": [2, 1]})],
        {"w": normal(6, 4, 3, 4), "c": normal(8)},
    ),
    "transposed-wide-stride": (
        [("ConvTranspose", "a w c", "y", {"strides": [3, 3], "output_padding": [1, 2]})],
        {"w": normal(6, 4, 2, 2), "c": normal(4) + 9},
    ),
    "batchnorm": (
        [("Relu", "a", "r"), ("BatchNormalization", "r s c m v", "y")],
        {"s": normal(6), "c": normal(6), "m": normal(6), "v": positive(6)},
    ),
    "instancenorm": ([("InstanceNormalization", "a s c", "y")], {"s": normal(6), "c": normal(6)}),
    "lrn": ([("LRN", "a", "y", {"size": 3, "alpha": 0.1, "bias": 1.5})], {}),
    "add-values": ([("Add", "a b", "y")], {}),
    "sub-values": ([("Sub", "a b", "y")], {}),
    "mul-values": ([("Mul", "a b", "y")], {}),
    "div-values": ([("Exp", "b", "e"), ("Add", "e one", "d"), ("Div", "a d", "y")], {"one": scalar(1)}),
    "sum-mean": ([("Sum", "a b a", "s"), ("Mean", "a s", "y")], {}),
    "min-max": ([("Min", "a b", "s"), ("Max", "s a b", "y")], {}),
    "constants": (
        [("Sub", "c a", "s"), ("Mul", "s f", "m"), ("Div", "m d", "q"), ("Add", "q p", "y")],
        {"c": scalar(2), "f": normal(6, 1, 1), "d": normal(1, 6, 1, 1), "p": normal(1, 6, 9, 8)},
    ),
    "reciprocal": ([("Relu", "a", "r"), ("Add", "r one", "p"), ("Reciprocal", "p", "y")], {"one": scalar(1)}),
    "gate": ([("GlobalAveragePool", "a", "g"), ("Sigmoid", "g", "s"), ("Mul", "b s", "y")], {}),
    "grey-gate": (
        [("ReduceMean", "a axes", "g"), ("Sigmoid", "g", "s"), ("Mul", "b s", "y")],
        {"axes": ints(1)},
    ),
    "square": ([("Mul", "a a", "y")], {}),
    "power": ([("Pow", "a two", "s"), ("Pow", "s half", "y")], {"two": scalar(2), "half": scalar(1.5)}),
    "root-log": (
        [("Abs", "a", "m"), ("Sqrt", "m", "r"), ("Add", "r one", "p"), ("Log", "p", "l"), ("Neg", "l", "y")],
        {"one": scalar(1)},
    ),
    "silu": ([("Sigmoid", "a", "s"), ("Mul", "a s", "y")], {}),
    "hardswish-parts": (
        [("Add", "a three", "p"), ("Clip", "p low high", "q"), ("Mul", "a q", "m"), ("Div", "m high", "y")],
        {"three": scalar(3), "low": scalar(0), "high": scalar(6)},
    ),
    "gelu-parts": (
        [("Div", "a r", "d"), ("Erf", "d", "e"), ("Add", "e one", "p"), ("Mul", "a p", "m"), ("Mul", "m half", "y")],
        {"r": scalar(2**0.5), "one": scalar(1), "half": scalar(0.5)},
    ),
    "clip-open": ([("Clip", "a _ top", "s"), ("Clip", "s low", "y")], {"top": scalar(1), "low": scalar(-1)}),
    "prelu": ([("PRelu", "a p", "y")], {"p": normal(6, 1, 1)}),
    "prelu-of-relu": ([("Relu", "a", "r"), ("PRelu", "r p", "y")], {"p": normal(6, 1, 1)}),
    "leaky-turned": ([("LeakyRelu", "a", "y", {"alpha": -0.5})], {}),
    **{
        op: ([(op, "a", "y", attributes)], {})
        for op, attributes in {
            **{key: {} for key in ("Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "Tanh", "Softplus", "Erf")},
            **{key: {} for key in ("Softsign", "HardSwish", "Mish", "Gelu", "ThresholdedRelu", "Floor", "Ceil")},
            **{key: {} for key in ("Round", "Sign", "Abs", "Atan", "Identity", "Dropout", "GlobalMaxPool")},
            "HardSigmoid": {"alpha": 0.1, "beta": 0.4},
            "Cast": {"to": onnx.TensorProto.FLOAT16},
        }.items()
    },
    "gelu-tanh": ([("Gelu", "a", "y", {"approximate": "tanh"})], {}),
    "where": ([("Greater", "a b", "g"), ("Not", "g", "n"), ("Where", "n a b", "y")], {}),
    "cast-truth": ([("Greater", "a b", "g"), ("Cast", "g", "y", {"to": onnx.TensorProto.FLOAT})], {}),
    "max-pool": ([("MaxPool", "a", "y", {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "strides": [2, 2]})], {}),
    "average-pool": ([("AveragePool", "a", "y", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})], {}),
    "average-pool-padded": (
        [
            ("Relu", "a", "r"),
            ("Add", "r c", "p"),
            ("AveragePool", "p", "y", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
        ],
        {"c": scalar(2)},
    ),
    "average-pool-ceil": (
        [("AveragePool", "a", "y", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1})],
        {},
    ),
    "reductions": (
        [
            ("ReduceMax", "a axes", "p", {"keepdims": 0}),
            ("ReduceMin", "b axes", "q", {"keepdims": 0}),
            ("ReduceSum", "a axes", "s", {"keepdims": 0}),
            ("Sum", "p q s", "y"),
        ],
        {"axes": ints(2, 3)},
    ),
    "reduce-channels": ([("ReduceMean", "a axes", "y"), ("ReduceSum", "a axes", "z")], {"axes": ints(1)}),
    "concat": ([("Concat", "a b", "c", {"axis": 1}), ("Conv", "c w", "y")], {"w": normal(3, 12, 1, 1)}),
    "concat-rows": ([("Concat", "a b", "y", {"axis": 2})], {}),
    "split": ([("Split", "a s", "p q", {"axis": 1}), ("Conv", "q w", "y")], {"s": ints(2, 4), "w": normal(3, 4, 1, 1)}),
    "split-rows": ([("Split", "a s", "p y", {"axis": 2})], {"s": ints(2, 7)}),
    "slice": (
        [("Slice", "a f t axes steps", "y")],
        {"f": ints(5, 1), "t": ints(-1000, 8), "axes": ints(1, 2), "steps": ints(-2, 2)},
    ),
    "slice-plain": ([("Slice", "a f t axes", "y")], {"f": ints(-4), "t": ints(1000), "axes": ints(1)}),
    "gather": ([("Gather", "a i", "y", {"axis": 1})], {"i": ints(5, 0, -2)}),
    "gather-one": ([("Gather", "a i", "y", {"axis": 1})], {"i": np.array(4)}),
    "gather-rows": ([("Gather", "a i", "y", {"axis": 2})], {"i": ints(5, 0)}),
    "tile": ([("Tile", "a r", "y")], {"r": ints(1, 1, 2, 1)}),
    "expand": ([("GlobalAveragePool", "a", "g"), ("Expand", "g s", "y")], {"s": ints(1, 1, 4, 4)}),
    "resize-nearest": ([("Resize", "a _ s", "y")], {"s": np.array([1, 1, 2, 2], np.float32)}),
    "resize-linear": (
        [("Resize", "a _ s", "y", {"mode": "linear", "coordinate_transformation_mode": "align_corners"})],
        {"s": np.array([1, 1, 1.7, 2.2], np.float32)},
    ),
    "pad": ([("Pad", "a p v", "y")], {"p": ints(0, 0, 1, 2, 0, 0, 0, 1), "v": scalar(50)}),
    "pad-reflect": ([("Pad", "a p", "y", {"mode": "reflect"})], {"p": ints(0, 0, 1, 2, 0, 0, 0, 1)}),
    "pad-named-axes": ([("Pad", "a p v axes", "y")], {"p": ints(1, 2, 0, 1), "v": scalar(50), "axes": ints(2, -1)}),
    "pad-channels": ([("Pad", "a p", "y")], {"p": ints(0, 1, 0, 0, 0, 2, 0, 0)}),
    "shuffle": (
        [
            ("Reshape", "a s", "r"),
            ("Transpose", "r", "t", {"perm": [0, 2, 1, 3, 4]}),
            ("Reshape", "t back", "u"),
            ("Conv", "u w", "y"),
        ],
        {"s": ints(0, 2, 3, 9, 8), "back": ints(0, 6, 9, 8), "w": normal(3, 6, 1, 1)},
    ),
    "depth-to-space": (
        [("Conv", "a w", "c"), ("DepthToSpace", "c", "y", {"blocksize": 2})],
        {"w": normal(8, 6, 1, 1)},
    ),
    "depth-to-space-crd": (
        [("Conv", "a w", "c"), ("DepthToSpace", "c", "y", {"blocksize": 2, "mode": "CRD"})],
        {"w": normal(8, 6, 1, 1)},
    ),
    "space-to-depth": (
        [("MaxPool", "a", "p", {"kernel_shape": [2, 1]}), ("SpaceToDepth", "p", "y", {"blocksize": 2})],
        {},
    ),
    "squeeze": (
        [
            ("GlobalAveragePool", "a", "g"),
            ("Squeeze", "g axes", "q"),
            ("Gemm", "q w c", "h", {"transB": 1}),
            ("Unsqueeze", "h axes", "u"),
            ("Relu", "u", "y"),
        ],
        {"axes": ints(2, 3), "w": normal(5, 6), "c": normal(5)},
    ),
    "head": (
        [
            ("MaxPool", "a", "p", {"kernel_shape": [3, 2], "strides": [3, 2]}),
            ("Flatten", "p", "f"),
            ("MatMul", "f w", "h"),
            ("Gemm", "h v", "g", {"alpha": -0.5}),
            ("Softmax", "g", "y"),
        ],
        {"w": normal(72, 7), "v": normal(7, 4)},
    ),
    "channels-last": (
        [("Transpose", "a", "t", {"perm": [0, 2, 3, 1]}), ("Add", "t c", "s"), ("MatMul", "s w", "y")],
        {"c": normal(6), "w": normal(6, 4)},
    ),
}
PREFIX = [("Conv", "x kernel_a bias_a", "a", {"pads": [1, 1, 1, 1]}), ("Conv", "x kernel_b", "b")]
KERNELS = {"kernel_a": normal(6, 3, 3, 3) / 4, "bias_a": normal(6), "kernel_b": normal(6, 3, 1, 1)}


def followed(folder, nodes, constants, preprocessing=PRESETS["imagenet"]):
    """A network in which the nodes follow the two convolutions; every value that nobody reads is an output."""
    nodes = [*PREFIX, *nodes]
    read = {name for _, inputs, *_ in nodes for name in inputs.split()}
    outputs = [name for _, _, written, *_ in nodes for name in written.split() if name not in read]
    return opened(folder, build(nodes, KERNELS | constants, shape=("N", 3, *SIZE), outputs=outputs), preprocessing)


def measured(network, found, pixels):
    """Of every value that has an interval: what ONNX Runtime gives, one run for all and one for each by itself.

    With all values as outputs nothing is fused; with the last ones alone everything is.
    """
    x = network.input.to_model(pixels)
    names = [name for name in found if name != network.input.name]
    ends = [name for name in network.model.graph.outputs if name in found]
    return [*network.session(names).run(x).items(), *network.session(ends).run(x).items(), (network.input.name, x)]


def outside(interval, value):
    """How many numbers of a value are not in its interval."""
    shape = [1] * value.ndim
    if value.ndim:
        shape[interval.axis] = -1
    low, high = interval.low.reshape(shape), interval.high.reshape(shape)
    return np.sum((value < low) | (value > high))


@pytest.mark.parametrize("preprocessing", [PRESETS["imagenet"], INVERTED], ids=["imagenet", "inverted"])
@pytest.mark.parametrize("case", CASES)
def test_no_activation_leaves_its_interval(case, preprocessing, tmp_path):
    network = followed(tmp_path, *CASES[case], preprocessing)
    found = intervals(network)
    for name, value in measured(network, found, pictures(network)):
        assert outside(found[name], value) == 0, name
        assert np.isfinite(found[name].low).all(), f"{name}: idle"
        assert np.isfinite(found[name].high).all(), f"{name}: idle"


# Nodes that follow a and b, and constants, after which nothing is known of y
UNBOUNDED = {
    "conv-computed-kernel": (
        [("Reshape", "b s", "k"), ("Conv", "a k", "y")],
        {"s": ints(-1, 6, 3, 3)},
    ),
    "conv-computed-bias": (
        [("ReduceMean", "b axes", "g", {"keepdims": 0}), ("Conv", "a w g", "y")],
        {"axes": ints(0, 2, 3), "w": normal(6, 6, 3, 3)},
    ),
    "conv-of-a-constant": (
        [("Reshape", "b s", "k"), ("Conv", "c k", "y")],
        {"s": ints(-1, 6, 3, 3), "c": normal(1, 6, 5, 5)},
    ),
    "transposed-computed-kernel": ([("Reshape", "b s", "k"), ("ConvTranspose", "a k", "y")], {"s": ints(6, -1, 3, 3)}),
    "batchnorm-computed": (
        [("ReduceMean", "b axes", "g", {"keepdims": 0}), ("BatchNormalization", "a g c m v", "y")],
        {"axes": ints(0, 2, 3), "c": normal(6), "m": normal(6), "v": positive(6)},
    ),
    "instancenorm-computed": (
        [("ReduceMean", "b axes", "g", {"keepdims": 0}), ("InstanceNormalization", "a g c", "y")],
        {"axes": ints(0, 2, 3), "c": normal(6)},
    ),
    "resize-cubic": ([("Resize", "a _ s", "y", {"mode": "cubic"})], {"s": np.array([1, 1, 2, 2], np.float32)}),
    "resize-cropped": (
        [
            (
                "Resize",
                "a r s",
                "y",
                {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 1e6},
            )
        ],
        {"r": np.array([0, 0, -1, 0, 1, 1, 1, 1], np.float32), "s": np.array([1, 1, 2, 2], np.float32)},
    ),
    "pad-computed": (
        [("ReduceMax", "b axes", "m", {"keepdims": 0}), ("Pad", "a p m", "y")],
        {"axes": ints(0, 1, 2, 3), "p": ints(0, 0, 1, 2, 0, 0, 0, 1)},
    ),
    "product-of-computed": (
        [("Transpose", "b", "t", {"perm": [0, 1, 3, 2]}), ("MatMul", "a t", "y")],
        {},
    ),
    "product-plus-computed": (
        [("GlobalAveragePool", "a", "g"), ("Flatten", "g", "f"), ("Gemm", "f w f", "y")],
        {"w": normal(6, 6)},
    ),
    "lrn-without-bias": ([("LRN", "a", "y", {"size": 3, "alpha": 0.1, "bias": 0.0})], {}),
    "power-computed": ([("Abs", "a", "m"), ("Pow", "two m", "y")], {"two": scalar(1.5)}),
    "power-of-negative": ([("Pow", "a three", "y")], {"three": scalar(3)}),
    "cast-to-whole": (
        [("Cast", "a", "i", {"to": onnx.TensorProto.INT32}), ("Cast", "i", "y", {"to": onnx.TensorProto.FLOAT})],
        {},
    ),
}


@pytest.mark.parametrize("case", UNBOUNDED)
def test_what_no_rule_covers_is_unbounded(case, tmp_path):
    """Nor is the bound of another value lost for it."""
    found = intervals(followed(tmp_path, *UNBOUNDED[case]))
    assert (found["y"].low == -np.inf).all()
    assert (found["y"].high == np.inf).all()
    assert all(np.isfinite(found[name].high).all() for name in ("x", "a", "b"))


@pytest.mark.parametrize("op", ["Gather", "Slice"])
def test_what_is_picked_at_a_computed_place_is_bounded_by_all_of_it(op, tmp_path):
    nodes = [("GlobalMaxPool", "b", "g"), ("ArgMax", "g", "i", {"axis": 1}), ("Reshape", "i flat", "f")]
    picks = {"Gather": ("Gather", "a f", "y", {"axis": 1}), "Slice": ("Slice", "a f end axes", "y")}
    constants = {"flat": ints(-1), "end": ints(6), "axes": ints(1)}
    used = {name: constants[name] for name in ("flat", "end", "axes") if name in f"flat {picks[op][1]}".split()}
    found = intervals(followed(tmp_path, [*nodes, picks[op]], used))
    assert (found["y"].low == found["a"].low.min()).all()
    assert (found["y"].high == found["a"].high.max()).all()


@pytest.mark.parametrize("case", ["concat", "shuffle", "silu"])
def test_what_would_hold_too_much_gets_one_interval(case, tmp_path, monkeypatch):
    """Wider than the channels' own, and as sound."""
    network = followed(tmp_path, *CASES[case])
    close = intervals(network)
    for module in (interval_rules, interval_bounds):
        monkeypatch.setattr(module, "LARGE", 8)
    wide = intervals(network)
    for name, value in measured(network, wide, pictures(network)):
        assert outside(wide[name], value) == 0, name
    assert any((wide[name].high > close[name].high).any() for name in close)


def test_every_rule_has_a_case():
    seen = {op for nodes, _ in CASES.values() for op, *_ in nodes}
    by_name = {"Equal", "Less", "GreaterOrEqual", "LessOrEqual", "And", "Or", "Xor"}  # the same rule as Greater
    by_name |= {"GatherElements", "GatherND", "ReverseSequence"}  # the same rule as Tile
    assert {*ELEMENTWISE, *RULES} - seen == by_name


BLOCKS = [  # values of 6 channels at 9 × 8 to such values: nodes between {0} and {1}, with the constants below
    [("Relu", "{0}", "{1}")],
    [("Conv", "{0} w3 c6", "{1}", {"pads": [1, 1, 1, 1]})],
    [("Conv", "{0} w1", "{1}r"), ("BatchNormalization", "{1}r s c6 m v", "{1}")],
    [("Conv", "{0} wd", "{1}", {"pads": [2, 2, 2, 2], "dilations": [2, 2], "group": 6})],
    [("Sigmoid", "{0}", "{1}s"), ("Mul", "{0} {1}s", "{1}")],
    [("HardSwish", "{0}", "{1}")],
    [("Conv", "{0} w1", "{1}r"), ("Add", "{1}r {0}", "{1}")],
    [
        ("GlobalAveragePool", "{0}", "{1}g"),
        ("Conv", "{1}g w1", "{1}h"),
        ("HardSigmoid", "{1}h", "{1}s"),
        ("Mul", "{0} {1}s", "{1}"),
    ],
    [("AveragePool", "{0}", "{1}", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})],
    [("MaxPool", "{0}", "{1}", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})],
    [
        ("Reshape", "{0} fold", "{1}r"),
        ("Transpose", "{1}r", "{1}t", {"perm": [0, 2, 1, 3, 4]}),
        ("Reshape", "{1}t whole", "{1}"),
    ],
    [("Split", "{0} halves", "{1}p {1}q", {"axis": 1}), ("Concat", "{1}q {1}p", "{1}", {"axis": 1})],
    [("Tanh", "{0}", "{1}t"), ("Sub", "{0} {1}t", "{1}")],
]
BLOCK_CONSTANTS = {
    **{"w3": normal(6, 6, 3, 3) / 5, "w1": normal(6, 6, 1, 1) / 2, "wd": normal(6, 1, 3, 3) / 2, "c6": normal(6)},
    **{"s": normal(6), "m": normal(6, seed=2), "v": positive(6), "halves": ints(3, 3)},
    **{"fold": ints(0, 3, 2, 9, 8), "whole": ints(0, 6, 9, 8)},
}


@pytest.mark.parametrize("seed", range(25))
def test_no_activation_of_a_random_network_leaves_its_interval(seed, tmp_path):
    """Up to eight random blocks one after the other, and joined with a value from before."""
    rng = np.random.default_rng(seed)
    nodes, values = [], ["a"]
    for index in range(int(rng.integers(3, 9))):
        source, target = values[-1], f"v{index}"
        for op, inputs, written, *attributes in BLOCKS[rng.integers(len(BLOCKS))]:
            nodes.append((op, inputs.format(source, target), written.format(source, target), *attributes))
        values.append(target)
    nodes.append(("Add" if seed % 2 else "Mul", f"{values[-1]} {values[rng.integers(len(values))]}", "y"))
    network = followed(tmp_path, nodes, BLOCK_CONSTANTS)
    found = intervals(network)
    for name, value in measured(network, found, pictures(network)):
        assert outside(found[name], value) == 0, name
        assert np.isfinite(found[name].high).all(), name


def test_the_channels_of_an_nhwc_input_are_followed(tmp_path):
    nodes = [("Sub", "x mean", "s"), ("Transpose", "s", "t", {"perm": [0, 3, 1, 2]}), ("Conv", "t k", "y")]
    constants = {"mean": np.array([1, 20, 300], np.float32), "k": normal(4, 3, 2, 2)}
    network = opened(tmp_path, build(nodes, constants, shape=("N", *SIZE, 3)), PRESETS["raw255"])
    found = intervals(network)
    assert (found["s"].axis, found["t"].axis, found["y"].axis) == (3, 1, 1)
    np.testing.assert_allclose(found["t"].low, [-1, -20, -300], atol=0.01)
    np.testing.assert_allclose(found["t"].high, [254, 235, -45], atol=0.01)
    for name, value in measured(network, found, pictures(network)):
        assert outside(found[name], value) == 0


def test_constant_channels_beside_those_of_the_image_keep_their_own_intervals(tmp_path):
    network = followed(tmp_path, [("Concat", "a c", "y", {"axis": 1})], {"c": normal(1, 2, 9, 8)})
    found = intervals(network)
    for index in range(4):  # a constant of batch 1 fits one image at a time
        for name, value in measured(network, found, pictures(network)[index : index + 1]):
            assert outside(found[name], value) == 0
    planes = normal(1, 2, 9, 8)
    np.testing.assert_allclose(found["y"].low[6:], planes.min(axis=(0, 2, 3)))
    np.testing.assert_allclose(found["y"].high[6:], planes.max(axis=(0, 2, 3)))


def extremes(network, value):
    """Least and greatest of every channel over all vertices of a 2 × 2 grey image, by brute force."""
    bits = np.array(list(itertools.product((0, 255), repeat=4)), np.uint8).reshape(-1, 2, 2, 1)
    maps = network.session([value]).run(network.input.to_model(bits))[value]
    return maps.min(axis=(0, 2, 3)), maps.max(axis=(0, 2, 3))


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]])
@pytest.mark.parametrize("seed", range(4))
def test_the_interval_of_a_first_convolution_is_the_range_over_all_vertices(pads, seed, tmp_path):
    """Where some position sees no padding and all numbers of the domain have one sign, nothing is given away."""
    constants = {"k": normal(5, 1, 2, 2, seed=seed), "c": normal(5, seed=seed)}
    model = build([("Conv", "x k c", "y", {"pads": pads})], constants, shape=("N", 1, 2, 2))
    network = opened(tmp_path, model, PRESETS["unit"], (2, 2))
    low, high = extremes(network, "y")
    found = intervals(network)["y"]
    np.testing.assert_allclose(found.low, low, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.high, high, rtol=1e-5, atol=1e-5)


def test_the_interval_of_a_strided_transposed_convolution_counts_the_taps_of_one_position(tmp_path):
    constants = {"k": normal(1, 3, 3, 2), "c": normal(3)}
    nodes = [("ConvTranspose", "x k c", "y", {"strides": [2, 2]})]
    network = opened(tmp_path, build(nodes, constants, shape=("N", 1, 2, 2)), PRESETS["unit"], (2, 2))
    low, high = extremes(network, "y")
    found = intervals(network)["y"]
    np.testing.assert_allclose(found.low, low, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.high, high, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("case", "lowest"),
    [
        ("silu", -0.278465),
        ("hardswish-parts", -0.375),
        ("gelu-parts", -0.169971),
        ("HardSwish", -0.375),
        ("Gelu", -0.169971),
        ("Mish", -0.308841),
        ("gelu-tanh", -0.170041),
        ("square", 0.0),
    ],
)
def test_a_value_that_meets_a_function_of_itself_falls_no_lower_than_that_function_does(case, lowest, tmp_path):
    found = intervals(followed(tmp_path, *CASES[case]))["y"]
    np.testing.assert_allclose(found.low, lowest, atol=0.03)


def test_an_operator_without_a_rule_is_unbounded_and_what_clips_it_is_not(tmp_path):
    nodes = [("CumSum", "a axis", "u"), ("Conv", "u w", "v"), ("Sigmoid", "v", "s"), ("Mul", "v zero", "y")]
    nodes += [("Conv", "s w", "z")]
    weight = normal(6, 6, 1, 1)
    found = intervals(followed(tmp_path, nodes, {"axis": np.array(2), "w": weight, "zero": scalar(0)}))
    assert np.all(np.isneginf(found["v"].low) & np.isposinf(found["v"].high))
    assert found["v"].low.shape == (6,)
    np.testing.assert_allclose([found["s"].low.max(), found["s"].high.min()], [0, 1], atol=1e-5)
    np.testing.assert_allclose(found["y"].high, 0, atol=1e-30)
    np.testing.assert_allclose(found["z"].high, np.maximum(weight, 0).sum(axis=(1, 2, 3)), rtol=1e-4)


def test_a_weight_of_zero_takes_nothing_from_an_unbounded_channel(tmp_path):
    nodes = [("CumSum", "a axis", "u"), ("Concat", "u b", "j", {"axis": 1}), ("Conv", "j w", "y")]
    weight = normal(4, 12, 1, 1)
    weight[:2, :6] = 0
    found = intervals(followed(tmp_path, nodes, {"axis": np.array(2), "w": weight}))["y"]
    assert np.isfinite(found.high).tolist() == [True, True, False, False]
    assert np.isfinite(found.low).tolist() == [True, True, False, False]


def test_what_overflows_float32_is_unbounded(tmp_path):
    network = followed(tmp_path, [("Mul", "a k1", "m"), ("Exp", "m", "y")], {"k1": scalar(1000)})
    found = intervals(network)
    assert np.isposinf(found["y"].high).all()
    for name, value in measured(network, found, pictures(network)):
        assert outside(found[name], value) == 0


def test_values_that_follow_from_the_size_alone_have_no_interval(tmp_path):
    nodes = [("Shape", "a", "s"), ("Gather", "s i", "g"), ("Cast", "g", "f", {"to": 1}), ("Mul", "a f", "y")]
    found = intervals(followed(tmp_path, nodes, {"i": np.array(0)}))
    assert {"s", "g", "f"}.isdisjoint(found)
    assert {"x", "a"} <= set(found)


def test_an_interval_has_its_ends_in_order():
    with pytest.raises(ValueError, match="a low and a high end"):
        Interval(np.array([1.0]), np.array([0.0]))


REAL = [  # file, size, preprocessing
    ("svhn_cnn6.onnx", None, custom(1, (0.4377, 0.4438, 0.4728), (0.198, 0.201, 0.197))),
    ("mnist_cntk.onnx", None, PRESETS["raw255"]),
    ("cifar10_cnn4.onnx", None, PRESETS["symmetric"]),
    ("ppocr_v2_cls.onnx", (48, 192), PRESETS["symmetric"]),
    ("ppocr_v4_det.onnx", (64, 96), PRESETS["imagenet"]),
    ("mobilenetv2_fp32_dequant.onnx", (224, 224), PRESETS["imagenet"]),
]


@needs_data
@pytest.mark.parametrize(("file", "size", "preprocessing"), REAL, ids=[file for file, *_ in REAL])
def test_no_activation_of_a_real_network_leaves_its_interval(file, size, preprocessing):
    network = open_network(MODELS / file, InputOptions(size=size, preprocessing=preprocessing))
    found = intervals(network)
    assert all(np.isfinite(found[layer.value].high).all() for layer in network.layers)
    _, seen = next(images.load(images.find([DATA / "images" / "imagenet_mini_100"]), network.input))
    pixels = np.concatenate([seen[None], pictures(network, 2)])
    for name, value in measured(network, found, pixels):
        assert outside(found[name], value) == 0, name

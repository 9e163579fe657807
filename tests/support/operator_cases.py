"""The cases for the table of converters: an operator, its attributes, its inputs.

Read by test_ops.py, which runs each against ONNX Runtime and against finite differences.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper

from filterscope.converters.torch_import.ops import table

RANDOM = np.random.default_rng(20)


def f(*shape: int) -> np.ndarray:
    """Normal numbers of this shape."""
    return RANDOM.standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    return RANDOM.uniform(0.3, 2.0, shape).astype(np.float32)


def i(*numbers: int) -> np.ndarray:
    """These numbers as an int64 vector: axes, sizes, pads."""
    return np.array(numbers, np.int64)


def scalar(number: float, dtype: type = np.float32) -> np.ndarray:
    return np.array(number, dtype)


def b(*truths: int) -> np.ndarray:
    """Truth values."""
    return np.array(truths, np.bool_)


def u8(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Case:
    op: str
    attributes: dict[str, Any]
    x: np.ndarray | None  # the first input; None where the operator has none
    further: tuple[np.ndarray | None, ...] = ()  # the inputs after it; None: absent
    outputs: int = 1
    other: tuple[int, ...] | None = None  # a second shape of x that the node must take as well
    smooth: bool = True  # has a gradient with respect to x

    def __str__(self) -> str:
        return "-".join([self.op, *(f"{name}={value}" for name, value in self.attributes.items())]).replace(" ", "")


def case(op: str, attributes: dict[str, Any], x: np.ndarray | None, *further: Any, **rest: Any) -> Case:
    """A case whose second shape, unless given, has one row more."""
    if "other" not in rest and x is not None and x.ndim > 1:
        rest["other"] = (x.shape[0] + 1, *x.shape[1:])
    return Case(op, attributes, x, further, **rest)


IMAGE = f(2, 3, 9, 8)
POSITIVE = positive(2, 3, 9, 8)
LARGER = (1, 3, 12, 13)
SAME, LOWER, VALID = {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}, {"auto_pad": "VALID"}

CONVOLUTIONS = [
    case("Conv", {}, IMAGE, f(4, 3, 3, 3), other=LARGER),
    case("Conv", {"pads": [1, 1, 1, 1], "strides": [2, 2]}, IMAGE, f(4, 3, 3, 3), f(4), other=LARGER),
    case("Conv", {"pads": [1, 0, 1, 2], "dilations": [2, 1]}, IMAGE, f(4, 3, 3, 2), f(4), other=LARGER),
    case("Conv", {"group": 3, "pads": [0, 1, 2, 0], "kernel_shape": [3, 3]}, IMAGE, f(6, 1, 3, 3), other=LARGER),
    case("Conv", {**SAME, "strides": [2, 2]}, IMAGE, f(4, 3, 3, 3), f(4), other=LARGER),
    case("Conv", {**SAME, "strides": [2, 3]}, IMAGE, f(4, 3, 1, 2), other=LARGER),
    case("Conv", {**LOWER, "strides": [2, 2]}, IMAGE, f(4, 3, 3, 2), f(4), other=LARGER),
    case("Conv", {**VALID, "strides": [2, 1]}, IMAGE, f(4, 3, 3, 3), other=LARGER),
    case("Conv", {"pads": [2, 1]}, f(2, 3, 10), f(4, 3, 3), f(4), other=(1, 3, 13)),
    case("Conv", {"pads": [1, 1, 1, 1, 1, 1]}, f(1, 2, 5, 6, 4), f(3, 2, 3, 3, 3), f(3), other=(2, 2, 4, 4, 4)),
    case("Conv", {**SAME, "strides": [2, 2, 2]}, f(1, 2, 5, 6, 4), f(3, 2, 3, 3, 3), other=(2, 2, 4, 4, 4)),
    case("ConvTranspose", {}, IMAGE, f(3, 4, 3, 3), other=LARGER),
    case("ConvTranspose", {"strides": [2, 2], "pads": [1, 1, 1, 1]}, IMAGE, f(3, 4, 3, 3), f(4), other=LARGER),
    case(
        "ConvTranspose",
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
        IMAGE,
        f(3, 4, 3, 3),
        f(4),
        other=LARGER,
    ),
    case("ConvTranspose", {"strides": [2, 3], "pads": [0, 1, 2, 0]}, IMAGE, f(3, 4, 3, 3), f(4), other=LARGER),
    case(
        "ConvTranspose",
        {"strides": [3, 2], "output_padding": [2, 1], "pads": [1, 0, 0, 1]},
        IMAGE,
        f(3, 4, 2, 3),
        f(4),
        other=LARGER,
    ),
    case("ConvTranspose", {"group": 3, "strides": [2, 2], "dilations": [2, 1]}, IMAGE, f(3, 2, 3, 3), other=LARGER),
    case("ConvTranspose", {"strides": [2, 2], "output_shape": [18, 16]}, IMAGE, f(3, 4, 3, 3), f(4)),
    case("ConvTranspose", {"strides": [2, 2], "output_shape": [17, 18]}, IMAGE, f(3, 4, 3, 4), f(4)),
    case("ConvTranspose", {**SAME, "strides": [2, 2], "output_shape": [18, 15]}, IMAGE, f(3, 4, 3, 3), f(4)),
    case("ConvTranspose", {**LOWER, "strides": [2, 2], "output_shape": [18, 15]}, IMAGE, f(3, 4, 3, 3), f(4)),
    case("ConvTranspose", {**SAME, "strides": [2, 2]}, IMAGE, f(3, 4, 3, 4), f(4), other=LARGER),
    case("ConvTranspose", {**LOWER, "strides": [2, 3]}, IMAGE, f(3, 4, 3, 4), f(4), other=LARGER),
    case("ConvTranspose", {**SAME, "strides": [2, 3]}, IMAGE, f(3, 4, 1, 2), f(4), other=LARGER),
    case("ConvTranspose", {**VALID, "strides": [2, 2]}, IMAGE, f(3, 4, 3, 3), other=LARGER),
    case("ConvTranspose", {"strides": [2], "pads": [1, 0]}, f(2, 3, 7), f(3, 2, 4), f(2), other=(1, 3, 9)),
    case("ConvTranspose", {"strides": [2, 2, 1]}, f(1, 2, 3, 4, 3), f(2, 3, 2, 2, 2), f(3)),
    case("Col2Im", {}, f(2, 12, 12), i(4, 5), i(2, 2)),
    case("Col2Im", {"pads": [1, 0, 1, 2], "strides": [2, 1]}, f(2, 12, 21), i(5, 6), i(2, 2)),
    case("Col2Im", {"dilations": [2, 1]}, f(2, 12, 8), i(4, 5), i(2, 2)),
    case("Col2Im", {}, f(2, 8, 12), i(3, 4, 3), i(2, 2, 2)),
    case("DeformConv", {}, f(2, 4, 6, 5), f(3, 4, 3, 3), f(2, 18, 4, 3), other=None),
    case(
        "DeformConv", {"pads": [1, 1, 1, 1], "group": 2}, f(2, 4, 6, 5), f(6, 2, 3, 3), f(2, 18, 6, 5), f(6), other=None
    ),
    case(
        "DeformConv",
        {"pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2], "offset_group": 2},
        f(2, 4, 6, 5),
        f(3, 4, 3, 2),
        2 * f(2, 24, 4, 4),
        f(3),
        f(2, 12, 4, 4),
        other=None,
    ),
    case("DeformConv", {}, f(2, 4, 6, 5), f(3, 4, 3, 3), f(2, 18, 4, 3), None, f(2, 9, 4, 3), other=None),
]

K3 = {"kernel_shape": [3, 3]}
PLACES = np.array([[[[5, 7], [13, 15]]]], np.int64)
POOLINGS = [
    *(
        case(op, {**K3, **attributes}, IMAGE, other=LARGER)
        for op in ("MaxPool", "AveragePool", "LpPool")
        for attributes in (
            {},
            {"strides": [2, 2], "pads": [1, 1, 1, 1]},
            {"strides": [2, 3], "pads": [0, 1, 2, 0]},
            {"strides": [2, 2], "ceil_mode": 1},
            {"strides": [3, 3], "ceil_mode": 1, "pads": [1, 1, 1, 1]},
            {"strides": [2, 2], "ceil_mode": 1, "pads": [0, 0, 1, 1]},
            {**SAME, "strides": [2, 2]},
            {**LOWER, "strides": [2, 3]},
            {**VALID, "strides": [2, 2]},
            {"dilations": [2, 2]},
            {"dilations": [2, 3], "pads": [1, 2, 1, 0], "strides": [2, 1]},
        )
    ),
    *(
        case("AveragePool", {**K3, "count_include_pad": 1, **attributes}, IMAGE, other=LARGER)
        for attributes in (
            {"strides": [2, 2], "pads": [1, 1, 1, 1]},
            {"strides": [2, 3], "pads": [0, 1, 2, 0]},
            {"strides": [3, 3], "ceil_mode": 1, "pads": [1, 1, 1, 1]},
            {**SAME, "strides": [2, 2]},
            {"dilations": [2, 2], "pads": [1, 1, 1, 1]},
        )
    ),
    case("MaxPool", {"kernel_shape": [1, 1], "strides": [2, 2], "ceil_mode": 1}, IMAGE, other=LARGER),
    case("MaxPool", {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1}, IMAGE, other=LARGER),
    case("MaxPool", {"kernel_shape": [3], "pads": [2, 2], "strides": [2]}, f(2, 3, 9), other=(1, 3, 12)),
    case("MaxPool", {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2]}, f(1, 2, 5, 6, 4), other=(2, 2, 4, 4, 4)),
    case("MaxPool", {**K3, "strides": [2, 2], "pads": [1, 1, 1, 1]}, u8(1, 2, 7, 8), smooth=False),
    *(
        case("MaxPool", {**K3, "strides": [2, 2], **attributes}, IMAGE, outputs=2, other=LARGER)
        for attributes in (
            {"pads": [1, 1, 1, 1]},
            {"pads": [0, 1, 2, 0], "storage_order": 1},
            {"ceil_mode": 1, "dilations": [2, 1]},
            SAME,
        )
    ),
    case("MaxPool", {"kernel_shape": [2]}, f(2, 3, 9), outputs=2, other=(1, 3, 12)),
    case("MaxPool", {"kernel_shape": [2, 2, 2]}, f(2, 2, 5, 6, 4), outputs=2, other=(2, 2, 4, 4, 4)),
    case("MaxUnpool", {"kernel_shape": [2, 2], "strides": [2, 2]}, f(1, 1, 2, 2), PLACES, other=None),
    case(
        "MaxUnpool",
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        f(1, 1, 2, 2),
        PLACES,
        i(1, 1, 5, 6),
        other=None,
    ),
    case("AveragePool", {"kernel_shape": [3], "pads": [1, 1]}, f(2, 3, 9), other=(1, 3, 12)),
    case("AveragePool", {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2]}, f(1, 2, 5, 6, 4), other=(2, 2, 4, 4, 4)),
    case("LpPool", {**K3, "p": 1}, IMAGE, other=LARGER),
    case("LpPool", {**K3, "p": 3}, IMAGE, other=LARGER),
    case("GlobalAveragePool", {}, IMAGE, other=LARGER),
    case("GlobalAveragePool", {}, f(2, 3, 5), other=(1, 3, 7)),
    case("GlobalMaxPool", {}, IMAGE, other=LARGER),
    case("GlobalMaxPool", {}, f(2, 3, 4, 5, 2)),
    case("GlobalLpPool", {}, IMAGE, other=LARGER),
    case("GlobalLpPool", {"p": 3}, IMAGE, other=LARGER),
]

NORMALIZATIONS = [
    case("BatchNormalization", {}, IMAGE, f(3), f(3), f(3), positive(3), other=LARGER),
    case("BatchNormalization", {"epsilon": 0.01}, f(4, 3), f(3), f(3), f(3), positive(3)),
    case("BatchNormalization", {}, f(2, 3, 4, 5, 2), f(3), f(3), f(3), positive(3)),
    case("BatchNormalization", {"training_mode": 1}, IMAGE, f(3), f(3), f(3), positive(3), outputs=3, other=LARGER),
    case("InstanceNormalization", {}, IMAGE, f(3), f(3), other=LARGER),
    case("InstanceNormalization", {"epsilon": 0.01}, f(2, 3, 7), f(3), f(3)),
    case("GroupNormalization", {"num_groups": 2}, f(2, 6, 5, 4), f(6), f(6), other=(1, 6, 3, 7)),
    case("LayerNormalization", {}, IMAGE, f(8), f(8)),
    case("LayerNormalization", {"axis": 1, "epsilon": 0.01}, IMAGE, f(3, 9, 8), f(3, 9, 8)),
    case("LayerNormalization", {"axis": -2}, IMAGE, f(9, 8)),
    case("LayerNormalization", {"axis": 2}, IMAGE, f(9, 8), f(9, 8), outputs=3),
    case("LRN", {"size": 3}, f(2, 7, 4, 5), other=(1, 7, 3, 6)),
    case("LRN", {"size": 5, "alpha": 0.5, "beta": 0.6, "bias": 2.0}, f(2, 7, 4, 5), other=(1, 7, 3, 6)),
    case("LpNormalization", {}, IMAGE, other=LARGER),
    case("LpNormalization", {"axis": 1, "p": 1}, IMAGE, other=LARGER),
    case("MeanVarianceNormalization", {}, IMAGE, other=LARGER),
    case("MeanVarianceNormalization", {"axes": [2, 3]}, IMAGE, other=LARGER),
]

ACTIVATIONS = [
    case("Clip", {}, 4 * IMAGE, scalar(0.0), scalar(6.0), other=LARGER),
    case("Clip", {}, IMAGE, scalar(0.0), other=LARGER),
    case("Clip", {}, IMAGE, scalar(0.0), scalar(np.inf), other=LARGER),
    case("Clip", {}, IMAGE, scalar(-0.5), scalar(0.7), other=LARGER),
    case("Clip", {}, IMAGE, None, scalar(0.7), other=LARGER),
    case("Clip", {}, IMAGE, scalar(0.7), scalar(-0.5), other=LARGER),
    case("Clip", {}, IMAGE, other=LARGER),
    case("Clip", {}, i(-3, 0, 9), scalar(0, np.int64), scalar(6, np.int64), smooth=False),
    case("Gelu", {}, IMAGE, other=LARGER),
    case("Gelu", {"approximate": "tanh"}, IMAGE, other=LARGER),
    case("HardSigmoid", {}, 3 * IMAGE, other=LARGER),
    case("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}, 3 * IMAGE, other=LARGER),
    case("HardSwish", {}, 3 * IMAGE, other=LARGER),
    case("Elu", {"alpha": 1.7}, IMAGE, other=LARGER),
    case("Selu", {}, IMAGE, other=LARGER),
    case("Selu", {"alpha": 2.0, "gamma": 3.0}, IMAGE, other=LARGER),
    case("Celu", {"alpha": 2.0}, IMAGE, other=LARGER),
    case("Mish", {}, IMAGE, other=LARGER),
    case("Softplus", {}, 5 * IMAGE, other=LARGER),
    case("Softsign", {}, IMAGE, other=LARGER),
    case("PRelu", {}, IMAGE, f(3, 1, 1), other=LARGER),
    case("PRelu", {}, IMAGE, f(1), other=LARGER),
    case("PRelu", {}, f(2, 4, 4, 4), f(4)),  # along the last axis, as all broadcasting
    case("PRelu", {}, IMAGE, f(3, 9, 1)),
    case("Relu", {}, IMAGE, other=LARGER),
    case("LeakyRelu", {"alpha": 0.2}, IMAGE, other=LARGER),
    case("Sigmoid", {}, 5 * IMAGE, other=LARGER),
    case("Tanh", {}, IMAGE, other=LARGER),
    *(case(op, {"axis": axis}, IMAGE, other=LARGER) for op in ("Softmax", "LogSoftmax") for axis in (1, -1, 0)),
    case("ThresholdedRelu", {"alpha": 0.4}, IMAGE, other=LARGER),
    case("Shrink", {"lambd": 0.6, "bias": 0.3}, IMAGE, other=LARGER),
]

SHAPES = [
    case("Reshape", {}, IMAGE, i(0, -1)),
    case("Reshape", {}, IMAGE, i(-1, 12, 2, 9)),
    case("Reshape", {"allowzero": 1}, f(0, 3, 4), i(3, 4, 0), other=None, smooth=False),
    case("Reshape", {"allowzero": 1}, IMAGE, i(-1, 72, 3)),
    case("Flatten", {}, IMAGE, other=LARGER),
    *(case("Flatten", {"axis": axis}, IMAGE, other=LARGER) for axis in (0, 3, 4, -1)),
    case("Transpose", {}, IMAGE, other=LARGER),
    case("Transpose", {"perm": [0, 2, 3, 1]}, IMAGE, other=LARGER),
    case("Squeeze", {}, f(2, 1, 3, 1)),
    case("Squeeze", {}, f(2, 1, 3, 1), i(-1)),
    case("Squeeze", {}, f(1, 2, 1, 3), i(0, 2), other=None),
    case("Unsqueeze", {}, f(2, 3), i(0, -1)),
    case("Unsqueeze", {}, f(2, 3), i(3, 1)),
    case("Shape", {}, IMAGE, other=LARGER, smooth=False),
    case("Shape", {"start": 1, "end": -1}, IMAGE, other=LARGER, smooth=False),
    case("Shape", {"start": -9, "end": 9}, IMAGE, other=LARGER, smooth=False),
    case("Size", {}, IMAGE, other=LARGER, smooth=False),
    case("Expand", {}, f(3, 1), i(2, 1, 6), other=None),
    case("Expand", {}, f(2, 3, 1), i(4), other=(3, 3, 1)),
    case("DepthToSpace", {"blocksize": 2}, f(2, 8, 3, 4)),
    case("DepthToSpace", {"blocksize": 2, "mode": "CRD"}, f(2, 8, 3, 4)),
    case("SpaceToDepth", {"blocksize": 2}, f(2, 3, 4, 6)),
]

SELECTIONS = [
    case("Slice", {}, IMAGE, i(1, 0), i(3, 1000), i(1, 2), other=LARGER),
    case("Slice", {}, IMAGE, i(0, 0, 2), i(10, 10, -1), other=LARGER),
    case("Slice", {}, IMAGE, i(1, -5), i(8, -1), i(-2, 3), i(3, 2), other=LARGER),
    case("Slice", {}, IMAGE, i(-1, 5), i(-1000, 0), i(2, 3), i(-1, -2), other=LARGER),
    case("Slice", {}, IMAGE, i(5), i(5), i(3), smooth=False, other=LARGER),
    case("Split", {"axis": 1}, f(2, 6, 3), i(1, 2, 3), outputs=3),
    case("Split", {"axis": -1, "num_outputs": 3}, f(2, 3, 7), outputs=3, other=(2, 3, 8)),
    case("Split", {"axis": 1, "num_outputs": 2}, f(2, 6, 3), outputs=2),
    case("Split", {"axis": 1, "num_outputs": 1}, f(2, 6, 3)),
    case("Gather", {"axis": 1}, IMAGE, i(2, -1, 0, 0), other=LARGER),
    case("Gather", {"axis": -2}, IMAGE, np.array([[0, 1], [-1, 2]]), other=LARGER),
    case("Gather", {"axis": 3}, IMAGE, scalar(-2, np.int64), other=LARGER),
    case("Gather", {}, i(2, 3, 9, 8), scalar(1, np.int64), smooth=False),
    case("Tile", {}, IMAGE, i(1, 2, 1, 3), other=LARGER),
    case("Pad", {}, IMAGE, i(0, 0, 1, 2, 0, 0, 3, 0), other=LARGER),
    case("Pad", {}, IMAGE, i(0, 1, 1, -2, 0, 0, -3, 0), scalar(1.5), other=LARGER),
    case("Pad", {}, IMAGE, i(1, 2, 3, 0), scalar(-np.inf), i(-1, 2), smooth=False, other=LARGER),
    *(
        case("Pad", {"mode": mode}, IMAGE, i(0, 1, 4, 2, 0, 0, 3, 1), other=LARGER)
        for mode in ("reflect", "edge", "wrap")
    ),
    case("Pad", {"mode": "reflect"}, IMAGE, i(2, 3, 0, 1), None, i(3, -2), other=LARGER),
]

VALUES = [
    case("Cast", {"to": TensorProto.INT64}, 5 * IMAGE, smooth=False, other=LARGER),
    case("Cast", {"to": TensorProto.BOOL}, f(2, 3), smooth=False),
    case("Cast", {"to": TensorProto.FLOAT}, u8(2, 3), smooth=False),
    case("CastLike", {}, u8(2, 3), f(1), smooth=False),
    case("Constant", {"value": numpy_helper.from_array(f(2, 3))}, None, smooth=False),
    case("Constant", {"value_float": 2.5}, None, smooth=False),
    case("Constant", {"value_ints": [3, 4]}, None, smooth=False),
    case("ConstantOfShape", {}, i(2, 3), smooth=False),
    case("ConstantOfShape", {"value": numpy_helper.from_array(i(7))}, i(2, 3), smooth=False),
    case("EyeLike", {}, f(3, 4), smooth=False),
    case("EyeLike", {"k": -1, "dtype": TensorProto.FLOAT}, np.zeros((3, 4), np.int64), smooth=False),
    case("DynamicQuantizeLinear", {}, IMAGE, outputs=3, smooth=False, other=LARGER),
    case("DynamicQuantizeLinear", {}, POSITIVE, outputs=3, smooth=False),
    case("DynamicQuantizeLinear", {}, -POSITIVE, outputs=3, smooth=False),
    case("Identity", {}, IMAGE, other=LARGER),
    case("Dropout", {}, IMAGE, scalar(0.5), other=LARGER),
    case("Dropout", {}, IMAGE, outputs=2, other=LARGER),
    case("Range", {}, scalar(1.0), scalar(4.2), scalar(0.5), smooth=False),
    case("Range", {}, scalar(9, np.int64), scalar(-2, np.int64), scalar(-3, np.int64), smooth=False),
    case("DequantizeLinear", {}, u8(2, 3, 4), scalar(0.02), scalar(7, np.uint8), smooth=False),
    case("DequantizeLinear", {}, u8(2, 3, 4), scalar(0.02), smooth=False),
    case("DequantizeLinear", {"axis": 1}, u8(2, 3, 4), positive(3), u8(3), smooth=False),
    case("DequantizeLinear", {"axis": 1, "block_size": 2}, u8(2, 6, 4), positive(2, 3, 4), smooth=False, other=None),
    case("QuantizeLinear", {}, 50 * IMAGE, scalar(0.5), scalar(7, np.uint8), smooth=False, other=LARGER),
    case("QuantizeLinear", {}, IMAGE, scalar(0.5), smooth=False, other=LARGER),
    *(
        case("QuantizeLinear", {}, 5000 * IMAGE, scalar(0.5), scalar(7, dtype), smooth=False, other=LARGER)
        for dtype in (np.int8, np.uint16, np.int16)
    ),
    case("QuantizeLinear", {}, np.array([0.25, 0.75, 1.25, -0.25], np.float32), scalar(0.5), smooth=False),
    case(
        "QuantizeLinear",
        {"axis": 1, "block_size": 2},
        f(2, 6, 4),
        positive(2, 3, 4),
        np.zeros((2, 3, 4), np.int8),
        smooth=False,
        other=None,
    ),
    case("QuantizeLinear", {"axis": 1}, 50 * IMAGE, positive(3), np.zeros(3, np.int8), smooth=False, other=LARGER),
]

ARITHMETIC = [
    *(
        case(op, {}, x, other, **rest)
        for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean")
        for x, other, rest in (
            (IMAGE, f(3, 1, 1), {"other": LARGER}),
            (IMAGE, positive(1), {"other": LARGER}),
            (f(2, 1, 4), f(3, 1), {}),
            (f(3), f(2, 3), {"other": None}),
        )
    ),
    *(case(op, {}, IMAGE) for op in ("Max", "Min", "Sum", "Mean")),
    *(case(op, {}, IMAGE, f(3, 1, 1), f(8), other=None) for op in ("Max", "Min", "Sum", "Mean")),
    *(
        case(op, {}, i(-7, 7, -7, 7), i(2, 2, -2, -2), smooth=False)
        for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Mod")
    ),
    *(
        case(op, {}, np.array([9, 40, 7], np.uint32), np.array([4, 5, 9], np.uint32), smooth=False)
        for op in ("Add", "Mul", "Div", "Max", "Mod", "Greater")
    ),
    case("Mod", {"fmod": 1}, np.array([-4.3, 7.2, 5.0], np.float32), np.array([2.1, -3.4, 8.0], np.float32)),
    case("Pow", {}, POSITIVE, scalar(2.0)),
    case("Pow", {}, POSITIVE, f(3, 1, 1)),
    case("Pow", {}, IMAGE, scalar(2, np.int64)),
    case("Pow", {}, i(2, 3, -4), scalar(2.0), smooth=False),
    case("Pow", {}, i(2, 3, -4), i(3, 2, 1), smooth=False),
    *(case(op, {}, 0.9 * np.tanh(IMAGE), other=LARGER) for op in ("Acos", "Asin", "Atan", "Atanh", "Asinh")),
    *(case(op, {}, IMAGE, other=LARGER) for op in ("Abs", "Cos", "Cosh", "Erf", "Exp", "Neg", "Sin", "Sinh", "Tan")),
    *(case(op, {}, POSITIVE, other=LARGER) for op in ("Log", "Reciprocal", "Sqrt")),
    case("Acosh", {}, 1 + POSITIVE, other=LARGER),
    *(
        case(op, {}, np.array([-2.5, -1.5, -0.5, 0, 0.5, 1.5, 2.5, 2.7], np.float32), smooth=False)
        for op in ("Round", "Floor", "Ceil", "Sign")
    ),
    *(
        case(op, {}, np.array([9, 250, 7], np.uint8), np.array([6, 3, 1], np.uint8), smooth=False)
        for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")
    ),
    case("BitwiseNot", {}, np.array([9, 250, 7], np.uint16), smooth=False),
    *(
        case(
            "BitShift",
            {"direction": way},
            np.array([9, 250, 7], np.uint32),
            np.array([2, 3, 1], np.uint32),
            smooth=False,
        )
        for way in ("LEFT", "RIGHT")
    ),
    case("Det", {}, f(3, 4, 4)),
    case("DFT", {}, f(2, 3, 5, 1), None, scalar(1, np.int64)),
    case("DFT", {"onesided": 1}, f(2, 3, 6, 1)),
    case("DFT", {"onesided": 1}, f(2, 3, 7, 1), scalar(5, np.int64), scalar(-2, np.int64)),
    case("DFT", {}, f(2, 3, 5, 2), scalar(8, np.int64), scalar(2, np.int64)),
    case("DFT", {"inverse": 1}, f(2, 3, 5, 2), None, scalar(-3, np.int64)),
    case("DFT", {"inverse": 1, "onesided": 1}, f(2, 4, 5, 2), scalar(7, np.int64), scalar(1, np.int64)),
    case("DFT", {"inverse": 1, "onesided": 1}, f(2, 3, 5, 2)),
    *(
        case("MatMul", {}, *operands)
        for operands in ((f(2, 3, 4), f(4, 5)), (f(2, 1, 3, 4), f(5, 4, 2)), (f(3, 4), f(4)))
    ),
    case("Gemm", {}, f(3, 4), f(4, 5)),
    case("Gemm", {"transB": 1, "alpha": 0.5, "beta": 2.0}, f(3, 4), f(5, 4), f(5)),
    case("Gemm", {"transA": 1}, f(4, 3), f(4, 5), f(3, 1), other=None),
    case("Einsum", {"equation": "bchw,dc->bdhw"}, IMAGE, f(4, 3), other=LARGER),
    case("Concat", {"axis": 1}, IMAGE, f(2, 5, 9, 8), other=None),
    case("Concat", {"axis": -1}, IMAGE, IMAGE, f(2, 3, 9, 1), other=None),
    case("Where", {}, b(1, 0, 1), f(2, 3), f(1), other=None, smooth=False),
    *(case(op, {}, b(1, 1, 0, 0), b(1, 0, 1, 0), smooth=False) for op in ("And", "Or", "Xor")),
    case("Not", {}, b(1, 0), smooth=False),
]

COMPARISONS = [
    *(
        case(op, {}, np.array([[1, 2, 3], [3, 2, 1]], np.float32), np.array([1, 2, 2], np.float32), smooth=False)
        for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    ),
    case("Equal", {}, i(1, -1, 4), i(-1), smooth=False),
    case("IsNaN", {}, np.array([0, np.nan, np.inf], np.float32), smooth=False),
    *(
        case("IsInf", attributes, np.array([0, np.nan, np.inf, -np.inf], np.float32), smooth=False)
        for attributes in ({}, {"detect_positive": 0}, {"detect_negative": 0})
    ),
]

TIES = np.array([[3, 1, 3, 2, 3], [0, 0, 1, 1, 0]], np.float32)
ORDERINGS = [
    *(
        case("TopK", {"largest": largest, "axis": axis}, x, i(2), outputs=2, smooth=x is IMAGE)
        for largest in (0, 1)
        for axis, x in ((-1, TIES), (0, TIES), (2, IMAGE))
    ),
    *(
        case(op, {"axis": axis, "select_last_index": last, "keepdims": last}, TIES, smooth=False)
        for op in ("ArgMax", "ArgMin")
        for axis in (0, 1, -1)
        for last in (0, 1)
    ),
    *(
        case("Unique", attributes, x, outputs=4, smooth=False, other=None)
        for attributes in ({}, {"sorted": 0}, {"axis": 0}, {"axis": 1, "sorted": 0})
        for x in (TIES, np.array([[1, 0, 1], [2, 0, 2], [1, 0, 1]], np.float32))
    ),
    case("Compress", {}, f(3, 2), b(0, 1, 1, 0, 1), other=None),
    case("Compress", {"axis": 1}, f(3, 4), b(0, 1, 1)),
    case("ReverseSequence", {}, f(4, 3, 2), i(4, 2, 1), other=None),
    case("ReverseSequence", {"batch_axis": 0, "time_axis": 1}, f(3, 4), i(4, 2, 1), other=None),
]

INDEXING = [
    case("GatherND", {}, f(3, 4, 2), np.array([[0, 1], [-1, 3]])),
    case("GatherND", {}, f(3, 4, 2), np.array([[2, 1, 0], [-1, 3, -2]])),
    case("GatherND", {"batch_dims": 1}, f(2, 4, 2), np.array([[[1], [0]], [[3], [-1]]]), other=(2, 5, 2)),
    case("GatherND", {"batch_dims": 2}, f(2, 2, 3), np.array([[[1], [0]], [[2], [-1]]]), other=(2, 2, 4)),
    case("GatherElements", {"axis": 1}, f(2, 4), np.array([[0, -1, 2], [1, 1, -4]]), other=None),
    *(
        case("ScatterElements", attributes, f(2, 4), np.array([[0, -1], [3, -2]]), f(2, 2), other=(3, 4))
        for attributes in ({"axis": 1}, {"axis": 1, "reduction": "add"}, {"axis": 1, "reduction": "max"})
    ),
    *(
        case("ScatterND", attributes, f(3, 4, 2), np.array([[0, 1], [-1, 3], [2, -3]]), f(3, 2), other=(3, 5, 2))
        for attributes in ({}, {"reduction": "add"}, {"reduction": "mul"}, {"reduction": "max"})
    ),
    case("ScatterND", {}, f(4, 3), np.array([[2], [0]]), f(2, 3)),
    case("OneHot", {}, np.array([[0, 2], [-1, 7]]), scalar(3, np.int64), f(2), smooth=False),
    case("OneHot", {"axis": 1}, np.array([[0, 2], [-1, 7]]), i(3), f(2), smooth=False),
    case("Trilu", {}, IMAGE, other=LARGER),
    case("Trilu", {"upper": 0}, IMAGE, scalar(-2, np.int64), other=LARGER),
    case("NonZero", {}, np.array([[1, 0, 2], [0, 0, 3]], np.float32), smooth=False),
    case("CumSum", {}, IMAGE, scalar(-2, np.int64), other=LARGER),
    case("CumSum", {"exclusive": 1, "reverse": 1}, IMAGE, i(2), other=LARGER),
    case("CumSum", {"exclusive": 1}, np.array([1, 2, 3], np.int32), scalar(0, np.int64), smooth=False),
    case("Hardmax", {}, IMAGE, smooth=False, other=LARGER),
    case("Hardmax", {"axis": 1}, IMAGE, smooth=False, other=LARGER),
    *(
        case("GridSample", {"mode": mode, **attributes}, IMAGE, 1.2 * np.tanh(f(2, 4, 5, 2)), other=(2, 5, 6, 7))
        for mode in ("linear", "nearest", "cubic")
        for attributes in ({}, {"align_corners": 1}, {"padding_mode": "border"}, {"padding_mode": "reflection"})
    ),
    case("GridSample", {}, f(2, 2, 4, 3, 5), np.tanh(f(2, 3, 4, 2, 3)), other=None),
    *(case("AffineGrid", {"align_corners": corners}, f(2, 2, 3), i(2, 3, 5, 4), other=None) for corners in (0, 1)),
    case("AffineGrid", {}, f(1, 3, 4), i(1, 3, 5, 4, 2), other=None),
]

REDUCTIONS = [
    case(op, attributes, positive(2, 3, 4, 5), *further)
    for op in sorted(op for op in table() if op.startswith("Reduce"))
    for attributes, *further in (
        ({},),
        ({"keepdims": 0}, i(2, 3)),
        ({}, i(-1)),
        ({"keepdims": 0, "noop_with_empty_axes": 1}, i(1)),
    )
] + [
    case("ReduceSum", {"noop_with_empty_axes": 1}, IMAGE, other=LARGER),
    case("ReduceMean", {"noop_with_empty_axes": 1}, IMAGE, i(), other=LARGER),
    case("ReduceSum", {}, i(3, 4, 5), smooth=False),
    case("ReduceProd", {"keepdims": 0}, i(3, 4, 5), i(0), smooth=False),
    *(case(op, {}, np.zeros((2, 0), np.int64), i(1), other=None, smooth=False) for op in ("ReduceMax", "ReduceMin")),
]

UP, DOWN = np.array([1, 1, 1.7, 2.3], np.float32), np.array([1, 1, 0.6, 0.35], np.float32)
COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")
RESIZES = [
    *(
        case("Resize", {"mode": mode, "coordinate_transformation_mode": coordinates}, IMAGE, None, scales, other=LARGER)
        for mode in ("nearest", "linear", "cubic")
        for coordinates in COORDINATES
        for scales in (UP, DOWN)
        if (mode, coordinates) != ("nearest", "half_pixel_symmetric")
    ),
    *(  # of 12 rows made 20, one lies halfway between two but for the last bit, which differs from ONNX Runtime's
        case("Resize", {"coordinate_transformation_mode": "half_pixel_symmetric"}, IMAGE, None, scales)
        for scales in (UP, DOWN)
    ),
    *(
        case(
            "Resize",
            {"nearest_mode": nearest, "coordinate_transformation_mode": coordinates},
            IMAGE,
            None,
            scales,
            other=LARGER,
        )
        for nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
        for coordinates in ("half_pixel", "asymmetric", "align_corners")
        for scales in (UP, DOWN, np.array([1, 1, 2, 3], np.float32))
    ),
    *(
        case("Resize", {"mode": mode, **attributes}, IMAGE, None, None, i(2, 3, *sizes), other=(2, 3, 5, 14))
        for mode in ("nearest", "linear", "cubic")
        for attributes in (
            {},
            {"coordinate_transformation_mode": "align_corners"},
            {"coordinate_transformation_mode": "pytorch_half_pixel"},
        )
        for sizes in ((13, 5), (1, 16), (18, 1))
    ),
    *(
        case("Resize", {"mode": mode, "antialias": 1, "exclude_outside": outside}, IMAGE, None, scales, other=LARGER)
        for mode in ("linear", "cubic")
        for outside in (0, 1)
        for scales in (UP, DOWN)
    ),
    *(
        case("Resize", {"mode": "cubic", "exclude_outside": 1, "cubic_coeff_a": -0.5}, IMAGE, None, scales)
        for scales in (UP, DOWN)
    ),
    *(
        case(
            "Resize",
            {"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 9.0},
            IMAGE,
            np.array([0, 0, 0.2, -0.1, 1, 1, 0.7, 1.2], np.float32),
            None,
            i(2, 3, *sizes),
            other=None,
        )
        for mode in ("nearest", "linear", "cubic")
        for sizes in ((6, 7), (1, 7), (1, 1))
    ),
    *(
        case("Resize", {"mode": "linear", "keep_aspect_ratio_policy": policy, "axes": [2, 3]}, IMAGE, None, None, sizes)
        for policy in ("not_larger", "not_smaller")
        for sizes in (i(7, 10), i(13, 9))
    ),
    *(  # in float32 some position lies beside the middle between two pixels, for which ONNX Runtime still takes it
        case(
            "Resize",
            {"nearest_mode": nearest, "coordinate_transformation_mode": coordinates},
            f(1, 2, 20, 19),
            None,
            np.array([1, 1, *scales], np.float32),
        )
        for nearest in ("round_prefer_floor", "round_prefer_ceil")
        for coordinates in ("half_pixel", "pytorch_half_pixel", "asymmetric")
        for scales in ((0.3, 1.3), (1.3, 1.2))
    ),
    *(  # no axis changes its length: a copy
        case(
            "Resize",
            {"mode": mode, "nearest_mode": "floor", "coordinate_transformation_mode": coordinates},
            f(1, 2, 7, 5),
            np.array([0, 0, 0.2, 0.1, 1, 1, 0.7, 0.9], np.float32),
            np.array([1, 1, 1.1, 1.15], np.float32),
        )
        for mode in ("nearest", "linear", "cubic")
        for coordinates in ("half_pixel", "asymmetric", "tf_crop_and_resize")
    ),
    case("Resize", {"mode": "linear", "axes": [3, 2]}, IMAGE, None, np.array([1.5, 2], np.float32), other=LARGER),
    case("Resize", {"mode": "linear"}, f(2, 3, 9), None, np.array([1, 1, 1.7], np.float32)),
    case("Resize", {"mode": "linear"}, f(1, 2, 4, 5, 3), None, np.array([1, 1, 2, 1.4, 2], np.float32)),
    case("Resize", {}, f(1, 2, 4, 5, 3), None, np.array([1, 1, 2, 3, 2], np.float32)),
]

CASES = [
    *CONVOLUTIONS,
    *POOLINGS,
    *NORMALIZATIONS,
    *ACTIVATIONS,
    *SHAPES,
    *SELECTIONS,
    *VALUES,
    *ARITHMETIC,
    *COMPARISONS,
    *ORDERINGS,
    *INDEXING,
    *REDUCTIONS,
    *RESIZES,
]

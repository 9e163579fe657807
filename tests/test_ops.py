"""The table of converters against ONNX Runtime: one node, one answer.

A case is an operator, its attributes, its data input and its further inputs. Each case is run twice, with the further
inputs as constants of the graph and as values that come at run time, and at two sizes with the module built once.
Gradients are held against finite differences in float64.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from converters.errors import UnsupportedOperatorError
from converters.ops import DOMAIN, OPSET, register, resize, table

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
    case("ConvTranspose", {**VALID, "strides": [2, 2]}, IMAGE, f(3, 4, 3, 3), other=LARGER),
    case("ConvTranspose", {"strides": [2], "pads": [1, 0]}, f(2, 3, 7), f(3, 2, 4), f(2), other=(1, 3, 9)),
    case("ConvTranspose", {"strides": [2, 2, 1]}, f(1, 2, 3, 4, 3), f(2, 3, 2, 2, 2), f(3)),
]

K3 = {"kernel_shape": [3, 3]}
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
    case("QuantizeLinear", {"axis": 1}, 50 * IMAGE, positive(3), np.zeros(3, np.int8), smooth=False, other=LARGER),
]

COMPARISONS = [
    *(
        case(op, {}, np.array([[1, 2, 3], [3, 2, 1]], np.float32), np.array([1, 2, 2], np.float32), smooth=False)
        for op in ("Equal", "GreaterOrEqual", "LessOrEqual")
    ),
    case("Equal", {}, i(1, -1, 4), i(-1), smooth=False),
    case("IsNaN", {}, np.array([0, np.nan, np.inf], np.float32), smooth=False),
    *(
        case("IsInf", attributes, np.array([0, np.nan, np.inf, -np.inf], np.float32), smooth=False)
        for attributes in ({}, {"detect_positive": 0}, {"detect_negative": 0})
    ),
]

INDEXING = [
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
            i(2, 3, 6, 7),
            other=None,
        )
        for mode in ("nearest", "linear", "cubic")
    ),
    *(
        case("Resize", {"mode": "linear", "keep_aspect_ratio_policy": policy, "axes": [2, 3]}, IMAGE, None, None, sizes)
        for policy in ("not_larger", "not_smaller")
        for sizes in (i(7, 10), i(13, 9))
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
    *COMPARISONS,
    *INDEXING,
    *REDUCTIONS,
    *RESIZES,
]


def model_of(case: Case, folded: bool, domain: str = "") -> onnx.ModelProto:
    """One node of the case; its further inputs constants of the graph (`folded`) or inputs of it."""
    arrays = {f"input{position}": array for position, array in enumerate((case.x, *case.further)) if array is not None}
    names = [f"input{position}" if f"input{position}" in arrays else "" for position in range(1 + len(case.further))]
    constants = {name: array for name, array in arrays.items() if folded and name != "input0"}
    outputs = [f"output{position}" for position in range(case.outputs)]
    node = helper.make_node(
        case.op, names if case.x is not None else [], outputs, name="the_node", domain=domain, **case.attributes
    )
    graph = helper.make_graph(
        [node],
        "one node",
        [
            helper.make_tensor_value_info(
                name,
                helper.np_dtype_to_tensor_dtype(array.dtype),
                [None] * array.ndim if name == "input0" else array.shape,
            )
            for name, array in arrays.items()
            if name not in constants
        ],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def torch_module(case: Case, folded: bool) -> nn.Module:
    register()
    from onnx2torch.converter import convert

    module: nn.Module = convert(model_of(case, folded, DOMAIN)).eval()
    return module


def fed(case: Case, x: np.ndarray | None, folded: bool) -> list[np.ndarray]:
    """What the graph takes, in order."""
    return [array for array in ((x,) if folded else (x, *case.further)) if array is not None]


def answers(case: Case, module: nn.Module, inputs: list[np.ndarray]) -> list[np.ndarray]:
    answer = module(*[torch.from_numpy(array) for array in inputs])
    return [tensor.numpy() for tensor in (answer if isinstance(answer, tuple) else (answer,))]


@functools.cache
def quiet() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return options


@pytest.mark.parametrize("folded", [True, False], ids=["constants", "computed"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_torch_answers_as_onnxruntime_does(case: Case, folded: bool) -> None:
    session = onnxruntime.InferenceSession(
        model_of(case, folded).SerializeToString(), quiet(), providers=["CPUExecutionProvider"]
    )
    module = torch_module(case, folded)
    sizes = [case.x] if case.other is None else [case.x, np.resize(case.x, case.other)]
    for x in sizes:
        inputs = fed(case, x, folded)
        before = [array.copy() for array in inputs]
        expected = session.run(
            None, {value.name: array for value, array in zip(session.get_inputs(), inputs, strict=True)}
        )
        for mine, theirs in zip(answers(case, module, inputs), expected, strict=True):
            assert mine.dtype == theirs.dtype
            assert mine.shape == theirs.shape
            tolerance = 1e-5 * np.abs(theirs, where=np.isfinite(theirs), out=np.zeros(theirs.shape)).max(initial=0)
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=tolerance)
        for after, array in zip(inputs, before, strict=True):
            np.testing.assert_array_equal(after, array, err_msg="an input was written to")


@pytest.mark.parametrize("case", [case for case in CASES if case.smooth], ids=str)
def test_the_gradient_is_the_derivative(case: Case) -> None:
    """Also where it arrives NHWC-strided, in which torch 2.13's own batch_norm is wrong on CPU."""
    module = torch_module(case, folded=True).double()
    draw = torch.Generator().manual_seed(1)
    x = torch.from_numpy(case.x).double().requires_grad_()

    def value(x: torch.Tensor) -> torch.Tensor:
        answer = module(x)
        return answer[0] if isinstance(answer, tuple) else answer

    y = value(x)
    weights = torch.randn(y.shape, generator=draw, dtype=torch.float64)
    direction = torch.randn(x.shape, generator=draw, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(y, x, weights, retain_graph=True)
    with torch.no_grad():
        step = 1e-6
        change = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    expected = (change * weights).sum()
    tolerance = 1e-6 * float((change * weights).abs().sum()) + 1e-9
    torch.testing.assert_close((gradient * direction).sum(), expected, rtol=0, atol=tolerance)
    if y.ndim == 4:
        (again,) = torch.autograd.grad(y, x, weights.contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(again, gradient)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.op not in ("ConstantOfShape", "NonZero", "Range")], ids=str
)
def test_a_module_follows_its_input_to_another_device(case: Case) -> None:
    module = torch_module(case, folded=True).to("meta")  # a device of shapes alone; two kinds mixed raise
    answer = module(*[torch.from_numpy(array).to("meta") for array in fed(case, case.x, folded=True)])
    for tensor in answer if isinstance(answer, tuple) else (answer,):
        assert tensor.device.type == "meta"


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        (case("Conv", {"pads": [1, 1, 1, 1]}, IMAGE, f(4, 3, 3, 3), f(4)), nn.Conv2d),
        (case("Conv", VALID, f(1, 2, 9), f(4, 2, 3)), nn.Conv1d),
        (case("ConvTranspose", {"strides": [2, 2]}, IMAGE, f(3, 4, 3, 3), f(4)), nn.ConvTranspose2d),
        (case("Clip", {}, IMAGE, scalar(0.0), scalar(6.0)), nn.ReLU6),
        (case("Clip", {}, IMAGE, scalar(0.0)), nn.ReLU),
        (case("Clip", {}, IMAGE, scalar(0.0), scalar(np.finfo(np.float32).max)), nn.ReLU),
        (case("AveragePool", {**K3, "pads": [1, 1, 1, 1]}, IMAGE), nn.AvgPool2d),
    ],
    ids=str,
)
def test_a_plain_node_becomes_the_plain_torch_module(case: Case, kind: type[nn.Module]) -> None:
    module = torch_module(case, folded=True)
    assert any(type(part) is kind for part in module.modules())
    assert not any(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize(
    ("attributes", "scale"),
    [
        ({"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}, 3.0),
        ({"nearest_mode": "round_prefer_floor"}, 2.0),
        ({"mode": "linear"}, 2.0),
        ({"mode": "linear"}, 0.5),
        ({"mode": "linear", "coordinate_transformation_mode": "align_corners"}, 1.5),
        ({"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}, 3.0),
    ],
)
@pytest.mark.parametrize("side", [8, 50, 226])
def test_where_torch_has_its_own_resize_it_equals_the_formula(
    attributes: dict[str, Any], scale: float, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scales = np.array([1, 1, scale, scale], np.float32)
    module = torch_module(case("Resize", attributes, f(1, 2, side, side), None, scales), folded=True).double()
    x = torch.randn(1, 2, side, side, dtype=torch.float64)
    with monkeypatch.context() as patch:
        patch.setattr(resize, "_resample", None)  # nothing calls it: torch's own is at work
        quick = module(x)
    monkeypatch.setattr(resize, "_is_spatial", lambda *_: False)
    torch.testing.assert_close(quick, module(x), rtol=0, atol=1e-4)  # torch's positions are float32


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (case("MaxPool", K3, IMAGE, outputs=2), "the_node (MaxPool): only its first output"),
        (case("Dropout", {}, IMAGE, scalar(0.5), scalar(True, np.bool_)), "drops at random"),
        (case("Cast", {"to": TensorProto.STRING}, IMAGE), "casts to ONNX data type 8"),
        (case("Conv", {}, f(1, 2, 3, 3, 3, 3), f(1, 2, 1, 1, 1, 1)), "has 4 spatial axes"),
        (case("Constant", {"value_string": "text"}, None), "no tensor of numbers"),
    ],
    ids=str,
)
def test_what_cannot_be_imported_is_named(case: Case, words: str) -> None:
    with pytest.raises(UnsupportedOperatorError) as raised:
        torch_module(case, folded=True)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_every_operator_of_the_table_has_a_case() -> None:
    assert {case.op for case in CASES} == set(table())


@pytest.mark.parametrize("op", sorted(table()))
def test_every_operator_of_the_table_exists_in_onnx_at_our_opset(op: str) -> None:
    assert not onnx.defs.get_schema(op, OPSET).deprecated

"""The changes of ONNX's operators, version by version: a rule for each change that a file can show.

A step turns one node as it stood before a version into that version's form. Changes that only allow more (a type,
broadcasting, negative axes, a new attribute whose default is the old way) need no step; so that none is forgotten,
tests/converters/rewrites/test_opset_upgrade.py holds the table against ONNX's own schemas. Knows single nodes; knows
nothing of graphs.

Source: the operators' changelog, https://onnx.ai/onnx/repo-docs/Changelog.html.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper

from filterscope.converters.rewrites.opset_site import CannotSayError

if TYPE_CHECKING:
    from filterscope.converters.rewrites.opset_site import Site

Rule = Callable[[onnx.NodeProto, "Site"], None]  # changes the node; what else it takes goes before or after it


def take(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Take an attribute off the node; returns its value."""
    for attribute in node.attribute:
        if attribute.name == name:
            value = helper.get_attribute_value(attribute)
            node.attribute.remove(attribute)
            return value.decode() if isinstance(value, bytes) else value
    return default


def put(node: onnx.NodeProto, **values: Any) -> None:
    """Set the attributes that the node does not have yet."""
    present = {attribute.name for attribute in node.attribute}
    node.attribute.extend(helper.make_attribute(name, value) for name, value in values.items() if name not in present)


def put_input(node: onnx.NodeProto, position: int, name: str) -> None:
    """An input at a position, those before it absent unless the node has them."""
    node.input.extend([""] * (position + 1 - len(node.input)))
    node.input[position] = name


def fill(**values: Any) -> Rule:
    """Write out the defaults that an operator had before."""
    return lambda node, site: put(node, **values)


def drop(*names: str) -> Rule:
    """Remove attributes that have no effect at inference."""

    def rule(node: onnx.NodeProto, site: Site) -> None:
        for name in names:
            take(node, name, None)

    return rule


def as_input(name: str, position: int) -> Rule:
    """Integers that became an input."""

    def rule(node: onnx.NodeProto, site: Site) -> None:
        numbers = take(node, name, None)
        if numbers is not None:
            put_input(node, position, site.array(numbers))

    return rule


def rename(op_type: str) -> Rule:
    def rule(node: onnx.NodeProto, site: Site) -> None:
        node.op_type = op_type

    return rule


def align(node: onnx.NodeProto, site: Site) -> None:
    """The second operand was laid along the first from a given axis on; now they meet at their last axes."""
    broadcast, axis = take(node, "broadcast", 0), take(node, "axis", -1)
    if not broadcast or axis < 0:
        return
    first, second = site.shape(node.input[0]), site.shape(node.input[1])
    if first is None or second is None:
        put(node, axis=axis, broadcast=broadcast)
        raise CannotSayError("the ranks of its operands are not known")
    _append_axes(node, site, rank=len(second), count=len(first) - axis - len(second))


def slope_per_channel(node: onnx.NodeProto, site: Site) -> None:
    x, slope = site.shape(node.input[0]), site.shape(node.input[1])
    if x is None or slope is None:
        raise CannotSayError("the ranks of its operands are not known")
    if len(slope) == 1 and slope[0] != 1:
        _append_axes(node, site, rank=1, count=len(x) - 2)


def _append_axes(node: onnx.NodeProto, site: Site, *, rank: int, count: int) -> None:
    """Give the second operand, of this rank, axes of length 1 behind its last."""
    if count > 0:
        axes = site.array(range(rank, rank + count))
        node.input[1] = site.op("Unsqueeze", node.input[1], axes)


def per_position(node: onnx.NodeProto, site: Site) -> None:
    """BatchNormalization with spatial = 0 had statistics for each position, not for each channel."""
    if take(node, "spatial", 1):
        return
    x, scale, shift, mean, variance = node.input
    epsilon = site.array(take(node, "epsilon", 1e-5), np.float32)
    deviation = site.op("Sqrt", site.op("Add", variance, epsilon))
    normal = site.op("Div", site.op("Sub", x, mean), deviation)
    product = site.op("Mul", normal, scale)
    node.op_type = "Add"
    del node.attribute[:]
    node.input[:] = [product, shift]
    del node.output[1:]


def first_output(node: onnx.NodeProto, site: Site) -> None:
    """The further outputs of BatchNormalization were for training."""
    del node.output[1:]


def cast_target(node: onnx.NodeProto, site: Site) -> None:
    put(node, to=onnx.TensorProto.DataType.Value(take(node, "to", "FLOAT").upper()))


def clip_bounds(node: onnx.NodeProto, site: Site) -> None:
    dtype = site.dtype(node.input[0]) or np.float32
    for position, name in enumerate(("min", "max"), start=1):
        bound = take(node, name, None)
        if bound is not None:
            put_input(node, position, site.array(bound, dtype))


def pad_amounts(node: onnx.NodeProto, site: Site) -> None:
    value = take(node, "value", 0.0)
    node.input.append(site.array(take(node, "pads", [])))
    if value:
        node.input.append(site.array(value, site.dtype(node.input[0]) or np.float32))


def old_pads(node: onnx.NodeProto, site: Site) -> None:
    put(node, pads=take(node, "paddings", []))


def slice_bounds(node: onnx.NodeProto, site: Site) -> None:
    for position, name in enumerate(("starts", "ends", "axes"), start=1):
        as_input(name, position)(node, site)


def target_shape(node: onnx.NodeProto, site: Site) -> None:
    node.input.append(site.array(take(node, "shape", [])))


def how_many(node: onnx.NodeProto, site: Site) -> None:
    node.input.append(site.array([take(node, "k", 1)]))


def count_parts(node: onnx.NodeProto, site: Site) -> None:
    if len(node.input) < 2 or not node.input[1]:
        put(node, num_outputs=len(node.output))


def integer_power(node: onnx.NodeProto, site: Site) -> None:
    power = take(node, "p", 2.0)
    if power != int(power):
        put(node, p=power)
        raise CannotSayError(f"its power is {power}")
    put(node, p=int(power))


def two_scales(node: onnx.NodeProto, site: Site) -> None:
    put(node, scales=[1.0, 1.0, take(node, "height_scale", 1.0), take(node, "width_scale", 1.0)])


def upsample_scales(node: onnx.NodeProto, site: Site) -> None:
    node.input.append(site.array(take(node, "scales", []), np.float32))


def resize_as_before(node: onnx.NodeProto, site: Site) -> None:
    """Where pixels lie became a choice. ONNX Runtime took the pixel before when it grew an axis, and after when it
    shrank one; where a node does both, it becomes two."""
    x, scales = node.input
    put(node, coordinate_transformation_mode="asymmetric")
    del node.input[1:]
    mode = next((attribute.s for attribute in node.attribute if attribute.name == "mode"), b"nearest")
    factors = site.constant(scales)
    if mode != b"nearest" or factors is None or not (factors < 1).any():
        node.input.extend(["", scales])
        put(node, nearest_mode="floor")
        return
    if (factors > 1).any():
        grown = np.maximum(factors, 1)
        attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        node.input[0] = site.op("Resize", x, "", site.array(grown, np.float32), **attributes)
    node.input.extend(["", site.array(np.minimum(factors, 1), np.float32)])
    put(node, nearest_mode="ceil")


def nearest_of_tensorflow(node: onnx.NodeProto, site: Site) -> None:
    """tf_half_pixel_for_nn, gone since opset 13, was half_pixel without its −½, which the rounding can undo."""
    if _text(node, "coordinate_transformation_mode") != "tf_half_pixel_for_nn":
        return
    if _text(node, "nearest_mode") != "floor":
        raise CannotSayError("tf_half_pixel_for_nn with another rounding than floor")
    take(node, "nearest_mode", None)
    take(node, "coordinate_transformation_mode", None)
    put(node, coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_ceil")


def flat_softmax(node: onnx.NodeProto, site: Site) -> None:
    """Before opset 13 everything from the axis on was one."""
    axis = take(node, "axis", 1)
    shape = site.shape(node.input[0])
    if axis == -1 or (shape is not None and axis % max(len(shape), 1) == len(shape) - 1):
        put(node, axis=-1)
        return
    x, y = node.input[0], node.output[0]
    node.input[0] = site.op("Flatten", x, axis=axis)
    node.output[0] = site.name(node.op_type)
    put(node, axis=-1)
    site.then("Reshape", node.output[0], site.op("Shape", x), output=y)


def per_channel(node: onnx.NodeProto, site: Site) -> None:
    """GroupNormalization had a scale and a shift for each group; now it has them for each channel."""
    groups = next(attribute.i for attribute in node.attribute if attribute.name == "num_groups")
    shape = site.shape(node.input[0])
    if shape is not None and len(shape) > 1 and shape[1]:
        target = site.array([groups, shape[1] // groups])
    else:
        channels = site.op("Shape", node.input[0], start=1, end=2)
        target = site.op("Concat", site.array([groups]), site.op("Div", channels, site.array([groups])), axis=0)
    for position in (1, 2):
        column = site.op("Unsqueeze", node.input[position], site.array([1]))
        node.input[position] = site.op("Reshape", site.op("Expand", column, target), site.array([-1]))


def sampling_mode(node: onnx.NodeProto, site: Site) -> None:
    mode = take(node, "mode", "bilinear")
    put(node, mode={"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode))


def transform_axis(node: onnx.NodeProto, site: Site) -> None:
    put_input(node, 2, site.array(take(node, "axis", 1)))


def scaled_image(node: onnx.NodeProto, site: Site) -> None:
    """ImageScaler, an experiment that Core ML's exporter wrote: x · scale + a bias per channel."""
    scale, bias = take(node, "scale", 1.0), take(node, "bias", [0.0])
    x = site.op("Mul", node.input[0], site.array(scale, np.float32))
    node.op_type = "Add"
    node.input[:] = [x, site.array(np.reshape(bias, (-1, 1, 1)), np.float32)]


def cropped_image(node: onnx.NodeProto, site: Site) -> None:
    """Crop: borders left, top, right and bottom; or the first two and a height and width."""
    left, top, right, bottom = take(node, "border", [0, 0, 0, 0])
    scale = take(node, "scale", [])
    ends = [top + scale[0], left + scale[1]] if scale else [-bottom or _END, -right or _END]
    node.op_type = "Slice"
    node.input.extend(site.array(numbers) for numbers in ([top, left], ends, [2, 3]))


def affine(node: onnx.NodeProto, site: Site) -> None:
    """Affine: alpha · x + beta."""
    alpha, beta = take(node, "alpha", 1.0), take(node, "beta", 0.0)
    x = site.op("Mul", node.input[0], site.array(alpha, np.float32))
    node.op_type = "Add"
    node.input[:] = [x, site.array(beta, np.float32)]


def scaled(node: onnx.NodeProto, site: Site) -> None:
    node.op_type = "Mul"
    node.input.append(site.array(take(node, "scale", 1.0), np.float32))


def scaled_inside_and_out(op_type: str) -> Rule:
    """alpha · f(beta · x)."""

    def rule(node: onnx.NodeProto, site: Site) -> None:
        alpha, beta = take(node, "alpha", 1.0), take(node, "beta", 1.0)
        inner = site.op("Mul", node.input[0], site.array(beta, np.float32))
        node.op_type = "Mul"
        node.input[:] = [site.op(op_type, inner), site.array(alpha, np.float32)]

    return rule


def normalised_map(node: onnx.NodeProto, site: Site) -> None:
    """MeanVarianceNormalization told channels and variance apart; now it has axes, and always divides."""
    axes = [0, 1, 2, 3] if take(node, "across_channels", 0) else [0, 2, 3]
    if take(node, "normalize_variance", 1):
        put(node, axes=axes)
        return
    mean = site.op("ReduceMean", node.input[0], site.array(axes), keepdims=1)
    node.op_type = "Sub"
    node.input.append(mean)


def impossible(why: str) -> Rule:
    def rule(node: onnx.NodeProto, site: Site) -> None:
        raise CannotSayError(why)

    return rule


def columns_first(node: onnx.NodeProto, site: Site) -> None:
    """SpaceToDepth's CRD of opset 28: the channels in another order."""
    if take(node, "mode", "DCR") == "DCR":
        return
    y, block = node.output[0], next(attribute.i for attribute in node.attribute if attribute.name == "blocksize")
    names = [site.name(node.op_type) for _ in range(5)]
    node.output[0], sizes, apart_shape, apart, swapped = names
    area, rest = site.array([0, block * block, -1]), site.array([0, -1])
    site.then("Shape", node.output[0], output=sizes, start=2)
    site.then("Concat", area, sizes, output=apart_shape, axis=0)
    site.then("Reshape", node.output[0], apart_shape, output=apart)
    site.then("Transpose", apart, output=swapped, perm=[0, 2, 1, 3, 4])
    whole = site.name("Concat")
    site.then("Concat", rest, sizes, output=whole, axis=0)
    site.then("Reshape", swapped, whole, output=y)


def dequantized_type(node: onnx.NodeProto, site: Site) -> None:
    kind, y = take(node, "output_dtype", 0), node.output[0]
    if kind:
        node.output[0] = site.name(node.op_type)
        site.then("Cast", node.output[0], output=y, to=kind)


def floored_remainder(node: onnx.NodeProto, site: Site) -> None:
    """Since opset 28 Mod without fmod takes floating numbers too: a − ⌊a ÷ b⌋ · b."""
    dtype = site.dtype(node.input[0])
    if _number(node, "fmod") or (dtype is not None and dtype.kind in "iu"):
        return
    a, b = node.input
    times = site.op("Floor", site.op("Div", a, b))
    node.op_type = "Sub"
    del node.attribute[:]
    node.input[:] = [a, site.op("Mul", times, b)]


def _text(node: onnx.NodeProto, name: str) -> str:
    return next((attribute.s.decode() for attribute in node.attribute if attribute.name == name), "")


def _number(node: onnx.NodeProto, name: str) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), 0)


_END = np.iinfo(np.int64).max  # of a Slice that has none
EXPERIMENTAL = frozenset(  # operators that ONNX tried out and took back at opset 10; ONNX Runtime still runs most
    {
        *("ATen", "Affine", "ConstantFill", "Crop", "DynamicSlice", "GRUUnit", "GivenTensorFill", "ImageScaler"),
        *("ParametricSoftplus", "Scale", "ScaledTanh"),
    }
)
_RECURRENT = (7, drop("output_sequence"))
_REDUCTION = ((18, as_input("axes", 1)),)
RULES: dict[str, tuple[tuple[int, Rule], ...]] = {  # operator → (first version of the new form, the step to it)
    **dict.fromkeys(("Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor"), ((7, align),)),
    **dict.fromkeys(
        (
            *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
            *("ReduceProd", "ReduceSumSquare"),
        ),
        _REDUCTION,
    ),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), ((13, flat_softmax),)),
    "Affine": ((10, affine),),
    "BatchNormalization": ((7, drop("is_test")), (9, per_position), (14, first_output)),
    "Cast": ((6, cast_target),),
    "Clip": ((11, clip_bounds),),
    "Concat": ((4, fill(axis=1)),),
    "Crop": ((10, cropped_image),),
    "DFT": ((20, transform_axis),),
    "Dropout": ((12, drop("is_test", "ratio")),),
    "DynamicSlice": ((10, rename("Slice")),),
    "GRU": ((3, fill(direction="forward")), _RECURRENT),
    "Gemm": ((7, drop("broadcast")),),
    "GlobalLpPool": ((2, integer_power),),
    "GridSample": ((20, sampling_mode),),
    "GroupNormalization": ((21, per_channel),),
    "ImageScaler": ((10, scaled_image),),
    "LSTM": (_RECURRENT,),
    "LpPool": ((2, integer_power),),
    "MeanVarianceNormalization": ((9, normalised_map),),
    "PRelu": ((7, slope_per_channel),),
    "Pad": ((2, old_pads), (11, pad_amounts)),
    "ParametricSoftplus": ((10, scaled_inside_and_out("Softplus")),),
    "RNN": (_RECURRENT,),
    "ReduceSum": ((13, as_input("axes", 1)),),
    "Reshape": ((5, target_shape),),
    "Resize": ((11, resize_as_before), (13, nearest_of_tensorflow)),
    "RoiAlign": ((16, fill(coordinate_transformation_mode="output_half_pixel")),),
    "Scale": ((10, scaled),),
    "ScaledTanh": ((10, scaled_inside_and_out("Tanh")),),
    "Scan": ((9, impossible("its inputs were others")),),
    "Scatter": ((11, rename("ScatterElements")),),
    "Selu": ((6, fill(alpha=1.6732, gamma=1.0507)),),
    "Slice": ((10, slice_bounds),),
    "Split": ((13, as_input("split", 1)), (18, count_parts)),
    "Squeeze": ((13, as_input("axes", 1)),),
    "Tile": ((6, impossible("its repeats were one number and an axis")),),
    "TopK": ((10, how_many),),
    "Unsqueeze": ((13, as_input("axes", 1)),),
    "Upsample": ((7, two_scales), (9, upsample_scales), (10, rename("Resize"))),
}

LOWER: dict[str, tuple[int, Rule]] = {  # operator → the version after opset 21 that added more than types; the way back
    "DequantizeLinear": (23, dequantized_type),
    "Mod": (28, floored_remainder),
    "SpaceToDepth": (28, columns_first),
}

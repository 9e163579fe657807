"""Fold what scales and shifts the channels behind a convolution into the convolution.

BatchNormalization, a bias that stands apart, and the same written as Mul, Add, Sub, Div and Neg, as tf2onnx writes a
BatchNorm; with transposes, casts and axes of length 1 between. Works on onnx-ir graphs; knows nothing of files. Exact:
comparison A (converters.parity) proves it each time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from filterscope.converters.normal_form.ir_values import constant, initializer
from filterscope.converters.normal_form.nonlinearities import is_hard_sigmoid
from filterscope.converters.operator_facts import CONVOLUTIONS

DEFAULT_EPSILON = 1e-5  # BatchNormalization's, by the ONNX specification
CANCELLED = 1e3  # times the result: shifts that leave so little of themselves are not exact in float32
FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE)  # casts between these lose nothing that the convolution gave
Layout = tuple[int | None, ...]  # of each axis of a value, the convolution's axis that it is; None: of length 1, added
Affine = tuple[np.ndarray, np.ndarray]  # scale and shift of each channel, (C,) float64


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A node behind a convolution that is the only reader of what stands before it."""

    node: ir.Node
    affine: Affine | None  # None: it hands its input on in another layout or type
    layout: Layout  # of its output
    dtype: ir.DataType

    @property
    def output(self) -> ir.Value:
        """The value that the node writes."""
        return self.node.outputs[0]


def fold_into_convolutions(model: ir.Model) -> tuple[list[str], frozenset[str]]:
    """Fold affine maps of single channels into the convolution before them.

    Only where the convolution feeds nothing else. Its output takes over the name of the value it now computes, so
    that the value can still be found in the original file. Where the affine map acts on another layout (NHWC), the
    value of that name stands behind what is left of the way to it, and the convolution's own is called
    NAME::channels_first.

    Returns:
        Notes, a sentence each, and the names of the nodes into which a BatchNorm went, in whatever spelling.
    """
    counts: Counter[str] = Counter()
    normalised: set[str] = set()
    for conv in list(model.graph):
        if conv.op_type not in CONVOLUTIONS or conv.domain:
            continue
        steps = _steps(conv)
        if not any(step.affine is not None for step in steps):
            continue
        kinds = [step.node.op_type for step in steps if step.affine is not None]
        if not _fold(model, conv, steps):
            continue
        if "BatchNormalization" in kinds or _is_batch_norm(steps):
            normalised.add(str(conv.name))
        if all(kind in ("Add", "Sum", "BatchNormalization") for kind in kinds):
            counts["BatchNorm"] += kinds.count("BatchNormalization")
            counts["bias"] += len(kinds) - kinds.count("BatchNormalization")
        else:
            counts["affine"] += 1
    sentences = {
        "BatchNorm": "BatchNorms were folded into the convolution before them.",
        "bias": "biases that stood apart were folded into their convolution.",
        "affine": "convolutions took in the factors and shifts of each channel that stood behind them.",
    }
    return [f"{counts[kind]} {rest}" for kind, rest in sentences.items() if counts[kind]], frozenset(normalised)


def _is_batch_norm(steps: Sequence[Step]) -> bool:
    """Whether a chain has a factor of each channel and a shift of each channel, as a written-out BatchNorm."""
    affines = [step.affine for step in steps if step.affine is not None]
    varying = [[not _is_one_number(part) for part in affine] for affine in affines]
    return any(scale for scale, _ in varying) and any(shift for _, shift in varying)


def _steps(conv: ir.Node) -> list[Step]:
    """The nodes behind a convolution up to the last that can be folded, and what belongs to it behind."""
    weight = constant(conv.inputs[1])
    if weight is None or (_bias(conv) is None and len(conv.inputs) > 2 and conv.inputs[2] is not None):
        return []
    dtype = ir.DataType.from_numpy(weight.dtype)
    layout: Layout = tuple(range(weight.ndim))
    value, steps = conv.outputs[0], list[Step]()
    while (reader := _only_reader(value)) is not None:
        step = _step(reader, value, layout, dtype=dtype, channels=_output_channels(conv, weight))
        if step is None:
            break
        steps.append(step)
        value, layout, dtype = step.output, step.layout, step.dtype
    steps = steps[: _before_nonlinearity(steps, reader)]
    last = max((index for index, step in enumerate(steps) if step.affine is not None), default=-1)
    return steps[: _end(steps, last, tuple(range(weight.ndim)), ir.DataType.from_numpy(weight.dtype)) + 1]


def _end(steps: Sequence[Step], last: int, layout: Layout, dtype: ir.DataType) -> int:
    """The step up to which nodes go: the first from the last affine one on that gives the convolution's own layout and
    type; otherwise the first that gives its type; otherwise the last affine one."""
    behind = range(max(last, 0), len(steps))
    same = [index for index in behind if steps[index].dtype == dtype]
    whole = [index for index in same if steps[index].layout == layout]
    return next(iter([*whole, *same]), last) if last >= 0 else last


def _only_reader(value: ir.Value) -> ir.Node | None:
    """The one node that reads a value, once and in the same graph; None for a graph's output too."""
    consumers, producer = value.consumers(), value.producer()
    if value.is_graph_output() or len(consumers) != 1 or len(value.uses()) != 1 or producer is None:
        return None
    return consumers[0] if consumers[0].graph is producer.graph else None


def _step(node: ir.Node, value: ir.Value, layout: Layout, *, dtype: ir.DataType, channels: int) -> Step | None:
    """What a reader does with a value; None where it is neither affine for each channel nor hands it on."""
    if node.domain or any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return None
    handed_on = _handed_on(node, value, layout, dtype)
    if handed_on is not None:
        return Step(node, None, *handed_on)
    affine = _affine(node, value, layout, channels)
    return None if affine is None else Step(node, affine, layout, dtype)


def _handed_on(node: ir.Node, value: ir.Value, layout: Layout, dtype: ir.DataType) -> tuple[Layout, ir.DataType] | None:
    """Layout and type behind a node that changes no number; None where it does, or where the channels are lost."""
    if not node.inputs or node.inputs[0] is not value:
        return None
    if node.op_type == "Identity" or (node.op_type == "Dropout" and _is_idle(node)):
        return layout, dtype
    if node.op_type == "Cast":
        kind = ir.DataType(node.attributes["to"].as_int())
        return (layout, kind) if kind in FLOATS and dtype in FLOATS else None
    if node.op_type == "Transpose":
        order = node.attributes.get("perm")
        axes = reversed(range(len(layout))) if order is None else order.as_ints()
        return tuple(layout[axis] for axis in axes), dtype
    if node.op_type in ("Squeeze", "Unsqueeze"):
        moved = _with_axes(node, layout)
    elif node.op_type in ("Reshape", "Flatten"):
        moved = _with_shape(node, value, layout)
    else:
        return None
    return None if moved is None or 1 not in moved else (moved, dtype)


def _is_idle(dropout: ir.Node) -> bool:
    training = dropout.inputs[2] if len(dropout.inputs) > 2 else None
    flag = constant(training)
    return training is None or (flag is not None and not flag.any())


def _with_axes(node: ir.Node, layout: Layout) -> Layout | None:
    """The layout behind a Squeeze or an Unsqueeze of constant axes."""
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if axes is None:
        return None
    rank = len(layout) + (axes.size if node.op_type == "Unsqueeze" else 0)
    places = {int(axis) % rank for axis in axes.reshape(-1)}
    if node.op_type == "Squeeze":
        return tuple(axis for place, axis in enumerate(layout) if place not in places)
    rest = iter(layout)
    return tuple(None if place in places else next(rest) for place in range(rank))


def _with_shape(node: ir.Node, value: ir.Value, layout: Layout) -> Layout | None:
    """The layout behind a node that does no more than add axes of length 1 and take such away, by known shapes."""
    if value.shape is None or node.outputs[0].shape is None:
        return None
    before, after = list(value.shape), list(node.outputs[0].shape)
    long = [(extent, axis) for extent, axis in zip(before, layout, strict=True) if extent != 1]
    if [extent for extent, _ in long] != [extent for extent in after if extent != 1]:
        return None
    # An extent without a name may be 1 or anything; the batch alone may be unknown, and then stays where it is.
    if any(not isinstance(extent, int) and getattr(extent, "value", None) is None for extent, _ in long):
        return None
    axes = iter(axis for _, axis in long)
    short = {axis for extent, axis in zip(before, layout, strict=True) if extent == 1}
    moved = tuple(next(axes) if extent != 1 else None for extent in after)
    if 1 in short:  # one channel: its axis is any of the new ones of length 1
        return None
    return moved


def _affine(node: ir.Node, value: ir.Value, layout: Layout, channels: int) -> Affine | None:
    """Scale and shift that a node applies to each channel of a value; else None."""
    if node.op_type == "BatchNormalization":
        return _batch_norm(node, value, channels) if layout.index(1) == 1 else None
    if node.op_type == "Neg":
        return -np.ones(channels), np.zeros(channels)
    if node.op_type not in ("Add", "Sum", "Sub", "Mul", "Div"):
        return None
    others = [_per_channel(other, value, layout, channels) for other in node.inputs if other is not value]
    if len(others) != len(node.inputs) - 1 or any(other is None for other in others):
        return None
    numbers = [other for other in others if other is not None]
    ones, zeros, first = np.ones(channels), np.zeros(channels), node.inputs[0] is value
    if node.op_type in ("Add", "Sum"):
        return ones, np.sum([zeros, *numbers], axis=0)
    if node.op_type == "Sub":
        return (ones, -numbers[0]) if first else (-ones, numbers[0])
    if node.op_type == "Mul":
        return numbers[0], zeros
    with np.errstate(divide="ignore"):
        return (1 / numbers[0], zeros) if first else None


def _batch_norm(node: ir.Node, value: ir.Value, channels: int) -> Affine | None:
    training = node.attributes.get("training_mode")
    if node.inputs[0] is not value or (training is not None and training.as_int() == 1):
        return None
    parameters = [constant(parameter) for parameter in node.inputs[1:5]]
    if any(array is None or array.shape != (channels,) for array in parameters):
        return None
    gamma, beta, mean, variance = (np.asarray(array, np.float64) for array in parameters)
    attribute = node.attributes.get("epsilon")
    epsilon = DEFAULT_EPSILON if attribute is None else attribute.as_float()
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = gamma / np.sqrt(variance + epsilon)
        return scale, beta - mean * scale


def _per_channel(other: ir.Value | None, value: ir.Value, layout: Layout, channels: int) -> np.ndarray | None:
    """The number, (C,) float64, that a constant beside a value has for each of its channels; else None."""
    array = constant(other)
    if array is None or array.ndim > len(layout):
        return None
    aligned = array.reshape((1,) * (len(layout) - array.ndim) + array.shape)
    place = layout.index(1)
    for axis, extent in enumerate(aligned.shape):
        if axis == place or extent == 1:
            continue
        length = None if value.shape is None else value.shape[axis]
        first = aligned.take([0], axis)
        if length != extent or not np.array_equal(aligned, np.broadcast_to(first, aligned.shape)):
            return None
        aligned = first
    if aligned.shape[place] not in (1, channels):
        return None
    return np.broadcast_to(aligned.reshape(-1).astype(np.float64), (channels,))


def _before_nonlinearity(steps: Sequence[Step], reader: ir.Node | None) -> int:
    """How many steps stand before the non-linearity: a sum and a product may be the beginning of its spelling."""
    if reader is None or reader.domain:
        return len(steps)
    affines = [index for index, step in enumerate(steps) if step.affine is not None]
    if not affines:
        return len(steps)
    if reader.op_type == "Round" and steps[affines[-1]].node.op_type in ("Div", "Mul"):  # to whole steps of 8 bits
        return affines[-1]
    # 1 ÷ (1 + exp(−x)) is a sigmoid of x, −softplus(−x) its logarithm.
    if reader.op_type in ("Exp", "Softplus") and _number(steps[affines[-1]].affine) == (-1.0, 0.0):
        return affines[-1]
    high = _ceiling(reader)
    scale, shift = 1.0, 0.0
    for index in reversed(affines) if high is not None else ():
        number = _number(steps[index].affine)
        if number is None:
            break
        scale, shift = scale * number[0], shift + scale * number[1]
        if high is not None and is_hard_sigmoid(scale, shift, high):
            return index
    return len(steps)


def _number(affine: Affine | None) -> tuple[float, float] | None:
    """A scale and a shift that are the same for all channels."""
    if affine is None or not all(_is_one_number(part) for part in affine):
        return None
    return float(affine[0][0]), float(affine[1][0])


def _is_one_number(part: np.ndarray) -> bool:
    return bool((part == part[0]).all())


def _ceiling(node: ir.Node) -> float | None:
    """The upper end of a Clip from 0 up, also of one that is written as Relu and Min in either order."""
    ends = {"low": -math.inf, "high": math.inf}
    for each in _limits(node):
        bounds = [constant(value) for value in (*each.inputs, None, None)[1:3]]
        if each.op_type == "Relu":
            ends["low"] = 0.0
        elif each.op_type == "Clip" and all(bound is None or bound.size == 1 for bound in bounds):
            low, high = (None if bound is None else float(bound.reshape(-1)[0]) for bound in bounds)
            ends = {"low": ends["low"] if low is None else low, "high": ends["high"] if high is None else high}
        else:
            numbers = [array for array in map(constant, each.inputs) if array is not None and array.size == 1]
            if len(numbers) != 1 or len(each.inputs) != 2:
                return None
            ends["low" if each.op_type == "Max" else "high"] = float(numbers[0].reshape(-1)[0])
    return ends["high"] if ends["low"] == 0.0 and math.isfinite(ends["high"]) else None


def _limits(node: ir.Node) -> Iterator[ir.Node]:
    """A node that limits its input, and a second such one that reads nothing but the first's output."""
    limiting = ("Relu", "Clip", "Min", "Max")
    if node.op_type in limiting:
        yield node
        follower = _only_reader(node.outputs[0])
        if follower is not None and follower.op_type in limiting and follower.op_type != node.op_type:
            yield follower


def _bias(conv: ir.Node) -> np.ndarray | None:
    return constant(conv.inputs[2]) if len(conv.inputs) > 2 else None


def _output_channels(conv: ir.Node, weight: np.ndarray) -> int:
    group = conv.attributes.get("group")
    groups = 1 if group is None else group.as_int()
    return int(weight.shape[0] if conv.op_type == "Conv" else weight.shape[1] * groups)


def _fold(model: ir.Model, conv: ir.Node, steps: Sequence[Step]) -> bool:
    """Fold all affine steps at once, rounded once.

    Returns:
        False where that is not what the file computes: beyond the kernel's number format, or where shifts cancel that
        are so large that the file rounds away what the convolution gave.
    """
    weight, bias = constant(conv.inputs[1]), _bias(conv)
    assert weight is not None
    channels = _output_channels(conv, weight)
    scale = np.ones(channels)
    shift = np.zeros(channels) if bias is None else bias.astype(np.float64)
    largest = np.abs(shift)  # of the shifts on the way that were rounded to float32, in units of the result
    with np.errstate(all="ignore"):
        for step in steps:
            if step.affine is not None:
                scale, shift = scale * step.affine[0], shift * step.affine[0] + step.affine[1]
                largest = largest * np.abs(step.affine[0])
                largest = np.maximum(largest, np.abs(shift) if step.dtype == ir.DataType.FLOAT else 0)
        scaled, shifted = _scaled(conv, weight, scale).astype(weight.dtype), shift.astype(weight.dtype)
        size = np.abs(shift).max() + np.abs(scaled).sum(dtype=np.float64) / channels
    if not (np.isfinite(scale).all() and np.isfinite(scaled).all() and np.isfinite(shifted).all()):
        return False
    if largest.max() > CANCELLED * size:
        return False
    name = steps[-1].output.name
    conv.replace_input_with(1, initializer(model, f"{name}_kernel_folded", scaled))
    if len(conv.inputs) < 3:
        conv.resize_inputs(3)
    conv.replace_input_with(2, initializer(model, f"{name}_bias_folded", shifted))
    _take_out(model, conv, steps)
    return True


def _scaled(conv: ir.Node, weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """A kernel with each output channel's part scaled, in float64."""
    if conv.op_type == "Conv":
        return np.asarray(weight * scale.reshape(-1, *(1,) * (weight.ndim - 1)))
    # (C_in, C_out / groups, …): input channels of group g meet output channels of group g
    groups = len(scale) // weight.shape[1]
    by_group = weight.reshape(groups, -1, *weight.shape[1:]).astype(np.float64)
    factors = scale.reshape(groups, 1, weight.shape[1], *(1,) * (weight.ndim - 2))
    return np.asarray((by_group * factors).reshape(weight.shape))


def _take_out(model: ir.Model, conv: ir.Node, steps: Sequence[Step]) -> None:
    """Remove what was folded, and let the values that are left have names of the values they now hold."""
    result, end = conv.outputs[0], steps[-1]
    own = tuple(range(len(end.layout)))
    weight = conv.inputs[1]
    is_own_type = weight is not None and end.dtype == weight.dtype
    left = [
        step
        for step in steps
        if step.affine is None
        and not (end.layout == own and is_own_type)
        and not (step.node.op_type == "Cast" and is_own_type)
        and step.node.op_type not in ("Identity", "Dropout")
    ]
    name = end.output.name
    if not left:
        result.shape, result.type = end.output.shape, end.output.type
    last = left[-1].output if left else result
    end.output.replace_all_uses_with(last, replace_graph_outputs=True)
    removed = [step.node for step in steps if step not in left]
    before = result
    for step in left:
        step.node.replace_input_with(0, before)
        if is_own_type:
            step.output.type = result.type
        before = step.output
    for node in reversed(removed):
        model.graph.remove(node, safe=True)
    for index, step in enumerate(left[:-1]):
        step.output.name = f"{name}::{index}"
    result.name = f"{name}::channels_first" if left else name
    if left:
        last.name = name

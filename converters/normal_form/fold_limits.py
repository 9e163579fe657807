"""Limits on constant folding: a node's size and divisions are judged before it is evaluated.

A file of some hundred bytes can name a constant of any size, and an integer division that ends the process: the
processor raises an exception of its own at x / 0 and at the least integer / −1. Works on onnx-ir graphs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from filterscope.converters.errors import LimitError, setting
from filterscope.converters.normal_form.free_batch import BROADCAST
from filterscope.converters.normal_form.ir_values import constant

CONSTANT_BYTES = 1 << 28  # 256 MiB: of one constant, unless the file itself holds as much
TOTAL_BYTES = 1 << 29  # of all that is evaluated in one network, likewise
RESIZED = 1 << 22  # elements that a Resize of a constant may give: the evaluator takes a microsecond or more for each
GROWTH = 16  # times the bytes that the file holds: 4 bits become 64
SHARE = 16  # of the memory that the user lets the opening use, what one constant may take
ADVICE = (
    f"far more than the file holds; if you trust its author, {setting('limit_memory', '16G')} allows larger constants"
)
ELEMENT = 8  # bytes of one element at most, but for complex128


class FoldLimits:
    """How large the folded constants of one network may become.

    Args:
        stored: bytes of all constants that the file holds.
        memory: bytes that the user lets the opening use; 0 where he does not say.
    """

    def __init__(self, stored: int, memory: int = 0) -> None:
        self.one = max(CONSTANT_BYTES, GROWTH * stored, memory // SHARE)
        self.total = max(TOTAL_BYTES, 2 * self.one)
        self.evaluated = 0

    def check(self, node: ir.Node) -> None:
        """Judge a node whose inputs are constants.

        Raises:
            LimitError: it would end the process, or give more than the limit.
        """
        check_division(node)
        elements = result_size(node)
        if elements is None:
            return
        size = elements * _element_bytes(node)
        if size > self.one or (node.op_type in ("Resize", "Upsample") and elements > RESIZED):
            raise LimitError(f"{_called(node)} would make a constant of {elements:,} numbers, {ADVICE}")
        self.evaluated += size
        if self.evaluated > self.total:
            raise LimitError(f"{_called(node)}: its constants come to more than {self.total >> 20} MiB, {ADVICE}")


def check_division(node: ir.Node) -> None:
    """Refuse an integer division that the processor cannot do.

    Raises:
        LimitError: a constant divisor holds 0, or −1 under the least integer of its type; or that integer is divided by
            an unknown value, which may be −1.
    """
    if node.op_type not in ("Div", "Mod") or node.domain or len(node.inputs) != 2:
        return
    divisor = constant(node.inputs[1])
    if divisor is None:
        least = constant(node.inputs[0])
        if least is not None and least.dtype in (np.int32, np.int64) and (least == np.iinfo(least.dtype).min).any():
            raise LimitError(f"{_called(node)} divides the least integer of its type by numbers that may be -1")
        return
    if divisor.dtype.kind not in "iu":
        return
    if (divisor == 0).any():
        raise LimitError(f"{_called(node)} divides integers by 0")
    dividend = constant(node.inputs[0])
    if divisor.dtype.kind != "i" or dividend is None or dividend.dtype != divisor.dtype:
        return
    if (divisor == -1).any() and (dividend == np.iinfo(divisor.dtype).min).any():
        raise LimitError(f"{_called(node)} divides the least integer of its type by -1, which has no result")


def check_divisions(model: ir.Model) -> None:
    """Check every division of the graph, those of the picture's values by constants among them."""
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        check_division(node)


def stored_bytes(model: ir.Model) -> int:
    """Bytes of all constants that a model holds."""
    total = sum(_bytes(value.const_value) for value in model.graph.initializers.values())
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                total += _bytes(attribute.as_tensor())
    return total


def _bytes(tensor: ir.TensorProtocol | None) -> int:
    return 0 if tensor is None else int(tensor.nbytes)


def _element_bytes(node: ir.Node) -> int:
    dtype = node.outputs[0].dtype
    return ELEMENT if dtype is None or dtype == ir.DataType.STRING else max(1, math.ceil(dtype.itemsize))


def result_size(node: ir.Node) -> int | None:
    """Elements of a node's first output, in numbers that do not overflow; None where it cannot be told.

    Inference is not believed where an operator's input tells its size: it counts in 64 bits.
    """
    rule = SIZES.get(node.op_type) if not node.domain else None
    if rule is not None:
        size = rule(node)
        if size is not None:
            return size
    shape = node.outputs[0].shape
    if shape is None or not all(isinstance(extent, int) for extent in shape):
        return _largest_broadcast(node)
    return math.prod(max(0, int(extent)) for extent in shape if isinstance(extent, int))


def _largest_broadcast(node: ir.Node) -> int | None:
    """Where nothing was inferred: the inputs against one another, axis by axis."""
    shapes = [array.shape for value in node.inputs if (array := constant(value)) is not None]
    if not shapes or node.op_type not in ELEMENTWISE:
        return None
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return math.prod(max(map(int, extents)) for extents in zip(*padded, strict=True))


def _numbers(node: ir.Node, index: int) -> list[float] | None:
    array = constant(node.inputs[index]) if len(node.inputs) > index else None
    return None if array is None or array.dtype.kind not in "iuf" else [float(x) for x in array.reshape(-1).tolist()]


def _integers(node: ir.Node, index: int) -> list[int] | None:
    array = constant(node.inputs[index]) if len(node.inputs) > index else None
    return None if array is None or array.dtype.kind not in "iu" else [int(x) for x in array.reshape(-1).tolist()]


def _shape(node: ir.Node, index: int) -> tuple[int, ...] | None:
    array = constant(node.inputs[index]) if len(node.inputs) > index else None
    return None if array is None else tuple(array.shape)


def _filled(node: ir.Node) -> int | None:
    extents = _integers(node, 0)
    return None if extents is None else math.prod(extents)


def _expanded(node: ir.Node) -> int | None:
    shape, target = _shape(node, 0), _integers(node, 1)
    if shape is None or target is None:
        return None
    rank = max(len(shape), len(target))
    pairs = zip((1,) * (rank - len(shape)) + shape, [1] * (rank - len(target)) + target, strict=True)
    return math.prod(max(pair) for pair in pairs)


def _tiled(node: ir.Node) -> int | None:
    shape, repeats = _shape(node, 0), _integers(node, 1)
    return None if shape is None or repeats is None else math.prod(shape) * math.prod(repeats)


def _counted(node: ir.Node) -> int | None:
    ends = [_numbers(node, index) for index in range(3)]
    if any(end is None or len(end) != 1 for end in ends):
        return None
    start, limit, delta = (end[0] for end in ends if end)
    if not delta or not all(map(math.isfinite, (start, limit, delta))):
        raise LimitError(f"{_called(node)} counts from {start} to {limit} in steps of {delta}, without end")
    return max(0, math.ceil((limit - start) / delta))


def _scaled(node: ir.Node) -> int | None:
    """Resize and Upsample: by scales (input 1 of Upsample and of old Resizes, 2 since opset 11) or to sizes."""
    shape = _shape(node, 0)
    if shape is None:
        return None
    sizes = _integers(node, 3)
    if sizes:
        return math.prod(sizes) * (1 if len(sizes) == len(shape) else math.prod(shape))
    scales = _numbers(node, 2) if len(node.inputs) > 2 else _numbers(node, 1)
    if not scales:
        return None
    factor = math.prod(max(0.0, scale) for scale in scales)
    if not math.isfinite(factor):
        raise LimitError(f"{_called(node)} scales by {factor}")
    return int(math.prod(shape) * factor)


def _padded(node: ir.Node) -> int | None:
    shape, pads, axes = _shape(node, 0), _integers(node, 1), _integers(node, 3)
    if shape is None or pads is None or len(pads) % 2:
        return None
    half = len(pads) // 2
    grown = list(shape)
    for axis, begin, end in zip(axes or range(half), pads[:half], pads[half:], strict=False):
        if -len(shape) <= axis < len(shape):
            grown[axis] = max(0, grown[axis] + begin + end)
    return math.prod(grown)


def _one_hot(node: ir.Node) -> int | None:
    shape, depth = _shape(node, 0), _numbers(node, 1)
    return None if shape is None or not depth else int(math.prod(shape) * max(1.0, depth[0]))


def _gathered(node: ir.Node) -> int | None:
    data, indices = _shape(node, 0), _shape(node, 1)
    if data is None or indices is None:
        return None
    attribute = node.attributes.get("axis")
    axis = 0 if attribute is None else attribute.as_int()
    if not -len(data) <= axis < len(data):
        return None
    rest = [extent for index, extent in enumerate(data) if index != axis % len(data)]
    return math.prod(rest) * math.prod(indices)


def _multiplied(node: ir.Node) -> int | None:
    """At most one output element for each pair of rows and columns."""
    left, right = _shape(node, 0), _shape(node, 1)
    if not left or not right:
        return None
    if len(left) <= 2 and len(right) <= 2:
        return int((left[0] if len(left) > 1 else 1) * (right[1] if len(right) > 1 else 1))
    rank = max(len(left), len(right)) - 2
    batches = zip(*((1,) * (rank - len(each) + 2) + each[:-2] for each in (left, right)), strict=True)
    return int(math.prod(max(pair) for pair in batches) * (left[-2] if len(left) > 1 else 1) * right[-1])


SIZES: dict[str, Callable[[ir.Node], int | None]] = {
    "ConstantOfShape": _filled,
    "Expand": _expanded,
    "Tile": _tiled,
    "Range": _counted,
    "Resize": _scaled,
    "Upsample": _scaled,
    "Pad": _padded,
    "OneHot": _one_hot,
    "Gather": _gathered,
    "MatMul": _multiplied,
}
ELEMENTWISE = frozenset(BROADCAST) - {"MatMul", "Expand"}


def _called(node: ir.Node) -> str:
    return f"{node.op_type} {(node.name or node.outputs[0].name or '')[:60]!r}"

"""To and from quantised integers.

Rounding has the derivative 0 almost everywhere, so that no gradient would pass a quantised activation. It is given the
one of the identity instead, as long as the value lies in the range that the integers can hold, and 0 beyond (the
straight-through estimator: Bengio, Léonard & Courville 2013, arXiv:1308.3432); so is Round, with which other files say
the same in floats. torch has no gradient for integer
tensors either: where all that comes of a quantised value is dequantised again, its integers are held as floats.
"""

import weakref
from typing import TYPE_CHECKING, Any

import torch

from filterscope.converters.operator_facts import PASS_INTEGERS
from filterscope.converters.torch_import.ops.common import attributes, bind, refuse
from filterscope.converters.torch_import.ops.values import DTYPES

if TYPE_CHECKING:
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.onnx_node import OnnxNode
    from onnx2torch.utils.common import OperationConverterResult

_readers: "weakref.WeakKeyDictionary[OnnxGraph, dict[str, list[OnnxNode]]]" = weakref.WeakKeyDictionary()


def dequantize_linear(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    axis, block = attributes(node).get("axis", 1), attributes(node).get("block_size", 0)
    return bind(node, graph, _dequantize, axis=axis, block=block)


def _dequantize(
    x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor | None = None, *, axis: int, block: int
) -> torch.Tensor:
    step = _along(scale, x, axis, block)
    numbers = x.to(scale.dtype)
    if zero_point is None:
        return numbers * step
    return (numbers - _along(zero_point.to(scale.dtype), x, axis, block)) * step


def quantize_linear(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    given = attributes(node)
    target = given.get("output_dtype", 0)
    if target and target not in DTYPES:
        refuse(node, f"quantises to ONNX data type {target}, which torch lacks")
    return bind(
        node,
        graph,
        _quantize,
        axis=given.get("axis", 1),
        block=given.get("block_size", 0),
        dtype=DTYPES[target] if target else torch.uint8,
        as_floats=_is_dequantized(node.output_values[0], graph),
    )


def _quantize(
    x: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor | None = None,
    *,
    axis: int,
    block: int,
    dtype: torch.dtype,
    as_floats: bool,
) -> torch.Tensor:
    levels = _straight_through(x / _along(scale, x, axis, block))
    if zero_point is not None:
        dtype = zero_point.dtype
        levels = levels + _along(zero_point.to(x.dtype), x, axis, block)
    limits = torch.iinfo(dtype)
    levels = levels.clamp(limits.min, limits.max)
    return levels if as_floats else levels.to(dtype)


class _Rounding(torch.autograd.Function):
    """Half to even; the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0]


def round_(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _straight_through)


def _straight_through(x: torch.Tensor) -> torch.Tensor:
    rounded: torch.Tensor = _Rounding.apply(x)  # type: ignore[no-untyped-call]
    return rounded


def _is_dequantized(value: str, graph: "OnnxGraph") -> bool:
    """Whether all that reads a value is DequantizeLinear, at once or after operators that hand the integers on."""
    if graph not in _readers:
        readers: dict[str, list[OnnxNode]] = {}
        for node in graph.nodes.values():
            for name in node.input_values:
                readers.setdefault(name, []).append(node)
        _readers[graph] = readers
    if value in graph.output_values:
        return False
    return all(
        reader.operation_type == "DequantizeLinear"
        or (reader.operation_type in PASS_INTEGERS and _is_dequantized(reader.output_values[0], graph))
        for reader in _readers[graph].get(value, [])
    )


def dynamic_quantize_linear(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _dynamic_quantize)


def _dynamic_quantize(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """To the 256 levels between the least and the largest value, 0 among them; and the scale and the zero point."""
    least, largest = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = (largest - least) / 255
    safe = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero_point = (-least / safe).round().clamp(0, 255)
    levels = ((x / safe).round() + zero_point).clamp(0, 255)
    return levels.to(torch.uint8), scale, zero_point.to(torch.uint8)


def _along(parameter: torch.Tensor, x: torch.Tensor, axis: int, block: int) -> torch.Tensor:
    """A scale or zero point in a shape that broadcasts over `x`: one for all, one per index of `axis`, or per block."""
    if block:
        return parameter.repeat_interleave(block, dim=axis).narrow(axis, 0, x.shape[axis])
    if parameter.numel() == 1:
        return parameter.reshape(())
    sizes = [1] * x.ndim
    sizes[axis] = -1
    return parameter.reshape(sizes)

"""Operators that make values or change their type: constants, casts, ranges, and to and from quantised integers."""

from typing import TYPE_CHECKING

import torch
from torch import nn

from converters.ops.common import attributes, bind, constant, refuse, result

if TYPE_CHECKING:
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.onnx_node import OnnxNode
    from onnx2torch.utils.common import OperationConverterResult

_DTYPES = {  # onnx.TensorProto.DataType → torch
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    4: torch.uint16,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    12: torch.uint32,
    13: torch.uint64,
    16: torch.bfloat16,
}


class Value(nn.Module):
    """A constant, held as a buffer."""

    value: torch.Tensor

    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)

    def forward(self) -> torch.Tensor:
        return self.value


def constant_(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    given = attributes(node)
    if "value" in given:
        value = given["value"].to_torch()
    elif "value_float" in given or "value_floats" in given:
        value = torch.tensor(given.get("value_float", given.get("value_floats")), dtype=torch.float32)
    elif "value_int" in given or "value_ints" in given:
        value = torch.tensor(given.get("value_int", given.get("value_ints")), dtype=torch.int64)
    else:
        refuse(node, f"holds a {', '.join(given)}, which is no tensor of numbers")
    return result(node, Value(value), ())


def constant_of_shape(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    filling = attributes(node).get("value")
    value = torch.zeros(1) if filling is None else filling.to_torch()
    return bind(node, graph, _filled, value=value.item(), dtype=value.dtype)


def _filled(shape: torch.Tensor, *, value: float, dtype: torch.dtype) -> torch.Tensor:
    return torch.full(shape.tolist(), value, dtype=dtype, device=shape.device)


def identity(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return result(node, nn.Identity(), node.input_values)


def dropout(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    training = constant(node, graph, 2)
    if training is not None and training.item():
        refuse(node, "drops at random (training_mode is true); export the network in inference mode")
    module = _DropoutWithMask() if len(node.output_values) > 1 else nn.Identity()
    return result(node, module, node.input_values[:1])


class _DropoutWithMask(nn.Module):
    """Nothing dropped, and the mask that says so."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, torch.ones_like(x, dtype=torch.bool)


def cast(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    target = attributes(node)["to"]
    if target not in _DTYPES:
        refuse(node, f"casts to ONNX data type {target}, which torch lacks")
    return bind(node, graph, _cast, dtype=_DTYPES[target])


def _cast(x: torch.Tensor, *, dtype: torch.dtype) -> torch.Tensor:
    return x.to(dtype)


def cast_like(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _cast_like)


def _cast_like(x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return x.to(other.dtype)


def range_(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _range)


def _range(start: torch.Tensor, limit: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    return torch.arange(start.item(), limit.item(), step.item(), dtype=start.dtype, device=start.device)


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
    if target and target not in _DTYPES:
        refuse(node, f"quantises to ONNX data type {target}, which torch lacks")
    dtype = _DTYPES[target] if target else torch.uint8
    return bind(node, graph, _quantize, axis=given.get("axis", 1), block=given.get("block_size", 0), dtype=dtype)


def _quantize(
    x: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor | None = None,
    *,
    axis: int,
    block: int,
    dtype: torch.dtype,
) -> torch.Tensor:
    levels = torch.round(x / _along(scale, x, axis, block))
    if zero_point is not None:
        dtype = zero_point.dtype
        levels = levels + _along(zero_point.to(x.dtype), x, axis, block)
    limits = torch.iinfo(dtype)
    return levels.clamp(limits.min, limits.max).to(dtype)


def _along(parameter: torch.Tensor, x: torch.Tensor, axis: int, block: int) -> torch.Tensor:
    """A scale or zero point in a shape that broadcasts over `x`: one for all, one per index of `axis`, or per block."""
    if block:
        return parameter.repeat_interleave(block, dim=axis).narrow(axis, 0, x.shape[axis])
    if parameter.numel() == 1:
        return parameter.reshape(())
    sizes = [1] * x.ndim
    sizes[axis] = -1
    return parameter.reshape(sizes)

"""Operators that make values or change their type: constants, casts and ranges."""

from typing import TYPE_CHECKING

import torch
from torch import nn

from filterscope.converters.torch_import.ops.common import attributes, bind, constant, refuse, result

if TYPE_CHECKING:
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.onnx_node import OnnxNode
    from onnx2torch.utils.common import OperationConverterResult

DTYPES = {  # onnx.TensorProto.DataType → torch
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
    attrs = attributes(node)
    if "value" in attrs:
        value = attrs["value"].to_torch()
    elif "value_float" in attrs or "value_floats" in attrs:
        value = torch.tensor(attrs.get("value_float", attrs.get("value_floats")), dtype=torch.float32)
    elif "value_int" in attrs or "value_ints" in attrs:
        value = torch.tensor(attrs.get("value_int", attrs.get("value_ints")), dtype=torch.int64)
    else:
        refuse(node, f"holds a {', '.join(attrs)}, which is no tensor of numbers")
    return result(node, Value(value), ())


def constant_of_shape(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    filling = attributes(node).get("value")
    value = torch.zeros(1) if filling is None else filling.to_torch()
    return bind(node, graph, _filled, typed=True, value=value.item(), dtype=value.dtype)


def _filled(shape: torch.Tensor, *, like: torch.Tensor, value: float, dtype: torch.dtype) -> torch.Tensor:
    return torch.full(shape.tolist(), value, dtype=_own(dtype, like), device=shape.device)


def _own(dtype: torch.dtype, like: torch.Tensor) -> torch.dtype:
    """The type that a module computes in where ONNX says `dtype`."""
    return like.dtype if dtype == torch.float32 else dtype


def eye_like(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    attrs = attributes(node)
    target = attrs.get("dtype", 0)
    if target and target not in DTYPES:
        refuse(node, f"makes ONNX data type {target}, which torch lacks")
    return bind(node, graph, _eye, typed=True, diagonal=attrs.get("k", 0), dtype=DTYPES.get(target))


def _eye(x: torch.Tensor, *, like: torch.Tensor, diagonal: int, dtype: torch.dtype | None) -> torch.Tensor:
    rows, columns = (torch.arange(length, device=x.device) for length in x.shape)
    return (columns - rows[:, None] == diagonal).to(x.dtype if dtype is None else _own(dtype, like))


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
    if target not in DTYPES:
        refuse(node, f"casts to ONNX data type {target}, which torch lacks")
    return bind(node, graph, _cast, typed=True, dtype=DTYPES[target])


def _cast(x: torch.Tensor, *, like: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return x.to(_own(dtype, like))


def cast_like(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _cast_like)


def _cast_like(x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return x.to(other.dtype)


def range_(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _range)


def _range(start: torch.Tensor, limit: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    return torch.arange(start.item(), limit.item(), step.item(), dtype=start.dtype, device=start.device)

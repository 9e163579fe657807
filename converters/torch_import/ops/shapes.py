"""Operators that change how elements are arranged, never their values, and those that tell an arrangement."""

import math
from typing import TYPE_CHECKING

import torch

from filterscope.converters.torch_import.ops.common import attributes, bind

if TYPE_CHECKING:
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.onnx_node import OnnxNode
    from onnx2torch.utils.common import OperationConverterResult


def reshape(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    keep_zero = bool(attributes(node).get("allowzero", 0))
    return bind(node, graph, _reshape, numbers=(1,), keep_zero=keep_zero)


def _reshape(x: torch.Tensor, shape: list[int], *, keep_zero: bool) -> torch.Tensor:
    sizes = [x.shape[axis] if size == 0 and not keep_zero else size for axis, size in enumerate(shape)]
    return x.reshape(sizes)


def flatten(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _flatten, axis=attributes(node).get("axis", 1))


def _flatten(x: torch.Tensor, *, axis: int) -> torch.Tensor:
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def transpose(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _transpose, order=attributes(node).get("perm"))


def _transpose(x: torch.Tensor, *, order: list[int] | None) -> torch.Tensor:
    return x.permute(order or tuple(reversed(range(x.ndim))))


def squeeze(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _squeeze, numbers=(1,))


def _squeeze(x: torch.Tensor, axes: list[int] | None = None) -> torch.Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def unsqueeze(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _unsqueeze, numbers=(1,))


def _unsqueeze(x: torch.Tensor, axes: list[int] | int) -> torch.Tensor:
    axes = [axes] if isinstance(axes, int) else axes
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):  # axes count in the result
        x = x.unsqueeze(axis)
    return x


def shape(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _shape, start=attributes(node).get("start", 0), end=attributes(node).get("end"))


def _shape(x: torch.Tensor, *, start: int, end: int | None) -> torch.Tensor:
    return torch.tensor(x.shape[start:end], dtype=torch.int64, device=x.device)


def size(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _size)


def _size(x: torch.Tensor) -> torch.Tensor:
    return torch.tensor(x.numel(), dtype=torch.int64, device=x.device)


def expand(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _expand, numbers=(1,))


def _expand(x: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    whole = torch.broadcast_shapes(x.shape, tuple(sizes))  # type: ignore[no-untyped-call]
    return x.expand(whole)  # either may be the larger, axis by axis


def depth_to_space(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(
        node,
        graph,
        _depth_to_space,
        block=attributes(node)["blocksize"],
        columns_first=attributes(node).get("mode", "DCR") == "CRD",
    )


def _depth_to_space(x: torch.Tensor, *, block: int, columns_first: bool) -> torch.Tensor:
    n, c, h, w = x.shape
    depth = c // block**2
    if columns_first:
        apart = x.reshape((n, depth, block, block, h, w)).permute((0, 1, 4, 2, 5, 3))
    else:
        apart = x.reshape((n, block, block, depth, h, w)).permute((0, 3, 4, 1, 5, 2))
    return apart.reshape(n, depth, h * block, w * block)


def space_to_depth(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _space_to_depth, block=attributes(node)["blocksize"])


def _space_to_depth(x: torch.Tensor, *, block: int) -> torch.Tensor:
    n, c, h, w = x.shape
    apart = x.reshape((n, c, h // block, block, w // block, block)).permute((0, 3, 5, 1, 2, 4))
    return apart.reshape(n, c * block**2, h // block, w // block)

"""Operators that write at given positions, or tell positions."""

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from filterscope.converters.torch_import.ops.common import attributes, bind

if TYPE_CHECKING:
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.onnx_node import OnnxNode
    from onnx2torch.utils.common import OperationConverterResult

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}  # ONNX → torch


def gather_elements(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _gather_elements, axis=attributes(node).get("axis", 0))


def _gather_elements(x: torch.Tensor, indices: torch.Tensor, *, axis: int) -> torch.Tensor:
    return x.gather(axis, _from_start(indices, x.shape[axis]))


def gather_nd(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _gather_nd, batch=attributes(node).get("batch_dims", 0))


def _gather_nd(x: torch.Tensor, indices: torch.Tensor, *, batch: int) -> torch.Tensor:
    """`indices` (B…, …, k) name slices of `x` (B…, …) by its first k axes after the `batch` first, which go along."""
    depth = indices.shape[-1]
    along = [
        torch.arange(length, device=x.device).reshape([-1 if axis == own else 1 for axis in range(indices.ndim - 1)])
        for own, length in enumerate(x.shape[:batch])
    ]
    named = [_from_start(indices[..., axis], x.shape[batch + axis]) for axis in range(depth)]
    return x[(*along, *named)]


def scatter_elements(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    axis, reduction = attributes(node).get("axis", 0), attributes(node).get("reduction", "none")
    return bind(node, graph, _scatter_elements, axis=axis, reduction=reduction)


def _scatter_elements(
    x: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor, *, axis: int, reduction: str
) -> torch.Tensor:
    places = _from_start(indices, x.shape[axis])
    if reduction == "none":
        return x.scatter(axis, places, updates)
    return x.scatter_reduce(axis, places, updates, _REDUCTIONS[reduction])


def scatter_nd(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _scatter_nd, reduction=attributes(node).get("reduction", "none"))


def _scatter_nd(x: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor, *, reduction: str) -> torch.Tensor:
    """`indices` (…, k) name slices of `x` by their first k axes; the slices are written as rows of a flat table."""
    depth = indices.shape[-1]
    table = x.reshape(-1, *x.shape[depth:])
    rows = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=x.device)
    for axis in range(depth):
        rows = rows * x.shape[axis] + _from_start(indices[..., axis], x.shape[axis])
    rows, values = rows.reshape(-1), updates.reshape(-1, *x.shape[depth:])
    if reduction == "none":
        return table.index_copy(0, rows, values).reshape(x.shape)
    places = rows.reshape(-1, *[1] * (values.ndim - 1)).expand_as(values)
    return table.scatter_reduce(0, places, values, _REDUCTIONS[reduction]).reshape(x.shape)


def one_hot(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _one_hot, numbers=(1,), axis=attributes(node).get("axis", -1))


def _one_hot(indices: torch.Tensor, depth: float | list[float], values: torch.Tensor, *, axis: int) -> torch.Tensor:
    """`values` (2,): what stands off, and what stands on; an index outside the depth is on nowhere."""
    count = int(depth[0] if isinstance(depth, list) else depth)
    steps = torch.arange(count, device=indices.device)
    hot = _from_start(indices, count).unsqueeze(-1) == steps
    return torch.where(hot, values[1], values[0]).movedim(-1, axis)


def trilu(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _trilu, numbers=(1,), upper=bool(attributes(node).get("upper", 1)))


def _trilu(x: torch.Tensor, diagonal: int | list[int] | None = None, *, upper: bool) -> torch.Tensor:
    first = diagonal[0] if isinstance(diagonal, list) else diagonal or 0
    return x.triu(first) if upper else x.tril(first)


def non_zero(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _non_zero)


def _non_zero(x: torch.Tensor) -> torch.Tensor:
    return x.nonzero().T


def cumulative_sum(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    attrs = attributes(node)
    exclusive, reverse = bool(attrs.get("exclusive", 0)), bool(attrs.get("reverse", 0))
    return bind(node, graph, _cumulative_sum, numbers=(1,), exclusive=exclusive, reverse=reverse)


def _cumulative_sum(x: torch.Tensor, axis: int | list[int], *, exclusive: bool, reverse: bool) -> torch.Tensor:
    along = axis[0] if isinstance(axis, list) else axis
    ordered = x.flip(along) if reverse else x
    sums = ordered.cumsum(along, dtype=x.dtype)
    if exclusive:  # the sum of what stands before, not with it: everything moves one on
        before = torch.zeros_like(sums.narrow(along, 0, 1))
        sums = torch.cat([before, sums.narrow(along, 0, sums.shape[along] - 1)], dim=along)
    return sums.flip(along) if reverse else sums


def hardmax(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _hardmax, axis=attributes(node).get("axis", -1))


def _hardmax(x: torch.Tensor, *, axis: int) -> torch.Tensor:
    hot = F.one_hot(x.argmax(dim=axis), x.shape[axis])
    return hot.movedim(-1, axis).to(x.dtype)


def _from_start(indices: torch.Tensor, length: int) -> torch.Tensor:
    """Indices of which the negative ones count from the end, all counted from the start, as int64."""
    return torch.where(indices < 0, indices + length, indices).long()

"""Reductions: sums, means, extremes and norms over some axes."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from filterscope.converters.torch_import.ops.common import attributes, bind

if TYPE_CHECKING:
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.onnx_node import OnnxNode
    from onnx2torch.utils.common import OperationConverterResult

_Reduction = Callable[[torch.Tensor, tuple[int, ...], bool], torch.Tensor]


def _reduced(node: "OnnxNode", graph: "OnnxGraph", reduction: _Reduction) -> "OperationConverterResult":
    attrs = attributes(node)
    return bind(
        node,
        graph,
        _reduce,
        numbers=(1,),
        reduction=reduction,
        keep=bool(attrs.get("keepdims", 1)),
        none_is_none=bool(attrs.get("noop_with_empty_axes", 0)),
    )


def _reduce(
    x: torch.Tensor, axes: list[int] | None = None, *, reduction: _Reduction, keep: bool, none_is_none: bool
) -> torch.Tensor:
    if not axes and none_is_none:
        return x
    return reduction(x, tuple(axes) if axes else tuple(range(x.ndim)), keep)


def reduce_mean(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return _reduced(node, graph, _mean)


def _mean(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    return x.mean(dim=axes, keepdim=keep)


def reduce_sum(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return _reduced(node, graph, _sum)


def _sum(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    return x.sum(dim=axes, keepdim=keep, dtype=x.dtype)


def reduce_max(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return _reduced(node, graph, _max)


def _max(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    return x.amax(dim=axes, keepdim=keep) if x.numel() else _of_nothing(x, axes, keep, largest=False)


def reduce_min(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return _reduced(node, graph, _min)


def _min(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    return x.amin(dim=axes, keepdim=keep) if x.numel() else _of_nothing(x, axes, keep, largest=True)


def _of_nothing(x: torch.Tensor, axes: tuple[int, ...], keep: bool, *, largest: bool) -> torch.Tensor:
    """The extreme of no elements: what every element would exceed, or fall below."""
    if x.is_floating_point():
        value = torch.inf if largest else -torch.inf
    else:
        value = torch.iinfo(x.dtype).max if largest else torch.iinfo(x.dtype).min
    return torch.full_like(x.float().sum(dim=axes, keepdim=keep), value, dtype=x.dtype)


def reduce_prod(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return _reduced(node, graph, _prod)


def _prod(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    dtype = x.dtype
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):  # torch takes one axis at a time
        x = x.prod(dim=axis, keepdim=keep, dtype=dtype)
    return x


def reduce_l1(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return _reduced(node, graph, _l1)


def _l1(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    return _sum(x.abs(), axes, keep)


def reduce_l2(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return _reduced(node, graph, _l2)


def _l2(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    norm: torch.Tensor = torch.linalg.vector_norm(x, 2, dim=axes, keepdim=keep)
    return norm  # unlike the square root of the squares' sum, it has a gradient at 0


def reduce_log_sum(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return _reduced(node, graph, _log_sum)


def _log_sum(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    return _sum(x, axes, keep).log()


def reduce_log_sum_exp(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return _reduced(node, graph, _log_sum_exp)


def _log_sum_exp(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    return torch.logsumexp(x, dim=axes, keepdim=keep)


def reduce_sum_square(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return _reduced(node, graph, _sum_square)


def _sum_square(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    return _sum(x.square(), axes, keep)

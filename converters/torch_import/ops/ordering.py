"""Operators that compare elements with one another, or take some in an order of their own."""

from typing import TYPE_CHECKING

import torch

from filterscope.converters.torch_import.ops.common import attributes, bind

if TYPE_CHECKING:
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.onnx_node import OnnxNode
    from onnx2torch.utils.common import OperationConverterResult


def top_k(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    attrs = attributes(node)
    return bind(node, graph, _top_k, numbers=(1,), axis=attrs.get("axis", -1), largest=bool(attrs.get("largest", 1)))


def _top_k(x: torch.Tensor, count: list[int], *, axis: int, largest: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Of equal elements the first comes first, which torch.topk does not promise."""
    values, places = x.sort(dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, count[0]), places.narrow(axis, 0, count[0])


def unique(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    attrs = attributes(node)
    return bind(
        node,
        graph,
        _unique,
        axis=attrs.get("axis"),
        ordered=bool(attrs.get("sorted", 1)),
        outputs=len(node.output_values),
    )


def _unique(
    x: torch.Tensor, *, axis: int | None, ordered: bool, outputs: int
) -> torch.Tensor | tuple[torch.Tensor, ...]:
    """The distinct slices, where each first stands, which of them each slice is, and how often each stands."""
    flat = x.reshape(-1) if axis is None else x
    along = axis or 0
    values, inverse, counts = torch.unique(flat, dim=along, sorted=True, return_inverse=True, return_counts=True)
    places = torch.arange(inverse.numel(), device=x.device)
    first = torch.full_like(counts, inverse.numel()).scatter_reduce(0, inverse, places, "amin")
    if not ordered:  # in the order in which they come
        order = first.argsort()
        values, first, counts = values.index_select(along, order), first[order], counts[order]
        inverse = order.argsort()[inverse]
    return values if outputs == 1 else (values, first, inverse, counts)[:outputs]


def compress(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _compress, axis=attributes(node).get("axis"))


def _compress(x: torch.Tensor, condition: torch.Tensor, *, axis: int | None) -> torch.Tensor:
    """The slices whose truth value is true; there may be fewer truth values than slices."""
    places = condition.nonzero().reshape(-1)
    return x.reshape(-1).index_select(0, places) if axis is None else x.index_select(axis, places)


def reverse_sequence(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    attrs = attributes(node)
    return bind(node, graph, _reverse, batch=attrs.get("batch_axis", 1), time=attrs.get("time_axis", 0))


def _reverse(x: torch.Tensor, lengths: torch.Tensor, *, batch: int, time: int) -> torch.Tensor:
    """Each sequence of a batch turned round up to its own length."""
    steps = torch.arange(x.shape[time], device=x.device)
    turned = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)  # (batch, time)
    places = turned if batch < time else turned.T
    places = places.reshape([x.shape[axis] if axis in (batch, time) else 1 for axis in range(x.ndim)])
    return x.gather(time, places.expand(x.shape))

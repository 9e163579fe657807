"""Operators that take, repeat or border parts of a tensor along its axes."""

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from filterscope.converters.torch_import.ops.common import attributes, bind, refuse

if TYPE_CHECKING:
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.onnx_node import OnnxNode
    from onnx2torch.utils.common import OperationConverterResult


def slice_(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _slice, numbers=(1, 2, 3, 4))


def _slice(
    x: torch.Tensor,
    starts: list[int],
    ends: list[int],
    axes: list[int] | None = None,
    steps: list[int] | None = None,
) -> torch.Tensor:
    for start, end, axis, step in zip(
        starts, ends, axes or range(len(starts)), steps or [1] * len(starts), strict=True
    ):
        positions = range(*slice(start, end, step).indices(x.shape[axis]))  # ONNX clamps as Python does
        if step > 0:
            x = x.narrow(axis, positions.start, max(positions.stop - positions.start, 0))
            x = x if step == 1 else x[(slice(None),) * (axis % x.ndim) + (slice(None, None, step),)]
        else:
            x = x.index_select(axis, torch.tensor(positions, dtype=torch.int64, device=x.device))
    return x


def split(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _split, numbers=(1,), axis=attributes(node).get("axis", 0), parts=len(node.output_values))


def _split(
    x: torch.Tensor, sizes: list[int] | None = None, *, axis: int, parts: int
) -> torch.Tensor | tuple[torch.Tensor, ...]:
    length = x.shape[axis]
    whole = -(-length // parts)  # without sizes all parts are equal; only the last may be smaller
    lengths = sizes or [min(whole, max(length - part * whole, 0)) for part in range(parts)]
    pieces = x.split_with_sizes(lengths, dim=axis)
    return pieces[0] if parts == 1 else pieces  # the builder indexes only where a node has several outputs


def gather(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _gather, axis=attributes(node).get("axis", 0))


def _gather(x: torch.Tensor, indices: torch.Tensor, *, axis: int) -> torch.Tensor:
    axis %= x.ndim
    length = x.shape[axis]
    places = torch.where(indices < 0, indices + length, indices).reshape(-1)
    return x.index_select(axis, places).reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def tile(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _tile, numbers=(1,))


def _tile(x: torch.Tensor, repeats: list[int]) -> torch.Tensor:
    return x.repeat(repeats)


def pad(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    mode = attributes(node).get("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        refuse(node, f"has the unknown mode {mode!r}")
    return bind(node, graph, _pad, numbers=(1, 2, 3), mode=mode)


def _pad(
    x: torch.Tensor,
    pads: list[int],
    value: Any = None,
    axes: list[int] | None = None,
    *,
    mode: str,
) -> torch.Tensor:
    """Negative pads cut, whatever the mode."""
    places = [axis % x.ndim for axis in axes] if axes is not None else list(range(x.ndim))
    ends = dict(zip(places, zip(pads[: len(places)], pads[len(places) :], strict=True), strict=True))
    if mode == "constant":
        fill = value[0] if isinstance(value, list) else value or 0  # a file may hold it as a list of one
        flat = [number for axis in reversed(range(x.ndim)) for number in ends.get(axis, (0, 0))]
        return F.pad(x, flat, value=fill)
    for axis, (begin, end) in ends.items():
        if begin or end:
            x = x.index_select(axis, _border_indices(x.shape[axis], begin, end, mode=mode, device=x.device))
    return x


def _border_indices(length: int, begin: int, end: int, *, mode: str, device: torch.device) -> torch.Tensor:
    """(begin + length + end,) int64: which of the `length` positions stands at each place of the padded axis."""
    places = torch.arange(-begin, length + end, device=device)
    if mode == "edge":
        return places.clamp(0, length - 1)
    if mode == "wrap":
        return places % length
    period = max(2 * (length - 1), 1)
    mirrored = places % period
    return torch.where(mirrored < length, mirrored, period - mirrored)

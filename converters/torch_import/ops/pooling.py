"""Poolings: the maximum, mean or p-norm of each window, or of all positions.

ONNX counts windows and padded cells in its own way (ceil_mode, count_include_pad, dilated means), so the input is
padded to exactly what the windows reach; torch's own padding is used where both say the same.
"""

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from filterscope.converters.torch_import.ops.common import attributes, bind, refuse, result
from filterscope.converters.torch_import.ops.windows import Windows, spatial_pad

if TYPE_CHECKING:
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.onnx_node import OnnxNode
    from onnx2torch.utils.common import OperationConverterResult

_MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEAN_MODULES = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}


def max_pool(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    windows = Windows.of(attributes(node)["kernel_shape"], attributes(node))
    if windows.rank not in _MAX_POOLS:
        refuse(node, f"has {windows.rank} spatial axes; 1 to 3 can be imported")
    if any(node.output_values[1:]):
        by_columns = bool(attributes(node).get("storage_order", 0))
        return bind(node, graph, _max_pool_with_places, windows=windows, by_columns=by_columns)
    return bind(node, graph, _max_pool, windows=windows)


def _max_pool(x: torch.Tensor, *, windows: Windows) -> torch.Tensor:
    if not x.is_floating_point():  # torch pools no integers; those that ONNX allows here are exact in float32
        return _max_pool(x.float(), windows=windows).to(x.dtype)
    pool = _MAX_POOLS[windows.rank]
    symmetric = _torch_padding(windows)
    if symmetric is not None:
        return pool(x, windows.kernel, windows.stride, padding=symmetric, dilation=windows.dilation)
    padded = spatial_pad(x, windows.reach(x.shape[2:]), -torch.inf)
    return pool(padded, windows.kernel, windows.stride, dilation=windows.dilation)


def _max_pool_with_places(x: torch.Tensor, *, windows: Windows, by_columns: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The maxima, and where each stands in the whole of `x` laid out flat (by columns: each plane column by column)."""
    sizes = x.shape[2:]
    pads = windows.reach(sizes)
    padded = spatial_pad(x if x.is_floating_point() else x.float(), pads, -torch.inf)
    pool = _MAX_POOLS[windows.rank]
    maxima, places = pool(padded, windows.kernel, windows.stride, dilation=windows.dilation, return_indices=True)
    inner = torch.zeros_like(places)  # torch counts within one padded plane
    step = 1
    strides = [math.prod(sizes[axis + 1 :]) for axis in range(windows.rank)]
    if by_columns:
        strides = [math.prod(sizes[:axis]) for axis in range(windows.rank)]
    for axis in reversed(range(windows.rank)):
        inner += (places // step % padded.shape[axis + 2] - pads[axis][0]) * strides[axis]
        step *= padded.shape[axis + 2]
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device) * math.prod(sizes)
    return maxima.to(x.dtype), inner + planes.reshape(*x.shape[:2], *[1] * windows.rank)


def max_unpool(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    windows = Windows.of(attributes(node)["kernel_shape"], attributes(node))
    return bind(node, graph, _max_unpool, numbers=(2,), windows=windows)


def _max_unpool(
    x: torch.Tensor, places: torch.Tensor, shape: list[int] | None = None, *, windows: Windows
) -> torch.Tensor:
    """Each element where `places` says, in an output laid out flat; zeros elsewhere."""
    axes = zip(x.shape[2:], windows.stride, windows.kernel, windows.pads, strict=True)
    sizes = [(length - 1) * stride + kernel - begin - end for length, stride, kernel, (begin, end) in axes]
    whole = shape or [*x.shape[:2], *sizes]
    return x.new_zeros(math.prod(whole)).scatter(0, places.reshape(-1), x.reshape(-1)).reshape(whole)


def average_pool(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    windows = Windows.of(attributes(node)["kernel_shape"], attributes(node))
    with_padding = bool(attributes(node).get("count_include_pad", 0))
    symmetric = _torch_padding(windows)
    if symmetric is None or set(windows.dilation) != {1} or windows.rank not in _MEAN_MODULES:
        return bind(node, graph, _average_pool, windows=windows, with_padding=with_padding)
    module = _MEAN_MODULES[windows.rank](windows.kernel, windows.stride, symmetric, count_include_pad=with_padding)
    return result(node, module, node.input_values)


def _average_pool(x: torch.Tensor, *, windows: Windows, with_padding: bool) -> torch.Tensor:
    mean = _window_sums(x, windows)
    for axis, (size, (begin, end)) in enumerate(zip(x.shape[2:], windows.padding(x.shape[2:]), strict=True)):
        first, last = (-begin, size + end) if with_padding else (0, size)
        starts = torch.arange(mean.shape[axis + 2], device=x.device) * windows.stride[axis] - begin
        steps = torch.arange(windows.kernel[axis], device=x.device) * windows.dilation[axis]
        cells = starts[:, None] + steps
        counted = ((cells >= first) & (cells < last)).sum(dim=1).to(x.dtype)
        mean = mean / counted.reshape(-1, *[1] * (windows.rank - 1 - axis))
    return mean


def lp_pool(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    windows = Windows.of(attributes(node)["kernel_shape"], attributes(node))
    return bind(node, graph, _lp_pool, windows=windows, p=attributes(node).get("p", 2))


def _lp_pool(x: torch.Tensor, *, windows: Windows, p: int) -> torch.Tensor:
    return _window_sums(x.abs() ** p, windows) ** (1 / p)


def global_average_pool(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _global_mean)


def _global_mean(x: torch.Tensor) -> torch.Tensor:
    return x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)


def global_max_pool(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _global_max)


def _global_max(x: torch.Tensor) -> torch.Tensor:
    return x.amax(dim=tuple(range(2, x.ndim)), keepdim=True)


def global_lp_pool(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _global_norm, p=attributes(node).get("p", 2))


def _global_norm(x: torch.Tensor, *, p: int) -> torch.Tensor:
    norm: torch.Tensor = torch.linalg.vector_norm(x, p, dim=tuple(range(2, x.ndim)), keepdim=True)
    return norm


def _torch_padding(windows: Windows) -> tuple[int, ...] | None:
    """The pads where torch's own padding does the same at every size; otherwise None."""
    symmetric = windows.symmetric
    if windows.ceil or symmetric is None:
        return None
    return symmetric if all(2 * pad <= size for pad, size in zip(symmetric, windows.kernel, strict=True)) else None


def _window_sums(x: torch.Tensor, windows: Windows) -> torch.Tensor:
    """Sum over each window, axis by axis: a box is separable."""
    sizes = x.shape[2:]
    x = spatial_pad(x, windows.reach(sizes))
    for axis, count in enumerate(windows.outputs(sizes), start=2):
        stride, dilation = windows.stride[axis - 2], windows.dilation[axis - 2]
        span = (count - 1) * stride + 1
        shifted = [
            x.narrow(axis, step * dilation, span)[(slice(None),) * axis + (slice(None, None, stride),)]
            for step in range(windows.kernel[axis - 2])
        ]
        x = sum(shifted[1:], shifted[0])
    return x

"""Operators that read their input off its grid: at positions that the network computes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from filterscope.converters.torch_import.ops.common import attributes, bind
from filterscope.converters.torch_import.ops.windows import Windows

if TYPE_CHECKING:
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.onnx_node import OnnxNode
    from onnx2torch.utils.common import OperationConverterResult

_MODES = {"linear": "bilinear", "nearest": "nearest", "cubic": "bicubic"}  # ONNX → torch, whatever the rank


def grid_sample(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    attrs = attributes(node)
    return bind(
        node,
        graph,
        F.grid_sample,
        mode=_MODES[attrs.get("mode", "linear")],
        padding_mode=attrs.get("padding_mode", "zeros"),
        align_corners=bool(attrs.get("align_corners", 0)),
    )


def affine_grid(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _affine_grid, numbers=(1,), corners=bool(attributes(node).get("align_corners", 0)))


def _affine_grid(theta: torch.Tensor, size: list[int], *, corners: bool) -> torch.Tensor:
    return F.affine_grid(theta, size, align_corners=corners)


def deformable_conv(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _deformable_conv, attributes=attributes(node))


def _deformable_conv(
    x: torch.Tensor,
    weight: torch.Tensor,
    offset: torch.Tensor,
    bias: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    *,
    attributes: Mapping[str, Any],
) -> torch.Tensor:
    """A convolution whose kernel's every tap is moved by an offset of its own at each place.

    Args:
        x: (N, C, H, W).
        weight: (O, C ÷ groups, kh, kw).
        offset: (N, parts · kh · kw · 2, h, w), down and right, for each tap; channels move in `parts` parts.
        bias: (O,).
        mask: (N, parts · kh · kw, h, w), what each tap weighs besides.
        attributes: the node's.

    Source: Zhu et al. 2019, doi:10.1109/CVPR.2019.00953; the ONNX operator specification, DeformConv-19.
    """
    windows = Windows.of(weight.shape[2:], attributes)
    n, channels, height, width = x.shape
    rows, columns = offset.shape[2:]
    parts, groups, taps = attributes.get("offset_group", 1), attributes.get("group", 1), weight[0, 0].numel()
    tap = torch.cartesian_prod(*(torch.arange(k, device=x.device) for k in windows.kernel))
    tap = tap * torch.tensor(windows.dilation, device=x.device)  # (taps, 2)
    begin = torch.tensor([first for first, _ in windows.pads], device=x.device)
    place = torch.cartesian_prod(torch.arange(rows, device=x.device), torch.arange(columns, device=x.device))
    place = place * torch.tensor(windows.stride, device=x.device) - begin  # (h·w, 2)
    moved = offset.reshape((n, parts, taps, 2, rows * columns)).movedim(3, -1) + (tap[:, None] + place).to(x.dtype)
    read = _read(x.reshape(n * parts, channels // parts, height, width), moved.reshape(n * parts, -1, 2))
    read = read.reshape((n, parts, channels // parts, taps, rows * columns))
    if mask is not None:
        read = read * mask.reshape((n, parts, 1, taps, rows * columns))
    read = read.reshape(n, groups, channels // groups * taps, rows * columns)
    kernel = weight.reshape(groups, weight.shape[0] // groups, -1)
    y = (kernel @ read).reshape(n, weight.shape[0], rows, columns)
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def _read(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Between its pixels: (N, C, P) of `x` (N, C, H, W), bilinear at (N, P, 2), down and right; 0 beyond the border.

    F.grid_sample reads the same, but takes places in parts of the size, which rounds those that lie on a pixel off it.
    """
    height, width = x.shape[2:]
    corner = places.detach().floor()
    shares = places - corner
    answer = x.new_zeros(())
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row, column = corner[..., 0] + down, corner[..., 1] + right
        share = (shares[..., 0] if down else 1 - shares[..., 0]) * (shares[..., 1] if right else 1 - shares[..., 1])
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        flat = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
        pixels = x.flatten(2).gather(2, flat[:, None].expand(-1, x.shape[1], -1))
        answer = answer + pixels * (share * inside)[:, None]
    return answer

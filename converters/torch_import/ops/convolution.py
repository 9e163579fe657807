"""Conv and ConvTranspose, in one to three spatial axes, and Col2Im, the last step of some.

With constant weights the node becomes a plain nn.Conv2d (or its kin), so that whoever walks the torch twin finds what
they know; with computed weights, a function of them. Pads that torch has no word for are made before, or cut after.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from filterscope.converters.torch_import.ops.common import attributes, bind, constant, present, refuse, result
from filterscope.converters.torch_import.ops.windows import Windows, spatial_pad

if TYPE_CHECKING:
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.onnx_node import OnnxNode
    from onnx2torch.utils.common import OperationConverterResult

_MODULES: dict[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED_MODULES: dict[int, Callable[..., nn.Module]] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
_FUNCTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED_FUNCTIONS = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class Padding(nn.Module):
    """Zeros around the spatial axes, as many as the windows need at the size that comes."""

    def __init__(self, windows: Windows) -> None:
        super().__init__()
        self.windows = windows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return spatial_pad(x, self.windows.padding(x.shape[2:]))

    def extra_repr(self) -> str:
        return f"auto_pad={self.windows.auto_pad}, pads={self.windows.pads}"


def conv(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    weight, bias = constant(node, graph, 1), constant(node, graph, 2)
    if weight is None or (bias is None and present(node, 2)):
        return bind(node, graph, _computed_conv, attributes=attributes(node))
    if weight.ndim - 2 not in _MODULES:
        refuse(node, f"has {weight.ndim - 2} spatial axes; 1 to 3 can be imported")
    windows = Windows.of(weight.shape[2:], attributes(node))
    groups = attributes(node).get("group", 1)
    module = _MODULES[weight.ndim - 2](
        in_channels=weight.shape[1] * groups,
        out_channels=weight.shape[0],
        kernel_size=windows.kernel,
        stride=windows.stride,
        padding=windows.symmetric or (0,) * windows.rank,
        dilation=windows.dilation,
        groups=groups,
        bias=bias is not None,
        device="meta",  # the weights are put in below: none need be drawn
    )
    _put_in(module, weight, bias)
    whole = module if windows.symmetric is not None else nn.Sequential(Padding(windows), module)
    return result(node, whole, node.input_values[:1])


def _computed_conv(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *, attributes: Mapping[str, Any]
) -> torch.Tensor:
    windows = Windows.of(weight.shape[2:], attributes)
    padded = spatial_pad(x, windows.padding(x.shape[2:]))
    return _FUNCTIONS[windows.rank](
        padded, weight, bias, stride=windows.stride, dilation=windows.dilation, groups=attributes.get("group", 1)
    )


def conv_transpose(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    weight, bias = constant(node, graph, 1), constant(node, graph, 2)
    if weight is not None and weight.ndim - 2 not in _MODULES:
        refuse(node, f"has {weight.ndim - 2} spatial axes; 1 to 3 can be imported")
    if weight is None or (bias is None and present(node, 2)) or not _is_plain(weight, attributes(node)):
        return bind(node, graph, _general_conv_transpose, attributes=attributes(node))
    windows = Windows.of(weight.shape[2:], attributes(node))
    groups = attributes(node).get("group", 1)
    module = _TRANSPOSED_MODULES[weight.ndim - 2](
        in_channels=weight.shape[0],
        out_channels=weight.shape[1] * groups,
        kernel_size=windows.kernel,
        stride=windows.stride,
        padding=windows.symmetric or (0,) * windows.rank,
        output_padding=tuple(attributes(node).get("output_padding") or [0] * windows.rank),
        groups=groups,
        bias=bias is not None,
        dilation=windows.dilation,
        device="meta",
    )
    _put_in(module, weight, bias)
    return result(node, module, node.input_values[:1])


def _is_plain(weight: torch.Tensor, attributes: Mapping[str, Any]) -> bool:
    """Whether torch's own ConvTranspose says it all: equal pads, and an output padding below stride or dilation."""
    windows = Windows.of(weight.shape[2:], attributes)
    extra = attributes.get("output_padding") or [0] * windows.rank
    fits = all(
        more < max(stride, dilation)
        for more, stride, dilation in zip(extra, windows.stride, windows.dilation, strict=True)
    )
    return fits and windows.symmetric is not None and not attributes.get("output_shape")


def _general_conv_transpose(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *, attributes: Mapping[str, Any]
) -> torch.Tensor:
    """The transposed convolution without pads, then cut (pads) or grown by zeros (output padding), then biased."""
    windows = Windows.of(weight.shape[2:], attributes)
    groups = attributes.get("group", 1)
    full = _TRANSPOSED_FUNCTIONS[windows.rank](
        x, weight, stride=windows.stride, groups=groups, dilation=windows.dilation
    )
    extra = attributes.get("output_padding") or [0] * windows.rank
    pads = _transposed_pads(windows, full.shape[2:], x.shape[2:], extra, sizes_after=attributes.get("output_shape"))
    cut = spatial_pad(full, tuple((-begin, more - end) for (begin, end), more in zip(pads, extra, strict=True)))
    return cut if bias is None else cut + bias.reshape(-1, *[1] * windows.rank)


def _transposed_pads(
    windows: Windows,
    full: Sequence[int],
    sizes: Sequence[int],
    extra: Sequence[int],
    *,
    sizes_after: Sequence[int] | None,
) -> tuple[tuple[int, int], ...]:
    """What to cut from the `full` output for `sizes_after`, or with auto_pad SAME for at most input × stride."""
    if not sizes_after and windows.auto_pad in ("NOTSET", "VALID"):
        return windows.padding(sizes)
    targets = sizes_after or [size * stride for size, stride in zip(sizes, windows.stride, strict=True)]
    pads = []
    for length, more, target in zip(full, extra, targets[-windows.rank :], strict=True):
        total = length + more - target if sizes_after else max(length + more - target, 0)  # SAME cuts and never grows
        less = total // 2
        pads.append((less, total - less) if windows.auto_pad == "SAME_UPPER" else (total - less, less))
    return tuple(pads)


def columns_to_image(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _columns_to_image, numbers=(1, 2), attributes=attributes(node))


def _columns_to_image(
    x: torch.Tensor, image: list[int], block: list[int], *, attributes: Mapping[str, Any]
) -> torch.Tensor:
    """Blocks (N, C · block, places) added up where they lie in an image (N, C, *image)."""
    windows = Windows.of(block, attributes)
    counts = windows.outputs(image)
    blocks = x.reshape(x.shape[0], -1, *block, *counts)
    y = x.new_zeros(*blocks.shape[:2], *(size + sum(pads) for size, pads in zip(image, windows.pads, strict=True)))
    cell: Any  # the stubs know no starred index
    for cell in itertools.product(*map(range, block)):
        axes = zip(cell, windows.dilation, windows.stride, counts, strict=True)
        lie = [slice(at * gap, at * gap + (count - 1) * step + 1, step) for at, gap, step, count in axes]
        y[:, :, *lie] += blocks[:, :, *cell]
    return spatial_pad(y, tuple((-begin, -end) for begin, end in windows.pads))


def _put_in(module: nn.Module, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    module.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        module.bias = nn.Parameter(bias, requires_grad=False)

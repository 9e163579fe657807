"""Convolutions whose kernels never change: the input's gradient without what training needs.

torch keeps each convolution's input for a gradient of its kernel that nobody asks for here, and on a CPU computes the
input's gradient by routines far slower than a convolution (measured on AVX-512: depthwise 3×3 in float32 five times, a
strided depthwise one in bfloat16 over twenty times). The gradient of a convolution is a convolution with the mirrored
kernel: that is what is computed instead. A ReLU behind a convolution is computed with it, in the same memory. Knows
torch; knows nothing of pictures.

Source: Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285, section 4.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from filterscope.analyzer.compute.bfloat16_relu import BFloat16ReLU
from filterscope.analyzer.compute.strided_gradient import FEW, StridedGradient

STUFFED = 64  # taps of a depthwise kernel up to which zeros between the gradient's values pay


class FrozenConv(nn.Module):
    """A Conv2d with numeric zero padding, in the precision and memory order that it is given.

    Args:
        conv: the convolution; its weight is shared where precision and order are right already.
        dtype: of weights and values.
    """

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__()
        weight = conv.weight.detach().to(dtype).contiguous(memory_format=torch.channels_last)
        self.weight: torch.Tensor
        self.mirrored: torch.Tensor
        self.register_buffer("weight", weight)
        self.register_buffer("mirrored", _mirrored(weight, conv.groups))
        self.bias: torch.Tensor | None
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach().to(dtype))
        self.stride = (conv.stride[0], conv.stride[1])
        self.padding = (int(conv.padding[0]), int(conv.padding[1]))
        self.dilation = (conv.dilation[0], conv.dilation[1])
        self.groups = conv.groups
        few = conv.in_channels <= FEW and self.groups == 1 and self.stride != (1, 1) and self.dilation == (1, 1)
        self.strided = StridedGradient(weight, self.stride, self.padding) if few else None
        self.relu: BFloat16ReLU | None = None  # that its output goes through

    def forward(self, x: torch.Tensor, redirected: bool = False) -> torch.Tensor:
        """(B, C_in, H, W) → (B, C_out, H', W').

        Args:
            x: the input.
            redirected: whether the ReLU behind it is a redirected one.
        """
        result: torch.Tensor = _Convolution.apply(x, self, redirected)  # type: ignore[no-untyped-call]
        return result

    def convolve(self, x: torch.Tensor) -> torch.Tensor:
        """The convolution itself."""
        return F.conv2d(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )

    def gradient(self, above: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """The gradient of the input, of height and width `size`, from that of the output."""
        if self.strided is not None:
            return self.strided.gradient(above, size)
        reach = [d * (k - 1) for d, k in zip(self.dilation, self.weight.shape[2:], strict=True)]
        edge = [r - p for r, p in zip(reach, self.padding, strict=True)]
        if min(edge) < 0 or not (self.stride == (1, 1) or self._stuffing_pays()):
            return self._transposed(above, size)
        if self.stride != (1, 1):
            above = self._stuffed(above, [s + 2 * p - r for s, p, r in zip(size, self.padding, reach, strict=True)])
        return F.conv2d(above, self.mirrored, padding=(edge[0], edge[1]), dilation=self.dilation, groups=self.groups)

    def _stuffing_pays(self) -> bool:
        """Whether zeros between the gradient's values, and an ordinary convolution, beat torch's own routine."""
        is_small = self.weight.shape[2] * self.weight.shape[3] <= STUFFED  # with a wide one it takes seconds to minutes
        return is_small and self.weight.dtype == torch.bfloat16 and self.groups == self.weight.shape[0] > 1

    def _stuffed(self, above: torch.Tensor, extents: list[int]) -> torch.Tensor:
        """The gradient as it would be without a stride: its values at every stride-th place, zeros between."""
        batch, channels = above.shape[:2]
        spread = above.new_zeros((batch, extents[0], extents[1], channels)).permute(0, 3, 1, 2)
        rows, columns = (
            slice(None, stride * n, stride) for stride, n in zip(self.stride, above.shape[2:], strict=True)
        )
        spread[:, :, rows, columns] = above
        return spread

    def _transposed(self, above: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        reached = [
            (above.shape[2 + axis] - 1) * self.stride[axis]
            - 2 * self.padding[axis]
            + self.dilation[axis] * (self.weight.shape[2 + axis] - 1)
            + 1
            for axis in (0, 1)
        ]
        rest = (size[0] - reached[0], size[1] - reached[1])  # rows and columns that no window reached
        return F.conv_transpose2d(
            above,
            self.weight,
            stride=self.stride,
            padding=self.padding,
            output_padding=rest,
            groups=self.groups,
            dilation=self.dilation,
        )


class _Convolution(torch.autograd.Function):
    """A convolution that stores nothing for its gradient but its input's size, and the output of its ReLU."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, layer: FrozenConv, redirected: bool) -> torch.Tensor:
        context.layer, context.size, context.redirected = layer, (x.shape[2], x.shape[3]), redirected
        result = layer.convolve(x)
        if layer.relu is not None:
            layer.relu.clamp_(result)
            context.save_for_backward(result)
        return result

    @staticmethod
    def backward(context: Any, *above: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        layer, gradient = context.layer, above[0]
        if layer.relu is not None:
            gradient = layer.relu.gradient(*context.saved_tensors, gradient, context.redirected)
        return layer.gradient(gradient.contiguous(memory_format=torch.channels_last), context.size), None, None


def _mirrored(weight: torch.Tensor, groups: int) -> torch.Tensor:
    """(C_out, C_in / groups, k, k) → (C_in, C_out / groups, k, k), each kernel turned by half a circle."""
    out, depth, height, width = weight.shape
    grouped = weight.reshape((groups, out // groups, depth, height, width)).transpose(1, 2)
    turned = grouped.reshape(groups * depth, out // groups, height, width).flip(2, 3)
    return turned.contiguous(memory_format=torch.channels_last)


def with_frozen_convolutions(
    module: fx.GraphModule, dtype: torch.dtype, bfloat16_relus: bool = False
) -> fx.GraphModule:
    """A copy of a module in another precision, its Conv2d frozen; float32 weights share their memory with it.

    Args:
        module: of float32; it stays as it is.
        dtype: float32 or bfloat16.
        bfloat16_relus: whether ReLU and ReLU6 are computed on bits: for bfloat16 on a processor.
    """
    root = nn.Module()
    graph = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for node in module.graph.nodes:
        layer = module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if bfloat16_relus and isinstance(layer, (nn.ReLU, nn.ReLU6)):
            layer, source = BFloat16ReLU(layer), node.args[0]
            before = getattr(root, source.name, None)
            if isinstance(before, FrozenConv) and len(source.users) == 1:
                before.relu, copied[node] = layer, copied[source]
                continue
        copied[node] = graph.node_copy(node, lambda old: copied[old])
        if layer is not None:
            root.add_module(node.name, _cast(layer, dtype))
            copied[node].target = node.name
        elif node.op == "get_attr":
            value: Any = module
            for part in str(node.target).split("."):
                value = getattr(value, part)
            is_float = torch.is_tensor(value) and value.dtype == torch.float32
            root.register_buffer(node.name, value.detach().to(dtype) if is_float else value)
            copied[node].target = node.name
    return fx.GraphModule(root, graph)


def _cast(layer: nn.Module, dtype: torch.dtype) -> nn.Module:
    if isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        return FrozenConv(layer, dtype)
    if isinstance(layer, nn.Sequential):  # pads that torch has no word for, and the convolution behind them
        return nn.Sequential(*(_cast(part, dtype) for part in layer))
    # Objects of their own, for what moves them to another device or type does so in place; float32 memory is shared.
    shared: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in layer.parameters()}
    shared |= {id(buffer): buffer.detach() for buffer in layer.buffers()}
    return copy.deepcopy(layer, shared).to(dtype)

"""The last convolution of an ascent, computed for what the batch asks for: one map a picture, not one a channel.

A unit is a direction in the layer's channels: one of them, a sum of some, the opposite of one. Convolutions are linear,
so that a direction is a convolution with one kernel of its own. Knows torch and layers; knows nothing of objectives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from filterscope.analyzer.network.layers import Layer

COPY = 8  # products for an input's place that putting it in squares costs: measured on 3×3/2, 5×5/2 and 4×4/4
FEW_FOR = 64  # taps of a kernel for each of its channels above which a map a tap costs more than torch's own routine


@dataclass(frozen=True, slots=True, eq=False)
class Directions:
    """Directions of a batch in one layer's channels, as kernels.

    weight: (B, depth, k, k); bias: (B,) float32; first: (B,) first input channel that each reads, None: all are read.
    """

    layer: Layer
    weight: torch.Tensor
    bias: torch.Tensor
    first: torch.Tensor | None

    @classmethod
    def of(cls, layer: Layer, directions: np.ndarray, device: torch.device, dtype: torch.dtype) -> Directions:
        """Kernels of directions.

        Args:
            layer: a two-dimensional Conv with constant weights.
            directions: (B, C_out) float32.
            dtype: of the values before the layer.
        """
        assert layer.weight is not None
        assert layer.bias_vector is not None
        weight, first = _kernels(layer.weight, layer.groups, directions)
        bias = np.array([d[d != 0] @ layer.bias_vector[d != 0] for d in directions], np.float32)
        return cls(
            layer,
            torch.tensor(weight, dtype=dtype, device=device),
            torch.tensor(bias, device=device),
            None if first is None else torch.tensor(first, device=device),
        )

    def some(self, which: torch.Tensor) -> Directions:
        """Those of some pictures: (B,) bool or indices."""
        first = None if self.first is None else self.first[which]
        return Directions(self.layer, self.weight[which], self.bias[which], first)

    def times(self, copies: int) -> Directions:
        """Those of a batch that is repeated."""
        if copies == 1:
            return self
        first = None if self.first is None else self.first.repeat(copies)
        return Directions(self.layer, self.weight.repeat(copies, 1, 1, 1), self.bias.repeat(copies), first)

    def maps(self, source: torch.Tensor) -> torch.Tensor:
        """Pre-activation of each picture's direction.

        Args:
            source: (B, C_in, H, W), the layer's input.

        Returns:
            (B, H', W') float32.
        """
        batch, depth = self.weight.shape[:2]
        if self.first is not None:
            columns = self.first[:, None] + torch.arange(depth, device=source.device)
            source = source[torch.arange(batch, device=source.device)[:, None], columns]
        if self._costs_less_by_phases():
            maps = self._by_phases(source)
        elif depth * FEW_FOR < math.prod(self.weight.shape[2:]) or depth == 1:
            maps = self._grouped(source)
        else:
            maps = self._summed(source)
        return maps.float() + self.bias[:, None, None]

    def _phases(self) -> list[tuple[int, int, int]]:
        """Along rows and columns: the kernel's reach, the windows of one stride in it, and their width."""
        kernel = self.weight.shape[2:]
        reaches = [d * (k - 1) + 1 for d, k in zip(self.layer.dilation, kernel, strict=True)]
        return [(reach, -(-reach // s), min(reach, s)) for reach, s in zip(reaches, self.layer.stride, strict=True)]

    def _costs_less_by_phases(self) -> bool:
        """Whether `_by_phases` takes so many fewer products for an input's place than `_summed` that its copy pays."""
        products = math.prod(windows * width for _, windows, width in self._phases()) / math.prod(self.layer.stride)
        return math.prod(self.weight.shape[2:]) - products > COPY

    def _by_phases(self, source: torch.Tensor) -> torch.Tensor:
        """The input in squares of one stride, a square's values as channels; a convolution without stride of these.

        As many products as the strided convolution itself where the stride divides the kernel.

        Source: Shi et al. 2016, arXiv:1609.07009.
        """
        batch, depth = self.weight.shape[:2]
        (tall, down, high), (broad, across, wide) = self._phases()
        stride, dilation = self.layer.stride, self.layer.dilation
        top, left, bottom, right = self.layer.pads
        rows = (source.shape[2] + top + bottom - tall) // stride[0] + 1
        columns = (source.shape[3] + left + right - broad) // stride[1] + 1
        height, width = rows + down - 1, columns + across - 1  # in squares
        ends = height * stride[0] - source.shape[2] - top, width * stride[1] - source.shape[3] - left  # cut where < 0
        squares = F.pad(source, (left, ends[1], top, ends[0])).permute(0, 2, 3, 1)
        squares = squares.reshape((batch, height, stride[0], width, stride[1], depth))[:, :, :high, :, :wide]
        squares = squares.permute((0, 1, 3, 2, 4, 5)).reshape(batch, height * width, high * wide * depth)
        kernel = self.weight.new_zeros((batch, depth, down * stride[0], across * stride[1]))
        kernel[:, :, : tall : dilation[0], : broad : dilation[1]] = self.weight
        kernel = kernel.reshape((batch, depth, down, stride[0], across, stride[1]))[:, :, :, :high, :, :wide]
        kernel = kernel.permute((0, 2, 4, 3, 5, 1)).reshape(batch, down * across, high * wide * depth)
        taps = torch.bmm(kernel, squares.transpose(1, 2)).reshape(batch, down * across, height, width).float()
        total = torch.zeros((), device=taps.device)
        for tap, one in enumerate(taps.unbind(1)):
            row, column = divmod(tap, across)
            total = total + one[:, row : row + rows, column : column + columns]
        return total

    def _grouped(self, source: torch.Tensor) -> torch.Tensor:
        """A picture a group of one convolution: one channel, or a kernel far wider than it is deep."""
        top, left, bottom, right = self.layer.pads
        padded = F.pad(source, (left, right, top, bottom)).flatten(0, 1)[None]
        return F.conv2d(
            padded, self.weight, stride=self.layer.stride, dilation=self.layer.dilation, groups=len(source)
        )[0]

    def _summed(self, source: torch.Tensor) -> torch.Tensor:
        """A map for each tap of the kernel by one matrix product, and their sum, each at its own shift.

        A grouped convolution with one output channel a group would leave most of a processor's lanes idle.
        """
        batch, depth, tall, wide = self.weight.shape
        height, width = source.shape[2:]
        taps = torch.bmm(
            self.weight.flatten(2).transpose(1, 2), source.permute(0, 2, 3, 1).reshape(batch, -1, depth).transpose(1, 2)
        )
        taps = taps.reshape(batch, tall * wide, height, width)
        if tall == wide == 1 and self.layer.stride == (1, 1) and not any(self.layer.pads):
            return taps[:, 0]
        top, left, bottom, right = self.layer.pads
        taps = F.pad(taps, (left, right, top, bottom)).float()
        rows, columns = (
            (taps.shape[2 + axis] - self.layer.dilation[axis] * (self.weight.shape[2 + axis] - 1) - 1)
            // self.layer.stride[axis]
            for axis in (0, 1)
        )
        total = torch.zeros((), device=taps.device)
        for tap, one in enumerate(taps.unbind(1)):  # a slice of all taps would have a gradient as large as all
            down, right_ = tap // wide * self.layer.dilation[0], tap % wide * self.layer.dilation[1]
            ends = down + rows * self.layer.stride[0] + 1, right_ + columns * self.layer.stride[1] + 1
            total = total + one[:, down : ends[0] : self.layer.stride[0], right_ : ends[1] : self.layer.stride[1]]
        return total


def _kernels(weight: np.ndarray, groups: int, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The kernel of each direction, and the first input channel that it reads (None: all are read).

    Args:
        weight: (C_out, C_in / groups, k, k).
        directions: (B, C_out).
    """
    depth, size = weight.shape[1], len(weight) // groups
    if ((directions != 0).sum(axis=1) == 1).all():  # channels: an infinite weight of another must not reach them
        channel = np.abs(directions).argmax(axis=1)
        factor = directions[np.arange(len(directions)), channel]
        return weight[channel] * factor[:, None, None, None], channel // size * depth if groups > 1 else None
    parts = directions.reshape(len(directions), groups, size)
    kernels = weight.reshape(groups, size, *weight.shape[1:])
    whole = np.einsum("bgo,godij->bgdij", parts, kernels)
    return whole.reshape(len(directions), groups * depth, *weight.shape[2:]), None

"""The last convolution of an ascent, computed for what the batch asks for: one map a picture, not one a channel.

A unit is a direction in the layer's channels: one of them, a sum of some, the opposite of one. Convolutions are linear,
so that a direction is a convolution with one kernel of its own. Knows torch and layers; knows nothing of objectives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from analyzer.layers import ConvLayer


@dataclass(frozen=True, slots=True, eq=False)
class Directions:
    """Directions of a batch in one layer's channels, as kernels.

    weight: (B, depth, k, k); bias: (B,) float32; first: (B,) first input channel that each reads, None: all are read.
    """

    layer: ConvLayer
    weight: torch.Tensor
    bias: torch.Tensor
    first: torch.Tensor | None

    @classmethod
    def of(cls, layer: ConvLayer, directions: np.ndarray, device: torch.device, dtype: torch.dtype) -> Directions:
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
        maps = self._one_channel(source[:, 0]) if depth == 1 else self._summed(source)
        return maps.float() + self.bias[:, None, None]

    def _one_channel(self, source: torch.Tensor) -> torch.Tensor:
        """(B, H, W), a picture a group of one depthwise convolution."""
        top, left, bottom, right = self.layer.pads
        padded = F.pad(source, (left, right, top, bottom))[None]
        return F.conv2d(padded, self.weight, None, self.layer.stride, 0, self.layer.dilation, len(source))[0]

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
        for tap in range(tall * wide):
            down, right_ = tap // wide * self.layer.dilation[0], tap % wide * self.layer.dilation[1]
            ends = down + rows * self.layer.stride[0] + 1, right_ + columns * self.layer.stride[1] + 1
            total = total + taps[:, tap, down : ends[0] : self.layer.stride[0], right_ : ends[1] : self.layer.stride[1]]
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
